//! The fields that are known: what each is called on the wire and in text, and how wide it is.
//!
//! Sources: OF 1.3.5 §7.2.3 for class 0x8000, Open vSwitch's meta-flow.h and ovs-fields(7) for the rest.

use super::{Put, Reader};
use crate::error::DecodeError;

/// OXM class of OpenFlow's own fields.
pub const CLASS_BASIC: u16 = 0x8000;
/// OXM class whose fields are followed by an experimenter id.
pub const CLASS_EXPERIMENTER: u16 = 0xffff;
/// Nicira's class 0.
pub const CLASS_NXM_0: u16 = 0x0000;
/// Nicira's class 1.
pub const CLASS_NXM_1: u16 = 0x0001;
/// Ericsson's class, for neighbour discovery.
pub const CLASS_ERICSSON: u16 = 0x1000;

/// Where a field stands in OXM's space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// Its class.
    pub class: u16,
    /// Its number in the class, 7 bits.
    pub number: u8,
    /// The experimenter that follows the header, in class 0xffff only.
    pub experimenter: Option<u32>,
}

/// The length by which an action names a tunnel's option, whatever its mapped length is: the longest.
const TUNNEL_OPTION_BYTES: u8 = 124;

/// How a field's value is written in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A decimal number.
    Decimal,
    /// A hexadecimal number with `0x`.
    Hex,
    /// A port number or reserved port's name.
    Port,
    /// Six pairs of digits with colons.
    Mac,
    /// Dotted quad, mask as prefix length where it is one.
    Ipv4,
    /// RFC 5952, mask as prefix length where it is one.
    Ipv6,
    /// `+trk-new`.
    CtState,
    /// `+syn-ack`.
    TcpFlags,
    /// `no`, `yes`, `first`, `later`, `not_later`.
    Fragment,
}

/// All about one field.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Its code in matches and `set_field`.
    pub oxm: Code,
    /// Its older code, which Open vSwitch writes where an action names a field.
    pub nxm: Option<Code>,
    /// Bytes that its value takes on the wire.
    pub bytes: u8,
    /// Bits of it that have a meaning, the low ones.
    pub bits: u16,
    /// Whether a match may mask it.
    pub maskable: bool,
    /// Its name in a match and in `set_field`.
    pub name: &'static str,
    /// Its name before a range in brackets.
    pub long: &'static str,
    /// How its value is written.
    pub format: Format,
}

macro_rules! code {
    (of $n:expr) => {
        Code { class: CLASS_BASIC, number: $n, experimenter: None }
    };
    (n0 $n:expr) => {
        Code { class: CLASS_NXM_0, number: $n, experimenter: None }
    };
    (n1 $n:expr) => {
        Code { class: CLASS_NXM_1, number: $n, experimenter: None }
    };
    (er $n:expr) => {
        Code { class: CLASS_ERICSSON, number: $n, experimenter: None }
    };
    (onf $n:expr) => {
        Code { class: CLASS_EXPERIMENTER, number: $n, experimenter: Some(super::header::experimenter::ONF) }
    };
}

macro_rules! fields {
    ($($id:ident $class:ident $number:literal $([$nxm:ident $nxm_number:literal])? $bytes:literal $bits:literal
       $mask:literal $name:literal $long:literal $format:ident;)+) => {
        /// A field of a packet, of its metadata, or a register. Their order is one in which a match may name
        /// them: what others need comes first.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum OxmField { $($id,)+ }

        const SPECS: &[Spec] = &[$(Spec {
            oxm: code!($class $number),
            nxm: { #[allow(unused_mut, unused_assignments)] {
                let mut nxm: Option<Code> = None;
                $(nxm = Some(code!($nxm $nxm_number));)?
                nxm
            } },
            bytes: $bytes,
            bits: $bits,
            maskable: $mask,
            name: $name,
            long: $long,
            format: Format::$format,
        },)+];

        impl OxmField {
            /// Every field that is known.
            pub const ALL: &'static [Self] = &[$(Self::$id,)+];

            /// All about it.
            pub const fn spec(self) -> &'static Spec {
                &SPECS[self as usize]
            }

            /// The field of a class, number and experimenter, as the wire has them.
            fn by_code(class: u16, number: u8, experimenter: Option<u32>) -> Option<Self> {
                let found = BY_CODE.binary_search_by_key(&(class, number), |entry| (entry.0, entry.1)).ok()?;
                let field = BY_CODE.get(found)?.2;
                let spec = field.spec();
                let code = if spec.oxm.class == class { spec.oxm } else { spec.nxm? };
                (code.experimenter == experimenter).then_some(field)
            }
        }
    };
}

fields! {
    InPort of 0 4 32 false "in_port" "OXM_OF_IN_PORT" Port;
    InPortNxm n0 0 2 16 false "in_port_nxm" "NXM_OF_IN_PORT" Port;
    Metadata of 2 8 64 true "metadata" "OXM_OF_METADATA" Hex;
    EthDst of 3 [n0 1] 6 48 true "dl_dst" "NXM_OF_ETH_DST" Mac;
    EthSrc of 4 [n0 2] 6 48 true "dl_src" "NXM_OF_ETH_SRC" Mac;
    EthType of 5 [n0 3] 2 16 false "dl_type" "NXM_OF_ETH_TYPE" Hex;
    VlanVid of 6 2 13 true "vlan_vid" "OXM_OF_VLAN_VID" Hex;
    VlanPcp of 7 1 3 false "vlan_pcp" "OXM_OF_VLAN_PCP" Decimal;
    IpDscp of 8 1 6 false "ip_dscp" "OXM_OF_IP_DSCP" Decimal;
    IpEcn of 9 [n1 28] 1 2 false "nw_ecn" "NXM_NX_IP_ECN" Decimal;
    IpProto of 10 [n0 6] 1 8 false "nw_proto" "NXM_OF_IP_PROTO" Decimal;
    Ipv4Src of 11 [n0 7] 4 32 true "nw_src" "NXM_OF_IP_SRC" Ipv4;
    Ipv4Dst of 12 [n0 8] 4 32 true "nw_dst" "NXM_OF_IP_DST" Ipv4;
    TcpSrc of 13 [n0 9] 2 16 true "tcp_src" "NXM_OF_TCP_SRC" Decimal;
    TcpDst of 14 [n0 10] 2 16 true "tcp_dst" "NXM_OF_TCP_DST" Decimal;
    UdpSrc of 15 [n0 11] 2 16 true "udp_src" "NXM_OF_UDP_SRC" Decimal;
    UdpDst of 16 [n0 12] 2 16 true "udp_dst" "NXM_OF_UDP_DST" Decimal;
    SctpSrc of 17 2 16 true "sctp_src" "OXM_OF_SCTP_SRC" Decimal;
    SctpDst of 18 2 16 true "sctp_dst" "OXM_OF_SCTP_DST" Decimal;
    Icmpv4Type of 19 [n0 13] 1 8 false "icmp_type" "NXM_OF_ICMP_TYPE" Decimal;
    Icmpv4Code of 20 [n0 14] 1 8 false "icmp_code" "NXM_OF_ICMP_CODE" Decimal;
    ArpOp of 21 [n0 15] 2 16 false "arp_op" "NXM_OF_ARP_OP" Decimal;
    ArpSpa of 22 [n0 16] 4 32 true "arp_spa" "NXM_OF_ARP_SPA" Ipv4;
    ArpTpa of 23 [n0 17] 4 32 true "arp_tpa" "NXM_OF_ARP_TPA" Ipv4;
    ArpSha of 24 [n1 17] 6 48 true "arp_sha" "NXM_NX_ARP_SHA" Mac;
    ArpTha of 25 [n1 18] 6 48 true "arp_tha" "NXM_NX_ARP_THA" Mac;
    Ipv6Src of 26 [n1 19] 16 128 true "ipv6_src" "NXM_NX_IPV6_SRC" Ipv6;
    Ipv6Dst of 27 [n1 20] 16 128 true "ipv6_dst" "NXM_NX_IPV6_DST" Ipv6;
    Icmpv6Type of 29 [n1 21] 1 8 false "icmpv6_type" "NXM_NX_ICMPV6_TYPE" Decimal;
    Icmpv6Code of 30 [n1 22] 1 8 false "icmpv6_code" "NXM_NX_ICMPV6_CODE" Decimal;
    NdTarget of 31 [n1 23] 16 128 true "nd_target" "NXM_NX_ND_TARGET" Ipv6;
    NdSll of 32 [n1 24] 6 48 true "nd_sll" "NXM_NX_ND_SLL" Mac;
    NdTll of 33 [n1 25] 6 48 true "nd_tll" "NXM_NX_ND_TLL" Mac;
    TunnelId of 38 [n1 16] 8 64 true "tun_id" "NXM_NX_TUN_ID" Hex;
    TcpFlags onf 42 [n1 34] 2 12 true "tcp_flags" "NXM_NX_TCP_FLAGS" TcpFlags;
    NdReserved er 1 4 32 false "nd_reserved" "ERICOXM_OF_ICMPV6_ND_RESERVED" Decimal;
    NdOptionsType er 2 1 8 false "nd_options_type" "ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE" Decimal;
    Reg0 n1 0 4 32 true "reg0" "NXM_NX_REG0" Hex;
    Reg1 n1 1 4 32 true "reg1" "NXM_NX_REG1" Hex;
    Reg2 n1 2 4 32 true "reg2" "NXM_NX_REG2" Hex;
    Reg3 n1 3 4 32 true "reg3" "NXM_NX_REG3" Hex;
    Reg4 n1 4 4 32 true "reg4" "NXM_NX_REG4" Hex;
    Reg5 n1 5 4 32 true "reg5" "NXM_NX_REG5" Hex;
    Reg6 n1 6 4 32 true "reg6" "NXM_NX_REG6" Hex;
    Reg7 n1 7 4 32 true "reg7" "NXM_NX_REG7" Hex;
    Reg8 n1 8 4 32 true "reg8" "NXM_NX_REG8" Hex;
    Reg9 n1 9 4 32 true "reg9" "NXM_NX_REG9" Hex;
    Reg10 n1 10 4 32 true "reg10" "NXM_NX_REG10" Hex;
    Reg11 n1 11 4 32 true "reg11" "NXM_NX_REG11" Hex;
    Reg12 n1 12 4 32 true "reg12" "NXM_NX_REG12" Hex;
    Reg13 n1 13 4 32 true "reg13" "NXM_NX_REG13" Hex;
    Reg14 n1 14 4 32 true "reg14" "NXM_NX_REG14" Hex;
    Reg15 n1 15 4 32 true "reg15" "NXM_NX_REG15" Hex;
    Xxreg0 n1 111 16 128 true "xxreg0" "NXM_NX_XXREG0" Hex;
    Xxreg1 n1 112 16 128 true "xxreg1" "NXM_NX_XXREG1" Hex;
    Xxreg2 n1 113 16 128 true "xxreg2" "NXM_NX_XXREG2" Hex;
    Xxreg3 n1 114 16 128 true "xxreg3" "NXM_NX_XXREG3" Hex;
    IpFrag n1 26 1 2 true "nw_frag" "NXM_NX_IP_FRAG" Fragment;
    NwTtl n1 29 1 8 false "nw_ttl" "NXM_NX_IP_TTL" Decimal;
    TunIpv4Src n1 31 4 32 true "tun_src" "NXM_NX_TUN_IPV4_SRC" Ipv4;
    TunIpv4Dst n1 32 4 32 true "tun_dst" "NXM_NX_TUN_IPV4_DST" Ipv4;
    PktMark n1 33 4 32 true "pkt_mark" "NXM_NX_PKT_MARK" Hex;
    ConjId n1 37 4 32 false "conj_id" "NXM_NX_CONJ_ID" Decimal;
    TunGbpId n1 38 2 16 true "tun_gbp_id" "NXM_NX_TUN_GBP_ID" Hex;
    TunMetadata0 n1 40 4 32 true "tun_metadata0" "NXM_NX_TUN_METADATA0" Hex;
    TunMetadata1 n1 41 4 32 true "tun_metadata1" "NXM_NX_TUN_METADATA1" Hex;
    TunMetadata2 n1 42 4 32 true "tun_metadata2" "NXM_NX_TUN_METADATA2" Hex;
    TunMetadata3 n1 43 4 32 true "tun_metadata3" "NXM_NX_TUN_METADATA3" Hex;
    TunMetadata4 n1 44 4 32 true "tun_metadata4" "NXM_NX_TUN_METADATA4" Hex;
    TunMetadata5 n1 45 4 32 true "tun_metadata5" "NXM_NX_TUN_METADATA5" Hex;
    TunMetadata6 n1 46 4 32 true "tun_metadata6" "NXM_NX_TUN_METADATA6" Hex;
    TunMetadata7 n1 47 4 32 true "tun_metadata7" "NXM_NX_TUN_METADATA7" Hex;
    CtState n1 105 4 32 true "ct_state" "NXM_NX_CT_STATE" CtState;
    CtZone n1 106 2 16 false "ct_zone" "NXM_NX_CT_ZONE" Decimal;
    CtMark n1 107 4 32 true "ct_mark" "NXM_NX_CT_MARK" Hex;
    CtLabel n1 108 16 128 true "ct_label" "NXM_NX_CT_LABEL" Hex;
    TunIpv6Src n1 109 16 128 true "tun_ipv6_src" "NXM_NX_TUN_IPV6_SRC" Ipv6;
    TunIpv6Dst n1 110 16 128 true "tun_ipv6_dst" "NXM_NX_TUN_IPV6_DST" Ipv6;
    CtNwProto n1 119 1 8 false "ct_nw_proto" "NXM_NX_CT_NW_PROTO" Decimal;
    CtNwSrc n1 120 4 32 true "ct_nw_src" "NXM_NX_CT_NW_SRC" Ipv4;
    CtNwDst n1 121 4 32 true "ct_nw_dst" "NXM_NX_CT_NW_DST" Ipv4;
    CtIpv6Src n1 122 16 128 true "ct_ipv6_src" "NXM_NX_CT_IPV6_SRC" Ipv6;
    CtIpv6Dst n1 123 16 128 true "ct_ipv6_dst" "NXM_NX_CT_IPV6_DST" Ipv6;
    CtTpSrc n1 124 2 16 true "ct_tp_src" "NXM_NX_CT_TP_SRC" Decimal;
    CtTpDst n1 125 2 16 true "ct_tp_dst" "NXM_NX_CT_TP_DST" Decimal;
}

/// Codes in both forms, sorted, for decoding.
static BY_CODE: std::sync::LazyLock<Vec<(u16, u8, OxmField)>> = std::sync::LazyLock::new(|| {
    let mut all: Vec<(u16, u8, OxmField)> = OxmField::ALL
        .iter()
        .flat_map(|field| {
            let spec = field.spec();
            std::iter::once(spec.oxm).chain(spec.nxm).map(|code| (code.class, code.number, *field))
        })
        .collect();
    all.sort_unstable();
    all
});

/// The two classes' shapes that a header on the wire can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OxmHeader {
    pub class: u16,
    pub number: u8,
    pub masked: bool,
    /// Bytes of value and mask that follow, without the experimenter id.
    pub payload: u8,
    pub experimenter: Option<u32>,
}

impl OxmHeader {
    /// Reads four bytes, or eight in the experimenter class.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let class = r.u16()?;
        let bits = r.u8()?;
        let length = r.u8()?;
        let (experimenter, payload) = if class == CLASS_EXPERIMENTER {
            let payload = length.checked_sub(4).ok_or(DecodeError::new(
                "experimenter oxm",
                crate::error::Fault::Length { declared: usize::from(length), least: 4, most: 255 },
            ))?;
            (Some(r.u32()?), payload)
        } else {
            (None, length)
        };
        Ok(Self { class, number: bits >> 1, masked: bits & 1 == 1, payload, experimenter })
    }

    /// The field, if it is known at all.
    pub fn field(&self) -> Option<OxmField> {
        OxmField::by_code(self.class, self.number, self.experimenter)
    }
}

impl Code {
    /// Appends the header of a field with `payload` bytes of value and mask.
    pub(crate) fn encode(self, masked: bool, payload: u8, out: &mut Vec<u8>) {
        out.put_u16(self.class);
        out.put_u8(self.number << 1 | u8::from(masked));
        match self.experimenter {
            None => out.put_u8(payload),
            Some(id) => {
                out.put_u8(payload.saturating_add(4));
                out.put_u32(id);
            }
        }
    }
}

impl OxmField {
    /// Its code where an action names it.
    pub(crate) fn reference(self) -> Code {
        let spec = self.spec();
        spec.nxm.unwrap_or(spec.oxm)
    }

    /// The header that names it in an action, four bytes; experimenter fields have none and are named by
    /// their older code.
    pub(crate) fn encode_reference(self, out: &mut Vec<u8>) {
        let bytes = if self.is_tunnel_option() { TUNNEL_OPTION_BYTES } else { self.spec().bytes };
        self.reference().encode(false, bytes, out);
    }

    /// A field named in an action. An option of a tunnel may be named with another length than its mapped one.
    pub(crate) fn decode_reference(r: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let header = OxmHeader::decode(r)?;
        Ok(header
            .field()
            .filter(|field| !header.masked && (header.payload == field.spec().bytes || field.is_tunnel_option())))
    }

    /// Whether its length is what the switch's TLV table says, of which four bytes are supported here.
    pub fn is_tunnel_option(self) -> bool {
        (Self::TunMetadata0..=Self::TunMetadata7).contains(&self)
    }

    /// All ones over its meaningful bits.
    pub const fn all_ones(self) -> u128 {
        u128::MAX >> (128 - self.spec().bits as u32)
    }

    /// The register of a number from 0 to 15.
    pub fn reg(number: u8) -> Option<Self> {
        Self::ALL.get(Self::Reg0 as usize..=Self::Reg15 as usize)?.get(usize::from(number)).copied()
    }
}
