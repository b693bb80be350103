//! What holds for every state and flow.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use crate::{arbitrary, enforces, model::*, state::*, verdict, verdict::*};
use bulkhead_topology::Name;
use proptest::{prelude::*, sample::Index};
use std::{collections::BTreeMap, sync::Arc};

/// Flows asked of each random state.
const FLOWS: usize = 16;

fn flows() -> impl Strategy<Value = Vec<arbitrary::FlowSeed>> {
    prop::collection::vec(arbitrary::flow_seed(), FLOWS)
}

fn answers(state: &State, flows: &[Flow]) -> Vec<Verdict> {
    flows.iter().map(|flow| verdict(state, flow)).collect()
}

/// `state` with one policy put in or replaced.
fn with(state: &State, policy: Policy) -> State {
    let mut state = state.clone();
    state.apply(&[Change::set(Resource::Policy(Arc::new(policy)))]);
    state
}

/// The verdict without the rule's index, which moves when rules are added before it.
fn without_index(mut verdict: Verdict) -> Verdict {
    for side in [&mut verdict.egress, &mut verdict.ingress] {
        if let SideVerdict::Rule { index, .. } = side {
            *index = 0;
        }
    }
    verdict
}

proptest! {
    #[test]
    fn the_order_of_insertion_does_not_matter(
        (state, order) in arbitrary::state().prop_flat_map(|state| {
            let changes: Vec<Change> = state.resources().map(Change::set).collect();
            (Just(state), Just(changes).prop_shuffle())
        }),
        seeds in flows(),
    ) {
        let flows: Vec<Flow> = seeds.iter().map(|seed| seed.flow(&state)).collect();
        let mut shuffled = State::default();
        for change in &order {
            shuffled.apply(std::slice::from_ref(change));
        }
        prop_assert_eq!(answers(&state, &flows), answers(&shuffled, &flows));
    }

    #[test]
    fn a_rule_that_matches_nothing_changes_nothing(
        state in arbitrary::state(),
        at in any::<Index>(),
        rule in arbitrary::rule(),
        no_peer in any::<bool>(),
        seeds in flows(),
    ) {
        prop_assume!(!state.policies.is_empty());
        let flows: Vec<Flow> = seeds.iter().map(|seed| seed.flow(&state)).collect();
        let policies: Vec<_> = state.policies.values().collect();
        let mut policy = (***at.get(&policies)).clone();
        let rule = if no_peer { Rule { peers: Some(vec![]), ..rule } } else { Rule { ports: Some(vec![]), ..rule } };
        policy.ingress.insert(at.index(policy.ingress.len() + 1), rule.clone());
        policy.egress.insert(at.index(policy.egress.len() + 1), Rule { priority: 0, ..rule });
        let more = with(&state, policy);
        let plain = |state| answers(state, &flows).into_iter().map(without_index).collect::<Vec<_>>();
        prop_assert_eq!(plain(&state), plain(&more));
    }

    #[test]
    fn reversing_rules_of_equal_priority_changes_no_decision(state in arbitrary::state(), seeds in flows()) {
        let flows: Vec<Flow> = seeds.iter().map(|seed| seed.flow(&state)).collect();
        let mut reversed = state.clone();
        for policy in state.policies.values() {
            let mut policy = (**policy).clone();
            policy.ingress.reverse();
            policy.egress.reverse();
            reversed = with(&reversed, policy);
        }
        let plain = |state| answers(state, &flows).into_iter().map(without_index).collect::<Vec<_>>();
        prop_assert_eq!(plain(&state), plain(&reversed));
    }

    #[test]
    fn a_staged_policy_is_as_good_as_none(state in arbitrary::state(), policy in arbitrary::policy(), seeds in flows()) {
        let flows: Vec<Flow> = seeds.iter().map(|seed| seed.flow(&state)).collect();
        let name = policy.name.clone();
        let staged = with(&state, Policy { staged: true, ..policy });
        let mut without = state;
        without.apply(&[Change::remove(Kind::Policy.named(&name))]);
        prop_assert_eq!(answers(&staged, &flows), answers(&without, &flows));
    }

    #[test]
    fn the_staged_verdict_is_that_of_the_same_policies_activated(state in arbitrary::state(), seeds in flows()) {
        let flows: Vec<Flow> = seeds.iter().map(|seed| seed.flow(&state)).collect();
        let mut activated = state.clone();
        for policy in state.policies.values() {
            activated = with(&activated, Policy { staged: false, ..(**policy).clone() });
        }
        let staged: Vec<Verdict> = flows.iter().map(|flow| verdict_staged(&state, flow)).collect();
        prop_assert_eq!(staged, answers(&activated, &flows));
    }

    #[test]
    fn who_enforces_hangs_on_its_own_zones_alone(state in arbitrary::state(), others in arbitrary::steps(1..6)) {
        let enforcing = |state: &State| -> BTreeMap<Name, bool> {
            state.workloads.values().map(|w| (w.name.clone(), enforces(state, w))).collect()
        };
        let before = enforcing(&state);
        let mut after = state.clone();
        for step in &others {
            // Other workloads, policies and so on may come and go; zones stay.
            let step: Vec<Change> = step.iter().filter(|change| change.key.kind != Kind::Zone).cloned().collect();
            arbitrary::try_apply(&mut after, &step);
        }
        for (name, enforces) in enforcing(&after) {
            let [was, is] = [&state, &after].map(|state| state.workloads.get(&name).map(|w| (&w.network, &w.labels)));
            if was == is {
                prop_assert_eq!(before.get(&name), Some(&enforces), "{}", name);
            }
        }
    }

    #[test]
    fn an_emergency_deny_of_everything_denies_everything(state in arbitrary::state(), seeds in flows()) {
        let deny = Rule { name: "".into(), action: Action::Deny, priority: 0, peers: None, ports: None, log: false };
        let shut = with(&state, Policy {
            name: "0-shut".parse().unwrap(),
            tier: Tier::Emergency,
            priority: 0,
            staged: false,
            stateful: false,
            subject: Subject::Selector(Default::default()),
            isolate: Sides::default(),
            ingress: vec![deny.clone()],
            egress: vec![deny],
        });
        for flow in seeds.iter().map(|seed| seed.flow(&shut)) {
            let found = verdict(&shut, &flow);
            for (side, end) in [(&found.egress, &flow.from), (&found.ingress, &flow.to)] {
                prop_assert_eq!(side.decision() == Decision::Deny, end.workload.is_some());
            }
        }
    }

    #[test]
    fn no_address_set_and_no_zone_widen_what_a_selector_of_nobody_allows(
        state in arbitrary::state(),
        seeds in flows(),
    ) {
        // Take away every named thing without asking: what policies name is then unresolvable. A rule that
        // cannot be resolved matches nothing, so whatever a rule decides now, it decides without that peer.
        let mut torn = state.clone();
        let gone: Vec<Change> = state.resources().map(|r| r.key())
            .filter(|key| matches!(key.kind, Kind::AddressSet | Kind::Zone)).map(Change::remove).collect();
        torn.apply(&gone);
        for flow in seeds.iter().map(|seed| seed.flow(&state)) {
            let found = verdict(&torn, &flow);
            for (side, direction) in [(found.egress, Direction::Egress), (found.ingress, Direction::Ingress)] {
                let SideVerdict::Rule { policy, index, .. } = side else { continue };
                let policy = &torn.policies[&policy];
                prop_assert!(!matches!(policy.subject, Subject::Zone(_)));
                let named = |peer: &Peer| matches!(peer, Peer::AddressSet(_) | Peer::Zone(_));
                let peers = &policy.rules(direction)[index].peers;
                prop_assert!(peers.as_ref().is_none_or(|peers| !peers.iter().all(named)));
            }
        }
    }
}

/// The generators reach every kind of answer and every kind of match often enough to mean something.
#[test]
fn the_generators_reach_every_answer() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut workloads, mut policies) = (0, 0);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..300 {
        let state = arbitrary::state().new_tree(&mut runner).unwrap().current();
        workloads += state.workloads.len();
        policies += state.policies.len();
        for seed in flows().new_tree(&mut runner).unwrap().current() {
            let flow = seed.flow(&state);
            let found = verdict(&state, &flow);
            for (side, direction) in [(found.egress, Direction::Egress), (found.ingress, Direction::Ingress)] {
                let what = match side {
                    SideVerdict::Rule { decision, tier, policy, index } => {
                        let rule = &state.policies[&policy].rules(direction)[index];
                        for port in rule.ports.iter().flatten() {
                            let kind = format!("{port:?}");
                            *seen.entry(kind.split([' ', '(']).next().unwrap().to_string()).or_default() += 1;
                        }
                        for peer in rule.peers.iter().flatten() {
                            let kind = format!("{peer:?}");
                            *seen.entry(kind.split('(').next().unwrap().to_string()).or_default() += 1;
                        }
                        format!("{tier:?} {decision:?}")
                    }
                    SideVerdict::Isolated { .. } => "isolated".into(),
                    SideVerdict::ZoneIsolated { .. } => "zone".into(),
                    SideVerdict::Default(decision) => format!("default {decision:?}"),
                    SideVerdict::Unmanaged => "unmanaged".into(),
                };
                *seen.entry(what).or_default() += 1;
            }
        }
    }
    let mut wanted: Vec<String> =
        ["isolated", "zone", "default Allow", "default Deny", "unmanaged"].map(Into::into).to_vec();
    for tier in Tier::ALL {
        wanted.extend(["Allow", "Deny", "Reject"].map(|decision| format!("{tier:?} {decision}")));
    }
    wanted.extend(["Selector", "Zone", "Network", "Cidr", "AddressSet", "External"].map(Into::into));
    wanted.extend(["Ports", "Named", "Icmp", "Protocol"].map(Into::into));
    let rare: Vec<_> = wanted.iter().filter(|what| seen.get(*what).is_none_or(|n| *n < 20)).collect();
    assert!(rare.is_empty(), "too rare: {rare:?} in {seen:#?}");
    assert!(workloads > 5 * 300 && policies > 4 * 300, "{workloads} workloads, {policies} policies in 300 states");
}
