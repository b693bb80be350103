//! Kernel VTEPs: what each has to forward, and how it says to be.

use crate::{
    Backend, Params,
    problem::Failure,
    questions::{json, waited},
    service::Service,
    work::Written,
};
use axum::{
    Json,
    extract::{Path, Request, State},
};
use bulkhead_topology::Name;
use bulkhead_types::{VtepAnswer, VtepReport};
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

impl<B: Backend> Service<B> {
    /// What a kernel VTEP has to forward that holds what it was told at revision `held`.
    pub(crate) async fn vtep<W: Send + 'static>(
        &self,
        name: &str,
        held: u64,
        wait: Option<String>,
        write: fn(&VtepAnswer) -> Result<W, Failure>,
    ) -> Result<W, Failure> {
        let wait = waited(wait.as_deref())?;
        let switch: Name = name.parse().map_err(|_| none(name))?;
        let answer = self.backend.vtep(&switch, held, wait).await.ok_or_else(|| none(name))?;
        if answer.forwarding.is_none() {
            return write(&answer);
        }
        // It names every workload of its networks.
        self.desk.lists.run(move |_| write(&answer)).await
    }

    pub(crate) fn vtep_report(&self, name: &str, report: VtepReport) -> Result<(), Failure> {
        let switch: Name = name.parse().map_err(|_| none(name))?;
        if self.backend.vtep_report(&switch, report) { Ok(()) } else { Err(none(name)) }
    }
}

pub(crate) async fn vtep<B: Backend>(
    State(service): State<Service<B>>,
    Path(name): Path<String>,
    Params(query): Params<VtepQuery>,
) -> Result<Written, Failure> {
    service.vtep(&name, query.held.unwrap_or(0), query.wait, Written::json).await
}

pub(crate) async fn report<B: Backend>(
    State(service): State<Service<B>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<()>, Failure> {
    service.vtep_report(&name, json(request).await?).map(Json)
}
