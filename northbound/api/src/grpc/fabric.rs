//! Switches, links and what they say.

use super::{Grpc, asked, some, told, who, written};
use crate::Backend;
use bulkhead_proto::v1::{
    Attachment, AttachmentsAnswer, AttachmentsRequest, HitsAnswer, HitsRequest, MetricsAnswer, MetricsRequest,
    PathAnswer, PathQuestion, PortsAnswer, PortsRequest, ReportVtepAnswer, ReportVtepRequest, StatusAnswer,
    StatusRequest, TopologyAnswer, TopologyRequest, VtepAnswer, VtepRequest, fabric_server::Fabric,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl<B: Backend> Fabric for Grpc<B> {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusAnswer>, Status> {
        told(Ok(self.0.backend.status().await))
    }

    async fn topology(&self, _: Request<TopologyRequest>) -> Result<Response<TopologyAnswer>, Status> {
        told(Ok(self.0.backend.topology().await))
    }

    async fn path(&self, request: Request<PathQuestion>) -> Result<Response<PathAnswer>, Status> {
        told(self.0.path(asked(request.get_ref())?).await)
    }

    async fn ports(&self, request: Request<PortsRequest>) -> Result<Response<PortsAnswer>, Status> {
        told(self.0.ports(request.into_inner().switch).await)
    }

    async fn attachments(&self, request: Request<AttachmentsRequest>) -> Result<Response<AttachmentsAnswer>, Status> {
        let workload = some(request.into_inner().workload);
        let items = self.0.attachments(workload, |items| written::<_, Vec<Attachment>>(&items)).await?;
        Ok(Response::new(AttachmentsAnswer { items }))
    }

    async fn hits(&self, request: Request<HitsRequest>) -> Result<Response<HitsAnswer>, Status> {
        let hits = self.0.hits(some(request.into_inner().policy)).await?;
        Ok(Response::new(HitsAnswer { items: written(&hits)? }))
    }

    async fn metrics(&self, _: Request<MetricsRequest>) -> Result<Response<MetricsAnswer>, Status> {
        Ok(Response::new(MetricsAnswer { text: self.0.backend.metrics().await }))
    }

    async fn vtep(&self, request: Request<VtepRequest>) -> Result<Response<VtepAnswer>, Status> {
        let who = who(&request)?;
        let VtepRequest { name, held, wait } = request.into_inner();
        who.speaks_for(&name)?;
        Ok(Response::new(self.0.vtep(&name, held, some(wait), written).await?))
    }

    async fn report_vtep(&self, request: Request<ReportVtepRequest>) -> Result<Response<ReportVtepAnswer>, Status> {
        let who = who(&request)?;
        let ReportVtepRequest { name, report } = request.into_inner();
        who.speaks_for(&name)?;
        self.0.vtep_report(&name, asked(&report.unwrap_or_default())?)?;
        Ok(Response::new(ReportVtepAnswer {}))
    }
}
