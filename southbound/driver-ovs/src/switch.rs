//! One switch in one session: commands and session events in, reports out. No socket, no clock.
//!
//! Commands are carried out one after the other. A step is one bundle:
//!
//! ```text
//!   open, changes, barrier ---> no complaint: commit, barrier ---> confirmed: applied
//!                          \--> complaint: discard, refused    \-> complaint: refused
//! ```
//!
//! The first barrier is needed: Open vSwitch leaves a change that it refuses out of the bundle, and would
//! commit the others. What it refuses is named by the transaction ids of its errors.

use crate::{
    errands::{self, Errands},
    error::{EndError, LowerError},
    flow::{Flow, FlowKey},
    groups::{self, Groups},
    layout::{COOKIE_FLAGS, COOKIE_MASK, COOKIE_OWNER, Cookie},
    lift::lift,
    lower::{lower, lower_key},
    options::Options,
    ports::{PortMap, Renumbered},
};
use bulkhead_dataplane::{Capabilities, Command, Counter, Logged, Outgoing, PortState, Report};
use bulkhead_openflow::{
    BundleStep, Event, FlowStats, Msg, MultipartBody, MultipartRequest, Session, SessionError,
    wire::{
        async_config::{Role, RoleKind},
        bundle::flags::{ATOMIC, ORDERED},
        group::GroupDesc,
        header::Header,
        hello::ErrorMsg,
        message::{encode_bundle_add, encode_flow_mod},
        meter::{Band, Meter, MeterCommand, MeterMod, flags as meter_flags},
        packet::format,
        port::{Port as OfPort, PortReason, PortStatus},
        switch::SwitchConfig,
    },
};
use bulkhead_pipeline::{Cause, Delta, Entry, EntryKey, Program, render_entry};
use bulkhead_topology::Port;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};
use tracing::{debug, warn};

mod parts;
mod step;
#[cfg(test)]
mod tests;

pub use parts::PARTS;
use parts::Parts;
use step::{Change, Item, Items, Step, addition, describe, removal};

/// Entries that a switch is sent at most. Open vSwitch has no limit of its own; a million take 1.2 GB there.
const MAX_ENTRIES: u32 = 1_000_000;
/// `OFPC_FRAG_NX_MATCH` (ovs-ofctl(8), `set-frags nx-match`): a first fragment's ports and ICMP type can be matched, as
/// the interpreter does. By default Open vSwitch hides them, and the first fragment of any ICMP message looks like an
/// echo reply.
const FRAG_NX_MATCH: u16 = 3;
/// OpenFlow's default (OF 1.3.5 §7.3.2). No table of ours sends packets without a match to the controller.
const MISS_SEND_LEN: u16 = 128;

/// Actions that fit one message whatever they are: none of ours takes more than some 300 bytes of its 65,535.
const SURELY_FITS: usize = 64;

/// How often within how long a switch's ports are told: each time all of them, of which it may say to have 65,000.
const TOLD_MOST: usize = 10;
/// See [`TOLD_MOST`].
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// Packets and bytes by cause and whether they were dropped.
type Sums = BTreeMap<(Cause, bool), (u64, u64)>;

/// The command under way.
#[derive(Debug)]
enum Pending {
    Nothing,
    /// The question for the groups, which entries name.
    ReadGroups(u32),
    Read(Parts, Program),
    Count(Parts, Sums),
    Step(Box<Step>),
    /// A step that waits until the switch's options are known.
    Held(u64, Delta, Arc<VecDeque<Delta>>),
}

/// A switch whose session is up.
#[derive(Debug)]
pub struct Switch {
    ports: PortMap,
    groups: Groups,
    /// The ports that were reported last.
    reported: BTreeSet<Port>,
    /// What was reported last of each.
    states: Vec<PortState>,
    /// When what its ports are was told lately.
    told: VecDeque<Duration>,
    /// It is not what was told last, perhaps.
    untold: bool,
    /// A port's number changed: what is installed must be read back, as after a new connection.
    renumbered: bool,
    /// Number of the session.
    session: u64,
    /// The part of the entry that is added next.
    part: u64,
    /// Entries with our cookie that mean nothing, to be removed with the next step; with their cookies.
    strays: Vec<(FlowKey, u64)>,
    pending: Pending,
    bundle: u32,
    /// Transaction ids of what sets our meters.
    meters: Vec<u32>,
    options: Option<Options>,
    /// The request to be the one that writes.
    role: Option<u32>,
    errands: Errands,
}

impl Switch {
    /// The switch with the ports that its handshake told, over the connection of this number; no other connection may have
    /// it.
    pub fn new(ports: &[OfPort], connection: u64) -> Self {
        let mut map = PortMap::default();
        for port in ports {
            let _ = map.insert(port.number, &port.name);
            map.link(port.number, port.is_up());
        }
        Self {
            reported: map.all(),
            states: Vec::new(),
            told: VecDeque::new(),
            untold: false,
            ports: map,
            groups: Groups::default(),
            renumbered: false,
            // Room for the sessions that begin over this connection, one with each renumbering of its ports.
            session: connection << 32,
            part: 0,
            strays: Vec::new(),
            pending: Pending::Nothing,
            bundle: 0,
            meters: Vec::new(),
            options: None,
            role: None,
            errands: Errands::new(),
        }
    }

    /// Prepares the switch; what it is and has. Of two controllers that say so, the one with the greater term may write.
    pub fn begin(&mut self, session: &mut Session, term: Option<u64>) -> Result<[Report; 2], SessionError> {
        if let Some(generation) = term {
            let role = Role { kind: RoleKind::Master, generation };
            self.role = Some(session.send(&Msg::RoleRequest(role))?);
        }
        for (id, rate) in Errands::METERS {
            let flags = meter_flags::PKTPS | meter_flags::BURST;
            let meter = Meter { flags, id, bands: vec![Band::drop(rate, rate)] };
            // One that is there stays as it is when it is added, and is set when it is modified. Removing it would remove
            // the entries that name it.
            session.send(&Msg::MeterMod(MeterMod { command: MeterCommand::Add, meter: meter.clone() }))?;
            self.meters.push(session.send(&Msg::MeterMod(MeterMod { command: MeterCommand::Modify, meter }))?);
        }
        session.send(&Msg::SetConfig(SwitchConfig { flags: FRAG_NX_MATCH, miss_send_len: MISS_SEND_LEN }))?;
        // Only so does a packet say what is to be done about it.
        session.send(&Msg::SetPacketInFormat(format::PACKET_IN2))?;
        self.options = Some(Options::ask(session)?);
        Ok(self.connected())
    }

    fn connected(&mut self) -> [Report; 2] {
        self.reported = self.ports.all();
        self.states = self.ports.states();
        self.untold = false;
        let capabilities = Capabilities {
            conntrack: true,
            conjunction: true,
            max_entries: MAX_ENTRIES,
            max_by_stage: Arc::default(),
            any_port: false,
        };
        let connected = Report::Connected { session: self.session, capabilities, ports: self.reported.clone() };
        [connected, Report::PortStates(self.states.clone())]
    }

    /// The session that commands have to be meant for.
    pub const fn session(&self) -> u64 {
        self.session
    }

    /// Whether no command is under way.
    pub fn is_idle(&self) -> bool {
        matches!(self.pending, Pending::Nothing)
    }

    /// Whether a command can be taken now.
    pub fn is_ready(&self) -> bool {
        self.is_idle() && !self.renumbered
    }

    /// Begins a command; only when [`Self::is_ready`]. What it says at once is reported.
    pub fn command(&mut self, session: &mut Session, command: Command) -> Result<Option<Report>, SessionError> {
        match command {
            Command::Read => {
                self.strays.clear();
                let question = Msg::MultipartRequest(MultipartRequest::GroupDesc);
                self.pending = Pending::ReadGroups(session.send(&question)?);
            }
            Command::Probe(probes) => {
                for probe in probes {
                    if let Some(number) = self.ports.number(&probe.port) {
                        errands::probe(session, number, &probe)?;
                    }
                }
            }
            Command::Discover(frames) => {
                for Outgoing { port, frame } in frames {
                    if let Some(number) = self.ports.number(&port) {
                        errands::discover(session, number, frame)?;
                    }
                }
            }
            Command::Count => self.pending = Pending::Count(Parts::ask(session, 0)?, Sums::new()),
            Command::Apply { step, delta, ahead } if self.options.as_ref().is_some_and(Options::is_open) => {
                self.pending = Pending::Held(step, delta, ahead);
            }
            Command::Apply { step, delta, ahead } => return self.step(session, step, delta, &ahead),
        }
        Ok(None)
    }

    /// The flow of an entry, or why this switch cannot have it.
    fn flow(&self, entry: &Entry, groups: &mut Groups) -> Result<Flow, String> {
        match self.options.as_ref().and_then(|options| options.complaint(entry)) {
            Some(reason) => Err(format!("{reason}: {}", render_entry(entry))),
            None => lower(entry, &self.ports, groups).map_err(|error| format!("{error}: {}", render_entry(entry))),
        }
    }

    fn step(
        &mut self,
        session: &mut Session,
        step: u64,
        delta: Delta,
        ahead: &VecDeque<Delta>,
    ) -> Result<Option<Report>, SessionError> {
        match ahead.iter().try_for_each(|later| self.check(later)) {
            Ok(()) => self.apply(session, step, delta),
            Err(reason) => Ok(Some(Report::Refused { step, reason })),
        }
    }

    /// Whether a step could be carried out, as far as that can be told without the switch; why not.
    fn check(&self, delta: &Delta) -> Result<(), String> {
        for key in &delta.remove {
            match lower_key(key, &self.ports) {
                Ok(_) | Err(LowerError::Port(_)) => {}
                Err(error) => return Err(format!("{error}: {key:?}")),
            }
        }
        let (mut message, mut groups) = (Vec::new(), self.groups.clone());
        for entry in &delta.add {
            let flow = self.flow(entry, &mut groups)?;
            if entry.actions.len() > SURELY_FITS {
                message.clear();
                encode_bundle_add(0, 0, 0, &mut message, |xid, out| encode_flow_mod(&addition(flow, 0), xid, out));
                if message.len() > Header::MAX_LENGTH {
                    let error = SessionError::TooLong(message.len());
                    return Err(format!("{error}: {}, ...", entry.key.stage.spec().name));
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, session: &mut Session, step: u64, delta: Delta) -> Result<Option<Report>, SessionError> {
        let refused = |reason| Ok(Some(Report::Refused { step, reason }));
        // Everything is lowered before anything is sent.
        let mut flows = Vec::with_capacity(self.strays.len() + delta.remove.len() + delta.add.len());
        let mut groups = self.groups.clone();
        for (key, cookie) in &self.strays {
            groups.gone(key, *cookie, u64::MAX);
            flows.push((Item::Stray, Change::Flow(removal(key.clone(), *cookie, u64::MAX))));
        }
        for (at, key) in delta.remove.iter().enumerate() {
            match lower_key(key, &self.ports) {
                Ok(lowered) => {
                    let (flags, mask) = self.named(key);
                    let (cookie, mask) = (COOKIE_OWNER | flags, COOKIE_MASK | mask);
                    groups.gone(&lowered, cookie, mask);
                    flows.push((Item::Remove(at), Change::Flow(removal(lowered, cookie, mask))));
                }
                // Lifting never told of it in this session, and lowering never installed it.
                Err(LowerError::Port(port)) => debug!(%port, "an entry that names an unknown port is not there"),
                Err(error) => return refused(format!("{error}: {key:?}")),
            }
        }
        for (at, entry) in delta.add.iter().enumerate() {
            match self.flow(entry, &mut groups) {
                Ok(flow) => {
                    self.part = (self.part + 1) % PARTS;
                    groups.using(&flow);
                    flows.push((Item::Add(at), Change::Flow(addition(flow, self.part))));
                }
                Err(reason) => return refused(reason),
            }
        }
        // A group is there before the flows that name it.
        let new = groups.additions(&self.groups).map(|group| (Item::Group(group.id), Change::Group(group)));
        let changes: Vec<_> = new.chain(flows).collect();
        self.bundle = self.bundle.wrapping_add(1);
        match self.send_bundle(session, step, delta, groups, &changes) {
            Ok(step) => {
                self.pending = Pending::Step(Box::new(step));
                Ok(None)
            }
            Err(error @ (SessionError::OutputFull(_) | SessionError::TooLong(_))) => {
                // If there is no room to discard it, the switch does so by itself when it lies idle.
                let _ = session.send_bundle(self.bundle, BundleStep::DiscardRequest, ATOMIC | ORDERED);
                refused(error.to_string())
            }
            Err(error) => Err(error),
        }
    }

    /// What the cookie of an entry to remove has to say of how its in-port is named, and the bits that say it. One port by
    /// name and by number is two keys and one flow: in a plan of several steps the one may come before the other goes, and
    /// must not go with it.
    fn named(&self, key: &EntryKey) -> (u64, u64) {
        const BY_NUMBER: u64 = (Cookie::IN_PORT_NUMBER as u64) << COOKIE_FLAGS;
        match &key.matches.in_port {
            Some(Port::Name(_)) => (0, BY_NUMBER),
            Some(Port::Number(number)) if self.ports.name(*number).is_some() => (BY_NUMBER, BY_NUMBER),
            // The number of a port that has no name any more stands for either.
            _ => (0, 0),
        }
    }

    fn send_bundle(
        &self,
        session: &mut Session,
        number: u64,
        delta: Delta,
        groups: Groups,
        changes: &[(Item, Change)],
    ) -> Result<Step, SessionError> {
        let (bundle, flags) = (self.bundle, ATOMIC | ORDERED);
        let open = session.send_bundle(bundle, BundleStep::OpenRequest, flags)?;
        let mut items = Vec::with_capacity(changes.len());
        for (item, change) in changes {
            let xid = match change {
                Change::Flow(change) => session.add_flow_mod_to_bundle(bundle, flags, change)?,
                Change::Group(change) => session.add_to_bundle(bundle, flags, &Msg::GroupMod(change.clone()))?,
            };
            items.push((xid, *item));
        }
        let barrier = session.send(&Msg::BarrierRequest)?;
        let (commit, committed, complaint, named) = (None, false, None, false);
        let items = Items::new(items);
        Ok(Step { number, delta, groups, bundle, items, open, barrier, commit, committed, complaint, named })
    }

    /// Takes in an event of the session that is up. `now` is the time since any one moment.
    pub fn event(&mut self, session: &mut Session, event: Event, now: Duration) -> Result<Vec<Report>, EndError> {
        let mut reports = Vec::new();
        match event {
            Event::Error(xid, error) => {
                reports.extend(self.error(xid, &error)?);
                // One that does not tell its groups has none, and refuses entries that need one.
                self.groups(session, xid, &[])?;
                reports.extend(self.release(session)?);
            }
            Event::Message(xid, Msg::MultipartReply(reply)) => match reply.body {
                MultipartBody::Flow(flows) => reports.extend(self.flows(session, xid, flows)?),
                MultipartBody::GroupDesc(groups) => self.groups(session, xid, &groups)?,
                _ => {}
            },
            Event::Message(_, Msg::BundleControl(control)) => {
                if let Pending::Step(step) = &mut self.pending
                    && (control.id, control.step) == (step.bundle, BundleStep::CommitReply)
                {
                    step.committed = true;
                }
            }
            Event::Message(xid, Msg::BarrierReply) => reports.extend(self.barrier(session, xid)?),
            Event::Message(_, Msg::PortStatus(status)) => self.port(&status),
            Event::Message(xid, Msg::TlvTableReply(table)) => {
                if let Some(options) = &mut self.options {
                    options.table(session, xid, &table)?;
                }
                reports.extend(self.release(session)?);
            }
            Event::Message(_, Msg::PacketIn2(packet)) => {
                reports.extend(self.errands.packet(session, &self.ports, &packet, now)?);
            }
            Event::Message(_, other) => debug!(kind = other.kind(), "a message nobody asked for"),
            Event::Dead(error) => return Err(error.into()),
            Event::Connected { .. } => {}
        }
        if !reports.is_empty() && self.is_idle() {
            self.groups.look(now);
        }
        reports.extend(self.tell(now));
        Ok(reports)
    }

    /// Begins the step that waited for the switch's options, once they are known.
    fn release(&mut self, session: &mut Session) -> Result<Option<Report>, SessionError> {
        if self.options.as_ref().is_some_and(Options::is_open) {
            return Ok(None);
        }
        match mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Held(step, delta, ahead) => self.step(session, step, delta, &ahead),
            other => {
                self.pending = other;
                Ok(None)
            }
        }
    }

    fn error(&mut self, xid: u32, error: &ErrorMsg) -> Result<Option<Report>, EndError> {
        let text = error.describe();
        if self.role == Some(xid) {
            return Err(EndError::Role(text));
        }
        if self.options.as_mut().is_some_and(|options| options.error(xid, error)) {
            return Ok(None);
        }
        if self.meters.contains(&xid) {
            warn!(error = %text, "the switch takes no meter; packets to the controller are limited here alone");
            return Ok(None);
        }
        match &mut self.pending {
            Pending::Read(asked, _) if asked.xid == xid => return Err(EndError::Read(text)),
            Pending::Count(asked, _) if asked.xid == xid => {
                self.pending = Pending::Nothing;
                return Ok(Some(Report::NotCounted(text)));
            }
            Pending::Step(step) => match step.items.get(xid) {
                Some(item) if !step.named => {
                    step.named = true;
                    step.complaint = Some(format!("{text}: {}", describe(item, &step.delta)));
                }
                None if step.complaint.is_none()
                    && [Some(step.open), step.commit, Some(step.barrier)].contains(&Some(xid)) =>
                {
                    step.complaint = Some(format!("bundle: {text}"));
                }
                _ => {}
            },
            _ => debug!(xid, error = %text, "the switch complains"),
        }
        Ok(None)
    }

    fn barrier(&mut self, session: &mut Session, xid: u32) -> Result<Option<Report>, SessionError> {
        let mut done = match mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Step(done) if done.barrier == xid => done,
            other => {
                self.pending = other;
                return Ok(None);
            }
        };
        let (step, flags) = (done.number, ATOMIC | ORDERED);
        if done.commit.is_some() {
            let confirmed = done.committed && done.complaint.is_none();
            if confirmed {
                self.strays.clear();
                self.groups = done.groups;
                return Ok(Some(Report::Applied { step }));
            }
            let reason = done.complaint.unwrap_or_else(|| "the switch did not confirm the bundle".into());
            return Ok(Some(Report::Refused { step, reason }));
        }
        if let Some(reason) = done.complaint {
            session.send_bundle(done.bundle, BundleStep::DiscardRequest, flags)?;
            return Ok(Some(Report::Refused { step, reason }));
        }
        done.commit = Some(session.send_bundle(done.bundle, BundleStep::CommitRequest, flags)?);
        done.barrier = session.send(&Msg::BarrierRequest)?;
        self.pending = Pending::Step(done);
        Ok(None)
    }

    /// The switch's groups came: entries may name them.
    fn groups(&mut self, session: &mut Session, xid: u32, groups: &[GroupDesc]) -> Result<(), SessionError> {
        if matches!(self.pending, Pending::ReadGroups(asked) if asked == xid) {
            self.groups = Groups::told(groups);
            self.pending = Pending::Read(Parts::ask(session, 0)?, Program::new());
        }
        Ok(())
    }

    fn flows(
        &mut self,
        session: &mut Session,
        xid: u32,
        flows: Vec<FlowStats>,
    ) -> Result<Option<Report>, SessionError> {
        match mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Read(asked, mut program) if asked.xid == xid => {
                for stats in flows.into_iter().filter(|flow| asked.has(flow.cookie)) {
                    // None of ours ever goes by itself.
                    let lasting = stats.idle_timeout == 0 && stats.hard_timeout == 0;
                    let key = FlowKey { table: stats.table, priority: stats.priority, matches: stats.matching };
                    let flow = Flow { key, cookie: stats.cookie, instructions: stats.instructions };
                    self.groups.using(&flow);
                    match lift(&flow, &self.ports, &self.groups) {
                        Ok(entry) if lasting => _ = program.insert(entry),
                        Ok(_) => self.strays.push((flow.key, flow.cookie)),
                        Err(error) => {
                            warn!(%error, table = flow.key.table, "an entry with our cookie is not ours");
                            self.strays.push((flow.key, flow.cookie));
                        }
                    }
                }
                match asked.next(session)? {
                    Some(next) => self.pending = Pending::Read(next, program),
                    None => return Ok(Some(Report::Actual { program, alien: self.strays.len() })),
                }
            }
            Pending::Count(asked, mut sums) if asked.xid == xid => {
                for stats in flows.into_iter().filter(|flow| asked.has(flow.cookie)) {
                    let Some(cookie) = Cookie::from_bits(stats.cookie) else { continue };
                    let sum = sums.entry((cookie.cause, cookie.flags & Cookie::DROPPED != 0)).or_default();
                    *sum = (sum.0.saturating_add(stats.packets), sum.1.saturating_add(stats.bytes));
                }
                let counter = |((cause, dropped), (packets, bytes))| Counter { cause, dropped, packets, bytes };
                match asked.next(session)? {
                    Some(next) => self.pending = Pending::Count(next, sums),
                    None => return Ok(Some(Report::Counters(sums.into_iter().map(counter).collect()))),
                }
            }
            other => self.pending = other,
        }
        Ok(None)
    }

    fn port(&mut self, status: &PortStatus) {
        let port = &status.port;
        let renumbered = match status.reason {
            PortReason::Delete => self.ports.remove(port.number),
            _ => self.ports.insert(port.number, &port.name),
        };
        if status.reason != PortReason::Delete {
            self.ports.link(port.number, port.is_up());
        }
        self.renumbered |= renumbered == Renumbered::Yes;
        self.untold = true;
    }

    /// When what its ports are may be told again.
    fn tell_at(&self) -> Duration {
        let first = self.told.front().filter(|_| self.told.len() >= TOLD_MOST);
        first.map_or(Duration::ZERO, |first| *first + TOLD_WITHIN)
    }

    /// What its ports are now, if that was not told too often lately: then the newest is told later.
    fn tell(&mut self, now: Duration) -> Vec<Report> {
        if !self.untold || now < self.tell_at() {
            return Vec::new();
        }
        let mut reports = Vec::new();
        // With other numbers, everything is told by a session that begins anew.
        if self.renumbered {
            if self.is_idle() {
                self.renumbered = false;
                self.session += 1;
                self.told(now);
                reports.extend(self.connected());
            }
            return reports;
        }
        self.untold = false;
        // What a port is called is known before it is used.
        let mut at = 0;
        let ports = self.ports.all();
        if ports != self.reported {
            at = usize::from(ports.is_subset(&self.reported));
            self.reported.clone_from(&ports);
            reports.push(Report::Ports(ports));
        }
        let states = self.ports.states();
        if states != self.states {
            self.states.clone_from(&states);
            reports.insert(at, Report::PortStates(states));
        }
        if !reports.is_empty() {
            self.told(now);
        }
        reports
    }

    fn told(&mut self, now: Duration) {
        self.told.push_back(now);
        if self.told.len() > TOLD_MOST {
            self.told.pop_front();
        }
    }

    /// When [`Self::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Duration> {
        let groups = self.groups.next_deadline().filter(|_| self.is_idle());
        let ports = (self.untold && (self.is_idle() || !self.renumbered)).then(|| self.tell_at());
        groups.into_iter().chain(ports).min()
    }

    /// Takes groups away that nobody uses any more; tells what could not be told yet.
    pub fn tick(&mut self, session: &mut Session, now: Duration) -> Result<Vec<Report>, SessionError> {
        // The switch would take every flow along that still names one (OF 1.3.5 §6.5): between commands none of ours does.
        if self.is_idle() {
            for number in self.groups.sweep(now) {
                match session.send(&Msg::GroupMod(groups::removal(number))) {
                    // It is found again when the switch is read back.
                    Ok(_) | Err(SessionError::OutputFull(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(self.tell(now))
    }

    /// The controller could not take a line.
    pub fn not_logged(&mut self, logged: &Logged) {
        self.errands.not_logged(logged);
    }
}
