//! Why something could not be stored or loaded.

use crate::MAX_DOCUMENT;
use std::path::PathBuf;

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
    /// There is no such revision, or it is forgotten.
    #[error("revision {asked} is not kept; those from {oldest} to {newest} are")]
    NotKept {
        /// The revision that was asked for.
        asked: u64,
        /// The oldest that is kept.
        oldest: u64,
        /// The newest.
        newest: u64,
    },
    /// Something is to be restored into a store that has something.
    #[error("the store has revision {revision} already; a backup is restored into an empty one")]
    NotEmpty {
        /// Its revision.
        revision: u64,
    },
    /// What is to be restored makes no sense. Nothing of it was stored.
    #[error("the backup is not whole: {0}")]
    Damaged(String),
    /// An earlier write failed: whether it reached the disk is not known, so nothing more is written.
    #[error("an earlier write failed, so nothing more is written until bulkheadd is restarted: {0}")]
    Broken(String),
    /// The store cannot be written; it was read when the program started.
    #[error("{} cannot be written: {what}", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        what: String,
    },
    /// What is stored cannot be read.
    #[error(
        "{} is damaged: {what}. Nothing was changed, and switches keep what they have. Move the file away, start \
         bulkheadd with an empty --data-dir, and bring a backup back with `bulkhead restore FILE`",
        path.display()
    )]
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
