//! A leaf: a namespace with a switch that P4 programs. Its program and entries come over P4Runtime, by the control link.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bulkhead_netlink::Namespace;
use bulkhead_topology::underlay::CONTROLLER_PORT;
use serde::{Deserialize, Serialize};

use crate::hypervisor::control_link;
use crate::process::Process;
use crate::state::{ControlNetwork, Record, Running};

/// Where its P4Runtime server listens.
const P4RUNTIME_PORT: u16 = 9559;

/// The number of its device.
pub const DEVICE: u64 = 1;

/// The port that the underlay is at. Workloads have those from 1 on.
pub const UNDERLAY_PORT: u32 = 500;

/// How long a switch may take to answer for the first time, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long one attempt to reach it may take.
const ATTEMPT: Duration = Duration::from_millis(500);

/// A switch that P4 programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// BMv2's `simple_switch_grpc`.
    Bmv2,
    /// `bulkhead-p4-target`.
    StandIn,
}

impl Device {
    /// BMv2, if it is on the PATH; the stand-in if not.
    #[must_use]
    pub fn here() -> Device {
        if Device::Bmv2.program().is_ok() { Device::Bmv2 } else { Device::StandIn }
    }

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Device::Bmv2 => "BMv2",
            Device::StandIn => "stand-in for a P4 switch",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Device::Bmv2 => "simple_switch_grpc",
            Device::StandIn => "bulkhead-p4-target",
        }
    }

    /// Its program: beside this one, where builds put it, or on the PATH.
    fn program(self) -> Result<PathBuf> {
        let own = std::env::current_exe().unwrap_or_default();
        let beside = own.ancestors().skip(1).take(2).map(Path::to_owned);
        let named = std::env::var_os("BULKHEAD_BIN_DIR").map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = named.into_iter().chain(beside).chain(std::env::split_paths(&path));
        let found = folders.map(|folder| folder.join(self.file())).find(|file| file.is_file());
        found.with_context(|| format!("{} is neither beside this program nor on the PATH", self.file()))
    }
}

/// One of its ports.
#[derive(Debug, Clone)]
pub(crate) struct Plug {
    /// From 1 to 509.
    pub number: u32,
    /// The interface here, of BMv2, which takes those that are there.
    pub near: String,
    /// The interface at the far end, which the stand-in makes itself.
    pub far: String,
    /// The namespace of that one.
    pub far_in: Namespace,
}

/// A running leaf. The handle may be cloned; the lab owns what is behind it.
#[derive(Debug, Clone)]
pub struct Leaf {
    name: String,
    namespace: Namespace,
    dir: PathBuf,
    control: ControlNetwork,
}

impl Leaf {
    /// The handle for a leaf of a lab that another process put up.
    pub(crate) fn of(tag: &str, lab: &Path, name: &str, control: ControlNetwork) -> Leaf {
        let namespace = Namespace::named(&format!("{tag}-{name}"));
        Leaf { name: name.to_owned(), namespace, dir: lab.join(name), control }
    }

    /// Namespace and control link; no switch yet.
    pub(crate) fn build(record: &Record, name: &str, link: &str) -> Result<Leaf> {
        let dir = record.dir().join(name);
        std::fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let (namespace, control) = control_link(record, name, link)?;
        Ok(Leaf { name: name.to_owned(), namespace, dir, control })
    }

    /// Starts its switch with these ports, and waits until it answers.
    pub(crate) fn start(&self, record: &Record, device: Device, ports: &[Plug]) -> Result<Running> {
        let mut command = match device {
            // It looks for its links' state in /sys, and has to see its own namespace's there (ip-netns(8)).
            Device::Bmv2 => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", self.namespace.name()]).arg(device.program()?);
                command
            }
            Device::StandIn => Command::new(device.program()?),
        };
        let listen = format!("{}:{P4RUNTIME_PORT}", self.control.hypervisor());
        match device {
            Device::Bmv2 => {
                command.args(["--no-p4", "--log-level", "off", "--device-id", &DEVICE.to_string()]);
                for Plug { number, near, .. } in ports {
                    command.args(["-i", &format!("{number}@{near}")]);
                }
                command.args(["--", "--grpc-server-addr", &listen, "--cpu-port", &CONTROLLER_PORT.to_string()]);
            }
            Device::StandIn => {
                command.args(["--listen", &listen, "--device-id", &DEVICE.to_string()]);
                for Plug { number, far, far_in, .. } in ports {
                    command.args(["--port", &format!("{number}={far}@{}", far_in.name())]);
                }
            }
        }
        let log = self.dir.join("switch.log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let switch = record.start(|| Ok(self.namespace.spawn(&mut command)?))?;
        self.until_there(switch.process, &log)?;
        Ok(switch)
    }

    fn until_there(&self, process: Process, log: &Path) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while !self.answers() {
            let alive = process.runs();
            if !alive || Instant::now() >= deadline {
                let told = std::fs::read_to_string(log).unwrap_or_default();
                let last = told.lines().rev().take(3).collect::<Vec<_>>().join(" / ");
                bail!("the switch {}: {last}", if alive { "does not come up" } else { "ended" });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Whether its P4Runtime server takes connections.
    #[must_use]
    pub fn answers(&self) -> bool {
        let address = SocketAddr::from((self.control.hypervisor(), P4RUNTIME_PORT));
        TcpStream::connect_timeout(&address, ATTEMPT).is_ok()
    }

    /// Where a controller finds it: HOST:PORT.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{P4RUNTIME_PORT}", self.control.hypervisor())
    }

    /// Its name in the lab.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its switch runs.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The address of the host in the host's namespace, by which it and the controller reach one another.
    pub(crate) fn controller_address(&self) -> Ipv4Addr {
        self.control.host()
    }

    pub(crate) fn control_network(&self) -> ControlNetwork {
        self.control
    }
}
