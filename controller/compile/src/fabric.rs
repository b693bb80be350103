//! What the switches of a fabric are to each other: which there are, what is seen on their hosts, and where networks are
//! present.

use crate::carrier::Carrier;
use bulkhead_policy::{
    model::{Attachment, Host, Network, Plugged, Switch, Uplink, Workload},
    overlay::{self, Tunnel},
};
use bulkhead_topology::{Mac, Name, Port};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The switches, and what is where.
#[derive(Debug, Default)]
pub(crate) struct Fabric {
    /// Declared switches.
    pub switches: BTreeMap<Name, Arc<Switch>>,
    /// Those of them with a VTEP address.
    vteps: BTreeSet<Name>,
    /// The switches of the physical fabric that networks are present on, and their numbers.
    pub edges: BTreeMap<Name, u32>,
    /// Links between switches.
    pub carrier: Carrier,
    /// What is seen on hosts.
    pub hosts: BTreeMap<Name, Arc<Host>>,
    /// Where workloads' interfaces are seen.
    seen: BTreeMap<Name, BTreeMap<Mac, Attachment>>,
    /// Ports of switches with a host that workloads' documents and uplinks name, and how many do.
    taken: BTreeMap<Name, BTreeMap<Port, u32>>,
    /// Interfaces and uplinks of each network on each switch, declared or not.
    present: BTreeMap<Name, BTreeMap<Name, u32>>,
    /// The tunnels by the switches that they lead from and to, and how many networks need each: those that are present on
    /// both.
    pub tunnels: BTreeMap<(Name, Name), BTreeMap<Tunnel, u32>>,
    /// The network that learns workloads; for a moment, while another one takes over, two.
    pub learning: BTreeSet<Name>,
    /// Between which switches there may be others than before.
    turned: BTreeSet<(Name, Name)>,
}

/// Where what is for nobody inside leaves a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WayOut<'a> {
    /// By its own first uplink: port and VLAN.
    Uplink(&'a Port, u16),
    /// By the uplink of that switch, which is reached like this.
    Across(&'a Name, Transport),
}

/// How packets of a network get from one switch to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// By a tunnel.
    Tunnel(Tunnel),
    /// By the links of the physical fabric, to the edge with this number.
    Carried(u32),
}

impl Fabric {
    /// Takes over what a switch's document says; gives back what it said before.
    pub fn declare(&mut self, name: &Name, switch: Option<&Arc<Switch>>) -> Option<Arc<Switch>> {
        if switch.is_some_and(|switch| switch.vtep.is_some()) {
            self.vteps.insert(name.clone());
        } else {
            self.vteps.remove(name);
        }
        match switch {
            Some(switch) => self.switches.insert(name.clone(), switch.clone()),
            None => self.switches.remove(name),
        }
    }

    /// Whether workloads that are plugged in there are judged on the other switches of their networks.
    pub fn has_guests(&self, switch: &Name) -> bool {
        self.switches.get(switch).is_some_and(|switch| !overlay::judges(switch))
    }

    /// Whether a switch remembers connections. One that is not declared has no program.
    pub fn remembers(&self, switch: &Name) -> bool {
        self.switches.get(switch).is_none_or(|switch| switch.driver.remembers())
    }

    /// Whether a switch hears its links.
    pub fn is_probed(&self, switch: &Name) -> bool {
        self.switches.get(switch).is_some_and(|switch| switch.probes())
    }

    /// How packets of a network get from one switch to another.
    pub fn tunnel(&self, network: &Network, from: &Name, to: &Name) -> Option<Tunnel> {
        overlay::tunnel(network, self.switches.get(from)?, self.switches.get(to)?)
    }

    /// The same, by a tunnel or by the links of the physical fabric; from its other end the packets of `to` come likewise.
    pub fn transport(&self, network: &Network, from: &Name, to: &Name) -> Option<Transport> {
        if self.edges.contains_key(from)
            && let Some(number) = self.edges.get(to)
        {
            return (from != to).then_some(Transport::Carried(*number));
        }
        self.tunnel(network, from, to).map(Transport::Tunnel)
    }

    /// Whether switch may reach others at all.
    pub fn reaches(&self, switch: &Name) -> bool {
        self.vteps.contains(switch) || self.edges.contains_key(switch)
    }

    /// Whether there is any that may.
    pub fn any_reaches(&self) -> bool {
        !self.vteps.is_empty() || !self.edges.is_empty()
    }

    /// The first uplink of a network on the switch, or else the first that it reaches: by links, as they are now.
    pub fn way_out<'a>(&self, network: &'a Network, switch: &Name) -> Option<WayOut<'a>> {
        // Nobody would judge what goes by one of a switch that does not.
        let mut uplinks = network.uplinks.iter().filter(|uplink| !self.has_guests(&uplink.at.switch));
        if let Some(own) = uplinks.clone().find(|uplink| uplink.at.switch == *switch) {
            return Some(WayOut::Uplink(&own.at.port, own.vlan));
        }
        // The first that is cut off helps nobody, if another one is not.
        let across = |uplink: &'a Uplink| {
            let to = &uplink.at.switch;
            Some((to, self.transport(network, switch, to)?))
        };
        let passes = |(to, transport): &(&Name, Transport)| match transport {
            Transport::Tunnel(_) => true,
            Transport::Carried(_) => self.carrier.graph.hang_together(switch, to),
        };
        let found = uplinks.clone().filter_map(across).find(passes).or_else(|| uplinks.find_map(across));
        found.map(|(to, transport)| WayOut::Across(to, transport))
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

    /// How many of them are interfaces.
    pub fn interfaces(&self, network: &Network, switch: &Name) -> u32 {
        // Several VLANs of one port are counted in once.
        let here = network.uplinks.iter().filter(|uplink| uplink.at.switch == *switch);
        let ports: BTreeSet<&Port> = here.map(|uplink| &uplink.at.port).collect();
        self.count(&network.name, switch).saturating_sub(ports.len() as u32)
    }

    /// Counts an interface or uplink in; says whether it is the network's first on the switch. `known` is the network, if
    /// it is declared and its tunnels are counted.
    pub fn enter(&mut self, name: &Name, known: Option<&Network>, switch: &Name) -> bool {
        let count = self.present.entry(name.clone()).or_default().entry(switch.clone()).or_default();
        *count += 1;
        let first = *count == 1;
        if first && let Some(network) = known {
            self.join(network, switch);
        }
        first
    }

    /// Counts an interface or uplink out; says whether it was the network's last on the switch. `known` as for
    /// [`Self::enter`].
    pub fn exit(&mut self, name: &Name, known: Option<&Network>, switch: &Name) -> bool {
        if self.count(name, switch) == 1
            && let Some(network) = known
        {
            self.part(network, switch);
        }
        let Some(on) = self.present.get_mut(name) else { return false };
        let last = count_out(on, switch);
        if on.is_empty() {
            self.present.remove(name);
        }
        last
    }

    /// Counts the tunnels in that a network needs between a switch that it is present on and the others.
    pub fn join(&mut self, network: &Network, switch: &Name) {
        for (ends, tunnel) in self.needed(network, switch) {
            let count = self.tunnels.entry(ends.clone()).or_default().entry(tunnel).or_default();
            *count += 1;
            if *count == 1 {
                self.turned.insert(ends);
            }
        }
    }

    /// Counts them out.
    pub fn part(&mut self, network: &Network, switch: &Name) {
        for (ends, tunnel) in self.needed(network, switch) {
            let Some(tunnels) = self.tunnels.get_mut(&ends) else { continue };
            let last = count_out(tunnels, &tunnel);
            if tunnels.is_empty() {
                self.tunnels.remove(&ends);
            }
            if last {
                self.turned.insert(ends);
            }
        }
    }

    /// Counts the tunnels of a network between all switches in or out: each pair once.
    pub fn all_pairs(&mut self, network: &Network, one: impl Fn(&mut Self, &Network, &Name)) {
        let on = self.present.remove(&network.name).unwrap_or_default();
        for (switch, count) in on {
            self.present.entry(network.name.clone()).or_default().insert(switch.clone(), count);
            one(self, network, &switch);
        }
    }

    /// The tunnels, both ways, between a switch and the others that a network is present on.
    fn needed(&self, network: &Network, switch: &Name) -> Vec<((Name, Name), Tunnel)> {
        let mut needed = Vec::new();
        for other in self.present(&network.name).filter(|other| *other != switch) {
            for (from, to) in [(switch, other), (other, switch)] {
                needed.extend(self.tunnel(network, from, to).map(|tunnel| ((from.clone(), to.clone()), tunnel)));
            }
        }
        needed
    }

    /// The tunnels from one switch to another that networks need.
    pub fn between(&self, from: &Name, to: &Name) -> impl Iterator<Item = &Tunnel> {
        self.tunnels.get(&(from.clone(), to.clone())).into_iter().flat_map(BTreeMap::keys)
    }

    /// Between which switches there may be other tunnels than when this was last asked.
    pub fn take_turned(&mut self) -> BTreeSet<(Name, Name)> {
        std::mem::take(&mut self.turned)
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
