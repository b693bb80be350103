//! Connections: how many there are, and which one goes when another comes.
//!
//! A client that connects and says nothing must not keep out one that has something to say. There are places for
//! [`MAX_CONNECTIONS`]; when all are taken, the newcomer gets the place of whoever has kept us waiting longest.

use crate::{Backend, router};
use axum::extract::Request;
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    collections::BTreeMap,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot, watch},
    time::{Instant, Sleep, sleep},
};
use tracing::debug;

/// Most connections at once, so that clients cannot use up the controller's file descriptors, which switches need.
const MAX_CONNECTIONS: usize = 512;
/// Longest until a request's head is there, counted from the connection's beginning or from the last answer: a client
/// that sends it byte by byte, or nothing, is not kept.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Most bytes of a head, or of a body, that wait to be looked at.
const HEAD_BYTES: usize = 64 << 10;
/// Longest that a client may take nothing of its answer.
const STALL_TIME: Duration = Duration::from_secs(30);
/// Pause after a failed accept: the process is out of descriptors, and trying on would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API on `listener` until `shutdown` is done and the requests under way are answered.
pub async fn serve<B: Backend>(
    listener: TcpListener,
    backend: B,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let service = TowerToHyperService::new(router(backend));
    let places = Places::default();
    let (ending, end) = watch::channel(false);
    // Held by every connection's task: it is closed once the last one has ended.
    let (alive, mut gone) = mpsc::channel::<()>(1);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    debug!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (place, evicted) = places.take();
        let (service, end, alive) = (service.clone(), end.clone(), alive.clone());
        tokio::spawn(async move {
            connection(stream, service, place, evicted, end).await;
            drop(alive);
        });
    }
    drop((listener, alive));
    // No connection is left to hear it.
    let _ = ending.send(true);
    let _ = gone.recv().await;
    Ok(())
}

/// One connection, to its end.
async fn connection<S>(
    stream: TcpStream,
    service: S,
    place: Place,
    evicted: oneshot::Receiver<()>,
    mut end: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Error = std::convert::Infallible> + Send + Sync + 'static,
    S::Response: Into<axum::response::Response>,
    S::Future: Send,
{
    // Answers are small and waited for.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "no TCP_NODELAY");
    }
    let place = Arc::new(place);
    let answer = service_fn(|mut request: Request<Incoming>| {
        let place = place.clone();
        if request.body().is_end_stream() {
            place.work();
        }
        request.extensions_mut().insert(place.clone());
        let answer = service.call(request);
        async move {
            let answer = answer.await.map(Into::into);
            place.rest();
            answer
        }
    });
    let stream = TokioIo::new(Watched { stream, stall: None });
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

/// Who has a place.
struct Guest {
    /// Whether a request of its is being answered: it is the controller that is waited for.
    working: bool,
    /// Since when it is so.
    since: Instant,
    evict: oneshot::Sender<()>,
}

#[derive(Default)]
struct Guests {
    last: u64,
    by_number: BTreeMap<u64, Guest>,
}

/// All places.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<Guests>>);

impl Places {
    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection. It is the connection's until the receiver says that it was given away.
    fn take(&self) -> (Place, oneshot::Receiver<()>) {
        let mut guests = self.guests();
        if guests.by_number.len() >= MAX_CONNECTIONS {
            let longest = guests.by_number.iter().min_by_key(|(_, guest)| (guest.working, guest.since));
            let longest = longest.map(|(number, _)| *number);
            if let Some(guest) = longest.and_then(|number| guests.by_number.remove(&number)) {
                // It has just ended by itself.
                let _ = guest.evict.send(());
            }
        }
        guests.last += 1;
        let number = guests.last;
        let (evict, evicted) = oneshot::channel();
        guests.by_number.insert(number, Guest { working: false, since: Instant::now(), evict });
        (Place { number, places: self.clone() }, evicted)
    }
}

/// A connection's place; free again when dropped.
pub(crate) struct Place {
    number: u64,
    places: Places,
}

impl Place {
    fn set(&self, working: bool) {
        if let Some(guest) = self.places.guests().by_number.get_mut(&self.number)
            && guest.working != working
        {
            (guest.working, guest.since) = (working, Instant::now());
        }
    }

    /// A request is there as a whole: from now on the client waits for us.
    pub(crate) fn work(&self) {
        self.set(true);
    }

    fn rest(&self) {
        self.set(false);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.guests().by_number.remove(&self.number);
    }
}

/// A connection that ends when its client takes nothing of what is to be sent.
struct Watched {
    stream: TcpStream,
    /// Runs while the client takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if polled.is_ready() {
            self.stall = None;
            return polled;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(STALL_TIME)));
        stall.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn r25_the_place_of_whoever_keeps_us_waiting_longest_is_given_away() {
        let places = Places::default();
        let mut held = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            tokio::time::advance(Duration::from_millis(1)).await;
            held.push(places.take());
        }
        // The first is being answered; the second has just been.
        held[0].0.work();
        held[1].0.work();
        tokio::time::advance(Duration::from_millis(1)).await;
        held[1].0.rest();
        let newcomers: Vec<_> = (0..3).map(|_| places.take()).collect();
        let gone: Vec<bool> = held.iter_mut().map(|(_, evicted)| evicted.try_recv().is_ok()).collect();
        assert_eq!(gone.iter().enumerate().filter(|(_, gone)| **gone).map(|(i, _)| i).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(places.guests().by_number.len(), MAX_CONNECTIONS);
        drop((held, newcomers));
        assert!(places.guests().by_number.is_empty());
    }
}
