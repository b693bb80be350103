//! Memory: of compiling, in a process of its own, and of the controller.

use crate::fabric::{self, SWITCH};
use anyhow::{Context, Result};
use bulkhead_compile::{Compiler, Numbers};
use bulkhead_policy::State;
use bulkhead_tests::controller::Controller;
use serde_json::{Value, json};
use std::{fs, net::Ipv4Addr, process::Command, time::Instant};

/// What one process needs to hold a fabric of this many workloads and to compile it once.
pub(crate) fn compile(workloads: usize) -> Result<Value> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--memory-of", &workloads.to_string()])
        .output()
        .context("cannot run a second process")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The second process: documents are read one by one, so that only what the state keeps is counted.
pub(crate) fn of(workloads: usize) -> Result<Value> {
    let before = kilobytes("/proc/self/status", "VmRSS:")?;
    let mut state = State::default();
    for document in fabric::each(workloads) {
        state.apply(&[fabric::change(&document)?]);
    }
    let loaded = kilobytes("/proc/self/status", "VmRSS:")?;
    let began = Instant::now();
    let (compiler, compiled) = Compiler::new(&state, Numbers::default())?;
    let took = began.elapsed();
    let held = kilobytes("/proc/self/status", "VmRSS:")?;
    let entries = compiler.program(&SWITCH.parse()?).map_or(0, |program| program.len());
    drop((compiled, compiler));
    Ok(json!({
        "workloads": workloads,
        "policies": state.policies.len(),
        "entriesOnSwitch": entries,
        "compiledInMs": took.as_millis(),
        "startMB": megabytes(before),
        "stateMB": megabytes(loaded - before),
        "compilerMB": megabytes(held.saturating_sub(loaded)),
        "peakMB": megabytes(kilobytes("/proc/self/status", "VmHWM:")?),
    }))
}

/// The controller's memory with a fabric of this many workloads, no switch connected.
pub(crate) fn controller(workloads: usize) -> Result<Value> {
    let program = std::env::current_exe()?.with_file_name("bulkheadd");
    let controller = Controller::start(&program, Ipv4Addr::LOCALHOST)?;
    let pss = || controller.memory().map(|bytes| megabytes(bytes >> 10));
    let empty = pss()?;
    fabric::upload(&controller.client, workloads)?;
    let peak = megabytes(controller.peak()? >> 10);
    Ok(json!({"workloads": workloads, "emptyPssMB": empty, "pssMB": pss()?, "peakRssMB": peak}))
}

fn kilobytes(file: &str, field: &str) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number =
        line.and_then(|rest| rest.split_whitespace().next()).with_context(|| format!("{file} has no {field}"))?;
    Ok(number.parse()?)
}

fn megabytes(kilobytes: u64) -> f64 {
    (kilobytes as f64 / 102.4).round() / 10.0
}
