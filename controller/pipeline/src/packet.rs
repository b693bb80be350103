//! A packet as the pipeline sees it: fields, absent or present.

use crate::field::{Field, frag, vlan};
use bulkhead_topology::Port;

/// Ethertypes.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u128 = 0x0800;
    /// ARP.
    pub const ARP: u128 = 0x0806;
    /// IPv6.
    pub const IPV6: u128 = 0x86dd;
    /// 802.1Q tag.
    pub const VLAN: u128 = 0x8100;
    /// 802.1ad service tag; like Open vSwitch, we take it for a tag like the other.
    pub const SERVICE_VLAN: u128 = 0x88a8;
    /// The smallest: what is below is a length (IEEE 802.3).
    pub const LEAST: u128 = 0x0600;
    /// Stands for the ethertype of frames that have none, as in Open vSwitch.
    pub const NONE: u128 = 0x05ff;
}

/// IP protocol numbers.
pub mod ip_proto {
    /// ICMP.
    pub const ICMP: u128 = 1;
    /// TCP.
    pub const TCP: u128 = 6;
    /// UDP.
    pub const UDP: u128 = 17;
    /// ICMPv6.
    pub const ICMPV6: u128 = 58;
    /// SCTP.
    pub const SCTP: u128 = 132;
}

/// A packet on its way: its header fields and our metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The port it came in by.
    pub in_port: Port,
    /// Bytes of the Ethernet frame without its outer VLAN tag; 0 where nobody asked.
    pub length: u32,
    /// What of the transport header tells whether it opens a connection or answers one: TCP's flags, or the type of
    /// SCTP's first chunk; 0 where there is none. Nothing matches it: see [`crate::Sort`].
    pub control: u8,
    values: [u128; Field::COUNT],
    present: u64,
}

/// Not a frame: shorter than an Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frame ends inside its Ethernet header")]
pub struct PacketError;

impl Packet {
    /// A packet without any header, its metadata and its tunnel's fields at 0.
    pub fn new(in_port: Port) -> Self {
        let metadata = Field::ALL.into_iter().filter(|f| f.is_metadata() || f.is_tunnel() || *f == Field::Conn);
        let present = metadata.fold(0, |bits, field| bits | 1 << field as u8);
        Self { in_port, length: 0, control: 0, values: [0; Field::COUNT], present }
    }

    /// The value of a field that the packet has.
    pub fn get(&self, field: Field) -> Option<u128> {
        (self.present & 1 << field as u8 != 0).then(|| self.values[field as usize])
    }

    /// The value of a field, 0 if the packet does not have it.
    pub fn value(&self, field: Field) -> u128 {
        self.values[field as usize]
    }

    /// Sets a field and makes it present; bits beyond its width are cut off.
    pub fn set(&mut self, field: Field, value: u128) {
        self.values[field as usize] = value & field.full_mask();
        self.present |= 1 << field as u8;
    }

    /// As [`Self::set`], for building packets.
    pub fn with(mut self, field: Field, value: impl Into<u128>) -> Self {
        self.set(field, value.into());
        self
    }

    /// Takes a field away: the packet then has no such header.
    pub fn clear(&mut self, field: Field) {
        self.values[field as usize] = 0;
        self.present &= !(1 << field as u8);
    }

    /// Reads the headers of an Ethernet frame as Open vSwitch does (`miniflow_extract` in its lib/flow.c): the fields
    /// of a header that is cut off or contradicts itself are there and 0, so that no packet is without a meaning.
    /// What follows the length that an IP header tells is padding, and is not looked at.
    pub fn parse(in_port: Port, frame: &[u8]) -> Result<Self, PacketError> {
        let (Some(dst), Some(src), Some(kind)) = (number(frame, 0, 6), number(frame, 6, 6), number(frame, 12, 2))
        else {
            return Err(PacketError);
        };
        let mut packet = Self::new(in_port).with(Field::EthDst, dst).with(Field::EthSrc, src);
        // Of several tags the outer one alone is looked into: what follows is the second one's ethertype.
        let (tag, kind, rest) = match (number(frame, 14, 2), number(frame, 16, 2)) {
            (Some(tag), Some(inner)) if matches!(kind, ethertype::VLAN | ethertype::SERVICE_VLAN) => {
                (tag & vlan::ID | vlan::PRESENT, inner, from(frame, 18))
            }
            _ => (0, kind, from(frame, 14)),
        };
        let (kind, rest) = if kind >= ethertype::LEAST { (kind, rest) } else { snap(rest) };
        packet.set(Field::Vlan, tag);
        packet.length = (frame.len() - if tag == 0 { 0 } else { 4 }) as u32;
        packet.set(Field::EthType, kind);
        match kind {
            ethertype::ARP => packet.arp(rest),
            ethertype::IPV4 => packet.ipv4(rest),
            ethertype::IPV6 => packet.ipv6(rest),
            _ => {}
        }
        Ok(packet)
    }

    fn zeros(&mut self, fields: &[Field]) {
        for field in fields {
            self.set(*field, 0);
        }
    }

    fn arp(&mut self, arp: &[u8]) {
        self.zeros(&[Field::ArpOp, Field::ArpSha, Field::ArpSpa, Field::ArpTha, Field::ArpTpa]);
        // Ethernet and IPv4, with addresses of 6 and 4 bytes (RFC 826).
        if number(arp, 0, 6) != Some(0x0001_0800_0604) || arp.len() < 28 {
            return;
        }
        let mut set = |field, at, length| self.set(field, number(arp, at, length).unwrap_or(0));
        // Of operations, 8 bits are told apart.
        set(Field::ArpOp, 6, if arp.get(6) == Some(&0) { 2 } else { 0 });
        set(Field::ArpSha, 8, 6);
        set(Field::ArpSpa, 14, 4);
        set(Field::ArpTha, 18, 6);
        set(Field::ArpTpa, 24, 4);
    }

    fn ipv4(&mut self, ip: &[u8]) {
        self.zeros(&[Field::Ipv4Src, Field::Ipv4Dst, Field::IpProto, Field::IpFrag, Field::IpTtl]);
        let whole = || {
            let (header, total) = ((number(ip, 0, 1)? & 0xf) as usize * 4, number(ip, 2, 2)? as usize);
            // A header of less than 20 bytes, or one that does not fit what is there, is none.
            let payload = ip.get(header..total)?;
            (header >= 20).then_some((
                number(ip, 8, 1)?,
                number(ip, 6, 2)?,
                number(ip, 9, 1)?,
                number(ip, 12, 4)?,
                number(ip, 16, 4)?,
                payload,
            ))
        };
        let Some((ttl, fragment, protocol, src, dst, payload)) = whole() else { return };
        self.set(Field::IpTtl, ttl);
        self.set(Field::Ipv4Src, src);
        self.set(Field::Ipv4Dst, dst);
        self.transport(protocol, fragment & 0x3fff != 0, fragment & 0x1fff != 0, payload);
    }

    fn ipv6(&mut self, ip: &[u8]) {
        self.zeros(&[Field::Ipv6Src, Field::Ipv6Dst, Field::IpProto, Field::IpFrag, Field::IpTtl]);
        let whole = || {
            let length = number(ip, 4, 2)? as usize;
            Some((
                number(ip, 6, 1)?,
                number(ip, 7, 1)?,
                number(ip, 8, 16)?,
                number(ip, 24, 16)?,
                ip.get(40..40 + length)?,
            ))
        };
        let Some((protocol, ttl, src, dst, payload)) = whole() else { return };
        self.set(Field::IpTtl, ttl);
        self.set(Field::Ipv6Src, src);
        self.set(Field::Ipv6Dst, dst);
        if let Some((protocol, fragment, later, rest)) = past_extensions(protocol, payload) {
            self.transport(protocol, fragment, later, rest);
        }
    }

    fn transport(&mut self, protocol: u128, fragment: bool, later: bool, bytes: &[u8]) {
        self.set(Field::IpProto, protocol);
        self.set(Field::IpFrag, if later { frag::ANY | frag::LATER } else { u128::from(fragment) * frag::ANY });
        let (fields, width, least, control) = match protocol {
            // As long as it says (RFC 9293 §3.1), in words of 4 bytes.
            ip_proto::TCP => {
                let header = usize::from(bytes.get(12).copied().unwrap_or(0) >> 4) * 4;
                ([Field::L4Src, Field::L4Dst], 2, if header < 20 { usize::MAX } else { header }, 13)
            }
            ip_proto::UDP => ([Field::L4Src, Field::L4Dst], 2, 8, usize::MAX),
            ip_proto::SCTP => ([Field::L4Src, Field::L4Dst], 2, 12, 12),
            ip_proto::ICMP | ip_proto::ICMPV6 => ([Field::IcmpType, Field::IcmpCode], 1, 8, usize::MAX),
            _ => return,
        };
        self.zeros(&fields);
        if later || bytes.len() < least {
            return;
        }
        self.control = bytes.get(control).copied().unwrap_or(0);
        for (field, at) in fields.into_iter().zip([0, width]) {
            self.set(field, number(bytes, at, width).unwrap_or(0));
        }
        if protocol == ip_proto::ICMPV6 && matches!(bytes.first(), Some(135 | 136)) {
            self.neighbour(bytes);
        }
    }

    /// A neighbour solicitation (135) or advertisement (136) (RFC 4861 §4.3, §4.4).
    fn neighbour(&mut self, message: &[u8]) {
        self.zeros(&[Field::NdReserved, Field::NdTarget, Field::NdSll, Field::NdTll, Field::NdOption]);
        // Their code is 0; another one makes them something else.
        if message.get(1) != Some(&0) {
            return;
        }
        self.set(Field::NdReserved, number(message, 4, 4).unwrap_or(0));
        let Some(target) = number(message, 8, 16) else { return };
        self.set(Field::NdTarget, target);
        let mut options = from(message, 24);
        while let [kind, length, ..] = *options
            && let Some((option, rest)) = options.split_at_checked(usize::from(length) * 8)
            && length > 0
        {
            let field = match (kind, length) {
                (1, 1) => Some(Field::NdSll),
                (2, 1) => Some(Field::NdTll),
                _ => None,
            };
            if let Some(field) = field {
                if self.value(field) != 0 {
                    // Two addresses of one kind: the message says nothing.
                    self.zeros(&[Field::NdTarget, Field::NdSll, Field::NdTll]);
                    return;
                }
                self.set(field, number(option, 2, 6).unwrap_or(0));
                if self.value(Field::NdOption) == 0 {
                    self.set(Field::NdOption, kind.into());
                }
            }
            options = rest;
        }
    }
}

/// The big-endian number of `length` bytes at `at`.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u128> {
    Some(bytes.get(at..at + length)?.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte)))
}

/// What follows the first `at` bytes.
fn from(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).unwrap_or_default()
}

/// The ethertype that a frame with a length in its place has, and what follows (IEEE 802, RFC 1042).
fn snap(bytes: &[u8]) -> (u128, &[u8]) {
    match (number(bytes, 0, 6), number(bytes, 6, 2)) {
        (Some(0xaaaa_0300_0000), Some(kind)) if kind >= ethertype::LEAST => (kind, from(bytes, 8)),
        _ => (ethertype::NONE, bytes),
    }
}

/// What follows IPv6's extension headers: protocol, whether it is a fragment, whether a later one, and the rest;
/// `None` if one of them is cut off. What follows a later fragment's header is payload; switches show protocol 44 there.
fn past_extensions(mut protocol: u128, mut rest: &[u8]) -> Option<(u128, bool, bool, &[u8])> {
    let (mut fragment, mut later) = (false, false);
    while !later {
        let length = match protocol {
            // Hop-by-hop, routing, destination options (RFC 8200 §4), authentication (RFC 4302 §2.2).
            0 | 43 | 60 => (number(rest, 1, 1)? as usize + 1) * 8,
            51 => (number(rest, 1, 1)? as usize + 2) * 4,
            44 => 8,
            _ => break,
        };
        // Each is 8 bytes long at least, whatever it says of itself.
        let (header, after) = (rest.get(..8)?, rest.get(length..)?);
        if protocol == 44 {
            let word = number(header, 2, 2)?;
            fragment |= word != 0;
            later = word & 0xfff8 != 0;
        }
        protocol = if later { 44 } else { number(header, 0, 1)? };
        rest = after;
    }
    Some((protocol, fragment, later, rest))
}
