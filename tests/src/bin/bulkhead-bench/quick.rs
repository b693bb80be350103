//! The quick comparison: ratios within one run, held against checked-in ones.
//!
//! Every ratio is better when it is lower, and says little about the machine: our time against a peer's, a large
//! fabric's against a small one's, or memory of the same fabric.

use crate::{bulk, compile, edit, memory};
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fs, path::Path};

/// How much worse than the checked-in ratio is told loudly.
const TOLERANCE: f64 = 1.2;
/// The small and the large fabric, in workloads.
const SIZES: [usize; 2] = [1_000, 10_000];
/// The same for edits over HTTP, which take a controller and a switch each.
const EDITED: [usize; 2] = [1_000, 5_000];
/// Entries installed in bulk.
const ENTRIES: usize = 10_000;

/// Measures the ratios. What needs Open vSwitch is left out where there is none.
pub(crate) fn measure(on_ovs: bool) -> Result<BTreeMap<String, f64>> {
    let mut ratios = BTreeMap::new();
    let [small, large] = [compile::measure(SIZES[0])?, compile::measure(SIZES[1])?];
    let growth = (SIZES[1] / SIZES[0]) as f64;
    let mut add = |name: &str, value: Result<f64>| value.map(|value| ratios.insert(name.to_owned(), value));
    let both = |pointer: &str| Ok::<_, anyhow::Error>(number(&large, pointer)? / number(&small, pointer)?);
    add(
        "compile from nothing, a workload of 10,000 / one of 1,000",
        both("/fromNothing/medianMs").map(|r| r / growth),
    )?;
    add("workload added at 10,000 / at 1,000", both("/workload/added/p50us"))?;
    add("policy's port changed at 10,000 / at 1,000", both("/policyOfTenByTenIdentities/portChanged/p50us"))?;
    let edit_us = number(&small, "/policyOfTenByTenIdentities/portChanged/p50us")?;
    let nothing_ms = number(&small, "/fromNothing/medianMs")?;
    add("policy's port changed / compile from nothing, 1,000", Ok(edit_us / 1e3 / nothing_ms))?;
    add("memory of compiling 10,000, MB", number(&memory::compile(SIZES[1])?, "/peakMB"))?;
    if on_ovs {
        let bulk = bulk::measure(&[ENTRIES])?;
        let ours = number(&bulk, "/sizes/0/bulkhead/medianMs")?;
        add(
            "bulk install of 10,000 / ovs-ofctl's",
            number(&bulk, "/sizes/0/ovsOfctl/medianMs").map(|peer| ours / peer),
        )?;
        let [small, large] = [edit::measure(EDITED[0])?, edit::measure(EDITED[1])?];
        let p50 = |edit: &Value| number(edit, "/requestToAcknowledged/p50us");
        add("edit acknowledged at 5,000 / at 1,000", Ok(p50(&large)? / p50(&small)?))?;
    }
    Ok(ratios)
}

/// Compares with the file's ratios; says how many are worse than the tolerance. `write` writes the file instead.
pub(crate) fn report(ratios: &BTreeMap<String, f64>, file: &Path, write: bool) -> Result<usize> {
    if write {
        let all: Map<_, _> = ratios.iter().map(|(name, value)| (name.clone(), rounded(*value).into())).collect();
        fs::write(file, format!("{:#}\n", Value::Object(all)))?;
        return Ok(0);
    }
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let known: BTreeMap<String, f64> = serde_json::from_str(&text)?;
    let mut worse = 0;
    println!("{:<62}{:>10}{:>12}", "RATIO (LOWER IS BETTER)", "NOW", "CHECKED IN");
    for (name, value) in ratios {
        let before = known.get(name).copied();
        let is_worse = before.is_some_and(|before| *value > before * TOLERANCE);
        let told = before.map_or_else(|| "new".to_owned(), |before| format!("{before:.3}"));
        println!("{name:<62}{value:>10.3}{told:>12}{}", if is_worse { "   <<< WORSE" } else { "" });
        worse += usize::from(is_worse);
    }
    for (name, before) in known.iter().filter(|(name, _)| !ratios.contains_key(*name)) {
        println!("{name:<62}{:>10}{before:>12.3}", "not run");
    }
    Ok(worse)
}

fn number(value: &Value, pointer: &str) -> Result<f64> {
    value.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("no number at {pointer}"))
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_fifth_worse_is_told() {
        let file = std::env::temp_dir().join(format!("bulkhead-bench-{}.json", std::process::id()));
        let ratios = |a, b| BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        assert_eq!(report(&ratios(1.0, 0.5), &file, true).unwrap(), 0);
        assert_eq!(report(&ratios(1.19, 0.1), &file, false).unwrap(), 0);
        assert_eq!(report(&ratios(1.3, 0.7), &file, false).unwrap(), 2);
        fs::remove_file(file).unwrap();
    }
}
