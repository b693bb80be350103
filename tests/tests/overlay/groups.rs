//! Groups that a network asks for, with real packets: whoever may get them gets each once, nobody else, and it ends there.

use crate::{
    many,
    world::{Attachments, IPV4, PATIENCE, SILENCE, World, network, policy, two, until},
};
use bulkhead_lab::{
    Family, Scenario, Wire, Workload,
    packets::{self, GENEVE},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

/// What packets of these tests carry.
const MARK: &[u8] = b"for the group";
/// UDP port that receivers' rules allow, and one that they do not.
const OPEN: u16 = 5353;
const SHUT: u16 = 5354;

/// Three hypervisors: `a`, `c` and `quiet` on the first, `b` on the second, `d` and `other` on the third; `other` is in
/// another network. All but `quiet` let those with their label in.
fn fabric(name: &str, encap: &str) -> Scenario {
    let ips = |number: u8| [format!("10.0.0.{number}"), format!("fd00::{number}")].map(|ip| ip.parse().unwrap());
    let asks = |name: &str, vni: u32| {
        let mut network = network(name, vni);
        network["spec"]["multicast"] = json!(["239.1.2.3", "255.255.255.255", "ff05::1:3"]);
        network["spec"]["encap"] = encap.into();
        network
    };
    let mut scenario = Scenario::new(name);
    for number in 1..=3 {
        scenario = scenario.hypervisor(&format!("hv{number}"), format!("172.31.0.{number}").parse().unwrap());
    }
    let mut scenario = scenario
        .workload("a", "hv1", "one", &ips(11))
        .workload("b", "hv2", "one", &ips(12))
        .workload("c", "hv1", "one", &ips(13))
        .workload("d", "hv3", "one", &ips(14))
        .workload("quiet", "hv1", "one", &ips(15))
        .workload("other", "hv3", "two", &ips(14))
        .resource(asks("one", 5001))
        .resource(asks("two", 5002))
        .resource(groups())
        .resource(policy("x"));
    for guest in &mut scenario.workloads {
        let app = if guest.name == "quiet" { "quiet" } else { "x" };
        guest.labels = [("app".to_owned(), app.to_owned())].into();
    }
    scenario
}

/// Who has `app: x` may send to groups, and gets what others of them send at one port.
fn groups() -> Value {
    let everybody = json!({"matchLabels": {"app": "x"}});
    let to = json!([{"cidr": "224.0.0.0/4"}, {"cidr": "255.255.255.255/32"}, {"cidr": "ff00::/8"}]);
    json!({"kind": "Policy", "metadata": {"name": "groups"}, "spec": {
        "subject": everybody,
        "ingress": [{"name": "in", "action": "allow", "from": [everybody], "ports": [{"protocol": "udp", "port": OPEN}]}],
        "egress": [{"name": "out", "action": "allow", "to": to}]}})
}

fn frame(from: &Workload, group: &str, port: u16) -> Vec<u8> {
    let to: IpAddr = group.parse().unwrap();
    let to_mac = match to {
        IpAddr::V4(v4) if v4.is_broadcast() => [0xff; 6],
        IpAddr::V4(v4) => [1, 0, 0x5e, v4.octets()[1] & 0x7f, v4.octets()[2], v4.octets()[3]],
        IpAddr::V6(v6) => {
            let [.., a, b, c, d] = v6.octets();
            [0x33, 0x33, a, b, c, d]
        }
    };
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    packets::Way { from_mac: from.mac().0, to_mac, from: from.ip(family).unwrap(), to }.udp(40_000, port, MARK)
}

/// The names of those that get a frame, as often as they do, once all that have to have got it.
fn getting(wires: &[(&'static str, Wire)], sent: &[u8], wanted: &[&str]) -> Vec<&'static str> {
    let mut found = Vec::new();
    let same = |frame: &[u8]| frame == sent;
    for (name, wire) in wires.iter().filter(|(name, _)| wanted.contains(name)) {
        if wire.find(PATIENCE, same).unwrap().is_some() {
            found.push(*name);
        }
    }
    for (name, wire) in wires {
        let more = wire.drain(if wanted.is_empty() { SILENCE } else { Duration::from_millis(50) }).unwrap();
        let again = more.iter().filter(|frame| frame.windows(MARK.len()).any(|part| part == MARK));
        found.extend(again.map(|_| *name));
    }
    found.sort_unstable();
    found
}

fn carried(name: &str, encap: &str) {
    let Some(world) = World::up(&fabric(name, encap), Attachments::Discovered) else { return };
    let guests = ["a", "b", "c", "d", "quiet", "other"];
    // The sender's own end sees what it sends; what would come back to it has to be seen at its switch.
    let wires: Vec<(&'static str, Wire)> = guests
        .into_iter()
        .filter(|name| *name != "a")
        .map(|name| (name, world.workload(name).wire().unwrap()))
        .collect();
    let back = world.workload("a").wire().unwrap();
    let a = world.workload("a");
    // Tunnels find their neighbours with the first packet at the latest.
    let up = |status: &bulkhead_types::StatusAnswer| {
        status.switches.iter().flat_map(|switch| &switch.tunnels).filter(|tunnel| tunnel.state == "up").count() >= 4
    };
    world.until("tunnels are up", up);
    for group in ["239.1.2.3", "255.255.255.255", "ff05::1:3"] {
        let open = frame(&a, group, OPEN);
        for (_, wire) in &wires {
            wire.drain(Duration::ZERO).unwrap();
        }
        back.inject(&open).unwrap();
        assert_eq!(getting(&wires, &open, &["b", "c", "d"]), ["b", "c", "d"], "{group}");
        let shut = frame(&a, group, SHUT);
        back.inject(&shut).unwrap();
        assert_eq!(getting(&wires, &shut, &[]), [""; 0], "{group}");
    }
    // Another group, and one whose rules let it send nothing.
    let nobodys = frame(&a, "239.1.2.4", OPEN);
    back.inject(&nobodys).unwrap();
    let quiet = world.workload("quiet");
    let silent = frame(&quiet, "239.1.2.3", OPEN);
    quiet.wire().unwrap().inject(&silent).unwrap();
    let others: Vec<(&'static str, Wire)> = wires.into_iter().filter(|(name, _)| *name != "quiet").collect();
    assert_eq!(getting(&others, &nobodys, &[]), [""; 0]);
    // Nothing came back to who sent it: what its wire has seen is what went out there.
    let own = back.drain(Duration::ZERO).unwrap();
    assert!(!own.iter().any(|frame| frame.windows(MARK.len()).any(|part| part == MARK)), "sent back: {own:02x?}");
}

/// Other switches that one sends copies to at most.
const FAR_MOST: usize = 64;

/// As many as are not refused: the switch makes every copy, each once.
#[test]
fn sixty_four_other_switches_get_a_copy_each() {
    let mut scenario = two("ov-copies", IPV4).resource(groups());
    scenario.resources[0]["spec"]["subnets"] = json!(["10.0.0.0/16", "fd00::/64"]);
    scenario.resources[0]["spec"]["multicast"] = json!(["239.1.2.3"]);
    let Some(world) = World::up(&scenario, Attachments::Discovered) else { return };
    // One of them is real.
    let peers = 0..FAR_MOST - 1;
    world.apply(&peers.clone().flat_map(many::peer).collect::<Vec<_>>());
    world.realized();
    let hv1 = world.fabric.hypervisor("hv1").unwrap();
    let far: Vec<String> = peers.map(many::vtep).chain([IPV4[1].to_owned()]).collect();
    many::on_link(&world, "hv1");
    // Behind the others' addresses is nobody who could be asked for his MAC.
    for vtep in &far[..FAR_MOST - 1] {
        hv1.appctl(&["tnl/neigh/set", "br-phy", vtep, "02:ee:00:00:00:01"]).unwrap();
    }
    world.until("the real one is up", |status| {
        let tunnels = status.switches.iter().filter(|switch| switch.name == "hv1").flat_map(|switch| &switch.tunnels);
        tunnels.into_iter().any(|tunnel| tunnel.to == "hv2" && tunnel.state == "up")
    });
    let (a, tap) = (world.workload("a"), world.fabric.underlay().tap("hv1").unwrap());
    let near = world.workload("c").wire().unwrap();
    let sent = frame(&a, "239.1.2.3", OPEN);
    a.wire().unwrap().inject(&sent).unwrap();
    let mut copies: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
    until("every copy is made", || {
        for frame in tap.drain(Duration::from_millis(100)).unwrap() {
            let outer =
                frame.get(36..38) == Some(&GENEVE.to_be_bytes()) && frame.windows(MARK.len()).any(|part| part == MARK);
            if let Some(to) = frame.get(30..34).filter(|_| outer) {
                *copies.entry(<[u8; 4]>::try_from(to).unwrap().into()).or_default() += 1;
            }
        }
        if copies.len() < FAR_MOST { Err(format!("{copies:?}")) } else { Ok(()) }
    });
    let wanted: BTreeMap<Ipv4Addr, usize> = far.iter().map(|vtep| (vtep.parse().unwrap(), 1)).collect();
    assert_eq!(copies, wanted);
    assert!(near.find(PATIENCE, |frame| frame == sent).unwrap().is_some(), "its own workload got none");
}

#[test]
fn a_group_over_geneve() {
    carried("ov-group", "geneve");
}

#[test]
fn a_group_over_vxlan() {
    carried("ov-groupx", "vxlan");
}
