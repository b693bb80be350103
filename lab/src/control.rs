//! The control socket of a switch's daemon: what `ovs-appctl` asks, without a process for each question.

use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

/// How long an answer may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the control socket (ovs-appctl(8)); it speaks JSON-RPC 1.0, one question after the other.
#[derive(Debug)]
pub struct Control {
    stream: BufReader<UnixStream>,
}

impl Control {
    /// Connects to a daemon's socket.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn open(socket: &Path) -> Result<Control> {
        let open = || {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok::<_, std::io::Error>(stream)
        };
        let stream = open().with_context(|| format!("cannot connect to {}", socket.display()))?;
        Ok(Control { stream: BufReader::new(stream) })
    }

    /// Runs one command, and returns what it prints.
    ///
    /// # Errors
    /// When the daemon refuses it, or does not answer in time.
    pub fn ask(&mut self, command: &str, arguments: &[&str]) -> Result<String> {
        let question = json!({"id": 0, "method": command, "params": arguments});
        self.stream.get_mut().write_all(question.to_string().as_bytes())?;
        let answer = Value::deserialize(&mut serde_json::Deserializer::from_reader(&mut self.stream))
            .with_context(|| format!("no answer to {command} {arguments:?}"))?;
        match (answer.get("result"), answer.get("error")) {
            (Some(Value::String(text)), _) => Ok(text.clone()),
            (_, Some(Value::String(error))) => bail!("{command} {arguments:?}: {error}"),
            _ => bail!("{command} {arguments:?}: {answer}"),
        }
    }
}
