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

/// One that says to have 65,000 ports costs 2 MB each time that they are told.
#[test]
fn r25_however_often_ports_come_and_go_they_are_told_ten_times_a_second_and_the_last_word_is() {
    let port = |number, up: bool| OfPort {
        number,
        name: format!("p{number}"),
        // OFPPC_PORT_DOWN.
        config: u32::from(!up),
        mac: [0; 6],
        state: 0,
        features: [0; 4],
        speed_kbps: 0,
        max_speed_kbps: 0,
    };
    let (mut switch, mut session) = (Switch::new(&[port(1, true)], 0), Session::new(Default::default()));
    let mut told = Vec::new();
    for round in 0..1_000 {
        let now = Duration::from_millis(round);
        let (number, up) = (1 + u32::try_from(round % 3).unwrap(), round == 998);
        let reason = if round % 5 == 0 { PortReason::Delete } else { PortReason::Modify };
        switch.port(&PortStatus { reason, port: port(number, up) });
        told.extend(switch.tell(now).into_iter().map(|report| (now, report)));
        if switch.next_deadline().is_some_and(|due| due <= now) {
            told.extend(switch.tick(&mut session, now).unwrap().into_iter().map(|report| (now, report)));
        }
    }
    let times: BTreeSet<Duration> = told.iter().map(|(now, _)| *now).collect();
    assert_eq!((times.len(), times.first()), (10, Some(&Duration::ZERO)), "{told:?}");
    let due = switch.next_deadline().unwrap();
    assert_eq!(due, Duration::from_secs(1));
    let last = switch.tick(&mut session, due).unwrap();
    assert!(last.contains(&Report::PortStates(switch.ports.states())), "{last:?}");
    assert_eq!((switch.next_deadline(), switch.reported.clone()), (None, switch.ports.all()));
}

/// Nor does one that gives its ports other numbers all the time begin a session with each.
#[test]
fn r25_ports_that_change_numbers_all_the_time_begin_ten_sessions_a_second() {
    let port = |number| OfPort {
        number,
        name: "p".into(),
        config: 0,
        mac: [0; 6],
        state: 0,
        features: [0; 4],
        speed_kbps: 0,
        max_speed_kbps: 0,
    };
    let (mut switch, mut session) = (Switch::new(&[port(1)], 0), Session::new(Default::default()));
    let first = switch.session();
    for round in 0..500 {
        let now = Duration::from_millis(round);
        let number = 1 + u32::try_from(round % 2).unwrap();
        for (reason, number) in [(PortReason::Delete, 3 - number), (PortReason::Add, number)] {
            let status = Msg::PortStatus(PortStatus { reason, port: port(number) });
            switch.event(&mut session, Event::Message(0, status), now).unwrap();
        }
    }
    assert!((1..=10).contains(&(switch.session() - first)), "{}", switch.session() - first);
    assert!(switch.is_idle() && !switch.is_ready(), "what it means is not known yet");
    let told = switch.tick(&mut session, switch.next_deadline().unwrap()).unwrap();
    assert!(matches!(told[..], [Report::Connected { .. }, Report::PortStates(_)]), "{told:?}");
    assert!(switch.is_ready());
}
