//! Resources: get, put, delete, apply.

use crate::{
    Applied, ApplyError, Asked, Backend, Edit, Params,
    body::{SMALL, body},
    gate::{self, Who},
    plan,
    problem::Failure,
    service::Service,
};
use axum::{
    Extension, Json,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
};
use bulkhead_hands::all_cores;
use bulkhead_policy::{Change, Key, Kind, Resource, State as Snapshot};
use bulkhead_topology::Name;
use bulkhead_types::{
    ApplyAnswer, ChangeKind, ChangeLine, Document, Format, Parsed, PlanAnswer, Severity, Stored, nearest, object,
    read_removals, read_to_store,
    v1::{KINDS, Object, kind_from, kind_name, kind_plural},
};
use serde::Deserialize;
use utoipa::IntoParams;

/// The query of a change.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChangeQuery {
    /// Check everything and tell what would change; change nothing.
    #[serde(default)]
    dry_run: bool,
    /// The version that the resource has to have; 0: it must not exist. Of a single resource only.
    pub(crate) resource_version: Option<u64>,
}

/// How a change is meant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    /// Check everything, change nothing.
    pub(crate) dry_run: bool,
    /// The version that the one resource has to have.
    pub(crate) resource_version: Option<u64>,
}

impl How {
    /// As `who` means it.
    pub(crate) fn of(who: &Who, dry_run: bool, resource_version: Option<u64>) -> Self {
        if dry_run {
            who.only_asks();
        }
        Self { dry_run, resource_version }
    }

    /// The same, with who asks.
    pub(crate) fn asked(self, who: &Who) -> Asked {
        Asked { dry_run: self.dry_run, author: who.author(), origin: who.origin(), newest: None }
    }
}

impl ChangeQuery {
    pub(crate) fn how(&self, who: &Who) -> How {
        How::of(who, self.dry_run, self.resource_version)
    }

    /// Of a change with several documents: each has its own version.
    fn no_version(&self) -> Result<(), Failure> {
        match self.resource_version {
            None => Ok(()),
            Some(_) => Err(Failure::bad("write `resourceVersion` into the documents' metadata")),
        }
    }
}

pub(crate) fn kind_of(text: &str) -> Result<Kind, Failure> {
    kind_from(text).filter(|k| kind_plural(*k) == text).ok_or_else(|| {
        let known = KINDS.map(kind_plural);
        let near = nearest(text, known).map(|n| format!("; did you mean `{n}`?"));
        Failure::not_found(format!("there is nothing at this address{}", near.unwrap_or_default()))
    })
}

pub(crate) fn key_of(kind: &str, name: &str) -> Result<Key, Failure> {
    let kind = kind_of(kind)?;
    let name: Name = name.parse().map_err(|e: bulkhead_topology::ParseError| Failure::bad(e.to_string()))?;
    Ok(Key { kind, name })
}

pub(crate) fn shown(resource: &Resource, version: u64) -> Object {
    let mut object = object(resource);
    object.metadata_mut().resource_version = Some(version);
    object
}

impl<B: Backend> Service<B> {
    /// A resource that somebody may see, with its version.
    pub(crate) fn get(&self, who: &Who, key: &Key) -> Result<(Resource, u64), Failure> {
        let found = self.backend.read(|view| {
            // What he may not see is not there for him.
            let resource = view.state.get(key).filter(|resource| who.sees(view.state, resource))?;
            Some((resource, view.version(key)))
        });
        let none = || if who.sees_everything() { missing(&self.backend, key) } else { unseen(key) };
        found.ok_or_else(none)
    }
}

pub(crate) async fn get<B: Backend>(
    State(service): State<Service<B>>,
    Extension(who): Extension<Who>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<Object>, Failure> {
    let (resource, version) = service.get(&who, &key_of(&kind, &name)?)?;
    Ok(Json(shown(&resource, version)))
}

/// The answer to somebody who does not see everything: it guesses no names.
pub(crate) fn unseen(key: &Key) -> Failure {
    Failure::not_found(format!("there is no {} `{}` within your scope", kind_name(key.kind), key.name))
}

pub(crate) fn missing<B: Backend>(backend: &B, key: &Key) -> Failure {
    let near = backend.read(|view| guess(view.state, key));
    Failure::not_found(format!("there is no {} `{}`{near}", kind_name(key.kind), key.name))
}

/// Most names that are compared with one that is not there, on either side of it in order.
const MAX_NEIGHBOURS: usize = 1000;

/// The end of a sentence about a name that is not there: what was probably meant.
pub(crate) fn guess(state: &Snapshot, key: &Key) -> String {
    let around = state.around(key, MAX_NEIGHBOURS);
    let near = nearest(key.name.as_str(), around.into_iter().map(Name::as_str));
    near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// How a body is written, by its content type.
pub(crate) fn format(headers: &HeaderMap) -> Result<Format, Failure> {
    let text = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" | "application/x-ndjson" => Ok(Format::Json),
        "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => Ok(Format::Any),
        // What a web page can send without asking (forms, plain text, nothing) is refused with the rest:
        // a page that an operator happens to visit must not be able to change the fabric.
        _ => {
            let detail = "send `Content-Type: application/yaml` or `application/json`";
            Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail))
        }
    }
}

/// Documents that are to be stored.
pub(crate) fn to_store(text: &[u8], format: Format) -> Parsed<Stored> {
    read_to_store(None, text, format, all_cores)
}

/// A text with documents.
pub(crate) trait Text: AsRef<[u8]> + Send + 'static {}

impl<T: AsRef<[u8]> + Send + 'static> Text for T {}

impl<B: Backend> Service<B> {
    /// Reads documents in one of the ways of [`bulkhead_types`].
    async fn parse<R: Send + 'static>(
        &self,
        text: impl Text,
        format: Format,
        read: fn(&[u8], Format) -> Parsed<R>,
    ) -> Result<Parsed<R>, Failure> {
        let places = if text.as_ref().len() > SMALL { &self.desk.large } else { &self.desk.small };
        let parsed = places.run(move |_| Ok(read(text.as_ref(), format))).await?;
        if parsed.has_errors() {
            return Err(Failure::refused(parsed.diagnostics));
        }
        Ok(parsed)
    }

    /// Creates and changes resources.
    pub(crate) async fn apply(
        &self,
        who: &Who,
        text: impl Text,
        format: Format,
        how: How,
    ) -> Result<ApplyAnswer, Failure> {
        let parsed = self.parse(text, format, to_store).await?;
        self.change(who, parsed, how.asked(who)).await
    }

    /// Removes resources. What is not there already is as asked.
    pub(crate) async fn remove(
        &self,
        who: &Who,
        text: impl Text,
        format: Format,
        how: How,
    ) -> Result<ApplyAnswer, Failure> {
        let parsed = self.parse(text, format, |text, format| read_removals(None, text, format, all_cores)).await?;
        let edit =
            |d: &Document<()>| Edit { change: Change::remove(d.key.clone()), document: None, expected: d.expected };
        let edits = parsed.documents.iter().map(edit).collect();
        self.submit(who, edits, parsed, how.asked(who)).await
    }

    /// Creates or replaces one resource.
    pub(crate) async fn put(
        &self,
        who: &Who,
        key: Key,
        text: impl Text,
        format: Format,
        how: How,
    ) -> Result<ApplyAnswer, Failure> {
        who.tries([&key].into_iter());
        let mut parsed = self.parse(text, format, to_store).await?;
        match parsed.documents.as_mut_slice() {
            [document] if document.key == key => document.expected = how.resource_version.or(document.expected),
            [document] => {
                return Err(Failure::bad(format!("the document is {}, what is asked says {key}", document.key)));
            }
            _ => return Err(Failure::bad("send exactly one document; several are applied")),
        }
        self.change(who, parsed, how.asked(who)).await
    }

    /// Removes one resource, which is there.
    pub(crate) async fn delete(&self, who: &Who, key: Key, how: How) -> Result<ApplyAnswer, Failure> {
        who.tries([&key].into_iter());
        if !self.backend.read(|view| view.state.contains(&key)) {
            return Err(missing(&self.backend, &key));
        }
        let edit = Edit { change: Change::remove(key), document: None, expected: how.resource_version };
        self.submit(who, vec![edit], Parsed::<()>::default(), how.asked(who)).await
    }
}

pub(crate) async fn apply<B: Backend>(
    State(service): State<Service<B>>,
    Extension(who): Extension<Who>,
    Params(query): Params<ChangeQuery>,
    request: Request,
) -> Result<Json<ApplyAnswer>, Failure> {
    let how = query.how(&who);
    query.no_version()?;
    let format = format(request.headers())?;
    service.apply(&who, body(request).await?, format, how).await.map(Json)
}

pub(crate) async fn remove<B: Backend>(
    State(service): State<Service<B>>,
    Extension(who): Extension<Who>,
    Params(query): Params<ChangeQuery>,
    request: Request,
) -> Result<Json<ApplyAnswer>, Failure> {
    let how = query.how(&who);
    query.no_version()?;
    let format = format(request.headers())?;
    service.remove(&who, body(request).await?, format, how).await.map(Json)
}

pub(crate) async fn put<B: Backend>(
    State(service): State<Service<B>>,
    Extension(who): Extension<Who>,
    Path((kind, name)): Path<(String, String)>,
    Params(query): Params<ChangeQuery>,
    request: Request,
) -> Result<Json<ApplyAnswer>, Failure> {
    let how = query.how(&who);
    let key = key_of(&kind, &name)?;
    let format = format(request.headers())?;
    service.put(&who, key, body(request).await?, format, how).await.map(Json)
}

pub(crate) async fn delete<B: Backend>(
    State(service): State<Service<B>>,
    Extension(who): Extension<Who>,
    Path((kind, name)): Path<(String, String)>,
    Params(query): Params<ChangeQuery>,
) -> Result<Json<ApplyAnswer>, Failure> {
    let how = query.how(&who);
    service.delete(&who, key_of(&kind, &name)?, how).await.map(Json)
}

/// Most documents of a change that is no large one.
const MAX_FEW: usize = 100;

/// What happened to a resource, as answers have it.
pub(crate) fn line((key, change): (Key, ChangeKind)) -> ChangeLine {
    ChangeLine { kind: kind_name(key.kind).into(), name: key.name.to_string(), change }
}

/// How often a change is judged anew while others make changes in between.
const ATTEMPTS: usize = 5;

impl<B: Backend> Service<B> {
    /// Has resources created and changed.
    pub(crate) async fn change(&self, who: &Who, parsed: Parsed<Stored>, asked: Asked) -> Result<ApplyAnswer, Failure> {
        let places = if parsed.documents.len() > MAX_FEW { &self.desk.large } else { &self.desk.small };
        let job = move |_: &_| {
            let edits: Vec<Edit> = parsed
                .documents
                .iter()
                .map(|d| Edit {
                    change: Change { key: d.key.clone(), value: Some(d.resource.resource.clone()) },
                    document: Some(d.resource.document.clone()),
                    expected: d.expected,
                })
                .collect();
            Ok((edits, parsed))
        };
        let (edits, parsed) = places.run(job).await?;
        self.submit(who, edits, parsed, asked).await
    }

    /// Has a change carried out that its author may make, on the revision on which he may.
    async fn allowed(&self, who: &Who, edits: Vec<Edit>, asked: Asked) -> Result<Result<Applied, ApplyError>, Failure> {
        if who.changes_everything() {
            return Ok(self.backend.apply(edits, asked).await);
        }
        let mut tried = 0;
        loop {
            tried += 1;
            let judged = self.backend.read(|view| gate::judge(who, view, &edits))?;
            let newest = asked.newest.or(Some(judged));
            match self.backend.apply(edits.clone(), Asked { newest, ..asked.clone() }).await {
                // What was judged may not be so any more.
                Err(ApplyError::Moved { .. }) if asked.newest.is_none() && tried < ATTEMPTS => {}
                applied => return Ok(applied),
            }
        }
    }

    /// Has a change carried out, and says what came of it. `parsed` is where it was written.
    pub(crate) async fn submit<R>(
        &self,
        who: &Who,
        edits: Vec<Edit>,
        parsed: Parsed<R>,
        asked: Asked,
    ) -> Result<ApplyAnswer, Failure> {
        who.tries(edits.iter().map(|edit| &edit.change.key));
        let dry_run = asked.dry_run;
        let planned: Vec<Change> = if dry_run { edits.iter().map(|e| e.change.clone()).collect() } else { Vec::new() };
        let applied = match self.allowed(who, edits, asked).await? {
            Ok(applied) => applied,
            Err(error) => {
                let mut failure = Failure::from(error);
                failure.locate(&parsed);
                return Err(failure);
            }
        };
        let mut diagnostics = parsed.diagnostics.clone();
        diagnostics.extend(parsed.locate(applied.diagnostics.into_iter().map(Into::into)));
        debug_assert!(diagnostics.iter().all(|d| d.severity == Severity::Warning));
        let plan = if dry_run {
            let backend = self.backend.clone();
            let reachability = self.desk.plans.run(move |gone| plan::reachability(&backend, &planned, gone)).await?;
            Some(PlanAnswer { switches: applied.entries.unwrap_or_default(), ..reachability })
        } else {
            None
        };
        let mut changes: Vec<(Key, ChangeKind)> = applied.changes;
        changes.sort();
        let changes = changes.into_iter().map(line).collect();
        Ok(ApplyAnswer { revision: applied.revision, changes, diagnostics, plan })
    }
}
