//! Bodies, and work that takes its time.

use crate::{connections::Place, problem::Failure};
use axum::{
    body::{Bytes, to_bytes},
    extract::Request,
    http::{StatusCode, header},
};
use bulkhead_types::MAX_INPUT;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Longest that a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Most bytes of a body that is not counted as a large one.
const SMALL: u64 = 64 << 10;
/// Most large bodies that are read or parsed at once, so that clients together cannot use up the memory: one of
/// [`MAX_INPUT`] bytes takes some 200 MB while it is parsed.
const MAX_LARGE: usize = 4;

/// The places for large bodies.
#[derive(Debug, Clone)]
pub(crate) struct Large(Arc<Semaphore>);

impl Default for Large {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LARGE)))
    }
}

/// A body that was read.
pub(crate) struct Whole {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its place among the large ones; to be kept until it is parsed.
    pub place: Option<OwnedSemaphorePermit>,
}

/// A request's body, refused above the limit without being buffered.
pub(crate) async fn body(request: Request) -> Result<Whole, Failure> {
    let too_large = || {
        let detail = format!("a body has at most {MAX_INPUT} bytes; apply it in several parts");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", detail)
    };
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|len| len > MAX_INPUT as u64) {
        return Err(too_large());
    }
    let connection = request.extensions().get::<Arc<Place>>().cloned();
    let large = request.extensions().get::<Large>().cloned().filter(|_| declared.is_none_or(|len| len > SMALL));
    let read = async {
        let place = match large {
            // The semaphore is never closed; without a permit the body would merely go uncounted.
            Some(Large(places)) => places.acquire_owned().await.ok(),
            None => None,
        };
        to_bytes(request.into_body(), MAX_INPUT).await.map(|bytes| Whole { bytes, place })
    };
    match timeout(BODY_TIME, read).await {
        Ok(Ok(whole)) => {
            if let Some(connection) = connection {
                connection.work();
            }
            Ok(whole)
        }
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
