//! Connections, from their beginning to their end.

use crate::{
    Backend, Peer,
    door::{Door, Opened},
    hosts,
    pace::Answer,
    places::{Place, Places},
    router,
};
use axum::{
    body::{HttpBody, to_bytes},
    extract::Request,
    middleware,
    response::Response,
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
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
    let service = TowerToHyperService::new(router(backend).layer(own));
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
                Some((Opened::Plain(stream), peer)) => connection(stream, peer, service, place, evicted, end).await,
                Some((Opened::Tls(stream), peer)) => connection(*stream, peer, service, place, evicted, end).await,
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

/// One connection, to its end.
async fn connection<S>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    service: S,
    place: Place,
    evicted: oneshot::Receiver<()>,
    mut end: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Error = std::convert::Infallible> + Send + Sync + 'static,
    S::Response: Into<Response>,
    S::Future: Send,
{
    let place = Arc::new(place);
    let ending = end.clone();
    let answer = service_fn(|mut request: Request<Incoming>| {
        let place = place.clone();
        if request.body().is_end_stream() {
            place.work();
        }
        request.extensions_mut().insert(place.clone());
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(Ending(ending.clone()));
        let answer = service.call(request);
        async move {
            let answer = answer.await.map(Into::into);
            place.rest();
            match answer {
                Ok(answer) => Ok(held(answer, place).await),
                Err(never) => Err::<Response, _>(never),
            }
        }
    });
    let stream = TokioIo::new(stream);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES);
    let mut connection = std::pin::pin!(builder.serve_connection(stream, answer));
    let over = tokio::select! {
        over = connection.as_mut() => over,
        _ = evicted => return debug!("its place was needed"),
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
async fn held(answer: Response, place: Arc<Place>) -> Response {
    if answer.body().size_hint().exact().is_none() {
        return answer;
    }
    let (parts, body) = answer.into_parts();
    // What is in memory does not fail to be read.
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    Response::from_parts(parts, Answer::body(bytes, place))
}
