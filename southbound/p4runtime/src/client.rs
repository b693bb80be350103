//! A device's calls. [`Client::connect`] gives a [`Client`] for them and a [`Stream`] for what the device tells: who is
//! primary, packets, digests. Both are for one task: it awaits [`Stream::next`] among its other work.
//!
//! Everything is bounded: how long is waited, how large messages are, how much waits to be sent.

use crate::{
    arbitration::{Arbitration, ElectionId},
    check,
    entry::widen_ranges,
    error::{Error, cut},
    info::Info,
    proto::{
        google,
        p4::{
            config::v1::P4Info,
            v1::{
                self as p4, CapabilitiesRequest, Entity, ForwardingPipelineConfig, GetForwardingPipelineConfigRequest,
                ReadRequest, ReadResponse, SetForwardingPipelineConfigRequest, Update, WriteRequest,
                get_forwarding_pipeline_config_request::ResponseType, p4_runtime_client::P4RuntimeClient,
                set_forwarding_pipeline_config_request::Action, write_request::Atomicity,
            },
        },
    },
};
use prost::Message as _;
use siphasher::sip::SipHasher24;
use std::{future::Future, hash::Hasher as _, time::Duration};
use tokio::time::timeout;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

mod stream;

pub use stream::{Event, Stream};

/// How long a connection may take. A device of the same site answers within milliseconds; the system's own limit is
/// minutes.
pub const CONNECT_TIME: Duration = Duration::from_secs(5);

/// How long a call may take, and each part of a read. Slow devices write about a thousand entries in a second, so the
/// largest batch is done in a fraction of it.
pub const CALL_TIME: Duration = Duration::from_secs(30);

/// How long a program may take to be loaded: switching chips are started anew for it.
pub const PIPELINE_TIME: Duration = Duration::from_secs(180);

/// Largest message that is taken from a device, in bytes. Some devices answer a read in one message: this is about half
/// a million entries.
pub const MAX_MESSAGE: usize = 64 << 20;

/// Largest batch that is sent, in bytes as encoded: below the 4 MiB that every gRPC server takes.
pub const MAX_BATCH_BYTES: usize = 3 << 20;

/// Most updates in a batch. Beyond some hundreds a batch is not faster (docs/p4runtime.md), and what a device says of each
/// must fit in [`MAX_HEADERS`].
pub const MAX_BATCH: usize = 1000;

/// Most bytes of what a device says of a batch, which it does in a header: 8 KiB are gRPC's default, and per update a
/// code and a text of up to 300 bytes, in Base64.
pub const MAX_HEADERS: u32 = 8192 + MAX_BATCH as u32 * 500;

/// Most that is taken from one read, in bytes of memory: about two million entries, which no switching chip has.
pub const MAX_READ: usize = 1 << 30;

/// A device that says nothing is asked after this time. By TCP: gRPC servers end connections that ask by HTTP/2 more often
/// than every five minutes.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How long after that it is asked again, and how often before it counts as gone.
const KEEPALIVE_AGAIN: (Duration, u32) = (Duration::from_secs(3), 3);

/// A program for a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    config: ForwardingPipelineConfig,
    cookie: u64,
    info: Info,
}

impl Pipeline {
    /// A program: its P4Info, and what the compiler made for the device.
    ///
    /// # Errors
    /// The P4Info contradicts itself.
    pub fn new(p4info: P4Info, device_config: Vec<u8>) -> Result<Self, Error> {
        let info = Info::new(&p4info)?;
        // Not for secrecy: who may set a program may set this too. Two programs must only not have the same.
        let mut hash = SipHasher24::new();
        hash.write(&p4info.encode_to_vec());
        hash.write(&device_config);
        let cookie = hash.finish();
        let stored = Some(p4::forwarding_pipeline_config::Cookie { cookie });
        let config = ForwardingPipelineConfig { p4info: Some(p4info), p4_device_config: device_config, cookie: stored };
        Ok(Self { config, cookie, info })
    }

    /// By what it is known again: a function of all of it.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// What can be written to it.
    #[must_use]
    pub fn info(&self) -> &Info {
        &self.info
    }

    fn package(&self) -> &str {
        package(&self.config)
    }
}

/// The program's name for itself; may be empty.
fn package(config: &ForwardingPipelineConfig) -> &str {
    config.p4info.as_ref().and_then(|info| info.pkg_info.as_ref()).map_or("", |package| &package.name)
}

/// What [`Client::ensure_pipeline`] had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// Nothing: it is the program that the device has.
    Unchanged,
    /// The program was set, and all entities that were there stay.
    Reconciled,
    /// The program was set, and all entities are gone.
    Replaced,
}

/// What a device says of an update that it did not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateError {
    /// With which code.
    pub code: Code,
    /// The device's reason, cut to a printable length.
    pub why: String,
}

/// Updates that fit a program, to be sent together.
#[derive(Debug)]
pub struct Batch(WriteRequest);

/// A device.
#[derive(Debug, Clone)]
pub struct Client {
    calls: P4RuntimeClient<Channel>,
    address: String,
    device: u64,
    election: ElectionId,
}

impl Client {
    /// Connects to device `device` at `address`, which is HOST:PORT, and stands for primary. What the device says of that is
    /// the stream's [`Stream::standing`].
    ///
    /// # Errors
    /// Nobody is there, or it has no such device (a code of [`Code::NotFound`]), or another live controller has this
    /// election id ([`Code::InvalidArgument`]).
    pub async fn connect(address: &str, device: u64, election: ElectionId) -> Result<(Self, Stream), Error> {
        let wrong = |why: String| Error::Address { address: address.to_owned(), why };
        let (host, port) = address.rsplit_once(':').ok_or_else(|| wrong("no port".to_owned()))?;
        let port: u16 = port.parse().map_err(|_| wrong(format!("{port:?} is no port")))?;
        let endpoint =
            Endpoint::from_shared(format!("http://{host}:{port}")).map_err(|error| wrong(error.to_string()))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIME)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(KEEPALIVE))
            .tcp_keepalive_interval(Some(KEEPALIVE_AGAIN.0))
            .tcp_keepalive_retries(Some(KEEPALIVE_AGAIN.1))
            .http2_max_header_list_size(MAX_HEADERS);
        let unreachable = |error: &dyn std::error::Error| {
            // The cause is what helps; the error itself says "transport error".
            let mut cause = error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            Error::Unreachable { address: address.to_owned(), why: cut(&cause.to_string()) }
        };
        let channel = timeout(CONNECT_TIME, endpoint.connect()).await;
        let channel = channel.map_err(|_| Error::Unreachable {
            address: address.to_owned(),
            why: format!("no answer within {CONNECT_TIME:?}"),
        })?;
        let channel = channel.map_err(|error| unreachable(&error))?;
        let calls = P4RuntimeClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let client = Self { calls, address: address.to_owned(), device, election };
        let stream = Stream::open(&client, Arbitration::new(device, election)).await?;
        Ok((client, stream))
    }

    /// The device's address, as HOST:PORT.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The device's number.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Stands with another election id, on the stream and in all writes from now on.
    ///
    /// # Errors
    /// See [`Stream::stand_again`].
    pub fn stand_again(&mut self, stream: &mut Stream, election: ElectionId) -> Result<(), Error> {
        stream.stand_again(election)?;
        self.election = election;
        Ok(())
    }

    /// Which version of P4Runtime the device speaks.
    ///
    /// # Errors
    /// The device refused or did not answer.
    pub async fn version(&self) -> Result<String, Error> {
        let mut calls = self.calls.clone();
        let answer = self.call("Capabilities", CALL_TIME, calls.capabilities(CapabilitiesRequest {})).await?;
        Ok(cut(&answer.p4runtime_api_version))
    }

    /// By what the device's program is known; `None` if it has none, or one that was set without.
    ///
    /// # Errors
    /// The device refused or did not answer.
    pub async fn cookie(&self) -> Result<Option<u64>, Error> {
        let config = self.config(ResponseType::CookieOnly).await?;
        Ok(config.and_then(|config| config.cookie).map(|cookie| cookie.cookie))
    }

    /// The device's P4Info; `None` if it has no program.
    ///
    /// # Errors
    /// The device refused or did not answer.
    pub async fn p4info(&self) -> Result<Option<P4Info>, Error> {
        Ok(self.config(ResponseType::P4infoAndCookie).await?.and_then(|config| config.p4info))
    }

    async fn config(&self, response_type: ResponseType) -> Result<Option<ForwardingPipelineConfig>, Error> {
        let request =
            GetForwardingPipelineConfigRequest { device_id: self.device, response_type: response_type.into() };
        let mut calls = self.calls.clone();
        let answer = self.call("GetForwardingPipelineConfig", CALL_TIME, calls.get_forwarding_pipeline_config(request));
        match answer.await {
            Ok(answer) => Ok(answer.config),
            // Where there is none, some devices say so with an error.
            Err(Error::Call { code: Code::FailedPrecondition, .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Sees to it that the device has this program, and says what had to be done for it. A program of the same name is
    /// changed to this one with its entities kept, where the device can do that.
    ///
    /// # Errors
    /// The device refused or did not answer.
    pub async fn ensure_pipeline(&self, pipeline: &Pipeline) -> Result<Pushed, Error> {
        let there = self.config(ResponseType::P4infoAndCookie).await?;
        if there.as_ref().and_then(|there| there.cookie).is_some_and(|there| there.cookie == pipeline.cookie) {
            return Ok(Pushed::Unchanged);
        }
        // Entities of a program that somebody else wrote would mean something else in this one.
        let ours = there.is_some_and(|there| !pipeline.package().is_empty() && package(&there) == pipeline.package());
        if ours {
            match self.set_pipeline(pipeline, Action::ReconcileAndCommit).await {
                Ok(()) => return Ok(Pushed::Reconciled),
                // It cannot do this at all, or not between these two programs.
                Err(Error::Call { code: Code::Unimplemented | Code::InvalidArgument | Code::Unknown, .. }) => {}
                Err(other) => return Err(other),
            }
        }
        self.set_pipeline(pipeline, Action::VerifyAndCommit).await?;
        Ok(Pushed::Replaced)
    }

    /// Sets the device's program.
    ///
    /// # Errors
    /// The device refused or did not answer, or the program is too large to be sent.
    pub async fn set_pipeline(&self, pipeline: &Pipeline, action: Action) -> Result<(), Error> {
        let request = SetForwardingPipelineConfigRequest {
            device_id: self.device,
            role: String::new(),
            election_id: Some(self.election.into()),
            action: action.into(),
            config: Some(pipeline.config.clone()),
        };
        let size = request.encoded_len();
        if size > MAX_MESSAGE {
            return Err(Error::TooMuch { what: "bytes of a program", size, most: MAX_MESSAGE });
        }
        let mut calls = self.calls.clone();
        let set = calls.set_forwarding_pipeline_config(request);
        self.call("SetForwardingPipelineConfig", PIPELINE_TIME, set).await?;
        Ok(())
    }

    /// Writes one batch, and says what became of each update. [`batches`] cuts what is larger.
    ///
    /// Nothing is sent if one of them does not fit the program.
    ///
    /// # Errors
    /// See [`Self::batch`] and [`Self::send`].
    pub async fn write(
        &self,
        info: &Info,
        updates: Vec<Update>,
        atomicity: Atomicity,
    ) -> Result<Vec<Result<(), UpdateError>>, Error> {
        self.send(self.batch(info, updates, atomicity)?).await
    }

    /// Makes a batch, for who has something to send meanwhile.
    ///
    /// # Errors
    /// An update does not fit the program, or there are too many.
    pub fn batch(&self, info: &Info, mut updates: Vec<Update>, atomicity: Atomicity) -> Result<Batch, Error> {
        for (at, update) in updates.iter().enumerate() {
            check::update(info, update).map_err(|refusal| Error::Refused { at, refusal })?;
        }
        if updates.len() > MAX_BATCH {
            return Err(Error::TooMuch { what: "updates of a batch", size: updates.len(), most: MAX_BATCH });
        }
        updates.iter_mut().for_each(widen_ranges);
        Ok(Batch(WriteRequest {
            device_id: self.device,
            role: String::new(),
            election_id: Some(self.election.into()),
            updates,
            atomicity: atomicity.into(),
        }))
    }

    /// Sends a batch, and says what became of each update.
    ///
    /// # Errors
    /// The device refused the batch as a whole (it is not for this controller to write: [`Code::PermissionDenied`]; it does
    /// not offer this atomicity: [`Code::Unimplemented`]), or did not answer: then it is not known what was done.
    pub async fn send(&self, batch: Batch) -> Result<Vec<Result<(), UpdateError>>, Error> {
        let many = batch.0.updates.len();
        let mut calls = self.calls.clone();
        let answer = timeout(CALL_TIME, calls.write(batch.0)).await;
        match answer.map_err(|_| self.timed_out("Write", CALL_TIME))? {
            Ok(_) => Ok(vec![Ok(()); many]),
            Err(status) => match each(&status) {
                Some(results) if results.len() == many => Ok(results),
                Some(results) => Err(self.nonsense(format!("{} results of a batch of {many} updates", results.len()))),
                None => Err(self.failed("Write", &status)),
            },
        }
    }

    /// Reads all entities that one of the patterns fits. In a pattern, a part at its default is any.
    ///
    /// # Errors
    /// A pattern is refused, there is more than [`MAX_READ`], or the device did not answer.
    pub async fn read(&self, patterns: Vec<Entity>) -> Result<Vec<Entity>, Error> {
        let request = ReadRequest { device_id: self.device, role: String::new(), entities: patterns };
        let mut calls = self.calls.clone();
        let mut parts = self.call("Read", CALL_TIME, calls.read(request)).await?;
        let mut read = Gathered::default();
        loop {
            let part = timeout(CALL_TIME, parts.message()).await;
            match part.map_err(|_| self.timed_out("Read", CALL_TIME))? {
                Ok(Some(part)) => read.add(part)?,
                Ok(None) => return Ok(read.entities),
                Err(status) => return Err(self.failed("Read", &status)),
            }
        }
    }

    /// An answer in time.
    async fn call<T>(
        &self,
        what: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Error> {
        match timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.failed(what, &status)),
            Err(_) => Err(self.timed_out(what, limit)),
        }
    }

    fn failed(&self, what: &'static str, status: &Status) -> Error {
        // Of a batch whose calls failed as a whole, the first reason says more than "see the details".
        let first = each(status).and_then(|results| results.into_iter().find_map(Result::err));
        let (code, why) = match first {
            Some(first) => (first.code, first.why),
            None => (status.code(), cut(status.message())),
        };
        Error::Call { address: self.address.clone(), device: self.device, what, code, why }
    }

    fn timed_out(&self, what: &'static str, limit: Duration) -> Error {
        Error::TimedOut { address: self.address.clone(), device: self.device, what, limit }
    }

    fn nonsense(&self, why: String) -> Error {
        Error::Nonsense { address: self.address.clone(), device: self.device, why }
    }
}

/// What was read so far.
#[derive(Default)]
struct Gathered {
    entities: Vec<Entity>,
    /// What they take of memory, roughly: an entity has a size of its own, and what hangs on it is about as long as on
    /// the wire.
    bytes: usize,
}

impl Gathered {
    fn add(&mut self, mut part: ReadResponse) -> Result<(), Error> {
        self.bytes += part.encoded_len() + part.entities.len() * size_of::<Entity>();
        if self.bytes > MAX_READ {
            return Err(Error::TooMuch { what: "bytes of a read", size: self.bytes, most: MAX_READ });
        }
        self.entities.append(&mut part.entities);
        Ok(())
    }
}

/// What a device says of each update or pattern of a batch (P4Runtime §12.3), if it does.
fn each(status: &Status) -> Option<Vec<Result<(), UpdateError>>> {
    let details = google::rpc::Status::decode(status.details()).ok()?.details;
    let one = |detail: prost_types::Any| {
        let error =
            detail.type_url.ends_with("/p4.v1.Error").then(|| p4::Error::decode(detail.value.as_slice()))?.ok()?;
        Some(match Code::from_i32(error.canonical_code) {
            Code::Ok => Ok(()),
            code => Err(UpdateError { code, why: cut(&error.message) }),
        })
    };
    let all: Option<Vec<_>> = details.into_iter().map(one).collect();
    all.filter(|all| !all.is_empty())
}

/// Cuts updates into batches that may be sent, in their order: of at most [`MAX_BATCH`] updates and about
/// [`MAX_BATCH_BYTES`].
#[must_use]
pub fn batches(updates: Vec<Update>) -> Vec<Vec<Update>> {
    let mut cut = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for update in updates {
        let size = update.encoded_len();
        if batch.len() == MAX_BATCH || (bytes + size > MAX_BATCH_BYTES && !batch.is_empty()) {
            cut.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += size;
        batch.push(update);
    }
    if !batch.is_empty() {
        cut.push(batch);
    }
    cut
}

#[cfg(test)]
mod tests;
