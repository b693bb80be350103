//! What an interface that is plugged in on another switch needs on this one.

use super::{Entries, Here, answer, answers_from_outside, dhcp, dst, ip, overlay, solicitations, src, to};
use crate::{TooLarge, fabric::Transport};
use bulkhead_pipeline::{Action, Builtin, Field, Match, Stage, ethertype, peer};
use bulkhead_policy::model::{Interface, Workload};
use bulkhead_topology::{Mac, Name};
use std::net::IpAddr;

/// The bit of an Ethernet address that says that it is a group's (IEEE 802-2014 §8.2.2).
const GROUP_BIT: u128 = 0x0100_0000_0000;

/// Its entries: a constant number for each address.
pub(super) fn interface(
    e: &mut Entries,
    here: &Here<'_>,
    workload: &Workload,
    interface: &Interface,
    identity: u32,
    at: Option<&Name>,
) -> Result<(), TooLarge> {
    let uplink = here.uplinks().next().is_some();
    let transport = at.and_then(|at| Some((at, here.fabric.transport(here.network, here.switch, at)?)));
    if uplink || (transport.is_none() && here.way_out().is_some()) {
        for address in &interface.ips {
            here.not_outside(e, *address, Builtin::Locate);
        }
    }
    let Some((at, transport)) = transport else { return Ok(()) };
    fits(here, workload, identity, at, &transport)?;
    let sender = Sender::of(here, identity, interface.mac, at, &transport);
    let is_way_out = here.is_way_out_of(at);
    for address in &interface.ips {
        // With outsiders it speaks by one uplink: those of others would answer for it a second time.
        let asker = |m: Match| if uplink && !is_way_out { here.inside(m) } else { here.within(m) };
        answer(e, asker, interface.mac, *address);
        let from = |m: Match| {
            if uplink && !is_way_out { here.inside(m) } else { here.within(m).with(Field::FromTunnel, 0u8) }
        };
        // Who judges what the workload gets: the switch that it is plugged into, or this one.
        let judge = if sender.guest { Field::DstLocal } else { Field::ToPeer };
        let found =
            [Action::set(Field::DstId, identity.into()), Action::set(Field::EthDst, interface.mac.to_bits().into())];
        let found = found.into_iter().chain([Action::set(judge, 1)]).chain(here.enter(&transport)).collect();
        e.add(Stage::Locate, 100, from(dst(*address)), found, to(Stage::Track), Builtin::Locate);
        // Guests send to no group: others of theirs would get no copy.
        let unicast = |m: Match| if sender.guest { m.masked(Field::EthDst, 0u8, GROUP_BIT) } else { m };
        sender.believe(e, 100, unicast(src(*address)));
    }
    if is_way_out {
        by_this_uplink(e, here, interface, &sender);
    }
    Ok(())
}

/// Whom packets are from that come from another switch and fit a row.
struct Sender<'a> {
    here: &'a Here<'a>,
    identity: u32,
    mac: Mac,
    transport: &'a Transport,
    /// It is behind a kernel VTEP, which judges nothing: this switch judges what it sends, and knows by its own tracker
    /// alone what is an answer. That VTEP keeps its workloads from using each other's Ethernet addresses, so here these
    /// keep them from using each other's others.
    guest: bool,
}

impl<'a> Sender<'a> {
    fn of(here: &'a Here<'a>, identity: u32, mac: Mac, at: &Name, transport: &'a Transport) -> Self {
        Self { here, identity, mac, transport, guest: here.fabric.has_guests(at) }
    }

    /// A packet's source identity is that of the row which it fits, and never what its header says.
    fn believe(&self, e: &mut Entries, priority: u16, m: Match) {
        let mut row = self.here.behind(self.transport, self.identity, m);
        let mut set = vec![Action::set(Field::SrcId, self.identity.into())];
        if let Transport::Carried(from) = self.transport {
            // Who refuses it tells the edge that it came from.
            set.push(Action::set(Field::InVlan, (*from).into()));
            set.push(Action::set(Field::EthSrc, self.mac.to_bits().into()));
        }
        if self.guest {
            row = row.with(Field::EthSrc, self.mac.to_bits());
            set.extend([Action::set(Field::SrcLocal, 1), Action::set(Field::Peer, peer::ANSWER)]);
        }
        e.add(Stage::Antispoof, priority, row, set, to(Stage::ArpNd), Builtin::OverlayAntispoof);
    }
}

/// What the interface asks outsiders, and their answers.
fn by_this_uplink(e: &mut Entries, here: &Here<'_>, interface: &Interface, sender: &Sender<'_>) {
    let mac = interface.mac;
    // Links do not carry the sender's Ethernet address.
    let tunnelled = matches!(sender.transport, Transport::Tunnel(_));
    let own = |m: Match| if tunnelled { m.with(Field::EthSrc, mac.to_bits()) } else { m };
    for address in &interface.ips {
        if let IpAddr::V4(v4) = address {
            let arp = ip(ethertype::ARP).with(Field::ArpSha, mac.to_bits()).with(Field::ArpSpa, v4.to_bits());
            sender.believe(e, 100, own(arp));
        }
    }
    for solicit in solicitations(own, mac, &interface.ips) {
        sender.believe(e, 102, solicit);
    }
    // What a client asks before it has an address names nothing but the Ethernet address.
    if tunnelled {
        for question in dhcp(own, mac) {
            sender.believe(e, 100, question);
        }
    }
    answers_from_outside(e, here, mac, &here.enter(sender.transport), to(Stage::Fit));
}

/// An identity is never cut to what a header has room for.
fn fits(here: &Here<'_>, workload: &Workload, identity: u32, at: &Name, transport: &Transport) -> Result<(), TooLarge> {
    let Transport::Tunnel(tunnel) = transport else { return Ok(()) };
    let limit = match overlay::header(tunnel.kind) {
        (_, Some(field)) => field.full_mask() as u64,
        (_, None) => return Ok(()),
    };
    if u64::from(identity) <= limit {
        return Ok(());
    }
    let (network, switch) = (&here.network.name, here.switch);
    let labels: Vec<String> = workload.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labels = if labels.is_empty() { "no labels".into() } else { labels.join(",") };
    let workload = &workload.name;
    let what = format!(
        "identity of {labels} (workload {workload}) of network {network} in the group-policy id of VXLAN from switch {at} \
         to switch {switch}"
    );
    Err(TooLarge { what, size: identity.into(), limit })
}
