//! The ways to every edge, by one order.

use super::{
    Member, Node,
    order::{Order, neighbours},
    ways::Start,
};
use std::collections::{BTreeMap, BTreeSet};

/// No way.
pub(super) const NEVER: u16 = u16::MAX;

/// What other ways there may be.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// From where to where.
    pub ways: Vec<(Node, Node)>,
    /// Where to, from everywhere.
    pub edges: BTreeSet<Node>,
}

/// How far one edge is from everywhere.
#[derive(Debug, Default)]
pub(super) struct Distances {
    /// Going only down.
    down: Vec<u16>,
    /// Going up first, as far as needed.
    any: Vec<u16>,
}

impl Distances {
    pub fn down(&self, node: Node) -> u16 {
        self.down.get(node as usize).copied().unwrap_or(NEVER)
    }

    pub fn any(&self, node: Node) -> u16 {
        self.any.get(node as usize).copied().unwrap_or(NEVER)
    }

    /// The distance going only down, by those of the switches below.
    fn down_from(&self, node: Node, edge: Node, beside: &Beside) -> u16 {
        let least = beside.down.iter().map(|below| self.down(*below)).min().unwrap_or(NEVER);
        if node == edge { 0 } else { least.saturating_add(1) }
    }

    /// The distance going up first, by those of the switches above.
    fn any_from(&self, node: Node, beside: &Beside) -> u16 {
        let least = beside.up.iter().map(|above| self.any(*above)).min().unwrap_or(NEVER);
        least.saturating_add(1).min(self.down(node))
    }
}

/// The switches next to one that are above it, and those that are below it.
#[derive(Debug, Default)]
struct Beside {
    up: BTreeSet<Node>,
    down: BTreeSet<Node>,
}

/// The ways by one order.
#[derive(Debug, Default)]
pub(super) struct Routes {
    order: Order,
    beside: Vec<Beside>,
    to: BTreeMap<Node, Distances>,
}

impl Routes {
    /// The order that the ways follow.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// From each switch to each above it that it has a link to.
    pub fn arcs(&self) -> impl Iterator<Item = (Node, Node)> {
        self.beside.iter().zip(0..).flat_map(|(beside, node)| beside.up.iter().map(move |up| (node, *up)))
    }

    /// Follows a change: of the order, of links between the pairs that are `touched`, and of which switches are edges.
    /// What other ways there may be.
    pub fn follow(
        &mut self,
        members: &[Option<Member>],
        order: Option<Order>,
        touched: &BTreeSet<(Node, Node)>,
        edges: &BTreeSet<Node>,
    ) -> Changed {
        let fresh = self.beside.is_empty();
        self.beside.resize_with(members.len(), Default::default);
        let mut pairs = touched.clone();
        if let Some(order) = order.filter(|order| *order != self.order) {
            self.order = order;
            // Whatever is the other way round now.
            for (node, beside) in (0..).zip(&self.beside) {
                let turned = beside.up.iter().filter(|up| self.order.rank(**up) > self.order.rank(node));
                pairs.extend(turned.map(|up| (node.min(*up), node.max(*up))));
            }
        }
        if fresh {
            for node in 0..members.len() as Node {
                pairs.extend(neighbours(members, node).map(|other| (node.min(other), node.max(other))));
            }
        }
        let mut moved = BTreeSet::new();
        for (a, b) in pairs {
            let passes = neighbours(members, a).any(|other| other == b);
            let (low, high) = if self.order.rank(a) > self.order.rank(b) { (a, b) } else { (b, a) };
            let mut changed = self.beside(high, |beside| beside.up.remove(&low));
            changed |= self.beside(low, |beside| beside.down.remove(&high));
            changed |= self.beside(low, |beside| if passes { beside.up.insert(high) } else { beside.up.remove(&high) });
            changed |=
                self.beside(high, |beside| if passes { beside.down.insert(low) } else { beside.down.remove(&low) });
            if changed {
                moved.extend([low, high]);
            }
        }
        let mut turned = Changed::default();
        let is_edge = |node: Node| members.get(node as usize).and_then(Option::as_ref).is_some_and(|m| m.edge);
        for edge in self.to.keys().copied().filter(|edge| !is_edge(*edge)).collect::<Vec<_>>() {
            self.to.remove(&edge);
        }
        if !moved.is_empty() {
            let moved: Vec<Node> = moved.into_iter().collect();
            for edge in self.to.keys().copied().collect::<Vec<_>>() {
                self.renew(edge, members.len(), &moved, &mut turned.ways);
            }
        }
        let all = 0..members.len() as Node;
        let new = all.clone().filter(|node| is_edge(*node) && (fresh || edges.contains(node)));
        let new: Vec<Node> = new.filter(|edge| !self.to.contains_key(edge)).collect();
        if !new.is_empty() {
            let mut sorted: Vec<Node> = all.collect();
            sorted.sort_unstable_by_key(|node| self.order.rank(*node));
            for edge in new {
                let distances = self.distances(edge, &sorted);
                self.to.insert(edge, distances);
                turned.edges.insert(edge);
            }
        }
        turned
    }

    fn beside(&mut self, node: Node, change: impl FnOnce(&mut Beside) -> bool) -> bool {
        self.beside.get_mut(node as usize).is_some_and(change)
    }

    /// How far an edge is from all switches, which are sorted from the highest down.
    fn distances(&self, edge: Node, sorted: &[Node]) -> Distances {
        let mut to = Distances { down: vec![NEVER; sorted.len()], any: vec![NEVER; sorted.len()] };
        for (node, beside) in sorted.iter().rev().filter_map(|node| Some((node, self.beside.get(*node as usize)?))) {
            let now = to.down_from(*node, edge, beside);
            if let Some(known) = to.down.get_mut(*node as usize) {
                *known = now;
            }
        }
        for (node, beside) in sorted.iter().filter_map(|node| Some((node, self.beside.get(*node as usize)?))) {
            let now = to.any_from(*node, beside);
            if let Some(known) = to.any.get_mut(*node as usize) {
                *known = now;
            }
        }
        to
    }

    /// Looks again how far an edge is from these switches, and from all whose ways lead by them. A switch's distance
    /// hangs on those beside it that come before it in the order of looking, so each is looked at once.
    fn renew(&mut self, edge: Node, count: usize, moved: &[Node], turned: &mut Vec<(Node, Node)>) {
        let Some(mut to) = self.to.remove(&edge) else { return };
        to.down.resize(count, NEVER);
        to.any.resize(count, NEVER);
        let rank = |node: &Node| self.order.rank(*node);
        let none = Beside::default();
        let beside = |node: Node| self.beside.get(node as usize).unwrap_or(&none);
        // From the lowest up: what is below has been looked at before.
        let mut from_below: BTreeSet<(std::cmp::Reverse<u32>, Node)> =
            moved.iter().map(|node| (std::cmp::Reverse(rank(node)), *node)).collect();
        let mut from_above: BTreeSet<(u32, Node)> = moved.iter().map(|node| (rank(node), *node)).collect();
        while let Some((_, node)) = from_below.pop_first() {
            turned.push((node, edge));
            let now = to.down_from(node, edge, beside(node));
            let Some(known) = to.down.get_mut(node as usize) else { continue };
            if std::mem::replace(known, now) != now {
                from_below.extend(beside(node).up.iter().map(|up| (std::cmp::Reverse(rank(up)), *up)));
                from_above.insert((rank(&node), node));
            }
        }
        while let Some((_, node)) = from_above.pop_first() {
            turned.push((node, edge));
            let now = to.any_from(node, beside(node));
            let Some(known) = to.any.get_mut(node as usize) else { continue };
            if std::mem::replace(known, now) != now {
                from_above.extend(beside(node).down.iter().map(|below| (rank(below), *below)));
            }
        }
        self.to.insert(edge, to);
    }

    /// Of each switch the first of those that links lead to by which packets pass.
    pub fn parts(&self) -> Vec<Node> {
        let mut part = vec![Node::MAX; self.beside.len()];
        for root in 0..self.beside.len() as Node {
            let mut stack = vec![root];
            while let Some(node) = stack.pop() {
                match part.get_mut(node as usize) {
                    Some(known) if *known == Node::MAX => *known = root,
                    _ => continue,
                }
                let Some(beside) = self.beside.get(node as usize) else { continue };
                stack.extend(beside.up.iter().chain(&beside.down));
            }
        }
        part
    }

    /// Whether there is a way between any two edges that links connect at all.
    pub fn connects(&self, part: &[Node]) -> bool {
        let edges: Vec<(Node, Option<&Node>)> = self.to.keys().map(|edge| (*edge, part.get(*edge as usize))).collect();
        self.to.iter().all(|(edge, to)| {
            let part = part.get(*edge as usize);
            edges.iter().all(|(from, other)| *other != part || to.any(*from) != NEVER)
        })
    }

    /// From every switch to every edge.
    pub fn everything(&self) -> Changed {
        Changed { ways: Vec::new(), edges: self.to.keys().copied().collect() }
    }

    /// The ways from a switch that lead by another beside it, of all such pairs; but to `without`.
    pub fn over(&self, pairs: &BTreeSet<(Node, Node)>, without: &BTreeSet<Node>) -> Vec<(Node, Node)> {
        let mut ways = Vec::new();
        for (edge, to) in self.to.iter().filter(|(edge, _)| !without.contains(edge)) {
            let next = |here: u16, there: u16| here != NEVER && there.checked_add(1) == Some(here);
            let by =
                |(near, far): &&(Node, Node)| next(to.down(*near), to.down(*far)) || next(to.any(*near), to.any(*far));
            ways.extend(pairs.iter().filter(by).map(|(near, _)| (*near, *edge)));
        }
        ways
    }

    /// The ways from a switch.
    pub fn from<'a>(&'a self, members: &'a [Option<Member>], at: Node) -> Start<'a> {
        let member = members.get(at as usize).and_then(Option::as_ref);
        let up = member.into_iter().flat_map(|member| &member.links).filter(|(_, far)| far.up);
        let rank = self.order.rank(at);
        let beside = self.beside.get(at as usize);
        Start {
            at,
            links: up.map(|(port, far)| (port, far.node, self.order.rank(far.node) < rank)).collect(),
            from_below: beside.is_some_and(|beside| !beside.down.is_empty()),
            from_above: beside.is_some_and(|beside| !beside.up.is_empty()),
            to: &self.to,
        }
    }
}
