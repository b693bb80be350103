//! A `bulkheadd` of one's own, as a process.

use anyhow::{Context, Result, bail, ensure};
use bulkhead_client::{Client, Security};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long it may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// In what processes' times are counted (`USER_HZ`, which is 100 wherever Bulkhead runs).
const TICK: Duration = Duration::from_millis(10);
/// Pause between two looks at something that is coming.
pub const PAUSE: Duration = Duration::from_millis(20);

/// A program of this workspace, as it was built beside the test or bench that asks for it, and of the sources that are
/// there now.
///
/// # Errors
/// When it is not built, or a file that it was built of is newer.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // target/debug/deps/hostile-0123 and target/debug/bulkhead-bench -> target/debug
    let dirs = own.ancestors().skip(1).filter(|dir| !dir.ends_with("deps"));
    let path = dirs.map(|dir| dir.join(name)).next().context("no folder of programs")?;
    ensure!(path.is_file(), "{} is missing: `cargo build --workspace --bins`", path.display());
    let sources =
        fs::read_to_string(path.with_extension("d")).with_context(|| format!("{}'s sources", path.display()))?;
    fresh(&path, &sources)?;
    Ok(path)
}

/// Holds a program's age against the sources that Cargo noted for it: `PROGRAM: FILE FILE...`, spaces escaped.
fn fresh(program: &Path, sources: &str) -> Result<()> {
    let built = fs::metadata(program)?.modified()?;
    let (_, files) = sources.trim_end().split_once(": ").context("no list of sources")?;
    for file in files.replace("\\ ", "\0").split(' ').map(|file| file.replace('\0', " ")) {
        let newer = !fs::metadata(&file).and_then(|file| file.modified()).is_ok_and(|changed| changed <= built);
        ensure!(!newer, "{} is older than {file}: `cargo build --workspace --bins`", program.display());
    }
    Ok(())
}

/// A running `bulkheadd` with an empty data directory; ended and removed when dropped.
#[derive(Debug)]
pub struct Controller {
    program: PathBuf,
    child: Child,
    dir: PathBuf,
    /// Where OpenFlow switches connect.
    pub openflow: SocketAddr,
    /// Its public API.
    pub client: Client,
}

impl Controller {
    /// Starts `program`, listening for switches on `address`, on ports that nobody has.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(program: &Path, address: Ipv4Addr) -> Result<Self> {
        Self::start_at(program, Ipv4Addr::LOCALHOST, address)
    }

    /// The same, and its API is at `api`: open on a loopback address, else by TLS, with the local admin as client, who is
    /// another one after a restart.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_at(program: &Path, api: Ipv4Addr, address: Ipv4Addr) -> Result<Self> {
        let dir = directory()?;
        let (child, listen, openflow) = run(program, &dir, (api, 0).into(), (address, 0).into())?;
        let client = client(&dir, listen)?;
        let mut controller = Self { program: program.into(), child, dir, openflow, client };
        controller.until(START_LIMIT, |client| Ok(client.status().is_ok_and(|status| status.ready)))?;
        Ok(controller)
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Errors
    /// When it has ended already and is not found.
    pub fn crash(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again after [`Controller::crash`], with the same data and addresses.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.begin_again()?;
        self.until(START_LIMIT, |client| Ok(client.status().is_ok_and(|status| status.ready)))
    }

    /// The same, and does not wait for anything.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn begin_again(&mut self) -> Result<()> {
        let listen = self.client.server().trim_start_matches("http://").parse()?;
        self.child = launch(&self.program, &self.dir, listen, self.openflow)?;
        Ok(())
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
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Its memory: resident bytes, what it shares with others counted in part (proc(5), `smaps_rollup`).
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn memory(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes << 10)
    }

    /// The most memory that it ever had: resident bytes (proc(5), `VmHWM`).
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn peak(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes << 10)
    }

    /// How long processors have worked for it so far (proc(5), `stat`: fields 14 and 15, after the name in parentheses).
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn busy(&self) -> Result<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = text.rsplit_once(')').context("no name")?;
        let fields = fields.split_whitespace().skip(11).take(2);
        let ticks = fields.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(TICK * u32::try_from(ticks)?)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It has ended already, or ends now; nothing is kept.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A new directory.
fn directory() -> Result<PathBuf> {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("bulkheadd-{}-{number}", std::process::id()));
    // Of an earlier process with this number.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir)?;
    Ok(dir)
}

/// Runs a `bulkheadd`.
fn launch(program: &Path, dir: &Path, listen: SocketAddr, openflow: SocketAddr) -> Result<Child> {
    let log = fs::File::create(dir.join("log"))?;
    let mut command = Command::new(program);
    command.args(["--listen", &listen.to_string(), "--openflow-listen", &openflow.to_string(), "--data-dir"]);
    command.arg(dir.join("data")).env("BULKHEAD_LOG", "warn,bulkhead_daemon=info");
    command.args(listen.ip().is_loopback().then_some("--open-loopback"));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("cannot start {}", program.display()))
}

/// A client of a `bulkheadd` on this machine: the local admin, where it asks who he is.
fn client(dir: &Path, listen: SocketAddr) -> Result<Client> {
    if listen.ip().is_loopback() {
        return Ok(Client::new(&format!("http://{listen}"))?);
    }
    let (security, token) = admin(&dir.join("data"))?;
    Ok(Client::secure(&format!("https://{listen}"), &security)?.with_token(&token))
}

/// What TLS with a controller takes that keeps its files there, and its local admin's token.
///
/// # Errors
/// When its files are not there.
pub fn admin(data: &Path) -> Result<(Security, String)> {
    let ca = fs::read_to_string(data.join("tls/ca.pem")).context("no authority")?;
    let admin = fs::read_to_string(data.join("admin.yaml")).context("no admin")?;
    let token = admin.lines().find_map(|line| line.trim().strip_prefix("token: ")).context("no token")?;
    Ok((Security { ca: Some(ca), ..Security::default() }, token.to_owned()))
}

/// The same, and reads from its log where it listens: for the API, and for switches.
fn run(
    program: &Path,
    dir: &Path,
    listen: SocketAddr,
    openflow: SocketAddr,
) -> Result<(Child, SocketAddr, SocketAddr)> {
    let mut child = launch(program, dir, listen, openflow)?;
    let path = dir.join("log");
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let log = fs::read_to_string(&path)?;
        if let Some((listen, openflow)) = addresses(&log) {
            return Ok((child, listen, openflow));
        }
        let ended = child.try_wait()?.is_some();
        if ended || Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            bail!("bulkheadd does not start: {log}");
        }
        sleep(PAUSE);
    }
}

/// What the line `... bulkheadd is ready api=URL openflow=ADDR` says.
fn addresses(log: &str) -> Option<(SocketAddr, SocketAddr)> {
    // The last line may not be all there yet.
    let line = log.lines().find(|line| line.contains("bulkheadd is ready")).filter(|_| log.ends_with('\n'))?;
    let value = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
    let (_, api) = value("api=")?.trim_matches('"').split_once("://")?;
    Some((api.parse().ok()?, value("openflow=")?.parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_older_than_its_sources_is_not_used() {
        let dir = directory().unwrap();
        let file = |name: &str, seconds: u64| {
            let path = dir.join(name);
            let file = fs::File::create(&path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
            path
        };
        let (program, old, new) = (file("program", 10), file("a b.rs", 10), file("new.rs", 11));
        let list = |files: &[&PathBuf]| {
            let files: Vec<String> = files.iter().map(|f| f.display().to_string().replace(' ', "\\ ")).collect();
            format!("{}: {}\n", program.display(), files.join(" "))
        };
        assert!(fresh(&program, &list(&[&old])).is_ok());
        let said = fresh(&program, &list(&[&old, &new])).unwrap_err().to_string();
        assert!(said.contains("is older than") && said.contains("new.rs"), "{said}");
        assert!(fresh(&program, &list(&[&dir.join("gone.rs")])).is_err());
        assert!(fresh(&program, "").is_err());
        fs::remove_dir_all(dir).unwrap();
    }
}
