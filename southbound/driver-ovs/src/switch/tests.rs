#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use bulkhead_openflow::wire::{
    hello::error_type,
    oxm::{Match, Oxm},
};
use bulkhead_pipeline::Cause;

#[test]
fn a_flood_of_rejected_packets_is_answered_at_a_rate() {
    let mut allowance = Allowance::new(REJECTS_PER_SECOND);
    let second = (0..10_000).filter(|_| allowance.take(Duration::from_secs(1))).count();
    assert_eq!(second, REJECTS_PER_SECOND as usize);
    let tenth = (0..10_000).filter(|_| allowance.take(Duration::from_millis(1100))).count();
    assert_eq!(tenth, REJECTS_PER_SECOND as usize / 10);
}

#[test]
fn a_switch_that_does_not_tell_its_entries_is_connected_again() {
    let refusal = || ErrorMsg { kind: error_type::BAD_REQUEST, code: 5, experimenter: None, data: Vec::new() };
    let asked = Parts { xid: 9, part: 3 };
    let mut switch = Switch::new(&[], 0);
    switch.pending = Pending::Read(asked, Program::new());
    assert_eq!(switch.error(8, &refusal()), Ok(None), "another message was refused");
    let Err(end) = switch.error(9, &refusal()) else { panic!("the session goes on") };
    assert!(end.to_string().starts_with("the switch refuses to tell its entries: "), "{end}");
    // Counters are worth no session.
    switch.pending = Pending::Count(asked, Sums::new());
    assert!(matches!(switch.error(9, &refusal()), Ok(Some(Report::NotCounted(_)))));
    assert!(switch.is_idle());
}

#[test]
fn a19_a_flood_of_logged_packets_is_cut_off_and_counted() {
    let mut switch = Switch::new(&[], 0);
    let cookie = Cookie { cause: Cause::Rule(7), flags: Cookie::DROPPED }.to_bits();
    let mut data = vec![0; 12];
    // The beginning of 1,000 bytes.
    data.extend([8, 0, 0x45, 0, 0x03, 0xda, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    data.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2]);
    let metadata = Match::new(vec![Oxm::exact(OxmField::InPort, 3)]);
    let (buffer_id, total_len, reason) = (NO_BUFFER, 1_000, layout::LOG_REASON);
    let packet = PacketIn { buffer_id, total_len, reason, table: 9, cookie, metadata, data };
    let mut reported = |count: u32, now| (0..count).filter_map(|_| switch.logged(&packet, now)).collect::<Vec<_>>();
    let first = reported(1_000, Duration::from_secs(1));
    assert_eq!(first.len(), LOGS_PER_SECOND as usize);
    let Report::Logged(logged) = &first[0] else { panic!("{first:?}") };
    assert_eq!((logged.cause, logged.dropped, logged.missed), (Cause::Rule(7), true, 0));
    assert_eq!((logged.packet.value(Field::Ipv4Dst), logged.packet.value(Field::L4Dst)), (0x0a00_0002, 80));
    assert_eq!(logged.packet.in_port, Port::Number(3));
    // What was left out is told with the next one, and once.
    let next = reported(2, Duration::from_secs(2));
    let missed = |report: &Report| if let Report::Logged(logged) = report { logged.missed } else { u64::MAX };
    assert_eq!(next.iter().map(missed).collect::<Vec<_>>(), [900, 0]);
}

#[test]
fn transaction_ids_that_begin_again_name_their_entries() {
    let sent = [u32::MAX - 1, u32::MAX, 1, 2];
    let items = Items::new(sent.into_iter().zip((0..4).map(Item::Add)).collect());
    for (at, xid) in sent.into_iter().enumerate() {
        assert_eq!(items.get(xid), Some(Item::Add(at)));
    }
    assert_eq!(items.get(3), None);
}
