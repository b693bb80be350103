//! The simulated switch: programs run in memory by the pipeline's interpreter, with a small connection
//! tracker. It says of itself that it is a simulator.
//!
//! [`Switch`] is the switch, [`Fabric`] all of them, [`run`] the task that carries out what the
//! controller asks, and [`chaos`] the trouble that may be put in between.

pub mod chaos;
mod driver;
mod switch;
mod tracker;

pub use driver::{Fabric, run};
pub use switch::Switch;
pub use tracker::{Headers, Tracker};
