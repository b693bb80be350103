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
        // Neighbours are often alike.
        let mut run: Option<(&EntryKey, u32)> = None;
        for key in program.iter().map(|entry| &entry.key) {
            match &mut run {
                Some((first, count)) if alike(first, key) => *count += 1,
                _ => {
                    run.into_iter().for_each(|(first, count)| masks.count(first, count));
                    run = Some((key, 1));
                }
            }
        }
        run.into_iter().for_each(|(first, count)| masks.count(first, count));
        masks
    }

    /// An entry came.
    pub fn add(&mut self, key: &EntryKey) {
        self.count(key, 1);
    }

    fn count(&mut self, key: &EntryKey, by: u32) {
        *self.counts.entry(key.stage).or_default().entry(mask(key)).or_default() += by;
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
    let fields = bits(key).collect();
    (key.matches.in_port.is_some(), fields)
}

/// Whether two entries stand in one stage with one mask.
fn alike(one: &EntryKey, other: &EntryKey) -> bool {
    one.stage == other.stage
        && one.matches.in_port.is_some() == other.matches.in_port.is_some()
        && bits(one).eq(bits(other))
}

/// Which bits of which fields are matched.
fn bits(key: &EntryKey) -> impl Iterator<Item = (Field, u128)> {
    key.matches.fields().map(|(field, _, mask)| (field, mask))
}
