//! Making dirty units anew.

use crate::{
    TooLarge, builtin,
    compiler::{CompiledPolicy, Compiler},
    numbers::Numbered,
    order::Ordered,
    rule::{Lane, Outcome, Piece, Rule, allowed, fields, next_tier, stage, weighed},
    service,
    switch::{Switch, Unit, prefixes},
};
use bulkhead_pipeline::{Action, Builtin, Cause, Delta, Entry, Field, Match, Next, Stage, ethertype};
use bulkhead_policy::model::{DefaultAction, Direction, Interface, Subject, Tier};
use bulkhead_topology::{Hands, IpNet, Name, Selector, alone, each};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

/// Most clauses at one place: they are one OpenFlow message of at most 64 KiB, 16 bytes a clause (threat A36).
const MAX_CLAUSES: usize = 3_500;
/// Most entries and clauses of one switch: ten times what the largest fabrics ask for, and what 1 GiB of the controller's
/// and the switch's memory holds. A few thousand rules about nested prefixes could ask for millions.
const MAX_ENTRIES: usize = 1_000_000;
/// Priority of what an identity gets where no rule decides.
const IDENTITY: u16 = 2;
/// Priority of an address prefix: longer ones are higher.
const PREFIX: u16 = 16;

/// Switches that are filled at the same time after a start: as many as there may be cores.
const AT_A_TIME: usize = 16;

/// Fewest units for which all hands are called: below, it takes longer to call them.
const MANY: usize = 2_000;

/// What units of one switch come to.
type Made = Vec<(Unit, Vec<Piece>)>;

/// What is to be made anew, by switch.
#[derive(Debug, Default)]
pub(crate) struct Dirty(BTreeMap<Name, BTreeSet<Unit>>);

impl Dirty {
    pub fn unit(&mut self, switch: &Name, unit: Unit) {
        match self.0.get_mut(switch) {
            Some(units) => {
                units.insert(unit);
            }
            None => {
                self.0.insert(switch.clone(), BTreeSet::from([unit]));
            }
        }
    }

    /// Many of one switch.
    pub fn units(&mut self, switch: &Name, units: impl IntoIterator<Item = Unit>) {
        self.0.entry(switch.clone()).or_default().append(&mut units.into_iter().collect());
    }
}

/// A rule as it stands in a switch's order.
#[derive(Debug)]
pub(crate) struct Installed {
    pub stage: Stage,
    pub ordered: Ordered,
    pub prefixes: BTreeSet<IpNet>,
}

impl Compiler {
    /// Makes dirty units anew; nothing is changed in any program if one of them is too large.
    pub(crate) fn renew(&mut self, dirty: Dirty) -> Result<BTreeMap<Name, Delta>, TooLarge> {
        let mut wanted = Vec::with_capacity(dirty.0.len());
        for (name, units) in dirty.0 {
            wanted.extend(self.prepare(name, units)?);
        }
        let made = self.make_all(wanted)?;
        let (new, known): (Vec<_>, Vec<_>) =
            made.into_iter().partition(|(name, _)| self.switches.get(name).is_some_and(Switch::is_new));
        let mut deltas = self.first(new, true);
        for (name, pieces) in known {
            let Some(switch) = self.switches.get_mut(&name) else { continue };
            let mut touched = BTreeMap::new();
            for (unit, _) in &pieces {
                switch.clear(unit, &mut touched);
            }
            for (unit, pieces) in pieces {
                switch.fill(unit, pieces, &mut touched);
            }
            let delta = switch.delta(touched);
            if !delta.is_empty() {
                deltas.insert(name, delta);
            }
        }
        Ok(deltas)
    }

    /// Makes the units of switches that have none yet, a few switches at a time: a whole fabric's at once would take much
    /// memory. On an error nothing of this compiler is of any use.
    pub(crate) fn begin(&mut self, dirty: Dirty) -> Result<(), TooLarge> {
        let mut all = dirty.0.into_iter();
        loop {
            let mut wanted = Vec::with_capacity(AT_A_TIME);
            for (name, units) in all.by_ref().take(AT_A_TIME) {
                wanted.extend(self.prepare(name, units)?);
            }
            if wanted.is_empty() && all.len() == 0 {
                return Ok(());
            }
            let made = self.make_all(wanted)?;
            self.first(made, false);
        }
    }

    /// Gives switches that have nothing their first entries; says what that changes, if somebody wants to know.
    fn first(&mut self, made: Vec<(Name, Made)>, wanted: bool) -> BTreeMap<Name, Delta> {
        let taken =
            made.into_iter().filter_map(|(name, pieces)| Some((name.clone(), self.switches.remove(&name)?, pieces)));
        let taken: Vec<_> = taken.collect();
        let hands = self.hands_for(taken.iter().map(|(.., pieces)| pieces.len()).sum());
        let filled = each(hands, taken, |(name, mut switch, pieces)| {
            switch.begin(pieces);
            let add = if wanted { switch.program.iter().cloned().collect() } else { Vec::new() };
            (name, switch, Delta { remove: Vec::new(), add })
        });
        let mut deltas = BTreeMap::new();
        for (name, switch, delta) in filled {
            if !delta.is_empty() {
                deltas.insert(name.clone(), delta);
            }
            self.switches.insert(name, switch);
        }
        deltas
    }

    /// Who does what so many units ask for: others are called for many alone.
    fn hands_for(&self, units: usize) -> Hands {
        self.hands.filter(|_| units >= MANY).unwrap_or(alone)
    }

    /// Finds the places of a switch's rules; what is to be made anew there then. `None` if there is no such switch.
    fn prepare(&mut self, name: Name, units: BTreeSet<Unit>) -> Result<Option<(Name, BTreeSet<Unit>)>, TooLarge> {
        let Some(mut switch) = self.switches.remove(&name) else { return Ok(None) };
        let units = self.lay_out(&name, &mut switch, units);
        self.switches.insert(name.clone(), switch);
        units.map(|units| Some((name, units)))
    }

    fn lay_out(
        &mut self,
        name: &Name,
        switch: &mut Switch,
        mut units: BTreeSet<Unit>,
    ) -> Result<BTreeSet<Unit>, TooLarge> {
        let rules = units.iter().filter_map(|unit| match unit {
            Unit::Rule(rule) => Some(*rule),
            _ => None,
        });
        let mut moved = BTreeSet::new();
        let mut prefixes = BTreeMap::new();
        for rule in rules.collect::<Vec<_>>() {
            self.place(name, switch, rule, &mut prefixes, &mut moved);
        }
        for (lane, stage) in moved {
            if let Some(order) = switch.orders.get_mut(&stage) {
                for (rule, priority) in order.lay_out()? {
                    if switch.rules.insert((rule, lane), priority) != Some(priority) {
                        units.insert(Unit::Rule(rule));
                    }
                }
            }
        }
        self.classify(switch, prefixes, &mut units)?;
        Ok(units)
    }

    /// What units of several switches come to.
    fn make_all(&self, wanted: Vec<(Name, BTreeSet<Unit>)>) -> Result<Vec<(Name, Made)>, TooLarge> {
        let hands = self.hands_for(wanted.iter().map(|(_, units)| units.len()).sum());
        // The first that is too large is told, whoever finds it; those after it would be made for nothing.
        let refused = AtomicUsize::new(usize::MAX);
        let make = |(at, (name, units)): (usize, (Name, BTreeSet<Unit>))| {
            let switch = self.switches.get(&name).filter(|_| at < refused.load(Ordering::Relaxed));
            let made = switch.map(|switch| self.make(&name, switch, units)).transpose();
            if made.is_err() {
                refused.fetch_min(at, Ordering::Relaxed);
            }
            Ok((name, made?.unwrap_or_default()))
        };
        each(hands, wanted.into_iter().enumerate().collect(), make).into_iter().collect()
    }

    fn make(&self, name: &Name, switch: &Switch, units: BTreeSet<Unit>) -> Result<Made, TooLarge> {
        let mut made = Vec::with_capacity(units.len());
        let mut size = switch.pieces_without(&units);
        let mut ways = self.fabric.carrier.graph.ways(name);
        for unit in units {
            let pieces = match &unit {
                Unit::Rule(rule) => self.rule_pieces(name, switch, *rule)?,
                Unit::Way(edge) => {
                    let entries = builtin::way(&self.fabric, name, edge, &ways.hops(edge));
                    entries.into_iter().map(Piece::Whole).collect()
                }
                unit => self.entries(name, switch, unit)?.into_iter().map(Piece::Whole).collect(),
            };
            size += pieces.len();
            if size > MAX_ENTRIES {
                let what = format!("entries and clauses of switch {name}");
                return Err(TooLarge { what, size: size as u64, limit: MAX_ENTRIES as u64 });
            }
            made.push((unit, pieces));
        }
        let clauses = switch.most_clauses(&made);
        if clauses > MAX_CLAUSES {
            let what = format!("rules that share one set member on switch {name}");
            return Err(TooLarge { what, size: clauses as u64, limit: MAX_CLAUSES as u64 });
        }
        Ok(made)
    }

    /// Numbers the prefixes that came, and finds whom those concern that came or went; `before` says of each prefix that
    /// a rule named or names whether it was there.
    fn classify(
        &mut self,
        switch: &mut Switch,
        before: BTreeMap<IpNet, bool>,
        units: &mut BTreeSet<Unit>,
    ) -> Result<(), TooLarge> {
        let mut changed = Vec::new();
        for (prefix, was) in before {
            let class = switch.classes.get_mut(&prefix);
            if class.is_some() != was {
                changed.push(prefix);
            }
            if let Some(class) = class.filter(|class| class.number == 0) {
                class.number = self.numbers.of(Numbered::Prefix, &prefix.to_string())?;
            }
        }
        for prefix in changed {
            units.insert(Unit::Prefix(prefix));
            // Rules that name a prefix around it see that one cut up differently.
            for class in prefix.and_above().filter_map(|above| switch.classes.get(&above)) {
                units.extend(class.users.iter().map(|(rule, _)| Unit::Rule(*rule)));
            }
        }
        Ok(())
    }

    /// Takes a rule into a switch's orders, or out of them. Of each prefix that it named or names, `prefixes` learns
    /// whether the first of its rules found it there.
    fn place(
        &mut self,
        name: &Name,
        switch: &mut Switch,
        number: u32,
        prefixes: &mut BTreeMap<IpNet, bool>,
        moved: &mut BTreeSet<(Lane, Stage)>,
    ) {
        let mut here = false;
        for lane in Lane::ALL {
            let now = self
                .rules
                .get(&number)
                .filter(|rule| !self.subjects(name, rule, lane).is_empty())
                .map(|rule| self.installed(rule, lane));
            let at = (number, lane);
            let before = switch.installed.remove(&at);
            // What stays is not let go of: a class keeps its number.
            for prefix in now.iter().flat_map(|now| &now.prefixes) {
                prefixes.entry(*prefix).or_insert_with(|| switch.classes.contains_key(prefix));
                switch.classes.entry(*prefix).or_default().users.insert(at);
            }
            if let Some(before) = before {
                let kept = now.as_ref().map(|now| &now.prefixes);
                for prefix in before.prefixes.iter().filter(|prefix| kept.is_none_or(|kept| !kept.contains(prefix))) {
                    prefixes.entry(*prefix).or_insert(true);
                    if let Some(class) = switch.classes.get_mut(prefix) {
                        class.users.remove(&at);
                        if class.users.is_empty() {
                            switch.classes.remove(prefix);
                        }
                    }
                }
                if now.as_ref().is_none_or(|now| now.stage != before.stage || now.ordered != before.ordered) {
                    moved.insert((lane, before.stage));
                    if let Some(order) = switch.orders.get_mut(&before.stage) {
                        order.remove(&before.ordered);
                    }
                    switch.rules.remove(&at);
                }
            }
            let Some(now) = now else { continue };
            here = true;
            if !switch.rules.contains_key(&at) {
                moved.insert((lane, now.stage));
                switch.orders.entry(now.stage).or_default().insert(number, now.ordered.clone());
            }
            switch.installed.insert(at, now);
        }
        if here {
            self.rule_on.entry(number).or_default().insert(name.clone());
        } else {
            self.off(number, name);
        }
    }

    fn installed(&self, rule: &Rule, lane: Lane) -> Installed {
        let text = rule.text();
        let subject = match &rule.policy.subject {
            Subject::Selector(selector) => selector.clone(),
            Subject::Zone(zone) => {
                self.zones.get(zone).map_or_else(Selector::everything, |(zone, ..)| zone.selector.clone())
            }
        };
        Installed {
            stage: rule.stage(lane),
            ordered: Ordered {
                level: (rule.policy.priority, text.priority, text.action),
                policy: rule.policy.name.clone(),
                index: rule.index,
                subject,
                services: service::spans(text.ports.as_deref()),
            },
            prefixes: prefixes(&rule.sets),
        }
    }

    /// The rule's subjects on a switch, as far as it has entries about them in this lane.
    fn subjects(&self, switch: &Name, rule: &Rule, lane: Lane) -> BTreeSet<u32> {
        let none = match lane {
            Lane::Active => rule.policy.staged,
            Lane::Staged => self.staged(rule.direction).is_empty(),
        };
        let (false, Some(locals), Some(group)) = (none, self.locals.get(switch), self.index.groups.get(&rule.subject))
        else {
            return BTreeSet::new();
        };
        let wanted = |identity: &&u32| lane == Lane::Active || self.is_staged(**identity, rule.direction);
        locals.common(&group.members).filter(wanted).copied().collect()
    }

    /// Whether a staged policy is about an identity in this direction.
    fn is_staged(&self, identity: u32, direction: Direction) -> bool {
        let groups = self.index.identities.get(&identity).map(|identity| &identity.groups);
        groups.is_some_and(|groups| !groups.is_disjoint(self.staged(direction)))
    }

    fn rule_pieces(&self, name: &Name, switch: &Switch, number: u32) -> Result<Vec<Piece>, TooLarge> {
        let mut pieces = Vec::new();
        for lane in Lane::ALL {
            let (Some(rule), Some(priority)) = (self.rules.get(&number), switch.rules.get(&(number, lane))) else {
                continue;
            };
            let default = |identity| self.default(identity, rule.direction);
            let subjects = self.subjects(name, rule, lane);
            let remembers = self.fabric.remembers(name);
            rule.entries(&self.index, &subjects, (lane, *priority, remembers), &switch.classes, default, &mut pieces)?;
        }
        Ok(pieces)
    }

    fn entries(&self, name: &Name, switch: &Switch, unit: &Unit) -> Result<Vec<Entry>, TooLarge> {
        Ok(match unit {
            Unit::Pipeline => builtin::pipeline(self.fabric.remembers(name)),
            Unit::Overlay => {
                let host = self.fabric.hosts.get(name).map(AsRef::as_ref);
                let learns = !self.fabric.learning.is_empty();
                self.fabric.switches.get(name).map_or_else(Vec::new, |switch| builtin::overlay(switch, host, learns))
            }
            Unit::Cables => builtin::cables(&self.fabric, name),
            // One that remembers no connections reports no probes either.
            Unit::Peer(_) if !self.fabric.remembers(name) => Vec::new(),
            Unit::Peer(peer) => builtin::peer(self.fabric.between(name, peer)),
            Unit::Network(network) => self.here(name, network).as_ref().map(builtin::network).unwrap_or_default(),
            Unit::Spread(network) => self.spread(name, network)?,
            Unit::Workload(workload) => {
                let found = self.workloads.get(workload);
                let found = found.and_then(|(w, identity)| Some((self.here(name, &w.network)?, w, identity)));
                match found {
                    Some((here, workload, identity)) => builtin::workload(&here, workload, *identity)?,
                    None => Vec::new(),
                }
            }
            Unit::Identity(identity) => self.identity_entries(name, *identity),
            Unit::Prefix(prefix) => match switch.classes.get(prefix) {
                // Both ends of a packet are classed alike: the ends of a reply change places.
                Some(known) => {
                    [Direction::Ingress, Direction::Egress].map(|end| class(end, *prefix, known.number)).into()
                }
                None => Vec::new(),
            },
            Unit::Way(_) | Unit::Rule(_) => Vec::new(),
        })
    }

    /// Who gets what workloads of a network send to groups, here and on other switches.
    fn spread(&self, switch: &Name, network: &Name) -> Result<Vec<Entry>, TooLarge> {
        let Some(here) = self
            .here(switch, network)
            .filter(|here| !here.network.multicast.is_empty() && self.fabric.remembers(here.switch))
        else {
            return Ok(Vec::new());
        };
        let plugged = self.plugged.get(switch).into_iter().flatten().filter_map(|name| self.workloads.get(name));
        let members = plugged.filter(|(workload, _)| workload.network == *network);
        let interfaces = members.flat_map(|(workload, _)| &workload.interfaces);
        let at = |interface: &&Interface| interface.attachment.as_ref().is_some_and(|at| at.switch == *switch);
        let near: Vec<&Interface> = interfaces.filter(at).collect();
        let others = self.fabric.present(network).filter(|other| *other != switch);
        // Copies are judged where they come to; a kernel VTEP judges nothing, and who remembers nothing takes none.
        let judging = others.filter(|other| !self.fabric.has_guests(other) && self.fabric.remembers(other));
        let others = judging.filter(|other| self.fabric.interfaces(here.network, other) > 0);
        let far: Vec<_> = others.filter_map(|other| self.fabric.tunnel(here.network, switch, other)).collect();
        builtin::spread(&here, &near, &far)
    }

    /// A network on a switch, if it is present there.
    fn here<'a>(&'a self, switch: &'a Name, network: &Name) -> Option<builtin::Here<'a>> {
        let (network, number) = self.networks.get(network)?;
        let present = self.fabric.count(&network.name, switch) > 0;
        present.then_some(builtin::Here { network, number: *number, switch, fabric: &self.fabric })
    }

    /// Isolation and defaults of an identity that has an interface on the switch.
    fn identity_entries(&self, switch: &Name, identity: u32) -> Vec<Entry> {
        if !self.locals.get(switch).is_some_and(|locals| locals.contains(&identity)) {
            return Vec::new();
        }
        let mut entries = Vec::new();
        for direction in Direction::BOTH {
            let (subject, ..) = fields(direction);
            let mut add = |lane, tier, (actions, next, cause): Outcome| {
                let matches = Match::any().with(subject, identity);
                entries.push(Entry::new(stage(lane, direction, tier), IDENTITY, matches, actions, next, cause));
            };
            if let Some(policy) = self.isolation(identity, direction, Lane::Active) {
                let cause = Cause::Isolation(policy.number);
                add(Lane::Active, Tier::Application, self.denial(identity, direction, cause));
            }
            add(Lane::Active, Tier::Baseline, self.default(identity, direction));
            if self.is_staged(identity, direction)
                && let Some(next) = next_tier(Lane::Staged, direction, Tier::Emergency)
            {
                let cause = Cause::Builtin(Builtin::Staged);
                add(Lane::Staged, Tier::Emergency, (Vec::new(), Next::Stage(next), cause));
                if let Some(policy) = self.isolation(identity, direction, Lane::Staged) {
                    let cause = policy.policy.staged.then_some(Cause::Isolation(policy.number));
                    add(Lane::Staged, Tier::Application, weighed(direction, cause));
                }
            }
        }
        entries
    }

    /// The policy that isolates an identity, or would: the first by priority, then name.
    fn isolation(&self, identity: u32, direction: Direction, lane: Lane) -> Option<&CompiledPolicy> {
        let groups = self.index.identities.get(&identity)?.groups.iter();
        let groups = groups.filter_map(|group| self.index.groups.get(group));
        let first = groups.flat_map(|group| {
            let first = |staged| {
                let (of, lane, priority, name) = group.isolating.first_from(&(direction, staged, 0, None))?;
                (*of == direction && *lane == staged).then_some((*priority, name.as_ref()?))
            };
            [first(false), first(true).filter(|_| lane == Lane::Staged)]
        });
        let (_, name) = first.flatten().min()?;
        self.policies.get(name)
    }

    fn denial(&self, identity: u32, direction: Direction, cause: Cause) -> Outcome {
        let enforced = self.index.identities.get(&identity).is_none_or(|identity| identity.enforced);
        (Vec::new(), if enforced { Next::Drop } else { allowed(direction) }, cause)
    }

    /// What becomes of an identity's packets that no rule decides: the first isolating zone by name, else
    /// the network's default.
    fn default(&self, identity: u32, direction: Direction) -> Outcome {
        let Some(known) = self.index.identities.get(&identity) else {
            return (Vec::new(), Next::Drop, Cause::Default(0));
        };
        let groups = known.groups.iter().filter_map(|group| self.index.groups.get(group));
        let zones = groups.flat_map(|group| &group.zones).filter_map(|zone| self.zones.get(zone));
        let isolating = zones.filter(|(zone, ..)| zone.isolate.get(direction)).min_by_key(|(zone, ..)| &zone.name);
        if let Some((.., number)) = isolating {
            return self.denial(identity, direction, Cause::Zone(*number));
        }
        match self.networks.get(&known.network) {
            Some((network, number)) if network.default_action == DefaultAction::Allow => {
                (Vec::new(), allowed(direction), Cause::Default(*number))
            }
            Some((_, number)) => self.denial(identity, direction, Cause::Default(*number)),
            None => (Vec::new(), Next::Drop, Cause::Default(0)),
        }
    }
}

/// The entry that tells a prefix apart at the end where an ingress or egress rule's peer is.
fn class(direction: Direction, prefix: IpNet, number: u32) -> Entry {
    let (stage, next, v4, v6, set) = match direction {
        Direction::Egress => (Stage::DstClass, Stage::Locate, Field::Ipv4Dst, Field::Ipv6Dst, Field::DstClass),
        Direction::Ingress => (Stage::SrcClass, Stage::DstClass, Field::Ipv4Src, Field::Ipv6Src, Field::SrcClass),
    };
    let (bits, mask) = prefix.to_bits();
    let (kind, field) = if prefix.is_ipv4() { (ethertype::IPV4, v4) } else { (ethertype::IPV6, v6) };
    let matches = Match::any().with(Field::EthType, kind).masked(field, bits, mask);
    let cause = Cause::Builtin(Builtin::AddressClass);
    let priority = PREFIX + u16::from(prefix.prefix_len());
    Entry::new(stage, priority, matches, vec![Action::set(set, number.into())], Next::Stage(next), cause)
}
