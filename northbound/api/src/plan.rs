//! What a change would do to who reaches whom.

use crate::{Backend, flow, problem::Failure, work::Gone};
use bulkhead_policy::{Change, State, model::PortMatch};
use bulkhead_topology::Name;
use bulkhead_types::{MatrixRow, PlanAnswer, ServiceText, Verdict, protocol};
use std::{
    collections::{BTreeMap, BTreeSet},
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

/// Pairs gained and lost by `changes`; the answer's switches are left to the caller.
pub(crate) fn reachability<B: Backend>(backend: &B, changes: &[Change], gone: &Gone) -> Result<PlanAnswer, Failure> {
    let Some(before) = backend.read(|view| few(view.state).then(|| view.state.clone())) else {
        return Ok(too_many());
    };
    let mut after = before.clone();
    after.apply(changes);
    compare(&before, &after, gone)
}

/// Whether a state's pairs can be compared.
pub(crate) fn few(state: &State) -> bool {
    state.workloads.len() <= MAX_WORKLOADS
}

/// The answer where they cannot.
pub(crate) fn too_many() -> PlanAnswer {
    let incomplete =
        format!("reachability is compared up to {MAX_WORKLOADS} workloads; ask `reach` about single pairs");
    PlanAnswer { incomplete, ..PlanAnswer::default() }
}

/// What one workload reaches in one state, and would gain and lose if staged policies were active.
#[derive(Default)]
struct Reaches {
    now: BTreeSet<MatrixRow>,
    gains: BTreeSet<MatrixRow>,
    loses: BTreeSet<MatrixRow>,
}

impl Reaches {
    fn of(state: &State, from: &Name, names: &[Name], services: &[ServiceText]) -> Self {
        let mut reaches = Self::default();
        for cell in flow::matrix_row(state, from, names, services) {
            let (now, would) = (cell.row.verdict == Verdict::Allow, cell.staged == Verdict::Allow);
            // The pair is what is compared.
            let row = MatrixRow { verdict: Verdict::Allow, ..cell.row };
            match (now, would) {
                (true, false) => reaches.loses.insert(row.clone()),
                (false, true) => reaches.gains.insert(row.clone()),
                _ => false,
            };
            if now {
                reaches.now.insert(row);
            }
        }
        reaches
    }
}

/// The services to compare by. Rules look at ports only as ranges, so the ports between two neighbouring ends are all
/// judged alike, and one of them speaks for all: the first of each range, the one after it if another range has that,
/// and for all that no range names one witness, which rules without ports and about whole protocols are seen by.
fn compared(states: [&State; 2]) -> Vec<ServiceText> {
    let known: BTreeSet<ServiceText> = states.into_iter().flat_map(flow::known_services).collect();
    // Always there: a rule without ports is about these at least.
    let mut ranges = BTreeMap::from([(protocol::TCP, Vec::new()), (protocol::UDP, Vec::new())]);
    for rule in states.iter().flat_map(|state| state.policies.values()).flat_map(|p| p.ingress.iter().chain(&p.egress))
    {
        for port in rule.ports.iter().flatten() {
            match port {
                PortMatch::Ports { protocol, first, last } => {
                    ranges.entry(*protocol).or_default().push(*first..=*last);
                }
                PortMatch::Protocol(number) if protocol::has_ports(*number) => drop(ranges.entry(*number).or_default()),
                _ => {}
            }
        }
    }
    for port in states.iter().flat_map(|state| state.workloads.values()).flat_map(|w| w.named_ports.values()) {
        ranges.entry(port.protocol).or_default().push(port.port..=port.port);
    }
    let mut more = Vec::new();
    for (protocol, ranges) in ranges {
        let named = |port: &u16| ranges.iter().any(|range| range.contains(port));
        // The first port that no range names is 1 or comes after a range.
        let mut after: BTreeSet<u16> = ranges.iter().filter_map(|range| range.end().checked_add(1)).collect();
        after.insert(1);
        let witness = after.iter().find(|port| !named(port));
        let ports = witness.into_iter().chain(after.iter().filter(|port| named(port)));
        more.extend(ports.map(|port| ServiceText { protocol, port: Some(*port), icmp_type: None, icmp_code: None }));
    }
    more.retain(|service| !known.contains(service));
    known.into_iter().chain(more).collect()
}

/// Pairs gained and lost from one state to another.
pub(crate) fn compare(before: &State, after: &State, gone: &Gone) -> Result<PlanAnswer, Failure> {
    if !few(before) || !few(after) {
        return Ok(too_many());
    }
    let mut plan = PlanAnswer::default();
    let services = compared([before, after]);
    if services.len() > MAX_SERVICES {
        plan.incomplete = format!("{MAX_SERVICES} of {} services are compared", services.len());
    }
    let services: Vec<ServiceText> = services.into_iter().take(MAX_SERVICES).collect();
    plan.services = services.len();
    let names: BTreeSet<&Name> = before.workloads.keys().chain(after.workloads.keys()).collect();
    let names: Vec<Name> = names.into_iter().cloned().collect();
    let began = Instant::now();
    for from in &names {
        gone.check()?;
        if began.elapsed() > MAX_TIME {
            plan.incomplete = format!("the comparison took longer than {} s", MAX_TIME.as_secs());
            break;
        }
        let [old, new] = [before, after].map(|state| Reaches::of(state, from, &names, &services));
        let denied = |row: MatrixRow| MatrixRow { verdict: Verdict::Deny, ..row };
        plan.gained.extend(new.now.difference(&old.now).cloned());
        plan.lost.extend(old.now.difference(&new.now).cloned().map(denied));
        plan.staged_gained.extend(new.gains.difference(&old.gains).cloned());
        plan.staged_lost.extend(new.loses.difference(&old.loses).cloned().map(denied));
    }
    let lists = [&mut plan.gained, &mut plan.lost, &mut plan.staged_gained, &mut plan.staged_lost];
    if lists.iter().any(|rows| rows.len() > MAX_ROWS) {
        let [gained, lost, staged_gained, staged_lost] = lists.each_ref().map(|rows| rows.len());
        plan.incomplete = format!(
            "{gained} pairs gained, {lost} lost, by staged policies {staged_gained} and {staged_lost}; {MAX_ROWS} of each are listed"
        );
        lists.into_iter().for_each(|rows| rows.truncate(MAX_ROWS));
    }
    Ok(plan)
}
