//! Child processes with a time limit: nothing that the lab starts may hang it.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long an `ovs-*` command may take. They finish in milliseconds; on a machine that is
/// busy with other labs a switch may need seconds to acknowledge a change.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(15);

/// First pause between two looks at a child; it doubles up to [`POLL_MOST`].
const POLL_FIRST: Duration = Duration::from_micros(500);
/// Longest pause between two looks at a child.
const POLL_MOST: Duration = Duration::from_millis(10);

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// What it wrote to standard error, invalid UTF-8 replaced.
    pub stderr: String,
}

/// A command's words for messages.
pub fn words(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Runs a command to its end, feeding it `input`, and kills it after `limit`.
///
/// # Errors
/// When the program cannot be started, or did not end in time. An exit code other than 0 is no error here.
pub fn finish(mut command: Command, input: Option<&str>, limit: Duration) -> Result<Finished> {
    let line = words(&command);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    // In a process group of its own: a Ctrl-C at the terminal is for the lab, which still needs its commands to clean up.
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    // The pipes are served by threads so that a full pipe never blocks the child; they end with it.
    let output = std::thread::spawn(move || collect(stdout));
    let errors = std::thread::spawn(move || collect(stderr));
    if let (Some(mut stdin), Some(input)) = (stdin, input) {
        // A child that ends without reading its input is told apart by its exit code.
        let _ = stdin.write_all(input.as_bytes());
    }
    let deadline = Instant::now() + limit;
    let mut pause = POLL_FIRST;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            bail!("`{line}` did not end within {} s", limit.as_secs());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(POLL_MOST);
    };
    Ok(Finished {
        code: status.code(),
        stdout: output.join().unwrap_or_default(),
        stderr: errors.join().unwrap_or_default(),
    })
}

/// Runs a command that has to succeed, and returns its standard output.
///
/// # Errors
/// When it cannot be started, does not end in time or exits with anything but 0; its standard error is in the message.
pub fn succeed(command: Command, input: Option<&str>) -> Result<String> {
    let line = words(&command);
    let done = finish(command, input, COMMAND_LIMIT)?;
    if done.code != Some(0) {
        let told = done.stderr.trim();
        bail!("`{line}` failed: {}", if told.is_empty() { done.stdout.trim() } else { told });
    }
    Ok(done.stdout)
}

fn collect(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_hangs_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("30");
        let begun = Instant::now();
        let error = finish(command, None, Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("sleep 30"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_failure_says_what_the_program_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo because >&2; exit 3"]);
        assert!(succeed(command, None).unwrap_err().to_string().contains("because"));
    }

    #[test]
    fn input_and_output_larger_than_a_pipe_pass() {
        let input = "x".repeat(1 << 20);
        assert_eq!(succeed(Command::new("cat"), Some(&input)).unwrap().len(), input.len());
    }
}
