//! Tests from outside, in one program: so they are linked once.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod access;
mod audit;
mod common;
mod end_to_end;
mod grpc;
mod history;
mod hostile;
mod metrics;
mod modes;
mod openapi;
mod otlp;
#[path = "../../../../tls/tests/pki/mod.rs"]
mod pki;
mod program;
mod tls;
