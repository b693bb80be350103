//! Priorities that follow from the rules alone, not from the history of edits.
//!
//! Within one stage of one switch, rules stand in levels (priority, rule priority, action). Rules of one
//! level decide alike, so only those that could match the same packet need an order among themselves:
//! a rule's rank is one more than the highest rank of an earlier rule that it may overlap with. A level
//! takes as many priorities as it has ranks, with room to grow, so that an edit rarely moves others.

use crate::{TooLarge, service};
use bulkhead_policy::model::{Action, PortMatch};
use bulkhead_topology::{Name, Operator, Requirement, Selector};
use std::collections::BTreeMap;

/// Lowest priority of a rule; below are the stage's own entries.
const FIRST: u32 = 16;
/// Highest priority of a rule; above are the stage's own entries.
const LAST: u32 = 65_000;
/// Fewest priorities that a level takes.
const ROOM: u32 = 8;

/// Rank of a rule that has none yet.
const UNSETTLED: u32 = u32::MAX;

/// Rules of one stage that decide alike and at the same place.
pub(crate) type Level = (u16, u16, Action);

/// What an order needs to know of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ordered {
    pub level: Level,
    pub policy: Name,
    pub index: usize,
    pub subject: Selector,
    pub ports: Option<Vec<PortMatch>>,
}

#[derive(Debug, Clone)]
struct Placed {
    rule: u32,
    rank: u32,
    ordered: Ordered,
}

/// The rules of one stage of one switch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Order {
    levels: BTreeMap<Level, BTreeMap<(Name, usize), Placed>>,
    /// What came and went since the last [`Self::lay_out`].
    unsettled: BTreeMap<Level, Vec<Ordered>>,
    bases: BTreeMap<Level, (u32, u32)>,
}

impl Order {
    /// Adds a rule.
    pub fn insert(&mut self, rule: u32, ordered: Ordered) {
        let level = self.levels.entry(ordered.level).or_default();
        let at = (ordered.policy.clone(), ordered.index);
        level.insert(at, Placed { rule, rank: UNSETTLED, ordered: ordered.clone() });
        self.unsettled.entry(ordered.level).or_default().push(ordered);
    }

    /// Removes a rule.
    pub fn remove(&mut self, ordered: &Ordered) {
        if let Some(level) = self.levels.get_mut(&ordered.level) {
            let at = (ordered.policy.clone(), ordered.index);
            level.remove(&at);
            if level.is_empty() {
                self.levels.remove(&ordered.level);
            }
            self.unsettled.entry(ordered.level).or_default().push(ordered.clone());
        }
    }

    /// Gives every level its priorities.
    pub fn lay_out(&mut self) -> Result<(), TooLarge> {
        for (level, changed) in std::mem::take(&mut self.unsettled) {
            if let Some(rules) = self.levels.get_mut(&level) {
                settle(rules, changed);
            }
        }
        self.bases.clear();
        let mut base = FIRST;
        for (level, rules) in self.levels.iter().rev() {
            let ranks = rules.values().map(|placed| placed.rank + 1).max().unwrap_or(0);
            let width = ranks.next_power_of_two().max(ROOM);
            self.bases.insert(*level, (base, width));
            base += width;
            if base > LAST {
                return Err(TooLarge { what: "priorities of one stage".into(), size: base.into(), limit: LAST.into() });
            }
        }
        Ok(())
    }

    /// The rules with their priorities.
    pub fn priorities(&self) -> impl Iterator<Item = (u32, u16)> {
        self.levels.iter().flat_map(|(level, rules)| {
            let (base, width) = self.bases.get(level).copied().unwrap_or((FIRST, ROOM));
            rules.values().map(move |placed| (placed.rule, (base + (width - 1).saturating_sub(placed.rank)) as u16))
        })
    }
}

/// Makes the ranks right again after these came or went. Only rules behind the first of them are looked at, and of
/// those only the ones that overlap with what changed are given a rank anew.
fn settle(level: &mut BTreeMap<(Name, usize), Placed>, mut changed: Vec<Ordered>) {
    let Some(first) = changed.iter().map(|ordered| (ordered.policy.clone(), ordered.index)).min() else { return };
    let mut rules: Vec<&mut Placed> = level.values_mut().collect();
    let at = |placed: &Placed| (placed.ordered.policy.clone(), placed.ordered.index);
    for i in rules.partition_point(|placed| at(placed) < first)..rules.len() {
        let (earlier, later) = rules.split_at_mut(i);
        let Some(placed) = later.first_mut() else { break };
        // A rule that cannot match anything overlaps with nothing, itself included, and needs a rank all the same.
        if placed.rank != UNSETTLED && !changed.iter().any(|other| overlap(other, &placed.ordered)) {
            continue;
        }
        let before = earlier.iter().filter(|earlier| overlap(&earlier.ordered, &placed.ordered));
        let rank = before.map(|earlier| earlier.rank + 1).max().unwrap_or(0);
        if rank != placed.rank {
            let new = placed.rank == UNSETTLED;
            placed.rank = rank;
            if !new {
                changed.push(placed.ordered.clone());
            }
        }
    }
}

/// Whether two rules might match the same packet, as far as their text shows.
fn overlap(a: &Ordered, b: &Ordered) -> bool {
    !disjoint(&a.subject, &b.subject) && service::may_overlap(a.ports.as_deref(), b.ports.as_deref())
}

/// Whether no workload can have both selectors, provably: one label, two values.
fn disjoint(a: &Selector, b: &Selector) -> bool {
    a.requirements().iter().filter(|r| r.operator == Operator::In).any(|x| {
        let apart = |y: &Requirement| y.values().iter().all(|value| x.values().binary_search(value).is_err());
        b.requirements().iter().any(|y| y.operator == Operator::In && y.key == x.key && apart(y))
    })
}
