//! Who is selected by what: identities, groups of identities, and the indexes from labels to both.

use crate::set::Set;
use bulkhead_policy::model::Direction;
use bulkhead_topology::{Labels, Name, Operator, ProtocolPort, Requirement, Selector};
use std::{collections::BTreeMap, sync::Arc};

/// A selector, in one network or in all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    pub network: Option<Name>,
    pub selector: Selector,
}

/// A policy that isolates its subjects: direction, whether it is staged, priority and name, in the order in which the
/// first of a direction is the one that a drop is credited to.
pub(crate) type Isolating = (Direction, bool, u16, Option<Name>);

/// The identities that a selector selects, and who asks.
#[derive(Debug)]
pub(crate) struct Group {
    pub key: GroupKey,
    pub members: Set<u32>,
    /// Policies whose subject it is.
    pub subjects: Set<Name>,
    /// What isolates its members.
    pub isolating: Set<Isolating>,
    /// Rules that have it as a peer.
    pub peers: Set<u32>,
    /// Zones that it is.
    pub zones: Set<Name>,
}

impl Group {
    fn unused(&self) -> bool {
        self.subjects.is_empty() && self.peers.is_empty() && self.zones.is_empty()
    }
}

/// One label set in one network.
#[derive(Debug)]
pub(crate) struct Identity {
    pub network: Name,
    pub labels: Arc<Labels>,
    pub ports: Arc<BTreeMap<Arc<str>, ProtocolPort>>,
    pub enforced: bool,
    pub members: Set<Name>,
    pub groups: Set<u32>,
    /// How many of its members each switch has.
    pub on: BTreeMap<Name, u32>,
}

type Pair = (Arc<str>, Arc<str>);

/// All identities and groups.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub identities: BTreeMap<u32, Identity>,
    pub groups: BTreeMap<u32, Group>,
    by_key: BTreeMap<GroupKey, u32>,
    next: u32,
    identities_by_pair: BTreeMap<Pair, Set<u32>>,
    groups_by_pair: BTreeMap<Pair, Set<u32>>,
    /// Identities by the names of their ports.
    pub by_port: BTreeMap<Arc<str>, Set<u32>>,
    /// Groups whose selector has no `key In values`: looked at for every identity.
    loose: Set<u32>,
}

/// The requirements of which everyone whom a selector selects has exactly one [pair](pairs).
fn required(selector: &Selector) -> impl Iterator<Item = &Requirement> {
    selector.requirements().iter().filter(|r| r.operator == Operator::In)
}

fn pairs(requirement: &Requirement) -> impl Iterator<Item = Pair> {
    requirement.values().iter().map(|value| (requirement.key.clone(), value.clone()))
}

impl Index {
    /// The groups that labels in a network belong to.
    pub fn groups_of(&self, network: &Name, labels: &Labels) -> Set<u32> {
        let keyed = labels.iter().filter_map(|(k, v)| self.groups_by_pair.get(&(k.clone(), v.clone()))).flatten();
        keyed
            .chain(&self.loose)
            .filter(|id| self.groups.get(id).is_some_and(|group| selects(&group.key, network, labels)))
            .copied()
            .collect()
    }

    /// The group of a key, if somebody asks for it.
    pub fn find(&self, key: &GroupKey) -> Option<&Group> {
        self.groups.get(self.by_key.get(key)?)
    }

    /// The group of a key, made if there is none; the caller registers its use at once.
    pub fn group(&mut self, key: GroupKey) -> u32 {
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        let id = self.next;
        self.next += 1;
        let with = |pair: &Pair| self.identities_by_pair.get(pair);
        let candidates = |r: &&Requirement| pairs(r).map(|pair| with(&pair).map_or(0, Set::len)).sum::<usize>();
        // The rarest requirement: fewest identities to look at now, and fewest workloads that look at the group later.
        let rarest = required(&key.selector).min_by_key(candidates);
        let members = match rarest {
            Some(rarest) => pairs(rarest).flat_map(|pair| with(&pair)).flatten().copied().collect::<Vec<_>>(),
            None => self.identities.keys().copied().collect(),
        };
        let mut selected = Set::default();
        for number in members {
            if let Some(identity) = self.identities.get_mut(&number)
                && selects(&key, &identity.network, &identity.labels)
            {
                identity.groups.insert(id);
                selected.insert(number);
            }
        }
        match rarest {
            Some(rarest) => {
                for pair in pairs(rarest) {
                    self.groups_by_pair.entry(pair).or_default().insert(id);
                }
            }
            None => {
                self.loose.insert(id);
            }
        }
        let group = Group {
            key: key.clone(),
            members: selected,
            subjects: Set::default(),
            isolating: Set::default(),
            peers: Set::default(),
            zones: Set::default(),
        };
        self.groups.insert(id, group);
        self.by_key.insert(key, id);
        id
    }

    /// Forgets a group that nobody asks for any more.
    pub fn release(&mut self, id: u32) {
        if !self.groups.get(&id).is_some_and(Group::unused) {
            return;
        }
        let Some(group) = self.groups.remove(&id) else { return };
        for member in &group.members {
            if let Some(identity) = self.identities.get_mut(member) {
                identity.groups.remove(&id);
            }
        }
        self.loose.remove(&id);
        for pair in required(&group.key.selector).flat_map(pairs) {
            if let Some(ids) = self.groups_by_pair.get_mut(&pair) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.groups_by_pair.remove(&pair);
                }
            }
        }
        self.by_key.remove(&group.key);
    }

    /// Adds an identity without members.
    pub fn add_identity(&mut self, number: u32, identity: Identity) {
        for group in &identity.groups {
            if let Some(group) = self.groups.get_mut(group) {
                group.members.insert(number);
            }
        }
        for (key, value) in identity.labels.iter() {
            self.identities_by_pair.entry((key.clone(), value.clone())).or_default().insert(number);
        }
        for port in identity.ports.keys() {
            self.by_port.entry(port.clone()).or_default().insert(number);
        }
        self.identities.insert(number, identity);
    }

    /// Removes an identity.
    pub fn remove_identity(&mut self, number: u32) -> Option<Identity> {
        let identity = self.identities.remove(&number)?;
        for group in &identity.groups {
            if let Some(group) = self.groups.get_mut(group) {
                group.members.remove(&number);
            }
        }
        for (key, value) in identity.labels.iter() {
            let pair = (key.clone(), value.clone());
            if let Some(numbers) = self.identities_by_pair.get_mut(&pair) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.identities_by_pair.remove(&pair);
                }
            }
        }
        for port in identity.ports.keys() {
            if let Some(numbers) = self.by_port.get_mut(port) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.by_port.remove(port);
                }
            }
        }
        Some(identity)
    }
}

pub(crate) fn selects(key: &GroupKey, network: &Name, labels: &Labels) -> bool {
    key.network.as_ref().is_none_or(|wanted| wanted == network) && key.selector.matches(labels)
}
