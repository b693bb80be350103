//! A P4 switch that is started again has lost everything, and gets it again: its program once, each entry once. A
//! controller that is started again finds all there, and writes nothing.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_client::Client;
use bulkhead_daemon::{Config, Daemon, start};
use bulkhead_p4_target::{Forward, Software, Target, device::State};
use bulkhead_p4runtime::{
    Info,
    entry::Key,
    proto::p4::v1::{CounterData, PacketOut, Update, update::Type},
};
use bulkhead_types::{Format, read};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, sync::mpsc};

/// How long anything may take that has to come, on a busy machine.
const COMING: Duration = Duration::from_secs(30);
/// Pause between two looks at something that is coming.
const PAUSE: Duration = Duration::from_millis(20);

const DOCUMENTS: &str = "
kind: Network
metadata: {name: net}
spec: {vni: 1, subnets: [10.0.0.0/24]}
---
kind: Workload
metadata: {name: a, labels: {app: a}}
spec: {network: net, interfaces: [{mac: \"02:00:00:00:00:01\", ips: [10.0.0.1], attachment: {switch: leaf, port: 1}}]}
---
kind: Workload
metadata: {name: b, labels: {app: b}}
spec: {network: net, interfaces: [{mac: \"02:00:00:00:00:02\", ips: [10.0.0.2], attachment: {switch: leaf, port: 2}}]}
---
kind: Policy
metadata: {name: b}
spec: {subject: {matchLabels: {app: b}}, ingress: [{action: allow, from: [{matchLabels: {app: a}}]}]}
---
kind: Policy
metadata: {name: out}
spec: {subject: {matchLabels: {app: a}}, egress: [{action: allow}]}
---
kind: Switch
metadata: {name: leaf}
spec: {driver: p4runtime, deviceId: 1, address: \"ADDRESS\", vtep: 192.0.2.1, underlay: {mac: \"02:00:00:00:01:01\",
  routes: [{to: 192.0.2.0/24, via: [{port: 9, mac: \"02:00:00:00:01:02\"}]}]}}
";

/// What was written to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Written {
    programs: usize,
    inserts: u64,
    others: u64,
}

/// A device that counts it.
#[derive(Debug, Clone, Default)]
struct Counting {
    software: Software,
    written: Arc<Mutex<Written>>,
}

impl Counting {
    fn written(&self) -> Written {
        *self.written.lock().unwrap()
    }
}

impl Forward for Counting {
    fn verify(&self, info: &Info, config: &[u8]) -> Result<(), String> {
        self.software.verify(info, config)
    }

    fn takes(&self, info: &Info, update: &Update) -> Result<(), String> {
        self.software.takes(info, update)
    }

    fn program(&mut self, state: &State, config: &[u8]) {
        self.written.lock().unwrap().programs += 1;
        self.software.program(state, config);
    }

    fn changed(&mut self, state: &State, updates: &[Update]) {
        let mut written = self.written.lock().unwrap();
        for update in updates {
            match update.r#type() {
                Type::Insert => written.inserts += 1,
                _ => written.others += 1,
            }
        }
        self.software.changed(state, updates);
    }

    fn packet_out(&mut self, packet: PacketOut) {
        self.software.packet_out(packet);
    }

    fn hits(&self, table: u32, key: &Key) -> CounterData {
        self.software.hits(table, key)
    }

    fn count(&self, counter: u32, index: u64) -> CounterData {
        self.software.count(counter, index)
    }
}

/// The device that listens at this address from now on.
fn device(runtime: &Runtime, at: SocketAddr) -> (Target, Counting) {
    let counting = Counting::default();
    let (_, told) = mpsc::channel(1);
    let target = Target::start(at, 1, Box::new(counting.clone()), told);
    (runtime.block_on(target).unwrap(), counting)
}

fn controller(runtime: &Runtime, data: &Path) -> (Daemon, Client) {
    let openflow = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let config = Config {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        api: bulkhead_daemon::Api::Open,
        openflow_listen: openflow,
        openflow_advertise: None,
        southbound_tls: None,
        data_dir: data.into(),
        retention: Default::default(),
        record: None,
        log: "warn".into(),
    };
    let daemon = runtime.block_on(start(&config, Default::default())).unwrap();
    let client = Client::new(&format!("http://{}", daemon.listen)).unwrap();
    (daemon, client)
}

/// Waits until the leaf has everything, and says how many entries that are.
fn settled(client: &Client, revision: u64, about: &str) -> u64 {
    let deadline = Instant::now() + COMING;
    loop {
        let status = client.status().unwrap();
        // A controller that has just come knows of no switch yet.
        let leaf = status.switches.first().filter(|leaf| leaf.connected && leaf.acknowledged >= revision);
        if let Some(leaf) = leaf {
            return leaf.entries;
        }
        assert!(Instant::now() < deadline, "{about}: {status:?}");
        std::thread::sleep(PAUSE);
    }
}

/// An IPv4 packet without anything in it, from a to b.
fn frame() -> Vec<u8> {
    let ip = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0x65, 0xeb, 10, 0, 0, 1, 10, 0, 0, 2];
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0][..], &ip].concat()
}

#[test]
fn everything_is_written_again_once_and_nothing_that_is_there() {
    let runtime = Runtime::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (target, first) = device(&runtime, (Ipv4Addr::LOCALHOST, 0).into());
    let address = target.address();
    let (daemon, client) = controller(&runtime, &directory.path().join("data"));
    let parsed = read(None, DOCUMENTS.replace("ADDRESS", &address.to_string()).as_bytes(), Format::Any);
    assert!(!parsed.has_errors(), "{:#?}", parsed.diagnostics);
    let values: Vec<_> = parsed.documents.iter().map(|document| document.to_value()).collect();
    let revision = client.apply(&values, false).unwrap().revision;
    let entries = settled(&client, revision, "first");
    // A port of the underlay and a route are beside the entries.
    let all = Written { programs: 1, inserts: entries + 2, others: 0 };
    assert_eq!((first.written(), first.software.pass(1, &frame())), (all, Some((2, frame()))));

    runtime.block_on(target.stop());
    let deadline = Instant::now() + COMING;
    while client.status().unwrap().switches[0].connected {
        assert!(Instant::now() < deadline, "nobody noticed");
        std::thread::sleep(PAUSE);
    }
    let (target, second) = device(&runtime, address);
    assert_eq!(second.software.pass(1, &frame()), None);
    assert_eq!(settled(&client, revision, "again"), entries);
    assert_eq!((second.written(), second.software.pass(1, &frame())), (all, Some((2, frame()))));

    runtime.block_on(daemon.stop()).unwrap();
    assert_eq!(second.software.pass(1, &frame()), Some((2, frame())), "nobody is there who could have changed it");
    let (daemon, client) = controller(&runtime, &directory.path().join("data"));
    assert_eq!(settled(&client, revision, "another controller"), entries);
    assert_eq!(second.written(), all);
    runtime.block_on(daemon.stop()).unwrap();
    runtime.block_on(target.stop());
}
