//! The entries that no policy asks for: the pipeline's own, a network's and a workload's.

use crate::rule::{Lane, allowed, next_tier, stage, weighed};
use bulkhead_pipeline::{
    Action, Builtin, Cause, Entry, Field, Match, Next, Output, Stage, conn, ethertype, frag, ip_proto, vlan,
};
use bulkhead_policy::model::{Attachment, Direction, Network, OnTighten, Tier, Workload};
use bulkhead_topology::{Mac, Name, Port};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Identity of every address that no workload has.
pub(crate) const EXTERNAL: u32 = 1;

const IP: [u128; 2] = [ethertype::IPV4, ethertype::IPV6];
const BROADCAST: u128 = 0xffff_ffff_ffff;
/// All DHCPv6 servers (RFC 8415 §7.1), and their Ethernet address (RFC 2464 §7).
const DHCPV6_SERVERS: (Ipv6Addr, u128) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2), 0x3333_0001_0002);
/// Neighbour advertisement flags: solicited and override (RFC 4861 §4.4).
const SOLICITED_OVERRIDE: u128 = 0x6000_0000;

fn ip(kind: u128) -> Match {
    Match::any().with(Field::EthType, kind)
}

fn proto(kind: u128, protocol: u128) -> Match {
    ip(kind).with(Field::IpProto, protocol)
}

/// The protocol number of ICMP in a family.
fn icmp(kind: u128) -> u128 {
    if kind == ethertype::IPV4 { ip_proto::ICMP } else { ip_proto::ICMPV6 }
}

/// Neighbour discovery has code 0 (RFC 4861 §4). Whatever depends on what is in its messages has to match the code: Open
/// vSwitch reads them only where it is 0, and its cache of decisions forgets that it looked into the others, so that
/// one message of another code would decide for all that follow.
fn nd(kind: u128) -> Match {
    nd_like(kind).with(Field::IcmpCode, 0u8)
}

/// Neighbour discovery with any code.
fn nd_like(kind: u128) -> Match {
    proto(ethertype::IPV6, ip_proto::ICMPV6).with(Field::IcmpType, kind)
}

fn src(address: IpAddr) -> Match {
    match address {
        IpAddr::V4(v4) => ip(ethertype::IPV4).with(Field::Ipv4Src, v4.to_bits()),
        IpAddr::V6(v6) => ip(ethertype::IPV6).with(Field::Ipv6Src, v6.to_bits()),
    }
}

fn dst(address: IpAddr) -> Match {
    match address {
        IpAddr::V4(v4) => ip(ethertype::IPV4).with(Field::Ipv4Dst, v4.to_bits()),
        IpAddr::V6(v6) => ip(ethertype::IPV6).with(Field::Ipv6Dst, v6.to_bits()),
    }
}

fn to(stage: Stage) -> Next {
    Next::Stage(stage)
}

/// A list of entries in the making.
pub(crate) struct Entries(pub Vec<Entry>);

impl Entries {
    fn add(&mut self, stage: Stage, priority: u16, matches: Match, actions: Vec<Action>, next: Next, cause: Builtin) {
        self.0.push(Entry::new(stage, priority, matches, actions, next, Cause::Builtin(cause)));
    }

    fn drop(&mut self, stage: Stage, priority: u16, matches: Match, cause: Builtin) {
        self.add(stage, priority, matches, Vec::new(), Next::Drop, cause);
    }
}

/// What every switch has, whatever its networks are.
pub(crate) fn pipeline() -> Vec<Entry> {
    let mut e = Entries(Vec::new());
    for spec in Stage::ALL {
        e.0.push(Entry::new(spec.stage, 0, Match::any(), Vec::new(), Next::Drop, Cause::Miss(spec.stage)));
    }
    tags(&mut e);
    let local = |yes: u128| Match::any().with(Field::SrcLocal, yes);
    e.drop(Stage::Antispoof, 1, local(1), Builtin::Antispoof);
    e.add(Stage::Antispoof, 10, local(0), vec![], to(Stage::ArpNd), Builtin::Antispoof);
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
    track(&mut e);
    connection(&mut e);
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
    for kind in IP {
        let new = ip(kind).masked(Field::Conn, conn::TRK | conn::NEW, conn::TRK | conn::NEW);
        e.add(Stage::Verdict, 20, new, vec![Action::Commit], to(Stage::Fit), Builtin::Verdict);
    }
    e.add(Stage::Verdict, 10, Match::any(), vec![], to(Stage::Fit), Builtin::Verdict);
    e.add(Stage::Fit, 1, Match::any(), vec![], to(Stage::Deliver), Builtin::Deliver);
    e.0
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
    let fill = vec![Action::Set(Field::NdOption, 2), Action::Copy { from: Field::EthSrc, to: Field::NdTll }];
    let (arp, bare, advertisement) = (ip(ethertype::ARP), nd(136), nd(136).with(Field::NdOption, 1u8));
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
            let service = Action::Set(Field::Service, icmp(kind) << 16 | request << 8);
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

/// The uplinks of a network on one switch, in the network's order: the first is the way out.
pub(crate) fn uplinks<'a>(network: &'a Network, switch: &'a Name) -> impl Iterator<Item = (&'a Port, u16)> {
    network
        .uplinks
        .iter()
        .filter(move |uplink| uplink.at.switch == *switch)
        .map(|uplink| (&uplink.at.port, uplink.vlan))
}

/// What a network needs on a switch that it is present on.
pub(crate) fn network(network: &Network, number: u32, switch: &Name) -> Vec<Entry> {
    let mut e = Entries(Vec::new());
    let here = || Match::any().with(Field::Network, number);
    if network.on_tighten == OnTighten::Persist {
        let live = here().masked(Field::Conn, conn::TRK | conn::EST, conn::TRK | conn::EST | conn::REL);
        e.add(Stage::Connection, 70, live, vec![], to(Stage::Verdict), Builtin::Persist);
    }
    let ports: Vec<_> = uplinks(network, switch).collect();
    let Some((first, first_vlan)) = ports.first() else { return e.0 };
    // The way out is one: a switch that sent copies to several would have answers from several.
    let way_out = || {
        let tag = (*first_vlan != 0).then(|| Action::Set(Field::OutVlan, (*first_vlan).into()));
        [Action::SetOut((*first).clone())].into_iter().chain(tag)
    };
    let inside = |m: Match| m.with(Field::Network, number).with(Field::SrcLocal, 1u8);
    for (port, vlan) in &ports {
        let tag = if *vlan == 0 { 0 } else { vlan::PRESENT | u128::from(*vlan) };
        let matches = Match::any().port((*port).clone()).with(Field::Vlan, tag);
        let mut set = vec![Action::Set(Field::Network, number.into()), Action::Set(Field::SrcId, EXTERNAL.into())];
        if *vlan != 0 {
            set.extend([Action::Set(Field::InVlan, (*vlan).into()), Action::PopVlan]);
        }
        e.add(Stage::Classify, 100, matches, set, to(Stage::Antispoof), Builtin::Classify);
    }
    let ask = inside(ip(ethertype::ARP).with(Field::ArpOp, 1u8));
    e.add(Stage::ArpNd, 50, ask, way_out().collect(), to(Stage::Deliver), Builtin::Arp);
    e.add(Stage::ArpNd, 50, inside(nd(135)), way_out().collect(), to(Stage::Deliver), Builtin::Nd);
    // To all servers in the frame and in the packet: no policy is asked about it.
    let (v6_group, v6_mac) = DHCPV6_SERVERS;
    for (to_all, [client, server], mac) in
        [(dst(Ipv4Addr::BROADCAST.into()), [68u128, 67], BROADCAST), (dst(v6_group.into()), [546, 547], v6_mac)]
    {
        let udp = to_all.with(Field::IpProto, ip_proto::UDP).with(Field::L4Src, client).with(Field::L4Dst, server);
        let ask = inside(udp.with(Field::EthDst, mac));
        e.add(Stage::ArpNd, 60, ask, way_out().collect(), to(Stage::Deliver), Builtin::Dhcp);
    }
    let outside = [Action::Set(Field::DstId, EXTERNAL.into())].into_iter().chain(way_out()).collect();
    e.add(Stage::Locate, 20, inside(Match::any()), outside, to(Stage::Track), Builtin::Locate);
    for subnet in network.subnets.iter().filter(|subnet| subnet.is_ipv4() && subnet.prefix_len() < 31) {
        let (bits, mask) = subnet.to_bits();
        let broadcast = here().with(Field::EthType, ethertype::IPV4).with(Field::Ipv4Dst, bits | !mask & 0xffff_ffff);
        e.drop(Stage::Locate, 94, broadcast, Builtin::Multicast);
    }
    e.0
}

/// What a workload needs on one switch: its interfaces that are plugged in there, and, beside an uplink,
/// guards that its addresses are never taken for outside ones.
pub(crate) fn workload(
    workload: &Workload,
    identity: u32,
    network: &Network,
    number: u32,
    switch: &Name,
) -> Vec<Entry> {
    let mut e = Entries(Vec::new());
    let uplink = uplinks(network, switch).next().is_some();
    let here = |m: Match| m.with(Field::Network, number);
    let outside = |m: Match| here(m).with(Field::SrcLocal, 0u8);
    for interface in &workload.interfaces {
        if uplink {
            for address in &interface.ips {
                e.drop(Stage::Antispoof, 90, outside(src(*address)), Builtin::Antispoof);
                e.drop(Stage::Locate, 90, here(dst(*address)), Builtin::Locate);
                match address {
                    IpAddr::V4(v4) => {
                        let arp = ip(ethertype::ARP);
                        let claim = outside(arp.clone()).with(Field::ArpSpa, v4.to_bits());
                        e.drop(Stage::Antispoof, 90, claim, Builtin::Antispoof);
                        // Questions alone: the answers that it gets from outside are for its address too.
                        let ask = here(arp).with(Field::ArpOp, 1u8).with(Field::ArpTpa, v4.to_bits());
                        e.drop(Stage::ArpNd, 90, ask, Builtin::Arp);
                    }
                    IpAddr::V6(v6) => {
                        let claim = outside(nd(136)).with(Field::NdTarget, v6.to_bits());
                        e.drop(Stage::Antispoof, 91, claim, Builtin::Antispoof);
                        e.drop(Stage::ArpNd, 90, here(nd(135)).with(Field::NdTarget, v6.to_bits()), Builtin::Nd);
                    }
                }
            }
        }
        if let Some(Attachment { switch: at, port }) = &interface.attachment
            && at == switch
        {
            plugged(&mut e, interface.mac, &interface.ips, port, identity, number);
            if uplink {
                from_uplink(&mut e, interface.mac, port, number);
            }
        }
    }
    e.0
}

fn plugged(e: &mut Entries, mac: Mac, ips: &[IpAddr], port: &Port, identity: u32, number: u32) {
    let set = vec![
        Action::Set(Field::Network, number.into()),
        Action::Set(Field::SrcId, identity.into()),
        Action::Set(Field::SrcLocal, 1),
    ];
    let door = Match::any().port(port.clone()).with(Field::Vlan, 0u8);
    e.add(Stage::Classify, 100, door, set, to(Stage::Antispoof), Builtin::Classify);
    let own = |m: Match| m.port(port.clone()).with(Field::EthSrc, mac.to_bits());
    let on = || to(Stage::ArpNd);
    let arp = || own(ip(ethertype::ARP)).with(Field::ArpSha, mac.to_bits());
    e.drop(Stage::Antispoof, 100, arp().with(Field::ArpSpa, 0u8), Builtin::Arp);
    let link_local = mac.link_local();
    // A solicitation names its sender's link-layer address, or none; from no address, none (RFC 4861 §4.3).
    e.drop(Stage::Antispoof, 101, own(nd(135)), Builtin::Antispoof);
    let own_v6 = ips.iter().filter_map(|ip| if let IpAddr::V6(v6) = ip { Some(*v6) } else { None });
    let with_option = own_v6.chain([link_local]).map(|from| (from, mac.to_bits()));
    let without = with_option.clone().map(|(from, _)| (from, 0)).chain([(Ipv6Addr::UNSPECIFIED, 0)]);
    for (from, option) in with_option.chain(without) {
        let solicit = own(nd(135)).with(Field::Ipv6Src, from.to_bits()).with(Field::NdSll, option);
        e.add(Stage::Antispoof, 102, solicit, vec![], on(), Builtin::Antispoof);
    }
    let dhcp = |kind, [client, server]: [u128; 2]| {
        own(proto(kind, ip_proto::UDP)).with(Field::L4Src, client).with(Field::L4Dst, server)
    };
    let v4 = dhcp(ethertype::IPV4, [68, 67]).with(Field::Ipv4Src, 0u8).with(Field::Ipv4Dst, u32::MAX);
    e.add(Stage::Antispoof, 100, v4, vec![], on(), Builtin::Dhcp);
    let v6 = dhcp(ethertype::IPV6, [546, 547]).with(Field::Ipv6Src, link_local.to_bits());
    let v6 = v6.with(Field::Ipv6Dst, DHCPV6_SERVERS.0.to_bits());
    e.add(Stage::Antispoof, 100, v6, vec![], on(), Builtin::Dhcp);
    for address in ips {
        e.add(Stage::Antispoof, 100, own(src(*address)), vec![], on(), Builtin::Antispoof);
        let found = vec![
            Action::Set(Field::DstId, identity.into()),
            Action::Set(Field::DstLocal, 1),
            Action::SetOut(port.clone()),
        ];
        let here = dst(*address).with(Field::Network, number);
        e.add(Stage::Locate, 100, here, found, to(Stage::Track), Builtin::Locate);
        match address {
            IpAddr::V4(v4) => {
                let bits = u128::from(v4.to_bits());
                e.add(Stage::Antispoof, 100, arp().with(Field::ArpSpa, bits), vec![], on(), Builtin::Antispoof);
                // A gratuitous announcement asks nobody: an answer would look like a second owner.
                let own_news = arp().with(Field::ArpSpa, bits).with(Field::ArpTpa, bits);
                e.drop(Stage::Antispoof, 105, own_news, Builtin::Arp);
                answer_arp(e, mac, bits, number);
            }
            IpAddr::V6(v6) => answer_nd(e, mac, v6.to_bits(), number),
        }
    }
}

fn answer_arp(e: &mut Entries, mac: Mac, address: u128, number: u32) {
    let copy = |from, to| Action::Copy { from, to };
    let mac = u128::from(mac.to_bits());
    let ask = ip(ethertype::ARP).with(Field::Network, number).with(Field::ArpOp, 1u8).with(Field::ArpTpa, address);
    let answer = vec![
        copy(Field::EthSrc, Field::EthDst),
        Action::Set(Field::EthSrc, mac),
        Action::Set(Field::ArpOp, 2),
        copy(Field::ArpSha, Field::ArpTha),
        Action::Set(Field::ArpSha, mac),
        copy(Field::ArpSpa, Field::ArpTpa),
        Action::Set(Field::ArpSpa, address),
    ];
    e.add(Stage::ArpNd, 100, ask, answer, to(Stage::Answer), Builtin::Arp);
}

fn answer_nd(e: &mut Entries, mac: Mac, address: u128, number: u32) {
    let copy = |from, to| Action::Copy { from, to };
    let ask = nd(135).with(Field::Network, number).with(Field::NdTarget, address);
    let answer = vec![
        copy(Field::EthSrc, Field::EthDst),
        Action::Set(Field::EthSrc, mac.to_bits().into()),
        copy(Field::Ipv6Src, Field::Ipv6Dst),
        Action::Set(Field::Ipv6Src, address),
        Action::Set(Field::NdReserved, SOLICITED_OVERRIDE),
        Action::Set(Field::IcmpType, 136),
    ];
    e.add(Stage::ArpNd, 100, ask, answer, to(Stage::Answer), Builtin::Nd);
}

/// What may reach a workload from the uplink beside IP: answers to its own questions.
fn from_uplink(e: &mut Entries, mac: Mac, port: &Port, number: u32) {
    let answer =
        |m: Match| m.with(Field::Network, number).with(Field::SrcLocal, 0u8).with(Field::EthDst, mac.to_bits());
    let deliver = || vec![Action::Output(Output::Port(port.clone()))];
    let arp = answer(ip(ethertype::ARP).with(Field::ArpOp, 2u8));
    e.add(Stage::ArpNd, 50, arp, deliver(), Next::Done, Builtin::Arp);
    e.add(Stage::ArpNd, 50, answer(nd(136)), deliver(), Next::Done, Builtin::Nd);
    for (kind, [client, server]) in [(ethertype::IPV4, [68u128, 67]), (ethertype::IPV6, [546, 547])] {
        let udp = answer(proto(kind, ip_proto::UDP)).with(Field::L4Src, server).with(Field::L4Dst, client);
        e.add(Stage::ArpNd, 60, udp, deliver(), Next::Done, Builtin::Dhcp);
    }
}
