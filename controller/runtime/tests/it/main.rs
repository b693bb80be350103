//! Tests from outside, in one program: so they are linked once.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod changes;
mod common;
mod flow_log;
mod groups;
mod hosts;
mod numbers;
mod replay;
mod sessions;
mod start;
