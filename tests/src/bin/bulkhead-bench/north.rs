//! What operators wait for, with a hundred thousand workloads: a file that is applied, a policy that is edited, questions.

use crate::sample::Sample;
use anyhow::{Context, Result, ensure};
use bulkhead_client::Client;
use bulkhead_tests::controller::Controller;
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Resources in the file.
const RESOURCES: usize = 100_000;
/// Simulated switches in the controller's own process, with all workloads plugged into them.
const SWITCHES: usize = 100;
/// Applications that the workloads belong to, each with a policy of its own.
const APPS: usize = 300;
/// Edits that are measured.
const EDITS: usize = 200;
/// Times that a command is run.
const COMMANDS: usize = 20;
/// Connections that ask at once, and how long.
const ASKERS: usize = 16;
const ASKING: Duration = Duration::from_secs(5);
/// How long the simulated switches may take to have all.
const LIMIT: Duration = Duration::from_secs(120);

/// Measures all of it.
pub(crate) fn measure() -> Result<Value> {
    let daemon = std::env::current_exe()?.with_file_name("bulkheadd");
    let command = daemon.with_file_name("bulkhead");
    let mut controller = Controller::start(&daemon, Ipv4Addr::LOCALHOST)?;
    let file = std::env::temp_dir().join(format!("bulkhead-bench-{}.yaml", std::process::id()));
    fs::write(&file, documents())?;
    let applied = applied(&mut controller, &command, &file);
    fs::remove_file(&file)?;
    let applied = applied?;
    controller.until(LIMIT, |client| {
        let status = client.status()?;
        Ok(status.switches.iter().all(|switch| switch.acknowledged >= status.revision && switch.pending == 0))
    })?;
    let edits = json!({
        "ownApp": edited(&controller.client, |edit| policy(edit % APPS, edit % APPS, 1 + (edit % 1_000) as u16))?,
        "subjectMovesBetweenApps": edited(&controller.client, |edit| policy(0, edit % 2, 0))?,
    });
    Ok(json!({
        "resources": RESOURCES, "switches": SWITCHES, "apps": APPS,
        "applied": applied,
        "policyEditAnswered": edits,
        "commands": {
            "get": commanded(&controller.client, &command, &["get", "workload", "w-17"])?,
            "reach": commanded(&controller.client, &command, &["reach", "w-17", "w-317", "tcp/8080"])?,
        },
        "gets": asked(&controller)?,
    }))
}

fn policy(app: usize, subject: usize, shift: u16) -> Value {
    json!({"kind": "Policy", "metadata": {"name": format!("app-{app}")}, "spec": {
        "subject": {"matchLabels": {"app": format!("app-{subject}")}},
        "ingress": [{"action": "allow", "from": [{"matchLabels": {"app": format!("app-{}", (app + 1) % APPS)}}],
                     "ports": [{"protocol": "tcp", "port": 8080 + shift}]}]}})
}

/// The file: YAML as people write it, a document a resource.
fn documents() -> String {
    let mut text =
        String::from("kind: Network\nmetadata:\n  name: prod\nspec:\n  vni: 5001\n  subnets: [10.0.0.0/8]\n");
    let policies = (0..APPS).map(|app| policy(app, app, 0).to_string());
    let switch = |number: usize| format!("kind: Switch\nmetadata:\n  name: s{number}\nspec:\n  driver: sim\n");
    let workload = |index: usize| {
        let [_, b, c, d] = (index as u32).to_be_bytes();
        let ip = Ipv4Addr::from(0x0a00_0100 + index as u32);
        format!(
            "kind: Workload\nmetadata:\n  name: w-{index}\n  labels:\n    app: app-{}\n    env: prod\nspec:\n  \
             network: prod\n  interfaces:\n  - mac: 02:00:00:{b:02x}:{c:02x}:{d:02x}\n    ips: [{ip}]\n    \
             attachment:\n      switch: s{}\n      port: p{index}\n",
            index % APPS,
            index % SWITCHES,
        )
    };
    let workloads = (0..RESOURCES - 1 - SWITCHES - APPS).map(workload);
    for document in (0..SWITCHES).map(switch).chain(policies).chain(workloads) {
        // Writing to a text cannot fail.
        let _ = write!(text, "---\n{}\n", document.trim_end());
    }
    text
}

/// `bulkhead apply -f` of the file: all of it new, and once more with nothing changed.
fn applied(controller: &mut Controller, command: &Path, file: &Path) -> Result<Value> {
    let mut took = Vec::new();
    for _ in 0..2 {
        let began = Instant::now();
        let output = run(&controller.client, command, &["apply", "-f", &file.display().to_string()])?;
        took.push(json!({"ms": began.elapsed().as_millis(), "said": output.lines().last()}));
    }
    Ok(json!({
        "fileMB": fs::metadata(file)?.len() / 1_000_000,
        "new": took.first(), "unchanged": took.last(),
        "controllerPeakMB": controller.peak()? / 1_000_000,
    }))
}

fn run(client: &Client, command: &Path, arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(command).args(["--server", client.server()]).args(arguments).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.code() != Some(1), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

/// A command with its process's start.
fn commanded(client: &Client, command: &Path, arguments: &[&str]) -> Result<Value> {
    let mut sample = Sample::default();
    for _ in 0..COMMANDS {
        let began = Instant::now();
        run(client, command, arguments)?;
        sample.add(began.elapsed());
    }
    Ok(sample.milliseconds())
}

/// Edits, each until it is accepted and durable.
fn edited(client: &Client, edit: impl Fn(usize) -> Value) -> Result<Value> {
    let mut sample = Sample::default();
    for number in 1..=EDITS {
        let document = edit(number);
        let began = Instant::now();
        client.apply(&[document], false)?;
        sample.add(began.elapsed());
    }
    Ok(sample.microseconds())
}

/// GETs of one workload, and what they cost the controller.
fn asked(controller: &Controller) -> Result<Value> {
    let before = controller.busy()?;
    let began = Instant::now();
    let address = controller.client.server().trim_start_matches("http://").to_owned();
    let askers: Vec<_> = (0..ASKERS)
        .map(|_| {
            let address = address.clone();
            thread::spawn(move || ask(&address, began + ASKING))
        })
        .collect();
    let mut answers = 0;
    for asker in askers {
        answers += asker.join().unwrap_or_else(|_| anyhow::bail!("a client panicked"))?;
    }
    let (seconds, busy) = (began.elapsed().as_secs_f64(), (controller.busy()? - before).as_secs_f64());
    Ok(json!({
        "clients": ASKERS,
        "perSecond": (f64::from(answers) / seconds).round(),
        "perSecondOfOneCore": (f64::from(answers) / busy).round(),
    }))
}

/// Asks one question after another by one connection; how many were answered.
fn ask(address: &str, end: Instant) -> Result<u32> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut answers, mut line, mut body) = (0, String::new(), Vec::new());
    let request = format!("GET /v1/workloads/w-17 HTTP/1.1\r\nhost: {address}\r\n\r\n");
    while Instant::now() < end {
        stream.write_all(request.as_bytes())?;
        let mut length = None;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let said = line.trim_end().to_ascii_lowercase();
            if let Some(bytes) = said.strip_prefix("content-length: ") {
                length = Some(bytes.parse()?);
            }
            if said.is_empty() {
                break;
            }
            ensure!(!said.starts_with("http/") || said.contains(" 200"), "{said}");
        }
        body.resize(length.context("no length")?, 0);
        reader.read_exact(&mut body)?;
        answers += 1;
    }
    Ok(answers)
}
