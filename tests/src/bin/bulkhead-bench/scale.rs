//! Many switches: one fabric-wide change, from the request to the last acknowledgement, while all of them ask for
//! echoes. The switches are simulated; the controller and its connections are real.

use crate::sample::Sample;
use anyhow::{Result, ensure};
use bulkhead_tests::{
    controller::Controller,
    fake::{
        Switch,
        run::{Echoes, Habits, Shared, look, run},
    },
};
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

/// Datapath id of the first switch.
const FIRST: u64 = 0x1000;
/// Workloads of each switch.
const LOCAL: usize = 2;
/// Applications that the workloads belong to.
const APPS: usize = 100;
/// Echo requests per second and switch.
const ECHOES: u32 = 10;
/// Fabric-wide changes that are measured.
const CHANGES: u16 = 7;
/// How long all of them may take to connect, or to take a change.
const LIMIT: Duration = Duration::from_secs(120);

fn port(index: usize) -> String {
    format!("p{index}")
}

/// The policy that every workload has; an edit moves its port.
fn fabric_wide(shift: u16) -> Value {
    json!({"kind": "Policy", "metadata": {"name": "all"}, "spec": {
        "tier": "platform", "subject": {"matchLabels": {"env": "prod"}},
        "ingress": [{"action": "allow", "from": [{"cidr": "192.0.2.0/24"}],
                     "ports": [{"protocol": "tcp", "port": 9000 + shift}]}]}})
}

fn documents(switches: usize) -> Vec<Value> {
    let mut documents = vec![
        json!({"kind": "Network", "metadata": {"name": "prod"}, "spec": {"vni": 5001, "subnets": ["10.0.0.0/8"]}}),
        fabric_wide(0),
    ];
    for switch in 0..switches {
        let datapath = format!("{:#x}", FIRST + switch as u64);
        documents.push(json!({"kind": "Switch", "metadata": {"name": format!("s{switch}")},
                              "spec": {"driver": "openflow", "datapathId": datapath}}));
        for local in 0..LOCAL {
            let index = switch * LOCAL + local;
            let [a, b, c, d] = (index as u32).to_be_bytes();
            let labels = json!({"app": format!("app-{}", index % APPS), "env": "prod"});
            let interface = json!({"mac": format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}"),
                "ips": [Ipv4Addr::from(0x0a00_0100 + index as u32).to_string()],
                "attachment": {"switch": format!("s{switch}"), "port": port(local)}});
            documents.push(json!({"kind": "Workload", "metadata": {"name": format!("w-{index}"), "labels": labels},
                                  "spec": {"network": "prod", "interfaces": [interface]}}));
        }
    }
    for app in 0..APPS {
        let own = json!({"matchLabels": {"app": format!("app-{app}")}});
        documents.push(json!({"kind": "Policy", "metadata": {"name": format!("app-{app}")}, "spec": {
            "subject": own, "ingress": [{"action": "allow", "from": [own], "ports": [{"protocol": "tcp", "port": 8080}]}]}}));
    }
    documents
}

/// Measures `switches` of them.
pub(crate) fn measure(switches: usize) -> Result<Value> {
    let program = std::env::current_exe()?.with_file_name("bulkheadd");
    let mut controller = Controller::start(&program, Ipv4Addr::LOCALHOST)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let echoes = Arc::new(Echoes::default());
    let began = Instant::now();
    let first = controller.client.apply(&documents(switches), false)?.revision;
    let accepted = began.elapsed();

    let began = Instant::now();
    let fakes: Vec<Shared> = {
        let _inside = runtime.enter();
        (0..switches).map(|number| connect(number, controller.openflow, &echoes)).collect()
    };
    controller.until(LIMIT, |client| {
        let status = client.status()?;
        let there = status.switches.iter().filter(|s| s.connected && s.acknowledged >= first && s.pending == 0);
        Ok(there.count() == switches)
    })?;
    let connected = began.elapsed();

    // From here on only the changes and the echoes.
    echoes.take();
    let (asked, began) = (echoes.sent.load(Ordering::Relaxed), Instant::now());
    let (mut answered, mut acknowledged) = (Sample::default(), Sample::default());
    for shift in 1..=CHANGES {
        let began = Instant::now();
        let revision = controller.client.apply(&[fabric_wide(shift)], false)?.revision;
        answered.add(began.elapsed());
        let realized = controller.client.realization(revision, LIMIT)?;
        acknowledged.add(began.elapsed());
        ensure!(realized.realized && realized.disconnected.is_empty(), "not taken by all: {realized:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
    let (seconds, asked) = (began.elapsed().as_secs_f64(), echoes.sent.load(Ordering::Relaxed) - asked);
    let times = echoes.take();
    let at =
        |percent: usize| times.get(times.len() * percent / 100).or(times.last()).copied().map(|us| f64::from(us) / 1e3);
    let entries: usize = fakes.iter().map(|fake| look(fake).len()).sum();
    let memory = controller.memory()?;
    ensure!(fakes.iter().all(|fake| look(fake).counts.sessions > 0), "a switch never connected");
    let sessions: u64 = fakes.iter().map(|fake| look(fake).counts.sessions).sum();
    runtime.shutdown_background();
    Ok(json!({
        "switches": switches,
        "note": "simulated switches in this process, on real TCP connections to a real bulkheadd",
        "entries": entries,
        "wholeFabricAcceptedMs": (accepted.as_secs_f64() * 1e3).round(),
        "connectedAndProgrammedMs": (connected.as_secs_f64() * 1e3).round(),
        "sessions": sessions,
        "changeAccepted": answered.milliseconds(),
        "changeAcknowledgedByAll": acknowledged.milliseconds(),
        "echoesPerSecond": (asked as f64 / seconds).round(),
        "echoesAnswered": times.len() as f64 / asked.max(1) as f64,
        "echoMs": {"p50": at(50), "p99": at(99), "max": times.last().map(|us| f64::from(*us) / 1e3)},
        "memoryMiB": memory >> 20,
    }))
}

fn connect(number: usize, controller: SocketAddr, echoes: &Arc<Echoes>) -> Shared {
    let ports: Vec<String> = (0..LOCAL).map(port).collect();
    let switch = Arc::new(Mutex::new(Switch::new(FIRST + number as u64, &ports)));
    let habits = Habits { echo: Some(Duration::from_secs(1) / ECHOES), flap: None };
    tokio::spawn(run(Arc::clone(&switch), controller, habits, Arc::clone(echoes)));
    switch
}
