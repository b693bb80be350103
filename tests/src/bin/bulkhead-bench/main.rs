//! `bulkhead-bench`: how long changes take, as JSON on standard output.
//!
//! What needs root or Open vSwitch says why it was left out where it cannot run. Numbers are of this machine and this
//! run; where another program is measured, it is measured beside ours, in turns, on the same switch.

mod bulk;
mod compile;
mod edit;
mod fabric;
mod memory;
mod north;
mod overlay;
mod p4;
mod packets;
mod physical;
mod quick;
mod reconnect;
mod sample;
mod scale;
mod shape;
mod stall;
mod store;
mod tunnel;

use clap::Parser;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Measures compiling, memory, policy edits, bulk installation, many switches, P4 switches and packets; prints JSON.
#[derive(Debug, Parser)]
#[command(name = "bulkhead-bench", version)]
struct Arguments {
    /// Sizes of fabric to compile, in workloads.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000])]
    workloads: Vec<usize>,
    /// Size of fabric for edits over HTTP, in workloads.
    #[arg(long, default_value_t = 1_000)]
    edit_workloads: usize,
    /// Entries to install in bulk.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 50_000])]
    entries: Vec<usize>,
    /// Simulated switches that take a fabric-wide change.
    #[arg(long, default_value_t = 1_000)]
    switches: usize,
    /// Entries of the change during which forwarding is watched.
    #[arg(long, default_value_t = 100_000)]
    stall_entries: usize,
    /// Sizes of fabric for memory, in workloads.
    #[arg(long, value_delimiter = ',', default_values_t = [5_000, 100_000])]
    memory_workloads: Vec<usize>,
    /// Only tells what one process needs to compile a fabric of this size.
    #[arg(long, hide = true)]
    memory_of: Option<usize>,
    /// Entries of the switch that comes back with nothing changed.
    #[arg(long, default_value_t = 100_000)]
    reconnect_entries: usize,
    /// Size of fabric for a restart and a backup, in workloads.
    #[arg(long, default_value_t = 100_000)]
    store_workloads: usize,
    /// Only ratios, held against those in this file: what is a fifth worse is told, and fails.
    #[arg(long, value_name = "FILE")]
    quick: Option<PathBuf>,
    /// With --quick: writes the file.
    #[arg(long, requires = "quick")]
    write: bool,
    /// Only this part.
    #[arg(long)]
    only: Option<Part>,
}

/// A part of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Compile,
    Hostile,
    Mix,
    Overlay,
    Physical,
    Memory,
    Edit,
    Bulk,
    Scale,
    Stall,
    Reconnect,
    Packets,
    P4,
    Store,
    North,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(size) = arguments.memory_of {
        println!("{}", memory::of(size)?);
        return Ok(());
    }
    bulkhead_lab::interrupt::install()?;
    if let Some(file) = &arguments.quick {
        let missing = bulkhead_lab::missing();
        missing.iter().for_each(|why| eprintln!("bulkhead-bench: without Open vSwitch: {why}"));
        let worse = quick::report(&quick::measure(missing.is_none())?, file, arguments.write)?;
        anyhow::ensure!(worse == 0, "{worse} ratios are more than a fifth worse than those checked in");
        return Ok(());
    }
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    let missing = bulkhead_lab::missing();
    let on_ovs = |name, measure: &dyn Fn() -> anyhow::Result<Value>| match &missing {
        Some(why) => skipped(name, why),
        None => part(name, measure),
    };
    let mut all = serde_json::Map::new();
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    all.insert("build".into(), build.into());
    all.insert("cores".into(), std::thread::available_parallelism().map_or(0, usize::from).into());
    if wanted(Part::Compile) {
        let of = |size: &usize| part("compile", || compile::measure(*size));
        all.insert("compile".into(), arguments.workloads.iter().map(of).collect());
    }
    if wanted(Part::Hostile) {
        all.insert("hostilePolicies".into(), part("hostile policies", shape::hostile));
    }
    if wanted(Part::Mix) {
        let of = |size: &usize| part("entries of the mix", || shape::entries(*size));
        all.insert("entriesOfTheMix".into(), arguments.workloads.iter().map(of).collect());
    }
    if wanted(Part::Overlay) {
        let of = |switches: &usize| part("overlay", || overlay::measure(*switches));
        all.insert("overlay".into(), [10, 50].iter().map(of).collect());
        // Of ever larger fabrics the same four networks, then more of them.
        let shapes = [[10, 4, 4], [50, 20, 4], [50, 60, 4], [50, 60, 8]];
        let of = |shape: &[usize; 3]| part("overlay reach", || overlay::reachable(*shape));
        all.insert("overlayReachable".into(), shapes.iter().map(of).collect());
        all.insert("overlayPackets".into(), on_ovs("overlay packets", &tunnel::measure));
    }
    if wanted(Part::Physical) {
        // 5k²/4 switches with k ports each: 80, and 980.
        let of = |ports: &usize| part("physical fabric", || physical::measure(*ports));
        all.insert("physicalFabric".into(), [8, 28].iter().map(of).collect());
    }
    if wanted(Part::Memory) {
        let compile = |size: &usize| part("memory", || memory::compile(*size));
        all.insert("compileMemory".into(), arguments.memory_workloads.iter().map(compile).collect());
        let controller = |size: &usize| part("controller memory", || memory::controller(*size));
        all.insert("controllerMemory".into(), arguments.memory_workloads.iter().map(controller).collect());
    }
    if wanted(Part::Edit) {
        all.insert("policyEdit".into(), on_ovs("edit", &|| edit::measure(arguments.edit_workloads)));
    }
    if wanted(Part::Bulk) {
        all.insert("bulkInstall".into(), on_ovs("bulk", &|| bulk::measure(&arguments.entries)));
    }
    if wanted(Part::Scale) {
        all.insert("scale".into(), part("scale", || scale::measure(arguments.switches)));
    }
    if wanted(Part::Stall) {
        all.insert("forwardingGap".into(), on_ovs("stall", &|| stall::measure(arguments.stall_entries)));
    }
    if wanted(Part::Reconnect) {
        all.insert("reconnect".into(), on_ovs("reconnect", &|| reconnect::measure(arguments.reconnect_entries)));
    }
    if wanted(Part::Packets) {
        all.insert("packets".into(), on_ovs("packets", &packets::measure));
    }
    if wanted(Part::P4) {
        all.insert("p4".into(), part("P4 switches", p4::measure));
    }
    if wanted(Part::Store) {
        all.insert("store".into(), part("store", || store::measure(arguments.store_workloads)));
    }
    if wanted(Part::North) {
        all.insert("north".into(), part("what operators wait for", north::measure));
    }
    let all = Value::Object(all);
    println!("{all:#}");
    anyhow::ensure!(!failed(&all), "a part failed; its output says why");
    Ok(())
}

/// Whether a part failed.
fn failed(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.contains_key("failed") || fields.values().any(failed),
        Value::Array(elements) => elements.iter().any(failed),
        _ => false,
    }
}

/// Runs one part. One that fails does not take the others' numbers with it.
fn part(name: &str, measure: impl FnOnce() -> anyhow::Result<Value>) -> Value {
    eprintln!("bulkhead-bench: {name}...");
    measure().unwrap_or_else(|error| {
        eprintln!("bulkhead-bench: {name}: {error:#}");
        json!({"failed": format!("{error:#}")})
    })
}

fn skipped(name: &str, why: &str) -> Value {
    eprintln!("bulkhead-bench: {name}: skipped: {why}");
    json!({"skipped": why})
}
