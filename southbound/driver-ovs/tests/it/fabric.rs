//! What carries packets between switches, on a real ovs-vswitchd: choices among ports, links, and tags that cost nothing.

use crate::rig;
use bulkhead_dataplane::{Command, Outgoing, Report, ToDrivers};
use bulkhead_driver_ovs::{
    groups::{GROUP_MASK, GROUP_OWNER},
    layout::COOKIE_OWNER,
};
use bulkhead_lab::{
    Spec, Wire, Workload,
    packets::{self, Way},
    workload::INTERFACE,
};
use bulkhead_pipeline::{Action, Builtin, Cause, Entry, Field, Match, Next, Output, Program, Stage, ethertype, vlan};
use bulkhead_topology::Port;
use rig::{PATIENCE, Rig, name};
use std::{
    collections::{BTreeMap, BTreeSet},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::timeout};

/// A packet that does not come within it is lost.
const LOST: Duration = Duration::from_secs(1);
/// Connections that are tried.
const FLOWS: u16 = 64;
const SRC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const DST: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Bits of an Ethernet source: locally administered (IEEE 802), and another one.
const LOCAL: u128 = 1 << 41;
const FLAG: u128 = 1 << 47;

fn port(name: &str) -> Port {
    Port::Name(name.into())
}

fn among(names: &[&str]) -> Action {
    Action::Output(Output::among(names.iter().map(|name| port(name)).collect()).unwrap())
}

fn entry(priority: u16, matches: Match, actions: Vec<Action>) -> Entry {
    Entry::new(Stage::Classify, priority, matches, actions, Next::Done, Cause::Builtin(Builtin::Deliver))
}

/// What comes in by port `a` goes out of one of these ports.
fn spread(names: &[&str]) -> Entry {
    entry(10, Match::any().port(port("a")), vec![among(names)])
}

/// One packet of a connection, with so many bytes in it. (Open vSwitch spreads UDP by its addresses alone.)
fn tcp(source: u16, length: usize) -> Vec<u8> {
    let way = Way { from_mac: SRC, to_mac: DST, from: [10, 1, 0, 1].into(), to: [10, 1, 0, 2].into() };
    way.syn(source, 80, &vec![7; length])
}

/// A switch with ports `a`, `p1`, `p2` and `p3`, connected, and what is plugged in there.
async fn start() -> Option<(Rig, Vec<Workload>, BTreeMap<&'static str, Wire>)> {
    let mut rig = Rig::bare().await?;
    let mut plugged = Vec::new();
    let mut wires = BTreeMap::new();
    for (at, name) in ["a", "p1", "p2", "p3"].into_iter().enumerate() {
        let mac = format!("02:00:00:00:01:{at:02x}").parse().unwrap();
        let workload = rig.lab.add(&rig.hypervisor, &Spec { mtu: 1500, ..Spec::silent(name, mac) }).unwrap();
        wires.insert(name, workload.wire().unwrap());
        plugged.push(workload);
    }
    rig.attach(1).await;
    rig.connect();
    assert!(matches!(rig.report().await, Report::Connected { .. }));
    same(&mut rig, &[], 0).await;
    Some((rig, plugged, wires))
}

/// Sends every connection's first two packets by `a`, and says which ports each came out of.
fn ways(wires: &BTreeMap<&'static str, Wire>) -> BTreeMap<u16, Vec<&'static str>> {
    for source in (1..=FLOWS).chain(1..=FLOWS) {
        wires["a"].inject(&tcp(source, 10)).unwrap();
    }
    let mut ways: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    let (began, mut quiet) = (Instant::now(), false);
    // Until all are there, and then until no more come.
    while !quiet {
        quiet = ways.values().map(Vec::len).sum::<usize>() >= usize::from(2 * FLOWS) || began.elapsed() > LOST;
        for (name, wire) in wires.iter().filter(|(name, _)| **name != "a") {
            while let Some(frame) = wire.receive(Duration::from_millis(20)).unwrap() {
                if frame.len() == tcp(1, 10).len() && frame[..12] == [DST, SRC].concat() {
                    ways.entry(u16::from_be_bytes([frame[34], frame[35]])).or_default().push(*name);
                }
            }
        }
    }
    ways
}

/// Every connection has one way, and these ports are those that there are.
fn spreads(wires: &BTreeMap<&'static str, Wire>, over: &[&str]) {
    let began = Instant::now();
    loop {
        let ways = ways(wires);
        assert!(ways.values().all(|way| way.len() <= 2), "twice: {ways:?}");
        let used: BTreeSet<&str> = ways.values().flatten().copied().collect();
        let whole = ways.len() == usize::from(FLOWS) && ways.values().all(|way| way.len() == 2 && way[0] == way[1]);
        if whole && used == over.iter().copied().collect() {
            return;
        }
        // What the switch has decided it remembers for a moment.
        assert!(began.elapsed() < PATIENCE, "{ways:?}");
    }
}

/// The numbers of the switch's groups.
fn groups(rig: &Rig) -> Vec<u32> {
    let all = rig.hypervisor.ofctl("dump-groups", &[]).unwrap();
    let id = |line: &str| line.split_once("group_id=")?.1.split(',').next()?.parse().ok();
    // Told in the order of a hash.
    let mut groups: Vec<u32> = all.lines().filter_map(id).collect();
    groups.sort_unstable();
    groups
}

/// Waits until the switch has so many groups of ours, and no more: what nobody uses stays for some seconds.
async fn groups_become(rig: &mut Rig, wanted: usize) {
    let began = Instant::now();
    while groups(rig).iter().filter(|group| **group & GROUP_MASK == GROUP_OWNER).count() != wanted {
        assert!(began.elapsed() < PATIENCE, "{:?}", groups(rig));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn same(rig: &mut Rig, entries: &[Entry], alien: usize) {
    assert_eq!(rig.read().await, (Program::from_iter(entries.iter().cloned()), alien));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_spread_over_ports_and_follow_them() {
    let Some((mut rig, plugged, mut wires)) = start().await else { return };
    rig.hypervisor.ofctl("add-group", &["group_id=7,type=all,bucket=output:1"]).unwrap();
    let (three, two) = (spread(&["p1", "p2", "p3"]), spread(&["p1", "p3"]));
    let other = entry(9, Match::any().port(port("p1")), vec![among(&["p1", "p2", "p3"])]);
    rig.apply(vec![], vec![three.clone(), other.clone()]).await.unwrap();
    assert_eq!(groups(&rig), [7, GROUP_OWNER], "one for both");
    spreads(&wires, &["p1", "p2", "p3"]);
    // Of two entries that choose alike, one chooses otherwise now, then none of them as before.
    rig.apply(vec![], vec![two.clone()]).await.unwrap();
    assert_eq!(groups(&rig).len(), 3);
    spreads(&wires, &["p1", "p3"]);
    same(&mut rig, &[two.clone(), other.clone()], 0).await;
    rig.apply(vec![other], vec![]).await.unwrap();
    groups_become(&mut rig, 1).await;
    spreads(&wires, &["p1", "p3"]);
    let before = (rig.hypervisor.flows().unwrap().len(), groups(&rig));
    // Another session finds what there is, and knows it.
    rig.commands.send(ToDrivers::Detach { switch: name() }).await.unwrap();
    assert!(matches!(rig.report().await, Report::Disconnected(_)));
    spreads(&wires, &["p1", "p3"]);
    rig.attach(2).await;
    assert!(matches!(rig.report().await, Report::Connected { .. }));
    same(&mut rig, std::slice::from_ref(&two), 0).await;
    assert_eq!((rig.hypervisor.flows().unwrap().len(), groups(&rig)), before);
    // A link that goes down is left out by the switch itself, and comes back.
    let link = |up| {
        let end = plugged[1].namespace().name().to_owned();
        let done = process::Command::new("ip").args(["-n", &end, "link", "set", INTERFACE, up]).status();
        assert!(done.unwrap().success());
    };
    link("down");
    wires.remove("p1");
    rig.states(|states| states.iter().any(|state| state.is(&port("p1")) && !state.up)).await;
    spreads(&wires, &["p3"]);
    link("up");
    wires.insert("p1", plugged[1].wire().unwrap());
    rig.states(|states| states.iter().all(|state| state.up || !state.is(&port("p1")))).await;
    spreads(&wires, &["p1", "p3"]);
    // Nothing is left of ours in the end.
    rig.apply(vec![two], vec![]).await.unwrap();
    groups_become(&mut rig, 0).await;
    assert_eq!(groups(&rig), [7]);
    assert_eq!(rig.hypervisor.flows().unwrap(), Vec::<String>::new());
}

/// As at the edge of a fabric: through the tracker, a tag, another source, and then a choice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_tracked_and_tagged_spreads_too() {
    let Some((mut rig, _plugged, wires)) = start().await else { return };
    let v4 = || Match::any().with(Field::EthType, ethertype::IPV4);
    let cause = Cause::Builtin(Builtin::Deliver);
    let go = Next::Stage(Stage::Connection);
    let set = |field, value| Action::set(field, value);
    let out = vec![set(Field::OutVlan, 7), Action::PushVlan(Field::OutVlan), among(&["p1", "p2", "p3"])];
    let entries = vec![
        Entry::new(Stage::Classify, 10, v4().port(port("a")), vec![set(Field::Network, 5), Action::Track], go, cause),
        Entry::new(Stage::Connection, 10, v4().with(Field::Network, 5u8), out, Next::Done, cause),
    ];
    rig.apply(vec![], entries.clone()).await.unwrap();
    same(&mut rig, &entries, 0).await;
    spreads(&wires, &["p1", "p2", "p3"]);
}

/// As in the interpreter: what chose the port that it came by is dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_goes_back_by_a_choice() {
    let Some((mut rig, _plugged, wires)) = start().await else { return };
    rig.apply(vec![], vec![spread(&["a", "p1"])]).await.unwrap();
    let began = Instant::now();
    let on = loop {
        let ways = ways(&wires);
        if !ways.is_empty() {
            break ways;
        }
        assert!(began.elapsed() < PATIENCE, "nothing goes on");
    };
    assert!(on.values().flatten().all(|way| *way == "p1") && on.len() < usize::from(FLOWS), "{on:?}");
    let back = wires["a"].find(Duration::from_millis(100), |frame| frame[..12] == [DST, SRC].concat()).unwrap();
    assert_eq!(back, None);
}

/// As many packets come out as go in, whatever ways they have at the moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_packet_is_lost_or_doubled_while_ways_change() {
    let Some((mut rig, _plugged, mut wires)) = start().await else { return };
    let ways = [vec!["p1", "p2", "p3"], vec!["p1", "p3"], vec!["p2"], vec!["p2", "p3"]].map(|ways| {
        let ports = ways.into_iter().map(port).collect();
        let actions = vec![Action::Output(Output::among(ports).unwrap())];
        entry(10, Match::any().port(port("a")), actions)
    });
    rig.apply(vec![], vec![ways[0].clone()]).await.unwrap();
    let (source, changing) = (wires.remove("a").unwrap(), Arc::new(AtomicBool::new(true)));
    let (more, (tell, mut told)) = (Arc::clone(&changing), watch::channel(0));
    let sender = thread::spawn(move || {
        while more.load(Ordering::Relaxed) {
            let number = *tell.borrow() + 1;
            source.inject(&tcp(number, 10)).unwrap();
            tell.send_replace(number);
            thread::sleep(Duration::from_millis(1));
        }
        *tell.borrow()
    });
    for way in ways.iter().cycle().take(60) {
        rig.apply(vec![], vec![way.clone()]).await.unwrap();
        let before = *told.borrow();
        told.wait_for(|sent| *sent >= before + 5).await.unwrap();
    }
    changing.store(false, Ordering::Relaxed);
    let sent = sender.join().unwrap();
    let mut came: BTreeMap<u16, u32> = BTreeMap::new();
    let (began, mut quiet) = (Instant::now(), false);
    while !quiet {
        quiet = came.len() >= usize::from(sent) || began.elapsed() > LOST;
        for wire in wires.values() {
            while let Some(frame) = wire.receive(Duration::from_millis(20)).unwrap() {
                if frame.len() == tcp(1, 10).len() && frame[..12] == [DST, SRC].concat() {
                    *came.entry(u16::from_be_bytes([frame[34], frame[35]])).or_default() += 1;
                }
            }
        }
    }
    assert!(sent > 200, "{sent}");
    let wrong: Vec<_> = (1..=sent).filter(|flow| came.get(flow) != Some(&1)).collect();
    assert!(wrong.is_empty(), "of {sent}: {wrong:?}");
    groups_become(&mut rig, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_somebody_changed_are_found_and_mended() {
    let Some((mut rig, _plugged, wires)) = start().await else { return };
    let ours = spread(&["p1", "p2"]);
    rig.apply(vec![], vec![ours.clone()]).await.unwrap();
    let [group] = groups(&rig)[..] else { panic!("one group") };
    let mended = async |rig: &mut Rig| {
        rig.apply(vec![], vec![ours.clone()]).await.unwrap();
        same(rig, std::slice::from_ref(&ours), 0).await;
        groups_become(rig, 1).await;
        spreads(&wires, &["p1", "p2"]);
    };
    // With a group go the flows that name it.
    rig.hypervisor.ofctl("del-groups", &[&format!("group_id={group}")]).unwrap();
    same(&mut rig, &[], 0).await;
    mended(&mut rig).await;
    // Another choice of ports is another entry.
    let number = |name: &str| rig.hypervisor.vsctl(&["get", "interface", name, "ofport"]).unwrap().trim().to_owned();
    let bucket = |name: &str| format!("bucket=watch_port:{0},weight:1,output:{0}", number(name));
    let to = |id: u32, buckets: &[String]| format!("group_id={id},type=select,{}", buckets.join(","));
    let changed = to(group, &[bucket("p1"), bucket("p3")]);
    let strange = to(group, &[bucket("p1"), "bucket=weight:2,drop".into()]);
    let stray = to(GROUP_OWNER + 9, &[bucket("p1"), bucket("p3")]);
    rig.hypervisor.ofctl("mod-group", &[&changed]).unwrap();
    same(&mut rig, &[spread(&["p1", "p3"])], 0).await;
    mended(&mut rig).await;
    // One that is not as ours are is nothing, and neither is what names it.
    let [group_now] = groups(&rig)[..] else { panic!("one group") };
    rig.hypervisor.ofctl("mod-group", &[&strange.replace(&group.to_string(), &group_now.to_string())]).unwrap();
    same(&mut rig, &[], 1).await;
    mended(&mut rig).await;
    // One that nobody names goes once it is seen.
    rig.hypervisor.ofctl("add-group", &[&stray]).unwrap();
    same(&mut rig, std::slice::from_ref(&ours), 0).await;
    groups_become(&mut rig, 1).await;
    // A flow of ours that names somebody else's group is not ours.
    rig.hypervisor.ofctl("add-group", &["group_id=7,type=all,bucket=output:1"]).unwrap();
    let cookie = ours_cookie(&rig);
    rig.hypervisor.ofctl("add-flow", &[&format!("cookie={cookie},table=0,priority=3,actions=group:7")]).unwrap();
    same(&mut rig, std::slice::from_ref(&ours), 1).await;
    rig.apply(vec![], vec![]).await.unwrap();
    assert!(groups(&rig).contains(&7));
    same(&mut rig, &[ours], 0).await;
}

/// The cookie of the one entry there is.
fn ours_cookie(rig: &Rig) -> String {
    let flows = rig.hypervisor.flows().unwrap();
    let cookie = flows[0].split_once("cookie=").unwrap().1.split(',').next().unwrap();
    assert_eq!(u64::from_str_radix(&cookie[2..], 16).unwrap() & COOKIE_OWNER, COOKIE_OWNER);
    cookie.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_tell_of_links_go_out_and_come_in() {
    let Some((mut rig, _plugged, wires)) = start().await else { return };
    let lldp = Match::any().with(Field::EthType, 0x88ccu16).with(Field::Vlan, 0u8);
    let discover = Entry::new(
        Stage::Classify,
        5,
        lldp.clone(),
        vec![Action::Discover],
        Next::Drop,
        Cause::Builtin(Builtin::Discover),
    );
    // A workload's port, whose frames are nobody's business.
    let host = Entry::new(Stage::Classify, 9, lldp.port(port("a")), vec![], Next::Drop, discover.cause);
    rig.apply(vec![], vec![discover.clone(), host.clone()]).await.unwrap();
    same(&mut rig, &[discover, host], 0).await;
    let frame = |length: usize| {
        let mut frame = packets::ethernet([0x01, 0x80, 0xc2, 0, 0, 0x0e], SRC, 0x88cc, b"who is there");
        frame.resize(length, 3);
        frame
    };
    let to = |name: &str, length| Outgoing { port: port(name), frame: frame(length) };
    rig.command(Command::Discover(vec![to("p1", 100), to("gone", 60), to("p2", 200)])).await;
    for (name, length) in [("p1", 100), ("p2", 200)] {
        let got = wires[name].find(PATIENCE, |got| *got == frame(length)).unwrap();
        assert!(got.is_some(), "nothing out of {name}");
    }
    assert_eq!(wires["p3"].find(Duration::from_millis(100), |got| *got == frame(100)).unwrap(), None);
    wires["a"].inject(&frame(90)).unwrap();
    wires["p1"].inject(&packets::tagged(&frame(90), 5)).unwrap();
    for (name, length, told) in [("p3", 100, 100), ("p1", 1000, 256)] {
        wires[name].inject(&frame(length)).unwrap();
        let report = Report::Discovered { port: port(name), frame: frame(told) };
        assert_eq!(rig.report().await, report, "of {name}");
    }
    // A storm is cut off in the switch.
    let began = Instant::now();
    for _ in 0..5000 {
        wires["p2"].inject(&frame(100)).unwrap();
    }
    let quiet = Duration::from_millis(500);
    let mut told = 0;
    while let Ok(report) = timeout(quiet, rig.report()).await {
        assert!(matches!(report, Report::Discovered { .. }), "{report:?}");
        told += 1;
    }
    let most = 400 + 200 * (1 + began.elapsed().as_secs());
    assert!((1..=most).contains(&told), "{told} of 5000, at most {most}");
}

/// Two ports of the switch are a link between switches: as long as the longest packet that Ethernet has, and a tag more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_costs_nothing_on_a_link() {
    let Some((mut rig, _plugged, wires)) = start().await else { return };
    let namespace = rig.hypervisor.namespace().name().to_owned();
    let ip = |words: &str| {
        let done = process::Command::new("ip").args(["-n", &namespace]).args(words.split(' ')).status();
        assert!(done.unwrap().success(), "{words}");
    };
    ip("link add near mtu 1500 type veth peer name far mtu 1500");
    for end in ["near", "far"] {
        ip(&format!("link set {end} up"));
        rig.hypervisor.add_port(end, &[]).unwrap();
    }
    rig.states(|states| ["near", "far"].iter().all(|end| states.iter().any(|state| state.is(&port(end)) && state.up)))
        .await;
    let tagged = Match::any().port(port("far")).with(Field::Vlan, vlan::PRESENT | 4000);
    let flags = Action::set_bits(Field::EthSrc, FLAG, FLAG);
    let marked = tagged.clone().masked(Field::EthSrc, FLAG | LOCAL, FLAG | LOCAL);
    let out = |name: &str| Action::Output(Output::Port(port(name)));
    let restored = Action::set(Field::EthSrc, SRC.iter().fold(0, |bits, byte| bits << 8 | u128::from(*byte)));
    let entries = vec![
        entry(
            10,
            Match::any().port(port("a")),
            vec![Action::set(Field::OutVlan, 4000), Action::PushVlan(Field::OutVlan), flags, out("near")],
        ),
        entry(11, marked, vec![Action::PopVlan, restored, out("p1")]),
        entry(5, tagged, vec![Action::PopVlan, out("p2")]),
    ];
    rig.apply(vec![], entries.clone()).await.unwrap();
    same(&mut rig, &entries, 0).await;
    for length in [100, 1500] {
        let sent = tcp(1, length - 40);
        assert_eq!(sent.len(), length + 14);
        wires["a"].inject(&sent).unwrap();
        let got = wires["p1"].find(PATIENCE, |got| got.len() == sent.len() && got[..6] == DST).unwrap();
        assert_eq!(got, Some(sent), "an IP packet of {length} bytes");
    }
}
