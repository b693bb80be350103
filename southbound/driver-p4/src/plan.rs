//! In which order a step's updates are written, and what undoes them.
//!
//! A device writes them one after another, and packets see it half done. So that nothing passes meanwhile that neither the
//! old program nor the new one lets pass: what is denied comes first, then what is no longer there goes, then comes what is
//! new, and last goes what is no longer denied. What goes on from an entry is there before the entry is.

use crate::{
    lower::{LowerError, lower},
    sizes::{TooMany, fits},
};
use bulkhead_p4runtime::{
    info::Info,
    proto::p4::v1::{Entity, TableEntry, Update, entity, update::Type},
};
use bulkhead_pipeline::{Delta, Entry, Next, Program, Stage};
use std::collections::BTreeMap;

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

/// A write, and the one that undoes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// What is written.
    pub update: Update,
    /// What takes it back.
    pub back: Update,
}

/// The moves from what the device has to what a step makes of it.
///
/// # Errors
/// An entry has no place. Nothing is to be sent then.
pub fn moves(have: &Program, delta: &Delta, info: &Info) -> Result<Vec<Move>, LowerError> {
    let mut comes: [Vec<(Stage, Move)>; 2] = Default::default();
    let mut goes: [Vec<Move>; 2] = Default::default();
    for entry in &delta.add {
        let new = lower(entry, info)?;
        let one = match have.get(&entry.key) {
            Some(old) if old == entry => continue,
            Some(old) => Move { update: update(Type::Modify, new), back: update(Type::Modify, lower(old, info)?) },
            None => Move { update: update(Type::Insert, new.clone()), back: update(Type::Delete, bare(new)) },
        };
        comes[usize::from(!denies(entry))].push((entry.key.stage, one));
    }
    for old in delta.remove.iter().filter_map(|key| have.get(key)) {
        let lowered = lower(old, info)?;
        let one = Move { update: update(Type::Delete, bare(lowered.clone())), back: update(Type::Insert, lowered) };
        goes[usize::from(denies(old))].push(one);
    }
    let [denials, mut others] = comes;
    others.sort_by_key(|(stage, _)| std::cmp::Reverse(*stage));
    let [allowed, denied] = goes;
    let comes = |of: Vec<(Stage, Move)>| of.into_iter().map(|(_, one)| one);
    Ok(comes(denials).chain(allowed).chain(comes(others)).chain(denied).collect())
}

/// Whether all steps from here on fit the device, one after the other.
///
/// # Errors
/// The first entry that has no place, or the first table that is too small at some time.
pub fn foresee<'a>(have: &Program, steps: impl IntoIterator<Item = &'a Delta>, info: &Info) -> Result<(), PlanError> {
    let mut counts: BTreeMap<Stage, u64> = BTreeMap::new();
    for entry in have.iter() {
        *counts.entry(entry.key.stage).or_default() += 1;
    }
    let mut turned: BTreeMap<_, bool> = BTreeMap::new();
    for delta in steps {
        let there = |turned: &BTreeMap<_, bool>, key| turned.get(key).copied().unwrap_or(have.get(key).is_some());
        // What comes is there before what goes is gone.
        for entry in &delta.add {
            lower(entry, info)?;
            if !there(&turned, &entry.key) {
                *counts.entry(entry.key.stage).or_default() += 1;
            }
        }
        fits(&counts, info)?;
        for key in delta.remove.iter().filter(|key| there(&turned, key)) {
            if let Some(count) = counts.get_mut(&key.stage) {
                *count = count.saturating_sub(1);
            }
        }
        turned.extend(delta.remove.iter().map(|key| (key.clone(), false)));
        turned.extend(delta.add.iter().map(|entry| (entry.key.clone(), true)));
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

fn denies(entry: &Entry) -> bool {
    entry.next == Next::Drop
}
