//! A group of changes, from requests to revisions that are durable together: each as if it came alone, all or none.

use crate::{
    apply::{EntryCounts, Outcome, Refusal, Request, Sorted, What, sort},
    core::Core,
    links,
    metrics::Totals,
    shared::Accepted,
};
use bulkhead_compile::{Compiler, Heading};
use bulkhead_hands::{all_cores, beside};
use bulkhead_pipeline::Delta;
use bulkhead_policy::{Change, Key, Kind, Resource, Severity, limit_warnings, remarks};
use bulkhead_store::{Revision, StoreError, Writes};
use bulkhead_topology::Name;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::{Duration, Instant},
};
use tracing::info_span;

/// Documents of one change that are worth other threads, which take them into the state and write them while they are
/// compiled.
const MANY: usize = 2_000;

/// Changes that are in the state and in the compiler, and nowhere else yet.
struct Group {
    /// The revision before it.
    before: u64,
    /// The order of the fabric's ways before it.
    heading: Heading,
    /// What it adds.
    revisions: Vec<Revision>,
    /// Which of the group's requests the first of them is: from then on answers tell of what is not durable.
    first: usize,
    /// What every resource that it changes was before it, and of which version.
    replaced: BTreeMap<Key, (Option<Resource>, Option<u64>)>,
    /// What it changes on switches.
    deltas: BTreeMap<Name, Delta>,
    /// Switches whose links it is about.
    concerned: BTreeSet<Name>,
}

impl Core {
    /// Carries out a change: check, compile, store, send. It is durable when this returns `Ok`; after an
    /// `Err` everything is as before.
    pub fn apply(&mut self, request: &Request, now: Duration) -> Result<Outcome, Refusal> {
        let nothing = || Err(Refusal::Unavailable("nothing was asked".into()));
        self.apply_all([request], now).pop().unwrap_or_else(nothing)
    }

    /// Carries out changes one after another, each as if it came alone, and makes all of them durable at once; nobody
    /// hears of any before. If that fails, nothing of any of them was done.
    pub fn apply_all<'r>(
        &mut self,
        requests: impl IntoIterator<Item = &'r Request>,
        now: Duration,
    ) -> Vec<Result<Outcome, Refusal>> {
        let mut results = Vec::new();
        self.answer_all(requests, now, |answers| results = answers);
        results
    }

    /// The same; `answer` is given what came of them as soon as they are durable, before switches are told.
    pub(crate) fn answer_all<'r>(
        &mut self,
        requests: impl IntoIterator<Item = &'r Request>,
        now: Duration,
        answer: impl FnOnce(Vec<Result<Outcome, Refusal>>),
    ) {
        let shared = self.shared.clone();
        // Held until the changes are durable: readers never see one that is not.
        let mut accepted = shared.write();
        self.forget_edges(&accepted);
        let mut group = Group {
            before: accepted.revision,
            heading: self.compiler.heading(),
            revisions: Vec::new(),
            first: 0,
            replaced: BTreeMap::new(),
            deltas: BTreeMap::new(),
            concerned: BTreeSet::new(),
        };
        let (mut results, mut dry_runs) = (Vec::new(), Vec::new());
        for request in requests {
            if group.revisions.is_empty() {
                group.first = results.len();
            }
            results.push(self.take(&mut accepted, &mut group, request));
            dry_runs.push(request.dry_run);
        }
        let mut published = None;
        if group.revisions.is_empty() {
            drop(accepted);
        } else if let Err(error) = self.store(&group) {
            let first = group.first;
            let lost = self.take_back(&mut accepted, group);
            drop(accepted);
            let why = error.to_string();
            results.iter_mut().skip(first).for_each(|result| *result = Err(Refusal::Unavailable(why.clone())));
            self.storing(Some(match lost {
                None => why,
                Some(lost) => format!("{why}; {lost}"),
            }));
        } else {
            self.unsaved.clear();
            self.forget();
            drop(accepted);
            self.storing(None);
            published = Some(group);
        }
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        results.iter().zip(dry_runs).for_each(|(result, dry_run)| count(&mut totals, result, dry_run));
        drop(totals);
        answer(results);
        if let Some(group) = published {
            self.publish(group, now);
        }
    }

    /// Makes a group durable.
    fn store(&mut self, group: &Group) -> Result<(), StoreError> {
        let began = Instant::now();
        let commit = info_span!("commit", revisions = group.revisions.len());
        let stored = commit.in_scope(|| self.store.append(group.before, &group.revisions));
        if stored.is_ok() {
            self.totals.lock().unwrap_or_else(PoisonError::into_inner).commits.add(began.elapsed());
        }
        stored
    }

    /// Takes a change into the state and the compiler, and into the group if it makes a revision.
    fn take(&mut self, accepted: &mut Accepted, group: &mut Group, request: &Request) -> Result<Outcome, Refusal> {
        let _change = info_span!("change", resources = request.edits.len(), dry_run = request.dry_run).entered();
        let Sorted { outcome, forward, backward, documents } = sort(accepted, request)?;
        let mut outcome = Outcome { revision: accepted.revision, ..outcome };
        let mut found = accepted.state.check_by(all_cores, &forward);
        if found.iter().any(|finding| finding.severity == Severity::Error) {
            return Err(Refusal::Rejected(found));
        }
        if forward.is_empty() {
            outcome.diagnostics = limit_warnings(found);
            return Ok(outcome);
        }
        let documents = Writes::from(documents);
        let ahead = documents.len() >= MANY && group.revisions.is_empty() && !request.dry_run;
        let Self { compiler, store, .. } = self;
        let state = &mut accepted.state;
        if !ahead {
            state.apply(&forward);
        }
        let began = Instant::now();
        let compiled = info_span!("compile").in_scope(|| match ahead {
            true => beside(
                || state.apply(&forward),
                || beside(|| store.prepare(Some(&documents)), || compiler.apply(&forward)),
            ),
            false => compiler.apply(&forward),
        });
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).compiles.add(began.elapsed());
        let compiled = match compiled {
            Ok(compiled) => compiled,
            Err(error) => {
                accepted.state.apply(&backward);
                if ahead {
                    self.store.prepare(None);
                }
                return Err(Refusal::TooLarge(error.to_string()));
            }
        };
        found.extend(remarks(&accepted.state, &forward, &self.compiler));
        outcome.diagnostics = limit_warnings(found);
        if request.dry_run {
            accepted.state.apply(&backward);
            if self.compiler.withdraw(&backward, &compiled.numbers).is_err() {
                self.compile_anew(accepted)?;
            }
            outcome.entries = self.entry_counts(&compiled.deltas);
            return Ok(outcome);
        }
        let revision = accepted.revision + 1;
        let mut numbers: Vec<_> = Vec::new();
        if group.revisions.is_empty() {
            numbers.extend(self.unsaved.iter().map(|(name, number)| (name.clone(), *number)));
        }
        numbers.extend(compiled.numbers);
        group.concerned.extend(links::concerned(&accepted.state, &forward));
        group.concerned.extend(links::concerned(&accepted.state, &backward));
        for Change { key, value } in backward {
            let version = match accepted.state.contains(&key) {
                true => accepted.versions.insert(key.clone(), revision),
                false => accepted.versions.remove(&key),
            };
            group.replaced.entry(key).or_insert((value, version));
        }
        for (name, delta) in compiled.deltas {
            group.deltas.entry(name).or_default().then(delta);
        }
        group.revisions.push(Revision {
            number: revision,
            author: request.author.clone(),
            time: request.time,
            changes: documents,
            numbers,
            event: request.event.clone(),
        });
        accepted.revision = revision;
        outcome.revision = revision;
        Ok(outcome)
    }

    /// Takes back a group that could not be stored. Its numbers stay given: the store may have kept them before it
    /// failed. Says if that was not possible, which is a fault of ours.
    fn take_back(&mut self, accepted: &mut Accepted, group: Group) -> Option<String> {
        let mut backward = Vec::with_capacity(group.replaced.len());
        for (key, (value, version)) in group.replaced {
            match version {
                Some(version) => accepted.versions.insert(key.clone(), version),
                None => accepted.versions.remove(&key),
            };
            backward.push(Change { key, value });
        }
        accepted.state.apply(&backward);
        accepted.revision = group.before;
        group.revisions.into_iter().for_each(|revision| self.remember(revision.numbers));
        if self.compiler.withdraw_to(group.heading, &backward).is_err() {
            return self.compile_anew(accepted).err().map(|lost| lost.to_string());
        }
        None
    }

    /// Tells everybody of a group that is durable: switches, hosts, and whoever looks after links and tunnels.
    fn publish(&mut self, group: Group, now: Duration) {
        let revision = group.before + group.revisions.len() as u64;
        let shared = self.shared.clone();
        let accepted = shared.read();
        let switches = group.replaced.keys().filter(|key| key.kind == Kind::Switch);
        let driver = |key: &Key| accepted.state.switches.get(&key.name).map(|switch| &switch.driver);
        // First all that go, then all that come: two switches may change places.
        for key in switches.clone() {
            self.fabric.detach_unless(&key.name, driver(key));
        }
        for (key, driver) in switches.clone().filter_map(|key| Some((key, driver(key)?))) {
            self.fabric.attach(&key.name, driver, revision, now);
        }
        let of_switches = switches.count() > 0;
        drop(accepted);
        self.fabric.changed(revision, &group.deltas, &self.compiler, now);
        if of_switches {
            self.keep_hosts(now);
        }
        self.keep_links(of_switches, &group.concerned, now);
        self.find_tunnels(now);
    }

    /// Compiles the state from nothing, with the numbers that were given.
    fn compile_anew(&mut self, state: &Accepted) -> Result<(), Refusal> {
        let numbers = self.compiler.numbers().clone();
        let (compiler, compiled) = Compiler::by(all_cores, &state.state, numbers)
            .map_err(|error| Refusal::Unavailable(format!("the state no longer compiles: {error}")))?;
        self.compiler = compiler;
        self.remember(compiled.numbers);
        Ok(())
    }

    /// Notes whether changes can be stored, for whoever asks how the controller is.
    pub(crate) fn storing(&mut self, trouble: Option<String>) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_some() && totals.store_trouble.is_none() {
            tracing::error!(why = trouble, "changes cannot be stored; what was accepted before is enforced");
        }
        totals.store_trouble = trouble;
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

fn count(totals: &mut Totals, result: &Result<Outcome, Refusal>, dry_run: bool) {
    let Totals { accepted, unchanged, dry_runs, rejected, conflicts, too_large, unavailable, .. } = totals;
    *match result {
        Ok(_) if dry_run => dry_runs,
        Ok(outcome) if outcome.changes.iter().all(|(_, what)| *what == What::Unchanged) => unchanged,
        Ok(_) => accepted,
        Err(Refusal::Rejected(_)) => rejected,
        Err(Refusal::Conflict { .. } | Refusal::Moved { .. }) => conflicts,
        Err(Refusal::TooLarge(_)) => too_large,
        Err(Refusal::Unavailable(_)) => unavailable,
    } += 1;
}
