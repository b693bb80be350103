//! The seam between the controller and what keeps hosts: how a host's Open vSwitch is to be set up, and what is found
//! there. Entries are not spoken of here: they are the switch's, over its own protocol.

use bulkhead_topology::{DatapathId, Mac, Name};
use std::{collections::BTreeSet, net::IpAddr};

/// An encapsulation that a switch may have a tunnel port for. Flows say where each packet goes, so one port of each is
/// enough.
pub use bulkhead_pipeline::overlay::Tunnel as TunnelKind;

/// How a host's switch is to be set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// What it tells the controller that it is.
    pub datapath: DatapathId,
    /// Where it finds the controller, as `tcp:192.0.2.10:6653` or `ssl:192.0.2.10:6653`. No other controller is left there. For `*` in place of the
    /// address, it is told the address from which its database is spoken with: there the controller is seen from it.
    pub controller: String,
    /// `netdev` for the userspace datapath, `system` for the kernel's. `None` leaves it as it is, and takes Open
    /// vSwitch's default for a new bridge.
    pub datapath_type: Option<String>,
    /// The tunnels' own address: nothing sent to another one is taken. `None` where there are no tunnels.
    pub local_ip: Option<IpAddr>,
    /// The tunnel ports that it is to have.
    pub tunnels: BTreeSet<TunnelKind>,
}

/// What is told of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostReport {
    /// Its database answers.
    Connected,
    /// It does not; why, for people. It is tried again, and again told of only when the reason changes.
    Disconnected(String),
    /// Everything is as it is to be, and the switch has carried it out. Comes once after each [`Self::Connected`], and
    /// after each repair.
    Shaped {
        /// What was wrong and was mended, for people; nothing if all was well.
        repaired: Vec<String>,
    },
    /// It is not as it is to be, and why, for people. It is tried again, and [`Self::Shaped`] says that it worked;
    /// unless what it was told to keep is no endpoint at all.
    Unable(String),
    /// What is plugged into the bridge, all of it, whenever any of it changes; by port. Nothing while the bridge is
    /// somebody else's.
    Interfaces(Vec<Plugged>),
    /// What carries the tunnels, whenever it changes.
    Underlay {
        /// The largest IP packet that leaves the host, in bytes, if the database tells which interfaces carry the
        /// tunnels.
        mtu: Option<u32>,
        /// What is wrong with tunnel ports, each with the port's name, and with the way to the controller; for people.
        errors: Vec<String>,
    },
}

/// An interface on the bridge that somebody says is a workload's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugged {
    /// Its name, which is its OpenFlow port's.
    pub port: String,
    /// Its OpenFlow number; `None` until the switch has opened it.
    pub ofport: Option<u32>,
    /// Whose it is said to be, by whoever plugged it in: a workload's name, if all is well.
    pub owner: String,
    /// Which MAC address it is said to have. What the interface itself says is its own affair, and is not believed.
    pub mac: Option<Mac>,
    /// Its MTU in bytes, if the switch knows it.
    pub mtu: Option<u32>,
    /// What is wrong with it, for people.
    pub error: Option<String>,
}

/// What the controller tells the keeper of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToHosts {
    /// From now on a host is to be kept so. Said again for a host that is kept, it starts anew.
    Keep {
        /// The switch's name: the host is marked as its.
        switch: Name,
        /// Where the database is, as `unix:/run/openvswitch/db.sock`, `ssl:192.0.2.1:6640` or `tcp:192.0.2.1:6640`.
        endpoint: String,
        /// How it is to be.
        config: HostConfig,
        /// Number of this attachment, echoed in its reports.
        attachment: u64,
    },
    /// A host is no longer ours: it stays as it is but for our mark, so that somebody else may take it. A host that
    /// cannot be reached keeps the mark.
    Release {
        /// The switch's name.
        switch: Name,
    },
}

/// A report and the host that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromHost {
    /// The switch's name.
    pub switch: Name,
    /// Number of the attachment that the report belongs to: reports of an older one are stale.
    pub attachment: u64,
    /// The report.
    pub report: HostReport,
}
