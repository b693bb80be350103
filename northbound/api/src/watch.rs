//! `GET /v1/watch`: changes as they come, as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use crate::{
    Backend, Difference, Params, Peer,
    connections::Ending,
    documents::shown,
    feed::Batch,
    gate::{Who, caller},
    places::Turn,
    problem::Failure,
    service::Service,
};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use bulkhead_policy::{Key, Kind, Resource, State as Snapshot};
use bulkhead_types::{
    ChangeKind, Problem, Selector, WATCH_CHANGE, WATCH_END, WatchEvent, parse_selector,
    v1::{KINDS, kind_from, kind_plural},
};
use hyper::body::{Body as Read, Frame};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use utoipa::IntoParams;

/// How often something is said when there is nothing to say: below the patience of what is in between.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Longest that a client may take for one frame, below the patience of its connection, so that it can still be told why
/// there is no more; and for one batch, whose memory it holds.
const FRAME_TIME: Duration = Duration::from_secs(20);
const BATCH_TIME: Duration = Duration::from_secs(60);
/// Bytes of events after which they are handed on.
const FRAME: usize = 32 << 10;
/// Most changes that are judged in one look.
const LOOK: usize = 256;
/// Frames that a client has not taken yet: one of changes, and room for the last word.
const WAITING: usize = 2;
/// The header by which a browser says where it was (same page, §9.2.4).
const LAST_EVENT_ID: &str = "last-event-id";

/// The query of a watch.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WatchQuery {
    /// The revision after which changes are told; the newest if left out. `Last-Event-ID` is stronger.
    since: Option<u64>,
    /// Kinds to hear of, as `workloads,zones`; all of them if left out.
    kinds: Option<String>,
    /// Labels that workloads have to have; only with `kinds=workloads`.
    label_selector: Option<String>,
}

/// What a client wants to hear of.
pub(crate) struct Filter {
    kinds: BTreeSet<Kind>,
    selector: Selector,
}

impl Filter {
    /// Some kinds, or all if none is named; by plural, or as in documents.
    pub(crate) fn of<'a>(kinds: impl Iterator<Item = &'a str>, selector: &str) -> Result<Self, Failure> {
        let kinds: Option<BTreeSet<Kind>> = kinds.map(|kind| kind_from(kind.trim())).collect();
        let known = || Failure::bad(format!("kinds are some of {}", KINDS.map(kind_plural).join(",")));
        let mut kinds = kinds.ok_or_else(known)?;
        if kinds.is_empty() {
            kinds = KINDS.into();
        }
        let selector = parse_selector(selector).map_err(|e| Failure::bad(e.to_string()))?;
        if !selector.requirements().is_empty() && kinds != BTreeSet::from([Kind::Workload]) {
            return Err(Failure::bad("only workloads have labels to select by: say kinds=workloads"));
        }
        Ok(Self { kinds, selector })
    }

    fn wants(&self, resource: &Resource) -> bool {
        match resource {
            Resource::Workload(workload) => self.selector.matches(&workload.labels),
            _ => true,
        }
    }
}

/// In which form changes are told.
pub(crate) trait Form: Default + Send {
    /// What is handed on at once.
    type Frame: Send + 'static;
    /// That everything up to a revision was told, and somebody is there.
    fn alive(at: u64) -> Self::Frame;
    /// Adds a change; a frame of those before, if they are enough for one.
    fn push(&mut self, change: Told<'_>) -> Option<Self::Frame>;
    /// What is left, and that this is all up to a revision; `None` if there was nothing.
    fn end(self, at: u64) -> Option<Self::Frame>;
    /// Why there is no more.
    fn last(failure: Failure) -> Self::Frame;
}

/// One resource that changed, as somebody is told of it.
pub(crate) struct Told<'a> {
    /// The revision that it is told of.
    pub(crate) revision: u64,
    pub(crate) key: &'a Key,
    pub(crate) change: ChangeKind,
    pub(crate) resource: &'a Resource,
    /// The revision that last changed it.
    pub(crate) version: u64,
}

/// The request of somebody who watches.
pub(crate) struct Listener {
    pub(crate) who: Who,
    /// To look again who it is.
    pub(crate) headers: HeaderMap,
    pub(crate) peer: Option<Peer>,
    pub(crate) ending: Option<Ending>,
}

/// Somebody who watches.
struct Watcher<B, F: Form> {
    service: Service<B>,
    filter: Filter,
    listener: Listener,
    /// The revision up to which he has been told.
    at: u64,
    frames: mpsc::Sender<F::Frame>,
}

/// Why a stream ends.
enum End {
    /// The client has gone.
    Gone,
    /// It is told why.
    Said(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Said(failure)
    }
}

impl<B: Backend> Service<B> {
    /// Changes after `since`, or from now on.
    pub(crate) async fn watch<F: Form + 'static>(
        &self,
        listener: Listener,
        filter: Filter,
        since: Option<u64>,
    ) -> Result<mpsc::Receiver<F::Frame>, Failure> {
        let changes = self.backend.newest();
        let newest = self.backend.read(|view| view.revision);
        let at = since.unwrap_or(newest);
        if at > newest {
            let detail = format!(
                "there is no revision {at} yet: {newest} is the newest; this is another controller, or an older one"
            );
            return Err(Failure::too_old(detail));
        }
        if at < newest {
            // So that a revision that is too old is said by the status.
            self.feed.after(&self.backend, &self.desk, at).await?;
        }
        let (frames, waiting) = mpsc::channel(WAITING);
        // There is room for this whatever the client takes.
        let last = frames.clone().try_reserve_owned().map_err(|_| Failure::bad("the client has gone"))?;
        let mut watcher = Watcher::<B, F> { service: self.clone(), filter, listener, at, frames };
        tokio::spawn(async move {
            if let Err(End::Said(failure)) = watcher.run(changes).await {
                last.send(F::last(failure));
            }
        });
        Ok(waiting)
    }
}

#[allow(clippy::too_many_arguments, reason = "each is a part of the request")]
pub(crate) async fn watch<B: Backend>(
    State(service): State<Service<B>>,
    Extension(who): Extension<Who>,
    turn: Option<Extension<Arc<Turn>>>,
    peer: Option<Extension<Peer>>,
    ending: Option<Extension<Ending>>,
    Params(query): Params<WatchQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let kinds = query.kinds.iter().flat_map(|kinds| kinds.split(','));
    let filter = Filter::of(kinds, query.label_selector.as_deref().unwrap_or_default())?;
    let since = last_event(&headers)?.or(query.since);
    let (peer, ending) = (peer.map(|Extension(peer)| peer), ending.map(|Extension(ending)| ending));
    let waiting = service.watch::<Events>(Listener { who, headers, peer, ending }, filter, since).await?;
    let body = Body::new(Stream { waiting, turn: turn.map(|Extension(turn)| turn) });
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn last_event(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(id) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let id = id.to_str().ok().and_then(|id| id.parse().ok());
    id.map(Some).ok_or_else(|| Failure::bad("`Last-Event-ID` is no id of an event that was sent here"))
}

/// An event. JSON has no line breaks.
fn frame(event: &str, data: &impl serde::Serialize) -> String {
    format!("event: {event}\ndata: {}\n\n", serde_json::to_string(data).unwrap_or_default())
}

impl<B: Backend, F: Form> Watcher<B, F> {
    async fn run(&mut self, mut changes: watch::Receiver<u64>) -> Result<(), End> {
        let mut ending = self.listener.ending.take().map(|Ending(ending)| ending);
        let frames = self.frames.clone();
        let told = async {
            self.send(F::alive(self.at)).await?;
            loop {
                while *changes.borrow_and_update() > self.at {
                    self.tell().await?;
                }
                tokio::select! {
                    changed = changes.changed() => changed.map_err(|_| stopping())?,
                    () = sleep(KEEPALIVE) => self.send(F::alive(self.at)).await?,
                }
                self.still_known()?;
            }
        };
        tokio::select! {
            ended = told => ended,
            () = frames.closed() => Err(End::Gone),
            () = ended(ending.as_mut()) => Err(stopping().into()),
        }
    }

    /// Whoever has lost his access hears nothing more; whoever has another one hears what that allows.
    fn still_known(&mut self) -> Result<(), Failure> {
        let caller = caller(&self.service.backend, &self.listener.headers, self.listener.peer.as_ref());
        let caller = caller.map_err(|e| Failure::new(StatusCode::UNAUTHORIZED, "stranger", e.to_string()))?;
        self.listener.who = self.listener.who.again(caller);
        Ok(())
    }

    /// Tells the next batch.
    async fn tell(&mut self) -> Result<(), End> {
        let batch = self.service.feed.after(&self.service.backend, &self.service.desk, self.at).await?;
        let until = Instant::now() + BATCH_TIME;
        let mut form = F::default();
        for some in batch.differences.chunks(LOOK) {
            for told in self.told(&batch, some) {
                if let Some(frame) = form.push(told) {
                    if Instant::now() > until {
                        return Err(slow().into());
                    }
                    self.send(frame).await?;
                }
            }
        }
        self.at = batch.to;
        match form.end(self.at) {
            Some(frame) => self.send(frame).await,
            None => Ok(()),
        }
    }

    /// What of some changes he is told.
    fn told<'a>(&self, batch: &Batch, some: &'a [Difference]) -> Vec<Told<'a>> {
        let wanted = some.iter().filter(|difference| self.filter.kinds.contains(&difference.key.kind));
        let told = |sees: &dyn Fn(&Resource) -> bool| {
            let shown_of = |resource: &Option<Resource>| {
                resource.as_ref().is_some_and(|resource| self.filter.wants(resource) && sees(resource))
            };
            wanted.filter_map(|d| seen(d, (shown_of(&d.from), shown_of(&d.to)), batch.to)).collect()
        };
        let who = &self.listener.who;
        if who.sees_everything() {
            return told(&|_| true);
        }
        self.service.backend.read(|view| {
            let state: &Snapshot = view.state;
            told(&|resource| who.sees(state, resource))
        })
    }

    async fn send(&self, frame: F::Frame) -> Result<(), End> {
        match timeout(FRAME_TIME, self.frames.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(slow().into()),
        }
    }
}

/// A change, for somebody who saw the resource before, and sees it now, or not.
fn seen(difference: &Difference, seen: (bool, bool), revision: u64) -> Option<Told<'_>> {
    let (from, to) = (difference.from.as_ref().filter(|_| seen.0), difference.to.as_ref().filter(|_| seen.1));
    let (change, resource, version) = match (from, to) {
        (None, None) => return None,
        (None, Some(to)) => (ChangeKind::Created, to, difference.versions.1),
        (Some(_), Some(to)) => (ChangeKind::Updated, to, difference.versions.1),
        (Some(from), None) => (ChangeKind::Deleted, from, difference.versions.0),
    };
    Some(Told { revision, key: &difference.key, change, resource, version })
}

impl Told<'_> {
    fn event(&self) -> WatchEvent {
        let line = crate::documents::line((self.key.clone(), self.change));
        // Plain structs with text keys cannot fail to serialize.
        let resource = serde_json::to_value(shown(self.resource, self.version)).unwrap_or_default();
        WatchEvent { revision: self.revision, line, resource }
    }
}

fn slow() -> Failure {
    let detail = "you take too long over what you are sent; go on from the last id";
    Failure::new(StatusCode::REQUEST_TIMEOUT, "timeout", detail)
}

fn stopping() -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the controller is stopping")
}

/// Once the server is being stopped.
async fn ended(ending: Option<&mut watch::Receiver<bool>>) {
    match ending {
        // Its sender has gone: the same.
        Some(ending) => _ = ending.wait_for(|ending| *ending).await,
        None => std::future::pending().await,
    }
}

/// Events of one batch. Only the last has an id: who is cut off before it is told the whole batch again.
#[derive(Default)]
struct Events {
    text: String,
    last: String,
}

impl Form for Events {
    type Frame = Bytes;

    fn alive(at: u64) -> Bytes {
        format!(": revision {at}\nid: {at}\n\n").into()
    }

    fn push(&mut self, change: Told<'_>) -> Option<Bytes> {
        let event = frame(WATCH_CHANGE, &change.event());
        self.text.push_str(&std::mem::replace(&mut self.last, event));
        (self.text.len() >= FRAME).then(|| std::mem::take(&mut self.text).into())
    }

    fn end(mut self, at: u64) -> Option<Bytes> {
        if self.last.is_empty() {
            return None;
        }
        self.text.push_str(&format!("id: {at}\n{}", self.last));
        Some(self.text.into())
    }

    fn last(failure: Failure) -> Bytes {
        frame(WATCH_END, &Problem::from(failure)).into()
    }
}

/// The stream as a body.
struct Stream {
    waiting: mpsc::Receiver<Bytes>,
    turn: Option<Arc<Turn>>,
}

impl Read for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = self.waiting.poll_recv(cx);
        if let Some(turn) = &self.turn {
            // With nothing to take, it is the controller that is waited for.
            if polled.is_pending() { turn.work() } else { turn.rest() }
        }
        polled.map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}
