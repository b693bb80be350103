//! Numbers about the controller, in the Prometheus text format.

use crate::{
    fabric::SwitchView,
    links::{LinkState, LinkView, TopologyView},
};
use bulkhead_topology::Name;
use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
    time::Duration,
};

/// What happened since the start.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Whether the state that was loaded is compiled. Until then switches are told nothing, and changes wait.
    pub compiled: bool,
    /// Changes that made a revision.
    pub accepted: u64,
    /// Changes that changed nothing.
    pub unchanged: u64,
    /// Dry runs.
    pub dry_runs: u64,
    /// Changes refused as wrong.
    pub rejected: u64,
    /// Changes refused as stale.
    pub conflicts: u64,
    /// Changes refused as too large.
    pub too_large: u64,
    /// Changes that could not be stored.
    pub unavailable: u64,
    /// Reports from drivers.
    pub reports: u64,
    /// Reports that waited for the loop when it took the last one; drivers wait when there are too many.
    pub reports_waiting: usize,
    /// New connections that were logged.
    pub logged: u64,
    /// New connections that drivers left out of the log.
    pub not_logged: u64,
    /// Probes of tunnels that switches were asked to send.
    pub probes: u64,
    /// Time spent in changes.
    pub busy: Duration,
    /// How long changes waited for the loop.
    pub waits: Waits,
    /// Commits to the store: each makes all changes durable that waited for it.
    pub commits: u64,
    /// Why changes cannot be stored, if the last attempt failed.
    pub store_trouble: Option<String>,
}

/// Upper bounds of the classes in which waits are counted, in seconds.
const WAITS: [f64; 6] = [0.001, 0.01, 0.1, 1.0, 10.0, f64::INFINITY];

/// How long something waited, as a histogram.
#[derive(Debug, Clone, Default)]
pub struct Waits {
    /// How many waited at most as long as each of [`WAITS`], and longer than the one before.
    counts: [u64; WAITS.len()],
    sum: Duration,
}

impl Waits {
    /// One more waited.
    pub(crate) fn add(&mut self, wait: Duration) {
        self.sum += wait;
        let class = WAITS.iter().zip(&mut self.counts).find(|(bound, _)| wait.as_secs_f64() <= **bound);
        if let Some((_, count)) = class {
            *count += 1;
        }
    }

    fn render(&self, name: &str, help: &str, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut so_far = 0;
        for (bound, count) in WAITS.iter().zip(&self.counts) {
            so_far += count;
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".into() };
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {so_far}");
        }
        let _ = writeln!(out, "{name}_sum {}\n{name}_count {so_far}", self.sum.as_secs_f64());
    }
}

/// Writes one metric: its name, kind, help, and the numbers with their labels.
pub fn metric<'a, L, V>(
    out: &mut String,
    (name, kind, help): (&str, &str, &str),
    samples: impl IntoIterator<Item = (L, V)>,
) where
    L: IntoIterator<Item = (&'a str, &'a str)>,
    V: Display,
{
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        // Switch names and our own words need no escaping.
        let labels: Vec<String> = labels.into_iter().map(|(key, label)| format!("{key}=\"{label}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}

/// How many links there are of each kind: who says so, and how they are.
fn links(topology: &TopologyView, out: &mut String) {
    let origin = |link: &LinkView| match (link.declared.is_some(), link.discovered) {
        (true, true) => "both",
        (true, false) => "declared",
        (false, _) => "discovered",
    };
    let states = [
        ("up", LinkState::Up),
        ("down", LinkState::Down),
        ("unknown", LinkState::Unknown),
        ("conflict", LinkState::Conflict),
    ];
    let kinds = ["declared", "discovered", "both"].into_iter().flat_map(|by| states.map(|state| (by, state)));
    let samples = kinds.map(|(by, (word, state))| {
        let count = topology.links.iter().filter(|link| link.state == state && origin(link) == by).count();
        ([("origin", by), ("state", word)], count)
    });
    let about = "Links between switches, by whether they are declared, discovered or both, and how they are.";
    metric(out, ("bulkhead_links", "gauge", about), samples);
    let foreign = [([], topology.foreign.iter().map(|found| found.frames).sum::<u64>())];
    let about = "LLDP frames of somebody else that came to ports where links are looked for.";
    metric(out, ("bulkhead_foreign_lldp_frames_total", "counter", about), foreign);
}

/// A number of one switch.
type PerSwitch = fn(&SwitchView) -> u64;

/// Everything as text; nothing of links that are not known.
pub(crate) fn render(
    revision: u64,
    totals: &Totals,
    requests_waiting: usize,
    views: &BTreeMap<Name, SwitchView>,
    topology: Option<&TopologyView>,
) -> String {
    let mut out = String::new();
    metric(&mut out, ("bulkhead_revision", "gauge", "The newest accepted revision."), [(None, revision)]);
    let compiled = [(None, u8::from(totals.compiled))];
    let about = "Whether the loaded state is compiled; until then switches are told nothing and changes wait.";
    metric(&mut out, ("bulkhead_compiled", "gauge", about), compiled);
    let results = [
        ("accepted", totals.accepted),
        ("unchanged", totals.unchanged),
        ("dry-run", totals.dry_runs),
        ("rejected", totals.rejected),
        ("conflict", totals.conflicts),
        ("too-large", totals.too_large),
        ("unavailable", totals.unavailable),
    ];
    let results = results.map(|(result, count)| (Some(("result", result)), count));
    metric(&mut out, ("bulkhead_changes_total", "counter", "Changes asked for, by what came of them."), results);
    let busy = [(None, totals.busy.as_secs_f64())];
    let about = ("bulkhead_change_seconds_total", "counter", "Time spent checking, compiling and storing changes.");
    metric(&mut out, about, busy);
    totals.waits.render("bulkhead_change_wait_seconds", "How long changes waited for those before them.", &mut out);
    let commits = [(None, totals.commits)];
    let about = ("bulkhead_store_commits_total", "counter", "Commits to the store; one may hold several changes.");
    metric(&mut out, about, commits);
    let writable = [(None, u8::from(totals.store_trouble.is_none()))];
    let about = ("bulkhead_store_writable", "gauge", "Whether changes can be stored; if not, all are refused.");
    metric(&mut out, about, writable);
    let reports = [(None, totals.reports)];
    metric(&mut out, ("bulkhead_reports_total", "counter", "Reports from drivers."), reports);
    let waiting = [("requests", requests_waiting), ("reports", totals.reports_waiting)];
    let waiting = waiting.map(|(queue, count)| (Some(("queue", queue)), count));
    let about = ("bulkhead_loop_waiting", "gauge", "What waits for the loop; both queues are bounded, senders wait.");
    metric(&mut out, about, waiting);
    let flows = [(Some(("written", "yes")), totals.logged), (Some(("written", "no")), totals.not_logged)];
    let about = "New connections that rules asked to log; those that a switch left out are not known.";
    metric(&mut out, ("bulkhead_flow_log_total", "counter", about), flows);
    let probes = [(None, totals.probes)];
    metric(&mut out, ("bulkhead_tunnel_probes_total", "counter", "Probes of tunnels that were sent."), probes);
    let per_switch: [(&str, &str, &str, PerSwitch); 11] = [
        ("connected", "gauge", "Whether the switch is connected.", |v| v.progress.connected.into()),
        ("refused", "gauge", "Whether the switch refused the newest attempt.", |v| v.progress.refused.is_some().into()),
        ("desired_revision", "gauge", "The revision it should have.", |v| v.progress.desired),
        ("acknowledged_revision", "gauge", "The revision in force there as a whole; 0 if none is known to be.", |v| {
            v.progress.acknowledged
        }),
        ("entries", "gauge", "Our entries on it.", |v| v.progress.entries as u64),
        ("unconfirmed_entries", "gauge", "Changes of entries not confirmed yet.", |v| v.progress.unconfirmed as u64),
        ("waiting_entries", "gauge", "Entries that wait for a port.", |v| v.progress.waiting as u64),
        ("drift_entries", "gauge", "Entries that somebody else had changed at the last read-back.", |v| {
            v.progress.drift as u64
        }),
        ("masks", "gauge", "Different masks in the table that has most of them.", |v| v.masks as u64),
        ("impostors_total", "counter", "Connections that said to be the switch and were refused.", |v| {
            v.impostors.refused
        }),
        ("changed_entries_total", "counter", "Entries changed by confirmed steps.", |v| v.progress.changes),
    ];
    for (name, kind, help, value) in per_switch {
        let samples = views.iter().map(|(switch, view)| (Some(("switch", switch.as_str())), value(view)));
        metric(&mut out, (&format!("bulkhead_switch_{name}"), kind, help), samples);
    }
    if let Some(topology) = topology {
        links(topology, &mut out);
    }
    out
}
