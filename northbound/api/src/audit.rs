//! The audit log.

use crate::{
    Backend, Params,
    problem::Failure,
    service::Service,
    work::{Gone, Written},
};
use axum::extract::State;
use bulkhead_types::AuditAnswer;
use serde::Deserialize;
use utoipa::IntoParams;

/// Records that are told if nobody says how many, and at most.
const LISTED: usize = 100;
const MAX_LISTED: usize = 1_000;

/// The query of `/v1/audit`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// Only records after the one with this number.
    #[serde(default)]
    after: u64,
    /// Most records that are told: 100 if left out, 1000 at most.
    limit: Option<usize>,
}

impl<B: Backend> Service<B> {
    pub(crate) async fn audit<W: Send + 'static>(
        &self,
        after: u64,
        limit: Option<usize>,
        write: fn(&AuditAnswer) -> Result<W, Failure>,
    ) -> Result<W, Failure> {
        let (backend, limit) = (self.backend.clone(), limit.unwrap_or(LISTED).min(MAX_LISTED));
        self.desk.history.run(move |_: &Gone| write(&backend.audit(after, limit)?)).await
    }
}

pub(crate) async fn audit<B: Backend>(
    State(service): State<Service<B>>,
    Params(AuditQuery { after, limit }): Params<AuditQuery>,
) -> Result<Written, Failure> {
    service.audit(after, limit, Written::json).await
}
