//! The programs as an operator runs them, on a real Open vSwitch. `make test` builds them first.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_client::Client;
use bulkhead_lab::Lab;
use bulkhead_tests::controller::{Controller, program};
use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Mutex,
    time::Duration,
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

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Applies a file with the operator's command line, and waits until the switch has it.
fn apply(controller: &mut Controller, file: &Path) {
    let mut cli = Command::new(program("bulkhead").unwrap());
    cli.env_remove("BULKHEAD_SERVER").args(["--server", controller.client.server(), "apply", "--wait=20s", "-f"]);
    let output = cli.arg(file).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    realized(controller);
}

/// Waits until the switch is connected and has acknowledged the newest revision.
fn realized(controller: &mut Controller) {
    let there = |client: &Client| {
        let status = client.status()?;
        let switch = status.switches.iter().find(|switch| switch.name == "hv1");
        Ok(switch.is_some_and(|switch| switch.connected && switch.acknowledged >= status.revision))
    };
    controller.until(PATIENCE, there).unwrap();
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
    let mut controller = Controller::start(&program("bulkheadd").unwrap(), hv1.controller_address()).unwrap();
    hv1.set_controller(controller.openflow).unwrap();
    let file = lab.dir().join("net.yaml");
    std::fs::write(&file, DOCUMENTS).unwrap();
    apply(&mut controller, &file);
    let before = hv1.flows().unwrap();
    assert!(before.len() > 50, "{before:#?}");

    // 100 packets a second, over the end of the first controller and all of the second's beginning.
    let mut ping = Command::new("ping");
    ping.args(["-n", "-i", "0.01", "-c", "600", "-W", "2", "10.1.0.11"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let ping = a.namespace().spawn(&mut ping).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    controller.crash().unwrap();
    assert_eq!(hv1.flows().unwrap(), before, "without a controller");
    std::thread::sleep(Duration::from_millis(500));
    controller.restart().unwrap();
    realized(&mut controller);
    assert_eq!(hv1.flows().unwrap(), before, "after the restart");
    let told = String::from_utf8(ping.wait_with_output().unwrap().stdout).unwrap();
    assert!(told.contains("600 packets transmitted, 600 received"), "{told}");
    for restart in 2..5 {
        controller.crash().unwrap();
        controller.restart().unwrap();
        realized(&mut controller);
        assert_eq!(hv1.flows().unwrap(), before, "after restart {restart}");
    }
    lab.down().unwrap();
}

#[test]
fn the_demo_passes() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|poison| poison.into_inner());
    if !able() {
        return;
    }
    let mut demo = Command::new(program("bulkhead-lab").unwrap());
    let output = demo.args(["demo", "--all"]).current_dir(root()).env_remove("KEEP").output().unwrap();
    let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{told}");
}
