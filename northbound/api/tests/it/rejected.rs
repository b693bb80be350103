//! Changes that are refused for what they ask are told to the audit log, by REST and gRPC alike.

use crate::{
    common::{Fake, shop},
    reflected::served,
};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
};
use bulkhead_api::router;
use serde_json::{Value, json};
use tower::ServiceExt;

const GOOD: &str = "kind: AddressSet\nmetadata: {name: a}\nspec: {cidrs: [192.0.2.0/24]}\n";
const LOST: &str =
    "kind: Zone\nmetadata: {name: lost}\nspec: {network: away, isolate: [], selector: {matchLabels: {app: a}}}\n";

async fn call(app: &Router, method: &str, path: &str, content: &str, body: &str) -> u16 {
    let request = Request::builder().method(method).uri(path).header("content-type", content);
    let request = request.header("authorization", "Bearer admin").body(Body::from(body.to_owned())).unwrap();
    let answer = app.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let _ = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    status
}

/// What was told since the last look.
fn told(fake: &Fake) -> Vec<String> {
    std::mem::take(&mut fake.0.lock().unwrap().rejected)
}

#[tokio::test]
async fn a_change_that_is_refused_for_what_it_asks_is_told_with_what_and_why() {
    let fake = Fake::default();
    let app = router(fake.clone());
    let yaml = "application/yaml";
    assert_eq!(call(&app, "POST", "/v1/apply", yaml, &format!("{}---\n{GOOD}", shop())).await, 200);
    let several: String = (0..9).map(|n| LOST.replace("lost", &format!("lost-{n}")) + "---\n").collect();
    let patch = "application/merge-patch+json";
    let taken = r#"{"name": "taken", "grants": ["viewer"]}"#;
    for (method, path, content, body, status, wanted) in [
        ("PUT", "/v1/addresssets/a?resourceVersion=9", yaml, GOOD, 409, "AddressSet/a: 409: AddressSet/a has changed"),
        ("PUT", "/v1/zones/lost", yaml, LOST, 422, "Zone/lost: 422: Zone/lost: spec.network: "),
        ("PUT", "/v1/zones/other", yaml, LOST, 400, "Zone/other: 400: the document is Zone/lost"),
        ("PUT", "/v1/zones/Nonsense", yaml, LOST, 400, "somebody PUT /v1/zones/Nonsense: 400: "),
        ("PUT", "/v1/zones/lost", "text/plain", LOST, 415, ": 415: send `Content-Type"),
        ("POST", "/v1/apply", yaml, "kind: Zone\nspeck: 1", 422, "POST /v1/apply: 422: "),
        ("POST", "/v1/apply?nonsense=1", yaml, GOOD, 400, "POST /v1/apply: 400: "),
        (
            "POST",
            "/v1/apply",
            yaml,
            &several,
            422,
            "/v1/apply Zone/lost-0 Zone/lost-1 Zone/lost-2 Zone/lost-3 and 5 more: 422: ",
        ),
        ("POST", "/v1/delete", yaml, "kind: Network\nmetadata: {name: shop}", 422, "Network/shop: 422: "),
        ("DELETE", "/v1/zones/none", yaml, "", 404, "Zone/none: 404: there is no Zone `none`"),
        ("PATCH", "/v1/zones/shop", patch, r#"{"spec":{"network":"away"}}"#, 422, "Zone/shop: 422: "),
        ("PATCH", "/v1/zones/shop", patch, "[]", 400, "Zone/shop: 400: a merge patch"),
        ("POST", "/v1/rollback", "application/json", r#"{"revision": 77}"#, 422, "POST /v1/rollback: 422: "),
        ("POST", "/v1/restore", "application/json", "[]", 409, "POST /v1/restore: 409: "),
        ("POST", "/v1/tokens", "application/json", taken, 409, "POST /v1/tokens: 409: there is a token"),
        ("DELETE", "/v1/tokens/none", yaml, "", 404, "DELETE /v1/tokens/none: 404: there is no token"),
    ] {
        assert_eq!(call(&app, method, path, content, body).await, status, "{method} {path}");
        let told = told(&fake);
        assert!(told.len() == 1 && told[0].contains(wanted), "{method} {path}: {told:?}");
        assert!(told[0].len() < 500 && told[0].starts_with("somebody "), "{told:?}");
        // Whoever only asks what it would do is not told of.
        if !path.contains("tokens") && !path.contains("restore") {
            let path = format!("{path}{}dryRun=true", if path.contains('?') { "&" } else { "?" });
            assert_eq!(call(&app, method, &path, content, body).await, status, "{path}");
            let told = self::told(&fake);
            assert!(told.is_empty() || path.contains("nonsense"), "{method} {path}: {told:?}");
        }
    }
    // Nor is a question, nor what is done.
    for (method, path, content, body, status) in [
        ("GET", "/v1/zones/none", yaml, "", 404),
        ("POST", "/v1/reach", "application/json", "{}", 400),
        ("POST", "/v1/path", "application/json", r#"{"from": "a", "to": "b"}"#, 422),
        ("POST", "/v1/vteps/none", "application/json", "{}", 400),
        ("PUT", "/v1/addresssets/a", yaml, GOOD, 200),
    ] {
        assert_eq!(call(&app, method, path, content, body).await, status, "{method} {path}");
        assert!(told(&fake).is_empty(), "{method} {path}");
    }
}

#[tokio::test]
async fn grpc_tells_of_the_same() {
    let fake = Fake::default();
    let (client, _stop) = served(fake.clone()).await;
    client.call("bulkhead.v1.Resources/Apply", json!({"documents": shop()})).await.unwrap();
    let put = |version: u64| json!({"kind": "Zone", "name": "lost", "document": LOST, "resourceVersion": version});
    for (method, mut asked, wanted) in [
        ("Resources/Put", put(0), "Resources/Put Zone/lost: 422: Zone/lost: spec.network: "),
        ("Resources/Put", put(9), "Resources/Put Zone/lost: 409: "),
        ("Resources/Put", json!({"kind": "Zoo", "name": "a"}), "Resources/Put: 400: kinds are "),
        (
            "Resources/Patch",
            json!({"kind": "Zone", "name": "shop", "patch": "[]"}),
            "Resources/Patch Zone/shop: 400: a merge",
        ),
        ("Resources/Delete", json!({"kind": "Zone", "name": "none"}), "Resources/Delete Zone/none: 404: "),
        ("Resources/Apply", json!({"documents": LOST}), "Resources/Apply Zone/lost: 422: "),
        (
            "Resources/Remove",
            json!({"documents": "kind: Network\nmetadata: {name: shop}"}),
            "Resources/Remove Network/shop: 422: ",
        ),
        ("Revisions/Rollback", json!({"revision": 77}), "Revisions/Rollback: 422: "),
        ("Access/RevokeToken", json!({"name": "none"}), "Access/RevokeToken: 404: "),
    ] {
        client.call(&format!("bulkhead.v1.{method}"), asked.clone()).await.unwrap_err();
        let told = told(&fake);
        assert!(told.len() == 1 && told[0].contains(wanted), "{method}: {told:?}");
        if method.starts_with("Re") {
            asked["dryRun"] = Value::Bool(true);
            client.call(&format!("bulkhead.v1.{method}"), asked).await.unwrap_err();
            let told = self::told(&fake);
            assert!(told.is_empty(), "{method}: {told:?}");
        }
    }
    client.call("bulkhead.v1.Resources/Get", json!({"kind": "Zone", "name": "none"})).await.unwrap_err();
    assert!(told(&fake).is_empty());
}
