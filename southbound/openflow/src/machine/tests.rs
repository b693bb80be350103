#![allow(clippy::unwrap_used, clippy::panic)]

use super::{Config, Event, Session, SessionError};
use crate::wire::async_config::{Role, RoleKind};
use crate::wire::bundle::{BundleStep, flags};
use crate::wire::flow::{FlowCommand, FlowMod};
use crate::wire::hello::{ErrorMsg, Hello, error_type};
use crate::wire::message::Msg;
use crate::wire::multipart::{MultipartBody, MultipartReply, MultipartRequest};
use crate::wire::port::Port;
use crate::wire::stats::{FlowStatsRequest, TableStats};
use crate::wire::switch::Features;
use std::time::Duration;

const T0: Duration = Duration::from_secs(1000);

fn seconds(n: u64) -> Duration {
    T0 + Duration::from_secs(n)
}

fn bytes(xid: u32, msg: &Msg) -> Vec<u8> {
    let mut out = Vec::new();
    msg.encode(xid, &mut out);
    out
}

fn sent(session: &mut Session) -> Vec<(u32, Msg)> {
    let output = session.take_output();
    let mut left = output.as_slice();
    let mut messages = Vec::new();
    while !left.is_empty() {
        let length = usize::from(u16::from_be_bytes([left[2], left[3]]));
        let (header, msg) = Msg::decode(&left[..length]).unwrap();
        messages.push((header.xid, msg));
        left = &left[length..];
    }
    messages
}

fn features() -> Features {
    Features { datapath_id: 0xb7, buffers: 0, tables: 254, auxiliary: 0, capabilities: 0 }
}

fn port() -> Port {
    Port {
        number: 7,
        mac: [2, 0, 0, 0, 0, 7],
        name: "web-1".into(),
        config: 0,
        state: 0,
        features: [0; 4],
        speed_kbps: 0,
        max_speed_kbps: 0,
    }
}

fn ports(more: bool) -> Msg {
    Msg::MultipartReply(MultipartReply { more, body: MultipartBody::PortDesc(vec![port()]) })
}

/// A session and what it asked for, up to the given step of the handshake.
fn up_to(config: Config, step: usize) -> Session {
    let mut session = Session::new(config);
    assert!(matches!(sent(&mut session)[..], [(_, Msg::Hello(_))]));
    if step >= 1 {
        session.received(&bytes(1, &Msg::Hello(Hello::only(4))), T0).unwrap();
    }
    if step >= 2 {
        let [(xid, Msg::FeaturesRequest)] = sent(&mut session)[..] else { panic!("no features-request") };
        session.received(&bytes(xid, &Msg::FeaturesReply(features())), T0).unwrap();
    }
    if step >= 3 {
        let [(xid, Msg::MultipartRequest(MultipartRequest::PortDesc))] = sent(&mut session)[..] else {
            panic!("ports were not asked for");
        };
        session.received(&bytes(xid, &ports(false)), T0).unwrap();
        assert_eq!(session.poll_event(), Some(Event::Connected { features: features(), ports: vec![port()] }));
    }
    session
}

fn up() -> Session {
    up_to(Config::default(), 3)
}

#[test]
fn a_switch_connects() {
    let mut session = up();
    assert!(session.is_up());
    assert_eq!(session.poll_event(), None);
}

#[test]
fn messages_may_come_byte_by_byte_or_all_at_once() {
    let stream: Vec<u8> =
        [bytes(5, &Msg::BarrierReply), bytes(6, &Msg::EchoRequest(vec![7; 300])), bytes(7, &Msg::BarrierReply)]
            .concat();
    for size in [1, 2, 3, 7, 8, 9, 100, 1000] {
        let mut session = up();
        for chunk in stream.chunks(size) {
            session.received(chunk, T0).unwrap();
        }
        assert_eq!(session.poll_event(), Some(Event::Message(5, Msg::BarrierReply)), "chunks of {size}");
        assert_eq!(session.poll_event(), Some(Event::Message(7, Msg::BarrierReply)), "chunks of {size}");
        assert_eq!(sent(&mut session), [(6, Msg::EchoReply(vec![7; 300]))], "chunks of {size}");
    }
}

#[test]
fn hello_without_a_bitmap_goes_by_the_header() {
    for (version, ok) in [(1_u8, false), (3, false), (4, true), (6, true)] {
        let mut session = up_to(Config::default(), 0);
        let mut hello = bytes(1, &Msg::Hello(Hello { versions: None }));
        hello[0] = version;
        assert_eq!(session.received(&hello, T0).is_ok(), ok, "version {version}");
        if !ok {
            assert_eq!(session.poll_event(), Some(Event::Dead(SessionError::Version(version))));
            assert!(matches!(&sent(&mut session)[..], [(_, Msg::Error(ErrorMsg { kind: 0, code: 0, .. }))]));
        }
    }
}

#[test]
fn a_bitmap_without_our_version_is_refused() {
    let mut session = up_to(Config::default(), 0);
    let hello = bytes(1, &Msg::Hello(Hello { versions: Some(vec![1 << 1 | 1 << 6]) }));
    assert_eq!(session.received(&hello, T0), Err(SessionError::Version(4)));
}

#[test]
fn a9_nothing_but_hello_before_hello() {
    for msg in [Msg::FeaturesReply(features()), Msg::EchoRequest(vec![]), Msg::BarrierReply, ports(false)] {
        let mut session = up_to(Config::default(), 0);
        assert!(matches!(session.received(&bytes(1, &msg), T0), Err(SessionError::Unexpected { .. })), "{msg:?}");
        assert!(matches!(session.poll_event(), Some(Event::Dead(_))));
        assert_eq!(session.next_deadline(T0), None);
    }
}

#[test]
fn a9_a_mistimed_or_forged_features_reply_ends_the_session() {
    let mut early = up_to(Config::default(), 1);
    assert!(early.received(&bytes(0x7777, &Msg::FeaturesReply(features())), T0).is_err());
    let mut again = up();
    let other = Features { datapath_id: 0xbad, ..features() };
    assert!(again.received(&bytes(2, &Msg::FeaturesReply(other)), T0).is_err());
    assert!(!again.is_up());
}

#[test]
fn a_second_hello_and_a_controllers_message_end_the_session() {
    for msg in [Msg::Hello(Hello::only(4)), Msg::FlowMod(FlowMod::new(FlowCommand::Add)), Msg::BarrierRequest] {
        let mut session = up();
        assert!(matches!(session.received(&bytes(1, &msg), T0), Err(SessionError::Unexpected { .. })), "{msg:?}");
    }
}

#[test]
fn garbage_ends_the_session_at_once() {
    for garbage in [&b"GET / HTTP/1.1\r\n"[..], &[4, 0, 0, 0, 0, 0, 0, 0], &[4, 10, 0, 9, 0, 0, 0, 0, 0], &[0; 8]] {
        let mut session = up();
        assert!(matches!(session.received(garbage, T0), Err(SessionError::Decode { .. })), "{garbage:?}");
        assert_eq!(session.received(&bytes(1, &Msg::BarrierReply), T0), Err(SessionError::NotConnected));
    }
}

#[test]
fn a_silent_switch_is_asked_and_then_given_up() {
    let mut session = up();
    assert_eq!(session.next_deadline(T0), Some(seconds(5)));
    session.tick(seconds(4));
    assert_eq!(sent(&mut session), []);
    session.tick(seconds(5));
    session.tick(seconds(6));
    assert!(matches!(sent(&mut session)[..], [(_, Msg::EchoRequest(_))]), "asked once");
    assert_eq!(session.next_deadline(seconds(6)), Some(seconds(10)));
    session.received(&bytes(1, &Msg::EchoReply(vec![])), seconds(7)).unwrap();
    assert_eq!(session.next_deadline(seconds(7)), Some(seconds(12)));
    session.tick(seconds(12));
    session.tick(seconds(17));
    assert!(matches!(session.poll_event(), Some(Event::Dead(SessionError::Silent(_)))));
}

#[test]
fn a_handshake_that_does_not_end_is_given_up() {
    for step in 0..3 {
        let mut session = up_to(Config::default(), step);
        assert_eq!(session.next_deadline(T0), Some(seconds(5)));
        // Echoes keep nobody in.
        if step > 0 {
            session.received(&bytes(9, &Msg::EchoRequest(vec![])), seconds(4)).unwrap();
        }
        session.tick(seconds(5));
        assert!(matches!(session.poll_event(), Some(Event::Dead(SessionError::HandshakeTimeout(_)))), "{step}");
    }
}

#[test]
fn multipart_answers_come_whole() {
    let mut session = up();
    let xid = session.send(&Msg::MultipartRequest(MultipartRequest::Table)).unwrap();
    let part = |table, more| {
        let body = MultipartBody::Table(vec![TableStats { table, ..TableStats::default() }]);
        bytes(xid, &Msg::MultipartReply(MultipartReply { more, body }))
    };
    session.received(&part(1, true), T0).unwrap();
    assert_eq!(session.poll_event(), None);
    session.received(&part(2, false), T0).unwrap();
    let Some(Event::Message(answered, Msg::MultipartReply(reply))) = session.poll_event() else { panic!("no answer") };
    let MultipartBody::Table(tables) = reply.body else { panic!("not tables") };
    assert_eq!((answered, tables.iter().map(|one| one.table).collect::<Vec<_>>()), (xid, vec![1, 2]));
    assert!(session.received(&part(3, false), T0).is_err(), "an answer that nobody asked for");
}

#[test]
fn multipart_answers_are_bounded() {
    let config = Config { max_multipart: 1000, ..Config::default() };
    let mut session = up_to(config, 3);
    let request = Msg::MultipartRequest(MultipartRequest::Flow(FlowStatsRequest::by_cookie(0, 0)));
    let xid = session.send(&request).unwrap();
    let body = MultipartBody::Table(vec![TableStats::default(); 10]);
    let part = bytes(xid, &Msg::MultipartReply(MultipartReply { more: true, body }));
    let taken = (0..10).take_while(|_| session.received(&part, T0).is_ok()).count();
    assert_eq!(taken, 1000 / part.len());
    let mut session = up();
    for _ in 0..super::MAX_QUESTIONS {
        session.send(&request).unwrap();
    }
    assert!(session.send(&request).is_err(), "too many questions");
}

#[test]
fn a_refused_question_is_not_waited_for() {
    let mut session = up();
    for _ in 0..super::MAX_QUESTIONS * 2 {
        let xid = session.send(&Msg::MultipartRequest(MultipartRequest::Table)).unwrap();
        let error = ErrorMsg { kind: 1, code: 2, experimenter: None, data: vec![] };
        session.received(&bytes(xid, &Msg::Error(error.clone())), T0).unwrap();
        assert_eq!(session.poll_event(), Some(Event::Error(xid, error)));
    }
}

#[test]
fn output_is_bounded() {
    let mut session = up_to(Config { max_output: 1000, ..Config::default() }, 3);
    let flow_mod = FlowMod::new(FlowCommand::Add);
    let count = (0..100).take_while(|_| session.send_flow_mod(&flow_mod).is_ok()).count();
    assert_eq!(count, 1000 / 56);
    assert!(matches!(session.send_flow_mod(&flow_mod), Err(SessionError::OutputFull(_))));
    assert_eq!(sent(&mut session).len(), count, "what is refused leaves nothing behind");
    assert!(session.send_flow_mod(&flow_mod).is_ok());
    let echo = bytes(1, &Msg::EchoRequest(vec![0; 900]));
    assert!(session.received(&[echo.clone(), echo].concat(), T0).is_err());
}

#[test]
fn r25_a_switch_that_asks_and_does_not_read_is_not_answered_for_ever() {
    let mut session = up();
    let echo = bytes(1, &Msg::EchoRequest(vec![0; 60_000]));
    for _ in 0..100 {
        session.received(&echo, T0).unwrap();
        assert_eq!(sent(&mut session).len(), 1, "who reads is answered as often as it likes");
    }
    let answered = (0..100).take_while(|_| session.received(&echo, T0).is_ok()).count();
    assert_eq!(answered, super::MAX_ECHOES / (60_000 + 8));
}

#[test]
fn r18_a_message_that_is_too_long_is_not_sent() {
    // At 80, 100 and 101 % of what a header's length can say (OF 1.3.5 §7.1).
    for (length, fits) in [(52_428, true), (65_535, true), (66_191, false)] {
        let mut session = up();
        let echo = Msg::EchoRequest(vec![0; length - 8]);
        let result = session.send(&echo).map(|_| ());
        assert_eq!(result, if fits { Ok(()) } else { Err(SessionError::TooLong(length)) });
        assert_eq!(sent(&mut session).len(), usize::from(fits), "all of it or nothing");
    }
}

#[test]
fn a11_nobody_becomes_the_writer_by_saying_so() {
    for generation in [0, 1, u64::MAX] {
        // Roles and generation ids are asked for by the controller: an answer that nobody asked for is news and
        // changes nothing, neither during the handshake nor after it.
        let role = Role { kind: RoleKind::Slave, generation };
        for step in 1..4 {
            let mut session = up_to(Config::default(), step);
            session.received(&bytes(77, &Msg::RoleReply(role)), T0).unwrap();
            let event = (step == 3).then_some(Event::Message(77, Msg::RoleReply(role)));
            assert_eq!(session.poll_event(), event);
            assert_eq!(session.is_up(), step == 3);
        }
        // Who asks for a role is a controller, not a switch.
        let mut session = up();
        assert!(session.received(&bytes(78, &Msg::RoleRequest(role)), T0).is_err());
    }
    // A switch that refuses a generation as stale says so under the request's number; the session goes on.
    let mut session = up();
    let role = Role { kind: RoleKind::Master, generation: 6 };
    let xid = session.send(&Msg::RoleRequest(role)).unwrap();
    assert_eq!(sent(&mut session), [(xid, Msg::RoleRequest(role))]);
    let stale = ErrorMsg { kind: error_type::ROLE_REQUEST_FAILED, code: 0, experimenter: None, data: Vec::new() };
    session.received(&bytes(xid, &Msg::Error(stale.clone())), T0).unwrap();
    assert_eq!(session.poll_event(), Some(Event::Error(xid, stale)));
    assert!(session.is_up());
}

#[test]
fn a_bundled_message_has_the_xid_that_its_error_will_carry() {
    let mut session = up();
    let atomic = flags::ATOMIC | flags::ORDERED;
    session.send_bundle(9, BundleStep::OpenRequest, atomic).unwrap();
    let flow_mod = FlowMod::new(FlowCommand::Add);
    let xid = session.add_flow_mod_to_bundle(9, atomic, &flow_mod).unwrap();
    session.send_bundle(9, BundleStep::CommitRequest, atomic).unwrap();
    let sent = sent(&mut session);
    let added = Msg::BundleAdd { id: 9, flags: atomic, message: Box::new(Msg::FlowMod(flow_mod)) };
    assert_eq!(sent[1], (xid, added));
    assert_eq!(sent.len(), 3);
}

#[test]
fn nothing_is_sent_before_and_after_the_session() {
    for step in 0..3 {
        let mut session = up_to(Config::default(), step);
        assert_eq!(session.send(&Msg::BarrierRequest), Err(SessionError::NotConnected));
    }
}

#[test]
fn the_time_to_answer_begins_when_the_question_is_taken() {
    let patience = Duration::from_secs(2);
    let at = |seconds| T0 + Duration::from_secs(seconds);
    let alive = |taken: &[u64], heard: Option<u64>, look: u64| {
        let mut session = up();
        session.received(&bytes(0, &Msg::EchoReply(Vec::new())), T0).unwrap();
        session.probe(T0, patience);
        taken.iter().for_each(|seconds| session.taken(at(*seconds)));
        if let Some(seconds) = heard {
            session.received(&bytes(0, &Msg::EchoReply(Vec::new())), at(seconds)).unwrap();
        }
        session.tick(at(look));
        session.is_up()
    };
    assert!(!alive(&[], None, 2));
    // A large bundle is in front of it: as long as the connection takes it, the switch is not missed.
    assert!(alive(&[1, 2, 3, 4], None, 5));
    assert!(!alive(&[1, 2, 3, 4], None, 6), "what is taken stays unanswered");
    assert!(alive(&[1], Some(2), 4), "it was heard");
}
