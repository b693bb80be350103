//! Workloads that move from one hypervisor to another while others speak with them.

use crate::world::{Attachments, IPV4, PATIENCE, SILENCE, World, two, until};
use bulkhead_lab::{Family, Live, Losses, Service, Stream, Wire};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long a workload that has moved may be out of reach, from being plugged in on.
const PROMISED: Duration = Duration::from_secs(1);
/// How long its answers may take: its link was down, so it asks for its neighbours anew, and asks again after a second if
/// its first question came too early (RFC 4861 §10, RETRANS_TIMER).
const ANSWERS: Duration = Duration::from_secs(3);
/// How long Open vSwitch itself may forward nothing when a port is plugged in: on a busy machine it loses up to 33 ms,
/// the same without a controller (measured: 6 of 60 times).
const PLUGGING: Duration = Duration::from_millis(100);

/// Pings a second of who is not to be disturbed.
const RATE: u32 = 200;

/// Whom nobody meddled with while so many ports were plugged in beside him.
fn undisturbed(losses: Losses, plugged: u32) {
    let most = plugged * RATE * PLUGGING.subsec_millis() / 1000;
    assert!(losses.longest_gap < PLUGGING && losses.lost() <= most && losses.answered > 0, "{losses:?}");
}

/// Echo requests to an address, IPv4 or IPv6, among frames.
fn is_request(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([8, 0]) => frame.get(23) == Some(&1) && frame.get(34) == Some(&8),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&58) && frame.get(54) == Some(&128),
        _ => false,
    }
}

/// Carries `b` to the other hypervisor while `a` pings it, and `a` and `c`, which stay where they are, speak with each
/// other: over IPv4 and IPv6.
fn carried(world: &mut World, attachments: Attachments) {
    let [a, b, c] = ["a", "b", "c"].map(|name| world.workload(name));
    let _listeners = world.listen(&[Service::Tcp(80)]);
    for (from, to) in [("a", "b"), ("a", "c"), ("b", "c")] {
        world.reaches(from, to, Service::Tcp(80));
        world.reaches(from, to, Service::Icmp);
    }
    let open = |to: &bulkhead_lab::Workload| {
        Live::open(a.namespace(), (to.ip(Family::V4).unwrap(), 80).into(), PATIENCE).unwrap()
    };
    let (moved, bystander) = (open(&b), open(&c));
    let wire = b.wire().unwrap();
    let beside = Stream::start(a.namespace(), None, c.ip(Family::V6).unwrap(), RATE).unwrap();
    for to in ["hv1", "hv2"] {
        let pings = Family::ALL.map(|family| Stream::start(a.namespace(), None, b.ip(family).unwrap(), 200).unwrap());
        std::thread::sleep(Duration::from_millis(200));
        world.fabric.carry("b", to).unwrap();
        let plugged = Instant::now();
        wire.drain(Duration::ZERO).unwrap();
        if attachments == Attachments::Declared {
            world.apply(&[world.workload_document("b", attachments)]);
        }
        assert!(wire.find(PATIENCE, is_request).unwrap().is_some(), "not reached on {to}");
        let reached = plugged.elapsed();
        // The connection goes on with the first segment that is sent again: as long as it stood still, at most.
        assert!(moved.speaks(PATIENCE), "the connection did not come along to {to}");
        let again = plugged.elapsed();
        std::thread::sleep(Duration::from_millis(300));
        let losses = pings.map(|stream| stream.stop().unwrap());
        let longest = losses.iter().map(|losses| losses.longest_gap).max().unwrap();
        println!(
            "to {to}, {attachments:?}: reached after {reached:?}, no answer for {longest:?}, connection after {again:?}"
        );
        assert!(reached < PROMISED, "{reached:?}");
        assert!(longest < ANSWERS, "{losses:?}");
        assert!(losses.iter().all(|losses| losses.answered > 0), "{losses:?}");
        world.realized();
    }
    let losses = beside.stop().unwrap();
    assert!(losses.sent > 100, "{losses:?}");
    undisturbed(losses, 2);
    assert!(bystander.speaks(PATIENCE) && !bystander.broken() && !moved.broken());
}

#[test]
fn a_workload_that_is_carried_is_found_and_reached_within_a_second() {
    let Some(mut world) = World::up(&two("ov-carried", IPV4), Attachments::Discovered) else { return };
    carried(&mut world, Attachments::Discovered);
    // What is no longer there is not answered for, nor let in.
    let hosts = world.status();
    assert_eq!(hosts.switches.iter().map(|switch| switch.host.as_ref().unwrap().plugged).sum::<u64>(), 3);
}

#[test]
fn a_workload_moves_when_its_document_says_so() {
    let Some(mut world) = World::up(&two("ov-declared", IPV4), Attachments::Declared) else { return };
    carried(&mut world, Attachments::Declared);
}

#[test]
fn a_workload_moves_over_an_underlay_of_ipv6() {
    let Some(mut world) = World::up(&two("ov-six", ["fd31::1", "fd31::2"]), Attachments::Discovered) else { return };
    carried(&mut world, Attachments::Discovered);
    world.shut("a", "b", Service::Tcp(81));
}

/// A second interface of `b` on hv1, as migration has it for a while.
fn twin(world: &World) -> (bulkhead_lab::Namespace, Wire) {
    use bulkhead_netlink::{LinkChange, Veth};
    let hv1 = world.fabric.hypervisor("hv1").unwrap();
    let rogue = world.fabric.underlay().rogue().clone();
    let mac = world.workload("b").mac().0;
    let veth = Veth { name: "b-twin", peer: "twin0", peer_in: &rogue, mac: Some(mac), mtu: None };
    let mut links = hv1.namespace().netlink().unwrap();
    links.add_veth(&veth).unwrap();
    links.set("b-twin", &[LinkChange::Up]).unwrap();
    let mut inside = rogue.netlink().unwrap();
    inside.checksums_off("twin0").unwrap();
    inside.set("twin0", &[LinkChange::NoArp, LinkChange::Up]).unwrap();
    let wire = Wire::open(&rogue, "twin0").unwrap();
    world.plug("hv1", "b-twin", "b", world.workload("b").mac());
    (rogue, wire)
}

#[test]
fn of_two_places_the_first_has_the_workload_until_it_goes() {
    let Some(world) = World::up(&two("ov-migrate", IPV4), Attachments::Discovered) else { return };
    world.reaches("a", "b", Service::Icmp);
    let (a, b) = (world.workload("a"), world.workload("b"));
    let pings = Stream::start(a.namespace(), None, b.ip(Family::V4).unwrap(), 200).unwrap();
    let (_twin, wire) = twin(&world);
    world.until("the newcomer is told of", |status| {
        let mut hosts = status.switches.iter().filter_map(|switch| switch.host.as_ref());
        hosts.any(|host| {
            host.quarantined.iter().any(|one| one.port == "b-twin" && one.why.contains("port b of switch hv2"))
        })
    });
    assert!(world.told("hv1").contains("b-twin"), "{}", world.told("hv1"));
    undisturbed(pings.stop().unwrap(), 1);
    let pings = Stream::start(a.namespace(), None, b.ip(Family::V4).unwrap(), 200).unwrap();
    std::thread::sleep(SILENCE);
    let losses = pings.stop().unwrap();
    assert_eq!(losses.lost(), 0, "the first holder keeps it: {losses:?}");
    let at_both = wire.drain(Duration::ZERO).unwrap();
    assert!(!at_both.iter().any(|frame| is_request(frame)), "delivered at both");

    // The old place lets go: packets come to the new one, and none to the old one.
    let old = b.wire().unwrap();
    let pings = Stream::start(a.namespace(), None, b.ip(Family::V4).unwrap(), 200).unwrap();
    assert!(old.find(PATIENCE, is_request).unwrap().is_some());
    let began = Instant::now();
    world.fabric.hypervisor("hv2").unwrap().del_port("b").unwrap();
    assert!(wire.find(PATIENCE, is_request).unwrap().is_some(), "the new place has it");
    let took = began.elapsed();
    println!("taken over within {took:?} of the old place's letting go");
    assert!(took < PROMISED, "{took:?}");
    old.drain(Duration::ZERO).unwrap();
    assert!(wire.find(PATIENCE, is_request).unwrap().is_some());
    assert!(old.drain(SILENCE).unwrap().is_empty(), "delivered at the old place");
    drop(pings);
}

#[test]
fn a_host_whose_database_is_away_for_a_while_keeps_what_it_has() {
    let Some(mut world) = World::up(&two("ov-away", IPV4), Attachments::Discovered) else { return };
    world.reaches("a", "b", Service::Icmp);
    world.fabric.stop("hv2", bulkhead_lab::Daemon::Database, bulkhead_lab::End::Crash).unwrap();
    world.until("the loss is told", |status| {
        status.switches.iter().any(|one| one.name == "hv2" && one.host.as_ref().is_some_and(|host| !host.connected))
    });
    // Its switch is there, and whoever says now to be one of its workloads waits.
    let (_twin, wire) = twin(&world);
    world.until("the newcomer waits", |status| {
        let hv1 = status.switches.iter().find(|switch| switch.name == "hv1").and_then(|switch| switch.host.as_ref());
        hv1.is_some_and(|host| host.quarantined.iter().any(|one| one.port == "b-twin"))
    });
    // Meanwhile its switch may stand still: without a thread of its own for packets, Open vSwitch waits for its database.
    let _pings = Stream::start(world.workload("a").namespace(), None, world.workload("b").ips()[0], 50).unwrap();
    std::thread::sleep(SILENCE);
    world.fabric.start("hv2", bulkhead_lab::Daemon::Database).unwrap();
    world.realized();
    world.reaches("a", "b", Service::Icmp);
    assert!(!wire.drain(Duration::ZERO).unwrap().iter().any(|frame| is_request(frame)), "delivered at the newcomer's");
}

#[test]
fn a_workload_is_never_delivered_to_in_two_places_and_its_policy_goes_with_it() {
    let Some(mut world) = World::up(&two("ov-once", IPV4), Attachments::Discovered) else { return };
    let listeners = world.listen(&[Service::Tcp(80), Service::Tcp(81)]);
    world.reaches("a", "b", Service::Tcp(80));
    world.shut("a", "b", Service::Tcp(81));
    let (a, b) = (world.workload("a"), world.workload("b"));
    // Every echo request is sent once: one that is delivered twice is seen twice, wherever `b` is.
    let wire = b.wire().unwrap();
    let pings = Family::ALL.map(|family| Stream::start(a.namespace(), None, b.ip(family).unwrap(), 200).unwrap());
    for to in ["hv1", "hv2", "hv1"] {
        world.fabric.carry("b", to).unwrap();
        world.realized();
        world.reaches("c", "b", Service::Tcp(80));
        world.shut("a", "b", Service::Tcp(81));
        world.shut("c", "b", Service::Tcp(81));
    }
    assert!(pings.map(|stream| stream.stop().unwrap().answered).iter().all(|answered| *answered > 100));
    let mut seen = std::collections::BTreeMap::new();
    for frame in wire.drain(Duration::ZERO).unwrap().into_iter().filter(|frame| is_request(frame)) {
        let at = if frame[12..14] == [8, 0] { 38..42 } else { 58..62 };
        *seen.entry((frame[12], frame[at].to_vec())).or_insert(0) += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(seen.len() > 100 && twice.is_empty(), "{twice:?}");
    // Another label, another policy: at the new place as at the old one.
    let mut document = world.workload_document("b", Attachments::Discovered);
    document["metadata"]["labels"] = json!({"app": "y"});
    world.apply(&[document]);
    world.realized();
    until("what its labels do not allow is shut", || {
        let open = world.probe("a", "b", Service::Tcp(80), Family::V4, SILENCE).passed();
        if open { Err("it passes".into()) } else { Ok(()) }
    });
    drop(listeners);
}
