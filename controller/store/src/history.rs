//! Earlier revisions: the form in which they are told, and how an earlier state is found from the newest one.

use crate::{Document, Revision, StoreError};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Who made a revision, when, and what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Noted {
    /// Its number.
    #[serde(skip)]
    pub number: u64,
    /// Who made it.
    pub author: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time: u64,
    /// Keys of documents that were there before and after. Format 1 knew only these, and called them `keys`.
    #[serde(default, alias = "keys")]
    pub updated: Vec<String>,
    /// Keys of documents that were not there before.
    #[serde(default)]
    pub created: Vec<String>,
    /// Keys of documents that were not there afterwards.
    #[serde(default)]
    pub deleted: Vec<String>,
}

impl Noted {
    /// What is to be written down of a revision; `is_there` says which of its documents were there before.
    pub(crate) fn of(revision: &Revision, is_there: impl Fn(&str) -> bool) -> Self {
        let mut noted =
            Self { number: revision.number, author: revision.author.clone(), time: revision.time, ..Self::default() };
        for (key, text) in revision.changes.iter() {
            let keys = match (is_there(key), text) {
                (true, Some(_)) => &mut noted.updated,
                (false, Some(_)) => &mut noted.created,
                (true, None) => &mut noted.deleted,
                (false, None) => continue,
            };
            keys.push(key.clone());
        }
        noted
    }
}

/// Some revisions' notes, and which states there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The newest revision.
    pub newest: u64,
    /// The oldest revision whose state is kept; older ones may still be noted.
    pub oldest: u64,
    /// Notes, newest first.
    pub revisions: Vec<Noted>,
}

/// A document at two revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its key.
    pub key: String,
    /// At the first one.
    pub from: Option<Document>,
    /// At the second one.
    pub to: Option<Document>,
}

/// What differs between two revisions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Between {
    /// The first.
    pub from: u64,
    /// The second.
    pub to: u64,
    /// Documents whose text differs, by key.
    pub differences: Vec<Difference>,
}

/// One row of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "row", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Row {
    /// The store itself; the first row, and the only one of its kind.
    Store {
        /// The newest revision.
        revision: u64,
        /// The oldest revision whose state is kept.
        oldest: u64,
    },
    /// A document of the newest revision.
    Document {
        /// Its key.
        key: String,
        /// The revision that last wrote it.
        revision: u64,
        /// Its text.
        text: Arc<str>,
    },
    /// A number.
    Number {
        /// Its name.
        name: Arc<str>,
        /// It.
        number: u32,
    },
    /// A revision's note.
    Note {
        /// The revision.
        number: u64,
        /// Its note.
        note: Noted,
    },
    /// What a document was before a revision changed it.
    Past {
        /// The revision.
        number: u64,
        /// The document's key.
        key: String,
        /// The revision that had written it; 0 if it was not there.
        revision: u64,
        /// Its text; none if it was not there.
        text: Option<Arc<str>>,
    },
}

/// What a document was before a revision: number of that revision, key, document.
pub(crate) type Past = (u64, String, Option<Document>);

/// What a revision wrote, as in [`Revision::changes`].
pub(crate) type Changes = Vec<(String, Option<Arc<str>>)>;

/// Finds out what differs between `from` and `to`. `past` are the rows of all revisions after `from`, oldest first;
/// `current` is the newest state.
pub(crate) fn between<E>(
    (from, to): (u64, u64),
    past: impl Iterator<Item = Result<Past, E>>,
    mut current: impl FnMut(&str) -> Result<Option<Document>, E>,
) -> Result<Between, E> {
    // What a document was before the first change after a revision, it was at that revision.
    let (mut at_from, mut at_to) = (BTreeMap::new(), BTreeMap::new());
    for row in past {
        let (number, key, before) = row?;
        if number <= to {
            at_from.entry(key).or_insert(before);
        } else if at_from.contains_key(&key) {
            at_to.entry(key).or_insert(before);
        }
    }
    let mut differences = Vec::new();
    for (key, from) in at_from {
        let to = match at_to.remove(&key) {
            Some(to) => to,
            None => current(&key)?,
        };
        let text = |document: &Option<Document>| document.as_ref().map(|document| document.text.clone());
        if text(&from) != text(&to) {
            differences.push(Difference { key, from, to });
        }
    }
    Ok(Between { from, to, differences })
}

/// What each revision wrote, from what was there before each. `past` as in [`between`].
pub(crate) fn written<E>(
    past: Vec<Past>,
    mut current: impl FnMut(&str) -> Result<Option<Document>, E>,
) -> Result<BTreeMap<u64, Changes>, E> {
    let mut after: BTreeMap<String, Option<Document>> = BTreeMap::new();
    let mut written: BTreeMap<u64, Changes> = BTreeMap::new();
    for (number, key, before) in past.into_iter().rev() {
        // What the next change found is what this one wrote.
        let wrote = match after.remove(&key) {
            Some(wrote) => wrote,
            None => current(&key)?,
        };
        after.insert(key.clone(), before);
        written.entry(number).or_default().push((key, wrote.map(|document| document.text)));
    }
    // They were gathered backwards.
    written.values_mut().for_each(|changes| changes.reverse());
    Ok(written)
}

/// Whether a state is kept.
pub(crate) fn kept(asked: u64, oldest: u64, newest: u64) -> Result<(), StoreError> {
    match (oldest..=newest).contains(&asked) {
        true => Ok(()),
        false => Err(StoreError::NotKept { asked, oldest, newest }),
    }
}

/// Lets readers wait for the next revision.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    revision: Mutex<u64>,
    moved: Condvar,
}

impl Newest {
    /// There is a new one.
    pub(crate) fn set(&self, revision: u64) {
        *self.revision.lock().unwrap_or_else(PoisonError::into_inner) = revision;
        self.moved.notify_all();
    }

    /// Waits up to `wait` until there is one after `after`.
    pub(crate) fn wait(&self, after: u64, wait: Duration) {
        let end = Instant::now() + wait;
        let mut revision = self.revision.lock().unwrap_or_else(PoisonError::into_inner);
        while *revision <= after {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            revision = self.moved.wait_timeout(revision, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Noted {
    /// The revision again, with what it wrote.
    pub(crate) fn revision(&self, written: Option<&Changes>) -> Revision {
        Revision {
            number: self.number,
            author: self.author.clone(),
            time: self.time,
            changes: written.map(|written| written.as_slice().into()).unwrap_or_default(),
            numbers: Vec::new(),
            event: None,
        }
    }
}

impl Between {
    /// The same, told from the revision `from` on, which is one of its two.
    pub(crate) fn facing(mut self, from: u64) -> Self {
        if self.from != from {
            (self.from, self.to) = (self.to, self.from);
            self.differences.iter_mut().for_each(|one| std::mem::swap(&mut one.from, &mut one.to));
        }
        self
    }
}

impl Row {
    /// What a document was before the revision `number`.
    pub(crate) fn past(number: u64, key: String, document: Option<Document>) -> Self {
        let (revision, text) = document.map_or((0, None), |document| (document.revision, Some(document.text)));
        Self::Past { number, key, revision, text }
    }
}
