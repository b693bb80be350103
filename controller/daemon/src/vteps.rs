//! Kernel VTEPs, as the controller knows them: what each has to forward, what it was told, and what it tells.

use bulkhead_policy::{State, overlay::judges, vtep::forwarding};
use bulkhead_runtime::Handle;
use bulkhead_topology::Name;
use bulkhead_types::{
    HostStatus, SwitchStatus, VtepAnswer, VtepFar, VtepForwarding, VtepNetwork, VtepPort, VtepReport,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often it is looked, for each VTEP that waits, whether there is another revision.
const LOOK: Duration = Duration::from_millis(50);
/// A VTEP that has not asked or told anything for so long is lost. It asks again as soon as it is answered.
const LOST: Duration = Duration::from_secs(5);

/// Longest line that is taken from a VTEP, in characters; it is kept until the next.
const LINE: usize = 500;

/// What operators should know of every kernel VTEP.
const WARNING: &str = "enforces no policy: the switches at the other end of its tunnels judge what its workloads send \
                       and get; these do not reach each other, nor those of other kernel VTEPs";

#[derive(Debug, Default)]
struct Agent {
    /// What it has to forward, at the revision that made it so.
    wanted: Option<VtepForwarding>,
    /// The newest revision of which that is known.
    of: u64,
    /// What it told last.
    report: VtepReport,
    /// Whether it has told anything.
    told: bool,
    /// The newest revision that was in force there.
    acknowledged: u64,
    /// Questions of its that wait for their answers.
    asking: usize,
    heard: Option<Instant>,
}

impl Agent {
    /// Looks at what it has to forward now.
    fn look(&mut self, state: &State, revision: u64, name: &Name) -> bool {
        if self.of == revision && self.wanted.is_some() {
            return true;
        }
        let Some(now) = forwarding(state, name) else { return false };
        let networks = now.networks.into_iter().map(|(name, carried)| VtepNetwork {
            name: name.to_string(),
            vni: carried.vni.get(),
            ports: carried
                .ports
                .into_iter()
                .map(|(port, macs)| VtepPort {
                    name: port.to_string(),
                    macs: macs.iter().map(ToString::to_string).collect(),
                })
                .collect(),
            far: carried
                .far
                .into_iter()
                .map(|far| VtepFar { mac: far.mac.to_string(), ips: far.ips, vtep: far.vtep })
                .collect(),
            way_out: carried.way_out,
        });
        let now = VtepForwarding { revision, vtep: now.vtep, networks: networks.collect() };
        self.of = revision;
        let same =
            self.wanted.as_ref().is_some_and(|before| (before.vtep, &before.networks) == (now.vtep, &now.networks));
        if !same {
            self.wanted = Some(now);
        }
        self.acknowledge();
        true
    }

    fn acknowledge(&mut self) {
        if self.report.shaped {
            let newest = self.wanted.as_ref().is_some_and(|wanted| wanted.revision == self.report.held);
            self.acknowledged = if newest { self.of } else { self.report.held };
        }
    }

    fn connected(&self) -> bool {
        self.told && (self.asking > 0 || self.heard.is_some_and(|heard| heard.elapsed() < LOST))
    }
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vteps(Arc<Mutex<BTreeMap<Name, Agent>>>);

/// A question that waits; it is counted out when its answer is there, or nobody waits for it any more.
struct Asking<'a>(&'a Vteps, &'a Name);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut agents = self.0.agents();
        if let Some(agent) = agents.get_mut(self.1) {
            agent.asking = agent.asking.saturating_sub(1);
            agent.heard = Some(Instant::now());
        }
    }
}

impl Vteps {
    fn agents(&self) -> MutexGuard<'_, BTreeMap<Name, Agent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with a VTEP's agent as of now; `None` if there is no such VTEP.
    fn with<R>(&self, handle: &Handle, name: &Name, work: impl FnOnce(&mut Agent) -> R) -> Option<R> {
        handle.read(|accepted| {
            let mut agents = self.agents();
            if accepted.state.switches.get(name).is_none_or(|switch| judges(switch)) {
                agents.remove(name);
                return None;
            }
            let agent = agents.entry(name.clone()).or_default();
            agent.look(&accepted.state, accepted.revision, name).then(|| work(agent))
        })
    }

    pub(crate) async fn ask(&self, handle: &Handle, name: &Name, held: u64, wait: Duration) -> Option<VtepAnswer> {
        self.with(handle, name, |agent| agent.asking += 1)?;
        let _asking = Asking(self, name);
        let until = Instant::now() + wait;
        loop {
            let wanted = |agent: &mut Agent| agent.wanted.clone().filter(|wanted| wanted.revision != held);
            let forwarding = self.with(handle, name, wanted)?;
            if forwarding.is_some() || Instant::now() >= until {
                return Some(VtepAnswer { forwarding });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(crate) fn tell(&self, handle: &Handle, name: &Name, mut report: VtepReport) -> bool {
        for lines in [&mut report.troubles, &mut report.repaired] {
            lines.truncate(VtepReport::MOST);
            lines.iter_mut().for_each(|line| *line = line.chars().take(LINE).collect());
        }
        self.with(handle, name, |agent| {
            (agent.report, agent.told, agent.heard) = (report, true, Some(Instant::now()));
            agent.acknowledge();
        })
        .is_some()
    }

    /// The connected ones that have not acknowledged a revision.
    pub(crate) fn waiting(&self, handle: &Handle, revision: u64) -> Vec<Name> {
        let names: Vec<Name> = self.agents().keys().cloned().collect();
        let late = |agent: &mut Agent| agent.connected() && agent.acknowledged < revision;
        names.into_iter().filter(|name| self.with(handle, name, late) == Some(true)).collect()
    }

    /// How each is.
    pub(crate) fn status(&self, handle: &Handle) -> Vec<SwitchStatus> {
        let declared = |state: &State| -> Vec<Name> {
            state.switches.values().filter(|switch| !judges(switch)).map(|switch| switch.name.clone()).collect()
        };
        let names = handle.read(|accepted| declared(&accepted.state));
        names.iter().filter_map(|name| self.with(handle, name, |agent| status(name, agent))).collect()
    }
}

fn status(name: &Name, agent: &Agent) -> SwitchStatus {
    let wanted = agent.wanted.as_ref();
    let networks = || wanted.into_iter().flat_map(|wanted| &wanted.networks);
    let (report, connected) = (&agent.report, agent.connected());
    let trouble = report.troubles.first().cloned().unwrap_or_default();
    SwitchStatus {
        name: name.to_string(),
        driver: "kernel".into(),
        connected,
        desired: agent.of,
        sent: wanted.map_or(0, |wanted| wanted.revision),
        acknowledged: agent.acknowledged,
        entries: networks().map(|network| network.far.len() as u64).sum(),
        last_error: if agent.told { trouble.clone() } else { "it has not told anything yet".into() },
        host: Some(HostStatus {
            connected,
            shaped: report.shaped,
            trouble,
            repaired: report.repaired.clone(),
            repairs: report.repairs,
            plugged: networks().map(|network| network.ports.len() as u64).sum(),
            warnings: [WARNING.to_owned()].into_iter().chain(report.troubles.iter().skip(1).cloned()).collect(),
            ..HostStatus::default()
        }),
        ..SwitchStatus::default()
    }
}
