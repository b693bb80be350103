//! What is acknowledged is there again, and nothing else.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_store::{Loaded, MAX_DOCUMENT, MemoryStore, RedbStore, Revision, Store, StoreError};
use std::{fs, sync::Arc};

fn revision(number: u64, changes: &[(&str, Option<&str>)], numbers: &[(&str, Option<u32>)]) -> Revision {
    Revision {
        number,
        author: "test".into(),
        time: 1_700_000_000_000 + number,
        changes: changes.iter().map(|(key, text)| ((*key).to_owned(), text.map(Arc::from))).collect(),
        numbers: numbers.iter().map(|(name, number)| (Arc::from(*name), *number)).collect(),
        event: None,
    }
}

/// Three revisions and what is there after them.
fn fill(store: &mut dyn Store) -> Loaded {
    store
        .append(0, &[revision(1, &[("a", Some("one")), ("b", Some("two"))], &[("x", Some(1)), ("y", Some(2))])])
        .unwrap();
    store.append(1, &[revision(2, &[("a", Some("three"))], &[]), revision(3, &[("b", None)], &[("x", None)])]).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.revision, 3);
    assert_eq!(loaded.documents.len(), 1);
    assert_eq!((loaded.documents["a"].text.as_ref(), loaded.documents["a"].revision), ("three", 2));
    assert_eq!(loaded.numbers, [(Arc::from("y"), 2)].into());
    loaded
}

#[test]
fn both_stores_mean_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let on_disk = fill(&mut RedbStore::open(directory.path()).unwrap());
    assert_eq!(on_disk, fill(&mut MemoryStore::default()));
}

#[cfg(feature = "store-sled")]
#[test]
fn sled_means_the_same_and_finds_it_again() {
    use bulkhead_store::SledStore;
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut store = SledStore::open(directory.path()).unwrap();
    let before = fill(&mut store);
    assert!(matches!(SledStore::open(directory.path()).unwrap_err(), StoreError::InUse { .. }));
    assert!(matches!(store.append(2, &[revision(3, &[], &[])]).unwrap_err(), StoreError::OutOfOrder { .. }));
    let (mut rows, mut redb) = (Vec::new(), RedbStore::open(other.path()).unwrap());
    fill(&mut redb);
    store
        .reader()
        .snapshot(&mut |row| {
            rows.push(row);
            true
        })
        .unwrap();
    drop(store);
    let mut store = SledStore::open(directory.path()).unwrap();
    assert_eq!(store.load().unwrap(), before);
    let both = [store.reader(), redb.reader()].map(|reader| {
        let (history, between) = (reader.history(u64::MAX, 10).unwrap(), reader.between(0, None).unwrap());
        (history, between, reader.watch(0, 10, std::time::Duration::ZERO).unwrap())
    });
    assert_eq!(both[0], both[1]);
    let third = tempfile::tempdir().unwrap();
    SledStore::open(third.path())
        .unwrap()
        .restore(&mut rows.into_iter().map(Ok), &bulkhead_store::Event::default())
        .unwrap();
    assert_eq!(SledStore::open(third.path()).unwrap().load().unwrap(), before);
}

/// A term is greater than all before it, whatever the clock says, and no change.
fn terms(mut open: impl FnMut() -> Box<dyn Store>) {
    let mut last = 0;
    for (now, wanted) in [(0, 1), (0, 2), (1_000, 1_000), (1_000, 1_001), (5, 1_002), (u64::MAX, u64::MAX)] {
        let mut store = open();
        last = store.begin(now).unwrap().max(last);
        assert_eq!((last, store.load().unwrap().revision), (wanted, 0));
    }
}

#[test]
fn terms_only_grow_over_restarts() {
    let directory = tempfile::tempdir().unwrap();
    terms(|| Box::new(RedbStore::open(directory.path()).unwrap()));
    #[cfg(feature = "store-sled")]
    terms(|| Box::new(bulkhead_store::SledStore::open(directory.path()).unwrap()));
}

#[test]
fn everything_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let before = fill(&mut RedbStore::open(directory.path()).unwrap());
    let mut store = RedbStore::open(directory.path()).unwrap();
    assert_eq!(store.load().unwrap(), before);
    store.append(3, &[revision(4, &[("c", Some("four"))], &[])]).unwrap();
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let (live, dead) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut store = RedbStore::open(live.path()).unwrap();
    let before = fill(&mut store);
    // The file as it is on the disk while the program runs: what a kill would leave behind.
    fs::copy(store.path(), dead.path().join("bulkhead.redb")).unwrap();
    store.append(3, &[revision(4, &[("late", Some("later"))], &[])]).unwrap();
    assert_eq!(RedbStore::open(dead.path()).unwrap().load().unwrap(), before);
}

#[test]
fn a_second_process_is_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let _first = RedbStore::open(directory.path()).unwrap();
    let error = RedbStore::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }) && error.to_string().contains("--data-dir"), "{error}");
}

#[test]
fn a_newer_format_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = RedbStore::open(directory.path()).unwrap().path().to_owned();
    {
        let database = redb::Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let table = redb::TableDefinition::<&str, u64>::new("meta");
        transaction.open_table(table).unwrap().insert("format", 99).unwrap();
        transaction.commit().unwrap();
    }
    let error = RedbStore::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::NewerFormat { found: 99, .. }), "{error}");
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bulkhead.redb");
    // What a store would be that was cut off at its very beginning is none either.
    for bytes in [&b"not a database, but long enough to be looked at"[..], b"", &[0; 8192]] {
        fs::write(&path, bytes).unwrap();
        let error = RedbStore::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("bulkhead restore"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn format_1_is_made_into_this_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bulkhead.redb");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/formats/1.redb"), &path).unwrap();
    let mut store = RedbStore::open(directory.path()).unwrap();
    assert_eq!(store.found().upgraded, Some(1));
    let loaded = store.load().unwrap();
    let versions: Vec<_> = loaded.documents.iter().map(|(key, found)| (key.as_str(), found.revision)).collect();
    assert_eq!(versions, [("AddressSet/corp", 2), ("Network/prod", 3)]);
    assert_eq!(
        loaded.numbers,
        [("network/prod".into(), 1), ("next/network".into(), 2), ("next/prefix".into(), 7)].into()
    );
    // It noted who and when; what was before was not kept.
    let history = store.reader().history(u64::MAX, 10).unwrap();
    assert_eq!((history.newest, history.oldest, history.revisions.len()), (3, 3, 3));
    assert_eq!(history.revisions[1].updated, ["AddressSet/corp", "AddressSet/old"]);
    assert!(matches!(store.reader().between(2, None).unwrap_err(), StoreError::NotKept { oldest: 3, .. }));
    store.append(3, &[revision(4, &[("Network/prod", None)], &[])]).unwrap();
    drop(store);
    let mut store = RedbStore::open(directory.path()).unwrap();
    assert_eq!((store.found().upgraded, store.load().unwrap().revision), (None, 4));
    assert_eq!(store.reader().between(4, Some(3)).unwrap().differences.len(), 1);
}

#[test]
fn gaps_and_giants_are_refused_and_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut redb = RedbStore::open(directory.path()).unwrap();
    let mut memory = MemoryStore::default();
    for store in [&mut redb as &mut dyn Store, &mut memory] {
        let before = fill(store);
        let error = store.append(3, &[revision(5, &[], &[])]).unwrap_err();
        assert!(matches!(error, StoreError::OutOfOrder { got: 5, last: 3 }));
        // Somebody who has missed a revision, and one of a group that is out of line.
        let stale = store.append(2, &[revision(3, &[], &[])]).unwrap_err();
        assert!(matches!(stale, StoreError::OutOfOrder { got: 3, last: 3 }));
        let group = [revision(4, &[("k", Some("fine"))], &[]), revision(6, &[], &[])];
        assert!(matches!(store.append(3, &group).unwrap_err(), StoreError::OutOfOrder { got: 6, last: 4 }));
        let giant = "x".repeat(MAX_DOCUMENT + 1);
        let error = store.append(3, &[revision(4, &[("k", Some("fine")), ("g", Some(&giant))], &[])]).unwrap_err();
        assert!(matches!(error, StoreError::TooLong { .. }));
        assert_eq!(store.load().unwrap(), before);
    }
}
