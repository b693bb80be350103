use super::*;
use bulkhead_pipeline::{Field, Packet};
use bulkhead_topology::Port;
use proptest::prelude::*;

fn refused(frame: &[u8]) -> Option<Vec<u8>> {
    answer(frame, Why::Refused)
}

const ETHERNET: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut frame = ETHERNET.to_vec();
    frame.extend([8, 0, 0x45, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(payload);
    // As a short frame is filled up on the wire.
    frame.resize(frame.len().max(60), 0);
    frame
}

fn v6(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ETHERNET.to_vec();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([protocol, 64]);
    frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    frame.extend(payload);
    frame
}

fn syn(flags: u8, ack: u32) -> Vec<u8> {
    let mut segment = vec![0x12, 0x34, 0, 80, 0, 0, 0, 9];
    segment.extend(ack.to_be_bytes());
    segment.extend([0x50, flags, 1, 0, 0, 0, 0, 0]);
    segment
}

/// Sums to 0 with the checksum inside, as a receiver tests it.
fn whole(packet: &[u8]) -> bool {
    checksum(&[packet]) == 0
}

fn pseudo_v6(packet: &[u8]) -> Vec<u8> {
    [&packet[8..40], &[0, 0], &packet[4..6], &[0, 0, 0, packet[6]], &packet[40..]].concat()
}

fn pseudo_v4(packet: &[u8]) -> Vec<u8> {
    let length = (packet.len() as u16 - 20).to_be_bytes();
    [&packet[12..20], &[0, packet[9]], &length, &packet[20..]].concat()
}

#[test]
fn a_syn_is_reset() {
    let got = refused(&v4(6, &syn(2, 0))).unwrap();
    assert_eq!(got[..6], ETHERNET[6..]);
    assert_eq!(got[6..12], ETHERNET[..6]);
    let packet = &got[14..];
    assert!(whole(&packet[..20]) && whole(&pseudo_v4(packet)));
    assert_eq!((&packet[12..16], &packet[16..20]), (&[10, 0, 0, 2][..], &[10, 0, 0, 1][..]));
    // From port 80 to 0x1234, sequence 0, acknowledges 9 + 1, RST and ACK.
    assert_eq!(packet[20..34], [0, 80, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 10, 0x50, 0x14]);
    let got = refused(&v6(6, &syn(2, 0))).unwrap();
    assert!(whole(&pseudo_v6(&got[14..])));
    assert_eq!(got[54..68], [0, 80, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 10, 0x50, 0x14]);
}

#[test]
fn a_segment_that_acknowledges_is_reset_where_it_stands() {
    let got = refused(&v4(6, &syn(16, 77))).unwrap();
    assert_eq!(got[38..48], [0, 0, 0, 77, 0, 0, 0, 0, 0x50, 4]);
}

#[test]
fn other_protocols_get_icmp_that_quotes() {
    for (protocol, code) in [(17, 3), (132, 13), (1, 13)] {
        let frame = v4(protocol, &[8, 0, 0, 80, 0, 9, 0, 0, 7]);
        let got = refused(&frame).unwrap();
        let packet = &got[14..];
        assert_eq!((packet[9], packet[20], packet[21]), (1, 3, code));
        assert!(whole(&packet[..20]) && whole(&packet[20..]));
        // Not the padding.
        assert_eq!(packet[28..], frame[14..14 + 29]);
    }
    for (protocol, code) in [(17, 4), (132, 1), (58, 1)] {
        let frame = v6(protocol, &[128, 0, 0, 80, 0, 9, 0, 0, 7]);
        let got = refused(&frame).unwrap();
        let packet = &got[14..];
        assert_eq!((packet[6], packet[40], packet[41]), (58, 1, code));
        assert!(whole(&pseudo_v6(packet)));
        assert_eq!(packet[48..], frame[14..]);
    }
}

#[test]
fn a_tagged_frame_is_answered_with_its_tag() {
    let mut frame = v4(17, &[0; 8]);
    frame.splice(12..12, [0x81, 0, 0, 42]);
    let got = refused(&frame).unwrap();
    assert_eq!(Packet::parse(Port::Number(1), &got).unwrap().get(Field::Vlan), Some(0x102a));
}

#[test]
fn what_must_not_be_answered_is_not() {
    let silent = |frame: &[u8]| assert_eq!(refused(frame), None);
    silent(&v4(6, &syn(4, 0)));
    silent(&v4(1, &[3, 3, 0, 0, 0, 0, 0, 0]));
    silent(&v6(58, &[1, 4, 0, 0, 0, 0, 0, 0]));
    silent(&v6(58, &[135, 0, 0, 0, 0, 0, 0, 0]));
    let change = |at: usize, byte: u8| {
        let mut frame = v4(17, &[0; 8]);
        frame[at] = byte;
        frame
    };
    assert!(refused(&change(14, 0x45)).is_some());
    silent(&change(0, 0xff));
    silent(&change(6, 1));
    silent(&change(21, 5));
    silent(&change(26, 224));
    silent(&change(30, 239));
    let mut frame = v6(17, &[0; 8]);
    frame[38] = 0xff;
    silent(&frame);
}

proptest! {
    #[test]
    fn any_bytes_are_taken(frame: Vec<u8>, kind in prop_oneof![Just([8u8, 0]), Just([0x86, 0xdd]), Just([0x81, 0])]) {
        let _ = refused(&[&ETHERNET[..], &kind, &frame].concat());
        let _ = refused(&frame);
    }

    #[test]
    fn an_answer_is_never_answered(protocol: u8, payload in proptest::collection::vec(any::<u8>(), 0..80)) {
        for frame in [v4(protocol, &payload), v6(protocol, &payload)] {
            if let Some(got) = refused(&frame) {
                prop_assert_eq!(refused(&got), None);
                prop_assert!(Packet::parse(Port::Number(1), &got).is_ok());
            }
        }
    }
}

#[test]
fn who_runs_out_of_ttl_is_told_by_the_gateway() {
    let asked = v4(6, &syn(2, 0));
    let got = answer(&asked, Why::Expired("10.0.0.254".parse().unwrap())).unwrap();
    assert_eq!((&got[..6], &got[6..14]), (&ETHERNET[6..], &[2, 0, 0, 0, 0, 2, 8, 0][..]));
    let packet = &got[14..];
    assert!(whole(&packet[..20]) && whole(&packet[20..]));
    assert_eq!((packet[9], &packet[12..20]), (1, &[10, 0, 0, 254, 10, 0, 0, 1][..]));
    // RFC 792: type 11, code 0, nothing, then the packet: 40 bytes without what fills up the frame.
    assert_eq!((&packet[20..22], &packet[24..28]), (&[11, 0][..], &[0; 4][..]));
    assert_eq!(packet[28..], asked[14..54]);
    let asked = v6(6, &syn(2, 0));
    let got = answer(&asked, Why::Expired("fd00::fe".parse().unwrap())).unwrap();
    let packet = &got[14..];
    assert!(whole(&pseudo_v6(packet)));
    assert_eq!((packet[6], packet[23], packet[39]), (58, 0xfe, 1));
    assert_eq!((&packet[40..42], &packet[44..48]), (&[3, 0][..], &[0; 4][..]));
    assert_eq!(packet[48..], asked[14..]);
    // Where no route leads on: RFC 792 type 3, code 0; RFC 4443 type 1, code 0.
    let got = answer(&v4(6, &syn(2, 0)), Why::NoRoute("10.0.0.254".parse().unwrap())).unwrap();
    assert_eq!((&got[26..34], &got[34..36]), (&[10, 0, 0, 254, 10, 0, 0, 1][..], &[3, 0][..]));
    let got = answer(&asked, Why::NoRoute("fd00::fe".parse().unwrap())).unwrap();
    assert_eq!((got[14 + 23], &got[54..56]), (0xfe, &[1, 0][..]));
    assert_eq!(answer(&asked, Why::NoRoute("10.0.0.254".parse().unwrap())), None);
    // A gateway of the other family has nothing to say.
    assert_eq!(answer(&asked, Why::Expired("10.0.0.254".parse().unwrap())), None);
    assert_eq!(answer(&v4(6, &syn(2, 0)), Why::Expired("fd00::fe".parse().unwrap())), None);
}

#[test]
fn who_sends_too_much_is_told_how_much_fits() {
    let asked = v4(17, &[0x12, 0x34, 0, 53, 0, 8, 0, 0]);
    let got = answer(&asked, Why::TooBig(1442)).unwrap();
    let packet = &got[14..];
    assert!(whole(&packet[..20]) && whole(&packet[20..]));
    // From whom the packet was for; RFC 1191: type 3, code 4, 16 bits of nothing, the MTU.
    assert_eq!(packet[12..20], [10, 0, 0, 2, 10, 0, 0, 1]);
    assert_eq!((&packet[20..22], &packet[24..28]), (&[3, 4][..], &[0, 0, 0x05, 0xa2][..]));
    let asked = v6(6, &syn(2, 0));
    let packet = &answer(&asked, Why::TooBig(1442)).unwrap()[14..];
    assert!(whole(&pseudo_v6(packet)));
    // RFC 4443: type 2, code 0, 32 bits of MTU.
    assert_eq!((packet[23], packet[39]), (2, 1));
    assert_eq!((&packet[40..42], &packet[44..48]), (&[2, 0][..], &[0, 0, 0x05, 0xa2][..]));
    assert_eq!(packet[48..], asked[14..]);
}

#[test]
fn an_error_is_never_answered_whatever_the_reason() {
    let reasons = [Why::Refused, Why::TooBig(1442), Why::Expired("10.0.0.254".parse().unwrap())];
    for why in reasons.into_iter().chain([Why::Expired("fd00::fe".parse().unwrap())]) {
        assert_eq!(answer(&v4(1, &[11, 0, 0, 0, 0, 0, 0, 0]), why), None);
        assert_eq!(answer(&v6(58, &[2, 0, 0, 0, 0, 0, 5, 0]), why), None);
        assert_eq!(answer(&v6(58, &[135, 0, 0, 0, 0, 0, 0, 0]), why), None);
    }
}
