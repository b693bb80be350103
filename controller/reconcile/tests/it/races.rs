//! Events in an order that nobody thought of, and switches that are too small.

use crate::common;
use bulkhead_pipeline::{Delta, Entry, Program};
use bulkhead_reconcile::{Input, Machine, Output, Ports};
use common::{classify, locate, policy, port, program};
use proptest::{collection::vec, prelude::*, sample::select};
use std::{collections::BTreeSet, time::Duration};

/// What may happen to a switch, in any order, whether or not it makes sense there.
#[derive(Debug, Clone)]
enum Happening {
    Connected(BTreeSet<u8>, usize),
    Disconnected,
    Ports(BTreeSet<u8>),
    /// The switch does what it was told last, and says so.
    Answer,
    /// It says so without having been told, or without having done it.
    Applied(u64),
    Refused(u64),
    /// A read-back that is true, or of another time.
    Actual(Option<Vec<u8>>),
    Desired(Entry, bool),
    Time(u64),
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        (0..4_u8, 0..3_u32).prop_map(|(port, id)| classify(port, id)),
        (0..4_u32, 0..4_u8).prop_map(|(address, port)| locate(address, port)),
        (0..6_u32, 0..3_u32).prop_map(|(source, cause)| policy(source, cause)),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    let ports = || vec(0..4_u8, 0..4).prop_map(|ports| ports.into_iter().collect::<BTreeSet<_>>());
    prop_oneof![
        2 => (ports(), select(vec![0, 3, 1000])).prop_map(|(ports, most)| Happening::Connected(ports, most)),
        1 => Just(Happening::Disconnected),
        1 => ports().prop_map(Happening::Ports),
        6 => Just(Happening::Answer),
        1 => (0..9_u64).prop_map(Happening::Applied),
        1 => (0..9_u64).prop_map(Happening::Refused),
        1 => prop::option::of(vec(0..6_u8, 0..4)).prop_map(Happening::Actual),
        6 => (entry(), any::<bool>()).prop_map(|(entry, add)| Happening::Desired(entry, add)),
        2 => (0..400_u64).prop_map(Happening::Time),
    ]
}

struct World {
    machine: Machine,
    desired: Program,
    actual: Program,
    asked: Option<Output>,
    revision: u64,
    now: Duration,
}

impl World {
    fn tell(&mut self, input: Input<'_>) {
        let output = self.machine.handle(input, &self.desired, self.now);
        self.asked = output.or(self.asked.take());
    }

    fn answer(&mut self) {
        match self.asked.take() {
            None => {}
            Some(Output::Read) => {
                let actual = self.actual.clone();
                self.tell(Input::Actual { program: &actual, alien: 0 });
            }
            Some(Output::Apply { step, delta, .. }) => {
                self.actual.apply(&delta);
                self.tell(Input::Applied { step });
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        let known = |ports: BTreeSet<u8>| ports.into_iter().map(port).collect::<BTreeSet<_>>();
        match happening {
            Happening::Connected(ports, max_entries) => {
                self.asked = None;
                self.tell(Input::Connected { ports: &Ports::Known(known(ports)), max_entries });
            }
            Happening::Disconnected => {
                self.asked = None;
                self.tell(Input::Disconnected("it went"));
            }
            Happening::Ports(ports) => self.tell(Input::Ports(&known(ports))),
            Happening::Answer => self.answer(),
            Happening::Applied(step) => self.tell(Input::Applied { step }),
            Happening::Refused(step) => self.tell(Input::Refused { step, reason: "no" }),
            Happening::Actual(other) => {
                let other = other.map(|ids| program(ids.into_iter().map(|id| policy(id.into(), 9))));
                let program = other.unwrap_or_else(|| self.actual.clone());
                self.tell(Input::Actual { program: &program, alien: 1 });
            }
            Happening::Desired(entry, add) => {
                let key = entry.key.clone();
                let delta = match add {
                    true => Delta { remove: Vec::new(), add: vec![entry] },
                    false => Delta { remove: vec![key], add: Vec::new() },
                };
                self.revision += 1;
                self.desired.apply(&delta);
                let revision = self.revision;
                self.tell(Input::Desired { revision, delta: &delta });
            }
            Happening::Time(seconds) => {
                self.now += Duration::from_secs(seconds);
                if self.machine.deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.tell(Input::Tick);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn a17_no_order_of_events_breaks_a_machine(happenings in vec(happening(), 0..80)) {
        let mut world = World {
            machine: Machine::new(0),
            desired: Program::new(),
            actual: Program::new(),
            asked: None,
            revision: 0,
            now: Duration::ZERO,
        };
        for happening in happenings {
            world.happen(happening);
        }
        // However it got there: one connection later the switch is exact.
        world.happen(Happening::Disconnected);
        world.happen(Happening::Connected((0..4).collect(), 1000));
        for _ in 0..1000 {
            if world.asked.is_none() {
                break;
            }
            world.answer();
        }
        prop_assert_eq!(&world.actual, &world.desired);
        let progress = world.machine.progress();
        prop_assert_eq!((progress.acknowledged, progress.refused), (world.revision, None));
    }
}

#[test]
fn r18_a_program_that_the_switch_has_no_room_for_is_not_begun() {
    const ROOM: usize = 1_000;
    for (size, fits) in [(800, true), (1_000, true), (1_010, false)] {
        let desired = program((0..size).map(|source| policy(source, 1)));
        let mut machine = Machine::new(1);
        let now = Duration::ZERO;
        machine.handle(Input::Connected { ports: &Ports::Any, max_entries: ROOM }, &desired, now);
        let sent = machine.handle(Input::Actual { program: &Program::new(), alien: 0 }, &desired, now);
        assert_eq!(sent.is_some(), fits, "{size}");
        let progress = machine.progress();
        assert_eq!(progress.refused.is_some(), !fits);
        if !fits {
            let told = &progress.last_error;
            assert!(told.contains("1010") && told.contains("1000"), "{told}");
        }
    }
}

#[test]
fn a34_a_change_that_overflows_the_table_leaves_it_whole() {
    let mut desired = program((0..10).map(|source| policy(source, 1)));
    let mut machine = Machine::new(1);
    let now = Duration::ZERO;
    machine.handle(Input::Connected { ports: &Ports::Any, max_entries: 10 }, &desired, now);
    assert_eq!(machine.handle(Input::Actual { program: &desired.clone(), alien: 0 }, &desired, now), None);
    // One entry more than there is room for, and one less in the same change: nothing is sent in parts.
    let delta = Delta { remove: vec![policy(0, 1).key.clone()], add: vec![policy(10, 1), policy(11, 1)] };
    desired.apply(&delta);
    assert_eq!(machine.handle(Input::Desired { revision: 2, delta: &delta }, &desired, now), None);
    let progress = machine.progress();
    assert_eq!((progress.desired, progress.acknowledged, progress.refused), (2, 1, Some(2)));
    assert!(progress.last_error.contains("11 entries, the switch takes 10"), "{}", progress.last_error);
}
