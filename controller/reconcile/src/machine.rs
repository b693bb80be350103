//! One switch's life, from connecting to being in step with the desired program.
//!
//! ```text
//!            Connected            Actual, differs           Applied, more to do
//!   Down ---------------> Reading ----------------> Stepping ------+
//!    ^                      ^  |                     |  ^  |  ^     |
//!    | Disconnected         |  | Actual, the same    |  |  |  +-----+
//!    +---- from anywhere    |  v                     |  |  v
//!                           +- Idle <----------------+  +- Refused -> Reading (after a pause)
//!                    audit     ^ Applied, all done      |
//!                              +--- desired changes ----+
//! ```
//!
//! One step is under way at a time; what is desired meanwhile is gathered and goes as one step after it. A change that
//! is too large for one step is planned like a reconnect, in several; what is desired meanwhile is planned in after the
//! step under way, what narrows access first, so that a revocation never waits for a bulk of grants.

use crate::{
    expected::Expected,
    order::{BOUNDS, steps},
    plan::{Ports, doubled, held_back, plan},
};
use bulkhead_pipeline::{Delta, Entry, EntryKey, Program, Stage};
use bulkhead_topology::Port;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Ports that are named of those that entries wait for: enough to see what is wrong.
const MISSING_NAMED: usize = 4;
/// Waiting entries that are looked at for them: those of the first stages come first, which name in-ports.
const MISSING_LOOKED_AT: usize = 64;
/// How long a switch may take to answer a read-back or a step before we look again. Far above what
/// 100,000 entries take (about 2 s on Open vSwitch 3.1), so that it only fires when an answer is lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// First pause after a refused step; doubled by every further one.
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// Longest pause between attempts: a switch that was mended is back in step within this time.
const RETRY_LAST: Duration = Duration::from_secs(30);
/// How often an idle switch is read back to find entries that someone else changed. Reading 100,000
/// entries costs the switch about a second of one core.
const AUDIT_INTERVAL: Duration = Duration::from_secs(300);
/// How soon after it was found to differ the switch is read back, to see that the repair holds.
const VERIFY_AFTER: Duration = Duration::from_secs(5);

/// What a machine is told.
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// The switch is there, or begins anew because its ports have other numbers; nothing of what was sent before is still
    /// under way.
    Connected {
        /// Its ports.
        ports: &'a Ports,
        /// Most entries that it takes.
        max_entries: usize,
    },
    /// It is gone; why, for people.
    Disconnected(&'a str),
    /// Its ports changed.
    Ports(&'a BTreeSet<Port>),
    /// These are the names of its ports by number, as far as both are known. Told before the first read-back.
    Names(BTreeMap<u32, Arc<str>>),
    /// What it has, read back.
    Actual {
        /// Its entries.
        program: &'a Program,
        /// Entries of ours that could not be read; the driver removes them with the next step.
        alien: usize,
    },
    /// It confirmed a step.
    Applied {
        /// The step.
        step: u64,
    },
    /// It refused a step as a whole.
    Refused {
        /// The step.
        step: u64,
        /// Its reason.
        reason: &'a str,
    },
    /// Another revision is desired.
    Desired {
        /// The revision.
        revision: u64,
        /// What it changes on this switch.
        delta: &'a Delta,
    },
    /// Time has passed.
    Tick,
}

/// What a machine asks of its switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Read back our entries.
    Read,
    /// Change the program in one atomic step.
    Apply {
        /// Number of the step; every one is larger than those before.
        step: u64,
        /// What changes.
        delta: Delta,
        /// What is planned to come after it, if this is the first of several steps: it is refused at once if one of
        /// those could never be carried out.
        ahead: Arc<VecDeque<Delta>>,
    },
}

/// How far a switch has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Whether it is connected.
    pub connected: bool,
    /// The revision it should have.
    pub desired: u64,
    /// The newest revision that was sent to it.
    pub sent: u64,
    /// The newest revision that is known to be in force there as a whole, confirmed or read back. 0: none; it has not been
    /// read back since it connected, is between two revisions, or somebody else changed it. Of a switch that is away,
    /// what was known last.
    pub acknowledged: u64,
    /// Whether it is connected, and a revision was in force there as a whole since then. It stays so between two
    /// revisions, and when somebody else changes it.
    pub settled: bool,
    /// Our entries on it, as of the last confirmation or read-back.
    pub entries: usize,
    /// Changes of entries that it has not confirmed yet.
    pub unconfirmed: usize,
    /// Entries that wait for a port that it does not have.
    pub waiting: usize,
    /// Some of those ports: none if nothing waits.
    pub missing: Vec<Port>,
    /// Ports that somebody is to be let in at by number and somebody by name, which the switch says are one: number and
    /// name. Whoever has it by name has it; what names the number waits.
    pub doubled: Vec<(Port, Port)>,
    /// Entries that differed from the desired ones at the last read-back.
    pub differing: usize,
    /// Of them, those that somebody else changed: not what was on its way to the switch, not what it has when it is first
    /// connected to or lacks after it restarted, and not what names ports that have changed meanwhile.
    pub drift: usize,
    /// The revision that it refused, if it refused the newest attempt. [`Self::acknowledged`] stays in force.
    pub refused: Option<u64>,
    /// What went wrong last; empty if the last thing that happened was good.
    pub last_error: String,
    /// Entries added, rewritten and removed by confirmed steps, ever.
    pub changes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Down,
    Reading {
        deadline: Duration,
        /// The first read-back of a connection.
        first: bool,
    },
    Stepping {
        step: u64,
        size: usize,
        deadline: Duration,
        revision: u64,
        rest: Arc<VecDeque<Delta>>,
        /// Of a plan in several steps: what the switch has once the step under way is done.
        model: Option<Box<Program>>,
        /// A port that the program names went away meanwhile: look again when the step is done.
        reread: bool,
    },
    Idle,
    Refused {
        retry: Duration,
    },
}

/// One switch's state machine. Times are durations since any one moment.
#[derive(Debug, Clone)]
pub struct Machine {
    phase: Phase,
    /// The ports that entries may name: those that the switch has, but no number of one that is somebody else's by name.
    ports: Ports,
    /// The ports that the switch has.
    reported: BTreeSet<Port>,
    /// Their names by number.
    names: BTreeMap<u32, Arc<str>>,
    /// Their numbers by name.
    numbers: BTreeMap<Arc<str>, u32>,
    max_entries: usize,
    step: u64,
    attempts: u32,
    expected: Expected,
    /// When the switch is to be read back again. Read-backs alone move it: a switch that is changed all the time is
    /// looked at as often as one that is not.
    audit: Duration,
    /// Desired, not sent: by key, the entry to have or none.
    queue: BTreeMap<EntryKey, Option<Entry>>,
    /// Desired, but the switch lacks a port that they name.
    waiting: BTreeMap<EntryKey, Entry>,
    progress: Progress,
}

impl Machine {
    /// A switch that is not connected, with the revision that it should have once it is.
    pub fn new(revision: u64) -> Self {
        Self {
            phase: Phase::Down,
            ports: Ports::default(),
            reported: BTreeSet::new(),
            names: BTreeMap::new(),
            numbers: BTreeMap::new(),
            max_entries: 0,
            step: 0,
            attempts: 0,
            expected: Expected::nothing(),
            audit: Duration::ZERO,
            queue: BTreeMap::new(),
            waiting: BTreeMap::new(),
            progress: Progress { desired: revision, ..Progress::default() },
        }
    }

    /// How far the switch has come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// When [`Input::Tick`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Down => None,
            Phase::Reading { deadline, .. } | Phase::Stepping { deadline, .. } => Some(*deadline),
            Phase::Idle => Some(self.audit),
            Phase::Refused { retry } => Some(*retry),
        }
    }

    /// Takes in what happened; `desired` is the switch's whole program as desired now (after the change,
    /// of [`Input::Desired`]).
    pub fn handle(&mut self, input: Input<'_>, desired: &Program, now: Duration) -> Option<Output> {
        let output = match input {
            Input::Connected { ports, max_entries } => {
                let before = std::mem::replace(&mut self.ports, ports.clone());
                self.reported = match ports {
                    Ports::Known(ports) => ports.clone(),
                    Ports::Any => BTreeSet::new(),
                };
                self.close_doubled(desired);
                match self.phase {
                    Phase::Down if self.ports == before => {}
                    Phase::Down => self.expected.ports_changed(),
                    _ => self.expected = Expected::nothing(),
                }
                self.max_entries = max_entries;
                self.attempts = 0;
                self.progress.connected = true;
                self.progress.settled = false;
                // A switch may have restarted, empty.
                self.progress.acknowledged = 0;
                self.progress.refused = None;
                self.progress.last_error.clear();
                self.queue.clear();
                self.phase = Phase::Reading { deadline: now + ANSWER_TIMEOUT, first: true };
                Some(Output::Read)
            }
            Input::Disconnected(reason) => {
                self.phase = Phase::Down;
                self.queue.clear();
                self.waiting.clear();
                self.progress.connected = false;
                self.progress.settled = false;
                self.progress.doubled.clear();
                self.progress.refused = None;
                self.progress.last_error = reason.to_owned();
                None
            }
            Input::Ports(ports) => {
                self.reported.clone_from(ports);
                self.ports_changed(desired, now)
            }
            Input::Names(names) => {
                self.numbers = names.iter().map(|(number, name)| (name.clone(), *number)).collect();
                self.names = names;
                self.doubled_changed(desired).then(|| self.ports_changed(desired, now)).flatten()
            }
            Input::Actual { program, alien } => self.read_back(program, alien, desired, now),
            Input::Applied { step } => self.applied(step, desired, now),
            Input::Refused { step, reason } => {
                if let Phase::Stepping { step: at, revision, .. } = self.phase
                    && at == step
                {
                    self.refuse(revision, reason.to_owned(), now);
                }
                None
            }
            Input::Desired { revision, delta } => {
                self.progress.desired = revision;
                self.expected.desired(delta, self.phase == Phase::Down);
                match &mut self.phase {
                    // Not connected, or about to be compared as a whole.
                    Phase::Down | Phase::Reading { .. } => {}
                    // The new revision may be what mends it; but a flood of them must not become one of attempts.
                    Phase::Refused { retry } => *retry = (*retry).min(now + RETRY_FIRST),
                    Phase::Stepping { .. } | Phase::Idle => self.absorb(delta),
                }
                // Before anything of it is sent: two may be let in at one port now.
                let keys = delta.remove.iter().chain(delta.add.iter().map(|entry| &entry.key));
                let mut doors = keys.filter(|key| key.stage == Stage::Classify);
                let turns = |key: &EntryKey| key.matches.in_port.as_ref().is_some_and(|at| self.turns(at, desired));
                let doubled = self.phase != Phase::Down && doors.any(turns);
                let output = doubled.then(|| self.ports_changed(desired, now)).flatten();
                self.bound_queue();
                match self.phase {
                    Phase::Idle => self.send_queue(desired, now),
                    _ => output,
                }
            }
            Input::Tick => self.tick(now),
        };
        self.progress.waiting = self.waiting.len();
        let named = self.waiting.values().take(MISSING_LOOKED_AT).flat_map(Entry::ports);
        let there = |port: &Port| self.ports.has(port) || self.reported.contains(port);
        let missing: BTreeSet<_> = named.filter(|port| !there(port)).collect();
        self.progress.missing = missing.into_iter().take(MISSING_NAMED).cloned().collect();
        self.progress.unconfirmed = self.queue.len()
            + match &self.phase {
                Phase::Stepping { size, rest, .. } => size + rest.iter().map(size_of).sum::<usize>(),
                _ => 0,
            };
        output
    }

    fn tick(&mut self, now: Duration) -> Option<Output> {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return None;
        }
        if let Phase::Reading { .. } | Phase::Stepping { .. } = self.phase {
            self.progress.last_error = format!("no answer within {} s; looking again", ANSWER_TIMEOUT.as_secs());
        }
        Some(self.read(now))
    }

    fn read(&mut self, now: Duration) -> Output {
        // What is gathered is covered by the comparison that follows.
        self.queue.clear();
        self.phase = Phase::Reading { deadline: now + ANSWER_TIMEOUT, first: false };
        Output::Read
    }

    /// Leaves no number open of a port that somebody has by name.
    fn close_doubled(&mut self, desired: &Program) {
        let doubled = doubled(desired, &self.names);
        if let Ports::Known(open) = &mut self.ports {
            open.clone_from(&self.reported);
            open.retain(|port| !doubled.contains_key(port));
        }
        self.progress.doubled = doubled.into_iter().collect();
    }

    /// Whether a port is let in at by number and by name now, and was not, or no longer is.
    fn turns(&self, port: &Port, desired: &Program) -> bool {
        let number = match port {
            Port::Number(number) => Some(*number),
            Port::Name(name) => self.numbers.get(name).copied(),
        };
        let Some((number, name)) = number.and_then(|number| Some((number, self.names.get(&number)?))) else {
            return false;
        };
        let (number, name) = (Port::Number(number), Port::Name(name.clone()));
        let was = self.progress.doubled.binary_search_by(|(known, _)| known.cmp(&number)).is_ok();
        was != (desired.lets_in(&number) && desired.lets_in(&name))
    }

    /// Whether other ports have two names in the program than before.
    fn doubled_changed(&self, desired: &Program) -> bool {
        !doubled(desired, &self.names).iter().eq(self.progress.doubled.iter().map(|(number, name)| (number, name)))
    }

    /// The switch's ports changed, or what names them.
    fn ports_changed(&mut self, desired: &Program, now: Duration) -> Option<Output> {
        let Ports::Known(before) = self.ports.clone() else { return None };
        self.close_doubled(desired);
        let gone: BTreeSet<Port> = before.into_iter().filter(|port| !self.ports.has(port)).collect();
        match &mut self.phase {
            // The comparison that comes next is made with the new ports.
            Phase::Down | Phase::Reading { .. } | Phase::Refused { .. } => {
                self.expected.ports_changed();
                return None;
            }
            Phase::Stepping { .. } | Phase::Idle => {}
        }
        // Entries of a port that is gone cannot be addressed by its name any more: the read-back says
        // what is left of them.
        // So it does of those that are no longer desired, but not removed yet.
        let queued = self.queue.keys().filter_map(|key| key.matches.in_port.as_ref());
        if !gone.is_empty() && desired.iter().flat_map(Entry::ports).chain(queued).any(|port| gone.contains(port)) {
            self.expected.ports_changed();
            if let Phase::Stepping { reread, .. } = &mut self.phase {
                *reread = true;
                return None;
            }
            return Some(self.read(now));
        }
        let ready: Vec<EntryKey> =
            self.waiting.values().filter(|entry| self.ports.carry(entry)).map(|entry| entry.key.clone()).collect();
        for key in ready {
            self.expected.ours(&key);
            let entry = self.waiting.remove(&key);
            self.queue.insert(key, entry);
        }
        match self.phase {
            Phase::Idle => self.send_queue(desired, now),
            _ => None,
        }
    }

    fn read_back(&mut self, actual: &Program, alien: usize, desired: &Program, now: Duration) -> Option<Output> {
        let Phase::Reading { first, .. } = self.phase else { return None };
        if first && actual.is_empty() && alien == 0 {
            // It restarted, or is new.
            self.expected = Expected::nothing();
        }
        let delta = plan(desired, actual, &self.ports);
        self.queue.clear();
        self.waiting = held_back(desired, &self.ports).map(|entry| (entry.key.clone(), entry.clone())).collect();
        self.progress.differing = size_of(&delta) + alien;
        let found = self.expected.compare(&delta, actual, alien);
        self.progress.drift = found.drift;
        self.progress.entries = actual.len();
        // A repair is looked at again soon.
        self.audit = now + if self.progress.differing > 0 { VERIFY_AFTER } else { AUDIT_INTERVAL };
        if self.progress.differing == 0 {
            self.settle(desired);
            return None;
        }
        if found.strange > 0 {
            self.progress.acknowledged = 0;
        }
        let steps = steps(actual, desired, delta, BOUNDS);
        let model = (steps.len() > 1).then(|| Box::new(actual.clone()));
        self.send(steps, model, desired, now)
    }

    /// What was desired since a plan in several steps was made goes into what is left of it.
    fn replan(&mut self, model: Box<Program>, desired: &Program, now: Duration) -> Option<Output> {
        self.queue.clear();
        self.waiting = held_back(desired, &self.ports).map(|entry| (entry.key.clone(), entry.clone())).collect();
        let delta = plan(desired, &model, &self.ports);
        if delta.is_empty() {
            self.settle(desired);
            return None;
        }
        let steps = steps(&model, desired, delta, BOUNDS);
        self.send(steps, Some(model), desired, now)
    }

    fn applied(&mut self, confirmed: u64, desired: &Program, now: Duration) -> Option<Output> {
        let Phase::Stepping { step, size, revision, rest, reread, model, .. } = &mut self.phase else { return None };
        if *step != confirmed {
            return None;
        }
        self.progress.changes += *size as u64;
        let (revision, mut rest, reread, model) = (*revision, std::mem::take(rest), *reread, model.take());
        if let Some(next) = Arc::make_mut(&mut rest).pop_front() {
            // Between two revisions.
            self.progress.acknowledged = 0;
            if let Some(model) = model.filter(|_| !reread) {
                return match self.queue.is_empty() {
                    true => Some(self.send_at(next, rest, Some(model), Arc::default(), now)),
                    false => self.replan(model, desired, now),
                };
            }
        } else {
            self.attempts = 0;
            self.progress.acknowledged = revision;
            self.progress.settled = true;
            self.progress.refused = None;
            self.progress.last_error.clear();
            if !reread {
                self.expected.exact(self.queue.keys());
            }
        }
        // An audit waits for a moment without changes, but not for ever.
        if reread || now >= self.audit + AUDIT_INTERVAL {
            return Some(self.read(now));
        }
        self.phase = Phase::Idle;
        self.send_queue(desired, now)
    }

    /// Takes a change of the desired program into what is to be sent.
    fn absorb(&mut self, delta: &Delta) {
        for key in &delta.remove {
            // One that was waiting is not on the switch.
            if self.waiting.remove(key).is_none() && self.ports.carry_key(key) {
                self.queue.insert(key.clone(), None);
            }
        }
        for entry in &delta.add {
            self.want(entry.clone());
        }
    }

    fn want(&mut self, entry: Entry) {
        let key = entry.key.clone();
        if self.ports.carry(&entry) {
            self.waiting.remove(&key);
            self.queue.insert(key, Some(entry));
        } else {
            // The entry that it replaces, if there is one, is no longer wanted.
            if self.waiting.insert(key.clone(), entry).is_none() && self.ports.carry_key(&key) {
                self.queue.insert(key, None);
            }
        }
    }

    fn send_queue(&mut self, desired: &Program, now: Duration) -> Option<Output> {
        if self.queue.is_empty() {
            self.settle(desired);
            return None;
        }
        let mut delta = Delta::default();
        for (key, change) in std::mem::take(&mut self.queue) {
            match change {
                Some(entry) => delta.add.push(entry),
                None => delta.remove.push(key),
            }
        }
        if size_of(&delta) > BOUNDS.whole {
            // What goes is known by its key alone; to cut the change safely, what it does has to be known too.
            return Some(self.read(now));
        }
        self.send(VecDeque::from([delta]), None, desired, now)
    }

    /// What is gathered stays small: beyond one step's worth, comparing as a whole is cheaper, and covers it.
    fn bound_queue(&mut self) {
        if let Phase::Stepping { reread, .. } = &mut self.phase
            && self.queue.len() > BOUNDS.whole
        {
            *reread = true;
            self.queue.clear();
        }
    }

    fn send(
        &mut self,
        mut steps: VecDeque<Delta>,
        model: Option<Box<Program>>,
        desired: &Program,
        now: Duration,
    ) -> Option<Output> {
        let wanted = desired.len().saturating_sub(self.waiting.len());
        if wanted > self.max_entries {
            let most = self.max_entries;
            let reason = format!("the program has {wanted} entries, the switch takes {most}; nothing was sent");
            self.refuse(self.progress.desired, reason, now);
            return None;
        }
        let delta = steps.pop_front()?;
        let rest = Arc::new(steps);
        let ahead = if rest.is_empty() { Arc::default() } else { Arc::clone(&rest) };
        Some(self.send_at(delta, rest, model, ahead, now))
    }

    fn send_at(
        &mut self,
        delta: Delta,
        rest: Arc<VecDeque<Delta>>,
        mut model: Option<Box<Program>>,
        ahead: Arc<VecDeque<Delta>>,
        now: Duration,
    ) -> Output {
        if let Some(model) = &mut model {
            model.apply(&delta);
        }
        self.step += 1;
        let revision = self.progress.desired;
        self.progress.sent = revision;
        self.phase = Phase::Stepping {
            step: self.step,
            size: size_of(&delta),
            deadline: now + ANSWER_TIMEOUT,
            revision,
            rest,
            model,
            reread: false,
        };
        Output::Apply { step: self.step, delta, ahead }
    }

    fn refuse(&mut self, revision: u64, mut reason: String, now: Duration) {
        let pause = RETRY_FIRST.saturating_mul(1 << self.attempts.min(16)).min(RETRY_LAST);
        self.attempts = self.attempts.saturating_add(1);
        self.queue.clear();
        self.progress.refused = Some(revision);
        if self.progress.acknowledged == 0 {
            reason += "; what is in force there may be no revision as a whole";
        }
        self.progress.last_error = reason;
        self.phase = Phase::Refused { retry: now + pause };
    }

    /// The switch has what is desired.
    fn settle(&mut self, desired: &Program) {
        self.phase = Phase::Idle;
        self.attempts = 0;
        self.progress.sent = self.progress.desired;
        self.progress.acknowledged = self.progress.desired;
        self.progress.settled = true;
        self.progress.entries = desired.len().saturating_sub(self.waiting.len());
        self.progress.refused = None;
        self.progress.last_error.clear();
        self.expected.exact(self.queue.keys());
    }
}

fn size_of(delta: &Delta) -> usize {
    delta.remove.len() + delta.add.len()
}
