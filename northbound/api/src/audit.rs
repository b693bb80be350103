//! The audit log.

use crate::{
    Backend, Params,
    problem::Failure,
    work::{Desk, Gone, Written},
};
use axum::{Extension, extract::State};
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

pub(crate) async fn audit<B: Backend>(
    State(backend): State<B>,
    Extension(desk): Extension<Desk>,
    Params(AuditQuery { after, limit }): Params<AuditQuery>,
) -> Result<Written, Failure> {
    let limit = limit.unwrap_or(LISTED).min(MAX_LISTED);
    desk.history.run(move |_: &Gone| Written::json(&backend.audit(after, limit)?)).await
}
