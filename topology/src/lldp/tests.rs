//! What has to hold for links that are found.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::{
    frame::{decode, encode},
    machine::{Discovery, EVERY, HOLD_MOST, Heard, MAX_HEARD},
    *,
};
use crate::{Name, Port};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const KEY: Key = *b"nobody knows me.";
const SWITCHES: usize = 4;
const PORTS: usize = 3;

fn name(switch: usize) -> Name {
    format!("s{switch}").parse().unwrap()
}

fn end(switch: usize, port: usize) -> End {
    End { switch: name(switch), port: Port::Name(format!("p{port}").into()) }
}

/// Switches with cables between them.
struct World {
    discovery: Discovery,
    now: Duration,
    connected: [bool; SWITCHES],
    carrier: [[bool; PORTS]; SWITCHES],
    /// Which cable is plugged in where.
    cable: [[Option<usize>; PORTS]; SWITCHES],
    /// Everything that was sent.
    kept: Vec<Vec<u8>>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            discovery: Discovery::new(KEY),
            now: Duration::ZERO,
            connected: [true; SWITCHES],
            carrier: [[true; PORTS]; SWITCHES],
            cable: [[None; PORTS]; SWITCHES],
            kept: Vec::new(),
        };
        for switch in 0..SWITCHES {
            world.set(switch);
            world.discovery.connected(&name(switch), true, world.now);
        }
        world
    }

    fn set(&mut self, switch: usize) {
        let ports = (0..PORTS).map(|port| (end(switch, port).port, self.carrier[switch][port])).collect();
        self.discovery.set(&name(switch), &format!("{switch:016x}"), &ports, self.now);
    }

    /// Whether what leaves the one end comes to the other.
    fn carries(&self, from: (usize, usize), to: (usize, usize)) -> bool {
        let cable = |(switch, port): (usize, usize)| self.cable[switch][port];
        let up = |(switch, port): (usize, usize)| self.carrier[switch][port];
        from != to && cable(from).is_some() && cable(from) == cable(to) && up(from) && up(to)
    }

    fn ends() -> impl Iterator<Item = (usize, usize)> {
        (0..SWITCHES).flat_map(|switch| (0..PORTS).map(move |port| (switch, port)))
    }

    /// What is to be believed if nothing changes any more.
    fn model(&self) -> BTreeMap<Name, BTreeSet<(Port, End)>> {
        let mut model: BTreeMap<_, BTreeSet<_>> = (0..SWITCHES).map(|switch| (name(switch), BTreeSet::new())).collect();
        for at in Self::ends().filter(|at| self.connected[at.0]) {
            for from in Self::ends().filter(|from| self.connected[from.0] && self.carries(*from, at)) {
                let (at, from) = (end(at.0, at.1), end(from.0, from.1));
                model.get_mut(&at.switch).unwrap().insert((at.port, from));
            }
        }
        model
    }

    fn believed(&self) -> BTreeMap<Name, BTreeSet<(Port, End)>> {
        (0..SWITCHES).map(|switch| (name(switch), self.discovery.neighbours(&name(switch)))).collect()
    }

    /// Lets time pass and probes go their ways.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.discovery.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            for (switch, probes) in self.discovery.probes(self.now) {
                let switch = (0..SWITCHES).find(|at| name(*at) == switch).unwrap();
                assert!(self.connected[switch], "nobody who is away is asked");
                for (port, frame) in probes {
                    let port = (0..PORTS).find(|at| end(0, *at).port == port).unwrap();
                    for (at, to) in Self::ends().filter(|to| self.connected[to.0]).collect::<Vec<_>>() {
                        if self.carries((switch, port), (at, to)) {
                            assert_eq!(self.discovery.heard(&end(at, to), &frame, self.now), Heard::Probe);
                        }
                    }
                    self.kept.push(frame);
                }
            }
        }
        self.now = until;
    }
}

#[derive(Debug, Clone)]
enum Op {
    Plug(usize, usize, Option<usize>),
    Carrier(usize, usize, bool),
    Connect(usize, bool),
    Pass(u64),
    /// Something kept, changed at a byte or not, comes to a port.
    Send(prop::sample::Index, Option<(prop::sample::Index, u8)>, usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    let (switch, port) = (0..SWITCHES, 0..PORTS);
    let change = prop::option::of((any::<prop::sample::Index>(), 1..=255_u8));
    prop_oneof![
        3 => (switch.clone(), port.clone(), prop::option::weighted(0.8, 0..4_usize)).prop_map(|(s, p, c)| Op::Plug(s, p, c)),
        1 => (switch.clone(), port.clone(), any::<bool>()).prop_map(|(s, p, up)| Op::Carrier(s, p, up)),
        1 => (switch.clone(), any::<bool>()).prop_map(|(s, up)| Op::Connect(s, up)),
        3 => (1..8_000_u64).prop_map(Op::Pass),
        2 => (any::<prop::sample::Index>(), change, switch, port).prop_map(|(i, c, s, p)| Op::Send(i, c, s, p)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn in_the_end_exactly_the_cables_are_believed(ops in prop::collection::vec(op(), 1..40)) {
        let mut world = World::new();
        for op in ops {
            match op {
                Op::Plug(switch, port, cable) => world.cable[switch][port] = cable,
                Op::Carrier(switch, port, up) => {
                    world.carrier[switch][port] = up;
                    world.set(switch);
                    if !up {
                        let at = end(switch, port);
                        prop_assert!(world.believed().values().flatten().all(|(_, from)| *from != at), "down at once");
                    }
                }
                Op::Connect(switch, up) => {
                    world.connected[switch] = up;
                    let before = world.believed();
                    world.discovery.connected(&name(switch), up, world.now);
                    prop_assert_eq!(before, world.believed(), "whoever is away goes on");
                }
                Op::Pass(time) => world.pass(Duration::from_millis(time)),
                Op::Send(which, change, switch, port) if !world.kept.is_empty() => {
                    let mut frame = which.get(&world.kept).clone();
                    let before = world.believed();
                    if let Some((at, bits)) = change {
                        // What comes after the digest is only the end.
                        let at = at.index(frame.len() - 2);
                        frame[at] ^= bits;
                        let heard = world.discovery.heard(&end(switch, port), &frame, world.now);
                        prop_assert!(matches!(heard, Heard::Foreign | Heard::Unasked), "{:?}", heard);
                        prop_assert_eq!(before, world.believed());
                    } else if world.kept.len() > 64 {
                        // The last ones may still be on their way.
                        let frame = world.kept[which.index(world.kept.len() - 60)].clone();
                        let heard = world.discovery.heard(&end(switch, port), &frame, world.now);
                        prop_assert!(heard != Heard::Foreign);
                    }
                }
                Op::Send(..) => {}
            }
        }
        // Everybody comes back, so that all can be seen.
        for switch in 0..SWITCHES {
            world.connected[switch] = true;
            world.discovery.connected(&name(switch), true, world.now);
        }
        world.pass(HOLD_MOST + 4 * EVERY);
        let model = world.model();
        // A cable of more ends than are kept apart is no cable; which of its ends are named is left open.
        let crowded = (0..4).any(|cable| {
            World::ends().filter(|end| world.cable[end.0][end.1] == Some(cable)).count() > MAX_HEARD
        });
        if !crowded {
            prop_assert_eq!(world.believed(), model.clone());
        }
        for (switch, believed) in world.believed() {
            prop_assert!(believed.is_subset(&model[&switch]));
        }
        // Nothing goes on growing.
        prop_assert!(world.discovery.deadline().is_none_or(|due| due <= world.now + EVERY));
    }

    #[test]
    fn a_frame_says_what_it_was_made_to_say(chassis in ".{0,80}", port in ".{0,80}", number: u64, pad in 0..60_usize) {
        let mut frame = encode(&KEY, &chassis, &port, number);
        prop_assert!(frame.len() <= 152);
        // Ethernet fills short frames up.
        frame.extend(std::iter::repeat_n(0, pad));
        prop_assert_eq!(decode(&KEY, &frame).unwrap().probe, Some(number));
        prop_assert_eq!(decode(&[1; 16], &frame).unwrap().probe, None);
        for end in 0..frame.len() - pad {
            prop_assert!(decode(&KEY, &frame[..end]).is_err());
        }
    }

    #[test]
    fn a13_any_bytes_are_foreign(bytes in prop::collection::vec(any::<u8>(), 0..300), lldp: bool) {
        let mut frame = encode(&KEY, "1", "p", 1);
        frame.truncate(14);
        let frame = if lldp { [frame, bytes].concat() } else { bytes };
        let mut world = World::new();
        world.pass(Duration::from_millis(1));
        prop_assert_eq!(world.discovery.heard(&end(0, 0), &frame, world.now), Heard::Foreign);
        let view = &world.discovery.ports(&name(0))[&end(0, 0).port];
        prop_assert_eq!((view.foreign, view.stranger.len() <= 203, view.hears.len()), (1, true, 0));
    }
}

/// Two switches with one cable between their first ports, found.
fn pair() -> World {
    let mut world = World::new();
    (world.cable[0][0], world.cable[1][0]) = (Some(0), Some(0));
    world.pass(Duration::from_millis(1));
    assert_eq!(world.believed(), world.model());
    world
}

#[test]
fn a_new_cable_is_found_by_the_first_probes() {
    let mut world = pair();
    assert_eq!(world.discovery.take_changed(), BTreeSet::from([name(0), name(1)]));
    assert!(world.discovery.take_changed().is_empty());
    world.pass(10 * EVERY);
    assert!(world.discovery.take_changed().is_empty(), "what is heard again is no news");
}

#[test]
fn a_silent_cable_is_down_after_three_probes_time_and_not_before() {
    let mut world = pair();
    world.cable[1][0] = None;
    world.pass(3 * EVERY - Duration::from_millis(2));
    assert_eq!(world.believed().values().flatten().count(), 2);
    world.pass(EVERY);
    assert_eq!(world.believed().values().flatten().count(), 0);
}

#[test]
fn a_carrier_that_goes_takes_the_link_down_at_once_and_what_comes_and_goes_waits_longer_each_time() {
    let mut world = pair();
    let mut waited = Vec::new();
    for _ in 0..8 {
        world.carrier[0][0] = false;
        world.set(0);
        assert_eq!(world.believed().values().flatten().count(), 0);
        world.carrier[0][0] = true;
        world.set(0);
        let down = world.now;
        while world.believed() != world.model() {
            world.pass(EVERY / 4);
        }
        waited.push((world.now - down).as_secs());
    }
    assert!(waited[0] <= 3 && waited.is_sorted() && waited[7] >= HOLD_MOST.as_secs(), "{waited:?}");
    assert!(waited[7] <= HOLD_MOST.as_secs() + 2, "{waited:?}");
}

#[test]
fn a12_a_frame_that_was_kept_is_old_and_one_of_another_controller_foreign() {
    let mut world = pair();
    let kept = world.kept.clone();
    world.pass(5 * EVERY);
    for frame in &kept {
        assert_eq!(world.discovery.heard(&end(2, 0), frame, world.now), Heard::Old);
    }
    let other = encode(&[7; 16], "0000000000000001", "p0", 1);
    assert_eq!(world.discovery.heard(&end(2, 0), &other, world.now), Heard::Foreign);
    let view = &world.discovery.ports(&name(2))[&end(2, 0).port];
    assert_eq!(view.stranger, "0000000000000001 port p0");
    assert_eq!(view.foreign, 1 + kept.len() as u64);
    assert_eq!(world.discovery.neighbours(&name(2)), BTreeSet::new());
}

#[test]
fn a12_nothing_is_believed_where_nobody_probes() {
    let mut world = pair();
    let frame = world.kept.last().unwrap().clone();
    let nowhere = End { switch: name(0), port: Port::Number(9) };
    assert_eq!(world.discovery.heard(&nowhere, &frame, world.now), Heard::Unasked);
    world.discovery.remove(&name(1), world.now);
    assert_eq!(world.discovery.heard(&end(1, 0), &frame, world.now), Heard::Unasked);
    assert_eq!(world.discovery.neighbours(&name(0)), BTreeSet::new(), "gone with the switch");
}

#[test]
fn a_cable_back_to_the_same_switch_and_one_of_three_ends_are_seen_as_what_they_are() {
    let mut world = World::new();
    (world.cable[0][0], world.cable[0][1]) = (Some(0), Some(0));
    (world.cable[1][0], world.cable[2][0], world.cable[3][0]) = (Some(1), Some(1), Some(1));
    world.pass(EVERY);
    let hears = |at: &World, switch, port| at.discovery.ports(&name(switch))[&end(switch, port).port].hears.clone();
    assert_eq!(hears(&world, 0, 0), BTreeMap::from([(end(0, 1), true)]));
    assert_eq!(hears(&world, 1, 0), BTreeMap::from([(end(2, 0), true), (end(3, 0), true)]));
}

#[test]
fn what_was_known_before_holds_until_the_switches_say_otherwise() {
    let mut world = World::new();
    for switch in 0..SWITCHES {
        world.discovery.connected(&name(switch), false, world.now);
        world.connected[switch] = false;
    }
    (world.cable[0][0], world.cable[1][0]) = (Some(0), Some(0));
    for (at, from) in [(0, 1), (1, 0), (2, 3)] {
        world.discovery.believe(&end(at, 0), &end(from, 0), world.now);
    }
    world.pass(60 * EVERY);
    assert_eq!(world.believed().values().flatten().count(), 3);
    for switch in 0..SWITCHES {
        world.discovery.connected(&name(switch), true, world.now);
        world.connected[switch] = true;
    }
    world.pass(2 * EVERY);
    assert_eq!(world.believed().values().flatten().count(), 3);
    world.pass(2 * EVERY);
    assert_eq!(world.believed(), world.model());
}

#[test]
fn a_controller_that_was_busy_takes_no_link_down() {
    let mut world = pair();
    for _ in 0..5 {
        // Probes are sent late, and what they say is looked at after the next is due.
        world.now += 10 * EVERY;
        let sent = world.discovery.probes(world.now);
        assert_eq!(sent.len(), SWITCHES);
        let frame = |switch: usize| &sent[&name(switch)].iter().find(|(port, _)| *port == end(0, 0).port).unwrap().1;
        world.discovery.heard(&end(1, 0), frame(0), world.now);
        world.discovery.heard(&end(0, 0), frame(1), world.now);
        assert_eq!(world.believed(), world.model());
    }
}

#[test]
fn many_ports_are_spread() {
    let mut discovery = Discovery::new(KEY);
    for switch in 0..100 {
        let ports = (0..48).map(|port| (Port::Number(port), true)).collect();
        discovery.set(&name(switch), "", &ports, Duration::ZERO);
        discovery.connected(&name(switch), true, Duration::ZERO);
    }
    let (mut now, mut sent, mut most) = (Duration::ZERO, 0, 0);
    while now < EVERY {
        let some: usize = discovery.probes(now).values().map(Vec::len).sum();
        (sent, most) = (sent + some, most.max(some));
        now = discovery.deadline().unwrap();
    }
    assert_eq!((sent, most), (4_800, 1_000));
}

#[test]
fn a_probe_is_these_bytes() {
    // Told by another implementation of the digest.
    let known = "0180c200000e02424800000188cc02110730303030303030303030303030303031040207310602\
                 0004fe1c424844010000000000000001";
    let frame = encode(b"only for fuzzing", "0000000000000001", "1", 1);
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(hex.starts_with(known), "{hex}");
    assert_eq!(hex.strip_prefix(known).unwrap(), "7f3a067eb09d3dc6ff3b5ddd338dccd40000");
}

#[test]
fn a_fat_tree_of_a_thousand_switches_is_found_by_its_first_probes() {
    // 28 pods of 14 edge and 14 aggregation switches, 196 cores: 980 switches, 21,952 ports with a cable.
    const K: usize = 28;
    let at = |switch: String, port: usize| End { switch: switch.parse().unwrap(), port: Port::Number(port as u32) };
    let mut cables: BTreeMap<End, End> = BTreeMap::new();
    let mut plug = |a: End, b: End| {
        cables.insert(a.clone(), b.clone());
        cables.insert(b, a);
    };
    for pod in 0..K {
        for (up, low) in (0..K / 2).flat_map(|up| (0..K / 2).map(move |low| (up, low))) {
            plug(at(format!("agg-{pod}-{up}"), low), at(format!("edge-{pod}-{low}"), K / 2 + up));
            plug(at(format!("agg-{pod}-{up}"), K / 2 + low), at(format!("core-{up}-{low}"), pod));
        }
    }
    let mut ports: BTreeMap<Name, BTreeMap<Port, bool>> = BTreeMap::new();
    for end in cables.keys() {
        ports.entry(end.switch.clone()).or_default().insert(end.port.clone(), true);
    }
    assert_eq!(ports.len(), 980);
    let mut discovery = Discovery::new(KEY);
    for (switch, ports) in &ports {
        discovery.set(switch, "0000000000000001", ports, Duration::ZERO);
        discovery.connected(switch, true, Duration::ZERO);
    }
    let (mut now, mut heard) = (Duration::ZERO, 0);
    while heard < cables.len() {
        for (switch, probes) in discovery.probes(now) {
            for (port, frame) in probes {
                let to = &cables[&End { switch: switch.clone(), port }];
                assert_eq!(discovery.heard(to, &frame, now), Heard::Probe);
                heard += 1;
            }
        }
        now = discovery.deadline().unwrap();
    }
    // What its pace allows, and nothing is asked twice.
    assert!(now <= EVERY + EVERY / 4, "{now:?}");
    let found: usize = ports.keys().map(|switch| discovery.neighbours(switch).len()).sum();
    assert_eq!(found, cables.len());
    assert_eq!(discovery.take_changed().len(), ports.len());
}

/// A switch with many ports is asked once a second and not once for each port.
#[test]
fn the_ports_of_a_switch_are_probed_together_whenever_they_came() {
    let mut discovery = Discovery::new(KEY);
    discovery.set(&name(0), "0", &BTreeMap::new(), Duration::ZERO);
    discovery.connected(&name(0), true, Duration::ZERO);
    let (mut now, mut ports) = (Duration::ZERO, BTreeMap::new());
    for port in 0..48 {
        now += Duration::from_millis(37);
        ports.insert(end(0, port).port, true);
        discovery.set(&name(0), "0", &ports, now);
        assert!(discovery.probes(now).values().any(|probes| probes.iter().any(|(at, _)| *at == end(0, port).port)));
    }
    now += EVERY;
    discovery.probes(now);
    for round in 1..4 {
        let due = discovery.deadline().unwrap();
        assert!(due <= now + EVERY * round && due.as_nanos().is_multiple_of(EVERY.as_nanos()), "{due:?}");
        assert_eq!(discovery.probes(due)[&name(0)].len(), 48);
    }
}
