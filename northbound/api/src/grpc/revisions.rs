//! Revisions: what they were, how far they have come, and carrying them away.

use super::{Grpc, size, some, told, who, written};
use crate::{Backend, problem::Failure};
use axum::body::Bytes;
use bulkhead_proto::v1::{
    BackupPart, BackupRequest, ChangeAnswer, DiffAnswer, DiffRequest, HistoryAnswer, HistoryRequest, RealizationAnswer,
    RealizationRequest, RestoreAnswer, RollbackRequest, revisions_server::Revisions,
};
use bulkhead_types::RollbackQuestion;
use std::pin::Pin;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

#[tonic::async_trait]
impl<B: Backend> Revisions for Grpc<B> {
    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryAnswer>, Status> {
        let HistoryRequest { before, limit } = request.into_inner();
        told(self.0.history(before, limit.map(size)).await)
    }

    async fn diff(&self, request: Request<DiffRequest>) -> Result<Response<DiffAnswer>, Status> {
        let DiffRequest { from, to } = request.into_inner();
        Ok(Response::new(self.0.diff(from, to, written).await?))
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Result<Response<ChangeAnswer>, Status> {
        let who = who(&request)?;
        let RollbackRequest { revision, newest, dry_run } = request.into_inner();
        told(self.0.rollback(&who, RollbackQuestion { revision, newest }, dry_run).await)
    }

    async fn realization(&self, request: Request<RealizationRequest>) -> Result<Response<RealizationAnswer>, Status> {
        let RealizationRequest { revision, wait } = request.into_inner();
        told(self.0.realization(revision, some(wait)).await)
    }

    type BackupStream = Pin<Box<dyn Stream<Item = Result<BackupPart, Status>> + Send>>;

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let parts = self.0.backup(&who(&request)?).await?;
        let parts = ReceiverStream::new(parts).map(|part| match part {
            Ok(data) => Ok(BackupPart { data: data.into() }),
            Err(error) => Err(Status::data_loss(error.to_string())),
        });
        Ok(Response::new(Box::pin(parts)))
    }

    async fn restore(&self, request: Request<Streaming<BackupPart>>) -> Result<Response<RestoreAnswer>, Status> {
        let who = who(&request)?;
        let mut parts = request.into_inner();
        let next = async move || match parts.message().await {
            Ok(part) => part.map(|part| Ok(Bytes::from(part.data))),
            Err(status) => Some(Err(Failure::bad(status.message()))),
        };
        told(self.0.restore(&who, next).await)
    }
}
