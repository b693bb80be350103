//! Fabrics of two switches, each of which remembers connections or does not: what two of those that do not let pass is
//! what one of them would, were both workloads plugged in there; a pair of either sort lets no more pass than that, and
//! no less of a connection than two that remember.

use crate::common;
use crate::journey;
use bulkhead_compile::Compiler;
use bulkhead_pipeline::{Builtin, Cause, Field, Memory, Outcome, Packet, Sort, Tracker, conn, ethertype, ip_proto};
use bulkhead_policy::State;
use bulkhead_topology::{Name, Port};
use common::{compile, name, state};
use journey::{Journey, over_with};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use std::{cell::Cell, collections::BTreeSet};

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// The two workloads, and the ports that they speak from and to.
const A: usize = 0;
const B: usize = 1;
const PORTS: [u16; 3] = [80, 81, 40_000];

/// A packet of one of the two to the other one.
#[derive(Debug, Clone, Copy)]
struct Said {
    from: usize,
    protocol: u8,
    /// Source and destination, or ICMP's type and the echo's identifier.
    ports: [u16; 2],
    control: u8,
}

impl Said {
    fn packet(self) -> Packet {
        let (from, to) = (self.from as u8 + 1, 2 - self.from as u8);
        let mut packet = Packet::new(Port::Name(format!("w{from}").into()))
            .with(Field::EthSrc, 0x0200_0000_0000_u64 | u64::from(from))
            .with(Field::EthDst, 0x0200_0000_0000_u64 | u64::from(to))
            .with(Field::Vlan, 0u8)
            .with(Field::EthType, ethertype::IPV4)
            .with(Field::IpFrag, 0u8)
            .with(Field::IpTtl, 64u8)
            .with(Field::IpProto, self.protocol)
            .with(Field::Ipv4Src, 0x0a00_0000_u32 | u32::from(from))
            .with(Field::Ipv4Dst, 0x0a00_0000_u32 | u32::from(to));
        if u128::from(self.protocol) == ip_proto::ICMP {
            packet.set(Field::IcmpType, self.ports[0].into());
            packet.set(Field::IcmpCode, 0);
        } else {
            packet.set(Field::L4Src, self.ports[0].into());
            packet.set(Field::L4Dst, self.ports[1].into());
        }
        packet.control = self.control;
        packet
    }
}

/// The connections of a switch that remembers them, by their first packet.
#[derive(Default)]
struct Connections(BTreeSet<[u128; 5]>);

impl Connections {
    fn ends(packet: &Packet) -> [u128; 5] {
        let icmp = packet.value(Field::IpProto) == ip_proto::ICMP;
        let ports = if icmp {
            [packet.value(Field::IcmpType), 8]
        } else {
            [Field::L4Src, Field::L4Dst].map(|f| packet.value(f))
        };
        [packet.value(Field::IpProto), packet.value(Field::Ipv4Src), packet.value(Field::Ipv4Dst), ports[0], ports[1]]
    }

    fn turned([protocol, from, to, source, destination]: [u128; 5]) -> [u128; 5] {
        match protocol {
            ip_proto::ICMP => [protocol, to, from, 8 - source, 8],
            _ => [protocol, to, from, destination, source],
        }
    }
}

impl Tracker for Connections {
    fn track(&mut self, _: u16, packet: &Packet) -> (u128, Memory) {
        let ends = Self::ends(packet);
        let bits = match (self.0.contains(&ends), self.0.contains(&Self::turned(ends)), Sort::of(packet)) {
            (true, ..) => conn::EST,
            (_, true, _) => conn::EST | conn::RPL,
            // As Open vSwitch has it, the middle of a connection may begin one, and an answer to nothing may not.
            (.., Sort::Opens | Sort::Either) => conn::NEW,
            _ => conn::INV,
        };
        (bits, Memory::default())
    }
    fn commit(&mut self, _: u16, packet: &Packet, _: Memory) {
        self.0.insert(Self::ends(packet));
    }
    fn forget(&mut self, _: u16, packet: &Packet) {
        let ends = Self::ends(packet);
        self.0.remove(&ends);
        self.0.remove(&Self::turned(ends));
    }
}

/// Which of the two switches remember; or both workloads are on the first, which does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fabric {
    Pair([bool; 2]),
    Single,
}

/// A fabric with what its switches remember.
struct World {
    state: State,
    compiler: Compiler,
    at: [Name; 2],
    connections: [Connections; 2],
}

impl World {
    fn new(fabric: Fabric, policies: &str) -> Self {
        let mut text = String::new();
        for n in 1..=2usize {
            let remembers = matches!(fabric, Fabric::Pair(which) if which[n - 1]);
            let driver = match remembers {
                true => format!("driver: openflow, datapathId: \"{n}\""),
                false => format!(
                    "driver: p4runtime, address: \"192.0.2.9:9559\", deviceId: {n}, underlay: {{mac: \"02:00:00:01:00:0{n}\", \
                     routes: [{{to: 0.0.0.0/0, via: [{{port: 500, mac: \"02:00:00:02:00:01\"}}]}}]}}"
                ),
            };
            let at = if fabric == Fabric::Single { 1 } else { n };
            text += &format!(
                "---\nkind: Switch\nmetadata: {{name: s{n}}}\nspec: {{{driver}, vtep: 192.0.2.{n}}}\n---\nkind: Workload\n\
                 metadata: {{name: w{n}, labels: {{n: n{n}}}}}\nspec: {{network: net, interfaces: [{{mac: \
                 \"02:00:00:00:00:0{n}\", ips: [10.0.0.{n}], attachment: {{switch: s{at}, port: w{n}}}}}]}}\n"
            );
        }
        let state = state(&format!("{text}{policies}"));
        let compiler = compile(&state);
        let at = if fabric == Fabric::Single { ["s1", "s1"] } else { ["s1", "s2"] }.map(name);
        Self { state, compiler, at, connections: Default::default() }
    }

    fn send(&mut self, said: Said) -> Journey<'_> {
        let from = said.from;
        let (compiler, [one, two]) = (&self.compiler, &mut self.connections);
        let trackers: [&mut dyn Tracker; 2] = if from == A { [one, two] } else { [two, one] };
        over_with(
            &self.state,
            &|switch| compiler.program(switch),
            [&self.at[from], &self.at[1 - from]],
            trackers,
            said.packet(),
        )
    }

    fn passes(&mut self, said: Said) -> bool {
        self.send(said).is_delivered()
    }
}

/// A policy of one of the two: whom it may ask for what, or who may ask it.
#[derive(Debug, Clone)]
struct Rule {
    of: usize,
    egress: bool,
    allow: bool,
    ports: Vec<(&'static str, u16)>,
    /// Before others.
    priority: u16,
}

fn rule() -> impl Strategy<Value = Rule> {
    let ports = vec((select(&["tcp", "udp", "sctp"][..]), select(&PORTS[..])), 0..4);
    (select(&[A, B][..]), any::<bool>(), prop::bool::weighted(0.8), ports, 0..3u16)
        .prop_map(|(of, egress, allow, ports, priority)| Rule { of, egress, allow, ports, priority })
}

fn documents(open: bool, rules: &[Rule]) -> String {
    let action = if open { "allow" } else { "deny" };
    let network = format!(
        "---\nkind: Network\nmetadata: {{name: net}}\nspec: {{vni: 5001, subnets: [10.0.0.0/24], encap: vxlan, defaultAction: {action}}}\n"
    );
    let document = |(at, rule): (usize, &Rule)| {
        let ports: Vec<String> =
            rule.ports.iter().map(|(protocol, port)| format!("{{protocol: {protocol}, port: {port}}}")).collect();
        // Of nothing in particular: pings, too.
        let ports = if ports.is_empty() { String::new() } else { format!(", ports: [{}]", ports.join(", ")) };
        let (side, peers) = if rule.egress { ("egress", "to") } else { ("ingress", "from") };
        format!(
            "---\nkind: Policy\nmetadata: {{name: p{at}}}\nspec: {{subject: {{matchLabels: {{n: n{}}}}}, priority: {}, {side}: \
             [{{action: {}, {peers}: [{{matchLabels: {{n: n{}}}}}]{ports}}}]}}\n",
            rule.of + 1,
            rule.priority,
            if rule.allow { "allow" } else { "deny" },
            2 - rule.of,
        )
    };
    std::iter::once(network).chain(rules.iter().enumerate().map(document)).collect()
}

fn said() -> impl Strategy<Value = Said> {
    let protocol = select(&[6u8, 6, 17, 17, 132, 1][..]);
    let control = select(&[SYN, SYN | ACK, ACK, RST, 0, 1][..]);
    (select(&[A, B][..]), protocol, [select(&PORTS[..]), select(&PORTS[..])], control, any::<bool>()).prop_map(
        |(from, protocol, ports, control, ask)| match protocol {
            1 => Said { from, protocol, ports: [if ask { 8 } else { 0 }, 0], control: 0 },
            17 => Said { from, protocol, ports, control: 0 },
            _ => Said { from, protocol, ports, control },
        },
    )
}

/// What the ends of a connection say, if its first packet is let in: the asker, and then each in turn.
fn conversation(asker: usize, protocol: u8, port: u16) -> Vec<Said> {
    let say = |from: usize, control: u8| {
        let ports = match (protocol, from == asker) {
            (1, true) => [8, 0],
            (1, false) => [0, 0],
            (_, true) => [40_001, port],
            (_, false) => [port, 40_001],
        };
        Said { from, protocol, ports, control }
    };
    let turns: &[u8] = match protocol {
        6 => &[SYN, SYN | ACK, ACK, ACK, ACK | 8, ACK | 1, ACK | 1, RST | ACK],
        132 => &[1, 2, 10, 11, 0, 3],
        _ => &[0; 4],
    };
    turns.iter().enumerate().map(|(at, control)| say(if at % 2 == 0 { asker } else { 1 - asker }, *control)).collect()
}

/// Pairs of switches, by whether they remember.
const PAIRS: [[bool; 2]; 3] = [[false, false], [false, true], [true, false]];

#[test]
fn no_pair_of_switches_lets_more_pass_than_one_that_remembers_nothing() {
    let counts = Cell::new([0u32; 3]);
    let input = (any::<bool>(), vec(rule(), 0..6), vec(said(), 24));
    let config = Config { failure_persistence: None, ..Config::default() };
    let cases = config.cases;
    let run = TestRunner::new(config).run(&input, |(open, rules, packets)| {
        let documents = documents(open, &rules);
        let mut single = World::new(Fabric::Single, &documents);
        let wanted: Vec<bool> = packets.iter().map(|said| single.passes(*said)).collect();
        for pair in PAIRS {
            let mut world = World::new(Fabric::Pair(pair), &documents);
            for (said, wanted) in packets.iter().zip(&wanted) {
                let found = world.send(*said);
                let passes = found.is_delivered();
                let story = || format!("{pair:?} {said:?}\n{documents}\n{found:#?}");
                prop_assert!(!passes || *wanted, "wider: {}", story());
                prop_assert!(passes || !*wanted || pair != [false; 2], "narrower: {}", story());
                let mut sum = counts.get();
                sum[usize::from(passes) + usize::from(passes && pair != [false; 2])] += 1;
                counts.set(sum);
            }
        }
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
    // Agreement about nothing proves nothing.
    assert!(counts.get().into_iter().all(|count| count >= cases), "{:?} in {cases} cases", counts.get());
}

#[test]
fn connections_live_on_every_pair_as_on_two_that_remember() {
    let passed = Cell::new(0u32);
    let input = (
        (any::<bool>(), vec(rule(), 0..6)),
        vec(said(), 0..4),
        select(&[A, B][..]),
        select(&[6u8, 17, 132, 1][..]),
        select(&PORTS[..]),
    );
    let config = Config { failure_persistence: None, ..Config::default() };
    let cases = config.cases;
    let run = TestRunner::new(config).run(&input, |((open, rules), before, asker, protocol, port)| {
        let documents = documents(open, &rules);
        let talk = conversation(asker, protocol, port);
        let mut wanted = World::new(Fabric::Pair([true; 2]), &documents);
        for said in &before {
            wanted.passes(*said);
        }
        let count = talk.iter().take_while(|said| wanted.passes(**said)).count();
        for pair in PAIRS {
            let mut world = World::new(Fabric::Pair(pair), &documents);
            for said in &before {
                world.passes(*said);
            }
            for said in talk.iter().take(count) {
                let found = world.send(*said);
                prop_assert!(found.is_delivered(), "{pair:?} {said:?}\n{documents}\n{found:#?}");
            }
        }
        passed.set(passed.get() + u32::from(count == talk.len()));
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
    assert!(passed.get() >= cases / 8, "{} of {cases} conversations", passed.get());
}

/// The asker may ask for port 80 alone, which is what both ends let it: the one that is asked may say nothing of its own.
#[test]
fn who_is_asked_opens_nothing_towards_a_switch_that_remembers() {
    let documents = documents(
        false,
        &[
            Rule { of: B, egress: true, allow: true, ports: vec![("udp", 80)], priority: 1 },
            Rule { of: A, egress: false, allow: true, ports: vec![("udp", 80)], priority: 1 },
            Rule { of: A, egress: true, allow: false, ports: vec![], priority: 1 },
            Rule { of: B, egress: false, allow: true, ports: vec![], priority: 1 },
        ],
    );
    let mut world = World::new(Fabric::Pair([false, true]), &documents);
    let answer = Said { from: A, protocol: 17, ports: [80, 40_000], control: 0 };
    let found = world.send(answer);
    assert_eq!(found.outcome(), &Outcome::Dropped(Cause::Builtin(Builtin::Invalid)), "{found:#?}");
    // What it asks for is let in, and answered.
    assert!(world.passes(Said { from: B, protocol: 17, ports: [40_000, 80], control: 0 }));
    assert!(world.passes(answer));
}
