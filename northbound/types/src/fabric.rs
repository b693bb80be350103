//! What the API answers about the links between switches.

use serde::{Deserialize, Serialize};

/// The answer to `GET /v1/topology`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct LinkEnd {
    /// The switch.
    pub switch: String,
    /// Its port.
    pub port: String,
}

/// A link between two switches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
