//! Uplinks with VLANs: two networks with the same addresses on one port, beside the untagged one of all cases.

use crate::{
    case::{Case, EXT, Expect, SPARE},
    frames::{ACK, Host, SYN, Way, tagged},
};
use Expect::{Answered, Changed, Dropped, Reset, Unreachable};
use bulkhead_pipeline::Field;

/// A workload of the red network, on VLAN 7.
pub const RED: Host =
    Host { port: "red", mac: [2, 0, 0, 0, 0, 0x21], v4: [10, 9, 0, 0x21], v6: [0xfd00, 9, 0, 0, 0, 0, 0, 0x21] };
/// A workload of the blue network, on VLAN 9, with the very same addresses.
pub const BLUE: Host = Host { port: "blue", ..RED };
/// The uplink of all three networks.
const UPLINK: &str = "uplink0";
const RED_VLAN: u16 = 7;
const BLUE_VLAN: u16 = 9;

/// Red passes everything; blue nothing but TCP to port 80 from outside, and it rejects port 81 and UDP.
const NETWORKS: &str = r#"
kind: Network
metadata: {name: red}
spec:
  {vni: 5101, subnets: [10.9.0.0/16, "fd00:9::/64"], defaultAction: allow, uplinks: [{switch: hv1, port: uplink0, vlan: 7}]}
---
kind: Network
metadata: {name: blue}
spec: {vni: 5102, subnets: [10.9.0.0/16, "fd00:9::/64"], uplinks: [{switch: hv1, port: uplink0, vlan: 9}]}
---
kind: Workload
metadata: {name: red, labels: {app: red}}
spec:
  network: red
  interfaces: [{mac: "02:00:00:00:00:21", ips: [10.9.0.33, "fd00:9::21"], attachment: {switch: hv1, port: red}}]
---
kind: Workload
metadata: {name: blue, labels: {app: blue}}
spec:
  network: blue
  interfaces: [{mac: "02:00:00:00:00:21", ips: [10.9.0.33, "fd00:9::21"], attachment: {switch: hv1, port: blue}}]
---
kind: Policy
metadata: {name: blue}
spec:
  subject: {matchLabels: {app: blue}}
  ingress:
  - {action: allow, from: [{external: true}], ports: [{protocol: tcp, port: 80}]}
  - {action: reject, ports: [{protocol: tcp, port: 81}, {protocol: udp}]}
"#;

/// The frame on a VLAN.
fn on(vlan: u16, frame: &[u8]) -> Vec<u8> {
    tagged(frame, vlan)
}

/// The same by a service tag (IEEE 802.1ad).
fn service(vlan: u16, frame: &[u8]) -> Vec<u8> {
    let mut frame = tagged(frame, vlan);
    frame[12..14].copy_from_slice(&[0x88, 0xa8]);
    frame
}

impl Case {
    /// A frame from outside on a VLAN, which a workload gets without its tag.
    fn inbound(&mut self, vlan: u16, frame: &[u8], to: &Host) {
        self.send(UPLINK, on(vlan, frame), Changed(to.port, frame.to_vec()));
    }

    /// A workload's frame, which leaves with a tag.
    fn outbound(&mut self, from: &Host, frame: &[u8], vlan: u16) {
        self.send(from.port, frame.to_vec(), Changed(UPLINK, on(vlan, frame)));
    }
}

pub fn cases() -> Vec<Case> {
    vec![apart(), strays(), neighbours(), rejects(), errors(), fragments(), moves()]
}

fn apart() -> Case {
    let mut case = Case::new("two networks on one uplink port", &[NETWORKS]);
    for v6 in [false, true] {
        // The same frame but for its tag.
        let frame = EXT.to(&RED, v6).tcp(SYN, 41_000, 80);
        case.inbound(RED_VLAN, &frame, &RED);
        case.inbound(BLUE_VLAN, &frame, &BLUE);
        let answer = RED.to(&EXT, v6).tcp(SYN | ACK, 80, 41_000);
        case.outbound(&RED, &answer, RED_VLAN);
        case.outbound(&BLUE, &answer, BLUE_VLAN);
        // What one of them may, the other may not.
        let frame = EXT.to(&RED, v6).tcp(SYN, 41_001, 443);
        case.inbound(RED_VLAN, &frame, &RED);
        case.send(UPLINK, on(BLUE_VLAN, &frame), Dropped("blue/builtin/isolation"));
        let ask = RED.to(&EXT, v6).tcp(SYN, 41_002, 443);
        case.outbound(&RED, &ask, RED_VLAN);
        case.send(BLUE.port, ask, Dropped("builtin/default (blue)"));
        let answer = EXT.to(&RED, v6).tcp(SYN | ACK, 443, 41_002);
        case.inbound(RED_VLAN, &answer, &RED);
        case.send(UPLINK, on(BLUE_VLAN, &answer), Dropped("builtin/conntrack-invalid"));
        // Nor does an outsider speak as a workload.
        let spoofed = Way { from: RED.ip(v6), ..EXT.to(&RED, v6) }.tcp(SYN, 41_003, 80);
        case.send(UPLINK, on(RED_VLAN, &spoofed), Dropped("builtin/antispoof"));
    }
    case
}

fn strays() -> Case {
    let mut case = Case::new("tags where none belong", &[NETWORKS]);
    for v6 in [false, true] {
        let (inbound, outbound) = (EXT.to(&RED, v6).tcp(SYN, 41_010, 80), RED.to(&EXT, v6).tcp(SYN, 41_010, 80));
        // Nobody's VLAN; a tag without one; no tag at all, which is the network's of all cases.
        case.send(UPLINK, on(8, &inbound), Dropped("builtin/vlan"));
        case.send(UPLINK, on(0, &inbound), Dropped("builtin/vlan"));
        case.send(UPLINK, inbound.clone(), Dropped("builtin/transit"));
        // Two tags, of either kind, whatever they say.
        for vlan in [RED_VLAN, BLUE_VLAN] {
            case.send(UPLINK, on(RED_VLAN, &on(vlan, &inbound)), Dropped("builtin/vlan"));
            case.send(UPLINK, on(RED_VLAN, &service(vlan, &inbound)), Dropped("builtin/vlan"));
            case.send(UPLINK, service(RED_VLAN, &on(vlan, &inbound)), Dropped("builtin/vlan"));
        }
        for vlan in [0, RED_VLAN, BLUE_VLAN] {
            case.send(RED.port, on(vlan, &outbound), Dropped("builtin/vlan"));
        }
        case.send(RED.port, service(RED_VLAN, &outbound), Dropped("builtin/vlan"));
        case.send(RED.port, on(RED_VLAN, &on(RED_VLAN, &outbound)), Dropped("builtin/vlan"));
        // A priority is no other VLAN; it is not given on.
        let urgent = on(5 << 13 | RED_VLAN, &inbound);
        case.send(UPLINK, urgent, Changed(RED.port, inbound.clone()));
    }
    case.send(RED.port, on(RED_VLAN, &RED.to(&EXT, false).arp(RED.mac)), Dropped("builtin/vlan"));
    case
}

fn neighbours() -> Case {
    let mut case = Case::new("ARP and ND on VLANs", &[NETWORKS]);
    for (vlan, host) in [(RED_VLAN, RED), (BLUE_VLAN, BLUE)] {
        let tag = (Field::Vlan, 0x1000 | u128::from(vlan));
        let ask = EXT.to(&host, false).arp(EXT.mac);
        case.send(UPLINK, on(vlan, &ask), Answered(vec![(Field::ArpOp, 2), tag]));
        let ask = EXT.to(&host, true).solicit();
        case.send(UPLINK, on(vlan, &ask), Answered(vec![(Field::IcmpType, 136), tag]));
        // How a workload finds the gateway: the question leaves with the tag, the answer comes without.
        case.outbound(&host, &host.to(&EXT, false).arp(host.mac), vlan);
        case.outbound(&host, &host.to(&EXT, true).solicit(), vlan);
        let mut answer = EXT.to(&host, false).arp(EXT.mac);
        answer[..6].copy_from_slice(&host.mac);
        answer[21] = 2;
        case.inbound(vlan, &answer, &host);
        case.send(UPLINK, on(8, &answer), Dropped("builtin/vlan"));
        case.send(host.port, host.to(&host, false).arp(EXT.mac), Dropped("builtin/antispoof"));
    }
    case.send(UPLINK, EXT.to(&RED, false).arp(EXT.mac), Dropped("builtin/arp"));
    case
}

fn rejects() -> Case {
    let mut case = Case::new("refusals go back on their VLAN", &[NETWORKS]);
    for v6 in [false, true] {
        let way = EXT.to(&BLUE, v6);
        case.send(UPLINK, on(BLUE_VLAN, &way.tcp(SYN, 41_020, 81)), Reset("blue/ingress[1]"));
        case.send(UPLINK, on(BLUE_VLAN, &way.udp(41_020, 53)), Unreachable("blue/ingress[1]"));
    }
    case
}

fn errors() -> Case {
    let mut case = Case::new("ICMP errors on VLANs", &[NETWORKS]);
    for v6 in [false, true] {
        // Path MTU: fragmentation needed, packet too big.
        let (kind, code) = if v6 { (2, 0) } else { (3, 4) };
        let asked = RED.to(&EXT, v6).udp(41_030, 53);
        case.outbound(&RED, &asked, RED_VLAN);
        let error = EXT.to(&RED, v6).icmp_error(kind, code, &asked);
        case.inbound(RED_VLAN, &error, &RED);
        case.send(UPLINK, on(BLUE_VLAN, &error), Dropped("builtin/conntrack-invalid"));
        let asked = EXT.to(&RED, v6).udp(41_031, 53);
        case.inbound(RED_VLAN, &asked, &RED);
        case.outbound(&RED, &RED.to(&EXT, v6).icmp_error(kind, code, &asked), RED_VLAN);
    }
    case
}

fn fragments() -> Case {
    let mut case = Case::new("fragments on VLANs", &[NETWORKS]);
    for v6 in [false, true] {
        for frame in EXT.to(&RED, v6).udp_fragments(41_040, 53) {
            case.send(UPLINK, on(RED_VLAN, &frame), Dropped("builtin/fragment"));
        }
    }
    case
}

/// The red network leaves by these uplinks.
fn red(uplinks: &str) -> String {
    let head = "kind: Network\nmetadata: {name: red}\nspec:\n  vni: 5101\n  subnets: [10.9.0.0/16, \"fd00:9::/64\"]\n";
    format!("{head}  defaultAction: allow\n  uplinks: [{uplinks}]\n")
}

fn moves() -> Case {
    let mut case = Case::new("an uplink moves while a connection lives", &[NETWORKS]);
    let ways = [false, true].map(|v6| EXT.to(&RED, v6));
    // The same connection at each place: the tracker goes by the network.
    let speaks = |case: &mut Case, port: &'static str, vlan: u16| {
        for way in ways {
            let (ask, answer) = (way.tcp(ACK, 41_050, 80), way.back().tcp(ACK, 80, 41_050));
            case.send(port, on(vlan, &ask), Changed(RED.port, ask.clone()));
            case.send(RED.port, answer.clone(), Changed(port, on(vlan, &answer)));
        }
    };
    for way in ways {
        case.inbound(RED_VLAN, &way.tcp(SYN, 41_050, 80), &RED);
        case.outbound(&RED, &way.back().tcp(SYN | ACK, 80, 41_050), RED_VLAN);
    }
    case.apply(&red("{switch: hv1, port: uplink0, vlan: 11}"));
    speaks(&mut case, UPLINK, 11);
    case.send(UPLINK, on(RED_VLAN, &ways[0].tcp(ACK, 41_050, 80)), Dropped("builtin/vlan"));
    // By another port, while the old one still takes in; but not on another switch: each switch has one way out of a
    // network, and lets nobody in by the tunnel from another one.
    case.apply(&red("{switch: hv1, port: spare, vlan: 11}, {switch: hv1, port: uplink0, vlan: 11}"));
    speaks(&mut case, SPARE, 11);
    for way in ways {
        let frame = way.tcp(ACK, 41_050, 80);
        let there = [Changed(RED.port, frame.clone()), Dropped("builtin/locate")];
        case.send(UPLINK, on(11, &frame), Expect::Where([UPLINK, SPARE], Box::new(there)));
    }
    case.apply(&red("{switch: hv1, port: spare, vlan: 11}"));
    speaks(&mut case, SPARE, 11);
    case.send(UPLINK, on(11, &ways[1].tcp(ACK, 41_050, 80)), Dropped("builtin/vlan"));
    case
}
