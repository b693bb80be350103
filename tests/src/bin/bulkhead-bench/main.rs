//! `bulkhead-bench`: how long changes take, as JSON on standard output.
//!
//! What needs root or Open vSwitch says why it was left out where it cannot run. Numbers are of this machine and this
//! run; where another program is measured, it is measured beside ours, in turns, on the same switch.

mod bulk;
mod compile;
mod edit;
mod fabric;
mod sample;

use clap::Parser;
use serde_json::{Value, json};

/// Measures compiling, policy edits on a real switch and bulk installation; prints JSON.
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
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    bulkhead_lab::interrupt::install()?;
    let compile: Vec<_> = arguments.workloads.iter().map(|size| part("compile", || compile::measure(*size))).collect();
    let (edit, bulk) = match bulkhead_lab::missing() {
        Some(why) => (skipped("edit", &why), skipped("bulk", &why)),
        None => (
            part("edit", || edit::measure(arguments.edit_workloads)),
            part("bulk", || bulk::measure(&arguments.entries)),
        ),
    };
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let all = json!({"build": build, "cores": cores, "compile": compile, "policyEdit": edit, "bulkInstall": bulk});
    println!("{all:#}");
    let failed = |part: &Value| part.get("failed").is_some();
    anyhow::ensure!(!compile.iter().chain([&edit, &bulk]).any(failed), "a part failed; its output says why");
    Ok(())
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
