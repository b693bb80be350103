//! `bulkheadd` as a process.

use bulkhead_store::{RedbStore, Revision, Store};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

fn bulkheadd(listen: &str, data: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkheadd"));
    command.args(["--listen", listen, "--openflow-listen", "127.0.0.1:0", "--data-dir"]).arg(data);
    command.stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn it_starts_without_configuration_and_ends_on_a_signal() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let data = tempfile::tempdir().unwrap();
        let mut child = bulkheadd("127.0.0.1:0", data.path());
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("is ready") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
        }
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let mut rest = String::new();
        log.read_to_string(&mut rest).unwrap();
        assert!(child.wait().unwrap().success(), "{rest}");
        assert!(rest.contains("switches keep their programs"), "{rest}");
    }
}

#[test]
fn certificates_that_cannot_be_used_are_named_at_the_start() {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkheadd"));
    command.args(["--listen", "127.0.0.1:0", "--openflow-listen", "127.0.0.1:0", "--data-dir"]).arg(data.path());
    command.args(["--southbound-ca", "/nowhere/ca.pem", "--southbound-cert", "/nowhere/cert.pem"]);
    command.args(["--southbound-key", "/nowhere/key.pem"]);
    let output = command.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && log.contains("TLS with switches") && log.contains("/nowhere/ca.pem"), "{log}");
}

#[test]
fn a_taken_port_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = tempfile::tempdir().unwrap();
    let mut child = bulkheadd(&address, data.path());
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(log.contains(&address) && log.contains("--listen"), "{log}");
}

#[test]
fn what_cannot_be_compiled_is_said_at_the_start() {
    let data = tempfile::tempdir().unwrap();
    let documents = [
        ("Network/n", r#"{"kind":"Network","metadata":{"name":"n"},"spec":{"vni":1,"subnets":["10.0.0.0/8"]}}"#),
        ("Switch/s", r#"{"kind":"Switch","metadata":{"name":"s"},"spec":{"driver":"sim"}}"#),
        (
            "Workload/w",
            r#"{"kind":"Workload","metadata":{"name":"w"},"spec":{"network":"n","interfaces":
                [{"mac":"02:00:00:00:00:01","ips":["10.0.0.1"],"attachment":{"switch":"s","port":"w"}}]}}"#,
        ),
        (
            "Policy/p",
            r#"{"kind":"Policy","metadata":{"name":"p"},"spec":{"subject":{"matchLabels":{}},"ingress":[{"action":"allow"}]}}"#,
        ),
    ];
    let revision = Revision {
        number: 1,
        changes: documents.map(|(key, text)| (key.to_owned(), Some(text.into()))).into(),
        // No rule can be numbered any more.
        numbers: vec![("next/rule".into(), Some(1 << 24))],
        ..Revision::default()
    };
    RedbStore::open(data.path()).unwrap().append(0, &[revision]).unwrap();
    let mut child = bulkheadd("127.0.0.1:0", data.path());
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{log}");
    assert!(log.contains("Error: the stored state cannot be compiled") && !log.contains("is ready"), "{log}");
}
