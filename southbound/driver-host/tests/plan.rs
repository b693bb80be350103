//! Plans, carried out by a real ovsdb-server: afterwards there is nothing to do, and what is not ours is as it was.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "../../ovsdb/tests/server/mod.rs"]
mod server;

use bulkhead_dataplane::host::{HostConfig, HostReport, TunnelKind};
use bulkhead_driver_host::{
    TABLES,
    plan::{BRIDGE, Foreign, OWNER, plan, unmark},
    underlay,
};
use bulkhead_ovsdb::{Atom, Condition, Connection, Function, Mutation, Operation, Replica, Row, Value};
use bulkhead_topology::{DatapathId, Name};
use proptest::{
    prelude::*,
    test_runner::{Config as Cases, TestRunner},
};
use server::{Server, act};

const OTHER: &str = "br-phy";
const TARGETS: [&str; 3] = ["tcp:192.0.2.10:6653", "tcp:192.0.2.11:6653", "ptcp:6653"];
/// What we write to in maps that others write to as well.
const KEYS: [&str; 3] = [OWNER, "datapath-id", "disable-in-band"];

fn hv1() -> Name {
    "hv1".parse().unwrap()
}

fn config() -> HostConfig {
    HostConfig {
        datapath: DatapathId(0xb1),
        controller: TARGETS[0].into(),
        datapath_type: Some("netdev".into()),
        local_ip: Some("192.0.2.1".parse().unwrap()),
        tunnels: TunnelKind::ALL.into(),
    }
}

fn named(name: &str) -> Value {
    Atom::Named(name.into()).into()
}

fn by_name(name: &str) -> Vec<Condition> {
    vec![Condition { column: "name", function: Function::Equal, value: name.into() }]
}

fn update(table: &'static str, conditions: Vec<Condition>, column: &'static str, value: Value) -> Operation {
    Operation::Update { table, conditions, row: vec![(column, value)] }
}

fn mutate(table: &'static str, conditions: Vec<Condition>, mutations: Vec<Mutation>) -> Operation {
    Operation::Mutate { table, conditions, mutations }
}

fn add_port(bridge: &str, name: &str, kind: &str) -> Vec<Operation> {
    let ids = Value::map([("iface-id", name)]);
    let interface = vec![("name", name.into()), ("type", kind.into()), ("external_ids", ids)];
    let port = vec![("name", name.into()), ("interfaces", named("i"))];
    vec![
        Operation::Insert { table: "Interface", row: interface, name: Some("i".into()) },
        Operation::Insert { table: "Port", row: port, name: Some("p".into()) },
        mutate("Bridge", by_name(bridge), vec![Mutation::insert("ports", named("p"))]),
    ]
}

fn add_bridge(name: &str) -> Vec<Operation> {
    let bridge = vec![("name", name.into()), ("datapath_type", "netdev".into())];
    let insert = Operation::Insert { table: "Bridge", row: bridge, name: Some("b".into()) };
    vec![insert, mutate("Open_vSwitch", vec![], vec![Mutation::insert("bridges", named("b"))])]
}

fn add_controller(bridge: &str, target: &str) -> Vec<Operation> {
    let row = vec![("target", target.into())];
    let insert = Operation::Insert { table: "Controller", row, name: Some("c".into()) };
    vec![insert, mutate("Bridge", by_name(bridge), vec![Mutation::insert("controller", named("c"))])]
}

/// What somebody may do to a database.
#[derive(Debug, Clone)]
enum Deed {
    DeleteBridge,
    AddBridge(&'static str),
    Update(&'static str, Value),
    Key(&'static str, &'static str, Option<&'static str>),
    AddController(&'static str, &'static str),
    NoController,
    Controllers(&'static str, Value),
    ShareController,
    AddPort(&'static str, &'static str),
    RemovePort(&'static str),
    Tunnel(&'static str, &'static str, Value),
    Option(&'static str, &'static str),
    UnmarkPorts,
}

impl Deed {
    fn operations(&self, replica: &Replica) -> Vec<Operation> {
        let bridge = || by_name(BRIDGE);
        let find = |table, name| replica.rows(table).find(move |(_, row)| row.text("name") == Some(name));
        let here = find("Bridge", BRIDGE);
        match self {
            Self::DeleteBridge => match here {
                Some((uuid, _)) => {
                    vec![mutate("Open_vSwitch", vec![], vec![Mutation::delete("bridges", uuid.into())])]
                }
                None => vec![],
            },
            Self::AddBridge(name) if find("Bridge", name).is_none() => add_bridge(name),
            Self::AddBridge(_) => vec![],
            Self::Update(column, value) => vec![update("Bridge", bridge(), column, value.clone())],
            Self::Key(column, key, Some(value)) => {
                vec![mutate("Bridge", bridge(), Mutation::put(column, key, value).into())]
            }
            Self::Key(column, key, None) => {
                vec![mutate("Bridge", bridge(), vec![Mutation::delete(column, Value::set([*key]))])]
            }
            Self::AddController(bridge, target) if find("Bridge", bridge).is_some() => add_controller(bridge, target),
            Self::AddController(..) => vec![],
            Self::NoController => vec![update("Bridge", bridge(), "controller", Value::empty())],
            Self::Controllers(column, value) => vec![update("Controller", vec![], column, value.clone())],
            Self::ShareController => {
                let ours = here.map(|(_, row)| row.get("controller").unwrap().clone());
                ours.map(|ours| update("Bridge", by_name(OTHER), "controller", ours)).into_iter().collect()
            }
            Self::AddPort(name, kind) if here.is_some() && find("Port", name).is_none() => add_port(BRIDGE, name, kind),
            Self::AddPort(..) => vec![],
            Self::RemovePort(name) => match find("Port", name) {
                Some((uuid, _)) => vec![mutate("Bridge", bridge(), vec![Mutation::delete("ports", uuid.into())])],
                None => vec![],
            },
            Self::Tunnel(name, column, value) => vec![update("Interface", by_name(name), column, value.clone())],
            Self::Option(key, value) => TunnelKind::ALL
                .map(|kind| mutate("Interface", by_name(kind.port_name()), Mutation::put("options", key, value).into()))
                .into(),
            Self::UnmarkPorts => unmark(&hv1()).split_off(1),
        }
    }
}

fn deed() -> impl Strategy<Value = Deed> {
    let tunnel = || prop::sample::select(vec!["bh-geneve", "bh-vxlan"]);
    prop_oneof![
        Just(Deed::DeleteBridge),
        prop::sample::select(vec![BRIDGE, OTHER]).prop_map(Deed::AddBridge),
        prop::sample::select(vec![
            ("fail_mode", Value::empty()),
            ("fail_mode", "standalone".into()),
            ("datapath_type", "".into()),
            ("datapath_type", "system".into()),
            ("protocols", Value::empty()),
            ("protocols", Value::set(["OpenFlow10", "OpenFlow14"])),
            ("other_config", Value::map([("hwaddr", "02:00:00:00:00:99")])),
        ])
        .prop_map(|(column, value)| Deed::Update(column, value)),
        prop::sample::select(vec![
            ("other_config", "disable-in-band", Some("false")),
            ("other_config", "datapath-id", Some("0000000000000099")),
            ("other_config", "datapath-id", None),
            ("other_config", "mac-table-size", Some("1")),
            ("external_ids", "rack", Some("7")),
            ("external_ids", OWNER, None),
        ])
        .prop_map(|(column, key, value)| Deed::Key(column, key, value)),
        (prop::sample::select(vec![BRIDGE, OTHER]), prop::sample::select(TARGETS.to_vec()))
            .prop_map(|(bridge, target)| Deed::AddController(bridge, target)),
        Just(Deed::NoController),
        prop::sample::select(vec![
            ("target", Value::from(TARGETS[1])),
            ("type", "service".into()),
            ("external_ids", Value::Map([].into())),
        ])
        .prop_map(|(column, value)| Deed::Controllers(column, value)),
        Just(Deed::ShareController),
        (prop::sample::select(vec!["web-1", "bh-geneve", "bh-vxlan"]), prop::sample::select(vec!["", "vxlan", "gre"]))
            .prop_map(|(name, kind)| Deed::AddPort(name, kind)),
        prop::sample::select(vec!["web-1", "bh-geneve", "bh-vxlan", BRIDGE]).prop_map(Deed::RemovePort),
        (tunnel(), prop::sample::select(vec![("type", Value::from("gre")), ("options", Value::Map([].into()))]))
            .prop_map(|(name, (column, value))| Deed::Tunnel(name, column, value)),
        prop::sample::select(vec![("remote_ip", "192.0.2.9"), ("in_key", "7"), ("exts", "gbp"), ("tos", "inherit")])
            .prop_map(|(key, value)| Deed::Option(key, value)),
        Just(Deed::UnmarkPorts),
    ]
}

fn wanted() -> impl Strategy<Value = HostConfig> {
    let tunnels = prop::sample::subsequence(TunnelKind::ALL.to_vec(), 0..=2);
    let ips = prop::sample::select(vec![None, Some("192.0.2.1"), Some("2001:db8::1")]);
    let kinds = prop::sample::select(vec![None, Some("netdev"), Some("system")]);
    (tunnels, ips, kinds, prop::sample::select(TARGETS[..2].to_vec())).prop_map(|(tunnels, ip, kind, target)| {
        HostConfig {
            controller: target.into(),
            datapath_type: kind.map(str::to_owned),
            local_ip: ip.map(|ip| ip.parse().unwrap()),
            tunnels: tunnels.into_iter().collect(),
            ..config()
        }
    })
}

/// A row without what we write to.
fn rest(row: &Row) -> Vec<(String, Value)> {
    let columns = ["name", "type", "datapath_type", "fail_mode", "protocols", "options", "target"];
    let mut rest: Vec<_> =
        columns.iter().filter_map(|column| Some((column.to_string(), row.get(column)?.clone()))).collect();
    for column in ["other_config", "external_ids"] {
        let pairs: Vec<_> = row.pairs(column).filter(|(key, _)| !KEYS.contains(key)).collect();
        rest.push((column.to_owned(), Value::map(pairs)));
    }
    rest
}

/// Everything that is not ours.
fn foreign(replica: &Replica) -> Vec<String> {
    let mut found = Vec::new();
    for (_, bridge) in replica.rows("Bridge") {
        let ours = bridge.text("name") == Some(BRIDGE);
        if ours {
            let (config, ids) = (bridge.pairs("other_config"), bridge.pairs("external_ids"));
            found.extend(config.chain(ids).filter(|(key, _)| !KEYS.contains(key)).map(|pair| format!("{pair:?}")));
        } else {
            found.push(format!("{bridge:?}"));
            for controller in bridge.references("controller").filter_map(|uuid| replica.row("Controller", uuid)) {
                found.push(format!("{controller:?}"));
            }
        }
        for port in bridge.references("ports").filter_map(|uuid| replica.row("Port", uuid)) {
            if ours && TunnelKind::ALL.iter().any(|kind| port.text("name") == Some(kind.port_name())) {
                continue;
            }
            found.push(format!("{port:?}"));
            let interfaces = port.references("interfaces").filter_map(|uuid| replica.row("Interface", uuid));
            found.extend(interfaces.map(|row| format!("{:?}", rest(row))));
        }
    }
    found.sort();
    found
}

/// Carries out what is to be done; what was.
async fn shape(connection: &mut Connection, config: &HostConfig) -> Vec<String> {
    let plan = plan(connection.session().replica(), config, &hv1()).unwrap();
    act(connection, &plan.operations).await;
    plan.repaired
}

fn bridge(replica: &Replica) -> &Row {
    replica.rows("Bridge").map(|(_, row)| row).find(|row| row.text("name") == Some(BRIDGE)).unwrap()
}

#[test]
fn a_plan_leaves_nothing_to_do_and_nothing_foreign_touched() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let Some(server) = runtime.block_on(Server::start(TABLES)) else { return };
    let connection = std::cell::RefCell::new(runtime.block_on(server.connect()));
    let mut runner = TestRunner::new(Cases { cases: 96, failure_persistence: None, ..Cases::default() });
    let cases = (prop::collection::vec(wanted(), 1..3), prop::collection::vec(deed(), 0..8));
    let run = |(configs, deeds): (Vec<HostConfig>, Vec<Deed>)| {
        let connection = &mut *connection.borrow_mut();
        runtime.block_on(async {
            act(connection, &[update("Open_vSwitch", vec![], "bridges", Value::empty())]).await;
            act(connection, &add_bridge(OTHER)).await;
            // In shape for one configuration, spoilt, and then in shape for another one.
            shape(connection, &configs[0]).await;
            for deed in &deeds {
                let operations = deed.operations(connection.session().replica());
                act(connection, &operations).await;
            }
            let config = configs.last().unwrap();
            let before = foreign(connection.session().replica());
            let repaired = shape(connection, config).await;
            let after = connection.session().replica();
            let again = plan(after, config, &hv1()).unwrap();
            prop_assert_eq!(again.operations, vec![], "after {:?}", repaired);
            prop_assert_eq!(again.repaired, Vec::<String>::new());
            let after = foreign(after);
            for one in &before {
                prop_assert!(after.contains(one), "{} is gone from {:#?}", one, after);
            }
            let new: Vec<_> = after.iter().filter(|one| !before.contains(one)).collect();
            // A bridge that was missing comes with its local port.
            prop_assert!(new.is_empty() || new.iter().all(|one| one.contains(BRIDGE)), "{:?}", new);
            Ok(())
        })
    };
    runner.run(&cases, run).unwrap();
}

#[tokio::test]
async fn an_empty_database_is_brought_into_shape_in_one_transaction() {
    let Some(server) = Server::empty(TABLES) else { return };
    let mut connection = server.connect().await;
    assert_eq!(shape(&mut connection, &config()).await, ["bridge br-int was missing"]);
    let replica = connection.session().replica();
    let row = bridge(replica);
    assert_eq!((row.text("fail_mode"), row.text("datapath_type")), (Some("secure"), Some("netdev")));
    assert_eq!(row.pair("other_config", "datapath-id"), Some("00000000000000b1"));
    assert_eq!(row.pair("other_config", "disable-in-band"), Some("true"));
    assert_eq!(row.pair("external_ids", OWNER), Some("hv1"));
    assert_eq!(row.get("protocols"), Some(&Value::set(["OpenFlow13", "OpenFlow15"])));
    let targets: Vec<_> = replica.rows("Controller").filter_map(|(_, row)| row.text("target")).collect();
    assert_eq!(targets, [TARGETS[0]]);
    let options = |name| {
        let (_, row) = replica.rows("Interface").find(|(_, row)| row.text("name") == Some(name)).unwrap();
        (row.text("type").unwrap(), row.pairs("options").collect::<Vec<_>>())
    };
    let flow = vec![("key", "flow"), ("local_ip", "192.0.2.1"), ("remote_ip", "flow")];
    assert_eq!((options("bh-geneve"), options("bh-vxlan")), (("geneve", flow.clone()), ("vxlan", flow)));

    // The same over IPv6, and one kind only.
    let ip = Some("2001:db8::1".parse().unwrap());
    let v6 = HostConfig { local_ip: ip, tunnels: [TunnelKind::Geneve].into(), ..config() };
    let repaired = shape(&mut connection, &v6).await;
    assert_eq!(
        repaired,
        [
            "options:local_ip of bh-geneve was 192.0.2.1",
            "options:csum of bh-geneve was not set",
            "tunnel port bh-vxlan was there and is not wanted",
        ]
    );
}

#[tokio::test]
async fn a_bridge_of_another_owner_is_left_alone_until_it_is_handed_over() {
    let Some(server) = Server::start(TABLES).await else { return };
    let mut connection = server.connect().await;
    shape(&mut connection, &config()).await;
    let hv2: Name = "hv2".parse().unwrap();
    let refused = plan(connection.session().replica(), &config(), &hv2).unwrap_err();
    assert_eq!(refused, Foreign::Owner { bridge: BRIDGE.into(), owner: "hv1".into() });
    assert!(refused.to_string().contains("ovs-vsctl remove bridge br-int external_ids bulkhead-owner"));
    act(&mut connection, &unmark(&hv1())).await;
    let taken = plan(connection.session().replica(), &config(), &hv2).unwrap();
    assert!(taken.repaired[0].contains("was nobody's, and is taken"), "{:?}", taken.repaired);
    act(&mut connection, &taken.operations).await;
    let marks = ["Bridge", "Port", "Controller"].map(|table| {
        let rows = connection.session().replica().rows(table);
        rows.filter(|(_, row)| row.pair("external_ids", OWNER) == Some("hv2")).count()
    });
    assert_eq!(marks, [1, 2, 1]);
}

#[tokio::test]
async fn a_bridge_that_is_made_anew_has_the_datapath_of_all_others() {
    let Some(server) = Server::start(TABLES).await else { return };
    let mut connection = server.connect().await;
    let none = HostConfig { datapath_type: None, ..config() };
    act(&mut connection, &add_bridge(OTHER)).await;
    act(&mut connection, &[update("Bridge", by_name(OTHER), "datapath_type", "netdev".into())]).await;
    shape(&mut connection, &none).await;
    let datapath = |connection: &mut Connection| {
        bridge(connection.session().replica()).text("datapath_type").unwrap_or_default().to_owned()
    };
    assert_eq!(datapath(&mut connection), "netdev");
    // One that is there keeps its own.
    act(&mut connection, &[update("Bridge", by_name(BRIDGE), "datapath_type", "system".into())]).await;
    assert_eq!(shape(&mut connection, &none).await, Vec::<String>::new());
    assert_eq!(datapath(&mut connection), "system");
}

#[tokio::test]
async fn of_two_that_take_a_bridge_at_once_one_fails() {
    let Some(server) = Server::start(TABLES).await else { return };
    let mut connection = server.connect().await;
    act(&mut connection, &add_bridge(BRIDGE)).await;
    // Without tunnels, whose names would be taken.
    let config = HostConfig { tunnels: [].into(), ..config() };
    let plans = ["hv1", "hv2"]
        .map(|name| plan(connection.session().replica(), &config, &name.parse().unwrap()).unwrap().operations);
    act(&mut connection, &plans[0]).await;
    connection.session().transact(&plans[1]).unwrap();
    let event = server::event(&mut connection).await;
    assert!(matches!(event, bulkhead_ovsdb::Event::Transacted(_, Err(_))), "{event:?}");
    assert_eq!(bridge(connection.session().replica()).pair("external_ids", OWNER), Some("hv1"));
}

#[tokio::test]
async fn what_is_there_and_right_is_kept() {
    let Some(server) = Server::start(TABLES).await else { return };
    let mut connection = server.connect().await;
    act(&mut connection, &add_bridge(BRIDGE)).await;
    act(&mut connection, &add_controller(BRIDGE, TARGETS[0])).await;
    for tunnel in ["geneve", "vxlan"] {
        act(&mut connection, &add_port(BRIDGE, &format!("bh-{tunnel}"), tunnel)).await;
    }
    let options = Value::map([("in_key", "7"), ("tos", "inherit"), ("key", "flow")]);
    act(&mut connection, &[update("Interface", by_name("bh-geneve"), "options", options)]).await;
    let rows = |connection: &mut Connection| {
        let replica = connection.session().replica();
        ["Controller", "Port", "Interface"].map(|table| replica.rows(table).map(|(uuid, _)| uuid).collect::<Vec<_>>())
    };
    let before = rows(&mut connection);
    let config = HostConfig { tunnels: [TunnelKind::Geneve].into(), local_ip: None, ..config() };
    let repaired = shape(&mut connection, &config).await;
    assert_eq!(rows(&mut connection), before);
    assert_eq!(
        repaired[repaired.len() - 3..],
        [
            "options:in_key of bh-geneve was 7",
            "options:remote_ip of bh-geneve was not set",
            "tunnel port bh-geneve did not bear our mark"
        ]
    );
    let (_, geneve) = connection
        .session()
        .replica()
        .rows("Interface")
        .find(|(_, row)| row.text("name") == Some("bh-geneve"))
        .unwrap();
    let options: Vec<_> = geneve.pairs("options").collect();
    assert_eq!(options, [("key", "flow"), ("remote_ip", "flow"), ("tos", "inherit")]);
}

#[tokio::test]
async fn a_controller_that_moves_is_changed_in_place() {
    let Some(server) = Server::start(TABLES).await else { return };
    let mut connection = server.connect().await;
    shape(&mut connection, &config()).await;
    let before: Vec<_> = connection.session().replica().rows("Controller").map(|(uuid, _)| uuid).collect();
    let moved = HostConfig { controller: TARGETS[1].into(), ..config() };
    let repaired = shape(&mut connection, &moved).await;
    assert_eq!(repaired, ["the controller of br-int was tcp:192.0.2.10:6653"]);
    let after: Vec<_> = connection.session().replica().rows("Controller").map(|(uuid, _)| uuid).collect();
    assert_eq!(before, after, "a bridge that loses its last controller forgets its flows");
}

#[tokio::test]
async fn a_name_that_is_taken_elsewhere_is_told() {
    let Some(server) = Server::start(TABLES).await else { return };
    let mut connection = server.connect().await;
    act(&mut connection, &add_bridge(OTHER)).await;
    act(&mut connection, &add_port(OTHER, "bh-vxlan", "vxlan")).await;
    let refused = plan(connection.session().replica(), &config(), &hv1()).unwrap_err();
    assert_eq!(refused.to_string(), "port bh-vxlan is needed, and is on bridge br-phy already");
    let without = HostConfig { tunnels: [TunnelKind::Geneve].into(), ..config() };
    shape(&mut connection, &without).await;
}

#[tokio::test]
async fn a_host_that_has_no_certificate_for_its_controller_is_told_of() {
    let Some(server) = Server::start(TABLES).await else { return };
    let mut connection = server.connect().await;
    let secured = HostConfig { controller: "ssl:192.0.2.10:6653".into(), ..config() };
    shape(&mut connection, &secured).await;
    let told = |replica: &Replica, config: &HostConfig| match underlay(replica, config) {
        HostReport::Underlay { errors, .. } => errors.iter().filter(|error| error.contains("set-ssl")).count(),
        other => panic!("{other:?}"),
    };
    let replica = connection.session().replica();
    assert_eq!((told(replica, &secured), told(replica, &config())), (1, 0));
    let files = ["private_key", "certificate", "ca_cert"].map(|file| (file, "/somewhere".into()));
    let ssl = Operation::Insert { table: "SSL", row: files.into(), name: Some("ssl".into()) };
    let show = mutate("Open_vSwitch", vec![], vec![Mutation::insert("ssl", named("ssl"))]);
    act(&mut connection, &[ssl, show]).await;
    assert_eq!(told(connection.session().replica(), &secured), 0);
}
