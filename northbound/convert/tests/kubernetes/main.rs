//! Kubernetes' documents, imported: they mean what Kubernetes says.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod examples;
mod mistakes;
mod oracle;
mod world;

use bulkhead_convert::{File, Imported, kubernetes};
use bulkhead_policy::{Change, Decision, Flow, Resource, Service, Severity, State, verdict};
use bulkhead_topology::Name;
use bulkhead_types::load;
use oracle::World;
use proptest::prelude::*;
use serde_json::Value;
use std::net::IpAddr;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn import(documents: &[Value]) -> Imported {
    let text: String = documents.iter().map(Value::to_string).collect();
    kubernetes::import(&[File { name: "all.json", content: text.as_bytes() }], Some(&name("prod")))
}

/// What is there before: the pods' network, and in it a machine that never was a pod and may do anything for its part.
const FABRIC: [&str; 3] = [
    r#"{"kind":"Network","metadata":{"name":"prod"},"spec":{"vni":7,"subnets":["10.0.0.0/24","fd00::/64"]}}"#,
    r#"{"kind":"Workload","metadata":{"name":"vm","labels":{"machine":"yes"}},"spec":{"network":"prod","interfaces":[
        {"mac":"02:00:00:00:00:c8","ips":["10.0.0.200","fd00::200"]}]}}"#,
    r#"{"kind":"Policy","metadata":{"name":"vm"},"spec":{"subject":{"matchLabels":{"machine":"yes"}},
        "ingress":[{"action":"allow"}],"egress":[{"action":"allow"}]}}"#,
];

/// The state that resources make in that fabric.
fn state(resources: &[Resource]) -> State {
    let fabric = FABRIC.iter().map(|document| load(document).unwrap());
    let changes: Vec<Change> = fabric.chain(resources.iter().cloned()).map(Change::set).collect();
    let mut state = State::default();
    let found = state.check(&changes);
    assert!(found.iter().all(|found| found.severity != Severity::Error), "{found:#?}");
    state.apply(&changes);
    state
}

fn allows(state: &State, from: IpAddr, to: IpAddr, service: Service) -> bool {
    verdict(state, &Flow::between(state, &name("prod"), from, to, service)).decision == Decision::Allow
}

/// Every flow between pods and outsiders, of either family.
fn flows(world: &World) -> Vec<(IpAddr, IpAddr, Service)> {
    let ports = |protocol| world::PORTS.map(move |port| Service::Port { protocol, port });
    let services: Vec<Service> = [6, 17, 132].into_iter().flat_map(ports).collect();
    let outside = ["192.0.2.7", "198.51.100.7", "10.0.0.200", "2001:db8::7", "fd00::200"];
    let outside = outside.map(|ip| ip.parse::<IpAddr>().unwrap());
    let ends: Vec<IpAddr> = world.pods.iter().flat_map(|pod| pod.ips.clone()).chain(outside).collect();
    let mut all = Vec::new();
    for from in &ends {
        for to in ends.iter().filter(|to| *to != from && to.is_ipv4() == from.is_ipv4()) {
            let icmp = if from.is_ipv4() { 1 } else { 58 };
            let other = [Service::Icmp { protocol: icmp, icmp_type: 8, code: 0 }, Service::Protocol(47)];
            all.extend(services.iter().copied().chain(other).map(|service| (*from, *to, service)));
        }
    }
    all
}

fn same_meaning(documents: Vec<Value>) -> Result<(), TestCaseError> {
    let imported = import(&documents);
    let wrong: Vec<_> = imported.diagnostics.iter().filter(|d| d.severity == bulkhead_types::Severity::Error).collect();
    prop_assert!(wrong.is_empty(), "{wrong:#?}");
    let world = World::new(documents);
    let state = state(&imported.resources);
    for (from, to, service) in flows(&world) {
        let (said, is) = (world.allows(from, to, service), allows(&state, from, to, service));
        prop_assert_eq!(said, is, "{} to {} {:?}", from, to, service);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn network_policies_mean_what_kubernetes_says(documents in world::plain()) {
        same_meaning(documents)?;
    }

    #[test]
    fn policies_of_all_kinds_mean_what_kubernetes_says(documents in world::full()) {
        same_meaning(documents)?;
    }
}
