//! The loop, as others see it.

use crate::{
    apply::{Outcome, Refusal, Request},
    core::Core,
    fabric::{SwitchView, Views},
    load::Stored,
    metrics::{self, Inside, Totals},
    realization::Realization,
    restore::{RestoreRefusal, Restoring},
    shared::{Accepted, Shared},
};
use bulkhead_store::{Event, Reader, StoreError};
use bulkhead_topology::Name;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};
use tracing::Span;

/// How many requests may wait for the loop; who comes then waits outside.
const DEPTH: usize = 256;
/// How long a change may wait outside; then it is refused, and nothing of it was done. Far above what a full queue of
/// ordinary changes takes (less than a second).
const MAX_OUTSIDE: Duration = Duration::from_secs(10);

/// How long metrics wait for the loop: they have to come when it is busy, too.
const MAX_LOOK: Duration = Duration::from_secs(1);
/// How often switches count for metrics, at most: telling 100,000 counters takes a switch a second.
const COUNT_EVERY: Duration = Duration::from_secs(60);

/// The loop has ended: the controller is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the controller is stopping")]
pub struct Gone;

/// A look at the loop's own data.
pub(crate) type Look = Box<dyn FnOnce(&Core) + Send>;

/// A change that is asked for.
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) asked: Instant,
    /// What it is a part of, for whoever follows a request through the controller.
    pub(crate) span: Span,
    pub(crate) reply: oneshot::Sender<Result<Outcome, Refusal>>,
}

/// What the loop is asked.
pub(crate) enum Message {
    Apply(Asked),
    Realization { revision: u64, wait: Duration, reply: oneshot::Sender<Realization> },
    Count { reply: oneshot::Sender<()> },
    Restore { restoring: Restoring, reply: oneshot::Sender<Result<u64, RestoreRefusal>> },
    Note { events: Vec<Event>, reply: oneshot::Sender<Result<(), StoreError>> },
    Look(Look),
    Stop,
}

/// A way to the loop; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    messages: mpsc::Sender<Message>,
    shared: Shared,
    views: Views,
    totals: Arc<Mutex<Totals>>,
    store: Arc<dyn Reader>,
    /// When switches were last asked to count for metrics.
    counted: Arc<Mutex<Option<Instant>>>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    pub(crate) fn new(stored: &Stored) -> (Self, mpsc::Receiver<Message>) {
        let (messages, receiver) = mpsc::channel(DEPTH);
        let (shared, views, totals) = (stored.shared.clone(), stored.views.clone(), stored.totals.clone());
        (Self { messages, shared, views, totals, store: stored.store.reader(), counted: Arc::default() }, receiver)
    }

    async fn ask<R>(&self, message: impl FnOnce(oneshot::Sender<R>) -> Message) -> Result<R, Gone> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(message(reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }

    /// Carries out a change; it is durable when the answer is `Ok`. Changes are carried out in the order in which they
    /// are asked for, whatever they do: one that takes something away may well be about what the one before it made. How
    /// long they wait for that is bounded by the queue, and counted.
    pub async fn apply(&self, request: Request) -> Result<Result<Outcome, Refusal>, Gone> {
        let asked = Instant::now();
        let Ok(place) = timeout(MAX_OUTSIDE, self.messages.reserve()).await else {
            let waited = MAX_OUTSIDE.as_secs();
            return Ok(Err(Refusal::Unavailable(format!(
                "too many changes wait; this one found no place in {waited} s"
            ))));
        };
        let (reply, answer) = oneshot::channel();
        place.map_err(|_| Gone)?.send(Message::Apply(Asked { request, asked, span: Span::current(), reply }));
        answer.await.map_err(|_| Gone)
    }

    /// How far a revision has come; waits up to `wait` for it to be realized.
    pub async fn realization(&self, revision: u64, wait: Duration) -> Result<Realization, Gone> {
        self.ask(|reply| Message::Realization { revision, wait, reply }).await
    }

    /// Has every switch count anew, and waits a moment for the answers.
    pub async fn count(&self) -> Result<(), Gone> {
        self.ask(|reply| Message::Count { reply }).await
    }

    /// Looks at what the loop owns, in the loop: keep it short.
    pub async fn look<R: Send + 'static>(&self, look: impl FnOnce(&Core) -> R + Send + 'static) -> Result<R, Gone> {
        self.ask(|reply| {
            Message::Look(Box::new(move |core| {
                // Who asked may have gone.
                let _ = reply.send(look(core));
            }))
        })
        .await
    }

    /// Brings a backup back; it is durable and in force when the answer is `Ok`.
    pub async fn restore(&self, restoring: Restoring) -> Result<Result<u64, RestoreRefusal>, Gone> {
        self.ask(|reply| Message::Restore { restoring, reply }).await
    }

    /// Writes into the audit log what makes no revision; it is durable when the answer is `Ok`.
    pub async fn note(&self, events: Vec<Event>) -> Result<Result<(), StoreError>, Gone> {
        self.ask(|reply| Message::Note { events, reply }).await
    }

    /// The same, for those who may wait.
    pub fn note_blocking(&self, events: Vec<Event>) -> Result<Result<(), StoreError>, Gone> {
        let (reply, answer) = oneshot::channel();
        self.messages.blocking_send(Message::Note { events, reply }).map_err(|_| Gone)?;
        answer.blocking_recv().map_err(|_| Gone)
    }

    /// What is stored, with its history. Looking there may take as long as the disk does.
    pub fn store(&self) -> &dyn Reader {
        &*self.store
    }

    /// Why changes cannot be stored; `None` if they can, as far as is known.
    pub fn store_trouble(&self) -> Option<String> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).store_trouble.clone()
    }

    /// Whether what was loaded is compiled. Until then the accepted state can be read; everything else that is asked
    /// waits for it, and no switch is told anything.
    pub fn is_compiled(&self) -> bool {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).compiled
    }

    /// Looks at the newest accepted state; changes wait meanwhile.
    pub fn read<R>(&self, look: impl FnOnce(&Accepted) -> R) -> R {
        look(&self.shared.read())
    }

    /// The newest accepted revision, as it changes.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.shared.newest()
    }

    /// Every switch.
    pub fn switches(&self) -> BTreeMap<Name, SwitchView> {
        self.views.read().clone()
    }

    /// Metrics in the Prometheus text format. What only the loop can tell is left out while it is too busy.
    pub async fn metrics(&self) -> String {
        let inside = async { timeout(MAX_LOOK, self.look(Inside::of)).await.ok().and_then(Result::ok) };
        // While the loop compiles there is nothing.
        let inside = if self.is_compiled() { inside.await } else { None };
        if inside.is_some() {
            self.count_again();
        }
        let totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let waiting = self.messages.max_capacity() - self.messages.capacity();
        metrics::render(self.shared.read().revision, &totals, waiting, &self.views.read(), inside.as_ref())
    }

    /// Has every switch count anew, for the next time that metrics are asked for, unless that was done lately.
    fn count_again(&self) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.is_some_and(|counted| counted.elapsed() < COUNT_EVERY) {
            return;
        }
        // Where there is no place in the queue, another time will do.
        let (reply, _) = oneshot::channel();
        if self.messages.try_send(Message::Count { reply }).is_ok() {
            *counted = Some(Instant::now());
        }
    }

    /// Ends the loop; switches are left as they are.
    pub async fn stop(&self) {
        // It has ended already.
        let _ = self.messages.send(Message::Stop).await;
    }
}
