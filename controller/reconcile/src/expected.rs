//! What a switch is expected to have, so that what somebody else changed is told from what we did.
//!
//! It is expected to have what it had when it was last found or made exact, and of the entries that were desired
//! otherwise since, either form. Only those keys are kept, as fingerprints: a second copy of each switch's program would
//! double the memory.

use bulkhead_pipeline::{Delta, Entry, EntryKey, Program};
use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

/// Keys that are kept of a connected switch: all entries that one can have. They go with the next confirmation.
const MOST: usize = 1_000_000;
/// Keys that are kept of a switch that is away, perhaps for weeks, among a thousand others: some 300 KB.
const MOST_AWAY: usize = 20_000;

/// How much of a switch is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Nothing: it was never exact, or began anew.
    Nothing,
    /// All but entries that name ports: those came, went or changed numbers.
    AllButPorts,
    /// All.
    All,
}

/// What a switch is expected to have.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    known: Known,
    /// Fingerprints of keys that we changed, or wanted to, since it was exact.
    ours: BTreeSet<u64>,
}

/// What was found where something else was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Found {
    /// Differences that are not changes of ours on their way.
    pub strange: usize,
    /// Of them, those that somebody else made.
    pub drift: usize,
}

impl Expected {
    /// Of a switch that nobody has looked at.
    pub(crate) const fn nothing() -> Self {
        Self { known: Known::Nothing, ours: BTreeSet::new() }
    }

    /// The switch is exact, but for these changes on their way.
    pub(crate) fn exact<'a>(&mut self, but: impl Iterator<Item = &'a EntryKey>) {
        self.known = Known::All;
        self.ours = but.map(fingerprint).collect();
    }

    /// Something else is desired; `away` if the switch is not connected.
    pub(crate) fn desired(&mut self, delta: &Delta, away: bool) {
        if self.known == Known::Nothing {
            return;
        }
        let added = delta.add.iter().map(|entry| &entry.key);
        self.ours.extend(delta.remove.iter().chain(added).map(fingerprint));
        if self.ours.len() > if away { MOST_AWAY } else { MOST } {
            *self = Self::nothing();
        }
    }

    /// An entry that waited for its port is on its way.
    pub(crate) fn ours(&mut self, key: &EntryKey) {
        self.ours.insert(fingerprint(key));
    }

    /// Its ports changed: what names them may be missing, or be there under another number.
    pub(crate) fn ports_changed(&mut self) {
        if self.known == Known::All {
            self.known = Known::AllButPorts;
        }
    }

    /// Holds a read-back against it: `delta` is what makes it desired, `alien` what of ours could not be read.
    pub(crate) fn compare(&self, delta: &Delta, actual: &Program, alien: usize) -> Found {
        let mut found = Found { strange: alien, drift: if self.known == Known::All { alien } else { 0 } };
        let removed = delta.remove.iter().map(|key| (key, None));
        let added = delta.add.iter().map(|entry| (&entry.key, Some(entry)));
        for (key, wanted) in removed.chain(added) {
            if self.ours.contains(&fingerprint(key)) {
                continue;
            }
            found.strange += 1;
            found.drift += usize::from(match self.known {
                Known::Nothing => false,
                Known::All => true,
                Known::AllButPorts => {
                    let mut entries = wanted.into_iter().chain(actual.get(key));
                    !entries.any(|entry: &Entry| entry.ports().next().is_some())
                }
            });
        }
        found
    }
}

/// Two keys with one fingerprint are as good as impossible, and would hide one foreign change.
fn fingerprint(key: &EntryKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
