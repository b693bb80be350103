//! The API as clients see it, on a controller that is nothing but a state.

use crate::common;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use bulkhead_api::{Door, router, serve};
use bulkhead_client::Client;
use bulkhead_policy::{
    Change, Resource,
    model::{Host, Plugged},
};
use bulkhead_topology::{Mac, Port};
use bulkhead_types::{
    ApplyAnswer, ChangeKind, FlowQuestion, MAX_INPUT, MatrixRow, PlanAnswer, Problem, ReachAnswer, Verdict,
};
use common::{Fake, shop};
use std::{
    io::{Read, Write},
    sync::Arc,
    time::Duration,
};
use tower::ServiceExt;

const YAML: &str = "application/yaml";
const JSON: &str = "application/json";

async fn call(app: &Router, method: &str, path: &str, content: &str, body: impl Into<Body>) -> (StatusCode, String) {
    let mut request = Request::builder().method(method).uri(path);
    if !content.is_empty() {
        request = request.header("content-type", content);
    }
    let response = app.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    if parts.status.is_client_error() || parts.status.is_server_error() {
        assert_eq!(parts.headers["content-type"], "application/problem+json", "{method} {path}");
    }
    (parts.status, String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap())
}

async fn problem(app: &Router, method: &str, path: &str, content: &str, body: impl Into<Body>) -> Problem {
    let (status, text) = call(app, method, path, content, body).await;
    let problem: Problem = serde_json::from_str(&text).unwrap();
    assert_eq!(problem.status, status.as_u16());
    assert!(problem.kind.starts_with("urn:bulkhead:problem:") && !problem.detail.is_empty(), "{text}");
    problem
}

async fn with_shop() -> Router {
    let app = router(Fake::default());
    let (status, text) = call(&app, "POST", "/v1/apply", YAML, shop()).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    app
}

#[tokio::test]
async fn a_change_is_all_or_nothing() {
    let app = router(Fake::default());
    let answer: ApplyAnswer =
        serde_json::from_str(&call(&app, "POST", "/v1/apply?dryRun=true", YAML, shop()).await.1).unwrap();
    assert_eq!((answer.revision, answer.changes.len()), (0, 18));
    assert!(answer.changes.iter().all(|c| c.change == ChangeKind::Created));
    let plan = answer.plan.unwrap();
    // lb->web x2, web->app x4, app->db x2, all six others -> dns.
    assert_eq!((plan.gained.len(), plan.lost.len(), plan.incomplete.as_str()), (14, 0, ""));
    assert_eq!(call(&app, "GET", "/v1/workloads", "", "").await.1, r#"{"revision":0,"items":[]}"#);

    let app = with_shop().await;
    let again: ApplyAnswer = serde_json::from_str(&call(&app, "POST", "/v1/apply", YAML, shop()).await.1).unwrap();
    assert!(again.changes.iter().all(|c| c.change == ChangeKind::Unchanged));
    // One bad document of two: the good one is not applied either.
    let text = "kind: AddressSet\nmetadata: {name: corp}\nspec: {cidrs: [198.51.100.0/24]}\n---\nkind: Policy\n\
                metadata: {name: p}\nspec:\n  subject: {zone: nowhere}\n  ingress: []\n";
    let refused = problem(&app, "POST", "/v1/apply", YAML, text).await;
    assert_eq!(refused.status, 422);
    assert_eq!((refused.diagnostics[0].line, refused.diagnostics[0].path.as_str()), (Some(8), "spec.subject.zone"));
    assert_eq!(call(&app, "GET", "/v1/addresssets/corp", "", "").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn resources_come_and_go_one_by_one() {
    let app = with_shop().await;
    let (_, text) = call(&app, "GET", "/v1/zones/shop", "", "").await;
    let mut zone: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(zone["apiVersion"], "bulkhead/v1");
    assert_eq!(zone["metadata"]["resourceVersion"], 1);
    assert_eq!(zone["spec"]["mode"], "enforce");
    zone["spec"]["mode"] = "monitor".into();
    let path = "/v1/zones/shop";
    let (status, _) = call(&app, "PUT", path, "application/json", zone.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    // The same again is stale now.
    let stale = problem(&app, "PUT", path, "application/json", zone.to_string()).await;
    assert_eq!(stale.status, 409);
    assert_eq!(problem(&app, "PUT", "/v1/zones/other", "application/json", zone.to_string()).await.status, 400);
    assert_eq!(problem(&app, "PUT", path, YAML, shop()).await.status, 400);
    // It is referred to.
    let referred = problem(&app, "DELETE", path, "", "").await;
    assert_eq!(referred.status, 422);
    assert!(!referred.diagnostics.is_empty());
    assert_eq!(problem(&app, "DELETE", "/v1/policies/lb-to-web?resourceVersion=9", "", "").await.status, 409);
    assert_eq!(call(&app, "DELETE", "/v1/policies/lb-to-web", "", "").await.0, StatusCode::OK);
    assert_eq!(problem(&app, "DELETE", "/v1/policies/lb-to-web", "", "").await.status, 404);
    let (_, text) = call(&app, "GET", "/v1/workloads?labelSelector=tier%20in%20(web,db)", "", "").await;
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    let names: Vec<_> = list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["db", "web-1", "web-2"]);
}

#[tokio::test]
async fn where_hosts_see_workloads_is_told_apart_from_what_documents_say() {
    let fake = Fake::default();
    let app = router(fake.clone());
    let workload = |name: &str, mac: u8, at: &str| {
        format!(
            "---\nkind: Workload\nmetadata: {{name: {name}}}\nspec: {{network: n, interfaces: [{{mac: \"02:00:00:00:00:0{mac}\", \
             ips: [10.0.0.{mac}]{at}}}]}}\n"
        )
    };
    let documents = "kind: Network\nmetadata: {name: n}\nspec: {vni: 1, subnets: [10.0.0.0/24]}\n".to_string()
        + &workload("said", 1, ", attachment: {switch: hv1, port: p1}")
        + &workload("seen", 2, "")
        + &workload("nowhere", 3, "");
    let (status, text) = call(&app, "POST", "/v1/apply", YAML, documents).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    // `said` is seen elsewhere, which its document outweighs.
    let plugged = [("p1", "seen", 2), ("p2", "said", 1)].map(|(port, workload, mac)| Plugged {
        port: Port::Name(port.into()),
        workload: workload.parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 0, mac]),
    });
    let host = Host { name: "hv2".parse().unwrap(), underlay_mtu: None, plugged: plugged.into() };
    fake.0.lock().unwrap().state.apply(&[Change::set(Resource::Host(Arc::new(host)))]);
    for path in ["/v1/attachments", "/v1/attachments?workload=seen"] {
        let (_, text) = call(&app, "GET", path, "", "").await;
        assert_eq!(text, r#"[{"workload":"seen","mac":"02:00:00:00:00:02","switch":"hv2","port":"p1"}]"#, "{path}");
    }
    for name in ["said", "nowhere"] {
        assert_eq!(call(&app, "GET", &format!("/v1/attachments?workload={name}"), "", "").await.1, "[]");
    }
    assert_eq!(problem(&app, "GET", "/v1/attachments?workload=nobody", "", "").await.status, 404);
}

#[tokio::test]
async fn removal_is_one_atomic_change_too() {
    let app = with_shop().await;
    let delete =
        async |query: &str, body: &str| call(&app, "POST", &format!("/v1/delete{query}"), YAML, body.to_string()).await;
    let count = async |kind: &str| -> usize {
        let (_, text) = call(&app, "GET", &format!("/v1/{kind}"), "", "").await;
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["items"].as_array().unwrap().len()
    };
    let workloads = count("workloads").await;
    // The users of a network are named, at its place in the request, and nothing at all goes.
    let body = "kind: Policy\nmetadata: {name: lb-to-web}\n---\nkind: Network\nmetadata: {name: shop}\n";
    let refused = problem(&app, "POST", "/v1/delete", YAML, body).await;
    let [finding] = refused.diagnostics.as_slice() else { panic!("{refused:?}") };
    assert_eq!((refused.status, finding.line, finding.resource.as_deref()), (422, Some(5), Some("Network/shop")));
    assert!(finding.message.starts_with("still named by Workload/"), "{finding:?}");
    assert_eq!(call(&app, "GET", "/v1/policies/lb-to-web", "", "").await.0, StatusCode::OK);
    // Together with all of its users it goes, in any order; a dry run only says so.
    let (status, text) = delete("?dryRun=true", &shop()).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let answer: ApplyAnswer = serde_json::from_str(&text).unwrap();
    assert_eq!((answer.changes.len(), answer.plan.unwrap().lost.len(), count("workloads").await), (18, 14, workloads));
    // A version that is not the resource's refuses everything.
    let stale = "kind: Policy\nmetadata: {name: lb-to-web}\n---\n\
                 kind: Workload\nmetadata: {name: dns, resourceVersion: 9}\n";
    assert_eq!(delete("", stale).await.0, StatusCode::CONFLICT);
    assert_eq!(call(&app, "GET", "/v1/policies/lb-to-web", "", "").await.0, StatusCode::OK);
    let (status, text) = delete("", &shop()).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    for kind in ["networks", "workloads", "zones", "policies", "switches"] {
        assert_eq!(count(kind).await, 0, "{kind}");
    }
    // Again: everything already is as asked.
    let again: ApplyAnswer = serde_json::from_str(&delete("", &shop()).await.1).unwrap();
    assert!(again.changes.iter().all(|line| line.change == ChangeKind::Unchanged));
    for (query, body, status) in [
        ("?resourceVersion=1", "kind: Zone\nmetadata: {name: z}\n", 400),
        ("", "kind: Zone\nmetadata: {nme: z}\n", 422),
        ("", "kind: Zone\nmetadata: {name: z}\nspce: {}\n", 422),
        ("", "kind: Zone\nmetadata: {name: Z}\n", 422),
        ("", "kind: Zone\nmetadata: {name: z}\n---\nkind: Zone\nmetadata: {name: z}\n", 422),
    ] {
        assert_eq!(problem(&app, "POST", &format!("/v1/delete{query}"), YAML, body).await.status, status, "{body}");
    }
}

#[tokio::test]
async fn every_error_is_a_problem_document() {
    let app = with_shop().await;
    for (method, path, content, body, status) in [
        ("GET", "/nothing", "", "", 404),
        ("GET", "/v1/polices", "", "", 404),
        ("GET", "/v1/policies/none", "", "", 404),
        ("GET", "/v1/policies/NONE", "", "", 400),
        ("GET", "/v1/apply", "", "", 405),
        ("DELETE", "/v1/reach", "", "", 405),
        ("POST", "/healthz", "", "", 405),
        ("POST", "/v1/apply", "", "kind: Zone", 415),
        ("POST", "/v1/apply", "text/plain", "kind: Zone", 415),
        ("POST", "/v1/apply", "application/x-www-form-urlencoded", "kind: Zone", 415),
        ("POST", "/v1/reach", "", "{}", 415),
        ("POST", "/v1/reach", "application/json", "{}", 400),
        ("POST", "/v1/apply?dry=true", YAML, "", 400),
        ("POST", "/v1/apply?dryRun=perhaps", YAML, "", 400),
        ("POST", "/v1/apply", YAML, "kind: Zone\nkind: Zone\n", 422),
        ("POST", "/v1/apply", "application/json", "kind: Zone\n", 422),
        ("GET", "/v1/workloads?labelSelector=a%20b", "", "", 400),
        ("GET", "/v1/policies?labelSelector=a", "", "", 400),
        ("GET", "/v1/matrix?port=99999/tcp", "", "", 400),
        ("GET", "/v1/realization?revision=99", "", "", 422),
        ("GET", "/v1/realization?wait=long", "", "", 400),
        ("GET", "/v1/hits?policy=none", "", "", 404),
        ("GET", "/v1/ports?switch=none", "", "", 404),
        ("GET", "/v1/ports", "", "", 400),
        ("GET", "/v1/watch?since=99", "", "", 410),
    ] {
        assert_eq!(problem(&app, method, path, content, body).await.status, status, "{method} {path} {body}");
    }
    assert!(problem(&app, "GET", "/v1/polices", "", "").await.detail.contains("policies"));
    assert!(problem(&app, "GET", "/v1/policies/lb-to-wev", "", "").await.detail.ends_with("did you mean `lb-to-web`?"));
    let unknown = "kind: Zone\nmetadata: {name: z}\nspec: {network: shop, selectr: {}}";
    let refused = problem(&app, "POST", "/v1/apply", YAML, unknown).await;
    assert_eq!(refused.diagnostics[0].hint, "did you mean `selector`?");
    assert_eq!(refused.diagnostics[0].line, Some(3));
}

#[tokio::test]
async fn a37_bombs_and_floods_change_nothing() {
    let app = with_shop().await;
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_string();
    for (name, of) in ('b'..='i').zip('a'..) {
        bomb += &format!("{name}: &{name} [*{of},*{of},*{of},*{of},*{of},*{of},*{of},*{of},*{of}]\n");
    }
    assert_eq!(problem(&app, "POST", "/v1/apply", YAML, bomb).await.status, 422);
    // Too much, declared or not.
    let declared = Request::builder()
        .method("POST")
        .uri("/v1/apply")
        .header("content-type", YAML)
        .header("content-length", "104857600")
        .body(Body::empty())
        .unwrap();
    assert_eq!(app.clone().oneshot(declared).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    let flood = vec![b'#'; MAX_INPUT + 1];
    assert_eq!(problem(&app, "POST", "/v1/apply", YAML, flood).await.status, 413);
}

fn ask(from: &str, to: &str, protocol: &str, port: Option<u16>) -> String {
    let question =
        FlowQuestion { from: from.into(), to: to.into(), protocol: protocol.into(), port, ..FlowQuestion::default() };
    serde_json::to_string(&question).unwrap()
}

/// Nobody may reach db's database any more, once it is activated.
const STAGED: &str = "kind: Policy
metadata: {name: quarantine-db}
spec:
  stage: staged
  priority: 1
  subject: {matchLabels: {tier: db}}
  ingress:
  - {name: quarantine, action: deny, ports: [{port: postgres}]}
";

#[tokio::test]
async fn staged_policies_show_beside_what_is_enforced() {
    let app = with_shop().await;
    let planned = async |body: &str| -> PlanAnswer {
        let (_, text) = call(&app, "POST", "/v1/apply?dryRun=true", YAML, body.to_string()).await;
        serde_json::from_str::<ApplyAnswer>(&text).unwrap().plan.unwrap()
    };
    let reach = async || -> ReachAnswer {
        let body = ask("app-1", "db", "tcp", Some(5432));
        serde_json::from_str(&call(&app, "POST", "/v1/reach", "application/json", body).await.1).unwrap()
    };
    assert_eq!(reach().await.staged, None);
    let plan = planned(STAGED).await;
    let pairs = |rows: &[MatrixRow]| rows.iter().map(|r| format!("{} {}", r.from, r.to)).collect::<Vec<_>>();
    assert_eq!(pairs(&plan.staged_lost), ["app-1 db", "app-2 db"]);
    assert!(plan.gained.is_empty() && plan.lost.is_empty() && plan.staged_gained.is_empty());
    assert_eq!(call(&app, "POST", "/v1/apply", YAML, STAGED).await.0, StatusCode::OK);
    let answer = reach().await;
    let staged = answer.staged.unwrap();
    assert_eq!((answer.verdict, staged.verdict), (Verdict::Allow, Verdict::Deny));
    assert_eq!(
        (answer.ingress.policy.as_deref(), staged.ingress.policy.as_deref()),
        (Some("app-to-db"), Some("quarantine-db"))
    );
    assert_eq!((staged.ingress.rule.as_deref(), &staged.egress), (Some("quarantine"), &answer.egress));
    // What was staged before is nothing that the next change does; activating it is.
    let plan = planned("kind: AddressSet\nmetadata: {name: corp}\nspec: {cidrs: [198.51.100.0/24]}\n").await;
    assert!(plan.services > 0);
    assert_eq!(PlanAnswer { services: 0, ..plan }, PlanAnswer::default());
    let plan = planned(&STAGED.replace("stage: staged", "stage: active")).await;
    assert_eq!((pairs(&plan.lost), plan.staged_lost), (vec!["app-1 db".into(), "app-2 db".into()], Vec::new()));
}

#[tokio::test]
async fn reach_answers_in_the_contracts_form() {
    let app = with_shop().await;
    let reach = async |body: String| -> serde_json::Value {
        let (status, text) = call(&app, "POST", "/v1/reach", "application/json", body).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(
        reach(ask("web-1", "app-2", "tcp", Some(8080))).await,
        serde_json::json!({
            "verdict": "allow", "from": "web-1", "to": "app-2", "protocol": "tcp", "port": 8080,
            "egress": {"verdict": "allow", "policy": "web-to-app-egress", "rule": "http", "tier": "application"},
            "ingress": {"verdict": "allow", "policy": "web-to-app", "rule": "http", "tier": "application"},
        })
    );
    // Isolated by a policy; an address that is a workload's; outside addresses.
    let denied = reach(ask("web-1", "db", "tcp", Some(5432))).await;
    assert_eq!((&denied["verdict"], &denied["ingress"]["rule"]), (&"deny".into(), &"builtin/isolation".into()));
    assert_eq!(reach(ask("ip:10.1.0.21", "app-1", "tcp", Some(8080))).await["verdict"], "allow");
    let outside = reach(ask("ip:198.51.100.7", "lb", "tcp", Some(443))).await;
    assert_eq!((&outside["verdict"], &outside["egress"]["verdict"]), (&"deny".into(), &"allow".into()));
    assert_eq!(outside["ingress"]["zone"], "shop");
    let transit = reach(ask("ip:198.51.100.7", "ip:198.51.100.8", "tcp", Some(443))).await;
    assert_eq!((&transit["verdict"], &transit["egress"]["rule"]), (&"deny".into(), &"builtin/transit".into()));
    // What the fabric drops whatever the policies say, and what is next to it.
    for (to, dropped) in [
        ("ip:224.0.0.251", true),
        ("ip:239.255.255.255", true),
        ("ip:240.0.0.1", true),
        ("ip:255.255.255.255", true),
        ("ip:10.1.255.255", true),
        ("ip:223.255.255.255", false),
        ("ip:10.1.255.254", false),
        ("ip:0.0.0.0", true),
        ("ip:0.0.0.1", false),
    ] {
        let answer = reach(ask("db", to, "udp", Some(5353))).await;
        let rule = &answer["egress"]["rule"];
        assert_eq!(*rule == "builtin/multicast", dropped, "{to} {answer}");
        assert!(!dropped || answer["verdict"] == "deny", "{to} {answer}");
    }
    for (to, dropped) in [
        ("ip:ff02::fb", true),
        ("ip:fe80::1", true),
        ("ip:febf::1", true),
        ("ip:fec0::1", false),
        ("ip:::", true),
        ("ip:::1", false),
    ] {
        let answer = reach(ask("ip:2001:db8::1", to, "udp", Some(5353))).await;
        let rule = if dropped { "builtin/multicast" } else { "builtin/transit" };
        assert_eq!((&answer["verdict"], &answer["egress"]["rule"]), (&"deny".into(), &rule.into()), "{to}");
    }
    let ping = reach(ask("web-1", "app-1", "icmp", None)).await;
    assert_eq!(
        (&ping["verdict"], &ping["icmpType"], &ping["port"]),
        (&"deny".into(), &8.into(), &serde_json::Value::Null)
    );
    assert_eq!(reach(ask("web-1", "app-1", "icmpv6", None)).await["icmpType"], 128);
    for (bad, word) in [
        (ask("web-9", "app-1", "tcp", Some(1)), "web-"),
        (ask("10.1.0.21", "app-1", "tcp", Some(1)), "ip:"),
        (ask("web-1", "app-1", "tcp", None), "port"),
        (ask("web-1", "app-1", "icmp", Some(1)), "port"),
        (ask("web-1", "ip:fd00:1::99", "icmp", None), "IPv4"),
        (ask("web-1", "ip:x", "tcp", Some(1)), "IP address"),
        (ask("web-1", "app-1", "quic", Some(1)), "tcp/443"),
    ] {
        let refused = problem(&app, "POST", "/v1/reach", "application/json", bad).await;
        assert!(refused.status == 422 && refused.detail.contains(word), "{refused:?}");
    }
}

#[tokio::test]
async fn reach_says_what_it_cannot_say_of_a_group() {
    let app = router(Fake::default());
    let documents = "kind: Network\nmetadata: {name: n}\nspec: {vni: 1, subnets: [10.0.0.0/24], multicast: [239.1.2.3]}\n---\n\
                     kind: Workload\nmetadata: {name: a, labels: {app: x}}\nspec: {network: n, interfaces: [{mac: \
                     \"02:00:00:00:00:01\", ips: [10.0.0.1]}]}\n---\n\
                     kind: Policy\nmetadata: {name: p}\nspec: {subject: {matchLabels: {app: x}}, egress: [{name: g, action: \
                     allow, to: [{cidr: 239.1.2.3/32}], ports: [{protocol: udp, port: 5353}]}, {name: labels, action: deny, \
                     priority: 0, to: [{matchLabels: {app: x}}]}]}\n";
    assert_eq!(call(&app, "POST", "/v1/apply", YAML, documents).await.0, 200);
    let reach = async |to: &str, protocol: &str, port: u16| -> serde_json::Value {
        let question = serde_json::json!({"from": "a", "to": to, "protocol": protocol, "port": port});
        serde_json::from_str(&call(&app, "POST", "/v1/reach", JSON, question.to_string()).await.1).unwrap()
    };
    let answer = reach("ip:239.1.2.3", "udp", 5353).await;
    assert_eq!((&answer["verdict"], &answer["egress"]["rule"]), (&"allow".into(), &"g".into()), "{answer}");
    let note = answer["note"].as_str().unwrap();
    assert!(
        note.contains("239.1.2.3 is a group of network n") && note.contains("cannot tell receivers apart"),
        "{note}"
    );
    // Other ports, protocols and groups.
    let answer = reach("ip:239.1.2.3", "udp", 5354).await;
    assert_eq!(
        (&answer["verdict"], &answer["egress"]["rule"]),
        (&"deny".into(), &"builtin/isolation".into()),
        "{answer}"
    );
    for (to, protocol) in [("ip:239.1.2.3", "tcp"), ("ip:239.1.2.4", "udp")] {
        let answer = reach(to, protocol, 5353).await;
        assert_eq!((&answer["verdict"], &answer["egress"]["rule"]), (&"deny".into(), &"builtin/multicast".into()));
        assert_eq!(answer.get("note"), None);
    }
}

#[tokio::test]
async fn the_matrix_is_the_shops_and_bounded() {
    let app = with_shop().await;
    let matrix = async |query: &str| -> Vec<MatrixRow> {
        serde_json::from_str(&call(&app, "GET", &format!("/v1/matrix{query}"), "", "").await.1).unwrap()
    };
    let allowed = |rows: Vec<MatrixRow>| rows.into_iter().filter(|r| r.verdict == Verdict::Allow).count();
    assert_eq!(matrix("?port=8080/tcp").await.len(), 42);
    assert_eq!(allowed(matrix("?port=8080/tcp").await), 4);
    assert_eq!(allowed(matrix("?port=443/tcp&labelSelector=tier%3Dweb").await), 0);
    assert_eq!(allowed(matrix("").await), 14);
    for (asked, told) in [("icmp/3/4", (Some(3), Some(4))), ("icmp", (Some(8), Some(0))), ("443/tcp", (None, None))] {
        let rows = matrix(&format!("?port={asked}")).await;
        assert!(rows.iter().all(|row| (row.icmp_type, row.icmp_code) == told) && !rows.is_empty(), "{rows:?}");
    }
    let many: String = (0..501)
        .map(|i| {
            let (high, low) = (i / 256, i % 256);
            format!(
                "---\nkind: Workload\nmetadata: {{name: w{i}, labels: {{app: many}}}}\nspec: {{network: shop, interfaces: \
                 [{{mac: \"02:00:00:01:{high:02x}:{low:02x}\", ips: [10.1.{}.{low}]}}]}}\n",
                high + 10
            )
        })
        .collect();
    let (status, text) = call(&app, "POST", "/v1/apply", YAML, many).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let refused = problem(&app, "GET", "/v1/matrix?port=443/tcp", "", "").await;
    assert!(refused.status == 422 && refused.detail.contains("250000"), "{refused:?}");
}

#[tokio::test]
async fn what_is_not_compiled_yet_is_read_and_not_ready() {
    let fake = Fake::default();
    fake.0.lock().unwrap().compiling = true;
    let app = router(fake.clone());
    assert_eq!(call(&app, "GET", "/v1/policies", "", "").await.0, StatusCode::OK);
    assert_eq!(call(&app, "GET", "/healthz", "", "").await.0, StatusCode::OK);
    let ready = Request::builder().uri("/readyz").body(Body::empty()).unwrap();
    assert_eq!(app.clone().oneshot(ready).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(call(&app, "GET", "/v1/status", "", "").await.1.contains("\"ready\":false"));
    fake.0.lock().unwrap().compiling = false;
    assert_eq!(call(&app, "GET", "/readyz", "", "").await.0, StatusCode::OK);
    assert!(call(&app, "GET", "/v1/status", "", "").await.1.contains("\"ready\":true"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_over_a_socket_beside_a_hostile_client() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, Door::Plain, Fake::default(), async { drop(stopped.await) }));
    let done = tokio::task::spawn_blocking(move || {
        // One that says nothing, one that sends garbage, one that promises 100 MB.
        let silent = std::net::TcpStream::connect(addr).unwrap();
        let mut garbage = std::net::TcpStream::connect(addr).unwrap();
        garbage.write_all(&[0xff; 4096]).unwrap();
        let mut flood = std::net::TcpStream::connect(addr).unwrap();
        flood
            .write_all(b"POST /v1/apply HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/yaml\r\ncontent-length: 104857600\r\n\r\n")
            .unwrap();
        let mut answer = [0; 12];
        flood.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413");
        let client = Client::new(&format!("http://{addr}")).unwrap();
        let parsed = bulkhead_types::read(None, shop().as_bytes(), bulkhead_types::Format::Any);
        let documents: Vec<_> = parsed.documents.iter().map(|d| d.to_value()).collect();
        assert_eq!(client.apply(&documents, false).unwrap().revision, 1);
        assert_eq!(client.list("workloads", Some("tier=web")).unwrap().items.len(), 2);
        assert!(client.realization(1, Duration::from_millis(10)).unwrap().realized);
        assert_eq!(client.get("zones", "none").unwrap_err().problem().unwrap().status, 404);
        drop(silent);
    });
    done.await.unwrap();
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn content_and_version_are_of_the_same_moment() {
    let fake = Fake::default();
    let app = router(fake.clone());
    let set = "kind: AddressSet\nmetadata: {name: corp}\nspec: {cidrs: [198.51.100.0/24]}\n";
    assert_eq!(call(&app, "POST", "/v1/apply", YAML, set).await.0, StatusCode::OK);
    fake.0.lock().unwrap().restless = true;
    for revision in [1, 3] {
        let got: serde_json::Value =
            serde_json::from_str(&call(&app, "GET", "/v1/addresssets/corp", "", "").await.1).unwrap();
        assert_eq!(got["metadata"]["resourceVersion"], revision);
        let list: serde_json::Value =
            serde_json::from_str(&call(&app, "GET", "/v1/addresssets", "", "").await.1).unwrap();
        assert_eq!(
            (&list["revision"], &list["items"][0]["metadata"]["resourceVersion"]),
            (&(revision + 1).into(), &(revision + 1).into())
        );
    }
}

#[tokio::test]
async fn a_plan_sees_rules_without_ports_and_both_ends_of_ranges() {
    let app = with_shop().await;
    let policy = |ports: &str| {
        format!(
            "kind: Policy\nmetadata: {{name: extra}}\nspec:\n  subject: {{matchLabels: {{tier: app}}}}\n  \
             tier: platform\n  ingress: [{{action: allow, from: [{{matchLabels: {{tier: db}}}}]{ports}}}]\n  \
             egress: []\n---\nkind: Policy\nmetadata: {{name: extra-out}}\nspec:\n  \
             subject: {{matchLabels: {{tier: db}}}}\n  tier: platform\n  \
             egress: [{{action: allow, to: [{{matchLabels: {{tier: app}}}}]{ports}}}]\n"
        )
    };
    let planned = async |ports: &str| -> PlanAnswer {
        let (status, text) = call(&app, "POST", "/v1/apply?dryRun=true", YAML, policy(ports)).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str::<ApplyAnswer>(&text).unwrap().plan.unwrap()
    };
    let services = |rows: &[MatrixRow]| {
        let pair = rows.iter().filter(|row| row.from == "db" && row.to == "app-1");
        pair.map(|row| format!("{}/{}", row.protocol, row.port.unwrap_or_default())).collect::<Vec<_>>()
    };
    let plan = planned("").await;
    let seen = services(&plan.gained);
    assert!(seen.contains(&"tcp/1".into()) && seen.contains(&"udp/1".into()), "{seen:?}");
    let plan = planned(", ports: [{protocol: udp}]").await;
    assert_eq!((services(&plan.gained), plan.incomplete), (vec!["udp/1".to_string(), "udp/53".into()], String::new()));
    // A range that grows at its end or shrinks at it.
    let range = ", ports: [{protocol: udp, port: 1000, endPort: 2000}]";
    assert_eq!(call(&app, "POST", "/v1/apply", YAML, policy(range)).await.0, StatusCode::OK);
    let plan = planned(", ports: [{protocol: udp, port: 1000, endPort: 2001}]").await;
    assert_eq!((services(&plan.gained), plan.lost), (vec!["udp/2001".to_string()], Vec::new()));
    let plan = planned(", ports: [{protocol: udp, port: 1000, endPort: 1999}]").await;
    assert_eq!((services(&plan.lost), plan.gained), (vec!["udp/2000".to_string()], Vec::new()));
    // From the first port on, and to the last.
    let plan = planned(", ports: [{protocol: udp, port: 1, endPort: 65535}]").await;
    assert_eq!(services(&plan.gained), ["udp/1", "udp/53", "udp/54", "udp/2001"]);
}

#[tokio::test]
async fn only_a_kernel_vtep_is_told_what_to_forward() {
    let app = router(Fake::default());
    let switches = "kind: Switch\nmetadata: {name: old}\nspec: {driver: kernel, vtep: 192.0.2.7}\n---\nkind: Switch\n\
                    metadata: {name: hv1}\nspec: {driver: sim}\n";
    assert_eq!(call(&app, "POST", "/v1/apply", YAML, switches).await.0, StatusCode::OK);
    let (status, told) = call(&app, "GET", "/v1/vteps/old?held=0&wait=1s", "", "").await;
    assert_eq!(
        (status, told.as_str()),
        (StatusCode::OK, r#"{"forwarding":{"revision":1,"vtep":"192.0.2.7","networks":[]}}"#)
    );
    assert_eq!(call(&app, "GET", "/v1/vteps/old?held=1", "", "").await.1, "{}");
    let report = r#"{"held": 1, "shaped": true}"#;
    assert_eq!(call(&app, "POST", "/v1/vteps/old", JSON, report).await.0, StatusCode::OK);
    for name in ["hv1", "none", "NOT*A*NAME"] {
        assert_eq!(call(&app, "POST", &format!("/v1/vteps/{name}"), JSON, report).await.0, StatusCode::NOT_FOUND);
        assert_eq!(call(&app, "GET", &format!("/v1/vteps/{name}"), "", "").await.0, StatusCode::NOT_FOUND);
    }
    for (path, body) in [("old", "{}"), ("old", r#"{"held": 1, "shaped": true, "more": 1}"#)] {
        assert_eq!(call(&app, "POST", &format!("/v1/vteps/{path}"), JSON, body).await.0, StatusCode::BAD_REQUEST);
    }
    // Without an address it is no VTEP.
    let bare = "kind: Switch\nmetadata: {name: bare}\nspec: {driver: kernel}\n";
    assert!(call(&app, "POST", "/v1/apply", YAML, bare).await.1.contains("needs `vtep`"));
}
