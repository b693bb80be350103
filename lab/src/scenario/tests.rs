#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

const TEXT: &str = "\
lab: small
services: [80/tcp, ping]
hypervisors:
- {name: hv1, vtep: 172.31.0.1}
- {name: hv2, vtep: 172.31.0.2}
workloads:
- {name: a, hypervisor: hv1, network: one, ips: [10.0.0.11, \"fd00::11\"], labels: {tier: web}}
- {name: b, hypervisor: hv2, network: one, ips: [10.0.0.12], mac: \"02:00:00:00:00:0b\"}
---
kind: Network
metadata: {name: one}
spec: {vni: 1, subnets: [10.0.0.0/24, \"fd00::/64\"]}
";

fn address(host: &Host) -> String {
    match host.kind {
        Kind::Ovs => format!("unix:/run/{}.sock", host.name),
        Kind::P4 => "192.0.2.9:9559".to_owned(),
    }
}

#[test]
fn a_file_is_read_with_its_defaults() {
    let small = Scenario::parse(TEXT).unwrap();
    assert_eq!((small.underlay_mtu, small.datapath), (1500, Datapath::System));
    let guests: Vec<_> = small.guests().map(|(guest, mac)| (guest.mtu, mac.to_string())).collect();
    assert_eq!(guests, [(1400, "02:bb:00:00:00:01".to_owned()), (1400, "02:00:00:00:00:0b".to_owned())]);
    let a = small.guest("a").unwrap();
    assert_eq!([small.prefix(a, a.ips[0]).unwrap(), small.prefix(a, a.ips[1]).unwrap()], [24, 64]);
}

#[test]
fn the_documents_are_what_bulkhead_reads() {
    let documents = Scenario::parse(TEXT).unwrap().documents(address);
    assert_eq!(documents.len(), 5);
    for document in &documents {
        load(document).unwrap();
    }
}

#[test]
fn bare_metal_is_at_ports_with_numbers() {
    let text =
        TEXT.replace("{name: hv2, vtep: 172.31.0.2}", "{name: hv2, vtep: 172.31.0.2, kind: p4, device: stand-in}");
    let mixed = Scenario::parse(&text).unwrap();
    let documents = mixed.documents(address);
    documents.iter().for_each(|document| drop(load(document).unwrap()));
    let of = |name: &str| documents.iter().find(|one| one["metadata"]["name"] == name).unwrap()["spec"].clone();
    assert_eq!(
        (of("hv1")["ovsdb"].as_str(), of("hv2")["address"].as_str()),
        (Some("unix:/run/hv1.sock"), Some("192.0.2.9:9559"))
    );
    assert_eq!(of("a")["interfaces"][0]["attachment"], Value::Null);
    assert_eq!(of("b")["interfaces"][0]["attachment"], json!({"switch": "hv2", "port": 1}));
    let kept = serde_json::to_string(&mixed).unwrap();
    assert_eq!(serde_json::from_str::<Scenario>(&kept).unwrap(), mixed);
    let wrong = Scenario::parse(&text.replace("kind: p4, ", "")).unwrap_err();
    assert!(wrong.to_string().contains("only `kind: p4` has a device"), "{wrong}");
}

#[test]
fn a_scenario_is_kept_whole() {
    let small = Scenario::parse(TEXT).unwrap();
    let kept = serde_json::to_string(&small).unwrap();
    assert_eq!(serde_json::from_str::<Scenario>(&kept).unwrap(), small);
}

#[test]
fn every_scenario_of_the_repository_is_right() {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios")).unwrap();
    let mut names = BTreeSet::new();
    for file in files.map(|file| file.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{}: {error:#}", file.display()));
        assert_eq!(file.file_stem().unwrap().to_str().unwrap(), scenario.lab);
        for document in scenario.documents(address) {
            load(&document).unwrap();
        }
        names.insert(scenario.lab);
    }
    let wanted = ["ipv6-underlay", "one-host", "three-host-mixed", "two-host-geneve", "two-host-tls", "two-tenants"];
    assert!(wanted.iter().all(|name| names.contains(*name)), "{names:?}");
}

#[test]
fn what_cannot_be_put_up_is_refused() {
    for (from, to, told) in [
        ("name: b,", "name: a,", "`a` is taken"),
        ("name: b,", "name: rogue,", "`rogue` is taken"),
        ("name: b,", "name: B,", "is no name"),
        ("hypervisor: hv2,", "hypervisor: hv3,", "no hypervisor hv3"),
        ("10.0.0.12", "10.0.0.11", "10.0.0.11 is taken"),
        ("10.0.0.12", "10.0.1.12", "in no subnet"),
        ("172.31.0.2", "172.31.0.1", "172.31.0.1"),
        ("172.31.0.2", "172.31.1.2", "172.31.1.2"),
        ("172.31.0.2", "172.31.0.254", "172.31.0.254"),
        ("mac: \"02:00:00:00:00:0b\"", "mac: \"02:bb:00:00:00:01\"", "is taken"),
        ("vni: 1,", "vni: 0,", "vni"),
        ("lab: small", "lab: small\nextra: 1", "no scenario"),
    ] {
        assert!(TEXT.contains(from), "{from}");
        let error = format!("{:#}", Scenario::parse(&TEXT.replacen(from, to, 1)).unwrap_err());
        assert!(error.contains(told), "{to}: {error}");
    }
}
