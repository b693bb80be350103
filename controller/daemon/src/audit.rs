//! What the audit log has beside revisions: requests that were refused for whose they are or for what they ask, access
//! that was given and taken, backups.
//!
//! Refused requests are written down soon after, not before they are answered, and only so many one by one: whoever
//! floods the API with them fills neither the disk nor the log. The others are counted.

use bulkhead_api::Origin;
use bulkhead_runtime::Handle;
use bulkhead_store::Event;
use std::{
    cell::Cell,
    collections::BTreeSet,
    mem,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::sleep;
use tracing::warn;

/// Refused requests of either sort that are written one by one at once; one more is every [`REFILL`].
const SINGLES: u32 = 60;
/// The same in milliseconds.
const REFILL: u64 = 60_000;
/// How often it is told how many others there were, in milliseconds.
const SUMMARY: u64 = 60_000;
/// Addresses that are told of them.
const MAX_SOURCES: usize = 8;
/// How long a refused request may wait to be written.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// An event of a request.
pub(crate) fn event(origin: Origin, outcome: &str, detail: String) -> Event {
    let Origin { user, known, says, from, action, about, unnamed } = origin;
    let outcome = outcome.into();
    Event { time: now(), user, known: known.into(), says, from, action, outcome, detail, times: None, about, unnamed }
}

/// Refused requests of one sort that are not written yet.
#[derive(Debug)]
struct Refused {
    /// What came of them, in a word.
    outcome: &'static str,
    singles: Vec<Event>,
    /// How many may still be written one by one.
    left: u32,
    /// When that last became one more.
    refilled: u64,
    /// How many were not, since the last summary.
    others: u64,
    sources: BTreeSet<String>,
    summed: u64,
}

impl Refused {
    fn at(now: u64, outcome: &'static str) -> Self {
        let (singles, sources) = (Vec::new(), BTreeSet::new());
        Self { outcome, singles, left: SINGLES, refilled: now, others: 0, sources, summed: now }
    }

    fn add(&mut self, event: Event, now: u64) {
        let more = now.saturating_sub(self.refilled) / REFILL;
        if more > 0 {
            self.left = self.left.saturating_add(u32::try_from(more).unwrap_or(SINGLES)).min(SINGLES);
            self.refilled += more * REFILL;
        }
        if self.left > 0 {
            self.left -= 1;
            self.singles.push(event);
            return;
        }
        self.others += 1;
        // The port is another one each time.
        let source = event.from.parse::<SocketAddr>().map_or(event.from, |from| from.ip().to_string());
        let source = if event.user.is_empty() { source } else { format!("{} at {source}", event.user) };
        if self.sources.len() < MAX_SOURCES {
            self.sources.insert(source);
        }
    }

    /// What is to be written now; with `last`, nothing more comes.
    fn take(&mut self, now: u64, last: bool) -> Vec<Event> {
        let mut events = mem::take(&mut self.singles);
        if self.others > 0 && (last || now.saturating_sub(self.summed) >= SUMMARY) {
            let sources: Vec<String> = mem::take(&mut self.sources).into_iter().collect();
            let most = if sources.len() == MAX_SOURCES { ", and perhaps others" } else { "" };
            events.push(Event {
                time: now,
                known: "nobody".into(),
                action: "several requests".into(),
                outcome: self.outcome.into(),
                detail: format!("more than are told one by one, from {}{most}", sources.join(", ")),
                times: Some(mem::take(&mut self.others)),
                ..Event::default()
            });
            self.summed = now;
        }
        events
    }
}

/// A way into the audit log. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Auditor {
    handle: Handle,
    /// Who was refused for who he is. Strangers' requests do not keep those of the others from being told.
    refused: Arc<Mutex<Refused>>,
    /// Whose change was refused for what it asks.
    rejected: Arc<Mutex<Refused>>,
}

impl Auditor {
    pub(crate) fn new(handle: Handle) -> Self {
        let none = |outcome| Arc::new(Mutex::new(Refused::at(now(), outcome)));
        Self { handle, refused: none("refused"), rejected: none("rejected") }
    }

    /// Takes note of a request that was refused for whose it is.
    pub(crate) fn refused(&self, origin: Origin, why: String) {
        Self::add(&self.refused, origin, why);
    }

    /// Takes note of a change that was refused for what it asks.
    pub(crate) fn rejected(&self, origin: Origin, why: String) {
        Self::add(&self.rejected, origin, why);
    }

    fn add(refused: &Mutex<Refused>, origin: Origin, why: String) {
        let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
        let event = event(origin, refused.outcome, why);
        refused.add(event, now());
    }

    /// Writes down what was refused, for as long as it is polled.
    pub(crate) async fn run(self) {
        loop {
            sleep(PAUSE).await;
            self.write(false).await;
        }
    }

    /// Writes down what is not yet.
    pub(crate) async fn write(&self, last: bool) {
        for refused in [&self.refused, &self.rejected] {
            self.write_some(refused, last).await;
        }
    }

    async fn write_some(&self, refused: &Mutex<Refused>, last: bool) {
        let events = refused.lock().unwrap_or_else(PoisonError::into_inner).take(now(), last);
        if events.is_empty() {
            return;
        }
        let failed = match self.handle.note(events.clone()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(gone) => gone.to_string(),
        };
        warn!("the audit log cannot be written: {failed}");
        let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
        // They are as many as were let through, and no more come until some time has passed.
        let room = (SINGLES as usize).saturating_sub(refused.singles.len());
        refused.others += events.len().saturating_sub(room) as u64;
        refused.singles.splice(0..0, events.into_iter().take(room));
    }

    /// Does something that makes no revision, with one record: `done` calls what it is given once nothing is in the way any
    /// more, which writes down that it is done. It is not done if that fails; if it cannot be done all the same, that is
    /// another record.
    pub(crate) fn done<R, E: ToString>(
        &self,
        origin: Origin,
        what: String,
        failed: impl Fn(String) -> E,
        done: impl FnOnce(&dyn Fn() -> Result<(), E>) -> Result<R, E>,
    ) -> Result<R, E> {
        let note = |outcome: &str, detail: String| match self.handle.note_blocking(vec![event(
            origin.clone(),
            outcome,
            detail,
        )]) {
            Ok(noted) => noted.map_err(|error| error.to_string()),
            Err(gone) => Err(gone.to_string()),
        };
        let noted = Cell::new(false);
        let result = done(&|| {
            note("done", what.clone()).map_err(|why| failed(format!("the audit log cannot be written: {why}")))?;
            noted.set(true);
            Ok(())
        });
        if let Err(error) = &result
            && noted.get()
            && let Err(error) = note("failed", format!("{what}: {}", error.to_string()))
        {
            warn!(%error, "the audit log tells that something was done, and not that it failed");
        }
        result
    }

    /// Takes note of a change of who has access that the controller's end kept from being made, and that may have been
    /// noted as done.
    pub(crate) fn interrupted(&self) {
        let origin = Origin { known: "controller", action: "start".into(), ..Origin::default() };
        let what = "access was being given or taken when the controller ended: it was not done";
        let event = event(origin, "failed", what.into());
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).singles.push(event);
    }

    /// Takes note of something that changes nothing, if that can be done.
    pub(crate) fn told(&self, origin: Origin, what: &str) {
        let noted = self.handle.note_blocking(vec![event(origin, "done", what.into())]);
        if !matches!(noted, Ok(Ok(()))) {
            warn!("the audit log cannot be written: {what} is not in it");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refused(from: &str) -> Event {
        Event { from: from.into(), outcome: "refused".into(), ..Event::default() }
    }

    #[test]
    fn a_flood_of_refused_requests_is_counted() {
        let mut waiting = Refused::at(0, "refused");
        for number in 0..100_000_u32 {
            waiting.add(refused(&format!("192.0.2.{}:{}", number % 3, number % 60_000)), 10);
        }
        assert_eq!(waiting.take(1_000, false).len(), SINGLES as usize);
        assert!(waiting.take(2_000, false).is_empty());
        let told = waiting.take(SUMMARY, false);
        assert_eq!((told.len(), told[0].times), (1, Some(100_000 - u64::from(SINGLES))));
        assert!(told[0].detail.contains("from 192.0.2.0, 192.0.2.1, 192.0.2.2"), "{}", told[0].detail);
        // From then on one a minute is told, and how many the others were.
        let mut records = 0;
        for second in 60..3_660 {
            (0..50).for_each(|_| waiting.add(refused("[2001:db8::1]:5"), second * 1_000));
            records += waiting.take(second * 1_000, false).len();
        }
        assert!((100..=122).contains(&records), "{records}");
        assert_eq!(waiting.take(3_660_000, true).len(), 1);
        // Whoever waits long enough is told of one by one again, and no more than before.
        for _ in 0..200 {
            waiting.add(refused("192.0.2.1:1"), 100 * 3_600_000);
        }
        assert_eq!(waiting.take(100 * 3_600_000, false).len(), SINGLES as usize + 1);
    }
}
