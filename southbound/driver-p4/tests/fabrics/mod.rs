//! Random fabrics of switches that P4 programs, and of others in their place.

use bulkhead_policy::{
    Change, Kind, Resource, State,
    arbitrary::everywhere,
    model::{Driver, Interface, Network, Switch, Workload},
};
use bulkhead_topology::{DatapathId, Port};
use std::collections::BTreeMap;

/// The state without what P4 switches take no part in: links, what is seen on hosts, who is learned. All
/// ports have numbers, the same ones in states that share them.
pub fn common(state: &State, numbers: &mut BTreeMap<Port, u32>) -> State {
    let mut number = |port: &Port| {
        let next = numbers.len() as u32 + 1;
        Port::Number(*numbers.entry(port.clone()).or_insert(next))
    };
    let mut changes: Vec<Change> = Vec::new();
    for workload in state.workloads.values() {
        let interfaces = workload.interfaces.iter().map(|interface| {
            let mut interface: Interface = interface.clone();
            if let Some(at) = &mut interface.attachment {
                at.port = number(&at.port);
            }
            interface
        });
        let interfaces = interfaces.collect();
        changes.push(Change::set(Resource::Workload(Workload { interfaces, ..(**workload).clone() }.into())));
    }
    for network in state.networks.values() {
        let mut network = Network { learn_workloads: false, ..(**network).clone() };
        network.uplinks.iter_mut().for_each(|uplink| uplink.at.port = number(&uplink.at.port));
        changes.push(Change::set(Resource::Network(network.into())));
    }
    changes.extend(state.hosts.keys().map(|name| Change::remove(Kind::Host.named(name))));
    changes.extend(state.adjacencies.keys().map(|name| Change::remove(Kind::Adjacency.named(name))));
    changes.extend(state.links.keys().map(|name| Change::remove(Kind::Link.named(name))));
    let mut state = state.clone();
    state.apply(&changes);
    state
}

/// The state with these of its switches behind P4Runtime, and the others behind OpenFlow.
pub fn driven(state: &State, p4: impl Fn(usize) -> bool) -> State {
    let changes: Vec<Change> = state
        .switches
        .values()
        .enumerate()
        .map(|(at, switch)| {
            let number = at as u64 + 1;
            let driver = match p4(at) {
                true => {
                    let underlay = switch.vtep.map(|vtep| everywhere(vtep).into());
                    Driver::P4runtime { address: "192.0.2.99:9559".into(), device_id: number, underlay }
                }
                false => Driver::Openflow(DatapathId(number)),
            };
            Change::set(Resource::Switch(Switch { driver, ..(**switch).clone() }.into()))
        })
        .collect();
    let mut state = state.clone();
    state.apply(&changes);
    state
}
