//! The standard question whether the controller runs (`grpc.health.v1`).

use super::{Grpc, methods};
use crate::Backend;
use std::{pin::Pin, time::Duration};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};

/// How often it is looked whether it is still so.
const LOOK: Duration = Duration::from_secs(1);

impl<B: Backend> Grpc<B> {
    /// How a service is, or all of them together.
    fn health(&self, service: &str) -> Option<ServingStatus> {
        let known = methods().into_iter().filter_map(|method| method.split('/').next()).any(|known| known == service);
        let ready = if self.0.backend.ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
        (known || service.is_empty()).then_some(ready)
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl<B: Backend> Health for Grpc<B> {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let status =
            self.health(&request.get_ref().service).ok_or_else(|| Status::not_found("there is no such service"))?;
        Ok(Response::new(answer(status)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (told, waiting) = mpsc::channel(1);
        let (grpc, service) = (self.clone(), request.into_inner().service);
        tokio::spawn(async move {
            let mut last = None;
            loop {
                let status = grpc.health(&service).unwrap_or(ServingStatus::ServiceUnknown);
                if last != Some(status) && told.send(Ok(answer(status))).await.is_err() {
                    return;
                }
                last = Some(status);
                tokio::select! {
                    () = sleep(LOOK) => {}
                    () = told.closed() => return,
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(waiting))))
    }
}
