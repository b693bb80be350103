//! The hosts that Bulkhead keeps: how each is to be set up, what was found there, and who is plugged in where.
//!
//! What is plugged in becomes a resource, [`Host`], that is stored like any other: programs stay a function of what is
//! stored, and a controller that comes back knows it before any switch connects. Here it is only decided what a host's
//! resource is to be.

use bulkhead_dataplane::host::{FromHost, HostConfig, HostReport, Plugged, ToHosts, TunnelKind};
use bulkhead_policy::{
    Change, Key, Kind, Resource, State,
    model::{self, Driver, Host},
};
use bulkhead_topology::{Mac, Name, Port};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Interfaces that are taken in from one host; the rest is told of. With the longest names, the document of so many
/// still has room in the store (4 MiB).
const MAX_PLUGGED: usize = 8_000;
/// After how long something that could not be stored is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long a host has to be lost before others may take over what it had: databases restart within seconds, and so do
/// their hosts within a minute.
const GRACE: Duration = Duration::from_secs(60);
/// News of one host within so long are stored together: each is a whole resource and a write to the disk.
const TOGETHER: Duration = Duration::from_millis(100);

/// The way to the keeper of hosts.
#[derive(Debug, Clone)]
pub struct Keeper {
    /// The keeper's channel; it takes what it is told in order.
    pub commands: mpsc::UnboundedSender<ToHosts>,
    /// Where hosts find the controller's OpenFlow listener; see [`HostConfig::controller`].
    pub controller: String,
    /// The document to store for a resource; what [`crate::Decode`] reads.
    pub encode: fn(&Resource) -> String,
}

/// Somebody who is plugged in and does not get through.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quarantined {
    /// The port.
    pub port: String,
    /// Whose it is said to be.
    pub owner: String,
    /// Its MAC address, if it says one.
    pub mac: Option<Mac>,
    /// Why its packets are dropped.
    pub why: String,
}

/// One host, as operators see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostView {
    /// Where its database is.
    pub endpoint: String,
    /// Whether the database answers.
    pub connected: bool,
    /// Whether the host is as it is to be.
    pub shaped: bool,
    /// Why not; empty if there is nothing to tell.
    pub trouble: String,
    /// What was mended last, and how often something was.
    pub repaired: Vec<String>,
    /// How often something was mended after the first time that all was well.
    pub repairs: u64,
    /// How many interfaces are plugged in.
    pub plugged: usize,
    /// Who is plugged in and gets nothing.
    pub quarantined: Vec<Quarantined>,
    /// Largest IP packet that the underlay takes, in bytes; `None` if not known.
    pub underlay_mtu: Option<u32>,
    /// What will not work as somebody may expect.
    pub warnings: Vec<String>,
}

/// Whether a host's database answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Not said yet.
    Unknown,
    Up,
    /// Since when, and whether others may take over what it had.
    Down {
        since: Duration,
        lost: bool,
    },
}

impl Link {
    fn is_down(self) -> bool {
        matches!(self, Self::Down { .. })
    }
}

struct Slot {
    attachment: u64,
    endpoint: String,
    config: HostConfig,
    link: Link,
    shaped: bool,
    trouble: String,
    repaired: Vec<String>,
    repairs: u64,
    /// What is plugged in.
    plugged: Vec<Plugged>,
    /// Whose interfaces that are, and their ports; `None` until it was told.
    claims: Option<BTreeMap<(Name, Mac), Port>>,
    /// The underlay's MTU; none within, if it is not known there; `None` until it was told.
    mtu: Option<Option<u32>>,
    errors: Vec<String>,
    /// When its resource was last changed.
    stored: Duration,
    /// Why what was found could not be taken over; empty if it was.
    refused: String,
    /// Whether all has been well here before.
    was_shaped: bool,
}

/// All kept hosts.
#[derive(Default)]
pub(crate) struct Hosts {
    slots: BTreeMap<Name, Slot>,
    attachments: u64,
    /// Hosts whose resource may have to change, and when that is to be seen to.
    dirty: BTreeMap<Name, Duration>,
    /// Hosts that say to have what another one has.
    contested: BTreeSet<Name>,
    /// Whether hosts are seen to one by one: all at once was refused.
    alone: bool,
    /// When it is looked at again whether a lost host gives way.
    recheck: Option<Duration>,
}

impl Hosts {
    /// Takes on, sets up anew and lets go of hosts, as the switches' documents say.
    pub(crate) fn keep(&mut self, keeper: &Keeper, state: &State, now: Duration) {
        let wanted: BTreeMap<&Name, (&String, HostConfig)> = state
            .switches
            .iter()
            .filter_map(|(name, switch)| Some((name, (switch.ovsdb.as_ref()?, config(keeper, switch)?))))
            .collect();
        let dirty = &mut self.dirty;
        dirty.extend(state.hosts.keys().filter(|name| !wanted.contains_key(name)).map(|name| (name.clone(), now)));
        self.slots.retain(|name, _| {
            let stays = wanted.contains_key(name);
            if !stays {
                dirty.insert(name.clone(), now);
                info!(switch = %name, "the host is no longer kept");
                // The keeper has ended: the program is ending.
                let _ = keeper.commands.send(ToHosts::Release { switch: name.clone() });
            }
            stays
        });
        for (name, (endpoint, config)) in wanted {
            let known = self.slots.remove(name);
            if known.as_ref().is_some_and(|slot| slot.endpoint == *endpoint && slot.config == config) {
                self.slots.extend(known.map(|slot| (name.clone(), slot)));
                continue;
            }
            self.attachments += 1;
            let (switch, endpoint, attachment) = (name.clone(), endpoint.clone(), self.attachments);
            let keep = ToHosts::Keep { switch, endpoint: endpoint.clone(), config: config.clone(), attachment };
            // As above.
            let _ = keeper.commands.send(keep);
            // The same host set up otherwise still has what it had; another one is not known yet.
            let known = known.filter(|slot| slot.endpoint == endpoint);
            let (plugged, claims, mtu) = known.map(|slot| (slot.plugged, slot.claims, slot.mtu)).unwrap_or_default();
            let slot = Slot {
                attachment,
                endpoint,
                config,
                link: Link::Unknown,
                shaped: false,
                trouble: String::new(),
                repaired: Vec::new(),
                repairs: 0,
                plugged,
                claims,
                mtu,
                errors: Vec::new(),
                stored: Duration::ZERO,
                refused: String::new(),
                was_shaped: false,
            };
            self.slots.insert(name.clone(), slot);
        }
    }

    /// Takes in what the keeper tells.
    pub(crate) fn report(&mut self, from: FromHost, now: Duration) {
        let FromHost { switch: name, attachment, report } = from;
        let Some(slot) = self.slots.get_mut(&name).filter(|slot| slot.attachment == attachment) else { return };
        let mut others = false;
        let matters = match report {
            HostReport::Connected => {
                info!(switch = %name, endpoint = slot.endpoint, "the host's database answers");
                (slot.link, slot.trouble) = (Link::Up, String::new());
                false
            }
            HostReport::Disconnected(why) => {
                warn!(switch = %name, endpoint = slot.endpoint, %why, "the host's database does not answer");
                let since = if let Link::Down { since, .. } = slot.link { since } else { now };
                (slot.link, slot.shaped, slot.trouble) = (Link::Down { since, lost: false }, false, why);
                self.recheck = Some(now);
                false
            }
            HostReport::Shaped { repaired } => {
                if !repaired.is_empty() {
                    warn!(switch = %name, repaired = repaired.join("; "), "the host was not as it is to be; mended");
                    slot.repairs += u64::from(slot.was_shaped);
                    slot.repaired = repaired;
                }
                (slot.shaped, slot.was_shaped, slot.trouble) = (true, true, String::new());
                false
            }
            HostReport::Unable(why) => {
                warn!(switch = %name, %why, "the host cannot be brought into shape");
                (slot.shaped, slot.trouble) = (false, why);
                false
            }
            HostReport::Interfaces(plugged) => {
                let found = claims(&plugged).filter_map(Result::ok);
                slot.claims = Some(found.map(|p| ((p.workload, p.mac), p.port)).collect());
                slot.plugged = plugged;
                // What this one lets go, another one may be waiting for.
                others = true;
                true
            }
            HostReport::Underlay { mtu, errors } => {
                for error in &errors {
                    warn!(switch = %name, %error, "something on the host will not work");
                }
                slot.errors = errors;
                slot.mtu.replace(mtu) != Some(mtu)
            }
        };
        if matters {
            // The first news at once, those that follow on its heels together.
            let due = now.max(slot.stored + TOGETHER);
            self.dirty.entry(name).or_insert(due);
        }
        if others {
            self.contested_again(now);
        }
    }

    /// What has to change for the resources to say what was found: of all hosts that are due, or of one alone if all at
    /// once was refused. `gone` says whether a host's switch is gone too. To be asked until nothing comes; what was
    /// carried out is told by [`Self::carried_out`], what was not by [`Self::refused`].
    pub(crate) fn changes(&mut self, state: &State, gone: impl Fn(&Name) -> bool, now: Duration) -> Vec<Change> {
        self.give_way(gone, now);
        loop {
            match self.round(state, now) {
                Some(changes) if changes.is_empty() => {}
                found => return found.unwrap_or_default(),
            }
        }
    }

    /// One look at hosts that are due; `None` if there are none.
    fn round(&mut self, state: &State, now: Duration) -> Option<Vec<Change>> {
        let due = self.dirty.iter().filter(|(_, due)| **due <= now).map(|(name, _)| name.clone());
        let asked: Vec<Name> = due.take(if self.alone { 1 } else { usize::MAX }).collect();
        if asked.is_empty() {
            self.alone = false;
            return None;
        }
        let mut hosts: BTreeMap<Name, Option<Host>> = BTreeMap::new();
        // Interfaces that were given in this round, and those that a host is no longer believed to have.
        let mut given: BTreeSet<(Name, Mac)> = BTreeSet::new();
        let mut taken: BTreeMap<Name, BTreeSet<(Name, Mac)>> = BTreeMap::new();
        for name in asked {
            self.dirty.remove(&name);
            let Some(slot) = self.slots.get(&name) else {
                hosts.insert(name, None);
                continue;
            };
            // What a lost host had it keeps, until somebody else has it.
            let Some(claims) = slot.claims.as_ref().filter(|_| !slot.link.is_down()) else { continue };
            let mut plugged = Vec::with_capacity(claims.len());
            let mut contested = false;
            for (interface, port) in claims {
                let (workload, mac) = interface;
                let other = state.seen(workload, *mac).map(|at| &at.switch).filter(|at| **at != name);
                if given.contains(interface) || other.is_some_and(|other| self.has(other, interface)) {
                    contested = true;
                    continue;
                }
                if let Some(other) = other {
                    taken.entry(other.clone()).or_default().insert(interface.clone());
                }
                given.insert(interface.clone());
                plugged.push(model::Plugged { port: port.clone(), workload: workload.clone(), mac: *mac });
            }
            if contested {
                self.contested.insert(name.clone());
            }
            plugged.sort();
            // As long as nothing is told of it, what was known holds.
            let known = || state.hosts.get(&name).and_then(|host| host.underlay_mtu);
            let told = slot.mtu.map(|mtu| mtu.map(|mtu| u16::try_from(mtu).unwrap_or(u16::MAX)));
            let underlay_mtu = told.unwrap_or_else(known);
            hosts.insert(name.clone(), Some(Host { name, underlay_mtu, plugged }));
        }
        for (name, interfaces) in taken {
            // Who was looked at anyway has only what it says to have.
            let Some(had) = state.hosts.get(&name).filter(|_| !hosts.contains_key(&name)) else { continue };
            let mut host = Host::clone(had);
            host.plugged.retain(|had| !interfaces.contains(&(had.workload.clone(), had.mac)));
            hosts.insert(name, Some(host));
        }
        let differs = |name: &Name, host: &Option<Host>| state.hosts.get(name).map(AsRef::as_ref) != host.as_ref();
        let hosts = hosts.into_iter().filter(|(name, host)| differs(name, host));
        let change = |(name, host): (Name, Option<Host>)| Change {
            key: Key { kind: Kind::Host, name },
            value: host.map(|host| Resource::Host(Arc::new(host))),
        };
        Some(hosts.map(change).collect())
    }

    /// Hosts that are lost for good give way: who says to have what they had is looked at again.
    fn give_way(&mut self, gone: impl Fn(&Name) -> bool, now: Duration) {
        let mut waits = false;
        for (name, slot) in &mut self.slots {
            if let Link::Down { since, lost } = &mut slot.link {
                *lost = now >= *since + GRACE && gone(name);
                waits |= !*lost;
            }
        }
        let lost = self.slots.values().any(|slot| matches!(slot.link, Link::Down { lost: true, .. }));
        if lost {
            self.contested_again(now);
        }
        self.recheck = (waits && !self.contested.is_empty()).then_some(now + RETRY);
    }

    fn contested_again(&mut self, now: Duration) {
        for name in std::mem::take(&mut self.contested) {
            self.dirty.entry(name).or_insert(now);
        }
    }

    /// What [`Self::changes`] said of these is stored.
    pub(crate) fn carried_out<'a>(&mut self, names: impl Iterator<Item = &'a Name>, now: Duration) {
        for name in names {
            if let Some(slot) = self.slots.get_mut(name) {
                (slot.stored, slot.refused) = (now, String::new());
            }
        }
    }

    /// What [`Self::changes`] said of these could not be carried out, and why: it is to be said again, after a while.
    pub(crate) fn refused<'a>(&mut self, names: impl Iterator<Item = &'a Name>, why: &str, now: Duration) {
        let names: Vec<&Name> = names.collect();
        // Of several, one may be the cause: the others are not to suffer for it.
        let due = if self.alone || names.len() == 1 { now + RETRY } else { now };
        self.alone = true;
        for name in names {
            self.dirty.insert(name.clone(), due);
            if let Some(slot) = self.slots.get_mut(name) {
                slot.refused = why.into();
            }
        }
    }

    /// When [`Self::changes`] is to be asked, whatever happens.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.dirty.values().copied().chain(self.recheck).min()
    }

    /// Whether a host is still believed to have an interface: it says so, or may come back and say so.
    fn has(&self, name: &Name, interface: &(Name, Mac)) -> bool {
        let Some(slot) = self.slots.get(name) else { return false };
        let lost = matches!(slot.link, Link::Down { lost: true, .. });
        !lost && slot.claims.as_ref().is_none_or(|claims| claims.contains_key(interface))
    }

    /// Every kept host, as operators see it.
    pub(crate) fn views(&self, state: &State) -> BTreeMap<Name, HostView> {
        self.slots.iter().map(|(name, slot)| (name.clone(), view(state, name, slot))).collect()
    }
}

/// How a switch's host is to be set up; `None` if nothing of it is spoken through Open vSwitch.
fn config(keeper: &Keeper, switch: &model::Switch) -> Option<HostConfig> {
    let Driver::Openflow(datapath) = switch.driver else { return None };
    Some(HostConfig {
        datapath,
        controller: keeper.controller.clone(),
        datapath_type: None,
        local_ip: switch.vtep,
        // Both: what nobody asks for is dropped there, and counted.
        tunnels: switch.vtep.map(|_| TunnelKind::ALL.into()).unwrap_or_default(),
    })
}

/// What each interface says to be, or why it cannot be believed; in the order of ports.
fn claims(plugged: &[Plugged]) -> impl Iterator<Item = Result<model::Plugged, Quarantined>> {
    let mut known = BTreeSet::new();
    plugged.iter().enumerate().map(move |(index, interface)| {
        let quarantined = |why: String| Quarantined {
            port: interface.port.clone(),
            owner: interface.owner.clone(),
            mac: interface.mac,
            why,
        };
        if index >= MAX_PLUGGED {
            return Err(quarantined(format!("the host has more than {MAX_PLUGGED} interfaces")));
        }
        if let Some(error) = &interface.error {
            return Err(quarantined(format!("it cannot be used: {error}")));
        }
        if !Port::is_name(&interface.port) {
            let longest = Port::LONGEST_NAME;
            let what = format!("its port's name is not 1 to {longest} printable ASCII characters without spaces");
            return Err(quarantined(what));
        }
        let workload = interface
            .owner
            .parse::<Name>()
            .map_err(|error| quarantined(format!("whose it is said to be is no workload's name: {error}")))?;
        let mac = interface.mac.ok_or_else(|| quarantined("nothing tells its MAC address".into()))?;
        if !known.insert((workload.clone(), mac)) {
            return Err(quarantined("another port of this host says to be the same interface".into()));
        }
        Ok(model::Plugged { port: Port::Name(interface.port.as_str().into()), workload, mac })
    })
}

fn view(state: &State, name: &Name, slot: &Slot) -> HostView {
    let plugged = &slot.plugged;
    let mut quarantined = Vec::new();
    let mut warnings = slot.errors.clone();
    for (interface, claim) in plugged.iter().zip(claims(plugged)) {
        match claim.and_then(|claim| place(state, name, slot, claim)) {
            Err(found) => quarantined.push(found),
            Ok(workload) => {
                let v6 = slot.config.local_ip.is_some_and(|ip| ip.is_ipv6());
                let overhead = slot.config.tunnels.iter().map(|tunnel| u32::from(tunnel.overhead(v6))).max();
                if let (Some(mtu), Some(Some(underlay)), Some(overhead)) = (interface.mtu, slot.mtu, overhead)
                    && mtu > underlay.saturating_sub(overhead)
                {
                    let most = underlay.saturating_sub(overhead);
                    warnings.push(format!(
                        "workload {workload} has MTU {mtu}, and the overlay carries {most} (underlay {underlay}); \
                         its larger packets are answered with ICMP, set its MTU to {most}"
                    ));
                }
            }
        }
    }
    HostView {
        endpoint: slot.endpoint.clone(),
        connected: slot.link == Link::Up,
        shaped: slot.shaped,
        trouble: if slot.trouble.is_empty() { slot.refused.clone() } else { slot.trouble.clone() },
        repaired: slot.repaired.clone(),
        repairs: slot.repairs,
        plugged: plugged.len(),
        quarantined,
        underlay_mtu: slot.mtu.flatten(),
        warnings,
    }
}

/// The workload that an interface is taken for, or why for none.
fn place(state: &State, host: &Name, slot: &Slot, claim: model::Plugged) -> Result<Name, Quarantined> {
    let why = match state.workloads.get(&claim.workload) {
        None => format!("there is no workload {}", claim.workload),
        Some(workload) => match workload.interfaces.iter().find(|interface| interface.mac == claim.mac) {
            None => format!("workload {} has no interface {}", claim.workload, claim.mac),
            Some(interface) => match state.attachment(workload, interface) {
                Some(at) if at.switch == *host && at.port == claim.port => return Ok(claim.workload),
                Some(at) => format!("workload {} is at port {} of switch {}", claim.workload, at.port, at.switch),
                None if !slot.refused.is_empty() => format!("not taken over yet: {}", slot.refused),
                None if state.seen(&claim.workload, claim.mac).is_none() => "not taken over yet".into(),
                None => "its port is another workload's or an uplink".into(),
            },
        },
    };
    let port = claim.port.to_string();
    Err(Quarantined { port, owner: claim.workload.to_string(), mac: Some(claim.mac), why })
}
