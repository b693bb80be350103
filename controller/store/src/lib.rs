//! Durable revisions behind one small trait.
//!
//! A store knows documents as text under text keys, and numbers under names; what they mean is none of
//! its business. [`RedbStore`] keeps them in one file, [`MemoryStore`] in memory, for tests. With the feature
//! `store-sled` there is a `SledStore` too, for comparison (docs/adr/0014).

mod audit;
mod error;
mod history;
mod memory;
mod redb_store;
#[cfg(feature = "store-sled")]
mod sled_store;

pub use audit::{Audit, Event, Head, Touched};
pub use error::StoreError;
pub use history::{Between, Difference, History, Noted, Row};
pub use memory::MemoryStore;
pub use redb_store::RedbStore;
#[cfg(feature = "store-sled")]
pub use sled_store::SledStore;

use std::{collections::BTreeMap, iter, sync::Arc, time::Duration};

/// Most bytes of audit records that are handed on at once, but for one that is longer.
pub(crate) const AUDIT_PAGE: usize = 4 << 20;

/// Longest document and longest key, in bytes: a document is one resource, and the API takes none near
/// this size; a longer one is a mistake somewhere and must not fill the disk.
pub const MAX_DOCUMENT: usize = 4 << 20;

/// Documents by key: their new text, or `None` where they are removed. Keys are unique.
pub type Writes = Arc<[(String, Option<Arc<str>>)]>;

/// One accepted change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revision {
    /// Its number: one more than the last one's.
    pub number: u64,
    /// Who made it, for people.
    pub author: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time: u64,
    /// The documents that it changes.
    pub changes: Writes,
    /// Numbers by name that change with it, or `None` where they are given back.
    pub numbers: Vec<(Arc<str>, Option<u32>)>,
    /// Who asked for it, for the audit log; none if nobody did.
    pub event: Option<Event>,
}

/// A stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its text.
    pub text: Arc<str>,
    /// The revision that last wrote it.
    pub revision: u64,
}

/// Everything that was stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// The newest revision; 0 if there is none yet.
    pub revision: u64,
    /// Its documents by key.
    pub documents: BTreeMap<String, Document>,
    /// Its numbers by name.
    pub numbers: BTreeMap<Arc<str>, u32>,
}

impl Loaded {
    /// Hands it on as [`Reader::snapshot`] would, without history.
    pub fn rows(self, each: &mut dyn FnMut(Row) -> bool) {
        let Self { revision, documents, numbers } = self;
        let store = Row::Store { revision, oldest: revision };
        let documents =
            documents.into_iter().map(|(key, Document { text, revision })| Row::Document { key, revision, text });
        let numbers = numbers.into_iter().map(|(name, number)| Row::Number { name, number });
        let _ = iter::once(store).chain(documents).chain(numbers).all(each);
    }
}

/// How the store was found when it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The format that it had before, if it was an older one.
    pub upgraded: Option<u64>,
    /// Whether the newest commit was not whole, so that the one before it was taken.
    pub cut_back: bool,
    /// Why it cannot be written, if it cannot.
    pub read_only: Option<String>,
}

/// How much history is kept. What is beyond any of the bounds is forgotten, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Revisions.
    pub revisions: u64,
    /// How old a revision may be.
    pub age: Duration,
    /// Bytes of earlier documents: a bound on the disk, whoever changes how much.
    pub bytes: u64,
    /// Bytes of audit records, the newest of which is always kept.
    pub audit: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { revisions: 10_000, age: Duration::from_secs(365 * 24 * 3600), bytes: 1 << 30, audit: 256 << 20 }
    }
}

/// Keeps revisions. There is one writer; whoever reads history does so through [`Reader`]s, beside it.
pub trait Store: Send {
    /// Stores revisions as a whole, all of them or none, in one durable commit, after the revision `expected`. When
    /// this returns `Ok` they survive a crash of the program and of the machine; after an `Err` nothing of them is
    /// there, or ([`StoreError::Broken`] from then on) unknown. Forgets some of what is beyond the retention. Each has a
    /// record in the audit log, in the same commit.
    fn append(&mut self, expected: u64, revisions: &[Revision]) -> Result<(), StoreError>;

    /// Begins to write what the next revision probably changes, so that less of that is left for [`Self::append`], which
    /// knows it by being these very writes. Nothing of it is there before; anything else that is asked of the store first
    /// forgets it, as `None` does.
    fn prepare(&mut self, _changes: Option<&Writes>) {}

    /// Everything, as of the newest revision.
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// Begins a term: a number greater than that of every earlier one, and not below `now` (seconds since 1970), which is
    /// what is left of earlier ones when a store is lost, or brought back from a backup. Durable when it is returned.
    /// Switches tell by it which of two controllers is the newer one.
    fn begin(&mut self, now: u64) -> Result<u64, StoreError>;

    /// Fills an empty store with the rows of a [`Reader::snapshot`], in one durable commit with a record of `event`;
    /// nothing is stored if one of them makes no sense. Gives the newest revision.
    fn restore(
        &mut self,
        rows: &mut dyn Iterator<Item = Result<Row, String>>,
        event: &Event,
    ) -> Result<u64, StoreError>;

    /// Writes records of what makes no revision into the audit log, in one durable commit.
    fn note(&mut self, events: &[Event]) -> Result<(), StoreError>;

    /// A way to what is stored that can be used beside the writer.
    fn reader(&self) -> Arc<dyn Reader>;

    /// How the store was found when it was opened.
    fn found(&self) -> Found {
        Found::default()
    }
}

/// Looks at what is stored, at any time, from any thread. Each look sees one moment.
pub trait Reader: Send + Sync {
    /// Notes of at most `limit` revisions older than `before`, newest first.
    fn history(&self, before: u64, limit: usize) -> Result<History, StoreError>;

    /// What differs between two revisions; the newest one if `to` is `None`.
    fn between(&self, from: u64, to: Option<u64>) -> Result<Between, StoreError>;

    /// The revisions after `after`, at most `limit` of them, oldest first, with their documents and without numbers;
    /// waits up to `wait` until there is one.
    fn watch(&self, after: u64, limit: usize, wait: Duration) -> Result<Vec<Revision>, StoreError>;

    /// Audit records after the one with this number, oldest first: at most `limit` of them, and no more than some
    /// megabytes.
    fn audit(&self, after: u64, limit: usize) -> Result<Audit, StoreError>;

    /// Hands on everything that is stored as rows, the first of which is [`Row::Store`]; ends early if `each` says no. The
    /// audit log is not among them: it is this store's own.
    fn snapshot(&self, each: &mut dyn FnMut(Row) -> bool) -> Result<(), StoreError>;
}

/// The term after `last`, see [`Store::begin`].
fn next_term(last: u64, now: u64) -> u64 {
    now.max(last.saturating_add(1))
}

/// What every store refuses.
fn check(expected: u64, revisions: &[Revision], last: u64) -> Result<(), StoreError> {
    if expected != last {
        return Err(StoreError::OutOfOrder { got: expected.saturating_add(1), last });
    }
    for (revision, before) in revisions.iter().zip(last..) {
        if revision.number != before + 1 {
            return Err(StoreError::OutOfOrder { got: revision.number, last: before });
        }
        for (key, text) in revision.changes.iter() {
            let size = key.len().max(text.as_ref().map_or(0, |text| text.len()));
            if size > MAX_DOCUMENT {
                return Err(StoreError::TooLong { key: key.chars().take(64).collect(), size });
            }
        }
    }
    Ok(())
}
