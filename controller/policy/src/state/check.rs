//! What would be wrong with a change: every finding about one atomic step, before it is taken.

use super::{
    Change, Key, Kind, Resource, State,
    index::{Claim, claims, peers_path, references, rules},
};
use crate::{
    diagnostic::Diagnostic,
    model::*,
    overlay::{GATEWAY_MAC, is_overlay_port},
};
use bulkhead_topology::{Cover, Hands, IpNet, Name, Operator, Selector, alone, each, nearest};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::{IpAddr, Ipv4Addr},
};

mod links;
mod stateful;
#[cfg(test)]
mod tests;
mod underlay;

/// Most names that one message lists; the rest are counted.
const MAX_LISTED: usize = 3;

/// Most names that are compared with one that is not there, in the change and on either side of it in the state.
const MAX_NEIGHBOURS: usize = 1000;

/// Most names that are not there for which a near one is looked for: more have one cause, which the first ones show.
const MAX_GUESSES: usize = 16;

/// Most groups of one network: each has entries on every switch that the network is present on.
const MAX_GROUPS: usize = 16;

/// Changed resources whose claims are put in order at a time: below that, a change is not worth other hands.
const PART: usize = 25_000;

/// What to do about an empty list that was meant to be no condition.
const OMIT: &str = "leave the field out to match anything";

/// What changed resources claim, in order: each claim, whose it is, and the so manieth claim of its owner it is.
struct Claimed<'a>(Vec<(Claim, &'a Key, usize)>);

impl<'a> Claimed<'a> {
    /// Each claim with those who make it.
    fn all(&self) -> impl Iterator<Item = (&Claim, &[(Claim, &'a Key, usize)])> {
        self.0.chunk_by(|one, other| one.0 == other.0).filter_map(|owners| Some((&owners.first()?.0, owners)))
    }

    /// The first who makes a claim from `lowest` to `highest`.
    fn first(&self, lowest: &Claim, highest: &Claim) -> Option<&'a Key> {
        let (claim, owner, _) = self.0.get(self.0.partition_point(|(claim, ..)| claim < lowest))?;
        (claim <= highest).then_some(*owner)
    }

    /// The first who makes a claim.
    fn owner(&self, claim: &Claim) -> Option<&'a Key> {
        self.first(claim, claim)
    }
}

/// The state as it will be, and what has been found.
struct Check<'a> {
    state: &'a State,
    hands: Hands,
    /// The changed resources: new value, or removed.
    after: BTreeMap<&'a Key, Option<&'a Resource>>,
    /// The addresses of networks that were asked for.
    covers: BTreeMap<&'a Name, Cover>,
    /// How many near names may still be looked for.
    guesses: usize,
    found: Vec<Diagnostic>,
    /// Claims that cannot be, by who makes them: the so manieth, what is wrong, and what to do.
    refused: BTreeMap<&'a Key, Vec<(usize, String, &'static str)>>,
}

impl State {
    /// What is wrong with `changes` taken together, as one atomic step from this state; errors refuse
    /// them all. The order inside `changes` does not matter. Cost follows the changes, not the state
    /// (except that taking a subnet from a network looks at that network's addresses).
    pub fn check(&self, changes: &[Change]) -> Vec<Diagnostic> {
        self.check_by(alone, changes)
    }

    /// The same; `hands` help with many changes.
    pub fn check_by(&self, hands: Hands, changes: &[Change]) -> Vec<Diagnostic> {
        let (after, covers, refused) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut check = Check { state: self, hands, after, covers, guesses: MAX_GUESSES, found: Vec::new(), refused };
        check.collect(changes);
        if !check.found.is_empty() {
            // There is no one outcome to look at.
            check.found.sort();
            check.found.dedup();
            return check.found;
        }
        check.unique();
        for (key, value) in check.after.clone() {
            match value {
                Some(resource) => {
                    check.references(key, resource);
                    check.values(key, resource);
                }
                None => check.removal(key),
            }
        }
        check.stateful();
        check.found.sort();
        check.found.dedup();
        check.found
    }
}

impl<'a> Check<'a> {
    fn error(&mut self, key: &Key, path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Diagnostic::error(key.clone(), path, message, hint));
    }

    fn warning(&mut self, key: &Key, path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Diagnostic::warning(key.clone(), path, message, hint));
    }

    /// Fills the overlay. Two different values for one resource have no order to choose by.
    fn collect(&mut self, changes: &'a [Change]) {
        for change in changes {
            if let Some(value) = &change.value
                && value.key() != change.key
            {
                let message = format!("the value is {}, another resource", value.key());
                self.error(&change.key, "metadata.name", message, "");
            }
        }
        // Of several values for one resource it is the last; if they differ, nothing is looked at but that.
        self.after = changes.iter().map(|change| (&change.key, change.value.as_ref())).collect();
        if self.after.len() == changes.len() {
            return;
        }
        for change in changes {
            if self.after.get(&change.key).is_some_and(|value| *value != change.value.as_ref()) {
                let hint = "keep one of the documents";
                self.error(&change.key, "metadata.name", "the resource is changed twice, differently", hint);
            }
        }
    }

    fn changed(&self, key: &Key) -> bool {
        self.after.contains_key(key)
    }

    fn exists(&self, key: &Key) -> bool {
        match self.after.get(key) {
            Some(value) => value.is_some(),
            None => self.state.contains(key),
        }
    }

    fn switch(&self, key: &Key) -> Option<&'a Switch> {
        match self.after.get(key) {
            Some(Some(Resource::Switch(switch))) => Some(switch),
            Some(_) => None,
            None => self.state.switches.get(&key.name).map(AsRef::as_ref),
        }
    }

    fn network(&self, key: &Key) -> Option<&'a Network> {
        match self.after.get(key) {
            Some(Some(Resource::Network(network))) => Some(network),
            Some(_) => None,
            None => self.state.networks.get(&key.name).map(AsRef::as_ref),
        }
    }

    /// Nothing that only one resource may have is claimed twice.
    fn unique(&mut self) {
        let claimed = self.claimed();
        for (claim, owners) in claimed.all() {
            let standing = self.state.index.owner(claim).filter(|key| !self.changed(key));
            let first = owners.first().map(|(_, key, _)| (*key).clone());
            // All but the first of the new owners are told, or all of them where a standing one has it.
            let (owner, told) = match standing {
                Some(key) => (Some(key), 0),
                None => (first, 1),
            };
            let (Some(owner), Some(others)) = (owner, owners.get(told..)) else { continue };
            self.claim_error(others, || format!("{claim} is already taken by {owner}"), "give one of them another");
        }
        self.ports_and_uplinks(&claimed);
        self.ports_and_links(&claimed);
        self.ports_and_underlays(&claimed);
        self.tell_refused();
    }

    /// What the changed resources claim.
    fn claimed(&self) -> Claimed<'a> {
        let after: Vec<(&'a Key, &'a Resource)> =
            self.after.iter().filter_map(|(key, value)| value.map(|resource| (*key, resource))).collect();
        let sorted = |part: &[(&'a Key, &'a Resource)]| {
            // A workload has three for each interface, and most have one.
            let mut claimed = Vec::with_capacity(3 * part.len());
            for (key, resource) in part {
                let mut nth = 0;
                claims(resource, |claim, _| {
                    claimed.push((claim, *key, nth));
                    nth += 1;
                });
            }
            claimed.sort_unstable();
            claimed
        };
        let mut parts = each(self.hands, after.chunks(PART).collect(), sorted);
        if parts.len() < 2 {
            return Claimed(parts.pop().unwrap_or_default());
        }
        let mut claimed: Vec<_> = parts.into_iter().flatten().collect();
        // A stable sort merges what is in order already.
        claimed.sort();
        Claimed(claimed)
    }

    /// These claims cannot be.
    fn claim_error(&mut self, owners: &[(Claim, &'a Key, usize)], message: impl Fn() -> String, hint: &'static str) {
        for (_, key, nth) in owners {
            self.refused.entry(key).or_default().push((*nth, message(), hint));
        }
    }

    /// Finds the fields that make claims which cannot be: one look at each resource that makes some.
    fn tell_refused(&mut self) {
        for (key, mut refused) in mem::take(&mut self.refused) {
            let Some(Some(resource)) = self.after.get(key) else { continue };
            refused.sort();
            let (mut refused, mut nth) = (refused.into_iter().peekable(), 0);
            claims(resource, |_, path| {
                while let Some((_, message, hint)) = refused.next_if(|(of, ..)| *of == nth) {
                    self.found.push(Diagnostic::error(key.clone(), path(), message, hint));
                }
                nth += 1;
            });
        }
    }

    /// No port is a workload's and an uplink's at once.
    fn ports_and_uplinks(&mut self, claimed: &Claimed<'a>) {
        let hint = "a workload's port cannot lead out of the fabric";
        for (claim, owners) in claimed.all() {
            match claim {
                Claim::Port(at) => {
                    let new = claimed.first(&Claim::Uplink(at.clone(), 0), &Claim::Uplink(at.clone(), u16::MAX));
                    let standing = self.state.index.uplinks_at(at).map(|(_, name)| Kind::Network.named(name));
                    let network = standing.filter(|key| !self.changed(key)).chain(new.cloned()).next();
                    let Some(network) = network else { continue };
                    self.claim_error(owners, || format!("{claim} is an uplink of {network}"), hint);
                }
                Claim::Uplink(at, _) => {
                    let workload = self.state.index.attached(at).map(|w| Kind::Workload.named(&w.name));
                    let Some(workload) = workload.filter(|key| !self.changed(key)) else { continue };
                    self.claim_error(owners, || format!("{} is the port of {workload}", Claim::Port(at.clone())), hint);
                }
                _ => {}
            }
        }
    }

    /// What the name of a resource that is not there was probably meant to be.
    fn meant(&mut self, target: &Key) -> Option<String> {
        self.guesses = self.guesses.checked_sub(1)?;
        let new = self.after.iter().filter(|(key, value)| key.kind == target.kind && value.is_some());
        let standing = self.state.around(target, MAX_NEIGHBOURS).into_iter();
        let names = new.map(|(key, _)| &key.name).take(MAX_NEIGHBOURS).chain(standing).map(Name::as_str);
        nearest(target.name.as_str(), names).filter(|near| *near != target.name.as_str()).map(String::from)
    }

    /// Everything that `resource` names is there, or may come later.
    fn references(&mut self, key: &Key, resource: &Resource) {
        let mut missing = Vec::new();
        references(resource, |target, path| {
            if !self.exists(&target) {
                missing.push((target, path()));
            }
        });
        for (target, path) in missing {
            let hint = match self.meant(&target) {
                Some(near) => format!("did you mean `{near}`? Else create it first, or in the same apply"),
                None => "create it first, or in the same apply".into(),
            };
            self.error(key, path, format!("there is no {target}"), hint);
        }
        let mut ends = Vec::new();
        match resource {
            Resource::Workload(w) => {
                for (i, interface) in w.interfaces.iter().enumerate() {
                    ends.extend(interface.attachment.iter().map(|at| (format!("spec.interfaces[{i}].attachment"), at)));
                }
            }
            Resource::Network(n) => {
                ends.extend(n.uplinks.iter().enumerate().map(|(i, uplink)| (format!("spec.uplinks[{i}]"), &uplink.at)));
            }
            Resource::Link(l) => ends.extend([("spec.a".to_string(), &l.a), ("spec.b".to_string(), &l.b)]),
            Resource::Switch(_)
            | Resource::AddressSet(_)
            | Resource::Zone(_)
            | Resource::Policy(_)
            | Resource::Host(_)
            | Resource::Adjacency(_) => {}
        }
        for (path, at) in ends {
            if !matches!(resource, Resource::Link(_)) && is_overlay_port(&at.port) {
                let message = format!("{} of switch {} is an overlay port", at.port, at.switch);
                self.error(key, format!("{path}.port"), message, "Bulkhead's tunnels begin there; name another port");
            }
            let switch = Kind::Switch.named(&at.switch);
            if !self.exists(&switch) {
                let message = format!("there is no {switch} yet; this is pending until there is");
                self.warning(key, format!("{path}.switch"), message, "");
            }
        }
    }

    /// Nothing that stays names `key`, which goes.
    fn removal(&mut self, key: &Key) {
        // A referrer that is itself changed is told on its own account if it still names `key`.
        let mut staying = self.state.index.referrers(key).filter(|referrer| !self.changed(referrer));
        let mut names: Vec<String> = staying.by_ref().take(MAX_LISTED).map(ToString::to_string).collect();
        let more = staying.count();
        if names.is_empty() {
            return;
        }
        if more > 0 {
            names.push(format!("{more} more"));
        }
        let message = format!("still named by {}", names.join(", "));
        self.error(key, "metadata.name", message, "delete or change those first, or in the same apply");
    }

    /// The values of one resource make sense together and with its network's.
    fn values(&mut self, key: &Key, resource: &Resource) {
        match resource {
            Resource::Network(network) => {
                self.subnets(key, network);
                self.uplinks(key, network);
                self.gateways(key, network);
                self.multicast(key, network);
            }
            Resource::Workload(workload) => {
                self.addresses(key, workload);
                for (i, interface) in workload.interfaces.iter().enumerate() {
                    if interface.mac == GATEWAY_MAC {
                        let message = format!("{GATEWAY_MAC} is the address of every gateway");
                        self.error(key, format!("spec.interfaces[{i}].mac"), message, "give the interface another");
                    }
                }
            }
            Resource::Host(host) => self.host(key, host),
            Resource::Adjacency(adjacency) => self.adjacency(key, adjacency),
            Resource::Zone(zone) => self.selector(key, "spec.selector", &zone.selector),
            Resource::Policy(policy) => self.policy(key, policy),
            Resource::AddressSet(set) => {
                if set.set.cidrs.is_empty() {
                    self.nothing(key, "spec.cidrs".into(), "an empty set", "");
                }
            }
            Resource::Switch(switch) => {
                self.links_of(key, switch);
                self.forgets(key, switch);
                self.underlay(key, switch);
            }
            Resource::Link(link) => self.link(key, link),
        }
    }

    /// Of several uplinks on one switch only the first is a way out.
    fn uplinks(&mut self, key: &Key, network: &Network) {
        let mut first: BTreeMap<&Name, &Uplink> = BTreeMap::new();
        for (i, uplink) in network.uplinks.iter().enumerate() {
            let out = *first.entry(&uplink.at.switch).or_insert(uplink);
            if out != uplink {
                let at = Claim::Uplink(out.at.clone(), out.vlan);
                let message = format!("everything leaves by {at} alone; this uplink only takes in");
                let hint = "for redundancy, bond the links on the switch and name the bond's port";
                self.warning(key, format!("spec.uplinks[{i}]"), message, hint);
            }
        }
    }

    /// Each gateway is an address that a host of its subnet could have, and no subnet has two.
    fn gateways(&mut self, key: &Key, network: &Network) {
        let mut routed: BTreeMap<&IpNet, IpAddr> = BTreeMap::new();
        for (i, gateway) in network.gateways.iter().enumerate() {
            let path = format!("spec.gateways[{i}]");
            let Some(subnet) = network.subnets.iter().find(|subnet| subnet.contains(*gateway)) else {
                let message = format!("{gateway} is outside of the network's subnets");
                self.error(key, path, message, "a gateway is in the subnet that it routes");
                continue;
            };
            if let Some(other) = routed.insert(subnet, *gateway) {
                let message = format!("{subnet} has a gateway already, {other}");
                self.error(key, path, message, "keep one of them");
            } else if !subnet.is_host(*gateway) {
                let message = format!("{gateway} is the first or last address of {subnet}");
                self.error(key, path, message, "choose one that a host could have");
            }
        }
    }

    /// Each group is one that packets can be sent to, and there are not too many.
    fn multicast(&mut self, key: &Key, network: &Network) {
        for (i, group) in network.multicast.iter().enumerate() {
            let path = format!("spec.multicast[{i}]");
            if !group.is_multicast() && *group != IpAddr::V4(Ipv4Addr::BROADCAST) {
                let message = format!("{group} is no group's address");
                let hint = "name multicast addresses, or 255.255.255.255; a subnet's broadcast address is not carried";
                self.error(key, path, message, hint);
            } else if i == MAX_GROUPS {
                let message = format!("{} groups, and a network may ask for {MAX_GROUPS}", network.multicast.len());
                self.error(key, path, message, "name those that are needed");
            }
        }
    }

    /// What was seen on a host is in order. (Nothing but Bulkhead itself says it.)
    fn host(&mut self, key: &Key, host: &Host) {
        for (i, (a, b)) in host.plugged.iter().zip(host.plugged.iter().skip(1)).enumerate() {
            if a.port >= b.port {
                self.error(key, format!("spec.plugged[{}]", i + 1), "ports out of order, or one twice", "");
            }
        }
        for (i, seen) in host.plugged.iter().enumerate() {
            if is_overlay_port(&seen.port) {
                let message = format!("{} of switch {} is an overlay port", seen.port, host.name);
                self.error(key, format!("spec.plugged[{i}].port"), message, "");
            }
        }
    }

    /// A network's subnets are disjoint and hold the addresses of the workloads that stay in it.
    fn subnets(&mut self, key: &Key, network: &Network) {
        let mut sorted: Vec<(IpNet, usize)> = network.subnets.iter().copied().zip(0..).collect();
        sorted.sort();
        // Prefixes nest or are disjoint, so an overlap shows between neighbours in this order.
        for ((a, _), (b, i)) in sorted.iter().zip(sorted.iter().skip(1)) {
            if a.covers(b) {
                let message = format!("{b} overlaps with {a}");
                self.error(key, format!("spec.subnets[{i}]"), message, "a network's subnets are disjoint");
            }
        }
        let cover = Cover::of(&network.subnets);
        let old = self.state.networks.get(&network.name);
        if old.is_none_or(|old| old.subnets.iter().all(|subnet| cover.covers(subnet))) {
            return;
        }
        let outside = |ip| !cover.covers(&IpNet::host(ip));
        let mut stranded = BTreeSet::new();
        for (ip, workload) in self.state.index.addresses(&network.name) {
            let workload = Kind::Workload.named(&workload.name);
            if outside(ip) && !self.changed(&workload) {
                stranded.insert(workload);
            }
        }
        let Some(first) = stranded.first() else { return };
        let message =
            format!("{} workloads have addresses outside of the new subnets, {first} among them", stranded.len());
        self.error(key, "spec.subnets", message, "keep their subnet, or move them in the same apply");
    }

    /// A workload's addresses lie in its network's subnets.
    fn addresses(&mut self, key: &Key, workload: &Workload) {
        // A network that is not there has been reported as a missing reference.
        let Some(network) = self.network(&Kind::Network.named(&workload.network)) else { return };
        for (i, interface) in workload.interfaces.iter().enumerate() {
            for (j, ip) in interface.ips.iter().enumerate() {
                let cover = self.covers.entry(&network.name).or_insert_with(|| Cover::of(&network.subnets));
                if !cover.covers(&IpNet::host(*ip)) {
                    let mut subnets: Vec<String> =
                        network.subnets.iter().take(MAX_LISTED).map(ToString::to_string).collect();
                    if let more @ 1.. = network.subnets.len().saturating_sub(MAX_LISTED) {
                        subnets.push(format!("{more} more"));
                    }
                    let message = format!("{ip} is outside of the subnets of network {}", network.name);
                    let hint = format!("its subnets: {}", subnets.join(", "));
                    self.error(key, format!("spec.interfaces[{i}].ips[{j}]"), message, hint);
                }
            }
        }
    }

    /// Remarks on what can never match.
    fn policy(&mut self, key: &Key, policy: &Policy) {
        if let Subject::Selector(selector) = &policy.subject {
            self.selector(key, "spec.subject", selector);
        }
        for (direction, i, rule) in rules(policy) {
            let peers = peers_path(direction, i);
            if rule.peers.as_ref().is_some_and(Vec::is_empty) {
                self.nothing(key, peers.clone(), "an empty list", OMIT);
            }
            if rule.ports.as_ref().is_some_and(Vec::is_empty) {
                self.nothing(key, format!("spec.{}[{i}].ports", direction.as_str()), "an empty list", OMIT);
            }
            for (j, peer) in rule.peers.iter().flatten().enumerate() {
                match peer {
                    Peer::Selector(selector) => self.selector(key, &format!("{peers}[{j}]"), selector),
                    Peer::Cidr(set) if set.cidrs.is_empty() => {
                        self.nothing(key, format!("{peers}[{j}].cidr"), "a set without addresses", "");
                    }
                    _ => {}
                }
            }
        }
    }

    fn selector(&mut self, key: &Key, path: &str, selector: &Selector) {
        // Whether any workload is selected would cost a scan; that a requirement excludes all does not.
        if selector.requirements().iter().any(|r| r.operator == Operator::In && r.values().is_empty()) {
            self.nothing(key, path.to_string(), "a requirement `In` without values", "");
        }
    }

    fn nothing(&mut self, key: &Key, path: String, what: &str, hint: &str) {
        self.warning(key, path, format!("{what} matches nothing"), hint);
    }
}
