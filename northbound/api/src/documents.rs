//! Resources: get, put, delete, apply.

use crate::{
    Applied, ApplyError, Asked, Backend, Edit, Params,
    body::{SMALL, body},
    gate::{self, Who},
    plan,
    problem::Failure,
    work::Desk,
};
use axum::{
    Extension, Json,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
};
use bulkhead_policy::{Change, Key, Kind, Resource, State as Snapshot};
use bulkhead_topology::Name;
use bulkhead_types::{
    ApplyAnswer, ChangeKind, ChangeLine, Document, Format, Parsed, PlanAnswer, Severity, canonical, nearest, object,
    read, read_removals,
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

impl ChangeQuery {
    /// How the change is asked for, with who the headers say that asks.
    pub(crate) fn asked(&self, who: &Who, headers: &HeaderMap) -> Asked {
        Asked { dry_run: self.dry_run, author: who.author(headers), origin: who.origin(), newest: None }
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

pub(crate) async fn get<B: Backend>(
    State(backend): State<B>,
    Extension(who): Extension<Who>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<Object>, Failure> {
    let key = key_of(&kind, &name)?;
    let found = backend.read(|view| {
        // What he may not see is not there for him.
        let resource = view.state.get(&key).filter(|resource| who.sees(view.state, resource))?;
        Some((resource, view.version(&key)))
    });
    let none = || if who.sees_everything() { missing(&backend, &key) } else { unseen(&key) };
    let (resource, version) = found.ok_or_else(none)?;
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

/// Reads a body in one of the ways of [`bulkhead_types`].
async fn parse<R: Send + 'static>(
    desk: &Desk,
    request: Request,
    read: fn(Option<&str>, &[u8], Format) -> Parsed<R>,
) -> Result<Parsed<R>, Failure> {
    let format = format(request.headers())?;
    let body = body(request).await?;
    let places = if body.bytes().len() > SMALL { &desk.large } else { &desk.small };
    let parsed = places.run(move |_| Ok(read(None, body.bytes(), format))).await?;
    if parsed.has_errors() {
        return Err(Failure::refused(parsed.diagnostics));
    }
    Ok(parsed)
}

pub(crate) async fn apply<B: Backend>(
    State(backend): State<B>,
    Extension(desk): Extension<Desk>,
    Extension(who): Extension<Who>,
    Params(query): Params<ChangeQuery>,
    request: Request,
) -> Result<Json<ApplyAnswer>, Failure> {
    query.no_version()?;
    let asked = query.asked(&who, request.headers());
    let parsed = parse(&desk, request, read).await?;
    change(backend, &desk, &who, parsed, asked).await
}

/// `POST /v1/delete`: the mirror image of `apply`. What is not there already is as asked.
pub(crate) async fn remove<B: Backend>(
    State(backend): State<B>,
    Extension(desk): Extension<Desk>,
    Extension(who): Extension<Who>,
    Params(query): Params<ChangeQuery>,
    request: Request,
) -> Result<Json<ApplyAnswer>, Failure> {
    query.no_version()?;
    let asked = query.asked(&who, request.headers());
    let parsed = parse(&desk, request, read_removals).await?;
    let edit = |d: &Document<()>| Edit { change: Change::remove(d.key.clone()), document: None, expected: d.expected };
    let edits = parsed.documents.iter().map(edit).collect();
    submit(backend, &desk, &who, edits, parsed, asked).await
}

pub(crate) async fn put<B: Backend>(
    State(backend): State<B>,
    Extension(desk): Extension<Desk>,
    Extension(who): Extension<Who>,
    Path((kind, name)): Path<(String, String)>,
    Params(query): Params<ChangeQuery>,
    request: Request,
) -> Result<Json<ApplyAnswer>, Failure> {
    let key = key_of(&kind, &name)?;
    let asked = query.asked(&who, request.headers());
    let mut parsed = parse(&desk, request, read).await?;
    match parsed.documents.as_mut_slice() {
        [document] if document.key == key => document.expected = query.resource_version.or(document.expected),
        [document] => return Err(Failure::bad(format!("the document is {}, the address says {key}", document.key))),
        _ => return Err(Failure::bad("send exactly one document; several go to /v1/apply")),
    }
    change(backend, &desk, &who, parsed, asked).await
}

pub(crate) async fn delete<B: Backend>(
    State(backend): State<B>,
    Extension(desk): Extension<Desk>,
    Extension(who): Extension<Who>,
    Path((kind, name)): Path<(String, String)>,
    Params(query): Params<ChangeQuery>,
    headers: HeaderMap,
) -> Result<Json<ApplyAnswer>, Failure> {
    let key = key_of(&kind, &name)?;
    if !backend.read(|view| view.state.contains(&key)) {
        return Err(missing(&backend, &key));
    }
    let edit = Edit { change: Change::remove(key), document: None, expected: query.resource_version };
    submit(backend, &desk, &who, vec![edit], Parsed::<()>::default(), query.asked(&who, &headers)).await
}

/// Most documents of a change that is no large one.
const MAX_FEW: usize = 100;

/// What happened to a resource, as answers have it.
pub(crate) fn line((key, change): (Key, ChangeKind)) -> ChangeLine {
    ChangeLine { kind: kind_name(key.kind).into(), name: key.name.to_string(), change }
}

pub(crate) async fn change<B: Backend>(
    backend: B,
    desk: &Desk,
    who: &Who,
    parsed: Parsed,
    asked: Asked,
) -> Result<Json<ApplyAnswer>, Failure> {
    let places = if parsed.documents.len() > MAX_FEW { &desk.large } else { &desk.small };
    let job = move |_: &_| {
        let edits: Vec<Edit> = parsed
            .documents
            .iter()
            .map(|d| Edit {
                change: Change { key: d.key.clone(), value: Some(d.resource.clone()) },
                document: Some(canonical(&d.resource).into()),
                expected: d.expected,
            })
            .collect();
        Ok((edits, parsed))
    };
    let (edits, parsed) = places.run(job).await?;
    submit(backend, desk, who, edits, parsed, asked).await
}

/// How often a change is judged anew while others make changes in between.
const ATTEMPTS: usize = 5;

/// Has a change carried out that its author may make, on the revision on which he may.
async fn allowed<B: Backend>(
    backend: &B,
    who: &Who,
    edits: Vec<Edit>,
    asked: Asked,
) -> Result<Result<Applied, ApplyError>, Failure> {
    if who.changes_everything() {
        return Ok(backend.apply(edits, asked).await);
    }
    let mut tried = 0;
    loop {
        tried += 1;
        let judged = backend.read(|view| gate::judge(who, view, &edits))?;
        let newest = asked.newest.or(Some(judged));
        match backend.apply(edits.clone(), Asked { newest, ..asked.clone() }).await {
            // What was judged may not be so any more.
            Err(ApplyError::Moved { .. }) if asked.newest.is_none() && tried < ATTEMPTS => {}
            applied => return Ok(applied),
        }
    }
}

/// Has a change carried out, and says what came of it. `parsed` is where it was written.
pub(crate) async fn submit<B: Backend, R>(
    backend: B,
    desk: &Desk,
    who: &Who,
    edits: Vec<Edit>,
    parsed: Parsed<R>,
    asked: Asked,
) -> Result<Json<ApplyAnswer>, Failure> {
    let dry_run = asked.dry_run;
    let planned: Vec<Change> = if dry_run { edits.iter().map(|e| e.change.clone()).collect() } else { Vec::new() };
    let applied = match allowed(&backend, who, edits, asked).await? {
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
        let reachability = desk.plans.run(move |gone| plan::reachability(&backend, &planned, gone)).await?;
        Some(PlanAnswer { switches: applied.entries.unwrap_or_default(), ..reachability })
    } else {
        None
    };
    let mut changes: Vec<(Key, ChangeKind)> = applied.changes;
    changes.sort();
    let changes = changes.into_iter().map(line).collect();
    Ok(Json(ApplyAnswer { revision: applied.revision, changes, diagnostics, plan }))
}
