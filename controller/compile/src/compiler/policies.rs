//! Policies in the compiler: their rules, whom they are about, and which of them are staged.

use super::{CompiledPolicy, Compiler};
use crate::{
    TooLarge,
    dirty::Dirty,
    index::{GroupKey, Isolating},
    numbers::Numbered,
    rule::Rule,
    set::Set,
    switch::Unit,
};
use bulkhead_policy::{
    Key, Kind,
    model::{CidrSet, Direction, Peer, Policy, PortMatch, Subject, Tier},
};
use bulkhead_topology::{Name, Operator, Requirement, Selector};
use std::{collections::BTreeSet, sync::Arc};

/// A policy's number, and those of its rules with their direction and place.
type PolicyNumbers = (u32, Vec<(Direction, usize, u32)>);

impl Compiler {
    pub(super) fn set_policy(
        &mut self,
        name: &Name,
        policy: Option<&Arc<Policy>>,
        dirty: &mut Dirty,
    ) -> Result<(), TooLarge> {
        // Numbers may be used up: nothing is touched before they are there.
        let numbers = policy.map(|policy| self.policy_numbers(name, policy)).transpose()?;
        let old = self.forget_policy(name, dirty);
        let mut rules = Box::default();
        if let Some((policy, (number, numbered))) = policy.zip(numbers) {
            let subject = self.index.group(self.subject_key(&policy.subject));
            if let Some(group) = self.index.groups.get_mut(&subject) {
                group.subjects.insert(name.clone());
                for isolation in isolations(policy) {
                    group.isolating.insert(isolation);
                }
            }
            rules = numbered.iter().map(|(.., rule)| *rule).collect();
            for (direction, index, rule) in numbered {
                self.add_rule(rule, policy, direction, index, subject);
            }
            for key in references(policy) {
                self.users.entry(key).or_default().insert(name.clone());
            }
            self.policy_names.insert(number, name.clone());
            let compiled = CompiledPolicy { policy: policy.clone(), number, subject, rules: rules.clone() };
            self.policies.insert(name.clone(), compiled);
        }
        let says = |policy: &CompiledPolicy| (policy.subject, isolations(&policy.policy));
        let (was, is) = (old.as_ref().map(|(policy, _)| says(policy)), self.policies.get(name).map(says));
        let isolation = was != is;
        let (was, is) = (was.map(|(subject, _)| subject), is.map(|(subject, _)| subject));
        for group in was.into_iter().filter(|was| Some(*was) != is) {
            self.subjects_changed(group, &[], isolation, dirty);
        }
        if let Some(group) = is {
            self.subjects_changed(group, &rules, isolation, dirty);
        }
        if let Some((old, groups)) = old {
            for group in groups.iter().chain([&old.subject]) {
                self.index.release(*group);
            }
        }
        Ok(())
    }

    /// The numbers of a policy and of its rules, each with its direction and place.
    fn policy_numbers(&mut self, name: &Name, policy: &Policy) -> Result<PolicyNumbers, TooLarge> {
        let number = self.numbers.of(Numbered::Policy, name.as_str())?;
        let mut rules = Vec::new();
        for direction in Direction::BOTH {
            for index in 0..policy.rules(direction).len() {
                let key = format!("{name}/{}/{index}", direction.as_str());
                rules.push((direction, index, self.numbers.of(Numbered::Rule, &key)?));
            }
        }
        Ok((number, rules))
    }

    /// The policy is gone, and so is what it asked of its rules' groups; these are to be released.
    fn forget_policy(&mut self, name: &Name, dirty: &mut Dirty) -> Option<(CompiledPolicy, Set<u32>)> {
        let old = self.policies.remove(name)?;
        self.policy_names.remove(&old.number);
        for key in references(&old.policy) {
            if let Some(users) = self.users.get_mut(&key) {
                users.remove(name);
                if users.is_empty() {
                    self.users.remove(&key);
                }
            }
        }
        let mut groups = Set::default();
        for number in &old.rules {
            for switch in self.rule_on.get(number).into_iter().flatten() {
                dirty.unit(switch, Unit::Rule(*number));
            }
            let Some(rule) = self.rules.remove(number) else { continue };
            self.forget_names(&rule);
            for id in rule.groups {
                if let Some(group) = self.index.groups.get_mut(&id) {
                    group.peers.remove(number);
                }
                groups.insert(id);
            }
        }
        if let Some(group) = self.index.groups.get_mut(&old.subject) {
            group.subjects.remove(name);
            for isolation in isolations(&old.policy) {
                group.isolating.remove(&isolation);
            }
        }
        Some((old, groups))
    }

    /// The rule's port names are not its any more.
    fn forget_names(&mut self, rule: &Rule) {
        for name in port_names(rule) {
            if let Some(rules) = self.named.get_mut(name) {
                rules.remove(&rule.number);
                if rules.is_empty() {
                    self.named.remove(name);
                }
            }
        }
    }

    /// A policy about a group's members came or went; `rules` are its rules now. Whether it `isolation`-wise changed
    /// what becomes of the members' packets is for their identities to say.
    fn subjects_changed(&mut self, group: u32, rules: &[u32], isolation: bool, dirty: &mut Dirty) {
        let staged = self.stage(group);
        let Some(group) = self.index.groups.get(&group) else { return };
        // By member or by switch, whichever are fewer: most members of large groups may be on no switch.
        let here: Vec<(&Name, u32)> = if group.members.len() < self.locals.len() {
            let members = group.members.iter().filter_map(|member| Some((member, self.index.identities.get(member)?)));
            members.flat_map(|(member, identity)| identity.on.keys().map(|switch| (switch, *member))).collect()
        } else {
            let locals = self.locals.iter();
            locals.flat_map(|(switch, locals)| locals.common(&group.members).map(move |m| (switch, *m))).collect()
        };
        let mut switches = BTreeSet::new();
        for (switch, member) in here.into_iter().filter(|(switch, _)| self.switches.contains_key(*switch)) {
            switches.insert(switch);
            if isolation || !staged.is_empty() {
                dirty.unit(switch, Unit::Identity(member));
            }
            if staged.is_empty() {
                continue;
            }
            // Staged rules are weighed against all others about the identity.
            for rule in self.policies_about(member).flat_map(|policy| &policy.rules) {
                if self.rules.get(rule).is_some_and(|rule| staged.contains(&rule.direction)) {
                    dirty.unit(switch, Unit::Rule(*rule));
                }
            }
        }
        for switch in switches {
            for rule in rules {
                dirty.unit(switch, Unit::Rule(*rule));
            }
        }
    }

    /// Notes in which directions staged policies are about a group; the directions in which that is new.
    fn stage(&mut self, id: u32) -> Vec<Direction> {
        let group = self.index.groups.get(&id);
        let subjects = group.into_iter().flat_map(|group| &group.subjects).filter_map(|name| self.policies.get(name));
        let staged: Vec<&Arc<Policy>> = subjects.map(|p| &p.policy).filter(|policy| policy.staged).collect();
        let mut changed = Vec::new();
        for (direction, groups) in Direction::BOTH.into_iter().zip(&mut self.staged) {
            let new = if staged.iter().any(|p| !p.rules(direction).is_empty() || p.isolate.get(direction)) {
                groups.insert(id)
            } else {
                groups.remove(&id)
            };
            changed.extend(new.then_some(direction));
        }
        changed
    }

    /// The groups that staged policies are about in a direction.
    pub(crate) fn staged(&self, direction: Direction) -> &Set<u32> {
        let [egress, ingress] = &self.staged;
        match direction {
            Direction::Egress => egress,
            Direction::Ingress => ingress,
        }
    }

    fn subject_key(&self, subject: &Subject) -> GroupKey {
        match subject {
            Subject::Selector(selector) => GroupKey { network: None, selector: selector.clone() },
            Subject::Zone(zone) => self.zone_key(zone),
        }
    }

    /// The group of a zone; of one that does not exist, nobody.
    fn zone_key(&self, zone: &Name) -> GroupKey {
        match self.zones.get(zone) {
            Some((zone, ..)) => GroupKey { network: Some(zone.network.clone()), selector: zone.selector.clone() },
            None => GroupKey { network: None, selector: nobody() },
        }
    }

    fn add_rule(&mut self, number: u32, policy: &Arc<Policy>, direction: Direction, index: usize, subject: u32) {
        let Some(text) = policy.rules(direction).get(index) else { return };
        let (mut groups, mut sets, mut external) = (Vec::new(), Vec::new(), false);
        for peer in text.peers.iter().flatten() {
            let key = match peer {
                Peer::Selector(selector) => GroupKey { network: None, selector: selector.clone() },
                Peer::Zone(zone) => self.zone_key(zone),
                Peer::Network(name) => GroupKey { network: Some(name.clone()), selector: Selector::everything() },
                Peer::Cidr(set) => {
                    sets.push(set.clone());
                    continue;
                }
                Peer::AddressSet(name) => {
                    sets.push(self.sets.get(name).map_or_else(CidrSet::default, |set| set.set.clone()));
                    continue;
                }
                Peer::External => {
                    external = true;
                    continue;
                }
            };
            let group = self.index.group(key);
            if let Some(group) = self.index.groups.get_mut(&group) {
                group.peers.insert(number);
            }
            groups.push(group);
        }
        let (groups, sets) = (groups.into(), sets.into());
        let rule = Rule { number, policy: policy.clone(), direction, index, subject, groups, sets, external };
        for name in port_names(&rule) {
            self.named.entry(name.clone()).or_default().insert(number);
        }
        self.rules.insert(number, rule);
    }
}

/// A selector that selects nobody: a label in no value.
fn nobody() -> Selector {
    Selector::new([Requirement::new("bulkhead.io/nobody".into(), Operator::In, [])])
}

/// The port names of an egress rule: they are looked up at the destination.
fn port_names(rule: &Rule) -> impl Iterator<Item = &Arc<str>> {
    let ports = rule.text().ports.iter().flatten().filter(|_| rule.direction == Direction::Egress);
    ports.filter_map(|port| match port {
        PortMatch::Named { name, .. } => Some(name),
        _ => None,
    })
}

/// The directions in which a policy isolates its subjects, as their group keeps them.
pub(super) fn isolations(policy: &Policy) -> Vec<Isolating> {
    let isolates = |direction: &Direction| policy.tier == Tier::Application && policy.isolate.get(*direction);
    let entry = |direction| (direction, policy.staged, policy.priority, Some(policy.name.clone()));
    Direction::BOTH.into_iter().filter(isolates).map(entry).collect()
}

/// The zones and address sets that a policy names.
fn references(policy: &Policy) -> BTreeSet<Key> {
    let zone = |name: &Name| Key { kind: Kind::Zone, name: name.clone() };
    let peers = policy.ingress.iter().chain(&policy.egress).flat_map(|rule| rule.peers.iter().flatten());
    let named = peers.filter_map(|peer| match peer {
        Peer::Zone(name) => Some(zone(name)),
        Peer::AddressSet(name) => Some(Key { kind: Kind::AddressSet, name: name.clone() }),
        _ => None,
    });
    let subject = match &policy.subject {
        Subject::Zone(name) => Some(zone(name)),
        Subject::Selector(_) => None,
    };
    named.chain(subject).collect()
}
