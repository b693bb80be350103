//! A machine and a switch that does what it is told, step by step.

use super::{classify, policy, port, program};
use bulkhead_pipeline::{Delta, Program};
use bulkhead_reconcile::{BOUNDS, Input, Machine, Output, Ports};
use std::{collections::BTreeSet, time::Duration};

pub const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub struct Bench {
    pub machine: Machine,
    pub desired: Program,
    pub actual: Program,
    pub revision: u64,
    pub now: Duration,
}

impl Bench {
    pub fn new(desired: Program) -> Self {
        Self { machine: Machine::new(1), desired, actual: Program::new(), revision: 1, now: s(0) }
    }

    pub fn tell(&mut self, input: Input<'_>) -> Option<Output> {
        self.machine.handle(input, &self.desired, self.now)
    }

    pub fn connect(&mut self, ports: &[u8]) -> Option<Output> {
        self.connect_with(ports, 1000)
    }

    pub fn connect_with(&mut self, ports: &[u8], max_entries: usize) -> Option<Output> {
        let ports = Ports::Known(ports.iter().map(|n| port(*n)).collect());
        assert_eq!(self.tell(Input::Connected { ports: &ports, max_entries }), Some(Output::Read));
        let actual = self.actual.clone();
        self.tell(Input::Actual { program: &actual, alien: 0 })
    }

    pub fn change(&mut self, delta: &Delta) -> Option<Output> {
        self.revision += 1;
        self.desired.apply(delta);
        self.tell(Input::Desired { revision: self.revision, delta })
    }

    /// Carries a step out and confirms it.
    pub fn confirm(&mut self, output: Option<Output>) -> Option<Output> {
        let Some(Output::Apply { step, delta, .. }) = output else { panic!("no step: {output:?}") };
        self.actual.apply(&delta);
        self.tell(Input::Applied { step })
    }

    /// Reads the switch back, as it was just asked to.
    pub fn read_back(&mut self) -> Option<Output> {
        let actual = self.actual.clone();
        self.tell(Input::Actual { program: &actual, alien: 0 })
    }

    /// Carries out steps until there are no more.
    pub fn finish(&mut self, mut output: Option<Output>) {
        while output.is_some() {
            output = self.confirm(output);
        }
    }

    /// Lets time pass until the audit, which asks for a read-back.
    pub fn audit(&mut self) {
        self.now = self.machine.deadline().unwrap();
        assert_eq!(self.tell(Input::Tick), Some(Output::Read));
    }

    pub fn ports(&mut self, ports: &[u8]) -> Option<Output> {
        let ports: BTreeSet<_> = ports.iter().map(|n| port(*n)).collect();
        self.tell(Input::Ports(&ports))
    }
}

pub fn add(entries: impl IntoIterator<Item = bulkhead_pipeline::Entry>) -> Delta {
    Delta { remove: Vec::new(), add: entries.into_iter().collect() }
}

/// A switch with an open port and one rule, and a change too large for one step.
pub fn bulk() -> (Bench, Option<Output>) {
    let mut bench = Bench::new(program([classify(1, 7), policy(1, 1)]));
    let first = bench.connect_with(&[1], 1_000_000);
    bench.confirm(first);
    let grants: Vec<_> = (2..2 + 2 * BOUNDS.whole as u32).map(|n| policy(n, 1)).collect();
    assert_eq!(bench.change(&add(grants)), Some(Output::Read), "what goes has to be known to cut it");
    let actual = bench.actual.clone();
    let step = bench.tell(Input::Actual { program: &actual, alien: 0 });
    (bench, step)
}
