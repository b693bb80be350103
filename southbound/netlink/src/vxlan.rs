//! VXLAN devices (Documentation/networking/vxlan.rst).

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};

use crate::error::Error;
use crate::socket::{Netlink, Request};

/// The UDP port of VXLAN (RFC 7348 §8).
pub const VXLAN_PORT: u16 = 4789;

/// What a VXLAN device is; none of it changes while it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan {
    /// The network that it carries: 0 to 2^24 - 1 (RFC 7348 §5).
    pub vni: u32,
    /// The VTEP address that it sends from. It takes in what is sent to any address of the host.
    pub local: IpAddr,
    /// The UDP port that it listens on, and sends to.
    pub port: u16,
    /// Whether it learns from what comes in who is behind which VTEP.
    pub learning: bool,
}

impl Netlink {
    /// Makes a VXLAN device with checksums in the outer header (RFC 7348 §4.1 lets them be 0; over IPv6 not everybody
    /// takes that), which takes packets without them (RFC 6935: P4 switches send such). It is switched off, and knows
    /// nobody.
    ///
    /// # Errors
    /// When the name is taken, or there is a device with this VNI and port.
    pub fn add_vxlan(&mut self, name: &str, vxlan: &Vxlan) -> Result<(), Error> {
        let local = match vxlan.local {
            IpAddr::V4(ip) => InfoVxlan::Local(ip),
            IpAddr::V6(ip) => InfoVxlan::Local6(ip),
        };
        let data = vec![
            InfoVxlan::Id(vxlan.vni),
            local,
            InfoVxlan::Port(vxlan.port),
            InfoVxlan::Learning(vxlan.learning),
            InfoVxlan::UDPZeroCsumRX(true),
        ];
        let info = vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(data))];
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::LinkInfo(info)];
        self.change(|| format!("VXLAN device {name}"), Request::Create, RouteNetlinkMessage::NewLink(message))
    }
}

/// `None` for one that is bound to no address: it was made for something else.
pub(crate) fn read(told: &[InfoVxlan]) -> Option<Vxlan> {
    let (mut vni, mut local, mut port, mut learning) = (None, None, VXLAN_PORT, false);
    for one in told {
        match one {
            InfoVxlan::Id(id) => vni = Some(*id),
            InfoVxlan::Local(ip) => local = Some(IpAddr::V4(*ip)),
            InfoVxlan::Local6(ip) => local = Some(IpAddr::V6(*ip)),
            InfoVxlan::Port(told) => port = *told,
            InfoVxlan::Learning(told) => learning = *told,
            _ => {}
        }
    }
    Some(Vxlan { vni: vni?, local: local?, port, learning })
}
