//! A frame with what the pipeline changed in its packet.

use bulkhead_pipeline::{Field, Packet, ethertype, frag, ip_proto, vlan};
use std::{ops::Range, slice::from_ref};

/// Bytes of both addresses, in front of the ethertype or a tag.
const ADDRESSES: usize = 12;
/// Bytes of a tag.
const TAG: usize = 4;
/// Bytes of what stands before an ethertype that follows a length (RFC 1042).
const SNAP: usize = 8;

/// The frame that was `before` as it is `after`: its other bytes stay what they are, checksums fit again if they did.
pub(super) fn rewritten(frame: &[u8], before: &Packet, after: &Packet) -> Vec<u8> {
    let mut new = Frame { bytes: frame.to_vec(), before, after };
    new.field(Field::EthDst, 0, 6);
    new.field(Field::EthSrc, 6, 6);
    let tagged = before.value(Field::Vlan) != 0;
    let kind = ADDRESSES + if tagged { TAG } else { 0 };
    let long = number(frame, kind, 2).is_some_and(|kind| kind < ethertype::LEAST);
    let at = kind + 2 + if long { SNAP } else { 0 };
    match before.value(Field::EthType) {
        ethertype::ARP => {
            let fields = [(Field::ArpOp, 6, 2), (Field::ArpSha, 8, 6), (Field::ArpSpa, 14, 4), (Field::ArpTha, 18, 6)];
            for (field, offset, length) in fields.into_iter().chain([(Field::ArpTpa, 24, 4)]) {
                new.field(field, at + offset, length);
            }
        }
        ethertype::IPV4 => {
            let header = usize::from(frame.get(at).copied().unwrap_or(0) & 0xf) * 4;
            for (field, offset, length) in [(Field::Ipv4Src, 12, 4), (Field::Ipv4Dst, 16, 4), (Field::IpTtl, 8, 1)] {
                new.field(field, at + offset, length);
            }
            new.sum_up(frame, at + 10, from_ref(&(at..at + header)));
            new.transport(frame, at + header, at + 12..at + 20);
        }
        ethertype::IPV6 => {
            for (field, offset, length) in [(Field::Ipv6Src, 8, 16), (Field::Ipv6Dst, 24, 16), (Field::IpTtl, 7, 1)] {
                new.field(field, at + offset, length);
            }
            new.transport(frame, past_extensions(frame, at), at + 8..at + 40);
        }
        _ => {}
    }
    let mut bytes = new.bytes;
    let id = after.value(Field::Vlan);
    let tag = bytes.get(ADDRESSES + 2..ADDRESSES + TAG).filter(|_| tagged).and_then(|tag| number(tag, 0, 2));
    // The tag's other bits stay.
    let tci = (tag.unwrap_or(0) & 0xf000 | id & vlan::ID) as u16;
    match (tagged, id & vlan::PRESENT != 0) {
        (true, true) => put(&mut bytes, ADDRESSES + 2, 2, tci.into()),
        (true, false) => drop(bytes.drain(ADDRESSES..ADDRESSES + TAG)),
        (false, true) => {
            let [high, low] = tci.to_be_bytes();
            bytes.splice(ADDRESSES..ADDRESSES, [0x81, 0, high, low]);
        }
        (false, false) => {}
    }
    bytes
}

struct Frame<'a> {
    bytes: Vec<u8>,
    before: &'a Packet,
    after: &'a Packet,
}

impl Frame<'_> {
    /// Writes a field, if it changed.
    fn field(&mut self, field: Field, at: usize, length: usize) {
        if self.before.get(field) != self.after.get(field) {
            put(&mut self.bytes, at, length, self.after.value(field));
        }
    }

    /// What is behind IP's header; its checksum is over these addresses too.
    fn transport(&mut self, frame: &[u8], at: usize, addresses: Range<usize>) {
        if self.before.value(Field::IpFrag) & frag::LATER != 0 {
            return;
        }
        let rest = at..frame.len();
        match self.before.value(Field::IpProto) {
            ip_proto::ICMP => {
                self.message(at);
                self.sum_up(frame, at + 2, from_ref(&rest));
            }
            ip_proto::ICMPV6 => {
                self.message(at);
                self.neighbour(at);
                self.sum_up(frame, at + 2, &[addresses, rest]);
            }
            ip_proto::TCP => self.sum_up(frame, at + 16, from_ref(&addresses)),
            // None is none (RFC 768).
            ip_proto::UDP if number(frame, at + 6, 2) != Some(0) => self.sum_up(frame, at + 6, from_ref(&addresses)),
            _ => {}
        }
    }

    fn message(&mut self, at: usize) {
        self.field(Field::IcmpType, at, 1);
        self.field(Field::IcmpCode, at + 1, 1);
    }

    /// A neighbour solicitation or advertisement, and its first option with an address (RFC 4861 §4.3, §4.4).
    fn neighbour(&mut self, at: usize) {
        self.field(Field::NdReserved, at + 4, 4);
        self.field(Field::NdTarget, at + 8, 16);
        let (was, is) = (self.before.value(Field::NdOption), self.after.value(Field::NdOption));
        if was == 0 {
            return;
        }
        let mut option = at + 24;
        while let (Some(kind), Some(length @ 1..)) =
            (number(&self.bytes, option, 1), number(&self.bytes, option + 1, 1))
        {
            if kind == was && length == 1 {
                put(&mut self.bytes, option, 1, is);
                let address = if is == 1 { Field::NdSll } else { Field::NdTll };
                put(&mut self.bytes, option + 2, 6, self.after.value(address));
                return;
            }
            option += length as usize * 8;
        }
    }

    /// Makes a checksum fit what changed in these parts of the frame (RFC 1624 §3, equation 3). Each begins at an even
    /// byte of what it is over.
    fn sum_up(&mut self, frame: &[u8], at: usize, parts: &[Range<usize>]) {
        let Some(old) = number(frame, at, 2) else { return };
        let mut sum = !old & 0xffff;
        for part in parts {
            let (Some(was), Some(is)) = (frame.get(part.clone()), self.bytes.get(part.clone())) else { return };
            for (was, is) in was.chunks(2).zip(is.chunks(2)).filter(|(was, is)| was != is) {
                sum += (!word(was) & 0xffff) + word(is);
            }
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        if !sum & 0xffff != old {
            put(&mut self.bytes, at, 2, !sum & 0xffff);
        }
    }
}

/// Where what follows IPv6's extension headers begins, in a frame whose header is at `at`. The frame was read before: each
/// of them is there.
fn past_extensions(frame: &[u8], at: usize) -> usize {
    let (mut kind, mut next) = (number(frame, at + 6, 1), at + 40);
    while let (Some(found @ (0 | 43 | 44 | 51 | 60)), Some(length)) = (kind, number(frame, next + 1, 1)) {
        kind = number(frame, next, 1);
        next += match found {
            44 => 8,
            51 => (length as usize + 2) * 4,
            _ => (length as usize + 1) * 8,
        };
    }
    next
}

/// Two bytes as a number; what is missing is zero.
fn word(bytes: &[u8]) -> u128 {
    let byte = |at| u128::from(bytes.get(at).copied().unwrap_or(0));
    byte(0) << 8 | byte(1)
}

/// The big-endian number of `length` bytes at `at`.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u128> {
    Some(bytes.get(at..at + length)?.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte)))
}

/// Writes such a number, where there is room for it.
fn put(bytes: &mut [u8], at: usize, length: usize, value: u128) {
    if let (Some(room), Some(value)) = (bytes.get_mut(at..at + length), value.to_be_bytes().get(16 - length..)) {
        room.copy_from_slice(value);
    }
}
