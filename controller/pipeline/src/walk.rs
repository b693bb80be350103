//! The interpreter: what a program does to one packet.
//!
//! Slow and plain on purpose. It is the meaning of a program; every dataplane is held against it.

use crate::{
    entry::{Action, Cause, Entry, Next, Output},
    field::{Field, conn, vlan},
    matching::Match,
    packet::{Packet, ethertype},
    program::Program,
    stage::Stage,
};
use bulkhead_topology::Port;
use std::net::IpAddr;

/// What [`Action::Commit`] remembers of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Source and destination class of the connection's first packet.
    pub classes: [u32; 2],
    /// Its service.
    pub service: u32,
}

/// A connection tracker, as a walk needs it.
pub trait Tracker {
    /// The state bits ([`conn`]) of a packet in a zone, and what was remembered of its connection.
    fn track(&mut self, zone: u16, packet: &Packet) -> (u128, Memory);
    /// Makes the packet's connection an established one.
    fn commit(&mut self, zone: u16, packet: &Packet, memory: Memory);
    /// Forgets the connection that the packet belongs to. A tracker that remembers none need not.
    fn forget(&mut self, _zone: u16, _packet: &Packet) {}
}

/// What became of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Sent out of a port, as it then was.
    Delivered {
        /// The port.
        port: Port,
        /// The packet, rewritten.
        packet: Box<Packet>,
    },
    /// Answered: the rewritten packet went back where it came from.
    Answered(Box<Packet>),
    /// Dropped, under the cause's count.
    Dropped(Cause),
    /// Dropped, and the sender is told.
    Rejected(Cause),
    /// Dropped, and the sender is told that the TTL ended.
    Expired {
        /// The rule that dropped it.
        cause: Cause,
        /// Who tells.
        from: IpAddr,
    },
    /// Dropped, and the sender is told that no route leads on.
    NoRoute {
        /// The rule that dropped it.
        cause: Cause,
        /// Who tells.
        from: IpAddr,
    },
    /// Dropped, and the sender is told what would fit.
    TooBig {
        /// The rule that dropped it.
        cause: Cause,
        /// Bytes of the longest IP packet that would pass.
        mtu: u16,
    },
    /// Reported to the controller: a tunnel's probe.
    Probe(Cause),
    /// Reported to the controller: a frame that may tell of a link.
    Discovered(Cause),
    /// Copies went on, and this became of each, in order.
    Copied(Vec<Outcome>),
}

/// One entry that a packet met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<'a> {
    /// The stage.
    pub stage: Stage,
    /// The entry; `None` if the stage has none that matches.
    pub entry: Option<&'a Entry>,
}

/// A packet's way through a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk<'a> {
    /// What became of the packet.
    pub outcome: Outcome,
    /// Every entry it met, in order.
    pub steps: Vec<Step<'a>>,
    /// The packet as it was where its way ended: who is told why learns it from that. Of copies it says nothing.
    pub ended: Box<Packet>,
    /// The entries that write a line about it, in order.
    pub logged: Vec<&'a Entry>,
}

impl Walk<'_> {
    /// The cause that decided: of the last policy entry on the way, else of the last entry.
    pub fn causes(&self) -> impl Iterator<Item = Cause> {
        self.steps.iter().map(|step| step.entry.map_or(Cause::Miss(step.stage), |entry| entry.cause))
    }
}

/// Walks a packet through a program.
pub fn walk<'a>(program: &'a Program, tracker: &mut dyn Tracker, packet: Packet) -> Walk<'a> {
    let mut steps = Vec::new();
    let mut state = State { packet, chosen: None, memory: Memory::default() };
    let outcome = from(program, tracker, Stage::Classify, &mut state, &mut steps);
    let met = steps.iter().filter_map(|step| step.entry);
    let logged = met.filter(|entry| entry.actions.contains(&Action::Log)).collect();
    Walk { outcome, steps, ended: Box::new(state.packet), logged }
}

/// What a packet is on its way, beside where.
#[derive(Clone)]
struct State {
    packet: Packet,
    chosen: Option<Port>,
    memory: Memory,
}

/// What becomes of a packet from a stage on. A copy's stage is a later one, so this ends.
fn from<'a>(
    program: &'a Program,
    tracker: &mut dyn Tracker,
    mut stage: Stage,
    state: &mut State,
    steps: &mut Vec<Step<'a>>,
) -> Outcome {
    let State { packet, chosen, memory } = state;
    loop {
        let entry = lookup(program, stage, packet);
        steps.push(Step { stage, entry });
        let Some(entry) = entry else { return Outcome::Dropped(Cause::Miss(stage)) };
        let mut sent = None;
        let mut copies = Vec::new();
        let zone = packet.value(Field::Network) as u16;
        for action in &*entry.actions {
            match action {
                Action::Set(field, value) => packet.set(*field, value.get()),
                Action::SetBits(bits) => {
                    let others = packet.value(bits.field) & !bits.mask;
                    packet.set(bits.field, others | bits.value & bits.mask);
                }
                Action::Copy { from, to } => packet.set(*to, packet.value(*from)),
                Action::ServiceFromDst => set_service(packet, Field::L4Dst),
                Action::ServiceFromSrc => set_service(packet, Field::L4Src),
                Action::ServiceFromIcmp => {
                    let detail = packet.value(Field::IcmpType) << 8 | packet.value(Field::IcmpCode);
                    packet.set(Field::Service, packet.value(Field::IpProto) << 16 | detail);
                }
                Action::ServiceFromProto => packet.set(Field::Service, packet.value(Field::IpProto) << 16),
                Action::SetOut(port) => *chosen = Some(port.clone()),
                Action::Output(output) => {
                    let port = match output {
                        Output::InPort => None,
                        Output::Chosen => chosen.clone(),
                        Output::Port(port) => Some(port.clone()),
                        Output::OneOf(ports) => share(packet, ports).cloned(),
                    };
                    sent = Some(match port {
                        // A switch never sends a packet back to its in-port unless told so by that name.
                        Some(port) if port == packet.in_port => Outcome::Dropped(entry.cause),
                        Some(port) => Outcome::Delivered { port, packet: Box::new(packet.clone()) },
                        None if *output == Output::InPort => Outcome::Answered(Box::new(packet.clone())),
                        None => Outcome::Dropped(entry.cause),
                    });
                }
                Action::Track => {
                    let (bits, remembered) = tracker.track(zone, packet);
                    packet.set(Field::Conn, bits | conn::TRK);
                    *memory = remembered;
                }
                Action::Commit => tracker.commit(zone, packet, remember(packet)),
                Action::CommitAnew => {
                    tracker.forget(zone, packet);
                    tracker.commit(zone, packet, remember(packet));
                }
                Action::SwapEnds => {
                    for (a, b) in [
                        (Field::SrcId, Field::DstId),
                        (Field::SrcClass, Field::DstClass),
                        (Field::SrcLocal, Field::DstLocal),
                    ] {
                        let (was_a, was_b) = (packet.value(a), packet.value(b));
                        packet.set(a, was_b);
                        packet.set(b, was_a);
                    }
                }
                Action::Recall => {
                    packet.set(Field::SrcClass, memory.classes[0].into());
                    packet.set(Field::DstClass, memory.classes[1].into());
                    packet.set(Field::Service, memory.service.into());
                }
                Action::RecallService => packet.set(Field::Service, memory.service.into()),
                Action::Reject => return Outcome::Rejected(entry.cause),
                Action::Expired { from } => {
                    return Outcome::Expired { cause: entry.cause, from: *from };
                }
                Action::NoRoute { from } => return Outcome::NoRoute { cause: entry.cause, from: *from },
                Action::TooBig { mtu } => {
                    return Outcome::TooBig { cause: entry.cause, mtu: *mtu };
                }
                Action::Probe => return Outcome::Probe(entry.cause),
                Action::Discover => return Outcome::Discovered(entry.cause),
                Action::DecTtl => match packet.value(Field::IpTtl) {
                    0 | 1 => return Outcome::Dropped(entry.cause),
                    ttl => packet.set(Field::IpTtl, ttl - 1),
                },
                Action::CheckSize(limit) => {
                    packet.set(Field::TooBig, u128::from(packet.length > u32::from(*limit)));
                }
                Action::Fork { actions, to } if *to > stage => {
                    let mut copy = State { packet: packet.clone(), chosen: chosen.clone(), memory: *memory };
                    for action in &**actions {
                        match action {
                            Action::Set(field, value) => copy.packet.set(*field, value.get()),
                            Action::Copy { from, to } => copy.packet.set(*to, copy.packet.value(*from)),
                            // `check` knows no others in a copy.
                            _ => {}
                        }
                    }
                    copies.push(from(program, tracker, *to, &mut copy, steps));
                }
                Action::Fork { .. } => copies.push(Outcome::Dropped(entry.cause)),
                Action::PushVlan(id) => packet.set(Field::Vlan, packet.value(*id) & vlan::ID | vlan::PRESENT),
                Action::PopVlan => packet.set(Field::Vlan, 0),
                // A copy for the controller: the packet's own way stays what it is.
                Action::Log | Action::Clause { .. } => {}
            }
        }
        match entry.next {
            Next::Stage(next) if next > stage => stage = next,
            Next::Stage(_) | Next::Drop => return Outcome::Dropped(entry.cause),
            Next::Done => {
                let outcome = sent.unwrap_or(Outcome::Dropped(entry.cause));
                return if copies.is_empty() { outcome } else { Outcome::Copied(copies) };
            }
        }
    }
}

/// The port that a packet's connection has among several: the same one for both directions, and on every run.
fn share<'a>(packet: &Packet, ports: &'a [Port]) -> Option<&'a Port> {
    let value = |field| packet.value(field);
    let end = |side: [Field; 4]| side.into_iter().fold(0, |sum, field| mix(sum ^ mix(value(field))));
    // What is no IP has its Ethernet addresses and no others; IP's are rewritten on the way.
    let ends = match value(Field::EthType) {
        ethertype::IPV4 | ethertype::IPV6 => end([Field::Ipv4Src, Field::Ipv6Src, Field::L4Src, Field::IpProto])
            .wrapping_add(end([Field::Ipv4Dst, Field::Ipv6Dst, Field::L4Dst, Field::IpProto])),
        _ => mix(value(Field::EthSrc)).wrapping_add(mix(value(Field::EthDst))),
    };
    let at = mix(ends).checked_rem(ports.len() as u128)?;
    ports.get(usize::try_from(at).ok()?)
}

/// Spreads a number's bits over 64 (the finalizer of Steele's, Lea's and Flood's SplitMix64).
fn mix(value: u128) -> u128 {
    let mut bits = (value >> 64) as u64 ^ value as u64;
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ bits >> 31).into()
}

fn set_service(packet: &mut Packet, port: Field) {
    packet.set(Field::Service, packet.value(Field::IpProto) << 16 | packet.value(port));
}

fn remember(packet: &Packet) -> Memory {
    Memory {
        classes: [packet.value(Field::SrcClass) as u32, packet.value(Field::DstClass) as u32],
        service: packet.value(Field::Service) as u32,
    }
}

/// The entry of a stage that decides about a packet: the highest priority that matches, where a
/// conjunction matches once each of its clauses has an entry that does, at that priority.
fn lookup<'a>(program: &'a Program, stage: Stage, packet: &Packet) -> Option<&'a Entry> {
    let mut priority = None;
    // Conjunctions seen at this priority: number, clauses met, clauses wanted.
    let mut conjunctions: Vec<(u32, u8, u8)> = Vec::new();
    let mut deciders: Vec<(u32, &'a Entry)> = Vec::new();
    for entry in program.stage(stage) {
        if priority != Some(entry.key.priority) {
            if let Some(found) = satisfied(&conjunctions, &deciders) {
                return Some(found);
            }
            priority = Some(entry.key.priority);
            conjunctions.clear();
            deciders.clear();
        }
        if let Some(number) = entry.key.matches.exact(Field::Conjunction) {
            if matches(&entry.key.matches, packet) {
                deciders.push((number as u32, entry));
            }
        } else if matches(&entry.key.matches, packet) {
            let clauses = entry.actions.iter().filter_map(|action| match action {
                Action::Clause { conjunction, k, n } => Some((*conjunction, *k, *n)),
                _ => None,
            });
            let before = conjunctions.len();
            for (conjunction, k, n) in clauses {
                let bit = 1u8.checked_shl(u32::from(k).wrapping_sub(1)).unwrap_or(0);
                match conjunctions.iter_mut().find(|seen| seen.0 == conjunction) {
                    Some(seen) => seen.1 |= bit,
                    None => conjunctions.push((conjunction, bit, n)),
                }
            }
            let is_clause = before != conjunctions.len()
                || entry.actions.iter().any(|action| matches!(action, Action::Clause { .. }));
            if !is_clause {
                return Some(entry);
            }
        }
    }
    satisfied(&conjunctions, &deciders)
}

fn satisfied<'a>(conjunctions: &[(u32, u8, u8)], deciders: &[(u32, &'a Entry)]) -> Option<&'a Entry> {
    conjunctions
        .iter()
        .filter(|(_, met, wanted)| u32::from(*wanted) == met.count_ones())
        .find_map(|(number, ..)| deciders.iter().find(|(decider, _)| decider == number).map(|(_, entry)| *entry))
}

/// Whether a packet has what the match asks for; [`Field::Conjunction`] is left aside.
fn matches(wanted: &Match, packet: &Packet) -> bool {
    wanted.in_port.as_ref().is_none_or(|port| *port == packet.in_port)
        && wanted.fields().all(|(field, value, mask)| {
            field == Field::Conjunction || packet.get(field).is_some_and(|have| have & mask == value)
        })
}
