//! A flow of ours, between the pipeline's entries and OpenFlow's messages.

use bulkhead_openflow::wire::{instruction::Instruction, oxm::Match};

/// What makes a flow unique in a switch (OF 1.3.5 §6.4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    /// The table.
    pub table: u8,
    /// Higher wins.
    pub priority: u16,
    /// What it matches.
    pub matches: Match,
}

/// One flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Table, priority and match.
    pub key: FlowKey,
    /// Whose it is and why it is there, see [`crate::layout::Cookie`].
    pub cookie: u64,
    /// What it does.
    pub instructions: Vec<Instruction>,
}
