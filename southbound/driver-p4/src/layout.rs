//! What of the pipeline is where in the P4 program.
//!
//! A stage is a table, whose key is what entries of the stage may match. Fields that no packet has at once share a part
//! of the key, so that a table costs less: which of them an entry means, its ethertype and protocol say.

use bulkhead_pipeline::{Action, Cause, Entry, Field, Next, Stage, ethertype, ip_proto, overlay::Tunnel};
use bulkhead_topology::Port;

/// Who wrote an entry, in the first byte of its metadata: Bulkhead.
const OWNER: u64 = 0xb1 << 56;
/// The version of all that is said here, in the second byte. Entries of another one are not ours to read.
const LAYOUT: u64 = 3 << 48;

/// Where a packet goes after an entry: a stage's index, or one of these.
pub const DONE: u8 = 0xfe;
/// It is dropped.
pub const DROP: u8 = 0xff;

/// Most ports of a switch.
pub const MAX_PORT: u32 = bulkhead_topology::underlay::MAX_PORT;
/// In the place of a port's number, that a packet came or leaves by VXLAN.
const VXLAN: u128 = 0xfff0;
/// The same for Geneve.
const GENEVE: u128 = 0xfff1;
/// Bits of a port's number.
pub const PORT_WIDTH: u32 = 16;

/// A part of a table's key, or of what a packet has on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Its name in the program.
    pub name: &'static str,
    /// In bits.
    pub width: u32,
}

/// The in-port's.
pub const IN_PORT: Slot = Slot { name: "in_port", width: PORT_WIDTH };

/// Stages that a program without a memory has no entries in.
const NO_TABLE: [Stage; 3] = [Stage::Carry, Stage::Receive, Stage::TooBig];

/// Fields that a stage may match, and no entry of a program without a memory does: what links and groups would need, what
/// is told apart by the connection, the halves of a rule that the other direction is about. Keys are without them.
const UNMATCHED: &[(Stage, &[Field])] = &[
    (Stage::Classify, &[Field::TunSrc4, Field::TunSrc6, Field::EthType]),
    (Stage::Antispoof, &[Field::TunId, Field::NdTll]),
    (Stage::ArpNd, &[Field::EthSrc, Field::ArpSpa]),
    (Stage::Locate, &[Field::SrcId, Field::EthDst, Field::IpProto, Field::IpTtl]),
    (Stage::Track, &[Field::ToGroup]),
    (Stage::Connection, &[Field::Network, Field::SrcId, Field::DstLocal, Field::FromTunnel, Field::Peer]),
    (Stage::StagedEgressEmergency, &EGRESS_FIRST),
    (Stage::StagedEgressPlatform, &EGRESS),
    (Stage::StagedEgressApplication, &EGRESS),
    (Stage::StagedEgressBaseline, &EGRESS),
    (Stage::EgressEmergency, &EGRESS),
    (Stage::EgressPlatform, &EGRESS),
    (Stage::EgressApplication, &EGRESS),
    (Stage::EgressBaseline, &EGRESS),
    (Stage::Spread, &[Field::Network, Field::SrcId, Field::FromTunnel, Field::ToGroup]),
    (Stage::StagedIngressEmergency, &INGRESS_FIRST),
    (Stage::StagedIngressPlatform, &INGRESS),
    (Stage::StagedIngressApplication, &INGRESS),
    (Stage::StagedIngressBaseline, &INGRESS),
    (Stage::IngressEmergency, &INGRESS),
    (Stage::IngressPlatform, &INGRESS),
    (Stage::IngressApplication, &INGRESS),
    (Stage::IngressBaseline, &INGRESS),
    (Stage::Verdict, &[Field::DstLocal, Field::FromTunnel, Field::Peer, Field::Conn]),
    (Stage::Fit, &[Field::Network, Field::Routed, Field::Peer, Field::TunDst4, Field::TunDst6]),
    (Stage::Deliver, &[Field::Network, Field::ToGroup, Field::IpTtl, Field::Ipv4Dst, Field::Ipv6Dst]),
];
const EGRESS: [Field; 4] = [Field::SrcClass, Field::SrcLocal, Field::DstLocal, Field::Conjunction];
const EGRESS_FIRST: [Field; 3] = [Field::SrcClass, Field::DstLocal, Field::Conjunction];
const INGRESS: [Field; 4] = [Field::DstClass, Field::SrcLocal, Field::DstLocal, Field::Conjunction];
const INGRESS_FIRST: [Field; 3] = [Field::DstClass, Field::SrcLocal, Field::Conjunction];

/// The stages that have tables, in order.
pub fn stages() -> impl Iterator<Item = Stage> {
    Stage::ALL.iter().map(|spec| spec.stage).filter(|stage| !NO_TABLE.contains(stage))
}

/// The fields that a stage's key has a place for.
pub fn matched(stage: Stage) -> impl Iterator<Item = Field> {
    let without = UNMATCHED.iter().find(|(of, _)| *of == stage).map_or(&[][..], |(_, fields)| fields);
    stage.spec().matches.iter().copied().filter(|field| !without.contains(field))
}

/// A stage's key, in order.
pub fn key(stage: Stage) -> Vec<Slot> {
    let mut key: Vec<Slot> = stage.spec().in_port.then_some(IN_PORT).into_iter().collect();
    for slot in matched(stage).map(slot) {
        if !key.contains(&slot) {
            key.push(slot);
        }
    }
    key
}

/// Where a field is.
pub const fn slot(field: Field) -> Slot {
    let (name, width) = match field {
        Field::Ipv4Src | Field::Ipv6Src | Field::ArpSpa => ("addr_src", 128),
        Field::Ipv4Dst | Field::Ipv6Dst | Field::ArpTpa | Field::NdTarget => ("addr_dst", 128),
        Field::L4Src | Field::IcmpType => ("l4_src", 16),
        Field::L4Dst | Field::IcmpCode => ("l4_dst", 16),
        // Of ARP's operations, 8 bits are told apart.
        Field::IpProto | Field::ArpOp => ("protocol", 8),
        Field::ArpSha | Field::NdSll | Field::NdTll => ("hardware", 48),
        Field::TunSrc4 | Field::TunSrc6 => ("tun_src", 128),
        Field::TunDst4 | Field::TunDst6 => ("tun_dst", 128),
        Field::TunIdentity | Field::TunGbp => ("tun_identity", 32),
        other => (other.as_str(), other.width()),
    };
    Slot { name, width }
}

/// Whether a field shares its slot with others.
pub(crate) fn is_shared(field: Field) -> bool {
    Field::ALL.into_iter().any(|other| other != field && slot(other).name == slot(field).name)
}

/// The bits in front of an IPv4 address where IPv6's may be too (RFC 4291 §2.5.5.2).
pub(crate) const MAPPED: u128 = 0xffff << 32;

/// What an entry says of its packets' headers, by which fields are told apart that share a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Headers {
    pub ethertype: Option<u128>,
    /// Of IP, or ARP's operation.
    pub protocol: Option<u128>,
    /// Port, or ICMP's type.
    pub l4_src: Option<u128>,
    pub tunnel: Option<Tunnel>,
}

impl Headers {
    /// The field that a slot stands for in a stage; `None` if these headers leave that open.
    pub fn field(self, stage: Stage, name: &str) -> Option<Field> {
        let ip = matches!(self.ethertype, Some(ethertype::IPV4 | ethertype::IPV6));
        let icmp = match (self.ethertype?, self.protocol) {
            (ethertype::IPV4 | ethertype::IPV6, Some(ip_proto::ICMP | ip_proto::ICMPV6)) => Some(true),
            (ethertype::IPV4 | ethertype::IPV6, Some(_)) => Some(false),
            _ => None,
        };
        // A neighbour's solicitation or advertisement (RFC 4861 §4.3, §4.4).
        let neighbour = match (self.ethertype?, self.protocol, self.l4_src) {
            (ethertype::IPV6, Some(ip_proto::ICMPV6), Some(kind)) => {
                Some(kind).filter(|kind| matches!(kind, 135 | 136))
            }
            _ => None,
        };
        Some(match (name, self.ethertype?) {
            ("addr_src", ethertype::IPV4) => Field::Ipv4Src,
            ("addr_src", ethertype::IPV6) => Field::Ipv6Src,
            ("addr_src", ethertype::ARP) => Field::ArpSpa,
            ("addr_dst", ethertype::IPV4) => Field::Ipv4Dst,
            ("addr_dst", ethertype::ARP) => Field::ArpTpa,
            ("addr_dst", ethertype::IPV6) if neighbour.is_some() => Field::NdTarget,
            // Where neighbours are looked at, a destination is one of packets alone that are none of theirs.
            ("addr_dst", ethertype::IPV6) => {
                let either = matched(stage).any(|field| field == Field::NdTarget);
                let no_neighbour = icmp == Some(false) || (icmp == Some(true) && self.l4_src.is_some());
                (!either || no_neighbour).then_some(Field::Ipv6Dst)?
            }
            ("l4_src", _) => {
                if icmp? {
                    Field::IcmpType
                } else {
                    Field::L4Src
                }
            }
            ("l4_dst", _) => {
                if icmp? {
                    Field::IcmpCode
                } else {
                    Field::L4Dst
                }
            }
            ("protocol", ethertype::ARP) => Field::ArpOp,
            ("protocol", _) if ip => Field::IpProto,
            ("hardware", ethertype::ARP) => Field::ArpSha,
            ("hardware", _) => match neighbour? {
                135 => Field::NdSll,
                _ => Field::NdTll,
            },
            _ => return None,
        })
    }
}

/// The number of a port in the program; `None` if the switch has no such port.
pub fn port_number(port: &Port) -> Option<u128> {
    match port {
        Port::Number(number) => (1..=MAX_PORT).contains(number).then_some((*number).into()),
        Port::Name(_) => Tunnel::of(port).map(|tunnel| match tunnel {
            Tunnel::Geneve => GENEVE,
            Tunnel::Vxlan => VXLAN,
        }),
    }
}

/// The port of such a number.
pub fn port_of(number: u128) -> Option<Port> {
    match number {
        VXLAN => Some(Tunnel::Vxlan.port()),
        GENEVE => Some(Tunnel::Geneve.port()),
        _ => u32::try_from(number).ok().filter(|number| (1..=MAX_PORT).contains(number)).map(Port::Number),
    }
}

/// What an entry's metadata says (P4Runtime §9.1: eight bytes that the device keeps and does not read).
pub fn metadata(cause: Cause) -> [u8; 8] {
    (OWNER | LAYOUT | cause.to_bits()).to_be_bytes()
}

/// The cause in an entry's metadata; `None` if it is not of this layout, or not ours.
pub fn cause(metadata: &[u8]) -> Option<Cause> {
    let bits = u64::from_be_bytes(metadata.try_into().ok()?);
    let cause = bits.checked_sub(OWNER | LAYOUT)?;
    (cause >> 40 == 0).then(|| Cause::from_bits(cause))?
}

/// What an entry's `log` says of its rule: that there is one, whether it drops, and which it is.
const LOGS: u128 = 1 << 33;
const DROPS: u128 = 1 << 32;

/// What an entry that logs says of its rule; `None` if it is of none.
pub fn log(entry: &Entry) -> Option<u128> {
    let Cause::Rule(rule) = entry.cause else { return None };
    Some(LOGS | if drops(entry) { DROPS } else { 0 } | u128::from(rule))
}

/// Whether an entry ends every packet that it matches.
pub(crate) fn drops(entry: &Entry) -> bool {
    entry.next == Next::Drop || entry.actions.iter().any(Action::refuses)
}

/// The rule that this is about, and whether it drops; `None` if no entry says so.
pub fn logged(bits: u128) -> Option<(Cause, bool)> {
    let rule = u32::try_from(bits & !(LOGS | DROPS)).ok()?;
    (bits & LOGS != 0).then_some((Cause::Rule(rule), bits & DROPS != 0))
}

/// A stage's table.
pub fn table(stage: Stage) -> String {
    format!("ingress.{}", identifier(stage))
}

/// A stage's name as P4 can have it.
pub fn identifier(stage: Stage) -> String {
    stage.spec().name.replace('-', "_")
}

/// The most entries of a stage's table, unless whoever compiles the program says otherwise.
pub const fn size(stage: Stage) -> u32 {
    match stage {
        Stage::Classify => 1 << 10,
        Stage::Antispoof | Stage::ArpNd | Stage::Locate => 1 << 13,
        Stage::SrcClass | Stage::DstClass => 1 << 11,
        Stage::EgressApplication | Stage::IngressApplication => 1 << 13,
        Stage::EgressEmergency | Stage::EgressPlatform | Stage::EgressBaseline => 1 << 11,
        Stage::IngressEmergency | Stage::IngressPlatform | Stage::IngressBaseline => 1 << 11,
        Stage::StagedEgressEmergency | Stage::StagedEgressPlatform | Stage::StagedEgressApplication => 1 << 10,
        Stage::StagedEgressBaseline | Stage::StagedIngressEmergency | Stage::StagedIngressPlatform => 1 << 10,
        Stage::StagedIngressApplication | Stage::StagedIngressBaseline => 1 << 10,
        // What every switch has, and a few rows for each network and uplink.
        _ => 1 << 7,
    }
}

/// What lists of actions entries have, by stage, as [`crate::shape`] names them. At the end of each, for what entries do
/// nothing but go on. New ones come last: an action's number is its place.
pub const SHAPES: &[(Stage, &[&str])] = &[
    (
        Stage::Classify,
        &[
            "go",
            "set_network__set_from_tunnel",
            "set_network__set_src_id",
            "set_network__set_src_id__set_in_vlan__pop_vlan",
            "set_network__set_src_id__set_src_local",
        ],
    ),
    (Stage::Antispoof, &["go", "set_src_id", "set_src_id__set_peer", "set_src_id__set_src_local__set_peer"]),
    (
        Stage::ArpNd,
        &[
            "go",
            "choose",
            "choose__set_out_vlan",
            "copy_eth_src_to_eth_dst__set_eth_src__copy_ipv4_src_to_ipv4_dst__set_ipv4_src__set_icmp_type__set_ip_ttl",
            "copy_eth_src_to_eth_dst__set_eth_src__copy_ipv6_src_to_ipv6_dst__set_ipv6_src__set_icmp_type__set_ip_ttl",
            "copy_eth_src_to_eth_dst__set_eth_src__copy_ipv6_src_to_ipv6_dst__set_ipv6_src__set_nd_reserved__set_icmp_type",
            "copy_eth_src_to_eth_dst__set_eth_src__set_arp_op__copy_arp_sha_to_arp_tha__set_arp_sha__copy_arp_spa_to_arp_tpa__set_arp_spa",
            "expired4",
            "expired6",
            "send_to",
            "set_out_tunnel__choose__set_tun_dst4__set_tun_id",
            "set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_gbp",
            "set_out_tunnel__choose__set_tun_dst6__set_tun_id",
            "set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_gbp",
            "set_peer",
            "set_routed",
            "set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_identity",
            "set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_identity",
        ],
    ),
    (
        Stage::Answer,
        &[
            "go",
            "push_in_vlan__send_back",
            "send_back",
            "set_nd_option__copy_eth_src_to_nd_tll__push_in_vlan__send_back",
            "set_nd_option__copy_eth_src_to_nd_tll__send_back",
        ],
    ),
    (Stage::SrcClass, &["go", "set_src_class"]),
    (Stage::DstClass, &["go", "set_dst_class"]),
    (
        Stage::Locate,
        &[
            "go",
            "no_route4",
            "no_route6",
            "set_dst_id__choose",
            "set_dst_id__choose__set_out_vlan",
            "set_dst_id__set_dst_local__set_eth_dst__choose",
            "set_dst_id__set_eth_dst__set_dst_local__set_out_tunnel__choose__set_tun_dst4__set_tun_id",
            "set_dst_id__set_eth_dst__set_dst_local__set_out_tunnel__choose__set_tun_dst6__set_tun_id",
            "set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst4__set_tun_id",
            "set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_gbp",
            "set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst6__set_tun_id",
            "set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_gbp",
            "set_dst_id__set_out_tunnel__choose__set_tun_dst4__set_tun_id",
            "set_dst_id__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_gbp",
            "set_dst_id__set_out_tunnel__choose__set_tun_dst6__set_tun_id",
            "set_dst_id__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_gbp",
            "set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_identity",
            "set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_identity",
            "set_dst_id__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_identity",
            "set_dst_id__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_identity",
        ],
    ),
    (Stage::Track, &["go", "track"]),
    (
        Stage::Connection,
        &[
            "go",
            "service_from_dst",
            "service_from_icmp",
            "service_from_proto",
            "swap_ends__service_from_proto",
            "swap_ends__service_from_src",
            "swap_ends__set_service",
        ],
    ),
    (Stage::StagedEgressEmergency, &["go", "log"]),
    (Stage::StagedEgressPlatform, &["go", "log"]),
    (Stage::StagedEgressApplication, &["go", "log"]),
    (Stage::StagedEgressBaseline, &["go", "log"]),
    (Stage::StagedIngressEmergency, &["go", "log"]),
    (Stage::StagedIngressPlatform, &["go", "log"]),
    (Stage::StagedIngressApplication, &["go", "log"]),
    (Stage::StagedIngressBaseline, &["go", "log"]),
    (Stage::EgressEmergency, &["go", "reject", "log", "log__reject"]),
    (Stage::EgressPlatform, &["go", "reject", "log", "log__reject"]),
    (Stage::EgressApplication, &["go", "reject", "log", "log__reject"]),
    (Stage::EgressBaseline, &["go", "reject", "log", "log__reject"]),
    (Stage::IngressEmergency, &["go", "reject", "log", "log__reject"]),
    (Stage::IngressPlatform, &["go", "reject", "log", "log__reject"]),
    (Stage::IngressApplication, &["go", "reject", "log", "log__reject"]),
    (Stage::IngressBaseline, &["go", "reject", "log", "log__reject"]),
    (Stage::Fit, &["go", "check_size", "set_eth_dst__check_size"]),
    (Stage::Deliver, &["go", "dec_ttl__set_eth_src__send", "push_out_vlan__send", "send", "too_big"]),
];

/// A stage's lists of actions.
pub fn shapes(stage: Stage) -> &'static [&'static str] {
    SHAPES.iter().find(|(of, _)| *of == stage).map_or(&["go"], |(_, shapes)| shapes)
}

/// An action's full name.
pub fn action(stage: Stage, shape: &str) -> String {
    format!("ingress.{}__{shape}", identifier(stage))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bulkhead_pipeline::Builtin;

    #[test]
    fn what_keys_are_without_their_stages_could_match() {
        for (stage, fields) in UNMATCHED {
            for field in *fields {
                assert!(stage.spec().matches.contains(field), "{} never matches {}", stage.spec().name, field.as_str());
            }
        }
    }

    #[test]
    fn ports_and_causes_are_found_again() {
        for port in [Port::Number(1), Port::Number(MAX_PORT), Tunnel::Vxlan.port(), Tunnel::Geneve.port()] {
            assert_eq!(port_of(port_number(&port).unwrap()), Some(port));
        }
        for port in [Port::Number(0), Port::Number(MAX_PORT + 1), Port::Name("eth1".into())] {
            assert_eq!(port_number(&port), None);
        }
        for of in [Cause::Rule(u32::MAX), Cause::Builtin(Builtin::Arp), Cause::Miss(Stage::Deliver)] {
            assert_eq!(cause(&metadata(of)), Some(of));
        }
        assert_eq!(cause(&[]), None);
        assert_eq!(cause(&[0; 8]), None);
        let mut newer = metadata(Cause::Rule(1));
        newer[1] += 1;
        assert_eq!(cause(&newer), None);
    }
}
