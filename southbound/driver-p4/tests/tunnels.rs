//! Tunnels of P4 switches: the stand-in, and BMv2 where simple_switch_grpc is on the PATH, put headers on and take them off
//! as `pipeline::wire` says, and do to what is inside what the interpreter says.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use bulkhead_dataplane::{Command, Report};
use bulkhead_driver_p4::controller::{Told, Way};
use bulkhead_p4_target::{Software, Target};
use bulkhead_pipeline::{
    Builtin, Cause, Field, Outcome, Packet, Program, Stage,
    overlay::{EITHER_MAC, MAY_REPLY_MAC, REPLY_MAC, Tunnel},
    walk_stateless,
    wire::{Header, Received, Vtep, flow, receive},
};
use bulkhead_topology::{
    Mac, Port,
    underlay::{Hop, Route, Underlay},
};
use common::{
    PATIENCE, Rig,
    bmv2::Switch,
    delta,
    frames::{Random, checksum, ipv4, ipv6, is, mac, v4},
    state_program,
    told::{self, All, Listener},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Ports: two workloads, two into the underlay, and one out of the fabric, or to nobody.
const PORTS: u32 = 5;
/// Frames on each port.
const ROUNDS: u32 = 1_500;
/// What the underlay carries.
const MTU: u16 = 600;
const HERE: Mac = Mac([2, 0, 0, 1, 0, 1]);

/// Another VTEP.
fn vtep(v6: bool, last: u8) -> IpAddr {
    if v6 { format!("2001:db8::{last:x}").parse().unwrap() } else { IpAddr::from([192, 0, 2, last]) }
}

fn hop(port: u32) -> Hop {
    Hop { port, mac: Mac([2, 0, 0, 2, 0, port as u8]) }
}

/// By both ports to everybody, by the second one alone to the switch of workload 4.
fn underlay(v6: bool) -> Underlay {
    let route =
        |to: String, ports: &[u32]| Route { to: to.parse().unwrap(), via: ports.iter().copied().map(hop).collect() };
    let (any, far) =
        if v6 { ("::/0", vtep(v6, 3).to_string() + "/128") } else { ("0.0.0.0/0", vtep(v6, 3).to_string() + "/32") };
    Underlay {
        vtep: vtep(v6, 1),
        mac: HERE,
        mtu: Some(MTU),
        routes: vec![route(any.into(), &[3, 4]), route(far, &[4])],
    }
}

/// Workloads 1 and 2 here, 3 on a hypervisor, 4 on another P4 switch; with Geneve the uplink is on the hypervisor, with VXLAN
/// here.
fn world(v6: bool, encap: &str) -> Program {
    let uplink = if encap == "geneve" { "hv, port: up" } else { "leaf, port: 5" };
    let mut documents = format!(
        "
kind: Network
metadata: {{name: net}}
spec: {{vni: 5001, encap: {encap}, subnets: [10.0.0.0/24, 10.0.1.0/24, \"fd00::/64\"], gateways: [10.0.0.254, 10.0.1.254, \"fd00::fe\"],
       uplinks: [{{switch: {uplink}, vlan: 9}}]}}
---
kind: Switch
metadata: {{name: hv}}
spec: {{driver: openflow, datapathId: \"0x1\", vtep: \"{}\"}}
---
kind: Policy
metadata: {{name: web}}
spec: {{subject: {{matchLabels: {{app: web}}}}, ingress: [
  {{action: reject, ports: [{{protocol: tcp, port: 81}}, {{protocol: udp, port: 80}}]}},
  {{action: allow, log: true, from: [{{matchLabels: {{app: db}}}}, {{external: true}}], ports: [{{protocol: tcp, port: 80, endPort: 83}}, {{protocol: udp, port: 53}}]}},
  {{action: allow, ports: [{{protocol: icmp, type: 8}}, {{protocol: icmpv6, type: 128}}, {{protocol: sctp, port: 80}}]}}]}}
---
kind: Policy
metadata: {{name: all}}
spec: {{tier: baseline, subject: {{matchLabels: {{}}}}, egress: [{{action: allow, log: true}}], ingress: [{{action: allow, log: true, ports: [{{protocol: udp}}, {{protocol: tcp, port: 22}}]}}]}}
",
        vtep(v6, 2)
    );
    for (name, last) in [("leaf", 1u8), ("leaf2", 3)] {
        let to = if v6 { "::/0" } else { "0.0.0.0/0" };
        documents += &format!(
            "---\nkind: Switch\nmetadata: {{name: {name}}}\nspec: {{driver: p4runtime, address: \"127.0.0.1:9559\", deviceId: {last}, \
             vtep: \"{}\", underlay: {{mac: \"{HERE}\", mtu: {MTU}, routes: [{{to: \"{to}\", via: [{{port: 3, mac: 02:00:00:02:00:03}}]}}]}}}}\n",
            vtep(v6, last)
        );
    }
    for (n, at) in [(1, "leaf, port: 1"), (2, "leaf, port: 2"), (3, "hv, port: w3"), (4, "leaf2, port: 1")] {
        let app = if n % 2 == 0 { "web" } else { "db" };
        let subnet = n / 3;
        documents += &format!(
            "---\nkind: Workload\nmetadata: {{name: w{n}, labels: {{app: {app}}}}}\nspec: {{network: net, interfaces: [{{mac: \
             \"02:00:00:00:00:0{n}\", ips: [10.0.{subnet}.{n}, \"fd00::{n}\"], attachment: {{switch: {at}}}}}]}}\n"
        );
    }
    state_program(&documents)
}

/// What a tunnel's packet has to say of its sender to be believed, as the program's rows have it: by workload.
type Known = BTreeMap<u32, (Tunnel, u32)>;

/// How each of the far workloads comes, by whom.
fn known(program: &Program, v6: bool) -> Known {
    let mut known = Known::new();
    for entry in program.iter() {
        let m = &entry.key.matches;
        let tunnel = m.in_port.as_ref().and_then(Tunnel::of);
        let identity = [Field::TunIdentity, Field::TunGbp].into_iter().find_map(|field| m.exact(field));
        let Some(sender) =
            [3, 4].into_iter().find(|n| m.exact(Field::Ipv4Src) == Some(u32::from_be_bytes(v4(*n)).into()))
        else {
            continue;
        };
        if let Some(tunnel) = tunnel {
            known.insert(sender, (tunnel, identity.unwrap_or(0) as u32));
        }
    }
    assert_eq!(known.len(), 2, "of IPv6: {v6}");
    known
}

/// A frame of a workload, or of who says to be one.
fn inner(random: &mut Random, sender: u32, id: u32) -> Vec<u8> {
    let to = if random.often(70) { (sender + random.of(&[1, 2])) % 4 + 1 } else { random.below(7) as u32 };
    let to_mac = match random.below(10) {
        // What a switch says of its packets.
        0..=2 => random.of(&[REPLY_MAC.0, MAY_REPLY_MAC.0, EITHER_MAC.0]),
        3 | 4 => mac(0),
        _ => mac(to),
    };
    let mut frame = [to_mac, mac(sender)].concat();
    match random.below(20) {
        0 => {
            frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, random.of(&[1, 1, 2])]);
            frame.extend([&mac(sender)[..], &v4(sender), &[0; 6], &v4(to)].concat());
        }
        1 => frame.extend([0x88, 0xb5, 1, 2, 3, 4]),
        other if other % 2 == 0 => ipv4(random, &mut frame, sender, to),
        _ => ipv6(random, &mut frame, sender, to),
    }
    // A packet of IPv6 that says to be longer than it is, number and all.
    if frame[12..14] == [0x86, 0xdd] && random.often(8) {
        frame[19] = frame[19].saturating_add(random.of(&[5, 8]));
    }
    // What is behind all that headers tell the length of goes with it: up to what fits, and beyond.
    if random.often(10) {
        let most = usize::from(MTU) - 50;
        frame.resize(most - 30 + random.below(50), 0xaa);
    }
    frame.extend(id.to_be_bytes());
    frame
}

/// What somebody in the underlay sends: mostly what a switch there would. Written here once more, apart from what it is
/// held against.
fn outer(random: &mut Random, v6: bool, known: &Known, inside: Vec<u8>, sender: u32) -> Vec<u8> {
    let (tunnel, identity) = known.get(&sender).copied().unwrap_or((Tunnel::Vxlan, 1));
    let tunnel = if random.often(97) { tunnel } else { random.of(&[Tunnel::Geneve, Tunnel::Vxlan]) };
    let identity = if random.often(95) { identity } else { random.of(&[0, 1, 2, 3, 0x1_0000 | identity]) };
    let vni = if random.often(97) { 5001u32 } else { random.of(&[0, 1, 5002]) };
    let [_, a, b, c] = vni.to_be_bytes();
    let id = identity.to_be_bytes();
    let header = match tunnel {
        Tunnel::Vxlan if identity == 0 => vec![8, 0, 0, 0, a, b, c, 0],
        Tunnel::Vxlan => vec![0x88, 0, id[2], id[3], a, b, c, 0],
        Tunnel::Geneve if identity == 0 => vec![0, 0, 0x65, 0x58, a, b, c, 0],
        Tunnel::Geneve => [&[2, 0, 0x65, 0x58, a, b, c, 0, 0xff, 0xb0, 1, 1][..], &id].concat(),
    };
    let from = if random.often(96) { if sender == 4 { 3 } else { 2 } } else { random.of(&[1, 2, 3, 9]) };
    let length = (8 + header.len() + inside.len()) as u16;
    let mut packet = [&HERE.0[..], &[2, 0, 0, 2, 0, 3]].concat();
    match (vtep(v6, from), vtep(v6, 1)) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let total = (20 + length).to_be_bytes();
            let mut ip =
                [&[0x45, 0][..], &total, &[0, 0, 0x40, 0, 61, 17, 0, 0], &src.octets(), &dst.octets()].concat();
            let sum = checksum(&ip).to_be_bytes();
            ip[10..12].copy_from_slice(&sum);
            packet.extend([&[8, 0][..], &ip].concat());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            packet.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend([17, 61]);
            packet.extend([src.octets(), dst.octets()].concat());
        }
        _ => panic!(),
    }
    let sum: [u8; 2] = if random.often(80) { [0, 0] } else { [7, 7] };
    packet.extend([&[0xc0, 9][..], &tunnel.udp_port().to_be_bytes(), &length.to_be_bytes(), &sum, &header].concat());
    if random.often(25) {
        spoil(random, &mut packet, v6);
    }
    packet.extend(inside);
    packet
}

/// Somebody changes what is in front.
fn spoil(random: &mut Random, packet: &mut [u8], v6: bool) {
    let udp = if v6 { 54 } else { 34 };
    let length = if v6 { 18 } else { 16 };
    let (at, to) = match random.below(8) {
        // Flags of VXLAN and of Geneve.
        0 => (udp + 8, random.of(&[0, 1, 2, 3, 8, 0x0c, 0x42, 0x80, 0x88, 0x8c])),
        1 => (udp + 9, random.of(&[0x80, 0x40, 0x01])),
        // Lengths of UDP and IP.
        2 => (udp + 5, packet[udp + 5].wrapping_add(random.of(&[1, 4, 0xfc, 0xff]))),
        3 => (length + 1, packet[length + 1].wrapping_add(random.of(&[1, 4, 0xfc, 0xff]))),
        // A fragment, or options that are not there.
        4 if v6 => (20, random.of(&[44, 0, 6])),
        4 => (20, random.of(&[0x20, 0x00, 0x60])),
        5 if !v6 => (random.of(&[21, 14]), random.of(&[1, 0x46, 0x44])),
        _ => (random.below(packet.len()), random.of(&[0, 1, 2, 3, 0x40, 0xff])),
    };
    packet[at] = to;
    if !v6 && random.often(70) {
        packet[24..26].copy_from_slice(&[0, 0]);
        let sum = checksum(&packet[14..34]).to_be_bytes();
        packet[24..26].copy_from_slice(&sum);
    }
}

/// Somebody in the underlay asks for the switch.
fn asked(random: &mut Random, v6: bool, id: u32) -> Vec<u8> {
    let asker = [2, 0, 0, 2, 0, 3];
    let target = vtep(v6, if random.often(80) { 1 } else { 2 });
    let mut frame = [[0xff; 6], asker].concat();
    match target {
        IpAddr::V4(target) => {
            frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, random.of(&[1, 1, 1, 2])]);
            frame.extend([&asker[..], &[192, 0, 2, 2], &[0; 6], &target.octets()].concat());
        }
        IpAddr::V6(target) => {
            let option =
                if random.often(70) { vec![random.of(&[1, 1, 1, 2, 14]), 1, 2, 0, 0, 2, 0, 3] } else { vec![] };
            let hops = if random.often(90) { 255 } else { 64 };
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 24 + option.len() as u8, 58, hops]);
            let IpAddr::V6(from) = vtep(v6, 2) else { panic!() };
            frame.extend(if random.often(90) { from.octets() } else { [0; 16] });
            frame.extend(target.octets());
            frame.extend(
                [&[random.of(&[135, 135, 135, 136]), 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &option].concat(),
            );
        }
    }
    frame.extend(id.to_be_bytes());
    frame
}

/// What is to come out of the switch.
#[derive(Debug)]
enum Wanted {
    Nothing,
    /// By a workload's port.
    Inside(u32, Box<Packet>),
    /// Into a tunnel, by one of these next hops.
    Tunnelled(Header, u16, Vec<Hop>, Box<Packet>),
    /// Back where it came from; what is behind it is padding.
    Back(Vec<u8>),
}

/// And what its sender is to be told.
fn wanted(program: &Program, underlay: &Underlay, port: u32, frame: &[u8]) -> (Wanted, Option<(Told, Packet)>) {
    let own = Vtep { mac: underlay.mac, ip: underlay.vtep };
    let (came, packet) = if port <= 2 || port == 5 {
        (Way::Port(port), Packet::parse(Port::Number(port), frame).unwrap())
    } else {
        match receive(own, frame) {
            Received::Tunnelled(header, inside) => (Way::Tunnel(header), header.packet(inside).unwrap()),
            Received::Asked(back) => return (Wanted::Back(back), None),
            Received::Malformed(_) | Received::Other => return (Wanted::Nothing, None),
        }
    };
    let flow = flow(&packet);
    let walk = walk_stateless(program, packet);
    let told = told::told(&walk, came);
    let wanted = match walk.outcome {
        Outcome::Delivered { port: Port::Number(port), packet } => Wanted::Inside(port, packet),
        Outcome::Answered(packet) => Wanted::Inside(port, packet),
        Outcome::Delivered { port, packet } => {
            let header = Header::of(Tunnel::of(&port).unwrap(), &packet).unwrap();
            Wanted::Tunnelled(header, flow, underlay.towards(header.far).to_vec(), packet)
        }
        _ => Wanted::Nothing,
    };
    (wanted, told)
}

/// Whether what came out of a port is that.
fn compare(
    wanted: &Wanted,
    underlay: &Underlay,
    came: u32,
    (port, frame): (u32, &[u8]),
    id: u32,
    sums_all: bool,
) -> Result<(), String> {
    let summed = sums_all.then_some(id);
    match wanted {
        Wanted::Nothing => Err(format!("at {port}")),
        Wanted::Inside(to, packet) if *to == port => is(packet, frame, summed),
        Wanted::Inside(to, _) => Err(format!("at {port} instead of {to}")),
        Wanted::Back(back) if came == port && frame == back => Ok(()),
        // Of ND's answers BMv2 sums up all that there is.
        Wanted::Back(back) if came == port && back[12] == 0x86 && frame.len() == back.len() => {
            let length = u32::from(u16::from_be_bytes([frame[18], frame[19]])).to_be_bytes();
            let all = [&frame[22..54], &length, &[0, 0, 0, 58], &frame[54..], &id.to_be_bytes()].concat();
            let blank = |frame: &[u8]| [&frame[..56], &frame[58..]].concat();
            if checksum(&all) == 0 && blank(frame) == blank(back) { Ok(()) } else { Err(format!("not {back:02x?}")) }
        }
        Wanted::Back(back) if came == port && frame.starts_with(back) => Ok(()),
        Wanted::Back(back) => Err(format!("not {back:02x?} at {came}")),
        Wanted::Tunnelled(header, flow, via, packet) => {
            let hop = via.iter().find(|hop| hop.port == port).ok_or(format!("at {port}, not by {via:?}"))?;
            let front = header.put_on(&[], *flow, Vtep { mac: underlay.mac, ip: underlay.vtep }, hop.mac).unwrap();
            let (outer, inside) = frame.split_at_checked(front.len()).ok_or("cut off")?;
            is(packet, inside, summed)?;
            let whole = [inside, &id.to_be_bytes()].concat();
            let wanted = header.put_on(&whole, *flow, Vtep { mac: underlay.mac, ip: underlay.vtep }, hop.mac).unwrap();
            if wanted.starts_with(outer) {
                Ok(())
            } else {
                Err(format!("{outer:02x?}\n instead of {:02x?}", &wanted[..front.len()]))
            }
        }
    }
}

/// Frames by number, with the ports that they go in by, and what is to become of them.
struct Trial {
    v6: bool,
    encap: &'static str,
    program: Program,
    underlay: Underlay,
    frames: BTreeMap<u32, (u32, Vec<u8>)>,
    outcomes: BTreeMap<u32, Wanted>,
    told: All,
}

impl Trial {
    fn new(v6: bool, encap: &'static str) -> Self {
        let (program, underlay) = (world(v6, encap), underlay(v6));
        let known = known(&program, v6);
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut frames, mut outcomes, mut told) = (BTreeMap::new(), BTreeMap::new(), All::new());
        for id in 1..=ROUNDS * PORTS {
            let port = (id - 1) % PORTS + 1;
            let frame = if port <= 2 {
                inner(&mut random, port, id)
            } else if port == 5 {
                let mut frame = inner(&mut random, 5, id);
                let tag =
                    if random.often(90) { [0x81, 0, 0, 9] } else { random.of(&[[0x81, 0, 0, 10], [0x88, 0xa8, 0, 9]]) };
                if random.often(95) {
                    frame.splice(12..12, tag);
                }
                frame
            } else if random.often(5) {
                asked(&mut random, v6, id)
            } else {
                let sender = random.of(&[3, 3, 4, 4, 5, 1, 6]);
                let inside = inner(&mut random, sender, id);
                outer(&mut random, v6, &known, inside, sender)
            };
            // The number is behind the packet.
            let (wanted, tells) = wanted(&program, &underlay, port, &frame);
            outcomes.insert(id, wanted);
            told.extend(tells.map(|tells| (id, tells)));
            frames.insert(id, (port, frame));
        }
        Self { v6, encap, program, underlay, frames, outcomes, told }
    }

    async fn set_up(&self, address: &str) -> Rig {
        let mut rig = Rig::attach_with(address, 1, Some(self.underlay.clone())).await;
        rig.connected().await;
        rig.read().await;
        rig.apply(delta(&Program::new(), &self.program), vec![]).await.unwrap();
        rig
    }

    /// Whether the device told its controller what it was to tell.
    async fn tells(&self, listener: &Listener, taken: u32) {
        let heard = listener.heard(self.told.range(..=taken).count()).await;
        let many = told::compare(&self.told, &heard, taken);
        let by_tunnel = self.told.values().filter(|(told, _)| matches!(told.came, Way::Tunnel(_))).count();
        println!("{many:?} to be told, logged; {by_tunnel} by a tunnel");
        assert!(
            many.iter().all(|many| *many > ROUNDS as usize / 50) && by_tunnel > 20,
            "{many:?}, {by_tunnel} say too little"
        );
    }

    /// Whether what came out, by number, is what was to come out.
    fn judge(&self, taken: u32, outputs: &BTreeMap<u32, Vec<(u32, Vec<u8>)>>, sums_all: bool) {
        let Self { v6, encap, underlay, .. } = self;
        let mut wrong = Vec::new();
        let mut counts = [0; 4];
        let mut ways: BTreeMap<(IpAddr, u16), BTreeSet<u32>> = BTreeMap::new();
        for (id, (port, frame)) in self.frames.range(..=taken) {
            let wanted = &self.outcomes[id];
            let found = outputs.get(id).map_or(&[][..], |found| found);
            let story = match found {
                [] if matches!(wanted, Wanted::Nothing) => Ok(()),
                [(out, frame)] => compare(wanted, underlay, *port, (*out, frame), *id, sums_all),
                found => Err(format!("{} frames", found.len())),
            };
            if let (Wanted::Tunnelled(header, flow, ..), [(out, _)]) = (wanted, found) {
                ways.entry((header.far, *flow)).or_default().insert(*out);
            }
            counts[match wanted {
                Wanted::Nothing => 0,
                Wanted::Inside(..) => 1,
                Wanted::Tunnelled(..) => 2,
                Wanted::Back(_) => 3,
            }] += 1;
            if let Err(story) = story {
                wrong.push(format!("{id} at {port}: {story}\n  wanted {wanted:02x?}\n  {frame:02x?}"));
            }
        }
        println!("{encap}, IPv6: {v6}: {counts:?} dropped, delivered, tunnelled, answered");
        assert!(
            wrong.is_empty(),
            "{} of {taken} differ; of the first ones:\n{}",
            wrong.len(),
            wrong[..wrong.len().min(3)].join("\n")
        );
        assert!(counts.iter().take(3).all(|count| *count > ROUNDS / 5) && counts[3] > 30, "{counts:?} say too little");
        // A flow has one way, and flows have all.
        assert!(ways.values().all(|ports| ports.len() == 1));
        let all: BTreeSet<(IpAddr, u32)> =
            ways.iter().flat_map(|((far, _), ports)| ports.iter().map(|port| (*far, *port))).collect();
        let [hv, leaf] = [2, 3].map(|last| vtep(*v6, last));
        assert_eq!(all, BTreeSet::from([(hv, 3), (hv, 4), (leaf, 4)]));
    }
}

async fn on_bmv2(trial: &Trial) {
    let Some(mut switch) = Switch::start(PORTS) else { return };
    // Its answers would come out too.
    trial.set_up(&switch.address).await.end().await;
    let listener = Listener::attach(&switch.address).await;
    let passes = trial.outcomes.iter().filter(|(_, wanted)| !matches!(wanted, Wanted::Nothing)).map(|(id, _)| *id);
    let passes: Vec<u32> = passes.collect();
    let due = |taken| passes.partition_point(|id| *id <= taken);
    let (taken, outputs) = switch.exchange(&trial.frames, due).await;
    trial.judge(taken, &outputs, true);
    trial.tells(&listener, taken).await;
}

async fn on_the_stand_in(trial: &Trial) {
    let (software, told, _sent) = Software::new();
    let anywhere = ([127, 0, 0, 1], 0).into();
    let target = Target::start(anywhere, 1, Box::new(software.clone()), told).await.unwrap();
    trial.set_up(&target.address().to_string()).await.end().await;
    let listener = Listener::attach(&target.address().to_string()).await;
    let mut told = 0;
    let mut outputs = BTreeMap::new();
    for (id, (port, frame)) in &trial.frames {
        // Its number, unless the device made it anew.
        let bare = |frame: Vec<u8>| frame.strip_suffix(&id.to_be_bytes()).map_or(frame.clone(), <[u8]>::to_vec);
        let sent = software.pass(*port, frame).map(|(out, frame)| (out, bare(frame)));
        outputs.insert(*id, sent.into_iter().collect());
        if trial.told.contains_key(id) {
            told += 1;
            // No more wait than there is room for.
            listener.heard(told).await;
        }
    }
    trial.judge(u32::MAX, &outputs, false);
    trial.tells(&listener, u32::MAX).await;
}

async fn try_out(v6: bool, encap: &'static str) {
    let trial = Trial::new(v6, encap);
    on_the_stand_in(&trial).await;
    on_bmv2(&trial).await;
}

#[tokio::test]
async fn geneve_over_ipv4() {
    try_out(false, "geneve").await;
}

#[tokio::test]
async fn geneve_over_ipv6() {
    try_out(true, "geneve").await;
}

#[tokio::test]
async fn vxlan_over_ipv4() {
    try_out(false, "vxlan").await;
}

#[tokio::test]
async fn vxlan_over_ipv6() {
    try_out(true, "vxlan").await;
}

/// How many packets each cause dropped.
async fn dropped(rig: &mut Rig) -> BTreeMap<Cause, u64> {
    let Report::Counters(counters) = rig.ask(Command::Count).await else { panic!() };
    counters.iter().filter(|counter| counter.dropped).map(|counter| (counter.cause, counter.packets)).collect()
}

#[tokio::test]
async fn a30_p4_switches_drop_forged_tunnel_packets_and_count_them_by_name() {
    let trial = Trial::new(false, "geneve");
    let (tunnel, identity) = known(&trial.program, false)[&3];
    let right = Header { tunnel, far: vtep(false, 1), vni: 5001, identity };
    let mut random = Random(7);
    let mut inside = [mac(1), mac(3)].concat();
    ipv4(&mut random, &mut inside, 3, 1);
    let put_on = |header: Header, from: u8| {
        let from = Vtep { mac: hop(3).mac, ip: vtep(false, from) };
        header.put_on(&inside, 50_000, from, HERE).unwrap()
    };
    let malformed = |at: usize, to: u8| {
        let mut packet = put_on(right, 2);
        packet[at] = to;
        packet
    };
    // Geneve without an option, with these flags.
    let bare = |flags: u8| {
        let mut packet = put_on(right, 2);
        packet.drain(50..58);
        (packet[42], packet[43]) = (0, flags);
        for at in [16, 38] {
            let length = u16::from_be_bytes([packet[at], packet[at + 1]]) - 8;
            packet[at..at + 2].copy_from_slice(&length.to_be_bytes());
        }
        packet[24..26].copy_from_slice(&[0, 0]);
        let sum = checksum(&packet[14..34]).to_be_bytes();
        packet[24..26].copy_from_slice(&sum);
        packet
    };
    let others = [
        // A control packet, critical options, and what says nothing but who it is not from.
        (bare(0x80), Cause::Builtin(Builtin::Tunnel)),
        (bare(0x40), Cause::Builtin(Builtin::Tunnel)),
        (bare(0), Cause::Builtin(Builtin::OverlayAntispoof)),
        (put_on(Header { vni: 5002, ..right }, 2), Cause::Builtin(Builtin::Tunnel)),
        (put_on(Header { vni: 0, ..right }, 2), Cause::Builtin(Builtin::Tunnel)),
        (malformed(42, 0x42), Cause::Builtin(Builtin::Tunnel)),
        (malformed(43, 0x80), Cause::Builtin(Builtin::Tunnel)),
        (malformed(39, 0), Cause::Builtin(Builtin::Tunnel)),
        (malformed(24, 0), Cause::Builtin(Builtin::Tunnel)),
        // Another switch's, an unknown one's, our own.
        (put_on(right, 3), Cause::Builtin(Builtin::OverlayAntispoof)),
        (put_on(right, 9), Cause::Builtin(Builtin::OverlayAntispoof)),
        (put_on(right, 1), Cause::Builtin(Builtin::OverlayAntispoof)),
        // Somebody else's identity, nobody's, and that of outsiders.
        (put_on(Header { identity: identity + 1, ..right }, 2), Cause::Builtin(Builtin::OverlayAntispoof)),
        (put_on(Header { identity: 0, ..right }, 2), Cause::Builtin(Builtin::OverlayAntispoof)),
        (put_on(Header { identity: 1, ..right }, 2), Cause::Builtin(Builtin::OverlayAntispoof)),
        // The other encapsulation.
        (put_on(Header { tunnel: Tunnel::Vxlan, identity: 0, ..right }, 2), Cause::Builtin(Builtin::OverlayAntispoof)),
        // Not to this end of a tunnel, though a workload's own packet; no tunnel's; a question for somebody else.
        (malformed(5, 0x77), Cause::Miss(Stage::Classify)),
        (malformed(33, 77), Cause::Miss(Stage::Classify)),
        (malformed(36, 0), Cause::Miss(Stage::Classify)),
        (inside.clone(), Cause::Miss(Stage::Classify)),
    ];
    let mut wanted: BTreeMap<Cause, u64> = BTreeMap::new();
    others.iter().for_each(|(_, cause)| *wanted.entry(*cause).or_default() += 1);
    let agree = |found: &BTreeMap<Cause, u64>| wanted.iter().all(|(cause, count)| found.get(cause) == Some(count));
    {
        let software = Software::default();
        let (_, told) = mpsc::channel(1);
        let target = Target::start(([127, 0, 0, 1], 0).into(), 1, Box::new(software.clone()), told).await.unwrap();
        let mut rig = trial.set_up(&target.address().to_string()).await;
        for (frame, _) in &others {
            assert_eq!(software.pass(3, frame), None, "{frame:02x?}");
        }
        let found = dropped(&mut rig).await;
        assert!(agree(&found), "{found:?} and not {wanted:?}");
        rig.end().await;
    }
    let Some(mut switch) = Switch::start(PORTS) else { return };
    let mut rig = trial.set_up(&switch.address).await;
    // A round is taken once the next one has begun: at the other ports, and in the last round, there is nothing of interest.
    let idle = [&mac(0)[..], &mac(9), &[0x88, 0xb5, 0, 0, 0, 0, 0, 0]].concat();
    for round in 0..=others.len() {
        for port in 1..=PORTS {
            let frame = others.get(round).filter(|_| port == 3).map_or(&idle, |(frame, _)| frame);
            let frame = if port == 4 && round < others.len() { &others[round].0 } else { frame };
            switch.send(port, round, frame);
        }
    }
    wanted.values_mut().for_each(|count| *count *= 2);
    // At port 5 is nobody.
    *wanted.entry(Cause::Miss(Stage::Classify)).or_default() += others.len() as u64;
    let began = Instant::now();
    loop {
        let found = dropped(&mut rig).await;
        // What is idle comes by no tunnel; of the last round it is not taken.
        if wanted.iter().all(|(cause, count)| found.get(cause) == Some(count)) {
            break;
        }
        assert!(began.elapsed() < PATIENCE / 4, "{found:?} and not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!((1..=PORTS).all(|port| switch.sent(port).is_empty()));
    rig.end().await;
}
