//! What entries do to packets, as far as the order is concerned in which changes are made (ADR 8).

use crate::{
    entry::{Action, Entry, Next},
    stage::Stage,
};

/// The stage that lets packets in: without its entries nothing passes, whatever the others hold.
pub const OPENING: Stage = Stage::Classify;

/// What an entry does to a packet that it decides about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Ends it.
    Deny,
    /// Lets it past what is left of these stages, unchanged.
    Allow,
    /// Anything else: the packet is changed, sent, or judged by another stage of the same side.
    Other,
}

impl Entry {
    /// What it does to packets.
    pub fn effect(&self) -> Effect {
        match self.next {
            Next::Drop if self.actions.iter().all(Action::refuses) => Effect::Deny,
            Next::Stage(next) if self.actions.is_empty() && onward(self.key.stage) == Some(next) => Effect::Allow,
            _ => Effect::Other,
        }
    }
}

/// Where an allow of this stage leads, past all that is left of its side.
fn onward(stage: Stage) -> Option<Stage> {
    use Stage as S;
    match stage {
        S::Antispoof => Some(S::ArpNd),
        S::StagedEgressEmergency | S::StagedEgressPlatform | S::StagedEgressApplication | S::StagedEgressBaseline => {
            Some(S::EgressEmergency)
        }
        S::EgressEmergency | S::EgressPlatform | S::EgressApplication | S::EgressBaseline => Some(S::Spread),
        S::StagedIngressEmergency
        | S::StagedIngressPlatform
        | S::StagedIngressApplication
        | S::StagedIngressBaseline => Some(S::IngressEmergency),
        S::IngressEmergency | S::IngressPlatform | S::IngressApplication | S::IngressBaseline => Some(S::Verdict),
        S::Classify
        | S::Carry
        | S::ArpNd
        | S::Answer
        | S::SrcClass
        | S::DstClass
        | S::Locate
        | S::Track
        | S::Connection
        | S::Spread
        | S::Receive
        | S::Verdict
        | S::Fit
        | S::Deliver
        | S::TooBig => None,
    }
}
