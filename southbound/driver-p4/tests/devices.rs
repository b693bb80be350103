//! The driver against devices: the stand-in, and BMv2's simple_switch_grpc where that is on the PATH.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use bulkhead_dataplane::{Command, Report};
use bulkhead_driver_p4::{
    controller, layout,
    underlay::{self, Row},
};
use bulkhead_p4_target::{Idle, Target};
use bulkhead_p4runtime::{
    Client, ElectionId, Pipeline,
    info::parse_text,
    proto::p4::v1::{Entity, TableEntry, Update, entity, update::Type, write_request::Atomicity},
};
use bulkhead_pipeline::{Cause, Delta, Entry, Field, Line, Match, Next, Program, Stage};
use bulkhead_topology::{
    Mac,
    underlay::{Hop, Route, Underlay},
};
use common::{Process, Rig, delta, state_program};
use std::{
    env,
    fmt::Write,
    net::{SocketAddr, TcpListener},
    process::Stdio,
    time::Duration,
};
use tokio::{sync::mpsc, time::sleep};

/// A device that runs.
enum Device {
    StandIn(Target),
    Bmv2 { address: String, _process: Process },
}

impl Device {
    async fn stand_in() -> Self {
        Self::stand_in_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    async fn stand_in_at(at: SocketAddr) -> Self {
        let (_, told) = mpsc::channel(1);
        Self::StandIn(Target::start(at, 1, Box::new(Idle), told).await.unwrap())
    }

    /// The stand-in, and the real thing where it is there.
    async fn all() -> Vec<Self> {
        let mut all = vec![Self::stand_in().await];
        let folders = env::var_os("PATH").unwrap_or_default();
        let program =
            env::split_paths(&folders).map(|folder| folder.join("simple_switch_grpc")).find(|it| it.is_file());
        let Some(program) = program else {
            println!("NOT TESTED against BMv2: simple_switch_grpc is not on the PATH");
            return all;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut command = std::process::Command::new(program);
        command.args(["--no-p4", "--device-id", "1", "--log-level", "off", "--", "--grpc-server-addr", &address]);
        command.args(["--cpu-port", &controller::PORT.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        all.push(Self::Bmv2 { _process: Process(command.spawn().unwrap()), address });
        all
    }

    fn address(&self) -> String {
        match self {
            Self::StandIn(target) => target.address().to_string(),
            Self::Bmv2 { address, .. } => address.clone(),
        }
    }
}

/// A leaf's program: workloads on its ports, some policies.
fn program(workloads: u32) -> Program {
    let mut documents = String::from(
        "kind: Network\nmetadata: {name: net}\nspec: {vni: 1, subnets: [10.0.0.0/16, \"fd00::/64\"], gateways: [10.0.0.254], \
         uplinks: [{switch: leaf, port: 500, vlan: 9}]}\n---\nkind: Switch\nmetadata: {name: leaf}\nspec: {driver: p4runtime, \
         address: \"127.0.0.1:9559\", deviceId: 1}\n---\nkind: Policy\nmetadata: {name: p}\nspec: {subject: {matchLabels: {app: \
         web}}, ingress: [{action: allow, from: [{cidr: 10.0.0.0/17}, {external: true}], ports: [{protocol: tcp, port: 80, \
         endPort: 90}]}, {action: reject, ports: [{protocol: udp}]}]}\n",
    );
    for n in 1..=workloads {
        let app = if n % 2 == 0 { "web" } else { "db" };
        write!(
            documents,
            "---\nkind: Workload\nmetadata: {{name: w{n}, labels: {{app: {app}}}}}\nspec: {{network: net, interfaces: [{{mac: \
             \"02:00:00:00:00:{n:02x}\", ips: [10.0.0.{n}, \"fd00::{n:x}\"], attachment: {{switch: leaf, port: {n}}}}}]}}\n"
        )
        .unwrap();
    }
    state_program(&documents)
}

#[tokio::test]
async fn a_program_is_written_read_changed_and_found_again() {
    for device in Device::all().await {
        let mut rig = Rig::attach(&device.address(), 1).await;
        rig.connected().await;
        assert_eq!(rig.read().await, (Program::new(), 0));
        let (small, large) = (program(3), program(40));
        rig.apply(delta(&Program::new(), &large), vec![]).await.unwrap();
        assert_eq!(rig.read().await, (large.clone(), 0));
        rig.apply(delta(&large, &small), vec![]).await.unwrap();
        rig.apply(delta(&small, &large), vec![]).await.unwrap();
        assert_eq!(rig.read().await, (large.clone(), 0));
        let Report::Counters(counters) = rig.ask(Command::Count).await else { panic!() };
        assert!(counters.iter().any(|counter| matches!(counter.cause, Cause::Rule(_))));
        assert!(counters.iter().all(|counter| counter.packets == 0));
        rig.end().await;
        // Who comes next finds all as it was, and the program is not loaded again: that would lose it.
        let mut rig = Rig::attach(&device.address(), 1).await;
        rig.connected().await;
        assert_eq!(rig.read().await, (large, 0));
        rig.end().await;
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_anything_is_sent() {
    let device = Device::stand_in().await;
    let mut rig = Rig::attach(&device.address(), 1).await;
    rig.connected().await;
    rig.read().await;
    let track = |n: u32| {
        let matches = Match::any().with(Field::EthType, n + 1);
        Entry::new(Stage::Track, 9, matches, vec![], Next::Drop, Cause::Rule(n))
    };
    let many = |n: u32| Delta { remove: vec![], add: (0..n).map(track).collect() };
    let size = layout::size(Stage::Track);
    let full = format!("table ingress.track has room for {size} entries, and {} are needed", size + 1);
    assert_eq!(rig.apply(many(size + 1), vec![]).await, Err(full.clone()));
    // Nor is a plan begun that cannot be ended.
    assert_eq!(rig.apply(many(1), vec![many(5), many(size + 1)]).await, Err(full));
    let strange = Entry::new(Stage::Carry, 9, Match::any(), vec![], Next::Drop, Cause::Rule(1));
    let refused = rig.apply(Delta { remove: vec![], add: vec![track(0), strange] }, vec![]).await.unwrap_err();
    assert!(refused.contains("the program has no table ingress.carry"), "{refused}");
    assert_eq!(rig.read().await, (Program::new(), 0));
    rig.apply(many(size), vec![]).await.unwrap();
    // One more comes before one goes, and has no room.
    let moved = Delta { remove: vec![track(0).key.clone()], add: vec![track(size)] };
    assert!(rig.apply(moved, vec![]).await.is_err());
    assert_eq!(rig.read().await.0.len(), size as usize);
    rig.end().await;
}

fn update(kind: Type, entry: TableEntry) -> Update {
    let mut update =
        Update { entity: Some(Entity { entity: Some(entity::Entity::TableEntry(entry)) }), ..Update::default() };
    update.set_type(kind);
    update
}

fn pipeline() -> Pipeline {
    Pipeline::new(parse_text(bulkhead_driver_p4::P4INFO).unwrap(), bulkhead_driver_p4::BMV2.to_vec()).unwrap()
}

#[tokio::test]
async fn a_step_that_a_device_refuses_leaves_all_as_it_was() {
    for device in Device::all().await {
        let mut rig = Rig::attach(&device.address(), 1).await;
        rig.connected().await;
        rig.read().await;
        let (before, after) = (program(3), program(30));
        rig.apply(delta(&Program::new(), &before), vec![]).await.unwrap();
        rig.end().await;
        // Who has not read knows nothing of what is there, and inserts it once more.
        let mut rig = Rig::attach(&device.address(), 1).await;
        rig.connected().await;
        let refused = rig.apply(delta(&Program::new(), &after), vec![]).await.unwrap_err();
        assert!(refused.contains("the device refused an entry"), "{refused}");
        assert_eq!(rig.read().await, (before.clone(), 0));
        rig.apply(delta(&before, &after), vec![]).await.unwrap();
        assert_eq!(rig.read().await, (after, 0));
        rig.end().await;
    }
}

/// A step of several batches, the last of which the device refuses a part of: what came, changed and went is taken back, and
/// the driver knows that it was.
#[tokio::test]
async fn what_the_batches_of_a_refused_step_made_is_taken_back() {
    for device in Device::all().await {
        let entry = |n: u32, next| {
            let matches = Match::any().with(Field::SrcId, n + 1);
            Entry::new(Stage::IngressApplication, 9, matches, vec![], next, Cause::Rule(n))
        };
        let (allow, deny) = (|n| entry(n, Next::Stage(Stage::Verdict)), |n| entry(n, Next::Drop));
        let changed = |n| Entry::from(Line { cause: Cause::Rule(7), ..(*deny(n)).clone() });
        let keys = |entries: std::ops::Range<u32>| entries.map(|n| deny(n).key.clone()).collect::<Vec<_>>();
        let mut rig = Rig::attach(&device.address(), 1).await;
        rig.connected().await;
        rig.apply(Delta { remove: vec![], add: vec![deny(2_500)] }, vec![]).await.unwrap();
        rig.end().await;
        // Who has not read does not know of that one.
        let mut rig = Rig::attach(&device.address(), 1).await;
        rig.connected().await;
        let add = (0..10).map(allow).chain((10..20).map(deny)).collect();
        rig.apply(Delta { remove: vec![], add }, vec![]).await.unwrap();
        let add = (10..20).map(changed).chain((20..3_000).map(deny)).collect();
        let refused = rig.apply(Delta { remove: keys(0..10), add }, vec![]).await.unwrap_err();
        assert!(refused.contains("the device refused an entry"), "{refused}");
        assert!(rig.apply(Delta { remove: vec![], add: vec![deny(2_500)] }, vec![]).await.is_err());
        rig.apply(Delta { remove: keys(5..15), add: (20..1_200).map(deny).collect() }, vec![]).await.unwrap();
        let wanted = (0..5).map(allow).chain((15..1_200).chain([2_500]).map(deny)).collect();
        assert_eq!(rig.read().await, (wanted, 0));
        rig.end().await;
    }
}

/// What a device has in the tables of the underlay, as rows.
async fn beside(device: &Device) -> Vec<Option<Row>> {
    let pipeline = pipeline();
    let (client, _stream) = Client::connect(&device.address(), 1, ElectionId(0)).await.unwrap();
    let mut rows = Vec::new();
    for table in [underlay::PORTS, underlay::ROUTES] {
        let table_id = pipeline.info().table_named(table).unwrap().id;
        let pattern = entity::Entity::TableEntry(TableEntry { table_id, ..TableEntry::default() });
        for found in client.read(vec![Entity { entity: Some(pattern) }]).await.unwrap() {
            let Some(entity::Entity::TableEntry(entry)) = found.entity else { panic!() };
            if !entry.is_default_action {
                rows.push(underlay::lift(&entry, pipeline.info()));
            }
        }
    }
    rows.sort();
    rows
}

/// What is known of the underlay is there before anything is asked of the device, is changed to what another document says,
/// and goes with it; the program stays.
#[tokio::test]
async fn the_underlay_is_written_beside_the_program() {
    let hop = |port: u32| Hop { port, mac: Mac([2, 0, 0, 2, 0, port as u8]) };
    let route =
        |to: &str, ports: &[u32]| Route { to: to.parse().unwrap(), via: ports.iter().copied().map(hop).collect() };
    let known = |vtep: &str, routes: &[Route]| Underlay {
        vtep: vtep.parse().unwrap(),
        mac: Mac([2, 0, 0, 1, 0, 1]),
        mtu: None,
        routes: routes.to_vec(),
    };
    let underlays = [
        known("192.0.2.1", &[route("0.0.0.0/0", &[3, 4]), route("192.0.2.0/24", &[4]), route("192.0.2.9/32", &[3])]),
        known("192.0.2.1", &[route("0.0.0.0/0", &[3, 4, 5]), route("192.0.2.0/25", &[4]), route("192.0.2.9/32", &[3])]),
        known("2001:db8::1", &[route("::/0", &[3, 4]), route("2001:db8::/32", &[5, 6, 7])]),
    ];
    for device in Device::all().await {
        let program = program(3);
        let mut rig = Rig::attach(&device.address(), 1).await;
        rig.connected().await;
        rig.read().await;
        rig.apply(delta(&Program::new(), &program), vec![]).await.unwrap();
        rig.end().await;
        for wanted in underlays.iter().map(Some).chain([None]) {
            let mut rig = Rig::attach_with(&device.address(), 1, wanted.cloned()).await;
            rig.connected().await;
            assert_eq!(rig.read().await, (program.clone(), 0));
            let mut rows: Vec<_> = wanted.map(underlay::rows).unwrap_or_default().into_iter().map(Some).collect();
            rows.sort();
            assert_eq!(beside(&device).await, rows);
            assert_eq!(rig.read().await, (program.clone(), 0), "nothing is written twice");
            rig.end().await;
        }
    }
}

/// Other routes are another attachment, at once: the device may not have noticed yet that the one before is gone.
#[tokio::test]
async fn an_underlay_that_changes_leaves_the_program_alone() {
    let underlay = |port: u32| {
        let via = vec![Hop { port, mac: Mac([2, 0, 0, 2, 0, 1]) }];
        let routes = vec![Route { to: "0.0.0.0/0".parse().unwrap(), via }];
        Underlay { vtep: "192.0.2.1".parse().unwrap(), mac: Mac([2, 0, 0, 1, 0, 1]), mtu: None, routes }
    };
    for device in Device::all().await {
        let program = program(3);
        let mut rig = Rig::attach_with(&device.address(), 1, Some(underlay(3))).await;
        rig.connected().await;
        rig.read().await;
        rig.apply(delta(&Program::new(), &program), vec![]).await.unwrap();
        for port in [4, 5, 6] {
            rig.attach_again(&device.address(), 1, underlay(port)).await;
            rig.connected().await;
            assert_eq!(rig.read().await, (program.clone(), 0));
            let rows: Vec<_> = underlay::rows(&underlay(port)).into_iter().map(Some).collect();
            assert_eq!(beside(&device).await, rows);
        }
        rig.end().await;
    }
}

#[tokio::test]
async fn another_primary_is_waited_for_and_what_it_left_is_removed() {
    let device = Device::stand_in().await;
    let mut rig = Rig::attach(&device.address(), 1).await;
    rig.connected().await;
    rig.read().await;
    let small = program(2);
    rig.apply(delta(&Program::new(), &small), vec![]).await.unwrap();
    let (client, stream) = Client::connect(&device.address(), 1, ElectionId(1 << 100)).await.unwrap();
    assert!(rig.disconnected().await.contains("another controller is the device's primary"));
    let info = pipeline();
    let stray = Entry::new(Stage::Track, 99, Match::any(), vec![], Next::Drop, Cause::Rule(1));
    let stray = TableEntry { metadata: vec![], ..bulkhead_driver_p4::lower(&stray, info.info()).unwrap() };
    let written = client.write(info.info(), vec![update(Type::Insert, stray)], Atomicity::ContinueOnError).await;
    assert_eq!(written.unwrap(), [Ok(())]);
    drop((client, stream));
    rig.connected().await;
    assert_eq!(rig.read().await, (small.clone(), 1));
    rig.apply(Delta::default(), vec![]).await.unwrap();
    assert_eq!(rig.read().await, (small, 0));
    rig.end().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_device_is_said() {
    // Nobody is there yet.
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut rig = Rig::attach(&at.to_string(), 1).await;
    let why = rig.disconnected().await;
    assert!(why.contains(&format!("{at} cannot be reached")), "{why}");
    let device = Device::stand_in_at(at).await;
    rig.connected().await;
    rig.end().await;
    // It has another number.
    let mut rig = Rig::attach(&device.address(), 2).await;
    let why = rig.disconnected().await;
    assert!(why.contains("device 2 at"), "{why}");
    rig.end().await;
    // It has somebody else's program, which stays.
    let device = Device::stand_in().await;
    let tiny = Pipeline::new(
        parse_text(include_str!("../../p4runtime/tests/tiny.p4info.txtpb")).unwrap(),
        include_bytes!("../../p4runtime/tests/tiny.json").to_vec(),
    );
    let tiny = tiny.unwrap();
    let (client, stream) = Client::connect(&device.address(), 1, ElectionId(1)).await.unwrap();
    client.ensure_pipeline(&tiny).await.unwrap();
    drop(stream);
    let mut rig = Rig::attach(&device.address(), 1).await;
    let why = rig.disconnected().await;
    assert!(why.contains("the device has another program"), "{why}");
    assert_eq!(client.cookie().await.unwrap(), Some(tiny.cookie()));
    rig.end().await;
    // It goes, and comes back with nothing.
    let device = Device::stand_in().await;
    let mut rig = Rig::attach(&device.address(), 1).await;
    rig.connected().await;
    let address: SocketAddr = device.address().parse().unwrap();
    let Device::StandIn(target) = device else { panic!() };
    target.stop().await;
    rig.disconnected().await;
    let device = loop {
        let (_, told) = mpsc::channel(1);
        match Target::start(address, 1, Box::new(Idle), told).await {
            Ok(target) => break target,
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    };
    rig.connected().await;
    assert_eq!(rig.read().await, (Program::new(), 0));
    rig.end().await;
    device.stop().await;
}
