//! `bulkheadd`, the controller: configuration, wiring, start and stop.

mod backend;
mod config;
mod hits;
mod start;
mod trace;

pub use backend::Controller;
pub use config::{Args, Config};
pub use start::{Daemon, start};
