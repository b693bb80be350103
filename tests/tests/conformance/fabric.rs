//! A controller and one dataplane under it: what a case is carried out on. Documents go in and counters come out by
//! the API; packets go in and come out at ports.

use crate::{
    case::{BASE, Case, EXT, Expect, Sent, Step},
    device::Leaves,
    frames::SYN,
    mininet,
    plane::{Plane, Seen, Spread, by_link, port},
};
use bulkhead_client::Client;
use bulkhead_daemon::{Config, Daemon, start};
use bulkhead_driver_sim as sim;
use bulkhead_pipeline::{Field, Packet, ip_proto};
use bulkhead_topology::Mac;
use bulkhead_types::{Format, RuleHits, read, v1};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// How long anything may take that has to come, on a busy machine.
const COMING: Duration = Duration::from_secs(10);
/// How long a change may take until packets meet it.
const CHANGE: Duration = Duration::from_secs(1);
/// Pause between two looks at something that is coming.
const PAUSE: Duration = Duration::from_millis(10);
/// Looks at the counters before cached flows are ended: what they count comes late.
const LOOKS: u32 = 3;

/// Built-in rules that decide where a packet comes in, before any other switch sees it.
const AT_ONCE: [&str; 7] = ["antispoof", "arp", "dhcp", "fragment", "miss-classify", "non-ip", "ttl"];

/// Who dropped packets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Dropper {
    cause: String,
    /// Of a policy's rule.
    direction: Option<String>,
    switch: String,
}

/// What switches ask each other.
const QUESTIONS: [&str; 3] = ["builtin/probe", "builtin/discover", "builtin/link"];

impl Dropper {
    /// Whether that is the cause. Where switches share a tracker, each knows what another one let pass: then it is not
    /// because no connection is known that an answer is dropped, but by what the connection itself may not.
    fn is(&self, cause: &str, spread: &Spread) -> bool {
        self.cause == cause || (spread.one_tracker && cause == "builtin/conntrack-invalid")
    }
}

/// Dropped packets.
type Drops = BTreeMap<Dropper, u64>;

pub struct Fabric {
    pub client: Client,
    plane: Plane,
    spread: Spread,
    /// How the switches are declared.
    switches: String,
    applied: BTreeSet<(&'static str, String)>,
    drops: Drops,
    changed: Instant,
    daemon: Option<Daemon>,
    runtime: Runtime,
    /// The controller's files.
    _directory: tempfile::TempDir,
}

impl Fabric {
    /// A controller and simulated switches.
    pub fn simulated(spread: Spread) -> Self {
        let (plane, switches, documents) = Plane::simulated(spread);
        Self::start(plane, spread, documents, (Ipv4Addr::LOCALHOST, 0).into(), switches)
    }

    /// A controller and Open vSwitch with a silent host at every port; says so where there can be none.
    pub fn real(spread: Spread) -> Option<Self> {
        if let Some(why) = bulkhead_lab::missing() {
            eprintln!("NOT TESTED: real packets through Open vSwitch: {why}");
            return None;
        }
        let (plane, documents, address) = Plane::real(spread);
        Some(Self::start(plane, spread, documents, (address, 0).into(), sim::Fabric::default()))
    }

    /// A controller and Mininet's switches; inside of [`mininet::enter`].
    pub fn mininet(spread: Spread) -> Self {
        let (plane, documents) = Plane::mininet(spread);
        Self::start(plane, spread, documents, mininet::CONTROLLER, sim::Fabric::default())
    }

    /// A controller and switches that P4 programs.
    pub fn programmed(spread: Spread, leaves: Leaves) -> Self {
        let (plane, documents) = Plane::programmed(spread, leaves);
        Self::start(plane, spread, documents, (Ipv4Addr::LOCALHOST, 0).into(), sim::Fabric::default())
    }

    fn start(plane: Plane, spread: Spread, switches: String, at: SocketAddr, sim: sim::Fabric) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // What hosts are told has to be known before; the address is the lab's own.
        let openflow = TcpListener::bind(at).unwrap().local_addr().unwrap();
        let config = Config {
            openflow_listen: openflow,
            openflow_advertise: Some(openflow),
            ..Config::inside(Path::join(directory.path(), "data"))
        };
        let runtime = Runtime::new().unwrap();
        let daemon = runtime.block_on(start(&config, sim)).unwrap();
        let client = Client::new(&format!("http://{}", daemon.listen)).unwrap();
        plane.set_controller(openflow);
        Self {
            client,
            plane,
            spread,
            switches,
            applied: BTreeSet::new(),
            drops: Drops::new(),
            changed: Instant::now(),
            daemon: Some(daemon),
            runtime,
            _directory: directory,
        }
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
        let base = BASE.replace("NETWORK", &case.network);
        let before = std::mem::take(&mut self.applied);
        self.apply(&format!("{base}{}---\n{}", self.switches, case.documents), &case.name);
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
        let values: Vec<_> = parsed.documents.iter().map(|document| self.spread.place(document.to_value())).collect();
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
        self.connected(about);
        // Links that were found since made revisions of their own.
        let revision = revision.max(self.client.status().unwrap().revision);
        let answer = self.client.realization(revision, COMING).unwrap();
        assert!(answer.realized, "{about}: {answer:?} {:?}", self.client.status());
        self.connected(about);
        self.rebase();
    }

    /// Waits until every switch is there, all links are found, and every tunnel carries packets: the first ones may be
    /// lost while a switch looks for its neighbour.
    fn connected(&self, about: &str) {
        let deadline = Instant::now() + COMING;
        loop {
            let status = self.client.status().unwrap();
            let mut tunnels = status.switches.iter().flat_map(|switch| &switch.tunnels);
            let links = status.links.up == self.spread.links();
            if links
                && status.switches.iter().all(|switch| switch.connected)
                && tunnels.all(|tunnel| ["up", "set-up"].contains(&tunnel.state.as_str()))
            {
                return;
            }
            assert!(Instant::now() < deadline, "{about}: {status:?}");
            std::thread::sleep(PAUSE);
        }
    }

    /// From here on drops are counted.
    fn rebase(&mut self) {
        self.drops = self.all_drops();
    }

    fn all_drops(&self) -> Drops {
        let hits = self.client.hits(None).unwrap();
        // Tunnels are probed now and then, and links looked for; nobody's packet is lost to that.
        let counted = hits.iter().filter(|hits| !QUESTIONS.contains(&hits.rule.as_str()));
        let by_switch = counted.flat_map(|hits| hits.switches.iter().map(move |(switch, here)| (hits, switch, here)));
        let dropped = by_switch.filter(|(.., here)| here.dropped > 0).map(|(hits, switch, here)| {
            let (direction, switch) = (hits.direction.clone(), switch.clone());
            (Dropper { cause: name(hits), direction, switch }, here.dropped)
        });
        dropped.collect()
    }

    /// Sends a packet, and again while it may still be too early, until what has to come of it came.
    pub fn check(&mut self, sent: &Sent, about: &str) {
        let sent = &Sent { expect: self.spread.expect(&sent.expect), ..sent.clone() };
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
            Expect::Where(..) => unreachable!("it is one or the other"),
            Expect::Reset(cause) | Expect::Unreachable(cause) | Expect::Told(cause, ..) => {
                (Some(sent.port), Some(*cause))
            }
            Expect::Answered(_) => (Some(sent.port), None),
        };
        // Of what comes out and counts, the controller has sent it.
        let prompt = self.plane.is_prompt() && (at.is_none() || cause.is_none());
        let deadline = Instant::now() + if prompt { Duration::ZERO } else { COMING };
        let mut seen = Vec::new();
        for look in 1.. {
            if let Some(at) = at.filter(|_| seen.is_empty()) {
                seen.extend(self.plane.wait(at));
            }
            // What came out beside it did so at the same time, and before the switch told its counters.
            let all = self.all_drops();
            seen.extend(self.plane.receive());
            let drops = difference(&self.drops, &all);
            let counted = cause.is_none_or(|cause| drops.keys().any(|dropper| dropper.is(cause, &self.spread)));
            let wrong =
                at.is_none() && !seen.is_empty() || cause.is_none() && !drops.is_empty() && !self.spread.forgets;
            if wrong || counted && (at.is_none() || !seen.is_empty()) || Instant::now() >= deadline {
                self.drops = all;
                return judge(&self.spread, sent, &seen, &drops);
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
    let new = |(dropper, count): (&Dropper, &u64)| {
        let new = count - before.get(dropper).unwrap_or(&0);
        (new > 0).then(|| (dropper.clone(), new))
    };
    now.iter().filter_map(new).collect()
}

/// Whether what was seen is what had to be.
fn judge(spread: &Spread, sent: &Sent, seen: &[Seen], drops: &Drops) -> Result<(), String> {
    let wrong = || Err(format!("{seen:02x?}, dropped {drops:?}"));
    // A packet of several tries counts as often.
    let only = |cause: &str| match drops.first_key_value() {
        // It may have counted once for each view.
        Some(_) if spread.forgets => drops.keys().any(|dropper| dropper.is(cause, spread)),
        Some((dropper, count)) if drops.len() == 1 => {
            dropper.is(cause, spread) && (*count == 1 || sent.soon) && belongs(spread, sent, dropper)
        }
        _ => false,
    };
    let nothing = drops.is_empty() || spread.forgets;
    let back = |at: &str, frame: &[u8]| {
        at == sent.port && parse(at, frame).get(Field::Vlan) == parse(at, &sent.frame).get(Field::Vlan)
    };
    let right = match (&sent.expect, seen) {
        (Expect::Dropped(cause), []) => only(cause),
        (Expect::Delivered(to), [seen]) => nothing && came_out(spread, seen, to, &sent.frame),
        (Expect::Changed(to, frame), [seen]) => nothing && came_out(spread, seen, to, frame),
        (Expect::Reset(cause) | Expect::Unreachable(cause) | Expect::Told(cause, ..), [Seen::Refusal]) => only(cause),
        (Expect::Told(cause, fields, mtu), [Seen::Frame(at, frame)]) => {
            only(cause) && back(at, frame) && has(&parse(at, frame), fields) && mtu.is_none_or(|mtu| says(frame, mtu))
        }
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

/// Whether the switch that dropped a packet is the one whose part that was: nobody drops for another.
fn belongs(spread: &Spread, sent: &Sent, dropper: &Dropper) -> bool {
    let packet = parse(sent.port, &sent.frame);
    let here = dropper.switch == spread.switch_of(sent.port);
    // Whoever asks; of answers, the connection's ends are the other way round.
    let first = packet.value(Field::IpProto) == ip_proto::TCP && tcp_flags(&sent.frame) == SYN;
    match dropper.direction.as_deref() {
        Some("egress") if first => here,
        Some("ingress") if first => spread.switches_for(&packet).contains(&dropper.switch),
        _ => here || !AT_ONCE.iter().any(|rule| dropper.cause == format!("builtin/{rule}")),
    }
}

/// Whether it is this frame, out of this port; of a simulated switch, what of it the pipeline may change.
fn came_out(spread: &Spread, seen: &Seen, to: &str, frame: &[u8]) -> bool {
    match seen {
        Seen::Frame(at, found) => {
            // Links carry no outsider's Ethernet address, but one of the fabric's own: local, and nobody's group.
            let lost =
                spread.links() > 0 && frame[6..12] == EXT.mac && spread.switch_of(to) != spread.switch_of(EXT.port);
            let same = found.len() == frame.len() && found[..6] == frame[..6] && found[12..] == frame[12..];
            at == to && (found == frame || lost && same && found[6] & 0b11 == 0b10)
        }
        Seen::Packet(at, found) => {
            let wanted = parse(at, frame);
            let fields = [Field::EthSrc, Field::EthDst, Field::EthType, Field::Vlan];
            // Links carry no outsider's Ethernet address.
            let lost = wanted.get(Field::EthSrc) == Some(Mac(EXT.mac).to_bits().into()) && by_link(&found.in_port);
            let same = |field| found.get(field) == wanted.get(field) || (field == Field::EthSrc && lost);
            at == to && fields.into_iter().all(same)
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

/// Whether an ICMP error says that this would have passed (RFC 1191 §4, RFC 4443 §3.2).
fn says(frame: &[u8], mtu: u16) -> bool {
    let message = if frame[12..14] == [0x86, 0xdd] { &frame[14 + 40..] } else { &frame[14 + 20..] };
    message[6..8] == mtu.to_be_bytes()
}

/// The flags of a segment without options and data.
fn tcp_flags(frame: &[u8]) -> u8 {
    frame[frame.len() - 20 + 13]
}

fn is_reset(at: &str, frame: &[u8]) -> bool {
    parse(at, frame).value(Field::IpProto) == ip_proto::TCP && tcp_flags(frame) & 4 != 0
}

fn is_unreachable(at: &str, frame: &[u8]) -> bool {
    let packet = parse(at, frame);
    let unreachable = if packet.value(Field::IpProto) == ip_proto::ICMP { 3 } else { 1 };
    packet.get(Field::IcmpType) == Some(unreachable)
}
