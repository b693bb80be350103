//! Tests from outside, in one program: so they are linked once.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod fabric;
mod generate;
mod options;
mod ovs;
mod packets;
mod rig;
mod round_trip;
mod tls;
mod tunnels;
