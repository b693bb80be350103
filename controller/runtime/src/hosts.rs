//! The hosts that Bulkhead keeps: how each is to be set up, what was found there, and who is plugged in where.
//!
//! What is plugged in becomes a resource, [`Host`], that is stored like any other: programs stay a function of what is
//! stored, and a controller that comes back knows it before any switch connects. Here it is only decided what a host's
//! resource is to be.

use bulkhead_dataplane::host::{FromHost, HostConfig, HostReport, Plugged, ToHosts, TunnelKind};
use bulkhead_policy::{
    Change, Key, Kind, Resource, State,
    model::{self, Driver, Encap, Host},
};
use bulkhead_topology::{Mac, Name, Port};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// The integration bridge that Bulkhead keeps on a host.
const BRIDGE: &str = "br-int";
/// Interfaces that are taken in from one host. Open vSwitch takes about 65,000 ports; the rest is told of.
const MAX_PLUGGED: usize = 65_000;
/// What an encapsulation adds at most to a packet's length: Geneve with the identity over IPv6.
const OVERHEAD: u32 = 78;
/// After how long something that could not be stored is tried again.
const RETRY: Duration = Duration::from_secs(5);

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
    /// Whose interface it says to be.
    pub iface_id: String,
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
    Down,
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
    mtu: Option<u32>,
    errors: Vec<String>,
}

/// All kept hosts.
#[derive(Default)]
pub(crate) struct Hosts {
    slots: BTreeMap<Name, Slot>,
    attachments: u64,
    /// Hosts whose resource may have to change.
    dirty: BTreeSet<Name>,
    /// Hosts that say to have what another one has.
    contested: BTreeSet<Name>,
    /// When what could not be carried out is tried again.
    retry: Option<Duration>,
}

impl Hosts {
    /// Takes on, sets up anew and lets go of hosts, as the switches' documents say.
    pub(crate) fn keep(&mut self, keeper: &Keeper, state: &State) {
        let wanted: BTreeMap<&Name, (&String, HostConfig)> = state
            .switches
            .iter()
            .filter_map(|(name, switch)| Some((name, (switch.ovsdb.as_ref()?, config(keeper, state, switch)?))))
            .collect();
        let dirty = &mut self.dirty;
        dirty.extend(state.hosts.keys().filter(|name| !wanted.contains_key(name)).cloned());
        self.slots.retain(|name, _| {
            let stays = wanted.contains_key(name);
            if !stays {
                dirty.insert(name.clone());
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
            let (plugged, claims) = known.map(|slot| (slot.plugged, slot.claims)).unwrap_or_default();
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
                mtu: None,
                errors: Vec::new(),
            };
            self.slots.insert(name.clone(), slot);
        }
    }

    /// Takes in what the keeper tells.
    pub(crate) fn report(&mut self, from: FromHost) {
        let FromHost { switch: name, attachment, report } = from;
        let Some(slot) = self.slots.get_mut(&name).filter(|slot| slot.attachment == attachment) else { return };
        let matters = match report {
            HostReport::Connected => {
                info!(switch = %name, endpoint = slot.endpoint, "the host's database answers");
                (slot.link, slot.trouble) = (Link::Up, String::new());
                false
            }
            HostReport::Disconnected(why) => {
                warn!(switch = %name, endpoint = slot.endpoint, %why, "the host's database does not answer");
                (slot.link, slot.shaped, slot.trouble) = (Link::Down, false, why);
                // Others may take over what was here.
                true
            }
            HostReport::Shaped { repaired } => {
                if !repaired.is_empty() {
                    warn!(switch = %name, repaired = repaired.join("; "), "the host was not as it is to be; mended");
                    slot.repairs += 1;
                    slot.repaired = repaired;
                }
                (slot.shaped, slot.trouble) = (true, String::new());
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
                true
            }
            HostReport::Underlay { mtu, errors } => {
                for error in &errors {
                    warn!(switch = %name, %error, "a tunnel port does not work");
                }
                slot.errors = errors;
                std::mem::replace(&mut slot.mtu, mtu) != mtu
            }
        };
        if matters {
            self.dirty.insert(name);
        }
    }

    /// What has to change for the resources to say what was found since this was asked last. What cannot be stored is
    /// asked for again by [`Self::again`].
    pub(crate) fn changes(&mut self, state: &State, now: Duration) -> Vec<Change> {
        if self.dirty.is_empty() || self.retry.is_some_and(|retry| now < retry) {
            return Vec::new();
        }
        self.retry = None;
        let asked = std::mem::take(&mut self.dirty);
        let contested = std::mem::take(&mut self.contested);
        let mut hosts: BTreeMap<Name, Option<Host>> = BTreeMap::new();
        // Interfaces that were given in this round, and those that a host is no longer believed to have.
        let mut given: BTreeSet<(Name, Mac)> = BTreeSet::new();
        let mut taken: BTreeMap<Name, BTreeSet<(Name, Mac)>> = BTreeMap::new();
        for name in asked.union(&contested) {
            let Some(slot) = self.slots.get(name) else {
                hosts.insert(name.clone(), None);
                continue;
            };
            // What a lost host had it keeps, until somebody else has it.
            let Some(claims) = slot.claims.as_ref().filter(|_| slot.link != Link::Down) else { continue };
            let mut plugged = Vec::with_capacity(claims.len());
            for (interface, port) in claims {
                let (workload, mac) = interface;
                let other = state.seen(workload, *mac).map(|at| &at.switch).filter(|at| *at != name);
                if given.contains(interface) || other.is_some_and(|other| self.has(other, interface)) {
                    self.contested.insert(name.clone());
                    continue;
                }
                if let Some(other) = other {
                    taken.entry(other.clone()).or_default().insert(interface.clone());
                }
                given.insert(interface.clone());
                plugged.push(model::Plugged { port: port.clone(), workload: workload.clone(), mac: *mac });
            }
            plugged.sort();
            let underlay_mtu = slot.mtu.map(|mtu| u16::try_from(mtu).unwrap_or(u16::MAX));
            hosts.insert(name.clone(), Some(Host { name: name.clone(), underlay_mtu, plugged }));
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
        hosts.map(change).collect()
    }

    /// What [`Self::changes`] said of these could not be carried out: it is to be said again, after a while.
    pub(crate) fn again<'a>(&mut self, names: impl Iterator<Item = &'a Name>, now: Duration) {
        self.dirty.extend(names.cloned());
        self.retry = Some(now + RETRY);
    }

    /// When [`Self::changes`] is to be asked, whatever happens.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.retry
    }

    /// Whether a host is still believed to have an interface: it says so, or may come back and say so.
    fn has(&self, name: &Name, interface: &(Name, Mac)) -> bool {
        let Some(slot) = self.slots.get(name) else { return false };
        slot.link != Link::Down && slot.claims.as_ref().is_none_or(|claims| claims.contains_key(interface))
    }

    /// Every kept host, as operators see it.
    pub(crate) fn views(&self, state: &State) -> BTreeMap<Name, HostView> {
        self.slots.iter().map(|(name, slot)| (name.clone(), view(state, name, slot))).collect()
    }
}

/// How a switch's host is to be set up; `None` if nothing of it is spoken through Open vSwitch.
fn config(keeper: &Keeper, state: &State, switch: &model::Switch) -> Option<HostConfig> {
    let Driver::Openflow(datapath) = switch.driver else { return None };
    let encaps: BTreeSet<TunnelKind> = state
        .networks
        .values()
        .map(|network| match network.encap {
            Encap::Geneve => TunnelKind::Geneve,
            Encap::Vxlan => TunnelKind::Vxlan,
        })
        .collect();
    // Who cannot do Geneve is spoken to in VXLAN.
    let others =
        state.switches.values().any(|other| other.vtep.is_some() && !matches!(other.driver, Driver::Openflow(_)));
    let tunnels = encaps.into_iter().chain(others.then_some(TunnelKind::Vxlan));
    Some(HostConfig {
        bridge: BRIDGE.into(),
        datapath,
        controller: keeper.controller.clone(),
        datapath_type: None,
        local_ip: switch.vtep,
        tunnels: switch.vtep.map(|_| tunnels.collect()).unwrap_or_default(),
    })
}

/// What each interface says to be, or why it cannot be believed; in the order of ports.
fn claims(plugged: &[Plugged]) -> impl Iterator<Item = Result<model::Plugged, Quarantined>> {
    let mut known = BTreeSet::new();
    plugged.iter().enumerate().map(move |(index, interface)| {
        let quarantined = |why: String| Quarantined {
            port: interface.port.clone(),
            iface_id: interface.iface_id.clone(),
            mac: interface.mac,
            why,
        };
        if index >= MAX_PLUGGED {
            return Err(quarantined(format!("the host has more than {MAX_PLUGGED} interfaces")));
        }
        if let Some(error) = &interface.error {
            return Err(quarantined(format!("Open vSwitch cannot use it: {error}")));
        }
        let workload = interface
            .iface_id
            .parse::<Name>()
            .map_err(|error| quarantined(format!("its iface-id is no workload's name: {error}")))?;
        let mac =
            interface.mac.ok_or_else(|| quarantined("external_ids:attached-mac is missing or no address".into()))?;
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
        match claim.and_then(|claim| place(state, name, claim)) {
            Err(found) => quarantined.push(found),
            Ok(workload) => {
                if let (Some(mtu), Some(underlay)) = (interface.mtu, slot.mtu)
                    && !slot.config.tunnels.is_empty()
                    && mtu > underlay.saturating_sub(OVERHEAD)
                {
                    let most = underlay.saturating_sub(OVERHEAD);
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
        trouble: slot.trouble.clone(),
        repaired: slot.repaired.clone(),
        repairs: slot.repairs,
        plugged: plugged.len(),
        quarantined,
        underlay_mtu: slot.mtu,
        warnings,
    }
}

/// The workload that an interface is taken for, or why for none.
fn place(state: &State, host: &Name, claim: model::Plugged) -> Result<Name, Quarantined> {
    let why = match state.workloads.get(&claim.workload) {
        None => format!("there is no workload {}", claim.workload),
        Some(workload) => match workload.interfaces.iter().find(|interface| interface.mac == claim.mac) {
            None => format!("workload {} has no interface {}", claim.workload, claim.mac),
            Some(interface) => match state.attachment(workload, interface) {
                Some(at) if at.switch == *host && at.port == claim.port => return Ok(claim.workload),
                Some(at) => format!("workload {} is at port {} of switch {}", claim.workload, at.port, at.switch),
                None => "its port is another workload's or an uplink".into(),
            },
        },
    };
    let port = claim.port.to_string();
    Err(Quarantined { port, iface_id: claim.workload.to_string(), mac: Some(claim.mac), why })
}
