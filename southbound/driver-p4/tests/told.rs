//! What the driver does about packets that devices send it: senders are told, lines are reported, and nothing else comes
//! of them, whatever a device says.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use bulkhead_dataplane::{
    Command, Logged, Report,
    reject::{REJECTS_PER_SECOND, Why},
};
use bulkhead_driver_p4::controller::{Refused, Told, Way};
use bulkhead_p4_target::{Forward, Idle, Software, Target, Told as FromDevice, device::State};
use bulkhead_p4runtime::{
    Info,
    entry::Key,
    proto::p4::v1::{CounterData, PacketIn, PacketMetadata, PacketOut, Update},
};
use bulkhead_pipeline::{Cause, Field, Packet, Program};
use bulkhead_topology::Port;
use common::{
    PATIENCE, Rig, delta,
    frames::{Random, mac, v4},
    state_program,
    told::info,
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::timeout};

const WORLD: &str = "
kind: Network
metadata: {name: net}
spec: {vni: 1, subnets: [10.0.0.0/24]}
---
kind: Switch
metadata: {name: leaf}
spec: {driver: p4runtime, address: \"127.0.0.1:9559\", deviceId: 1}
---
kind: Workload
metadata: {name: w1, labels: {app: a}}
spec: {network: net, interfaces: [{mac: \"02:00:00:00:00:01\", ips: [10.0.0.1], attachment: {switch: leaf, port: 1}}]}
---
kind: Workload
metadata: {name: w2, labels: {app: b}}
spec: {network: net, interfaces: [{mac: \"02:00:00:00:00:02\", ips: [10.0.0.2], attachment: {switch: leaf, port: 2}}]}
---
kind: Policy
metadata: {name: out}
spec: {subject: {matchLabels: {app: a}}, egress: [{action: allow, log: true}]}
---
kind: Policy
metadata: {name: in}
spec: {subject: {matchLabels: {app: b}}, ingress: [
  {action: reject, log: true, ports: [{protocol: tcp, port: 81}]}, {action: reject, ports: [{protocol: udp, port: 53}]},
  {action: allow, ports: [{protocol: tcp}]}]}
";

/// A frame from the first workload to the second one.
fn frame(protocol: u8, port: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame =
        [&mac(2)[..], &mac(1), &[8, 0, 0x45, 0, 0, 24 + payload.len() as u8, 0, 1, 0, 0, 64, protocol, 0, 0]].concat();
    frame.extend([&v4(1)[..], &v4(2), &[0x9c, 0x40, 0, port], payload].concat());
    frame
}

/// A TCP segment with these flags.
fn segment(port: u8, flags: u8) -> Vec<u8> {
    frame(6, port, &[0, 0, 0, 1, 0, 0, 0, 9, 0x50, flags, 1, 1, 0, 0, 0, 0])
}

#[tokio::test]
async fn senders_are_told_and_rules_write_lines() {
    let program = state_program(WORLD);
    let (software, told, mut sent) = Software::new();
    let anywhere = ([127, 0, 0, 1], 0).into();
    let target = Target::start(anywhere, 1, Box::new(software.clone()), told).await.unwrap();
    let mut rig = Rig::attach(&target.address().to_string(), 1).await;
    rig.connected().await;
    rig.read().await;
    rig.apply(delta(&Program::new(), &program), vec![]).await.unwrap();
    let line = |report: Report| match report {
        Report::Logged(logged) => *logged,
        other => panic!("{other:?}"),
    };
    let about = |logged: &Logged| {
        assert_eq!((&logged.packet.in_port, logged.packet.value(Field::Ipv4Dst)), (&Port::Number(1), 0x0a00_0002));
        (logged.packet.value(Field::L4Dst), logged.dropped, logged.missed)
    };
    // A connection's first segment is logged where it is let out, and what comes later is not.
    assert!(software.pass(1, &segment(80, 2)).is_some());
    let first = line(rig.next().await);
    assert_eq!(about(&first), (80, false, 0));
    assert!(software.pass(1, &segment(80, 16)).is_some());
    // Another one is let out, and refused where it goes to: a line each, and a reset.
    assert_eq!(software.pass(1, &segment(81, 2)), None);
    let lines = [line(rig.next().await), line(rig.next().await)];
    assert_eq!(lines.each_ref().map(about), [(81, false, 0), (81, true, 0)]);
    assert_eq!(lines[0].cause, first.cause);
    assert!(matches!(lines[1].cause, Cause::Rule(_)) && lines[1].cause != first.cause);
    let (port, reset) = timeout(PATIENCE, sent.recv()).await.unwrap().unwrap();
    let packet = Packet::parse(Port::Number(1), &reset).unwrap();
    let to = (packet.value(Field::EthDst), packet.value(Field::L4Src), packet.control);
    assert_eq!((port, to), (1, (0x0200_0000_0001, 81, 4 | 16)));
    // Who is refused without a line is told as well.
    assert_eq!(software.pass(1, &frame(17, 53, &[0, 8, 0, 0])), None);
    assert_eq!(about(&line(rig.next().await)), (53, false, 0));
    let (port, unreachable) = timeout(PATIENCE, sent.recv()).await.unwrap().unwrap();
    let packet = Packet::parse(Port::Number(1), &unreachable).unwrap();
    assert_eq!((port, packet.value(Field::IcmpType), packet.value(Field::IcmpCode)), (1, 3, 3));
    assert_eq!(software.pass(1, &frame(17, 54, &[0, 8, 0, 0])), None, "isolated, and dropped by no rule of a document");
    rig.end().await;
}

/// A device without ports; what it is sent is kept.
#[derive(Debug, Clone, Default)]
struct Liar {
    sent: Arc<Mutex<Vec<PacketOut>>>,
}

impl Forward for Liar {
    fn verify(&self, _: &Info, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn program(&mut self, _: &State, _: &[u8]) {}

    fn changed(&mut self, _: &State, _: &[Update]) {}

    fn packet_out(&mut self, packet: PacketOut) {
        self.sent.lock().unwrap().push(packet);
    }

    fn hits(&self, table: u32, key: &Key) -> CounterData {
        Idle.hits(table, key)
    }

    fn count(&self, counter: u32, index: u64) -> CounterData {
        Idle.count(counter, index)
    }
}

#[tokio::test]
async fn a19_a_device_that_lies_or_floods_is_answered_at_a_rate_and_served_on() {
    let liar = Liar::default();
    let (tell, told) = mpsc::channel(64);
    let target = Target::start(([127, 0, 0, 1], 0).into(), 1, Box::new(liar.clone()), told).await.unwrap();
    let mut rig = Rig::attach(&target.address().to_string(), 1).await;
    rig.connected().await;
    rig.read().await;
    let (info, mut random) = (info(), Random(0x5eed_5eed_5eed_5eed));
    let refused = Refused { why: Why::Refused, came: Way::Port(7), vlan: 0, asker: 2, asked: 3 };
    let truth = Told::metadata(refused.came, Some(&refused), |_| 0, &info).unwrap();
    // Nothing of this is what the program would say.
    for _ in 0..2_000 {
        let mut metadata = truth.clone();
        match random.below(4) {
            0 => drop(metadata.remove(random.below(truth.len()))),
            1 => metadata.push(metadata[random.below(truth.len())].clone()),
            // Too wide for any field, or for its own.
            2 => metadata[random.below(truth.len())].value = vec![0xff; 17],
            _ => {
                metadata =
                    vec![PacketMetadata { metadata_id: random.below(20) as u32, value: vec![7; random.below(40)] }]
            }
        }
        let payload = frame(17, 53, &[0, 8, 0, 0]);
        tell.send(FromDevice::Packet(PacketIn { payload, metadata })).await.unwrap();
    }
    // Nor is this a frame.
    for length in 0..14 {
        tell.send(FromDevice::Packet(PacketIn { payload: vec![8; length], metadata: truth.clone() })).await.unwrap();
    }
    assert_eq!(rig.ask(Command::Count).await, Report::Counters(vec![]));
    assert_eq!(*liar.sent.lock().unwrap(), []);
    let began = Instant::now();
    let flood = PacketIn { payload: frame(17, 53, &[0, 8, 0, 0]), metadata: truth };
    for _ in 0..20_000 {
        tell.send(FromDevice::Packet(flood.clone())).await.unwrap();
    }
    assert_eq!(rig.ask(Command::Count).await, Report::Counters(vec![]));
    let deadline = Instant::now() + PATIENCE / 8;
    while liar.sent.lock().unwrap().is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (sent, most) = (liar.sent.lock().unwrap().len() as u128, u128::from(REJECTS_PER_SECOND));
    let most = most + most * began.elapsed().as_millis() / 1000;
    assert!(sent > 0 && sent <= most, "{sent} answers, of at most {most}");
    rig.end().await;
}
