//! What was accepted outlives the program, however it ends: killed under edits of many clients, again while it recovers,
//! on a disk that cannot be written. `BULKHEAD_KILLS` says how often it is killed.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_client::Client;
use bulkhead_tests::controller::{Controller, program};
use serde_json::{Value, json};
use std::{
    env,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Clients that edit at once.
const CLIENTS: usize = 8;

/// Two policies that belong together: they speak of the same port.
fn edit(client: usize, value: u16) -> Vec<Value> {
    let policy = |side: &str| {
        json!({"kind": "Policy", "metadata": {"name": format!("c{client}-{side}")}, "spec": {
            "subject": {"matchLabels": {"client": client.to_string()}},
            "ingress": [{"action": "allow", "from": [{"cidr": "198.51.100.0/24"}],
                         "ports": [{"protocol": "tcp", "port": value}]}]}})
    };
    ["left", "right"].map(policy).into()
}

/// What each client's policies say, at one moment.
fn values(client: &Client) -> Vec<u16> {
    let policies = client.list("policies", None).unwrap().items;
    let port = |name: String| {
        let found = policies.iter().find(|policy| policy["metadata"]["name"] == name.as_str())?;
        found.pointer("/spec/ingress/0/ports/0/port")?.as_u64().map(|port| port as u16)
    };
    let of = |client: usize| {
        let [left, right] = ["left", "right"].map(|side| port(format!("c{client}-{side}")).unwrap_or(0));
        assert_eq!(left, right, "client {client}'s edit is half there");
        left
    };
    (0..CLIENTS).map(of).collect()
}

#[test]
fn killed_under_edits_it_loses_none_that_was_acknowledged() {
    let kills: u64 = env::var("BULKHEAD_KILLS").map_or(6, |kills| kills.parse().unwrap());
    let mut controller = Controller::start(&program("bulkheadd").unwrap(), Ipv4Addr::LOCALHOST).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(Mutex::new(vec![0_u16; CLIENTS]));
    let server = controller.client.server().to_owned();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (over, acknowledged, server) = (over.clone(), acknowledged.clone(), server.clone());
            thread::spawn(move || {
                let client = Client::new(&server).unwrap();
                let mut value = 0;
                while !over.load(Ordering::SeqCst) {
                    value = value % 60_000 + 1;
                    // Between a kill and the next start nobody answers.
                    match client.apply(&edit(number, value), false) {
                        Ok(_) => acknowledged.lock().unwrap()[number] = value,
                        Err(_) => thread::sleep(Duration::from_millis(2)),
                    }
                }
            })
        })
        .collect();
    let mut seed = 0x5eed_u64;
    for round in 0..kills {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        thread::sleep(Duration::from_micros(seed % 300_000));
        // What is acknowledged by now must be there whatever happens.
        let known = acknowledged.lock().unwrap().clone();
        controller.crash().unwrap();
        // `restart` kills nothing; a kill right after a start falls into what it does first.
        controller.restart().unwrap();
        if round % 2 == 1 {
            controller.crash().unwrap();
            controller.restart().unwrap();
        }
        for (client, (there, known)) in values(&controller.client).into_iter().zip(known).enumerate() {
            assert!(there >= known, "round {round}: client {client} was told {known}, {there} is there");
        }
    }
    over.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let known = acknowledged.lock().unwrap().clone();
    assert!(known.iter().all(|value| *value > 0), "{known:?}");
    assert_eq!(values(&controller.client), known);
    let history = controller.client.history(None, 5).unwrap();
    assert_eq!(history.items.first().unwrap().revision, history.revision);
}

/// A `bulkheadd` in a mount namespace of its own, whose data directory `setup` has prepared there.
struct Shut {
    child: std::process::Child,
    client: Client,
}

impl Shut {
    fn start(setup: &str, data: &std::path::Path) -> Self {
        use std::io::{BufRead, BufReader};
        let daemon = program("bulkheadd").unwrap();
        let (data, daemon) = (data.display(), daemon.display());
        let script = format!(
            "set -e; D={data}; {setup}; exec {daemon} --open-loopback --listen 127.0.0.1:0 --openflow-listen 127.0.0.1:0 --data-dir $D"
        );
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let mut child = command.env("NO_COLOR", "1").stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let api = loop {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "it does not start");
            if let Some(api) = line.split_whitespace().find_map(|word| word.strip_prefix("api=")) {
                break api.to_owned();
            }
        };
        // It is not to wait for somebody to read its log.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, client: Client::new(&api).unwrap() }
    }

    /// Whether changes can be stored, by the status and by the metric, which agree.
    fn writable(&self) -> bool {
        let trouble = self.client.status().unwrap().store_error;
        let metric = self.client.metrics().unwrap().contains("\nbulkhead_store_writable 1\n");
        assert_eq!(trouble.is_empty(), metric, "{trouble}");
        metric
    }
}

impl Drop for Shut {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether there can be file systems of one's own here; says so if not.
fn able() -> bool {
    let mut probe = std::process::Command::new("unshare");
    let probe = probe.args(["--mount", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    let able = probe.is_ok_and(|output| output.status.success());
    if !able {
        eprintln!("NOT TESTED: disks that fail: no file system can be mounted here");
    }
    able
}

#[test]
fn on_a_disk_that_cannot_be_written_all_but_changes_goes_on() {
    if !able() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    {
        let open = Shut::start(":", directory.path());
        open.client.apply(&edit(0, 80), false).unwrap();
        assert!(open.writable());
    }
    let shut = Shut::start("mount --bind $D $D; mount -o remount,bind,ro $D", directory.path());
    assert!(!shut.writable());
    assert_eq!(values(&shut.client)[0], 80);
    let refused = shut.client.apply(&edit(0, 81), false).unwrap_err().to_string();
    assert!(refused.contains("cannot be written"), "{refused}");
    assert_eq!(values(&shut.client)[0], 80);
    assert_eq!(shut.client.history(None, 5).unwrap().revision, 1);
    drop(shut);
    let open = Shut::start(":", directory.path());
    open.client.apply(&edit(0, 82), false).unwrap();
    assert!(open.writable());
}

#[test]
fn a_full_disk_refuses_changes_until_there_is_room() {
    if !able() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let shut = Shut::start("mount -t tmpfs -o size=2m none $D", directory.path());
    shut.client.apply(&edit(0, 80), false).unwrap();
    // proc(5): a process's own view of the file system.
    let filler =
        std::path::PathBuf::from(format!("/proc/{}/root{}/filler", shut.child.id(), directory.path().display()));
    let mut file = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    // What still fits into the file as it is is taken; then it has to grow.
    let mut value = 80;
    let refused = loop {
        match shut.client.apply(&edit(usize::from(value) % 8, value + 1), false) {
            Ok(_) => value += 1,
            Err(error) => break error.to_string(),
        }
        assert!(value < 20_000, "the disk does not fill up");
    };
    assert!(refused.contains("could not be stored"), "{refused}");
    assert!(!shut.writable());
    let there = values(&shut.client);
    assert_eq!(*there.iter().max().unwrap(), value);
    std::fs::remove_file(&filler).unwrap();
    drop(file);
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while let Err(error) = shut.client.apply(&edit(0, 30_000), false) {
        assert!(std::time::Instant::now() < end, "{error}");
        thread::sleep(Duration::from_millis(50));
    }
    assert!(shut.writable());
    assert_eq!(values(&shut.client)[0], 30_000);
}
