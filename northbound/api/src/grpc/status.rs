//! Errors as gRPC has them: a code and a text, with the problem document among the details.

use crate::{
    gate::blames,
    problem::{Failure, brief, line},
};
use axum::{
    body::to_bytes,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bulkhead_proto::{message, v1};
use bulkhead_types::Problem;
use prost::Message;
use tonic::{Code, Status};

/// Longest answer that is looked at for what it says: problem documents are shorter.
const MAX_PROBLEM: usize = 4 << 20;

/// `google.rpc.Status` (<https://grpc.io/docs/guides/error/>).
#[derive(Clone, PartialEq, prost::Message)]
struct Rich {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// The code of a problem, by its status and the last part of its type.
fn code(problem: &Problem) -> Code {
    let kind = problem.kind.rsplit(':').next().unwrap_or_default();
    match (problem.status, kind) {
        (401, _) => Code::Unauthenticated,
        (403, _) => Code::PermissionDenied,
        (404, _) => Code::NotFound,
        (405, _) => Code::Unimplemented,
        (408 | 504, _) => Code::DeadlineExceeded,
        (409, "taken" | "not-empty") => Code::AlreadyExists,
        (409, _) => Code::Aborted,
        (410, _) => Code::OutOfRange,
        (413, _) | (422, "too-large") => Code::ResourceExhausted,
        (422, "question") => Code::FailedPrecondition,
        (503, _) => Code::Unavailable,
        (status, _) if status < 500 => Code::InvalidArgument,
        _ => Code::Internal,
    }
}

fn status(problem: &Problem) -> Status {
    let code = code(problem);
    let brief = brief(problem);
    let details = message::<_, v1::Problem>(problem).map(|problem| prost_types::Any {
        type_url: "type.googleapis.com/bulkhead.v1.Problem".into(),
        value: problem.encode_to_vec(),
    });
    let rich = Rich { code: code.into(), message: brief.clone(), details: details.into_iter().collect() };
    Status::with_details(code, brief, rich.encode_to_vec().into())
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        status(&Problem::from(failure))
    }
}

/// What of a request is told to be wrong by an answer's head, in a line; `None` if nothing is, or it is not the request
/// that is to blame.
pub(crate) fn wrong(headers: &HeaderMap) -> Option<String> {
    let told = Status::from_header_map(headers).filter(|told| told.code() != Code::Ok)?;
    let rich = Rich::decode(told.details()).unwrap_or_default();
    let problem = rich.details.first().and_then(|any| v1::Problem::decode(any.value.as_slice()).ok());
    match problem.and_then(|problem| message::<_, Problem>(&problem).ok()) {
        Some(problem) => blames(problem.status).then(|| line(&problem)),
        // What cannot even be read is refused before it comes to us.
        None => (told.code() == Code::Internal).then(|| told.message().to_owned()),
    }
}

/// Has whoever asks by gRPC told in gRPC what was answered to him in the way of REST: that nobody knows him, say.
pub(crate) async fn spoken(request: Request, next: Next) -> Response {
    let form = request.headers().get(header::CONTENT_TYPE).and_then(|form| form.to_str().ok());
    if !form.is_some_and(|form| form.starts_with("application/grpc")) {
        return next.run(request).await;
    }
    let answer = next.run(request).await;
    if answer.status() == StatusCode::OK {
        return answer;
    }
    let known = answer.headers().get(header::WWW_AUTHENTICATE).cloned();
    let body = to_bytes(answer.into_body(), MAX_PROBLEM).await.unwrap_or_default();
    let status = match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) if problem.status == 404 => Status::unimplemented("there is no such method"),
        Ok(problem) => status(&problem),
        Err(_) => Status::unknown("see the controller's log"),
    };
    let mut told = status.into_http::<axum::body::Body>().into_response();
    told.headers_mut().extend(known.map(|known: HeaderValue| (header::WWW_AUTHENTICATE, known)));
    told
}
