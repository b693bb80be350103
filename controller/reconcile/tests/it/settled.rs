//! What is said of a switch is so: which revision is in force there, what was refused, and what somebody else changed.

use crate::common;
use bulkhead_pipeline::{Delta, Program};
use bulkhead_reconcile::{BOUNDS, Input, Output, Ports};
use common::{
    bench::{Bench, add, bulk},
    classify, locate, policy, port, program,
};

/// A switch in step with four entries, of which two name a port.
fn settled() -> Bench {
    let mut bench = Bench::new(program([classify(1, 7), locate(9, 1), policy(1, 1), policy(2, 1)]));
    let first = bench.connect_with(&[1], 1_000_000);
    bench.finish(first);
    assert_eq!(bench.machine.progress().acknowledged, 1);
    bench
}

#[test]
fn a_switch_that_restarted_has_acknowledged_nothing_until_it_is_filled_again() {
    let mut bench = settled();
    bench.tell(Input::Disconnected("restart"));
    assert_eq!(bench.machine.progress().acknowledged, 1, "what is known of it while it is away");
    assert!(!bench.machine.progress().settled);
    bench.actual = Program::new();
    let ports = Ports::Known([port(1)].into());
    assert_eq!(bench.tell(Input::Connected { ports: &ports, max_entries: 1000 }), Some(Output::Read));
    assert_eq!(bench.machine.progress().acknowledged, 0);
    let filled = bench.read_back();
    assert_eq!((bench.machine.progress().acknowledged, bench.machine.progress().drift), (0, 0));
    assert!(!bench.machine.progress().settled);
    bench.finish(filled);
    assert!(bench.machine.progress().settled);
    assert_eq!((bench.machine.progress().acknowledged, &bench.actual), (1, &bench.desired));
}

#[test]
fn a_switch_that_begins_anew_has_acknowledged_nothing_until_it_is_read_back() {
    let mut bench = settled();
    let ports = Ports::Known([port(1)].into());
    assert_eq!(bench.tell(Input::Connected { ports: &ports, max_entries: 1000 }), Some(Output::Read));
    assert_eq!(bench.machine.progress().acknowledged, 0);
    // Ports have changed numbers: what names them means something else now.
    bench.actual.remove(&locate(9, 1).key);
    let mended = bench.read_back();
    assert_eq!((bench.machine.progress().acknowledged, bench.machine.progress().drift), (0, 0));
    bench.finish(mended);
    assert_eq!(bench.machine.progress().acknowledged, 1);
}

#[test]
fn a_switch_that_somebody_changed_has_no_revision_until_it_is_mended() {
    let mut bench = settled();
    bench.actual.insert(policy(3, 1));
    bench.audit();
    let mended = bench.read_back();
    assert_eq!((bench.machine.progress().acknowledged, bench.machine.progress().drift), (0, 1));
    assert!(bench.machine.progress().settled, "it is there, and has a program");
    bench.finish(mended);
    assert_eq!(bench.machine.progress().acknowledged, 1);
}

#[test]
fn a_refusal_is_of_its_revision() {
    let mut bench = settled();
    let Some(Output::Apply { step, .. }) = bench.change(&add([policy(3, 1)])) else { panic!("no step") };
    assert_eq!(bench.change(&add([policy(4, 1)])), None);
    bench.tell(Input::Refused { step, reason: "no" });
    let progress = bench.machine.progress();
    assert_eq!((progress.desired, progress.refused, progress.acknowledged), (3, Some(2), 1));
}

#[test]
fn what_comes_later_is_checked_before_the_first_of_several_steps() {
    let (mut bench, step) = bulk();
    let Some(Output::Apply { delta, ahead, step: number }) = &step else { panic!("no step") };
    let planned = delta.add.len() + ahead.iter().map(|delta| delta.add.len()).sum::<usize>();
    assert_eq!((ahead.len(), planned), (3, 2 * BOUNDS.whole), "not the whole plan");
    // The driver cannot carry one of them out: nothing has happened.
    bench.tell(Input::Refused { step: *number, reason: "too long" });
    let progress = bench.machine.progress();
    assert_eq!((progress.acknowledged, progress.refused, progress.last_error.as_str()), (1, Some(2), "too long"));
}

#[test]
fn a_refusal_between_two_revisions_says_so_and_is_planned_anew() {
    let (mut bench, step) = bulk();
    let step = bench.confirm(step);
    let Some(Output::Apply { step, ahead, .. }) = step else { panic!("no step") };
    assert!(ahead.is_empty(), "checked already");
    bench.tell(Input::Refused { step, reason: "table full" });
    let progress = bench.machine.progress();
    assert_eq!((progress.acknowledged, progress.refused, progress.settled), (0, Some(2), true));
    assert!(progress.last_error.starts_with("table full; ") && progress.last_error.contains("no revision as a whole"));
    // Back to the old revision, as the operator may want it: what was granted in part goes.
    let all: Vec<_> = (2..2 + 2 * BOUNDS.whole as u32).map(|n| policy(n, 1).key.clone()).collect();
    assert_eq!(bench.change(&Delta { remove: all, add: vec![] }), None);
    bench.audit();
    let back = bench.read_back();
    assert_eq!(bench.machine.progress().drift, 0, "those are ours");
    bench.finish(back);
    let progress = bench.machine.progress();
    assert_eq!((progress.acknowledged, progress.refused, progress.last_error.as_str()), (3, None, ""));
    assert_eq!(bench.actual, bench.desired);
}

#[test]
fn edits_during_an_audit_are_no_drift_and_hide_none() {
    let mut bench = settled();
    bench.actual.remove(&policy(1, 1).key);
    bench.audit();
    assert_eq!(
        bench.change(&Delta { remove: vec![policy(2, 1).key.clone()], add: vec![policy(3, 1), policy(4, 1)] }),
        None
    );
    let step = bench.read_back();
    let progress = bench.machine.progress();
    assert_eq!((progress.differing, progress.drift), (4, 1));
    bench.finish(step);
    assert_eq!(bench.actual, bench.desired);
    bench.audit();
    assert_eq!(bench.read_back(), None);
    assert_eq!(bench.machine.progress().drift, 0);
}

#[test]
fn a_large_change_is_no_drift_and_hides_none() {
    let mut bench = settled();
    let many: Vec<_> = (10..11 + BOUNDS.whole as u32).map(|n| policy(n, 1)).collect();
    bench.actual.insert(policy(1, 9));
    assert_eq!(bench.change(&add(many)), Some(Output::Read));
    let step = bench.read_back();
    let progress = bench.machine.progress();
    assert_eq!((progress.differing, progress.drift), (BOUNDS.whole + 2, 1));
    bench.finish(step);
    assert_eq!(bench.actual, bench.desired);
}

#[test]
fn what_was_on_its_way_when_the_session_ended_is_no_drift() {
    for arrived in [false, true] {
        let mut bench = settled();
        let Some(Output::Apply { delta, .. }) = bench.change(&add([policy(3, 1)])) else { panic!("no step") };
        assert_eq!(bench.change(&add([policy(4, 1)])), None);
        if arrived {
            bench.actual.apply(&delta);
        }
        bench.tell(Input::Disconnected("reset"));
        bench.change(&Delta { remove: vec![policy(2, 1).key.clone()], add: vec![] });
        let step = bench.connect_with(&[1], 1_000_000);
        assert_eq!(bench.machine.progress().drift, 0);
        bench.finish(step);
        assert_eq!(bench.actual, bench.desired);
    }
}

#[test]
fn what_somebody_changed_while_we_were_away_is_drift() {
    let mut bench = settled();
    bench.tell(Input::Disconnected("reset"));
    bench.change(&add([policy(5, 1)]));
    bench.actual.insert(policy(6, 1));
    bench.actual.remove(&classify(1, 7).key);
    let step = bench.connect_with(&[1], 1_000_000);
    assert_eq!((bench.machine.progress().differing, bench.machine.progress().drift), (3, 2));
    // As long as it is not mended, it is not forgotten.
    let Some(Output::Apply { step, .. }) = step else { panic!("no step") };
    bench.tell(Input::Refused { step, reason: "no" });
    bench.audit();
    let step = bench.read_back();
    assert_eq!(bench.machine.progress().drift, 2);
    bench.finish(step);
    assert_eq!(bench.actual, bench.desired);
}

#[test]
fn a_port_that_comes_and_goes_is_no_drift_and_hides_none() {
    // While nothing is under way: what is left of it has no name any more.
    let mut bench = settled();
    bench.actual.insert(policy(6, 1));
    assert_eq!(bench.ports(&[]), Some(Output::Read));
    for entry in [classify(1, 7), locate(9, 1)] {
        bench.actual.remove(&entry.key);
    }
    let actual = bench.actual.clone();
    let step = bench.tell(Input::Actual { program: &actual, alien: 2 });
    assert_eq!(bench.machine.progress().drift, 1);
    bench.finish(step);
    // It comes back, and what waited for it is on its way when the session ends.
    let step = bench.ports(&[1]);
    assert!(matches!(step, Some(Output::Apply { .. })), "{step:?}");
    bench.tell(Input::Disconnected("reset"));
    let step = bench.connect_with(&[1], 1_000_000);
    assert_eq!((bench.machine.progress().differing, bench.machine.progress().drift), (2, 0));
    bench.finish(step);
    // It goes while we are away.
    bench.tell(Input::Disconnected("reset"));
    bench.actual.remove(&classify(1, 7).key);
    let step = bench.connect_with(&[2], 1_000_000);
    assert_eq!(bench.machine.progress().drift, 0);
    bench.finish(step);
}

#[test]
fn what_a_switch_has_when_it_first_comes_is_no_drift() {
    let mut bench = Bench::new(program([policy(1, 1), policy(2, 1)]));
    bench.actual = program([policy(1, 1), policy(9, 1)]);
    let step = bench.connect(&[]);
    assert_eq!((bench.machine.progress().differing, bench.machine.progress().drift), (2, 0));
    // Nor is it when the first attempt fails.
    let Some(Output::Apply { step, .. }) = step else { panic!("no step") };
    bench.tell(Input::Refused { step, reason: "no" });
    bench.audit();
    let step = bench.read_back();
    assert_eq!(bench.machine.progress().drift, 0);
    bench.finish(step);
    assert_eq!(bench.machine.progress().acknowledged, 1);
}

#[test]
fn a_switch_that_is_away_for_long_costs_little() {
    let mut bench = settled();
    bench.tell(Input::Disconnected("reset"));
    for n in 0..30_000 {
        bench.change(&add([policy(100 + n, 1)]));
    }
    bench.actual.insert(policy(6, 1));
    let step = bench.connect_with(&[1], 1_000_000);
    // So much was changed that nobody can tell.
    assert_eq!(bench.machine.progress().drift, 0);
    bench.finish(step);
    assert_eq!(bench.actual, bench.desired);
}
