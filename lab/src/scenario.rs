//! Scenarios: topologies as data. In a file, the first document says which hosts there are, and the documents after it
//! are Bulkhead's own: networks, policies, zones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use bulkhead_topology::{IpNet, Mac};
use bulkhead_types::Resource;
use bulkhead_types::model::Encap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::hypervisor::Datapath;
use crate::lab::PREFIX_MOST;
use crate::leaf::{DEVICE, Device, UNDERLAY_PORT};
use crate::probe::Service;
use crate::underlay::{self, RESERVED};
use crate::workload::{MTU, check_name, check_word};

/// A lab's hosts, and the documents that say what they may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Its name: 1 to 16 of `a-z`, `0-9`, `-`, `.` and `_`.
    pub lab: String,
    /// What it is for, in a sentence.
    #[serde(default)]
    pub about: String,
    /// How the switches reach their ports.
    #[serde(default)]
    pub datapath: Datapath,
    /// The underlay's MTU in bytes, without the Ethernet header.
    #[serde(default = "underlay_mtu")]
    pub underlay_mtu: u16,
    /// Whether switches and databases are spoken with by TLS, with certificates of the lab's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// What every pair is asked for.
    pub services: Vec<Service>,
    /// The hosts with a switch.
    pub hypervisors: Vec<Host>,
    /// What is plugged into the switches.
    pub workloads: Vec<Guest>,
    /// Bulkhead's documents: networks, policies, zones. Switches and workloads follow from the above.
    #[serde(default)]
    pub resources: Vec<Value>,
}

/// A hypervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Host {
    /// Its name, and its switch's.
    pub name: String,
    /// Its address in the underlay, where tunnels end; all of a scenario in one /24 or /64.
    pub vtep: IpAddr,
    /// What sort of switch it has.
    #[serde(default, skip_serializing_if = "Kind::is_ovs")]
    pub kind: Kind,
    /// Of [`Kind::P4`], which device; BMv2 where that is on the PATH, and the stand-in where not, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
}

/// Sorts of switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Open vSwitch.
    #[default]
    Ovs,
    /// One that P4 programs: a leaf, whose workloads are bare-metal hosts.
    P4,
}

impl Kind {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "so serde calls it")]
    fn is_ovs(&self) -> bool {
        *self == Kind::Ovs
    }
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Guest {
    /// Its name, and its switch port's.
    pub name: String,
    /// Where it runs.
    pub hypervisor: String,
    /// The network that it is in.
    pub network: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its MAC; left out, one that no other workload of the scenario has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Its addresses, each in a subnet of its network.
    pub ips: Vec<IpAddr>,
    /// Routers for everything else, at most one of each family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<IpAddr>,
    /// Its MTU in bytes.
    #[serde(default = "workload_mtu")]
    pub mtu: u16,
}

fn underlay_mtu() -> u16 {
    underlay::MTU
}

fn workload_mtu() -> u16 {
    MTU
}

/// Where the MACs begin that a scenario does not give itself. Locally administered.
const MACS: u64 = 0x02_bb_00_00_00_00;

/// Datapath ids are this and a hypervisor's number.
const DATAPATH_IDS: u64 = 0xb1;

impl Scenario {
    /// A scenario without hosts.
    #[must_use]
    pub fn new(name: &str) -> Scenario {
        Scenario {
            lab: name.to_owned(),
            about: String::new(),
            datapath: Datapath::default(),
            underlay_mtu: underlay::MTU,
            tls: false,
            services: vec![Service::Tcp(80), Service::Udp(53), Service::Icmp],
            hypervisors: Vec::new(),
            workloads: Vec::new(),
            resources: Vec::new(),
        }
    }

    /// Adds a hypervisor.
    #[must_use]
    pub fn hypervisor(mut self, name: &str, vtep: IpAddr) -> Scenario {
        self.hypervisors.push(Host { name: name.to_owned(), vtep, kind: Kind::Ovs, device: None });
        self
    }

    /// Adds a workload with a MAC of its own and no labels.
    #[must_use]
    pub fn workload(mut self, name: &str, hypervisor: &str, network: &str, ips: &[IpAddr]) -> Scenario {
        self.workloads.push(Guest {
            name: name.to_owned(),
            hypervisor: hypervisor.to_owned(),
            network: network.to_owned(),
            labels: BTreeMap::new(),
            mac: None,
            ips: ips.to_vec(),
            gateways: Vec::new(),
            mtu: MTU,
        });
        self
    }

    /// Adds one of Bulkhead's documents.
    #[must_use]
    pub fn resource(mut self, document: Value) -> Scenario {
        self.resources.push(document);
        self
    }

    /// Reads a scenario from a file's text.
    ///
    /// # Errors
    /// When it is no YAML, or no scenario ([`Scenario::check`]).
    pub fn parse(text: &str) -> Result<Scenario> {
        let documents = bulkhead_types::node::read_yaml(text)
            .map_err(|error| anyhow::anyhow!("line {}: {}", error.mark.line, error.message))?;
        let mut documents = documents.into_iter();
        let first = documents.next().context("there is nothing in it")?;
        let mut scenario = Scenario::deserialize(first).context("the first document is no scenario")?;
        scenario.resources.extend(documents);
        scenario.check()?;
        Ok(scenario)
    }

    /// Whether it can be put up.
    ///
    /// # Errors
    /// When names, addresses or MACs are there twice, something named is not there, or a document is wrong.
    pub fn check(&self) -> Result<()> {
        check_word(&self.lab, PREFIX_MOST)?;
        ensure!(!self.hypervisors.is_empty(), "there is no hypervisor");
        let mut names: BTreeSet<&str> = RESERVED.into_iter().collect();
        for name in self.hypervisors.iter().map(|host| &host.name).chain(self.workloads.iter().map(|one| &one.name)) {
            check_name(name)?;
            ensure!(names.insert(name), "the name `{name}` is taken");
        }
        underlay::check(&self.hypervisors)?;
        for host in &self.hypervisors {
            ensure!(host.kind == Kind::P4 || host.device.is_none(), "{}: only `kind: p4` has a device", host.name);
        }
        let networks = self.networks()?;
        let (mut places, mut macs) = (BTreeSet::new(), BTreeSet::new());
        for (guest, mac) in self.guests() {
            let name = &guest.name;
            let at = &guest.hypervisor;
            ensure!(self.hypervisors.iter().any(|host| host.name == *at), "{name}: there is no hypervisor {at}");
            let network =
                networks.get(&guest.network).with_context(|| format!("{name}: no network {}", guest.network))?;
            ensure!(macs.insert((&guest.network, mac)), "{name}: the MAC {mac} is taken");
            for ip in &guest.ips {
                ensure!(network.length(*ip).is_some(), "{name}: {ip} is in no subnet of {}", guest.network);
                ensure!(places.insert((&guest.network, ip)), "{name}: the address {ip} is taken");
            }
        }
        Ok(())
    }

    /// Every workload with its MAC.
    pub fn guests(&self) -> impl Iterator<Item = (&Guest, Mac)> {
        self.workloads.iter().zip(1..).map(|(guest, number)| {
            let octets = (MACS + number).to_be_bytes();
            let own = || Mac([octets[2], octets[3], octets[4], octets[5], octets[6], octets[7]]);
            (guest, guest.mac.unwrap_or_else(own))
        })
    }

    /// The workload of this name.
    #[must_use]
    pub fn guest(&self, name: &str) -> Option<&Guest> {
        self.workloads.iter().find(|guest| guest.name == name)
    }

    /// Every hypervisor with its datapath id.
    pub fn hosts(&self) -> impl Iterator<Item = (&Host, u64)> {
        self.hypervisors.iter().zip(DATAPATH_IDS..)
    }

    /// Networks by name.
    ///
    /// # Errors
    /// When one of the documents is wrong.
    pub fn networks(&self) -> Result<BTreeMap<String, Overlay>> {
        let mut networks = BTreeMap::new();
        for document in &self.resources {
            if let Resource::Network(network) = load(document)? {
                let tunnel = match network.encap {
                    Encap::Geneve => Tunnel::Geneve,
                    Encap::Vxlan => Tunnel::Vxlan,
                };
                let overlay = Overlay { vni: network.vni.get(), tunnel, subnets: network.subnets.clone() };
                networks.insert(network.name.to_string(), overlay);
            }
        }
        Ok(networks)
    }

    /// The workloads of a leaf, by their ports' numbers, which P4Runtime knows no names for.
    pub fn ports<'a>(&'a self, leaf: &'a str) -> impl Iterator<Item = (u32, &'a Guest, Mac)> {
        let here = self.guests().filter(move |(guest, _)| guest.hypervisor == leaf);
        (1..).zip(here).map(|(port, (guest, mac))| (port, guest, mac))
    }

    /// What a leaf is told of the underlay: everybody in it is a neighbour.
    fn underlay(&self, leaf: &Host) -> Value {
        let mac = |host: &Host| underlay::vtep_mac(self, &host.name).map(|mac| Mac(mac).to_string());
        let others = self.hypervisors.iter().filter(|other| other.name != leaf.name);
        let routes = others.map(|other| {
            let length = if other.vtep.is_ipv4() { 32 } else { 128 };
            json!({"to": format!("{}/{length}", other.vtep), "via": [{"port": UNDERLAY_PORT, "mac": mac(other)}]})
        });
        json!({"mac": mac(leaf), "mtu": self.underlay_mtu, "routes": routes.collect::<Vec<_>>()})
    }

    /// How many leading bits of a workload's address are its subnet's.
    pub(crate) fn prefix(&self, guest: &Guest, ip: IpAddr) -> Result<u8> {
        let networks = self.networks()?;
        networks.get(&guest.network).and_then(|network| network.length(ip)).context("an address in no subnet")
    }

    /// What `bulkhead apply -f` takes: the scenario's documents, its switches, each with the address of its database, so
    /// that Bulkhead sets it up, or of its P4Runtime server, and its workloads. Where those are Bulkhead sees itself, but on
    /// leaves.
    #[must_use]
    pub fn documents(&self, address: impl Fn(&Host) -> String) -> Vec<Value> {
        let mut documents = self.resources.clone();
        documents.extend(self.hosts().map(|(host, datapath_id)| {
            let spec = match host.kind {
                Kind::Ovs => json!({
                    "driver": "openflow", "datapathId": format!("{datapath_id:#x}"),
                    "vtep": host.vtep.to_string(), "role": "hypervisor", "ovsdb": address(host),
                }),
                Kind::P4 => json!({
                    "driver": "p4runtime", "address": address(host), "deviceId": DEVICE, "role": "leaf",
                    "vtep": host.vtep.to_string(), "underlay": self.underlay(host),
                }),
            };
            json!({"kind": "Switch", "metadata": {"name": host.name}, "spec": spec})
        }));
        documents.extend(self.guests().map(|(guest, mac)| {
            let mut interface = json!({"mac": mac.to_string(), "ips": guest.ips});
            let leaf = self.hypervisors.iter().find(|host| host.kind == Kind::P4 && host.name == guest.hypervisor);
            let port = leaf.and_then(|leaf| self.ports(&leaf.name).find(|(_, other, _)| other.name == guest.name));
            if let (Some((port, ..)), Some(interface)) = (port, interface.as_object_mut()) {
                interface.insert("attachment".into(), json!({"switch": guest.hypervisor, "port": port}));
            }
            let metadata = json!({"name": guest.name, "labels": guest.labels});
            let spec = json!({"network": guest.network, "interfaces": [interface]});
            json!({"kind": "Workload", "metadata": metadata, "spec": spec})
        }));
        documents
    }
}

/// How a network's packets travel between hypervisors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// In Geneve.
    Geneve,
    /// In VXLAN.
    Vxlan,
}

/// What a scenario's document says of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Its number on the wire.
    pub vni: u32,
    /// How it asks to travel.
    pub tunnel: Tunnel,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
}

impl Overlay {
    /// How many leading bits the narrowest subnet has that an address is in.
    fn length(&self, ip: IpAddr) -> Option<u8> {
        self.subnets.iter().filter(|net| net.contains(ip)).map(|net| net.prefix_len()).max()
    }
}

fn load(document: &Value) -> Result<Resource> {
    match bulkhead_types::load(&document.to_string()) {
        Ok(resource) => Ok(resource),
        Err(found) => {
            let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("?");
            let words: Vec<_> = found.iter().map(|one| format!("{} {}", one.path, one.message)).collect();
            bail!("{name}: {}", words.join("; "))
        }
    }
}

#[cfg(test)]
mod tests;
