//! Who asks, and whether he may.
//!
//! Every address is declared with what it takes to be answered there. What is asked about single resources is judged again
//! where they are known: `documents` for changes, `lists` for looks.

use crate::{
    Backend, Caller, Edit, Origin, Peer, Stranger, View, grpc,
    problem::{Failure, Why},
};
use axum::{
    extract::{RawPathParams, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bulkhead_access::{Judge, Refusal, Role, Verb, may};
use bulkhead_policy::{Key, Resource, State as Snapshot};
use bulkhead_topology::Name;
use bulkhead_types::{MAX_USER, USER_HEADER};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

/// Who a request is from.
#[derive(Debug, Clone)]
pub(crate) struct Who(Arc<Caller>, Arc<Origin>, Arc<Attempt>);

/// What a request is to change, as far as it was read: for the audit log, if it is refused.
#[derive(Debug, Default)]
struct Attempt {
    dry_run: AtomicBool,
    /// The first few, and how many more.
    about: OnceLock<(Vec<String>, u64)>,
}

impl Who {
    /// What the history calls him: who he was told to be, or, where nothing proves it, who the client says that he is.
    pub(crate) fn author(&self) -> String {
        if !self.0.known.is_nobody() {
            return self.0.principal.name.clone();
        }
        if self.1.says.trim().is_empty() { "api".into() } else { self.1.says.clone() }
    }

    /// The same, for the audit log.
    pub(crate) fn origin(&self) -> Origin {
        Origin::clone(&self.1)
    }

    /// He only wants to know what a change would do.
    pub(crate) fn only_asks(&self) {
        self.2.dry_run.store(true, Ordering::Relaxed);
    }

    /// These are what he wants to change.
    pub(crate) fn tries<'a>(&self, keys: impl ExactSizeIterator<Item = &'a Key>) {
        let unnamed = keys.len().saturating_sub(MAX_ABOUT) as u64;
        self.2.about.get_or_init(|| (keys.take(MAX_ABOUT).map(Key::to_string).collect(), unnamed));
    }

    /// Whether nothing that users write is not his to change.
    pub(crate) fn changes_everything(&self) -> bool {
        self.has_whole(Role::Operator)
    }

    /// Whether nothing is hidden from him.
    pub(crate) fn sees_everything(&self) -> bool {
        self.has_whole(Role::Viewer) || self.0.principal.role() > Some(Role::Viewer)
    }

    fn has_whole(&self, role: Role) -> bool {
        self.0.principal.grants.iter().any(|grant| grant.role() >= role && grant.scope().is_none())
    }

    /// The same, by what is known of him now.
    pub(crate) fn again(&self, caller: Caller) -> Self {
        Self(Arc::new(caller), self.1.clone(), self.2.clone())
    }

    /// Whether he may speak for a switch, as its agent.
    pub(crate) fn speaks_for(&self, switch: &str) -> Result<(), Failure> {
        let switch: Option<Name> = switch.parse().ok();
        let verb = Needs::Vtep.verb(&Method::POST, switch.as_ref()).unwrap_or(Verb::Ask);
        Ok(may(&self.0.principal, verb, None, None, &Snapshot::default())?)
    }

    /// Whether he may see a resource.
    pub(crate) fn sees(&self, state: &Snapshot, resource: &Resource) -> bool {
        may(&self.0.principal, Verb::Read, None, Some(resource), state).is_ok()
    }
}

/// Who a client says that its user is.
fn said(headers: &HeaderMap) -> String {
    let said = headers.get(USER_HEADER).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    said.unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_USER).collect()
}

/// Most resources that the audit log names which a refused request was to change.
const MAX_ABOUT: usize = 4;
/// Most characters of a path that the audit log has.
const MAX_PATH: usize = 200;

/// What is known of a request before its caller is.
fn origin(request: &Request) -> Origin {
    let peer = request.extensions().get::<Peer>();
    let path: String = request.uri().path().chars().take(MAX_PATH).collect();
    Origin {
        user: String::new(),
        known: "nobody",
        says: said(request.headers()),
        from: peer.map(|peer| peer.address.to_string()).unwrap_or_default(),
        action: format!("{} {path}", request.method()),
        about: Vec::new(),
        unnamed: 0,
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", refusal.to_string())
    }
}

/// Whether `who` may make a change; the revision that this holds on.
pub(crate) fn judge(who: &Who, view: View<'_>, edits: &[Edit]) -> Result<u64, Failure> {
    let judge = Judge::new(&who.0.principal, view.state);
    for edit in edits {
        let before = view.state.get(&edit.change.key);
        if before != edit.change.value {
            judge.may(Verb::Change, before.as_ref(), edit.change.value.as_ref())?;
        }
    }
    Ok(view.revision)
}

/// What it takes to be answered at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing.
    Nothing,
    /// To look at resources, or to change them.
    Resources,
    /// To look at resources.
    Look,
    /// To change something.
    Change,
    /// To ask about the whole.
    Ask,
    /// To be the agent of the switch that the address names.
    Vtep,
    /// To be known: which switch one is the agent of is judged where it is named.
    Agent,
    /// To take a backup.
    Backup,
    /// To restore one.
    Restore,
    /// To give access.
    Tokens,
    /// To read the audit log.
    Audit,
}

impl Needs {
    /// For whom it is, in the words of the OpenAPI document.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Nothing => "For everybody.",
            Self::Resources | Self::Look => "For whoever has access; which resources depends on his grants.",
            Self::Change => "For editors, as far as their grants go.",
            Self::Ask => "For viewers of the whole.",
            Self::Vtep | Self::Agent => "For the switch's own agent, and operators.",
            Self::Backup => "For operators.",
            Self::Restore | Self::Tokens | Self::Audit => "For admins.",
        }
    }

    /// Whether it is a change of what the audit log tells changes of.
    fn changes(self, method: &Method) -> bool {
        !method.is_safe() && matches!(self, Self::Resources | Self::Change | Self::Restore | Self::Tokens)
    }

    /// As a verb; `None` is nothing.
    fn verb<'a>(self, method: &Method, switch: Option<&'a Name>) -> Option<Verb<'a>> {
        Some(match self {
            Self::Nothing | Self::Agent => return None,
            Self::Look => Verb::Read,
            Self::Resources if method.is_safe() => Verb::Read,
            Self::Resources | Self::Change => Verb::Change,
            Self::Ask => Verb::Ask,
            Self::Vtep => switch.map_or(Verb::Ask, Verb::Vtep),
            Self::Backup => Verb::Backup,
            Self::Restore => Verb::Restore,
            Self::Tokens => Verb::Tokens,
            Self::Audit => Verb::Audit,
        })
    }
}

/// Lets requests past whose callers are known and may ask what they ask.
pub(crate) async fn pass<B: Backend>(
    State((backend, needs)): State<(B, Needs)>,
    params: RawPathParams,
    mut request: Request,
    next: Next,
) -> Response {
    if needs == Needs::Nothing {
        return next.run(request).await;
    }
    let caller = match caller(&backend, request.headers(), request.extensions().get()) {
        Ok(caller) => caller,
        Err(stranger) => {
            let mut from = origin(&request);
            let peer = request.extensions().get::<Peer>();
            if let Some(name) = peer.and_then(|peer| peer.subject.as_ref()?.name.as_ref()) {
                from.says = format!("{name}, by a certificate");
            }
            backend.refused(from, stranger.to_string());
            let mut answer = Failure::new(StatusCode::UNAUTHORIZED, "stranger", stranger.to_string()).into_response();
            // RFC 9110 §11.6.1: it says how one makes oneself known.
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return answer;
        }
    };
    let mut from = origin(&request);
    (from.user, from.known) = (caller.principal.name.clone(), caller.known.word());
    if !caller.known.is_nobody() {
        from.says.clear();
    }
    let named = params.iter().find(|(key, _)| *key == "name");
    let switch: Option<Name> = named.and_then(|(_, name)| name.parse().ok());
    // No resource is asked about yet, so no state is looked at.
    let may = |verb| may(&caller.principal, verb, None, None, &Snapshot::default());
    if let Some(Err(refusal)) = needs.verb(request.method(), switch.as_ref()).map(may) {
        backend.refused(from, refusal.to_string());
        return Failure::from(refusal).into_response();
    }
    let (from, attempt) = (Arc::new(from), Arc::<Attempt>::default());
    request.extensions_mut().insert(Who(Arc::new(caller), from.clone(), attempt.clone()));
    let changes = needs.changes(request.method());
    let answer = next.run(request).await;
    let origin = || {
        let (about, unnamed) = attempt.about.get().cloned().unwrap_or_default();
        Origin { about, unnamed, ..Origin::clone(&from) }
    };
    if forbidden(&answer) {
        backend.refused(origin(), "his grants do not allow this change".into());
    } else if changes
        && let Some(why) = wrong(&answer)
        && !attempt.dry_run.load(Ordering::Relaxed)
    {
        backend.rejected(origin(), why);
    }
    answer
}

/// Why a request is refused because of what it asks; `None` if it is not.
fn wrong(answer: &Response) -> Option<String> {
    match answer.status() {
        StatusCode::OK => grpc::wrong(answer.headers()),
        status if blames(status.as_u16()) => {
            Some(answer.extensions().get::<Why>().map_or_else(|| status.to_string(), |Why(why)| why.clone()))
        }
        _ => None,
    }
}

/// Whether a status says that a request makes no sense or does not fit; that it came too slowly is no such thing.
pub(crate) fn blames(status: u16) -> bool {
    (400..500).contains(&status) && status != StatusCode::REQUEST_TIMEOUT.as_u16()
}

/// Whether somebody is told that he may not: by the status, or by that of gRPC.
fn forbidden(answer: &Response) -> bool {
    let code = answer.headers().get(tonic::Status::GRPC_STATUS);
    answer.status() == StatusCode::FORBIDDEN
        || code.is_some_and(|code| code.as_bytes() == FORBIDDEN.to_string().as_bytes())
}

/// What gRPC calls it.
const FORBIDDEN: i32 = tonic::Code::PermissionDenied as i32;

/// Who a request is from, by what it shows.
pub(crate) fn caller<B: Backend>(backend: &B, headers: &HeaderMap, peer: Option<&Peer>) -> Result<Caller, Stranger> {
    let subject = peer.and_then(|peer| peer.subject.as_deref());
    bearer(headers).and_then(|bearer| backend.identify(bearer, subject))
}

/// The token that a request shows (RFC 6750 §2.1). A header that is not understood is no token, rather than none.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Stranger> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Stranger::Unknown)?;
            if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(Stranger::Unknown) }
        }
        _ => Err(Stranger::Unknown),
    }
}
