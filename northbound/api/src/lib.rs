//! The REST API, generic over what it needs from the controller.
//!
//! Implement [`Backend`], then [`serve`] it on a listener; [`router`] is the same without a socket.

pub mod backend;
mod backup;
mod body;
mod connections;
mod documents;
mod flow;
mod gate;
mod history;
mod hosts;
mod lists;
mod matrix;
mod pace;
mod places;
mod plan;
mod problem;
mod questions;
mod tokens;
mod vteps;
mod work;

pub use backend::{
    Applied, ApplyError, Asked, Backend, Caller, Difference, Edit, History, Noted, PastError, RestoreError, Stranger,
    TokenError, View,
};
pub use connections::serve;
pub use flow::{Resolved, resolve, rule_name, service};

use axum::{
    Extension, Router,
    extract::{FromRequestParts, Query, Request, rejection::QueryRejection},
    http::{Method, StatusCode, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use problem::Failure;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Longest that a request may take as a whole; above every wait that a request can ask for.
const REQUEST_TIME: Duration = Duration::from_secs(90);

/// All routes.
pub fn router<B: Backend>(backend: B) -> Router {
    let kinds = get(lists::list::<B>);
    let kind = get(documents::get::<B>).put(documents::put::<B>).delete(documents::delete::<B>);
    Router::new()
        .route("/v1/{kind}", kinds)
        .route("/v1/{kind}/{name}", kind)
        .route("/v1/apply", post(documents::apply::<B>))
        .route("/v1/delete", post(documents::remove::<B>))
        .route("/v1/realization", get(questions::realization::<B>))
        .route("/v1/reach", post(questions::reach::<B>))
        .route("/v1/trace", post(questions::trace::<B>))
        .route("/v1/matrix", get(matrix::matrix::<B>))
        .route("/v1/hits", get(questions::hits::<B>))
        .route("/v1/attachments", get(lists::attachments::<B>))
        .route("/v1/vteps/{name}", get(vteps::vtep::<B>).post(vteps::report::<B>))
        .route("/v1/topology", get(questions::topology::<B>))
        .route("/v1/path", post(questions::path::<B>))
        .route("/v1/ports", get(questions::ports::<B>))
        .route("/v1/history", get(history::history::<B>))
        .route("/v1/diff", get(history::diff::<B>))
        .route("/v1/rollback", post(history::rollback::<B>))
        .route("/v1/backup", get(backup::backup::<B>))
        .route("/v1/restore", post(backup::restore::<B>))
        .route("/v1/status", get(questions::status::<B>))
        .route("/v1/tokens", get(tokens::list::<B>).post(tokens::create::<B>))
        .route("/v1/tokens/{name}", delete(tokens::revoke::<B>))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(questions::ready::<B>))
        .route("/metrics", get(questions::metrics::<B>))
        .route_layer(middleware::from_fn_with_state(backend.clone(), gate::pass::<B>))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(|| async { Failure::not_found("there is nothing at this address") })
        .layer(middleware::from_fn(in_time))
        .layer(Extension(work::Desk::default()))
        .layer(Extension(lists::Shared::default()))
        .with_state(backend)
}

async fn method_not_allowed(method: Method) -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", format!("{method} is not possible here"))
}

async fn in_time(request: Request, next: Next) -> Response {
    let asks = request.method().is_safe();
    match tokio::time::timeout(REQUEST_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = match asks {
                true => format!("no answer within {} s", REQUEST_TIME.as_secs()),
                false => format!(
                    "no answer within {} s; whether the change was made shows in what is there now: look before you \
                     repeat it",
                    REQUEST_TIME.as_secs()
                ),
            };
            Failure::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail).into_response()
        }
    }
}

/// A query string, refused with a problem document if it has unknown or bad parameters.
struct Params<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        query.map(|Query(params)| Self(params)).map_err(|e| Failure::bad(e.body_text()))
    }
}
