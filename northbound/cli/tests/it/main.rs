//! Tests from outside, in one program: so they are linked once.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod audit;
mod command;
mod common;
mod export;
mod forms;
mod history;
mod import;
mod mistakes;
mod session;
mod support;
mod token;
