#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;

const TABLES: &[(&str, &[&str])] = &[("T", &["name"])];
const ROW: &str = "550e8400-e29b-41d4-a716-446655440000";
const SECOND: Duration = Duration::from_secs(1);

fn session() -> Session {
    let mut session = Session::new(Config::new("D", TABLES));
    session.tick(Duration::ZERO);
    session
}

/// What the session says, as JSON.
fn said(session: &mut Session) -> Vec<Json> {
    let mut framer = Framer::default();
    framer.push(session.output());
    session.sent(usize::MAX);
    std::iter::from_fn(|| framer.take().unwrap()).collect()
}

fn tell(session: &mut Session, message: Json, now: Duration) -> Result<(), SessionError> {
    session.received(message.to_string().as_bytes(), now)
}

fn schema() -> Json {
    json!({"id": 1, "error": null, "result": {"tables": {"T": {"columns": {"name": {"type": "string"}}}}}})
}

/// A session whose replica is complete.
fn up() -> Session {
    let mut session = session();
    said(&mut session);
    tell(&mut session, schema(), Duration::ZERO).unwrap();
    let asked = said(&mut session);
    assert_eq!(asked[0]["method"], "monitor_cond");
    assert_eq!(asked[0]["params"], json!(["D", "bulkhead", {"T": [{"columns": ["name"]}]}]));
    let rows = json!({"T": {ROW: {"initial": {"name": "a"}}}});
    tell(&mut session, json!({"id": 2, "error": null, "result": rows}), Duration::ZERO).unwrap();
    assert_eq!(session.poll_event(), Some(Event::Ready));
    session
}

fn name(session: &Session) -> &str {
    session.replica().rows("T").next().unwrap().1.text("name").unwrap()
}

fn update(name: &str) -> Json {
    json!({"id": null, "method": "update2", "params": ["bulkhead", {"T": {ROW: {"modify": {"name": name}}}}]})
}

#[test]
fn the_replica_follows() {
    let mut session = up();
    assert_eq!(name(&session), "a");
    tell(&mut session, update("b"), Duration::ZERO).unwrap();
    tell(&mut session, update("c"), Duration::ZERO).unwrap();
    assert_eq!((session.poll_event(), session.poll_event()), (Some(Event::Changed), None));
    assert_eq!(name(&session), "c");
}

#[test]
fn transactions_are_answered_by_number() {
    let mut session = up();
    let numbers = [0; 2].map(|_| session.transact(&[Operation::Comment("x".into())]).unwrap());
    assert_eq!(said(&mut session)[1]["id"], json!(numbers[1]));
    tell(&mut session, json!({"id": numbers[1], "error": null, "result": [{}]}), Duration::ZERO).unwrap();
    let failed = json!([{"error": "constraint violation", "details": "no"}]);
    tell(&mut session, json!({"id": numbers[0], "error": null, "result": failed}), Duration::ZERO).unwrap();
    assert_eq!(session.poll_event(), Some(Event::Transacted(numbers[1], Ok(vec![Done::default()]))));
    assert!(matches!(session.poll_event(), Some(Event::Transacted(number, Err(_))) if number == numbers[0]));
}

#[test]
fn too_many_transactions_are_refused() {
    let mut session = session();
    assert_eq!(session.transact(&[]), Err(SessionError::NotConnected));
    let mut session = up();
    for _ in 0..MAX_TRANSACTIONS {
        session.transact(&[]).unwrap();
    }
    assert_eq!(session.transact(&[]), Err(SessionError::Busy(MAX_TRANSACTIONS)));
}

#[test]
fn an_echo_is_answered_with_what_it_said() {
    let mut session = up();
    tell(&mut session, json!({"id": "echo", "method": "echo", "params": [7]}), Duration::ZERO).unwrap();
    assert_eq!(said(&mut session), [json!({"id": "echo", "result": [7], "error": null})]);
    tell(&mut session, json!({"id": 9, "method": "steal", "params": []}), Duration::ZERO).unwrap();
    assert_eq!(said(&mut session), [json!({"id": 9, "result": null, "error": "unknown method"})]);
}

#[test]
fn a_server_that_answers_stays_and_a_silent_one_is_gone() {
    let mut session = up();
    session.tick(5 * SECOND);
    assert_eq!(said(&mut session)[0]["method"], "echo");
    assert_eq!(session.next_deadline(5 * SECOND), Some(10 * SECOND));
    tell(&mut session, json!({"id": 3, "error": null, "result": []}), 6 * SECOND).unwrap();
    session.tick(10 * SECOND);
    assert_eq!((session.poll_event(), session.next_deadline(10 * SECOND)), (None, Some(11 * SECOND)));
    session.tick(11 * SECOND);
    session.tick(16 * SECOND);
    assert_eq!(session.poll_event(), Some(Event::Dead(SessionError::Silent(10 * SECOND))));
    assert_eq!(session.next_deadline(16 * SECOND), None);
}

#[test]
fn a_beginning_and_a_transaction_have_their_time() {
    let mut session = session();
    for second in 1..10 {
        session.received(b" ", second * SECOND).unwrap();
        session.tick(second * SECOND);
    }
    session.tick(10 * SECOND);
    assert_eq!(session.poll_event(), Some(Event::Dead(SessionError::HandshakeTimeout(10 * SECOND))));

    let mut session = up();
    session.transact(&[]).unwrap();
    for second in 0..=20 {
        session.received(b" ", second * SECOND).unwrap();
        session.tick(second * SECOND);
    }
    assert_eq!(session.poll_event(), Some(Event::Dead(SessionError::TransactTimeout(20 * SECOND))));
}

#[test]
fn what_has_no_place_ends_the_session() {
    let canceled = json!({"id": null, "method": "monitor_canceled", "params": ["bulkhead"]});
    let cases = [
        (json!({"id": 77, "error": null, "result": []}), "an answer that nobody asked for while up"),
        (json!({"id": 77}), "bad message: a result or an error expected"),
        (json!({"method": "update2", "params": [1]}), "bad message: a monitor and its updates expected"),
        (json!({"method": "update2", "params": [1, {"U": {}}]}), "an unmonitored table U"),
        (canceled, "the server ended the monitor"),
    ];
    for (message, why) in cases {
        let mut session = up();
        let error = tell(&mut session, message, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(session.poll_event(), Some(Event::Dead(error)));
        assert_eq!(tell(&mut session, update("b"), Duration::ZERO), Err(SessionError::NotConnected));
    }
    let mut session = session();
    assert!(matches!(tell(&mut session, update("b"), Duration::ZERO), Err(SessionError::Unexpected { .. })));
}

#[test]
fn a_database_without_a_column_is_refused_by_name() {
    let mut session = session();
    let error = tell(&mut session, json!({"id": 1, "result": {"tables": {}}}), Duration::ZERO).unwrap_err();
    assert_eq!(error.to_string(), "the database has no column name in table T");
    let mut session = self::session();
    let error = json!({"error": "unknown database", "details": "get_schema request specifies unknown database D"});
    let error = tell(&mut session, json!({"id": 1, "result": null, "error": error}), Duration::ZERO).unwrap_err();
    assert!(error.to_string().ends_with("specifies unknown database D"), "{error}");
}

#[test]
fn r24_a_server_that_only_asks_does_not_fill_the_memory() {
    let mut session = up();
    let echo = json!({"id": "x", "method": "echo", "params": ["x".repeat(1 << 20)]});
    let refused = (0..40).find_map(|_| tell(&mut session, echo.clone(), Duration::ZERO).err());
    assert!(matches!(refused, Some(SessionError::OutputFull(_))), "{refused:?}");
}
