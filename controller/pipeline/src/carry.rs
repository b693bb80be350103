//! What a packet looks like on its way between the switches of a fabric (ADR 13).
//!
//! It has a VLAN tag with the number of the edge that it is for, and its Ethernet source says what an overlay's header
//! would: the network, the edge that it comes from, and how far it has come.

use crate::{field::Field, packet::Packet};
use bulkhead_topology::Port;

/// What [`Field::OutTunnel`] says of packets that leave for another edge of the fabric.
pub const CARRIED: u128 = 3;
/// The greatest number of an edge: VLAN ids are 1 to 4094 (IEEE 802.1Q §9.6).
pub const MAX_EDGE: u32 = 4094;
/// How many epochs there are; after the last one comes the first again.
pub const EPOCHS: u32 = 16;

/// Bits of the Ethernet source of a packet between switches. The first byte is that of a locally administered address
/// of one station (IEEE 802 §8.4).
pub mod source {
    /// Locally administered.
    pub const LOCAL: u128 = 0x02 << 40;
    /// The edge that it comes from has seen its connection allowed: it is an answer there.
    pub const REPLY: u128 = 0x04 << 40;
    /// It goes down, and never up again.
    pub const DOWN: u128 = 0x08 << 40;
    /// The order that it goes up and down by.
    pub const EPOCH: u128 = 0xf0 << 40;
    /// It goes from one subnet to another: the edge that it is for does what a gateway does.
    pub const ROUTED: u128 = 0x8000 << 24;
    /// The number of the edge that it comes from.
    pub const EDGE: u128 = 0xfff << 24;
    /// The network's VNI.
    pub const VNI: u128 = 0xff_ffff;
}

/// The bits of an epoch.
pub const fn epoch(number: u32) -> u128 {
    (number % EPOCHS) as u128 * (source::EPOCH & source::EPOCH.wrapping_neg())
}

/// The bits of an edge's number.
pub const fn edge(number: u32) -> u128 {
    (number as u128) << 24 & source::EDGE
}

/// What a packet that left a switch by a link looks like where it arrives, by `port` there: without what only the
/// sending switch knew.
pub fn arrive(sent: &Packet, port: Port) -> Packet {
    let mut packet = sent.clone();
    packet.in_port = port;
    for field in Field::ALL.into_iter().filter(|f| f.is_metadata() || f.is_tunnel() || *f == Field::Conn) {
        packet.set(field, 0);
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_a_source_are_an_address() {
        let whole = [source::EDGE, source::VNI, source::EPOCH];
        let parts = [source::LOCAL, source::REPLY, source::DOWN, source::ROUTED].into_iter().chain(whole);
        assert_eq!(parts.clone().map(u128::count_ones).sum::<u32>(), 44);
        assert_eq!(parts.fold(0, |all, part| all | part), 0xfe8f_ffff_ffff);
        assert_eq!(epoch(17), 0x10 << 40);
        assert_eq!(epoch(15), source::EPOCH);
        assert_eq!(edge(MAX_EDGE), 0x0ffe << 24);
    }
}
