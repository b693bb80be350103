//! The controller, as the API sees it: its questions and the runtime's answers, translated.

use crate::{
    audit::{self, Auditor},
    certificates, history,
    hits::hits,
    links, process,
    tokens::Tokens,
    trace::trace,
    vteps::{self, Vteps},
};
use bulkhead_api::{
    Applied, ApplyError, Asked, Backend, Caller, Difference, Edit, History, Origin, PastError, RestoreError, Stranger,
    TokenError, View,
};
use bulkhead_policy::{
    Key, Kind, State,
    model::{Attachment, Driver, Port},
};
use bulkhead_runtime::{Gone, Handle, HostView, Outcome, Refusal, Request, SwitchView, TunnelState, TunnelView, What};
use bulkhead_tls::{Server, Subject, Tls};
use bulkhead_topology::Name;
use bulkhead_types::{
    AuditAnswer, ChangeKind, DoubledPort, EntryCounts, FlowQuestion, HostStatus, PathAnswer, PathQuestion,
    PendingSwitch, PortsAnswer, QuarantinedInterface, Realization, RestoreAnswer, RuleHits, SessionStatus,
    StatusAnswer, SwitchStatus, TokenAnswer, TokenList, TokenQuestion, TopologyAnswer, TraceAnswer, TunnelStatus,
    VtepAnswer, VtepReport,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::sleep};

/// How often it is looked whether kernel VTEPs are where they are to be.
const LOOK: Duration = Duration::from_millis(50);

/// A way to the running controller.
#[derive(Clone)]
pub struct Controller {
    handle: Handle,
    vteps: Vteps,
    data_dir: PathBuf,
    tls: Option<Tls>,
    door: Option<Server>,
    tokens: Tokens,
    auditor: Auditor,
}

impl Controller {
    /// What the audit log has beside revisions.
    pub(crate) fn auditor(&self) -> Auditor {
        self.auditor.clone()
    }

    /// The controller behind a handle, whose data directory this is, which speaks TLS with switches (`tls`) and with
    /// clients (`door`) or does not, and to which these tokens give access.
    pub fn new(handle: Handle, data_dir: PathBuf, tls: Option<Tls>, door: Option<Server>, tokens: Tokens) -> Self {
        let auditor = Auditor::new(handle.clone());
        Self { handle, vteps: Vteps::default(), data_dir, tls, door, tokens, auditor }
    }
}

impl Backend for Controller {
    async fn apply(&self, edits: Vec<Edit>, asked: Asked) -> Result<Applied, ApplyError> {
        let edit = |edit: Edit| bulkhead_runtime::Edit {
            change: edit.change,
            document: edit.document,
            expected: edit.expected,
        };
        let request = Request {
            edits: edits.into_iter().map(edit).collect(),
            dry_run: asked.dry_run,
            author: asked.author,
            newest: asked.newest,
            time: audit::now(),
            event: Some(audit::event(asked.origin, "done", String::new())),
        };
        match self.handle.apply(request).await {
            Ok(Ok(outcome)) => Ok(applied(outcome, asked.dry_run)),
            Ok(Err(refusal)) => Err(match refusal {
                Refusal::Rejected(found) => ApplyError::Rejected(found),
                Refusal::Conflict { key, expected, actual } => ApplyError::Conflict { key, expected, actual },
                Refusal::Moved { expected, actual } => ApplyError::Moved { expected, actual },
                Refusal::TooLarge(why) => ApplyError::TooLarge(why),
                refusal @ Refusal::Unavailable(_) => ApplyError::Unavailable(refusal.to_string()),
            }),
            Err(gone @ Gone) => Err(ApplyError::Unavailable(gone.to_string())),
        }
    }

    fn history(&self, before: u64, limit: usize) -> Result<History, PastError> {
        history::history(self.handle.store(), before, limit)
    }

    fn between(&self, from: u64, to: u64) -> Result<Vec<Difference>, PastError> {
        history::between(self.handle.store(), from, to)
    }

    fn changes(&self, from: u64, to: u64) -> Result<Vec<Difference>, PastError> {
        history::changes(self.handle.store(), from, to)
    }

    fn newest(&self) -> watch::Receiver<u64> {
        self.handle.newest()
    }

    fn backup(&self, origin: Origin, out: &mut dyn FnMut(Vec<u8>) -> bool) -> Result<(), PastError> {
        self.auditor.told(origin, "a backup");
        history::backup(self.handle.store(), out)
    }

    fn spool(&self) -> io::Result<File> {
        history::spool(&self.data_dir)
    }

    async fn restore(&self, file: File, origin: Origin) -> Result<RestoreAnswer, RestoreError> {
        history::restore(&self.handle, file, audit::event(origin, "done", "a backup".into())).await
    }

    fn read<R>(&self, look: impl FnOnce(View<'_>) -> R) -> R {
        self.handle.read(|accepted| {
            look(View { state: &accepted.state, revision: accepted.revision, versions: &accepted.versions })
        })
    }

    async fn realization(&self, revision: u64, wait: Duration) -> Realization {
        let text = |names: Vec<Name>| names.iter().map(Name::to_string).collect();
        let until = Instant::now() + wait;
        let answer = self.handle.realization(revision, wait).await;
        let mut late = self.vteps.waiting(&self.handle, revision);
        while !late.is_empty() && Instant::now() < until {
            sleep(LOOK).await;
            late = self.vteps.waiting(&self.handle, revision);
        }
        let lost = self.vteps.status(&self.handle).into_iter();
        let lost = lost.filter(|vtep| !vtep.connected && vtep.acknowledged < revision).map(|vtep| vtep.name);
        match answer {
            Ok(answer) => Realization {
                revision,
                realized: answer.realized && late.is_empty(),
                waiting: text(answer.waiting.into_iter().chain(late).collect()),
                disconnected: text(answer.disconnected).into_iter().chain(lost).collect(),
                failed: answer.failed.into_iter().map(|(name, why)| (name.to_string(), why)).collect(),
            },
            Err(Gone) => Realization { revision, ..Realization::default() },
        }
    }

    async fn status(&self) -> StatusAnswer {
        let ready = self.ready();
        let looked = self.handle.look(|core| {
            let links = (core.topology(), links::learning(core.learned()), links::apart(core.apart()));
            (core.hosts(), core.tunnels(), links)
        });
        // While the loop compiles there is nothing of that to tell, and who asks how it is going should not wait for it.
        let looked = if ready { looked.await.unwrap_or_default() } else { Default::default() };
        let (mut hosts, mut tunnels, (topology, learning, apart)) = looked;
        let views = self.handle.switches().into_iter();
        let waiting = |(name, (ports, first)): (&Name, (usize, Key))| PendingSwitch {
            name: name.to_string(),
            ports: ports as u64,
            first: first.to_string(),
        };
        let links = links::in_short(topology);
        let mut kernels = self.vteps.status(&self.handle);
        for kernel in &mut kernels {
            let from = Name::from_str(&kernel.name).ok().and_then(|name| tunnels.remove(&name));
            kernel.tunnels = from.into_iter().flatten().map(tunnel).collect();
        }
        let (revision, pending, mut switches): (_, _, Vec<SwitchStatus>) = self.handle.read(|accepted| {
            let state = &accepted.state;
            let switches = views.map(|(name, view)| {
                let tunnels = tunnels.remove(&name).unwrap_or_default();
                status(state, &name, view, hosts.remove(&name), tunnels)
            });
            (accepted.revision, state.pending().into_iter().map(waiting).collect(), switches.collect())
        });
        // Nobody probes what ends at a switch that answers no probes.
        let devices = switches.iter().filter(|switch| switch.driver == "p4runtime");
        let devices = devices.map(|device| {
            let settled = device.connected && device.acknowledged == device.desired;
            (device.name.clone(), if settled { "set-up" } else { "unknown" })
        });
        let kernel = |kernel: &SwitchStatus| (kernel.name.clone(), vteps::tunnels(kernel));
        let kept: BTreeMap<String, &str> = devices.chain(kernels.iter().map(kernel)).collect();
        switches.extend(kernels);
        switches.sort_by(|a, b| a.name.cmp(&b.name));
        for switch in &mut switches {
            for tunnel in &mut switch.tunnels {
                if let Some(state) = kept.get(&switch.name).or_else(|| kept.get(&tunnel.to)) {
                    tunnel.state = (*state).into();
                }
            }
        }
        StatusAnswer {
            revision,
            ready,
            compile_error: String::new(),
            store_error: self.handle.store_trouble().unwrap_or_default(),
            switches,
            pending,
            links,
            southbound_tls: self.tls.as_ref().map(certificates::status),
            api_tls: self.door.as_ref().map(certificates::status),
            learning,
            apart,
        }
    }

    async fn hits(&self, policy: Option<&str>) -> Vec<RuleHits> {
        let policy = policy.map(str::to_owned);
        // Counted anew where switches answer in time, else as of before.
        let counted = self.handle.count().await;
        let looked = self.handle.look(move |core| hits(core, policy.as_deref())).await;
        counted.and(looked).unwrap_or_default()
    }

    async fn trace(&self, question: FlowQuestion) -> Result<TraceAnswer, String> {
        self.handle.look(move |core| trace(core, &question)).await.map_err(|gone| gone.to_string())?
    }

    async fn vtep(&self, switch: &Name, held: u64, wait: Duration) -> Option<VtepAnswer> {
        self.vteps.ask(&self.handle, switch, held, wait).await
    }

    fn vtep_report(&self, switch: &Name, report: VtepReport) -> bool {
        self.vteps.tell(&self.handle, switch, report)
    }

    async fn topology(&self) -> TopologyAnswer {
        self.handle.look(links::topology).await.unwrap_or_default()
    }

    async fn ports(&self, switch: String) -> Option<PortsAnswer> {
        self.handle.look(move |core| links::ports(core, &switch)).await.ok().flatten()
    }

    async fn path(&self, question: PathQuestion) -> Result<PathAnswer, String> {
        self.handle.look(move |core| links::path(core, &question)).await.map_err(|gone| gone.to_string())?
    }

    async fn metrics(&self) -> String {
        let mut text = self.handle.metrics().await;
        self.vteps.metrics(&self.handle, &mut text);
        process::metrics(&mut text);
        let southbound = self.tls.as_ref().map(certificates::metrics).unwrap_or_default();
        text + &southbound + &self.door.as_ref().map(certificates::metrics).unwrap_or_default()
    }

    fn identify(&self, bearer: Option<&str>, subject: Option<&Subject>) -> Result<Caller, Stranger> {
        self.tokens.identify(bearer, subject)
    }

    fn tokens(&self) -> TokenList {
        self.tokens.list()
    }

    fn create_token(&self, question: TokenQuestion, by: &str, origin: Origin) -> Result<TokenAnswer, TokenError> {
        let shows = if question.certificate { "a certificate" } else { "a token" };
        let what = format!("access of {} by {shows}: {}", question.name, question.grants.join(" "));
        self.auditor.done(origin, what, TokenError::Failed, |note| self.tokens.create(question, by, note))
    }

    fn revoke_token(&self, name: &str, origin: Origin) -> Result<(), TokenError> {
        let what = format!("no access of {name} any more");
        self.auditor.done(origin, what, TokenError::Failed, |note| self.tokens.revoke(name, note))
    }

    fn refused(&self, origin: Origin, why: String) {
        self.auditor.refused(origin, why);
    }

    fn rejected(&self, origin: Origin, why: String) {
        self.auditor.rejected(origin, why);
    }

    fn audit(&self, after: u64, limit: usize) -> Result<AuditAnswer, PastError> {
        history::audit(self.handle.store(), after, limit)
    }

    fn ready(&self) -> bool {
        self.handle.is_compiled()
    }
}

fn applied(outcome: Outcome, dry_run: bool) -> Applied {
    let kind = |what| match what {
        What::Created => ChangeKind::Created,
        What::Updated => ChangeKind::Updated,
        What::Deleted => ChangeKind::Deleted,
        What::Unchanged => ChangeKind::Unchanged,
    };
    let counts = |counts: bulkhead_runtime::EntryCounts| EntryCounts {
        added: counts.added,
        removed: counts.removed,
        modified: counts.modified,
    };
    let entries = outcome.entries.into_iter().map(|(name, entries)| (name.to_string(), counts(entries)));
    Applied {
        revision: outcome.revision,
        changes: outcome.changes.into_iter().map(|(key, what)| (key, kind(what))).collect(),
        diagnostics: outcome.diagnostics,
        entries: dry_run.then(|| entries.collect()),
    }
}

fn tunnel(view: TunnelView) -> TunnelStatus {
    let state = match view.state {
        TunnelState::Unknown => "unknown",
        TunnelState::Up => "up",
        TunnelState::Down => "down",
    };
    TunnelStatus { to: view.to.to_string(), port: view.port.into(), vtep: view.far.to_string(), state: state.into() }
}

fn host(view: HostView) -> HostStatus {
    let quarantined = view.quarantined.into_iter().map(|found| QuarantinedInterface {
        port: found.port,
        iface_id: found.owner,
        mac: found.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        why: found.why,
    });
    HostStatus {
        ovsdb: view.endpoint,
        connected: view.connected,
        shaped: view.shaped,
        trouble: view.trouble,
        repaired: view.repaired,
        repairs: view.repairs,
        plugged: view.plugged as u64,
        quarantined: quarantined.collect(),
        underlay_mtu: view.underlay_mtu,
        warnings: view.warnings,
    }
}

/// Whose a port of a switch is by its number and by its name.
fn doubled(state: &State, switch: &Name, (number, name): (Port, Port)) -> DoubledPort {
    let whose = |port: &Port| {
        let at = Attachment { switch: switch.clone(), port: port.clone() };
        let workload = state.workload_on(&at).map(|workload| Kind::Workload.named(&workload.name));
        let network = || state.uplinks_at(&at).next().map(|(_, network)| Kind::Network.named(network));
        let link = || state.link_at(&at).map(|link| Kind::Link.named(link));
        workload.or_else(network).or_else(link).map_or_else(String::new, |key| key.to_string())
    };
    DoubledPort { has: whose(&name), waits: whose(&number), number: number.to_string(), name: name.to_string() }
}

fn status(
    state: &State,
    name: &Name,
    view: SwitchView,
    kept: Option<HostView>,
    tunnels: Vec<TunnelView>,
) -> SwitchStatus {
    let progress = view.progress;
    let driver = match view.driver {
        Driver::Openflow(_) => "openflow",
        Driver::P4runtime { .. } => "p4runtime",
        Driver::Sim => "sim",
        Driver::Kernel => "kernel",
    };
    SwitchStatus {
        name: name.to_string(),
        driver: driver.into(),
        connected: progress.connected,
        desired: progress.desired,
        sent: progress.sent,
        acknowledged: progress.acknowledged,
        entries: progress.entries as u64,
        pending: (progress.unconfirmed + progress.waiting) as u64,
        missing_ports: progress.missing.iter().map(ToString::to_string).collect(),
        doubled_ports: progress.doubled.into_iter().map(|port| doubled(state, name, port)).collect(),
        drift: progress.drift as u64,
        last_error: progress.last_error,
        session: view
            .peer
            .map(|peer| SessionStatus { address: peer.address.to_string(), certificate: peer.certificate }),
        impostor: view.impostors.last,
        tunnels: tunnels.into_iter().map(tunnel).collect(),
        host: kept.map(host),
        masks: None,
    }
}
