//! Bulk installation: our driver beside `ovs-ofctl --bundle add-flows`, the same flows on the same switch.

use crate::{
    fabric::{DATAPATH, SWITCH},
    sample::Sample,
};
use anyhow::{Context, Result, bail, ensure};
use bulkhead_dataplane::{Address, Command, FromSwitch, Report, ToDrivers};
use bulkhead_driver_ovs::{Groups, PortMap, driver, lower};
use bulkhead_lab::{Hypervisor, Lab, hypervisor::BRIDGE};
use bulkhead_openflow::{
    FlowCommand, FlowMod, text,
    wire::{flow::NO_BUFFER, group, port::reserved},
};
use bulkhead_pipeline::{Cause, Delta, Entry, Field, Match, Next, Program, Stage};
use bulkhead_topology::{DatapathId, Name, Port};
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, VecDeque},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

/// How often each of the two installs.
const ROUNDS: usize = 6;
/// How long the driver may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures installing this many entries as one atomic step.
pub(crate) fn measure(sizes: &[usize]) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut results = Vec::new();
    for size in sizes {
        results.push(runtime.block_on(one(*size))?);
    }
    Ok(json!({
        "switch": "Open vSwitch, userspace datapath",
        "note": "one atomic bundle each; ours from the command to the barrier's answer, lowering included; ovs-ofctl \
                 from its start to its end, reading the file included",
        "sizes": results,
    }))
}

async fn one(size: usize) -> Result<Value> {
    let mut lab = Lab::new("bulk")?;
    let switch = lab.hypervisor(SWITCH, DATAPATH)?;
    let mut ours = Ours::connect(&switch).await?;
    let entries: Vec<_> = (0..size).map(entry).collect();
    let file = lab.dir().join("flows.txt");
    let lines = entries.iter().map(line).collect::<Result<Vec<_>>>()?;
    std::fs::write(&file, lines.join("\n"))?;

    let (mut driver, mut ofctl) = (Sample::default(), Sample::default());
    let mut reference: Option<Vec<String>> = None;
    for turn in 0..2 * ROUNDS {
        switch.ofctl("del-flows", &[])?;
        // Turns: ours, theirs, theirs, ours, and so on.
        if turn % 4 == 0 || turn % 4 == 3 {
            let delta = Delta { remove: Vec::new(), add: entries.clone() };
            driver.add(ours.apply(delta).await?);
        } else {
            ofctl.add(add_flows(&switch, &file)?);
        }
        let mut flows = switch.flows()?;
        flows.iter_mut().for_each(|flow| *flow = without_part(flow));
        flows.sort();
        ensure!(flows.len() == size, "{} flows were installed, not {size}", flows.len());
        let before = reference.get_or_insert_with(|| flows.clone());
        let other = before.iter().zip(&flows).find(|(before, now)| before != now);
        ensure!(other.is_none(), "the two do not install the same flows: {other:?}");
    }
    lab.down()?;
    let rate = |sample: &Sample| (size as f64 / sample.median().as_secs_f64()).round();
    Ok(json!({
        "entries": size,
        "bulkhead": driver.milliseconds(),
        "ovsOfctl": ofctl.milliseconds(),
        "bulkheadPerSecond": rate(&driver),
        "ovsOfctlPerSecond": rate(&ofctl),
        "ratio": (rate(&driver) / rate(&ofctl) * 100.0).round() / 100.0,
    }))
}

/// Runs ovs-ofctl, and says how long it took. Waited for without pauses, which would count against it.
fn add_flows(switch: &Hypervisor, file: &Path) -> Result<Duration> {
    let mut command = std::process::Command::new("ovs-ofctl");
    command.args(["-O", "OpenFlow15", "--timeout=60", "--bundle", "add-flows"]);
    command.arg(switch.dir().join(format!("{BRIDGE}.mgmt"))).arg(file);
    let began = Instant::now();
    let done = command.output()?;
    let took = began.elapsed();
    ensure!(done.status.success(), "ovs-ofctl: {}", String::from_utf8_lossy(&done.stderr));
    Ok(took)
}

/// An entry as policies make them: who, whom, which service.
pub(crate) fn entry(number: usize) -> Entry {
    let number = number as u32;
    let service = u128::from(6u32 << 16 | (1024 + number % 50_000));
    let matches =
        Match::any().with(Field::SrcId, 16 + number / 7).with(Field::DstId, 16 + number).with(Field::Service, service);
    Entry::new(Stage::IngressApplication, 1000, matches, vec![], Next::Stage(Stage::Verdict), Cause::Rule(1 + number))
}

/// The entry's flow in ovs-ofctl's syntax.
fn line(entry: &Entry) -> Result<String> {
    let flow = lower(entry, &PortMap::default(), &mut Groups::default())?;
    Ok(text::flow(&FlowMod {
        command: FlowCommand::Add,
        table: flow.key.table,
        priority: flow.key.priority,
        cookie: flow.cookie,
        cookie_mask: 0,
        idle_timeout: 0,
        hard_timeout: 0,
        buffer_id: NO_BUFFER,
        out_port: reserved::ANY,
        out_group: group::ANY,
        flags: 0,
        matching: flow.key.matches,
        instructions: flow.instructions,
    }))
}

/// A flow as told by `ovs-ofctl`, without the part of the table that our driver says it is read back with
/// ([`bulkhead_driver_ovs::switch::PARTS`]), which changes from one installation to the next.
fn without_part(flow: &str) -> String {
    const PART: std::ops::Range<usize> = "cookie=0xb106".len().."cookie=0xb1060".len();
    let mut flow = flow.to_owned();
    flow.replace_range(PART, "0");
    flow
}

/// Our driver and the switch that it drives.
pub(crate) struct Ours {
    switch: Name,
    commands: mpsc::Sender<ToDrivers>,
    reports: mpsc::Receiver<FromSwitch>,
    session: u64,
    step: u64,
}

impl Ours {
    /// A driver of this hypervisor's switch, connected.
    pub(crate) async fn connect(hypervisor: &Hypervisor) -> Result<Self> {
        let listener = TcpListener::bind((hypervisor.controller_address(), 0)).await?;
        let address = listener.local_addr()?;
        let ours = Self::listen(listener);
        hypervisor.set_controller(address)?;
        let mut ours = ours.await?;
        ours.connected().await?;
        Ok(ours)
    }

    /// A driver of the switch, which has to connect.
    pub(crate) async fn listen(listener: TcpListener) -> Result<Self> {
        let (commands, from_controller) = mpsc::channel(16);
        let (to_controller, reports) = mpsc::channel(64);
        tokio::spawn(driver::run(listener, None, None, from_controller, to_controller));
        let switch: Name = SWITCH.parse()?;
        let attach = ToDrivers::Attach {
            switch: switch.clone(),
            address: Address::Datapath(DatapathId(DATAPATH)),
            attachment: 1,
        };
        commands.send(attach).await?;
        Ok(Self { switch, commands, reports, session: 0, step: 0 })
    }

    /// Waits for the switch; its ports.
    pub(crate) async fn connected(&mut self) -> Result<BTreeSet<Port>> {
        match self.report().await? {
            Report::Connected { session, ports, .. } => {
                self.session = session;
                Ok(ports)
            }
            other => bail!("the switch does not connect: {other:?}"),
        }
    }

    /// Reads the switch back.
    pub(crate) async fn read(&mut self) -> Result<(Program, usize)> {
        self.command(Command::Read).await?;
        match self.report().await? {
            Report::Actual { program, alien } => Ok((program, alien)),
            other => bail!("the switch is not read back: {other:?}"),
        }
    }

    async fn command(&self, command: Command) -> Result<()> {
        let (switch, session) = (self.switch.clone(), self.session);
        Ok(self.commands.send(ToDrivers::Command { switch, session, command }).await?)
    }

    /// Carries out one step, and says how long it took.
    pub(crate) async fn apply(&mut self, delta: Delta) -> Result<Duration> {
        self.step += 1;
        self.apply_as(self.step, delta, Arc::default()).await
    }

    /// The same as a step of this number.
    pub(crate) async fn apply_as(
        &mut self,
        number: u64,
        delta: Delta,
        ahead: Arc<VecDeque<Delta>>,
    ) -> Result<Duration> {
        let began = Instant::now();
        self.command(Command::Apply { step: number, delta, ahead }).await?;
        match self.report().await? {
            Report::Applied { step } if step == number => Ok(began.elapsed()),
            other => bail!("the step is not applied: {other:?}"),
        }
    }

    async fn report(&mut self) -> Result<Report> {
        loop {
            let report = timeout(PATIENCE, self.reports.recv()).await.context("the driver does not answer")?;
            match report.context("the driver ended")?.report {
                Report::PortStates(_) | Report::Peer(_) => {}
                report => return Ok(report),
            }
        }
    }
}
