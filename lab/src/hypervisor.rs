//! A hypervisor: a namespace with an Open vSwitch of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead_netlink::{LinkChange, Namespace, Netlink, Veth};
use serde::{Deserialize, Serialize};

use crate::authority::Files;
use crate::command;
use crate::control::Control;
use crate::process::Process;
use crate::state::{ControlNetwork, Record, Running};

/// The integration bridge's name.
pub const BRIDGE: &str = "br-int";

/// Where Debian puts the database schema.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// Where databases are asked by network (RFC 7047 §7).
const OVSDB_PORT: u16 = 6640;

/// How long a daemon may take to answer for the first time, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The inside end of the control link.
const CONTROL_INSIDE: &str = "control0";

/// How a switch reaches its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Datapath {
    /// Packet sockets: works everywhere.
    #[default]
    System,
    /// AF_XDP sockets: about three times as fast, at the price of a processor that is always busy.
    Afxdp,
}

impl Datapath {
    /// What `ovs-vsctl` is to set on an interface for [`Datapath::Afxdp`] (Documentation/intro/install/afxdp.rst).
    pub(crate) const AFXDP: [&str; 2] = ["type=afxdp", "options:n_rxq=1"];
}

/// One of a hypervisor's two daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Daemon {
    /// `ovsdb-server`, which keeps the configuration.
    Database,
    /// `ovs-vswitchd`, which forwards.
    Switch,
}

/// A MAC as `ovs-vsctl` takes it.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    bulkhead_topology::Mac(mac).to_string()
}

/// A running hypervisor. The handle may be cloned; the lab owns what is behind it.
#[derive(Debug, Clone)]
pub struct Hypervisor {
    name: String,
    namespace: Namespace,
    dir: PathBuf,
    control: ControlNetwork,
}

/// A namespace for a switch, and the link by which it and the host reach one another.
pub(crate) fn control_link(record: &Record, name: &str, link: &str) -> Result<(Namespace, ControlNetwork)> {
    let control = record.control_network()?;
    let namespace = record.namespace(name)?;
    // The switch's ends of the workloads' links are wires: the kernel must not speak IPv6 on them.
    namespace.sysctl(&[("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")])?;
    let mut host = Netlink::here()?;
    let veth = Veth { name: link, peer: CONTROL_INSIDE, peer_in: &namespace, mac: None, mtu: None };
    record.link(link, || Ok(host.add_veth(&veth)?))?;
    let mut inside = namespace.netlink()?;
    for (end, name, ip) in [(&mut host, link, control.host()), (&mut inside, CONTROL_INSIDE, control.hypervisor())] {
        end.add_address(name, ip.into(), ControlNetwork::LENGTH)?;
        end.set(name, &[LinkChange::Up])?;
    }
    // One controller serves all switches: each reaches every address that the host has for one of them.
    let (all, length) = ControlNetwork::ALL;
    inside.add_route(all.into(), length, Some(control.host().into()), CONTROL_INSIDE)?;
    Ok((namespace, control))
}

impl Hypervisor {
    /// The handle for a hypervisor of a lab that another process put up.
    pub(crate) fn of(tag: &str, lab: &Path, name: &str, control: ControlNetwork) -> Hypervisor {
        let namespace = Namespace::named(&format!("{tag}-{name}"));
        Hypervisor { name: name.to_owned(), namespace, dir: lab.join(name), control }
    }

    /// Namespace, control link, and an empty database; no daemon yet.
    pub(crate) fn build(record: &Record, name: &str, link: &str) -> Result<Hypervisor> {
        ensure!(Path::new(SCHEMA).exists(), "{SCHEMA} is missing: install the package openvswitch-switch");
        let dir = record.dir().join(name);
        std::fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let (namespace, control) = control_link(record, name, link)?;
        let hypervisor = Hypervisor { name: name.to_owned(), namespace, dir, control };
        let database = hypervisor.path("conf.db");
        command::succeed(hypervisor.tool("ovsdb-tool", &["create", &database, SCHEMA]), None)?;
        Ok(hypervisor)
    }

    /// The integration bridge: what Bulkhead does itself for a switch that is declared with `ovsdb:`.
    pub(crate) fn integration_bridge(&self, datapath_id: u64) -> Result<()> {
        let bridge = format!("other-config:datapath-id={datapath_id:016x}");
        self.vsctl(&[
            "add-br",
            BRIDGE,
            "--",
            "set",
            "bridge",
            BRIDGE,
            "datapath_type=netdev",
            "fail_mode=secure",
            "protocols=OpenFlow13,OpenFlow15",
            // In-band control lets whoever uses the controller's address past every entry.
            "other-config:disable-in-band=true",
            &bridge,
        ])
        .map(drop)
    }

    /// From now on it shows this certificate, believes whom its authority has signed, and answers for its database by TLS.
    pub(crate) fn secure(&self, files: &Files) -> Result<()> {
        let [key, certificate, ca] = [&files.key, &files.certificate, &files.ca].map(|file| file.to_string_lossy());
        let manager = format!("pssl:{OVSDB_PORT}:{}", self.control_address());
        self.vsctl(&["set-ssl", &key, &certificate, &ca, "--", "set-manager", &manager]).map(drop)
    }

    /// The OVSDB server's address for who comes by TLS, as `ssl:ADDRESS:PORT`.
    pub(crate) fn secure_ovsdb(&self) -> String {
        format!("ssl:{}:{OVSDB_PORT}", self.control_address())
    }

    /// Starts one of its daemons, and waits until it answers. The database comes first.
    pub(crate) fn start(&self, record: &Record, daemon: Daemon) -> Result<Running> {
        match daemon {
            Daemon::Database => self.start_database(record),
            Daemon::Switch => self.start_switch(record),
        }
    }

    fn start_database(&self, record: &Record) -> Result<Running> {
        let database = self.path("conf.db");
        let remote = format!("--remote=punix:{}", self.path("db.sock"));
        let log = format!("--log-file={}", self.path("ovsdb-server.log"));
        let control = format!("--unixctl={}", self.path("ovsdb-server.ctl"));
        let managers = "--remote=db:Open_vSwitch,Open_vSwitch,manager_options";
        let mut server = self.daemon("ovsdb-server", &[&database, &remote, managers, &log, &control, "-vconsole:off"]);
        // As distributions start it: for `ssl:`, it has the certificate that `ovs-vsctl set-ssl` names.
        server.args(["private-key", "certificate", "ca-cert"].map(|file| {
            let column = file.replace('-', "_");
            format!("--{file}=db:Open_vSwitch,SSL,{column}")
        }));
        // What a daemon that was killed left says nothing about the next one.
        self.forget("db.sock")?;
        let server = record.start(|| Ok(self.namespace.spawn(&mut server)?))?;
        self.until_there("db.sock", server.process, "ovsdb-server.log")?;
        // The socket's name is there a moment before anybody listens.
        let init = [&self.database(), "--retry", "--timeout=10", "--no-wait", "init"];
        command::succeed(self.tool("ovs-vsctl", &init), None)?;
        Ok(server)
    }

    fn start_switch(&self, record: &Record) -> Result<Running> {
        let (target, log) = (self.socket(), format!("--log-file={}", self.path("ovs-vswitchd.log")));
        let control = format!("--unixctl={}", self.path("vs.ctl"));
        let mut switch = self.daemon("ovs-vswitchd", &[&target, &log, &control, "-vconsole:off"]);
        self.forget("vs.ctl")?;
        let switch = record.start(|| Ok(self.namespace.spawn(&mut switch)?))?;
        self.until_there("vs.ctl", switch.process, "ovs-vswitchd.log")?;
        Ok(switch)
    }

    fn forget(&self, socket: &str) -> Result<()> {
        match std::fs::remove_file(self.dir.join(socket)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// A daemon in the foreground: its number is then known, and it needs no pid file.
    fn daemon(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.tool(program, arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command
    }

    /// One of Open vSwitch's programs, told to use this hypervisor's directory for everything.
    fn tool(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments);
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, &self.dir);
        }
        command
    }

    fn until_there(&self, file: &str, process: Process, log: &str) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while !self.dir.join(file).exists() {
            let alive = process.runs();
            if !alive || Instant::now() >= deadline {
                let told = std::fs::read_to_string(self.dir.join(log)).unwrap_or_default();
                let last = told.lines().rev().take(3).collect::<Vec<_>>().join(" / ");
                anyhow::bail!("{log}: the daemon {}: {last}", if alive { "does not come up" } else { "ended" });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn path(&self, file: &str) -> String {
        self.dir.join(file).to_string_lossy().into_owned()
    }

    fn socket(&self) -> String {
        format!("unix:{}", self.path("db.sock"))
    }

    fn database(&self) -> String {
        format!("--db={}", self.socket())
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

    /// Where logs and sockets are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The OVSDB server's address, as `unix:PATH`.
    #[must_use]
    pub fn ovsdb(&self) -> String {
        self.socket()
    }

    pub(crate) fn control_network(&self) -> ControlNetwork {
        self.control
    }

    /// The host's address on the control link: a controller in the host's namespace listens here.
    #[must_use]
    pub fn controller_address(&self) -> Ipv4Addr {
        self.control.host()
    }

    /// Its own address on the control link.
    #[must_use]
    pub fn control_address(&self) -> Ipv4Addr {
        self.control.hypervisor()
    }

    /// Tells the switch where its controller is. The first call flushes all flows, so it comes before any is added.
    ///
    /// # Errors
    /// When `ovs-vsctl` fails.
    pub fn set_controller(&self, address: SocketAddr) -> Result<()> {
        self.set_controller_target(&format!("tcp:{}:{}", address.ip(), address.port()))
    }

    /// The same with a target in Open vSwitch's words, such as `unix:PATH` (ovs-vsctl(8)).
    ///
    /// # Errors
    /// When `ovs-vsctl` fails.
    pub fn set_controller_target(&self, target: &str) -> Result<()> {
        // Try again after 1 s at most (Open vSwitch's smallest): restarts of the controller are part of tests.
        self.vsctl(&["set-controller", BRIDGE, target, "--", "set", "controller", BRIDGE, "max_backoff=1000"]).map(drop)
    }

    /// Runs `ovs-vsctl` on this switch; it returns when the switch has carried the change out.
    ///
    /// # Errors
    /// When it fails or does not end in time.
    pub fn vsctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.tool("ovs-vsctl", &[&self.database(), "--timeout=10"]);
        command.args(arguments);
        command::succeed(command, None)
    }

    /// Runs `ovs-ofctl -O OpenFlow15 VERB br-int ARGUMENTS...`.
    ///
    /// # Errors
    /// When it fails or does not end in time.
    pub fn ofctl(&self, verb: &str, arguments: &[&str]) -> Result<String> {
        let bridge = self.path(&format!("{BRIDGE}.mgmt"));
        let mut command = self.tool("ovs-ofctl", &["-O", "OpenFlow15", "--timeout=10", verb, &bridge]);
        command.args(arguments);
        command::succeed(command, None)
    }

    /// Puts these flows, one a line in `ovs-ofctl`'s words, in the place of all others of a bridge.
    pub(crate) fn replace_flows(&self, bridge: &str, flows: &str) -> Result<()> {
        let bridge = self.path(&format!("{bridge}.mgmt"));
        let command = self.tool("ovs-ofctl", &["--timeout=10", "replace-flows", &bridge, "-"]);
        command::succeed(command, Some(flows)).map(drop)
    }

    /// What `ovs-appctl` would print of this switch: a command and its arguments.
    ///
    /// # Errors
    /// When the switch refuses it, or does not answer in time.
    pub fn appctl(&self, arguments: &[&str]) -> Result<String> {
        let (command, arguments) = arguments.split_first().context("no command")?;
        self.control()?.ask(command, arguments)
    }

    /// A connection to the switch's control socket, for many questions.
    ///
    /// # Errors
    /// When the switch is not there.
    pub fn control(&self) -> Result<Control> {
        Control::open(&self.dir.join("vs.ctl"))
    }

    /// One of Open vSwitch's programs, told to talk to this hypervisor's daemons.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.tool(program, &[])
    }

    /// Adds an interface of this namespace to the bridge, under its own name, with further words of `ovs-vsctl set`,
    /// and returns its OpenFlow number.
    ///
    /// # Errors
    /// When the switch cannot open it.
    pub fn add_port(&self, port: &str, settings: &[&str]) -> Result<u32> {
        let mut arguments = vec!["add-port", BRIDGE, port];
        if !settings.is_empty() {
            arguments.extend(["--", "set", "interface", port]);
            arguments.extend(settings);
        }
        self.vsctl(&arguments)?;
        let number = self.vsctl(&["get", "interface", port, "ofport"])?;
        number.trim().parse().with_context(|| format!("the switch cannot open port {port}"))
    }

    /// Takes a port out of the bridge; its interface stays.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn del_port(&self, port: &str) -> Result<()> {
        self.vsctl(&["del-port", BRIDGE, port]).map(drop)
    }

    /// The flows of the bridge as `ovs-ofctl dump-flows` tells them, without counters and times, sorted.
    ///
    /// # Errors
    /// When `ovs-ofctl` fails.
    pub fn flows(&self) -> Result<Vec<String>> {
        let text = self.ofctl("dump-flows", &["--no-stats"])?;
        let mut flows: Vec<_> =
            text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
        flows.sort();
        Ok(flows)
    }
}
