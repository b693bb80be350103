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
    }
}

/// Three revisions and what is there after them.
fn fill(store: &mut dyn Store) -> Loaded {
    store.append(&revision(1, &[("a", Some("one")), ("b", Some("two"))], &[("x", Some(1)), ("y", Some(2))])).unwrap();
    store.append(&revision(2, &[("a", Some("three"))], &[])).unwrap();
    store.append(&revision(3, &[("b", None)], &[("x", None)])).unwrap();
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

#[test]
fn everything_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let before = fill(&mut RedbStore::open(directory.path()).unwrap());
    let mut store = RedbStore::open(directory.path()).unwrap();
    assert_eq!(store.load().unwrap(), before);
    store.append(&revision(4, &[("c", Some("four"))], &[])).unwrap();
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let (live, dead) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut store = RedbStore::open(live.path()).unwrap();
    let before = fill(&mut store);
    // The file as it is on the disk while the program runs: what a kill would leave behind.
    fs::copy(store.path(), dead.path().join("bulkhead.redb")).unwrap();
    store.append(&revision(4, &[("late", Some("later"))], &[])).unwrap();
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
fn a_file_that_is_no_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("bulkhead.redb"), b"not a database, but long enough to be looked at").unwrap();
    assert!(RedbStore::open(directory.path()).is_err());
}

#[test]
fn gaps_and_giants_are_refused_and_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut redb = RedbStore::open(directory.path()).unwrap();
    let mut memory = MemoryStore::default();
    for store in [&mut redb as &mut dyn Store, &mut memory] {
        let before = fill(store);
        let error = store.append(&revision(5, &[], &[])).unwrap_err();
        assert!(matches!(error, StoreError::OutOfOrder { got: 5, last: 3 }));
        let giant = "x".repeat(MAX_DOCUMENT + 1);
        let error = store.append(&revision(4, &[("k", Some("fine")), ("g", Some(&giant))], &[])).unwrap_err();
        assert!(matches!(error, StoreError::TooLong { .. }));
        assert_eq!(store.load().unwrap(), before);
    }
}
