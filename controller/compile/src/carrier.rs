//! The switches that carry packets for each other without tunnels: which links between them are used, and the ways that
//! follow (ADR 13).

use bulkhead_policy::model::{Adjacency, Attachment, FabricPort, Link, Passage, Role};
use bulkhead_topology::{
    Name, Port,
    graph::{Cable, End, Followed, Graph},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

/// Links, and what is heard of them.
#[derive(Debug, Default)]
pub(crate) struct Carrier {
    pub graph: Graph,
    /// The order of the graph's ways, by number; packets say by which they go.
    pub epoch: u32,
    pub adjacencies: BTreeMap<Name, Arc<Adjacency>>,
    pub links: BTreeMap<Name, Arc<Link>>,
    /// The far ends of declared links, by switch, port and link.
    ends: BTreeMap<Name, BTreeMap<Port, BTreeMap<Name, Attachment>>>,
    /// The places of ports in the adjacencies, by switch and number.
    numbers: BTreeMap<Name, BTreeMap<u32, usize>>,
    /// Switches whose links have to be looked at again.
    pub stale: BTreeSet<Name>,
    /// Switches that may have become edges, or are none any more.
    pub unsure: BTreeSet<Name>,
}

/// The order that ways followed at one moment, and its number: what [`crate::Compiler::withdraw_to`] goes back to.
#[derive(Debug, Clone, Default)]
pub struct Heading(Followed, u32);

/// How high a role stands: ways go up towards higher ones first.
pub(crate) fn level(role: Role) -> u8 {
    match role {
        Role::Hypervisor => 0,
        Role::Leaf => 1,
        Role::Spine => 2,
    }
}

impl Carrier {
    /// A declared link came, is another, or went.
    pub fn set_link(&mut self, name: &Name, new: Option<&Arc<Link>>) {
        let old = match new {
            Some(new) => self.links.insert(name.clone(), new.clone()),
            None => self.links.remove(name),
        };
        for (link, stays) in old.iter().map(|link| (link, false)).chain(new.map(|link| (link, true))) {
            for (near, far) in [(&link.a, &link.b), (&link.b, &link.a)] {
                let ports = self.ends.entry(near.switch.clone()).or_default();
                let ends = ports.entry(near.port.clone()).or_default();
                if stays {
                    ends.insert(name.clone(), far.clone());
                } else {
                    ends.remove(name);
                }
                if ends.is_empty() {
                    ports.remove(&near.port);
                }
                if ports.is_empty() {
                    self.ends.remove(&near.switch);
                }
                self.stale.insert(near.switch.clone());
            }
        }
    }

    /// Other things are heard of a switch's links.
    pub fn set_adjacency(&mut self, name: &Name, new: Option<&Arc<Adjacency>>) {
        match new {
            Some(new) => {
                // Of several without one, the first.
                let numbers = new.ports.iter().enumerate().rev().map(|(place, port)| (port.number, place));
                self.numbers.insert(name.clone(), numbers.collect());
                self.adjacencies.insert(name.clone(), new.clone());
            }
            None => {
                self.numbers.remove(name);
                self.adjacencies.remove(name);
            }
        }
        self.stale.insert(name.clone());
        // Its far ends may know a port by another name now.
        let far =
            self.ends.get(name).into_iter().flatten().flat_map(|(_, ends)| ends.values()).map(|far| far.switch.clone());
        self.stale.extend(far.collect::<Vec<_>>());
    }

    /// A workload or an uplink came to a port, or left it.
    pub fn port_turned(&mut self, at: &Attachment) {
        let named = self.ends.get(&at.switch).is_some_and(|ports| ports.contains_key(&at.port));
        if named || self.known(&at.switch, &at.port).is_some() {
            self.stale.insert(at.switch.clone());
        }
    }

    /// What is known of a port that leads to another switch, whatever it is called.
    fn known(&self, switch: &Name, port: &Port) -> Option<&FabricPort> {
        let ports = &self.adjacencies.get(switch)?.ports;
        match port {
            Port::Name(name) => ports.get(ports.binary_search_by(|known| known.name.cmp(name)).ok()?),
            Port::Number(number) => ports.get(*self.numbers.get(switch)?.get(number)?),
        }
    }

    /// An end by the port's name, if that is known.
    fn end(&self, at: &Attachment) -> End {
        let port = self.known(&at.switch, &at.port).map_or_else(|| at.port.clone(), |k| Port::Name(k.name.clone()));
        End { switch: at.switch.clone(), port }
    }

    /// What a port leads to, as far as its own switch is concerned: what is heard there and declared there, unless these
    /// differ. `taken` are ports of workloads and uplinks.
    fn leads(&self, near: &End, taken: &BTreeSet<Port>) -> Option<End> {
        let known = self.known(&near.switch, &near.port);
        let called = [Some(near.port.clone()), known.map(|known| Port::Number(known.number))];
        if called.iter().flatten().any(|port| taken.contains(port)) {
            return None;
        }
        let heard = known.and_then(|known| known.heard.as_ref()).map(|far| self.end(far));
        let ends = self.ends.get(&near.switch);
        let declared = called.iter().flatten().filter_map(|port| ends?.get(port)).flat_map(BTreeMap::values);
        let declared = declared.map(|far| self.end(far));
        let mut all: Vec<End> = heard.into_iter().chain(declared).collect();
        all.dedup();
        let far = all.pop()?;
        (all.is_empty() && far.switch != near.switch).then_some(far)
    }

    /// What passes by one end of a link. Where both are `probed`, a link that nobody heard is nothing but a claim: whoever
    /// is at its port would be taken for the far end.
    pub fn passes(&self, end: &End, probed: bool) -> Passage {
        match self.known(&end.switch, &end.port) {
            Some(known) if known.heard.is_some() || !probed => known.passes,
            None if !probed => Passage::Both,
            _ => Passage::Nothing,
        }
    }

    /// The links of a switch that both ends agree on, and whether packets are sent by them. `probed` are the switches
    /// that hear their links.
    pub fn cables(
        &self,
        switch: &Name,
        mut taken: impl FnMut(&Name) -> Rc<BTreeSet<Port>>,
        probed: impl Fn(&Name) -> bool,
    ) -> BTreeMap<Cable, bool> {
        let heard = self.adjacencies.get(switch).into_iter().flat_map(|adjacency| &adjacency.ports);
        let mut ports: BTreeSet<Port> = heard.map(|port| Port::Name(port.name.clone())).collect();
        let ends = self.ends.get(switch).into_iter().flat_map(BTreeMap::keys);
        ports.extend(ends.map(|port| {
            let known = self.known(switch, port);
            known.map_or_else(|| port.clone(), |known| Port::Name(known.name.clone()))
        }));
        let mut cables = BTreeMap::new();
        for port in ports {
            let near = End { switch: switch.clone(), port };
            let Some(far) = self.leads(&near, &taken(switch)) else { continue };
            if self.leads(&far, &taken(&far.switch)).as_ref() == Some(&near) {
                let probed = probed(&near.switch) && probed(&far.switch);
                let up = [&near, &far].into_iter().all(|end| self.passes(end, probed) == Passage::Both);
                cables.insert(Cable::new(near, far), up);
            }
        }
        cables
    }

    /// The order that ways follow, to come back to.
    pub fn heading(&self) -> Heading {
        Heading(self.graph.followed(), self.epoch)
    }

    /// Comes back to an order: what was done since is taken back, and nobody has heard of it. Whether that is another
    /// one than is followed now.
    pub fn head_again(&mut self, heading: Heading) -> bool {
        self.graph.follow_again(heading.0);
        std::mem::replace(&mut self.epoch, heading.1) != heading.1
    }
}
