//! The stages, declared once, in the order in which a packet meets them.
//!
//! A stage says what its entries may match and set and where they may go. Going is only ever forward,
//! so no program can loop. Every stage's miss is a drop.

use crate::field::Field;

/// A stage of the pipeline. The order is the order of processing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stage {
    /// In-port to network and source identity.
    Classify,
    /// Between switches of the fabric: on to the edge that the packet is for.
    Carry,
    /// Source addresses must be the sender's own.
    Antispoof,
    /// ARP and ND are answered here; nothing is flooded.
    ArpNd,
    /// Completes an answer to ARP or ND and sends it back.
    Answer,
    /// Source address to address class.
    SrcClass,
    /// Destination address to address class.
    DstClass,
    /// Destination address to identity and port.
    Locate,
    /// Into the connection tracker.
    Track,
    /// Back from the tracker: direction, service.
    Connection,
    /// What would be if staged policies of the source were active: its rules of tier emergency.
    StagedEgressEmergency,
    /// The same for tier platform.
    StagedEgressPlatform,
    /// The same for tier application, then isolation.
    StagedEgressApplication,
    /// The same for tier baseline.
    StagedEgressBaseline,
    /// The source's rules of tier emergency.
    EgressEmergency,
    /// The source's rules of tier platform.
    EgressPlatform,
    /// The source's rules of tier application, then isolation.
    EgressApplication,
    /// The source's rules of tier baseline, then zone and network default.
    EgressBaseline,
    /// What is for a group becomes copies, one for each receiver.
    Spread,
    /// Each copy to its receiver.
    Receive,
    /// What would be if staged policies of the destination were active: its rules of tier emergency.
    StagedIngressEmergency,
    /// The same for tier platform.
    StagedIngressPlatform,
    /// The same for tier application, then isolation.
    StagedIngressApplication,
    /// The same for tier baseline.
    StagedIngressBaseline,
    /// The destination's rules of tier emergency.
    IngressEmergency,
    /// The destination's rules of tier platform.
    IngressPlatform,
    /// The destination's rules of tier application, then isolation.
    IngressApplication,
    /// The destination's rules of tier baseline, then zone and network default.
    IngressBaseline,
    /// What is allowed: connections are committed.
    Verdict,
    /// Whether what leaves by a tunnel fits the underlay.
    Fit,
    /// Out of the port.
    Deliver,
    /// What does not fit the underlay is dropped, and its sender told.
    TooBig,
}

/// What a stage's entries may do.
#[derive(Debug, Clone, Copy)]
pub struct StageSpec {
    /// The stage.
    pub stage: Stage,
    /// Its name in printed programs and documents.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Whether entries may match the in-port.
    pub in_port: bool,
    /// Fields that entries may match.
    pub matches: &'static [Field],
    /// Fields that entries may set.
    pub sets: &'static [Field],
    /// Stages that entries may go to.
    pub next: &'static [Stage],
}

use Field as F;
use Stage as S;

const POLICY_MATCHES: &[Field] =
    &[F::SrcId, F::DstId, F::SrcClass, F::DstClass, F::Service, F::SrcLocal, F::DstLocal, F::Conn, F::Conjunction];

const fn policy(stage: Stage, name: &'static str, about: &'static str, next: &'static [Stage]) -> StageSpec {
    StageSpec { stage, name, about, in_port: false, matches: POLICY_MATCHES, sets: &[], next }
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: &'static [StageSpec] = &[
        StageSpec {
            stage: S::Classify,
            name: "classify",
            about: "In-port (and VLAN of an uplink, whose tag is taken off; VNI of a tunnel) to network, source identity and direction.",
            in_port: true,
            matches: &[F::TunId, F::TunSrc4, F::TunSrc6, F::EthType, F::Vlan],
            sets: &[F::Network, F::SrcId, F::SrcLocal, F::InVlan, F::FromTunnel, F::Vlan],
            next: &[S::Carry, S::Antispoof],
        },
        StageSpec {
            stage: S::Carry,
            name: "carry",
            about: "What came by a link from another switch, by the number of the edge in its tag: out of a port towards that edge; at the edge itself, the tag comes off.",
            in_port: false,
            matches: &[F::EthSrc, F::Vlan],
            sets: &[F::Network, F::FromTunnel, F::Routed, F::Peer, F::EthSrc, F::Vlan],
            next: &[S::Antispoof],
        },
        StageSpec {
            stage: S::Antispoof,
            name: "antispoof",
            about: "Port, MAC, IP and ARP/ND sender must be the workload's own; no outsider uses a workload's address. Behind a tunnel: so must its switch and its identity.",
            in_port: true,
            matches: &[
                F::Network,
                F::SrcLocal,
                F::FromTunnel,
                F::TunId,
                F::TunSrc4,
                F::TunSrc6,
                F::TunIdentity,
                F::TunGbp,
                F::EthSrc,
                F::EthDst,
                F::EthType,
                F::Vlan,
                F::IpProto,
                F::Ipv4Src,
                F::Ipv4Dst,
                F::Ipv6Src,
                F::Ipv6Dst,
                F::L4Src,
                F::L4Dst,
                F::IcmpType,
                F::IcmpCode,
                F::ArpOp,
                F::ArpSpa,
                F::ArpTpa,
                F::ArpSha,
                F::NdSll,
                F::NdTarget,
                F::NdTll,
            ],
            sets: &[F::SrcId, F::SrcLocal, F::InVlan, F::Peer, F::EthSrc],
            next: &[S::ArpNd],
        },
        StageSpec {
            stage: S::ArpNd,
            name: "arp-nd",
            about: "Answers ARP and ND for known workloads and gateways; unknown addresses are asked for at the uplink alone. What is sent to a gateway is routed.",
            in_port: false,
            matches: &[
                F::Network,
                F::SrcId,
                F::SrcLocal,
                F::FromTunnel,
                F::EthSrc,
                F::EthDst,
                F::EthType,
                F::IpProto,
                F::IpFrag,
                F::IpTtl,
                F::Ipv4Src,
                F::Ipv4Dst,
                F::Ipv6Src,
                F::Ipv6Dst,
                F::L4Src,
                F::L4Dst,
                F::IcmpType,
                F::IcmpCode,
                F::ArpOp,
                F::ArpSpa,
                F::ArpTpa,
                F::NdTarget,
                F::NdOption,
            ],
            sets: &[
                F::DstId,
                F::OutVlan,
                F::OutTunnel,
                F::Peer,
                F::Routed,
                F::TunId,
                F::TunDst4,
                F::TunDst6,
                F::TunIdentity,
                F::TunGbp,
                F::EthSrc,
                F::EthDst,
                F::ArpOp,
                F::ArpSpa,
                F::ArpTpa,
                F::ArpSha,
                F::ArpTha,
                F::IpTtl,
                F::Ipv4Src,
                F::Ipv4Dst,
                F::Ipv6Src,
                F::Ipv6Dst,
                F::IcmpType,
                F::NdReserved,
            ],
            next: &[S::Answer, S::SrcClass, S::Fit, S::Deliver],
        },
        StageSpec {
            stage: S::Answer,
            name: "answer",
            about: "Sends what arp-nd made of a question back, on its VLAN, a gateway's echo reply too; an advertisement gets its link-layer address.",
            in_port: false,
            matches: &[F::InVlan, F::FromTunnel, F::EthType, F::IpProto, F::IcmpType, F::IcmpCode, F::NdOption],
            sets: &[F::Vlan, F::NdTll, F::NdOption],
            next: &[],
        },
        StageSpec {
            stage: S::SrcClass,
            name: "src-class",
            about: "Source address to address class, longest prefix first: one entry per prefix that a policy mentions.",
            in_port: false,
            matches: &[F::EthType, F::Ipv4Src, F::Ipv6Src],
            sets: &[F::SrcClass],
            next: &[S::DstClass],
        },
        StageSpec {
            stage: S::DstClass,
            name: "dst-class",
            about: "Destination address to address class, likewise.",
            in_port: false,
            matches: &[F::EthType, F::Ipv4Dst, F::Ipv6Dst],
            sets: &[F::DstClass],
            next: &[S::Locate],
        },
        StageSpec {
            stage: S::Locate,
            name: "locate",
            about: "Network and destination address to destination identity, out-port, VLAN and tunnel.",
            in_port: false,
            matches: &[
                F::Network,
                F::SrcId,
                F::SrcLocal,
                F::FromTunnel,
                F::Routed,
                F::EthDst,
                F::EthType,
                F::IpProto,
                F::IpTtl,
                F::Ipv4Src,
                F::Ipv4Dst,
                F::Ipv6Src,
                F::Ipv6Dst,
            ],
            sets: &[
                F::DstId,
                F::DstLocal,
                F::ToGroup,
                F::OutVlan,
                F::OutTunnel,
                F::Routed,
                F::ToPeer,
                F::TunId,
                F::TunDst4,
                F::TunDst6,
                F::TunIdentity,
                F::TunGbp,
                F::EthSrc,
                F::EthDst,
                F::IpTtl,
            ],
            next: &[S::Track],
        },
        StageSpec {
            stage: S::Track,
            name: "track",
            about: "Sends packets through the connection tracker in the network's zone; messages it cannot track go on, fragments do not. What is of nobody and for nobody on this switch passes by the tracker.",
            in_port: false,
            matches: &[F::SrcLocal, F::DstLocal, F::ToGroup, F::EthType, F::IpProto, F::IpFrag, F::IcmpType],
            sets: &[],
            next: &[S::Connection, S::Fit],
        },
        StageSpec {
            stage: S::Connection,
            name: "connection",
            about: "Turns replies and related errors into the view of the connection's first packet, and names the service.",
            in_port: false,
            matches: &[
                F::Network,
                F::SrcId,
                F::DstLocal,
                F::FromTunnel,
                F::Peer,
                F::Conn,
                F::EthType,
                F::IpProto,
                F::IcmpType,
            ],
            sets: &[F::Service],
            next: &[S::StagedEgressEmergency, S::Verdict],
        },
        policy(
            S::StagedEgressEmergency,
            "staged-egress-emergency",
            "Counts what staged policies of the source would decide, and stops nothing: all its rules of tier emergency.",
            &[S::StagedEgressPlatform, S::EgressEmergency, S::Spread],
        ),
        policy(
            S::StagedEgressPlatform,
            "staged-egress-platform",
            "The same for tier platform.",
            &[S::StagedEgressApplication, S::EgressEmergency],
        ),
        policy(
            S::StagedEgressApplication,
            "staged-egress-application",
            "The same for tier application; at its end, isolation.",
            &[S::StagedEgressBaseline, S::EgressEmergency],
        ),
        policy(S::StagedEgressBaseline, "staged-egress-baseline", "The same for tier baseline.", &[S::EgressEmergency]),
        policy(
            S::EgressEmergency,
            "egress-emergency",
            "The source's rules of tier emergency.",
            &[S::EgressPlatform, S::Spread],
        ),
        policy(
            S::EgressPlatform,
            "egress-platform",
            "The source's rules of tier platform.",
            &[S::EgressApplication, S::Spread],
        ),
        policy(
            S::EgressApplication,
            "egress-application",
            "The source's rules of tier application; at its end, isolation.",
            &[S::EgressBaseline, S::Spread],
        ),
        policy(
            S::EgressBaseline,
            "egress-baseline",
            "The source's rules of tier baseline; at its end, zone isolation or the network's default.",
            &[S::Spread],
        ),
        StageSpec {
            stage: S::Spread,
            name: "spread",
            about: "What a workload may send to a group becomes copies: one for each workload of its network here and, if the sender is here, one for each switch with others.",
            in_port: false,
            matches: &[F::Network, F::SrcId, F::FromTunnel, F::ToGroup, F::EthType],
            sets: &[F::OutTunnel, F::TunId, F::TunDst4, F::TunDst6, F::TunIdentity, F::TunGbp, F::EthDst],
            next: &[S::Receive, S::StagedIngressEmergency],
        },
        StageSpec {
            stage: S::Receive,
            name: "receive",
            about: "A copy to its receiver, whose rules judge it, or to the overlay port; none back to where it came from.",
            in_port: true,
            matches: &[F::Network, F::OutTunnel, F::EthDst],
            sets: &[F::DstId, F::DstLocal],
            next: &[S::StagedIngressEmergency, S::Fit],
        },
        policy(
            S::StagedIngressEmergency,
            "staged-ingress-emergency",
            "Counts what staged policies of the destination would decide, and stops nothing: all its rules of tier emergency.",
            &[S::StagedIngressPlatform, S::IngressEmergency, S::Verdict],
        ),
        policy(
            S::StagedIngressPlatform,
            "staged-ingress-platform",
            "The same for tier platform.",
            &[S::StagedIngressApplication, S::IngressEmergency],
        ),
        policy(
            S::StagedIngressApplication,
            "staged-ingress-application",
            "The same for tier application; at its end, isolation.",
            &[S::StagedIngressBaseline, S::IngressEmergency],
        ),
        policy(
            S::StagedIngressBaseline,
            "staged-ingress-baseline",
            "The same for tier baseline.",
            &[S::IngressEmergency],
        ),
        policy(
            S::IngressEmergency,
            "ingress-emergency",
            "The destination's rules of tier emergency.",
            &[S::IngressPlatform, S::Verdict],
        ),
        policy(
            S::IngressPlatform,
            "ingress-platform",
            "The destination's rules of tier platform.",
            &[S::IngressApplication, S::Verdict],
        ),
        policy(
            S::IngressApplication,
            "ingress-application",
            "The destination's rules of tier application; at its end, isolation.",
            &[S::IngressBaseline, S::Verdict],
        ),
        policy(
            S::IngressBaseline,
            "ingress-baseline",
            "The destination's rules of tier baseline; at its end, zone isolation or the network's default.",
            &[S::Verdict],
        ),
        StageSpec {
            stage: S::Verdict,
            name: "verdict",
            about: "What is allowed gets here: new connections are committed.",
            in_port: false,
            matches: &[F::DstLocal, F::FromTunnel, F::Peer, F::Conn, F::EthType],
            sets: &[],
            next: &[S::Fit],
        },
        StageSpec {
            stage: S::Fit,
            name: "fit",
            about: "Compares what leaves by a tunnel with what the underlay has room for. What leaves for another edge gets the Ethernet source that says from where it comes.",
            in_port: false,
            matches: &[F::Network, F::OutTunnel, F::Routed, F::ToPeer, F::Peer, F::Conn, F::TunDst4, F::TunDst6],
            sets: &[F::TooBig, F::EthSrc, F::EthDst],
            next: &[S::Deliver],
        },
        StageSpec {
            stage: S::Deliver,
            name: "deliver",
            about: "Out of the port that was found, tagged where its uplink is; what does not fit the underlay goes on.",
            in_port: false,
            matches: &[
                F::Network,
                F::OutVlan,
                F::OutTunnel,
                F::TooBig,
                F::Routed,
                F::ToGroup,
                F::EthType,
                F::IpTtl,
                F::Ipv4Dst,
                F::Ipv6Dst,
            ],
            sets: &[F::Vlan, F::EthSrc, F::EthDst, F::IpTtl],
            next: &[S::TooBig],
        },
        StageSpec {
            stage: S::TooBig,
            name: "too-big",
            about: "What does not fit is dropped, and its sender told.",
            in_port: false,
            matches: &[F::OutTunnel],
            sets: &[],
            next: &[],
        },
    ];

    /// The stage's declaration.
    pub fn spec(self) -> &'static StageSpec {
        // ALL is in the order of the discriminants; a test holds it to that.
        &Self::ALL[self as usize]
    }

    /// The stage with this index.
    pub fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).map(|spec| spec.stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_in_order_and_only_lead_forward() {
        for (index, spec) in Stage::ALL.iter().enumerate() {
            assert_eq!(spec.stage as usize, index);
            assert!(spec.next.iter().all(|next| *next > spec.stage), "{} goes back", spec.name);
        }
    }
}
