//! `bulkhead-fuzz`: millions of changed inputs for every decoder and parser. Inputs that break one are kept in
//! tests/fuzz/regressions, which `make test` goes through.

use anyhow::{Context, Result, ensure};
use bulkhead_fuzz::{Mutator, TARGETS, Target, corpus, keep, target};
use clap::Parser;
use std::{
    panic,
    time::{Duration, Instant},
};

/// An input that takes longer than this counts as broken: inputs are at most 4 KiB, and a machine may be busy.
const SLOW: Duration = Duration::from_secs(5);
/// Broken inputs of one target after which it is given up: they are mostly the same fault.
const ENOUGH: usize = 20;

/// Runs fuzz targets over changed inputs; keeps those that break one.
#[derive(Debug, Parser)]
#[command(name = "bulkhead-fuzz", version)]
struct Arguments {
    /// Targets to run; all of them if none is named.
    targets: Vec<String>,
    /// Inputs for each target.
    #[arg(long, default_value_t = 10_000_000)]
    executions: u64,
    /// The first number of the sequence that inputs are made from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let named = arguments.targets.iter().map(|name| target(name).with_context(|| format!("there is no target {name}")));
    let mut targets = named.collect::<Result<Vec<_>>>()?;
    if targets.is_empty() {
        targets.extend(TARGETS);
    }
    // Broken inputs are counted and kept; the panic's text is told when they are replayed.
    panic::set_hook(Box::new(|_| {}));
    let mut broken = 0;
    for target in targets {
        broken += run(target, &arguments)?;
    }
    ensure!(broken == 0, "{broken} inputs broke a target; they are in tests/fuzz/regressions");
    Ok(())
}

/// Runs one target; returns how many inputs broke it.
fn run(target: &Target, arguments: &Arguments) -> Result<usize> {
    let inputs: Vec<Vec<u8>> = corpus(target.name)?.into_iter().map(|(_, bytes)| bytes).collect();
    ensure!(!inputs.is_empty(), "tests/fuzz/corpus/{} is empty", target.name);
    let mut mutator = Mutator::new(target.shape, arguments.seed);
    let (mut input, mut broken, mut done) = (Vec::new(), 0, 0);
    let (mut slowest, began) = (Duration::ZERO, Instant::now());
    while done < arguments.executions && broken < ENOUGH {
        mutator.make(&inputs, &mut input);
        let start = Instant::now();
        let result = panic::catch_unwind(|| (target.run)(&input));
        let took = start.elapsed();
        slowest = slowest.max(took);
        done += 1;
        if result.is_err() || took > SLOW {
            broken += 1;
            println!("{}: broken after {done}: {}", target.name, keep(target.name, &input)?.display());
        }
    }
    println!(
        "{}: {done} executions, {:.1} s, slowest {:.1} ms, {broken} broken",
        target.name,
        began.elapsed().as_secs_f64(),
        slowest.as_secs_f64() * 1e3
    );
    Ok(broken)
}
