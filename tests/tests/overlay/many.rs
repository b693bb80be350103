//! One switch with three hundred tunnels.

use crate::world::{Attachments, IPV4, World, two};
use bulkhead_lab::{Family, Service, Stream, packets::GENEVE};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// Switches beside the two real ones, each with one workload of the same network.
const PEERS: usize = 298;
/// Most probes that are sent in a second, of all switches together and however many tunnels there are, and at once.
const PROBES_A_SECOND: f64 = 2_000.0;
const PROBES_AT_ONCE: f64 = 200.0;
/// How long is looked.
const LOOK: Duration = Duration::from_secs(10);
/// Most entries that an address of a workload elsewhere may cost: it is answered for, located, and checked.
const EACH_MOST: usize = 4;

/// Where a peer's tunnels end.
pub fn vtep(number: usize) -> String {
    format!("172.31.{}.{}", 1 + number / 200, number % 200 + 1)
}

/// A switch beside the real ones, and its workload.
pub fn peer(number: usize) -> [Value; 2] {
    let (high, low) = (number / 200, number % 200 + 1);
    [
        json!({"kind": "Switch", "metadata": {"name": format!("peer{number}")},
               "spec": {"driver": "sim", "vtep": vtep(number)}}),
        json!({"kind": "Workload", "metadata": {"name": format!("w{number}"), "labels": {"app": "x"}}, "spec": {
            "network": "one", "interfaces": [{"mac": format!("02:cc:00:00:{high:02x}:{low:02x}"),
                "ips": [format!("10.0.{}.{low}", 1 + high)],
                "attachment": {"switch": format!("peer{number}"), "port": "p"}}]}}),
    ]
}

/// Where peers' tunnels end is on the underlay's own link.
pub fn on_link(world: &World, hypervisor: &str) {
    world.fabric.hypervisor(hypervisor).unwrap().appctl(&["ovs/route/add", "172.31.0.0/16", "br-phy"]).unwrap();
}

/// Probes sent so far.
fn probes(world: &World) -> u64 {
    let url = format!("{}/metrics", world.client().server());
    let metrics = ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap();
    let found = metrics.lines().find_map(|line| line.strip_prefix("bulkhead_tunnel_probes_total "));
    found.unwrap().parse().unwrap()
}

/// The far end that a frame of a VTEP's into the underlay is for: a probe, or a question for the neighbour that a probe is
/// for (RFC 826).
fn far_end(frame: &[u8], vtep: Ipv4Addr) -> Option<Ipv4Addr> {
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).unwrap()));
    let arp = frame.get(12..14)? == [8, 6] && frame.get(20..22)? == [0, 1];
    let udp = frame.get(12..14)? == [8, 0] && frame.get(36..38)? == GENEVE.to_be_bytes();
    let (from, to) = if arp {
        (28, 38)
    } else if udp {
        (26, 30)
    } else {
        return None;
    };
    address(to).filter(|_| address(from) == Some(vtep))
}

#[test]
fn three_hundred_tunnels_of_one_switch() {
    let mut scenario = two("ov-many", IPV4);
    scenario.resources[0]["spec"]["subnets"] = json!(["10.0.0.0/16", "fd00::/64"]);
    let Some(world) = World::up(&scenario, Attachments::Discovered) else { return };
    world.reaches("a", "b", Service::Icmp);
    on_link(&world, "hv1");
    let before = world.switch("hv1").entries;
    let (a, b) = (world.workload("a"), world.workload("b"));
    let pings = Stream::start(a.namespace(), None, b.ip(Family::V4).unwrap(), 50).unwrap();
    let began = Instant::now();
    world.apply(&(0..PEERS).flat_map(peer).collect::<Vec<_>>());
    world.realized();
    println!("realized after {:?}", began.elapsed());
    let hv1 = world.switch("hv1");
    assert_eq!(hv1.tunnels.len(), PEERS + 1);
    let each = (hv1.entries - before) as f64 / PEERS as f64;
    println!("{} entries, {each} for each workload elsewhere", hv1.entries);
    assert!(each <= EACH_MOST as f64, "{each} entries for each");
    let losses = pings.stop().unwrap();
    assert!(losses.lost() == 0 && losses.sent > 20, "{losses:?}");
    for (from, to) in [("a", "b"), ("b", "a")] {
        world.reaches(from, to, Service::Icmp);
    }
    for (from, to) in [("hv1", "hv2"), ("hv2", "hv1")] {
        // On a busy machine a probe of so many may be lost; the next one comes through.
        world.until(&format!("the tunnel from {from} to {to} is up"), |status| {
            let tunnels =
                status.switches.iter().filter(|switch| switch.name == from).flat_map(|switch| &switch.tunnels);
            tunnels.into_iter().any(|tunnel| tunnel.to == to && tunnel.state == "up")
        });
    }
    // Every switch has a tunnel to every other one: far more than are probed every 5 s. Behind the others' addresses is
    // nobody, and what asks for them, and probes, is not more for that: none gets a second probe before all have one. One
    // that was under way when this began may come on top.
    let (vtep, all) = (IPV4[0].parse().unwrap(), (PEERS + 2) * (PEERS + 1));
    let tap = world.fabric.underlay().tap("hv1").unwrap();
    let began = Instant::now();
    let before = probes(&world);
    let frames = tap.drain(LOOK).unwrap();
    let sent = probes(&world) - before;
    let took = began.elapsed().as_secs_f64();
    assert!(took < all as f64 / PROBES_A_SECOND, "too slow to be looked at: {took} s");
    let mut frames_to: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
    for far in frames.iter().filter_map(|frame| far_end(frame, vtep)) {
        *frames_to.entry(far).or_default() += 1;
    }
    println!("{sent} probes and {} frames of this switch within {took} s; {all} tunnels", frames.len());
    assert!(sent > 0 && sent as f64 <= PROBES_A_SECOND * took + PROBES_AT_ONCE, "{sent} probes within {took} s");
    assert!(frames_to.values().all(|count| *count <= 2), "{frames_to:?}");
}
