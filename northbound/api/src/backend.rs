//! What the API needs from the controller.
//!
//! The API turns documents into [`Edit`]s and answers into JSON; everything that has to do with
//! revisions, switches and entries is behind [`Backend`].

use bulkhead_access::Principal;
use bulkhead_policy::{Change, Diagnostic, Key, Resource, State};
use bulkhead_tls::Subject;
use bulkhead_topology::Name;
use bulkhead_types::{
    AuditAnswer, ChangeKind, EntryCounts, FlowQuestion, PathAnswer, PathQuestion, PortsAnswer, Realization,
    RestoreAnswer, RuleHits, StatusAnswer, TokenAnswer, TokenList, TokenQuestion, TopologyAnswer, TraceAnswer,
    VtepAnswer, VtepReport,
};
use std::{collections::BTreeMap, fs::File, future::Future, io, sync::Arc, time::Duration};
use tokio::sync::watch;

/// One resource's change, as one client asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What is to change.
    pub change: Change,
    /// The resource as canonical JSON, byte-stable, without `resourceVersion`; this is what to store and
    /// to load again (`bulkhead_types::load`). `None` exactly where `change.value` is `None`.
    pub document: Option<Arc<str>>,
    /// The `resourceVersion` that the client has seen: the change is refused as
    /// [`ApplyError::Conflict`] if the resource's is another one now. 0 means that the resource must not
    /// exist. `None` is no condition.
    pub expected: Option<u64>,
}

/// How a change is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// Check everything, change nothing.
    pub dry_run: bool,
    /// Who asks, for the history.
    pub author: String,
    /// The same, for the audit log.
    pub origin: Origin,
    /// The revision that must be the newest one: the change is refused as [`ApplyError::Moved`] if it is not. `None` is
    /// no condition.
    pub newest: Option<u64>,
}

/// An accepted change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The revision in force afterwards: a new one if anything changed, the old one if nothing did.
    /// Of a dry run: the revision it was held against.
    pub revision: u64,
    /// What happened to each resource of the change.
    pub changes: Vec<(Key, ChangeKind)>,
    /// Warnings.
    pub diagnostics: Vec<Diagnostic>,
    /// Of a dry run: entries by switch, if the backend has compiled it.
    pub entries: Option<BTreeMap<String, EntryCounts>>,
}

/// Why a change was not accepted. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It is wrong: `State::check` found errors (warnings may be among them).
    #[error("the change is refused: {} findings", .0.len())]
    Rejected(Vec<Diagnostic>),
    /// A resource has changed since the client read it.
    #[error("{}", conflict(.key, *.expected, *.actual))]
    Conflict {
        /// The resource.
        key: Key,
        /// What the client expected; 0 is "does not exist".
        expected: u64,
        /// What it is; 0 is "does not exist".
        actual: u64,
    },
    /// There is a newer revision than the client has seen.
    #[error("revision {actual} is the newest by now, not {expected} any more")]
    Moved {
        /// What the client expected.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// It would not fit: predicted entries or identifiers exceed a limit. The text has the numbers.
    #[error("{0}")]
    TooLarge(String),
    /// It cannot be stored or the controller is not ready; trying again later may help.
    #[error("{0}")]
    Unavailable(String),
}

fn conflict(key: &Key, expected: u64, actual: u64) -> String {
    match (expected, actual) {
        (0, _) => format!("{key} exists already"),
        (_, 0) => format!("{key} does not exist any more"),
        _ => format!("{key} has changed: it is at resourceVersion {actual}, not {expected} any more"),
    }
}

/// Who made a revision, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Its number.
    pub revision: u64,
    /// Who made it.
    pub author: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time: u64,
    /// What it did to which resources.
    pub changes: Vec<(Key, ChangeKind)>,
}

/// Some revisions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The newest revision.
    pub newest: u64,
    /// The oldest one whose state is kept.
    pub oldest: u64,
    /// Revisions, newest first.
    pub revisions: Vec<Noted>,
}

/// A resource that differs between two revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub key: Key,
    /// At the first one.
    pub from: Option<Resource>,
    /// At the second one.
    pub to: Option<Resource>,
    /// The revisions that had written it last, at the first one and at the second; 0 where it was not there.
    pub versions: (u64, u64),
}

/// Why an earlier revision cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PastError {
    /// It is not kept, or never was there, or cannot be read any more.
    #[error("{0}")]
    NotKept(String),
    /// What is stored cannot be read.
    #[error("{0}")]
    Failed(String),
}

/// Why a backup cannot be restored. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It is damaged, or not understood.
    #[error("{0}")]
    Damaged(String),
    /// There is something already.
    #[error("{0}")]
    NotEmpty(String),
    /// It cannot be stored.
    #[error("{0}")]
    Failed(String),
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who he is, and what he may do.
    pub principal: Principal,
    /// How that is known.
    pub known: Known,
}

/// How it is known who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is not: nobody is asked.
    Open,
    /// He may read what the controller has written for whoever administers its machine.
    Local,
    /// By a token.
    Token,
    /// By a certificate.
    Certificate,
}

/// Whose request something is, and how it came: what the audit log has of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// Who; empty if nobody is known.
    pub user: String,
    /// How that is known, in a word.
    pub known: &'static str,
    /// Who the client says that its user is, where nothing proves it.
    pub says: String,
    /// The client's address.
    pub from: String,
    /// Method and path.
    pub action: String,
    /// Keys of what it is to change, if that much of it was understood: the first few.
    pub about: Vec<String>,
    /// How many more.
    pub unnamed: u64,
}

impl Known {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Local => "local",
            Self::Token => "token",
            Self::Certificate => "certificate",
        }
    }

    /// Whether it says no more than that he may do everything, so that what a client says of its user is the best that
    /// is known.
    pub fn is_nobody(self) -> bool {
        matches!(self, Self::Open | Self::Local)
    }
}

/// Why nobody is known by what a request shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// It shows nothing.
    #[error(
        "say who you are: by a token that an admin made (BULKHEAD_TOKEN, --token-file; `Authorization: Bearer TOKEN`), or \
         by a certificate (--cert, --key)"
    )]
    Nobody,
    /// What it shows is no token, or none any more. Which of them is not told.
    #[error("this token is not known here, or has ended, or was revoked")]
    Unknown,
    /// Its certificate is good, and whose it is has no access, or none any more; or the certificate has run out since the
    /// connection began.
    #[error("this certificate's common name has no grant here, or its time is over")]
    Subject,
}

/// Why a token was not made or revoked. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It makes no sense as it is asked for.
    #[error("{0}")]
    Wrong(String),
    /// Another one has its name.
    #[error("there is a token of the name `{0}`; revoke it, or choose another name")]
    Taken(String),
    /// There is none of this name.
    #[error("there is no token of the name `{0}`")]
    Missing(String),
    /// It cannot be stored.
    #[error("the tokens cannot be stored: {0}")]
    Failed(String),
}

/// What is accepted at one moment: what is read from it belongs together.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The newest accepted state.
    pub state: &'a State,
    /// The revision that accepted it.
    pub revision: u64,
    /// The revision that last changed each resource that exists.
    pub versions: &'a BTreeMap<Key, u64>,
}

impl View<'_> {
    /// The `resourceVersion` that clients see: the revision that last changed a resource; 0 if it does not exist.
    pub fn version(&self, key: &Key) -> u64 {
        self.versions.get(key).copied().unwrap_or(0)
    }
}

/// The controller, as the API sees it. Implementations are handles: cheap to clone, shared by all
/// requests.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Carries out `edits` as one atomic change and answers once it is durable. Keys are unique in
    /// `edits`. Removing a resource that does not exist is [`ChangeKind::Unchanged`].
    fn apply(&self, edits: Vec<Edit>, asked: Asked) -> impl Future<Output = Result<Applied, ApplyError>> + Send;

    /// At most `limit` revisions before `before`. Reads from the disk.
    fn history(&self, before: u64, limit: usize) -> Result<History, PastError>;

    /// What users wrote differently at two revisions, by key: what was found (hosts, adjacencies, learned workloads) is
    /// left out. Reads from the disk.
    fn between(&self, from: u64, to: u64) -> Result<Vec<Difference>, PastError>;

    /// The same with learned workloads: whatever is listed and differs. Reads from the disk.
    fn changes(&self, from: u64, to: u64) -> Result<Vec<Difference>, PastError>;

    /// The newest accepted revision, as it changes. Once it says so of a revision, [`Backend::read`] and
    /// [`Backend::changes`] know it.
    fn newest(&self) -> watch::Receiver<u64>;

    /// Writes a backup of one moment (`bulkhead_types::backup`) part by part, until `out` says that it takes no more.
    /// Reads from the disk.
    fn backup(&self, origin: Origin, out: &mut dyn FnMut(Vec<u8>) -> bool) -> Result<(), PastError>;

    /// A file for a backup that is to be restored, which nobody else sees.
    fn spool(&self) -> io::Result<File>;

    /// Restores the backup in `file`, if it is whole and understood and nothing was ever accepted. Answers once it is
    /// durable and in force.
    fn restore(&self, file: File, origin: Origin) -> impl Future<Output = Result<RestoreAnswer, RestoreError>> + Send;

    /// Looks at what is accepted now. `look` is short: writers may have to wait for it. Two looks may see two
    /// revisions, so what has to fit together is read in one.
    fn read<R>(&self, look: impl FnOnce(View<'_>) -> R) -> R;

    /// How far `revision` has come; waits up to `wait` for it to be realized. `revision` is not newer than
    /// [`View::revision`].
    fn realization(&self, revision: u64, wait: Duration) -> impl Future<Output = Realization> + Send;

    /// Every switch's state, by name.
    fn status(&self) -> impl Future<Output = StatusAnswer> + Send;

    /// What each rule has matched, policy rules and built-in ones; of one policy only, if one is named.
    fn hits(&self, policy: Option<&str>) -> impl Future<Output = Vec<RuleHits>> + Send;

    /// A packet's way through the compiled stages. The error says what is wrong with the question, or
    /// why it cannot be answered.
    fn trace(&self, question: FlowQuestion) -> impl Future<Output = Result<TraceAnswer, String>> + Send;

    /// What a kernel VTEP has to forward that holds what it was told at revision `held`; waits up to `wait` for it to be
    /// something else. `None` if the switch is none.
    fn vtep(&self, switch: &Name, held: u64, wait: Duration) -> impl Future<Output = Option<VtepAnswer>> + Send;

    /// Takes in what a kernel VTEP tells of itself; whether the switch is one.
    fn vtep_report(&self, switch: &Name, report: VtepReport) -> bool;

    /// Switches and the links between them.
    fn topology(&self) -> impl Future<Output = TopologyAnswer> + Send;

    /// The ports of a switch; `None` if it is not declared.
    fn ports(&self, switch: String) -> impl Future<Output = Option<PortsAnswer>> + Send;

    /// The ways between two. The error says what is wrong with the question, or why it cannot be answered.
    fn path(&self, question: PathQuestion) -> impl Future<Output = Result<PathAnswer, String>> + Send;

    /// Metrics in the Prometheus text format.
    fn metrics(&self) -> impl Future<Output = String> + Send;

    /// Who shows this bearer token, and this certificate, or nothing. A token is what he wants to be known by.
    fn identify(&self, bearer: Option<&str>, subject: Option<&Subject>) -> Result<Caller, Stranger>;

    /// Tokens, without what makes them such.
    fn tokens(&self) -> TokenList;

    /// Makes a token for `by`. Writes to the disk, and is back once it is there.
    fn create_token(&self, question: TokenQuestion, by: &str, origin: Origin) -> Result<TokenAnswer, TokenError>;

    /// Ends a token, from the next request on. Writes to the disk, and is back once it is there.
    fn revoke_token(&self, name: &str, origin: Origin) -> Result<(), TokenError>;

    /// Takes note of a request that was refused because of who made it, and why. It comes back at once.
    fn refused(&self, origin: Origin, why: String);

    /// Takes note of a change that was refused because of what it asks, and why. It comes back at once.
    fn rejected(&self, origin: Origin, why: String);

    /// Audit records after the one with this number, oldest first, and at most so many. Reads from the disk.
    fn audit(&self, after: u64, limit: usize) -> Result<AuditAnswer, PastError>;

    /// Whether changes are taken and switches are spoken to. Before that, while the loaded state is being compiled, it
    /// can be read, and what changes it waits.
    fn ready(&self) -> bool;
}
