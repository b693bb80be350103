//! Fields that entries match and set: the packet's, the connection tracker's, and our own metadata.

/// A field. The order is the canonical order of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Field {
    /// Number of the network the packet is in (16 bits); also its conntrack zone.
    Network,
    /// Identity of the connection's source (32 bits; 0 unknown, 1 external).
    SrcId,
    /// Identity of the connection's destination.
    DstId,
    /// Address class of the connection's source (32 bits; 0 in no policy's CIDR).
    SrcClass,
    /// Address class of the connection's destination.
    DstClass,
    /// What the connection asks for (24 bits): protocol, then port, or ICMP type and code.
    Service,
    /// Whether the source is a workload of this switch (1 bit).
    SrcLocal,
    /// Whether the destination is a workload of this switch (1 bit).
    DstLocal,
    /// VLAN that the packet came in on (12 bits; 0: it had no tag). Answers to its sender go out with it. Of one that came
    /// by a link, the number of the edge that it came from: a tag of its own it never has.
    InVlan,
    /// VLAN that the packet goes out on (12 bits; 0: without a tag). Of one that is carried ([`Self::OutTunnel`]) the number
    /// of the edge that it is for: on links that is its VLAN.
    OutVlan,
    /// Whether the packet came from another switch (1 bit): by an overlay port, or by a link to this edge.
    FromTunnel,
    /// What it leaves with for another switch (2 bits): an encapsulation, see [`crate::overlay::Tunnel`], or by links,
    /// [`crate::carry::CARRIED`]; 0: neither.
    OutTunnel,
    /// Whether it is longer than its way out allows (1 bit); set by [`crate::Action::CheckSize`].
    TooBig,
    /// Whether it goes from one subnet to another (1 bit). Its Ethernet source is rewritten last of all, in
    /// [`crate::Stage::Deliver`]: who refuses it before that has to know whom to tell.
    Routed,
    /// Whether the destination is a workload of another switch (1 bit).
    ToPeer,
    /// What the switch that it came from, by a tunnel or by links, says that the packet is (2 bits), see [`peer`].
    Peer,
    /// Whether it is for every workload of its network that may get it, each a copy (1 bit).
    ToGroup,
    /// Satisfied conjunction (32 bits); matched only, never set.
    Conjunction,
    /// Connection state (6 bits), see [`conn`].
    Conn,
    /// Virtual network identifier of the tunnel that the packet came by or leaves by (24 bits). Like all fields of
    /// the tunnel it is there in every packet, and 0 in one that came by none.
    TunId,
    /// IPv4 address that the tunnel's packet came from (32 bits).
    TunSrc4,
    /// IPv6 address that the tunnel's packet came from (128 bits).
    TunSrc6,
    /// IPv4 address that it came to, or goes to (32 bits).
    TunDst4,
    /// IPv6 address that it came to, or goes to (128 bits).
    TunDst6,
    /// Identity of the sender in Geneve's option (32 bits), see [`crate::overlay::OPTION_CLASS`].
    TunIdentity,
    /// Identity of the sender in VXLAN's group-policy extension (16 bits).
    TunGbp,
    /// Ethernet source address (48 bits).
    EthSrc,
    /// Ethernet destination address (48 bits).
    EthDst,
    /// Ethertype (16 bits).
    EthType,
    /// 802.1Q VLAN id (13 bits: bit 12 says that a tag is present).
    Vlan,
    /// IP protocol, IPv6 extension headers skipped (8 bits).
    IpProto,
    /// Fragment bits (2 bits), see [`frag`].
    IpFrag,
    /// TTL or hop limit (8 bits); matched exactly only.
    IpTtl,
    /// IPv4 source (32 bits).
    Ipv4Src,
    /// IPv4 destination (32 bits).
    Ipv4Dst,
    /// IPv6 source (128 bits).
    Ipv6Src,
    /// IPv6 destination (128 bits).
    Ipv6Dst,
    /// TCP, UDP or SCTP source port (16 bits).
    L4Src,
    /// TCP, UDP or SCTP destination port (16 bits).
    L4Dst,
    /// ICMP or ICMPv6 type (8 bits).
    IcmpType,
    /// ICMP or ICMPv6 code (8 bits).
    IcmpCode,
    /// ARP operation (16 bits).
    ArpOp,
    /// ARP sender protocol address (32 bits).
    ArpSpa,
    /// ARP target protocol address (32 bits).
    ArpTpa,
    /// ARP sender hardware address (48 bits).
    ArpSha,
    /// ARP target hardware address (48 bits).
    ArpTha,
    /// Neighbour discovery target (128 bits).
    NdTarget,
    /// ND source link-layer address option (48 bits).
    NdSll,
    /// ND target link-layer address option (48 bits).
    NdTll,
    /// ND flags and reserved word (32 bits).
    NdReserved,
    /// Type of the ND option (8 bits).
    NdOption,
}

impl Field {
    /// All fields, in canonical order.
    pub const ALL: [Self; 51] = [
        Self::Network,
        Self::SrcId,
        Self::DstId,
        Self::SrcClass,
        Self::DstClass,
        Self::Service,
        Self::SrcLocal,
        Self::DstLocal,
        Self::InVlan,
        Self::OutVlan,
        Self::FromTunnel,
        Self::OutTunnel,
        Self::TooBig,
        Self::Routed,
        Self::ToPeer,
        Self::Peer,
        Self::ToGroup,
        Self::Conjunction,
        Self::Conn,
        Self::TunId,
        Self::TunSrc4,
        Self::TunSrc6,
        Self::TunDst4,
        Self::TunDst6,
        Self::TunIdentity,
        Self::TunGbp,
        Self::EthSrc,
        Self::EthDst,
        Self::EthType,
        Self::Vlan,
        Self::IpProto,
        Self::IpFrag,
        Self::IpTtl,
        Self::Ipv4Src,
        Self::Ipv4Dst,
        Self::Ipv6Src,
        Self::Ipv6Dst,
        Self::L4Src,
        Self::L4Dst,
        Self::IcmpType,
        Self::IcmpCode,
        Self::ArpOp,
        Self::ArpSpa,
        Self::ArpTpa,
        Self::ArpSha,
        Self::ArpTha,
        Self::NdTarget,
        Self::NdSll,
        Self::NdTll,
        Self::NdReserved,
        Self::NdOption,
    ];

    /// How many fields there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Width in bits.
    pub const fn width(self) -> u32 {
        match self {
            Self::SrcLocal | Self::DstLocal | Self::FromTunnel | Self::TooBig | Self::Routed => 1,
            Self::ToPeer | Self::ToGroup => 1,
            Self::IpFrag | Self::OutTunnel | Self::Peer => 2,
            Self::Conn => 6,
            Self::IpProto | Self::IpTtl | Self::IcmpType | Self::IcmpCode | Self::NdOption => 8,
            Self::InVlan | Self::OutVlan => 12,
            Self::Vlan => 13,
            Self::Network | Self::EthType | Self::L4Src | Self::L4Dst | Self::ArpOp | Self::TunGbp => 16,
            Self::Service | Self::TunId => 24,
            Self::TunSrc4 | Self::TunDst4 | Self::TunIdentity => 32,
            Self::SrcId | Self::DstId | Self::SrcClass | Self::DstClass | Self::Conjunction => 32,
            Self::Ipv4Src | Self::Ipv4Dst | Self::ArpSpa | Self::ArpTpa | Self::NdReserved => 32,
            Self::EthSrc | Self::EthDst | Self::ArpSha | Self::ArpTha | Self::NdSll | Self::NdTll => 48,
            Self::Ipv6Src | Self::Ipv6Dst | Self::NdTarget | Self::TunSrc6 | Self::TunDst6 => 128,
        }
    }

    /// All bits of the field.
    pub const fn full_mask(self) -> u128 {
        u128::MAX >> (128 - self.width())
    }

    /// Whether the field is our metadata, which starts at 0 in every packet.
    pub const fn is_metadata(self) -> bool {
        (self as u8) < (Self::Conjunction as u8)
    }

    /// Whether the field is of the tunnel: there, and 0, in packets that came by none.
    pub const fn is_tunnel(self) -> bool {
        Self::TunId as u8 <= self as u8 && self as u8 <= Self::TunGbp as u8
    }

    /// Whether a copy of this field into the other one is a meaning: they are as wide, or it is an identity that goes
    /// into the group-policy id, whose 16 bits the compiler has seen to suffice.
    pub const fn copies_to(self, to: Self) -> bool {
        self.width() == to.width() || matches!((self, to), (Self::SrcId | Self::DstId, Self::TunGbp))
    }

    /// The name in printed programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::SrcId => "src_id",
            Self::DstId => "dst_id",
            Self::SrcClass => "src_class",
            Self::DstClass => "dst_class",
            Self::Service => "service",
            Self::SrcLocal => "src_local",
            Self::DstLocal => "dst_local",
            Self::InVlan => "in_vlan",
            Self::OutVlan => "out_vlan",
            Self::FromTunnel => "from_tunnel",
            Self::OutTunnel => "out_tunnel",
            Self::TooBig => "too_big",
            Self::Routed => "routed",
            Self::ToPeer => "to_peer",
            Self::Peer => "peer",
            Self::ToGroup => "to_group",
            Self::Conjunction => "conjunction",
            Self::Conn => "conn",
            Self::TunId => "tun_id",
            Self::TunSrc4 => "tun_src4",
            Self::TunSrc6 => "tun_src6",
            Self::TunDst4 => "tun_dst4",
            Self::TunDst6 => "tun_dst6",
            Self::TunIdentity => "tun_identity",
            Self::TunGbp => "tun_gbp",
            Self::EthSrc => "eth_src",
            Self::EthDst => "eth_dst",
            Self::EthType => "eth_type",
            Self::Vlan => "vlan",
            Self::IpProto => "ip_proto",
            Self::IpFrag => "ip_frag",
            Self::IpTtl => "ip_ttl",
            Self::Ipv4Src => "ipv4_src",
            Self::Ipv4Dst => "ipv4_dst",
            Self::Ipv6Src => "ipv6_src",
            Self::Ipv6Dst => "ipv6_dst",
            Self::L4Src => "l4_src",
            Self::L4Dst => "l4_dst",
            Self::IcmpType => "icmp_type",
            Self::IcmpCode => "icmp_code",
            Self::ArpOp => "arp_op",
            Self::ArpSpa => "arp_spa",
            Self::ArpTpa => "arp_tpa",
            Self::ArpSha => "arp_sha",
            Self::ArpTha => "arp_tha",
            Self::NdTarget => "nd_target",
            Self::NdSll => "nd_sll",
            Self::NdTll => "nd_tll",
            Self::NdReserved => "nd_reserved",
            Self::NdOption => "nd_option",
        }
    }
}

/// Bits of [`Field::Vlan`] (the same as OpenFlow's, OF 1.3.5 §7.2.3.7).
pub mod vlan {
    /// The packet has a tag.
    pub const PRESENT: u128 = 0x1000;
    /// The id, if it has.
    pub const ID: u128 = 0xfff;
}

/// Bits of [`Field::Conn`] (the same as Open vSwitch's ct_state).
pub mod conn {
    /// First packets of a connection.
    pub const NEW: u128 = 1;
    /// Packets of a committed connection.
    pub const EST: u128 = 2;
    /// An ICMP error about a committed connection.
    pub const REL: u128 = 4;
    /// In the direction opposite to the connection's first packet.
    pub const RPL: u128 = 8;
    /// The tracker could not make sense of the packet.
    pub const INV: u128 = 16;
    /// The packet went through the tracker.
    pub const TRK: u128 = 32;
    /// What no tracker says of a packet: it passed as a question, and passes as an answer too ([`crate::walk_stateless`]).
    pub const EITHER: u128 = NEW | RPL;
}

/// Values of [`Field::Peer`] (ADR 17).
pub mod peer {
    /// It passed there as a question, and as no answer.
    pub const QUESTION: u128 = 0;
    /// It is an answer in a connection that is remembered there.
    pub const ANSWER: u128 = 1;
    /// It passed there as an answer alone, if it is one: nothing is remembered there.
    pub const MAY_ANSWER: u128 = 2;
    /// It passed there as a question, and would have as an answer.
    pub const EITHER: u128 = 3;
}

/// Identities that are no label set's.
pub mod identity {
    /// Every address that no workload has.
    pub const EXTERNAL: u32 = 1;
}

/// Bits of [`Field::IpFrag`] (the same as Open vSwitch's nw_frag).
pub mod frag {
    /// The packet is a fragment.
    pub const ANY: u128 = 1;
    /// It is not the first one: it carries no ports.
    pub const LATER: u128 = 2;
}
