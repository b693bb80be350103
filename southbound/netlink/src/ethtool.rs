//! Transmit checksum offload, over ethtool's generic netlink family (Documentation/networking/ethtool-netlink.rst).
//!
//! The one request of that family that is needed is written here: the published `ethtool` crate can ask for features
//! and cannot set them.

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};

use crate::error::Error;
use crate::socket::Netlink;

/// The family of families (linux/genetlink.h, GENL_ID_CTRL), its request and the attributes used.
const CONTROL: u16 = 16;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;

/// The family of ethtool (linux/ethtool_netlink.h), its request and the attributes used.
const FAMILY: &str = "ethtool";
const FEATURES_SET: u8 = 12;
const FEATURES_HEADER: u16 = 1;
const FEATURES_WANTED: u16 = 3;
const HEADER_DEVICE_NAME: u16 = 2;
const HEADER_FLAGS: u16 = 3;
const BITSET_BITS: u16 = 3;
const BITSET_BIT: u16 = 1;
const BIT_NAME: u16 = 2;

/// Answer with nothing but whether it was done (ETHTOOL_FLAG_OMIT_REPLY).
const OMIT_REPLY: u32 = 2;

/// An attribute that holds attributes (netlink.h, NLA_F_NESTED); the rest of the number is its kind.
const NESTED: u16 = 1 << 15;
const KIND: u16 = (1 << 14) - 1;

/// What `ethtool -K DEVICE tx off` switches off: whatever leaves a checksum to the hardware.
const CHECKSUMS: [&str; 5] =
    ["tx-checksum-ipv4", "tx-checksum-ip-generic", "tx-checksum-ipv6", "tx-checksum-fcoe-crc", "tx-checksum-sctp"];

/// A generic netlink message: family, `struct genlmsghdr`, attributes.
struct Generic {
    family: u16,
    command: u8,
    attributes: Vec<u8>,
}

/// Length of `struct genlmsghdr`: command, version, two reserved bytes.
const GENERIC_HEADER: usize = 4;

impl NetlinkSerializable for Generic {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        GENERIC_HEADER + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let bytes = [self.command, 1, 0, 0].into_iter().chain(self.attributes.iter().copied());
        for (slot, byte) in buffer.iter_mut().zip(bytes) {
            *slot = byte;
        }
    }
}

impl NetlinkDeserializable for Generic {
    type Error = std::convert::Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Generic, Self::Error> {
        let command = payload.first().copied().unwrap_or_default();
        let attributes = payload.get(GENERIC_HEADER..).unwrap_or_default().to_vec();
        Ok(Generic { family: header.message_type, command, attributes })
    }
}

/// One attribute: length, kind, value, and bytes up to a multiple of four (netlink(7)).
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

/// The value of the first attribute of a kind.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?) & KIND;
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// The request that switches the checksums of a device off. Bits that are not named keep their value.
fn checksums_off(device: &str) -> Vec<u8> {
    let header = [text(HEADER_DEVICE_NAME, device), attribute(HEADER_FLAGS, &OMIT_REPLY.to_ne_bytes())].concat();
    let bits = CHECKSUMS.map(|name| attribute(BITSET_BIT | NESTED, &text(BIT_NAME, name))).concat();
    let wanted = attribute(BITSET_BITS | NESTED, &bits);
    [attribute(FEATURES_HEADER | NESTED, &header), attribute(FEATURES_WANTED | NESTED, &wanted)].concat()
}

impl Netlink {
    /// Lets the kernel compute the checksums of everything that leaves by this link, before it leaves. A userspace
    /// switch at the other end reads frames as they are: a checksum that was left to the hardware is a wrong one.
    ///
    /// # Errors
    /// When the kernel has no ethtool netlink (before 5.7), or there is no such link.
    pub fn checksums_off(&mut self, link: &str) -> Result<(), Error> {
        let what = || format!("ethtool's family, for {link}");
        let attributes = text(CONTROL_FAMILY_NAME, FAMILY);
        let asked = Generic { family: CONTROL, command: CONTROL_GET_FAMILY, attributes };
        let answers = self.generic(what, asked)?;
        let id = answers.iter().find_map(|answer| find(&answer.attributes, CONTROL_FAMILY_ID)?.first_chunk().copied());
        let id = id.ok_or_else(|| Error::Answer { what: what(), why: "it has no number".into() })?;
        let attributes = checksums_off(link);
        let set = Generic { family: u16::from_ne_bytes(id), command: FEATURES_SET, attributes };
        self.generic(|| format!("transmit checksums of {link}"), set).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others() {
        let both = [text(2, "abcd"), attribute(1 | NESTED, &7_u16.to_ne_bytes())].concat();
        assert_eq!(find(&both, 2), Some(&b"abcd\0"[..]));
        assert_eq!(find(&both, 1), Some(&7_u16.to_ne_bytes()[..]));
        assert_eq!(find(&both, 3), None);
    }

    #[test]
    fn broken_attributes_are_no_attributes() {
        for broken in [&[][..], &[0; 3], &[0, 0, 1, 0], &[9, 0, 1, 0, 5]] {
            assert_eq!(find(broken, 1), None, "{broken:?}");
        }
    }
}
