//! Work that takes its time: where it holds up no other request, only so much of it at once, and not for clients that
//! have gone.

use crate::problem::Failure;
use axum::{
    body::Bytes,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Longest that a request waits until its turn comes.
const QUEUE_TIME: Duration = Duration::from_secs(20);

/// Places for one sort of work.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Semaphore>);

/// The places for work. Each sort has its own, so that a long one does not hold up a short one. There are two of what
/// takes seconds: a large piece lets others past.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    /// Large bodies that are parsed, one at a time: with 100,000 new workloads, parsed, compiled and stored, the controller
    /// has 0.9 GB.
    pub(crate) large: Places,
    /// All other documents.
    pub(crate) small: Places,
    /// Lists of resources: one takes several times its answer's size.
    pub(crate) lists: Places,
    /// Questions about one connection.
    pub(crate) questions: Places,
    /// Who reaches whom.
    pub(crate) matrices: Places,
    /// What a change would do to that.
    pub(crate) plans: Places,
    /// Looks at earlier revisions.
    pub(crate) history: Places,
    /// Changes that are read again for whoever watches; and many of them at once, kept until all who want them have them.
    pub(crate) changes: Places,
    pub(crate) batches: Places,
    /// Backups: each keeps the store from using space again for as long as its client takes.
    pub(crate) backups: Places,
    /// Backups that come back: one at a time.
    pub(crate) restores: Places,
}

impl Default for Desk {
    fn default() -> Self {
        let places = |count| Places(Arc::new(Semaphore::new(count)));
        Self {
            large: places(1),
            small: places(16),
            lists: places(2),
            questions: places(8),
            matrices: places(2),
            plans: places(2),
            history: places(4),
            changes: places(2),
            batches: places(4),
            backups: places(2),
            restores: places(1),
        }
    }
}

/// Whether the client that work is for has gone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gone(Arc<AtomicBool>);

impl Gone {
    /// Fails once the client has gone: work that takes long asks between its steps.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.0.load(Ordering::Relaxed) {
            // Nobody reads it.
            true => Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "gone", "the client has gone")),
            false => Ok(()),
        }
    }
}

/// Lets work know when whoever waits for it stops waiting.
struct Waits(Gone);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Places {
    /// A place, once there is one, to be kept as long as the work goes on.
    pub(crate) async fn take(&self) -> Result<OwnedSemaphorePermit, Failure> {
        match timeout(QUEUE_TIME, self.0.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            // They are never closed.
            Ok(Err(_)) | Err(_) => {
                let detail =
                    format!("no turn within {} s: too many ask for the same; try again later", QUEUE_TIME.as_secs());
                Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail))
            }
        }
    }

    /// Does work, once its turn has come. The place is taken until it is done, whether or not its client is still there.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Gone) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let place = self.take().await?;
        let gone = Gone::default();
        let waits = Waits(gone.clone());
        let done = tokio::task::spawn_blocking(move || {
            let done = gone.check().and_then(|()| work(&gone));
            drop(place);
            done
        });
        let done = done.await;
        drop(waits);
        match done {
            Ok(done) => done,
            Err(_) => Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "see the controller's log")),
        }
    }
}

/// An answer in JSON, written where it was worked out.
#[derive(Debug, Clone)]
pub(crate) struct Written(pub(crate) Bytes);

impl Written {
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, Failure> {
        let written = serde_json::to_vec(value);
        let bytes =
            written.map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()))?;
        Ok(Self(bytes.into()))
    }
}

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn r25_work_ends_when_its_client_has_gone_and_keeps_its_place_until_then() {
        let places = Places(Arc::new(Semaphore::new(1)));
        let (began, begins) = mpsc::channel();
        let (ended, ends) = mpsc::channel();
        let own = places.clone();
        let asked = tokio::spawn(async move {
            own.run(move |gone| {
                began.send(()).unwrap();
                while gone.check().is_ok() {
                    std::thread::yield_now();
                }
                ended.send(()).unwrap();
                gone.check()
            })
            .await
        });
        let begun = tokio::task::spawn_blocking(move || begins.recv());
        begun.await.unwrap().unwrap();
        assert_eq!(places.0.available_permits(), 0);
        asked.abort();
        let over = tokio::task::spawn_blocking(move || ends.recv());
        over.await.unwrap().unwrap();
        // The place is free again for the next one.
        assert!(places.run(|_| Ok(())).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told() {
        let places = Places(Arc::new(Semaphore::new(0)));
        let refused = places.run(|_| Ok(())).await.unwrap_err();
        assert_eq!(refused.into_response().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
