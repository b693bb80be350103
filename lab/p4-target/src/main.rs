//! `bulkhead-p4-target`.

use anyhow::Context as _;
use bulkhead_p4_target::{Forward, Idle, Software, Target};
use clap::Parser;
use std::{io::Write as _, net::SocketAddr};
use tokio::{signal, sync::mpsc};

mod taps;

/// A stand-in for a P4 switch, for tests and laboratories; it is no product, and no switch.
///
/// It takes a program and entries over P4Runtime as a switch does, checks all of it as the specification says, and answers.
/// With ports it forwards packets, one after the other, by Bulkhead's program and no other. Without ports it takes any
/// program. It keeps nothing when it ends.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Where controllers reach it; with port 0, on any free one, which it prints.
    #[arg(long, default_value = "127.0.0.1:9559")]
    listen: SocketAddr,
    /// The number of its one device.
    #[arg(long, default_value_t = 1)]
    device_id: u64,
    /// A port, from 1 to 509, is a TAP interface that it makes, and that goes when it ends; in another network namespace
    /// than its own, one that `ip netns` knows: `1=tap1` or `1=eth0@web`. That takes root.
    #[arg(long = "port", value_name = "NUMBER=NAME[@NAMESPACE]")]
    ports: Vec<taps::Port>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (forward, told): (Box<dyn Forward>, _) = if arguments.ports.is_empty() {
        let (_, nothing) = mpsc::channel(1);
        (Box::new(Idle), nothing)
    } else {
        let (software, told, sent) = Software::new();
        taps::open(&arguments.ports, &software, sent)?;
        (Box::new(software), told)
    };
    let target = Target::start(arguments.listen, arguments.device_id, forward, told).await;
    let target = target.with_context(|| format!("listening on {}", arguments.listen))?;
    let mut out = std::io::stdout();
    writeln!(out, "device {} on {}; a stand-in, no switch", arguments.device_id, target.address())?;
    out.flush()?;
    signal::ctrl_c().await.context("waiting for a signal")?;
    target.stop().await;
    Ok(())
}
