//! The three-tier shop over HTTP on the simulated switch, and over a restart.

use crate::common;
use bulkhead_daemon::start;
use bulkhead_driver_sim::Fabric;
use bulkhead_topology::Name;
use common::{Client, config, shop};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_shop_is_applied_realized_asked_about_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let fabric = Fabric::default();
    let hv1: Name = "hv1".parse().unwrap();
    let daemon = start(&config(directory.path()), fabric.clone()).await.unwrap();
    let client = Client::of(&daemon);

    let (status, answer) = client.send("POST", "/v1/apply", Some(shop())).await;
    assert_eq!((status, &answer["revision"]), (200, &json!(1)), "{answer}");
    let realized = client.get("/v1/realization?revision=1&wait=10s").await;
    assert_eq!(realized["realized"], json!(true), "{realized}");
    let program = fabric.with(&hv1, |switch| switch.program().clone());
    assert!(!program.is_empty());

    // The reference, and the compiled program walked, say the same.
    for (from, to, port) in [
        ("lb", "web-1", 443),
        ("web-1", "app-2", 8080),
        ("app-1", "db", 5432),
        ("lb", "db", 5432),
        ("web-1", "web-2", 443),
        ("db", "lb", 22),
        ("ip:198.51.100.7", "db", 5432),
    ] {
        let reach = client.ask("/v1/reach", from, to, port).await;
        let trace = client.ask("/v1/trace", from, to, port).await;
        assert_eq!(trace["verdict"], reach["verdict"], "{from} {to} {port}: {reach:#} {trace:#}");
    }
    let trace = client.ask("/v1/trace", "web-1", "app-1", 8080).await;
    assert_eq!(trace["outcome"], json!("delivered to app-1 at hv1:app-1"), "{trace:#}");
    let rules: Vec<&str> =
        trace["hops"][0]["steps"].as_array().unwrap().iter().map(|s| s["rule"].as_str().unwrap()).collect();
    assert!(rules.contains(&"web-to-app/http"), "{rules:?}");

    // A wrong change is refused as a whole, and says where.
    let bad = "kind: Policy\nmetadata: {name: bad}\nspec:\n  subject: {zone: nowhere}\n";
    let (status, problem) = client.send("POST", "/v1/apply", Some(bad.into())).await;
    assert!(status == 422 || status == 400, "{problem}");
    assert!(problem["diagnostics"][0]["line"].is_number(), "{problem}");
    assert_eq!(client.get("/v1/status").await["revision"], json!(1));

    // A dry run counts entries and changes nothing.
    let edit = "kind: Workload\nmetadata: {name: app-9, labels: {app: shop, tier: app, env: prod}}\nspec: {network: shop, \
                interfaces: [{mac: \"02:00:00:00:00:99\", ips: [10.1.0.99], attachment: {switch: hv1, port: app-9}}]}\n";
    let (status, plan) = client.send("POST", "/v1/apply?dryRun=true", Some(edit.into())).await;
    assert_eq!(status, 200, "{plan}");
    assert!(plan["plan"]["switches"]["hv1"]["added"].as_u64().unwrap() > 0, "{plan}");
    assert_eq!(fabric.with(&hv1, |switch| switch.program().clone()), program);

    let changes = fabric.with(&hv1, |switch| switch.changes());
    daemon.stop().await.unwrap();

    // The same switch, another controller.
    let daemon = start(&config(directory.path()), fabric.clone()).await.unwrap();
    let client = Client::of(&daemon);
    let realized = client.get("/v1/realization?revision=1&wait=10s").await;
    assert_eq!(realized["realized"], json!(true), "{realized}");
    let status = client.get("/v1/status").await;
    let switch = &status["switches"][0];
    assert_eq!((&switch["acknowledged"], &switch["drift"], &switch["connected"]), (&json!(1), &json!(0), &json!(true)));
    assert_eq!(fabric.with(&hv1, |switch| switch.changes()), changes, "an identical switch was written to");
    assert_eq!(fabric.with(&hv1, |switch| switch.program().clone()), program);
    let web = client.get("/v1/workloads/web-1").await;
    assert_eq!(
        web["metadata"]["resourceVersion"]
            .as_str()
            .map_or(web["metadata"]["resourceVersion"].as_u64(), |v| v.parse().ok()),
        Some(1)
    );
    let metrics = client.get("/metrics").await;
    assert!(metrics.as_str().unwrap().contains("bulkhead_switch_connected{switch=\"hv1\"} 1"), "{metrics}");

    // Taking everything away leaves an empty program.
    let (status, _) = client.send("DELETE", "/v1/workloads/db", None).await;
    assert_eq!(status, 200);
    client.get("/v1/realization?revision=2&wait=10s").await;
    let left = fabric.with(&hv1, |switch| switch.program().len());
    assert!(left < program.len(), "{left}");
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_controller_on_the_same_data_is_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(&config(directory.path()), Fabric::default()).await.unwrap();
    let error = start(&config(directory.path()), Fabric::default()).await.err().unwrap();
    assert!(format!("{error:#}").contains("--data-dir"), "{error:#}");
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_through_the_tunnel_to_the_other_switch() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(&config(directory.path()), Fabric::default()).await.unwrap();
    let client = Client::of(&daemon);
    let mut documents =
        "kind: Network\nmetadata: {name: net}\nspec: {vni: 7, subnets: [10.0.0.0/24], defaultAction: allow, \
                         uplinks: [{switch: hv1, port: up}]}\n"
            .to_owned();
    for n in 1..=2 {
        documents += &format!(
            "---\nkind: Switch\nmetadata: {{name: hv{n}}}\nspec: {{driver: sim, vtep: 192.0.2.{n}}}\n---\nkind: Workload\n\
             metadata: {{name: w{n}}}\nspec: {{network: net, interfaces: [{{mac: \"02:00:00:00:00:0{n}\", ips: [10.0.0.{n}], \
             attachment: {{switch: hv{n}, port: w{n}}}}}]}}\n"
        );
    }
    let (status, answer) = client.send("POST", "/v1/apply", Some(documents)).await;
    assert_eq!(status, 200, "{answer}");
    for (from, to, outcome) in [
        ("w1", "w2", "delivered to w2 at hv2:w2"),
        ("w2", "ip:198.51.100.7", "delivered to the uplink hv1:up"),
        ("ip:198.51.100.7", "w2", "delivered to w2 at hv2:w2"),
    ] {
        let trace = client.ask("/v1/trace", from, to, 443).await;
        assert_eq!((&trace["outcome"], trace["hops"].as_array().unwrap().len()), (&json!(outcome), 2), "{trace:#}");
    }
    daemon.stop().await.unwrap();
}

/// A link that is declared, and a kernel VTEP beside a switch that it has a tunnel to.
const LINK_AND_VTEP: &str = r#"
kind: Switch
metadata: {name: leaf1}
spec: {driver: sim, role: leaf}
---
kind: Switch
metadata: {name: spine1}
spec: {driver: sim, role: spine}
---
kind: Link
metadata: {name: cable}
spec: {a: {switch: leaf1, port: up1}, b: {switch: spine1, port: down1}}
---
kind: Switch
metadata: {name: hv1}
spec: {driver: sim, vtep: 192.0.2.1}
---
kind: Switch
metadata: {name: kernel1}
spec: {driver: kernel, vtep: 192.0.2.9}
---
kind: Network
metadata: {name: net}
spec: {vni: 77, subnets: [10.1.0.0/24], encap: vxlan}
---
kind: Workload
metadata: {name: a, labels: {app: x}}
spec: {network: net, interfaces: [{mac: "02:00:00:00:00:01", ips: [10.1.0.1], attachment: {switch: hv1, port: a}}]}
---
kind: Workload
metadata: {name: b, labels: {app: x}}
spec: {network: net, interfaces: [{mac: "02:00:00:00:00:02", ips: [10.1.0.2], attachment: {switch: kernel1, port: b}}]}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn links_and_kernel_vteps_are_counted_and_a_vteps_tunnels_are_what_its_agent_says() {
    let directory = tempfile::tempdir().unwrap();
    let fabric = Fabric::default();
    let daemon = start(&config(directory.path()), fabric.clone()).await.unwrap();
    let client = Client::of(&daemon);
    let (status, answer) = client.send("POST", "/v1/apply", Some(LINK_AND_VTEP.into())).await;
    assert_eq!(status, 200, "{answer}");

    let states = async || {
        let status = client.get("/v1/status").await;
        let of = |name: &str| {
            let all = status["switches"].as_array().unwrap();
            let tunnels = &all.iter().find(|switch| switch["name"] == name).unwrap()["tunnels"];
            tunnels.as_array().unwrap().iter().map(|tunnel| tunnel["state"].clone()).collect::<Vec<_>>()
        };
        [of("hv1"), of("kernel1")]
    };
    let metrics = async || client.get("/metrics").await.as_str().unwrap().to_owned();
    let told = metrics().await;
    assert!(told.contains("bulkhead_vtep_connected{switch=\"kernel1\"} 0\n"), "{told}");
    assert!(!told.contains("bulkhead_vtep_report_age_seconds{"), "{told}");
    for (report, state, shaped) in [
        (None, "unknown", 0),
        (Some(json!({"held": 1, "shaped": false, "repairs": 2})), "down", 0),
        (Some(json!({"held": 1, "shaped": true, "repairs": 3})), "set-up", 1),
    ] {
        if let Some(report) = report {
            assert_eq!(client.send("POST", "/v1/vteps/kernel1", Some(report.to_string())).await.0, 200);
        }
        assert_eq!(states().await, [[json!(state)], [json!(state)]]);
        let told = metrics().await;
        assert!(told.contains(&format!("bulkhead_vtep_shaped{{switch=\"kernel1\"}} {shaped}\n")), "{told}");
    }
    let told = metrics().await;
    for line in ["connected{switch=\"kernel1\"} 1\n", "repairs_total{switch=\"kernel1\"} 3\n", "report_age_seconds{"] {
        assert!(told.contains(&format!("bulkhead_vtep_{line}")), "{told}");
    }

    assert!(told.contains("bulkhead_links{origin=\"declared\",state=\"up\"} 1\n"), "{told}");
    assert!(told.contains("bulkhead_links{origin=\"both\",state=\"up\"} 0\n"), "{told}");
    daemon.stop().await.unwrap();
}
