//! Packets: what our pipeline costs each of them. One bridge and the same two hosts take turns between our whole
//! pipeline, a plain learning switch, and the least that tracks connections, so that the tracker's price and that of our
//! tables are told apart.

mod megaflow;
pub(crate) mod traffic;

use crate::{
    bulk::Ours,
    fabric::{self, DATAPATH, SWITCH},
    sample::Sample,
};
use anyhow::{Context, Result, bail, ensure};
use bulkhead_compile::{Compiler, Numbers};
use bulkhead_lab::{Hypervisor, Lab, Spec, Way, Workload, workload::Family};
use bulkhead_pipeline::{Delta, Entry};
use megaflow::Megaflows;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::{Duration, Instant},
};

/// How often each of those that are compared has its turn.
pub(crate) const ROUNDS: usize = 15;
/// How long a stream runs before it counts: the congestion window opens and the datapath's entries are made. As long
/// after it nothing is measured: what is still in queues would cost the next one a packet, and so a second.
pub(crate) const WARM_UP: Duration = Duration::from_millis(200);
/// How long a stream, and then connections one after another, are counted in a round.
pub(crate) const SPAN: Duration = Duration::from_millis(400);
/// Requests that are answered in a round, one after another, on one connection.
pub(crate) const REQUESTS: usize = 400;
/// Workloads of the fabric whose program the switch has.
const WORKLOADS: usize = 1_000;
/// Those that are really there. The first is a `web` and the second the `app` that it may reach.
const HOSTS: usize = 4;
/// Where an `app` takes connections from a `web`.
pub(crate) const PORT: u16 = 8080;
/// Where everybody takes datagrams.
const DATAGRAMS: u16 = 7000;
/// How many flows each has to carry at once.
const FLOWS: u16 = 10_000;
/// How often the datapath is told to forget what it knows. Hosts may speak at any time, so that it is never empty for sure.
const PURGES_MOST: usize = 10;
/// What address prefixes that a policy mentions have in common: each is a longer one of this address.
const NESTED: Ipv4Addr = Ipv4Addr::new(172, 21, 85, 85);
/// Their lengths.
const LENGTHS: RangeInclusive<u8> = 9..=32;
/// Most masks that the datapath may need for what is sent here (A20): one for each length of a prefix, and a few.
const MASKS_MOST: usize = 48;

/// Who forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Contestant {
    Bulkhead,
    Learning,
    Tracking,
}

impl Contestant {
    /// In turns: each comes first, second and third equally often.
    fn order(round: usize) -> [Self; 3] {
        let mut all = [Self::Bulkhead, Self::Learning, Self::Tracking];
        let turn = round % all.len();
        all.rotate_left(turn);
        all
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Bulkhead => "bulkhead",
            Self::Learning => "learningBridge",
            Self::Tracking => "learningBridgeWithConntrack",
        }
    }
}

/// What one of them did.
#[derive(Debug, Default)]
struct Results {
    megabits: Vec<f64>,
    /// Bits of the stream for a nanosecond of the switch's processor time: what others do to the machine is not in it.
    per_cpu: Vec<f64>,
    connections: Vec<f64>,
    requests: Sample,
    /// Answers per second, by the median of each round's.
    answers: Vec<f64>,
    /// How often a packet of the stream went through the datapath's classifier.
    passes: Vec<f64>,
    flows: Value,
}

/// Measures all of it.
pub(crate) fn measure() -> Result<Value> {
    let runtime = runtime()?;
    let mut lab = Lab::new("packets")?;
    let mut bench = runtime.block_on(Bench::new(&mut lab))?;
    let count = bench.entries.len();
    let mut results: BTreeMap<Contestant, Results> = BTreeMap::new();
    for round in 0..ROUNDS {
        for contestant in Contestant::order(round) {
            runtime.block_on(bench.install(contestant))?;
            let results = results.entry(contestant).or_default();
            bench.round(results).with_context(|| contestant.name())?;
        }
    }
    for (contestant, results) in &mut results {
        runtime.block_on(bench.install(*contestant))?;
        results.flows = bench.flows()?;
    }
    drop(bench);
    lab.down()?;
    report(count, &results)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

/// A workload of the fabric, as it is.
fn host(lab: &mut Lab, hypervisor: &Hypervisor, index: usize) -> Result<Workload> {
    let document = fabric::workload(index, true);
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).context("no such field");
    let ip = text("/spec/interfaces/0/ips/0")?.parse()?;
    let spec = Spec::new(&fabric::port(index), text("/spec/interfaces/0/mac")?.parse()?, &[]);
    // The first has a way to addresses of nobody: through the second, as its gateway.
    let second = fabric::workload(1, true);
    let via = second.pointer("/spec/interfaces/0/ips/0").and_then(Value::as_str).context("no address")?.parse()?;
    let way = Way { to: prefix(8).into(), length: 8, via: Some(via) };
    lab.add(hypervisor, &Spec { ips: vec![(ip, 8)], routes: (index == 0).then_some(way).into_iter().collect(), ..spec })
}

/// The switch's entries: the fabric's, and policies by which packets of the measured kinds may leave and arrive.
fn program() -> Result<Vec<Entry>> {
    let everybody = json!({"matchLabels": {"env": "prod"}});
    let policy = |name: &str, direction: &str, side: &str, ports: Value| {
        json!({"kind": "Policy", "metadata": {"name": name}, "spec": {
            "subject": everybody, direction: [{"action": "allow", side: [everybody], "ports": ports}]}})
    };
    let datagrams = json!({"protocol": "udp", "port": DATAGRAMS});
    let out = json!([{"protocol": "tcp", "port": 1, "endPort": 65535}, datagrams]);
    let prefixes: Vec<_> = LENGTHS.map(|length| json!({"cidr": format!("{}/{length}", prefix(length))})).collect();
    let more = [
        policy("out", "egress", "to", out),
        policy("datagrams", "ingress", "from", json!([datagrams])),
        json!({"kind": "Policy", "metadata": {"name": "nested"}, "spec": {
            "subject": everybody, "egress": [{"action": "allow", "to": prefixes}]}}),
    ];
    let state = fabric::state(&fabric::with_local(WORKLOADS, HOSTS).chain(more).collect::<Vec<_>>())?;
    let (compiler, _) = Compiler::new(&state, Numbers::default())?;
    let program = compiler.program(&SWITCH.parse()?).context("no program")?;
    Ok(program.iter().cloned().collect())
}

/// The prefix of this length.
fn prefix(length: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(NESTED) & u32::MAX << (32 - u32::from(length)))
}

/// Addresses that leave the nested prefixes after each of their bits in turn, and differ in what comes after it.
fn astray() -> Vec<SocketAddr> {
    let one = |number: u32| {
        let bit = 31 - number % 32;
        // Knuth's multiplicative hash: scattered, and the same in every run. The first 8 bits stay: they are the way there.
        let below = number.wrapping_mul(2_654_435_761) & ((1 << bit) - 1);
        let address = (u32::from(NESTED) ^ 1 << bit) & !((1 << bit) - 1) | below;
        let routed = u32::from(NESTED) & 0xff00_0000 | address & 0x00ff_ffff;
        SocketAddr::new(Ipv4Addr::from(routed).into(), DATAGRAMS)
    };
    (0..u32::from(FLOWS)).map(one).collect()
}

/// The switch, and what it is told.
struct Bench {
    ours: Ours,
    hypervisor: Hypervisor,
    hosts: Vec<Workload>,
    entries: Vec<Entry>,
}

impl Bench {
    async fn new(lab: &mut Lab) -> Result<Self> {
        let hypervisor = lab.hypervisor(SWITCH, DATAPATH)?;
        let hosts = (0..HOSTS).map(|index| host(lab, &hypervisor, index)).collect::<Result<Vec<_>>>()?;
        Ok(Self { ours: Ours::connect(&hypervisor).await?, hypervisor, hosts, entries: program()? })
    }

    /// Has this one forward, from a clean start: no flows, connections or addresses learned.
    async fn install(&mut self, contestant: Contestant) -> Result<()> {
        self.hypervisor.ofctl("del-flows", &[])?;
        match contestant {
            Contestant::Bulkhead => {
                self.ours.apply(Delta { remove: Vec::new(), add: self.entries.clone() }).await?;
            }
            Contestant::Learning => {
                self.hypervisor.ofctl("add-flow", &["actions=NORMAL"])?;
            }
            Contestant::Tracking => {
                for flow in [
                    "priority=1,actions=NORMAL",
                    "priority=2,ip,actions=ct(zone=1,table=1)",
                    "table=1,ip,ct_state=+trk+new-inv,actions=ct(commit,zone=1),NORMAL",
                    "table=1,ip,ct_state=+trk+est-inv,actions=NORMAL",
                ] {
                    self.hypervisor.ofctl("add-flow", &[flow])?;
                }
            }
        }
        for words in ["dpctl/flush-conntrack", "fdb/flush"] {
            self.hypervisor.appctl(&[words])?;
        }
        // A purge may pass over a few of very many megaflows.
        for _ in 0..PURGES_MOST {
            self.hypervisor.appctl(&["revalidator/purge"])?;
            if self.dump()?.count == 0 {
                break;
            }
        }
        Ok(())
    }

    fn dump(&self) -> Result<Megaflows> {
        Ok(Megaflows::of(&self.hypervisor.appctl(&["dpctl/dump-flows", "-m"])?))
    }

    fn round(&self, results: &mut Results) -> Result<()> {
        let [from, to, ..] = self.hosts.as_slice() else { bail!("too few hosts") };
        let target = SocketAddr::new(to.ip(Family::V4).context("no address")?, PORT);
        let stream = traffic::Stream::open(from, to, target)?;
        std::thread::sleep(WARM_UP);
        self.hypervisor.appctl(&["dpif-netdev/pmd-stats-clear"])?;
        let (began, bytes, busy) = (Instant::now(), stream.received(), cpu(&self.hypervisor)?);
        std::thread::sleep(SPAN);
        let (took, bytes, busy) = (began.elapsed(), stream.received() - bytes, cpu(&self.hypervisor)? - busy);
        let passes = megaflow::passes(&self.hypervisor.appctl(&["dpif-netdev/pmd-stats-show"])?);
        stream.close()?;
        std::thread::sleep(WARM_UP);
        ensure!(bytes > 0 && !busy.is_zero(), "nothing gets through");
        results.megabits.push(bytes as f64 * 8.0 / took.as_secs_f64() / 1e6);
        results.per_cpu.push(bytes as f64 * 8.0 / busy.as_secs_f64() / 1e6);
        results.passes.push(passes.context("the switch does not tell passes")?);
        results.connections.push(traffic::connections(from, to, target, SPAN)?);
        let requests = traffic::requests(from, to, target, REQUESTS)?;
        results.answers.push(1.0 / requests.median().as_secs_f64());
        results.requests.extend(requests);
        Ok(())
    }

    /// What the datapath has after a few flows, after very many, after a scan of ports that are closed, and after one of
    /// addresses next to the prefixes that policies mention.
    fn flows(&self) -> Result<Value> {
        let (from, to) = self.hosts.split_first().context("no hosts")?;
        let mut told = serde_json::Map::new();
        let targets = |port| -> Result<Vec<SocketAddr>> {
            to.iter().map(|host| Ok(SocketAddr::new(host.ip(Family::V4).context("no address")?, port))).collect()
        };
        let _open = to.iter().map(|host| traffic::sink(host, DATAGRAMS)).collect::<Result<Vec<_>>>()?;
        for (name, flows) in [("hundredFlows", 100), ("tenThousandFlows", FLOWS)] {
            traffic::datagrams(from, &targets(DATAGRAMS)?, flows, traffic::Scatter::Sources)?;
            told.insert(name.into(), self.megaflows()?);
        }
        traffic::datagrams(from, &targets(DATAGRAMS)?, FLOWS, traffic::Scatter::Destinations)?;
        told.insert("scanOfTenThousandPorts".into(), self.megaflows()?);
        traffic::datagrams(from, &astray(), FLOWS, traffic::Scatter::Targets)?;
        told.insert("andOfTenThousandAddresses".into(), self.megaflows()?);
        Ok(told.into())
    }

    fn megaflows(&self) -> Result<Value> {
        let megaflows = self.dump()?;
        ensure!(megaflows.masks <= MASKS_MOST, "{} masks: every lookup gets slow", megaflows.masks);
        let connections = self.hypervisor.appctl(&["dpctl/ct-get-nconns"])?;
        Ok(json!({"megaflows": megaflows.count, "masks": megaflows.masks, "masksOfOnePort": megaflows.of_one_port,
                  "connections": connections.trim().parse::<usize>().context("ct-get-nconns")?}))
    }
}

/// Processor time that all threads of a switch took so far (proc(5), `schedstat`, first number).
pub(crate) fn cpu(hypervisor: &Hypervisor) -> Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(process(hypervisor)?.join("task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        nanos += text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}

/// The switch below /proc.
fn process(hypervisor: &Hypervisor) -> Result<PathBuf> {
    let pids = hypervisor.namespace().processes()?;
    let mut all = pids.into_iter().map(|pid| PathBuf::from("/proc").join(pid.to_string()));
    let is_switch =
        |path: &PathBuf| fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "ovs-vswitchd");
    all.find(is_switch).context("the switch is gone")
}

fn report(entries: usize, results: &BTreeMap<Contestant, Results>) -> Result<Value> {
    let mut told = serde_json::Map::new();
    for (contestant, of) in results {
        let row = json!({
            "stream": spread(&of.megabits, "megabitsPerSecond"),
            "streamPerSwitchCpu": spread(&of.per_cpu, "megabitsPerCpuSecond"),
            "connections": spread(&of.connections, "connectionsPerSecond"),
            "request": of.requests.microseconds(),
            "passesPerPacket": median(&of.passes),
            "flows": of.flows,
        });
        told.insert(contestant.name().into(), row);
    }
    let of = |contestant| results.get(&contestant).context("not measured");
    let ours = of(Contestant::Bulkhead)?;
    let mut ratios = serde_json::Map::new();
    for (peer, name) in
        [(Contestant::Learning, "toLearningBridge"), (Contestant::Tracking, "toLearningBridgeWithConntrack")]
    {
        let theirs = of(peer)?;
        let row = json!({
            "stream": ratio(&ours.megabits, &theirs.megabits),
            "streamPerSwitchCpu": ratio(&ours.per_cpu, &theirs.per_cpu),
            "connections": ratio(&ours.connections, &theirs.connections),
            "requests": ratio(&ours.answers, &theirs.answers),
        });
        ratios.insert(name.into(), row);
    }
    Ok(json!({
        "switch": "Open vSwitch, userspace datapath, no thread of its own for polling",
        "workloads": WORKLOADS,
        "entries": entries,
        "rounds": ROUNDS,
        "contestants": told,
        "ratios": ratios,
        "note": "TCP over IPv4, MTU 1400, nothing left to hardware; sender, receiver and switch share the cores; in turns \
                 on the same ports of one bridge, each from a clean start; a ratio is the median of the rounds' own ratios, \
                 higher is better",
    }))
}

pub(crate) fn spread(values: &[f64], unit: &str) -> Value {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    json!({"unit": unit, "median": median(values).round(), "min": least.round(), "max": most.round(), "rounds": values.len()})
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Ours to theirs, round by round: what happens to the machine between rounds is in none of them.
pub(crate) fn ratio(ours: &[f64], theirs: &[f64]) -> Value {
    let mut all: Vec<_> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    all.sort_by(f64::total_cmp);
    let at = |index: usize| all.get(index).copied().map(rounded);
    // The middle half says more of the spread than the ends, which are whatever else ran on the machine.
    json!({"median": at(all.len() / 2), "lowerQuartile": at(all.len() / 4), "upperQuartile": at(all.len() * 3 / 4)})
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a20_ten_thousand_flows_share_a_few_megaflows_and_masks() {
        if let Some(why) = bulkhead_lab::missing() {
            eprintln!("NOT TESTED: megaflows of Open vSwitch: {why}");
            return;
        }
        let runtime = runtime().unwrap();
        let mut lab = Lab::new("megaflows").unwrap();
        let mut bench = runtime.block_on(Bench::new(&mut lab)).unwrap();
        runtime.block_on(bench.install(Contestant::Bulkhead)).unwrap();
        let told = bench.flows().unwrap();
        let of = |pointer: &str| told.pointer(pointer).and_then(Value::as_u64).unwrap();
        // Most of them got there; a busy machine may lose some.
        assert!(of("/tenThousandFlows/connections") >= u64::from(FLOWS) / 2, "{told:#}");
        assert!(of("/tenThousandFlows/megaflows") <= 32, "{told:#}");
        assert!(of("/tenThousandFlows/masks") <= 8, "{told:#}");
        assert!(of("/scanOfTenThousandPorts/masks") <= 8, "{told:#}");
        // A mask for each length of a prefix, and hardly more.
        assert!((16..=MASKS_MOST as u64).contains(&of("/andOfTenThousandAddresses/masks")), "{told:#}");
    }
}
