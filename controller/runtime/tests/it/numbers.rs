//! Numbers outlive the program: over a thousand restarts a name keeps its number, and none is given twice.

use crate::common;
use bulkhead_dataplane::Address;
use bulkhead_policy::model::Driver;
use bulkhead_runtime::{Core, Drivers};
use bulkhead_store::{Event, Found, Loaded, MemoryStore, Reader, RedbStore, Revision, Row, Store, StoreError};
use common::{SHOP, decode, name, set, unset};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::mpsc;

/// A store that outlives its controller, as a disk does.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<MemoryStore>>, Found);

impl Store for Disk {
    fn append(&mut self, expected: u64, revisions: &[Revision]) -> Result<(), StoreError> {
        self.0.lock().unwrap().append(expected, revisions)
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.0.lock().unwrap().load()
    }

    fn begin(&mut self, now: u64) -> Result<u64, StoreError> {
        self.0.lock().unwrap().begin(now)
    }

    fn note(&mut self, events: &[Event]) -> Result<(), StoreError> {
        self.0.lock().unwrap().note(events)
    }

    fn restore(
        &mut self,
        rows: &mut dyn Iterator<Item = Result<Row, String>>,
        event: &Event,
    ) -> Result<u64, StoreError> {
        self.0.lock().unwrap().restore(rows, event)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.0.lock().unwrap().reader()
    }

    fn found(&self) -> Found {
        self.1.clone()
    }
}

fn start(store: Box<dyn Store>) -> Core {
    let (commands, _) = mpsc::unbounded_channel();
    let route = |driver: &Driver| (*driver == Driver::Sim).then_some((0, Address::Sim));
    Core::load(store, decode, Drivers { channels: vec![commands], route, keeper: None, prober: None }).unwrap()
}

#[test]
fn over_a_thousand_restarts_no_number_changes_hands() {
    let disk = Disk::default();
    start(Box::new(disk.clone())).apply(&set(SHOP), Duration::ZERO).unwrap();
    let mut owners: BTreeMap<(String, u32), String> = BTreeMap::new();
    for restart in 0..1000_u64 {
        let mut core = start(Box::new(disk.clone()));
        let program = core.program(&name("hv1")).cloned();
        // A label set and a policy come; what came some restarts ago goes.
        let fresh = [
            format!("workload w{} prod hv1 {} t{restart}", restart % 5, 100 + restart % 5),
            format!("policy p{} t{restart} web {}", restart % 7, 1000 + restart),
        ];
        core.apply(&set(&fresh.each_ref().map(String::as_str)), Duration::ZERO).unwrap();
        if restart % 3 == 0 {
            let tried = set(&[&format!("workload tried prod hv2 900 tried-{restart}")]);
            let _ = core.apply(&bulkhead_runtime::Request { dry_run: true, ..tried }, Duration::ZERO).unwrap();
        }
        if restart % 11 == 0 {
            core.apply(&unset(&[&fresh[1]]), Duration::ZERO).unwrap();
        }
        assert!(program.is_some());
        for (full, number) in disk.clone().load().unwrap().numbers {
            let (kind, name) = full.split_once('/').unwrap();
            if kind == "next" {
                continue;
            }
            let owner = owners.entry((kind.to_owned(), number)).or_insert_with(|| name.to_owned());
            assert_eq!(owner, name, "{kind} {number} changed hands at restart {restart}");
        }
    }
    assert!(owners.keys().filter(|(kind, _)| kind == "identity").count() > 1000);
}

#[test]
fn after_a_restart_every_program_is_the_very_same() {
    let directory = tempfile::tempdir().unwrap();
    let open = || start(Box::new(RedbStore::open(directory.path()).unwrap()));
    open().apply(&set(SHOP), Duration::ZERO).unwrap();
    for restart in 0..10 {
        let mut core = open();
        core.apply(&set(&[&format!("workload w{restart} prod hv1 {} t{restart}", 100 + restart)]), Duration::ZERO)
            .unwrap();
        let programs = ["hv1", "hv2"].map(|switch| core.program(&name(switch)).cloned());
        drop(core);
        let core = open();
        assert!(programs == ["hv1", "hv2"].map(|switch| core.program(&name(switch)).cloned()));
    }
}

/// The revision that was cut off may have given the numbers that come next, and a switch may hold them.
#[test]
fn after_a_commit_was_cut_off_numbers_are_left_out() {
    let mut disk = Disk::default();
    start(Box::new(disk.clone())).apply(&set(SHOP), Duration::ZERO).unwrap();
    let before = disk.load().unwrap().numbers;
    disk.1.cut_back = true;
    let mut core = start(Box::new(disk.clone()));
    core.apply(&set(&["workload new prod hv1 9 new", "policy new new web 99"]), Duration::ZERO).unwrap();
    let after = disk.load().unwrap().numbers;
    for (full, number) in &after {
        let Some((kind, _)) = full.split_once('/').filter(|(kind, _)| ["identity", "rule", "policy"].contains(kind))
        else {
            continue;
        };
        match before.get(full) {
            Some(old) => assert_eq!(old, number),
            None => assert!(*number > before[format!("next/{kind}").as_str()] + 100_000, "{full} {number}"),
        }
    }
    assert!(after.len() > before.len());
}
