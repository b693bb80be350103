//! The overlay: what a network on many switches holds on each, and what one more workload of it costs.

use crate::{fabric, sample::Sample};
use anyhow::{Context, Result};
use bulkhead_compile::{Compiler, Numbers};
use bulkhead_policy::Change;
use serde_json::{Value, json};
use std::time::Instant;

/// Workloads of each switch, of one label set.
const LOCAL: usize = 20;
/// How often the workload comes and goes.
const CYCLES: usize = 200;

fn workload(switch: usize, number: usize) -> Value {
    json!({"kind": "Workload", "metadata": {"name": format!("w-{switch}-{number}"), "labels": {"app": "x"}},
           "spec": {"network": "prod", "interfaces": [{
               "mac": format!("02:00:{:02x}:{:02x}:{:02x}:{:02x}", switch >> 8, switch & 255, number >> 8, number & 255),
               "ips": [format!("10.{}.{}.{number}", switch >> 8, switch & 255)],
               "attachment": {"switch": format!("s{switch}"), "port": format!("p{number}")}}]}})
}

/// Measures one network on so many switches, each with a tunnel to every other.
pub(crate) fn measure(switches: usize) -> Result<Value> {
    let network =
        json!({"kind": "Network", "metadata": {"name": "prod"}, "spec": {"vni": 5001, "subnets": ["10.0.0.0/8"]}});
    let switch = |number: usize| {
        json!({"kind": "Switch", "metadata": {"name": format!("s{number}")},
               "spec": {"driver": "openflow", "datapathId": format!("{:#x}", number + 1),
                        "vtep": format!("192.0.{}.{}", 2 + (number >> 8), number & 255)}})
    };
    let all = (0..switches).flat_map(|at| [switch(at)].into_iter().chain((0..LOCAL).map(move |n| workload(at, n))));
    let documents: Vec<Value> = [network].into_iter().chain(all).collect();
    let state = fabric::state(&documents)?;
    let began = Instant::now();
    let (mut compiler, _) = Compiler::new(&state, Numbers::default())?;
    let nothing = began.elapsed();
    let at = "s0".parse()?;
    let entries = compiler.program(&at).map_or(0, |program| program.len());
    let added = fabric::change(&workload(0, LOCAL))?;
    let removed = Change::remove(added.key.clone());
    let (mut sample, mut deltas) = (Sample::default(), None);
    for _ in 0..CYCLES {
        let began = Instant::now();
        let compiled = compiler.apply(std::slice::from_ref(&added))?;
        sample.add(began.elapsed());
        deltas = Some(compiled.deltas);
        compiler.apply(std::slice::from_ref(&removed))?;
    }
    let deltas = deltas.context("nothing was added")?;
    let mut told = sample.microseconds();
    told["entriesAtItsSwitch"] = deltas.get(&at).map_or(0, |delta| delta.add.len()).into();
    let elsewhere =
        deltas.iter().filter(|(name, _)| **name != at).map(|(_, delta)| delta.add.len() + delta.remove.len());
    told["mostEntriesElsewhere"] = elsewhere.max().into();
    told["switchesChanged"] = deltas.len().into();
    Ok(json!({
        "switches": switches,
        "workloads": switches * LOCAL,
        "fromNothingMilliseconds": nothing.as_millis(),
        "entriesOnSwitch": entries,
        "workloadAdded": told,
    }))
}
