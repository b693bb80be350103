//! The tracker places packets as Open vSwitch's does.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_driver_sim::{Headers, Tracker};
use bulkhead_pipeline::{Memory, Packet, Tracker as _, conn};
use bulkhead_topology::Port;

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const R: [u8; 4] = [10, 0, 0, 254];

fn ipv4(protocol: u8, from: [u8; 4], to: [u8; 4], fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((20 + payload.len() as u16).to_be_bytes());
    ip.extend([0, 0]);
    ip.extend(fragment.to_be_bytes());
    ip.extend([64, protocol, 0, 0]);
    ip.extend(from);
    ip.extend(to);
    ip.extend(payload);
    ip
}

fn frame(ip: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0], ip].concat()
}

/// As long as a TCP header, which says so in its byte 12; its flags are SYN.
fn ports(from: u16, to: u16) -> Vec<u8> {
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &[0; 8], &[0x50, 2], &[0; 6]].concat()
}

fn icmp(kind: u8, echo: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(echo.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(rest);
    bytes
}

struct Bench(Tracker);

impl Bench {
    fn packet(&mut self, ip: &[u8]) -> Packet {
        let frame = frame(ip);
        let packet = Packet::parse(Port::Number(1), &frame).unwrap();
        self.0.look(Headers::parse(&packet, &frame));
        packet
    }

    fn track(&mut self, zone: u16, ip: &[u8]) -> u128 {
        let packet = self.packet(ip);
        self.0.track(zone, &packet).0
    }

    fn commit(&mut self, zone: u16, ip: &[u8]) {
        let packet = self.packet(ip);
        self.0.commit(zone, &packet, Memory { service: 7, ..Memory::default() });
    }
}

fn bench() -> Bench {
    Bench(Tracker::default())
}

#[test]
fn replies_belong_to_committed_connections_of_their_zone() {
    let mut t = bench();
    let (there, back) = (ipv4(6, A, B, 0, &ports(1000, 80)), ipv4(6, B, A, 0, &ports(80, 1000)));
    assert_eq!(t.track(1, &there), conn::NEW);
    assert_eq!(t.track(1, &back), conn::NEW, "nothing was committed");
    t.commit(1, &there);
    assert_eq!(t.track(1, &there), conn::EST);
    assert_eq!(t.track(1, &back), conn::EST | conn::RPL);
    assert_eq!(t.track(2, &back), conn::NEW, "another zone");
    assert_eq!(t.track(1, &ipv4(6, B, A, 0, &ports(80, 1001))), conn::NEW, "another port");
    assert_eq!(t.track(1, &ipv4(17, B, A, 0, &ports(80, 1000))), conn::NEW, "another protocol");
}

#[test]
fn a_segment_that_cannot_begin_a_connection_is_invalid() {
    let [fin, syn, rst, ack] = [1, 2, 4, 16];
    let mut t = bench();
    let segment = |flags: u8| {
        let mut header = ports(1000, 80);
        header[13] = flags;
        ipv4(6, A, B, 0, &header)
    };
    for (flags, expected) in [
        (syn, conn::NEW),
        // A connection that is older than the tracker.
        (ack, conn::NEW),
        (fin | ack, conn::NEW),
        (syn | ack, conn::INV),
        (syn | fin, conn::INV),
        (syn | rst, conn::INV),
        (fin, conn::INV),
        (0, conn::INV),
    ] {
        assert_eq!(t.track(1, &segment(flags)), expected, "{flags:#x}");
    }
    t.commit(1, &segment(syn));
    assert_eq!(t.track(1, &segment(syn | ack)), conn::EST);
}

#[test]
fn echoes_are_told_apart_by_identifier() {
    let mut t = bench();
    let request = ipv4(1, A, B, 0, &icmp(8, 5, &[]));
    assert_eq!(t.track(1, &ipv4(1, B, A, 0, &icmp(0, 5, &[]))), conn::INV, "a reply to nothing");
    t.commit(1, &request);
    assert_eq!(t.track(1, &ipv4(1, B, A, 0, &icmp(0, 5, &[]))), conn::EST | conn::RPL);
    assert_eq!(t.track(1, &ipv4(1, B, A, 0, &icmp(0, 6, &[]))), conn::INV);
}

#[test]
fn a_question_in_the_other_direction_is_no_answer() {
    let mut t = bench();
    let (there, back) = (ipv4(1, A, B, 0, &icmp(8, 5, &[])), ipv4(1, B, A, 0, &icmp(8, 5, &[])));
    t.commit(1, &there);
    assert_eq!(t.track(1, &back), conn::NEW);
    t.commit(1, &back);
    assert_eq!(t.track(1, &ipv4(1, A, B, 0, &icmp(0, 5, &[]))), conn::EST | conn::RPL);
    // Nor is a question of another kind the same one, or another kind's answer its own.
    assert_eq!(t.track(1, &ipv4(1, A, B, 0, &icmp(13, 5, &[]))), conn::NEW);
    assert_eq!(t.track(1, &ipv4(1, B, A, 0, &icmp(14, 5, &[]))), conn::INV);
    // An error about it is known by what it quotes.
    assert_eq!(t.track(1, &ipv4(1, R, A, 0, &icmp(3, 0, &there))), conn::REL | conn::RPL);
}

#[test]
fn sctp_goes_by_addresses_alone() {
    let mut t = bench();
    t.commit(1, &ipv4(132, A, B, 0, &ports(1, 2)));
    assert_eq!(t.track(1, &ipv4(132, A, B, 0, &ports(3, 4))), conn::EST);
}

#[test]
fn errors_belong_to_the_connection_that_they_quote() {
    let mut t = bench();
    let there = ipv4(17, A, B, 0, &ports(1000, 53));
    let error = |from, to, quoted: &[u8]| ipv4(1, from, to, 0, &icmp(3, 0, quoted));
    assert_eq!(t.track(1, &error(B, A, &there)), conn::INV, "about nothing");
    t.commit(1, &there);
    let packet = t.packet(&error(R, A, &there));
    let (bits, memory) = t.0.track(1, &packet);
    assert_eq!((bits, memory.service), (conn::REL | conn::RPL, 7), "a router on the way may send it");
    assert_eq!(t.track(1, &error(A, B, &ipv4(17, B, A, 0, &ports(53, 1000)))), conn::REL);
    assert_eq!(t.track(1, &error(B, A, &there[..22])), conn::INV, "cut off");
}

#[test]
fn a_flood_is_bounded() {
    let mut t = bench();
    for n in 0..70_000u32 {
        let [_, _, a, b] = n.to_be_bytes();
        let high = (n >> 16) as u16;
        t.commit(1, &ipv4(17, A, [10, 1, a, b], 0, &ports(high, 53)));
    }
    assert_eq!(t.0.len(), 65_536);
}
