//! What somebody in the underlay sends.

use std::net::IpAddr;

use anyhow::Result;

use crate::attack::inside::{ask, vnis};
use crate::attack::{Attempts, May};
use crate::fabric::Site;
use crate::packets::{GENEVE, VXLAN, Way, geneve, vxlan, vxlan_of_group};
use crate::probe::Service;
use crate::scenario::Tunnel;
use crate::underlay::PHYSICAL;
use crate::workload::Family;

/// Identities that are tried: nobody's, outsiders', and those that a fabric's first sets of labels get.
const IDENTITIES: [Option<u32>; 10] =
    [None, Some(0), Some(1), Some(16), Some(17), Some(18), Some(19), Some(20), Some(21), Some(u32::MAX)];

/// Networks that nobody has.
const NO_NETWORK: [u32; 2] = [0, 0x00ff_ffff];

/// The source port of everything.
const SOURCE_PORT: u16 = 50_000;

/// IP protocols of a hypervisor's own packets.
const UDP: u8 = 17;
const ICMP: [u8; 2] = [1, 58];

/// Tunnel packets to every hypervisor: from nobody and from each VTEP, in each network, with each identity.
pub(super) fn attempts(site: &Site, all: &mut Attempts) -> Result<()> {
    let networks = site.scenario().networks()?;
    let rogue = (site.underlay().rogue_ip(), None);
    moves(site, all)?;
    for (from, (claimed, claimant)) in site.guests().enumerate() {
        for (to, (guest, victim)) in site.guests().enumerate() {
            let Some(network) = networks.get(&guest.network) else { continue };
            if from == to {
                continue;
            }
            let vteps = site.scenario().hypervisors.iter().map(|host| (host.vtep, Some(&host.name)));
            let host = site.scenario().hypervisors.iter().find(|other| other.name == guest.hypervisor);
            let Some(host) = host else { continue };
            for (source, owner) in vteps.chain([rogue]) {
                // A VTEP's address with its MAC: with another one, the physical bridge would drop it (`moves`).
                let from_mac = match owner.filter(|owner| **owner != host.name) {
                    Some(owner) => site.vtep_mac(owner)?,
                    None => site.underlay().rogue_mac(),
                };
                let outer = Way { from_mac, to_mac: site.vtep_mac(&host.name)?, from: source, to: host.vtep };
                for family in Family::ALL {
                    let (Some(mine), Some(theirs)) = (claimant.ip(family), victim.ip(family)) else { continue };
                    let inner = Way { from_mac: claimant.mac().0, to_mac: victim.mac().0, from: mine, to: theirs };
                    // Somebody else there has this very address: in his name it is tried elsewhere.
                    let twin = claimed.network != guest.network
                        && site.guests().any(|(other, _)| {
                            other.network == guest.network
                                && owner == Some(&other.hypervisor)
                                && other.ips.contains(&mine)
                        });
                    let identities = if twin { &[][..] } else { &IDENTITIES };
                    for service in site.scenario().services.iter().copied() {
                        // Whether this is what the claimed sender's own VTEP would send.
                        let true_way = claimed.network == guest.network
                            && owner == Some(&claimed.hypervisor)
                            && claimed.hypervisor != guest.hypervisor;
                        let may =
                            |tunnel: Tunnel, vni: u32| match true_way && tunnel == network.tunnel && vni == network.vni
                            {
                                true => May::Believed { from, to, service, family },
                                false => May::Nowhere,
                            };
                        let words = |how: String| {
                            format!("{how} from {source}, {service} from {} to {}", claimed.name, guest.name)
                        };
                        for identity in identities.iter().copied() {
                            let what = words(format!("Geneve {} with identity {identity:?}", network.vni));
                            all.add("forged tunnels", None, may(Tunnel::Geneve, network.vni), what, |token| {
                                outer.udp(
                                    SOURCE_PORT,
                                    GENEVE,
                                    &geneve(network.vni, identity, &ask(inner, service, token)),
                                )
                            });
                        }
                        let groups = identities.iter().flatten().filter_map(|id| u16::try_from(*id).ok());
                        for group in groups {
                            let what = words(format!("VXLAN {} with group {group}", network.vni));
                            all.add("forged tunnels", None, may(Tunnel::Vxlan, network.vni), what, |token| {
                                outer.udp(
                                    SOURCE_PORT,
                                    VXLAN,
                                    &vxlan_of_group(network.vni, group, &ask(inner, service, token)),
                                )
                            });
                        }
                        let what = words(format!("VXLAN {}", network.vni));
                        all.add("forged tunnels", None, may(Tunnel::Vxlan, network.vni), what, |token| {
                            outer.udp(SOURCE_PORT, VXLAN, &vxlan(network.vni, &ask(inner, service, token)))
                        });
                        for vni in vnis(site).into_iter().filter(|vni| *vni != network.vni).chain(NO_NETWORK) {
                            let what = words(format!("Geneve {vni}"));
                            all.add("forged networks", None, May::Nowhere, what, |token| {
                                outer.udp(SOURCE_PORT, GENEVE, &geneve(vni, Some(1), &ask(inner, service, token)))
                            });
                            let what = words(format!("VXLAN {vni}"));
                            all.add("forged networks", None, May::Nowhere, what, |token| {
                                outer.udp(SOURCE_PORT, VXLAN, &vxlan(vni, &ask(inner, service, token)))
                            });
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// Packets that say that a VTEP is here: tunnel packets and claims from its address, with the attacker's MAC.
fn moves(site: &Site, all: &mut Attempts) -> Result<()> {
    let here = site.underlay().rogue_mac();
    for victim in &site.scenario().hypervisors {
        for moved in site.scenario().hypervisors.iter().filter(|moved| moved.name != victim.name) {
            let to_mac = site.vtep_mac(&victim.name)?;
            let way = Way { from_mac: here, to_mac, from: moved.vtep, to: victim.vtep };
            let what = |how: &str| format!("{how}, to {}: {} is here", victim.name, moved.name);
            all.add("moved VTEPs", None, May::Nowhere, what("Geneve"), |token| {
                way.udp(SOURCE_PORT, GENEVE, &geneve(1, Some(1), &ask(way, Service::Icmp, token)))
            });
            all.add("moved VTEPs", None, May::Nowhere, what("VXLAN"), |token| {
                way.udp(SOURCE_PORT, VXLAN, &vxlan(1, &ask(way, Service::Icmp, token)))
            });
            for from in [moved.vtep, site.underlay().rogue_ip()] {
                let way = Way { from, ..way };
                all.add("moved VTEPs", None, May::Nowhere, what("a claim"), |token| way.claim(moved.vtep, here, token));
            }
        }
    }
    Ok(())
}

/// Whether a frame from a hypervisor is a tunnel packet of its own, or an ICMP error of its own.
pub(super) fn own(site: &Site, host: &str, frame: &[u8]) -> bool {
    let Some(vtep) = site.scenario().hypervisors.iter().find(|one| one.name == host).map(|one| one.vtep) else {
        return false;
    };
    let (source, protocol, port) = match vtep {
        IpAddr::V4(_) => (26..30, frame.get(23), 36..38),
        IpAddr::V6(_) => (22..38, frame.get(20), 56..58),
    };
    let octets = match vtep {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let from_it = frame.get(source) == Some(&octets);
    let port = frame.get(port).and_then(|bytes| Some(u16::from_be_bytes(*bytes.first_chunk()?)));
    let tunnel = protocol == Some(&UDP) && (port == Some(GENEVE) || port == Some(VXLAN));
    from_it && (tunnel || protocol.is_some_and(|protocol| ICMP.contains(protocol)))
}

/// Whether the hypervisors still know where each other are: a forged packet must not take a VTEP's place.
pub(super) fn redirected(site: &Site) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for hypervisor in site.hypervisors() {
        let known = hypervisor.appctl(&["tnl/neigh/show"])?;
        for host in site.scenario().hypervisors.iter().filter(|host| host.name != hypervisor.name()) {
            let right = bulkhead_topology::Mac(site.vtep_mac(&host.name)?).to_string();
            let vtep = host.vtep.to_string();
            for line in known.lines() {
                let mut words = line.split_ascii_whitespace();
                if let (Some(ip), Some(mac)) = (words.next(), words.next())
                    && ip == vtep
                    && mac != right
                {
                    let at = hypervisor.name();
                    found.push(format!("{at}'s tunnels to {} now lead to {mac} ({PHYSICAL}, {vtep})", host.name));
                }
            }
        }
    }
    Ok(found)
}
