//! Switches, networks, and where workloads are plugged in: what is at which place, and which places a change concerns.

use super::Compiler;
use crate::{TooLarge, dirty::Dirty, fabric::Fabric, numbers::Numbered, switch::Unit};
use bulkhead_policy::{
    model::{Attachment, Host, Network, Switch, Workload},
    overlay::{self, Tunnel},
};
use bulkhead_topology::Name;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

impl Compiler {
    pub(super) fn set_switch(&mut self, name: &Name, new: Option<&Arc<Switch>>, dirty: &mut Dirty) {
        self.fabric.carrier.stale.insert(name.clone());
        let reached = |switch: &Arc<Switch>| (switch.vtep, switch.driver.clone());
        let otherwise = self.fabric.switches.get(name).map(reached) != new.map(reached);
        let concerned: BTreeSet<Name> =
            if otherwise { self.present_on(name).cloned().collect() } else { BTreeSet::new() };
        let judges = |switch: Option<&Arc<Switch>>| switch.is_none_or(|switch| overlay::judges(switch));
        let (judged, now_judges) = (judges(self.fabric.switches.get(name)), judges(new));
        if judged != now_judges {
            self.count_guests(name, -1, dirty);
        }
        let concerned: Vec<Arc<Network>> =
            concerned.iter().filter_map(|network| self.networks.get(network)).map(|known| known.0.clone()).collect();
        concerned.iter().for_each(|network| self.fabric.part(network, name));
        let old = self.fabric.declare(name, new);
        concerned.iter().for_each(|network| self.fabric.join(network, name));
        if judged != now_judges {
            self.count_guests(name, 1, dirty);
        }
        if otherwise {
            self.reached_otherwise(name, dirty);
        }
        // One that judges nothing has no program.
        let programmed = |switch: Option<&Arc<Switch>>| switch.is_some_and(|switch| overlay::judges(switch));
        let had = programmed(old.as_ref());
        if !programmed(new) {
            let gone = self.switches.remove(name);
            for (rule, _) in gone.iter().flat_map(|switch| switch.rules.keys()) {
                self.off(*rule, name);
            }
        } else if had && old.as_ref().map(|old| old.driver.remembers()) != new.map(|new| new.driver.remembers()) {
            let units = self.switches.get(name).into_iter().flat_map(|switch| switch.units().cloned());
            dirty.units(name, units.collect::<Vec<_>>());
        } else if !had {
            self.switches.insert(name.clone(), Default::default());
            dirty.unit(name, Unit::Pipeline);
            // A removal that is taken back: links and ways are what they were, and its entries are gone.
            dirty.unit(name, Unit::Cables);
            for edge in self.fabric.edges.keys() {
                dirty.unit(name, Unit::Way(edge.clone()));
            }
            for identity in self.locals.get(name).into_iter().flatten() {
                self.local_changed(name, *identity, dirty);
            }
        }
    }

    /// A switch came, went, or is reached by tunnels otherwise than before.
    pub(super) fn reached_otherwise(&self, switch: &Name, dirty: &mut Dirty) {
        dirty.unit(switch, Unit::Overlay);
        let plugged = self.plugged.get(switch);
        for network in self.present_on(switch).collect::<BTreeSet<_>>() {
            // What is for nobody inside may leave another way, from anywhere.
            let all = self.uplinked.get(switch).is_some_and(|networks| networks.contains(network));
            for place in self.fabric.present(network) {
                dirty.unit(place, Unit::Network(network.clone()));
                dirty.unit(place, Unit::Spread(network.clone()));
            }
            let places: Vec<&Name> = self.seeing_far(network).chain([switch]).collect();
            for workload in self.members.get(network).into_iter().flatten() {
                let near = all || plugged.is_some_and(|plugged| plugged.contains(workload));
                let places = if near { &places[..] } else { std::slice::from_ref(&switch) };
                for place in places {
                    dirty.unit(place, Unit::Workload(workload.clone()));
                }
            }
        }
    }

    /// The networks that are present on a switch, some of them several times.
    pub(crate) fn present_on(&self, switch: &Name) -> impl Iterator<Item = &Name> {
        let plugged = self.plugged.get(switch).into_iter().flatten();
        let networks = plugged.filter_map(|name| self.workloads.get(name)).map(|(workload, _)| &workload.network);
        networks.chain(self.uplinked.get(switch).into_iter().flatten())
    }

    pub(super) fn set_network(
        &mut self,
        name: &Name,
        new: Option<&Arc<Network>>,
        dirty: &mut Dirty,
    ) -> Result<(), TooLarge> {
        // Numbers may be used up: nothing is touched before they are there.
        let number = new.map(|_| self.numbers.of(Numbered::Network, name.as_str())).transpose()?;
        let old = match new.cloned().zip(number) {
            Some((network, number)) => {
                self.network_names.insert(number, name.clone());
                self.networks.insert(name.clone(), (network, number))
            }
            None => self.networks.remove(name),
        };
        if let (Some((_, number)), None) = (&old, new) {
            self.network_names.remove(number);
        }
        let old = old.as_ref().map(|(network, _)| network);
        let learned = !self.fabric.learning.is_empty();
        if new.is_some_and(|network| network.learn_workloads) {
            self.fabric.learning.insert(name.clone());
        } else {
            self.fabric.learning.remove(name);
        }
        if self.fabric.learning.is_empty() == learned {
            for switch in self.fabric.switches.keys() {
                dirty.unit(switch, Unit::Overlay);
            }
        }
        let places = |this: &Self| this.fabric.present(name).cloned().collect::<BTreeSet<Name>>();
        let mut concerned = places(self);
        let ends = |network: Option<&Arc<Network>>| -> BTreeSet<Attachment> {
            network.into_iter().flat_map(|network| &network.uplinks).map(|uplink| uplink.at.clone()).collect()
        };
        let (before, after) = (ends(old), ends(new));
        // What of a network decides which tunnels it needs.
        let encap = |network: Option<&Arc<Network>>| network.map(|network| network.encap);
        let same = new.filter(|_| encap(old) == encap(new)).map(AsRef::as_ref);
        if let (Some(old), None) = (old, same) {
            self.fabric.all_pairs(old, Fabric::part);
        }
        let mut crowded = Vec::new();
        for at in before.difference(&after) {
            crowded.extend(self.fabric.free(at));
            if self.fabric.exit(name, same, &at.switch) {
                self.host_guests(name, &at.switch, -1, dirty);
            }
            self.fabric.carrier.port_turned(at);
            self.fabric.carrier.unsure.insert(at.switch.clone());
            if after.iter().all(|other| other.switch != at.switch) {
                leave(&mut self.uplinked, &at.switch, name);
            }
        }
        for at in after.difference(&before) {
            crowded.extend(self.fabric.take(at));
            if self.fabric.enter(name, same, &at.switch) {
                self.host_guests(name, &at.switch, 1, dirty);
            }
            self.fabric.carrier.port_turned(at);
            self.fabric.carrier.unsure.insert(at.switch.clone());
            self.uplinked.entry(at.switch.clone()).or_default().insert(name.clone());
        }
        if let (Some(new), None) = (new, same) {
            self.fabric.all_pairs(new, Fabric::join);
        }
        concerned.extend(places(self));
        for place in &concerned {
            dirty.unit(place, Unit::Network(name.clone()));
            dirty.unit(place, Unit::Spread(name.clone()));
        }
        let far = |place: &&Name| self.fabric.reaches(place) || before.union(&after).any(|at| at.switch == **place);
        let far: Vec<&Name> = concerned.iter().filter(far).collect();
        // A network's own number is in every entry of its workloads, and so is how packets leave a switch. Whatever else
        // of a network comes to stand in its workloads' entries has to be compared here too.
        let carried = |network: Option<&Arc<Network>>| {
            let learned = |n: &Network| n.learn_workloads.then(|| n.subnets.clone());
            network.map(|n| (n.vni, n.encap, n.uplinks.clone(), n.multicast.is_empty(), learned(n)))
        };
        let carried = carried(old) != carried(new);
        let default = old.map(|n| n.default_action) != new.map(|n| n.default_action);
        if carried || default {
            for workload in self.members.get(name).into_iter().flatten() {
                let Some((found, identity)) = self.workloads.get(workload) else { continue };
                for place in far.iter().copied().chain(attached(found)).filter(|_| carried) {
                    dirty.unit(place, Unit::Workload(workload.clone()));
                }
                let judged = self.index.identities.get(identity).into_iter().flat_map(|identity| identity.on.keys());
                for place in judged.filter(|_| default) {
                    self.default_changed(place, *identity, dirty);
                }
            }
        }
        self.plug_again(crowded, dirty)
    }

    pub(super) fn set_host(&mut self, name: &Name, new: Option<&Arc<Host>>, dirty: &mut Dirty) -> Result<(), TooLarge> {
        let mtu = |host: Option<&Arc<Host>>| host.and_then(|host| host.underlay_mtu);
        let old = self.fabric.hosts.get(name);
        if mtu(old) != mtu(new) {
            dirty.unit(name, Unit::Overlay);
        }
        let first = old.is_none() && new.is_some();
        let mut concerned = self.fabric.see(name, new);
        if first {
            for at in self.named_ports(name) {
                concerned.extend(self.fabric.take(&at));
            }
        }
        self.plug_again(concerned, dirty)
    }

    /// The ports of a switch that workloads' documents and uplinks name.
    fn named_ports(&self, switch: &Name) -> Vec<Attachment> {
        let plugged = self.plugged.get(switch).into_iter().flatten().filter_map(|name| self.written(name));
        let plugged = plugged.flat_map(|workload| written_ports(workload)).cloned();
        let networks = self.uplinked.get(switch).into_iter().flatten().filter_map(|name| self.networks.get(name));
        let uplinks = networks.flat_map(|(network, _)| {
            let ports: BTreeSet<Attachment> = network.uplinks.iter().map(|uplink| uplink.at.clone()).collect();
            ports
        });
        plugged.chain(uplinks).filter(|at| at.switch == *switch).collect()
    }

    /// A workload as its document says.
    pub(super) fn written(&self, name: &Name) -> Option<&Arc<Workload>> {
        self.written.get(name).or_else(|| self.workloads.get(name).map(|(workload, _)| workload))
    }

    pub(super) fn set_workload(
        &mut self,
        name: &Name,
        new: Option<&Arc<Workload>>,
        dirty: &mut Dirty,
    ) -> Result<(), TooLarge> {
        let ports = |workload: Option<&Arc<Workload>>| -> BTreeSet<Attachment> {
            workload.into_iter().flat_map(|workload| written_ports(workload)).cloned().collect()
        };
        let (before, after) = (ports(self.written(name)), ports(new));
        let mut crowded = self.name_ports(&before, &after);
        if let Err(refused) = self.plug_as_written(name, new, dirty) {
            self.name_ports(&after, &before);
            return Err(refused);
        }
        crowded.retain(|other| other != name);
        self.plug_again(crowded, dirty)
    }

    /// A document names other ports than before; who was seen at one of them.
    fn name_ports(&mut self, before: &BTreeSet<Attachment>, after: &BTreeSet<Attachment>) -> Vec<Name> {
        let freed: Vec<Name> = before.difference(after).filter_map(|at| self.fabric.free(at)).collect();
        let taken = after.difference(before).filter_map(|at| self.fabric.take(at));
        freed.into_iter().chain(taken).collect()
    }

    /// Looks again where workloads are plugged in.
    fn plug_again(&mut self, names: Vec<Name>, dirty: &mut Dirty) -> Result<(), TooLarge> {
        for name in names {
            if let Some(written) = self.written(&name).cloned() {
                self.plug_as_written(&name, Some(&written), dirty)?;
            }
        }
        Ok(())
    }

    fn plug_as_written(
        &mut self,
        name: &Name,
        written: Option<&Arc<Workload>>,
        dirty: &mut Dirty,
    ) -> Result<(), TooLarge> {
        match written.and_then(|written| Some((written, Arc::new(self.fabric.plugged(written)?)))) {
            Some((written, plugged)) => {
                self.plug(name, Some(&plugged), dirty)?;
                self.written.insert(name.clone(), written.clone());
            }
            None => {
                self.plug(name, written, dirty)?;
                self.written.remove(name);
            }
        }
        Ok(())
    }

    /// A workload is plugged in as this says.
    pub(super) fn plug(&mut self, name: &Name, new: Option<&Arc<Workload>>, dirty: &mut Dirty) -> Result<(), TooLarge> {
        let identity = new.map(|workload| self.identity(name, workload, dirty)).transpose()?;
        let new = new.zip(identity).map(|(workload, identity)| (workload.clone(), identity));
        if new.as_ref() == self.workloads.get(name) {
            return Ok(());
        }
        if let Some((workload, identity)) = &new {
            for switch in attached(workload) {
                self.count(switch, *identity, 1, dirty);
                if self.fabric.has_guests(switch) {
                    self.guest(&workload.network, *identity, 1, dirty);
                }
            }
        }
        let old = match new.clone() {
            Some(new) => self.workloads.insert(name.clone(), new),
            None => self.workloads.remove(name),
        };
        // A network may be present on more switches now, or on fewer: there, everything about it comes or goes.
        let mut moved: BTreeSet<(&Name, &Name)> = BTreeSet::new();
        let of = |workload: &Option<(Arc<Workload>, u32)>| workload.as_ref().map(|(workload, _)| workload.clone());
        let (before, after) = (of(&old), of(&new));
        self.everywhere(name, before.as_deref(), dirty);
        let hosts = self.hosts(before.iter().chain(&after));
        for (workload, by) in after.iter().map(|w| (w, true)).chain(before.iter().map(|w| (w, false))) {
            for switch in attached(workload) {
                let network = &workload.network;
                let known = self.networks.get(network).map(|(network, _)| network.as_ref());
                let fabric = &mut self.fabric;
                if if by { fabric.enter(network, known, switch) } else { fabric.exit(network, known, switch) } {
                    moved.insert((network, switch));
                }
            }
        }
        for (network, switch) in &moved {
            let by = if self.fabric.count(network, switch) == 0 { -1 } else { 1 };
            self.host_guests(network, switch, by, dirty);
        }
        if let Some((workload, identity)) = &old {
            for switch in attached(workload) {
                self.count(switch, *identity, -1, dirty);
                if self.fabric.has_guests(switch) {
                    self.guest(&workload.network, *identity, -1, dirty);
                }
            }
            if new.as_ref().is_none_or(|(_, now)| now != identity) {
                self.leave(name, *identity, dirty);
            }
            leave(&mut self.members, &workload.network, name);
            for switch in attached(workload) {
                leave(&mut self.plugged, switch, name);
            }
        }
        if let Some((workload, _)) = &new {
            self.members.entry(workload.network.clone()).or_default().insert(name.clone());
            for switch in attached(workload) {
                self.plugged.entry(switch.clone()).or_default().insert(name.clone());
            }
        }
        self.everywhere(name, after.as_deref(), dirty);
        self.spread_changed(&hosts, dirty);
        for at in before.iter().chain(&after).flat_map(|workload| written_ports(workload)) {
            self.fabric.carrier.port_turned(at);
        }
        for (network, switch) in moved {
            self.fabric.carrier.unsure.insert(switch.clone());
            dirty.unit(switch, Unit::Network(network.clone()));
            if !self.sees_far(network, switch) {
                continue;
            }
            for member in self.members.get(network).into_iter().flatten() {
                dirty.unit(switch, Unit::Workload(member.clone()));
            }
        }
        Ok(())
    }

    /// The tunnels between declared switches, by the switches that they lead from and to: between any two on which a
    /// network is present. Those of pairs between which they may be others than when this was last asked; a pair that has
    /// none any more is among them.
    pub fn take_tunnels(&mut self) -> BTreeMap<(Name, Name), BTreeSet<Tunnel>> {
        let turned = std::mem::take(&mut self.turned).into_iter();
        turned
            .map(|(from, to)| {
                let tunnels = self.fabric.between(&from, &to).copied().collect();
                ((from, to), tunnels)
            })
            .collect()
    }

    /// Between some switches there are other tunnels: each end believes other probes.
    pub(super) fn tunnels_turned(&mut self, dirty: &mut Dirty) {
        for (from, to) in self.fabric.take_turned() {
            dirty.unit(&from, Unit::Peer(to.clone()));
            self.turned.insert((from, to));
        }
    }

    /// A workload is dirty where it is plugged in, and wherever its network is present and sees it from afar.
    fn everywhere(&self, name: &Name, workload: Option<&Workload>, dirty: &mut Dirty) {
        let Some(workload) = workload else { return };
        for place in self.seeing_far(&workload.network).chain(attached(workload)) {
            dirty.unit(place, Unit::Workload(name.clone()));
        }
    }

    /// The switches that these are plugged into, by the networks that ask for groups, and whether one of the network's
    /// interfaces is there.
    fn hosts<'a>(&self, workloads: impl Iterator<Item = &'a Arc<Workload>>) -> BTreeMap<(Name, Name), bool> {
        let mut hosts = BTreeMap::new();
        for workload in workloads {
            let Some((network, _)) = self.networks.get(&workload.network) else { continue };
            for switch in attached(workload).filter(|_| !network.multicast.is_empty()) {
                let any = self.fabric.interfaces(network, switch) > 0;
                hosts.insert((network.name.clone(), switch.clone()), any);
            }
        }
        hosts
    }

    /// Interfaces came to these switches, or went, or are others: who spreads what is for groups there does it otherwise,
    /// and everybody where a network now has its first there, or had its last.
    fn spread_changed(&self, before: &BTreeMap<(Name, Name), bool>, dirty: &mut Dirty) {
        for ((network, switch), any) in before {
            dirty.unit(switch, Unit::Spread(network.clone()));
            let now = self.networks.get(network).is_some_and(|(known, _)| self.fabric.interfaces(known, switch) > 0);
            for place in self.fabric.present(network).filter(|_| now != *any) {
                dirty.unit(place, Unit::Spread(network.clone()));
            }
        }
    }

    /// Whether a switch may have entries about a network's workloads that are elsewhere: by a tunnel or beside an uplink.
    fn sees_far(&self, network: &Name, switch: &Name) -> bool {
        self.fabric.reaches(switch) || self.uplinked.get(switch).is_some_and(|networks| networks.contains(network))
    }

    /// The switches that a network is present on and that may have such entries.
    fn seeing_far(&self, network: &Name) -> impl Iterator<Item = &Name> {
        // Most often in a fabric without tunnels and links there is none, and this is asked of every workload.
        let any = self.fabric.any_reaches() || self.networks.get(network).is_none_or(|(n, _)| !n.uplinks.is_empty());
        let present = any.then(|| self.fabric.present(network)).into_iter().flatten();
        present.filter(move |switch| self.sees_far(network, switch))
    }
}

/// The ports that a workload's document names.
fn written_ports(workload: &Workload) -> impl Iterator<Item = &Attachment> {
    workload.interfaces.iter().filter_map(|interface| interface.attachment.as_ref())
}

/// The switches that a workload's interfaces are plugged into, one item an interface.
pub(super) fn attached(workload: &Workload) -> impl Iterator<Item = &Name> {
    workload.interfaces.iter().filter_map(|interface| interface.attachment.as_ref()).map(|at| &at.switch)
}

/// Takes a name out of a set of names, and an empty set out of the map.
pub(super) fn leave(sets: &mut BTreeMap<Name, BTreeSet<Name>>, of: &Name, name: &Name) {
    if let Some(names) = sets.get_mut(of) {
        names.remove(name);
        if names.is_empty() {
            sets.remove(of);
        }
    }
}
