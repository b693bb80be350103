//! What switches tell the controller where a network learns its workloads, and that it goes no further.

use crate::common;
use crate::journey;
use bulkhead_compile::Compiler;
use bulkhead_pipeline::{Builtin, Cause, Field, Outcome, Packet, check, ethertype, ip_proto, walk};
use bulkhead_policy::{Change, Resource, State, model::LEARNED};
use bulkhead_topology::Port;
use common::{apply, changes, compile, name, state};
use journey::Fixed;
use std::{net::Ipv4Addr, sync::Arc};

const LEAF: &str = "
kind: Network
metadata: {name: net}
spec: {vni: 1, subnets: [10.0.0.0/24, \"fd00::/64\"], defaultAction: allow, learnWorkloads: true}
---
kind: Switch
metadata: {name: leaf}
spec: {driver: sim}
---
kind: Switch
metadata: {name: hv}
spec: {driver: sim, vtep: 192.0.2.1}
---
kind: Workload
metadata: {name: declared}
spec: {network: net, interfaces: [{mac: \"02:00:00:00:00:01\", ips: [10.0.0.1], attachment: {switch: leaf, port: p1}}]}
---
kind: Workload
metadata: {name: there}
spec: {network: net, interfaces: [{mac: \"02:00:00:00:00:03\", ips: [10.0.0.3], attachment: {switch: hv, port: p3}}]}
";

const LEARN: Outcome = Outcome::Discovered(Cause::Builtin(Builtin::Learn));

/// The state, with a workload at port p2 as the controller learns it.
fn learned() -> State {
    let mut state = state(LEAF);
    let document = "kind: Workload\nmetadata: {name: learned-020000000002}\nspec: {network: net, interfaces: [{mac: \
                    \"02:00:00:00:00:02\", ips: [10.0.0.2], attachment: {switch: leaf, port: p2}}]}\n";
    let change = changes(document).remove(0);
    let Some(Resource::Workload(workload)) = change.value else { panic!("{change:?}") };
    let mut workload = (*workload).clone();
    workload.labels = Arc::new([(Arc::from(LEARNED), Arc::from("true"))].into());
    let change = Change::set(Resource::Workload(workload.into()));
    state.apply(&[change]);
    state
}

fn outcome(compiler: &Compiler, switch: &str, packet: Packet) -> Outcome {
    walk(compiler.program(&name(switch)).unwrap(), &mut Fixed(0), packet).outcome
}

fn frame(port: &str, mac: u8, kind: u128) -> Packet {
    Packet::new(Port::Name(port.into()))
        .with(Field::EthSrc, 0x0200_0000_0000 | u64::from(mac))
        .with(Field::EthDst, 0xffff_ffff_ffff_u64)
        .with(Field::Vlan, 0u8)
        .with(Field::EthType, kind)
}

/// A question of a host for an address.
fn arp(port: &str, mac: u8, from: [u8; 4], to: [u8; 4]) -> Packet {
    frame(port, mac, ethertype::ARP)
        .with(Field::ArpOp, 1u8)
        .with(Field::ArpSha, 0x0200_0000_0000 | u64::from(mac))
        .with(Field::ArpSpa, Ipv4Addr::from(from).to_bits())
        .with(Field::ArpTpa, Ipv4Addr::from(to).to_bits())
}

fn solicit(port: &str, mac: u8, from: &str, to: &str) -> Packet {
    let bits = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().to_bits();
    frame(port, mac, ethertype::IPV6)
        .with(Field::IpProto, ip_proto::ICMPV6)
        .with(Field::IpFrag, 0u8)
        .with(Field::IpTtl, 255u8)
        .with(Field::IcmpType, 135u8)
        .with(Field::IcmpCode, 0u8)
        .with(Field::Ipv6Src, bits(from))
        .with(Field::Ipv6Dst, bits("ff02::1:ff00:9"))
        .with(Field::NdTarget, bits(to))
        .with(Field::NdSll, 0x0200_0000_0000 | u64::from(mac))
}

#[test]
fn strangers_are_told_of_on_switches_without_tunnels_and_nothing_of_theirs_passes() {
    let state = learned();
    let compiler = compile(&state);
    for switch in ["leaf", "hv"] {
        assert_eq!(check(compiler.program(&name(switch)).unwrap()), []);
    }
    let stranger = arp("p9", 9, [10, 0, 0, 9], [10, 0, 0, 1]);
    assert_eq!(outcome(&compiler, "leaf", stranger.clone()), LEARN);
    assert_eq!(outcome(&compiler, "leaf", frame("p9", 9, ethertype::IPV4)), LEARN);
    assert_eq!(outcome(&compiler, "leaf", frame("p9", 9, ethertype::IPV6)), LEARN);
    // Neither tagged nor of another kind.
    let tagged = stranger.clone().with(Field::Vlan, 0x1007u16);
    assert_eq!(outcome(&compiler, "leaf", tagged), Outcome::Dropped(Cause::Builtin(Builtin::Vlan)));
    assert!(matches!(outcome(&compiler, "leaf", frame("p9", 9, 0x88b5)), Outcome::Dropped(Cause::Miss(_))));
    assert_ne!(outcome(&compiler, "leaf", frame("p9", 9, 0x88cc)), LEARN);
    assert!(matches!(outcome(&compiler, "hv", stranger), Outcome::Dropped(Cause::Miss(_))));
}

#[test]
fn other_addresses_of_learned_workloads_are_told_of_and_those_of_declared_ones_dropped() {
    let state = learned();
    let compiler = compile(&state);
    let spoofs = Outcome::Dropped(Cause::Builtin(Builtin::Antispoof));
    let other = |port, mac| arp(port, mac, [10, 0, 0, 77], [10, 0, 0, 1]);
    assert_eq!(outcome(&compiler, "leaf", other("p2", 2)), LEARN);
    assert_eq!(outcome(&compiler, "leaf", other("p1", 1)), spoofs);
    // Another MAC at his port, an address of no host of the network, and another's hardware address.
    assert_eq!(outcome(&compiler, "leaf", other("p2", 7)), spoofs);
    assert_eq!(outcome(&compiler, "leaf", arp("p2", 2, [192, 0, 2, 7], [10, 0, 0, 1])), spoofs);
    let lies = other("p2", 2).with(Field::ArpSha, 0x0200_0000_0007_u64);
    assert_eq!(outcome(&compiler, "leaf", lies), spoofs);
    assert_eq!(outcome(&compiler, "leaf", solicit("p2", 2, "fd00::2", "fd00::9")), LEARN);
    assert_eq!(outcome(&compiler, "leaf", solicit("p1", 1, "fd00::1", "fd00::9")), spoofs);
}

#[test]
fn questions_for_whom_nobody_knows_are_told_of_and_others_answered() {
    let state = learned();
    let compiler = compile(&state);
    let arp_drop = Outcome::Dropped(Cause::Builtin(Builtin::Arp));
    for (port, mac) in [("p1", 1), ("p2", 2)] {
        let asks = |to| arp(port, mac, [10, 0, 0, mac], [10, 0, 0, to]);
        assert_eq!(outcome(&compiler, "leaf", asks(99)), LEARN);
        let answered = outcome(&compiler, "leaf", asks(3 - mac));
        assert!(!matches!(answered, Outcome::Dropped(_) | Outcome::Discovered(_)), "{answered:?}");
        // What is news of oneself, or an answer, is no question.
        assert_eq!(outcome(&compiler, "leaf", asks(mac)), arp_drop);
        assert_eq!(outcome(&compiler, "leaf", asks(99).with(Field::ArpOp, 2u8)), arp_drop);
    }
    assert_eq!(outcome(&compiler, "leaf", solicit("p1", 1, "fe80::ff:fe00:1", "fd00::9")), LEARN);
    assert_eq!(outcome(&compiler, "hv", arp("p3", 3, [10, 0, 0, 3], [10, 0, 0, 99])), arp_drop);
}

#[test]
fn nothing_is_told_once_no_network_learns() {
    let mut state = learned();
    let mut compiler = compile(&state);
    let learns = |compiler: &Compiler| {
        let entries = compiler.program(&name("leaf")).unwrap().iter();
        entries.filter(|entry| entry.cause == Cause::Builtin(Builtin::Learn)).count()
    };
    assert!(learns(&compiler) > 0);
    let off = LEAF.replace(", learnWorkloads: true", "");
    let gone = Change::remove(bulkhead_policy::Kind::Workload.named(&name("learned-020000000002")));
    let off: Vec<Change> = changes(&off).into_iter().chain([gone]).collect();
    apply(&mut state, &mut compiler, &off).unwrap();
    assert_eq!(learns(&compiler), 0);
    assert_eq!(compiler.program(&name("leaf")), compile(&state).program(&name("leaf")));
    apply(&mut state, &mut compiler, &changes(LEAF)).unwrap();
    assert_eq!(compiler.program(&name("leaf")), compile(&state).program(&name("leaf")));
    assert!(learns(&compiler) > 0);
}
