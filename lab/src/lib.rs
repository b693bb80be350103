//! Topologies as code: network namespaces, real Open vSwitch, real packets. Needs root; for tests and demos.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use bulkhead_lab::{Lab, Probe, Service};
//! let mut lab = Lab::new("doc")?;
//! let hv1 = lab.hypervisor("hv1", 0xb1)?;
//! let a = lab.workload(&hv1, "a", "02:00:00:00:00:0a".parse()?, &["10.1.0.1".parse()?])?;
//! let b = lab.workload(&hv1, "b", "02:00:00:00:00:0b".parse()?, &["10.1.0.2".parse()?])?;
//! hv1.ofctl("add-flow", &["actions=NORMAL"])?;
//! let _listeners = bulkhead_lab::Listeners::start(b.namespace(), &[Service::Tcp(443)])?;
//! println!("{:?}", Probe::new(&a, &b, Service::Tcp(443), bulkhead_lab::Family::V4)?.run());
//! # Ok(()) }
//! ```
//!
//! Everything is removed when the [`Lab`] is dropped; what a killed process leaves is removed by the next one.

pub mod attack;
mod authority;
pub mod command;
pub mod control;
pub mod fabric;
pub mod frames;
pub mod hypervisor;
pub mod interrupt;
mod lab;
pub mod leaf;
pub mod live;
pub mod matrix;
pub mod packets;
pub mod probe;
pub mod process;
pub mod scenario;
pub mod serve;
pub mod state;
pub mod stream;
pub mod underlay;
pub mod workload;

pub use authority::Files;
pub use bulkhead_netlink::Namespace;
pub use control::Control;
pub use fabric::{Fabric, Site};
pub use frames::Wire;
pub use hypervisor::{Daemon, Datapath, Hypervisor};
pub use lab::{End, Lab, missing};
pub use leaf::Leaf;
pub use live::Live;
pub use probe::{Answer, Probe, Service};
pub use scenario::Scenario;
pub use serve::Listeners;
pub use stream::{Losses, Stream};
pub use underlay::Underlay;
pub use workload::{Family, Spec, Way, Workload};
