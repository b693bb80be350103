//! Several hypervisors, with real packets: moves, faults, isolation, what is plugged in unasked, groups, many tunnels, and
//! documents that contradict each other. Passes over itself where there is no root or no Open vSwitch, and says so.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod doubled;
mod faults;
mod groups;
mod isolation;
mod kernel;
mod many;
mod moves;
mod outgrown;
mod plugged;
mod refused;
mod world;
