//! The list: what is built in, and what has to become of packets.

use crate::case::{
    A, B, C, Case, DEFAULT, EXT,
    Expect::{self, Answered, Delivered, Dropped},
    FROM_A, NOBODY, OTHER, OUT, for_b,
};
use crate::frames::{SOURCE, SYN, TARGET, Way, lldp, tagged};
use bulkhead_pipeline::Field;
use std::net::{IpAddr, Ipv6Addr};

const UNSPECIFIED: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const BROADCAST: [u8; 6] = [0xff; 6];
/// All DHCPv6 servers (RFC 8415 §7.1), and their Ethernet address.
const SERVERS: (IpAddr, [u8; 6]) = (IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2)), [0x33, 0x33, 0, 1, 0, 2]);

pub fn cases() -> Vec<Case> {
    vec![neighbours(), spoofing(), dhcp(), icmp_errors(), fragments(), groups(), neither(), unattached(), no_uplink()]
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
    // Who is no workload is asked for at the uplink, and nowhere else.
    for unknown in [EXT, NOBODY] {
        case.send("a", A.to(&unknown, false).arp(A.mac), Delivered("uplink0"));
        case.send("a", A.to(&unknown, true).solicit(), Delivered("uplink0"));
    }
    case.send("uplink0", EXT.to(&NOBODY, false).arp(EXT.mac), Dropped("builtin/arp"));
    case.send("uplink0", EXT.to(&NOBODY, true).solicit(), Dropped("builtin/nd"));
    // Nothing that a workload announces is believed, or heard by others: of itself,
    case.send("a", A.to(&A, false).arp(A.mac), Dropped("builtin/arp"));
    case.send("a", A.to(&B, false).arp_reply(A.mac), Dropped("builtin/arp"));
    case.send("a", A.to(&B, true).advertise(A.ip(true), A.mac), Dropped("builtin/nd"));
    // of others,
    case.send("a", A.to(&B, true).advertise(C.ip(true), A.mac), Dropped("builtin/nd"));
    // that it is a router,
    case.send("a", A.to(&B, true).router(134), Dropped("builtin/nd"));
    case.send("a", A.to(&B, true).router(137), Dropped("builtin/nd"));
    // or would like an address.
    case.send("a", Way { from: [0; 4].into(), ..A.to(&B, false) }.arp(A.mac), Dropped("builtin/arp"));
    case.send("a", Way { from: UNSPECIFIED, ..A.to(&B, true) }.solicit_with(0, &[]), Dropped("builtin/nd"));
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
    case.send("a", Way { from: C.ip(false), ..ask }.arp_reply(A.mac), Dropped("builtin/antispoof"));
    let ask = A.to(&B, true);
    case.send("a", Way { from: C.ip(true), ..ask }.solicit(), Dropped("builtin/antispoof"));
    case.send("a", Way { macs: [C.mac, B.mac], ..ask }.solicit(), Dropped("builtin/antispoof"));
    case.send("a", ask.solicit_with(0, &[(SOURCE, C.mac)]), Dropped("builtin/antispoof"));
    case.send(
        "a",
        Way { from: A.link_local(), ..ask }.solicit_with(0, &[(SOURCE, C.mac)]),
        Dropped("builtin/antispoof"),
    );
    case.send("a", Way { from: UNSPECIFIED, ..ask }.solicit_with(0, &[(SOURCE, A.mac)]), Dropped("builtin/antispoof"));
    case.send("a", Way { from: C.ip(true), ..ask }.advertise(C.ip(true), A.mac), Dropped("builtin/antispoof"));
    // Two options are one too many (RFC 4861 §4.3), wherever the true one is.
    for [first, second] in [[A.mac, C.mac], [C.mac, A.mac]] {
        let options = [(SOURCE, first), (SOURCE, second)];
        case.send("a", ask.solicit_with(0, &options), Dropped("builtin/nd"));
        case.send("a", A.to(&NOBODY, true).solicit_with(0, &options), Dropped("builtin/nd"));
    }
    // Nor is the target's option of any use in a question.
    case.send("a", ask.solicit_with(0, &[(TARGET, C.mac)]), Dropped("builtin/nd"));
    let outside = EXT.to(&B, true);
    case.send("uplink0", outside.advertise(C.ip(true), EXT.mac), Dropped("builtin/antispoof"));
    case.send("uplink0", Way { from: C.ip(true), ..outside }.solicit(), Dropped("builtin/antispoof"));
    case
}

fn dhcp() -> Case {
    // Not even they whom a policy lets say anything are servers.
    let any = for_b("any", "priority: 1", "{action: allow}");
    let mut case = Case::new("DHCP is between a workload and the uplink", &[OUT, &any]);
    for v6 in [false, true] {
        let (client, server) = if v6 { (546, 547) } else { (68, 67) };
        let (all, mac) = if v6 { SERVERS } else { ([255; 4].into(), BROADCAST) };
        let own = if v6 { A.link_local() } else { [0; 4].into() };
        let ask = Way { macs: [A.mac, mac], from: own, to: all };
        case.send("a", ask.udp(client, server), Delivered("uplink0"));
        case.send("a", Way { macs: [C.mac, mac], ..ask }.udp(client, server), Dropped("builtin/antispoof"));
        case.send("a", Way { from: C.ip(v6), ..ask }.udp(client, server), Dropped("builtin/antispoof"));
        // Nothing else is let out without an own address.
        case.send("a", ask.udp(client, 53), Dropped("builtin/antispoof"));
        case.send("a", ask.udp(server, client), Dropped("builtin/antispoof"));
        // To all servers and to nobody else, in the frame and in the packet.
        case.send("a", Way { to: EXT.ip(v6), ..ask }.udp(client, server), Dropped("builtin/antispoof"));
        let renews = Way { from: A.ip(v6), ..ask };
        case.send("a", renews.udp(client, server), Delivered("uplink0"));
        case.send("a", Way { to: EXT.ip(v6), ..renews }.udp(client, server), Dropped("builtin/dhcp"));
        let answer = Way { to: own, ..EXT.to(&A, v6) };
        case.send("uplink0", EXT.to(&A, v6).udp(server, client), Delivered("a"));
        // To all is to nobody: a server has to answer who asked.
        let group = if v6 { "ff02::1" } else { "255.255.255.255" };
        let to_all = Way { macs: [EXT.mac, BROADCAST], to: group.parse().unwrap(), ..answer };
        case.send("uplink0", to_all.udp(server, client), Dropped("builtin/multicast"));
        // A rogue server.
        case.send("a", A.to(&B, v6).udp(server, client), Dropped("builtin/dhcp"));
        let offer = Way { macs: [A.mac, BROADCAST], from: A.ip(v6), to: group.parse().unwrap() };
        case.send("a", offer.udp(server, client), Dropped("builtin/dhcp"));
        case.send("a", A.to(&B, v6).udp(server, 53), Delivered("b"));
        // Nor is one outside asked by who is outside.
        case.send(
            "uplink0",
            Way { macs: [EXT.mac, mac], to: all, ..answer }.udp(client, server),
            Dropped("builtin/dhcp"),
        );
    }
    // What is offered before it is taken.
    let offered = Way { to: [255; 4].into(), ..EXT.to(&A, false) };
    case.send("uplink0", offered.udp(67, 68), Delivered("a"));
    case
}

fn icmp_errors() -> Case {
    let asks = r#"
kind: Policy
metadata: {name: asks}
spec:
  subject: {matchLabels: {app: a}}
  egress:
  - action: allow
    to: [{matchLabels: {app: b}}, {cidr: 198.51.100.7/32}, {cidr: "2001:db8::7/128"}]
    ports: [{protocol: udp, port: 53}]
"#;
    let rule = format!("{{action: allow, {FROM_A}, ports: [{{protocol: udp, port: 53}}]}}");
    let mut case = Case::new("ICMP errors belong to connections", &[asks, &for_b("dns", "priority: 1", &rule)]);
    for v6 in [false, true] {
        // Path MTU: fragmentation needed, packet too big; and port unreachable.
        for (nth, (kind, code)) in
            [if v6 { (2, 0) } else { (3, 4) }, if v6 { (1, 4) } else { (3, 3) }].into_iter().enumerate()
        {
            let source = 40_003 + nth as u16;
            let (inside, outside) = (A.to(&B, v6), A.to(&EXT, v6));
            let (asked, asked_outside) = (inside.udp(source, 53), outside.udp(source, 53));
            case.send("a", asked.clone(), Delivered("b"));
            case.send("b", inside.back().icmp_error(kind, code, &asked), Delivered("a"));
            case.send("a", asked_outside.clone(), Delivered("uplink0"));
            case.send("uplink0", outside.back().icmp_error(kind, code, &asked_outside), Delivered("a"));
            // A router on the way may say so too.
            case.send("uplink0", OTHER.to(&A, v6).icmp_error(kind, code, &asked_outside), Delivered("a"));
            // About the answer, by who asked.
            let answer = inside.back().udp(53, source);
            case.send("b", answer.clone(), Delivered("a"));
            case.send("a", inside.icmp_error(kind, code, &answer), Delivered("b"));
            // About what nobody sent.
            let unasked = C.to(&B, v6).udp(source, 53);
            case.send("b", B.to(&C, v6).icmp_error(kind, code, &unasked), Dropped("builtin/conntrack-invalid"));
            case.send(
                "uplink0",
                OTHER.to(&C, v6).icmp_error(kind, code, &unasked),
                Dropped("builtin/conntrack-invalid"),
            );
            // About a connection of others: no workload is on their way, nor is anyone outside of two inside.
            for stranger in [C, OTHER] {
                // What comes from outside is judged where it is for, and there the connection is known.
                let expect = match stranger.port == OTHER.port {
                    true => Dropped("asks/builtin/isolation"),
                    false => Expect::stranger(stranger.port, [A.port, B.port], "asks/builtin/isolation"),
                };
                case.send(stranger.port, stranger.to(&A, v6).icmp_error(kind, code, &asked), expect);
            }
            // To somebody else than who sent it.
            case.send("b", B.to(&C, v6).icmp_error(kind, code, &asked), Dropped("builtin/conntrack-invalid"));
        }
        // A redirect is no error, and nobody's right.
        let asked = A.to(&B, v6).udp(40_003, 53);
        let redirect = if v6 { B.to(&A, v6).router(137) } else { B.to(&A, v6).icmp_error(5, 1, &asked) };
        case.send("b", redirect, Dropped(if v6 { "builtin/nd" } else { DEFAULT }));
    }
    case
}

fn fragments() -> Case {
    let mut case = Case::new("fragments go nowhere", &[OUT, &for_b("any", "priority: 1", "{action: allow}")]);
    for v6 in [false, true] {
        // In order, the later one first, and with one that overlaps both.
        for order in [&[0, 1][..], &[1, 0], &[0, 2, 1]] {
            let fragments = A.to(&B, v6).udp_fragments(40_009, 53);
            for index in order {
                case.send("a", fragments[*index].clone(), Dropped("builtin/fragment"));
            }
        }
        case.send("uplink0", EXT.to(&B, v6).udp_fragments(40_010, 53)[1].clone(), Dropped("builtin/fragment"));
        case.send("a", A.to(&B, v6).udp(40_009, 53), Delivered("b"));
    }
    case
}

fn groups() -> Case {
    let mut case = Case::new("multicast goes nowhere", &[OUT]);
    let group = |ip: &str, mac| Way { macs: [A.mac, mac], from: A.ip(ip.contains(':')), to: ip.parse().unwrap() };
    let v4 = group("224.0.0.251", [1, 0, 0x5e, 0, 0, 0xfb]);
    case.send("a", v4.udp(40_010, 5353), Dropped("builtin/multicast"));
    case.send("a", group("10.1.255.255", [0xff; 6]).udp(40_010, 137), Dropped("builtin/multicast"));
    case.send("a", group("0.0.0.0", EXT.mac).udp(40_010, 5353), Dropped("builtin/multicast"));
    case.send("a", group("::", EXT.mac).udp(40_010, 5353), Dropped("builtin/multicast"));
    let v6 = group("ff02::fb", [0x33, 0x33, 0, 0, 0, 0xfb]);
    case.send("a", v6.udp(40_010, 5353), Dropped("builtin/multicast"));
    case
}

fn neither() -> Case {
    let mut case = Case::new("neither plain IP nor ARP", &[OUT, &for_b("any", "priority: 1", "{action: allow}")]);
    case.send("a", lldp(A.mac), Dropped("builtin/antispoof"));
    case.send("uplink0", lldp(EXT.mac), Dropped("builtin/non-ip"));
    for v6 in [false, true] {
        let packet = A.to(&B, v6).udp(40_011, 53);
        case.send("a", tagged(&packet, 5), Dropped("builtin/vlan"));
        case.send("uplink0", tagged(&EXT.to(&B, v6).udp(40_011, 53), 5), Dropped("builtin/vlan"));
    }
    case
}

fn unattached() -> Case {
    let lost = r#"
kind: Workload
metadata: {name: lost, labels: {app: b}}
spec:
  network: net
  interfaces: [{mac: "02:00:00:00:00:99", ips: [10.1.0.99, "fd00:1::99"]}]
"#;
    let any = for_b("any", "priority: 1", "{action: allow}");
    let mut case = Case::new("a workload that is nowhere yet, and addresses of nobody", &[lost, OUT, &any]);
    for from in [A, EXT] {
        case.syn(from, NOBODY, 80, Dropped("builtin/locate"));
        case.send(from.port, from.to(&NOBODY, false).arp(from.mac), Dropped("builtin/arp"));
        case.send(from.port, from.to(&NOBODY, true).solicit(), Dropped("builtin/nd"));
    }
    case.syn(EXT, OTHER, 80, Dropped("builtin/transit"));
    case
}

fn no_uplink() -> Case {
    let mut case = Case::new("a network without an uplink", &[OUT]);
    case.network = "uplinks: []".into();
    case.syn(A, EXT, 80, Dropped("builtin/miss-locate"));
    case.syn(EXT, A, 80, Dropped("builtin/miss-classify"));
    case.send("a", A.to(&EXT, false).arp(A.mac), Dropped("builtin/arp"));
    case.send("a", A.to(&EXT, true).solicit(), Dropped("builtin/nd"));
    let ask = Way { macs: [A.mac, BROADCAST], from: [0; 4].into(), to: [255; 4].into() };
    case.send("a", ask.udp(68, 67), Dropped("builtin/dhcp"));
    case
}
