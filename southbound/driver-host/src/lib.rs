//! Brings hosts' Open vSwitch into shape over OVSDB, keeps it so, and tells what is plugged in.
//!
//! [`mod@plan`] says what is to be done so that a database is as it is to be: a pure function of the replica. [`Keeper`]
//! says when, and what to report, with the time as an argument. [`driver::run`] has the sockets.

pub mod driver;
mod found;
mod keeper;
pub mod plan;

pub use driver::run;
pub use found::{TABLES, plugged, underlay};
pub use keeper::{Act, Keeper};
