//! Packets over fabrics of switches that carry for each other: leaves and spines, rings, trees.

use crate::common;
use bulkhead_compile::{Compiler, Numbers};
use bulkhead_pipeline::{
    Action, Cause, Entry, Field, Memory, Outcome, Output, Packet, Program, Stage, Tracker, carry, check, conn,
    ethertype, walk,
};
use bulkhead_policy::{Change, Key, Kind, State, model::Passage};
use bulkhead_topology::{Name, Port};
use common::{apply, changes, name, state};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

/// Every connection is this to every tracker.
struct Says(u128);

impl Tracker for Says {
    fn track(&mut self, _: u16, _: &Packet) -> (u128, Memory) {
        (self.0, Memory::default())
    }
    fn commit(&mut self, _: u16, _: &Packet, _: Memory) {}
}

/// A fabric: its switches with their roles, and the links between them.
#[derive(Debug, Clone)]
struct Shape {
    roles: Vec<&'static str>,
    links: Vec<(usize, usize)>,
}

impl Shape {
    fn leaf_spine(leaves: usize, spines: usize) -> Self {
        let roles = (0..leaves + spines).map(|i| if i < leaves { "leaf" } else { "spine" }).collect();
        Self {
            roles,
            links: (0..leaves).flat_map(|leaf| (leaves..leaves + spines).map(move |spine| (leaf, spine))).collect(),
        }
    }

    fn ring(count: usize) -> Self {
        Self { roles: vec!["leaf"; count], links: (0..count).map(|i| (i, (i + 1) % count)).collect() }
    }

    fn tree(count: usize) -> Self {
        Self { roles: vec!["hypervisor"; count], links: (1..count).map(|i| ((i - 1) / 2, i)).collect() }
    }

    /// Each switch has the workload `w<i>`, 10.0.0.<i>, at port `w<i>`, and the link to switch `j` at port `p<j>`.
    fn documents(&self) -> String {
        let mut out = String::from(
            "kind: Network\nmetadata: {name: net}\nspec: {vni: 5001, subnets: [10.0.0.0/16], defaultAction: allow}\n",
        );
        for (i, role) in self.roles.iter().enumerate() {
            out += &format!("---\nkind: Switch\nmetadata: {{name: s{i}}}\nspec: {{driver: sim, role: {role}}}\n");
            out += &workload(i, i);
        }
        for (a, b) in &self.links {
            out += &link(*a, *b);
        }
        out
    }
}

fn link(a: usize, b: usize) -> String {
    format!(
        "---\nkind: Link\nmetadata: {{name: l{a}-{b}}}\nspec: {{a: {{switch: s{a}, port: p{b}}}, b: {{switch: s{b}, port: p{a}}}}}\n"
    )
}

fn workload(i: usize, at: usize) -> String {
    format!(
        "---\nkind: Workload\nmetadata: {{name: w{i}, labels: {{n: n{i}}}}}\nspec: {{network: net, interfaces: [{{mac: \
         \"02:00:00:00:00:{i:02x}\", ips: [10.0.0.{ip}], attachment: {{switch: s{at}, port: w{i}}}}}]}}\n",
        ip = i + 1,
    )
}

fn mac(i: usize) -> u128 {
    0x0200_0000_0000 | i as u128
}

fn packet(from: usize, to: usize) -> Packet {
    let ip = |i: usize| u128::from(Ipv4Addr::new(10, 0, 0, i as u8 + 1).to_bits());
    Packet::new(Port::Name(format!("w{from}").into()))
        .with(Field::EthSrc, mac(from))
        .with(Field::EthDst, mac(to))
        .with(Field::Vlan, 0u8)
        .with(Field::IpFrag, 0u8)
        .with(Field::IpTtl, 64u8)
        .with(Field::EthType, ethertype::IPV4)
        .with(Field::IpProto, 6u8)
        .with(Field::Ipv4Src, ip(from))
        .with(Field::Ipv4Dst, ip(to))
        .with(Field::L4Src, 40_000u16)
        .with(Field::L4Dst, 80u16)
}

/// The far end of a port `p<j>` of switch `s<i>`.
fn far(at: &Name, port: &Port) -> Option<(Name, Port)> {
    let Port::Name(port) = port else { return None };
    let to = port.strip_prefix('p')?;
    Some((name(&format!("s{to}")), Port::Name(at.as_str().replace('s', "p").into())))
}

/// Programs by switch.
type Programs = BTreeMap<Name, Program>;

fn programs(state: &State, compiler: &Compiler) -> Programs {
    state.switches.keys().map(|name| (name.clone(), compiler.program(name).unwrap().clone())).collect()
}

/// What becomes of a packet: the switches it came to, and how it ended; `None` if it went on for ever.
fn travel(programs: &Programs, from: &Name, mut packet: Packet, conn: u128) -> Option<(Vec<Name>, Outcome)> {
    let mut way = vec![from.clone()];
    loop {
        let at = way.last().unwrap().clone();
        let outcome = walk(&programs[&at], &mut Says(conn), packet).outcome;
        let Outcome::Delivered { port, packet: sent } = outcome else { return Some((way, outcome)) };
        let Some((next, port)) = far(&at, &port) else { return Some((way, Outcome::Delivered { port, packet: sent })) };
        packet = carry::arrive(&sent, port);
        way.push(next);
        if way.len() > 2 * programs.len() + 2 {
            return None;
        }
    }
}

fn arrives(programs: &Programs, from: usize, to: usize) -> bool {
    let (_, outcome) = travel(programs, &name(&format!("s{from}")), packet(from, to), conn::NEW).unwrap();
    let Outcome::Delivered { port, packet: came } = outcome else { return false };
    assert_eq!(port, Port::Name(format!("w{to}").into()));
    let expected = [(Field::EthSrc, mac(from)), (Field::EthDst, mac(to)), (Field::Vlan, 0), (Field::IpTtl, 64)];
    for (field, value) in expected {
        assert_eq!(came.value(field), value, "{}", field.as_str());
    }
    true
}

fn shapes() -> Vec<Shape> {
    vec![
        Shape { roles: vec!["leaf"; 2], links: vec![(0, 1)] },
        Shape::leaf_spine(2, 2),
        Shape::leaf_spine(4, 2),
        Shape::ring(5),
        Shape::tree(7),
    ]
}

#[test]
fn packets_arrive_over_every_shape_as_they_were_sent() {
    for shape in shapes() {
        let state = state(&shape.documents());
        let compiler = common::compile(&state);
        let programs = programs(&state, &compiler);
        for program in programs.values() {
            assert_eq!(check(program), vec![]);
        }
        let count = shape.roles.len();
        for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))).filter(|(a, b)| a != b) {
            assert!(arrives(&programs, from, to), "{from} to {to} of {shape:?}");
        }
    }
}

fn stage_len(program: &Program, stage: Stage) -> usize {
    program.stage(stage).filter(|entry| !matches!(entry.cause, Cause::Miss(_))).count()
}

#[test]
fn a_switch_without_workloads_has_no_entries_about_any() {
    let shape = Shape::leaf_spine(4, 2);
    let mut documents = shape.documents();
    for spine in 4..6 {
        documents = documents.replace(
            &format!("attachment: {{switch: s{spine}, port: w{spine}}}"),
            "attachment: {switch: away, port: x}",
        );
        documents = documents.replace("switch: away, port: x", &format!("switch: away, port: w{spine}"));
    }
    let state = state(&documents);
    let compiler = common::compile(&state);
    let spine = compiler.program(&name("s4")).unwrap();
    // Two for each port and what links are found by; one for each edge, and what is for none.
    assert_eq!(stage_len(spine, Stage::Classify), 8 + 2);
    assert_eq!(stage_len(spine, Stage::Carry), 4 + 1);
    let lonely =
        common::compile(&common::state("kind: Switch\nmetadata: {name: s4}\nspec: {driver: sim, role: spine}\n"));
    let alone = lonely.program(&name("s4")).unwrap();
    assert_eq!(spine.len(), alone.len() + 8 + 4);
}

/// What is put into a link by hand, by a host or by the network between switches.
fn forged(vlan: u16, source: u128, from: usize, to: usize) -> Packet {
    let mut forged = packet(from, to);
    forged.set(Field::Vlan, 0x1000 | u128::from(vlan));
    forged.set(Field::EthSrc, source);
    forged
}

#[test]
fn what_a_host_says_of_the_fabric_is_not_listened_to() {
    let state = state(&Shape::leaf_spine(2, 2).documents());
    let compiler = common::compile(&state);
    let programs = programs(&state, &compiler);
    let source = carry::source::LOCAL | carry::edge(2) | 5001;
    for vlan in 1..5 {
        let outcome = walk(&programs[&name("s0")], &mut Says(conn::NEW), forged(vlan, source, 0, 1)).outcome;
        assert!(matches!(outcome, Outcome::Dropped(_)), "{outcome:?}");
    }
    // By a link, an edge believes only the edge that has the workload.
    let number = |at: &str| compiler.numbers().iter().find(|(key, _)| ***key == *format!("edge/{at}")).unwrap().1;
    let by_link = |edge: &str| {
        let source = carry::source::LOCAL | carry::edge(number(edge)) | 5001;
        let mut packet = forged(number("s1") as u16, source, 0, 1);
        packet.in_port = Port::Name("p2".into());
        walk(&programs[&name("s1")], &mut Says(conn::NEW), packet).outcome
    };
    assert!(matches!(by_link("s0"), Outcome::Delivered { .. }), "{:?}", by_link("s0"));
    assert!(matches!(by_link("s2"), Outcome::Dropped(_)));
}

#[test]
fn a12_what_comes_by_a_link_that_is_down_silent_or_not_there_yet_is_nobodys() {
    let shape = Shape::leaf_spine(2, 2);
    let mut state = state(&shape.documents());
    let mut compiler = common::compile(&state);
    let arrives_by = |compiler: &Compiler, port: &str| {
        let number = |at: &str| compiler.numbers().iter().find(|(key, _)| ***key == *format!("edge/{at}")).unwrap().1;
        let source = carry::source::LOCAL | carry::edge(number("s0")) | carry::epoch(0) | 5001;
        let mut packet = forged(number("s1") as u16, source, 0, 1);
        packet.in_port = Port::Name(port.into());
        let walked = walk(compiler.program(&name("s1")).unwrap(), &mut Says(conn::NEW), packet);
        matches!(walked.outcome, Outcome::Delivered { .. })
    };
    assert!(arrives_by(&compiler, "p2"), "nothing is heard of such switches");
    apply(&mut state, &mut compiler, &[adjacency(&shape, 1, &[2])]).unwrap();
    assert!(!arrives_by(&compiler, "p2") && arrives_by(&compiler, "p3"));
    // The far end alone is away, or about to come.
    let Some(bulkhead_policy::Resource::Adjacency(found)) = adjacency(&shape, 1, &[]).value else { panic!() };
    let mut found = (*found).clone();
    found.ports[0].passes = Passage::In;
    let listens = Change::set(bulkhead_policy::Resource::Adjacency(found.into()));
    apply(&mut state, &mut compiler, &[listens]).unwrap();
    assert!(arrives_by(&compiler, "p2"));
    let sent = |program: &Program| program.iter().any(|entry| is_sent(entry, "p2"));
    assert!(!sent(compiler.program(&name("s1")).unwrap()), "nothing goes back by it");
    // Switches that would have heard each other, and did not.
    let heard = (0..4).map(|switch| Change::remove(Kind::Adjacency.named(&name(&format!("s{switch}")))));
    let known: Vec<Change> = heard.chain(changes(&openflow(&[1, 2]))).collect();
    apply(&mut state, &mut compiler, &known).unwrap();
    assert!(!arrives_by(&compiler, "p2") && arrives_by(&compiler, "p3"));
    apply(&mut state, &mut compiler, &[adjacency(&shape, 1, &[])]).unwrap();
    assert!(arrives_by(&compiler, "p2"));
}

/// Whether an entry sends packets by a port alone.
fn is_sent(entry: &Entry, port: &str) -> bool {
    let by = |action: &Action| matches!(action, Action::Output(Output::Port(Port::Name(p))) if **p == *port);
    entry.actions.iter().any(by)
}

/// Switches that hear their links.
fn openflow(switches: &[usize]) -> String {
    let one = |i: &usize| {
        format!(
            "---\nkind: Switch\nmetadata: {{name: s{i}}}\nspec: {{driver: openflow, datapathId: \"{:#x}\"}}\n",
            i + 1
        )
    };
    switches.iter().map(one).collect()
}

/// What of a program is about ways, by switch.
fn changed(before: &Programs, after: &Programs) -> BTreeSet<Name> {
    after.iter().filter(|(name, program)| before.get(*name) != Some(*program)).map(|(name, _)| name.clone()).collect()
}

/// What a switch is connected to, with one of its ports down.
fn adjacency(shape: &Shape, switch: usize, down: &[usize]) -> Change {
    let peers = shape.links.iter().filter_map(|(a, b)| (*a == switch).then_some(*b).or((*b == switch).then_some(*a)));
    let ports = peers.map(|peer| bulkhead_policy::model::FabricPort {
        name: format!("p{peer}").into(),
        number: peer as u32 + 100,
        passes: if down.contains(&peer) { Passage::Nothing } else { Passage::Both },
        heard: Some(bulkhead_policy::model::Attachment {
            switch: name(&format!("s{peer}")),
            port: Port::Name(format!("p{switch}").into()),
        }),
    });
    let mut ports: Vec<_> = ports.collect();
    ports.sort();
    let adjacency = bulkhead_policy::model::Adjacency { name: name(&format!("s{switch}")), ports };
    Change::set(bulkhead_policy::Resource::Adjacency(adjacency.into()))
}

#[test]
fn a_link_that_is_lost_concerns_who_went_by_it() {
    let shape = Shape::leaf_spine(4, 2);
    let mut state = state(&shape.documents());
    let mut compiler = common::compile(&state);
    // The spines are no edges.
    for spine in ["w4", "w5"] {
        apply(&mut state, &mut compiler, &[Change::remove(Kind::Workload.named(&name(spine)))]).unwrap();
    }
    let before = programs(&state, &compiler);
    apply(&mut state, &mut compiler, &[adjacency(&shape, 0, &[4])]).unwrap();
    let after = programs(&state, &compiler);
    // The other spine hears nothing of it.
    assert_eq!(changed(&before, &after), ["s0", "s1", "s2", "s3", "s4"].map(name).into());
    for (from, to) in [(0, 1), (1, 0), (2, 3), (3, 0)] {
        assert!(arrives(&after, from, to));
    }
    // Both are lost: nobody reaches it, and it nobody.
    apply(&mut state, &mut compiler, &[adjacency(&shape, 0, &[4, 5])]).unwrap();
    let cut = programs(&state, &compiler);
    assert!(!arrives(&cut, 0, 1) && !arrives(&cut, 1, 0) && arrives(&cut, 1, 2));
    apply(&mut state, &mut compiler, &[adjacency(&shape, 0, &[])]).unwrap();
    let again = programs(&state, &compiler);
    assert!(arrives(&again, 0, 1));
    // What is heard alone is as good as what is declared.
    let links: Vec<Change> = state.links.keys().map(|link| Change::remove(Kind::Link.named(link))).collect();
    let heard: Vec<Change> = (0..6).map(|switch| adjacency(&shape, switch, &[])).chain(links).collect();
    apply(&mut state, &mut compiler, &heard).unwrap();
    assert_eq!(programs(&state, &compiler), again);
}

/// A fabric whose network has uplinks on `s0` and `s1`.
fn with_uplinks(shape: &Shape) -> String {
    let uplinks = "subnets: [10.0.0.0/16], uplinks: [{switch: s0, port: up}, {switch: s1, port: up}]";
    shape.documents().replace("subnets: [10.0.0.0/16]", uplinks)
}

#[test]
fn outsiders_are_reached_by_another_uplink_while_the_first_is_cut_off() {
    let shape = Shape::leaf_spine(4, 2);
    let mut state = state(&with_uplinks(&shape));
    let mut compiler = common::compile(&state);
    let out = |state: &State, compiler: &Compiler, from: usize| {
        let mut packet = packet(from, 0);
        packet.set(Field::EthDst, 0x0600_0000_0001);
        packet.set(Field::Ipv4Dst, u128::from(Ipv4Addr::new(192, 0, 2, 1).to_bits()));
        let programs = programs(state, compiler);
        let (way, outcome) = travel(&programs, &name(&format!("s{from}")), packet, conn::NEW).unwrap();
        matches!(outcome, Outcome::Delivered { .. }).then(|| way.last().unwrap().to_string())
    };
    assert_eq!(out(&state, &compiler, 2).as_deref(), Some("s0"));
    apply(&mut state, &mut compiler, &[adjacency(&shape, 0, &[4, 5])]).unwrap();
    assert_eq!(out(&state, &compiler, 0).as_deref(), Some("s0"));
    for from in [2, 3] {
        assert_eq!(out(&state, &compiler, from).as_deref(), Some("s1"));
    }
    // The other way round: who is cut off finds the first one gone, and none better.
    apply(&mut state, &mut compiler, &[adjacency(&shape, 0, &[]), adjacency(&shape, 2, &[4, 5])]).unwrap();
    assert_eq!(out(&state, &compiler, 2), None);
    assert_eq!(out(&state, &compiler, 3).as_deref(), Some("s0"));
}

#[test]
fn a_port_that_somebody_has_leads_nowhere() {
    let shape = Shape::leaf_spine(2, 2);
    let mut state = state(&shape.documents());
    let mut compiler = common::compile(&state);
    let links: Vec<Change> = state.links.keys().map(|link| Change::remove(Kind::Link.named(link))).collect();
    let heard: Vec<Change> = (0..4).map(|switch| adjacency(&shape, switch, &[])).chain(links).collect();
    apply(&mut state, &mut compiler, &heard).unwrap();
    assert!(arrives(&programs(&state, &compiler), 0, 1));
    // A workload comes to port p2 of s0, which it calls by its number.
    let taken = workload(9, 0).replace("port: w9", "port: 102");
    apply(&mut state, &mut compiler, &changes(&taken)).unwrap();
    let program = compiler.program(&name("s0")).unwrap();
    let named = |entry: &&Entry| entry.key.matches.in_port == Some(Port::Name("p2".into()));
    assert_eq!(program.iter().filter(named).count(), 0);
    assert!(!program.iter().any(|entry| is_sent(entry, "p2")));
    assert!(arrives(&programs(&state, &compiler), 0, 1));
    // Nor does it if a link names it, as soon as it is known to be that port.
    apply(&mut state, &mut compiler, &changes(&link(0, 2))).unwrap();
    let program = compiler.program(&name("s0")).unwrap();
    assert_eq!(program.iter().filter(named).count(), 0);
    assert!(!program.iter().any(|entry| is_sent(entry, "p2")));
}

#[derive(Debug, Clone)]
enum Step {
    Down(usize),
    Up(usize),
    Unlink(usize),
    Relink(usize),
    Move(usize, usize),
    Role(usize, &'static str),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..16usize;
    prop_oneof![
        4 => at().prop_map(Step::Down),
        3 => at().prop_map(Step::Up),
        1 => at().prop_map(Step::Unlink),
        1 => at().prop_map(Step::Relink),
        1 => (at(), at()).prop_map(|(a, b)| Step::Move(a, b)),
        1 => (at(), prop::sample::select(vec!["leaf", "spine"])).prop_map(|(a, role)| Step::Role(a, role)),
        1 => Just(Step::Restart),
    ]
}

/// The changes of a step. `down` are the links that are.
fn step_changes(shape: &Shape, down: &mut BTreeSet<usize>, step: &Step) -> Vec<Change> {
    let (links, switches) = (shape.links.len(), shape.roles.len());
    let seen = |down: &BTreeSet<usize>| -> Vec<Change> {
        let lost = |switch: usize| -> Vec<usize> {
            let ends = down.iter().map(|link| shape.links[*link]);
            ends.filter_map(|(a, b)| (a == switch).then_some(b).or((b == switch).then_some(a))).collect()
        };
        (0..switches).map(|switch| adjacency(shape, switch, &lost(switch))).collect()
    };
    match step {
        Step::Down(link) => {
            down.insert(link % links);
            seen(down)
        }
        Step::Up(link) => {
            down.remove(&(link % links));
            seen(down)
        }
        Step::Unlink(at) => {
            let (a, b) = shape.links[at % links];
            vec![Change::remove(Key { kind: Kind::Link, name: name(&format!("l{a}-{b}")) })]
        }
        Step::Relink(at) => {
            let (a, b) = shape.links[at % links];
            changes(&link(a, b))
        }
        Step::Restart => Vec::new(),
        Step::Move(who, to) => changes(&workload(who % switches, to % switches)),
        Step::Role(at, role) => changes(&format!(
            "kind: Switch\nmetadata: {{name: s{}}}\nspec: {{driver: sim, role: {role}}}\n",
            at % switches
        )),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Switches take their programs over one after another; at every moment each has some program of before.
    #[test]
    fn no_mixture_of_programs_carries_a_packet_in_a_circle(
        shape in prop::sample::select(shapes()),
        steps in prop::collection::vec(step(), 1..12),
        choices in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 8), 4),
    ) {
        let mut state = state(&with_uplinks(&shape));
        let mut compiler = common::compile(&state);
        let (mut down, mut moments) = (BTreeSet::new(), vec![programs(&state, &compiler)]);
        for step in &steps {
            let changes = step_changes(&shape, &mut down, step);
            apply(&mut state, &mut compiler, &changes).unwrap();
            moments.push(programs(&state, &compiler));
            // What is compiled from nothing is the same.
            let numbers = compiler.numbers().iter().map(|(key, number)| (key.clone(), number)).collect();
            let (fresh, _) = Compiler::new(&state, numbers).unwrap();
            prop_assert_eq!(&programs(&state, &fresh), moments.last().unwrap());
            // And goes on with it, as after a restart.
            if matches!(step, Step::Restart) {
                compiler = fresh;
            }
        }
        for program in moments.last().unwrap().values() {
            prop_assert_eq!(check(program), vec![]);
        }
        for choice in &choices {
            let mixed: Programs = moments[0]
                .keys()
                .zip(choice)
                .map(|(name, index)| (name.clone(), index.get(&moments)[name].clone()))
                .collect();
            let count = shape.roles.len();
            for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))).filter(|(a, b)| a != b) {
                let at = &state.workloads[&name(&format!("w{from}"))].interfaces[0].attachment.as_ref().unwrap().switch;
                let found = travel(&mixed, at, packet(from, to), conn::NEW);
                let Some((_, outcome)) = found else {
                    return Err(TestCaseError::fail(format!("{from} to {to} in a circle")));
                };
                if let Outcome::Delivered { port, .. } = outcome {
                    prop_assert_eq!(port, Port::Name(format!("w{to}").into()));
                }
            }
        }
        // At the end, who is connected arrives.
        let end = moments.last().unwrap();
        let links: Vec<(usize, usize)> = shape.links.iter().zip(0..).filter(|(_, i)| !down.contains(i)).map(|(l, _)| *l).collect();
        let heard = !state.adjacencies.is_empty();
        let there = |(a, b): &(usize, usize)| heard || state.links.contains_key(&name(&format!("l{a}-{b}")));
        let place = |i: usize| -> usize {
            let at = state.workloads[&name(&format!("w{i}"))].interfaces[0].attachment.as_ref().unwrap();
            at.switch.as_str()[1..].parse().unwrap()
        };
        for from in 0..shape.roles.len() {
            let (mut near, mut stack) = (BTreeSet::new(), vec![place(from)]);
            while let Some(at) = stack.pop() {
                if near.insert(at) {
                    let links = links.iter().filter(|link| there(link));
                    stack.extend(links.filter_map(|(a, b)| (*a == at).then_some(*b).or((*b == at).then_some(*a))));
                }
            }
            for to in (0..shape.roles.len()).filter(|to| *to != from) {
                let (_, outcome) = travel(end, &name(&format!("s{}", place(from))), packet(from, to), conn::NEW).unwrap();
                let arrived = matches!(outcome, Outcome::Delivered { .. });
                prop_assert_eq!(arrived, near.contains(&place(to)), "{} to {}: {:?}", from, to, outcome);
            }
        }
    }
}

/// What a switch hears, with `cables` between the ends that they name.
fn hears(switch: usize, cables: &[[(usize, usize); 2]]) -> Change {
    let ends = cables.iter().flat_map(|[a, b]| [(a, b), (b, a)]).filter(|(near, _)| near.0 == switch);
    let ports = ends.map(|(near, far)| bulkhead_policy::model::FabricPort {
        name: format!("p{}", near.1).into(),
        number: near.1 as u32 + 100,
        passes: Passage::Both,
        heard: Some(bulkhead_policy::model::Attachment {
            switch: name(&format!("s{}", far.0)),
            port: Port::Name(format!("p{}", far.1).into()),
        }),
    });
    let mut ports: Vec<_> = ports.collect();
    ports.sort();
    let adjacency = bulkhead_policy::model::Adjacency { name: name(&format!("s{switch}")), ports };
    Change::set(bulkhead_policy::Resource::Adjacency(adjacency.into()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Cables are drawn and put in elsewhere; some of the switches concerned have not heard it yet.
    #[test]
    fn re_cabling_leads_to_what_is_compiled_from_nothing(
        shape in prop::sample::select(shapes()),
        steps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..16), 1..8),
    ) {
        let mut documents = with_uplinks(&shape);
        for (a, b) in &shape.links {
            documents = documents.replace(&link(*a, *b), "");
        }
        let mut state = state(&documents);
        let mut compiler = common::compile(&state);
        let count = shape.roles.len();
        let mut cables: Vec<[(usize, usize); 2]> = shape.links.iter().map(|(a, b)| [(*a, *b), (*b, *a)]).collect();
        let all = |cables: &[[(usize, usize); 2]]| (0..count).map(|switch| hears(switch, cables)).collect::<Vec<_>>();
        apply(&mut state, &mut compiler, &all(&cables)).unwrap();
        for (one, other, who) in steps {
            let (one, other) = (one.index(cables.len()), other.index(cables.len()));
            let far = cables[other][1];
            cables[other][1] = cables[one][1];
            cables[one][1] = far;
            let late = |change: &Change| who & (1 << (change.key.name.as_str()[1..].parse::<u8>().unwrap() % 4)) != 0;
            for changes in [all(&cables).into_iter().filter(|change| !late(change)).collect(), all(&cables)] {
                apply(&mut state, &mut compiler, &changes).unwrap();
                let numbers = compiler.numbers().iter().map(|(key, number)| (key.clone(), number)).collect();
                let (fresh, _) = Compiler::new(&state, numbers).unwrap();
                prop_assert_eq!(&programs(&state, &fresh), &programs(&state, &compiler));
            }
        }
    }
}

#[test]
fn a39_numbers_of_edges_that_are_none_any_more_come_again_when_nobody_holds_them() {
    let gone = |count: u32| -> Numbers { (1..=count).map(|i| (format!("edge/gone-{i}").into(), i)).collect() };
    let edges = |compiler: &Compiler| -> Vec<u32> {
        let of = |name: &str| compiler.numbers().iter().find(|(known, _)| ***known == *format!("edge/{name}"));
        ["s0", "s1", "s2"].into_iter().filter_map(|name| Some(of(name)?.1)).collect()
    };
    let mut state = State::default();
    let (mut compiler, _) = Compiler::new(&state, gone(carry::MAX_EDGE - 2)).unwrap();
    apply(&mut state, &mut compiler, &changes(&Shape::tree(2).documents())).unwrap();
    assert_eq!(edges(&compiler), [carry::MAX_EDGE - 1, carry::MAX_EDGE]);
    // Who is to come is refused by name as long as a switch may hold what the others are called.
    let three = changes(&Shape::tree(3).documents());
    let refused = apply(&mut state.clone(), &mut compiler, &three).unwrap_err();
    assert!(format!("{refused:?}").contains("edge"), "{refused:?}");
    let before = compiler.program(&name("s0")).cloned();
    assert_eq!(compiler.forget_edges().len(), carry::MAX_EDGE as usize - 2);
    assert_eq!(compiler.program(&name("s0")), before.as_ref());
    apply(&mut state, &mut compiler, &three).unwrap();
    assert_eq!(edges(&compiler), [carry::MAX_EDGE - 1, carry::MAX_EDGE, 1]);
    let whole = Compiler::new(&state, compiler.numbers().clone()).unwrap().0;
    assert_eq!(compiler.program(&name("s0")), whole.program(&name("s0")));
    // Of few nothing is forgotten: they may come back.
    let (mut few, _) = Compiler::new(&State::default(), gone(10)).unwrap();
    assert_eq!(few.forget_edges(), vec![]);
}
