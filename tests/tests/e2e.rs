//! The programs as an operator runs them, on a real Open vSwitch. `make test` builds them first.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_lab::{End, Lab, process::Process};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

/// Two labs at once would only make each other slow.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// How long anything may take to come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const DOCUMENTS: &str = r#"
kind: Network
metadata: {name: net}
spec: {vni: 5001, subnets: [10.1.0.0/16]}
---
kind: Switch
metadata: {name: hv1}
spec: {driver: openflow, datapathId: "0xb1"}
---
kind: Workload
metadata: {name: a, labels: {app: x}}
spec: {network: net, interfaces: [{mac: "02:00:00:00:00:0a", ips: [10.1.0.10], attachment: {switch: hv1, port: a}}]}
---
kind: Workload
metadata: {name: b, labels: {app: x}}
spec: {network: net, interfaces: [{mac: "02:00:00:00:00:0b", ips: [10.1.0.11], attachment: {switch: hv1, port: b}}]}
---
kind: Policy
metadata: {name: ping}
spec:
  subject: {matchLabels: {app: x}}
  ingress: [{action: allow, from: [{matchLabels: {app: x}}], ports: [{protocol: icmp, type: 8}]}]
  egress: [{action: allow, to: [{matchLabels: {app: x}}], ports: [{protocol: icmp, type: 8}]}]
"#;

/// Whether there can be labs here; says so if not.
fn able() -> bool {
    match bulkhead_lab::missing() {
        None => true,
        Some(why) => {
            eprintln!("NOT TESTED: the programs on a real Open vSwitch: {why}");
            false
        }
    }
}

fn program(name: &str) -> PathBuf {
    // target/debug/deps/e2e-0123 -> target/debug
    let own = std::env::current_exe().unwrap();
    let path = own.ancestors().nth(2).unwrap().join(name);
    assert!(path.is_file(), "{} is not built: `make build`", path.display());
    path
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn free(address: Ipv4Addr) -> SocketAddr {
    TcpListener::bind((IpAddr::V4(address), 0)).unwrap().local_addr().unwrap()
}

/// Tries until there is something, or fails.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where a controller answers and waits for switches.
struct Controller {
    listen: SocketAddr,
    openflow: SocketAddr,
}

impl Controller {
    fn start(&self, lab: &mut Lab) -> Process {
        let mut daemon = Command::new(program("bulkheadd"));
        daemon.args(["--listen", &self.listen.to_string(), "--openflow-listen", &self.openflow.to_string()]);
        daemon.arg("--data-dir").arg(lab.dir().join("data"));
        let process = lab.program("bulkheadd", daemon).unwrap();
        until("the controller answers", || self.status().map(drop));
        process
    }

    /// Runs the operator's command line; what it prints, if it exits with 0.
    fn cli(&self, arguments: &[&str]) -> Option<String> {
        let server = format!("http://{}", self.listen);
        let mut cli = Command::new(program("bulkhead"));
        cli.env_remove("BULKHEAD_SERVER").args(["--server", &server]).args(arguments).stdin(Stdio::null());
        let output = cli.output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn status(&self) -> Option<serde_json::Value> {
        serde_json::from_str(&self.cli(&["status", "-o", "json"])?).ok()
    }

    /// Waits until the switch is connected and has acknowledged the newest revision.
    fn realized(&self) {
        until("the switch acknowledges", || {
            let status = self.status()?;
            let switch = status["switches"].as_array()?.iter().find(|switch| switch["name"] == "hv1")?;
            (switch["connected"] == true && switch["acknowledged"].as_u64()? >= status["revision"].as_u64()?)
                .then_some(())
        });
    }
}

#[test]
fn a_killed_controller_loses_no_packet_and_changes_no_flow() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|poison| poison.into_inner());
    if !able() {
        return;
    }
    let mut lab = Lab::new("restart").unwrap();
    let hv1 = lab.hypervisor("hv1", 0xb1).unwrap();
    let host = |lab: &mut Lab, name: &str, mac: &str, ip: &str| {
        lab.workload(&hv1, name, mac.parse().unwrap(), &[ip.parse().unwrap()]).unwrap()
    };
    let a = host(&mut lab, "a", "02:00:00:00:00:0a", "10.1.0.10");
    let _b = host(&mut lab, "b", "02:00:00:00:00:0b", "10.1.0.11");
    let controller = Controller { listen: free(Ipv4Addr::LOCALHOST), openflow: free(hv1.controller_address()) };
    let first = controller.start(&mut lab);
    hv1.set_controller(controller.openflow).unwrap();
    let file = lab.dir().join("net.yaml");
    std::fs::write(&file, DOCUMENTS).unwrap();
    controller.cli(&["apply", "-f", file.to_str().unwrap(), "--wait=20s"]).expect("apply");
    controller.realized();
    let before = hv1.flows().unwrap();
    assert!(before.len() > 50, "{before:#?}");

    // 100 packets a second, over the end of the first controller and all of the second's beginning.
    let mut ping = Command::new("ping");
    ping.args(["-n", "-i", "0.01", "-c", "600", "-W", "2", "10.1.0.11"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let ping = a.namespace().spawn(&mut ping).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    lab.end(first, End::Crash).unwrap();
    assert_eq!(hv1.flows().unwrap(), before, "without a controller");
    std::thread::sleep(Duration::from_millis(500));
    controller.start(&mut lab);
    controller.realized();
    assert_eq!(hv1.flows().unwrap(), before, "after the restart");
    let told = String::from_utf8(ping.wait_with_output().unwrap().stdout).unwrap();
    assert!(told.contains("600 packets transmitted, 600 received"), "{told}");
    lab.down().unwrap();
}

#[test]
fn the_demo_passes() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|poison| poison.into_inner());
    if !able() {
        return;
    }
    let mut demo = Command::new(program("bulkhead-lab"));
    let output = demo.args(["demo", "--all"]).current_dir(root()).env_remove("KEEP").output().unwrap();
    let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{told}");
}
