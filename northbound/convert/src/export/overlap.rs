//! Whether two things can be true of one flow. `false` is proven; `true` is the answer where in doubt.

use bulkhead_policy::{
    State,
    matching::address_set,
    model::{CidrSet, Peer, PortMatch, Rule},
};
use bulkhead_topology::{Name, Operator, Requirement, Selector};
use std::{collections::BTreeMap, sync::Arc};

/// Whether some labels meet all the requirements. Exact: what one key may be hangs on no other.
pub(super) fn satisfiable<'a>(all: impl Iterator<Item = &'a Requirement>) -> bool {
    let mut by_key: BTreeMap<&str, Vec<&Requirement>> = BTreeMap::new();
    for requirement in all {
        by_key.entry(&requirement.key).or_default().push(requirement);
    }
    by_key.values().all(|of_key| {
        let is = |operator| of_key.iter().any(|r| r.operator == operator);
        if !is(Operator::In) && !is(Operator::Exists) {
            // Without the label, or with a value that nobody names.
            return true;
        }
        if is(Operator::DoesNotExist) {
            return false;
        }
        let named = |operator, value: &Arc<str>| {
            of_key.iter().filter(|r| r.operator == operator).map(|r| r.values().contains(value)).collect::<Vec<_>>()
        };
        let Some(first) = of_key.iter().find(|r| r.operator == Operator::In) else { return true };
        first.values().iter().any(|value| {
            named(Operator::In, value).iter().all(|named| *named)
                && named(Operator::NotIn, value).iter().all(|named| !named)
        })
    })
}

/// Whether one workload can be selected by all of them.
pub(super) fn selectors(all: &[&Selector]) -> bool {
    satisfiable(all.iter().flat_map(|selector| selector.requirements()))
}

/// Whether one flow in `network` can match both rules of one direction.
pub(super) fn rules(state: &State, network: &Name, a: &Rule, b: &Rule) -> bool {
    let any = |a: bool, b: bool| a && b;
    let peers = match (&a.peers, &b.peers) {
        (Some(a), Some(b)) => a.iter().any(|a| b.iter().any(|b| peers(state, network, a, b))),
        (a, b) => any(a.as_ref().is_none_or(|a| !a.is_empty()), b.as_ref().is_none_or(|b| !b.is_empty())),
    };
    let ports = match (&a.ports, &b.ports) {
        (Some(a), Some(b)) => a.iter().any(|a| b.iter().any(|b| ports(a, b))),
        (a, b) => any(a.as_ref().is_none_or(|a| !a.is_empty()), b.as_ref().is_none_or(|b| !b.is_empty())),
    };
    peers && ports
}

/// Whom a peer is.
enum Whom<'a> {
    Workloads(Selector),
    Addresses(&'a CidrSet),
    External,
    Nobody,
}

fn whom<'a>(state: &'a State, network: &Name, peer: &'a Peer) -> Whom<'a> {
    match peer {
        Peer::Selector(selector) => Whom::Workloads(selector.clone()),
        Peer::Zone(zone) => match state.zones.get(zone).filter(|zone| zone.network == *network) {
            Some(zone) => Whom::Workloads(zone.selector.clone()),
            None => Whom::Nobody,
        },
        Peer::Network(name) if name == network => Whom::Workloads(Selector::everything()),
        Peer::Network(_) => Whom::Nobody,
        Peer::Cidr(set) => Whom::Addresses(set),
        Peer::AddressSet(name) => address_set(state, name).map_or(Whom::Nobody, Whom::Addresses),
        Peer::External => Whom::External,
    }
}

fn peers(state: &State, network: &Name, a: &Peer, b: &Peer) -> bool {
    match (whom(state, network, a), whom(state, network, b)) {
        (Whom::Nobody, _) | (_, Whom::Nobody) => false,
        (Whom::External, Whom::Workloads(_)) | (Whom::Workloads(_), Whom::External) => false,
        (Whom::Workloads(a), Whom::Workloads(b)) => selectors(&[&a, &b]),
        (Whom::Addresses(a), Whom::Addresses(b)) => {
            a.cidrs.iter().any(|a| b.cidrs.iter().any(|b| a.covers(b) || b.covers(a)))
        }
        _ => true,
    }
}

/// The protocol that a service is of, if it is of one.
fn protocol(port: &PortMatch) -> Option<u8> {
    match port {
        PortMatch::Ports { protocol, .. } | PortMatch::Icmp { protocol, .. } | PortMatch::Protocol(protocol) => {
            Some(*protocol)
        }
        PortMatch::Named { protocol, .. } => *protocol,
    }
}

fn ports(a: &PortMatch, b: &PortMatch) -> bool {
    if let (Some(a), Some(b)) = (protocol(a), protocol(b))
        && a != b
    {
        return false;
    }
    match (a, b) {
        (PortMatch::Ports { first: a, last: z, .. }, PortMatch::Ports { first, last, .. }) => a <= last && first <= z,
        (PortMatch::Icmp { icmp_type: a, code: x, .. }, PortMatch::Icmp { icmp_type: b, code: y, .. }) => {
            let both = |a: &Option<u8>, b: &Option<u8>| a.is_none() || b.is_none() || a == b;
            both(a, b) && both(x, y)
        }
        _ => true,
    }
}
