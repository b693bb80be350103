//! What a case is: documents, packets that meet them, and changes in between; and short words to write one in.

use crate::frames::{ACK, Host, SYN, Way};
use bulkhead_pipeline::Field;

pub const A: Host =
    Host { port: "a", mac: [2, 0, 0, 0, 0, 0x11], v4: [10, 1, 0, 0x11], v6: [0xfd00, 1, 0, 0, 0, 0, 0, 0x11] };
pub const B: Host =
    Host { port: "b", mac: [2, 0, 0, 0, 0, 0x12], v4: [10, 1, 0, 0x12], v6: [0xfd00, 1, 0, 0, 0, 0, 0, 0x12] };
pub const C: Host =
    Host { port: "c", mac: [2, 0, 0, 0, 0, 0x13], v4: [10, 1, 0, 0x13], v6: [0xfd00, 1, 0, 0, 0, 0, 0, 0x13] };
/// A port where nobody is plugged in at first.
pub const SPARE: &str = "spare";
/// Whoever is to come to [`SPARE`].
pub const VACANT: Host = Host { port: SPARE, mac: [2, 0, 0, 0, 0, 0xff], ..EXT };
/// A host beyond the uplink.
pub const EXT: Host =
    Host { port: "uplink0", mac: [6, 0, 0, 0, 0, 7], v4: [198, 51, 100, 7], v6: [0x2001, 0xdb8, 0, 0, 0, 0, 0, 7] };
/// Another one.
pub const OTHER: Host = Host { v4: [198, 51, 100, 9], v6: [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9], ..EXT };
/// An address in the network's subnets that no workload has.
pub const NOBODY: Host = Host { v4: [10, 1, 0, 99], v6: [0xfd00, 1, 0, 0, 0, 0, 0, 0x99], ..EXT };

/// What every case has; its own documents and the dataplane's switches come on top. `NETWORK` is what the case
/// puts there.
pub const BASE: &str = r#"
kind: Network
metadata: {name: net}
spec:
  vni: 5001
  subnets: [10.1.0.0/16, "fd00:1::/64"]
  NETWORK
---
kind: Workload
metadata: {name: a, labels: {app: a}}
spec:
  network: net
  interfaces: [{mac: "02:00:00:00:00:11", ips: [10.1.0.17, "fd00:1::11"], attachment: {switch: hv1, port: a}}]
---
kind: Workload
metadata: {name: b, labels: {app: b}}
spec:
  network: net
  interfaces: [{mac: "02:00:00:00:00:12", ips: [10.1.0.18, "fd00:1::12"], attachment: {switch: hv1, port: b}}]
  namedPorts: {http: 8080/tcp}
---
kind: Workload
metadata: {name: c, labels: {app: c}}
spec:
  network: net
  interfaces: [{mac: "02:00:00:00:00:13", ips: [10.1.0.19, "fd00:1::13"], attachment: {switch: hv1, port: c}}]
"#;

/// Every workload may ask anyone.
pub const OUT: &str = "
kind: Policy
metadata: {name: out}
spec:
  tier: baseline
  subject: {matchExpressions: [{key: app, operator: Exists}]}
  egress: [{action: allow}]
";

/// The default of the cases' network.
pub const DEFAULT: &str = "builtin/default (net)";
/// Rules are for who is called a.
pub const FROM_A: &str = "from: [{matchLabels: {app: a}}]";

/// A policy for what a workload receives; `rules` in one YAML list.
pub fn for_app(app: &str, name: &str, head: &str, rules: &str) -> String {
    format!(
        "kind: Policy\nmetadata: {{name: {name}}}\nspec:\n  {head}\n  subject: {{matchLabels: {{app: {app}}}}}\n  ingress: [{rules}]\n"
    )
}

/// The same for b.
pub fn for_b(name: &str, head: &str, rules: &str) -> String {
    for_app("b", name, head, rules)
}

/// The uplink of the cases' network, in most of them.
pub const UPLINK: &str = "uplinks: [{switch: hv1, port: uplink0}]";

/// What has to become of a packet. Causes are in the words of `bulkhead describe`.
#[derive(Debug, Clone)]
pub enum Expect {
    /// It comes out of this port as it went in, and of no other.
    Delivered(&'static str),
    /// This frame comes out of this port, and nothing else of any.
    Changed(&'static str, Vec<u8>),
    /// It comes out of no port, and counts under this name.
    Dropped(&'static str),
    /// The same, and the sender gets a TCP reset.
    Reset(&'static str),
    /// The same, and the sender gets an ICMP error.
    Unreachable(&'static str),
    /// The same, with these fields, and the longest IP packet that it says would have passed.
    Told(&'static str, Vec<(Field, u128)>, Option<u16>),
    /// Only the sender gets an answer, with these fields.
    Answered(Vec<(Field, u128)>),
    /// The first where these two ports are on one switch, the second elsewhere.
    Where([&'static str; 2], Box<[Expect; 2]>),
}

impl Expect {
    /// An ICMP error about a connection between two ports that others have nothing to do with: where one of those is on
    /// the sender's switch, that one knows the connection and counts the error under `cause`. Another switch has never
    /// seen it.
    pub fn stranger(sender: &'static str, [one, other]: [&'static str; 2], cause: &'static str) -> Self {
        let unknown = Dropped("builtin/conntrack-invalid");
        let other = Self::Where([sender, other], Box::new([Dropped(cause), unknown]));
        Self::Where([sender, one], Box::new([Dropped(cause), other]))
    }
}

/// A frame that goes in at a port.
#[derive(Debug, Clone)]
pub struct Sent {
    pub port: &'static str,
    pub frame: Vec<u8>,
    pub expect: Expect,
    /// It has to be so within a second of the last change; else at once.
    pub soon: bool,
}

/// What happens in a case.
#[derive(Debug, Clone)]
pub enum Step {
    Send(Sent),
    /// Documents that are applied.
    Apply(String),
    /// A resource that is removed: kind and name.
    Delete(&'static str, &'static str),
}

/// Documents, and what happens then, in order: a reply comes after what it answers.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub documents: String,
    /// What the network has beside the rest.
    pub network: String,
    pub steps: Vec<Step>,
    /// Whether what is sent next may take a second to be as it should.
    soon: bool,
    /// The next connection's source port.
    source: u16,
}

/// A TCP connection in both families.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    from: Host,
    to: Host,
    source: u16,
    port: u16,
}

use Expect::{Delivered, Dropped};

const FAMILIES: [bool; 2] = [false, true];

impl Case {
    pub fn new(name: impl Into<String>, documents: &[&str]) -> Self {
        let documents = documents.join("\n---\n");
        Self { name: name.into(), documents, network: UPLINK.into(), steps: Vec::new(), soon: false, source: 41_000 }
    }

    pub fn send(&mut self, port: &'static str, frame: Vec<u8>, expect: Expect) {
        self.steps.push(Step::Send(Sent { port, frame, expect, soon: self.soon }));
    }

    /// From here on packets have a second to be treated as the documents now say.
    pub fn apply(&mut self, documents: &str) {
        self.steps.push(Step::Apply(documents.into()));
        self.soon = true;
    }

    pub fn delete(&mut self, kind: &'static str, name: &'static str) {
        self.steps.push(Step::Delete(kind, name));
        self.soon = true;
    }

    /// The first packet of a TCP connection.
    pub fn syn(&mut self, from: Host, to: Host, port: u16, expect: Expect) {
        for v6 in FAMILIES {
            self.send(from.port, from.to(&to, v6).tcp(SYN, 40_000, port), expect.clone());
        }
    }

    /// The answer to [`Self::syn`].
    pub fn syn_ack(&mut self, from: Host, to: Host, port: u16, expect: Expect) {
        for v6 in FAMILIES {
            self.send(from.port, from.to(&to, v6).tcp(SYN | ACK, port, 40_000), expect.clone());
        }
    }

    /// A connection that comes about.
    pub fn open(&mut self, from: Host, to: Host, port: u16) -> Connection {
        let connection = Connection { from, to, source: self.source, port };
        self.source += 1;
        for way in connection.ways() {
            self.send(from.port, way.tcp(SYN, connection.source, port), Delivered(to.port));
            self.send(to.port, way.back().tcp(SYN | ACK, port, connection.source), Delivered(from.port));
            self.send(from.port, way.tcp(ACK, connection.source, port), Delivered(to.port));
        }
        connection
    }

    /// A connection that never notices a change: its packets pass at once, both ways.
    pub fn lives(&mut self, connection: Connection) {
        let soon = std::mem::replace(&mut self.soon, false);
        self.passes(connection);
        self.soon = soon;
    }

    /// A connection that passes, both ways.
    pub fn passes(&mut self, connection: Connection) {
        self.speaks(connection, Delivered);
    }

    /// A connection that is dead both ways, because of `cause`.
    pub fn cut(&mut self, connection: Connection, cause: &'static str) {
        self.speaks(connection, |_| Dropped(cause));
    }

    /// Its answers are dead; who asked is not there any more.
    pub fn answers_cut(&mut self, connection: Connection, cause: &'static str) {
        let Connection { to, source, port, .. } = connection;
        for way in connection.ways() {
            self.send(to.port, way.back().tcp(ACK, port, source), Dropped(cause));
        }
    }

    fn speaks(&mut self, connection: Connection, expect: impl Fn(&'static str) -> Expect) {
        let Connection { from, to, source, port } = connection;
        for way in connection.ways() {
            self.send(from.port, way.tcp(ACK, source, port), expect(to.port));
            self.send(to.port, way.back().tcp(ACK, port, source), expect(from.port));
        }
    }

    /// The first packet of another connection, which does not come about.
    pub fn refused(&mut self, from: Host, to: Host, port: u16, cause: &'static str) {
        self.source += 1;
        for v6 in FAMILIES {
            self.send(from.port, from.to(&to, v6).tcp(SYN, self.source, port), Dropped(cause));
        }
    }
}

impl Connection {
    fn ways(self) -> [Way; 2] {
        FAMILIES.map(|v6| self.from.to(&self.to, v6))
    }

    /// The same connection after an end of it was plugged in elsewhere.
    pub fn with(self, from: Host, to: Host) -> Self {
        Self { from, to, ..self }
    }
}
