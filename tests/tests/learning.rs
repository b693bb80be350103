//! Who is plugged in at a free port of real Open vSwitch is learned, where a network asks for that, and what he says of
//! others is not believed.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_lab::{
    Family, Hypervisor, Lab, Probe, Service, Spec, Stream, Wire, Workload,
    packets::{BROADCAST, Way, ethernet, tagged},
    workload::INTERFACE,
};
use bulkhead_netlink::{LinkChange, Veth};
use bulkhead_tests::controller::{Controller, PAUSE, program};
use bulkhead_topology::Mac;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Two labs at once would only make each other slow.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// How long anything may take to come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nobody may be learned who must not be: a port is probed for 1.2 s before anybody is, and longer is waited
/// for nobody.
const SILENCE: Duration = Duration::from_secs(6);
/// The switches' names, which nobody gave them.
const LEAVES: [&str; 2] = ["dpid-0000000000000001", "dpid-0000000000000002"];
/// What is in every frame of the attacker's, and in nobody else's.
const MARK: &[u8] = b"from the attacker";

/// Who was learned: where, and with which addresses, by MAC address.
type Learned = BTreeMap<String, (String, String, Vec<String>)>;

/// Two switches with a cable between them, of which nobody told Bulkhead, with a host each (`a`, `b`), and a port each
/// where only a test speaks (`t1`, `t2`).
struct World {
    controller: Controller,
    hosts: BTreeMap<&'static str, Workload>,
    leaves: Vec<Hypervisor>,
    _lab: Lab,
    _alone: MutexGuard<'static, ()>,
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl World {
    /// Everything is up, and `a` and `b` are learned.
    fn up() -> Option<World> {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = bulkhead_lab::missing() {
            eprintln!("NOT TESTED: learning at real switches: {why}");
            return None;
        }
        let mut lab = Lab::new("learning").unwrap();
        let leaves: Vec<_> = (1..=2).map(|id| lab.hypervisor(&format!("leaf{id}"), id).unwrap()).collect();
        let mut hosts = BTreeMap::new();
        for ((name, thief), (leaf, number)) in [("a", "t1"), ("b", "t2")].into_iter().zip(leaves.iter().zip(1..)) {
            let ips = [ip(&format!("10.1.0.{number}")), ip(&format!("fd00::{number}"))];
            hosts.insert(name, lab.workload(leaf, name, mac(number), &ips).unwrap());
            hosts.insert(thief, lab.add(leaf, &Spec::silent(thief, mac(0x60 + number))).unwrap());
        }
        let address = leaves[0].controller_address();
        let controller = Controller::start(&program("bulkheadd").unwrap(), address).unwrap();
        let mut world = World { controller, hosts, leaves, _lab: lab, _alone: alone };
        world.cable();
        world.leaves.iter().for_each(|leaf| leaf.set_controller(world.controller.openflow).unwrap());
        world.apply(&[json!({"kind": "Network", "metadata": {"name": "lab"}, "spec": {"vni": 7001,
            "subnets": ["10.1.0.0/16", "fd00::/64"], "defaultAction": "allow", "learnWorkloads": true}})]);
        for (from, to) in [("a", "b"), ("b", "a")] {
            for family in Family::ALL {
                world.until(&format!("{from} reaches {to}"), |world| world.reaches(from, to, family));
            }
        }
        let at = |leaf: usize, port: &str, ips: [&str; 2]| {
            (LEAVES[leaf].to_owned(), port.to_owned(), ips.map(String::from).to_vec())
        };
        let learned = world.learned();
        assert_eq!(learned[&mac(1).to_string()], at(0, "a", ["10.1.0.1", "fd00::1"]));
        assert_eq!(learned[&mac(2).to_string()], at(1, "b", ["10.1.0.2", "fd00::2"]));
        Some(world)
    }

    fn cable(&self) {
        let [near, far] = [&self.leaves[0], &self.leaves[1]];
        let (mut at_near, mut at_far) = (near.namespace().netlink().unwrap(), far.namespace().netlink().unwrap());
        let veth = Veth { name: "cable", peer: "cable", peer_in: far.namespace(), mac: None, mtu: None };
        at_near.add_veth(&veth).unwrap();
        for (links, leaf) in [(&mut at_near, near), (&mut at_far, far)] {
            links.checksums_off("cable").unwrap();
            links.set("cable", &[LinkChange::Up]).unwrap();
            leaf.add_port("cable", &[]).unwrap();
        }
    }

    fn apply(&self, documents: &[Value]) {
        let client = &self.controller.client;
        let revision = client.apply(documents, false).unwrap_or_else(|error| panic!("{error}")).revision;
        let realization = client.realization(revision, PATIENCE).unwrap();
        assert!(realization.realized, "{realization:?}");
    }

    fn until(&mut self, what: &str, done: impl Fn(&World) -> bool) {
        let began = Instant::now();
        while !done(self) {
            let told = || format!("{:#?}\n{}", self.controller.client.status(), self.controller.log());
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}: {}", told());
            std::thread::sleep(PAUSE);
        }
    }

    fn revision(&self) -> u64 {
        self.controller.client.status().unwrap().revision
    }

    fn learned(&self) -> Learned {
        let workloads = self.controller.client.list("workloads", Some("bulkhead/learned")).unwrap().items;
        let one = |workload: &Value| {
            let interface = &workload["spec"]["interfaces"][0];
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let at = &interface["attachment"];
            let ips = interface["ips"].as_array().unwrap().iter().map(text).collect();
            (text(&interface["mac"]), (text(&at["switch"]), text(&at["port"]), ips))
        };
        workloads.iter().map(one).collect()
    }

    /// How often somebody was not learned, for a reason that begins so.
    fn refused(&self, why: &str) -> u64 {
        let learning = self.controller.client.status().unwrap().learning.unwrap();
        learning.refused.iter().filter(|found| found.why.starts_with(why)).map(|found| found.count).sum()
    }

    fn reaches(&self, from: &str, to: &str, family: Family) -> bool {
        let probe = Probe::new(&self.hosts[from], &self.hosts[to], Service::Icmp, family).unwrap();
        probe.patience(Duration::from_secs(1)).run().unwrap().passed()
    }

    fn wire(&self, host: &str) -> Wire {
        self.hosts[host].wire().unwrap()
    }

    /// Packets of all kinds from `mac` and `from` to `to`'s host, with [`MARK`] in them.
    fn packets(&self, mac: Mac, from: IpAddr, to: &str) -> Vec<Vec<u8>> {
        let host = &self.hosts[to];
        let to = host.ip(Family::of(from)).unwrap();
        let way = Way { from_mac: mac.0, to_mac: host.mac().0, from, to };
        vec![way.echo(MARK), way.udp(4000, 4001, MARK), way.syn(4000, 22, MARK), way.claim(from, mac.0, MARK)]
    }
}

fn marked(frame: &[u8]) -> bool {
    frame.windows(MARK.len()).any(|window| window == MARK)
}

/// What the attacker sent came nowhere.
fn untouched(wires: &[Wire]) {
    for wire in wires {
        let came: Vec<_> = wire.drain(Duration::from_millis(500)).unwrap();
        let marked: Vec<_> = came.iter().filter(|frame| marked(frame)).collect();
        assert!(marked.is_empty(), "{marked:02x?}");
    }
}

#[test]
fn a14_who_says_to_be_a_learned_host_gets_nothing_of_it() {
    let Some(mut world) = World::up() else { return };
    let (before, thief, wires) = (world.learned(), world.wire("t2"), [world.wire("a"), world.wire("b")]);
    // From a free port as `a`: in all of it, and with its address at a MAC of one's own.
    for from in [ip("10.1.0.1"), ip("fd00::1")] {
        for mac in [mac(1), mac(0x62)] {
            world.packets(mac, from, "b").iter().for_each(|frame| thief.inject(frame).unwrap());
        }
    }
    world.until("both lies are counted", |world| {
        world.refused("its MAC address is plugged in elsewhere") > 0 && world.refused("its address is somebody") > 0
    });
    assert_eq!(world.learned(), before);
    // The same of somebody who is learned himself.
    let own = world.packets(mac(0x62), ip("10.1.0.98"), "b");
    world.until("the thief is learned", |world| {
        own.iter().for_each(|frame| thief.inject(frame).unwrap());
        world.learned().len() == 3
    });
    let (before, counted) = (world.learned(), world.refused("its address is somebody"));
    // He may say what he likes in his own name.
    wires.iter().for_each(|wire| _ = wire.drain(Duration::from_millis(500)).unwrap());
    for from in [ip("10.1.0.1"), ip("fd00::1")] {
        for mac in [mac(1), mac(0x62)] {
            world.packets(mac, from, "b").iter().for_each(|frame| thief.inject(frame).unwrap());
        }
    }
    world.until("his lies are counted", |world| world.refused("its address is somebody") > counted);
    untouched(&wires);
    assert_eq!(world.learned(), before);
    assert!(world.reaches("a", "b", Family::V4) && world.reaches("b", "a", Family::V6));
}

#[test]
fn a15_a_storm_of_moves_moves_nobody_and_a_host_that_really_moves_is_found() {
    let Some(mut world) = World::up() else { return };
    let (before, revision, thief) = (world.learned(), world.revision(), world.wire("t2"));
    let stream = Stream::start(world.hosts["a"].namespace(), None, ip("10.1.0.2"), 200).unwrap();
    let frames = world.packets(mac(1), ip("10.1.0.1"), "b");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        frames.iter().for_each(|frame| thief.inject(frame).unwrap());
        std::thread::sleep(Duration::from_millis(1));
    }
    let losses = stream.stop().unwrap();
    println!("{losses:?} while a host said thousands of times to be another");
    assert_eq!((world.learned(), world.revision()), (before, revision));
    assert!(world.refused("its MAC address is plugged in elsewhere") > 0);
    assert!(losses.longest_gap < Duration::from_secs(1), "{losses:?}");
    // The host's own port goes down: it may be somewhere else then.
    let mut links = world.hosts["a"].namespace().netlink().unwrap();
    links.set(INTERFACE, &[LinkChange::Down]).unwrap();
    world.until("it moved", |world| {
        frames.iter().for_each(|frame| thief.inject(frame).unwrap());
        world.learned()[&mac(1).to_string()].1 == "t2"
    });
    // And cannot be at both.
    links.set(INTERFACE, &[LinkChange::Up]).unwrap();
    let counted = world.refused("its MAC address is plugged in elsewhere");
    world.until("who was there first says so in vain", |world| {
        world.reaches("a", "b", Family::V4);
        world.refused("its MAC address is plugged in elsewhere") > counted
    });
    assert_eq!(world.learned()[&mac(1).to_string()].1, "t2");
}

#[test]
fn a15_of_a_flood_of_hosts_at_a_port_one_is_learned() {
    let Some(mut world) = World::up() else { return };
    let (before, revision) = (world.learned().len(), world.revision());
    let thieves = ["t1", "t2"].map(|name| world.wire(name));
    let stream = Stream::start(world.hosts["a"].namespace(), None, ip("10.1.0.2"), 200).unwrap();
    for i in 0..20_000_u32 {
        let [_, _, high, low] = i.to_be_bytes();
        let forged = Mac([2, 0x66, 0, 0, high, low]);
        let to = ip(&format!("10.1.{}.{}", high, low.max(1)));
        let way = Way { from_mac: forged.0, to_mac: BROADCAST, from: ip(&format!("10.1.100.{}", low.max(1))), to };
        thieves.iter().for_each(|thief| thief.inject(&way.claim(way.from, forged.0, MARK)).unwrap());
        if i % 100 == 0 {
            std::thread::sleep(Duration::from_millis(15));
        }
    }
    world.until("it is told", |world| world.refused("too many") > 0);
    let losses = stream.stop().unwrap();
    println!("{losses:?} under 40,000 hosts in few seconds");
    assert!(losses.longest_gap < Duration::from_secs(1), "{losses:?}");
    std::thread::sleep(SILENCE);
    let learned = world.learned();
    assert!(learned.len() <= before + 2, "{learned:?}");
    assert!(learned.values().all(|(_, _, ips)| ips.len() <= 8), "{learned:?}");
    assert!(world.revision() <= revision + 20, "{} revisions", world.revision() - revision);
    assert!(world.reaches("a", "b", Family::V4));
}

#[test]
fn a14_nobody_is_learned_as_somebody_who_is_declared_and_who_is_declared_comes_first() {
    let Some(mut world) = World::up() else { return };
    // One who is not plugged in yet, and one of another network, at the same switch as the thief.
    let db = json!({"kind": "Workload", "metadata": {"name": "db"}, "spec": {"network": "lab",
        "interfaces": [{"mac": mac(7), "ips": ["10.1.0.7"]}]}});
    let prod = |port: &str| {
        json!({"kind": "Workload", "metadata": {"name": "prod"}, "spec": {"network": "prod",
        "interfaces": [{"mac": mac(8), "ips": ["10.9.0.8"], "attachment": {"switch": LEAVES[0], "port": port}}]}})
    };
    world.apply(&[
        db,
        json!({"kind": "Network", "metadata": {"name": "prod"},
               "spec": {"vni": 7009, "subnets": ["10.9.0.0/24"], "defaultAction": "allow"}}),
        prod("t1"),
    ]);
    let (before, thief) = (world.learned(), world.wire("t2"));
    let wires = ["a", "b", "t1"].map(|name| world.wire(name));
    let to_prod =
        |mac: Mac, from: &str| Way { from_mac: mac.0, to_mac: self::mac(8).0, from: ip(from), to: ip("10.9.0.8") };
    let lies = |world: &World| {
        let mut frames = world.packets(mac(7), ip("10.1.0.7"), "a");
        frames.extend(world.packets(mac(0x62), ip("10.1.0.7"), "a"));
        for way in [to_prod(mac(8), "10.9.0.8"), to_prod(mac(0x62), "10.9.0.9"), to_prod(mac(0x62), "10.1.0.99")] {
            frames.extend([way.udp(4000, 4001, MARK), way.claim(way.from, way.from_mac, MARK)]);
        }
        frames
    };
    // What is of another network's subnets is of nobody; what is of this one's makes him somebody of this one.
    let frames: Vec<_> = lies(&world);
    world.until("he is learned as himself", |world| {
        frames.iter().for_each(|frame| thief.inject(frame).unwrap());
        world.learned().len() > before.len() && world.refused("its address is somebody") > 0
    });
    let learned = world.learned();
    let himself = (LEAVES[1].to_owned(), "t2".to_owned(), vec!["10.1.0.99".to_owned()]);
    assert_eq!(learned[&mac(0x62).to_string()], himself);
    assert!(world.refused("its MAC address is plugged in elsewhere") > 0);
    frames.iter().for_each(|frame| thief.inject(frame).unwrap());
    untouched(&wires);

    // Who is declared takes what he was learned with: address, MAC address or port.
    let declared = |name: &str, mac: Mac, ip: &str, port: Option<&str>| {
        let mut interface = json!({"mac": mac, "ips": [ip]});
        if let Some(port) = port {
            interface["attachment"] = json!({"switch": LEAVES[1], "port": port});
        }
        json!({"kind": "Workload", "metadata": {"name": name}, "spec": {"network": "lab", "interfaces": [interface]}})
    };
    world.apply(&[declared("late", mac(0x40), "10.1.0.99", None)]);
    assert!(!world.learned().contains_key(&mac(0x62).to_string()));
    let said = world.packets(mac(0x62), ip("10.1.0.99"), "a");
    said.iter().for_each(|frame| thief.inject(frame).unwrap());
    untouched(&wires);
    world.apply(&[declared("here", mac(0x41), "10.1.0.41", Some("t2"))]);
    std::thread::sleep(SILENCE / 2);
    said.iter().for_each(|frame| thief.inject(frame).unwrap());
    untouched(&wires);
    assert!(!world.learned().contains_key(&mac(0x62).to_string()), "{:?}", world.learned());
}

#[test]
fn a16_what_no_host_sends_makes_nobody_known_and_no_link() {
    let Some(mut world) = World::up() else { return };
    let (before, revision, thief) = (world.learned(), world.revision(), world.wire("t1"));
    let links = |world: &World| world.controller.client.topology().unwrap().links;
    assert!(matches!(&links(&world)[..], [link] if link.state == "up"), "{:#?}", links(&world));
    let way = |mac: Mac, from: &str| Way { from_mac: mac.0, to_mac: BROADCAST, from: ip(from), to: ip("10.1.0.1") };
    let honest = way(mac(0x61), "10.1.0.61");
    let claim = honest.claim(honest.from, honest.from_mac, MARK);
    // MAC addresses and addresses of no host; tags; and the reserved ones of IEEE 802.1Q §8.6.3: LLDP, spanning tree,
    // pauses, authentication; and what nobody knows.
    let mut frames = vec![tagged(&claim, 7), tagged(&claim, 0), claim[..30].to_vec(), claim[..14].to_vec()];
    for from in [Mac([0; 6]), Mac(BROADCAST), Mac([1, 0x80, 0xc2, 0, 0, 0x0e]), Mac([0x33, 0x33, 0, 0, 0, 1])] {
        frames.extend([way(from, "10.1.0.61").claim(honest.from, from.0, MARK), way(from, "10.1.0.61").echo(MARK)]);
    }
    for from in ["0.0.0.0", "10.1.0.0", "10.1.255.255", "255.255.255.255", "224.0.0.5", "192.0.2.1", "127.0.0.1"] {
        frames.extend([way(mac(0x61), from).claim(ip(from), mac(0x61).0, MARK), way(mac(0x61), from).echo(MARK)]);
    }
    for (last, kind) in [(0x0e, 0x88cc), (0, 0x0027), (1, 0x8808), (3, 0x888e), (2, 0x8809), (0x0e, 0x88b5)] {
        frames.push(ethernet([1, 0x80, 0xc2, 0, 0, last], mac(0x61).0, kind, &claim[14..]));
    }
    // A real one, that somebody kept until it is old (a fresh one is a cable, for as long as he passes them on).
    let tap = Wire::open(world.leaves[0].namespace(), "cable").unwrap();
    let lldp = |frame: &[u8]| frame.get(12..14) == Some(&[0x88, 0xcc]);
    frames.push(tap.find(PATIENCE, lldp).unwrap().unwrap());
    // Of another's MAC inside, as somebody who answers for him.
    frames.push(honest.claim(honest.from, mac(0x77).0, MARK));
    std::thread::sleep(SILENCE);
    let wires = ["a", "b", "t2"].map(|name| world.wire(name));
    let began = Instant::now();
    while began.elapsed() < SILENCE {
        frames.iter().for_each(|frame| thief.inject(frame).unwrap());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!((world.learned(), world.revision()), (before, revision));
    untouched(&wires);
    assert!(matches!(&links(&world)[..], [link] if link.state == "up"), "{:#?}", links(&world));
    // As nobody was learned there, the first who is a host is.
    world.until("a host is learned there", |world| {
        thief.inject(&claim).unwrap();
        world.learned().contains_key(&mac(0x61).to_string())
    });
}
