#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use super::*;
use crate::diagnostic::Severity;
use bulkhead_topology::{DatapathId, Labels, Mac, Name, Requirement, Vni};
use std::sync::Arc;

mod many;
mod underlay;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn key(kind: Kind, text: &str) -> Key {
    kind.named(&name(text))
}

fn at(switch: &str, port: u32) -> Attachment {
    Attachment { switch: name(switch), port: Port::Number(port) }
}

fn network(text: &str, vni: u32) -> Network {
    Network {
        name: name(text),
        vni: Vni::new(vni).unwrap(),
        subnets: ["10.1.0.0/16", "fd00:1::/64"].map(|n| n.parse().unwrap()).to_vec(),
        encap: Encap::Geneve,
        default_action: DefaultAction::Deny,
        on_tighten: OnTighten::Revoke,
        uplinks: vec![],
        gateways: vec![],
        multicast: vec![],
        learn_workloads: false,
    }
}

fn uplinks(text: &str, vni: u32, uplinks: &[(Attachment, u16)]) -> Change {
    let uplinks = uplinks.iter().map(|(at, vlan)| Uplink { at: at.clone(), vlan: *vlan }).collect();
    Change::set(Resource::Network(Arc::new(Network { uplinks, ..network(text, vni) })))
}

fn subnets(text: &str, vni: u32, subnets: &[&str]) -> Change {
    let subnets = subnets.iter().map(|n| n.parse().unwrap()).collect();
    Change::set(Resource::Network(Arc::new(Network { subnets, ..network(text, vni) })))
}

/// A workload with one interface, whose MAC ends in `mac`.
fn workload(text: &str, net: &str, mac: u8, ips: &[&str], attachment: Option<Attachment>) -> Change {
    Change::set(Resource::Workload(Arc::new(Workload {
        name: name(text),
        labels: Arc::new(Labels::new()),
        network: name(net),
        interfaces: vec![Interface {
            mac: Mac([2, 0, 0, 0, 0, mac]),
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            attachment,
        }],
        named_ports: Arc::default(),
    })))
}

fn switch(text: &str, id: u64) -> Change {
    Change::set(Resource::Switch(Arc::new(Switch {
        name: name(text),
        driver: Driver::Openflow(DatapathId(id)),
        vtep: None,
        role: Role::Hypervisor,
        ovsdb: None,
    })))
}

fn zone(text: &str, net: &str) -> Change {
    let selector = Selector::everything();
    let (isolate, mode) = (Sides::default(), Mode::Enforce);
    Change::set(Resource::Zone(Arc::new(Zone { name: name(text), network: name(net), selector, isolate, mode })))
}

fn policy(text: &str, subject: Subject, peers: Option<Vec<Peer>>, ports: Option<Vec<PortMatch>>) -> Change {
    let rule = Rule { name: "".into(), action: Action::Allow, priority: 0, peers, ports, log: false };
    Change::set(Resource::Policy(Arc::new(Policy {
        name: name(text),
        tier: Tier::Application,
        priority: 1000,
        staged: false,
        stateful: false,
        subject,
        isolate: Sides::default(),
        ingress: vec![],
        egress: vec![rule],
    })))
}

fn anyone() -> Subject {
    Subject::Selector(Selector::everything())
}

/// prod with w1 (10.1.0.1, mac 1, hv1 port 1), zone z, set s, policy p about z that names s and prod.
fn world() -> State {
    let mut state = State::default();
    let set =
        AddressSet { name: name("s"), set: CidrSet { cidrs: vec!["0.0.0.0/0".parse().unwrap()], except: vec![] } };
    let peers = vec![Peer::AddressSet(name("s")), Peer::Network(name("prod"))];
    let changes = [
        uplinks("prod", 1, &[(at("hv1", 9), 0)]),
        switch("hv1", 1),
        workload("w1", "prod", 1, &["10.1.0.1", "fd00:1::1"], Some(at("hv1", 1))),
        zone("z", "prod"),
        Change::set(Resource::AddressSet(Arc::new(set))),
        policy("p", Subject::Zone(name("z")), Some(peers), None),
    ];
    assert_eq!(state.check(&changes), vec![]);
    state.apply(&changes);
    state
}

/// The findings about `changes` as `E Kind/name path: message (hint)`.
fn found(changes: &[Change]) -> Vec<String> {
    let letter = |d: &Diagnostic| if d.severity == Severity::Error { "E" } else { "W" };
    world().check(changes).iter().map(|d| format!("{} {d}", letter(d))).collect()
}

/// That `changes` have one finding, whose text begins with `expected`.
#[track_caller]
fn one(changes: &[Change], expected: &str) {
    let found = found(changes);
    assert!(found.len() == 1 && found[0].starts_with(expected), "{found:#?}\nbut wanted {expected}");
}

#[track_caller]
fn fine(changes: &[Change]) {
    assert_eq!(found(changes), Vec::<String>::new());
}

#[test]
fn what_is_named_must_be_there() {
    one(&[workload("w2", "dev", 2, &[], None)], "E Workload/w2 spec.network: there is no Network/dev (create it");
    one(&[zone("y", "dev")], "E Zone/y spec.network: there is no Network/dev");
    one(&[policy("q", Subject::Zone(name("y")), None, None)], "E Policy/q spec.subject.zone: there is no Zone/y");
    for (peer, expected) in [
        (Peer::Zone(name("x")), "E Policy/q spec.egress[0].to[1].zone: there is no Zone/x"),
        (Peer::Network(name("x")), "E Policy/q spec.egress[0].to[1].network: there is no Network/x"),
        (Peer::AddressSet(name("x")), "E Policy/q spec.egress[0].to[1].addressSet: there is no AddressSet/x"),
    ] {
        one(&[policy("q", anyone(), Some(vec![Peer::External, peer]), None)], expected);
    }
    // In one step, the order does not matter.
    fine(&[workload("w2", "dev", 2, &[], None), zone("y", "dev"), uplinks("dev", 2, &[])]);
}

#[test]
fn a_switch_may_come_later() {
    one(
        &[workload("w2", "prod", 2, &[], Some(at("hv2", 1)))],
        "W Workload/w2 spec.interfaces[0].attachment.switch: there is no Switch/hv2 yet",
    );
    fine(&[workload("w2", "prod", 2, &[], Some(at("hv2", 1))), switch("hv2", 2)]);
    one(&[uplinks("dev", 2, &[(at("hv2", 1), 0)])], "W Network/dev spec.uplinks[0].switch: there is no Switch/hv2 yet");
    let link = Link { name: name("l"), a: at("hv1", 7), b: at("hv2", 7) };
    one(&[Change::set(Resource::Link(Arc::new(link)))], "W Link/l spec.b.switch: there is no Switch/hv2 yet");
}

#[test]
fn what_is_named_cannot_go() {
    let remove = |kind, text| Change::remove(key(kind, text));
    one(
        &[remove(Kind::Network, "prod")],
        "E Network/prod metadata.name: still named by Workload/w1, Zone/z, Policy/p (delete or change those first",
    );
    one(&[remove(Kind::Zone, "z")], "E Zone/z metadata.name: still named by Policy/p");
    one(&[remove(Kind::AddressSet, "s")], "E AddressSet/s metadata.name: still named by Policy/p");
    fine(&[remove(Kind::AddressSet, "s"), remove(Kind::Policy, "p"), remove(Kind::Zone, "z")]);
    fine(&[remove(Kind::Zone, "z"), policy("p", anyone(), None, None)]);
    // The one that still names it is told where.
    one(
        &[
            remove(Kind::Network, "prod"),
            remove(Kind::Policy, "p"),
            remove(Kind::Zone, "z"),
            workload("w1", "prod", 1, &[], None),
        ],
        "E Workload/w1 spec.network: there is no Network/prod",
    );
    let many: Vec<Change> = (2..9).map(|i| workload(&format!("w{i}"), "prod", i, &[], None)).collect();
    let mut state = world();
    state.apply(&many);
    let message = &state.check(&[remove(Kind::Network, "prod")])[0].message;
    assert_eq!(message, "still named by Workload/w1, Workload/w2, Workload/w3, 7 more");
}

#[test]
fn an_address_and_a_mac_have_one_owner_in_a_network() {
    one(
        &[workload("w2", "prod", 2, &["10.1.0.1"], None)],
        "E Workload/w2 spec.interfaces[0].ips[0]: address 10.1.0.1 in network prod is already taken by Workload/w1",
    );
    one(
        &[workload("w2", "prod", 2, &["10.1.0.2", "fd00:1::1"], None)],
        "E Workload/w2 spec.interfaces[0].ips[1]: address fd00:1::1 in network prod is already taken",
    );
    one(
        &[workload("w2", "prod", 1, &[], None)],
        "E Workload/w2 spec.interfaces[0].mac: MAC address 02:00:00:00:00:01 in network prod is already taken by Workload/w1",
    );
    // Twice in one step, or twice in one workload.
    one(
        &[workload("w3", "prod", 3, &["10.1.0.7"], None), workload("w2", "prod", 2, &["10.1.0.7"], None)],
        "E Workload/w3 spec.interfaces[0].ips[0]: address 10.1.0.7 in network prod is already taken by Workload/w2",
    );
    one(
        &[workload("w2", "prod", 2, &["10.1.0.7", "10.1.0.7"], None)],
        "E Workload/w2 spec.interfaces[0].ips[1]: address 10.1.0.7 in network prod is already taken by Workload/w2",
    );
    // Another network may have the same; an owner that leaves or changes makes room.
    fine(&[uplinks("dev", 2, &[]), workload("w2", "dev", 1, &["10.1.0.1"], None)]);
    fine(&[Change::remove(key(Kind::Workload, "w1")), workload("w2", "prod", 1, &["10.1.0.1"], None)]);
    fine(&[workload("w1", "prod", 2, &["10.1.0.2"], None), workload("w2", "prod", 1, &["10.1.0.1"], None)]);
    fine(&[uplinks("dev", 2, &[]), workload("w1", "dev", 1, &["10.1.0.1"], Some(at("hv1", 1)))]);
}

#[test]
fn a_port_is_one_workloads_or_an_uplink() {
    one(
        &[workload("w2", "prod", 2, &[], Some(at("hv1", 1)))],
        "E Workload/w2 spec.interfaces[0].attachment: port 1 of switch hv1 is already taken by Workload/w1",
    );
    one(
        &[workload("w2", "prod", 2, &[], Some(at("hv1", 9)))],
        "E Workload/w2 spec.interfaces[0].attachment: port 9 of switch hv1 is an uplink of Network/prod",
    );
    one(
        &[uplinks("dev", 2, &[(at("hv1", 1), 5)])],
        "E Network/dev spec.uplinks[0]: port 1 of switch hv1 is the port of Workload/w1",
    );
    one(
        &[uplinks("dev", 2, &[(at("hv1", 4), 5)]), workload("w2", "prod", 2, &[], Some(at("hv1", 4)))],
        "E Workload/w2 spec.interfaces[0].attachment: port 4 of switch hv1 is an uplink of Network/dev",
    );
    one(
        &[uplinks("dev", 2, &[(at("hv1", 9), 0)])],
        "E Network/dev spec.uplinks[0]: port 9 of switch hv1, untagged, is already taken by Network/prod",
    );
    fine(&[uplinks("dev", 2, &[(at("hv1", 9), 7)])]);
    one(
        &[uplinks("dev", 2, &[(at("hv1", 8), 7)]), uplinks("prod", 1, &[(at("hv1", 8), 7)])],
        "E Network/prod spec.uplinks[0]: port 8 of switch hv1, VLAN 7, is already taken by Network/dev",
    );
    one(
        &[uplinks("dev", 2, &[(at("hv1", 8), 7), (at("hv1", 8), 7)])],
        "E Network/dev spec.uplinks[1]: port 8 of switch hv1, VLAN 7, is already taken by Network/dev",
    );
    one(
        &[uplinks("dev", 2, &[(at("hv1", 8), 7), (at("hv1", 9), 7)])],
        "W Network/dev spec.uplinks[1]: everything leaves by port 8 of switch hv1, VLAN 7, alone; this uplink only takes in",
    );
    fine(&[workload("w1", "prod", 1, &[], Some(at("hv1", 9))), uplinks("prod", 1, &[(at("hv1", 1), 0)])]);
}

#[test]
fn numbers_have_one_owner() {
    one(&[uplinks("dev", 1, &[])], "E Network/dev spec.vni: VNI 1 is already taken by Network/prod");
    one(&[switch("hv2", 1)], "E Switch/hv2 spec.datapathId: datapath id 0x1 is already taken by Switch/hv1");
    fine(&[uplinks("dev", 1, &[]), uplinks("prod", 2, &[])]);
}

#[test]
fn subnets_are_disjoint_and_hold_the_addresses() {
    one(
        &[workload("w2", "prod", 2, &["10.2.0.1"], None)],
        "E Workload/w2 spec.interfaces[0].ips[0]: 10.2.0.1 is outside of the subnets of network prod (its subnets: 10.1.0.0/16, fd00:1::/64)",
    );
    one(
        &[subnets("dev", 2, &["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"])],
        "E Network/dev spec.subnets[1]: 10.1.0.0/16 overlaps with 10.0.0.0/8",
    );
    one(&[subnets("dev", 2, &["10.1.0.0/16", "10.1.0.0/16"])], "E Network/dev spec.subnets[1]: 10.1.0.0/16 overlaps");
    one(
        &[subnets("prod", 1, &["10.1.0.0/16"])],
        "E Network/prod spec.subnets: 1 workloads have addresses outside of the new subnets, Workload/w1 among them",
    );
    fine(&[subnets("prod", 1, &["10.1.0.0/24", "fd00:1::/80", "10.9.0.0/16"])]);
    fine(&[subnets("prod", 1, &["10.9.0.0/16"]), workload("w1", "prod", 1, &["10.9.0.1"], None)]);
}

#[test]
fn what_can_never_match_is_remarked_on() {
    one(
        &[policy("q", anyone(), Some(vec![]), None)],
        "W Policy/q spec.egress[0].to: an empty list matches nothing (leave the field out to match anything)",
    );
    one(&[policy("q", anyone(), None, Some(vec![]))], "W Policy/q spec.egress[0].ports: an empty list matches nothing");
    one(
        &[policy("q", anyone(), Some(vec![Peer::Cidr(CidrSet::default())]), None)],
        "W Policy/q spec.egress[0].to[0].cidr: a set without addresses matches nothing",
    );
    let impossible = Selector::new([Requirement::new("a".into(), Operator::In, [])]);
    one(
        &[policy("q", Subject::Selector(impossible.clone()), None, None)],
        "W Policy/q spec.subject: a requirement `In` without values",
    );
    one(
        &[policy("q", anyone(), Some(vec![Peer::Selector(impossible)]), None)],
        "W Policy/q spec.egress[0].to[0]: a requirement",
    );
    let empty = AddressSet { name: name("e"), set: CidrSet::default() };
    one(
        &[Change::set(Resource::AddressSet(Arc::new(empty)))],
        "W AddressSet/e spec.cidrs: an empty set matches nothing",
    );
}

#[test]
fn a_step_says_one_thing_about_a_resource() {
    one(
        &[switch("hv2", 2), switch("hv2", 3)],
        "E Switch/hv2 metadata.name: the resource is changed twice, differently",
    );
    one(
        &[switch("hv2", 2), Change::remove(key(Kind::Switch, "hv2"))],
        "E Switch/hv2 metadata.name: the resource is changed twice",
    );
    fine(&[switch("hv2", 2), switch("hv2", 2)]);
    let mislabelled = Change { key: key(Kind::Switch, "other"), ..switch("hv2", 2) };
    one(&[mislabelled], "E Switch/other metadata.name: the value is Switch/hv2, another resource");
}

#[test]
fn workloads_may_exchange_addresses_and_ports_in_one_step() {
    let mut state = world();
    state.apply(&[workload("w2", "prod", 2, &["10.1.0.2"], Some(at("hv1", 2)))]);
    let swap = [
        workload("w1", "prod", 2, &["10.1.0.2"], Some(at("hv1", 2))),
        workload("w2", "prod", 1, &["10.1.0.1"], Some(at("hv1", 1))),
    ];
    assert_eq!(state.check(&swap), vec![]);
    state.apply(&swap);
    for (owner, ip, port) in [("w1", "10.1.0.2", 2), ("w2", "10.1.0.1", 1)] {
        assert_eq!(state.workload_at(&name("prod"), ip.parse().unwrap()).unwrap().name, name(owner));
        assert_eq!(state.workload_on(&at("hv1", port)).unwrap().name, name(owner));
    }
    assert_eq!(state.workload_at(&name("prod"), "fd00:1::1".parse().unwrap()), None);
}

#[test]
fn a_name_that_is_not_there_comes_with_what_was_probably_meant() {
    let mut state = State::default();
    state.apply(&[subnets("prod", 1, &["10.1.0.0/16"]), zone("shop", "prod")]);
    let hint = |change: &[Change]| {
        let found = state.check(change);
        let error = found.iter().find(|d| d.severity == Severity::Error).unwrap();
        (error.message.clone(), error.hint.clone())
    };
    let (message, meant) = hint(&[zone("z", "prdo")]);
    assert_eq!(message, "there is no Network/prdo");
    assert_eq!(meant, "did you mean `prod`? Else create it first, or in the same apply");
    // What comes in the same change counts, what goes in it does not.
    let near = hint(&[zone("depot", "prod"), policy("p", Subject::Zone(name("depott")), None, None)]).1;
    assert!(near.contains("`depot`"), "{near}");
    let gone = [Change::remove(key(Kind::Zone, "shop")), policy("p", Subject::Zone(name("shop")), None, None)];
    assert_eq!(hint(&gone).1, "create it first, or in the same apply");
}

#[test]
fn what_is_on_undeclared_switches_is_pending() {
    let mut state = State::default();
    state.apply(&[
        uplinks("net", 1, &[(at("hv3", 9), 0), (at("hv3", 9), 5), (at("hv1", 9), 0)]),
        switch("hv1", 1),
        workload("a", "net", 1, &["10.1.0.1"], Some(at("hv1", 1))),
        workload("b", "net", 2, &["10.1.0.2"], Some(at("hv2", 1))),
        workload("c", "net", 3, &["10.1.0.3"], Some(at("hv2", 2))),
        workload("d", "net", 4, &["10.1.0.4"], None),
    ]);
    let pending = |state: &State| -> Vec<String> {
        state.pending().iter().map(|(name, (ports, first))| format!("{name} {ports} {first}")).collect()
    };
    assert_eq!(pending(&state), ["hv2 2 Workload/b", "hv3 1 Network/net"]);
    state.apply(&[switch("hv2", 2)]);
    assert_eq!(pending(&state), ["hv3 1 Network/net"]);
}

#[test]
fn groups_are_addresses_that_packets_can_be_sent_to() {
    let asks = |groups: &[&str]| {
        let multicast = groups.iter().map(|ip| ip.parse().unwrap()).collect();
        [Change::set(Resource::Network(Arc::new(Network { multicast, ..network("prod", 1) })))]
    };
    fine(&asks(&["224.0.0.251", "255.255.255.255", "ff02::fb"]));
    for nobody in ["10.1.0.1", "10.1.255.255", "fd00:1::1", "0.0.0.0"] {
        one(&asks(&[nobody]), &format!("E Network/prod spec.multicast[0]: {nobody} is no group's address"));
    }
    let many: Vec<String> = (1..=17).map(|n| format!("239.0.0.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    fine(&asks(&many[..16]));
    one(&asks(&many), "E Network/prod spec.multicast[16]: 17 groups, and a network may ask for 16");
}

fn gateways(gateways: &[&str]) -> Change {
    let gateways = gateways.iter().map(|ip| ip.parse().unwrap()).collect();
    let uplink = Uplink { at: at("hv1", 9), vlan: 0 };
    Change::set(Resource::Network(Arc::new(Network { gateways, uplinks: vec![uplink], ..network("prod", 1) })))
}

#[test]
fn a_gateway_is_a_free_address_of_a_subnet_and_the_only_one_there() {
    fine(&[gateways(&["10.1.0.254", "fd00:1::fe"])]);
    one(&[gateways(&["10.2.0.1"])], "E Network/prod spec.gateways[0]: 10.2.0.1 is outside of the network's subnets");
    one(
        &[gateways(&["10.1.0.253", "10.1.0.254"])],
        "E Network/prod spec.gateways[1]: 10.1.0.0/16 has a gateway already, 10.1.0.253",
    );
    for ip in ["10.1.0.0", "10.1.255.255", "fd00:1::"] {
        let expected = format!("E Network/prod spec.gateways[0]: {ip} is the first or last address of");
        one(&[gateways(&[ip])], &expected);
    }
    // The last address of an IPv6 subnet is a host's; a subnet of two addresses has two hosts (RFC 3021).
    fine(&[gateways(&["fd00:1::ffff:ffff:ffff:ffff"])]);
    let pair = Network { subnets: vec!["10.9.0.0/31".parse().unwrap()], ..network("pair", 7) };
    fine(&[Change::set(Resource::Network(Arc::new(Network { gateways: vec!["10.9.0.0".parse().unwrap()], ..pair })))]);
    one(
        &[gateways(&["10.1.0.1"])],
        "E Network/prod spec.gateways[0]: address 10.1.0.1 in network prod is already taken by Workload/w1",
    );
    one(
        &[gateways(&["10.1.0.254"]), workload("w2", "prod", 2, &["10.1.0.254"], None)],
        "E Workload/w2 spec.interfaces[0].ips[0]: address 10.1.0.254 in network prod is already taken by Network/prod",
    );
    let mut state = world();
    state.apply(&[gateways(&["10.1.0.254"])]);
    let late = [workload("w2", "prod", 2, &["10.1.0.254"], None)];
    assert!(state.check(&late)[0].message.ends_with("already taken by Network/prod"));
    // An address may change hands in one step.
    let given = [gateways(&["10.1.0.1"]), workload("w1", "prod", 1, &["10.1.0.254"], Some(at("hv1", 1)))];
    assert_eq!(state.check(&given), vec![]);
    state.apply(&given);
    assert!(state.check(&late)[0].message.ends_with("already taken by Workload/w1"));
    let mut virtual_mac = workload("w2", "prod", 2, &[], None);
    if let Some(Resource::Workload(w)) = &mut virtual_mac.value {
        Arc::make_mut(w).interfaces[0].mac = GATEWAY_MAC;
    }
    one(&[virtual_mac], "E Workload/w2 spec.interfaces[0].mac: 02:b1:00:00:00:01 is the address of every gateway");
}

#[test]
fn overlay_addresses_and_ports_are_nobody_elses() {
    let vtep = |text, id, ip: &str| {
        let mut change = switch(text, id);
        if let Some(Resource::Switch(s)) = &mut change.value {
            Arc::make_mut(s).vtep = Some(ip.parse().unwrap());
        }
        change
    };
    fine(&[vtep("hv1", 1, "192.0.2.1"), vtep("hv2", 2, "192.0.2.2")]);
    one(
        &[vtep("hv1", 1, "2001:db8::1"), vtep("hv2", 2, "2001:db8::1")],
        "E Switch/hv2 spec.vtep: VTEP address 2001:db8::1 is already taken by Switch/hv1",
    );
    let mut state = world();
    state.apply(&[vtep("hv1", 1, "192.0.2.1")]);
    assert!(state.check(&[vtep("hv2", 2, "192.0.2.1")])[0].message.ends_with("already taken by Switch/hv1"));
    let port = |port: &str| Attachment { switch: name("hv1"), port: Port::Name(port.into()) };
    one(
        &[workload("w2", "prod", 2, &[], Some(port("bh-geneve")))],
        "E Workload/w2 spec.interfaces[0].attachment.port: bh-geneve of switch hv1 is an overlay port",
    );
    one(
        &[uplinks("prod", 1, &[(port("bh-vxlan"), 0)])],
        "E Network/prod spec.uplinks[0].port: bh-vxlan of switch hv1 is an overlay port",
    );
}

/// What is seen on a host: port, workload, last octet of the MAC address.
fn seen(host: &str, plugged: &[(u32, &str, u8)]) -> Change {
    let plugged = plugged.iter().map(|(port, workload, mac)| Plugged {
        port: Port::Number(*port),
        workload: name(workload),
        mac: Mac([2, 0, 0, 0, 0, *mac]),
    });
    Change::set(Resource::Host(Arc::new(Host { name: name(host), underlay_mtu: None, plugged: plugged.collect() })))
}

#[test]
fn an_interface_is_where_its_document_says_or_else_where_it_was_seen() {
    fine(&[seen("hv1", &[(1, "w9", 9), (2, "w9", 8)])]);
    one(&[seen("hv1", &[(2, "w9", 9), (1, "w8", 8)])], "E Host/hv1 spec.plugged[1]: ports out of order");
    one(
        &[seen("hv1", &[(1, "w9", 9)]), seen("hv2", &[(1, "w9", 9)])],
        "E Host/hv2 spec.plugged[0]: having interface 02:00:00:00:00:09 of workload w9 is already taken by Host/hv1",
    );
    let mut state = world();
    // w1 is at hv1 port 1 by its document; port 9 is an uplink; w3 is not there yet.
    state.apply(&[seen("hv1", &[(1, "w2", 2), (3, "w1", 1), (4, "w3", 3), (9, "w4", 4)])]);
    for (text, mac) in [("w2", 2), ("w3", 3), ("w4", 4)] {
        state.apply(&[workload(text, "prod", mac, &[], None)]);
    }
    let place = |state: &State, text: &str| {
        let workload = &state.workloads[&name(text)];
        state.attachment(workload, &workload.interfaces[0])
    };
    let all = |state: &State| ["w1", "w2", "w3", "w4"].map(|text| place(state, text));
    assert_eq!(all(&state), [Some(at("hv1", 1)), None, Some(at("hv1", 4)), None]);
    assert_eq!(state.workload_on(&at("hv1", 4)).unwrap().name, name("w3"));
    assert_eq!(state.workload_on(&at("hv1", 3)), None);
    // Once nobody says otherwise, what was seen counts.
    state.apply(&[workload("w1", "prod", 1, &[], None), uplinks("prod", 1, &[])]);
    assert_eq!(all(&state), [3, 1, 4, 9].map(|port| Some(at("hv1", port))));
    // In one step, an interface may move from host to host.
    let moved = [seen("hv1", &[]), seen("hv2", &[(5, "w2", 2)])];
    assert_eq!(state.check(&moved), vec![]);
    state.apply(&moved);
    assert_eq!(all(&state), [None, Some(at("hv2", 5)), None, None]);
    state.apply(&[Change::remove(key(Kind::Host, "hv2"))]);
    assert_eq!(place(&state, "w2"), None);
}

fn link(text: &str, a: Attachment, b: Attachment) -> Change {
    Change::set(Resource::Link(Arc::new(Link { name: name(text), a, b })))
}

fn with_vtep(text: &str, id: u64) -> Change {
    let Some(Resource::Switch(switch)) = switch(text, id).value else { panic!() };
    let vtep = "192.0.2.1".parse().ok();
    Change::set(Resource::Switch(Arc::new(Switch { vtep, ..Switch::clone(&switch) })))
}

#[test]
fn a_link_is_between_two_switches_of_the_fabric() {
    let mut state = world();
    state.apply(&[switch("hv2", 2), link("l", at("hv1", 7), at("hv2", 7))]);
    let told = |changes: &[Change]| state.check(changes).iter().map(ToString::to_string).collect::<Vec<_>>();
    let says = |changes: &[Change], what: &str| {
        let told = told(changes);
        assert!(told.len() == 1 && told[0].contains(what), "{what}: {told:#?}");
    };
    assert_eq!(told(&[link("l", at("hv1", 7), at("hv2", 8))]), Vec::<String>::new());
    says(&[link("m", at("hv1", 8), at("hv2", 7))], "port 7 of switch hv2 is already taken by Link/l");
    says(&[link("m", at("hv1", 8), at("hv1", 6))], "both ends are on one switch");
    says(&[link("m", at("hv1", 1), at("hv2", 8))], "port 1 of switch hv1 is a port of Workload/w1");
    says(&[link("m", at("hv1", 9), at("hv2", 8))], "port 9 of switch hv1 is a port of Network/prod");
    says(&[workload("w2", "prod", 2, &[], Some(at("hv1", 7)))], "port 7 of switch hv1 is a port of Link/l");
    says(&[uplinks("dev", 2, &[(at("hv1", 7), 5)])], "port 7 of switch hv1, VLAN 5, is a port of Link/l");
    says(&[with_vtep("hv2", 2)], "has no links");
    says(&[with_vtep("hv3", 3), link("m", at("hv1", 8), at("hv3", 8))], "has no links");
    // What is given up in the same step is free.
    let freed = [link("l", at("hv1", 8), at("hv2", 7)), workload("w2", "prod", 2, &[], Some(at("hv1", 7)))];
    assert_eq!(told(&freed), Vec::<String>::new());
    state.apply(&[Change::remove(key(Kind::Link, "l"))]);
    assert_eq!(state.links_of(&name("hv1")).count() + state.links_of(&name("hv2")).count(), 0);
}

#[test]
fn one_network_learns() {
    let learns = |text: &str, vni| {
        Change::set(Resource::Network(Arc::new(Network { learn_workloads: true, ..network(text, vni) })))
    };
    fine(&[learns("lab", 7)]);
    one(
        &[learns("lab", 7), learns("test", 8)],
        "E Network/test spec.learnWorkloads: learning workloads is already taken by Network/lab",
    );
    let mut state = world();
    state.apply(&[learns("lab", 7)]);
    let refused = state.check(&[learns("test", 8)]);
    assert!(refused[0].message.contains("already taken by Network/lab"), "{refused:?}");
    assert_eq!(refused[0].path, "spec.learnWorkloads");
    // In one step, another one may take over.
    let handed = [subnets("lab", 7, &["10.1.0.0/16"]), learns("test", 8)];
    assert_eq!(state.check(&handed), vec![]);
    state.apply(&handed);
    assert_eq!(state.learning().map(|network| network.name.as_str()), Some("test"));
}

#[test]
fn a14_what_was_learned_gives_way_to_what_is_declared() {
    let learns = |learn_workloads, gateways: &[&str]| {
        let gateways = gateways.iter().map(|ip| ip.parse().unwrap()).collect();
        let network = Network { learn_workloads, gateways, ..network("lab", 7) };
        Change::set(Resource::Network(Arc::new(network)))
    };
    let adopted = Switch::adopted(DatapathId(5));
    let there = Attachment { switch: adopted.name.clone(), port: Port::Number(3) };
    let learned = workload("learned-020000000009", "lab", 9, &["10.1.0.9"], Some(there.clone()));
    let learned = match learned.value {
        Some(Resource::Workload(workload)) => {
            let labels: Labels = [(Arc::from(LEARNED), Arc::from("true"))].into_iter().collect();
            Workload { labels: labels.into(), ..(*workload).clone() }
        }
        _ => panic!("no workload"),
    };
    let (him, it) = (Kind::Workload.named(&learned.name), Kind::Switch.named(&adopted.name));
    let mut state = world();
    let learned = Change::set(Resource::Workload(learned.into()));
    state.apply(&[learns(true, &[]), Change::set(Resource::Switch(adopted.into())), learned.clone()]);

    let link = |a: Attachment| Change::set(Resource::Link(Arc::new(Link { name: name("l"), a, b: at("hv1", 4) })));
    for declared in [
        workload("x", "lab", 1, &["10.1.0.9"], None),
        workload("x", "lab", 9, &["10.1.0.1"], None),
        workload("x", "lab", 1, &["10.1.0.1"], Some(there.clone())),
        link(there.clone()),
        uplinks("prod", 1, &[(there.clone(), 5)]),
        learns(true, &["10.1.0.9"]),
        learns(false, &[]),
        subnets("lab", 7, &["10.2.0.0/16"]),
    ] {
        let yielding: Vec<Key> = state.yielding([&declared].into_iter()).into_iter().collect();
        assert_eq!(yielding, std::slice::from_ref(&him), "{declared:?}");
        let gone = [declared.clone(), Change::remove(him.clone())];
        let errors = |changes: &[Change]| state.check(changes).iter().filter(|d| d.severity == Severity::Error).count();
        assert_eq!(errors(&gone), 0, "{declared:?}");
    }
    let removed = Change::remove(key(Kind::Network, "lab"));
    assert!(state.yielding([&removed].into_iter()).contains(&him));
    assert!(state.yielding([&Change::remove(it.clone())].into_iter()).contains(&him));
    assert!(state.yielding([&switch("leaf", 5)].into_iter()).contains(&it));
    // What is another's, in another network, or about himself, he has no part in.
    for change in [
        workload("x", "prod", 9, &["10.1.0.9"], None),
        workload("x", "lab", 1, &["10.1.0.1"], Some(Attachment { port: Port::Number(4), ..there.clone() })),
        workload(him.name.as_str(), "lab", 9, &["10.1.0.10"], None),
        learned,
        learns(true, &["10.1.0.10"]),
        switch("leaf", 6),
    ] {
        assert_eq!(state.yielding([&change].into_iter()), BTreeSet::new(), "{change:?}");
    }
    // Those who are declared give way to nobody.
    let ours = workload("x", "prod", 1, &["10.1.0.1"], Some(at("hv1", 1)));
    assert_eq!(state.yielding([&ours].into_iter()), BTreeSet::new());
}

#[test]
fn many_addresses_that_are_taken_are_each_told_at_their_place() {
    let ips: Vec<String> = (0..20_000).map(|n: u16| format!("10.1.{}.{}", n >> 8, n & 255)).collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    let both = |text, mac| workload(text, "n", mac, &ips, None);
    let changes = [subnets("n", 1, &["10.1.0.0/16"]), both("a", 1), both("b", 2)];
    let found = State::default().check(&changes);
    assert_eq!(found.len(), ips.len());
    for (nth, ip) in [(0, "10.1.0.0"), (300, "10.1.1.44")] {
        let path = format!("spec.interfaces[0].ips[{nth}]");
        let of = found.iter().find(|finding| finding.path == path).unwrap();
        assert_eq!(of.key, key(Kind::Workload, "b"));
        assert_eq!(of.message, format!("address {ip} in network n is already taken by Workload/a"));
    }
}
