//! Resources, and changes of them.

use super::{Grpc, size, told, who};
use crate::{
    Backend, Peer,
    connections::Ending,
    documents::{How, shown},
    gate::Who,
    lists::selected,
    pages::Page,
    places::Turn,
    problem::Failure,
    watch::{Filter, Form, Listener, Told},
};
use bulkhead_policy::{Key, Kind, Resource};
use bulkhead_proto::v1::{self, resources_server::Resources};
use bulkhead_topology::Name;
use bulkhead_types::{
    ChangeKind, Format, key_of,
    v1::{KINDS, kind_from, kind_name},
};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

/// Bytes of documents after which an answer about changes is handed on.
const FRAME: usize = 32 << 10;

fn kind(text: &str) -> Result<Kind, Failure> {
    kind_from(text).ok_or_else(|| Failure::bad(format!("kinds are {}", KINDS.map(kind_name).join(", "))))
}

fn key(of: &str, name: &str) -> Result<Key, Failure> {
    let name: Name = name.parse().map_err(|e: bulkhead_topology::ParseError| Failure::bad(e.to_string()))?;
    Ok(Key { kind: kind(of)?, name })
}

/// A resource as a message.
fn resource(resource: &Resource, version: u64) -> v1::Resource {
    let key = key_of(resource);
    let object = shown(resource, version);
    v1::Resource {
        kind: kind_name(key.kind).into(),
        name: key.name.to_string(),
        labels: object.metadata().labels.clone().unwrap_or_default(),
        resource_version: version,
        // Plain structs with text keys cannot fail to serialize.
        document: serde_json::to_string(&object).unwrap_or_default(),
    }
}

fn list(page: &Page) -> Result<v1::ListAnswer, Failure> {
    let next = page.next.as_ref().map(ToString::to_string).unwrap_or_default();
    let items = page.items.iter().map(|(item, version)| resource(item, *version)).collect();
    Ok(v1::ListAnswer { revision: page.revision, items, r#continue: next })
}

#[tonic::async_trait]
impl<B: Backend> Resources for Grpc<B> {
    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Resource>, Status> {
        let who = who(&request)?;
        let asked = request.into_inner();
        let (found, version) = self.0.get(&who, &key(&asked.kind, &asked.name)?)?;
        Ok(Response::new(resource(&found, version)))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListAnswer>, Status> {
        let who = who(&request)?;
        let asked = request.into_inner();
        let kind = kind(&asked.kind)?;
        let selector = selected(kind, &asked.label_selector)?;
        let from = Some(asked.r#continue.as_str()).filter(|from| !from.is_empty());
        Ok(Response::new(self.0.page(&who, (kind, selector), asked.limit.map(size), from, list).await?))
    }

    async fn put(&self, request: Request<v1::PutRequest>) -> Result<Response<v1::ChangeAnswer>, Status> {
        let who = who(&request)?;
        let v1::PutRequest { kind, name, document, dry_run, resource_version } = request.into_inner();
        let how = How::of(&who, dry_run, resource_version);
        told(self.0.put(&who, key(&kind, &name)?, document, Format::Any, how).await)
    }

    async fn patch(&self, request: Request<v1::PatchRequest>) -> Result<Response<v1::ChangeAnswer>, Status> {
        let who = who(&request)?;
        let v1::PatchRequest { kind, name, patch, dry_run, resource_version } = request.into_inner();
        let how = How::of(&who, dry_run, resource_version);
        told(self.0.patch(&who, key(&kind, &name)?, patch, how).await)
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::ChangeAnswer>, Status> {
        let who = who(&request)?;
        let v1::DeleteRequest { kind, name, dry_run, resource_version } = request.into_inner();
        let how = How::of(&who, dry_run, resource_version);
        told(self.0.delete(&who, key(&kind, &name)?, how).await)
    }

    async fn apply(&self, request: Request<v1::DocumentsRequest>) -> Result<Response<v1::ChangeAnswer>, Status> {
        let who = who(&request)?;
        let v1::DocumentsRequest { documents, dry_run } = request.into_inner();
        told(self.0.apply(&who, documents, Format::Any, How::of(&who, dry_run, None)).await)
    }

    async fn remove(&self, request: Request<v1::DocumentsRequest>) -> Result<Response<v1::ChangeAnswer>, Status> {
        let who = who(&request)?;
        let v1::DocumentsRequest { documents, dry_run } = request.into_inner();
        told(self.0.remove(&who, documents, Format::Any, How::of(&who, dry_run, None)).await)
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchAnswer, Status>> + Send>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let who: Who = who(&request)?;
        let extensions = request.extensions();
        let turn: Option<Arc<Turn>> = extensions.get().cloned();
        let (peer, ending) = (extensions.get::<Peer>().cloned(), extensions.get::<Ending>().cloned());
        let headers = request.metadata().clone().into_headers();
        let v1::WatchRequest { since, kinds, label_selector } = request.into_inner();
        let filter = Filter::of(kinds.iter().map(String::as_str), &label_selector)?;
        let waiting = self.0.watch::<Changes>(Listener { who, headers, peer, ending }, filter, since).await?;
        Ok(Response::new(Box::pin(Waiting { waiting, turn })))
    }
}

/// Changes of one batch. Only the last answer says where the stream is: who is cut off before is told the whole batch again.
#[derive(Default)]
struct Changes {
    events: Vec<v1::WatchEvent>,
    bytes: usize,
}

impl Form for Changes {
    type Frame = Result<v1::WatchAnswer, Status>;

    fn alive(at: u64) -> Self::Frame {
        Ok(v1::WatchAnswer { at: Some(at), events: Vec::new() })
    }

    fn push(&mut self, change: Told<'_>) -> Option<Self::Frame> {
        let full = self.bytes >= FRAME;
        let before = if full { std::mem::take(self).events } else { Vec::new() };
        let kind = match change.change {
            ChangeKind::Created => v1::ChangeKind::Created,
            ChangeKind::Updated => v1::ChangeKind::Updated,
            ChangeKind::Deleted => v1::ChangeKind::Deleted,
            ChangeKind::Unchanged => v1::ChangeKind::Unchanged,
        };
        let resource = resource(change.resource, change.version);
        self.bytes += resource.document.len();
        let event = v1::WatchEvent { revision: change.revision, change: kind.into(), resource: Some(resource) };
        self.events.push(event);
        full.then_some(Ok(v1::WatchAnswer { at: None, events: before }))
    }

    fn end(self, at: u64) -> Option<Self::Frame> {
        (!self.events.is_empty()).then_some(Ok(v1::WatchAnswer { at: Some(at), events: self.events }))
    }

    fn last(failure: Failure) -> Self::Frame {
        Err(failure.into())
    }
}

/// What a client has not taken yet.
struct Waiting {
    waiting: mpsc::Receiver<Result<v1::WatchAnswer, Status>>,
    turn: Option<Arc<Turn>>,
}

impl Stream for Waiting {
    type Item = Result<v1::WatchAnswer, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.waiting.poll_recv(cx);
        if let Some(turn) = &self.turn {
            // With nothing to take, it is the controller that is waited for.
            if polled.is_pending() { turn.work() } else { turn.rest() }
        }
        polled
    }
}
