//! When a host is mended, and what is told of it, without sockets and clock.
//!
//! ```text
//!            plan, and next_cfg + 1                 cur_cfg has come so far
//!   Rest ---------------------------> Asked ---> Awaited ---------------------> Rest: Shaped
//!     ^                                 | refused: Unable    | drift meanwhile: asked again
//!     +---------------------------------+                    v
//! ```

use crate::{
    found::{plugged, underlay},
    plan::{Foreign, Plan, plan},
};
use bulkhead_dataplane::host::{HostConfig, HostReport};
use bulkhead_ovsdb::{Done, Mutation, Mutator, Operation, Replica, TransactError};
use bulkhead_topology::Name;
use std::time::Duration;

/// How long ovs-vswitchd may take to carry a change out until that is told. A switch of thousands of ports takes seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to do for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Tell the controller.
    Report(HostReport),
    /// Send a transaction; its result is for [`Keeper::answered`].
    Transact(Vec<Operation>),
}

#[derive(Debug)]
enum Work {
    /// Nothing is under way.
    Rest,
    /// A transaction is.
    Asked { repaired: Vec<String> },
    /// The database has it; the switch is to carry it out.
    Awaited { until: i64, since: Duration, repaired: Vec<String> },
}

/// Keeps one host, as long as one connection lasts.
#[derive(Debug)]
pub struct Keeper {
    switch: Name,
    config: HostConfig,
    work: Work,
    /// The switch has carried out what was to be done, and nothing has failed since.
    shaped: bool,
    /// Why the host is not in shape, as it was told last.
    told: Option<String>,
    interfaces: Option<HostReport>,
    underlay: Option<HostReport>,
    repairs: Repairs,
    /// When to look again though nothing happens.
    wake: Option<Duration>,
}

impl Keeper {
    /// A keeper that has seen nothing yet.
    pub fn new(switch: Name, config: HostConfig) -> Self {
        Self {
            switch,
            config,
            work: Work::Rest,
            shaped: false,
            told: None,
            interfaces: None,
            underlay: None,
            repairs: Repairs::default(),
            wake: None,
        }
    }

    /// What came of the last [`Act::Transact`]. To be followed by [`Keeper::look`].
    pub fn answered(&mut self, result: Result<Vec<Done>, TransactError>, now: Duration) -> Option<Act> {
        let Work::Asked { repaired } = std::mem::replace(&mut self.work, Work::Rest) else { return None };
        match result {
            Ok(done) => {
                let told = done.last().and_then(|done| done.rows.first()).and_then(|row| row.get("next_cfg"));
                let until = told.and_then(bulkhead_ovsdb::Value::integer).unwrap_or(i64::MAX);
                self.work = Work::Awaited { until, since: now, repaired };
                None
            }
            Err(error) => self.unable(format!("the database refused a change: {error}")),
        }
    }

    /// Looks at the database, at a time.
    pub fn look(&mut self, replica: &Replica, now: Duration) -> Vec<Act> {
        let plan = plan(replica, &self.config, &self.switch);
        // What is plugged into somebody else's bridge is not for us to bind.
        let ours = !matches!(plan, Err(Foreign::Owner { .. }));
        let interfaces = if ours { plugged(replica) } else { Vec::new() };
        let mut acts = Vec::new();
        acts.extend(news(&mut self.interfaces, HostReport::Interfaces(interfaces)));
        acts.extend(news(&mut self.underlay, underlay(replica, &self.config)));
        self.wake = None;
        if matches!(self.work, Work::Asked { .. }) {
            // What the replica tells of it may be half of the story.
            return acts;
        }
        let plan = match plan {
            Ok(plan) => plan,
            Err(foreign) => {
                acts.extend(self.unable(foreign.to_string()));
                return acts;
            }
        };
        let unproved = !self.shaped && matches!(self.work, Work::Rest);
        if !plan.operations.is_empty() || unproved {
            acts.extend(self.repair(plan, now));
        } else {
            acts.extend(self.wait(replica, now));
        }
        acts
    }

    /// When to look again though nothing happens, on the clock that [`Keeper::look`] is told.
    pub fn wake(&self) -> Option<Duration> {
        self.wake
    }

    fn repair(&mut self, plan: Plan, now: Duration) -> Option<Act> {
        let due = self.repairs.due();
        if now < due {
            self.wake = Some(due);
            // After a refusal, that is what was told.
            let fight = format!("somebody keeps changing what is ours: {}", plan.repaired.join("; "));
            return if self.told.is_none() { self.unable(fight) } else { None };
        }
        self.repairs.note(now);
        let mut repaired = match std::mem::replace(&mut self.work, Work::Rest) {
            Work::Awaited { repaired, .. } => repaired,
            _ => Vec::new(),
        };
        repaired.extend(plan.repaired);
        self.work = Work::Asked { repaired };
        let mut operations = plan.operations;
        if !operations.is_empty() {
            operations.insert(0, Operation::Comment(format!("bulkhead: switch {}", self.switch)));
        }
        // The switch sets cur_cfg to what next_cfg was when it has carried everything out (ovs-vswitchd.conf.db(5)).
        let count = Mutation { column: "next_cfg", mutator: Mutator::Add, value: 1.into() };
        operations.push(Operation::Mutate { table: "Open_vSwitch", conditions: vec![], mutations: vec![count] });
        operations.push(Operation::Select { table: "Open_vSwitch", conditions: vec![], columns: vec!["next_cfg"] });
        Some(Act::Transact(operations))
    }

    fn wait(&mut self, replica: &Replica, now: Duration) -> Option<Act> {
        let Work::Awaited { until, since, repaired } = &mut self.work else { return None };
        let done = replica.rows("Open_vSwitch").next().and_then(|(_, row)| row.integer("cur_cfg"));
        if done.is_some_and(|done| done >= *until) {
            let repaired = std::mem::take(repaired);
            self.work = Work::Rest;
            (self.shaped, self.told) = (true, None);
            return Some(Act::Report(HostReport::Shaped { repaired }));
        }
        let late = *since + PATIENCE;
        if now < late {
            self.wake = Some(late);
            return None;
        }
        self.unable(format!("ovs-vswitchd has not carried a change out for {} s: is it running?", PATIENCE.as_secs()))
    }

    fn unable(&mut self, why: String) -> Option<Act> {
        self.shaped = false;
        if self.told.as_ref() == Some(&why) {
            return None;
        }
        self.told = Some(why.clone());
        Some(Act::Report(HostReport::Unable(why)))
    }
}

/// The report, if it says something new.
fn news(last: &mut Option<HostReport>, now: HostReport) -> Option<Act> {
    if last.as_ref() == Some(&now) {
        return None;
    }
    *last = Some(now.clone());
    Some(Act::Report(now))
}

/// When repairs are made: at once, until somebody undoes them again and again.
#[derive(Debug, Default)]
struct Repairs {
    /// How many came close upon each other.
    burst: u32,
    last: Option<Duration>,
}

impl Repairs {
    /// Repairs in a row that are made at once: somebody who mends things by hand needs several commands for it.
    const FREE: u32 = 4;
    /// The first pause; each is twice the last.
    const FIRST: Duration = Duration::from_millis(500);
    /// The longest pause. What is ours is wrong for so long at most.
    const MOST: Duration = Duration::from_secs(16);
    /// Quiet after which a repair is the first one again.
    const CALM: Duration = Duration::from_secs(60);

    /// The earliest time of the next one.
    fn due(&self) -> Duration {
        let Some(last) = self.last else { return Duration::ZERO };
        match self.burst.checked_sub(Self::FREE) {
            None => last,
            Some(over) => last + Self::FIRST.saturating_mul(1 << over.min(16)).min(Self::MOST),
        }
    }

    fn note(&mut self, now: Duration) {
        let calm = self.last.is_none_or(|last| now >= last + Self::CALM);
        self.burst = if calm { 1 } else { self.burst.saturating_add(1) };
        self.last = Some(now);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_made_at_once_and_then_ever_more_rarely() {
        let (mut repairs, mut now, mut pauses) = (Repairs::default(), Duration::ZERO, Vec::new());
        for _ in 0..12 {
            let due = repairs.due().max(now);
            pauses.push((due - now).as_millis());
            now = due;
            repairs.note(now);
        }
        assert_eq!(pauses, [0, 0, 0, 0, 500, 1000, 2000, 4000, 8000, 16000, 16000, 16000]);
        now += Repairs::CALM;
        assert!(repairs.due() < now);
        repairs.note(now);
        assert_eq!(repairs.due(), now, "after a quiet time it is as before");
    }
}
