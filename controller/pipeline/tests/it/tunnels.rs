//! What entries do about tunnels, TTLs and sizes, as the interpreter sees it, and what stages do not allow.

use bulkhead_pipeline::{
    Action, Builtin, Cause, Entry, Field, Match, Memory, Next, Outcome, Output, Packet, Program, Stage, Tracker, check,
    ethertype, overlay::Tunnel, walk,
};
use bulkhead_topology::Port;

struct Nobody;

impl Tracker for Nobody {
    fn track(&mut self, _: u16, _: &Packet) -> (u128, Memory) {
        (0, Memory::default())
    }

    fn commit(&mut self, _: u16, _: &Packet, _: Memory) {}
}

const CAUSE: Cause = Cause::Builtin(Builtin::Gateway);

fn entry(stage: Stage, matches: Match, actions: Vec<Action>, next: Next) -> Entry {
    Entry::new(stage, 1 + matches.fields().count() as u16, matches, actions, next, CAUSE)
}

fn outcome(entries: Vec<Entry>, packet: Packet) -> Outcome {
    walk(&Program::from_iter(entries), &mut Nobody, packet).outcome
}

fn frame(length: usize, ttl: u8, tagged: bool) -> Packet {
    let mut frame = vec![2; 12];
    if tagged {
        frame.extend([0x81, 0, 0, 5]);
    }
    frame.extend([8, 0, 0x45, 0, 0, 20, 0, 0, 0, 0, ttl, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.resize(length, 0);
    Packet::parse(Port::Number(1), &frame).unwrap()
}

/// Through classify, `locate` and `fit` out of a tunnel's port; what does not fit is told, as what has no TTL left.
fn program(located: Vec<Action>) -> Vec<Entry> {
    let out = vec![Action::SetOut(Tunnel::Vxlan.port()), Action::set(Field::OutTunnel, Tunnel::Vxlan as u128)];
    let send = vec![Action::Output(Output::Chosen)];
    let long = Match::any().with(Field::TooBig, 1u8);
    vec![
        entry(Stage::Classify, Match::any(), vec![Action::set(Field::SrcId, 0x1_2345)], Next::Stage(Stage::Locate)),
        entry(Stage::Locate, Match::any(), [out, located].concat(), Next::Stage(Stage::Fit)),
        entry(Stage::Fit, Match::any(), vec![Action::CheckSize(100)], Next::Stage(Stage::Deliver)),
        entry(Stage::Deliver, Match::any(), send, Next::Done),
        entry(Stage::Deliver, long, vec![Action::TooBig { mtu: 86 }], Next::Drop),
    ]
}

fn delivered(outcome: Outcome) -> Packet {
    let Outcome::Delivered { port, packet } = outcome else { panic!("{outcome:?}") };
    assert_eq!(port, Tunnel::Vxlan.port());
    *packet
}

#[test]
fn a_frame_is_as_long_as_it_is_without_its_tag() {
    delivered(outcome(program(vec![]), frame(100, 9, false)));
    delivered(outcome(program(vec![]), frame(104, 9, true)));
    for packet in [frame(101, 9, false), frame(105, 9, true)] {
        assert_eq!(outcome(program(vec![]), packet), Outcome::TooBig { cause: CAUSE, mtu: 86 });
    }
}

#[test]
fn a_ttl_is_taken_down_as_far_as_one() {
    let routed = || program(vec![Action::DecTtl]);
    assert_eq!(delivered(outcome(routed(), frame(60, 2, false))).get(Field::IpTtl), Some(1));
    for ttl in [0, 1] {
        assert_eq!(outcome(routed(), frame(60, ttl, false)), Outcome::Dropped(CAUSE));
        let mut told = routed();
        let from = "10.0.0.254".parse().unwrap();
        let spent = Match::any().with(Field::EthType, ethertype::IPV4).with(Field::IpTtl, ttl);
        told.push(entry(Stage::Locate, spent, vec![Action::Expired { from }], Next::Drop));
        assert_eq!(outcome(told, frame(60, ttl, false)), Outcome::Expired { cause: CAUSE, from });
    }
}

#[test]
fn an_identity_goes_whole_into_geneve_and_its_low_bits_into_vxlan() {
    let copy = |to| Action::Copy { from: Field::SrcId, to };
    let sent = delivered(outcome(program(vec![copy(Field::TunIdentity), copy(Field::TunGbp)]), frame(60, 9, false)));
    assert_eq!((sent.value(Field::TunIdentity), sent.value(Field::TunGbp)), (0x1_2345, 0x2345));
}

#[test]
fn a_packet_that_came_by_no_tunnel_says_so() {
    let packet = frame(60, 9, false);
    for field in Field::ALL.into_iter().filter(|field| field.is_tunnel()) {
        assert_eq!(packet.get(field), Some(0), "{}", field.as_str());
    }
    let from_tunnel = Match::any().with(Field::TunId, 0u8).with(Field::TunSrc4, 0u8);
    let probe = entry(Stage::Classify, from_tunnel, vec![Action::Probe], Next::Done);
    assert_eq!(outcome(vec![probe], packet), Outcome::Probe(CAUSE));
}

#[test]
fn stages_allow_what_is_theirs() {
    let complaint = |entry: Entry| check(&Program::from_iter([entry])).pop().map(|violation| violation.what);
    let set = |stage, action, next| complaint(entry(stage, Match::any(), vec![action], Next::Stage(next)));
    let copy = |from, to| Action::Copy { from, to };
    assert_eq!(set(Stage::Locate, copy(Field::SrcId, Field::TunGbp), Stage::Track), None);
    let narrow = set(Stage::Locate, copy(Field::Ipv4Src, Field::TunGbp), Stage::Track);
    assert_eq!(narrow.as_deref(), Some("copies ipv4_src into tun_gbp of another width"));
    assert_eq!(set(Stage::Deliver, Action::DecTtl, Stage::Deliver).as_deref(), Some("goes to deliver"));
    let early = set(Stage::Verdict, Action::CheckSize(9), Stage::Fit);
    assert_eq!(early.as_deref(), Some("sets too_big"));
    let some = Match::any().with(Field::EthType, ethertype::IPV4).masked(Field::IpTtl, 0u8, 0xfe);
    let some = complaint(entry(Stage::ArpNd, some, vec![], Next::Drop));
    assert_eq!(some.as_deref(), Some("matches ip_ttl under a mask"));
}
