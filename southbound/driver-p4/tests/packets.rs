//! The P4 program against the interpreter: BMv2 does to packets what `pipeline::walk_stateless` says. Only where
//! simple_switch_grpc is on the PATH. Its ports are pipes and files, so that nobody has to be root. And the stand-in, which
//! is written around the interpreter: what comes out as a frame, and what is counted.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use bulkhead_dataplane::{Command, Report};
use bulkhead_p4_target::{Software, Target};
use bulkhead_pipeline::{
    Builtin, Cause, Field, Outcome, Packet, Program, ethertype, overlay::GATEWAY_MAC, walk_stateless,
};
use bulkhead_topology::Port;
use common::{PATIENCE, Process, Rig, delta, state_program};
use std::{
    collections::BTreeMap,
    env,
    fs::{self, File, OpenOptions},
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};
use tokio::sync::mpsc;

/// Ports: four workloads and the uplink.
const PORTS: u32 = 5;
/// Frames on each port.
const ROUNDS: usize = 4_000;
/// Frames on each port that are on their way at once: fewer than BMv2's queues hold.
const AT_ONCE: usize = 8;

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
  {action: deny, from: [{cidr: 10.0.1.0/24}], ports: [{protocol: tcp, port: 81}]},
  {action: allow, from: [{matchLabels: {app: db}}, {external: true}], ports: [{protocol: tcp, port: 80, endPort: 83}, {protocol: udp, port: 53}]},
  {action: allow, ports: [{protocol: icmp, type: 8}, {protocol: icmpv6, type: 128}, {protocol: sctp, port: 80}]}],
  egress: [{action: allow, to: [{matchLabels: {app: db}}], ports: [{protocol: udp}, {protocol: 47}]},
           {action: reject, to: [{external: true}], ports: [{protocol: udp}]}]}
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

/// Numbers that look random: Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn often(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

fn mac(n: u32) -> [u8; 6] {
    match n {
        0 => GATEWAY_MAC.0,
        5 => [6, 0, 0, 0, 0, 1],
        6 => [0xff; 6],
        n => [2, 0, 0, 0, 0, n as u8],
    }
}

fn v4(n: u32) -> [u8; 4] {
    match n {
        0 => [10, 0, 0, 254],
        5 => [198, 51, 100, 7],
        6 => [10, 0, 0, 77],
        n => [10, 0, (n / 3) as u8, n as u8],
    }
}

fn v6(n: u32) -> [u8; 16] {
    let mut address = [0; 16];
    address[0] = 0xfd;
    address[15] = match n {
        0 => 0xfe,
        5 => {
            address[..2].copy_from_slice(&[0x20, 1]);
            7
        }
        6 => 77,
        n => n as u8,
    };
    address
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

fn transport(random: &mut Random, v6: bool) -> (u8, Vec<u8>) {
    let port = |random: &mut Random| random.of(&[53u16, 80, 81, 82, 84, 22, 40_000]).to_be_bytes();
    let [src, dst] = [port(random), port(random)];
    match random.below(10) {
        0..=3 => {
            let flags = random.of(&[2u8, 2, 18, 16, 16, 17, 4, 20, 0, 1, 6]);
            (6, [&src[..], &dst, &[0; 8], &[0x50, flags, 1, 1, 0, 0, 0, 0], &[7; 3]].concat())
        }
        4..=6 => (17, [&src[..], &dst, &[0, 10, 0, 0, 7, 7]].concat()),
        7 => {
            let chunk = random.of(&[0u8, 1, 1, 2, 3]);
            (132, [&src[..], &dst, &[0; 8], &[chunk, 0, 0, 4]].concat())
        }
        8 => {
            let kinds: &[u8] = if v6 { &[128, 128, 129, 1, 3, 139] } else { &[8, 8, 0, 3, 11, 5, 13, 14, 30] };
            let kind = random.of(kinds);
            let code = if random.often(90) { 0 } else { 1 };
            (if v6 { 58 } else { 1 }, vec![kind, code, 0, 0, 0, 1, 0, 2, 9, 9, 9])
        }
        _ => (random.of(&[47u8, 50, 4]), vec![1; 9]),
    }
}

fn ipv4(random: &mut Random, frame: &mut Vec<u8>, sender: u32, to: u32) {
    let (protocol, payload) = transport(random, false);
    let options = if random.often(5) { 1 } else { 0 };
    let length = 20 + 4 * options + payload.len();
    let fragment = random.of(&[0u16, 0, 0, 0, 0, 0, 0, 0, 0, 0x4000, 0x2000, 0x0005, 0x2005]);
    let ttl = random.of(&[64u8, 64, 64, 64, 2, 1, 0]);
    frame.extend([8, 0, 0x45 + options as u8, 0]);
    frame.extend((length as u16).to_be_bytes());
    frame.extend([0, 1]);
    frame.extend(fragment.to_be_bytes());
    let mut header = frame.split_off(frame.len() - 8);
    header.extend([ttl, protocol, 0, 0]);
    header.extend([v4(sender), v4(to)].concat());
    header.extend([1u8; 4].repeat(options));
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(header);
    frame.extend(payload);
}

fn ipv6(random: &mut Random, frame: &mut Vec<u8>, sender: u32, to: u32) {
    let (mut protocol, mut payload) = transport(random, true);
    if random.often(5) {
        let word = random.of(&[0u16, 1, 8, 9]).to_be_bytes();
        payload = [&[protocol, 0, word[0], word[1], 0, 0, 0, 1], &payload[..]].concat();
        protocol = 44;
    }
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([protocol, random.of(&[64u8, 64, 64, 64, 2, 1, 0])]);
    frame.extend([v6(sender), v6(to)].concat());
    frame.extend(payload);
}

/// A neighbour's message (RFC 4861 §4.3, §4.4).
fn neighbour(random: &mut Random, frame: &mut Vec<u8>, from: [u8; 6], sender: u32, to: u32) {
    let kind = random.of(&[135u8, 135, 135, 136]);
    let mut message = vec![kind, u8::from(random.often(3)), 0, 0, 0x60, 0, 0, 0];
    message.extend(v6(to));
    if random.often(80) {
        let own = if kind == 135 { 1 } else { 2 };
        let option = if random.often(90) { own } else { random.of(&[1, 2, 14]) };
        message.extend([&[option, 1][..], &from].concat());
    }
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, message.len() as u8, 58, 255]);
    frame.extend(if random.often(90) { v6(sender) } else { [0; 16] });
    frame.extend(v6(to));
    frame.extend(message);
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A device whose ports are pipes that it reads and files that it writes.
struct Switch {
    _process: Process,
    address: String,
    folder: PathBuf,
    pipes: Vec<File>,
}

impl Switch {
    fn start(program: &Path) -> Self {
        let folder = env::temp_dir().join(format!("bulkhead-p4-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut command = std::process::Command::new(program);
        command.args(["--no-p4", "--device-id", "1", "--log-level", "off", "--use-files", "0"]);
        let inward = |port: u32| folder.join(format!("p{port}_in.pcap"));
        for port in 1..=PORTS {
            let _ = fs::remove_file(inward(port));
            assert!(std::process::Command::new("mkfifo").arg(inward(port)).status().unwrap().success());
            command.arg("-i").arg(format!("{port}@{}", folder.join(format!("p{port}")).display()));
        }
        command.args(["--", "--grpc-server-addr", &address]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process(command.spawn().unwrap());
        let pipes = (1..=PORTS).map(|port| {
            let mut pipe = OpenOptions::new().write(true).open(inward(port)).unwrap();
            let head = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1];
            pipe.write_all(&head.map(u32::to_ne_bytes).concat()).unwrap();
            pipe
        });
        let pipes = pipes.collect();
        Self { _process: process, address, folder, pipes }
    }

    /// A frame goes in; of frames of one time, that on the lowest port is first.
    fn send(&mut self, port: u32, time: usize, frame: &[u8]) {
        let length = frame.len() as u32;
        let head = [time as u32, 0, length, length].map(u32::to_ne_bytes).concat();
        self.pipes[port as usize - 1].write_all(&[&head[..], frame].concat()).unwrap();
    }

    /// What came out of a port, by the number behind each frame.
    fn sent(&self, port: u32) -> Vec<(u32, Vec<u8>)> {
        let Ok(file) = fs::read(self.folder.join(format!("p{port}_out.pcap"))) else { return Vec::new() };
        let mut rest = file.get(24..).unwrap_or_default();
        let mut frames = Vec::new();
        while let Some((head, more)) = rest.split_first_chunk::<16>() {
            let length = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]) as usize;
            let Some((frame, more)) = more.split_at_checked(length) else { break };
            let (frame, id) = frame.split_last_chunk::<4>().unwrap();
            frames.push((u32::from_be_bytes(*id), frame.to_vec()));
            rest = more;
        }
        frames
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A frame: where it went in, and what is to become of it.
type Sent = (u32, Vec<u8>, Option<(u32, Packet)>);

/// What the interpreter says: where a frame comes out, and as what.
fn expected(program: &Program, port: u32, frame: &[u8]) -> Option<(u32, Packet)> {
    let packet = Packet::parse(Port::Number(port), frame).unwrap();
    match walk_stateless(program, packet).outcome {
        Outcome::Delivered { port: Port::Number(port), packet } => Some((port, *packet)),
        Outcome::Answered(packet) => Some((port, *packet)),
        _ => None,
    }
}

/// Whether a frame is the packet that it should be.
fn is(packet: &Packet, frame: &[u8], id: Option<u32>) -> Result<(), String> {
    let found = Packet::parse(packet.in_port.clone(), frame).unwrap();
    for field in Field::ALL.into_iter().filter(|field| !field.is_metadata() && !field.is_tunnel()) {
        if matches!(field, Field::Conn | Field::Conjunction) {
            continue;
        }
        // Of the addresses in an advertisement, the option is what tells which one it is.
        if matches!(field, Field::NdSll | Field::NdTll) && packet.value(Field::NdOption) == 2 {
            let address = [Field::NdTll].map(|field| (packet.value(field), found.value(field)));
            if address.iter().any(|(wanted, found)| wanted != found) {
                return Err(format!("nd_tll: {address:x?}"));
            }
            continue;
        }
        if packet.get(field) != found.get(field) {
            return Err(format!("{}: {:x?} instead of {:x?}", field.as_str(), found.get(field), packet.get(field)));
        }
    }
    let at = if packet.value(Field::Vlan) == 0 { 14 } else { 18 };
    let ip = &frame[at..];
    match packet.value(Field::EthType) {
        ethertype::IPV4 => {
            let header = usize::from(ip[0] & 0xf) * 4;
            let rewritten = packet.in_port == Port::Number(0);
            if !rewritten && checksum(&ip[..header]) != 0 {
                return Err("IPv4's checksum".into());
            }
        }
        // The switch sums up all that there is.
        ethertype::IPV6 if packet.value(Field::IcmpType) == 136 && packet.value(Field::NdReserved) == 0x6000_0000 => {
            let length = u32::from(u16::from_be_bytes([ip[4], ip[5]])).to_be_bytes();
            let id = id.map(u32::to_be_bytes);
            let all = [&ip[8..40], &length, &[0, 0, 0, 58], &ip[40..], id.as_ref().map_or(&[], |id| &id[..])].concat();
            if id.is_some() && found.value(Field::EthSrc) != u128::from(GATEWAY_MAC.to_bits()) && checksum(&all) != 0 {
                return Err("ICMPv6's checksum".into());
            }
        }
        _ => {}
    }
    Ok(())
}

#[tokio::test]
async fn bmv2_does_what_the_interpreter_says() {
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).map(|folder| folder.join("simple_switch_grpc")).find(|it| it.is_file());
    let Some(bmv2) = found else {
        println!("NOT TESTED: simple_switch_grpc is not on the PATH");
        return;
    };
    let program = world();
    let mut switch = Switch::start(&bmv2);
    let mut rig = Rig::attach(&switch.address, 1).await;
    rig.connected().await;
    rig.read().await;
    rig.apply(delta(&Program::new(), &program), vec![]).await.unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut wanted: BTreeMap<u32, Sent> = BTreeMap::new();
    let (mut next, mut due) = (0, 0);
    let began = Instant::now();
    for round in 0..ROUNDS {
        for port in 1..=PORTS {
            next += 1;
            let frame = frame(&mut random, port, next);
            let outcome = expected(&program, port, &frame[..frame.len() - 4]);
            switch.send(port, round, &frame);
            wanted.insert(next, (port, frame, outcome));
        }
        // It takes a round once each port has a frame of the next one.
        if round % AT_ONCE == AT_ONCE - 1 {
            let taken = next - PORTS;
            due = wanted.range(..=taken).filter(|(_, (.., outcome))| outcome.is_some()).count();
            let waited = Instant::now();
            while (1..=PORTS).map(|port| switch.sent(port).len()).sum::<usize>() < due {
                if waited.elapsed() > PATIENCE / 8 {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            if waited.elapsed() > PATIENCE / 8 {
                break;
            }
        }
    }
    let taken = next - PORTS;
    let mut outputs: BTreeMap<u32, Vec<(u32, Vec<u8>)>> = BTreeMap::new();
    for port in 1..=PORTS {
        for (id, frame) in switch.sent(port) {
            outputs.entry(id).or_default().push((port, frame));
        }
    }
    let mut wrong = Vec::new();
    let mut counts = [0; 2];
    for (id, (port, frame, outcome)) in wanted.range(..=taken) {
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
    let due = due as u64;
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
    let software = Software::default();
    let (_, told) = mpsc::channel(1);
    let anywhere = ([127, 0, 0, 1], 0).into();
    let target = Target::start(anywhere, 1, Box::new(software.clone()), told).await.unwrap();
    let mut rig = Rig::attach(&target.address().to_string(), 1).await;
    rig.connected().await;
    rig.read().await;
    rig.apply(delta(&Program::new(), &program), vec![]).await.unwrap();
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
    let Report::Counters(counters) = rig.ask(Command::Count).await else { panic!() };
    let mut counted: BTreeMap<Cause, (u64, u64)> = BTreeMap::new();
    for counter in counters.iter().filter(|counter| counter.packets > 0) {
        let count = counted.entry(counter.cause).or_default();
        *count = (count.0 + counter.packets, count.1 + counter.bytes);
    }
    assert_eq!(counted, wanted);
    rig.end().await;
}
