//! What the API answers about the links between switches.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The answer to `GET /v1/topology`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopologyAnswer {
    /// The newest accepted revision.
    pub revision: u64,
    /// Every declared switch, by name.
    pub switches: Vec<SwitchPlace>,
    /// Every link: those that are declared, by name, then those that were only found.
    pub links: Vec<LinkStatus>,
    /// LLDP of others that comes to ports, by switch and port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign_lldp: Vec<ForeignLldp>,
}

/// A switch's place in the fabric.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct SwitchPlace {
    /// Its name.
    pub name: String,
    /// `hypervisor`, `leaf` or `spine`, as declared.
    pub role: String,
    /// Whether it is connected to the controller.
    pub connected: bool,
    /// Whether somebody is attached there.
    pub edge: bool,
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, ToSchema)]
pub struct LinkEnd {
    /// The switch.
    pub switch: String,
    /// Its port.
    pub port: String,
}

/// A link between two switches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct LinkStatus {
    /// The Link that declares it, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One end.
    pub a: LinkEnd,
    /// The other end.
    pub b: LinkEnd,
    /// Whether both ends hear each other, or did when they were heard last.
    pub discovered: bool,
    /// `up`: packets pass; `down`; `unknown` while a switch is not connected; `conflict`: it cannot be what it is said to
    /// be, and is not used.
    pub state: String,
    /// Why; empty if there is nothing to tell.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// LLDP of others that comes to a port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ForeignLldp {
    /// The switch.
    pub switch: String,
    /// The port.
    pub port: String,
    /// How many frames since the controller began.
    pub frames: u64,
    /// Whom the last one says to be from; empty if it cannot be read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sender: String,
}

/// The links of the fabric in short, as `GET /v1/status` has them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinksInShort {
    /// How many links are up.
    pub up: u64,
    /// Every link that is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_up: Vec<LinkStatus>,
    /// LLDP of others that comes to ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign_lldp: Vec<ForeignLldp>,
}

/// A question about ways: the body of `POST /v1/path`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PathQuestion {
    /// A workload's or a switch's name; `switch:NAME` where a workload has the same one.
    pub from: String,
    /// The same.
    pub to: String,
}

/// The answer to `POST /v1/path`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathAnswer {
    /// Where the ways begin, as asked.
    pub from: String,
    /// Where they end, as asked.
    pub to: String,
    /// The switch that they begin at.
    pub from_switch: String,
    /// The switch that they end at.
    pub to_switch: String,
    /// Whether there is one: also where both are the same switch, or a tunnel leads from one to the other.
    pub found: bool,
    /// How many ways of the same length there are; 0 if there is none, or none is needed.
    pub paths: u64,
    /// Link by link, every link that one of the ways takes.
    pub steps: Vec<Vec<PathHop>>,
    /// What else there is to say, as why there is no way.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// The ports of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct PortsAnswer {
    /// Its name.
    pub switch: String,
    /// Whether it is connected; no ports are known of one that is not.
    pub connected: bool,
    /// Its ports, in its own order; a kernel VTEP tells none.
    pub ports: Vec<PortStatus>,
}

/// A port of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct PortStatus {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Whether it has a carrier and is not switched off.
    pub up: bool,
    /// What is there: `workload`, `uplink`, `link`, `tunnel`, `host` (which the switch runs on), `quarantine` or `nobody`.
    pub at: String,
    /// Which: the workload, the networks, the port at the far end and how the link is, who the interface says to be.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub of: String,
}

/// A link on a way, in the direction of the packets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, ToSchema)]
pub struct PathHop {
    /// Where packets leave.
    pub from: LinkEnd,
    /// Where they arrive.
    pub to: LinkEnd,
}

/// Workloads and switches that nobody declared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LearningStatus {
    /// The network that learns; absent if none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// How many workloads were learned.
    pub workloads: u64,
    /// How many switches were adopted.
    pub switches: u64,
    /// What was not learned since the controller began, by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<NotLearned>,
}

/// What was not learned for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct NotLearned {
    /// The reason.
    pub why: String,
    /// How often.
    pub count: u64,
    /// Whom the last one was about: MAC address, switch and port.
    pub last: String,
}

/// A network that is in parts: what is in one of them does not reach what is in another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct NetworkApart {
    /// Its name.
    pub network: String,
    /// The parts; more than one.
    pub parts: Vec<NetworkPart>,
}

/// Switches of a network that reach each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct NetworkPart {
    /// By what they do: `tunnels` between VTEP addresses, or `links` between switches without.
    pub by: String,
    /// They, by name.
    pub switches: Vec<String>,
}
