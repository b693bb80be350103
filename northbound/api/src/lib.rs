//! The API, by REST and gRPC, generic over what it needs from the controller.
//!
//! Implement [`Backend`], then [`serve`] it on a listener; [`router`] is the same without a socket.

mod audit;
pub mod backend;
mod backup;
mod body;
mod connections;
mod documents;
mod door;
mod feed;
mod flow;
mod frames;
mod gate;
mod grpc;
mod history;
mod hosts;
mod lists;
mod matrix;
mod openapi;
mod operation;
mod pace;
mod pages;
mod patch;
mod places;
mod plan;
mod problem;
mod questions;
mod routes;
mod service;
mod stalls;
mod tokens;
mod vteps;
mod watch;
mod work;

pub use backend::{
    Applied, ApplyError, Asked, Backend, Caller, Difference, Edit, History, Known, Noted, Origin, PastError,
    RestoreError, Stranger, TokenError, View,
};
pub use connections::serve;
pub use door::{Door, Peer};
pub use flow::{Resolved, resolve, rule_name, service};
pub use grpc::methods;
pub use openapi::document;

use axum::{
    Router,
    extract::{FromRequestParts, Query, Request, rejection::QueryRejection},
    http::{Method, StatusCode, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use problem::Failure;
use routes::routes;
use serde::de::DeserializeOwned;
use service::Service;
use std::time::Duration;
use tracing::{Instrument, field::Empty, info_span};

/// Longest that a request may take as a whole; above every wait that a request can ask for.
const REQUEST_TIME: Duration = Duration::from_secs(90);

/// Every address of the API, with its parameters in braces.
pub fn addresses<B: Backend>() -> Vec<&'static str> {
    routes::<B>().into_iter().map(|route| route.path).collect()
}

/// All routes.
pub fn router<B: Backend>(backend: B) -> Router {
    let service = Service::new(backend);
    let router = routes::<B>().into_iter().fold(Router::new(), |router, route| route.into(router, &service.backend));
    grpc::routes(router, &service)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(|| async { Failure::not_found("there is nothing at this address") })
        .layer(middleware::from_fn(in_time))
        .with_state(service)
}

async fn method_not_allowed(method: Method) -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", format!("{method} is not possible here"))
}

async fn in_time(request: Request, next: Next) -> Response {
    let asks = request.method().is_safe();
    let span = info_span!("request", method = %request.method(), path = request.uri().path(), status = Empty);
    match tokio::time::timeout(REQUEST_TIME, next.run(request).instrument(span.clone())).await {
        Ok(response) => {
            span.record("status", response.status().as_u16());
            response
        }
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
