//! Who reaches whom, asked with real packets.

use std::time::Duration;

use anyhow::Result;

use crate::attack::Allowed;
use crate::fabric::Site;
use crate::probe::{Answer, Probe, Service, run_all};
use crate::serve::Listeners;
use crate::workload::Family;

/// Probes under way at once: as many as a busy machine's switches answer well within the patience.
const AT_ONCE: usize = 32;

/// How long a probe waits that ought to pass and was lost: a SYN is repeated once.
const AGAIN: Duration = Duration::from_secs(2);

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Who asked.
    pub from: String,
    /// Who was asked.
    pub to: String,
    /// What for.
    pub service: Service,
    /// Over which family.
    pub family: Family,
    /// What came of it.
    pub answer: Answer,
}

impl Cell {
    /// Whether it came out as policy says.
    #[must_use]
    pub fn agrees(&self, allowed: &Allowed) -> bool {
        let key = (self.from.clone(), self.to.clone(), self.service, self.family);
        self.answer.passed() == allowed.contains(&key)
    }
}

/// Asks every ordered pair for every service of the scenario over every family that both have. A pair in two networks
/// is left out where the address belongs to somebody of the asker's own network, who would be the one to answer. What
/// ought to pass and was lost is asked once more.
///
/// # Errors
/// When something could not be asked, for instance because a port is taken.
pub fn real(site: &Site, allowed: &Allowed) -> Result<Vec<Cell>> {
    let services = &site.scenario().services;
    let listen = |workload: &crate::Workload| Listeners::start(workload.namespace(), services);
    let _listeners = site.workloads().iter().map(listen).collect::<Result<Vec<_>>>()?;
    let (mut cells, mut probes) = (Vec::new(), Vec::new());
    for (asker, from) in site.guests() {
        for (asked, to) in site.guests().filter(|(asked, _)| asked.name != asker.name) {
            for family in Family::ALL {
                let (Some(_), Some(ip)) = (from.ip(family), to.ip(family)) else { continue };
                let mut own = site.scenario().workloads.iter().filter(|one| one.network == asker.network);
                if asker.network != asked.network && own.any(|one| one.ips.contains(&ip)) {
                    continue;
                }
                for service in services {
                    probes.push(Probe::new(from, to, *service, family)?);
                    cells.push(Cell {
                        from: asker.name.clone(),
                        to: asked.name.clone(),
                        service: *service,
                        family,
                        answer: Answer::Silence,
                    });
                }
            }
        }
    }
    for (cell, answer) in cells.iter_mut().zip(run_all(&probes, AT_ONCE)?) {
        cell.answer = answer;
    }
    let lost: Vec<_> = (0..cells.len())
        .filter(|at| cells.get(*at).is_some_and(|cell| !cell.answer.passed() && !cell.agrees(allowed)))
        .collect();
    let again: Vec<_> = lost.iter().filter_map(|at| probes.get(*at).cloned()).map(|one| one.patience(AGAIN)).collect();
    for (at, answer) in lost.into_iter().zip(run_all(&again, AT_ONCE)?) {
        if let Some(cell) = cells.get_mut(at) {
            cell.answer = answer;
        }
    }
    Ok(cells)
}
