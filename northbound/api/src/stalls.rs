//! Clients that let their answers wait over HTTP/2.
//!
//! They need not stop reading for that, which [`crate::pace`] would notice: they just open no window (RFC 9113 §5.2) and
//! say that they are there. So each connection is held to what [`crate::pace`] holds those to that take their time over
//! reading: it takes [`MIN_RATE`] in the long run, or waits for no longer than [`PATIENCE`]. An answer that has nothing
//! to tell, as a watch between changes, waits for nobody.

use crate::{
    body::SMALL,
    pace::{MIN_RATE, PATIENCE},
    places::Turn,
};
use axum::{
    body::{Body, Bytes, to_bytes},
    response::Response,
};
use hyper::body::{Body as Read, Frame, SizeHint};
use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Most bytes of an answer that are handed on at once: a frame of the usual size.
const CHUNK: usize = 16 << 10;
/// The last bytes of an answer, which are handed on by themselves: they are asked for when there is a window for all that
/// was handed on before. So what waits for a window and is no answer's any more is no more than this.
const TAIL: usize = 256;
/// Longest that one answer may get nothing while others of its connection do: at the least rate each of as many as there
/// may be gets something in half of that.
const LONGEST: Duration = Duration::from_secs(90);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What the answers of one connection wait for.
#[derive(Debug)]
struct State {
    last: u64,
    /// Since when each has had something for its client that the client has not taken; none if it has nothing.
    answers: BTreeMap<u64, Option<Instant>>,
    /// What is left of [`PATIENCE`].
    patience: Duration,
    /// Up to when that was counted.
    counted: Instant,
    /// Whether nothing was left of it once.
    over: bool,
}

impl State {
    fn new(now: Instant) -> Self {
        Self { last: 0, answers: BTreeMap::new(), patience: PATIENCE, counted: now, over: false }
    }

    fn count(&mut self, now: Instant) {
        if self.answers.values().any(Option::is_some) {
            self.patience = self.patience.saturating_sub(now - self.counted);
            self.over |= self.patience.is_zero();
        } else {
            self.patience = PATIENCE;
        }
        self.counted = now;
    }

    /// An answer has something for its client, or nothing.
    fn set(&mut self, number: u64, waits: bool, now: Instant) {
        self.count(now);
        if let Some(since) = self.answers.get_mut(&number) {
            *since = waits.then(|| since.unwrap_or(now));
        }
    }

    /// So many bytes of an answer are handed on.
    fn handed(&mut self, number: u64, bytes: usize, now: Instant) {
        self.count(now);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.patience = (self.patience + Duration::from_secs(1) * bytes / MIN_RATE).min(PATIENCE);
        if let Some(since) = self.answers.get_mut(&number) {
            *since = Some(now);
        }
    }

    fn stalled(&mut self, now: Instant) -> bool {
        self.count(now);
        self.over || self.answers.values().flatten().any(|since| now - *since > LONGEST)
    }
}

/// The answers of one connection. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Stalls(Arc<Mutex<State>>);

impl Stalls {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State::new(Instant::now()))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Once the client has let its answers wait for too long.
    pub(crate) async fn stalled(&self) {
        loop {
            sleep(LOOK).await;
            if self.state().stalled(Instant::now()) {
                return;
            }
        }
    }

    /// Counts an answer among those that wait, and as held for its client, until the client has taken it.
    pub(crate) async fn paced(&self, answer: Response, turn: Arc<Turn>) -> Response {
        if answer.body().is_end_stream() {
            return answer;
        }
        let (parts, mut inner) = answer.into_parts();
        let number = {
            let mut state = self.state();
            state.last += 1;
            let (number, now) = (state.last, Instant::now());
            state.answers.insert(number, None);
            state.set(number, true, now);
            number
        };
        let told = Arc::new(Told { stalls: self.clone(), number, task: Mutex::new(None) });
        let mut rest = Bytes::new();
        let mut ahead = None;
        if inner.size_hint().exact().is_some() {
            // What is in memory does not fail to be read.
            rest = to_bytes(std::mem::take(&mut inner), usize::MAX).await.unwrap_or_default();
            turn.hold_answer(&rest);
        } else if let Poll::Ready(first) = poll_fn(|cx| Poll::Ready(Pin::new(&mut inner).poll_frame(cx))).await {
            // A message of gRPC is in memory as a whole too, and would be counted only once there is a window for it.
            ahead = Some(first.map(|first| first.map(Frame::into_data)));
            if let Some(Some(Ok(Ok(data)))) = &mut ahead {
                rest = std::mem::take(data);
                ahead = None;
            }
            if rest.len() > SMALL {
                turn.hold_answer(&rest);
            }
        }
        Response::from_parts(parts, Body::new(Paced { ahead, rest, inner, turn, told }))
    }
}

/// What a body said when it was asked, with its data apart.
type Said = Option<Result<Result<Bytes, Frame<Bytes>>, axum::Error>>;

/// An answer's body, part by part.
struct Paced {
    /// What was asked for before the client wanted it, if that is no data.
    ahead: Option<Said>,
    /// Data that was not handed on yet.
    rest: Bytes,
    inner: Body,
    turn: Arc<Turn>,
    told: Arc<Told>,
}

impl Paced {
    fn next(&mut self, cx: &Context<'_>) -> Poll<Said> {
        if let Some(said) = self.ahead.take() {
            return Poll::Ready(said);
        }
        *self.told.task() = Some(cx.waker().clone());
        let waker = Waker::from(self.told.clone());
        let polled = Pin::new(&mut self.inner).poll_frame(&mut Context::from_waker(&waker));
        polled.map(|said| said.map(|said| said.map(Frame::into_data)))
    }
}

impl Read for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let (stalls, number) = (self.told.stalls.clone(), self.told.number);
        while self.rest.is_empty() {
            // There is a window, and it is the controller that is waited for.
            stalls.state().set(number, false, Instant::now());
            match std::task::ready!(self.next(cx)) {
                Some(Ok(Ok(data))) if data.len() > SMALL => {
                    self.turn.hold_answer(&data);
                    self.rest = data;
                }
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let left = self.rest.len();
        let last = self.ahead.is_none() && self.inner.is_end_stream();
        let part = match last {
            // A copy: a part of the whole would keep all of it.
            true if left <= TAIL => Bytes::copy_from_slice(&self.rest.split_to(left)),
            true => self.rest.split_to(CHUNK.min(left - TAIL)),
            false => self.rest.split_to(CHUNK.min(left)),
        };
        stalls.state().handed(number, part.len(), Instant::now());
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.ahead.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, inner) = (self.rest.len() as u64, self.inner.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest + inner.lower());
        if let Some(upper) = inner.upper() {
            hint.set_upper(rest + upper);
        }
        hint
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        let mut state = self.told.stalls.state();
        state.count(Instant::now());
        state.answers.remove(&self.told.number);
        drop(state);
        self.turn.release();
    }
}

/// Is told when a body has something again. Whether anybody asks for it then depends on the client's window.
struct Told {
    stalls: Stalls,
    number: u64,
    task: Mutex<Option<Waker>>,
}

impl Told {
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.stalls.state().set(self.number, true, Instant::now());
        let task = self.task().take();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A connection with so many answers, each of which has something to tell.
    fn waiting(count: u64) -> (State, Instant) {
        let now = Instant::now();
        let mut state = State::new(now);
        for number in 1..=count {
            state.answers.insert(number, None);
            state.set(number, true, now);
        }
        (state, now)
    }

    #[tokio::test]
    async fn a38_answers_wait_as_long_as_patience_lasts() {
        let (mut state, began) = waiting(64);
        assert!(!state.stalled(began + PATIENCE - LOOK) && state.stalled(began + PATIENCE));
        // One that has nothing to tell waits for nobody.
        let (mut state, began) = waiting(1);
        state.set(1, false, began);
        assert!(!state.stalled(began + 100 * PATIENCE));
        state.set(1, true, began + 100 * PATIENCE);
        assert!(!state.stalled(began + 101 * PATIENCE - LOOK) && state.stalled(began + 101 * PATIENCE));
    }

    #[tokio::test]
    async fn a38_who_takes_at_the_least_rate_is_not_cut_off_unless_he_lets_one_answer_wait() {
        let (mut state, began) = waiting(64);
        let each = Duration::from_secs(1) * CHUNK as u32 / MIN_RATE;
        for turn in 0..10_000 {
            let now = began + each * turn;
            assert!(!state.stalled(now), "{turn}");
            state.handed(u64::from(turn % 64) + 1, CHUNK, now);
        }
        // Half of the rate is too little.
        let (mut state, began) = waiting(64);
        let turns = (0..10_000).take_while(|turn| {
            let now = began + 2 * each * *turn;
            state.handed(u64::from(turn % 64) + 1, CHUNK, now);
            !state.stalled(now)
        });
        assert!(turns.count() < 200);
        let (mut state, began) = waiting(2);
        let turns = (0..10_000).take_while(|turn| {
            let now = began + each * *turn;
            state.handed(1, CHUNK, now);
            !state.stalled(now)
        });
        assert!(each * turns.count() as u32 <= LONGEST + each);
    }
}
