//! Neighbours: which hardware address an IP address on a link has.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::RouteType;

use crate::MacAddress;
use crate::address::family;
use crate::error::Error;
use crate::socket::{Netlink, Request};

/// What the kernel knows about a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The number of the link that it is at.
    pub link: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its hardware address; none where nobody answered.
    pub mac: Option<MacAddress>,
    /// Whether it was set for good (`NUD_PERMANENT`): neither ARP nor ND changes it.
    pub pinned: bool,
}

impl Netlink {
    /// The neighbours that the namespace knows, in order.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, Error> {
        let question = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let answers = self.dump(|| "the list of neighbours".into(), &question)?;
        let mut neighbours: Vec<_> = answers.iter().filter_map(read).collect();
        neighbours.sort();
        Ok(neighbours)
    }

    /// Pins a neighbour: neither ARP nor ND changes it, and nobody is asked for it.
    ///
    /// # Errors
    /// [`Error::NoLink`], or when the kernel refuses.
    pub fn pin_neighbour(&mut self, link: &str, ip: IpAddr, mac: MacAddress) -> Result<(), Error> {
        let mut message = self.neighbour(link, ip)?;
        message.header.state = NeighbourState::Permanent;
        message.header.kind = RouteType::Unicast;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        let what = || format!("neighbour {ip} on {link}");
        self.change(what, Request::Put, RouteNetlinkMessage::NewNeighbour(message))
    }

    /// Takes a neighbour away.
    ///
    /// # Errors
    /// [`Error::NoLink`], or when there is no such neighbour.
    pub fn remove_neighbour(&mut self, link: &str, ip: IpAddr) -> Result<(), Error> {
        let message = self.neighbour(link, ip)?;
        let what = || format!("removal of neighbour {ip} on {link}");
        self.change(what, Request::Change, RouteNetlinkMessage::DelNeighbour(message))
    }

    fn neighbour(&mut self, link: &str, ip: IpAddr) -> Result<NeighbourMessage, Error> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(ip);
        message.header.ifindex = self.link(link)?.index;
        message.attributes = vec![NeighbourAttribute::Destination(ip.into())];
        Ok(message)
    }
}

fn read(answer: &RouteNetlinkMessage) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(message) = answer else { return None };
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => ip = Some((*address).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => ip = Some((*address).into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    let pinned = message.header.state == NeighbourState::Permanent;
    Some(Neighbour { link: message.header.ifindex, ip: ip?, mac, pinned })
}
