//! Earlier revisions: what they were, what differs between them, how long they are kept; and carrying all of it away.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_store::{Event, Loaded, MemoryStore, Reader, RedbStore, Retention, Revision, Row, Store, StoreError};
use proptest::prelude::*;
use std::{collections::BTreeMap, path::Path, sync::Arc, thread, time::Duration};

type Documents = BTreeMap<String, Arc<str>>;

/// Revisions over few keys, so that they come, change, go and come again.
fn revisions() -> impl Strategy<Value = Vec<Vec<(u8, Option<u8>)>>> {
    let change = (0..6_u8, proptest::option::weighted(0.7, 0..4_u8));
    proptest::collection::vec(proptest::collection::vec(change, 0..4), 1..30)
}

fn revision(number: u64, changes: &[(u8, Option<u8>)]) -> Revision {
    let changes: BTreeMap<String, Option<Arc<str>>> = changes
        .iter()
        .map(|(key, text)| (format!("key{key}"), text.map(|text| format!("text {text}").into())))
        .collect();
    Revision {
        number,
        author: format!("author {number}"),
        time: 1_000 * number,
        changes: changes.into_iter().collect(),
        numbers: vec![(format!("number/{number}").into(), Some(number as u32))],
        event: None,
    }
}

/// The state after each revision, 0 first.
fn states(revisions: &[Revision]) -> Vec<Documents> {
    let mut states = vec![Documents::new()];
    for revision in revisions {
        let mut state = states.last().unwrap().clone();
        write(&mut state, revision);
        states.push(state);
    }
    states
}

fn write(state: &mut Documents, revision: &Revision) {
    for (key, text) in revision.changes.iter() {
        match text {
            Some(text) => state.insert(key.clone(), text.clone()),
            None => state.remove(key),
        };
    }
}

fn holds(reader: &dyn Reader, revisions: &[Revision], states: &[Documents]) {
    // Replayed from the start it is the state, at every step.
    let watched = reader.watch(0, usize::MAX, Duration::ZERO).unwrap();
    let mut replayed = Documents::new();
    for (at, (watched, made)) in watched.iter().zip(revisions).enumerate() {
        assert_eq!((watched.number, &watched.author, watched.time), (made.number, &made.author, made.time));
        write(&mut replayed, watched);
        assert_eq!(replayed, states[at + 1]);
    }
    assert_eq!(watched.len(), revisions.len());
    for from in 0..states.len() {
        for to in 0..states.len() {
            let between = reader.between(from as u64, Some(to as u64)).unwrap();
            let mut state = states[from].clone();
            for difference in between.differences {
                assert_eq!(state.get(&difference.key), difference.from.map(|document| document.text).as_ref());
                match difference.to {
                    Some(document) => state.insert(difference.key, document.text),
                    None => state.remove(&difference.key),
                };
            }
            assert_eq!(state, states[to], "from {from} to {to}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_revision_can_be_seen_from_every_other(changes in revisions(), group in 1..5_usize) {
        let revisions: Vec<Revision> = changes.iter().zip(1..).map(|(c, number)| revision(number, c)).collect();
        let states = states(&revisions);
        let directory = tempfile::tempdir().unwrap();
        let mut redb = RedbStore::open(directory.path()).unwrap();
        let mut memory = MemoryStore::default();
        for group in revisions.chunks(group) {
            redb.append(group[0].number - 1, group).unwrap();
            memory.append(group[0].number - 1, group).unwrap();
        }
        holds(&*redb.reader(), &revisions, &states);
        holds(&*memory.reader(), &revisions, &states);
        let both = [redb.reader(), memory.reader()].map(|reader| reader.history(u64::MAX, 100).unwrap());
        prop_assert_eq!(&both[0], &both[1]);
        prop_assert_eq!(redb.load().unwrap(), memory.load().unwrap());
        // Carried into another store it is the same.
        let other = tempfile::tempdir().unwrap();
        let mut restored = RedbStore::open(other.path()).unwrap();
        let rows = rows(&*redb.reader());
        prop_assert_eq!(&rows, &self::rows(&*memory.reader()));
        restored.restore(&mut rows.into_iter().map(Ok), &Event::default()).unwrap();
        drop(restored);
        let mut restored = RedbStore::open(other.path()).unwrap();
        prop_assert_eq!(restored.load().unwrap(), redb.load().unwrap());
        holds(&*restored.reader(), &revisions, &states);
    }
}

fn rows(reader: &dyn Reader) -> Vec<Row> {
    let mut rows = Vec::new();
    reader
        .snapshot(&mut |row| {
            rows.push(row);
            true
        })
        .unwrap();
    rows
}

/// A store with `count` revisions, each of which writes the same key.
fn filled(directory: &Path, retention: Retention, count: u64) -> RedbStore {
    let mut store = RedbStore::open_keeping(directory, retention).unwrap();
    for number in 1..=count {
        store.append(number - 1, &[revision(number, &[(0, Some((number % 250) as u8))])]).unwrap();
    }
    store
}

#[test]
fn history_is_kept_by_count_age_and_size() {
    let all = Retention::default();
    let day = Duration::from_secs(24 * 3600);
    // A revision a second, and texts of some six bytes.
    for (retention, kept) in [
        (all, 50),
        (Retention { revisions: 10, ..all }, 10),
        (Retention { age: Duration::from_secs(7), ..all }, 8),
        (Retention { bytes: 60, ..all }, 8),
        (Retention { revisions: 0, age: day, bytes: 0, audit: 0 }, 1),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = filled(directory.path(), retention, 50);
        let history = store.reader().history(u64::MAX, 100).unwrap();
        let found = history.revisions.len();
        assert!(found.abs_diff(kept) <= 1, "{retention:?}: {found} kept");
        assert_eq!(history.oldest, 50 - found as u64, "{retention:?}");
        // What is kept can be gone back to, and nothing older.
        assert_eq!(store.reader().between(history.oldest, None).unwrap().differences.len(), 1);
        if history.oldest > 0 {
            let error = store.reader().between(history.oldest - 1, None).unwrap_err();
            assert!(matches!(error, StoreError::NotKept { .. }) && error.to_string().contains("to 50 are"), "{error}");
        }
        let past = rows(&*store.reader()).into_iter().filter(|row| matches!(row, Row::Past { .. })).count();
        assert_eq!(past, found, "{retention:?}");
    }
}

#[test]
fn a_watcher_hears_of_the_next_revision() {
    let mut store = MemoryStore::default();
    let reader = store.reader();
    assert!(reader.watch(0, 10, Duration::ZERO).unwrap().is_empty());
    let watcher = thread::spawn(move || reader.watch(0, 10, Duration::from_secs(60)).unwrap());
    store.append(0, &[revision(1, &[(1, Some(1))])]).unwrap();
    assert_eq!(*watcher.join().unwrap()[0].changes, [("key1".to_owned(), Some("text 1".into()))]);
}

#[test]
fn what_makes_no_sense_is_not_restored() {
    let directory = tempfile::tempdir().unwrap();
    let good = rows(&*filled(directory.path(), Retention::default(), 5).reader());
    let mut full = RedbStore::open(directory.path()).unwrap();
    let refused = full.restore(&mut good.clone().into_iter().map(Ok), &Event::default()).unwrap_err();
    assert!(matches!(refused, StoreError::NotEmpty { revision: 5 }), "{refused}");
    let empty = tempfile::tempdir().unwrap();
    let mut store = RedbStore::open(empty.path()).unwrap();
    let mut twice = good.clone();
    twice.push(good[0].clone());
    let mut late = good.clone();
    late.push(Row::Document { key: "late".into(), revision: 6, text: "".into() });
    for (bad, why) in
        [(good[1..].to_vec(), "begin"), (twice, "twice"), (late, "after the newest"), (Vec::new(), "begin")]
    {
        let refused = store.restore(&mut bad.into_iter().map(Ok), &Event::default()).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
    let torn = good.clone().into_iter().map(Ok).chain([Err("line 17".to_owned())]);
    assert!(
        matches!(store.restore(&mut { torn }, &Event::default()).unwrap_err(), StoreError::Damaged(why) if why == "line 17")
    );
    assert_eq!(store.load().unwrap(), Loaded::default());
    assert_eq!(store.restore(&mut good.into_iter().map(Ok), &Event::default()).unwrap(), 5);
}

#[test]
fn revisions_of_thousands_of_documents_are_like_others() {
    let documents = |keys: std::ops::Range<usize>, text: Option<&str>| -> Vec<(String, Option<Arc<str>>)> {
        keys.map(|key| (format!("key{key:05}"), text.map(Into::into))).collect()
    };
    let event = Event { action: "test".into(), ..Event::default() };
    let mixed =
        [documents(0..1_500, Some("second")), documents(1_500..3_000, None), documents(5_000..6_000, Some("new"))];
    let changes = [documents(0..5_000, Some("first")), mixed.concat()];
    let made = |(number, changes): (u64, Vec<_>)| Revision { changes: changes.into(), ..revision(number, &[]) };
    let revisions: Vec<Revision> = (1..).zip(changes).map(made).collect();
    let states = states(&revisions);
    let directories = [(), ()].map(|()| tempfile::tempdir().unwrap());
    let [mut redb, mut ahead] = directories.each_ref().map(|directory| RedbStore::open(directory.path()).unwrap());
    let mut memory = MemoryStore::default();
    for revision in &revisions {
        // What is prepared is not there, and keeps nobody from writing.
        ahead.prepare(Some(&revision.changes));
        assert_eq!(ahead.load().unwrap().documents.len(), states[revision.number as usize - 1].len());
        ahead.note(std::slice::from_ref(&event)).unwrap();
        redb.note(std::slice::from_ref(&event)).unwrap();
        memory.note(std::slice::from_ref(&event)).unwrap();
        ahead.prepare(Some(&revision.changes));
        ahead.prepare(None);
        ahead.prepare(Some(&revision.changes));
        // What was prepared and is not what comes is forgotten.
        redb.prepare(Some(&documents(0..10, Some("another's")).into()));
        for store in [&mut redb as &mut dyn Store, &mut ahead, &mut memory] {
            store.append(revision.number - 1, std::slice::from_ref(revision)).unwrap();
        }
    }
    let records = |reader: &dyn Reader| reader.audit(0, 100).unwrap().records;
    for store in [&redb as &dyn Store, &ahead] {
        holds(&*store.reader(), &revisions, &states);
        assert_eq!(rows(&*store.reader()), rows(&*memory.reader()));
        assert_eq!(records(&*store.reader()), records(&*memory.reader()));
    }
    // What was prepared last and did not come is not there when it is opened again.
    ahead.prepare(Some(&revisions[0].changes));
    drop(ahead);
    let again = RedbStore::open(directories[1].path()).unwrap();
    assert_eq!(rows(&*again.reader()), rows(&*memory.reader()));
}
