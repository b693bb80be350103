//! What is in front of a frame between switches, byte by byte (ADR 9): for dataplanes that put it on and take it off in
//! software, and what those that do it otherwise are held against.
//!
//! Nothing is believed that contradicts itself: a packet is as long as its headers say, whole, and has no option but ours.

use crate::{
    field::Field,
    overlay::{ETHERNET_HEADER, OPTION_CLASS, OPTION_LENGTH, OPTION_TYPE, Tunnel},
    packet::{Packet, PacketError, ethertype, ip_proto},
};
use bulkhead_topology::Mac;
use std::net::IpAddr;

/// Least source port of a tunnel's packet, and how many there are: the dynamic ones (RFC 6335 §6). Each flow has one.
pub const FLOW_PORTS: (u16, u16) = (49_152, 16_384);
/// TTL or hop limit of a tunnel's packet.
pub const TTL: u8 = 64;
/// VXLAN's first byte: a VNI is there (RFC 7348 §5); so is a group-policy id (draft-smith-vxlan-group-policy §2.1).
const VXLAN_FLAGS: [u8; 2] = [0x08, 0x88];
/// A frame of Ethernet is inside (RFC 8926 §3.4).
const GENEVE_ETHERNET: u16 = 0x6558;
/// ARP's and ND's questions and answers (RFC 826, RFC 4861 §4.3, §4.4).
const ARP: [u8; 2] = [1, 2];
const ND: [u8; 2] = [135, 136];
/// What a neighbour advertisement says first: solicited, and to be believed over what was known.
const SOLICITED: [u8; 4] = [0x60, 0, 0, 0];
/// Options of ND: the asker's link-layer address, the target's.
const ND_OPTION: [u8; 2] = [1, 2];

/// Who a switch is in the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vtep {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its VTEP address.
    pub ip: IpAddr,
}

/// What the header of a tunnel's packet says, and from where it came or to where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The encapsulation.
    pub tunnel: Tunnel,
    /// The other switch's VTEP address.
    pub far: IpAddr,
    /// 24 bits.
    pub vni: u32,
    /// The sender's identity: of Geneve in its option, of VXLAN in the group-policy id, which has 16 bits; 0: none is said.
    pub identity: u32,
}

/// What came by a port of the underlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received<'a> {
    /// A packet of a tunnel, and the frame that is in it.
    Tunnelled(Header, &'a [u8]),
    /// It went to this switch's end of a tunnel, and its headers contradict each other or say more than is understood. It is
    /// dropped, and counts with what came by that overlay port for a network that nobody has.
    Malformed(Tunnel),
    /// A question for this switch's Ethernet address: this goes back.
    Asked(Vec<u8>),
    /// Nothing that this switch has to do with.
    Other,
}

impl Tunnel {
    /// Its UDP port (RFC 7348 §5, RFC 8926 §3.3).
    pub const fn udp_port(self) -> u16 {
        match self {
            Self::Geneve => 6081,
            Self::Vxlan => 4789,
        }
    }
}

impl Header {
    /// The packet that came with this header and this frame inside, as [`crate::walk`] takes it.
    ///
    /// # Errors
    /// The frame is none.
    pub fn packet(&self, frame: &[u8]) -> Result<Packet, PacketError> {
        let mut packet = Packet::parse(self.tunnel.port(), frame)?;
        packet.set(Field::TunId, self.vni.into());
        match self.far {
            IpAddr::V4(v4) => packet.set(Field::TunSrc4, v4.to_bits().into()),
            IpAddr::V6(v6) => packet.set(Field::TunSrc6, v6.to_bits()),
        }
        packet.set(identity(self.tunnel), self.identity.into());
        Ok(packet)
    }

    /// The header that a packet leaves with by a tunnel's port; `None` if it says no far end.
    pub fn of(tunnel: Tunnel, packet: &Packet) -> Option<Self> {
        let far = match (packet.value(Field::TunDst4), packet.value(Field::TunDst6)) {
            (0, 0) => return None,
            (0, v6) => IpAddr::V6(v6.into()),
            (v4, _) => IpAddr::V4(u32::try_from(v4).ok()?.into()),
        };
        let vni = u32::try_from(packet.value(Field::TunId)).ok()?;
        let identity = u32::try_from(packet.value(identity(tunnel))).ok()?;
        Some(Self { tunnel, far, vni, identity })
    }

    /// A frame with this header in front, on its way to a neighbour. `None` if it is too long for one packet.
    pub fn put_on(&self, frame: &[u8], flow: u16, from: Vtep, neighbour: Mac) -> Option<Vec<u8>> {
        let [_, a, b, c] = self.vni.to_be_bytes();
        let id = self.identity.to_be_bytes();
        let tunnel = match self.tunnel {
            Tunnel::Vxlan => {
                let group = usize::from(self.identity != 0);
                let flags = VXLAN_FLAGS.get(group).copied()?;
                [flags, 0, id[2], id[3], a, b, c, 0].to_vec()
            }
            Tunnel::Geneve => {
                let option = 1 + OPTION_LENGTH / 4;
                let mut header = vec![option, 0];
                header.extend(GENEVE_ETHERNET.to_be_bytes());
                header.extend([a, b, c, 0]);
                header.extend(OPTION_CLASS.to_be_bytes());
                header.extend([OPTION_TYPE, OPTION_LENGTH / 4]);
                header.extend(id);
                header
            }
        };
        let udp = u16::try_from(8 + tunnel.len() + frame.len()).ok()?;
        let mut packet = [neighbour.0, from.mac.0].concat();
        match (from.ip, self.far) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut ip = vec![0x45, 0];
                ip.extend(udp.checked_add(20)?.to_be_bytes());
                // Not to be put in pieces, and so of none (RFC 6864 §4.1).
                ip.extend([0, 0, 0x40, 0, TTL, ip_proto::UDP as u8, 0, 0]);
                ip.extend([src.octets(), dst.octets()].concat());
                let sum = checksum(&ip).to_be_bytes();
                ip.splice(10..12, sum);
                packet.extend((ethertype::IPV4 as u16).to_be_bytes());
                packet.extend(ip);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                packet.extend((ethertype::IPV6 as u16).to_be_bytes());
                packet.extend([0x60, 0, 0, 0]);
                packet.extend(udp.to_be_bytes());
                packet.extend([ip_proto::UDP as u8, TTL]);
                packet.extend([src.octets(), dst.octets()].concat());
            }
            _ => return None,
        }
        packet.extend(flow.to_be_bytes());
        packet.extend(self.tunnel.udp_port().to_be_bytes());
        packet.extend(udp.to_be_bytes());
        // What is inside has checksums of its own (RFC 7348 §5, RFC 6935).
        packet.extend([0, 0]);
        packet.extend(tunnel);
        packet.extend(frame);
        Some(packet)
    }
}

/// The source port that a flow's packets leave with: routers of the underlay spread by it, and so does the choice among
/// next hops. A sum over addresses, protocol and ports as the packet came, CRC-16/ARC.
pub fn flow(packet: &Packet) -> u16 {
    let value = |field| packet.value(field);
    let [src, dst] = match value(Field::EthType) {
        ethertype::ARP => [Field::ArpSpa, Field::ArpTpa].map(value),
        ethertype::IPV4 => [Field::Ipv4Src, Field::Ipv4Dst].map(value),
        _ if packet.get(Field::NdTarget).is_some() => [Field::Ipv6Src, Field::NdTarget].map(value),
        _ => [Field::Ipv6Src, Field::Ipv6Dst].map(value),
    };
    let [from, to] = [(Field::L4Src, Field::IcmpType), (Field::L4Dst, Field::IcmpCode)]
        .map(|(port, icmp)| (value(port) | value(icmp)) as u16);
    let protocol = (value(Field::IpProto) | value(Field::ArpOp)) as u8;
    let mut sum = 0u16;
    let bytes = [&src.to_be_bytes()[..], &dst.to_be_bytes(), &[protocol], &from.to_be_bytes(), &to.to_be_bytes()];
    for byte in bytes.concat() {
        sum ^= u16::from(byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xa001 } else { sum >> 1 };
        }
    }
    let (first, count) = FLOW_PORTS;
    first + sum % count
}

/// What a frame that came by a port of the underlay is to a switch.
pub fn receive(own: Vtep, frame: &[u8]) -> Received<'_> {
    let read = || {
        let (ethernet, rest) = frame.split_at_checked(usize::from(ETHERNET_HEADER))?;
        let sender = Mac(ethernet.get(6..12)?.try_into().ok()?);
        let to_us = ethernet.get(..6)? == own.mac.0;
        if sender.is_multicast() {
            return None;
        }
        match u128::from(u16_at(ethernet, 12)?) {
            ethertype::ARP => arp(own, sender, rest),
            ethertype::IPV4 if to_us => ipv4(own, rest),
            ethertype::IPV6 => ipv6(own, sender, to_us, rest),
            _ => None,
        }
    };
    read().unwrap_or(Received::Other)
}

fn arp(own: Vtep, sender: Mac, arp: &[u8]) -> Option<Received<'_>> {
    let IpAddr::V4(vtep) = own.ip else { return None };
    let arp = arp.get(..28)?;
    let [ask, answer] = ARP;
    // Ethernet and IPv4, with addresses of 6 and 4 bytes.
    if arp.get(..8)? != [0, 1, 8, 0, 6, 4, 0, ask] || arp.get(24..)? != vtep.octets() {
        return None;
    }
    let asker = arp.get(8..18)?;
    let mut back = [sender.0, own.mac.0].concat();
    back.extend((ethertype::ARP as u16).to_be_bytes());
    back.extend([0, 1, 8, 0, 6, 4, 0, answer]);
    back.extend(own.mac.0);
    back.extend(vtep.octets());
    back.extend(asker);
    Some(Received::Asked(back))
}

fn ipv4(own: Vtep, ip: &[u8]) -> Option<Received<'_>> {
    let header = ip.get(..20)?;
    let options = usize::from(*header.first()? & 0xf).checked_sub(5)? * 4;
    let total = usize::from(u16_at(ip, 2)?);
    let far: [u8; 4] = header.get(12..16)?.try_into().ok()?;
    let dst: [u8; 4] = header.get(16..20)?.try_into().ok()?;
    let fragment = u16_at(ip, 6)? & 0x3fff != 0;
    if header.get(9)? != &(ip_proto::UDP as u8) || IpAddr::from(dst) != own.ip || total > ip.len() {
        return None;
    }
    // A later fragment has no ports.
    if u16_at(ip, 6)? & 0x1fff != 0 {
        return None;
    }
    let udp = ip.get(20 + options..total)?;
    let sound = options == 0 && !fragment && total == ip.len() && checksum(header) == 0;
    tunnelled(far.into(), udp, sound)
}

fn ipv6(own: Vtep, sender: Mac, to_us: bool, ip: &[u8]) -> Option<Received<'_>> {
    let header = ip.get(..40)?;
    let length = usize::from(u16_at(ip, 4)?);
    let payload = ip.get(40..40 + length)?;
    let far: [u8; 16] = header.get(8..24)?.try_into().ok()?;
    let dst: [u8; 16] = header.get(24..40)?.try_into().ok()?;
    let (protocol, hops) = (u128::from(*header.get(6)?), *header.get(7)?);
    if protocol == ip_proto::ICMPV6 {
        return solicitation(own, sender, far, hops, payload);
    }
    (to_us && protocol == ip_proto::UDP && IpAddr::from(dst) == own.ip)
        .then(|| tunnelled(far.into(), payload, ip.len() == 40 + length))?
}

/// A neighbour's question, and what answers it. Its checksum nobody looks at; a wrong question has a right answer.
fn solicitation(own: Vtep, sender: Mac, asker: [u8; 16], hops: u8, message: &[u8]) -> Option<Received<'_>> {
    let IpAddr::V6(vtep) = own.ip else { return None };
    let ([ask, answer], [of_asker, of_target]) = (ND, ND_OPTION);
    let option = match message.get(24..)? {
        [] => false,
        [kind, 1, .., _] if *kind == of_asker && message.len() == 32 => true,
        _ => return None,
    };
    let right = message.get(..2)? == [ask, 0] && message.get(8..24)? == vtep.octets();
    // From further away it is none; who asks whether an address is free wants no answer.
    if !right || hops != 255 || asker == [0; 16] {
        return None;
    }
    let mut advertisement = vec![answer, 0, 0, 0];
    advertisement.extend(SOLICITED);
    advertisement.extend(vtep.octets());
    if option {
        advertisement.extend([of_target, 1]);
        advertisement.extend(own.mac.0);
    }
    let length = message.len() as u16;
    let ends = [vtep.octets(), asker].concat();
    let summed =
        [&ends[..], &u32::from(length).to_be_bytes(), &[0, 0, 0, ip_proto::ICMPV6 as u8], &advertisement].concat();
    advertisement.splice(2..4, checksum(&summed).to_be_bytes());
    let mut back = [sender.0, own.mac.0].concat();
    back.extend((ethertype::IPV6 as u16).to_be_bytes());
    back.extend([0x60, 0, 0, 0]);
    back.extend(length.to_be_bytes());
    back.extend([ip_proto::ICMPV6 as u8, hops]);
    back.extend(ends);
    back.extend(advertisement);
    Some(Received::Asked(back))
}

/// A UDP packet for this switch; `sound` says that all in front of it is as it should be.
fn tunnelled(far: IpAddr, udp: &[u8], sound: bool) -> Option<Received<'_>> {
    let (header, rest) = udp.split_at_checked(8)?;
    let tunnel = Tunnel::ALL.into_iter().find(|tunnel| Some(tunnel.udp_port()) == u16_at(header, 2))?;
    let whole = sound && u16_at(header, 4).map(usize::from) == Some(udp.len());
    let read = || match tunnel {
        Tunnel::Vxlan => vxlan(rest),
        Tunnel::Geneve => geneve(rest),
    };
    let inside = read().filter(|(.., frame)| whole && frame.len() >= usize::from(ETHERNET_HEADER));
    Some(match inside {
        Some((vni, identity, frame)) => Received::Tunnelled(Header { tunnel, far, vni, identity }, frame),
        None => Received::Malformed(tunnel),
    })
}

/// VNI, identity, and the frame. Reserved bits mean nothing.
fn vxlan(rest: &[u8]) -> Option<(u32, u32, &[u8])> {
    let (header, frame) = rest.split_at_checked(8)?;
    let [plain, group] = VXLAN_FLAGS;
    let identity = match *header.first()? {
        flags if flags == plain => 0,
        flags if flags == group => u16_at(header, 2)?.into(),
        _ => return None,
    };
    Some((vni(header)?, identity, frame))
}

/// The same. There is our option, alone, or none.
fn geneve(rest: &[u8]) -> Option<(u32, u32, &[u8])> {
    let (header, rest) = rest.split_at_checked(8)?;
    // Version 0; neither a control packet nor one with critical options.
    let words = *header.first()?;
    if header.get(1)? & 0xc0 != 0 || u16_at(header, 2)? != GENEVE_ETHERNET {
        return None;
    }
    let (identity, frame) = match words {
        0 => (0, rest),
        2 => {
            let (option, frame) = rest.split_at_checked(8)?;
            let known = u16_at(option, 0)? == OPTION_CLASS
                && *option.get(2)? == OPTION_TYPE
                && option.get(3)? & 0x1f == OPTION_LENGTH / 4;
            let identity = option.get(4..8).filter(|_| known)?;
            (u32::from_be_bytes(identity.try_into().ok()?), frame)
        }
        _ => return None,
    };
    Some((vni(header)?, identity, frame))
}

/// Of VXLAN and Geneve alike.
fn vni(header: &[u8]) -> Option<u32> {
    let [a, b, c]: [u8; 3] = header.get(4..7)?.try_into().ok()?;
    Some(u32::from_be_bytes([0, a, b, c]))
}

/// The field that says who sends.
const fn identity(tunnel: Tunnel) -> Field {
    match tunnel {
        Tunnel::Geneve => Field::TunIdentity,
        Tunnel::Vxlan => Field::TunGbp,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| match word {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
