//! What `ofproto/trace` tells of a packet, read.

use bulkhead_pipeline::{Field, Packet, ethertype, ip_proto};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A packet's way through the switch.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// The packet as the switch understood it.
    pub first: String,
    /// The packet as it was in the end.
    pub last: String,
    /// Table, priority and cookie of every flow that it met.
    pub flows: Vec<(u8, u16, u64)>,
    /// Names of the ports that it left by.
    pub ports: Vec<String>,
    /// Why the controller got copies of it, each time: `OFPR_*`.
    pub reasons: Vec<u128>,
    /// Mark and label of the connections that were committed.
    pub committed: Vec<(u128, u128)>,
}

/// Parts between the commas that no parenthesis holds.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&text[start..]);
    found
}

fn number(text: &str) -> Option<u128> {
    match text.strip_prefix("0x") {
        Some(digits) => u128::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The value of `key=value` or `key=value/mask` among parts.
fn value<'a>(parts: &[&'a str], key: &str) -> Option<&'a str> {
    parts.iter().find_map(|part| part.trim().strip_prefix(key)?.strip_prefix('='))
}

impl Told {
    pub fn read(text: &str) -> Option<Self> {
        let mut told = Self {
            first: String::new(),
            last: String::new(),
            flows: Vec::new(),
            ports: Vec::new(),
            reasons: Vec::new(),
            committed: Vec::new(),
        };
        for line in text.lines() {
            if let Some(flow) = line.strip_prefix("Flow: ") {
                told.last = flow.into();
                if told.first.is_empty() {
                    told.first = flow.into();
                }
            } else if let Some(flow) = line.strip_prefix("Final flow: ") {
                if flow != "unchanged" {
                    told.last = flow.into();
                }
            } else if let Some(actions) = line.strip_prefix("Datapath actions: ") {
                told.actions(actions)?;
            } else if let Some((table, flow)) = line.split_once(". ")
                && let Ok(table) = table.trim().parse()
            {
                let parts: Vec<_> = flow.split(", ").collect();
                let priority = parts.iter().find_map(|part| part.strip_prefix("priority "));
                let cookie = parts.iter().find_map(|part| part.strip_prefix("cookie ")).and_then(number);
                told.flows.push((table, priority?.parse().ok()?, cookie? as u64));
            }
        }
        (!told.first.is_empty()).then_some(told)
    }

    fn actions(&mut self, actions: &str) -> Option<()> {
        for action in parts(actions) {
            let (name, inside) = match action.split_once('(') {
                Some((name, rest)) => (name, parts(rest.strip_suffix(')')?)),
                None => (action, Vec::new()),
            };
            match name {
                "drop" | "recirc" | "set" | "meter" | "push_vlan" | "pop_vlan" => {}
                // Behind a meter it is a sample of all.
                "userspace" | "sample" => {
                    let reason = action.split_once("controller(reason=")?.1.split(',').next()?;
                    self.reasons.push(number(reason)?);
                }
                "ct" if inside.contains(&"commit") => {
                    let remembered = |key| match value(&inside, key) {
                        Some(text) => number(text.split('/').next()?),
                        None => Some(0),
                    };
                    self.committed.push((remembered("mark")?, remembered("label")?));
                }
                "ct" => {}
                port if inside.is_empty() => self.ports.push(port.into()),
                _ => return None,
            }
        }
        Some(())
    }
}

fn mac(text: &str) -> Option<u128> {
    u128::from_str_radix(&text.replace(':', ""), 16).ok()
}

fn v4(text: &str) -> Option<u128> {
    text.parse::<Ipv4Addr>().ok().map(|address| address.to_bits().into())
}

fn v6(text: &str) -> Option<u128> {
    text.parse::<Ipv6Addr>().ok().map(Ipv6Addr::to_bits)
}

fn fragment(text: &str) -> Option<u128> {
    match text {
        "no" => Some(0),
        "first" => Some(1),
        "later" => Some(3),
        _ => None,
    }
}

type Reading = (Field, &'static str, fn(&str) -> Option<u128>);

const FIELDS: [Reading; 20] = [
    (Field::SrcId, "reg1", number),
    (Field::DstId, "reg2", number),
    (Field::Service, "reg3", number),
    (Field::SrcClass, "reg4", number),
    (Field::DstClass, "reg5", number),
    (Field::EthSrc, "dl_src", mac),
    (Field::EthDst, "dl_dst", mac),
    (Field::Ipv4Src, "nw_src", v4),
    (Field::Ipv4Dst, "nw_dst", v4),
    (Field::Ipv6Src, "ipv6_src", v6),
    (Field::Ipv6Dst, "ipv6_dst", v6),
    (Field::IpFrag, "nw_frag", fragment),
    (Field::ArpOp, "arp_op", number),
    (Field::ArpSpa, "arp_spa", v4),
    (Field::ArpTpa, "arp_tpa", v4),
    (Field::ArpSha, "arp_sha", mac),
    (Field::ArpTha, "arp_tha", mac),
    (Field::NdTarget, "nd_target", v6),
    (Field::NdSll, "nd_sll", mac),
    (Field::NdTll, "nd_tll", mac),
];

/// What a switch's words for a packet and the packet disagree about.
pub fn differences(flow: &str, packet: &Packet) -> Vec<String> {
    let parts = parts(flow);
    let mut found = Vec::new();
    let mut compare = |what: &str, told: Option<u128>, walked: u128| {
        if told != Some(walked) {
            found.push(format!("{what}: {told:x?} told, {walked:x} walked"));
        }
    };
    for (field, key, read) in FIELDS {
        // What the switch does not mention is 0.
        compare(field.as_str(), value(&parts, key).map_or(Some(0), read), packet.value(field));
    }
    let tags = packet.value(Field::OutVlan) | packet.value(Field::InVlan) << 16;
    compare("reg8", value(&parts, "reg8").map_or(Some(0), number), tags);
    // ICMP of the other family's number is written like ports; so is IGMP (2), which we do not read.
    for (fields, keys) in [
        ([Field::L4Src, Field::IcmpType], ["tp_src", "icmp_type"]),
        ([Field::L4Dst, Field::IcmpCode], ["tp_dst", "icmp_code"]),
    ] {
        let told = keys.iter().find_map(|key| value(&parts, key)).filter(|_| packet.value(Field::IpProto) != 2);
        compare(keys[0], told.map_or(Some(0), number), fields.iter().find_map(|field| packet.get(*field)).unwrap_or(0));
    }
    let places = [
        (Field::Network, 0),
        (Field::SrcLocal, 16),
        (Field::DstLocal, 17),
        (Field::FromTunnel, 18),
        (Field::TooBig, 19),
        (Field::OutTunnel, 20),
        (Field::Routed, 22),
        (Field::ToPeer, 23),
        (Field::Peer, 24),
        (Field::ToGroup, 26),
    ];
    let metadata = places.into_iter().fold(0, |bits, (field, at)| bits | packet.value(field) << at);
    compare("reg0", value(&parts, "reg0").map_or(Some(0), number), metadata);
    let tag = match (value(&parts, "dl_vlan"), value(&parts, "vlan_tci")) {
        (Some(vid), _) => number(vid).map(|vid| vid | 0x1000),
        (None, Some(tci)) => number(tci).map(|tci| tci & 0x1fff),
        (None, None) => Some(0),
    };
    compare("vlan", tag, packet.value(Field::Vlan));
    let word = |word: &str| parts.contains(&word);
    let protocols =
        [("icmp", ip_proto::ICMP), ("tcp", ip_proto::TCP), ("udp", ip_proto::UDP), ("sctp", ip_proto::SCTP)];
    let v4 = word("ip") || protocols.iter().any(|(name, _)| word(name));
    let v6 = word("ipv6") || word("icmp6") || protocols.iter().any(|(name, _)| word(&format!("{name}6")));
    let kind = match (v4, v6) {
        (true, _) => Some(ethertype::IPV4),
        (_, true) => Some(ethertype::IPV6),
        _ if word("arp") => Some(ethertype::ARP),
        _ => value(&parts, "dl_type").and_then(number),
    };
    let known = [ethertype::IPV4, ethertype::IPV6, ethertype::ARP];
    if kind.is_some() || known.contains(&packet.value(Field::EthType)) {
        compare("eth_type", kind, packet.value(Field::EthType));
    }
    if v4 || v6 {
        let named = protocols.iter().find(|(name, _)| word(name) || word(&format!("{name}6")) && *name != "icmp");
        let protocol = match named {
            Some((_, protocol)) => Some(*protocol),
            None if word("icmp6") => Some(ip_proto::ICMPV6),
            None => value(&parts, "nw_proto").and_then(number),
        };
        compare("ip_proto", protocol, packet.value(Field::IpProto));
    }
    found
}
