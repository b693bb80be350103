//! `bulkheadd`.

use anyhow::Context;
use bulkhead_daemon::{Args, Command, Config, start, vtep};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::IsTerminal;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(Command::Vtep(args)) = &args.command {
        log(&args.log)?;
        return vtep::run(args);
    }
    let config = Config::from(args)?;
    log(&config.log)?;
    raise_descriptors();
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let daemon = start(&config, bulkhead_driver_sim::Fabric::default()).await?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = daemon.failed() => {}
        }
        info!("stopping; switches keep their programs");
        daemon.stop().await
    })
}

fn log(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("--log: `{filter}` is no filter; write info, or bulkhead_runtime=debug,info"))?;
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    Ok(())
}

/// Takes as many file descriptors as this process may have: the customary soft limit of 1,024 is for programs that use
/// `select`, and is less than switches and clients together may need.
fn raise_descriptors() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        warn!(%error, "cannot raise the limit of open files");
    }
}
