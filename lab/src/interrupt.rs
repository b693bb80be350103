//! Ctrl-C and SIGTERM: everything is torn down before the program ends.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// From now on SIGINT, SIGTERM and SIGHUP remove the labs of this process and end it, with the shell's 128 + number.
///
/// # Errors
/// When no handler can be set.
pub fn install() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate, mut hangup) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    let wait = move || {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
                _ = hangup.recv() => 129,
            }
        });
        eprintln!("\nbulkhead-lab: interrupted; taking the lab down");
        match crate::state::close() {
            Ok(swept) => {
                for (tag, why) in swept.failed {
                    eprintln!("bulkhead-lab: {tag} is not wholly gone: {why}");
                }
            }
            Err(error) => eprintln!("bulkhead-lab: {error:#}"),
        }
        std::process::exit(code);
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).context("cannot start a thread")?;
    Ok(())
}
