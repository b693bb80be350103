//! Switches that refuse, lose their connection or are not there: the old revision stays in force, and the operator is
//! told which switch it is, and why.

use crate::{Fabric, PATIENCE, policy};
use bulkhead_tests::{
    controller::program,
    fake::{Refuses, run::look},
};
use std::{
    io::Write,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Runs the operator's command line with documents on its standard input: exit code and standard error.
fn bulkhead(fabric: &Fabric, arguments: &[&str], documents: &str) -> (Option<i32>, String) {
    let mut command = Command::new(program("bulkhead").unwrap());
    command.env_remove("BULKHEAD_SERVER").args(["--server", fabric.controller.client.server()]).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(documents.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn flows(fabric: &Fabric, at: usize) -> Vec<String> {
    look(&fabric.switches[at]).flows().map(|flow| format!("{flow:?}")).collect()
}

/// A change that the first switch refuses as `manners` says, and that the second one takes.
fn refused(spoil: impl Fn(&Fabric), mend: impl Fn(&Fabric), reason: &str) {
    let fabric = Fabric::new(2);
    let before = flows(&fabric, 0);
    spoil(&fabric);
    let many: String =
        (2..40).map(|port| policy(port).replace("{name: p}", &format!("{{name: p{port}}}")) + "---\n").collect();
    let (code, told) = bulkhead(&fabric, &["apply", "-f", "-", "--wait=20s"], &many);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("error: hv1 refused it: ") && told.contains(reason), "{told}");
    assert!(told.contains("the older revision is in force there"), "{told}");
    assert_eq!(flows(&fabric, 0), before, "the old rules are not whole");
    let status = fabric.controller.client.status().unwrap();
    let [hv1, hv2] = status.switches.as_slice() else { panic!("{status:?}") };
    assert_eq!((hv1.desired, hv1.acknowledged, hv1.connected), (2, 1, true), "{hv1:?}");
    assert!(hv1.last_error.contains(reason), "{hv1:?}");
    // The other one is not held up.
    let deadline = Instant::now() + PATIENCE;
    let acknowledged = || fabric.controller.client.status().unwrap().switches[1].acknowledged;
    while acknowledged() < 2 {
        assert!(Instant::now() < deadline, "{hv2:?}");
        thread::sleep(Duration::from_millis(20));
    }
    mend(&fabric);
    fabric.acknowledged(2, Duration::from_secs(60));
    assert_ne!(flows(&fabric, 0), before);
    assert_eq!(fabric.controller.client.status().unwrap().switches[0].last_error, "");
}

#[test]
fn r7_a_full_table_keeps_the_old_revision_and_the_operator_is_told() {
    refused(
        |fabric| {
            let mut switch = look(&fabric.switches[0]);
            switch.manners.capacity = switch.len() + 5;
        },
        |fabric| look(&fabric.switches[0]).manners.capacity = usize::MAX,
        "full",
    );
}

#[test]
fn r7_a_rejected_bundle_keeps_the_old_revision_and_the_operator_is_told() {
    refused(
        |fabric| look(&fabric.switches[0]).manners.refuses = Refuses::Commits,
        |fabric| look(&fabric.switches[0]).manners.refuses = Refuses::Nothing,
        "bundle",
    );
}

#[test]
fn r8_a_connection_lost_midway_keeps_one_revision_or_the_other_and_shows() {
    let fabric = Fabric::new(1);
    let before = flows(&fabric, 0);
    // From now on no session lives long enough for a change.
    look(&fabric.switches[0]).manners.cut = Some(600);
    let revision = fabric.apply(policy(7).as_bytes());
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        let status = fabric.controller.client.status().unwrap().switches[0].clone();
        if !status.connected {
            break status;
        }
        assert!(Instant::now() < deadline, "{status:?}");
        thread::sleep(Duration::from_millis(2));
    };
    assert!(status.acknowledged < revision && !status.last_error.is_empty(), "{status:?}");
    assert_eq!(flows(&fabric, 0), before);
    look(&fabric.switches[0]).manners.cut = None;
    fabric.acknowledged(revision, PATIENCE);
    assert_ne!(flows(&fabric, 0), before);
}

#[test]
fn a_change_does_not_wait_for_a_switch_that_is_away_and_names_it() {
    let fabric = Fabric::new(1);
    let away = "kind: Switch\nmetadata: {name: hv9}\nspec: {driver: openflow, datapathId: \"0x9\"}\n";
    let (code, told) = bulkhead(&fabric, &["apply", "-f", "-", "--wait=20s"], away);
    assert_eq!((code, told.lines().last()), (Some(0), Some("realized, but for switches that are not connected: hv9")));
    // A switch that nobody has declared is waited for by what is there, and seen.
    let waits = "kind: Workload\nmetadata: {name: w}\nspec:\n  network: net\n  interfaces:\n  - mac: \"02:00:00:00:09:09\"\n    \
                 ips: [10.0.9.9]\n    attachment: {switch: hv8, port: w}\n";
    let (code, told) = bulkhead(&fabric, &["apply", "-f", "-"], waits);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("<stdin>:8:26: warning: there is no Switch/hv8 yet"), "{told}");
    let pending = fabric.controller.client.status().unwrap().pending;
    assert_eq!((pending[0].name.as_str(), pending[0].ports, pending[0].first.as_str()), ("hv8", 1, "Workload/w"));
}
