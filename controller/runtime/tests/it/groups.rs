//! Changes that wait are made durable together: each as if it came alone, all of them or none, and nobody hears before.

use crate::common;
use bulkhead_dataplane::{Address, ToDrivers};
use bulkhead_driver_sim::Fabric;
use bulkhead_pipeline::Program;
use bulkhead_policy::model::Driver;
use bulkhead_runtime::{Core, Drivers, Outcome, Recorder, Refusal, Request, replay};
use bulkhead_store::{Event, Loaded, MemoryStore, Reader, Revision, Row, Store, StoreError};
use bulkhead_topology::Name;
use common::{Rig, SHOP, decode, name, set, unset};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::mpsc;

/// What a store is told.
#[derive(Default)]
struct Told {
    /// How many revisions each commit had.
    commits: Vec<usize>,
    /// Fails the next one.
    fail: bool,
    /// What goes to drivers: there must be nothing in it that a commit is about.
    sent: Option<mpsc::UnboundedReceiver<ToDrivers>>,
}

struct Observed(MemoryStore, Arc<Mutex<Told>>);

impl Store for Observed {
    fn append(&mut self, expected: u64, revisions: &[Revision]) -> Result<(), StoreError> {
        let mut told = self.1.lock().unwrap();
        if let Some(sent) = &mut told.sent {
            assert!(sent.try_recv().is_err(), "sent before it was durable");
        }
        if std::mem::take(&mut told.fail) {
            self.0.fail_next("no space left on device");
        }
        self.0.append(expected, revisions)?;
        told.commits.push(revisions.len());
        Ok(())
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.0.load()
    }

    fn begin(&mut self, now: u64) -> Result<u64, StoreError> {
        self.0.begin(now)
    }

    fn note(&mut self, events: &[Event]) -> Result<(), StoreError> {
        self.0.note(events)
    }

    fn restore(
        &mut self,
        rows: &mut dyn Iterator<Item = Result<Row, String>>,
        event: &Event,
    ) -> Result<u64, StoreError> {
        self.0.restore(rows, event)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.0.reader()
    }
}

/// A loop's insides, without a loop.
fn core() -> (Core, Arc<Mutex<Told>>) {
    let (commands, sent) = mpsc::unbounded_channel();
    let told = Arc::new(Mutex::new(Told { sent: Some(sent), ..Told::default() }));
    let route = |driver: &Driver| (*driver == Driver::Sim).then_some((0, Address::Sim));
    let drivers = Drivers { channels: vec![commands], route, keeper: None, prober: None };
    (Core::load(Box::new(Observed(MemoryStore::default(), told.clone())), decode, drivers).unwrap(), told)
}

fn programs(core: &Core) -> BTreeMap<Name, Program> {
    let switches = core.accepted().state.switches.keys().cloned().collect::<Vec<_>>();
    switches.into_iter().map(|name| (name.clone(), core.program(&name).cloned().unwrap_or_default())).collect()
}

fn revisions(results: &[Result<Outcome, Refusal>]) -> Vec<Option<u64>> {
    results.iter().map(|result| result.as_ref().ok().map(|outcome| outcome.revision)).collect()
}

#[test]
fn a_group_is_one_commit_and_nothing_is_sent_before_it() {
    let (mut core, told) = core();
    let edits = ["workload web-3 prod hv2 7 web", "policy web-to-app app web 9090"].map(|document| set(&[document]));
    let results = core.apply_all([&set(SHOP), &edits[0], &edits[1]], Duration::ZERO);
    assert_eq!(revisions(&results), [Some(1), Some(2), Some(3)]);
    let mut told = told.lock().unwrap();
    assert_eq!(told.commits, [3]);
    let sent = told.sent.as_mut().unwrap();
    assert!(matches!(sent.try_recv().unwrap(), ToDrivers::Attach { .. }));
}

#[test]
fn a_group_that_cannot_be_stored_never_was() {
    let (mut core, told) = core();
    core.apply(&set(SHOP), Duration::ZERO).unwrap();
    let (state, before) = (core.accepted().state.clone(), programs(&core));
    let versions = core.accepted().versions.clone();
    let _ = told.lock().unwrap().sent.take();
    told.lock().unwrap().fail = true;
    let mut early = set(&["workload web-1 prod hv1 1 app"]);
    early.edits[0].expected = Some(7);
    let mut late = set(&["policy web-to-app app web 9090"]);
    // True only of what the group made.
    late.edits[0].expected = Some(2);
    let mut dry = set(&["workload web-7 prod hv3 7 web"]);
    dry.dry_run = true;
    let group = [
        early,
        set(&["policy web-to-app app web 8081", "switch hv3"]),
        late,
        unset(&["workload web-2 prod hv2 2 web"]),
        set(&["workload web-2 prod hv3 2 web"]),
        dry,
        set(&["workload bad nowhere hv1 8 web"]),
    ];
    let results = core.apply_all(&group, Duration::ZERO);
    // What was found out before any of it stands; all else was about what is not to be.
    assert!(matches!(&results[0], Err(Refusal::Conflict { .. })), "{results:?}");
    for result in &results[1..] {
        assert!(matches!(result, Err(Refusal::Unavailable(why)) if why.contains("no space left")), "{result:?}");
    }
    assert!(core.accepted().state == state && core.accepted().revision == 1);
    assert_eq!(core.accepted().versions, versions);
    assert_eq!(programs(&core), before);
    // The same again, one after another, comes to what it would have.
    let (mut other, told) = self::core();
    let _ = told.lock().unwrap().sent.take();
    other.apply(&set(SHOP), Duration::ZERO).unwrap();
    for request in &group {
        let again = core.apply(request, Duration::ZERO);
        assert_eq!(again.is_ok(), other.apply(request, Duration::ZERO).is_ok());
    }
    assert!(core.accepted().state == other.accepted().state && core.accepted().revision == 5);
    let counts = |core: &Core| programs(core).into_iter().map(|(name, p)| (name, p.len())).collect::<Vec<_>>();
    assert_eq!(counts(&core), counts(&other));
}

/// Changes about few resources, right and wrong ones, tried and done.
fn requests() -> impl Strategy<Value = Vec<Request>> {
    let document = prop_oneof![
        (1..5_u32, 1..4_u32, 0..3_u32).prop_map(|(w, hv, tier)| format!("workload w{w} prod hv{hv} {w} t{tier}")),
        (0..2_u32, 0..3_u32, 0..3_u32, 80..83_u32).prop_map(|(p, s, o, port)| format!("policy p{p} t{s} t{o} {port}")),
        (1..4_u32).prop_map(|hv| format!("switch hv{hv}")),
    ];
    let request = (document, any::<bool>(), 0..6_u8, proptest::option::weighted(0.2, 0..9_u64));
    let request = request.prop_map(|(document, there, dry, expected)| {
        let mut request = if there { set(&[&document]) } else { unset(&[&document]) };
        request.dry_run = dry == 0;
        request.edits[0].expected = expected;
        request
    });
    proptest::collection::vec(request, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_groups_it_comes_to_the_same(requests in requests(), size in 1..12_usize, failing in any::<u16>()) {
        let ((mut alone, a), (mut grouped, g)) = (core(), core());
        for (core, told) in [(&mut alone, &a), (&mut grouped, &g)] {
            core.apply(&set(&["network prod 5001", "switch hv1", "switch hv2"]), Duration::ZERO).unwrap();
            let _ = told.lock().unwrap().sent.take();
        }
        for (at, group) in requests.chunks(size).enumerate() {
            // A group that failed, and is asked for again, leaves no trace but the numbers that it used up.
            if failing >> (at % 16) & 1 == 1 {
                g.lock().unwrap().fail = true;
                grouped.apply_all(group, Duration::ZERO);
                g.lock().unwrap().fail = false;
            }
            let one_by_one: Vec<_> = group.iter().map(|request| alone.apply(request, Duration::ZERO)).collect();
            let together = grouped.apply_all(group, Duration::ZERO);
            for (one, other) in one_by_one.iter().zip(&together) {
                let plain = |result: &Result<Outcome, Refusal>| result.clone().map_err(|refusal| refusal.to_string());
                prop_assert_eq!(plain(one), plain(other));
            }
        }
        prop_assert!(alone.accepted().state == grouped.accepted().state);
        prop_assert_eq!(&alone.accepted().versions, &grouped.accepted().versions);
        if failing == 0 {
            prop_assert_eq!(programs(&alone), programs(&grouped));
        }
    }
}

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

#[tokio::test(start_paused = true)]
async fn changes_that_wait_share_a_commit_and_replay_in_their_order() {
    let told = Arc::new(Mutex::new(Told::default()));
    let (store, tape) = (Observed(MemoryStore::default(), told.clone()), Tape::default());
    let recorder = Recorder::to(Box::new(tape.clone()));
    let rig = Rig::recorded(Box::new(store), Fabric::default(), None, recorder).unwrap();
    rig.apply(set(SHOP)).await.unwrap();
    // The loop runs only when this waits, so all of them are there when it looks.
    let asked: Vec<_> = (0..64)
        .map(|n| {
            let handle = rig.handle.clone();
            let request = set(&[&format!("policy p{} app web {}", n % 7, 1000 + n)]);
            tokio::spawn(async move { handle.apply(request).await.unwrap().unwrap().revision })
        })
        .collect();
    let mut made = Vec::new();
    for one in asked {
        made.push(one.await.unwrap());
    }
    assert_eq!(made, (2..66).collect::<Vec<u64>>());
    let commits = told.lock().unwrap().commits.clone();
    assert_eq!(commits.iter().sum::<usize>(), 65);
    assert!(commits.len() < 10, "{commits:?}");
    rig.settle().await;
    rig.assert_in_step().await;
    // A group is one difference, and one step, for a switch.
    assert!(rig.handle.switches()[&name("hv1")].progress.acknowledged == 65);
    let recording = tape.0.lock().unwrap().clone();
    let again = Rig::start(Box::new(MemoryStore::default()), Fabric::default(), None).unwrap();
    let replayed = replay(recording.as_slice(), decode, &again.handle).await.unwrap();
    assert_eq!((replayed.changes, replayed.differences), (65, Vec::new()));
    let state = rig.handle.read(|accepted| accepted.state.clone());
    assert!(again.handle.read(|accepted| accepted.state == state));
}
