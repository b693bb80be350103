//! What entries do that carry packets between switches: a choice among ports, bits of a field, frames that tell of links.

use bulkhead_pipeline::{
    Action, Builtin, Cause, Entry, Field, MAX_PORTS, Match, Memory, Next, Outcome, Output, Packet, Program, Stage,
    Tracker, check, ethertype, ip_proto, render_entry, walk,
};
use bulkhead_topology::Port;
use std::collections::{BTreeMap, BTreeSet};

struct Nobody;

impl Tracker for Nobody {
    fn track(&mut self, _: u16, _: &Packet) -> (u128, Memory) {
        (0, Memory::default())
    }

    fn commit(&mut self, _: u16, _: &Packet, _: Memory) {}
}

const CAUSE: Cause = Cause::Builtin(Builtin::Deliver);

fn ports(count: u32) -> BTreeSet<Port> {
    (1..=count).map(Port::Number).collect()
}

fn entry(stage: Stage, actions: Vec<Action>, next: Next) -> Entry {
    Entry::new(stage, 1, Match::any(), actions, next, CAUSE)
}

fn outcome(actions: Vec<Action>, packet: Packet) -> Outcome {
    let next = if actions.contains(&Action::Discover) { Next::Drop } else { Next::Done };
    walk(&Program::from_iter([entry(Stage::Classify, actions, next)]), &mut Nobody, packet).outcome
}

fn tcp(from: (u32, u16), to: (u32, u16)) -> Packet {
    Packet::new(Port::Number(99))
        .with(Field::EthType, ethertype::IPV4)
        .with(Field::IpProto, ip_proto::TCP)
        .with(Field::Ipv4Src, from.0)
        .with(Field::Ipv4Dst, to.0)
        .with(Field::L4Src, from.1)
        .with(Field::L4Dst, to.1)
}

fn way(count: u32, packet: Packet) -> Option<Port> {
    match outcome(vec![Action::Output(Output::among(ports(count)).unwrap())], packet) {
        Outcome::Delivered { port, .. } => Some(port),
        _ => None,
    }
}

#[test]
fn a_connection_has_one_of_several_ways_in_both_directions_and_connections_spread() {
    let mut used: BTreeMap<Port, u32> = BTreeMap::new();
    for source in 1000..1400 {
        let (a, b) = ((0x0a00_0001, source), (0x0a00_0002, 80));
        let port = way(4, tcp(a, b)).unwrap();
        assert_eq!(way(4, tcp(b, a)), Some(port.clone()));
        // Ethernet addresses are rewritten on the way.
        assert_eq!(way(4, tcp(a, b).with(Field::EthSrc, 7u8).with(Field::EthDst, 8u8)), Some(port.clone()));
        *used.entry(port).or_default() += 1;
    }
    assert_eq!(used.keys().cloned().collect::<BTreeSet<_>>(), ports(4));
    assert!(used.values().all(|count| (60..140).contains(count)), "{used:?}");
    let other = |mac: u64| way(4, Packet::new(Port::Number(99)).with(Field::EthSrc, mac).with(Field::EthDst, 1u8));
    assert!((2..50).map(other).collect::<BTreeSet<_>>().len() == 4, "what is no IP spreads by Ethernet addresses");
}

#[test]
fn nothing_goes_back_by_a_choice() {
    let back = (1000..1100).filter(|source| {
        let mut packet = tcp((1, *source), (2, 80));
        packet.in_port = Port::Number(2);
        way(2, packet).is_none()
    });
    assert!((20..80).contains(&back.count()));
}

#[test]
fn a_choice_is_among_several() {
    assert_eq!(Output::among(BTreeSet::new()), None);
    assert_eq!(Output::among(ports(1)), Some(Output::Port(Port::Number(1))));
    let two = vec![Port::Number(1), Port::Number(2)];
    assert_eq!(Output::among(ports(2)), Some(Output::OneOf(two.clone().into())));
    assert_eq!(Output::among(ports(1000)).unwrap().ports().len(), MAX_PORTS);
    let entry = |ports: Vec<Port>| entry(Stage::Deliver, vec![Action::Output(Output::OneOf(ports.into()))], Next::Done);
    let sound = |ports| check(&Program::from_iter([entry(ports)])).is_empty();
    assert!(sound(two.clone()));
    for wrong in [vec![], two[..1].to_vec(), vec![two[1].clone(), two[0].clone()], vec![two[0].clone(); 2]] {
        assert!(!sound(wrong));
    }
    assert!(!sound((0..=256).map(Port::Number).collect()));
    assert_eq!(entry(two.clone()).ports().cloned().collect::<Vec<_>>(), two, "it needs them all");
    assert!(render_entry(&entry(two)).contains("output one of 1|2"));
}

#[test]
fn some_bits_are_set_and_the_others_stay() {
    let mac = 0x0611_2233_4455_u64;
    let set = Action::set_bits(Field::EthSrc, 1 << 47, 0b11 << 46);
    let out = Action::Output(Output::Port(Port::Number(1)));
    let packet = Packet::new(Port::Number(9)).with(Field::EthSrc, mac | 1 << 46);
    let Outcome::Delivered { packet, .. } = outcome(vec![set.clone(), out], packet) else { panic!("not delivered") };
    assert_eq!(packet.value(Field::EthSrc), u128::from(mac | 1 << 47));
    let sound = |action| check(&Program::from_iter([entry(Stage::Deliver, vec![action], Next::Done)])).is_empty();
    let bits = Action::set_bits;
    assert!(sound(set));
    assert!(!sound(bits(Field::EthSrc, 1, 2)), "outside its mask");
    assert!(!sound(bits(Field::EthSrc, 1, 5)), "two runs of bits");
    assert!(!sound(bits(Field::EthSrc, 0, 0)), "no bits");
    assert!(!sound(bits(Field::EthSrc, 0, 1 << 48)), "none of its bits");
    assert!(!sound(bits(Field::EthSrc, 0, (1 << 48) - 1)), "all of it");
    assert!(!sound(bits(Field::Network, 0, 1)), "metadata, and not of this stage");
}

#[test]
fn a_frame_that_may_tell_of_a_link_goes_to_the_controller_and_nowhere_else() {
    let packet = Packet::new(Port::Number(1)).with(Field::EthType, 0x88ccu16);
    assert_eq!(outcome(vec![Action::Discover], packet), Outcome::Discovered(CAUSE));
    let sound = |actions, next| check(&Program::from_iter([entry(Stage::Classify, actions, next)])).is_empty();
    assert!(sound(vec![Action::Discover], Next::Drop));
    assert!(!sound(vec![Action::Discover, Action::PopVlan], Next::Drop));
    assert!(!sound(vec![Action::Discover], Next::Stage(Stage::Antispoof)));
}
