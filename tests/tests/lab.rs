//! `bulkhead-lab` with a controller: what its matrix and its attack say of a switch that Bulkhead programs, and of one
//! where somebody has opened a hole.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_tests::controller::program;
use std::process::{Command, Output};

/// A scenario of the test's own, up with a controller; taken down however the test ends.
struct Up(String);

impl Up {
    /// `None`, loudly, where a lab cannot be.
    fn new() -> Option<Up> {
        if let Some(why) = bulkhead_lab::missing() {
            eprintln!("NOT TESTED: {why}");
            return None;
        }
        // All three are needed, and of the sources that are there now.
        for name in ["bulkheadd", "bulkhead"] {
            program(name).unwrap();
        }
        let up = Up(format!("judged{}", std::process::id() % 100_000));
        let text =
            include_str!("../../lab/scenarios/one-host.yaml").replace("lab: one-host", &format!("lab: {}", up.0));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("scenario.yaml");
        std::fs::write(&file, text).unwrap();
        let done = lab(&["up", file.to_str().unwrap(), "--with-controller"]);
        assert!(done.status.success(), "{}", text_of(&done));
        Some(up)
    }

    fn ask(&self, verb: &str) -> (Option<i32>, String) {
        let done = lab(&[verb, &self.0]);
        (done.status.code(), text_of(&done))
    }

    fn ofctl(&self, arguments: &[&str]) {
        let done = lab(&[&["exec", "--lab", &self.0, "hv1", "ovs-ofctl"], arguments].concat());
        assert!(done.status.success(), "{}", text_of(&done));
    }
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
    let Some(up) = Up::new() else { return };
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
