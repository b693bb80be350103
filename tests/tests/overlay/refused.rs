//! Documents that contradict each other are refused by both names, and change nothing.

use crate::world::network;
use bulkhead_tests::controller::{Controller, program};
use serde_json::{Value, json};
use std::{
    io::Write,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

fn switch(name: &str, id: u64, vtep: &str) -> Value {
    json!({"kind": "Switch", "metadata": {"name": name},
           "spec": {"driver": "openflow", "datapathId": format!("{id:#x}"), "vtep": vtep}})
}

fn workload(name: &str, network: &str, mac: u8, ip: &str, port: Value) -> Value {
    json!({"kind": "Workload", "metadata": {"name": name}, "spec": {"network": network, "interfaces": [
        {"mac": format!("02:00:00:00:00:{mac:02x}"), "ips": [ip], "attachment": {"switch": "hv1", "port": port}}]}})
}

#[test]
fn contradictions_are_refused_by_both_names() {
    let controller = Controller::start(&program("bulkheadd").unwrap(), Ipv4Addr::LOCALHOST).unwrap();
    let fine = [
        network("one", 5001),
        network("two", 5002),
        switch("hv1", 1, "192.0.2.1"),
        workload("a", "one", 1, "10.0.0.1", "a".into()),
    ];
    let revision = controller.client.apply(&fine, false).unwrap().revision;
    let tunnel = |port: &str| workload("b", "one", 2, "10.0.0.2", port.into());
    // What it is, the document, and the words that have to be in what is said.
    let cases: [(&str, Value, &[&str]); 9] = [
        ("one VTEP twice", switch("hv2", 2, "192.0.2.1"), &["192.0.2.1", "hv1", "hv2"]),
        ("one VTEP twice, written otherwise", switch("hv2", 2, "::ffff:192.0.2.1"), &["192.0.2.1"]),
        ("one datapath id twice", switch("hv2", 1, "192.0.2.2"), &["hv1", "hv2"]),
        ("one address twice", workload("b", "one", 2, "10.0.0.1", "b".into()), &["10.0.0.1", "Workload/a", "b"]),
        ("one MAC twice", workload("b", "one", 1, "10.0.0.2", "b".into()), &["02:00:00:00:00:01", "Workload/a", "b"]),
        ("one port twice", workload("b", "two", 2, "10.0.0.2", "a".into()), &["port a", "Workload/a", "b"]),
        ("one VNI twice", network("three", 5001), &["5001", "one", "three"]),
        ("a workload at the Geneve port", tunnel("bh-geneve"), &["bh-geneve", "hv1", "overlay port", "b"]),
        ("a workload at the VXLAN port", tunnel("bh-vxlan"), &["bh-vxlan", "hv1", "overlay port", "b"]),
    ];
    for (what, document, words) in cases {
        let mut cli = Command::new(program("bulkhead").unwrap());
        cli.env_remove("BULKHEAD_SERVER").args(["--server", controller.client.server(), "apply", "-f", "-"]);
        let mut cli = cli.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        cli.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
        let output = cli.wait_with_output().unwrap();
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        println!("{what}: {told}");
        assert_eq!(output.status.code(), Some(1), "{what}: {told}");
        for word in words {
            assert!(told.contains(word), "{what}: `{word}` is not said: {told}");
        }
        assert_eq!(controller.client.status().unwrap().revision, revision, "{what}");
    }
    // The same addresses in another network are nobody's business.
    controller.client.apply(&[workload("b", "two", 1, "10.0.0.1", "b".into())], false).unwrap();
}
