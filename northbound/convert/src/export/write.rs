//! Selectors, peers and ports in Kubernetes' words.

use super::{Export, whole_network};
use crate::kubernetes::labels::{NAME, NAMESPACE_NAME, to_namespace};
use bulkhead_policy::{
    matching::address_set,
    model::{CidrSet, Direction, Peer, Policy, PortMatch, Rule},
};
use bulkhead_topology::{Operator, Requirement, Selector};
use serde_json::{Map, Value, json};

/// Longest name of a port in Kubernetes.
const MAX_PORT_NAME: usize = 15;

/// A label selector in Kubernetes' form; `{}` if there is no requirement.
pub(super) fn selector<'a>(requirements: impl Iterator<Item = (String, &'a Requirement)>) -> Value {
    let (mut labels, mut expressions) = (Map::new(), Vec::new());
    for (key, requirement) in requirements {
        let values: Vec<&str> = requirement.values().iter().map(AsRef::as_ref).collect();
        match (requirement.operator, values.as_slice()) {
            (Operator::In, [one]) if !labels.contains_key(&key) => drop(labels.insert(key, json!(one))),
            (Operator::In, _) => expressions.push(json!({"key": key, "operator": "In", "values": values})),
            // Not one of none is anything.
            (Operator::NotIn, []) => {}
            (Operator::NotIn, _) => expressions.push(json!({"key": key, "operator": "NotIn", "values": values})),
            (Operator::Exists, _) => expressions.push(json!({"key": key, "operator": "Exists"})),
            (Operator::DoesNotExist, _) => expressions.push(json!({"key": key, "operator": "DoesNotExist"})),
        }
    }
    let mut whole = Map::new();
    if !labels.is_empty() {
        whole.insert("matchLabels".into(), labels.into());
    }
    if !expressions.is_empty() {
        whole.insert("matchExpressions".into(), expressions.into());
    }
    whole.into()
}

/// What a selector asks of pods themselves.
pub(super) fn of_pods(selector: &Selector) -> impl Iterator<Item = (String, &Requirement)> {
    let own = selector.requirements().iter().filter(|requirement| to_namespace(&requirement.key).is_none());
    own.map(|requirement| (requirement.key.to_string(), requirement))
}

/// Whether nobody at all can be selected: a list of no values, which Kubernetes does not take.
pub(super) fn is_empty(selector: &Selector) -> bool {
    selector.requirements().iter().any(|r| r.operator == Operator::In && r.values().is_empty())
}

impl Export<'_> {
    /// A rule that allows, for a policy of `namespace`; nothing if nothing is left of it that could match.
    pub(super) fn rule(
        &mut self,
        policy: &Policy,
        direction: Direction,
        index: usize,
        namespace: &str,
    ) -> Option<Value> {
        let rule: &Rule = policy.rules(direction).get(index)?;
        let (section, field) = match direction {
            Direction::Ingress => ("ingress", "from"),
            Direction::Egress => ("egress", "to"),
        };
        let path = format!("spec.{section}[{index}]");
        let mut said = Map::new();
        if let Some(peers) = &rule.peers {
            let mut all = Vec::new();
            for (i, peer) in peers.iter().enumerate() {
                self.peer(policy, &format!("{path}.{field}[{i}]"), peer, namespace, &mut all);
            }
            // An empty list would be anyone there.
            if all.is_empty() {
                return None;
            }
            said.insert(field.into(), all.into());
        }
        if let Some(ports) = &rule.ports {
            let mut all = Vec::new();
            for (i, port) in ports.iter().enumerate() {
                self.port(policy, &format!("{path}.ports[{i}]"), port, &mut all);
            }
            if all.is_empty() {
                return None;
            }
            said.insert("ports".into(), all.into());
        }
        Some(said.into())
    }

    fn peer(&mut self, policy: &Policy, path: &str, peer: &Peer, namespace: &str, all: &mut Vec<Value>) {
        match peer {
            Peer::Selector(selector) => all.extend(self.pods(policy, path, selector, namespace)),
            Peer::Zone(zone) => {
                let state = self.state;
                if let Some(zone) = state.zones.get(zone).filter(|zone| zone.network == self.zone.network) {
                    all.extend(self.pods(policy, path, &zone.selector, namespace));
                }
            }
            Peer::Network(name) if *name == self.zone.network => {
                all.extend(self.pods(policy, path, &whole_network(), namespace));
            }
            Peer::Network(_) => {}
            Peer::Cidr(set) => blocks(set, all),
            Peer::AddressSet(name) => {
                if let Some(set) = address_set(self.state, name) {
                    blocks(set, all);
                    let message = format!("the addresses of {name} are written as they are now");
                    self.warn(policy, path, message, "export again when they change");
                }
            }
            Peer::External => {
                let message = "addresses of no workload cannot be said: this peer is left out";
                self.warn(policy, path, message, "name them as CIDRs");
            }
        }
    }

    /// The pods that a selector selects.
    fn pods(&mut self, policy: &Policy, path: &str, all: &Selector, namespace: &str) -> Option<Value> {
        if is_empty(all) {
            return None;
        }
        let mut of_namespaces: Vec<(String, Requirement)> = Vec::new();
        for requirement in all.requirements() {
            let Some(key) = to_namespace(&requirement.key) else { continue };
            let new = |operator, values: &[&str]| {
                Requirement::new(NAME.into(), operator, values.iter().map(|value| (*value).into()))
            };
            let said = match (&*requirement.key == NAMESPACE_NAME, requirement.operator, self.home) {
                // Whoever has no such label is in the namespace that was named, and nobody else is.
                (true, Operator::Exists, Some(home)) => new(Operator::NotIn, &[home]),
                (true, Operator::DoesNotExist, Some(home)) => new(Operator::In, &[home]),
                // All pods have it.
                (true, Operator::Exists, None) => continue,
                (true, Operator::DoesNotExist, None) => return None,
                (true, Operator::In, Some(home)) if requirement.values().iter().any(|value| &**value == home) => {
                    let message = format!("workloads of the namespace {home} are told apart from those without one");
                    self.refuse(policy, path, message, "export into a namespace of another name");
                    return None;
                }
                _ => requirement.clone(),
            };
            of_namespaces.push((key.to_string(), said));
        }
        let pods = selector(of_pods(all));
        let own = match of_namespaces.as_slice() {
            [(key, only)] if key == NAME && only.operator == Operator::In => {
                matches!(only.values(), [one] if **one == *namespace)
            }
            _ => false,
        };
        let mut peer = Map::new();
        if own {
            peer.insert("podSelector".into(), pods);
            return Some(peer.into());
        }
        let there = selector(of_namespaces.iter().map(|(key, requirement)| (key.clone(), requirement)));
        peer.insert("namespaceSelector".into(), there);
        if pods != json!({}) {
            peer.insert("podSelector".into(), pods);
        }
        Some(peer.into())
    }

    fn port(&mut self, policy: &Policy, path: &str, port: &PortMatch, all: &mut Vec<Value>) {
        let name = |number: u8| match number {
            6 => Some("TCP"),
            17 => Some("UDP"),
            132 => Some("SCTP"),
            _ => None,
        };
        let left_out = |what: String| format!("{what} cannot be said: it is left out");
        match port {
            PortMatch::Ports { protocol, first, last } => {
                let Some(protocol) = name(*protocol) else { return };
                // Port 0 is none there.
                let first = (*first).max(1);
                if first == *last {
                    all.push(json!({"protocol": protocol, "port": first}));
                } else if first < *last {
                    all.push(json!({"protocol": protocol, "port": first, "endPort": last}));
                }
            }
            PortMatch::Protocol(number) => match name(*number) {
                Some(protocol) => all.push(json!({"protocol": protocol})),
                None => self.warn(policy, path, left_out(format!("IP protocol {number}")), ""),
            },
            PortMatch::Icmp { protocol, .. } => {
                let what = if *protocol == 1 { "ICMP" } else { "ICMPv6" };
                let hint = "a rule without `ports` allows it together with everything else";
                self.warn(policy, path, left_out(what.into()), hint);
            }
            PortMatch::Named { name: named, protocol } => {
                if named.len() > MAX_PORT_NAME || named.contains("--") {
                    self.warn(policy, path, left_out(format!("a port's name like `{named}`")), "at most 15 characters");
                    return;
                }
                // Without a protocol TCP would be meant there.
                let protocols = match protocol {
                    None => vec!["TCP", "UDP", "SCTP"],
                    Some(protocol) => name(*protocol).into_iter().collect(),
                };
                all.extend(protocols.into_iter().map(|protocol| json!({"protocol": protocol, "port": &**named})));
            }
        }
    }
}

/// A block for each prefix; exceptions are within their block there.
fn blocks(set: &CidrSet, all: &mut Vec<Value>) {
    for cidr in &set.cidrs {
        if set.except.iter().any(|except| except.covers(cidr)) {
            continue;
        }
        let except: Vec<String> = set.except.iter().filter(|net| cidr.covers(net)).map(ToString::to_string).collect();
        all.push(match except.is_empty() {
            true => json!({"ipBlock": {"cidr": cidr.to_string()}}),
            false => json!({"ipBlock": {"cidr": cidr.to_string(), "except": except}}),
        });
    }
}
