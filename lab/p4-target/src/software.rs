//! Forwarding in software: by Bulkhead's program alone, whose entries are lifted to entries of the pipeline, and whose
//! meaning is the pipeline's interpreter. What a packet has on its way is never half of a batch.

use crate::{Forward, device::State};
use bulkhead_p4runtime::{
    Info,
    entry::Key,
    proto::p4::v1::{CounterData, PacketOut, Update},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod frame;
mod tables;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

use tables::Tables;

/// The forwarding side of a device that has Bulkhead's program. A handle that may be cloned: whoever has frames gives them
/// to [`Self::pass`].
#[derive(Debug, Clone, Default)]
pub struct Software {
    tables: Arc<Mutex<Tables>>,
}

impl Software {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Nothing of it is wrong in between.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of an Ethernet frame, tags and all, that comes in at a port, from 1 on: at which port which frame comes
    /// out, if one does.
    #[must_use]
    pub fn pass(&self, port: u32, frame: &[u8]) -> Option<(u32, Vec<u8>)> {
        self.lock().pass(port, frame)
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

    fn packet_out(&mut self, _: PacketOut) {
        // The program has no header that would say where it is to go.
    }

    fn hits(&self, table: u32, key: &Key) -> CounterData {
        self.lock().hits(table, key)
    }

    fn count(&self, _: u32, _: u64) -> CounterData {
        // The program has no counters but those of entries.
        CounterData::default()
    }
}
