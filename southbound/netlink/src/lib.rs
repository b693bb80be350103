//! What the kernel keeps of a network: links, addresses, routes, neighbours, bridges' and VXLAN devices' forwarding, and
//! network namespaces, over netlink.
//!
//! A [`Netlink`] speaks with the kernel about one namespace. Its socket is opened by a thread that is in that
//! namespace, and stays with it whoever uses it later (network_namespaces(7)); no program is started for anything.
//!
//! ```no_run
//! # fn main() -> Result<(), bulkhead_netlink::Error> {
//! use bulkhead_netlink::{LinkChange, Namespace, Veth};
//! let (one, two) = (Namespace::named("one"), Namespace::named("two"));
//! one.create()?;
//! two.create()?;
//! let mut links = one.netlink()?;
//! links.add_veth(&Veth { name: "v0", peer: "eth0", peer_in: &two, mac: None, mtu: Some(1400) })?;
//! links.set("v0", &[LinkChange::Up])?;
//! two.netlink()?.set("eth0", &[LinkChange::Up])?;
//! two.netlink()?.add_address("eth0", "10.0.0.1".parse().unwrap_or([0; 4].into()), 24)?;
//! # Ok(()) }
//! ```

mod address;
mod barrier;
mod error;
mod ethtool;
mod forwarding;
mod link;
mod monitor;
mod namespace;
mod neighbour;
mod port;
mod route;
mod socket;
mod sysctl;
mod vxlan;

pub use address::Address;
pub use error::Error;
pub use forwarding::{Forward, Forwarder};
pub use link::{Link, LinkChange, LinkKind, Veth};
pub use monitor::Monitor;
pub use namespace::Namespace;
pub use neighbour::Neighbour;
pub use port::BridgePort;
pub use route::Route;
pub use socket::Netlink;
pub use sysctl::{set_sysctl, sysctl};
pub use vxlan::{VXLAN_PORT, Vxlan};

/// The address of an Ethernet interface (IEEE 802).
pub type MacAddress = [u8; 6];
