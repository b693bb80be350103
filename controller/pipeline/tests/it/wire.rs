//! Headers between switches: what is put on is taken off again, and what is not as it should be is not taken.

use bulkhead_pipeline::{
    Field, Packet,
    overlay::{Tunnel, arrive},
    wire::{FLOW_PORTS, Header, Received, Vtep, flow, receive},
};
use bulkhead_topology::{Mac, Port};
use proptest::prelude::*;
use std::net::IpAddr;

const HERE: Mac = Mac([2, 0, 0, 1, 0, 1]);
const THERE: Mac = Mac([2, 0, 0, 1, 0, 2]);

fn vtep(v6: bool, last: u8) -> IpAddr {
    if v6 { format!("2001:db8::{last}").parse().unwrap() } else { IpAddr::from([192, 0, 2, last]) }
}

fn here(v6: bool) -> Vtep {
    Vtep { mac: HERE, ip: vtep(v6, 1) }
}

/// What a switch with VTEP 2 sends to one with VTEP 1.
fn sent(header: &Header, frame: &[u8], v6: bool) -> Vec<u8> {
    let from = Vtep { mac: THERE, ip: vtep(v6, 2) };
    let there = Header { far: vtep(v6, 1), ..*header };
    there.put_on(frame, 50_000, from, HERE).unwrap()
}

fn header() -> impl Strategy<Value = (Header, bool)> {
    (any::<bool>(), 0..1u32 << 24, any::<u32>(), any::<bool>()).prop_map(|(geneve, vni, identity, v6)| {
        let (tunnel, identity) = if geneve { (Tunnel::Geneve, identity) } else { (Tunnel::Vxlan, identity & 0xffff) };
        (Header { tunnel, far: vtep(v6, 2), vni, identity }, v6)
    })
}

proptest! {
    #[test]
    fn what_is_put_on_is_taken_off((header, v6) in header(), frame in proptest::collection::vec(any::<u8>(), 14..100)) {
        let packet = sent(&header, &frame, v6);
        let grown = packet.len() - frame.len();
        let option = if header.tunnel == Tunnel::Geneve { 8 } else { 0 };
        prop_assert_eq!(grown, 14 + if v6 { 40 } else { 20 } + 8 + 8 + option);
        prop_assert_eq!(receive(here(v6), &packet), Received::Tunnelled(header, &frame));
        // Each byte that is missing or too much makes it something else.
        for wrong in [&packet[..packet.len() - 1], &[&packet[..], &[0]].concat()] {
            prop_assert!(!matches!(receive(here(v6), wrong), Received::Tunnelled(..)));
        }
        // The packet that a walk begins with is the one that the interpreter lets arrive.
        let mut leaves = Packet::parse(Port::Number(1), &frame).unwrap().with(Field::TunId, header.vni);
        match vtep(v6, 1) {
            IpAddr::V4(v4) => leaves.set(Field::TunDst4, v4.to_bits().into()),
            IpAddr::V6(v6) => leaves.set(Field::TunDst6, v6.to_bits()),
        }
        let identity = if header.tunnel == Tunnel::Geneve { Field::TunIdentity } else { Field::TunGbp };
        leaves.set(identity, header.identity.into());
        prop_assert_eq!(Header::of(header.tunnel, &leaves), Some(Header { far: vtep(v6, 1), ..header }));
        let mut arrived = arrive(&leaves, header.tunnel.port(), header.far);
        for field in [Field::TunDst4, Field::TunDst6] {
            arrived.set(field, 0);
        }
        prop_assert_eq!(header.packet(&frame).unwrap(), arrived);
    }

    #[test]
    fn nothing_breaks_a_look(own: [u8; 4], frame: Vec<u8>, v6: bool) {
        let mut near = [&HERE.0[..], &THERE.0, if v6 { &[0x86, 0xdd] } else { &[8, 0] }].concat();
        near.extend(&frame);
        let own = Vtep { mac: HERE, ip: own.into() };
        receive(own, &frame);
        receive(own, &near);
    }

    /// A byte that somebody changes makes a tunnel's packet another one, or none; never one that reads beyond its end.
    #[test]
    fn a_changed_byte_is_read_or_refused((header, v6) in header(), at in 0..78usize, to: u8) {
        let frame = [7; 64];
        let mut packet = sent(&header, &frame, v6);
        packet[at] = to;
        if let Received::Tunnelled(found, inside) = receive(here(v6), &packet) {
            prop_assert!(inside.len() + 8 >= frame.len() && inside.len() <= frame.len() + 8);
            prop_assert_eq!(found.tunnel, header.tunnel);
        }
    }
}

/// Byte for byte, as RFC 7348 §5 and RFC 8926 §3.4 draw them.
#[test]
fn headers_are_those_of_the_documents() {
    let frame = [0xee; 14];
    let header = |tunnel, identity| Header { tunnel, far: vtep(false, 2), vni: 0x01_0203, identity };
    let ip = |length: u8, sum: [u8; 2]| {
        let mut ip = [&HERE.0[..], &THERE.0, &[8, 0, 0x45, 0, 0, length, 0, 0, 0x40, 0, 64, 17], &sum].concat();
        ip.extend([192, 0, 2, 2, 192, 0, 2, 1]);
        ip
    };
    let udp = |to: u16, length: u8| [&[0xc3, 0x50][..], &to.to_be_bytes(), &[0, length, 0, 0]].concat();
    let plain = [ip(50, [0xb6, 0xb7]), udp(4789, 30), vec![8, 0, 0, 0, 1, 2, 3, 0], frame.to_vec()].concat();
    assert_eq!(sent(&header(Tunnel::Vxlan, 0), &frame, false), plain);
    let group = [ip(50, [0xb6, 0xb7]), udp(4789, 30), vec![0x88, 0, 0xab, 0xcd, 1, 2, 3, 0], frame.to_vec()].concat();
    assert_eq!(sent(&header(Tunnel::Vxlan, 0xabcd), &frame, false), group);
    let option = [2, 0, 0x65, 0x58, 1, 2, 3, 0, 0xff, 0xb0, 1, 1, 0, 0, 0xab, 0xcd].to_vec();
    let geneve = [ip(58, [0xb6, 0xaf]), udp(6081, 38), option, frame.to_vec()].concat();
    assert_eq!(sent(&header(Tunnel::Geneve, 0xabcd), &frame, false), geneve);
}

/// What contradicts itself, or says more than is understood, is counted and not read.
#[test]
fn what_is_not_as_it_should_be_is_malformed() {
    let frame = [1; 20];
    for (tunnel, v6, at, to, why) in [
        (Tunnel::Vxlan, false, 42, 0x00, "no VNI"),
        (Tunnel::Vxlan, false, 42, 0x0c, "another protocol inside"),
        (Tunnel::Vxlan, false, 39, 0, "UDP's length"),
        (Tunnel::Vxlan, false, 24, 0, "the header's checksum"),
        (Tunnel::Vxlan, false, 20, 0x20, "a fragment"),
        (Tunnel::Geneve, false, 42, 0x42, "version 1"),
        (Tunnel::Geneve, false, 42, 0x03, "more options"),
        (Tunnel::Geneve, false, 42, 0x01, "half an option"),
        (Tunnel::Geneve, false, 43, 0x80, "a control packet"),
        (Tunnel::Geneve, false, 43, 0x40, "critical options"),
        (Tunnel::Geneve, true, 64, 0x00, "no Ethernet inside"),
        (Tunnel::Geneve, true, 70, 0x00, "another class of options"),
        (Tunnel::Geneve, true, 72, 0x02, "another option"),
        (Tunnel::Geneve, true, 73, 0x00, "a shorter one"),
    ] {
        let header = Header { tunnel, far: vtep(v6, 2), vni: 5, identity: 9 };
        let mut packet = sent(&header, &frame, v6);
        assert_ne!(packet[at], to, "{why}");
        packet[at] = to;
        assert_eq!(receive(here(v6), &packet), Received::Malformed(tunnel), "{why}");
    }
    // Somebody else's.
    let packet = sent(&Header { tunnel: Tunnel::Vxlan, far: vtep(false, 2), vni: 5, identity: 0 }, &frame, false);
    for at in [5, 33, 37] {
        let mut other = packet.clone();
        other[at] ^= 0x40;
        assert_eq!(receive(here(false), &other), Received::Other);
    }
    assert_eq!(receive(here(true), &packet), Received::Other);
    // An IPv6 packet to an IPv4 address as IPv6 writes it is to nobody.
    let mut mapped = sent(&Header { tunnel: Tunnel::Vxlan, far: vtep(true, 2), vni: 5, identity: 0 }, &frame, true);
    mapped.splice(38..54, std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets());
    assert_eq!(receive(here(false), &mapped), Received::Other);
}

#[test]
fn who_asks_for_the_switch_is_answered() {
    let ask = |target: [u8; 4]| {
        let mut ask = [&[0xff; 6][..], &THERE.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &THERE.0, &[192, 0, 2, 2]].concat();
        ask.extend([0; 6]);
        ask.extend(target);
        ask
    };
    let answer =
        [&THERE.0[..], &HERE.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &HERE.0, &[192, 0, 2, 1], &THERE.0, &[192, 0, 2, 2]];
    assert_eq!(receive(here(false), &ask([192, 0, 2, 1])), Received::Asked(answer.concat()));
    assert_eq!(receive(here(false), &ask([192, 0, 2, 3])), Received::Other);
    assert_eq!(receive(here(true), &ask([192, 0, 2, 1])), Received::Other);
    let [asker, target] = [2, 1].map(|last| match vtep(true, last) {
        IpAddr::V6(v6) => v6.octets(),
        IpAddr::V4(_) => panic!(),
    });
    let solicit = |hops: u8, option: &[u8]| {
        let mut message = [&[0x33, 0x33, 0xff, 0, 0, 1][..], &THERE.0, &[0x86, 0xdd, 0x60, 0, 0, 0, 0]].concat();
        message.extend([24 + option.len() as u8, 58, hops]);
        message.extend([&asker[..], &target, &[135, 0, 0, 0, 0, 0, 0, 0], &target, option].concat());
        message
    };
    let own = [&[1, 1][..], &THERE.0].concat();
    for (option, answered) in [(&own[..], 86), (&[], 78)] {
        let Received::Asked(back) = receive(here(true), &solicit(255, option)) else { panic!() };
        let packet = Packet::parse(Port::Number(1), &back).unwrap();
        assert_eq!((back.len(), packet.value(Field::IcmpType), packet.value(Field::IpTtl)), (answered, 136, 255));
        assert_eq!(packet.value(Field::NdTarget), u128::from_be_bytes(target));
        let tells = if option.is_empty() { 0 } else { HERE.to_bits().into() };
        assert_eq!(packet.value(Field::NdTll), tells);
    }
    assert_eq!(receive(here(true), &solicit(254, &own)), Received::Other);
    assert_eq!(receive(here(true), &solicit(255, &[14, 1, 0, 0, 0, 0, 0, 0])), Received::Other);
    assert_eq!(receive(here(false), &solicit(255, &own)), Received::Other);
}

#[test]
fn a_flow_has_one_port_of_the_range() {
    let packet = |port: u16| {
        Packet::new(Port::Number(1))
            .with(Field::EthType, 0x0800u16)
            .with(Field::Ipv4Src, 0x0a00_0001u32)
            .with(Field::Ipv4Dst, 0x0a00_0002u32)
            .with(Field::IpProto, 6u8)
            .with(Field::L4Src, port)
            .with(Field::L4Dst, 80u16)
    };
    let ports: std::collections::BTreeSet<u16> = (0..1000).map(|port| flow(&packet(port))).collect();
    assert!(ports.len() > 900 && ports.iter().all(|port| *port >= FLOW_PORTS.0), "{}", ports.len());
    assert_eq!(flow(&packet(7)), flow(&packet(7)));
}
