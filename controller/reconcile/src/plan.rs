//! The difference between what a switch should have and what it has.

use bulkhead_pipeline::{Delta, Entry, EntryKey, Program};
use bulkhead_topology::Port;
use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The ports that a switch has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// These, as it reported them.
    Known(BTreeSet<Port>),
    /// Every port that anyone names (a simulated switch).
    Any,
}

impl Default for Ports {
    fn default() -> Self {
        Self::Known(BTreeSet::new())
    }
}

impl Ports {
    /// Whether the switch has this port.
    pub fn has(&self, port: &Port) -> bool {
        match self {
            Self::Known(ports) => ports.contains(port),
            Self::Any => true,
        }
    }

    /// Whether it has every port that the entry names.
    pub fn carry(&self, entry: &Entry) -> bool {
        entry.ports().all(|port| self.has(port))
    }

    /// Whether it has the port that the key names, if it names one. An entry whose key it cannot have is
    /// not there to be removed either.
    pub(crate) fn carry_key(&self, key: &EntryKey) -> bool {
        key.matches.in_port.as_ref().is_none_or(|port| self.has(port))
    }
}

/// Ports, by number, at which a program lets somebody in by that number and somebody by the name that the switch tells for
/// it, whatever the one or the other sends there: what has a tag to the one may be the other's. Only the switch knows that the two are one port.
pub(crate) fn doubled(desired: &Program, names: &BTreeMap<u32, Arc<str>>) -> BTreeMap<Port, Port> {
    let named = |number| Some((Port::Number(number), Port::Name(names.get(&number)?.clone())));
    desired.numbered_doors().filter_map(named).filter(|(_, name)| desired.lets_in(name)).collect()
}

/// What makes `actual` the part of `desired` that a switch with these ports can carry.
pub fn plan(desired: &Program, actual: &Program, ports: &Ports) -> Delta {
    let mut delta = Delta::default();
    let mut wanted = desired.iter().filter(|entry| ports.carry(entry)).peekable();
    let mut present = actual.iter().peekable();
    // Both are sorted by key: one pass over the two of them.
    loop {
        let order = match (wanted.peek(), present.peek()) {
            (Some(want), Some(have)) => want.key.cmp(&have.key),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return delta,
        };
        let want = (order != Ordering::Greater).then(|| wanted.next()).flatten();
        let have = (order != Ordering::Less).then(|| present.next()).flatten();
        match (want, have) {
            (Some(want), have) if have != Some(want) => delta.add.push(want.clone()),
            (None, Some(have)) => delta.remove.push(have.key.clone()),
            _ => {}
        }
    }
}

/// Entries that wait for a port that the switch does not have yet.
pub fn held_back<'a>(desired: &'a Program, ports: &'a Ports) -> impl Iterator<Item = &'a Entry> {
    desired.iter().filter(|entry| !ports.carry(entry))
}
