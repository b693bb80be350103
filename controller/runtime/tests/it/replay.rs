//! What was recorded comes to the same again; chaos on the way to the switches changes nothing in the end.

use crate::common;
use bulkhead_driver_sim::{Fabric, chaos::Odds};
use bulkhead_runtime::{Recorder, replay};
use bulkhead_store::{MemoryStore, RedbStore};
use common::{Rig, SHOP, decode, set, unset};
use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

#[derive(Clone, Default)]
struct Tape(Arc<Mutex<Vec<u8>>>);

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn story(rig: &Rig) {
    rig.apply(set(SHOP)).await.unwrap();
    rig.apply(set(&["workload bad nowhere hv1 8 web"])).await.unwrap_err();
    let mut dry = set(&["workload web-3 prod hv2 7 web"]);
    dry.dry_run = true;
    rig.apply(dry).await.unwrap();
    rig.apply(unset(&["workload app-1 prod hv1 3 app"])).await.unwrap();
    let mut stale = set(&["workload web-1 prod hv1 1 app"]);
    stale.edits[0].expected = Some(7);
    rig.apply(stale).await.unwrap_err();
    for port in 1..20 {
        rig.apply(set(&[&format!("policy web-to-app app web {port}")])).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_recording_replays_to_the_same_end() {
    let tape = Tape::default();
    let recorder = Recorder::to(Box::new(tape.clone()));
    let live = Rig::recorded(Box::new(MemoryStore::default()), Fabric::default(), None, recorder).unwrap();
    story(&live).await;
    live.settle().await;
    let again = Rig::start(Box::new(MemoryStore::default()), Fabric::default(), None).unwrap();
    let recording = tape.0.lock().unwrap().clone();
    let replayed = replay(recording.as_slice(), decode, &again.handle).await.unwrap();
    assert_eq!(replayed.differences, Vec::<String>::new());
    assert_eq!(replayed.changes, 24);
    again.settle().await;
    assert!(again.assert_in_step().await > 0);
    for switch in live.handle.switches().into_keys() {
        let recorded = live.fabric.with(&switch, |switch| switch.program().clone());
        again.fabric.with(&switch, |switch| assert_eq!(*switch.program(), recorded));
    }
    let state = live.handle.read(|accepted| accepted.state.clone());
    assert!(again.handle.read(|accepted| accepted.state == state));
    // Replayed into another beginning, it does differ.
    let replayed = replay(recording.as_slice(), decode, &again.handle).await.unwrap();
    assert!(!replayed.differences.is_empty());
}

#[tokio::test(start_paused = true)]
async fn chaos_on_the_way_changes_nothing_in_the_end() {
    for seed in 0..20 {
        let chaos = Some((seed, Odds::STORM));
        let rig = Rig::start(Box::new(MemoryStore::default()), Fabric::default(), chaos).unwrap();
        story(&rig).await;
        rig.settle().await;
        assert!(rig.assert_in_step().await > 0, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_recording_that_is_gone_on_with_replays_as_one() {
    let (directory, tape) = (tempfile::tempdir().unwrap(), Tape::default());
    let fabric = Fabric::default();
    for port in [1, 2] {
        let store = Box::new(RedbStore::open(directory.path()).unwrap());
        let live = Rig::recorded(store, fabric.clone(), None, Recorder::to(Box::new(tape.clone()))).unwrap();
        rig_story(&live, port).await;
        live.stop().await;
    }
    let again = Rig::start(Box::new(MemoryStore::default()), Fabric::default(), None).unwrap();
    let recording = tape.0.lock().unwrap().clone();
    let replayed = replay(recording.as_slice(), decode, &again.handle).await.unwrap();
    assert_eq!((replayed.changes, replayed.differences), (4, Vec::new()));
    // What lies between two runs is noticed: it was not all recorded.
    let half = recording
        .split(|byte| *byte == b'\n')
        .skip_while(|line| !line.starts_with(b"{\"at\":0,\"event\":\"start\",\"revision\":2"));
    let half = half.collect::<Vec<_>>().join(&b'\n');
    let again = Rig::start(Box::new(MemoryStore::default()), Fabric::default(), None).unwrap();
    let replayed = replay(half.as_slice(), decode, &again.handle).await.unwrap();
    assert!(replayed.differences[0].contains("revision 2"), "{:?}", replayed.differences);
}

async fn rig_story(rig: &Rig, port: u16) {
    rig.apply(set(SHOP)).await.unwrap();
    rig.apply(set(&[&format!("policy web-to-app app web {port}")])).await.unwrap();
}
