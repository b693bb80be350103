//! Hostile clients and hostile switches against a running `bulkheadd`, one attack a test, named by its number in the
//! list of threats. All the while an operator's ordinary edits reach live switches, each within [`LIMIT`].
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod clients;
mod crowds;
mod flood;
mod peer;
mod presence;
mod refusals;
mod slow;
mod switches;

use bulkhead_tests::{
    controller::{Controller, program},
    fake::{
        Switch,
        run::{Habits, Shared, look, run},
    },
};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Longest from an edit's first byte to the last live switch's acknowledgement. On a quiet machine it takes
/// milliseconds; what hangs takes for ever.
pub const LIMIT: Duration = Duration::from_secs(5);
/// Longest that the other side may take to say or do something.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const YAML: &str = "application/yaml";
pub const JSON: &str = "application/json";
/// Of merge patches (RFC 7396).
pub const PATCH: &str = "application/merge-patch+json";

/// Sends `bytes` and reads until the other side closes, which it has to. What it has not read may cost the answer: a
/// connection that is reset loses what was on the way.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Whoever refuses early does not read the rest.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("not closed within {PATIENCE:?}: {}", String::from_utf8_lossy(&answer));
        }
        _ => {}
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// One request on a connection of its own: status and body.
pub fn ask(address: SocketAddr, method: &str, path: &str, content: &str, body: &[u8]) -> (u16, String) {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {content}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    let answer = raw(address, &request);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

/// A controller and switches that are alive and behave.
pub struct Fabric {
    pub controller: Controller,
    pub api: SocketAddr,
    pub switches: Vec<Shared>,
    edits: AtomicU16,
    /// Runs the switches.
    _tasks: tokio::runtime::Runtime,
}

/// Two workloads on each of `count` switches, and the policy that [`Fabric::edit`] edits.
fn documents(count: usize) -> String {
    let mut text = String::from("kind: Network\nmetadata: {name: net}\nspec: {vni: 1, subnets: [10.0.0.0/8]}\n");
    for i in 1..=count {
        text += &format!(
            "---\nkind: Switch\nmetadata: {{name: hv{i}}}\nspec: {{driver: openflow, datapathId: \"0x{i:x}\"}}\n"
        );
        for (n, port) in ["a", "b"].into_iter().enumerate() {
            text += &format!(
                "---\nkind: Workload\nmetadata: {{name: {port}{i}, labels: {{app: {port}}}}}\nspec:\n  network: net\n  \
                 interfaces: [{{mac: \"02:00:00:00:{i:02x}:{n:02x}\", ips: [10.0.{i}.{n}], attachment: {{switch: hv{i}, port: {port}}}}}]\n"
            );
        }
    }
    text + "---\n" + &policy(1)
}

fn policy(port: u16) -> String {
    format!(
        "kind: Policy\nmetadata: {{name: p}}\nspec:\n  subject: {{matchLabels: {{app: b}}}}\n  ingress: [{{action: allow, \
         from: [{{matchLabels: {{app: a}}}}], ports: [{{protocol: tcp, port: {port}}}]}}]\n"
    )
}

impl Fabric {
    /// With `count` switches, which have acknowledged everything.
    pub fn new(count: usize) -> Self {
        let controller = Controller::start(&program("bulkheadd").unwrap(), Ipv4Addr::LOCALHOST).unwrap();
        let api: SocketAddr = controller.client.server().strip_prefix("http://").unwrap().parse().unwrap();
        let tasks = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let switch = |id| Arc::new(Mutex::new(Switch::new(id, &["a".into(), "b".into()])));
        let switches: Vec<Shared> = (1..=count as u64).map(switch).collect();
        for switch in &switches {
            let habits = Habits { echo: Some(Duration::from_secs(1)), ..Habits::default() };
            tasks.spawn(run(switch.clone(), controller.openflow, habits, Arc::default()));
        }
        let fabric = Self { controller, api, switches, edits: AtomicU16::new(1000), _tasks: tasks };
        fabric.apply(documents(count).as_bytes());
        fabric.acknowledged(1, PATIENCE);
        fabric
    }

    /// Applies documents; the revision.
    pub fn apply(&self, documents: &[u8]) -> u64 {
        let (status, answer) = ask(self.api, "POST", "/v1/apply", YAML, documents);
        assert_eq!(status, 200, "{answer}{}", self.controller.log());
        serde_json::from_str::<serde_json::Value>(&answer).unwrap()["revision"].as_u64().unwrap()
    }

    /// Waits until all of the live switches have acknowledged a revision.
    fn acknowledged(&self, revision: u64, limit: Duration) {
        let deadline = Instant::now() + limit;
        let live = |name: &str| (1..=self.switches.len()).any(|i| name == format!("hv{i}"));
        loop {
            let status = self.controller.client.status().unwrap();
            let done =
                status.switches.iter().filter(|s| live(&s.name)).all(|s| s.connected && s.acknowledged >= revision);
            if done {
                return;
            }
            assert!(Instant::now() < deadline, "not within {limit:?}: {status:?}\n{}", self.controller.log());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// An ordinary edit, by a client that comes for it alone; the time until the live switches acknowledged it.
    pub fn edit(&self) -> Duration {
        let port = self.edits.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let revision = self.apply(policy(port).as_bytes());
        self.acknowledged(revision, LIMIT);
        let took = began.elapsed();
        assert!(took <= LIMIT, "an edit took {took:?}");
        took
    }

    /// Edits all the while that `attack` goes on, and afterwards; then sees that no live switch has lost its session.
    pub fn meanwhile<T: Send>(&self, attack: impl FnOnce() -> T + Send) -> T {
        let outcome = thread::scope(|scope| {
            let attack = scope.spawn(attack);
            let (mut edits, mut slowest) = (0, Duration::ZERO);
            while !attack.is_finished() || edits < 3 {
                slowest = slowest.max(self.edit());
                edits += 1;
            }
            println!("{edits} edits meanwhile; the slowest was acknowledged after {slowest:?}");
            attack.join()
        });
        for switch in &self.switches {
            assert_eq!(look(switch).counts.sessions, 1, "a switch lost its session:\n{}", self.controller.log());
        }
        outcome.unwrap()
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.controller.client.status().unwrap().revision
    }
}
