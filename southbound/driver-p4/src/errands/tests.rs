use super::*;
use crate::{
    P4INFO,
    controller::{Refused, Way},
};
use bulkhead_dataplane::reject::Why;

fn info() -> Info {
    Info::from_text(P4INFO).unwrap()
}

fn refused(info: &Info) -> PacketIn {
    let mut payload = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0];
    payload.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 53, 0, 8, 0, 0]);
    let refused = Refused { why: Why::Refused, came: Way::Port(7), vlan: 0, asker: 2, asked: 3 };
    PacketIn { payload, metadata: refused.metadata(info).unwrap() }
}

#[test]
fn a19_a_flood_of_refused_packets_is_answered_at_a_rate() {
    let (info, mut errands) = (info(), Errands::new());
    let mut answers = |now| (0..5_000).filter_map(|_| errands.packet(&refused(&info), &info, now)).count();
    assert_eq!(answers(Duration::from_secs(1)), REJECTS_PER_SECOND as usize);
    assert_eq!(answers(Duration::from_millis(1100)), REJECTS_PER_SECOND as usize / 10);
}

#[test]
fn an_answer_is_as_short_as_what_it_quotes_whatever_a_device_sends() {
    let (info, mut errands) = (info(), Errands::new());
    let mut packet = refused(&info);
    packet.payload[16..18].copy_from_slice(&[0xff, 0xff]);
    packet.payload.resize(20 << 20, 7);
    let out = errands.packet(&packet, &info, Duration::from_secs(1)).unwrap();
    assert!(out.payload.len() < 2 * usize::from(REJECT_BYTES), "{}", out.payload.len());
    assert_eq!(Way::leaving(&out.metadata, &info), Some(Way::Port(7)));
    // Nothing comes of what says nothing.
    for wrong in [PacketIn { metadata: Vec::new(), ..packet.clone() }, PacketIn { payload: vec![0; 13], ..packet }] {
        assert_eq!(errands.packet(&wrong, &info, Duration::from_secs(1)), None);
    }
}
