//! What the loop owns.

use crate::{
    apart::{Part, apart},
    apply::{Edit, Outcome, Refusal, Request},
    drivers::Drivers,
    fabric::Fabric,
    flow_log,
    hosts::{HostView, Hosts, Keeper},
    learn::{LearnView, Learner},
    links::{Links, Prober, TopologyView},
    load::{Decode, LoadError, Stored},
    metrics::Totals,
    paths::{Paths, paths},
    shared::{Accepted, Shared},
    tunnels::{TunnelView, Tunnels},
};
use bulkhead_compile::{CauseName, Compiler, Numbers};
use bulkhead_dataplane::{Command, FromSwitch, PortState, Report, host::FromHost};
use bulkhead_hands::all_cores;
use bulkhead_pipeline::{Cause, Program};
use bulkhead_policy::{Kind, model::Attachment};
use bulkhead_store::Store;
use bulkhead_topology::Name;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, RwLockReadGuard},
    time::Duration,
};
use tracing::{error, info, warn};

/// Names that the compiler may keep for nothing, beside as many as are in use: forgetting them costs a look at all.
const SPARE_NAMES: usize = 10_000;

/// Who writes down what was found on the hosts, and between switches.
const OBSERVER: &str = "observed on the hosts";
const DISCOVERER: &str = "discovered between switches";
const LEARNER: &str = "learned at ports";
/// Where the type of an Ethernet frame stands, and that of the frames by which links are found (IEEE 802.1AB §8.3).
const ETHERTYPE: std::ops::Range<usize> = 12..14;
const LLDP: [u8; 2] = [0x88, 0xcc];

/// Numbers by name, or `None` where they are given back.
type Given = Vec<(Arc<str>, Option<u32>)>;

/// A state compiled from nothing, and numbers that this gave.
pub(crate) fn compiled(accepted: &Accepted, numbers: Numbers) -> Result<(Compiler, Given), LoadError> {
    let made = Compiler::by(all_cores, &accepted.state, numbers);
    made.map(|(compiler, compiled)| (compiler, compiled.numbers))
        .map_err(|error| LoadError::TooLarge(error.to_string()))
}

/// State, compiler, store and switches: everything that the loop owns.
pub struct Core {
    pub(crate) shared: Shared,
    pub(crate) compiler: Compiler,
    /// How many names there were when the unused were last forgotten.
    pub(crate) names_kept: usize,
    /// Changed numbers that go to the store with the next revision.
    pub(crate) unsaved: BTreeMap<Arc<str>, Option<u32>>,
    pub(crate) store: Box<dyn Store>,
    pub(crate) fabric: Fabric,
    pub(crate) log_budget: flow_log::Budget,
    pub(crate) decode: Decode,
    keeper: Option<Keeper>,
    pub(crate) prober: Option<Prober>,
    pub(crate) links: Option<Links>,
    pub(crate) learner: Learner,
    hosts: Hosts,
    tunnels: Tunnels,
    pub(crate) totals: Arc<Mutex<Totals>>,
}

impl Core {
    /// Compiles what was stored, and only then attaches the switches: a controller that does not know what they are to do
    /// touches none.
    pub fn compile(stored: Stored, drivers: Drivers) -> Result<Self, LoadError> {
        let Stored { shared, views, totals, numbers, store, found, decode } = stored;
        let (compiler, compiled) = compiled(&shared.read(), numbers)?;
        let (keeper, prober) = (drivers.keeper.clone(), drivers.prober);
        let mut core = Self {
            shared,
            compiler,
            names_kept: 0,
            unsaved: BTreeMap::new(),
            store,
            fabric: Fabric::new(drivers, views, totals.clone()),
            log_budget: flow_log::Budget::default(),
            decode,
            keeper,
            prober,
            links: None,
            learner: Learner::default(),
            hosts: Hosts::default(),
            tunnels: Tunnels::default(),
            totals,
        };
        core.remember(compiled);
        core.forget();
        if found.read_only.is_some() {
            core.storing(found.read_only);
        }
        core.begin_links();
        core.attach_all(Duration::ZERO);
        core.find_tunnels(Duration::ZERO);
        core.totals.lock().unwrap_or_else(PoisonError::into_inner).compiled = true;
        Ok(core)
    }

    /// Looks for links as the accepted state says, from nothing.
    pub(crate) fn begin_links(&mut self) {
        self.links = self.prober.map(|prober| Links::new(prober.key, &self.shared.read().state));
    }

    pub(crate) fn attach_all(&mut self, now: Duration) {
        let accepted = self.shared.read();
        for (name, switch) in &accepted.state.switches {
            self.fabric.attach(name, &switch.driver, accepted.revision, now);
        }
        drop(accepted);
        self.keep_hosts(now);
    }

    /// Has hosts kept as the accepted state says.
    pub(crate) fn keep_hosts(&mut self, now: Duration) {
        if let Some(keeper) = &self.keeper {
            self.hosts.keep(keeper, &self.shared.read().state, now);
        }
    }

    /// Notes numbers that the compiler changed; they are stored with the next revision.
    pub(crate) fn remember(&mut self, numbers: Given) {
        for (name, number) in numbers {
            // What came and went between two revisions, as it does when one cannot be stored, was never stored. If it
            // was after all, the store keeps a number that is nobody else's.
            if number.is_none() && matches!(self.unsaved.remove(&name), Some(Some(_))) {
                continue;
            }
            self.unsaved.insert(name, number);
        }
    }

    /// Has the compiler forget names that nobody has any more, once there are many (A23).
    pub(crate) fn forget(&mut self) {
        if self.compiler.numbers().len() > 2 * self.names_kept + SPARE_NAMES {
            let forgotten = self.compiler.forget();
            self.remember(forgotten);
            self.names_kept = self.compiler.numbers().len();
        }
    }

    /// Has the compiler forget edges that are none any more, if all switches that may have entries about them have nothing
    /// in force but the accepted revision.
    pub(crate) fn forget_edges(&mut self, accepted: &Accepted) {
        let mut fabric = accepted.state.switches.values().filter(|switch| switch.vtep.is_none());
        if fabric.all(|switch| self.fabric.has(&switch.name, accepted.revision)) {
            let forgotten = self.compiler.forget_edges();
            self.remember(forgotten);
        }
    }

    /// Takes in what a driver reports.
    pub fn report(&mut self, report: FromSwitch, now: Duration) {
        if let Report::Logged(logged) = &report.report {
            let missed = self.log_budget.take(logged.missed, now);
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.not_logged = totals.not_logged.saturating_add(logged.missed);
            *if missed.is_some() { &mut totals.logged } else { &mut totals.not_logged } += 1;
            drop(totals);
            if let Some(missed) = missed {
                flow_log::write(self, &report.switch, logged, missed);
            }
        }
        if let Report::Probed { token, from } = &report.report {
            self.tunnels.heard(&report.switch, *token, *from);
            return;
        }
        if let Report::Waits(id) = report.report {
            return self.learner.waits(id, now);
        }
        let switch = report.switch.clone();
        if let Some(links) = self.links.as_mut().filter(|_| self.fabric.is_attached(&report)) {
            match &report.report {
                Report::Discovered { port, frame } if frame.get(ETHERTYPE).is_some_and(|kind| *kind == LLDP) => {
                    return links.heard(&switch, port, frame, now);
                }
                Report::Discovered { port, frame } => {
                    let at = Attachment { switch, port: port.clone() };
                    return self.learner.heard(at, frame, &self.shared.read().state, now);
                }
                Report::PortStates(ports) => {
                    links.ports(&switch, ports, &self.shared.read().state, now);
                    self.learner.ports(&switch, ports);
                }
                Report::Disconnected(_) => self.learner.lost(&switch),
                Report::Actual { program, .. } if program.is_empty() => self.learner.anew(&switch),
                _ => {}
            }
        }
        let before = self.fabric.is_settled(&switch);
        self.fabric.report(report, &self.compiler, now);
        if let Some(links) = &mut self.links {
            links.in_force(&switch, self.fabric.acknowledged(&switch), now);
        }
        let after = self.fabric.is_settled(&switch);
        if !before && after {
            self.tunnels.settled(&switch, now);
        }
        if let Some(links) = self.links.as_mut().filter(|_| before != after) {
            links.settled(&switch, after, &self.shared.read().state, now);
        }
    }

    /// Looks at what a change means for links: who takes part, and which ports are free for them. `concerned` are the
    /// switches that it is about.
    pub(crate) fn keep_links(&mut self, switches: bool, concerned: &BTreeSet<Name>, now: Duration) {
        let Some(links) = &mut self.links else { return };
        let accepted = self.shared.read();
        self.learner.turned();
        if switches {
            links.keep(&accepted.state, now);
        }
        concerned.iter().for_each(|name| links.refresh(name, &accepted.state, now));
    }

    /// What is known of the links between switches, as operators see it.
    pub fn topology(&self) -> TopologyView {
        self.links.as_ref().map(|links| links.view(&self.shared.read().state)).unwrap_or_default()
    }

    /// Looks at which tunnels came and went.
    pub(crate) fn find_tunnels(&mut self, now: Duration) {
        self.tunnels.set(self.compiler.take_tunnels(), now);
    }

    /// Takes in what the keeper of hosts reports. [`Self::observe`] follows.
    pub fn host_report(&mut self, report: FromHost, now: Duration) {
        self.hosts.report(report, now);
    }

    /// The change that makes the resources say what was found on the hosts, if they do not; to be carried out by
    /// [`Self::observed`]. `time` is as in [`Request`].
    pub fn observe(&mut self, time: u64, now: Duration) -> Option<Request> {
        loop {
            let state = &self.shared.read().state;
            let fabric = &self.fabric;
            let mut found = (Vec::new(), OBSERVER, None);
            if let Some(keeper) = &self.keeper {
                let changes = self.hosts.changes(state, |name| !fabric.is_connected(name), now);
                found = (changes, OBSERVER, Some(keeper.encode));
            }
            if let Some((links, prober)) = self.links.as_mut().zip(self.prober).filter(|_| found.0.is_empty()) {
                found = (links.changes(state, now), DISCOVERER, Some(prober.encode));
            }
            if let Some((links, prober)) = self.links.as_ref().zip(self.prober).filter(|_| found.0.is_empty()) {
                let unheard = |switch: &Name, port: &PortState| links.unheard_since(state, switch, port);
                found = (self.learner.changes(state, &unheard, now), LEARNER, Some(prober.encode));
            }
            let (changes, author, Some(encode)) = found else { return None };
            if changes.is_empty() {
                return None;
            }
            let mut edits = Vec::with_capacity(changes.len());
            for change in changes {
                let document: Option<Arc<str>> = change.value.as_ref().map(|value| encode(value).into());
                // What could not be read again would keep the next start from all else.
                let read = document.as_deref().map(self.decode).transpose();
                if let Err(why) =
                    read.and_then(|read| if read == change.value { Ok(()) } else { Err("it changes".into()) })
                {
                    let why = format!("what was found there cannot be written down: {why}");
                    error!(switch = %change.key.name, why);
                    match (change.key.kind, &mut self.links) {
                        (Kind::Adjacency, Some(links)) => links.refused([&change.key.name].into_iter(), now),
                        (Kind::Host, _) => self.hosts.refused([&change.key.name].into_iter(), &why, now),
                        _ => self.learner.refused(now),
                    }
                    continue;
                }
                edits.push(Edit { document, change, expected: None });
            }
            if !edits.is_empty() {
                return Some(Request { edits, dry_run: false, newest: None, author: author.into(), time, event: None });
            }
        }
    }

    /// Carries out what [`Self::observe`] said. If that cannot be, it is tried again later.
    pub fn observed(&mut self, request: &Request, now: Duration) -> Result<Outcome, Refusal> {
        let result = self.apply(request, now);
        let of = |kind: Kind| request.edits.iter().map(|edit| &edit.change.key).filter(move |key| key.kind == kind);
        let names = of(Kind::Host).map(|key| &key.name);
        match &result {
            Ok(outcome) => {
                self.hosts.carried_out(names, now);
                for key in of(Kind::Adjacency) {
                    let acknowledged = self.fabric.acknowledged(&key.name);
                    let links = self.links.iter_mut();
                    links.for_each(|links| links.carried_out(&key.name, outcome.revision, acknowledged, now));
                }
                if request.author == LEARNER {
                    let (changes, first) = (outcome.changes.len(), outcome.changes.first().map(|(key, _)| key));
                    info!(revision = outcome.revision, changes, first = first.map(ToString::to_string), "learned");
                }
                outcome.diagnostics.iter().for_each(|found| warn!("{}: {found}", request.author));
            }
            Err(refusal) => {
                let why = match refusal {
                    Refusal::Rejected(found) => found.first().map(ToString::to_string).unwrap_or_default(),
                    other => other.to_string(),
                };
                error!(why, "what was {} cannot be taken over; what was known before holds", request.author);
                if of(Kind::Host).next().is_some() {
                    self.hosts.refused(names, &why, now);
                }
                if let Some(links) = self.links.as_mut().filter(|_| of(Kind::Adjacency).next().is_some()) {
                    links.refused(of(Kind::Adjacency).map(|key| &key.name), now);
                }
                if request.author == LEARNER {
                    self.learner.refused(now);
                }
            }
        }
        result
    }

    /// What was learned at ports, as operators see it.
    pub fn learned(&self) -> LearnView {
        self.learner.view(&self.shared.read().state)
    }

    /// The networks that are in parts which do not reach each other.
    pub fn apart(&self) -> BTreeMap<Name, Vec<Part>> {
        apart(&self.shared.read().state, &self.compiler, self.compiler.graph())
    }

    /// Every kept host, as operators see it.
    pub fn hosts(&self) -> BTreeMap<Name, HostView> {
        self.hosts.views(&self.shared.read().state)
    }

    /// Every tunnel by the switch that it begins at, as operators see it.
    pub fn tunnels(&self) -> BTreeMap<Name, Vec<TunnelView>> {
        self.tunnels.views()
    }

    /// Whether a switch is connected.
    pub fn is_connected(&self, switch: &Name) -> bool {
        self.fabric.is_connected(switch)
    }

    /// The ways that packets take over links from a switch to one that somebody is attached to.
    pub fn paths(&self, from: &Name, to: &Name) -> Paths {
        paths(self.compiler.graph(), from, to)
    }

    /// Lets time pass: what is due is done.
    pub fn tick(&mut self, now: Duration) {
        self.fabric.tick(&self.compiler, now);
        let fabric = &self.fabric;
        let probes = self.tunnels.probes(|switch| fabric.probes(switch), now);
        if !probes.is_empty() {
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.probes += probes.values().map(|probes| probes.len() as u64).sum::<u64>();
        }
        for (switch, probes) in probes {
            fabric.send(switch, Command::Probe(probes));
        }
        for (switch, probes) in self.links.iter_mut().flat_map(|links| links.probes(now)) {
            fabric.send(switch, Command::Discover(probes));
        }
        if let Some(links) = &self.links {
            let state = &self.shared.read().state;
            let unheard = |switch: &Name, port: &PortState| links.unheard_since(state, switch, port);
            for (switch, questions) in self.learner.ask(state, &unheard, now) {
                self.fabric.send(switch, Command::Discover(questions));
            }
        }
    }

    /// When [`Self::tick`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        let links = self.links.as_ref().and_then(Links::deadline);
        let learner = self.links.as_ref().and_then(|_| self.learner.deadline());
        [self.fabric.deadline(), self.hosts.deadline(), self.tunnels.deadline(), links, learner]
            .into_iter()
            .flatten()
            .min()
    }

    /// Asks every connected switch for its counters; the answers come as reports.
    pub fn count(&mut self) -> Vec<Name> {
        self.fabric.count()
    }

    /// Looks at the accepted state.
    pub fn accepted(&self) -> RwLockReadGuard<'_, Accepted> {
        self.shared.read()
    }

    /// The desired program of a switch.
    pub fn program(&self, switch: &Name) -> Option<&Program> {
        self.compiler.program(switch)
    }

    /// The rule that a cause stands for.
    pub fn describe(&self, cause: Cause) -> Option<CauseName> {
        self.compiler.describe(cause)
    }

    /// What every rule matched on every switch, as of the last count: packets and bytes by cause and
    /// whether they were dropped.
    pub fn hits(&self) -> BTreeMap<(Cause, bool), BTreeMap<Name, (u64, u64)>> {
        self.fabric.hits()
    }
}
