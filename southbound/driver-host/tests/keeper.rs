//! The keeper against a real ovsdb-server, with a clock and an ovs-vswitchd that are the test's.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "../../ovsdb/tests/server/mod.rs"]
mod server;

use bulkhead_dataplane::host::{HostConfig, HostReport, TunnelKind};
use bulkhead_driver_host::{Act, Keeper, TABLES};
use bulkhead_ovsdb::{Condition, Connection, Event, Function, Mutation, Operation, TransactError, Value};
use bulkhead_topology::DatapathId;
use server::{Server, act, event};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn config() -> HostConfig {
    HostConfig {
        datapath: DatapathId(0xb1),
        controller: "tcp:192.0.2.10:6653".into(),
        datapath_type: Some("netdev".into()),
        local_ip: Some("192.0.2.1".parse().unwrap()),
        tunnels: [TunnelKind::Geneve].into(),
    }
}

struct Rig {
    server: Server,
    connection: Connection,
    keeper: Keeper,
}

impl Rig {
    async fn start() -> Option<Self> {
        let server = Server::start(TABLES).await?;
        let connection = server.connect().await;
        Some(Self { server, connection, keeper: Keeper::new("hv1".parse().unwrap(), config()) })
    }

    /// What the keeper tells when it looks at this time; what it wants done is done.
    async fn look(&mut self, now: Duration) -> Vec<HostReport> {
        let mut told = Vec::new();
        let mut acts = self.keeper.look(self.connection.session().replica(), now);
        while !acts.is_empty() {
            let mut next = Vec::new();
            for one in acts {
                match one {
                    Act::Report(report) => told.push(report),
                    Act::Transact(operations) => {
                        let number = self.connection.session().transact(&operations).unwrap();
                        let done = loop {
                            match event(&mut self.connection).await {
                                Event::Transacted(answered, done) if answered == number => break done,
                                Event::Changed => {}
                                other => panic!("{other:?}"),
                            }
                        };
                        next.extend(self.keeper.answered(done, now));
                        next.extend(self.keeper.look(self.connection.session().replica(), now));
                    }
                }
            }
            acts = next;
        }
        told
    }

    /// What ovs-vswitchd does when it has carried everything out.
    async fn carry_out(&mut self) {
        let next =
            self.connection.session().replica().rows("Open_vSwitch").next().unwrap().1.integer("next_cfg").unwrap();
        let row = vec![("cur_cfg", next.into())];
        act(&mut self.connection, &[Operation::Update { table: "Open_vSwitch", conditions: vec![], row }]).await;
    }

    async fn shaped(&mut self, now: Duration) -> Vec<HostReport> {
        let mut told = self.look(now).await;
        self.carry_out().await;
        told.extend(self.look(now).await);
        told
    }

    async fn remove_tunnel(&mut self) {
        let replica = self.connection.session().replica();
        let (port, _) = replica.rows("Port").find(|(_, row)| row.text("name") == Some("bh-geneve")).unwrap();
        let name = Condition { column: "name", function: Function::Equal, value: "br-int".into() };
        let mutations = vec![Mutation::delete("ports", port.into())];
        act(&mut self.connection, &[Operation::Mutate { table: "Bridge", conditions: vec![name], mutations }]).await;
    }
}

fn mended(what: &str) -> HostReport {
    HostReport::Shaped { repaired: vec![what.to_owned()] }
}

#[tokio::test]
async fn shaped_is_said_when_the_switch_has_carried_it_out() {
    let Some(mut rig) = Rig::start().await else { return };
    let nothing = HostReport::Underlay { mtu: None, errors: vec![] };
    assert_eq!(rig.look(SECOND).await, [HostReport::Interfaces(vec![]), nothing]);
    assert_eq!(rig.keeper.wake(), Some(11 * SECOND));
    assert_eq!(rig.look(10 * SECOND).await, []);
    let told = rig.look(11 * SECOND).await;
    assert!(matches!(told.as_slice(), [HostReport::Unable(why)] if why.contains("is it running?")), "{told:?}");
    assert_eq!((rig.look(60 * SECOND).await, rig.keeper.wake()), (vec![], None), "it is told once");
    rig.carry_out().await;
    assert_eq!(rig.look(61 * SECOND).await, [mended("bridge br-int was missing")]);
    assert_eq!(rig.look(62 * SECOND).await, []);
}

#[tokio::test]
async fn a_host_in_shape_is_only_asked_whether_it_is_there() {
    let Some(mut rig) = Rig::start().await else { return };
    rig.shaped(SECOND).await;
    let mut newcomer =
        Rig { connection: rig.server.connect().await, keeper: Keeper::new("hv1".parse().unwrap(), config()), ..rig };
    let told = newcomer.look(SECOND).await;
    assert!(!told.iter().any(|report| matches!(report, HostReport::Shaped { .. })), "{told:?}");
    newcomer.carry_out().await;
    assert_eq!(newcomer.look(SECOND).await, [HostReport::Shaped { repaired: vec![] }]);
}

#[tokio::test]
async fn drift_while_a_repair_is_carried_out_is_mended_and_told_with_it() {
    let Some(mut rig) = Rig::start().await else { return };
    rig.look(SECOND).await;
    rig.remove_tunnel().await;
    assert_eq!(rig.look(SECOND).await, []);
    rig.carry_out().await;
    let repaired = vec!["bridge br-int was missing".into(), "tunnel port bh-geneve was missing".into()];
    assert_eq!(rig.look(SECOND).await, [HostReport::Shaped { repaired }]);
}

#[tokio::test]
async fn who_keeps_undoing_repairs_is_met_ever_more_rarely() {
    let Some(mut rig) = Rig::start().await else { return };
    rig.shaped(SECOND).await;
    let missing = "tunnel port bh-geneve was missing";
    let mut now = SECOND;
    for _ in 0..3 {
        rig.remove_tunnel().await;
        assert_eq!(rig.shaped(now).await, [mended(missing)], "at once");
    }
    for pause in [500, 1000, 2000] {
        rig.remove_tunnel().await;
        let fight = HostReport::Unable(format!("somebody keeps changing what is ours: {missing}"));
        assert_eq!(rig.look(now).await, [fight]);
        now += Duration::from_millis(pause);
        assert_eq!(rig.keeper.wake(), Some(now));
        assert_eq!(rig.shaped(now).await, [mended(missing)]);
    }
    now += 60 * SECOND;
    rig.remove_tunnel().await;
    assert_eq!(rig.shaped(now).await, [mended(missing)], "after a quiet time it is at once again");
}

#[tokio::test]
async fn a_change_that_is_refused_is_told_and_tried_again() {
    let Some(mut rig) = Rig::start().await else { return };
    let refuse = || TransactError { at: 0, error: "timed out".into(), details: "wait".into() };
    let acts = rig.keeper.look(rig.connection.session().replica(), SECOND);
    assert!(matches!(acts.last(), Some(Act::Transact(_))), "{acts:?}");
    let told = rig.keeper.answered(Err(refuse()), SECOND);
    assert_eq!(told, Some(Act::Report(HostReport::Unable("the database refused a change: timed out: wait".into()))));
    for now in [1.0, 1.0, 1.0, 1.5, 2.5].map(Duration::from_secs_f64) {
        let acts = rig.keeper.look(rig.connection.session().replica(), now);
        assert!(matches!(acts.as_slice(), [Act::Transact(_)]), "{now:?} {acts:?}");
        assert_eq!(rig.keeper.answered(Err(refuse()), now), None);
        if now > SECOND {
            assert_eq!(rig.keeper.look(rig.connection.session().replica(), now), [], "not at once");
        }
    }
    assert_eq!(rig.shaped(60 * SECOND).await, [mended("bridge br-int was missing")]);
}

#[tokio::test]
async fn a_bridge_of_another_owner_is_told_and_what_is_plugged_there_is_not() {
    let Some(mut rig) = Rig::start().await else { return };
    rig.shaped(SECOND).await;
    let ids = Value::map([("iface-id", "web-1")]);
    let local = Condition { column: "name", function: Function::Equal, value: "br-int".into() };
    let row = vec![("external_ids", ids)];
    let plug = Operation::Update { table: "Interface", conditions: vec![local.clone()], row };
    act(&mut rig.connection, &[plug]).await;
    let told = rig.look(SECOND).await;
    assert!(matches!(told.as_slice(), [HostReport::Interfaces(found)] if found.len() == 1), "{told:?}");
    let mutations = Mutation::put("external_ids", "bulkhead-owner", "hv2").into();
    act(&mut rig.connection, &[Operation::Mutate { table: "Bridge", conditions: vec![local.clone()], mutations }])
        .await;
    let told = rig.look(SECOND).await;
    assert_eq!(told[0], HostReport::Interfaces(vec![]));
    assert!(matches!(&told[1], HostReport::Unable(why) if why.contains("belongs to switch hv2")), "{told:?}");
    let mutations = vec![Mutation::delete("external_ids", "bulkhead-owner".into())];
    act(&mut rig.connection, &[Operation::Mutate { table: "Bridge", conditions: vec![local], mutations }]).await;
    let told = rig.shaped(SECOND).await;
    assert!(matches!(&told[0], HostReport::Interfaces(found) if found.len() == 1), "{told:?}");
    assert_eq!(told.last(), Some(&mended("bridge br-int was nobody's, and is taken")));
}

#[tokio::test]
async fn what_carries_the_tunnels_is_told() {
    let Some(mut rig) = Rig::start().await else { return };
    rig.shaped(SECOND).await;
    let interface = |name: &str, mtu: i64| Operation::Insert {
        table: "Interface",
        row: vec![("name", name.into()), ("mtu", mtu.into())],
        name: Some(name.into()),
    };
    let named = |name: &str| Value::Set([bulkhead_ovsdb::Atom::Named(name.into())].into());
    let port = |name: &str, interface: &str| Operation::Insert {
        table: "Port",
        row: vec![("name", name.into()), ("interfaces", named(interface))],
        name: Some(format!("{name}_port")),
    };
    let ports = [named("phy_port"), named("u1_port")].map(|value| Mutation::insert("ports", value));
    let bridge = vec![("name", "phy".into()), ("datapath_type", "netdev".into())];
    let operations = [
        interface("phy", 1600),
        interface("u1", 1550),
        port("phy", "phy"),
        port("u1", "u1"),
        Operation::Insert { table: "Bridge", row: bridge, name: Some("b".into()) },
        Operation::Mutate {
            table: "Bridge",
            conditions: vec![Condition { column: "name", function: Function::Equal, value: "phy".into() }],
            mutations: ports.into(),
        },
        Operation::Mutate {
            table: "Open_vSwitch",
            conditions: vec![],
            mutations: vec![Mutation::insert("bridges", named("b"))],
        },
    ];
    act(&mut rig.connection, &operations).await;
    assert_eq!(rig.look(SECOND).await, [HostReport::Underlay { mtu: Some(1550), errors: vec![] }]);
    let tunnel = Condition { column: "name", function: Function::Equal, value: "bh-geneve".into() };
    let row = vec![("error", "File exists".into())];
    act(&mut rig.connection, &[Operation::Update { table: "Interface", conditions: vec![tunnel], row }]).await;
    let errors = vec!["bh-geneve: File exists".to_owned()];
    assert_eq!(rig.look(SECOND).await, [HostReport::Underlay { mtu: Some(1550), errors }]);
}

/// OpenFlow cuts names: what is told of the one would be the other's.
#[tokio::test]
async fn interfaces_whose_names_openflow_cuts_are_told_with_what_is_wrong() {
    let Some(mut rig) = Rig::start().await else { return };
    rig.shaped(SECOND).await;
    let named = |name: String| Value::Set([bulkhead_ovsdb::Atom::Named(name)].into());
    let names = ["vhostuser-web-1", "vhostuser-web-10", "vhostuser-web-2", "web-3"];
    let mut operations = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        // The last one says no address.
        let mac = (at < 3).then(|| ("attached-mac", format!("02:00:00:00:00:0{at}")));
        let ids = Value::map([("iface-id", format!("web-{at}"))].into_iter().chain(mac));
        operations.push(Operation::Insert {
            table: "Interface",
            row: vec![("name", name.into()), ("external_ids", ids)],
            name: Some(format!("i{at}")),
        });
        operations.push(Operation::Insert {
            table: "Port",
            row: vec![("name", name.into()), ("interfaces", named(format!("i{at}")))],
            name: Some(format!("p{at}")),
        });
        operations.push(Operation::Mutate {
            table: "Bridge",
            conditions: vec![Condition { column: "name", function: Function::Equal, value: "br-int".into() }],
            mutations: vec![Mutation::insert("ports", named(format!("p{at}")))],
        });
    }
    act(&mut rig.connection, &operations).await;
    let told = rig.look(SECOND).await;
    let [HostReport::Interfaces(told)] = &told[..] else { panic!("{told:?}") };
    let told: Vec<_> = told.iter().map(|one| (one.port.as_str(), one.error.as_deref())).collect();
    let expected = [
        (names[0], Some("its name is all that OpenFlow tells of vhostuser-web-10, too")),
        (names[1], Some("its name is longer than the 15 bytes that OpenFlow tells")),
        (names[2], None),
        (names[3], Some("external_ids:attached-mac is missing")),
    ];
    assert_eq!(told, expected);
}
