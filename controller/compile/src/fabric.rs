//! What the switches of a fabric are to each other: which there are, what is seen on their hosts, and where networks are
//! present.

use bulkhead_policy::{
    model::{Attachment, Host, Network, Plugged, Switch, Workload},
    overlay::{self, Tunnel},
};
use bulkhead_topology::{Mac, Name, Port};
use std::{collections::BTreeMap, sync::Arc};

/// The switches, and what is where.
#[derive(Debug, Default)]
pub(crate) struct Fabric {
    /// Declared switches.
    pub switches: BTreeMap<Name, Arc<Switch>>,
    /// What is seen on hosts.
    pub hosts: BTreeMap<Name, Arc<Host>>,
    /// Where workloads' interfaces are seen.
    seen: BTreeMap<Name, BTreeMap<Mac, Attachment>>,
    /// Ports of switches with a host that workloads' documents and uplinks name, and how many do.
    taken: BTreeMap<Name, BTreeMap<Port, u32>>,
    /// Interfaces and uplinks of each network on each switch, declared or not.
    present: BTreeMap<Name, BTreeMap<Name, u32>>,
    /// Grows whenever there may be other tunnels: a network came to a switch or left one, or one of them changed.
    pub moves: u64,
}

/// Where what is for nobody inside leaves a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WayOut<'a> {
    /// By its own first uplink: port and VLAN.
    Uplink(&'a Port, u16),
    /// By the uplink of that switch.
    Tunnel(&'a Name, Tunnel),
}

impl Fabric {
    /// Whether there is such a switch, with a VTEP address.
    pub fn has_vtep(&self, switch: &Name) -> bool {
        self.switches.get(switch).is_some_and(|switch| switch.vtep.is_some())
    }

    /// How packets of a network get from one switch to another.
    pub fn tunnel(&self, network: &Network, from: &Name, to: &Name) -> Option<Tunnel> {
        overlay::tunnel(network, self.switches.get(from)?, self.switches.get(to)?)
    }

    /// The first uplink of a network on the switch, or else the first that there is a tunnel to.
    pub fn way_out<'a>(&self, network: &'a Network, switch: &Name) -> Option<WayOut<'a>> {
        let mut uplinks = network.uplinks.iter();
        if let Some(own) = uplinks.clone().find(|uplink| uplink.at.switch == *switch) {
            return Some(WayOut::Uplink(&own.at.port, own.vlan));
        }
        uplinks.find_map(|uplink| {
            let to = &uplink.at.switch;
            Some(WayOut::Tunnel(to, self.tunnel(network, switch, to)?))
        })
    }

    /// The switches that a network is present on.
    pub fn present(&self, network: &Name) -> impl Iterator<Item = &Name> {
        self.counts(network).map(|(switch, _)| switch)
    }

    /// The same, with how many interfaces and uplinks it has there.
    pub fn counts(&self, network: &Name) -> impl Iterator<Item = (&Name, u32)> + use<'_> {
        self.present.get(network).into_iter().flatten().map(|(switch, count)| (switch, *count))
    }

    /// How many interfaces and uplinks a network has on a switch.
    pub fn count(&self, network: &Name, switch: &Name) -> u32 {
        self.present.get(network).and_then(|on| on.get(switch)).copied().unwrap_or(0)
    }

    /// Counts an interface or uplink in; says whether it is the network's first on the switch.
    pub fn enter(&mut self, network: &Name, switch: &Name) -> bool {
        let count = self.present.entry(network.clone()).or_default().entry(switch.clone()).or_default();
        *count += 1;
        self.moves += u64::from(*count == 1);
        *count == 1
    }

    /// Counts an interface or uplink out; says whether it was the network's last on the switch.
    pub fn exit(&mut self, network: &Name, switch: &Name) -> bool {
        let Some(on) = self.present.get_mut(network) else { return false };
        let last = count_out(on, switch);
        if on.is_empty() {
            self.present.remove(network);
        }
        self.moves += u64::from(last);
        last
    }

    /// Takes over what is seen on a host; whom that concerns.
    pub fn see(&mut self, switch: &Name, host: Option<&Arc<Host>>) -> Vec<Name> {
        let old = match host {
            Some(host) => self.hosts.insert(switch.clone(), host.clone()),
            None => {
                self.taken.remove(switch);
                self.hosts.remove(switch)
            }
        };
        let list = |host: Option<&Arc<Host>>| host.map_or_else(Vec::new, |host| host.plugged.clone());
        let (before, after) = (list(old.as_ref()), list(host));
        let mut concerned = Vec::new();
        for gone in before.iter().filter(|seen| after.binary_search(seen).is_err()) {
            // It may have been seen elsewhere meanwhile.
            if let Some(interfaces) = self.seen.get_mut(&gone.workload)
                && interfaces.get(&gone.mac).is_some_and(|at| at.switch == *switch && at.port == gone.port)
            {
                interfaces.remove(&gone.mac);
                if interfaces.is_empty() {
                    self.seen.remove(&gone.workload);
                }
            }
            concerned.push(gone.workload.clone());
        }
        for Plugged { port, workload, mac } in after.into_iter().filter(|seen| before.binary_search(seen).is_err()) {
            let at = Attachment { switch: switch.clone(), port };
            self.seen.entry(workload.clone()).or_default().insert(mac, at);
            concerned.push(workload);
        }
        concerned.sort();
        concerned.dedup();
        concerned
    }

    /// A document names a port; whom that concerns who was seen there.
    pub fn take(&mut self, at: &Attachment) -> Option<Name> {
        let host = self.hosts.get(&at.switch)?;
        let count = self.taken.entry(at.switch.clone()).or_default().entry(at.port.clone()).or_default();
        *count += 1;
        if *count == 1 { host.at(&at.port).map(|seen| seen.workload.clone()) } else { None }
    }

    /// A document names a port no more; whom that concerns who was seen there.
    pub fn free(&mut self, at: &Attachment) -> Option<Name> {
        let host = self.hosts.get(&at.switch)?;
        let taken = self.taken.get_mut(&at.switch)?;
        let last = count_out(taken, &at.port);
        if taken.is_empty() {
            self.taken.remove(&at.switch);
        }
        if last { host.at(&at.port).map(|seen| seen.workload.clone()) } else { None }
    }

    /// The workload as it is plugged in, if what is seen says more than its document: `State::attachment`.
    pub fn plugged(&self, written: &Workload) -> Option<Workload> {
        let seen = self.seen.get(&written.name)?;
        let mut plugged = written.clone();
        for interface in plugged.interfaces.iter_mut().filter(|interface| interface.attachment.is_none()) {
            let free = |at: &&Attachment| self.taken.get(&at.switch).is_none_or(|taken| !taken.contains_key(&at.port));
            interface.attachment = seen.get(&interface.mac).filter(free).cloned();
        }
        (plugged != *written).then_some(plugged)
    }
}

/// Counts down; says whether it was the last.
fn count_out<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) -> bool {
    let Some(count) = counts.get_mut(key) else { return false };
    *count = count.saturating_sub(1);
    let last = *count == 0;
    if last {
        counts.remove(key);
    }
    last
}
