//! `bulkheadd` and `bulkhead`, as processes: the demo is a client of the public contract like any other.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bulkhead_lab::process::Process;
use bulkhead_lab::{Family, Files, Lab, Service, command};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How long the controller may take to answer for the first time.
const START_LIMIT: Duration = Duration::from_secs(15);

/// How long a switch may take to connect and to acknowledge: one reconnect pause (1 s) and a first program.
const SWITCH_LIMIT: Duration = Duration::from_secs(15);

/// How long any request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Tries to find free ports: another program may take one between the look and the start.
const PORT_TRIES: usize = 3;

/// Pause between two looks at something that is coming.
const PAUSE: Duration = Duration::from_millis(20);

/// The controller and the operator's CLI, as files.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    daemon: PathBuf,
    cli: PathBuf,
}

impl Programs {
    /// Finds them, or says what to build.
    pub(crate) fn find(bin_dir: &Path) -> Result<Programs> {
        let program = |name: &str| {
            let path = bin_dir.join(name);
            ensure!(path.is_file(), "{} is missing: `cargo build --workspace --bins`", path.display());
            Ok(path)
        };
        Ok(Programs { daemon: program("bulkheadd")?, cli: program("bulkhead")? })
    }
}

/// A running controller.
pub(crate) struct Controller {
    cli: PathBuf,
    agent: ureq::Agent,
    /// Where it answers, as a URL.
    pub(crate) server: String,
}

/// One side of an answer to "who decides?"; the parts of it that the demo prints.
#[derive(Debug, Clone, Deserialize)]
struct Side {
    verdict: Verdict,
    policy: Option<String>,
    rule: Option<String>,
    zone: Option<String>,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Allow,
    Deny,
    Reject,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
            Verdict::Reject => "reject",
        }
    }
}

/// A verdict and who decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) verdict: Verdict,
    pub(crate) rule: String,
}

impl Expected {
    /// Whether a packet gets there.
    pub(crate) fn passes(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.verdict.word(), self.rule)
    }
}

#[derive(Deserialize)]
struct Reach {
    verdict: Verdict,
    egress: Side,
    ingress: Side,
}

#[derive(Deserialize)]
struct Trace {
    verdict: Verdict,
}

#[derive(Deserialize)]
struct Status {
    revision: u64,
    switches: Vec<Switch>,
}

#[derive(Deserialize)]
struct Switch {
    name: String,
    connected: bool,
    acknowledged: u64,
    entries: u64,
    #[serde(default, rename = "lastError")]
    last_error: String,
    #[serde(default)]
    tunnels: Vec<Tunnel>,
}

#[derive(Deserialize)]
struct Tunnel {
    to: String,
    state: String,
}

/// A question that `/v1/reach` and `/v1/trace` take.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// A workload's name, or `ip:` and an address.
    pub(crate) from: String,
    /// The same.
    pub(crate) to: String,
    pub(crate) service: Service,
    pub(crate) family: Family,
}

impl Controller {
    /// A controller that runs already.
    pub(crate) fn at(server: &str, programs: &Programs) -> Controller {
        let timeouts = ureq::Agent::config_builder().timeout_global(Some(REQUEST_LIMIT)).http_status_as_error(false);
        let agent = ureq::Agent::new_with_config(timeouts.build());
        Controller { cli: programs.cli.clone(), agent, server: server.to_owned() }
    }

    /// Starts a controller with an empty store, waits until it answers, and says where at `address` it waits for
    /// switches: for those that speak TLS, if it has files for it.
    pub(crate) fn start(
        lab: &mut Lab,
        programs: &Programs,
        address: Ipv4Addr,
        tls: Option<&Files>,
    ) -> Result<(Controller, SocketAddr)> {
        for _ in 0..PORT_TRIES {
            let (listen, openflow) = (free(Ipv4Addr::LOCALHOST)?, free(address)?);
            let mut daemon = Command::new(&programs.daemon);
            daemon.args(["--listen", &listen.to_string(), "--openflow-listen", &openflow.to_string()]);
            // Whoever runs a lab is root here, and nobody else's machine is reached by it.
            daemon.arg("--open-loopback");
            // Every hypervisor of the lab reaches this address, and no other one of the host's.
            daemon.args(["--openflow-advertise", &openflow.to_string(), "--data-dir"]);
            daemon.arg(lab.dir().join("data"));
            daemon.args(tls.into_iter().flat_map(southbound));
            let process = lab.program("bulkheadd", daemon)?;
            let controller = Controller::at(&format!("http://{listen}"), programs);
            if controller.answers(process) {
                return Ok((controller, openflow));
            }
            if process.runs() {
                break;
            }
        }
        let told = std::fs::read_to_string(lab.dir().join("bulkheadd.log")).unwrap_or_default();
        let last: Vec<_> = told.lines().rev().take(5).collect();
        bail!("bulkheadd does not come up: {}", last.into_iter().rev().collect::<Vec<_>>().join(" / "))
    }

    fn answers(&self, process: Process) -> bool {
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline && process.runs() {
            let healthy = self.agent.get(format!("{}/healthz", self.server)).call();
            if healthy.is_ok_and(|answer| answer.status().is_success()) {
                return true;
            }
            std::thread::sleep(PAUSE);
        }
        false
    }

    /// Runs the operator's CLI and returns what it prints.
    pub(crate) fn cli(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let mut cli = Command::new(&self.cli);
        cli.env_remove("BULKHEAD_SERVER").args(["--server", &self.server]).args(arguments);
        command::succeed(cli, input)
    }

    /// Waits until a switch has acknowledged the newest revision and its tunnels carry packets, and says which revision
    /// and how many entries it has.
    pub(crate) fn realized(&self, switch: &str) -> Result<(u64, u64)> {
        let deadline = Instant::now() + SWITCH_LIMIT;
        loop {
            let status: Status = self.get("/v1/status")?;
            let found = status.switches.iter().find(|other| other.name == switch);
            if let Some(found) = found
                && found.connected
                && found.acknowledged >= status.revision
                && found.silent().is_none()
            {
                return Ok((status.revision, found.entries));
            }
            if Instant::now() >= deadline {
                let state = match found {
                    None => "is not declared".to_owned(),
                    Some(found) if !found.connected => "is not connected".to_owned(),
                    Some(found) => match found.silent() {
                        Some(tunnel) => format!("has a tunnel to {} that is {}", tunnel.to, tunnel.state),
                        None => format!("has only revision {}: {}", found.acknowledged, found.last_error),
                    },
                };
                bail!("revision {} is not realized: {switch} {state}", status.revision);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The reference's verdict, and the rule that decides.
    pub(crate) fn reach(&self, question: &Question) -> Result<Expected> {
        let answer: Reach = self.post("/v1/reach", &question.body())?;
        let rule = match answer.verdict {
            Verdict::Allow => match (answer.egress.decider(), answer.ingress.decider()) {
                (Some(egress), Some(ingress)) => format!("{egress} + {ingress}"),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => "no policy applies".to_owned(),
            },
            _ if answer.egress.verdict != Verdict::Allow => format!("egress {}", answer.egress.named()),
            _ => format!("ingress {}", answer.ingress.named()),
        };
        Ok(Expected { verdict: answer.verdict, rule })
    }

    /// What the compiled stages do to the packet.
    pub(crate) fn trace(&self, question: &Question) -> Result<Verdict> {
        Ok(self.post::<Trace>("/v1/trace", &question.body())?.verdict)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.agent.get(format!("{}{path}", self.server)).call();
        read(path, answer.with_context(|| format!("GET {path}"))?)
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let answer = self.agent.post(format!("{}{path}", self.server)).send_json(body);
        read(path, answer.with_context(|| format!("POST {path}"))?)
    }
}

impl Switch {
    /// A tunnel that nothing is known to get through. Those of leaves are not probed.
    fn silent(&self) -> Option<&Tunnel> {
        self.tunnels.iter().find(|tunnel| !["up", "set-up"].contains(&tunnel.state.as_str()))
    }
}

impl Side {
    /// Whose rule it was; none for a side that has no policy of its own.
    fn decider(&self) -> Option<String> {
        match (&self.policy, &self.rule, &self.zone) {
            (Some(policy), Some(rule), _) => Some(format!("{policy}/{rule}")),
            (Some(policy), None, _) => Some(policy.clone()),
            (None, _, Some(zone)) => Some(format!("zone {zone}")),
            (None, Some(rule), None) => Some(rule.clone()),
            (None, None, None) => None,
        }
    }

    fn named(&self) -> String {
        self.decider().unwrap_or_else(|| "UNNAMED".to_owned())
    }
}

impl Question {
    fn body(&self) -> Value {
        let mut body = json!({
            "from": self.from,
            "to": self.to,
            "protocol": self.service.protocol(self.family),
            "family": self.family.number(),
        });
        if let (Some(port), Some(object)) = (self.service.port(), body.as_object_mut()) {
            object.insert("port".into(), port.into());
        }
        body
    }
}

fn read<T: DeserializeOwned>(path: &str, mut answer: ureq::http::Response<ureq::Body>) -> Result<T> {
    let text = answer.body_mut().read_to_string()?;
    ensure!(answer.status().is_success(), "{path}: {}: {text}", answer.status());
    serde_json::from_str(&text).with_context(|| format!("{path}: {text}"))
}

/// What bulkheadd is told for it to speak TLS with switches.
pub(crate) fn southbound(files: &Files) -> Vec<OsString> {
    let flags = [("ca", &files.ca), ("cert", &files.certificate), ("key", &files.key)];
    flags.into_iter().flat_map(|(flag, file)| [format!("--southbound-{flag}").into(), file.into()]).collect()
}

/// A port that nobody has.
fn free(address: Ipv4Addr) -> Result<SocketAddr> {
    let listener = TcpListener::bind((IpAddr::V4(address), 0)).with_context(|| format!("no free port at {address}"))?;
    Ok(listener.local_addr()?)
}
