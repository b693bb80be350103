//! A stand-in for a P4 switch: it takes a program by its P4Info, checks all that it is sent as the specification says
//! (P4Runtime 1.4), keeps it, and answers. What becomes of packets is [`Forward`]'s: nothing with [`Idle`], which takes any
//! program; what Bulkhead's program says with [`Software`].
//!
//! For tests and laboratories, where no real switch is at hand; it keeps nothing when it ends.
//!
//! [`arbiter`], [`device`] and [`digests`] are without sockets and clocks; [`Target`] is the server around them.

pub mod arbiter;
pub mod device;
pub mod digests;

mod forward;
mod server;
mod software;

pub use forward::{Forward, Idle, Told};
pub use server::Target;
pub use software::{Sent, Software};
