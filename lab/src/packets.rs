//! Frames, byte by byte: what an honest host sends, and what one sends that lies.

use std::net::IpAddr;

use bulkhead_netlink::MacAddress;

/// Every host on a link.
pub const BROADCAST: MacAddress = [0xff; 6];

/// UDP ports of tunnels (RFC 8926 §3.3, RFC 7348 §5).
pub const GENEVE: u16 = 6081;
/// See [`GENEVE`].
pub const VXLAN: u16 = 4789;

/// Ethernet types (IEEE 802).
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;

/// IP protocols (IANA).
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// The option with the sender's identity: experimental class, Bulkhead's type.
const IDENTITY: [u8; 4] = [0xff, 0xb0, 0x01, 0x01];

/// Who a packet says that it is from, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The Ethernet source.
    pub from_mac: MacAddress,
    /// The Ethernet destination.
    pub to_mac: MacAddress,
    /// The IP source; of the same family as the destination.
    pub from: IpAddr,
    /// The IP destination.
    pub to: IpAddr,
}

impl Way {
    /// An IP packet of any protocol, its checksum right.
    #[must_use]
    pub fn ip(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let length = short(20 + payload.len()).to_be_bytes();
                let mut header = vec![0x45, 0, length[0], length[1], 0, 1, 0, 0, 64, protocol, 0, 0];
                header.extend(from.octets());
                header.extend(to.octets());
                let sum = checksum(&header).to_be_bytes();
                header.splice(10..12, sum);
                header.extend(payload);
                ethernet(self.to_mac, self.from_mac, IPV4, &header)
            }
            _ => {
                let length = short(payload.len()).to_be_bytes();
                let mut header = vec![0x60, 0, 0, 0, length[0], length[1], protocol, 255];
                header.extend(octets(self.from));
                header.extend(octets(self.to));
                header.extend(payload);
                ethernet(self.to_mac, self.from_mac, IPV6, &header)
            }
        }
    }

    /// A fragment of an IPv4 packet: offset in units of eight bytes, and whether more follow. IPv6 packets stay whole.
    #[must_use]
    pub fn fragment(self, protocol: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
        let mut frame = self.ip(protocol, payload);
        if self.from.is_ipv4() {
            let word = (u16::from(more) << 13 | offset & 0x1fff).to_be_bytes();
            frame.splice(20..22, word);
            frame.splice(24..26, [0, 0]);
            let sum = checksum(frame.get(14..34).unwrap_or_default()).to_be_bytes();
            frame.splice(24..26, sum);
        }
        frame
    }

    /// A UDP datagram.
    #[must_use]
    pub fn udp(self, from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
        let mut datagram = [from, to, short(8 + payload.len()), 0].map(u16::to_be_bytes).concat();
        datagram.extend(payload);
        // No checksum at all is 0 (RFC 768), so a sum of 0 is written as its other form.
        let sum = match self.sum(UDP, &datagram) {
            0 => 0xffff,
            sum => sum,
        };
        datagram.splice(6..8, sum.to_be_bytes());
        self.ip(UDP, &datagram)
    }

    /// A TCP segment that opens a connection, and carries data with it.
    #[must_use]
    pub fn syn(self, from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
        let mut segment = [from, to].map(u16::to_be_bytes).concat();
        segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(payload);
        let sum = self.sum(TCP, &segment).to_be_bytes();
        segment.splice(16..18, sum);
        self.ip(TCP, &segment)
    }

    /// An echo request.
    #[must_use]
    pub fn echo(self, payload: &[u8]) -> Vec<u8> {
        let kind = if self.from.is_ipv4() { 8 } else { 128 };
        self.icmp(&[&[kind, 0, 0, 0, 0x42, 0x4c, 0, 1], payload].concat())
    }

    /// An ICMP or ICMPv6 message whose checksum is filled in.
    #[must_use]
    pub fn icmp(self, message: &[u8]) -> Vec<u8> {
        let mut message = message.to_vec();
        let (protocol, sum) = match self.from {
            IpAddr::V4(_) => (ICMP, checksum(&message)),
            IpAddr::V6(_) => (ICMPV6, self.sum(ICMPV6, &message)),
        };
        message.splice(2..4, sum.to_be_bytes());
        self.ip(protocol, &message)
    }

    /// "This address is at this MAC": an ARP reply, or a neighbour advertisement that overrides (RFC 4861 §4.4), with
    /// something behind it that the receiver passes over.
    #[must_use]
    pub fn claim(self, address: IpAddr, at: MacAddress, trailer: &[u8]) -> Vec<u8> {
        match (address, self.to) {
            (IpAddr::V4(address), IpAddr::V4(to)) => {
                let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 2];
                packet.extend(at);
                packet.extend(address.octets());
                packet.extend(self.to_mac);
                packet.extend(to.octets());
                packet.extend(trailer);
                ethernet(self.to_mac, self.from_mac, ARP, &packet)
            }
            _ => {
                let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
                message.extend(octets(address));
                message.extend([2, 1]);
                message.extend(at);
                message.extend(option(trailer));
                self.icmp(&message)
            }
        }
    }

    /// "I am your router" (RFC 4861 §4.2), with something behind it that the receiver passes over.
    #[must_use]
    pub fn router(self, trailer: &[u8]) -> Vec<u8> {
        let mut message = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
        message.extend(option(trailer));
        self.icmp(&message)
    }

    /// The checksum over the pseudo header and a message whose own checksum is 0 (RFC 768, RFC 8200 §8.1).
    fn sum(self, protocol: u8, message: &[u8]) -> u16 {
        let mut all = [octets(self.from), octets(self.to)].concat();
        all.extend([0, protocol]);
        all.extend(short(message.len()).to_be_bytes());
        all.extend(message);
        checksum(&all)
    }
}

/// An Ethernet frame.
#[must_use]
pub fn ethernet(to: MacAddress, from: MacAddress, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [to, from].concat();
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A frame with an 802.1Q tag put in.
#[must_use]
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at_checked(12).unwrap_or_default();
    [addresses, &[0x81, 0x00], &vlan.to_be_bytes(), rest].concat()
}

/// What a Geneve datagram holds (RFC 8926 §3.4): a frame of a network, and the identity of who sent it.
#[must_use]
pub fn geneve(vni: u32, identity: Option<u32>, frame: &[u8]) -> Vec<u8> {
    let [_, vni @ ..] = vni.to_be_bytes();
    let words = if identity.is_some() { 2 } else { 0 };
    let mut bytes = vec![words, 0, 0x65, 0x58, vni[0], vni[1], vni[2], 0];
    if let Some(identity) = identity {
        bytes.extend(IDENTITY);
        bytes.extend(identity.to_be_bytes());
    }
    bytes.extend(frame);
    bytes
}

/// What a VXLAN datagram holds (RFC 7348 §5): a frame of a network.
#[must_use]
pub fn vxlan(vni: u32, frame: &[u8]) -> Vec<u8> {
    let [_, vni @ ..] = vni.to_be_bytes();
    let mut bytes = vec![0x08, 0, 0, 0, vni[0], vni[1], vni[2], 0];
    bytes.extend(frame);
    bytes
}

/// The same with the group-policy extension, which says who sends (draft-smith-vxlan-group-policy §2.1).
#[must_use]
pub fn vxlan_of_group(vni: u32, group: u16, frame: &[u8]) -> Vec<u8> {
    let mut bytes = vxlan(vni, frame);
    let [high, low] = group.to_be_bytes();
    bytes.splice(..4, [0x88, 0, high, low]);
    bytes
}

/// An option of a neighbour discovery message (RFC 4861 §4.6) of a type that is kept for experiments (RFC 4727).
fn option(content: &[u8]) -> Vec<u8> {
    let length = (2 + content.len()).next_multiple_of(8);
    let mut bytes = vec![253, u8::try_from(length / 8).unwrap_or(u8::MAX)];
    bytes.extend(content);
    bytes.resize(length, 0);
    bytes
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// A length in a header; frames are far shorter than 64 kB.
fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| {
        let high = pair.first().copied().unwrap_or_default();
        u32::from(u16::from_be_bytes([high, pair.get(1).copied().unwrap_or_default()]))
    };
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !short(sum as usize)
}
