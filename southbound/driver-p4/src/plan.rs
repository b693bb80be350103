//! In which order a step's updates are written, and what undoes them.
//!
//! A device writes them one after another, those of one request in an order of its own (P4Runtime §12), as requests that are
//! under way at once, and packets see it half done. No packet is to pass meanwhile that neither the old program nor the new one lets pass. So writes are made in
//! the phases of ADR 8, each of which may be carried out in any order:
//!
//! ```text
//!   below:  allows come that move down: they are hidden yet
//!   narrow: denies come, allows go, ports close; what is neither and must not be seen half done is blocked
//!   core:   of that what no packet meets two of
//!   widen:  allows come, denies go; what was blocked becomes what it is to be
//!   above:  allows go that moved up: they are hidden by now
//!   open:   ports
//! ```
//!
//! Up to the core a part of what the old program lets pass does, and from there on a part of what the new one does. In
//! between, a packet that meets one change of the core meets it as it was or as it will be, and nothing of it else; one
//! that meets two is dropped, because one of them is blocked: an entry with the same key and priority that drops.

use crate::{
    lower::LowerError,
    places::Places,
    sizes::{TooMany, fits},
};
use bulkhead_p4runtime::{
    info::Info,
    proto::p4::v1::{Entity, TableEntry, Update, entity, update::Type},
};
use bulkhead_pipeline::{Delta, Effect, Entry, EntryKey, Field, Line, Match, Next, OPENING, Program, Stage};
use std::collections::{BTreeMap, BTreeSet};

/// Most changes of the core that are compared with each other, so that few are blocked; of more, all are.
const MAX_COMPARED: usize = 256;

/// Why a step is not begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// An entry has no place in the program.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// A table is too small.
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

/// A write.
#[derive(Debug, Clone, PartialEq)]
pub enum Move {
    /// An entry comes.
    Insert(Entry),
    /// An entry becomes another one with the same key.
    Modify {
        /// What is there.
        old: Entry,
        /// What it becomes.
        new: Entry,
    },
    /// An entry goes.
    Delete(Entry),
}

impl Move {
    /// What makes the second of the first.
    fn new(old: Option<&Entry>, new: Option<&Entry>) -> Option<Self> {
        Some(match (old, new) {
            (None, None) => return None,
            (Some(old), Some(new)) => Self::Modify { old: old.clone(), new: new.clone() },
            (None, Some(new)) => Self::Insert(new.clone()),
            (Some(old), None) => Self::Delete(old.clone()),
        })
    }

    /// What is written.
    ///
    /// # Errors
    /// An entry has no place.
    pub fn update(&self, places: &Places) -> Result<Update, LowerError> {
        Ok(match self {
            Self::Insert(new) => update(Type::Insert, places.lower(new)?),
            Self::Modify { new, .. } => update(Type::Modify, places.lower(new)?),
            Self::Delete(old) => update(Type::Delete, places.key(old)?),
        })
    }

    /// What takes it back.
    #[must_use]
    pub fn back(self) -> Self {
        match self {
            Self::Insert(new) => Self::Delete(new),
            Self::Modify { old, new } => Self::Modify { old: new, new: old },
            Self::Delete(old) => Self::Insert(old),
        }
    }

    /// Does it to what is known of a device.
    pub fn apply(&self, have: &mut Program) {
        match self {
            Self::Insert(new) | Self::Modify { new, .. } => have.insert(new.clone()),
            Self::Delete(old) => have.remove(&old.key),
        };
    }
}

/// What becomes of one key: the entry that is there, and the one that is to be.
#[derive(Clone, Copy)]
struct Change<'a> {
    key: &'a EntryKey,
    old: Option<&'a Entry>,
    new: Option<&'a Entry>,
}

/// When a change is made; smaller comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    Below,
    Narrow,
    Core,
    Widen,
    Above,
    Open,
}

impl Change<'_> {
    /// When it is made, whatever else moves.
    fn when(self) -> When {
        let opening = self.key.stage == OPENING && self.key.matches.in_port.is_some();
        match (self.old.map(Entry::effect), self.new.map(Entry::effect)) {
            (Some(_), None) if opening => When::Narrow,
            (None, Some(_)) if opening => When::Open,
            (_, Some(Effect::Deny)) | (Some(Effect::Allow), None) => When::Narrow,
            (None | Some(Effect::Deny | Effect::Allow), Some(Effect::Allow)) | (Some(Effect::Deny), _) => When::Widen,
            _ => When::Core,
        }
    }

    /// What makes it.
    fn made(self) -> Option<Move> {
        Move::new(self.old, self.new)
    }

    /// An entry that drops what this one is about.
    fn blocked(self) -> Option<Entry> {
        let cause = self.old.or(self.new)?.cause;
        Some(Line { key: self.key.clone(), actions: Box::default(), next: Next::Drop, cause }.into())
    }
}

/// The moves from what the device has to what a step makes of it: one list after another, each to be acknowledged before the
/// next one is begun, and in any order in itself.
///
/// # Errors
/// An entry that comes in between alone has no place. Nothing is to be sent then; of all others see [`foresee`].
pub fn moves(have: &Program, delta: &Delta, places: &Places) -> Result<Vec<Vec<Move>>, LowerError> {
    let changes = changes(have, delta);
    let closed = is_closed(have, delta);
    let moved = Moved::of(&changes);
    let mut phases: BTreeMap<When, Vec<Move>> = BTreeMap::new();
    let mut core: Vec<Change<'_>> = Vec::new();
    for change in changes {
        match moved.when(change) {
            When::Core => core.push(change),
            when => phases.entry(when).or_default().extend(change.made()),
        }
    }
    let mut alone: Vec<Change<'_>> = Vec::new();
    for change in &core {
        let meets = |other: &Change<'_>| may_meet(&change.key.matches, &other.key.matches);
        // Without an open port nothing passes, whatever is seen.
        if closed || (core.len() <= MAX_COMPARED && !alone.iter().any(meets)) {
            phases.entry(When::Core).or_default().extend(change.made());
            alone.push(*change);
        } else if let Some(blocked) = change.blocked() {
            places.check(&blocked)?;
            phases.entry(When::Narrow).or_default().extend(Move::new(change.old, Some(&blocked)));
            phases.entry(When::Widen).or_default().extend(Move::new(Some(&blocked), change.new));
        }
    }
    Ok(phases.into_values().collect())
}

/// What of a step is a change to what the device has.
fn changes<'a>(have: &'a Program, delta: &'a Delta) -> Vec<Change<'a>> {
    let comes = delta.add.iter().map(|entry| Change { key: &entry.key, old: have.get(&entry.key), new: Some(entry) });
    let goes = delta.remove.iter().map(|key| Change { key, old: have.get(key), new: None });
    comes.chain(goes).filter(|change| change.old != change.new).collect()
}

/// Whether no port leads into the pipeline until the last phase.
fn is_closed(have: &Program, delta: &Delta) -> bool {
    let removed = delta.remove.iter().filter(|key| key.stage == OPENING && key.matches.in_port.is_some());
    let removed: BTreeSet<&EntryKey> = removed.collect();
    !have.stage(OPENING).any(|entry| entry.effect() != Effect::Deny && !removed.contains(&entry.key))
}

/// Whether one packet may meet entries with these matches: nothing of a packet as it came in contradicts that.
fn may_meet(a: &Match, b: &Match) -> bool {
    let ports = !matches!((&a.in_port, &b.in_port), (Some(a), Some(b)) if a != b);
    let unchanged = |field: &Field| KEPT.contains(field);
    let differs = |(field, value, mask): (Field, u128, u128)| {
        let theirs = b.fields().find(|(other, ..)| *other == field);
        theirs.is_some_and(|(_, other, others)| (value ^ other) & mask & others != 0)
    };
    ports && !a.fields().filter(|(field, ..)| unchanged(field)).any(differs)
}

/// Fields of a packet that are what they were when it came in, in every stage that an entry of the core may be in, or that
/// are set for good before they are looked at.
const KEPT: [Field; 12] = [
    Field::EthType,
    Field::IpProto,
    Field::IpFrag,
    Field::ArpOp,
    Field::Ipv4Src,
    Field::Ipv4Dst,
    Field::Ipv6Src,
    Field::Ipv6Dst,
    Field::L4Src,
    Field::L4Dst,
    Field::Network,
    Field::FromTunnel,
];

/// Allows that go from one priority and come at another, the same ones elsewhere: the highest priority that they come at
/// and go from, by what they match.
#[derive(Default)]
struct Moved<'a> {
    comes: BTreeMap<(Stage, &'a Match), u16>,
    goes: BTreeMap<(Stage, &'a Match), u16>,
}

impl<'a> Moved<'a> {
    fn of(changes: &[Change<'a>]) -> Self {
        let allow = |entry: &&'a Entry| entry.effect() == Effect::Allow;
        let comes =
            || changes.iter().filter(|change| change.old.is_none()).filter_map(|change| change.new).filter(allow);
        let goes =
            || changes.iter().filter(|change| change.new.is_none()).filter_map(|change| change.old).filter(allow);
        // Most steps have only the one or the other.
        if comes().next().is_none() || goes().next().is_none() {
            return Self::default();
        }
        Self { comes: highest(comes()), goes: highest(goes()) }
    }

    /// When a change is made.
    fn when(&self, change: Change<'a>) -> When {
        let place = (change.key.stage, &change.key.matches);
        let above = |others: &BTreeMap<_, u16>| others.get(&place).is_some_and(|other| *other > change.key.priority);
        match (change.old, change.new) {
            (None, Some(new)) if new.effect() == Effect::Allow && above(&self.goes) => When::Below,
            (Some(old), None) if old.effect() == Effect::Allow && above(&self.comes) => When::Above,
            _ => change.when(),
        }
    }
}

fn highest<'a>(entries: impl Iterator<Item = &'a Entry>) -> BTreeMap<(Stage, &'a Match), u16> {
    let mut highest = BTreeMap::new();
    for EntryKey { stage, priority, matches } in entries.map(|entry| &entry.key) {
        let known = highest.entry((*stage, matches)).or_insert(*priority);
        *known = (*known).max(*priority);
    }
    highest
}

/// Whether all steps from here on have a place and fit the device, one after the other.
///
/// # Errors
/// The first entry that has no place, or the first table that is too small at some time.
pub fn foresee<'a>(
    have: &Program,
    steps: impl IntoIterator<Item = &'a Delta>,
    info: &Info,
    places: &Places,
) -> Result<(), PlanError> {
    let mut counts: BTreeMap<Stage, u64> = BTreeMap::new();
    for entry in have.iter() {
        *counts.entry(entry.key.stage).or_default() += 1;
    }
    let mut turned: BTreeMap<&EntryKey, bool> = BTreeMap::new();
    let mut steps = steps.into_iter().peekable();
    while let Some(delta) = steps.next() {
        let there = |key| turned.get(key).copied().unwrap_or_else(|| have.get(key).is_some());
        // What comes is there before what goes is gone.
        for entry in &delta.add {
            places.check(entry)?;
            if !there(&entry.key) {
                *counts.entry(entry.key.stage).or_default() += 1;
            }
        }
        fits(&counts, info)?;
        for key in delta.remove.iter().filter(|key| there(key)) {
            if let Some(count) = counts.get_mut(&key.stage) {
                *count = count.saturating_sub(1);
            }
        }
        if steps.peek().is_some() {
            turned.extend(delta.remove.iter().map(|key| (key, false)));
            turned.extend(delta.add.iter().map(|entry| (&entry.key, true)));
        }
    }
    Ok(())
}

/// What removes entries that are ours and that no entry of the pipeline is lowered to.
pub fn removals(aliens: &[TableEntry]) -> impl Iterator<Item = Update> {
    aliens.iter().map(|alien| update(Type::Delete, bare(alien.clone())))
}

/// An update of an entry.
pub(crate) fn update(kind: Type, entry: TableEntry) -> Update {
    let entity = Some(Entity { entity: Some(entity::Entity::TableEntry(entry)) });
    let mut update = Update { entity, ..Update::default() };
    update.set_type(kind);
    update
}

/// By what an entry is known, and no more.
pub(crate) fn bare(entry: TableEntry) -> TableEntry {
    TableEntry { table_id: entry.table_id, r#match: entry.r#match, priority: entry.priority, ..TableEntry::default() }
}
