//! A `bulkheadd` of one's own, as a process.

use anyhow::{Context, Result, ensure};
use bulkhead_client::Client;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long it may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks at something that is coming.
pub const PAUSE: Duration = Duration::from_millis(20);

/// A running `bulkheadd` with an empty data directory; ended and removed when dropped.
#[derive(Debug)]
pub struct Controller {
    child: Child,
    dir: PathBuf,
    /// Where OpenFlow switches connect.
    pub openflow: SocketAddr,
    /// Its public API.
    pub client: Client,
}

impl Controller {
    /// Starts `program`, listening for switches on `address`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(program: &Path, address: Ipv4Addr) -> Result<Self> {
        ensure!(program.is_file(), "{} is missing: `cargo build --workspace --bins`", program.display());
        let (listen, openflow) = (free(Ipv4Addr::LOCALHOST)?, free(address)?);
        let dir = std::env::temp_dir().join(format!("bulkheadd-{}-{}", std::process::id(), openflow.port()));
        std::fs::create_dir(&dir)?;
        let log = std::fs::File::create(dir.join("log"))?;
        let mut command = Command::new(program);
        command.args(["--listen", &listen.to_string(), "--openflow-listen", &openflow.to_string(), "--data-dir"]);
        command.arg(dir.join("data")).env("BULKHEAD_LOG", "warn");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let client = Client::new(&format!("http://{listen}"))?;
        let mut controller = Self { child, dir, openflow, client };
        controller.until(START_LIMIT, |client| Ok(client.status().is_ok_and(|status| status.ready)))?;
        Ok(controller)
    }

    /// Waits until something is true, as long as it runs.
    ///
    /// # Errors
    /// When it ends, or time does.
    pub fn until(&mut self, limit: Duration, mut done: impl FnMut(&Client) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !done(&self.client)? {
            ensure!(self.child.try_wait()?.is_none(), "bulkheadd ended: {}", self.log());
            ensure!(Instant::now() < deadline, "not within {} s: {}", limit.as_secs(), self.log());
            sleep(PAUSE);
        }
        Ok(())
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Its memory: resident bytes, what it shares with others counted in part (proc(5), `smaps_rollup`).
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn memory(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes << 10)
    }

    /// The most memory that it ever had: resident bytes (proc(5), `VmHWM`).
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn peak(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes << 10)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It has ended already, or ends now; nothing is kept.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A port that nobody has.
///
/// # Errors
/// When there is none.
pub fn free(address: Ipv4Addr) -> Result<SocketAddr> {
    Ok(TcpListener::bind((IpAddr::V4(address), 0))?.local_addr()?)
}
