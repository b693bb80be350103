//! Network namespaces, and threads that live in one.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::command;

/// Where `ip netns` keeps its names (ip-netns(8)).
const NAMES: &str = "/run/netns";

/// A named network namespace. The handle is only the name: dropping it removes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The handle for a namespace of this name, which need not exist yet.
    #[must_use]
    pub fn named(name: &str) -> Namespace {
        Namespace { name: name.to_owned() }
    }

    /// Its name, as `ip netns exec` takes it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(NAMES).join(&self.name)
    }

    /// Whether it is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    pub(crate) fn create(&self) -> Result<()> {
        command::ip(&["netns", "add", &self.name])?;
        self.batch("link set lo up\n")
    }

    /// Removes it, if it is there, and whatever processes are in it: they could be nobody else's.
    pub(crate) fn remove(&self) -> Result<()> {
        if !self.exists() {
            return Ok(());
        }
        if let Ok(pids) = command::ip(&["netns", "pids", &self.name]) {
            let me = std::process::id().cast_signed();
            // Threads of this very process that sit in the namespace show up under its own number.
            let pids = pids.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok());
            for process in pids.filter(|pid| *pid != me).filter_map(crate::process::Process::find) {
                process.kill();
            }
        }
        match command::ip(&["netns", "del", &self.name]) {
            Err(error) if self.exists() => Err(error),
            _ => Ok(()),
        }
    }

    /// Runs `ip` commands in the namespace, one a line, and stops at the first that fails.
    pub(crate) fn batch(&self, lines: &str) -> Result<()> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.name, "-batch", "-"]);
        command::succeed(ip, Some(lines)).with_context(|| format!("in namespace {}: {lines}", self.name)).map(drop)
    }

    /// Runs `work` in a thread of its own inside the namespace and waits for it. The thread ends afterwards, so no
    /// other work is ever done in the wrong namespace. Sockets opened there stay there, whoever uses them later.
    ///
    /// # Errors
    /// When the namespace is gone or may not be entered (that needs root), or `work` panicked.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| work()));
            thread.join().map_err(|_| anyhow!("the thread in namespace {} panicked", self.name))?
        })
    }

    /// Moves the calling thread into the namespace, for good. Only for threads that end before anything else runs.
    pub(crate) fn enter(&self) -> Result<()> {
        let file = File::open(self.path()).with_context(|| format!("there is no network namespace {}", self.name))?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter the namespace {}", self.name))
    }

    /// Starts a program inside the namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the program cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let line = command::words(command);
        self.run(|| command.spawn())?.with_context(|| format!("cannot start `{line}`"))
    }

    /// Runs a program inside the namespace to its end, within [`command::COMMAND_LIMIT`]; it has to exit with 0.
    ///
    /// # Errors
    /// As [`command::succeed`], or when the namespace cannot be entered.
    pub fn exec(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments);
        self.run(|| command::succeed(command, None))?
    }

    /// Sets kernel parameters of the namespace; the keys are paths below /proc/sys/net.
    pub(crate) fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (key, value) in settings {
                // /proc/sys/net shows the namespace of the thread that opens it (proc(5)).
                std::fs::write(format!("/proc/sys/net/{key}"), value).with_context(|| format!("cannot set {key}"))?;
            }
            Ok(())
        })?
    }
}
