//! Groups that a network asks for: who gets what its workloads send to them (ADR 11).

use super::{EXTERNAL, Entries, Here, IP, dst, ip, overlay, to};
use crate::{TooLarge, fabric::Transport};
use bulkhead_pipeline::{
    Action, Builtin, Entry, Field, Match, Next, Output, Stage, ethertype, ip_proto, overlay::group_mac,
};
use bulkhead_policy::{model::Interface, overlay::Tunnel};
use bulkhead_topology::{Mac, Port};
use std::{collections::BTreeSet, net::IpAddr};

/// Most receivers on one switch, and most switches that one has to send copies to: Open vSwitch looks into no more than
/// 4096 tables for one packet (some 15 for each receiver), and gives up where what it would do takes more than 64 KiB
/// (some 700 bytes for each tunnel). It would then send no copy at all.
const MAX_NEAR: usize = 128;
const MAX_FAR: usize = 64;

/// A network's entries on a switch: `near` are the interfaces plugged in here, `far` the ways to switches with others.
pub(crate) fn spread(here: &Here<'_>, near: &[&Interface], far: &[Tunnel]) -> Result<Vec<Entry>, TooLarge> {
    let mut e = Entries(Vec::new());
    let groups = &here.network.multicast;
    if groups.is_empty() {
        return Ok(e.0);
    }
    for (size, limit, what) in [(near.len(), MAX_NEAR, "interfaces"), (far.len(), MAX_FAR, "other switches")] {
        if size > limit {
            let (network, switch) = (&here.network.name, here.switch);
            let what = format!("{what} that get the groups of network {network} from switch {switch}");
            return Err(TooLarge { what, size: size as u64, limit: limit as u64 });
        }
    }
    for group in groups {
        let mac = u128::from(group_mac(*group).to_bits());
        let theirs = here.within(dst(*group)).with(Field::IpProto, ip_proto::UDP).with(Field::EthDst, mac);
        let found = vec![Action::set(Field::DstId, EXTERNAL.into()), Action::set(Field::ToGroup, 1)];
        e.add(Stage::Locate, 98, theirs, found, to(Stage::Track), Builtin::Multicast);
        // Until here a copy's Ethernet destination said whose it is.
        let out = vec![Action::set(Field::EthDst, mac), Action::Output(Output::Chosen)];
        let copy = here.within(dst(*group)).with(Field::ToGroup, 1u8);
        e.add(Stage::Deliver, 60, copy, out, Next::Done, Builtin::Multicast);
    }
    for kind in IP.into_iter().filter(|kind| groups.iter().any(|group| family(group) == *kind)) {
        let near = near.iter().filter(|interface| interface.ips.iter().any(|ip| family(ip) == kind));
        let near = near.map(|interface| {
            let actions = vec![Action::set(Field::EthDst, interface.mac.to_bits().into())];
            Action::Fork { actions: actions.into(), to: Stage::Receive }
        });
        let far = far.iter().map(|tunnel| {
            // Which port that is, `receive` knows: were it not there, nobody would get a copy.
            let header = here
                .enter(&Transport::Tunnel(*tunnel))
                .into_iter()
                .filter(|action| !matches!(action, Action::SetOut(_)));
            Action::Fork { actions: header.collect(), to: Stage::Receive }
        });
        let near: Vec<Action> = near.collect();
        let all: Vec<Action> = far.chain(near.iter().cloned()).collect();
        for (from_tunnel, copies) in [(0u8, all), (1, near)] {
            if !copies.is_empty() {
                let m = here.within(ip(kind)).with(Field::ToGroup, 1u8).with(Field::FromTunnel, from_tunnel);
                e.add(Stage::Spread, 60, m, copies, Next::Done, Builtin::Multicast);
            }
        }
    }
    let headers: BTreeSet<_> = far.iter().map(|tunnel| overlay::header(tunnel.kind).0).collect();
    for tunnel in headers {
        let copy = here.within(Match::any()).with(Field::OutTunnel, tunnel as u8);
        e.add(Stage::Receive, 100, copy, vec![Action::SetOut(tunnel.port())], to(Stage::Fit), Builtin::Multicast);
    }
    Ok(e.0)
}

/// An interface that is plugged in here gets its copy, if its rules let it; none of what came from itself.
pub(super) fn receive(e: &mut Entries, here: &Here<'_>, mac: Mac, identity: u32, port: &Port) {
    if here.network.multicast.is_empty() || !here.remembers() {
        return;
    }
    let copy = here.within(Match::any()).with(Field::OutTunnel, 0u8).with(Field::EthDst, mac.to_bits());
    let get =
        vec![Action::set(Field::DstId, identity.into()), Action::set(Field::DstLocal, 1), Action::SetOut(port.clone())];
    e.add(Stage::Receive, 100, copy.clone(), get, to(Stage::StagedIngressEmergency), Builtin::Multicast);
    e.add(Stage::Receive, 110, copy.port(port.clone()), vec![], Next::Done, Builtin::Multicast);
}

fn family(ip: &IpAddr) -> u128 {
    if ip.is_ipv4() { ethertype::IPV4 } else { ethertype::IPV6 }
}
