use super::*;
use crate::P4INFO;
use bulkhead_pipeline::{Action, Entry, Field, Match, Next, Packet, Stage};
use proptest::prelude::*;
use std::sync::LazyLock;

static INFO: LazyLock<Info> = LazyLock::new(|| Info::from_text(P4INFO).unwrap());

fn addresses() -> impl Strategy<Value = IpAddr> {
    // An IPv6 address of those that stand for IPv4's is the same one.
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<u128>().prop_map(|bits| ip(bits | 1 << 127))]
}

fn ways() -> impl Strategy<Value = Way> {
    let header = (prop_oneof![Just(Tunnel::Geneve), Just(Tunnel::Vxlan)], addresses(), 0..1u32 << 24, any::<u32>());
    prop_oneof![
        (1..=layout::MAX_PORT).prop_map(Way::Port),
        header.prop_map(|(tunnel, far, vni, identity)| Way::Tunnel(Header { tunnel, far, vni, identity })),
    ]
}

fn refusals(came: Way) -> impl Strategy<Value = Refused> {
    let why = prop_oneof![
        Just(Why::Refused),
        addresses().prop_map(Why::Expired),
        addresses().prop_map(Why::NoRoute),
        any::<u16>().prop_map(Why::TooBig),
    ];
    (why, 0..0x1000u16, any::<[u32; 2]>()).prop_map(move |(why, vlan, [asker, asked])| Refused {
        why,
        came,
        vlan,
        asker,
        asked,
    })
}

/// Something to tell, and what is said of it.
fn tolds() -> impl Strategy<Value = (Told, Vec<PacketMetadata>)> {
    let line = proptest::option::of((any::<u32>().prop_map(Cause::Rule), any::<bool>()));
    let told = ways().prop_flat_map(|came| (Just(came), proptest::option::of(refusals(came))));
    (told, [(); 4].map(|()| line.clone())).prop_map(|((came, refused), lines)| {
        let bits = lines.map(|line| line.map_or(0, |(cause, drops)| said_of(cause, drops)));
        let log = |sort: &str| bits[LINES.iter().position(|name| *name == format!("log_{sort}")).unwrap()];
        let said = Told::metadata(came, refused.as_ref(), log, &INFO).unwrap();
        (Told { came, refused, lines: lines.into_iter().flatten().collect() }, said)
    })
}

/// What an entry of a rule says.
fn said_of(cause: Cause, drops: bool) -> u128 {
    let next = if drops { Next::Drop } else { Next::Stage(Stage::Verdict) };
    layout::log(&Entry::new(Stage::EgressBaseline, 1, Match::any(), vec![Action::Log], next, cause)).unwrap()
}

proptest! {
    #[test]
    fn what_is_said_is_understood((told, said) in tolds(), way in ways()) {
        prop_assert!(bulkhead_p4runtime::check::packet(INFO.packet_in(), &said).is_ok());
        prop_assert_eq!(Told::of(&said, &INFO), Some(told));
        let said = way.metadata(&INFO).unwrap();
        prop_assert!(bulkhead_p4runtime::check::packet(INFO.packet_out(), &said).is_ok());
        prop_assert_eq!(Way::leaving(&said, &INFO), Some(way));
    }

    #[test]
    fn whatever_a_device_says_does_no_harm(
        said in proptest::collection::vec((0..16u32, proptest::collection::vec(any::<u8>(), 0..20)), 0..18),
        frame: Vec<u8>,
    ) {
        let said = said.into_iter().map(|(metadata_id, value)| PacketMetadata { metadata_id, value });
        if let Some(Told { refused: Some(refused), .. }) = Told::of(&said.collect::<Vec<_>>(), &INFO) {
            let _ = refused.answer(&frame);
        }
    }

    /// One field of it is something else: another one, or nothing.
    #[test]
    fn a_lie_is_another_truth_or_none(
        (told, said) in tolds(),
        at: prop::sample::Index,
        value: Vec<u8>,
    ) {
        prop_assume!(told.refused.is_some());
        let (at, mut lie) = (at.index(said.len()), said.clone());
        lie[at].value = value;
        if let Some(other) = Told::of(&lie, &INFO) {
            let port = match other.came { Way::Port(port) => port, Way::Tunnel(_) => 1 };
            prop_assert!((1..=layout::MAX_PORT).contains(&port));
            prop_assert!(other.refused.is_none_or(|refused| refused.vlan < 0x1000 && refused.came == other.came));
        }
        let twice = [&said[..], &said[at..=at]].concat();
        prop_assert_eq!(Told::of(&twice, &INFO), None);
        lie.remove(at);
        prop_assert_eq!(Told::of(&lie, &INFO), None);
    }
}

#[test]
fn ports_that_are_none_are_not_answered() {
    for (port, known) in [(0, false), (1, true), (PORT, false), (511, false), (0xfff2, false)] {
        let said = Told::metadata(Way::Port(port), None, |_| 0, &INFO).unwrap();
        assert_eq!(Told::of(&said, &INFO).is_some(), known, "{port}");
    }
}

/// A UDP packet from 10.0.0.1 to 10.0.0.2.
fn frame() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0];
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 53, 0, 8, 0, 0]);
    frame
}

#[test]
fn an_answer_leaves_by_the_port_that_the_packet_came_by_with_its_tag() {
    let refused = Refused { why: Why::Refused, came: Way::Port(7), vlan: 9, asker: 2, asked: 3 };
    let (way, answer) = refused.answer(&frame()).unwrap();
    let packet = Packet::parse(Port::Number(7), &answer).unwrap();
    assert_eq!((way, packet.get(Field::Vlan), packet.get(Field::IcmpType)), (Way::Port(7), Some(0x1009), Some(3)));
    assert_eq!(packet.get(Field::EthDst), Some(0x0200_0000_0001));
}

#[test]
fn an_answer_goes_back_by_the_tunnel_as_from_whom_the_packet_was_for() {
    let header = |tunnel, identity| Header { tunnel, far: IpAddr::from([192, 0, 2, 1]), vni: 5001, identity };
    let answer = |came, asker| {
        let refused = Refused { why: Why::Refused, came: Way::Tunnel(came), vlan: 0, asker, asked: 0x3_0008 };
        let (way, data) = refused.answer(&frame()).unwrap();
        (way, data[..6].to_vec())
    };
    let reply = REPLY_MAC.0.to_vec();
    for (came, identity) in [
        (header(Tunnel::Geneve, 7), 0x3_0008),
        (header(Tunnel::Geneve, 0), 0x3_0008),
        // With VXLAN an identity goes along where one came along, as much of it as there is room for.
        (header(Tunnel::Vxlan, 7), 8),
        (header(Tunnel::Vxlan, 0), 0),
    ] {
        assert_eq!(answer(came, 7), (Way::Tunnel(Header { identity, ..came }), reply.clone()));
    }
    // An outsider's switch judges nothing.
    assert_eq!(answer(header(Tunnel::Geneve, 1), identity::EXTERNAL).1, [2, 0, 0, 0, 0, 1]);
}

/// The program's numbers are the ones of here.
#[test]
fn the_program_has_these_numbers() {
    let source = include_str!("../../../p4/bulkhead.p4").to_owned() + include_str!("../../../p4/controller_headers.p4");
    for line in [
        format!("const bit<9> PORT_CONTROLLER = {PORT};"),
        format!("const bit<16> PORT_MOST = {};", layout::MAX_PORT),
        format!("const bit<8> TOLD_REJECT = {REJECT};"),
        format!("const bit<8> TOLD_EXPIRED = {EXPIRED};"),
        format!("const bit<8> TOLD_NO_ROUTE = {NO_ROUTE};"),
        format!("const bit<8> TOLD_TOO_BIG = {TOO_BIG};"),
        format!("const bit<32> METER_TOLD = {TOLD};"),
        format!("const bit<32> METER_LOG = {LOG};"),
        format!("const bit<32> CLONE_SESSION = {COPIES};"),
        format!("const bit<32> PACKET_OUT_LENGTH = {};", bytes_of(INFO.packet_out())),
        format!("const bit<32> TOLD_LENGTH = {} + {};", reject::REJECT_BYTES, bytes_of(INFO.packet_in())),
    ] {
        assert!(source.contains(&line), "{line}");
    }
}

fn bytes_of(fields: &[Value]) -> u32 {
    let bits: u32 = fields.iter().map(|field| field.width).sum();
    assert_eq!(bits % 8, 0);
    bits / 8
}
