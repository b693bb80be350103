//! Remarks: what an accepted change probably does not mean. Nothing here widens or refuses anything (R17, A24: what
//! selects nobody matches nobody).

use crate::{
    diagnostic::Diagnostic,
    model::{
        Action, Attachment, CidrSet, Direction, Driver, Network, Peer, Policy, PortMatch, Rule, Subject, Switch,
        Workload, Zone,
    },
    overlay::{has_route, judges, tunnel},
    state::{Change, Key, Resource, State, peers_path, rules},
};
use bulkhead_topology::{Cover, Labels, Name, Operator, ProtocolPort, Selector};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

mod forgetful;
#[cfg(test)]
mod tests;

/// Most port names that are remarked on as nobody's: that a name is nobody's shows after a look at everybody.
const MAX_UNKNOWN: usize = 20;

/// A workload's named ports.
pub type NamedPorts = BTreeMap<Arc<str>, ProtocolPort>;

/// Who is there. Remarks ask whoever knows without looking at every workload.
pub trait Census {
    /// Whether there is a workload in `network` (`None`: in any) that `selector` selects and whose ports `has` likes.
    fn any(&self, network: Option<&Name>, selector: &Selector, has: &dyn Fn(&NamedPorts) -> bool) -> bool;
    /// The switches that `network` is present on, declared or not, and how many interfaces and uplink ports it has there.
    fn present<'a>(&'a self, network: &Name) -> Box<dyn Iterator<Item = (&'a Name, u32)> + 'a>;
    /// How many `network` has of those on `switch`.
    fn count(&self, network: &Name, switch: &Name) -> u32;
    /// The networks that are present on `switch`.
    fn networks_on(&self, switch: &Name) -> BTreeSet<Name>;
}

/// Remarks on the resources that `changes` give a new value; `state` is the state after them. Cost follows the changes,
/// as far as `census` answers at once.
pub fn remarks(state: &State, changes: &[Change], census: &dyn Census) -> Vec<Diagnostic> {
    let mut remarks = Remarks { state, census, unknown: 0, apart: BTreeSet::new(), found: Vec::new() };
    for change in changes {
        if let Some(Resource::Network(network)) = &change.value {
            remarks.apart(&change.key, "spec", network);
            remarks.forgotten(&change.key, network);
        }
    }
    for change in changes {
        match &change.value {
            Some(Resource::Policy(policy)) => remarks.policy(&change.key, policy),
            Some(Resource::AddressSet(set)) => remarks.addresses(&change.key, "spec.cidrs".into(), &set.set),
            Some(Resource::Switch(switch)) => {
                for network in census.networks_on(&switch.name) {
                    remarks.forgotten_on(&change.key, "spec.driver", &network, &switch.name);
                    remarks.apart_from(&change.key, "spec.vtep", &network, &switch.name);
                }
            }
            Some(Resource::Workload(workload)) => remarks.newly_on(&change.key, workload),
            Some(Resource::Zone(zone)) => remarks.members(&change.key, zone),
            _ => {}
        }
    }
    remarks.found
}

struct Remarks<'a> {
    state: &'a State,
    census: &'a dyn Census,
    /// Port names that were remarked on as nobody's.
    unknown: usize,
    /// Networks on switches that have no tunnel between them: it is said once of each.
    apart: BTreeSet<Name>,
    found: Vec<Diagnostic>,
}

/// What to do about labels that nobody has.
const SPELLING: &str = "if that is not meant, look at the spelling of labels and values";

impl Remarks<'_> {
    fn warn(&mut self, key: &Key, path: String, message: impl Into<String>, hint: &str) {
        self.found.push(Diagnostic::warning(key.clone(), path, message, hint));
    }

    /// A network on switches of which some have no tunnel between them. Only what decides about tunnels is compared, not
    /// each switch with each.
    fn apart(&mut self, key: &Key, path: &str, network: &Network) {
        let mut alike: BTreeMap<_, Vec<&Switch>> = BTreeMap::new();
        for (name, count) in self.census.present(&network.name) {
            let Some(switch) = self.state.switches.get(name) else { continue };
            if count > 1 && !judges(switch) {
                self.unjudged(key, path, &network.name, name);
            }
            let some = alike.entry((switch.vtep.map(|vtep| vtep.is_ipv6()), judges(switch))).or_default();
            // Two, because those that are alike may have no tunnel between them either.
            if some.len() < 2 {
                some.push(switch);
            }
        }
        for uplink in &network.uplinks {
            let switch = &uplink.at.switch;
            if self.state.switches.get(switch).is_some_and(|switch| !judges(switch)) {
                let message =
                    format!("the uplink on {switch} leads nowhere: that is a kernel VTEP, which judges nothing");
                self.warn(key, format!("{path}.uplinks"), message, "");
            }
        }
        let some: Vec<&Switch> = alike.into_values().flatten().collect();
        // Those whose routes are known have each their own.
        let present = || self.census.present(&network.name).filter_map(|(name, _)| self.state.switches.get(name));
        let routed = present().filter(|switch| matches!(switch.driver, Driver::P4runtime { .. }));
        let cut_off = routed.flat_map(|a| present().filter(|b| b.name != a.name).map(move |b| (&**a, &**b)));
        let pairs = some.iter().enumerate().flat_map(|(i, a)| some.iter().skip(i + 1).map(move |b| (*a, *b)));
        let apart = pairs.chain(cut_off).find(|(a, b)| Self::are_apart(network, a, b));
        if let Some((a, b)) = apart {
            self.no_tunnel(key, path, network, a, b);
        }
    }

    /// A switch without a tunnel to another one that a network is on.
    fn apart_from(&mut self, key: &Key, path: &str, network: &Name, switch: &Name) {
        let (Some(network), Some(here)) = (self.state.networks.get(network), self.state.switches.get(switch)) else {
            return;
        };
        if !judges(here) && self.census.count(&network.name, switch) > 1 {
            self.unjudged(key, path, &network.name, switch);
        }
        let others = self.census.present(&network.name).filter(|(name, _)| *name != switch);
        let mut others = others.filter_map(|(name, _)| self.state.switches.get(name));
        if let Some(other) = others.find(|other| Self::are_apart(network, here, other)) {
            self.no_tunnel(key, path, network, here, other);
        }
    }

    /// A workload by which its network comes to a switch.
    fn newly_on(&mut self, key: &Key, workload: &Workload) {
        let mut own: BTreeMap<Name, u32> = BTreeMap::new();
        for interface in &workload.interfaces {
            if let Some(at) = self.state.attachment(workload, interface) {
                *own.entry(at.switch).or_default() += 1;
            }
        }
        for (switch, count) in own {
            let judged = self.state.switches.get(&switch).is_none_or(|switch| judges(switch));
            if self.census.count(&workload.network, &switch) <= count {
                self.forgotten_on(key, "spec.interfaces", &workload.network, &switch);
            }
            if self.census.count(&workload.network, &switch) <= count || !judged {
                self.apart_from(key, "spec.interfaces", &workload.network, &switch);
            }
        }
    }

    /// Interfaces behind one kernel VTEP.
    fn unjudged(&mut self, key: &Key, path: &str, network: &Name, switch: &Name) {
        if self.apart.insert(network.clone()) {
            let message = format!("network {network} has several interfaces on {switch}, which is a kernel VTEP");
            let hint = "they do not reach each other, whatever policies allow: nobody there would judge it";
            self.warn(key, path.into(), message, hint);
        }
    }

    /// Whether nothing that anybody could do to links makes two switches reach each other. (Whether links join those
    /// without VTEP addresses is no matter of documents: the status tells.)
    fn are_apart(network: &Network, a: &Switch, b: &Switch) -> bool {
        (a.vtep.is_some() || b.vtep.is_some()) && tunnel(network, a, b).is_none()
    }

    fn no_tunnel(&mut self, key: &Key, path: &str, network: &Network, a: &Switch, b: &Switch) {
        let why = match (a.vtep, b.vtep) {
            (None, _) => format!("{} has no VTEP address", a.name),
            (_, None) => format!("{} has no VTEP address", b.name),
            (Some(here), Some(there)) if here.is_ipv4() == there.is_ipv4() => {
                if !has_route(a, there) {
                    format!("{} has no route to {there}", a.name)
                } else if !has_route(b, here) {
                    format!("{} has no route to {here}", b.name)
                } else {
                    "both are kernel VTEPs, which enforce nothing".into()
                }
            }
            _ => "their VTEP addresses are of different families".into(),
        };
        let (network, a, b) = (&network.name, &a.name, &b.name);
        if !self.apart.insert(network.clone()) {
            return;
        }
        let message =
            format!("network {network} is on switches {a} and {b}, and there is no tunnel between them: {why}");
        self.warn(key, path.into(), message, "what is on one of them does not reach what is on the other");
    }

    fn members(&mut self, key: &Key, zone: &Zone) {
        if !impossible(&zone.selector) && !self.census.any(Some(&zone.network), &zone.selector, &|_| true) {
            self.warn(key, "spec.selector".into(), "no workload is selected: the zone has no members", SPELLING);
        }
    }

    /// Network and selector of a zone; `None` if there is no such zone.
    fn zone(&self, zone: &Name) -> Option<(Option<Name>, Selector)> {
        self.state.zones.get(zone).map(|zone| (Some(zone.network.clone()), zone.selector.clone()))
    }

    /// The workloads that a peer names by what they are; `None` for addresses.
    fn group(&self, peer: &Peer) -> Option<(Option<Name>, Selector)> {
        match peer {
            Peer::Selector(selector) => Some((None, selector.clone())),
            Peer::Zone(zone) => self.zone(zone),
            Peer::Network(network) => Some((Some(network.clone()), Selector::everything())),
            Peer::Cidr(_) | Peer::AddressSet(_) | Peer::External => None,
        }
    }

    fn anyone(&self, (network, selector): &(Option<Name>, Selector), has: &dyn Fn(&NamedPorts) -> bool) -> bool {
        self.census.any(network.as_ref(), selector, has)
    }

    fn policy(&mut self, key: &Key, policy: &Policy) {
        let (path, subject) = match &policy.subject {
            Subject::Selector(selector) => ("spec.subject", Some((None, selector.clone()))),
            Subject::Zone(zone) => ("spec.subject.zone", self.zone(zone)),
        };
        let Some(subject) = subject else { return };
        let about_somebody = self.anyone(&subject, &|_| true);
        if !about_somebody && !impossible(&subject.1) {
            self.warn(key, path.into(), "no workload is selected: the policy is about nobody", SPELLING);
        }
        for (direction, i, rule) in rules(policy) {
            if rule.log && rule.action == Action::Pass {
                let path = format!("spec.{}[{i}].log", direction.as_str());
                self.warn(key, path, "a pass decides nothing, and is not logged", "log the rules that it leads to");
            }
            let peers = peers_path(direction, i);
            for (j, peer) in rule.peers.iter().flatten().enumerate() {
                self.peer(key, format!("{peers}[{j}]"), peer);
            }
            let destinations = match direction {
                Direction::Ingress => Some(vec![subject.clone()]),
                Direction::Egress => self.destinations(rule),
            };
            // Ports of nobody have been remarked on as that.
            let anybody = |this: &Self| match &destinations {
                Some(groups) => groups.iter().any(|group| this.anyone(group, &|_| true)),
                None => true,
            };
            if rule.ports.iter().flatten().any(|port| matches!(port, PortMatch::Named { .. })) && anybody(self) {
                self.names(key, &format!("spec.{}[{i}].ports", direction.as_str()), rule, destinations.as_deref());
            }
        }
        self.shadows(key, policy);
    }

    fn peer(&mut self, key: &Key, path: String, peer: &Peer) {
        match peer {
            Peer::Cidr(set) => self.addresses(key, format!("{path}.cidr"), set),
            Peer::AddressSet(name) => {
                let empty = self.state.address_sets.get(name).is_some_and(|set| nothing(&set.set));
                if empty {
                    self.warn(key, format!("{path}.addressSet"), format!("address set {name} has no address"), "");
                }
            }
            Peer::External => {}
            Peer::Selector(_) | Peer::Zone(_) | Peer::Network(_) => {
                let Some(group) = self.group(peer) else { return };
                if impossible(&group.1) || self.anyone(&group, &|_| true) {
                    return;
                }
                let (path, hint) = match peer {
                    Peer::Zone(_) => (format!("{path}.zone"), ""),
                    Peer::Network(_) => (format!("{path}.network"), ""),
                    _ => (path, SPELLING),
                };
                self.warn(key, path, "no workload is selected: this peer matches nobody", hint);
            }
        }
    }

    /// The workloads that an egress rule may be about at the far end; `None`: any.
    fn destinations(&self, rule: &Rule) -> Option<Vec<(Option<Name>, Selector)>> {
        let peers = rule.peers.as_ref()?;
        // Addresses may be workloads' too.
        let addresses = |peer: &Peer| matches!(peer, Peer::Cidr(_) | Peer::AddressSet(_));
        let groups = peers.iter().filter_map(|peer| self.group(peer)).collect();
        (!peers.iter().any(addresses)).then_some(groups)
    }

    /// Port names that nobody among the destinations has.
    fn names(&mut self, key: &Key, path: &str, rule: &Rule, destinations: Option<&[(Option<Name>, Selector)]>) {
        for (k, port) in rule.ports.iter().flatten().enumerate() {
            let PortMatch::Named { name, protocol } = port else { continue };
            if self.unknown >= MAX_UNKNOWN {
                return;
            }
            let has = |ports: &NamedPorts| {
                ports.get(name).is_some_and(|found| protocol.is_none_or(|protocol| protocol == found.protocol))
            };
            let known = match destinations {
                Some(groups) => groups.iter().any(|group| self.anyone(group, &has)),
                None => self.census.any(None, &Selector::everything(), &has),
            };
            if !known {
                self.unknown += 1;
                let message = format!("no workload at the destination has a port named `{name}`");
                let hint = "name it in the workloads' namedPorts, with the protocol that the rule says";
                self.warn(key, format!("{path}[{k}].port"), message, hint);
            }
        }
    }

    fn addresses(&mut self, key: &Key, path: String, set: &CidrSet) {
        // A list that is empty as it is written is remarked on where it is read.
        if !set.cidrs.is_empty() && nothing(set) {
            self.warn(key, path, "every address is excepted: nothing is left to match", "");
        }
    }

    /// Rules behind one of the same policy that matches everything. Rules of other policies are not compared: that
    /// would cost more than the change.
    fn shadows(&mut self, key: &Key, policy: &Policy) {
        for direction in Direction::BOTH {
            let mut order: Vec<(usize, &Rule)> = policy.rules(direction).iter().enumerate().collect();
            order.sort_by_key(|(index, rule)| (rule.priority, rule.action, *index));
            let all = |(_, rule): &(usize, &Rule)| rule.peers.is_none() && rule.ports.is_none();
            let mut behind = order.into_iter().skip_while(|at| !all(at));
            let Some((first, above)) = behind.next() else { continue };
            let above =
                if above.name.is_empty() { format!("{}[{first}]", direction.as_str()) } else { above.name.to_string() };
            for (index, _) in behind {
                let message = format!("never reached: {above} comes first and matches everything");
                let hint = "lower numbers come first; of equal priority, deny, reject, pass, allow in this order";
                self.warn(key, format!("spec.{}[{index}]", direction.as_str()), message, hint);
            }
        }
    }
}

/// Whether a selector's own text excludes everybody; that is remarked on where it is checked.
fn impossible(selector: &Selector) -> bool {
    selector.requirements().iter().any(|r| r.operator == Operator::In && r.values().is_empty())
}

fn nothing(set: &CidrSet) -> bool {
    let excepted = Cover::of(&set.except);
    set.cidrs.iter().all(|cidr| excepted.covers(cidr))
}

/// A census for when there is none: who is there by network, labels and ports, found by label. Making one costs a look
/// at every workload.
#[derive(Debug, Default)]
pub struct Profiles<'a> {
    profiles: Vec<Profile<'a>>,
    by_pair: BTreeMap<(&'a str, &'a str), Vec<usize>>,
    present: BTreeMap<&'a Name, BTreeMap<Name, u32>>,
}

/// Network, labels and ports.
type Profile<'a> = (&'a Name, &'a Labels, &'a NamedPorts);

impl<'a> Profiles<'a> {
    /// The workloads of a state.
    pub fn of(state: &'a State) -> Self {
        let workloads = state.workloads.values();
        let different: BTreeSet<Profile<'a>> =
            workloads.map(|w| (&w.network, w.labels.as_ref(), w.named_ports.as_ref())).collect();
        let mut profiles = Self { profiles: different.into_iter().collect(), ..Self::default() };
        for network in state.networks.values() {
            let ports: BTreeSet<&Attachment> = network.uplinks.iter().map(|uplink| &uplink.at).collect();
            for at in ports {
                *profiles.present.entry(&network.name).or_default().entry(at.switch.clone()).or_default() += 1;
            }
        }
        for workload in state.workloads.values() {
            for at in workload.interfaces.iter().filter_map(|interface| state.attachment(workload, interface)) {
                *profiles.present.entry(&workload.network).or_default().entry(at.switch).or_default() += 1;
            }
        }
        for (at, (_, labels, _)) in profiles.profiles.iter().enumerate() {
            for (key, value) in labels.iter() {
                profiles.by_pair.entry((key, value)).or_default().push(at);
            }
        }
        profiles
    }
}

impl Census for Profiles<'_> {
    fn any(&self, network: Option<&Name>, selector: &Selector, has: &dyn Fn(&NamedPorts) -> bool) -> bool {
        let fits = |(of, labels, ports): &Profile<'_>| {
            network.is_none_or(|network| network == *of) && selector.matches(labels) && has(ports)
        };
        let exact = selector.requirements().iter().filter(|r| r.operator == Operator::In && r.values().len() == 1);
        let pairs = exact.flat_map(|r| r.values().iter().map(|value| (r.key.as_ref(), value.as_ref())));
        let candidates = pairs.map(|pair| self.by_pair.get(&pair).map_or(&[][..], Vec::as_slice));
        match candidates.min_by_key(|candidates| candidates.len()) {
            Some(few) => few.iter().filter_map(|at| self.profiles.get(*at)).any(fits),
            None => self.profiles.iter().any(fits),
        }
    }

    fn present<'a>(&'a self, network: &Name) -> Box<dyn Iterator<Item = (&'a Name, u32)> + 'a> {
        let on = self.present.get(network).into_iter().flatten();
        Box::new(on.map(|(switch, count)| (switch, *count)))
    }

    fn count(&self, network: &Name, switch: &Name) -> u32 {
        self.present.get(network).and_then(|on| on.get(switch)).copied().unwrap_or(0)
    }

    fn networks_on(&self, switch: &Name) -> BTreeSet<Name> {
        let on = self.present.iter().filter(|(_, on)| on.contains_key(switch));
        on.map(|(network, _)| (*network).clone()).collect()
    }
}
