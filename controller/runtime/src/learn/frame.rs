//! What a frame says about its sender, and whom it looks for.

use bulkhead_topology::Mac;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// ARP for IPv4 on Ethernet (RFC 826): hardware type 1, protocol type, lengths 6 and 4.
const ARP_ETHERNET: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
const ARP_REQUEST: u16 = 1;
const ICMPV6: u8 = 58;
/// Neighbour solicitation, of code 0, and its hop limit (RFC 4861 §4.3, §7.1.1).
const SOLICITATION: [u8; 2] = [135, 0];
const HOP_LIMIT: u8 = 255;
/// Longest question that is passed on: a solicitation with one option (RFC 4861 §4.3), and padding.
const LONGEST: usize = 128;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    /// Its sender.
    pub mac: Mac,
    /// The address that the sender uses.
    pub ip: IpAddr,
    /// The address that it asks for.
    pub asks: Option<IpAddr>,
}

/// Reads a frame, or its beginning; `None` if it says nothing about an address of its sender.
pub(crate) fn read(frame: &[u8]) -> Option<Said> {
    let mac = Mac(bytes(frame, 6)?);
    if mac.is_multicast() || mac.to_bits() == 0 {
        return None;
    }
    let short = frame.len() <= LONGEST;
    let (ip, asks): (IpAddr, Option<IpAddr>) = match u16::from_be_bytes(bytes(frame, 12)?) {
        ETHERTYPE_ARP if bytes(frame, 14)? == ARP_ETHERNET && Mac(bytes(frame, 22)?) == mac => {
            let asks = u16::from_be_bytes(bytes(frame, 20)?) == ARP_REQUEST;
            let target = Ipv4Addr::from(bytes::<4>(frame, 38)?);
            (Ipv4Addr::from(bytes::<4>(frame, 28)?).into(), asks.then_some(target.into()))
        }
        ETHERTYPE_IPV4 if frame.get(14)? >> 4 == 4 => (Ipv4Addr::from(bytes::<4>(frame, 26)?).into(), None),
        ETHERTYPE_IPV6 if frame.get(14)? >> 4 == 6 => {
            let [next, hops] = bytes(frame, 20)?;
            let asks = next == ICMPV6 && hops == HOP_LIMIT && bytes(frame, 54) == Some(SOLICITATION);
            let target = bytes::<16>(frame, 62).filter(|_| asks).map(|target| Ipv6Addr::from(target).into());
            (Ipv6Addr::from(bytes::<16>(frame, 22)?).into(), target)
        }
        _ => return None,
    };
    // A gratuitous announcement asks nobody.
    let asks = asks.filter(|target: &IpAddr| *target != ip && short);
    (!ip.is_unspecified() && !ip.is_multicast()).then_some(Said { mac, ip, asks })
}

fn bytes<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..)?.first_chunk().copied()
}
