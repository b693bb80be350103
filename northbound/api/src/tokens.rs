//! Tokens: who has access.

use crate::{
    Backend,
    gate::Who,
    problem::Failure,
    questions::json,
    work::{Desk, Gone},
};
use axum::{
    Extension, Json,
    extract::{Path, Request, State},
};
use bulkhead_types::{TokenAnswer, TokenList, TokenQuestion};

pub(crate) async fn list<B: Backend>(State(backend): State<B>) -> Json<TokenList> {
    Json(backend.tokens())
}

pub(crate) async fn create<B: Backend>(
    State(backend): State<B>,
    Extension(desk): Extension<Desk>,
    Extension(who): Extension<Who>,
    request: Request,
) -> Result<Json<TokenAnswer>, Failure> {
    let author = who.author(request.headers());
    let question: TokenQuestion = json(request).await?;
    let made = desk.small.run(move |_: &Gone| Ok(backend.create_token(question, &author, who.origin())?)).await?;
    Ok(Json(made))
}

pub(crate) async fn revoke<B: Backend>(
    State(backend): State<B>,
    Extension(desk): Extension<Desk>,
    Extension(who): Extension<Who>,
    Path(name): Path<String>,
) -> Result<Json<()>, Failure> {
    desk.small.run(move |_: &Gone| Ok(backend.revoke_token(&name, who.origin())?)).await?;
    Ok(Json(()))
}
