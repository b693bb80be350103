#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use bulkhead_openflow::wire::hello::error_type;

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
fn transaction_ids_that_begin_again_name_their_entries() {
    let sent = [u32::MAX - 1, u32::MAX, 1, 2];
    let items = Items::new(sent.into_iter().zip((0..4).map(Item::Add)).collect());
    for (at, xid) in sent.into_iter().enumerate() {
        assert_eq!(items.get(xid), Some(Item::Add(at)));
    }
    assert_eq!(items.get(3), None);
}
