//! Forwarding in software: by Bulkhead's program alone, whose entries are lifted to entries of the pipeline, and whose
//! meaning is the pipeline's interpreter. What a packet has on its way is never half of a batch.

use crate::{Forward, Told, device::State};
use bulkhead_p4runtime::{
    Info,
    entry::Key,
    proto::p4::v1::{CounterData, PacketOut, Update},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::sync::mpsc;

mod frame;
mod tables;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

use tables::{Passed, Tables};

/// Most packets that wait for the controller, and most of its own that wait for their ports; more are lost.
const QUEUE: usize = 256;

/// What the controller has a device send: frames, and the ports that they leave by.
pub type Sent = mpsc::Receiver<(u32, Vec<u8>)>;

/// The forwarding side of a device that has Bulkhead's program. A handle that may be cloned: whoever has frames gives them
/// to [`Self::pass`].
#[derive(Debug, Clone)]
pub struct Software {
    tables: Arc<Mutex<Tables>>,
    told: mpsc::Sender<Told>,
    out: mpsc::Sender<(u32, Vec<u8>)>,
    began: Instant,
}

/// Nobody hears what it tells.
impl Default for Software {
    fn default() -> Self {
        Self::new().0
    }
}

impl Software {
    /// One without a program yet; what it tells the controller, for [`crate::Target::start`]; and what the controller has
    /// it send.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Told>, Sent) {
        let ((told, tells), (out, sends)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
        (Self { tables: Arc::default(), told, out, began: Instant::now() }, tells, sends)
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Nothing of it is wrong in between.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of an Ethernet frame, tags and all, that comes in at a port, from 1 on: at which port which frame comes
    /// out, if one does.
    #[must_use]
    pub fn pass(&self, port: u32, frame: &[u8]) -> Option<(u32, Vec<u8>)> {
        let Passed { out, told } = self.lock().pass(port, frame, self.began.elapsed())?;
        if let Some(packet) = told {
            // A controller that does not keep up misses some.
            let _ = self.told.try_send(Told::Packet(packet));
        }
        out
    }
}

impl Forward for Software {
    fn verify(&self, info: &Info, _: &[u8]) -> Result<(), String> {
        tables::verify(info)
    }

    fn takes(&self, info: &Info, update: &Update) -> Result<(), String> {
        tables::takes(info, update)
    }

    fn program(&mut self, state: &State, _: &[u8]) {
        *self.lock() = Tables::new(state);
    }

    fn changed(&mut self, state: &State, updates: &[Update]) {
        self.lock().changed(state, updates);
    }

    fn packet_out(&mut self, packet: PacketOut) {
        let sent = self.lock().leave(&packet);
        if let Some(sent) = sent {
            // Lost where nobody is plugged in, or too much is.
            let _ = self.out.try_send(sent);
        }
    }

    fn hits(&self, table: u32, key: &Key) -> CounterData {
        self.lock().hits(table, key)
    }

    fn count(&self, _: u32, _: u64) -> CounterData {
        // The program has no counters but those of entries.
        CounterData::default()
    }
}
