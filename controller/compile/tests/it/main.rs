//! Tests from outside, in one program: so they are linked once.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod capacity;
mod carried;
mod common;
mod edits;
mod goldens;
mod groups;
mod hostile;
#[path = "common/journey.rs"]
mod journey;
mod laws;
mod learn;
mod marks;
mod metamorphic;
mod numbers;
mod overlay;
mod stateless;
mod uplinks;
