//! Which switch is above which.

use super::{Member, Node};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

/// A total order of switches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// Lower ones are above; [`Node::MAX`] for numbers that no switch has.
    rank: Vec<u32>,
}

impl Order {
    /// The order that is wanted: by level, then by how many others a switch has links to, then by name.
    pub fn wanted(members: &[Option<Member>]) -> Self {
        let present = members.iter().zip(0..).filter_map(|(member, node)| Some((member.as_ref()?, node)));
        let mut sorted: Vec<(&Member, Node)> = present.collect();
        sorted.sort_by_cached_key(|(member, _)| (Reverse(member.level), Reverse(degree(member)), &member.name));
        Self::from(members.len(), sorted.into_iter().map(|(_, node)| node))
    }

    /// An order in which each switch that can be reached at all can be reached by going up and then down: by the
    /// distance from the highest switch of those that are connected.
    pub fn rooted(members: &[Option<Member>], wanted: &Self) -> Self {
        let mut sorted: Vec<Node> = (0..members.len() as Node).filter(|node| wanted.rank(*node) != u32::MAX).collect();
        sorted.sort_by_key(|node| wanted.rank(*node));
        let mut distance = vec![u32::MAX; members.len()];
        for root in &sorted {
            if distance.get(*root as usize) != Some(&u32::MAX) {
                continue;
            }
            let mut queue = VecDeque::from([(*root, 0)]);
            while let Some((node, far)) = queue.pop_front() {
                match distance.get_mut(node as usize) {
                    Some(known) if *known == u32::MAX => *known = far,
                    _ => continue,
                }
                queue.extend(neighbours(members, node).map(|next| (next, far + 1)));
            }
        }
        sorted.sort_by_key(|node| (distance.get(*node as usize).copied(), wanted.rank(*node)));
        Self::from(members.len(), sorted.into_iter())
    }

    fn from(count: usize, sorted: impl Iterator<Item = Node>) -> Self {
        let mut rank = vec![u32::MAX; count];
        for (node, place) in sorted.zip(0..) {
            if let Some(slot) = rank.get_mut(node as usize) {
                *slot = place;
            }
        }
        Self { rank }
    }

    /// The place of a switch: 0 is the highest.
    pub fn rank(&self, node: Node) -> u32 {
        self.rank.get(node as usize).copied().unwrap_or(u32::MAX)
    }
}

/// How many switches there are links to, whether or not packets pass.
fn degree(member: &Member) -> usize {
    member.links.values().map(|far| far.node).collect::<BTreeSet<Node>>().len()
}

/// The switches that there are links to by which packets pass; one that there are several links to several times.
pub(super) fn neighbours(members: &[Option<Member>], node: Node) -> impl Iterator<Item = Node> {
    let member = members.get(node as usize).and_then(Option::as_ref);
    member.into_iter().flat_map(|member| member.links.values()).filter(|far| far.up).map(|far| far.node)
}

/// Ways from one switch up to another.
#[derive(Debug, Clone, Default)]
pub(super) struct Arcs {
    up: BTreeSet<(Node, Node)>,
    /// There may be more that were followed: it is not known any more which.
    pub forgot: bool,
}

impl Arcs {
    /// Follows other ones as well. Whether that was not possible: together they would lead in a circle, or may with what
    /// is not known any more. Then these alone are followed.
    pub fn follow(&mut self, arcs: impl Iterator<Item = (Node, Node)>) -> bool {
        let arcs: Vec<(Node, Node)> = arcs.collect();
        let before = self.up.len();
        self.up.extend(&arcs);
        if self.up.len() == before || !(self.forgot || self.is_circular()) {
            return false;
        }
        *self = Self { up: arcs.into_iter().collect(), forgot: false };
        true
    }

    /// Whether one can go up for ever.
    fn is_circular(&self) -> bool {
        let mut below: BTreeMap<Node, u32> = BTreeMap::new();
        for (from, to) in &self.up {
            below.entry(*from).or_default();
            *below.entry(*to).or_default() += 1;
        }
        let mut lowest: Vec<Node> = below.iter().filter(|(_, count)| **count == 0).map(|(node, _)| *node).collect();
        let mut seen = 0;
        while let Some(node) = lowest.pop() {
            seen += 1;
            for (_, to) in self.up.range((node, 0)..=(node, Node::MAX)) {
                if let Some(count) = below.get_mut(to) {
                    *count -= 1;
                    if *count == 0 {
                        lowest.push(*to);
                    }
                }
            }
        }
        seen < below.len()
    }
}
