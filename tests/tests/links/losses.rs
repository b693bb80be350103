//! What a failure costs: up to 1,000 packets a second by several ways, while a link, a spine or a leaf is lost, and when it
//! is back.

use crate::{
    LEAVES,
    world::{FURTHER, RATE, SECOND, SPINES, World, further},
};
use bulkhead_lab::{Daemon, End, Family, Stream};
use bulkhead_netlink::LinkChange;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

/// A machine that is busy otherwise loses packets by itself. What a failure costs, it costs each time.
const TRIES: u32 = 3;

/// Between a and addresses of b's by one spine each, and between a and c at one leaf.
struct Streams(BTreeMap<&'static str, Stream>);

/// The stream that leaves no leaf.
const NEAR: &str = "at leaf1";

impl Streams {
    /// Begins, and lets half a second's packets pass.
    fn start(world: &World) -> Self {
        let near = [(NEAR, world.ip("c"))];
        let streams = world.ways().into_iter().chain(near).map(|(name, to)| (name, world.stream(to)));
        let streams = Self(streams.collect());
        std::thread::sleep(SECOND / 2);
        streams
    }

    /// Lets another half second's packets pass, ends, and counts: nobody lost anything, but whoever goes by `failed`, and
    /// that for a second at most.
    fn end(self, what: &str, failed: Option<&str>) -> Result<(), String> {
        std::thread::sleep(SECOND / 2);
        let mut wrong = String::new();
        for (name, stream) in self.0 {
            let losses = stream.stop().unwrap();
            println!("{what}; {name}: {} of {} lost, nothing for {:?}", losses.lost(), losses.sent, losses.longest_gap);
            let right = match Some(name) == failed {
                true => losses.longest_gap <= SECOND && losses.lost() <= RATE,
                false => losses.lost() == 0,
            };
            if !right {
                wrong += &format!("{what}; {name}: {losses:?}. ");
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

impl World {
    /// For each spine an address of b's that a reaches by it, and by it alone there and back.
    fn ways(&self) -> BTreeMap<&'static str, IpAddr> {
        let mut found = BTreeMap::new();
        for to in (0..FURTHER).map(further) {
            if let [spine] = self.spines_to(to)[..] {
                found.entry(spine).or_insert(to);
            }
            if found.len() == SPINES.len() {
                return found;
            }
        }
        panic!("each of these goes by the same spine, or by another one back: {found:?}");
    }

    /// The spines that packets between a and an address of b's pass.
    fn spines_to(&self, to: IpAddr) -> Vec<&'static str> {
        let before = SPINES.map(|spine| self.arrived(spine));
        let stream = self.stream(to);
        std::thread::sleep(SECOND / 5);
        let sent = u64::from(stream.stop().unwrap().sent);
        let passed = SPINES.into_iter().zip(before).filter(|(spine, before)| self.arrived(spine) - before > sent / 2);
        passed.map(|(spine, _)| spine).collect()
    }

    /// Frames that have come to a spine.
    fn arrived(&self, spine: &str) -> u64 {
        // Of the namespace that the thread is in (proc(5), /proc/net/dev): a name, bytes, packets.
        let read = || std::fs::read_to_string("/proc/thread-self/net/dev");
        let table = self.switches[spine].namespace().run(read).unwrap().unwrap();
        let ports = table.lines().filter(|line| line.trim_start().starts_with("to-"));
        ports.map(|line| line.split_whitespace().nth(2).unwrap().parse::<u64>().unwrap()).sum()
    }

    fn has_two_ways(&self) -> bool {
        self.is_whole() && self.cli(&["path", "a", "b"]).1.starts_with("2 equal ways")
    }

    fn has_one_way(&self) -> bool {
        self.cli(&["path", "a", "b"]).1.starts_with("one way: leaf1 to leaf2, 2 links\n")
    }

    /// Something fails and comes back, until nobody loses what he need not.
    fn fails(&mut self, what: &str, by: &str, fail: impl Fn(&mut World), mend: impl Fn(&mut World)) {
        for attempt in 1.. {
            let streams = Streams::start(self);
            fail(self);
            let took = self.until(what, World::has_one_way);
            let down = streams.end(&format!("{what}, known after {took:?}"), Some(by));
            self.judge();
            // Nobody goes that way now, so nobody notices that it is back.
            let ways = Streams(BTreeMap::from([
                ("the other way", self.stream(further(0))),
                (NEAR, self.stream(self.ip("c"))),
            ]));
            mend(self);
            self.until("both ways again", World::has_two_ways);
            match down.and(ways.end(&format!("{what}, and is back"), None)) {
                Ok(()) => break,
                Err(wrong) if attempt == TRIES => panic!("{wrong}"),
                Err(wrong) => println!("again: {wrong}"),
            }
        }
        self.judge();
    }
}

#[test]
fn a_link_that_is_lost_costs_the_packets_that_went_by_it() {
    let Some(mut world) = World::up(LEAVES) else { return };
    for spine in SPINES {
        let set = |to: LinkChange| {
            move |world: &mut World| {
                let mut links = world.switches[spine].namespace().netlink().unwrap();
                links.set("to-leaf2", std::slice::from_ref(&to)).unwrap();
            }
        };
        world.fails(&format!("{spine} to leaf2 is down"), spine, set(LinkChange::Down), set(LinkChange::Up));
    }
}

#[test]
fn a_spine_that_dies_with_its_carriers_on_costs_the_packets_that_went_by_it() {
    let Some(mut world) = World::up(LEAVES) else { return };
    for spine in SPINES {
        let crash = |world: &mut World| {
            let switch = world.switches[spine].clone();
            world.lab.stop_daemon(&switch, Daemon::Switch, End::Crash).unwrap();
        };
        let start = |world: &mut World| {
            let (_, told) = world.cli(&["status"]);
            assert!(told.contains("is not connected, and there are other ways"), "{told}");
            let switch = world.switches[spine].clone();
            world.lab.start_daemon(&switch, Daemon::Switch).unwrap();
        };
        world.fails(&format!("{spine} died"), spine, crash, start);
    }
}

#[test]
fn a_leaf_that_dies_takes_nobody_but_its_own_hosts_with_it_and_they_come_back_by_themselves() {
    let Some(mut world) = World::up(&["leaf1", "leaf2", "leaf3"]) else { return };
    let connected = |world: &World| {
        let status = world.controller.client.status().unwrap();
        status.switches.iter().any(|switch| switch.name == "leaf3" && switch.connected)
    };
    let leaf = world.switches["leaf3"].clone();
    // What is in the cookies beside causes may be another thing each time.
    let flows = || -> BTreeSet<String> {
        let all = leaf.flows().unwrap();
        all.iter().filter_map(|flow| Some(flow.split_once(", ")?.1.to_owned())).collect()
    };
    let before = flows();
    for attempt in 1.. {
        let others = Streams::start(&world);
        let mine = world.stream(world.ip("e"));
        std::thread::sleep(SECOND / 2);
        world.lab.stop_daemon(&leaf, Daemon::Switch, End::Crash).unwrap();
        let took = world.until("the leaf is gone", |world| !connected(world));
        std::thread::sleep(SECOND);
        let gone = others.end(&format!("leaf3 died, known after {took:?}"), None);
        let losses = mine.stop().unwrap();
        assert!(losses.answered >= RATE / 4 && losses.longest_gap >= SECOND, "{losses:?}");
        let others = Streams::start(&world);
        world.lab.start_daemon(&leaf, Daemon::Switch).unwrap();
        let took = world.until("its host again", |world| world.ping("a", "e", Family::V4, SECOND / 10).passed());
        println!("leaf3 is back; its host after {took:?}");
        let back = others.end("leaf3 is back", None);
        match gone.and(back) {
            Ok(()) => break,
            Err(wrong) if attempt == TRIES => panic!("{wrong}"),
            Err(wrong) => println!("again: {wrong}"),
        }
    }
    world.until("every link", World::is_whole);
    world.judge();
    for family in Family::ALL {
        assert!(world.ping("e", "b", family, SECOND).passed() && world.ping("a", "e", family, SECOND).passed());
        assert!(!world.ping("e", "d", family, Duration::from_millis(500)).passed(), "{family:?}");
    }
    assert_eq!(flows(), before);
}
