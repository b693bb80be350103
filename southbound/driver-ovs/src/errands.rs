//! What switches send us packets for: to tell their senders something, to write a line, to report a probe.
//!
//! What is done about a packet is in the entry that sent it, as the `userdata` of its action ([`Errand`]); whether
//! anything is done is bounded here as well as by the switch's meters, which not every switch has.

use crate::{
    layout::{
        self, COOKIE_MASK, COOKIE_OWNER, Cookie, DISCOVER_METER, Errand, LEARN_METER, LINK_METER, LOG_METER,
        PROBE_METER, REJECT_METER,
    },
    ports::PortMap,
    probe,
};
use bulkhead_dataplane::{
    Allowance, LOGS_PER_SECOND, Logged, MAX_DISCOVERED, Probe, Report,
    reject::{self, REJECTS_PER_SECOND, Why},
};
use bulkhead_openflow::{
    Action as OfAction, Msg, OxmField, Session, SessionError,
    wire::{
        flow::NO_BUFFER,
        packet::{PacketIn2, PacketOut, reason},
        port::reserved,
    },
};
use bulkhead_pipeline::{
    Field, Packet, Stage,
    carry::CARRIED,
    conn,
    overlay::{REPLY_MAC, Tunnel},
    peer,
};
use bulkhead_topology::Port;
use std::{
    mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

/// Identity of every address that no workload has ([`Field::SrcId`]).
const EXTERNAL: u128 = 1;
/// Probes per second and switch, likewise: a switch has a tunnel to some hundred others, each of which asks every few
/// seconds.
const PROBES_PER_SECOND: u32 = 500;
/// Frames per second and switch that may tell of links, likewise: one a second from each of so many neighbours.
const DISCOVERIES_PER_SECOND: u32 = 200;
/// The same at ports that lead to other switches: one a second from each, and no switch has more cables.
const LINKS_PER_SECOND: u32 = 1000;
/// Frames per second and switch that workloads are learned from, likewise: each is said once, and its question comes
/// again after a second.
const LEARNED_PER_SECOND: u32 = 200;

/// What has been said and written lately.
#[derive(Debug)]
pub(crate) struct Errands {
    rejects: Allowance,
    logs: Allowance,
    probes: Allowance,
    discoveries: Allowance,
    links: Allowance,
    learned: Allowance,
    /// Logged packets that were left out since the last that was reported.
    missed: u64,
}

impl Errands {
    /// The meters that entries name, and packets per second.
    pub const METERS: [(u32, u32); 6] = [
        (REJECT_METER, REJECTS_PER_SECOND),
        (LOG_METER, LOGS_PER_SECOND),
        (PROBE_METER, PROBES_PER_SECOND),
        (DISCOVER_METER, DISCOVERIES_PER_SECOND),
        (LINK_METER, LINKS_PER_SECOND),
        (LEARN_METER, LEARNED_PER_SECOND),
    ];

    /// Nothing has.
    pub fn new() -> Self {
        let [rejects, logs, probes, discoveries, links, learned] = Self::METERS.map(|(_, rate)| Allowance::new(rate));
        Self { rejects, logs, probes, discoveries, links, learned, missed: 0 }
    }

    /// A packet came: does what is to be done about it.
    pub fn packet(
        &mut self,
        session: &mut Session,
        ports: &PortMap,
        packet: &PacketIn2,
        now: Duration,
    ) -> Result<Option<Report>, SessionError> {
        let cookie = packet.cookie.filter(|cookie| cookie & COOKIE_MASK == COOKIE_OWNER);
        let Some(cookie) = cookie.and_then(Cookie::from_bits) else { return Ok(None) };
        match packet.reason {
            Some(layout::LOG_REASON) => return Ok(self.logged(ports, cookie, packet, now)),
            Some(reason::ACTION) => {}
            _ => return Ok(None),
        }
        let why = match Errand::from_bytes(&packet.userdata) {
            None => return Ok(None),
            Some(Errand::Probe) => return Ok(self.probed(packet, now)),
            Some(Errand::Discover) => return Ok(discovered(&mut self.discoveries, ports, packet, now)),
            Some(Errand::Link) => return Ok(discovered(&mut self.links, ports, packet, now)),
            Some(Errand::Learn) => return Ok(discovered(&mut self.learned, ports, packet, now)),
            Some(Errand::Reject) => Why::Refused,
            Some(Errand::Expired(from)) => Why::Expired(from),
            Some(Errand::NoRoute(from)) => Why::NoRoute(from),
            Some(Errand::TooBig(mtu)) => Why::TooBig(mtu),
        };
        self.tell(session, ports, packet, why, now)?;
        Ok(None)
    }

    /// What a packet says about a new connection, if there is room for another line.
    fn logged(&mut self, ports: &PortMap, cookie: Cookie, packet: &PacketIn2, now: Duration) -> Option<Report> {
        let port = came_by(ports, packet)?;
        if !self.logs.take(now) {
            self.missed += 1;
            return None;
        }
        // Only the beginning came. Headers that tell of more than there is would be none, so it is made up.
        let mut frame = packet.packet.clone();
        // No frame is longer than an IP packet and its link header.
        let whole = packet.full_len.unwrap_or(0).min(u32::from(u16::MAX)) as usize;
        frame.resize(frame.len().max(whole), 0);
        // What cannot be read is no connection.
        let headers = Packet::parse(port, &frame).ok()?;
        let (dropped, missed) = (cookie.flags & Cookie::DROPPED != 0, mem::take(&mut self.missed));
        Some(Report::Logged(Box::new(Logged { cause: cookie.cause, dropped, packet: headers, missed })))
    }

    /// The controller could not take a line.
    pub fn not_logged(&mut self, logged: &Logged) {
        self.missed = self.missed.saturating_add(logged.missed).saturating_add(1);
    }

    fn probed(&mut self, packet: &PacketIn2, now: Duration) -> Option<Report> {
        let (token, from) = (probe::token(&packet.packet)?, outer_source(packet)?);
        self.probes.take(now).then_some(Report::Probed { token, from })
    }

    /// Tells the sender of a packet why it goes no further.
    fn tell(
        &mut self,
        session: &mut Session,
        ports: &PortMap,
        packet: &PacketIn2,
        why: Why,
        now: Duration,
    ) -> Result<(), SessionError> {
        let Some(port) = in_port(packet) else { return Ok(()) };
        if !self.rejects.take(now) {
            return Ok(());
        }
        let Some(data) = reject::answer(&packet.packet, why) else { return Ok(()) };
        let tunnel = ports.name(port).and_then(|name| Tunnel::of(&Port::Name(name.clone())));
        if tunnel.is_none() && layout::told(&packet.metadata, Field::FromTunnel) == 1 {
            return send(session, by_links(packet), data);
        }
        let mut data = reject::tagged(data, layout::told(&packet.metadata, Field::InVlan) as u16);
        if tunnel.is_some() && asker(packet) != EXTERNAL {
            // The switch there is told that it is an answer.
            data.splice(..REPLY_MAC.0.len().min(data.len()), REPLY_MAC.0);
        }
        let mut actions = back(packet, tunnel);
        actions.push(OfAction::output(port));
        send(session, actions, data)
    }
}

/// Sends a frame of our own. If there is no room for it, it is lost, as any packet may be.
fn send(session: &mut Session, actions: Vec<OfAction>, data: Vec<u8>) -> Result<(), SessionError> {
    let out = PacketOut { buffer_id: NO_BUFFER, in_port: reserved::CONTROLLER, actions, data };
    match session.send(&Msg::PacketOut(out)) {
        Ok(_) | Err(SessionError::OutputFull(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Sends a probe by the port with this number, in no network.
pub(crate) fn probe(session: &mut Session, port: u32, probe: &Probe) -> Result<(), SessionError> {
    let to = toward(probe.to).into_iter().map(|(field, value)| OfAction::SetField { field, value });
    send(session, to.chain([OfAction::output(port)]).collect(), probe::frame(probe.token))
}

/// Sends a frame by the port with this number.
pub(crate) fn discover(session: &mut Session, port: u32, frame: Vec<u8>) -> Result<(), SessionError> {
    send(session, vec![OfAction::output(port)], frame)
}

/// Identity of who is told: a reply is judged as the connection that it answers, so its own source is that connection's
/// destination.
fn asker(packet: &PacketIn2) -> u128 {
    let swapped = packet.metadata.get(OxmField::CtState).is_some_and(|oxm| oxm.value & conn::RPL != 0);
    layout::told(&packet.metadata, if swapped { Field::DstId } else { Field::SrcId })
}

/// What makes an answer go back by the tunnel that the packet came by, as its destination would have sent it.
fn back(packet: &PacketIn2, tunnel: Option<Tunnel>) -> Vec<OfAction> {
    let said = |field| packet.metadata.get(field).map_or(0, |oxm| oxm.value);
    let (Some(to), Some(tunnel)) = (outer_source(packet), tunnel) else { return Vec::new() };
    // A reply is judged as the connection that it answers, so its own destination is that connection's source.
    let swapped = said(OxmField::CtState) & conn::RPL != 0;
    let answerer = layout::told(&packet.metadata, if swapped { Field::SrcId } else { Field::DstId });
    let mut set = toward(to);
    set.push((OxmField::TunnelId, said(OxmField::TunnelId)));
    match tunnel {
        Tunnel::Geneve => set.push((OxmField::TunMetadata0, answerer)),
        Tunnel::Vxlan if said(OxmField::TunGbpId) != 0 => set.push((OxmField::TunGbpId, answerer & 0xffff)),
        Tunnel::Vxlan => {}
    }
    set.into_iter().map(|(field, value)| OfAction::SetField { field, value }).collect()
}

/// What makes an answer go to the edge that the packet came from by the links of the fabric: as any packet of its
/// destination's, by whatever way stands in the tables.
fn by_links(packet: &PacketIn2) -> Vec<OfAction> {
    let said = |field| layout::told(&packet.metadata, field);
    let set = [
        (Field::Network, said(Field::Network)),
        (Field::OutTunnel, CARRIED),
        (Field::OutVlan, said(Field::InVlan)),
        // The edge there is told that it is an answer.
        (Field::Peer, if asker(packet) == EXTERNAL { peer::QUESTION } else { peer::ANSWER }),
    ];
    let load = |(field, value)| Some(OfAction::Load { dst: layout::metadata(field)?, value: value as u64 });
    set.into_iter().filter_map(load).chain([OfAction::resubmit(Stage::Fit as u8)]).collect()
}

/// The field that leads a tunnel's packet to this address.
fn toward(to: IpAddr) -> Vec<(OxmField, u128)> {
    match to {
        IpAddr::V4(v4) => vec![(OxmField::TunIpv4Dst, v4.to_bits().into())],
        IpAddr::V6(v6) => vec![(OxmField::TunIpv6Dst, v6.to_bits())],
    }
}

/// What is reported of a frame that an entry asks to be told of, if there is room for it.
fn discovered(left: &mut Allowance, ports: &PortMap, packet: &PacketIn2, now: Duration) -> Option<Report> {
    let (port, mut frame) = (came_by(ports, packet)?, packet.packet.clone());
    frame.truncate(MAX_DISCOVERED.into());
    left.take(now).then_some(Report::Discovered { port, frame })
}

fn in_port(packet: &PacketIn2) -> Option<u32> {
    packet.metadata.get(OxmField::InPort).and_then(|oxm| u32::try_from(oxm.value).ok())
}

/// The port that a packet came by: its name, if it has one of its own, or else its number.
fn came_by(ports: &PortMap, packet: &PacketIn2) -> Option<Port> {
    let number = in_port(packet)?;
    Some(ports.name(number).map_or(Port::Number(number), |name| Port::Name(name.clone())))
}

/// Where the tunnel's packet came from; `None` if it came by none.
fn outer_source(packet: &PacketIn2) -> Option<IpAddr> {
    let said = |field| packet.metadata.get(field).map(|oxm| oxm.value).filter(|value| *value != 0);
    let v4 = said(OxmField::TunIpv4Src).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits as u32)));
    v4.or_else(|| said(OxmField::TunIpv6Src).map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
