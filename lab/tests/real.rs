//! The lab on this machine: namespaces, a real Open vSwitch, real packets. Passes over itself where there is no root
//! or no Open vSwitch, and says so.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_lab::probe::run_all;
use bulkhead_lab::{Answer, Family, Hypervisor, Lab, Listeners, Live, Probe, Service, Spec, Wire, Workload};

const SERVICES: [Service; 3] = [Service::Tcp(443), Service::Udp(53), Service::Icmp];

/// False, loudly, where a lab cannot be.
fn able() -> bool {
    let missing = bulkhead_lab::missing();
    if let Some(why) = &missing {
        eprintln!("NOT TESTED: {why}");
    }
    missing.is_none()
}

fn host(lab: &mut Lab, on: &Hypervisor, number: u8) -> Workload {
    let ips: [IpAddr; 2] = [format!("10.1.0.{number}").parse().unwrap(), format!("fd00:1::{number}").parse().unwrap()];
    lab.workload(on, &format!("w-{number}"), format!("02:00:00:00:00:{number:02}").parse().unwrap(), &ips).unwrap()
}

fn pair(prefix: &str) -> (Lab, Hypervisor, Workload, Workload) {
    let mut lab = Lab::new(prefix).unwrap();
    let hv1 = lab.hypervisor("hv1", 0xb1).unwrap();
    let (a, b) = (host(&mut lab, &hv1, 10), host(&mut lab, &hv1, 21));
    (lab, hv1, a, b)
}

fn ask(a: &Workload, b: &Workload, patience: Duration) -> Vec<Answer> {
    let questions = SERVICES.into_iter().flat_map(|service| Family::ALL.map(|family| (service, family)));
    let probes: Vec<_> =
        questions.map(|(service, family)| Probe::new(a, b, service, family).unwrap().patience(patience)).collect();
    run_all(&probes, 4).unwrap()
}

const PASSING: Duration = Duration::from_secs(3);
const FAILING: Duration = Duration::from_millis(300);

#[test]
fn packets_pass_exactly_where_the_switch_lets_them() {
    if !able() {
        return;
    }
    let (lab, hv1, a, b) = pair("flows");
    let _listeners = Listeners::start(b.namespace(), &SERVICES).unwrap();

    assert_eq!(hv1.flows().unwrap(), Vec::<String>::new());
    assert_eq!(ask(&a, &b, FAILING), [Answer::Silence; 6], "an empty switch in secure mode passes nothing");

    hv1.ofctl("add-flow", &["priority=1,actions=NORMAL"]).unwrap();
    assert_eq!(ask(&a, &b, PASSING), [Answer::Passed; 6]);

    hv1.ofctl("add-flow", &["priority=9,tcp,tp_dst=443,actions=drop"]).unwrap();
    hv1.ofctl("add-flow", &["priority=9,tcp6,tp_dst=443,actions=drop"]).unwrap();
    let answers = ask(&a, &b, FAILING);
    assert_eq!(answers[..2], [Answer::Silence; 2]);
    assert_eq!(answers[2..], [Answer::Passed; 4]);

    // Nobody listens here: the kernel says no.
    let closed = Probe::new(&a, &b, Service::Tcp(8080), Family::V6).unwrap().patience(PASSING);
    assert_eq!(closed.run().unwrap(), Answer::Refused);
    let closed = Probe::new(&a, &b, Service::Udp(5353), Family::V4).unwrap().patience(PASSING);
    assert_eq!(closed.run().unwrap(), Answer::Refused);
    lab.down().unwrap();
}

#[test]
fn a_live_connection_is_seen_to_be_cut_and_to_come_back() {
    if !able() {
        return;
    }
    let (_lab, hv1, a, b) = pair("live");
    let _listeners = Listeners::start(b.namespace(), &[Service::Tcp(443), Service::Tcp(8080)]).unwrap();
    hv1.ofctl("add-flow", &["priority=1,actions=NORMAL"]).unwrap();
    let to = |port| (b.ip(Family::V4).unwrap(), port).into();
    let cut = Live::open(a.namespace(), to(443), PASSING).unwrap();
    let other = Live::open(a.namespace(), to(8080), PASSING).unwrap();
    assert!(cut.speaks(PASSING) && other.speaks(PASSING));
    hv1.ofctl("add-flow", &["priority=9,tcp,tp_dst=443,actions=drop"]).unwrap();
    assert!(cut.wait_for_silence(Duration::from_millis(300), PASSING).is_some());
    assert!(other.speaks(PASSING));
    hv1.ofctl("del-flows", &["tcp,tp_dst=443"]).unwrap();
    assert!(cut.speaks(PASSING), "TCP sends again what was lost");
}

#[test]
fn frames_go_in_and_come_out_unchanged() {
    if !able() {
        return;
    }
    let mut lab = Lab::new("frames").unwrap();
    let hv1 = lab.hypervisor("hv1", 0xb1).unwrap();
    let a = lab.add(&hv1, &Spec::silent("a", "02:00:00:00:00:0a".parse().unwrap())).unwrap();
    let b = lab.add(&hv1, &Spec::silent("b", "02:00:00:00:00:0b".parse().unwrap())).unwrap();
    let (wire_a, wire_b) = (Wire::open(a.namespace(), "eth0").unwrap(), Wire::open(b.namespace(), "eth0").unwrap());
    let flow = format!("in_port={},actions=output:{}", a.port(), b.port());
    hv1.ofctl("add-flow", &[&flow]).unwrap();

    let mut frame = vec![2, 0, 0, 0, 0, 0x0b, 2, 0, 0, 0, 0, 0x0a, 0x88, 0xb5];
    frame.extend((0..=255).cycle().take(900));
    wire_a.inject(&frame).unwrap();
    assert_eq!(wire_b.receive(PASSING).unwrap(), Some(frame.clone()));
    // Not back to the sender, and not twice; silent hosts say nothing of their own.
    assert_eq!(wire_a.drain(FAILING).unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(wire_b.drain(Duration::from_millis(10)).unwrap(), Vec::<Vec<u8>>::new());
    wire_b.inject(&frame).unwrap();
    assert_eq!(wire_a.receive(FAILING).unwrap(), None, "no flow, no frame");
}

#[test]
fn two_labs_do_not_see_each_other_and_leave_nothing() {
    if !able() {
        return;
    }
    let (one, hv_one, a_one, _) = pair("twin");
    let (two, hv_two, _, b_two) = pair("twin");
    assert_ne!(one.tag(), two.tag());
    assert_ne!(hv_one.controller_address(), hv_two.controller_address());
    for hypervisor in [&hv_one, &hv_two] {
        hypervisor.ofctl("add-flow", &["actions=NORMAL"]).unwrap();
    }
    let _listeners = Listeners::start(b_two.namespace(), &SERVICES).unwrap();
    // The same addresses are in both labs: the other lab's listeners must not answer.
    let stray = Probe { to: b_two.ips()[0], ..Probe::new(&a_one, &b_two, Service::Tcp(443), Family::V4).unwrap() };
    assert_eq!(stray.run().unwrap(), Answer::Refused, "the own lab's host refuses, it has no listener");

    let (tags, dirs) = ([one.tag().to_owned(), two.tag().to_owned()], [one.dir().to_owned(), two.dir().to_owned()]);
    let daemons = processes_in(&dirs[0]);
    assert_eq!(daemons.len(), 2, "ovsdb-server and ovs-vswitchd: {daemons:?}");
    one.down().unwrap();
    drop(two);
    let names = std::fs::read_dir("/run/netns").unwrap().map(|name| name.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| tags.iter().any(|tag| name.to_string_lossy().starts_with(tag))).collect();
    assert!(left.is_empty(), "{left:?}");
    for dir in &dirs {
        assert!(!dir.exists());
        assert_eq!(processes_in(dir), Vec::<String>::new());
    }
    let links = std::process::Command::new("ip").args(["-o", "link"]).output().unwrap();
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    assert!(!links.contains(&format!(": b{}-", base36(std::process::id()))), "{links}");
}

/// Command lines that name a directory.
fn processes_in(dir: &std::path::Path) -> Vec<String> {
    let files = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("cmdline"));
    let lines = files.filter_map(|file: PathBuf| std::fs::read_to_string(file).ok());
    lines.filter(|line| line.contains(&*dir.to_string_lossy())).collect()
}

fn base36(number: u32) -> String {
    let digit = |value: u32| char::from_digit(value, 36).unwrap();
    let mut rest = number;
    let mut text = String::new();
    while rest > 0 {
        text.insert(0, digit(rest % 36));
        rest /= 36;
    }
    text
}
