//! Spans, as a collector of OpenTelemetry gets them; and log lines as JSON.

use bulkhead_client::Client;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    time::Duration,
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

struct Collector(mpsc::UnboundedSender<(String, Span)>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let service = resource.resource.unwrap().attributes.into_iter().find(|pair| pair.key == "service.name");
            let Some(Value::StringValue(service)) = service.unwrap().value.unwrap().value else { panic!("no name") };
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.0.send((service.clone(), span)).unwrap();
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_one_trace_from_its_request_to_the_disk_and_log_lines_are_json() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = format!("http://{}", listener.local_addr().unwrap());
    let (tell, mut told) = mpsc::unbounded_channel();
    let service = TraceServiceServer::new(Collector(tell));
    tokio::spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)),
    );

    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkheadd"));
    command.args(["--listen", "127.0.0.1:0", "--openflow-listen", "127.0.0.1:0", "--open-loopback"]);
    command.args(["--log-format", "json", "--otlp", &collector, "--data-dir"]).arg(data.path());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let url = loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        if line["message"] == "bulkheadd is ready" {
            break line["api"].as_str().unwrap().to_owned();
        }
    };
    let network =
        json!({"kind": "Network", "metadata": {"name": "prod"}, "spec": {"vni": 7, "subnets": ["10.0.0.0/8"]}});
    let client = Client::new(&url).unwrap();
    let applied = tokio::task::spawn_blocking(move || client.apply(&[network], false).unwrap()).await.unwrap();
    assert_eq!(applied.revision, 1);
    // What is left is sent at the end.
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");

    let mut spans: BTreeMap<String, Span> = BTreeMap::new();
    while !["request", "change", "compile", "commit"].iter().all(|name| spans.contains_key(*name)) {
        let (service, span) = timeout(Duration::from_secs(10), told.recv()).await.expect("a span is missing").unwrap();
        assert_eq!(service, "bulkheadd");
        spans.insert(span.name.clone(), span);
    }
    let [request, change, compile, commit] = ["request", "change", "compile", "commit"].map(|name| &spans[name]);
    assert!(request.parent_span_id.is_empty());
    for (child, parent) in [(change, request), (compile, change), (commit, request)] {
        assert_eq!((&child.trace_id, &child.parent_span_id), (&parent.trace_id, &parent.span_id), "{}", child.name);
        assert!(child.start_time_unix_nano >= parent.start_time_unix_nano, "{}", child.name);
    }
}
