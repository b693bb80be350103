//! A switch that comes back with nothing changed: read back, lifted and compared.

use crate::{
    bulk::{Ours, entry},
    fabric::{DATAPATH, SWITCH},
    sample::Sample,
};
use anyhow::{Context, Result, ensure};
use bulkhead_lab::Lab;
use bulkhead_pipeline::{Delta, Program};
use bulkhead_reconcile::{Input, Machine, Output, Ports};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::{net::TcpListener, time::sleep};

/// How often the switch comes back.
const ROUNDS: usize = 7;

/// Measures a switch with this many entries.
pub(crate) fn measure(entries: usize) -> Result<Value> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(entries))
}

async fn run(entries: usize) -> Result<Value> {
    let mut lab = Lab::new("again")?;
    let switch = lab.hypervisor(SWITCH, DATAPATH)?;
    let desired: Program = (0..entries).map(entry).collect();
    let listener = TcpListener::bind((switch.controller_address(), 0)).await?;
    let address = listener.local_addr()?;
    switch.set_controller(address)?;
    let mut ours = Ours::listen(listener).await?;
    ours.connected().await?;
    ours.apply(Delta { remove: Vec::new(), add: desired.iter().cloned().collect() }).await?;

    let (mut whole, mut reading, mut comparing) = (Sample::default(), Sample::default(), Sample::default());
    for _ in 0..ROUNDS {
        drop(ours);
        let listener = listen(address).await?;
        ours = Ours::listen(listener).await?;
        let ports = Ports::Known(ours.connected().await?);
        let began = Instant::now();
        let mut machine = Machine::new(1);
        let mut tell = |input: Input<'_>| machine.handle(input, &desired, Duration::ZERO);
        ensure!(tell(Input::Connected { ports: &ports, max_entries: 1_000_000 }) == Some(Output::Read), "no read-back");
        let (program, alien) = ours.read().await?;
        let read = Instant::now();
        let output = tell(Input::Actual { program: &program, alien });
        whole.add(began.elapsed());
        reading.add(read - began);
        comparing.add(read.elapsed());
        ensure!(output.is_none() && machine.progress().differing == 0, "{} changes", machine.progress().differing);
    }
    lab.down()?;
    Ok(json!({
        "entries": entries,
        "changes": 0,
        "connectedToInStep": whole.milliseconds(),
        "readingAndLifting": reading.milliseconds(),
        "comparing": comparing.milliseconds(),
        "note": "from the end of the handshake; the switch connects again within a second by itself",
    }))
}

/// Takes the address again once the driver that had it is gone.
async fn listen(address: std::net::SocketAddr) -> Result<TcpListener> {
    for _ in 0..100 {
        if let Ok(listener) = TcpListener::bind(address).await {
            return Ok(listener);
        }
        sleep(Duration::from_millis(20)).await;
    }
    TcpListener::bind(address).await.context("the address stays taken")
}
