//! What devices send us packets for: to tell their senders something, and to write lines about them. How often is bounded
//! here as well as by the device's meters, whatever a device does.

use crate::controller::{Refused, Told, Way};
use bulkhead_dataplane::{
    Allowance, LOGS_PER_SECOND, Logged, Report,
    reject::{REJECT_BYTES, REJECTS_PER_SECOND},
};
use bulkhead_p4runtime::{
    Info,
    proto::p4::v1::{PacketIn, PacketOut},
};
use bulkhead_pipeline::Packet;
use bulkhead_topology::Port;
use std::{mem, time::Duration};

/// A frame whose headers say more than there is would be none: so many bytes are made of it, which no IP packet and its
/// link header are longer than.
const WHOLE: usize = 0x1_0000 + 18;

/// What has been said and written lately.
#[derive(Debug)]
pub(crate) struct Errands {
    rejects: Allowance,
    logs: Allowance,
    /// Logged packets that were left out since the last that was reported.
    missed: u64,
}

impl Errands {
    /// Nothing has.
    pub fn new() -> Self {
        Self { rejects: Allowance::new(REJECTS_PER_SECOND), logs: Allowance::new(LOGS_PER_SECOND), missed: 0 }
    }

    /// What is to be sent because of a packet, and what is to be reported; nothing if it is none that the program would have
    /// sent, or one too many.
    pub fn packet(&mut self, packet: &PacketIn, info: &Info, now: Duration) -> (Option<PacketOut>, Vec<Report>) {
        let Some(told) = Told::of(&packet.metadata, info) else { return (None, Vec::new()) };
        let frame = packet.payload.get(..usize::from(REJECT_BYTES)).unwrap_or(&packet.payload);
        let sent = told.refused.as_ref().and_then(|refused| self.answer(refused, frame, info, now));
        (sent, self.lines(&told, frame, now))
    }

    fn answer(&mut self, refused: &Refused, frame: &[u8], info: &Info, now: Duration) -> Option<PacketOut> {
        if !self.rejects.take(now) {
            return None;
        }
        let (way, payload) = refused.answer(frame)?;
        Some(PacketOut { payload, metadata: way.metadata(info).ok()? })
    }

    fn lines(&mut self, told: &Told, frame: &[u8], now: Duration) -> Vec<Report> {
        let mut lines = Vec::new();
        let port = match told.came {
            Way::Port(number) => Port::Number(number),
            Way::Tunnel(header) => header.tunnel.port(),
        };
        // What cannot be read is no connection.
        if Packet::parse(port.clone(), frame).is_err() {
            return lines;
        }
        for (cause, dropped) in &told.lines {
            if !self.logs.take(now) {
                self.missed += 1;
                continue;
            }
            let mut whole = frame.to_vec();
            whole.resize(WHOLE, 0);
            let Ok(mut packet) = Packet::parse(port.clone(), &whole) else { break };
            packet.length = 0;
            let missed = mem::take(&mut self.missed);
            let logged = Logged { cause: *cause, dropped: *dropped, packet, missed };
            lines.push(Report::Logged(Box::new(logged)));
        }
        lines
    }

    /// The controller could not take a line.
    pub fn not_logged(&mut self, logged: &Logged) {
        self.missed = self.missed.saturating_add(logged.missed).saturating_add(1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
