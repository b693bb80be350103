//! What the controller tells of itself while it runs: log lines, and spans for a collector of OpenTelemetry.

use anyhow::Context;
use clap::ValueEnum;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use serde::Deserialize;
use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};
use tracing_subscriber::{EnvFilter, Layer, filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// How long a collector may take; spans that it does not take are lost, and nobody waits for it.
const EXPORT_TIME: Duration = Duration::from_secs(5);

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is told, in which form, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Which log lines.
    pub log: String,
    /// Their form.
    pub format: LogFormat,
    /// Where spans go, by OTLP over gRPC; none if they go nowhere.
    pub otlp: Option<String>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log: "info".into(), format: LogFormat::Text, otlp: None }
    }
}

/// Sends what is left when it goes.
pub struct Guard(Option<SdkTracerProvider>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(|spans| spans.shutdown_with_timeout(EXPORT_TIME)) {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

impl Telemetry {
    /// Begins to tell, in this whole process. With spans for a collector it has to be called inside of a runtime.
    ///
    /// # Errors
    /// When the filter or the collector's address is none.
    pub fn begin(&self) -> anyhow::Result<Guard> {
        let filter = EnvFilter::try_new(&self.log).with_context(|| {
            format!("--log: `{}` is no filter; write info, or bulkhead_runtime=debug,info", self.log)
        })?;
        let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
        let lines = match self.format {
            LogFormat::Text => lines.with_ansi(stderr().is_terminal()).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        let provider = self.otlp.as_deref().map(provider).transpose()?;
        let spans = provider.as_ref().map(|provider| {
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("bulkheadd"));
            layer.with_filter(LevelFilter::INFO)
        });
        tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).init();
        Ok(Guard(provider))
    }
}

fn provider(collector: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder().with_tonic().with_protocol(Protocol::Grpc);
    let exporter = exporter.with_endpoint(collector).with_timeout(EXPORT_TIME).build();
    let exporter =
        exporter.with_context(|| format!("--otlp: `{collector}` is no address; write it as http://127.0.0.1:4317"))?;
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_service_name("bulkheadd").with_attribute(version).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}
