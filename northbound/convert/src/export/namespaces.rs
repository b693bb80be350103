//! In which namespaces a policy has to stand: a NetworkPolicy is about pods of its own.

use super::Export;
use crate::kubernetes::labels::{NAMESPACE_NAME, to_namespace};
use bulkhead_topology::{Labels, Operator, Selector};
use std::{collections::BTreeMap, sync::Arc};

/// Where pods of a selector are.
pub(super) struct Places {
    /// The namespaces' names.
    pub names: Vec<String>,
    /// Whether that is so by the selector alone, or only as things are now.
    pub lasting: bool,
}

impl Export<'_> {
    /// The namespaces in which the zone's members are, with the labels that they have of them.
    pub(super) fn known(&self) -> Result<BTreeMap<String, Labels>, String> {
        let mut known: BTreeMap<String, Labels> = BTreeMap::new();
        let all = self.state.workloads.values().filter(|workload| workload.network == self.zone.network);
        for workload in all {
            let name = workload.labels.get(NAMESPACE_NAME);
            if let (Some(name), Some(home)) = (name, self.home)
                && **name == *home
            {
                return Err(format!("there are workloads of a namespace {home} already; name another"));
            }
            if !self.zone.selector.matches(&workload.labels) {
                continue;
            }
            let Some(name) = name.map(AsRef::as_ref).or(self.home) else {
                return Err(format!("the workload {} is in no namespace; name one for such workloads", workload.name));
            };
            let of_namespace = workload.labels.iter().filter(|(key, _)| to_namespace(key).is_some());
            let labels: Labels = of_namespace.map(|(key, value)| (Arc::clone(key), Arc::clone(value))).collect();
            if known.entry(name.into()).or_insert_with(|| labels.clone()) != &labels {
                return Err(format!("workloads of the namespace {name} do not agree about its labels"));
            }
        }
        Ok(known)
    }

    /// The namespaces of pods that `selector` selects.
    pub(super) fn places(&self, selector: &Selector) -> Option<Places> {
        let of_namespaces = || selector.requirements().iter().filter(|r| to_namespace(&r.key).is_some());
        let by_name = of_namespaces().filter(|r| &*r.key == NAMESPACE_NAME && r.operator == Operator::In);
        let matches = |labels: &Labels| Selector::new(of_namespaces().cloned()).matches(labels);
        // Named, in all lists if there are several.
        if let Some(names) = by_name.min_by_key(|r| r.values().len()) {
            let only_names = of_namespaces().all(|r| &*r.key == NAMESPACE_NAME);
            let mut found = Vec::new();
            for name in names.values() {
                let labels = match self.known.get(&**name) {
                    Some(labels) => labels.clone(),
                    None if only_names => [(NAMESPACE_NAME.into(), name.clone())].into(),
                    // What labels it has is not known.
                    None => return None,
                };
                if matches(&labels) {
                    found.push(name.to_string());
                }
            }
            return Some(Places { names: found, lasting: only_names });
        }
        let mut names: Vec<String> =
            self.known.iter().filter(|(_, labels)| matches(labels)).map(|(name, _)| name.clone()).collect();
        // Everybody is in the one that was named, or will be.
        let home = self.home.filter(|home| !self.known.contains_key(*home) && matches(&Labels::new()));
        names.extend(home.map(String::from));
        let lasting = self.home.is_some_and(|home| names.iter().all(|name| name == home));
        Some(Places { names, lasting })
    }
}
