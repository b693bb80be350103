//! What selects and matches what: the small pure questions that the reference and the compiler share.

use crate::{
    model::{Action, CidrSet, Mode, Peer, PortMatch, Rule, Subject, Workload, Zone},
    state::State,
    verdict::Service,
};
use bulkhead_topology::{Labels, Name};
use std::{net::IpAddr, sync::Arc};

/// A rule's place among the rules of one tier: the first in this order that matches decides.
///
/// Total over the rules of one direction: two different rules never compare equal, so the deciding rule
/// is the same on every run and every switch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleOrder {
    /// The policy's priority, lower first.
    pub priority: u16,
    /// The rule's priority, lower first.
    pub rule_priority: u16,
    /// The stricter action first.
    pub action: Action,
    /// The policy's name.
    pub policy: Name,
    /// The rule's index among the policy's rules of its direction.
    pub index: usize,
}

/// Whether a policy with this subject is about `workload`. A zone that does not exist has no members.
pub fn subject_selects(state: &State, subject: &Subject, workload: &Workload) -> bool {
    match subject {
        Subject::Selector(selector) => selector.matches(&workload.labels),
        Subject::Zone(name) => {
            state.zones.get(name).is_some_and(|zone| zone_selects(zone, &workload.network, &workload.labels))
        }
    }
}

/// Whether workloads of `network` with `labels` are members of `zone`.
pub fn zone_selects(zone: &Zone, network: &Name, labels: &Labels) -> bool {
    zone.network == *network && zone.selector.matches(labels)
}

/// The zones that `workload` is a member of, by name.
pub fn zones_of<'a>(state: &'a State, workload: &'a Workload) -> impl Iterator<Item = &'a Arc<Zone>> {
    state.zones.values().filter(|zone| zone_selects(zone, &workload.network, &workload.labels))
}

/// How denials at `workload` are carried out: the strictest mode of its zones; enforced if it has none.
pub fn effective_mode(state: &State, workload: &Workload) -> Mode {
    strictest(zones_of(state, workload).map(|zone| zone.mode))
}

/// Of 100 workloads of a zone in mode `canary`, how many enforce.
const CANARY_SHARE: u32 = 10;

/// Whether denials at `workload` are carried out, or only counted.
pub fn enforces(state: &State, workload: &Workload) -> bool {
    carries_out(effective_mode(state, workload), &workload.name)
}

/// Whether a workload of this name carries its denials out in that mode. Of a canary's workloads the same share does
/// always, whatever other workloads there are: it hangs on the name alone.
pub fn carries_out(mode: Mode, name: &Name) -> bool {
    match mode {
        Mode::Enforce => true,
        Mode::Canary => share(name) < CANARY_SHARE,
        Mode::Monitor => false,
    }
}

/// A workload's stable place among 100 (FNV-1a of its name).
fn share(name: &Name) -> u32 {
    let hash =
        name.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash % 100
}

/// The strictest of `modes`; [`Mode::Enforce`] if there is none.
pub fn strictest(modes: impl IntoIterator<Item = Mode>) -> Mode {
    modes.into_iter().max().unwrap_or(Mode::Enforce)
}

/// Whether the other side of a flow in `network`, at `ip` and, if it is managed, `workload` of that same
/// network, is what `peer` says. A zone or an address set that does not exist matches no one.
pub fn peer_matches(state: &State, peer: &Peer, network: &Name, ip: IpAddr, workload: Option<&Workload>) -> bool {
    match peer {
        Peer::Selector(selector) => workload.is_some_and(|w| selector.matches(&w.labels)),
        Peer::Zone(name) => match (state.zones.get(name), workload) {
            (Some(zone), Some(w)) => zone_selects(zone, network, &w.labels),
            _ => false,
        },
        Peer::Network(name) => name == network && workload.is_some(),
        Peer::Cidr(set) => set.contains(ip),
        Peer::AddressSet(name) => address_set(state, name).is_some_and(|set| set.contains(ip)),
        Peer::External => workload.is_none(),
    }
}

/// The addresses of a named set, if there is one of that name.
pub fn address_set<'a>(state: &'a State, name: &Name) -> Option<&'a CidrSet> {
    state.address_sets.get(name).map(|named| &named.set)
}

/// Whether `service`, asked for at `destination` (`None`: an address of no workload), is what `port` says.
pub fn port_matches(port: &PortMatch, service: Service, destination: Option<&Workload>) -> bool {
    match port {
        PortMatch::Ports { protocol, first, last } => match service {
            Service::Port { protocol: p, port } => p == *protocol && (*first..=*last).contains(&port),
            _ => false,
        },
        PortMatch::Named { name, protocol } => {
            let Some(named) = destination.and_then(|w| w.named_ports.get(name)) else {
                return false;
            };
            protocol.is_none_or(|p| p == named.protocol)
                && service == Service::Port { protocol: named.protocol, port: named.port }
        }
        PortMatch::Icmp { protocol, icmp_type, code } => match service {
            Service::Icmp { protocol: p, icmp_type: t, code: c } => {
                p == *protocol && icmp_type.is_none_or(|want| want == t) && code.is_none_or(|want| want == c)
            }
            _ => false,
        },
        PortMatch::Protocol(protocol) => service.protocol() == *protocol,
    }
}

/// Whether `rule` matches a flow in `network` whose other side is at `ip` (`peer`, if managed) and that asks
/// for `service` at `destination`. An absent list matches anything, an empty one nothing.
pub fn rule_matches(
    state: &State,
    rule: &Rule,
    network: &Name,
    (ip, peer): (IpAddr, Option<&Workload>),
    (service, destination): (Service, Option<&Workload>),
) -> bool {
    rule.peers.as_ref().is_none_or(|peers| peers.iter().any(|p| peer_matches(state, p, network, ip, peer)))
        && rule.ports.as_ref().is_none_or(|ports| ports.iter().any(|p| port_matches(p, service, destination)))
}
