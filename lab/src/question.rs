//! `bulkhead-lab matrix` and `attack`: what real packets do, against what policy says.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bulkhead_lab::attack::{self, Allowed};
use bulkhead_lab::{Family, Service, Site, matrix};
use bulkhead_types::{MatrixRow, Verdict};

use crate::NO;
use crate::controller::{Controller, Programs, Question};
use crate::site;

/// Breaches of a kind that are printed; the rest are counted.
const LINES: usize = 8;

/// The lab that is meant, and its controller, or the one that the environment names.
fn asked(lab: Option<&str>, programs: &Programs) -> Result<(Site, Controller)> {
    let site = site::the(lab)?;
    let named = std::env::var("BULKHEAD_SERVER").ok();
    let Some(server) = site.server().or(named.as_deref()) else {
        bail!("{} has no controller: `up --with-controller`, or name one in BULKHEAD_SERVER", site.tag());
    };
    let controller = Controller::at(server, programs);
    Ok((site, controller))
}

/// What `bulkhead matrix` says, for the scenario's services.
fn said(site: &Site, controller: &Controller) -> Result<Allowed> {
    let mut allowed = Allowed::new();
    for service in &site.scenario().services {
        let families: &[(String, &[Family])] = &match service {
            Service::Icmp => [("icmp".into(), &[Family::V4][..]), ("icmpv6".into(), &[Family::V6][..])],
            // Policy about ports is the same for both, unless it names addresses.
            other => [(other.to_string(), &Family::ALL[..]), (other.to_string(), &[][..])],
        };
        for (port, families) in families.iter().filter(|(_, families)| !families.is_empty()) {
            let text = controller.cli(&["matrix", "--port", port, "-o", "json"], None)?;
            let rows: Vec<MatrixRow> = serde_json::from_str(&text).context("bulkhead matrix -o json")?;
            for row in rows.into_iter().filter(|row| row.verdict == Verdict::Allow) {
                allowed.extend(families.iter().map(|family| (row.from.clone(), row.to.clone(), *service, *family)));
            }
        }
    }
    Ok(allowed)
}

/// Probes every pair, and compares.
pub(crate) fn matrix(lab: Option<&str>, programs: &Programs) -> Result<ExitCode> {
    let (site, controller) = asked(lab, programs)?;
    let allowed = said(&site, &controller)?;
    let begun = Instant::now();
    let cells = matrix::real(&site, &allowed)?;
    let mut wrong = 0;
    for cell in cells.iter().filter(|cell| !cell.agrees(&allowed)) {
        // A policy that names addresses may say something else for this family than the matrix does.
        let question =
            Question { from: cell.from.clone(), to: cell.to.clone(), service: cell.service, family: cell.family };
        let exact = controller.reach(&question)?;
        if exact.passes() == cell.answer.passed() {
            continue;
        }
        wrong += 1;
        let family = cell.family.number();
        say!("WRONG {} -> {} {} IPv{family}: {}, policy says {exact}", cell.from, cell.to, cell.service, cell.answer);
    }
    let passed = cells.iter().filter(|cell| cell.answer.passed()).count();
    let seconds = begun.elapsed().as_secs_f32();
    say!("{} probes, {passed} passed, {wrong} not as policy says, {seconds:.1} s", cells.len());
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

/// Plays compromised workloads, and somebody in the underlay.
pub(crate) fn attack(lab: Option<&str>, from: &[String], programs: &Programs) -> Result<ExitCode> {
    let (site, controller) = asked(lab, programs)?;
    let mut allowed = Allowed::new();
    for (one, _) in site.guests() {
        for (other, _) in site.guests().filter(|(other, _)| other.name != one.name) {
            for service in site.scenario().services.iter().copied().chain(attack::PORTS) {
                for family in Family::ALL {
                    let (from, to) = (one.name.clone(), other.name.clone());
                    let both = [one, other].iter().all(|end| end.ips.iter().any(|ip| Family::of(*ip) == family));
                    let question = Question { from: from.clone(), to: to.clone(), service, family };
                    if both && controller.reach(&question)?.passes() {
                        allowed.insert((from, to, service, family));
                    }
                }
            }
        }
    }
    let everybody: Vec<_> = site.guests().map(|(guest, _)| guest.name.clone()).collect();
    let from = if from.is_empty() { &everybody } else { from };
    let begun = Instant::now();
    let report = attack::run(&site, from, &allowed)?;
    say!("{:<16} {:>6} {:>8} {:>9} {:>7}", "", "sent", "allowed", "believed", "lost");
    for (class, tally) in &report.tallies {
        let attack::Tally { sent, allowed, believed, missed } = tally;
        say!("{class:<16} {sent:>6} {allowed:>8} {believed:>9} {missed:>7}");
    }
    let kind = |line: &str| report.tallies.keys().find(|class| line.starts_with(**class)).copied();
    let mut told: BTreeMap<_, usize> = BTreeMap::new();
    for line in &report.breaches {
        let before = told.entry(kind(line)).or_default();
        *before += 1;
        if *before <= LINES {
            say!("BREACH {line}");
        }
    }
    for (kind, count) in told.into_iter().filter(|(_, count)| *count > LINES) {
        say!("BREACH {} and {} more", kind.unwrap_or("others"), count - LINES);
    }
    say!("{} breaches, {:.1} s", report.breaches.len(), begun.elapsed().as_secs_f32());
    Ok(if report.breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}
