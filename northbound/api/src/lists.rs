//! Lists of resources.

use crate::{
    Backend, Params, View,
    documents::{kind_of, shown},
    gate::Who,
    problem::Failure,
    work::{Desk, Gone, Written},
};
use axum::{
    Extension,
    body::Bytes,
    extract::{Path, State},
};
use bulkhead_policy::{Kind, Resource, State as Snapshot, model::Workload};
use bulkhead_types::{SeenAttachment, Selector, parse_selector};
use serde::{Deserialize, Serialize, Serializer};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// A list of resources.
#[derive(Serialize)]
struct List<'a> {
    /// The revision that it shows.
    revision: u64,
    items: Items<'a>,
}

/// Resources with their versions, made documents one by one: all of them at once would be several times the answer.
struct Items<'a>(&'a [(Resource, u64)]);

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(resource, version)| shown(resource, *version)))
    }
}

/// The query of a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ListQuery {
    label_selector: Option<String>,
}

/// Whole lists that some client has not taken all of yet, with their revision: others are given the same bytes, so
/// that a crowd that reads slowly costs the memory of one list.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<ByKind>>);

/// Revision and bytes of the newest list of each kind.
type ByKind = BTreeMap<Kind, (u64, Weak<Bytes>)>;

/// A list that is there as long as somebody has it.
struct Owner(Arc<Bytes>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Shared {
    /// The list of this revision, if somebody still has it.
    fn find(&self, kind: Kind, revision: u64) -> Option<Arc<Bytes>> {
        let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (found, list) = lists.get(&kind)?;
        if *found == revision { list.upgrade() } else { None }
    }

    fn keep(&self, kind: Kind, revision: u64, list: &Arc<Bytes>) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.insert(kind, (revision, Arc::downgrade(list)));
    }
}

pub(crate) async fn list<B: Backend>(
    State(backend): State<B>,
    Extension(desk): Extension<Desk>,
    Extension(shared): Extension<Shared>,
    Extension(who): Extension<Who>,
    Path(kind): Path<String>,
    query: Result<Params<ListQuery>, Failure>,
) -> Result<Written, Failure> {
    // An address that does not exist is worse than a parameter that does not.
    let kind = kind_of(&kind)?;
    let Params(query) = query?;
    let text = query.label_selector.unwrap_or_default();
    let selector = parse_selector(&text).map_err(|e| Failure::bad(e.to_string()))?;
    let selected = !selector.requirements().is_empty();
    if kind != Kind::Workload && selected {
        return Err(Failure::bad("only workloads have labels to select by"));
    }
    // What everybody sees is written once for all.
    let whole = !selected && who.sees_everything();
    let job = move |gone: &Gone| {
        let look = |view: View<'_>| match shared.find(kind, view.revision) {
            Some(list) if whole => Err(list),
            _ => {
                let mut found = listed(view, kind, &selector);
                found.retain(|(resource, _)| who.sees_everything() || who.sees(view.state, resource));
                Ok((view.revision, found))
            }
        };
        let (revision, found) = match backend.read(look) {
            Ok(found) => found,
            Err(list) => return Ok(Written(Bytes::from_owner(Owner(list)))),
        };
        gone.check()?;
        // The documents are written after the look: writers do not wait for that.
        let written = Written::json(&List { revision, items: Items(&found) })?;
        if !whole {
            return Ok(written);
        }
        let list = Arc::new(written.0);
        shared.keep(kind, revision, &list);
        Ok(Written(Bytes::from_owner(Owner(list))))
    };
    desk.lists.run(job).await
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
        Kind::Adjacency => state.adjacencies.values().cloned().map(Resource::Adjacency).collect(),
    };
    let versioned = |resource: Resource| {
        let version = view.version(&bulkhead_types::key_of(&resource));
        (resource, version)
    };
    found.into_iter().map(versioned).collect()
}

/// The query of `/v1/attachments`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttachmentsQuery {
    workload: Option<String>,
}

/// `GET /v1/attachments`: where interfaces are plugged in whose documents do not say.
pub(crate) async fn attachments<B: Backend>(
    State(backend): State<B>,
    Extension(desk): Extension<Desk>,
    Params(query): Params<AttachmentsQuery>,
) -> Result<Written, Failure> {
    let job = move |gone: &Gone| {
        let look = |view: View<'_>| match &query.workload {
            None => Some(seen(view.state, view.state.workloads.values().map(AsRef::as_ref))),
            Some(name) => Some(seen(view.state, [view.state.workloads.get(name.as_str())?.as_ref()])),
        };
        let found = backend.read(look).ok_or_else(|| Failure::not_found("there is no workload of this name"))?;
        gone.check()?;
        Written::json(&found)
    };
    desk.lists.run(job).await
}

fn seen<'a>(state: &Snapshot, workloads: impl IntoIterator<Item = &'a Workload>) -> Vec<SeenAttachment> {
    let interfaces = workloads.into_iter().flat_map(|w| w.interfaces.iter().map(move |interface| (w, interface)));
    let open = interfaces.filter(|(_, interface)| interface.attachment.is_none());
    let found = |(workload, interface)| {
        let at = state.attachment(workload, interface)?;
        Some(SeenAttachment {
            workload: workload.name.to_string(),
            mac: interface.mac.to_string(),
            switch: at.switch.to_string(),
            port: at.port.to_string(),
        })
    };
    open.filter_map(found).collect()
}
