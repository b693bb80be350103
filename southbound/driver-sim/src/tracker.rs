//! A small connection tracker, shaped after Open vSwitch's for userspace: TCP and UDP by addresses and
//! ports, ICMP questions by their type and identifier, other protocols by their addresses alone; ICMP errors
//! belong to the connection of the packet that they quote. Fragments never get here.

use bulkhead_pipeline::{Field, Memory, Packet, conn, ethertype, ip_proto};
use std::collections::{BTreeMap, VecDeque};

/// Most connections that are remembered; the oldest make room. Bounds what a flood can cost.
const MAX_CONNECTIONS: usize = 65_536;

/// Ethertype of an 802.1Q tag.
const TAG: u128 = 0x8100;

/// One end of a connection: address, and port or echo identifier.
type End = (u128, u16);

/// A connection as seen from one of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Tuple {
    zone: u16,
    protocol: u8,
    from: End,
    to: End,
    /// ICMP's type and code: a question in the other direction, with the same identifier, is no answer.
    kind: [u8; 2],
}

impl Tuple {
    fn reversed(self) -> Self {
        let [kind, code] = self.kind;
        let kind = [reversed_type(self.protocol, kind).unwrap_or(kind), code];
        Self { from: self.to, to: self.from, kind, ..self }
    }
}

/// The ICMP type that answers or asks for this one (RFC 792, RFC 4443 §4); `None` for others.
fn reversed_type(protocol: u8, kind: u8) -> Option<u8> {
    Some(match (u128::from(protocol), kind) {
        (ip_proto::ICMP, 8) => 0,
        (ip_proto::ICMP, 0) => 8,
        (ip_proto::ICMP, 13 | 15) => kind + 1,
        (ip_proto::ICMP, 14 | 16) => kind - 1,
        (ip_proto::ICMPV6, 128) => 129,
        (ip_proto::ICMPV6, 129) => 128,
        _ => return None,
    })
}

/// What a tracker needs of a frame beyond what the pipeline sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers {
    /// Identifier of an ICMP echo.
    pub echo: u16,
    /// Of the packet that an ICMP error quotes; its zone is left open.
    quoted: Option<Tuple>,
    /// Flags of a TCP segment.
    tcp: Option<u8>,
}

impl Headers {
    /// Reads them from a frame; what is cut off is left out.
    pub fn parse(packet: &Packet, frame: &[u8]) -> Self {
        Self::find(packet, frame).unwrap_or_default()
    }

    fn find(packet: &Packet, frame: &[u8]) -> Option<Self> {
        // The frame is as it came in first; its tag may be off by now.
        let at = if number(frame, 12, 2)? == TAG { 18 } else { 14 };
        let ip = frame.get(at..)?;
        let v4 = packet.value(Field::EthType) == ethertype::IPV4;
        let protocol = packet.value(Field::IpProto);
        let rest = match v4 {
            true => ip.get(usize::from(ip.first()? & 0xf) * 4..)?,
            // What is behind extension headers is not looked into.
            false if number(ip, 6, 1)? == protocol => ip.get(40..)?,
            false => return None,
        };
        match (v4, protocol) {
            (true, ip_proto::ICMP) | (false, ip_proto::ICMPV6) => {
                let echo = number(rest, 4, 2)? as u16;
                let quoted = if is_error(packet) { quoted(v4, rest.get(8..)?) } else { None };
                Some(Self { echo, quoted, tcp: None })
            }
            (_, ip_proto::TCP) => Some(Self { tcp: Some(number(rest, 13, 1)? as u8), ..Self::default() }),
            _ => None,
        }
    }

    /// Whether a TCP segment of no known connection may begin to be one: anything but the answer to a first
    /// segment, and what no TCP ever sends.
    fn may_open(self) -> bool {
        let Some(flags) = self.tcp else { return true };
        let has = |flag: u8| flags & flag != 0;
        match (has(tcp::SYN), has(tcp::ACK)) {
            (true, true) => false,
            (true, false) => !has(tcp::RST | tcp::FIN | tcp::PSH | tcp::URG),
            (false, true) => true,
            (false, false) => has(tcp::RST) && !has(tcp::FIN | tcp::PSH | tcp::URG),
        }
    }
}

/// Flags of TCP (RFC 9293 §3.1).
mod tcp {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const PSH: u8 = 8;
    pub const ACK: u8 = 16;
    pub const URG: u8 = 32;
}

fn quoted(v4: bool, ip: &[u8]) -> Option<Tuple> {
    let (protocol, from, to, rest) = if v4 {
        let length = usize::from(ip.first()? & 0xf) * 4;
        (number(ip, 9, 1)?, number(ip, 12, 4)?, number(ip, 16, 4)?, ip.get(length..)?)
    } else {
        (number(ip, 6, 1)?, number(ip, 8, 16)?, number(ip, 24, 16)?, ip.get(40..)?)
    };
    let (ports, kind) = match protocol {
        ip_proto::TCP | ip_proto::UDP => ((number(rest, 0, 2)? as u16, number(rest, 2, 2)? as u16), [0; 2]),
        ip_proto::ICMP | ip_proto::ICMPV6 => {
            let echo = number(rest, 4, 2)? as u16;
            ((echo, echo), *rest.first_chunk()?)
        }
        _ => ((0, 0), [0; 2]),
    };
    Some(Tuple { zone: 0, protocol: protocol as u8, from: (from, ports.0), to: (to, ports.1), kind })
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u128> {
    Some(bytes.get(at..at + length)?.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte)))
}

/// Whether the packet is an ICMP error (RFC 792; RFC 4443 §2.1: ICMPv6 types below 128 are errors).
fn is_error(packet: &Packet) -> bool {
    let kind = packet.value(Field::IcmpType);
    match packet.value(Field::IpProto) {
        ip_proto::ICMP => packet.get(Field::IcmpType).is_some() && matches!(kind, 3 | 4 | 5 | 11 | 12),
        ip_proto::ICMPV6 => packet.get(Field::IcmpType).is_some() && kind < 128,
        _ => false,
    }
}

/// Whether the packet is an ICMP message that may open a connection: a question.
fn is_question(packet: &Packet) -> bool {
    matches!(
        (packet.value(Field::IpProto), packet.get(Field::IcmpType)),
        (ip_proto::ICMP, Some(8 | 13 | 15)) | (ip_proto::ICMPV6, Some(128))
    )
}

/// The connections that a switch remembers.
#[derive(Debug, Default)]
pub struct Tracker {
    /// By the tuple of their first packet.
    connections: BTreeMap<Tuple, Memory>,
    order: VecDeque<Tuple>,
    /// Of the packet that is walking.
    headers: Headers,
}

impl Tracker {
    /// Tells it of the packet that walks next.
    pub fn look(&mut self, headers: Headers) {
        self.headers = headers;
    }

    /// How many connections it remembers.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether it remembers none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Forgets everything, as a restarted switch does.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn tuple(&self, zone: u16, packet: &Packet) -> Tuple {
        let (from, to) = ends(packet);
        let protocol = packet.value(Field::IpProto);
        let (ports, kind) = match protocol {
            ip_proto::TCP | ip_proto::UDP => ([Field::L4Src, Field::L4Dst].map(|f| packet.value(f) as u16), [0; 2]),
            ip_proto::ICMP | ip_proto::ICMPV6 => {
                ([self.headers.echo; 2], [Field::IcmpType, Field::IcmpCode].map(|f| packet.value(f) as u8))
            }
            _ => ([0; 2], [0; 2]),
        };
        Tuple { zone, protocol: protocol as u8, from: (from, ports[0]), to: (to, ports[1]), kind }
    }

    /// State and memory of a packet.
    fn state(&self, zone: u16, packet: &Packet) -> (u128, Memory) {
        if is_error(packet) {
            // An error never opens a connection: it belongs to one, or to none.
            // It goes to who sent the packet that it quotes.
            let sender = ends(packet).1;
            let Some(quoted) = self.headers.quoted.filter(|quoted| quoted.from.0 == sender) else {
                return (conn::INV, Memory::default());
            };
            let quoted = Tuple { zone, ..quoted };
            // It travels against the packet that it quotes.
            return match (self.connections.get(&quoted), self.connections.get(&quoted.reversed())) {
                (Some(memory), _) => (conn::REL | conn::RPL, *memory),
                (None, Some(memory)) => (conn::REL, *memory),
                (None, None) => (conn::INV, Memory::default()),
            };
        }
        let tuple = self.tuple(zone, packet);
        if let Some(memory) = self.connections.get(&tuple) {
            return (conn::EST, *memory);
        }
        if let Some(memory) = self.connections.get(&tuple.reversed()) {
            return (conn::EST | conn::RPL, *memory);
        }
        let icmp = matches!(packet.value(Field::IpProto), ip_proto::ICMP | ip_proto::ICMPV6);
        let opens = if icmp { is_question(packet) } else { self.headers.may_open() };
        (if opens { conn::NEW } else { conn::INV }, Memory::default())
    }
}

/// Source and destination address.
fn ends(packet: &Packet) -> (u128, u128) {
    match packet.value(Field::EthType) {
        ethertype::IPV4 => (packet.value(Field::Ipv4Src), packet.value(Field::Ipv4Dst)),
        _ => (packet.value(Field::Ipv6Src), packet.value(Field::Ipv6Dst)),
    }
}

impl bulkhead_pipeline::Tracker for Tracker {
    fn track(&mut self, zone: u16, packet: &Packet) -> (u128, Memory) {
        self.state(zone, packet)
    }

    fn forget(&mut self, zone: u16, packet: &Packet) {
        let tuple = self.tuple(zone, packet);
        for known in [tuple, tuple.reversed()] {
            if self.connections.remove(&known).is_some() {
                self.order.retain(|other| *other != known);
            }
        }
    }

    fn commit(&mut self, zone: u16, packet: &Packet, memory: Memory) {
        if is_error(packet) {
            return;
        }
        let tuple = self.tuple(zone, packet);
        // A live connection that is judged again keeps its direction.
        let known = if self.connections.contains_key(&tuple.reversed()) { tuple.reversed() } else { tuple };
        if self.connections.insert(known, memory).is_none() {
            self.order.push_back(known);
        }
        if self.order.len() > MAX_CONNECTIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.connections.remove(&oldest);
        }
    }
}
