use super::*;
use crate::{P4INFO, layout};
use bulkhead_dataplane::reject::Why;
use bulkhead_pipeline::{Action, Cause, Entry, Field, Match, Next, Stage};

fn info() -> Info {
    Info::from_text(P4INFO).unwrap()
}

/// A UDP packet that was dropped by a rule, which is to be told to its sender, or written down.
fn packet(info: &Info, tell: bool, log: bool) -> PacketIn {
    let mut payload = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0];
    payload.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 53, 0, 8, 0, 0]);
    let came = Way::Port(7);
    let refused = Refused { why: Why::Refused, came, vlan: 0, asker: 2, asked: 3 };
    let entry = Entry::new(Stage::EgressPlatform, 1, Match::any(), vec![Action::Log], Next::Drop, Cause::Rule(5));
    let said = |sort: &str| if log && sort == "egress" { layout::log(&entry).unwrap() } else { 0 };
    PacketIn { payload, metadata: Told::metadata(came, tell.then_some(&refused), said, info).unwrap() }
}

#[test]
fn a19_a_flood_of_refused_packets_is_answered_at_a_rate() {
    let (info, mut errands) = (info(), Errands::new());
    let packet = packet(&info, true, false);
    let mut answers = |now| (0..5_000).filter_map(|_| errands.packet(&packet, &info, now).0).count();
    assert_eq!(answers(Duration::from_secs(1)), REJECTS_PER_SECOND as usize);
    assert_eq!(answers(Duration::from_millis(1100)), REJECTS_PER_SECOND as usize / 10);
}

#[test]
fn a19_a_flood_of_logged_packets_is_cut_off_and_counted() {
    let (info, mut errands) = (info(), Errands::new());
    let packet = packet(&info, false, true);
    let mut lines = |many: u32, now| {
        let reports = (0..many).flat_map(|_| errands.packet(&packet, &info, now).1);
        let lines = reports.map(|report| if let Report::Logged(line) = report { line } else { panic!("{report:?}") });
        lines.collect::<Vec<_>>()
    };
    let first = lines(1_000, Duration::from_secs(1));
    assert_eq!(first.len(), LOGS_PER_SECOND as usize);
    assert_eq!((first[0].cause, first[0].dropped, first[0].missed), (Cause::Rule(5), true, 0));
    assert_eq!((first[0].packet.value(Field::Ipv4Dst), first[0].packet.value(Field::L4Dst)), (0x0a00_0002, 53));
    assert_eq!(first[0].packet.in_port, Port::Number(7));
    // What was left out is told with the next one, and once.
    let next = lines(2, Duration::from_secs(2));
    assert_eq!(next.iter().map(|line| line.missed).collect::<Vec<_>>(), [900, 0]);
}

#[test]
fn an_answer_is_as_short_as_what_it_quotes_whatever_a_device_sends() {
    let (info, mut errands) = (info(), Errands::new());
    let mut packet = packet(&info, true, true);
    packet.payload[16..18].copy_from_slice(&[0xff, 0xff]);
    packet.payload.resize(20 << 20, 7);
    let (out, lines) = errands.packet(&packet, &info, Duration::from_secs(1));
    let out = out.unwrap();
    assert!(out.payload.len() < 2 * usize::from(REJECT_BYTES), "{}", out.payload.len());
    assert_eq!((Way::leaving(&out.metadata, &info), lines.len()), (Some(Way::Port(7)), 1));
    // Nothing comes of what says nothing.
    for wrong in [PacketIn { metadata: Vec::new(), ..packet.clone() }, PacketIn { payload: vec![0; 13], ..packet }] {
        assert_eq!(errands.packet(&wrong, &info, Duration::from_secs(1)), (None, Vec::new()));
    }
}
