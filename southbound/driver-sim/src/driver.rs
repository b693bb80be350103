//! The task that carries out what the controller asks of simulated switches.

use crate::{
    chaos::{Chaos, Odds, answer, connected},
    switch::Switch,
};
use bulkhead_dataplane::{Address, Command, FromSwitch, MAX_DISCOVERED, Outgoing, PortState, Probe, Report, ToDrivers};
use bulkhead_topology::{Name, Port};
use std::{
    collections::BTreeMap,
    iter,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{Notify, mpsc};
use tracing::{info, warn};

/// All simulated switches. They outlive the controller's sessions, as real ones do: give a new [`run`] the
/// same fabric, and it finds the programs that the last one left.
#[derive(Debug, Clone, Default)]
pub struct Fabric {
    switches: Arc<Mutex<BTreeMap<Name, Switch>>>,
    wires: Arc<Mutex<BTreeMap<End, End>>>,
    /// A link went down or came up.
    links: Arc<Notify>,
}

/// A port of a switch.
type End = (Name, Port);

impl Fabric {
    /// Looks at, or does something to, a switch; it is made if there is none of that name.
    pub fn with<R>(&self, name: &Name, look: impl FnOnce(&mut Switch) -> R) -> R {
        // A panic elsewhere leaves plain values behind, which are still whole.
        let mut switches = self.switches.lock().unwrap_or_else(PoisonError::into_inner);
        look(switches.entry(name.clone()).or_default())
    }

    /// Runs a wire between two ports; what was there before is unplugged.
    pub fn wire(&self, a: End, b: End) {
        for end in [&a, &b] {
            self.unplug(end);
        }
        let mut wires = self.wires.lock().unwrap_or_else(PoisonError::into_inner);
        wires.insert(a.clone(), b.clone());
        wires.insert(b, a);
    }

    /// Takes the wire out of a port, if it has one. Neither end notices, as with a media converter in between: see
    /// [`Self::set_link`].
    pub fn unplug(&self, end: &End) {
        let mut wires = self.wires.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(far) = wires.remove(end) {
            wires.remove(&far);
        }
    }

    /// The port at the other end of a port's wire.
    pub fn far_end(&self, end: &End) -> Option<End> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner).get(end).cloned()
    }

    /// Takes a port's link down, or brings it up again; the controller is told.
    pub fn set_link(&self, end: &End, up: bool) {
        self.with(&end.0, |switch| switch.set_link(end.1.clone(), up));
        self.links.notify_one();
    }

    /// Carries a frame along the wire of the port that it leaves by. What the switch there reports, if there is one and
    /// its program wants it.
    fn discover(&self, from: &Name, Outgoing { port, mut frame }: Outgoing) -> Option<(Name, Report)> {
        let sent = self.with(from, |switch| switch.can_send(&port));
        let (name, port) = self.far_end(&(from.clone(), port)).filter(|_| sent)?;
        let heard = self.with(&name, |switch| switch.discovers(&port, &frame));
        frame.truncate(MAX_DISCOVERED.into());
        heard.then_some((name, Report::Discovered { port, frame }))
    }

    /// Carries a probe to the switch that has the address it goes to. What that one reports, if the probe gets there
    /// and the program wants it.
    fn probe(&self, from: &Name, probe: &Probe) -> Option<(Name, Report)> {
        let mut switches = self.switches.lock().unwrap_or_else(PoisonError::into_inner);
        let from = switches.get(from)?.vtep()?;
        let (name, switch) = switches.iter_mut().find(|(_, switch)| switch.vtep() == Some(probe.to))?;
        let heard = switch.probed(&probe.port, from);
        heard.then(|| (name.clone(), Report::Probed { token: probe.token, from }))
    }
}

/// An attachment: its number, that of its session, and the trouble on its way.
struct Session {
    attachment: u64,
    number: u64,
    chaos: Option<Chaos>,
    /// What was told last of its ports.
    states: Vec<PortState>,
}

impl Session {
    /// What is to be told of its ports.
    fn news(&mut self, states: Vec<PortState>) -> Option<Report> {
        (states != self.states).then(|| {
            self.states.clone_from(&states);
            Report::PortStates(states)
        })
    }

    /// Carries out a command; what comes of it, and from which switches.
    fn command(&mut self, fabric: &Fabric, switch: Name, command: Command) -> Vec<(Name, Report)> {
        match command {
            Command::Probe(probes) => probes.iter().filter_map(|probe| fabric.probe(&switch, probe)).collect(),
            Command::Discover(frames) => {
                frames.into_iter().filter_map(|outgoing| fabric.discover(&switch, outgoing)).collect()
            }
            command => {
                let reports = fabric.with(&switch, |switch| match &mut self.chaos {
                    Some(chaos) => chaos.command(switch, &mut self.number, command),
                    None => answer(switch, command).into_iter().collect(),
                });
                // A new session is told what is known of the ports.
                let begins = reports.iter().any(|report| matches!(report, Report::Connected { .. }));
                let states = self.states.clone();
                let states = (begins && !states.is_empty()).then_some(Report::PortStates(states));
                reports.into_iter().chain(states).map(|report| (switch.clone(), report)).collect()
            }
        }
    }
}

/// Drives the switches of `fabric` until the controller's end of `commands` is gone. With `chaos`, every
/// switch's way is troubled by these odds, from this seed on.
pub async fn run(
    fabric: Fabric,
    mut commands: mpsc::Receiver<ToDrivers>,
    reports: mpsc::Sender<FromSwitch>,
    chaos: Option<(u64, Odds)>,
) {
    let mut sessions: BTreeMap<Name, Session> = BTreeMap::new();
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            () = fabric.links.notified() => {
                for (switch, session) in &mut sessions {
                    let Some(report) = session.news(fabric.with(switch, |switch| switch.port_states())) else { continue };
                    let from = FromSwitch { switch: switch.clone(), attachment: session.attachment, report };
                    if reports.send(from).await.is_err() {
                        return;
                    }
                }
                continue;
            }
        };
        let Some(command) = command else { return };
        let answers = match command {
            ToDrivers::Attach { address: Address::Datapath(_) | Address::Device { .. }, switch, .. } => {
                warn!(%switch, "asked to simulate a switch that is a real one; left alone");
                continue;
            }
            ToDrivers::Attach { switch, address: Address::Sim, attachment } => {
                info!(%switch, "simulated switch: no real packet passes it");
                let chaos = chaos.map(|(seed, odds)| Chaos::new(seed ^ attachment << 32, odds));
                let mut session = Session { attachment, number: 0, chaos, states: Vec::new() };
                let (connected, states) = fabric.with(&switch, |switch| (connected(switch, 0), switch.port_states()));
                let answers = iter::once(connected).chain(session.news(states));
                let answers = answers.map(|report| (switch.clone(), report)).collect();
                sessions.insert(switch, session);
                answers
            }
            ToDrivers::Detach { switch } => {
                sessions.remove(&switch);
                continue;
            }
            ToDrivers::Command { switch, session: meant, command } => {
                let Some(session) = sessions.get_mut(&switch).filter(|session| session.number == meant) else {
                    continue;
                };
                session.command(&fabric, switch, command)
            }
        };
        for (switch, report) in answers {
            let Some(Session { attachment, .. }) = sessions.get(&switch) else { continue };
            if reports.send(FromSwitch { switch, attachment: *attachment, report }).await.is_err() {
                return;
            }
        }
    }
}
