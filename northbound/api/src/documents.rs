//! Resources: list, get, put, delete, apply.

use crate::{
    Backend, Edit, Params, View, plan,
    problem::Failure,
    serve::{Whole, blocking, body},
};
use axum::{
    Json,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
};
use bulkhead_policy::{Change, Key, Kind, Resource, State as Snapshot};
use bulkhead_topology::Name;
use bulkhead_types::{
    ApplyAnswer, ChangeKind, ChangeLine, Document, Format, Parsed, PlanAnswer, Selector, Severity, canonical, nearest,
    object, parse_selector, read, read_removals,
    v1::{KINDS, Object, kind_from, kind_name, kind_plural},
};
use serde::{Deserialize, Serialize};

/// A list of resources.
#[derive(Serialize)]
pub(crate) struct List {
    /// The revision that it shows.
    revision: u64,
    items: Vec<Object>,
}

/// The query of a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ListQuery {
    label_selector: Option<String>,
}

/// The query of a change.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ChangeQuery {
    #[serde(default)]
    dry_run: bool,
    resource_version: Option<u64>,
}

impl ChangeQuery {
    /// Of a change with several documents: each has its own version.
    fn no_version(&self) -> Result<(), Failure> {
        match self.resource_version {
            None => Ok(()),
            Some(_) => Err(Failure::bad("write `resourceVersion` into the documents' metadata")),
        }
    }
}

fn kind_of(text: &str) -> Result<Kind, Failure> {
    kind_from(text).filter(|k| kind_plural(*k) == text).ok_or_else(|| {
        let known = KINDS.map(kind_plural);
        let near = nearest(text, known).map(|n| format!("; did you mean `{n}`?"));
        Failure::not_found(format!("there is nothing at this address{}", near.unwrap_or_default()))
    })
}

fn key_of(kind: &str, name: &str) -> Result<Key, Failure> {
    let kind = kind_of(kind)?;
    let name: Name = name.parse().map_err(|e: bulkhead_topology::ParseError| Failure::bad(e.to_string()))?;
    Ok(Key { kind, name })
}

fn shown(resource: &Resource, version: u64) -> Object {
    let mut object = object(resource);
    object.metadata_mut().resource_version = Some(version);
    object
}

pub(crate) async fn list<B: Backend>(
    State(backend): State<B>,
    Path(kind): Path<String>,
    query: Result<Params<ListQuery>, Failure>,
) -> Result<Json<List>, Failure> {
    // An address that does not exist is worse than a parameter that does not.
    let kind = kind_of(&kind)?;
    let Params(query) = query?;
    let text = query.label_selector.unwrap_or_default();
    let selector = parse_selector(&text).map_err(|e| Failure::bad(e.to_string()))?;
    if kind != Kind::Workload && !selector.requirements().is_empty() {
        return Err(Failure::bad("only workloads have labels to select by"));
    }
    blocking(move || {
        // The documents are written after the look: writers do not wait for that.
        let (revision, found) = backend.read(|view| (view.revision, listed(view, kind, &selector)));
        let items = found.iter().map(|(resource, version)| shown(resource, *version)).collect();
        Ok(Json(List { revision, items }))
    })
    .await
}

/// The resources of a kind that are selected, with their versions.
fn listed(view: View<'_>, kind: Kind, selector: &Selector) -> Vec<(Resource, u64)> {
    let state = view.state;
    let found: Vec<Resource> = match kind {
        Kind::Network => state.networks.values().cloned().map(Resource::Network).collect(),
        Kind::Switch => state.switches.values().cloned().map(Resource::Switch).collect(),
        Kind::AddressSet => state.address_sets.values().cloned().map(Resource::AddressSet).collect(),
        Kind::Workload => {
            let selected = state.workloads.values().filter(|w| selector.matches(&w.labels));
            selected.cloned().map(Resource::Workload).collect()
        }
        Kind::Zone => state.zones.values().cloned().map(Resource::Zone).collect(),
        Kind::Policy => state.policies.values().cloned().map(Resource::Policy).collect(),
        Kind::Link => state.links.values().cloned().map(Resource::Link).collect(),
        Kind::Host => state.hosts.values().cloned().map(Resource::Host).collect(),
    };
    let versioned = |resource: Resource| {
        let version = view.version(&bulkhead_types::key_of(&resource));
        (resource, version)
    };
    found.into_iter().map(versioned).collect()
}

pub(crate) async fn get<B: Backend>(
    State(backend): State<B>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<Object>, Failure> {
    let key = key_of(&kind, &name)?;
    let found = backend.read(|view| Some((view.state.get(&key)?, view.version(&key))));
    let (resource, version) = found.ok_or_else(|| missing(&backend, &key))?;
    Ok(Json(shown(&resource, version)))
}

fn missing<B: Backend>(backend: &B, key: &Key) -> Failure {
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
fn format(headers: &HeaderMap) -> Result<Format, Failure> {
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
    request: Request,
    read: fn(Option<&str>, &[u8], Format) -> Parsed<R>,
) -> Result<Parsed<R>, Failure> {
    let format = format(request.headers())?;
    let Whole { bytes, place } = body(request).await?;
    let parsed = blocking(move || {
        let parsed = read(None, &bytes, format);
        drop((bytes, place));
        Ok(parsed)
    })
    .await?;
    if parsed.has_errors() {
        return Err(Failure::refused(parsed.diagnostics));
    }
    Ok(parsed)
}

pub(crate) async fn apply<B: Backend>(
    State(backend): State<B>,
    Params(query): Params<ChangeQuery>,
    request: Request,
) -> Result<Json<ApplyAnswer>, Failure> {
    query.no_version()?;
    let parsed = parse(request, read).await?;
    change(backend, parsed, query.dry_run).await
}

/// `POST /v1/delete`: the mirror image of `apply`. What is not there already is as asked.
pub(crate) async fn remove<B: Backend>(
    State(backend): State<B>,
    Params(query): Params<ChangeQuery>,
    request: Request,
) -> Result<Json<ApplyAnswer>, Failure> {
    query.no_version()?;
    let parsed = parse(request, read_removals).await?;
    let edit = |d: &Document<()>| Edit { change: Change::remove(d.key.clone()), document: None, expected: d.expected };
    let edits = parsed.documents.iter().map(edit).collect();
    submit(backend, edits, parsed, query.dry_run).await
}

pub(crate) async fn put<B: Backend>(
    State(backend): State<B>,
    Path((kind, name)): Path<(String, String)>,
    Params(query): Params<ChangeQuery>,
    request: Request,
) -> Result<Json<ApplyAnswer>, Failure> {
    let key = key_of(&kind, &name)?;
    let mut parsed = parse(request, read).await?;
    match parsed.documents.as_mut_slice() {
        [document] if document.key == key => document.expected = query.resource_version.or(document.expected),
        [document] => return Err(Failure::bad(format!("the document is {}, the address says {key}", document.key))),
        _ => return Err(Failure::bad("send exactly one document; several go to /v1/apply")),
    }
    change(backend, parsed, query.dry_run).await
}

pub(crate) async fn delete<B: Backend>(
    State(backend): State<B>,
    Path((kind, name)): Path<(String, String)>,
    Params(query): Params<ChangeQuery>,
) -> Result<Json<ApplyAnswer>, Failure> {
    let key = key_of(&kind, &name)?;
    if !backend.read(|view| view.state.contains(&key)) {
        return Err(missing(&backend, &key));
    }
    let edit = Edit { change: Change::remove(key), document: None, expected: query.resource_version };
    submit(backend, vec![edit], Parsed::<()>::default(), query.dry_run).await
}

async fn change<B: Backend>(backend: B, parsed: Parsed, dry_run: bool) -> Result<Json<ApplyAnswer>, Failure> {
    let (edits, parsed) = blocking(move || {
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
    })
    .await?;
    submit(backend, edits, parsed, dry_run).await
}

async fn submit<B: Backend, R>(
    backend: B,
    edits: Vec<Edit>,
    parsed: Parsed<R>,
    dry_run: bool,
) -> Result<Json<ApplyAnswer>, Failure> {
    let planned: Vec<Change> = if dry_run { edits.iter().map(|e| e.change.clone()).collect() } else { Vec::new() };
    let applied = match backend.apply(edits, dry_run).await {
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
        let reachability = blocking(move || Ok(plan::reachability(&backend, &planned))).await?;
        Some(PlanAnswer { switches: applied.entries.unwrap_or_default(), ..reachability })
    } else {
        None
    };
    let mut changes: Vec<(Key, ChangeKind)> = applied.changes;
    changes.sort();
    let line = |(key, change): (Key, ChangeKind)| ChangeLine {
        kind: kind_name(key.kind).into(),
        name: key.name.to_string(),
        change,
    };
    let changes = changes.into_iter().map(line).collect();
    Ok(Json(ApplyAnswer { revision: applied.revision, changes, diagnostics, plan }))
}
