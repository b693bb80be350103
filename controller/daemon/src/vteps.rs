//! Kernel VTEPs, as the controller knows them: what each has to forward, what it was told, and what it tells.

use bulkhead_policy::{State, overlay::judges, vtep::forwarding};
use bulkhead_runtime::{Handle, metric};
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
/// Questions of one VTEP that wait, at most: an agent has one, and for a moment that of the one before it. A further one is
/// answered after [`CROWDED`].
const MAX_ASKING: usize = 4;
/// See [`MAX_ASKING`].
const CROWDED: Duration = Duration::from_secs(1);
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
    wanted: Option<Arc<VtepForwarding>>,
    /// The newest revision of which that is known.
    of: u64,
    /// What it told last.
    report: VtepReport,
    /// When that was.
    told: Option<Instant>,
    /// The newest revision that was in force there.
    acknowledged: u64,
    /// Questions of its that wait for their answers.
    asking: usize,
    heard: Option<Instant>,
}

/// What a VTEP has to forward; `None` if it is none.
fn worked_out(state: &State, revision: u64, name: &Name) -> Option<VtepForwarding> {
    let now = forwarding(state, name)?;
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
    Some(VtepForwarding { revision, vtep: now.vtep, networks: networks.collect() })
}

impl Agent {
    /// Whether it is known what it has to forward at a revision.
    fn is_of(&self, revision: u64) -> bool {
        self.wanted.is_some() && self.of >= revision
    }

    /// Takes in what it has to forward now.
    fn take(&mut self, now: VtepForwarding) {
        if self.is_of(now.revision) {
            return;
        }
        self.of = now.revision;
        let same =
            self.wanted.as_ref().is_some_and(|before| (before.vtep, &before.networks) == (now.vtep, &now.networks));
        if !same {
            self.wanted = Some(Arc::new(now));
        }
        self.acknowledge();
    }

    fn acknowledge(&mut self) {
        let newest = self.wanted.as_ref().map_or(0, |wanted| wanted.revision);
        // What nobody can have told it, it does not hold.
        if self.report.shaped && self.report.held <= newest {
            self.acknowledged = if self.report.held == newest { self.of } else { self.report.held };
        }
    }

    fn connected(&self) -> bool {
        self.told.is_some() && (self.asking > 0 || self.heard.is_some_and(|heard| heard.elapsed() < LOST))
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
            if accepted.state.switches.get(name).is_none_or(|switch| judges(switch)) {
                self.agents().remove(name);
                return None;
            }
            // Worked out while the other agents' questions are answered.
            let known = self.agents().get(name).is_some_and(|agent| agent.is_of(accepted.revision));
            let now = if known { None } else { Some(worked_out(&accepted.state, accepted.revision, name)?) };
            let mut agents = self.agents();
            let agent = agents.entry(name.clone()).or_default();
            now.into_iter().for_each(|now| agent.take(now));
            Some(work(agent))
        })
    }

    pub(crate) async fn ask(&self, handle: &Handle, name: &Name, held: u64, wait: Duration) -> Option<VtepAnswer> {
        let asking = self.with(handle, name, |agent| {
            agent.asking += 1;
            agent.asking
        })?;
        let _asking = Asking(self, name);
        let until = Instant::now() + if asking > MAX_ASKING { wait.min(CROWDED) } else { wait };
        loop {
            let wanted = |agent: &mut Agent| agent.wanted.as_ref().filter(|wanted| wanted.revision != held).cloned();
            // Like every other switch it is told nothing before all of the state is known to compile.
            let forwarding = self.with(handle, name, wanted)?.filter(|_| handle.is_compiled());
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
            let now = Some(Instant::now());
            (agent.report, agent.told, agent.heard) = (report, now, now);
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
        self.each(handle, status)
    }

    fn each<R>(&self, handle: &Handle, look: impl Fn(&Name, &Agent) -> R) -> Vec<R> {
        let declared = |state: &State| -> Vec<Name> {
            state.switches.values().filter(|switch| !judges(switch)).map(|switch| switch.name.clone()).collect()
        };
        let names = handle.read(|accepted| declared(&accepted.state));
        names.iter().filter_map(|name| self.with(handle, name, |agent| look(name, agent))).collect()
    }

    /// Numbers about each, in the Prometheus text format.
    pub(crate) fn metrics(&self, handle: &Handle, out: &mut String) {
        type Number = fn(&Agent) -> Option<f64>;
        let numbers: [(&str, &str, &str, Number); 6] = [
            ("connected", "gauge", "Whether its agent asks and tells.", |a| Some(f64::from(a.connected()))),
            ("shaped", "gauge", "Whether its host was as it should be when it told last.", |a| {
                Some(f64::from(a.report.shaped))
            }),
            ("desired_revision", "gauge", "The revision it should have.", |a| Some(a.of as f64)),
            ("acknowledged_revision", "gauge", "The newest revision in force there.", |a| Some(a.acknowledged as f64)),
            ("report_age_seconds", "gauge", "How long ago it told how it is; none if it never has.", |a| {
                a.told.map(|told| told.elapsed().as_secs_f64())
            }),
            ("repairs_total", "counter", "How often its agent has mended what somebody else had changed.", |a| {
                Some(a.report.repairs as f64)
            }),
        ];
        let all = self.each(handle, |name, agent| (name.clone(), numbers.map(|(.., number)| number(agent))));
        for (at, (name, kind, help, _)) in numbers.into_iter().enumerate() {
            let samples = all.iter().filter_map(|(switch, values)| {
                Some(([("switch", switch.as_str())], values.get(at).copied().flatten()?))
            });
            metric(out, (&format!("bulkhead_vtep_{name}"), kind, help), samples);
        }
    }
}

/// How the tunnels of a kernel VTEP are. Nobody probes them: its kernel answers no probes. What its agent tells is
/// whether the host has them.
pub(crate) fn tunnels(kernel: &SwitchStatus) -> &'static str {
    match (kernel.connected, kernel.host.as_ref().is_some_and(|host| host.shaped)) {
        (false, _) => "unknown",
        (true, true) => "set-up",
        (true, false) => "down",
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
        last_error: if agent.told.is_some() { trouble.clone() } else { "it has not told anything yet".into() },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarding(revision: u64, networks: usize) -> VtepForwarding {
        let network = |vni| VtepNetwork { name: "n".into(), vni, ports: Vec::new(), far: Vec::new(), way_out: None };
        let networks = (1..).take(networks).map(network).collect();
        VtepForwarding { revision, vtep: std::net::Ipv4Addr::LOCALHOST.into(), networks }
    }

    #[test]
    fn an_agent_is_believed_no_revision_that_it_cannot_have_been_told() {
        let mut agent = Agent::default();
        agent.take(forwarding(5, 1));
        let tells = |agent: &mut Agent, held| {
            agent.report = VtepReport { held, shaped: true, ..VtepReport::default() };
            agent.acknowledge();
            agent.acknowledged
        };
        assert_eq!(tells(&mut agent, u64::MAX), 0);
        assert_eq!(tells(&mut agent, 6), 0);
        assert_eq!(tells(&mut agent, 5), 5);
        // A revision that changes nothing for it.
        agent.take(forwarding(7, 1));
        assert_eq!((agent.acknowledged, agent.wanted.as_ref().map(|wanted| wanted.revision)), (7, Some(5)));
        agent.take(forwarding(8, 2));
        assert_eq!(tells(&mut agent, 5), 5);
        assert_eq!(tells(&mut agent, 7), 7);
        assert_eq!(tells(&mut agent, 8), 8);
    }
}
