//! `GET /v1/matrix`: who reaches whom.

use crate::{
    Backend, Params, flow,
    problem::Failure,
    service::Service,
    work::{Gone, Written},
};
use axum::{extract::State, http::StatusCode};
use bulkhead_topology::Name;
use bulkhead_types::{MatrixRow, ServiceText, parse_selector, parse_service};
use serde::Deserialize;
use std::time::{Duration, Instant};
use utoipa::IntoParams;

/// Most cells of a matrix: more is no answer that anybody reads, and takes the reference too long.
const MAX_CELLS: usize = 250_000;
/// Most services in a matrix that names none.
const MAX_SERVICES: usize = 32;
/// Longest that a matrix may take.
const MAX_TIME: Duration = Duration::from_secs(30);

/// The query of a matrix.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct MatrixQuery {
    /// Labels that workloads have to have, as in `app=shop,tier in (web,app),!legacy`.
    label_selector: Option<String>,
    /// A service, as `443/tcp` or `icmp`; all that policies and workloads name if left out.
    port: Option<String>,
}

impl<B: Backend> Service<B> {
    /// Who reaches whom among the workloads that are selected, by one service or by all that are known.
    pub(crate) async fn matrix<W: Send + 'static>(
        &self,
        selector: &str,
        service: Option<String>,
        write: fn(Vec<MatrixRow>) -> Result<W, Failure>,
    ) -> Result<W, Failure> {
        let backend = self.backend.clone();
        let selector = parse_selector(selector).map_err(|e| Failure::bad(e.to_string()))?;
        let service = service.map(|text| parse_service(&text)).transpose().map_err(|e| Failure::bad(e.to_string()))?;
        let job = move |gone: &Gone| {
            let names: Vec<Name> = backend.read(|view| {
                view.state.workloads.values().filter(|w| selector.matches(&w.labels)).map(|w| w.name.clone()).collect()
            });
            let services: Vec<ServiceText> = match service {
                Some(service) => vec![service],
                None => backend.read(|view| flow::known_services(view.state)).into_iter().collect(),
            };
            if services.len() > MAX_SERVICES {
                let detail =
                    format!("policies and workloads name {} services; ask for one with `port`", services.len());
                return Err(Failure::question(detail));
            }
            let cells = names.len().saturating_mul(names.len()).saturating_mul(services.len());
            if cells > MAX_CELLS {
                let detail = format!(
                    "{} workloads and {} services are {cells} cells, more than {MAX_CELLS}; narrow it with `labelSelector` \
                     or `port`",
                    names.len(),
                    services.len()
                );
                return Err(Failure::question(detail));
            }
            let began = Instant::now();
            let mut rows = Vec::new();
            for from in &names {
                gone.check()?;
                if began.elapsed() > MAX_TIME {
                    let detail =
                        format!("it takes longer than {} s; narrow it with `labelSelector`", MAX_TIME.as_secs());
                    return Err(Failure::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail));
                }
                // A row at a time, so that changes never wait for a whole matrix.
                let cells = backend.read(|view| flow::matrix_row(view.state, from, &names, &services));
                rows.extend(cells.into_iter().map(|cell| cell.row));
            }
            write(rows)
        };
        self.desk.matrices.run(job).await
    }
}

pub(crate) async fn matrix<B: Backend>(
    State(service): State<Service<B>>,
    Params(query): Params<MatrixQuery>,
) -> Result<Written, Failure> {
    let selector = query.label_selector.unwrap_or_default();
    service.matrix(&selector, query.port, |rows| Written::json(&rows)).await
}
