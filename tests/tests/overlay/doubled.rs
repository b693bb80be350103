//! One port that one document names by name and another by number: only the switch can tell, and one of them has it.

use crate::world::{Attachments, IPV4, PATIENCE, SILENCE, World, two};
use bulkhead_lab::{Family, Service, packets};
use bulkhead_topology::Mac;
use bulkhead_types::DoubledPort;
use serde_json::json;
use std::{net::Ipv4Addr, time::Duration};

/// UDP port that everybody may be sent something at, and what is sent.
const OPEN: u16 = 7;
const MARK: &[u8] = b"from whom the port is";
/// The one by number.
const OTHER: (Mac, Ipv4Addr) = (Mac([2, 0xbb, 0, 0, 0, 0x99]), Ipv4Addr::new(10, 0, 0, 99));

#[test]
fn a_port_by_name_and_by_number_is_the_ones_that_has_it_by_name() {
    let everybody = json!({"matchLabels": {"app": "x"}});
    let ports = json!([{"protocol": "udp", "port": OPEN}]);
    let scenario = two("ov-doubled", IPV4).resource(json!({"kind": "Policy", "metadata": {"name": "open"}, "spec": {
        "subject": everybody, "ingress": [{"action": "allow", "from": [everybody], "ports": ports}],
        "egress": [{"action": "allow", "to": [everybody], "ports": ports}]}}));
    let Some(world) = World::up(&scenario, Attachments::Declared) else { return };
    let (a, b) = (world.workload("a"), world.workload("b"));
    let number = a.port();
    let other = json!({"kind": "Workload", "metadata": {"name": "other", "labels": {"app": "x"}}, "spec": {
        "network": "one", "interfaces": [{"mac": OTHER.0.to_string(), "ips": [OTHER.1.to_string()],
            "attachment": {"switch": "hv1", "port": number}}]}});
    let (wire, far) = (a.wire().unwrap(), b.wire().unwrap());
    // What comes from the port in somebody's name, and gets to the other hypervisor.
    let passes = |mac: Mac, ip: Ipv4Addr, patience: Duration| {
        far.drain(Duration::ZERO).unwrap();
        let way = packets::Way { from_mac: mac.0, to_mac: b.mac().0, from: ip.into(), to: b.ip(Family::V4).unwrap() };
        wire.inject(&way.udp(40_000, OPEN, MARK)).unwrap();
        let came = |frame: &[u8]| frame.get(26..30) == Some(&ip.octets()) && frame.ends_with(MARK);
        far.find(patience, came).unwrap().is_some()
    };
    let own = (a.mac(), "10.0.0.11".parse().unwrap());
    let doubled = DoubledPort {
        number: number.to_string(),
        name: "a".into(),
        has: "Workload/a".into(),
        waits: "Workload/other".into(),
    };
    let document = world.workload_document("a", Attachments::Declared);
    // By name, by number, and the first one again: whoever comes last.
    for _ in 0..2 {
        world.apply(std::slice::from_ref(&other));
        world.until("both names are told", |status| {
            status.switches.iter().any(|switch| switch.name == "hv1" && switch.doubled_ports == [doubled.clone()])
        });
        let told = world.told("hv1");
        assert!(told.contains(&format!("port {number} is a, which Workload/a has; Workload/other waits")), "{told}");
        world.reaches("a", "b", Service::Icmp);
        assert!(passes(own.0, own.1, PATIENCE), "who has it by name does not get through");
        assert!(!passes(OTHER.0, OTHER.1, SILENCE), "who has it by number gets through");
        // Without the one the other has it, whole.
        world.client().delete(std::slice::from_ref(&document), false).unwrap();
        world.realized();
        assert!(world.switch("hv1").doubled_ports.is_empty());
        assert!(passes(OTHER.0, OTHER.1, PATIENCE), "who waited does not get through");
        assert!(!passes(own.0, own.1, SILENCE), "who is gone gets through");
        world.apply(std::slice::from_ref(&document));
    }
}
