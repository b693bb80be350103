//! Policies whose programs explode elsewhere, and how many entries the mix of policies comes to.

use crate::{
    fabric::{self, LOCAL, SWITCH},
    sample::Sample,
};
use anyhow::ensure;
use bulkhead_compile::{Compiled, Compiler, Numbers};
use bulkhead_policy::{Change, State};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::Ipv4Addr, time::Instant};

/// How often each change is made.
const RUNS: usize = 7;
/// Exceptions of the negated set.
const EXCEPTIONS: usize = 500;
/// Identities on either side of the largest rule.
const GROUP: usize = 10_000;

/// A policy with many exceptions, and one between large groups.
pub(crate) fn hostile() -> anyhow::Result<Value> {
    Ok(json!({"negated": negated()?, "largeGroups": large_groups()?}))
}

/// A network without 500 addresses: each is told apart at either end of a packet, and one rule names the network.
fn negated() -> anyhow::Result<Value> {
    let policy = |except: &[String]| {
        json!({"kind": "Policy", "metadata": {"name": "negated"}, "spec": {
            "tier": "platform", "subject": {"matchLabels": {"ns": "ns-0", "role": "web"}},
            "ingress": [{"action": "allow", "from": [{"cidr": "172.16.0.0/12", "except": except}]}]}})
    };
    let mut exceptions = BTreeSet::new();
    // Knuth's multiplicative hash: scattered, and the same in every run.
    let mut number = 0_u32;
    while exceptions.len() < EXCEPTIONS {
        number += 1;
        exceptions.insert(0xac10_0000 | number.wrapping_mul(2_654_435_761) >> 12);
    }
    let all: Vec<_> = exceptions.iter().map(|bits| format!("{}/32", Ipv4Addr::from(*bits))).collect();
    let mut state = fabric::state(&fabric::documents(1_000))?;
    let (took, entries) = series(&mut state, &fabric::change(&policy(&all))?)?;
    let (_, plain) = series(&mut state, &fabric::change(&policy(&[]))?)?;
    ensure!(entries == plain + 2 * EXCEPTIONS, "{entries} entries, without exceptions {plain}");
    Ok(json!({"exceptions": EXCEPTIONS, "entries": entries, "atMostMs": 40, "compile": took}))
}

/// Ten thousand identities of a switch that as many others may reach: their sum, not their product.
fn large_groups() -> anyhow::Result<Value> {
    let workload = |index: usize, side: &str| {
        let mut document = fabric::workload(index, side == "here");
        document["metadata"]["labels"] = json!({"side": side, "n": index.to_string()});
        document
    };
    let sides = (0..GROUP).map(|n| workload(n, "here")).chain((GROUP..2 * GROUP).map(|n| workload(n, "there")));
    let mut state = fabric::state(&fabric::base().into_iter().chain(sides).collect::<Vec<_>>())?;
    let policy = json!({"kind": "Policy", "metadata": {"name": "groups"}, "spec": {
        "tier": "platform", "subject": {"matchLabels": {"side": "here"}},
        "ingress": [{"action": "allow", "from": [{"matchLabels": {"side": "there"}}],
                     "ports": [{"protocol": "tcp", "port": 443}]}]}});
    let (took, entries) = series(&mut state, &fabric::change(&policy)?)?;
    ensure!(entries <= 2 * GROUP + 2, "{entries} entries");
    Ok(json!({"identitiesOnEitherSide": GROUP, "entries": entries, "compile": took}))
}

/// Makes a change and takes it back, again and again: how long making it takes, and the entries that it adds.
fn series(state: &mut State, change: &Change) -> anyhow::Result<(Value, usize)> {
    let (mut compiler, _) = Compiler::new(state, Numbers::default())?;
    let back = Change::remove(change.key.clone());
    let mut sample = Sample::default();
    let mut entries = 0;
    for _ in 0..RUNS {
        state.apply(std::slice::from_ref(change));
        let began = Instant::now();
        let compiled = compiler.apply(std::slice::from_ref(change))?;
        sample.add(began.elapsed());
        entries = added(&compiled);
        state.apply(std::slice::from_ref(&back));
        compiler.apply(std::slice::from_ref(&back))?;
    }
    Ok((sample.milliseconds(), entries))
}

fn added(compiled: &Compiled) -> usize {
    compiled.deltas.values().map(|delta| delta.add.len()).sum()
}

/// Entries at one switch of the whole mix, per local workload and per policy about one; then of twice the fabric, and
/// of twice as many local workloads. Nothing may more than double.
pub(crate) fn entries(workloads: usize) -> anyhow::Result<Value> {
    let count = |workloads: usize, local: usize| -> anyhow::Result<usize> {
        let state = fabric::state(&fabric::with_local(workloads, local).collect::<Vec<_>>())?;
        let (compiler, _) = Compiler::new(&state, Numbers::default())?;
        Ok(compiler.program(&SWITCH.parse()?).map_or(0, |program| program.len()))
    };
    let (entries, policies) = (count(workloads, LOCAL)?, fabric::policies_about(LOCAL));
    let larger = count(2 * workloads, LOCAL)?;
    let denser = count(workloads, 2 * LOCAL)?;
    ensure!(larger <= entries, "{entries} entries, {larger} in twice the fabric");
    ensure!(denser <= 2 * entries, "{entries} entries, {denser} with twice the local workloads");
    let per = |count: usize, of: usize| (count as f64 / of as f64 * 10.0).round() / 10.0;
    Ok(json!({
        "workloads": workloads,
        "localWorkloads": LOCAL,
        "policiesOfLocalWorkloads": policies,
        "entries": entries,
        "entriesPerLocalWorkload": per(entries, LOCAL),
        "entriesPerPolicyOfLocalWorkloads": per(entries, policies),
        "entriesInTwiceTheFabric": larger,
        "entriesWithTwiceTheLocalWorkloads": denser,
    }))
}
