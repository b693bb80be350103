//! A controller that is nothing but a state.

use bulkhead_api::{Applied, ApplyError, Backend, Edit, View};
use bulkhead_policy::{Change, Key, Severity, State};
use bulkhead_topology::Name;
use bulkhead_types::{
    ChangeKind, FlowQuestion, PathAnswer, PathQuestion, Realization, RuleHits, StatusAnswer, TopologyAnswer,
    TraceAnswer, VtepAnswer, VtepForwarding, VtepReport,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc::SyncSender},
    time::Duration,
};

#[derive(Default)]
pub struct Memory {
    pub state: State,
    pub revision: u64,
    versions: BTreeMap<Key, u64>,
    pub loading: bool,
    /// Somebody else makes a change right after each look.
    pub restless: bool,
    /// Is told of each look, and held up until it has been heard.
    pub looks: Option<SyncSender<()>>,
}

/// A controller without switches.
#[derive(Clone, Default)]
pub struct Fake(pub Arc<Mutex<Memory>>);

impl Backend for Fake {
    async fn apply(&self, edits: Vec<Edit>, dry_run: bool) -> Result<Applied, ApplyError> {
        let mut memory = self.0.lock().unwrap();
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
        if !dry_run {
            memory.state.apply(&changes);
            memory.revision += 1;
            let revision = memory.revision;
            for change in changes {
                match change.value {
                    Some(_) => memory.versions.insert(change.key, revision),
                    None => memory.versions.remove(&change.key),
                };
            }
        }
        Ok(Applied { revision: memory.revision, changes: lines, diagnostics: found, entries: None })
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
            Some(VtepAnswer { forwarding: (held != view.revision).then_some(told) })
        })
    }

    fn vtep_report(&self, switch: &Name, _: VtepReport) -> bool {
        self.read(|view| bulkhead_policy::vtep::forwarding(view.state, switch).is_some())
    }

    async fn topology(&self) -> TopologyAnswer {
        TopologyAnswer { revision: self.read(|view| view.revision), ..TopologyAnswer::default() }
    }

    async fn path(&self, question: PathQuestion) -> Result<PathAnswer, String> {
        match question.from == question.to {
            true => Ok(PathAnswer { found: true, ..PathAnswer::default() }),
            false => Err("there is no fabric".into()),
        }
    }

    fn metrics(&self) -> String {
        "# EOF\n".into()
    }

    fn ready(&self) -> bool {
        !self.0.lock().unwrap().loading
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
