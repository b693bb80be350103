//! `bulkheadd`.

use anyhow::Context;
use bulkhead_daemon::{Args, Command, Config, Telemetry, start, vtep};
use clap::Parser;
use mimalloc::MiMalloc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

/// Large changes are millions of small allocations, by a thread that is not the first; glibc asks the kernel for each page
/// of those.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(Command::Vtep(args)) = &args.command {
        let _telling = Telemetry { log: args.log.clone(), ..Telemetry::default() }.begin()?;
        return vtep::run(args);
    }
    let config = Config::from(args)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    runtime.block_on(async {
        let _telling = config.telemetry.begin()?;
        raise_descriptors();
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

/// Takes as many file descriptors as this process may have: the customary soft limit of 1,024 is for programs that use
/// `select`, and is less than switches and clients together may need.
fn raise_descriptors() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        warn!(%error, "cannot raise the limit of open files");
    }
}
