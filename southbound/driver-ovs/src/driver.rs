//! The driver's task: takes connections, knows which datapath id is which switch, hands commands on.
//!
//! ```text
//!   controller -- ToDrivers --> run --- Command (per connection, bounded) --> Connection <--> switch
//!        ^                       ^ |                                              |
//!        |                       | +-- Admission ------------------------------>  |
//!        |                       +---- Question: who am I, I am gone ------------ +
//!        +------------------------------- FromSwitch -----------------------------+
//! ```
//!
//! Each connection has a task and a queue of its own, so that a slow switch makes no other one wait.

use crate::connection::Connection;
use bulkhead_dataplane::{Address, Command, FromSwitch, Report, ToDrivers};
use bulkhead_tls::{Certificate, Tls};
use bulkhead_topology::{DatapathId, Name};
use std::{
    collections::{BTreeMap, btree_map},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, oneshot},
    time::sleep,
};
use tracing::{debug, info, warn};

/// Connections whose peer is not known to be a switch of ours. More are closed at once (R25); each of these
/// ends within seconds, or a minute if it is a switch that nobody attached.
const MAX_UNKNOWN: usize = 256;
/// Switches that nobody attached which are kept waiting; the others come again by themselves.
const MAX_WAITING: usize = 64;
/// Commands that may wait for a connection; the controller has one or two under way.
const COMMANDS: usize = 64;
/// The places of these that are kept for commands that must not be lost.
const KEPT: usize = COMMANDS / 2;
/// Questions of connections that may wait; each asks twice in its life.
const QUESTIONS: usize = 256;
/// Pause after a failed accept: the process is out of descriptors, and trying on would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection is told once it is to drive a switch.
pub(crate) struct Admission {
    /// The switch.
    pub switch: Name,
    /// Number of the attachment, echoed in reports.
    pub attachment: u64,
    /// What the controller asks, each in which session.
    pub commands: mpsc::Receiver<(u64, Command)>,
    /// Over when the driver lets go of the connection, whatever it is doing.
    pub ended: oneshot::Receiver<()>,
    /// Somebody else says to be this switch: is it still there? Answered by [`Question::Alive`], or by the end.
    pub doubts: mpsc::Receiver<()>,
}

/// A connection that wants to speak for a datapath.
pub(crate) struct Applicant {
    /// Its number.
    pub number: u64,
    /// Where its peer is.
    pub peer: SocketAddr,
    /// What its peer has shown; none where sessions are unprotected.
    pub certificate: Option<Certificate>,
    /// The answer. None but a dropped sender: refused.
    pub reply: oneshot::Sender<Admission>,
}

impl Applicant {
    /// Why it may not speak for this switch, for people, if it may not (A10).
    fn objection(&self, switch: &Name, datapath: u64) -> Option<String> {
        self.certificate.as_ref()?.objection(switch.as_str(), datapath)
    }
}

/// What a connection asks and tells the driver.
pub(crate) enum Question {
    /// Its peer says that it is this datapath.
    Admit { datapath: u64, applicant: Applicant },
    /// Its switch was heard after the driver doubted that it is there.
    Alive { number: u64 },
    /// It is over.
    Gone { number: u64 },
}

/// A switch that is to be driven.
struct Attached {
    datapath: u64,
    attachment: u64,
}

/// A connection that drives, or waits to.
enum Live {
    /// Waits for its datapath to be attached.
    Waiting(Applicant),
    /// Drives a switch; ends when `end` is dropped.
    Driving { commands: mpsc::Sender<(u64, Command)>, end: oneshot::Sender<()>, doubt: mpsc::Sender<()> },
    /// Was told to end, and has not done so yet.
    Ending,
}

impl Live {
    /// Asks it to make sure of its switch; whether a successor may wait for what comes of it.
    fn doubted(&self) -> bool {
        match self {
            Self::Waiting(_) => false,
            // If a doubt waits already, this one is answered with it.
            Self::Driving { doubt, .. } => !matches!(doubt.try_send(()), Err(mpsc::error::TrySendError::Closed(()))),
            Self::Ending => true,
        }
    }

    /// Whether its task is gone, even if it could not say so.
    fn is_over(&self) -> bool {
        match self {
            Self::Waiting(applicant) => applicant.reply.is_closed(),
            Self::Driving { end, .. } => end.is_closed(),
            Self::Ending => false,
        }
    }
}

struct Driver {
    reports: mpsc::Sender<FromSwitch>,
    attached: BTreeMap<Name, Attached>,
    /// By datapath id: the number of the connection that speaks for it.
    live: BTreeMap<u64, (u64, Live)>,
    /// By datapath id: a newer connection that says to be the same switch, until the older one has been heard or is
    /// over. One at a time: the others are refused.
    heirs: BTreeMap<u64, Applicant>,
}

/// Drives the switches that connect to `listener`, until the controller's end of `commands` is gone. With `tls`, each has
/// to show a certificate that is its own, and nothing unprotected is taken. With a `term`, a switch takes nothing from
/// controllers with a lesser one.
pub async fn run(
    listener: TcpListener,
    tls: Option<Tls>,
    term: Option<u64>,
    mut commands: mpsc::Receiver<ToDrivers>,
    reports: mpsc::Sender<FromSwitch>,
) {
    let (ask, mut questions) = mpsc::channel(QUESTIONS);
    let unknown = Arc::new(Semaphore::new(MAX_UNKNOWN));
    let (attached, live, heirs) = Default::default();
    let mut driver = Driver { reports: reports.clone(), attached, live, heirs };
    let mut number = 0;
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => driver.take(command),
                // Connections end with the channels that `driver` holds.
                None => return,
            },
            Some(question) = questions.recv() => driver.answer(question),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let Ok(permit) = Arc::clone(&unknown).try_acquire_owned() else {
                        warn!(%peer, "too many unknown peers; connection closed");
                        continue;
                    };
                    number += 1;
                    let (tls, questions, reports) = (tls.clone(), ask.clone(), reports.clone());
                    tokio::spawn(Connection { number, term, peer, stream, tls, questions, reports, permit }.serve());
                }
                Err(error) => {
                    warn!(%error, "cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

impl Driver {
    fn take(&mut self, command: ToDrivers) {
        match command {
            ToDrivers::Attach { switch, address: Address::Datapath(DatapathId(datapath)), attachment } => {
                self.detach(&switch);
                if let Some(other) = self.name(datapath) {
                    warn!(%switch, %other, datapath = %DatapathId(datapath), "two switches with one datapath id; the second is left alone");
                    return;
                }
                self.attached.insert(switch, Attached { datapath, attachment });
                if let Some((_, Live::Waiting(_))) = self.live.get(&datapath)
                    && let Some((_, Live::Waiting(applicant))) = self.live.remove(&datapath)
                {
                    self.admit(datapath, applicant);
                }
            }
            ToDrivers::Attach { switch, address: Address::Sim | Address::Device { .. }, .. } => {
                warn!(%switch, "asked to drive a switch by OpenFlow that has no datapath id; left alone");
            }
            ToDrivers::Detach { switch } => self.detach(&switch),
            ToDrivers::Command { switch, session, command } => self.command(&switch, session, command),
        }
    }

    fn name(&self, datapath: u64) -> Option<&Name> {
        self.attached.iter().find(|(_, attached)| attached.datapath == datapath).map(|(name, _)| name)
    }

    /// The switch is no longer ours: its session ends, and what is installed stays.
    fn detach(&mut self, switch: &Name) {
        let Some(attached) = self.attached.remove(switch) else { return };
        if let Some((_, live)) = self.live.get_mut(&attached.datapath) {
            *live = Live::Ending;
        }
    }

    fn command(&mut self, switch: &Name, session: u64, command: Command) {
        let Some(attached) = self.attached.get(switch) else { return };
        // A switch that is not connected is read back when it is.
        let Some((_, live)) = self.live.get_mut(&attached.datapath) else { return };
        let Live::Driving { commands, .. } = live else { return };
        if command.may_be_lost() && commands.capacity() <= KEPT {
            debug!(%switch, "busy; a probe is left out");
            return;
        }
        if commands.try_send((session, command)).is_err() {
            warn!(%switch, "does not keep up with its commands; session ended");
            *live = Live::Ending;
        }
    }

    fn answer(&mut self, question: Question) {
        match question {
            Question::Admit { datapath, applicant } => {
                // Before anything: whoever shows the wrong certificate is nobody's rival.
                if let Some(switch) = self.name(datapath)
                    && let Some(why) = applicant.objection(switch, datapath)
                {
                    self.refuse(datapath, applicant.peer, why);
                    return;
                }
                self.sweep(|live| live.1.is_over());
                let waiting = self.live.values().filter(|live| matches!(live.1, Live::Waiting(_))).count();
                let id = DatapathId(datapath);
                let known = self.name(datapath).is_some();
                match self.live.entry(datapath) {
                    btree_map::Entry::Occupied(found) => {
                        let may_wait = found.get().1.doubted();
                        self.challenge(datapath, may_wait, applicant);
                    }
                    btree_map::Entry::Vacant(_) if known => self.admit(datapath, applicant),
                    btree_map::Entry::Vacant(place) if waiting < MAX_WAITING => {
                        info!(%id, "a switch that nobody attached; it waits");
                        // Not waited for: it comes again by itself.
                        let (switch, report) = (Name::from(id), Report::Waits(id));
                        let _ = self.reports.try_send(FromSwitch { switch, attachment: 0, report });
                        place.insert((applicant.number, Live::Waiting(applicant)));
                    }
                    btree_map::Entry::Vacant(_) => warn!(%id, "too many switches that nobody attached; refused"),
                }
            }
            Question::Alive { number } => {
                let found = self.live.iter().find(|(_, live)| live.0 == number).map(|(datapath, _)| *datapath);
                if let Some(datapath) = found
                    && let Some(heir) = self.heirs.remove(&datapath)
                {
                    self.refuse(
                        datapath,
                        heir.peer,
                        "a second switch with this datapath id; the first is there".into(),
                    );
                }
            }
            Question::Gone { number } => {
                self.heirs.retain(|_, heir| heir.number != number);
                self.sweep(|live| live.0 == number);
            }
        }
    }

    /// A10: the switch that is there stays, and an impostor is refused. But a switch that came back after its network
    /// failed must not wait until its old connection is missed: the old one has a moment to answer.
    fn challenge(&mut self, datapath: u64, may_wait: bool, applicant: Applicant) {
        let id = DatapathId(datapath);
        self.heirs.retain(|_, heir| !heir.reply.is_closed());
        match self.heirs.entry(datapath) {
            btree_map::Entry::Vacant(place) if may_wait => {
                info!(%id, "another connection for this datapath id; asking the first whether it is there");
                place.insert(applicant);
            }
            _ => self.refuse(datapath, applicant.peer, "one more switch with this datapath id".into()),
        }
    }

    /// Tells of somebody who is refused. Of a flood of them, the controller hears as much as it has room for.
    fn refuse(&self, datapath: u64, address: SocketAddr, why: String) {
        let found = self.attached.iter().find(|(_, attached)| attached.datapath == datapath);
        let Some((switch, attached)) = found else {
            warn!(id = %DatapathId(datapath), %address, why, "refused");
            return;
        };
        let report = Report::Impostor { address, why };
        // Not waited for: nothing hangs on it.
        let _ = self.reports.try_send(FromSwitch { switch: switch.clone(), attachment: attached.attachment, report });
    }

    /// Forgets connections; where another one waits to follow, it does.
    fn sweep(&mut self, over: impl Fn(&(u64, Live)) -> bool) {
        let gone: Vec<u64> = self.live.iter().filter(|(_, live)| over(live)).map(|(datapath, _)| *datapath).collect();
        for datapath in gone {
            self.live.remove(&datapath);
            if let Some(heir) = self.heirs.remove(&datapath) {
                self.admit(datapath, heir);
            }
        }
    }

    fn admit(&mut self, datapath: u64, applicant: Applicant) {
        let found = self.attached.iter().find(|(_, attached)| attached.datapath == datapath);
        let Some((switch, attached)) = found else { return };
        // It may have waited for another switch than it found, or for any.
        if let Some(why) = applicant.objection(switch, datapath) {
            self.refuse(datapath, applicant.peer, why);
            return;
        }
        let (sender, commands) = mpsc::channel(COMMANDS);
        let (end, ended) = oneshot::channel();
        let (doubt, doubts) = mpsc::channel(1);
        let admission = Admission { switch: switch.clone(), attachment: attached.attachment, commands, ended, doubts };
        // If it has gone meanwhile, it says so in its next question.
        let _ = applicant.reply.send(admission);
        self.live.insert(datapath, (applicant.number, Live::Driving { commands: sender, end, doubt }));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Links and tunnels are probed every second, and a switch is not asked what is next while a step is under way.
    #[test]
    fn r22_probes_neither_end_the_session_of_a_busy_switch_nor_keep_commands_out() {
        let (sender, mut commands) = mpsc::channel(COMMANDS);
        let ((end, _ended), (doubt, _doubts)) = (oneshot::channel(), mpsc::channel(1));
        let name: Name = "s".parse().unwrap();
        let mut driver = Driver {
            reports: mpsc::channel(1).0,
            attached: BTreeMap::from([(name.clone(), Attached { datapath: 7, attachment: 1 })]),
            live: BTreeMap::from([(7, (1, Live::Driving { commands: sender, end, doubt }))]),
            heirs: BTreeMap::new(),
        };
        for _ in 0..COMMANDS {
            driver.command(&name, 1, Command::Discover(Vec::new()));
            driver.command(&name, 1, Command::Probe(Vec::new()));
        }
        for _ in 0..KEPT {
            driver.command(&name, 1, Command::Count);
        }
        assert!(matches!(driver.live[&7].1, Live::Driving { .. }));
        let waiting: Vec<_> = std::iter::from_fn(|| commands.try_recv().ok()).collect();
        assert_eq!(waiting.iter().filter(|(_, command)| *command == Command::Count).count(), KEPT);
        // Of others, none is lost in silence.
        for _ in 0..=COMMANDS {
            driver.command(&name, 1, Command::Count);
        }
        assert!(matches!(driver.live[&7].1, Live::Ending));
    }
}
