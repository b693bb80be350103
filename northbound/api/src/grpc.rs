//! gRPC (`bulkhead.v1`), on the same port: other words for the same services.
//!
//! Nothing is decided here. A method makes its question into that of [`Service`], and the answer into a message.

mod access;
mod fabric;
mod health;
mod questions;
mod resources;
mod revisions;
mod status;

pub(crate) use status::{spoken, wrong};

use crate::{
    Backend,
    body::body,
    gate::{self, Needs, Who},
    problem::Failure,
    service::Service,
};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, post_service},
};
use bulkhead_proto::{
    DESCRIPTORS, message,
    v1::{
        access_server::AccessServer, fabric_server::FabricServer, questions_server::QuestionsServer,
        resources_server::ResourcesServer, revisions_server::RevisionsServer,
    },
};
use bulkhead_types::MAX_INPUT;
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Request as Asked, Response as Told, Status};

/// The services' side of a controller.
#[derive(Clone)]
struct Grpc<B>(Service<B>);

/// Every method, and what it takes to be answered.
const METHODS: [(&str, Needs); 34] = [
    ("bulkhead.v1.Resources/Get", Needs::Look),
    ("bulkhead.v1.Resources/List", Needs::Look),
    ("bulkhead.v1.Resources/Put", Needs::Change),
    ("bulkhead.v1.Resources/Patch", Needs::Change),
    ("bulkhead.v1.Resources/Delete", Needs::Change),
    ("bulkhead.v1.Resources/Apply", Needs::Change),
    ("bulkhead.v1.Resources/Remove", Needs::Change),
    ("bulkhead.v1.Resources/Watch", Needs::Look),
    ("bulkhead.v1.Questions/Reach", Needs::Ask),
    ("bulkhead.v1.Questions/Trace", Needs::Ask),
    ("bulkhead.v1.Questions/Matrix", Needs::Ask),
    ("bulkhead.v1.Revisions/History", Needs::Ask),
    ("bulkhead.v1.Revisions/Diff", Needs::Ask),
    ("bulkhead.v1.Revisions/Rollback", Needs::Change),
    ("bulkhead.v1.Revisions/Realization", Needs::Ask),
    ("bulkhead.v1.Revisions/Backup", Needs::Backup),
    ("bulkhead.v1.Revisions/Restore", Needs::Restore),
    ("bulkhead.v1.Fabric/Status", Needs::Ask),
    ("bulkhead.v1.Fabric/Topology", Needs::Ask),
    ("bulkhead.v1.Fabric/Path", Needs::Ask),
    ("bulkhead.v1.Fabric/Ports", Needs::Ask),
    ("bulkhead.v1.Fabric/Attachments", Needs::Ask),
    ("bulkhead.v1.Fabric/Hits", Needs::Ask),
    ("bulkhead.v1.Fabric/Metrics", Needs::Ask),
    ("bulkhead.v1.Fabric/Vtep", Needs::Agent),
    ("bulkhead.v1.Fabric/ReportVtep", Needs::Agent),
    ("bulkhead.v1.Access/ListTokens", Needs::Tokens),
    ("bulkhead.v1.Access/CreateToken", Needs::Tokens),
    ("bulkhead.v1.Access/RevokeToken", Needs::Tokens),
    ("bulkhead.v1.Access/Audit", Needs::Audit),
    ("grpc.health.v1.Health/Check", Needs::Nothing),
    ("grpc.health.v1.Health/Watch", Needs::Look),
    (REFLECTION, Needs::Look),
    (OLD_REFLECTION, Needs::Look),
];
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// The same under its first name, which is all that grpcurl before 1.8.8 and gRPC's own library for Python ask for.
const OLD_REFLECTION: &str = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
/// Those whose requests come in parts.
const IN_PARTS: [&str; 3] = ["bulkhead.v1.Revisions/Restore", REFLECTION, OLD_REFLECTION];

/// Every method, as `PACKAGE.SERVICE/METHOD`.
pub fn methods() -> Vec<&'static str> {
    METHODS.map(|(method, _)| method).into()
}

/// All methods, each behind its gate. There is none without something said of who is answered.
pub(crate) fn routes<B: Backend>(mut router: Router<Service<B>>, service: &Service<B>) -> Router<Service<B>> {
    let grpc = Grpc(service.clone());
    let resources = ResourcesServer::new(grpc.clone()).max_decoding_message_size(MAX_INPUT);
    let questions = QuestionsServer::new(grpc.clone());
    let revisions = RevisionsServer::new(grpc.clone());
    let fabric = FabricServer::new(grpc.clone());
    let access = AccessServer::new(grpc.clone());
    let health = tonic_health::pb::health_server::HealthServer::new(grpc);
    for (method, needs) in METHODS {
        let served: MethodRouter<Service<B>> = match method.split('/').next().unwrap_or_default() {
            "bulkhead.v1.Resources" => post_service(resources.clone()),
            "bulkhead.v1.Questions" => post_service(questions.clone()),
            "bulkhead.v1.Revisions" => post_service(revisions.clone()),
            "bulkhead.v1.Fabric" => post_service(fabric.clone()),
            "bulkhead.v1.Access" => post_service(access.clone()),
            "grpc.health.v1.Health" => post_service(health.clone()),
            "grpc.reflection.v1alpha.ServerReflection" => match described()
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
                .build_v1alpha()
            {
                Ok(reflection) => post_service(reflection),
                Err(_) => continue,
            },
            _ => match described()
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
                .build_v1()
            {
                Ok(reflection) => post_service(reflection),
                // The descriptors are those that the program was built with.
                Err(_) => continue,
            },
        };
        let served = match IN_PARTS.contains(&method) {
            true => served,
            false => served.route_layer(middleware::from_fn(whole)),
        };
        let gate = middleware::from_fn_with_state((service.backend.clone(), needs), gate::pass::<B>);
        router = router.route(&format!("/{method}"), served.route_layer(gate));
    }
    router
}

fn described() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Reads a request to its end, with the limits of all others.
async fn whole(request: Request, next: Next) -> Response {
    let (parts, content) = request.into_parts();
    let asked = Request::from_parts(parts.clone(), content);
    match body(asked).await {
        Ok(whole) => next.run(Request::from_parts(parts, Body::from(Bytes::from_owner(whole)))).await,
        Err(failure) => failure.into_response(),
    }
}

/// Who asks. Requests without him have not come through the gate.
fn who<T>(request: &Asked<T>) -> Result<Who, Status> {
    request.extensions().get::<Who>().cloned().ok_or_else(|| Status::internal("nobody asks"))
}

/// A public type from a message.
fn asked<M: Serialize, T: DeserializeOwned>(message_: &M) -> Result<T, Status> {
    message(message_).map_err(|error| Failure::bad(error.to_string()).into())
}

/// A message from a public type.
fn written<T: Serialize, M: DeserializeOwned>(value: &T) -> Result<M, Failure> {
    message(value).map_err(|error| Failure::internal(error.to_string()))
}

/// The answer.
fn told<T: Serialize, M: DeserializeOwned>(value: Result<T, Failure>) -> Result<Told<M>, Status> {
    Ok(Told::new(written(&value?)?))
}

/// A text, if there is one: in messages none and an empty one are the same.
fn some(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}

/// A number as large as memory.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
