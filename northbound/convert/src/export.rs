//! A zone's policies as Kubernetes' NetworkPolicies, as far as these can say them.
//!
//! NetworkPolicies only allow, and isolate whom they select. So a rule that denies, rejects or passes is not said; instead
//! every allowing rule after it that it might have cut is left out, and told. Where the zone's members do not may
//! everything by default, a policy without rules isolates them all.
//!
//! The cluster is taken to have the workloads of the zone's network as its pods, with the labels of namespaces that
//! [`crate::kubernetes`] gives them; those without such labels are in the namespace that is named, which has no labels
//! but its name.

mod namespaces;
mod overlap;
mod write;

use crate::finding::{Findings, Place};
use bulkhead_policy::{Change, Resource, RuleOrder, State, model::*};
use bulkhead_topology::{Labels, Name, Selector};
use bulkhead_types::{Diagnostic, node::Mark};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Longest name of a policy before a number is added to it, in bytes: Kubernetes has 253.
const MAX_NAME: usize = 240;

/// What an export came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exported {
    /// NetworkPolicies. Empty if one of the findings is an error.
    pub documents: Vec<Value>,
    /// What could not be said.
    pub diagnostics: Vec<Diagnostic>,
}

/// The zone's policies, of all `resources` of a fabric. `home` is the namespace of workloads that name none.
pub fn network_policies(resources: impl IntoIterator<Item = Resource>, zone: &Name, home: Option<&str>) -> Exported {
    let mut state = State::default();
    state.apply(&resources.into_iter().map(Change::set).collect::<Vec<_>>());
    let mut found = Findings::default();
    let refuse = |found: &mut Findings, message: String, hint: &str| {
        let object = format!("Zone/{zone}");
        found.refuse(Place { file: "", object: &object, path: "", mark: Mark::default() }, message, hint);
    };
    let Some(of) = state.zones.get(zone) else {
        refuse(&mut found, format!("there is no zone {zone}"), "");
        return Exported { documents: Vec::new(), diagnostics: found.into_diagnostics() };
    };
    let mut export = Export {
        state: &state,
        zone: of,
        home,
        known: BTreeMap::new(),
        found,
        documents: Vec::new(),
        names: BTreeSet::new(),
    };
    match export.known() {
        Ok(known) => {
            export.known = known;
            export.run();
        }
        Err(why) => refuse(&mut export.found, why, "--namespace NAME"),
    }
    let Export { found, documents, .. } = export;
    let documents = if found.wrong() { Vec::new() } else { documents };
    Exported { documents, diagnostics: found.into_diagnostics() }
}

/// Everybody.
fn whole_network() -> Selector {
    Selector::everything()
}

struct Export<'a> {
    state: &'a State,
    zone: &'a Zone,
    home: Option<&'a str>,
    /// The namespaces in which members are.
    known: BTreeMap<String, Labels>,
    found: Findings,
    documents: Vec<Value>,
    /// Namespaces and names that are taken.
    names: BTreeSet<(String, String)>,
}

/// A policy that may be about members, with the selector of those it is about.
type Relevant<'a> = (&'a Arc<Policy>, Selector);

/// A rule's place among all of one direction.
type At = (Tier, RuleOrder);

impl<'a> Export<'a> {
    fn warn(&mut self, policy: &Policy, path: &str, message: impl Into<String>, hint: &str) {
        let object = format!("Policy/{}", policy.name);
        self.found.warn(Place { file: "", object: &object, path, mark: Mark::default() }, message, hint);
    }

    fn refuse(&mut self, policy: &Policy, path: &str, message: impl Into<String>, hint: &str) {
        let object = format!("Policy/{}", policy.name);
        self.found.refuse(Place { file: "", object: &object, path, mark: Mark::default() }, message, hint);
    }

    fn tell(&mut self, message: impl Into<String>, hint: &str) {
        let object = format!("Zone/{}", self.zone.name);
        self.found.warn(Place { file: "", object: &object, path: "", mark: Mark::default() }, message, hint);
    }

    /// Those of the zone's members that a subject selects; nothing if there can be none.
    fn members(&self, subject: &Subject) -> Option<Selector> {
        let selector = match subject {
            Subject::Selector(selector) => selector,
            Subject::Zone(name) => {
                let zone = self.state.zones.get(name).filter(|zone| zone.network == self.zone.network)?;
                &zone.selector
            }
        };
        let both = [selector, &self.zone.selector];
        overlap::selectors(&both).then(|| Selector::new(both.into_iter().flat_map(Selector::requirements).cloned()))
    }

    fn run(&mut self) {
        let state = self.state;
        if self.zone.mode != Mode::Enforce {
            let hint = "in Kubernetes what is denied is dropped";
            self.tell("that the zone's denials are not all enforced cannot be said", hint);
        }
        let mut relevant: Vec<Relevant<'a>> = Vec::new();
        for policy in state.policies.values() {
            let Some(members) = self.members(&policy.subject) else { continue };
            if policy.staged {
                self.warn(policy, "spec.stage", "a staged policy cannot be said: it is left out", "");
            } else {
                relevant.push((policy, members));
            }
        }
        let ingress = self.direction(Direction::Ingress, &relevant);
        let egress = self.direction(Direction::Egress, &relevant);
        let isolated = Sides { ingress: !ingress.open, egress: !egress.open };
        if isolated != Sides::default() {
            let zone = self.zone;
            let name = format!("bulkhead-zone-{}", zone.name);
            match self.places(&zone.selector) {
                None => self.found.refuse(
                    Place { file: "", object: zone.name.as_str(), path: "spec.selector", mark: Mark::default() },
                    "in which namespaces the zone's members are cannot be said",
                    "select them by the name of their namespace",
                ),
                Some(places) => {
                    if places.names.is_empty() {
                        self.tell(
                            "the zone has no members yet, so nobody is isolated",
                            "name a namespace: --namespace NAME",
                        );
                    } else if !places.lasting {
                        let names = places.names.join(", ");
                        self.tell(
                            format!("its members are isolated where they are now: {names}"),
                            "export again when there are more namespaces",
                        );
                    }
                    for place in &places.names {
                        self.document(place, &name, &zone.selector, isolated, Vec::new(), Vec::new());
                    }
                }
            }
        }
        for (policy, members) in &relevant {
            self.policy(policy, members, &ingress, &egress);
        }
    }

    /// One policy, in all its namespaces.
    fn policy(&mut self, policy: &Policy, members: &Selector, ingress: &Said, egress: &Said) {
        let kept = |side: &Said, direction: Direction| -> Vec<usize> {
            let all = 0..policy.rules(direction).len();
            all.filter(|index| side.kept.contains(&(policy.name.clone(), *index))).collect()
        };
        let (of_ingress, of_egress) = (kept(ingress, Direction::Ingress), kept(egress, Direction::Egress));
        let isolates = |side: &Said, direction: Direction, rules: &[usize]| {
            policy.isolate.get(direction) || (!side.open && !rules.is_empty())
        };
        let types = Sides {
            ingress: isolates(ingress, Direction::Ingress, &of_ingress),
            egress: isolates(egress, Direction::Egress, &of_egress),
        };
        if types == Sides::default() || write::is_empty(members) {
            return;
        }
        let Some(places) = self.places(members) else {
            let message = "in which namespaces its workloads are cannot be said";
            // Members that are isolated by nothing else would be let go.
            let open = Direction::BOTH.iter().any(|direction| {
                let side = if *direction == Direction::Ingress { ingress } else { egress };
                side.open && policy.isolate.get(*direction)
            });
            match open {
                true => self.refuse(policy, "spec.subject", message, "select them by the name of their namespace"),
                false => self.warn(policy, "spec.subject", format!("{message}: it is left out"), ""),
            }
            return;
        };
        if !places.lasting && !places.names.is_empty() {
            let message = format!("it is written for the namespaces that there are now: {}", places.names.join(", "));
            self.warn(policy, "spec.subject", message, "export again when there are more");
        }
        for place in &places.names {
            let mut rules = |direction: Direction, kept: &[usize]| -> Vec<Value> {
                kept.iter().filter_map(|index| self.rule(policy, direction, *index, place)).collect()
            };
            let of_ingress = rules(Direction::Ingress, &of_ingress);
            let of_egress = rules(Direction::Egress, &of_egress);
            let name = policy.name.as_str();
            let name = name.strip_prefix(&format!("{place}.")).unwrap_or(name);
            self.document(place, name, members, types, of_ingress, of_egress);
        }
    }

    fn document(
        &mut self,
        namespace: &str,
        name: &str,
        members: &Selector,
        types: Sides,
        ingress: Vec<Value>,
        egress: Vec<Value>,
    ) {
        let mut spec = Map::new();
        let sections = [("Ingress", "ingress", types.ingress, ingress), ("Egress", "egress", types.egress, egress)];
        spec.insert("podSelector".into(), write::selector(write::of_pods(members)));
        let words: Vec<&str> = sections.iter().filter(|(_, _, on, _)| *on).map(|(word, ..)| *word).collect();
        spec.insert("policyTypes".into(), json!(words));
        for (_, field, on, rules) in sections {
            if on && !rules.is_empty() {
                spec.insert(field.into(), rules.into());
            }
        }
        let name = self.name(namespace, name);
        self.documents.push(json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }));
    }

    /// A name that Kubernetes takes, and that no other policy of the namespace has.
    fn name(&mut self, namespace: &str, name: &str) -> String {
        // RFC 1123 §2.1: every part between dots begins and ends with a letter or digit.
        let fits = name
            .split('.')
            .all(|part| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-') && !part.contains('_'));
        let plain: String = match fits {
            true => name.into(),
            false => name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect(),
        };
        let mut end = plain.len().min(MAX_NAME);
        while plain.get(..end).is_some_and(|head| head.ends_with(['-', '.'])) {
            end -= 1;
        }
        let plain = plain.get(..end).unwrap_or_default();
        let numbered = (2_u64..).map(|number| format!("{plain}-{number}"));
        let free = std::iter::once(plain.to_string()).chain(numbered);
        let taken = &self.names;
        let name = free.into_iter().find(|name| !taken.contains(&(namespace.into(), name.clone()))).unwrap_or_default();
        self.names.insert((namespace.into(), name.clone()));
        name
    }

    /// What can be said of one direction.
    fn direction(&mut self, direction: Direction, relevant: &[Relevant<'a>]) -> Said {
        let mut all: Vec<(At, &Policy, &Selector, &Rule)> = Vec::new();
        for (policy, members) in relevant {
            for (index, rule) in policy.rules(direction).iter().enumerate() {
                let order = RuleOrder {
                    priority: policy.priority,
                    rule_priority: rule.priority,
                    action: rule.action,
                    policy: policy.name.clone(),
                    index,
                };
                all.push(((policy.tier, order), policy, members, rule));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let path = |at: &At| format!("spec.{}[{}]", direction.as_str(), at.1.index);
        let cutting: Vec<_> = all.iter().filter(|(_, _, _, rule)| rule.action != Action::Allow).collect();
        for (at, policy, _, rule) in &cutting {
            let message = format!("a rule that says {} cannot be said", rule.action.as_str());
            self.warn(policy, &path(at), message, "what it may have denied is not allowed either");
        }
        let open = self.is_open(direction, relevant, &all);
        let isolating: Vec<&Relevant<'a>> = relevant
            .iter()
            .filter(|(policy, _)| policy.tier == Tier::Application && policy.isolate.get(direction))
            .collect();
        let mut kept = BTreeSet::new();
        for (at, policy, members, rule) in all.iter().filter(|(_, _, _, rule)| rule.action == Action::Allow) {
            let network = &self.zone.network;
            let cut = cutting.iter().find(|(other, _, others, cutting)| {
                // Whoever passes leaves its own tier alone.
                let before = other < at && (cutting.action != Action::Pass || other.0 == at.0);
                before && overlap::selectors(&[members, others]) && overlap::rules(self.state, network, cutting, rule)
            });
            if let Some((other, by, ..)) = cut {
                let message = format!("{} of {} may come before it: this rule is left out", path(other), by.name);
                self.warn(policy, &path(at), message, "keep their peers or ports apart");
                continue;
            }
            let overlapping = isolating.iter().find(|(_, others)| overlap::selectors(&[members, others]));
            match (policy.tier, overlapping, open) {
                // Nobody whom a policy isolates gets as far as the baseline; the others may do everything anyway.
                (Tier::Baseline, _, true) => {}
                (Tier::Baseline, Some((by, _)), false) => {
                    let message = format!("whom {} isolates it does not help: this rule is left out", by.name);
                    self.warn(policy, &path(at), message, "");
                }
                // Members who may do everything would be isolated by a policy that has rules.
                (_, None, true) => {}
                (_, Some((by, _)), true) if !policy.isolate.get(direction) => {
                    let message = format!(
                        "it isolates nobody, and would as a NetworkPolicy: this rule is left out, also for whom {} isolates",
                        by.name
                    );
                    self.warn(policy, &path(at), message, "let its policy isolate");
                }
                _ => {
                    kept.insert((policy.name.clone(), at.1.index));
                }
            }
        }
        Said { open, kept }
    }

    /// Whether every member that no policy isolates may do everything.
    fn is_open(
        &mut self,
        direction: Direction,
        relevant: &[Relevant<'a>],
        all: &[(At, &Policy, &Selector, &Rule)],
    ) -> bool {
        let denied = all.iter().any(|(_, _, _, rule)| matches!(rule.action, Action::Deny | Action::Reject));
        let any = |rule: &Rule| rule.action == Action::Allow && rule.peers.is_none() && rule.ports.is_none();
        let last = relevant.iter().any(|(policy, members)| {
            // All members are among its own.
            policy.tier == Tier::Baseline && *members == self.zone.selector && policy.rules(direction).iter().any(any)
        });
        // A pass in the baseline tier leaves that rule behind.
        let passed = all.iter().any(|((tier, _), _, _, rule)| *tier == Tier::Baseline && rule.action == Action::Pass);
        let zones =
            self.state.zones.values().filter(|zone| zone.network == self.zone.network && zone.isolate.get(direction));
        let isolated = zones.into_iter().any(|zone| overlap::selectors(&[&zone.selector, &self.zone.selector]));
        let network = self.state.networks.get(&self.zone.network);
        let allows = network.is_some_and(|network| network.default_action == DefaultAction::Allow);
        let open = !denied && ((last && !passed) || (allows && !isolated));
        let own = self.zone.isolate.get(direction);
        if !open && ((allows && !own) || last) {
            let message =
                format!("that members may do by default what nothing denies cannot be said of {}", direction.as_str());
            self.tell(message, "what no rule allows is denied there");
        }
        open
    }
}

/// What can be said of one direction.
struct Said {
    /// Members whom no policy isolates may do everything.
    open: bool,
    /// The rules that are said: policy and index.
    kept: BTreeSet<(Name, usize)>,
}
