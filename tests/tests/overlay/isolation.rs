//! Tenants with the same addresses, and packets in the underlay that nobody of ours has sent: nothing crosses, and what
//! is dropped counts under a name.

use crate::world::{Attachments, IPV4, PATIENCE, SILENCE, World, network, policy, two, until};
use bulkhead_lab::packets::{self, GENEVE, VXLAN};
use bulkhead_lab::{Family, Scenario, Service, Stream, Wire};
use serde_json::json;
use std::time::Duration;

/// UDP port of BFD (RFC 5881 §4).
const BFD: u16 = 3784;
/// A BFD packet that says that the session is down (RFC 5880 §4.1).
const DOWN: [u8; 24] =
    [0x20, 0x40, 3, 24, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x40, 0, 0x0f, 0x42, 0x40, 0, 0, 0, 0];
/// Source port of what is forged.
const SOURCE_PORT: u16 = 50_000;
/// How often each forged packet is sent.
const TIMES: u64 = 3;

#[test]
fn tenants_with_the_same_addresses_do_not_meet() {
    let text = include_str!("../../../lab/scenarios/two-tenants.yaml");
    let mut scenario = Scenario::parse(text).unwrap();
    scenario.lab = "ov-tenants".into();
    let Some(world) = World::up(&scenario, Attachments::Discovered) else { return };
    // One more rule for one of them: the other one's stays as it is.
    world.apply(&[json!({"kind": "Workload", "metadata": {"name": "blue-web", "labels": {"tier": "db"}},
        "spec": {"network": "blue", "interfaces": [{
            "mac": world.workload("blue-web").mac().to_string(), "ips": ["10.0.0.11", "fd00::11"]}]}})]);
    world.realized();
    let _listeners = world.listen(&[Service::Tcp(80), Service::Tcp(5432)]);
    world.reaches("red-web", "red-app", Service::Tcp(80));
    world.reaches("red-app", "red-db", Service::Tcp(5432));
    world.reaches("blue-app", "blue-db", Service::Tcp(5432));
    world.reaches("blue-app", "blue-web", Service::Tcp(5432));
    world.shut("blue-web", "blue-app", Service::Tcp(80));
    world.shut("red-web", "red-db", Service::Tcp(5432));
    // Pings of red's arrive at red's, and nothing at blue's, whose address is the same.
    let wire = |name: &str| world.workload(name).wire().unwrap();
    let (red, blue) = (wire("red-app"), wire("blue-app"));
    for family in Family::ALL {
        assert!(world.probe("red-web", "red-app", Service::Icmp, family, PATIENCE).passed());
    }
    let from_red = |frame: &[u8]| frame.get(6..12) == Some(&world.workload("red-web").mac().0);
    assert!(red.find(PATIENCE, from_red).unwrap().is_some());
    assert!(!blue.drain(SILENCE).unwrap().iter().any(|frame| from_red(frame)), "red's packets at blue's");
}

/// A packet for the tunnel port of hv2, and what is said of it.
struct Forged {
    what: &'static str,
    /// Who counts it.
    rule: &'static str,
    outer: packets::Way,
    port: u16,
    datagram: Vec<u8>,
}

/// What a genuine tunnel packet says of its sender's identity, and of the network.
fn genuine(world: &World) -> (u32, u32) {
    let tap = world.fabric.underlay().tap("hv1").unwrap();
    let a = world.workload("a");
    let b = world.workload("b").ip(Family::V4).unwrap();
    let pings = Stream::start(a.namespace(), None, b, 20).unwrap();
    // Ethernet, IPv4, UDP; then the header with one option (RFC 8926 §3.4), and in it a frame of `a`.
    let mac = a.mac().0;
    let is_it = |frame: &[u8]| frame.get(36..38) == Some(&GENEVE.to_be_bytes()) && frame.get(64..70) == Some(&mac);
    let frame = tap.find(PATIENCE, is_it).unwrap().unwrap();
    drop(pings);
    assert_eq!(frame[50..54], [0xff, 0xb0, 1, 1]);
    (u32::from_be_bytes([0, frame[46], frame[47], frame[48]]), u32::from_be_bytes(frame[54..58].try_into().unwrap()))
}

/// Two networks of Geneve, the second with `d` at the address of `b`, and one of VXLAN.
fn fabric(name: &str) -> Scenario {
    let mut vxlan = network("wide", 5003);
    vxlan["spec"]["encap"] = "vxlan".into();
    let ips = |number: u8| [format!("10.0.0.{number}"), format!("fd00::{number}")].map(|ip| ip.parse().unwrap());
    two(name, IPV4)
        .resource(network("two", 5002))
        .resource(vxlan)
        .resource(policy("y"))
        .workload("d", "hv2", "two", &ips(12))
        .workload("e", "hv1", "two", &ips(11))
        .workload("f", "hv1", "wide", &ips(11))
        .workload("g", "hv2", "wide", &ips(12))
}

/// Sends each a few times, and looks where they come and how they count.
fn dropped(world: &World, forged: &[Forged], victims: &[(&str, Wire)]) {
    let wire = world.fabric.underlay().rogue_wire().unwrap();
    for (_, victim) in victims {
        victim.drain(Duration::ZERO).unwrap();
    }
    for Forged { what, rule, outer, port, datagram } in forged {
        let before = world.dropped(rule);
        for _ in 0..TIMES {
            wire.inject(&outer.udp(SOURCE_PORT, *port, datagram)).unwrap();
        }
        until(&format!("{what} counts under {rule}"), || match world.dropped(rule) - before {
            TIMES => Ok(()),
            other => Err(format!("{other} packets\n{}", world.cli(&["describe", "switch", "hv2"]).1)),
        });
        for (name, victim) in victims {
            let found = victim.drain(Duration::from_millis(20)).unwrap();
            let marked = found.iter().any(|frame| frame.windows(MARK.len()).any(|part| part == MARK));
            assert!(!marked, "{what}: received at {name}");
        }
    }
}

/// What forged packets carry.
const MARK: &[u8] = b"nobody's packet";

#[test]
fn a30_forged_tunnel_packets_are_dropped_and_counted_by_name() {
    let Some(world) = World::up(&fabric("ov-forged"), Attachments::Discovered) else { return };
    world.reaches("a", "b", Service::Icmp);
    let (vni, identity) = genuine(&world);
    assert_eq!(vni, 5001);
    let [a, b, d, e, f, g] = ["a", "b", "d", "e", "f", "g"].map(|name| world.workload(name));
    let mac = |name| world.fabric.vtep_mac(name).unwrap();
    let rogue = (world.fabric.underlay().rogue_mac(), world.fabric.underlay().rogue_ip());
    let hv1 = (mac("hv1"), IPV4[0].parse().unwrap());
    let outer = |(from_mac, from)| packets::Way { from_mac, to_mac: mac("hv2"), from, to: IPV4[1].parse().unwrap() };
    let inner = |from: &bulkhead_lab::Workload, to: &bulkhead_lab::Workload, family| {
        let way = packets::Way {
            from_mac: from.mac().0,
            to_mac: to.mac().0,
            from: from.ip(family).unwrap(),
            to: to.ip(family).unwrap(),
        };
        way.echo(MARK)
    };
    let victims: Vec<_> = [&b, &d, &g].map(|one| (one.name(), one.wire().unwrap())).into_iter().collect();

    // What a genuine one looks like is believed: the forged ones differ from it in one thing each.
    let wire = world.fabric.underlay().rogue_wire().unwrap();
    let honest = packets::geneve(vni, Some(identity), &inner(&a, &b, Family::V4));
    wire.inject(&outer(hv1).udp(SOURCE_PORT, GENEVE, &honest)).unwrap();
    let marked = |frame: &[u8]| frame.windows(MARK.len()).any(|part| part == MARK);
    assert!(victims[0].1.find(PATIENCE, marked).unwrap().is_some(), "the test's own packets are not like genuine ones");
    let plain = packets::vxlan(5003, &inner(&f, &g, Family::V4));
    wire.inject(&outer(hv1).udp(SOURCE_PORT, VXLAN, &plain)).unwrap();
    // `g` has no label that allows it anything: believed, and denied.
    let mut forged = Vec::new();
    for family in Family::ALL {
        let mine = inner(&a, &b, family);
        let mut stranger = mine.clone();
        // Not an address of anybody in the network.
        *stranger.get_mut(if family == Family::V4 { 29 } else { 37 }).unwrap() ^= 0x40;
        let mut add = |what, rule, way, port, datagram| {
            forged.push(Forged { what, rule, outer: outer(way), port, datagram });
        };
        let (tunnel, antispoof) = ("builtin/tunnel", "builtin/overlay-antispoof");
        add("a VNI of nobody", tunnel, hv1, GENEVE, packets::geneve(4999, Some(identity), &mine));
        add("VNI 0", tunnel, hv1, GENEVE, packets::geneve(0, Some(identity), &mine));
        add("a network of Geneve in VXLAN", antispoof, hv1, VXLAN, packets::vxlan(vni, &mine));
        let wide = packets::geneve(5003, Some(identity), &inner(&f, &g, family));
        add("a network of VXLAN in Geneve", tunnel, hv1, GENEVE, wide);
        let honest = packets::geneve(vni, Some(identity), &mine);
        add("a sender that is no VTEP", antispoof, rogue, GENEVE, honest.clone());
        add("another identity", antispoof, hv1, GENEVE, packets::geneve(vni, Some(identity + 1), &mine));
        add("no identity", antispoof, hv1, GENEVE, packets::geneve(vni, None, &mine));
        add("another network", antispoof, hv1, GENEVE, packets::geneve(5002, Some(identity), &inner(&e, &d, family)));
        add("an inner source of nobody", antispoof, hv1, GENEVE, packets::geneve(vni, Some(identity), &stranger));
        let own = packets::geneve(vni, Some(identity), &inner(&b, &b, family));
        add("an inner source that is the receiver's own", antispoof, hv1, GENEVE, own);
    }
    dropped(&world, &forged, &victims);
    world.reaches("a", "b", Service::Icmp);
}

#[test]
fn a31_bfd_inside_the_overlay_ends_no_tunnel() {
    let Some(world) = World::up(&fabric("ov-bfd"), Attachments::Discovered) else { return };
    world.reaches("a", "b", Service::Icmp);
    let up = |status: &bulkhead_types::StatusAnswer| {
        let mut tunnels = status.switches.iter().flat_map(|switch| &switch.tunnels).peekable();
        tunnels.peek().is_some() && tunnels.all(|tunnel| tunnel.state == "up")
    };
    world.until("tunnels are up", up);
    let (a, b) = (world.workload("a"), world.workload("b"));
    let pings = Stream::start(a.namespace(), None, b.ip(Family::V4).unwrap(), 100).unwrap();
    // A workload, to the other one, and to the VTEPs themselves.
    let inside = a.wire().unwrap();
    let seen = [b.wire().unwrap(), world.fabric.underlay().tap("hv1").unwrap()];
    let way = |to: &str| packets::Way {
        from_mac: a.mac().0,
        to_mac: b.mac().0,
        from: a.ip(Family::V4).unwrap(),
        to: to.parse().unwrap(),
    };
    let datagram = [&DOWN[..], MARK].concat();
    for to in ["10.0.0.12", IPV4[0], IPV4[1]] {
        for _ in 0..TIMES {
            inside.inject(&way(to).udp(49_152, BFD, &datagram)).unwrap();
        }
    }
    // The same in a tunnel of nobody's, and in the one that is there.
    let (vni, identity) = genuine(&world);
    let outer = packets::Way {
        from_mac: world.fabric.vtep_mac("hv1").unwrap(),
        to_mac: world.fabric.vtep_mac("hv2").unwrap(),
        from: IPV4[0].parse().unwrap(),
        to: IPV4[1].parse().unwrap(),
    };
    let inner = way(IPV4[1]).udp(49_152, BFD, &datagram);
    let forged = |what, rule, datagram| Forged { what, rule, outer, port: GENEVE, datagram };
    let forged = [
        forged("BFD as Open vSwitch sends it", "builtin/tunnel", packets::geneve(0, None, &inner)),
        forged("BFD in a network", "builtin/overlay-antispoof", packets::geneve(vni, Some(identity + 7), &inner)),
    ];
    dropped(&world, &forged, &[("b", b.wire().unwrap())]);
    for wire in &seen {
        let found = wire.drain(SILENCE).unwrap();
        assert!(!found.iter().any(|frame| frame.windows(MARK.len()).any(|part| part == MARK)), "BFD got out");
    }
    assert!(up(&world.status()), "{:#?}", world.status());
    for hypervisor in world.fabric.hypervisors() {
        let told = hypervisor.vsctl(&["get", "interface", "bh-geneve", "bfd_status"]).unwrap();
        assert_eq!(told.trim(), "{}", "nobody's BFD is taken part in");
    }
    let losses = pings.stop().unwrap();
    assert!(losses.lost() == 0 && losses.sent > 20, "{losses:?}");
}
