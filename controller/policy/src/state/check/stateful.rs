//! Policies that want connections to be remembered, and switches that remember none.

use super::{Check, Key, Kind, Resource};
use crate::model::*;
use bulkhead_topology::Name;
use std::{collections::BTreeSet, sync::Arc};

impl<'a> Check<'a> {
    /// What is different on a switch that remembers no connections.
    pub(super) fn forgets(&mut self, key: &Key, switch: &Switch) {
        if !switch.driver.remembers() {
            let message = format!(
                "switch {} keeps no connections: answers are judged by addresses, ports and flags alone",
                switch.name
            );
            let hint = "a policy that must not be about its workloads says `stateful: required`";
            self.warning(key, "spec.driver", message, hint);
        }
    }

    /// No policy that wants connections to be remembered is about a workload on a switch that remembers none. Cost
    /// follows the change where that is one of workloads; else the workloads of those switches.
    pub(super) fn stateful(&mut self) {
        let standing = self.state.index.stateful().filter(|name| !self.changed(&Kind::Policy.named(name)));
        let mut policies: Vec<&'a Policy> =
            standing.filter_map(|name| self.state.policies.get(name)).map(AsRef::as_ref).collect();
        let forgetful = self.state.index.forgetful().filter(|name| !self.changed(&Kind::Switch.named(name)));
        let mut switches: BTreeSet<&'a Name> = forgetful.collect();
        let mut workloads: Vec<&'a Arc<Workload>> = Vec::new();
        let mut wide = false;
        for value in self.after.values() {
            match value {
                Some(Resource::Policy(policy)) if policy.stateful => {
                    policies.push(policy);
                    wide = true;
                }
                Some(Resource::Switch(switch)) if !switch.driver.remembers() => {
                    switches.insert(&switch.name);
                    wide = true;
                }
                Some(Resource::Zone(_)) => wide = true,
                Some(Resource::Workload(workload)) => workloads.push(workload),
                _ => {}
            }
        }
        if policies.is_empty() || switches.is_empty() {
            return;
        }
        if wide {
            let standing = switches.iter().flat_map(|switch| self.state.index.workloads_at(switch));
            workloads.extend(standing.filter(|workload| !self.changed(&Kind::Workload.named(&workload.name))));
        }
        for policy in policies {
            let found = workloads.iter().filter(|workload| self.is_about(policy, workload)).find_map(|workload| {
                let at = workload.interfaces.iter().filter_map(|interface| interface.attachment.as_ref());
                let at = at.map(|at| &at.switch).find(|switch| switches.contains(switch))?;
                Some((*workload, at.clone()))
            });
            if let Some((workload, switch)) = found {
                self.refuse(policy, workload, &switch);
            }
        }
    }

    /// Whether a policy's subject selects a workload.
    fn is_about(&self, policy: &Policy, workload: &Workload) -> bool {
        let zone = |name: &Name| {
            let key = Kind::Zone.named(name);
            match self.after.get(&key) {
                Some(Some(Resource::Zone(zone))) => Some(zone.clone()),
                Some(_) => None,
                None => self.state.zones.get(name).cloned(),
            }
        };
        match &policy.subject {
            Subject::Selector(selector) => selector.matches(&workload.labels),
            Subject::Zone(name) => zone(name)
                .is_some_and(|zone| zone.network == workload.network && zone.selector.matches(&workload.labels)),
        }
    }

    fn refuse(&mut self, policy: &Policy, workload: &Workload, switch: &Name) {
        let places = [
            (Kind::Policy.named(&policy.name), "spec.stateful"),
            (Kind::Workload.named(&workload.name), "spec.interfaces"),
            (Kind::Switch.named(switch), "spec.driver"),
        ];
        let zone = match &policy.subject {
            Subject::Zone(zone) => Some((Kind::Zone.named(zone), "spec.selector")),
            Subject::Selector(_) => None,
        };
        let Some((key, path)) = places.into_iter().chain(zone).find(|(key, _)| self.changed(key)) else { return };
        let message = format!(
            "policy {} requires connections to be remembered, and is about workload {} on switch {switch}, which \
             remembers none",
            policy.name, workload.name
        );
        let hint = "let it prefer that (`stateful: preferred`), or plug the workload in elsewhere";
        self.error(&key, path, message, hint);
    }
}
