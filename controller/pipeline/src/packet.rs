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
    values: [u128; Field::COUNT],
    present: u64,
}

/// A frame too short for what its headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frame ends inside its {header} header")]
pub struct PacketError {
    /// The header that is cut off.
    pub header: &'static str,
}

/// IPv6 extension headers that are skipped at the most; more make a packet of unknown protocol.
const MAX_EXTENSION_HEADERS: usize = 8;

impl Packet {
    /// A packet without any header, its metadata at 0.
    pub fn new(in_port: Port) -> Self {
        let metadata = Field::ALL.into_iter().filter(|f| f.is_metadata() || *f == Field::Conn);
        let present = metadata.fold(0, |bits, field| bits | 1 << field as u8);
        Self { in_port, values: [0; Field::COUNT], present }
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

    /// Reads the headers of an Ethernet frame. Like a switch, it takes as many headers as are whole:
    /// only a frame without an Ethernet header, or with a cut-off IP or ARP header, is an error.
    pub fn parse(in_port: Port, frame: &[u8]) -> Result<Self, PacketError> {
        let mut packet = Self::new(in_port);
        let ethernet = Header { name: "Ethernet", bytes: frame };
        packet.set(Field::EthDst, ethernet.number(0, 6)?);
        packet.set(Field::EthSrc, ethernet.number(6, 6)?);
        let mut kind = ethernet.number(12, 2)?;
        let mut at = 14;
        packet.set(Field::Vlan, 0);
        // Of several tags the outer one alone is looked into: what follows is the second one's ethertype.
        if matches!(kind, ethertype::VLAN | ethertype::SERVICE_VLAN) {
            packet.set(Field::Vlan, ethernet.number(14, 2)? & vlan::ID | vlan::PRESENT);
            kind = ethernet.number(16, 2)?;
            at = 18;
        }
        packet.set(Field::EthType, kind);
        let rest = frame.get(at..).unwrap_or_default();
        match kind {
            ethertype::ARP => packet.arp(Header { name: "ARP", bytes: rest })?,
            ethertype::IPV4 => packet.ipv4(Header { name: "IPv4", bytes: rest })?,
            ethertype::IPV6 => packet.ipv6(Header { name: "IPv6", bytes: rest })?,
            _ => {}
        }
        Ok(packet)
    }

    fn arp(&mut self, arp: Header<'_>) -> Result<(), PacketError> {
        self.set(Field::ArpOp, arp.number(6, 2)?);
        self.set(Field::ArpSha, arp.number(8, 6)?);
        self.set(Field::ArpSpa, arp.number(14, 4)?);
        self.set(Field::ArpTha, arp.number(18, 6)?);
        self.set(Field::ArpTpa, arp.number(24, 4)?);
        Ok(())
    }

    fn ipv4(&mut self, ip: Header<'_>) -> Result<(), PacketError> {
        let length = (ip.number(0, 1)? & 0xf) as usize * 4;
        let fragment = ip.number(6, 2)?;
        let (more, offset) = (fragment & 0x2000 != 0, fragment & 0x1fff);
        self.set(Field::Ipv4Src, ip.number(12, 4)?);
        self.set(Field::Ipv4Dst, ip.number(16, 4)?);
        self.transport(ip.number(9, 1)?, more, offset != 0, ip.bytes.get(length.max(20)..).unwrap_or_default());
        Ok(())
    }

    fn ipv6(&mut self, ip: Header<'_>) -> Result<(), PacketError> {
        self.set(Field::Ipv6Src, ip.number(8, 16)?);
        self.set(Field::Ipv6Dst, ip.number(24, 16)?);
        let mut protocol = ip.number(6, 1)?;
        let mut rest = ip.bytes.get(40..).unwrap_or_default();
        let (mut more, mut later) = (false, false);
        for _ in 0..MAX_EXTENSION_HEADERS {
            let header = Header { name: "IPv6 extension", bytes: rest };
            let (next, skip) = match protocol {
                // Hop-by-hop, routing, destination options (RFC 8200 §4).
                0 | 43 | 60 => (header.number(0, 1)?, (header.number(1, 1)? as usize + 1) * 8),
                44 => {
                    let word = header.number(2, 2)?;
                    more = word & 1 != 0;
                    later = word & 0xfff8 != 0;
                    (header.number(0, 1)?, 8)
                }
                _ => break,
            };
            if later {
                // What follows a later fragment's header is payload; switches show protocol 44 there.
                break;
            }
            protocol = next;
            rest = rest.get(skip..).unwrap_or_default();
        }
        self.transport(protocol, more, later, rest);
        Ok(())
    }

    fn transport(&mut self, protocol: u128, more: bool, later: bool, bytes: &[u8]) {
        self.set(Field::IpProto, protocol);
        self.set(Field::IpFrag, if later { frag::ANY | frag::LATER } else { u128::from(more) * frag::ANY });
        if later {
            return;
        }
        // Cut-off transport headers leave their fields absent; no entry on them then matches.
        let _ = match protocol {
            ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP => self.ports(Header { name: "transport", bytes }),
            ip_proto::ICMP => self.icmp(Header { name: "ICMP", bytes }).map(|_| ()),
            ip_proto::ICMPV6 => self.icmpv6(Header { name: "ICMPv6", bytes }),
            _ => Ok(()),
        };
    }

    fn ports(&mut self, l4: Header<'_>) -> Result<(), PacketError> {
        self.set(Field::L4Src, l4.number(0, 2)?);
        self.set(Field::L4Dst, l4.number(2, 2)?);
        Ok(())
    }

    fn icmp(&mut self, icmp: Header<'_>) -> Result<u128, PacketError> {
        let kind = icmp.number(0, 1)?;
        self.set(Field::IcmpType, kind);
        self.set(Field::IcmpCode, icmp.number(1, 1)?);
        Ok(kind)
    }

    fn icmpv6(&mut self, icmp: Header<'_>) -> Result<(), PacketError> {
        // 135 is a neighbour solicitation, 136 an advertisement (RFC 4861 §4.3, §4.4).
        let kind = self.icmp(icmp)?;
        if kind != 135 && kind != 136 {
            return Ok(());
        }
        self.set(Field::NdReserved, icmp.number(4, 4)?);
        self.set(Field::NdTarget, icmp.number(8, 16)?);
        let mut options = icmp.bytes.get(24..).unwrap_or_default();
        self.set(Field::NdSll, 0);
        self.set(Field::NdTll, 0);
        while let [kind, length, ..] = *options {
            if length == 0 {
                break;
            }
            let option = Header { name: "ND option", bytes: options };
            let field = match kind {
                1 => Field::NdSll,
                2 => Field::NdTll,
                _ => Field::NdOption,
            };
            if field != Field::NdOption && length == 1 {
                self.set(field, option.number(2, 6)?);
            }
            self.set(Field::NdOption, kind.into());
            options = options.get(usize::from(length) * 8..).unwrap_or_default();
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Header<'a> {
    name: &'static str,
    bytes: &'a [u8],
}

impl Header<'_> {
    /// The big-endian number of `length` bytes at `at`.
    fn number(&self, at: usize, length: usize) -> Result<u128, PacketError> {
        let bytes = self.bytes.get(at..at + length).ok_or(PacketError { header: self.name })?;
        Ok(bytes.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte)))
    }
}
