//! What has no room in an overlay: identities that outgrow the 16 bits of VXLAN's group-policy id, and groups that more
//! switches would be in than can get copies. Refused by names that the operator knows, and nothing of it is done. On
//! simulated switches, which have group policy.

use bulkhead_client::Client;
use bulkhead_daemon::{Config, Daemon};
use bulkhead_driver_sim::Fabric;
use bulkhead_pipeline::{Program, render_program};
use bulkhead_store::{RedbStore, Revision, Store};
use bulkhead_tests::controller::program;
use bulkhead_types::{FlowQuestion, Verdict};
use serde_json::{Value, json};
use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// Other switches that one sends copies to at most.
const FAR_MOST: usize = 64;
/// The largest identity that a group-policy id has room for.
const LAST: u32 = 0xffff;

/// A controller that has given all identities up to `last` in its time.
async fn aged(dir: &Path, last: u32, switches: &Fabric) -> Daemon {
    let data_dir = dir.join("data");
    let numbers = vec![("next/identity".into(), Some(last + 1))];
    let life = Revision { number: 1, author: "test".into(), time: 0, changes: [].into(), numbers, event: None };
    RedbStore::open(&data_dir).unwrap().append(0, &[life]).unwrap();
    bulkhead_daemon::start(&Config::inside(data_dir), switches.clone()).await.unwrap()
}

fn switch(name: &str, vtep: &str) -> Value {
    json!({"kind": "Switch", "metadata": {"name": name}, "spec": {"driver": "sim", "vtep": vtep}})
}

fn network(name: &str, vni: u32, encap: &str) -> Value {
    json!({"kind": "Network", "metadata": {"name": name},
           "spec": {"vni": vni, "subnets": ["10.0.0.0/24"], "encap": encap, "defaultAction": "allow"}})
}

fn workload(name: &str, number: u8, network: &str, switch: &str, app: &str) -> Value {
    json!({"kind": "Workload", "metadata": {"name": name, "labels": {"app": app, "env": "prod"}}, "spec": {
        "network": network, "interfaces": [{"mac": format!("02:00:00:00:00:{number:02x}"),
            "ips": [format!("10.0.0.{number}")], "attachment": {"switch": switch, "port": name}}]}})
}

/// `bulkhead apply` of a document: exit code and what it says.
fn apply(server: &str, documents: &[Value]) -> (Option<i32>, String) {
    let mut cli = Command::new(program("bulkhead").unwrap());
    cli.env_remove("BULKHEAD_SERVER").args(["--server", server, "apply", "-f", "-"]);
    let mut cli = cli.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    cli.stdin.take().unwrap().write_all(Value::from(documents).to_string().as_bytes()).unwrap();
    let output = cli.wait_with_output().unwrap();
    let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.code(), told)
}

#[test]
fn identities_that_outgrow_the_group_policy_id_are_refused_by_both_switches_and_the_labels() {
    let (dir, switches) = (tempfile::tempdir().unwrap(), Fabric::default());
    let tasks = tokio::runtime::Runtime::new().unwrap();
    let daemon = tasks.block_on(aged(dir.path(), LAST - 2, &switches));
    let client = Client::new(&format!("http://{}", daemon.listen)).unwrap();
    let fine = [
        switch("hv1", "192.0.2.1"),
        switch("hv2", "192.0.2.2"),
        network("narrow", 5001, "vxlan"),
        network("wide", 5002, "geneve"),
        workload("a", 1, "narrow", "hv1", "a"),
        workload("b", 2, "narrow", "hv2", "b"),
    ];
    let revision = client.apply(&fine, false).unwrap().revision;
    assert!(client.realization(revision, Duration::from_secs(30)).unwrap().realized);
    let programs = || -> Vec<Program> {
        ["hv1", "hv2"].map(|name| switches.with(&name.parse().unwrap(), |switch| switch.program().clone())).into()
    };
    let before = programs();
    let text: String = before.iter().map(render_program).collect();
    assert!(text.contains("tun_gbp"), "the pair has no group policy: {text}");

    let question = FlowQuestion { from: "a".into(), to: "b".into(), protocol: "tcp".into(), ..FlowQuestion::default() };
    let question = FlowQuestion { port: Some(80), ..question };
    let reaches = || client.reach(&question).unwrap().verdict == Verdict::Allow;
    let relabelled = workload("a", 1, "narrow", "hv1", "late");
    let newcomer = workload("c", 3, "narrow", "hv1", "late");
    // One more in the same change, which would be fine by itself: all or nothing.
    let cases = [
        ("relabelled", vec![relabelled, workload("d", 4, "narrow", "hv2", "b")], "workload a"),
        ("a new one", vec![newcomer.clone()], "workload c"),
    ];
    for (what, documents, whose) in cases {
        let (code, told) = apply(client.server(), &documents);
        println!("{what}: {told}");
        assert_eq!(code, Some(1), "{what}: {told}");
        for word in ["app=late,env=prod", whose, "network narrow", "switch hv1", "switch hv2", "65536", "65535"] {
            assert!(told.contains(word), "{what}: `{word}` is not said: {told}");
        }
        let refused = client.apply(&documents, false).unwrap_err();
        let problem = refused.problem().unwrap();
        assert_eq!((problem.status, problem.kind.rsplit(':').next()), (422, Some("too-large")), "{problem:?}");
        assert_eq!(client.status().unwrap().revision, revision, "{what}");
        assert_eq!(client.get("workloads", "a").unwrap()["metadata"]["labels"]["app"], "a", "{what}");
        assert_eq!(programs(), before, "{what}: something was sent");
        assert!(reaches(), "{what}");
    }
    // Labels that have a number go on, and so does what is carried with room for any number.
    client.apply(&[workload("c", 3, "narrow", "hv1", "a"), workload("e", 5, "wide", "hv1", "late")], false).unwrap();
    let wide = client.apply(&[workload("f", 6, "wide", "hv2", "later")], false).unwrap().revision;
    // Until its packets were to go by the other way.
    let (code, told) = apply(client.server(), &[network("wide", 5002, "vxlan")]);
    assert!(code == Some(1) && told.contains("network wide") && told.contains("at most 65535"), "{told}");
    assert_eq!(client.status().unwrap().revision, wide);
    assert_eq!(client.get("networks", "wide").unwrap()["spec"]["encap"], "geneve");
    assert!(reaches());
    tasks.block_on(daemon.stop()).unwrap();
}

#[test]
fn a_group_with_more_switches_than_can_get_copies_is_refused_by_network_and_switch() {
    let (dir, switches) = (tempfile::tempdir().unwrap(), Fabric::default());
    let tasks = tokio::runtime::Runtime::new().unwrap();
    let daemon = tasks.block_on(aged(dir.path(), 16, &switches));
    let client = Client::new(&format!("http://{}", daemon.listen)).unwrap();
    let mut group = network("flooded", 5001, "geneve");
    group["spec"]["multicast"] = json!(["239.1.2.3"]);
    let place = |number: usize| {
        let octet = u8::try_from(number + 1).unwrap();
        let (switch_name, name) = (format!("hv{number}"), format!("w{number}"));
        [switch(&switch_name, &format!("192.0.2.{octet}")), workload(&name, octet, "flooded", &switch_name, "a")]
    };
    let fine: Vec<Value> = [group].into_iter().chain((0..=FAR_MOST).flat_map(place)).collect();
    let revision = client.apply(&fine, false).unwrap().revision;
    assert!(client.realization(revision, Duration::from_secs(60)).unwrap().realized);
    let program_of = || switches.with(&"hv0".parse().unwrap(), |switch| switch.program().clone());
    let before = program_of();
    let (code, told) = apply(client.server(), &place(FAR_MOST + 1));
    assert_eq!(code, Some(1), "{told}");
    for word in ["network flooded", "switch hv", "65", "at most 64"] {
        assert!(told.contains(word), "`{word}` is not said: {told}");
    }
    assert_eq!(client.status().unwrap().revision, revision);
    assert!(program_of() == before, "something was sent");
    assert!(client.get("switches", "hv65").is_err());
    // A network without groups may go there.
    client.apply(&[switch("hv65", "192.0.2.66"), network("plain", 5002, "geneve")], false).unwrap();
    client.apply(&[workload("w65", 66, "plain", "hv65", "a"), workload("v0", 67, "plain", "hv0", "a")], false).unwrap();
    tasks.block_on(daemon.stop()).unwrap();
}
