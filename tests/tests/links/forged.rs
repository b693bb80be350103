//! Somebody sits where a link is said to be, or shouts beside it.

use super::{LEAVES, SILENCE};
use crate::world::{PATIENCE, SECOND, SPINES, World};
use bulkhead_lab::{Family, Wire};
use serde_json::json;
use std::time::Instant;

/// The newest revision is in force everywhere.
fn settled(world: &mut World) {
    world.until("the revision is in force", |world| {
        let status = world.controller.client.status().unwrap();
        status.switches.iter().all(|switch| switch.acknowledged >= status.revision)
    });
}

#[test]
fn a12_who_sits_at_a_port_of_a_link_that_is_not_heard_is_nobody() {
    let Some(mut world) = World::up(LEAVES) else { return };
    // A packet from a to b on its last link.
    let leaf = world.switches["leaf2"].namespace();
    let taps = SPINES.map(|spine| {
        let far = (world.switches[spine].namespace(), "to-leaf2");
        Wire::tapped((leaf, &format!("to-{spine}")), far).unwrap()
    });
    assert!(world.ping("a", "b", Family::V4, PATIENCE).passed());
    let mac = world.hosts["b"].mac().0;
    let echo = |frame: &[u8]| {
        let is = |at: usize, bytes: &[u8]| frame.get(at..at + bytes.len()) == Some(bytes);
        // 802.1Q, then IPv4 without options, then ICMP's type.
        is(0, &mac) && is(12, &[0x81, 0x00]) && is(16, &[0x08, 0x00]) && is(38, &[8])
    };
    let kept = taps.iter().find_map(|tap| tap.find(SECOND, echo).unwrap()).unwrap();
    let b = world.hosts["b"].wire().unwrap();
    let arrives = |by: &Wire| {
        b.drain(SECOND / 10).unwrap();
        (0..10).for_each(|_| by.inject(&kept).unwrap());
        b.find(2 * SECOND, |frame| frame.get(14..) == kept.get(18..)).unwrap().is_some()
    };
    let cable = Wire::open(world.switches["spine1"].namespace(), "to-leaf2").unwrap();
    assert!(arrives(&cable), "what comes by a link is believed");
    // A link is declared where he sits: there is none.
    let him = world.stranger();
    world.apply(&[json!({"kind": "Link", "metadata": {"name": "soon"}, "spec": {
        "a": {"switch": "leaf2", "port": "free"}, "b": {"switch": "spine1", "port": "nothing"}}})]);
    settled(&mut world);
    assert!(!arrives(&him), "nobody was ever heard there");
    // One that was there is drawn out of the spine, and he takes its end.
    world.switches["spine1"].del_port("to-leaf2").unwrap();
    world.until("the link is down", |world| world.up_links() == 3);
    settled(&mut world);
    assert!(!arrives(&cable), "nobody is heard there any more");
    world.judge();
}

#[test]
fn a19_lldp_at_a_free_port_keeps_no_link_from_being_heard() {
    let Some(world) = World::up(LEAVES) else { return };
    let him = world.stranger();
    let mut frame = [0; 60];
    frame[..14].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0x0e, 2, 0, 0, 0, 0, 9, 0x88, 0xcc]);
    let (before, began) = (world.topology().revision, Instant::now());
    let mut sent = 0u64;
    while began.elapsed() < 2 * SILENCE {
        (0..50).for_each(|_| him.inject(&frame).unwrap());
        sent += 50;
        std::thread::sleep(SECOND / 1000);
    }
    println!("{sent} frames in {:?}", began.elapsed());
    assert!(sent > 5_000, "no flood");
    let topology = world.topology();
    assert!(topology.foreign_lldp.iter().any(|found| found.port == "free"), "{topology:#?}");
    // No link came or went meanwhile.
    assert_eq!((topology.revision, world.up_links()), (before, 4), "{topology:#?}");
}
