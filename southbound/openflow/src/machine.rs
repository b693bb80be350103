//! The controller's side of a session with one switch, without sockets and clock.
//!
//! ```text
//!            hello                features-reply          port-desc
//!   Hello ----------> Features ------------------> Ports -----------> Up
//!     |  not 1.3, anything else  |  a second or forged features-reply,  |
//!     |  than hello or error     |  a message only controllers send     |
//!     +--------------------------+--------------> Dead <----------------+-- silence, decode error
//! ```
//!
//! Feed it bytes with [`Session::received`] and the time with [`Session::tick`]; take what is to be sent with
//! [`Session::take_output`] and what happened with [`Session::poll_event`]. Times are durations since any
//! moment that the caller likes, as long as they never run backwards. The first error is final: the
//! connection is to be closed once the output is written.

use crate::error::{DecodeError, Fault};
use crate::wire::bundle::{BundleControl, BundleStep};
use crate::wire::flow::FlowMod;
use crate::wire::header::{Header, VERSION};
use crate::wire::hello::{ErrorMsg, Hello, error_type};
use crate::wire::message::{self, Msg};
use crate::wire::multipart::{MultipartBody, MultipartReply, MultipartRequest};
use crate::wire::port::Port;
use crate::wire::switch::Features;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use thiserror::Error;

#[cfg(test)]
mod tests;

/// What a session may take and how long it waits.
#[derive(Debug, Clone)]
pub struct Config {
    /// From the connection to [`Event::Connected`]. A peer that only holds the socket is not kept.
    pub handshake_timeout: Duration,
    /// Silence after which the switch is asked whether it is there.
    pub echo_after: Duration,
    /// Silence after that question until the switch counts as gone.
    pub echo_timeout: Duration,
    /// Bytes that may wait to be sent. A switch that does not read must not grow our memory.
    pub max_output: usize,
    /// Bytes of all unfinished multipart answers together, as they came on the wire.
    pub max_multipart: usize,
}

impl Default for Config {
    /// 5 s for the handshake; echo after 5 s, gone after 5 s more; 64 MiB to send, which is a bundle of some
    /// 300,000 entries; 256 MiB of answers, which is the read-back of a million.
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            echo_after: Duration::from_secs(5),
            echo_timeout: Duration::from_secs(5),
            max_output: 64 << 20,
            max_multipart: 256 << 20,
        }
    }
}

/// The question whether the switch is there.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// Until when it has to be heard.
    until: Duration,
    /// How long it may take to answer.
    patience: Duration,
}

/// Bytes of echo replies that may wait to be sent together. They are the only output that the peer alone makes: one
/// that asks and does not read must not fill what is meant for changes.
const MAX_ECHOES: usize = 1 << 20;
/// Multipart questions under way at once. Answers to others are an error.
const MAX_QUESTIONS: usize = 64;

/// What happened in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The switch introduced itself; from now on messages may be sent.
    Connected {
        /// Who it is.
        features: Features,
        /// Its ports.
        ports: Vec<Port>,
    },
    /// A message, with the transaction id of the request that it answers, if it does. Multipart answers come
    /// whole, with `more` false. Echoes are dealt with inside.
    Message(u32, Msg),
    /// The switch refused something: the transaction id of what, and why.
    Error(u32, ErrorMsg),
    /// The session is over; nothing follows.
    Dead(SessionError),
}

/// Why a session is over, or why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SessionError {
    /// The peer does not speak OpenFlow 1.3.
    #[error("the peer does not speak OpenFlow 1.3 (its hello is of wire version {0})")]
    Version(u8),
    /// Bytes that are not a message.
    #[error("bad message of type {kind}: {error}")]
    Decode {
        /// The message's type.
        kind: u8,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// A message that has no place in this state of the session.
    #[error("message of type {kind} while {state}")]
    Unexpected {
        /// The message's type.
        kind: u8,
        /// What the session was doing.
        state: &'static str,
    },
    /// The peer refused our hello or handshake.
    #[error("the peer refused the handshake: {0}")]
    Refused(String),
    /// The handshake was not finished in time.
    #[error("no handshake within {0:?}")]
    HandshakeTimeout(Duration),
    /// The switch fell silent.
    #[error("silent for {0:?}")]
    Silent(Duration),
    /// Too much waits to be sent: the peer does not read.
    #[error("{0} bytes wait to be sent")]
    OutputFull(usize),
    /// Unfinished multipart answers are too large, or a part is of another kind than its beginning.
    #[error("multipart answer not acceptable: {0}")]
    Multipart(&'static str),
    /// A message longer than its length field can say.
    #[error("message of {0} bytes does not fit the length field")]
    TooLong(usize),
    /// The session is over or not yet connected.
    #[error("not connected")]
    NotConnected,
}

#[derive(Debug)]
enum State {
    Hello,
    Features { xid: u32 },
    Ports { xid: u32, features: Features },
    Up,
    Dead,
}

impl State {
    const fn name(&self) -> &'static str {
        match self {
            Self::Hello => "waiting for hello",
            Self::Features { .. } => "waiting for features",
            Self::Ports { .. } => "waiting for ports",
            Self::Up => "up",
            Self::Dead => "dead",
        }
    }
}

/// An answer of which parts may still come.
#[derive(Debug, Default)]
struct Answer {
    body: Option<MultipartBody>,
    bytes: usize,
}

/// The controller's side of a session.
#[derive(Debug)]
pub struct Session {
    config: Config,
    state: State,
    /// At most one incomplete message: under 64 KiB.
    partial: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of echo replies in `output`.
    echoes: usize,
    events: VecDeque<Event>,
    questions: BTreeMap<u32, Answer>,
    question_bytes: usize,
    last_xid: u32,
    /// `None` until the caller says what time it is.
    began: Option<Duration>,
    heard: Duration,
    /// The switch was asked whether it is there, and has not been heard since.
    asked: Option<Asked>,
}

impl Session {
    /// A session that has said hello and waits for the peer's.
    pub fn new(config: Config) -> Self {
        let mut session = Self {
            config,
            state: State::Hello,
            partial: Vec::new(),
            output: Vec::new(),
            echoes: 0,
            events: VecDeque::new(),
            questions: BTreeMap::new(),
            question_bytes: 0,
            last_xid: 0,
            began: None,
            heard: Duration::ZERO,
            asked: None,
        };
        let xid = session.next_xid();
        Msg::Hello(Hello::only(VERSION)).encode(xid, &mut session.output);
        session
    }

    /// Whether the handshake is done and the session not over.
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is to be written to the connection now.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.echoes = 0;
        std::mem::take(&mut self.output)
    }

    /// Bytes that wait to be taken.
    pub fn pending_output(&self) -> usize {
        self.output.len()
    }

    /// Takes bytes from the connection. An error is final and is reported as [`Event::Dead`] too.
    pub fn received(&mut self, bytes: &[u8], now: Duration) -> Result<(), SessionError> {
        self.note_time(now);
        if matches!(self.state, State::Dead) {
            return Err(SessionError::NotConnected);
        }
        if !bytes.is_empty() {
            self.heard = now;
            self.asked = None;
        }
        let result = self.take_bytes(bytes);
        if let Err(error) = &result {
            self.die(error.clone());
        }
        result
    }

    /// What happens by time alone: questions whether the switch is there, and the end. Call it at
    /// [`Session::next_deadline`]; calling it oftener does no harm.
    pub fn tick(&mut self, now: Duration) {
        self.note_time(now);
        let began = self.began.unwrap_or(now);
        match self.state {
            State::Dead => {}
            State::Up => match self.asked {
                Some(asked) if now >= asked.until => {
                    self.die(SessionError::Silent(now.saturating_sub(self.heard)));
                }
                None if now >= self.heard + self.config.echo_after => {
                    self.ask(now, self.config.echo_timeout);
                }
                _ => {}
            },
            _ if now >= began + self.config.handshake_timeout => {
                self.die(SessionError::HandshakeTimeout(self.config.handshake_timeout));
            }
            _ => {}
        }
    }

    /// The connection took bytes of the output: the question whether the switch is there may have been among them, or
    /// behind them. The time to answer it begins only now.
    pub fn taken(&mut self, now: Duration) {
        self.note_time(now);
        if let Some(asked) = &mut self.asked {
            asked.until = asked.until.max(now + asked.patience);
        }
    }

    /// Asks the switch whether it is there, now, however lately it was heard; the session is over if nothing comes
    /// within `patience`.
    pub fn probe(&mut self, now: Duration, patience: Duration) {
        self.note_time(now);
        if self.is_up() {
            let patience = self.asked.map_or(patience, |asked| asked.patience.min(patience));
            self.ask(now, patience);
        }
    }

    fn ask(&mut self, now: Duration, patience: Duration) {
        let until = now + patience;
        let until = self.asked.map_or(until, |asked| asked.until.min(until));
        self.asked = Some(Asked { until, patience });
        let xid = self.next_xid();
        Msg::EchoRequest(Vec::new()).encode(xid, &mut self.output);
    }

    /// When [`Session::tick`] is next due, as a time like `now`; `None` once the session is over.
    pub fn next_deadline(&mut self, now: Duration) -> Option<Duration> {
        self.note_time(now);
        match (&self.state, self.asked) {
            (State::Dead, _) => None,
            (State::Up, Some(asked)) => Some(asked.until),
            (State::Up, None) => Some(self.heard + self.config.echo_after),
            _ => Some(self.began.unwrap_or(now) + self.config.handshake_timeout),
        }
    }

    /// Sends a message; gives its transaction id.
    pub fn send(&mut self, msg: &Msg) -> Result<u32, SessionError> {
        if matches!(msg, Msg::MultipartRequest(_)) && self.questions.len() >= MAX_QUESTIONS {
            return Err(SessionError::Multipart("too many questions at once"));
        }
        let xid = self.write(|xid, out| msg.encode(xid, out))?;
        if matches!(msg, Msg::MultipartRequest(_)) {
            self.questions.insert(xid, Answer::default());
        }
        Ok(xid)
    }

    /// Sends a change to entries; as [`Session::send`], without moving it into a message.
    pub fn send_flow_mod(&mut self, flow_mod: &FlowMod) -> Result<u32, SessionError> {
        self.write(|xid, out| message::encode_flow_mod(flow_mod, xid, out))
    }

    /// Opens, closes, commits or discards a bundle.
    pub fn send_bundle(&mut self, id: u32, step: BundleStep, flags: u16) -> Result<u32, SessionError> {
        self.send(&Msg::BundleControl(BundleControl { id, step, flags }))
    }

    /// Adds a message to a bundle. If the switch refuses it, when it is added or when the bundle is committed,
    /// the error carries the transaction id that this gives.
    pub fn add_to_bundle(&mut self, id: u32, flags: u16, msg: &Msg) -> Result<u32, SessionError> {
        self.write(|xid, out| message::encode_bundle_add(id, flags, xid, out, |xid, out| msg.encode(xid, out)))
    }

    /// Adds a change to entries to a bundle; as [`Session::add_to_bundle`], without moving it into a message.
    pub fn add_flow_mod_to_bundle(&mut self, id: u32, flags: u16, flow_mod: &FlowMod) -> Result<u32, SessionError> {
        self.write(|xid, out| {
            message::encode_bundle_add(id, flags, xid, out, |xid, out| message::encode_flow_mod(flow_mod, xid, out));
        })
    }

    fn write(&mut self, encode: impl FnOnce(u32, &mut Vec<u8>)) -> Result<u32, SessionError> {
        if !self.is_up() {
            return Err(SessionError::NotConnected);
        }
        let (xid, start) = (self.next_xid(), self.output.len());
        encode(xid, &mut self.output);
        let (total, length) = (self.output.len(), self.output.len() - start);
        if length > Header::MAX_LENGTH || total > self.config.max_output {
            self.output.truncate(start);
            return Err(if length > Header::MAX_LENGTH {
                SessionError::TooLong(length)
            } else {
                SessionError::OutputFull(start)
            });
        }
        Ok(xid)
    }

    /// Transaction id 0 is what switches use for what nobody asked for.
    fn next_xid(&mut self) -> u32 {
        self.last_xid = self.last_xid.checked_add(1).unwrap_or(1);
        self.last_xid
    }

    fn note_time(&mut self, now: Duration) {
        if self.began.is_none() {
            self.began = Some(now);
            self.heard = now;
        }
    }

    fn die(&mut self, error: SessionError) {
        if !matches!(self.state, State::Dead) {
            self.state = State::Dead;
            self.partial = Vec::new();
            self.questions.clear();
            self.events.push_back(Event::Dead(error));
        }
    }

    fn take_bytes(&mut self, mut bytes: &[u8]) -> Result<(), SessionError> {
        if !self.partial.is_empty() {
            bytes = self.complete_partial(bytes)?;
        }
        while let Some(length) = whole_message(bytes)? {
            let (head, tail) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
            bytes = tail;
            self.take_message(head)?;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Fills the kept beginning of a message up from `bytes`; gives what is left of them.
    fn complete_partial<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], SessionError> {
        let mut left = bytes;
        // First the header, which says how much is missing, then the rest.
        for _ in 0..2 {
            let want = match Header::decode(&self.partial) {
                Ok(header) => usize::from(header.length),
                Err(_) if self.partial.len() < Header::LENGTH => Header::LENGTH,
                Err(error) => return Err(SessionError::Decode { kind: 0, error }),
            };
            let missing = want.saturating_sub(self.partial.len()).min(left.len());
            let (head, tail) = left.split_at_checked(missing).unwrap_or((left, &[]));
            self.partial.extend_from_slice(head);
            left = tail;
        }
        if let Some(length) = whole_message(&self.partial)? {
            let message = std::mem::take(&mut self.partial);
            self.take_message(message.get(..length).unwrap_or(&message))?;
        }
        Ok(left)
    }

    fn take_message(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let kind = bytes.get(1).copied().unwrap_or(0);
        let (header, msg) = Msg::decode(bytes).map_err(|error| SessionError::Decode { kind, error })?;
        let unexpected = SessionError::Unexpected { kind, state: self.state.name() };
        match (&self.state, msg) {
            (State::Hello, Msg::Hello(hello)) => self.take_hello(&hello, header.version),
            (State::Hello | State::Features { .. } | State::Ports { .. }, Msg::Error(error)) => {
                Err(SessionError::Refused(error.describe()))
            }
            // OF 1.3.5 §6.3.1: nothing else before hello; and only one hello.
            (State::Hello, _) | (_, Msg::Hello(_)) => Err(unexpected),
            (_, Msg::EchoRequest(data)) => {
                self.echoes += Header::LENGTH + data.len();
                if self.echoes > MAX_ECHOES || self.output.len() + data.len() > self.config.max_output {
                    return Err(SessionError::OutputFull(self.output.len()));
                }
                Msg::EchoReply(data).encode(header.xid, &mut self.output);
                Ok(())
            }
            (_, Msg::EchoReply(_)) => Ok(()),
            (State::Features { xid }, Msg::FeaturesReply(features)) if *xid == header.xid => {
                let xid = self.next_xid();
                Msg::MultipartRequest(MultipartRequest::PortDesc).encode(xid, &mut self.output);
                self.questions.insert(xid, Answer::default());
                self.state = State::Ports { xid, features };
                Ok(())
            }
            // One features-reply to the one request: another would change who the switch is.
            (_, Msg::FeaturesReply(_)) => Err(unexpected),
            (_, Msg::MultipartReply(reply)) => self.take_part(header.xid, reply, bytes.len(), unexpected),
            // News from before the read-back of the ports are in the read-back.
            (
                State::Features { .. } | State::Ports { .. },
                Msg::PortStatus(_) | Msg::PacketIn(_) | Msg::PacketIn2(_) | Msg::FlowRemoved(_) | Msg::RoleReply(_),
            ) => Ok(()),
            (State::Up, Msg::Error(error)) => {
                // Also the answer to a question that the switch does not take.
                self.forget_question(header.xid);
                self.events.push_back(Event::Error(header.xid, error));
                Ok(())
            }
            (State::Up, msg) if from_switch(&msg) => {
                self.events.push_back(Event::Message(header.xid, msg));
                Ok(())
            }
            _ => Err(unexpected),
        }
    }

    fn take_hello(&mut self, hello: &Hello, version: u8) -> Result<(), SessionError> {
        if !hello.speaks(VERSION, version) {
            let error = ErrorMsg {
                kind: error_type::HELLO_FAILED,
                code: 0,
                experimenter: None,
                data: b"only OpenFlow 1.3 is spoken here".to_vec(),
            };
            let xid = self.next_xid();
            Msg::Error(error).encode(xid, &mut self.output);
            return Err(SessionError::Version(version));
        }
        let xid = self.next_xid();
        Msg::FeaturesRequest.encode(xid, &mut self.output);
        self.state = State::Features { xid };
        Ok(())
    }

    fn take_part(
        &mut self,
        xid: u32,
        reply: MultipartReply,
        bytes: usize,
        unexpected: SessionError,
    ) -> Result<(), SessionError> {
        let Some(answer) = self.questions.get_mut(&xid) else { return Err(unexpected) };
        self.question_bytes += bytes;
        answer.bytes += bytes;
        if self.question_bytes > self.config.max_multipart {
            return Err(SessionError::Multipart("too large"));
        }
        match &mut answer.body {
            None => answer.body = Some(reply.body),
            Some(body) => body.append(reply.body).map_err(|_| SessionError::Multipart("parts of different kinds"))?,
        }
        if reply.more {
            return Ok(());
        }
        let Some(body) = self.forget_question(xid) else { return Ok(()) };
        match (&self.state, body) {
            (State::Ports { xid: asked, features }, MultipartBody::PortDesc(ports)) if *asked == xid => {
                let features = *features;
                self.state = State::Up;
                self.events.push_back(Event::Connected { features, ports });
                Ok(())
            }
            (State::Up, body) => {
                let reply = MultipartReply { more: false, body };
                self.events.push_back(Event::Message(xid, Msg::MultipartReply(reply)));
                Ok(())
            }
            _ => Err(unexpected),
        }
    }

    fn forget_question(&mut self, xid: u32) -> Option<MultipartBody> {
        let answer = self.questions.remove(&xid)?;
        self.question_bytes = self.question_bytes.saturating_sub(answer.bytes);
        answer.body
    }
}

/// The length of the message that `bytes` begin with, if all of it is there.
fn whole_message(bytes: &[u8]) -> Result<Option<usize>, SessionError> {
    if bytes.len() < Header::LENGTH {
        return Ok(None);
    }
    let kind = bytes.get(1).copied().unwrap_or(0);
    let header = Header::decode(bytes).map_err(|error| SessionError::Decode { kind, error })?;
    // A stream that is not OpenFlow is recognized by its first eight bytes, not after 64 KiB.
    if header.version == 0 || header.version > 6 {
        let error = DecodeError::new("header", Fault::Value(u64::from(header.version)));
        return Err(SessionError::Decode { kind, error });
    }
    let length = usize::from(header.length);
    Ok((length <= bytes.len()).then_some(length))
}

/// Whether a switch may send it outside the handshake.
const fn from_switch(msg: &Msg) -> bool {
    match msg {
        Msg::Error(_)
        | Msg::GetConfigReply(_)
        | Msg::PacketIn(_)
        | Msg::PacketIn2(_)
        | Msg::FlowRemoved(_)
        | Msg::PortStatus(_)
        | Msg::BarrierReply
        | Msg::RoleReply(_)
        | Msg::GetAsyncReply(_)
        | Msg::TlvTableReply(_)
        // What is not known may be news of an extension.
        | Msg::Experimenter { .. }
        | Msg::Other { .. } => true,
        Msg::BundleControl(control) => matches!(
            control.step,
            BundleStep::OpenReply | BundleStep::CloseReply | BundleStep::CommitReply | BundleStep::DiscardReply
        ),
        _ => false,
    }
}
