//! Whole Ethernet frames with true checksums.

use std::net::{IpAddr, Ipv6Addr};

/// One host: its MAC's last octet and its addresses.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    pub port: &'static str,
    pub mac: [u8; 6],
    pub v4: [u8; 4],
    pub v6: [u16; 8],
}

/// Source and destination of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub macs: [[u8; 6]; 2],
    pub from: IpAddr,
    pub to: IpAddr,
}

impl Host {
    pub fn ip(&self, v6: bool) -> IpAddr {
        if v6 { Ipv6Addr::from(self.v6).into() } else { self.v4.into() }
    }

    /// Its link-local address (RFC 4291 appendix A).
    pub fn link_local(&self) -> IpAddr {
        let [a, b, c, d, e, f] = self.mac.map(u16::from);
        Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f).into()
    }

    pub fn to(&self, other: &Host, v6: bool) -> Way {
        Way { macs: [self.mac, other.mac], from: self.ip(v6), to: other.ip(v6) }
    }
}

/// Where a fragment belongs; its offset is in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Fragment {
    id: u16,
    more: bool,
    offset: u16,
}

/// Link-layer options of neighbour discovery (RFC 4861 §4.6.1).
pub const SOURCE: u8 = 1;
pub const TARGET: u8 = 2;

pub const SYN: u8 = 2;
pub const ACK: u8 = 16;

fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut total: u32 = words.sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

/// SCTP's checksum (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn ethernet(macs: [[u8; 6]; 2], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&macs[1][..], &macs[0][..], &kind.to_be_bytes()[..], payload].concat()
}

impl Way {
    pub fn back(self) -> Way {
        Way { macs: [self.macs[1], self.macs[0]], from: self.to, to: self.from }
    }

    /// A datagram, or a fragment of one.
    fn fragment(self, protocol: u8, payload: &[u8], fragment: Option<Fragment>) -> Vec<u8> {
        match self.from {
            IpAddr::V4(_) => {
                let Fragment { id, more, offset } = fragment.unwrap_or_default();
                let length = (20 + payload.len()) as u16;
                let word = (u16::from(more) << 13) | (offset / 8);
                let mut header = vec![0x45, 0];
                header.extend(length.to_be_bytes());
                header.extend(id.to_be_bytes());
                header.extend(word.to_be_bytes());
                header.extend([64, protocol, 0, 0]);
                header.extend(octets(self.from));
                header.extend(octets(self.to));
                let check = sum(&[&header]).to_be_bytes();
                header[10..12].copy_from_slice(&check);
                ethernet(self.macs, 0x0800, &[&header[..], payload].concat())
            }
            IpAddr::V6(_) => {
                let extension = fragment.map(|Fragment { id, more, offset }| {
                    let mut header = vec![protocol, 0];
                    header.extend((offset | u16::from(more)).to_be_bytes());
                    header.extend(u32::from(id).to_be_bytes());
                    header
                });
                let next = if extension.is_some() { 44 } else { protocol };
                let payload = [&extension.unwrap_or_default()[..], payload].concat();
                let mut header = vec![0x60, 0, 0, 0];
                header.extend((payload.len() as u16).to_be_bytes());
                header.extend([next, 64]);
                header.extend(octets(self.from));
                header.extend(octets(self.to));
                ethernet(self.macs, 0x86dd, &[&header[..], &payload].concat())
            }
        }
    }

    fn checked(self, protocol: u8, mut payload: Vec<u8>, at: usize) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let pseudo = [&octets(self.from)[..], &octets(self.to), &length, &[0, 0, 0, protocol]].concat();
        // ICMP for IPv4 alone has no pseudo-header.
        let pseudo = if protocol == 1 { vec![] } else { pseudo };
        let check = sum(&[&pseudo, &payload]).to_be_bytes();
        payload[at..at + 2].copy_from_slice(&check);
        payload
    }

    pub fn tcp(self, flags: u8, from: u16, to: u16) -> Vec<u8> {
        let mut segment = [from.to_be_bytes(), to.to_be_bytes()].concat();
        // Each end's first octet, the SYN, is number 1.
        let (sequence, acknowledged) = (if flags & SYN == 0 { 2 } else { 1 }, if flags & ACK == 0 { 0 } else { 2 });
        segment.extend([0, 0, 0, sequence, 0, 0, 0, acknowledged, 0x50, flags, 0xff, 0, 0, 0, 0, 0]);
        self.fragment(6, &self.checked(6, segment, 16), None)
    }

    fn datagram(self, from: u16, to: u16, data: usize) -> Vec<u8> {
        let length = (8 + data) as u16;
        let mut datagram = [from.to_be_bytes(), to.to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
        datagram.extend((0..data).map(|byte| byte as u8));
        self.checked(17, datagram, 6)
    }

    /// A datagram whose IP packet is so many bytes long.
    pub fn udp_of(self, from: u16, to: u16, length: u16) -> Vec<u8> {
        let headers = if self.from.is_ipv4() { 20 + 8 } else { 40 + 8 };
        self.fragment(17, &self.datagram(from, to, usize::from(length) - headers), None)
    }

    pub fn udp(self, from: u16, to: u16) -> Vec<u8> {
        self.fragment(17, &self.datagram(from, to, 8), None)
    }

    /// The two fragments of a datagram, and a forged one that overlaps both; the first is as long as Open vSwitch
    /// wants first fragments to be. The source port is the datagram's id, too.
    pub fn udp_fragments(self, from: u16, to: u16) -> [Vec<u8>; 3] {
        let datagram = self.datagram(from, to, 1400);
        let part = |octets: std::ops::Range<usize>| {
            let (more, offset) = (octets.end < datagram.len(), octets.start as u16);
            self.fragment(17, &datagram[octets], Some(Fragment { id: from, more, offset }))
        };
        [part(0..1288), part(1288..1408), part(1280..1408)]
    }

    pub fn sctp(self, from: u16, to: u16) -> Vec<u8> {
        let mut packet = [from.to_be_bytes(), to.to_be_bytes()].concat();
        // An INIT chunk.
        packet.extend([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0xff, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
        let check = crc32c(&packet).to_le_bytes();
        packet[8..12].copy_from_slice(&check);
        self.fragment(132, &packet, None)
    }

    pub fn gre(self) -> Vec<u8> {
        self.fragment(47, &[0, 0, 8, 0, 0, 0, 0, 0], None)
    }

    pub fn icmp(self, kind: u8, id: u8) -> Vec<u8> {
        let protocol = if self.from.is_ipv4() { 1 } else { 58 };
        let mut message = vec![kind, 0, 0, 0, 0x12, id, 0, 1];
        // Timestamps have three more words (RFC 792).
        message.extend([0; 12]);
        self.fragment(protocol, &self.checked(protocol, message, 2), None)
    }

    /// An ICMP error of the destination about a packet that travelled the other way.
    pub fn icmp_error(self, kind: u8, code: u8, about: &[u8]) -> Vec<u8> {
        let protocol = if self.from.is_ipv4() { 1 } else { 58 };
        let mut message = vec![kind, code, 0, 0, 0, 0, 5, 0];
        message.extend(&about[14..]);
        self.fragment(protocol, &self.checked(protocol, message, 2), None)
    }

    /// An ARP request, from the way's MAC and addresses.
    pub fn arp(self, sender: [u8; 6]) -> Vec<u8> {
        self.arp_message(1, sender)
    }

    /// An ARP reply to all, likewise.
    pub fn arp_reply(self, sender: [u8; 6]) -> Vec<u8> {
        self.arp_message(2, sender)
    }

    fn arp_message(self, operation: u8, sender: [u8; 6]) -> Vec<u8> {
        let mut request = vec![0, 1, 8, 0, 6, 4, 0, operation];
        request.extend(sender);
        request.extend(octets(self.from));
        request.extend([0; 6]);
        request.extend(octets(self.to));
        ethernet([self.macs[0], [0xff; 6]], 0x0806, &request)
    }

    /// A neighbour solicitation for the way's destination.
    pub fn solicit(self) -> Vec<u8> {
        self.solicit_with(0, &[(SOURCE, self.macs[0])])
    }

    /// The same with another code, and other options.
    pub fn solicit_with(self, code: u8, options: &[(u8, [u8; 6])]) -> Vec<u8> {
        let target = octets(self.to);
        let group = [&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff][..], &target[13..]].concat();
        let group: [u8; 16] = group.try_into().unwrap();
        let mac = [0x33, 0x33, 0xff, target[13], target[14], target[15]];
        let way = Way { macs: [self.macs[0], mac], from: self.from, to: Ipv6Addr::from(group).into() };
        way.neighbour([135, code], &target, options)
    }

    /// A neighbour advertisement to all: this address is at this MAC.
    pub fn advertise(self, target: IpAddr, at: [u8; 6]) -> Vec<u8> {
        let way = Way { macs: [self.macs[0], [0x33, 0x33, 0, 0, 0, 1]], from: self.from, to: ALL_NODES.into() };
        way.neighbour([136, 0], &octets(target), &[(TARGET, at)])
    }

    /// A router's message to all: an advertisement, or a redirect.
    pub fn router(self, kind: u8) -> Vec<u8> {
        let way = Way { macs: [self.macs[0], [0x33, 0x33, 0, 0, 0, 1]], from: self.from, to: ALL_NODES.into() };
        way.neighbour([kind, 0], &[0; 32], &[])
    }

    fn neighbour(self, [kind, code]: [u8; 2], target: &[u8], options: &[(u8, [u8; 6])]) -> Vec<u8> {
        let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
        message.extend(target);
        for (kind, mac) in options {
            message.extend([*kind, 1]);
            message.extend(mac);
        }
        let mut frame = self.fragment(58, &self.checked(58, message, 2), None);
        // Neighbours are never further than one hop (RFC 4861 §7.1.1).
        frame[14 + 7] = 255;
        frame
    }
}

/// A whole frame with another TTL or hop limit.
pub fn with_ttl(frame: &[u8], ttl: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[12..14] == [0x86, 0xdd] {
        frame[14 + 7] = ttl;
        return frame;
    }
    frame[14 + 8] = ttl;
    frame[24..26].fill(0);
    let check = sum(&[&frame[14..34]]).to_be_bytes();
    frame[24..26].copy_from_slice(&check);
    frame
}

/// What a router makes of a frame: another pair of Ethernet addresses, and one hop less to go.
pub fn routed(frame: &[u8], macs: [[u8; 6]; 2]) -> Vec<u8> {
    let ttl = if frame[12..14] == [0x86, 0xdd] { frame[14 + 7] } else { frame[14 + 8] };
    let mut frame = with_ttl(frame, ttl - 1);
    frame[..6].copy_from_slice(&macs[1]);
    frame[6..12].copy_from_slice(&macs[0]);
    frame
}

/// All nodes of a link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A frame with an 802.1Q tag put in.
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0][..], &vlan.to_be_bytes()[..], &frame[12..]].concat()
}

/// A frame that is neither IP nor ARP: an LLDP message to the nearest bridge.
pub fn lldp(from: [u8; 6]) -> Vec<u8> {
    ethernet([from, [1, 0x80, 0xc2, 0, 0, 0x0e]], 0x88cc, &[0; 46])
}
