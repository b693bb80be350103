//! How a network's packets get from one switch to another: what each end can do, and what a pair of them agrees on.

use crate::model::{Driver, Encap, Network, Switch};
use bulkhead_topology::{Mac, Port};
use std::net::IpAddr;

/// The Ethernet address of every gateway, on every switch: locally administered (IEEE 802 §8.4), and no workload's.
pub const GATEWAY_MAC: Mac = Mac([0x02, 0xb1, 0, 0, 0, 1]);

/// The switch port that Geneve packets come and go by.
pub const GENEVE_PORT: &str = "bh-geneve";
/// The switch port that VXLAN packets come and go by, with the group-policy extension or without.
pub const VXLAN_PORT: &str = "bh-vxlan";

/// Whether a port is one of those that tunnels begin and end at.
pub fn is_overlay_port(port: &Port) -> bool {
    matches!(port, Port::Name(name) if matches!(&**name, GENEVE_PORT | VXLAN_PORT))
}

/// What the header of a tunnel's packets is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TunnelKind {
    /// RFC 8926, with the sender's identity in an option.
    Geneve,
    /// RFC 7348: the sender's identity is looked up.
    Vxlan,
    /// VXLAN with the sender's identity in the group-policy id (draft-smith-vxlan-group-policy), which has 16 bits.
    VxlanGbp,
}

impl TunnelKind {
    /// The port of both switches that its packets come and go by.
    pub fn port(self) -> &'static str {
        match self {
            Self::Geneve => GENEVE_PORT,
            Self::Vxlan | Self::VxlanGbp => VXLAN_PORT,
        }
    }
}

/// A way from one switch to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tunnel {
    /// Its header.
    pub kind: TunnelKind,
    /// The VTEP that it begins at.
    pub near: IpAddr,
    /// The VTEP that it ends at.
    pub far: IpAddr,
}

/// Whether switches of a driver can do Geneve, VXLAN, and VXLAN's group-policy extension. VXLAN all can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Can {
    geneve: bool,
    group_policy: bool,
}

/// It hangs on the driver alone, so that a program is a function of the state.
fn can(driver: &Driver) -> Can {
    match driver {
        // Open vSwitch's userspace datapath has no group policy (`OVS_VXLAN_EXT_GBP` is the kernel's alone).
        Driver::Openflow(_) => Can { geneve: true, group_policy: false },
        Driver::P4runtime { .. } | Driver::Sim => Can { geneve: true, group_policy: true },
        // Its devices carry a network each, and have no room for more than that.
        Driver::Kernel => Can { geneve: false, group_policy: false },
    }
}

/// Whether a switch enforces policy. Of two ends of a tunnel one has to: the other one's workloads are judged there, in
/// both directions.
pub fn judges(switch: &Switch) -> bool {
    switch.driver != Driver::Kernel
}

/// Whether a switch carries packets between others by its links, where networks are present on it or not.
pub fn carries(switch: &Switch) -> bool {
    // Our P4 program knows no packets on their way between switches.
    switch.vtep.is_none() && judges(switch) && !matches!(switch.driver, Driver::P4runtime { .. })
}

/// Whether a switch knows a way to a VTEP. Most hosts have routes of their own, of which nothing is known; a P4 switch has
/// those that its document says.
pub fn has_route(switch: &Switch, far: IpAddr) -> bool {
    match &switch.driver {
        Driver::P4runtime { underlay, .. } => underlay.as_ref().is_some_and(|known| !known.towards(far).is_empty()),
        Driver::Openflow(_) | Driver::Sim | Driver::Kernel => true,
    }
}

/// Whether switches of a driver can do Geneve.
pub fn does_geneve(driver: &Driver) -> bool {
    can(driver).geneve
}

/// How packets of `network` get from switch `a` to switch `b`: with what it asks for if both ends can do that, else with
/// VXLAN. `None` if one of them has no VTEP address, they are of different families, neither of them judges what they
/// carry, or one of them knows no way to the other. The way back is of the same kind.
pub fn tunnel(network: &Network, a: &Switch, b: &Switch) -> Option<Tunnel> {
    let (near, far) = (a.vtep?, b.vtep?);
    if near.is_ipv4() != far.is_ipv4() || !(judges(a) || judges(b)) || !has_route(a, far) || !has_route(b, near) {
        return None;
    }
    let (a, b) = (can(&a.driver), can(&b.driver));
    let kind = if network.encap == Encap::Geneve && a.geneve && b.geneve {
        TunnelKind::Geneve
    } else if a.group_policy && b.group_policy {
        TunnelKind::VxlanGbp
    } else {
        TunnelKind::Vxlan
    };
    Some(Tunnel { kind, near, far })
}
