//! `bulkheadd` as a process.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

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
