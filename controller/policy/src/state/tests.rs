#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use super::*;
use crate::{arbitrary, diagnostic::Severity};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// The state that the same resources make when they are taken in from nothing.
fn rebuilt(state: &State) -> State {
    let mut fresh = State::default();
    let all: Vec<Change> = state.resources().map(Change::set).collect();
    fresh.apply(&all);
    fresh
}

proptest! {
    #[test]
    fn the_indexes_are_a_function_of_the_resources(steps in arbitrary::steps(0..60)) {
        let mut state = State::default();
        for step in &steps {
            let before = state.clone();
            if !arbitrary::try_apply(&mut state, step) {
                prop_assert_eq!(&before, &state);
            }
            prop_assert_eq!(&rebuilt(&state).index, &state.index);
        }
    }

    #[test]
    fn what_was_accepted_is_valid_from_nothing(state in arbitrary::state()) {
        let all: Vec<Change> = state.resources().map(Change::set).collect();
        let errors = |found: Vec<crate::Diagnostic>| -> Vec<_> {
            found.into_iter().filter(|d| d.severity == Severity::Error).collect()
        };
        prop_assert_eq!(errors(State::default().check(&all)), vec![]);
        // Saying the same again finds nothing new to object to.
        prop_assert_eq!(errors(state.check(&all)), vec![]);
        // All of it can go at once, in any order, and leaves nothing behind.
        let none: Vec<Change> = all.iter().map(|c| Change::remove(c.key.clone())).collect();
        prop_assert_eq!(errors(state.check(&none)), vec![]);
        let mut state = state;
        state.apply(&none);
        prop_assert_eq!(&state.index, &Index::default());
    }

    /// Cost follows the change, but the answer is that of looking at everything.
    #[test]
    fn a_step_is_refused_just_if_its_outcome_is_refused_whole(
        state in arbitrary::state(),
        steps in arbitrary::steps(1..8),
    ) {
        let mut state = state;
        for step in &steps {
            let mut keys: Vec<_> = step.iter().map(|c| &c.key).collect();
            keys.sort();
            keys.dedup();
            if keys.len() < step.len() {
                continue;
            }
            let mut after = state.clone();
            after.apply(step);
            let all: Vec<Change> = after.resources().map(Change::set).collect();
            let refused = |found: &[crate::Diagnostic]| found.iter().any(|d| d.severity == Severity::Error);
            let (narrow, whole) = (state.check(step), State::default().check(&all));
            prop_assert_eq!(refused(&narrow), refused(&whole), "{:?} against {:?}", narrow, whole);
            if !refused(&narrow) {
                state = after;
            }
        }
    }

    #[test]
    fn the_order_inside_a_step_does_not_matter(state in arbitrary::state(), step in prop::collection::vec(arbitrary::change(), 0..6)) {
        let mut reversed = step.clone();
        reversed.reverse();
        prop_assert_eq!(state.check(&step), state.check(&reversed));
        let (mut a, mut b) = (state.clone(), state);
        if arbitrary::try_apply(&mut a, &step) {
            b.apply(&reversed);
            prop_assert_eq!(&a, &b);
            prop_assert_eq!(&a.index, &b.index);
        }
    }

    #[test]
    fn an_address_finds_its_workload(state in arbitrary::state()) {
        for w in state.workloads.values() {
            for interface in &w.interfaces {
                for ip in &interface.ips {
                    prop_assert_eq!(state.workload_at(&w.network, *ip), Some(w));
                }
                let at = state.attachment(w, interface);
                prop_assert!(interface.attachment.is_none() || at == interface.attachment);
                if let Some(at) = at {
                    prop_assert_eq!(state.workload_on(&at), Some(w));
                }
            }
        }
    }

    /// Only a free port's observed interface counts.
    #[test]
    fn nobody_is_at_two_places_and_no_place_has_two(state in arbitrary::state()) {
        let mut taken: BTreeSet<Attachment> = BTreeSet::new();
        for network in state.networks.values() {
            taken.extend(network.uplinks.iter().map(|uplink| uplink.at.clone()));
        }
        for w in state.workloads.values() {
            for interface in &w.interfaces {
                if let Some(at) = state.attachment(w, interface) {
                    prop_assert!(taken.insert(at.clone()), "{at:?} twice");
                }
            }
        }
    }
}
