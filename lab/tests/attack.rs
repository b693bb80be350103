//! What an attack finds where it ought to find something, and where not. Passes over itself where there is no root or
//! no Open vSwitch, and says so.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use bulkhead_lab::attack::{self, Allowed, Report};
use bulkhead_lab::packets::Way;
use bulkhead_lab::underlay::PHYSICAL;
use bulkhead_lab::{Fabric, Family, Listeners, Scenario, Service, matrix};
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

/// Two hypervisors: `a` and `b` on the one, `c` on the other, and `x` of another network with the address of `b`.
fn scenario(name: &str) -> Scenario {
    let network = |name: &str, vni: u32| {
        json!({"kind": "Network", "metadata": {"name": name},
            "spec": {"vni": vni, "subnets": ["10.0.0.0/24", "fd00::/64"]}})
    };
    let ips = |number: u8| [ip(&format!("10.0.0.{number}")), ip(&format!("fd00::{number}"))];
    let mut scenario = Scenario::new(name)
        .hypervisor("hv1", ip("172.31.0.1"))
        .hypervisor("hv2", ip("172.31.0.2"))
        .workload("a", "hv1", "one", &ips(11))
        .workload("b", "hv1", "one", &ips(12))
        .workload("c", "hv2", "one", &ips(13))
        .workload("x", "hv1", "two", &ips(12))
        .resource(network("one", 1))
        .resource(network("two", 2));
    scenario.services = vec![Service::Tcp(80), Service::Icmp];
    scenario
}

/// Everything between `a` and `b` is allowed.
fn allowed() -> Allowed {
    let mut allowed = Allowed::new();
    for (from, to) in [("a", "b"), ("b", "a")] {
        for service in [Service::Tcp(80), Service::Icmp].into_iter().chain(attack::PORTS) {
            allowed.extend(Family::ALL.map(|family| (from.to_owned(), to.to_owned(), service, family)));
        }
    }
    allowed
}

fn classes(report: &Report) -> BTreeSet<&str> {
    report.tallies.keys().copied().filter(|class| report.breaches.iter().any(|one| one.starts_with(class))).collect()
}

#[test]
fn switches_that_pass_nothing_are_not_breached() {
    if !able() {
        return;
    }
    let fabric = Fabric::up(&scenario("shut")).unwrap();
    let report = attack::run(&fabric, &["a".into()], &allowed()).unwrap();
    assert_eq!(report.breaches, Vec::<String>::new());
    let scan = &report.tallies["scan"];
    assert_eq!(
        (scan.allowed, scan.missed),
        (0, 2 * 6 * 2),
        "to b's address, at b and at x: six services, two families"
    );
    assert!(report.tallies.values().all(|tally| tally.sent > 0 && tally.believed == 0), "{report:?}");
}

#[test]
fn a_switch_that_learns_and_floods_is_breached_in_every_way() {
    if !able() {
        return;
    }
    let fabric = Fabric::up(&scenario("open")).unwrap();
    for hypervisor in fabric.hypervisors() {
        hypervisor.ofctl("add-flow", &["actions=NORMAL"]).unwrap();
    }
    let report = attack::run(&fabric, &["a".into()], &allowed()).unwrap();
    let found = classes(&report);
    for class in ["scan", "spoofing", "neighbours", "oddities", "tunnels"] {
        assert!(found.contains(class), "{class}: {found:?}");
    }
    assert!(!found.contains("forged tunnels"), "there are no tunnels: {found:?}");
    assert!(report.tallies["scan"].allowed > 0, "what policy allows is no breach");
    assert!(report.breaches.iter().all(|one| !one.contains("received at c")), "no way leads to the other hypervisor");
}

#[test]
fn a_hypervisor_that_believes_every_tunnel_is_breached() {
    if !able() {
        return;
    }
    let fabric = Fabric::up(&scenario("gullible")).unwrap();
    let hv2 = fabric.hypervisor("hv2").unwrap();
    let port = ["add-port", "br-int", "gnv0", "--", "set", "interface", "gnv0", "type=geneve", "ofport_request=100"];
    hv2.vsctl(&[&port[..], &["options:key=flow", "options:remote_ip=flow"]].concat()).unwrap();
    let c = fabric.workload("c").unwrap().port();
    hv2.ofctl("add-flow", &[&format!("in_port=100,actions=output:{c}")]).unwrap();
    let mut allowed = allowed();
    allowed.insert(("a".into(), "c".into(), Service::Tcp(80), Family::V4));
    let report = attack::run(&fabric, &["a".into()], &allowed).unwrap();
    assert_eq!(classes(&report), BTreeSet::from(["forged networks", "forged tunnels"]), "{:?}", report.breaches);
    let told = |part: &str| report.breaches.iter().any(|one| one.contains(part));
    // From a VTEP, in the right network, to whom policy lets it: believed, and only because of the identity a breach.
    assert!(report.tallies["forged tunnels"].believed > 0);
    assert!(told("the identity in the header is not looked at"));
    assert!(!told("80/tcp from a to c: received at c") || told("from 172.31.0.254, 80/tcp from a to c"));
    assert!(told("from 172.31.0.254"));
    assert!(!told("now lead to"), "{:?}", report.breaches);
    // Without its guard, the forged packets tell it where hv1 is.
    let bare = hv2.dir().join(format!("{PHYSICAL}.mgmt"));
    let mut flows = hv2.command("ovs-ofctl");
    flows.arg("replace-flows").arg(bare).arg("-");
    bulkhead_lab::command::succeed(flows, Some("actions=NORMAL\n")).unwrap();
    let report = attack::run(&fabric, &[], &allowed).unwrap();
    let told = |part: &str| report.breaches.iter().any(|one| one.contains(part));
    assert!(told("hv2's tunnels to hv1 now lead to 02:be:00:00:00:ff"), "{:?}", report.breaches);
}

#[test]
fn forged_packets_that_move_a_vtep_are_noticed() {
    if !able() {
        return;
    }
    let fabric = Fabric::up(&scenario("moved")).unwrap();
    assert_eq!(attack::run(&fabric, &[], &allowed()).unwrap().breaches, Vec::<String>::new());
    let hv1 = fabric.hypervisor("hv1").unwrap();
    hv1.appctl(&["tnl/neigh/set", PHYSICAL, "172.31.0.2", "02:be:00:00:00:ff"]).unwrap();
    let report = attack::run(&fabric, &[], &allowed()).unwrap();
    assert!(report.breaches.iter().any(|one| one.contains("hv1's tunnels to hv2 now lead to")), "{report:?}");
}

#[test]
fn packets_are_what_kernels_take_for_packets() {
    if !able() {
        return;
    }
    let fabric = Fabric::up(&scenario("right")).unwrap();
    fabric.hypervisor("hv1").unwrap().ofctl("add-flow", &["actions=NORMAL"]).unwrap();
    let (a, b) = (fabric.workload("a").unwrap(), fabric.workload("b").unwrap());
    let _listeners = Listeners::start(b.namespace(), &[Service::Tcp(80), Service::Udp(53)]).unwrap();
    let wire = a.wire().unwrap();
    for family in Family::ALL {
        let (from, to) = (a.ip(family).unwrap(), b.ip(family).unwrap());
        let way = Way { from_mac: a.mac().0, to_mac: b.mac().0, from, to };
        let header = if family == Family::V4 { 34 } else { 54 };
        // b knows where a is from its claim, and answers everything.
        wire.inject(&way.claim(from, a.mac().0, b"")).unwrap();
        let answered = |frame: Vec<u8>, answer: &dyn Fn(&[u8]) -> bool| {
            wire.inject(&frame).unwrap();
            let from_b = |heard: &[u8]| heard.get(6..12) == Some(&b.mac().0) && heard.get(header..).is_some_and(answer);
            wire.find(PATIENCE, from_b).unwrap().is_some()
        };
        let port = |heard: &[u8], port: u16| heard.get(..2) == Some(&port.to_be_bytes());
        assert!(answered(way.syn(40_000, 80, b"data"), &|heard| port(heard, 80) && heard.get(13) == Some(&0x12)));
        assert!(answered(way.udp(40_000, 53, b"odd"), &|heard| port(heard, 53) && heard.get(8..11) == Some(b"odd")));
        let reply = if family == Family::V4 { 0 } else { 129 };
        assert!(answered(way.echo(b"hello"), &|heard| heard.first() == Some(&reply) && heard.ends_with(b"hello")));
    }
    let known = b.namespace().netlink().unwrap().neighbours().unwrap();
    assert!(known.iter().any(|one| one.ip == ip("10.0.0.11") && one.mac == Some(a.mac().0)));
}

#[test]
fn a_matrix_says_what_passes() {
    if !able() {
        return;
    }
    let fabric = Fabric::up(&scenario("asked")).unwrap();
    fabric.hypervisor("hv1").unwrap().ofctl("add-flow", &["priority=1,actions=NORMAL"]).unwrap();
    // x has b's address, and is on the same bridge here.
    let x = format!("priority=99,in_port={},actions=drop", fabric.workload("x").unwrap().port());
    fabric.hypervisor("hv1").unwrap().ofctl("add-flow", &[&x]).unwrap();
    for kind in ["tcp", "tcp6"] {
        let flow = format!("priority=9,{kind},tp_dst=80,actions=drop");
        fabric.hypervisor("hv1").unwrap().ofctl("add-flow", &[&flow]).unwrap();
    }
    let cells = matrix::real(&fabric, &allowed()).unwrap();
    let wrong: Vec<_> = cells.iter().filter(|cell| !cell.agrees(&allowed())).collect();
    assert_eq!(wrong.len(), 4, "a and b do not reach each other's port 80: {wrong:?}");
    assert!(wrong.iter().all(|cell| cell.service == Service::Tcp(80)), "{wrong:?}");
    assert!(cells.iter().all(|cell| !(cell.from == "a" && cell.to == "x")), "10.0.0.12 is b to a");
    assert!(cells.iter().any(|cell| cell.from == "x" && cell.to == "a" && !cell.answer.passed()));
}
