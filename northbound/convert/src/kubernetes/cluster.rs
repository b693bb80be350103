//! The cluster-wide kinds of policy.networking.k8s.io: AdminNetworkPolicy and BaselineAdminNetworkPolicy of v1alpha1, and
//! ClusterNetworkPolicy of v1alpha2.
//!
//! Admin comes before NetworkPolicies, as our tier `platform` does before `application`; baseline after them, as ours.
//! A rule's place in its policy is its priority.

use super::rules::{self, cidr, namespaces_or_pods, pod_peer};
use crate::{
    finding::short,
    value::{Reader, Value},
};
use bulkhead_policy::model::*;
use bulkhead_topology::Name;

/// Which of the kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// AdminNetworkPolicy
    Admin,
    /// BaselineAdminNetworkPolicy
    Baseline,
    /// ClusterNetworkPolicy
    Cluster,
}

/// Priority of the one BaselineAdminNetworkPolicy.
const BASELINE_PRIORITY: u16 = 1000;
/// Largest priority of the others.
const MAX_PRIORITY: i64 = 1000;
/// Most rules of one direction, by v1alpha1; v1alpha2 allows fewer.
const MAX_RULES: usize = 100;
/// Longest name of a rule of ours, in bytes.
const MAX_NAME: usize = 63;

/// The policy that one of them is.
pub(crate) fn policy(reader: &mut Reader<'_>, root: &Value<'_>, kind: Kind, name: Name) -> Option<Policy> {
    let spec = reader.needed(root, "spec")?;
    let known: &[&str] = match kind {
        Kind::Admin => &["priority", "subject", "ingress", "egress"],
        Kind::Baseline => &["subject", "ingress", "egress"],
        Kind::Cluster => &["tier", "priority", "subject", "ingress", "egress"],
    };
    if !reader.only(&spec, known) {
        return None;
    }
    let tier = match kind {
        Kind::Admin => Tier::Platform,
        Kind::Baseline => Tier::Baseline,
        Kind::Cluster => {
            let tier = reader.needed(&spec, "tier")?;
            match reader.text(&tier)? {
                "Admin" => Tier::Platform,
                "Baseline" => Tier::Baseline,
                other => {
                    reader.refuse(&tier, format!("`{}` is no tier", short(other)), "Admin or Baseline");
                    return None;
                }
            }
        }
    };
    let priority = if kind == Kind::Baseline {
        BASELINE_PRIORITY
    } else {
        let priority = reader.needed(&spec, "priority")?;
        u16::try_from(reader.number(&priority, 0..=MAX_PRIORITY)?).ok()?
    };
    let subject = reader.needed(&spec, "subject")?;
    reader.only(&subject, &["namespaces", "pods"]);
    let subject = namespaces_or_pods(reader, &subject)?;
    let mut section = |direction: Direction| -> Option<Vec<Rule>> {
        let rules = reader.list(&spec, direction.as_str()).unwrap_or_default();
        if let Some(first) = rules.get(MAX_RULES) {
            reader.refuse(first, format!("more than {MAX_RULES} rules"), "");
            return None;
        }
        let mut read: Vec<Rule> = Vec::new();
        for (at, rule) in (0..).zip(&rules) {
            let mut rule = self::rule(reader, rule, (kind, tier), direction, at)?;
            if read.iter().any(|other| other.name == rule.name) {
                // Names are for the eye there, and tell rules apart here.
                rule.name = "".into();
            }
            read.push(rule);
        }
        Some(read)
    };
    let (ingress, egress) = (section(Direction::Ingress), section(Direction::Egress));
    Some(Policy {
        name,
        tier,
        priority,
        staged: false,
        stateful: false,
        subject: Subject::Selector(subject),
        isolate: Sides::default(),
        ingress: ingress?,
        egress: egress?,
    })
}

fn rule(
    reader: &mut Reader<'_>,
    at: &Value<'_>,
    (kind, tier): (Kind, Tier),
    direction: Direction,
    place: u16,
) -> Option<Rule> {
    let (from, ports) = match direction {
        Direction::Ingress => ("from", if kind == Kind::Cluster { "protocols" } else { "ports" }),
        Direction::Egress => ("to", if kind == Kind::Cluster { "protocols" } else { "ports" }),
    };
    if !reader.only(at, &["name", "action", from, ports]) {
        return None;
    }
    let name = reader.text_in(at, "name").unwrap_or_default();
    let good = name.len() <= MAX_NAME && name.bytes().all(|b| b.is_ascii_graphic());
    let word = reader.needed(at, "action")?;
    let action = match (reader.text(&word)?, kind) {
        ("Allow", Kind::Admin | Kind::Baseline) | ("Accept", Kind::Cluster) => Action::Allow,
        ("Deny", _) => Action::Deny,
        // What comes after the baseline tier is that everybody may do anything. Here that is said in the same tier, where
        // nothing gets past a rule that passes.
        ("Pass", Kind::Cluster) if tier == Tier::Baseline => Action::Allow,
        ("Pass", Kind::Admin | Kind::Cluster) => Action::Pass,
        (other, _) => {
            reader.refuse(&word, format!("`{}` is no action of this kind", short(other)), "");
            return None;
        }
    };
    // These lists, unlike NetworkPolicy's, have to be there and to have something in them.
    let list = reader.needed(at, from)?;
    let peers = reader.list(at, from)?;
    if peers.is_empty() {
        reader.refuse(&list, "an empty list of peers", "Kubernetes wants at least one");
    }
    let ports = reader.list(at, ports);
    if ports.as_ref().is_some_and(Vec::is_empty) {
        reader.refuse(at, "an empty list of ports", "for any, leave it out");
    }
    let mut said = Vec::new();
    for peer in &peers {
        self::peer(reader, peer, direction, action, &mut said);
    }
    let read = |port| self::port(reader, port, kind);
    let ports: Option<Vec<PortMatch>> = ports.as_ref().map(|ports| ports.iter().flat_map(read).collect());
    let named = ports.iter().flatten().any(|port| matches!(port, PortMatch::Named { .. }));
    if named && direction == Direction::Egress && said.iter().any(|peer| matches!(peer, Peer::Cidr(_))) {
        reader.refuse(at, "a port's name together with networks, which have no names for ports", "");
    }
    Some(Rule {
        name: if good { name.into() } else { "".into() },
        action,
        priority: place,
        peers: Some(said),
        ports,
        log: false,
    })
}

/// Adds what a peer says.
fn peer(reader: &mut Reader<'_>, at: &Value<'_>, direction: Direction, action: Action, said: &mut Vec<Peer>) {
    let known: &[&str] = match direction {
        Direction::Ingress => &["namespaces", "pods"],
        Direction::Egress => &["namespaces", "pods", "nodes", "networks", "domainNames"],
    };
    if !reader.only(at, known) {
        return;
    }
    if at.fields().filter(|(key, _)| at.field(key).is_some()).count() != 1 {
        reader.refuse(at, format!("exactly one of {} is expected here", known.join(", ")), "");
        return;
    }
    for (field, what) in [("nodes", "nodes are no workloads"), ("domainNames", "names are not addresses")] {
        let Some(value) = at.field(field) else { continue };
        // A peer that is left out of an allowing rule narrows it; out of any other it lets more pass.
        match action {
            Action::Allow => {
                reader.warn(&value, format!("{what}: this peer is left out"), "name their addresses as networks")
            }
            _ => reader.refuse(&value, format!("{what}: this peer cannot be said"), "name their addresses as networks"),
        }
        return;
    }
    let Some(networks) = at.field("networks") else {
        said.extend(pod_peer(reader, at));
        return;
    };
    let listed = reader.list(at, "networks").unwrap_or_default();
    if listed.is_empty() {
        reader.refuse(&networks, "an empty list of networks", "Kubernetes wants at least one");
    }
    let mut cidrs: Vec<_> = listed.iter().filter_map(|value| cidr(reader, value)).collect();
    cidrs.sort();
    cidrs.dedup();
    said.push(Peer::Cidr(CidrSet { cidrs, except: Vec::new() }));
}

fn port(reader: &mut Reader<'_>, at: &Value<'_>, kind: Kind) -> Option<PortMatch> {
    let known: &[&str] = match kind {
        Kind::Cluster => &["tcp", "udp", "sctp", "destinationNamedPort"],
        Kind::Admin | Kind::Baseline => &["portNumber", "portRange", "namedPort"],
    };
    if !reader.only(at, known) {
        return None;
    }
    let mut there = known.iter().filter_map(|key| at.field(key).map(|value| (*key, value)));
    let (Some((key, value)), None) = (there.next(), there.next()) else {
        reader.refuse(at, format!("exactly one of {} is expected here", known.join(", ")), "");
        return None;
    };
    match key {
        "namedPort" | "destinationNamedPort" => rules::named(reader, &value, None),
        "portNumber" => {
            reader.only(&value, &["protocol", "port"]);
            let protocol = rules::protocol(reader, &value)?;
            let port = reader.needed(&value, "port")?;
            let port = rules::number(reader, &port)?;
            Some(PortMatch::Ports { protocol, first: port, last: port })
        }
        "portRange" => {
            reader.only(&value, &["protocol", "start", "end"]);
            let protocol = rules::protocol(reader, &value)?;
            range(reader, &value, protocol)
        }
        _ => {
            let protocol = rules::PROTOCOLS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(key))?.1;
            destination(reader, &value, protocol)
        }
    }
}

/// `destinationPort` of v1alpha2: a number or a range. Without one there would be nothing in the map, which is refused there.
fn destination(reader: &mut Reader<'_>, at: &Value<'_>, protocol: u8) -> Option<PortMatch> {
    reader.only(at, &["destinationPort"]);
    let port = reader.needed(at, "destinationPort")?;
    reader.only(&port, &["number", "range"]);
    match (port.field("number"), port.field("range")) {
        (Some(number), None) => {
            let port = rules::number(reader, &number)?;
            Some(PortMatch::Ports { protocol, first: port, last: port })
        }
        (None, Some(bounds)) => {
            reader.only(&bounds, &["start", "end"]);
            range(reader, &bounds, protocol)
        }
        _ => {
            reader.refuse(&port, "exactly one of `number` and `range` is expected here", "");
            None
        }
    }
}

fn range(reader: &mut Reader<'_>, at: &Value<'_>, protocol: u8) -> Option<PortMatch> {
    let (start, end) = (reader.needed(at, "start")?, reader.needed(at, "end")?);
    let (first, last) = (rules::number(reader, &start)?, rules::number(reader, &end)?);
    if last < first {
        reader.refuse(at, format!("the range {first}-{last} ends before it begins"), "");
        return None;
    }
    Some(PortMatch::Ports { protocol, first, last })
}
