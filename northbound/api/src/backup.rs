//! Carrying everything away, and bringing it back.

use crate::{
    Backend, RestoreError,
    body::{PAUSE_TIME, late, part},
    documents::format,
    gate::Who,
    problem::Failure,
    service::Service,
};
use axum::{
    Extension, Json,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bulkhead_types::RestoreAnswer;
use hyper::body::{Body as Read, Frame};
use std::{
    io::{self, Seek, Write},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{sync::mpsc, time::timeout};

/// Parts of a backup that wait for its client; one is some 64 KiB.
const DEPTH: usize = 4;
/// Largest backup that is taken, in bytes: many times that of the largest fabric, so that nobody fills the disk.
const MAX_BACKUP: u64 = 4 << 30;

/// A body whose parts come from another thread.
struct Parts(mpsc::Receiver<io::Result<Bytes>>);

impl Read for Parts {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|part| part.map(|part| part.map(Frame::data)))
    }
}

impl<B: Backend> Service<B> {
    /// Everything, as of one moment, part by part, while changes go on. An error is the last part.
    pub(crate) async fn backup(&self, who: &Who) -> Result<mpsc::Receiver<io::Result<Bytes>>, Failure> {
        let place = self.desk.backups.take().await?;
        let (parts, taken) = mpsc::channel(DEPTH);
        let (backend, origin) = (self.backend.clone(), who.origin());
        tokio::task::spawn_blocking(move || {
            // A client that has gone takes no more.
            let written = backend.backup(origin, &mut |part| parts.blocking_send(Ok(part.into())).is_ok());
            if let Err(error) = written {
                // The client sees that the end is missing.
                let _ = parts.blocking_send(Err(io::Error::other(error.to_string())));
            }
            drop(place);
        });
        Ok(taken)
    }

    /// Brings a backup back that comes in parts, into a controller that has nothing yet.
    pub(crate) async fn restore(
        &self,
        who: &Who,
        mut next: impl AsyncFnMut() -> Option<Result<Bytes, Failure>>,
    ) -> Result<RestoreAnswer, Failure> {
        let _place = self.desk.restores.take().await?;
        if self.backend.read(|view| view.revision) > 0 {
            let why = "there are revisions already; a backup is restored into a controller that has none".to_owned();
            return Err(RestoreError::NotEmpty(why).into());
        }
        let failed = |error| Failure::from(RestoreError::Failed(format!("it cannot be put down: {error}")));
        let mut file = self.backend.spool().map_err(failed)?;
        let (parts, mut come) = mpsc::channel::<Bytes>(DEPTH);
        let written = tokio::task::spawn_blocking(move || {
            while let Some(part) = come.blocking_recv() {
                file.write_all(&part)?;
            }
            file.rewind()?;
            Ok(file)
        });
        let mut size = 0;
        loop {
            let part = match timeout(PAUSE_TIME, next()).await {
                Ok(Some(part)) => part?,
                Ok(None) => break,
                Err(_) => return Err(late(PAUSE_TIME, "nothing more of the backup came")),
            };
            size += part.len() as u64;
            if size > MAX_BACKUP {
                let detail = format!("a backup has at most {MAX_BACKUP} bytes");
                return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", detail));
            }
            // It takes no more if it cannot write, and says why in the end.
            if parts.send(part).await.is_err() {
                break;
            }
        }
        drop(parts);
        let file = written.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)?;
        Ok(self.backend.restore(file, who.origin()).await?)
    }
}

pub(crate) async fn backup<B: Backend>(
    State(service): State<Service<B>>,
    Extension(who): Extension<Who>,
) -> Result<Response, Failure> {
    let parts = Parts(service.backup(&who).await?);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(parts)).into_response())
}

pub(crate) async fn restore<B: Backend>(
    State(service): State<Service<B>>,
    Extension(who): Extension<Who>,
    request: Request,
) -> Result<Json<RestoreAnswer>, Failure> {
    // What a web page can send unasked is refused.
    format(request.headers())?;
    let mut body = request.into_body();
    let next = async move || Some(part(&mut body).await?.map_err(|error| Failure::bad(error.to_string())));
    service.restore(&who, next).await.map(Json)
}
