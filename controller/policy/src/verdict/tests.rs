#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use super::*;
use crate::{model::*, state::*};
use bulkhead_topology::{IpNet, Labels, Mac, Operator, ProtocolPort, Requirement, Selector, Vni};
use std::collections::BTreeMap;

const TCP: u8 = 6;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|n| n.parse().unwrap()).collect()
}

fn selector(text: &str) -> Selector {
    Selector::of(text.split(',').filter(|t| !t.is_empty()).map(|pair| pair.split_once('=').unwrap()))
}

/// A rule for anyone and anything.
fn rule(action: Action) -> Rule {
    Rule { name: "".into(), action, priority: 0, peers: None, ports: None, log: false }
}

fn from(action: Action, peers: &[Peer]) -> Rule {
    Rule { peers: Some(peers.to_vec()), ..rule(action) }
}

fn on(action: Action, ports: &[PortMatch]) -> Rule {
    Rule { ports: Some(ports.to_vec()), ..rule(action) }
}

/// An ingress policy of the application tier about `app`, without isolation.
fn policy(policy_name: &str, ingress: Vec<Rule>) -> Policy {
    Policy {
        name: name(policy_name),
        tier: Tier::Application,
        priority: 1000,
        staged: false,
        stateful: false,
        subject: Subject::Selector(selector("tier=app")),
        isolate: Sides::default(),
        ingress,
        egress: vec![],
    }
}

fn in_tier(tier: Tier, policy_name: &str, ingress: Vec<Rule>) -> Policy {
    Policy { tier, ..policy(policy_name, ingress) }
}

/// Network `prod` with web, app and db, dual-stack, and `other` with a double of web; all allowed by default.
struct World(State);

impl World {
    fn new() -> Self {
        let mut world = Self(State::default());
        for (network, vni, default_action) in [("prod", 1, DefaultAction::Allow), ("other", 2, DefaultAction::Allow)] {
            world.set(Resource::Network(Arc::new(Network {
                name: name(network),
                vni: Vni::new(vni).unwrap(),
                subnets: nets(&["10.0.0.0/8", "fd00::/16"]),
                encap: Encap::Geneve,
                default_action,
                on_tighten: OnTighten::Revoke,
                uplinks: vec![],
                gateways: vec![],
                multicast: vec![],
                learn_workloads: false,
            })));
        }
        for (i, tier) in (1..).zip(["web", "app", "db"]) {
            world.workload(tier, "prod", tier, i);
        }
        world.workload("stranger", "other", "web", 1);
        world
    }

    fn set(&mut self, resource: Resource) -> &mut Self {
        self.0.apply(&[Change::set(resource)]);
        self
    }

    fn workload(&mut self, workload: &str, network: &str, tier: &str, host: u8) {
        let ports = BTreeMap::from([("http".into(), ProtocolPort { protocol: TCP, port: 8000 + u16::from(host) })]);
        self.set(Resource::Workload(Arc::new(Workload {
            name: name(workload),
            labels: Arc::new(Labels::from([("tier".into(), tier.into()), ("env".into(), "test".into())])),
            network: name(network),
            interfaces: vec![Interface {
                mac: Mac([2, 0, 0, 0, 0, host]),
                ips: vec![ip(&format!("10.0.0.{host}")), ip(&format!("fd00::{host}"))],
                attachment: None,
            }],
            named_ports: Arc::new(ports),
        })));
    }

    fn policy(&mut self, policy: Policy) -> &mut Self {
        self.set(Resource::Policy(Arc::new(policy)))
    }

    fn zone(&mut self, zone: &str, network: &str, members: &str, isolate: Sides) -> &mut Self {
        self.set(Resource::Zone(Arc::new(Zone {
            name: name(zone),
            network: name(network),
            selector: selector(members),
            isolate,
            mode: Mode::Enforce,
        })))
    }

    fn default_action(&mut self, action: DefaultAction) -> &mut Self {
        let mut network = (**self.0.networks.get("prod").unwrap()).clone();
        network.default_action = action;
        self.set(Resource::Network(Arc::new(network)))
    }

    fn service(&self, from: &str, to: &str, service: Service) -> Verdict {
        verdict(&self.0, &Flow::between(&self.0, &name("prod"), ip(from), ip(to), service))
    }

    fn port(&self, from: &str, to: &str, port: u16) -> Verdict {
        self.service(from, to, Service::Port { protocol: TCP, port })
    }

    /// web to app, tcp 80: what app says.
    fn app(&self) -> SideVerdict {
        self.port(WEB, APP, 80).ingress
    }
}

const WEB: &str = "10.0.0.1";
const APP: &str = "10.0.0.2";
const DB: &str = "10.0.0.3";
const OUTSIDE: &str = "198.51.100.7";

fn decided(policy: &str, index: usize, tier: Tier, decision: Decision) -> SideVerdict {
    SideVerdict::Rule { decision, tier, policy: name(policy), index }
}

fn allowed(policy: &str) -> SideVerdict {
    decided(policy, 0, Tier::Application, Decision::Allow)
}

fn denied(policy: &str) -> SideVerdict {
    decided(policy, 0, Tier::Application, Decision::Deny)
}

#[test]
fn without_policies_the_network_decides_and_addresses_of_no_workload_have_no_say() {
    let mut world = World::new();
    assert_eq!(world.port(WEB, APP, 80).decision, Decision::Allow);
    assert_eq!(world.app(), SideVerdict::Default(Decision::Allow));
    world.default_action(DefaultAction::Deny);
    let both = world.port(WEB, APP, 80);
    assert_eq!((both.decision, &both.egress), (Decision::Deny, &SideVerdict::Default(Decision::Deny)));
    let inward = world.port(OUTSIDE, APP, 80);
    assert_eq!((inward.egress, inward.ingress), (SideVerdict::Unmanaged, SideVerdict::Default(Decision::Deny)));
    let through = world.port(OUTSIDE, "203.0.113.1", 80);
    assert_eq!((through.decision, through.ingress), (Decision::Allow, SideVerdict::Unmanaged));
}

#[test]
fn a_workload_whose_network_is_gone_is_denied() {
    let mut world = World::new();
    world.0.apply(&[Change::remove(Kind::Network.named(&name("prod")))]);
    assert_eq!(world.app(), SideVerdict::Default(Decision::Deny));
}

#[test]
fn a_workload_of_another_network_is_no_workload_here() {
    let world = World::new();
    let stranger = Endpoint { ip: ip(WEB), workload: Some(name("stranger")) };
    let app = Endpoint { ip: ip(APP), workload: Some(name("app")) };
    let service = Service::Port { protocol: TCP, port: 80 };
    let flow = Flow { network: name("prod"), from: stranger, to: app, service };
    assert_eq!(verdict(&world.0, &flow).egress, SideVerdict::Unmanaged);
}

#[test]
fn both_sides_must_allow_and_egress_is_told_first() {
    let egress = |action| {
        let subject = Subject::Selector(selector("tier=web"));
        Policy { egress: vec![rule(action)], subject, ..policy("out", vec![]) }
    };
    for (out, inward, expected) in [
        (Action::Allow, Action::Allow, Decision::Allow),
        (Action::Allow, Action::Reject, Decision::Reject),
        (Action::Allow, Action::Deny, Decision::Deny),
        (Action::Reject, Action::Deny, Decision::Reject),
        (Action::Deny, Action::Reject, Decision::Deny),
        (Action::Reject, Action::Allow, Decision::Reject),
    ] {
        let mut world = World::new();
        world.policy(egress(out)).policy(policy("in", vec![rule(inward)]));
        assert_eq!(world.port(WEB, APP, 80).decision, expected, "{out:?} then {inward:?}");
    }
}

#[test]
fn tiers_are_asked_in_order() {
    let mut world = World::new();
    let allow = |tier: Tier| Policy { priority: 7, ..in_tier(tier, tier.as_str(), vec![rule(Action::Allow)]) };
    for tier in [Tier::Baseline, Tier::Application, Tier::Platform, Tier::Emergency] {
        world.policy(allow(tier));
        assert_eq!(world.app(), decided(tier.as_str(), 0, tier, Decision::Allow));
    }
    // The tier outweighs every priority.
    world.policy(Policy { priority: 0, ..in_tier(Tier::Platform, "deny", vec![rule(Action::Deny)]) });
    assert_eq!(world.app(), decided("emergency", 0, Tier::Emergency, Decision::Allow));
}

#[test]
fn ties_fall_by_policy_priority_rule_priority_strictness_name_index() {
    let mut world = World::new();
    world.policy(policy("b", vec![rule(Action::Allow), rule(Action::Allow)]));
    assert_eq!(world.app(), allowed("b"), "index");
    world.policy(policy("a", vec![rule(Action::Allow)]));
    assert_eq!(world.app(), allowed("a"), "name");
    for (policy_name, action) in [("x", Action::Pass), ("y", Action::Reject), ("z", Action::Deny)] {
        world.policy(policy(policy_name, vec![rule(action)]));
        let expected = match action {
            Action::Pass => SideVerdict::Default(Decision::Allow),
            Action::Reject => decided("y", 0, Tier::Application, Decision::Reject),
            _ => denied("z"),
        };
        assert_eq!(world.app(), expected, "the stricter action outweighs the name");
    }
    let late = Rule { priority: 1, ..rule(Action::Deny) };
    world
        .policy(policy("z", vec![late.clone()]))
        .policy(policy("y", vec![late.clone()]))
        .policy(policy("x", vec![late]));
    assert_eq!(world.app(), allowed("a"), "rule priority outweighs strictness");
    let weak = Rule { priority: 65535, ..rule(Action::Reject) };
    world.policy(Policy { priority: 999, ..policy("early", vec![weak]) });
    let expected = decided("early", 0, Tier::Application, Decision::Reject);
    assert_eq!(world.app(), expected, "policy priority outweighs rule priority");
}

#[test]
fn pass_leaves_its_tier_only() {
    let mut world = World::new();
    let pass = |tier| Policy { priority: 1, ..in_tier(tier, "pass", vec![rule(Action::Pass)]) };
    world.policy(in_tier(Tier::Platform, "platform", vec![rule(Action::Deny)])).policy(pass(Tier::Platform));
    assert_eq!(world.app(), SideVerdict::Default(Decision::Allow));
    world.policy(policy("app", vec![rule(Action::Reject)]));
    assert_eq!(world.app(), decided("app", 0, Tier::Application, Decision::Reject));
    // From an earlier tier, a pass does not go past the application tier's isolation.
    world.policy(Policy { isolate: Sides { ingress: true, egress: false }, ..policy("app", vec![]) });
    assert_eq!(world.app(), SideVerdict::Isolated { policy: name("app") });
}

#[test]
fn pass_in_the_application_tier_goes_past_isolation_into_baseline() {
    let mut world = World::new();
    let isolate = Sides { ingress: true, egress: false };
    world
        .policy(Policy { isolate, ..policy("iso", vec![from(Action::Pass, &[Peer::Selector(selector("tier=web"))])]) });
    world.policy(in_tier(Tier::Baseline, "base", vec![rule(Action::Allow)]));
    assert_eq!(world.app(), decided("base", 0, Tier::Baseline, Decision::Allow));
    // The pass was for web; db is isolated before baseline is asked.
    assert_eq!(world.port(DB, APP, 80).ingress, SideVerdict::Isolated { policy: name("iso") });
}

#[test]
fn pass_in_baseline_goes_on_to_the_zones_and_the_default() {
    let mut world = World::new();
    world.policy(Policy { priority: 2, ..in_tier(Tier::Baseline, "base", vec![rule(Action::Deny)]) });
    world.policy(Policy { priority: 1, ..in_tier(Tier::Baseline, "pass", vec![rule(Action::Pass)]) });
    assert_eq!(world.app(), SideVerdict::Default(Decision::Allow));
    world.zone("z", "prod", "tier=app", Sides { ingress: true, egress: false });
    assert_eq!(world.app(), SideVerdict::ZoneIsolated { zone: name("z") });
}

#[test]
fn isolation_is_per_direction_and_the_first_policy_is_named() {
    let mut world = World::new();
    world.policy(Policy { isolate: Sides { ingress: false, egress: true }, ..policy("out-only", vec![]) });
    assert_eq!(world.app(), SideVerdict::Default(Decision::Allow));
    assert_eq!(world.port(APP, DB, 80).egress, SideVerdict::Isolated { policy: name("out-only") });
    let isolate = Sides { ingress: true, egress: false };
    world.policy(Policy { isolate, ..policy("b", vec![]) }).policy(Policy { isolate, ..policy("c", vec![]) });
    assert_eq!(world.app(), SideVerdict::Isolated { policy: name("b") });
    world.policy(Policy { isolate, priority: 999, ..policy("c", vec![]) });
    assert_eq!(world.app(), SideVerdict::Isolated { policy: name("c") });
    // An allow of a policy with isolation is an allow; what it does not match is isolated.
    world.policy(Policy { isolate, ..policy("b", vec![on(Action::Allow, &[tcp(80, 80)])]) });
    assert_eq!(
        (world.app(), world.port(WEB, APP, 81).ingress),
        (allowed("b"), SideVerdict::Isolated { policy: name("c") })
    );
}

#[test]
fn only_the_application_tier_isolates_and_only_what_the_subject_selects() {
    let mut world = World::new();
    let isolate = Sides { ingress: true, egress: true };
    for tier in [Tier::Emergency, Tier::Platform, Tier::Baseline] {
        world.policy(Policy { isolate, ..in_tier(tier, tier.as_str(), vec![]) });
    }
    world.policy(Policy { isolate, subject: Subject::Selector(selector("tier=db")), ..policy("db", vec![]) });
    assert_eq!(world.app(), SideVerdict::Default(Decision::Allow));
}

#[test]
fn staged_policies_are_not_asked() {
    let mut world = World::new();
    let isolate = Sides { ingress: true, egress: true };
    world.policy(Policy { staged: true, isolate, ..policy("staged", vec![rule(Action::Deny)]) });
    assert_eq!(world.app(), SideVerdict::Default(Decision::Allow));
}

#[test]
fn staged_policies_stand_in_one_order_with_the_active_ones() {
    let mut world = World::new();
    let staged = |mut policy: Policy, priority| {
        (policy.staged, policy.priority) = (true, priority);
        policy
    };
    let would = |world: &World| {
        let ips = (WEB.parse().unwrap(), APP.parse().unwrap());
        let service = Service::Port { protocol: 6, port: 80 };
        let flow = Flow::between(&world.0, &name("prod"), ips.0, ips.1, service);
        verdict_staged(&world.0, &flow).ingress
    };
    world.policy(policy("active", vec![rule(Action::Allow)]));
    world.policy(staged(policy("late", vec![rule(Action::Deny)]), 1001));
    assert_eq!(would(&world), decided("active", 0, Tier::Application, Decision::Allow), "an active rule comes first");
    world.policy(staged(policy("early", vec![rule(Action::Reject)]), 999));
    assert_eq!(would(&world), decided("early", 0, Tier::Application, Decision::Reject));
    world.policy(staged(in_tier(Tier::Platform, "pass", vec![rule(Action::Pass)]), 0));
    assert_eq!(would(&world), decided("early", 0, Tier::Application, Decision::Reject), "a pass decides nothing");
    world.policy(staged(policy("early", vec![rule(Action::Pass)]), 999));
    assert_eq!(would(&world), SideVerdict::Default(Decision::Allow), "but leads past the active rule");
    assert_eq!(world.app(), decided("active", 0, Tier::Application, Decision::Allow));
}

#[test]
fn baseline_comes_before_the_zones_and_the_default() {
    let mut world = World::new();
    world.default_action(DefaultAction::Deny).zone("z", "prod", "tier=app", Sides { ingress: true, egress: true });
    world.policy(in_tier(Tier::Baseline, "base", vec![on(Action::Allow, &[tcp(80, 80)])]));
    assert_eq!(world.app(), decided("base", 0, Tier::Baseline, Decision::Allow));
    assert_eq!(world.port(WEB, APP, 81).ingress, SideVerdict::ZoneIsolated { zone: name("z") });
}

#[test]
fn zone_isolation_names_the_first_zone_of_the_workloads_network() {
    let mut world = World::new();
    let isolate = Sides { ingress: true, egress: false };
    world.zone("a", "other", "", isolate).zone("b", "prod", "tier=db", isolate);
    world.zone("c", "prod", "", Sides { ingress: false, egress: true });
    assert_eq!(world.app(), SideVerdict::Default(Decision::Allow));
    world.zone("e", "prod", "", isolate).zone("d", "prod", "tier=app", isolate);
    assert_eq!(world.app(), SideVerdict::ZoneIsolated { zone: name("d") });
    assert_eq!(world.port(WEB, APP, 80).egress, SideVerdict::ZoneIsolated { zone: name("c") });
}

#[test]
fn a_zone_subject_is_its_members_in_its_network() {
    let mut world = World::new();
    world.zone("here", "prod", "tier=app", Sides::default()).zone("there", "other", "", Sides::default());
    let about = |zone: &str| Policy { subject: Subject::Zone(name(zone)), ..policy(zone, vec![rule(Action::Deny)]) };
    world.policy(about("there")).policy(about("nowhere"));
    assert_eq!(world.app(), SideVerdict::Default(Decision::Allow));
    world.policy(about("here"));
    assert_eq!(world.app(), denied("here"));
    assert_eq!(world.port(APP, DB, 80).ingress, SideVerdict::Default(Decision::Allow));
}

/// Whether a rule with this peer, at app, matches a flow from `source`.
fn peer_is(world: &World, peer: Peer, source: &str) -> bool {
    let mut world = World(world.0.clone());
    world.policy(policy("p", vec![from(Action::Deny, &[peer])]));
    let target = if source.contains(':') { "fd00::2" } else { APP };
    world.port(source, target, 80).ingress == denied("p")
}

#[test]
fn peers_are_workloads_of_the_same_network_or_addresses() {
    let mut world = World::new();
    world.zone("webs", "prod", "tier=web", Sides::default()).zone("strange", "other", "tier=web", Sides::default());
    let set = CidrSet { cidrs: nets(&["198.51.100.0/24", "2001:db8::/32"]), except: nets(&["198.51.100.9/32"]) };
    world.set(Resource::AddressSet(Arc::new(AddressSet { name: name("corp"), set })));
    let cidr = |cidrs: &[&str], except: &[&str]| Peer::Cidr(CidrSet { cidrs: nets(cidrs), except: nets(except) });
    let not_web = Selector::new([Requirement::new("tier".into(), Operator::NotIn, ["web".into()])]);
    for (peer, matching, other) in [
        (Peer::Selector(selector("tier=web")), vec![WEB, "fd00::1"], vec![DB, OUTSIDE, "fd00::3", "2001:db8::1"]),
        // An address of no workload has no labels; it is not a workload without them.
        (Peer::Selector(not_web), vec![DB], vec![WEB, OUTSIDE, "2001:db8::1"]),
        (Peer::Selector(Selector::everything()), vec![WEB, DB, "fd00::3"], vec![OUTSIDE, "10.9.9.9"]),
        (Peer::Zone(name("webs")), vec![WEB, "fd00::1"], vec![DB, OUTSIDE]),
        (Peer::Zone(name("strange")), vec![], vec![WEB, OUTSIDE]),
        (Peer::Zone(name("missing")), vec![], vec![WEB, OUTSIDE]),
        (Peer::Network(name("prod")), vec![WEB, DB, "fd00::1"], vec![OUTSIDE, "10.9.9.9"]),
        (Peer::Network(name("other")), vec![], vec![WEB, OUTSIDE]),
        (cidr(&["10.0.0.0/30", "2001:db8::/32"], &["10.0.0.3/32"]), vec![WEB, "2001:db8::1"], vec![DB, OUTSIDE]),
        (cidr(&["0.0.0.0/0"], &["10.0.0.0/8"]), vec![OUTSIDE], vec![WEB, "fd00::1", "2001:db8::1"]),
        (cidr(&["::/0"], &[]), vec!["fd00::1", "2001:db8::1"], vec![WEB, OUTSIDE]),
        (cidr(&["10.0.0.0/8"], &["10.0.0.0/8"]), vec![], vec![WEB]),
        (cidr(&[], &[]), vec![], vec![WEB, OUTSIDE]),
        (Peer::AddressSet(name("corp")), vec![OUTSIDE, "2001:db8::1"], vec![WEB, "198.51.100.9"]),
        (Peer::AddressSet(name("missing")), vec![], vec![WEB, OUTSIDE]),
        (Peer::External, vec![OUTSIDE, "10.9.9.9", "2001:db8::1"], vec![WEB, "fd00::1"]),
    ] {
        for source in matching {
            assert!(peer_is(&world, peer.clone(), source), "{peer:?} is {source}");
        }
        for source in other {
            assert!(!peer_is(&world, peer.clone(), source), "{peer:?} is not {source}");
        }
    }
}

#[test]
fn an_empty_list_is_never_any() {
    let mut world = World::new();
    world.policy(policy("p", vec![from(Action::Deny, &[]), on(Action::Deny, &[])]));
    assert_eq!(world.app(), SideVerdict::Default(Decision::Allow));
    let no_value = Requirement::new("tier".into(), Operator::In, []);
    assert!(!peer_is(&world, Peer::Selector(Selector::new([no_value])), WEB));
    world.policy(policy("p", vec![rule(Action::Deny)]));
    assert_eq!(world.app(), denied("p"), "absent lists are any");
}

#[test]
fn alternatives_are_or_and_the_two_lists_are_and() {
    let mut world = World::new();
    let peers = vec![Peer::Selector(selector("tier=db")), Peer::Selector(selector("tier=web,env=test"))];
    let ports = vec![tcp(22, 22), tcp(80, 80)];
    world.policy(policy("p", vec![Rule { peers: Some(peers), ports: Some(ports), ..rule(Action::Deny) }]));
    for (source, port, matches) in [(WEB, 80, true), (DB, 22, true), (WEB, 81, false), (OUTSIDE, 80, false)] {
        assert_eq!(world.port(source, APP, port).ingress == denied("p"), matches, "{source} {port}");
    }
}

fn tcp(first: u16, last: u16) -> PortMatch {
    PortMatch::Ports { protocol: TCP, first, last }
}

#[test]
fn services_match_by_protocol_range_type_and_code() {
    let icmp = |protocol, icmp_type, code| PortMatch::Icmp { protocol, icmp_type, code };
    let port = |protocol, port| Service::Port { protocol, port };
    let message = |protocol, icmp_type, code| Service::Icmp { protocol, icmp_type, code };
    for (wanted, service, expected) in [
        (tcp(80, 90), port(TCP, 80), true),
        (tcp(80, 90), port(TCP, 90), true),
        (tcp(80, 90), port(TCP, 79), false),
        (tcp(80, 90), port(TCP, 91), false),
        (tcp(80, 90), port(17, 80), false),
        (tcp(0, 65535), port(132, 80), false),
        (tcp(0, 65535), Service::Protocol(TCP), false),
        (tcp(0, 65535), message(1, 0, 0), false),
        (icmp(1, None, None), message(1, 8, 0), true),
        (icmp(1, None, None), message(58, 128, 0), false),
        (icmp(1, Some(3), None), message(1, 3, 4), true),
        (icmp(1, Some(3), Some(4)), message(1, 3, 4), true),
        (icmp(1, Some(3), Some(4)), message(1, 3, 0), false),
        (icmp(1, Some(3), Some(4)), message(1, 11, 4), false),
        (icmp(58, Some(128), None), message(58, 128, 0), true),
        (icmp(1, None, None), Service::Protocol(1), false),
        (PortMatch::Protocol(47), Service::Protocol(47), true),
        (PortMatch::Protocol(47), Service::Protocol(50), false),
        (PortMatch::Protocol(TCP), port(TCP, 1), true),
        (PortMatch::Protocol(58), message(58, 1, 1), true),
        (PortMatch::Protocol(1), message(58, 1, 1), false),
    ] {
        let mut world = World::new();
        world.policy(policy("p", vec![on(Action::Deny, std::slice::from_ref(&wanted))]));
        let matched = world.service(WEB, APP, service).ingress == denied("p");
        assert_eq!(matched, expected, "{wanted:?} against {service:?}");
    }
}

#[test]
fn a_ports_name_is_looked_up_at_the_destination() {
    let named = |port: &str, protocol| PortMatch::Named { name: port.into(), protocol };
    let mut world = World::new();
    world.policy(policy("in", vec![on(Action::Deny, &[named("http", None)])]));
    assert_eq!(world.port(WEB, APP, 8002).ingress, denied("in"));
    assert_ne!(world.port(WEB, APP, 8001).ingress, denied("in"), "the source's port of that name");
    assert_ne!(world.service(WEB, APP, Service::Port { protocol: 17, port: 8002 }).ingress, denied("in"));
    world.policy(policy("in", vec![on(Action::Deny, &[named("http", Some(17)), named("nothing", None)])]));
    assert_ne!(world.port(WEB, APP, 8002).ingress, denied("in"), "the name has another protocol");

    // For egress, the destination is the other side.
    world.policy(Policy { egress: vec![on(Action::Deny, &[named("http", Some(TCP))])], ..policy("out", vec![]) });
    assert_eq!(world.port(APP, DB, 8003).egress, denied("out"));
    assert_ne!(world.port(APP, DB, 8002).egress, denied("out"));
    assert_ne!(world.port(APP, OUTSIDE, 8003).egress, denied("out"), "an address of no workload names no ports");
}

#[test]
fn the_families_are_equals() {
    let mut world = World::new();
    world.policy(policy("p", vec![from(Action::Deny, &[Peer::Selector(selector("tier=web"))])]));
    for (source, target) in [(WEB, APP), ("fd00::1", "fd00::2")] {
        assert_eq!(world.port(source, target, 80).ingress, denied("p"));
    }
    assert_eq!(world.port("fd00::3", "fd00::2", 80).ingress, SideVerdict::Default(Decision::Allow));
}

#[test]
fn a_workload_that_talks_to_itself_is_asked_on_both_sides() {
    let mut world = World::new();
    world.policy(policy("p", vec![from(Action::Deny, &[Peer::Selector(selector("tier=app"))])]));
    let own = world.port(APP, APP, 80);
    assert_eq!((own.egress, own.ingress), (SideVerdict::Default(Decision::Allow), denied("p")));
}

#[test]
fn the_strictest_zone_gives_the_mode() {
    let mut world = World::new();
    let mode = |world: &World| crate::effective_mode(&world.0, world.0.workloads.get("app").unwrap());
    assert_eq!(mode(&world), Mode::Enforce, "no zone");
    for (zone, members, zone_mode, expected) in [
        ("m", "tier=app", Mode::Monitor, Mode::Monitor),
        ("db", "tier=db", Mode::Enforce, Mode::Monitor),
        ("c", "", Mode::Canary, Mode::Canary),
        ("e", "env=test", Mode::Enforce, Mode::Enforce),
    ] {
        world.set(Resource::Zone(Arc::new(Zone {
            name: name(zone),
            network: name("prod"),
            selector: selector(members),
            isolate: Sides::default(),
            mode: zone_mode,
        })));
        assert_eq!(mode(&world), expected, "{zone}");
    }
}

#[test]
fn a_canary_is_a_tenth_of_the_names_and_always_the_same() {
    let carries_out = |name: &str, mode| crate::carries_out(mode, &name.parse().unwrap());
    let enforcing = (0..10_000).filter(|i| carries_out(&format!("web-{i}"), Mode::Canary)).count();
    assert!((900..1_100).contains(&enforcing), "{enforcing} of 10,000");
    // These names have their place for good: another one would enforce elsewhere after an upgrade.
    let names = ["wl-0", "wl-1", "wl-4", "f", "web-1", "db"];
    assert_eq!(names.map(|name| carries_out(name, Mode::Canary)), [false, false, true, true, false, false]);
    assert!(carries_out("wl-0", Mode::Enforce) && !carries_out("wl-4", Mode::Monitor));
}
