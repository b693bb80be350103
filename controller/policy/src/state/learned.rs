//! What was learned of the fabric, and what comes before it.

use super::{
    Change, Key, Kind, Resource, State,
    index::{Claim, claims},
};
use crate::model::*;
use std::{collections::BTreeSet, ops::Bound, sync::Arc};

impl State {
    /// The workloads that were learned.
    pub fn learned(&self) -> impl Iterator<Item = &Arc<Workload>> {
        let named = self.workloads.range::<str, _>((Bound::Included(LEARNED_NAMES), Bound::Unbounded));
        let named = named.take_while(|(name, _)| name.as_str().starts_with(LEARNED_NAMES));
        named.map(|(_, workload)| workload).filter(|workload| workload.is_learned())
    }

    /// What was learned and cannot stay beside `changes`: it has what somebody is declared to have, or does not fit its
    /// network any more. It is to be removed in the same step: nobody keeps others from being declared by being there.
    pub fn yielding<'a>(&self, changes: impl Iterator<Item = &'a Change> + Clone) -> BTreeSet<Key> {
        let mut yielding = BTreeSet::new();
        for change in changes.clone() {
            if let Some(resource) = &change.value {
                claims(resource, |claim, _| yielding.extend(self.learned_with(&claim)));
            }
            // Nobody is at a switch that is no more.
            if change.value.is_none() && change.key.kind == Kind::Switch {
                let there = self.learned().filter(|workload| {
                    let mut at = workload.interfaces.iter().filter_map(|interface| interface.attachment.as_ref());
                    at.any(|at| at.switch == change.key.name)
                });
                yielding.extend(there.map(|workload| Kind::Workload.named(&workload.name)));
            }
            // A network that learns no more has none who were learned.
            if self.learning().is_some_and(|network| change.key == Kind::Network.named(&network.name)) {
                let fits = |workload: &Workload| match &change.value {
                    Some(Resource::Network(network)) => network.learn_workloads && fits(network, workload),
                    _ => false,
                };
                let learned = self.learned().filter(|workload| !fits(workload));
                yielding.extend(learned.map(|workload| Kind::Workload.named(&workload.name)));
            }
        }
        changes.for_each(|change| _ = yielding.remove(&change.key));
        yielding
    }

    /// Who was learned and has what is claimed, or is plugged in where that is.
    fn learned_with(&self, claim: &Claim) -> Option<Key> {
        let key = match claim {
            Claim::Uplink(at, _) | Claim::Link(at) => Kind::Workload.named(&self.index.attached(at)?.name),
            claim => self.index.owner(claim)?,
        };
        let learned = match key.kind {
            Kind::Workload => self.workloads.get(&key.name)?.is_learned(),
            Kind::Switch => self.switches.get(&key.name)?.is_adopted(),
            _ => false,
        };
        learned.then_some(key)
    }
}

/// Whether a workload's addresses may be its own in a network.
fn fits(network: &Network, workload: &Workload) -> bool {
    workload.interfaces.iter().flat_map(|interface| &interface.ips).all(|ip| network.has_host(*ip))
}
