//! P4 switches: writes in bulk beside the least client that there can be, by size of batch too, and policy edits.
//!
//! That client is tonic's, and sends requests that were made before, one after another, without checks or limits. Both
//! write the same entries of the same program. Against the stand-in, and against BMv2 where that is on the PATH.

use crate::{
    edit::{self, Edited},
    fabric::{self, LOCAL, SWITCH},
    sample::Sample,
};
use anyhow::{Context, Result, bail, ensure};
use bulkhead_dataplane::{Address, Command, FromSwitch, Report, ToDrivers};
use bulkhead_driver_p4::{BMV2, P4INFO, driver, lower};
use bulkhead_p4_target::{Idle, Target};
use bulkhead_p4runtime::{
    Client, ElectionId, Pipeline,
    client::MAX_BATCH,
    info::parse_text,
    proto::p4::v1::{
        Entity, TableEntry, Update, WriteRequest, entity::Entity as Kind, p4_runtime_client::P4RuntimeClient,
        update::Type, write_request::Atomicity,
    },
};
use bulkhead_pipeline::{Cause, Delta, Entry, Line};
use bulkhead_tests::controller::Controller;
use bulkhead_topology::Name;
use serde_json::{Value, json};
use std::{
    env,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

/// Entries that are written in bulk: as many as the table of applications' rules has room for, but for a few.
const ENTRIES: usize = 8_000;
/// How often each is measured, in turns.
const ROUNDS: usize = 9;
/// Sizes of batch: what a client may send, and more.
const BATCHES: [usize; 8] = [1, 10, 30, 100, 300, 1_000, 3_000, ENTRIES];
/// Edits that are measured.
const EDITS: u16 = 200;
/// Workloads of the fabric that is edited.
const WORKLOADS: usize = 1_000;
/// Policies about all workloads: a P4 switch has a row for each of them and each identity, and room for so many.
const FABRIC_WIDE: usize = 30;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the primary stands with.
const TERM: u64 = 1;

/// A device that runs.
struct Device {
    name: &'static str,
    address: String,
    running: Running,
}

enum Running {
    StandIn(Target),
    Bmv2(Ended),
}

/// A process that ends however this one does.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Device {
    async fn stand_in() -> Result<Self> {
        let (_, told) = mpsc::channel(1);
        let target = Target::start((Ipv4Addr::LOCALHOST, 0).into(), 1, Box::new(Idle), told).await?;
        Ok(Self { name: "stand-in", address: target.address().to_string(), running: Running::StandIn(target) })
    }

    /// `None` where there is none.
    fn bmv2() -> Result<Option<Self>> {
        let folders = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&folders).map(|folder| folder.join("simple_switch_grpc")).find(|it| it.is_file());
        let Some(program) = found else {
            eprintln!("bulkhead-bench: p4: without BMv2: simple_switch_grpc is not on the PATH");
            return Ok(None);
        };
        let address: SocketAddr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = std::process::Command::new(program);
        command.args(["--no-p4", "--device-id", "1", "--log-level", "off", "--", "--grpc-server-addr"]);
        command.arg(address.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Some(Self { name: "BMv2", address: address.to_string(), running: Running::Bmv2(Ended(command.spawn()?)) }))
    }

    async fn end(self) {
        match self.running {
            Running::StandIn(target) => target.stop().await,
            Running::Bmv2(process) => drop(process),
        }
    }
}

/// Measures all of it on every device that there is.
pub(crate) fn measure() -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut results = Vec::new();
    let mut devices = vec![runtime.block_on(Device::stand_in())?];
    devices.extend(Device::bmv2()?);
    for device in devices {
        let batches = runtime.block_on(batches(&device.address))?;
        let bulk = runtime.block_on(bulk(&device.address))?;
        results.push(json!({
            "device": device.name,
            "bulk": bulk,
            "batches": batches,
            "policyEdit": edits(&device.address)?,
        }));
        runtime.block_on(device.end());
    }
    Ok(json!({
        "note": "all on one machine; the least client sends, one after another, requests that were made before",
        "devices": results,
    }))
}

fn pipeline() -> Result<Pipeline> {
    Ok(Pipeline::new(parse_text(P4INFO)?, BMV2.to_vec())?)
}

fn entries(cause: u32) -> Vec<Entry> {
    // All of one rule: which one, an edit changes.
    (0..ENTRIES)
        .map(|number| Line { cause: Cause::Rule(cause), ..(*crate::bulk::entry(number)).clone() }.into())
        .collect()
}

/// Updates of all entries, as the driver makes them.
fn updates(pipeline: &Pipeline, kind: Type) -> Result<Vec<Update>> {
    let bare = |entry: TableEntry| match kind {
        Type::Delete => TableEntry { action: None, metadata: Vec::new(), ..entry },
        _ => entry,
    };
    let update = |entry: &Entry| {
        let entry = Kind::TableEntry(bare(lower(entry, pipeline.info())?));
        Ok(Update { r#type: kind.into(), entity: Some(Entity { entity: Some(entry) }) })
    };
    entries(1).iter().map(update).collect()
}

fn requests(updates: &[Update], batch: usize) -> Vec<WriteRequest> {
    let request = |updates: &[Update]| WriteRequest {
        device_id: 1,
        election_id: Some(ElectionId(TERM.into()).into()),
        updates: updates.to_vec(),
        ..WriteRequest::default()
    };
    updates.chunks(batch).map(request).collect()
}

/// Turns of two: one, other, other, one, and so on.
fn is_first(turn: usize) -> bool {
    turn.is_multiple_of(4) || turn % 4 == 3
}

/// Entries per second.
fn rate(all: &[Duration]) -> f64 {
    let mut sample = Sample::default();
    all.iter().for_each(|took| sample.add(*took));
    (ENTRIES as f64 / sample.median().as_secs_f64()).round()
}

/// Entries per second of both, and the median of the rounds' own ratios.
fn compared(ours: &[Duration], least: &[Duration]) -> Value {
    let mut ratios: Vec<f64> = ours.iter().zip(least).map(|(ours, least)| least.div_duration_f64(*ours)).collect();
    ratios.sort_by(f64::total_cmp);
    let at = |quarter: usize| ratios.get(ratios.len() * quarter / 4).map(|ratio| (ratio * 100.0).round() / 100.0);
    json!({
        "entriesPerSecond": rate(ours),
        "leastClientPerSecond": rate(least),
        "ratio": at(2),
        "middleHalfOfRatios": [at(1), at(3)],
        "rounds": ratios.len(),
    })
}

/// The client, with each size of batch.
async fn batches(address: &str) -> Result<Value> {
    let pipeline = pipeline()?;
    let connected = async {
        loop {
            match Client::connect(address, 1, ElectionId(TERM.into())).await {
                Ok(connected) => return connected,
                // It has not begun to listen yet.
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let (client, _stream) = timeout(PATIENCE, connected).await.context("the device does not answer")?;
    client.ensure_pipeline(&pipeline).await?;
    let mut least = P4RuntimeClient::connect(format!("http://{address}")).await?;
    let (inserts, deletes) = (updates(&pipeline, Type::Insert)?, updates(&pipeline, Type::Delete)?);
    let mut results = Vec::new();
    for size in BATCHES {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for turn in 0..2 * ROUNDS {
            if is_first(turn) && size <= MAX_BATCH {
                let batches: Vec<Vec<Update>> = inserts.chunks(size).map(<[Update]>::to_vec).collect();
                let began = Instant::now();
                for batch in batches {
                    let results = client.write(pipeline.info(), batch, Atomicity::ContinueOnError).await?;
                    ensure!(results.iter().all(Result::is_ok), "the device refuses an entry");
                }
                ours.push(began.elapsed());
            } else {
                let requests = requests(&inserts, size);
                let began = Instant::now();
                for request in requests {
                    least.write(request).await?;
                }
                theirs.push(began.elapsed());
            }
            for request in requests(&deletes, MAX_BATCH) {
                least.write(request).await?;
            }
        }
        results.push(match size <= MAX_BATCH {
            true => json!({"batch": size, "writes": compared(&ours, &theirs)}),
            // The client sends none that are larger.
            false => json!({"batch": size, "writes": {"leastClientPerSecond": rate(&theirs)}}),
        });
    }
    Ok(results.into())
}

/// Our driver with one device.
struct Driven {
    switch: Name,
    commands: mpsc::Sender<ToDrivers>,
    reports: mpsc::Receiver<FromSwitch>,
    session: u64,
}

impl Driven {
    async fn connect(address: &str) -> Result<Self> {
        let (commands, queue) = mpsc::channel(16);
        let (to, reports) = mpsc::channel(64);
        tokio::spawn(driver::run(Some(TERM), queue, to));
        let switch: Name = SWITCH.parse()?;
        let device = Address::Device { address: address.to_owned(), number: 1, underlay: None };
        commands.send(ToDrivers::Attach { switch: switch.clone(), address: device, attachment: 1 }).await?;
        let mut driven = Self { switch, commands, reports, session: 0 };
        while driven.session == 0 {
            if let Report::Connected { session, .. } = driven.report().await? {
                driven.session = session;
            }
        }
        Ok(driven)
    }

    async fn report(&mut self) -> Result<Report> {
        loop {
            let report = timeout(PATIENCE, self.reports.recv()).await.context("the driver does not answer")?;
            match report.context("the driver ended")?.report {
                Report::Peer(_) | Report::Disconnected(_) if self.session == 0 => {}
                Report::Peer(_) => {}
                report => return Ok(report),
            }
        }
    }

    async fn ask(&mut self, command: Command) -> Result<Report> {
        let (switch, session) = (self.switch.clone(), self.session);
        self.commands.send(ToDrivers::Command { switch, session, command }).await?;
        self.report().await
    }

    /// Carries out one step, and says how long it took.
    async fn apply(&mut self, delta: Delta) -> Result<Duration> {
        let began = Instant::now();
        match self.ask(Command::Apply { step: 1, delta, ahead: Arc::default() }).await? {
            Report::Applied { step: 1 } => Ok(began.elapsed()),
            other => bail!("the step is not applied: {other:?}"),
        }
    }
}

/// The driver, from a command to its answer: a step of many entries, and steps of one.
async fn bulk(address: &str) -> Result<Value> {
    let pipeline = pipeline()?;
    let mut driven = Driven::connect(address).await?;
    let Report::Actual { program, .. } = driven.ask(Command::Read).await? else { bail!("the device is not read back") };
    ensure!(program.is_empty(), "the device is not empty");
    let mut least = P4RuntimeClient::connect(format!("http://{address}")).await?;
    let (inserts, deletes) = (updates(&pipeline, Type::Insert)?, updates(&pipeline, Type::Delete)?);
    let entries_of_one = entries(1);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for turn in 0..2 * ROUNDS {
        if is_first(turn) {
            ours.push(driven.apply(Delta { remove: Vec::new(), add: entries_of_one.clone() }).await?);
            let remove = entries_of_one.iter().map(|entry| entry.key.clone()).collect();
            driven.apply(Delta { remove, add: Vec::new() }).await?;
        } else {
            let requests = requests(&inserts, MAX_BATCH);
            let began = Instant::now();
            for request in requests {
                least.write(request).await?;
            }
            theirs.push(began.elapsed());
            for request in self::requests(&deletes, MAX_BATCH) {
                least.write(request).await?;
            }
        }
    }
    driven.apply(Delta { remove: Vec::new(), add: entries_of_one }).await?;
    let mut one = Sample::default();
    for entry in entries(2).into_iter().take(EDITS.into()) {
        one.add(driven.apply(Delta { remove: Vec::new(), add: vec![entry] }).await?);
    }
    let remove = entries(1).into_iter().map(|entry| entry.key.clone()).collect();
    driven.apply(Delta { remove, add: Vec::new() }).await?;
    Ok(json!({
        "entries": ENTRIES,
        "batch": MAX_BATCH,
        "writes": compared(&ours, &theirs),
        "oneEntryOfThemChanged": one.microseconds(),
    }))
}

/// Policy edits over HTTP, until the device has acknowledged them.
fn edits(address: &str) -> Result<Value> {
    let daemon = env::current_exe()?.with_file_name("bulkheadd");
    let mut controller = Controller::start(&daemon, Ipv4Addr::LOCALHOST)?;
    let client = controller.client.clone();
    let fabric_wide = |document: &Value| {
        let name =
            document.pointer("/metadata/name").and_then(Value::as_str).and_then(|name| name.strip_prefix("all-"));
        name.and_then(|number| number.parse::<usize>().ok()).is_some_and(|number| number >= FABRIC_WIDE)
    };
    let documents = fabric::each(WORKLOADS).filter(|document| !fabric_wide(document));
    let documents: Vec<Value> = documents.map(|document| on_p4(document, address)).collect();
    let first = client.apply(&documents, false).context("the fabric is not accepted")?.revision;
    let Edited { entries, answered, acknowledged } = edit::edited(&mut controller, first)?;
    Ok(json!({
        "workloads": WORKLOADS,
        "localWorkloads": LOCAL,
        "entriesOnSwitch": entries,
        "requestToAccepted": answered.microseconds(),
        "requestToAcknowledged": acknowledged.microseconds(),
    }))
}

/// A document of the fabric with its switch behind P4Runtime, where ports have numbers, from 1 on.
fn on_p4(mut document: Value, address: &str) -> Value {
    if document.pointer("/kind").and_then(Value::as_str) == Some("Switch")
        && let Some(spec) = document.pointer_mut("/spec")
    {
        *spec = json!({"driver": "p4runtime", "address": address, "deviceId": 1});
    }
    if let Some(port) = document.pointer_mut("/spec/interfaces/0/attachment/port") {
        let number = port.as_str().and_then(|name| name.strip_prefix('p')?.parse::<u32>().ok());
        *port = number.map_or(Value::Null, |number| (number + 1).into());
    }
    document
}
