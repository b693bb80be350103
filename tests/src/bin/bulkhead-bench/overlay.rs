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

/// Switches of each network, and its workloads on each of them, in [`reachable`].
const SPREAD: usize = 5;
const EACH: usize = 2;

fn workload(switch: usize, number: usize) -> Value {
    one("prod", switch, number)
}

fn one(network: &str, switch: usize, number: usize) -> Value {
    json!({"kind": "Workload", "metadata": {"name": format!("w-{switch}-{number}"), "labels": {"app": "x"}},
           "spec": {"network": network, "interfaces": [{
               "mac": format!("02:00:{:02x}:{:02x}:{:02x}:{:02x}", switch >> 8, switch & 255, number >> 8, number & 255),
               "ips": [format!("10.{}.{}.{number}", switch >> 8, switch & 255)],
               "attachment": {"switch": format!("s{switch}"), "port": format!("p{number}")}}]}})
}

fn switch(number: usize) -> Value {
    json!({"kind": "Switch", "metadata": {"name": format!("s{number}")},
           "spec": {"driver": "openflow", "datapathId": format!("{:#x}", number + 1),
                    "vtep": format!("192.0.{}.{}", 2 + (number >> 8), number & 255)}})
}

/// What a switch holds, of a fabric of so many switches and networks, so many of them with workloads there. Each network
/// is on [`SPREAD`] switches.
pub(crate) fn reachable([switches, networks, here]: [usize; 3]) -> Result<Value> {
    let mut documents: Vec<Value> = (0..switches).map(switch).collect();
    for network in 0..networks {
        let name = format!("n{network}");
        documents.push(json!({"kind": "Network", "metadata": {"name": name},
                              "spec": {"vni": network + 1, "subnets": ["10.0.0.0/8"]}}));
        for place in 0..SPREAD {
            let at = if network < here { place } else { 1 + (network + place) % (switches - 1) };
            documents.extend((0..EACH).map(|number| one(&name, at, network * EACH + number)));
        }
    }
    let (compiler, _) = Compiler::new(&fabric::state(&documents)?, Numbers::default())?;
    let entries = compiler.program(&"s0".parse()?).map_or(0, |program| program.len());
    Ok(json!({"switches": switches, "networks": networks, "networksOnSwitch": here, "entriesOnSwitch": entries}))
}

/// Measures one network on so many switches, each with a tunnel to every other.
pub(crate) fn measure(switches: usize) -> Result<Value> {
    let network =
        json!({"kind": "Network", "metadata": {"name": "prod"}, "spec": {"vni": 5001, "subnets": ["10.0.0.0/8"]}});
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn entries_follow_what_is_reachable_from_a_switch_and_not_the_fabric() {
        let entries = |shape| reachable(shape).unwrap()["entriesOnSwitch"].as_u64().unwrap();
        let four = entries([10, 4, 4]);
        assert_eq!([[50, 4, 4], [50, 20, 4], [50, 60, 4]].map(entries), [four; 3]);
        let (eight, sixteen) = (entries([50, 60, 8]), entries([50, 60, 16]));
        assert_eq!(sixteen - eight, 2 * (eight - four), "each network that is present costs the same");
    }
}
