//! A change: what is asked for, what comes of it, and what of it is new.

use crate::shared::Accepted;
use bulkhead_policy::{Change, Diagnostic, Key};
use bulkhead_store::Event;
use bulkhead_topology::Name;
use std::{collections::BTreeMap, sync::Arc};

/// One resource's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What is to change.
    pub change: Change,
    /// The document to store for it; `None` exactly where the resource is removed.
    pub document: Option<Arc<str>>,
    /// The version that the resource must have now (0: must not exist); `None` is no condition.
    pub expected: Option<u64>,
}

/// A change as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// What is to change; keys are unique.
    pub edits: Vec<Edit>,
    /// Check and compile, and change nothing.
    pub dry_run: bool,
    /// The revision that must be the newest; `None` is no condition.
    pub newest: Option<u64>,
    /// Who asks, for people.
    pub author: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time: u64,
    /// The same for the audit log; none if nobody asks.
    pub event: Option<Event>,
}

/// What a change did to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// It did not exist before.
    Created,
    /// It existed with another value.
    Updated,
    /// It was removed.
    Deleted,
    /// It already was as asked.
    Unchanged,
}

/// Entries that a change adds to, removes from and rewrites on one switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntryCounts {
    /// New entries.
    pub added: u64,
    /// Entries that go.
    pub removed: u64,
    /// Entries that stay with other actions or another cause.
    pub modified: u64,
}

/// An accepted change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The revision in force afterwards.
    pub revision: u64,
    /// What happened to each resource, in the order of the request, and then to what was learned and gave way.
    pub changes: Vec<(Key, What)>,
    /// Warnings.
    pub diagnostics: Vec<Diagnostic>,
    /// Entries by switch; of a dry run only.
    pub entries: BTreeMap<Name, EntryCounts>,
}

/// Why a change was not accepted. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is wrong.
    #[error("the change is refused: {} findings", .0.len())]
    Rejected(Vec<Diagnostic>),
    /// A resource has changed since it was looked at.
    #[error("{key} is at version {actual}, not {expected}")]
    Conflict {
        /// The resource.
        key: Key,
        /// The version that was expected.
        expected: u64,
        /// Its version.
        actual: u64,
    },
    /// There is a newer revision than the one that the change was thought of for.
    #[error("revision {actual} is the newest, not {expected}")]
    Moved {
        /// The revision that was expected.
        expected: u64,
        /// The newest one.
        actual: u64,
    },
    /// It would not fit.
    #[error("{0}")]
    TooLarge(String),
    /// It could not be stored.
    #[error("the change could not be stored: {0}")]
    Unavailable(String),
}

/// A request, held against what there is.
pub(crate) struct Sorted {
    pub(crate) outcome: Outcome,
    /// What really changes.
    pub(crate) forward: Vec<Change>,
    /// What takes it back.
    pub(crate) backward: Vec<Change>,
    pub(crate) documents: Vec<(String, Option<Arc<str>>)>,
}

pub(crate) fn sort(accepted: &Accepted, request: &Request) -> Result<Sorted, Refusal> {
    if let Some(expected) = request.newest.filter(|expected| *expected != accepted.revision) {
        return Err(Refusal::Moved { expected, actual: accepted.revision });
    }
    let mut sorted =
        Sorted { outcome: Outcome::default(), forward: Vec::new(), backward: Vec::new(), documents: Vec::new() };
    let asked = request.edits.iter().map(|edit| &edit.change);
    let yielding = accepted.state.yielding(asked).into_iter();
    let yielding: Vec<Edit> =
        yielding.map(|key| Edit { change: Change::remove(key), document: None, expected: None }).collect();
    for edit in request.edits.iter().chain(&yielding) {
        let key = &edit.change.key;
        let actual = accepted.versions.get(key).copied().unwrap_or(0);
        if let Some(expected) = edit.expected.filter(|expected| *expected != actual) {
            return Err(Refusal::Conflict { key: key.clone(), expected, actual });
        }
        let before = accepted.state.get(key);
        let what = match (&before, &edit.change.value) {
            (None, None) => What::Unchanged,
            (None, Some(_)) => What::Created,
            (Some(_), None) => What::Deleted,
            (Some(before), Some(after)) if before == after => What::Unchanged,
            (Some(_), Some(_)) => What::Updated,
        };
        sorted.outcome.changes.push((key.clone(), what));
        if what != What::Unchanged {
            sorted.forward.push(edit.change.clone());
            sorted.backward.push(Change { key: key.clone(), value: before });
            sorted.documents.push((key.to_string(), edit.document.clone()));
        }
    }
    Ok(sorted)
}
