//! Tests from outside, in one program: so they are linked once.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod deltas;
mod docs;
mod fabric;
mod stateless;
mod tunnels;
mod wire;
