//! What a kernel VTEP and the controller say to each other.

use serde::{Deserialize, Serialize};
use std::{net::IpAddr, sync::Arc};
use utoipa::ToSchema;

/// What a kernel VTEP has to forward, if it holds something else.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VtepAnswer {
    /// What it has to forward; left out if it holds that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<Arc<VtepForwarding>>,
}

/// What a kernel VTEP has to forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VtepForwarding {
    /// The revision that it is of; never 0.
    pub revision: u64,
    /// The address that tunnels begin at.
    #[schema(value_type = String)]
    pub vtep: IpAddr,
    /// The networks that have a workload there, by name.
    pub networks: Vec<VtepNetwork>,
}

/// What it has to forward of one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VtepNetwork {
    /// The network's name.
    pub name: String,
    /// The network on the wire.
    pub vni: u32,
    /// The host's interfaces that its workloads are behind.
    pub ports: Vec<VtepPort>,
    /// Who is elsewhere, behind a switch that judges what goes to and fro.
    pub far: Vec<VtepFar>,
    /// The VTEP of the network's way out from there; nothing leaves the network without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub way_out: Option<IpAddr>,
}

/// An interface of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VtepPort {
    /// What the host calls it.
    pub name: String,
    /// The Ethernet addresses behind it.
    pub macs: Vec<String>,
}

/// An interface elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VtepFar {
    /// Its Ethernet address.
    pub mac: String,
    /// Its IP addresses.
    #[schema(value_type = Vec<String>)]
    pub ips: Vec<IpAddr>,
    /// The VTEP that it is behind.
    #[schema(value_type = String)]
    pub vtep: IpAddr,
}

/// What a kernel VTEP tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VtepReport {
    /// The revision of what it forwards; 0 as long as it forwards nothing that it was told.
    pub held: u64,
    /// Whether its host is as that says.
    pub shaped: bool,
    /// What stands in the way, or is missing.
    #[serde(default)]
    pub troubles: Vec<String>,
    /// What was mended last.
    #[serde(default)]
    pub repaired: Vec<String>,
    /// How often something was mended since it started.
    #[serde(default)]
    pub repairs: u64,
}

impl VtepReport {
    /// Most troubles, and most repairs, that are told of; the rest is counted.
    pub const MOST: usize = 32;
}
