//! `bulkhead-p4-target`.

use anyhow::Context as _;
use bulkhead_p4_target::{Idle, Target};
use clap::Parser;
use std::{io::Write as _, net::SocketAddr};
use tokio::{signal, sync::mpsc};

/// A stand-in for a P4 switch, and no switch: it takes a program and entries over P4Runtime as a switch does, checks all
/// of it as the specification says, and answers; it has no ports. For tests and demonstrations only. It keeps nothing when
/// it ends.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Where controllers reach it; with port 0, on any free one, which it prints.
    #[arg(long, default_value = "127.0.0.1:9559")]
    listen: SocketAddr,
    /// The number of its one device.
    #[arg(long, default_value_t = 1)]
    device_id: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (_tell, told) = mpsc::channel(1);
    let target = Target::start(arguments.listen, arguments.device_id, Box::new(Idle), told).await;
    let target = target.with_context(|| format!("listening on {}", arguments.listen))?;
    let mut out = std::io::stdout();
    writeln!(out, "device {} on {}; a stand-in, no switch", arguments.device_id, target.address())?;
    out.flush()?;
    signal::ctrl_c().await.context("waiting for a signal")?;
    target.stop().await;
    Ok(())
}
