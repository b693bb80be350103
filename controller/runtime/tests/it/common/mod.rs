//! A controller on simulated switches, and small documents for it.

// Every test file uses a part of it.
#![allow(dead_code)]

use bulkhead_dataplane::Address;
use bulkhead_driver_sim::{Fabric, chaos::Odds};
use bulkhead_policy::{
    Change, Resource,
    model::{
        Action, Attachment, DefaultAction, Driver, Encap, Interface, Link, Network, OnTighten, Peer, Policy, Port,
        PortMatch, Role, Rule, Sides, Subject, Switch, Tier, Workload,
    },
};
use bulkhead_runtime::{
    Drivers, Edit, Handle, LoadError, Loop, Outcome, Recorder, Refusal, Request, Stored, channel, run,
};
use bulkhead_store::Store;
use bulkhead_topology::{
    DatapathId, Mac, Name, Selector, Vni,
    underlay::{Hop, Route, Underlay},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// Reads `network NAME VNI`, `switch NAME`, `absent NAME` (a switch that never connects), `vtep NAME ADDRESS`, `leaf NAME ADDRESS` (a P4 switch), `workload NAME NETWORK SWITCH NUMBER TIER`, `link NAME A PORT B PORT` and
/// `policy NAME SUBJECT-TIER PEER-TIER PORT`.
pub fn decode(text: &str) -> Result<Resource, String> {
    let words: Vec<&str> = text.split(' ').collect();
    let name = |text: &str| text.parse::<Name>().map_err(|error| error.to_string());
    let number = |text: &str| text.parse::<u32>().map_err(|error| error.to_string());
    Ok(match words.as_slice() {
        ["network", n, vni] => Resource::Network(Arc::new(Network {
            name: name(n)?,
            vni: Vni::new(number(vni)?).ok_or("no such vni")?,
            subnets: vec!["10.1.0.0/16".parse().unwrap()],
            encap: Encap::Geneve,
            default_action: DefaultAction::Deny,
            on_tighten: OnTighten::Revoke,
            uplinks: Vec::new(),
            gateways: Vec::new(),
            multicast: Vec::new(),
            learn_workloads: false,
        })),
        [kind @ ("switch" | "absent"), n] => Resource::Switch(Arc::new(Switch {
            name: name(n)?,
            driver: if *kind == "switch" { Driver::Sim } else { Driver::Openflow(DatapathId(9)) },
            vtep: None,
            role: Role::Hypervisor,
            ovsdb: None,
        })),
        [kind @ ("vtep" | "leaf"), n, vtep] => {
            let vtep = vtep.parse().map_err(|_| "no address")?;
            let mac = Mac([2, 0, 0, 1, 0, 1]);
            let to = "0.0.0.0/0".parse().map_err(|_| "no prefix")?;
            let routes = vec![Route { to, via: vec![Hop { port: 3, mac }] }];
            let underlay = Some(Arc::new(Underlay { vtep, mac, mtu: None, routes }));
            let leaf = Driver::P4runtime { address: "192.0.2.99:9559".into(), device_id: 1, underlay };
            Resource::Switch(Arc::new(Switch {
                name: name(n)?,
                driver: if *kind == "leaf" { leaf } else { Driver::Sim },
                vtep: Some(vtep),
                role: Role::Hypervisor,
                ovsdb: None,
            }))
        }
        ["workload", n, network, switch, at, tier] => {
            let at = number(at)?;
            let [_, _, high, low] = at.to_be_bytes();
            Resource::Workload(Arc::new(Workload {
                name: name(n)?,
                labels: Arc::new([("tier".into(), (*tier).into())].into()),
                network: name(network)?,
                interfaces: vec![Interface {
                    mac: Mac::from_bits(0x0200_0000_0000 + u64::from(at)),
                    ips: vec![[10, 1, high, low].into()],
                    attachment: Some(Attachment { switch: name(switch)?, port: Port::Name((*n).into()) }),
                }],
                named_ports: Arc::default(),
            }))
        }
        ["policy", n, subject, peer, port] => {
            let port = number(port)? as u16;
            let rule = |ports: Vec<PortMatch>, tier: &str| Rule {
                name: "".into(),
                action: Action::Allow,
                priority: 0,
                peers: Some(vec![Peer::Selector(Selector::of([("tier", tier)]))]),
                ports: Some(ports),
                log: false,
            };
            let ports = vec![PortMatch::Ports { protocol: 6, first: port, last: port }];
            Resource::Policy(Arc::new(Policy {
                name: name(n)?,
                tier: Tier::Application,
                priority: 1000,
                staged: false,
                stateful: false,
                subject: Subject::Selector(Selector::of([("tier", *subject)])),
                isolate: Sides { ingress: true, egress: false },
                ingress: vec![rule(ports, peer)],
                egress: Vec::new(),
            }))
        }
        ["link", n, a, at_a, b, at_b] => {
            let at = |switch: &str, port: &str| -> Result<Attachment, String> {
                Ok(Attachment { switch: name(switch)?, port: Port::Name(port.into()) })
            };
            Resource::Link(Arc::new(Link { name: name(n)?, a: at(a, at_a)?, b: at(b, at_b)? }))
        }
        _ => return Err(format!("`{text}` is no document")),
    })
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A change that sets what these documents say.
pub fn set(documents: &[&str]) -> Request {
    let edit = |text: &&str| Edit {
        change: Change::set(decode(text).unwrap()),
        document: Some((*text).into()),
        expected: None,
    };
    Request { edits: documents.iter().map(edit).collect(), author: "test".into(), ..Request::default() }
}

/// A change that removes what these documents describe.
pub fn unset(documents: &[&str]) -> Request {
    let mut request = set(documents);
    for edit in &mut request.edits {
        edit.change.value = None;
        edit.document = None;
    }
    request
}

/// A small shop on two switches.
pub const SHOP: &[&str] = &[
    "network prod 5001",
    "switch hv1",
    "switch hv2",
    "workload web-1 prod hv1 1 web",
    "workload web-2 prod hv2 2 web",
    "workload app-1 prod hv1 3 app",
    "policy web-to-app app web 8080",
];

pub struct Rig {
    pub handle: Handle,
    pub fabric: Fabric,
    task: tokio::task::JoinHandle<Result<(), LoadError>>,
}

impl Rig {
    pub fn start(store: Box<dyn Store>, fabric: Fabric, chaos: Option<(u64, Odds)>) -> Result<Self, LoadError> {
        Self::recorded(store, fabric, chaos, Recorder::off())
    }

    pub fn recorded(
        store: Box<dyn Store>,
        fabric: Fabric,
        chaos: Option<(u64, Odds)>,
        recorder: Recorder,
    ) -> Result<Self, LoadError> {
        let (commands, receiver) = channel();
        let route = |driver: &Driver| (*driver == Driver::Sim).then_some((0, Address::Sim));
        let drivers = Drivers { channels: vec![commands], route, keeper: None, prober: None };
        let stored = Stored::load(store, decode)?;
        let (reports, from_switches) = mpsc::channel(16);
        tokio::spawn(bulkhead_driver_sim::run(fabric.clone(), receiver, reports, chaos));
        // Nobody keeps hosts here.
        let (_, from_hosts) = mpsc::channel(1);
        let (the_loop, handle) = Loop::new(stored, drivers, from_switches, from_hosts, recorder);
        Ok(Self { handle, fabric, task: tokio::spawn(run(the_loop)) })
    }

    pub async fn apply(&self, request: Request) -> Result<Outcome, Refusal> {
        self.handle.apply(request).await.unwrap()
    }

    /// Waits for the newest revision to be realized.
    pub async fn settle(&self) {
        let revision = self.handle.read(|accepted| accepted.revision);
        let mut realization = self.handle.realization(revision, Duration::from_secs(600)).await.unwrap();
        while !realization.realized || !realization.disconnected.is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            realization = self.handle.realization(revision, Duration::from_secs(600)).await.unwrap();
        }
    }

    /// How many entries were ever changed on the switches, by switch.
    pub fn changes(&self) -> BTreeMap<Name, u64> {
        self.handle
            .switches()
            .into_keys()
            .map(|name| (name.clone(), self.fabric.with(&name, |switch| switch.changes())))
            .collect()
    }

    /// Every switch has what is desired of it; how many entries that is altogether.
    pub async fn assert_in_step(&self) -> usize {
        let mut entries = 0;
        for switch in self.handle.switches().into_keys() {
            let wanted = switch.clone();
            let desired =
                self.handle.look(move |core| core.program(&wanted).cloned().unwrap_or_default()).await.unwrap();
            self.fabric.with(&switch, |switch| assert_eq!(*switch.program(), desired));
            entries += desired.len();
        }
        entries
    }

    pub async fn stop(self) {
        self.handle.stop().await;
        self.task.await.unwrap().unwrap();
    }
}
