//! The server: gRPC, and tasks for what a device tells by itself.

use crate::{
    Forward, Told,
    arbiter::{Arbiter, Notices, SessionId},
    device::{Device, Refused},
    digests::Digests,
};
use bulkhead_p4runtime::{
    client::MAX_MESSAGE,
    proto::p4::v1::{
        CapabilitiesRequest, CapabilitiesResponse, DigestListAck, DigestListAckError,
        GetForwardingPipelineConfigRequest, GetForwardingPipelineConfigResponse, PacketOut, PacketOutError,
        ReadRequest, ReadResponse, SetForwardingPipelineConfigRequest, SetForwardingPipelineConfigResponse,
        StreamError, StreamMessageRequest, StreamMessageResponse, Uint128, WriteRequest, WriteResponse,
        p4_runtime_server::{P4Runtime, P4RuntimeServer},
        stream_error::Details,
        stream_message_request as request, stream_message_response as response,
    },
};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

/// The version that is spoken.
const VERSION: &str = "1.4.0";

/// Most messages that wait for a controller to take them. Packets and digests beyond that are lost, as the specification
/// allows; a controller that cannot even be told who is primary loses its stream.
const OUT_QUEUE: usize = 256;

/// Most streams, with those that have not said yet for what they stand.
const MAX_STREAMS: usize = 64;

/// Most calls of a connection at a time.
const MAX_CALLS: u32 = 64;

/// Most calls of a connection that were taken back and are not forgotten yet (RFC 9113 §10.5).
const MAX_RESETS: usize = 64;

/// Most entities in one part of an answer.
const READ_PART: usize = 1000;

/// How long the calls under way may take when the server ends.
const STOP_TIME: Duration = Duration::from_secs(5);

type OutSender = mpsc::Sender<Result<StreamMessageResponse, Status>>;

/// A running server.
#[derive(Debug)]
pub struct Target {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    served: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Target {
    /// Serves one device with this number, on `listen`; port 0 is any free one. What `told` gives goes to the primary.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(
        listen: SocketAddr,
        device: u64,
        forward: Box<dyn Forward>,
        told: mpsc::Receiver<Told>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let inner = Inner {
            arbiter: Arbiter::new(device),
            device: Device::new(forward),
            digests: Digests::default(),
            streams: BTreeMap::new(),
            sessions: 0,
        };
        let shared = Arc::new(Shared { device, started: Instant::now(), inner: Mutex::new(inner), stopped });
        tokio::spawn(tell(Arc::clone(&shared), told));
        let service = Service { shared: Arc::clone(&shared) };
        let service = P4RuntimeServer::new(service).max_decoding_message_size(MAX_MESSAGE);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serve = async move {
            let mut stopped = shared.stopped.clone();
            let ended = async move {
                // An error is that the `Target` was dropped, which ends it too.
                let _ = stopped.wait_for(|stopped| *stopped).await;
            };
            let mut server = Server::builder()
                .max_concurrent_streams(Some(MAX_CALLS))
                .http2_max_pending_accept_reset_streams(Some(MAX_RESETS));
            server.add_service(service).serve_with_incoming_shutdown(incoming, ended).await
        };
        Ok(Self { address, stop, served: tokio::spawn(serve) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it; all streams end. What it kept is gone.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        // Whether calls under way were finished is all the same now.
        let _ = tokio::time::timeout(STOP_TIME, self.served).await;
    }
}

#[derive(Debug)]
struct Shared {
    device: u64,
    started: Instant,
    inner: Mutex<Inner>,
    stopped: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Inner {
    arbiter: Arbiter,
    device: Device,
    digests: Digests,
    streams: BTreeMap<SessionId, OutSender>,
    /// How many streams there ever were.
    sessions: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in a call must not end all others with it; a device has no state that is wrong in between.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The first checks of every call that changes something, in the specification's order (P4Runtime §12, §14).
    fn may_write(&self, inner: &Inner, device: u64, role: &str, id: Option<Uint128>) -> Result<(), Status> {
        self.is_mine(device)?;
        if !role.is_empty() {
            return Err(Status::not_found("there is only the default role"));
        }
        if inner.arbiter.may_write(id) { Ok(()) } else { Err(Status::permission_denied("not the primary")) }
    }

    fn is_mine(&self, device: u64) -> Result<(), Status> {
        if device == self.device { Ok(()) } else { Err(Status::not_found(format!("there is no device {device}"))) }
    }
}

impl Inner {
    /// Something that may change who is primary; those whom it concerns are told.
    fn arbitrate(&mut self, how: impl FnOnce(&mut Arbiter) -> Result<Notices, Status>) -> Result<(), Status> {
        let before = self.arbiter.primary();
        let notices = how(&mut self.arbiter)?;
        if self.arbiter.primary() != before {
            // The new one was told of no digests yet.
            self.digests.forget();
        }
        for (session, notice) in notices {
            self.send(session, response::Update::Arbitration(notice));
        }
        Ok(())
    }

    fn send(&mut self, session: SessionId, update: response::Update) {
        let keep = !matches!(update, response::Update::Arbitration(_));
        let Some(stream) = self.streams.get(&session) else { return };
        let sent = stream.try_send(Ok(StreamMessageResponse { update: Some(update) }));
        if sent.is_err() && !keep {
            self.streams.remove(&session);
        }
    }

    fn send_to_primary(&mut self, update: response::Update) {
        if let Some(primary) = self.arbiter.primary() {
            self.send(primary, update);
        }
    }

    /// Something on a stream was wrong (P4Runtime §16.5).
    fn complain(&mut self, session: SessionId, refused: Refused, details: Option<Details>) {
        let error =
            StreamError { canonical_code: refused.code as i32, message: refused.why, details, ..Default::default() };
        self.send(session, response::Update::Error(error));
    }

    fn packet_out(&mut self, session: SessionId, packet: PacketOut) {
        let done = match self.arbiter.primary() == Some(session) {
            true => self.device.packet_out(packet.clone()),
            false => Err(Refused { code: Code::PermissionDenied, why: "not the primary".to_owned() }),
        };
        if let Err(refused) = done {
            let details = Details::PacketOut(PacketOutError { packet_out: Some(packet) });
            self.complain(session, refused, Some(details));
        }
    }

    fn acknowledged(&mut self, session: SessionId, ack: DigestListAck) {
        if self.device.info().and_then(|info| info.digest(ack.digest_id)).is_some() {
            return self.digests.acknowledged(&ack);
        }
        let refused = Refused { code: Code::InvalidArgument, why: format!("there is no digest {:#x}", ack.digest_id) };
        let details = Details::DigestListAck(DigestListAckError { digest_list_ack: Some(ack) });
        self.complain(session, refused, Some(details));
    }

    fn told(&mut self, told: Told, now: Duration) {
        match told {
            Told::Packet(packet) => self.send_to_primary(response::Update::Packet(packet)),
            Told::Digest { digest, data } => {
                let Some(config) = self.device.digest_config(digest) else { return };
                if let Some(list) = self.digests.told(digest, data, &config, now) {
                    self.send_to_primary(response::Update::Digest(list));
                }
            }
        }
    }

    fn digests_due(&mut self, now: Duration) {
        let Self { digests, device, .. } = self;
        for list in digests.due(now, |digest| device.digest_config(digest)) {
            self.send_to_primary(response::Update::Digest(list));
        }
    }
}

/// Carries what the forwarding side tells, and lists of digests when they are due, until the server ends.
async fn tell(shared: Arc<Shared>, mut told: mpsc::Receiver<Told>) {
    let mut stopped = shared.stopped.clone();
    let mut open = true;
    loop {
        let due = shared.lock().digests.next_due();
        let wait = due.map(|due| due.saturating_sub(shared.now()));
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            one = told.recv(), if open => match one {
                Some(one) => shared.lock().told(one, shared.now()),
                None => open = false,
            },
            () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)), if wait.is_some() => {
                shared.lock().digests_due(shared.now());
            }
        }
    }
}

/// Reads a controller's stream until it is over.
async fn listen(shared: Arc<Shared>, session: SessionId, mut from: Streaming<StreamMessageRequest>) {
    let mut stopped = shared.stopped.clone();
    loop {
        let message = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            message = from.message() => message,
        };
        let Ok(Some(message)) = message else { break };
        let mut inner = shared.lock();
        match message.update {
            Some(request::Update::Arbitration(update)) => {
                if let Err(status) = inner.arbitrate(|arbiter| arbiter.received(session, &update)) {
                    if let Some(stream) = inner.streams.get(&session) {
                        // Whether it hears the reason or only the end is not ours to ensure.
                        let _ = stream.try_send(Err(status));
                    }
                    break;
                }
            }
            Some(request::Update::Packet(packet)) => inner.packet_out(session, packet),
            Some(request::Update::DigestAck(ack)) => inner.acknowledged(session, ack),
            Some(request::Update::Other(_)) | None => {
                let why = "nothing that is known".to_owned();
                inner.complain(session, Refused { code: Code::Unimplemented, why }, None);
            }
        }
    }
    let mut inner = shared.lock();
    inner.streams.remove(&session);
    // Leaving is never refused.
    let _ = inner.arbitrate(|arbiter| Ok(arbiter.left(session)));
}

struct Service {
    shared: Arc<Shared>,
}

#[tonic::async_trait]
impl P4Runtime for Service {
    async fn write(&self, request: Request<WriteRequest>) -> Result<Response<WriteResponse>, Status> {
        let request = request.into_inner();
        let atomicity = request.atomicity();
        let mut inner = self.shared.lock();
        self.shared.may_write(&inner, request.device_id, &request.role, request.election_id)?;
        inner.device.write(request.updates, atomicity)?;
        Ok(Response::new(WriteResponse {}))
    }

    type ReadStream = tokio_stream::Iter<std::vec::IntoIter<Result<ReadResponse, Status>>>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        self.shared.is_mine(request.device_id)?;
        if !request.role.is_empty() {
            return Err(Status::not_found("there is only the default role"));
        }
        let (mut read, result) = self.shared.lock().device.read(&request.entities);
        let mut parts = Vec::new();
        while !read.is_empty() {
            let rest = read.split_off(read.len().min(READ_PART));
            parts.push(Ok(ReadResponse { entities: std::mem::replace(&mut read, rest) }));
        }
        parts.extend(result.err().map(Err));
        Ok(Response::new(tokio_stream::iter(parts)))
    }

    async fn set_forwarding_pipeline_config(
        &self,
        request: Request<SetForwardingPipelineConfigRequest>,
    ) -> Result<Response<SetForwardingPipelineConfigResponse>, Status> {
        let request = request.into_inner();
        let action = request.action();
        let mut inner = self.shared.lock();
        self.shared.may_write(&inner, request.device_id, &request.role, request.election_id)?;
        inner.device.set_program(action, request.config)?;
        inner.digests.forget();
        Ok(Response::new(SetForwardingPipelineConfigResponse {}))
    }

    async fn get_forwarding_pipeline_config(
        &self,
        request: Request<GetForwardingPipelineConfigRequest>,
    ) -> Result<Response<GetForwardingPipelineConfigResponse>, Status> {
        let request = request.into_inner();
        self.shared.is_mine(request.device_id)?;
        let config = self.shared.lock().device.get_program(request.response_type());
        Ok(Response::new(GetForwardingPipelineConfigResponse { config }))
    }

    type StreamChannelStream = ReceiverStream<Result<StreamMessageResponse, Status>>;

    async fn stream_channel(
        &self,
        request: Request<Streaming<StreamMessageRequest>>,
    ) -> Result<Response<Self::StreamChannelStream>, Status> {
        let (out, queue) = mpsc::channel(OUT_QUEUE);
        let session = {
            let mut inner = self.shared.lock();
            if inner.streams.len() >= MAX_STREAMS {
                return Err(Status::resource_exhausted(format!("there are {MAX_STREAMS} streams already")));
            }
            inner.sessions += 1;
            let session = inner.sessions;
            inner.streams.insert(session, out);
            session
        };
        tokio::spawn(listen(Arc::clone(&self.shared), session, request.into_inner()));
        Ok(Response::new(ReceiverStream::new(queue)))
    }

    async fn capabilities(&self, _: Request<CapabilitiesRequest>) -> Result<Response<CapabilitiesResponse>, Status> {
        Ok(Response::new(CapabilitiesResponse { p4runtime_api_version: VERSION.to_owned() }))
    }
}
