//! What is exported lets no more pass than the resources do, and as much where nothing is told.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod examples;
#[path = "../kubernetes/oracle.rs"]
mod oracle;
#[path = "../kubernetes/world.rs"]
mod world;

use bulkhead_convert::{File, export, kubernetes};
use bulkhead_policy::{
    Decision, Resource, Service, State,
    arbitrary::{FlowSeed, flow_seed, state},
    model::{Action, Direction, Mode, Policy, Sides, Zone},
    verdict, zone_selects,
};
use bulkhead_topology::{Name, Operator, Requirement, Selector};
use oracle::{Pod, Way, World};
use proptest::{collection::vec, prelude::*};
use serde_json::Value;
use std::{net::IpAddr, sync::Arc};

const HOME: &str = "apps";

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The workloads of a network as pods.
fn pods(state: &State, network: &Name) -> Vec<Pod> {
    let pod = |workload: &Arc<bulkhead_policy::model::Workload>| {
        let labels = || workload.labels.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        let ports = workload.named_ports.iter().map(|(name, port)| {
            let protocol = if port.protocol == 6 {
                "TCP"
            } else if port.protocol == 17 {
                "UDP"
            } else {
                "SCTP"
            };
            (name.to_string(), protocol.to_string(), u64::from(port.port))
        });
        Pod {
            namespace: HOME.into(),
            labels: labels().collect(),
            namespace_labels: [("kubernetes.io/metadata.name".to_string(), HOME.to_string())].into(),
            ips: workload.interfaces.iter().flat_map(|interface| interface.ips.clone()).collect(),
            ports: ports.collect(),
        }
    };
    state.workloads.values().filter(|workload| workload.network == *network).map(pod).collect()
}

/// Compares both sides of flows, where they are the zone's members.
fn compare(state: &State, zone: &Zone, seeds: &[FlowSeed]) -> Result<bool, TestCaseError> {
    let exported = export::network_policies(state.resources(), &zone.name, Some(HOME));
    let wrong: Vec<_> = exported.diagnostics.iter().filter(|d| d.severity == bulkhead_types::Severity::Error).collect();
    prop_assert!(wrong.is_empty(), "{wrong:#?}");
    let exact = exported.diagnostics.is_empty();
    let world = World { documents: exported.documents, pods: pods(state, &zone.network) };
    for flow in seeds.iter().map(|seed| seed.flow(state)).filter(|flow| flow.network == zone.network) {
        let own = flow.from.workload == flow.to.workload && flow.from.workload.is_some();
        if own {
            continue;
        }
        let said = verdict(state, &flow);
        let member = |workload: &Option<Name>| {
            let workload = workload.as_ref().and_then(|name| state.workloads.get(name));
            workload.is_some_and(|workload| zone_selects(zone, &workload.network, &workload.labels))
        };
        let sides = [(Way::Out, &flow.from.workload, &said.egress), (Way::In, &flow.to.workload, &said.ingress)];
        for (way, workload, side) in sides.into_iter().filter(|(_, workload, _)| member(workload)) {
            let lets = world.lets(way, flow.from.ip, flow.to.ip, flow.service);
            let allowed = side.decision() == Decision::Allow;
            prop_assert!(!lets || allowed, "wider: {workload:?} {side:?} {flow:?}\n{:#?}", world.documents);
            if exact {
                prop_assert_eq!(lets, allowed, "{:?} {:?} {:?}", workload, side, flow);
            }
        }
    }
    Ok(exact)
}

fn set(state: &mut State, resource: Resource) {
    state.apply(&[bulkhead_policy::Change::set(resource)]);
}

/// The same with policies that a cluster can have: they allow, and isolate.
fn plain(mut state: State) -> State {
    for policy in state.policies.values().cloned().collect::<Vec<_>>() {
        let mut policy = Policy::clone(&policy);
        policy.staged = false;
        for rule in policy.ingress.iter_mut().chain(&mut policy.egress) {
            rule.action = Action::Allow;
        }
        set(&mut state, Resource::Policy(policy.into()));
    }
    for zone in state.zones.values().cloned().collect::<Vec<_>>() {
        let zone = Zone { mode: Mode::Enforce, ..Zone::clone(&zone) };
        set(&mut state, Resource::Zone(zone.into()));
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn nothing_exported_is_wider(state in state(), seeds in vec(flow_seed(), 80)) {
        for zone in state.zones.values() {
            compare(&state, zone, &seeds)?;
        }
    }

    #[test]
    fn what_only_allows_is_exported_exactly_unless_something_is_told(state in state(), seeds in vec(flow_seed(), 80)) {
        let state = plain(state);
        for zone in state.zones.values() {
            compare(&state, zone, &seeds)?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn an_import_exported_means_the_same(documents in world::plain()) {
        let text: String = documents.iter().map(Value::to_string).collect();
        let imported = kubernetes::import(&[File { name: "f", content: text.as_bytes() }], Some(&name("prod")));
        let pod = Requirement::new(kubernetes::labels::NAMESPACE_NAME.into(), Operator::Exists, []);
        let zone = Zone { name: name("cluster"), network: name("prod"), selector: Selector::new([pod]), isolate: Sides::default(), mode: Mode::Enforce };
        let resources = imported.resources.into_iter().chain([Resource::Zone(zone.into())]);
        let exported = export::network_policies(resources, &name("cluster"), None);
        prop_assert!(exported.diagnostics.is_empty(), "{:#?}", exported.diagnostics);
        let kept = documents.iter().filter(|document| document["kind"] != "NetworkPolicy").cloned();
        let after = World::new(kept.chain(exported.documents).collect());
        let before = World::new(documents);
        let ips: Vec<IpAddr> = before.pods.iter().flat_map(|pod| pod.ips.clone()).chain(["192.0.2.7".parse().unwrap(), "fd00::99".parse().unwrap()]).collect();
        for from in &ips {
            for to in ips.iter().filter(|to| *to != from && to.is_ipv4() == from.is_ipv4()) {
                for (protocol, port) in [(6, 53), (6, 80), (17, 53), (17, 8080), (132, 9000), (6, 65535)] {
                    let service = Service::Port { protocol, port };
                    prop_assert_eq!(before.allows(*from, *to, service), after.allows(*from, *to, service), "{} {} {:?}", from, to, service);
                }
            }
        }
        // And once more the same documents.
        let again: String = after.documents.iter().map(Value::to_string).collect();
        let again = kubernetes::import(&[File { name: "f", content: again.as_bytes() }], Some(&name("prod")));
        prop_assert!(again.diagnostics.iter().all(|d| d.severity != bulkhead_types::Severity::Error), "{:#?}", again.diagnostics);
    }
}

/// That the property above is about something: worlds of which all can be said do come.
#[test]
fn some_exports_are_exact() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut exact, mut rules) = (0, 0);
    for _ in 0..64 {
        let state = plain(state().new_tree(&mut runner).unwrap().current());
        for zone in state.zones.values() {
            let exported = export::network_policies(state.resources(), &zone.name, Some(HOME));
            let said = |document: &Value| Direction::BOTH.iter().any(|d| !document["spec"][d.as_str()].is_null());
            if exported.diagnostics.is_empty() {
                exact += 1;
                rules += exported.documents.iter().filter(|document| said(document)).count();
            }
        }
    }
    assert!(exact > 20 && rules > 5, "{exact} exact, {rules} with rules");
}
