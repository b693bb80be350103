//! gRPC over TLS: who shows a certificate, who shows a token, and who shows nothing.

use crate::common;
use crate::pki;
use bulkhead_daemon::{Api, Config, start};
use bulkhead_driver_sim::Fabric;
use bulkhead_proto::v1;
use bulkhead_types::TokenQuestion;
use common::{ask, question, secured};
use hyper_util::rt::TokioIo;
use pki::Pki;
use prost::Message;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::HealthCheckRequest;
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_request::MessageRequest};

/// Longest that anything may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client that believes `ca` and may show a certificate and a token.
struct Client {
    channel: Channel,
    token: Option<String>,
}

impl Client {
    async fn connect(to: SocketAddr, ca: &Path, shows: Option<&bulkhead_tls::Files>, token: Option<&str>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        let mut config = match shows {
            None => config.with_no_client_auth(),
            Some(files) => {
                let chain = CertificateDer::pem_file_iter(&files.certificate).unwrap().map(Result::unwrap).collect();
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsConnector::from(Arc::new(config));
        let connector = tower::service_fn(move |_| {
            let tls = tls.clone();
            async move {
                let name = ServerName::try_from("localhost").unwrap();
                tls.connect(name, TcpStream::connect(to).await?).await.map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_shared(format!("http://localhost:{}", to.port())).unwrap();
        let channel = endpoint.connect_with_connector(connector).await.unwrap();
        Self { channel, token: token.map(str::to_owned) }
    }

    /// Asks, and gives what comes.
    async fn stream<Q, A>(&self, method: &str, asked: Q) -> Result<Streaming<A>, Status>
    where
        Q: Message + Default + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut request = Request::new(tokio_stream::once(asked));
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path = PathAndQuery::try_from(format!("/{method}")).unwrap();
        let told = timeout(PATIENCE, grpc.streaming(request, path, ProstCodec::<Q, A>::default())).await.unwrap()?;
        Ok(told.into_inner())
    }

    /// The first that comes.
    async fn call<Q, A>(&self, method: &str, asked: Q) -> Result<A, Status>
    where
        Q: Message + Default + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        next(&mut self.stream(method, asked).await?).await
    }
}

async fn next<A>(told: &mut Streaming<A>) -> Result<A, Status> {
    timeout(PATIENCE, told.message()).await.unwrap().map(Option::unwrap)
}

fn set(name: &str) -> v1::DocumentsRequest {
    let documents = format!("kind: AddressSet\nmetadata: {{name: {name}}}\nspec: {{cidrs: [192.0.2.0/24]}}\n");
    v1::DocumentsRequest { documents, ..Default::default() }
}

fn get(name: &str) -> v1::GetRequest {
    v1::GetRequest { kind: "AddressSet".into(), name: name.into() }
}

#[tokio::test]
async fn grpc_over_tls_is_for_who_shows_a_certificate_or_a_token() {
    let (directory, pki, clients) = (tempfile::tempdir().unwrap(), Pki::new(), Pki::new());
    let files = pki.files("localhost");
    let (ca, own) = (files.ca.clone(), Some((files.certificate, files.key)));
    let api = Api::Tls { own, client_ca: Some(clients.path("ca.pem")) };
    let config = Config { api, ..secured(directory.path()) };
    let daemon = start(&config, Fabric::default()).await.unwrap();
    let local = common::local_token(&config);
    let root = bulkhead_client::Client::secure(
        &format!("https://localhost:{}", daemon.listen.port()),
        &bulkhead_client::Security { ca: Some(std::fs::read_to_string(&ca).unwrap()), ..Default::default() },
    );
    let root = root.unwrap().with_token(&local);
    let token = ask(move || {
        let by_certificate = TokenQuestion { certificate: true, ..question("ops", "operator") };
        root.create_token(&by_certificate).unwrap();
        root.create_token(&question("ci", "operator")).unwrap().token
    })
    .await;

    let shown = clients.files("ops");
    let certificate = Client::connect(daemon.listen, &ca, Some(&shown), None).await;
    let token = Client::connect(daemon.listen, &ca, None, Some(&token)).await;
    for (client, name) in [(&certificate, "by-certificate"), (&token, "by-token")] {
        let asked = HealthCheckRequest { service: String::new() };
        let health: tonic_health::pb::HealthCheckResponse =
            client.call("grpc.health.v1.Health/Check", asked).await.unwrap();
        assert_eq!(health.status, 1);
        let list = MessageRequest::ListServices(String::new());
        let asked = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
        let told: tonic_reflection::pb::v1::ServerReflectionResponse =
            client.call("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", asked).await.unwrap();
        assert!(format!("{told:?}").contains("bulkhead.v1.Resources"), "{told:?}");
        let since = v1::WatchRequest { kinds: vec!["addresssets".into()], ..Default::default() };
        let mut watch: Streaming<v1::WatchAnswer> = client.stream("bulkhead.v1.Resources/Watch", since).await.unwrap();
        assert!(next(&mut watch).await.unwrap().events.is_empty());
        let done: v1::ChangeAnswer = client.call("bulkhead.v1.Resources/Apply", set(name)).await.unwrap();
        let told = next(&mut watch).await.unwrap();
        assert_eq!((told.at, told.events[0].resource.as_ref().unwrap().name.as_str()), (Some(done.revision), name));
        let there: v1::Resource = client.call("bulkhead.v1.Resources/Get", get(name)).await.unwrap();
        assert_eq!((there.name.as_str(), there.resource_version), (name, done.revision));
        let none = client.call::<_, v1::TokenList>("bulkhead.v1.Access/ListTokens", v1::ListTokensRequest {}).await;
        assert_eq!(none.unwrap_err().code(), Code::PermissionDenied);
    }

    // Who shows nothing, a certificate that is nobody's, or a token that is none, hears that it is up, and nothing else.
    let stranger = clients.files("stranger");
    for (shown, token) in [(None, None), (Some(&stranger), None), (Some(&shown), Some("bulkhead_0_0"))] {
        let client = Client::connect(daemon.listen, &ca, shown, token).await;
        let asked = HealthCheckRequest { service: String::new() };
        let health: tonic_health::pb::HealthCheckResponse =
            client.call("grpc.health.v1.Health/Check", asked).await.unwrap();
        assert_eq!(health.status, 1);
        let refused = [
            client.call::<_, v1::Resource>("bulkhead.v1.Resources/Get", get("by-token")).await.unwrap_err(),
            client.call::<_, v1::ChangeAnswer>("bulkhead.v1.Resources/Apply", set("x")).await.unwrap_err(),
            client
                .stream::<_, v1::WatchAnswer>("bulkhead.v1.Resources/Watch", v1::WatchRequest::default())
                .await
                .unwrap_err(),
        ];
        assert_eq!(refused.map(|status| status.code()), [Code::Unauthenticated; 3]);
    }
    daemon.stop().await.unwrap();
}
