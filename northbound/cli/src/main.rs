//! `bulkhead`: the operator's command line, a client of the public API only.

mod args;
mod attached;
mod audit;
mod backup;
mod change;
mod context;
mod describe;
mod explain;
mod export;
mod fabric;
mod history;
mod hosts;
mod import;
mod input;
mod jsonpath;
mod print;
mod progress;
mod question;
mod show;
mod support;
mod tables;
mod token;
mod watch;
mod yaml;
mod zone;

use anyhow::Context as _;
use args::{Cli, Command, Output};
use bulkhead_client::{Client, Error};
use clap::{CommandFactory, Parser};
use mimalloc::MiMalloc;
use print::{Out, Tone};
use std::process::ExitCode;

/// Large files are millions of small allocations, on all cores.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What a command ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Yes, or done.
    Yes,
    /// It failed, and has said why.
    Failed,
    /// The answer is no.
    No,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = Out::new();
    let outcome = run(&cli, &mut out);
    // What there is to say is said even if the end was bad.
    let written = out.flush();
    match outcome {
        Err(error) => {
            report(&error);
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
        Ok(_) if written.is_err() => ExitCode::from(1),
        Ok(Outcome::Yes) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Ok(Outcome::No) => ExitCode::from(3),
    }
}

/// Wrong usage that clap cannot see.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn report(error: &anyhow::Error) {
    if let Some(Error::Problem(problem)) = error.downcast_ref::<Error>() {
        print::findings(&print::placeless(&problem.diagnostics), &Default::default());
    }
    let text: Vec<String> = format!("{error:#}").lines().map(print::clean).collect();
    print::note(&format!("error: {}", text.join("\n")));
}

fn run(cli: &Cli, out: &mut Out) -> anyhow::Result<Outcome> {
    let output = cli.output.output;
    out.take_out(cli.output.path.clone());
    if matches!(output, Output::Dot | Output::Svg) && !matches!(cli.command, Command::Topology) {
        return Err(Usage("only `bulkhead topology` can be drawn: -o dot and -o svg are for it".into()).into());
    }
    let client = || -> anyhow::Result<Client> { Ok(context::client(&cli.access)?.of_user(&user())) };
    match &cli.command {
        Command::Apply { files, how } => change::apply(&client()?, output, out, files, how),
        Command::Plan { files } => change::plan(&client()?, output, out, files),
        Command::Validate { files } => change::validate(output, out, files),
        Command::Get { target, watch: false } => show::get(&client()?, output, out, target),
        Command::Get { target, watch: true } => watch::watch(&client()?, output, out, target),
        Command::Describe(target) => describe::describe(&client()?, output, out, target),
        Command::Edit { kind, name } => change::edit(&client()?, output, out, kind, name.as_deref()),
        Command::Delete { target, files, how } => change::delete(&client()?, output, out, target, files, how),
        Command::Reach(question) => question::reach(&client()?, output, out, question),
        Command::Matrix { selector, port } => {
            question::matrix(&client()?, output, out, selector.as_deref(), port.as_deref())
        }
        Command::Trace(question) => question::trace(&client()?, output, out, question),
        Command::Status { switch } => question::status(&client()?, output, out, switch.as_deref()),
        Command::Topology => fabric::topology(&client()?, output, out),
        Command::Ports { switch } => fabric::ports(&client()?, output, out, switch),
        Command::Path { from, to } => fabric::path(&client()?, output, out, from, to),
        Command::History { limit, before } => history::history(&client()?, output, out, *limit, *before),
        Command::Diff { from, to } => history::diff(&client()?, output, out, *from, *to),
        Command::Rollback { revision, yes, how } => history::rollback(&client()?, output, out, *revision, *yes, how),
        Command::Backup { file } => backup::backup(&client()?, out, file),
        Command::Restore { file } => backup::restore(&client()?, output, out, file),
        Command::Import(command) => import::import(client, output, out, command),
        Command::Export(command) => export::export(&client()?, output, out, command),
        Command::Token(command) => token::token(&client()?, output, out, command),
        Command::Audit(command) => audit::audit(client, output, out, command),
        Command::SupportBundle { file, no_documents } => support::support_bundle(&client()?, out, file, !no_documents),
        Command::Zone(command) => zone::zone(&client()?, output, out, command),
        Command::Explain { what } => explain::explain(output, out, what),
        Command::Context(command) => context::context(&cli.access, output, out, command),
        Command::Man { folder } => {
            let written = clap_mangen::generate_to(Cli::command(), folder);
            written.with_context(|| format!("cannot write manual pages to {}", folder.display()))?;
            Ok(Outcome::Yes)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "bulkhead", &mut script);
            out.raw(&String::from_utf8_lossy(&script));
            Ok(Outcome::Yes)
        }
    }
}

/// Who this is, for the history: nothing proves it.
fn user() -> String {
    let user = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    // proc(5): the name that this host has.
    match std::fs::read_to_string("/proc/sys/kernel/hostname") {
        Ok(host) if !user.is_empty() => format!("{user}@{}", host.trim()),
        _ => user,
    }
}

/// `yes` and `no` in their colours.
fn yes_no(out: &Out, yes: bool) -> String {
    if yes { out.tint(Tone::Good, "yes") } else { out.tint(Tone::Bad, "no") }
}
