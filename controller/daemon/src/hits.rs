//! What rules are called, and what they matched.

use bulkhead_api::rule_name;
use bulkhead_compile::CauseName;
use bulkhead_pipeline::Cause;
use bulkhead_policy::{
    State,
    model::{Direction, Policy},
};
use bulkhead_runtime::Core;
use bulkhead_types::{Counter, RuleHits, SwitchHits};
use std::collections::BTreeMap;

/// A cause in the operator's words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) policy: Option<String>,
    direction: Option<Direction>,
    index: Option<usize>,
    pub(crate) name: String,
}

impl Rule {
    /// The rule that a cause stands for.
    pub(crate) fn of(core: &Core, state: &State, cause: Cause) -> Self {
        let builtin = |name: String| Self { policy: None, direction: None, index: None, name };
        match core.describe(cause) {
            Some(CauseName::Rule { policy, direction, index }) => {
                let rule = state.policies.get(&policy).and_then(|policy| policy.rules(direction).get(index));
                Self {
                    policy: Some(policy.to_string()),
                    direction: Some(direction),
                    index: Some(index),
                    name: rule_name(rule, direction, index),
                }
            }
            Some(CauseName::Isolation { policy }) => {
                Self { policy: Some(policy.to_string()), ..builtin("builtin/isolation".into()) }
            }
            Some(CauseName::Zone { zone }) => builtin(format!("builtin/zone-isolation ({zone})")),
            Some(CauseName::Default { network }) => builtin(format!("builtin/default ({network})")),
            // A rule that is gone may still be in a switch's counters.
            Some(CauseName::Builtin) | None => builtin(cause.to_string()),
        }
    }

    /// The policy and the rule, as one word.
    pub(crate) fn full(&self) -> String {
        match &self.policy {
            Some(policy) => format!("{policy}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// What every rule matched; of one policy only, and then also what did not match, if one is named.
pub(crate) fn hits(core: &Core, policy: Option<&str>) -> Vec<RuleHits> {
    let accepted = core.accepted();
    let state = &accepted.state;
    let mut by_rule: BTreeMap<Rule, BTreeMap<String, SwitchHits>> = BTreeMap::new();
    if let Some(policy) = policy.and_then(|name| state.policies.get(name)) {
        by_rule.extend(rules(policy).map(|rule| (rule, Default::default())));
    }
    for ((cause, drops), switches) in core.hits() {
        let rule = Rule::of(core, state, cause);
        if policy.is_some() && rule.policy.as_deref() != policy {
            continue;
        }
        let row = by_rule.entry(rule).or_default();
        for (switch, (packets, bytes)) in switches {
            let counter: &mut SwitchHits = row.entry(switch.to_string()).or_default();
            counter.packets = counter.packets.saturating_add(packets);
            counter.bytes = counter.bytes.saturating_add(bytes);
            counter.dropped = counter.dropped.saturating_add(if drops { packets } else { 0 });
        }
    }
    let answer = |(rule, switches): (Rule, BTreeMap<String, SwitchHits>)| RuleHits {
        policy: rule.policy,
        direction: rule.direction.map(|direction| direction.as_str().to_owned()),
        index: rule.index,
        rule: rule.name,
        total: switches.values().fold(Counter::default(), |sum, counter| Counter {
            packets: sum.packets.saturating_add(counter.packets),
            bytes: sum.bytes.saturating_add(counter.bytes),
        }),
        dropped: switches.values().fold(0, |sum: u64, counter| sum.saturating_add(counter.dropped)),
        switches,
    };
    by_rule.into_iter().map(answer).collect()
}

fn rules(policy: &Policy) -> impl Iterator<Item = Rule> {
    Direction::BOTH.into_iter().flat_map(move |direction| {
        policy.rules(direction).iter().enumerate().map(move |(index, rule)| Rule {
            policy: Some(policy.name.to_string()),
            direction: Some(direction),
            index: Some(index),
            name: rule_name(Some(rule), direction, index),
        })
    })
}
