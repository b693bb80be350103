//! Who has what, and who mentions whom: the reverse of what the resources say.

use super::{Key, Kind, Resource};
use crate::model::*;
use bulkhead_topology::{DatapathId, Mac, Name, Vni};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

/// Something that at most one resource may have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    /// An address in a network.
    Ip(Name, IpAddr),
    /// A MAC address in a network.
    Mac(Name, Mac),
    /// A switch port, for a workload's interface.
    Port(Attachment),
    /// A VLAN on a switch port, for a network's uplink.
    Uplink(Attachment, u16),
    /// A network's number.
    Vni(Vni),
    /// An OpenFlow switch's id.
    DatapathId(DatapathId),
    /// A P4Runtime server and the device behind it.
    Device(String, u64),
    /// A switch's overlay address.
    Vtep(IpAddr),
    /// A switch port that leads into the underlay.
    Underlay(Attachment),
    /// A switch port, for a link's end.
    Link(Attachment),
    /// Having a workload's interface plugged in.
    Seen(Name, Mac),
    /// Whoever is plugged in where nobody is declared.
    Learning,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(network, ip) => write!(f, "address {ip} in network {network}"),
            Self::Mac(network, mac) => write!(f, "MAC address {mac} in network {network}"),
            Self::Port(at) | Self::Link(at) | Self::Underlay(at) => {
                write!(f, "port {} of switch {}", at.port, at.switch)
            }
            Self::Uplink(at, 0) => write!(f, "port {} of switch {}, untagged,", at.port, at.switch),
            Self::Uplink(at, vlan) => write!(f, "port {} of switch {}, VLAN {vlan},", at.port, at.switch),
            Self::Vni(vni) => write!(f, "VNI {vni}"),
            Self::DatapathId(id) => write!(f, "datapath id {id}"),
            Self::Device(address, id) => write!(f, "device {id} at {address}"),
            Self::Vtep(ip) => write!(f, "VTEP address {ip}"),
            Self::Seen(workload, mac) => write!(f, "having interface {mac} of workload {workload}"),
            Self::Learning => f.write_str("learning workloads"),
        }
    }
}

/// Calls `f` with every claim of `resource` and the path of the field that makes it.
pub(super) fn claims(resource: &Resource, mut f: impl FnMut(Claim, &dyn Fn() -> String)) {
    match resource {
        Resource::Network(n) => {
            f(Claim::Vni(n.vni), &|| "spec.vni".into());
            for (i, uplink) in n.uplinks.iter().enumerate() {
                f(Claim::Uplink(uplink.at.clone(), uplink.vlan), &|| format!("spec.uplinks[{i}]"));
            }
            for (i, gateway) in n.gateways.iter().enumerate() {
                f(Claim::Ip(n.name.clone(), *gateway), &|| format!("spec.gateways[{i}]"));
            }
            if n.learn_workloads {
                f(Claim::Learning, &|| "spec.learnWorkloads".into());
            }
        }
        Resource::Workload(w) => {
            for (i, interface) in w.interfaces.iter().enumerate() {
                f(Claim::Mac(w.network.clone(), interface.mac), &|| format!("spec.interfaces[{i}].mac"));
                for (j, ip) in interface.ips.iter().enumerate() {
                    f(Claim::Ip(w.network.clone(), *ip), &|| format!("spec.interfaces[{i}].ips[{j}]"));
                }
                if let Some(at) = &interface.attachment {
                    f(Claim::Port(at.clone()), &|| format!("spec.interfaces[{i}].attachment"));
                }
            }
        }
        Resource::Switch(s) => {
            match &s.driver {
                Driver::Openflow(id) => f(Claim::DatapathId(*id), &|| "spec.datapathId".into()),
                Driver::P4runtime { address, device_id, underlay } => {
                    f(Claim::Device(address.clone(), *device_id), &|| "spec.address".into());
                    for port in underlay.iter().flat_map(|underlay| underlay.ports()) {
                        let at = Attachment { switch: s.name.clone(), port: Port::Number(port) };
                        f(Claim::Underlay(at), &|| "spec.underlay.routes".into());
                    }
                }
                Driver::Sim | Driver::Kernel => {}
            }
            if let Some(vtep) = s.vtep {
                f(Claim::Vtep(vtep), &|| "spec.vtep".into());
            }
        }
        Resource::Host(h) => {
            for (i, seen) in h.plugged.iter().enumerate() {
                f(Claim::Seen(seen.workload.clone(), seen.mac), &|| format!("spec.plugged[{i}]"));
            }
        }
        Resource::Link(l) => {
            f(Claim::Link(l.a.clone()), &|| "spec.a".into());
            f(Claim::Link(l.b.clone()), &|| "spec.b".into());
        }
        Resource::AddressSet(_) | Resource::Zone(_) | Resource::Policy(_) | Resource::Adjacency(_) => {}
    }
}

/// Calls `f` with every resource that `resource` cannot do without, and the path of the field that names it.
///
/// Switches are not among them: an attachment, an uplink or a link may come before its switch.
pub(super) fn references(resource: &Resource, mut f: impl FnMut(Key, &dyn Fn() -> String)) {
    match resource {
        Resource::Workload(w) => f(Kind::Network.named(&w.network), &|| "spec.network".into()),
        Resource::Zone(z) => f(Kind::Network.named(&z.network), &|| "spec.network".into()),
        Resource::Policy(p) => {
            if let Subject::Zone(zone) = &p.subject {
                f(Kind::Zone.named(zone), &|| "spec.subject.zone".into());
            }
            for (direction, i, rule) in rules(p) {
                for (j, peer) in rule.peers.iter().flatten().enumerate() {
                    let (key, field) = match peer {
                        Peer::Zone(zone) => (Kind::Zone.named(zone), "zone"),
                        Peer::Network(network) => (Kind::Network.named(network), "network"),
                        Peer::AddressSet(set) => (Kind::AddressSet.named(set), "addressSet"),
                        Peer::Selector(_) | Peer::Cidr(_) | Peer::External => continue,
                    };
                    f(key, &|| format!("{}[{j}].{field}", peers_path(direction, i)));
                }
            }
        }
        Resource::Network(_)
        | Resource::Switch(_)
        | Resource::AddressSet(_)
        | Resource::Link(_)
        | Resource::Host(_)
        | Resource::Adjacency(_) => {}
    }
}

/// Every rule of a policy with its direction and index.
pub(crate) fn rules(policy: &Policy) -> impl Iterator<Item = (Direction, usize, &Rule)> {
    [Direction::Ingress, Direction::Egress]
        .into_iter()
        .flat_map(|d| policy.rules(d).iter().enumerate().map(move |(i, rule)| (d, i, rule)))
}

/// The document path of a rule's peer list.
pub(crate) fn peers_path(direction: Direction, index: usize) -> String {
    let side = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    format!("spec.{}[{index}].{side}", direction.as_str())
}

/// The claims and references of all resources, reversed. A function of the resources alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Network and address to the workload that has it.
    ips: BTreeMap<Name, BTreeMap<IpAddr, Arc<Workload>>>,
    /// Networks' gateways.
    gateways: BTreeSet<(Name, IpAddr)>,
    /// Network and MAC address to the workload that has it.
    macs: BTreeMap<Name, BTreeMap<Mac, Name>>,
    /// Switch port to the workload that is plugged in there.
    ports: BTreeMap<Attachment, Arc<Workload>>,
    /// Switch port to the networks that leave the fabric there, by VLAN.
    uplinks: BTreeMap<Attachment, BTreeMap<u16, Name>>,
    vnis: BTreeMap<Vni, Name>,
    datapath_ids: BTreeMap<DatapathId, Name>,
    devices: BTreeMap<(String, u64), Name>,
    vteps: BTreeMap<IpAddr, Name>,
    /// Switch ports that lead into the underlay.
    underlays: BTreeSet<Attachment>,
    /// Switch port to the link that ends there.
    links: BTreeMap<Attachment, Name>,
    /// Workload and MAC address to where it was seen.
    seen: BTreeMap<Name, BTreeMap<Mac, Attachment>>,
    /// The network that learns workloads.
    learning: Option<Name>,
    /// Policies that want connections to be remembered.
    stateful: BTreeSet<Name>,
    /// Resource to the resources that name it.
    referrers: BTreeMap<Key, BTreeSet<Key>>,
}

/// Takes `key` out of the map at `outer`, if `ours` says that it is there for us; drops an empty map.
fn remove_nested<A: Ord, B: Ord, V>(
    map: &mut BTreeMap<A, BTreeMap<B, V>>,
    outer: &A,
    key: &B,
    ours: impl Fn(&V) -> bool,
) {
    if let Some(inner) = map.get_mut(outer) {
        remove_if(inner, key, ours);
        if inner.is_empty() {
            map.remove(outer);
        }
    }
}

fn remove_if<K: Ord, V>(map: &mut BTreeMap<K, V>, key: &K, ours: impl Fn(&V) -> bool) {
    if map.get(key).is_some_and(ours) {
        map.remove(key);
    }
}

impl Index {
    /// Takes in what `resource` claims and names.
    pub fn insert(&mut self, resource: &Resource) {
        let key = resource.key();
        references(resource, |target, _| {
            self.referrers.entry(target).or_default().insert(key.clone());
        });
        claims(resource, |claim, _| {
            let name = key.name.clone();
            match (claim, resource) {
                (Claim::Ip(network, ip), Resource::Workload(w)) => {
                    self.ips.entry(network).or_default().insert(ip, w.clone());
                }
                (Claim::Port(at), Resource::Workload(w)) => {
                    self.ports.insert(at, w.clone());
                }
                (Claim::Mac(network, mac), _) => {
                    self.macs.entry(network).or_default().insert(mac, name);
                }
                (Claim::Uplink(at, vlan), _) => {
                    self.uplinks.entry(at).or_default().insert(vlan, name);
                }
                (Claim::Vni(vni), _) => {
                    self.vnis.insert(vni, name);
                }
                (Claim::DatapathId(id), _) => {
                    self.datapath_ids.insert(id, name);
                }
                (Claim::Device(address, id), _) => {
                    self.devices.insert((address, id), name);
                }
                (Claim::Vtep(ip), _) => {
                    self.vteps.insert(ip, name);
                }
                (Claim::Underlay(at), _) => {
                    self.underlays.insert(at);
                }
                (Claim::Link(at), _) => {
                    self.links.insert(at, name);
                }
                (Claim::Learning, _) => self.learning = Some(name),
                (Claim::Ip(network, ip), Resource::Network(_)) => {
                    self.gateways.insert((network, ip));
                }
                // Only workloads have ports; where they are seen, the claim does not say.
                (Claim::Ip(..) | Claim::Port(_) | Claim::Seen(..), _) => {}
            }
        });
        if let Resource::Policy(policy) = resource
            && policy.stateful
        {
            self.stateful.insert(policy.name.clone());
        }
        if let Resource::Host(host) = resource {
            for seen in &host.plugged {
                let at = Attachment { switch: host.name.clone(), port: seen.port.clone() };
                self.seen.entry(seen.workload.clone()).or_default().insert(seen.mac, at);
            }
        }
    }

    /// Forgets what `resource` claims and names. What another has taken over meanwhile stays the other's:
    /// in one step, two workloads may exchange their addresses.
    pub fn remove(&mut self, resource: &Resource) {
        let key = resource.key();
        if key.kind == Kind::Policy {
            self.stateful.remove(&key.name);
        }
        references(resource, |target, _| {
            if let Some(set) = self.referrers.get_mut(&target) {
                set.remove(&key);
                if set.is_empty() {
                    self.referrers.remove(&target);
                }
            }
        });
        claims(resource, |claim, _| match claim {
            Claim::Ip(network, ip) if key.kind == Kind::Network => drop(self.gateways.remove(&(network, ip))),
            Claim::Ip(network, ip) => remove_nested(&mut self.ips, &network, &ip, |w| w.name == key.name),
            Claim::Mac(network, mac) => remove_nested(&mut self.macs, &network, &mac, |n| *n == key.name),
            Claim::Port(at) => remove_if(&mut self.ports, &at, |w| w.name == key.name),
            Claim::Uplink(at, vlan) => remove_nested(&mut self.uplinks, &at, &vlan, |n| *n == key.name),
            Claim::Vni(vni) => remove_if(&mut self.vnis, &vni, |n| *n == key.name),
            Claim::DatapathId(id) => remove_if(&mut self.datapath_ids, &id, |n| *n == key.name),
            Claim::Device(address, id) => remove_if(&mut self.devices, &(address, id), |n| *n == key.name),
            Claim::Vtep(ip) => remove_if(&mut self.vteps, &ip, |n| *n == key.name),
            Claim::Underlay(at) => drop(self.underlays.remove(&at)),
            Claim::Link(at) => remove_if(&mut self.links, &at, |n| *n == key.name),
            Claim::Seen(workload, mac) => remove_nested(&mut self.seen, &workload, &mac, |at| at.switch == key.name),
            Claim::Learning => drop(self.learning.take_if(|network| *network == key.name)),
        });
    }

    /// The resource that has what `claim` says.
    pub fn owner(&self, claim: &Claim) -> Option<Key> {
        match claim {
            Claim::Ip(network, ip) => match self.workload_at(network, *ip) {
                Some(workload) => Some(Kind::Workload.named(&workload.name)),
                None => self.gateways.contains(&(network.clone(), *ip)).then(|| Kind::Network.named(network)),
            },
            Claim::Mac(network, mac) => self.macs.get(network)?.get(mac).map(|n| Kind::Workload.named(n)),
            Claim::Port(at) => self.ports.get(at).map(|w| Kind::Workload.named(&w.name)),
            Claim::Uplink(at, vlan) => self.uplinks.get(at)?.get(vlan).map(|n| Kind::Network.named(n)),
            Claim::Vni(vni) => self.vnis.get(vni).map(|n| Kind::Network.named(n)),
            Claim::DatapathId(id) => self.datapath_ids.get(id).map(|n| Kind::Switch.named(n)),
            Claim::Device(address, id) => self.devices.get(&(address.clone(), *id)).map(|n| Kind::Switch.named(n)),
            Claim::Vtep(ip) => self.vteps.get(ip).map(|n| Kind::Switch.named(n)),
            Claim::Underlay(at) => self.underlays.contains(at).then(|| Kind::Switch.named(&at.switch)),
            Claim::Link(at) => self.links.get(at).map(|n| Kind::Link.named(n)),
            Claim::Seen(workload, mac) => self.seen(workload, *mac).map(|at| Kind::Host.named(&at.switch)),
            Claim::Learning => self.learning.as_ref().map(|network| Kind::Network.named(network)),
        }
    }

    /// The workload of `network` that has `ip`.
    pub fn workload_at(&self, network: &Name, ip: IpAddr) -> Option<&Arc<Workload>> {
        self.ips.get(network)?.get(&ip)
    }

    /// The workload of `network` that has `mac`.
    pub fn workload_with(&self, network: &Name, mac: Mac) -> Option<&Name> {
        self.macs.get(network)?.get(&mac)
    }

    /// The network that learns workloads.
    pub fn learning(&self) -> Option<&Name> {
        self.learning.as_ref()
    }

    /// The switch with a datapath id.
    pub fn datapath(&self, id: DatapathId) -> Option<&Name> {
        self.datapath_ids.get(&id)
    }

    /// The workload that is plugged in at `at`.
    pub fn attached(&self, at: &Attachment) -> Option<&Arc<Workload>> {
        self.ports.get(at)
    }

    /// Where a workload's interface was seen.
    pub fn seen(&self, workload: &Name, mac: Mac) -> Option<&Attachment> {
        self.seen.get(workload)?.get(&mac)
    }

    /// Every place that a workload's interface or an uplink is said to be at, and whose it is; workloads first.
    pub fn places(&self) -> impl Iterator<Item = (&Attachment, Key)> {
        let workloads = self.ports.iter().map(|(at, w)| (at, Kind::Workload.named(&w.name)));
        let uplink =
            |(at, by_vlan): (_, &BTreeMap<u16, Name>)| Some((at, Kind::Network.named(by_vlan.values().next()?)));
        workloads.chain(self.uplinks.iter().filter_map(uplink))
    }

    /// The link that ends at `at`.
    pub fn link_at(&self, at: &Attachment) -> Option<&Name> {
        self.links.get(at)
    }

    /// The links that end at a switch, by port.
    pub fn links_of(&self, switch: &Name) -> impl Iterator<Item = (&Port, &Name)> {
        // Names of ports come before their numbers, and no name before the empty one.
        let first = Attachment { switch: switch.clone(), port: Port::Name("".into()) };
        let of = self.links.range(first..).take_while({
            let switch = switch.clone();
            move |(at, _)| at.switch == switch
        });
        of.map(|(at, link)| (&at.port, link))
    }

    /// The policies that want connections to be remembered.
    pub fn stateful(&self) -> impl Iterator<Item = &Name> {
        self.stateful.iter()
    }

    /// The switches that remember none: those that are known by their P4Runtime server.
    pub fn forgetful(&self) -> impl Iterator<Item = &Name> {
        self.devices.values()
    }

    /// The workloads that are said to be at a switch, one for each of its ports.
    pub fn workloads_at(&self, switch: &Name) -> impl Iterator<Item = &Arc<Workload>> {
        // As above.
        let first = Attachment { switch: switch.clone(), port: Port::Name("".into()) };
        let switch = switch.clone();
        self.ports.range(first..).take_while(move |(at, _)| at.switch == switch).map(|(_, workload)| workload)
    }

    /// Whether a workload or an uplink is said to be at a switch.
    pub fn is_edge(&self, switch: &Name) -> bool {
        // As above.
        let first = Attachment { switch: switch.clone(), port: Port::Name("".into()) };
        let workload = self.ports.range(&first..).next().is_some_and(|(at, _)| at.switch == *switch);
        workload || self.uplinks.range(&first..).next().is_some_and(|(at, _)| at.switch == *switch)
    }

    /// The networks that leave the fabric at `at`, by VLAN.
    pub fn uplinks_at(&self, at: &Attachment) -> impl Iterator<Item = (u16, &Name)> {
        self.uplinks.get(at).into_iter().flatten().map(|(vlan, name)| (*vlan, name))
    }

    /// The addresses that workloads of `network` have, with the workload.
    pub fn addresses(&self, network: &Name) -> impl Iterator<Item = (IpAddr, &Arc<Workload>)> {
        self.ips.get(network).into_iter().flatten().map(|(ip, w)| (*ip, w))
    }

    /// The resources that name `key`.
    pub fn referrers(&self, key: &Key) -> impl Iterator<Item = &Key> {
        self.referrers.get(key).into_iter().flatten()
    }
}
