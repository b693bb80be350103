//! The loop itself.

use crate::{
    core::Core,
    drivers::Drivers,
    event::{Event, HostNote, ReportNote},
    handle::{Asked, Handle, Message},
    load::{LoadError, Stored},
    realization::Realization,
    record::Recorder,
};
use bulkhead_dataplane::{FromSwitch, Report, host::FromHost};
use bulkhead_topology::Name;
use std::{
    io,
    sync::PoisonError,
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tracing::{Span, info_span};

/// How long fresh counters are waited for; whoever asked then gets those of before.
const COUNT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a revision's realization; longer ones are cut to it.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// Most changes that are made durable together, and most resources in them before no further one is taken in: readers
/// wait meanwhile. 64 clients that wait for their answers fit.
const MAX_GROUP: usize = 128;
const MAX_RESOURCES: usize = 1_000;
/// How long the loop sleeps if nothing is due: only so that there is one kind of sleep.
const IDLE: Duration = Duration::from_secs(3600);

/// A loop that is ready to run: what it begins with, and what it hears.
pub struct Loop {
    stored: Stored,
    drivers: Drivers,
    messages: mpsc::Receiver<Message>,
    reports: mpsc::Receiver<FromSwitch>,
    hosts: mpsc::Receiver<FromHost>,
    recorder: Recorder,
}

impl Loop {
    /// A loop that begins with what was stored, and a way to it. What is asked by that way before the loop has compiled
    /// it waits for that.
    pub fn new(
        stored: Stored,
        drivers: Drivers,
        reports: mpsc::Receiver<FromSwitch>,
        hosts: mpsc::Receiver<FromHost>,
        recorder: Recorder,
    ) -> (Self, Handle) {
        let (handle, messages) = Handle::new(&stored);
        (Self { stored, drivers, messages, reports, hosts, recorder }, handle)
    }
}

/// Runs a loop on a thread of its own: what it computes and what it waits for on the disk then stands in
/// no other task's way.
pub fn spawn(the_loop: Loop) -> io::Result<JoinHandle<Result<(), LoadError>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    thread::Builder::new().name("bulkhead-loop".into()).spawn(move || runtime.block_on(run(the_loop)))
}

enum Waiter {
    Realization { revision: u64, until: Duration, reply: oneshot::Sender<Realization> },
    Count { switches: Vec<Name>, until: Duration, reply: oneshot::Sender<()> },
}

impl Waiter {
    fn until(&self) -> Duration {
        match self {
            Self::Realization { until, .. } | Self::Count { until, .. } => *until,
        }
    }

    /// Answers if it is time to; gives itself back if not.
    fn settle(self, core: &mut Core, now: Duration) -> Option<Self> {
        match self {
            Self::Realization { revision, until, reply } => {
                let answer = core.realization(revision);
                // A refusal is an answer too: waiting on would only hide it.
                if !answer.realized && answer.failed.is_empty() && now < until {
                    return (!reply.is_closed()).then_some(Self::Realization { revision, until, reply });
                }
                let _ = reply.send(answer);
            }
            Self::Count { switches, until, reply } => {
                if now < until && switches.iter().any(|name| core.fabric.is_counting(name)) {
                    return Some(Self::Count { switches, until, reply });
                }
                let _ = reply.send(());
            }
        }
        None
    }
}

/// Compiles what was stored, then runs a loop until it is told to stop or nobody can ask it anything any more. Fails,
/// and has touched no switch, if that cannot be compiled.
pub async fn run(the_loop: Loop) -> Result<(), LoadError> {
    let Loop { stored, drivers, mut messages, mut reports, mut hosts, mut recorder } = the_loop;
    let mut core = Core::compile(stored, drivers)?;
    let start = Instant::now();
    let mut waiters: Vec<Waiter> = Vec::new();
    recorder.write(Duration::ZERO, || Event::Start { revision: core.accepted().revision });
    loop {
        let due = waiters.iter().map(Waiter::until).chain(core.deadline()).min();
        let due = due.map_or_else(|| Instant::now() + IDLE, |due| start + due);
        tokio::select! {
            message = messages.recv() => {
                let now = start.elapsed();
                match message {
                    Some(Message::Stop) | None => return Ok(()),
                    Some(Message::Apply(first)) => {
                        let (group, next) = gather(first, &mut messages);
                        apply(group, &mut core, &mut recorder, now);
                        match next {
                            Some(Message::Stop) => return Ok(()),
                            Some(next) => waiters.extend(handle(next, &mut core, &mut recorder, now)),
                            None => {}
                        }
                    }
                    Some(message) => waiters.extend(handle(message, &mut core, &mut recorder, now)),
                }
            }
            Some(report) = reports.recv() => {
                let now = start.elapsed();
                // A probe a second of every port is no news: what they come to is recorded as the change that follows.
                if !matches!(report.report, Report::Discovered { .. }) {
                    recorder.write(now, || Event::Switch {
                        switch: report.switch.clone(),
                        attachment: report.attachment,
                        report: ReportNote::from(&report.report),
                    });
                }
                let mut totals = core.totals.lock().unwrap_or_else(PoisonError::into_inner);
                totals.reports += 1;
                totals.reports_waiting = reports.len();
                drop(totals);
                core.report(report, now);
            }
            Some(report) = hosts.recv() => {
                let now = start.elapsed();
                recorder.write(now, || Event::Host {
                    switch: report.switch.clone(),
                    attachment: report.attachment,
                    report: HostNote::from(&report.report),
                });
                core.host_report(report, now);
            }
            () = sleep_until(due) => {
                let now = start.elapsed();
                recorder.write(now, || Event::Tick);
                core.tick(now);
            }
        }
        let now = start.elapsed();
        observe(&mut core, &mut recorder, now);
        waiters = waiters.into_iter().filter_map(|waiter| waiter.settle(&mut core, now)).collect();
    }
}

/// Carries out what was found on the hosts.
fn observe(core: &mut Core, recorder: &mut Recorder, now: Duration) {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    while let Some(request) = core.observe(u64::try_from(time).unwrap_or(u64::MAX), now) {
        recorder.write(now, || Event::from(&request));
        let result = core.observed(&request, now);
        recorder.write(now, || Event::from(&result));
    }
}

/// Every change that waits already, up to a bound, and the message after them if it is something else.
fn gather(first: Asked, messages: &mut mpsc::Receiver<Message>) -> (Vec<Asked>, Option<Message>) {
    let mut resources = first.request.edits.len();
    let mut group = vec![first];
    while group.len() < MAX_GROUP && resources < MAX_RESOURCES {
        match messages.try_recv() {
            Ok(Message::Apply(next)) => {
                resources += next.request.edits.len();
                group.push(next);
            }
            Ok(other) => return (group, Some(other)),
            Err(_) => break,
        }
    }
    (group, None)
}

/// The span of a group: that of the request, or one that came after all of theirs.
fn following(group: &[Asked]) -> Span {
    if let [one] = group {
        return one.span.clone();
    }
    let span = info_span!("group", changes = group.len());
    group.iter().for_each(|asked| _ = span.follows_from(&asked.span));
    span
}

/// Carries out a group of changes, then answers all of them.
fn apply(group: Vec<Asked>, core: &mut Core, recorder: &mut Recorder, now: Duration) {
    group.iter().for_each(|asked| recorder.write(now, || Event::from(&asked.request)));
    let began = Instant::now();
    let _following = following(&group).entered();
    let asked = |asked: Asked| (asked.request, (asked.asked, asked.reply));
    let (requests, replies): (Vec<_>, Vec<_>) = group.into_iter().map(asked).unzip();
    let totals = core.totals.clone();
    core.answer_all(&requests, now, |results| {
        let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
        for (asked, _) in &replies {
            totals.waits.add(began.duration_since(*asked));
            totals.changes.add(asked.elapsed());
        }
        drop(totals);
        results.iter().for_each(|result| recorder.write(now, || Event::from(result)));
        for ((_, reply), result) in replies.into_iter().zip(results) {
            // Who asked may have gone; the change stands.
            let _ = reply.send(result);
        }
    });
    core.totals.lock().unwrap_or_else(PoisonError::into_inner).busy += began.elapsed();
}

fn handle(message: Message, core: &mut Core, recorder: &mut Recorder, now: Duration) -> Option<Waiter> {
    match message {
        Message::Realization { revision, wait, reply } => {
            recorder.write(now, || Event::Query { about: format!("realization of {revision}") });
            Some(Waiter::Realization { revision, until: now + wait.min(MAX_WAIT), reply })
        }
        Message::Count { reply } => {
            recorder.write(now, || Event::Query { about: "counters".into() });
            Some(Waiter::Count { switches: core.count(), until: now + COUNT_TIMEOUT, reply })
        }
        Message::Restore { restoring, reply } => {
            let result = core.restore(restoring, now);
            // As after a start: what led there is in no recording of this controller's.
            if let Ok(revision) = result {
                recorder.write(now, || Event::Start { revision });
            }
            // Who asked may have gone; what was restored stands.
            let _ = reply.send(result);
            None
        }
        Message::Note { events, reply } => {
            // Who asked may have gone; the record stands.
            let _ = reply.send(core.note(&events));
            None
        }
        Message::Look(look) => {
            look(core);
            None
        }
        // Whoever takes messages sees to these.
        Message::Apply(_) | Message::Stop => None,
    }
}
