//! What a switch does at its uplinks beside judging: neighbours are found through all of them, with their tags.

use bulkhead_compile::Compiler;
use bulkhead_pipeline::{
    Builtin, Cause, Field, Memory, Outcome, Packet, Program, Stage, Tracker, Walk, conn, ethertype, vlan, walk,
};
use bulkhead_policy::{
    Change, Resource, State,
    model::{Attachment, DefaultAction, Driver, Encap, Interface, Network, OnTighten, Role, Switch, Uplink, Workload},
};
use bulkhead_topology::{DatapathId, Mac, Name, Port, Vni};
use std::sync::Arc;

const WORKLOAD: u128 = 0x0200_0000_0001;
const GATEWAY: u128 = 0x0600_0000_0007;
const WORKLOAD_IP: u128 = 0x0a00_0001;
const GATEWAY_IP: u128 = 0x0a00_00fe;

struct Fresh;

impl Tracker for Fresh {
    fn track(&mut self, _: u16, _: &Packet) -> (u128, Memory) {
        (conn::NEW, Memory::default())
    }
    fn commit(&mut self, _: u16, _: &Packet, _: Memory) {}
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn port(text: &str) -> Port {
    Port::Name(text.into())
}

/// One workload, 10.0.0.1, at port w1 of hv1, in a network with these uplinks there.
fn program(uplinks: &[(&str, u16)]) -> Program {
    let at = |text| Attachment { switch: name("hv1"), port: port(text) };
    let network = Network {
        name: name("net"),
        vni: Vni::new(1).unwrap(),
        subnets: vec!["10.0.0.0/24".parse().unwrap()],
        encap: Encap::Geneve,
        default_action: DefaultAction::Allow,
        on_tighten: OnTighten::Revoke,
        uplinks: uplinks.iter().map(|(port, vlan)| Uplink { at: at(port), vlan: *vlan }).collect(),
        gateways: vec![],
        multicast: vec![],
        learn_workloads: false,
    };
    let (driver, role) = (Driver::Openflow(DatapathId(1)), Role::Hypervisor);
    let switch = Switch { name: name("hv1"), driver, vtep: None, role, ovsdb: None };
    let workload = Workload {
        name: name("w1"),
        labels: Default::default(),
        network: name("net"),
        interfaces: vec![Interface {
            mac: Mac([2, 0, 0, 0, 0, 1]),
            ips: vec![[10, 0, 0, 1].into()],
            attachment: Some(at("w1")),
        }],
        named_ports: Default::default(),
    };
    let resources = [
        Resource::Network(Arc::new(network)),
        Resource::Switch(Arc::new(switch)),
        Resource::Workload(Arc::new(workload)),
    ];
    let mut state = State::default();
    state.apply(&resources.map(Change::set));
    Compiler::new(&state, Default::default()).unwrap().0.program(&name("hv1")).unwrap().clone()
}

/// An ARP message between the workload and the gateway, on a VLAN.
fn arp(from_workload: bool, op: u8, tag: u16) -> Packet {
    let ends = [(WORKLOAD, WORKLOAD_IP), (GATEWAY, GATEWAY_IP)];
    let [from, to] = if from_workload { ends } else { [ends[1], ends[0]] };
    let tag = if tag == 0 { 0 } else { vlan::PRESENT | u128::from(tag) };
    Packet::new(port(if from_workload { "w1" } else { "up" }))
        .with(Field::EthSrc, from.0)
        .with(Field::EthDst, if op == 1 { 0xffff_ffff_ffff } else { to.0 })
        .with(Field::Vlan, tag)
        .with(Field::EthType, ethertype::ARP)
        .with(Field::ArpOp, op)
        .with(Field::ArpSha, from.0)
        .with(Field::ArpSpa, from.1)
        .with(Field::ArpTha, if op == 1 { 0 } else { to.0 })
        .with(Field::ArpTpa, to.1)
}

fn delivered<'a>(walk: &'a Walk<'_>) -> (&'a Port, &'a Packet) {
    let Outcome::Delivered { port, packet } = &walk.outcome else { panic!("{walk:#?}") };
    (port, packet)
}

#[test]
fn the_gateways_answer_reaches_who_asked() {
    for tag in [0, 7] {
        let program = program(&[("up", tag)]);
        let (at, asked) = (arp(true, 1, 0), arp(true, 1, tag));
        let found = walk(&program, &mut Fresh, at);
        assert_eq!(delivered(&found).0, &port("up"));
        assert_eq!(delivered(&found).1.get(Field::Vlan), asked.get(Field::Vlan));
        let found = walk(&program, &mut Fresh, arp(false, 2, tag));
        assert_eq!(delivered(&found).0, &port("w1"));
        assert_eq!(delivered(&found).1.get(Field::Vlan), Some(0));
        // And so does the switch's, for the workload, the gateway.
        let found = walk(&program, &mut Fresh, arp(false, 1, tag));
        let Outcome::Answered(answer) = &found.outcome else { panic!("{found:#?}") };
        assert_eq!(answer.get(Field::ArpSha), Some(WORKLOAD));
        assert_eq!(answer.get(Field::Vlan), asked.get(Field::Vlan));
    }
}

#[test]
fn of_several_uplinks_the_first_is_the_way_out_and_all_take_in() {
    let program = program(&[("up", 7), ("up", 0), ("other", 9)]);
    let found = walk(&program, &mut Fresh, arp(true, 1, 0));
    assert_eq!(delivered(&found).0, &port("up"));
    assert_eq!(delivered(&found).1.get(Field::Vlan), Some(vlan::PRESENT | 7));
    for (at, tag) in [("up", 7), ("up", 0), ("other", 9)] {
        let mut question = arp(false, 1, tag);
        question.in_port = port(at);
        let asked = question.get(Field::Vlan);
        let found = walk(&program, &mut Fresh, question);
        let Outcome::Answered(answer) = &found.outcome else { panic!("{found:#?}") };
        assert_eq!(answer.get(Field::Vlan), asked);
    }
}

#[test]
fn a_tag_below_the_tag_is_dropped_whether_the_switch_reads_it_or_not() {
    let program = program(&[("up", 7)]);
    let frame = |kinds: &[[u8; 4]]| {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 7];
        frame.extend(kinds.concat());
        frame.extend([8, 0, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 47, 0, 0, 198, 51, 100, 7, 10, 0, 0, 1]);
        Packet::parse(port("up"), &frame).unwrap()
    };
    for once in [[0x81, 0, 0, 7], [0x88, 0xa8, 0, 7]] {
        assert_eq!(delivered(&walk(&program, &mut Fresh, frame(&[once]))).0, &port("w1"));
        for inner in [[0x81, 0, 0, 7], [0x88, 0xa8, 0, 0]] {
            let found = walk(&program, &mut Fresh, frame(&[once, inner]));
            assert_eq!(found.outcome, Outcome::Dropped(Cause::Builtin(Builtin::Vlan)));
        }
    }
    // A switch that reads two of them still shows a tag once the outer one is off.
    let deep = program.stage(Stage::Antispoof).next().unwrap();
    assert_eq!((deep.cause, deep.actions.len()), (Cause::Builtin(Builtin::Vlan), 0));
    let tagged = program.stage(Stage::Antispoof).any(|entry| {
        entry.key.priority == deep.key.priority
            && entry.key.matches.get(Field::Vlan) == Some((vlan::PRESENT, vlan::PRESENT))
    });
    assert!(tagged);
}
