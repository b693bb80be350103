//! What is only reported: zones that monitor, canaries, staged policies. Packets on the simulated switch.

use crate::common;
use bulkhead_daemon::start;
use bulkhead_driver_sim::Fabric;
use bulkhead_pipeline::Outcome;
use bulkhead_topology::{Name, Port};
use common::{Client, config};
use serde_json::json;

/// `f` is among a canary's share that enforces, `e` is not.
const FABRIC: &str = r#"
kind: Network
metadata: {name: n}
spec: {vni: 1, subnets: [10.0.0.0/24]}
---
kind: Switch
metadata: {name: hv1}
spec: {driver: sim}
---
kind: Workload
metadata: {name: c, labels: {app: client}}
spec: {network: n, interfaces: [{mac: "02:00:00:00:00:01", ips: [10.0.0.1], attachment: {switch: hv1, port: p1}}]}
---
kind: Workload
metadata: {name: e, labels: {app: server}}
spec: {network: n, interfaces: [{mac: "02:00:00:00:00:02", ips: [10.0.0.2], attachment: {switch: hv1, port: p2}}]}
---
kind: Workload
metadata: {name: f, labels: {app: server}}
spec: {network: n, interfaces: [{mac: "02:00:00:00:00:03", ips: [10.0.0.3], attachment: {switch: hv1, port: p3}}]}
---
kind: Policy
metadata: {name: open}
spec: {subject: {matchLabels: {app: client}}, egress: [{action: allow}]}
---
kind: Policy
metadata: {name: shut}
spec: {subject: {matchLabels: {app: server}}, ingress: [{name: no, action: deny, ports: [{protocol: tcp, port: 80}]}]}
---
kind: Zone
metadata: {name: z}
spec: {network: n, selector: {matchLabels: {app: server}}, mode: enforce}
"#;

/// The first segment of a connection from c to this host's port 80.
fn syn(to: u8, source_port: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, to]);
    frame.extend(source_port.to_be_bytes());
    frame.extend([0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

struct Lab {
    fabric: Fabric,
    client: Client,
    port: u16,
}

impl Lab {
    async fn apply(&self, documents: &str) {
        let (status, answer) = self.client.send("POST", "/v1/apply", Some(documents.into())).await;
        assert_eq!(status, 200, "{answer}");
        let realized = self.client.get(&format!("/v1/realization?revision={}&wait=10s", answer["revision"])).await;
        assert_eq!(realized["realized"], json!(true), "{realized}");
    }

    /// Whether new connections of c get to e, and to f.
    fn pass(&mut self) -> [bool; 2] {
        let hv1: Name = "hv1".parse().unwrap();
        [2, 3].map(|to| {
            self.port += 1;
            let frame = syn(to, self.port);
            self.fabric.with(&hv1, |switch| {
                let walk = switch.inject(Port::Name("p1".into()), &frame).unwrap();
                matches!(walk.outcome, Outcome::Delivered { .. })
            })
        })
    }

    async fn hits(&self, policy: &str) -> u64 {
        self.counted(policy).await.0
    }

    /// Packets that the policy's first rule decided about, and how many of them were dropped.
    async fn counted(&self, policy: &str) -> (u64, u64) {
        let hits = self.client.get(&format!("/v1/hits?policy={policy}")).await;
        let number = |value: &serde_json::Value| value.as_u64().unwrap_or_else(|| panic!("{hits}"));
        (number(&hits[0]["total"]["packets"]), number(&hits[0]["dropped"]))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_enforced_is_counted_and_passes() {
    let directory = tempfile::tempdir().unwrap();
    let fabric = Fabric::default();
    let daemon = start(&config(directory.path()), fabric.clone()).await.unwrap();
    let mut lab = Lab { fabric, client: Client::of(&daemon), port: 40_000 };
    lab.apply(FABRIC).await;
    assert_eq!(lab.pass(), [false, false]);
    assert_eq!(lab.counted("shut").await, (2, 2));
    for (mode, passes, dropped) in [
        ("monitor", [true, true], 0),
        ("canary", [true, false], 1),
        ("enforce", [false, false], 2),
        ("canary", [true, false], 1),
    ] {
        lab.apply(&format!(
            "kind: Zone\nmetadata: {{name: z}}\nspec: {{network: n, selector: {{matchLabels: {{app: server}}}}, mode: {mode}}}\n"
        ))
        .await;
        let before = lab.counted("shut").await;
        assert_eq!(lab.pass(), passes, "{mode}");
        let after = lab.counted("shut").await;
        assert_eq!((after.0 - before.0, after.1 - before.1), (2, dropped), "{mode}");
    }
    // A workload more changes nobody's place in the canary; another zone that enforces is stricter.
    lab.apply(
        "kind: Workload\nmetadata: {name: a, labels: {app: server}}\n\
         spec: {network: n, interfaces: [{mac: \"02:00:00:00:00:09\", ips: [10.0.0.9]}]}\n",
    )
    .await;
    assert_eq!(lab.pass(), [true, false]);
    lab.apply(
        "kind: Zone\nmetadata: {name: y}\nspec: {network: n, selector: {matchLabels: {app: server}}, mode: enforce}\n",
    )
    .await;
    assert_eq!(lab.pass(), [false, false]);
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_policy_counts_what_it_would_decide_and_decides_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let fabric = Fabric::default();
    let daemon = start(&config(directory.path()), fabric.clone()).await.unwrap();
    let mut lab = Lab { fabric, client: Client::of(&daemon), port: 40_000 };
    lab.apply(FABRIC).await;
    // After the active rule it would decide nothing, before it everything.
    let soon = |priority: u16, stage: &str| {
        format!(
            "kind: Policy\nmetadata: {{name: soon}}\nspec:\n  stage: {stage}\n  priority: {priority}\n  \
             subject: {{matchLabels: {{app: server}}}}\n  ingress: [{{name: yes, action: allow}}]\n"
        )
    };
    for (priority, stage, passes, hits) in [
        (2000, "staged", [false, false], [0, 2]),
        (1, "staged", [false, false], [2, 2]),
        (1, "active", [true, true], [2, 0]),
        (1, "staged", [false, false], [2, 2]),
    ] {
        lab.apply(&soon(priority, stage)).await;
        let before = [lab.hits("soon").await, lab.hits("shut").await];
        assert_eq!(lab.pass(), passes, "{priority} {stage}");
        let after = [lab.hits("soon").await, lab.hits("shut").await];
        assert_eq!([after[0] - before[0], after[1] - before[1]], hits, "{priority} {stage}");
        let reach = lab.client.ask("/v1/reach", "c", "e", 80).await;
        let would = (priority == 1 && stage == "staged").then_some("allow");
        assert_eq!(reach["staged"]["verdict"].as_str(), would, "{reach:#}");
    }
    daemon.stop().await.unwrap();
}
