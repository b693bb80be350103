//! One line for each resource.

use crate::attached::Seen;
use bulkhead_types::{Kind, Resource, model::*, protocol};
use std::fmt::Display;

/// Column heads of a kind.
pub fn head(kind: Kind, wide: bool) -> &'static [&'static str] {
    let all: &[&str] = match kind {
        Kind::Network => &["NAME", "VNI", "SUBNETS", "DEFAULT", "ENCAP", "ON-TIGHTEN", "UPLINKS", "GATEWAYS"],
        Kind::Switch => &["NAME", "DRIVER", "ROLE", "VTEP", "OVSDB"],
        Kind::AddressSet => &["NAME", "CIDRS", "EXCEPT"],
        Kind::Workload => &["NAME", "NETWORK", "IPS", "ATTACHED", "LABELS", "MACS", "NAMED-PORTS"],
        Kind::Zone => &["NAME", "NETWORK", "SELECTOR", "ISOLATE", "MODE"],
        Kind::Policy => &["NAME", "TIER", "PRIORITY", "STAGE", "SUBJECT", "INGRESS", "EGRESS", "ISOLATE"],
        Kind::Link => &["NAME", "A", "B"],
        Kind::Host => &["NAME", "UNDERLAY-MTU", "PLUGGED"],
        Kind::Adjacency => &["NAME", "PORTS"],
    };
    let narrow = match kind {
        Kind::Network | Kind::Switch => 4,
        Kind::Workload => 5,
        Kind::Policy => 7,
        _ => all.len(),
    };
    if wide { all } else { all.get(..narrow).unwrap_or(all) }
}

/// Items with commas between them; `-` if there are none.
pub fn join<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    if items.is_empty() { "-".into() } else { items.join(",") }
}

/// `switch:port`
pub fn place(at: &Attachment) -> String {
    format!("{}:{}", at.switch, at.port)
}

/// Directions that are on.
pub fn sides(sides: Sides) -> String {
    join(Direction::BOTH.into_iter().rev().filter(|d| sides.get(*d)).map(Direction::as_str))
}

/// A zone's mode in documents.
pub fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Monitor => "monitor",
        Mode::Canary => "canary",
        Mode::Enforce => "enforce",
    }
}

/// A policy's subject on one line.
pub fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Selector(selector) => selector.to_string(),
        Subject::Zone(zone) => format!("zone {zone}"),
    }
}

/// A peer on one line.
pub fn peer(peer: &Peer) -> String {
    match peer {
        Peer::Selector(selector) => selector.to_string(),
        Peer::Zone(zone) => format!("zone {zone}"),
        Peer::Network(network) => format!("network {network}"),
        Peer::AddressSet(set) => format!("addressset {set}"),
        Peer::External => "external".into(),
        Peer::Cidr(set) if set.except.is_empty() => join(&set.cidrs),
        Peer::Cidr(set) => format!("{} except {}", join(&set.cidrs), join(&set.except)),
    }
}

/// A port on one line.
pub fn port(port: &PortMatch) -> String {
    match port {
        PortMatch::Ports { protocol, first, last } if first == last => format!("{first}/{}", protocol::name(*protocol)),
        PortMatch::Ports { protocol, first, last } => format!("{first}-{last}/{}", protocol::name(*protocol)),
        PortMatch::Named { name, protocol: None } => name.to_string(),
        PortMatch::Named { name, protocol: Some(protocol) } => format!("{name}/{}", protocol::name(*protocol)),
        PortMatch::Icmp { protocol, icmp_type, code } => {
            let parts = [*icmp_type, *code].into_iter().flatten().map(|n| format!("/{n}"));
            protocol::name(*protocol) + &parts.collect::<String>()
        }
        PortMatch::Protocol(protocol) => protocol::name(*protocol),
    }
}

/// The line of a resource.
pub fn row(resource: &Resource, seen: &Seen, wide: bool) -> Vec<String> {
    let mut row = full(resource, seen);
    let kind = bulkhead_types::key_of(resource).kind;
    row.truncate(head(kind, wide).len());
    row
}

fn full(resource: &Resource, seen: &Seen) -> Vec<String> {
    match resource {
        Resource::Network(r) => vec![
            r.name.to_string(),
            r.vni.to_string(),
            join(&r.subnets),
            if r.default_action == DefaultAction::Deny { "deny" } else { "allow" }.into(),
            if r.encap == Encap::Geneve { "geneve" } else { "vxlan" }.into(),
            if r.on_tighten == OnTighten::Revoke { "revoke" } else { "persist" }.into(),
            join(
                r.uplinks
                    .iter()
                    .map(|u| if u.vlan == 0 { place(&u.at) } else { format!("{}.{}", place(&u.at), u.vlan) }),
            ),
            join(&r.gateways),
        ],
        Resource::Switch(r) => vec![
            r.name.to_string(),
            match &r.driver {
                Driver::Openflow(id) => format!("openflow {id}"),
                Driver::P4runtime { address, device_id, .. } => format!("p4runtime {address} {device_id}"),
                Driver::Sim => "sim".into(),
                Driver::Kernel => "kernel".into(),
            },
            match r.role {
                Role::Hypervisor => "hypervisor",
                Role::Leaf => "leaf",
                Role::Spine => "spine",
            }
            .into(),
            join(r.vtep),
            join(&r.ovsdb),
        ],
        Resource::AddressSet(r) => vec![r.name.to_string(), join(&r.set.cidrs), join(&r.set.except)],
        Resource::Workload(r) => vec![
            r.name.to_string(),
            r.network.to_string(),
            join(r.interfaces.iter().flat_map(|i| &i.ips)),
            join(seen.places(r)),
            join(r.labels.iter().map(|(k, v)| format!("{k}={v}"))),
            join(r.interfaces.iter().map(|i| i.mac)),
            join(r.named_ports.iter().map(|(name, port)| format!("{name}={port}"))),
        ],
        Resource::Zone(r) => vec![
            r.name.to_string(),
            r.network.to_string(),
            r.selector.to_string(),
            sides(r.isolate),
            mode(r.mode).into(),
        ],
        Resource::Policy(r) => vec![
            r.name.to_string(),
            r.tier.as_str().into(),
            r.priority.to_string(),
            if r.staged { "staged" } else { "active" }.into(),
            subject(&r.subject),
            r.ingress.len().to_string(),
            r.egress.len().to_string(),
            sides(r.isolate),
        ],
        Resource::Link(r) => vec![r.name.to_string(), place(&r.a), place(&r.b)],
        Resource::Host(r) => vec![r.name.to_string(), join(r.underlay_mtu), r.plugged.len().to_string()],
        Resource::Adjacency(r) => vec![r.name.to_string(), r.ports.len().to_string()],
    }
}
