//! Links: veth pairs and bridges are made, and every kind of link is listed, changed and removed.

use std::os::fd::AsRawFd;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};

use crate::MacAddress;
use crate::error::Error;
use crate::namespace::Namespace;
use crate::port::BridgePort;
use crate::socket::{Netlink, Request};
use crate::vxlan::{self, Vxlan};

/// What is told of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name, at most 15 bytes (IFNAMSIZ).
    pub name: String,
    /// Its hardware address; none for links that have none of six bytes.
    pub mac: Option<MacAddress>,
    /// The longest packet that it takes, in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Whether it is switched on (`IFF_UP`), whatever its carrier.
    pub up: bool,
    /// Whatever somebody wrote to it (`IFLA_IFALIAS`).
    pub alias: Option<String>,
    /// The number of the bridge that it is a port of.
    pub bridge: Option<u32>,
    /// What it may do as a bridge's port.
    pub port: Option<BridgePort>,
    /// The number of the link that it is a part of, as a VLAN is (or macvlan, or ipvlan).
    pub below: Option<u32>,
    /// What only some kinds of links have.
    pub kind: LinkKind,
}

/// Kinds of links that more is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A bridge.
    Bridge {
        /// Whether it listens to who wants which multicast group, and asks for that itself.
        snooping: bool,
    },
    /// A VXLAN device.
    Vxlan(Vxlan),
    /// Any other.
    Other,
}

/// A veth pair: two links that are each other's other end.
#[derive(Debug, Clone, Copy)]
pub struct Veth<'a> {
    /// The near end's name, in the namespace of the [`Netlink`].
    pub name: &'a str,
    /// The far end's name.
    pub peer: &'a str,
    /// Where the far end is made. It never exists anywhere else, so its name may be one that the near namespace has.
    pub peer_in: &'a Namespace,
    /// The far end's hardware address; the kernel's choice if left out.
    pub mac: Option<MacAddress>,
    /// Both ends' MTU in bytes (68 to 65535); the kernel's 1500 if left out.
    pub mtu: Option<u32>,
}

/// One thing to change about a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    /// Switched on.
    Up,
    /// Switched off.
    Down,
    /// Its MTU in bytes.
    Mtu(u32),
    /// Its hardware address.
    Mac(MacAddress),
    /// A note for whoever lists it, at most 255 bytes (IFALIASZ); empty takes it away.
    Alias(String),
    /// It neither asks nor answers by ARP or ND (`IFF_NOARP`).
    NoArp,
    /// It becomes a port of the bridge of this name, in the same namespace.
    Bridge(String),
    /// It is a port of no bridge.
    NoBridge,
    /// The bridge that it is a port of does not learn from it who is behind it.
    NoLearning,
    /// What it may do as a bridge's port.
    Port(BridgePort),
    /// It is a bridge, and neither listens to who wants which multicast group nor asks.
    NoSnooping,
    /// It moves to another namespace, switched off; addresses and routes are lost.
    Namespace(Namespace),
}

impl Netlink {
    /// The links of the namespace, by number.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let answers =
            self.dump(|| "the list of links".into(), &RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        let links = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(read(&message)),
            _ => None,
        });
        let mut links: Vec<_> = links.collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// The link of this name.
    ///
    /// # Errors
    /// [`Error::NoLink`], or when the kernel does not answer.
    pub fn link(&mut self, name: &str) -> Result<Link, Error> {
        let none = || Error::NoLink(name.to_owned());
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        let answers = match self.ask(|| format!("link {name}"), RouteNetlinkMessage::GetLink(message)) {
            Err(Error::Refused { cause, .. }) if cause.raw_os_error() == Some(nix::libc::ENODEV) => return Err(none()),
            answers => answers?,
        };
        let found = answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(read(message)),
            _ => None,
        });
        found.ok_or_else(none)
    }

    /// Makes a veth pair whose far end is born in its own namespace.
    ///
    /// # Errors
    /// When a name is taken, or the far namespace is not there.
    pub fn add_veth(&mut self, veth: &Veth<'_>) -> Result<(), Error> {
        let far = veth.peer_in.open()?;
        let mut peer = LinkMessage::default();
        peer.attributes = vec![LinkAttribute::IfName(veth.peer.to_owned()), LinkAttribute::NetNsFd(far.as_raw_fd())];
        peer.attributes.extend(veth.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        peer.attributes.extend(veth.mtu.map(LinkAttribute::Mtu));
        let mut near = LinkMessage::default();
        near.attributes = vec![LinkAttribute::IfName(veth.name.to_owned())];
        near.attributes.extend(veth.mtu.map(LinkAttribute::Mtu));
        let kind = vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)))];
        near.attributes.push(LinkAttribute::LinkInfo(kind));
        let what = || format!("veth {} with {} in {}", veth.name, veth.peer, veth.peer_in.name());
        self.change(what, Request::Create, RouteNetlinkMessage::NewLink(near))
    }

    /// Makes a bridge: it learns and floods, without spanning tree.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn add_bridge(&mut self, name: &str) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        self.change(|| format!("bridge {name}"), Request::Create, RouteNetlinkMessage::NewLink(message))
    }

    /// Changes a link, all at once or not at all.
    ///
    /// # Errors
    /// [`Error::NoLink`] where it or its bridge is not there, or when the kernel refuses.
    pub fn set(&mut self, name: &str, changes: &[LinkChange]) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = self.link(name)?.index;
        // Lives until the kernel has looked at its number.
        let mut opened = Vec::new();
        for change in changes {
            let (flag, on) = match change {
                LinkChange::Up => (LinkFlags::Up, true),
                LinkChange::Down => (LinkFlags::Up, false),
                LinkChange::NoArp => (LinkFlags::Noarp, true),
                LinkChange::Mtu(mtu) => {
                    message.attributes.push(LinkAttribute::Mtu(*mtu));
                    continue;
                }
                LinkChange::Mac(mac) => {
                    message.attributes.push(LinkAttribute::Address(mac.to_vec()));
                    continue;
                }
                LinkChange::Alias(alias) => {
                    message.attributes.push(LinkAttribute::IfAlias(alias.clone()));
                    continue;
                }
                LinkChange::Bridge(bridge) => {
                    message.attributes.push(LinkAttribute::Controller(self.link(bridge)?.index));
                    continue;
                }
                LinkChange::NoBridge => {
                    message.attributes.push(LinkAttribute::Controller(0));
                    continue;
                }
                LinkChange::NoLearning => {
                    message.attributes.push(as_port(vec![InfoBridgePort::Learning(false)]));
                    continue;
                }
                LinkChange::Port(port) => {
                    message.attributes.push(as_port(port.attributes()));
                    continue;
                }
                LinkChange::NoSnooping => {
                    let data = InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)]);
                    let info = vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(data)];
                    message.attributes.push(LinkAttribute::LinkInfo(info));
                    continue;
                }
                LinkChange::Namespace(namespace) => {
                    let file = namespace.open()?;
                    message.attributes.push(LinkAttribute::NetNsFd(file.as_raw_fd()));
                    opened.push(file);
                    continue;
                }
            };
            message.header.change_mask |= flag;
            message.header.flags.set(flag, on);
        }
        let what = || format!("{name}: {changes:?}");
        // Of the two that change links, only this one looks at what a port is to its bridge (rtnetlink.c).
        self.change(what, Request::Change, RouteNetlinkMessage::NewLink(message))
    }

    /// Removes a link; of a veth pair, both ends.
    ///
    /// # Errors
    /// [`Error::NoLink`], or when the kernel refuses.
    pub fn delete_link(&mut self, name: &str) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = self.link(name)?.index;
        self.change(|| format!("removal of {name}"), Request::Change, RouteNetlinkMessage::DelLink(message))
    }
}

fn as_port(settings: Vec<InfoBridgePort>) -> LinkAttribute {
    let port = InfoPortData::BridgePort(settings);
    LinkAttribute::LinkInfo(vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(port)])
}

/// Kinds of links that are a part of another.
const PARTS: [InfoKind; 5] = [InfoKind::Vlan, InfoKind::MacVlan, InfoKind::MacVtap, InfoKind::IpVlan, InfoKind::IpVtap];

fn read(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        alias: None,
        bridge: None,
        port: None,
        below: None,
        kind: LinkKind::Other,
    };
    // Of one in another namespace the number is told as well, and of other kinds that of what they are connected to.
    let (mut lower, mut elsewhere, mut part) = (None, false, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Link(index) => lower = Some(*index),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::Controller(bridge) => link.bridge = Some(*bridge),
            LinkAttribute::LinkInfo(infos) => {
                infos.iter().for_each(|info| read_info(&mut link, info));
                part = infos.iter().any(|info| matches!(info, LinkInfo::Kind(kind) if PARTS.contains(kind)));
            }
            _ => {}
        }
    }
    link.below = lower.filter(|_| part && !elsewhere);
    link
}

fn read_info(link: &mut Link, info: &LinkInfo) {
    match info {
        LinkInfo::Data(InfoData::Vxlan(told)) => link.kind = vxlan::read(told).map_or(LinkKind::Other, LinkKind::Vxlan),
        LinkInfo::Data(InfoData::Bridge(told)) => {
            let snooping = told.iter().any(|one| matches!(one, InfoBridge::MulticastSnooping(true)));
            link.kind = LinkKind::Bridge { snooping };
        }
        LinkInfo::PortData(InfoPortData::BridgePort(told)) => link.port = Some(BridgePort::read(told)),
        _ => {}
    }
}
