//! Clients that take their time over an answer: how long they may, and that it costs the answer and nothing besides.

use crate::places::Turn;
use axum::body::{Body, Bytes};
use hyper::body::{Body as Read, Frame, SizeHint};
use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep, timeout},
};

/// Most bytes of an answer that are handed on at once: what has been handed on is in memory once more.
const CHUNK: usize = 64 << 10;
/// Longest that we wait for a client to take more of its answer. What it takes makes up for waiting at [`MIN_RATE`].
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Least bytes a second that a client takes in the long run: less than any line that a list of workloads is read over.
pub(crate) const MIN_RATE: u32 = 32 << 10;

/// An answer's body, which is in memory as a whole: it may be one that others are given too.
pub(crate) struct Answer {
    rest: Bytes,
    turn: Arc<Turn>,
}

impl Answer {
    /// `bytes` as the answer to this request.
    pub(crate) fn body(bytes: Bytes, turn: Arc<Turn>) -> Body {
        turn.hold_answer(&bytes);
        Body::new(Self { rest: bytes, turn })
    }
}

impl Read for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let chunk = self.rest.len().min(CHUNK);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(chunk)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.turn.release();
    }
}

/// A connection that ends when its client takes too little of what is to be sent.
pub(crate) struct Watched {
    stream: TcpStream,
    /// What is left of [`PATIENCE`].
    patience: Duration,
    /// While the client takes nothing: since when, and until when it may.
    stall: Option<(Instant, Pin<Box<Sleep>>)>,
    /// What was looked at already, to be read again.
    first: Bytes,
}

impl Watched {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, patience: PATIENCE, stall: None, first: Bytes::new() }
    }

    /// The first bytes that come, up to so many, which are there to be read still; fewer if no more come.
    pub(crate) async fn first(&mut self, most: usize, limit: Duration) -> Bytes {
        let mut first = vec![0; most];
        let mut there = 0;
        let read = async {
            while let Some(rest) = first.get_mut(there..).filter(|rest| !rest.is_empty()) {
                match self.stream.read(rest).await {
                    Ok(read) if read > 0 => there += read,
                    // What comes next will say so again.
                    _ => break,
                }
            }
        };
        // Whoever sends too little in time is told by whoever reads on.
        let _ = timeout(limit, read).await;
        first.truncate(there);
        self.first = first.into();
        self.first.clone()
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let some = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first.split_to(some));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(written) = &polled {
            if let Some((since, _)) = self.stall.take() {
                self.patience = self.patience.saturating_sub(since.elapsed());
            }
            let written = u32::try_from(*written.as_ref().unwrap_or(&0)).unwrap_or(u32::MAX);
            self.patience = (self.patience + Duration::from_secs(1) * written / MIN_RATE).min(PATIENCE);
            return polled;
        }
        let patience = self.patience;
        let (_, end) = self.stall.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(patience))));
        end.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
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
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::JoinHandle,
        time::interval,
    };

    /// Sends 64 MiB to a client that takes so many bytes twice a second; how that ended, and after how long.
    async fn sent(bytes: usize) -> (io::Result<()>, Duration) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = Watched::new(listener.accept().await.unwrap().0);
        let takes: JoinHandle<()> = tokio::spawn(async move {
            let (mut taken, mut times) = (vec![0; bytes], interval(Duration::from_millis(500)));
            while client.read_exact(&mut taken).await.is_ok() {
                times.tick().await;
            }
        });
        let began = Instant::now();
        let part = vec![0; CHUNK];
        let mut end = Ok(());
        for _ in 0..(64 << 20) / CHUNK {
            end = server.write_all(&part).await;
            if end.is_err() {
                break;
            }
        }
        takes.abort();
        (end, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn r25_who_takes_an_answer_too_slowly_is_given_up() {
        let (end, after) = sent(MIN_RATE as usize / 8).await;
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(after >= PATIENCE && after < 8 * PATIENCE, "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_it_slowly_and_all_the_time_gets_it() {
        let (end, after) = sent(MIN_RATE as usize * 4).await;
        end.unwrap();
        assert!(after > 2 * PATIENCE, "{after:?}");
    }
}
