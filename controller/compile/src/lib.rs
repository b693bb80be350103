//! From the state to every switch's program, incrementally.
//!
//! The compiler keeps who is selected by what ([`index`]) and, for each switch, entries by the unit that
//! they come from ([`switch`]). A change makes units dirty, dirty units are made anew, and what differs
//! is the delta. Compiling from nothing is the same code with everything dirty.

mod builtin;
mod carrier;
mod census;
mod compiler;
mod dirty;
mod fabric;
mod index;
mod numbers;
mod order;
mod rule;
mod service;
mod set;
mod switch;

pub use carrier::Heading;
pub use compiler::{CauseName, Compiled, Compiler};
pub use numbers::Numbers;

/// A change that would need more than a limit allows; nothing of it was carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {size}, but at most {limit} fit")]
pub struct TooLarge {
    /// What would be too large.
    pub what: String,
    /// Its predicted size.
    pub size: u64,
    /// The limit.
    pub limit: u64,
}
