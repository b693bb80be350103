//! A33, R2: while a large change is carried out in steps, no packet gets through that neither the program before nor the
//! one afterwards lets through. Random policies, compiled; every state in between, walked by random packets.

use bulkhead_compile::Compiler;
use bulkhead_pipeline::{
    Action, Builtin, Cause, Delta, Entry, Field, Match, Memory, Next, Outcome, Packet, Program, Stage, Tracker, conn,
    ethertype, render_entry, render_program, walk,
};
use bulkhead_policy::{
    Change, Flow, Service, State,
    arbitrary::{FlowSeed, flow_seed, state, steps as changes, try_apply},
};
use bulkhead_reconcile::{Bounds, Ports, plan, steps};
use bulkhead_topology::{Name, Port};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestCaseError, TestCaseResult, TestRunner},
};
use std::{
    cell::Cell,
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
};

/// Flows that are asked of each state.
const FLOWS: usize = 12;
/// Every change a step of its own, but for what has to be atomic.
const ONE_BY_ONE: Bounds = Bounds { whole: 1, chunk: 1 };

/// A tracker that gives every packet the same answer.
struct Fixed(u128);

impl Tracker for Fixed {
    fn track(&mut self, _: u16, _: &Packet) -> (u128, Memory) {
        (self.0, Memory::default())
    }
    fn commit(&mut self, _: u16, _: &Packet, _: Memory) {}
}

/// The packets of a flow that enter this switch: from a workload's port, or from an uplink.
fn packets(state: &State, flow: &Flow, switch: &Name) -> Vec<Packet> {
    let interfaces = state.workloads.values().flat_map(|workload| &workload.interfaces);
    let own = interfaces.filter(|i| i.ips.contains(&flow.from.ip));
    let own = own.filter_map(|i| Some((i.attachment.as_ref()?, 0, i.mac.to_bits())));
    let uplinks = state.networks.get(&flow.network).into_iter().flat_map(|network| &network.uplinks);
    let outside = uplinks.map(|uplink| (&uplink.at, uplink.vlan, 0x0600_0000_0001));
    let here = own.chain(outside).filter(|(at, ..)| at.switch == *switch);
    here.filter_map(|(at, vlan, mac)| packet(flow, &at.port, vlan, mac)).collect()
}

fn packet(flow: &Flow, port: &Port, vlan: u16, mac: u64) -> Option<Packet> {
    let tag = if vlan == 0 { 0 } else { 0x1000 | u128::from(vlan) };
    let mut packet = Packet::new(port.clone())
        .with(Field::EthSrc, mac)
        .with(Field::EthDst, 0x0200_0000_00ffu64)
        .with(Field::Vlan, tag)
        .with(Field::IpFrag, 0u8)
        .with(Field::IpProto, flow.service.protocol());
    match (flow.from.ip, flow.to.ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            packet.set(Field::EthType, ethertype::IPV4);
            packet.set(Field::Ipv4Src, a.to_bits().into());
            packet.set(Field::Ipv4Dst, b.to_bits().into());
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            packet.set(Field::EthType, ethertype::IPV6);
            packet.set(Field::Ipv6Src, a.to_bits());
            packet.set(Field::Ipv6Dst, b.to_bits());
        }
        _ => return None,
    }
    match flow.service {
        Service::Port { port, .. } => {
            packet.set(Field::L4Src, 40_000);
            packet.set(Field::L4Dst, port.into());
        }
        Service::Icmp { icmp_type, code, .. } => {
            packet.set(Field::IcmpType, icmp_type.into());
            packet.set(Field::IcmpCode, code.into());
        }
        Service::Protocol(_) => {}
    }
    Some(packet)
}

/// Where a packet comes out; `None` if nowhere.
fn out(program: &Program, packet: &Packet, tracked: u128) -> Option<Port> {
    match walk(program, &mut Fixed(tracked), packet.clone()).outcome {
        Outcome::Delivered { port, .. } => Some(port),
        Outcome::Answered(_) => Some(packet.in_port.clone()),
        Outcome::Dropped(_)
        | Outcome::Rejected(_)
        | Outcome::Expired { .. }
        | Outcome::NoRoute { .. }
        | Outcome::TooBig { .. }
        | Outcome::Probe(_)
        | Outcome::Discovered(_) => None,
        // No flow here is to a group.
        Outcome::Copied(copies) => panic!("{copies:?}"),
    }
}

/// What a test has seen: states in between, and packets whose fate the change changes.
#[derive(Default)]
struct Seen {
    between: Cell<u64>,
    changed: Cell<u64>,
    /// Packets that both programs let through the same way, and those of them that some state in between stops.
    kept: Cell<u64>,
    paused: Cell<u64>,
}

fn count(cell: &Cell<u64>, by: u64) {
    cell.set(cell.get() + by);
}

/// Carries a change out step by step, and walks every state.
fn carry_out(old: &Program, new: &Program, packets: &[Packet], bounds: Bounds, seen: &Seen) -> TestCaseResult {
    let tracked = [conn::NEW, conn::EST, conn::EST | conn::RPL];
    let cases: Vec<_> = packets.iter().flat_map(|packet| tracked.map(|bits| (packet, bits))).collect();
    let fates: Vec<_> = cases
        .iter()
        .map(|(packet, bits)| (out(old, packet, *bits), out(new, packet, *bits), Cell::new(false)))
        .collect();
    count(&seen.changed, fates.iter().filter(|fate| fate.0 != fate.1).count() as u64);
    let list = steps(old, new, plan(new, old, &Ports::Any), bounds);
    let mut at = old.clone();
    for step in &list {
        at.apply(step);
        for ((packet, bits), (before, after, paused)) in cases.iter().zip(&fates) {
            let now = out(&at, packet, *bits);
            if now.is_some() && now != *before && now != *after {
                return Err(story(old, new, &list, &at, step, packet, *bits));
            }
            if now.is_none() && before == after && before.is_some() {
                paused.set(true);
            }
        }
    }
    prop_assert_eq!(&at, new);
    count(&seen.between, list.len().saturating_sub(1) as u64);
    count(&seen.kept, fates.iter().filter(|fate| fate.0.is_some() && fate.0 == fate.1).count() as u64);
    count(&seen.paused, fates.iter().filter(|fate| fate.2.get()).count() as u64);
    Ok(())
}

fn story(
    old: &Program,
    new: &Program,
    list: &VecDeque<Delta>,
    at: &Program,
    step: &Delta,
    packet: &Packet,
    bits: u128,
) -> TestCaseError {
    let last: Vec<_> = step.add.iter().map(render_entry).chain(step.remove.iter().map(|k| format!("{k:?}"))).collect();
    let walked = walk(at, &mut Fixed(bits), packet.clone());
    TestCaseError::fail(format!(
        "a packet gets through in between that neither program lets through\n{packet:?}\n{walked:#?}\nafter {last:?}, \
         of {} steps\nold\n{}\nnew\n{}",
        list.len(),
        render_program(old),
        render_program(new)
    ))
}

fn check(old: &State, change: &[Change], seeds: &[FlowSeed], bounds: Bounds, seen: &Seen) -> TestCaseResult {
    let (mut compiler, _) = Compiler::new(old, Default::default()).unwrap();
    let mut new = old.clone();
    new.apply(change);
    let programs = |compiler: &Compiler, name: &Name| compiler.program(name).cloned().unwrap_or_default();
    let before: Vec<_> = old.switches.keys().map(|name| (name.clone(), programs(&compiler, name))).collect();
    if compiler.apply(change).is_err() {
        return Ok(());
    }
    for (name, before) in before {
        let after = programs(&compiler, &name);
        let of = |state: &State| -> Vec<Packet> {
            seeds.iter().flat_map(|seed| packets(state, &seed.flow(state), &name)).collect()
        };
        let packets = [of(old), of(&new)].concat();
        carry_out(&before, &after, &packets, bounds, seen)?;
    }
    Ok(())
}

/// What turns one state into another.
fn difference(old: &State, new: &State) -> Vec<Change> {
    let keys = |state: &State| state.resources().map(|resource| resource.key()).collect::<BTreeSet<_>>();
    let (before, after) = (keys(old), keys(new));
    let gone = before.difference(&after).map(|key| Change { key: key.clone(), value: None });
    let set = after.iter().filter(|key| old.get(key) != new.get(key));
    gone.chain(set.map(|key| Change { key: key.clone(), value: new.get(key) })).collect()
}

fn run<I: Strategy>(cases: u32, input: I, test: impl Fn(I::Value, &Seen) -> TestCaseResult) {
    let seen = Seen::default();
    let config = Config { failure_persistence: None, cases, ..Config::default() };
    TestRunner::new(config).run(&input, |value| test(value, &seen)).unwrap_or_else(|error| panic!("{error}"));
    let [between, changed, kept, paused] = [&seen.between, &seen.changed, &seen.kept, &seen.paused].map(Cell::get);
    eprintln!("{between} states in between; {changed} packets changed, {kept} kept, {paused} of them paused");
    // Walking where nothing changes proves nothing.
    assert!(between > u64::from(cases) * 10 && changed > u64::from(cases) / 4, "{between} states, {changed} packets");
}

/// A deny rule as clauses of these dimensions, and an allow below it.
fn denies(dimensions: &[(Field, std::ops::Range<u32>)]) -> Program {
    let stage = Stage::EgressApplication;
    let n = dimensions.len() as u8;
    let clauses = (1..).zip(dimensions).flat_map(|(k, (field, values))| {
        let clause = Action::Clause { conjunction: 7, k, n };
        let at = values.clone().map(|value| Match::any().with(*field, value));
        at.map(move |matches| {
            Entry::new(stage, 9, matches, vec![clause.clone()], Next::Done, Cause::Builtin(Builtin::Set))
        })
    });
    let met = Match::any().with(Field::Conjunction, 7u8);
    let allow = Next::Stage(Stage::Spread);
    clauses
        .chain([
            Entry::new(stage, 9, met, vec![], Next::Drop, Cause::Rule(1)),
            Entry::new(stage, 1, Match::any(), vec![], allow, Cause::Rule(2)),
            Entry::new(Stage::Classify, 1, Match::any(), vec![], Next::Stage(Stage::Antispoof), Cause::Rule(3)),
        ])
        .collect()
}

#[test]
fn a33_a_deny_that_gains_a_dimension_is_never_a_mixture_of_both() {
    let (sources, services, peers) = ((Field::SrcId, 1..4), (Field::Service, 80..83), (Field::DstId, 5..8));
    let two = denies(&[sources.clone(), services.clone()]);
    let three = denies(&[sources, peers, services]);
    for (old, new) in [(&two, &three), (&three, &two)] {
        let list = steps(old, new, plan(new, old, &Ports::Any), ONE_BY_ONE);
        let mut at = old.clone();
        for step in &list {
            at.apply(step);
            let clauses = at.iter().flat_map(|entry| &entry.actions);
            let sizes: BTreeSet<_> =
                clauses.filter_map(|a| if let Action::Clause { n, .. } = a { Some(*n) } else { None }).collect();
            assert_eq!(sizes.len(), 1, "{}", render_program(&at));
        }
        assert_eq!(at, *new);
    }
}

#[test]
fn a33_edits_in_steps_never_let_a_packet_through_that_neither_policy_allows() {
    let input = (state(), changes(1..8), vec(flow_seed(), FLOWS));
    run(24, input, |(old, list, seeds), seen| {
        let mut new = old.clone();
        for change in &list {
            try_apply(&mut new, change);
        }
        check(&old, &difference(&old, &new), &seeds, ONE_BY_ONE, seen)
    });
}

#[test]
fn a33_another_policy_altogether_in_steps_never_lets_a_packet_through_that_neither_allows() {
    run(24, (state(), state(), vec(flow_seed(), FLOWS)), |(old, new, seeds), seen| {
        check(&old, &difference(&old, &new), &seeds, ONE_BY_ONE, seen)
    });
}
