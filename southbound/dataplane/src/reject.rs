//! What the sender of a packet that goes no further is told: a TCP reset, or an ICMP error.
//!
//! Pure: a frame in, a frame out. No answer to what must not be answered (RFC 1122 §3.2.2, RFC 4443 §2.4 e):
//! errors, resets, later fragments, and whatever was not sent from one host to one other.

use std::net::IpAddr;

/// Why a packet goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A rule refuses it: a TCP reset, or ICMP unreachable.
    Refused,
    /// Its TTL ended at the gateway with this address, of the packet's family: ICMP time exceeded.
    Expired(IpAddr),
    /// No route leads on from the gateway with this address, of the packet's family: ICMP network unreachable, or no
    /// route to the destination.
    NoRoute(IpAddr),
    /// It is longer than an IP packet may be, which is so many bytes: ICMP fragmentation needed, or packet too big.
    TooBig(u16),
}

/// TTL and hop limit of answers.
const TTL: u8 = 64;
/// Bytes of a refused frame that a switch sends for it to be answered: link header, IP with options, and enough beyond.
pub const REJECT_BYTES: u16 = 256;
/// Answers per second and switch, by the switch's meter and by its driver: a switch may have no meters. A sender that
/// keeps asking gets its answers from its own timeouts (A19).
pub const REJECTS_PER_SECOND: u32 = 1000;
/// Bytes of the offending packet that are quoted at most: RFC 1812 §4.3.2.3 allows 548, and the switch sends
/// [`REJECT_BYTES`].
const QUOTE: usize = 512;
/// IPv6 extension headers that are read past.
const MAX_EXTENSIONS: usize = 8;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The frame that answers one that goes no further, to be sent back where it came from; `None` if nothing may be said.
pub fn answer(frame: &[u8], why: Why) -> Option<Vec<u8>> {
    let (to, rest) = frame.split_first_chunk::<6>()?;
    let (from, rest) = rest.split_first_chunk::<6>()?;
    // The group bit (IEEE 802): not from one station to one station.
    if to[0] & 1 == 1 || from[0] & 1 == 1 {
        return None;
    }
    let mut out = [from.as_slice(), to.as_slice()].concat();
    let (mut kind, mut rest) = number(rest)?;
    if kind == 0x8100 {
        let (tag, after) = number(rest)?;
        out.extend([0x81, 0]);
        out.extend(tag.to_be_bytes());
        (kind, rest) = number(after)?;
    }
    out.extend(kind.to_be_bytes());
    match kind {
        0x0800 => ipv4(rest, why, out),
        0x86dd => ipv6(rest, why, out),
        _ => None,
    }
}

/// The frame with a VLAN tag behind its addresses; VLAN 0 is none.
pub fn tagged(mut frame: Vec<u8>, vlan: u16) -> Vec<u8> {
    if vlan != 0 && frame.len() >= 12 {
        let [high, low] = vlan.to_be_bytes();
        frame.splice(12..12, [0x81, 0, high, low]);
    }
    frame
}

fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    bytes.split_first_chunk::<2>().map(|(head, tail)| (u16::from_be_bytes(*head), tail))
}

/// `N` bytes at `at`.
fn at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn ipv4(packet: &[u8], why: Why, mut out: Vec<u8>) -> Option<Vec<u8>> {
    let [version] = at(packet, 0)?;
    let header = usize::from(version & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes(at(packet, 2)?));
    let [protocol] = at(packet, 9)?;
    let (src, dst): ([u8; 4], [u8; 4]) = (at(packet, 12)?, at(packet, 16)?);
    let later = u16::from_be_bytes(at(packet, 6)?) & 0x1fff != 0;
    // 224.0.0.0 and above: multicast, reserved, broadcast. 0 and 127: no sender.
    let one_to_one = src[0] != 0 && src[0] != 127 && src[0] < 224 && dst[0] < 224;
    if version >> 4 != 4 || header < 20 || total < header || later || !one_to_one {
        return None;
    }
    let payload = packet.get(header..)?;
    let pseudo = |protocol: u8, length: u16| [&dst[..], &src[..], &[0, protocol], &length.to_be_bytes()[..]].concat();
    let (protocol, message) = if protocol == TCP && why == Why::Refused {
        (TCP, reset(payload, total - header, |length| pseudo(TCP, length))?)
    } else {
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792).
        if protocol == ICMP && matches!(payload.first()?, 3 | 4 | 5 | 11 | 12) {
            return None;
        }
        let (kind, argument) = match why {
            // Port unreachable; communication administratively prohibited (RFC 1812 §5.2.7.1).
            Why::Refused => ([3, if protocol == UDP { 3 } else { 13 }], 0),
            // Time to live exceeded in transit (RFC 792).
            Why::Expired(_) => ([11, 0], 0),
            // Network unreachable (RFC 792).
            Why::NoRoute(_) => ([3, 0], 0),
            // Fragmentation needed, and the next hop's MTU in the lower 16 bits (RFC 1191 §4).
            Why::TooBig(mtu) => ([3, 4], mtu.into()),
        };
        (ICMP, error(kind, argument, packet.get(..total).unwrap_or(packet), &[]))
    };
    let from = match why {
        Why::Expired(IpAddr::V4(gateway)) | Why::NoRoute(IpAddr::V4(gateway)) => gateway.octets(),
        Why::Expired(IpAddr::V6(_)) | Why::NoRoute(IpAddr::V6(_)) => return None,
        Why::Refused | Why::TooBig(_) => dst,
    };
    let start = out.len();
    out.extend([0x45, 0]);
    out.extend(u16::try_from(20 + message.len()).ok()?.to_be_bytes());
    // Do not fragment, identification 0 (RFC 6864 §4.1).
    out.extend([0, 0, 0x40, 0, TTL, protocol, 0, 0]);
    out.extend(from);
    out.extend(src);
    let sum = checksum(&[out.get(start..)?]).to_be_bytes();
    out.get_mut(start + 10..start + 12)?.copy_from_slice(&sum);
    out.extend(message);
    Some(out)
}

fn ipv6(packet: &[u8], why: Why, mut out: Vec<u8>) -> Option<Vec<u8>> {
    let [version] = at(packet, 0)?;
    let length = usize::from(u16::from_be_bytes(at(packet, 4)?));
    let [mut protocol] = at(packet, 6)?;
    let (src, dst): ([u8; 16], [u8; 16]) = (at(packet, 8)?, at(packet, 24)?);
    if version >> 4 != 6 || src[0] == 0xff || dst[0] == 0xff || src == [0; 16] {
        return None;
    }
    let mut header = 40;
    for _ in 0..MAX_EXTENSIONS {
        let skip = match protocol {
            // Hop-by-hop, routing, destination options (RFC 8200 §4).
            0 | 43 | 60 => (usize::from(at::<1>(packet, header + 1)?[0]) + 1) * 8,
            44 if u16::from_be_bytes(at(packet, header + 2)?) & 0xfff8 == 0 => 8,
            44 => return None,
            _ => break,
        };
        [protocol] = at(packet, header)?;
        header += skip;
    }
    let payload = packet.get(header..)?;
    let whole = (40 + length).checked_sub(header)?;
    let from = match why {
        Why::Expired(IpAddr::V6(gateway)) | Why::NoRoute(IpAddr::V6(gateway)) => gateway.octets(),
        Why::Expired(IpAddr::V4(_)) | Why::NoRoute(IpAddr::V4(_)) => return None,
        Why::Refused | Why::TooBig(_) => dst,
    };
    let pseudo = |protocol: u8, length: u16| {
        [&from[..], &src[..], &[0, 0], &length.to_be_bytes()[..], &[0, 0, 0, protocol]].concat()
    };
    let (protocol, message) = if protocol == TCP && why == Why::Refused {
        (TCP, reset(payload, whole, |length| pseudo(TCP, length))?)
    } else {
        // Errors are below 128 (RFC 4443 §2.1); 130 to 137 and 143 are the link's own business (RFC 2710,
        // RFC 4861, RFC 3810).
        if protocol == ICMPV6 && matches!(payload.first()?, 0..=127 | 130..=137 | 143) {
            return None;
        }
        let (kind, argument) = match why {
            // Port unreachable; administratively prohibited (RFC 4443 §3.1).
            Why::Refused => ([1, if protocol == UDP { 4 } else { 1 }], 0),
            // No route to the destination (RFC 4443 §3.1).
            Why::NoRoute(_) => ([1, 0], 0),
            // Packet too big, and how big it may be (RFC 4443 §3.2).
            Why::TooBig(mtu) => ([2, 0], mtu.into()),
            // Hop limit exceeded in transit (RFC 4443 §3.3).
            Why::Expired(_) => ([3, 0], 0),
        };
        let quote = packet.get(..40 + length).unwrap_or(packet);
        let size = u16::try_from(8 + quote.len().min(QUOTE)).ok()?;
        (ICMPV6, error(kind, argument, quote, &pseudo(ICMPV6, size)))
    };
    out.extend([0x60, 0, 0, 0]);
    out.extend(u16::try_from(message.len()).ok()?.to_be_bytes());
    out.extend([protocol, TTL]);
    out.extend(from);
    out.extend(src);
    out.extend(message);
    Some(out)
}

/// The reset that answers a TCP segment of `length` bytes, header included (RFC 9293 §3.10.7.1).
fn reset(segment: &[u8], length: usize, pseudo: impl FnOnce(u16) -> Vec<u8>) -> Option<Vec<u8>> {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;
    let (src, dst): ([u8; 2], [u8; 2]) = (at(segment, 0)?, at(segment, 2)?);
    let sequence = u32::from_be_bytes(at(segment, 4)?);
    let acknowledged: [u8; 4] = at(segment, 8)?;
    let [offset, flags] = at(segment, 12)?;
    if flags & RST != 0 {
        return None;
    }
    let data = length.checked_sub(usize::from(offset >> 4) * 4)?;
    let taken = data + usize::from(flags & SYN != 0) + usize::from(flags & FIN != 0);
    let next = sequence.wrapping_add(taken as u32).to_be_bytes();
    let (sequence, next, flags) = match flags & ACK {
        0 => ([0; 4], next, RST | ACK),
        _ => (acknowledged, [0; 4], RST),
    };
    let mut out = [&dst[..], &src, &sequence, &next, &[0x50, flags], &[0; 6]].concat();
    let sum = checksum(&[&pseudo(20), &out]).to_be_bytes();
    out.get_mut(16..18)?.copy_from_slice(&sum);
    Some(out)
}

/// An ICMP error of this type and code, with its argument, that quotes the packet.
fn error(kind: [u8; 2], argument: u32, packet: &[u8], pseudo: &[u8]) -> Vec<u8> {
    let quote = packet.get(..QUOTE).unwrap_or(packet);
    let argument = argument.to_be_bytes();
    let sum = checksum(&[pseudo, &kind, &argument, quote]).to_be_bytes();
    [&kind[..], &sum, &argument, quote].concat()
}

/// The Internet checksum (RFC 1071) over parts, all but the last of which have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum = words.fold(0u64, |sum, word| match *word {
        [high, low] => sum + u64::from(u16::from_be_bytes([high, low])),
        [high] => sum + u64::from(u16::from_be_bytes([high, 0])),
        _ => sum,
    });
    let mut folded = sum;
    while folded >> 16 != 0 {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    !(folded as u16)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
