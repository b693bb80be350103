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
    /// What is to be done, in this order. Steps of a group go on from each other: after one that is refused, the rest of
    /// its group is not done.
    pub groups: Vec<Vec<Step>>,
    /// What cannot be done, for people.
    pub troubles: Vec<String>,
    /// Workloads' interfaces that are not there yet, or somebody else's.
    pub missing: BTreeSet<String>,
}

impl Plan {
    fn group(&mut self, steps: Vec<Step>) {
        if !steps.is_empty() {
            self.groups.push(steps);
        }
    }

    fn refuse(&mut self, port: &str, trouble: String) {
        self.missing.insert(port.to_owned());
        self.troubles.push(trouble);
    }
}

/// What makes `actual` what is `wanted`. Devices that `mark` marks are ours; others are never touched, but for workloads'
/// interfaces, which become ports of our bridges.
///
/// A workload's interface is on only while it is isolated, locked, in its network's bridge, and the bridge behind its
/// barrier, all as `actual` tells it: what was only just asked for does not count. So it takes more than one look at the
/// host until it is as it is to be.
pub fn plan(wanted: &Wanted, actual: &Actual, mark: &str) -> Plan {
    let mut plan = Plan::default();
    let own = own(actual, wanted.vtep);
    for device in actual.links.iter().filter(|link| is_ours(link, mark)) {
        let network = wanted.networks.iter().find(|(vni, _)| device.name == bridge(**vni));
        // Whoever joined a bridge otherwise would reach everybody in it.
        let joined = actual.links.iter().filter(|link| link.bridge == Some(device.index) && !is_ours(link, mark));
        let leaves = joined.filter(|link| network.is_none_or(|(_, domain)| !domain.ports.contains_key(&link.name)));
        // Outside there is no barrier behind it: it is left switched off, unless it is what the host itself speaks by.
        let leaves = leaves.map(|link| {
            let off = link.up && !own.contains_key(&link.index);
            let off = off.then(|| Step::Set(link.name.clone(), LinkChange::Down));
            off.into_iter().chain([Step::Set(link.name.clone(), LinkChange::NoBridge)]).collect::<Vec<_>>()
        });
        if network.is_some() {
            leaves.for_each(|steps| plan.group(steps));
        } else if !wanted.networks.keys().any(|vni| device.name == tunnel(*vni)) {
            let barrier = actual.barriers.contains(&device.name).then(|| Step::NoBarrier(device.name.clone()));
            plan.group(leaves.flatten().chain([Step::Delete(device.name.clone())]).chain(barrier).collect());
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
        let (bridge, tunnel) = (bridge(*vni), tunnel(*vni));
        let found = actual.link(&bridge);
        let barrier = found.is_some() && actual.barriers.contains(&bridge);
        let found = found.filter(|link| matches!(link.kind, LinkKind::Bridge { .. }));
        let network =
            Network { plan: &mut plan, actual, own: &own, mark, bridge, found, ready: barrier, tunnel, domain };
        network.plan(*vni, wanted.vtep, mtu);
    }
    plan
}

fn is_ours(link: &Link, mark: &str) -> bool {
    link.alias.as_deref() == Some(mark)
}

/// The links that the host itself speaks by, and why each is one.
fn own(actual: &Actual, vtep: IpAddr) -> BTreeMap<u32, String> {
    let mut own = BTreeMap::new();
    for address in &actual.addresses {
        let link_local = match address.ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        // IPv6 addresses that the host made up itself do not count: a workload could have it make one.
        if address.ip == vtep || (!link_local && (address.ip.is_ipv4() || address.permanent)) {
            own.entry(address.link).or_insert_with(|| format!("it has the host's address {}", address.ip));
        }
    }
    for link in &actual.towards_vteps {
        own.entry(*link).or_insert_with(|| "other VTEPs are reached by it".to_owned());
    }
    // A VLAN of a bond of two: each round goes one down.
    loop {
        let below = actual.links.iter().filter(|link| own.contains_key(&link.index));
        let below = below.filter_map(|link| Some((link.below?, format!("{} is on top of it", link.name))));
        let below: Vec<_> = below.filter(|(below, _)| !own.contains_key(below)).collect();
        if below.is_empty() {
            return own;
        }
        own.extend(below);
    }
}

struct Network<'a> {
    plan: &'a mut Plan,
    actual: &'a Actual,
    own: &'a BTreeMap<u32, String>,
    mark: &'a str,
    bridge: String,
    /// The bridge, if it is there.
    found: Option<&'a Link>,
    /// Whether it is there, behind its barrier.
    ready: bool,
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
        if self.found.is_some() && !self.ready {
            let trouble = format!("no barrier is behind {}: its workloads' interfaces stay switched off", self.bridge);
            self.plan.troubles.push(trouble);
        }
        let ports = self.ports();
        if !self.ready {
            ports.into_iter().for_each(|steps| self.plan.group(steps));
            let steps = self.bridge(vni);
            self.plan.group(steps);
            return;
        }
        let steps = self.bridge(vni).into_iter().chain(self.tunnel(vni, vtep, mtu)).collect();
        self.plan.group(steps);
        ports.into_iter().for_each(|steps| self.plan.group(steps));
        self.forwards();
        self.neighbours();
    }

    fn bridge(&self, vni: u32) -> Vec<Step> {
        let name = &self.bridge;
        let set = |change| Step::Set(name.clone(), change);
        let mut steps = Vec::new();
        if self.found.is_none() {
            steps.extend(self.actual.link(name).map(|_| Step::Delete(name.clone())));
            steps.extend([Step::AddBridge(name.clone()), set(LinkChange::Alias(self.mark.to_owned()))]);
        }
        if self.found.is_none_or(|link| link.mac != Some(address(vni))) {
            steps.push(set(LinkChange::Mac(address(vni))));
        }
        if self.found.is_none_or(|link| link.kind != (LinkKind::Bridge { snooping: false })) {
            steps.push(set(LinkChange::NoSnooping));
        }
        steps.extend(self.silence(name, self.found.is_some()));
        if !self.ready {
            steps.push(Step::Barrier(name.clone()));
        } else if self.found.is_some_and(|link| !link.up) {
            steps.push(set(LinkChange::Up));
        }
        steps
    }

    fn silence(&self, name: &str, found: bool) -> Option<Step> {
        (!found || !self.actual.silent.contains(name)).then(|| Step::Silence(name.to_owned()))
    }

    fn tunnel(&self, vni: u32, vtep: IpAddr, mtu: u32) -> Vec<Step> {
        let name = &self.tunnel;
        let set = |change| Step::Set(name.clone(), change);
        let vxlan = Vxlan { vni, local: vtep, port: VXLAN_PORT, learning: false };
        let is = self.actual.link(name);
        let found = is.filter(|link| link.kind == LinkKind::Vxlan(vxlan));
        let mut steps = Vec::new();
        if found.is_none() {
            steps.extend(is.map(|_| Step::Delete(name.clone())));
            steps.extend([Step::AddVxlan(name.clone(), vxlan), set(LinkChange::Alias(self.mark.to_owned()))]);
        }
        steps.extend(self.silence(name, found.is_some()));
        if found.is_none_or(|link| link.mtu != mtu) {
            steps.push(set(LinkChange::Mtu(mtu)));
        }
        steps.extend(self.joins(name, found, towards(self.domain.way_out.is_some())));
        if found.is_none_or(|link| !link.up) {
            steps.push(set(LinkChange::Up));
        }
        steps
    }

    fn is_in(&self, link: &Link) -> bool {
        self.found.is_some_and(|bridge| link.bridge == Some(bridge.index))
    }

    /// What makes a link a port of the bridge; what it may do can be said only of one that is a port.
    fn joins(&self, name: &str, found: Option<&Link>, port: BridgePort) -> Vec<Step> {
        let joined = found.is_some_and(|link| self.is_in(link));
        let join = (!joined).then(|| LinkChange::Bridge(self.bridge.clone()));
        let may = (!joined || found.and_then(|link| link.port) != Some(port)).then_some(LinkChange::Port(port));
        join.into_iter().chain(may).map(|change| Step::Set(name.to_owned(), change)).collect()
    }

    /// What is to be done about each workload's interface.
    fn ports(&mut self) -> Vec<Vec<Step>> {
        let mut groups = Vec::new();
        for name in self.domain.ports.keys() {
            let Some(link) = self.actual.link(name) else {
                self.plan.refuse(name, format!("there is no interface {name} yet"));
                continue;
            };
            let bridge = link.bridge.and_then(|bridge| self.actual.links.iter().find(|link| link.index == bridge));
            if let Some(other) = bridge.filter(|bridge| !is_ours(bridge, self.mark)) {
                self.plan.refuse(name, format!("interface {name} is a port of {}, and stays it", other.name));
                continue;
            }
            if is_ours(link, self.mark) {
                self.plan.refuse(name, format!("interface {name} is no workload's: it is Bulkhead's own"));
                continue;
            }
            // One that is a port already is cut off from the host; an address that it is given does not free it.
            if let (None, Some(why)) = (bridge, self.own.get(&link.index)) {
                self.plan.refuse(name, format!("interface {name} is no workload's: {why}"));
                continue;
            }
            let joins = self.joins(name, Some(link), WORKLOAD);
            let safe = self.ready && joins.is_empty();
            if self.ready && !safe && !link.up && self.is_in(link) {
                let trouble =
                    format!("interface {name} stays switched off: it is not isolated and locked (Linux 5.18)");
                self.plan.troubles.push(trouble);
            }
            let switch = match (safe, link.up) {
                (true, false) => Some(LinkChange::Up),
                (false, true) => Some(LinkChange::Down),
                _ => None,
            };
            let switch = switch.map(|change| Step::Set(name.clone(), change));
            let joins = joins.into_iter().filter(|_| self.ready);
            groups.push(switch.into_iter().chain(joins).collect());
        }
        groups
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
        self.plan.groups.extend(add.chain(remove).map(|step| vec![step]));
    }

    fn neighbours(&mut self) {
        let index = self.actual.link(&self.bridge).map(|bridge| bridge.index);
        let here = self.actual.neighbours.iter().filter(|known| Some(known.link) == index);
        let known: BTreeMap<IpAddr, (Option<MacAddress>, bool)> =
            here.map(|known| (known.ip, (known.mac, known.pinned))).collect();
        for (ip, mac) in &self.domain.neighbours {
            if known.get(ip) != Some(&(Some(*mac), true)) {
                self.plan.group(vec![Step::Know(self.bridge.clone(), *ip, *mac)]);
            }
        }
        // What nobody pinned is the kernel's own, and passes.
        for (ip, _) in known.iter().filter(|(ip, (_, pinned))| *pinned && !self.domain.neighbours.contains_key(*ip)) {
            self.plan.group(vec![Step::Unknow(self.bridge.clone(), *ip)]);
        }
    }
}
