//! Large documents without a fault in them, or with the same fault very often: what looks at them takes time by their
//! size, and not by its square.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_policy::{
    Change, Kind, Profiles, Resource, Severity, State,
    model::{
        Action, CidrSet, DefaultAction, Encap, Interface, Network, OnTighten, Peer, Policy, PortMatch, Rule, Sides,
        Subject, Tier, Workload, Zone,
    },
    remarks,
};
use bulkhead_topology::{IpNet, Mac, Name, Selector, Vni};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A debug build on a busy machine takes no longer for any of these; a quadratic one takes minutes.
const BOUNDED: Duration = Duration::from_secs(30);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn network(subnets: Vec<IpNet>) -> Change {
    Change::set(Resource::Network(Arc::new(Network {
        name: name("net"),
        vni: Vni::new(1).unwrap(),
        subnets,
        encap: Encap::Geneve,
        default_action: DefaultAction::Deny,
        on_tighten: OnTighten::Revoke,
        uplinks: Vec::new(),
        gateways: Vec::new(),
        multicast: Vec::new(),
        learn_workloads: false,
    })))
}

fn workload(n: u32, ip: [u8; 4]) -> Change {
    let [a, b, c, d] = n.to_be_bytes();
    Change::set(Resource::Workload(Arc::new(Workload {
        name: name(&format!("w{n}")),
        labels: Arc::default(),
        network: name("net"),
        interfaces: vec![Interface { mac: Mac([2, 0, a, b, c, d]), ips: vec![ip.into()], attachment: None }],
        named_ports: Arc::default(),
    })))
}

fn rule(peers: Vec<Peer>, ports: Option<Vec<PortMatch>>) -> Rule {
    Rule { name: "".into(), action: Action::Allow, priority: 0, peers: Some(peers), ports, log: false }
}

fn policy(ingress: Vec<Rule>) -> Change {
    Change::set(Resource::Policy(Arc::new(Policy {
        name: name("p"),
        tier: Tier::Application,
        priority: 1000,
        staged: false,
        stateful: false,
        subject: Subject::Selector(Selector::everything()),
        isolate: Sides { ingress: true, egress: false },
        ingress,
        egress: Vec::new(),
    })))
}

#[test]
fn a36_names_that_are_not_there_are_guessed_at_a_few_times() {
    let mut state = State::default();
    let zone = |n: u32| {
        let (name, network) = (name(&format!("a-zone-of-many-{n:05}")), name("net"));
        let (selector, isolate) = (Selector::everything(), Sides { ingress: false, egress: false });
        let mode = bulkhead_policy::model::Mode::Enforce;
        Change::set(Resource::Zone(Arc::new(Zone { name, network, selector, isolate, mode })))
    };
    state.apply(&[network(vec!["10.0.0.0/8".parse().unwrap()])]);
    state.apply(&(0..3_000).map(zone).collect::<Vec<_>>());
    let missing = |n: u32| rule(vec![Peer::Zone(name(&format!("a-zone-of-many-{n:05}x")))], None);
    let began = Instant::now();
    let found = state.check(&[policy((0..5_000).map(missing).collect())]);
    assert!(began.elapsed() < BOUNDED, "{:?}", began.elapsed());
    assert_eq!(found.len(), 5_000, "each is told all the same");
    let guessed = found.iter().filter(|finding| finding.hint.contains("did you mean")).count();
    assert!((1..=16).contains(&guessed), "{guessed}");
}

#[test]
fn a36_many_addresses_in_many_subnets_are_found_in_theirs() {
    let subnet = |n: u32| IpNet::new([10, (n >> 8) as u8, n as u8, 0].into(), 24).unwrap();
    let inside = |n: u32| workload(n, [10, (n >> 8) as u8, n as u8, 1]);
    let mut all: Vec<Change> = (0..20_000).map(inside).collect();
    all.push(network((0..20_000).map(subnet).collect()));
    let began = Instant::now();
    assert_eq!(State::default().check(&all), []);
    // And where all of them are outside, nobody is told all subnets for each.
    let outside = |n: u32| workload(n, [11, (n >> 8) as u8, n as u8, 1]);
    let mut wrong: Vec<Change> = (0..20_000).map(outside).collect();
    wrong.push(network((0..20_000).map(subnet).collect()));
    let found = State::default().check(&wrong);
    assert!(began.elapsed() < BOUNDED, "{:?}", began.elapsed());
    assert_eq!(found.len(), 20_000);
    assert!(
        found.iter().all(|finding| finding.severity == Severity::Error && finding.hint.len() < 100),
        "{:?}",
        found[0]
    );
}

#[test]
fn a36_remarks_hold_no_prefix_against_every_exception() {
    let host = |n: u32| IpNet::host([10, (n >> 16) as u8, (n >> 8) as u8, n as u8].into());
    let (cidrs, except) = ((0..50_000).map(host).collect(), (0..50_000).rev().map(host).collect());
    let set = CidrSet { cidrs, except };
    let change = [policy(vec![rule(vec![Peer::Cidr(set)], None)])];
    let mut state = State::default();
    state.apply(&change);
    let began = Instant::now();
    let found = remarks(&state, &change, &Profiles::of(&state));
    assert!(began.elapsed() < BOUNDED, "{:?}", began.elapsed());
    assert!(found.iter().any(|remark| remark.message.contains("every address is excepted")), "{found:?}");
}

#[test]
fn a36_port_names_that_nobody_has_are_looked_for_a_few_times() {
    let mut state = State::default();
    // Each has labels of its own, so that each is looked at.
    let labelled = |n: u32| {
        let mut change = workload(n, [10, (n >> 16) as u8, (n >> 8) as u8, n as u8]);
        if let Some(Resource::Workload(workload)) = &mut change.value {
            Arc::make_mut(workload).labels = Arc::new([("n".into(), n.to_string().into())].into());
        }
        change
    };
    state.apply(&(0..5_000).map(labelled).collect::<Vec<_>>());
    let named = |n: u32| PortMatch::Named { name: format!("nobody-{n}").into(), protocol: None };
    let change = [policy(vec![Rule { peers: None, ..rule(Vec::new(), Some((0..20_000).map(named).collect())) }])];
    state.apply(&change);
    let began = Instant::now();
    let found = remarks(&state, &change, &Profiles::of(&state));
    assert!(began.elapsed() < BOUNDED, "{:?}", began.elapsed());
    assert_eq!(found.iter().filter(|remark| remark.message.contains("has a port named")).count(), 20);
    assert_eq!(state.get(&Kind::Policy.named(&name("p"))), change[0].value);
}
