//! While a step is written, one entry after another and within a phase in any order, no packet gets through that neither
//! the program before nor the one afterwards lets through. Random changes of random fabrics; every state in between, walked
//! by random packets.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;
mod fabrics;
#[path = "../../../controller/compile/tests/it/common/journey.rs"]
mod journey;

use bulkhead_compile::Compiler;
use bulkhead_driver_p4::{
    P4INFO, Places, lift,
    plan::{Move, moves},
};
use bulkhead_p4runtime::{
    entry::Key,
    info::Info,
    proto::p4::v1::{TableEntry, entity, update::Type},
};
use bulkhead_pipeline::{
    EntryKey, Field, Outcome, Packet, Program, Stage, overlay::arrive, render_entry, render_program, walk_stateless,
};
use bulkhead_policy::{
    State,
    arbitrary::{FlowSeed, flow_seed, state, steps, try_apply},
};
use bulkhead_topology::{Name, Port};
use common::delta;
use journey::{packet, places};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestCaseError, TestCaseResult, TestRunner},
};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

/// The program. To read it takes longer than to carry out a step.
static INFO: LazyLock<Info> = LazyLock::new(|| Info::from_text(P4INFO).unwrap());
static PLACES: LazyLock<Places> = LazyLock::new(|| Places::new(&INFO));

/// Flows that are asked of each pair of states.
const FLOWS: usize = 12;

/// How a packet leaves.
type Out = (Port, Vec<u128>);

/// What a packet meets on its way, and how it leaves; `None` if it does not.
struct Way {
    met: Vec<(Stage, Option<EntryKey>)>,
    out: Option<Out>,
}

impl Way {
    fn of(program: &Program, packet: &Packet) -> Self {
        // By a tunnel it says something to the other end in the place of its Ethernet destination.
        const SEEN: [Field; 6] =
            [Field::Vlan, Field::TunDst4, Field::TunDst6, Field::TunId, Field::TunIdentity, Field::TunGbp];
        let walk = walk_stateless(program, packet.clone());
        let met = walk.steps.iter().map(|step| (step.stage, step.entry.map(|entry| entry.key.clone()))).collect();
        let out = match walk.outcome {
            Outcome::Delivered { port, packet } => Some((port, SEEN.map(|field| packet.value(field)).into())),
            Outcome::Answered(answer) => {
                Some((packet.in_port.clone(), Field::ALL.map(|field| answer.value(field)).into()))
            }
            _ => None,
        };
        Self { met, out }
    }

    /// Whether it may be another one once this entry comes, or `there` already, goes or changes: what is met is what has
    /// the highest priority of its stage.
    fn is_touched(&self, key: &EntryKey, there: bool) -> bool {
        self.met.iter().filter(|(stage, _)| *stage == key.stage).any(|(_, met)| match met {
            Some(met) if there => met == key,
            Some(met) => met.priority <= key.priority,
            None => !there,
        })
    }
}

fn out(program: &Program, packet: &Packet) -> Option<Out> {
    Way::of(program, packet).out
}

/// What is written, in an order that is anyone's guess.
fn shuffled(mut moves: Vec<Move>, seed: &mut u64) -> Vec<Move> {
    let mut mixed = Vec::new();
    while !moves.is_empty() {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        mixed.push(moves.swap_remove((*seed >> 33) as usize % moves.len()));
    }
    mixed
}

/// What a test has seen.
#[derive(Default)]
struct Seen {
    between: Cell<u64>,
    changed: Cell<u64>,
    /// Packets that both programs let through the same way, and those of them that some state in between stops.
    kept: Cell<u64>,
    paused: Cell<u64>,
}

fn count(cell: &Cell<u64>, by: usize) {
    cell.set(cell.get() + by as u64);
}

fn carry_out(old: &Program, new: &Program, packets: &[Packet], seed: &mut u64, seen: &Seen) -> TestCaseResult {
    let info = &*INFO;
    let fates: Vec<_> = packets.iter().map(|packet| (out(old, packet), out(new, packet), Cell::new(false))).collect();
    count(&seen.changed, fates.iter().filter(|fate| fate.0 != fate.1).count());
    let keys = |entry| place(&PLACES.lower(entry).unwrap());
    let mut names: BTreeMap<(u32, Key), EntryKey> = old.iter().map(|entry| (keys(entry), entry.key.clone())).collect();
    for entry in new.iter() {
        let other = names.get(&keys(entry)).filter(|other| **other != entry.key);
        prop_assert!(other.is_none(), "{} is written as {other:?} is", render_entry(entry));
    }
    let mut at = old.clone();
    let mut ways: Vec<Way> = packets.iter().map(|packet| Way::of(old, packet)).collect();
    for phase in moves(old, &delta(old, new), &PLACES).unwrap() {
        let touched: BTreeSet<(u32, Key)> = phase.iter().map(|one| place(&written(one))).collect();
        prop_assert_eq!(touched.len(), phase.len(), "a request says two things of one entry");
        for one in shuffled(phase, seed) {
            let entry = written(&one);
            let (key, there) = match one.update(&PLACES).unwrap().r#type() {
                Type::Delete => {
                    let key = names.remove(&place(&entry)).unwrap();
                    at.remove(&key);
                    (key, true)
                }
                _ => {
                    let lifted = lift(&entry, info).unwrap();
                    let key = lifted.key.clone();
                    names.insert(place(&entry), key.clone());
                    let there = at.get(&key).is_some();
                    at.insert(lifted);
                    (key, there)
                }
            };
            count(&seen.between, 1);
            for ((packet, (before, after, paused)), way) in packets.iter().zip(&fates).zip(&mut ways) {
                if !way.is_touched(&key, there) {
                    continue;
                }
                *way = Way::of(&at, packet);
                let now = &way.out;
                if now.is_some() && now != before && now != after {
                    return Err(story(old, new, &at, &one, packet));
                }
                if now.is_none() && before == after && before.is_some() {
                    paused.set(true);
                }
            }
        }
    }
    prop_assert_eq!(&at, new);
    // Nothing was overlooked.
    for (fate, way) in fates.iter().zip(&ways) {
        prop_assert_eq!(&fate.1, &way.out);
    }
    count(&seen.kept, fates.iter().filter(|fate| fate.0.is_some() && fate.0 == fate.1).count());
    count(&seen.paused, fates.iter().filter(|fate| fate.2.get()).count());
    Ok(())
}

/// Table and key.
fn place(entry: &TableEntry) -> (u32, Key) {
    (entry.table_id, Key::of(entry))
}

fn written(one: &Move) -> TableEntry {
    match one.update(&PLACES).unwrap().entity.unwrap().entity {
        Some(entity::Entity::TableEntry(entry)) => entry,
        other => panic!("{other:?}"),
    }
}

fn story(old: &Program, new: &Program, at: &Program, one: &Move, packet: &Packet) -> TestCaseError {
    let last = lift(&written(one), &INFO).map(|entry| render_entry(&entry));
    let [was, is, now] = [old, new, at].map(|program| {
        let walk = walk_stateless(program, packet.clone());
        let steps: Vec<_> = walk.steps.iter().filter_map(|step| step.entry).map(render_entry).collect();
        format!("{:?}\n{}", walk.outcome, steps.join("\n"))
    });
    TestCaseError::fail(format!(
        "a packet gets through in between that neither program lets through\n{packet:?}\nafter {:?} {last:?}\nbefore: {was}\n\
         afterwards: {is}\nnow: {now}\nold\n{}\nnew\n{}",
        one.update(&PLACES).map(|update| update.r#type()),
        render_program(old),
        render_program(new)
    ))
}

/// The packets of flows that come to each switch, by a port of its own or by a tunnel of a fabric's.
fn packets(state: &State, programs: &BTreeMap<Name, Program>, seeds: &[FlowSeed]) -> Vec<(Name, Packet)> {
    let mut all = Vec::new();
    for seed in seeds {
        let flow = seed.flow(state);
        let Some(places) = places(state, &flow) else { continue };
        for reply in [false, true] {
            let Some(mut first) = packet(&flow, &places, reply) else { continue };
            let from = &places[usize::from(reply)].at.switch;
            for control in [first.control, 16] {
                first.control = control;
                all.push((from.clone(), first.clone()));
                let Some(program) = programs.get(from) else { continue };
                let Outcome::Delivered { port, packet: sent } = walk_stateless(program, first.clone()).outcome else {
                    continue;
                };
                let to = &places[usize::from(!reply)].at.switch;
                if let Some(vtep) = state.switches.get(from).and_then(|switch| switch.vtep)
                    && to != from
                {
                    all.push((to.clone(), arrive(&sent, port, vtep)));
                }
            }
        }
    }
    all
}

fn check(old: &State, new: &State, seeds: &[FlowSeed], mut seed: u64, seen: &Seen) -> TestCaseResult {
    let mut numbers = BTreeMap::new();
    let [old, new] = [old, new].map(|state| fabrics::driven(&fabrics::common(state, &mut numbers), |_| true));
    let compiler = Compiler::new(&old, Default::default()).unwrap().0;
    let Ok((after, _)) = Compiler::new(&new, compiler.numbers().clone()) else { return Ok(()) };
    let programs = |state: &State, compiler: &Compiler| -> BTreeMap<Name, Program> {
        let all = state.switches.keys().filter_map(|name| Some((name.clone(), compiler.program(name)?.clone())));
        all.collect()
    };
    let (before, after) = (programs(&old, &compiler), programs(&new, &after));
    let sent = [packets(&old, &before, seeds), packets(&new, &after, seeds)].concat();
    for (name, old) in &before {
        let new = after.get(name).cloned().unwrap_or_default();
        let packets: Vec<Packet> = sent.iter().filter(|(at, _)| at == name).map(|(_, packet)| packet.clone()).collect();
        carry_out(old, &new, &packets, &mut seed, seen)?;
    }
    Ok(())
}

fn run<I: Strategy>(input: I, test: impl Fn(I::Value, &Seen) -> TestCaseResult) {
    let cases = 32;
    let seen = Seen::default();
    let config = Config { failure_persistence: None, cases, max_shrink_iters: 64, ..Config::default() };
    TestRunner::new(config).run(&input, |value| test(value, &seen)).unwrap_or_else(|error| panic!("{error}"));
    let [between, changed, kept, paused] = [&seen.between, &seen.changed, &seen.kept, &seen.paused].map(Cell::get);
    eprintln!("{between} states in between; {changed} packets changed, {kept} kept, {paused} of them paused");
    // Walking where nothing changes proves nothing.
    assert!(between > u64::from(cases) * 10 && changed > u64::from(cases) / 4, "{between} states, {changed} packets");
}

#[test]
fn edits_half_written_let_nothing_pass_that_neither_policy_allows() {
    run(
        (state().boxed(), steps(1..8).boxed(), vec(flow_seed(), FLOWS), any::<u64>()),
        |(old, list, seeds, seed), seen| {
            let mut new = old.clone();
            for change in &list {
                try_apply(&mut new, change);
            }
            check(&old, &new, &seeds, seed, seen)
        },
    );
}

#[test]
fn another_policy_altogether_half_written_lets_nothing_pass_that_neither_allows() {
    run((state().boxed(), state().boxed(), vec(flow_seed(), FLOWS), any::<u64>()), |(old, new, seeds, seed), seen| {
        check(&old, &new, &seeds, seed, seen)
    });
}
