//! Lists of resources.

use crate::{
    Backend, Params, View,
    documents::{kind_of, shown},
    gate::Who,
    pages::{Page, page},
    problem::Failure,
    service::Service,
    work::{Gone, Written},
};
use axum::{
    Extension,
    body::Bytes,
    extract::{Path, State},
};
use bulkhead_policy::{Kind, Resource, State as Snapshot, model::Workload};
use bulkhead_topology::Name;
use bulkhead_types::{SeenAttachment, Selector, parse_selector};
use serde::{Deserialize, Serialize, Serializer};
use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use utoipa::IntoParams;

/// Resources of a part of a list, if nobody says how many.
const PAGE: usize = 500;

/// A list of resources.
#[derive(Serialize)]
struct List<'a> {
    /// The revision that it shows.
    revision: u64,
    items: Items<'a>,
    /// What to ask with for what comes next.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Resources with their versions, made documents one by one: all of them at once would be several times the answer.
struct Items<'a>(&'a [(Resource, u64)]);

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(resource, version)| shown(resource, *version)))
    }
}

/// The query of a list.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Labels that workloads have to have, as in `app=shop,tier in (web,app),!legacy`; workloads only.
    label_selector: Option<String>,
    /// Most resources of a part of the list, 1 at the least; 500 if the list is gone on with.
    limit: Option<usize>,
    /// What the part before said in `continue`.
    #[serde(rename = "continue")]
    next: Option<String>,
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

/// What is wanted of a list.
pub(crate) fn selected(kind: Kind, selector: &str) -> Result<Selector, Failure> {
    let selector = parse_selector(selector).map_err(|e| Failure::bad(e.to_string()))?;
    if kind != Kind::Workload && !selector.requirements().is_empty() {
        return Err(Failure::bad("only workloads have labels to select by"));
    }
    Ok(selector)
}

impl<B: Backend> Service<B> {
    /// A part of a list, from its beginning or from where the part before said.
    pub(crate) async fn page<W: Send + 'static>(
        &self,
        who: &Who,
        (kind, selector): (Kind, Selector),
        limit: Option<usize>,
        from: Option<&str>,
        write: fn(&Page) -> Result<W, Failure>,
    ) -> Result<W, Failure> {
        let limit = limit.unwrap_or(PAGE);
        if limit == 0 {
            return Err(Failure::bad("`limit` is 1 at the least"));
        }
        let token = from.map(str::parse).transpose()?;
        let (backend, who) = (self.backend.clone(), who.clone());
        let job = move |gone: &Gone| write(&page(&backend, &who, (kind, &selector), limit, token, gone)?);
        self.desk.lists.run(job).await
    }

    /// Where interfaces are plugged in whose documents do not say: one workload's, or all.
    pub(crate) async fn attachments<W: Send + 'static>(
        &self,
        workload: Option<String>,
        write: fn(Vec<SeenAttachment>) -> Result<W, Failure>,
    ) -> Result<W, Failure> {
        let backend = self.backend.clone();
        let job = move |gone: &Gone| {
            let look = |view: View<'_>| match &workload {
                None => Some(seen(view.state, view.state.workloads.values().map(AsRef::as_ref))),
                Some(name) => Some(seen(view.state, [view.state.workloads.get(name.as_str())?.as_ref()])),
            };
            let found = backend.read(look).ok_or_else(|| Failure::not_found("there is no workload of this name"))?;
            gone.check()?;
            write(found)
        };
        self.desk.lists.run(job).await
    }
}

pub(crate) async fn list<B: Backend>(
    State(service): State<Service<B>>,
    Extension(who): Extension<Who>,
    Path(kind): Path<String>,
    query: Result<Params<ListQuery>, Failure>,
) -> Result<Written, Failure> {
    // An address that does not exist is worse than a parameter that does not.
    let kind = kind_of(&kind)?;
    let Params(query) = query?;
    let selector = selected(kind, &query.label_selector.unwrap_or_default())?;
    if query.limit.is_some() || query.next.is_some() {
        let write = |page: &Page| {
            let next = page.next.as_ref().map(ToString::to_string);
            Written::json(&List { revision: page.revision, items: Items(&page.items), next })
        };
        return service.page(&who, (kind, selector), query.limit, query.next.as_deref(), write).await;
    }
    // What everybody sees is written once for all.
    let whole = selector.requirements().is_empty() && who.sees_everything();
    let Service { backend, desk, shared, .. } = service;
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
        let written = Written::json(&List { revision, items: Items(&found), next: None })?;
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
    let selected = resources(view.state, kind, None).filter(|resource| match resource {
        Resource::Workload(workload) => selector.matches(&workload.labels),
        _ => true,
    });
    let versioned = |resource: Resource| {
        let version = view.version(&bulkhead_types::key_of(&resource));
        (resource, version)
    };
    selected.map(versioned).collect()
}

/// The resources of a kind, in order of names, behind one of them or from the first.
pub(crate) fn resources<'a>(
    state: &'a Snapshot,
    kind: Kind,
    after: Option<&Name>,
) -> Box<dyn Iterator<Item = Resource> + 'a> {
    fn of<'a, V>(
        map: &'a BTreeMap<Name, Arc<V>>,
        after: Option<&Name>,
        make: fn(Arc<V>) -> Resource,
    ) -> Box<dyn Iterator<Item = Resource> + 'a> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Box::new(map.range::<Name, _>((from, Bound::Unbounded)).map(move |(_, value)| make(value.clone())))
    }
    match kind {
        Kind::Network => of(&state.networks, after, Resource::Network),
        Kind::Switch => of(&state.switches, after, Resource::Switch),
        Kind::AddressSet => of(&state.address_sets, after, Resource::AddressSet),
        Kind::Workload => of(&state.workloads, after, Resource::Workload),
        Kind::Zone => of(&state.zones, after, Resource::Zone),
        Kind::Policy => of(&state.policies, after, Resource::Policy),
        Kind::Link => of(&state.links, after, Resource::Link),
        Kind::Host => of(&state.hosts, after, Resource::Host),
        Kind::Adjacency => of(&state.adjacencies, after, Resource::Adjacency),
    }
}

/// The query of `/v1/attachments`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AttachmentsQuery {
    /// The workload; all of them if left out.
    workload: Option<String>,
}

pub(crate) async fn attachments<B: Backend>(
    State(service): State<Service<B>>,
    Params(query): Params<AttachmentsQuery>,
) -> Result<Written, Failure> {
    service.attachments(query.workload, |found| Written::json(&found)).await
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
