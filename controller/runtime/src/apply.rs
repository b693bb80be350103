//! One change, from a request to a revision: all of it or nothing.

use crate::{
    core::{Accepted, Core},
    links,
    metrics::Totals,
};
use bulkhead_compile::Compiler;
use bulkhead_pipeline::Delta;
use bulkhead_policy::{Change, Diagnostic, Key, Kind, Resource, Severity, limit_warnings, remarks};
use bulkhead_store::Revision;
use bulkhead_topology::Name;
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

/// One resource's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What is to change.
    pub change: Change,
    /// The document to store for it; `None` exactly where the resource is removed.
    pub document: Option<Arc<str>>,
    /// The version that the resource must have now (0: must not exist); `None` is no condition.
    pub expected: Option<u64>,
}

/// A change as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// What is to change; keys are unique.
    pub edits: Vec<Edit>,
    /// Check and compile, and change nothing.
    pub dry_run: bool,
    /// Who asks, for people.
    pub author: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time: u64,
}

/// What a change did to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// It did not exist before.
    Created,
    /// It existed with another value.
    Updated,
    /// It was removed.
    Deleted,
    /// It already was as asked.
    Unchanged,
}

/// Entries that a change adds to, removes from and rewrites on one switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntryCounts {
    /// New entries.
    pub added: u64,
    /// Entries that go.
    pub removed: u64,
    /// Entries that stay with other actions or another cause.
    pub modified: u64,
}

/// An accepted change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The revision in force afterwards.
    pub revision: u64,
    /// What happened to each resource, in the order of the request.
    pub changes: Vec<(Key, What)>,
    /// Warnings.
    pub diagnostics: Vec<Diagnostic>,
    /// Entries by switch; of a dry run only.
    pub entries: BTreeMap<Name, EntryCounts>,
}

/// Why a change was not accepted. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is wrong.
    #[error("the change is refused: {} findings", .0.len())]
    Rejected(Vec<Diagnostic>),
    /// A resource has changed since it was looked at.
    #[error("{key} is at version {actual}, not {expected}")]
    Conflict {
        /// The resource.
        key: Key,
        /// The version that was expected.
        expected: u64,
        /// Its version.
        actual: u64,
    },
    /// It would not fit.
    #[error("{0}")]
    TooLarge(String),
    /// It could not be stored.
    #[error("the change could not be stored: {0}")]
    Unavailable(String),
}

impl Core {
    /// Carries out a change: check, compile, store, send. It is durable when this returns `Ok`; after an
    /// `Err` everything is as before.
    pub fn apply(&mut self, request: &Request, now: Duration) -> Result<Outcome, Refusal> {
        let result = self.try_apply(request, now);
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let Totals { accepted, unchanged, dry_runs, rejected, conflicts, too_large, unavailable, .. } = &mut *totals;
        *match &result {
            Ok(_) if request.dry_run => dry_runs,
            Ok(outcome) if outcome.changes.iter().all(|(_, what)| *what == What::Unchanged) => unchanged,
            Ok(_) => accepted,
            Err(Refusal::Rejected(_)) => rejected,
            Err(Refusal::Conflict { .. }) => conflicts,
            Err(Refusal::TooLarge(_)) => too_large,
            Err(Refusal::Unavailable(_)) => unavailable,
        } += 1;
        result
    }

    fn try_apply(&mut self, request: &Request, now: Duration) -> Result<Outcome, Refusal> {
        let shared = self.shared.clone();
        // Held until the change is durable: readers never see one that is not.
        let mut accepted = shared.write();
        let Sorted { outcome, forward, backward, documents } = sort(&accepted, request)?;
        let mut outcome = Outcome { revision: accepted.revision, ..outcome };
        let mut found = accepted.state.check(&forward);
        if found.iter().any(|finding| finding.severity == Severity::Error) {
            return Err(Refusal::Rejected(found));
        }
        if forward.is_empty() {
            outcome.diagnostics = limit_warnings(found);
            return Ok(outcome);
        }
        accepted.state.apply(&forward);
        let compiled = match self.compiler.apply(&forward) {
            Ok(compiled) => compiled,
            Err(error) => {
                accepted.state.apply(&backward);
                return Err(Refusal::TooLarge(error.to_string()));
            }
        };
        found.extend(remarks(&accepted.state, &forward, &self.compiler));
        outcome.diagnostics = limit_warnings(found);
        if request.dry_run {
            accepted.state.apply(&backward);
            self.undo(&accepted, &backward, &compiled.numbers)?;
            outcome.entries = self.entry_counts(&compiled.deltas);
            return Ok(outcome);
        }
        let revision = accepted.revision + 1;
        let unsaved = self.unsaved.iter().map(|(name, number)| (name.clone(), *number));
        let numbers = unsaved.chain(compiled.numbers.iter().cloned()).collect();
        let stored = self.store.append(&Revision {
            number: revision,
            author: request.author.clone(),
            time: request.time,
            changes: documents,
            numbers,
        });
        if let Err(error) = stored {
            accepted.state.apply(&backward);
            // They stay given: the store may have kept them before it failed.
            self.remember(compiled.numbers);
            self.undo(&accepted, &backward, &[])?;
            return Err(Refusal::Unavailable(error.to_string()));
        }
        self.remember(compiled.numbers);
        self.unsaved.clear();
        self.forget();
        let mut concerned = links::concerned(&accepted.state, &forward);
        concerned.extend(links::concerned(&accepted.state, &backward));
        accepted.revision = revision;
        outcome.revision = revision;
        for change in &forward {
            match &change.value {
                Some(_) => accepted.versions.insert(change.key.clone(), revision),
                None => accepted.versions.remove(&change.key),
            };
        }
        drop(accepted);
        let switches = forward.iter().filter(|change| change.key.kind == Kind::Switch).map(|change| {
            let driver = match &change.value {
                Some(Resource::Switch(switch)) => Some(&switch.driver),
                _ => None,
            };
            (&change.key.name, driver)
        });
        // First all that go, then all that come: two switches may change places.
        for (name, driver) in switches.clone() {
            self.fabric.detach_unless(name, driver);
        }
        for (name, driver) in switches.filter_map(|(name, driver)| Some((name, driver?))) {
            self.fabric.attach(name, driver, revision, now);
        }
        self.fabric.changed(revision, &compiled.deltas, &self.compiler, now);
        if forward.iter().any(|change| change.key.kind == Kind::Switch) {
            self.keep_hosts(now);
        }
        let switches = forward.iter().any(|change| change.key.kind == Kind::Switch);
        self.keep_links(switches, &concerned, now);
        self.find_tunnels(now);
        Ok(outcome)
    }

    /// Takes the compiler back to the state before a change that is not to be, with the numbers that only it gave.
    fn undo(
        &mut self,
        before: &Accepted,
        backward: &[Change],
        given: &[(Arc<str>, Option<u32>)],
    ) -> Result<(), Refusal> {
        if self.compiler.withdraw(backward, given).is_err() {
            let numbers = self.compiler.numbers().clone();
            let (compiler, compiled) = Compiler::new(&before.state, numbers)
                .map_err(|error| Refusal::Unavailable(format!("the state no longer compiles: {error}")))?;
            self.compiler = compiler;
            self.remember(compiled.numbers);
        }
        Ok(())
    }

    /// Counts of a change's entries, held against the programs without it.
    fn entry_counts(&self, deltas: &BTreeMap<Name, Delta>) -> BTreeMap<Name, EntryCounts> {
        let count = |(name, delta): (&Name, &Delta)| {
            let before = self.compiler.program(name);
            let modified = delta
                .add
                .iter()
                .filter(|entry| before.is_some_and(|program| program.get(&entry.key).is_some()))
                .count();
            let counts = EntryCounts {
                added: (delta.add.len() - modified) as u64,
                removed: delta.remove.len() as u64,
                modified: modified as u64,
            };
            (name.clone(), counts)
        };
        deltas.iter().filter(|(_, delta)| !delta.is_empty()).map(count).collect()
    }
}

/// A request, held against what there is.
struct Sorted {
    outcome: Outcome,
    /// What really changes.
    forward: Vec<Change>,
    /// What takes it back.
    backward: Vec<Change>,
    documents: Vec<(String, Option<Arc<str>>)>,
}

fn sort(accepted: &Accepted, request: &Request) -> Result<Sorted, Refusal> {
    let mut sorted =
        Sorted { outcome: Outcome::default(), forward: Vec::new(), backward: Vec::new(), documents: Vec::new() };
    for edit in &request.edits {
        let key = &edit.change.key;
        let actual = accepted.versions.get(key).copied().unwrap_or(0);
        if let Some(expected) = edit.expected.filter(|expected| *expected != actual) {
            return Err(Refusal::Conflict { key: key.clone(), expected, actual });
        }
        let before = accepted.state.get(key);
        let what = match (&before, &edit.change.value) {
            (None, None) => What::Unchanged,
            (None, Some(_)) => What::Created,
            (Some(_), None) => What::Deleted,
            (Some(before), Some(after)) if before == after => What::Unchanged,
            (Some(_), Some(_)) => What::Updated,
        };
        sorted.outcome.changes.push((key.clone(), what));
        if what != What::Unchanged {
            sorted.forward.push(edit.change.clone());
            sorted.backward.push(Change { key: key.clone(), value: before });
            sorted.documents.push((key.to_string(), edit.document.clone()));
        }
    }
    Ok(sorted)
}
