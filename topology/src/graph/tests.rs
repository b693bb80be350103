#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use super::*;
use proptest::prelude::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn end(switch: &str, port: u32) -> End {
    End { switch: name(switch), port: Port::Number(port) }
}

fn ports(list: &[u32]) -> Arc<[Port]> {
    list.iter().map(|port| Port::Number(*port)).collect()
}

/// Two leaves and two spines: leaf `i` has its port `j` at port `i` of spine `j`.
fn leaf_spine() -> Graph {
    let mut graph = Graph::default();
    for i in 1..=2 {
        graph.set_switch(&name(&format!("leaf{i}")), 1);
        graph.set_switch(&name(&format!("spine{i}")), 2);
        graph.set_edge(&name(&format!("leaf{i}")), true);
    }
    for (i, j) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        graph.set_link(&Cable::new(end(&format!("leaf{i}"), j), end(&format!("spine{j}"), i)), true);
    }
    graph
}

#[test]
fn leaves_reach_each_other_by_every_spine() {
    let mut graph = leaf_spine();
    let turned = graph.take_turned();
    assert!(!turned.reordered);
    let hops = graph.hops(&name("leaf1"), &name("leaf2"));
    assert_eq!((hops.up, hops.turns, hops.down), (ports(&[1, 2]), false, ports(&[])));
    assert!(!hops.from_below && hops.from_above);
    let hops = graph.hops(&name("spine1"), &name("leaf2"));
    assert_eq!((hops.up, hops.turns, hops.down), (ports(&[2]), true, ports(&[2])));
    assert_eq!(graph.far(&end("leaf2", 1)), Some(end("spine1", 2)));
    // A link that is lost concerns its own ends and who went by it, and nobody else.
    graph.set_link(&Cable::new(end("spine1", 2), end("leaf2", 1)), false);
    let mut ways = graph.take_turned().ways;
    ways.sort();
    let spoken = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (name(a), name(b))).collect::<Vec<_>>();
    assert!(ways.iter().all(|(at, _)| at.as_str() != "spine2"), "{ways:?}");
    assert!(spoken(&[("leaf1", "leaf2"), ("leaf2", "leaf1"), ("spine1", "leaf2")]).iter().all(|w| ways.contains(w)));
    assert_eq!(graph.hops(&name("leaf1"), &name("leaf2")).up, ports(&[2]));
    assert_eq!(graph.hops(&name("spine1"), &name("leaf2")), Hops::default());
    assert_eq!(graph.far(&end("leaf2", 1)), None);
    graph.remove_switches([&name("spine2")].into_iter());
    graph.take_turned();
    assert_eq!(graph.hops(&name("leaf1"), &name("leaf2")), Hops::default());
}

#[test]
fn what_the_order_parts_is_connected_by_another() {
    let mut graph = leaf_spine();
    graph.take_turned();
    // Between the spines every way leads down and up again.
    graph.set_edge(&name("spine2"), true);
    assert!(!graph.take_turned().reordered);
    graph.set_edge(&name("spine1"), true);
    let turned = graph.take_turned();
    assert!(turned.reordered);
    assert_eq!(graph.hops(&name("spine1"), &name("spine2")).up.len(), 2);
    graph.set_edge(&name("spine2"), false);
    assert!(graph.take_turned().reordered);
    assert_eq!(graph.hops(&name("leaf1"), &name("leaf2")).up.len(), 2);
}

/// What was followed before a restart, or by a switch that went and came back, is not known any more.
#[test]
fn a_way_that_may_be_the_other_way_round_somewhere_changes_the_order() {
    let [a, b] = ["a", "b"].map(name);
    let cable = Cable::new(end("a", 1), end("b", 1));
    for restarted in [false, true] {
        let mut graph = Graph::default();
        graph.set_switch(&a, 1);
        graph.set_switch(&b, 2);
        graph.set_edge(&a, true);
        graph.set_link(&cable, true);
        assert!(!graph.take_turned().reordered);
        graph.set_link(&cable, false);
        if restarted {
            graph = afresh(&graph);
            graph.forget_followed();
        } else {
            graph.remove_switches([&a].into_iter());
            // Somebody else gets its number.
            graph.set_switch(&name("new"), 1);
            graph.set_switch(&a, 1);
            graph.set_edge(&a, true);
        }
        graph.set_switch(&b, 0);
        assert!(!graph.take_turned().reordered);
        graph.set_link(&cable, true);
        assert!(graph.take_turned().reordered);
        // Now everything is known again.
        graph.set_link(&cable, false);
        graph.set_link(&cable, true);
        assert!(!graph.take_turned().reordered);
    }
}

const SWITCHES: u8 = 7;

#[derive(Debug, Clone)]
enum Step {
    Switch(u8, u8),
    Gone(u8),
    Edge(u8, bool),
    Link(u8, u8, bool),
    Unlinked(u8, u8),
    Look,
    /// Between the ports that they would have to others.
    Cable((u8, u32), (u8, u32)),
    /// What was followed is forgotten.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..SWITCHES;
    prop_oneof![
        2 => (node(), 0..3u8).prop_map(|(node, level)| Step::Switch(node, level)),
        1 => node().prop_map(Step::Gone),
        3 => (node(), prop::bool::weighted(0.8)).prop_map(|(node, edge)| Step::Edge(node, edge)),
        9 => (node(), node(), prop::bool::weighted(0.8)).prop_map(|(a, b, up)| Step::Link(a, b, up)),
        1 => (node(), node()).prop_map(|(a, b)| Step::Unlinked(a, b)),
        2 => Just(Step::Look),
        2 => ((node(), 0..u32::from(SWITCHES)), (node(), 0..u32::from(SWITCHES))).prop_map(|(a, b)| Step::Cable(a, b)),
        1 => Just(Step::Restart),
    ]
}

/// Switches `s0`.. of three levels, those below 5 as edges.
fn begun() -> Graph {
    let mut graph = Graph::default();
    for node in 0..SWITCHES {
        graph.set_switch(&name(&format!("s{node}")), node % 3);
        graph.set_edge(&name(&format!("s{node}")), node < 5);
    }
    graph
}

/// The link between two switches that they have each other's number for a port.
fn between(a: u8, b: u8) -> Cable {
    Cable::new(end(&format!("s{a}"), b.into()), end(&format!("s{b}"), a.into()))
}

fn take(graph: &mut Graph, step: &Step) {
    match step {
        Step::Switch(node, level) => graph.set_switch(&name(&format!("s{node}")), *level),
        Step::Gone(node) => graph.remove_switches([&name(&format!("s{node}"))].into_iter()),
        Step::Restart => {
            *graph = afresh(graph);
            graph.take_turned();
            graph.forget_followed();
        }
        Step::Cable(a, b) => {
            graph.set_link(&Cable::new(end(&format!("s{}", a.0), a.1), end(&format!("s{}", b.0), b.1)), true)
        }
        Step::Edge(node, edge) => graph.set_edge(&name(&format!("s{node}")), *edge),
        Step::Link(a, b, up) => graph.set_link(&between(*a, *b), *up),
        Step::Unlinked(a, b) => graph.remove_link(&between(*a, *b)),
        Step::Look => drop(graph.take_turned()),
    }
}

type Table = BTreeMap<(Name, Name), Hops>;

/// All ways.
fn table(graph: &mut Graph) -> Table {
    graph.take_turned();
    let names: Vec<Name> = graph.names.keys().cloned().collect();
    let pairs = names.iter().flat_map(|at| names.iter().map(move |to| (at.clone(), to.clone())));
    pairs.map(|(at, to)| ((at.clone(), to.clone()), graph.hops(&at, &to))).collect()
}

/// Whether each two edges hang together.
fn together(graph: &Graph) -> BTreeMap<(Name, Name), bool> {
    let edges: Vec<&Name> = graph.members.iter().flatten().filter(|member| member.edge).map(|m| &m.name).collect();
    let pairs = edges.iter().flat_map(|a| edges.iter().map(move |b| (*a, *b)));
    let is = |a: &Name, b: &Name| connected(graph, graph.names[a]).contains(&graph.names[b]);
    let pairs = pairs.map(|(a, b)| ((a.clone(), b.clone()), is(a, b)));
    pairs.inspect(|((a, b), is)| assert_eq!(graph.hang_together(a, b), *is)).collect()
}

/// The same switches and links in a graph that never knew others.
fn afresh(graph: &Graph) -> Graph {
    let mut fresh = Graph::default();
    for member in graph.members.iter().flatten() {
        fresh.set_switch(&member.name, member.level);
        fresh.set_edge(&member.name, member.edge);
    }
    for (cable, up) in graph.links() {
        fresh.set_link(&cable, up);
    }
    fresh
}

fn connected(graph: &Graph, from: Node) -> BTreeSet<Node> {
    let (mut seen, mut stack) = (BTreeSet::new(), vec![from]);
    while let Some(node) = stack.pop() {
        if seen.insert(node) {
            stack.extend(order::neighbours(&graph.members, node));
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn ways_are_a_function_of_the_links_and_every_change_is_told(
        before in prop::collection::vec(step(), 0..40),
        after in prop::collection::vec(step(), 1..4),
    ) {
        let mut graph = begun();
        before.iter().for_each(|step| take(&mut graph, step));
        let old = table(&mut graph);
        let apart = together(&graph);
        after.iter().filter(|step| !matches!(step, Step::Look | Step::Restart)).for_each(|step| take(&mut graph, step));
        let told = graph.take_turned();
        let is_told = |pair: &(Name, Name)| told.ways.contains(pair) || told.edges.contains(&pair.1);
        let new = table(&mut graph);
        prop_assert_eq!(&new, &table(&mut afresh(&graph)));
        for (pair, hops) in &new {
            if old.get(pair).is_none_or(|old| old != hops) && *hops != Hops::default() {
                prop_assert!(is_told(pair), "{:?} to {:?}", old.get(pair), hops);
            }
        }
        for (pair, is) in together(&graph) {
            let otherwise = apart.get(&pair).is_some_and(|was| *was != is);
            prop_assert!(!otherwise || told.parted.contains(&pair.0) || told.parted.contains(&pair.1), "{:?}", pair);
        }
        for (pair, _) in old.iter().filter(|(pair, hops)| **hops != Hops::default() && new.contains_key(pair)) {
            prop_assert!(old.get(pair) == new.get(pair) || is_told(pair));
        }
    }

    #[test]
    fn edges_that_are_connected_have_ways_and_all_of_them_are_shortest(steps in prop::collection::vec(step(), 5..40)) {
        let mut graph = begun();
        steps.iter().for_each(|step| take(&mut graph, step));
        let table = table(&mut graph);
        let edges: Vec<(Name, Node)> =
            graph.names.iter().filter(|(_, n)| graph.member(**n).unwrap().edge).map(|(a, b)| (a.clone(), *b)).collect();
        for (from, node) in &edges {
            let near = connected(&graph, *node);
            for (to, _) in edges.iter().filter(|(to, _)| to != from) {
                let hops = &table[&(from.clone(), to.clone())];
                prop_assert_eq!(!hops.up.is_empty(), near.contains(&graph.names[to]));
                // Every way arrives, in the same number of steps.
                let mut lengths = BTreeSet::new();
                let mut packets = vec![(from.clone(), false, 0u32)];
                while let Some((at, down, length)) = packets.pop() {
                    prop_assert!(length <= u32::from(SWITCHES) * 2);
                    if at == *to {
                        lengths.insert(length);
                        continue;
                    }
                    let hops = &table[&(at.clone(), to.clone())];
                    let expected = length == 0 || (if down { hops.from_above } else { hops.from_below });
                    prop_assert!(expected, "from where nobody comes");
                    let ports = if down { &hops.down } else { &hops.up };
                    prop_assert!(near.len() < 2 || !near.contains(&graph.names[to]) || !ports.is_empty());
                    for port in ports.iter() {
                        let far = graph.far(&End { switch: at.clone(), port: port.clone() }).unwrap();
                        packets.push((far.switch, down || hops.turns, length + 1));
                    }
                }
                prop_assert!(lengths.len() <= 1, "{:?}", lengths);
            }
        }
    }

    /// Each switch has the ways of some moment, as long as the order stayed.
    #[test]
    fn no_mixture_of_old_and_new_ways_leads_in_a_circle(
        steps in prop::collection::vec(step(), 5..60),
        choice in prop::collection::vec(any::<prop::sample::Index>(), SWITCHES as usize),
    ) {
        let mut graph = begun();
        graph.take_turned();
        let mut moments: Vec<(Table, BTreeMap<End, End>)> = Vec::new();
        // (Where a cable is put in elsewhere, nothing is believed before both ends are heard there.)
        for step in steps.iter().filter(|step| !matches!(step, Step::Cable(..))) {
            take(&mut graph, step);
            if graph.take_turned().reordered {
                moments.clear();
            }
            let links = graph.links().filter(|(_, up)| *up).flat_map(|(Cable(a, b), _)| [(a.clone(), b.clone()), (b, a)]);
            let links = links.collect();
            moments.push((table(&mut graph), links));
        }
        let cables: BTreeMap<&End, &End> = moments.iter().flat_map(|(_, links)| links).collect();
        let chosen = |at: &Name| {
            let number: usize = at.as_str()[1..].parse().unwrap();
            &choice[number].get(&moments).0
        };
        let all: Vec<Name> = (0..SWITCHES).map(|node| name(&format!("s{node}"))).collect();
        for to in &all {
            for from in &all {
                let mut packets = vec![(from.clone(), false, 0u32)];
                while let Some((at, down, length)) = packets.pop() {
                    prop_assert!(length <= u32::from(SWITCHES) * 2, "a circle to {} from {}", to, from);
                    let Some(hops) = chosen(&at).get(&(at.clone(), to.clone())).filter(|_| at != *to) else { continue };
                    let ports = if down { &hops.down } else { &hops.up };
                    for port in ports.iter() {
                        let Some(far) = cables.get(&End { switch: at.clone(), port: port.clone() }) else { continue };
                        packets.push((far.switch.clone(), down || hops.turns, length + 1));
                    }
                }
            }
        }
    }
}
