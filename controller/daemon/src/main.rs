//! `bulkheadd`.

use anyhow::Context;
use bulkhead_daemon::{Args, Config, start};
use clap::Parser;
use std::io::IsTerminal;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let config = Config::from(Args::parse())?;
    let filter = EnvFilter::try_new(&config.log)
        .with_context(|| format!("--log: `{}` is no filter; write info, or bulkhead_runtime=debug,info", config.log))?;
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
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
