//! The ways from one switch.

use super::{
    Node,
    routes::{Distances, NEVER},
};
use crate::{Name, Port};
use std::{collections::BTreeMap, mem, sync::Arc};

/// The ports that lead from a switch on to an edge: all on ways of the same, least number of links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hops {
    /// For packets that went only up so far, or begin here. Sorted.
    pub up: Arc<[Port]>,
    /// Whether those packets go down from here on.
    pub turns: bool,
    /// For packets that go down already. Sorted.
    pub down: Arc<[Port]>,
    /// Whether packets that went only up so far come from any other switch.
    pub from_below: bool,
    /// Whether packets that go down already come from any.
    pub from_above: bool,
}

/// A switch, among the distances of edges.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub at: Node,
    /// Its links by which packets pass, by their ports: where each leads, and whether that is above.
    pub links: Vec<(&'a Port, Node, bool)>,
    pub from_below: bool,
    pub from_above: bool,
    pub to: &'a BTreeMap<Node, Distances>,
}

/// The ways from a switch to edges.
///
/// Many edges are reached by the same ports. Of these there is one list, however many ways are asked for.
#[derive(Debug)]
pub struct Ways<'a> {
    names: &'a BTreeMap<Name, Node>,
    from: Option<Start<'a>>,
    /// The lists of ports so far, by where each is in the switch's links.
    lists: BTreeMap<Vec<usize>, Arc<[Port]>>,
    /// Used for one after the other.
    list: Vec<usize>,
}

impl<'a> Ways<'a> {
    pub(super) fn new(names: &'a BTreeMap<Name, Node>, from: Option<Start<'a>>) -> Self {
        Self { names, from, lists: BTreeMap::new(), list: Vec::new() }
    }

    /// The ports that lead on to an edge.
    pub fn hops(&mut self, to: &Name) -> Hops {
        let (Some(from), Some(to)) = (&self.from, self.names.get(to)) else { return Hops::default() };
        let Some(distances) = from.to.get(to) else { return Hops::default() };
        let (down, any) = (distances.down(from.at), distances.any(from.at));
        if from.at == *to || any == NEVER {
            return Hops::default();
        }
        let (from_below, from_above, turns) = (from.from_below, from.from_above, down == any);
        let below = self.ports(|next, above| !above && down != NEVER && distances.down(next).saturating_add(1) == down);
        let up = match turns {
            true => below.clone(),
            false => self.ports(|next, above| above && distances.any(next).saturating_add(1) == any),
        };
        Hops { up, turns, down: below, from_below, from_above }
    }

    fn ports(&mut self, is_next: impl Fn(Node, bool) -> bool) -> Arc<[Port]> {
        let links = self.from.as_ref().map_or(&[][..], |from| from.links.as_slice());
        let mut list = mem::take(&mut self.list);
        list.clear();
        list.extend(links.iter().enumerate().filter(|(_, (_, next, above))| is_next(*next, *above)).map(|(at, _)| at));
        let ports = match self.lists.get(&list) {
            Some(ports) => ports.clone(),
            None => {
                let chosen = list.iter().filter_map(|at| links.get(*at));
                let ports: Arc<[Port]> = chosen.map(|(port, ..)| (*port).clone()).collect();
                self.lists.insert(list.clone(), ports.clone());
                ports
            }
        };
        self.list = list;
        ports
    }
}
