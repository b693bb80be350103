//! What moves packets by the entities that the device keeps.

use crate::device::State;
use bulkhead_p4runtime::{
    Info,
    entry::Key,
    proto::p4::v1::{CounterData, P4Data, PacketIn, PacketOut, Update},
};

/// The forwarding side of a device.
pub trait Forward: Send + std::fmt::Debug {
    /// Whether it could run this program.
    ///
    /// # Errors
    /// Why not, for people.
    fn verify(&self, info: &Info, device_config: &[u8]) -> Result<(), String>;

    /// Whether it can do what an update asks for, which the specification lets a device refuse (P4Runtime §12).
    ///
    /// # Errors
    /// Why not, for people.
    fn takes(&self, _info: &Info, _update: &Update) -> Result<(), String> {
        Ok(())
    }

    /// The program is another one from now on; `state` is all that it begins with.
    fn program(&mut self, state: &State, device_config: &[u8]);

    /// These updates were done, in this order, and `state` is what they came to. Packets see all of them or none.
    fn changed(&mut self, state: &State, updates: &[Update]);

    /// The controller sends a packet. Its metadata fits the program.
    fn packet_out(&mut self, packet: PacketOut);

    /// What an entry counted since it was inserted.
    fn hits(&self, table: u32, key: &Key) -> CounterData;

    /// What a counter of an array counted since the program was set.
    fn count(&self, counter: u32, index: u64) -> CounterData;
}

/// What the forwarding side tells the controller.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// A packet.
    Packet(PacketIn),
    /// A digest.
    Digest {
        /// Which.
        digest: u32,
        /// What it says.
        data: P4Data,
    },
}

/// No forwarding at all: there are no ports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Idle;

impl Forward for Idle {
    fn verify(&self, _: &Info, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn program(&mut self, _: &State, _: &[u8]) {}

    fn changed(&mut self, _: &State, _: &[Update]) {}

    fn packet_out(&mut self, _: PacketOut) {}

    fn hits(&self, _: u32, _: &Key) -> CounterData {
        CounterData::default()
    }

    fn count(&self, _: u32, _: u64) -> CounterData {
        CounterData::default()
    }
}
