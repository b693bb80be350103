//! R16: states that are written differently and say the same. Where only names differ the programs are the same to
//! the byte; where a policy is cut up differently the reference decides every flow alike (that programs agree with
//! the reference is `laws.rs`' matter).

use crate::common;
use bulkhead_compile::{Compiler, Numbers};
use bulkhead_pipeline::render_program;
use bulkhead_policy::{
    Change, Decision, Resource, State,
    arbitrary::{FlowSeed, flow_seed, key, resource, state, try_apply},
    model::{Direction, Peer, Policy, Rule, Subject, Workload, Zone},
    verdict,
};
use bulkhead_topology::{Labels, Requirement, Selector};
use proptest::{collection::vec, prelude::*};
use std::{collections::BTreeMap, sync::Arc};

fn programs(state: &State, numbers: Numbers) -> BTreeMap<String, String> {
    let compiler = Compiler::new(state, numbers).unwrap().0;
    let text = |name| (format!("{name}"), compiler.program(name).map(render_program).unwrap_or_default());
    state.switches.keys().map(text).collect()
}

/// Another word for a word of a label; words keep apart, their order changes.
fn word(word: &Arc<str>) -> Arc<str> {
    format!("x{}", word.chars().rev().collect::<String>()).into()
}

fn selector(selector: &Selector) -> Selector {
    Selector::new(selector.requirements().iter().map(|requirement| {
        Requirement::new(word(&requirement.key), requirement.operator, requirement.values().iter().map(word))
    }))
}

/// The state with other words in its labels and selectors.
fn reworded(state: &State) -> State {
    let rule = |rule: &Rule| {
        let peer = |peer: &Peer| match peer {
            Peer::Selector(all) => Peer::Selector(selector(all)),
            other => other.clone(),
        };
        Rule { peers: rule.peers.as_ref().map(|peers| peers.iter().map(peer).collect()), ..rule.clone() }
    };
    let change = |resource: Resource| {
        Change::set(match resource {
            Resource::Workload(workload) => {
                let labels: Labels = workload.labels.iter().map(|(key, value)| (word(key), word(value))).collect();
                Resource::Workload(Workload { labels: Arc::new(labels), ..(*workload).clone() }.into())
            }
            Resource::Zone(zone) => {
                Resource::Zone(Zone { selector: selector(&zone.selector), ..(*zone).clone() }.into())
            }
            Resource::Policy(policy) => {
                let subject = match &policy.subject {
                    Subject::Selector(all) => Subject::Selector(selector(all)),
                    zone => zone.clone(),
                };
                let [ingress, egress] =
                    [Direction::Ingress, Direction::Egress].map(|side| policy.rules(side).iter().map(rule).collect());
                Resource::Policy(Policy { subject, ingress, egress, ..(*policy).clone() }.into())
            }
            other => other,
        })
    };
    let mut reworded = State::default();
    reworded.apply(&state.resources().map(change).collect::<Vec<_>>());
    reworded
}

/// The state with other rules in its policies.
fn with_rules(state: &State, make: impl Fn(&[Rule]) -> Vec<Rule>) -> State {
    let policies = state.policies.values().map(|policy| {
        let [ingress, egress] = [Direction::Ingress, Direction::Egress].map(|side| make(policy.rules(side)));
        Change::set(Resource::Policy(Policy { ingress, egress, ..(**policy).clone() }.into()))
    });
    let changes: Vec<_> = policies.collect();
    let mut other = state.clone();
    other.apply(&changes);
    other
}

fn decisions(state: &State, flows: &[FlowSeed]) -> Vec<[Decision; 2]> {
    let decide = |seed: &FlowSeed| {
        let verdict = verdict(state, &seed.flow(state));
        [verdict.egress.decision(), verdict.ingress.decision()]
    };
    flows.iter().map(decide).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn r16_other_words_for_labels_make_the_same_bytes(state in state()) {
        let (other, same) = (programs(&reworded(&state), Numbers::default()), programs(&state, Numbers::default()));
        for (switch, program) in &same {
            prop_assert_eq!(common::difference(program, &other[switch]), "", "{}", switch);
        }
    }

    #[test]
    fn r16_the_order_of_documents_makes_no_difference(state in state(), order in vec(any::<u32>(), 64)) {
        let mut changes: Vec<_> = state.resources().map(Change::set).zip(order.iter().cycle()).collect();
        changes.sort_by_key(|(_, order)| **order);
        let changes: Vec<_> = changes.into_iter().map(|(change, _)| change).collect();
        let mut shuffled = State::default();
        shuffled.apply(&changes);
        prop_assert_eq!(programs(&shuffled, Numbers::default()), programs(&state, Numbers::default()));
        let (mut compiler, _) = Compiler::new(&State::default(), Numbers::default()).unwrap();
        compiler.apply(&changes).unwrap();
        let text = |name| (format!("{name}"), compiler.program(name).map(render_program).unwrap_or_default());
        let at_once: BTreeMap<_, _> = state.switches.keys().map(text).collect();
        prop_assert_eq!(at_once, programs(&state, Numbers::default()));
    }

    #[test]
    fn r16_what_is_added_and_removed_leaves_the_same_bytes(state in state(), more in vec(resource(), 1..4), gone in vec(key(), 0..3)) {
        let (mut compiler, _) = Compiler::new(&state, Numbers::default()).unwrap();
        let mut after = state.clone();
        let step: Vec<_> = more.into_iter().map(Change::set).chain(gone.into_iter().map(Change::remove)).collect();
        let value = |change: &Change| state.resources().find(|resource| resource.key() == change.key);
        let back: Vec<_> =
            step.iter().map(|change| Change { key: change.key.clone(), value: value(change) }).collect();
        prop_assume!(try_apply(&mut after, &step));
        compiler.apply(&step).unwrap();
        compiler.apply(&back).unwrap();
        let text = |name| (format!("{name}"), compiler.program(name).map(render_program).unwrap_or_default());
        let now: BTreeMap<_, _> = state.switches.keys().map(text).collect();
        prop_assert_eq!(now, programs(&state, compiler.numbers().clone()));
    }

    #[test]
    fn r16_the_order_of_rules_makes_no_difference(state in state(), flows in vec(flow_seed(), 24)) {
        let shuffled = with_rules(&state, |rules| rules.iter().rev().cloned().collect());
        prop_assert_eq!(decisions(&shuffled, &flows), decisions(&state, &flows));
    }

    #[test]
    fn r16_a_split_rule_decides_alike(state in state(), flows in vec(flow_seed(), 24)) {
        let split = with_rules(&state, |rules| rules.iter().flat_map(|rule| {
            let one = |peer: &Peer| Rule { peers: Some(vec![peer.clone()]), ..rule.clone() };
            match &rule.peers {
                Some(peers) if !peers.is_empty() => peers.iter().map(one).collect(),
                _ => vec![rule.clone()],
            }
        }).collect());
        prop_assert_eq!(decisions(&split, &flows), decisions(&state, &flows));
        let split = with_rules(&state, |rules| rules.iter().flat_map(|rule| match &rule.ports {
            Some(ports) if !ports.is_empty() => {
                ports.iter().map(|port| Rule { ports: Some(vec![port.clone()]), ..rule.clone() }).collect()
            }
            _ => vec![rule.clone()],
        }).collect());
        prop_assert_eq!(decisions(&split, &flows), decisions(&state, &flows));
    }
}
