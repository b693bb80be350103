//! A lab: everything that one test or demo put up, and its removal.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use bulkhead_topology::Mac;

use crate::hypervisor::{Daemon, Hypervisor};
use crate::leaf::{Device, Leaf, Plug};
use crate::process::Process;
use crate::state::{self, Record, Running, base36};
use crate::workload::{Spec, Workload, check_name, check_word};

/// Longest prefix of a lab's name: sockets below its directory have to fit in 108 bytes (unix(7)).
pub(crate) const PREFIX_MOST: usize = 16;

/// Programs without which there is no lab, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 4] = [
    ("ovsdb-server", "openvswitch-switch"),
    ("ovs-vswitchd", "openvswitch-switch"),
    ("ovs-vsctl", "openvswitch-switch"),
    ("ovs-ofctl", "openvswitch-switch"),
];

/// Why this machine cannot hold a lab; `None` if it can.
#[must_use]
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("a lab needs root, for network namespaces".into());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let found = |program: &str| path.split(':').any(|dir| Path::new(dir).join(program).is_file());
    let (program, package) = PROGRAMS.into_iter().find(|(program, _)| !found(program))?;
    Some(format!("{program} is not installed (package {package})"))
}

/// Hypervisors, workloads and programs. Dropping it removes them all.
#[derive(Debug)]
pub struct Lab {
    record: Record,
    running: Vec<Running>,
    daemons: BTreeMap<(String, Daemon), Process>,
    switches: u32,
    links: String,
}

impl Lab {
    /// A new, empty lab. Names are unique on this machine: any number of labs may be up at once. What labs left behind
    /// whose owners are gone is removed on the way.
    ///
    /// # Errors
    /// When this machine cannot hold a lab ([`missing`]).
    pub fn new(prefix: &str) -> Result<Lab> {
        if let Some(why) = missing() {
            bail!(why);
        }
        Lab::host_only(prefix)
    }

    /// A lab without hosts and switches, for programs only. It needs neither root nor Open vSwitch.
    ///
    /// # Errors
    /// When the labs' directory cannot be used.
    pub fn host_only(prefix: &str) -> Result<Lab> {
        check_word(prefix, PREFIX_MOST)?;
        state::sweep()?;
        let record = Record::create(prefix)?;
        // `b` PID `-` LAB `-` HYPERVISOR: 4194304 processes (proc(5), pid_max) are 5 letters, 4 and 3 are left.
        let number = record.tag().rsplit('-').next().unwrap_or_default().parse().unwrap_or(0);
        let links = format!("b{}-{}", base36(std::process::id()), base36(number));
        Ok(Lab { record, running: Vec::new(), daemons: BTreeMap::new(), switches: 0, links })
    }

    /// The lab's name on this machine; its namespaces' names begin with it.
    #[must_use]
    pub fn tag(&self) -> &str {
        self.record.tag()
    }

    /// A directory for the lab's files, removed with it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.record.dir()
    }

    /// Starts a hypervisor: a namespace with an ovsdb-server, an ovs-vswitchd (userspace datapath) and the bridge
    /// [`BRIDGE`](crate::hypervisor::BRIDGE), `fail_mode=secure`, without a controller.
    ///
    /// # Errors
    /// When any of it cannot be had.
    pub fn hypervisor(&mut self, name: &str, datapath_id: u64) -> Result<Hypervisor> {
        check_name(name)?;
        let link = self.control_link();
        let mut build = || -> Result<Hypervisor> {
            let hypervisor = Hypervisor::build(&self.record, name, &link)?;
            for daemon in [Daemon::Database, Daemon::Switch] {
                let running = hypervisor.start(&self.record, daemon)?;
                self.daemons.insert((name.to_owned(), daemon), running.process);
                self.running.push(running);
            }
            hypervisor.integration_bridge(datapath_id)?;
            Ok(hypervisor)
        };
        build().with_context(|| format!("hypervisor {name} does not come up"))
    }

    /// A name for the next switch's control link.
    fn control_link(&mut self) -> String {
        self.switches += 1;
        format!("{}-{}", self.links, base36(self.switches - 1))
    }

    /// The place for a switch that P4 programs. It runs once [`Lab::start_leaf`] has started it.
    pub(crate) fn leaf(&mut self, name: &str) -> Result<Leaf> {
        check_name(name)?;
        let link = self.control_link();
        Leaf::build(&self.record, name, &link)
    }

    /// Starts a leaf's switch with these ports.
    pub(crate) fn start_leaf(&mut self, leaf: &Leaf, device: Device, ports: &[Plug]) -> Result<()> {
        let running = leaf.start(&self.record, device, ports)?;
        self.running.push(running);
        Ok(())
    }

    /// The process of a hypervisor's daemon.
    ///
    /// # Errors
    /// When it is not one of this lab's.
    pub fn daemon(&self, hypervisor: &str, daemon: Daemon) -> Result<Process> {
        self.daemons.get(&(hypervisor.to_owned(), daemon)).copied().context("no daemon of this lab")
    }

    /// Ends a hypervisor's daemon. [`Lab::start_daemon`] starts it again.
    ///
    /// # Errors
    /// When it is not one of this lab's, or was ended already.
    pub fn stop_daemon(&mut self, on: &Hypervisor, daemon: Daemon, how: End) -> Result<()> {
        self.end(self.daemon(on.name(), daemon)?, how)
    }

    /// Starts a hypervisor's daemon that was stopped, and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_daemon(&mut self, on: &Hypervisor, daemon: Daemon) -> Result<()> {
        let running = on.start(&self.record, daemon)?;
        self.daemons.insert((on.name().to_owned(), daemon), running.process);
        self.running.push(running);
        Ok(())
    }

    /// Everything that was written down about it, for what is built beside it.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Starts a workload of the shop's network and plugs it into a hypervisor's switch.
    ///
    /// # Errors
    /// When any of it cannot be had.
    pub fn workload(&mut self, on: &Hypervisor, name: &str, mac: Mac, ips: &[std::net::IpAddr]) -> Result<Workload> {
        self.add(on, &Spec::new(name, mac, ips))
    }

    /// Starts any kind of host and plugs it into a hypervisor's switch.
    ///
    /// # Errors
    /// When any of it cannot be had.
    pub fn add(&mut self, on: &Hypervisor, spec: &Spec) -> Result<Workload> {
        Workload::build(&self.record, on, spec).with_context(|| format!("workload {} does not come up", spec.name))
    }

    /// Unplugs a workload and removes it.
    ///
    /// # Errors
    /// When the switch refuses or the namespace cannot be removed.
    pub fn remove(&mut self, on: &Hypervisor, workload: &Workload) -> Result<()> {
        on.del_port(workload.name())?;
        self.record.drop_namespace(workload.namespace())
    }

    /// Starts a program in the host's namespace that ends with the lab. Its output goes to `NAME.log` in [`Lab::dir`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn program(&mut self, name: &str, mut command: Command) -> Result<Process> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir().join(format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let line = crate::command::words(&command);
        let start = || command.spawn().with_context(|| format!("cannot start `{line}`"));
        let running = self.record.start(start)?;
        let process = running.process;
        self.running.push(running);
        Ok(process)
    }

    /// Ends a program that [`Lab::program`] started, with SIGTERM first; or at once, as a crash would.
    ///
    /// # Errors
    /// When it is none of this lab's.
    pub fn end(&mut self, process: Process, how: End) -> Result<()> {
        let at = self.running.iter().position(|running| running.process == process);
        let mut running = self.running.swap_remove(at.context("no program of this lab")?);
        match how {
            End::Orderly => process.end(),
            End::Crash => process.kill(),
        }
        running.child.wait()?;
        self.record.ended(process)
    }

    /// Leaves the lab in place when this process ends; `bulkhead-lab down` removes it.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn keep(&self) -> Result<()> {
        self.record.keep()
    }

    /// Removes everything now, and says what could not be removed. Dropping does the same silently.
    ///
    /// # Errors
    /// When something is left.
    pub fn down(mut self) -> Result<()> {
        self.tear_down()
    }

    fn tear_down(&mut self) -> Result<()> {
        let result = self.record.demolish();
        for mut running in self.running.drain(..) {
            // A kept program goes on; every other one has ended, and this takes its number off the process table.
            if !running.process.runs() {
                let _ = running.child.wait();
            }
        }
        result
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.tear_down() {
            eprintln!("bulkhead-lab: {} is not wholly gone: {error:#}", self.record.tag());
        }
    }
}

/// How a program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGTERM, and SIGKILL if that does not help.
    Orderly,
    /// SIGKILL.
    Crash,
}
