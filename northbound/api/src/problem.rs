//! Errors as problem documents (RFC 9457).

use crate::backend::{ApplyError, PastError, RestoreError, TokenError};
use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bulkhead_types::{Diagnostic, Problem, Severity};

/// Why a request was refused, in a line: what an answer that says so has among its extensions.
#[derive(Debug, Clone)]
pub(crate) struct Why(pub(crate) String);

/// A problem in a line, with its status.
pub(crate) fn line(problem: &Problem) -> String {
    format!("{}: {}", problem.status, brief(problem))
}

/// A problem in a line: the first finding, if there are any.
pub(crate) fn brief(problem: &Problem) -> String {
    let mut wrong = problem.diagnostics.iter().filter(|finding| finding.severity == Severity::Error);
    let Some(first) = wrong.next() else {
        return if problem.detail.is_empty() { &problem.title } else { &problem.detail }.clone();
    };
    let whose = first.resource.as_ref().map(|resource| format!("{resource}: ")).unwrap_or_default();
    let path = if first.path.is_empty() { String::new() } else { format!("{}: ", first.path) };
    let more = match wrong.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    format!("{whose}{path}{}{more}", first.message)
}

/// An error on its way to the client.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    diagnostics: Vec<Diagnostic>,
}

impl Failure {
    /// An error of `kind`, a word that stays the same, with what happened and what to do.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), diagnostics: Vec::new() }
    }

    /// Its HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The request itself makes no sense.
    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// Something went wrong that should not.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// Nothing has this name.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// The documents are refused.
    pub fn refused(diagnostics: Vec<Diagnostic>) -> Self {
        let detail = "nothing was changed; the diagnostics say what to mend";
        Self { diagnostics, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", detail) }
    }

    /// Gives its findings the place of their field in the request.
    pub fn locate<R>(&mut self, parsed: &bulkhead_types::Parsed<R>) {
        self.diagnostics = parsed.locate(std::mem::take(&mut self.diagnostics));
    }

    /// The same of a document that the client did not write himself: places in it mean nothing to him.
    pub fn without_places(mut self) -> Self {
        self.diagnostics.iter_mut().for_each(|finding| (finding.line, finding.column) = (None, None));
        self
    }

    /// What is asked about is of a revision that is not kept any more.
    pub fn too_old(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "too-old", detail)
    }

    /// What is asked about an earlier revision that may well have been kept.
    pub fn past(error: PastError) -> Self {
        match error {
            PastError::NotKept(detail) => Self::too_old(detail),
            failed @ PastError::Failed(_) => failed.into(),
        }
    }

    /// The question cannot be answered as it is put.
    pub fn question(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "question", detail)
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        let detail = error.to_string();
        match error {
            ApplyError::Rejected(found) => Self::refused(found.into_iter().map(Diagnostic::from).collect()),
            ApplyError::Conflict { .. } => {
                Self::new(StatusCode::CONFLICT, "conflict", format!("{detail}; read it again and repeat the change"))
            }
            ApplyError::Moved { .. } => {
                Self::new(StatusCode::CONFLICT, "conflict", format!("{detail}; look at what changed, and repeat it"))
            }
            ApplyError::TooLarge(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "too-large", detail),
            ApplyError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail),
        }
    }
}

impl From<PastError> for Failure {
    fn from(error: PastError) -> Self {
        let detail = error.to_string();
        match error {
            PastError::NotKept(_) => Self::question(detail),
            PastError::Failed(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail),
        }
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let detail = error.to_string();
        match error {
            TokenError::Wrong(_) => Self::bad(detail),
            TokenError::Taken(_) => Self::new(StatusCode::CONFLICT, "taken", detail),
            TokenError::Missing(_) => Self::not_found(detail),
            TokenError::Failed(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail),
        }
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        let detail = format!("nothing was changed: {error}");
        match error {
            RestoreError::Damaged(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "damaged", detail),
            RestoreError::NotEmpty(_) => Self::new(StatusCode::CONFLICT, "not-empty", detail),
            RestoreError::Failed(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let title = match failure.kind {
            "refused" => "The documents are refused",
            "conflict" => "The resource has changed in the meantime",
            "damaged" => "The backup cannot be restored",
            "not-empty" => "There is something already",
            "too-large" => "The change does not fit",
            "timeout" => "It takes too long",
            "busy" => "Others have to be answered first",
            "forbidden" => "Your grants do not allow it",
            "stranger" => "It is not known who asks",
            "taken" => "The name is taken",
            "unprotected" => "The request is not protected by TLS",
            "misdirected" => "The request is meant for another host",
            "foreign-origin" => "The request is made by another site's page",
            "too-old" => "The revision is not kept any more",
            "question" => "The question cannot be answered",
            _ => failure.status.canonical_reason().unwrap_or("Error"),
        };
        Self {
            kind: format!("urn:bulkhead:problem:{}", failure.kind),
            title: title.into(),
            status: failure.status.as_u16(),
            detail: failure.detail,
            diagnostics: failure.diagnostics,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = self.status;
        let problem = Problem::from(self);
        let why = Why(line(&problem));
        let mut answer = (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(problem)).into_response();
        answer.extensions_mut().insert(why);
        answer
    }
}
