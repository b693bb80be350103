//! Links, as operators see them.

use super::{Links, is_taken};
use bulkhead_dataplane::PortState;
use bulkhead_policy::{
    State,
    model::{Attachment, FabricPort, Link, Passage},
};
use bulkhead_topology::{Name, Port};
use std::collections::BTreeSet;

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkState {
    /// Packets pass.
    Up,
    /// They do not.
    Down,
    /// Not known: a switch is not connected, or was not yet. Packets are sent over what is declared.
    Unknown,
    /// What is declared and what is found do not go together, or it is no cable between two switches; not used.
    Conflict,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkView {
    /// One end: of a declared link as it is declared.
    pub a: Attachment,
    /// The other end.
    pub b: Attachment,
    /// The resource that declares it.
    pub declared: Option<Name>,
    /// Whether both ends hear each other, or did when they were heard last.
    pub discovered: bool,
    /// How it is.
    pub state: LinkState,
    /// Why, for people; empty if there is nothing to tell.
    pub why: String,
}

/// LLDP of somebody else that comes to a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Where.
    pub at: Attachment,
    /// How many frames since the controller began.
    pub frames: u64,
    /// Whom the last one says to be from; empty if it could not be read.
    pub sender: String,
}

/// What is known of the links between switches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopologyView {
    /// Every link that is declared, by name, and then those that were found, by their ends.
    pub links: Vec<LinkView>,
    /// LLDP of others, by port.
    pub foreign: Vec<Foreign>,
}

impl Links {
    /// Every link, as operators see it.
    pub(crate) fn view(&self, state: &State) -> TopologyView {
        let mut links: Vec<LinkView> = state.links.values().map(|link| self.declared(state, link)).collect();
        let known: BTreeSet<[Attachment; 2]> =
            state.links.values().map(|link| ends(called(state, &link.a), called(state, &link.b))).collect();
        let mut seen = BTreeSet::new();
        for found in state.adjacencies.values() {
            for port in &found.ports {
                let Some(far) = &port.heard else { continue };
                let near = Attachment { switch: found.name.clone(), port: Port::Name(port.name.clone()) };
                let ends = ends(near.clone(), far.clone());
                if !known.contains(&ends) && seen.insert(ends.clone()) {
                    let [a, b] = ends;
                    links.push(self.found(state, a, b));
                }
            }
        }
        let foreign = self.nodes.keys().flat_map(|name| {
            let ports = self.discovery.ports(name).into_iter().filter(|(_, view)| view.foreign > 0);
            ports.map(|(port, view)| Foreign {
                at: Attachment { switch: name.clone(), port },
                frames: view.foreign,
                sender: view.stranger,
            })
        });
        TopologyView { links, foreign: foreign.collect() }
    }

    fn declared(&self, state: &State, link: &Link) -> LinkView {
        let both = [(&link.a, &link.b), (&link.b, &link.a)];
        let conflict = both.iter().find_map(|(near, far)| self.conflict(state, near, far));
        let hears = |near: &Attachment, far: &Attachment| {
            let heard = port(state, near).and_then(|port| port.heard.clone());
            heard.is_some_and(|heard| called(state, &heard) == called(state, far))
        };
        let down = both.iter().find_map(|(near, _)| self.down(state, near));
        let unknown = both.iter().find_map(|(near, _)| self.unknown(state, near));
        let (link_state, why) = match (conflict, down, unknown) {
            (Some(why), ..) => (LinkState::Conflict, why),
            (_, Some(why), _) => (LinkState::Down, why),
            (.., Some(why)) => (LinkState::Unknown, why),
            _ => (LinkState::Up, String::new()),
        };
        LinkView {
            a: link.a.clone(),
            b: link.b.clone(),
            declared: Some(link.name.clone()),
            discovered: both.iter().all(|(near, far)| hears(near, far)),
            state: link_state,
            why,
        }
    }

    fn found(&self, state: &State, a: Attachment, b: Attachment) -> LinkView {
        let both = [(&a, &b), (&b, &a)];
        let deaf = both.iter().find(|(near, far)| port(state, near).and_then(|p| p.heard.as_ref()) != Some(*far));
        let conflict = both.iter().find_map(|(near, far)| self.conflict(state, near, far));
        let down = both.iter().find_map(|(near, _)| self.down(state, near));
        let unknown = both.iter().find_map(|(near, _)| self.unknown(state, near));
        let (link_state, why) = match (conflict, deaf, down, unknown) {
            (Some(why), ..) => (LinkState::Conflict, why),
            (_, Some((near, far)), ..) => (LinkState::Down, format!("{} does not hear {}", text(near), text(far))),
            (.., Some(why), _) => (LinkState::Down, why),
            (.., Some(why)) => (LinkState::Unknown, why),
            _ => (LinkState::Up, String::new()),
        };
        let discovered = deaf.is_none();
        LinkView { a, b, declared: None, discovered, state: link_state, why }
    }

    /// Why a link cannot be what it is said to be.
    fn conflict(&self, state: &State, near: &Attachment, far: &Attachment) -> Option<String> {
        if near.switch == far.switch {
            return Some(format!("a loop: a cable from {} to itself", near.switch));
        }
        let Some(switch) = state.switches.get(&near.switch) else {
            return Some(format!("there is no switch {}", near.switch));
        };
        if switch.vtep.is_some() {
            return Some(format!("{} has a VTEP address: it has tunnels, and no links", near.switch));
        }
        let own = self.told(near).cloned().unwrap_or_else(|| match &near.port {
            Port::Name(name) => PortState { number: None, name: Some(name.clone()), up: true },
            Port::Number(number) => PortState { number: Some(*number), name: None, up: true },
        });
        if is_taken(state, &near.switch, &own) {
            return Some(format!("somebody is plugged in at {}, or it is an uplink", text(near)));
        }
        let found = port(state, near)?;
        let name = Port::Name(found.name.clone());
        let hears = self.discovery.neighbours(&near.switch).into_iter().filter(|(port, _)| *port == name).count();
        if hears > 1 {
            return Some(format!("{} hears several ports: what is between them is no cable", text(near)));
        }
        let heard = found.heard.as_ref()?;
        if heard.switch == near.switch {
            return Some(format!("a loop: {} hears {}", text(near), text(heard)));
        }
        (called(state, heard) != called(state, far)).then(|| format!("{} hears {}", text(near), text(heard)))
    }

    fn down(&self, state: &State, near: &Attachment) -> Option<String> {
        let found = port(state, near).filter(|found| found.passes != Passage::Both)?;
        Some(match self.told(near) {
            Some(told) if !told.up => format!("port {} is down", text(near)),
            None if self.nodes.get(&near.switch).is_some_and(|node| node.ports.is_some()) => {
                format!("there is no port {}", text(near))
            }
            _ if found.heard.as_ref().is_some_and(|far| self.nodes.get(&far.switch).is_some_and(|n| !n.settled)) => {
                let far = found.heard.as_ref().map(|far| far.switch.to_string()).unwrap_or_default();
                format!("{far} is not connected, and there are other ways")
            }
            _ if found.passes == Passage::In => format!("{} is about to be used", text(near)),
            _ => format!("{} hears nothing", text(near)),
        })
    }

    fn unknown(&self, state: &State, near: &Attachment) -> Option<String> {
        match self.nodes.get(&near.switch) {
            Some(node) if node.settled => None,
            // Nothing is known of switches that do not probe but what their documents say.
            None if state.switches.contains_key(&near.switch) => None,
            _ => Some(format!("{} is not connected", near.switch)),
        }
    }

    /// What a switch tells of a port.
    fn told(&self, at: &Attachment) -> Option<&PortState> {
        self.nodes.get(&at.switch)?.ports.as_ref()?.iter().find(|port| port.is(&at.port))
    }
}

/// What was found of a port, however it is called.
fn port<'a>(state: &'a State, at: &Attachment) -> Option<&'a FabricPort> {
    state.adjacencies.get(&at.switch)?.ports.iter().find(|port| match &at.port {
        Port::Name(name) => port.name == *name,
        Port::Number(number) => *number != 0 && port.number == *number,
    })
}

/// A port by its name, if that is known.
fn called(state: &State, at: &Attachment) -> Attachment {
    let name = port(state, at).map(|port| Port::Name(port.name.clone()));
    Attachment { switch: at.switch.clone(), port: name.unwrap_or_else(|| at.port.clone()) }
}

fn ends(a: Attachment, b: Attachment) -> [Attachment; 2] {
    if a <= b { [a, b] } else { [b, a] }
}

fn text(at: &Attachment) -> String {
    format!("{}:{}", at.switch, at.port)
}
