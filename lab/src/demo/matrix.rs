//! Every pair, expected against observed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use bulkhead_lab::probe::run_all;
use bulkhead_lab::{Answer, Family, Probe, Service, Workload};

use super::shop::{Host, SERVICES};
use crate::controller::{Controller, Expected, Question, Verdict};

/// How long a probe that ought to pass may take; long enough for TCP to repeat its first packet once.
const PASSING: Duration = Duration::from_millis(2500);

/// How long is waited for an answer that ought not to come.
const SILENT: Duration = Duration::from_millis(400);

/// Probes at a time. They mostly wait.
const WORKERS: usize = 64;

/// One pair, service and family.
pub(crate) struct Cell {
    from: usize,
    to: usize,
    service: Service,
    family: Family,
    expected: Expected,
    observed: Observed,
}

/// What the packets, or the stages, said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Observed {
    Real(Answer),
    Traced(Verdict),
}

impl Cell {
    /// Whether what was seen is what the policy says. A denied packet must not come to a host that refuses it either.
    fn agrees(&self) -> bool {
        match (self.expected.verdict, self.observed) {
            (expected, Observed::Traced(verdict)) => expected == verdict,
            (Verdict::Allow, Observed::Real(answer)) => answer == Answer::Passed,
            (Verdict::Deny, Observed::Real(answer)) => matches!(answer, Answer::Silence | Answer::Unreachable),
            (Verdict::Reject, Observed::Real(answer)) => matches!(answer, Answer::Refused | Answer::Unreachable),
        }
    }

    fn observed(&self) -> String {
        match self.observed {
            Observed::Real(answer) => answer.to_string(),
            Observed::Traced(verdict) => verdict.word().to_owned(),
        }
    }
}

/// The whole matrix.
pub(crate) struct Matrix {
    hosts: Vec<Host>,
    cells: Vec<Cell>,
    /// Probes that passed only when they were sent again.
    pub(crate) second_looks: usize,
}

/// Every ordered pair with every service and family, and what the policy says of it.
fn expectations(controller: &Controller, hosts: &[Host]) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for (from, source) in hosts.iter().enumerate() {
        for (to, destination) in hosts.iter().enumerate().filter(|(to, _)| *to != from) {
            for service in SERVICES {
                for family in Family::ALL {
                    let (asker, asked) = (source.reference(family), destination.reference(family));
                    let expected = controller.reach(&Question { from: asker, to: asked, service, family })?;
                    cells.push(Cell { from, to, service, family, expected, observed: Observed::Real(Answer::Silence) });
                }
            }
        }
    }
    Ok(cells)
}

impl Matrix {
    /// Asks with real packets. `workloads` are the hosts, in the same order.
    pub(crate) fn real(controller: &Controller, hosts: Vec<Host>, workloads: &[Workload]) -> Result<Matrix> {
        let begun = Instant::now();
        let mut cells = expectations(controller, &hosts)?;
        super::say("policy", &format!("{} verdicts asked for, {}", cells.len(), super::seconds(begun)));
        let begun = Instant::now();
        let all: Vec<_> = (0..cells.len()).collect();
        probe(&mut cells, &all, workloads)?;
        // A packet that should pass and was lost is given a second chance; one that should not pass and did is not.
        let lost = |cell: &Cell| cell.expected.verdict == Verdict::Allow && !cell.agrees();
        let again: Vec<_> = cells.iter().enumerate().filter(|(_, cell)| lost(cell)).map(|(at, _)| at).collect();
        if !again.is_empty() {
            probe(&mut cells, &again, workloads)?;
        }
        let second_looks = again.iter().filter(|at| cells.get(**at).is_some_and(Cell::agrees)).count();
        super::say("probes", &format!("{} with real packets, {}", cells.len(), super::seconds(begun)));
        Ok(Matrix { hosts, cells, second_looks })
    }

    /// Asks the compiled stages.
    pub(crate) fn traced(controller: &Controller, hosts: Vec<Host>) -> Result<Matrix> {
        let mut cells = expectations(controller, &hosts)?;
        for cell in &mut cells {
            if let (Some(from), Some(to)) = (hosts.get(cell.from), hosts.get(cell.to)) {
                let (from, to) = (from.reference(cell.family), to.reference(cell.family));
                let question = &Question { from, to, service: cell.service, family: cell.family };
                cell.observed = Observed::Traced(controller.trace(question)?);
            }
        }
        Ok(Matrix { hosts, cells, second_looks: 0 })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.cells.len()
    }

    /// How many agree.
    pub(crate) fn agreeing(&self) -> usize {
        self.cells.iter().filter(|cell| cell.agrees()).count()
    }

    /// Who reached whom for what, on a grid; `+` passed and `.` did not, as expected, `!` is not as expected.
    pub(crate) fn grid(&self) -> String {
        let mut text = format!("  {:11}", "from \\ to");
        for host in &self.hosts {
            let _ = write!(text, "{:7}", host.name);
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        for (from, host) in self.hosts.iter().enumerate() {
            let _ = write!(text, "  {:11}", host.name);
            for to in 0..self.hosts.len() {
                let marks: String = SERVICES.iter().map(|service| self.mark(from, to, *service)).collect();
                let _ = write!(text, "{marks:7}");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    /// One service's mark for one pair, both families together.
    fn mark(&self, from: usize, to: usize, service: Service) -> char {
        if from == to {
            return ' ';
        }
        let cells = || self.cells.iter().filter(|cell| (cell.from, cell.to, cell.service) == (from, to, service));
        match cells().map(|cell| cell.expected.verdict).next() {
            _ if cells().any(|cell| !cell.agrees()) => '!',
            _ if cells().any(|one| cells().any(|other| one.expected.verdict != other.expected.verdict)) => '~',
            Some(Verdict::Allow) => '+',
            Some(Verdict::Reject) => 'r',
            Some(Verdict::Deny) | None => '.',
        }
    }

    /// What passes and why, and which rules stop the rest; or every cell.
    pub(crate) fn reasons(&self, all: bool) -> String {
        let mut text = String::new();
        if all {
            for cell in &self.cells {
                let _ = writeln!(text, "  {}", self.line(cell));
            }
            return text;
        }
        let mut by_rule: BTreeMap<(&str, &str), Vec<&Cell>> = BTreeMap::new();
        for cell in &self.cells {
            by_rule.entry((cell.expected.verdict.word(), &cell.expected.rule)).or_default().push(cell);
        }
        let _ = writeln!(text, "  {:7} {:48} {:>8} {:>8}", "expect", "deciding rule", "expected", "observed");
        for ((verdict, rule), cells) in by_rule {
            let agreeing = cells.iter().filter(|cell| cell.agrees()).count();
            let _ = writeln!(text, "  {verdict:7} {rule:48} {:>8} {agreeing:>8}", cells.len());
        }
        text
    }

    /// Every cell that does not agree, in words.
    pub(crate) fn disagreements(&self) -> Vec<String> {
        self.cells.iter().filter(|cell| !cell.agrees()).map(|cell| self.line(cell)).collect()
    }

    fn line(&self, cell: &Cell) -> String {
        let name = |at: usize| self.hosts.get(at).map_or("", |host| host.name);
        format!(
            "{:6} -> {:6} {:9} IPv{}  expected {:6} observed {:11} {}",
            name(cell.from),
            name(cell.to),
            cell.service.to_string(),
            cell.family.number(),
            cell.expected.verdict.word(),
            cell.observed(),
            cell.expected.rule
        )
    }
}

/// Sends the probes of these cells and notes what came back.
fn probe(cells: &mut [Cell], which: &[usize], workloads: &[Workload]) -> Result<()> {
    let mut probes = Vec::new();
    let mut order = Vec::new();
    for at in which {
        let Some(cell) = cells.get(*at) else { continue };
        if let (Some(from), Some(to)) = (workloads.get(cell.from), workloads.get(cell.to)) {
            let patience = if cell.expected.verdict == Verdict::Deny { SILENT } else { PASSING };
            probes.push(Probe::new(from, to, cell.service, cell.family)?.patience(patience));
            order.push(*at);
        }
    }
    for (at, answer) in order.into_iter().zip(run_all(&probes, WORKERS)?) {
        if let Some(cell) = cells.get_mut(at) {
            cell.observed = Observed::Real(answer);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
