//! Reconciler, driver, session and a simulated switch in one thread: no socket, and time is a number.

use bulkhead_dataplane::{Command, Report};
use bulkhead_driver_ovs::{EndError, Flow, FlowKey, Groups, PortMap, layout::COOKIE_OWNER, lift, switch};
use bulkhead_openflow::{Config, Session, SessionError};
use bulkhead_pipeline::{Delta, Entry, Program};
use bulkhead_reconcile::{Input, Machine, Output, Ports};
use bulkhead_tests::fake;
use std::time::Duration;

/// Longest pause of the machine's, so that every deadline is met in a few turns.
const TURN: Duration = Duration::from_secs(1);

/// A controller's side of a session.
struct Link {
    session: Session,
    switch: Option<switch::Switch>,
    /// Commands that wait for the one under way.
    commands: std::collections::VecDeque<Command>,
}

/// One controller and one switch.
pub struct World {
    pub machine: Machine,
    pub desired: Program,
    pub fake: fake::Switch,
    pub now: Duration,
    revision: u64,
    link: Option<Link>,
    /// Bytes from the controller are handed over in pieces of this size.
    pub piece: usize,
    /// Bytes that the controller sent in this session.
    pub sent: usize,
    /// What the switch had after each change of its tables.
    pub states: Vec<Program>,
}

impl World {
    pub fn new(desired: Program, ports: &[&str]) -> Self {
        let ports: Vec<String> = ports.iter().map(|port| (*port).to_owned()).collect();
        Self {
            machine: Machine::new(1),
            desired,
            fake: fake::Switch::new(0xb1, &ports),
            now: Duration::ZERO,
            revision: 1,
            link: None,
            piece: usize::MAX,
            sent: 0,
            states: Vec::new(),
        }
    }

    /// The entries of ours that the switch has; panics if it has one of ours that means nothing.
    pub fn installed(&self) -> Program {
        let ports = self.ports();
        let groups: Vec<_> = self.fake.groups.values().cloned().collect();
        let groups = Groups::told(&groups);
        let ours = self.fake.flows().filter(|flow| flow.cookie >> 56 == COOKIE_OWNER >> 56);
        ours.map(|flow| {
            let key = FlowKey { table: flow.table, priority: flow.priority, matches: flow.matching.clone() };
            let flow = Flow { key, cookie: flow.cookie, instructions: flow.instructions.clone() };
            lift(&flow, &ports, &groups).unwrap()
        })
        .collect()
    }

    pub fn ports(&self) -> PortMap {
        let mut map = PortMap::default();
        for port in self.fake.ports() {
            map.insert(port.number, &port.name);
        }
        map
    }

    /// A new session; the old one, if there is one, is lost first.
    pub fn connect(&mut self) {
        self.disconnect();
        self.fake.connect();
        self.sent = 0;
        self.link = Some(Link { session: Session::new(Config::default()), switch: None, commands: Default::default() });
    }

    pub fn disconnect(&mut self) {
        if let Some(link) = self.link.take()
            && link.switch.is_some()
        {
            self.tell(Input::Disconnected("lost"));
        }
    }

    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    pub fn change(&mut self, delta: &Delta) {
        self.revision += 1;
        self.desired.apply(delta);
        self.tell(Input::Desired { revision: self.revision, delta });
    }

    pub fn add(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.change(&Delta { remove: Vec::new(), add: entries.into_iter().collect() });
    }

    fn tell(&mut self, input: Input<'_>) {
        let output = self.machine.handle(input, &self.desired, self.now);
        let Some(link) = &mut self.link else { return };
        match output {
            None => {}
            Some(Output::Read) => link.commands.push_back(Command::Read),
            Some(Output::Apply { step, delta, ahead }) => {
                link.commands.push_back(Command::Apply { step, delta, ahead });
            }
        }
    }

    /// Runs until nobody has anything to say at this time. A session that ends is not begun again.
    pub fn settle(&mut self) {
        while self.link.is_some() && self.turn() {}
    }

    /// Lets time pass, `seconds` of it, a second at a time.
    pub fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.settle();
            self.now += TURN;
            let mut reports = Vec::new();
            if let Some(link) = &mut self.link {
                link.session.tick(self.now);
                if let Some(driver) = &mut link.switch
                    && link.session.is_up()
                {
                    reports = driver.tick(&mut link.session, self.now).unwrap();
                }
            }
            reports.into_iter().for_each(|report| self.report(report));
            self.tell(Input::Tick);
        }
        self.settle();
    }

    /// One exchange of everything that waits; whether there was anything.
    fn turn(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        let mut reports = Vec::new();
        let mut moved = false;
        while let Some(event) = link.session.poll_event() {
            moved = true;
            if let bulkhead_openflow::Event::Dead(_) = event {
                self.disconnect();
                return true;
            }
            match (&mut link.switch, event) {
                (None, bulkhead_openflow::Event::Connected { ports, .. }) => {
                    let mut driver = switch::Switch::new(&ports, 1);
                    reports.extend(driver.begin(&mut link.session, None).unwrap());
                    link.switch = Some(driver);
                }
                (Some(driver), event) => match driver.event(&mut link.session, event, self.now) {
                    Ok(more) => reports.extend(more),
                    // What ended the session comes behind this event.
                    Err(EndError::Session(SessionError::NotConnected)) => {}
                    Err(error) => panic!("{error}"),
                },
                _ => {}
            }
        }
        if let Some(driver) = &mut link.switch
            && driver.is_ready()
            && let Some(command) = link.commands.pop_front()
        {
            moved = true;
            reports.extend(driver.command(&mut link.session, command).unwrap());
        }
        let bytes = link.session.take_output();
        for report in reports {
            self.report(report);
        }
        moved | self.carry(&bytes)
    }

    /// Carries bytes to the switch and its answers back.
    fn carry(&mut self, bytes: &[u8]) -> bool {
        let mut moved = !bytes.is_empty();
        self.sent += bytes.len();
        for piece in bytes.chunks(self.piece.min(bytes.len().max(1))) {
            let before = self.fake.counts.changes;
            self.fake.received(piece).unwrap();
            if self.fake.counts.changes != before {
                let state = self.installed();
                self.states.push(state);
            }
            if self.fake.is_cut() {
                self.disconnect();
                return true;
            }
        }
        let answer = self.fake.take_output();
        moved |= !answer.is_empty();
        if let Some(link) = &mut self.link {
            // Its error comes again as an event.
            let _ = link.session.received(&answer, self.now);
        }
        moved
    }

    fn report(&mut self, report: Report) {
        match &report {
            Report::Connected { capabilities, ports, .. } => {
                let ports = Ports::Known(ports.clone());
                self.tell(Input::Connected { ports: &ports, max_entries: capabilities.max_entries as usize });
            }
            Report::Disconnected(reason) => self.tell(Input::Disconnected(reason)),
            Report::Ports(ports) => self.tell(Input::Ports(ports)),
            Report::Actual { program, alien } => self.tell(Input::Actual { program, alien: *alien }),
            Report::Applied { step } => self.tell(Input::Applied { step: *step }),
            Report::Refused { step, reason } => self.tell(Input::Refused { step: *step, reason }),
            Report::Counters(_)
            | Report::NotCounted(_)
            | Report::Logged(_)
            | Report::Peer(_)
            | Report::Impostor { .. }
            | Report::Probed { .. }
            | Report::PortStates(_)
            | Report::Discovered { .. }
            | Report::Waits(_) => {}
        }
    }
}
