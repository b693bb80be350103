//! Durable numbers: what a name is called on switches and on the wire.
//!
//! A number, once given, is never given to anything else: a switch that is away may still hold entries or
//! connections that mean the old owner. When a kind's last number is given, the next name is refused. A change that is
//! refused or only tried gives none: what it took is taken back before anybody hears of it.
//!
//! Edges are few, and theirs come again: an edge that is none any more loses its number at a moment when no switch can
//! hold it ([`Compiler::forget_edges`](crate::Compiler::forget_edges)).
//!
//! Names that nobody has any more are forgotten, so that what is kept follows what there is, and not what there ever
//! was (A23). Such a name gets another number when it comes back.

use crate::TooLarge;
use bulkhead_pipeline::carry::MAX_EDGE;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

/// What numbers are given to. Each kind counts for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbered {
    Network,
    Identity,
    Rule,
    Policy,
    Zone,
    Prefix,
    /// Edges of the physical fabric.
    Edge,
    /// Orders of the fabric's switches, one after another.
    Order,
}

/// Kinds whose names are forgotten. Networks are not among them: they have few numbers, and few names.
pub(crate) const FORGOTTEN: [Numbered; 6] =
    [Numbered::Identity, Numbered::Rule, Numbered::Policy, Numbered::Zone, Numbered::Prefix, Numbered::Order];

/// How many numbers are left out when some may have been given that are not known: more than one change can give.
const GAPS: [(Numbered, u32); 5] = [
    (Numbered::Identity, 1 << 20),
    (Numbered::Rule, 1 << 18),
    (Numbered::Policy, 1 << 20),
    (Numbered::Zone, 1 << 20),
    (Numbered::Prefix, 1 << 20),
];

impl Numbered {
    const ALL: [Self; 8] =
        [Self::Network, Self::Identity, Self::Rule, Self::Policy, Self::Zone, Self::Prefix, Self::Edge, Self::Order];

    fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Identity => "identity",
            Self::Rule => "rule",
            Self::Policy => "policy",
            Self::Zone => "zone",
            Self::Prefix => "prefix",
            Self::Edge => "edge",
            Self::Order => "order",
        }
    }

    /// First and last number. Networks are conntrack zones (16 bits; 0 is the switch's own default);
    /// identities below 16 are reserved; rules leave 8 bits for the variants of a conjunction.
    fn range(self) -> (u32, u32) {
        match self {
            Self::Network => (1, 0xffff),
            Self::Identity => (16, u32::MAX - 1),
            Self::Rule => (1, 0xff_fffe),
            Self::Edge => (1, MAX_EDGE),
            Self::Policy | Self::Zone | Self::Prefix | Self::Order => (1, u32::MAX - 1),
        }
    }
}

/// Every number given so far and not forgotten, by `kind/key`; `next/kind` is the next one of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    given: BTreeMap<Arc<str>, u32>,
    fresh: Vec<Arc<str>>,
    /// A change is taken back: that is never refused, see [`Self::taking_back`].
    lenient: bool,
    /// Names that have a number only as long as a change is taken back.
    spare: Vec<Arc<str>>,
}

impl FromIterator<(Arc<str>, u32)> for Numbers {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, u32)>>(given: I) -> Self {
        Self { given: given.into_iter().collect(), ..Self::default() }
    }
}

impl Numbers {
    /// The number of `key`, a new one if it has none yet.
    pub(crate) fn of(&mut self, kind: Numbered, key: &str) -> Result<u32, TooLarge> {
        let full: Arc<str> = format!("{}/{key}", kind.name()).into();
        if let Some(number) = self.given.get(&full) {
            return Ok(*number);
        }
        let (first, last) = kind.range();
        let counter: Arc<str> = format!("next/{}", kind.name()).into();
        let mut number = self.given.get(&counter).copied().unwrap_or(first);
        if kind == Numbered::Edge {
            let taken: BTreeSet<u32> = self.of_kind(kind).collect();
            number = (number..=last).chain(first..=last).find(|number| !taken.contains(number)).unwrap_or(last + 1);
        }
        if number > last && self.lenient && kind == Numbered::Identity {
            // As high as there is one that nobody has: what stands has fewer names than there are numbers.
            let taken: BTreeSet<u32> = self.of_kind(kind).collect();
            let number = (first..=last).rev().find(|number| !taken.contains(number)).unwrap_or(last);
            self.given.insert(full.clone(), number);
            self.spare.push(full);
            return Ok(number);
        }
        if number > last {
            return Err(TooLarge {
                what: format!("numbers of kind {}", kind.name()),
                size: u64::from(number),
                limit: u64::from(last),
            });
        }
        self.given.insert(counter.clone(), number + 1);
        self.given.insert(full.clone(), number);
        self.fresh.extend([counter, full]);
        Ok(number)
    }

    /// The numbers of a kind that names have.
    pub(crate) fn of_kind(&self, kind: Numbered) -> impl Iterator<Item = u32> {
        let prefix = format!("{}/", kind.name());
        let from = self.given.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        from.take_while(move |(name, _)| name.starts_with(&prefix)).map(|(_, number)| *number)
    }

    /// The last number of a kind that was given, 0 if none was.
    pub(crate) fn last(&self, kind: Numbered) -> u32 {
        let counter = format!("next/{}", kind.name());
        self.given.get(counter.as_str()).map_or(0, |next| next.saturating_sub(1))
    }

    /// From now on a change is taken back, until [`Self::take_back`]. On the way there may be identities that stood neither
    /// before the change nor after it (by old labels in a new zone): they get numbers, even if there are no more.
    pub(crate) fn taking_back(&mut self) {
        self.lenient = true;
    }

    /// What was given since the last call, for storing.
    pub(crate) fn take_fresh(&mut self) -> Vec<(Arc<str>, Option<u32>)> {
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.sort();
        fresh.dedup();
        fresh.into_iter().map(|key| (key.clone(), self.given.get(&key).copied())).collect()
    }

    /// Takes back what was given by a change that is not to be, and everything given since: names lose their numbers,
    /// and the next name of their kind gets the first of these. Nothing may have been stored or sent with them.
    pub(crate) fn take_back(&mut self, given: &[(Arc<str>, Option<u32>)]) {
        self.lenient = false;
        for name in std::mem::take(&mut self.spare) {
            self.given.remove(&name);
        }
        let later = std::mem::take(&mut self.fresh);
        // What is given between two looks at the counter is consecutive: the lowest number is where it stood.
        let mut lowest = [u32::MAX; Numbered::ALL.len()];
        for name in later.iter().chain(given.iter().map(|(name, _)| name)) {
            let kind = name.split('/').next().unwrap_or_default();
            let places = Numbered::ALL.iter().zip(&mut lowest);
            // Counters are of no kind.
            let Some((_, lowest)) = places.into_iter().find(|(known, _)| known.name() == kind) else { continue };
            if let Some(number) = self.given.remove(name) {
                *lowest = number.min(*lowest);
            }
        }
        for (kind, lowest) in Numbered::ALL.into_iter().zip(lowest).filter(|(_, lowest)| *lowest != u32::MAX) {
            let counter = format!("next/{}", kind.name());
            if lowest == kind.range().0 {
                self.given.remove(counter.as_str());
            } else {
                self.given.insert(counter.into(), lowest);
            }
        }
    }

    /// Goes on numbering far above what was given: what is known may not be all that was given. Kinds with few numbers
    /// go on where they are; their numbers mean something on one switch at a time, which is read back.
    pub fn skip(&mut self) {
        for (kind, gap) in GAPS {
            let next = self.given.get(format!("next/{}", kind.name()).as_str()).copied().unwrap_or(kind.range().0);
            // Near the end there is no room to be careful.
            if let Some(next) = next.checked_add(gap).filter(|next| *next < kind.range().1 / 2) {
                let counter: Arc<str> = format!("next/{}", kind.name()).into();
                self.given.insert(counter.clone(), next);
                self.fresh.push(counter);
            }
        }
    }

    /// Forgets names of some kinds that `in_use` does not know; what was forgotten, for storing.
    pub(crate) fn forget(
        &mut self,
        kinds: &[Numbered],
        in_use: impl Fn(Numbered, u32) -> bool,
    ) -> Vec<(Arc<str>, Option<u32>)> {
        let unused = |name: &str, number| {
            let kind = name.split('/').next().unwrap_or_default();
            kinds.iter().find(|k| k.name() == kind).is_some_and(|kind| !in_use(*kind, number))
        };
        let mut forgotten = Vec::new();
        self.given.retain(|name, number| {
            let goes = unused(name, *number);
            if goes {
                forgotten.push((name.clone(), None));
            }
            !goes
        });
        forgotten
    }

    /// How many names have a number.
    pub fn len(&self) -> usize {
        self.given.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Every number given so far.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, u32)> {
        self.given.iter().map(|(key, number)| (key, *number))
    }
}
