//! Ports into the underlay.

use super::*;
use bulkhead_topology::underlay::{Hop, Route};

/// A P4 switch whose ports 7 and 8 lead into the underlay.
fn leaf() -> Change {
    let mac = Mac([2, 0, 0, 1, 0, 1]);
    let via = [7, 8].map(|port| Hop { port, mac }).to_vec();
    let vtep = "192.0.2.1".parse().unwrap();
    let routes = vec![Route { to: "0.0.0.0/0".parse().unwrap(), via }];
    let underlay = Some(Underlay { vtep, mac, mtu: None, routes }.into());
    let driver = Driver::P4runtime { address: "h:1".into(), device_id: 1, underlay };
    let (name, role) = (name("leaf"), Role::Leaf);
    Change::set(Resource::Switch(Arc::new(Switch { name, driver, vtep: Some(vtep), role, ovsdb: None })))
}

#[test]
fn a_port_into_the_underlay_is_nobody_s() {
    let mut state = world();
    // That it keeps no connections is said whatever its ports are.
    let told = |state: &State, changes: &[Change]| {
        let found = state.check(changes).into_iter().filter(|found| found.path != "spec.driver");
        found.map(|found| found.to_string()).collect::<Vec<_>>()
    };
    let says = |state: &State, changes: &[Change], what: &str| {
        let told = told(state, changes);
        assert!(told.len() == 1 && told[0].contains(what), "{what}: {told:#?}");
    };
    let workload = |port| workload("w9", "prod", 9, &[], Some(at("leaf", port)));
    let uplink = |port| uplinks("prod", 1, &[(at("leaf", port), 0)]);
    for other in [workload, uplink] {
        says(&state, &[leaf(), other(7)], "port 7 of switch leaf");
        assert_eq!(told(&state, &[leaf(), other(9)]), Vec::<String>::new());
    }
    state.apply(&[leaf()]);
    says(&state, &[workload(8)], "port 8 of switch leaf leads into the underlay of Switch/leaf");
    says(&state, &[uplink(8)], "port 8 of switch leaf, untagged, leads into the underlay of Switch/leaf");
    // Whoever is there first stays: the switch is refused, unless he goes with it.
    let mut state = world();
    state.apply(&[workload(7)]);
    says(&state, &[leaf()], "port 7 of switch leaf is a port of Workload/w9");
    assert_eq!(told(&state, &[leaf(), workload(9)]), Vec::<String>::new());
    let mut state = world();
    state.apply(&[uplink(7)]);
    says(&state, &[leaf()], "port 7 of switch leaf is a port of Network/prod");
}
