//! The stand-in as a program of its own.

use crate::support::{DEVICE, PATIENCE, Process, soon, tiny};
use bulkhead_p4runtime::{Client, ElectionId, Error, Pushed};
use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bulkhead-p4-target");

#[test]
fn it_says_that_it_is_no_switch() {
    let help = Command::new(PROGRAM).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("stand-in") && help.contains("no switch"), "{help}");
}

#[tokio::test]
async fn when_it_is_killed_its_controller_notices() {
    let mut command = Command::new(PROGRAM);
    command.args(["--listen", "[::1]:0", "--device-id", "1"]).stdout(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let mut first = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let address = first.split_once(" on ").unwrap().1.split_once(';').unwrap().0;
    let (client, mut stream) = Client::connect(address, DEVICE, ElectionId(1)).await.unwrap();
    assert_eq!(client.ensure_pipeline(&tiny()).await.unwrap(), Pushed::Replaced);
    drop(process);
    let noticed = soon("the end of the stream", stream.next()).await.unwrap_err();
    assert!(matches!(noticed, Error::Closed { .. } | Error::Call { .. }), "{noticed}");
    let gone = tokio::time::timeout(PATIENCE, client.cookie()).await.unwrap().unwrap_err();
    assert!(matches!(gone, Error::Call { .. }), "{gone}");
}
