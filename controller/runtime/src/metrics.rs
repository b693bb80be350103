//! Numbers about the controller, in the Prometheus text format.

use crate::{
    core::Core,
    exposition::{Histogram, metric},
    fabric::SwitchView,
    links::{LinkState, LinkView, TopologyView},
    numbers::{Errors, Numbers},
};
use bulkhead_pipeline::Stage;
use bulkhead_topology::Name;
use std::{collections::BTreeMap, time::Duration};

/// What only the loop can tell.
pub(crate) struct Inside {
    topology: TopologyView,
    switches: Vec<SwitchInside>,
}

struct SwitchInside {
    name: Name,
    numbers: Numbers,
    /// Entries that it is to have, of each stage that has some.
    entries: Vec<(Stage, u64)>,
}

impl SwitchInside {
    fn table(&self, stage: Stage) -> [(&str, &str); 2] {
        [("switch", self.name.as_str()), ("table", stage.spec().name)]
    }
}

impl Inside {
    pub(crate) fn of(core: &Core) -> Self {
        let switch = |(name, numbers): (&Name, &Numbers)| SwitchInside {
            name: name.clone(),
            numbers: numbers.clone(),
            entries: core.compiler.masks(name).map(|masks| masks.entries().collect()).unwrap_or_default(),
        };
        Self { topology: core.topology(), switches: core.fabric.numbers().map(switch).collect() }
    }

    fn render(&self, out: &mut String) {
        links(&self.topology, out);
        let entries = self.switches.iter().flat_map(|switch| switch.entries.iter().map(move |row| (switch, *row)));
        let entries = entries.map(|(switch, (stage, count))| (switch.table(stage), count));
        let about = "Entries that the switch is to have, by table.";
        metric(out, ("bulkhead_switch_table_entries", "gauge", about), entries);
        let capacity =
            || self.switches.iter().filter_map(|switch| Some((switch, switch.numbers.capabilities.as_ref()?)));
        let total = capacity().map(|(switch, can)| ([("switch", switch.name.as_str())], can.max_entries));
        let about = "Entries that the switch has room for, all tables together.";
        metric(out, ("bulkhead_switch_entries_capacity", "gauge", about), total);
        let by_table = capacity()
            .flat_map(|(switch, can)| can.max_by_stage.iter().map(|(stage, size)| (switch.table(*stage), *size)));
        let about = "Entries that a table has room for, where tables have sizes of their own.";
        metric(out, ("bulkhead_switch_table_capacity", "gauge", about), by_table);
        let drops = self.switches.iter().flat_map(|switch| switch.numbers.drops.iter().map(move |row| (switch, row)));
        let drops =
            drops.map(|(switch, (reason, count))| ([("switch", switch.name.as_str()), ("reason", reason)], count));
        let about = "Packets that were dropped, by what dropped them; counted at most once a minute, when metrics are asked for.";
        metric(out, ("bulkhead_drops_total", "counter", about), drops);
        let errors = self.switches.iter().flat_map(|switch| {
            let Errors { refused, disconnected, drifted, not_counted } = switch.numbers.errors;
            let kinds = [
                ("refused", refused),
                ("disconnected", disconnected),
                ("drifted", drifted),
                ("not-counted", not_counted),
            ];
            kinds.map(|(kind, count)| ([("switch", switch.name.as_str()), ("kind", kind)], count))
        });
        let about = "Steps that the switch refused, sessions that ended, read-backs that found somebody else's changes, \
                     counters that it did not tell.";
        metric(out, ("bulkhead_switch_errors_total", "counter", about), errors);
    }
}

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
    pub waits: Histogram,
    /// How long they took until they were durable, or refused, that included.
    pub changes: Histogram,
    /// How long each took to be compiled.
    pub compiles: Histogram,
    /// Commits to the store: each makes all changes durable that waited for it.
    pub commits: Histogram,
    /// How long connected switches were without a change that was made, until they had all.
    pub realization: Histogram,
    /// Why changes cannot be stored, if the last attempt failed.
    pub store_trouble: Option<String>,
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

/// Everything as text, without what only the loop can tell if it does not.
pub(crate) fn render(
    revision: u64,
    totals: &Totals,
    requests_waiting: usize,
    views: &BTreeMap<Name, SwitchView>,
    inside: Option<&Inside>,
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
    let about = ("bulkhead_loop_busy_seconds_total", "counter", "Time spent checking, compiling and storing changes.");
    metric(&mut out, about, busy);
    let histograms = [
        ("change_wait_seconds", "How long changes waited for those before them.", &totals.waits),
        (
            "change_seconds",
            "How long changes took until they were durable, or refused, with the wait.",
            &totals.changes,
        ),
        ("compile_seconds", "How long it took to compile a change.", &totals.compiles),
        ("store_commit_seconds", "How long commits took; one may hold several changes.", &totals.commits),
        (
            "realization_seconds",
            "How long connected switches lacked a change, from when it was durable until they had all there were.",
            &totals.realization,
        ),
    ];
    for (name, help, histogram) in histograms {
        histogram.render(&format!("bulkhead_{name}"), help, &mut out);
    }
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
    if let Some(inside) = inside {
        inside.render(&mut out);
    }
    out
}
