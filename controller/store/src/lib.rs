//! Durable revisions behind one small trait.
//!
//! A store knows documents as text under text keys, and numbers under names; what they mean is none of
//! its business. [`RedbStore`] keeps them in one file, [`MemoryStore`] in memory, for tests.

mod memory;
mod redb_store;

pub use memory::MemoryStore;
pub use redb_store::RedbStore;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// Longest document and longest key, in bytes: a document is one resource, and the API takes none near
/// this size; a longer one is a mistake somewhere and must not fill the disk.
pub const MAX_DOCUMENT: usize = 4 << 20;

/// How many revisions' notes (who, when, which keys) are kept; the documents themselves are kept as of
/// the newest revision only.
pub const MAX_NOTES: u64 = 10_000;

/// One accepted change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revision {
    /// Its number: one more than the last one's.
    pub number: u64,
    /// Who made it, for people.
    pub author: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time: u64,
    /// Documents by key: their new text, or `None` where they are removed.
    pub changes: Vec<(String, Option<Arc<str>>)>,
    /// Numbers by name that change with it, or `None` where they are given back.
    pub numbers: Vec<(Arc<str>, Option<u32>)>,
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

/// Why something could not be stored or loaded.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the store open.
    #[error("{} is in use by another bulkheadd; stop that one, or give this one another --data-dir", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The store was written by a newer program.
    #[error(
        "{} has format {found}, this bulkheadd knows formats up to {known}; run the newer bulkheadd that wrote it",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that is understood.
        known: u64,
    },
    /// The revision does not follow the last one.
    #[error("revision {got} does not follow revision {last}")]
    OutOfOrder {
        /// The revision that was to be stored.
        got: u64,
        /// The one that is.
        last: u64,
    },
    /// A document or key is too long.
    #[error("{key} is {size} bytes long; at most {MAX_DOCUMENT} are stored")]
    TooLong {
        /// The document's key, cut to a printable length.
        key: String,
        /// Its length in bytes.
        size: usize,
    },
    /// An earlier write failed: whether it reached the disk is not known, so nothing more is written.
    #[error("an earlier write failed, so nothing more is written until bulkheadd is restarted: {0}")]
    Broken(String),
    /// What is stored cannot be read.
    #[error("{} cannot be read: {what}; restore it from a backup", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The operating system or the database said no.
    #[error("{}: {what}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// Its words.
        what: String,
    },
}

/// Keeps revisions.
pub trait Store: Send {
    /// Stores a revision as a whole. When this returns `Ok` it survives a crash of the program and of the
    /// machine; after an `Err` nothing of it is there, or ([`StoreError::Broken`] from then on) unknown.
    fn append(&mut self, revision: &Revision) -> Result<(), StoreError>;

    /// Everything, as of the newest revision.
    fn load(&mut self) -> Result<Loaded, StoreError>;
}

/// What every store refuses.
fn check(revision: &Revision, last: u64) -> Result<(), StoreError> {
    if revision.number != last + 1 {
        return Err(StoreError::OutOfOrder { got: revision.number, last });
    }
    for (key, text) in &revision.changes {
        let size = key.len().max(text.as_ref().map_or(0, |text| text.len()));
        if size > MAX_DOCUMENT {
            return Err(StoreError::TooLong { key: key.chars().take(64).collect(), size });
        }
    }
    Ok(())
}
