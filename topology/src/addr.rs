//! MAC addresses and IP prefixes.

use crate::{ParseError, serde_as_text};
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// A 48-bit Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address as a number, first octet most significant.
    pub fn to_bits(self) -> u64 {
        self.0.iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet))
    }

    /// The address that has these low 48 bits.
    pub fn from_bits(bits: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
        Self([a, b, c, d, e, f])
    }

    /// Whether this is a group address (broadcast included); no interface may own one.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// The IPv6 link-local address formed from this MAC (modified EUI-64, RFC 4291 appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0.map(u16::from);
        Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
    }
}

impl FromStr for Mac {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new("MAC address", text, "write six octets as 02:00:00:00:00:01");
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = u8::from_str_radix(part.ok_or_else(error)?, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() {
            return Err(error());
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

serde_as_text!(Mac);

/// Parses an IP address in its canonical sense: IPv4-mapped IPv6 addresses are refused, because one
/// host must not have two spellings.
pub fn parse_ip(text: &str) -> Result<IpAddr, ParseError> {
    let error = |why: &str| ParseError::new("IP address", text, why);
    match text.parse().map_err(|_| error("write it as 10.1.0.11 or fd00:1::11"))? {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(error("IPv4-mapped IPv6 addresses are refused; write the IPv4 address"))
        }
        ip => Ok(ip),
    }
}

/// An IP prefix without host bits. IPv4 sorts before IPv6, shorter before longer at one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpNet {
    addr: IpAddr,
    len: u8,
}

/// A prefix length that its address family does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("prefix length {len} is longer than {max} bits")]
pub struct PrefixError {
    /// The length that was asked for, in bits.
    pub len: u8,
    /// The family's longest, in bits.
    pub max: u8,
}

impl IpNet {
    /// Every IPv4 address.
    pub const V4_ANY: Self = Self { addr: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), len: 0 };
    /// Every IPv6 address.
    pub const V6_ANY: Self = Self { addr: IpAddr::V6(Ipv6Addr::UNSPECIFIED), len: 0 };

    /// The prefix of length `len` that holds `addr`; host bits are cleared.
    pub fn new(addr: IpAddr, len: u8) -> Result<Self, PrefixError> {
        let max = width(addr);
        if len > max {
            return Err(PrefixError { len, max });
        }
        Ok(Self { addr: mask(addr, len), len })
    }

    /// The prefix of exactly one address.
    pub fn host(addr: IpAddr) -> Self {
        Self { addr, len: width(addr) }
    }

    /// The first address of the prefix.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Length in bits: 0-32 for IPv4, 0-128 for IPv6.
    pub fn prefix_len(&self) -> u8 {
        self.len
    }

    /// Whether the family is IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.addr.is_ipv4()
    }

    /// Whether `ip` lies in the prefix. Families never match each other.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.is_ipv4() && mask(ip, self.len) == self.addr
    }

    /// Whether an address of this subnet may be a host's: not the subnet's own (IPv6: that of any of its routers, RFC 4291
    /// §2.6.1) and not its broadcast address. A subnet of one or two addresses has neither (RFC 3021, RFC 6164).
    pub fn is_host(&self, ip: IpAddr) -> bool {
        let (first, mask) = self.to_bits();
        let (bits, width) = match ip {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let last = first | !mask & (u128::MAX >> (128 - width));
        u32::from(self.len) + 1 >= width || (bits != first && (ip.is_ipv6() || bits != last))
    }

    /// Whether all of `other` lies in this prefix.
    pub fn covers(&self, other: &Self) -> bool {
        self.len <= other.len && self.contains(other.addr)
    }

    /// This prefix and every one that it lies in, longest first.
    pub fn and_above(self) -> impl Iterator<Item = Self> {
        (0..=self.len).rev().map(move |len| Self { addr: mask(self.addr, len), len })
    }

    /// Address and mask as numbers, right-aligned in the family's width.
    pub fn to_bits(&self) -> (u128, u128) {
        match self.addr {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0);
                (v4.to_bits().into(), mask.into())
            }
            IpAddr::V6(v6) => (v6.to_bits(), u128::MAX.checked_shl(128 - u32::from(self.len)).unwrap_or(0)),
        }
    }
}

/// Addresses as prefixes that no other one covers, for finding out quickly what lies in them.
#[derive(Debug, Clone, Default)]
pub struct Cover(Vec<IpNet>);

impl Cover {
    /// All addresses of these prefixes.
    pub fn of<'a>(prefixes: impl IntoIterator<Item = &'a IpNet>) -> Self {
        let mut prefixes: Vec<IpNet> = prefixes.into_iter().copied().collect();
        prefixes.sort_unstable();
        // Prefixes nest or are disjoint, and each comes before those inside it.
        prefixes.dedup_by(|inner, outer| outer.covers(inner));
        Self(prefixes)
    }

    /// Whether one of the prefixes covers `prefix`. It takes steps of the logarithm of their number.
    pub fn covers(&self, prefix: &IpNet) -> bool {
        let behind = self.0.partition_point(|outer| outer <= prefix);
        behind.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|outer| outer.covers(prefix))
    }
}

fn width(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

fn mask(addr: IpAddr, len: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

impl FromStr for IpNet {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = |why: String| ParseError::new("CIDR", text, why);
        let (addr, len) = text
            .split_once('/')
            .ok_or_else(|| error("write a prefix length, as in 10.1.0.0/16 or fd00:1::/64".into()))?;
        let addr = parse_ip(addr).map_err(|e| error(e.why))?;
        if len.is_empty() || len.len() > 3 || !len.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error("the prefix length is a number of bits".into()));
        }
        let len: u8 = len.parse().map_err(|_| error("the prefix length is a number of bits".into()))?;
        let net = Self::new(addr, len).map_err(|e| error(e.to_string()))?;
        if net.addr != addr {
            return Err(error(format!("it has host bits set; write {net}")));
        }
        Ok(net)
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

serde_as_text!(IpNet);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn macs_have_one_spelling() {
        let mac: Mac = "02-AB-00-00-00-0F".parse().unwrap();
        assert_eq!(mac.to_string(), "02:ab:00:00:00:0f");
        assert_eq!(Mac::from_bits(mac.to_bits()), mac);
        assert_eq!(mac.link_local().to_string(), "fe80::ab:ff:fe00:f");
        for bad in ["", "02:00:00:00:00", "02:00:00:00:00:00:00", "2:0:0:0:0:1", "+2:00:00:00:00:01"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn prefixes_hold_what_they_say() {
        let net: IpNet = "10.1.0.0/16".parse().unwrap();
        assert!(net.contains("10.1.255.255".parse().unwrap()));
        assert!(!net.contains("10.2.0.0".parse().unwrap()));
        assert!(!net.contains("::10.1.0.0".parse().unwrap()));
        assert!(IpNet::V4_ANY.covers(&net) && !IpNet::V6_ANY.covers(&net));
        assert_eq!(IpNet::V6_ANY.to_bits(), (0, 0));
        let above: Vec<IpNet> = net.and_above().collect();
        assert_eq!((above.len(), above.first(), above.last()), (17, Some(&net), Some(&IpNet::V4_ANY)));
        assert!(above.iter().all(|above| above.covers(&net)));
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let all = ["10.0.0.0/8", "10.0.0.0/16", "10.9.0.0/16", "192.0.2.0/24", "fd00::/16"].map(net);
        let cover = Cover::of(&all);
        for inside in ["10.0.0.0/8", "10.200.0.0/16", "192.0.2.128/25", "fd00:1::/32"] {
            assert!(cover.covers(&net(inside)), "{inside}");
        }
        for outside in ["0.0.0.0/0", "9.0.0.0/8", "11.0.0.0/8", "192.0.2.0/23", "::/0", "fd01::/16"] {
            assert!(!cover.covers(&net(outside)), "{outside}");
        }
        for bad in ["10.1.0.1/16", "10.1.0.0", "10.1.0.0/33", "fd00::/129", "10.1.0.0/", "::ffff:1.2.3.4/128"] {
            assert!(bad.parse::<IpNet>().is_err(), "{bad}");
        }
    }
}
