//! The ways between two switches, as packets are carried now.

use bulkhead_topology::{
    Name,
    graph::{End, Graph},
};
use std::collections::{BTreeMap, BTreeSet};

/// Links that ways are followed over, at most: above every way that there can be, so that nothing runs for ever.
const MOST: usize = 64;

/// Every way from one switch to another; all have the same number of links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    /// How many there are; 0 if there is none, or both are the same switch.
    pub count: u64,
    /// Link by link, every link that one of the ways takes: where packets leave, and where they arrive.
    pub steps: Vec<BTreeSet<(End, End)>>,
}

/// Follows packets from a switch to an edge, as the switches' tables carry them.
pub(crate) fn paths(graph: &Graph, from: &Name, to: &Name) -> Paths {
    let mut found = Paths::default();
    // Where packets are, whether they go down already, and by how many ways they came there.
    let mut at = BTreeMap::from([((from.clone(), false), 1_u64)]);
    while found.steps.len() < MOST && from != to {
        let mut next: BTreeMap<(Name, bool), u64> = BTreeMap::new();
        let mut step = BTreeSet::new();
        for ((name, down), ways) in at {
            let hops = graph.hops(&name, to);
            let (ports, down) = if down { (hops.down, true) } else { (hops.up, hops.turns) };
            for port in ports.iter() {
                let near = End { switch: name.clone(), port: port.clone() };
                let Some(far) = graph.far(&near) else { continue };
                if far.switch == *to {
                    found.count = found.count.saturating_add(ways);
                } else {
                    let sum = next.entry((far.switch.clone(), down)).or_default();
                    *sum = sum.saturating_add(ways);
                }
                step.insert((near, far));
            }
        }
        if step.is_empty() {
            break;
        }
        found.steps.push(step);
        at = next;
    }
    if found.count == 0 { Paths::default() } else { found }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use bulkhead_topology::{Port, graph::Cable};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn end(switch: &str, port: u32) -> End {
        End { switch: name(switch), port: Port::Number(port) }
    }

    #[test]
    fn equal_ways_are_counted_and_told_link_by_link() {
        let mut graph = Graph::default();
        for (switch, level) in [("leaf1", 1), ("leaf2", 1), ("spine1", 2), ("spine2", 2)] {
            graph.set_switch(&name(switch), level);
        }
        // Two links to the first spine, one to the second.
        for (leaf, port, spine) in [(1, 1, 1), (1, 2, 1), (1, 3, 2), (2, 1, 1), (2, 2, 1), (2, 3, 2)] {
            let [near, far] = [end(&format!("leaf{leaf}"), port), end(&format!("spine{spine}"), 10 * leaf + port)];
            graph.set_link(&Cable::new(near, far), true);
        }
        graph.set_edge(&name("leaf1"), true);
        graph.set_edge(&name("leaf2"), true);
        graph.take_turned();
        let found = paths(&graph, &name("leaf1"), &name("leaf2"));
        assert_eq!((found.count, found.steps.len()), (5, 2));
        assert_eq!((found.steps[0].len(), found.steps[1].len()), (3, 3));
        assert!(found.steps[0].contains(&(end("leaf1", 3), end("spine2", 13))));
        assert_eq!(paths(&graph, &name("leaf1"), &name("leaf1")), Paths::default());
        assert_eq!(paths(&graph, &name("leaf1"), &name("spine1")), Paths::default(), "nothing is carried there");
    }
}
