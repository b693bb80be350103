//! Compiling: from nothing, and one change.

use crate::{
    fabric::{self, LOCAL, SWITCH},
    sample::Sample,
};
use anyhow::Context;
use bulkhead_compile::{Compiled, Compiler, Numbers};
use bulkhead_pipeline::Delta;
use bulkhead_policy::{Change, State};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Compilations from nothing, at least one and at most this many in [`PATIENCE`].
const RUNS: usize = 5;
/// Changes of each kind, at most this many in [`PATIENCE`].
const CHANGES: usize = 400;
/// How long one series goes on.
const PATIENCE: Duration = Duration::from_secs(8);

/// Measures a fabric of this many workloads.
pub(crate) fn measure(workloads: usize) -> anyhow::Result<Value> {
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

    // Another workload of the first application, with the labels of one that is there.
    let mut known = fabric::workload(workloads, true);
    let labels = fabric::workload(0, true)["metadata"]["labels"].take();
    known["metadata"]["labels"] = labels;
    let known = fabric::change(&known)?;
    let gone = Change::remove(known.key.clone());
    let workload = series(&mut state, &mut compiler, [&known, &gone])?;

    let (edited, back) = (fabric::change(&fabric::policy(0, 1, 1))?, fabric::change(&fabric::policy(0, 1, 0))?);
    let policy = series(&mut state, &mut compiler, [&edited, &back])?;
    Ok(json!({
        "workloads": workloads,
        "policies": state.policies.len(),
        "localWorkloads": LOCAL.min(workloads),
        "entriesOnSwitch": entries,
        "fromNothing": nothing.milliseconds(),
        "addWorkloadWithKnownLabels": workload,
        "editPolicyOfLocalWorkloads": policy,
    }))
}

/// Does a change and takes it back, again and again; the first of the two is what is reported.
fn series(state: &mut State, compiler: &mut Compiler, pair: [&Change; 2]) -> anyhow::Result<Value> {
    let mut sample = Sample::default();
    let mut size = (0, 0);
    let began = Instant::now();
    while sample.len() < CHANGES && (sample.len() == 0 || began.elapsed() < PATIENCE) {
        let [there, back] = pair.map(std::slice::from_ref);
        state.apply(there);
        let start = Instant::now();
        let compiled = compiler.apply(state, there)?;
        sample.add(start.elapsed());
        size = sizes(&compiled);
        anyhow::ensure!(size != (0, 0), "the change changes no switch: nothing was measured");
        state.apply(back);
        compiler.apply(state, back)?;
    }
    let mut told = sample.microseconds();
    if let Some(told) = told.as_object_mut() {
        told.insert("entriesAdded".into(), size.0.into());
        told.insert("entriesRemoved".into(), size.1.into());
    }
    Ok(told)
}

/// Entries added or rewritten, and removed, on all switches.
fn sizes(compiled: &Compiled) -> (usize, usize) {
    let sum = |of: fn(&Delta) -> usize| compiled.deltas.values().map(of).sum();
    (sum(|delta| delta.add.len()), sum(|delta| delta.remove.len()))
}
