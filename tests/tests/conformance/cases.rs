//! The list: policies, packets, and what has to become of them.

use crate::frames::{ACK, Host, SYN, Way};
use bulkhead_pipeline::Field;

pub const A: Host =
    Host { port: "a", mac: [2, 0, 0, 0, 0, 0x11], v4: [10, 1, 0, 0x11], v6: [0xfd00, 1, 0, 0, 0, 0, 0, 0x11] };
pub const B: Host =
    Host { port: "b", mac: [2, 0, 0, 0, 0, 0x12], v4: [10, 1, 0, 0x12], v6: [0xfd00, 1, 0, 0, 0, 0, 0, 0x12] };
pub const C: Host =
    Host { port: "c", mac: [2, 0, 0, 0, 0, 0x13], v4: [10, 1, 0, 0x13], v6: [0xfd00, 1, 0, 0, 0, 0, 0, 0x13] };
/// A host beyond the uplink.
pub const EXT: Host =
    Host { port: "uplink0", mac: [6, 0, 0, 0, 0, 7], v4: [198, 51, 100, 7], v6: [0x2001, 0xdb8, 0, 0, 0, 0, 0, 7] };
/// Another one.
pub const OTHER: Host = Host { v4: [198, 51, 100, 9], v6: [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9], ..EXT };
/// An address in the network's subnets that no workload has.
pub const NOBODY: Host = Host { v4: [10, 1, 0, 99], v6: [0xfd00, 1, 0, 0, 0, 0, 0, 0x99], ..EXT };

/// What every case has; the policies come on top.
pub const BASE: &str = r#"
kind: Network
metadata: {name: net}
spec: {vni: 5001, subnets: [10.1.0.0/16, "fd00:1::/64"], uplinks: [{switch: hv1, port: uplink0}]}
---
kind: Switch
metadata: {name: hv1}
spec: {driver: openflow, datapathId: "0xb1"}
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

/// What has to become of a packet.
#[derive(Debug, Clone)]
pub enum Expect {
    /// It comes out of this port as it went in, and of no other.
    Delivered(&'static str),
    /// It comes out of no port, and counts under this name.
    Dropped(&'static str),
    /// The same, and the sender gets a TCP reset.
    Reset(&'static str),
    /// The same, and the sender gets an ICMP error.
    Unreachable(&'static str),
    /// Only the sender gets an answer, with these fields.
    Answered(Vec<(Field, u128)>),
}

/// Frames, usually one, that go in at a port.
#[derive(Debug, Clone)]
pub struct Sent {
    pub port: &'static str,
    pub frames: Vec<Vec<u8>>,
    pub expect: Expect,
}

/// One state and packets that meet it, in order: a reply comes after what it answers.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: &'static str,
    pub policies: String,
    pub packets: Vec<Sent>,
}

impl Case {
    fn new(name: &'static str, policies: &[&str]) -> Self {
        Self { name, policies: policies.join("\n---\n"), packets: Vec::new() }
    }

    fn send(&mut self, port: &'static str, frame: Vec<u8>, expect: Expect) {
        self.packets.push(Sent { port, frames: vec![frame], expect });
    }

    /// The first packet of a TCP connection.
    fn syn(&mut self, from: Host, to: Host, port: u16, expect: Expect) {
        for v6 in [false, true] {
            self.send(from.port, from.to(&to, v6).tcp(SYN, 40_000, port), expect.clone());
        }
    }

    /// The answer to [`Self::syn`].
    fn syn_ack(&mut self, from: Host, to: Host, port: u16, expect: Expect) {
        for v6 in [false, true] {
            self.send(from.port, from.to(&to, v6).tcp(SYN | ACK, port, 40_000), expect.clone());
        }
    }
}

use Expect::{Answered, Delivered, Dropped, Reset, Unreachable};

/// Every workload may ask anyone.
const OUT: &str = "
kind: Policy
metadata: {name: out}
spec:
  tier: baseline
  subject: {matchExpressions: [{key: app, operator: Exists}]}
  egress: [{action: allow}]
";

/// A policy for what b receives; `rules` in one YAML list.
fn for_b(name: &str, head: &str, rules: &str) -> String {
    format!(
        "kind: Policy\nmetadata: {{name: {name}}}\nspec:\n  {head}\n  subject: {{matchLabels: {{app: b}}}}\n  ingress: [{rules}]\n"
    )
}

const FROM_A: &str = "from: [{matchLabels: {app: a}}]";

pub fn cases() -> Vec<Case> {
    let mut all = vec![default_deny(), allow(), deny(), reject(), pass(), ranges(), named(), protocols()];
    all.extend([icmp(), icmp_errors(), cidrs(), outbound(), neighbours(), spoofing(), fragments(), groups()]);
    all
}

fn default_deny() -> Case {
    let mut case =
        Case::new("default deny", &["kind: AddressSet\nmetadata: {name: none}\nspec: {cidrs: [203.0.113.0/24]}"]);
    case.syn(A, B, 80, Dropped("default of net"));
    case.syn(EXT, B, 80, Dropped("default of net"));
    case.syn(A, EXT, 80, Dropped("default of net"));
    case
}

fn allow() -> Case {
    let rule = format!("{{action: allow, {FROM_A}, ports: [{{protocol: tcp, port: 80}}]}}");
    let mut case = Case::new("allow and its replies", &[OUT, &for_b("web", "priority: 100", &rule)]);
    case.syn(A, B, 80, Delivered("b"));
    case.syn_ack(B, A, 80, Delivered("a"));
    case.syn(A, B, 81, Dropped("isolation by web"));
    case.syn(C, B, 80, Dropped("isolation by web"));
    case.syn_ack(B, C, 80, Dropped("default of net"));
    case.syn(B, A, 80, Dropped("default of net"));
    case
}

fn deny() -> Case {
    let stop = for_b("stop", "tier: emergency", &format!("{{action: deny, {FROM_A}}}"));
    let mut case = Case::new("deny in a stronger tier", &[OUT, &stop, &for_b("web", "priority: 1", "{action: allow}")]);
    case.syn(A, B, 80, Dropped("stop/ingress/0"));
    case.syn(C, B, 80, Delivered("b"));
    case.syn_ack(B, C, 80, Delivered("c"));
    case
}

fn reject() -> Case {
    let mut case = Case::new("reject", &[OUT, &for_b("no", "priority: 1", "{action: reject}")]);
    case.syn(A, B, 80, Reset("no/ingress/0"));
    for v6 in [false, true] {
        case.send(A.port, A.to(&B, v6).udp(40_001, 53), Unreachable("no/ingress/0"));
    }
    case
}

fn pass() -> Case {
    let skip = "{action: pass, ports: [{protocol: tcp, port: 80}]}";
    let first = for_b("first", "tier: platform\n  priority: 10", skip);
    let second = for_b("second", "tier: platform", "{action: deny, ports: [{protocol: tcp, port: 1, endPort: 100}]}");
    let web = for_b("web", "priority: 1", "{action: allow, ports: [{protocol: tcp}]}");
    let mut case = Case::new("pass leaves the tier", &[OUT, &first, &second, &web]);
    case.syn(A, B, 80, Delivered("b"));
    case.syn(A, B, 81, Dropped("second/ingress/0"));
    case.syn(A, B, 101, Delivered("b"));
    case
}

fn ranges() -> Case {
    let rule = "{action: allow, ports: [{protocol: tcp, port: 8079, endPort: 8083}]}";
    let mut case = Case::new("port ranges", &[OUT, &for_b("web", "priority: 1", rule)]);
    for port in [8079, 8080, 8083] {
        case.syn(A, B, port, Delivered("b"));
    }
    for port in [8078, 8084, 18_080] {
        case.syn(A, B, port, Dropped("isolation by web"));
    }
    case
}

fn named() -> Case {
    let rule = "{action: allow, ports: [{port: http}]}";
    let to_c = for_b("c-web", "priority: 1", rule).replace("app: b", "app: c");
    let mut case = Case::new("named ports", &[OUT, &for_b("web", "priority: 1", rule), &to_c]);
    case.syn(A, B, 8080, Delivered("b"));
    case.syn(A, B, 80, Dropped("isolation by web"));
    case.syn(A, C, 8080, Dropped("isolation by c-web"));
    case
}

fn protocols() -> Case {
    let ports = "[{protocol: udp, port: 53}, {protocol: sctp, port: 3868}]";
    let rules = format!("{{action: allow, ports: {ports}}}");
    let mut case = Case::new("UDP and SCTP", &[OUT, &for_b("some", "priority: 1", &rules)]);
    for v6 in [false, true] {
        let way = A.to(&B, v6);
        case.send("a", way.udp(40_002, 53), Delivered("b"));
        case.send("b", way.back().udp(53, 40_002), Delivered("a"));
        case.send("a", way.udp(40_002, 54), Dropped("isolation by some"));
        case.send("a", way.gre(), Dropped("isolation by some"));
        case.send("a", way.sctp(40_002, 3868), Delivered("b"));
        let other = C.to(&B, v6);
        case.send("c", other.sctp(40_002, 3869), Dropped("isolation by some"));
    }
    case.syn(A, B, 53, Dropped("isolation by some"));
    case
}

fn icmp() -> Case {
    let ports = "[{protocol: icmp, type: 8}, {protocol: icmpv6, type: 128}]";
    let mut case =
        Case::new("ICMP by type", &[OUT, &for_b("ping", "priority: 1", &format!("{{action: allow, ports: {ports}}}"))]);
    for (v6, echo, reply) in [(false, 8, 0), (true, 128, 129)] {
        let way = A.to(&B, v6);
        case.send("a", way.icmp(echo, 1), Delivered("b"));
        case.send("b", way.back().icmp(reply, 1), Delivered("a"));
        // The same identifier in the other direction is another question.
        case.send("b", way.back().icmp(echo, 1), Dropped("default of net"));
        case.send("c", C.to(&B, v6).icmp(echo, 3), Delivered("b"));
    }
    case.syn(A, B, 80, Dropped("isolation by ping"));
    case
}

fn icmp_errors() -> Case {
    let rule = format!("{{action: allow, {FROM_A}, ports: [{{protocol: udp, port: 53}}]}}");
    let mut case = Case::new("ICMP errors belong to connections", &[OUT, &for_b("dns", "priority: 1", &rule)]);
    for v6 in [false, true] {
        let way = A.to(&B, v6);
        // Path MTU: fragmentation needed, packet too big.
        let (kind, code) = if v6 { (2, 0) } else { (3, 4) };
        let (asked, unasked) = (way.udp(40_003, 53), C.to(&B, v6).udp(40_003, 53));
        case.send("a", asked.clone(), Delivered("b"));
        case.send("b", way.back().icmp_error(kind, code, &asked), Delivered("a"));
        // A router outside may tell of what goes there; nobody may tell of others' connections.
        let reply = way.back().udp(53, 40_003);
        case.send("uplink0", EXT.to(&B, v6).icmp_error(kind, code, &reply), Dropped("isolation by dns"));
        case.send("c", C.to(&A, v6).icmp_error(kind, code, &asked), Dropped("default of net"));
        if !v6 {
            case.send("b", way.back().icmp_error(5, 1, &asked), Dropped("default of net"));
        }
        let stray = B.to(&C, v6).icmp_error(kind, code, &unasked);
        case.send("b", stray, Dropped("builtin/conntrack-invalid"));
    }
    case
}

fn cidrs() -> Case {
    let cidrs = r#"cidrs: [198.51.100.0/24, 10.1.0.0/24, "2001:db8::/64", "fd00:1::/120"]"#;
    let except = r#"except: [198.51.100.9/32, 10.1.0.19/32, "2001:db8::9/128", "fd00:1::13/128"]"#;
    let set = format!("kind: AddressSet\nmetadata: {{name: some}}\nspec: {{{cidrs}, {except}}}");
    let rule = "{action: allow, from: [{addressSet: some}], ports: [{protocol: tcp, port: 80}]}";
    let mut case = Case::new("CIDR with except, into the fabric", &[&set, OUT, &for_b("web", "priority: 1", rule)]);
    case.syn(EXT, B, 80, Delivered("b"));
    case.syn_ack(B, EXT, 80, Delivered("uplink0"));
    case.syn(OTHER, B, 80, Dropped("isolation by web"));
    case.syn(EXT, B, 81, Dropped("isolation by web"));
    case.syn(A, B, 80, Delivered("b"));
    case.syn(C, B, 80, Dropped("isolation by web"));
    case
}

fn outbound() -> Case {
    let policy = "
kind: Policy
metadata: {name: outbound}
spec:
  subject: {matchLabels: {app: a}}
  egress:
  - {action: allow, to: [{external: true}], ports: [{protocol: tcp, port: 443}]}
  - {action: deny, to: [{cidr: 198.51.100.9/32}, {cidr: \"2001:db8::9/128\"}]}
";
    let mut case = Case::new("out of the fabric", &[policy]);
    case.syn(A, EXT, 443, Delivered("uplink0"));
    case.syn_ack(EXT, A, 443, Delivered("a"));
    // The address of a router on the way is none that a rule means.
    for (v6, kind, code) in [(false, 3, 4), (true, 2, 0)] {
        let asked = A.to(&EXT, v6).tcp(SYN, 40_000, 443);
        case.send("uplink0", OTHER.to(&A, v6).icmp_error(kind, code, &asked), Delivered("a"));
    }
    case.syn(A, OTHER, 443, Dropped("outbound/egress/1"));
    case.syn(A, EXT, 80, Dropped("isolation by outbound"));
    case.syn(A, B, 443, Dropped("isolation by outbound"));
    case
}

fn neighbours() -> Case {
    let mut case = Case::new("ARP and ND", &[OUT]);
    let mac = |mac: [u8; 6]| mac.iter().fold(0u128, |bits, octet| bits << 8 | u128::from(*octet));
    for asker in [A, EXT] {
        let way = asker.to(&B, false);
        let answer = vec![
            (Field::ArpOp, 2),
            (Field::ArpSha, mac(B.mac)),
            (Field::ArpSpa, u32::from_be_bytes(B.v4).into()),
            (Field::ArpTha, mac(asker.mac)),
            (Field::ArpTpa, u32::from_be_bytes(asker.v4).into()),
            (Field::EthDst, mac(asker.mac)),
            (Field::EthSrc, mac(B.mac)),
        ];
        case.send(asker.port, way.arp(asker.mac), Answered(answer));
        let target = std::net::Ipv6Addr::from(B.v6).to_bits();
        let answer = vec![
            (Field::IcmpType, 136),
            (Field::NdTarget, target),
            (Field::Ipv6Src, target),
            (Field::Ipv6Dst, std::net::Ipv6Addr::from(asker.v6).to_bits()),
            (Field::NdTll, mac(B.mac)),
            (Field::EthDst, mac(asker.mac)),
        ];
        let way = asker.to(&B, true);
        // Who asks without giving his link-layer address gets an answer without one.
        let bare = answer.iter().map(|(field, value)| (*field, if *field == Field::NdTll { 0 } else { *value }));
        // Nothing that is dropped may take what follows with it.
        case.send(asker.port, way.solicit_with(1, &[]), Dropped("builtin/nd"));
        case.send(asker.port, way.solicit_with(0, &[]), Answered(bare.collect()));
        case.send(asker.port, way.solicit(), Answered(answer));
    }
    // A lie that the switch would not set right does not get there.
    let lie = |kind| [&[kind, 1], &C.mac[..]].concat();
    for options in [[lie(1), lie(1)].concat(), lie(2)] {
        case.send("a", A.to(&EXT, true).solicit_with(0, &options), Dropped("builtin/nd"));
    }
    // Who is no workload is asked for at the uplink, and nowhere else.
    for unknown in [EXT, NOBODY] {
        case.send("a", A.to(&unknown, false).arp(A.mac), Delivered("uplink0"));
        case.send("a", A.to(&unknown, true).solicit(), Delivered("uplink0"));
    }
    case.send("uplink0", EXT.to(&NOBODY, false).arp(EXT.mac), Dropped("builtin/arp"));
    case.send("uplink0", EXT.to(&NOBODY, true).solicit(), Dropped("builtin/nd"));
    case
}

fn spoofing() -> Case {
    let any = for_b("any", "priority: 1", "{action: allow}");
    let mut case = Case::new("nobody else's addresses", &[OUT, &any]);
    for v6 in [false, true] {
        let own = A.to(&B, v6);
        case.send("a", own.tcp(SYN, 40_004, 80), Delivered("b"));
        let mac = Way { macs: [C.mac, B.mac], ..own };
        case.send("a", mac.tcp(SYN, 40_005, 80), Dropped("builtin/antispoof"));
        let address = Way { from: C.ip(v6), ..own };
        case.send("a", address.tcp(SYN, 40_006, 80), Dropped("builtin/antispoof"));
        let outsider = Way { from: EXT.ip(v6), ..own };
        case.send("a", outsider.tcp(SYN, 40_007, 80), Dropped("builtin/antispoof"));
        // Nor does anyone outside have a workload's.
        case.send(
            "uplink0",
            Way { from: C.ip(v6), ..EXT.to(&B, v6) }.tcp(SYN, 40_008, 80),
            Dropped("builtin/antispoof"),
        );
    }
    let ask = A.to(&B, false);
    case.send("a", Way { from: C.ip(false), ..ask }.arp(A.mac), Dropped("builtin/antispoof"));
    case.send("a", ask.arp(C.mac), Dropped("builtin/antispoof"));
    case.send("uplink0", Way { from: C.ip(false), ..EXT.to(&B, false) }.arp(EXT.mac), Dropped("builtin/antispoof"));
    let solicit = Way { from: C.ip(true), ..A.to(&B, true) };
    case.send("a", solicit.solicit(), Dropped("builtin/antispoof"));
    case
}

fn fragments() -> Case {
    let rule = format!("{{action: allow, {FROM_A}, ports: [{{protocol: udp, port: 53}}]}}");
    let mut case = Case::new("fragments go nowhere", &[OUT, &for_b("dns", "priority: 1", &rule)]);
    for v6 in [false, true] {
        for fragment in A.to(&B, v6).udp_fragments(40_009, 53) {
            case.send("a", fragment, Dropped("builtin/fragment"));
        }
    }
    case
}

fn groups() -> Case {
    let mut case = Case::new("multicast goes nowhere", &[OUT]);
    let group = |ip: &str, mac| Way { macs: [A.mac, mac], from: A.ip(ip.contains(':')), to: ip.parse().unwrap() };
    let v4 = group("224.0.0.251", [1, 0, 0x5e, 0, 0, 0xfb]);
    case.send("a", v4.udp(40_010, 5353), Dropped("builtin/multicast"));
    case.send("a", group("10.1.255.255", [0xff; 6]).udp(40_010, 137), Dropped("builtin/multicast"));
    let v6 = group("ff02::fb", [0x33, 0x33, 0, 0, 0, 0xfb]);
    case.send("a", v6.udp(40_010, 5353), Dropped("builtin/multicast"));
    case
}
