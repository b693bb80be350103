//! Who reaches whom.

use super::{Grpc, asked, some, told, written};
use crate::Backend;
use bulkhead_proto::v1::{
    FlowQuestion, MatrixAnswer, MatrixRequest, MatrixRow, ReachAnswer, TraceAnswer, questions_server::Questions,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl<B: Backend> Questions for Grpc<B> {
    async fn reach(&self, request: Request<FlowQuestion>) -> Result<Response<ReachAnswer>, Status> {
        told(self.0.reach(asked(request.get_ref())?).await)
    }

    async fn trace(&self, request: Request<FlowQuestion>) -> Result<Response<TraceAnswer>, Status> {
        told(self.0.trace(asked(request.get_ref())?).await)
    }

    async fn matrix(&self, request: Request<MatrixRequest>) -> Result<Response<MatrixAnswer>, Status> {
        let MatrixRequest { label_selector, port } = request.into_inner();
        let rows = self.0.matrix(&label_selector, some(port), |rows| written::<_, Vec<MatrixRow>>(&rows)).await?;
        Ok(Response::new(MatrixAnswer { rows }))
    }
}
