//! Connections, from their beginning to their end.

use crate::{
    Backend, Peer,
    door::{Door, Opened},
    frames::{Allowance, Counted},
    grpc, hosts,
    pace::Answer,
    places::{Place, Places, Turn},
    router,
    stalls::Stalls,
};
use axum::{
    body::{HttpBody, to_bytes},
    extract::Request,
    middleware,
    response::Response,
};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
    service::TowerToHyperService,
};
use std::{future::Future, io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    time::sleep,
};
use tracing::debug;

/// Longest until a request's head is there, counted from the connection's beginning or from the last answer: a client
/// that sends it byte by byte, or nothing, is not kept.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Most bytes of a head, or of a body, that wait to be looked at.
const HEAD_BYTES: usize = 64 << 10;

/// Most requests of a connection at once, over HTTP/2: a client's watches, and what it asks besides. Those that it takes
/// back count until the controller has heard of it.
const MAX_STREAMS: u32 = 64;
/// Most requests that a client takes back before they were looked at (CVE-2023-44487); then its connection ends.
const MAX_RESET: usize = 32;
/// Most streams that are ended for what is wrong with them (CVE-2025-8671); then the connection ends.
const MAX_FAULTS: usize = 64;
/// Most bytes of a head, and of what is remembered of earlier ones to shorten the next (RFC 7541 §4.2).
const HEAD_LIST: u32 = 16 << 10;
const HEAD_TABLE: u32 = 4 << 10;
/// Most bytes of bodies that are on their way to a request, and to all requests of a connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Largest frame that is taken: the smallest limit that there is (RFC 9113 §6.5.2).
const MAX_FRAME: u32 = 16 << 10;
/// Most bytes of an answer that are handed on before its client takes them.
const SEND_BUFFER: usize = 64 << 10;
/// How often it is asked whether a client is still there, and how long until it has to say so.
const PING_TIME: Duration = Duration::from_secs(30);
const PONG_TIME: Duration = Duration::from_secs(20);

/// Pause after a failed accept: the process is out of descriptors, and trying on would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API on `listener`, behind `door`, until `shutdown` is done and the requests under way are answered.
pub async fn serve<B: Backend>(
    listener: TcpListener,
    door: Door,
    backend: B,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let local = listener.local_addr()?;
    let own = middleware::from_fn(move |request, next| hosts::own(local, request, next));
    let service = TowerToHyperService::new(router(backend).layer(own).layer(middleware::from_fn(grpc::spoken)));
    let places = Places::default();
    let (ending, end) = watch::channel(false);
    // Held by every connection's task: it is closed once the last one has ended.
    let (alive, mut gone) = mpsc::channel::<()>(1);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, address) = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    debug!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (place, mut evicted) = places.take();
        let (door, service, mut end, alive) = (door.clone(), service.clone(), end.clone(), alive.clone());
        tokio::spawn(async move {
            // Answers are small and waited for.
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "no TCP_NODELAY");
            }
            let opened = tokio::select! {
                opened = door.open(stream, address) => opened,
                _ = &mut evicted => None,
                _ = end.changed() => None,
            };
            match opened {
                None => {}
                Some((Opened::Plain(stream, version), peer)) => {
                    Connection { peer, version, place: Arc::new(place), evicted, end }.run(stream, service).await;
                }
                Some((Opened::Tls(stream, version), peer)) => {
                    Connection { peer, version, place: Arc::new(place), evicted, end }.run(*stream, service).await;
                }
            }
            drop(alive);
        });
    }
    drop((listener, alive));
    // No connection is left to hear it.
    let _ = ending.send(true);
    let _ = gone.recv().await;
    Ok(())
}

/// Whether the server is being stopped: answers that go on for ever end then.
#[derive(Clone)]
pub(crate) struct Ending(pub(crate) watch::Receiver<bool>);

/// Which HTTP a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// HTTP/1.1 (RFC 9112).
    One,
    /// HTTP/2 (RFC 9113).
    Two,
}

/// A connection that has begun.
struct Connection {
    peer: Peer,
    version: Version,
    place: Arc<Place>,
    evicted: oneshot::Receiver<()>,
    end: watch::Receiver<bool>,
}

impl Connection {
    /// Answers requests until its end.
    async fn run<S>(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, service: S)
    where
        S: Service<Request<Incoming>, Error = std::convert::Infallible> + Send + Sync + 'static,
        S::Response: Into<Response>,
        S::Future: Send,
    {
        let Self { peer, version, place, evicted, end } = self;
        let (ending, allowance) = (end.clone(), Allowance::default());
        let answered = allowance.clone();
        // Over HTTP/1 a client takes what it reads.
        let stalls = (version == Version::Two).then(Stalls::new);
        let pace = stalls.clone();
        let service = Arc::new(service);
        let answer = service_fn(move |mut request: Request<Incoming>| {
            let turn = Arc::new(place.turn());
            if request.body().is_end_stream() {
                turn.work();
            }
            request.extensions_mut().insert(turn.clone());
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(Ending(ending.clone()));
            let (answer, answered, pace) = (service.call(request), answered.clone(), pace.clone());
            async move {
                let answer = answer.await.map(Into::into);
                turn.rest();
                answered.answered();
                match (answer, pace) {
                    (Ok(answer), Some(pace)) => Ok(pace.paced(answer, turn).await),
                    (Ok(answer), None) => Ok(held(answer, turn).await),
                    (Err(never), _) => Err::<Response, _>(never),
                }
            }
        });
        let waits = async {
            match &stalls {
                Some(stalls) => stalls.stalled().await,
                None => std::future::pending().await,
            }
        };
        match version {
            Version::One => {
                let mut one = http1::Builder::new();
                one.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES);
                over(one.serve_connection(TokioIo::new(stream), answer), evicted, waits, end).await;
            }
            Version::Two => {
                let mut two = http2::Builder::new(TokioExecutor::new());
                two.timer(TokioTimer::new())
                    .max_concurrent_streams(MAX_STREAMS)
                    .max_pending_accept_reset_streams(MAX_RESET)
                    .max_local_error_reset_streams(MAX_FAULTS)
                    .max_header_list_size(HEAD_LIST)
                    .header_table_size(HEAD_TABLE)
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .max_frame_size(MAX_FRAME)
                    .max_send_buf_size(SEND_BUFFER)
                    .keep_alive_interval(PING_TIME)
                    .keep_alive_timeout(PONG_TIME);
                let counted = TokioIo::new(Counted::new(stream, allowance));
                over(two.serve_connection(counted, answer), evicted, waits, end).await;
            }
        }
    }
}

/// Once a connection has ended: by itself, or since its place was needed, or its client `waits` too long, or, when the
/// server is being stopped, after the requests under way are answered.
async fn over<C: GracefulConnection>(
    connection: C,
    evicted: oneshot::Receiver<()>,
    waits: impl Future<Output = ()>,
    mut end: watch::Receiver<bool>,
) where
    C::Error: std::fmt::Display,
{
    let mut connection = std::pin::pin!(connection);
    let over = tokio::select! {
        over = connection.as_mut() => over,
        _ = evicted => return debug!("its place was needed"),
        () = waits => return debug!("it lets its answers wait"),
        _ = end.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = over {
        debug!(%error, "connection over");
    }
}

/// Counts an answer as held for its client, until the client has taken it. Answers are whole: this copies nothing.
async fn held(answer: Response, turn: Arc<Turn>) -> Response {
    if answer.body().size_hint().exact().is_none() {
        return answer;
    }
    let (parts, body) = answer.into_parts();
    // What is in memory does not fail to be read.
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    Response::from_parts(parts, Answer::body(bytes, turn))
}
