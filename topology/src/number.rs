//! Numbers with a meaning of their own: VNI, datapath id, protocol and port.

use crate::{ParseError, serde_as_text};
use std::{fmt, str::FromStr};

/// A virtual network identifier: 24 bits, 0 excluded (RFC 7348 §5, RFC 8926 §3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

impl Vni {
    /// The largest VNI.
    pub const MAX: u32 = 0xff_ffff;

    /// A VNI, if `number` is in 1..=[`Self::MAX`].
    pub fn new(number: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }

    /// The number on the wire.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An OpenFlow datapath id (OF 1.3.5 §7.3.1), written `0x1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatapathId(pub u64);

impl FromStr for DatapathId {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let hex = text.strip_prefix("0x").unwrap_or(text);
        let plain = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
        match u64::from_str_radix(hex, 16) {
            Ok(0) | Err(_) => {}
            Ok(id) if plain => return Ok(Self(id)),
            Ok(_) => {}
        }
        Err(ParseError::new("datapath id", text, "write 1 to 16 hexadecimal digits, not all zero, as in 0x1"))
    }
}

impl fmt::Display for DatapathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

serde_as_text!(DatapathId);

/// An IP protocol with ports and one port of it, written `8080/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolPort {
    /// IP protocol number: 6, 17 or 132.
    pub protocol: u8,
    /// Port, 1-65535.
    pub port: u16,
}

impl FromStr for ProtocolPort {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new("port", text, "write port and protocol as 8080/tcp, 53/udp or 3868/sctp");
        let (port, protocol) = text.split_once('/').ok_or_else(error)?;
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => 6,
            "udp" => 17,
            "sctp" => 132,
            _ => return Err(error()),
        };
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        match port.parse() {
            Ok(0) | Err(_) => Err(error()),
            Ok(port) => Ok(Self { protocol, port }),
        }
    }
}

impl fmt::Display for ProtocolPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            6 => "tcp",
            17 => "udp",
            _ => "sctp",
        };
        write!(f, "{}/{protocol}", self.port)
    }
}

serde_as_text!(ProtocolPort);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn r18_a_vni_that_does_not_fit_is_none_and_not_another_one() {
        for (number, fits) in [(Vni::MAX / 5 * 4, true), (Vni::MAX, true), (Vni::MAX + 1, false), (u32::MAX, false)] {
            assert_eq!(Vni::new(number).map(Vni::get), fits.then_some(number));
        }
    }

    #[test]
    fn numbers_stay_in_range() {
        assert!(Vni::new(0).is_none() && Vni::new(1 << 24).is_none() && Vni::new(5001).is_some());
        assert_eq!("0x00A".parse::<DatapathId>().unwrap().to_string(), "0xa");
        assert!("0".parse::<DatapathId>().is_err() && "0x+1".parse::<DatapathId>().is_err());
        assert_eq!("8080/TCP".parse::<ProtocolPort>().unwrap().to_string(), "8080/tcp");
        for bad in ["0/tcp", "65536/tcp", "+1/tcp", "80", "80/icmp"] {
            assert!(bad.parse::<ProtocolPort>().is_err(), "{bad}");
        }
    }
}
