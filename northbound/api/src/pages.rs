//! Lists that are taken in parts.
//!
//! Nothing is kept for who goes on with a list: its revision is worked out again from what is there now and what has
//! changed since.

use crate::{Backend, gate::Who, lists::resources, problem::Failure, work::Gone};
use bulkhead_policy::{Kind, Resource};
use bulkhead_topology::Name;
use bulkhead_types::{Selector, key_of};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The revision that all of the list shows.
    revision: u64,
    /// The last name that was looked at.
    after: Name,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.revision, self.after)
    }
}

impl FromStr for Token {
    type Err = Failure;
    fn from_str(text: &str) -> Result<Self, Failure> {
        let parts = text
            .split_once('.')
            .and_then(|(revision, after)| Some(Self { revision: revision.parse().ok()?, after: after.parse().ok()? }));
        parts.ok_or_else(|| Failure::bad("`continue` is what an answer to the same list said, and nothing else"))
    }
}

/// A part of a list.
pub(crate) struct Page {
    /// The revision that it shows.
    pub(crate) revision: u64,
    /// In order of names, with their versions; at most as many as were asked for, and possibly none though the list goes on.
    pub(crate) items: Vec<(Resource, u64)>,
    /// Where it goes on; `None` at the end.
    pub(crate) next: Option<Token>,
}

/// A part of the list of a kind, from its beginning or from `token` on.
pub(crate) fn page<B: Backend>(
    backend: &B,
    who: &Who,
    (kind, selector): (Kind, &Selector),
    limit: usize,
    token: Option<Token>,
    gone: &Gone,
) -> Result<Page, Failure> {
    let wanted = |resource: &Resource| match resource {
        Resource::Workload(workload) => selector.matches(&workload.labels),
        _ => true,
    };
    let after = token.as_ref().map(|token| &token.after);
    // One more than wanted tells whether there are more.
    let (newest, mut items) = backend.read(|view| {
        let seen = |resource: &Resource| wanted(resource) && (who.sees_everything() || who.sees(view.state, resource));
        let found = resources(view.state, kind, after).filter(seen).take(limit.saturating_add(1));
        let items: BTreeMap<Name, (Resource, u64)> = found
            .map(|resource| {
                let key = key_of(&resource);
                let version = view.version(&key);
                (key.name, (resource, version))
            })
            .collect();
        (view.revision, items)
    });
    gone.check()?;
    let last = items.keys().next_back().cloned().filter(|_| items.len() > limit);
    let revision = token.as_ref().map_or(newest, |token| token.revision);
    if revision > newest {
        return Err(Failure::too_old(format!("there is no revision {revision} yet: begin the list anew")));
    }
    if revision < newest {
        let since = backend.changes(revision, newest).map_err(Failure::past)?;
        let within =
            |name: &Name| after.is_none_or(|after| name > after) && last.as_ref().is_none_or(|last| name <= last);
        let since = since.into_iter().filter(|change| change.key.kind == kind && within(&change.key.name));
        let since: Vec<_> = since.collect();
        backend.read(|view| {
            for change in since {
                items.remove(&change.key.name);
                if let Some(was) = change.from
                    && wanted(&was)
                    && (who.sees_everything() || who.sees(view.state, &was))
                {
                    items.insert(change.key.name, (was, change.versions.0));
                }
            }
        });
    }
    let goes_on = match items.keys().nth(limit.saturating_sub(1)).cloned() {
        // All up to the last one were looked at.
        _ if items.len() <= limit => last,
        cut => cut,
    };
    let next = goes_on.map(|after| Token { revision, after });
    Ok(Page { revision, items: items.into_values().take(limit).collect(), next })
}
