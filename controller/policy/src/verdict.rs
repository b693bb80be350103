//! The reference semantics: slow, obvious, pure.

use crate::{
    model::{Action, Direction, Tier},
    state::State,
};
use bulkhead_topology::Name;
use std::{net::IpAddr, sync::Arc};

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

/// One end of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub ip: IpAddr,
    /// The workload of the flow's network that has the address, if any.
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
    let _ = (state, flow, Direction::BOTH, Action::Allow, Arc::<str>::from(""));
    Verdict { decision: Decision::Deny, egress: SideVerdict::Unmanaged, ingress: SideVerdict::Unmanaged }
}
