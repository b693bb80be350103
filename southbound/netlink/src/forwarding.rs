//! Who is behind what: the forwarding tables of bridges and of VXLAN devices.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::MacAddress;
use crate::error::Error;
use crate::socket::{Netlink, Request};

/// Whose table an entry is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forwarder {
    /// That of the bridge that the link is a port of: the address is behind the link.
    Bridge,
    /// The VXLAN device's own: the address is behind this VTEP. Of the address 0, which is everybody who is not known,
    /// there may be several.
    Vxlan(IpAddr),
}

/// Where an Ethernet address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// The number of the link that it is behind.
    pub link: u32,
    /// The address.
    pub mac: MacAddress,
    /// Whose entry it is.
    pub by: Forwarder,
    /// Whether it was set for good; else it was learnt, and ages.
    pub fixed: bool,
}

/// Every address that no entry knows, to a VXLAN device.
const ANY: MacAddress = [0; 6];

impl Netlink {
    /// The namespace's entries, in order, without those of the links' own addresses.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn forwarding(&mut self) -> Result<Vec<Forward>, Error> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        let answers = self.dump(|| "the forwarding table".into(), &RouteNetlinkMessage::GetNeighbour(message))?;
        let mut forwards: Vec<_> = answers.iter().filter_map(read).collect();
        forwards.sort();
        Ok(forwards)
    }

    /// An Ethernet address is behind a link, for good, and nowhere else that the table of `by` knew of.
    ///
    /// # Errors
    /// [`Error::NoLink`], or when the kernel refuses.
    pub fn add_forward(&mut self, link: &str, mac: MacAddress, by: Forwarder) -> Result<(), Error> {
        let mut message = self.forward(link, mac, by)?;
        message.header.state = match by {
            // Of a bridge's entries only the links' own addresses are permanent; those that do not age have no ARP.
            Forwarder::Bridge => NeighbourState::Noarp,
            Forwarder::Vxlan(_) => NeighbourState::Permanent,
        };
        let what = || format!("forwarding of {mac:02x?} by {link}");
        let message = RouteNetlinkMessage::NewNeighbour(message);
        // Nothing takes the place of those for everybody: there may be several.
        if mac == ANY {
            return self.change_with(what, NLM_F_CREATE | NLM_F_APPEND, message);
        }
        self.change(what, Request::Put, message)
    }

    /// Takes an entry away.
    ///
    /// # Errors
    /// [`Error::NoLink`], or when there is no such entry.
    pub fn remove_forward(&mut self, link: &str, mac: MacAddress, by: Forwarder) -> Result<(), Error> {
        let message = self.forward(link, mac, by)?;
        let what = || format!("removal of the forwarding of {mac:02x?} by {link}");
        self.change(what, Request::Change, RouteNetlinkMessage::DelNeighbour(message))
    }

    fn forward(&mut self, link: &str, mac: MacAddress, by: Forwarder) -> Result<NeighbourMessage, Error> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = self.link(link)?.index;
        message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
        message.header.flags = match by {
            Forwarder::Bridge => NeighbourFlags::Controller,
            Forwarder::Vxlan(far) => {
                message.attributes.push(NeighbourAttribute::Destination(far.into()));
                NeighbourFlags::Own
            }
        };
        Ok(message)
    }
}

fn read(answer: &RouteNetlinkMessage) -> Option<Forward> {
    let RouteNetlinkMessage::NewNeighbour(message) = answer else { return None };
    let (mut mac, mut far, mut bridge) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            NeighbourAttribute::Destination(address) => far = ip(address),
            NeighbourAttribute::Controller(_) => bridge = true,
            _ => {}
        }
    }
    let state = message.header.state;
    let by = match far {
        Some(far) => Forwarder::Vxlan(far),
        // A bridge's own addresses; what other devices filter by is told here too.
        None if !bridge || state == NeighbourState::Permanent => return None,
        None => Forwarder::Bridge,
    };
    let fixed = matches!(state, NeighbourState::Noarp | NeighbourState::Permanent);
    Some(Forward { link: message.header.ifindex, mac: mac?, by, fixed })
}

/// The family of an entry says nothing of its VTEP's.
fn ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(ip) => Some((*ip).into()),
        NeighbourAddress::Inet6(ip) => Some((*ip).into()),
        NeighbourAddress::Other(bytes) => {
            let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(|v4| Ipv4Addr::from(v4).into());
            v4.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(|v6| Ipv6Addr::from(v6).into())).ok()
        }
        _ => None,
    }
}
