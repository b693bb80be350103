//! Forwarding during a large change: the longest gap that an unrelated flow of 1,000 packets per second sees while a real
//! switch takes very many entries, and while it gives them up again. Reconciler and driver are the controller's own; what
//! the entries are about is made up.

use crate::{
    bulk::{Ours, entry},
    fabric::{DATAPATH, SWITCH},
};
use anyhow::{Context, Result, bail, ensure};
use bulkhead_lab::{Lab, Workload, workload::Family};
use bulkhead_pipeline::{Action, Cause, Delta, Entry, Match, Next, Output as Out, Program, Stage};
use bulkhead_reconcile::{Input, Machine, Output, Ports};
use bulkhead_topology::{Mac, Port};
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

/// Pause between two packets.
const PACE: Duration = Duration::from_millis(1);
/// Where the flow goes.
const PORT: u16 = 9000;
/// How often the change is made and taken back.
const ROUNDS: usize = 3;
/// How long the flow is watched with nothing else going on.
const QUIET: Duration = Duration::from_secs(3);

/// Carries all packets of one port to another.
fn wire(from: &str, to: &str) -> Entry {
    let port = |name: &str| Port::Name(name.into());
    let actions = vec![Action::Output(Out::Port(port(to)))];
    Entry::new(Stage::Classify, 1, Match::any().port(port(from)), actions, Next::Done, Cause::Rule(1))
}

/// A switch as the controller sees it.
struct Driven {
    ours: Ours,
    machine: Machine,
    desired: Program,
    revision: u64,
    began: Instant,
    /// Steps that were taken.
    steps: usize,
}

impl Driven {
    async fn run(&mut self, first: Option<Output>) -> Result<()> {
        let mut next = first;
        while let Some(output) = next {
            let now = self.began.elapsed();
            next = match output {
                Output::Read => {
                    let (program, alien) = self.ours.read().await?;
                    self.machine.handle(Input::Actual { program: &program, alien }, &self.desired, now)
                }
                Output::Apply { step, delta, ahead } => {
                    self.steps += 1;
                    self.ours.apply_as(step, delta, ahead).await?;
                    self.machine.handle(Input::Applied { step }, &self.desired, now)
                }
            };
        }
        let progress = self.machine.progress();
        ensure!(progress.acknowledged == self.revision, "not in step: {progress:?}");
        Ok(())
    }

    async fn change(&mut self, delta: &Delta) -> Result<()> {
        self.revision += 1;
        self.desired.apply(delta);
        let input = Input::Desired { revision: self.revision, delta };
        let first = self.machine.handle(input, &self.desired, self.began.elapsed());
        self.run(first).await
    }
}

/// Measures a change of this many entries.
pub(crate) fn measure(entries: usize) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut lab = Lab::new("stall")?;
    let switch = lab.hypervisor(SWITCH, DATAPATH)?;
    let mut place = |index: u8| {
        let mac: Mac = format!("02:00:00:00:00:{index:02x}").parse()?;
        lab.workload(&switch, &format!("w{index}"), mac, &[Ipv4Addr::new(10, 1, 0, index).into()])
    };
    let [from, to] = [place(11)?, place(12)?];
    let mut driven = runtime.block_on(async {
        let listener = TcpListener::bind((switch.controller_address(), 0)).await?;
        switch.set_controller(listener.local_addr()?)?;
        let mut ours = Ours::listen(listener).await?;
        let ports = Ports::Known(ours.connected().await?);
        let desired: Program = [wire("w11", "w12"), wire("w12", "w11")].into_iter().collect();
        let (machine, revision, began) = (Machine::new(1), 1, Instant::now());
        let mut driven = Driven { ours, machine, desired, revision, began, steps: 0 };
        let connected = Input::Connected { ports: &ports, max_entries: 1_000_000 };
        let first = driven.machine.handle(connected, &driven.desired, Duration::ZERO);
        driven.run(first).await?;
        anyhow::Ok(driven)
    })?;

    let flow = Flow::open(&from, &to)?;
    let bulk: Vec<Entry> = (0..entries).map(entry).collect();
    let install = Delta { remove: Vec::new(), add: bulk.clone() };
    let removal = Delta { remove: bulk.into_iter().map(|entry| entry.key.clone()).collect(), add: Vec::new() };
    let over = AtomicBool::new(false);
    let mut rounds = Vec::new();
    let (arrivals, quiet) = thread::scope(|scope| -> Result<_> {
        let receiver = scope.spawn(|| flow.receive(&over));
        let sender = scope.spawn(|| flow.send(&over));
        let measured = (|| {
            // The first packets make the datapath's entries.
            thread::sleep(Duration::from_millis(500));
            let began = Instant::now();
            thread::sleep(QUIET);
            let quiet = (began, Instant::now());
            for _ in 0..ROUNDS {
                let began = Instant::now();
                runtime.block_on(driven.change(&install))?;
                let installed = Instant::now();
                runtime.block_on(driven.change(&removal))?;
                rounds.push((began, installed, Instant::now()));
            }
            anyhow::Ok(quiet)
        })();
        over.store(true, Ordering::Relaxed);
        sender.join().ok().context("the sender broke")??;
        let arrivals = receiver.join().ok().context("the receiver broke")??;
        measured.map(|quiet| (arrivals, quiet))
    })?;
    if arrivals.len() < 1000 {
        bail!("the flow does not get through: {} packets", arrivals.len());
    }
    lab.down()?;
    let row = |(began, installed, removed): &(Instant, Instant, Instant)| {
        json!({"installMs": (*installed - *began).as_millis() as u64, "installGapMs": gap(&arrivals, *began, *installed),
               "removalMs": (*removed - *installed).as_millis() as u64, "removalGapMs": gap(&arrivals, *installed, *removed)})
    };
    Ok(json!({
        "entries": entries,
        "steps": driven.steps,
        "packetsPerSecond": 1000,
        "packets": arrivals.len(),
        "quietGapMs": gap(&arrivals, quiet.0, quiet.1),
        "rounds": rounds.iter().map(row).collect::<Vec<_>>(),
        "note": "longest time between two arrivals; the sender, the receiver and the controller run on the same cores as \
                 the switch, so the quiet gap is the machine's own",
    }))
}

/// The longest time between two arrivals in a span, in milliseconds.
fn gap(arrivals: &[Instant], from: Instant, to: Instant) -> f64 {
    let within = arrivals.windows(2).filter(|pair| pair[1] >= from && pair[0] <= to);
    let longest = within.map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    (longest.as_secs_f64() * 1e4).round() / 10.0
}

struct Flow {
    from: UdpSocket,
    to: UdpSocket,
    address: SocketAddr,
}

impl Flow {
    fn open(from: &Workload, to: &Workload) -> Result<Self> {
        let ip = |workload: &Workload| workload.ip(Family::V4).context("no address");
        let (source, target) = (SocketAddr::new(ip(from)?, 0), SocketAddr::new(ip(to)?, PORT));
        let from = from.namespace().run(|| UdpSocket::bind(source))??;
        let to = to.namespace().run(|| UdpSocket::bind(target))??;
        to.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(Self { from, to, address: target })
    }

    fn send(&self, over: &AtomicBool) -> Result<()> {
        let began = Instant::now();
        let mut number = 0u32;
        while !over.load(Ordering::Relaxed) {
            self.from.send_to(&number.to_be_bytes(), self.address)?;
            number += 1;
            thread::sleep((PACE * number).saturating_sub(began.elapsed()));
        }
        Ok(())
    }

    fn receive(&self, over: &AtomicBool) -> Result<Vec<Instant>> {
        let (mut arrivals, mut packet) = (Vec::new(), [0; 64]);
        while !over.load(Ordering::Relaxed) {
            if self.to.recv(&mut packet).is_ok() {
                arrivals.push(Instant::now());
            }
        }
        Ok(arrivals)
    }
}
