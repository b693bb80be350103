//! A soak: label flips, policy edits and broken connections, on and on, against simulated switches and one real Open
//! vSwitch; memory stays flat, queues bounded, and in the end every table is exact.

use crate::{
    controller::Controller,
    fake::{
        Switch,
        run::{Echoes, Habits, Shared, look, run},
    },
};
use anyhow::{Result, ensure};
use bulkhead_client::Client;
use bulkhead_driver_ovs::switch::PARTS;
use bulkhead_lab::{Hypervisor, Lab, hypervisor::BRIDGE};
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
    thread::sleep,
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, task::JoinHandle};

/// Workloads of each switch.
const LOCAL: usize = 2;
/// Applications among which workloads move.
const APPS: u64 = 20;
/// Datapath id of the first simulated switch.
const FIRST: u64 = 0x1000;
/// The real one.
const REAL: u64 = 0xb1;
/// How long it may take until everything is in step.
const LIMIT: Duration = Duration::from_secs(60);
/// Growth of memory that still counts as flat, beside an eighth of it: allocators keep what they once had.
const SLACK: u64 = 16 << 20;

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Soak {
    /// For how long.
    pub time: Duration,
    /// Simulated switches.
    pub switches: usize,
    /// Events per second: seven of ten flip a workload's labels, two edit a policy, one breaks a connection.
    pub rate: u32,
    /// Whether a real Open vSwitch takes part, where there can be one.
    pub real: bool,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Report {
    /// Events that happened.
    pub events: u64,
    /// Connections that were broken.
    pub flaps: u64,
    /// Memory after the first tenth, and at the end.
    pub memory: [u64; 2],
    /// Most changes of entries that waited for one switch at any look.
    pub most_pending: u64,
    /// Entries on all switches at the end.
    pub entries: usize,
    /// Whether a real switch took part.
    pub real: bool,
}

/// Numbers without chance: every run does the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // Knuth's MMIX constants.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides.max(1)
    }
}

struct Connected {
    switch: Shared,
    task: JoinHandle<()>,
}

struct Fabric {
    runtime: Runtime,
    controller: SocketAddr,
    switches: Vec<Connected>,
    echoes: Arc<Echoes>,
}

fn connect(runtime: &Runtime, switch: &Shared, controller: SocketAddr, echoes: &Arc<Echoes>) -> JoinHandle<()> {
    let habits = Habits { echo: Some(Duration::from_secs(1)), flap: None };
    runtime.spawn(run(Arc::clone(switch), controller, habits, Arc::clone(echoes)))
}

impl Fabric {
    fn new(count: usize, controller: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let echoes = Arc::new(Echoes::default());
        let ports: Vec<String> = (0..LOCAL).map(|port| format!("p{port}")).collect();
        let switches = (0..count as u64)
            .map(|number| {
                let switch: Shared = Arc::new(Mutex::new(Switch::new(FIRST + number, &ports)));
                let task = connect(&runtime, &switch, controller, &echoes);
                Connected { switch, task }
            })
            .collect();
        Ok(Self { runtime, controller, switches, echoes })
    }

    /// Breaks a switch's connection; it comes back at once.
    fn flap(&mut self, number: usize) {
        if let Some(connected) = self.switches.get_mut(number) {
            connected.task.abort();
            connected.task = connect(&self.runtime, &connected.switch, self.controller, &self.echoes);
        }
    }
}

fn workload(index: usize, switch: &str, app: u64) -> Value {
    let [.., a, b] = (index as u32).to_be_bytes();
    json!({"kind": "Workload", "metadata": {"name": format!("w{index}"), "labels": {"app": format!("a{app}")}},
        "spec": {"network": "net", "interfaces": [{"mac": format!("02:00:00:00:{a:02x}:{b:02x}"),
            "ips": [Ipv4Addr::from(0x0a01_0100 + index as u32).to_string()],
            "attachment": {"switch": switch, "port": format!("p{}", index % LOCAL)}}]}})
}

fn policy(app: u64, port: u64) -> Value {
    let peer = (app + 1) % APPS;
    let selects = |app: u64| json!({"matchLabels": {"app": format!("a{app}")}});
    json!({"kind": "Policy", "metadata": {"name": format!("a{app}")}, "spec": {"subject": selects(app),
        "ingress": [{"action": "allow", "from": [selects(peer)], "ports": [{"protocol": "tcp", "port": port}]}],
        "egress": [{"action": "allow", "to": [selects(peer)], "ports": [{"protocol": "tcp", "port": port}]}]}})
}

fn switch(name: &str, datapath: u64) -> Value {
    json!({"kind": "Switch", "metadata": {"name": name},
           "spec": {"driver": "openflow", "datapathId": format!("{datapath:#x}")}})
}

/// The names of all switches, the real one last.
fn names(soak: &Soak, real: bool) -> Vec<String> {
    (0..soak.switches).map(|number| format!("s{number}")).chain(real.then(|| "hv1".to_owned())).collect()
}

fn documents(names: &[String]) -> Vec<Value> {
    let network =
        json!({"kind": "Network", "metadata": {"name": "net"}, "spec": {"vni": 5001, "subnets": ["10.1.0.0/16"]}});
    let switches = names
        .iter()
        .enumerate()
        .map(|(number, name)| switch(name, if name == "hv1" { REAL } else { FIRST + number as u64 }));
    let workloads = (0..names.len() * LOCAL).map(|index| workload(index, &names[index / LOCAL], index as u64 % APPS));
    [network].into_iter().chain(switches).chain(workloads).chain((0..APPS).map(|app| policy(app, 80))).collect()
}

/// Runs a soak.
///
/// # Errors
/// When memory grows, a queue does, a switch is lost or its tables are wrong.
pub fn soak(program: &Path, soak: &Soak) -> Result<Report> {
    let mut lab = (soak.real && bulkhead_lab::missing().is_none()).then(|| Lab::new("soak")).transpose()?;
    let real = lab.as_mut().map(|lab| lab.hypervisor("hv1", REAL)).transpose()?;
    let address = real.as_ref().map_or(Ipv4Addr::LOCALHOST, Hypervisor::controller_address);
    let mut controller = Controller::start(program, address)?;
    let names = names(soak, real.is_some());
    controller.client.apply(&documents(&names), false)?;
    if let Some(real) = &real {
        for port in (0..LOCAL).map(|port| format!("p{port}")) {
            real.vsctl(&["add-port", BRIDGE, &port, "--", "set", "interface", &port, "type=internal"])?;
        }
        real.set_controller(controller.openflow)?;
    }
    let mut fabric = Fabric::new(soak.switches, controller.openflow)?;
    controller.until(LIMIT, |client| in_step(client, names.len()))?;

    let (mut dice, mut events, mut flaps, mut most_pending) = (Dice(1), 0u64, 0, 0);
    let mut early = None;
    let mut look_again = Duration::ZERO;
    let began = Instant::now();
    while began.elapsed() < soak.time {
        match dice.roll(10) {
            0 => {
                fabric.flap(dice.roll(soak.switches as u64) as usize);
                flaps += 1;
            }
            1 | 2 => {
                controller.client.apply(&[policy(dice.roll(APPS), 80 + dice.roll(50))], false)?;
            }
            _ => {
                let index = dice.roll((names.len() * LOCAL) as u64) as usize;
                controller.client.apply(&[workload(index, &names[index / LOCAL], dice.roll(APPS))], false)?;
            }
        }
        events += 1;
        if began.elapsed() >= look_again {
            look_again += Duration::from_secs(1);
            let status = controller.client.status()?;
            most_pending = status.switches.iter().map(|switch| switch.pending).fold(most_pending, u64::max);
            if early.is_none() && began.elapsed() > soak.time / 10 {
                early = Some(controller.memory()?);
            }
        }
        let due = Duration::from_secs(events) / soak.rate;
        sleep(due.saturating_sub(began.elapsed()));
    }
    controller.until(LIMIT, |client| in_step(client, names.len()))?;
    let memory = [early.unwrap_or_default(), controller.memory()?];
    ensure!(memory[1] <= memory[0] + memory[0] / 8 + SLACK, "memory grew from {} to {}", memory[0], memory[1]);
    let entries = exact(&mut controller, &mut fabric, real.as_ref(), names.len())?;
    // Far more than one switch's whole program would mean that changes pile up.
    let program = entries / names.len();
    ensure!(most_pending as usize <= 4 * program, "{most_pending} changes waited for a switch of {program} entries");
    fabric.runtime.shutdown_background();
    drop(controller);
    if let Some(lab) = lab {
        lab.down()?;
    }
    Ok(Report { events, flaps, memory, most_pending, entries, real: real.is_some() })
}

/// Whether all switches are there and have the newest revision.
fn in_step(client: &Client, switches: usize) -> Result<bool> {
    let status = client.status()?;
    let there = status.switches.iter().filter(|s| s.connected && s.pending == 0 && s.acknowledged >= status.revision);
    Ok(there.count() == switches)
}

/// Every switch is read back once more: nothing differs, nothing is changed, nothing is there that is not ours.
fn exact(
    controller: &mut Controller,
    fabric: &mut Fabric,
    real: Option<&Hypervisor>,
    switches: usize,
) -> Result<usize> {
    let before: Vec<_> = fabric.switches.iter().map(|connected| look(&connected.switch).counts).collect();
    for number in 0..fabric.switches.len() {
        fabric.flap(number);
    }
    let read = |fabric: &Fabric| {
        let counts = fabric.switches.iter().map(|connected| look(&connected.switch).counts);
        counts.zip(&before).all(|(now, before)| now.reads >= before.reads + PARTS)
    };
    controller.until(LIMIT, |client| Ok(read(fabric) && in_step(client, switches)?))?;
    let status = controller.client.status()?;
    let mut entries = 0;
    for (number, (connected, before)) in fabric.switches.iter().zip(&before).enumerate() {
        let switch = look(&connected.switch);
        let name = format!("s{number}");
        let told = status.switches.iter().find(|told| told.name == name);
        let told = told.map_or(0, |told| told.entries as usize);
        let changed = switch.counts.changes - before.changes;
        ensure!(changed == 0, "{name} was not exact: {changed} changes after it was read back");
        ensure!(told == switch.len(), "{name} has {} entries, and should have {told}", switch.len());
        entries += switch.len();
    }
    if let (Some(real), Some(told)) = (real, status.switches.iter().find(|told| told.name == "hv1")) {
        let flows = real.flows()?.len();
        ensure!(flows as u64 == told.entries, "Open vSwitch has {flows} flows, and should have {}", told.entries);
        entries += flows;
    }
    Ok(entries)
}
