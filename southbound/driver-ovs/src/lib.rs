//! Drives Open vSwitch: entries become OpenFlow 1.3 flows and come back as the same entries.
//!
//! [`lower`] and [`lift`] are pure, and `lift(lower(e)) == e` for every entry that can be lowered. Entries
//! name ports by name or by number; the cookie remembers which, so nobody has to bring programs into another
//! form before comparing them.

mod connection;
pub mod driver;
mod errands;
pub mod error;
pub mod flow;
pub mod groups;
pub mod layout;
mod lift;
mod lower;
mod options;
pub mod ports;
mod probe;
pub mod switch;

pub use error::{EndError, LiftError, LowerError};
pub use flow::{Flow, FlowKey};
pub use groups::Groups;
pub use lift::lift;
pub use lower::{lower, lower_key};
pub use ports::PortMap;
