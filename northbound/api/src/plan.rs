//! What a change would do to who reaches whom.

use crate::{Backend, flow};
use bulkhead_policy::{Change, State};
use bulkhead_topology::Name;
use bulkhead_types::{MatrixRow, ServiceText, Verdict};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Most workloads of a fabric whose pairs are compared: a plan is to answer while somebody waits.
const MAX_WORKLOADS: usize = 200;
/// Most services that pairs are compared by.
const MAX_SERVICES: usize = 32;
/// Longest that the comparison may take.
const MAX_TIME: Duration = Duration::from_secs(5);
/// Most pairs that are listed of each kind.
const MAX_ROWS: usize = 1000;

/// Pairs gained and lost by `changes`, and why the lists are not complete (empty if they are).
pub(crate) fn reachability<B: Backend>(backend: &B, changes: &[Change]) -> (Vec<MatrixRow>, Vec<MatrixRow>, String) {
    let few = |state: &State| state.workloads.len() <= MAX_WORKLOADS;
    let Some(before) = backend.read(|state| few(state).then(|| state.clone())) else {
        let text = format!("reachability is compared up to {MAX_WORKLOADS} workloads; ask `reach` about single pairs");
        return (Vec::new(), Vec::new(), text);
    };
    let mut after = before.clone();
    after.apply(changes);
    if !few(&after) {
        let text = format!("reachability is compared up to {MAX_WORKLOADS} workloads; the change adds more");
        return (Vec::new(), Vec::new(), text);
    }
    compare(&before, &after)
}

fn compare(before: &State, after: &State) -> (Vec<MatrixRow>, Vec<MatrixRow>, String) {
    let mut incomplete = String::new();
    let services: BTreeSet<ServiceText> =
        flow::known_services(before).union(&flow::known_services(after)).copied().collect();
    if services.len() > MAX_SERVICES {
        incomplete = format!("{MAX_SERVICES} of {} services are compared", services.len());
    }
    let services: Vec<ServiceText> = services.into_iter().take(MAX_SERVICES).collect();
    let names: BTreeSet<&Name> = before.workloads.keys().chain(after.workloads.keys()).collect();
    let names: Vec<Name> = names.into_iter().cloned().collect();
    let (mut gained, mut lost) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for from in &names {
        if began.elapsed() > MAX_TIME {
            incomplete = format!("the comparison took longer than {} s", MAX_TIME.as_secs());
            break;
        }
        let allowed = |state: &State| -> BTreeSet<MatrixRow> {
            let rows = flow::matrix_row(state, from, &names, &services);
            rows.into_iter().filter(|row| row.verdict == Verdict::Allow).collect()
        };
        let (old, new) = (allowed(before), allowed(after));
        gained.extend(new.difference(&old).cloned());
        lost.extend(old.difference(&new).cloned().map(|row| MatrixRow { verdict: Verdict::Deny, ..row }));
    }
    if gained.len() > MAX_ROWS || lost.len() > MAX_ROWS {
        incomplete = format!("{} pairs gained, {} lost; {MAX_ROWS} of each are listed", gained.len(), lost.len());
        gained.truncate(MAX_ROWS);
        lost.truncate(MAX_ROWS);
    }
    (gained, lost, incomplete)
}
