//! What a host is to have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bulkhead_netlink::MacAddress;

/// Everything that a host is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The address that tunnels begin at; the host has it already.
    pub vtep: IpAddr,
    /// The networks that have a workload here, by VNI.
    pub networks: BTreeMap<u32, Domain>,
}

/// One network on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domain {
    /// The workloads' interfaces, as the host calls them, and the Ethernet addresses behind each.
    pub ports: BTreeMap<String, BTreeSet<MacAddress>>,
    /// Ethernet addresses elsewhere, and their VTEPs.
    pub far: BTreeMap<MacAddress, IpAddr>,
    /// Who has which address elsewhere: questions for it are answered here.
    pub neighbours: BTreeMap<IpAddr, MacAddress>,
    /// The VTEP that everything else goes to; without one it goes nowhere.
    pub way_out: Option<IpAddr>,
}

/// The bridge of a network. The longest VNI has 8 digits, and a link's name 15 bytes.
pub(crate) fn bridge(vni: u32) -> String {
    format!("bhb{vni}")
}

/// The VXLAN device of a network.
pub(crate) fn tunnel(vni: u32) -> String {
    format!("bhv{vni}")
}

/// Longest alias of a link, in bytes (linux/if.h, IFALIASZ, with its end).
const ALIAS: usize = 255;

/// What marks the devices of the VTEP of a switch. Names are ASCII.
pub(crate) fn mark(switch: &str) -> String {
    format!("bulkhead vtep {switch}").chars().take(ALIAS).collect()
}
