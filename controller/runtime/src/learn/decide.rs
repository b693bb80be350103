//! What becomes of somebody who was heard at a port.

use super::{NotLearned, at_port};
use bulkhead_policy::{
    State,
    model::{Attachment, Interface, LEARNED, LEARNED_NAMES, Network, Workload},
    overlay::GATEWAY_MAC,
};
use bulkhead_topology::{Labels, Mac, Name};
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

/// Addresses of one workload, at most: IPv4, and what IPv6 makes up (RFC 8981) in some days.
pub(super) const MAX_ADDRESSES: usize = 8;

/// What becomes of somebody who was heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing is new.
    Nothing,
    /// He is not believed.
    Refuse(NotLearned),
    /// He is this workload from now on. What he takes over from others who were learned is named by nobody else.
    Learn(Workload),
}

/// Decides about `mac`, which was heard at `at`, where nobody else is, with addresses that hosts of the network may have.
/// Whoever `is_gone` from where he was learned keeps nothing from others.
pub(super) fn decide(
    state: &State,
    network: &Network,
    at: &Attachment,
    mac: Mac,
    ips: &BTreeSet<IpAddr>,
    is_gone: impl Fn(&Workload) -> bool,
) -> Decision {
    if mac == GATEWAY_MAC {
        return Decision::Refuse(NotLearned::Elsewhere);
    }
    let Ok(name) = format!("{LEARNED_NAMES}{:012x}", mac.to_bits()).parse::<Name>() else { return Decision::Nothing };
    let gives_way = |known: &Workload| known.is_learned() && is_gone(known);
    let known = state.workload_with(&network.name, mac);
    let moves = known.is_some_and(|known| !known.is_learned() || at_port(known, mac) != Some(at));
    if known.is_some_and(|known| moves && !gives_way(known)) || known.is_none() && state.workloads.contains_key(&name) {
        return Decision::Refuse(NotLearned::Elsewhere);
    }
    let mut own: BTreeSet<IpAddr> =
        known.into_iter().flat_map(|known| &known.interfaces).flat_map(|one| &one.ips).copied().collect();
    let new = ips.difference(&own).copied();
    let (free, taken): (BTreeSet<IpAddr>, BTreeSet<IpAddr>) =
        new.partition(|ip| state.workload_at(&network.name, *ip).is_none_or(|known| gives_way(known)));
    if !moves && free.is_empty() {
        return if taken.is_empty() { Decision::Nothing } else { Decision::Refuse(NotLearned::Address) };
    }
    let room = MAX_ADDRESSES.saturating_sub(own.len());
    if !moves && room == 0 {
        return Decision::Refuse(NotLearned::TooMany);
    }
    own.extend(free.into_iter().take(room));
    let interface = Interface { mac, ips: own.into_iter().collect(), attachment: Some(at.clone()) };
    let labels: Labels = [(Arc::from(LEARNED), Arc::from("true"))].into_iter().collect();
    Decision::Learn(Workload {
        name,
        labels: labels.into(),
        network: network.name.clone(),
        interfaces: vec![interface],
        named_ports: Arc::default(),
    })
}
