//! A gRPC client that knows nothing but an address.

use crate::common::Fake;
use bulkhead_api::{Door, serve};
use prost::{
    Message as _,
    bytes::{Buf as _, BufMut as _},
};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde_json::Value;
use std::time::Duration;
use tokio::{sync::oneshot, time::timeout};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest as Ask, server_reflection_response::MessageResponse as Told,
};

/// Longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves a controller, until what is given is dropped.
pub async fn served(fake: Fake) -> (Client, oneshot::Sender<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(serve(listener, Door::Plain, fake, async { drop(stopped.await) }));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    (Client::of(channel).await, stop)
}

#[derive(Clone)]
pub struct Client {
    channel: Channel,
    pool: DescriptorPool,
    services: Vec<String>,
    token: String,
}

/// Messages of one method.
struct Dynamic {
    answer: MessageDescriptor,
}

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Written;
    type Decoder = Read;

    fn encoder(&mut self) -> Written {
        Written
    }

    fn decoder(&mut self) -> Read {
        Read(self.answer.clone())
    }
}

struct Written;

impl Encoder for Written {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item.encode_to_vec());
        Ok(())
    }
}

struct Read(MessageDescriptor);

impl Decoder for Read {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        DynamicMessage::decode(self.0.clone(), bytes).map(Some).map_err(|e| Status::internal(e.to_string()))
    }
}

/// As JSON, with everything that is there or has a value by default, numbers as numbers.
fn shown(message: &DynamicMessage) -> Value {
    let options = SerializeOptions::new().skip_default_fields(false).stringify_64_bit_integers(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).unwrap()
}

impl Client {
    async fn of(channel: Channel) -> Self {
        let mut client = ServerReflectionClient::new(channel.clone());
        let mut ask = async |ask: Ask| {
            let asked = ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
            let mut told = client.server_reflection_info(tokio_stream::iter([asked])).await.unwrap().into_inner();
            told.message().await.unwrap().unwrap().message_response.unwrap()
        };
        let Told::ListServicesResponse(list) = ask(Ask::ListServices(String::new())).await else { panic!() };
        let services: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
        let mut pool = DescriptorPool::new();
        for service in &services {
            let Told::FileDescriptorResponse(files) = ask(Ask::FileContainingSymbol(service.clone())).await else {
                panic!()
            };
            // A file comes alone: it is asked for what it needs.
            let mut open = files.file_descriptor_proto;
            let mut found = Vec::new();
            while let Some(file) = open.pop() {
                let file = prost_reflect::prost_types::FileDescriptorProto::decode(&file[..]).unwrap();
                for name in &file.dependency {
                    let Told::FileDescriptorResponse(files) = ask(Ask::FileByFilename(name.clone())).await else {
                        panic!()
                    };
                    open.extend(files.file_descriptor_proto);
                }
                found.push(file);
            }
            pool.add_file_descriptor_protos(found).unwrap();
        }
        Self { channel, pool, services, token: String::new() }
    }

    pub fn with_token(mut self, token: &str) -> Self {
        self.token = token.into();
        self
    }

    /// Every method, as `SERVICE/METHOD`.
    pub fn methods(&self) -> Vec<String> {
        let services = self.services.iter().map(|name| self.pool.get_service_by_name(name).unwrap());
        let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
        methods.map(|method| format!("{}/{}", method.parent_service().full_name(), method.name())).collect()
    }

    fn method(&self, method: &str) -> MethodDescriptor {
        let (service, name) = method.split_once('/').unwrap();
        let service = self.pool.get_service_by_name(service).unwrap();
        service.methods().find(|method| method.name() == name).unwrap()
    }

    fn request<T>(&self, content: T) -> Request<T> {
        let mut request = Request::new(content);
        if !self.token.is_empty() {
            request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        }
        request
    }

    /// Asks, and gives up to so many answers, whichever sort of method it is.
    pub async fn stream(&self, method: &str, asked: Vec<Value>, count: usize) -> Result<Vec<Value>, Status> {
        let descriptor = self.method(method);
        let message = |value: Value| DynamicMessage::deserialize(descriptor.input(), value).unwrap();
        let asked: Vec<DynamicMessage> = asked.into_iter().map(message).collect();
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path: PathAndQuery = format!("/{method}").parse().unwrap();
        let codec = Dynamic { answer: descriptor.output() };
        let told = timeout(PATIENCE, async {
            let answers = grpc.streaming(self.request(tokio_stream::iter(asked)), path, codec).await?;
            taken(answers.into_inner(), count).await
        });
        told.await.unwrap()
    }

    pub async fn call(&self, method: &str, asked: Value) -> Result<Value, Status> {
        Ok(self.stream(method, vec![asked], 1).await?.remove(0))
    }

    /// What is said of a method that is not there.
    pub async fn unknown(&self, path: &'static str) -> Status {
        let descriptor = self.method("bulkhead.v1.Resources/Get");
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let asked = self.request(DynamicMessage::new(descriptor.input()));
        let codec = Dynamic { answer: descriptor.output() };
        grpc.unary(asked, PathAndQuery::from_static(path), codec).await.unwrap_err()
    }

    /// The problem document among the details of an error.
    pub fn problem(&self, status: &Status) -> Value {
        #[derive(Clone, PartialEq, prost::Message)]
        struct Rich {
            #[prost(int32, tag = "1")]
            code: i32,
            #[prost(message, repeated, tag = "3")]
            details: Vec<prost_types::Any>,
        }
        let rich = Rich::decode(status.details()).unwrap();
        assert_eq!(rich.code, i32::from(status.code()));
        let [detail] = rich.details.as_slice() else { panic!("{status:?}") };
        let name = detail.type_url.strip_prefix("type.googleapis.com/").unwrap();
        let descriptor = self.pool.get_message_by_name(name).unwrap();
        shown(&DynamicMessage::decode(descriptor, &detail.value[..]).unwrap())
    }
}

async fn taken(
    mut answers: impl Stream<Item = Result<DynamicMessage, Status>> + Unpin,
    count: usize,
) -> Result<Vec<Value>, Status> {
    let mut told = Vec::new();
    while told.len() < count
        && let Some(answer) = answers.next().await
    {
        told.push(shown(&answer?));
    }
    Ok(told)
}
