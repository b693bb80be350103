//! Tests from outside, in one program: so they are linked once.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod chunks;
mod common;
mod doubled;
mod machine;
mod plan;
mod races;
mod settled;
