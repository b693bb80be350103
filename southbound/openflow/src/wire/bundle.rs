//! Bundles: changes that happen together or not at all (OF 1.4.1 §7.3.9, as the ONF's extension for 1.3).

use super::{Put, Reader, wire_enum};
use crate::error::DecodeError;

/// Experimenter type of [`BundleControl`].
pub const CONTROL: u32 = 2300;
/// Experimenter type of a message that is added to a bundle.
pub const ADD: u32 = 2301;

/// `ofp_bundle_flags`.
pub mod flags {
    /// All or nothing, and no packet sees half of it.
    pub const ATOMIC: u16 = 1;
    /// In the order of adding.
    pub const ORDERED: u16 = 2;
}

wire_enum! {
    /// What is done with a bundle.
    BundleStep: u16 {
        /// Begin one.
        OpenRequest = 0,
        /// It is begun.
        OpenReply = 1,
        /// Take no more messages.
        CloseRequest = 2,
        /// It takes no more.
        CloseReply = 3,
        /// Apply it.
        CommitRequest = 4,
        /// It is applied.
        CommitReply = 5,
        /// Forget it.
        DiscardRequest = 6,
        /// It is forgotten.
        DiscardReply = 7,
    }
}

/// A request about a bundle, or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleControl {
    /// The bundle's number, the controller's choice.
    pub id: u32,
    /// What is done.
    pub step: BundleStep,
    /// [`flags`], the same in all of a bundle's messages.
    pub flags: u16,
}

impl BundleControl {
    /// Appends what follows the experimenter's header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.id);
        out.put_u16(self.step.number());
        out.put_u16(self.flags);
    }

    /// Reads what follows the experimenter's header; properties are passed over.
    pub fn decode(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: r.u32()?, step: BundleStep::from_number(r.u16()?)?, flags: r.u16()? })
    }
}
