//! A Linux host without Open vSwitch as a VTEP: a VXLAN device and a bridge for each network, and what they forward.
//!
//! [`plan`] is pure: what a host is to have, held against what it has, comes to steps. A [`Keeper`] carries them out over
//! netlink until there are none. It touches its own devices, which their alias marks, and what workloads' interfaces are
//! to its bridges.
//!
//! Such a host enforces no policy. What it does is to see to it that every packet passes by a switch that does: its
//! workloads' interfaces are isolated from each other, it has entries for nobody behind another kernel VTEP, it floods
//! nothing, and a workload uses no Ethernet address but its own.

mod actual;
mod keep;
mod plan;
mod step;
mod wanted;

pub use actual::Actual;
pub use keep::{Keeper, Kept};
pub use plan::{Plan, plan};
pub use step::Step;
pub use wanted::{Domain, Wanted};
