//! What is to be done about a host: the difference between what it is to have and what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bulkhead_netlink::{BridgePort, Forwarder, Link, LinkChange, LinkKind, MacAddress, VXLAN_PORT, Vxlan};

use crate::actual::Actual;
use crate::step::Step;
use crate::wanted::{Domain, Wanted, bridge, tunnel};

/// What a packet of a workload grows by: Ethernet (14), VXLAN (8) and UDP (8), and IPv4 (20) or IPv6 (40).
const OVERHEAD: [u32; 2] = [50, 70];
/// The MTU of an underlay that is not found: Ethernet's own (RFC 894).
const UNDERLAY_MTU: u32 = 1500;

/// Every address that a VXLAN device has no entry for.
const EVERYBODY_ELSE: MacAddress = [0; 6];

/// The address of a network's bridge, which says nothing with it: locally administered. One of its ports' would change
/// with them, and the kernel then forgets the neighbours that it was told of.
fn address(vni: u32) -> MacAddress {
    let [_, first, second, third] = vni.to_be_bytes();
    [0x0a, b'b', b'h', first, second, third]
}

/// What a workload's interface may do: reach nobody on this host, use no Ethernet address but its own, and hear nothing
/// that is not for it.
const WORKLOAD: BridgePort = BridgePort {
    learning: false,
    unicast_flood: false,
    multicast_flood: false,
    broadcast_flood: false,
    neighbour_suppression: false,
    isolated: true,
    locked: true,
    link_local: true,
};

/// What a tunnel may do: the bridge answers for who is behind it, and only with a way out is anything sent there that is
/// for nobody known.
fn towards(way_out: bool) -> BridgePort {
    BridgePort {
        learning: false,
        unicast_flood: way_out,
        multicast_flood: way_out,
        broadcast_flood: way_out,
        neighbour_suppression: true,
        isolated: false,
        locked: false,
        link_local: true,
    }
}

/// What is to be done, and what stands in its way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is to be done, in this order.
    pub steps: Vec<Step>,
    /// What cannot be done, for people.
    pub troubles: Vec<String>,
    /// Workloads' interfaces that are not there yet, or somebody else's.
    pub missing: BTreeSet<String>,
}

/// What makes `actual` what is `wanted`. Devices that `mark` marks are ours; others are never touched, but for workloads'
/// interfaces, which become ports of our bridges.
pub fn plan(wanted: &Wanted, actual: &Actual, mark: &str) -> Plan {
    let mut plan = Plan::default();
    let known: BTreeSet<String> = wanted.networks.keys().flat_map(|vni| [bridge(*vni), tunnel(*vni)]).collect();
    for stale in actual.links.iter().filter(|link| is_ours(link, mark) && !known.contains(&link.name)) {
        plan.steps.push(Step::Delete(stale.name.clone()));
        if actual.barriers.contains(&stale.name) {
            plan.steps.push(Step::NoBarrier(stale.name.clone()));
        }
    }
    let underlay = actual.addresses.iter().find(|address| address.ip == wanted.vtep);
    let underlay = underlay.and_then(|address| actual.links.iter().find(|link| link.index == address.link));
    if underlay.is_none() {
        plan.troubles.push(format!("the VTEP address {} is on no interface of this host", wanted.vtep));
    }
    let [v4, v6] = OVERHEAD;
    let overhead = if wanted.vtep.is_ipv4() { v4 } else { v6 };
    let mtu = underlay.map_or(UNDERLAY_MTU, |link| link.mtu).saturating_sub(overhead);
    for (vni, domain) in &wanted.networks {
        Network { plan: &mut plan, actual, mark, bridge: bridge(*vni), tunnel: tunnel(*vni), domain }.plan(
            *vni,
            wanted.vtep,
            mtu,
        );
    }
    plan
}

fn is_ours(link: &Link, mark: &str) -> bool {
    link.alias.as_deref() == Some(mark)
}

struct Network<'a> {
    plan: &'a mut Plan,
    actual: &'a Actual,
    mark: &'a str,
    bridge: String,
    tunnel: String,
    domain: &'a Domain,
}

impl Network<'_> {
    fn plan(mut self, vni: u32, vtep: IpAddr, mtu: u32) {
        for name in [&self.bridge, &self.tunnel] {
            if self.actual.link(name).is_some_and(|link| !is_ours(link, self.mark)) {
                let trouble = format!("there is an interface {name} that is not Bulkhead's: VNI {vni} is not carried");
                self.plan.troubles.push(trouble);
                return;
            }
        }
        self.bridge(vni);
        self.tunnel(Vxlan { vni, local: vtep, port: VXLAN_PORT, learning: false }, mtu);
        self.ports();
        self.forwards();
        self.neighbours();
    }

    fn step(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    fn set(&mut self, link: &str, change: LinkChange) {
        self.step(Step::Set(link.to_owned(), change));
    }

    fn bridge(&mut self, vni: u32) {
        let name = self.bridge.clone();
        let is = self.actual.link(&name);
        let found = is.and_then(|link| match link.kind {
            LinkKind::Bridge { snooping } => Some((link, snooping)),
            _ => None,
        });
        if found.is_none() {
            if is.is_some() {
                self.step(Step::Delete(name.clone()));
            }
            self.step(Step::AddBridge(name.clone()));
            self.set(&name, LinkChange::Alias(self.mark.to_owned()));
        }
        if found.is_none_or(|(link, _)| link.mac != Some(address(vni))) {
            self.set(&name, LinkChange::Mac(address(vni)));
        }
        if found.is_none_or(|(_, snooping)| snooping) {
            self.set(&name, LinkChange::NoSnooping);
        }
        self.silence(&name, found.is_some());
        if found.is_none() || !self.actual.barriers.contains(&name) {
            self.step(Step::Barrier(name.clone()));
        }
        if found.is_none_or(|(link, _)| !link.up) {
            self.set(&name, LinkChange::Up);
        }
    }

    fn silence(&mut self, name: &str, found: bool) {
        if !found || !self.actual.silent.contains(name) {
            self.step(Step::Silence(name.to_owned()));
        }
    }

    fn tunnel(&mut self, vxlan: Vxlan, mtu: u32) {
        let name = self.tunnel.clone();
        let is = self.actual.link(&name);
        let found = is.filter(|link| link.kind == LinkKind::Vxlan(vxlan));
        if found.is_none() {
            if is.is_some() {
                self.step(Step::Delete(name.clone()));
            }
            self.step(Step::AddVxlan(name.clone(), vxlan));
            self.set(&name, LinkChange::Alias(self.mark.to_owned()));
        }
        self.silence(&name, found.is_some());
        if found.is_none_or(|link| link.mtu != mtu) {
            self.set(&name, LinkChange::Mtu(mtu));
        }
        self.port(&name, found, towards(self.domain.way_out.is_some()));
        if found.is_none_or(|link| !link.up) {
            self.set(&name, LinkChange::Up);
        }
    }

    /// A link as a port of the bridge; what it may do can be said only of one that is a port.
    fn port(&mut self, name: &str, found: Option<&Link>, port: BridgePort) {
        let bridge = self.actual.link(&self.bridge).map(|bridge| bridge.index);
        let joined = found.is_some_and(|link| link.bridge.is_some() && link.bridge == bridge);
        if !joined {
            self.set(name, LinkChange::Bridge(self.bridge.clone()));
        }
        if !joined || found.and_then(|link| link.port) != Some(port) {
            self.set(name, LinkChange::Port(port));
        }
    }

    fn ports(&mut self) {
        for name in self.domain.ports.keys() {
            let Some(link) = self.actual.link(name) else {
                self.plan.troubles.push(format!("there is no interface {name} yet"));
                self.plan.missing.insert(name.clone());
                continue;
            };
            let bridge = link.bridge.and_then(|bridge| self.actual.links.iter().find(|link| link.index == bridge));
            if let Some(other) = bridge.filter(|bridge| !is_ours(bridge, self.mark)) {
                self.plan.troubles.push(format!("interface {name} is a port of {}, and stays it", other.name));
                self.plan.missing.insert(name.clone());
                continue;
            }
            if is_ours(link, self.mark) {
                self.plan.troubles.push(format!("interface {name} is no workload's: it is Bulkhead's own"));
                self.plan.missing.insert(name.clone());
                continue;
            }
            self.port(name, Some(link), WORKLOAD);
        }
        // Whoever joined the bridge otherwise would reach everybody in it.
        let Some(bridge) = self.actual.link(&self.bridge) else { return };
        let joined = self.actual.links.iter().filter(|link| link.bridge == Some(bridge.index));
        let strangers = joined.filter(|link| link.name != self.tunnel && !self.domain.ports.contains_key(&link.name));
        self.plan.steps.extend(strangers.map(|link| Step::Set(link.name.clone(), LinkChange::NoBridge)));
    }

    fn forwards(&mut self) {
        let domain = self.domain;
        let local = domain.ports.iter().filter(|(name, _)| !self.plan.missing.contains(*name));
        let local = local.flat_map(|(name, macs)| macs.iter().map(move |mac| (name.as_str(), *mac, Forwarder::Bridge)));
        let tunnel = self.tunnel.clone();
        let behind = domain.far.keys().map(|mac| (tunnel.as_str(), *mac, Forwarder::Bridge));
        let far = domain.far.iter().map(|(mac, vtep)| (tunnel.as_str(), *mac, Forwarder::Vxlan(*vtep)));
        let out = domain.way_out.map(|vtep| (tunnel.as_str(), EVERYBODY_ELSE, Forwarder::Vxlan(vtep)));
        let wanted: BTreeSet<(&str, MacAddress, Forwarder)> = local.chain(behind).chain(far).chain(out).collect();
        let bridge = self.actual.link(&self.bridge).map(|bridge| bridge.index);
        let ours = |link: &Link| link.name == tunnel || (link.bridge.is_some() && link.bridge == bridge);
        let names: BTreeMap<u32, &str> =
            self.actual.links.iter().filter(|link| ours(link)).map(|link| (link.index, link.name.as_str())).collect();
        let mut has = BTreeSet::new();
        let mut stale = BTreeSet::new();
        for entry in &self.actual.forwarding {
            let Some(name) = names.get(&entry.link) else { continue };
            let key = (*name, entry.mac, entry.by);
            // What was learnt is made fixed by adding it again.
            if entry.fixed && wanted.contains(&key) {
                has.insert(key);
            } else if !wanted.contains(&key) {
                stale.insert(key);
            }
        }
        // First what is new: an address that moved is behind its old place until it is behind its new one.
        let add: BTreeSet<_> = wanted.difference(&has).copied().collect();
        // What is new takes the old one's place, but where there may be several.
        let table = |by: Forwarder| by == Forwarder::Bridge;
        let moved: BTreeSet<_> = add.iter().map(|(_, mac, by)| (*mac, table(*by))).collect();
        let goes = |mac, by| mac == EVERYBODY_ELSE || !moved.contains(&(mac, table(by)));
        let remove = stale.into_iter().filter(|(_, mac, by)| goes(*mac, *by));
        let add = add.iter().map(|(link, mac, by)| Step::Forward((*link).into(), *mac, *by));
        let remove = remove.map(|(link, mac, by)| Step::Unforward(link.into(), mac, by));
        self.plan.steps.extend(add.chain(remove));
    }

    fn neighbours(&mut self) {
        let index = self.actual.link(&self.bridge).map(|bridge| bridge.index);
        let here = self.actual.neighbours.iter().filter(|known| Some(known.link) == index);
        let known: BTreeMap<IpAddr, (Option<MacAddress>, bool)> =
            here.map(|known| (known.ip, (known.mac, known.pinned))).collect();
        for (ip, mac) in &self.domain.neighbours {
            if known.get(ip) != Some(&(Some(*mac), true)) {
                self.step(Step::Know(self.bridge.clone(), *ip, *mac));
            }
        }
        // What nobody pinned is the kernel's own, and passes.
        for (ip, _) in known.iter().filter(|(ip, (_, pinned))| *pinned && !self.domain.neighbours.contains_key(*ip)) {
            self.step(Step::Unknow(self.bridge.clone(), *ip));
        }
    }
}
