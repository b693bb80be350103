//! Forwarding during a large change: the longest gap that an unrelated, allowed flow of 1,000 packets per second sees
//! while a real switch takes very many entries, and while it gives them up again.

use anyhow::{Context, Result, ensure};
use bulkhead_client::Client;
use bulkhead_lab::{Lab, Workload, workload::Family};
use bulkhead_tests::controller::Controller;
use bulkhead_topology::Mac;
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Pause between two packets.
const PACE: Duration = Duration::from_millis(1);
/// Where the flow goes.
const PORT: u16 = 9000;
/// Entries of one policy: services that make no block together.
const SERVICES: usize = 50;
/// How often the change is made and taken back.
const ROUNDS: usize = 3;
/// How long the flow is watched with nothing else going on.
const QUIET: Duration = Duration::from_secs(3);
/// How long any change may take.
const LIMIT: Duration = Duration::from_secs(120);

fn workload(index: u8, app: &str) -> Value {
    json!({"kind": "Workload", "metadata": {"name": format!("w{index}"), "labels": {"app": app}},
        "spec": {"network": "net", "interfaces": [{"mac": format!("02:00:00:00:00:{index:02x}"),
            "ips": [format!("10.1.0.{index}")], "attachment": {"switch": "hv1", "port": format!("w{index}")}}]}})
}

fn base() -> Vec<Value> {
    let own = json!({"matchLabels": {"app": "pace"}});
    vec![
        json!({"kind": "Network", "metadata": {"name": "net"}, "spec": {"vni": 5001, "subnets": ["10.1.0.0/16"]}}),
        json!({"kind": "Switch", "metadata": {"name": "hv1"}, "spec": {"driver": "openflow", "datapathId": "0xb1"}}),
        workload(11, "pace"),
        workload(12, "pace"),
        workload(13, "target"),
        json!({"kind": "Policy", "metadata": {"name": "pace"}, "spec": {"subject": own,
            "ingress": [{"action": "allow", "from": [own], "ports": [{"protocol": "udp", "port": PORT}]}],
            "egress": [{"action": "allow", "to": [own], "ports": [{"protocol": "udp", "port": PORT}]}]}}),
    ]
}

/// Policies of this many entries, all about somebody else.
fn bulk(entries: usize) -> Vec<Value> {
    let ports: Vec<_> = (0..SERVICES).map(|n| json!({"protocol": "tcp", "port": 1001 + 2 * n})).collect();
    (0..entries / SERVICES)
        .map(|number| {
            json!({"kind": "Policy", "metadata": {"name": format!("bulk-{number}")}, "spec": {
                "subject": {"matchLabels": {"app": "target"}},
                "ingress": [{"action": "allow", "from": [{"cidr": format!("198.18.{}.{}/32", number / 250, number % 250)}],
                             "ports": ports}]}})
        })
        .collect()
}

/// Measures a change of this many entries.
pub(crate) fn measure(entries: usize) -> Result<Value> {
    let mut lab = Lab::new("stall")?;
    let switch = lab.hypervisor("hv1", 0xb1)?;
    let mut place = |index: u8| {
        let mac: Mac = format!("02:00:00:00:00:{index:02x}").parse()?;
        lab.workload(&switch, &format!("w{index}"), mac, &[Ipv4Addr::new(10, 1, 0, index).into()])
    };
    let [from, to, _] = [place(11)?, place(12)?, place(13)?];
    let program = std::env::current_exe()?.with_file_name("bulkheadd");
    let controller = Controller::start(&program, switch.controller_address())?;
    let client = &controller.client;
    switch.set_controller(controller.openflow)?;
    done(client, client.apply(&base(), false)?.revision)?;

    let flow = Flow::open(&from, &to)?;
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
            let documents = bulk(entries);
            for _ in 0..ROUNDS {
                let began = Instant::now();
                done(client, client.apply(&documents, false)?.revision)?;
                let installed = Instant::now();
                done(client, client.delete(&documents, false)?.revision)?;
                rounds.push((began, installed, Instant::now()));
            }
            Ok(quiet)
        })();
        over.store(true, Ordering::Relaxed);
        sender.join().ok().context("the sender broke")??;
        let arrivals = receiver.join().ok().context("the receiver broke")??;
        measured.map(|quiet| (arrivals, quiet))
    })?;
    ensure!(arrivals.len() > 1000, "the flow does not get through: {} packets", arrivals.len());
    let flows = client.status()?.switches.first().map_or(0, |switch| switch.entries);
    lab.down()?;
    let rows: Vec<_> = rounds
        .iter()
        .map(|(began, installed, removed)| {
            json!({"installMs": (*installed - *began).as_millis() as u64, "installGapMs": gap(&arrivals, *began, *installed),
                   "removalMs": (*removed - *installed).as_millis() as u64, "removalGapMs": gap(&arrivals, *installed, *removed)})
        })
        .collect();
    Ok(json!({
        "entries": entries,
        "packetsPerSecond": 1000,
        "packets": arrivals.len(),
        "quietGapMs": gap(&arrivals, quiet.0, quiet.1),
        "rounds": rows,
        "entriesAfterwards": flows,
        "note": "longest time between two arrivals; the sender, the receiver and the controller run on the same cores as \
                 the switch, so the quiet gap is the machine's own",
    }))
}

fn done(client: &Client, revision: u64) -> Result<()> {
    let realized = client.realization(revision, LIMIT)?;
    ensure!(realized.realized && realized.disconnected.is_empty(), "not taken: {realized:?}");
    Ok(())
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
