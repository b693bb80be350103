//! Addresses of links.

use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::error::Error;
use crate::socket::{Netlink, Request};

/// An address that a link has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The link's number.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// How many of its leading bits are those of the link's network: 0 to 32, or to 128.
    pub length: u8,
    /// Whether somebody gave it to the link for good: not for a time, and not the host itself by what a router told
    /// there (`IFA_F_PERMANENT`).
    pub permanent: bool,
}

pub(crate) fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

impl Netlink {
    /// The addresses of the namespace's links, in order.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.dump(|| "the list of addresses".into(), &question)?;
        let mut addresses: Vec<_> = answers
            .iter()
            .filter_map(|answer| {
                let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
                // Of a point-to-point link the one is the far end's; everywhere else there is one, or both are equal.
                let local = message.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Local(ip) => Some(*ip),
                    _ => None,
                });
                let only = message.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Address(ip) => Some(*ip),
                    _ => None,
                });
                let (link, length) = (message.header.index, message.header.prefix_len);
                let permanent = message.header.flags.contains(AddressHeaderFlags::Permanent);
                Some(Address { link, ip: local.or(only)?, length, permanent })
            })
            .collect();
        addresses.sort();
        Ok(addresses)
    }

    /// Gives a link an address and the route to its network. An IPv6 address works at once: nobody is asked whether it
    /// is somebody else's (`IFA_F_NODAD`, RFC 4862 §5.4).
    ///
    /// # Errors
    /// [`Error::NoLink`], or when the kernel refuses, for instance because the link has the address.
    pub fn add_address(&mut self, link: &str, ip: IpAddr, length: u8) -> Result<(), Error> {
        let mut message = AddressMessage::default();
        message.header.family = family(ip);
        message.header.prefix_len = length;
        message.header.scope = AddressScope::Universe;
        message.header.index = self.link(link)?.index;
        message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
        if ip.is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let what = || format!("address {ip}/{length} on {link}");
        self.change(what, Request::Create, RouteNetlinkMessage::NewAddress(message))
    }
}
