//! What the loop is told, in the form in which it is recorded.

use bulkhead_dataplane::{PortState, Report, host::HostReport};
use bulkhead_policy::Key;
use bulkhead_topology::{Name, Port};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, sync::Arc};

use crate::apply::{Outcome, Refusal, Request};

/// One event, as a line of a recording. Changes are recorded whole; a driver's reports without the
/// entries that they carry, because a replay's drivers make their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// The recording begins.
    Start {
        /// The revision at that moment.
        revision: u64,
    },
    /// A change was asked for.
    Apply {
        /// Who asked.
        author: String,
        /// When, in milliseconds since 1970-01-01 UTC.
        time: u64,
        /// Whether nothing was to change.
        dry_run: bool,
        /// The revision that was to be the newest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        newest: Option<u64>,
        /// What was to change.
        edits: Vec<EditNote>,
    },
    /// What a change came to: the revision in force after it, or why it was refused. Changes that were carried out
    /// together are recorded one after another, and then their outcomes in the same order.
    Outcome {
        /// The revision.
        revision: Option<u64>,
        /// The refusal; empty if it was accepted.
        refusal: String,
    },
    /// A driver reported something.
    Switch {
        /// The switch.
        switch: Name,
        /// Number of its attachment.
        attachment: u64,
        /// What was reported.
        report: ReportNote,
    },
    /// The keeper of hosts reported something.
    Host {
        /// The host's switch.
        switch: Name,
        /// Number of its attachment.
        attachment: u64,
        /// What was reported.
        report: HostNote,
    },
    /// Time passed, and something was due.
    Tick,
    /// Somebody asked something.
    Query {
        /// What.
        about: String,
    },
}

/// One resource's change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditNote {
    /// The resource.
    pub key: Key,
    /// Its new document; none if it is to be removed.
    pub document: Option<Arc<str>>,
    /// The version it was to have.
    pub expected: Option<u64>,
}

/// A report without its entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ReportNote {
    /// The switch is there.
    Connected {
        /// Most entries that it takes.
        max_entries: u32,
        /// Its ports.
        ports: BTreeSet<Port>,
    },
    /// Who the session is with.
    Peer {
        /// The other end's address.
        address: std::net::SocketAddr,
        /// Whose certificate it has shown; none without TLS.
        certificate: Option<String>,
    },
    /// Somebody else said to be it, and was refused.
    Impostor {
        /// His address.
        address: std::net::SocketAddr,
        /// Why.
        reason: String,
    },
    /// It is gone.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// Its ports changed.
    Ports {
        /// Its ports.
        ports: BTreeSet<Port>,
    },
    /// It was read back.
    Actual {
        /// How many entries it has.
        entries: usize,
        /// How many of ours could not be read.
        alien: usize,
    },
    /// A step is in force.
    Applied {
        /// The step.
        step: u64,
    },
    /// A step was refused.
    Refused {
        /// The step.
        step: u64,
        /// Why.
        reason: String,
    },
    /// Counters came.
    Counters {
        /// How many.
        count: usize,
    },
    /// Counters were refused.
    NotCounted {
        /// Why.
        reason: String,
    },
    /// A new connection is to be logged.
    Logged {
        /// The rule that decided.
        cause: String,
    },
    /// A probe came by a tunnel. Its token is a secret, and is not written down.
    Probed {
        /// The outer address that it came from.
        from: std::net::IpAddr,
    },
    /// Links of ports went down or came up, or the ports changed.
    PortStates {
        /// Ports that are down, by name, or by number where they have no name.
        down: BTreeSet<Port>,
    },
    /// A switch that nobody declared waits.
    Waits {
        /// Its datapath id.
        datapath: u64,
    },
    /// A frame came that may tell of a link.
    Discovered {
        /// The port that it came in by.
        port: Port,
    },
}

/// A host's report, in short: what it comes to is recorded as the change that follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HostNote {
    /// Its database answers.
    Connected,
    /// It does not.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// It is as it is to be.
    Shaped {
        /// What was mended.
        repaired: Vec<String>,
    },
    /// It cannot be brought into shape.
    Unable {
        /// Why.
        reason: String,
    },
    /// What is plugged in.
    Interfaces {
        /// How many.
        count: usize,
    },
    /// What carries the tunnels.
    Underlay {
        /// Its MTU, in bytes.
        mtu: Option<u32>,
        /// What is wrong with tunnel ports, and with the way to the controller.
        errors: Vec<String>,
    },
}

impl From<&HostReport> for HostNote {
    fn from(report: &HostReport) -> Self {
        match report {
            HostReport::Connected => Self::Connected,
            HostReport::Disconnected(reason) => Self::Disconnected { reason: reason.clone() },
            HostReport::Shaped { repaired } => Self::Shaped { repaired: repaired.clone() },
            HostReport::Unable(reason) => Self::Unable { reason: reason.clone() },
            HostReport::Interfaces(plugged) => Self::Interfaces { count: plugged.len() },
            HostReport::Underlay { mtu, errors } => Self::Underlay { mtu: *mtu, errors: errors.clone() },
        }
    }
}

impl From<&Report> for ReportNote {
    fn from(report: &Report) -> Self {
        match report {
            Report::Connected { capabilities, ports, .. } => {
                Self::Connected { max_entries: capabilities.max_entries, ports: ports.clone() }
            }
            Report::Peer(peer) => Self::Peer { address: peer.address, certificate: peer.certificate.clone() },
            Report::Impostor { address, why } => Self::Impostor { address: *address, reason: why.clone() },
            Report::Disconnected(reason) => Self::Disconnected { reason: reason.clone() },
            Report::Ports(ports) => Self::Ports { ports: ports.clone() },
            Report::Actual { program, alien } => Self::Actual { entries: program.len(), alien: *alien },
            Report::Applied { step } => Self::Applied { step: *step },
            Report::Refused { step, reason } => Self::Refused { step: *step, reason: reason.clone() },
            Report::Counters(counters) => Self::Counters { count: counters.len() },
            Report::NotCounted(reason) => Self::NotCounted { reason: reason.clone() },
            Report::Logged(logged) => Self::Logged { cause: logged.cause.to_string() },
            Report::Probed { from, .. } => Self::Probed { from: *from },
            Report::PortStates(ports) => {
                Self::PortStates { down: ports.iter().filter(|port| !port.up).filter_map(PortState::port).collect() }
            }
            Report::Waits(id) => Self::Waits { datapath: id.0 },
            Report::Discovered { port, .. } => Self::Discovered { port: port.clone() },
        }
    }
}

impl From<&Request> for Event {
    fn from(request: &Request) -> Self {
        let note = |edit: &crate::apply::Edit| EditNote {
            key: edit.change.key.clone(),
            document: edit.document.clone(),
            expected: edit.expected,
        };
        Self::Apply {
            author: request.author.clone(),
            time: request.time,
            dry_run: request.dry_run,
            newest: request.newest,
            edits: request.edits.iter().map(note).collect(),
        }
    }
}

impl From<&Result<Outcome, Refusal>> for Event {
    fn from(result: &Result<Outcome, Refusal>) -> Self {
        match result {
            Ok(outcome) => Self::Outcome { revision: Some(outcome.revision), refusal: String::new() },
            Err(refusal) => Self::Outcome { revision: None, refusal: refusal.to_string() },
        }
    }
}
