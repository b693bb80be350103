//! The audit log: a record of every revision in its own commit, each with the digest of the one before.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_store::{Event, MemoryStore, RedbStore, Retention, Revision, Store};
use bulkhead_types::{AuditRecord, Chain};
use redb::{ReadableTable, TableDefinition};

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn revision(number: u64, changes: &[(&str, Option<&str>)], event: Option<Event>) -> Revision {
    let changes = changes.iter().map(|(key, text)| ((*key).to_owned(), text.map(Into::into))).collect();
    Revision { number, author: "learned".into(), time: 1_000 + number, changes, numbers: Vec::new(), event }
}

fn by(user: &str) -> Event {
    Event { time: 7, user: user.into(), known: "token".into(), outcome: "done".into(), ..Event::default() }
}

/// All records that are kept, which fit together.
fn records(store: &dyn Store) -> Vec<AuditRecord> {
    let page = store.reader().audit(0, usize::MAX).unwrap();
    let mut chain = Chain::new(sha256);
    let records: Vec<AuditRecord> = page.records.iter().map(|line| chain.follow(line).unwrap()).collect();
    assert_eq!((page.head.number, page.head.digest), (chain.head.number, chain.head.digest));
    assert_eq!(page.oldest, chain.first);
    records
}

#[test]
fn what_a_revision_changed_is_told_by_digests_and_by_whom() {
    let directory = tempfile::tempdir().unwrap();
    let stores: [Box<dyn Store>; 2] =
        [Box::new(MemoryStore::default()), Box::new(RedbStore::open(directory.path()).unwrap())];
    for mut store in stores {
        store.append(0, &[revision(1, &[("a", Some("one")), ("b", Some("two"))], Some(by("alice")))]).unwrap();
        store.note(&[by("bob"), by("carol")]).unwrap();
        let two =
            [revision(2, &[("a", Some("three"))], None), revision(3, &[("a", None), ("c", None)], Some(by("alice")))];
        store.append(1, &two).unwrap();
        let records = records(&*store);
        let told = |at: usize| (records[at].user.as_str(), records[at].revision);
        let all: Vec<_> = (0..records.len()).map(told).collect();
        assert_eq!(all, [("alice", Some(1)), ("bob", None), ("carol", None), ("learned", Some(2)), ("alice", Some(3))]);
        assert_eq!((records[3].known.as_str(), records[3].time), ("controller", 1_002));
        let objects = |at: usize| {
            let of = |object: &bulkhead_types::AuditObject| {
                (object.key.clone(), object.before.clone(), object.after.clone())
            };
            records[at].objects.iter().map(of).collect::<Vec<_>>()
        };
        let sum = |text: &str| Some(sha256(text.as_bytes()));
        assert_eq!(objects(0), [("a".into(), None, sum("one")), ("b".into(), None, sum("two"))]);
        assert_eq!(objects(3), [("a".into(), sum("one"), sum("three"))]);
        assert_eq!(objects(4), [("a".into(), sum("three"), None), ("c".into(), None, None)]);
        let line = format!("a {} {}\n", sha256(b"one"), sha256(b"three"));
        assert_eq!(records[3].sum, Some(sha256(line.as_bytes())));
    }
}

#[test]
fn a_large_change_has_a_short_record_with_a_sum_over_all_of_it() {
    let mut store = MemoryStore::default();
    let keys: Vec<String> = (0..5_000).map(|number| format!("key{number}")).collect();
    let changes: Vec<_> = keys.iter().map(|key| (key.as_str(), Some("text"))).collect();
    let about = vec!["Policy/".to_owned() + &"x".repeat(10_000); 1_000];
    let long = Event { detail: "x".repeat(1 << 20), user: "\u{fc}".repeat(10_000), about, ..by("alice") };
    store.append(0, &[revision(1, &changes, Some(long))]).unwrap();
    let line = store.reader().audit(0, 10).unwrap().records.remove(0);
    assert!(line.len() < 30_000, "{}", line.len());
    let record = records(&store).remove(0);
    assert_eq!((record.objects.len(), record.omitted, record.sum.is_some()), (100, 4_900, true));
    assert_eq!((record.about.len(), record.unnamed), (4, 996));
}

#[test]
fn it_goes_on_after_a_start_and_forgets_the_oldest_alone() {
    let directory = tempfile::tempdir().unwrap();
    let open = |audit| RedbStore::open_keeping(directory.path(), Retention { audit, ..Retention::default() }).unwrap();
    for number in 1..=40 {
        // Closed and opened again each time.
        open(u64::MAX).append(number - 1, &[revision(number, &[("a", Some("x"))], None)]).unwrap();
    }
    assert_eq!(records(&open(u64::MAX)).len(), 40);
    let mut store = open(2_000);
    store.note(&[by("bob")]).unwrap();
    let kept = records(&store);
    let page = store.reader().audit(0, usize::MAX).unwrap();
    assert!(page.records.iter().map(String::len).sum::<usize>() <= 2_000 && kept.len() > 2, "{}", kept.len());
    assert_eq!(kept.last().unwrap().number, 41);
    drop(store);
    // The newest one is kept whatever is said.
    let mut store = open(0);
    store.note(&[by("bob"), by("carol")]).unwrap();
    assert_eq!(records(&store).into_iter().map(|record| record.number).collect::<Vec<_>>(), [43]);
}

#[test]
fn a_backup_does_not_carry_it_and_a_restore_is_a_record_of_the_store_it_is_brought_to() {
    let directory = tempfile::tempdir().unwrap();
    let mut from = MemoryStore::default();
    from.append(0, &[revision(1, &[("a", Some("one"))], Some(by("alice")))]).unwrap();
    from.append(1, &[revision(2, &[("a", Some("two"))], Some(by("alice")))]).unwrap();
    let mut rows = Vec::new();
    from.reader()
        .snapshot(&mut |row| {
            rows.push(row);
            true
        })
        .unwrap();
    let stores: [Box<dyn Store>; 2] =
        [Box::new(MemoryStore::default()), Box::new(RedbStore::open(directory.path()).unwrap())];
    for mut store in stores {
        store.note(&[by("bob")]).unwrap();
        store.restore(&mut rows.clone().into_iter().map(Ok), &by("carol")).unwrap();
        store.append(2, &[revision(3, &[("a", Some("three"))], Some(by("carol")))]).unwrap();
        let records = records(&*store);
        let told: Vec<_> = records.iter().map(|record| (record.user.as_str(), record.revision)).collect();
        assert_eq!(told, [("bob", None), ("carol", Some(2)), ("carol", Some(3))]);
    }
}

#[test]
fn a_store_of_the_format_before_has_one_from_then_on_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = RedbStore::open(directory.path()).unwrap();
    for number in 1..=3 {
        store.append(number - 1, &[revision(number, &[("a", Some(&format!("{number}")))], None)]).unwrap();
    }
    let path = store.path().to_owned();
    let before = store.reader().between(1, None).unwrap();
    drop(store);
    {
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.delete_table(TableDefinition::<u64, &str>::new("audit")).unwrap();
        {
            let mut meta = transaction.open_table(TableDefinition::<&str, u64>::new("meta")).unwrap();
            meta.insert("format", 2).unwrap();
            meta.remove("audit-bytes").unwrap();
            assert!(meta.get("past-bytes").unwrap().unwrap().value() > 0);
        }
        transaction.commit().unwrap();
    }
    let mut store = RedbStore::open(directory.path()).unwrap();
    assert_eq!(store.found().upgraded, Some(2));
    assert_eq!(store.reader().between(1, None).unwrap(), before);
    assert!(records(&store).is_empty());
    store.append(3, &[revision(4, &[("a", None)], None)]).unwrap();
    assert_eq!(records(&store)[0].revision, Some(4));
}
