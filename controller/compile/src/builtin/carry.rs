//! What switches need that carry packets for each other by their links (ADR 13).

use super::{Entries, Here, overlay, to};
use crate::fabric::Fabric;
use bulkhead_pipeline::{
    Action, Builtin, Entry, Field, Match, Next, Output, Stage,
    carry::{CARRIED, edge, epoch, source},
    overlay::REPLY_MAC,
    peer, vlan,
};
use bulkhead_policy::model::Passage;
use bulkhead_topology::{
    Name, Port,
    graph::{End, Hops},
};
use std::sync::Arc;

/// The entries of a switch's ports that lead to others: what comes there is believed.
pub(crate) fn cables(fabric: &Fabric, switch: &Name) -> Vec<Entry> {
    let mut e = Entries(Vec::new());
    for (port, far) in fabric.carrier.graph.links_of(switch) {
        let probed = fabric.is_probed(switch) && fabric.is_probed(&far.switch);
        let near = End { switch: switch.clone(), port: port.clone() };
        // Who is at a port by which nothing passes may be anybody.
        if fabric.carrier.passes(&near, probed) == Passage::Nothing {
            continue;
        }
        // Heard apart from what comes by free ports, where anybody may send as much of it as he likes.
        let heard = overlay::lldp().port(port.clone());
        e.add(Stage::Classify, 40, heard, vec![Action::Discover], Next::Drop, Builtin::Link);
        let tagged = Match::any().port(port.clone()).masked(Field::Vlan, vlan::PRESENT, vlan::PRESENT);
        e.add(Stage::Classify, 100, tagged, vec![], to(Stage::Carry), Builtin::Carry);
    }
    if fabric.edges.contains_key(switch) {
        // What is to another edge and for which there is no way.
        let lost = Match::any().with(Field::OutTunnel, CARRIED);
        e.drop(Stage::Deliver, 55, lost, Builtin::Carry);
        // Edges say one thing of two: who remembers nothing carries nothing.
        overlay::told(&mut e, &[(REPLY_MAC, peer::ANSWER)]);
        overlay::unconfirmed(&mut e);
    }
    e.0
}

/// The entries of a switch about the way to an edge, which goes by `hops`: packets that are on their way already, and
/// those that begin here.
pub(crate) fn way(fabric: &Fabric, switch: &Name, edge: &Name, hops: &Hops) -> Vec<Entry> {
    let mut e = Entries(Vec::new());
    let Some(number) = fabric.edges.get(edge) else { return e.0 };
    let turn = || hops.turns.then_some(Action::set_bits(Field::EthSrc, source::DOWN, source::DOWN));
    let out = |ports: &Arc<[Port]>| Output::sorted(ports).map(Action::Output);
    let tagged = Match::any().with(Field::Vlan, vlan::PRESENT | u128::from(*number));
    let on = |down: u128| {
        let bits = epoch(fabric.carrier.epoch) | down;
        tagged.clone().masked(Field::EthSrc, bits, source::EPOCH | source::DOWN)
    };
    if hops.from_below
        && let Some(out) = out(&hops.up)
    {
        e.add(Stage::Carry, 100, on(0), turn().into_iter().chain([out]).collect(), Next::Done, Builtin::Carry);
    }
    if hops.from_above
        && let Some(out) = out(&hops.down)
    {
        e.add(Stage::Carry, 100, on(source::DOWN), vec![out], Next::Done, Builtin::Carry);
    }
    if fabric.edges.contains_key(switch)
        && let Some(out) = out(&hops.up)
    {
        let leaves = Match::any().with(Field::OutTunnel, CARRIED).with(Field::OutVlan, *number);
        let send = turn().into_iter().chain([Action::PushVlan(Field::OutVlan), out]);
        e.add(Stage::Deliver, 65, leaves, send.collect(), Next::Done, Builtin::Deliver);
    }
    e.0
}

/// What a network needs on an edge: what comes for it, and what leaves for other edges.
pub(super) fn network(e: &mut Entries, here: &Here<'_>) {
    let Some(number) = here.fabric.edges.get(here.switch) else { return };
    let vni = u128::from(here.network.vni.get());
    let told = source::LOCAL | source::REPLY | source::ROUTED;
    for (flags, priority) in [(0, 30), (source::REPLY, 35), (source::ROUTED, 40), (source::REPLY | source::ROUTED, 45)]
    {
        let is = |flag: u128| flags & flag != 0;
        let ours = Match::any().with(Field::Vlan, vlan::PRESENT | u128::from(*number));
        let ours = ours.masked(Field::EthSrc, source::LOCAL | flags | vni, told | source::VNI);
        let mut set =
            vec![Action::PopVlan, Action::set(Field::Network, here.number.into()), Action::set(Field::FromTunnel, 1)];
        set.extend(is(source::REPLY).then_some(Action::set(Field::Peer, peer::ANSWER)));
        // One hop less, and the gateway's address, once it is allowed here too.
        set.extend(is(source::ROUTED).then_some(Action::set(Field::Routed, 1)));
        e.add(Stage::Carry, 110, ours, set, to(Stage::Antispoof), Builtin::Carry);
        let mut leaves = here.within(Match::any()).with(Field::OutTunnel, CARRIED);
        if is(source::REPLY) {
            leaves = overlay::replies(leaves.with(Field::ToPeer, 1u8));
        }
        if is(source::ROUTED) {
            leaves = leaves.with(Field::Routed, 1u8);
        }
        let from = source::LOCAL | flags | epoch(here.fabric.carrier.epoch) | edge(*number) | vni;
        let mark = vec![Action::set(Field::EthSrc, from)];
        if flags == source::REPLY {
            // What the switch itself tells the sender of a packet that was carried here.
            let told = here.within(Match::any()).with(Field::OutTunnel, CARRIED).with(Field::Peer, peer::ANSWER);
            e.add(Stage::Fit, 50, told, mark.clone(), to(Stage::Deliver), Builtin::Carry);
        }
        e.add(Stage::Fit, priority, leaves, mark, to(Stage::Deliver), Builtin::Carry);
    }
}
