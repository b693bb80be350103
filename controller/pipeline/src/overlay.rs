//! What switches agree on about tunnels between them (ADR 9).

use crate::{
    field::{Field, peer},
    packet::Packet,
};
use bulkhead_topology::{Mac, Port};
use std::net::IpAddr;

/// Class of Geneve's option that holds the sender's identity (RFC 8926 §3.5; from the experimental range).
pub const OPTION_CLASS: u16 = 0xffb0;
/// Type of that option; not critical, so that a receiver that does not know it reads on.
pub const OPTION_TYPE: u8 = 1;
/// Bytes of its data.
pub const OPTION_LENGTH: u8 = 4;
/// The Ethernet address of every gateway, on every switch.
pub const GATEWAY_MAC: Mac = Mac([0x02, 0xb1, 0, 0, 0, 1]);
/// The Ethernet address that answers between switches go to: the switch that they come from has seen the connection
/// allowed at its end. The one that they come to knows the real address.
pub const REPLY_MAC: Mac = Mac([0x02, 0xb1, 0, 0, 0, 2]);
/// The one for what passed as an answer on a switch that remembers no connections.
pub const MAY_REPLY_MAC: Mac = Mac([0x02, 0xb1, 0, 0, 0, 3]);
/// The one for what passed there as a question, and as an answer too.
pub const EITHER_MAC: Mac = Mac([0x02, 0xb1, 0, 0, 0, 4]);
/// What a switch says of its packets by each of them ([`Field::Peer`]); by any other, that it is a question.
pub const MARKS: [(Mac, u128); 3] =
    [(REPLY_MAC, peer::ANSWER), (MAY_REPLY_MAC, peer::MAY_ANSWER), (EITHER_MAC, peer::EITHER)];
/// Ethertype of tunnels' probes: local experimental (IEEE 802-2014 §9.2.4).
pub const PROBE_ETHERTYPE: u128 = 0x88b5;
/// Bytes of an Ethernet header without a tag.
pub const ETHERNET_HEADER: u16 = 14;

/// An encapsulation. Its number is what [`Field::OutTunnel`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tunnel {
    /// Geneve (RFC 8926).
    Geneve = 1,
    /// VXLAN (RFC 7348), with or without the group-policy extension.
    Vxlan = 2,
}

impl Tunnel {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Geneve, Self::Vxlan];

    /// The name of its port on a switch.
    pub const fn port_name(self) -> &'static str {
        match self {
            Self::Geneve => "bh-geneve",
            Self::Vxlan => "bh-vxlan",
        }
    }

    /// Its port on a switch.
    pub fn port(self) -> Port {
        Port::Name(self.port_name().into())
    }

    /// The encapsulation of a port; `None` for ports that are no overlay ports.
    pub fn of(port: &Port) -> Option<Self> {
        Self::ALL.into_iter().find(|tunnel| matches!(port, Port::Name(name) if **name == *tunnel.port_name()))
    }

    /// Bytes that an IP packet grows by until it is a packet of the underlay: Ethernet header inside (14), Geneve with
    /// its option (8 + 8) or VXLAN (8), UDP (8), IPv4 (20) or IPv6 (40).
    pub const fn overhead(self, underlay_is_v6: bool) -> u16 {
        let header = match self {
            Self::Geneve => 8 + 4 + OPTION_LENGTH as u16,
            Self::Vxlan => 8,
        };
        ETHERNET_HEADER + header + 8 + if underlay_is_v6 { 40 } else { 20 }
    }
}

/// The Ethernet address of a group, or of everybody (RFC 1112 §6.4, RFC 2464 §7).
pub fn group_mac(group: IpAddr) -> Mac {
    match group {
        IpAddr::V4(v4) if v4.is_broadcast() => Mac([0xff; 6]),
        IpAddr::V4(v4) => Mac::from_bits(0x0100_5e00_0000 | u64::from(v4.to_bits() & 0x7f_ffff)),
        IpAddr::V6(v6) => Mac::from_bits(0x3333_0000_0000 | (v6.to_bits() & 0xffff_ffff) as u64),
    }
}

/// What a packet that left a switch by an overlay port looks like where it comes in: `port` there, sent from the VTEP
/// address `outer_source`. The field [`Packet::in_port`] aside it is the same packet without what only the sending
/// switch knew. Geneve carries the identity alone, VXLAN the group-policy id alone.
pub fn arrive(sent: &Packet, port: Port, outer_source: IpAddr) -> Packet {
    let mut packet = sent.clone();
    let tunnel = Tunnel::of(&port);
    packet.in_port = port;
    for field in Field::ALL.into_iter().filter(|field| field.is_metadata() || *field == Field::Conn) {
        packet.set(field, 0);
    }
    let (v4, v6) = match outer_source {
        IpAddr::V4(v4) => (v4.to_bits().into(), 0),
        IpAddr::V6(v6) => (0, v6.to_bits()),
    };
    packet.set(Field::TunSrc4, v4);
    packet.set(Field::TunSrc6, v6);
    if tunnel != Some(Tunnel::Geneve) {
        packet.set(Field::TunIdentity, 0);
    }
    if tunnel != Some(Tunnel::Vxlan) {
        packet.set(Field::TunGbp, 0);
    }
    packet
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn overheads_are_those_that_were_measured() {
        let all = Tunnel::ALL.map(|tunnel| [tunnel.overhead(false), tunnel.overhead(true)]);
        assert_eq!(all, [[58, 78], [50, 70]]);
    }

    #[test]
    fn what_arrives_has_only_what_the_header_carries() {
        let sent = Packet::new(Port::Name("web-1".into()))
            .with(Field::Network, 7u8)
            .with(Field::SrcId, 9u8)
            .with(Field::OutTunnel, 1u8)
            .with(Field::Conn, 33u8)
            .with(Field::TunId, 5001u16)
            .with(Field::TunDst4, 0xc000_0202_u32)
            .with(Field::TunIdentity, 9u8)
            .with(Field::TunGbp, 9u8)
            .with(Field::EthSrc, 2u8);
        let from = "192.0.2.1".parse().unwrap();
        let expected = Packet::new(Tunnel::Geneve.port())
            .with(Field::TunId, 5001u16)
            .with(Field::TunSrc4, 0xc000_0201_u32)
            .with(Field::TunDst4, 0xc000_0202_u32)
            .with(Field::TunIdentity, 9u8)
            .with(Field::EthSrc, 2u8);
        assert_eq!(arrive(&sent, Tunnel::Geneve.port(), from), expected);
        let vxlan = arrive(&sent, Tunnel::Vxlan.port(), "fd00::1".parse().unwrap());
        assert_eq!((vxlan.value(Field::TunIdentity), vxlan.value(Field::TunGbp)), (0, 9));
        assert_eq!((vxlan.value(Field::TunSrc4), vxlan.value(Field::TunSrc6)), (0, 0xfd << 120 | 1));
    }

    #[test]
    fn groups_have_their_ethernet_addresses() {
        for (group, mac) in [
            ("224.0.0.251", "01:00:5e:00:00:fb"),
            ("239.255.1.2", "01:00:5e:7f:01:02"),
            ("255.255.255.255", "ff:ff:ff:ff:ff:ff"),
            ("ff02::1:fb", "33:33:00:01:00:fb"),
        ] {
            assert_eq!(group_mac(group.parse().unwrap()).to_string(), mac);
        }
    }

    #[test]
    fn ports_are_known_by_their_names() {
        for tunnel in Tunnel::ALL {
            assert_eq!(Tunnel::of(&tunnel.port()), Some(tunnel));
        }
        assert_eq!(Tunnel::of(&Port::Number(1)), None);
    }
}
