//! `bulkheadd`, the controller: configuration, wiring, start and stop; and the agent of a kernel VTEP.

mod admin;
mod audit;
mod authority;
mod backend;
mod certificates;
mod config;
mod history;
mod hits;
mod links;
mod process;
mod start;
mod telemetry;
mod tokens;
mod trace;
pub mod vtep;
mod vteps;

pub use backend::Controller;
pub use config::{Api, Args, Command, Config};
pub use start::{Daemon, start};
pub use telemetry::{Guard, LogFormat, Telemetry};
