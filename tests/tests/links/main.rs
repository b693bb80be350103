//! Real Open vSwitch bridges with cables between them and nothing declared but the switches: links are found, lost and
//! not forged, and packets take the ways that there are.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod forged;
mod losses;
mod world;

use bulkhead_lab::Wire;
use bulkhead_netlink::LinkChange;
use std::time::Duration;
use world::{PATIENCE, SPINES, World};

/// How long something has to stay away that must not come: three probes' time and more.
const SILENCE: Duration = Duration::from_secs(5);

/// The leaves of most tests.
const LEAVES: &[&str] = &["leaf1", "leaf2"];

#[test]
fn packets_go_between_switches_of_which_nothing_is_declared_but_themselves() {
    let Some(mut world) = World::up(LEAVES) else { return };
    assert!(world.topology().links.iter().all(|link| link.discovered && link.name.is_none()));
    world.judge();
    let (code, told) = world.cli(&["path", "a", "b"]);
    assert!(code == Some(0) && told.starts_with("2 equal ways: leaf1 to leaf2, 2 links\n"), "{told}");
    let (_, told) = world.cli(&["status"]);
    assert!(told.contains("links: 4 up, 0 down\n"), "{told}");
    let revision = world.topology().revision;

    for spine in SPINES {
        let mut links = world.switches[spine].namespace().netlink().unwrap();
        links.set("to-leaf2", &[LinkChange::Down]).unwrap();
        world.until("the link is down", |world| world.up_links() == 3);
        let (code, told) = world.cli(&["path", "a", "b"]);
        assert!(code == Some(0) && told.starts_with("one way: leaf1 to leaf2, 2 links\n"), "{told}");
        let (_, told) = world.cli(&["status"]);
        assert!(told.contains("links: 3 up, 1 down\n") && told.contains("is down"), "{told}");
        world.judge();
        links.set("to-leaf2", &[LinkChange::Up]).unwrap();
        world.until("the link is back", World::is_whole);
    }
    assert!(world.topology().revision <= revision + 12, "one revision for what happened at once");

    // A controller that comes back finds everything as it was.
    let flows = world.switches["leaf1"].flows().unwrap();
    let revision = world.topology().revision;
    world.controller.crash().unwrap();
    world.controller.restart().unwrap();
    world.until("all switches again", |world| {
        world.controller.client.status().unwrap().switches.iter().all(|switch| switch.connected)
    });
    std::thread::sleep(SILENCE);
    assert_eq!((world.up_links(), world.topology().revision), (4, revision));
    assert_eq!(world.switches["leaf1"].flows().unwrap(), flows);
}

#[test]
fn a12_lldp_of_a_host_makes_no_link_and_is_told() {
    let Some(mut world) = World::up(LEAVES) else { return };
    // Somebody listens on a cable, keeps what he hears, and has it sent by a workload, and by a free port.
    let tap = Wire::open(world.switches["spine1"].namespace(), "to-leaf1").unwrap();
    let lldp = |frame: &[u8]| frame.get(12..14) == Some(&[0x88, 0xcc]);
    let kept = tap.find(PATIENCE, lldp).unwrap().unwrap();
    let stranger = world.stranger();
    let workload = world.hosts["b"].wire().unwrap();
    // The port is known to be free when it is probed.
    assert!(stranger.find(PATIENCE, lldp).unwrap().is_some());
    let mut forged = kept.clone();
    if let Some(byte) = forged.get_mut(40) {
        *byte ^= 1;
    }
    // Three probes' time, after which the kept one is old.
    std::thread::sleep(SILENCE);
    for _ in 0..20 {
        for frame in [&kept, &forged, &kept[..30].to_vec()] {
            workload.inject(frame).unwrap();
            stranger.inject(frame).unwrap();
        }
    }
    let told = |world: &World| world.topology().foreign_lldp.iter().map(|found| found.frames).sum::<u64>();
    world.until("foreign LLDP is counted", |world| told(world) > 0);
    std::thread::sleep(SILENCE);
    let topology = world.topology();
    assert_eq!(topology.links.len(), 4, "{topology:#?}");
    assert!(topology.links.iter().all(|link| link.state == "up"), "{topology:#?}");
    // Those of the workload's port never came to the controller.
    assert!(topology.foreign_lldp.iter().all(|found| found.switch == "leaf2" && found.port == "free"), "{topology:#?}");
    let (_, told) = world.cli(&["status"]);
    assert!(told.contains("FOREIGN-LLDP-AT"), "{told}");
    // What is at each port.
    let (_, told) = world.cli(&["ports", "leaf2"]);
    let row = |port: &str| told.lines().find(|line| line.split_whitespace().next() == Some(port)).unwrap_or_default();
    let at = |port: &str| row(port).split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
    assert_eq!(
        ["to-spine1", "free", "b", "br-int"].map(at),
        ["yes link spine1:to-leaf2 up", "yes nobody -", "yes workload b", "no host -"],
        "{told}"
    );
}

#[test]
fn a_cabling_loop_is_told_and_nothing_runs_round() {
    let Some(mut world) = World::up(LEAVES) else { return };
    world.cable(("leaf1", "loop1"), ("leaf1", "loop2"));
    world.until("the loop is told", |world| {
        world.topology().links.iter().any(|link| link.state == "conflict" && link.why.starts_with("a loop"))
    });
    world.judge();
    let tap = Wire::open(world.switches["leaf1"].namespace(), "loop1").unwrap();
    let frames = tap.drain(Duration::from_secs(3)).unwrap();
    assert!(frames.len() < 10, "{} frames in three seconds", frames.len());
    let (_, told) = world.cli(&["status"]);
    assert!(told.contains("1 in conflict") && told.contains("a loop: a cable from leaf1 to itself"), "{told}");
}
