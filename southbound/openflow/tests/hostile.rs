//! Messages that are made to hurt: rows A1 to A7 of the threat list, and mutated valid ones.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_openflow::text::parse_flow;
use bulkhead_openflow::{Config, DecodeError, Fault, Msg, Session};
use proptest::prelude::*;
use std::time::Duration;

/// A message of a type with this body and a right header.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + body.len()).unwrap().to_be_bytes();
    [&[4, kind, length[0], length[1], 0, 0, 0, 1], body].concat()
}

fn fault(kind: u8, body: &[u8]) -> Fault {
    let DecodeError { fault, .. } = Msg::decode(&message(kind, body)).expect_err("it was taken");
    fault
}

const FLOW_MOD: u8 = 14;
const GROUP_MOD: u8 = 15;
const MULTIPART_REPLY: u8 = 19;

/// A flow-mod's body up to its instructions.
fn flow_mod(instructions: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 40];
    body.extend([0, 1, 0, 4, 0, 0, 0, 0]);
    body.extend(instructions);
    body
}

fn apply(actions: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + actions.len()).unwrap().to_be_bytes();
    flow_mod(&[&[0, 4, length[0], length[1], 0, 0, 0, 0], actions].concat())
}

#[test]
fn a1_hello_with_a_zero_length_element_ends_the_session_at_once() {
    let hello = message(0, &[0, 1, 0, 0, 0, 0, 0, 16]);
    assert!(matches!(Msg::decode(&hello).unwrap_err().fault, Fault::Length { declared: 0, .. }));
    let mut session = Session::new(Config::default());
    assert!(session.received(&hello, Duration::ZERO).is_err());
    assert_eq!(session.next_deadline(Duration::ZERO), None, "the session is over");
}

#[test]
fn a2_zero_length_instructions_and_actions() {
    assert!(matches!(fault(FLOW_MOD, &flow_mod(&[0, 1, 0, 0, 0, 0, 0, 0])), Fault::Length { declared: 0, .. }));
    assert!(matches!(fault(FLOW_MOD, &apply(&[0, 0, 0, 0, 0, 0, 0, 0])), Fault::Length { declared: 0, .. }));
    let mut stats = vec![0, 1, 0, 0, 0, 0, 0, 0];
    stats.extend([0, 72]);
    stats.extend([0; 46]);
    stats.extend([0, 1, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(matches!(fault(MULTIPART_REPLY, &stats), Fault::Length { declared: 0, .. }));
}

#[test]
fn a3_zero_length_buckets_multipart_elements_bands_and_properties() {
    assert!(matches!(fault(GROUP_MOD, &[0; 24]), Fault::Length { declared: 0, .. }), "bucket");
    for kind in [1, 7, 10] {
        let mut body = vec![0, kind, 0, 0, 0, 0, 0, 0];
        body.extend([0; 80]);
        assert!(matches!(fault(MULTIPART_REPLY, &body), Fault::Length { declared: 0, .. }), "multipart {kind}");
    }
    assert!(matches!(fault(29, &[0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]), Fault::Length { declared: 0, .. }));
    let packet_in2 = [0, 0, 0x23, 0x20, 0, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(matches!(fault(4, &packet_in2), Fault::Length { declared: 0, .. }), "packet-in property");
}

#[test]
fn a4_lengths_below_the_fixed_part_or_beyond_the_end() {
    for length in [1, 4, 8, 15, 24, 255] {
        let output = [0, 0, 0, length, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(Msg::decode(&message(FLOW_MOD, &apply(&output))).is_err(), "action of {length}");
    }
    for length in [0, 3, 9, 255] {
        let mut body = vec![0; 40];
        body.extend([0, 1, 0, length, 0, 0, 0, 0]);
        assert!(Msg::decode(&message(FLOW_MOD, &body)).is_err(), "match of {length}");
    }
    // An experimenter's field shorter than the experimenter's id.
    let mut body = vec![0; 40];
    body.extend([0, 1, 0, 8, 0xff, 0xff, 0, 2]);
    assert!(matches!(fault(FLOW_MOD, &body), Fault::Length { declared: 2, .. }));
    let mut cut = message(FLOW_MOD, &flow_mod(&[]));
    cut.pop();
    assert!(Msg::decode(&cut).is_err());
}

#[test]
fn a5_numbers_without_a_meaning() {
    let mut body = flow_mod(&[]);
    body[17] = 9;
    assert_eq!(fault(FLOW_MOD, &body), Fault::Value(9));
    assert_eq!(fault(GROUP_MOD, &[0, 9, 0, 0, 0, 0, 0, 1]), Fault::Value(9));
    assert_eq!(fault(GROUP_MOD, &[0, 0, 9, 0, 0, 0, 0, 1]), Fault::Value(9));
    assert_eq!(fault(29, &[0, 9, 0, 0, 0, 0, 0, 1]), Fault::Value(9));
    assert_eq!(fault(24, &[0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Fault::Value(9));
    assert_eq!(fault(12, &[[9].as_slice(), &[0; 71]].concat()), Fault::Value(9));
    assert_eq!(fault(4, &[0x4f, 0x4e, 0x46, 0, 0, 0, 8, 0xfc, 0, 0, 0, 0, 0, 9, 0, 0]), Fault::Value(9));
}

#[test]
fn a6_deep_nesting() {
    let mut actions = Vec::new();
    for _ in 0..1000 {
        let length = u16::try_from(24 + actions.len()).unwrap().to_be_bytes();
        let head =
            [0xff, 0xff, length[0], length[1], 0, 0, 0x23, 0x20, 0, 35, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 0];
        actions.splice(0..0, head);
    }
    assert!(matches!(fault(FLOW_MOD, &apply(&actions)), Fault::Depth(_)));
    let mut bundle = message(20, &[]);
    for _ in 0..3 {
        bundle = message(4, &[&[0x4f, 0x4e, 0x46, 0, 0, 0, 8, 0xfd, 0, 0, 0, 1, 0, 0, 0, 1][..], &bundle].concat());
    }
    assert!(matches!(Msg::decode(&bundle).unwrap_err().fault, Fault::Depth(_)));
    let line = format!("actions={}ct_clear{}", "ct(exec(".repeat(10_000), "))".repeat(10_000));
    assert!(parse_flow(&line).is_err());
}

/// A7 is about a buffer that moves while it is read: here nothing that is decoded borrows from the input.
#[test]
fn a7_what_is_decoded_outlives_its_bytes() {
    let unknown = [0x12, 0x34, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let bytes = message(FLOW_MOD, &apply(&unknown));
    let decoded = Msg::decode(&bytes).unwrap().1;
    let copy = bytes.clone();
    drop(bytes);
    let mut again = Vec::new();
    decoded.encode(1, &mut again);
    assert_eq!(again, copy, "an action that is not known survives");
}

fn vectors() -> Vec<Vec<u8>> {
    [include_str!("vectors/ofctl.hex"), include_str!("vectors/vswitchd.hex")]
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| !line.starts_with('#'))
        .map(|line| (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect())
        .collect()
}

/// What is taken can be written, and is then read as the same.
fn stable(bytes: &[u8]) {
    let Ok((header, msg)) = Msg::decode(bytes) else { return };
    let mut again = Vec::new();
    msg.encode(header.xid, &mut again);
    // What carried no padding at its end may have grown beyond the longest message.
    if again.len() <= 0xffff && header.version == 4 {
        let (_, twice) = Msg::decode(&again).unwrap_or_else(|error| panic!("{error}: {msg:?}"));
        assert_eq!(twice, msg);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(kind in 0_u8..32, body in prop::collection::vec(any::<u8>(), 0..200)) {
        stable(&message(kind, &body));
    }

    #[test]
    fn mutated_messages_never_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let all = vectors();
        let mut bytes = which.get(&all).clone();
        for (at, value) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()).max(8));
        }
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        (bytes[2], bytes[3]) = (length[0], length[1]);
        stable(&bytes);
        let mut session = Session::new(Config::default());
        let _ = session.received(&bytes, Duration::ZERO);
    }

    #[test]
    fn random_text_never_panics(line in "[a-z_0-9=,:/.+()\\[\\]>-]{0,60}") {
        let _ = parse_flow(&line);
        let _ = parse_flow(&format!("actions={line}"));
    }
}
