//! A P4 switch that is started again has lost everything, and gets it again: its program once, each entry once. A
//! controller that is started again finds all there, and writes nothing.

use crate::{ANYWHERE, apply, controller, frame, when};
use bulkhead_client::Client;
use bulkhead_p4_target::{Forward, Software, Target, device::State};
use bulkhead_p4runtime::{
    Info,
    entry::Key,
    proto::p4::v1::{CounterData, PacketOut, Update, update::Type},
};
use bulkhead_types::answer::SwitchStatus;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::runtime::Runtime;

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

/// Waits until the leaf has everything, and says how many entries that are.
fn settled(client: &Client, revision: u64, about: &str) -> u64 {
    let has = |leaf: &SwitchStatus| leaf.connected && leaf.acknowledged >= revision;
    // A controller that has just come knows of no switch yet.
    when(client, about, |switches| switches.first().is_some_and(has))[0].entries
}

/// A device that counts, and what it counts.
fn device(runtime: &Runtime, at: SocketAddr) -> (Target, Counting) {
    let counting = Counting::default();
    (crate::device(runtime, at, counting.clone()), counting)
}

#[test]
fn everything_is_written_again_once_and_nothing_that_is_there() {
    let runtime = Runtime::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (target, first) = device(&runtime, ANYWHERE.into());
    let address = target.address();
    let (daemon, client) = controller(&runtime, &directory.path().join("data"));
    let revision = apply(&client, &DOCUMENTS.replace("ADDRESS", &address.to_string()));
    let entries = settled(&client, revision, "first");
    // A port of the underlay, a route, and what copies packets are beside the entries, and two meters are set.
    let all = Written { programs: 1, inserts: entries + 3, others: 2 };
    assert_eq!((first.written(), first.software.pass(1, &frame())), (all, Some((2, frame()))));

    runtime.block_on(target.stop());
    when(&client, "nobody noticed", |switches| !switches[0].connected);
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
