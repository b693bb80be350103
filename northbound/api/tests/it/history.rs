//! Earlier revisions and backups, as clients see them, on a controller that is nothing but a state.

use crate::common;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use bulkhead_api::router;
use common::{Fake, shop};
use serde_json::{Value, json};
use tower::ServiceExt;

async fn call(app: &Router, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (StatusCode, Value) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = app.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
    (status, serde_json::from_slice(&bytes).unwrap_or(String::from_utf8_lossy(&bytes).into()))
}

const JSON: (&str, &str) = ("content-type", "application/json");
const YAML: (&str, &str) = ("content-type", "application/yaml");

#[tokio::test]
async fn who_made_a_revision_is_what_he_says_made_harmless() {
    let app = router(Fake::default());
    let long = "u".repeat(100);
    for (user, told) in [("", "api"), ("bob@hv1", "bob@hv1"), ("   ", "api"), (long.as_str(), &long[..64])] {
        let (status, _) = call(&app, "POST", "/v1/apply", &[YAML, ("bulkhead-user", user)], &shop()).await;
        assert_eq!(status, StatusCode::OK);
        let (_, history) = call(&app, "GET", "/v1/history?limit=1", &[], "").await;
        assert_eq!(history["items"][0]["author"], told);
    }
    let (_, history) = call(&app, "GET", "/v1/history", &[], "").await;
    assert_eq!(history["items"].as_array().unwrap().len(), 4);
    let first = &history["items"][3];
    assert_eq!((&first["revision"], &first["time"]), (&json!(1), &json!("1970-01-01T00:00:01.000Z")));
    assert_eq!(call(&app, "GET", "/v1/history?since=1", &[], "").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn going_back_is_a_change_like_any_other() {
    let app = router(Fake::default());
    call(&app, "POST", "/v1/apply", &[YAML], &shop()).await;
    call(&app, "DELETE", "/v1/policies/web-to-app", &[], "").await;
    let (_, diff) = call(&app, "GET", "/v1/diff?from=1&to=2", &[], "").await;
    assert_eq!(
        (&diff["resources"][0]["name"], &diff["resources"][0]["change"]),
        (&json!("web-to-app"), &json!("deleted"))
    );
    assert!(!diff["plan"]["lost"].as_array().unwrap().is_empty());
    assert_eq!(diff["plan"]["gained"], json!([]));
    let (status, plan) = call(&app, "POST", "/v1/rollback?dryRun=true", &[JSON], r#"{"revision": 1}"#).await;
    assert_eq!(
        (status, &plan["revision"], &plan["plan"]["gained"]),
        (StatusCode::OK, &json!(2), &{
            let Value::Array(mut lost) = diff["plan"]["lost"].clone() else { panic!("{diff}") };
            lost.iter_mut().for_each(|row| row["verdict"] = "allow".into());
            Value::Array(lost)
        })
    );
    let (status, answer) = call(&app, "POST", "/v1/rollback", &[JSON], r#"{"revision": 1, "newest": 2}"#).await;
    assert_eq!((status, &answer["revision"]), (StatusCode::OK, &json!(3)));
    let (_, diff) = call(&app, "GET", "/v1/diff?from=1", &[], "").await;
    assert_eq!((&diff["to"], &diff["resources"]), (&json!(3), &json!([])));
    // What was looked at is not the newest any more.
    let (status, _) = call(&app, "POST", "/v1/rollback", &[JSON], r#"{"revision": 1, "newest": 2}"#).await;
    assert_eq!(status, StatusCode::CONFLICT);
    for (path, body) in [("/v1/rollback", r#"{"revision": 17}"#), ("/v1/rollback?dryRun=true", r#"{"revision": 17}"#)] {
        assert_eq!(call(&app, "POST", path, &[JSON], body).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(call(&app, "GET", "/v1/diff?from=17", &[], "").await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        call(&app, "POST", "/v1/rollback", &[], r#"{"revision": 1}"#).await.0,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
}

#[tokio::test]
async fn backups_go_and_come_as_they_are() {
    let fake = Fake::default();
    let app = router(fake.clone());
    let (status, text) = call(&app, "GET", "/v1/backup", &[], "").await;
    assert_eq!((status, text), (StatusCode::OK, json!("backup of 0, whole")));
    let ndjson = ("content-type", "application/x-ndjson");
    let (status, answer) = call(&app, "POST", "/v1/restore", &[ndjson], "good").await;
    assert_eq!((status, &answer["revision"]), (StatusCode::OK, &json!(7)));
    let (status, problem) = call(&app, "POST", "/v1/restore", &[ndjson], "bad").await;
    assert_eq!((status, &problem["type"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("urn:bulkhead:problem:damaged")));
    // No page that somebody happens to visit restores anything.
    assert_eq!(call(&app, "POST", "/v1/restore", &[], "good").await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    call(&app, "POST", "/v1/apply", &[YAML], &shop()).await;
    let (status, problem) = call(&app, "POST", "/v1/restore", &[ndjson], "good").await;
    assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("urn:bulkhead:problem:not-empty")));
    // One that breaks off is no backup, and does not look like one that ended.
    fake.0.lock().unwrap().revision = 13;
    let response = app.clone().oneshot(Request::get("/v1/backup").body(Body::empty()).unwrap()).await.unwrap();
    assert!(to_bytes(response.into_body(), usize::MAX).await.is_err());
}
