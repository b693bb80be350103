//! A policy edit over HTTP, until a real switch has acknowledged it.

use crate::{
    fabric::{self, DATAPATH, LOCAL, SWITCH},
    sample::Sample,
};
use anyhow::{Context, Result, bail, ensure};
use bulkhead_client::Client;
use bulkhead_lab::{Hypervisor, Lab, hypervisor::BRIDGE};
use bulkhead_tests::controller::free;
use serde_json::{Value, json};
use std::{
    net::Ipv4Addr,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

/// Edits that are measured.
const EDITS: u16 = 200;
/// How long the controller may take to start, the switch to connect and take its first program.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long an edit may take.
const EDIT_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two looks at something that is coming.
const PAUSE: Duration = Duration::from_millis(20);

/// Measures edits of a fabric of this many workloads.
pub(crate) fn measure(workloads: usize) -> Result<Value> {
    let daemon = std::env::current_exe()?.with_file_name("bulkheadd");
    ensure!(daemon.is_file(), "{} is missing: `cargo build --workspace --bins`", daemon.display());
    let mut lab = Lab::new("bench")?;
    let switch = lab.hypervisor(SWITCH, DATAPATH)?;
    add_ports(&switch)?;
    let (listen, openflow) = (free(Ipv4Addr::LOCALHOST)?, free(switch.controller_address())?);
    let mut command = Command::new(daemon);
    command.args(["--listen", &listen.to_string(), "--openflow-listen", &openflow.to_string(), "--data-dir"]);
    command.arg(lab.dir().join("data"));
    let process = lab.program("bulkheadd", command)?;
    let client = Client::new(&format!("http://{listen}"))?;
    until(|| Ok(client.status().is_ok_and(|status| status.ready)), || process.runs())
        .context("bulkheadd does not start")?;

    let began = Instant::now();
    let first = fabric::upload(&client, workloads).context("the fabric is not accepted")?;
    let accepted = began.elapsed();
    switch.set_controller(openflow)?;
    let mut entries = 0;
    let there = || -> Result<bool> {
        let status = client.status()?;
        let found = status.switches.iter().find(|found| found.name == SWITCH);
        entries = found.map_or(0, |found| found.entries);
        Ok(found.is_some_and(|found| found.connected && found.acknowledged >= first && found.pending == 0))
    };
    until(there, || process.runs()).context("the switch does not take its first program")?;

    let (mut answered, mut acknowledged) = (Sample::default(), Sample::default());
    for edit in 1..=EDITS {
        // An edit is never the same twice, and always of a policy about workloads of the switch.
        let document = fabric::policy(usize::from(edit) % (LOCAL / 4), 1, edit);
        let began = Instant::now();
        let answer = client.apply(&[document], false)?;
        answered.add(began.elapsed());
        let realized = client.realization(answer.revision, EDIT_LIMIT)?;
        acknowledged.add(began.elapsed());
        ensure!(
            realized.realized && realized.disconnected.is_empty(),
            "the switch does not take an edit: {realized:?}"
        );
    }
    let flows = switch.flows()?.len();
    lab.down()?;
    Ok(json!({
        "workloads": workloads,
        "localWorkloads": LOCAL,
        "switch": "Open vSwitch, userspace datapath",
        "entriesOnSwitch": entries,
        "flowsCountedByOvsOfctl": flows,
        "wholeFabricAcceptedMs": (accepted.as_secs_f64() * 1e3).round(),
        "requestToAccepted": answered.microseconds(),
        "requestToAcknowledged": acknowledged.microseconds(),
        "note": "each edit is two HTTP requests: the change (durable when answered), then its realization",
    }))
}

/// The ports of the switch's own workloads. Nothing is behind them: packets are not what is measured.
fn add_ports(switch: &Hypervisor) -> Result<()> {
    for index in 0..LOCAL {
        let port = fabric::port(index);
        switch.vsctl(&["add-port", BRIDGE, &port, "--", "set", "interface", &port, "type=internal"])?;
    }
    Ok(())
}

/// Waits until something is true, as long as something else stays so.
fn until(mut done: impl FnMut() -> Result<bool>, alive: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    while !done()? {
        ensure!(alive(), "the controller ended");
        if Instant::now() >= deadline {
            bail!("not within {} s", START_LIMIT.as_secs());
        }
        sleep(PAUSE);
    }
    Ok(())
}
