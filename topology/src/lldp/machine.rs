//! Who hears whom: probes that are due, and what it says that they came or did not.

use super::frame::{self, Key};
use crate::{Name, Port, graph::End};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// How often each port sends a probe.
pub const EVERY: Duration = Duration::from_secs(1);
/// For so long nothing must be heard of a port for its link to be down: three probes' time.
pub const SILENCE: Duration = EVERY.saturating_mul(3);
/// And so many probes must have been sent meanwhile, so that a controller that was busy takes no link down.
const MISSED: u32 = 2;
/// Probes sent at once, and how long until the next are: 20,000 a second of all switches together. With more ports than
/// that takes, each is probed less often. A probe costs the controller a message in and one out.
const AT_ONCE: usize = 1_000;
const BETWEEN: Duration = Duration::from_millis(50);
/// Ports at which the probes of one port are heard, at most, and of which one hears: beyond two it is no cable anyway.
pub const MAX_HEARD: usize = 4;
/// How long a link has to be heard again before it is believed, if it was down a moment ago: the first time, and at most.
/// Each time that it comes and goes doubles it.
const HOLD: Duration = Duration::from_secs(2);
/// See [`HOLD`].
pub const HOLD_MOST: Duration = Duration::from_secs(64);
/// A link that stayed for so long has nothing to make up for.
const STEADY: Duration = Duration::from_secs(120);

/// What a frame that came was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A probe that was on its way.
    Probe,
    /// It came where nothing is believed: a port that is not there, is down, or has somebody attached.
    Unasked,
    /// Ours, and of before: somebody kept it, or it was very slow.
    Old,
    /// Somebody else's LLDP, or nothing that can be read.
    Foreign,
}

/// One port, as operators see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortView {
    /// Whether it has a carrier.
    pub up: bool,
    /// The ports whose probes are heard here, and whether each is believed already: one that came and went is not at once.
    pub hears: BTreeMap<End, bool>,
    /// Frames that were not ours, or were old.
    pub foreign: u64,
    /// Who said to have sent the last one; empty if that could not be read.
    pub stranger: String,
}

/// How the probes of one port come to another.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// When the last one came.
    last: Duration,
    /// Probes sent since.
    missed: u32,
    /// Whether it counts.
    believed: bool,
    /// Since when it counts.
    since: Duration,
}

/// One port that probes.
#[derive(Debug, Default)]
struct Lead {
    up: bool,
    /// When it is probed next; none while it cannot be.
    due: Option<Duration>,
    /// Since when it is probed.
    since: Duration,
    /// The last probes' numbers: what comes with another one is old.
    sent: VecDeque<u64>,
    /// Where they come to.
    heard: BTreeMap<End, Way>,
    /// Whose probes come here.
    hears: BTreeSet<End>,
    /// How often what was believed of it has gone, lately.
    flaps: u32,
    /// Until when nothing new is believed of it.
    hold: Duration,
    foreign: u64,
    stranger: String,
}

#[derive(Debug, Default)]
struct Node {
    connected: bool,
    /// When it connected: its ports are probed together, so long after that as there are whole intervals.
    since: Duration,
    chassis: String,
    ports: BTreeMap<Port, Lead>,
}

/// Probes of that many rounds count.
const ROUNDS: usize = 3;

/// The next whole number of intervals after `since`; `now` is not before that.
fn next_round(since: Duration, now: Duration) -> Duration {
    let into = now.saturating_sub(since).as_nanos() % EVERY.as_nanos();
    now + EVERY - Duration::from_nanos(u64::try_from(into).unwrap_or(0))
}

/// Finds out which ports are connected to which.
#[derive(Debug)]
pub struct Discovery {
    key: Key,
    nodes: BTreeMap<Name, Node>,
    due: BTreeSet<(Duration, End)>,
    /// By number: whose probe it is.
    probes: BTreeMap<u64, End>,
    number: u64,
    /// Not before this are more sent.
    pause: Duration,
    /// Switches of which something else is believed now.
    changed: BTreeSet<Name>,
}

impl Discovery {
    /// Knows of nobody. Nobody else may know `key`, and it may not have been used before.
    pub fn new(key: Key) -> Self {
        let (nodes, due, probes, changed) = Default::default();
        Self { key, nodes, due, probes, number: 0, pause: Duration::ZERO, changed }
    }

    /// A switch has these ports that may lead to others, and whether each has a carrier. Of ports that it no longer has,
    /// or that have none, nothing is believed from now on. `chassis` is what probes call it, for others that see them.
    pub fn set(&mut self, switch: &Name, chassis: &str, ports: &BTreeMap<Port, bool>, now: Duration) {
        let node = self.nodes.entry(switch.clone()).or_default();
        if node.chassis != chassis {
            node.chassis = chassis.into();
        }
        let connected = node.connected;
        let gone: Vec<Port> = node.ports.keys().filter(|port| !ports.contains_key(port)).cloned().collect();
        let mut down = Vec::new();
        let mut up = Vec::new();
        for (port, is_up) in ports {
            let lead = node.ports.entry(port.clone()).or_default();
            if lead.up != *is_up || (*is_up && connected && lead.due.is_none()) {
                lead.up = *is_up;
                if *is_up { &mut up } else { &mut down }.push(port.clone());
            }
        }
        let end = |port: Port| End { switch: switch.clone(), port };
        for port in gone {
            let end = end(port);
            self.clear(&end, now);
            if let Some(node) = self.nodes.get_mut(switch) {
                node.ports.remove(&end.port);
            }
        }
        down.into_iter().for_each(|port| self.clear(&end(port), now));
        if connected {
            up.into_iter().for_each(|port| self.put_off(&end(port), Some(now)));
        }
    }

    /// A switch is no part of the fabric any more.
    pub fn remove(&mut self, switch: &Name, now: Duration) {
        self.set(switch, "", &BTreeMap::new(), now);
        self.nodes.remove(switch);
    }

    /// Whether probes can be sent and heard at a switch. What was believed of one that is away stays so, as long as the
    /// far ends say nothing else: switches go on without a controller.
    pub fn connected(&mut self, switch: &Name, connected: bool, now: Duration) {
        let Some(node) = self.nodes.get_mut(switch).filter(|node| node.connected != connected) else { return };
        (node.connected, node.since) = (connected, now);
        let ports: Vec<(Port, bool)> = node.ports.iter().map(|(port, lead)| (port.clone(), lead.up)).collect();
        for (port, up) in ports {
            let end = End { switch: switch.clone(), port };
            self.put_off(&end, (connected && up).then_some(now));
            // What could not be heard meanwhile was not missed.
            let Some(lead) = self.lead(&end) else { continue };
            lead.heard.values_mut().for_each(|way| (way.last, way.missed) = (now, 0));
            for sender in lead.hears.clone() {
                if let Some(way) = self.lead(&sender).and_then(|lead| lead.heard.get_mut(&end)) {
                    (way.last, way.missed) = (now, 0);
                }
            }
        }
    }

    /// `at` is believed to hear `from`, until it turns out otherwise: what was known before this controller began. Both
    /// ports must be there and have a carrier.
    pub fn believe(&mut self, at: &End, from: &End, now: Duration) {
        if self.lead(at).is_some_and(|lead| lead.up && lead.hears.len() < MAX_HEARD)
            && let Some(lead) = self.lead(from).filter(|lead| lead.up && lead.heard.len() < MAX_HEARD)
        {
            lead.heard.insert(at.clone(), Way { last: now, missed: 0, believed: true, since: now });
            self.lead(at).into_iter().for_each(|lead| _ = lead.hears.insert(from.clone()));
            self.changed.insert(at.switch.clone());
        }
    }

    /// When [`Self::probes`] is to be asked.
    pub fn deadline(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| (*due).max(self.pause))
    }

    /// The probes that are due, by the switch and the port that are to send them. What was not heard for too long is not
    /// believed any more.
    pub fn probes(&mut self, now: Duration) -> BTreeMap<Name, Vec<(Port, Vec<u8>)>> {
        let mut probes: BTreeMap<Name, Vec<(Port, Vec<u8>)>> = BTreeMap::new();
        if now < self.pause {
            return probes;
        }
        let due = self.due.iter().take_while(|(due, _)| *due <= now).take(AT_ONCE);
        let due: Vec<End> = due.map(|(_, end)| end.clone()).collect();
        if due.len() == AT_ONCE {
            self.pause = now + BETWEEN;
        }
        for end in due {
            let Some(since) = self.nodes.get(&end.switch).map(|node| node.since) else { continue };
            self.put_off(&end, Some(next_round(since, now)));
            self.expire(&end, now);
            self.number += 1;
            let number = self.number;
            let Some(node) = self.nodes.get_mut(&end.switch) else { continue };
            let Some(lead) = node.ports.get_mut(&end.port) else { continue };
            lead.sent.push_back(number);
            let old = (lead.sent.len() > ROUNDS).then(|| lead.sent.pop_front()).flatten();
            let frame = frame::encode(&self.key, &node.chassis, &end.port.to_string(), number);
            probes.entry(end.switch.clone()).or_default().push((end.port.clone(), frame));
            old.into_iter().for_each(|old| _ = self.probes.remove(&old));
            self.probes.insert(number, end);
        }
        probes
    }

    /// Counts one more probe as missed, and gives up who heard none for too long.
    fn expire(&mut self, end: &End, now: Duration) {
        let Some(lead) = self.lead(end) else { return };
        let ways: Vec<(End, Way)> = lead.heard.iter().map(|(at, way)| (at.clone(), *way)).collect();
        for (at, way) in ways {
            if !self.nodes.get(&at.switch).is_some_and(|node| node.connected) {
                continue;
            }
            if way.missed >= MISSED && now >= way.last + SILENCE {
                self.forget(end, &at, now);
            } else if let Some(way) = self.lead(end).and_then(|lead| lead.heard.get_mut(&at)) {
                way.missed = way.missed.saturating_add(1);
            }
        }
    }

    /// A frame came to a port.
    pub fn heard(&mut self, at: &End, bytes: &[u8], now: Duration) -> Heard {
        let key = self.key;
        let Some(lead) = self.lead(at).filter(|lead| lead.up) else { return Heard::Unasked };
        let frame = frame::decode(&key, bytes);
        let number = frame.as_ref().ok().and_then(|frame| frame.probe);
        let Some(number) = number else {
            lead.foreign = lead.foreign.saturating_add(1);
            lead.stranger = frame.map(|frame| frame.sender).unwrap_or_default();
            return Heard::Foreign;
        };
        let (held, hears) = (lead.hold, lead.hears.len());
        let Some(from) = self.probes.get(&number).cloned() else {
            self.lead(at).into_iter().for_each(|lead| lead.foreign = lead.foreign.saturating_add(1));
            return Heard::Old;
        };
        let Some(lead) = self.lead(&from) else { return Heard::Old };
        let held = held.max(lead.hold);
        let places = lead.heard.len();
        let way = match lead.heard.get_mut(at) {
            Some(way) => way,
            None if places >= MAX_HEARD || hears >= MAX_HEARD => return Heard::Probe,
            None => lead.heard.entry(at.clone()).or_insert(Way { last: now, missed: 0, believed: false, since: now }),
        };
        (way.last, way.missed) = (now, 0);
        let news = !way.believed && now >= held;
        if news {
            (way.believed, way.since) = (true, now);
        }
        self.lead(at).into_iter().for_each(|lead| _ = lead.hears.insert(from.clone()));
        if news {
            self.changed.insert(at.switch.clone());
        }
        Heard::Probe
    }

    /// Switches of which something else is believed than when this was last asked.
    pub fn take_changed(&mut self) -> BTreeSet<Name> {
        std::mem::take(&mut self.changed)
    }

    /// What a switch's ports are believed to hear: the ports at the other ends. A port that hears several has no cable but
    /// something that others share, or hears somebody who carries on what is not theirs.
    pub fn neighbours(&self, switch: &Name) -> BTreeSet<(Port, End)> {
        let Some(node) = self.nodes.get(switch) else { return BTreeSet::new() };
        let of = |(port, lead): (&Port, &Lead)| {
            let at = End { switch: switch.clone(), port: port.clone() };
            let believed = |from: &&End| self.way(from, &at).is_some_and(|way| way.believed);
            lead.hears.iter().filter(believed).map(|from| (at.port.clone(), from.clone())).collect::<Vec<_>>()
        };
        node.ports.iter().flat_map(of).collect()
    }

    /// Whether a port was probed and could have been heard of for so long that its silence means something.
    pub fn is_probed(&self, end: &End, now: Duration) -> bool {
        let lead = self.nodes.get(&end.switch).and_then(|node| node.ports.get(&end.port));
        lead.is_some_and(|lead| lead.due.is_some() && now >= lead.since + SILENCE)
    }

    /// Since when a port is probed.
    pub fn probed_since(&self, end: &End) -> Option<Duration> {
        let lead = self.nodes.get(&end.switch)?.ports.get(&end.port)?;
        lead.due.and(Some(lead.since))
    }

    /// A port, as operators see it.
    pub fn port(&self, end: &End) -> Option<PortView> {
        self.nodes.get(&end.switch)?.ports.get(&end.port).map(|lead| self.view(end, lead))
    }

    /// A switch's ports, as operators see them.
    pub fn ports(&self, switch: &Name) -> BTreeMap<Port, PortView> {
        let Some(node) = self.nodes.get(switch) else { return BTreeMap::new() };
        let at = |port: &Port| End { switch: switch.clone(), port: port.clone() };
        node.ports.iter().map(|(port, lead)| (port.clone(), self.view(&at(port), lead))).collect()
    }

    fn view(&self, at: &End, lead: &Lead) -> PortView {
        let believed = |from: &End| self.way(from, at).is_some_and(|way| way.believed);
        let hears = lead.hears.iter().map(|from| (from.clone(), believed(from))).collect();
        PortView { up: lead.up, hears, foreign: lead.foreign, stranger: lead.stranger.clone() }
    }

    fn lead(&mut self, end: &End) -> Option<&mut Lead> {
        self.nodes.get_mut(&end.switch)?.ports.get_mut(&end.port)
    }

    fn way(&self, from: &End, at: &End) -> Option<&Way> {
        self.nodes.get(&from.switch)?.ports.get(&from.port)?.heard.get(at)
    }

    fn put_off(&mut self, end: &End, due: Option<Duration>) {
        let Some(lead) = self.lead(end) else { return };
        let before = std::mem::replace(&mut lead.due, due);
        if before.is_none() {
            lead.since = due.unwrap_or_default();
        }
        before.into_iter().for_each(|before| _ = self.due.remove(&(before, end.clone())));
        due.into_iter().for_each(|due| _ = self.due.insert((due, end.clone())));
    }

    /// A port sends and hears nothing any more.
    fn clear(&mut self, end: &End, now: Duration) {
        self.put_off(end, None);
        let Some(lead) = self.lead(end) else { return };
        let (sent, heard) = (std::mem::take(&mut lead.sent), lead.heard.keys().cloned().collect::<Vec<_>>());
        let hears = lead.hears.clone();
        sent.iter().for_each(|number| _ = self.probes.remove(number));
        heard.iter().for_each(|at| self.forget(end, at, now));
        hears.iter().for_each(|from| self.forget(from, end, now));
    }

    /// What `at` heard of `from` counts no more.
    fn forget(&mut self, from: &End, at: &End, now: Duration) {
        let way = self.lead(from).and_then(|lead| lead.heard.remove(at));
        self.lead(at).into_iter().for_each(|lead| _ = lead.hears.remove(from));
        let Some(way) = way.filter(|way| way.believed) else { return };
        self.changed.insert(at.switch.clone());
        for end in [from, at] {
            let Some(lead) = self.lead(end) else { continue };
            // The two directions of a cable go together: that is once.
            if lead.flaps > 0 && now < lead.hold {
                continue;
            }
            lead.flaps = if now >= way.since + STEADY { 1 } else { lead.flaps.saturating_add(1) };
            let hold = HOLD.saturating_mul(1 << (lead.flaps - 1).min(8));
            lead.hold = now + hold.min(HOLD_MOST);
        }
    }
}
