//! What a switch's overlay ports need, and how tunnels' headers carry identities.

use super::{Entries, Here, IP, icmp, ip, learn, proto, to};
use bulkhead_pipeline::{
    Action, Builtin, Entry, Field, Match, Next, Stage, conn, ip_proto,
    overlay::{EITHER_MAC, ETHERNET_HEADER, MARKS, MAY_REPLY_MAC, PROBE_ETHERTYPE, REPLY_MAC, Tunnel},
    peer,
};
use bulkhead_policy::{
    model::{Driver, Encap, Host, Switch},
    overlay::{self as policy, TunnelKind, does_geneve},
};
use bulkhead_topology::{Mac, Port};
use std::{collections::BTreeSet, net::IpAddr};

/// Ethertype of the frames by which links are found (IEEE 802.1AB §8.3).
const LLDP: u128 = 0x88cc;
/// Largest IP packet of an underlay that nobody has said anything about: Ethernet's own (RFC 894).
const DEFAULT_UNDERLAY_MTU: u16 = 1500;

/// The encapsulation of a kind of tunnel, and the field that carries the identity, if one does.
pub(super) fn header(kind: TunnelKind) -> (Tunnel, Option<Field>) {
    match kind {
        TunnelKind::Geneve => (Tunnel::Geneve, Some(Field::TunIdentity)),
        TunnelKind::Vxlan => (Tunnel::Vxlan, None),
        TunnelKind::VxlanGbp => (Tunnel::Vxlan, Some(Field::TunGbp)),
    }
}

/// The encapsulations that a switch has a port for.
fn encapsulations(switch: &Switch) -> impl Iterator<Item = Tunnel> {
    let geneve = does_geneve(&switch.driver);
    let all = Tunnel::ALL.into_iter().filter(move |tunnel| geneve || *tunnel != Tunnel::Geneve);
    all.filter(|_| switch.vtep.is_some())
}

/// The ports that a network's packets may come by: VXLAN is what ends agree on that cannot do what it asks for.
pub(super) fn ports(here: &Here<'_>) -> impl Iterator<Item = Port> {
    let switch = here.fabric.switches.get(here.switch);
    let asked = here.network.encap == Encap::Geneve;
    let used = switch.into_iter().flat_map(|switch| encapsulations(switch));
    used.filter(move |tunnel| asked || *tunnel != Tunnel::Geneve).map(Tunnel::port)
}

/// What is believed of another switch that there are tunnels to: probes, which others in the underlay would only keep from
/// being heard.
pub(crate) fn peer<'a>(tunnels: impl Iterator<Item = &'a policy::Tunnel>) -> Vec<Entry> {
    let mut e = Entries(Vec::new());
    // VXLAN with the group-policy id and without it is one port.
    let ends: BTreeSet<(Tunnel, IpAddr)> = tunnels.map(|tunnel| (header(tunnel.kind).0, tunnel.far)).collect();
    for (tunnel, far) in ends {
        let probe = from(far, ip(PROBE_ETHERTYPE).port(tunnel.port()).with(Field::TunId, 0u8));
        e.add(Stage::Classify, 100, probe, vec![Action::Probe], Next::Done, Builtin::Probe);
    }
    e.0
}

/// Of packets that come from a VTEP.
pub(super) fn from(far: IpAddr, m: Match) -> Match {
    match far {
        IpAddr::V4(v4) => m.with(Field::TunSrc4, v4.to_bits()),
        IpAddr::V6(v6) => m.with(Field::TunSrc6, v6.to_bits()),
    }
}

/// Of frames by which links are found.
pub(super) fn lldp() -> Match {
    ip(LLDP).with(Field::Vlan, 0u8)
}

/// The entries of a switch with a VTEP address: what no network owns is dropped, and what leaves has to fit the underlay.
/// Others look for links to each other.
pub(crate) fn overlay(switch: &Switch, host: Option<&Host>, learns: bool) -> Vec<Entry> {
    let mut e = Entries(Vec::new());
    let remembers = switch.driver.remembers();
    let Some(vtep) = switch.vtep else {
        // One that remembers no connections takes no part in links, nor in learning.
        if !remembers {
            return e.0;
        }
        // Below what is of workloads and uplinks: what they say of links is not listened to.
        e.add(Stage::Classify, 30, lldp(), vec![Action::Discover], Next::Drop, Builtin::Discover);
        if learns {
            learn::strangers(&mut e);
        }
        return e.0;
    };
    let written = match &switch.driver {
        Driver::P4runtime { underlay, .. } => underlay.as_ref().and_then(|underlay| underlay.mtu),
        Driver::Openflow(_) | Driver::Sim | Driver::Kernel => None,
    };
    let underlay = written.or_else(|| host?.underlay_mtu).unwrap_or(DEFAULT_UNDERLAY_MTU);
    for tunnel in encapsulations(switch) {
        let came = Match::any().port(tunnel.port());
        e.drop(Stage::Classify, 40, came, Builtin::Tunnel);
        let mtu = underlay.saturating_sub(tunnel.overhead(vtep.is_ipv6()));
        let leaves = Match::any().with(Field::OutTunnel, tunnel as u8);
        let check = vec![Action::CheckSize(mtu.saturating_add(ETHERNET_HEADER))];
        let mark = |e: &mut Entries, mac: Mac, bits: u128, mask: u128| {
            let marked =
                leaves.clone().with(Field::ToPeer, 1u8).masked(Field::Conn, conn::TRK | bits, conn::TRK | mask);
            let mark = [Action::set(Field::EthDst, mac.to_bits().into())].into_iter().chain(check.clone()).collect();
            e.add(Stage::Fit, 20, marked, mark, to(Stage::Deliver), Builtin::Mtu);
        };
        if remembers {
            mark(&mut e, REPLY_MAC, conn::RPL, conn::RPL);
        } else {
            mark(&mut e, MAY_REPLY_MAC, conn::RPL, conn::EITHER);
            mark(&mut e, EITHER_MAC, conn::EITHER, conn::EITHER);
        }
        e.add(Stage::Fit, 10, leaves.clone(), check.clone(), to(Stage::Deliver), Builtin::Mtu);
        if !remembers {
            let too_big = Match::any().with(Field::OutTunnel, tunnel as u8).with(Field::TooBig, 1u8);
            e.add(Stage::Deliver, 100, too_big, vec![Action::TooBig { mtu }], Next::Drop, Builtin::Mtu);
            continue;
        }
        // Open vSwitch counts each packet for both outcomes of the comparison, up to where a packet has to come again.
        // Only from there on a count is one of packets that did not fit: hence the tracker, and a stage of its own.
        for kind in IP {
            let too_big = ip(kind).with(Field::OutTunnel, tunnel as u8).with(Field::TooBig, 1u8);
            e.add(Stage::Deliver, 100, too_big, vec![Action::Track], to(Stage::TooBig), Builtin::Mtu);
        }
        e.add(Stage::TooBig, 100, leaves, vec![Action::TooBig { mtu }], Next::Drop, Builtin::Mtu);
    }
    told(&mut e, &MARKS);
    if remembers {
        unconfirmed(&mut e);
        unasked(&mut e);
    }
    e.0
}

/// Of packets in the direction opposite to their connection's first packet.
pub(super) fn replies(m: Match) -> Match {
    m.masked(Field::Conn, conn::TRK | conn::RPL, conn::TRK | conn::RPL)
}

/// What other switches say of their packets, by these addresses.
pub(super) fn told(e: &mut Entries, marks: &[(Mac, u128)]) {
    for (kind, (mac, said)) in IP.into_iter().flat_map(|kind| marks.iter().map(move |mark| (kind, mark))) {
        let marked = ip(kind).with(Field::FromTunnel, 1u8).with(Field::EthDst, mac.to_bits());
        let mark = vec![Action::set(Field::Peer, *said)];
        e.add(Stage::ArpNd, 12, marked, mark, to(Stage::SrcClass), Builtin::Reply);
    }
}

/// A tracker knows only what its own switch let pass. A connection that the sender's switch has let out, and the
/// destination's has not let in, is one to the first and none to the second: whatever comes back is then no answer,
/// but the destination's own doing, and is judged as that. So each switch says of what it sends whether it is an
/// answer there.
pub(super) fn unconfirmed(e: &mut Entries) {
    let judge = to(Stage::StagedEgressEmergency);
    for kind in IP {
        // Above what a network that lets connections live has for them, and below what is about errors.
        let theirs =
            |m: Match| unmarked(m).masked(Field::Conn, conn::TRK | conn::RPL, conn::TRK | conn::RPL | conn::REL);
        let service = [ip_proto::TCP, ip_proto::UDP, ip_proto::SCTP].map(|known| (known, Action::ServiceFromDst));
        for (known, service) in service.into_iter().chain([(icmp(kind), Action::ServiceFromIcmp)]) {
            e.add(Stage::Connection, 76, theirs(proto(kind, known)), vec![service], judge, Builtin::Conntrack);
        }
        e.add(Stage::Connection, 75, theirs(ip(kind)), vec![Action::ServiceFromProto], judge, Builtin::Conntrack);
        // Else its answers would never be called answers here: a workload that moved may have spoken first, and to no
        // end, where its client did not know of it.
        e.add(Stage::Verdict, 30, theirs(ip(kind)), vec![Action::CommitAnew], to(Stage::Fit), Builtin::Verdict);
    }
    let error = conn::TRK | conn::RPL | conn::REL;
    e.drop(Stage::Connection, 90, unmarked(Match::any()).masked(Field::Conn, error, error), Builtin::Invalid);
}

/// What another switch has let out as an answer alone, and remembers of nothing, is one here or nothing: nobody has asked
/// whether its sender may say it of its own accord.
fn unasked(e: &mut Entries) {
    let said = Match::any().with(Field::FromTunnel, 1u8).with(Field::DstLocal, 1u8).with(Field::Peer, peer::MAY_ANSWER);
    let none = said.masked(Field::Conn, conn::TRK, conn::TRK | conn::RPL);
    e.drop(Stage::Connection, 90, none, Builtin::Invalid);
}

/// Of packets for this switch's workloads that another switch calls questions.
fn unmarked(m: Match) -> Match {
    m.with(Field::FromTunnel, 1u8).with(Field::DstLocal, 1u8).with(Field::Peer, peer::QUESTION)
}
