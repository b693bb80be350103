//! One switch's program, by the units that it is made of.
//!
//! A unit (a workload, an identity, a rule...) owns its entries. A change makes units dirty; a dirty unit is
//! made anew and only what differs leaves as a delta.

use crate::{
    dirty::Installed,
    order::Order,
    rule::{Lane, Piece, shared},
    set::Set,
};
use bulkhead_pipeline::{Action, Delta, Entry, EntryKey, Masks, Program, Stage};
use bulkhead_policy::model;
use bulkhead_topology::{IpNet, Name};
use std::collections::{BTreeMap, BTreeSet};

/// What owns entries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    Pipeline,
    /// The overlay ports.
    Overlay,
    /// The ports that lead to other switches of the physical fabric.
    Cables,
    /// The way to an edge of it.
    Way(Name),
    /// What of another switch is believed, whatever the network.
    Peer(Name),
    Network(Name),
    /// Who gets what a network's workloads send to groups.
    Spread(Name),
    Workload(Name),
    Identity(u32),
    Prefix(IpNet),
    Rule(u32),
}

/// What stood at the places that a change touches, before it.
pub(crate) type Touched = BTreeMap<EntryKey, Option<Entry>>;

/// The clauses of each place that units share, and how many have each.
type Clauses = BTreeMap<EntryKey, BTreeMap<Action, u32>>;

/// A prefix that a switch tells apart from those around it.
#[derive(Debug, Default)]
pub(crate) struct Class {
    /// What it is called in metadata; 0 as long as it has no number.
    pub number: u32,
    /// The rules that name it.
    pub users: Set<(u32, Lane)>,
}

/// One switch.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    pub program: Program,
    /// The masks of its entries.
    pub masks: Masks,
    units: BTreeMap<Unit, Box<[Piece]>>,
    clauses: Clauses,
    /// How many entries and clauses all units have.
    pieces: usize,
    /// Rules that concern a workload of this switch, by lane, in order.
    pub orders: BTreeMap<Stage, Order>,
    /// The same rules with their priorities.
    pub rules: BTreeMap<(u32, Lane), u16>,
    /// Prefixes that those rules tell apart.
    pub classes: BTreeMap<IpNet, Class>,
    /// The same rules as they were when they got their place.
    pub installed: BTreeMap<(u32, Lane), Installed>,
}

impl Switch {
    /// The most clauses that would stand at one place after `made` has replaced its units' entries.
    pub fn most_clauses(&self, made: &[(Unit, Vec<Piece>)]) -> usize {
        let mut counts: BTreeMap<&EntryKey, isize> = BTreeMap::new();
        for (unit, pieces) in made {
            for place in self.units.get(unit).into_iter().flatten().filter_map(Piece::clause) {
                *counts.entry(place).or_default() -= 1;
            }
            for place in pieces.iter().filter_map(Piece::clause) {
                *counts.entry(place).or_default() += 1;
            }
        }
        let standing = |place: &EntryKey| self.clauses.get(place).map_or(0, BTreeMap::len);
        counts.into_iter().map(|(place, change)| standing(place).saturating_add_signed(change)).max().unwrap_or(0)
    }

    /// Takes a unit's entries away; remembers what stood at the places that it had.
    ///
    /// All dirty units are cleared before the first is filled: units may change places with each other.
    pub fn clear(&mut self, unit: &Unit, touched: &mut Touched) {
        let owned = self.units.remove(unit).unwrap_or_default();
        self.pieces -= owned.len();
        for piece in owned {
            match piece {
                Piece::Whole(entry) => {
                    self.touch(&entry.key, touched);
                    self.program.remove(&entry.key);
                }
                Piece::Clause(clause) => {
                    self.touch(&clause.0, touched);
                    self.unclause(*clause);
                }
            }
        }
    }

    /// What its entries come from.
    pub fn units(&self) -> impl Iterator<Item = &Unit> {
        self.units.keys()
    }

    /// Whether it has nothing yet.
    pub fn is_new(&self) -> bool {
        self.units.is_empty()
    }

    /// Gives a switch that has nothing its first entries.
    pub fn begin(&mut self, made: Vec<(Unit, Vec<Piece>)>) {
        let mut entries = Vec::new();
        for (unit, pieces) in made {
            for piece in &pieces {
                match piece {
                    Piece::Whole(entry) => entries.push(entry.clone()),
                    Piece::Clause(clause) => self.clause(clause),
                }
            }
            self.own(unit, pieces);
        }
        entries.extend(self.clauses.iter().map(|(key, clauses)| clauses_entry(key, clauses)));
        self.program = entries.into_iter().collect();
        self.masks = Masks::of(&self.program);
    }

    /// Gives a cleared unit its new entries; remembers what stood at their places.
    pub fn fill(&mut self, unit: Unit, pieces: Vec<Piece>, touched: &mut Touched) {
        for piece in &pieces {
            match piece {
                Piece::Whole(entry) => {
                    self.touch(&entry.key, touched);
                    self.program.insert(entry.clone());
                }
                Piece::Clause(clause) => {
                    self.touch(&clause.0, touched);
                    self.clause(clause);
                    self.write_clauses(&clause.0);
                }
            }
        }
        self.own(unit, pieces);
    }

    fn own(&mut self, unit: Unit, pieces: Vec<Piece>) {
        self.pieces += pieces.len();
        if !pieces.is_empty() {
            self.units.insert(unit, pieces.into());
        }
    }

    fn clause(&mut self, (key, clause): &(EntryKey, Action)) {
        match self.clauses.get_mut(key) {
            Some(clauses) => *clauses.entry(clause.clone()).or_default() += 1,
            None => _ = self.clauses.insert(key.clone(), BTreeMap::from([(clause.clone(), 1)])),
        }
    }

    fn touch(&self, key: &EntryKey, touched: &mut Touched) {
        touched.entry(key.clone()).or_insert_with(|| self.program.get(key).cloned());
    }

    fn unclause(&mut self, (key, clause): (EntryKey, Action)) {
        if let Some(clauses) = self.clauses.get_mut(&key) {
            if let Some(count) = clauses.get_mut(&clause) {
                *count -= 1;
                if *count == 0 {
                    clauses.remove(&clause);
                }
            }
            if clauses.is_empty() {
                self.clauses.remove(&key);
            }
        }
        self.write_clauses(&key);
    }

    fn write_clauses(&mut self, key: &EntryKey) {
        match self.clauses.get(key) {
            None => {
                self.program.remove(key);
            }
            Some(clauses) => {
                self.program.insert(clauses_entry(key, clauses));
            }
        }
    }

    /// What changed at the touched places.
    pub fn delta(&mut self, touched: Touched) -> Delta {
        let mut delta = Delta::default();
        for (key, before) in touched {
            match (before, self.program.get(&key)) {
                (Some(_), None) => {
                    self.masks.remove(&key);
                    delta.remove.push(key);
                }
                (before, Some(now)) if before.as_ref() != Some(now) => {
                    if before.is_none() {
                        self.masks.add(&key);
                    }
                    delta.add.push(now.clone());
                }
                _ => {}
            }
        }
        delta
    }

    /// How many entries and clauses all units but these have.
    pub fn pieces_without<'a>(&self, units: impl IntoIterator<Item = &'a Unit>) -> usize {
        self.pieces - units.into_iter().filter_map(|unit| self.units.get(unit)).map(|owned| owned.len()).sum::<usize>()
    }
}

/// The entry of a place that units share.
fn clauses_entry(key: &EntryKey, clauses: &BTreeMap<Action, u32>) -> Entry {
    shared(key.stage, key.priority, key.matches.clone(), clauses.keys().cloned().collect())
}

/// Every prefix that a rule's address sets mention.
pub(crate) fn prefixes(sets: &[model::CidrSet]) -> BTreeSet<IpNet> {
    sets.iter().flat_map(|set| set.cidrs.iter().chain(&set.except)).copied().collect()
}
