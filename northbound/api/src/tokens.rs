//! Tokens: who has access.

use crate::{Backend, gate::Who, problem::Failure, questions::json, service::Service, work::Gone};
use axum::{
    Extension, Json,
    extract::{Path, Request, State},
};
use bulkhead_types::{TokenAnswer, TokenList, TokenQuestion};

impl<B: Backend> Service<B> {
    pub(crate) async fn create_token(&self, who: &Who, question: TokenQuestion) -> Result<TokenAnswer, Failure> {
        let (backend, author, origin) = (self.backend.clone(), who.author(), who.origin());
        self.desk.small.run(move |_: &Gone| Ok(backend.create_token(question, &author, origin)?)).await
    }

    pub(crate) async fn revoke_token(&self, who: &Who, name: String) -> Result<(), Failure> {
        let (backend, origin) = (self.backend.clone(), who.origin());
        self.desk.small.run(move |_: &Gone| Ok(backend.revoke_token(&name, origin)?)).await
    }
}

pub(crate) async fn list<B: Backend>(State(service): State<Service<B>>) -> Json<TokenList> {
    Json(service.backend.tokens())
}

pub(crate) async fn create<B: Backend>(
    State(service): State<Service<B>>,
    Extension(who): Extension<Who>,
    request: Request,
) -> Result<Json<TokenAnswer>, Failure> {
    service.create_token(&who, json(request).await?).await.map(Json)
}

pub(crate) async fn revoke<B: Backend>(
    State(service): State<Service<B>>,
    Extension(who): Extension<Who>,
    Path(name): Path<String>,
) -> Result<Json<()>, Failure> {
    service.revoke_token(&who, name).await.map(Json)
}
