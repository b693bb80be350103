//! `bulkhead-lab` with a controller: what its matrix and its attack say of a switch that Bulkhead programs, and of one
//! where somebody has opened a hole.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_lab::{Family, Listeners, Service, Site, packets};
use bulkhead_tests::controller::program;
use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, TcpStream},
    path::Path,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// How long anything may take that has to come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// A scenario of the test's own, up with a controller; taken down however the test ends.
struct Up(String);

impl Up {
    /// One of the repository's scenarios. `None`, loudly, where a lab cannot be.
    fn new(name: &str) -> Option<Up> {
        Up::with(&scenario(name))
    }

    /// The same, with leaves of this sort.
    fn on_leaves(name: &str, device: &str) -> Option<Up> {
        let text = scenario(name);
        let sorted = text.replace("kind: p4}", &format!("kind: p4, device: {device}}}"));
        assert_ne!(text, sorted);
        Up::with(&sorted)
    }

    /// The same, of this text; whatever it calls itself, it gets a name of its own.
    fn with(text: &str) -> Option<Up> {
        static LAST: AtomicU32 = AtomicU32::new(0);
        if let Some(why) = bulkhead_lab::missing() {
            eprintln!("NOT TESTED: {why}");
            return None;
        }
        // All of them are needed, and of the sources that are there now.
        for name in ["bulkheadd", "bulkhead", "bulkhead-p4-target"] {
            program(name).unwrap();
        }
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let up = Up(format!("judged{}-{number}", std::process::id() % 100_000));
        let name = text.lines().find(|line| line.starts_with("lab: ")).unwrap();
        let text = text.replacen(name, &format!("lab: {}", up.0), 1);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("scenario.yaml");
        std::fs::write(&file, text).unwrap();
        let done = lab(&["up", file.to_str().unwrap(), "--with-controller"]);
        assert!(done.status.success(), "{}", text_of(&done));
        Some(up)
    }

    /// What a program says that is run in a workload or on a hypervisor, and whether it succeeded.
    fn exec(&self, place: &str, program: &[&str]) -> (bool, String) {
        let done = lab(&[&["exec", "--lab", &self.0, place], program].concat());
        (done.status.success(), text_of(&done))
    }

    fn site(&self) -> Site {
        Site::kept().unwrap().into_iter().find(|site| site.scenario().lab == self.0).unwrap()
    }

    fn ask(&self, verb: &str) -> (Option<i32>, String) {
        let done = lab(&[verb, "--lab", &self.0]);
        (done.status.code(), text_of(&done))
    }

    fn ofctl(&self, arguments: &[&str]) {
        let done = lab(&[&["exec", "--lab", &self.0, "hv1", "ovs-ofctl"], arguments].concat());
        assert!(done.status.success(), "{}", text_of(&done));
    }
}

fn scenario(name: &str) -> String {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../lab/scenarios")).join(format!("{name}.yaml"));
    std::fs::read_to_string(file).unwrap()
}

/// Whether BMv2 is on the PATH; says so where it is not.
fn bmv2() -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&folders).any(|folder| folder.join("simple_switch_grpc").is_file());
    if !there {
        eprintln!("NOT TESTED: labs with BMv2: simple_switch_grpc is not on the PATH");
    }
    there
}

impl Drop for Up {
    fn drop(&mut self) {
        lab(&["down", &self.0]);
    }
}

fn lab(arguments: &[&str]) -> Output {
    Command::new(program("bulkhead-lab").unwrap()).args(arguments).output().unwrap()
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_switch_of_bulkheads_is_as_policy_says_and_a_hole_is_found() {
    let Some(up) = Up::new("one-host") else { return };
    let (code, told) = up.ask("matrix");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("36 probes, 6 passed, 0 not as policy says"), "{told}");
    let (code, told) = up.ask("attack");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("\n0 breaches"), "{told}");

    // Somebody's own flow, in front of everything: Bulkhead leaves foreign entries alone, and it is found.
    let bridge = lab(&["exec", "--lab", &up.0, "hv1", "sh", "-c", "echo $OVS_RUNDIR/br-int.mgmt"]);
    let bridge = text_of(&bridge).trim().to_owned();
    up.ofctl(&["-O", "OpenFlow13", "add-flow", &bridge, "table=0,priority=65535,actions=NORMAL"]);
    let (code, told) = up.ask("matrix");
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("WRONG web -> db 5432/tcp IPv4: passed, policy says deny"), "{told}");
    let (code, told) = up.ask("attack");
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("BREACH scan from web") && told.contains("BREACH spoofing"), "{told}");
}

/// Real packets, friendly and hostile, in one of the repository's scenarios that is up. What the attack told.
fn is_as_policy_says(up: &Up) -> String {
    let (code, told) = up.ask("matrix");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(" 0 not as policy says") && !told.contains(" 0 passed"), "{told}");
    let (code, told) = up.ask("attack");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("\n0 breaches"), "{told}");
    told
}

#[test]
fn two_hosts_over_geneve() {
    let Some(up) = Up::new("two-host-geneve") else { return };
    // The very first packets between them get there: nobody's is spent on looking for a neighbour.
    for (from, to) in [("web-1", "10.0.0.22"), ("web-2", "fd00:1::21"), ("web-1", "fd00:1::22"), ("web-2", "10.0.0.21")]
    {
        let (passed, told) = up.exec(from, &["ping", "-c", "1", "-W", "2", to]);
        assert!(passed, "{told}");
    }
    is_as_policy_says(&up);
}

#[test]
fn three_hosts_over_geneve_and_vxlan() {
    let Some(up) = Up::new("three-host-mixed") else { return };
    is_as_policy_says(&up);
}

#[test]
fn two_tenants_with_the_same_addresses() {
    let Some(up) = Up::new("two-tenants") else { return };
    is_as_policy_says(&up);
}

#[test]
fn an_underlay_of_ipv6() {
    let Some(up) = Up::new("ipv6-underlay") else { return };
    is_as_policy_says(&up);
}

#[test]
fn two_hosts_whose_switches_and_databases_speak_tls() {
    let Some(up) = Up::new("two-host-tls") else { return };
    let site = up.site();
    let client = bulkhead_client::Client::new(site.server().unwrap()).unwrap();
    for switch in client.status().unwrap().switches {
        let hypervisor = site.hypervisor(&switch.name).unwrap();
        // Both ways are protected, and each end has shown its own certificate.
        assert_eq!(switch.session.unwrap().certificate, Some(switch.name.clone()));
        let host = switch.host.unwrap();
        assert!(host.shaped && host.ovsdb == format!("ssl:{}:6640", hypervisor.control_address()), "{host:?}");
        let target = hypervisor.vsctl(&["get-controller", "br-int"]).unwrap();
        assert!(target.starts_with("ssl:"), "{target}");
    }
    // Whoever comes without a certificate is told nothing.
    let target = site.hypervisor("hv1").unwrap().vsctl(&["get-controller", "br-int"]).unwrap();
    let mut plain = TcpStream::connect(target.trim().trim_start_matches("ssl:")).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(&[4, 0, 0, 8, 0, 0, 0, 1]).unwrap();
    let mut told = Vec::new();
    // Ended, whichever way; an alert at most (RFC 8446 §6).
    let ended = plain.read_to_end(&mut told);
    let waited = ended.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    assert!(!waited && (told.is_empty() || told[0] == 21), "{told:?}");
    is_as_policy_says(&up);
}

#[test]
fn bare_metal_on_a_stand_in_for_a_p4_switch() {
    let Some(up) = Up::on_leaves("p4-leaf", "stand-in") else { return };
    is_as_policy_says(&up);
    // A tag makes a frame another one: who is no trunk sends none, though all else in it is right.
    let site = up.site();
    let (web, app) = (site.workload("web-1").unwrap(), site.workload("app-1").unwrap());
    let [to, from] = [app, web].map(|one| (one.mac().0, one.ip(Family::V4).unwrap()));
    let way = packets::Way { from_mac: from.0, to_mac: to.0, from: from.1, to: to.1 };
    let heard = app.wire().unwrap();
    for (tagged, passes) in [(true, false), (false, true)] {
        let syn = way.syn(40_000, 80, &[u8::from(tagged); 9]);
        let frame = if tagged { packets::tagged(&syn, 7) } else { syn.clone() };
        web.wire().unwrap().inject(&frame).unwrap();
        if passes {
            // The other one would have come before.
            let ours = |frame: &[u8]| frame.ends_with(&[0; 9]) || frame.ends_with(&[1; 9]);
            assert_eq!(heard.find(PATIENCE, ours).unwrap(), Some(syn));
        }
    }
    let done = lab(&["status", &up.0]);
    let told = text_of(&done);
    assert!(done.status.success() && told.contains("leaf1           VTEP 172.31.0.1      runs; "), "{told}");
}

#[test]
fn bare_metal_on_bmv2() {
    if bmv2()
        && let Some(up) = Up::on_leaves("p4-leaf", "bmv2")
    {
        is_as_policy_says(&up);
    }
}

/// What is in front of the frame in the first packet of a tunnel that a host sends when `from` pings somebody.
fn header(up: &Up, host: &str, from: &str, to: &str, port: u16) -> Vec<u8> {
    let wire = up.site().underlay().tap(host).unwrap();
    let (passed, told) = up.exec(from, &["ping", "-c", "1", "-W", "5", to]);
    assert!(passed, "{told}");
    let tunnel = |frame: &[u8]| frame[12..14] == [8, 0] && frame[23] == 17 && frame[36..38] == port.to_be_bytes();
    wire.find(PATIENCE, tunnel).unwrap().unwrap()[42..].to_vec()
}

/// As [`is_as_policy_says`], and what a VTEP could have said itself is believed: other forgeries that were just so are not.
fn is_as_policy_says_of_identities(up: &Up) {
    let told = is_as_policy_says(up);
    let forged = told.lines().find(|line| line.starts_with("forged tunnels")).unwrap();
    let believed: usize = forged.split_ascii_whitespace().nth(4).unwrap().parse().unwrap();
    assert!(believed > 0, "{told}");
}

/// A leaf of either sort among hypervisors, one policy over all.
fn mixed(device: &str) {
    let Some(up) = Up::on_leaves("mixed-leaf", device) else { return };
    // Who sends is said by the same number, wherever he is (RFC 8926 §3.4, and our option).
    let [metal, virtual_] = [("leaf1", "metal-web"), ("hv1", "web-1")].map(|(host, from)| {
        let header = header(&up, host, from, "10.0.0.22", 6081);
        assert_eq!((header[0], &header[8..12]), (2, &[0xff, 0xb0, 1, 1][..]), "{header:02x?}");
        header[12..16].to_vec()
    });
    assert!(metal == virtual_ && metal != [0; 4], "{metal:02x?} {virtual_:02x?}");
    is_as_policy_says_of_identities(&up);
}

/// Two leaves of one sort, and VXLAN with the group-policy extension between them.
fn leaves(device: &str) {
    let Some(up) = Up::on_leaves("two-leaf-vxlan", device) else { return };
    let header = header(&up, "leaf1", "web-1", "10.0.0.21", 4789);
    assert!(header[0] == 0x88 && header[2..4] != [0; 2], "{header:02x?}");
    is_as_policy_says_of_identities(&up);
}

#[test]
fn bare_metal_and_hypervisors_under_one_policy() {
    mixed("stand-in");
}

#[test]
fn bmv2_and_hypervisors_under_one_policy() {
    if bmv2() {
        mixed("bmv2");
    }
}

#[test]
fn two_leaves_over_vxlan() {
    leaves("stand-in");
}

#[test]
fn two_bmv2s_over_vxlan() {
    if bmv2() {
        leaves("bmv2");
    }
}

/// Workloads whose longest packets do not fit the underlay, each in a subnet of its own.
const NARROW: &str = r#"
lab: narrow
services: [80/tcp]
underlayMtu: 1400
hypervisors:
- {name: hv1, vtep: 172.31.0.1}
- {name: hv2, vtep: 172.31.0.2}
workloads:
- {name: a, hypervisor: hv1, network: net, ips: [10.0.1.11, "fd00:1::11"], gateways: [10.0.1.1, "fd00:1::1"]}
- {name: b, hypervisor: hv2, network: net, ips: [10.0.2.12, "fd00:2::12"], gateways: [10.0.2.1, "fd00:2::1"]}
---
kind: Network
metadata: {name: net}
spec:
  vni: 5001
  subnets: [10.0.1.0/24, 10.0.2.0/24, "fd00:1::/64", "fd00:2::/64"]
  gateways: [10.0.1.1, 10.0.2.1, "fd00:1::1", "fd00:2::1"]
  defaultAction: allow
"#;

/// So many bytes there and back.
fn echoed(stream: &mut TcpStream, length: usize) {
    let sent: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let writing = {
        let sent = sent.clone();
        std::thread::spawn(move || writer.write_all(&sent).unwrap())
    };
    let mut received = vec![0; length];
    stream.read_exact(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent);
}

#[test]
fn routed_hosts_find_out_what_fits() {
    let Some(up) = Up::with(NARROW) else { return };
    let site = up.site();
    let (a, b) = (site.workload("a").unwrap(), site.workload("b").unwrap());
    for (from, gateway) in [("a", "10.0.1.1"), ("a", "fd00:1::1"), ("b", "10.0.2.1"), ("b", "fd00:2::1")] {
        let (passed, told) = up.exec(from, &["ping", "-c", "1", "-W", "2", gateway]);
        assert!(passed, "{told}");
    }
    // One hop too few: the gateway says so.
    for (to, gateway) in [("10.0.2.12", "10.0.1.1"), ("fd00:2::12", "fd00:1::1")] {
        let (passed, told) = up.exec("a", &["ping", "-c", "1", "-W", "2", "-t", "1", to]);
        assert!(!passed && told.contains(&format!("From {gateway}")), "{told}");
    }
    let _listeners = Listeners::start(b.namespace(), &[Service::Tcp(80)]).unwrap();
    for family in Family::ALL {
        let to: IpAddr = b.ip(family).unwrap();
        let stream = a.namespace().run(|| TcpStream::connect_timeout(&(to, 80).into(), PATIENCE)).unwrap();
        let mut stream = stream.unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut greeting = [0; bulkhead_lab::serve::GREETING.len()];
        stream.read_exact(&mut greeting).unwrap();
        // Both ends send segments of 1,400 bytes until they are told.
        echoed(&mut stream, 200_000);
    }
    // Both switches told: Geneve leaves 1,342 bytes.
    for (from, to) in [("a", "10.0.2.12"), ("b", "10.0.1.11"), ("a", "fd00:2::12"), ("b", "fd00:1::11")] {
        let (_, told) = up.exec(from, &["ip", "route", "get", to]);
        assert!(told.contains("mtu 1342"), "{from} {told}");
    }
}
