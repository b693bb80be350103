//! Bodies of requests.

use crate::{places::Turn, problem::Failure};
use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{StatusCode, header},
};
use bulkhead_types::MAX_INPUT;
use hyper::body::Body as Read;
use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};
use tokio::time::timeout;

/// Longest that a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Longest that nothing of it may come.
pub(crate) const PAUSE_TIME: Duration = Duration::from_secs(10);
/// Most bytes of a body that is not counted as a large one.
pub(crate) const SMALL: usize = 64 << 10;

/// A body that was read.
#[derive(Default)]
pub(crate) struct Whole {
    bytes: Vec<u8>,
    /// What it is held for; to be kept as long as the bytes.
    turn: Option<Arc<Turn>>,
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Whole {
    /// Adds a part. Large bodies count among what is held for clients.
    fn push(&mut self, part: &[u8]) -> Result<(), Failure> {
        if self.bytes.len() + part.len() > MAX_INPUT {
            return Err(too_large());
        }
        let before = self.bytes.capacity();
        self.bytes.extend_from_slice(part);
        let held = self.bytes.capacity();
        match &self.turn {
            Some(turn) if held > SMALL && held != before && !turn.hold_request(held) => {
                let detail = "other clients' large requests are being worked on; try again in a moment";
                Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(turn) = &self.turn {
            turn.release();
        }
    }
}

fn too_large() -> Failure {
    let detail = format!("a body has at most {MAX_INPUT} bytes; apply it in several parts");
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", detail)
}

pub(crate) fn late(limit: Duration, what: &str) -> Failure {
    Failure::new(StatusCode::REQUEST_TIMEOUT, "timeout", format!("{what} within {} s", limit.as_secs()))
}

/// The next part of a body.
pub(crate) async fn part(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    // What is no data is a trailer, which says nothing here.
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

/// A request's body, refused above the limit without being buffered.
pub(crate) async fn body(request: Request) -> Result<Whole, Failure> {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|len| len > MAX_INPUT as u64) {
        return Err(too_large());
    }
    let turn = request.extensions().get::<Arc<Turn>>().cloned();
    let mut whole = Whole { bytes: Vec::new(), turn: turn.clone() };
    let mut body = request.into_body();
    let read = async {
        loop {
            match timeout(PAUSE_TIME, part(&mut body)).await {
                Ok(Some(Ok(part))) => whole.push(&part)?,
                Ok(None) => return Ok(()),
                // The connection is broken, and then nobody reads the answer; or it makes no sense.
                Ok(Some(Err(error))) => return Err(Failure::bad(error.to_string())),
                Err(_) => return Err(late(PAUSE_TIME, "nothing more of the body came")),
            }
        }
    };
    timeout(BODY_TIME, read).await.unwrap_or_else(|_| Err(late(BODY_TIME, "the body did not arrive")))?;
    if let Some(turn) = turn {
        turn.work();
    }
    Ok(whole)
}
