//! A real Open vSwitch in a namespace of its own, and the driver that listens for it. Not every test file uses all
//! of it.

#![allow(dead_code)]

use bulkhead_dataplane::{Address, Command, FromSwitch, PortState, Report, ToDrivers};
use bulkhead_driver_ovs::driver;
use bulkhead_lab::{Hypervisor, Lab};
use bulkhead_pipeline::{Delta, Entry, Program};
use bulkhead_tls::{Files, Tls};
use bulkhead_topology::{DatapathId, Name, Port};
use pki::Pki;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

#[path = "../../../../../tls/tests/pki/mod.rs"]
pub mod pki;

pub const DATAPATH: u64 = 0xb1;
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Rig {
    pub hypervisor: Hypervisor,
    pub address: SocketAddr,
    pub commands: mpsc::Sender<ToDrivers>,
    pub reports: mpsc::Receiver<FromSwitch>,
    /// Who signs the certificates; none where nothing is protected.
    pub pki: Option<Pki>,
    /// The switch's session.
    pub session: u64,
    step: u64,
    /// What was told last of the ports.
    states: Vec<PortState>,
    /// Removed last.
    pub lab: Lab,
}

/// Ports of every rig: name and number.
pub const PORTS: [(&str, u32); 3] = [("web-1", 1), ("db-1", 2), ("uplink0", 300)];

/// A controller's end of its driver.
pub struct Controller {
    commands: mpsc::Sender<ToDrivers>,
    reports: mpsc::Receiver<FromSwitch>,
    session: u64,
}

pub fn name() -> Name {
    "hv1".parse().unwrap()
}

impl Rig {
    /// A switch with [`PORTS`], connected; `None` where there can be no lab.
    pub async fn start() -> Option<Self> {
        let mut rig = Self::bare().await?;
        for (port, number) in PORTS {
            rig.add_port(port, number);
        }
        rig.attach(1).await;
        rig.connect();
        let connected = rig.report().await;
        assert!(matches!(&connected, Report::Connected { ports, .. } if ports.contains(&Port::Name("web-1".into()))));
        Some(rig)
    }

    /// A switch that is neither attached nor told of its controller.
    pub async fn bare() -> Option<Self> {
        Self::with(None, None).await
    }

    /// The same for a driver that wants TLS.
    pub async fn secured() -> Option<Self> {
        let pki = Pki::new();
        Self::with(Some(pki.tls("controller")), Some(pki)).await
    }

    /// The same with certificates of one's own.
    pub async fn of(tls: Tls) -> Option<Self> {
        Self::with(Some(tls), None).await
    }

    async fn with(tls: Option<Tls>, pki: Option<Pki>) -> Option<Self> {
        if let Some(why) = bulkhead_lab::missing() {
            eprintln!("skipped: {why}");
            return None;
        }
        let mut lab = Lab::new("drv").unwrap();
        let hypervisor = lab.hypervisor("hv1", DATAPATH).unwrap();
        let listener = TcpListener::bind((hypervisor.controller_address(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (commands, from_controller) = mpsc::channel(16);
        let (to_controller, reports) = mpsc::channel(64);
        tokio::spawn(driver::run(listener, tls, Some(7), from_controller, to_controller));
        Some(Self { hypervisor, address, commands, reports, pki, session: 0, step: 0, states: Vec::new(), lab })
    }

    /// A second controller of this term that is the same switch's, which is told of both; this rig speaks for it from now
    /// on. What is given back speaks for the one before, see [`Self::again`].
    pub async fn rival(&mut self, term: u64) -> Controller {
        let listener = TcpListener::bind((self.hypervisor.controller_address(), 0)).await.unwrap();
        let targets = [self.address, listener.local_addr().unwrap()].map(|address| format!("tcp:{address}"));
        let (commands, from_controller) = mpsc::channel(16);
        let (to_controller, reports) = mpsc::channel(64);
        tokio::spawn(driver::run(listener, None, Some(term), from_controller, to_controller));
        let before = self.again(Controller { commands, reports, session: 0 });
        self.attach(1).await;
        self.hypervisor.vsctl(&["set-controller", "br-int", &targets[0], &targets[1]]).unwrap();
        before
    }

    /// Speaks for another controller; the one until now.
    pub fn again(&mut self, other: Controller) -> Controller {
        Controller {
            commands: std::mem::replace(&mut self.commands, other.commands),
            reports: std::mem::replace(&mut self.reports, other.reports),
            session: std::mem::replace(&mut self.session, other.session),
        }
    }

    pub fn connect(&self) {
        let Some(pki) = &self.pki else { return self.hypervisor.set_controller(self.address).unwrap() };
        self.show(pki.files(name().as_str()));
        self.hypervisor.set_controller_target(&format!("ssl:{}", self.address)).unwrap();
    }

    /// Gives the switch a certificate, in place of the one that it has.
    pub fn show(&self, files: Files) {
        let files = [files.key, files.certificate, files.ca].map(|file| file.to_str().unwrap().to_owned());
        self.hypervisor.vsctl(&["set-ssl", &files[0], &files[1], &files[2]]).unwrap();
    }

    pub async fn attach(&self, attachment: u64) {
        let address = Address::Datapath(DatapathId(DATAPATH));
        self.commands.send(ToDrivers::Attach { switch: name(), address, attachment }).await.unwrap();
    }

    pub fn add_port(&self, port: &str, number: u32) {
        let request = format!("ofport_request={number}");
        let add = ["add-port", "br-int", port, "--", "set", "interface", port, "type=internal", &request];
        self.hypervisor.vsctl(&add).unwrap();
    }

    pub async fn command(&self, command: Command) {
        self.commands.send(ToDrivers::Command { switch: name(), session: self.session, command }).await.unwrap();
    }

    /// The next report of anything but links, which come and go as the switch finds.
    pub async fn report(&mut self) -> Report {
        loop {
            let report = self.any_report().await;
            if !matches!(report, Report::Peer(_)) {
                return report;
            }
        }
    }

    /// The same, that of who it is that connected included.
    pub async fn any_report(&mut self) -> Report {
        let report = loop {
            match timeout(PATIENCE, self.reports.recv()).await.expect("no report in time").unwrap().report {
                Report::PortStates(states) => self.states = states,
                report => break report,
            }
        };
        if let Report::Connected { session, .. } = &report {
            self.session = *session;
        }
        report
    }

    /// Waits until what is told of the ports is as it is wanted.
    pub async fn states(&mut self, wanted: impl Fn(&[PortState]) -> bool) {
        while !wanted(&self.states) {
            match timeout(PATIENCE, self.reports.recv()).await.expect("no report in time").unwrap().report {
                Report::PortStates(states) => self.states = states,
                Report::Ports(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Applies a delta; the switch's reason if it refuses.
    pub async fn apply(&mut self, remove: Vec<Entry>, add: Vec<Entry>) -> Result<(), String> {
        self.step += 1;
        let remove = remove.into_iter().map(|entry| entry.key.clone()).collect();
        self.command(Command::Apply { step: self.step, delta: Delta { remove, add }, ahead: Arc::default() }).await;
        loop {
            match self.report().await {
                Report::Applied { step } if step == self.step => return Ok(()),
                Report::Refused { step, reason } if step == self.step => return Err(reason),
                // Told after what [`Self::states`] waited for.
                Report::Ports(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// What the switch has, and how many entries that could not be lifted.
    pub async fn read(&mut self) -> (Program, usize) {
        self.command(Command::Read).await;
        loop {
            match self.report().await {
                Report::Actual { program, alien } => return (program, alien),
                Report::Ports(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
