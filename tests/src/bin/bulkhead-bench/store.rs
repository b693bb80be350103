//! The store: edits that are durable when they are answered, a restart, a backup while others are served.

use crate::{fabric, sample::Sample};
use anyhow::{Context, Result, ensure};
use bulkhead_client::Client;
use bulkhead_tests::controller::Controller;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{self, Seek, Write},
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Workloads of the fabric that is edited.
const EDITED: usize = 1_000;
/// How long edits are counted.
const EDIT_TIME: Duration = Duration::from_secs(5);
/// Clients that edit at once.
const CLIENTS: [usize; 2] = [1, 64];
/// Syncs that the disk is measured by.
const SYNCS: usize = 200;

/// Measures all of it; the restart and the backup with a fabric of this many workloads.
pub(crate) fn measure(workloads: usize) -> Result<Value> {
    let daemon = std::env::current_exe()?.with_file_name("bulkheadd");
    let mut edits = Vec::new();
    for clients in CLIENTS {
        let controller = Controller::start(&daemon, Ipv4Addr::LOCALHOST)?;
        fabric::upload(&controller.client, EDITED)?;
        edits.push(edited(&controller, clients)?);
    }
    let mut controller = Controller::start(&daemon, Ipv4Addr::LOCALHOST)?;
    fabric::upload(&controller.client, workloads)?;
    let backup = backed_up(&controller.client)?;
    let restart = restarted(&mut controller)?;
    Ok(json!({"edits": edits, "workloads": workloads, "backupWhileServing": backup, "restartAfterKill": restart}))
}

/// What the disk needs to keep one block: nothing that is durable is quicker.
fn sync() -> Result<Sample> {
    let mut file = File::create(std::env::temp_dir().join(format!("bulkhead-bench-sync-{}", std::process::id())))?;
    let path = std::env::temp_dir().join(format!("bulkhead-bench-sync-{}", std::process::id()));
    file.write_all(&[0; 64 << 12])?;
    file.sync_all()?;
    let mut sample = Sample::default();
    for at in 0..SYNCS {
        let began = Instant::now();
        file.seek(io::SeekFrom::Start((at as u64 % 64) << 12))?;
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        sample.add(began.elapsed());
    }
    fs::remove_file(path)?;
    Ok(sample)
}

/// Each client edits policies of its own, one after another.
fn edited(controller: &Controller, clients: usize) -> Result<Value> {
    let before = sync()?;
    let end = Instant::now() + EDIT_TIME;
    let commits = commits(&controller.client)?;
    let server = controller.client.server().to_owned();
    let samples = thread::scope(|scope| {
        let edit = |number: usize| {
            let server = server.clone();
            scope.spawn(move || -> Result<Sample> {
                let (client, mut sample) = (Client::new(&server)?, Sample::default());
                for shift in (1..=20_000).cycle() {
                    let document = fabric::policy(number % (EDITED / 4), 1, shift);
                    let began = Instant::now();
                    client.apply(&[document], false)?;
                    sample.add(began.elapsed());
                    if Instant::now() >= end {
                        break;
                    }
                }
                Ok(sample)
            })
        };
        let threads: Vec<_> = (0..clients).map(edit).collect();
        let joined =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a client panicked")));
        joined.collect::<Result<Vec<_>>>()
    })?;
    let mut all = Sample::default();
    samples.into_iter().for_each(|sample| all.extend(sample));
    let after = sync()?;
    let disk = (before.median() + after.median()) / 2;
    let per_second = all.len() as f64 / EDIT_TIME.as_secs_f64();
    Ok(json!({
        "clients": clients,
        "editsPerSecond": per_second.round(),
        "editsPerCommit": (all.len() as f64 / (self::commits(&controller.client)? - commits) * 10.0).round() / 10.0,
        "answered": all.microseconds(),
        "diskSync": before.microseconds(),
        "answeredInSyncs": (all.median().as_secs_f64() / disk.as_secs_f64() * 100.0).round() / 100.0,
        "editsPerSyncTime": (per_second * disk.as_secs_f64() * 10.0).round() / 10.0,
    }))
}

/// How often the controller has synced its store.
fn commits(client: &Client) -> Result<f64> {
    let text = client.metrics()?;
    let line = text.lines().find_map(|line| line.strip_prefix("bulkhead_store_commit_seconds_count "));
    Ok(line.context("no count of commits")?.parse()?)
}

/// A backup, and meanwhile requests of each kind one after another.
fn backed_up(client: &Client) -> Result<Value> {
    let over = AtomicBool::new(false);
    let (bytes, took, [reads, edits]) = thread::scope(|scope| {
        let requests = [false, true].map(|edit| {
            let over = &over;
            scope.spawn(move || -> Result<Sample> {
                let mut sample = Sample::default();
                for shift in (1..=20_000).cycle() {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let began = Instant::now();
                    match edit {
                        true => drop(client.apply(&[fabric::policy(1, 1, shift)], false)?),
                        false => drop(client.get("workloads", "w-17")?),
                    }
                    sample.add(began.elapsed());
                }
                Ok(sample)
            })
        });
        let began = Instant::now();
        let copied = client
            .backup()
            .map_err(anyhow::Error::from)
            .and_then(|mut backup| Ok(io::copy(&mut backup, &mut io::sink())?));
        let took = began.elapsed();
        over.store(true, Ordering::Relaxed);
        let samples = requests.map(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a client panicked")));
        let [reads, edits] = samples;
        Ok::<_, anyhow::Error>((copied?, took, [reads?, edits?]))
    })?;
    let megabytes = (bytes as f64 / 1e5).round() / 10.0;
    Ok(
        json!({"megabytes": megabytes, "ms": took.as_millis(), "reads": reads.milliseconds(), "edits": edits.milliseconds()}),
    )
}

/// How long an answer after a restart is waited for, and the pause between two attempts.
const START_LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(2);

/// Killed and started again: until what was stored can be read, until changes are taken and switches are spoken to, and
/// what it says itself that loading took.
fn restarted(controller: &mut Controller) -> Result<Value> {
    controller.crash()?;
    let began = Instant::now();
    controller.begin_again()?;
    while controller.client.get("workloads", "w-17").is_err() {
        ensure!(began.elapsed() < START_LIMIT, "nothing is served: {}", controller.log());
        thread::sleep(PAUSE);
    }
    let serving = began.elapsed();
    controller.until(START_LIMIT, |client| Ok(client.status()?.ready))?;
    let ready = began.elapsed();
    let log = controller.log();
    let own = log.split("loaded in ").nth(1).and_then(|rest| rest.split(' ').next()).context("no word of loading")?;
    let own: u64 = own.parse()?;
    Ok(json!({
        "untilServingMs": serving.as_millis(),
        "untilReadyMs": ready.as_millis(),
        "loadedMs": own,
        "peakRssMB": (controller.peak()? as f64 / 1e5).round() / 10.0,
    }))
}
