//! Devices that do not do what devices do: the client says what is wrong, and in time.

use crate::support::{DEVICE, any_port, insert_into, soon, tiny};
use bulkhead_p4runtime::{
    ArbitrationError, Client, ElectionId, Error, Stream,
    client::MAX_MESSAGE,
    notice,
    proto::{
        google::rpc,
        p4::v1::{
            self as p4, CapabilitiesRequest, CapabilitiesResponse, Entity, GetForwardingPipelineConfigRequest,
            GetForwardingPipelineConfigResponse, ReadRequest, ReadResponse, SetForwardingPipelineConfigRequest,
            SetForwardingPipelineConfigResponse, StreamMessageRequest, StreamMessageResponse, TableEntry, WriteRequest,
            WriteResponse,
            entity::Entity as Kind,
            p4_runtime_server::{P4Runtime, P4RuntimeServer},
            stream_message_response as response,
            write_request::Atomicity,
        },
    },
    testing::Random,
};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_stream::Iter;
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// It tells about another device.
    OtherDevice,
    /// It says that we are primary with an id that is not ours.
    OtherId,
    /// It ends the stream at once.
    Nothing,
    /// It never answers on the stream.
    Silence,
    /// It has a result too many.
    Results,
    /// It has results without an end.
    LongResults,
    /// It answers a read with one part that is too large.
    LargePart,
}

struct Liar(Lie);

type Told = Result<StreamMessageResponse, Status>;

#[tonic::async_trait]
impl P4Runtime for Liar {
    async fn write(&self, _: Request<WriteRequest>) -> Result<Response<WriteResponse>, Status> {
        let many = if self.0 == Lie::LongResults { 20_000 } else { 2 };
        let error = p4::Error { canonical_code: 6, message: "x".repeat(200), ..Default::default() };
        let type_url = "type.googleapis.com/p4.v1.Error".to_owned();
        let details = vec![prost_types::Any { type_url, value: error.encode_to_vec() }; many];
        let status = rpc::Status { code: 2, message: String::new(), details };
        Err(Status::with_details(Code::Unknown, "some failed", status.encode_to_vec().into()))
    }

    type ReadStream = Iter<std::vec::IntoIter<Result<ReadResponse, Status>>>;

    async fn read(&self, _: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let entry = TableEntry { metadata: vec![1; MAX_MESSAGE], ..Default::default() };
        let entities = vec![Entity { entity: Some(Kind::TableEntry(entry)) }];
        Ok(Response::new(tokio_stream::iter(vec![Ok(ReadResponse { entities })])))
    }

    async fn set_forwarding_pipeline_config(
        &self,
        _: Request<SetForwardingPipelineConfigRequest>,
    ) -> Result<Response<SetForwardingPipelineConfigResponse>, Status> {
        Err(Status::internal("x".repeat(5000)))
    }

    async fn get_forwarding_pipeline_config(
        &self,
        _: Request<GetForwardingPipelineConfigRequest>,
    ) -> Result<Response<GetForwardingPipelineConfigResponse>, Status> {
        Ok(Response::new(GetForwardingPipelineConfigResponse::default()))
    }

    type StreamChannelStream = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Told> + Send>>;

    async fn stream_channel(
        &self,
        _: Request<Streaming<StreamMessageRequest>>,
    ) -> Result<Response<Self::StreamChannelStream>, Status> {
        let told = |device, id| {
            let update = notice(device, Some(ElectionId(id)), Code::Ok, "");
            Ok(StreamMessageResponse { update: Some(response::Update::Arbitration(update)) })
        };
        let told = match self.0 {
            Lie::Nothing => vec![],
            Lie::OtherDevice => vec![told(DEVICE + 1, 1)],
            Lie::OtherId => vec![told(DEVICE, 2)],
            Lie::Silence => return Ok(Response::new(Box::pin(tokio_stream::pending()))),
            _ => vec![told(DEVICE, 1)],
        };
        Ok(Response::new(Box::pin(tokio_stream::iter(told))))
    }

    async fn capabilities(&self, _: Request<CapabilitiesRequest>) -> Result<Response<CapabilitiesResponse>, Status> {
        Ok(Response::new(CapabilitiesResponse { p4runtime_api_version: "x".repeat(5000) }))
    }
}

async fn meet(lie: Lie) -> Result<(Client, Stream), Error> {
    soon("an answer", meet_unhurried(lie)).await
}

async fn meet_unhurried(lie: Lie) -> Result<(Client, Stream), Error> {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let incoming = TcpIncoming::from(listener);
    tokio::spawn(Server::builder().add_service(P4RuntimeServer::new(Liar(lie))).serve_with_incoming(incoming));
    Client::connect(&address, DEVICE, ElectionId(1)).await
}

#[tokio::test]
async fn lies_about_who_is_primary() {
    let told = |error: Result<(Client, Stream), Error>| match error {
        Err(Error::Arbitration { wrong, .. }) => wrong,
        other => panic!("{other:?}"),
    };
    let wrong = told(meet(Lie::OtherDevice).await);
    assert_eq!(wrong, ArbitrationError::Device { asked: DEVICE, told: DEVICE + 1 });
    let wrong = told(meet(Lie::OtherId).await);
    assert_eq!(wrong, ArbitrationError::Contradiction { own: ElectionId(1), told: Some(ElectionId(2)) });
    let closed = meet(Lie::Nothing).await;
    assert!(matches!(closed, Err(Error::Closed { .. })), "{closed:?}");
}

#[tokio::test]
async fn results_that_fit_no_batch() {
    let program = tiny();
    let update = || vec![insert_into(program.info(), "ingress.acl", &mut Random(1))];
    let (client, _stream) = meet(Lie::Results).await.unwrap();
    let result = soon("an answer", client.write(program.info(), update(), Atomicity::ContinueOnError)).await;
    assert!(matches!(result, Err(Error::Nonsense { .. })), "{result:?}");
    // What is longer than any batch's results is not even taken; the connection may go with it.
    let (client, _stream) = meet(Lie::LongResults).await.unwrap();
    let result = soon("an answer", client.write(program.info(), update(), Atomicity::ContinueOnError)).await;
    assert!(matches!(result, Err(Error::Call { .. })), "{result:?}");
}

#[tokio::test]
async fn answers_that_are_too_large() {
    let (client, _stream) = meet(Lie::LargePart).await.unwrap();
    let result = soon("an answer", client.read(vec![Entity::default()])).await;
    assert!(matches!(result, Err(Error::Call { code: Code::OutOfRange, .. })), "{:?}", result.map(|read| read.len()));
    assert!(client.version().await.unwrap().len() < 1000, "a text is cut");
    let refused = client.ensure_pipeline(&tiny()).await.unwrap_err();
    assert!(refused.to_string().len() < 1000, "{refused}");
}

/// Time is not real here: it goes on whenever nothing else does.
#[tokio::test(start_paused = true)]
async fn r25_a_p4_switch_that_never_answers_is_given_up() {
    let silent = meet_unhurried(Lie::Silence).await;
    assert!(matches!(silent, Err(Error::TimedOut { .. } | Error::Unreachable { .. })), "{silent:?}");
    // Somebody who accepts connections and says nothing at all.
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let silent = Client::connect(&address, DEVICE, ElectionId(1)).await;
    assert!(matches!(silent, Err(Error::TimedOut { .. } | Error::Unreachable { .. })), "{silent:?}");
}
