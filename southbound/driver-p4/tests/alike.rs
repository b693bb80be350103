//! A fabric whose switches P4 programs has the same verdicts as one whose switches remember connections, but for what
//! ADR 15 and docs/p4.md say: what may be an answer passes where its question would, and nobody is told of ICMP errors.
//!
//! What is walked is what a device would have: the entries that its own are lifted to.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod fabrics;
#[path = "../../../controller/compile/tests/it/common/journey.rs"]
mod journey;

use bulkhead_compile::Compiler;
use bulkhead_driver_p4::{P4INFO, lift, lower};
use bulkhead_p4runtime::info::Info;
use bulkhead_pipeline::{
    Builtin, Cause, Field, Memory, Outcome, Packet, Program, Sort, Tracker, conn, ethertype, ip_proto,
    overlay::{GATEWAY_MAC, Tunnel},
};
use bulkhead_policy::{
    Flow, Service, State,
    arbitrary::{flow_seed, state},
};
use bulkhead_topology::{Name, Port};
use fabrics::{common, driven};
use journey::{Journey, Place, connected, over_with, packet, places};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use std::{cell::Cell, collections::BTreeMap};

/// Flows that are asked of each state.
const FLOWS: usize = 24;

/// A tracker that has seen nothing yet.
struct Fresh;

impl Tracker for Fresh {
    fn track(&mut self, _: u16, packet: &Packet) -> (u128, Memory) {
        let new = matches!(Sort::of(packet), Sort::Opens | Sort::Either);
        (if new { conn::NEW } else { conn::INV }, Memory::default())
    }
    fn commit(&mut self, _: u16, _: &Packet, _: Memory) {}
}

/// A fabric, and what its switches have.
struct Fabric {
    state: State,
    programs: BTreeMap<Name, Program>,
}

impl Fabric {
    fn new(state: State, info: &Info) -> Self {
        let compiler = Compiler::new(&state, Default::default()).unwrap().0;
        let device = |entry| lift(&lower(entry, info).unwrap(), info).unwrap();
        let programs = state.switches.values().filter_map(|switch| {
            let program = compiler.program(&switch.name)?;
            let had = match switch.driver.remembers() {
                true => program.clone(),
                false => program.iter().map(device).collect(),
            };
            Some((switch.name.clone(), had))
        });
        Self { programs: programs.collect(), state }
    }

    fn send(&self, ends: [&Place; 2], packet: Packet) -> Journey<'_> {
        let ends = ends.map(|place| &place.at.switch);
        let programs = |switch: &Name| self.programs.get(switch);
        over_with(&self.state, &programs, ends, [&mut Fresh, &mut Fresh], packet)
    }
}

/// What became of a packet, so far as it is seen from outside: metadata and tunnels' headers are the fabric's own.
fn seen(journey: &Journey<'_>) -> (Name, Outcome) {
    let bare = |packet: &Packet| {
        let mut packet = packet.clone();
        let own = |field: &Field| field.is_metadata() || field.is_tunnel() || *field == Field::Conn;
        Field::ALL.into_iter().filter(own).for_each(|field| packet.set(field, 0));
        if Tunnel::of(&packet.in_port).is_some() {
            packet.in_port = Port::Number(0);
        }
        Box::new(packet)
    };
    let outcome = match journey.outcome() {
        Outcome::Delivered { port, packet } => Outcome::Delivered { port: port.clone(), packet: bare(packet) },
        Outcome::Answered(packet) => Outcome::Answered(bare(packet)),
        other => other.clone(),
    };
    (journey.switch.clone(), outcome)
}

/// Whether rules of policies have ended it.
fn refused(journey: &Journey<'_>) -> bool {
    let ended = matches!(journey.outcome(), Outcome::Dropped(_) | Outcome::Rejected(_));
    ended && journey.walks.last().unwrap().steps.last().is_some_and(|step| step.stage.is_policy())
}

/// Whether it was taken for an answer to nothing.
fn is_invalid(journey: &Journey<'_>) -> bool {
    *journey.outcome() == Outcome::Dropped(Cause::Builtin(Builtin::Invalid))
}

/// The question that a packet of a flow would be an answer to.
fn question(flow: &Flow, [from, to]: &[Place; 2], packet: &Packet) -> Option<Packet> {
    let service = match flow.service {
        Service::Port { protocol, .. } => Service::Port { protocol, port: packet.value(Field::L4Src) as u16 },
        Service::Protocol(protocol) => Service::Protocol(protocol),
        Service::Icmp { protocol, .. } => {
            let asked = match (protocol, packet.value(Field::IcmpType)) {
                (1, 0) => 8,
                (1, answer @ (14 | 16)) => answer as u8 - 1,
                (58, 129) => 128,
                _ => return None,
            };
            Service::Icmp { protocol, icmp_type: asked, code: 0 }
        }
    };
    let flow = Flow { from: flow.to.clone(), to: flow.from.clone(), service, ..flow.clone() };
    let turned = [to, from].map(|place| Place { at: place.at.clone(), ..*place });
    self::packet(&flow, &turned, false)
}

/// What is changed of a packet of a flow.
#[derive(Debug, Clone, Copy)]
enum Twist {
    None,
    /// TCP's flags, or SCTP's chunk.
    Control(u8),
    /// From another's Ethernet or IP address.
    Liar(Field),
    Tag(u16),
    Fragment(u8),
    /// To a gateway, with so many hops to go.
    Routed(u8),
    /// Sent from the port that is asked.
    Source(u16),
    Icmp(u8),
    Long,
}

fn twist() -> impl Strategy<Value = Twist> {
    prop_oneof![
        2 => Just(Twist::None),
        6 => select(&[2u8, 18, 16, 4, 20, 1, 0][..]).prop_map(Twist::Control),
        1 => select(&[Field::EthSrc, Field::Ipv4Src, Field::Ipv6Src][..]).prop_map(Twist::Liar),
        1 => select(&[0x1000u16, 0x1007][..]).prop_map(Twist::Tag),
        1 => select(&[1u8, 3][..]).prop_map(Twist::Fragment),
        2 => (0..3u8).prop_map(Twist::Routed),
        4 => select(&[1u16, 53, 80, 443, 8080][..]).prop_map(Twist::Source),
        2 => select(&[0u8, 3, 5, 8, 11, 13, 14, 128, 129, 135][..]).prop_map(Twist::Icmp),
        1 => Just(Twist::Long),
    ]
}

impl Twist {
    fn apply(self, packet: &mut Packet) {
        let icmp = matches!(packet.value(Field::IpProto), ip_proto::ICMP | ip_proto::ICMPV6);
        match self {
            Self::None => {}
            Self::Control(control) => packet.control = control,
            Self::Liar(field) if packet.get(field).is_some() => packet.set(field, packet.value(field) ^ 3),
            Self::Tag(tag) => packet.set(Field::Vlan, tag.into()),
            Self::Fragment(bits) => packet.set(Field::IpFrag, bits.into()),
            Self::Routed(ttl) => {
                packet.set(Field::EthDst, GATEWAY_MAC.to_bits().into());
                packet.set(Field::IpTtl, ttl.into());
            }
            Self::Source(port) if packet.get(Field::L4Src).is_some() => packet.set(Field::L4Src, port.into()),
            Self::Icmp(kind) if icmp => packet.set(Field::IcmpType, kind.into()),
            Self::Long => packet.length = 60_000,
            Self::Liar(_) | Self::Source(_) | Self::Icmp(_) => {}
        }
    }
}

/// A question for a neighbour, or an answer, of whom a packet is from.
fn neighbours(packet: &Packet) -> Vec<Packet> {
    let link = [Field::EthSrc, Field::EthDst, Field::Vlan].map(|field| (field, packet.value(field)));
    let bare = |kind: u128| {
        link.into_iter().fold(Packet::new(packet.in_port.clone()), |p, (f, v)| p.with(f, v)).with(Field::EthType, kind)
    };
    let (from, mac) = (|field| packet.value(field), packet.value(Field::EthSrc));
    match packet.value(Field::EthType) {
        ethertype::IPV4 => [1u8, 2]
            .map(|op| {
                bare(ethertype::ARP)
                    .with(Field::ArpOp, op)
                    .with(Field::ArpSha, mac)
                    .with(Field::ArpSpa, from(Field::Ipv4Src))
                    .with(Field::ArpTha, 0u8)
                    .with(Field::ArpTpa, from(Field::Ipv4Dst))
            })
            .into(),
        _ => [(135u8, Field::NdSll, 1u8), (136, Field::NdTll, 2)]
            .map(|(kind, option, number)| {
                bare(ethertype::IPV6)
                    .with(Field::IpFrag, 0u8)
                    .with(Field::IpTtl, 255u8)
                    .with(Field::IpProto, ip_proto::ICMPV6)
                    .with(Field::Ipv6Src, from(Field::Ipv6Src))
                    .with(Field::Ipv6Dst, from(Field::Ipv6Dst))
                    .with(Field::IcmpType, kind)
                    .with(Field::IcmpCode, 0u8)
                    .with(Field::NdTarget, from(if kind == 135 { Field::Ipv6Dst } else { Field::Ipv6Src }))
                    .with(Field::NdReserved, 0u8)
                    .with(Field::NdOption, number)
                    .with(option, mac)
            })
            .into(),
    }
}

/// Packets that passed on both, that passed as answers alone, that neither let pass, and that went between switches.
type Counts = [u32; 4];

#[test]
fn the_same_packets_have_the_same_verdicts() {
    let counts = Cell::new(Counts::default());
    let info = Info::from_text(P4INFO).unwrap();
    let input = (state().boxed(), vec((flow_seed(), twist()), FLOWS).boxed(), 0..4usize);
    let config = Config { failure_persistence: None, cases: 96, ..Config::default() };
    let cases = config.cases;
    let run = TestRunner::new(config).run(&input, |(state, seeds, which)| {
        let state = common(&state, &mut BTreeMap::new());
        let wanted = Fabric::new(driven(&state, |_| false), &info);
        // One switch that remembers is among them, or none.
        let found = Fabric::new(driven(&state, |at| at != which), &info);
        for (seed, twist) in &seeds {
            let flow = seed.flow(&state);
            let Some(places) = places(&found.state, &flow).filter(|places| connected(&found.state, &flow, places))
            else {
                continue;
            };
            let ends = places.each_ref();
            let Some(mut sent) = packet(&flow, &places, false) else { continue };
            for neighbour in neighbours(&sent) {
                let (a, b) = (wanted.send(ends, neighbour.clone()), found.send(ends, neighbour));
                prop_assert_eq!(seen(&a), seen(&b), "{:#?}\n{:#?}", a, b);
            }
            twist.apply(&mut sent);
            let (a, b) = (wanted.send(ends, sent.clone()), found.send(ends, sent.clone()));
            let story = || format!("{flow:?}\n{sent:?}\n{a:#?}\n{b:#?}");
            let sort = Sort::of(&sent);
            let invalid = is_invalid(&a);
            let asked = || {
                let question = question(&flow, &places, &sent)?;
                Some(wanted.send([&places[1], &places[0]], question).is_delivered())
            };
            let may_answer = matches!(sort, Sort::Either | Sort::Answers) && (refused(&a) || invalid);
            // What has no hop left is told so before anything is judged where the network has a gateway of its family, else
            // it ends where it would leave.
            let expired =
                sent.value(Field::IpTtl) < 2 && *b.outcome() == Outcome::Dropped(Cause::Builtin(Builtin::Deliver));
            let cannot_leave = expired || matches!(b.outcome(), Outcome::TooBig { .. });
            let answers = may_answer && asked().unwrap_or(false);
            if answers && b.is_delivered() {
                prop_assert!(b.is_at(&places[1]), "{}", story());
            } else if may_answer && (invalid || cannot_leave || a.switch != b.switch) {
                // What its first switch lets out as an answer alone, the second one refuses: by the rules for its question, or
                // as an answer to nothing; if it can leave the first one.
                prop_assert!(refused(&b) || is_invalid(&b) || cannot_leave, "{}", story());
            } else {
                prop_assert_eq!(seen(&a), seen(&b), "{}", story());
            }
            let forgetful = ends.iter().all(|place| !found.state.switches[&place.at.switch].driver.remembers());
            prop_assert!(!answers || !forgetful || cannot_leave || b.is_delivered(), "{}", story());
            let mut sum = counts.get();
            sum[usize::from(!a.is_delivered()) + usize::from(!b.is_delivered())] += 1;
            sum[3] += u32::from(places[0].at.switch != places[1].at.switch);
            counts.set(sum);
        }
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
    // Agreement about nothing proves nothing.
    let [both, answers, neither, far] = counts.get();
    assert!(both.min(neither).min(far) >= cases && answers >= cases / 16, "{:?} in {cases} cases", counts.get());
}
