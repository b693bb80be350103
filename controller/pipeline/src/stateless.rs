//! Walking a program of a switch that remembers no connections (ADR 15).
//!
//! Such a switch cannot know whether a packet answers one that it let pass. It judges a packet that may be an answer in
//! two views: as what it says it is, and, if policy refuses that, as an answer to the packet that would have been its
//! question. Nothing passes that neither view allows. What goes on to another switch is judged in both, and that switch is
//! told in which of them it passed (ADR 17).

use crate::{
    field::{Field, conn, identity, peer},
    packet::{Packet, ip_proto},
    program::Program,
    stage::Stage,
    walk::{Memory, Outcome, Tracker, Walk, walk},
};

/// What a packet may be to a connection, by what it says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// It can only be of the direction that opens: a TCP segment with neither ACK nor RST, SCTP's INIT, an ICMP question.
    Opens,
    /// It can only be an answer: a TCP segment with SYN and ACK, SCTP's INIT ACK, an ICMP answer.
    Answers,
    /// Either.
    Either,
    /// An ICMP error: it is about a packet that it quotes, and no switch of this kind looks into that.
    Error,
}

/// Flags of TCP (RFC 9293 §3.1).
mod tcp {
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const ACK: u8 = 16;
}

/// Types of SCTP's chunks (RFC 9260 §3.2).
mod sctp {
    pub const INIT: u8 = 1;
    pub const INIT_ACK: u8 = 2;
}

impl Sort {
    /// What a packet is.
    pub fn of(packet: &Packet) -> Self {
        let has = |flag: u8| packet.control & flag != 0;
        match packet.value(Field::IpProto) {
            ip_proto::TCP => match (has(tcp::SYN), has(tcp::ACK), has(tcp::RST)) {
                (true, true, _) => Self::Answers,
                (true, false, _) | (false, false, false) => Self::Opens,
                (false, ..) => Self::Either,
            },
            ip_proto::SCTP => match packet.control {
                sctp::INIT => Self::Opens,
                sctp::INIT_ACK => Self::Answers,
                _ => Self::Either,
            },
            // The types that programs send through the tracker (RFC 792, RFC 4443 §4).
            ip_proto::ICMP => match packet.value(Field::IcmpType) {
                8 | 13 | 15 => Self::Opens,
                0 | 14 | 16 => Self::Answers,
                _ => Self::Error,
            },
            ip_proto::ICMPV6 => match packet.value(Field::IcmpType) {
                128 => Self::Opens,
                129 => Self::Answers,
                _ => Self::Error,
            },
            _ => Self::Either,
        }
    }
}

/// As what a packet is judged.
#[derive(Clone, Copy)]
enum View {
    /// As a question if it may be one, else as an answer.
    First,
    /// As an answer: policy refused it as a question.
    Answer,
    /// As an answer, having passed as a question.
    Both,
}

/// Tells of a packet what the view says that it is walked in.
struct Views {
    view: View,
    /// Whether the packet may be a question, and an answer too.
    either: bool,
    /// Whether it goes to another switch's workload.
    to_peer: bool,
}

impl Views {
    fn new(view: View) -> Self {
        Self { view, either: false, to_peer: false }
    }
}

impl Tracker for Views {
    fn track(&mut self, _: u16, packet: &Packet) -> (u128, Memory) {
        let is = |field| packet.value(field) == 1;
        // A packet of another switch's workload: that switch has judged it, and says what it was there. Outsiders, and
        // those whose switch judges nothing, have nobody who could say so.
        let told = is(Field::FromTunnel)
            && !is(Field::SrcLocal)
            && packet.value(Field::SrcId) != u128::from(identity::EXTERNAL);
        let [asked, answered] = match (told, packet.value(Field::Peer)) {
            (false, _) | (true, peer::EITHER) => [true, true],
            (true, peer::QUESTION) => [true, false],
            (true, _) => [false, true],
        };
        let sort = Sort::of(packet);
        let question = asked && matches!(sort, Sort::Opens | Sort::Either);
        let answer = answered && matches!(sort, Sort::Answers | Sort::Either);
        self.either = question && answer;
        self.to_peer = is(Field::ToPeer);
        let bits = match self.view {
            View::First if question => conn::NEW,
            _ if !answer => conn::INV,
            View::Both => conn::EITHER,
            // No established connection: where a network lets those live, that is for switches that know of one.
            _ => conn::RPL,
        };
        (bits, Memory::default())
    }

    fn commit(&mut self, _: u16, _: &Packet, _: Memory) {}
}

/// Walks a packet through the program of a switch that remembers no connections: a second time, as an answer, if it may be
/// one, and policy refuses it or passes it on to another switch, which is then told of both. What became of it is what the
/// second view says, or else, if policy refuses it there, the first one; the steps are those that count, in their order:
/// behind policies a packet comes once.
pub fn walk_stateless(program: &Program, packet: Packet) -> Walk<'_> {
    let mut views = Views::new(View::First);
    let mut first = walk(program, &mut views, packet.clone());
    let passed = first.steps.iter().position(|step| step.stage == Stage::Verdict);
    // Of what passes lines are about what begins: who remembers nothing knows of no first packet but by what it is.
    if passed.is_some() && !begins(&packet) {
        first.logged.clear();
    }
    let view = match passed {
        _ if !views.either => return first,
        Some(_) if views.to_peer => View::Both,
        None if refused_by_policy(&first) => View::Answer,
        _ => return first,
    };
    let rest = passed.map(|at| first.steps.split_off(at)).unwrap_or_default();
    let second = walk(program, &mut Views::new(view), packet);
    let refused = refused_by_policy(&second);
    first.steps.extend(second.steps);
    if refused {
        first.steps.extend(rest);
    } else {
        (first.outcome, first.ended) = (second.outcome, second.ended);
        // It is an answer after all.
        if passed.is_none() {
            first.logged.clear();
        }
    }
    first
}

/// Whether a connection begins with such a packet, for all that it says of itself.
fn begins(packet: &Packet) -> bool {
    let told = matches!(packet.value(Field::IpProto), ip_proto::TCP | ip_proto::SCTP);
    !told || Sort::of(packet) == Sort::Opens
}

/// Whether a stage of policies ended it. What ends elsewhere ends there in every view.
fn refused_by_policy(walk: &Walk<'_>) -> bool {
    let refused = matches!(walk.outcome, Outcome::Dropped(_) | Outcome::Rejected(_));
    refused && walk.steps.last().is_some_and(|step| step.stage.is_policy())
}

impl Stage {
    /// Whether it has rules of policies that decide.
    pub fn is_policy(self) -> bool {
        (Self::EgressEmergency..=Self::EgressBaseline).contains(&self)
            || (Self::IngressEmergency..=Self::IngressBaseline).contains(&self)
    }
}
