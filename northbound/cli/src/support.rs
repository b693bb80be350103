//! support-bundle: what whoever helps has to know, in one file.

use crate::{
    Outcome,
    print::{self, Out},
    progress::Progress,
    yaml,
};
use anyhow::Context;
use bulkhead_client::{Client, Error};
use bulkhead_types::v1;
use flate2::{Compression, write::GzEncoder};
use serde::Serialize;
use serde_json::json;
use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The folder that everything is in.
const FOLDER: &str = "bulkhead-support";
/// Revisions and audit records that are looked at: what led to today's trouble is among the last.
const LAST: usize = 200;
/// Switches whose ports are asked for one by one; beyond that their number says more than they do.
const PORTS: usize = 100;
/// Lines of the controller's log, if it runs on this machine by systemd.
const LOG_LINES: &str = "20000";

/// A bundle as it is written.
struct Bundle {
    tar: tar::Builder<GzEncoder<File>>,
    now: u64,
    /// What is not in it, and why.
    missing: Vec<String>,
}

impl Bundle {
    fn add(&mut self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.now);
        self.tar.append_data(&mut header, format!("{FOLDER}/{name}"), bytes)?;
        Ok(())
    }

    /// Adds an answer, or why there is none.
    fn answer<T: Serialize>(&mut self, name: &str, answer: Result<T, Error>) -> anyhow::Result<Option<T>> {
        match answer {
            Ok(answer) => {
                self.add(name, &serde_json::to_vec_pretty(&answer)?)?;
                Ok(Some(answer))
            }
            Err(error) => {
                self.missing.push(format!("{name}: {}", print::clean(&error.to_string())));
                Ok(None)
            }
        }
    }
}

/// `bulkhead support-bundle`
pub fn support_bundle(client: &Client, out: &mut Out, file: &Path, documents: bool) -> anyhow::Result<Outcome> {
    let mut options = OpenOptions::new();
    // Who may talk to whom is nobody else's business; and what is there already stays.
    options.write(true).create_new(true).mode(0o600);
    let opened = options.open(file).with_context(|| format!("cannot write {}", file.display()))?;
    let progress = Progress::of("asking the controller");
    let made = write(client, opened, documents, &progress);
    drop(progress);
    let missing = made.inspect_err(|_| {
        // Half of one says nothing.
        let _ = fs::remove_file(file);
    })?;
    missing.iter().for_each(|line| print::note(&format!("missing: {line}")));
    let with = if documents { "with all documents" } else { "without documents" };
    out.line(format!(
        "{} ({with}; no tokens and no keys are in it; look through it before you pass it on)",
        file.display()
    ));
    Ok(if missing.iter().any(|line| line.starts_with("status.json")) { Outcome::Failed } else { Outcome::Yes })
}

fn write(client: &Client, file: File, documents: bool, progress: &Progress) -> anyhow::Result<Vec<String>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let mut bundle = Bundle { tar, now, missing: Vec::new() };
    let about =
        json!({"version": env!("CARGO_PKG_VERSION"), "server": client.server(), "time": now, "documents": documents});
    bundle.add("about.json", &serde_json::to_vec_pretty(&about)?)?;
    let status = bundle.answer("status.json", client.status())?;
    match client.metrics() {
        Ok(text) => bundle.add("metrics.txt", text.as_bytes())?,
        Err(error) => bundle.missing.push(format!("metrics.txt: {}", print::clean(&error.to_string()))),
    }
    // Who does not answer once is not asked for everything else.
    if let Some(status) = status {
        bundle.answer("realization.json", client.realization(status.revision, Duration::ZERO))?;
        bundle.answer("topology.json", client.topology())?;
        bundle.answer("history.json", client.history(None, LAST))?;
        bundle.answer("hits.json", client.hits(None))?;
        bundle.answer("attachments.json", client.attachments(None))?;
        bundle.answer("tokens.json", client.tokens())?;
        let newest = client.audit(u64::MAX, 1).map(|answer| answer.head.number);
        let last = newest.and_then(|newest| client.audit(newest.saturating_sub(LAST as u64), LAST));
        bundle.answer("audit.json", last)?;
        for switch in status.switches.iter().take(PORTS) {
            progress.now(format!("the ports of {}", switch.name));
            bundle.answer(&format!("ports/{}.json", switch.name), client.ports(&switch.name))?;
        }
        for kind in v1::KINDS.into_iter().filter(|_| documents) {
            let plural = v1::kind_plural(kind);
            progress.now(plural);
            match client.list(plural, None) {
                Ok(list) => bundle.add(&format!("documents/{plural}.yaml"), yaml::documents(&list.items).as_bytes())?,
                Err(error) => bundle.missing.push(format!("{plural}: {}", print::clean(&error.to_string()))),
            }
        }
    }
    progress.now("the log");
    match log() {
        Some(log) => bundle.add("bulkheadd.log", &log)?,
        None => {
            bundle.missing.push("bulkheadd.log: systemd runs no bulkheadd on this machine; add its log by hand".into())
        }
    }
    let missing = std::mem::take(&mut bundle.missing);
    bundle.add("missing.txt", (missing.join("\n") + "\n").as_bytes())?;
    bundle.tar.into_inner()?.finish()?.sync_all()?;
    Ok(missing)
}

/// What systemd's journal has of the controller's log, if it has any.
fn log() -> Option<Vec<u8>> {
    let asked = Command::new("journalctl")
        .args(["--unit", "bulkheadd", "--lines", LOG_LINES, "--no-pager", "--output", "short-iso", "--quiet"])
        .output();
    asked.ok().filter(|answer| answer.status.success() && !answer.stdout.is_empty()).map(|answer| answer.stdout)
}
