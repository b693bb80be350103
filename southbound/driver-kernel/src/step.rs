//! One thing to do about a host.

use std::fmt;
use std::net::IpAddr;

use bulkhead_netlink::{Error, Forwarder, LinkChange, MacAddress, Netlink, Vxlan, set_sysctl};

use crate::actual::silence;

/// A step; links are called by their names, because some are only made by the steps before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A device that should not be there, or is something else than it should be, goes.
    Delete(String),
    /// A bridge is made.
    AddBridge(String),
    /// A VXLAN device is made.
    AddVxlan(String, Vxlan),
    /// A device of ours makes itself no address.
    Silence(String),
    /// The host takes nothing from a bridge of ours: workloads would reach it, and whatever it routes to.
    Barrier(String),
    /// A barrier goes that is behind no bridge of ours.
    NoBarrier(String),
    /// A link is set up.
    Set(String, LinkChange),
    /// An Ethernet address is behind a link.
    Forward(String, MacAddress, Forwarder),
    /// An Ethernet address is behind a link no more.
    Unforward(String, MacAddress, Forwarder),
    /// Questions for an address are answered.
    Know(String, IpAddr, MacAddress),
    /// They are no more.
    Unknow(String, IpAddr),
}

impl Step {
    /// The link that it is about.
    pub(crate) fn link(&self) -> &str {
        match self {
            Step::Delete(link)
            | Step::AddBridge(link)
            | Step::AddVxlan(link, _)
            | Step::Silence(link)
            | Step::Barrier(link)
            | Step::NoBarrier(link)
            | Step::Set(link, _)
            | Step::Forward(link, ..)
            | Step::Unforward(link, ..)
            | Step::Know(link, ..)
            | Step::Unknow(link, _) => link,
        }
    }

    /// Carries it out, in the namespace of `netlink`, which has to be the calling thread's too.
    pub(crate) fn carry_out(&self, netlink: &mut Netlink) -> Result<(), Error> {
        match self {
            Step::Delete(name) => netlink.delete_link(name),
            Step::AddBridge(name) => netlink.add_bridge(name),
            Step::AddVxlan(name, vxlan) => netlink.add_vxlan(name, vxlan),
            Step::Silence(name) => silence(name).iter().try_for_each(|(key, value)| set_sysctl(key, value)),
            Step::Barrier(name) => netlink.add_barrier(name),
            Step::NoBarrier(name) => netlink.remove_barrier(name),
            Step::Set(name, change) => netlink.set(name, std::slice::from_ref(change)),
            Step::Forward(link, mac, by) => netlink.add_forward(link, *mac, *by),
            Step::Unforward(link, mac, by) => netlink.remove_forward(link, *mac, *by),
            Step::Know(link, ip, mac) => netlink.pin_neighbour(link, *ip, *mac),
            Step::Unknow(link, ip) => netlink.remove_neighbour(link, *ip),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = |mac: &MacAddress| match mac {
            [0, 0, 0, 0, 0, 0] => "everybody else".to_owned(),
            known => known.map(|byte| format!("{byte:02x}")).join(":"),
        };
        let by = |by: &Forwarder| match by {
            Forwarder::Bridge => String::new(),
            Forwarder::Vxlan(vtep) => format!(" at VTEP {vtep}"),
        };
        match self {
            Step::Delete(name) => write!(out, "{name} removed"),
            Step::AddBridge(name) => write!(out, "bridge {name} made"),
            Step::AddVxlan(name, _) => write!(out, "VXLAN device {name} made"),
            Step::Silence(name) => write!(out, "{name} silenced"),
            Step::Barrier(name) => write!(out, "barrier put between {name} and the host"),
            Step::NoBarrier(name) => write!(out, "barrier behind {name} removed"),
            Step::Set(name, change) => match change {
                LinkChange::Up => write!(out, "{name} switched on"),
                LinkChange::Down => write!(out, "{name} switched off"),
                LinkChange::Mtu(mtu) => write!(out, "{name} given an MTU of {mtu}"),
                LinkChange::Mac(address) => write!(out, "{name} given the address {}", mac(address)),
                LinkChange::Alias(_) => write!(out, "{name} marked"),
                LinkChange::Bridge(bridge) => write!(out, "{name} made a port of {bridge}"),
                LinkChange::NoBridge => write!(out, "{name} taken out of its bridge"),
                LinkChange::Port(_) => write!(out, "{name} isolated and locked as it has to be"),
                other => write!(out, "{name}: {other:?}"),
            },
            Step::Forward(link, address, who) => write!(out, "{} put behind {link}{}", mac(address), by(who)),
            Step::Unforward(link, address, who) => write!(out, "{} taken from behind {link}{}", mac(address), by(who)),
            Step::Know(link, ip, address) => write!(out, "{ip} on {link} made known as {}", mac(address)),
            Step::Unknow(link, ip) => write!(out, "{ip} on {link} forgotten"),
        }
    }
}
