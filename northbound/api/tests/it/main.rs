//! Tests from outside, in one program: so they are linked once.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod access;
mod clients;
mod common;
mod grpc;
mod history;
mod openapi;
mod reflected;
mod rejected;
mod rest;
mod two;
mod watch;
