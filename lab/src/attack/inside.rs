//! What a compromised workload sends.

use std::net::{IpAddr, Ipv6Addr};

use bulkhead_netlink::MacAddress;

use crate::attack::{Attempts, May, PORTS};
use crate::fabric::Site;
use crate::packets::{BROADCAST, GENEVE, VXLAN, Way, ethernet, geneve, tagged, vxlan};
use crate::probe::Service;
use crate::workload::{Family, Workload};

/// The source port of everything.
const SOURCE_PORT: u16 = 40_000;

/// A MAC of nobody.
const NOBODY: MacAddress = [0x02, 0xde, 0xad, 0, 0, 1];

/// Where every IPv6 host listens, and its MAC (RFC 4291 §2.7.1, RFC 2464 §7).
const ALL_NODES: (Ipv6Addr, MacAddress) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), [0x33, 0x33, 0, 0, 0, 1]);

/// Where link-layer discovery goes (IEEE 802.1AB), and its Ethernet type.
const LLDP: (MacAddress, u16) = ([0x01, 0x80, 0xc2, 0, 0, 0x0e], 0x88cc);

/// A protocol that nobody speaks (RFC 3692).
const EXPERIMENT: u8 = 253;
const UDP: u8 = 17;

/// A frame that asks for a service.
pub(super) fn ask(way: Way, service: Service, token: &[u8]) -> Vec<u8> {
    match service {
        Service::Tcp(port) => way.syn(SOURCE_PORT, port, token),
        Service::Udp(port) => way.udp(SOURCE_PORT, port, token),
        Service::Icmp => way.echo(token),
    }
}

/// Everything that one workload tries.
pub(super) fn attempts(site: &Site, sender: usize, all: &mut Attempts) {
    let Some(own) = site.workloads().get(sender) else { return };
    for (to, victim) in site.workloads().iter().enumerate().filter(|(to, _)| *to != sender) {
        for family in Family::ALL {
            if let (Some(mine), Some(theirs)) = (own.ip(family), victim.ip(family)) {
                let way = Way { from_mac: own.mac().0, to_mac: victim.mac().0, from: mine, to: theirs };
                towards(site, (sender, to), way, all);
            }
        }
        link(sender, own, victim, all);
    }
    underlay(site, sender, own, all);
}

/// Packets to one workload, over one family.
fn towards(site: &Site, (sender, victim): (usize, usize), way: Way, all: &mut Attempts) {
    let family = Family::of(way.to);
    let (mine, theirs) = (site.scenario().workloads.get(sender), site.scenario().workloads.get(victim));
    let (Some(mine), Some(theirs)) = (mine, theirs) else { return };
    // Addresses count, in the own network: one that another network has as well means its owner in this one.
    let mut own = site.scenario().workloads.iter();
    let meant = own.position(|one| one.network == mine.network && one.ips.contains(&way.to));
    let honest = |service| match meant {
        Some(to) => May::Policy { from: sender, to, service, family },
        None => May::Nowhere,
    };
    let services = || site.scenario().services.iter().copied().chain(PORTS);
    for service in services() {
        let what = format!("{service} to {} at {}", way.to, theirs.name);
        all.add("scan", Some(sender), honest(service), what, |token| ask(way, service, token));
        let what = |how: &str| format!("{service} to {} {how}", theirs.name);
        let mut spoof = |how: &str, way: Way| {
            all.add("spoofing", Some(sender), May::Nowhere, what(how), |token| ask(way, service, token));
        };
        spoof("from a MAC of nobody", Way { from_mac: NOBODY, ..way });
        spoof("from the receiver's own address", Way { from: way.to, ..way });
        for (guest, other) in site.guests().filter(|(guest, _)| guest.name != mine.name && guest.name != theirs.name) {
            let Some(ip) = other.ip(family) else { continue };
            if ip != way.from {
                spoof(&format!("as {} by address", guest.name), Way { from: ip, ..way });
                spoof(&format!("as {}", guest.name), Way { from: ip, from_mac: other.mac().0, ..way });
            }
        }
        all.add("oddities", Some(sender), May::Nowhere, what("with a VLAN tag"), |token| {
            tagged(&ask(way, service, token), 7)
        });
    }
    let to = &theirs.name;
    all.add("oddities", Some(sender), May::Nowhere, format!("protocol 253 to {to}"), |token| way.ip(EXPERIMENT, token));
    if family == Family::V4 {
        for (offset, more) in [(0, true), (8, false)] {
            let what = format!("fragment at {offset} to {to}");
            all.add("oddities", Some(sender), May::Nowhere, what, |token| way.fragment(UDP, offset, more, token));
        }
    }
    let inner = |token: &[u8]| ask(Way { from_mac: way.to_mac, to_mac: way.from_mac, ..way }, Service::Icmp, token);
    for vni in vnis(site) {
        // What arrives is a datagram that policy judges as such.
        let (tunnel, plain) = (honest(Service::Udp(GENEVE)), honest(Service::Udp(VXLAN)));
        all.add("tunnels", Some(sender), tunnel, format!("Geneve {vni} to {to}"), |token| {
            way.udp(SOURCE_PORT, GENEVE, &geneve(vni, Some(1), &inner(token)))
        });
        all.add("tunnels", Some(sender), plain, format!("VXLAN {vni} to {to}"), |token| {
            way.udp(SOURCE_PORT, VXLAN, &vxlan(vni, &inner(token)))
        });
    }
}

/// Lies of the link layer, to one workload and to all.
fn link(sender: usize, own: &Workload, victim: &Workload, all: &mut Attempts) {
    let (mine, theirs) = (own.mac().0, victim.mac().0);
    for family in Family::ALL {
        let (Some(from), Some(to)) = (own.ip(family), victim.ip(family)) else { continue };
        let to_all = match family {
            Family::V4 => (BROADCAST, to),
            Family::V6 => (ALL_NODES.1, IpAddr::V6(ALL_NODES.0)),
        };
        for (to_mac, to_ip, whom) in [(theirs, to, victim.name()), (to_all.0, to_all.1, "all")] {
            let way = Way { from_mac: mine, to_mac, from, to: to_ip };
            let what = |claim: &str| format!("to {whom}: {claim}");
            let mut claim = |words: &str, way: Way, address: IpAddr, at: MacAddress| {
                all.add("neighbours", Some(sender), May::Nowhere, what(words), |token| way.claim(address, at, token));
            };
            claim("the own address is here", way, from, mine);
            claim("the victim's address is here", way, to, mine);
            claim("the victim's address is at nobody's", Way { from_mac: NOBODY, ..way }, to, NOBODY);
            if family == Family::V6 {
                let words = what("I am your router");
                all.add("neighbours", Some(sender), May::Nowhere, words, |token| way.router(token));
            }
        }
    }
    let words = format!("LLDP beside {}", victim.name());
    all.add("oddities", Some(sender), May::Nowhere, words, |token| ethernet(LLDP.0, mine, LLDP.1, token));
}

/// Packets that are to reach the hypervisors themselves, or to be taken for tunnels between them.
fn underlay(site: &Site, sender: usize, own: &Workload, all: &mut Attempts) {
    let vteps: Vec<_> = site.scenario().hypervisors.iter().map(|host| (host.vtep, &host.name)).collect();
    for (vtep, name) in &vteps {
        let Some(from) = own.ip(Family::of(*vtep)) else { continue };
        let Ok(mac) = site.vtep_mac(name) else { continue };
        let forged = vteps.iter().map(|(other, _)| *other).chain([from]);
        for source in forged.collect::<Vec<_>>() {
            for to_mac in [mac, BROADCAST] {
                let way = Way { from_mac: own.mac().0, to_mac, from: source, to: *vtep };
                for port in [GENEVE, VXLAN, 3784, 4784] {
                    let what = format!("UDP {port} to {name}'s VTEP, as {source}");
                    let frame = |token: &[u8]| {
                        let inner = ask(way, Service::Icmp, token);
                        let vni = vnis(site).first().copied().unwrap_or_default();
                        match port {
                            GENEVE => way.udp(SOURCE_PORT, port, &geneve(vni, Some(1), &inner)),
                            VXLAN => way.udp(SOURCE_PORT, port, &vxlan(vni, &inner)),
                            // Version 1, session down, detect multiplier 3, 24 bytes (RFC 5880 §4.1).
                            _ => way.udp(SOURCE_PORT, port, &[&[0x20, 0x40, 3, 24], &[0; 20][..], token].concat()),
                        }
                    };
                    all.add("hypervisors", Some(sender), May::Nowhere, what, frame);
                }
            }
        }
    }
}

/// The networks' numbers on the wire.
pub(super) fn vnis(site: &Site) -> Vec<u32> {
    site.scenario().networks().map(|all| all.values().map(|network| network.vni).collect()).unwrap_or_default()
}
