//! The socket side: bodies, blocking work, connections.

use crate::{Backend, problem::Failure, router};
use axum::{
    body::{Bytes, to_bytes},
    extract::Request,
    http::{StatusCode, header},
    serve::Listener,
};
use bulkhead_types::MAX_INPUT;
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

/// Longest that a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Most connections at once: what is beyond waits in the kernel, so that idle clients cannot use up the
/// controller's file descriptors, which switches need.
const MAX_CONNECTIONS: usize = 512;
/// A connection that has moved no byte for so long is closed; above every wait that a request can ask for.
const IDLE_TIME: Duration = Duration::from_secs(100);

/// A request's body, refused above the limit without being buffered.
pub(crate) async fn body(request: Request) -> Result<Bytes, Failure> {
    let too_large = || {
        let detail = format!("a body has at most {MAX_INPUT} bytes; apply it in several parts");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", detail)
    };
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|len| len > MAX_INPUT as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIME, to_bytes(request.into_body(), MAX_INPUT)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // Without a declared length the only thing that fails here but the limit is the connection, and
        // then nobody reads the answer.
        Ok(Err(_)) => Err(too_large()),
        Err(_) => {
            let detail = format!("the body did not arrive within {} s", BODY_TIME.as_secs());
            Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "timeout", detail))
        }
    }
}

/// Runs work that takes its time where it holds up no other request.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "see the controller's log")),
    }
}

/// Serves the API on `listener` until `shutdown` is done and the requests under way are answered.
pub async fn serve<B: Backend>(
    listener: TcpListener,
    backend: B,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = Bounded { listener, free: Arc::new(Semaphore::new(MAX_CONNECTIONS)) };
    axum::serve(listener, router(backend).into_make_service()).with_graceful_shutdown(shutdown).await
}

/// A listener that accepts only while there are free places.
struct Bounded {
    listener: TcpListener,
    free: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Watched;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Watched, Self::Addr) {
        // The semaphore is never closed; without a permit the connection would merely go uncounted.
        let permit = self.free.clone().acquire_owned().await.ok();
        let (stream, addr) = Listener::accept(&mut self.listener).await;
        let watched = Watched { stream, idle: Box::pin(sleep(IDLE_TIME)), _permit: permit };
        (watched, addr)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that ends by itself when nothing moves on it.
struct Watched {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Watched {
    /// Passes a poll's result on, watching the time.
    fn watch<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.idle.as_mut().reset(Instant::now() + IDLE_TIME);
            return polled;
        }
        match self.idle.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watch(cx, polled)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
