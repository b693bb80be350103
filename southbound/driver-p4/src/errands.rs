//! What devices send us packets for: to tell their senders something. How often is bounded here as well as by the device's
//! meter, whatever a device does.

use crate::controller::Refused;
use bulkhead_dataplane::{
    Allowance,
    reject::{REJECT_BYTES, REJECTS_PER_SECOND},
};
use bulkhead_p4runtime::{
    Info,
    proto::p4::v1::{PacketIn, PacketOut},
};
use std::time::Duration;

/// What has been said lately.
#[derive(Debug)]
pub(crate) struct Errands {
    rejects: Allowance,
}

impl Errands {
    /// Nothing has.
    pub fn new() -> Self {
        Self { rejects: Allowance::new(REJECTS_PER_SECOND) }
    }

    /// What is to be sent because of a packet; nothing if it is none that the program would have sent, or one too many.
    pub fn packet(&mut self, packet: &PacketIn, info: &Info, now: Duration) -> Option<PacketOut> {
        if !self.rejects.take(now) {
            return None;
        }
        let refused = Refused::of(&packet.metadata, info)?;
        let frame = packet.payload.get(..usize::from(REJECT_BYTES)).unwrap_or(&packet.payload);
        let (way, payload) = refused.answer(frame)?;
        Some(PacketOut { payload, metadata: way.metadata(info).ok()? })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
