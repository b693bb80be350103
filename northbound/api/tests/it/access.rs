//! Who is answered what: the gate in front of every address, and scopes behind it.

use crate::common;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
};
use bulkhead_api::{addresses, router};
use common::{Fake, shop};
use std::collections::BTreeSet;
use tower::ServiceExt;

/// The status and the text of an answer to somebody who shows `token`.
async fn call(app: &Router, token: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut request = Request::builder().method(method).uri(path).header("content-type", "application/yaml");
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = app.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    assert_eq!(response.headers().contains_key("www-authenticate"), status == 401, "{method} {path}");
    if response.headers()["content-type"] == "text/event-stream" {
        // It does not end by itself.
        return (status, String::new());
    }
    let text = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(text.to_vec()).unwrap())
}

/// A controller with the three-tier example, which lets in only who shows a token.
async fn closed() -> (Router, Fake) {
    let fake = Fake::default();
    fake.0.lock().unwrap().closed = true;
    let app = router(fake.clone());
    let (status, text) = call(&app, "admin", "POST", "/v1/apply", &shop()).await;
    assert_eq!(status, 200, "{text}");
    (app, fake)
}

/// Every address with a method of it, and the least role that is let past the gate.
const ADDRESSES: [(&str, &str, &str); 31] = [
    ("GET", "/v1/zones", "viewer"),
    ("HEAD", "/v1/zones", "viewer"),
    ("GET", "/v1/zones/z", "viewer"),
    ("PUT", "/v1/zones/z", "editor"),
    ("PATCH", "/v1/zones/z", "editor"),
    ("DELETE", "/v1/zones/z", "editor"),
    ("GET", "/v1/watch", "viewer"),
    ("POST", "/v1/apply", "editor"),
    ("POST", "/v1/delete", "editor"),
    ("POST", "/v1/rollback", "editor"),
    ("GET", "/v1/realization", "viewer"),
    ("POST", "/v1/reach", "viewer"),
    ("POST", "/v1/trace", "viewer"),
    ("GET", "/v1/matrix", "viewer"),
    ("GET", "/v1/hits", "viewer"),
    ("GET", "/v1/attachments", "viewer"),
    ("GET", "/v1/vteps/hv1", "operator"),
    ("POST", "/v1/vteps/hv1", "operator"),
    ("GET", "/v1/topology", "viewer"),
    ("POST", "/v1/path", "viewer"),
    ("GET", "/v1/ports", "viewer"),
    ("GET", "/v1/history", "viewer"),
    ("GET", "/v1/diff", "viewer"),
    ("GET", "/v1/backup", "operator"),
    ("POST", "/v1/restore", "admin"),
    ("GET", "/v1/status", "viewer"),
    ("GET", "/metrics", "viewer"),
    ("GET", "/v1/tokens", "admin"),
    ("GET", "/v1/audit", "admin"),
    ("GET", "/openapi.json", "viewer"),
    ("DELETE", "/v1/tokens/t", "admin"),
];

#[tokio::test]
async fn every_address_asks_who_it_is() {
    let (app, _) = closed().await;
    let roles = ["viewer", "editor", "operator", "admin"];
    for (method, path, least) in ADDRESSES {
        for token in ["", "nonsense", "root"] {
            assert_eq!(call(&app, token, method, path, "").await.0, 401, "{method} {path} {token}");
        }
        let least = roles.iter().position(|role| *role == least).unwrap();
        for (at, role) in roles.iter().enumerate() {
            let (status, text) = call(&app, role, method, path, "").await;
            assert_eq!(status == 403, at < least, "{method} {path} {role}: {status} {text}");
            assert_ne!(status, 401);
        }
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(call(&app, "", "GET", path, "").await.0, 200, "{path}");
    }
    assert_eq!(call(&app, "", "POST", "/v1/tokens", "").await.0, 401);
    assert_eq!(call(&app, "operator", "POST", "/v1/tokens", "").await.0, 403);
}

#[test]
fn every_address_is_in_the_table() {
    let told: BTreeSet<&str> = ADDRESSES.map(|(_, path, _)| path).into();
    let there: BTreeSet<String> = addresses::<Fake>()
        .into_iter()
        .filter(|path| !["/healthz", "/readyz"].contains(path))
        .map(|path| match path {
            "/v1/vteps/{name}" => "/v1/vteps/hv1".into(),
            "/v1/tokens/{name}" => "/v1/tokens/t".into(),
            path => path.replace("{kind}", "zones").replace("{name}", "z"),
        })
        .collect();
    assert_eq!(there, told.into_iter().map(str::to_owned).collect());
}

#[tokio::test]
async fn an_agent_speaks_for_its_own_switch() {
    let (app, _) = closed().await;
    assert_eq!(call(&app, "vtep@hv9", "GET", "/v1/vteps/hv8", "").await.0, 403);
    // It is let past, and there is no such switch.
    assert_eq!(call(&app, "vtep@hv9", "GET", "/v1/vteps/hv9", "").await.0, 404);
    for path in ["/v1/zones", "/v1/status", "/v1/vteps/%20"] {
        assert_eq!(call(&app, "vtep@hv9", "GET", path, "").await.0, 403, "{path}");
    }
}

#[tokio::test]
async fn a_header_that_is_not_understood_is_no_token() {
    let app = router(Fake::default());
    for (value, expected) in [
        (None, 200),
        (Some("Bearer viewer"), 200),
        (Some("bearer  viewer"), 200),
        (Some("Bearer"), 401),
        (Some("Bearer "), 401),
        (Some("Basic admin"), 401),
        (Some("admin"), 401),
        (Some(""), 401),
    ] {
        let mut request = Request::builder().uri("/v1/status");
        if let Some(value) = value {
            request = request.header("authorization", value);
        }
        let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "{value:?}");
    }
    let two = Request::builder().uri("/v1/status").header("authorization", "Bearer admin");
    let two = two.header("authorization", "Bearer viewer").body(Body::empty()).unwrap();
    assert_eq!(app.oneshot(two).await.unwrap().status().as_u16(), 401);
}

const OWN: &str =
    "{kind: Policy, metadata: {name: own}, spec: {subject: {matchLabels: {app: shop, tier: web}}, ingress: []}}";
const ALL: &str = "{kind: Policy, metadata: {name: all}, spec: {subject: {matchLabels: {}}, ingress: []}}";

#[tokio::test]
async fn every_way_to_a_change_is_judged() {
    let (app, fake) = closed().await;
    let editor = "editor@app=shop,tier=web";
    let before = fake.0.lock().unwrap().revision;
    let both = format!("{OWN}\n---\n{ALL}");
    for (method, path, body) in [
        ("POST", "/v1/apply", ALL),
        ("POST", "/v1/apply?dryRun=true", ALL),
        ("POST", "/v1/apply", both.as_str()),
        ("PUT", "/v1/policies/all", ALL),
        ("DELETE", "/v1/networks/shop", ""),
        ("PATCH", "/v1/policies/lb-to-web", r#"{"spec": {"subject": {"matchLabels": {"tier": "db"}}}}"#),
        ("POST", "/v1/delete", "{kind: Network, metadata: {name: shop}}"),
        ("POST", "/v1/rollback", "{revision: 0}"),
    ] {
        let content = if path == "/v1/rollback" { r#"{"revision": 0}"# } else { body };
        let (status, text) = call_as(&app, editor, method, path, content).await;
        assert_eq!(status, 403, "{method} {path}: {text}");
        assert!(text.contains("urn:bulkhead:problem:forbidden"), "{text}");
    }
    assert_eq!(fake.0.lock().unwrap().revision, before);
    let (status, text) = call(&app, editor, "POST", "/v1/apply", OWN).await;
    assert_eq!(status, 200, "{text}");
    // His name, not the one that he gives himself, is in the history.
    assert!(call(&app, "viewer", "GET", "/v1/history", "").await.1.contains(r#""author":"somebody""#));
    // What does not change anything of others is no change of it.
    let (status, text) = call(&app, editor, "POST", "/v1/apply", &shop()).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(call(&app, editor, "DELETE", "/v1/policies/own", "").await.0, 200);
    // Going back is a change like any other: own policies may come back.
    let (status, text) =
        call_as(&app, editor, "POST", "/v1/rollback", &format!(r#"{{"revision": {}}}"#, before + 1)).await;
    assert_eq!(status, 200, "{text}");
}

/// As [`call`], with JSON.
async fn call_as(app: &Router, token: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let content = match (method, path) {
        ("PATCH", _) => "application/merge-patch+json",
        (_, "/v1/rollback") => "application/json",
        _ => "application/yaml",
    };
    let request = Request::builder().method(method).uri(path).header("content-type", content);
    let request = request.header("authorization", format!("Bearer {token}")).header("bulkhead-user", "root");
    let response = app.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let text = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(text.to_vec()).unwrap())
}

#[tokio::test]
async fn a_judgement_holds_for_the_state_that_is_changed() {
    let (app, fake) = closed().await;
    // Somebody else makes a change after each look, so none is ever carried out on what was judged.
    fake.0.lock().unwrap().restless = true;
    assert_eq!(call(&app, "editor@app=shop,tier=web", "POST", "/v1/apply", OWN).await.0, 409);
    assert_eq!(call(&app, "operator", "POST", "/v1/apply", OWN).await.0, 200);
}

#[tokio::test]
async fn who_has_a_scope_sees_no_more_than_it() {
    let (app, _) = closed().await;
    let names = |text: &str| {
        let list: serde_json::Value = serde_json::from_str(text).unwrap();
        let names = list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let all = names(&call(&app, "viewer", "GET", "/v1/workloads", "").await.1);
    let web = names(&call(&app, "viewer@tier=web", "GET", "/v1/workloads", "").await.1);
    assert!(!web.is_empty() && web.len() < all.len(), "{web:?} of {all:?}");
    // The list that is kept for everybody is not given to him, nor his to everybody.
    assert_eq!(names(&call(&app, "viewer", "GET", "/v1/workloads", "").await.1), all);
    let hidden = all.iter().find(|name| !web.contains(name)).unwrap();
    let (status, text) = call(&app, "viewer@tier=web", "GET", &format!("/v1/workloads/{hidden}"), "").await;
    let (none, other) = call(&app, "viewer@tier=web", "GET", "/v1/workloads/nobody", "").await;
    // What is hidden and what is not there are told alike.
    assert_eq!((status, none), (404, 404));
    assert_eq!(text.replace(hidden.as_str(), "nobody"), other);
    assert_eq!(call(&app, "viewer@tier=web", "GET", &format!("/v1/workloads/{}", web[0]), "").await.0, 200);
    for path in ["/v1/history", "/v1/matrix", "/v1/status", "/v1/attachments", "/metrics"] {
        assert_eq!(call(&app, "viewer@tier=web", "GET", path, "").await.0, 403, "{path}");
    }
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let (app, _) = closed().await;
    let asked = r#"{"name": "ci", "grants": ["editor"]}"#;
    let json = |token: &'static str, method: &'static str, path: &'static str, body: &'static str| {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = request.header("authorization", format!("Bearer {token}")).body(Body::from(body)).unwrap();
        let app = app.clone();
        async move {
            let response = app.oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            let text = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            (status, String::from_utf8(text.to_vec()).unwrap())
        }
    };
    let (status, text) = json("admin", "POST", "/v1/tokens", asked).await;
    assert!(status == 200 && text.contains(r#""token":"secret""#) && text.contains(r#""author":"somebody""#), "{text}");
    assert_eq!(json("admin", "POST", "/v1/tokens", r#"{"name": "taken", "grants": []}"#).await.0, 409);
    assert_eq!(json("admin", "DELETE", "/v1/tokens/taken", "").await.0, 200);
    assert_eq!(json("admin", "DELETE", "/v1/tokens/other", "").await.0, 404);
    assert_eq!(json("admin", "GET", "/v1/tokens", "").await, (200, r#"{"required":true,"items":[]}"#.into()));
}
