//! Flows in the syntax of ovs-ofctl (ovs-ofctl(8), ovs-fields(7), ovs-actions(7)).
//!
//! What is printed, `ovs-ofctl` takes; what is printed and parsed again is the same. Not in the text: the
//! command, a buffered packet, filters by port and group, and `max_len` of an output that does not name the
//! controller. Fields and actions that are not known print in a form that is for people only.

mod parse;
mod print;
mod value;

#[cfg(test)]
mod tests;

pub use parse::parse_flow;
pub use print::{actions, flow, instructions, matching, stats};

use crate::wire::field::OxmField;
use crate::wire::port::reserved;

/// Ethertypes and protocols with a word: word, Ethertype, protocol.
const PROTOCOLS: &[(&str, u128, Option<u128>)] = &[
    ("tcp", 0x0800, Some(6)),
    ("udp", 0x0800, Some(17)),
    ("sctp", 0x0800, Some(132)),
    ("icmp", 0x0800, Some(1)),
    ("tcp6", 0x86dd, Some(6)),
    ("udp6", 0x86dd, Some(17)),
    ("sctp6", 0x86dd, Some(132)),
    ("icmp6", 0x86dd, Some(58)),
    ("ip", 0x0800, None),
    ("ipv6", 0x86dd, None),
    ("arp", 0x0806, None),
];

/// Reserved ports with a word.
const PORTS: &[(&str, u32)] = &[
    ("IN_PORT", reserved::IN_PORT),
    ("TABLE", reserved::TABLE),
    ("NORMAL", reserved::NORMAL),
    ("FLOOD", reserved::FLOOD),
    ("ALL", reserved::ALL),
    ("CONTROLLER", reserved::CONTROLLER),
    ("LOCAL", reserved::LOCAL),
    ("ANY", reserved::ANY),
];

/// Bits of `ct_state`, from the lowest.
const CT_STATE: &[&str] = &["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];

/// Bits of `tcp_flags`, from the lowest.
const TCP_FLAGS: &[&str] = &["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"];

/// Kinds of fragments: word, value, mask (`nw_frag` in ovs-fields(7)).
const FRAGMENTS: &[(&str, u128, Option<u128>)] =
    &[("no", 0, None), ("first", 1, None), ("later", 3, None), ("yes", 1, Some(1)), ("not_later", 0, Some(2))];

/// Other names that are understood for a field.
const ALIASES: &[(&str, OxmField)] = &[
    ("in_port_oxm", OxmField::InPort),
    ("eth_src", OxmField::EthSrc),
    ("eth_dst", OxmField::EthDst),
    ("eth_type", OxmField::EthType),
    ("ip_proto", OxmField::IpProto),
    ("ip_ecn", OxmField::IpEcn),
    ("ip_src", OxmField::Ipv4Src),
    ("ip_dst", OxmField::Ipv4Dst),
    ("tunnel_id", OxmField::TunnelId),
    ("ip_frag", OxmField::IpFrag),
];

/// The bit of a VLAN id's match that says that there is a tag (OF 1.3.5 §7.2.3.7).
const VLAN_PRESENT: u128 = 0x1000;

/// Bits of `FIELD[]`: of a VLAN's id, actions know its twelve bits alone (ovs-fields(7), "VLAN ID").
const fn whole_bits(field: OxmField) -> u16 {
    if matches!(field, OxmField::VlanVid) { 12 } else { field.spec().bits }
}
