//! Priorities that follow from the rules alone, not from the history of edits.
//!
//! Within one stage of one switch, rules stand in levels (priority, rule priority, action). Rules of one
//! level decide alike, so only those that could match the same packet need an order among themselves:
//! a rule's rank is one more than the highest rank of an earlier rule that it may overlap with. A level
//! takes as many priorities as it has ranks, with room to grow, so that an edit rarely moves others.

use crate::{TooLarge, service};
use bulkhead_policy::model::Action;
use bulkhead_topology::{Name, Operator, Requirement, Selector};
use std::{collections::BTreeMap, sync::Arc};

/// Lowest priority of a rule; below are the stage's own entries.
const FIRST: u32 = 16;
/// Highest priority of a rule; above are the stage's own entries.
const LAST: u32 = 65_000;
/// Fewest priorities that a level takes.
const ROOM: u32 = 8;
/// Steps that telling every two rules of a level apart may take: a few dozen milliseconds. It is some 2,000 rules as
/// they usually are; a fuller level is told apart less finely, in steps of its size.
const STEPS: usize = if cfg!(test) { 1 << 8 } else { 1 << 24 };

/// Rank of a rule that has none yet.
const UNSETTLED: u32 = u32::MAX;

/// Rules of one stage that decide alike and at the same place.
pub(crate) type Level = (u16, u16, Action);

/// A rule's place in its level.
type At = (Name, usize);

/// What an order needs to know of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ordered {
    pub level: Level,
    pub policy: Name,
    pub index: usize,
    pub subject: Selector,
    /// What its ports may match, see [`service::spans`].
    pub services: Arc<[service::Range]>,
}

impl Ordered {
    fn at(&self) -> At {
        (self.policy.clone(), self.index)
    }

    /// The steps that holding it against another rule may take.
    fn weight(&self) -> usize {
        let values = self.subject.requirements().iter().map(|requirement| requirement.values().len());
        1 + self.services.len() + values.sum::<usize>()
    }
}

#[derive(Debug, Clone)]
struct Placed {
    rule: u32,
    rank: u32,
    /// The priority that was last told of it.
    told: Option<u16>,
    ordered: Ordered,
}

/// The rules of one level.
#[derive(Debug, Clone, Default)]
struct Rules {
    rules: BTreeMap<At, Placed>,
    /// The sum of all weights.
    weight: usize,
    /// What came and went since ranks were given.
    unsettled: Vec<Ordered>,
    /// Whether ranks were given by [`Self::crowded`].
    crowded: bool,
    /// Whether priorities may differ from what was told.
    stale: bool,
    /// The lowest priority, and how many there are.
    base: u32,
    width: u32,
}

/// The rules of one stage of one switch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Order(BTreeMap<Level, Rules>);

impl Order {
    /// Adds a rule.
    pub fn insert(&mut self, rule: u32, ordered: Ordered) {
        let level = self.0.entry(ordered.level).or_default();
        level.weight += ordered.weight();
        let placed = Placed { rule, rank: UNSETTLED, told: None, ordered: ordered.clone() };
        if let Some(before) = level.rules.insert(ordered.at(), placed) {
            level.weight -= before.ordered.weight();
            level.unsettled.push(before.ordered);
        }
        level.unsettled.push(ordered);
    }

    /// Removes a rule.
    pub fn remove(&mut self, ordered: &Ordered) {
        let Some(level) = self.0.get_mut(&ordered.level) else { return };
        if let Some(placed) = level.rules.remove(&ordered.at()) {
            level.weight -= placed.ordered.weight();
            level.unsettled.push(placed.ordered);
        }
        if level.rules.is_empty() {
            self.0.remove(&ordered.level);
        }
    }

    /// Gives every level its priorities; the rules whose priority is another now.
    pub fn lay_out(&mut self) -> Result<Vec<(u32, u16)>, TooLarge> {
        let mut base = FIRST;
        for level in self.0.values_mut().rev() {
            level.settle();
            if level.base != base {
                (level.base, level.stale) = (base, true);
            }
            base += level.width;
            if base > LAST {
                return Err(TooLarge { what: "priorities of one stage".into(), size: base.into(), limit: LAST.into() });
            }
        }
        let mut told = Vec::new();
        for level in self.0.values_mut().filter(|level| level.stale) {
            level.stale = false;
            for placed in level.rules.values_mut() {
                let priority = (level.base + (level.width - 1).saturating_sub(placed.rank)) as u16;
                if placed.told != Some(priority) {
                    placed.told = Some(priority);
                    told.push((placed.rule, priority));
                }
            }
        }
        Ok(told)
    }
}

impl Rules {
    /// Makes the ranks right again after rules came or went.
    fn settle(&mut self) {
        let mut changed = std::mem::take(&mut self.unsettled);
        let crowded = self.rules.len().saturating_mul(self.weight) > STEPS;
        if changed.is_empty() {
            return;
        }
        if crowded {
            self.crowd();
        } else {
            if self.crowded {
                changed = self.rules.values().map(|placed| placed.ordered.clone()).collect();
                self.rules.values_mut().for_each(|placed| placed.rank = UNSETTLED);
            }
            self.tell_apart(changed);
        }
        let ranks = self.rules.values().map(|placed| placed.rank + 1).max().unwrap_or(0);
        self.width = ranks.next_power_of_two().max(ROOM);
        (self.crowded, self.stale) = (crowded, true);
    }

    /// Only rules behind the first that changed are looked at, and of those only the ones that overlap with what
    /// changed are given a rank anew.
    fn tell_apart(&mut self, mut changed: Vec<Ordered>) {
        let Some(first) = changed.iter().map(Ordered::at).min() else { return };
        let mut rules: Vec<&mut Placed> = self.rules.values_mut().collect();
        for i in rules.partition_point(|placed| placed.ordered.at() < first)..rules.len() {
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

    /// Ranks for more rules than can be held against each other. Two are apart if their subjects have different values
    /// of one label, the one that most subjects have a value of; of one value, or of none, if their services are.
    fn crowd(&mut self) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (key, _) in self.rules.values().flat_map(|placed| single(&placed.ordered.subject)) {
            *counts.entry(key).or_default() += 1;
        }
        let label = counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(key, _)| key.to_owned());
        let mut by_value: BTreeMap<Arc<str>, Ranks> = BTreeMap::new();
        // Of those whose subjects may have any value; and the next rank behind all that have one.
        let (mut loose, mut behind) = (Ranks::default(), 0);
        for placed in self.rules.values_mut() {
            let services = &placed.ordered.services;
            let mut values = single(&placed.ordered.subject).filter(|(key, _)| Some(*key) == label.as_deref());
            placed.rank = match values.next() {
                Some((_, value)) => {
                    let own = by_value.entry(value.clone()).or_default();
                    let rank = own.next(services).max(loose.next_or_so(services));
                    own.put(services, rank);
                    behind = behind.max(rank + 1);
                    rank
                }
                None => {
                    let rank = loose.next(services).max(behind);
                    loose.put(services, rank);
                    rank
                }
            };
        }
    }
}

/// The next rank behind the rules so far, by service.
#[derive(Debug, Default)]
struct Ranks {
    /// From each service up to the next one here.
    from: BTreeMap<u32, u32>,
    /// The highest.
    highest: u32,
}

impl Ranks {
    /// Steps that whoever does not [`put`](Self::put) anything there looks at.
    const FEW: usize = 64;

    /// Behind all rules that have one of these services. It looks at every step there, of which `put` leaves one.
    fn next(&self, services: &[service::Range]) -> u32 {
        let at = |(first, last): &service::Range| {
            let before = self.from.range(..=first).next_back();
            before.into_iter().chain(self.from.range(first..=last)).map(|(_, next)| *next).max().unwrap_or(0)
        };
        services.iter().map(at).max().unwrap_or(0)
    }

    /// As [`Self::next`], or more.
    fn next_or_so(&self, services: &[service::Range]) -> u32 {
        if self.from.len() > Self::FEW { self.highest } else { self.next(services) }
    }

    /// Notes a rule with these services at this rank, which is none below theirs.
    fn put(&mut self, services: &[service::Range], rank: u32) {
        for (first, last) in services {
            let behind = self.from.range(..=last).next_back().map_or(0, |(_, next)| *next);
            while let Some((from, _)) = self.from.range(first..=last).next() {
                let from = *from;
                self.from.remove(&from);
            }
            self.from.entry(last + 1).or_insert(behind);
            self.from.insert(*first, rank + 1);
        }
        self.highest = self.highest.max(rank + 1);
    }
}

/// The labels that a selector wants one value of, with the value.
fn single(selector: &Selector) -> impl Iterator<Item = (&str, &Arc<str>)> {
    let exact = selector.requirements().iter().filter(|r| r.operator == Operator::In);
    exact.filter_map(|r| match r.values() {
        [value] => Some((r.key.as_ref(), value)),
        _ => None,
    })
}

/// Whether two rules might match the same packet, as far as their text shows.
fn overlap(a: &Ordered, b: &Ordered) -> bool {
    !disjoint(&a.subject, &b.subject) && service::meet(&a.services, &b.services)
}

/// Whether no workload can have both selectors, provably: one label, two values.
fn disjoint(a: &Selector, b: &Selector) -> bool {
    a.requirements().iter().filter(|r| r.operator == Operator::In).any(|x| {
        let apart = |y: &Requirement| y.values().iter().all(|value| x.values().binary_search(value).is_err());
        b.requirements().iter().any(|y| y.operator == Operator::In && y.key == x.key && apart(y))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A rule of the one level, whose subjects have these values of two labels.
    fn ordered(n: usize, (app, env, port): (u8, u8, u8), ports: u32) -> Ordered {
        let label = |key: &'static str, value: u8| (value > 0).then(|| (key, value.to_string()));
        let labels: Vec<_> = [label("app", app), label("env", env)].into_iter().flatten().collect();
        let range = |n: u32| (n * 5 + u32::from(port), n * 5 + 2 * u32::from(port));
        Ordered {
            level: (0, 0, Action::Allow),
            policy: format!("p{n:02}").parse().unwrap(),
            index: 0,
            subject: Selector::of(labels.iter().map(|(key, value)| (*key, value.as_str()))),
            services: (0..ports).map(range).collect(),
        }
    }

    fn ranks(order: &Order) -> Vec<(&Ordered, u32)> {
        order.0.values().flat_map(|level| level.rules.values()).map(|placed| (&placed.ordered, placed.rank)).collect()
    }

    proptest! {
        #[test]
        fn priorities_are_those_of_the_rules_alone(
            steps in prop::collection::vec((0usize..15, (0u8..4, 0u8..3, 0u8..3), prop::option::weighted(0.6, 0u32..4)), 1..60),
        ) {
            let (mut order, mut there) = (Order::default(), BTreeMap::new());
            let mut priorities = BTreeMap::new();
            for (n, labels, what) in steps {
                if let Some(old) = there.remove(&n) {
                    order.remove(&old);
                    priorities.remove(&(n as u32));
                }
                if let Some(ports) = what {
                    let rule = ordered(n, labels, ports);
                    order.insert(n as u32, rule.clone());
                    there.insert(n, rule);
                }
                priorities.extend(order.lay_out().unwrap());
                let mut anew = Order::default();
                there.iter().for_each(|(n, rule)| anew.insert(*n as u32, rule.clone()));
                let told: BTreeMap<u32, u16> = anew.lay_out().unwrap().into_iter().collect();
                prop_assert_eq!(&priorities, &told);
                let ranks = ranks(&order);
                for (i, (rule, rank)) in ranks.iter().enumerate() {
                    prop_assert!(ranks[..i].iter().all(|(earlier, before)| before < rank || !overlap(earlier, rule)));
                }
            }
        }
    }
}
