//! Discovery of links between switches by LLDP (IEEE 802.1AB-2016), as a machine without I/O.
//!
//! ```text
//!   ports, connections, time --> Discovery --> frames to send
//!   frames that came ----------> Discovery --> who hears whom
//! ```
//!
//! Each port that nobody is attached to sends a probe now and then. A probe is an LLDP frame with a number that is used
//! once, under a digest whose key only this controller has. It is believed only if it was sent by a port a moment ago,
//! so that a frame that somebody made up, kept or changed says nothing.
//!
//! What no digest can tell is a cable from somebody who carries frames on between two ports that nobody is attached to.
//! Workloads cannot: their ports neither send probes nor are believed (the caller leaves them out).

mod frame;
mod machine;

pub use crate::graph::End;
pub use frame::{FRAME_MAX, Key, LldpError};
pub use machine::{Discovery, EVERY, HOLD_MOST, Heard, MAX_HEARD, PortView, SILENCE};

#[cfg(test)]
mod tests;
