//! What breaks, and what somebody breaks: mended within seconds, told in `bulkhead status`, and traffic back.

use crate::world::{Attachments, IPV4, PATIENCE, World, two, until};
use bulkhead_lab::{Daemon, End, Family, Live, Losses, Service, Stream, hypervisor::BRIDGE, underlay::Cable};
use std::time::{Duration, Instant};

/// Longest that mending may take: "within seconds".
const SECONDS: Duration = Duration::from_secs(10);
/// Within this time of an underlay's falling silent its tunnels are told to be down: three probes, 5 s apart, are lost and a
/// fourth is due, which takes 20 s at most; and what a busy machine adds.
const DOWN: Duration = Duration::from_secs(28);

/// Pings from `a` on hv1 to `b` on hv2, over IPv4 and IPv6.
fn pings(world: &World) -> [Stream; 2] {
    let (a, b) = (world.workload("a"), world.workload("b"));
    Family::ALL.map(|family| Stream::start(a.namespace(), None, b.ip(family).unwrap(), 100).unwrap())
}

fn stop(pings: [Stream; 2]) -> [Losses; 2] {
    pings.map(|stream| stream.stop().unwrap())
}

/// The flows of both switches, with names in place of the numbers of ports: a switch that restarts numbers them anew. So
/// without the cookies' second byte, which tells flows apart by all that they say.
fn flows(world: &World) -> Vec<Vec<String>> {
    let of = |hypervisor: &bulkhead_lab::Hypervisor| {
        let ports = hypervisor.vsctl(&["list-ports", BRIDGE]).unwrap();
        let number = |port: &str| -> Option<u32> {
            hypervisor.vsctl(&["get", "interface", port, "ofport"]).unwrap().trim().parse().ok()
        };
        let ports: Vec<_> = ports.lines().filter_map(|port| Some((number(port)?, port))).collect();
        let named = |flow: &str| {
            let (head, tail) = flow.trim().split_at_checked(15).unwrap();
            ports.iter().fold(format!("{}..{tail}", &head[..13]), |flow, (number, port)| {
                flow.replace(&format!("set_field:{number:#x}->reg6"), &format!("set_field:{port}->reg6"))
            })
        };
        let flows = hypervisor.ofctl("dump-flows", &["--no-stats", "--names"]).unwrap();
        let mut flows: Vec<_> = flows.lines().map(named).collect();
        flows.sort();
        flows
    };
    world.fabric.hypervisors().iter().map(of).collect()
}

#[test]
fn what_is_undone_by_hand_is_mended_and_told() {
    let Some(world) = World::up(&two("ov-hands", IPV4), Attachments::Discovered) else { return };
    let _listeners = world.listen(&[Service::Tcp(80)]);
    world.reaches("a", "b", Service::Tcp(80));
    let before = flows(&world);
    let hv1 = world.fabric.hypervisor("hv1").unwrap();
    let foreign = ["--id=@one", "create", "controller", "target=\"tcp:127.0.0.1:9\"", "--"];
    let deeds: [(&str, Vec<&str>, &str); 6] = [
        ("a tunnel port is removed", vec!["del-port", BRIDGE, "bh-geneve"], "bh-geneve"),
        ("the controller is removed", vec!["del-controller", BRIDGE], "controller"),
        (
            "a foreign controller is added",
            [&foreign[..], &["add", "bridge", BRIDGE, "controller", "@one"]].concat(),
            "tcp:127.0.0.1:9",
        ),
        (
            "the datapath id is changed",
            vec!["set", "bridge", BRIDGE, "other-config:datapath-id=00000000000000ff"],
            "datapath",
        ),
        ("the switch is to be open without a controller", vec!["set-fail-mode", BRIDGE, "standalone"], "fail_mode"),
        ("the bridge is deleted", vec!["del-br", BRIDGE], "br-int"),
    ];
    for (what, deed, named) in deeds {
        let repairs = world.host("hv1").repairs;
        hv1.vsctl(&["--no-wait", "--"].into_iter().chain(deed).collect::<Vec<_>>()).unwrap();
        let done = Instant::now();
        world.until(what, |status| {
            let hv1 = status.switches.iter().find(|one| one.name == "hv1").and_then(|one| one.host.as_ref());
            hv1.is_some_and(|host| host.shaped && host.repairs > repairs)
        });
        let mended = done.elapsed();
        let told = world.told("hv1");
        assert!(told.lines().any(|line| line.contains("mended") && line.contains(named)), "{what}: {told}");
        if what.contains("bridge") {
            // Whoever plugged them in has to do it again.
            for workload in [world.workload("a"), world.workload("c")] {
                world.plug("hv1", workload.name(), workload.name(), workload.mac());
            }
        }
        world.reaches("a", "b", Service::Tcp(80));
        let back = done.elapsed();
        world.realized();
        println!("{what}: mended after {mended:?}, traffic after {back:?}");
        assert!(back < SECONDS, "{what}: mended after {mended:?}, traffic after {back:?}");
    }
    assert_eq!(flows(&world), before);
}

#[test]
fn a_database_that_restarts_disturbs_no_traffic() {
    let Some(mut world) = World::up(&two("ov-ovsdb", IPV4), Attachments::Discovered) else { return };
    world.reaches("a", "b", Service::Icmp);
    let before = flows(&world);
    let pings = pings(&world);
    world.fabric.stop("hv1", Daemon::Database, End::Crash).unwrap();
    world.until("the loss is told", |status| {
        status.switches.iter().any(|one| one.name == "hv1" && one.host.as_ref().is_some_and(|host| !host.connected))
    });
    world.fabric.start("hv1", Daemon::Database).unwrap();
    let began = Instant::now();
    world.realized();
    println!("the database is back, and known to be after {:?}", began.elapsed());
    let losses = stop(pings);
    println!("meanwhile {losses:?}");
    assert!(losses.iter().all(|losses| losses.lost() == 0 && losses.sent > 20), "{losses:?}");
    assert_eq!(flows(&world), before);
    // What is undone now is mended as before.
    let hv1 = world.fabric.hypervisor("hv1").unwrap();
    hv1.vsctl(&["--no-wait", "del-port", BRIDGE, "bh-geneve"]).unwrap();
    world.until("mended", |status| {
        let hv1 = status.switches.iter().find(|one| one.name == "hv1").and_then(|one| one.host.as_ref());
        hv1.is_some_and(|host| host.repaired.iter().any(|what| what.contains("bh-geneve")))
    });
    world.reaches("a", "b", Service::Icmp);
}

#[test]
fn a_switch_that_restarts_gets_everything_again() {
    let Some(mut world) = World::up(&two("ov-vswitchd", IPV4), Attachments::Discovered) else { return };
    let _listeners = world.listen(&[Service::Tcp(80)]);
    world.reaches("a", "b", Service::Tcp(80));
    let (a, b) = (world.workload("a"), world.workload("b"));
    let live = Live::open(a.namespace(), (b.ip(Family::V6).unwrap(), 80).into(), PATIENCE).unwrap();
    let map = |world: &World| world.fabric.hypervisor("hv2").unwrap().ofctl("dump-tlv-map", &[]).unwrap();
    let mapped = |text: &str| text.contains("0xffb0") && text.contains("tun_metadata0");
    assert!(mapped(&map(&world)), "{}", map(&world));
    let before = flows(&world);
    for how in [End::Orderly, End::Crash] {
        let began = Instant::now();
        world.fabric.restart("hv2", Daemon::Switch, how).unwrap();
        let up = began.elapsed();
        assert!(live.speaks(PATIENCE), "{how:?}: the connection is lost");
        println!("{how:?}: the switch was back after {up:?}, and the connection after {:?}", began.elapsed());
        world.realized();
        until(&format!("{how:?}: tables are exact"), || match flows(&world) {
            now if now == before => Ok(()),
            now => Err(format!("{:#?}", now[1].iter().filter(|flow| !before[1].contains(flow)).collect::<Vec<_>>())),
        });
        assert!(mapped(&map(&world)), "{how:?}: {}", map(&world));
        world.reaches("a", "b", Service::Icmp);
        world.shut("a", "b", Service::Tcp(81));
    }
    assert!(!live.broken());
}

#[test]
fn a_killed_controller_loses_no_packet_between_hypervisors_and_changes_nothing() {
    let Some(mut world) = World::up(&two("ov-kill", IPV4), Attachments::Discovered) else { return };
    world.reaches("a", "b", Service::Icmp);
    let before = flows(&world);
    let pings = pings(&world);
    std::thread::sleep(Duration::from_millis(300));
    world.controller.crash().unwrap();
    assert_eq!(flows(&world), before, "without a controller");
    std::thread::sleep(Duration::from_millis(300));
    world.controller.restart().unwrap();
    let took = world.realized();
    assert_eq!(flows(&world), before, "after the restart");
    let losses = stop(pings);
    println!("realized {took:?} after the restart; {losses:?}");
    assert!(losses.iter().all(|losses| losses.lost() == 0 && losses.sent > 50), "{losses:?}");
    for name in ["hv1", "hv2"] {
        assert_eq!((world.switch(name).drift, world.host(name).repairs), (0, 0), "{name}");
    }
}

#[test]
fn an_underlay_that_does_not_answer_is_a_tunnel_down_and_not_silence() {
    let Some(world) = World::up(&two("ov-cable", IPV4), Attachments::Discovered) else { return };
    world.reaches("a", "b", Service::Icmp);
    let are = |state: &'static str| {
        move |status: &bulkhead_types::StatusAnswer| {
            let mut tunnels = status.switches.iter().flat_map(|switch| &switch.tunnels);
            status.switches.iter().all(|switch| !switch.tunnels.is_empty()) && tunnels.all(|one| one.state == state)
        }
    };
    world.until("tunnels are up", are("up"));
    world.fabric.underlay().cable("hv2", Cable::Out).unwrap();
    let down = world.until("tunnels are down", are("down"));
    let (_, told) = world.cli(&["status"]);
    assert!(told.contains("tunnels: 0 up, 2 down") && told.contains("172.31.0.2"), "{told}");
    world.fabric.underlay().cable("hv2", Cable::In).unwrap();
    let up = world.until("tunnels are up again", are("up"));
    println!("down was told after {down:?}, up after {up:?}");
    assert!(down < DOWN && up < SECONDS, "{down:?}, {up:?}");
    world.reaches("a", "b", Service::Icmp);
    let (_, told) = world.cli(&["status"]);
    assert!(told.contains("tunnels: 2 up, 0 down"), "{told}");
}
