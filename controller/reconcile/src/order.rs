//! In which steps a plan goes to a switch (docs/adr/0008-large-changes-in-safe-chunks.md).
//!
//! A step is atomic, so inside one there is no order. A plan of ordinary size is one step. A large one is cut, because
//! an atomic update stops a software switch from forwarding while it is carried out; after every step, a packet that
//! gets through is one that the program before or the program afterwards lets through:
//!
//! ```text
//!   narrow: denies come, allows go      every state lets through a part of what the old program does
//!   core:   all that is neither         one step, whatever its size
//!   widen:  allows come, denies go      every state lets through a part of what the new program does
//! ```

use bulkhead_pipeline::{Action, Delta, Effect, Entry, EntryKey, Field, Match, OPENING, Program, Stage};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How plans are cut.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most changes that are sent as one step: one policy's change is far below it. Open vSwitch 3.1 stops forwarding
    /// for some 25 ms while it carries out this many.
    pub whole: usize,
    /// Most changes in a step of a plan that is cut: some 12 ms.
    pub chunk: usize,
}

/// The bounds that machines use.
pub const BOUNDS: Bounds = Bounds { whole: 10_000, chunk: 5_000 };

/// When a change is made; smaller comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    /// Narrows: an allow that only moves down comes while it still stands above.
    Below,
    /// Narrows: denies come, ports close.
    Deny,
    /// Narrows: allows go.
    Revoke,
    /// Neither narrows nor widens: all of it at once.
    Core,
    /// Widens: allows come, denies go.
    Grant,
    /// An allow that moved up goes from where it was.
    Above,
    /// Widens: ports open.
    Open,
}

/// The steps, each to be sent after the one before was confirmed, that carry out `delta`, the [plan](crate::plan) of what
/// makes `actual` the part of `desired` that the switch can carry.
pub fn steps(actual: &Program, desired: &Program, delta: Delta, bounds: Bounds) -> VecDeque<Delta> {
    if delta.remove.len() + delta.add.len() <= bounds.whole {
        return VecDeque::from([delta]);
    }
    if is_closed(actual, &delta) { closed(delta, bounds) } else { open(actual, desired, delta, bounds) }
}

/// Whether no port leads into the pipeline once the plan's removals of [`OPENING`] are done.
fn is_closed(actual: &Program, delta: &Delta) -> bool {
    let stays = |entry: &Entry| entry.effect() != Effect::Deny && delta.remove.binary_search(&entry.key).is_err();
    !actual.stage(OPENING).any(stays)
}

/// While no port is open: what lets packets in goes first and comes last, and in between any order does. The
/// pipeline is taken down from its front and filled from its back.
fn closed(delta: Delta, bounds: Bounds) -> VecDeque<Delta> {
    let last = Stage::ALL.len();
    let removals = delta.remove.into_iter().map(|key| {
        let place = if key.stage == OPENING { 0 } else { 1 + key.stage as usize };
        (place, Change::Remove(key))
    });
    let additions = delta.add.into_iter().map(|entry| {
        let place = if entry.key.stage == OPENING { 2 * last + 1 } else { 2 * last - entry.key.stage as usize };
        (place, Change::Add(entry))
    });
    let mut changes: Vec<_> = removals.chain(additions).collect();
    changes.sort_by_key(|(place, _)| *place);
    cut(changes.into_iter().map(|(_, change)| change), bounds.chunk).into()
}

/// While ports are open: narrow, then the core, then widen.
fn open(actual: &Program, desired: &Program, delta: Delta, bounds: Bounds) -> VecDeque<Delta> {
    let judge = Judge::new(actual, desired, &delta);
    let mut phases: BTreeMap<When, Vec<Change>> = BTreeMap::new();
    for key in delta.remove {
        let when = actual.get(&key).map_or(When::Core, |old| judge.removal(old));
        phases.entry(when).or_default().push(Change::Remove(key));
    }
    for entry in delta.add {
        let when = match actual.get(&entry.key) {
            Some(old) => judge.rewrite(old, &entry),
            None => judge.addition(&entry),
        };
        phases.entry(when).or_default().push(Change::Add(entry));
    }
    let core = phases.remove(&When::Core).unwrap_or_default();
    let mut widen = phases.split_off(&When::Core);
    let widen = widen.values_mut().flat_map(std::mem::take);
    let mut steps = cut(phases.into_values().flatten(), bounds.chunk);
    let atomic = core.len();
    steps.extend(cut(core.into_iter(), atomic));
    steps.extend(cut(widen, bounds.chunk));
    steps.into()
}

/// One entry's change.
enum Change {
    Remove(EntryKey),
    Add(Entry),
}

fn cut(changes: impl Iterator<Item = Change>, most: usize) -> Vec<Delta> {
    let mut steps: Vec<Delta> = Vec::new();
    for change in changes {
        let full = |step: &Delta| step.remove.len() + step.add.len() >= most;
        if steps.last().is_none_or(full) {
            steps.push(Delta::default());
        }
        if let Some(step) = steps.last_mut() {
            match change {
                Change::Remove(key) => step.remove.push(key),
                Change::Add(entry) => step.add.push(entry),
            }
        }
    }
    steps
}

/// What moves: an allow that goes from one priority and comes at another is the same allow.
type Moved = BTreeMap<(Stage, Match), Vec<(u16, Box<[Action]>)>>;

/// Decides when a change is made.
struct Judge {
    /// What becomes of packets that meet a conjunction: by stage and number; [`Effect::Other`] if that changes, or of how
    /// many clauses it is.
    conjunctions: BTreeMap<(Stage, u32), Effect>,
    /// Allows that come.
    coming: Moved,
    /// Allows that go.
    going: Moved,
}

impl Judge {
    fn new(actual: &Program, desired: &Program, delta: &Delta) -> Self {
        let mut judge = Self { conjunctions: BTreeMap::new(), coming: Moved::new(), going: Moved::new() };
        let mut sizes: BTreeMap<(Stage, u32), u8> = BTreeMap::new();
        let mut resized: BTreeSet<(Stage, u32)> = BTreeSet::new();
        for entry in actual.iter().chain(desired.iter()) {
            if let Some(number) = entry.key.matches.exact(Field::Conjunction) {
                let found =
                    judge.conjunctions.entry((entry.key.stage, number as u32)).or_insert_with(|| entry.effect());
                if *found != entry.effect() {
                    *found = Effect::Other;
                }
            }
            for action in clauses(entry).unwrap_or_default() {
                let Action::Clause { conjunction, n, .. } = action else { continue };
                let place = (entry.key.stage, *conjunction);
                if sizes.insert(place, *n).is_some_and(|before| before != *n) {
                    resized.insert(place);
                }
            }
        }
        // Clauses of two sizes at once make neither the conjunction before nor the one afterwards. Of one size, they
        // only ever add up to either of them, or to both, whatever they match.
        judge.conjunctions.extend(resized.into_iter().map(|place| (place, Effect::Other)));
        let new = delta.add.iter().filter(|entry| actual.get(&entry.key).is_none());
        judge.coming = judge.allows_among(new);
        judge.going = judge.allows_among(delta.remove.iter().filter_map(|key| actual.get(key)));
        judge
    }

    fn allows_among<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> Moved {
        let mut moved = Moved::new();
        for entry in entries.filter(|entry| self.allows(entry)) {
            let EntryKey { stage, priority, matches } = entry.key.clone();
            moved.entry((stage, matches)).or_default().push((priority, entry.actions.clone()));
        }
        moved
    }

    /// Whether it is an allow, or clauses of conjunctions that are.
    fn allows(&self, entry: &Entry) -> bool {
        match clauses(entry) {
            Some(clauses) => clauses.iter().all(|clause| self.clause(entry, clause) == Effect::Allow),
            None => entry.effect() == Effect::Allow,
        }
    }

    fn clause(&self, entry: &Entry, clause: &Action) -> Effect {
        let Action::Clause { conjunction, .. } = clause else { return Effect::Other };
        // Without an entry that decides, a conjunction never matches.
        self.conjunctions.get(&(entry.key.stage, *conjunction)).copied().unwrap_or(Effect::Other)
    }

    fn removal(&self, old: &Entry) -> When {
        if old.key.stage == OPENING && old.key.matches.in_port.is_some() {
            return When::Deny;
        }
        if self.allows(old) && has(&self.coming, old, |other, own| other > own) {
            return When::Above;
        }
        match clauses(old) {
            Some(clauses) => self.clauses(old, &[], clauses),
            None => between(Some(old.effect()), None),
        }
    }

    fn addition(&self, new: &Entry) -> When {
        if new.key.stage == OPENING && new.key.matches.in_port.is_some() {
            return When::Open;
        }
        if self.allows(new) && has(&self.going, new, |other, own| other > own) {
            return When::Below;
        }
        match clauses(new) {
            Some(clauses) => self.clauses(new, clauses, &[]),
            None => between(None, Some(new.effect())),
        }
    }

    fn rewrite(&self, old: &Entry, new: &Entry) -> When {
        match (clauses(old), clauses(new)) {
            (None, None) => between(Some(old.effect()), Some(new.effect())),
            (Some(old), Some(now)) => self.clauses(new, now, old),
            _ => When::Core,
        }
    }

    /// A conjunction grows with every clause, and shrinks with every one that goes.
    fn clauses(&self, at: &Entry, now: &[Action], before: &[Action]) -> When {
        let come = now.iter().filter(|clause| !before.contains(clause)).map(|clause| (true, self.clause(at, clause)));
        let go = before.iter().filter(|clause| !now.contains(clause)).map(|clause| (false, self.clause(at, clause)));
        let changes: Vec<_> = come.chain(go).collect();
        if changes.iter().all(|change| matches!(change, (true, Effect::Deny) | (false, Effect::Allow))) {
            When::Revoke
        } else if changes.iter().all(|change| matches!(change, (true, Effect::Allow) | (false, Effect::Deny))) {
            When::Grant
        } else {
            When::Core
        }
    }
}

/// The entry's clauses, if it is one of conjunctions.
fn clauses(entry: &Entry) -> Option<&[Action]> {
    entry.actions.iter().any(|action| matches!(action, Action::Clause { .. })).then_some(&entry.actions)
}

/// Whether the same allow is among these at a priority of which `how` says yes.
fn has(moved: &Moved, entry: &Entry, how: impl Fn(u16, u16) -> bool) -> bool {
    let place = (entry.key.stage, entry.key.matches.clone());
    let others = moved.get(&place).map(Vec::as_slice).unwrap_or_default();
    others.iter().any(|(priority, actions)| *actions == entry.actions && how(*priority, entry.key.priority))
}

/// When an entry of this kind becomes one of that.
const fn between(old: Option<Effect>, new: Option<Effect>) -> When {
    match (old, new) {
        (_, Some(Effect::Deny)) => When::Deny,
        (Some(Effect::Allow), None) => When::Revoke,
        (None | Some(Effect::Deny | Effect::Allow), Some(Effect::Allow)) | (Some(Effect::Deny), _) => When::Grant,
        (None | Some(Effect::Allow), Some(Effect::Other)) | (Some(Effect::Other), _) | (None, None) => When::Core,
    }
}
