//! Compiling: from nothing, and one change.

use crate::{
    fabric::{self, LOCAL, SWITCH},
    sample::Sample,
};
use anyhow::{Context, Result, ensure};
use bulkhead_compile::{Compiled, Compiler, Numbers};
use bulkhead_pipeline::Delta;
use bulkhead_policy::{Change, State};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Compilations from nothing, at least one and at most this many in [`PATIENCE`].
const RUNS: usize = 7;
/// How often each change is made, at most, in [`PATIENCE`].
const CYCLES: usize = 10_000;
/// How long one series goes on.
const PATIENCE: Duration = Duration::from_secs(8);

/// Measures a fabric of this many workloads.
pub(crate) fn measure(workloads: usize) -> Result<Value> {
    let documents = fabric::documents(workloads);
    let mut state = fabric::state(&documents)?;
    let mut nothing = Sample::default();
    let mut last = None;
    while last.is_none() || (nothing.total() < PATIENCE && nothing.len() < RUNS) {
        // Taking an old compiler apart is not part of it.
        drop(last.take());
        let began = Instant::now();
        let made = Compiler::new(&state, Numbers::default())?;
        nothing.add(began.elapsed());
        last = Some(made);
    }
    let (mut compiler, _) = last.context("nothing was compiled")?;
    let entries = compiler.program(&SWITCH.parse()?).map_or(0, |program| program.len());

    let workload = cycle(&mut state, &mut compiler, &workload_steps(workloads)?)?;
    let policy = cycle(&mut state, &mut compiler, &policy_steps()?)?;
    Ok(json!({
        "workloads": workloads,
        "policies": state.policies.len(),
        "localWorkloads": LOCAL.min(workloads),
        "entriesOnSwitch": entries,
        "fromNothing": nothing.milliseconds(),
        "workload": workload,
        "policyOfTenByTenIdentities": policy,
    }))
}

/// A change with the name that its time is reported under.
type Step = (&'static str, Change);

/// Another workload on the switch, with labels that are known; other labels that are known; gone.
fn workload_steps(workloads: usize) -> Result<[Step; 3]> {
    let with_labels_of = |index| {
        let mut document = fabric::workload(workloads, true);
        document["metadata"]["labels"] = fabric::workload(index, true)["metadata"]["labels"].take();
        fabric::change(&document)
    };
    let (added, relabelled) = (with_labels_of(0)?, with_labels_of(5)?);
    let removed = Change::remove(added.key.clone());
    Ok([("added", added), ("relabelled", relabelled), ("removed", removed)])
}

/// A policy about ten identities of the switch with ten identities as peers; another port; gone.
fn policy_steps() -> Result<[Step; 3]> {
    let (added, edited) = (fabric::change(&fabric::wide_policy(7000))?, fabric::change(&fabric::wide_policy(7001))?);
    let removed = Change::remove(added.key.clone());
    Ok([("added", added), ("portChanged", edited), ("removed", removed)])
}

/// Does the steps in turn, again and again; each is measured.
fn cycle(state: &mut State, compiler: &mut Compiler, steps: &[Step]) -> Result<Value> {
    let mut samples: Vec<_> = steps.iter().map(|_| (Sample::default(), (0, 0))).collect();
    let began = Instant::now();
    for _ in 0..CYCLES {
        for ((name, change), (sample, size)) in steps.iter().zip(&mut samples) {
            let change = std::slice::from_ref(change);
            state.apply(change);
            let start = Instant::now();
            let compiled = compiler.apply(change)?;
            sample.add(start.elapsed());
            *size = sizes(&compiled);
            ensure!(*size != (0, 0), "{name} changes no switch: nothing was measured");
        }
        if began.elapsed() > PATIENCE {
            break;
        }
    }
    let told = steps.iter().zip(samples).map(|((name, _), (sample, (added, removed)))| {
        let mut told = sample.microseconds();
        told["entriesAdded"] = added.into();
        told["entriesRemoved"] = removed.into();
        ((*name).to_owned(), told)
    });
    Ok(Value::Object(told.collect()))
}

/// Entries added or rewritten, and removed, on all switches.
fn sizes(compiled: &Compiled) -> (usize, usize) {
    let sum = |of: fn(&Delta) -> usize| compiled.deltas.values().map(of).sum();
    (sum(|delta| delta.add.len()), sum(|delta| delta.remove.len()))
}
