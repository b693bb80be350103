//! Processes by number, told apart from later ones that got the same number.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// How long a process gets to end after SIGTERM before SIGKILL: `bulkheadd` closes its store in well under this.
const PATIENCE: Duration = Duration::from_secs(3);

/// One process of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it was started, in clock ticks since boot (proc(5), /proc/PID/stat field 22). A process that has the same
    /// number and another start is somebody else's.
    pub started: u64,
}

impl Process {
    /// The process with this number, if there is one.
    #[must_use]
    pub fn find(pid: i32) -> Option<Process> {
        let (state, started) = stat(pid)?;
        (state != 'Z').then_some(Process { pid, started })
    }

    /// This very process.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn myself() -> Result<Process> {
        let pid = Pid::this().as_raw();
        Process::find(pid).ok_or_else(|| anyhow::anyhow!("/proc/{pid}/stat cannot be read: is /proc mounted?"))
    }

    /// Whether it still runs. One that has ended and was not yet waited for does not.
    #[must_use]
    pub fn runs(self) -> bool {
        Process::find(self.pid) == Some(self)
    }

    /// Asks it to end, and ends it if it does not.
    pub fn end(self) {
        if !self.runs() {
            return;
        }
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while self.runs() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
    }

    /// Ends it at once.
    pub fn kill(self) {
        if !self.runs() {
            return;
        }
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        let deadline = Instant::now() + PATIENCE;
        while self.runs() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// State letter and start time. The name in field 2 may hold spaces and parentheses, so fields count from its last ')'.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_the_one_meant_and_no_other() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let process = Process::find(child.id().cast_signed()).unwrap();
        let other = Process { started: process.started + 1, ..process };
        other.kill();
        assert!(process.runs(), "a process with another start time was ended");
        process.kill();
        assert!(!process.runs());
        child.wait().unwrap();
    }

    #[test]
    fn knows_itself() {
        assert!(Process::myself().unwrap().runs());
    }
}
