//! What is plugged in: who is not known gets nothing, who is known nothing that policy does not allow, from the first
//! packet on.

use crate::world::{Attachments, IPV4, SILENCE, World, two, until};
use bulkhead_lab::{Family, Namespace, Service, Spec, Wire, hypervisor::BRIDGE, packets::Way};
use bulkhead_netlink::{LinkChange, Veth};
use bulkhead_topology::Mac;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

const STRANGER: Mac = Mac([2, 0xbb, 0, 0, 0, 0x77]);

fn stranger() -> Spec {
    let ips = vec![("10.0.0.77".parse().unwrap(), 24), ("fd00::77".parse().unwrap(), 64)];
    Spec { ips, routes: Vec::new(), ..Spec::new("stranger", STRANGER, &[]) }
}

fn document(mac: Mac) -> Value {
    json!({"kind": "Workload", "metadata": {"name": "stranger", "labels": {"app": "x"}}, "spec": {
        "network": "one", "interfaces": [{"mac": mac.to_string(), "ips": ["10.0.0.77", "fd00::77"]}]}})
}

#[test]
fn an_unknown_interface_is_quarantined_and_told_until_it_is_somebodys() {
    let Some(mut world) = World::up(&two("ov-unknown", IPV4), Attachments::Discovered) else { return };
    let a = world.workload("a");
    let _listeners = world.listen(&[Service::Tcp(80)]);
    let seen: Vec<Wire> = ["a", "b", "c"].iter().map(|name| world.workload(name).wire().unwrap()).collect();
    let tap = world.fabric.underlay().tap("hv1").unwrap();
    let hv1 = world.fabric.hypervisor("hv1").unwrap().clone();
    let stranger = world.fabric.lab().add(&hv1, &stranger()).unwrap();
    let quarantined = |port: &'static str| {
        move |status: &bulkhead_types::StatusAnswer| {
            let mut hosts = status.switches.iter().filter_map(|switch| switch.host.as_ref());
            hosts.any(|host| host.quarantined.iter().any(|one| one.port == port))
        }
    };
    world.until("it is told of", quarantined("stranger"));
    for told in [world.told("hv1"), world.cli(&["status"]).1] {
        let named = told.lines().any(|line| line.contains("stranger") && line.contains(&STRANGER.to_string()));
        assert!(named && told.contains("there is no workload stranger"), "{told}");
    }
    let (_, ports) = world.cli(&["ports", "hv1"]);
    for (port, at) in [("stranger", "quarantine   stranger"), ("a ", "workload     a"), ("bh-geneve", "tunnel")] {
        assert!(ports.lines().any(|line| line.starts_with(port) && line.contains(at)), "{port}: {ports}");
    }
    let ask = |from: &bulkhead_lab::Workload, to: &bulkhead_lab::Workload, service, family| {
        bulkhead_lab::Probe::new(from, to, service, family).unwrap().patience(SILENCE).run().unwrap()
    };
    for family in Family::ALL {
        for service in [Service::Icmp, Service::Tcp(80)] {
            assert!(!ask(&stranger, &a, service, family).passed(), "{service} from the stranger");
            assert!(!ask(&stranger, &world.workload("b"), service, family).passed(), "{service} from the stranger");
            assert!(!ask(&a, &stranger, service, family).passed(), "{service} to the stranger");
        }
    }
    for wire in seen.iter().chain([&tap]) {
        let found = wire.drain(Duration::ZERO).unwrap();
        let of_it = |frame: &Vec<u8>| frame.windows(6).any(|part| part == STRANGER.0);
        assert!(!found.iter().any(of_it), "a packet of the stranger's got out");
    }
    // With another MAC it is not that one; with its own it is, at once.
    world.apply(&[document(Mac([2, 0xbb, 0, 0, 0, 0x78]))]);
    world.until("why is told", |status| {
        let mut hosts = status.switches.iter().filter_map(|switch| switch.host.as_ref());
        hosts.any(|host| host.quarantined.iter().any(|one| one.why.contains("has no interface 02:bb:00:00:00:77")))
    });
    let began = Instant::now();
    world.apply(&[document(STRANGER)]);
    until("it works", || {
        if ask(&stranger, &a, Service::Tcp(80), Family::V4).passed() { Ok(()) } else { Err("silence".into()) }
    });
    let took = began.elapsed();
    println!("{took:?} from the document to the first connection");
    assert!(took < Duration::from_secs(3), "{took:?}");
    let b = world.workload("b");
    for (family, (from, to)) in
        Family::ALL.into_iter().flat_map(|family| [(family, (&stranger, &b)), (family, (&b, &stranger))])
    {
        // The other switch may have it a moment later.
        until("it works from elsewhere", || match ask(from, to, Service::Icmp, family).passed() {
            true => Ok(()),
            false => Err(format!("{family:?} from {} to {}", from.name(), to.name())),
        });
    }
    world.until("nobody is quarantined", |status| !quarantined("stranger")(status));

    // A tunnel port that says to be a workload's: not believed, and it keeps nobody else from being found.
    let mac = format!("external_ids:attached-mac=\"{}\"", world.workload("b").mac());
    hv1.vsctl(&["set", "interface", "bh-geneve", "external_ids:iface-id=b", &mac]).unwrap();
    world.fabric.carry("b", "hv1").unwrap();
    world.reaches("a", "b", Service::Tcp(80));
    world.fabric.carry("b", "hv2").unwrap();
    world.reaches("a", "b", Service::Tcp(80));
}

/// Somebody who sends 1000 packets a second from before it is plugged in on, of which policy allows every second one.
struct Hasty {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// What its packets carry: those that policy allows, and others.
const GOOD: &[u8] = b"may be sent";
const BAD: &[u8] = b"may not be sent";

impl Hasty {
    /// An interface `hasty` in the hypervisor's namespace; its other end is in the namespace of nobody.
    fn start(world: &World, hypervisor: &str) -> Hasty {
        let at = world.fabric.hypervisor(hypervisor).unwrap();
        let inside: Namespace = world.fabric.underlay().rogue().clone();
        let mut links = at.namespace().netlink().unwrap();
        let veth = Veth { name: "hasty", peer: "hasty0", peer_in: &inside, mac: Some(STRANGER.0), mtu: None };
        links.add_veth(&veth).unwrap();
        links.set("hasty", &[LinkChange::Up]).unwrap();
        inside.netlink().unwrap().set("hasty0", &[LinkChange::NoArp, LinkChange::Up]).unwrap();
        let wire = Wire::open(&inside, "hasty0").unwrap();
        let frames = frames(world);
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (flag, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let work = move || {
            for frame in frames.iter().cycle().take_while(|_| !flag.load(Ordering::Relaxed)) {
                wire.inject(frame).unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(900));
            }
        };
        Hasty { stop, sent, thread: Some(std::thread::spawn(work)) }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Hasty {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join).transpose().unwrap();
    }
}

/// To `b` and to `c`: echo requests, which are allowed; datagrams, SYNs and other people's addresses, which are not.
fn frames(world: &World) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for to in ["b", "c"] {
        let (to, a) = (world.workload(to), world.workload("a"));
        for (family, own) in Family::ALL.into_iter().zip(["10.0.0.77", "fd00::77"]) {
            let (from_mac, to_mac) = (STRANGER.0, to.mac().0);
            let way = Way { from_mac, to_mac, from: own.parse().unwrap(), to: to.ip(family).unwrap() };
            let good = way.echo(GOOD);
            let other = Way { from: a.ip(family).unwrap(), ..way };
            let both = Way { from_mac: a.mac().0, ..other };
            for bad in [way.udp(1, 9, BAD), way.syn(1, 81, BAD), other.echo(BAD), both.echo(BAD), way.ip(99, BAD)] {
                frames.extend([good.clone(), bad]);
            }
            frames.push(way.claim(a.ip(family).unwrap(), STRANGER.0, BAD));
        }
    }
    frames
}

fn has(frame: &[u8], mark: &[u8]) -> bool {
    frame.windows(mark.len()).any(|part| part == mark)
}

#[test]
fn r27_a_port_is_shut_until_its_program_is_there() {
    let Some(mut world) = World::up(&two("ov-hasty", IPV4), Attachments::Discovered) else { return };
    world.apply(&[document(STRANGER)]);
    world.reaches("b", "c", Service::Icmp);
    let hasty = Hasty::start(&world, "hv1");
    let mut seen: Vec<(&str, Wire)> = ["a", "b", "c"].map(|name| (name, world.workload(name).wire().unwrap())).into();
    seen.push(("hv1's underlay", world.fabric.underlay().tap("hv1").unwrap()));
    // Good and bad ones that came since it was asked last.
    let came = || -> Vec<(&str, usize, usize)> {
        let count = |frames: &[Vec<u8>], mark| frames.iter().filter(|frame| has(frame, mark)).count();
        let each = seen.iter().map(|(name, wire)| (*name, wire.drain(Duration::ZERO).unwrap()));
        each.map(|(name, frames)| (name, count(&frames, GOOD), count(&frames, BAD))).collect()
    };
    // Without a controller: nothing at all, however long it sends.
    world.controller.crash().unwrap();
    world.plug("hv1", "hasty", "stranger", STRANGER);
    let before = hasty.sent();
    until("it has sent", || if hasty.sent() > before + 500 { Ok(()) } else { Err(format!("{}", hasty.sent())) });
    assert!(came().iter().all(|(_, good, bad)| (*good, *bad) == (0, 0)), "{:?}", came());
    world.controller.restart().unwrap();
    let arrives = |world: &World| {
        let mut good = 0;
        until("what is allowed comes", || {
            for (name, some, bad) in came() {
                assert_eq!(bad, 0, "{name} received what policy does not allow\n{}", world.controller.log());
                good += if name == "b" { some } else { 0 };
            }
            if good > 100 { Ok(()) } else { Err(format!("{good} came\n{:#?}", world.status())) }
        })
    };
    arrives(&world);
    // With one, again and again: out, and in at the same place.
    let hv1 = world.fabric.hypervisor("hv1").unwrap();
    for _ in 0..3 {
        hv1.del_port("hasty").unwrap();
        world.plug("hv1", "hasty", "stranger", STRANGER);
        let took = arrives(&world);
        println!("a hundred of its packets had come {took:?} after it was plugged in, and no wrong one");
    }
    assert!(hv1.vsctl(&["list-ports", BRIDGE]).unwrap().contains("hasty"));
}
