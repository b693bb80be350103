//! Changes of the physical fabric: links, what is heard of them, and which switches are edges.

use super::{Compiler, places::attached};
use crate::{
    TooLarge,
    carrier::{Heading, level},
    dirty::Dirty,
    numbers::Numbered,
    switch::Unit,
};
use bulkhead_policy::overlay::carries;
use bulkhead_topology::{
    Name, Port,
    graph::{Cable, End},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    rc::Rc,
};

impl Compiler {
    /// Brings links, edges and ways to what switches, links, workloads and uplinks are now.
    /// Of a change that is taken back, `back` is what was followed before it.
    pub(super) fn carry(&mut self, dirty: &mut Dirty, back: Option<Heading>) -> Result<(), TooLarge> {
        let stale = mem::take(&mut self.fabric.carrier.stale);
        let unsure = mem::take(&mut self.fabric.carrier.unsure);
        if stale.is_empty() && unsure.is_empty() {
            return Ok(());
        }
        let mut concerned = unsure;
        let graph = &mut self.fabric.carrier.graph;
        let mut gone = Vec::new();
        for name in &stale {
            match self.fabric.switches.get(name).filter(|switch| carries(switch)) {
                Some(switch) => graph.set_switch(name, level(switch.role)),
                None => {
                    concerned.extend(graph.links_of(name).map(|(_, far)| far.switch));
                    gone.push(name);
                }
            }
            concerned.insert(name.clone());
        }
        graph.remove_switches(gone.into_iter());
        let mut taken: BTreeMap<Name, Rc<BTreeSet<Port>>> = BTreeMap::new();
        let mut cables = Vec::new();
        for name in stale.iter().filter(|name| self.fabric.carrier.graph.contains(name)) {
            let now = self.fabric.carrier.cables(
                name,
                |switch| taken.entry(switch.clone()).or_insert_with(|| self.taken(switch).into()).clone(),
                |switch| self.fabric.is_probed(switch),
            );
            cables.push((name, now));
        }
        // All that is gone goes first: whoever loses a cable whose far end has another one now hears of it here.
        let graph = &mut self.fabric.carrier.graph;
        for (name, now) in &cables {
            let end = |port: &Port| End { switch: (*name).clone(), port: port.clone() };
            let before: Vec<Cable> = graph.links_of(name).map(|(port, far)| Cable::new(end(port), far)).collect();
            for gone in before.into_iter().filter(|cable| !now.contains_key(cable)) {
                graph.remove_link(&gone);
                concerned.extend(gone.ends().map(|end| end.switch.clone()));
            }
        }
        for (_, now) in cables {
            for (cable, up) in now {
                graph.set_link(&cable, up);
                concerned.extend(cable.ends().map(|end| end.switch.clone()));
            }
        }
        let mut begun = Vec::new();
        for name in concerned {
            dirty.unit(&name, Unit::Cables);
            if self.turns_edge(&name)? {
                self.reached_otherwise(&name, dirty);
                begun.push(name);
            }
        }
        let turned = self.fabric.carrier.graph.take_turned();
        self.ways_out_turned(&turned.parted, dirty);
        for (at, to) in turned.ways {
            dirty.unit(&at, Unit::Way(to));
        }
        self.ways_turned(turned.edges.iter(), dirty);
        // A switch that went from the graph had ways to them, too.
        for at in stale.iter().filter(|name| !self.fabric.carrier.graph.contains(name)) {
            dirty.units(at, turned.edges.iter().cloned().map(Unit::Way));
        }
        for at in &begun {
            dirty.units(at, self.fabric.edges.keys().cloned().map(Unit::Way));
        }
        let reordered = match back {
            Some(heading) => self.fabric.carrier.head_again(heading) || turned.reordered,
            None if turned.reordered => {
                let next = self.numbers.last(Numbered::Order).saturating_add(1);
                self.fabric.carrier.epoch = self.numbers.of(Numbered::Order, &next.to_string())?;
                true
            }
            None => false,
        };
        if reordered {
            self.reordered(dirty);
        }
        Ok(())
    }

    /// These switches hang together with others than before: outsiders may be reached by another of several uplinks.
    fn ways_out_turned(&self, parted: &[Name], dirty: &mut Dirty) {
        let networks: BTreeSet<&Name> = parted.iter().flat_map(|name| self.present_on(name)).collect();
        for (name, network) in networks.into_iter().filter_map(|name| Some((name, &self.networks.get(name)?.0))) {
            let uplinks: BTreeSet<&Name> = network.uplinks.iter().map(|uplink| &uplink.at.switch).collect();
            if uplinks.len() < 2 {
                continue;
            }
            for place in self.fabric.present(name) {
                dirty.unit(place, Unit::Network(name.clone()));
            }
            for workload in self.members.get(name).into_iter().flatten() {
                let at = self.workloads.get(workload).into_iter().flat_map(|(workload, _)| attached(workload));
                for place in at.chain(uplinks.iter().copied()) {
                    dirty.unit(place, Unit::Workload(workload.clone()));
                }
            }
        }
    }

    /// Ways follow another order: every switch says so of what it sends, and goes by it.
    fn reordered(&self, dirty: &mut Dirty) {
        self.ways_turned(self.fabric.edges.keys(), dirty);
        for edge in self.fabric.edges.keys() {
            for network in self.present_on(edge) {
                dirty.unit(edge, Unit::Network(network.clone()));
            }
        }
    }

    /// There are other ways to these edges, from everywhere.
    fn ways_turned<'a>(&self, edges: impl Iterator<Item = &'a Name> + Clone, dirty: &mut Dirty) {
        if edges.clone().next().is_none() {
            return;
        }
        for at in self.fabric.switches.keys().filter(|name| self.fabric.carrier.graph.contains(name)) {
            dirty.units(at, edges.clone().cloned().map(Unit::Way));
        }
    }

    /// Whether a switch becomes an edge by what is there now, or ends being one. (An edge that is no more has a number
    /// all the same: it may come back.)
    fn turns_edge(&mut self, name: &Name) -> Result<bool, TooLarge> {
        let graph = &self.fabric.carrier.graph;
        let edge = graph.links_of(name).next().is_some() && self.present_on(name).next().is_some();
        if edge == self.fabric.edges.contains_key(name) {
            // It may be that the graph forgot: a switch that went and came back.
            self.fabric.carrier.graph.set_edge(name, edge);
            return Ok(false);
        }
        if edge {
            let number = self.numbers.of(Numbered::Edge, name.as_str())?;
            self.fabric.edges.insert(name.clone(), number);
        } else {
            self.fabric.edges.remove(name);
        }
        self.fabric.carrier.graph.set_edge(name, edge);
        Ok(true)
    }

    /// The ports of a switch that workloads and uplinks have.
    fn taken(&self, switch: &Name) -> BTreeSet<Port> {
        let plugged = self.plugged.get(switch).into_iter().flatten().filter_map(|name| self.workloads.get(name));
        let interfaces = plugged.flat_map(|(workload, _)| &workload.interfaces);
        let interfaces = interfaces.filter_map(|interface| interface.attachment.as_ref());
        let networks = self.uplinked.get(switch).into_iter().flatten().filter_map(|name| self.networks.get(name));
        let uplinks = networks.flat_map(|(network, _)| &network.uplinks).map(|uplink| &uplink.at);
        interfaces.chain(uplinks).filter(|at| at.switch == *switch).map(|at| at.port.clone()).collect()
    }
}
