//! The switches that carry packets for each other, the links between them, and the ways from each to each.
//!
//! Ways go up and then down, along an order of the switches, and never up again: whatever mixture of old and new ways
//! stands on the switches, no packet runs in a circle, as long as all of them follow one order. What is computed
//! follows from what the graph holds, and from nothing that it held before; its cost follows what changed.

mod order;
mod routes;
mod ways;

pub use ways::{Hops, Ways};

use crate::{Name, Port};
use order::{Arcs, Order};
use routes::{Changed, Routes};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

/// A switch's number inside a graph. Numbers of switches that went are given again.
type Node = u32;

/// Switches that went and whose names are kept, at most: a change of order costs less than to keep any number.
const MAX_GONE: usize = 1_000;

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// The switch.
    pub switch: Name,
    /// Its port.
    pub port: Port,
}

/// A link between two ports: the ends in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cable(End, End);

impl Cable {
    /// The link between two ports, whichever is named first.
    pub fn new(a: End, b: End) -> Self {
        if a <= b { Self(a, b) } else { Self(b, a) }
    }

    /// Both ends, in order.
    pub fn ends(&self) -> [&End; 2] {
        [&self.0, &self.1]
    }
}

/// What other ways there are since this was last asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turned {
    /// From which switch to which edge there may be others: the switch, then the edge. In no order, some repeated.
    pub ways: Vec<(Name, Name)>,
    /// Switches that hang together with others than before: of two of which it is otherwise, one at least.
    pub parted: Vec<Name>,
    /// Edges to which there may be others from every switch.
    pub edges: BTreeSet<Name>,
    /// Whether the ways follow an order that does not go together with the one that was followed so far: a packet that
    /// is on its way by the old one must not be carried on by the new one.
    pub reordered: bool,
}

/// What is known of a switch.
#[derive(Debug)]
struct Member {
    name: Name,
    /// Higher ones are above, whatever their links.
    level: u8,
    /// Whether ways lead to it.
    edge: bool,
    /// Its links by their ports.
    links: BTreeMap<Port, Far>,
}

/// What a port leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Far {
    node: Node,
    port: Port,
    /// Whether packets pass.
    up: bool,
}

/// The order that ways follow, as far as they have followed it.
#[derive(Debug, Clone, Default)]
pub struct Followed(Arc<Arcs>);

/// Switches, links and ways.
#[derive(Debug, Default)]
pub struct Graph {
    names: BTreeMap<Name, Node>,
    members: Vec<Option<Member>>,
    /// The order that is wanted, and its ways.
    wanted: Routes,
    /// The ways by the order that always connects everything, as long as the other one does not.
    rooted: Option<Routes>,
    /// Of each switch the first that it hangs together with.
    parts: Vec<Node>,
    /// Between which two switches links came, went, or are ordered otherwise.
    touched: BTreeSet<(Node, Node)>,
    /// Whose ports may be others though the ways are the same.
    ports: BTreeSet<(Node, Node)>,
    /// Switches that became edges, or are none any more.
    edges: BTreeSet<Node>,
    /// Whether switches or links came or went.
    grown: bool,
    /// The ways from one switch up to another that were followed since the order last changed for good.
    followed: Followed,
    /// Switches that went since, whose ways are among these by numbers that others may have now.
    gone: BTreeSet<Name>,
    turned: Turned,
}

impl Graph {
    /// A switch came, or is at another level.
    pub fn set_switch(&mut self, name: &Name, level: u8) {
        match self.names.get(name).and_then(|node| self.members.get_mut(*node as usize)?.as_mut()) {
            Some(member) => {
                self.grown |= mem::replace(&mut member.level, level) != level;
            }
            None => {
                let free = self.members.iter().position(Option::is_none).unwrap_or(self.members.len());
                if free == self.members.len() {
                    self.members.push(None);
                }
                let member = Member { name: name.clone(), level, edge: false, links: BTreeMap::new() };
                if let Some(place) = self.members.get_mut(free) {
                    *place = Some(member);
                }
                self.names.insert(name.clone(), free as Node);
                self.grown = true;
                if self.gone.remove(name) {
                    self.forget_followed();
                }
            }
        }
    }

    /// Switches went, and their links with them.
    pub fn remove_switches<'a>(&mut self, names: impl Iterator<Item = &'a Name>) {
        let mut gone = Vec::new();
        for name in names {
            let Some(node) = self.names.get(name).copied() else { continue };
            let ports: Vec<Port> = self.member(node).iter().flat_map(|member| member.links.keys()).cloned().collect();
            for port in ports {
                self.unplug(node, &port);
            }
            self.set_edge(name, false);
            gone.push((name, node));
        }
        if gone.is_empty() {
            return;
        }
        // Nothing leads there any more: whoever gets their numbers next begins anew.
        self.settle();
        for (name, node) in gone {
            self.names.remove(name);
            self.gone.insert(name.clone());
            if let Some(place) = self.members.get_mut(node as usize) {
                *place = None;
            }
        }
        if self.gone.len() > MAX_GONE {
            self.forget_followed();
            self.gone.clear();
        }
        self.grown = true;
    }

    /// Ways may have been followed that nobody knows of any more: the next new one changes the order for good.
    pub fn forget_followed(&mut self) {
        Arc::make_mut(&mut self.followed.0).forgot = true;
    }

    /// Whether there is such a switch.
    pub fn contains(&self, name: &Name) -> bool {
        self.names.contains_key(name)
    }

    /// Ways lead to a switch, or to it no more.
    pub fn set_edge(&mut self, name: &Name, edge: bool) {
        let Some(node) = self.names.get(name).copied() else { return };
        if let Some(Some(member)) = self.members.get_mut(node as usize)
            && mem::replace(&mut member.edge, edge) != edge
        {
            self.edges.insert(node);
        }
    }

    /// A link came, or packets pass by it that did not, or no more. It takes the place of whatever led from its ports
    /// before. A link of a switch that is not there, or of a switch with itself, is none.
    pub fn set_link(&mut self, cable: &Cable, up: bool) {
        let Some([(x, a), (y, b)]) = self.places(cable) else { return };
        let leads = |port: &Port, node, up| Far { node, port: port.clone(), up };
        let stands = |node: Node, port: &Port| self.member(node).and_then(|member| member.links.get(port)).cloned();
        let (near, far) = (leads(b, y, up), leads(a, x, up));
        if stands(x, a) == Some(near.clone()) && stands(y, b) == Some(far.clone()) {
            return;
        }
        let known = stands(x, a).is_some_and(|old| old.node == y && old.port == *b);
        if !known {
            self.unplug(x, a);
            self.unplug(y, b);
            self.grown = true;
        }
        for (node, port, leads) in [(x, a, near), (y, b, far)] {
            if let Some(Some(member)) = self.members.get_mut(node as usize) {
                member.links.insert(port.clone(), leads);
            }
        }
        self.touch(x, y);
    }

    /// A link went.
    pub fn remove_link(&mut self, cable: &Cable) {
        let Some([(x, a), (y, b)]) = self.places(cable) else { return };
        let leads = self.member(x).and_then(|member| member.links.get(a));
        if leads.is_some_and(|far| far.node == y && far.port == *b) {
            self.unplug(x, a);
        }
    }

    fn places<'a>(&self, cable: &'a Cable) -> Option<[(Node, &'a Port); 2]> {
        let [a, b] = cable.ends();
        let (x, y) = (self.names.get(&a.switch)?, self.names.get(&b.switch)?);
        (x != y).then_some([(*x, &a.port), (*y, &b.port)])
    }

    /// Takes away the link that leads from a port.
    fn unplug(&mut self, node: Node, port: &Port) {
        let Some(Some(member)) = self.members.get_mut(node as usize) else { return };
        let Some(far) = member.links.remove(port) else { return };
        if let Some(Some(member)) = self.members.get_mut(far.node as usize) {
            member.links.remove(&far.port);
        }
        self.grown = true;
        self.touch(node, far.node);
    }

    /// Every link, and whether packets pass.
    pub fn links(&self) -> impl Iterator<Item = (Cable, bool)> {
        let present = self.members.iter().flatten();
        let ends = present.flat_map(|member| member.links.iter().map(move |(port, far)| (member, port, far)));
        ends.filter_map(|(member, port, far)| {
            let near = End { switch: member.name.clone(), port: port.clone() };
            let end = End { switch: self.member(far.node)?.name.clone(), port: far.port.clone() };
            (near < end).then_some((Cable(near, end), far.up))
        })
    }

    fn touch(&mut self, x: Node, y: Node) {
        self.touched.insert((x.min(y), x.max(y)));
        self.ports.extend([(x, y), (y, x)]);
    }

    fn member(&self, node: Node) -> Option<&Member> {
        self.members.get(node as usize)?.as_ref()
    }

    /// What other ways there are since this was last asked.
    pub fn take_turned(&mut self) -> Turned {
        self.settle();
        mem::take(&mut self.turned)
    }

    /// Brings the ways to what the switches and links are.
    fn settle(&mut self) {
        if !self.grown && self.touched.is_empty() && self.edges.is_empty() {
            return;
        }
        let touched = mem::take(&mut self.touched);
        let ports = mem::take(&mut self.ports);
        let edges = mem::take(&mut self.edges);
        let order = if mem::take(&mut self.grown) { Some(Order::wanted(&self.members)) } else { None };
        let was_rooted = self.rooted.is_some();
        let mut changed = self.wanted.follow(&self.members, order, &touched, &edges);
        let parts = self.wanted.parts();
        let parted = parted(&mem::replace(&mut self.parts, parts), &self.parts);
        if self.wanted.connects(&self.parts) {
            if self.rooted.take().is_some() {
                changed = self.wanted.everything();
            }
        } else {
            let rooted = Order::rooted(&self.members, self.wanted.order());
            let routes = self.rooted.get_or_insert_default();
            changed = routes.follow(&self.members, Some(rooted), &touched, &edges);
            if !was_rooted {
                changed = routes.everything();
            }
        }
        let routes = self.rooted.as_ref().unwrap_or(&self.wanted);
        let Changed { mut ways, edges: mut to } = changed;
        // The same ways by other ports, where there are several links between two switches.
        ways.extend(routes.over(&ports, &to));
        ways.sort_unstable();
        ways.dedup();
        // An edge that is none any more has lost all ways to it.
        to.extend(edges.iter().filter(|edge| self.member(**edge).is_some_and(|member| !member.edge)));
        let name = |node: Node| self.member(node).map(|member| member.name.clone());
        let named = ways.into_iter().filter(|(at, to)| at != to).filter_map(|(at, to)| Some((name(at)?, name(to)?)));
        let (named, to): (Vec<(Name, Name)>, Vec<Name>) = (named.collect(), to.into_iter().filter_map(name).collect());
        let parted: Vec<Name> = parted.into_iter().filter_map(name).collect();
        self.turned.ways.extend(named);
        self.turned.edges.extend(to);
        self.turned.parted.extend(parted);
        if Arc::make_mut(&mut self.followed.0).follow(routes.arcs()) {
            self.turned.reordered = true;
            self.gone.clear();
        }
    }

    /// Whether links by which packets pass lead from one switch to another. Nothing has been changed since
    /// [`Self::take_turned`] was called.
    pub fn hang_together(&self, a: &Name, b: &Name) -> bool {
        let part = self.part(a);
        part.is_some() && part == self.part(b)
    }

    /// A number of what a switch hangs together with, for as long as [`Self::hang_together`] holds.
    pub fn part(&self, name: &Name) -> Option<u32> {
        self.parts.get(*self.names.get(name)? as usize).copied()
    }

    /// The order that ways follow, for [`Self::follow_again`].
    pub fn followed(&self) -> Followed {
        self.followed.clone()
    }

    /// What was changed since [`Self::followed`] said this is taken back, and nobody has heard of it: the ways follow
    /// again what they followed then.
    pub fn follow_again(&mut self, followed: Followed) {
        self.settle();
        self.turned.reordered = false;
        self.followed = followed;
    }

    /// The links of a switch, whether or not packets pass.
    pub fn links_of(&self, name: &Name) -> impl Iterator<Item = (&Port, End)> {
        let member = self.names.get(name).and_then(|node| self.member(*node));
        let links = member.into_iter().flat_map(|member| &member.links);
        links.filter_map(|(port, far)| {
            Some((port, End { switch: self.member(far.node)?.name.clone(), port: far.port.clone() }))
        })
    }

    /// The ways from a switch to edges. Nothing has been changed since [`Self::take_turned`] was called.
    pub fn ways(&self, at: &Name) -> Ways<'_> {
        let routes = self.rooted.as_ref().unwrap_or(&self.wanted);
        Ways::new(&self.names, self.names.get(at).map(|at| routes.from(&self.members, *at)))
    }

    /// The ports that lead from a switch on to an edge, where only one edge is of interest: see [`Self::ways`].
    pub fn hops(&self, at: &Name, to: &Name) -> Hops {
        self.ways(at).hops(to)
    }

    /// Where a packet arrives that leaves by a port.
    pub fn far(&self, end: &End) -> Option<End> {
        let member = self.member(*self.names.get(&end.switch)?)?;
        let far = member.links.get(&end.port).filter(|far| far.up)?;
        Some(End { switch: self.member(far.node)?.name.clone(), port: far.port.clone() })
    }
}

/// The switches that are in another part than before, by what the parts were and are: where one came apart, or several
/// together, all but the most that stayed.
fn parted(before: &[Node], after: &[Node]) -> Vec<Node> {
    let group = |(node, part): (Node, &Node)| (before.get(node as usize).copied().unwrap_or(Node::MAX), *part);
    let groups = || (0..).zip(after).map(|at| (at.0, group(at)));
    let mut sizes: BTreeMap<(Node, Node), usize> = BTreeMap::new();
    groups().for_each(|(_, group)| *sizes.entry(group).or_default() += 1);
    let (mut most_before, mut most_after) = (BTreeMap::new(), BTreeMap::new());
    for (group, size) in &sizes {
        for (most, part) in [(&mut most_before, group.0), (&mut most_after, group.1)] {
            let most = most.entry(part).or_insert((0, *group));
            *most = (*most).max((*size, *group));
        }
    }
    let is_most = |group: (Node, Node)| {
        let is =
            |most: &BTreeMap<Node, (usize, (Node, Node))>, part| most.get(&part).is_some_and(|most| most.1 == group);
        is(&most_before, group.0) && is(&most_after, group.1)
    };
    groups().filter(|(_, group)| !is_most(*group)).map(|(node, _)| node).collect()
}

#[cfg(test)]
mod tests;
