//! The P4 program against the interpreter: BMv2 does to packets what `pipeline::walk_stateless` says. Only where
//! simple_switch_grpc is on the PATH. And the stand-in, which is written around the interpreter: what comes out as a frame,
//! and what is counted.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use bulkhead_dataplane::{Command, Report};
use bulkhead_driver_p4::controller::{Told, Way};
use bulkhead_p4_target::{Software, Target};
use bulkhead_pipeline::{Builtin, Cause, Outcome, Packet, Program, walk_stateless};
use bulkhead_topology::Port;
use common::{
    Rig,
    bmv2::Switch,
    delta,
    frames::{Random, ipv4, ipv6, is, mac, neighbour, v4},
    state_program,
    told::{self, All, Listener, compare},
};
use std::{collections::BTreeMap, time::Instant};

/// Ports: four workloads and the uplink.
const PORTS: u32 = 5;
/// Frames on each port.
const ROUNDS: usize = 4_000;

const WORLD: &str = "
kind: Network
metadata: {name: net}
spec: {vni: 1, subnets: [10.0.0.0/24, 10.0.1.0/24, \"fd00::/64\"], gateways: [10.0.0.254, 10.0.1.254, \"fd00::fe\"],
       uplinks: [{switch: leaf, port: 5, vlan: 9}]}
---
kind: Switch
metadata: {name: leaf}
spec: {driver: p4runtime, address: \"127.0.0.1:9559\", deviceId: 1}
---
kind: Policy
metadata: {name: web}
spec: {subject: {matchLabels: {app: web}}, ingress: [
  {action: deny, log: true, from: [{cidr: 10.0.1.0/24}], ports: [{protocol: tcp, port: 81}]},
  {action: allow, log: true, from: [{matchLabels: {app: db}}, {external: true}], ports: [{protocol: tcp, port: 80, endPort: 83}, {protocol: udp, port: 53}]},
  {action: allow, ports: [{protocol: icmp, type: 8}, {protocol: icmpv6, type: 128}, {protocol: sctp, port: 80}]}],
  egress: [{action: allow, to: [{matchLabels: {app: db}}], ports: [{protocol: udp}, {protocol: 47}]},
           {action: reject, log: true, to: [{external: true}], ports: [{protocol: udp}]}]}
---
kind: Policy
metadata: {name: trial}
spec: {stage: staged, subject: {matchLabels: {app: db}}, egress: [{action: deny, log: true, ports: [{protocol: tcp, port: 80}, {protocol: udp}]}],
  ingress: [{action: deny, log: true}]}
---
kind: Policy
metadata: {name: db}
spec: {subject: {matchLabels: {app: db}}, isolate: [ingress], ingress: [{action: allow, ports: [{protocol: 47}]}]}
---
kind: Policy
metadata: {name: all}
spec: {tier: baseline, subject: {matchLabels: {}}, egress: [{action: allow, to: [{matchLabels: {}}]}]}
";

fn world() -> Program {
    let mut documents = WORLD.to_owned();
    for n in 1..=4 {
        let app = if n % 2 == 0 { "web" } else { "db" };
        let subnet = n / 3;
        documents += &format!(
            "---\nkind: Workload\nmetadata: {{name: w{n}, labels: {{app: {app}}}}}\nspec: {{network: net, interfaces: [{{mac: \
             \"02:00:00:00:00:0{n}\", ips: [10.0.{subnet}.{n}, \"fd00::{n}\"], attachment: {{switch: leaf, port: {n}}}}}]}}\n"
        );
    }
    state_program(&documents)
}

/// A frame that goes in by a port, mostly as who is there would send it.
fn frame(random: &mut Random, port: u32, id: u32) -> Vec<u8> {
    let sender = if random.often(95) { port } else { random.below(6) as u32 };
    let to = random.below(7) as u32;
    let from_mac = if random.often(97) { mac(port) } else { mac(random.below(6) as u32) };
    let to_mac = if random.often(15) { mac(0) } else { mac(to) };
    let mut frame = [to_mac, from_mac].concat();
    let tagged = if port == 5 { random.often(90) } else { random.often(3) };
    if tagged {
        frame.extend([0x81, 0]);
        frame.extend(if random.often(95) { [0, 9] } else { [0, 10] });
    }
    match random.below(20) {
        0 | 1 => {
            frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, random.of(&[1, 1, 1, 2, 3])]);
            frame.extend([&from_mac[..], &v4(sender), &[0; 6], &v4(to)].concat());
        }
        2 => frame.extend([0x88, 0xb5, 1, 2, 3, 4]),
        3 | 4 => neighbour(random, &mut frame, from_mac, sender, to),
        other if other % 2 == 0 => ipv4(random, &mut frame, sender, to),
        _ => ipv6(random, &mut frame, sender, to),
    }
    // Behind all that headers tell the length of.
    frame.extend(id.to_be_bytes());
    frame
}

/// What the interpreter says: where a frame comes out, and as what.
fn expected(program: &Program, port: u32, frame: &[u8]) -> Option<(u32, Packet)> {
    let packet = Packet::parse(Port::Number(port), frame).unwrap();
    match walk_stateless(program, packet).outcome {
        Outcome::Delivered { port: Port::Number(port), packet } => Some((port, *packet)),
        Outcome::Answered(packet) => Some((port, *packet)),
        _ => None,
    }
}

/// What it says that the device tells.
fn tells(program: &Program, port: u32, frame: &[u8]) -> Option<(Told, Packet)> {
    let packet = Packet::parse(Port::Number(port), frame).unwrap();
    told::told(&walk_stateless(program, packet), Way::Port(port))
}

#[tokio::test]
async fn bmv2_does_what_the_interpreter_says() {
    let program = world();
    let Some(mut switch) = Switch::start(PORTS) else { return };
    let mut rig = Rig::attach(&switch.address, 1).await;
    rig.connected().await;
    rig.read().await;
    rig.apply(delta(&Program::new(), &program), vec![]).await.unwrap();
    // Its answers would come out too.
    rig.end().await;
    let listener = Listener::attach(&switch.address).await;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let began = Instant::now();
    let mut frames = BTreeMap::new();
    let mut outcomes = BTreeMap::new();
    let mut told = All::new();
    for id in 1..=ROUNDS as u32 * PORTS {
        let port = (id - 1) % PORTS + 1;
        let frame = frame(&mut random, port, id);
        outcomes.insert(id, expected(&program, port, &frame[..frame.len() - 4]));
        told.extend(tells(&program, port, &frame[..frame.len() - 4]).map(|tells| (id, tells)));
        frames.insert(id, (port, frame));
    }
    let passes: Vec<u32> = outcomes.iter().filter(|(_, outcome)| outcome.is_some()).map(|(id, _)| *id).collect();
    let due = |taken: u32| passes.partition_point(|id| *id <= taken);
    let (taken, outputs) = switch.exchange(&frames, due).await;
    let mut wrong = Vec::new();
    let mut counts = [0; 2];
    for (id, (port, frame)) in frames.range(..=taken) {
        let outcome = &outcomes[id];
        let found = outputs.get(id).map_or(&[][..], |found| found);
        let story = match (outcome, found) {
            (None, []) => {
                counts[0] += 1;
                continue;
            }
            (Some((to, packet)), [(out, frame)]) if to == out => match is(packet, frame, Some(*id)) {
                Ok(()) => {
                    counts[1] += 1;
                    continue;
                }
                Err(why) => why,
            },
            (Some((to, _)), found) => {
                format!("not at {to}, but at {:?}", found.iter().map(|f| f.0).collect::<Vec<_>>())
            }
            (None, found) => format!("at {:?}", found.iter().map(|f| f.0).collect::<Vec<_>>()),
        };
        let packet = Packet::parse(Port::Number(*port), &frame[..frame.len() - 4]).unwrap();
        let walk = walk_stateless(&program, packet);
        let way: Vec<_> = walk.steps.iter().map(|step| (step.stage, step.entry.map(|entry| entry.cause))).collect();
        wrong.push(format!("{id} at {port}: {story}\n  {frame:02x?}\n  {way:?}"));
    }
    println!("{} dropped, {} passed, alike, in {:?}", counts[0], counts[1], began.elapsed());
    assert!(
        wrong.is_empty(),
        "{} of {taken} differ; of the first ones:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
    assert!(counts[0] > ROUNDS / 2 && counts[1] > ROUNDS / 2, "{counts:?} say too little");
    let many = compare(&told, &listener.heard(told.range(..=taken).count()).await, taken);
    println!("{many:?} to be told, logged, alike");
    assert!(many.iter().all(|many| *many > ROUNDS / 10), "{many:?} say too little");
    drop(listener);
    let due = due(taken) as u64;
    let mut rig = Rig::attach(&switch.address, 1).await;
    rig.connected().await;
    assert_eq!(rig.read().await, (program, 0));
    let Report::Counters(counters) = rig.ask(Command::Count).await else { panic!() };
    let out: u64 = counters
        .iter()
        .filter(|counter| matches!(counter.cause, Cause::Builtin(Builtin::Deliver)))
        .map(|c| c.packets)
        .sum();
    assert!(0 < out && out <= due, "{out} of {due}");
    rig.end().await;
}

#[tokio::test]
async fn the_stand_in_does_what_the_interpreter_says() {
    let program = world();
    let (software, tells_all, _sent) = Software::new();
    let anywhere = ([127, 0, 0, 1], 0).into();
    let target = Target::start(anywhere, 1, Box::new(software.clone()), tells_all).await.unwrap();
    let mut rig = Rig::attach(&target.address().to_string(), 1).await;
    rig.connected().await;
    rig.read().await;
    rig.apply(delta(&Program::new(), &program), vec![]).await.unwrap();
    let listener = Listener::attach(&target.address().to_string()).await;
    let mut told = All::new();
    let mut random = Random(0x0dd0_5eed_0dd0_5eed);
    let mut wanted: BTreeMap<Cause, (u64, u64)> = BTreeMap::new();
    let mut passed = 0;
    for id in 0..ROUNDS as u32 {
        let port = 1 + id % PORTS;
        let frame = frame(&mut random, port, id);
        let walk = walk_stateless(&program, Packet::parse(Port::Number(port), &frame).unwrap());
        for met in walk.steps.iter().filter_map(|step| step.entry) {
            let count = wanted.entry(met.cause).or_default();
            *count = (count.0 + 1, count.1 + frame.len() as u64);
        }
        let found = software.pass(port, &frame);
        if let Some(tells) = tells(&program, port, &frame) {
            told.insert(id, tells);
            // No more wait than there is room for.
            listener.heard(told.len()).await;
        }
        match (expected(&program, port, &frame), found) {
            (None, None) => {}
            (Some((to, packet)), Some((out, found))) if to == out => {
                is(&packet, &found, None).unwrap_or_else(|why| panic!("{frame:02x?} {found:02x?}: {why}"));
                assert_eq!(found[found.len() - 4..], frame[frame.len() - 4..], "{frame:02x?} {found:02x?}");
                passed += 1;
            }
            (wanted, found) => panic!("{wanted:02x?}, and not {found:02x?}"),
        }
    }
    assert!(passed > ROUNDS / 10, "{passed} say too little");
    let many = compare(&told, &listener.heard(told.len()).await, u32::MAX);
    assert!(many.iter().all(|many| *many > ROUNDS / 50), "{many:?} say too little");
    drop(listener);
    rig.connected().await;
    let Report::Counters(counters) = rig.ask(Command::Count).await else { panic!() };
    let mut counted: BTreeMap<Cause, (u64, u64)> = BTreeMap::new();
    for counter in counters.iter().filter(|counter| counter.packets > 0) {
        let count = counted.entry(counter.cause).or_default();
        *count = (count.0 + counter.packets, count.1 + counter.bytes);
    }
    assert_eq!(counted, wanted);
    rig.end().await;
}
