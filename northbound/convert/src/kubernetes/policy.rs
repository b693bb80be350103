//! `NetworkPolicy` of networking.k8s.io/v1.

use super::{
    labels::{Of, in_namespace, requirements, selector},
    rules::{self, cidr, cidr_set},
};
use crate::value::{Reader, Value};
use bulkhead_policy::model::*;
use bulkhead_topology::Name;

/// Where all NetworkPolicies stand: none is before another, because they only allow.
const PRIORITY: u16 = 1000;

/// The policy that a NetworkPolicy is.
pub(crate) fn policy(reader: &mut Reader<'_>, root: &Value<'_>, namespace: &str, name: Name) -> Option<Policy> {
    // A policy that says nothing more isolates every pod of its namespace.
    let spec = reader.needed(root, "spec")?;
    if !reader.only(&spec, &["podSelector", "policyTypes", "ingress", "egress"]) {
        return None;
    }
    let mut subject = vec![in_namespace(namespace)];
    subject.extend(requirements(reader, spec.field("podSelector").as_ref(), Of::Pods));
    let ingress = reader.list(&spec, "ingress").unwrap_or_default();
    let egress = reader.list(&spec, "egress").unwrap_or_default();
    let types = reader.list(&spec, "policyTypes").unwrap_or_default();
    let isolate = if types.is_empty() {
        // Ingress always, egress if there is a rule for it: `egress: []` alone isolates nothing.
        Sides { ingress: true, egress: !egress.is_empty() }
    } else {
        let mut isolate = Sides::default();
        for value in &types {
            match reader.text(value) {
                Some("Ingress") => isolate.ingress = true,
                Some("Egress") => isolate.egress = true,
                _ => reader.refuse(value, "a policy type is Ingress or Egress", ""),
            }
        }
        isolate
    };
    let mut section = |rules: &[Value<'_>], direction: Direction| -> Vec<Rule> {
        let read: Vec<Rule> = rules.iter().filter_map(|rule| self::rule(reader, rule, namespace, direction)).collect();
        if isolate.get(direction) {
            return read;
        }
        if let Some(first) = rules.first() {
            let message = format!("`policyTypes` leaves {} out, so these rules say nothing", direction.as_str());
            reader.warn(first, message, "");
        }
        Vec::new()
    };
    let ingress = section(&ingress, Direction::Ingress);
    let egress = section(&egress, Direction::Egress);
    Some(Policy {
        name,
        tier: Tier::Application,
        priority: PRIORITY,
        staged: false,
        stateful: false,
        subject: Subject::Selector(selector(subject)),
        isolate,
        ingress,
        egress,
    })
}

fn rule(reader: &mut Reader<'_>, at: &Value<'_>, namespace: &str, direction: Direction) -> Option<Rule> {
    let field = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    if !reader.only(at, &[field, "ports"]) {
        return None;
    }
    // An empty list is as good as none in both places: Kubernetes says so of these two, and of no other list.
    let peers = reader.list(at, field).filter(|peers| !peers.is_empty());
    let ports = reader.list(at, "ports").filter(|ports| !ports.is_empty());
    Some(Rule {
        name: "".into(),
        action: Action::Allow,
        priority: 0,
        peers: peers.map(|peers| peers.iter().filter_map(|peer| self::peer(reader, peer, namespace)).collect()),
        ports: ports.map(|ports| ports.iter().filter_map(|port| self::port(reader, port)).collect()),
        log: false,
    })
}

fn peer(reader: &mut Reader<'_>, at: &Value<'_>, namespace: &str) -> Option<Peer> {
    if !reader.only(at, &["podSelector", "namespaceSelector", "ipBlock"]) {
        return None;
    }
    let (pods, namespaces) = (at.field("podSelector"), at.field("namespaceSelector"));
    match (at.field("ipBlock"), pods.is_some() || namespaces.is_some()) {
        (Some(block), false) => ip_block(reader, &block),
        (None, true) => {
            let mut all = match &namespaces {
                Some(namespaces) => rules::of_namespaces(reader, namespaces),
                None => vec![in_namespace(namespace)],
            };
            all.extend(requirements(reader, pods.as_ref(), Of::Pods));
            Some(Peer::Selector(selector(all)))
        }
        (Some(_), true) => {
            reader.refuse(at, "an ipBlock together with a selector", "give each an item of its own");
            None
        }
        (None, false) => {
            let hint = "for any peer leave the list out; for any pod write `namespaceSelector: {}`";
            reader.refuse(at, "a peer that says nothing", hint);
            None
        }
    }
}

fn ip_block(reader: &mut Reader<'_>, at: &Value<'_>) -> Option<Peer> {
    if !reader.only(at, &["cidr", "except"]) {
        return None;
    }
    let whole = reader.needed(at, "cidr")?;
    let whole = cidr(reader, &whole)?;
    let mut except = Vec::new();
    for value in reader.list(at, "except").unwrap_or_default() {
        let out = cidr(reader, &value)?;
        if !whole.covers(&out) || whole == out {
            reader.refuse(&value, format!("{out} is not a part of {whole}"), "an exception lies within its block");
        }
        except.push(out);
    }
    Some(Peer::Cidr(cidr_set(whole, except)))
}

fn port(reader: &mut Reader<'_>, at: &Value<'_>) -> Option<PortMatch> {
    if !reader.only(at, &["protocol", "port", "endPort"]) {
        return None;
    }
    let protocol = rules::protocol(reader, at)?;
    let end = at.field("endPort");
    match at.field("port") {
        None => {
            if let Some(end) = end {
                reader.refuse(&end, "`endPort` without `port`", "");
            }
            Some(PortMatch::Protocol(protocol))
        }
        Some(port) if port.is_number() => {
            let first = rules::number(reader, &port)?;
            let last = match end {
                None => first,
                Some(end) => {
                    let last = rules::number(reader, &end)?;
                    if last < first {
                        reader.refuse(&end, format!("the range {first}-{last} ends before it begins"), "");
                    }
                    last
                }
            };
            Some(PortMatch::Ports { protocol, first, last })
        }
        Some(port) => {
            if let Some(end) = end {
                reader.refuse(&end, "`endPort` with a port's name", "give the range's first port as a number");
            }
            rules::named(reader, &port, Some(protocol))
        }
    }
}
