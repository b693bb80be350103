//! Plans turn what is there into what is wanted, and then have nothing left to say.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use bulkhead_pipeline::{Entry, Program};
use bulkhead_reconcile::{Doors, MAX_STEP, OPENING, Ports, held_back, plan, steps};
use common::{classify, locate, policy, port, program};
use proptest::{collection::btree_set, prelude::*};

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        (0u8..6, 0u32..3).prop_map(|(n, id)| classify(n, id)),
        (0u32..6, 0u8..6).prop_map(|(address, n)| locate(address, n)),
        (0u32..6, 0u32..3).prop_map(|(source, cause)| policy(source, cause)),
    ]
}

fn some_program() -> impl Strategy<Value = Program> {
    proptest::collection::vec(entry(), 0..20).prop_map(program)
}

proptest! {
    #[test]
    fn a_plan_applied_twice_is_empty(desired in some_program(), actual in some_program(),
                                     ports in btree_set(0u8..6, 0..6)) {
        let ports = Ports::Known(ports.into_iter().map(port).collect());
        let delta = plan(&desired, &actual, &ports);
        let mut reached = actual.clone();
        reached.apply(&delta);
        prop_assert!(plan(&desired, &reached, &ports).is_empty());
        // What is there then is what is wanted, without what waits for a port.
        let mut whole = reached.clone();
        for entry in held_back(&desired, &ports) {
            prop_assert!(whole.insert(entry.clone()).is_none());
        }
        prop_assert_eq!(whole, desired);
        // Nothing is named that need not change.
        for key in &delta.remove {
            prop_assert!(actual.get(key).is_some() && reached.get(key).is_none());
        }
        for entry in &delta.add {
            prop_assert!(actual.get(&entry.key) != Some(entry));
        }
    }
}

#[test]
fn a_large_plan_opens_ports_last_and_closes_them_first() {
    let count = MAX_STEP as u32 * 2;
    let desired = program((0..count).map(|n| policy(n, 1)).chain((0..5).map(|n| classify(n, 1))));
    let actual = program((0..count).map(|n| policy(n + count, 2)).chain((5..9).map(|n| classify(n, 1))));
    let delta = plan(&desired, &actual, &Ports::Any);
    let mut at = actual.clone();
    let list = steps(delta, Doors::Closed);
    assert!(list.len() >= 4);
    for (index, step) in list.iter().enumerate() {
        assert!(step.remove.len() + step.add.len() <= MAX_STEP);
        at.apply(step);
        let open = at.stage(OPENING).count();
        assert!(open == 0 || index + 1 == list.len(), "a port is open after step {index}");
    }
    assert_eq!(at, desired);
}

#[test]
fn nothing_is_cut_up_while_a_port_is_open() {
    let desired = program((0..MAX_STEP as u32 * 2).map(|n| policy(n, 1)));
    let delta = plan(&desired, &Program::new(), &Ports::Any);
    assert_eq!(steps(delta.clone(), Doors::Open), [delta]);
}
