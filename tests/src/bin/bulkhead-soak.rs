//! `bulkhead-soak`: half an hour of changes and broken connections; fails if memory or queues grow or a table is wrong.

use bulkhead_tests::soak::{Soak, soak};
use clap::Parser;
use std::time::Duration;

/// Label flips, policy edits and broken connections against simulated switches and one real Open vSwitch.
#[derive(Debug, Parser)]
#[command(name = "bulkhead-soak", version)]
struct Arguments {
    /// For how long.
    #[arg(long, default_value_t = 1800)]
    seconds: u64,
    /// Simulated switches.
    #[arg(long, default_value_t = 100)]
    switches: usize,
    /// Events per second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
}

fn main() -> anyhow::Result<()> {
    let Arguments { seconds, switches, rate } = Arguments::parse();
    bulkhead_lab::interrupt::install()?;
    let program = std::env::current_exe()?.with_file_name("bulkheadd");
    if let Some(why) = bulkhead_lab::missing() {
        eprintln!("bulkhead-soak: NOT TESTED with a real switch: {why}");
    }
    eprintln!("bulkhead-soak: {seconds} s of {rate} events/s; {switches} of the switches are SIMULATED");
    let report = soak(&program, &Soak { time: Duration::from_secs(seconds), switches, rate, real: true })?;
    println!("{report:#?}");
    Ok(())
}
