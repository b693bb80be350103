//! A controller that is nothing but a state.

use bulkhead_access::{Grant, Principal};
use bulkhead_api::{
    Applied, ApplyError, Asked, Backend, Caller, Difference, Edit, History, Known, Noted, Origin, PastError,
    RestoreError, Stranger, TokenError, View,
};
use bulkhead_policy::{Change, Key, Severity, State};
use bulkhead_tls::Subject;
use bulkhead_topology::Name;
use bulkhead_types::{
    AuditAnswer, ChangeKind, FlowQuestion, PathAnswer, PathQuestion, PortsAnswer, Realization, RestoreAnswer, RuleHits,
    StatusAnswer, TokenAnswer, TokenLine, TokenList, TokenQuestion, TopologyAnswer, TraceAnswer, VtepAnswer,
    VtepForwarding, VtepReport,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    sync::{Arc, Mutex, mpsc::SyncSender},
    time::Duration,
};
use tokio::sync::watch;

#[derive(Default)]
pub struct Memory {
    pub state: State,
    pub revision: u64,
    versions: BTreeMap<Key, u64>,
    /// The state before each revision, from the first on, and what was noted of it.
    past: Vec<(State, Noted)>,
    /// The oldest revision that is kept.
    pub oldest: u64,
    pub newest: watch::Sender<u64>,
    /// How often it was asked what changed.
    pub asked: usize,
    pub compiling: bool,
    /// Who shows no token is not let in.
    pub closed: bool,
    /// Requests that were refused because of who made them.
    pub refused: Vec<String>,
    /// Changes that were refused because of what they asked.
    pub rejected: Vec<String>,
    /// Somebody else makes a change right after each look.
    pub restless: bool,
    /// Is told of each look, and held up until it has been heard.
    pub looks: Option<SyncSender<()>>,
}

/// A controller without switches.
#[derive(Clone, Default)]
pub struct Fake(pub Arc<Mutex<Memory>>);

impl Backend for Fake {
    async fn apply(&self, edits: Vec<Edit>, asked: Asked) -> Result<Applied, ApplyError> {
        let mut memory = self.0.lock().unwrap();
        let actual = memory.revision;
        if let Some(expected) = asked.newest.filter(|newest| *newest != actual) {
            return Err(ApplyError::Moved { expected, actual });
        }
        for edit in &edits {
            assert_eq!(edit.document.is_some(), edit.change.value.is_some());
            let actual = memory.versions.get(&edit.change.key).copied().unwrap_or(0);
            if let Some(expected) = edit.expected.filter(|e| *e != actual) {
                return Err(ApplyError::Conflict { key: edit.change.key.clone(), expected, actual });
            }
        }
        let changes: Vec<Change> = edits.into_iter().map(|e| e.change).collect();
        let found = memory.state.check(&changes);
        if found.iter().any(|d| d.severity == Severity::Error) {
            return Err(ApplyError::Rejected(found));
        }
        let kind = |c: &Change| match (memory.state.get(&c.key), &c.value) {
            (old, new) if old == *new => ChangeKind::Unchanged,
            (None, _) => ChangeKind::Created,
            (_, None) => ChangeKind::Deleted,
            _ => ChangeKind::Updated,
        };
        let lines: Vec<_> = changes.iter().map(|c| (c.key.clone(), kind(c))).collect();
        if !asked.dry_run {
            let (revision, before) = (actual + 1, memory.state.clone());
            let noted = Noted { revision, author: asked.author, time: 1000 * revision, changes: lines.clone() };
            memory.past.push((before, noted));
            memory.state.apply(&changes);
            memory.revision += 1;
            let revision = memory.revision;
            for change in changes {
                match change.value {
                    Some(_) => memory.versions.insert(change.key, revision),
                    None => memory.versions.remove(&change.key),
                };
            }
            memory.newest.send_replace(revision);
        }
        Ok(Applied { revision: memory.revision, changes: lines, diagnostics: found, entries: None })
    }

    fn history(&self, before: u64, limit: usize) -> Result<History, PastError> {
        let memory = self.0.lock().unwrap();
        let revisions = memory.past.iter().rev().map(|(_, noted)| noted.clone());
        let revisions = revisions.filter(|noted| noted.revision < before).take(limit).collect();
        Ok(History { newest: memory.revision, oldest: 0, revisions })
    }

    fn between(&self, since: u64, until: u64) -> Result<Vec<Difference>, PastError> {
        let memory = self.0.lock().unwrap();
        if since.min(until) < memory.oldest {
            return Err(PastError::NotKept(format!("revision {} is not kept", since.min(until))));
        }
        let state = |revision: u64| match memory.past.get(revision as usize) {
            Some((state, _)) => Ok(state.clone()),
            None if revision == memory.revision => Ok(memory.state.clone()),
            None => Err(PastError::NotKept(format!("revision {revision} is not kept"))),
        };
        let (from, to) = (state(since)?, state(until)?);
        let mut keys: Vec<Key> = from.resources().chain(to.resources()).map(|resource| resource.key()).collect();
        keys.sort();
        keys.dedup();
        let difference = |key: Key| {
            let version = |revision| {
                let notes = memory.past.iter().map(|(_, noted)| noted).filter(|noted| noted.revision <= revision);
                let wrote =
                    |noted: &&Noted| noted.changes.iter().any(|(k, kind)| *k == key && *kind != ChangeKind::Deleted);
                notes.rev().find(wrote).map_or(0, |noted| noted.revision)
            };
            let (a, b) = (from.get(&key), to.get(&key));
            let versions = (a.as_ref().map_or(0, |_| version(since)), b.as_ref().map_or(0, |_| version(until)));
            Difference { versions, from: a, to: b, key }
        };
        Ok(keys.into_iter().map(difference).filter(|difference| difference.from != difference.to).collect())
    }

    fn changes(&self, from: u64, to: u64) -> Result<Vec<Difference>, PastError> {
        self.0.lock().unwrap().asked += 1;
        self.between(from, to)
    }

    fn newest(&self) -> watch::Receiver<u64> {
        self.0.lock().unwrap().newest.subscribe()
    }

    fn backup(&self, _: Origin, out: &mut dyn FnMut(Vec<u8>) -> bool) -> Result<(), PastError> {
        let revision = self.0.lock().unwrap().revision;
        out(format!("backup of {revision}, ").into_bytes());
        match revision {
            13 => Err(PastError::Failed("the disk is broken".into())),
            _ => {
                out(b"whole".to_vec());
                Ok(())
            }
        }
    }

    fn spool(&self) -> io::Result<File> {
        tempfile::tempfile()
    }

    async fn restore(&self, mut file: File, _: Origin) -> Result<RestoreAnswer, RestoreError> {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        match text.as_str() {
            "good" => Ok(RestoreAnswer { revision: 7, resources: 0 }),
            _ => Err(RestoreError::Damaged(format!("`{text}` is no backup"))),
        }
    }

    fn read<R>(&self, look: impl FnOnce(View<'_>) -> R) -> R {
        let looks = self.0.lock().unwrap().looks.clone();
        if let Some(looks) = looks {
            let _ = looks.send(());
        }
        let memory = &mut *self.0.lock().unwrap();
        let seen = look(View { state: &memory.state, revision: memory.revision, versions: &memory.versions });
        // Whoever looks twice for what belongs together is told of another revision.
        if memory.restless {
            memory.revision += 1;
            memory.versions.values_mut().for_each(|version| *version = memory.revision);
        }
        seen
    }

    async fn realization(&self, revision: u64, wait: Duration) -> Realization {
        assert!(wait <= Duration::from_secs(60));
        Realization { revision, realized: true, ..Realization::default() }
    }

    async fn status(&self) -> StatusAnswer {
        StatusAnswer { revision: self.read(|view| view.revision), ready: self.ready(), ..StatusAnswer::default() }
    }

    async fn hits(&self, _: Option<&str>) -> Vec<RuleHits> {
        Vec::new()
    }

    async fn trace(&self, _: FlowQuestion) -> Result<TraceAnswer, String> {
        Err("nothing is compiled".into())
    }

    async fn vtep(&self, switch: &Name, held: u64, _: Duration) -> Option<VtepAnswer> {
        self.read(|view| {
            let found = bulkhead_policy::vtep::forwarding(view.state, switch)?;
            let told = VtepForwarding { revision: view.revision, vtep: found.vtep, networks: Vec::new() };
            Some(VtepAnswer { forwarding: (held != view.revision).then(|| told.into()) })
        })
    }

    fn vtep_report(&self, switch: &Name, _: VtepReport) -> bool {
        self.read(|view| bulkhead_policy::vtep::forwarding(view.state, switch).is_some())
    }

    async fn topology(&self) -> TopologyAnswer {
        TopologyAnswer { revision: self.read(|view| view.revision), ..TopologyAnswer::default() }
    }

    async fn ports(&self, switch: String) -> Option<PortsAnswer> {
        let known = self.read(|view| view.state.switches.contains_key(switch.as_str()));
        known.then(|| PortsAnswer { switch, ..PortsAnswer::default() })
    }

    async fn path(&self, question: PathQuestion) -> Result<PathAnswer, String> {
        match question.from == question.to {
            true => Ok(PathAnswer { found: true, ..PathAnswer::default() }),
            false => Err("there is no fabric".into()),
        }
    }

    async fn metrics(&self) -> String {
        "# EOF\n".into()
    }

    /// A token is the grant that it gives; more come after `+`.
    fn identify(&self, bearer: Option<&str>, _: Option<&Subject>) -> Result<Caller, Stranger> {
        let known = if bearer.is_none() { Known::Open } else { Known::Token };
        if bearer.is_none() && self.0.lock().unwrap().closed {
            return Err(Stranger::Nobody);
        }
        let grants: Result<Vec<Grant>, _> = bearer.unwrap_or("admin").split('+').map(str::parse).collect();
        let grants = grants.map_err(|_| Stranger::Unknown)?;
        Ok(Caller { principal: Principal { name: "somebody".into(), grants }, known })
    }

    fn tokens(&self) -> TokenList {
        TokenList { required: self.0.lock().unwrap().closed, items: Vec::new() }
    }

    fn create_token(&self, question: TokenQuestion, by: &str, _: Origin) -> Result<TokenAnswer, TokenError> {
        match question.name.as_str() {
            "taken" => Err(TokenError::Taken(question.name)),
            _ => {
                let line = TokenLine { name: question.name, author: by.into(), ..TokenLine::default() };
                Ok(TokenAnswer { token: "secret".into(), line })
            }
        }
    }

    fn revoke_token(&self, name: &str, _: Origin) -> Result<(), TokenError> {
        if name == "taken" { Ok(()) } else { Err(TokenError::Missing(name.into())) }
    }

    fn refused(&self, origin: Origin, why: String) {
        let told = format!("{} {} {}: {why}", origin.known, origin.user, origin.action);
        self.0.lock().unwrap().refused.push(told);
    }

    fn rejected(&self, origin: Origin, why: String) {
        let about = if origin.about.is_empty() { String::new() } else { format!(" {}", origin.about.join(" ")) };
        let more = if origin.unnamed > 0 { format!(" and {} more", origin.unnamed) } else { String::new() };
        let told = format!("{} {}{about}{more}: {why}", origin.user, origin.action);
        self.0.lock().unwrap().rejected.push(told);
    }

    fn audit(&self, after: u64, limit: usize) -> Result<AuditAnswer, PastError> {
        Ok(AuditAnswer { oldest: after, records: vec![limit.to_string()], ..AuditAnswer::default() })
    }

    fn ready(&self) -> bool {
        !self.0.lock().unwrap().compiling
    }
}

/// The documents of the three-tier example.
pub fn shop() -> String {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/three-tier");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    files.iter().map(|f| std::fs::read_to_string(f).unwrap()).collect::<Vec<_>>().join("---\n")
}
