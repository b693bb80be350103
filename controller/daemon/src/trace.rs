//! A packet's way through a compiled program.

use crate::hits::Rule;
use bulkhead_api::{Resolved, resolve};
use bulkhead_driver_sim::Tracker;
use bulkhead_pipeline::{
    Cause, Field, Outcome, Packet, ethertype,
    overlay::{Tunnel, arrive, group_mac},
    render_entry, vlan, walk,
};
use bulkhead_policy::{
    Flow, Service, State,
    model::{Attachment, Interface},
    vtep::{Forwarding, forwarding},
};
use bulkhead_runtime::Core;
use bulkhead_topology::{Mac, Name, Port};
use bulkhead_types::{FlowQuestion, TraceAnswer, TraceHop, TraceStep, Verdict};
use std::net::{IpAddr, Ipv4Addr};

/// Source port of the traced packet: an ephemeral one (RFC 6335 §6).
const SOURCE_PORT: u16 = 49_152;
/// Its TTL (RFC 1700).
const TTL: u8 = 64;
/// MAC address of ends whose own is not known: a locally administered one.
const SOME_MAC: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);

/// Answers a trace: the first packet of a new connection, walked through the programs that the switches on its way
/// should have.
pub(crate) fn trace(core: &Core, question: &FlowQuestion) -> Result<TraceAnswer, String> {
    let accepted = core.accepted();
    let state = &accepted.state;
    let flow = match resolve(state, question)? {
        Resolved::Flow(flow) => flow,
        Resolved::Apart => return Err("the two workloads are in different networks: no packet leads there".into()),
    };
    let start = entrance(state, &flow)?;
    let mut packet = packet(state, &flow, &start);
    let mut switch = start.at.switch;
    let mut hops = Vec::new();
    let hop = |switch: &Name, steps| TraceHop { switch: switch.to_string(), steps, device: String::new() };
    let mut tunnels = 0;
    if let Some(kernel) = forwarding(state, &switch) {
        let (next, sent) = carried(state, &kernel, &flow, packet)
            .ok_or_else(|| format!("{switch} is a kernel VTEP, and has no entry that leads to {}", flow.to.ip))?;
        hops.push(hop(&switch, Vec::new()));
        (switch, packet, tunnels) = (next, sent, 1);
    }
    loop {
        let program = core.program(&switch).ok_or_else(|| format!("there is no switch {switch}"))?;
        let walk = walk(program, &mut Tracker::default(), packet);
        let step = |step: &bulkhead_pipeline::Step<'_>| {
            let cause = step.entry.map_or(Cause::Miss(step.stage), |entry| entry.cause);
            TraceStep {
                stage: step.stage.spec().name.into(),
                entry: step.entry.map(render_entry).unwrap_or_default(),
                rule: Rule::of(core, state, cause).full(),
            }
        };
        let steps = walk.steps.iter().map(step).collect();
        hops.push(hop(&switch, steps));
        // From a tunnel a packet goes into no other.
        if let Some((next, arrived)) = beyond(state, &switch, &walk.outcome).filter(|_| tunnels == 0) {
            if forwarding(state, &next).is_some() {
                hops.push(hop(&next, Vec::new()));
                let to = flow.to.workload.as_ref().map(ToString::to_string).unwrap_or_default();
                return Ok(TraceAnswer {
                    verdict: Verdict::Allow,
                    outcome: format!("delivered to {to} by the kernel of {next}"),
                    hops,
                });
            }
            (switch, packet, tunnels) = (next, arrived, 1);
            continue;
        }
        let (verdict, outcome) = end(core, state, &switch, &walk.outcome);
        return Ok(TraceAnswer { verdict, outcome, hops });
    }
}

/// Where a kernel VTEP sends the first packet of a flow to, and what comes in there.
fn carried(state: &State, kernel: &Forwarding, flow: &Flow, packet: Packet) -> Option<(Name, Packet)> {
    let carried = kernel.networks.get(&flow.network)?;
    let known = carried.far.iter().find(|far| far.ips.contains(&flow.to.ip)).map(|far| far.vtep);
    let inside = state.workload_at(&flow.network, flow.to.ip).is_some();
    let vtep = known.or(carried.way_out.filter(|_| !inside))?;
    let next = state.switches.values().find(|switch| switch.vtep == Some(vtep))?;
    let sent = packet.with(Field::TunId, carried.vni.get());
    Some((next.name.clone(), arrive(&sent, Tunnel::Vxlan.port(), kernel.vtep)))
}

/// The switch at the far end of the tunnel that a packet left by, and the packet as it comes in there.
fn beyond(state: &State, switch: &Name, outcome: &Outcome) -> Option<(Name, Packet)> {
    let Outcome::Delivered { port, packet } = outcome else { return None };
    Tunnel::of(port)?;
    let far = match packet.value(Field::TunDst6) {
        0 => IpAddr::V4(Ipv4Addr::from(packet.value(Field::TunDst4) as u32)),
        v6 => IpAddr::V6(v6.into()),
    };
    let near = state.switches.get(switch)?.vtep?;
    let next = state.switches.values().find(|switch| switch.vtep == Some(far))?;
    Some((next.name.clone(), arrive(packet, port.clone(), near)))
}

/// Where a packet enters the fabric, and with which MAC address and VLAN.
struct Entrance {
    at: Attachment,
    mac: Mac,
    vlan: u16,
}

fn entrance(state: &State, flow: &Flow) -> Result<Entrance, String> {
    let ip = flow.from.ip;
    if let Some(workload) = &flow.from.workload {
        let interface = interface(state, flow, ip).ok_or_else(|| format!("{workload} has no interface with {ip}"))?;
        let at = state.workloads.get(workload).and_then(|workload| state.attachment(workload, interface));
        let at = at.ok_or_else(|| format!("{workload} is not plugged in anywhere yet: nothing says or shows where"))?;
        return Ok(Entrance { at, mac: interface.mac, vlan: 0 });
    }
    let network = state.networks.get(&flow.network).ok_or("the network is gone")?;
    // The uplink nearest to the destination, if it has one; else the first.
    let to = state.workload_at(&flow.network, flow.to.ip).zip(interface(state, flow, flow.to.ip));
    let switch = to.and_then(|(workload, interface)| state.attachment(workload, interface)).map(|at| at.switch);
    let near = network.uplinks.iter().find(|uplink| switch.as_ref() == Some(&uplink.at.switch));
    let uplink = near.or(network.uplinks.first());
    let uplink = uplink.ok_or_else(|| format!("network {} has no uplink that {ip} could come in by", flow.network))?;
    Ok(Entrance { at: uplink.at.clone(), mac: SOME_MAC, vlan: uplink.vlan })
}

fn interface<'a>(state: &'a State, flow: &Flow, ip: IpAddr) -> Option<&'a Interface> {
    state.workload_at(&flow.network, ip)?.interfaces.iter().find(|interface| interface.ips.contains(&ip))
}

fn packet(state: &State, flow: &Flow, start: &Entrance) -> Packet {
    let to = match interface(state, flow, flow.to.ip) {
        Some(interface) => interface.mac,
        None if flow.to.ip.is_multicast() || flow.to.ip == IpAddr::V4(Ipv4Addr::BROADCAST) => group_mac(flow.to.ip),
        None => SOME_MAC,
    };
    let tag = if start.vlan == 0 { 0 } else { vlan::PRESENT | u128::from(start.vlan) };
    let mut packet = Packet::new(start.at.port.clone())
        .with(Field::EthSrc, start.mac.to_bits())
        .with(Field::EthDst, to.to_bits())
        .with(Field::Vlan, tag)
        .with(Field::IpProto, flow.service.protocol())
        .with(Field::IpFrag, 0u8)
        .with(Field::IpTtl, TTL);
    packet = match (flow.from.ip, flow.to.ip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => packet
            .with(Field::EthType, ethertype::IPV4)
            .with(Field::Ipv4Src, from.to_bits())
            .with(Field::Ipv4Dst, to.to_bits()),
        (from, to) => {
            let bits = |ip| match ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
                IpAddr::V6(v6) => v6.to_bits(),
            };
            packet.with(Field::EthType, ethertype::IPV6).with(Field::Ipv6Src, bits(from)).with(Field::Ipv6Dst, bits(to))
        }
    };
    match flow.service {
        Service::Port { port, .. } => packet.with(Field::L4Src, SOURCE_PORT).with(Field::L4Dst, port),
        Service::Icmp { icmp_type, code, .. } => packet.with(Field::IcmpType, icmp_type).with(Field::IcmpCode, code),
        Service::Protocol(_) => packet,
    }
}

/// The verdict, and where the packet ended, in words.
fn end(core: &Core, state: &State, switch: &Name, outcome: &Outcome) -> (Verdict, String) {
    let by = |cause| Rule::of(core, state, cause).full();
    match outcome {
        Outcome::Delivered { port, packet } => {
            if let Some((next, _)) = beyond(state, switch, outcome) {
                return (Verdict::Allow, format!("sent to switch {next}"));
            }
            let vlan = match packet.value(Field::Vlan) {
                0 => String::new(),
                tag => format!(", VLAN {}", tag & vlan::ID),
            };
            (Verdict::Allow, format!("delivered {}{vlan}", destination(state, switch, port)))
        }
        Outcome::Answered(_) => (Verdict::Allow, "answered by the switch".into()),
        Outcome::Dropped(cause) => (Verdict::Deny, format!("dropped by {}", by(*cause))),
        Outcome::Rejected(cause) => (Verdict::Reject, format!("rejected by {}", by(*cause))),
        Outcome::Expired { cause, from } => {
            (Verdict::Deny, format!("dropped by {}: its TTL ends at {from}, and the sender is told", by(*cause)))
        }
        Outcome::NoRoute { cause, from } => {
            (Verdict::Deny, format!("dropped by {}: no route leads on from {from}, and the sender is told", by(*cause)))
        }
        Outcome::TooBig { cause, mtu } => {
            (Verdict::Deny, format!("dropped by {}: the sender is told that {mtu} bytes fit", by(*cause)))
        }
        Outcome::Probe(cause) | Outcome::Discovered(cause) => (Verdict::Deny, format!("taken by {}", by(*cause))),
        Outcome::Copied(copies) => {
            let ends: Vec<_> = copies.iter().map(|copy| end(core, state, switch, copy)).collect();
            let any = ends.iter().any(|(verdict, _)| *verdict == Verdict::Allow);
            let what: Vec<_> = ends.into_iter().map(|(_, what)| what).collect();
            (if any { Verdict::Allow } else { Verdict::Deny }, format!("{} copies: {}", copies.len(), what.join("; ")))
        }
    }
}

fn destination(state: &State, switch: &Name, port: &Port) -> String {
    let at = Attachment { switch: switch.clone(), port: port.clone() };
    match state.workload_on(&at) {
        Some(workload) => format!("to {} at {}:{port}", workload.name, at.switch),
        None if state.uplinks_at(&at).next().is_some() => format!("to the uplink {}:{port}", at.switch),
        None => format!("to {}:{port}", at.switch),
    }
}
