//! What every switch has, whatever its networks are.
//!
//! One that remembers no connections has less: nothing is committed or recalled there, none is `established`, and no copies
//! are made (ADR 15).

use super::{BROADCAST, DHCPV6_SERVERS, EXTERNAL, Entries, IP, dst, icmp, ip, nd, nd_like, proto, reply, to};
use crate::rule::{Lane, allowed, next_tier, stage, weighed};
use bulkhead_pipeline::{
    Action, Builtin, Cause, Entry, Field, Match, Next, Output, Stage, conn, ethertype, frag, ip_proto,
    overlay::GATEWAY_MAC, vlan,
};
use bulkhead_policy::model::{Direction, Tier};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Stages that no packet comes to on a switch that remembers no connections.
const UNUSED: [Stage; 3] = [Stage::Carry, Stage::Receive, Stage::TooBig];

/// The entries of a switch, which remembers connections or does not.
pub(crate) fn pipeline(remembers: bool) -> Vec<Entry> {
    let mut e = Entries(Vec::new());
    for spec in Stage::ALL.iter().filter(|spec| remembers || !UNUSED.contains(&spec.stage)) {
        e.0.push(Entry::new(spec.stage, 0, Match::any(), Vec::new(), Next::Drop, Cause::Miss(spec.stage)));
    }
    tags(&mut e);
    if remembers {
        e.drop(Stage::Carry, 1, Match::any(), Builtin::Carry);
    }
    let local = |yes: u128| Match::any().with(Field::SrcLocal, yes);
    e.drop(Stage::Antispoof, 1, local(1), Builtin::Antispoof);
    e.add(Stage::Antispoof, 10, local(0), vec![], to(Stage::ArpNd), Builtin::Antispoof);
    from_tunnels(&mut e);
    arp_nd(&mut e);
    for (stage, next) in [(Stage::SrcClass, Stage::DstClass), (Stage::DstClass, Stage::Locate)] {
        e.add(stage, 1, Match::any(), vec![], to(next), Builtin::AddressClass);
    }
    let group = [("224.0.0.0", 0xf000_0000_u128), ("240.0.0.0", 0xf000_0000)];
    for (address, mask) in group.map(|(a, m)| (a.parse().unwrap_or(Ipv4Addr::BROADCAST).to_bits(), m)) {
        e.drop(Stage::Locate, 95, ip(ethertype::IPV4).masked(Field::Ipv4Dst, address, mask), Builtin::Multicast);
    }
    let v6 = |top: u128, mask: u128| ip(ethertype::IPV6).masked(Field::Ipv6Dst, top << 112, mask << 112);
    e.drop(Stage::Locate, 95, v6(0xff00, 0xff00), Builtin::Multicast);
    e.drop(Stage::Locate, 95, v6(0xfe80, 0xffc0), Builtin::Multicast);
    // No address is nobody's, or a broadcast of old times (RFC 1122 §3.2.1.3, RFC 4291 §2.5.2).
    for nobody in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        e.drop(Stage::Locate, 95, dst(nobody), Builtin::Multicast);
    }
    e.drop(Stage::Locate, 15, local(0), Builtin::Transit);
    e.add(Stage::Spread, 1, Match::any(), vec![], to(Stage::StagedIngressEmergency), Builtin::TierEnd);
    track(&mut e);
    connection(&mut e);
    if remembers {
        groups(&mut e);
        related(&mut e);
    }
    let skip = |field| Match::any().with(field, 0u8);
    let unmanaged = Builtin::Unmanaged;
    for (direction, field) in [(Direction::Egress, Field::SrcLocal), (Direction::Ingress, Field::DstLocal)] {
        let first = stage(Lane::Staged, direction, Tier::Emergency);
        e.add(first, u16::MAX, skip(field), vec![], allowed(direction), unmanaged);
        for tier in Tier::ALL {
            if let Some(next) = next_tier(Lane::Active, direction, tier) {
                e.add(stage(Lane::Active, direction, tier), 1, Match::any(), vec![], to(next), Builtin::TierEnd);
            }
            // Only whom a staged policy is about has the staged tiers before it; see an identity's own entries.
            let (_, active, _) = weighed(direction, None);
            let next = next_tier(Lane::Staged, direction, tier).filter(|_| tier != Tier::Emergency);
            let next = next.map_or(active, to);
            e.add(stage(Lane::Staged, direction, tier), 1, Match::any(), vec![], next, Builtin::Staged);
        }
    }
    for kind in IP.into_iter().filter(|_| remembers) {
        let new = ip(kind).masked(Field::Conn, conn::TRK | conn::NEW, conn::TRK | conn::NEW);
        e.add(Stage::Verdict, 20, new, vec![Action::Commit], to(Stage::Fit), Builtin::Verdict);
    }
    e.add(Stage::Verdict, 10, Match::any(), vec![], to(Stage::Fit), Builtin::Verdict);
    e.add(Stage::Fit, 1, Match::any(), vec![], to(Stage::Deliver), Builtin::Deliver);
    e.0
}

/// What is for a group that a network asks for: policy judges each packet for itself, so the tracker need not know it.
fn groups(e: &mut Entries) {
    for kind in IP {
        let group = ip(kind).with(Field::ToGroup, 1u8);
        e.add(Stage::Track, 107, group, vec![], to(Stage::Connection), Builtin::Multicast);
    }
    // Outsiders send to no group, and what nobody here gets ends here.
    let group = Match::any().with(Field::ToGroup, 1u8);
    e.drop(Stage::Spread, 110, group.clone().with(Field::SrcId, EXTERNAL), Builtin::Multicast);
    e.drop(Stage::Spread, 50, group, Builtin::Multicast);
}

/// What comes by a tunnel has to be known to a network's or a workload's entries, and never goes back by one.
fn from_tunnels(e: &mut Entries) {
    let tunnelled = |m: Match| m.with(Field::FromTunnel, 1u8);
    e.drop(Stage::Antispoof, 11, tunnelled(Match::any()), Builtin::OverlayAntispoof);
    // Above the rows for a workload's addresses: who asks for a neighbour has to name its own Ethernet address too.
    e.drop(Stage::Antispoof, 101, tunnelled(nd(135)), Builtin::OverlayAntispoof);
    e.drop(Stage::Answer, 60, tunnelled(Match::any()), Builtin::Tunnel);
}

/// VLAN tags: only a network's uplink takes one, it is off before anything else is looked at, and one tag it is.
fn tags(e: &mut Entries) {
    let tagged = || Match::any().masked(Field::Vlan, vlan::PRESENT, vlan::PRESENT);
    e.drop(Stage::Classify, 50, tagged(), Builtin::Vlan);
    // Below the tag that classify took off there is another one: a switch shows it as a tag, or, if it reads
    // no more than one, as the ethertype.
    e.drop(Stage::Antispoof, 120, tagged(), Builtin::Vlan);
    for inner in [ethertype::VLAN, ethertype::SERVICE_VLAN] {
        e.drop(Stage::Antispoof, 120, ip(inner), Builtin::Vlan);
    }
    // What leaves, and the switch's own answers: without a tag, or with that of the field.
    // The asker's link-layer option becomes the answer's. Who asks without one (RFC 4861 §7.2.2: he knows the target's
    // address, and only wants to see it alive) is answered without: a switch cannot make room for one, and Open
    // vSwitch 3.1 (`packet_set_nd_ext`) would write behind the packet's end.
    let fill = vec![Action::set(Field::NdOption, 2), Action::Copy { from: Field::EthSrc, to: Field::NdTll }];
    let (arp, bare, advertisement) = (ip(ethertype::ARP), nd(136), nd(136).with(Field::NdOption, 1u8));
    for kind in IP {
        let echo = vec![Action::Output(Output::InPort)];
        e.add(
            Stage::Answer,
            10,
            proto(kind, icmp(kind)).with(Field::IcmpType, reply(kind)),
            echo,
            Next::Done,
            Builtin::Gateway,
        );
        let routed = ip(kind).with(Field::Routed, 1u8);
        let hop = vec![
            Action::DecTtl,
            Action::set(Field::EthSrc, GATEWAY_MAC.to_bits().into()),
            Action::Output(Output::Chosen),
        ];
        e.add(Stage::Deliver, 50, routed, hop, Next::Done, Builtin::Deliver);
    }
    for (stage, priority, matches, fill, id, output, cause) in [
        (Stage::Answer, 10, arp, vec![], Field::InVlan, Output::InPort, Builtin::Arp),
        (Stage::Answer, 10, bare, vec![], Field::InVlan, Output::InPort, Builtin::Nd),
        (Stage::Answer, 30, advertisement, fill, Field::InVlan, Output::InPort, Builtin::Nd),
        (Stage::Deliver, 10, Match::any(), vec![], Field::OutVlan, Output::Chosen, Builtin::Deliver),
    ] {
        let send = |tag: Option<Action>| fill.iter().cloned().chain(tag).chain([Action::Output(output.clone())]);
        e.add(stage, priority + 10, matches.clone().with(id, 0u8), send(None).collect(), Next::Done, cause);
        e.add(stage, priority, matches, send(Some(Action::PushVlan(id))).collect(), Next::Done, cause);
    }
}

fn arp_nd(e: &mut Entries) {
    // A duplicate address probe must not be answered: the asker would believe its own address taken.
    e.drop(Stage::ArpNd, 110, nd(135).with(Field::Ipv6Src, 0u8), Builtin::Nd);
    for kind in 133..=137u128 {
        e.drop(Stage::ArpNd, 20, nd_like(kind), Builtin::Nd);
    }
    // A switch finds no target where an option is there twice, and no sender where the target's option is: what was
    // not checked does not pass.
    for kind in [135, 136] {
        e.drop(Stage::ArpNd, 110, nd(kind).with(Field::NdTarget, 0u8), Builtin::Nd);
    }
    e.drop(Stage::ArpNd, 110, nd(135).with(Field::NdOption, 2u8), Builtin::Nd);
    e.drop(Stage::ArpNd, 20, ip(ethertype::ARP), Builtin::Arp);
    for (kind, [client, server]) in [(ethertype::IPV4, [68u128, 67]), (ethertype::IPV6, [546, 547])] {
        let udp = proto(kind, ip_proto::UDP);
        let ask = udp.clone().with(Field::L4Src, client).with(Field::L4Dst, server);
        let group = if kind == ethertype::IPV4 { BROADCAST } else { DHCPV6_SERVERS.1 };
        e.drop(Stage::ArpNd, 40, ask.with(Field::EthDst, group), Builtin::Dhcp);
        // Workloads are no servers, whatever policies let them say.
        let answer = udp.with(Field::L4Src, server).with(Field::L4Dst, client);
        e.drop(Stage::ArpNd, 70, answer.with(Field::SrcLocal, 1u8), Builtin::Dhcp);
    }
    for kind in IP {
        e.add(Stage::ArpNd, 10, ip(kind), vec![], to(Stage::SrcClass), Builtin::Classify);
    }
    e.drop(Stage::ArpNd, 1, Match::any(), Builtin::NonIp);
}

/// ICMP types that the tracker understands: requests, answers and errors. Others carry no connection; nor do
/// redirects and source quenches (RFC 6633), which the tracker takes for errors: they are judged for themselves.
fn track(e: &mut Entries) {
    let types: [(u128, &[u128]); 2] =
        [(ethertype::IPV4, &[0, 3, 8, 11, 12, 13, 14, 15, 16]), (ethertype::IPV6, &[1, 2, 3, 4, 128, 129])];
    for (kind, types) in types {
        // No fragment may enter the tracker: Open vSwitch 3.1 lets those that it holds go on with whatever
        // packet is tracked next, as if they had come with it (ADR 2).
        let fragment = ip(kind).masked(Field::IpFrag, frag::ANY, frag::ANY);
        e.drop(Stage::Track, 110, fragment, Builtin::Fragment);
        // Between an uplink and a tunnel: the switch at the tunnel's other end judges it, and knows its connections. A
        // tracker that took in what nobody has judged would be the outsiders' to fill.
        let transit = ip(kind).with(Field::SrcLocal, 0u8).with(Field::DstLocal, 0u8);
        e.add(Stage::Track, 105, transit, vec![], to(Stage::Fit), Builtin::Transit);
        let through = || vec![Action::Track];
        for known in types {
            let matches = proto(kind, icmp(kind)).with(Field::IcmpType, *known);
            e.add(Stage::Track, 100, matches, through(), to(Stage::Connection), Builtin::Conntrack);
        }
        e.add(Stage::Track, 50, proto(kind, icmp(kind)), vec![], to(Stage::Connection), Builtin::Conntrack);
        e.add(Stage::Track, 10, ip(kind), through(), to(Stage::Connection), Builtin::Conntrack);
    }
}

fn connection(e: &mut Entries) {
    let stage = Stage::Connection;
    let judge = to(Stage::StagedEgressEmergency);
    e.drop(stage, 100, Match::any().masked(Field::Conn, conn::INV, conn::INV), Builtin::Invalid);
    let reply = |m: Match| m.masked(Field::Conn, conn::TRK | conn::RPL, conn::TRK | conn::RPL);
    for kind in IP {
        let requests: &[(u128, u128)] =
            if kind == ethertype::IPV4 { &[(0, 8), (14, 13), (16, 15)] } else { &[(129, 128)] };
        for (answer, request) in requests {
            let matches = reply(proto(kind, icmp(kind)).with(Field::IcmpType, *answer));
            let service = Action::set(Field::Service, icmp(kind) << 16 | request << 8);
            e.add(stage, 60, matches, vec![Action::SwapEnds, service], judge, Builtin::Reply);
        }
        for protocol in [ip_proto::TCP, ip_proto::UDP, ip_proto::SCTP] {
            let matches = proto(kind, protocol);
            let swap = vec![Action::SwapEnds, Action::ServiceFromSrc];
            e.add(stage, 60, reply(matches.clone()), swap, judge, Builtin::Reply);
            e.add(stage, 50, matches, vec![Action::ServiceFromDst], judge, Builtin::Conntrack);
        }
        let swap = vec![Action::SwapEnds, Action::ServiceFromProto];
        e.add(stage, 55, reply(ip(kind)), swap, judge, Builtin::Reply);
        e.add(stage, 50, proto(kind, icmp(kind)), vec![Action::ServiceFromIcmp], judge, Builtin::Conntrack);
        e.add(stage, 45, ip(kind), vec![Action::ServiceFromProto], judge, Builtin::Conntrack);
    }
}

/// ICMP errors about connections.
fn related(e: &mut Entries) {
    let stage = Stage::Connection;
    let judge = to(Stage::StagedEgressEmergency);
    let related = conn::TRK | conn::REL;
    let state = |bits| Match::any().masked(Field::Conn, bits, related | conn::RPL);
    // A router outside may tell of any connection to the outside, whatever the router's own address. A workload
    // tells of its own. Whoever else knows of a connection does not thereby reach its ends.
    for (priority, from, recall) in [(85, Some(EXTERNAL), Action::Recall), (80, None, Action::RecallService)] {
        let state = |bits| from.map_or(state(bits), |id| state(bits).with(Field::SrcId, id));
        e.add(stage, priority, state(related), vec![recall.clone()], judge, Builtin::IcmpError);
        let back = vec![Action::SwapEnds, recall];
        e.add(stage, priority, state(related | conn::RPL), back, judge, Builtin::IcmpError);
    }
}
