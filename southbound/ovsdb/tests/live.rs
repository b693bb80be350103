//! Against a real ovsdb-server: what it tells is understood, what it is told is done.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod server;

use bulkhead_ovsdb::{
    Atom, Condition, Config, Connection, Endpoint, Event, Mutation, Mutator, Operation, SessionError, Value,
};
use server::{Server, act, event};
use std::time::Duration;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, UnixStream},
    sync::oneshot,
    time::timeout,
};

const TABLES: &[(&str, &[&str])] = &[
    ("Open_vSwitch", &["bridges", "external_ids", "next_cfg"]),
    ("Bridge", &["name", "ports", "fail_mode", "protocols", "external_ids"]),
    ("Port", &["name", "interfaces", "tag", "trunks"]),
    ("Interface", &["name", "type", "options", "ofport"]),
];

fn insert(table: &'static str, row: Vec<(&'static str, Value)>, name: &str) -> Operation {
    Operation::Insert { table, row, name: Some(name.into()) }
}

fn named(name: &str) -> Value {
    Value::Set([Atom::Named(name.into())].into())
}

fn bridge(name: &str) -> Vec<Operation> {
    let options = Value::map([("key", "flow"), ("remote_ip", "flow")]);
    vec![
        insert("Interface", vec![("name", name.into()), ("type", "geneve".into()), ("options", options)], "i"),
        insert("Port", vec![("name", name.into()), ("interfaces", named("i")), ("trunks", Value::set([1, 2, 3]))], "p"),
        insert("Bridge", vec![("name", name.into()), ("ports", named("p"))], "b"),
        Operation::Mutate {
            table: "Open_vSwitch",
            conditions: vec![],
            mutations: vec![
                Mutation::insert("bridges", named("b")),
                Mutation { column: "next_cfg", mutator: Mutator::Add, value: 1.into() },
            ],
        },
        Operation::Select { table: "Open_vSwitch", conditions: vec![], columns: vec!["next_cfg"] },
    ]
}

#[tokio::test]
async fn what_one_client_does_another_one_sees() {
    let Some(server) = Server::start(TABLES).await else { return };
    let (mut writer, mut reader) = (server.connect().await, server.connect().await);
    let done = act(&mut writer, &bridge("br-a")).await;
    assert!(done[0].uuid.is_some() && done[3].count == Some(1));
    assert_eq!(done[4].rows[0]["next_cfg"], Value::from(1));
    assert_eq!(event(&mut reader).await, Event::Changed);
    let (replica, mine) = (reader.session().replica().clone(), writer.session().replica().clone());
    assert_eq!(replica, mine);
    let (_, port) = replica.rows("Port").next().unwrap();
    assert_eq!((port.text("name"), port.get("trunks")), (Some("br-a"), Some(&Value::set([1, 2, 3]))));
    let interface = replica.row("Interface", port.references("interfaces").next().unwrap()).unwrap();
    assert_eq!((interface.pair("options", "key"), interface.integer("ofport")), (Some("flow"), None));

    // Every kind of difference; a newcomer, who is told everything at once, has the same.
    let this = |uuid| vec![Condition::row(uuid)];
    let (port, _) = replica.rows("Port").next().unwrap();
    let (bridge, _) = replica.rows("Bridge").next().unwrap();
    let [delete, put] = Mutation::put("external_ids", "bulkhead-owner", "hv1");
    let steps = [
        vec![Operation::Update {
            table: "Port",
            conditions: this(port),
            row: vec![("trunks", Value::set([2, 4])), ("tag", 7.into())],
        }],
        vec![Operation::Update { table: "Port", conditions: this(port), row: vec![("tag", Value::empty())] }],
        vec![Operation::Mutate { table: "Bridge", conditions: this(bridge), mutations: vec![delete.clone(), put] }],
        vec![Operation::Mutate {
            table: "Bridge",
            conditions: this(bridge),
            mutations: [
                vec![delete],
                Mutation::put("external_ids", "bulkhead-owner", "hv2").into(),
                vec![
                    Mutation::insert("protocols", Value::set(["OpenFlow13", "OpenFlow15"])),
                    Mutation::insert("external_ids", Value::map([("a", "b")])),
                ],
            ]
            .concat(),
        }],
        vec![Operation::Mutate {
            table: "Open_vSwitch",
            conditions: vec![],
            mutations: vec![Mutation::delete("bridges", Value::from(bridge))],
        }],
    ];
    for (at, step) in steps.iter().enumerate() {
        act(&mut writer, step).await;
        while reader.session().replica() != writer.session().replica() {
            assert_eq!(event(&mut reader).await, Event::Changed);
        }
        let mut fresh = server.connect().await;
        assert_eq!(fresh.session().replica(), writer.session().replica(), "after step {at}");
        if at == 3 {
            let row = fresh.session().replica().row("Bridge", bridge).unwrap();
            let owner: Vec<_> = row.pairs("external_ids").collect();
            assert_eq!(owner, [("a", "b"), ("bulkhead-owner", "hv2")]);
        }
    }
    // Nothing refers to them any more.
    assert_eq!(writer.session().replica().rows("Interface").count(), 0);
}

#[tokio::test]
async fn a_transaction_fails_as_a_whole_and_says_why() {
    let Some(server) = Server::start(TABLES).await else { return };
    let mut connection = server.connect().await;
    act(&mut connection, &bridge("br-a")).await;
    let before = connection.session().replica().clone();
    let wait = Operation::Wait { table: "Bridge", conditions: vec![], row: vec![("name", "br-b".into())] };
    for (operations, why) in [
        (bridge("br-a"), "constraint violation"),
        ([vec![wait], bridge("br-b")].concat(), "timed out"),
        (vec![insert("Bridge", vec![("nome", "x".into())], "b")], "unknown column"),
    ] {
        connection.session().transact(&operations).unwrap();
        let Event::Transacted(_, Err(error)) = event(&mut connection).await else { panic!("it was done: {why}") };
        assert!(error.error.contains(why) || error.to_string().contains(why), "{error}");
        assert_eq!(connection.session().replica(), &before);
    }
    let same = Operation::Wait { table: "Bridge", conditions: vec![], row: vec![("name", "br-a".into())] };
    act(&mut connection, &[same]).await;
}

#[tokio::test]
async fn a_server_that_ends_is_missed_at_once_and_is_as_before_when_it_is_back() {
    let Some(mut server) = Server::start(TABLES).await else { return };
    let mut connection = server.connect().await;
    act(&mut connection, &bridge("br-a")).await;
    let before = connection.session().replica().clone();
    server.end();
    assert!(matches!(event(&mut connection).await, Event::Dead(_)));
    server.begin();
    assert_eq!(server.connect().await.session().replica(), &before);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_refused() {
    let Some(server) = Server::start(TABLES).await else { return };
    let endpoint = Endpoint::Unix(server.socket());
    let mut connection = Connection::open(&endpoint, Config::new("Hardware", TABLES), None).await.unwrap();
    let Event::Dead(error) = event(&mut connection).await else { panic!("it is not dead") };
    assert!(error.to_string().contains("get_schema"), "{error}");
    let nowhere = Endpoint::Unix(server.dir().join("nowhere"));
    assert!(Connection::open(&nowhere, Config::new("Open_vSwitch", TABLES), None).await.is_err());
}

#[tokio::test]
async fn over_tcp_it_is_the_same_and_a_line_that_goes_dead_is_missed() {
    let Some(server) = Server::start(TABLES).await else { return };
    // ovsdb-server tells nobody which port it was given, so the port is the test's, and leads to the socket.
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let endpoint: Endpoint = format!("tcp:[::1]:{}", listener.local_addr().unwrap().port()).parse().unwrap();
    let (cut, severed) = oneshot::channel::<()>();
    let socket = server.socket();
    let line = tokio::spawn(async move {
        let (mut outside, _) = listener.accept().await.unwrap();
        let mut inside = UnixStream::connect(socket).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut outside, &mut inside) => {}
            _ = severed => {}
        }
        // Both ends stay open, and nothing passes.
        (outside, inside)
    });
    let quick = Duration::from_millis(200);
    let config = Config { echo_after: quick, echo_timeout: 10 * quick, ..Config::new("Open_vSwitch", TABLES) };
    let mut connection = Connection::open(&endpoint, config, None).await.unwrap();
    assert_eq!(event(&mut connection).await, Event::Ready);
    act(&mut connection, &bridge("br-a")).await;
    assert_eq!(connection.session().replica().rows("Bridge").count(), 1);
    assert!(timeout(4 * quick, connection.event()).await.is_err(), "a line that is quiet is not a dead one");
    cut.send(()).unwrap();
    let Event::Dead(error) = event(&mut connection).await else { panic!("it is not dead") };
    assert!(matches!(error, SessionError::Silent(_)), "{error}");
    drop(line.await.unwrap());
}
