//! The task of one connection: bytes between the socket and the session, reports to the controller.

use crate::{
    driver::{Admission, Applicant, Question},
    error::EndError,
    switch::Switch,
};
use bulkhead_dataplane::{Command, FromSwitch, Peer, Report};
use bulkhead_openflow::{Config, Event, Session};
use bulkhead_tls::{Certificate, Tls};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

/// Bytes taken from the socket at once: a full OpenFlow message.
const READ: usize = 64 << 10;
/// Bytes that a peer may send before it is known to be one of our switches: a handshake with 65,000 ports has 4 MiB.
const MAX_UNKNOWN: usize = 8 << 20;
/// How long a switch that nobody attached is kept waiting; it comes again by itself.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// How long a peer may take nothing of what is to be sent.
const MAX_STALL: Duration = Duration::from_secs(20);
/// How long a command may be under way: far above what reading a million entries takes (some 20 s).
const MAX_COMMAND: Duration = Duration::from_secs(120);
/// How long a switch with nothing to do may stay silent when somebody else says to be it. Far above what one that is
/// there takes, far away or not; far below the time after which a silent one is missed.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same for a switch that has a command to carry out: a bundle of 100,000 entries takes it seconds on a busy
/// machine. A silent one is missed after as long without anybody's doubt.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);
/// How long the last words of a session may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes that may wait to be sent to a switch of ours: one step of a million entries.
const MAX_OUTPUT: usize = 512 << 20;

/// A connection of ours to nobody in particular, until it is admitted.
pub(crate) struct Connection {
    pub number: u64,
    /// The controller's term, if it has one.
    pub term: Option<u64>,
    pub peer: SocketAddr,
    pub stream: TcpStream,
    /// None where sessions are unprotected.
    pub tls: Option<Tls>,
    pub questions: mpsc::Sender<Question>,
    pub reports: mpsc::Sender<FromSwitch>,
    pub permit: OwnedSemaphorePermit,
}

/// What the peer is to us.
enum Stage {
    /// In its handshake.
    Unknown,
    /// It said who it is; the driver has not answered.
    Asked { since: Instant, answer: oneshot::Receiver<Admission>, ports: Vec<bulkhead_openflow::wire::port::Port> },
    /// A switch of ours.
    Driven(Box<Driven>),
}

struct Driven {
    switch: Switch,
    admission: Admission,
    /// Since when a command is under way.
    since: Instant,
}

impl Connection {
    /// Until the connection is over.
    pub(crate) async fn serve(self) {
        let Self { number, term, peer, stream, tls, questions, reports, permit } = self;
        // Small messages that answer each other; waiting to fill segments would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "no TCP_NODELAY");
        }
        let config = Config { max_output: MAX_OUTPUT, ..Config::default() };
        let task = |certificate| Task {
            number,
            term,
            peer,
            certificate,
            questions: questions.clone(),
            reports: reports.clone(),
            session: Session::new(config),
            began: Instant::now(),
            stage: Stage::Unknown,
            permit: Some(permit),
            received: 0,
            doubted: false,
        };
        let end = match tls {
            None => task(None).run(stream).await,
            Some(tls) => match tls.accept(stream).await {
                Ok((stream, certificate)) => task(Some(certificate)).run(stream).await,
                Err(error) => {
                    info!(%peer, reason = %error, "connection refused");
                    return;
                }
            },
        };
        if let Err(end) = end {
            debug!(%peer, reason = end, "connection over");
        }
        let _ = questions.send(Question::Gone { number }).await;
    }
}

struct Task {
    number: u64,
    term: Option<u64>,
    peer: SocketAddr,
    /// What it has shown; none where sessions are unprotected.
    certificate: Option<Certificate>,
    questions: mpsc::Sender<Question>,
    reports: mpsc::Sender<FromSwitch>,
    session: Session,
    began: Instant,
    stage: Stage,
    /// Held while the peer is not known to be a switch of ours.
    permit: Option<OwnedSemaphorePermit>,
    received: usize,
    /// The driver wants to know whether the switch is there.
    doubted: bool,
}

impl Task {
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(mut self, mut stream: S) -> Result<(), String> {
        let peer = self.peer;
        let end = self.exchange(&mut stream).await;
        let reason = match end {
            Ok(()) => "let go by the driver: detached, or too far behind".to_owned(),
            Err(reason) => reason,
        };
        let last = self.session.take_output();
        // What the peer does not take now is lost.
        let _ = timeout(FAREWELL, async {
            stream.write_all(&last).await?;
            stream.shutdown().await
        })
        .await;
        match &self.stage {
            Stage::Driven(driven) => {
                info!(%peer, switch = %driven.admission.switch, %reason, "switch gone");
                let report = Report::Disconnected(reason.clone());
                let (switch, attachment) = (driven.admission.switch.clone(), driven.admission.attachment);
                // The controller is ending if nobody listens.
                let _ = self.reports.send(FromSwitch { switch, attachment, report }).await;
            }
            _ => info!(%peer, %reason, "connection refused"),
        }
        Err(reason)
    }

    /// Moves bytes, commands and time until the end; `Ok` if the driver ended it.
    async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> Result<(), String> {
        let (mut reader, mut writer) = split(stream);
        let mut buffer = vec![0; READ];
        let mut output: Vec<u8> = Vec::new();
        let mut written = 0;
        // What TLS was given, it may hold back until it is flushed.
        let mut held = false;
        let mut progress = Instant::now();
        loop {
            if written == output.len() && !held {
                output = self.session.take_output();
                written = 0;
                progress = Instant::now();
            }
            let mut deadline = self.deadline();
            if written < output.len() || held {
                deadline = deadline.min(progress + MAX_STALL);
            }
            let rest = output.get(written..).unwrap_or_default();
            // All of these may be dropped half-way without losing anything.
            tokio::select! {
                got = reader.read(&mut buffer) => {
                    let length = match got {
                        // TLS wants a word of farewell, which says no more than the end does.
                        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                        got => got.map_err(|error| error.to_string())?,
                    };
                    if length == 0 {
                        return Err("the peer closed the connection".into());
                    }
                    self.received(buffer.get(..length).unwrap_or_default()).await?;
                }
                taken = push(&mut writer, rest), if held || !rest.is_empty() => {
                    held = !rest.is_empty();
                    written += taken.map_err(|error| error.to_string())?;
                    progress = Instant::now();
                    let now = self.now();
                    self.session.taken(now);
                }
                order = next_order(&mut self.stage) => match order {
                    Some(Order::Admission(admission)) => self.admit(admission).await?,
                    Some(Order::Command(session, command)) => self.command(session, command).await?,
                    Some(Order::Doubt) => {
                        let now = self.now();
                        let busy = matches!(&self.stage, Stage::Driven(driven) if !driven.switch.is_idle());
                        self.session.probe(now, if busy { BUSY_PATIENCE } else { PATIENCE });
                        self.doubted = true;
                    }
                    None if matches!(self.stage, Stage::Driven(_)) => return Ok(()),
                    None => return Err("refused".into()),
                },
                () = sleep_until(deadline) => {
                    if (written < output.len() || held) && progress.elapsed() >= MAX_STALL {
                        return Err(format!("took nothing for {} s", MAX_STALL.as_secs()));
                    }
                    self.tick().await?;
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn deadline(&mut self) -> Instant {
        let now = self.now();
        let session = self.session.next_deadline(now).unwrap_or(now);
        let session = self.began + session;
        match &self.stage {
            Stage::Unknown => session,
            Stage::Asked { since, .. } => session.min(*since + MAX_WAIT),
            Stage::Driven(driven) => {
                let switch = driven.switch.next_deadline().map(|deadline| self.began + deadline);
                let command = (!driven.switch.is_idle()).then(|| driven.since + MAX_COMMAND);
                switch.into_iter().chain(command).fold(session, Instant::min)
            }
        }
    }

    async fn tick(&mut self) -> Result<(), String> {
        match &self.stage {
            Stage::Asked { since, .. } if since.elapsed() >= MAX_WAIT => {
                return Err("a switch that nobody attached".into());
            }
            Stage::Driven(driven) if !driven.switch.is_idle() && driven.since.elapsed() >= MAX_COMMAND => {
                return Err(format!("a command was not answered for {} s", MAX_COMMAND.as_secs()));
            }
            _ => {}
        }
        let now = self.now();
        self.session.tick(now);
        if let Stage::Driven(driven) = &mut self.stage
            && self.session.is_up()
        {
            let reports = driven.switch.tick(&mut self.session, now).map_err(|error| error.to_string())?;
            for report in reports {
                send(&self.reports, driven, report).await?;
            }
        }
        self.events().await
    }

    async fn received(&mut self, bytes: &[u8]) -> Result<(), String> {
        if !matches!(self.stage, Stage::Driven(_)) {
            self.received = self.received.saturating_add(bytes.len());
            if self.received > MAX_UNKNOWN {
                return Err(format!("{} bytes from a peer that is not a switch of ours", self.received));
            }
        }
        // Its error comes again as the last event.
        let _ = self.session.received(bytes, self.now());
        self.events().await?;
        if std::mem::take(&mut self.doubted) {
            let alive = Question::Alive { number: self.number };
            self.questions.send(alive).await.map_err(|_| "the driver has ended".to_owned())?;
        }
        Ok(())
    }

    async fn events(&mut self) -> Result<(), String> {
        while let Some(event) = self.session.poll_event() {
            match (&mut self.stage, event) {
                (_, Event::Dead(error)) => return Err(error.to_string()),
                (Stage::Unknown, Event::Connected { features, ports }) => {
                    if features.auxiliary != 0 {
                        return Err("an auxiliary connection, which we never ask for".into());
                    }
                    let (reply, answer) = oneshot::channel();
                    let (peer, certificate) = (self.peer, self.certificate.clone());
                    let applicant = Applicant { number: self.number, peer, certificate, reply };
                    let question = Question::Admit { datapath: features.datapath_id, applicant };
                    let gone = "the driver has ended";
                    self.questions.send(question).await.map_err(|_| gone.to_owned())?;
                    self.stage = Stage::Asked { since: Instant::now(), answer, ports };
                }
                (Stage::Driven(driven), event) => {
                    let now = self.began.elapsed();
                    let reports = driven.switch.event(&mut self.session, event, now);
                    let reports = reports.map_err(|error| last_words(&mut self.session, &error))?;
                    for report in reports {
                        match report {
                            Report::Logged(_) | Report::Probed { .. } | Report::Discovered { .. } => {
                                offer(&self.reports, driven, report)
                            }
                            report => send(&self.reports, driven, report).await?,
                        }
                    }
                }
                // A change of its ports before it is admitted.
                (Stage::Asked { ports, .. }, Event::Message(_, bulkhead_openflow::Msg::PortStatus(status))) => {
                    ports.retain(|port| port.number != status.port.number);
                    if status.reason != bulkhead_openflow::wire::port::PortReason::Delete {
                        ports.push(status.port);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn admit(&mut self, admission: Admission) -> Result<(), String> {
        let Stage::Asked { ports, .. } = &self.stage else { return Ok(()) };
        let mut switch = Switch::new(ports, self.number);
        let connected = switch.begin(&mut self.session, self.term).map_err(|error| error.to_string())?;
        let driven = Box::new(Driven { switch, admission, since: Instant::now() });
        let certificate = self.certificate.as_ref().map(Certificate::to_string);
        let peer = Peer { address: self.peer, certificate };
        let shown = peer.certificate.as_deref().unwrap_or("none: unprotected");
        info!(switch = %driven.admission.switch, peer = %self.peer, certificate = shown, "switch connected");
        self.permit = None;
        for report in connected {
            send(&self.reports, &driven, report).await?;
        }
        send(&self.reports, &driven, Report::Peer(peer)).await?;
        self.stage = Stage::Driven(driven);
        Ok(())
    }

    async fn command(&mut self, session: u64, command: Command) -> Result<(), String> {
        let Stage::Driven(driven) = &mut self.stage else { return Ok(()) };
        if session != driven.switch.session() {
            debug!(switch = %driven.admission.switch, session, "a command of an older session");
            return Ok(());
        }
        driven.since = Instant::now();
        let report = driven.switch.command(&mut self.session, command).map_err(|error| error.to_string())?;
        if let Some(report) = report {
            send(&self.reports, driven, report).await?;
        }
        Ok(())
    }
}

/// Writes some of `rest`; when nothing is left, what was written before leaves.
async fn push<W: AsyncWrite + Unpin>(writer: &mut W, rest: &[u8]) -> io::Result<usize> {
    if rest.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    writer.write(rest).await
}

/// Why a session is over. What ended it may still wait behind the event that could not be dealt with for that.
fn last_words(session: &mut Session, error: &EndError) -> String {
    while let Some(event) = session.poll_event() {
        if let Event::Dead(cause) = event {
            return cause.to_string();
        }
    }
    error.to_string()
}

async fn send(reports: &mpsc::Sender<FromSwitch>, driven: &Driven, report: Report) -> Result<(), String> {
    if let Report::Refused { step, reason } = &report {
        warn!(switch = %driven.admission.switch, step, %reason, "step refused");
    }
    let (switch, attachment) = (driven.admission.switch.clone(), driven.admission.attachment);
    let sent = reports.send(FromSwitch { switch, attachment, report }).await;
    sent.map_err(|_| "the controller has ended".to_owned())
}

/// Reports what somebody's packet said, if the controller has room for it: nothing waits for such a report.
fn offer(reports: &mpsc::Sender<FromSwitch>, driven: &mut Driven, report: Report) {
    let (switch, attachment) = (driven.admission.switch.clone(), driven.admission.attachment);
    if let Err(error) = reports.try_send(FromSwitch { switch, attachment, report })
        && let Report::Logged(logged) = error.into_inner().report
    {
        driven.switch.not_logged(&logged);
    }
}

/// What the driver wants of this connection.
enum Order {
    Admission(Admission),
    Command(u64, Command),
    Doubt,
}

/// The next thing that the driver wants, which takes commands one by one; `None` once it has let go of the
/// connection.
async fn next_order(stage: &mut Stage) -> Option<Order> {
    match stage {
        Stage::Asked { answer, .. } => answer.await.ok().map(Order::Admission),
        Stage::Driven(driven) => {
            let Admission { commands, ended, doubts, .. } = &mut driven.admission;
            tokio::select! {
                biased;
                _ = ended => None,
                Some(()) = doubts.recv() => Some(Order::Doubt),
                command = commands.recv(), if driven.switch.is_ready() => {
                    command.map(|(session, command)| Order::Command(session, command))
                }
            }
        }
        Stage::Unknown => std::future::pending().await,
    }
}
