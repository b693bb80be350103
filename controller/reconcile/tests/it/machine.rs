//! A switch's life, event by event.

use crate::common;
use bulkhead_pipeline::{Delta, Program};
use bulkhead_reconcile::{BOUNDS, Input, Output};
use common::{
    bench::{Bench, add, bulk, s},
    classify, locate, policy, port, program,
};

#[test]
fn an_identical_switch_costs_nothing() {
    let mut bench = Bench::new(program([classify(1, 7), policy(7, 1)]));
    bench.actual = bench.desired.clone();
    assert_eq!(bench.connect(&[1]), None);
    let progress = bench.machine.progress();
    assert_eq!((progress.acknowledged, progress.changes, progress.drift, progress.entries), (1, 0, 0, 2));
}

#[test]
fn changes_gather_while_a_step_is_under_way() {
    let mut bench = Bench::new(program([policy(1, 1)]));
    let first = bench.connect(&[]);
    assert_eq!(bench.change(&add([policy(2, 1)])), None);
    assert_eq!(bench.change(&Delta { remove: vec![policy(2, 1).key.clone()], add: vec![policy(3, 1)] }), None);
    assert_eq!(bench.machine.progress().acknowledged, 0);
    let second = bench.confirm(first);
    assert_eq!(bench.machine.progress().acknowledged, 1);
    assert_eq!(bench.confirm(second), None);
    assert_eq!(bench.machine.progress().acknowledged, 3);
    assert_eq!(bench.actual, bench.desired);
}

#[test]
fn a_change_that_does_not_concern_it_is_acknowledged_at_once() {
    let mut bench = Bench::new(Program::new());
    assert_eq!(bench.connect(&[]), None);
    assert_eq!(bench.change(&Delta::default()), None);
    assert_eq!(bench.machine.progress().acknowledged, 2);
}

#[test]
fn a_refused_step_leaves_the_old_revision_and_is_tried_again() {
    let mut bench = Bench::new(program([policy(1, 1)]));
    let first = bench.connect(&[]);
    bench.confirm(first);
    let Some(Output::Apply { step, .. }) = bench.change(&add([policy(2, 1)])) else { panic!("no step") };
    assert_eq!(bench.tell(Input::Refused { step, reason: "table full" }), None);
    let progress = bench.machine.progress().clone();
    assert_eq!((progress.desired, progress.acknowledged, progress.refused), (2, 1, Some(2)));
    assert_eq!(progress.last_error, "table full");
    // Not before its time; then by reading back first.
    assert_eq!(bench.tell(Input::Tick), None);
    bench.now = bench.machine.deadline().unwrap();
    assert_eq!(bench.tell(Input::Tick), Some(Output::Read));
    let actual = bench.actual.clone();
    let again = bench.tell(Input::Actual { program: &actual, alien: 0 });
    assert_eq!(bench.confirm(again), None);
    let progress = bench.machine.progress();
    assert_eq!((progress.acknowledged, progress.refused, progress.last_error.as_str()), (2, None, ""));
}

#[test]
fn pauses_grow_and_have_an_end() {
    let mut bench = Bench::new(program([policy(1, 1)]));
    let mut output = bench.connect(&[]);
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let Some(Output::Apply { step, .. }) = output else { panic!("no step") };
        bench.tell(Input::Refused { step, reason: "no" });
        let at = bench.machine.deadline().unwrap();
        pauses.push(at - bench.now);
        bench.now = at;
        bench.tell(Input::Tick);
        output = bench.tell(Input::Actual { program: &Program::new(), alien: 0 });
    }
    assert!(pauses.is_sorted() && pauses[0] < s(1) && pauses[19] == s(30), "{pauses:?}");
}

#[test]
fn entries_wait_for_their_port() {
    let mut bench = Bench::new(program([classify(1, 7), classify(2, 8), locate(9, 2), policy(7, 1)]));
    let first = bench.connect(&[1]);
    assert_eq!(bench.confirm(first), None);
    assert_eq!(bench.machine.progress().waiting, 2);
    assert_eq!(bench.machine.progress().missing, [port(2)]);
    assert_eq!(bench.machine.progress().acknowledged, 1, "a missing port holds nobody up");
    let second = bench.ports(&[1, 2]);
    assert_eq!(bench.confirm(second), None);
    assert_eq!(bench.actual, bench.desired);
    assert_eq!((bench.machine.progress().waiting, bench.machine.progress().missing.len()), (0, 0));
}

#[test]
fn a_waiting_entry_that_is_no_longer_wanted_never_arrives() {
    let mut bench = Bench::new(program([classify(1, 7), classify(2, 8)]));
    let first = bench.connect(&[1]);
    bench.confirm(first);
    bench.change(&Delta { remove: vec![classify(2, 8).key.clone()], add: vec![] });
    assert_eq!(bench.ports(&[1, 2]), None);
    assert_eq!(bench.actual, bench.desired);
}

#[test]
fn an_entry_that_moves_to_a_missing_port_leaves_the_old_one() {
    let mut bench = Bench::new(program([locate(9, 1)]));
    let first = bench.connect(&[1]);
    bench.confirm(first);
    let moved = bench.change(&add([locate(9, 2)]));
    bench.confirm(moved);
    assert!(bench.actual.is_empty(), "packets would still go to the old port");
}

#[test]
fn a_vanished_port_is_read_back() {
    let mut bench = Bench::new(program([classify(1, 7), policy(7, 1)]));
    let first = bench.connect(&[1]);
    bench.confirm(first);
    assert_eq!(bench.ports(&[]), Some(Output::Read));
    // The driver cannot name the port of what is left.
    let left = program([policy(7, 1)]);
    let cleanup = bench.tell(Input::Actual { program: &left, alien: 1 });
    assert!(matches!(cleanup, Some(Output::Apply { .. })), "{cleanup:?}");
}

#[test]
fn what_is_to_be_removed_from_a_port_that_vanishes_is_read_back() {
    let mut bench = Bench::new(program([classify(1, 7), policy(7, 1)]));
    let first = bench.connect(&[1]);
    bench.confirm(first);
    let step = bench.change(&add([policy(8, 1)]));
    // While a step is under way, the workload goes, and then its port.
    assert_eq!(bench.change(&Delta { remove: vec![classify(1, 7).key.clone()], add: vec![] }), None);
    assert_eq!(bench.ports(&[]), None);
    assert_eq!(bench.confirm(step), Some(Output::Read), "the entry is still there, and the next port gets the number");
}

#[test]
fn a_lost_answer_is_looked_for() {
    let mut bench = Bench::new(program([policy(1, 1)]));
    let Some(Output::Apply { step, delta, .. }) = bench.connect(&[]) else { panic!("no step") };
    bench.actual.apply(&delta);
    bench.now = bench.machine.deadline().unwrap();
    assert_eq!(bench.tell(Input::Tick), Some(Output::Read));
    assert_eq!(bench.tell(Input::Applied { step }), None, "too late to count");
    let actual = bench.actual.clone();
    assert_eq!(bench.tell(Input::Actual { program: &actual, alien: 0 }), None);
    assert_eq!(bench.machine.progress().acknowledged, 1);
}

#[test]
fn drift_is_found_and_mended() {
    let mut bench = Bench::new(program([policy(1, 1), policy(2, 1)]));
    let first = bench.connect(&[]);
    bench.confirm(first);
    // What was not there yet has not drifted.
    assert_eq!((bench.machine.progress().differing, bench.machine.progress().drift), (2, 0));
    bench.actual.remove(&policy(1, 1).key);
    // Connecting wrote into the switch, so it is looked at again soon.
    bench.now = bench.machine.deadline().unwrap();
    assert_eq!(bench.tell(Input::Tick), Some(Output::Read));
    let actual = bench.actual.clone();
    let repair = bench.tell(Input::Actual { program: &actual, alien: 0 });
    assert_eq!(bench.machine.progress().drift, 1);
    bench.confirm(repair);
    assert_eq!(bench.actual, bench.desired);
}

#[test]
fn a_switch_that_is_changed_all_the_time_is_read_back_too() {
    let mut bench = Bench::new(program([policy(1, 1)]));
    bench.actual = bench.desired.clone();
    assert_eq!(bench.connect(&[]), None);
    // A change every minute: with moments in between, and without, where the next one is there before each is done.
    for (pauses, by) in [(true, s(301)), (false, s(660))] {
        let began = bench.now;
        let mut step = None;
        while step != Some(Output::Read) {
            bench.now += s(60);
            let source = 2 + bench.now.as_secs() as u32;
            let due = bench.machine.deadline().filter(|due| step.is_none() && *due <= bench.now);
            step = match due {
                Some(_) => bench.tell(Input::Tick),
                None if pauses || step.is_none() => bench.change(&add([policy(source, 1)])),
                None => {
                    assert_eq!(bench.change(&add([policy(source, 1)])), None);
                    bench.confirm(step)
                }
            };
            if pauses && matches!(step, Some(Output::Apply { .. })) {
                assert_eq!(bench.confirm(step.take()), None);
            }
            assert!(bench.now <= began + by, "never read back");
        }
        let actual = bench.actual.clone();
        let mut step = bench.tell(Input::Actual { program: &actual, alien: 0 });
        while step.is_some() {
            step = bench.confirm(step);
        }
        bench.now = bench.machine.deadline().unwrap();
        assert_eq!(bench.tell(Input::Tick), Some(Output::Read));
        let actual = bench.actual.clone();
        assert_eq!(bench.tell(Input::Actual { program: &actual, alien: 0 }), None);
    }
}

#[test]
fn a_program_larger_than_the_switch_is_not_sent() {
    let mut bench = Bench::new(program((0..1001).map(|n| policy(n, 1))));
    assert_eq!(bench.connect(&[]), None);
    let progress = bench.machine.progress();
    assert!(
        progress.refused == Some(1) && progress.last_error.contains("1001") && progress.last_error.contains("1000")
    );
}

#[test]
fn a_disconnected_switch_is_told_nothing() {
    let mut bench = Bench::new(program([policy(1, 1)]));
    let _ = bench.connect(&[]);
    assert_eq!(bench.tell(Input::Disconnected("reset")), None);
    assert_eq!(bench.change(&add([policy(2, 1)])), None);
    assert_eq!(bench.machine.deadline(), None);
    let again = bench.connect(&[]);
    assert_eq!(bench.confirm(again), None);
    assert_eq!(bench.actual, bench.desired);
}

#[test]
fn a_large_change_goes_in_steps_and_is_acknowledged_after_the_last() {
    let (mut bench, mut step) = bulk();
    let mut steps = 0;
    while let Some(Output::Apply { delta, .. }) = &step {
        assert!(delta.add.len() <= BOUNDS.chunk);
        let between = if steps == 0 { 1 } else { 0 };
        assert_eq!(bench.machine.progress().acknowledged, between, "the old revision, then none, then the new one");
        steps += 1;
        step = bench.confirm(step);
    }
    assert_eq!((steps, bench.machine.progress().acknowledged), (4, 2));
    assert_eq!(bench.actual, bench.desired);
}

#[test]
fn r22_a_revocation_goes_before_the_grants_that_are_left() {
    let (mut bench, step) = bulk();
    let step = bench.confirm(step);
    // While the second of four steps is under way.
    assert_eq!(bench.change(&Delta { remove: vec![policy(1, 1).key.clone()], add: vec![] }), None);
    let mut step = bench.confirm(step);
    assert!(
        matches!(&step, Some(Output::Apply { delta, .. }) if delta.remove == [policy(1, 1).key.clone()]),
        "{step:?}"
    );
    step = bench.confirm(step);
    assert!(bench.actual.get(&policy(1, 1).key).is_none());
    while step.is_some() {
        step = bench.confirm(step);
    }
    assert_eq!(bench.actual, bench.desired);
    assert_eq!(bench.machine.progress().acknowledged, 3);
}

#[test]
fn r22_a_flood_of_grants_does_not_grow_what_is_gathered() {
    let mut bench = Bench::new(program([classify(1, 7), policy(1, 1)]));
    let first = bench.connect_with(&[1], 1_000_000);
    for n in 0..3 * BOUNDS.whole as u32 {
        assert_eq!(bench.change(&add([policy(2 + n, 1)])), None);
        assert!(bench.machine.progress().unconfirmed <= BOUNDS.whole + 3);
    }
    let read = bench.confirm(first);
    assert_eq!(read, Some(Output::Read));
    let actual = bench.actual.clone();
    let mut step = bench.tell(Input::Actual { program: &actual, alien: 0 });
    while step.is_some() {
        step = bench.confirm(step);
    }
    assert_eq!(bench.actual, bench.desired);
}

#[test]
fn r22_a_revocation_waits_for_one_step_however_many_grants_are_asked_for() {
    let mut bench = Bench::new(program([classify(1, 7), policy(1, 1)]));
    let first = bench.connect_with(&[1], 1_000_000);
    bench.finish(first);
    let mut step = None;
    for n in 0..500 {
        let sent = bench.change(&add([policy(100 + n, 1)]));
        step = step.or(sent);
    }
    assert_eq!(bench.change(&Delta { remove: vec![policy(1, 1).key.clone()], add: vec![] }), None);
    for n in 500..1000 {
        assert_eq!(bench.change(&add([policy(100 + n, 1)])), None);
    }
    let step = bench.confirm(step);
    bench.confirm(step);
    assert!(bench.actual.get(&policy(1, 1).key).is_none(), "it waits for grants");
}
