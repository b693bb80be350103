//! Changes as they are told to whoever watches.

use crate::common;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
    response::Response,
};
use bulkhead_api::{Door, router, serve};
use bulkhead_client::{Client, Told};
use bulkhead_types::ChangeKind;
use common::{Fake, shop};
use hyper::body::Body as Read;
use std::{future::poll_fn, io::Read as _, pin::Pin, time::Duration};
use tower::ServiceExt;

async fn ask(app: &Router, request: axum::http::request::Builder, body: String) -> Response {
    app.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
}

async fn get(app: &Router, path: &str) -> Response {
    ask(app, Request::builder().uri(path), String::new()).await
}

async fn apply(app: &Router, text: impl Into<String>) {
    let request = Request::builder().method("POST").uri("/v1/apply").header("content-type", "application/yaml");
    let response = ask(app, request, text.into()).await;
    assert_eq!(response.status(), StatusCode::OK);
}

/// The next frame of a stream.
async fn frame(body: &mut Body) -> String {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
    String::from_utf8(frame.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap()
}

async fn watching(app: &Router, query: &str) -> Body {
    let response = get(app, &format!("/v1/watch{query}")).await;
    assert_eq!(response.status(), StatusCode::OK, "{query}");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    assert!(frame(&mut body).await.starts_with(": revision "));
    body
}

/// Kind, name and change of the events in a frame.
fn told(frame: &str) -> Vec<String> {
    let data = frame.lines().filter_map(|line| line.strip_prefix("data: "));
    let event = |data: &str| {
        let event: serde_json::Value = serde_json::from_str(data).unwrap();
        let text = |field: &str| event[field].as_str().unwrap().to_owned();
        format!("{}/{} {}", text("kind"), text("name"), text("change"))
    };
    data.map(event).collect()
}

fn set(name: &str, cidr: &str) -> String {
    format!("{{kind: AddressSet, metadata: {{name: {name}}}, spec: {{cidrs: [{cidr}]}}}}")
}

fn workload(name: &str, tier: &str, host: u8) -> String {
    format!(
        "{{kind: Workload, metadata: {{name: {name}, labels: {{tier: {tier}}}}}, spec: {{network: shop, interfaces: \
         [{{mac: \"02:00:00:00:99:{host:02x}\", ips: [10.1.0.{host}]}}]}}}}"
    )
}

#[tokio::test]
async fn what_changes_is_told_once_it_is_there() {
    let app = router(Fake::default());
    let mut all = watching(&app, "").await;
    let mut sets = watching(&app, "?kinds=addresssets").await;
    apply(&app, shop()).await;
    let frame_of_all = frame(&mut all).await;
    assert_eq!(told(&frame_of_all).len(), 18);
    assert!(told(&frame_of_all).iter().all(|event| event.ends_with(" created")));
    // Only the last of a batch says where the stream is.
    assert_eq!(frame_of_all.matches("\nid: 1\n").count(), 1);
    assert!(frame_of_all.rfind("id: 1\n").unwrap() > frame_of_all.rfind("\n\nevent").unwrap_or(0), "{frame_of_all}");
    apply(&app, set("corp", "198.51.100.0/24")).await;
    let text = frame(&mut sets).await;
    assert_eq!(told(&text), ["AddressSet/corp created"]);
    assert!(text.contains(r#""resourceVersion":2"#) && text.contains("id: 2\n"), "{text}");
    apply(&app, set("corp", "198.51.100.0/25")).await;
    assert_eq!(told(&frame(&mut sets).await), ["AddressSet/corp updated"]);
    let delete = Request::builder().method("DELETE").uri("/v1/addresssets/corp");
    assert_eq!(ask(&app, delete, String::new()).await.status(), StatusCode::OK);
    let text = frame(&mut sets).await;
    assert_eq!(told(&text), ["AddressSet/corp deleted"]);
    assert!(text.contains("198.51.100.0/25"), "{text}");
}

#[tokio::test]
async fn who_comes_into_a_selection_is_created_and_who_leaves_it_is_deleted() {
    let app = router(Fake::default());
    apply(&app, shop()).await;
    let mut web = watching(&app, "?kinds=workloads&labelSelector=tier%3Dextra").await;
    apply(&app, workload("new", "other", 200)).await;
    apply(&app, workload("new", "extra", 200)).await;
    assert_eq!(told(&frame(&mut web).await), ["Workload/new created"]);
    apply(&app, workload("new", "extra", 201)).await;
    assert_eq!(told(&frame(&mut web).await), ["Workload/new updated"]);
    apply(&app, workload("new", "other", 201)).await;
    assert_eq!(told(&frame(&mut web).await), ["Workload/new deleted"]);
}

#[tokio::test]
async fn a_stream_goes_on_where_another_ended() {
    let fake = Fake::default();
    let app = router(fake.clone());
    for host in 1..=4 {
        apply(&app, set("corp", &format!("198.51.100.{host}/32"))).await;
    }
    // What happened in between is told at once, as what it came to.
    let mut body = watching(&app, "?since=1").await;
    let text = frame(&mut body).await;
    assert_eq!(told(&text), ["AddressSet/corp updated"]);
    assert!(text.contains("198.51.100.4/32") && text.contains("id: 4\n"), "{text}");
    // A browser goes on by its header, whatever the address says.
    let request = Request::builder().uri("/v1/watch?since=0").header("last-event-id", "3");
    let mut body = ask(&app, request, String::new()).await.into_body();
    assert_eq!(frame(&mut body).await, ": revision 3\nid: 3\n\n");
    assert_eq!(told(&frame(&mut body).await), ["AddressSet/corp updated"]);

    fake.0.lock().unwrap().oldest = 3;
    for (query, status) in [
        ("?since=2", StatusCode::GONE),
        ("?since=99", StatusCode::GONE),
        ("?since=x", StatusCode::BAD_REQUEST),
        ("?kinds=policies,zonks", StatusCode::BAD_REQUEST),
        ("?kinds=policies&labelSelector=a", StatusCode::BAD_REQUEST),
        ("?labelSelector=a", StatusCode::BAD_REQUEST),
        ("?what=1", StatusCode::BAD_REQUEST),
        ("?since=3", StatusCode::OK),
    ] {
        assert_eq!(get(&app, &format!("/v1/watch{query}")).await.status(), status, "{query}");
    }
    let request = Request::builder().uri("/v1/watch").header("last-event-id", "x");
    assert_eq!(ask(&app, request, String::new()).await.status(), StatusCode::BAD_REQUEST);
    let request = Request::builder().uri("/v1/watch?since=4").header("last-event-id", "2");
    assert_eq!(ask(&app, request, String::new()).await.status(), StatusCode::GONE);
}

#[tokio::test]
async fn who_loses_his_access_hears_nothing_more() {
    let fake = Fake::default();
    let app = router(fake.clone());
    let mut body = watching(&app, "").await;
    fake.0.lock().unwrap().closed = true;
    let request = Request::builder().method("POST").uri("/v1/apply").header("content-type", "application/yaml");
    let request = request.header("authorization", "Bearer admin");
    assert_eq!(ask(&app, request, set("corp", "198.51.100.0/24")).await.status(), StatusCode::OK);
    let text = frame(&mut body).await;
    assert!(text.starts_with("event: end\n") && text.contains("urn:bulkhead:problem:stranger"), "{text}");
    assert!(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_none());
}

#[tokio::test]
async fn who_has_a_scope_is_told_of_it_alone() {
    let app = router(Fake::default());
    apply(&app, shop()).await;
    let request = Request::builder().uri("/v1/watch").header("authorization", "Bearer viewer@tier=extra");
    let mut body = ask(&app, request, String::new()).await.into_body();
    assert!(frame(&mut body).await.starts_with(": revision"));
    apply(&app, workload("hidden", "other", 200)).await;
    apply(&app, workload("seen", "extra", 201)).await;
    assert_eq!(told(&frame(&mut body).await), ["Workload/seen created"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_nothing_to_say_says_so() {
    let app = router(Fake::default());
    let mut body = watching(&app, "?kinds=links").await;
    apply(&app, set("corp", "198.51.100.0/24")).await;
    // What passed by without being of interest need not be looked at again.
    assert_eq!(frame(&mut body).await, ": revision 1\nid: 1\n\n");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_too_slow_is_told_and_nothing_piles_up_for_it() {
    let app = router(Fake::default());
    let mut slow = watching(&app, "").await;
    let sets = |last: u8| (0..100).map(|n| set(&format!("s{n}"), &format!("198.51.100.{last}/32"))).collect::<Vec<_>>();
    // More than is kept for a reader, then nothing is read for longer than is waited.
    for round in 0..50 {
        let documents: Vec<String> = sets(round);
        apply(&app, documents.join("\n---\n")).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(100)).await;
    let mut frames = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut slow).poll_frame(cx)).await {
        frames.push(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap());
    }
    let last = frames.last().unwrap();
    assert!(last.starts_with("event: end\n") && last.contains("urn:bulkhead:problem:timeout"), "{last}");
    assert!(frames.len() <= 2, "{}", frames.len());
}

#[tokio::test]
async fn a_thousand_watchers_hear_of_one_change() {
    let fake = Fake::default();
    let app = router(fake.clone());
    apply(&app, shop()).await;
    let mut watchers = Vec::new();
    for _ in 0..1_000 {
        watchers.push(watching(&app, "").await);
    }
    let before = fake.0.lock().unwrap().asked;
    apply(&app, set("corp", "198.51.100.0/24")).await;
    for body in &mut watchers {
        assert_eq!(told(&frame(body).await), ["AddressSet/corp created"]);
    }
    // What changed was looked up once for all.
    assert_eq!(fake.0.lock().unwrap().asked - before, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_watch_and_others_are_answered() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = serve(listener, Door::Plain, Fake::default(), async {
        let _ = stopped.await;
    });
    let server = tokio::spawn(server);
    let watching = tokio::task::spawn_blocking(move || {
        let client = Client::new(&url).unwrap();
        let mut streams: Vec<_> = (0..1_000).map(|_| client.watch(&["addresssets"], None, 0).unwrap()).collect();
        let documents =
            serde_json::json!([{"kind": "AddressSet", "metadata": {"name": "corp"}, "spec": {"cidrs": []}}]);
        client.apply(documents.as_array().unwrap(), false).unwrap();
        for stream in &mut streams {
            let Told::Change(event) = stream.next().unwrap().unwrap() else { panic!("it ended") };
            assert_eq!((event.line.name.as_str(), event.line.change), ("corp", ChangeKind::Created));
            assert_eq!(stream.at(), 1);
        }
        streams
    });
    let mut streams = watching.await.unwrap();
    // They do not keep the controller from stopping, and are told.
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    let ended = tokio::task::spawn_blocking(move || streams.remove(0).next().unwrap().unwrap());
    let Told::End(problem) = ended.await.unwrap() else { panic!("it goes on") };
    assert!(problem.detail.contains("stopping"), "{problem:?}");
}

#[tokio::test]
async fn a_list_in_parts_is_of_one_revision() {
    let fake = Fake::default();
    let app = router(fake.clone());
    let all: Vec<String> = (0..9).map(|n| set(&format!("s{n}"), "198.51.100.0/24")).collect();
    apply(&app, all.join("\n---\n")).await;
    let page = |query: String| {
        let app = app.clone();
        async move {
            let response = get(&app, &format!("/v1/addresssets?{query}")).await;
            let status = response.status();
            let text = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            (status, serde_json::from_slice::<serde_json::Value>(&text).unwrap())
        }
    };
    let names = |page: &serde_json::Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items
            .map(|item| {
                format!("{}@{}", item["metadata"]["name"].as_str().unwrap(), item["metadata"]["resourceVersion"])
            })
            .collect()
    };
    let (_, first) = page("limit=4".into()).await;
    assert_eq!(
        (first["revision"].as_u64(), names(&first)),
        (Some(1), ["s0", "s1", "s2", "s3"].map(|n| format!("{n}@1")).to_vec())
    );
    // Meanwhile one goes, one comes, one changes.
    let delete = |name: &str| Request::builder().method("DELETE").uri(format!("/v1/addresssets/{name}"));
    for name in ["s4", "s8"] {
        assert_eq!(ask(&app, delete(name), String::new()).await.status(), StatusCode::OK);
    }
    apply(
        &app,
        [set("s5", "198.51.100.9/32"), set("s55", "198.51.100.9/32"), set("s1", "198.51.100.9/32")].join("\n---\n"),
    )
    .await;
    let mut token = first["continue"].as_str().unwrap().to_owned();
    let mut rest = Vec::new();
    loop {
        let (status, next) = page(format!("limit=2&continue={token}")).await;
        assert_eq!((status, next["revision"].as_u64()), (StatusCode::OK, Some(1)));
        assert!(names(&next).len() <= 2);
        for item in next["items"].as_array().unwrap() {
            assert_eq!(item["spec"]["cidrs"][0], "198.51.100.0/24");
        }
        rest.extend(names(&next));
        let Some(next) = next["continue"].as_str() else { break };
        token = next.to_owned();
    }
    assert_eq!(rest, ["s4", "s5", "s6", "s7", "s8"].map(|n| format!("{n}@1")));
    // One that ends exactly has no more.
    assert_eq!(page("limit=8".into()).await.1["continue"], serde_json::Value::Null);
    fake.0.lock().unwrap().oldest = 2;
    let (status, gone) = page(format!("continue={token}")).await;
    assert_eq!((status, gone["type"].as_str()), (StatusCode::GONE, Some("urn:bulkhead:problem:too-old")));
    for (query, status) in
        [("limit=0", 400), ("limit=x", 400), ("continue=x", 400), ("continue=99.a", 410), ("continue=3.A", 400)]
    {
        assert_eq!(page(query.into()).await.0.as_u16(), status, "{query}");
    }
}

#[tokio::test]
async fn a_patch_changes_what_it_names() {
    let app = router(Fake::default());
    apply(&app, shop()).await;
    let patch = |path: &'static str, content: &'static str, body: &'static str| {
        let app = app.clone();
        async move {
            let request = Request::builder().method("PATCH").uri(path).header("content-type", content);
            let response = ask(&app, request, body.into()).await;
            let status = response.status().as_u16();
            let text = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            (status, String::from_utf8(text.to_vec()).unwrap())
        }
    };
    const MERGE: &str = "application/merge-patch+json";
    let mode = async || {
        let text = to_bytes(get(&app, "/v1/zones/shop").await.into_body(), usize::MAX).await.unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()["spec"]["mode"].as_str().unwrap().to_owned()
    };
    let monitor = r#"{"spec": {"mode": "monitor"}}"#;
    let (status, text) = patch("/v1/zones/shop?dryRun=true", MERGE, monitor).await;
    assert_eq!((status, mode().await.as_str()), (200, "enforce"), "{text}");
    let (status, text) = patch("/v1/zones/shop", MERGE, monitor).await;
    assert_eq!((status, mode().await.as_str()), (200, "monitor"), "{text}");
    // What is taken away is as if it had not been written.
    assert_eq!(patch("/v1/zones/shop", MERGE, r#"{"spec": {"mode": null}}"#).await.0, 200);
    assert_eq!(mode().await, "enforce");
    for (path, content, body, status) in [
        ("/v1/zones/shop", "application/json", monitor, 415),
        ("/v1/zones/none", MERGE, monitor, 404),
        ("/v1/zonks/shop", MERGE, monitor, 404),
        ("/v1/zones/shop", MERGE, "[", 400),
        ("/v1/zones/shop", MERGE, "[]", 400),
        ("/v1/zones/shop", MERGE, r#"{"metadata": {"name": "other"}}"#, 400),
        ("/v1/zones/shop", MERGE, r#"{"kind": "Policy"}"#, 422),
        ("/v1/zones/shop", MERGE, r#"{"spec": {"mod": "monitor"}}"#, 422),
        ("/v1/zones/shop", MERGE, r#"{"spec": null}"#, 422),
        ("/v1/zones/shop?resourceVersion=1", MERGE, monitor, 409),
        ("/v1/zones/shop", MERGE, r#"{"metadata": {"resourceVersion": 1}, "spec": {"mode": "monitor"}}"#, 409),
        ("/v1/zones/shop?resourceVersion=3", MERGE, monitor, 200),
    ] {
        let (said, text) = patch(path, content, body).await;
        assert_eq!(said, status, "{path} {body}: {text}");
    }
    let text = patch("/v1/zones/shop", MERGE, r#"{"spec": {"mod": "monitor"}}"#).await.1;
    assert!(text.contains("spec.mod") && !text.contains(r#""line":1"#), "{text}");
}

/// The client's reader, on what a stream may look like.
#[test]
fn streams_are_read_whole_or_not_at_all() {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        sender.send(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let event = r#"{"revision":7,"kind":"Zone","name":"z","change":"updated","resource":{}}"#;
        let body = format!(
            ": hello\nid: 5\n\nevent: later\ndata: {{}}\n\nevent: change\ndata:{event}\n\nid: 7\nevent: change\ndata: {event}\n\nevent: \
             change\ndata: {event}\n"
        );
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        std::io::Write::write_all(&mut stream, format!("{head}{body}").as_bytes()).unwrap();
    });
    let client = Client::new(&format!("http://{}", receiver.recv().unwrap())).unwrap();
    let mut stream = client.watch(&["zones"], None, 3).unwrap();
    assert!(matches!(stream.next(), Some(Ok(Told::Change(_)))));
    assert_eq!(stream.at(), 5);
    assert!(matches!(stream.next(), Some(Ok(Told::Change(_)))));
    assert_eq!(stream.at(), 7);
    // The last one is not whole.
    assert!(matches!(stream.next(), Some(Err(_))));
    assert_eq!(stream.at(), 7);
}
