//! Who is plugged in where nobody is declared, if a network asks for that: workloads by what they send, and switches that
//! nobody declared.
//!
//! What is learned becomes resources that are stored like any other. Whoever is at a port can say to be anybody, so
//! nothing is believed but that somebody is there: what is learned has no labels that policies of people select by, takes
//! nothing from anybody who is known, and moves only when it is gone from where it was.

mod decide;
mod frame;
mod questions;

use crate::links::{is_cable, is_taken_but};
use bulkhead_dataplane::{Outgoing, PortState};
use bulkhead_policy::{
    Change, Kind, Resource, State,
    model::{Attachment, Network, Switch, Workload},
};
use bulkhead_topology::{DatapathId, Mac, Name};
use decide::{Decision, MAX_ADDRESSES, decide};
use frame::Said;
use questions::Questions;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

/// So long passes between two looks at what was heard: what comes together becomes one revision, and there are at most ten
/// a second.
const TOGETHER: Duration = Duration::from_millis(100);
/// How long a port is probed before somebody is learned there: another switch would have been heard, which is probed too
/// ([`bulkhead_topology::lldp::EVERY`]). Below the time after which a host that asked gives up (RFC 4861 §10: 3 s).
const UNHEARD: Duration = Duration::from_millis(1200);
/// How long what was heard, and cannot be decided yet, is kept: whoever is there says more.
const PATIENCE: Duration = Duration::from_secs(5);
/// A workload that was learned is forgotten when its port has been down for so long.
const FORGET: Duration = Duration::from_secs(60);
/// Who was learned at a switch that is not connected for so long keeps nothing from others: he may be gone with it. Open
/// vSwitch comes back within 8 s (`max_backoff`), if it can.
const LOST: Duration = Duration::from_secs(10);
/// Workloads that are learned, at most: more are no lab. Each is an identity's member with entries on every switch.
const MAX_WORKLOADS: usize = 4096;
/// MACs that are looked at for one port, at once; one of them is learned.
const MAX_AT_PORT: usize = 4;
/// The same for all ports.
const MAX_HEARD: usize = 1024;
/// Switches that are adopted, at most.
const MAX_SWITCHES: usize = 256;
/// Switches that wait to be adopted: those that the driver keeps waiting.
const MAX_STRANGERS: usize = 64;
/// How long one waits.
const STRANGER: Duration = Duration::from_secs(60);

/// Why something was not learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotLearned {
    /// Its MAC address is somebody's, who is elsewhere and is not known to be gone from there.
    Elsewhere,
    /// Its address is somebody else's.
    Address,
    /// There are as many as there may be: workloads, addresses of one, MACs at a port, switches, or questions.
    TooMany,
}

impl NotLearned {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Elsewhere => "its MAC address is plugged in elsewhere",
            Self::Address => "its address is somebody else's",
            Self::TooMany => "too many",
        }
    }
}

/// What was learned, as operators see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LearnView {
    /// The network that learns; none does if there is none.
    pub network: Option<Name>,
    /// Workloads that were learned.
    pub workloads: usize,
    /// Switches that were adopted.
    pub switches: usize,
    /// What was not learned since the controller began: how often, and whom the last one was about.
    pub refused: BTreeMap<NotLearned, (u64, String)>,
}

/// Since when a port of a switch is probed and no other switch was heard there; `None` if it is not, or may have a link.
type Unheard<'a> = &'a dyn Fn(&Name, &PortState) -> Option<Duration>;

/// What a port said.
#[derive(Debug)]
struct Sighting {
    ips: BTreeSet<IpAddr>,
    until: Duration,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Learner {
    /// Ports of switches that are connected.
    ports: BTreeMap<Name, Vec<PortState>>,
    /// Switches where somebody was learned and that are not connected, and since when.
    lost: BTreeMap<Name, Duration>,
    /// Switches that came without any entry of ours: who is plugged in there says so again.
    anew: BTreeSet<Name>,
    heard: BTreeMap<(Attachment, Mac), Sighting>,
    questions: Questions,
    strangers: BTreeMap<DatapathId, Duration>,
    /// Ports of learned workloads that are down, and since when.
    absent: BTreeMap<Attachment, Duration>,
    /// Whether it has to be looked at who is absent.
    turned: bool,
    /// No look before this.
    pause: Duration,
    refused: BTreeMap<NotLearned, (u64, String)>,
}

impl Learner {
    /// A switch tells its ports.
    pub(crate) fn ports(&mut self, switch: &Name, ports: &[PortState]) {
        self.ports.insert(switch.clone(), ports.to_vec());
        self.turned = true;
    }

    /// The ports of a switch; none if it is not connected.
    pub(crate) fn ports_of(&self, switch: &Name) -> &[PortState] {
        self.ports.get(switch).map(Vec::as_slice).unwrap_or_default()
    }

    /// A switch is not connected any more.
    pub(crate) fn lost(&mut self, switch: &Name) {
        self.ports.remove(switch);
        self.turned = true;
    }

    /// A switch has no entry of ours: it is a new one, or began anew, and nobody there notices if he is forgotten.
    pub(crate) fn anew(&mut self, switch: &Name) {
        self.anew.insert(switch.clone());
        self.turned = true;
    }

    /// What [`Self::changes`] said last could not be carried out: who is there says it again.
    pub(crate) fn refused(&mut self, now: Duration) {
        self.turned = true;
        self.pause = now + PATIENCE;
    }

    /// Switches or networks are others than before.
    pub(crate) fn turned(&mut self) {
        self.turned = true;
    }

    /// A switch that nobody declared waits.
    pub(crate) fn waits(&mut self, id: DatapathId, now: Duration) {
        self.strangers.retain(|_, until| *until > now);
        if self.strangers.len() < MAX_STRANGERS {
            self.strangers.insert(id, now + STRANGER);
            self.turned = true;
        }
    }

    /// A frame came by a port where nobody is declared, or by a learned workload's from an address that it has not, or it
    /// asks for an address that nobody has.
    pub(crate) fn heard(&mut self, at: Attachment, frame: &[u8], state: &State, now: Duration) {
        let Some(network) = state.learning() else { return };
        let Some(Said { mac, ip, asks }) = frame::read(frame) else { return };
        if !network.has_host(ip) {
            return;
        }
        if let Some(target) = asks.filter(|target| network.has_host(*target))
            && !self.questions.add(target, (mac, ip), frame, now)
        {
            self.refuse(NotLearned::TooMany, || format!("questions for {target} and others"));
        }
        let there = state.workload_with(&network.name, mac).and_then(|known| at_port(known, mac));
        if there == Some(&at) && has(state, network, mac, ip) {
            return;
        }
        let key = (at, mac);
        if !self.heard.contains_key(&key) {
            let first = (key.0.clone(), Mac([0; 6]));
            let here = self.heard.range(first..).take_while(|((at, _), _)| *at == key.0).count();
            if here >= MAX_AT_PORT || self.heard.len() >= MAX_HEARD {
                return self.refuse(NotLearned::TooMany, || text(&key.0, mac));
            }
        }
        let sighting = self.heard.entry(key).or_insert(Sighting { ips: BTreeSet::new(), until: now + PATIENCE });
        if sighting.ips.len() < MAX_ADDRESSES {
            sighting.ips.insert(ip);
        }
    }

    /// When [`Self::changes`] or [`Self::ask`] is to be asked.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let open = self.turned || !self.heard.is_empty() || !self.questions.open.is_empty();
        let absent = self.absent.values().map(|since| *since + FORGET).min();
        [open.then_some(self.pause), absent.map(|due| due.max(self.pause))].into_iter().flatten().min()
    }

    /// What has to change for the resources to say what was learned; to be asked until nothing comes.
    pub(crate) fn changes(&mut self, state: &State, unheard: Unheard<'_>, now: Duration) -> Vec<Change> {
        if now < self.pause {
            return Vec::new();
        }
        let due = |since: &Duration| *since + FORGET <= now;
        if self.turned || self.absent.values().any(due) {
            self.turned = false;
            let gone = self.gone(state, now);
            if !gone.is_empty() {
                // Whoever follows is looked at when they are gone.
                return gone.iter().map(|name| Change::remove(Kind::Workload.named(name))).collect();
            }
            self.anew.clear();
        }
        self.pause = now + TOGETHER;
        let Some(network) = state.learning() else {
            self.heard.clear();
            self.questions.open.clear();
            self.strangers.retain(|_, until| *until > now);
            return Vec::new();
        };
        let mut changes = self.adopt(state, now);
        changes.extend(self.learn(state, network, unheard, now));
        changes
    }

    /// Learned workloads that are to be forgotten.
    fn gone(&mut self, state: &State, now: Duration) -> Vec<Name> {
        self.ports.retain(|switch, _| state.switches.contains_key(switch));
        let lost = std::mem::take(&mut self.lost);
        let mut gone = Vec::new();
        let mut absent = BTreeMap::new();
        for workload in state.learned() {
            let Some(at) = learned_at(workload) else { continue };
            if !self.ports.contains_key(&at.switch) {
                self.lost.insert(at.switch.clone(), lost.get(&at.switch).copied().unwrap_or(now));
            }
            let since = self.absent.get(at).copied();
            let forget = self.anew.contains(&at.switch)
                // Who comes up at the port now may be another one: he says so.
                || since.is_some_and(|since| since + FORGET <= now || self.port(at).is_some_and(|port| port.up))
                || self.port(at).is_some_and(|port| is_taken_but(state, &at.switch, port, Some(&workload.name)));
            if forget {
                gone.push(workload.name.clone());
            } else if since.is_some() || self.is_down(state, at) {
                absent.insert(at.clone(), since.unwrap_or(now));
            }
        }
        self.absent = absent;
        gone
    }

    /// Whether nobody can be at a port: it is down, or there is none. Of a switch that is not connected that is not known.
    fn is_down(&self, state: &State, at: &Attachment) -> bool {
        match self.ports.get(&at.switch) {
            Some(ports) => !ports.iter().any(|port| port.is(&at.port) && port.up),
            None => !state.switches.contains_key(&at.switch),
        }
    }

    fn adopt(&mut self, state: &State, now: Duration) -> Vec<Change> {
        let strangers = std::mem::take(&mut self.strangers);
        let mut room = if strangers.is_empty() { 0 } else { MAX_SWITCHES.saturating_sub(adopted(state)) };
        let mut changes = Vec::new();
        for (id, until) in strangers {
            let switch = Switch::adopted(id);
            if until <= now || state.datapath(id).is_some() || state.switches.contains_key(&switch.name) {
                continue;
            }
            if room == 0 {
                self.refuse(NotLearned::TooMany, || format!("switch {id}"));
                continue;
            }
            room -= 1;
            changes.push(Change::set(Resource::Switch(switch.into())));
        }
        changes
    }

    fn learn(&mut self, state: &State, network: &Network, unheard: Unheard<'_>, now: Duration) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut room = MAX_WORKLOADS.saturating_sub(state.learned().count());
        // What is changed here is known to the state afterwards: who is about the same waits for that.
        let (mut ips, mut names, mut ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for ((at, mac), sighting) in std::mem::take(&mut self.heard) {
            let ready = match self.port(&at) {
                Some(port) if is_free(state, &at, port, mac) => unheard(&at.switch, port),
                // It is gone, or somebody's by now.
                _ => continue,
            };
            let known = state.workload_with(&network.name, mac).is_some_and(|known| at_port(known, mac) == Some(&at));
            if !known && ready.is_none_or(|since| now < since + UNHEARD) {
                self.wait((at, mac), sighting, now);
                continue;
            }
            let is_gone = |known: &Workload| {
                learned_at(known).is_some_and(|at| {
                    let lost = self.lost.get(&at.switch).is_some_and(|since| *since + LOST <= now);
                    lost || self.absent.contains_key(at)
                })
            };
            match decide(state, network, &at, mac, &sighting.ips, is_gone) {
                Decision::Nothing => {}
                Decision::Refuse(why) => self.refuse(why, || text(&at, mac)),
                Decision::Learn(workload) => {
                    let own = || workload.interfaces.iter().flat_map(|interface| &interface.ips).copied();
                    if own().any(|ip| ips.contains(&ip)) || names.contains(&workload.name) || ports.contains(&at) {
                        self.wait((at, mac), sighting, now);
                        continue;
                    }
                    if !state.workloads.contains_key(&workload.name) {
                        if room == 0 {
                            self.refuse(NotLearned::TooMany, || text(&at, mac));
                            continue;
                        }
                        room -= 1;
                    }
                    ips.extend(own());
                    names.insert(workload.name.clone());
                    ports.insert(at);
                    changes.push(Change::set(Resource::Workload(workload.into())));
                }
            }
        }
        changes
    }

    /// Looks at somebody again at the next look, if that is not too late.
    fn wait(&mut self, key: (Attachment, Mac), sighting: Sighting, now: Duration) {
        if now < sighting.until {
            self.heard.insert(key, sighting);
        }
    }

    /// What is to be sent for those who look for addresses that nobody has, by switch.
    pub(crate) fn ask(&mut self, state: &State, unheard: Unheard<'_>, now: Duration) -> BTreeMap<Name, Vec<Outgoing>> {
        let network = state.learning();
        network.map(|network| self.questions.ask(&self.ports, state, network, unheard, now)).unwrap_or_default()
    }

    /// What was learned, as operators see it.
    pub(crate) fn view(&self, state: &State) -> LearnView {
        LearnView {
            network: state.learning().map(|network| network.name.clone()),
            workloads: state.learned().count(),
            switches: adopted(state),
            refused: self.refused.clone(),
        }
    }

    fn port(&self, at: &Attachment) -> Option<&PortState> {
        self.ports.get(&at.switch)?.iter().find(|port| port.is(&at.port))
    }

    fn refuse(&mut self, why: NotLearned, whom: impl FnOnce() -> String) {
        let (count, last) = self.refused.entry(why).or_default();
        *count = count.saturating_add(1);
        *last = whom();
    }
}

/// Whether a workload of the network has both.
fn has(state: &State, network: &Network, mac: Mac, ip: IpAddr) -> bool {
    let known = state.workload_at(&network.name, ip);
    known.is_some_and(|known| known.interfaces.iter().any(|known| known.mac == mac && known.ips.contains(&ip)))
}

/// Whether a port is nobody's but perhaps the learned workload's with this MAC.
fn is_free(state: &State, at: &Attachment, port: &PortState, mac: Mac) -> bool {
    let own = state.workload_on(at).filter(|known| known.is_learned() && at_port(known, mac) == Some(at));
    is_cable(port) && !is_taken_but(state, &at.switch, port, own.map(|known| &known.name))
}

/// Where a workload's interface is said to be.
fn at_port(workload: &Workload, mac: Mac) -> Option<&Attachment> {
    workload.interfaces.iter().find(|interface| interface.mac == mac)?.attachment.as_ref()
}

/// Where a learned workload is: it has one interface.
fn learned_at(workload: &Workload) -> Option<&Attachment> {
    workload.interfaces.first()?.attachment.as_ref()
}

/// How many switches were adopted.
fn adopted(state: &State) -> usize {
    state.switches.values().filter(|switch| switch.is_adopted()).count()
}

fn text(at: &Attachment, mac: Mac) -> String {
    format!("{mac} at {}:{}", at.switch, at.port)
}

#[cfg(test)]
mod tests;
