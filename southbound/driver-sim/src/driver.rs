//! The task that carries out what the controller asks of simulated switches.

use crate::{
    chaos::{Chaos, Odds, answer, connected},
    switch::Switch,
};
use bulkhead_dataplane::{Address, Command, FromSwitch, Probe, Report, ToDrivers};
use bulkhead_topology::Name;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// All simulated switches. They outlive the controller's sessions, as real ones do: give a new [`run`] the
/// same fabric, and it finds the programs that the last one left.
#[derive(Debug, Clone, Default)]
pub struct Fabric {
    switches: Arc<Mutex<BTreeMap<Name, Switch>>>,
}

impl Fabric {
    /// Looks at, or does something to, a switch; it is made if there is none of that name.
    pub fn with<R>(&self, name: &Name, look: impl FnOnce(&mut Switch) -> R) -> R {
        // A panic elsewhere leaves plain values behind, which are still whole.
        let mut switches = self.switches.lock().unwrap_or_else(PoisonError::into_inner);
        look(switches.entry(name.clone()).or_default())
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
    while let Some(command) = commands.recv().await {
        let (switch, attachment, answers) = match command {
            ToDrivers::Attach { address: Address::Datapath(id), switch, .. } => {
                warn!(%switch, %id, "asked to simulate a switch that has a datapath id; left alone");
                continue;
            }
            ToDrivers::Attach { switch, address: Address::Sim, attachment } => {
                info!(%switch, "simulated switch: no real packet passes it");
                let chaos = chaos.map(|(seed, odds)| Chaos::new(seed ^ attachment << 32, odds));
                sessions.insert(switch.clone(), Session { attachment, number: 0, chaos });
                let report = fabric.with(&switch, |switch| connected(switch, 0));
                (switch, attachment, vec![report])
            }
            ToDrivers::Detach { switch } => {
                sessions.remove(&switch);
                continue;
            }
            ToDrivers::Command { switch, session: meant, command: Command::Probe(probes) } => {
                if sessions.get(&switch).is_none_or(|session| session.number != meant) {
                    continue;
                }
                for (switch, report) in probes.iter().filter_map(|probe| fabric.probe(&switch, probe)) {
                    let Some(Session { attachment, .. }) = sessions.get(&switch) else { continue };
                    if reports.send(FromSwitch { switch, attachment: *attachment, report }).await.is_err() {
                        return;
                    }
                }
                continue;
            }
            ToDrivers::Command { switch, session: meant, command } => {
                let Some(session) = sessions.get_mut(&switch) else { continue };
                if session.number != meant {
                    continue;
                }
                let answers = fabric.with(&switch, |switch| match &mut session.chaos {
                    Some(chaos) => chaos.command(switch, &mut session.number, command),
                    None => answer(switch, command).into_iter().collect(),
                });
                (switch, session.attachment, answers)
            }
        };
        for report in answers {
            if reports.send(FromSwitch { switch: switch.clone(), attachment, report }).await.is_err() {
                return;
            }
        }
    }
}
