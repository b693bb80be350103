//! The REST API, generic over what it needs from the controller.
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
mod gate;
mod history;
mod hosts;
mod lists;
mod matrix;
mod pace;
mod pages;
mod patch;
mod places;
mod plan;
mod problem;
mod questions;
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

use axum::{
    Extension, Router,
    extract::{FromRequestParts, Query, Request, rejection::QueryRejection},
    http::{Method, StatusCode, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, post},
};
use gate::Needs;
use problem::Failure;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Longest that a request may take as a whole; above every wait that a request can ask for.
const REQUEST_TIME: Duration = Duration::from_secs(90);

/// Every address, what it takes to be answered there, and who answers.
fn routes<B: Backend>() -> Vec<(&'static str, Needs, MethodRouter<B>)> {
    let kind =
        get(documents::get::<B>).put(documents::put::<B>).patch(patch::patch::<B>).delete(documents::delete::<B>);
    vec![
        ("/v1/{kind}", Needs::Resources, get(lists::list::<B>)),
        ("/v1/{kind}/{name}", Needs::Resources, kind),
        ("/v1/watch", Needs::Resources, get(watch::watch::<B>)),
        ("/v1/apply", Needs::Change, post(documents::apply::<B>)),
        ("/v1/delete", Needs::Change, post(documents::remove::<B>)),
        ("/v1/rollback", Needs::Change, post(history::rollback::<B>)),
        ("/v1/realization", Needs::Ask, get(questions::realization::<B>)),
        ("/v1/reach", Needs::Ask, post(questions::reach::<B>)),
        ("/v1/trace", Needs::Ask, post(questions::trace::<B>)),
        ("/v1/matrix", Needs::Ask, get(matrix::matrix::<B>)),
        ("/v1/hits", Needs::Ask, get(questions::hits::<B>)),
        ("/v1/attachments", Needs::Ask, get(lists::attachments::<B>)),
        ("/v1/topology", Needs::Ask, get(questions::topology::<B>)),
        ("/v1/path", Needs::Ask, post(questions::path::<B>)),
        ("/v1/ports", Needs::Ask, get(questions::ports::<B>)),
        ("/v1/history", Needs::Ask, get(history::history::<B>)),
        ("/v1/diff", Needs::Ask, get(history::diff::<B>)),
        ("/v1/status", Needs::Ask, get(questions::status::<B>)),
        ("/metrics", Needs::Ask, get(questions::metrics::<B>)),
        ("/v1/vteps/{name}", Needs::Vtep, get(vteps::vtep::<B>).post(vteps::report::<B>)),
        ("/v1/backup", Needs::Backup, get(backup::backup::<B>)),
        ("/v1/restore", Needs::Restore, post(backup::restore::<B>)),
        ("/v1/audit", Needs::Audit, get(audit::audit::<B>)),
        ("/v1/tokens", Needs::Tokens, get(tokens::list::<B>).post(tokens::create::<B>)),
        ("/v1/tokens/{name}", Needs::Tokens, delete(tokens::revoke::<B>)),
        // Whoever starts the controller looks here whether it runs.
        ("/healthz", Needs::Nothing, get(|| async { "ok\n" })),
        ("/readyz", Needs::Nothing, get(questions::ready::<B>)),
    ]
}

/// Every address of the API, with its parameters in braces.
pub fn addresses<B: Backend>() -> Vec<&'static str> {
    routes::<B>().into_iter().map(|(path, _, _)| path).collect()
}

/// All routes. There is none without something said of who is answered there.
pub fn router<B: Backend>(backend: B) -> Router {
    let mut router = Router::new();
    for (path, needs, methods) in routes::<B>() {
        let gate = middleware::from_fn_with_state((backend.clone(), needs), gate::pass::<B>);
        router = router.route(path, methods.route_layer(gate));
    }
    router
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(|| async { Failure::not_found("there is nothing at this address") })
        .layer(middleware::from_fn(in_time))
        .layer(Extension(work::Desk::default()))
        .layer(Extension(lists::Shared::default()))
        .layer(Extension(feed::Feed::default()))
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
