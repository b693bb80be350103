//! Kernel VTEPs: what each has to forward, and how it says to be.

use crate::{
    Backend, Params,
    problem::Failure,
    questions::{json, waited},
    work::{Desk, Written},
};
use axum::{
    Extension, Json,
    extract::{Path, Request, State},
};
use bulkhead_topology::Name;
use bulkhead_types::VtepReport;
use serde::Deserialize;
use utoipa::IntoParams;

/// The query of `/v1/vteps/NAME`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct VtepQuery {
    /// The revision of what the agent holds; 0: nothing.
    held: Option<u64>,
    /// How long to wait for something else, as `5s` or `500ms`; 60 s at most.
    wait: Option<String>,
}

fn none(name: &str) -> Failure {
    Failure::not_found(format!("there is no switch {name} with `driver: kernel`"))
}

pub(crate) async fn vtep<B: Backend>(
    State(backend): State<B>,
    Extension(desk): Extension<Desk>,
    Path(name): Path<String>,
    Params(query): Params<VtepQuery>,
) -> Result<Written, Failure> {
    let wait = waited(query.wait.as_deref())?;
    let switch: Name = name.parse().map_err(|_| none(&name))?;
    let answer = backend.vtep(&switch, query.held.unwrap_or(0), wait).await.ok_or_else(|| none(&name))?;
    if answer.forwarding.is_none() {
        return Written::json(&answer);
    }
    // It names every workload of its networks.
    desk.lists.run(move |_| Written::json(&answer)).await
}

pub(crate) async fn report<B: Backend>(
    State(backend): State<B>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<()>, Failure> {
    let report: VtepReport = json(request).await?;
    let switch: Name = name.parse().map_err(|_| none(&name))?;
    if backend.vtep_report(&switch, report) { Ok(Json(())) } else { Err(none(&name)) }
}
