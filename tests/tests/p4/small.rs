//! A P4 switch with a table that is too small: it keeps what it had, `status` says so, it is tried again after growing pauses,
//! other switches have what they are to have meanwhile, and it gets everything once there is room.

use crate::{ANYWHERE, COMING, PAUSE, apply, controller, device, frame, when};
use bulkhead_p4_target::{Forward, Software, Target, device::State};
use bulkhead_p4runtime::{
    Info,
    entry::Key,
    proto::p4::v1::{CounterData, PacketOut, Update, entity, update::Type},
};
use bulkhead_types::answer::SwitchStatus;
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// The table that is too small, and what it has room for.
const TABLE: &str = "ingress.locate";
const ROOM: usize = 3;
/// What is waited between attempts at least.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(400)];

/// What a device with a small table knows.
#[derive(Debug, Default)]
struct Small {
    /// It has grown.
    enough: bool,
    there: usize,
    /// Of a batch that is not done yet.
    coming: usize,
    /// It has refused something since something was taken back.
    refused: bool,
    /// When it began to refuse.
    attempts: Vec<Instant>,
}

/// A device whose table is smaller than its P4Info says.
#[derive(Debug, Clone, Default)]
struct Device {
    software: Software,
    small: Arc<Mutex<Small>>,
}

fn is_table(info: &Info, update: &Update) -> bool {
    let table = info.table_named(TABLE).map(|table| table.id);
    matches!(update.entity.as_ref().and_then(|entity| entity.entity.as_ref()),
        Some(entity::Entity::TableEntry(entry)) if Some(entry.table_id) == table)
}

impl Forward for Device {
    fn verify(&self, info: &Info, config: &[u8]) -> Result<(), String> {
        self.software.verify(info, config)
    }

    fn takes(&self, info: &Info, update: &Update) -> Result<(), String> {
        let mut small = self.small.lock().unwrap();
        if is_table(info, update) && update.r#type() == Type::Insert {
            if small.there + small.coming >= ROOM && !small.enough {
                if !std::mem::replace(&mut small.refused, true) {
                    small.attempts.push(Instant::now());
                }
                return Err(format!("{TABLE} is full"));
            }
            small.coming += 1;
        }
        self.software.takes(info, update)
    }

    fn program(&mut self, state: &State, config: &[u8]) {
        self.software.program(state, config);
    }

    fn changed(&mut self, state: &State, updates: &[Update]) {
        let mut small = self.small.lock().unwrap();
        small.coming = 0;
        for update in updates.iter().filter(|update| is_table(state.info(), update)) {
            match update.r#type() {
                Type::Insert => small.there += 1,
                Type::Delete => (small.there, small.refused) = (small.there - 1, false),
                _ => {}
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

fn documents(leaves: [&Target; 2]) -> String {
    let mut text = String::from(
        "kind: Network\nmetadata: {name: net}\nspec: {vni: 1, subnets: [10.0.0.0/24], defaultAction: allow}\n",
    );
    for (at, leaf) in leaves.into_iter().enumerate() {
        text += &format!(
            "---\nkind: Switch\nmetadata: {{name: leaf{at}}}\nspec: {{driver: p4runtime, deviceId: 1, address: \"{}\"}}\n",
            leaf.address()
        );
        for port in 1..=2 {
            let n = at * 2 + port;
            text += &format!(
                "---\nkind: Workload\nmetadata: {{name: w{n}}}\nspec: {{network: net, interfaces: [{{mac: \"02:00:00:00:00:0{n}\", \
                 ips: [10.0.0.{n}], attachment: {{switch: leaf{at}, port: {port}}}}}]}}\n"
            );
        }
    }
    text
}

#[test]
fn a_table_that_is_too_small_is_told_and_tried_again_until_it_suffices() {
    let runtime = Runtime::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let [small, large] = [Device::default(), Device::default()];
    large.small.lock().unwrap().enough = true;
    let [one, two] = [&small, &large].map(|forward| device(&runtime, ANYWHERE.into(), forward.clone()));
    let (daemon, client) = controller(&runtime, &directory.path().join("data"));
    let revision = apply(&client, &documents([&one, &two]));

    let refused = |leaf: &SwitchStatus| leaf.last_error.contains(&format!("{TABLE} is full"));
    let status = when(
        &client,
        "told, and the other one has everything",
        |switches| matches!(switches, [small, large] if refused(small) && large.acknowledged >= revision),
    );
    assert!(status[0].connected && status[0].acknowledged < revision, "{status:#?}");
    assert!(status[1].last_error.is_empty(), "{status:#?}");
    let deadline = Instant::now() + COMING;
    while small.small.lock().unwrap().attempts.len() <= PAUSES.len() {
        assert!(Instant::now() < deadline, "it is not tried again");
        std::thread::sleep(PAUSE);
    }
    let attempts = small.small.lock().unwrap().attempts.clone();
    for (pair, pause) in attempts.windows(2).zip(PAUSES) {
        assert!(pair[1] - pair[0] >= pause, "{attempts:?}");
    }
    assert_eq!(small.software.pass(1, &frame()), None, "half a program");

    small.small.lock().unwrap().enough = true;
    let status = when(&client, "there is room", |switches| switches[0].acknowledged >= revision);
    assert!(!refused(&status[0]), "{status:#?}");
    assert_eq!(small.software.pass(1, &frame()), Some((2, frame())));
    runtime.block_on(daemon.stop()).unwrap();
    runtime.block_on(one.stop());
    runtime.block_on(two.stop());
}
