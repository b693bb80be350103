//! Switches, and what they know of the underlay.

use super::{Check, Path, is_unicast};
use crate::v1;
use bulkhead_policy::model::*;
use bulkhead_topology::{
    DatapathId, IpNet, Mac, Name, parse_ip,
    underlay::{Hop, MAX_HOPS, MAX_PORT, MAX_ROUTES, Route, Underlay},
};
use std::{net::IpAddr, sync::Arc};

/// Smallest MTU of an underlay: what every IPv4 host takes (RFC 1122 §3.3.2). Tunnels' headers fit into it.
const LEAST_MTU: u64 = 576;

impl Check {
    pub(super) fn switch(&mut self, name: Option<Name>, spec: &v1::SwitchSpec) -> Option<Switch> {
        let kinds = [("openflow", 0), ("p4runtime", 1), ("sim", 2), ("kernel", 3)];
        let driver = self.word("spec.driver", Some(&spec.driver), &kinds);
        let mut only = |field: &str, present: bool, owner: u8| {
            if present && driver.is_some_and(|d| d != owner) {
                self.refuse(
                    format_args!("spec.{field}"),
                    format!("a {} switch has no `{field}`", spec.driver),
                    "remove it",
                );
            }
        };
        only("datapathId", spec.datapath_id.is_some(), 0);
        only("address", spec.address.is_some(), 1);
        only("deviceId", spec.device_id.is_some(), 1);
        only("underlay", spec.underlay.is_some(), 1);
        let vtep = match &spec.vtep {
            None => None,
            Some(text) => {
                let ip = self.keep("spec.vtep", parse_ip(text))?;
                if !is_unicast(ip) {
                    self.refuse("spec.vtep", format!("{ip} is no unicast address"), "");
                }
                Some(ip)
            }
        };
        let driver = match driver? {
            0 => match &spec.datapath_id {
                Some(id) => self.text::<DatapathId>("spec.datapathId", id).map(Driver::Openflow),
                None => {
                    let hint = "as in datapathId: \"0x1\"; `ovs-vsctl get bridge NAME datapath_id` prints it";
                    self.refuse("spec", "an openflow switch needs `datapathId`", hint);
                    None
                }
            },
            1 => match (&spec.address, spec.device_id) {
                (Some(address), Some(device_id)) => {
                    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
                    if port.and_then(|p| p.parse::<u16>().ok()).is_none_or(|p| p == 0) {
                        self.refuse("spec.address", "not a host and port", "as in 127.0.0.1:9559");
                    }
                    let underlay = match &spec.underlay {
                        Some(underlay) => Some(Arc::new(self.underlay(vtep, underlay)?)),
                        None => None,
                    };
                    Some(Driver::P4runtime { address: address.clone(), device_id, underlay })
                }
                _ => {
                    self.refuse("spec", "a p4runtime switch needs `address` and `deviceId`", "");
                    None
                }
            },
            2 => Some(Driver::Sim),
            _ => {
                if spec.vtep.is_none() {
                    self.refuse("spec", "a kernel switch needs `vtep`", "the address that its host sends VXLAN from");
                }
                Some(Driver::Kernel)
            }
        };
        let roles = [("hypervisor", Role::Hypervisor), ("leaf", Role::Leaf), ("spine", Role::Spine)];
        let role = self.word("spec.role", spec.role.as_deref(), &roles);
        if let Some(ovsdb) = &spec.ovsdb {
            let good = ["unix:", "tcp:", "ssl:"].iter().any(|p| ovsdb.strip_prefix(p).is_some_and(|r| !r.is_empty()));
            if !good {
                self.refuse("spec.ovsdb", "not an OVSDB address", "unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT");
            }
        }
        Some(Switch { name: name?, driver: driver?, vtep, role: role?, ovsdb: spec.ovsdb.clone() })
    }

    /// How a switch with this VTEP address reaches others.
    fn underlay(&mut self, vtep: Option<IpAddr>, spec: &v1::Underlay) -> Option<Underlay> {
        let path = "spec.underlay";
        if vtep.is_none() {
            self.refuse(path, "an underlay without a `vtep`", "say from which address the switch sends");
        }
        let mac = self.neighbour(format_args!("{path}.mac"), &spec.mac);
        let mtu = spec.mtu.map(|mtu| match u16::try_from(mtu) {
            Ok(good) if mtu >= LEAST_MTU => Some(good),
            _ => {
                let hint = format!("{LEAST_MTU} to {}", u16::MAX);
                self.refuse(format_args!("{path}.mtu"), format!("{mtu} is no MTU of an underlay"), hint);
                None
            }
        });
        let mut routes: Vec<Route> = Vec::new();
        for (i, route) in spec.routes.iter().enumerate() {
            let path = format_args!("{path}.routes[{i}]");
            let to: Option<IpNet> = self.text(format_args!("{path}.to"), &route.to);
            if let (Some(to), Some(vtep)) = (to, vtep) {
                if to.is_ipv4() != vtep.is_ipv4() {
                    let hint = "tunnels are between addresses of one family";
                    self.refuse(format_args!("{path}.to"), format!("{to} is not of the family of {vtep}"), hint);
                } else if routes.iter().any(|other| other.to == to) {
                    self.refuse(
                        format_args!("{path}.to"),
                        format!("{to} is there twice"),
                        "write its neighbours in one list",
                    );
                }
            }
            let via = self.hops(format_args!("{path}.via"), &route.via);
            routes.extend(to.map(|to| Route { to, via }));
        }
        if spec.routes.len() > MAX_ROUTES {
            let message = format!("{} routes, and a switch takes {MAX_ROUTES}", spec.routes.len());
            self.refuse(format_args!("{path}.routes"), message, "shorter prefixes say the same in fewer");
        }
        routes.sort();
        Some(Underlay { vtep: vtep?, mac: mac?, mtu: mtu.flatten(), routes })
    }

    fn hops(&mut self, path: impl Path, spec: &[v1::Hop]) -> Vec<Hop> {
        if spec.is_empty() || spec.len() > MAX_HOPS {
            self.refuse(path, format!("{} neighbours", spec.len()), format!("1 to {MAX_HOPS}"));
        }
        let mut hops = Vec::new();
        for (i, hop) in spec.iter().enumerate() {
            let mac = self.neighbour(format_args!("{path}[{i}].mac"), &hop.mac);
            let port = u32::try_from(hop.port).ok().filter(|port| (1..=MAX_PORT).contains(port));
            if port.is_none() {
                let message = format!("{} is not a port of such a switch", hop.port);
                self.refuse(format_args!("{path}[{i}].port"), message, format!("1 to {MAX_PORT}"));
            }
            let (Some(port), Some(mac)) = (port, mac) else { continue };
            if hops.contains(&Hop { port, mac }) {
                self.refuse(format_args!("{path}[{i}]"), "this neighbour is there twice", "");
            }
            hops.push(Hop { port, mac });
        }
        hops.sort();
        hops
    }

    /// The address of one interface.
    fn neighbour(&mut self, path: impl Path, text: &str) -> Option<Mac> {
        let mac: Mac = self.text(path, text)?;
        if mac.is_multicast() || mac.to_bits() == 0 {
            self.refuse(path, format!("{mac} is no unicast address"), "");
        }
        Some(mac)
    }
}
