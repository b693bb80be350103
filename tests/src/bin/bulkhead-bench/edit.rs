//! A policy edit over HTTP, until a real switch has acknowledged it.

use crate::{
    fabric::{self, DATAPATH, LOCAL, SWITCH},
    sample::Sample,
};
use anyhow::{Context, Result, ensure};
use bulkhead_client::Client;
use bulkhead_lab::{Hypervisor, Lab, hypervisor::BRIDGE};
use bulkhead_tests::controller::Controller;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Edits that are measured.
const EDITS: u16 = 200;
/// How long the switch may take to connect and take its first program.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long an edit may take.
const EDIT_LIMIT: Duration = Duration::from_secs(10);

/// Measures edits of a fabric of this many workloads.
pub(crate) fn measure(workloads: usize) -> Result<Value> {
    let daemon = std::env::current_exe()?.with_file_name("bulkheadd");
    let mut lab = Lab::new("bench")?;
    let switch = lab.hypervisor(SWITCH, DATAPATH)?;
    add_ports(&switch)?;
    let mut controller = Controller::start(&daemon, switch.controller_address())?;
    let client = controller.client.clone();

    let began = Instant::now();
    let first = fabric::upload(&client, workloads).context("the fabric is not accepted")?;
    let accepted = began.elapsed();
    switch.set_controller(controller.openflow)?;
    let Edited { entries, answered, acknowledged } = edited(&mut controller, first)?;
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

/// What edits of a fabric took.
pub(crate) struct Edited {
    /// Entries of its switch before the first.
    pub entries: u64,
    /// Until they were accepted.
    pub answered: Sample,
    /// Until the switch had acknowledged them.
    pub acknowledged: Sample,
}

/// Edits policies once the fabric's switch has this revision.
pub(crate) fn edited(controller: &mut Controller, first: u64) -> Result<Edited> {
    let client = controller.client.clone();
    let mut entries = 0;
    let there = |client: &Client| {
        let status = client.status()?;
        let found = status.switches.iter().find(|found| found.name == SWITCH);
        entries = found.map_or(0, |found| found.entries);
        Ok(found.is_some_and(|found| found.connected && found.acknowledged >= first && found.pending == 0))
    };
    controller.until(START_LIMIT, there).context("the switch does not take its first program")?;

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
    Ok(Edited { entries, answered, acknowledged })
}

/// The ports of the switch's own workloads. Nothing is behind them: packets are not what is measured.
fn add_ports(switch: &Hypervisor) -> Result<()> {
    for index in 0..LOCAL {
        let port = fabric::port(index);
        switch.vsctl(&["add-port", BRIDGE, &port, "--", "set", "interface", &port, "type=internal"])?;
    }
    Ok(())
}
