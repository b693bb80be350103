//! Real Open vSwitch bridges with cables between them and nothing declared but the switches: links are found, lost and
//! not forged, and packets take the ways that there are.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_lab::{Answer, Daemon, End, Family, Hypervisor, Lab, Probe, Service, Stream, Wire, Workload};
use bulkhead_netlink::{LinkChange, Veth};
use bulkhead_tests::controller::{Controller, PAUSE, program};
use bulkhead_types::TopologyAnswer;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Two labs at once would only make each other slow.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// How long anything may take to come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// How long something has to stay away that must not come: three probes' time and more.
const SILENCE: Duration = Duration::from_secs(5);

/// Two leaves with workloads, two spines, and a cable from each leaf to each spine.
struct World {
    controller: Controller,
    hosts: BTreeMap<String, Workload>,
    switches: BTreeMap<&'static str, Hypervisor>,
    lab: Lab,
    _alone: MutexGuard<'static, ()>,
}

const LEAVES: [&str; 2] = ["leaf1", "leaf2"];
const SPINES: [&str; 2] = ["spine1", "spine2"];

impl World {
    fn up() -> Option<World> {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = bulkhead_lab::missing() {
            eprintln!("NOT TESTED: links between real switches: {why}");
            return None;
        }
        let mut lab = Lab::new("links").unwrap();
        let names = LEAVES.into_iter().chain(SPINES).zip(1..);
        let switches: BTreeMap<_, _> = names.map(|(name, id)| (name, lab.hypervisor(name, id).unwrap())).collect();
        let mut hosts = BTreeMap::new();
        for (name, leaf, number) in [("a", "leaf1", 1), ("b", "leaf2", 2), ("c", "leaf1", 3), ("d", "leaf2", 4)] {
            let ips = [format!("10.1.0.{number}"), format!("fd00::{number}")].map(|ip| ip.parse().unwrap());
            let mac = format!("02:00:00:00:00:0{number}").parse().unwrap();
            hosts.insert(name.to_owned(), lab.workload(&switches[leaf], name, mac, &ips).unwrap());
        }
        let address = switches["leaf1"].controller_address();
        let controller = Controller::start(&program("bulkheadd").unwrap(), address).unwrap();
        let mut world = World { controller, hosts, switches, lab, _alone: alone };
        for leaf in LEAVES {
            for spine in SPINES {
                world.cable((leaf, &format!("to-{spine}")), (spine, &format!("to-{leaf}")));
            }
        }
        for switch in world.switches.values() {
            switch.set_controller(world.controller.openflow).unwrap();
        }
        world.apply(&world.documents());
        world.until("all switches connected", |world| {
            let status = world.controller.client.status().unwrap();
            status.switches.iter().all(|switch| switch.connected && switch.acknowledged >= status.revision)
        });
        Some(world)
    }

    /// A cable: made in the one namespace, its far end in the other.
    fn cable(&self, near: (&str, &str), far: (&str, &str)) {
        let [a, b] = [near.0, far.0].map(|name| &self.switches[name]);
        let (mut at_a, mut at_b) = (a.namespace().netlink().unwrap(), b.namespace().netlink().unwrap());
        let veth = Veth { name: near.1, peer: far.1, peer_in: b.namespace(), mac: None, mtu: None };
        at_a.add_veth(&veth).unwrap();
        for (links, port) in [(&mut at_a, near.1), (&mut at_b, far.1)] {
            links.checksums_off(port).unwrap();
            links.set(port, &[LinkChange::Up]).unwrap();
        }
        a.add_port(near.1, &[]).unwrap();
        b.add_port(far.1, &[]).unwrap();
    }

    fn documents(&self) -> Vec<Value> {
        let mut documents = vec![json!({"kind": "Network", "metadata": {"name": "net"},
            "spec": {"vni": 5001, "subnets": ["10.1.0.0/24", "fd00::/64"]}})];
        for (name, id) in LEAVES.into_iter().chain(SPINES).zip(1..) {
            let role = name.trim_end_matches(|c: char| c.is_ascii_digit());
            documents.push(json!({"kind": "Switch", "metadata": {"name": name},
                "spec": {"driver": "openflow", "datapathId": format!("{id:#x}"), "role": role}}));
        }
        for (name, host) in &self.hosts {
            let leaf = if matches!(name.as_str(), "a" | "c") { "leaf1" } else { "leaf2" };
            // Who is d is asked by nobody.
            let app = if name == "d" { "other" } else { "x" };
            documents.push(json!({"kind": "Workload", "metadata": {"name": name, "labels": {"app": app}},
                "spec": {"network": "net", "interfaces": [{"mac": host.mac(), "ips": host.ips(),
                         "attachment": {"switch": leaf, "port": name}}]}}));
        }
        let x = json!({"matchLabels": {"app": "x"}});
        let ports = json!([{"protocol": "icmp", "type": 8}, {"protocol": "icmpv6", "type": 128}]);
        documents.push(json!({"kind": "Policy", "metadata": {"name": "ping"}, "spec": {"subject": x,
            "ingress": [{"action": "allow", "from": [x], "ports": ports}],
            "egress": [{"action": "allow", "to": [x], "ports": ports}]}}));
        documents
    }

    fn apply(&self, documents: &[Value]) {
        self.controller.client.apply(documents, false).unwrap_or_else(|error| panic!("{error}"));
    }

    fn topology(&self) -> TopologyAnswer {
        self.controller.client.topology().unwrap()
    }

    fn up_links(&self) -> usize {
        self.topology().links.iter().filter(|link| link.state == "up").count()
    }

    fn until(&mut self, what: &str, done: impl Fn(&World) -> bool) -> Duration {
        let began = Instant::now();
        while !done(self) {
            let told = || format!("{:#?}\n{}", self.topology(), self.controller.log());
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}: {}", told());
            std::thread::sleep(PAUSE);
        }
        began.elapsed()
    }

    /// What the operator's command line prints, and its exit code.
    fn cli(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut cli = Command::new(program("bulkhead").unwrap());
        let server = self.controller.client.server();
        cli.env_remove("BULKHEAD_SERVER").args(["--server", server]).args(arguments);
        let output = cli.stdin(Stdio::null()).output().unwrap();
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        (output.status.code(), told)
    }

    fn ping(&self, from: &str, to: &str, family: Family, patience: Duration) -> Answer {
        let probe = Probe::new(&self.hosts[from], &self.hosts[to], Service::Icmp, family).unwrap();
        probe.patience(patience).run().unwrap()
    }

    /// 1,000 packets a second from `a` to `b`, of which the first half second's have passed when this returns.
    fn stream(&self) -> Stream {
        let to = self.hosts["b"].ip(Family::V4).unwrap();
        let stream = Stream::start(self.hosts["a"].namespace(), None, to, 1_000).unwrap();
        std::thread::sleep(SECOND / 2);
        stream
    }

    /// Allowed pairs reach each other, and denied ones do not.
    fn judge(&mut self) {
        for family in Family::ALL {
            for (from, to) in [("a", "b"), ("b", "a"), ("c", "b"), ("a", "c")] {
                self.until(&format!("{from} to {to}, {family:?}"), |world| {
                    world.ping(from, to, family, Duration::from_secs(1)).passed()
                });
            }
            for (from, to) in [("a", "d"), ("d", "a"), ("d", "b")] {
                assert!(
                    !self.ping(from, to, family, Duration::from_millis(500)).passed(),
                    "{from} to {to}, {family:?}"
                );
            }
        }
    }
}

/// Ends a stream a while later, and counts: nothing was lost but for a second at most.
fn repaired(what: &str, stream: Stream) {
    std::thread::sleep(SECOND / 2);
    let losses = stream.stop().unwrap();
    println!("{what}: {} of {} packets lost, nothing came for {:?}", losses.lost(), losses.sent, losses.longest_gap);
    assert!(losses.longest_gap <= SECOND && losses.lost() <= 1_000, "{what}: {losses:?}");
}

#[test]
fn packets_go_between_switches_of_which_nothing_is_declared_but_themselves() {
    let Some(mut world) = World::up() else { return };
    world.until("four links", |world| world.up_links() == 4);
    assert!(world.topology().links.iter().all(|link| link.discovered && link.name.is_none()));
    world.judge();
    let (code, told) = world.cli(&["path", "a", "b"]);
    assert!(code == Some(0) && told.starts_with("2 equal ways: leaf1 to leaf2, 2 links\n"), "{told}");
    let (_, told) = world.cli(&["status"]);
    assert!(told.contains("links: 4 up, 0 down\n"), "{told}");
    let revision = world.topology().revision;

    // 1,000 packets a second while one of the ways goes, and then the other one: they take one of both.
    for spine in SPINES {
        let stream = world.stream();
        let mut links = world.switches[spine].namespace().netlink().unwrap();
        links.set("to-leaf2", &[LinkChange::Down]).unwrap();
        let took = world.until("the link is down", |world| world.up_links() == 3);
        repaired(&format!("{spine} to leaf2 is down, told after {took:?}"), stream);
        let (code, told) = world.cli(&["path", "a", "b"]);
        assert!(code == Some(0) && told.starts_with("one way: leaf1 to leaf2, 2 links\n"), "{told}");
        let (_, told) = world.cli(&["status"]);
        assert!(told.contains("links: 3 up, 1 down\n") && told.contains("is down"), "{told}");
        world.judge();
        links.set("to-leaf2", &[LinkChange::Up]).unwrap();
        world.until("the link is back", |world| world.up_links() == 4);
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
fn a_spine_that_dies_with_its_carriers_on_is_gone_round() {
    let Some(mut world) = World::up() else { return };
    world.until("four links", |world| world.up_links() == 4);
    for spine in SPINES {
        let stream = world.stream();
        world.lab.stop_daemon(&world.switches[spine], Daemon::Switch, End::Crash).unwrap();
        world.until("packets go the other way", |world| {
            world.cli(&["path", "a", "b"]).1.starts_with("one way: leaf1 to leaf2, 2 links\n")
        });
        repaired(&format!("{spine} died"), stream);
        let (_, told) = world.cli(&["status"]);
        assert!(told.contains("is not connected, and there are other ways"), "{told}");
        world.judge();
        world.lab.start_daemon(&world.switches[spine], Daemon::Switch).unwrap();
        world.until("the spine is back", |world| {
            world.up_links() == 4 && world.cli(&["path", "a", "b"]).1.starts_with("2 equal ways")
        });
    }
}

#[test]
fn a12_lldp_of_a_host_makes_no_link_and_is_told() {
    let Some(mut world) = World::up() else { return };
    world.until("four links", |world| world.up_links() == 4);
    // Somebody listens on a cable, keeps what he hears, and has it sent by a workload, and by a free port.
    let tap = Wire::open(world.switches["spine1"].namespace(), "to-leaf1").unwrap();
    let lldp = |frame: &[u8]| frame.get(12..14) == Some(&[0x88, 0xcc]);
    let kept = tap.find(PATIENCE, lldp).unwrap().unwrap();
    let leaf = &world.switches["leaf2"];
    let veth = Veth { name: "free", peer: "stranger", peer_in: leaf.namespace(), mac: None, mtu: None };
    let mut links = leaf.namespace().netlink().unwrap();
    links.add_veth(&veth).unwrap();
    links.set("free", &[LinkChange::Up]).unwrap();
    links.set("stranger", &[LinkChange::Up]).unwrap();
    leaf.add_port("free", &[]).unwrap();
    let stranger = Wire::open(leaf.namespace(), "stranger").unwrap();
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
}

#[test]
fn a_cabling_loop_is_told_and_nothing_runs_round() {
    let Some(mut world) = World::up() else { return };
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
