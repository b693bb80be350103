//! R20: after each of many random edits the incremental programs are what compiling from nothing makes, to the byte.

use crate::common::{self, BASE, changes, policy, workload};
use bulkhead_compile::{Compiler, Numbers};
use bulkhead_pipeline::{Masks, Program, render_program};
use bulkhead_policy::{
    Change, Kind, State,
    arbitrary::{state, steps, try_apply},
};
use bulkhead_topology::{Name, alone};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use std::collections::BTreeMap;

/// Edits in `make test`; `make edits` says how many it does in this variable.
const EDITS: &str = "BULKHEAD_EDITS";
/// Edits if nothing else is said: some seconds of a debug build.
const FEW: u64 = 200;
/// Edits of one state; then another one, with fresh numbers.
const ONE_STATE: u64 = 2_000;

#[test]
fn r20_incremental_is_from_nothing_after_every_edit() {
    let edits = std::env::var(EDITS).ok().map_or(FEW, |text| text.parse().unwrap());
    let mut done = 0;
    for seed in 0_u64.. {
        let wanted = ONE_STATE.min(edits - done);
        if wanted == 0 {
            break;
        }
        run(seed, wanted);
        done += wanted;
        if edits > FEW {
            println!("{done} edits");
        }
    }
}

fn run(seed: u64, edits: u64) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut now = state().new_tree(&mut runner).unwrap().current();
    let (mut compiler, _) = Compiler::new(&now, Numbers::default()).unwrap();
    let program = |name: &Name| Some((name.clone(), compiler.program(name)?.clone()));
    let mut sent: BTreeMap<Name, Program> = now.switches.keys().filter_map(program).collect();
    let step = steps(1);
    let mut done = 0;
    while done < edits {
        let changes = step.new_tree(&mut runner).unwrap().current().remove(0);
        if !try_apply(&mut now, &changes) {
            continue;
        }
        done += 1;
        let compiled = compiler.apply(&changes).unwrap();
        // A switch that is taken away is let go with what it has; one that comes back starts anew.
        for change in changes.iter().filter(|c| c.key.kind == Kind::Switch) {
            if compiler.program(&change.key.name).is_none() {
                sent.remove(&change.key.name);
            }
        }
        for (switch, delta) in &compiled.deltas {
            sent.entry(switch.clone()).or_default().apply(delta);
        }
        same(&now, &compiler, &sent, &changes, (seed, done));
    }
}

fn same(
    state: &State,
    compiler: &Compiler,
    sent: &BTreeMap<Name, Program>,
    changes: &[Change],
    (seed, edit): (u64, u64),
) {
    let anew = Compiler::new(state, compiler.numbers().clone()).unwrap().0;
    for switch in state.switches.keys() {
        let (now, wanted) = (compiler.program(switch), anew.program(switch));
        assert_eq!(compiler.masks(switch).cloned(), wanted.map(Masks::of), "seed {seed}, edit {edit}, {switch}");
        if now != wanted || sent.get(switch).or(Some(&Program::new())) != wanted {
            let text = |program: Option<&Program>| program.map(render_program).unwrap_or_default();
            assert_eq!(text(now), text(wanted), "seed {seed}, edit {edit}, {switch}: {changes:#?}");
            assert_eq!(text(sent.get(switch)), text(wanted), "seed {seed}, edit {edit}, deltas of {switch}");
        }
    }
}

/// Hands whose last part is done first.
fn last_first(parts: usize, part: &(dyn Fn(usize) + Sync)) {
    (0..parts).rev().for_each(part);
}

/// Enough workloads for all hands to be called, on four switches; `more` is said of each.
fn many(more: impl Fn(u16) -> String) -> String {
    let switches =
        (0..4).map(|switch| format!("---\nkind: Switch\nmetadata: {{name: s{switch}}}\nspec: {{driver: sim}}\n"));
    let workloads = (1..=2_000).map(|number| {
        let written = workload(number, &format!("on: s{}", number % 4), &more(number));
        written.replace("switch: hv1", &format!("switch: s{}", number % 4))
    });
    BASE.to_owned() + &switches.chain(workloads).collect::<String>()
}

#[test]
fn whoever_does_it_the_programs_are_the_same() {
    // Each policy has prefixes of its own, which are numbered.
    let policies = (0..4).map(|switch| {
        let from = format!("ingress: [{{action: allow, from: [{{cidr: 192.0.2.{switch}/32}}]}}]");
        policy(&format!("p{switch}"), &format!("subject: {{matchLabels: {{on: s{switch}}}}}, {from}"))
    });
    let all = many(|_| String::new()) + &policies.collect::<String>();
    let moved = changes(&all.replace("192.0.2.", "198.51.100.").replace("on: s1", "on: s2"));
    let (state, all) = (common::state(&all), changes(&all));
    let compiled = |hands| {
        let mut at_once = Compiler::by(hands, &state, Default::default()).unwrap().0;
        let mut step_by_step = Compiler::by(hands, &State::default(), Default::default()).unwrap().0;
        let changes = [&all, &moved].map(|changes| step_by_step.apply(changes).unwrap());
        let programs = |compiler: &Compiler| {
            let programs = state.switches.keys().map(|name| compiler.program(name).cloned());
            programs.collect::<Vec<_>>()
        };
        let before = programs(&at_once);
        // What is taken back was never there: a change of everything, and a switch that went.
        let gone = Kind::Switch.named(&"s0".parse().unwrap());
        let there = all.iter().find(|change| change.key == gone).unwrap();
        for (change, back) in [(&moved[..], &all[..]), (&[Change::remove(gone.clone())], std::slice::from_ref(there))] {
            let compiled = at_once.apply(change).unwrap();
            assert_ne!(programs(&at_once), before);
            at_once.withdraw(back, &compiled.numbers).unwrap();
            assert_eq!(programs(&at_once), before);
        }
        assert_eq!(at_once.apply(&moved).unwrap().deltas, changes[1].deltas);
        assert_eq!(programs(&at_once), programs(&step_by_step));
        (changes, programs(&step_by_step))
    };
    assert_eq!(compiled(alone), compiled(last_first));
}

#[test]
fn of_two_switches_that_are_too_large_the_first_is_told_whoever_finds_it() {
    // On s1 there are 500 ways to read the port's name, on s2 there are 400.
    let named = |number: u16| match number % 4 {
        1 => format!(", namedPorts: {{web: {number}/tcp}}"),
        2 if number < 1_600 => format!(", namedPorts: {{web: {number}/tcp}}"),
        _ => String::new(),
    };
    let by_name =
        "subject: {matchExpressions: [{key: on, operator: Exists}]}, ingress: [{action: allow, ports: [{port: web}]}]";
    let state = common::state(&(many(named) + &policy("p", by_name)));
    for hands in [alone, last_first] {
        let refused = Compiler::by(hands, &state, Default::default()).unwrap_err();
        assert_eq!((refused.size, refused.limit), (500, 256), "{refused}");
    }
}
