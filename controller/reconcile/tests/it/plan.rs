//! Plans turn what is there into what is wanted, and then have nothing left to say.

use crate::common;
use bulkhead_pipeline::{Cause, Delta, Entry, Field, Match, Next, OPENING, Program, Stage};
use bulkhead_reconcile::{BOUNDS, Ports, held_back, plan, steps};
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
    let count = BOUNDS.whole as u32 * 2;
    let desired = program((0..count).map(|n| policy(n, 1)).chain((0..5).map(|n| classify(n, 1))));
    let actual = program((0..count).map(|n| policy(n + count, 2)).chain((5..9).map(|n| classify(n, 1))));
    let delta = plan(&desired, &actual, &Ports::Any);
    let mut at = actual.clone();
    let list = steps(&actual, &desired, delta, BOUNDS);
    assert!(list.len() >= 8);
    for (index, step) in list.iter().enumerate() {
        assert!(step.remove.len() + step.add.len() <= BOUNDS.chunk);
        at.apply(step);
        let open = at.stage(OPENING).count();
        assert!(open == 0 || index + 1 == list.len(), "a port is open after step {index}");
    }
    assert_eq!(at, desired);
}

#[test]
fn a_plan_of_ordinary_size_is_one_step() {
    let desired = program((0..BOUNDS.whole as u32).map(|n| policy(n, 1)));
    let delta = plan(&desired, &Program::new(), &Ports::Any);
    assert_eq!(steps(&Program::new(), &desired, delta.clone(), BOUNDS), [delta]);
}

#[test]
fn while_a_port_is_open_what_narrows_goes_before_what_widens() {
    let count = BOUNDS.whole as u32;
    let deny = |n| {
        Entry::new(Stage::EgressPlatform, 9, Match::any().with(Field::SrcId, n), vec![], Next::Drop, Cause::Rule(3))
    };
    let actual = program((0..count).map(|n| policy(n, 1)).chain((0..count).map(deny)).chain([classify(1, 1)]));
    let desired =
        program((count..2 * count).map(|n| policy(n, 1)).chain((count..2 * count).map(deny)).chain([classify(1, 2)]));
    let list = steps(&actual, &desired, plan(&desired, &actual, &Ports::Any), BOUNDS);
    let open = |delta: &Delta| delta.add.iter().any(|entry| entry.key.stage == OPENING);
    let core = list.iter().position(open).unwrap();
    assert_eq!(list[core].add.len() + list[core].remove.len(), 1, "another id is neither wider nor narrower");
    let stage = |delta: &Delta| (delta.add.first().map(|e| e.key.stage), delta.remove.first().map(|key| key.stage));
    for (index, step) in list.iter().enumerate() {
        let (added, removed) = stage(step);
        let [widens, narrows] = [
            added == Some(Stage::EgressApplication) || removed == Some(Stage::EgressPlatform),
            removed == Some(Stage::EgressApplication) || added == Some(Stage::EgressPlatform),
        ];
        assert!(if index < core { !widens } else { !narrows }, "step {index}");
        assert!(step.add.len() + step.remove.len() <= BOUNDS.chunk);
    }
}
