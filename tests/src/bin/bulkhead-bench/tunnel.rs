//! Packets between two hypervisors: our pipeline at both ends and the tunnel between, beside a plain tunnel between two
//! learning bridges of the same two switches. Both are there all the time, and take turns.

use crate::{
    packets::{PORT, REQUESTS, ROUNDS, SPAN, WARM_UP, cpu, median, ratio, spread, traffic},
    sample::Sample,
};
use anyhow::{Context, Result, ensure};
use bulkhead_lab::{Fabric, Hypervisor, Scenario, Spec, Workload, workload::Family};
use bulkhead_tests::controller::{Controller, program};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    thread::sleep,
    time::{Duration, Instant},
};

/// Switches beside the two that are there, and workloads on each: what the pipeline has to know of.
const OTHERS: usize = 50;
const WORKLOADS: usize = 10;
/// Policies, each about who may speak with our two.
const POLICIES: usize = 50;
/// The plain tunnel's own network.
const PLAIN_VNI: &str = "77";
/// The bridge on either side of it.
const PLAIN: &str = "br-plain";
/// How long the switches may take to get their programs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one of the two did.
#[derive(Default)]
struct Results {
    megabits: Vec<f64>,
    per_cpu: Vec<f64>,
    requests: Sample,
    /// Each round's median, in microseconds.
    answer: Vec<f64>,
}

/// Measures both.
pub(crate) fn measure() -> Result<Value> {
    let mut fabric = Fabric::up(&scenario()?)?;
    let address = fabric.controller_address()?;
    let mut controller = Controller::start(&program("bulkheadd")?, address)?;
    let documents = documents(&fabric);
    controller.client.apply(&documents, false)?;
    controller.until(PATIENCE, |client| {
        let status = client.status()?;
        let mut real = status.switches.iter().filter(|switch| switch.name.starts_with("hv"));
        Ok(real.all(|one| one.connected && one.pending == 0 && one.acknowledged >= status.revision))
    })?;
    let entries: Vec<_> = controller.client.status()?.switches.iter().take(2).map(|switch| switch.entries).collect();
    let ours = [fabric.workload("a")?.clone(), fabric.workload("b")?.clone()];
    let plain = plain(&mut fabric)?;
    let switches = fabric.hypervisors().to_vec();
    let mut all = [(ours, Results::default()), (plain, Results::default())];
    for round in 0..ROUNDS {
        for at in [round % 2, (round + 1) % 2] {
            let (ends, results) = all.get_mut(at).context("there are two")?;
            turn(&switches, ends, results)?;
        }
    }
    drop(controller);
    fabric.down()?;
    let [(_, ours), (_, plain)] = all;
    let row = |of: &Results| {
        json!({
            "stream": spread(&of.megabits, "megabitsPerSecond"),
            "streamPerSwitchCpu": spread(&of.per_cpu, "megabitsPerCpuSecond"),
            "request": of.requests.microseconds(),
        })
    };
    Ok(json!({
        "entriesOnSwitches": entries,
        "rounds": ROUNDS,
        "bulkhead": row(&ours),
        "plainTunnel": row(&plain),
        "toPlainTunnel": {
            "stream": ratio(&ours.megabits, &plain.megabits),
            "streamPerSwitchCpu": ratio(&ours.per_cpu, &plain.per_cpu),
            "floor": 0.8,
        },
        "addedLatencyMicroseconds": (median(&ours.answer) - median(&plain.answer)).round(),
    }))
}

fn scenario() -> Result<Scenario> {
    let network =
        json!({"kind": "Network", "metadata": {"name": "one"}, "spec": {"vni": 5001, "subnets": ["10.0.0.0/8"]}});
    let mut scenario = Scenario::new("tunnel")
        .hypervisor("hv1", "172.31.0.1".parse()?)
        .hypervisor("hv2", "172.31.0.2".parse()?)
        .workload("a", "hv1", "one", &["10.0.0.11".parse()?])
        .workload("b", "hv2", "one", &["10.0.0.12".parse()?])
        .resource(network);
    for guest in &mut scenario.workloads {
        guest.labels.insert("app".into(), "x".into());
    }
    Ok(scenario)
}

/// The fabric's documents: our two, many others elsewhere, and policies about all of them.
fn documents(fabric: &Fabric) -> Vec<Value> {
    let database =
        |host: &bulkhead_lab::scenario::Host| fabric.hypervisor(&host.name).map(Hypervisor::ovsdb).unwrap_or_default();
    let mut documents = fabric.scenario().documents(database);
    for at in 1..=OTHERS {
        documents.push(json!({"kind": "Switch", "metadata": {"name": format!("sim{at}")},
                              "spec": {"driver": "sim", "vtep": format!("192.0.2.{at}")}}));
        documents.extend((0..WORKLOADS).map(|number| {
            json!({"kind": "Workload",
                   "metadata": {"name": format!("w-{at}-{number}"), "labels": {"app": format!("app-{at}")}},
                   "spec": {"network": "one", "interfaces": [{
                       "mac": format!("02:cc:00:00:{at:02x}:{number:02x}"), "ips": [format!("10.1.{at}.{number}")],
                       "attachment": {"switch": format!("sim{at}"), "port": format!("p{number}")}}]}})
        }));
    }
    let x = json!({"matchLabels": {"app": "x"}});
    let ports = json!([{"protocol": "tcp", "port": PORT}]);
    documents.push(json!({"kind": "Policy", "metadata": {"name": "x"}, "spec": {"subject": x,
        "ingress": [{"action": "allow", "from": [x], "ports": ports}],
        "egress": [{"action": "allow", "to": [x], "ports": ports}]}}));
    documents.extend((1..=POLICIES).map(|number| {
        let peer = json!({"matchLabels": {"app": format!("app-{number}")}});
        json!({"kind": "Policy", "metadata": {"name": format!("policy-{number}")}, "spec": {"subject": x,
            "ingress": [{"action": "allow", "from": [peer],
                         "ports": [{"protocol": "tcp", "port": 7000 + number, "endPort": 7100 + number}]}]}})
    }));
    documents
}

/// Two hosts on learning bridges with a plain tunnel between, on the same two switches.
fn plain(fabric: &mut Fabric) -> Result<[Workload; 2]> {
    let sides = [("hv1", "p1", "10.9.0.1", 1, "172.31.0.2"), ("hv2", "p2", "10.9.0.2", 2, "172.31.0.1")];
    let mut ends = Vec::new();
    for (name, port, ip, number, peer) in sides {
        let on = fabric.hypervisor(name)?.clone();
        let mac = bulkhead_topology::Mac([2, 0xdd, 0, 0, 0, number]);
        let spec = Spec { ips: vec![(ip.parse()?, 24)], routes: Vec::new(), ..Spec::new(port, mac, &[]) };
        ends.push(fabric.lab().add(&on, &spec)?);
        on.del_port(port)?;
        on.vsctl(&["add-br", PLAIN, "--", "set", "bridge", PLAIN, "datapath_type=netdev", "fail_mode=secure"])?;
        on.vsctl(&["add-port", PLAIN, port])?;
        let (peer, key) = (format!("options:remote_ip={peer}"), format!("options:key={PLAIN_VNI}"));
        on.vsctl(&["add-port", PLAIN, "plain0", "--", "set", "interface", "plain0", "type=geneve", &peer, &key])?;
        let mut flow = on.command("ovs-ofctl");
        flow.arg("add-flow").arg(on.dir().join(format!("{PLAIN}.mgmt"))).arg("actions=NORMAL");
        bulkhead_lab::command::succeed(flow, None)?;
    }
    ends.try_into().ok().context("there are two")
}

/// One turn: a stream, then requests one after another.
fn turn(switches: &[Hypervisor], [from, to]: &[Workload; 2], results: &mut Results) -> Result<()> {
    let all = || switches.iter().map(cpu).sum::<Result<Duration>>();
    let target = SocketAddr::new(to.ip(Family::V4).context("no address")?, PORT);
    let stream = traffic::Stream::open(from, to, target)?;
    sleep(WARM_UP);
    let (began, bytes, busy) = (Instant::now(), stream.received(), all()?);
    sleep(SPAN);
    let (took, bytes, busy) = (began.elapsed(), stream.received() - bytes, all()? - busy);
    stream.close()?;
    sleep(WARM_UP);
    ensure!(bytes > 0 && !busy.is_zero(), "nothing gets through");
    results.megabits.push(bytes as f64 * 8.0 / took.as_secs_f64() / 1e6);
    results.per_cpu.push(bytes as f64 * 8.0 / busy.as_secs_f64() / 1e6);
    let requests = traffic::requests(from, to, target, REQUESTS)?;
    results.answer.push(requests.median().as_secs_f64() * 1e6);
    results.requests.extend(requests);
    Ok(())
}
