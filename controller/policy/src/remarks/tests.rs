#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use super::*;
use crate::{
    arbitrary,
    model::{
        Action, AddressSet, DefaultAction, Driver, Encap, Interface, Mode, OnTighten, Role, Sides, Tier, Workload, Zone,
    },
};
use bulkhead_topology::{
    DatapathId, Mac, Port, Vni,
    underlay::{Hop, Route, Underlay},
};
use proptest::prelude::*;

const TCP: u8 = 6;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn selector(text: &str) -> Selector {
    Selector::of(text.split(',').filter(|t| !t.is_empty()).map(|pair| pair.split_once('=').unwrap()))
}

fn labelled(text: &str) -> Peer {
    Peer::Selector(selector(text))
}

fn cidr(cidrs: &[&str], except: &[&str]) -> CidrSet {
    let nets = |list: &[&str]| list.iter().map(|n| n.parse().unwrap()).collect();
    CidrSet { cidrs: nets(cidrs), except: nets(except) }
}

fn rule(peers: Option<Vec<Peer>>, ports: Option<Vec<PortMatch>>) -> Rule {
    Rule { name: "".into(), action: Action::Allow, priority: 0, peers, ports, log: false }
}

fn named(port: &str, protocol: Option<u8>) -> Option<Vec<PortMatch>> {
    Some(vec![PortMatch::Named { name: port.into(), protocol }])
}

/// What is remarked about a policy, as `path: message`. There is app (with port http, 8080/tcp) in network n, zone full
/// with it, zone bare without anybody.
fn about(subject: Subject, ingress: Vec<Rule>, egress: Vec<Rule>) -> Vec<String> {
    let app = Workload {
        name: name("app"),
        labels: Arc::new([("tier".into(), "app".into())].into()),
        network: name("n"),
        interfaces: vec![],
        named_ports: Arc::new([("http".into(), ProtocolPort { protocol: TCP, port: 8080 })].into()),
    };
    let zone = |zone: &str, members| Zone {
        name: name(zone),
        network: name("n"),
        selector: selector(members),
        isolate: Sides::default(),
        mode: Mode::Enforce,
    };
    let gone = AddressSet { name: name("gone"), set: cidr(&["10.0.0.0/8"], &["10.0.0.0/8"]) };
    let policy = Policy {
        name: name("p"),
        tier: Tier::Application,
        priority: 1000,
        staged: false,
        stateful: false,
        subject,
        isolate: Sides::default(),
        ingress,
        egress,
    };
    let changes = [
        Change::set(Resource::Workload(app.into())),
        Change::set(Resource::Zone(zone("full", "tier=app").into())),
        Change::set(Resource::Zone(zone("bare", "tier=none").into())),
        Change::set(Resource::AddressSet(gone.into())),
        Change::set(Resource::Policy(policy.into())),
    ];
    let mut state = State::default();
    state.apply(&changes);
    let found = remarks(&state, &changes, &Profiles::of(&state));
    assert!(found.iter().any(|finding| finding.path == "spec.cidrs"), "the set is remarked on: {found:?}");
    let text = |finding: &Diagnostic| format!("{}: {}", finding.path, finding.message);
    found.iter().filter(|finding| finding.key.name == name("p")).map(text).collect()
}

fn app() -> Subject {
    Subject::Selector(selector("tier=app"))
}

#[test]
fn what_matches_somebody_is_not_remarked_on() {
    let everyone = [labelled("tier=app"), Peer::Zone(name("full")), Peer::Network(name("n")), Peer::External];
    let rules = || vec![rule(Some(everyone.to_vec()), named("http", Some(TCP))), rule(None, named("http", None))];
    assert_eq!(about(app(), rules(), rules()), Vec::<String>::new());
    assert_eq!(about(Subject::Zone(name("full")), rules(), rules()), Vec::<String>::new());
}

#[test]
fn r17_a24_what_matches_nobody_is_remarked_on() {
    let nobody = "no workload is selected";
    let subject = format!("{nobody}: the policy is about nobody");
    assert_eq!(
        about(Subject::Selector(selector("tier=ap")), vec![rule(None, named("http", None))], vec![]),
        [format!("spec.subject: {subject}")]
    );
    assert_eq!(about(Subject::Zone(name("bare")), vec![], vec![]), [format!("spec.subject.zone: {subject}")]);
    let peers = vec![
        labelled("tier=app"),
        labelled("tier=we"),
        Peer::Zone(name("bare")),
        Peer::Network(name("m")),
        Peer::AddressSet(name("gone")),
        Peer::Cidr(cidr(&["10.1.0.0/16", "10.2.0.0/16"], &["10.0.0.0/8"])),
        Peer::Cidr(cidr(&["10.1.0.0/16", "11.0.0.0/8"], &["10.0.0.0/8"])),
    ];
    let peer = format!("{nobody}: this peer matches nobody");
    assert_eq!(
        about(app(), vec![rule(None, Some(vec![])), rule(Some(peers), None)], vec![]),
        [
            format!("spec.ingress[1].from[1]: {peer}"),
            format!("spec.ingress[1].from[2].zone: {peer}"),
            format!("spec.ingress[1].from[3].network: {peer}"),
            "spec.ingress[1].from[4].addressSet: address set gone has no address".into(),
            "spec.ingress[1].from[5].cidr: every address is excepted: nothing is left to match".into(),
        ]
    );
}

#[test]
fn port_names_are_looked_for_at_the_destination() {
    let unknown = |path: &str, port: &str| format!("{path}: no workload at the destination has a port named `{port}`");
    assert_eq!(
        about(app(), vec![rule(None, named("htp", None)), rule(None, named("http", Some(17)))], vec![]),
        [unknown("spec.ingress[0].ports[0].port", "htp"), unknown("spec.ingress[1].ports[0].port", "http")]
    );
    let path = "spec.egress[0].ports[0].port";
    assert_eq!(about(app(), vec![], vec![rule(None, named("htp", None))]), [unknown(path, "htp")]);
    let external = vec![Peer::External, labelled("tier=app")];
    assert_eq!(about(app(), vec![], vec![rule(Some(external), named("dns", None))]), [unknown(path, "dns")]);
    // Whoever has the address may have the port.
    let somewhere = vec![Peer::Cidr(cidr(&["10.0.0.0/8"], &[]))];
    assert!(about(app(), vec![], vec![rule(Some(somewhere), named("http", None))]).is_empty());
}

#[test]
fn a_pass_is_not_logged_and_that_is_said() {
    let logged = |action| Rule { log: true, action, ..rule(Some(vec![Peer::External]), None) };
    let expected = ["spec.egress[1].log: a pass decides nothing, and is not logged"];
    assert_eq!(about(app(), vec![], vec![logged(Action::Allow), logged(Action::Pass)]), expected);
}

#[test]
fn rules_behind_one_that_matches_everything_are_never_reached() {
    let deny = Rule { action: Action::Deny, name: "no".into(), ..rule(None, None) };
    let late = Rule { priority: 9, ..deny.clone() };
    let some = rule(Some(vec![Peer::External]), None);
    let never = |path: &str| format!("{path}: never reached: no comes first and matches everything");
    // The stricter action comes first, wherever it is written.
    assert_eq!(about(app(), vec![some.clone(), deny.clone()], vec![some.clone()]), [never("spec.ingress[0]")]);
    assert_eq!(
        about(app(), vec![some, late.clone(), deny], vec![late]),
        [never("spec.ingress[0]"), never("spec.ingress[1]")]
    );
}

proptest! {
    #[test]
    fn a_census_finds_whoever_is_there(state in arbitrary::state(), policy in arbitrary::policy(), port in "[a-c]") {
        let profiles = Profiles::of(&state);
        let selectors = policy.ingress.iter().chain(&policy.egress).flat_map(|rule| rule.peers.iter().flatten());
        let selectors = selectors.filter_map(|peer| match peer {
            Peer::Selector(selector) => Some(selector),
            _ => None,
        });
        for selector in selectors.chain([&Selector::everything()]) {
            for network in state.networks.keys().map(Some).chain([None]) {
                for has in [&(|_: &NamedPorts| true) as &dyn Fn(&NamedPorts) -> bool, &|p| p.contains_key(port.as_str())] {
                    let scan = state.workloads.values().any(|w| {
                        network.is_none_or(|n| *n == w.network) && selector.matches(&w.labels) && has(&w.named_ports)
                    });
                    prop_assert_eq!(profiles.any(network, selector, has), scan);
                }
            }
        }
    }
}

#[test]
fn a_network_on_switches_without_a_tunnel_between_them_is_remarked_on_once_for_each_change() {
    let switch = |text: &str, id: u64, vtep: Option<&str>| Switch {
        name: name(text),
        driver: Driver::Openflow(DatapathId(id)),
        vtep: vtep.map(|ip| ip.parse().unwrap()),
        role: Role::Hypervisor,
        ovsdb: None,
    };
    let workload = |n: u8, switch: &str| {
        let at = Attachment { switch: name(switch), port: Port::Number(n.into()) };
        Workload {
            name: name(&format!("w{n}")),
            labels: Default::default(),
            network: name("n"),
            interfaces: vec![Interface { mac: Mac([2, 0, 0, 0, 0, n]), ips: vec![], attachment: Some(at) }],
            named_ports: Default::default(),
        }
    };
    let network = Network {
        name: name("n"),
        vni: Vni::new(1).unwrap(),
        subnets: vec![],
        encap: Encap::Geneve,
        default_action: DefaultAction::Deny,
        on_tighten: OnTighten::Revoke,
        uplinks: vec![],
        gateways: vec![],
        multicast: vec![],
        learn_workloads: false,
    };
    let all = |switches: [Switch; 3]| -> Vec<Change> {
        let workloads = [workload(1, "a"), workload(2, "b"), workload(3, "b"), workload(4, "c")];
        let switches = switches.map(|s| Resource::Switch(s.into())).into_iter();
        let rest = workloads.map(|w| Resource::Workload(w.into())).into_iter();
        switches.chain(rest).chain([Resource::Network(network.clone().into())]).map(Change::set).collect()
    };
    let said = |changes: &[Change], said: &[usize]| -> Vec<String> {
        let mut state = State::default();
        state.apply(changes);
        let said: Vec<Change> = said.iter().map(|i| changes[*i].clone()).collect();
        let found = remarks(&state, &said, &Profiles::of(&state));
        found.iter().map(|d| format!("{} {}: {}", d.key, d.path, d.message)).collect()
    };
    let (v4, v6) = (["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(Some), Some("2001:db8::3"));
    let joined = all([switch("a", 1, v4[0]), switch("b", 2, v4[1]), switch("c", 3, v4[2])]);
    assert_eq!(said(&joined, &[0, 1, 2, 3, 4, 5, 6, 7]), Vec::<String>::new());
    let apart = all([switch("a", 1, v4[0]), switch("b", 2, None), switch("c", 3, v6)]);
    let message =
        |a, b, why: &str| format!("network n is on switches {a} and {b}, and there is no tunnel between them: {why}");
    // The network's own document, a switch, and a workload by which the network comes to one.
    assert_eq!(said(&apart, &[7]), [format!("Network/n spec: {}", message("b", "a", "b has no VTEP address"))]);
    assert_eq!(said(&apart, &[1]), [format!("Switch/b spec.vtep: {}", message("b", "a", "b has no VTEP address"))]);
    let families = message("c", "a", "their VTEP addresses are of different families");
    assert_eq!(said(&apart, &[6]), [format!("Workload/w4 spec.interfaces: {families}")]);
    // Together they say it once.
    assert_eq!(said(&apart, &[0, 1, 2, 3, 4, 5, 6, 7]).len(), 1);
    // Another workload where the network is already says nothing new.
    assert_eq!(said(&apart, &[4]), Vec::<String>::new());
    // Links may join those without VTEP addresses.
    let alike = all([switch("a", 1, None), switch("b", 2, None), switch("c", 3, None)]);
    assert_eq!(said(&alike, &[0, 1, 2, 3, 4, 5, 6, 7]), Vec::<String>::new());
    // Kernel VTEPs: their workloads have somebody who judges at the other end, or nobody to speak with.
    let kernel = |text: &str, id: u64, vtep| Switch { driver: Driver::Kernel, ..switch(text, id, vtep) };
    let beside = all([kernel("a", 1, v4[0]), switch("b", 2, v4[1]), switch("c", 3, v4[2])]);
    assert_eq!(said(&beside, &[0, 1, 2, 3, 4, 5, 6, 7]), Vec::<String>::new());
    let two = all([kernel("a", 1, v4[0]), switch("b", 2, v4[1]), kernel("c", 3, v4[2])]);
    let why = "both are kernel VTEPs, which enforce nothing";
    assert_eq!(said(&two, &[7]), [format!("Network/n spec: {}", message("a", "c", why))]);
    // Of a P4 switch the ways into the underlay are known.
    let leaf = |to: &str| {
        let mac = Mac([2, 0, 0, 1, 0, 1]);
        let routes = vec![Route { to: to.parse().unwrap(), via: vec![Hop { port: 9, mac }] }];
        let underlay = Some(Underlay { vtep: v4[2].unwrap().parse().unwrap(), mac, mtu: None, routes }.into());
        let driver = Driver::P4runtime { address: "h:1".into(), device_id: 1, underlay };
        Switch { driver, ..switch("c", 3, v4[2]) }
    };
    let reached = all([switch("a", 1, v4[0]), switch("b", 2, v4[1]), leaf("192.0.2.0/24")]);
    assert_eq!(said(&reached, &[7]), Vec::<String>::new());
    let cut_off = all([switch("a", 1, v4[0]), switch("b", 2, v4[1]), leaf("192.0.2.1/32")]);
    let why = "c has no route to 192.0.2.2";
    assert_eq!(said(&cut_off, &[7]), [format!("Network/n spec: {}", message("c", "b", why))]);
    assert_eq!(said(&cut_off, &[1]), [format!("Switch/b spec.vtep: {}", message("b", "c", why))]);
    let several = all([switch("a", 1, v4[0]), kernel("b", 2, v4[1]), switch("c", 3, v4[2])]);
    let told = "network n has several interfaces on b, which is a kernel VTEP";
    assert_eq!(said(&several, &[7]), [format!("Network/n spec: {told}")]);
    assert_eq!(said(&several, &[4]), [format!("Workload/w2 spec.interfaces: {told}")]);
}
