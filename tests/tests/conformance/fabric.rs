//! A controller and one dataplane under it: what a case is carried out on. Documents go in and counters come out by
//! the API; packets go in and come out at ports.

use crate::{
    case::{BASE, Case, EXT, Expect, SPARE, Sent, Step},
    frames::Host,
};
use bulkhead_client::Client;
use bulkhead_daemon::{Config, Daemon, start};
use bulkhead_driver_sim as sim;
use bulkhead_lab::{Hypervisor, Lab, Spec, Wire};
use bulkhead_pipeline::{Field, Outcome, Packet, ip_proto};
use bulkhead_topology::{Mac, Name, Port};
use bulkhead_types::{Format, RuleHits, read, v1};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// How long anything may take that has to come, on a busy machine.
const COMING: Duration = Duration::from_secs(10);
/// How long a change may take until packets meet it.
const CHANGE: Duration = Duration::from_secs(1);
/// How long a port is listened to before the counters are looked at.
const TRY: Duration = Duration::from_millis(100);
/// Looks at the counters before cached flows are ended: what they count comes late.
const LOOKS: u32 = 3;

/// Dropped packets by cause.
type Drops = BTreeMap<String, u64>;

/// Something that came out.
#[derive(Debug, Clone)]
enum Seen {
    /// A frame, out of a port.
    Frame(String, Vec<u8>),
    /// A simulated switch makes no frames.
    Packet(String, Box<Packet>),
    /// It makes no resets and ICMP errors either, and says that there would be one.
    Refusal,
}

enum Plane {
    Simulated {
        switches: sim::Fabric,
        seen: Vec<Seen>,
    },
    Real {
        hypervisor: Box<Hypervisor>,
        wires: BTreeMap<String, Wire>,
        /// Removed last.
        _lab: Box<Lab>,
    },
}

fn switch() -> Name {
    "hv1".parse().unwrap()
}

fn port(name: &str) -> Port {
    Port::Name(name.into())
}

impl Plane {
    fn send(&mut self, at: &str, frame: &[u8]) {
        match self {
            Self::Simulated { switches, seen } => switches.with(&switch(), |switch| {
                let walk = switch.inject(port(at), frame).unwrap();
                seen.extend(match walk.outcome {
                    Outcome::Delivered { port, packet } => Some(Seen::Packet(port.to_string(), packet)),
                    Outcome::Answered(packet) => Some(Seen::Packet(at.into(), packet)),
                    Outcome::Rejected(_) | Outcome::Expired { .. } | Outcome::TooBig { .. } => Some(Seen::Refusal),
                    Outcome::Dropped(_) | Outcome::Probe(_) => None,
                });
            }),
            Self::Real { wires, .. } => wires[at].inject(frame).unwrap(),
        }
    }

    /// What comes out of a port next.
    fn wait(&mut self, at: &str) -> Option<Seen> {
        match self {
            Self::Simulated { .. } => None,
            Self::Real { wires, .. } => Some(Seen::Frame(at.into(), wires[at].receive(TRY).unwrap()?)),
        }
    }

    /// What came out of ports.
    fn receive(&mut self) -> Vec<Seen> {
        match self {
            Self::Simulated { seen, .. } => std::mem::take(seen),
            Self::Real { wires, .. } => {
                let all = wires.iter().flat_map(|(name, wire)| {
                    let frames = wire.drain(Duration::ZERO).unwrap();
                    frames.into_iter().map(|frame| Seen::Frame(name.clone(), frame))
                });
                all.collect()
            }
        }
    }

    /// Counts what cached flows passed or dropped, by ending them.
    fn end_cached_flows(&self) {
        if let Self::Real { hypervisor, .. } = self {
            hypervisor.appctl(&["revalidator/purge"]).unwrap();
        }
    }

    /// The same, and they stay: what was not counted before a change counts for the rules that come with it.
    fn count_cached_flows(&self) {
        if let Self::Real { hypervisor, .. } = self {
            hypervisor.appctl(&["revalidator/wait"]).unwrap();
        }
    }

    fn forget_connections(&self) {
        match self {
            Self::Simulated { switches, .. } => switches.with(&switch(), |switch| switch.tracker_mut().clear()),
            Self::Real { hypervisor, .. } => _ = hypervisor.appctl(&["dpctl/flush-conntrack"]).unwrap(),
        }
    }
}

pub struct Fabric {
    pub client: Client,
    plane: Plane,
    /// How the switch is declared.
    driver: &'static str,
    applied: BTreeSet<(&'static str, String)>,
    drops: Drops,
    changed: Instant,
    daemon: Option<Daemon>,
    runtime: Runtime,
    /// The controller's files.
    _directory: tempfile::TempDir,
}

impl Fabric {
    /// A controller and a simulated switch.
    pub fn simulated() -> Self {
        let switches = sim::Fabric::default();
        let plane = Plane::Simulated { switches: switches.clone(), seen: Vec::new() };
        Self::start(plane, "driver: sim", Ipv4Addr::LOCALHOST, switches).0
    }

    /// A controller and an Open vSwitch with a silent host at every port; says so where there can be none.
    pub fn real(hosts: &[Host]) -> Option<Self> {
        if let Some(why) = bulkhead_lab::missing() {
            eprintln!("NOT TESTED: real packets through Open vSwitch: {why}");
            return None;
        }
        let mut lab = Lab::new("conf").unwrap();
        let hypervisor = lab.hypervisor("hv1", 0xb1).unwrap();
        let spare = Host { port: SPARE, mac: [2, 0, 0, 0, 0, 0xff], ..EXT };
        let mut wires = BTreeMap::new();
        for host in hosts.iter().chain([&spare]) {
            let workload = lab.add(&hypervisor, &Spec::silent(host.port, Mac(host.mac))).unwrap();
            // What comes out is looked at where the switch sends it, with its tag.
            let wire = Wire::tapped((workload.namespace(), "eth0"), (hypervisor.namespace(), host.port));
            wires.insert(host.port.into(), wire.unwrap());
        }
        let address = hypervisor.controller_address();
        let plane = Plane::Real { hypervisor: Box::new(hypervisor.clone()), wires, _lab: Box::new(lab) };
        let driver = "driver: openflow, datapathId: \"0xb1\"";
        let (fabric, openflow) = Self::start(plane, driver, address, sim::Fabric::default());
        // The least that there is, in milliseconds (ovs-vswitchd.conf.db(5)).
        hypervisor.vsctl(&["set", "Open_vSwitch", ".", "other_config:max-revalidator=100"]).unwrap();
        hypervisor.set_controller(openflow).unwrap();
        Some(fabric)
    }

    fn start(plane: Plane, driver: &'static str, at: Ipv4Addr, sim: sim::Fabric) -> (Self, SocketAddr) {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            openflow_listen: SocketAddr::new(IpAddr::V4(at), 0),
            openflow_advertise: None,
            data_dir: Path::join(directory.path(), "data"),
            record: None,
            log: "warn".into(),
        };
        let runtime = Runtime::new().unwrap();
        let daemon = runtime.block_on(start(&config, sim)).unwrap();
        let client = Client::new(&format!("http://{}", daemon.listen)).unwrap();
        let openflow = daemon.openflow;
        let fabric = Self {
            client,
            plane,
            driver,
            applied: BTreeSet::new(),
            drops: Drops::new(),
            changed: Instant::now(),
            daemon: Some(daemon),
            runtime,
            _directory: directory,
        };
        (fabric, openflow)
    }

    /// Carries out a whole case.
    pub fn run(&mut self, case: &Case) {
        self.begin(case);
        for (index, step) in case.steps.iter().enumerate() {
            let about = || format!("{}, step {index}", case.name);
            match step {
                Step::Send(sent) => self.check(sent, &about()),
                Step::Apply(documents) => self.apply(documents, &about()),
                Step::Delete(kind, name) => self.delete(&[(*kind, (*name).into())], &about()),
            }
        }
    }

    /// Makes the state be the case's, and nothing remembered of earlier ones.
    fn begin(&mut self, case: &Case) {
        let base = BASE.replace("SWITCH", self.driver).replace("NETWORK", &case.network);
        let before = std::mem::take(&mut self.applied);
        self.apply(&format!("{base}---\n{}", case.documents), &case.name);
        let gone: Vec<_> = before.difference(&self.applied).cloned().collect();
        if !gone.is_empty() {
            self.delete(&gone, &case.name);
        }
        self.plane.forget_connections();
        self.plane.end_cached_flows();
        self.rebase();
    }

    /// Brings the counters up to date.
    pub fn count_cached_flows(&self) {
        self.plane.count_cached_flows();
    }

    /// Applies documents and waits until the switch has acknowledged them.
    pub fn apply(&mut self, documents: &str, about: &str) {
        let parsed = read(Some(about), documents.as_bytes(), Format::Any);
        assert!(!parsed.has_errors(), "{about}: {:#?}", parsed.diagnostics);
        let values: Vec<_> = parsed.documents.iter().map(|document| document.to_value()).collect();
        let keys =
            parsed.documents.iter().map(|document| (v1::kind_name(document.key.kind), document.key.name.to_string()));
        self.applied.extend(keys);
        self.plane.count_cached_flows();
        self.changed = Instant::now();
        let answer = self.client.apply(&values, false).unwrap_or_else(|error| panic!("{about}: {error}"));
        self.realized(answer.revision, about);
    }

    fn delete(&mut self, keys: &[(&'static str, String)], about: &str) {
        self.applied.retain(|key| !keys.contains(key));
        let documents: Vec<_> =
            keys.iter().map(|(kind, name)| json!({"kind": kind, "metadata": {"name": name}})).collect();
        self.plane.count_cached_flows();
        self.changed = Instant::now();
        let answer = self.client.delete(&documents, false).unwrap_or_else(|error| panic!("{about}: {error}"));
        self.realized(answer.revision, about);
    }

    fn realized(&mut self, revision: u64, about: &str) {
        let answer = self.client.realization(revision, COMING).unwrap();
        assert!(answer.realized, "{about}: {answer:?} {:?}", self.client.status());
        self.rebase();
    }

    /// From here on drops are counted.
    fn rebase(&mut self) {
        self.drops = self.all_drops();
    }

    fn all_drops(&self) -> Drops {
        let hits = self.client.hits(None).unwrap();
        hits.iter().filter(|hits| hits.dropped > 0).map(|hits| (name(hits), hits.dropped)).collect()
    }

    /// Sends a packet, and again while it may still be too early, until what has to come of it came.
    pub fn check(&mut self, sent: &Sent, about: &str) {
        for attempt in 0.. {
            let late = self.changed.elapsed() > CHANGE;
            match self.once(sent) {
                Ok(()) if late && attempt > 0 => panic!("{about}: {:?}: only {CHANGE:?} after the change", sent.expect),
                Ok(()) => return,
                Err(_) if sent.soon && !late => self.rebase(),
                Err(found) => panic!("{about}: not {:?}: {found}", sent.expect),
            }
        }
    }

    fn once(&mut self, sent: &Sent) -> Result<(), String> {
        self.plane.send(sent.port, &sent.frame);
        let (at, cause) = match &sent.expect {
            Expect::Delivered(to) | Expect::Changed(to, _) => (Some(*to), None),
            Expect::Dropped(cause) => (None, Some(*cause)),
            Expect::Reset(cause) | Expect::Unreachable(cause) => (Some(sent.port), Some(*cause)),
            Expect::Answered(_) => (Some(sent.port), None),
        };
        let deadline = Instant::now() + COMING;
        let mut seen = Vec::new();
        for look in 1.. {
            if let Some(at) = at.filter(|_| seen.is_empty()) {
                seen.extend(self.plane.wait(at));
            }
            // What came out beside it did so at the same time, and before the switch told its counters.
            let all = self.all_drops();
            seen.extend(self.plane.receive());
            let drops = difference(&self.drops, &all);
            let counted = cause.is_none_or(|cause| drops.contains_key(cause));
            let wrong = at.is_none() && !seen.is_empty() || cause.is_none() && !drops.is_empty();
            if wrong || counted && (at.is_none() || !seen.is_empty()) || Instant::now() >= deadline {
                self.drops = all;
                return judge(sent, &seen, &drops);
            }
            if look > LOOKS {
                self.plane.end_cached_flows();
            }
        }
        Ok(())
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            let stopped = self.runtime.block_on(daemon.stop());
            if !std::thread::panicking() {
                stopped.unwrap();
            }
        }
    }
}

/// A rule's name as `bulkhead describe` has it, with its policy's.
pub fn name(hits: &RuleHits) -> String {
    match &hits.policy {
        Some(policy) => format!("{policy}/{}", hits.rule),
        None => hits.rule.clone(),
    }
}

fn difference(before: &Drops, now: &Drops) -> Drops {
    let new = |(cause, count): (&String, &u64)| {
        let new = count - before.get(cause).unwrap_or(&0);
        (new > 0).then(|| (cause.clone(), new))
    };
    now.iter().filter_map(new).collect()
}

/// Whether what was seen is what had to be.
fn judge(sent: &Sent, seen: &[Seen], drops: &Drops) -> Result<(), String> {
    let wrong = || Err(format!("{seen:02x?}, dropped {drops:?}"));
    // A packet of several tries counts as often.
    let only = |cause: &str| drops.len() == 1 && drops.get(cause).is_some_and(|count| *count == 1 || sent.soon);
    let nothing = drops.is_empty();
    let back = |at: &str, frame: &[u8]| {
        at == sent.port && parse(at, frame).get(Field::Vlan) == parse(at, &sent.frame).get(Field::Vlan)
    };
    let right = match (&sent.expect, seen) {
        (Expect::Dropped(cause), []) => only(cause),
        (Expect::Delivered(to), [seen]) => nothing && came_out(seen, to, &sent.frame),
        (Expect::Changed(to, frame), [seen]) => nothing && came_out(seen, to, frame),
        (Expect::Reset(cause) | Expect::Unreachable(cause), [Seen::Refusal]) => only(cause),
        (Expect::Reset(cause), [Seen::Frame(at, frame)]) => only(cause) && back(at, frame) && is_reset(at, frame),
        (Expect::Unreachable(cause), [Seen::Frame(at, frame)]) => {
            only(cause) && back(at, frame) && is_unreachable(at, frame)
        }
        (Expect::Answered(fields), [Seen::Frame(at, frame)]) => {
            nothing && at == sent.port && has(&parse(at, frame), fields)
        }
        (Expect::Answered(fields), [Seen::Packet(at, packet)]) => nothing && at == sent.port && has(packet, fields),
        _ => false,
    };
    if right { Ok(()) } else { wrong() }
}

/// Whether it is this frame, out of this port; of a simulated switch, what of it the pipeline may change.
fn came_out(seen: &Seen, to: &str, frame: &[u8]) -> bool {
    match seen {
        Seen::Frame(at, found) => at == to && found == frame,
        Seen::Packet(at, found) => {
            let wanted = parse(at, frame);
            let fields = [Field::EthSrc, Field::EthDst, Field::EthType, Field::Vlan];
            at == to && fields.into_iter().all(|field| found.get(field) == wanted.get(field))
        }
        Seen::Refusal => false,
    }
}

fn parse(at: &str, frame: &[u8]) -> Packet {
    Packet::parse(port(at), frame).unwrap()
}

fn has(packet: &Packet, fields: &[(Field, u128)]) -> bool {
    fields.iter().all(|(field, value)| packet.get(*field) == Some(*value))
}

fn is_reset(at: &str, frame: &[u8]) -> bool {
    let flags = frame[frame.len() - 20 + 13];
    parse(at, frame).value(Field::IpProto) == ip_proto::TCP && flags & 4 != 0
}

fn is_unreachable(at: &str, frame: &[u8]) -> bool {
    let packet = parse(at, frame);
    let unreachable = if packet.value(Field::IpProto) == ip_proto::ICMP { 3 } else { 1 };
    packet.get(Field::IcmpType) == Some(unreachable)
}
