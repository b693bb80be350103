//! Where the pipeline lives in Open vSwitch: tables, registers, cookies, and the actions that take several
//! OpenFlow actions. One place for both directions; `lower` and `lift` only use it.
//!
//! | what | where |
//! |---|---|
//! | stage | the table with its number |
//! | network, src_local, dst_local | `reg0[0..15]`, `reg0[16]`, `reg0[17]` |
//! | from_tunnel, too_big, out_tunnel, routed | `reg0[18]`, `reg0[19]`, `reg0[20..21]`, `reg0[22]` |
//! | to_peer, peer, to_group | `reg0[23]`, `reg0[24..25]`, `reg0[26]` |
//! | src_id, dst_id | `reg1`, `reg2` |
//! | service | `reg3[0..23]` |
//! | src_class, dst_class | `reg4`, `reg5` |
//! | chosen out-port | `reg6` |
//! | scratch of swap-ends | `reg7` |
//! | out_vlan, in_vlan | `reg8[0..11]`, `reg8[16..27]` |
//! | a connection's service, classes | `ct_mark`, `ct_label[0..31]`, `ct_label[32..63]` |
//! | a choice among ports | a select group with a number of [`crate::groups`] |
//! | tun_identity | `tun_metadata0`, mapped to the option of [`bulkhead_pipeline::overlay`] |

use bulkhead_dataplane::{LOG_BYTES, MAX_DISCOVERED, reject::REJECT_BYTES};
use bulkhead_openflow::wire::{
    action::{Action, Controller, Subfield},
    field::OxmField,
    oxm::Match,
    packet::reason,
};
use bulkhead_pipeline::{Builtin, Cause, Field, ip_proto};
use std::net::IpAddr;

/// Top byte of the cookies of our entries.
pub const COOKIE_OWNER: u64 = 0xb1 << 56;
/// The bits by which entries are known as ours; all others are foreign, and never touched or reported.
pub const COOKIE_MASK: u64 = 0xff << 56;
/// Number of this page: entries written under another layout mean something else, and are not lifted.
const LAYOUT: u8 = 6;

/// The register that holds the chosen out-port.
pub(crate) const OUT_PORT: OxmField = OxmField::Reg6;
/// The register that [`swap_ends`] goes through; nothing matches it.
const SCRATCH: OxmField = OxmField::Reg7;
/// The register of the service.
const SERVICE: OxmField = OxmField::Reg3;
/// Lowest bit of the service's protocol.
const SERVICE_PROTOCOL: u16 = 16;

/// Ethertype of the tags that we push (IEEE 802.1Q §9.5).
const ETHERTYPE_VLAN: u16 = 0x8100;

/// The meter that limits rejected packets on their way to the controller (A19: a flood of them must not load
/// the switch's connection). Open vSwitch accepts entries that name a meter which is not there.
pub const REJECT_METER: u32 = 0xb1;
/// The meter that limits logged packets on their way to the controller, likewise.
pub const LOG_METER: u32 = 0xb2;
/// The meter that limits tunnels' probes on their way to the controller, likewise.
pub const PROBE_METER: u32 = 0xb3;
/// The meter that limits frames that may tell of links on their way to the controller, likewise.
pub const DISCOVER_METER: u32 = 0xb4;
/// The meter that limits the same frames at ports that lead to other switches: who floods a free port with such frames must
/// not keep links from being heard.
pub const LINK_METER: u32 = 0xb6;
/// The meter that limits what workloads are learned from, likewise: who floods the switch with that must not keep links
/// from being heard.
pub const LEARN_METER: u32 = 0xb5;
/// Bytes of a probe: all of it, with some room.
pub const PROBE_BYTES: u16 = 64;
/// How logged packets are told from rejected ones. Nothing else comes with it: every stage's miss is an entry.
pub const LOG_REASON: u8 = reason::NO_MATCH;

/// Lowest bit of the flags in a cookie.
pub const COOKIE_FLAGS: u32 = 40;

/// What a cookie says besides whose it is: layout in bits 48-55, flags in 40-43, cause below. Bits 44-47 only spread the
/// entries over the parts in which they are read back, and mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cookie {
    /// The rule that the entry stands for.
    pub cause: Cause,
    /// [`Cookie::DONE`] and so on.
    pub flags: u8,
}

impl Cookie {
    /// The entry ends in `Done`; without this and a next table, in `Drop`. They forward alike.
    pub const DONE: u8 = 1;
    /// Packets of the entry count as dropped.
    pub const DROPPED: u8 = 2;
    /// The program names the in-port by number.
    pub const IN_PORT_NUMBER: u8 = 4;
    /// The program names the ports in the actions by number.
    pub const OUT_PORT_NUMBER: u8 = 8;

    /// The cookie of an entry.
    pub fn to_bits(self) -> u64 {
        COOKIE_OWNER | u64::from(LAYOUT) << 48 | u64::from(self.flags) << COOKIE_FLAGS | self.cause.to_bits()
    }

    /// What a cookie of this layout says; `None` for foreign ones and for other layouts.
    pub fn from_bits(bits: u64) -> Option<Self> {
        let [owner, layout, flags, ..] = bits.to_be_bytes();
        let ours = [owner, layout] == [COOKIE_OWNER.to_be_bytes()[0], LAYOUT];
        let cause = Cause::from_bits(bits & 0xff_ffff_ffff)?;
        ours.then_some(Self { cause, flags: flags & 0xf })
    }
}

/// Our metadata and where it is: field, register, lowest bit.
pub(crate) const METADATA: [(Field, OxmField, u16); 17] = [
    (Field::Network, OxmField::Reg0, 0),
    (Field::SrcLocal, OxmField::Reg0, 16),
    (Field::DstLocal, OxmField::Reg0, 17),
    (Field::FromTunnel, OxmField::Reg0, 18),
    (Field::TooBig, OxmField::Reg0, 19),
    (Field::OutTunnel, OxmField::Reg0, 20),
    (Field::Routed, OxmField::Reg0, 22),
    (Field::ToPeer, OxmField::Reg0, 23),
    (Field::Peer, OxmField::Reg0, 24),
    (Field::ToGroup, OxmField::Reg0, 26),
    (Field::SrcId, OxmField::Reg1, 0),
    (Field::DstId, OxmField::Reg2, 0),
    (Field::Service, SERVICE, 0),
    (Field::SrcClass, OxmField::Reg4, 0),
    (Field::DstClass, OxmField::Reg5, 0),
    (Field::OutVlan, OxmField::Reg8, 0),
    (Field::InVlan, OxmField::Reg8, 16),
];
/// The registers of [`METADATA`] are among the first so many.
pub(crate) const REGISTERS: usize = 9;

/// The bits that hold a metadata field; `None` for a packet's field.
pub(crate) fn metadata(field: Field) -> Option<Subfield> {
    let (field, register, offset) = METADATA.into_iter().find(|place| place.0 == field)?;
    Some(Subfield::new(register, offset, field.width() as u16))
}

/// The metadata field that exactly these bits hold.
pub(crate) fn metadata_at(bits: Subfield) -> Option<Field> {
    METADATA.into_iter().map(|place| place.0).find(|field| metadata(*field) == Some(bits))
}

/// Fields of packets that have one place whatever the packet is. The bits of `ct_state` and `nw_frag` are those
/// of [`bulkhead_pipeline::conn`] and [`bulkhead_pipeline::frag`]; `vlan_vid` has its present bit (OF 1.3.5 §7.2.3.7).
pub(crate) const PACKET: [(Field, OxmField); 30] = [
    (Field::Conjunction, OxmField::ConjId),
    (Field::Conn, OxmField::CtState),
    (Field::TunId, OxmField::TunnelId),
    (Field::TunSrc4, OxmField::TunIpv4Src),
    (Field::TunSrc6, OxmField::TunIpv6Src),
    (Field::TunDst4, OxmField::TunIpv4Dst),
    (Field::TunDst6, OxmField::TunIpv6Dst),
    (Field::TunIdentity, OxmField::TunMetadata0),
    (Field::TunGbp, OxmField::TunGbpId),
    (Field::EthSrc, OxmField::EthSrc),
    (Field::EthDst, OxmField::EthDst),
    (Field::EthType, OxmField::EthType),
    (Field::Vlan, OxmField::VlanVid),
    (Field::IpProto, OxmField::IpProto),
    (Field::IpFrag, OxmField::IpFrag),
    (Field::IpTtl, OxmField::NwTtl),
    (Field::Ipv4Src, OxmField::Ipv4Src),
    (Field::Ipv4Dst, OxmField::Ipv4Dst),
    (Field::Ipv6Src, OxmField::Ipv6Src),
    (Field::Ipv6Dst, OxmField::Ipv6Dst),
    (Field::ArpOp, OxmField::ArpOp),
    (Field::ArpSpa, OxmField::ArpSpa),
    (Field::ArpTpa, OxmField::ArpTpa),
    (Field::ArpSha, OxmField::ArpSha),
    (Field::ArpTha, OxmField::ArpTha),
    (Field::NdTarget, OxmField::NdTarget),
    (Field::NdSll, OxmField::NdSll),
    (Field::NdTll, OxmField::NdTll),
    (Field::NdReserved, OxmField::NdReserved),
    (Field::NdOption, OxmField::NdOptionsType),
];

/// Fields whose place depends on the protocol: field, protocol, place.
pub(crate) const BY_PROTOCOL: [(Field, u128, OxmField); 10] = [
    (Field::L4Src, ip_proto::TCP, OxmField::TcpSrc),
    (Field::L4Dst, ip_proto::TCP, OxmField::TcpDst),
    (Field::L4Src, ip_proto::UDP, OxmField::UdpSrc),
    (Field::L4Dst, ip_proto::UDP, OxmField::UdpDst),
    (Field::L4Src, ip_proto::SCTP, OxmField::SctpSrc),
    (Field::L4Dst, ip_proto::SCTP, OxmField::SctpDst),
    (Field::IcmpType, ip_proto::ICMP, OxmField::Icmpv4Type),
    (Field::IcmpCode, ip_proto::ICMP, OxmField::Icmpv4Code),
    (Field::IcmpType, ip_proto::ICMPV6, OxmField::Icmpv6Type),
    (Field::IcmpCode, ip_proto::ICMPV6, OxmField::Icmpv6Code),
];

/// The pipeline's field of a packet's field.
pub(crate) fn packet_field(place: OxmField) -> Option<Field> {
    let fixed = PACKET.into_iter().find(|entry| entry.1 == place).map(|entry| entry.0);
    fixed.or_else(|| BY_PROTOCOL.into_iter().find(|entry| entry.2 == place).map(|entry| entry.0))
}

/// The zone of the tracker: the network's number.
pub(crate) const fn zone() -> Subfield {
    Subfield::new(OxmField::Reg0, 0, 16)
}

/// The bits that hold the service's protocol.
const fn protocol() -> Action {
    Action::Move { src: Subfield::whole(OxmField::IpProto), dst: SERVICE, dst_offset: SERVICE_PROTOCOL }
}

/// Service := protocol and this port.
pub(crate) const fn service_from_port(port: OxmField) -> [Action; 2] {
    [Action::Move { src: Subfield::whole(port), dst: SERVICE, dst_offset: 0 }, protocol()]
}

/// Service := protocol, type, code.
pub(crate) const fn service_from_icmp(kind: OxmField, code: OxmField) -> [Action; 3] {
    [
        Action::Move { src: Subfield::whole(kind), dst: SERVICE, dst_offset: 8 },
        Action::Move { src: Subfield::whole(code), dst: SERVICE, dst_offset: 0 },
        protocol(),
    ]
}

/// Service := protocol alone.
pub(crate) const fn service_from_protocol() -> [Action; 2] {
    [Action::Load { dst: Subfield::new(SERVICE, 0, SERVICE_PROTOCOL), value: 0 }, protocol()]
}

/// Where a connection keeps what is remembered: register, connection's field, lowest bit.
const REMEMBERED: [(OxmField, OxmField, u16); 3] =
    [(SERVICE, OxmField::CtMark, 0), (OxmField::Reg4, OxmField::CtLabel, 0), (OxmField::Reg5, OxmField::CtLabel, 32)];

/// The metadata into the connection.
pub(crate) const fn remember() -> [Action; 3] {
    const fn one((register, place, offset): (OxmField, OxmField, u16)) -> Action {
        Action::Move { src: Subfield::whole(register), dst: place, dst_offset: offset }
    }
    let [a, b, c] = REMEMBERED;
    [one(a), one(b), one(c)]
}

/// The connection's memory into the metadata.
pub(crate) const fn recall() -> [Action; 3] {
    const fn one((register, place, offset): (OxmField, OxmField, u16)) -> Action {
        Action::Move { src: Subfield::new(place, offset, 32), dst: register, dst_offset: 0 }
    }
    let [a, b, c] = REMEMBERED;
    [one(a), one(b), one(c)]
}

/// The connection's service alone.
pub(crate) fn recall_service() -> [Action; 1] {
    let [service, ..] = recall();
    [service]
}

/// Exchanges ids, classes and the two local bits.
pub(crate) const fn swap_ends() -> [Action; 9] {
    const fn bit(from: OxmField, at: u16, to: OxmField, dst_offset: u16) -> Action {
        Action::Move { src: Subfield::new(from, at, 1), dst: to, dst_offset }
    }
    [
        Action::copy(OxmField::Reg1, SCRATCH),
        Action::copy(OxmField::Reg2, OxmField::Reg1),
        Action::copy(SCRATCH, OxmField::Reg2),
        Action::copy(OxmField::Reg4, SCRATCH),
        Action::copy(OxmField::Reg5, OxmField::Reg4),
        Action::copy(SCRATCH, OxmField::Reg5),
        bit(OxmField::Reg0, 16, SCRATCH, 0),
        bit(OxmField::Reg0, 17, OxmField::Reg0, 16),
        bit(SCRATCH, 0, OxmField::Reg0, 17),
    ]
}

/// A tag with the id that these bits hold. Open vSwitch has no other way to a tag's id than setting it: the tag
/// comes with id 0 (OF 1.3.5 §7.2.5, "Push VLAN tag").
pub(crate) const fn push_vlan(id: Subfield) -> [Action; 2] {
    [Action::PushVlan(ETHERTYPE_VLAN), Action::Move { src: id, dst: OxmField::VlanVid, dst_offset: 0 }]
}

/// The value of a metadata field among what a switch says of a packet that it sends; 0 is not said.
pub(crate) fn told(said: &Match, field: Field) -> u128 {
    let place = metadata(field).and_then(|bits| Some((said.get(bits.field)?.value, bits.offset)));
    place.map_or(0, |(value, offset)| value >> offset & field.full_mask())
}

/// What the controller is asked to do with a packet that it gets; it comes with the packet as `userdata`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Tell its sender that it was refused.
    Reject,
    /// Tell its sender that the TTL ended, as from this address.
    Expired(IpAddr),
    /// Tell its sender that no route leads on, as from this address.
    NoRoute(IpAddr),
    /// Tell its sender how long a packet may be.
    TooBig(u16),
    /// Report a tunnel's probe.
    Probe,
    /// Report a frame that may tell of a link.
    Discover,
    /// The same, at a port that is known to lead to another switch.
    Link,
    /// Report a frame that tells who is plugged in.
    Learn,
}

impl Errand {
    const EXPIRED: u8 = 1;
    const TOO_BIG: u8 = 2;
    const PROBE: u8 = 3;
    const DISCOVER: u8 = 4;
    const NO_ROUTE: u8 = 5;
    const LEARN: u8 = 6;
    const LINK: u8 = 7;

    /// What [`bulkhead_pipeline::Action::Discover`] is in an entry with this cause.
    pub fn discover(cause: Cause) -> Self {
        match cause {
            Cause::Builtin(Builtin::Link) => Self::Link,
            Cause::Builtin(Builtin::Learn) => Self::Learn,
            _ => Self::Discover,
        }
    }

    /// As bytes: what it is, and its argument.
    fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Reject => Vec::new(),
            Self::Expired(from) => with_address(Self::EXPIRED, from),
            Self::NoRoute(from) => with_address(Self::NO_ROUTE, from),
            Self::TooBig(mtu) => [&[Self::TOO_BIG][..], &mtu.to_be_bytes()].concat(),
            Self::Probe => vec![Self::PROBE],
            Self::Discover => vec![Self::DISCOVER],
            Self::Link => vec![Self::LINK],
            Self::Learn => vec![Self::LEARN],
        }
    }

    /// Of such bytes; `None` for any others.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Some((kind, rest)) = bytes.split_first() else { return Some(Self::Reject) };
        match (*kind, rest.len()) {
            (Self::EXPIRED, 4 | 16) => Some(Self::Expired(address(rest)?)),
            (Self::NO_ROUTE, 4 | 16) => Some(Self::NoRoute(address(rest)?)),
            (Self::TOO_BIG, 2) => Some(Self::TooBig(u16::from_be_bytes(*rest.first_chunk()?))),
            (Self::PROBE, 0) => Some(Self::Probe),
            (Self::DISCOVER, 0) => Some(Self::Discover),
            (Self::LINK, 0) => Some(Self::Link),
            (Self::LEARN, 0) => Some(Self::Learn),
            _ => None,
        }
    }

    /// The action that sends the packet.
    pub fn action(self) -> Action {
        let (max_len, meter) = match self {
            Self::Reject | Self::Expired(_) | Self::NoRoute(_) | Self::TooBig(_) => (REJECT_BYTES, REJECT_METER),
            Self::Probe => (PROBE_BYTES, PROBE_METER),
            Self::Discover => (MAX_DISCOVERED, DISCOVER_METER),
            Self::Link => (MAX_DISCOVERED, LINK_METER),
            Self::Learn => (MAX_DISCOVERED, LEARN_METER),
        };
        let userdata = self.to_bytes();
        Action::Controller(Controller { max_len, meter: Some(meter), userdata, ..Controller::default() })
    }

    /// Of such an action; `None` for any other.
    pub fn of(action: &Action) -> Option<Self> {
        let Action::Controller(controller) = action else { return None };
        Self::from_bytes(&controller.userdata).filter(|errand| errand.action() == *action)
    }
}

fn with_address(kind: u8, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => [&[kind][..], &v4.octets()].concat(),
        IpAddr::V6(v6) => [&[kind][..], &v6.octets()].concat(),
    }
}

/// The address that these bytes are, all of them.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4().or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// The bits of an identity that go into a group-policy id.
pub(crate) fn low_identity(field: Field) -> Option<Subfield> {
    let bits = metadata(field)?;
    Some(Subfield::new(bits.field, bits.offset, Field::TunGbp.width() as u16))
}

/// To the controller, which writes a line about it.
pub(crate) fn log() -> Action {
    let (max_len, meter) = (LOG_BYTES, Some(LOG_METER));
    Action::Controller(Controller { max_len, meter, reason: LOG_REASON, ..Controller::default() })
}
