//! Switches and hosts that Mininet put up.
//!
//! Mininet cleans up host-wide: the test that uses it starts itself again in namespaces that end with it, by the script
//! that `make mininet` uses.

use bulkhead_lab::Wire;
use bulkhead_netlink::Namespace;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::Path,
    process::{Child, Command, Stdio},
};

/// Where its switches look for their controller; the namespace is nobody else's.
pub const CONTROLLER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6653));
/// Set by the script for what it runs inside.
const INSIDE: &str = "BULKHEAD_MININET_INSIDE";
/// Where the script keeps the programs that it was given, and itself (run.sh).
const PROGRAMS: &str = "/mnt/bin";
const SCRIPT: &str = "/mnt/lab/conformance.py";

/// What a host's interface is called (conformance.py).
const INTERFACE: &str = "inside";

/// Whether this is inside. If not, the test of this name runs there, and has passed when this returns; where there can be
/// no Mininet it says so.
pub fn enter(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let missing = (!Path::new("/usr/bin/mn").exists()).then(|| "mininet is not installed".to_owned());
    if let Some(why) = bulkhead_lab::missing().or(missing) {
        eprintln!("NOT TESTED: packets through Mininet: {why}");
        return false;
    }
    let own = std::env::current_exe().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab/mininet/run.sh");
    let inside = Path::new(PROGRAMS).join(own.file_name().unwrap());
    let mut command = Command::new(script);
    command.arg(own.parent().unwrap()).arg("--").arg(inside).args(["--exact", test, "--nocapture"]);
    let status = command.stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "{test} inside: {status}");
    false
}

/// A running Mininet. It ends when this is dropped.
pub struct Mininet {
    script: Child,
}

impl Mininet {
    /// Leaves with these hosts, which speak only when spoken for, and as many spines as there are further `switches`, each
    /// with its datapath's number. A host's name is its port's. Every leaf has a cable to every spine.
    pub fn up(leaves: &[Vec<&str>], switches: &[(String, u64)]) -> (Self, BTreeMap<String, Wire>) {
        let port = CONTROLLER.port();
        let layout = serde_json::json!({"leaves": leaves, "switches": switches, "controller": port}).to_string();
        let mut command = Command::new("/usr/bin/python3");
        command.args([SCRIPT, &layout]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = command.spawn().unwrap();
        let mut told = String::new();
        BufReader::new(script.stdout.take().unwrap()).read_line(&mut told).unwrap();
        // The process of each host.
        let hosts: BTreeMap<String, u32> = serde_json::from_str(&told).unwrap();
        let here = Namespace::of_process(std::process::id());
        let wire = |(name, process): (String, u32)| {
            let wire = Wire::tapped((&Namespace::of_process(process), INTERFACE), (&here, &name)).unwrap();
            (name, wire)
        };
        (Self { script }, hosts.into_iter().map(wire).collect())
    }

    /// Runs `ovs-appctl` on the Open vSwitch that all switches are.
    pub fn appctl(&self, arguments: &[&str]) {
        let output = Command::new("ovs-appctl").args(["--timeout=10"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "ovs-appctl {arguments:?}: {output:?}");
    }
}

impl Drop for Mininet {
    fn drop(&mut self) {
        // It ends when nobody holds its input any more.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}
