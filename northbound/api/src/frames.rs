//! HTTP/2 clients that send frames and ask for nothing by them.
//!
//! Requests that are taken back at once, settings, pings, empty frames and endless heads cost their sender next to nothing
//! (CVE-2023-44487, CVE-2019-9512, CVE-2019-9515, CVE-2019-9518, CVE-2024-27316 are of that sort). So each connection has
//! an allowance: a frame takes from it, time and what the client is sent add to it. Who has used it up is cut off.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Frames that a client may send at once, in thousandths: a hundred requests and what belongs to each.
const MOST: i64 = 2_000_000;
/// What comes back each millisecond: 200 frames a second.
const EACH_MILLISECOND: i64 = 200;
/// What an answer adds: a request has a head, perhaps in two frames, a body, its window's frames, and may be followed by a
/// ping.
const EACH_ANSWER: i64 = 12_000;
/// What a kilobyte that is sent adds: clients open their windows by as little as some KB.
const EACH_KILOBYTE: i64 = 500;
/// Least bytes of a body's frame that takes nothing: it is paid for by the windows.
const LEAST_DATA: usize = 256;
/// The first bytes of a client's connection (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// A frame's head: length, type, flags, stream (RFC 9113 §4.1).
const HEAD: usize = 9;
/// The type of a body's frame (RFC 9113 §6.1).
const DATA: u8 = 0;

/// What a connection's client may still send.
#[derive(Debug, Clone)]
pub(crate) struct Allowance(Arc<AtomicI64>);

impl Default for Allowance {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(MOST)))
    }
}

impl Allowance {
    fn add(&self, thousandths: i64) {
        let more = |left: i64| Some(left.saturating_add(thousandths).min(MOST));
        // It always has a new value.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// A request was answered.
    pub(crate) fn answered(&self) {
        self.add(EACH_ANSWER);
    }

    /// Takes for one frame; whether there was enough.
    fn frame(&self) -> bool {
        self.0.fetch_sub(1_000, Ordering::Relaxed) >= 1_000
    }
}

/// Where in the stream of frames the next byte is.
#[derive(Debug, Clone, Copy)]
enum At {
    /// In what is passed over: so many bytes are left of it.
    Within(usize),
    /// In a frame's head: what is there of it.
    Head([u8; HEAD], usize),
}

/// A connection whose client's frames are counted.
pub(crate) struct Counted<S> {
    stream: S,
    allowance: Allowance,
    at: At,
    since: Instant,
}

impl<S> Counted<S> {
    pub(crate) fn new(stream: S, allowance: Allowance) -> Self {
        Self { stream, allowance, at: At::Within(PREFACE), since: Instant::now() }
    }

    /// Counts the frames that begin in these bytes; whether they are allowed.
    fn count(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let taken = match &mut self.at {
                At::Within(left) => {
                    let taken = bytes.len().min(*left);
                    *left -= taken;
                    if *left == 0 {
                        self.at = At::Head([0; HEAD], 0);
                    }
                    taken
                }
                At::Head(head, there) => {
                    let taken = bytes.len().min(HEAD - *there);
                    for (to, from) in head.iter_mut().skip(*there).zip(bytes) {
                        *to = *from;
                    }
                    *there += taken;
                    if *there == HEAD {
                        let [a, b, c, kind, ..] = *head;
                        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                        self.at = if length == 0 { At::Head([0; HEAD], 0) } else { At::Within(length) };
                        if (kind != DATA || length < LEAST_DATA) && !self.allowance.frame() {
                            return false;
                        }
                    }
                    taken
                }
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        true
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = polled {
            let now = Instant::now();
            let passed = now.saturating_duration_since(self.since).as_millis();
            if passed > 0 {
                self.since = now;
                self.allowance.add(i64::try_from(passed).unwrap_or(i64::MAX).saturating_mul(EACH_MILLISECOND));
            }
            if !self.count(buf.filled().get(before..).unwrap_or_default()) {
                return Poll::Ready(Err(io::Error::other("more frames than it may send")));
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.allowance.add(i64::try_from(written).unwrap_or(i64::MAX).saturating_mul(EACH_KILOBYTE) / 1024);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with a payload of zeros.
    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let [.., a, b, c] = length.to_be_bytes();
        let mut frame = vec![a, b, c, kind, 0, 0, 0, 0, 1];
        frame.resize(HEAD + length, 0);
        frame
    }

    fn counted() -> Counted<tokio::io::Empty> {
        Counted::new(tokio::io::empty(), Allowance::default())
    }

    #[tokio::test]
    async fn a38_frames_are_counted_however_they_are_cut() {
        let bytes =
            [vec![b'P'; PREFACE], frame(4, 0), frame(6, 8), frame(DATA, 5_000), frame(DATA, 1), frame(1, 70_000)]
                .concat();
        for size in [1, 7, 24, 1_000, bytes.len()] {
            let mut counted = counted();
            assert!(bytes.chunks(size).all(|part| counted.count(part)));
            assert_eq!(counted.allowance.0.load(Ordering::Relaxed), MOST - 4_000, "{size}");
        }
    }

    #[tokio::test]
    async fn a38_who_sends_nothing_but_frames_uses_up_his_allowance() {
        let mut counted = counted();
        assert!(counted.count(&[b'P'; PREFACE]));
        let ping = frame(6, 8);
        assert_eq!((0..).take_while(|_| counted.count(&ping)).count(), MOST as usize / 1_000);
        // Answers make room for more, up to a limit.
        (0..1_000).for_each(|_| counted.allowance.answered());
        assert_eq!(counted.allowance.0.load(Ordering::Relaxed), MOST);
    }
}
