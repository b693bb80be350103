//! The seam between the controller and its drivers: what is asked of a switch, what it reports.
//!
//! The controller sends [`Command`]s for one switch in order; the driver answers each [`Command::Apply`]
//! with one [`Report::Applied`] or [`Report::Refused`], and reports the rest as it happens. A driver holds
//! no truth: after every [`Report::Connected`] it is asked to read the switch back.

mod allowance;
pub mod host;
pub mod reject;

pub use allowance::Allowance;

use bulkhead_pipeline::{Cause, Delta, Packet, Program, Stage};
use bulkhead_topology::{DatapathId, Name, Port, underlay::Underlay};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// What a switch can do, as its driver reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// It tracks connections.
    pub conntrack: bool,
    /// It has conjunctive matches, so that sets need not be multiplied.
    pub conjunction: bool,
    /// Most entries that it may be sent, all stages together.
    pub max_entries: u32,
    /// Most entries of stages whose tables have sizes of their own.
    pub max_by_stage: Arc<BTreeMap<Stage, u32>>,
    /// It has every port that a program names, reported or not: the simulated switch. Real ones have what
    /// they report.
    pub any_port: bool,
}

/// What the controller asks of one switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Read back our entries; answered by [`Report::Actual`].
    Read,
    /// Change the program as one atomic step, removals and additions together, and confirm by a barrier.
    Apply {
        /// Number of this step, to match the answer; grows by one per command and connection.
        step: u64,
        /// What changes. Names only ports that the switch has reported.
        delta: Delta,
        /// What is planned to come after it: a driver that could not carry one of these out refuses this one, so that no
        /// plan is begun which cannot be ended. Empty for most steps.
        ahead: Arc<VecDeque<Delta>>,
    },
    /// Read the counters; answered by [`Report::Counters`] or [`Report::NotCounted`].
    Count,
    /// Send these probes through tunnels. Not answered: the switches at the far ends report what comes there
    /// ([`Report::Probed`]).
    Probe(Vec<Probe>),
    /// Send these frames out of ports, past the program. Not answered: the switches that they come to report them
    /// ([`Report::Discovered`]) where their programs say so. Those of ports that the switch does not have are left out.
    Discover(Vec<Outgoing>),
}

impl Command {
    /// Whether it may be lost on its way to a switch that does not keep up: it is asked for again by itself. Whatever else
    /// is lost would be missed.
    pub const fn may_be_lost(&self) -> bool {
        matches!(self, Self::Probe(_) | Self::Discover(_))
    }
}

/// What a driver reports of one switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The switch is there and speaks our protocol, or its ports changed numbers and what it has means something else now.
    /// Nothing of what was sent before is still under way, and nothing of it will be carried out.
    Connected {
        /// Number of the session that begins: commands carry it, and those of an older one are not carried out.
        session: u64,
        /// What it can do.
        capabilities: Capabilities,
        /// Its ports: names and numbers.
        ports: BTreeSet<Port>,
    },
    /// Who the session is with; follows the first [`Self::Connected`] of a connection.
    Peer(Peer),
    /// Somebody else said to be this switch and was refused, and the switch's own session was left alone.
    Impostor {
        /// Where he is.
        address: SocketAddr,
        /// Why he was refused, for people.
        why: String,
    },
    /// The session ended; why, for people.
    Disconnected(String),
    /// Its ports changed.
    Ports(BTreeSet<Port>),
    /// Our entries as the switch has them.
    Actual {
        /// Entries that carry our cookie and could be lifted.
        program: Program,
        /// Entries with our cookie that could not be lifted: the driver removes them with the next step.
        alien: usize,
    },
    /// A step is in force: the switch confirmed it after a barrier.
    Applied {
        /// The step.
        step: u64,
    },
    /// A step was refused as a whole; the switch's program is what it was.
    Refused {
        /// The step.
        step: u64,
        /// The switch's reason.
        reason: String,
    },
    /// Packets and bytes by cause since the entries were installed.
    Counters(Vec<Counter>),
    /// The switch does not tell its counters; its reason.
    NotCounted(String),
    /// A new connection that an entry with [`bulkhead_pipeline::Action::Log`] matched.
    Logged(Box<Logged>),
    /// A probe came to this switch by a tunnel. Anybody in the underlay can send one: only a token that was sent, and
    /// from where it was sent, says that there is a tunnel.
    Probed {
        /// What it says.
        token: u64,
        /// The outer address that it came from.
        from: IpAddr,
    },
    /// What is known of every port, by number, then name: after each [`Self::Connected`], and whenever a link goes down
    /// or comes up or the ports changed (then after [`Self::Ports`]). A port that is not told of is up; a simulated switch
    /// tells of those alone that were ever taken down.
    PortStates(Vec<PortState>),
    /// A frame that an entry with [`bulkhead_pipeline::Action::Discover`] matched. Whoever is plugged in at the port may
    /// have sent it.
    Discovered {
        /// The port that it came in by: its name, if it has one of its own, or else its number.
        port: Port,
        /// The frame, or its first [`MAX_DISCOVERED`] bytes.
        frame: Vec<u8>,
    },
    /// A switch says that it has this datapath id, and nobody attached it: it waits for that a while. The report is of no
    /// switch's; its attachment is 0.
    Waits(DatapathId),
}

/// Bytes of a frame that is reported as [`Report::Discovered`], at most: what ours take, and some room.
pub const MAX_DISCOVERED: u16 = bulkhead_topology::lldp::FRAME_MAX as u16;

/// What is known of one port. It has a name, a number, or both: entries may say either.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortState {
    /// Its OpenFlow number; `None` on a simulated switch.
    pub number: Option<u32>,
    /// Its name, if no other port tells the same one.
    pub name: Option<Arc<str>>,
    /// Whether it is switched on and has a link.
    pub up: bool,
}

impl PortState {
    /// Whether an entry or a resource that says so means this port.
    pub fn is(&self, port: &Port) -> bool {
        match port {
            Port::Name(name) => self.name.as_ref() == Some(name),
            Port::Number(number) => self.number == Some(*number),
        }
    }

    /// How reports name it: by its name, or else its number. `None` if it has neither.
    pub fn port(&self) -> Option<Port> {
        self.name.clone().map(Port::Name).or(self.number.map(Port::Number))
    }
}

/// A frame to be sent out of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The port.
    pub port: Port,
    /// The whole Ethernet frame.
    pub frame: Vec<u8>,
}

/// The other end of a switch's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whose certificate it has shown, for people; `None` without TLS.
    pub certificate: Option<String>,
}

/// A small frame that is sent through a tunnel to see whether it arrives; it also makes the switch find its neighbour
/// in the underlay before a workload needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The overlay port that it leaves by; left out if the switch does not have it.
    pub port: Port,
    /// The VTEP address that it goes to.
    pub to: IpAddr,
    /// A number that nobody can guess, another one for each pair of ends.
    pub token: u64,
}

/// Logged packets per second and switch, by the switch's meter and by its driver: enough to see who is affected, too few
/// to load anything, however many connections come (A19).
pub const LOGS_PER_SECOND: u32 = 100;
/// Bytes of a logged packet that are looked at: link header with tags, IPv6 with an extension header or two, ports.
pub const LOG_BYTES: u16 = 128;

/// The first packet of a connection that a rule asked to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The rule.
    pub cause: Cause,
    /// Whether the entry dropped it; a rule that denies and did not drop is only reported.
    pub dropped: bool,
    /// The packet's headers, and the port that it came by.
    pub packet: Packet,
    /// How many others this switch's driver has left out since the last one: too many came, or the controller was
    /// busy. What the switch itself leaves out is not known.
    pub missed: u64,
}

/// How often a cause's entries matched on one switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counter {
    /// The cause.
    pub cause: Cause,
    /// Whether it counts dropped packets.
    pub dropped: bool,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// How a driver finds out which of its connections is which switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// OpenFlow: the switch connects and says its datapath id.
    Datapath(DatapathId),
    /// The simulated switch.
    Sim,
    /// P4Runtime: we connect to the device's server.
    Device {
        /// Where that is: HOST:PORT.
        address: String,
        /// The device's number there.
        number: u64,
        /// What it knows of the underlay, if it has tunnels. The driver writes it beside the program.
        underlay: Option<Arc<Underlay>>,
    },
}

/// A report and the switch that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromSwitch {
    /// The switch's name.
    pub switch: Name,
    /// Number of the attachment that the report belongs to (see [`ToDrivers::Attach`]): reports of an
    /// older one are stale.
    pub attachment: u64,
    /// The report.
    pub report: Report,
}

/// What the controller tells its drivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToDrivers {
    /// A switch is now to be driven: from now on its sessions are taken.
    Attach {
        /// The switch's name.
        switch: Name,
        /// How it is found.
        address: Address,
        /// Number of this attachment, echoed in its reports.
        attachment: u64,
    },
    /// A switch is no longer ours: its session is closed and its entries stay.
    Detach {
        /// The switch's name.
        switch: Name,
    },
    /// A command for an attached switch.
    Command {
        /// The switch's name.
        switch: Name,
        /// The session that it is meant for, see [`Report::Connected`].
        session: u64,
        /// The command.
        command: Command,
    },
}
