//! All resources, with the indexes that keep a change cheap.

mod check;
mod index;
mod learned;
#[cfg(test)]
mod tests;

use crate::model::*;
use bulkhead_topology::{DatapathId, Mac, Name};
use index::Index;
pub(crate) use index::{peers_path, rules};
use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// [`Network`]
    Network,
    /// [`Switch`]
    Switch,
    /// [`AddressSet`]
    AddressSet,
    /// [`Workload`]
    Workload,
    /// [`Zone`]
    Zone,
    /// [`Policy`]
    Policy,
    /// [`Link`]
    Link,
    /// [`Host`]: of Bulkhead's own, not one that users write.
    Host,
    /// [`Adjacency`]: of Bulkhead's own, not one that users write.
    Adjacency,
}

impl Kind {
    /// The key of the resource of this kind with that name.
    pub fn named(self, name: &Name) -> Key {
        Key { kind: self, name: name.clone() }
    }
}

/// A resource's kind and name; its identity among all resources.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// The name.
    pub name: Name,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}", self.kind, self.name)
    }
}

/// A resource of any kind, shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A network.
    Network(Arc<Network>),
    /// A switch.
    Switch(Arc<Switch>),
    /// An address set.
    AddressSet(Arc<AddressSet>),
    /// A workload.
    Workload(Arc<Workload>),
    /// A zone.
    Zone(Arc<Zone>),
    /// A policy.
    Policy(Arc<Policy>),
    /// A link.
    Link(Arc<Link>),
    /// What is seen on a host.
    Host(Arc<Host>),
    /// What a switch is connected to.
    Adjacency(Arc<Adjacency>),
}

impl Resource {
    /// Its kind and name.
    pub fn key(&self) -> Key {
        match self {
            Self::Network(r) => Kind::Network.named(&r.name),
            Self::Switch(r) => Kind::Switch.named(&r.name),
            Self::AddressSet(r) => Kind::AddressSet.named(&r.name),
            Self::Workload(r) => Kind::Workload.named(&r.name),
            Self::Zone(r) => Kind::Zone.named(&r.name),
            Self::Policy(r) => Kind::Policy.named(&r.name),
            Self::Link(r) => Kind::Link.named(&r.name),
            Self::Host(r) => Kind::Host.named(&r.name),
            Self::Adjacency(r) => Kind::Adjacency.named(&r.name),
        }
    }
}

/// One change to the state: a resource's new value, or its removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which resource.
    pub key: Key,
    /// Its new value; `None` removes it. Its kind and name are those of `key`.
    pub value: Option<Resource>,
}

impl Change {
    /// Gives a resource this value.
    pub fn set(value: Resource) -> Self {
        Self { key: value.key(), value: Some(value) }
    }

    /// Removes a resource.
    pub fn remove(key: Key) -> Self {
        Self { key, value: None }
    }
}

/// Every resource at one revision.
///
/// The maps are for reading; only [`Self::apply`] keeps the indexes beside them true.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Networks by name.
    pub networks: BTreeMap<Name, Arc<Network>>,
    /// Switches by name.
    pub switches: BTreeMap<Name, Arc<Switch>>,
    /// Address sets by name.
    pub address_sets: BTreeMap<Name, Arc<AddressSet>>,
    /// Workloads by name.
    pub workloads: BTreeMap<Name, Arc<Workload>>,
    /// Zones by name.
    pub zones: BTreeMap<Name, Arc<Zone>>,
    /// Policies by name.
    pub policies: BTreeMap<Name, Arc<Policy>>,
    /// Links by name.
    pub links: BTreeMap<Name, Arc<Link>>,
    /// What is seen on hosts, by switch.
    pub hosts: BTreeMap<Name, Arc<Host>>,
    /// What switches are connected to, by switch.
    pub adjacencies: BTreeMap<Name, Arc<Adjacency>>,
    /// What the resources say, reversed.
    index: Index,
}

impl PartialEq for State {
    /// Equal resources; the indexes follow from them.
    fn eq(&self, other: &Self) -> bool {
        self.networks == other.networks
            && self.switches == other.switches
            && self.address_sets == other.address_sets
            && self.workloads == other.workloads
            && self.zones == other.zones
            && self.policies == other.policies
            && self.links == other.links
            && self.hosts == other.hosts
            && self.adjacencies == other.adjacencies
    }
}

impl Eq for State {}

impl State {
    /// Carries out changes that [`Self::check`] found no error in.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            if let Some(old) = self.take(&change.key) {
                self.index.remove(&old);
            }
            if let Some(new) = &change.value {
                self.index.insert(new);
                self.put(new.clone());
            }
        }
    }

    /// The resource of that kind and name.
    pub fn get(&self, key: &Key) -> Option<Resource> {
        let name = &key.name;
        match key.kind {
            Kind::Network => self.networks.get(name).cloned().map(Resource::Network),
            Kind::Switch => self.switches.get(name).cloned().map(Resource::Switch),
            Kind::AddressSet => self.address_sets.get(name).cloned().map(Resource::AddressSet),
            Kind::Workload => self.workloads.get(name).cloned().map(Resource::Workload),
            Kind::Zone => self.zones.get(name).cloned().map(Resource::Zone),
            Kind::Policy => self.policies.get(name).cloned().map(Resource::Policy),
            Kind::Link => self.links.get(name).cloned().map(Resource::Link),
            Kind::Host => self.hosts.get(name).cloned().map(Resource::Host),
            Kind::Adjacency => self.adjacencies.get(name).cloned().map(Resource::Adjacency),
        }
    }

    /// Whether there is a resource of that kind and name.
    pub fn contains(&self, key: &Key) -> bool {
        self.get(key).is_some()
    }

    /// Names of the kind of `key` that stand around it in order: at most `most` before and as many after
    /// it. For guessing what a name that is not there was meant to be, at a cost that does not grow.
    pub fn around(&self, key: &Key, most: usize) -> Vec<&Name> {
        fn near<'a, V>(map: &'a BTreeMap<Name, V>, name: &Name, most: usize) -> Vec<&'a Name> {
            let before = map.range::<Name, _>(..name).rev().take(most);
            before.chain(map.range::<Name, _>(name..).take(most)).map(|(name, _)| name).collect()
        }
        let name = &key.name;
        match key.kind {
            Kind::Network => near(&self.networks, name, most),
            Kind::Switch => near(&self.switches, name, most),
            Kind::AddressSet => near(&self.address_sets, name, most),
            Kind::Workload => near(&self.workloads, name, most),
            Kind::Zone => near(&self.zones, name, most),
            Kind::Policy => near(&self.policies, name, most),
            Kind::Link => near(&self.links, name, most),
            Kind::Host => near(&self.hosts, name, most),
            Kind::Adjacency => near(&self.adjacencies, name, most),
        }
    }

    /// Every resource, by kind and name; a kind comes after those that it refers to.
    pub fn resources(&self) -> impl Iterator<Item = Resource> {
        let networks = self.networks.values().cloned().map(Resource::Network);
        networks
            .chain(self.switches.values().cloned().map(Resource::Switch))
            .chain(self.address_sets.values().cloned().map(Resource::AddressSet))
            .chain(self.workloads.values().cloned().map(Resource::Workload))
            .chain(self.zones.values().cloned().map(Resource::Zone))
            .chain(self.policies.values().cloned().map(Resource::Policy))
            .chain(self.links.values().cloned().map(Resource::Link))
            .chain(self.hosts.values().cloned().map(Resource::Host))
            .chain(self.adjacencies.values().cloned().map(Resource::Adjacency))
    }

    /// The workload of `network` that has `ip`.
    pub fn workload_at(&self, network: &Name, ip: IpAddr) -> Option<&Arc<Workload>> {
        self.index.workload_at(network, ip)
    }

    /// The workload of `network` that has an interface with `mac`.
    pub fn workload_with(&self, network: &Name, mac: Mac) -> Option<&Arc<Workload>> {
        self.workloads.get(self.index.workload_with(network, mac)?)
    }

    /// The network that learns workloads, if one does.
    pub fn learning(&self) -> Option<&Arc<Network>> {
        self.networks.get(self.index.learning()?)
    }

    /// The OpenFlow switch that is declared to have a datapath id.
    pub fn datapath(&self, id: DatapathId) -> Option<&Name> {
        self.index.datapath(id)
    }

    /// The workload that is plugged in at `at`: the one whose document says so, else the one that was seen there.
    pub fn workload_on(&self, at: &Attachment) -> Option<&Arc<Workload>> {
        self.index.attached(at).or_else(|| {
            let seen = self.hosts.get(&at.switch)?.at(&at.port)?;
            let workload = self.workloads.get(&seen.workload)?;
            let interface = workload.interfaces.iter().find(|interface| interface.mac == seen.mac)?;
            (self.attachment(workload, interface).as_ref() == Some(at)).then_some(workload)
        })
    }

    /// Where a workload's interface is plugged in: where its document says, else where it was seen, unless that port
    /// is by somebody's document another workload's or an uplink.
    pub fn attachment(&self, workload: &Workload, interface: &Interface) -> Option<Attachment> {
        interface.attachment.clone().or_else(|| {
            let seen = self.index.seen(&workload.name, interface.mac)?;
            let free = self.index.attached(seen).is_none() && self.index.uplinks_at(seen).next().is_none();
            free.then(|| seen.clone())
        })
    }

    /// Where an interface of this name and address was seen, whether or not there is such a workload.
    pub fn seen(&self, workload: &Name, mac: Mac) -> Option<&Attachment> {
        self.index.seen(workload, mac)
    }

    /// Switches that attachments and uplinks name and that are not declared (yet): how many ports of each wait,
    /// and whose the first of them is.
    pub fn pending(&self) -> BTreeMap<&Name, (usize, Key)> {
        let mut pending: BTreeMap<&Name, (usize, Key)> = BTreeMap::new();
        // Places come in the order of their switches; most are of declared ones.
        let mut declared: Option<&Name> = None;
        for (at, whose) in self.index.places() {
            if declared == Some(&at.switch) {
                continue;
            }
            if self.switches.contains_key(&at.switch) {
                declared = Some(&at.switch);
                continue;
            }
            pending.entry(&at.switch).or_insert((0, whose)).0 += 1;
        }
        pending
    }

    /// The link that is declared to end at a port, as it is called there.
    pub fn link_at(&self, at: &Attachment) -> Option<&Name> {
        self.index.link_at(at)
    }

    /// The links that are declared to end at a switch, by port.
    pub fn links_of(&self, switch: &Name) -> impl Iterator<Item = (&Port, &Name)> {
        self.index.links_of(switch)
    }

    /// Whether a workload or an uplink is said to be at a switch, or somebody was seen plugged in there.
    pub fn is_edge(&self, switch: &Name) -> bool {
        self.index.is_edge(switch) || self.hosts.get(switch).is_some_and(|host| !host.plugged.is_empty())
    }

    /// The networks that leave the fabric at `at`, with their VLAN (0: untagged), by VLAN.
    pub fn uplinks_at(&self, at: &Attachment) -> impl Iterator<Item = (u16, &Name)> {
        self.index.uplinks_at(at)
    }

    /// The resources that name `key` and that it cannot be removed from under: workloads, zones and
    /// policies of a network, policies of a zone or an address set. Sorted.
    pub fn referrers(&self, key: &Key) -> impl Iterator<Item = &Key> {
        self.index.referrers(key)
    }

    fn take(&mut self, key: &Key) -> Option<Resource> {
        let name = &key.name;
        match key.kind {
            Kind::Network => self.networks.remove(name).map(Resource::Network),
            Kind::Switch => self.switches.remove(name).map(Resource::Switch),
            Kind::AddressSet => self.address_sets.remove(name).map(Resource::AddressSet),
            Kind::Workload => self.workloads.remove(name).map(Resource::Workload),
            Kind::Zone => self.zones.remove(name).map(Resource::Zone),
            Kind::Policy => self.policies.remove(name).map(Resource::Policy),
            Kind::Link => self.links.remove(name).map(Resource::Link),
            Kind::Host => self.hosts.remove(name).map(Resource::Host),
            Kind::Adjacency => self.adjacencies.remove(name).map(Resource::Adjacency),
        }
    }

    fn put(&mut self, resource: Resource) {
        match resource {
            Resource::Network(r) => drop(self.networks.insert(r.name.clone(), r)),
            Resource::Switch(r) => drop(self.switches.insert(r.name.clone(), r)),
            Resource::AddressSet(r) => drop(self.address_sets.insert(r.name.clone(), r)),
            Resource::Workload(r) => drop(self.workloads.insert(r.name.clone(), r)),
            Resource::Zone(r) => drop(self.zones.insert(r.name.clone(), r)),
            Resource::Policy(r) => drop(self.policies.insert(r.name.clone(), r)),
            Resource::Link(r) => drop(self.links.insert(r.name.clone(), r)),
            Resource::Host(r) => drop(self.hosts.insert(r.name.clone(), r)),
            Resource::Adjacency(r) => drop(self.adjacencies.insert(r.name.clone(), r)),
        }
    }
}
