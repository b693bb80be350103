//! A compromised workload, and somebody in the underlay: everything that they can send is sent, every place is watched,
//! and what arrives where policy does not let it is a breach.
//!
//! Each frame carries a number. Whoever receives it says which attempt got through, whatever the headers have become on
//! the way; so overlapping addresses of two tenants cannot be mistaken for one another.

mod inside;
mod outside;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::fabric::Site;
use crate::frames::Wire;
use crate::packets::{GENEVE, VXLAN};
use crate::probe::Service;
use crate::workload::Family;

/// What begins a number in a frame. No honest program says so.
const MARK: &[u8; 12] = b"bulkheadLAB:";

/// Frames sent between two pauses, and how long a pause is: slow enough for a userspace switch that sees each for the
/// first time, so that nothing is lost that would have got through.
const BURST: usize = 32;
const PAUSE: Duration = Duration::from_millis(8);

/// Kinds of attack that lie about who is where.
const LIES: [&str; 2] = ["spoofing", "neighbours"];

/// How long watchers wait after the last frame.
const QUIET: Duration = Duration::from_millis(700);

/// What an attack asks policy for besides the scenario's services: tunnels, and BFD single-hop and multihop (RFC 5881
/// §4, RFC 5883 §5) inside the overlay.
pub const PORTS: [Service; 4] = [Service::Udp(GENEVE), Service::Udp(VXLAN), Service::Udp(3784), Service::Udp(4784)];

/// Who may reach whom, by policy: source, destination, service, family.
pub type Allowed = BTreeSet<(String, String, Service, Family)>;

/// Where a frame may be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum May {
    /// Nowhere: it is a lie.
    Nowhere,
    /// At its destination, if policy lets its sender reach it so.
    Policy { from: usize, to: usize, service: Service, family: Family },
    /// As `Policy`; it is a lie that says nothing that the VTEP whose address it bears could not have said. Of all that
    /// differ only in the identity, one at most may be believed.
    Believed { from: usize, to: usize, service: Service, family: Family },
}

/// One frame that is sent.
#[derive(Debug)]
struct Attempt {
    /// What kind of attack it is.
    class: &'static str,
    /// Which workload sends it; nobody's is sent in the underlay.
    sender: Option<usize>,
    /// What is tried, in a few words.
    what: String,
    may: May,
    frame: Vec<u8>,
}

/// Frames to be sent, each with its number in it.
#[derive(Debug, Default)]
struct Attempts(Vec<Attempt>);

impl Attempts {
    /// Adds one; `frame` is given the bytes that are to be in it.
    fn add(
        &mut self,
        class: &'static str,
        sender: Option<usize>,
        may: May,
        what: String,
        frame: impl FnOnce(&[u8]) -> Vec<u8>,
    ) {
        let number = u32::try_from(self.0.len()).unwrap_or(u32::MAX).to_be_bytes();
        let frame = frame(&[&MARK[..], &number].concat());
        self.0.push(Attempt { class, sender, what, may, frame });
    }
}

/// Where something was received.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// At a workload, by its number.
    Workload(usize),
    /// In the underlay, from this hypervisor, and not in a tunnel of its own.
    Underlay(String),
}

/// How one kind of attack went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames that were sent.
    pub sent: usize,
    /// Of those, how many were received where policy lets them.
    pub allowed: usize,
    /// Forged frames that were believed, as they cannot be told from a VTEP's own.
    pub believed: usize,
    /// Frames that policy lets pass and that were not received.
    pub missed: usize,
}

/// What an attack came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// By kind.
    pub tallies: BTreeMap<&'static str, Tally>,
    /// What got through that policy does not allow, each in a sentence.
    pub breaches: Vec<String>,
}

/// Attacks from these workloads, by name, and from the underlay.
///
/// # Errors
/// When a workload is not there, or its lab is not up.
pub fn run(site: &Site, from: &[String], allowed: &Allowed) -> Result<Report> {
    let mut attempts = Attempts::default();
    for name in from {
        let sender = site.workloads().iter().position(|workload| workload.name() == name);
        inside::attempts(site, sender.with_context(|| format!("there is no workload {name}"))?, &mut attempts);
    }
    outside::attempts(site, &mut attempts)?;
    let received = send(site, &attempts.0)?;
    let mut report = judge(site, &attempts.0, &received, allowed);
    report.breaches.extend(outside::redirected(site)?);
    Ok(report)
}

/// Sends everything, and says what was received where.
fn send(site: &Site, attempts: &[Attempt]) -> Result<BTreeSet<(usize, Place)>> {
    let mut watched = Vec::new();
    for (number, workload) in site.workloads().iter().enumerate() {
        watched.push((Place::Workload(number), workload.wire()?));
    }
    for host in &site.scenario().hypervisors {
        watched.push((Place::Underlay(host.name.clone()), site.underlay().tap(&host.name)?));
    }
    let senders = site.workloads().iter().map(crate::Workload::wire).collect::<Result<Vec<_>>>()?;
    let rogue = site.underlay().rogue_wire()?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = |(place, wire): (Place, Wire)| {
            let (over, site) = (&over, &site);
            scope.spawn(move || listen(site, &place, &wire, over))
        };
        let watchers: Vec<_> = watched.into_iter().map(watch).collect();
        let mut sent = Ok(());
        // Lies about who is where come last: what a switch learns from them must not hide what the rest would reach.
        let mut order: Vec<_> = attempts.iter().collect();
        order.sort_by_key(|attempt| LIES.contains(&attempt.class));
        for burst in order.chunks(BURST) {
            let by = |attempt: &Attempt| attempt.sender.and_then(|sender| senders.get(sender)).unwrap_or(&rogue);
            sent = sent.and_then(|()| burst.iter().try_for_each(|attempt| by(attempt).inject(&attempt.frame)));
            std::thread::sleep(PAUSE);
        }
        std::thread::sleep(QUIET);
        over.store(true, Ordering::Relaxed);
        let mut received = BTreeSet::new();
        for watcher in watchers {
            received.extend(watcher.join().map_err(|_| anyhow!("a watcher panicked"))??);
        }
        sent.map(|()| received)
    })
}

/// Numbers that are received at a place, until it is over.
fn listen(site: &Site, place: &Place, wire: &Wire, over: &AtomicBool) -> Result<BTreeSet<(usize, Place)>> {
    let mut received = BTreeSet::new();
    loop {
        // What came before the end is looked at, however late.
        let last = over.load(Ordering::Relaxed);
        let deadline = Instant::now() + PAUSE;
        while let Some(frame) = wire.receive(deadline.saturating_duration_since(Instant::now()))? {
            let own = matches!(place, Place::Underlay(host) if outside::own(site, host, &frame));
            if let Some(number) = number(&frame).filter(|_| !own) {
                received.insert((number, place.clone()));
            }
        }
        if last {
            return Ok(received);
        }
    }
}

/// The number in a frame, if it is one of ours.
fn number(frame: &[u8]) -> Option<usize> {
    let at = frame.windows(MARK.len()).position(|window| window == MARK)?;
    let bytes = frame.get(at + MARK.len()..)?.first_chunk()?;
    usize::try_from(u32::from_be_bytes(*bytes)).ok()
}

fn judge(site: &Site, attempts: &[Attempt], received: &BTreeSet<(usize, Place)>, allowed: &Allowed) -> Report {
    let name = |number: usize| site.workloads().get(number).map_or("?", crate::Workload::name);
    let lets = |from: usize, to: usize, service: Service, family: Family| {
        allowed.contains(&(name(from).to_owned(), name(to).to_owned(), service, family))
    };
    let mut report = Report::default();
    let mut reached: BTreeSet<usize> = BTreeSet::new();
    let mut believed: BTreeMap<May, Vec<usize>> = BTreeMap::new();
    for (number, place) in received {
        let Some(attempt) = attempts.get(*number) else { continue };
        let good = match (attempt.may, place) {
            // What comes back to the sender is an answer to it.
            (_, Place::Workload(at)) if attempt.sender == Some(*at) => continue,
            (May::Policy { from, to, service, family }, Place::Workload(at)) => {
                *at == to && lets(from, to, service, family)
            }
            // An answer to the one in whose name it was sent.
            (May::Believed { from, to, service, family }, Place::Workload(at)) if *at == from => {
                lets(from, to, service, family)
            }
            (May::Believed { from, to, service, family }, Place::Workload(at)) => {
                believed.entry(attempt.may).or_default().push(*number);
                *at == to && lets(from, to, service, family)
            }
            _ => false,
        };
        if good {
            reached.insert(*number);
        } else {
            let at = match place {
                Place::Workload(at) => format!("at {}", name(*at)),
                Place::Underlay(host) => format!("in the underlay, from {host}"),
            };
            let by = attempt.sender.map_or("the underlay", &name);
            report.breaches.push(format!("{} from {by}: {}: received {at}", attempt.class, attempt.what));
        }
    }
    for several in believed.values().filter(|several| several.len() > 1) {
        let words: Vec<_> = several.iter().filter_map(|number| attempts.get(*number)).map(|one| &*one.what).collect();
        report.breaches.push(format!("the identity in the header is not looked at: believed {}", words.join(" and ")));
    }
    for (number, attempt) in attempts.iter().enumerate() {
        let tally = report.tallies.entry(attempt.class).or_default();
        tally.sent += 1;
        match attempt.may {
            May::Policy { from, to, service, family } => match reached.contains(&number) {
                true => tally.allowed += 1,
                false => tally.missed += usize::from(lets(from, to, service, family)),
            },
            May::Believed { .. } => tally.believed += usize::from(reached.contains(&number)),
            May::Nowhere => {}
        }
    }
    report
}
