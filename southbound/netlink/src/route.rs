//! Routes of the main table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::address::family;
use crate::error::Error;
use crate::socket::{Netlink, Request};

/// A way to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The network's first address.
    pub to: IpAddr,
    /// How many of its leading bits count: 0 to 32, or to 128.
    pub length: u8,
    /// Who carries it on; nobody where the network is at the link itself.
    pub via: Option<IpAddr>,
    /// The number of the link that it leads out of.
    pub link: u32,
}

impl Netlink {
    /// The unicast routes of the main table, in order.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let question = RouteNetlinkMessage::GetRoute(message);
            let answers = self.dump(|| "the list of routes".into(), &question)?;
            routes.extend(answers.iter().filter_map(read));
        }
        routes.sort();
        Ok(routes)
    }

    /// The link that what is for an address leaves by now; `None` if nothing leads there, or only because a router there
    /// said so (RFC 4861 §6.3.4).
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn link_towards(&mut self, to: IpAddr) -> Result<Option<u32>, Error> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(to);
        message.header.destination_prefix_length = if to.is_ipv4() { 32 } else { 128 };
        message.attributes = vec![RouteAttribute::Destination(to.into())];
        let answers = match self.ask(|| format!("the way to {to}"), RouteNetlinkMessage::GetRoute(message)) {
            Err(Error::Refused { .. }) => return Ok(None),
            answers => answers?,
        };
        Ok(answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(message) if message.header.protocol != RouteProtocol::Ra => {
                message.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Oif(index) => Some(*index),
                    _ => None,
                })
            }
            _ => None,
        }))
    }

    /// Adds a route to the main table, out of a link, by way of a router or to whoever is there.
    ///
    /// # Errors
    /// [`Error::NoLink`], or when the kernel refuses, for instance because there is such a route.
    pub fn add_route(&mut self, to: IpAddr, length: u8, via: Option<IpAddr>, link: &str) -> Result<(), Error> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(to),
            destination_prefix_length: length,
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: if via.is_some() { RouteScope::Universe } else { RouteScope::Link },
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        message.attributes = vec![RouteAttribute::Oif(self.link(link)?.index), RouteAttribute::Destination(to.into())];
        message.attributes.extend(via.map(|via| RouteAttribute::Gateway(via.into())));
        let what = || format!("route to {to}/{length} by {link}");
        self.change(what, Request::Create, RouteNetlinkMessage::NewRoute(message))
    }
}

fn read(answer: &RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = answer else { return None };
    if message.header.table != RouteHeader::RT_TABLE_MAIN || message.header.kind != RouteType::Unicast {
        return None;
    }
    let any = || match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let (mut to, mut via, mut link) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let (to, length) = (to.unwrap_or_else(any), message.header.destination_prefix_length);
    Some(Route { to, length, via, link: link? })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
