//! What a network needs on a switch that it is present on.

use super::{BROADCAST, DHCPV6_SERVERS, EXTERNAL, Entries, Here, IP, carry, dst, gateway, ip, learn, nd, overlay, to};
use crate::fabric::WayOut;
use bulkhead_pipeline::{Action, Builtin, Entry, Field, Match, Stage, conn, ethertype, ip_proto, peer, vlan};
use bulkhead_policy::model::OnTighten;
use std::net::Ipv4Addr;

/// The entries.
pub(crate) fn network(here: &Here<'_>) -> Vec<Entry> {
    let mut e = Entries(Vec::new());
    if here.network.on_tighten == OnTighten::Persist && here.remembers() {
        let live = Match::any().masked(Field::Conn, conn::TRK | conn::EST, conn::TRK | conn::EST | conn::REL);
        e.add(Stage::Connection, 70, here.within(live), vec![], to(Stage::Verdict), Builtin::Persist);
    }
    tunnels(&mut e, here);
    carry::network(&mut e, here);
    for (port, vlan) in here.uplinks() {
        let tag = if vlan == 0 { 0 } else { vlan::PRESENT | u128::from(vlan) };
        let matches = Match::any().port(port.clone()).with(Field::Vlan, tag);
        let mut set = vec![Action::set(Field::Network, here.number.into()), Action::set(Field::SrcId, EXTERNAL.into())];
        if vlan != 0 {
            set.extend([Action::set(Field::InVlan, vlan.into()), Action::PopVlan]);
        }
        e.add(Stage::Classify, 100, matches, set, to(Stage::Antispoof), Builtin::Classify);
    }
    // The way out is one: a switch that sent copies to several would have answers from several.
    if let Some(way_out) = here.way_out() {
        outwards(&mut e, here, &way_out);
    }
    gateway::gateways(&mut e, here);
    learn::unknown(&mut e, here);
    e.0
}

/// What the network's tunnels bring in is of this network; of outsiders it is only by the way out.
fn tunnels(e: &mut Entries, here: &Here<'_>) {
    for port in overlay::ports(here) {
        let ours = Match::any().port(port).with(Field::TunId, here.network.vni.get()).with(Field::Vlan, 0u8);
        let set = vec![Action::set(Field::Network, here.number.into()), Action::set(Field::FromTunnel, 1)];
        e.add(Stage::Classify, 100, ours, set, to(Stage::Antispoof), Builtin::Classify);
    }
    if matches!(here.way_out(), Some(WayOut::Uplink(..))) && here.fabric.reaches(here.switch) {
        // Below the rows for workloads elsewhere, and above what is for outsiders at the uplink.
        let others = here.within(Match::any()).with(Field::FromTunnel, 1u8);
        e.drop(Stage::Antispoof, 95, others, Builtin::OverlayAntispoof);
    }
    if let Some(WayOut::Across(_, transport)) = here.way_out() {
        for kind in IP.into_iter().chain([ethertype::ARP]) {
            let outsiders = here.behind(&transport, EXTERNAL, ip(kind));
            // Outsiders have no switch that judges them: what this one calls an answer is one.
            let set = vec![Action::set(Field::SrcId, EXTERNAL.into()), Action::set(Field::Peer, peer::ANSWER)];
            e.add(Stage::Antispoof, 50, outsiders, set, to(Stage::ArpNd), Builtin::OverlayAntispoof);
        }
    }
}

/// What is for nobody inside goes out: from the switch's own workloads, and at an uplink from those elsewhere.
fn outwards(e: &mut Entries, here: &Here<'_>, way_out: &WayOut<'_>) {
    let by_tunnel = matches!(way_out, WayOut::Uplink(..)) && here.fabric.reaches(here.switch);
    let (leave, next) = here.leave(way_out);
    for tunnelled in [Some(0), by_tunnel.then_some(1u8)].into_iter().flatten() {
        let inside = |m: Match| match tunnelled {
            0 => here.inside(m),
            _ => here.within(m).with(Field::FromTunnel, 1u8),
        };
        let ask = inside(ip(ethertype::ARP).with(Field::ArpOp, 1u8));
        e.add(Stage::ArpNd, 50, ask, leave.clone(), next, Builtin::Arp);
        e.add(Stage::ArpNd, 50, inside(nd(135)), leave.clone(), next, Builtin::Nd);
        // To all servers in the frame and in the packet: no policy is asked about it.
        let (v6_group, v6_mac) = DHCPV6_SERVERS;
        for (to_all, [client, server], mac) in
            [(dst(Ipv4Addr::BROADCAST.into()), [68u128, 67], BROADCAST), (dst(v6_group.into()), [546, 547], v6_mac)]
        {
            let udp = to_all.with(Field::IpProto, ip_proto::UDP).with(Field::L4Src, client).with(Field::L4Dst, server);
            let ask = inside(udp.with(Field::EthDst, mac));
            e.add(Stage::ArpNd, 60, ask, leave.clone(), next, Builtin::Dhcp);
        }
        let outside = [Action::set(Field::DstId, EXTERNAL.into())].into_iter().chain(leave.clone()).collect();
        e.add(Stage::Locate, 20, inside(Match::any()), outside, to(Stage::Track), Builtin::Locate);
    }
    for subnet in here.network.subnets.iter().filter(|subnet| subnet.is_ipv4() && subnet.prefix_len() < 31) {
        let (bits, mask) = subnet.to_bits();
        let broadcast = ip(ethertype::IPV4).with(Field::Ipv4Dst, bits | !mask & 0xffff_ffff);
        e.drop(Stage::Locate, 94, here.within(broadcast), Builtin::Multicast);
    }
}
