//! One port that a program names by name and by number: whoever has it by name has it.

use crate::common;
use bulkhead_pipeline::{Action, Cause, Delta, Entry, EntryKey, Field, Match, Next, Program, Stage};
use bulkhead_reconcile::{Input, Output, Ports};
use bulkhead_topology::Port;
use common::{bench::Bench, classify, port};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Lets the port's packets in, by its number.
fn by_number(number: u32, id: u32) -> Entry {
    let matches = Match::any().port(Port::Number(number));
    let actions = vec![Action::set(Field::SrcId, id.into())];
    Entry::new(Stage::Classify, 1, matches, actions, Next::Stage(Stage::Antispoof), Cause::Rule(id))
}

/// Leads to a port by its number.
fn to_number(number: u32) -> Entry {
    let matches = Match::any().with(Field::Ipv4Dst, number);
    let actions = vec![Action::SetOut(Port::Number(number))];
    Entry::new(Stage::Locate, 1, matches, actions, Next::Stage(Stage::Track), Cause::Rule(0))
}

/// Connects a switch whose ports are p1 to p3, which tells that.
fn connect(bench: &mut Bench) -> Option<Output> {
    let ports = (1..=3).flat_map(|n| [port(n), Port::Number(n.into())]).collect();
    let connected = Input::Connected { ports: &Ports::Known(ports), max_entries: 1000 };
    assert_eq!(bench.tell(connected), Some(Output::Read));
    assert_eq!(bench.tell(Input::Names(names())), None);
    bench.read_back()
}

fn names() -> BTreeMap<u32, std::sync::Arc<str>> {
    (1..=3).map(|n| (n, format!("p{n}").into())).collect()
}

fn removed(entries: [&Entry; 2]) -> Delta {
    Delta { remove: entries.map(|entry| entry.key.clone()).into(), add: Vec::new() }
}

/// Answers until nothing more is asked.
fn settle(bench: &mut Bench, mut output: Option<Output>) {
    while let Some(asked) = output {
        output = match asked {
            Output::Read => bench.read_back(),
            step => bench.confirm(Some(step)),
        };
        let (named, numbered) = (has(&bench.actual, &port(1)), has(&bench.actual, &Port::Number(1)));
        assert!(!(named && numbered), "two at one port");
    }
}

fn has(program: &Program, port: &Port) -> bool {
    program.iter().any(|entry| entry.ports().any(|named| named == port))
}

#[test]
fn what_names_the_number_waits_as_long_as_somebody_has_the_name() {
    let mut bench = Bench::new([classify(1, 7), by_number(1, 8), to_number(1), by_number(2, 9)].into_iter().collect());
    let first = connect(&mut bench);
    settle(&mut bench, first);
    assert_eq!(bench.actual, [classify(1, 7), by_number(2, 9)].into_iter().collect());
    let progress = bench.machine.progress();
    assert_eq!(progress.doubled, [(Port::Number(1), port(1))]);
    assert_eq!((progress.waiting, progress.missing.len()), (2, 0), "the port is there");
    // The one by name goes.
    let gone = Delta { remove: vec![classify(1, 7).key.clone()], add: Vec::new() };
    let output = bench.change(&gone);
    settle(&mut bench, output);
    assert_eq!(bench.actual, bench.desired);
    assert!(bench.machine.progress().doubled.is_empty() && bench.machine.progress().waiting == 0);
    // It comes back: the other's entries go before it is let in, or with it.
    let output = bench.change(&common::bench::add([classify(1, 7)]));
    settle(&mut bench, output);
    assert_eq!(bench.actual, [classify(1, 7), by_number(2, 9)].into_iter().collect());
    // Both go: nothing of the one that waited is ever sent.
    let output = bench.change(&removed([&classify(1, 7), &by_number(1, 8)]));
    settle(&mut bench, output);
    assert!(bench.machine.progress().doubled.is_empty());
}

/// Lets the port's packets of one VLAN in, by its name.
fn tagged(n: u8, id: u32) -> Entry {
    let matches = Match::any().port(port(n)).with(Field::Vlan, 0x1007u16);
    let actions = vec![Action::set(Field::SrcId, id.into())];
    Entry::new(Stage::Classify, 3, matches, actions, Next::Stage(Stage::Antispoof), Cause::Rule(id))
}

#[test]
fn a_port_is_somebodys_whatever_is_sent_there() {
    let mut bench = Bench::new([tagged(1, 7), by_number(1, 8)].into_iter().collect());
    let first = connect(&mut bench);
    settle(&mut bench, first);
    assert_eq!(bench.actual, [tagged(1, 7)].into_iter().collect());
    let output = bench.change(&Delta { remove: vec![tagged(1, 7).key.clone()], add: Vec::new() });
    settle(&mut bench, output);
    assert_eq!(bench.actual, [by_number(1, 8)].into_iter().collect());
    let output = bench.change(&common::bench::add([tagged(1, 7)]));
    settle(&mut bench, output);
    assert_eq!(bench.actual, [tagged(1, 7)].into_iter().collect());
}

#[test]
fn a_switch_that_tells_late_is_mended() {
    let mut bench = Bench::new([classify(1, 7), by_number(1, 8)].into_iter().collect());
    let ports = [port(1), Port::Number(1)].into();
    let connected = Input::Connected { ports: &Ports::Known(ports), max_entries: 1000 };
    assert_eq!(bench.tell(connected), Some(Output::Read));
    let step = bench.read_back();
    bench.confirm(step);
    assert_eq!(bench.tell(Input::Names(names())), Some(Output::Read));
    let mend = bench.read_back();
    settle(&mut bench, mend);
    assert_eq!(bench.actual, [classify(1, 7)].into_iter().collect());
}

proptest! {
    /// Whatever comes and goes in whatever order, nobody else is ever let in at a port that somebody has by name, and in
    /// the end everybody else has theirs.
    #[test]
    fn two_are_never_at_one_port(steps in prop::collection::vec((0u8..3, 1u8..4, any::<bool>(), any::<bool>()), 1..40)) {
        let mut bench = Bench::new(Program::new());
        let first = connect(&mut bench);
        settle(&mut bench, first);
        let mut asked: Option<Output> = None;
        for (kind, n, comes, answered) in steps {
            let entry = match kind {
                0 => by_number(n.into(), 8),
                1 => classify(n, 7),
                _ => tagged(n, 7),
            };
            let delta = match (comes, bench.desired.get(&entry.key).is_some()) {
                (true, false) => common::bench::add([entry]),
                (false, true) => Delta { remove: vec![entry.key.clone()], add: Vec::new() },
                _ => Delta::default(),
            };
            let output = bench.change(&delta);
            prop_assert!(output.is_none() || asked.is_none(), "one thing at a time");
            asked = output.or(asked);
            if answered {
                settle(&mut bench, asked.take());
            }
        }
        settle(&mut bench, asked);
        let twin = |key: &EntryKey| (1..4).any(|n| key.matches.in_port == Some(Port::Number(n.into()))
            && [classify(n, 7), tagged(n, 7)].iter().any(|entry| bench.desired.get(&entry.key).is_some()));
        let expected: Program = bench.desired.iter().filter(|entry| !twin(&entry.key)).cloned().collect();
        prop_assert_eq!(&bench.actual, &expected);
        prop_assert_eq!(bench.machine.progress().waiting, bench.desired.len() - expected.len());
    }
}
