//! A driver with one device, and programs for it.

// Every test file uses a part of it.
#![allow(dead_code)]

pub mod bmv2;
pub mod frames;
pub mod told;

use bulkhead_compile::Compiler;
use bulkhead_dataplane::{Address, Command, FromSwitch, Report, ToDrivers};
use bulkhead_driver_p4::{driver, layout};
use bulkhead_pipeline::{Delta, Program};
use bulkhead_policy::State;
use bulkhead_topology::{Name, underlay::Underlay};
use bulkhead_types::{Format, read};
use std::{collections::VecDeque, process::Child, sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

/// How long anything may take before a test has failed: machines are busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A process that ends with its owner.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The controller's end of a driver that drives one device.
pub struct Rig {
    pub commands: mpsc::Sender<ToDrivers>,
    pub reports: mpsc::Receiver<FromSwitch>,
    driver: JoinHandle<()>,
    /// How many it is to tell of.
    ports: usize,
    attachment: u64,
    pub session: u64,
}

pub fn name() -> Name {
    "leaf".parse().unwrap()
}

impl Rig {
    pub async fn attach(address: &str, number: u64) -> Self {
        Self::attach_with(address, number, None).await
    }

    pub async fn attach_with(address: &str, number: u64, underlay: Option<Underlay>) -> Self {
        let (commands, queue) = mpsc::channel(16);
        let (to, reports) = mpsc::channel(64);
        let driver = tokio::spawn(driver::run(Some(1), queue, to));
        let address = Address::Device { address: address.into(), number, underlay: underlay.clone().map(Arc::new) };
        commands.send(ToDrivers::Attach { switch: name(), address, attachment: 7 }).await.unwrap();
        let ports = layout::MAX_PORT as usize + if underlay.is_some() { 2 } else { 0 };
        Self { commands, reports, driver, ports, attachment: 7, session: 0 }
    }

    /// The same device is attached anew, as after a change of its document.
    pub async fn attach_again(&mut self, address: &str, number: u64, underlay: Underlay) {
        self.commands.send(ToDrivers::Detach { switch: name() }).await.unwrap();
        self.attachment += 1;
        let address = Address::Device { address: address.into(), number, underlay: Some(Arc::new(underlay)) };
        let attachment = self.attachment;
        self.commands.send(ToDrivers::Attach { switch: name(), address, attachment }).await.unwrap();
    }

    pub async fn next(&mut self) -> Report {
        loop {
            let from = timeout(PATIENCE, self.reports.recv()).await.unwrap().unwrap();
            assert_eq!(from.switch, name());
            // What was told before the device was attached anew is stale.
            if from.attachment == self.attachment {
                return from.report;
            }
        }
    }

    /// Until it is connected, however often that fails first.
    pub async fn connected(&mut self) {
        loop {
            if let Report::Connected { session, capabilities, ports } = self.next().await {
                assert!(!capabilities.conntrack && !capabilities.conjunction && !capabilities.any_port);
                assert_eq!(ports.len(), self.ports);
                self.session = session;
                return;
            }
        }
    }

    pub async fn disconnected(&mut self) -> String {
        loop {
            if let Report::Disconnected(why) = self.next().await {
                return why;
            }
        }
    }

    pub async fn ask(&mut self, command: Command) -> Report {
        let command = ToDrivers::Command { switch: name(), session: self.session, command };
        self.commands.send(command).await.unwrap();
        loop {
            match self.next().await {
                Report::Peer(_) => {}
                other => return other,
            }
        }
    }

    pub async fn read(&mut self) -> (Program, usize) {
        match self.ask(Command::Read).await {
            Report::Actual { program, alien } => (program, alien),
            other => panic!("{other:?}"),
        }
    }

    pub async fn apply(&mut self, delta: Delta, ahead: Vec<Delta>) -> Result<(), String> {
        let ahead = Arc::new(VecDeque::from(ahead));
        match self.ask(Command::Apply { step: 3, delta, ahead }).await {
            Report::Applied { step: 3 } => Ok(()),
            Report::Refused { step: 3, reason } => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    /// The controller goes; the device stays as it is.
    pub async fn end(self) {
        drop(self.commands);
        timeout(PATIENCE, self.driver).await.unwrap().unwrap();
    }
}

/// What makes `to` of `from`.
pub fn delta(from: &Program, to: &Program) -> Delta {
    let remove = from.iter().filter(|old| to.get(&old.key).is_none()).map(|old| old.key.clone());
    let add = to.iter().filter(|new| from.get(&new.key) != Some(new));
    Delta { remove: remove.collect(), add: add.cloned().collect() }
}

/// The program of switch `leaf` in a state.
pub fn state_program(documents: &str) -> Program {
    let parsed = read(None, documents.as_bytes(), Format::Any);
    assert!(!parsed.has_errors(), "{:#?}", parsed.diagnostics);
    let mut state = State::default();
    state.apply(&parsed.changes());
    let compiler = Compiler::new(&state, Default::default()).unwrap().0;
    compiler.program(&name()).unwrap().clone()
}
