//! How many different masks the entries of a stage have.
//!
//! A dataplane tries one table after another, one for each mask, so this is what a lookup costs at the worst (threat
//! A20: whoever can make a switch hold many masks makes it slow for everybody).

use crate::{entry::EntryKey, field::Field, program::Program, stage::Stage};
use std::collections::BTreeMap;

/// Whether the in-port is matched, and which bits of which fields.
type Mask = (bool, Vec<(Field, u128)>);

/// The masks of a program's entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Masks {
    /// How many entries have each.
    counts: BTreeMap<Stage, BTreeMap<Mask, u32>>,
}

impl Masks {
    /// Those of a whole program.
    pub fn of(program: &Program) -> Self {
        let mut masks = Self::default();
        for entry in program.iter() {
            masks.add(&entry.key);
        }
        masks
    }

    /// An entry came.
    pub fn add(&mut self, key: &EntryKey) {
        *self.counts.entry(key.stage).or_default().entry(mask(key)).or_default() += 1;
    }

    /// An entry went.
    pub fn remove(&mut self, key: &EntryKey) {
        let Some(stage) = self.counts.get_mut(&key.stage) else { return };
        let mask = mask(key);
        if let Some(count) = stage.get_mut(&mask) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                stage.remove(&mask);
            }
        }
        if stage.is_empty() {
            self.counts.remove(&key.stage);
        }
    }

    /// The number of entries of each stage that has some.
    pub fn entries(&self) -> impl Iterator<Item = (Stage, u64)> {
        self.counts.iter().map(|(stage, masks)| (*stage, masks.values().map(|count| u64::from(*count)).sum()))
    }

    /// The number of different masks of each stage that has entries.
    pub fn by_stage(&self) -> impl Iterator<Item = (Stage, usize)> {
        self.counts.iter().map(|(stage, masks)| (*stage, masks.len()))
    }

    /// The number in the stage that has most.
    pub fn most(&self) -> usize {
        self.by_stage().map(|(_, count)| count).max().unwrap_or(0)
    }
}

fn mask(key: &EntryKey) -> Mask {
    let fields = key.matches.fields().iter().map(|(field, _, mask)| (*field, *mask)).collect();
    (key.matches.in_port.is_some(), fields)
}
