//! The reference semantics: slow, obvious, pure.

use crate::{
    matching::{RuleOrder, rule_matches, subject_selects, zones_of},
    model::{Action, DefaultAction, Direction, Policy, Tier, Workload},
    state::State,
};
use bulkhead_topology::Name;
use std::{net::IpAddr, sync::Arc};

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

/// What a flow asks for at its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// A protocol with ports (6, 17, 132) and the destination port.
    Port {
        /// IP protocol number.
        protocol: u8,
        /// Destination port.
        port: u16,
    },
    /// An ICMP (1) or ICMPv6 (58) message.
    Icmp {
        /// IP protocol number, 1 or 58.
        protocol: u8,
        /// Message type.
        icmp_type: u8,
        /// Message code.
        code: u8,
    },
    /// Any other protocol.
    Protocol(u8),
}

impl Service {
    /// Its IP protocol number.
    pub fn protocol(self) -> u8 {
        match self {
            Self::Port { protocol, .. } | Self::Icmp { protocol, .. } | Self::Protocol(protocol) => protocol,
        }
    }
}

/// One end of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub ip: IpAddr,
    /// The workload of the flow's network that has the address, if any. A name that no workload of that
    /// network has counts as none.
    pub workload: Option<Name>,
}

/// A new connection, as the first packet shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// The network it is in.
    pub network: Name,
    /// Where it comes from.
    pub from: Endpoint,
    /// Where it goes.
    pub to: Endpoint,
    /// What it asks for.
    pub service: Service,
}

impl Flow {
    /// The flow between two addresses of `network`, with the workloads that have them.
    pub fn between(state: &State, network: &Name, from: IpAddr, to: IpAddr, service: Service) -> Self {
        let end = |ip| Endpoint { ip, workload: state.workload_at(network, ip).map(|w| w.name.clone()) };
        Self { network: network.clone(), from: end(from), to: end(to), service }
    }
}

/// What becomes of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// It passes.
    Allow,
    /// It is dropped.
    Deny,
    /// It is dropped and the sender is told.
    Reject,
}

/// Why a side decided as it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SideVerdict {
    /// The side is no managed workload: it has no policy of its own (allow).
    Unmanaged,
    /// A rule of a policy decided.
    Rule {
        /// The decision.
        decision: Decision,
        /// The policy's tier.
        tier: Tier,
        /// The policy.
        policy: Name,
        /// Index among the policy's rules of this direction.
        index: usize,
    },
    /// End of the application tier: a policy isolates the workload (deny). The first such policy by
    /// priority, then name.
    Isolated {
        /// The isolating policy.
        policy: Name,
    },
    /// No policy decided, and a zone isolates the workload (deny). The first such zone by name.
    ZoneIsolated {
        /// The zone.
        zone: Name,
    },
    /// The network's `defaultAction`.
    Default(Decision),
}

impl SideVerdict {
    /// What it comes to.
    pub fn decision(&self) -> Decision {
        match self {
            Self::Unmanaged => Decision::Allow,
            Self::Rule { decision, .. } | Self::Default(decision) => *decision,
            Self::Isolated { .. } | Self::ZoneIsolated { .. } => Decision::Deny,
        }
    }
}

/// The answer of the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of the flow: egress decides first, then ingress.
    pub decision: Decision,
    /// The source's side.
    pub egress: SideVerdict,
    /// The destination's side.
    pub ingress: SideVerdict,
}

/// What the policies of `state` say about `flow`, enforcement modes and staged policies left aside.
pub fn verdict(state: &State, flow: &Flow) -> Verdict {
    judge(state, flow, Asked::Active)
}

/// What [`verdict`] would say if every staged policy were active: they are judged together with the active ones, in
/// the one order of all. A staged rule decides where it comes first; only then does it count a hit.
pub fn verdict_staged(state: &State, flow: &Flow) -> Verdict {
    judge(state, flow, Asked::Staged)
}

/// What becomes of a copy of a packet to a group that `flow`'s network asks for ([`crate::model::Network::multicast`]):
/// the group's address is at `flow.to`, and `receiver` is a workload of the network. The sender's side is judged once,
/// towards the group as towards any address of no workload; each receiver's as if the packet had come to it alone.
pub fn verdict_of_copy(state: &State, flow: &Flow, receiver: &Name) -> Verdict {
    let at_receiver = Flow { to: Endpoint { ip: flow.to.ip, workload: Some(receiver.clone()) }, ..flow.clone() };
    let egress = side(state, flow, Direction::Egress, Asked::Active);
    let ingress = side(state, &at_receiver, Direction::Ingress, Asked::Active);
    Verdict { decision: both(&egress, &ingress), egress, ingress }
}

/// Egress decides first, then ingress.
fn both(egress: &SideVerdict, ingress: &SideVerdict) -> Decision {
    match egress.decision() {
        Decision::Allow => ingress.decision(),
        refused => refused,
    }
}

/// Which policies are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Those in force.
    Active,
    /// The staged ones too.
    Staged,
}

fn judge(state: &State, flow: &Flow, asked: Asked) -> Verdict {
    let egress = side(state, flow, Direction::Egress, asked);
    let ingress = side(state, flow, Direction::Ingress, asked);
    Verdict { decision: both(&egress, &ingress), egress, ingress }
}

/// What the workload that sends (egress) or receives (ingress) says about `flow`.
fn side(state: &State, flow: &Flow, direction: Direction, asked: Asked) -> SideVerdict {
    let (own, other) = match direction {
        Direction::Egress => (&flow.from, &flow.to),
        Direction::Ingress => (&flow.to, &flow.from),
    };
    let Some(workload) = managed(state, flow, own) else {
        return SideVerdict::Unmanaged;
    };
    let peer = (other.ip, managed(state, flow, other));
    let service = (flow.service, managed(state, flow, &flow.to));

    let mut passed_application = false;
    for tier in Tier::ALL {
        if tier == Tier::Baseline
            && !passed_application
            && let Some(policy) = isolating(state, workload, direction, asked)
        {
            return SideVerdict::Isolated { policy: policy.name.clone() };
        }
        let deciding = policies_of(state, workload, asked)
            .filter(|policy| policy.tier == tier)
            .flat_map(|policy| {
                policy.rules(direction).iter().enumerate().map(move |(index, rule)| (policy, index, rule))
            })
            .filter(|(_, _, rule)| rule_matches(state, rule, &flow.network, peer, service))
            .map(|(policy, index, rule)| RuleOrder {
                priority: policy.priority,
                rule_priority: rule.priority,
                action: rule.action,
                policy: policy.name.clone(),
                index,
            })
            .min();
        let Some(RuleOrder { action, policy, index, .. }) = deciding else {
            continue;
        };
        let decision = match action {
            Action::Allow => Decision::Allow,
            Action::Deny => Decision::Deny,
            Action::Reject => Decision::Reject,
            Action::Pass => {
                passed_application |= tier == Tier::Application;
                continue;
            }
        };
        return SideVerdict::Rule { decision, tier, policy, index };
    }

    if let Some(zone) = zones_of(state, workload).find(|zone| zone.isolate.get(direction)) {
        return SideVerdict::ZoneIsolated { zone: zone.name.clone() };
    }
    // A workload whose network is not there is denied: what is missing never widens access.
    SideVerdict::Default(match state.networks.get(&flow.network).map(|network| network.default_action) {
        Some(DefaultAction::Allow) => Decision::Allow,
        Some(DefaultAction::Deny) | None => Decision::Deny,
    })
}

/// The workload at one end of `flow`, if it is one of the flow's network.
fn managed<'a>(state: &'a State, flow: &Flow, end: &Endpoint) -> Option<&'a Workload> {
    let workload = state.workloads.get(end.workload.as_ref()?)?;
    (workload.network == flow.network).then_some(workload)
}

/// The policies that are asked and are about `workload`.
fn policies_of<'a>(state: &'a State, workload: &'a Workload, asked: Asked) -> impl Iterator<Item = &'a Arc<Policy>> {
    let policies = state.policies.values().filter(move |policy| !policy.staged || asked == Asked::Staged);
    policies.filter(|policy| subject_selects(state, &policy.subject, workload))
}

/// The first policy, by priority and name, that isolates `workload` at the end of the application tier.
fn isolating<'a>(
    state: &'a State,
    workload: &'a Workload,
    direction: Direction,
    asked: Asked,
) -> Option<&'a Arc<Policy>> {
    policies_of(state, workload, asked)
        .filter(|policy| policy.tier == Tier::Application && policy.isolate.get(direction))
        .min_by_key(|policy| (policy.priority, &policy.name))
}
