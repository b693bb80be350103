//! The switches: a machine for each, and what it is told and asks.

use crate::{drivers::Drivers, metrics::Totals, numbers::Numbers};
use bulkhead_compile::Compiler;
use bulkhead_dataplane::{Command, Counter, FromSwitch, Peer, Report, ToDrivers};
use bulkhead_pipeline::{Cause, Delta, Masks, Program};
use bulkhead_policy::model::Driver;
use bulkhead_reconcile::{Input, Machine, Output, Ports, Progress};
use bulkhead_topology::Name;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};
use tracing::{debug, info, warn};

/// How long a switch that was just declared may take to connect before a change counts as realized
/// without it.
pub(crate) const FIRST_CONNECT: Duration = Duration::from_secs(3);

/// One switch, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchView {
    /// The protocol it speaks.
    pub driver: Driver,
    /// How far it has come.
    pub progress: Progress,
    /// Different masks among the entries of the stage that has most of them.
    pub masks: usize,
    /// Who its session is with, if its driver has connections.
    pub peer: Option<Peer>,
    /// Who said to be it and was refused.
    pub impostors: Impostors,
}

/// Those who said to be a switch and were refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Impostors {
    /// How often that happened.
    pub refused: u64,
    /// The last one and why, for people; empty if there was none since the switch connected.
    pub last: String,
}

/// Every switch's view, shared with readers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Views(Arc<RwLock<BTreeMap<Name, SwitchView>>>);

impl Views {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Name, SwitchView>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Slot {
    machine: Machine,
    driver: Driver,
    masks: usize,
    peer: Option<Peer>,
    impostors: Impostors,
    numbers: Numbers,
    /// The driver's channel; none if this program has no driver for the switch.
    channel: Option<usize>,
    attachment: u64,
    /// The session that commands are meant for.
    session: u64,
    /// Until when a first connection is waited for.
    expected: Option<Duration>,
    counters: Vec<Counter>,
    /// Whether counters are on their way: one count at a time in a session, however long it takes.
    counting: bool,
}

/// All switches.
pub(crate) struct Fabric {
    slots: BTreeMap<Name, Slot>,
    drivers: Drivers,
    attachments: u64,
    views: Views,
    totals: Arc<Mutex<Totals>>,
    /// The program of a switch that the compiler has none for.
    nothing: Program,
}

impl Fabric {
    pub(crate) fn new(drivers: Drivers, views: Views, totals: Arc<Mutex<Totals>>) -> Self {
        let (slots, nothing) = Default::default();
        Self { slots, drivers, attachments: 0, views, totals, nothing }
    }

    /// Takes a switch on; nothing happens if it is already driven.
    pub(crate) fn attach(&mut self, name: &Name, driver: &Driver, revision: u64, now: Duration) {
        // One that judges nothing has no program, and asks by itself for what it is to do.
        if self.slots.contains_key(name) || *driver == Driver::Kernel {
            return;
        }
        self.attachments += 1;
        let route = (self.drivers.route)(driver);
        if route.is_none() {
            warn!(switch = %name, ?driver, "this bulkheadd has no driver for the switch; it is not programmed");
        }
        let slot = Slot {
            machine: Machine::new(revision),
            driver: driver.clone(),
            masks: 0,
            peer: None,
            impostors: Impostors::default(),
            numbers: Numbers::default(),
            channel: route.as_ref().map(|(channel, _)| *channel),
            attachment: self.attachments,
            session: 0,
            expected: Some(now + FIRST_CONNECT),
            counters: Vec::new(),
            counting: false,
        };
        publish(&self.views, name, &slot);
        self.slots.insert(name.clone(), slot);
        if let Some((channel, address)) = route {
            let attachment = self.attachments;
            self.drivers.send(channel, ToDrivers::Attach { switch: name.clone(), address, attachment });
        }
    }

    /// Lets a switch go unless it is driven by `driver` and is to stay so; its entries stay on it.
    pub(crate) fn detach_unless(&mut self, name: &Name, driver: Option<&Driver>) {
        if self.slots.get(name).is_some_and(|slot| Some(&slot.driver) == driver) {
            return;
        }
        let Some(slot) = self.slots.remove(name) else { return };
        self.views.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(channel) = slot.channel {
            self.drivers.send(channel, ToDrivers::Detach { switch: name.clone() });
        }
    }

    /// Tells every switch of a new revision.
    pub(crate) fn changed(
        &mut self,
        revision: u64,
        deltas: &BTreeMap<Name, Delta>,
        compiler: &Compiler,
        now: Duration,
    ) {
        let none = Delta::default();
        for (name, slot) in &mut self.slots {
            let delta = deltas.get(name).unwrap_or(&none);
            let program = compiler.program(name).unwrap_or(&self.nothing);
            slot.masks = compiler.masks(name).map_or(0, Masks::most);
            if !delta.is_empty() && slot.machine.progress().connected {
                slot.numbers.behind_since.get_or_insert(now);
            }
            let output = slot.machine.handle(Input::Desired { revision, delta }, program, now);
            carry_out(&self.drivers, name, slot, output);
            publish(&self.views, name, slot);
        }
    }

    pub(crate) fn report(&mut self, from: FromSwitch, compiler: &Compiler, now: Duration) {
        let FromSwitch { switch: name, attachment, report } = from;
        let Some(slot) = self.slots.get_mut(&name).filter(|slot| slot.attachment == attachment) else {
            debug!(switch = %name, attachment, "a report of an older attachment");
            return;
        };
        let program = compiler.program(&name).unwrap_or(&self.nothing);
        slot.masks = compiler.masks(&name).map_or(0, Masks::most);
        let machine = &mut slot.machine;
        let output = match &report {
            Report::Connected { session, capabilities, ports } => {
                slot.session = *session;
                // Anything older may have been this switch, before it was put right.
                slot.impostors.last.clear();
                slot.expected = None;
                slot.counting = false;
                slot.numbers.capabilities = Some(capabilities.clone());
                info!(switch = %name, ports = ports.len(), "connected");
                let ports = if capabilities.any_port { Ports::Any } else { Ports::Known(ports.clone()) };
                let max_entries = capabilities.max_entries as usize;
                machine.handle(Input::Connected { ports: &ports, max_entries }, program, now)
            }
            Report::Peer(peer) => {
                slot.peer = Some(peer.clone());
                None
            }
            Report::Impostor { address, why } => {
                warn!(switch = %name, %address, %why, "somebody who said to be this switch was refused");
                slot.impostors.refused += 1;
                slot.impostors.last = format!("{address}: {why}");
                None
            }
            Report::Disconnected(reason) => {
                slot.peer = None;
                slot.numbers.errors.disconnected += 1;
                slot.numbers.behind_since = None;
                info!(switch = %name, %reason, "disconnected");
                machine.handle(Input::Disconnected(reason), program, now)
            }
            Report::Ports(ports) => machine.handle(Input::Ports(ports), program, now),
            Report::PortStates(ports) => {
                let names = ports.iter().filter_map(|port| Some((port.number?, port.name.clone()?))).collect();
                machine.handle(Input::Names(names), program, now)
            }
            Report::Actual { program: actual, alien } => {
                let output = machine.handle(Input::Actual { program: actual, alien: *alien }, program, now);
                let Progress { differing, drift, .. } = machine.progress();
                info!(switch = %name, entries = actual.len(), alien, differ = differing, "read back");
                if *drift > 0 {
                    slot.numbers.errors.drifted += 1;
                    warn!(switch = %name, entries = drift, "somebody else changed entries; mending them");
                }
                output
            }
            Report::Applied { step } => machine.handle(Input::Applied { step: *step }, program, now),
            Report::Refused { step, reason } => {
                slot.numbers.errors.refused += 1;
                let output = machine.handle(Input::Refused { step: *step, reason }, program, now);
                match machine.progress().acknowledged {
                    0 => warn!(switch = %name, %reason, "refused a step; there may be no revision as a whole in force"),
                    in_force => {
                        warn!(switch = %name, %reason, in_force, "refused a step; the old revision stays in force")
                    }
                }
                output
            }
            Report::Counters(counters) => {
                slot.numbers.drops.count(counters);
                slot.counters.clone_from(counters);
                slot.counting = false;
                None
            }
            Report::NotCounted(reason) => {
                warn!(switch = %name, %reason, "does not tell its counters");
                slot.numbers.errors.not_counted += 1;
                slot.counting = false;
                None
            }
            // Nothing about the switch changes.
            Report::Logged(_) | Report::Probed { .. } | Report::Discovered { .. } | Report::Waits(_) => return,
        };
        let Progress { acknowledged, desired, .. } = slot.machine.progress();
        if acknowledged == desired
            && let Some(since) = slot.numbers.behind_since.take()
        {
            self.totals.lock().unwrap_or_else(PoisonError::into_inner).realization.add(now.saturating_sub(since));
        }
        carry_out(&self.drivers, &name, slot, output);
        publish(&self.views, &name, slot);
    }

    /// What metrics tell of every switch beside its view.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = (&Name, &Numbers)> {
        self.slots.iter().map(|(name, slot)| (name, &slot.numbers))
    }

    pub(crate) fn tick(&mut self, compiler: &Compiler, now: Duration) {
        for (name, slot) in &mut self.slots {
            if slot.expected.is_some_and(|until| until <= now) {
                slot.expected = None;
            }
            if slot.machine.deadline().is_some_and(|deadline| deadline <= now) {
                let program = compiler.program(name).unwrap_or(&self.nothing);
                let output = slot.machine.handle(Input::Tick, program, now);
                carry_out(&self.drivers, name, slot, output);
                publish(&self.views, name, slot);
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.slots.values().flat_map(|slot| [slot.machine.deadline(), slot.expected]).flatten().min()
    }

    /// Whether a switch is connected.
    pub(crate) fn is_connected(&self, name: &Name) -> bool {
        self.slots.get(name).is_some_and(|slot| slot.machine.progress().connected)
    }

    /// Whether a switch is connected and has been given its program since.
    pub(crate) fn is_settled(&self, name: &Name) -> bool {
        self.slots.get(name).is_some_and(|slot| slot.machine.progress().settled)
    }

    /// Whether it sends and hears probes of tunnels, now: a switch without a program does not, and no P4 switch does.
    pub(crate) fn probes(&self, name: &Name) -> bool {
        self.is_settled(name) && self.slots.get(name).is_some_and(|slot| slot.driver.remembers())
    }

    /// The newest revision that is in force on a switch as a whole; 0 if none is known to be.
    pub(crate) fn acknowledged(&self, name: &Name) -> u64 {
        self.slots.get(name).map_or(0, |slot| slot.machine.progress().acknowledged)
    }

    /// Whether a switch is connected and has acknowledged a revision, and nothing of another is on its way.
    pub(crate) fn has(&self, name: &Name, revision: u64) -> bool {
        self.slots.get(name).is_some_and(|slot| {
            let progress = slot.machine.progress();
            progress.connected && progress.acknowledged == revision
        })
    }

    /// Whether a report is of the switch as it is attached now.
    pub(crate) fn is_attached(&self, from: &FromSwitch) -> bool {
        self.slots.get(&from.switch).is_some_and(|slot| slot.attachment == from.attachment)
    }

    /// Has a switch do something that is not answered.
    pub(crate) fn send(&self, switch: Name, command: Command) {
        let Some(slot) = self.slots.get(&switch) else { return };
        let Some(channel) = slot.channel else { return };
        let session = slot.session;
        self.drivers.send(channel, ToDrivers::Command { switch, session, command });
    }

    pub(crate) fn count(&mut self) -> Vec<Name> {
        let mut asked = Vec::new();
        for (name, slot) in &mut self.slots {
            let Some(channel) = slot.channel.filter(|_| slot.machine.progress().connected) else { continue };
            // One count at a time; whoever asks meanwhile shares its answer.
            if !slot.counting {
                slot.counting = true;
                let switch = name.clone();
                let (session, command) = (slot.session, Command::Count);
                self.drivers.send(channel, ToDrivers::Command { switch, session, command });
            }
            asked.push(name.clone());
        }
        asked
    }

    /// Whether a switch's counters are on their way.
    pub(crate) fn is_counting(&self, name: &Name) -> bool {
        self.slots.get(name).is_some_and(|slot| slot.counting && slot.machine.progress().connected)
    }

    pub(crate) fn hits(&self) -> BTreeMap<(Cause, bool), BTreeMap<Name, (u64, u64)>> {
        let mut hits: BTreeMap<_, BTreeMap<Name, (u64, u64)>> = BTreeMap::new();
        for (name, slot) in &self.slots {
            for counter in &slot.counters {
                let by_switch = hits.entry((counter.cause, counter.dropped)).or_default();
                let (packets, bytes) = by_switch.entry(name.clone()).or_default();
                *packets = packets.saturating_add(counter.packets);
                *bytes = bytes.saturating_add(counter.bytes);
            }
        }
        hits
    }

    /// Progress of every switch that can have any, and whether its first connection is still awaited.
    pub(crate) fn progress(&self) -> impl Iterator<Item = (&Name, &Progress, bool)> {
        self.slots.iter().map(|(name, slot)| (name, slot.machine.progress(), slot.expected.is_some()))
    }
}

fn carry_out(drivers: &Drivers, name: &Name, slot: &Slot, output: Option<Output>) {
    let (Some(output), Some(channel)) = (output, slot.channel) else { return };
    let command = match output {
        Output::Read => Command::Read,
        Output::Apply { step, delta, ahead } => {
            debug!(switch = %name, step, add = delta.add.len(), remove = delta.remove.len(), "step");
            Command::Apply { step, delta, ahead }
        }
    };
    drivers.send(channel, ToDrivers::Command { switch: name.clone(), session: slot.session, command });
}

fn publish(views: &Views, name: &Name, slot: &Slot) {
    let mut views = views.0.write().unwrap_or_else(PoisonError::into_inner);
    match views.get_mut(name) {
        Some(view) if view.driver == slot.driver => {
            view.progress.clone_from(slot.machine.progress());
            view.masks = slot.masks;
            view.peer.clone_from(&slot.peer);
            view.impostors.clone_from(&slot.impostors);
        }
        _ => {
            let view = SwitchView {
                driver: slot.driver.clone(),
                progress: slot.machine.progress().clone(),
                masks: slot.masks,
                peer: slot.peer.clone(),
                impostors: slot.impostors.clone(),
            };
            views.insert(name.clone(), view);
        }
    }
}
