//! A switch's desired entries.

use crate::{
    entry::{Entry, EntryKey},
    stage::Stage,
};
use bulkhead_topology::Port;
use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    mem,
};

/// An entry, found and ordered by its key alone.
#[derive(Debug, Clone)]
struct ByKey(Entry);

impl Borrow<EntryKey> for ByKey {
    fn borrow(&self) -> &EntryKey {
        &self.0.key
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

/// A set of entries with unique keys, in canonical order.
#[derive(Debug, Clone, Default)]
pub struct Program {
    entries: BTreeSet<ByKey>,
    /// How many entries of the first stage let packets in at each port.
    doors: BTreeMap<Port, u32>,
}

/// What turns one program into another. Disjoint: a key is in `remove` or among `add`, not both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Keys of entries that go.
    pub remove: Vec<EntryKey>,
    /// Entries that come, or replace the one with the same key.
    pub add: Vec<Entry>,
}

impl Delta {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    /// This and then `later`, as one: the last word on each key counts.
    pub fn then(&mut self, later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        let later_keys = later.remove.iter().chain(later.add.iter().map(|entry| &entry.key));
        let later_keys: BTreeSet<&EntryKey> = later_keys.collect();
        self.remove.retain(|key| !later_keys.contains(key));
        self.add.retain(|entry| !later_keys.contains(&entry.key));
        self.remove.extend(later.remove);
        self.add.extend(later.add);
    }
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Program {}

impl Program {
    /// The empty program, which drops everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry, and gives back the one that it replaces.
    pub fn insert(&mut self, entry: Entry) -> Option<Entry> {
        let door = door(&entry.key).cloned();
        let old = self.entries.replace(ByKey(entry));
        if let Some(port) = door.filter(|_| old.is_none()) {
            *self.doors.entry(port).or_default() += 1;
        }
        old.map(|ByKey(entry)| entry)
    }

    /// Removes an entry.
    pub fn remove(&mut self, key: &EntryKey) -> Option<Entry> {
        let ByKey(old) = self.entries.take(key)?;
        if let Some(port) = door(key)
            && let Some(count) = self.doors.get_mut(port)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.doors.remove(port);
            }
        }
        Some(old)
    }

    /// Whether packets are let in at a port, by what entries call it.
    pub fn lets_in(&self, port: &Port) -> bool {
        self.doors.contains_key(port)
    }

    /// The ports at which packets are let in and that entries call by their numbers.
    pub fn numbered_doors(&self) -> impl Iterator<Item = u32> {
        let numbers = self.doors.range(Port::Number(0)..).map(|(port, _)| port);
        numbers.filter_map(|port| if let Port::Number(number) = port { Some(*number) } else { None })
    }

    /// The entry with this key.
    pub fn get(&self, key: &EntryKey) -> Option<&Entry> {
        self.entries.get(key).map(|ByKey(entry)| entry)
    }

    /// All entries: by stage, then priority (lowest first), then match.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().map(|ByKey(entry)| entry)
    }

    /// One stage's entries, highest priority first.
    pub fn stage(&self, stage: Stage) -> impl Iterator<Item = &Entry> {
        let key = |priority| EntryKey { stage, priority, matches: Default::default() };
        // Keys of the next stage are all above; of this stage none is below (stage, 0, any).
        let all = self.entries.range(key(0)..);
        let end = Stage::from_index(stage as u8 + 1).map(|stage| EntryKey { stage, ..key(0) });
        match end {
            Some(end) => self.entries.range(key(0)..end),
            None => all,
        }
        .rev()
        .map(|ByKey(entry)| entry)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Carries out a delta.
    pub fn apply(&mut self, delta: &Delta) {
        for key in &delta.remove {
            self.remove(key);
        }
        for entry in &delta.add {
            self.insert(entry.clone());
        }
    }
}

impl FromIterator<Entry> for Program {
    /// Of entries with one key, the last stays.
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut entries: Vec<ByKey> = entries.into_iter().map(ByKey).collect();
        entries.sort();
        entries.dedup_by(|later, kept| {
            let same = later == kept;
            if same {
                mem::swap(later, kept);
            }
            same
        });
        let mut doors = BTreeMap::new();
        for port in entries.iter().filter_map(|ByKey(entry)| door(&entry.key)) {
            match doors.get_mut(port) {
                Some(count) => *count += 1,
                None => _ = doors.insert(port.clone(), 1),
            }
        }
        // What is sorted is laid out as it comes.
        Self { entries: entries.into_iter().collect(), doors }
    }
}

/// The port that a key of the first stage names.
fn door(key: &EntryKey) -> Option<&Port> {
    key.matches.in_port.as_ref().filter(|_| key.stage == Stage::Classify)
}
