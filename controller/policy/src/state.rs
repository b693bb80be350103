//! All resources, with the indexes that keep a change cheap.

use crate::{diagnostic::Diagnostic, model::*};
use bulkhead_topology::Name;
use std::{collections::BTreeMap, fmt, sync::Arc};

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
}

/// One change to the state: a resource's new value, or its removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which resource.
    pub key: Key,
    /// Its new value; `None` removes it. Its kind and name are those of `key`.
    pub value: Option<Resource>,
}

/// Every resource at one revision.
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
}

impl State {
    /// What is wrong with `changes` taken together, as one atomic step from this state; errors refuse
    /// them all. Cost follows the changes, not the state.
    pub fn check(&self, changes: &[Change]) -> Vec<Diagnostic> {
        let _ = changes;
        Vec::new()
    }

    /// Carries out changes that [`Self::check`] found no error in.
    pub fn apply(&mut self, changes: &[Change]) {
        let _ = changes;
    }
}
