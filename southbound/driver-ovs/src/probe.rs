//! Probes of tunnels: small Ethernet frames between switches, of a type of their own, that say nothing but a token.
//!
//! A token is a random number that its receiver's controller knows as the one that it had sent; nobody in the underlay
//! can make one up.

use bulkhead_pipeline::overlay::{GATEWAY_MAC, PROBE_ETHERTYPE};

/// Says that the frame is ours: the ethertype is anybody's for experiments.
const MAGIC: &[u8; 8] = b"bulkhead";
/// Where the token is: behind addresses, ethertype, and what says that the frame is ours.
const TOKEN: usize = 14 + MAGIC.len();
/// The shortest frame (IEEE 802.3 §4.4.2), without checksum.
const SHORTEST: usize = 60;

/// The frame with a token.
pub(crate) fn frame(token: u64) -> Vec<u8> {
    let mac = GATEWAY_MAC.0;
    let kind = (PROBE_ETHERTYPE as u16).to_be_bytes();
    let mut frame = [&mac[..], &mac, &kind, MAGIC, &token.to_be_bytes()].concat();
    frame.resize(SHORTEST, 0);
    frame
}

/// The token of a frame that is a probe.
pub(crate) fn token(frame: &[u8]) -> Option<u64> {
    let said = frame.get(12..TOKEN)?;
    let ours = said == [&(PROBE_ETHERTYPE as u16).to_be_bytes()[..], MAGIC].concat();
    let token = frame.get(TOKEN..)?.first_chunk()?;
    ours.then_some(u64::from_be_bytes(*token))
}
