//! Random frames, most of them nearly right for the state that they are made for.

use bulkhead_policy::State;
use bulkhead_topology::{Name, Port};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// SplitMix64: the same frames for the same seed.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Yes, in one of `of` cases.
    pub fn once(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.byte()).collect()
    }
}

/// One interface: its MAC and addresses.
type Station = ([u8; 6], Vec<IpAddr>);

/// A port of the switch that leads somewhere.
#[derive(Debug)]
struct Door {
    port: Port,
    vlan: u16,
    network: Name,
    /// `None`: an uplink.
    station: Option<Station>,
}

/// What frames are made of.
#[derive(Debug)]
pub struct World {
    doors: Vec<Door>,
    stations: Vec<(Name, Station)>,
}

const ROUTER: [u8; 6] = [6, 0, 0, 0, 0, 1];
const BROADCAST: [u8; 6] = [0xff; 6];
const PORTS: [u16; 14] = [0, 1, 53, 67, 68, 80, 443, 546, 547, 1023, 8080, 8081, 40_000, 65535];
/// Protocols: those with ports, ICMP of either family, IPv6's extensions, and others.
const PROTOCOLS: [u8; 20] = [6, 6, 6, 6, 17, 17, 17, 132, 132, 1, 1, 58, 58, 0, 2, 43, 44, 47, 50, 255];

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().into(),
        IpAddr::V6(v6) => v6.octets().into(),
    }
}

fn link_local(mac: [u8; 6]) -> IpAddr {
    let [a, b, c, d, e, f] = mac;
    IpAddr::V6(Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]))
}

impl World {
    pub fn new(state: &State, switch: &Name) -> Self {
        let mut world = Self { doors: Vec::new(), stations: Vec::new() };
        for network in state.networks.values() {
            for uplink in network.uplinks.iter().filter(|uplink| uplink.at.switch == *switch) {
                let (port, network) = (uplink.at.port.clone(), network.name.clone());
                world.doors.push(Door { port, vlan: uplink.vlan, network, station: None });
            }
        }
        for workload in state.workloads.values() {
            for interface in &workload.interfaces {
                let station = (interface.mac.0, interface.ips.clone());
                world.stations.push((workload.network.clone(), station.clone()));
                if let Some(at) = interface.attachment.as_ref().filter(|at| at.switch == *switch) {
                    let (port, network) = (at.port.clone(), workload.network.clone());
                    world.doors.push(Door { port, vlan: 0, network, station: Some(station) });
                }
            }
        }
        world
    }

    /// Whether there is anybody to speak with.
    pub fn is_lonely(&self) -> bool {
        self.doors.len() < 2
    }

    /// A port and a frame that comes in there.
    pub fn frame(&self, r: &mut Random, ports: &[Port]) -> (Port, Vec<u8>) {
        let stray = Door { port: r.pick(ports).clone(), vlan: 0, network: "net-0".parse().unwrap(), station: None };
        let door = if self.doors.is_empty() || r.once(32) { &stray } else { r.pick(&self.doors) };
        // The door's family, mostly: frames are to get past the first stages.
        let v6 = match door.station.as_ref().map(|station| &station.1[..]) {
            None | Some([]) => r.once(2),
            Some(ips) => r.pick(ips).is_ipv6() != r.once(16),
        };
        let (mac, from) = self.sender(r, door, v6);
        let (mut to_mac, to) = self.target(r, door, v6);
        if r.once(32) {
            to_mac = BROADCAST;
        }
        let (to_mac, kind, payload) = match r.below(16) {
            0 | 1 if !v6 => (if r.once(2) { BROADCAST } else { to_mac }, 0x0806, arp(r, mac, from, to_mac, to)),
            0 | 1 => (to_mac, 0x86dd, neighbour(r, mac, from, to)),
            2 => dhcp(r, mac, from, to_mac, to, v6),
            3 if r.once(4) => (to_mac, *r.pick(&[0x88cc, 0x8847, 0x8035, 0x0600, 0x05ff, 46]), r.bytes(80)),
            _ => {
                let (protocol, message) = self.message(r, v6, [from, to]);
                (to_mac, if v6 { 0x86dd } else { 0x0800 }, datagram(r, [from, to], protocol, message))
            }
        };
        let mut frame = [&to_mac[..], &mac[..]].concat();
        let tag = match r.below(32) {
            0 => Some(*r.pick(&[0u16, 7, 4094, 0x2007, 1])),
            1 => None,
            _ => (door.vlan != 0).then_some(door.vlan),
        };
        if let Some(tag) = tag {
            frame.extend(if r.once(12) { [0x88, 0xa8] } else { [0x81, 0] });
            frame.extend(tag.to_be_bytes());
            if r.once(24) {
                frame.extend([0x81, 0, 0, 7]);
            }
        }
        let payload = if r.once(48) {
            // IEEE 802.2 with SNAP: the ethertype comes after a length.
            let length = (payload.len() as u16 + 8).to_be_bytes();
            [&length[..], &[0xaa, 0xaa, 3, 0, 0, 0], &(kind as u16).to_be_bytes(), &payload].concat()
        } else {
            [&(kind as u16).to_be_bytes()[..], &payload].concat()
        };
        frame.extend(payload);
        damage(r, &mut frame);
        (door.port.clone(), frame)
    }

    /// Who a frame comes from: whom it has to come from, mostly.
    fn sender(&self, r: &mut Random, door: &Door, v6: bool) -> ([u8; 6], IpAddr) {
        if !r.once(6)
            && let Some((mac, ips)) = &door.station
            && let ips = ips.iter().copied().filter(|ip| ip.is_ipv6() == v6).collect::<Vec<_>>()
            && !ips.is_empty()
        {
            return (*mac, *r.pick(&ips));
        }
        let own = door.station.clone().unwrap_or((ROUTER, vec![outsider(r, true), outsider(r, false)]));
        let other = |r: &mut Random| match &self.stations[..] {
            [] => own.clone(),
            stations => r.pick(stations).1.clone(),
        };
        let mac = if r.once(20) { other(r).0 } else { own.0 };
        let ips = if r.once(16) { other(r).1 } else { own.1.clone() };
        let ips: Vec<_> = ips.into_iter().filter(|ip| ip.is_ipv6() == v6).collect();
        let ip = match r.below(20) {
            0 => special(r, v6),
            1 => outsider(r, v6),
            2 if v6 => link_local(mac),
            _ if ips.is_empty() => outsider(r, v6),
            _ => *r.pick(&ips),
        };
        (mac, ip)
    }

    fn target(&self, r: &mut Random, door: &Door, v6: bool) -> ([u8; 6], IpAddr) {
        // Mostly a station of this switch and network.
        let here = self.doors.iter().filter(|other| other.network == door.network && other.port != door.port);
        let here: Vec<_> = here.filter_map(|other| other.station.as_ref()).collect();
        let all: Vec<_> = self.stations.iter().map(|(_, station)| station).collect();
        let stations = if here.is_empty() || r.once(6) { all } else { here };
        let ends = stations.into_iter().flat_map(|(mac, ips)| ips.iter().map(|ip| (*mac, *ip)));
        let ends: Vec<_> = ends.filter(|(_, ip)| ip.is_ipv6() == v6).collect();
        match r.below(16) {
            0 => (BROADCAST, special(r, v6)),
            1 => (ROUTER, host(r, v6)),
            2 | 3 => (ROUTER, outsider(r, v6)),
            _ if ends.is_empty() => (ROUTER, outsider(r, v6)),
            _ => *r.pick(&ends),
        }
    }

    /// What an IP packet carries: protocol and bytes.
    fn message(&self, r: &mut Random, v6: bool, ends: [IpAddr; 2]) -> (u8, Vec<u8>) {
        let mut protocol = *r.pick(&PROTOCOLS);
        if matches!(protocol, 1 | 58) && !r.once(8) {
            protocol = if v6 { 58 } else { 1 };
        }
        let message = match protocol {
            1 | 58 => self.icmp(r, v6, ends),
            _ => transport(r, protocol),
        };
        (protocol, message)
    }

    fn icmp(&self, r: &mut Random, v6: bool, [from, to]: [IpAddr; 2]) -> Vec<u8> {
        let types: &[u8] = if v6 {
            &[128, 128, 128, 129, 129, 1, 2, 3, 4, 130, 133, 134, 135, 136, 137, 139, 143, 0, 255]
        } else {
            &[8, 8, 8, 0, 0, 3, 3, 4, 5, 11, 12, 13, 14, 15, 16, 9, 17, 255]
        };
        let kind = *r.pick(types);
        let code = if r.once(3) { r.byte() & 3 } else { 0 };
        let mut message = vec![kind, code, r.byte(), r.byte(), 0, r.byte() & 1, 0, 1];
        if matches!((v6, kind), (false, 3..=5 | 11 | 12) | (true, 1..=4)) {
            // About a packet that travelled the other way.
            let protocol = *r.pick(&PROTOCOLS);
            let inner = transport(r, protocol);
            message.extend(datagram(r, [to, from], protocol, inner));
        } else {
            message.extend(r.bytes(24));
        }
        message
    }
}

fn transport(r: &mut Random, protocol: u8) -> Vec<u8> {
    let mut ports = [r.pick(&PORTS).to_be_bytes(), r.pick(&PORTS).to_be_bytes()].concat();
    match protocol {
        6 => {
            ports.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, r.byte(), 0xff, 0xff, 0, 0, 0, 0]);
            ports.extend(r.bytes(8));
        }
        17 => {
            let data = r.bytes(8);
            ports.extend((8 + data.len() as u16).to_be_bytes());
            ports.extend([0, 0]);
            ports.extend(data);
        }
        132 => ports.extend([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4]),
        _ => ports = r.bytes(40),
    }
    ports
}

/// An IP packet; now and then a fragment, with options or extension headers.
fn datagram(r: &mut Random, [from, to]: [IpAddr; 2], protocol: u8, message: Vec<u8>) -> Vec<u8> {
    let fragment = match r.below(12) {
        0 => Some(*r.pick(&[0x2000u16, 0x2000, 0x0010, 0x2010, 0x1fff, 0x8000, 0x4000])),
        _ => None,
    };
    let mut packet = Vec::new();
    if from.is_ipv4() {
        let options = if r.once(10) { 4 * r.below(11) } else { 0 };
        packet.extend([0x45 + (options / 4) as u8, r.byte()]);
        packet.extend(((20 + options + message.len()) as u16).to_be_bytes());
        packet.extend([0x12, 0x34]);
        packet.extend(fragment.unwrap_or(if r.once(2) { 0x4000 } else { 0 }).to_be_bytes());
        packet.extend([64, protocol, 0, 0]);
        packet.extend(octets(from));
        packet.extend(octets(to));
        packet.extend(vec![1; options]);
        packet.extend(message);
        return packet;
    }
    // The headers, last first.
    let (mut next, mut payload) = (protocol, message);
    if let Some(fragment) = fragment {
        // More to come is bit 0 here, and the offset is 3 bits further left.
        let word = (fragment << 3 | u16::from(fragment & 0x2000 != 0)).to_be_bytes();
        payload = [&[next, 0, word[0], word[1], 0, 0, 0x12, 0x34], &payload[..]].concat();
        next = 44;
    }
    for _ in 0..(if r.once(5) { 1 + r.below(3) } else { 0 }) {
        let kind = *r.pick(&[0u8, 43, 60, 51, 44, 50, 135]);
        let units = r.below(3);
        let mut header = match kind {
            51 => vec![next, (4 + units) as u8 - 2],
            44 => vec![next, 0],
            _ => vec![next, units as u8],
        };
        let length = match kind {
            51 => (4 + units) * 4,
            44 => 8,
            _ => (1 + units) * 8,
        };
        header.resize(length, 0);
        payload = [header, payload].concat();
        next = kind;
    }
    packet.extend([0x60, 0, 0, 0]);
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, if r.once(4) { 64 } else { 255 }]);
    packet.extend(octets(from));
    packet.extend(octets(to));
    packet.extend(payload);
    packet
}

fn arp(r: &mut Random, mac: [u8; 6], from: IpAddr, to_mac: [u8; 6], to: IpAddr) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, *r.pick(&[1u8, 1, 1, 2, 2, 0, 3])];
    if r.once(24) {
        arp[r.below(8)] ^= 1 << r.below(8);
    }
    let sender = if r.once(12) { ROUTER } else { mac };
    arp.extend(sender);
    arp.extend(if r.once(12) { vec![0; 4] } else { octets(from) });
    arp.extend(if r.once(2) { [0; 6] } else { to_mac });
    arp.extend(if r.once(12) { octets(from) } else { octets(to) });
    arp
}

/// Neighbour discovery: a message about `to`, from `from`.
fn neighbour(r: &mut Random, mac: [u8; 6], from: IpAddr, to: IpAddr) -> Vec<u8> {
    let kind = *r.pick(&[135u8, 135, 135, 136, 136, 133, 134, 137]);
    let mut message = vec![kind, u8::from(r.once(12)), 0, 0, r.byte() & 0xe0, 0, 0, 0];
    message.extend(octets(if r.once(8) { from } else { to }));
    for _ in 0..*r.pick(&[1, 1, 1, 0, 2, 3]) {
        message.extend([*r.pick(&[1u8, 1, 2, 2, 14]), if r.once(8) { r.byte() & 3 } else { 1 }]);
        message.extend(if r.once(8) { ROUTER } else { mac });
    }
    let from = match r.below(4) {
        0 => link_local(mac),
        1 if r.once(2) => Ipv6Addr::UNSPECIFIED.into(),
        _ => from,
    };
    datagram(r, [from, to], 58, message)
}

fn dhcp(r: &mut Random, mac: [u8; 6], from: IpAddr, to_mac: [u8; 6], to: IpAddr, v6: bool) -> ([u8; 6], u64, Vec<u8>) {
    let asks = r.once(2);
    let [mut a, mut b] = if v6 { [546u16, 547] } else { [68, 67] };
    if !asks {
        (a, b) = (b, a);
    }
    let message = [&a.to_be_bytes()[..], &b.to_be_bytes(), &[0, 8, 0, 0]].concat();
    let (group, own, all): (_, _, IpAddr) = if v6 {
        ([0x33, 0x33, 0, 1, 0, 2], link_local(mac), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2).into())
    } else {
        (BROADCAST, Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into())
    };
    let ends = [if r.once(4) { from } else { own }, if r.once(4) { to } else { all }];
    let to_mac = if asks && !r.once(8) { group } else { to_mac };
    (to_mac, if v6 { 0x86dd } else { 0x0800 }, datagram(r, ends, 17, message))
}

fn host(r: &mut Random, v6: bool) -> IpAddr {
    let last = 1 + r.below(16) as u8;
    if v6 { Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).into() } else { [10, 0, 0, last].into() }
}

fn outsider(r: &mut Random, v6: bool) -> IpAddr {
    let last = 1 + r.below(6) as u8;
    if v6 { Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()).into() } else { [198, 51, 100, last].into() }
}

/// Addresses of nobody, of everybody, and of oneself.
fn special(r: &mut Random, v6: bool) -> IpAddr {
    let text = if v6 {
        ["::", "::1", "ff02::1", "ff02::1:ff00:1", "fe80::1", "::ffff:10.0.0.1", "ff05::2"][r.below(7)]
    } else {
        ["0.0.0.0", "255.255.255.255", "224.0.0.1", "239.1.2.3", "127.0.0.1", "10.0.0.255", "240.0.0.1"][r.below(7)]
    };
    text.parse().unwrap()
}

/// Now and then: bits that are wrong, bytes that are missing, bytes that are too many.
fn damage(r: &mut Random, frame: &mut Vec<u8>) {
    if r.once(12) {
        for _ in 0..1 + r.below(3) {
            let at = r.below(frame.len());
            frame[at] ^= 1 << r.below(8);
        }
    }
    if r.once(20) {
        frame.truncate(14 + r.below(frame.len() - 13));
    }
    if r.once(12) {
        frame.extend(r.bytes(30));
    }
}
