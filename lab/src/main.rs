//! `bulkhead-lab`: builds labs on this machine, and shows Bulkhead at work in one.

mod demo;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bulkhead_lab::{Listeners, Namespace, Service, interrupt, state};
use clap::{Args, Parser, Subcommand};

use crate::demo::shop;

/// The answer is no, in the contract's exit codes.
const NO: u8 = 3;

/// Builds labs: namespaces as workloads, a real Open vSwitch, a controller. Needs root.
#[derive(Parser)]
#[command(name = "bulkhead-lab", version)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Shows the three-tier shop enforced: every pair probed with real packets, a live connection cut
    Demo(Demo),
    /// Puts the three-tier shop up and leaves it up
    Up(Shop),
    /// Takes down every lab that was left up or left behind
    Down,
    /// Sends one real probe in the lab that is up: `probe web-1 app-1 8080/tcp`. Exits with 3 if nothing comes back
    Probe(Ask),
    /// Says whether this machine can hold a lab. Exits with 3 if not, and says what is missing
    Check,
    /// Answers probes in these namespaces until it is ended
    #[command(hide = true)]
    Serve {
        /// Namespaces by name
        namespaces: Vec<String>,
    },
}

#[derive(Args)]
struct Demo {
    /// Leave everything up afterwards, to play with
    #[arg(long, env = "KEEP", value_parser = clap::builder::FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    keep: bool,
    /// Use the simulated switch, as is done where root or Open vSwitch is missing
    #[arg(long)]
    sim: bool,
    /// Print every cell of the matrix with its deciding rule
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    shop: Shop,
}

#[derive(Args)]
struct Shop {
    /// The shop's documents
    #[arg(long, value_name = "DIR", default_value = "examples/three-tier")]
    examples: PathBuf,
    /// Where `bulkhead` and `bulkheadd` are; beside this program if left out
    #[arg(long, value_name = "DIR", env = "BULKHEAD_BIN_DIR")]
    bin_dir: Option<PathBuf>,
}

#[derive(Args)]
struct Ask {
    /// Who asks: a workload's name, or `ext`
    from: String,
    /// Who is asked
    to: String,
    /// `PORT/tcp`, `PORT/udp` or `ping`
    service: Service,
    /// Over IPv6
    #[arg(short = '6')]
    v6: bool,
}

fn main() -> ExitCode {
    match run(Command::parse().verb) {
        Ok(code) => code,
        Err(_) if state::closing() => loop {
            // The thread that handles the signal takes the lab down and ends the program.
            std::thread::park();
        },
        Err(error) => {
            eprintln!("bulkhead-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Demo(demo) => {
            interrupt::install()?;
            let options = demo::Options { keep: demo.keep, sim: demo.sim, all: demo.all };
            let passed = demo::run(&programs(&demo.shop)?, options)?;
            Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Verb::Up(shop) => {
            interrupt::install()?;
            demo::up(&programs(&shop)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Down => down(),
        Verb::Check => Ok(match bulkhead_lab::missing() {
            None => {
                println!("yes, labs with a real Open vSwitch");
                ExitCode::SUCCESS
            }
            Some(why) => {
                println!("NONE: {why}");
                ExitCode::from(NO)
            }
        }),
        Verb::Probe(ask) => {
            let answer = shop::ask(&ask.from, &ask.to, ask.service, ask.v6)?;
            println!("{answer}");
            Ok(if answer.passed() { ExitCode::SUCCESS } else { ExitCode::from(NO) })
        }
        Verb::Serve { namespaces } => {
            let namespaces = namespaces.iter().map(|name| Namespace::named(name));
            let _listeners =
                namespaces.map(|inside| Listeners::start(&inside, &shop::SERVICES)).collect::<Result<Vec<_>>>()?;
            loop {
                std::thread::park();
            }
        }
    }
}

fn programs(shop: &Shop) -> Result<demo::Programs> {
    let own = std::env::current_exe().context("where is this program?")?;
    let beside = own.parent().map(PathBuf::from).unwrap_or_default();
    demo::Programs::find(&shop.bin_dir.clone().unwrap_or(beside), &shop.examples)
}

fn down() -> Result<ExitCode> {
    let swept = state::take_down()?;
    for tag in &swept.removed {
        println!("{tag} is gone");
    }
    for (tag, pid) in &swept.busy {
        println!("{tag} belongs to process {pid}, which still runs; left alone");
    }
    for (tag, why) in &swept.failed {
        println!("{tag} is not wholly gone: {why}");
    }
    if swept == state::Swept::default() {
        println!("there is no lab");
    }
    Ok(if swept.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
