//! One switch with three hundred tunnels.

use crate::world::{Attachments, IPV4, World, two};
use bulkhead_lab::{Family, Service, Stream};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Switches beside the two real ones, each with one workload of the same network.
const PEERS: usize = 298;
/// Most frames that the switch may send into the underlay in a second when nobody speaks: a probe through each tunnel
/// every 5 s, or a question for its neighbour, and as much again.
const FRAMES_MOST: usize = 120;
/// Most entries that an address of a workload elsewhere may cost: it is answered for, located, and checked.
const EACH_MOST: usize = 4;

fn peer(number: usize) -> [Value; 2] {
    let (high, low) = (number / 200, number % 200 + 1);
    [
        json!({"kind": "Switch", "metadata": {"name": format!("peer{number}")},
               "spec": {"driver": "sim", "vtep": format!("172.31.{}.{low}", 1 + high)}}),
        json!({"kind": "Workload", "metadata": {"name": format!("w{number}"), "labels": {"app": "x"}}, "spec": {
            "network": "one", "interfaces": [{"mac": format!("02:cc:00:00:{high:02x}:{low:02x}"),
                "ips": [format!("10.0.{}.{low}", 1 + high)],
                "attachment": {"switch": format!("peer{number}"), "port": "p"}}]}}),
    ]
}

#[test]
fn three_hundred_tunnels_of_one_switch() {
    let mut scenario = two("ov-many", IPV4);
    scenario.resources[0]["spec"]["subnets"] = json!(["10.0.0.0/16", "fd00::/64"]);
    let Some(world) = World::up(&scenario, Attachments::Discovered) else { return };
    world.reaches("a", "b", Service::Icmp);
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
    // Behind the others' addresses is nobody: what asks for them, and probes, is not more for that.
    let tap = world.fabric.underlay().tap("hv1").unwrap();
    let frames = tap.drain(Duration::from_secs(1)).unwrap().len();
    println!("{frames} frames a second into the underlay");
    assert!(frames < FRAMES_MOST, "{frames} frames a second");
}
