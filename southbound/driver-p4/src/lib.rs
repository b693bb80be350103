//! Entries of the pipeline as entries of `southbound/p4`, and back.
//!
//! [`layout`] says what table, key and actions each stage has there; the tables of the P4 program are written from it
//! ([`source`]), and an entry is lowered and lifted by its names; [`plan`] orders the writes of a step, and
//! [`underlay`] is what stands beside the program, [`controller`] what goes with packets that a device cannot answer. All of that is pure.
//! What the layout has no room for is refused by name: nothing is left out in silence. [`driver`] is the task.

pub mod controller;
mod device;
pub mod driver;
mod errands;
pub mod layout;
mod lift;
mod lower;
mod places;
pub mod plan;
mod shape;
mod sizes;
pub mod source;
pub mod underlay;

/// The P4Info of `southbound/p4`, as text: what p4c says of the program.
pub const P4INFO: &str = include_str!("../../p4/bulkhead.p4info.txtpb");
/// What BMv2 loads: the program as p4c compiles it for that switch.
pub const BMV2: &[u8] = include_bytes!("../../p4/bulkhead.json");

pub use lift::{LiftError, lift, lift_any};
pub use lower::{LowerError, lower};
pub use places::Places;
pub use shape::shape;
pub use sizes::{TooMany, fits};
