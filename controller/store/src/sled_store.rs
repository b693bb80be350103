//! The same on sled 0.34, for comparison: behind the feature `store-sled`, and not for production.
//!
//! sled's own authors say: it is beta, its file format will change without a way from one to the next, and whoever
//! needs reliability first should use something else. The last release of this line is of 2021. What is here passes the
//! same tests of meaning and the same kills; it differs in that all of it, history included, is kept in memory, that the
//! audit log is kept nowhere else, that nothing is forgotten, and that damage on the disk is found only as far as sled looks for it.

use crate::{Document, Event, Loaded, MemoryStore, Noted, Reader, Revision, Row, Store, StoreError, check, next_term};
use sled::{Batch, Db};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Name of the database's directory in the data directory.
const DIRECTORY: &str = "bulkhead.sled";

/// What rows begin with: documents, numbers, notes, what was before, the newest revision, and the newest term.
const DOCUMENT: u8 = b'd';
const NUMBER: u8 = b'n';
const NOTE: u8 = b'r';
const PAST: u8 = b'p';
const STORE: u8 = b's';
const TERM: u8 = b't';

/// Keeps revisions in sled. Every append is one batch, flushed to the disk.
pub struct SledStore {
    database: Db,
    path: PathBuf,
    /// All of it once more: readers look here.
    kept: MemoryStore,
    last: u64,
    /// Why a write failed; nothing is written after that.
    broken: Option<String>,
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").field("last", &self.last).finish_non_exhaustive()
    }
}

/// A row as sled holds it.
fn encoded(row: &Row) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    let key = match row {
        Row::Store { .. } => vec![STORE],
        Row::Document { key, .. } => [&[DOCUMENT], key.as_bytes()].concat(),
        Row::Number { name, .. } => [&[NUMBER], name.as_bytes()].concat(),
        Row::Note { number, .. } => [&[NOTE][..], &number.to_be_bytes()].concat(),
        Row::Past { number, key, .. } => [&[PAST][..], &number.to_be_bytes(), key.as_bytes()].concat(),
    };
    let value = serde_json::to_vec(row).map_err(|error| StoreError::Damaged(error.to_string()))?;
    Ok((key, value))
}

impl SledStore {
    /// Opens the store in `directory`, and makes both where there are none.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(DIRECTORY);
        let failed = |what: String| StoreError::Failed { path: path.clone(), what };
        fs::create_dir_all(directory).map_err(|error| failed(error.to_string()))?;
        let config = sled::Config::new().path(&path).flush_every_ms(None);
        let database = config.open().map_err(|error| match error {
            sled::Error::Corruption { .. } => StoreError::Corrupt { path: path.clone(), what: error.to_string() },
            // It tells no reason but this text.
            sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => {
                StoreError::InUse { path: path.clone() }
            }
            error => failed(error.to_string()),
        })?;
        let mut kept = MemoryStore::default();
        // The store's own row sorts last, and is to come first.
        let first = database.get([STORE]).map_err(|error| failed(error.to_string()))?;
        let first = first.map_or_else(|| Ok(Row::Store { revision: 0, oldest: 0 }), |value| row(&value));
        let rest = database.iter().filter_map(|row| match row {
            Ok((key, _)) if matches!(key.first(), Some(&(STORE | TERM))) => None,
            Ok((_, value)) => Some(self::row(&value)),
            Err(error) => Some(Err(error.to_string())),
        });
        let last =
            kept.restore(&mut std::iter::once(first).chain(rest), &Event::default()).map_err(|error| match error {
                StoreError::Damaged(what) => StoreError::Corrupt { path: path.clone(), what },
                other => other,
            })?;
        Ok(Self { database, path, kept, last, broken: None })
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, batch: Batch) -> Result<(), StoreError> {
        let written = self.database.apply_batch(batch).and_then(|()| self.database.flush());
        written.map(drop).map_err(|error| {
            self.broken = Some(error.to_string());
            StoreError::Failed { path: self.path.clone(), what: error.to_string() }
        })
    }

    fn well(&self) -> Result<(), StoreError> {
        self.broken.clone().map_or(Ok(()), |why| Err(StoreError::Broken(why)))
    }
}

fn row(value: &[u8]) -> Result<Row, String> {
    serde_json::from_slice(value).map_err(|error| error.to_string())
}

/// What revisions change, row by row; `document` is what there is before them.
fn rows(
    revisions: &[Revision],
    document: impl Fn(&str) -> Option<Document>,
) -> Result<(Vec<Row>, Vec<Vec<u8>>), StoreError> {
    let (mut put, mut gone) = (Vec::new(), BTreeMap::new());
    let mut now: BTreeMap<&str, Option<Document>> = BTreeMap::new();
    for revision in revisions {
        let number = revision.number;
        let mut there = Vec::new();
        for (key, text) in revision.changes.iter() {
            let after = text.as_ref().map(|text| Document { text: text.clone(), revision: number });
            let before = match now.insert(key, after) {
                Some(before) => before,
                None => document(key),
            };
            if before.is_some() {
                there.push(key.as_str());
            }
            put.push(Row::past(number, key.clone(), before));
        }
        there.sort_unstable();
        let note = Noted::of(revision, |key| there.binary_search(&key).is_ok());
        put.push(Row::Note { number, note });
        for (name, value) in &revision.numbers {
            gone.insert(name, *value);
        }
        put.push(Row::Store { revision: number, oldest: 0 });
    }
    let mut removed = Vec::new();
    for (key, document) in now {
        match document {
            Some(Document { text, revision }) => put.push(Row::Document { key: key.to_owned(), revision, text }),
            None => removed.push([&[DOCUMENT], key.as_bytes()].concat()),
        }
    }
    for (name, number) in gone {
        match number {
            Some(number) => put.push(Row::Number { name: name.clone(), number }),
            None => removed.push([&[NUMBER], name.as_bytes()].concat()),
        }
    }
    Ok((put, removed))
}

impl Store for SledStore {
    fn append(&mut self, expected: u64, revisions: &[Revision]) -> Result<(), StoreError> {
        self.well()?;
        check(expected, revisions, self.last)?;
        let Some(newest) = revisions.last() else { return Ok(()) };
        let (put, removed) = rows(revisions, |key| self.kept.document(key))?;
        let mut batch = Batch::default();
        for row in &put {
            let (key, value) = encoded(row)?;
            batch.insert(key, value);
        }
        removed.into_iter().for_each(|key| batch.remove(key));
        self.write(batch)?;
        self.last = newest.number;
        self.kept.append(expected, revisions)
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.kept.load()
    }

    fn begin(&mut self, now: u64) -> Result<u64, StoreError> {
        self.well()?;
        let failed = |what: String| StoreError::Failed { path: self.path.clone(), what };
        let last = self.database.get([TERM]).map_err(|error| failed(error.to_string()))?;
        let last = match last {
            Some(bytes) => bytes.as_ref().try_into().map(u64::from_be_bytes).map_err(|_| failed("no term".into()))?,
            None => 0,
        };
        let term = next_term(last, now);
        let mut batch = Batch::default();
        batch.insert([TERM].as_slice(), term.to_be_bytes().as_slice());
        self.write(batch)?;
        Ok(term)
    }

    fn restore(
        &mut self,
        rows: &mut dyn Iterator<Item = Result<Row, String>>,
        event: &Event,
    ) -> Result<u64, StoreError> {
        self.well()?;
        if self.last > 0 {
            return Err(StoreError::NotEmpty { revision: self.last });
        }
        let mut filled = MemoryStore::default();
        let revision = filled.restore(rows, event)?;
        let mut all = Vec::new();
        filled.reader().snapshot(&mut |row| {
            all.push(row);
            true
        })?;
        let mut batch = Batch::default();
        for row in &all {
            let (key, value) = encoded(row)?;
            batch.insert(key, value);
        }
        self.write(batch)?;
        self.last = revision;
        self.kept.restore(&mut all.into_iter().map(Ok), event)
    }

    fn note(&mut self, events: &[Event]) -> Result<(), StoreError> {
        self.kept.note(events)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.kept.reader()
    }
}
