//! `bulkhead-lab`: builds labs on this machine, and shows Bulkhead at work in one.

/// A line of the output. Whoever reads it may have gone away (`| head`): what is under way goes on, and takes itself down.
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout().lock(), $($part)*);
    }};
}

mod controller;
mod demo;
mod question;
mod site;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_lab::{Family, Listeners, Namespace, Service, interrupt, state};
use clap::{Args, Parser, Subcommand};

use crate::controller::Programs;
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
    /// Puts a scenario up and leaves it up; one that is up already is left as it is
    Up(Up),
    /// Takes a scenario down, or every lab that was left up or left behind
    Down {
        /// A scenario's name or file, or a lab's tag; everything if left out
        lab: Option<String>,
    },
    /// Says what is up, where it is, and whether it runs. Exits with 3 if something does not
    Status {
        /// As in `down`
        lab: Option<String>,
    },
    /// Runs a program in a workload, in a hypervisor, or as `rogue` in the underlay: `exec web ping 10.0.0.21`
    Exec {
        /// Which lab, as in `down`; needed if several are up
        #[arg(long)]
        lab: Option<String>,
        /// Where
        place: String,
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<String>,
    },
    /// Probes every pair with real packets and compares with `bulkhead matrix`. Exits with 3 if they differ
    Matrix(Judge),
    /// Plays compromised workloads and somebody in the underlay: scans, spoofs, forges tunnels. Exits with 3 if
    /// anything gets through that policy does not allow
    Attack {
        #[command(flatten)]
        judge: Judge,
        /// The compromised workloads; all of them, one after the other, if left out
        #[arg(long, value_name = "WORKLOAD")]
        from: Vec<String>,
    },
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
struct Up {
    /// The scenario
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Start a controller with it, and apply the scenario's resources
    #[arg(long)]
    with_controller: bool,
    /// As in `demo`
    #[arg(long, value_name = "DIR", env = "BULKHEAD_BIN_DIR")]
    bin_dir: Option<PathBuf>,
}

#[derive(Args)]
struct Judge {
    /// Which lab, as in `down`; needed if several are up
    #[arg(long)]
    lab: Option<String>,
    /// As in `demo`
    #[arg(long, value_name = "DIR", env = "BULKHEAD_BIN_DIR")]
    bin_dir: Option<PathBuf>,
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
    /// Which lab, as in `down`; if left out, the first that has these workloads
    #[arg(long)]
    lab: Option<String>,
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
            let _ = writeln!(std::io::stderr().lock(), "bulkhead-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Demo(demo) => {
            interrupt::install()?;
            let options = demo::Options { keep: demo.keep, sim: demo.sim, all: demo.all };
            let passed = demo::run(&find(demo.shop.bin_dir.as_deref())?, &demo.shop.examples, options)?;
            Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Verb::Up(up) => {
            interrupt::install()?;
            let programs = if up.with_controller { Some(find(up.bin_dir.as_deref())?) } else { None };
            site::up(&up.file, programs.as_ref())?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Down { lab } => site::down(lab.as_deref()),
        Verb::Status { lab } => site::status(lab.as_deref()),
        Verb::Exec { lab, place, program } => site::exec(lab.as_deref(), &place, &program),
        Verb::Check => Ok(match bulkhead_lab::missing() {
            None => {
                say!("yes, labs with a real Open vSwitch");
                ExitCode::SUCCESS
            }
            Some(why) => {
                say!("NONE: {why}");
                ExitCode::from(NO)
            }
        }),
        Verb::Matrix(judge) => question::matrix(judge.lab.as_deref(), &find(judge.bin_dir.as_deref())?),
        Verb::Attack { judge, from } => question::attack(judge.lab.as_deref(), &from, &find(judge.bin_dir.as_deref())?),
        Verb::Probe(ask) => {
            let family = if ask.v6 { Family::V6 } else { Family::V4 };
            let answer = match site::ask(ask.lab.as_deref(), &ask.from, &ask.to, ask.service, family)? {
                Some(answer) => answer,
                None if ask.lab.is_some() => bail!("{} or {} is not in that lab", ask.from, ask.to),
                None => shop::ask(&ask.from, &ask.to, ask.service, family)?,
            };
            say!("{answer}");
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

/// `bulkheadd` and `bulkhead`, in a directory or beside this program.
fn find(bin_dir: Option<&Path>) -> Result<Programs> {
    let own = std::env::current_exe().context("where is this program?")?;
    Programs::find(bin_dir.or(own.parent()).unwrap_or(Path::new(".")))
}
