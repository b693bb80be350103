//! Frames that look like a workload's.

// Every test file uses a part of it.
#![allow(dead_code)]

use bulkhead_pipeline::{Field, Packet, ethertype, overlay::GATEWAY_MAC};
use bulkhead_topology::Port;

/// Numbers that look random: Marsaglia's xorshift64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }

    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    pub fn often(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

pub fn mac(n: u32) -> [u8; 6] {
    match n {
        0 => GATEWAY_MAC.0,
        5 => [6, 0, 0, 0, 0, 1],
        6 => [0xff; 6],
        n => [2, 0, 0, 0, 0, n as u8],
    }
}

pub fn v4(n: u32) -> [u8; 4] {
    match n {
        0 => [10, 0, 0, 254],
        5 => [198, 51, 100, 7],
        6 => [10, 0, 0, 77],
        n => [10, 0, (n / 3) as u8, n as u8],
    }
}

pub fn v6(n: u32) -> [u8; 16] {
    let mut address = [0; 16];
    address[0] = 0xfd;
    address[15] = match n {
        0 => 0xfe,
        5 => {
            address[..2].copy_from_slice(&[0x20, 1]);
            7
        }
        6 => 77,
        n => n as u8,
    };
    address
}

pub fn transport(random: &mut Random, v6: bool) -> (u8, Vec<u8>) {
    let port = |random: &mut Random| random.of(&[53u16, 80, 81, 82, 84, 22, 40_000]).to_be_bytes();
    let [src, dst] = [port(random), port(random)];
    match random.below(10) {
        0..=3 => {
            let flags = random.of(&[2u8, 2, 18, 16, 16, 17, 4, 20, 0, 1, 6]);
            (6, [&src[..], &dst, &[0; 8], &[0x50, flags, 1, 1, 0, 0, 0, 0], &[7; 3]].concat())
        }
        4..=6 => (17, [&src[..], &dst, &[0, 10, 0, 0, 7, 7]].concat()),
        7 => {
            let chunk = random.of(&[0u8, 1, 1, 2, 3]);
            (132, [&src[..], &dst, &[0; 8], &[chunk, 0, 0, 4]].concat())
        }
        8 => {
            let kinds: &[u8] = if v6 { &[128, 128, 129, 1, 3, 139] } else { &[8, 8, 0, 3, 11, 5, 13, 14, 30] };
            let kind = random.of(kinds);
            let code = if random.often(90) { 0 } else { 1 };
            (if v6 { 58 } else { 1 }, vec![kind, code, 0, 0, 0, 1, 0, 2, 9, 9, 9])
        }
        _ => (random.of(&[47u8, 50, 4]), vec![1; 9]),
    }
}

pub fn ipv4(random: &mut Random, frame: &mut Vec<u8>, sender: u32, to: u32) {
    let (protocol, payload) = transport(random, false);
    let options = if random.often(5) { 1 } else { 0 };
    let length = 20 + 4 * options + payload.len();
    let fragment = random.of(&[0u16, 0, 0, 0, 0, 0, 0, 0, 0, 0x4000, 0x2000, 0x0005, 0x2005]);
    let ttl = random.of(&[64u8, 64, 64, 64, 2, 1, 0]);
    frame.extend([8, 0, 0x45 + options as u8, 0]);
    frame.extend((length as u16).to_be_bytes());
    frame.extend([0, 1]);
    frame.extend(fragment.to_be_bytes());
    let mut header = frame.split_off(frame.len() - 8);
    header.extend([ttl, protocol, 0, 0]);
    header.extend([v4(sender), v4(to)].concat());
    header.extend([1u8; 4].repeat(options));
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(header);
    frame.extend(payload);
}

pub fn ipv6(random: &mut Random, frame: &mut Vec<u8>, sender: u32, to: u32) {
    let (mut protocol, mut payload) = transport(random, true);
    if random.often(5) {
        let word = random.of(&[0u16, 1, 8, 9]).to_be_bytes();
        payload = [&[protocol, 0, word[0], word[1], 0, 0, 0, 1], &payload[..]].concat();
        protocol = 44;
    }
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([protocol, random.of(&[64u8, 64, 64, 64, 2, 1, 0])]);
    frame.extend([v6(sender), v6(to)].concat());
    frame.extend(payload);
}

/// A neighbour's message (RFC 4861 §4.3, §4.4).
pub fn neighbour(random: &mut Random, frame: &mut Vec<u8>, from: [u8; 6], sender: u32, to: u32) {
    let kind = random.of(&[135u8, 135, 135, 136]);
    let mut message = vec![kind, u8::from(random.often(3)), 0, 0, 0x60, 0, 0, 0];
    message.extend(v6(to));
    if random.often(80) {
        let own = if kind == 135 { 1 } else { 2 };
        let option = if random.often(90) { own } else { random.of(&[1, 2, 14]) };
        message.extend([&[option, 1][..], &from].concat());
    }
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, message.len() as u8, 58, 255]);
    frame.extend(if random.often(90) { v6(sender) } else { [0; 16] });
    frame.extend(v6(to));
    frame.extend(message);
}

/// RFC 1071.
pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Whether a frame is the packet that it should be.
pub fn is(packet: &Packet, frame: &[u8], id: Option<u32>) -> Result<(), String> {
    let found = Packet::parse(packet.in_port.clone(), frame).unwrap();
    for field in Field::ALL.into_iter().filter(|field| !field.is_metadata() && !field.is_tunnel()) {
        if matches!(field, Field::Conn | Field::Conjunction) {
            continue;
        }
        // Of the addresses in an advertisement, the option is what tells which one it is.
        if matches!(field, Field::NdSll | Field::NdTll) && packet.value(Field::NdOption) == 2 {
            let address = [Field::NdTll].map(|field| (packet.value(field), found.value(field)));
            if address.iter().any(|(wanted, found)| wanted != found) {
                return Err(format!("nd_tll: {address:x?}"));
            }
            continue;
        }
        if packet.get(field) != found.get(field) {
            return Err(format!("{}: {:x?} instead of {:x?}", field.as_str(), found.get(field), packet.get(field)));
        }
    }
    let at = if packet.value(Field::Vlan) == 0 { 14 } else { 18 };
    let ip = &frame[at..];
    match packet.value(Field::EthType) {
        ethertype::IPV4 => {
            let header = usize::from(ip[0] & 0xf) * 4;
            let rewritten = packet.in_port == Port::Number(0);
            if !rewritten && checksum(&ip[..header]) != 0 {
                return Err("IPv4's checksum".into());
            }
        }
        // The switch sums up all that there is.
        ethertype::IPV6 if packet.value(Field::IcmpType) == 136 && packet.value(Field::NdReserved) == 0x6000_0000 => {
            let length = u32::from(u16::from_be_bytes([ip[4], ip[5]])).to_be_bytes();
            let id = id.map(u32::to_be_bytes);
            let all = [&ip[8..40], &length, &[0, 0, 0, 58], &ip[40..], id.as_ref().map_or(&[], |id| &id[..])].concat();
            if id.is_some() && found.value(Field::EthSrc) != u128::from(GATEWAY_MAC.to_bits()) && checksum(&all) != 0 {
                return Err("ICMPv6's checksum".into());
            }
        }
        _ => {}
    }
    Ok(())
}
