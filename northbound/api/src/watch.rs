//! `GET /v1/watch`: changes as they come, as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use crate::{
    Backend, Difference, Params, Peer,
    connections::Ending,
    documents::{kind_of, shown},
    feed::{Batch, Feed},
    gate::{Who, caller},
    places::Place,
    problem::Failure,
    work::Desk,
};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use bulkhead_policy::{Kind, Resource, State as Snapshot};
use bulkhead_types::{
    ChangeKind, Problem, Selector, WATCH_CHANGE, WATCH_END, WatchEvent, parse_selector,
    v1::{KINDS, kind_plural},
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
struct Filter {
    kinds: BTreeSet<Kind>,
    selector: Selector,
}

impl Filter {
    fn of(query: &WatchQuery) -> Result<Self, Failure> {
        let kinds: BTreeSet<Kind> = match &query.kinds {
            None => KINDS.into(),
            Some(text) => text.split(',').map(|kind| kind_of(kind.trim())).collect::<Result<_, _>>().map_err(|_| {
                Failure::bad(format!("`kinds` is a list of some of {}", KINDS.map(kind_plural).join(",")))
            })?,
        };
        let selector = parse_selector(query.label_selector.as_deref().unwrap_or_default());
        let selector = selector.map_err(|e| Failure::bad(e.to_string()))?;
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

/// Somebody who watches.
struct Watcher<B> {
    backend: B,
    feed: Feed,
    desk: Desk,
    filter: Filter,
    who: Who,
    headers: HeaderMap,
    peer: Option<Peer>,
    /// The revision up to which he has been told.
    at: u64,
    frames: mpsc::Sender<Bytes>,
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

#[allow(clippy::too_many_arguments, reason = "each is a part of the request")]
pub(crate) async fn watch<B: Backend>(
    State(backend): State<B>,
    Extension(desk): Extension<Desk>,
    Extension(feed): Extension<Feed>,
    Extension(who): Extension<Who>,
    place: Option<Extension<Arc<Place>>>,
    peer: Option<Extension<Peer>>,
    ending: Option<Extension<Ending>>,
    Params(query): Params<WatchQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let filter = Filter::of(&query)?;
    let changes = backend.newest();
    let newest = backend.read(|view| view.revision);
    let at = last_event(&headers)?.or(query.since).unwrap_or(newest);
    if at > newest {
        let detail = format!(
            "there is no revision {at} yet: {newest} is the newest; this is another controller, or an older one"
        );
        return Err(Failure::too_old(detail));
    }
    if at < newest {
        // So that a revision that is too old is said by the status.
        feed.after(&backend, &desk, at).await?;
    }
    let (frames, waiting) = mpsc::channel(WAITING);
    // There is room for this whatever the client takes.
    let last = frames.clone().try_reserve_owned().map_err(|_| Failure::bad("the client has gone"))?;
    let peer = peer.map(|Extension(peer)| peer);
    let mut watcher = Watcher { backend, feed, desk, filter, who, headers, peer, at, frames };
    tokio::spawn(async move {
        if let Err(End::Said(failure)) = watcher.run(changes, ending.map(|Extension(ending)| ending)).await {
            last.send(frame(WATCH_END, &Problem::from(failure)).into());
        }
    });
    let body = Body::new(Stream { waiting, place: place.map(|Extension(place)| place) });
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

impl<B: Backend> Watcher<B> {
    async fn run(&mut self, mut changes: watch::Receiver<u64>, ending: Option<Ending>) -> Result<(), End> {
        let mut ending = ending.map(|Ending(ending)| ending);
        let frames = self.frames.clone();
        let told = async {
            self.alive().await?;
            loop {
                while *changes.borrow_and_update() > self.at {
                    self.tell().await?;
                }
                tokio::select! {
                    changed = changes.changed() => changed.map_err(|_| stopping())?,
                    () = sleep(KEEPALIVE) => self.alive().await?,
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
        let caller = caller(&self.backend, &self.headers, self.peer.as_ref());
        let caller = caller.map_err(|e| Failure::new(StatusCode::UNAUTHORIZED, "stranger", e.to_string()))?;
        self.who = self.who.again(caller);
        Ok(())
    }

    /// Says where he is, and that he is heard.
    async fn alive(&self) -> Result<(), End> {
        self.send(format!(": revision {0}\nid: {0}\n\n", self.at)).await
    }

    /// Tells the next batch.
    async fn tell(&mut self) -> Result<(), End> {
        let batch = self.feed.after(&self.backend, &self.desk, self.at).await?;
        let until = Instant::now() + BATCH_TIME;
        let mut events = Events::default();
        for some in batch.differences.chunks(LOOK) {
            for event in self.events(&batch, some) {
                if let Some(frame) = events.push(frame(WATCH_CHANGE, &event)) {
                    if Instant::now() > until {
                        return Err(slow().into());
                    }
                    self.send(frame).await?;
                }
            }
        }
        self.at = batch.to;
        match events.end(self.at) {
            Some(frame) => self.send(frame).await,
            None => Ok(()),
        }
    }

    /// What of some changes he is told.
    fn events(&self, batch: &Batch, some: &[Difference]) -> Vec<WatchEvent> {
        let wanted = some.iter().filter(|difference| self.filter.kinds.contains(&difference.key.kind));
        let told = |sees: &dyn Fn(&Resource) -> bool| {
            let shown_of = |resource: &Option<Resource>| {
                resource.as_ref().is_some_and(|resource| self.filter.wants(resource) && sees(resource))
            };
            wanted.filter_map(|d| event(d, (shown_of(&d.from), shown_of(&d.to)), batch.to)).collect()
        };
        if self.who.sees_everything() {
            return told(&|_| true);
        }
        self.backend.read(|view| {
            let state: &Snapshot = view.state;
            told(&|resource| self.who.sees(state, resource))
        })
    }

    async fn send(&self, frame: String) -> Result<(), End> {
        match timeout(FRAME_TIME, self.frames.send(frame.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(slow().into()),
        }
    }
}

/// A change, for somebody who saw the resource before, and sees it now, or not.
fn event(difference: &Difference, seen: (bool, bool), revision: u64) -> Option<WatchEvent> {
    let (from, to) = (difference.from.as_ref().filter(|_| seen.0), difference.to.as_ref().filter(|_| seen.1));
    let (change, resource, version) = match (from, to) {
        (None, None) => return None,
        (None, Some(to)) => (ChangeKind::Created, to, difference.versions.1),
        (Some(_), Some(to)) => (ChangeKind::Updated, to, difference.versions.1),
        (Some(from), None) => (ChangeKind::Deleted, from, difference.versions.0),
    };
    let line = crate::documents::line((difference.key.clone(), change));
    // Plain structs with text keys cannot fail to serialize.
    let resource = serde_json::to_value(shown(resource, version)).unwrap_or_default();
    Some(WatchEvent { revision, line, resource })
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

impl Events {
    /// Adds an event; a frame of those before it, if they are enough for one.
    fn push(&mut self, event: String) -> Option<String> {
        self.text.push_str(&std::mem::replace(&mut self.last, event));
        (self.text.len() >= FRAME).then(|| std::mem::take(&mut self.text))
    }

    /// What is left; `None` if there was nothing.
    fn end(mut self, revision: u64) -> Option<String> {
        if self.last.is_empty() {
            return None;
        }
        self.text.push_str(&format!("id: {revision}\n{}", self.last));
        Some(self.text)
    }
}

/// The stream as a body.
struct Stream {
    waiting: mpsc::Receiver<Bytes>,
    place: Option<Arc<Place>>,
}

impl Read for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = self.waiting.poll_recv(cx);
        if let Some(place) = &self.place {
            // With nothing to take, it is the controller that is waited for.
            if polled.is_pending() { place.work() } else { place.rest() }
        }
        polled.map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}
