//! Policies and moves that hurt other systems: what is demanded is small programs, bounded time, and default deny.

use crate::common;
use bulkhead_pipeline::{Outcome, Stage};
use bulkhead_policy::{
    Change, Decision, Endpoint, Flow, Kind, Resource, Service, State,
    model::{Action, Attachment, CidrSet, Interface, Peer, Policy, PortMatch, Rule, Sides, Subject, Tier, Workload},
    verdict,
};
use bulkhead_topology::{IpNet, Mac, Port, Selector};
use common::{
    BASE, apply, changes, compile, elsewhere, fabric, len, name, outcome, policy, reaches, state, syn, text, workload,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// A debug build on a busy machine takes no longer for any of these; a quadratic one would take hours.
const BOUNDED: Duration = Duration::from_secs(60);

/// `count` different addresses of 10.64.0.0/10, no two in one /31.
fn scattered(count: u32) -> Vec<String> {
    let address = |n: u32| std::net::Ipv4Addr::from(0x0a40_0000 + n * 7919 * 2 % 0x40_0000);
    let all: BTreeSet<_> = (0..count).map(address).collect();
    assert_eq!(all.len() as u32, count);
    all.into_iter().map(|ip| format!("{ip}/32")).collect()
}

fn negated(count: u32) -> String {
    let except = scattered(count).join(", ");
    let from = format!("from: [{{cidr: 10.64.0.0/10, except: [{except}]}}]");
    policy("negated", &format!("subject: {{matchLabels: {{side: a}}}}, ingress: [{{action: allow, {from}}}]"))
}

/// What a policy adds to the program of [`fabric`], in entries.
fn added(documents: &str) -> usize {
    len(&compile(&state(&fabric(documents)))) - len(&compile(&state(&fabric(""))))
}

#[test]
fn a36_fifteen_negated_addresses_are_thirty_entries_and_not_sixty_thousand() {
    // Fifteen addresses and their network are told apart at either end of a packet; one rule, one isolation.
    assert_eq!(added(&negated(15)), 2 * (15 + 1) + 1 + 1);
}

#[test]
fn r19_five_hundred_negated_addresses_take_the_fewest_entries() {
    let began = Instant::now();
    assert_eq!(added(&negated(500)), 2 * (500 + 1) + 1 + 1);
    assert!(began.elapsed() < BOUNDED);
}

#[test]
fn r19_ports_are_the_fewest_blocks() {
    let rule = |ports: &str| {
        let rule = format!("ingress: [{{action: allow, from: [{{matchLabels: {{side: b}}}}], ports: [{ports}]}}]");
        added(&policy("p", &format!("subject: {{matchLabels: {{side: a}}}}, {rule}"))) - 1
    };
    assert_eq!(rule("{protocol: tcp, port: 1, endPort: 65534}"), 30, "1 to 65534 has thirty aligned blocks");
    assert_eq!(rule("{protocol: tcp, port: 1, endPort: 65535}"), 16);
    assert_eq!(rule("{protocol: tcp, port: 80}, {protocol: tcp, port: 81}, {protocol: tcp, port: 80}"), 1);
}

#[test]
fn r19_every_port_on_its_own_is_one_range() {
    let mut state = state(&fabric(&policy("p", "subject: {matchLabels: {side: a}}, ingress: [{action: allow}]")));
    let mut compiler = compile(&state);
    let any = len(&compiler);
    let mut single = (*state.policies[&name("p")]).clone();
    let port = |port| PortMatch::Ports { protocol: 6, first: port, last: port };
    single.ingress[0].ports = Some((1..=u16::MAX).rev().map(port).collect());
    let began = Instant::now();
    apply(&mut state, &mut compiler, &[Change::set(Resource::Policy(Arc::new(single)))]).unwrap();
    assert!(began.elapsed() < BOUNDED);
    assert_eq!(len(&compiler), any - 1 + 16);
}

/// `count` workloads, each with labels of its own, at the switch or elsewhere.
fn crowd(first: u32, count: u32, side: &str, here: bool) -> impl Iterator<Item = Change> {
    (first..first + count).map(move |n| {
        let [_, a, b, c] = n.to_be_bytes();
        let at = Attachment { switch: name("hv1"), port: Port::Number(n) };
        let interface = Interface {
            mac: Mac([2, 0, 1, a, b, c]),
            ips: vec![[10, 1 + a, b, c].into()],
            attachment: here.then_some(at),
        };
        Change::set(Resource::Workload(Arc::new(Workload {
            name: name(&format!("x{n}")),
            labels: Arc::new([("side".into(), side.into()), ("n".into(), n.to_string().into())].into()),
            network: name("net"),
            interfaces: vec![interface],
            named_ports: Arc::default(),
        })))
    })
}

#[test]
fn r19_large_groups_meet_in_their_sum_and_not_in_their_product() {
    // `make bench` has 10,000 of either.
    const SUBJECTS: u32 = 300;
    const PEERS: u32 = 3_000;
    let mut state = state(&BASE.replace("10.0.0.0/16", "10.0.0.0/8"));
    let all: Vec<_> = crowd(0, SUBJECTS, "a", true).chain(crowd(SUBJECTS, PEERS, "b", false)).collect();
    state.apply(&all);
    let mut compiler = compile(&state);
    let before = len(&compiler);
    let rule = "ingress: [{action: allow, from: [{matchLabels: {side: b}}], ports: [{protocol: tcp, port: 80}]}]";
    let added = changes(&policy("p", &format!("subject: {{matchLabels: {{side: a}}}}, {rule}")));
    let began = Instant::now();
    apply(&mut state, &mut compiler, &added).unwrap();
    assert!(began.elapsed() < BOUNDED);
    // Each subject once in its set and once isolated, each peer once, the port, and the rule itself.
    let sum = (2 * SUBJECTS + PEERS + 2) as usize;
    assert_eq!(len(&compiler) - before, sum);
}

/// A policy about the one workload of side a, with a rule for each of these peers.
fn many(name: &str, peers: impl Iterator<Item = Vec<Peer>>) -> Change {
    let rule = |peers| Rule {
        name: "".into(),
        action: Action::Allow,
        priority: 0,
        peers: Some(peers),
        ports: None,
        log: false,
    };
    Change::set(Resource::Policy(Arc::new(Policy {
        name: self::name(name),
        tier: Tier::Application,
        priority: 1000,
        staged: false,
        stateful: false,
        subject: Subject::Selector(Selector::of([("side", "a")])),
        isolate: Sides { ingress: true, egress: false },
        ingress: peers.map(rule).collect(),
        egress: Vec::new(),
    })))
}

/// The time that this thread has worked: others may be at work beside it.
fn busy() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

fn host(n: u32) -> IpNet {
    IpNet::host([172, 16 | (n >> 16) as u8, (n >> 8) as u8, n as u8].into())
}

#[test]
fn r19_many_sets_in_one_rule_are_gone_through_once() {
    const SETS: u32 = 10_000;
    let mut state = state(&fabric(""));
    let mut compiler = compile(&state);
    let before = len(&compiler);
    let all = "172.16.0.0/12".parse().unwrap();
    let sets = (0..SETS).map(|n| Peer::Cidr(CidrSet { cidrs: vec![all], except: vec![host(n)] }));
    let began = busy();
    apply(&mut state, &mut compiler, &[many("p", [sets.collect()].into_iter())]).unwrap();
    assert!(busy() - began < BOUNDED, "{:?}", busy() - began);
    // Each address is excepted from its own set alone: all are told apart, and all are let in.
    assert_eq!(len(&compiler) - before, 3 * (SETS as usize + 1) + 1);
}

#[test]
fn r19_many_rules_of_one_level_are_put_in_order_at_once() {
    const RULES: u32 = 10_000;
    let mut state = state(&fabric(""));
    let mut compiler = compile(&state);
    let before = len(&compiler);
    let cidr = |n| vec![Peer::Cidr(CidrSet { cidrs: vec![host(n)], except: Vec::new() })];
    let began = busy();
    apply(&mut state, &mut compiler, &[many("p", (0..RULES).map(cidr))]).unwrap();
    // And one more before all of them.
    apply(&mut state, &mut compiler, &[many("a", [cidr(RULES)].into_iter())]).unwrap();
    assert!(busy() - began < BOUNDED, "{:?}", busy() - began);
    assert_eq!(len(&compiler) - before, 3 * (RULES as usize + 1) + 1);
}

#[test]
fn r19_policies_about_the_same_workloads_do_not_touch_each_other() {
    const POLICIES: u32 = 500;
    let mut state = state(&fabric(""));
    let mut compiler = compile(&state);
    let peer = || vec![Peer::Selector(Selector::of([("side", "b")]))];
    let began = busy();
    for n in 0..POLICIES {
        let change = [many(&format!("p{n:05}"), [peer()].into_iter())];
        state.apply(&change);
        let compiled = compiler.apply(&change).unwrap();
        let touched: usize = compiled.deltas.values().map(|delta| delta.add.len() + delta.remove.len()).sum();
        // A level that outgrows its priorities moves; all others only grow by the new rule.
        assert!(touched <= 2 || (n + 1).is_power_of_two() || n.is_power_of_two(), "{n}: {touched}");
    }
    assert!(busy() - began < BOUNDED, "{:?}", busy() - began);
}

#[test]
fn r19_switches_that_come_look_at_their_own_workloads() {
    let mut state = state(&BASE.replace("10.0.0.0/16", "10.0.0.0/8"));
    let mut compiler = compile(&state);
    let mut all: Vec<Change> = crowd(0, 3_000, "a", true).collect();
    let switch = |n| format!("---\nkind: Switch\nmetadata: {{name: new{n}}}\nspec: {{driver: sim}}\n");
    all.extend(changes(&(0..500).map(switch).collect::<String>()));
    let began = busy();
    apply(&mut state, &mut compiler, &all).unwrap();
    assert!(busy() - began < BOUNDED, "{:?}", busy() - began);
}

#[test]
fn a36_a_program_that_no_switch_holds_is_refused_before_it_is_made() {
    let mut state = state(&fabric(""));
    let mut compiler = compile(&state);
    let before = text(&compiler);
    // Every rule lets in every address that any of them excepts: their product.
    let all: IpNet = "172.16.0.0/12".parse().unwrap();
    let rule = |n| vec![Peer::Cidr(CidrSet { cidrs: vec![all], except: vec![host(n)] })];
    let refused = apply(&mut state, &mut compiler, &[many("p", (0..1_100).map(rule))]).unwrap_err();
    assert!(refused.what.contains("switch hv1") && refused.size > refused.limit, "{refused}");
    assert_eq!(text(&compiler), before);
}

#[test]
fn r19_deep_tiers_are_gone_through_once() {
    let mut documents = String::new();
    for tier in ["emergency", "platform", "application", "baseline"] {
        for priority in 0..100 {
            let rule = "ingress: [{action: pass, from: [{matchLabels: {side: b}}], ports: [{protocol: udp}]}]";
            let spec = format!("tier: {tier}, priority: {priority}, subject: {{matchLabels: {{side: a}}}}, {rule}");
            documents += &policy(&format!("{tier}-{priority}"), &spec.replace("udp", "17"));
        }
    }
    let added = added(&documents);
    assert!((400..=402).contains(&added), "an entry a rule, and one isolation: {added}");
}

#[test]
fn r17_what_selects_nothing_allows_nothing() {
    let subject = "subject: {matchLabels: {side: b}}";
    let egress = policy("out", "subject: {matchLabels: {side: a}}, egress: [{action: allow}]");
    // With a rule for everybody the packet passes: what follows is denied by what it says, not by something else.
    let open = state(&fabric(&format!("{egress}{}", policy("p", &format!("{subject}, ingress: [{{action: allow}}]")))));
    assert!(reaches(&compile(&open), 1, 2, 80));
    let set = "---\nkind: AddressSet\nmetadata: {name: none}\nspec: {cidrs: []}\n";
    let network = "---\nkind: Network\nmetadata: {name: other}\nspec: {vni: 2, subnets: [10.0.0.0/16]}\n";
    let zone = "---\nkind: Zone\nmetadata: {name: empty}\nspec: {network: net, selector: {matchLabels: {side: z}}}\n";
    for (rule, warned) in [
        ("from: []", true),
        ("from: [{matchExpressions: [{key: side, operator: In, values: []}]}]", true),
        ("from: [{matchLabels: {nobody: has-this}}]", false),
        ("from: [{zone: empty}]", false),
        ("from: [{network: other}]", false),
        ("from: [{addressSet: none}]", true),
        ("from: [{cidr: 10.0.0.0/16, except: [10.0.0.0/16]}]", true),
        ("ports: []", true),
        ("ports: [{port: nobody-names-this}]", false),
    ] {
        let policy = policy("p", &format!("{subject}, ingress: [{{action: allow, {rule}}}]"));
        let documents = fabric(&format!("{set}{network}{zone}{egress}{policy}"));
        let parsed = bulkhead_types::read(None, documents.as_bytes(), bulkhead_types::Format::Any);
        if parsed.has_errors() {
            // Refused is as good as denied.
            continue;
        }
        let state = state(&documents);
        let told = !parsed.diagnostics.is_empty() || !State::default().check(&parsed.changes()).is_empty();
        assert!(told || !warned, "{rule}: nothing was said");
        assert!(!reaches(&compile(&state), 1, 2, 80), "{rule}: the packet passes");
        let end = |n: u8| Endpoint { workload: Some(name(&format!("w{n}"))), ip: [10, 0, 0, n].into() };
        let service = Service::Port { protocol: 6, port: 80 };
        let flow = Flow { network: name("net"), from: end(1), to: end(2), service };
        assert_eq!(verdict(&state, &flow).ingress.decision(), Decision::Deny, "{rule}");
    }
}

/// A workload that changes place, address, labels or network, or goes.
#[test]
fn a18_a_moved_workload_leaves_nothing_behind() {
    let allow =
        policy("p", "subject: {matchLabels: {side: b}}, ingress: [{action: allow, from: [{matchLabels: {side: a}}]}]");
    let open = policy("out", "subject: {matchLabels: {side: a}}, egress: [{action: allow}]");
    let other = "---\nkind: Network\nmetadata: {name: far}\nspec: {vni: 2, subnets: [10.0.0.0/16]}\n";
    let second = "---\nkind: Switch\nmetadata: {name: hv2}\nspec: {driver: sim}\n";
    let documents = fabric(&format!("{allow}{open}{other}{second}"));
    let was = workload(1, "side: a", "");
    for (what, now) in [
        ("port", was.replace("port: w1", "port: p9")),
        ("switch", was.replace("switch: hv1", "switch: hv2")),
        ("nowhere", elsewhere(1, "side: a")),
        ("network", was.replace("network: net", "network: far")),
        ("mac", was.replace("02:00:00:00:00:01", "02:00:00:00:09:09")),
        ("address", was.replace("10.0.0.1]", "10.0.9.9]")),
        ("labels", was.replace("side: a", "side: c")),
        ("gone", String::new()),
    ] {
        let mut state = state(&documents);
        let mut compiler = compile(&state);
        assert!(reaches(&compiler, 1, 2, 80));
        let change = match now.is_empty() {
            true => vec![Change::remove(Kind::Workload.named(&name("w1")))],
            false => changes(&now),
        };
        apply(&mut state, &mut compiler, &change).unwrap();
        let found = outcome(&compiler, syn("w1", 1, 2, 80));
        assert!(matches!(found, Outcome::Dropped(_)), "{what}: {found:?}");
        // What it was sent before does not get to it at its old place either.
        if what != "labels" {
            let back = outcome(&compiler, syn("w2", 2, 1, 80));
            assert!(!matches!(&back, Outcome::Delivered { port, .. } if *port == Port::Name("w1".into())), "{what}");
        }
        let anew = bulkhead_compile::Compiler::new(&state, compiler.numbers().clone()).unwrap().0;
        assert_eq!(text(&compiler), text(&anew), "{what}");
    }
}

/// A fabric of many small applications with the shapes of match that policies can ask for.
fn mix(teams: u16) -> State {
    let mut documents = String::new();
    for team in 0..teams {
        for (n, role) in ["web", "app", "db"].iter().enumerate() {
            documents += &workload(10 + team * 4 + n as u16, &format!("ns: n{team}, role: {role}"), "");
        }
        let (last, mask) = (8080 + team % 37, 8 + team % 25);
        for (subject, peers, ports) in [
            (
                "web",
                "{external: true}, {matchLabels: {role: gateway}}".to_owned(),
                "{protocol: tcp, port: 443}".to_owned(),
            ),
            (
                "app",
                format!("{{matchLabels: {{ns: n{team}}}}}"),
                format!("{{protocol: tcp, port: 8080, endPort: {last}}}"),
            ),
            (
                "db",
                format!("{{cidr: 192.0.2.0/{mask}}}, {{matchLabels: {{role: app}}}}"),
                "{protocol: tcp}".replace("tcp", "6"),
            ),
        ] {
            let spec = format!(
                "subject: {{matchLabels: {{ns: n{team}, role: {subject}}}}}, \
                 ingress: [{{action: allow, from: [{peers}], ports: [{ports}]}}], \
                 egress: [{{action: reject, to: [{{matchLabels: {{ns: n{}}}}}]}}]",
                (team + 1) % teams,
            );
            documents +=
                &policy(&format!("n{team}-{subject}"), &spec.replace(&format!("192.0.2.0/{mask}"), &network(mask)));
        }
    }
    state(&fabric(&documents))
}

/// The network of this length that 192.0.2.0 is in.
fn network(length: u16) -> String {
    let bits = u32::from(std::net::Ipv4Addr::new(192, 0, 2, 0)) & (u32::MAX << (32 - length));
    format!("{}/{length}", std::net::Ipv4Addr::from(bits))
}

#[test]
fn a20_the_number_of_masks_does_not_grow_with_the_fabric() {
    let count =
        |teams| -> BTreeMap<Stage, usize> { compile(&mix(teams)).masks(&name("hv1")).unwrap().by_stage().collect() };
    let (small, large) = (count(75), count(150));
    assert_eq!(small, large, "twice the fabric, the same masks");
    for (stage, count) in &large {
        // A subject, one of four kinds of peer, and a service's mask; addresses have as many masks as prefix lengths.
        let most = match stage {
            Stage::SrcClass | Stage::DstClass => 33 + 129,
            _ => 4 * 25,
        };
        assert!(*count <= most, "{stage:?}: {count} masks");
    }
    assert!(large[&Stage::DstClass] >= 25, "the mix has as many prefix lengths as it says: {large:?}");
}
