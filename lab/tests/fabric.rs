//! Scenarios on this machine: several real Open vSwitches on one underlay. Passes over itself where there is no root or
//! no Open vSwitch, and says so.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bulkhead_lab::hypervisor::BRIDGE;
use bulkhead_lab::underlay::{Cable, PHYSICAL};
use bulkhead_lab::{Answer, Daemon, End, Fabric, Family, Listeners, Live, Probe, Scenario, Service, Stream};
use serde_json::json;

/// How long something may take that has to come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// False, loudly, where a lab cannot be.
fn able() -> bool {
    let missing = bulkhead_lab::missing();
    if let Some(why) = &missing {
        eprintln!("NOT TESTED: {why}");
    }
    missing.is_none()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two hypervisors, a workload on each.
fn two(name: &str, vteps: [&str; 2]) -> Scenario {
    let network = json!({"kind": "Network", "metadata": {"name": "one"},
        "spec": {"vni": 1, "subnets": ["10.0.0.0/24", "fd00::/64"]}});
    Scenario::new(name)
        .hypervisor("hv1", ip(vteps[0]))
        .hypervisor("hv2", ip(vteps[1]))
        .workload("a", "hv1", "one", &[ip("10.0.0.11"), ip("fd00::11")])
        .workload("b", "hv2", "one", &[ip("10.0.0.12"), ip("fd00::12")])
        .resource(network)
}

/// Whether one VTEP's host reaches another address of the underlay.
fn reaches(fabric: &Fabric, from: &str, to: IpAddr, patience: Duration) -> Answer {
    let from = fabric.hypervisor(from).unwrap().namespace().clone();
    Probe { from, source: None, to, service: Service::Icmp, patience }.run().unwrap()
}

#[test]
fn vteps_reach_each_other_over_either_family() {
    if !able() {
        return;
    }
    for vteps in [["172.31.0.1", "172.31.0.2"], ["fd31::1", "fd31::2"]] {
        let fabric = Fabric::up(&two("vteps", vteps)).unwrap();
        assert_eq!(reaches(&fabric, "hv1", ip(vteps[1]), PATIENCE), Answer::Passed, "{vteps:?}");
        assert_eq!(reaches(&fabric, "hv2", ip(vteps[0]), PATIENCE), Answer::Passed, "{vteps:?}");
        // The attacker is on the same wire, and sees what it is told.
        let rogue = fabric.underlay().rogue().clone();
        let probe = Probe { from: rogue, source: None, to: ip(vteps[0]), service: Service::Icmp, patience: PATIENCE };
        assert_eq!(probe.run().unwrap(), Answer::Passed);
        let known = fabric.hypervisor("hv1").unwrap().namespace().netlink().unwrap().neighbours().unwrap();
        let peer = known.iter().find(|one| one.ip == ip(vteps[1])).unwrap();
        assert_eq!(peer.mac, Some(fabric.vtep_mac("hv2").unwrap()), "the bridge's own MAC answers, and no other");
        // The overlay is Bulkhead's: without it, nothing passes from one hypervisor to the other.
        let (a, b) = (fabric.workload("a").unwrap(), fabric.workload("b").unwrap());
        let short = Duration::from_millis(300);
        assert_ne!(Probe::new(a, b, Service::Icmp, Family::V4).unwrap().patience(short).run().unwrap(), Answer::Passed);
        fabric.down().unwrap();
    }
}

#[test]
fn nobody_else_answers_for_a_vtep() {
    if !able() {
        return;
    }
    let fabric = Fabric::up(&two("arp", ["172.31.0.1", "172.31.0.2"])).unwrap();
    let wire = fabric.underlay().rogue_wire().unwrap();
    let mut question = vec![0xff; 6];
    question.extend(fabric.underlay().rogue_mac());
    question.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    question.extend(fabric.underlay().rogue_mac());
    question.extend([172, 31, 0, 254, 0, 0, 0, 0, 0, 0, 172, 31, 0, 1]);
    wire.inject(&question).unwrap();
    let is_answer = |frame: &[u8]| frame.get(12..14) == Some(&[8, 6]) && frame.get(21) == Some(&2);
    let first = wire.find(PATIENCE, is_answer).unwrap().unwrap();
    assert_eq!(first[6..12], fabric.vtep_mac("hv1").unwrap());
    let second = wire.find(Duration::from_millis(300), is_answer).unwrap();
    assert_eq!(second, None, "the kernel answers on the bare interface too");
    // A packet for a port where nobody listens is answered once, by the bridge's own port.
    let socket = fabric.underlay().rogue().run(|| std::net::UdpSocket::bind("172.31.0.254:0")).unwrap().unwrap();
    socket.send_to(b"?", "172.31.0.1:9999").unwrap();
    let is_error = |frame: &[u8]| frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&1);
    assert!(wire.find(PATIENCE, is_error).unwrap().is_some());
    assert_eq!(wire.find(Duration::from_millis(300), is_error).unwrap(), None);
}

#[test]
fn plugged_interfaces_say_who_they_are() {
    if !able() {
        return;
    }
    let fabric = Fabric::up(&two("plugged", ["172.31.0.1", "172.31.0.2"])).unwrap();
    let hv1 = fabric.hypervisor("hv1").unwrap();
    let told = |key: &str| {
        let text = hv1.vsctl(&["get", "interface", "a", &format!("external_ids:{key}")]).unwrap();
        text.trim().trim_matches('"').to_owned()
    };
    assert_eq!((told("iface-id"), told("attached-mac")), ("a".into(), "02:bb:00:00:00:01".into()));
    assert_eq!(hv1.vsctl(&["list-ports", BRIDGE]).unwrap().trim(), "a");
    let documents = std::fs::read_to_string(fabric.resources()).unwrap();
    let found = bulkhead_types::validate([("resources.yaml", documents.as_bytes())]);
    assert!(found.iter().all(|one| one.severity != bulkhead_types::Severity::Error), "{found:?}");
}

#[test]
fn a_workload_is_carried_with_its_connections() {
    if !able() {
        return;
    }
    let mut fabric = Fabric::up(&two("carried", ["172.31.0.1", "172.31.0.2"])).unwrap();
    for hypervisor in fabric.hypervisors() {
        hypervisor.ofctl("add-flow", &["actions=NORMAL"]).unwrap();
    }
    fabric.carry("b", "hv1").unwrap();
    assert_eq!(fabric.scenario().guest("b").unwrap().hypervisor, "hv1");
    let (a, b) = (fabric.workload("a").unwrap().clone(), fabric.workload("b").unwrap().clone());
    let _listeners = Listeners::start(b.namespace(), &[Service::Tcp(80)]).unwrap();
    let live = Live::open(a.namespace(), (b.ip(Family::V4).unwrap(), 80).into(), PATIENCE).unwrap();
    assert!(live.speaks(PATIENCE));
    fabric.carry("b", "hv2").unwrap();
    assert!(live.wait_for_silence(Duration::from_millis(500), PATIENCE).is_some(), "there is no overlay");
    fabric.carry("b", "hv1").unwrap();
    assert!(live.speaks(PATIENCE), "the connection was lost on the way");
    assert!(fabric.carry("b", "hv1").is_err() && fabric.carry("b", "hv3").is_err());
}

#[test]
fn daemons_are_restarted_and_cables_pulled() {
    if !able() {
        return;
    }
    let mut fabric = Fabric::up(&two("restart", ["172.31.0.1", "172.31.0.2"])).unwrap();
    for (daemon, how) in
        [(Daemon::Database, End::Orderly), (Daemon::Switch, End::Crash), (Daemon::Switch, End::Orderly)]
    {
        let before = fabric.lab().daemon("hv1", daemon).unwrap();
        fabric.restart("hv1", daemon, how).unwrap();
        assert!(!before.runs() && fabric.lab().daemon("hv1", daemon).unwrap().runs());
        assert_eq!(reaches(&fabric, "hv1", ip("172.31.0.2"), PATIENCE), Answer::Passed, "{daemon:?} {how:?}");
    }
    fabric.underlay().cable("hv2", Cable::Out).unwrap();
    assert_ne!(reaches(&fabric, "hv1", ip("172.31.0.2"), Duration::from_millis(300)), Answer::Passed);
    fabric.underlay().cable("hv2", Cable::In).unwrap();
    assert_eq!(reaches(&fabric, "hv1", ip("172.31.0.2"), PATIENCE), Answer::Passed);
    let hv1 = fabric.hypervisor("hv1").unwrap();
    hv1.vsctl(&["del-br", BRIDGE]).unwrap();
    assert_eq!(hv1.vsctl(&["list-br"]).unwrap().trim(), PHYSICAL);
}

#[test]
fn a_stream_counts_what_is_lost() {
    if !able() {
        return;
    }
    let mut scenario = two("stream", ["172.31.0.1", "172.31.0.2"]);
    for guest in &mut scenario.workloads {
        guest.hypervisor = "hv1".into();
    }
    let fabric = Fabric::up(&scenario).unwrap();
    let hv1 = fabric.hypervisor("hv1").unwrap();
    hv1.ofctl("add-flow", &["actions=NORMAL"]).unwrap();
    let (a, b) = (fabric.workload("a").unwrap(), fabric.workload("b").unwrap());
    for family in Family::ALL {
        let to = b.ip(family).unwrap();
        let first = Probe::new(a, b, Service::Icmp, family).unwrap().patience(PATIENCE).run().unwrap();
        assert_eq!(first, Answer::Passed);
        let start = || Stream::start(a.namespace(), a.ip(family), to, 200).unwrap();
        let stream = start();
        std::thread::sleep(Duration::from_millis(500));
        let losses = stream.stop().unwrap();
        assert!(losses.sent >= 20, "{losses:?}");
        assert_eq!(losses.lost(), 0, "{losses:?}");

        let stream = start();
        std::thread::sleep(Duration::from_millis(200));
        let from = format!("priority=40000,in_port={}", a.port());
        hv1.ofctl("add-flow", &[&format!("{from},actions=drop")]).unwrap();
        let cut = Instant::now();
        std::thread::sleep(Duration::from_millis(300));
        let lasted = cut.elapsed();
        hv1.ofctl("del-flows", &["--strict", &from]).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let losses = stream.stop().unwrap();
        assert!(losses.lost() >= 20 && losses.answered >= 20, "{losses:?}");
        assert!(losses.longest_gap + Duration::from_millis(50) >= lasted, "{losses:?}, cut for {lasted:?}");
    }
}

#[test]
fn afxdp_ports_carry_packets() {
    if !able() {
        return;
    }
    let mut scenario = two("afxdp", ["172.31.0.1", "172.31.0.2"]);
    scenario.datapath = bulkhead_lab::Datapath::Afxdp;
    let fabric = match Fabric::up(&scenario) {
        Ok(fabric) => fabric,
        Err(error) => {
            eprintln!("NOT TESTED: no AF_XDP here: {error:#}");
            return;
        }
    };
    assert_eq!(reaches(&fabric, "hv1", ip("172.31.0.2"), PATIENCE), Answer::Passed);
}
