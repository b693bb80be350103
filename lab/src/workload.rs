//! A host of the lab: a namespace with one interface, `eth0`.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use bulkhead_netlink::{LinkChange, Namespace, Veth};
use bulkhead_topology::Mac;

use crate::frames::Wire;
use crate::hypervisor::{Datapath, Hypervisor};
use crate::state::Record;

/// The interface inside a workload.
pub const INTERFACE: &str = "eth0";

/// Longest interface name that Linux takes (IFNAMSIZ, one byte is for the end).
pub const NAME_MOST: usize = 15;

/// What leaves room for an overlay's headers in an underlay of 1500 bytes.
pub const MTU: u16 = 1400;

/// A way to a network: its first address, and how many leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The network's first address.
    pub to: IpAddr,
    /// 0 to 32, or to 128.
    pub length: u8,
    /// The router that carries it on; nobody where the network is on-link.
    pub via: Option<IpAddr>,
}

impl Way {
    /// A network that is taken for on-link.
    pub fn on_link(to: impl Into<IpAddr>, length: u8) -> Way {
        Way { to: to.into(), length, via: None }
    }
}

/// What a workload is to be.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its name, and the name of its switch port.
    pub name: String,
    /// The MAC of its interface.
    pub mac: Mac,
    /// Its addresses, each with the prefix length of the network that it takes for on-link.
    pub ips: Vec<(IpAddr, u8)>,
    /// Its ways to further networks.
    pub routes: Vec<Way>,
    /// The longest packet that it sends, in bytes: 68 to 65535, and for IPv6 at least 1280.
    pub mtu: u16,
    /// How the switch reaches its port.
    pub datapath: Datapath,
    /// No ARP, no IPv6, no addresses: nothing comes out but what a test puts in.
    pub silent: bool,
}

impl Spec {
    /// A workload of the shop's network, and what it needs to speak with the external host.
    #[must_use]
    pub fn new(name: &str, mac: Mac, ips: &[IpAddr]) -> Spec {
        Spec {
            name: name.to_owned(),
            mac,
            ips: ips.iter().map(|ip| (*ip, if ip.is_ipv4() { 16 } else { 64 })).collect(),
            routes: vec![Way::on_link([198, 51, 100, 0], 24), Way::on_link([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 64)],
            mtu: MTU,
            datapath: Datapath::System,
            silent: false,
        }
    }

    /// A host beyond the uplink, which takes the shop's networks for on-link.
    #[must_use]
    pub fn external(port: &str, mac: Mac, ips: &[IpAddr]) -> Spec {
        let routes = vec![Way::on_link([10, 1, 0, 0], 16), Way::on_link([0xfd00, 1, 0, 0, 0, 0, 0, 0], 64)];
        let ips = ips.iter().map(|ip| (*ip, if ip.is_ipv4() { 24 } else { 64 })).collect();
        Spec { ips, routes, ..Spec::new(port, mac, &[]) }
    }

    /// A port where only a test speaks.
    #[must_use]
    pub fn silent(name: &str, mac: Mac) -> Spec {
        Spec { silent: true, routes: Vec::new(), ..Spec::new(name, mac, &[]) }
    }
}

/// A running workload. The handle may be cloned; the lab owns what is behind it.
#[derive(Debug, Clone)]
pub struct Workload {
    name: String,
    namespace: Namespace,
    mac: Mac,
    ips: Vec<IpAddr>,
    port: u32,
}

impl Workload {
    /// Namespace, link and switch port.
    pub(crate) fn build(record: &Record, hypervisor: &Hypervisor, spec: &Spec) -> Result<Workload> {
        let namespace = Workload::room(record, spec)?;
        Workload::cable(hypervisor.namespace(), &namespace, spec)?;
        Workload::furnish(&namespace, spec)?;
        let port = plug(hypervisor, &spec.name, spec.mac, spec.datapath)?;
        Ok(Workload::with(namespace, spec, port))
    }

    /// A workload whose namespace is furnished and plugged in at a port.
    pub(crate) fn with(namespace: Namespace, spec: &Spec, port: u32) -> Workload {
        let ips = spec.ips.iter().map(|(ip, _)| *ip).collect();
        Workload { name: spec.name.clone(), namespace, mac: spec.mac, ips, port }
    }

    /// Its namespace, with nothing in it yet.
    pub(crate) fn room(record: &Record, spec: &Spec) -> Result<Namespace> {
        check_name(&spec.name)?;
        let namespace = record.namespace(&spec.name)?;
        if spec.silent {
            namespace.sysctl(&[("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")])?;
        } else {
            // Addresses work at once, and only what was asked for is sent.
            let settings = ["accept_dad", "accept_ra", "router_solicitations"];
            let keys = settings.map(|key| format!("ipv6/conf/default/{key}"));
            namespace.sysctl(&keys.each_ref().map(|key| (key.as_str(), "0")))?;
        }
        Ok(namespace)
    }

    /// A cable from it to its switch.
    pub(crate) fn cable(switch: &Namespace, inside: &Namespace, spec: &Spec) -> Result<()> {
        // The end inside is created inside: an eth0 in the host's namespace, even for a moment, could be the host's own.
        let mut outside = switch.netlink()?;
        let (mac, mtu) = (Some(spec.mac.0), Some(u32::from(spec.mtu)));
        outside.add_veth(&Veth { name: &spec.name, peer: INTERFACE, peer_in: inside, mac, mtu })?;
        Ok(outside.set(&spec.name, &[LinkChange::Up])?)
    }

    /// What it has inside, once its interface is there.
    pub(crate) fn furnish(namespace: &Namespace, spec: &Spec) -> Result<()> {
        let mut inside = namespace.netlink()?;
        inside.checksums_off(INTERFACE)?;
        if spec.silent {
            inside.set(INTERFACE, &[LinkChange::NoArp])?;
        }
        inside.set(INTERFACE, &[LinkChange::Up])?;
        for (ip, length) in &spec.ips {
            inside.add_address(INTERFACE, *ip, *length)?;
        }
        for way in &spec.routes {
            inside.add_route(way.to, way.length, way.via, INTERFACE)?;
        }
        Ok(())
    }

    /// The handle for a workload of a lab that is up.
    pub(crate) fn of(tag: &str, name: &str, mac: Mac, ips: &[IpAddr], port: u32) -> Workload {
        let namespace = Namespace::named(&format!("{tag}-{name}"));
        Workload { name: name.to_owned(), namespace, mac, ips: ips.to_vec(), port }
    }

    /// Takes its link to another hypervisor, and plugs it in there. What it has inside stays: addresses, connections.
    pub(crate) fn carry(&mut self, from: &Hypervisor, to: &Hypervisor, datapath: Datapath) -> Result<()> {
        from.del_port(&self.name)?;
        from.namespace().netlink()?.set(&self.name, &[LinkChange::Namespace(to.namespace().clone())])?;
        to.namespace().netlink()?.set(&self.name, &[LinkChange::Up])?;
        self.port = plug(to, &self.name, self.mac, datapath)?;
        Ok(())
    }

    /// Its interface, from inside: what is injected here is what it sends, what is received is what reaches it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn wire(&self) -> Result<Wire> {
        Wire::open(&self.namespace, INTERFACE)
    }

    /// Its name, which is its switch port's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it lives.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The MAC of its interface.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Its addresses.
    #[must_use]
    pub fn ips(&self) -> &[IpAddr] {
        &self.ips
    }

    /// Its first address of a family.
    #[must_use]
    pub fn ip(&self, family: Family) -> Option<IpAddr> {
        self.ips.iter().copied().find(|ip| Family::of(*ip) == family)
    }

    /// The number of its switch port.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port
    }
}

/// Adds a port to the switch as Neutron, libvirt and container networks do: with the name and the MAC of what is
/// behind it (Documentation/topics/integration.rst).
fn plug(on: &Hypervisor, name: &str, mac: Mac, datapath: Datapath) -> Result<u32> {
    let (id, mac) = (format!("external_ids:iface-id={name}"), format!("external_ids:attached-mac=\"{mac}\""));
    let mut settings = vec![id.as_str(), &mac];
    if datapath == Datapath::Afxdp {
        settings.extend(Datapath::AFXDP);
    }
    on.add_port(name, &settings)
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// 4 or 6.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Family::V4 => 4,
            Family::V6 => 6,
        }
    }
}

/// Names of hypervisors and workloads also become names of interfaces.
pub(crate) fn check_name(name: &str) -> Result<()> {
    check_word(name, NAME_MOST)
}

/// Names become names of namespaces and directories, and words of `ovs-vsctl`.
pub(crate) fn check_word(name: &str, most: usize) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    ensure!(
        (1..=most).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(['-', '.']),
        "`{name}` is no name here: use 1 to {most} of a-z, 0-9, `-`, `.` and `_`"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_that_would_break_something_are_refused() {
        for good in ["lb", "web-1", "ns.pod_2", "a23456789012345"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a234567890123456", "a b", "a\nlink del b", "-n", "..", "A"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
