//! Desired against actual: what a switch still needs, in which steps, and how far it has come.
//!
//! [`plan`] is the pure difference of two programs. [`Machine`] is one switch's life: it is fed what
//! happens and the time, and says what to ask of the switch. It knows neither why an entry is wanted nor
//! how one is encoded.

mod expected;
mod machine;
mod order;
mod plan;

pub use machine::{Input, Machine, Output, Progress};
pub use order::{BOUNDS, Bounds, steps};
pub use plan::{Ports, held_back, plan};
