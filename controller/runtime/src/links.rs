//! Which ports lead to which other switches, as LLDP and the ports' carriers tell.
//!
//! What is found becomes a resource, [`Adjacency`], that is stored like any other: programs stay a function of what is
//! stored, and a controller that comes back carries on with the links that it knew. Here it is only decided what a
//! switch's resource is to be, and who probes. Switches with a VTEP address take no part: they have tunnels.

mod view;

pub use view::{Foreign, LinkState, LinkView, TopologyView};

use bulkhead_dataplane::{Outgoing, PortState};
use bulkhead_policy::{
    Change, Key, Kind, Resource, State,
    model::{Adjacency, Attachment, Driver, FabricPort, Passage, Switch},
};
use bulkhead_topology::{
    Name, Port,
    graph::End,
    lldp::{self, Discovery, Heard},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tracing::{debug, info, warn};

/// After one revision of what was found, so long passes until the next: what goes at once goes together, and cables that
/// come and go make at most ten revisions a second. What comes first is stored at once.
const TOGETHER: Duration = Duration::from_millis(100);
/// After how long something that could not be stored is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long a switch may be away until packets go other ways where there are any: a moment's loss of the connection to
/// the controller is no loss of the switch.
const AWAY: Duration = Duration::from_millis(300);
/// The same of a switch that has not connected since the controller began: switches try again within that.
const FIRST: Duration = Duration::from_secs(15);
/// The last number of a port that may have a cable: those above have meanings of their own (OF 1.3.5 §7.2.1, `OFPP_MAX`).
const LAST_PORT: u32 = 0xffff_ff00;
/// Ports of one switch that may have a cable, at most; those beyond, by number, take no part. More than any switch has
/// that is joined by cables (chassis of 48-port cards have some 800): one that says to have 65,000 is not to have the
/// probes of all others.
const MAX_CABLES: usize = 1_024;
/// How often LLDP of others is told of in the log, for one port.
const TELL: u64 = 1_000;

/// What finding links needs from outside.
#[derive(Debug, Clone, Copy)]
pub struct Prober {
    /// What probes are signed with: random, new with each start, told to nobody.
    pub key: lldp::Key,
    /// The document to store for a resource; what [`crate::Decode`] reads.
    pub encode: fn(&Resource) -> String,
}

/// A switch that takes part.
struct Node {
    chassis: String,
    /// Its ports that may have a cable, once it told them since it connected.
    ports: Option<Vec<PortState>>,
    /// Ports of its that take no part: those that no document can name, and those beyond [`MAX_CABLES`].
    left_out: (usize, usize),
    /// Whether it is connected and has its program.
    settled: bool,
    /// When it counts as gone; none while it is settled.
    away: Option<Duration>,
    /// The revision that is to be in force there before anything is sent to what it has just begun to listen at.
    opening: Option<u64>,
}

/// All links.
pub(crate) struct Links {
    discovery: Discovery,
    nodes: BTreeMap<Name, Node>,
    /// Switches whose resource may have to change, and when that is to be seen to.
    dirty: BTreeMap<Name, Duration>,
    /// The same, for what has to be looked at again later.
    later: BTreeMap<Name, Duration>,
    /// Whether switches are seen to one by one: all at once was refused.
    alone: bool,
    /// No other revision before.
    pause: Duration,
}

impl Links {
    /// Knows what the state says was found before.
    pub(crate) fn new(key: lldp::Key, state: &State) -> Self {
        let (nodes, dirty, later) = Default::default();
        let discovery = Discovery::new(key);
        let mut links = Self { discovery, nodes, dirty, later, alone: false, pause: Duration::ZERO };
        links.keep(state, Duration::ZERO);
        let found = || state.adjacencies.values().filter(|found| state.switches.contains_key(&found.name));
        for found in found() {
            let Adjacency { name, ports } = &**found;
            let Some(node) = links.nodes.get(name) else { continue };
            let ports = ports.iter().filter(|port| port.heard.is_some());
            let ports = ports.map(|port| (Port::Name(port.name.clone()), port.passes == Passage::Both)).collect();
            links.discovery.set(name, &node.chassis, &ports, Duration::ZERO);
        }
        for found in found() {
            let Adjacency { name, ports } = &**found;
            for port in ports.iter().filter(|port| port.passes == Passage::Both) {
                let Some(Attachment { switch, port: far }) = port.heard.clone() else { continue };
                let at = End { switch: name.clone(), port: Port::Name(port.name.clone()) };
                links.discovery.believe(&at, &End { switch, port: far }, Duration::ZERO);
            }
        }
        links
    }

    /// Who takes part, as the switches' documents say.
    pub(crate) fn keep(&mut self, state: &State, now: Duration) {
        let wanted: BTreeMap<&Name, String> =
            state.switches.iter().filter_map(|(name, switch)| Some((name, chassis(switch)?))).collect();
        let gone: BTreeSet<Name> = self
            .nodes
            .keys()
            .chain(state.adjacencies.keys())
            .filter(|name| !wanted.contains_key(name))
            .cloned()
            .collect();
        for name in gone {
            self.nodes.remove(&name);
            self.discovery.remove(&name, now);
            self.mark(&name, now);
        }
        for (name, chassis) in wanted {
            if self.nodes.get(name).is_none_or(|node| node.chassis != chassis) {
                // Another device under the same name is nobody that we knew.
                self.discovery.remove(name, now);
                let (left_out, away) = ((0, 0), Some(now + FIRST));
                let node = Node { chassis, ports: None, left_out, settled: false, away, opening: None };
                self.nodes.insert(name.clone(), node);
                self.mark(name, now);
            }
        }
        self.spread(now);
    }

    /// A switch connected, got its program, or went.
    pub(crate) fn settled(&mut self, name: &Name, settled: bool, state: &State, now: Duration) {
        let Some(node) = self.nodes.get_mut(name).filter(|node| node.settled != settled) else { return };
        (node.settled, node.away) = (settled, (!settled).then_some(now + AWAY));
        self.discovery.connected(name, settled, now);
        let around: BTreeSet<Name> = self.around(name, state);
        for name in around.into_iter().chain([name.clone()]) {
            self.mark(&name, now);
            if !settled {
                self.later.insert(name, now + AWAY);
            }
        }
    }

    /// A switch tells its ports.
    pub(crate) fn ports(&mut self, name: &Name, ports: &[PortState], state: &State, now: Duration) {
        if let Some(node) = self.nodes.get_mut(name) {
            let all = ports.iter().filter(|port| is_cable(port)).count();
            let unnamed = ports.iter().filter(|port| port.name.as_deref().is_some_and(|name| !Port::is_name(name)));
            let told = (unnamed.count(), all.saturating_sub(MAX_CABLES));
            if told != node.left_out {
                let (unnamed, beyond) = told;
                warn!(switch = %name, unnamed, beyond, "ports take no part in links: no document can name them, or too many");
                node.left_out = told;
            }
            node.ports = Some(ports.iter().filter(|port| is_cable(port)).take(MAX_CABLES).cloned().collect());
            self.refresh(name, state, now);
        }
    }

    /// Who is plugged in where may be otherwise on a switch, or what links are declared there.
    pub(crate) fn refresh(&mut self, name: &Name, state: &State, now: Duration) {
        let Some(node) = self.nodes.get(name) else { return };
        if let Some(ports) = &node.ports {
            let free = ports.iter().filter(|port| !is_taken(state, name, port));
            let free = free.filter_map(|port| Some((Port::Name(port.name.clone()?), port.up))).collect();
            self.discovery.set(name, &node.chassis, &free, now);
        }
        self.mark(name, now);
        self.spread(now);
    }

    /// A frame came that may be a probe.
    pub(crate) fn heard(&mut self, name: &Name, port: &Port, frame: &[u8], now: Duration) {
        let at = End { switch: name.clone(), port: port.clone() };
        match self.discovery.heard(&at, frame, now) {
            Heard::Probe => self.spread(now),
            Heard::Unasked => debug!(switch = %name, %port, "LLDP where nothing is believed"),
            kind @ (Heard::Old | Heard::Foreign) => {
                let view = self.discovery.port(&at).unwrap_or_default();
                if view.foreign % TELL == 1 {
                    let (count, sender) = (view.foreign, view.stranger);
                    warn!(switch = %name, %port, count, sender, ?kind, "LLDP that is not ours, or old");
                }
            }
        }
    }

    /// The probes that are due, by the switch that is to send them.
    pub(crate) fn probes(&mut self, now: Duration) -> BTreeMap<Name, Vec<Outgoing>> {
        let probes = self.discovery.probes(now);
        self.spread(now);
        let outgoing = |(port, frame)| Outgoing { port, frame };
        probes.into_iter().map(|(name, probes)| (name, probes.into_iter().map(outgoing).collect())).collect()
    }

    /// Since when a port of a switch is probed; `None` if it is not, or another switch was heard there or is declared to be.
    pub(crate) fn unheard_since(&self, state: &State, switch: &Name, port: &PortState) -> Option<Duration> {
        let end = End { switch: switch.clone(), port: Port::Name(port.name.clone()?) };
        let declared = state.links_of(switch).any(|(declared, _)| port.is(declared));
        let heard = !self.discovery.port(&end)?.hears.is_empty();
        if declared || heard { None } else { self.discovery.probed_since(&end) }
    }

    /// When [`Self::probes`] or [`Self::changes`] is to be asked.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let dirty = self.dirty.values().copied().min().map(|due| due.max(self.pause));
        [dirty, self.later.values().copied().min(), self.discovery.deadline()].into_iter().flatten().min()
    }

    /// What [`Self::changes`] said of a switch is revision `revision`; `acknowledged` is what is in force there.
    pub(crate) fn carried_out(&mut self, name: &Name, revision: u64, acknowledged: u64, now: Duration) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.opening = Some(revision);
        }
        self.in_force(name, acknowledged, now);
    }

    /// A switch has this revision in force.
    pub(crate) fn in_force(&mut self, name: &Name, revision: u64, now: Duration) {
        if let Some(node) = self.nodes.get_mut(name)
            && node.opening.is_some_and(|opening| opening <= revision)
        {
            node.opening = None;
            self.mark(name, now);
        }
    }

    /// What has to change for the resources to say what was found; as with hosts, to be asked until nothing comes.
    pub(crate) fn changes(&mut self, state: &State, now: Duration) -> Vec<Change> {
        let again: Vec<Name> =
            self.later.iter().filter(|(_, due)| **due <= now).map(|(name, _)| name.clone()).collect();
        for name in again {
            self.later.remove(&name);
            self.mark(&name, now);
        }
        if now < self.pause {
            return Vec::new();
        }
        let mut spared = None;
        loop {
            let due = self.dirty.iter().filter(|(_, due)| **due <= now).map(|(name, _)| name.clone());
            let due: Vec<Name> = due.take(if self.alone { 1 } else { usize::MAX }).collect();
            if due.is_empty() {
                self.alone = false;
                return Vec::new();
            }
            let mut changes = Vec::new();
            for name in due {
                self.dirty.remove(&name);
                let before = state.adjacencies.get(&name).map(AsRef::as_ref);
                let spared = spared.get_or_insert_with(|| self.spared(state, now));
                let after = self.desired(state, &name, spared);
                if before != after.as_ref() {
                    tell(&name, before, after.as_ref());
                    let key = Key { kind: Kind::Adjacency, name };
                    changes.push(Change { key, value: after.map(|found| Resource::Adjacency(Arc::new(found))) });
                }
            }
            if !changes.is_empty() {
                self.pause = now + TOGETHER;
                return changes;
            }
        }
    }

    /// What [`Self::changes`] said of these could not be carried out: it is to be said again, after a while.
    pub(crate) fn refused<'a>(&mut self, names: impl Iterator<Item = &'a Name>, now: Duration) {
        let names: Vec<Name> = names.cloned().collect();
        // Of several, one may be the cause: the others are not to suffer for it.
        let due = if self.alone || names.len() == 1 { now + RETRY } else { now };
        self.alone = true;
        self.dirty.extend(names.into_iter().map(|name| (name, due)));
    }

    fn mark(&mut self, name: &Name, now: Duration) {
        let due = self.dirty.entry(name.clone()).or_insert(now);
        *due = (*due).min(now);
    }

    /// What was found out concerns the switches that it is about.
    fn spread(&mut self, now: Duration) {
        for name in self.discovery.take_changed() {
            self.mark(&name, now);
        }
    }

    /// The switches that a switch is connected to, or is declared to be.
    fn around(&self, name: &Name, state: &State) -> BTreeSet<Name> {
        let heard = self.discovery.neighbours(name).into_iter().map(|(_, far)| far.switch);
        let declared = state.links_of(name).filter_map(|(_, link)| state.links.get(link));
        let declared = declared.flat_map(|link| [link.a.switch.clone(), link.b.switch.clone()]);
        heard.chain(declared).filter(|far| far != name).collect()
    }

    /// What a switch's resource is to say.
    fn desired(&self, state: &State, name: &Name, spared: &BTreeSet<Name>) -> Option<Adjacency> {
        let node = self.nodes.get(name)?;
        let known = state.adjacencies.get(name).map(AsRef::as_ref);
        // It may have been connected otherwise meanwhile, and nothing says so.
        let Some(ports) = &node.ports else { return known.cloned() };
        let mut heard: BTreeMap<Port, Vec<End>> = BTreeMap::new();
        for (port, far) in self.discovery.neighbours(name) {
            heard.entry(port).or_default().push(far);
        }
        let declared: Vec<(&Port, &Attachment)> = declared(state, name).collect();
        let mut found: BTreeMap<Arc<str>, FabricPort> = BTreeMap::new();
        for port in ports.iter().filter(|port| is_cable(port)) {
            let (Some(own), Some(number)) = (port.name.clone(), port.number) else { continue };
            if is_taken(state, name, port) {
                // A link may call it otherwise than whoever has it: that the two are one has to be known.
                if declared.iter().any(|(declared, _)| port.is(declared)) {
                    found.insert(own.clone(), FabricPort { name: own, number, passes: Passage::Nothing, heard: None });
                }
                continue;
            }
            let before = known.and_then(|known| known.ports.iter().find(|known| known.name == own));
            let (passes, far) = match heard.get(&Port::Name(own.clone())).map(Vec::as_slice) {
                Some([far]) if far.switch != *name => {
                    let far = attachment(far);
                    let was = before.filter(|before| before.heard.as_ref() == Some(&far)).map(|before| before.passes);
                    // Nothing is sent before both ends listen, or what comes first would be lost.
                    let listens = was == Some(Passage::Both) || was == Some(Passage::In) && node.opening.is_none();
                    let both = listens && !spared.contains(&far.switch);
                    (if both { Passage::Both } else { Passage::In }, Some(far))
                }
                // More than one, or itself: it is no cable.
                Some([far, ..]) => (Passage::Nothing, Some(attachment(far))),
                _ => match before.and_then(|before| before.heard.clone()) {
                    // What was heard is not heard any more.
                    Some(far) if state.switches.contains_key(&far.switch) => (Passage::Nothing, Some(far)),
                    // What is declared and cannot be heard is as it is declared.
                    _ if declared.iter().any(|(declared, _)| port.is(declared)) => {
                        let deaf =
                            declared.iter().any(|(at, far)| port.is(at) && !self.nodes.contains_key(&far.switch));
                        (if port.up && deaf { Passage::Both } else { Passage::Nothing }, None)
                    }
                    _ => continue,
                },
            };
            found.insert(own.clone(), FabricPort { name: own, number, passes, heard: far });
        }
        // Links lead nowhere by ports that are not there.
        for port in declared.into_iter().map(|(port, _)| port).filter(|at| !ports.iter().any(|port| port.is(at))) {
            let (own, number) = match port {
                Port::Name(name) => (name.clone(), 0),
                Port::Number(number) => (port.to_string().into(), *number),
            };
            found.entry(own.clone()).or_insert(FabricPort { name: own, number, passes: Passage::Nothing, heard: None });
        }
        let found = Adjacency { name: name.clone(), ports: found.into_values().collect() };
        (!found.ports.is_empty()).then_some(found)
    }

    /// Switches that are away and that the others do not need to reach each other: they may have lost more than their
    /// connection to the controller, so packets go other ways. Those to whom nobody is attached, or all or none.
    fn spared(&self, state: &State, now: Duration) -> BTreeSet<Name> {
        let away = |node: &Node| node.away.is_some_and(|due| due <= now);
        let away = self.nodes.iter().filter(|(name, node)| away(node) && !state.is_edge(name));
        let away: BTreeSet<Name> = away.map(|(name, _)| name.clone()).collect();
        if away.is_empty() {
            return away;
        }
        let links: Vec<(Name, Name)> = self
            .nodes
            .keys()
            .flat_map(|name| self.discovery.neighbours(name).into_iter().map(|(_, far)| (name.clone(), far.switch)))
            .collect();
        let everything = parts(links.iter());
        let rest = parts(links.iter().filter(|(a, b)| !away.contains(a) && !away.contains(b)));
        // Whoever could reach each other still can.
        let mut same: BTreeMap<&Name, &Name> = BTreeMap::new();
        for (name, part) in everything.iter().filter(|(name, _)| state.is_edge(name)) {
            let now = rest.get(name).copied().unwrap_or(name);
            if *same.entry(part).or_insert(now) != now {
                return BTreeSet::new();
            }
        }
        away
    }
}

/// One switch of each part that hangs together, for each switch of it.
fn parts<'a>(links: impl Iterator<Item = &'a (Name, Name)>) -> BTreeMap<&'a Name, &'a Name> {
    let mut next: BTreeMap<&Name, Vec<&Name>> = BTreeMap::new();
    for (a, b) in links {
        next.entry(a).or_default().push(b);
        next.entry(b).or_default().push(a);
    }
    let mut parts = BTreeMap::new();
    for first in next.keys() {
        let mut open = vec![*first];
        while let Some(name) = open.pop() {
            if !parts.contains_key(name) {
                parts.insert(name, *first);
                open.extend(next.get(name).into_iter().flatten());
            }
        }
    }
    parts
}

/// What probes call a switch; none if it takes no part.
fn chassis(switch: &Switch) -> Option<String> {
    match switch.driver {
        Driver::Openflow(id) if switch.probes() => Some(format!("{:016x}", id.0)),
        _ => None,
    }
}

/// Whether a port may have a cable: it is no tunnel, not the host itself, nobody else's by name, and what was found at it
/// can be stored under its name.
pub(crate) fn is_cable(port: &PortState) -> bool {
    port.name.as_deref().is_some_and(Port::is_name)
        && port.number.is_some_and(|number| (1..=LAST_PORT).contains(&number))
}

/// Whether somebody is plugged in at a port, or it leads out of the fabric: it is no link, whatever is heard there.
pub(crate) fn is_taken(state: &State, switch: &Name, port: &PortState) -> bool {
    is_taken_but(state, switch, port, None)
}

/// The same, but for one workload.
pub(crate) fn is_taken_but(state: &State, switch: &Name, port: &PortState, but: Option<&Name>) -> bool {
    let names = [port.name.clone().map(Port::Name), port.number.map(Port::Number)];
    names.into_iter().flatten().any(|port| {
        let seen = state.hosts.get(switch).is_some_and(|host| host.at(&port).is_some());
        let at = Attachment { switch: switch.clone(), port };
        let other = state.workload_on(&at).is_some_and(|workload| Some(&workload.name) != but);
        seen || other || state.uplinks_at(&at).next().is_some()
    })
}

/// The ports of a switch that links name, and the far ends.
fn declared<'a>(state: &'a State, name: &'a Name) -> impl Iterator<Item = (&'a Port, &'a Attachment)> {
    state.links_of(name).filter_map(move |(port, link)| {
        let link = state.links.get(link)?;
        let is_near = |at: &Attachment| at.switch == *name && at.port == *port;
        Some((port, if is_near(&link.a) { &link.b } else { &link.a }))
    })
}

fn attachment(end: &End) -> Attachment {
    Attachment { switch: end.switch.clone(), port: end.port.clone() }
}

/// The switches on which a change may say otherwise who is plugged in where, or what links there are.
pub(crate) fn concerned(state: &State, changes: &[Change]) -> BTreeSet<Name> {
    let mut names = BTreeSet::new();
    for change in changes {
        match &change.value {
            Some(Resource::Workload(workload)) => {
                for interface in &workload.interfaces {
                    let seen = state.seen(&workload.name, interface.mac);
                    names.extend(interface.attachment.as_ref().or(seen).map(|at| at.switch.clone()));
                }
            }
            Some(Resource::Network(network)) => names.extend(network.uplinks.iter().map(|up| up.at.switch.clone())),
            Some(Resource::Link(link)) => names.extend([&link.a, &link.b].map(|at| at.switch.clone())),
            Some(Resource::Host(_)) => _ = names.insert(change.key.name.clone()),
            _ => {}
        }
    }
    names
}

/// Tells the log which links came and went.
fn tell(name: &Name, before: Option<&Adjacency>, after: Option<&Adjacency>) {
    let up = |found: Option<&Adjacency>| -> BTreeMap<Arc<str>, String> {
        let ports = found.into_iter().flat_map(|found| &found.ports).filter(|port| port.passes == Passage::Both);
        let far = |far: &Attachment| format!("{}:{}", far.switch, far.port);
        ports.map(|port| (port.name.clone(), port.heard.as_ref().map(far).unwrap_or_default())).collect()
    };
    let (before, after) = (up(before), up(after));
    for (port, far) in before.iter().filter(|(port, _)| !after.contains_key(*port)) {
        warn!(switch = %name, %port, %far, "a link is down");
    }
    for (port, far) in after.iter().filter(|(port, far)| before.get(*port) != Some(far)) {
        info!(switch = %name, %port, %far, "a link is up");
    }
}

#[cfg(test)]
mod tests;
