//! Who has access, and what was done with it.

use super::{Grpc, asked, size, told, who, written};
use crate::Backend;
use bulkhead_proto::v1::{
    AuditAnswer, AuditRequest, ListTokensRequest, RevokeTokenAnswer, RevokeTokenRequest, TokenAnswer, TokenList,
    TokenQuestion, access_server::Access,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl<B: Backend> Access for Grpc<B> {
    async fn list_tokens(&self, _: Request<ListTokensRequest>) -> Result<Response<TokenList>, Status> {
        told(Ok(self.0.backend.tokens()))
    }

    async fn create_token(&self, request: Request<TokenQuestion>) -> Result<Response<TokenAnswer>, Status> {
        told(self.0.create_token(&who(&request)?, asked(request.get_ref())?).await)
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Result<Response<RevokeTokenAnswer>, Status> {
        let who = who(&request)?;
        self.0.revoke_token(&who, request.into_inner().name).await?;
        Ok(Response::new(RevokeTokenAnswer {}))
    }

    async fn audit(&self, request: Request<AuditRequest>) -> Result<Response<AuditAnswer>, Status> {
        let AuditRequest { after, limit } = request.into_inner();
        Ok(Response::new(self.0.audit(after, limit.map(size), written).await?))
    }
}
