//! The list: subnets that gateways route between, and what gateways themselves say.

use crate::{
    case::{
        Case, EXT,
        Expect::{Answered, Changed, Dropped, Told},
    },
    frames::{ACK, Host, SYN, Way, routed as onward, with_ttl},
};
use bulkhead_pipeline::{Field, overlay};
use std::net::{IpAddr, Ipv6Addr};

/// In one subnet, and in the other one.
const LEFT: Host =
    Host { port: "red", mac: [2, 0, 0, 0, 0, 0x31], v4: [10, 8, 1, 0x31], v6: [0xfd00, 0x81, 0, 0, 0, 0, 0, 0x31] };
const RIGHT: Host =
    Host { port: "blue", mac: [2, 0, 0, 0, 0, 0x32], v4: [10, 8, 2, 0x32], v6: [0xfd00, 0x82, 0, 0, 0, 0, 0, 0x32] };
/// The gateways of both.
const NEAR: Host =
    Host { port: "", mac: overlay::GATEWAY_MAC.0, v4: [10, 8, 1, 1], v6: [0xfd00, 0x81, 0, 0, 0, 0, 0, 1] };
const FAR: Host = Host { v4: [10, 8, 2, 1], v6: [0xfd00, 0x82, 0, 0, 0, 0, 0, 1], ..NEAR };

/// The right one serves web and pings to anybody in its network.
const NETWORK: &str = r#"
kind: Network
metadata: {name: routed}
spec:
  vni: 5201
  subnets: [10.8.1.0/24, 10.8.2.0/24, "fd00:81::/64", "fd00:82::/64"]
  gateways: [10.8.1.1, 10.8.2.1, "fd00:81::1", "fd00:82::1"]
  uplinks: [{switch: hv1, port: uplink0, vlan: 13}]
---
kind: Workload
metadata: {name: red, labels: {app: left}}
spec:
  network: routed
  interfaces: [{mac: "02:00:00:00:00:31", ips: [10.8.1.49, "fd00:81::31"], attachment: {switch: hv1, port: red}}]
---
kind: Workload
metadata: {name: blue, labels: {app: right}}
spec:
  network: routed
  interfaces: [{mac: "02:00:00:00:00:32", ips: [10.8.2.50, "fd00:82::32"], attachment: {switch: hv1, port: blue}}]
---
kind: Policy
metadata: {name: right}
spec:
  subject: {matchLabels: {app: right}}
  ingress: [{action: allow, from: [{matchLabels: {app: left}}], ports: [{protocol: tcp, port: 80}]}]
---
kind: Policy
metadata: {name: left}
spec:
  subject: {matchLabels: {app: left}}
  egress: [{action: allow}]
"#;

pub fn cases() -> Vec<Case> {
    vec![routed(), ends(), gateways()]
}

/// The same packet to the gateway's Ethernet address.
fn through(way: Way) -> Way {
    Way { macs: [way.macs[0], NEAR.mac], ..way }
}

/// What a gateway makes of a packet for this host.
fn forwarded(frame: &[u8], to: &Host) -> Vec<u8> {
    onward(frame, [NEAR.mac, to.mac])
}

fn routed() -> Case {
    let mut case = Case::new("a gateway routes between subnets", &[NETWORK]);
    for v6 in [false, true] {
        let way = LEFT.to(&RIGHT, v6);
        let ask = through(way).tcp(SYN, 41_060, 80);
        case.send(LEFT.port, ask.clone(), Changed(RIGHT.port, forwarded(&ask, &RIGHT)));
        let answer = through(way.back()).tcp(SYN | ACK, 80, 41_060);
        case.send(RIGHT.port, answer.clone(), Changed(LEFT.port, forwarded(&answer, &LEFT)));
        // Policy goes by who they are, not by the way.
        case.send(LEFT.port, through(way).tcp(SYN, 41_061, 81), Dropped("right/builtin/isolation"));
        case.send(RIGHT.port, through(way.back()).tcp(SYN, 41_062, 80), Dropped("builtin/default (routed)"));
        // An error about a packet finds its way back by the gateway.
        let about = forwarded(&ask, &RIGHT);
        let error = through(way.back()).icmp_error(if v6 { 1 } else { 3 }, if v6 { 4 } else { 3 }, &about);
        case.send(RIGHT.port, error.clone(), Changed(LEFT.port, forwarded(&error, &LEFT)));
        // Between a gateway and the outside there is no way, and who asks is told.
        let told = from_gateway(&NEAR, &LEFT, v6, if v6 { 1 } else { 3 });
        case.send(LEFT.port, through(LEFT.to(&EXT, v6)).tcp(SYN, 41_063, 80), Told("builtin/no-route", told, None));
    }
    case
}

/// An address as a field's value.
fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mac(mac: [u8; 6]) -> u128 {
    mac.iter().fold(0, |bits, octet| bits << 8 | u128::from(*octet))
}

/// What somebody gets from a gateway: an ICMP message of this type.
fn from_gateway(gateway: &Host, to: &Host, v6: bool, kind: u128) -> Vec<(Field, u128)> {
    let [source, destination] = if v6 { [Field::Ipv6Src, Field::Ipv6Dst] } else { [Field::Ipv4Src, Field::Ipv4Dst] };
    vec![
        (Field::EthSrc, mac(NEAR.mac)),
        (Field::EthDst, mac(to.mac)),
        (source, bits(gateway.ip(v6))),
        (destination, bits(to.ip(v6))),
        (Field::IcmpType, kind),
    ]
}

fn ends() -> Case {
    let mut case = Case::new("a TTL that ends at a gateway", &[NETWORK]);
    for v6 in [false, true] {
        let way = through(LEFT.to(&RIGHT, v6));
        // As traceroute asks, by TCP, UDP and ping; it need not be allowed.
        let echo = if v6 { 128 } else { 8 };
        for frame in [way.tcp(SYN, 41_070, 80), way.udp(41_070, 33_434), way.icmp(echo, 7)] {
            let told = from_gateway(&NEAR, &LEFT, v6, if v6 { 3 } else { 11 });
            for ttl in [0, 1] {
                case.send(LEFT.port, with_ttl(&frame, ttl), Told("builtin/ttl", told.clone(), None));
            }
        }
        let last = with_ttl(&way.tcp(SYN, 41_071, 80), 2);
        case.send(LEFT.port, last.clone(), Changed(RIGHT.port, forwarded(&last, &RIGHT)));
    }
    case
}

fn gateways() -> Case {
    let mut case = Case::new("gateways answer for themselves", &[NETWORK]);
    for (host, gateway) in [(LEFT, NEAR), (LEFT, FAR), (RIGHT, FAR)] {
        let answer = vec![
            (Field::ArpOp, 2),
            (Field::ArpSha, mac(NEAR.mac)),
            (Field::ArpSpa, bits(gateway.ip(false))),
            (Field::EthDst, mac(host.mac)),
        ];
        case.send(host.port, host.to(&gateway, false).arp(host.mac), Answered(answer));
        let target = Ipv6Addr::from(gateway.v6).to_bits();
        let answer = vec![(Field::IcmpType, 136), (Field::NdTarget, target), (Field::NdTll, mac(NEAR.mac))];
        case.send(host.port, host.to(&gateway, true).solicit(), Answered(answer));
        for v6 in [false, true] {
            let (echo, reply) = if v6 { (128, 129) } else { (8, 0) };
            let way = host.to(&gateway, v6);
            for ttl in [64, 1] {
                let answer = from_gateway(&gateway, &host, v6, reply);
                case.send(host.port, with_ttl(&way.icmp(echo, 9), ttl), Answered(answer));
            }
            // And are nobody else.
            case.send(host.port, way.tcp(SYN, 41_080, 22), Dropped("builtin/gateway"));
            let spoofed = Way { from: gateway.ip(v6), ..host.to(&LEFT, v6) };
            case.send(host.port, spoofed.udp(41_080, 53), Dropped("builtin/antispoof"));
        }
    }
    case
}
