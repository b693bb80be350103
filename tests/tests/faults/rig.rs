//! The driver's own task, on real TCP.

use bulkhead_dataplane::{Address, Command, FromSwitch, Report, ToDrivers};
use bulkhead_driver_ovs::driver;
use bulkhead_pipeline::Delta;
use bulkhead_tls::Tls;
use bulkhead_topology::{DatapathId, Name};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The driver, and the controller's end of its channels.
pub struct Rig {
    commands: mpsc::Sender<ToDrivers>,
    reports: mpsc::Receiver<FromSwitch>,
    /// Where switches connect.
    pub address: SocketAddr,
    /// The switches' newest sessions.
    sessions: BTreeMap<u64, u64>,
}

pub fn name(number: u64) -> Name {
    format!("s{number}").parse().unwrap()
}

impl Rig {
    /// A driver with these many switches attached, numbered from 1; it wants TLS, or knows nothing of it.
    pub async fn start(switches: u64, tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (commands, from_controller) = mpsc::channel(64);
        let (to_controller, reports) = mpsc::channel(1024);
        tokio::spawn(driver::run(listener, tls, Some(7), from_controller, to_controller));
        let rig = Self { commands, reports, address, sessions: BTreeMap::new() };
        for number in 1..=switches {
            rig.attach(number).await;
        }
        rig
    }

    pub async fn attach(&self, number: u64) {
        let address = Address::Datapath(DatapathId(number));
        self.commands.send(ToDrivers::Attach { switch: name(number), address, attachment: 1 }).await.unwrap();
    }

    /// The next report of anything but links.
    pub async fn told(&mut self) -> FromSwitch {
        loop {
            let from = timeout(PATIENCE, self.reports.recv()).await.expect("no report in time").unwrap();
            if !matches!(from.report, Report::PortStates(_)) {
                return from;
            }
        }
    }

    /// The next one of anything but links and who a session is with.
    pub async fn report(&mut self) -> FromSwitch {
        loop {
            let from = self.told().await;
            if !matches!(from.report, Report::Peer(_)) {
                return from;
            }
        }
    }

    /// Waits until the switch is connected; the number of its session.
    pub async fn connected(&mut self, number: u64) -> u64 {
        let from = self.report().await;
        assert_eq!(from.switch, name(number));
        let Report::Connected { session, .. } = from.report else { panic!("{:?}", from.report) };
        self.sessions.insert(number, session);
        session
    }

    /// Tells a switch something, in its newest session.
    pub async fn command(&self, number: u64, command: Command) {
        self.command_in(self.sessions[&number], number, command).await;
    }

    async fn command_in(&self, session: u64, number: u64, command: Command) {
        self.commands.send(ToDrivers::Command { switch: name(number), session, command }).await.unwrap();
    }

    /// A small step.
    pub async fn apply(&self, number: u64, step: u64) {
        self.apply_in(self.sessions[&number], number, step).await;
    }

    pub async fn apply_in(&self, session: u64, number: u64, step: u64) {
        let delta = Delta { remove: Vec::new(), add: vec![crate::rule(1, step as u32)] };
        self.command_in(session, number, Command::Apply { step, delta, ahead: Arc::default() }).await;
    }
}
