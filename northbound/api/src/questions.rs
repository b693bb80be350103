//! Questions: reach, trace, status, hits, realization, health.

use crate::{Backend, Params, body::body, flow, problem::Failure, service::Service};
use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::IntoResponse,
};
use bulkhead_types::{
    FlowQuestion, PathAnswer, PathQuestion, PortsAnswer, ReachAnswer, Realization, RuleHits, StatusAnswer,
    TopologyAnswer, TraceAnswer, parse_duration,
};
use serde::{Deserialize, de::DeserializeOwned};
use std::time::Duration;
use utoipa::IntoParams;

/// Longest that a client may wait for a realization in one request.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A request's body, if it is JSON.
pub(crate) async fn json<T: DeserializeOwned>(request: Request) -> Result<T, Failure> {
    let content = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !content.to_ascii_lowercase().starts_with("application/json") {
        let detail = "send `Content-Type: application/json`";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail));
    }
    let body = body(request).await?;
    serde_json::from_slice(body.as_ref()).map_err(|e| Failure::bad(e.to_string()))
}

impl<B: Backend> Service<B> {
    pub(crate) async fn reach(&self, question: FlowQuestion) -> Result<ReachAnswer, Failure> {
        let backend = self.backend.clone();
        let job = move |_: &_| backend.read(|view| flow::reach(view.state, &question)).map_err(Failure::question);
        self.desk.questions.run(job).await
    }

    pub(crate) async fn trace(&self, question: FlowQuestion) -> Result<TraceAnswer, Failure> {
        self.backend.trace(question).await.map_err(Failure::question)
    }

    pub(crate) async fn path(&self, question: PathQuestion) -> Result<PathAnswer, Failure> {
        self.backend.path(question).await.map_err(Failure::question)
    }

    pub(crate) async fn ports(&self, switch: String) -> Result<PortsAnswer, Failure> {
        self.backend.ports(switch).await.ok_or_else(|| Failure::not_found("there is no switch of this name"))
    }

    pub(crate) async fn hits(&self, policy: Option<String>) -> Result<Vec<RuleHits>, Failure> {
        if let Some(name) = &policy
            && !self.backend.read(|view| view.state.policies.contains_key(name.as_str()))
        {
            return Err(Failure::not_found("there is no policy of this name"));
        }
        Ok(self.backend.hits(policy.as_deref()).await)
    }

    /// How far a revision has come, or the newest one.
    pub(crate) async fn realization(
        &self,
        revision: Option<u64>,
        wait: Option<String>,
    ) -> Result<Realization, Failure> {
        let newest = self.backend.read(|view| view.revision);
        let revision = revision.unwrap_or(newest);
        if revision > newest {
            return Err(Failure::question(format!("revision {revision} does not exist; the newest is {newest}")));
        }
        Ok(self.backend.realization(revision, waited(wait.as_deref())?).await)
    }
}

pub(crate) async fn reach<B: Backend>(
    State(service): State<Service<B>>,
    request: Request,
) -> Result<Json<ReachAnswer>, Failure> {
    service.reach(json(request).await?).await.map(Json)
}

pub(crate) async fn trace<B: Backend>(
    State(service): State<Service<B>>,
    request: Request,
) -> Result<Json<TraceAnswer>, Failure> {
    service.trace(json(request).await?).await.map(Json)
}

pub(crate) async fn topology<B: Backend>(State(service): State<Service<B>>) -> Json<TopologyAnswer> {
    Json(service.backend.topology().await)
}

pub(crate) async fn path<B: Backend>(
    State(service): State<Service<B>>,
    request: Request,
) -> Result<Json<PathAnswer>, Failure> {
    service.path(json(request).await?).await.map(Json)
}

pub(crate) async fn status<B: Backend>(State(service): State<Service<B>>) -> Json<StatusAnswer> {
    Json(service.backend.status().await)
}

/// The query of `/v1/ports`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PortsQuery {
    /// The switch.
    switch: String,
}

pub(crate) async fn ports<B: Backend>(
    State(service): State<Service<B>>,
    Params(query): Params<PortsQuery>,
) -> Result<Json<PortsAnswer>, Failure> {
    service.ports(query.switch).await.map(Json)
}

/// The query of `/v1/hits`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HitsQuery {
    /// The policy; all of them, and the built-in rules, if left out.
    policy: Option<String>,
}

pub(crate) async fn hits<B: Backend>(
    State(service): State<Service<B>>,
    Params(query): Params<HitsQuery>,
) -> Result<Json<Vec<RuleHits>>, Failure> {
    service.hits(query.policy).await.map(Json)
}

/// The query of `/v1/realization`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RealizationQuery {
    /// The revision; the newest if left out.
    revision: Option<u64>,
    /// How long to wait for it, as `5s` or `500ms`; 60 s at most.
    wait: Option<String>,
}

pub(crate) async fn realization<B: Backend>(
    State(service): State<Service<B>>,
    Params(query): Params<RealizationQuery>,
) -> Result<Json<Realization>, Failure> {
    service.realization(query.revision, query.wait).await.map(Json)
}

/// How long a client wants to wait.
pub(crate) fn waited(wait: Option<&str>) -> Result<Duration, Failure> {
    match wait.map(parse_duration) {
        None => Ok(Duration::ZERO),
        Some(Some(wait)) => Ok(wait.min(MAX_WAIT)),
        Some(None) => Err(Failure::bad("`wait` is a time such as 5s or 500ms")),
    }
}

pub(crate) async fn ready<B: Backend>(State(service): State<Service<B>>) -> impl IntoResponse {
    match service.backend.ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "compiling\n"),
    }
}

pub(crate) async fn metrics<B: Backend>(State(service): State<Service<B>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], service.backend.metrics().await)
}
