//! The OpenAPI document says what the API does: every address and method, and what it answers.

use crate::common;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
};
use bulkhead_api::{addresses, document, router};
use common::{Fake, shop};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};
use tower::ServiceExt;

const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

#[test]
fn the_document_is_the_one_that_is_checked_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let written = serde_json::to_string_pretty(&document::<Fake>()).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &written).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == checked_in, "docs/openapi.json is old: UPDATE_GOLDEN=1 cargo nextest run -p bulkhead-api");
}

/// Status, content type and body.
async fn call(app: &Router, method: &str, path: &str, content: &str, body: &str) -> (String, String, String) {
    let request = Request::builder().method(method.to_ascii_uppercase().as_str()).uri(path);
    let request = request.header("content-type", content).body(Body::from(body.to_owned())).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status().as_str().to_owned();
    let form = response.headers().get("content-type").map(|form| form.to_str().unwrap().to_owned()).unwrap_or_default();
    if form == "text/event-stream" {
        return (status, form, String::new());
    }
    let text = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, form, String::from_utf8(text.to_vec()).unwrap())
}

#[tokio::test]
async fn the_document_and_the_router_have_the_same_methods_at_the_same_addresses() {
    let (app, document) = (router(Fake::default()), document::<Fake>());
    let mut routed: BTreeSet<String> = addresses::<Fake>().into_iter().map(String::from).collect();
    let mut ids = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let kinds = ["networks", "switches", "addresssets", "workloads", "zones", "policies", "links"];
        let template = kinds.into_iter().fold(path.clone(), |path, kind| path.replace(&format!("/{kind}"), "/{kind}"));
        routed.remove(&template);
        let path = path.replace("{name}", "some");
        for method in METHODS {
            let (status, _, text) = call(&app, method, &path, "application/json", "").await;
            let described = &operations[method];
            if described.is_null() {
                assert_eq!(status, "405", "{method} {path}");
                continue;
            }
            assert!(status != "405" && !text.contains("nothing at this address"), "{method} {path}: {status} {text}");
            assert!(!described["responses"][&status].is_null(), "{method} {path}: {status} {text}");
            assert!(!described["summary"].as_str().unwrap().is_empty());
            assert!(ids.insert(described["operationId"].as_str().unwrap().to_owned()), "{described}");
        }
    }
    assert!(routed.is_empty(), "{routed:?}");
    assert_eq!(document["openapi"], "3.1.0");
}

#[test]
fn every_reference_leads_somewhere_and_everything_is_explained() {
    fn look(document: &Value, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| look(document, item)),
            Value::Object(fields) => {
                if let Some(Value::String(to)) = fields.get("$ref") {
                    assert!(document.pointer(to.strip_prefix('#').unwrap()).is_some(), "{to}");
                }
                if let Some(Value::Object(properties)) = fields.get("properties") {
                    for (name, property) in properties {
                        let told = property.get("description").or_else(|| property.pointer("/oneOf/0/description"));
                        assert!(told.is_some(), "{name} in {value}");
                    }
                }
                fields.values().for_each(|value| look(document, value));
            }
            Value::String(text) => assert!(!text.contains("[`"), "{text}"),
            _ => {}
        }
    }
    let document = document::<Fake>();
    look(&document, &document);
}

/// What about a value is not as a schema says. A field that the schema does not name is wrong too.
fn misfit(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    if let Some(to) = schema["$ref"].as_str() {
        return misfit(document, document.pointer(&to[1..]).unwrap(), value);
    }
    if let Some(all) = schema["allOf"].as_array() {
        // Fields of several schemas side by side: one that has all of them.
        let mut whole = json!({"type": "object", "properties": {}, "required": []});
        for one in all {
            let one = one["$ref"].as_str().map_or(one, |to| document.pointer(&to[1..]).unwrap());
            let fields = one["properties"].as_object().cloned().unwrap_or_default();
            whole["properties"].as_object_mut().unwrap().extend(fields);
            let required = one["required"].as_array().cloned().unwrap_or_default();
            whole["required"].as_array_mut().unwrap().extend(required);
        }
        return misfit(document, &whole, value);
    }
    if let Some(any) = schema["oneOf"].as_array() {
        let fits = any.iter().filter(|one| misfit(document, one, value).is_none()).count();
        return (fits != 1).then(|| format!("{value} fits {fits} of {schema}"));
    }
    if let Some(known) = schema["enum"].as_array() {
        return (!known.contains(value)).then(|| format!("{value} is none of {known:?}"));
    }
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = match &schema["type"] {
        Value::String(one) => one == is,
        Value::Array(several) => several.contains(&json!(is)),
        _ => false,
    };
    if !fits {
        return Some(format!("{value} is no {}", schema["type"]));
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| misfit(document, &schema["items"], item)),
        Value::Object(fields) => {
            let missing = schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|name| value[name.as_str().unwrap()].is_null());
            if let Some(missing) = missing {
                return Some(format!("{missing} is missing in {value}"));
            }
            fields.iter().find_map(|(name, value)| {
                match (&schema["properties"][name], &schema["additionalProperties"]) {
                    (Value::Null, Value::Object(_)) => misfit(document, &schema["additionalProperties"], value),
                    // Documents of which the kind is not known here.
                    (Value::Null, _) if schema["properties"].is_null() => None,
                    (Value::Null, _) => Some(format!("{name} is not told of in {schema}")),
                    (schema, _) => misfit(document, schema, value).map(|why| format!("{name}: {why}")),
                }
            })
        }
        _ => None,
    }
}

#[tokio::test]
async fn answers_are_as_the_document_says() {
    let (app, document) = (router(Fake::default()), document::<Fake>());
    let flow = r#"{"from": "web-1", "to": "app-1", "protocol": "tcp", "port": 8080}"#;
    let zone = r#"{"kind": "Zone", "metadata": {"name": "shop"}, "spec": {"network": "shop", "selector": {"matchLabels": {}}}}"#;
    let policy = "kind: Policy\nmetadata: {name: p}\nspec: {subject: {zone: nowhere}, ingress: []}";
    let (json, yaml) = ("application/json", "application/yaml");
    let mut told = BTreeSet::new();
    for (method, path, at, content, body, status) in [
        ("post", "/v1/apply?dryRun=true", "/v1/apply", yaml, shop().as_str(), "200"),
        ("post", "/v1/apply", "/v1/apply", yaml, shop().as_str(), "200"),
        ("post", "/v1/apply", "/v1/apply", yaml, policy, "422"),
        ("post", "/v1/apply", "/v1/apply", "text/plain", policy, "415"),
        ("get", "/v1/networks", "/v1/networks", "", "", "200"),
        ("get", "/v1/switches", "/v1/switches", "", "", "200"),
        ("get", "/v1/addresssets", "/v1/addresssets", "", "", "200"),
        ("get", "/v1/workloads?limit=2", "/v1/workloads", "", "", "200"),
        ("get", "/v1/workloads?limit=0", "/v1/workloads", "", "", "400"),
        ("get", "/v1/workloads?continue=9.a", "/v1/workloads", "", "", "410"),
        ("get", "/v1/zones", "/v1/zones", "", "", "200"),
        ("get", "/v1/policies", "/v1/policies", "", "", "200"),
        ("get", "/v1/links", "/v1/links", "", "", "200"),
        ("get", "/v1/policies/lb-to-web", "/v1/policies/{name}", "", "", "200"),
        ("get", "/v1/zones/none", "/v1/zones/{name}", "", "", "404"),
        ("put", "/v1/zones/shop", "/v1/zones/{name}", json, zone, "200"),
        ("put", "/v1/zones/shop?resourceVersion=1", "/v1/zones/{name}", json, zone, "409"),
        (
            "patch",
            "/v1/zones/shop",
            "/v1/zones/{name}",
            "application/merge-patch+json",
            r#"{"spec": {"mode": "monitor"}}"#,
            "200",
        ),
        ("delete", "/v1/zones/shop", "/v1/zones/{name}", "", "", "422"),
        ("get", "/v1/watch", "/v1/watch", "", "", "200"),
        ("post", "/v1/reach", "/v1/reach", json, flow, "200"),
        ("post", "/v1/trace", "/v1/trace", json, flow, "422"),
        ("get", "/v1/matrix", "/v1/matrix", "", "", "200"),
        ("get", "/v1/hits", "/v1/hits", "", "", "200"),
        ("get", "/v1/history", "/v1/history", "", "", "200"),
        ("get", "/v1/diff?from=0", "/v1/diff", "", "", "200"),
        ("get", "/v1/realization", "/v1/realization", "", "", "200"),
        ("get", "/v1/status", "/v1/status", "", "", "200"),
        ("get", "/v1/attachments", "/v1/attachments", "", "", "200"),
        ("get", "/v1/topology", "/v1/topology", "", "", "200"),
        ("get", "/v1/ports?switch=hv1", "/v1/ports", "", "", "200"),
        ("get", "/v1/audit", "/v1/audit", "", "", "200"),
        ("get", "/v1/tokens", "/v1/tokens", "", "", "200"),
        ("post", "/v1/tokens", "/v1/tokens", json, r#"{"name": "ci", "grants": ["viewer"]}"#, "200"),
        ("post", "/v1/rollback", "/v1/rollback", json, r#"{"revision": 1}"#, "200"),
        ("get", "/openapi.json", "/openapi.json", "", "", "200"),
        ("get", "/healthz", "/healthz", "", "", "200"),
        ("get", "/readyz", "/readyz", "", "", "200"),
    ] {
        let (answered, form, text) = call(&app, method, path, content, body).await;
        assert_eq!(answered, status, "{method} {path}: {text}");
        let response = &document["paths"][at][method]["responses"][status];
        let response = response["$ref"].as_str().map_or(response, |to| document.pointer(&to[1..]).unwrap());
        let form = form.split(';').next().unwrap();
        let schema = &response["content"][form]["schema"];
        assert!(!schema.is_null(), "{method} {path}: {form} in {response}");
        if form.ends_with("json") {
            let value = serde_json::from_str(&text).unwrap();
            assert_eq!(misfit(&document, schema, &value), None, "{method} {path}");
        }
        told.insert((at, method));
    }
    assert!(told.len() > 30);
}

#[test]
fn what_does_not_fit_is_found() {
    let document = document::<Fake>();
    let wrong = |schema: &str, value: Value| misfit(&document, &document["components"]["schemas"][schema], &value);
    assert_eq!(wrong("EntryCounts", json!({"added": 1, "removed": 0, "modified": 0})), None);
    for value in [
        json!({"added": 1}),
        json!({"added": "1", "removed": 0, "modified": 0}),
        json!([]),
        json!({"added": 1, "removed": 0, "modified": 0, "more": 0}),
    ] {
        assert!(wrong("EntryCounts", value.clone()).is_some(), "{value}");
    }
    assert!(wrong("ChangeKind", json!("made")).is_some());
    assert!(
        wrong("Zone", json!({"kind": "Policy", "metadata": {"name": "z"}, "spec": {"network": "n", "selector": {}}}))
            .is_some()
    );
}
