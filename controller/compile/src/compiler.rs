//! The compiler's state, and what each kind of change does to it.

mod carrying;
mod guests;
mod places;
mod policies;
#[cfg(test)]
mod tests;

use crate::{
    TooLarge,
    carrier::Heading,
    dirty::Dirty,
    fabric::Fabric,
    index::{GroupKey, Identity, Index},
    numbers::{FORGOTTEN, Numbered, Numbers},
    rule::Rule,
    set::Set,
    switch::{Switch, Unit},
};
use bulkhead_pipeline::{Cause, Delta, Masks, Program};
use bulkhead_policy::{
    Change, Key, Kind, Resource, State, carries_out,
    model::{Action, AddressSet, Direction, Mode, Network, Policy, Tier, Workload, Zone},
};
use bulkhead_topology::{Hands, Name, alone, graph::Graph};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
};

/// Numbers of edges that are none any more, and that are kept: whoever comes back so soon has the number that he had.
const SPARE_EDGES: usize = 1_000;

/// What one change comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compiled {
    /// What changes on each switch; switches on which nothing changes are left out. Nothing of what is compiled from
    /// nothing: that is whole programs.
    pub deltas: BTreeMap<Name, Delta>,
    /// Durable numbers that were given, to be stored with the revision.
    pub numbers: Vec<(Arc<str>, Option<u32>)>,
}

/// A cause in the operator's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CauseName {
    /// A policy's rule.
    Rule {
        /// The policy.
        policy: Name,
        /// The rule's direction.
        direction: Direction,
        /// Its index in that direction.
        index: usize,
    },
    /// The isolation by a policy.
    Isolation {
        /// The policy.
        policy: Name,
    },
    /// The isolation by a zone.
    Zone {
        /// The zone.
        zone: Name,
    },
    /// A network's default.
    Default {
        /// The network.
        network: Name,
    },
    /// A built-in rule: its name is the cause's own.
    Builtin,
}

#[derive(Debug)]
pub(crate) struct CompiledPolicy {
    pub policy: Arc<Policy>,
    pub number: u32,
    pub subject: u32,
    pub rules: Box<[u32]>,
}

/// Compiles states to programs.
#[derive(Debug, Default)]
pub struct Compiler {
    pub(crate) hands: Option<Hands>,
    pub(crate) numbers: Numbers,
    pub(crate) index: Index,
    pub(crate) networks: BTreeMap<Name, (Arc<Network>, u32)>,
    /// Workloads as they are plugged in, with their identities.
    pub(crate) workloads: BTreeMap<Name, (Arc<Workload>, u32)>,
    /// Those whose documents say less than what is seen.
    written: BTreeMap<Name, Arc<Workload>>,
    pub(crate) fabric: Fabric,
    /// Between which switches there may be other tunnels than [`Self::take_tunnels`] last told.
    turned: BTreeSet<(Name, Name)>,
    /// Workloads by network.
    members: BTreeMap<Name, BTreeSet<Name>>,
    /// Workloads by the switches that they are plugged into, declared or not.
    pub(crate) plugged: BTreeMap<Name, BTreeSet<Name>>,
    /// Interfaces behind switches that judge nothing, by network and identity.
    guests: BTreeMap<Name, BTreeMap<u32, u32>>,
    /// Networks by the switches that they have an uplink on.
    uplinked: BTreeMap<Name, BTreeSet<Name>>,
    pub(crate) zones: BTreeMap<Name, (Arc<Zone>, u32, u32)>,
    pub(crate) policies: BTreeMap<Name, CompiledPolicy>,
    sets: BTreeMap<Name, Arc<AddressSet>>,
    /// Policies by the zones and address sets that they name.
    users: BTreeMap<Key, Set<Name>>,
    pub(crate) rules: BTreeMap<u32, Rule>,
    /// Egress rules by the port names in them: what they mean depends on every destination that has the name.
    named: BTreeMap<Arc<str>, Set<u32>>,
    /// Groups that staged policies are about, for egress and ingress.
    staged: [Set<u32>; 2],
    /// Where each rule has entries.
    pub(crate) rule_on: BTreeMap<u32, Set<Name>>,
    /// Identities with an interface on a switch, declared or not.
    pub(crate) locals: BTreeMap<Name, Set<u32>>,
    pub(crate) switches: BTreeMap<Name, Switch>,
    policy_names: BTreeMap<u32, Name>,
    zone_names: BTreeMap<u32, Name>,
    network_names: BTreeMap<u32, Name>,
    /// The order of the fabric's ways before the last change.
    heading: Heading,
    /// Why a refused change could not be taken back. What fitted before fits again, so this is a fault of ours; but
    /// nothing may be compiled from what is left.
    lost: Option<TooLarge>,
}

impl Compiler {
    /// Compiles a state from nothing. `numbers` are the durable numbers given so far.
    pub fn new(state: &State, numbers: Numbers) -> Result<(Self, Compiled), TooLarge> {
        Self::by(alone, state, numbers)
    }

    /// The same; `hands` make what is much, now and later.
    pub fn by(hands: Hands, state: &State, numbers: Numbers) -> Result<(Self, Compiled), TooLarge> {
        let mut compiler = Self { hands: Some(hands), numbers, ..Self::default() };
        let all: Vec<Change> = state.resources().map(Change::set).collect();
        compiler.fabric.carrier.epoch = compiler.numbers.last(Numbered::Order);
        let known = compiler.numbers.last(Numbered::Edge) > 0;
        let dirty = compiler.follow(&all, None)?;
        compiler.begin(dirty)?;
        if known {
            // Switches may still follow ways of this order that the links no longer show.
            compiler.fabric.carrier.graph.forget_followed();
        }
        let numbers = compiler.numbers.take_fresh();
        Ok((compiler, Compiled { deltas: BTreeMap::new(), numbers }))
    }

    /// Follows a change. On an error the compiler is as it was.
    pub fn apply(&mut self, changes: &[Change]) -> Result<Compiled, TooLarge> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        let back: Vec<Change> =
            changes.iter().map(|change| Change { key: change.key.clone(), value: self.value(&change.key) }).collect();
        self.heading = self.fabric.carrier.heading();
        match self.change(changes, None) {
            Ok(deltas) => Ok(Compiled { deltas, numbers: self.numbers.take_fresh() }),
            Err(refused) => {
                self.withdraw(&back, &[]).map_err(|error| {
                    let what =
                        format!("nothing more is compiled: taking back what was refused ({refused}): {}", error.what);
                    self.lost.insert(TooLarge { what, ..error }).clone()
                })?;
                Err(refused)
            }
        }
    }

    /// Follows `back`, which takes back the last change; `given` are numbers that that change gave and that nobody was
    /// told of: they may be given again. On an error, only the compiler's numbers are of any more use.
    pub fn withdraw(&mut self, back: &[Change], given: &[(Arc<str>, Option<u32>)]) -> Result<(), TooLarge> {
        let heading = self.heading.clone();
        self.numbers.taking_back();
        let followed = self.change(back, Some(heading));
        self.numbers.take_back(given);
        followed.map(drop)
    }

    /// The order of the fabric's ways as it is now; for [`Self::withdraw_to`].
    pub fn heading(&self) -> Heading {
        self.fabric.carrier.heading()
    }

    /// Follows `back`, which takes back all changes since [`Self::heading`] was asked for `heading`. Numbers that they
    /// gave stay given. On an error, only the compiler's numbers are of any more use.
    pub fn withdraw_to(&mut self, heading: Heading, back: &[Change]) -> Result<(), TooLarge> {
        self.heading = heading;
        self.withdraw(back, &[])
    }

    /// Forgets the numbers of names that nobody has any more; what was forgotten, to be stored. No program changes
    /// by it. Costs a look at every name.
    pub fn forget(&mut self) -> Vec<(Arc<str>, Option<u32>)> {
        let classes = self.switches.values().flat_map(|switch| switch.classes.values());
        let prefixes: BTreeSet<u32> = classes.map(|class| class.number).collect();
        self.numbers.forget(&FORGOTTEN, |kind, number| match kind {
            Numbered::Network | Numbered::Edge => true,
            Numbered::Order => number == self.fabric.carrier.epoch,
            Numbered::Identity => self.index.identities.contains_key(&number),
            Numbered::Rule => self.rules.contains_key(&number),
            Numbered::Policy => self.policy_names.contains_key(&number),
            Numbered::Zone => self.zone_names.contains_key(&number),
            Numbered::Prefix => prefixes.contains(&number),
        })
    }

    /// Forgets the numbers of edges that are none any more, once there are many; what was forgotten, to be stored. They are
    /// given again: to be called only when every switch without a VTEP address has its program as it is now, and nothing
    /// of older ones.
    pub fn forget_edges(&mut self) -> Vec<(Arc<str>, Option<u32>)> {
        if self.numbers.of_kind(Numbered::Edge).count() <= self.fabric.edges.len() + SPARE_EDGES {
            return Vec::new();
        }
        let edges: BTreeSet<u32> = self.fabric.edges.values().copied().collect();
        self.numbers.forget(&[Numbered::Edge], |_, number| edges.contains(&number))
    }

    /// The links that are used between switches without tunnels, and the ways over them.
    pub fn graph(&self) -> &Graph {
        &self.fabric.carrier.graph
    }

    /// The program of a switch.
    pub fn program(&self, switch: &Name) -> Option<&Program> {
        self.switches.get(switch).map(|switch| &switch.program)
    }

    /// The masks of the program of a switch.
    pub fn masks(&self, switch: &Name) -> Option<&Masks> {
        self.switches.get(switch).map(|switch| &switch.masks)
    }

    /// Every durable number given so far.
    pub fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// What a cause stands for; `None` if it is gone.
    pub fn describe(&self, cause: Cause) -> Option<CauseName> {
        Some(match cause {
            Cause::Builtin(_) | Cause::Miss(_) => CauseName::Builtin,
            Cause::Rule(number) => {
                let rule = self.rules.get(&number)?;
                CauseName::Rule { policy: rule.policy.name.clone(), direction: rule.direction, index: rule.index }
            }
            Cause::Isolation(number) => CauseName::Isolation { policy: self.policy_names.get(&number)?.clone() },
            Cause::Zone(number) => CauseName::Zone { zone: self.zone_names.get(&number)?.clone() },
            Cause::Default(number) => CauseName::Default { network: self.network_names.get(&number)?.clone() },
        })
    }

    fn value(&self, key: &Key) -> Option<Resource> {
        let name = &key.name;
        match key.kind {
            Kind::Network => self.networks.get(name).map(|(network, _)| Resource::Network(network.clone())),
            Kind::Workload => self.written(name).cloned().map(Resource::Workload),
            Kind::Zone => self.zones.get(name).map(|(zone, ..)| Resource::Zone(zone.clone())),
            Kind::Policy => self.policies.get(name).map(|policy| Resource::Policy(policy.policy.clone())),
            Kind::AddressSet => self.sets.get(name).map(|set| Resource::AddressSet(set.clone())),
            Kind::Switch => self.fabric.switches.get(name).cloned().map(Resource::Switch),
            Kind::Host => self.fabric.hosts.get(name).cloned().map(Resource::Host),
            Kind::Link => self.fabric.carrier.links.get(name).cloned().map(Resource::Link),
            Kind::Adjacency => self.fabric.carrier.adjacencies.get(name).cloned().map(Resource::Adjacency),
        }
    }

    fn change(&mut self, changes: &[Change], back: Option<Heading>) -> Result<BTreeMap<Name, Delta>, TooLarge> {
        let dirty = self.follow(changes, back)?;
        self.renew(dirty)
    }

    /// Takes over changes; what is to be made anew.
    fn follow(&mut self, changes: &[Change], back: Option<Heading>) -> Result<Dirty, TooLarge> {
        let mut sorted: Vec<&Change> = changes.iter().collect();
        // What others are looked up in comes first.
        let rank = |kind| match kind {
            Kind::Switch => 0,
            Kind::Network => 1,
            Kind::AddressSet => 2,
            Kind::Zone => 3,
            Kind::Host => 4,
            Kind::Workload => 5,
            Kind::Policy => 6,
            Kind::Link => 7,
            Kind::Adjacency => 8,
        };
        sorted.sort_by(|a, b| rank(a.key.kind).cmp(&rank(b.key.kind)).then_with(|| a.key.cmp(&b.key)));
        let mut dirty = Dirty::default();
        let followed = sorted.iter().try_for_each(|change| self.one(change, &mut dirty));
        self.tunnels_turned(&mut dirty);
        followed?;
        self.carry(&mut dirty, back)?;
        Ok(dirty)
    }

    fn one(&mut self, change: &Change, dirty: &mut Dirty) -> Result<(), TooLarge> {
        let name = &change.key.name;
        match (&change.value, change.key.kind) {
            (Some(Resource::Network(network)), _) => self.set_network(name, Some(network), dirty),
            (None, Kind::Network) => self.set_network(name, None, dirty),
            (Some(Resource::Workload(workload)), _) => self.set_workload(name, Some(workload), dirty),
            (None, Kind::Workload) => self.set_workload(name, None, dirty),
            (Some(Resource::Zone(zone)), _) => self.set_zone(name, Some(zone), dirty),
            (None, Kind::Zone) => self.set_zone(name, None, dirty),
            (Some(Resource::Policy(policy)), _) => self.set_policy(name, Some(policy), dirty),
            (None, Kind::Policy) => self.set_policy(name, None, dirty),
            (Some(Resource::AddressSet(set)), _) => {
                self.sets.insert(name.clone(), set.clone());
                self.renew_users(&change.key, dirty)
            }
            (None, Kind::AddressSet) => {
                self.sets.remove(name);
                self.renew_users(&change.key, dirty)
            }
            (Some(Resource::Switch(switch)), _) => {
                self.set_switch(name, Some(switch), dirty);
                Ok(())
            }
            (None, Kind::Switch) => {
                self.set_switch(name, None, dirty);
                Ok(())
            }
            (Some(Resource::Host(host)), _) => self.set_host(name, Some(host), dirty),
            (None, Kind::Host) => self.set_host(name, None, dirty),
            (Some(Resource::Link(link)), _) => {
                self.fabric.carrier.set_link(name, Some(link));
                Ok(())
            }
            (None, Kind::Link) => {
                self.fabric.carrier.set_link(name, None);
                Ok(())
            }
            (Some(Resource::Adjacency(adjacency)), _) => {
                self.fabric.carrier.set_adjacency(name, Some(adjacency));
                Ok(())
            }
            (None, Kind::Adjacency) => {
                self.fabric.carrier.set_adjacency(name, None);
                Ok(())
            }
        }
    }

    /// An identity came to a switch, or left it.
    pub(crate) fn local_changed(&self, switch: &Name, identity: u32, dirty: &mut Dirty) {
        dirty.unit(switch, Unit::Identity(identity));
        for rule in self.policies_about(identity).flat_map(|policy| &policy.rules) {
            dirty.unit(switch, Unit::Rule(*rule));
        }
    }

    /// What becomes of an identity's packets that no rule decides is another thing now.
    fn default_changed(&self, switch: &Name, identity: u32, dirty: &mut Dirty) {
        dirty.unit(switch, Unit::Identity(identity));
        let baseline = self.policies_about(identity).filter(|policy| policy.policy.tier == Tier::Baseline);
        for rule in baseline.flat_map(|policy| &policy.rules) {
            // A pass in the last tier does what the default does.
            if self.rules.get(rule).is_some_and(|rule| rule.text().action == Action::Pass) {
                dirty.unit(switch, Unit::Rule(*rule));
            }
        }
    }

    /// The policies whose subjects include an identity.
    fn policies_about(&self, identity: u32) -> impl Iterator<Item = &CompiledPolicy> {
        let groups = self.index.identities.get(&identity).into_iter().flat_map(|identity| &identity.groups);
        let subjects = groups.filter_map(|group| self.index.groups.get(group)).flat_map(|group| &group.subjects);
        subjects.filter_map(|name| self.policies.get(name))
    }

    /// An identity came into being, or is about to end: rules that have it as a peer change.
    fn peers_changed(&self, identity: u32, dirty: &mut Dirty) {
        let Some(known) = self.index.identities.get(&identity) else { return };
        let groups = known.groups.iter().filter_map(|group| self.index.groups.get(group));
        let named = known.ports.keys().filter_map(|name| self.named.get(name)).flatten();
        for rule in groups.flat_map(|group| &group.peers).chain(named) {
            for switch in self.rule_on.get(rule).into_iter().flatten() {
                dirty.unit(switch, Unit::Rule(*rule));
            }
        }
    }

    /// A rule has entries on a switch no more.
    pub(crate) fn off(&mut self, rule: u32, switch: &Name) {
        if let Some(on) = self.rule_on.get_mut(&rule) {
            on.remove(switch);
            if on.is_empty() {
                self.rule_on.remove(&rule);
            }
        }
    }

    /// Counts interfaces of an identity on a switch.
    fn count(&mut self, switch: &Name, identity: u32, by: i32, dirty: &mut Dirty) {
        let Some(known) = self.index.identities.get_mut(&identity) else { return };
        let count = known.on.entry(switch.clone()).or_default();
        let before = *count;
        *count = count.saturating_add_signed(by);
        let now = *count;
        if now == 0 {
            known.on.remove(switch);
        }
        if (before == 0) == (now == 0) {
            return;
        }
        let locals = self.locals.entry(switch.clone()).or_default();
        if now == 0 {
            locals.remove(&identity);
            if locals.is_empty() {
                self.locals.remove(switch);
            }
        } else {
            locals.insert(identity);
        }
        self.local_changed(switch, identity, dirty);
    }

    /// The identity of a workload, which joins it.
    fn identity(&mut self, name: &Name, workload: &Workload, dirty: &mut Dirty) -> Result<u32, TooLarge> {
        let groups = self.index.groups_of(&workload.network, &workload.labels);
        let zones = groups.iter().filter_map(|group| self.index.groups.get(group)).flat_map(|group| &group.zones);
        let mode = zones.filter_map(|zone| self.zones.get(zone)).map(|(zone, ..)| zone.mode).max();
        let enforced = carries_out(mode.unwrap_or(Mode::Enforce), name);
        let mut key = format!("{}/{}/", workload.network, if enforced { "enforce" } else { "report" });
        for (label, value) in workload.labels.iter() {
            // Neither labels nor names of ports have these separators in them; writing to a String cannot fail.
            let _ = write!(key, "{label}={value},");
        }
        for (port, number) in workload.named_ports.iter() {
            let _ = write!(key, ";{port}:{number}");
        }
        let number = self.numbers.of(Numbered::Identity, &key)?;
        if !self.index.identities.contains_key(&number) {
            let identity = Identity {
                network: workload.network.clone(),
                labels: workload.labels.clone(),
                ports: workload.named_ports.clone(),
                enforced,
                members: Set::default(),
                groups,
                on: BTreeMap::new(),
            };
            self.index.add_identity(number, identity);
            self.peers_changed(number, dirty);
        }
        if let Some(identity) = self.index.identities.get_mut(&number) {
            identity.members.insert(name.clone());
        }
        Ok(number)
    }

    fn leave(&mut self, name: &Name, identity: u32, dirty: &mut Dirty) {
        let Some(known) = self.index.identities.get_mut(&identity) else { return };
        known.members.remove(name);
        if known.members.is_empty() {
            self.peers_changed(identity, dirty);
            self.index.remove_identity(identity);
        }
    }

    fn set_zone(&mut self, name: &Name, zone: Option<&Arc<Zone>>, dirty: &mut Dirty) -> Result<(), TooLarge> {
        // Numbers may be used up: nothing is touched before they are there.
        let number = zone.map(|_| self.numbers.of(Numbered::Zone, name.as_str())).transpose()?;
        let mut affected = BTreeSet::new();
        let old = self.zones.remove(name);
        let chosen = |zone: &Zone| (zone.mode, zone.network.clone(), zone.selector.clone());
        let mode = old.as_ref().map(|(zone, ..)| chosen(zone)) != zone.map(|zone| chosen(zone));
        if let Some((_, group, _)) = &old
            && let Some(group) = self.index.groups.get_mut(group)
        {
            group.zones.remove(name);
            affected.extend(group.members.iter().copied());
        }
        if let Some((zone, number)) = zone.zip(number) {
            let key = GroupKey { network: Some(zone.network.clone()), selector: zone.selector.clone() };
            let id = self.index.group(key);
            if let Some(group) = self.index.groups.get_mut(&id) {
                group.zones.insert(name.clone());
                affected.extend(group.members.iter().copied());
            }
            self.zone_names.insert(number, name.clone());
            self.zones.insert(name.clone(), (zone.clone(), id, number));
        } else if let Some((.., number)) = &old {
            self.zone_names.remove(number);
        }
        self.renew_users(&Key { kind: Kind::Zone, name: name.clone() }, dirty)?;
        if let Some((_, group, _)) = old {
            self.index.release(group);
        }
        for identity in affected {
            let Some(known) = self.index.identities.get(&identity) else { continue };
            for switch in known.on.keys() {
                self.default_changed(switch, identity, dirty);
            }
            if !mode {
                continue;
            }
            for member in &known.members.clone() {
                // Whether it enforces may have changed, and with it its identity.
                if let Some((workload, _)) = self.workloads.get(member).cloned() {
                    self.plug(member, Some(&workload), dirty)?;
                }
            }
        }
        Ok(())
    }

    /// Policies that name a zone or an address set are looked at again.
    fn renew_users(&mut self, key: &Key, dirty: &mut Dirty) -> Result<(), TooLarge> {
        for name in &self.users.get(key).cloned().unwrap_or_default() {
            if let Some(policy) = self.policies.get(name).map(|policy| policy.policy.clone()) {
                self.set_policy(name, Some(&policy), dirty)?;
            }
        }
        Ok(())
    }
}
