//! A change is all there or not there at all: in the state, in the store, on the switches.

use crate::common;
use bulkhead_dataplane::{Address, ToDrivers};
use bulkhead_driver_sim::Fabric;
use bulkhead_policy::{
    Change, Kind, Resource,
    model::{Driver, Role, Switch},
};
use bulkhead_runtime::{Core, Drivers, Edit, Refusal, Request, What};
use bulkhead_store::{Document, Event, Loaded, MemoryStore, Reader, RedbStore, Revision, Row, Store, StoreError};
use bulkhead_topology::DatapathId;
use common::{Rig, SHOP, decode, name, set, unset};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

fn start() -> Rig {
    Rig::start(Box::new(MemoryStore::default()), Fabric::default(), None).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_change_reaches_the_switches() {
    let rig = start();
    let outcome = rig.apply(set(SHOP)).await.unwrap();
    assert_eq!(outcome.revision, 1);
    assert!(outcome.changes.iter().all(|(_, what)| *what == What::Created));
    rig.settle().await;
    assert!(rig.assert_in_step().await > 0);
    for (switch, view) in rig.handle.switches() {
        let progress = view.progress;
        assert_eq!((progress.acknowledged, progress.connected, progress.refused), (1, true, None), "{switch}");
    }
    assert!(rig.handle.metrics().await.contains("bulkhead_switch_acknowledged_revision{switch=\"hv1\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn the_same_again_makes_no_revision() {
    let rig = start();
    rig.apply(set(SHOP)).await.unwrap();
    let again = rig.apply(set(SHOP)).await.unwrap();
    assert_eq!(again.revision, 1);
    assert!(again.changes.iter().all(|(_, what)| *what == What::Unchanged));
    let gone = rig.apply(unset(&["workload nobody prod hv1 9 web"])).await.unwrap();
    assert_eq!((gone.revision, gone.changes[0].1), (1, What::Unchanged));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_tells_and_does_nothing() {
    let rig = start();
    rig.apply(set(SHOP)).await.unwrap();
    rig.settle().await;
    let (changes, state) = (rig.changes(), rig.handle.read(|accepted| accepted.state.clone()));
    let mut request = set(&["workload web-3 prod hv1 7 web", "policy web-to-app app web 9090"]);
    request.edits.extend(unset(&["workload app-1 prod hv1 3 app"]).edits);
    request.dry_run = true;
    let outcome = rig.apply(request).await.unwrap();
    assert_eq!(outcome.revision, 1);
    let counts = outcome.entries[&name("hv1")];
    assert!(counts.added > 0 && counts.removed > 0, "{counts:?}");
    assert!(rig.handle.read(|accepted| accepted.state == state && accepted.revision == 1));
    assert_eq!(rig.changes(), changes);
    rig.assert_in_step().await;
    // And it can still be done.
    rig.apply(set(&["workload web-3 prod hv1 7 web"])).await.unwrap();
    rig.settle().await;
    rig.assert_in_step().await;
}

/// What a dry run numbered has no number afterwards: another beginning would number it otherwise.
#[tokio::test(start_paused = true)]
async fn a_dry_run_uses_no_number_up() {
    let (directory, fabric) = (tempfile::tempdir().unwrap(), Fabric::default());
    let start = || Rig::start(Box::new(RedbStore::open(directory.path()).unwrap()), fabric.clone(), None).unwrap();
    let rig = start();
    rig.apply(set(SHOP)).await.unwrap();
    let cache = &["workload cache prod hv1 7 cache", "policy web-to-cache cache web 6379"][..];
    rig.apply(Request { dry_run: true, ..set(cache) }).await.unwrap();
    for n in 1..=1000 {
        let network = format!("network tried-{n} {n}");
        rig.apply(Request { dry_run: true, ..set(&[&network]) }).await.unwrap();
    }
    rig.apply(set(&["network lab 9"])).await.unwrap();
    rig.apply(set(&["workload queue prod hv1 8 queue", "policy app-to-queue queue app 5672"])).await.unwrap();
    rig.apply(set(cache)).await.unwrap();
    rig.settle().await;
    rig.assert_in_step().await;
    let changes = rig.changes();
    rig.stop().await;
    let numbers = RedbStore::open(directory.path()).unwrap().load().unwrap().numbers;
    let networks: Vec<(&str, u32)> =
        numbers.iter().filter(|(name, _)| name.contains("network")).map(|(name, number)| (&**name, *number)).collect();
    assert_eq!(networks, [("network/lab", 2), ("network/prod", 1), ("next/network", 3)]);
    let rig = start();
    rig.settle().await;
    rig.assert_in_step().await;
    assert_eq!(rig.changes(), changes, "a restart rewrote entries");
    rig.stop().await;
}

/// A driver knows a datapath by one name at a time: it must lose the old names before it hears the new ones.
#[tokio::test(start_paused = true)]
async fn switches_that_change_places_go_before_they_come() {
    let switch = |switch: &str, datapath| {
        let driver = Driver::Openflow(DatapathId(datapath));
        Change::set(Resource::Switch(Arc::new(Switch {
            name: name(switch),
            driver,
            vtep: None,
            role: Role::Hypervisor,
            ovsdb: None,
        })))
    };
    let request = |changes: [Change; 3]| Request {
        edits: changes
            .map(|change| Edit { document: change.value.as_ref().map(|_| "".into()), change, expected: None })
            .into(),
        ..Request::default()
    };
    let route = |driver: &Driver| match driver {
        Driver::Openflow(datapath) => Some((0, Address::Datapath(*datapath))),
        _ => None,
    };
    let (commands, mut sent) = tokio::sync::mpsc::unbounded_channel();
    let drivers = Drivers { channels: vec![commands], route, keeper: None, prober: None };
    let mut core = Core::load(Box::new(MemoryStore::default()), decode, drivers).unwrap();
    let mut change = |changes| {
        core.apply(&request(changes), Duration::ZERO).unwrap();
        let mut order = Vec::new();
        while let Ok(command) = sent.try_recv() {
            match command {
                ToDrivers::Attach { switch, address: Address::Datapath(DatapathId(datapath)), .. } => {
                    order.push(format!("{switch} = {datapath}"));
                }
                ToDrivers::Detach { switch } => order.push(format!("{switch} goes")),
                other => panic!("{other:?}"),
            }
        }
        order
    };
    assert_eq!(change([switch("a", 1), switch("b", 2), switch("c", 3)]), ["a = 1", "b = 2", "c = 3"]);
    assert_eq!(change([switch("a", 2), switch("b", 1), switch("c", 3)]), ["a goes", "b goes", "a = 2", "b = 1"]);
    let gone = Change::remove(Kind::Switch.named(&name("b")));
    assert_eq!(change([switch("a", 1), gone, switch("c", 2)]), ["a goes", "b goes", "c goes", "a = 1", "c = 2"]);
}

/// Label sets, policies and zones come and go; what is kept about them follows what there is.
#[tokio::test(start_paused = true)]
async fn a23_names_that_nobody_has_any_more_are_forgotten_and_their_numbers_not_given_again() {
    let (directory, fabric) = (tempfile::tempdir().unwrap(), Fabric::default());
    let start = || Rig::start(Box::new(RedbStore::open(directory.path()).unwrap()), fabric.clone(), None).unwrap();
    let names = |directory: &std::path::Path| RedbStore::open(directory).unwrap().load().unwrap().numbers;
    let rig = start();
    rig.apply(set(SHOP)).await.unwrap();
    // 500 label sets a change, each gone with the next one; every other change is only tried.
    for round in 0..40 {
        let documents: Vec<String> =
            (0..500).map(|i| format!("workload w{i} prod hv1 {} t{}", 100 + i, round * 500 + i)).collect();
        let request = set(&documents.iter().map(String::as_str).collect::<Vec<_>>());
        rig.apply(Request { dry_run: round % 2 == 0, ..request }).await.unwrap();
    }
    rig.settle().await;
    rig.assert_in_step().await;
    let changes = rig.changes();
    rig.stop().await;
    let kept = names(directory.path());
    assert!(kept.len() < 12_000, "{} names are kept", kept.len());
    assert!(kept["next/identity"] > 10_000, "{}: numbers were given again", kept["next/identity"]);
    // What there is has kept its numbers.
    let rig = start();
    rig.settle().await;
    rig.assert_in_step().await;
    assert_eq!(rig.changes(), changes, "a restart rewrote entries");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a24_a_policy_about_nobody_is_accepted_with_a_warning() {
    let rig = start();
    let paths = |outcome: &bulkhead_runtime::Outcome| {
        outcome.diagnostics.iter().map(|found| format!("{} {}", found.key, found.path)).collect::<Vec<_>>()
    };
    assert_eq!(paths(&rig.apply(set(SHOP)).await.unwrap()), Vec::<String>::new());
    let wrong = ["policy db-to-cache cache db 6379", "policy web-to-app app wbe 8080"];
    let expected = [
        "Policy/db-to-cache spec.ingress[0].from[0]",
        "Policy/db-to-cache spec.subject",
        "Policy/web-to-app spec.ingress[0].from[0]",
    ];
    let dry = rig.apply(Request { dry_run: true, ..set(&wrong) }).await.unwrap();
    assert_eq!(paths(&dry), expected);
    assert_eq!(paths(&rig.apply(set(&wrong)).await.unwrap()), expected);
    // Only what changes is looked at, with all that changes with it.
    let db = rig.apply(set(&["workload db-1 prod hv1 9 db"])).await.unwrap();
    assert!(db.diagnostics.is_empty());
    let cache =
        rig.apply(set(&["policy db-to-cache cache db 6380", "workload cache-1 prod hv1 8 cache"])).await.unwrap();
    assert!(cache.diagnostics.is_empty(), "{:?}", cache.diagnostics);
    // A flood is cut off, and counted.
    let many: Vec<String> = (0..80).map(|i| format!("policy p{i:02} nobody-{i} web 80")).collect();
    let outcome = rig.apply(set(&many.iter().map(String::as_str).collect::<Vec<_>>())).await.unwrap();
    assert_eq!(outcome.diagnostics.len(), bulkhead_policy::MAX_WARNINGS + 1);
    assert_eq!(outcome.diagnostics.last().unwrap().message, "and 30 more warnings, from this resource on");
}

#[tokio::test(start_paused = true)]
async fn a_stale_write_is_refused() {
    let rig = start();
    rig.apply(set(SHOP)).await.unwrap();
    let mut request = set(&["workload web-1 prod hv1 1 app"]);
    request.edits[0].expected = Some(1);
    assert_eq!(rig.apply(request.clone()).await.unwrap().revision, 2);
    let refusal = rig.apply(request).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Conflict { expected: 1, actual: 2, .. }), "{refusal:?}");
    let mut fresh = set(&["workload web-1 prod hv1 1 web"]);
    fresh.edits[0].expected = Some(0);
    let refusal = rig.apply(fresh).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Conflict { expected: 0, actual: 2, .. }), "{refusal:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_change_changes_nothing() {
    let rig = start();
    rig.apply(set(SHOP)).await.unwrap();
    rig.settle().await;
    let changes = rig.changes();
    // The second half is fine; all of it is refused.
    let refusal = rig.apply(set(&["workload a elsewhere hv1 8 web", "workload b prod hv1 9 web"])).await.unwrap_err();
    assert!(matches!(&refusal, Refusal::Rejected(found) if !found.is_empty()), "{refusal:?}");
    assert_eq!(rig.handle.read(|accepted| (accepted.revision, accepted.state.workloads.len())), (1, 3));
    assert_eq!(rig.changes(), changes);
}

/// A store whose disk can be full.
struct Flaky(MemoryStore, Arc<AtomicBool>);

impl Store for Flaky {
    fn append(&mut self, expected: u64, revisions: &[Revision]) -> Result<(), StoreError> {
        if self.1.load(Ordering::SeqCst) {
            self.0.fail_next("no space left on device");
        }
        self.0.append(expected, revisions)
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

#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_be_stored_changes_nothing() {
    let full = Arc::new(AtomicBool::new(false));
    let rig = Rig::start(Box::new(Flaky(MemoryStore::default(), full.clone())), Fabric::default(), None).unwrap();
    rig.apply(set(SHOP)).await.unwrap();
    rig.settle().await;
    let (changes, state) = (rig.changes(), rig.handle.read(|accepted| accepted.state.clone()));
    full.store(true, Ordering::SeqCst);
    let mut request = unset(&["policy web-to-app app web 8080"]);
    request.edits.extend(set(&["switch hv3", "workload web-9 prod hv3 9 web"]).edits);
    let refusal = rig.apply(request.clone()).await.unwrap_err();
    assert!(matches!(&refusal, Refusal::Unavailable(why) if why.contains("no space left")), "{refusal:?}");
    assert!(rig.handle.read(|accepted| accepted.state == state && accepted.revision == 1));
    assert_eq!(rig.changes(), changes);
    assert!(!rig.handle.switches().contains_key("hv3"));
    rig.assert_in_step().await;
    full.store(false, Ordering::SeqCst);
    assert_eq!(rig.apply(request).await.unwrap().revision, 2);
    rig.settle().await;
    rig.assert_in_step().await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_switch_is_let_go_with_its_entries() {
    let rig = start();
    rig.apply(set(SHOP)).await.unwrap();
    rig.settle().await;
    let before = rig.fabric.with(&name("hv2"), |switch| switch.program().clone());
    assert!(!before.is_empty());
    rig.apply(unset(&["switch hv2"])).await.unwrap();
    rig.settle().await;
    assert!(!rig.handle.switches().contains_key("hv2"));
    rig.fabric.with(&name("hv2"), |switch| assert_eq!(*switch.program(), before));
}

#[tokio::test(start_paused = true)]
async fn a_restart_finds_everything_and_changes_nothing() {
    let (directory, fabric) = (tempfile::tempdir().unwrap(), Fabric::default());
    let open = || Box::new(RedbStore::open(directory.path()).unwrap());
    let rig = Rig::start(open(), fabric.clone(), None).unwrap();
    rig.apply(set(SHOP)).await.unwrap();
    rig.apply(set(&["workload web-1 prod hv1 1 app"])).await.unwrap();
    rig.settle().await;
    let (changes, state) = (rig.changes(), rig.handle.read(|accepted| accepted.state.clone()));
    rig.stop().await;
    let rig = Rig::start(open(), fabric, None).unwrap();
    assert!(rig.handle.read(|accepted| accepted.state == state && accepted.revision == 2));
    let versions: BTreeMap<String, u64> =
        rig.handle.read(|a| a.versions.iter().map(|(key, version)| (key.name.to_string(), *version)).collect());
    assert_eq!((versions["web-1"], versions["web-2"]), (2, 1));
    rig.settle().await;
    assert_eq!(rig.changes(), changes, "an identical switch was written to");
    assert!(rig.assert_in_step().await > 0);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_cannot_be_loaded_touches_no_switch() {
    let fabric = Fabric::default();
    let rig = Rig::start(Box::new(MemoryStore::default()), fabric.clone(), None).unwrap();
    rig.apply(set(SHOP)).await.unwrap();
    rig.settle().await;
    let before = rig.changes();
    rig.stop().await;
    let document = |text: &str| Document { text: text.into(), revision: 1 };
    let documents =
        [("Switch/hv1".to_owned(), document("switch hv1")), ("Network/x".to_owned(), document("gibberish"))];
    let loaded = Loaded { revision: 1, documents: documents.into(), ..Loaded::default() };
    let error = Rig::start(Box::new(MemoryStore::with(loaded)), fabric.clone(), None).err().unwrap();
    assert!(error.to_string().contains("Network/x"), "{error}");
    for (switch, changes) in before {
        assert_eq!(fabric.with(&switch, |switch| switch.changes()), changes);
    }
    assert!(decode("gibberish").is_err());
}

/// Numbers of edges come again only when no switch can hold them any more.
#[tokio::test(start_paused = true)]
async fn a39_edges_that_are_none_are_forgotten_when_every_switch_has_the_newest_program() {
    let mut store = MemoryStore::default();
    let numbers = (1..=4092).map(|i| (format!("edge/gone-{i}").into(), Some(i))).collect();
    // One of them is away: what it has in force, nobody knows.
    let (author, changes) = ("test".into(), vec![("Switch/away".into(), Some("absent away".into()))]);
    store.append(0, &[Revision { number: 1, author, time: 0, changes: changes.into(), numbers, event: None }]).unwrap();
    let rig = Rig::start(Box::new(store), Fabric::default(), None).unwrap();
    let leaf = |n: u8| {
        [format!("switch s{n}"), format!("workload w{n} net s{n} {n} web"), format!("link l{n} s0 p{n} s{n} up")]
    };
    let documents = |leaves: &[u8]| {
        let leaves: Vec<String> = leaves.iter().flat_map(|n| leaf(*n)).collect();
        let all: Vec<&str> =
            ["network net 1", "switch s0"].into_iter().chain(leaves.iter().map(String::as_str)).collect();
        set(&all)
    };
    rig.apply(documents(&[1, 2])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(matches!(rig.apply(documents(&[3])).await, Err(Refusal::TooLarge(_))));
    rig.apply(unset(&["absent away"])).await.unwrap();
    rig.settle().await;
    rig.apply(documents(&[3])).await.unwrap();
    rig.settle().await;
    rig.assert_in_step().await;
}
