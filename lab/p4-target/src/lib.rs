//! A P4Runtime device without a switch: it takes any program by its P4Info, checks all that it is sent as the
//! specification says (P4Runtime 1.4), keeps it, and answers. What becomes of packets is [`Forward`]'s.
//!
//! For tests and demonstrations, where no real switch is at hand; it keeps nothing when it ends.
//!
//! [`arbiter`], [`device`] and [`digests`] are without sockets and clocks; [`Target`] is the server around them.

pub mod arbiter;
pub mod device;
pub mod digests;

mod forward;
mod server;

pub use forward::{Forward, Idle, Told};
pub use server::Target;
