//! The client's side of a session with one database, without sockets and clock.
//!
//! ```text
//!          get_schema               monitor_cond
//!   Schema ----------> Monitoring ----------------> Up --- update2, transact, echo ---> Up
//!      |  a column is not there  |  refused           |
//!      +-------------------------+----> Dead <--------+-- silence, decode error, canceled
//! ```
//!
//! Feed it bytes with [`Session::received`] and the time with [`Session::tick`]; take what is to be sent from
//! [`Session::output`] and what happened with [`Session::poll_event`]. Times are durations since any moment that
//! the caller likes, as long as they never run backwards. The first error is final.

use crate::{
    error::{SessionError, Shape, TransactError, WireError, cut},
    replica::{Replica, UpdateError},
    schema::Schema,
    wire::{
        Framer, Message,
        operation::{self, Done, Operation},
    },
};
use serde_json::{Map, Value as Json, json};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// What a session monitors and how long it waits.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database, as `Open_vSwitch`.
    pub database: &'static str,
    /// Tables and their columns. No others are told of.
    pub tables: &'static [(&'static str, &'static [&'static str])],
    /// From the connection to [`Event::Ready`].
    pub handshake_timeout: Duration,
    /// Silence after which the server is asked whether it is there.
    pub echo_after: Duration,
    /// Silence after that question until the server counts as gone.
    pub echo_timeout: Duration,
    /// How long a transaction may be unanswered.
    pub transact_timeout: Duration,
}

impl Config {
    /// 10 s for the beginning; echo after 5 s, gone after 5 s more; 20 s for a transaction: a server that writes its
    /// whole file anew answers nobody meanwhile, which takes a large one a second or two.
    pub fn new(database: &'static str, tables: &'static [(&'static str, &'static [&'static str])]) -> Self {
        Self {
            database,
            tables,
            handshake_timeout: Duration::from_secs(10),
            echo_after: Duration::from_secs(5),
            echo_timeout: Duration::from_secs(5),
            transact_timeout: Duration::from_secs(20),
        }
    }
}

/// Transactions under way at once. More are refused.
pub const MAX_TRANSACTIONS: usize = 16;

/// Bytes that may wait to be sent. A server that does not read must not grow our memory.
pub const MAX_OUTPUT: usize = 16 << 20;

/// What happened in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The replica is complete; from now on transactions may be sent.
    Ready,
    /// The replica changed.
    Changed,
    /// A transaction was answered. What it changed is in the replica.
    Transacted(u64, Result<Vec<Done>, TransactError>),
    /// The session is over; nothing follows.
    Dead(SessionError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Schema,
    Monitoring,
    Up,
    Dead,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Schema => "waiting for the schema",
            Self::Monitoring => "waiting for the monitor",
            Self::Up => "up",
            Self::Dead => "dead",
        }
    }
}

/// A question of ours that is not answered yet.
#[derive(Debug)]
enum Question {
    Schema,
    Monitor,
    Echo,
    /// With the time until which it has to be answered, once a tick has told the time.
    Transact(Option<Duration>),
}

/// The client's side of a session.
#[derive(Debug)]
pub struct Session {
    config: Config,
    state: State,
    framer: Framer,
    output: Vec<u8>,
    events: VecDeque<Event>,
    questions: BTreeMap<u64, Question>,
    last: u64,
    schema: Schema,
    replica: Replica,
    /// `None` until the caller says what time it is.
    began: Option<Duration>,
    heard: Duration,
    /// Until when the server has to be heard, since it was asked whether it is there.
    asked: Option<Duration>,
}

impl Session {
    /// A session that has asked for the schema.
    pub fn new(config: Config) -> Self {
        let database = config.database;
        let mut session = Self {
            config,
            state: State::Schema,
            framer: Framer::default(),
            output: Vec::new(),
            events: VecDeque::new(),
            questions: BTreeMap::new(),
            last: 0,
            schema: Schema::default(),
            replica: Replica::default(),
            began: None,
            heard: Duration::ZERO,
            asked: None,
        };
        session.ask(Question::Schema, "get_schema", json!([database]));
        session
    }

    /// The database as far as it is monitored. Complete from [`Event::Ready`] on.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// What is to be sent. It stays until [`Session::sent`]: a server that does not read is known by it.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// So many bytes of it are sent.
    pub fn sent(&mut self, count: usize) {
        self.output.drain(..count.min(self.output.len()));
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Sends a transaction, atomic as a whole; the number is that of the [`Event::Transacted`] to come.
    ///
    /// # Errors
    /// When the replica is not complete, or too many are under way.
    pub fn transact(&mut self, operations: &[Operation]) -> Result<u64, SessionError> {
        if self.state != State::Up {
            return Err(SessionError::NotConnected);
        }
        let under_way = self.questions.values().filter(|question| matches!(question, Question::Transact(_))).count();
        if under_way >= MAX_TRANSACTIONS {
            return Err(SessionError::Busy(under_way));
        }
        let mut params = vec![json!(self.config.database)];
        params.extend(operations.iter().map(Operation::to_json));
        Ok(self.ask(Question::Transact(None), "transact", Json::Array(params)))
    }

    /// Takes bytes that came at a time.
    ///
    /// # Errors
    /// When the session is over by them; [`Event::Dead`] says the same.
    pub fn received(&mut self, bytes: &[u8], now: Duration) -> Result<(), SessionError> {
        if self.state == State::Dead {
            return Err(SessionError::NotConnected);
        }
        self.heard = now;
        self.asked = None;
        self.framer.push(bytes);
        let result = self.take_messages();
        if let Err(error) = &result {
            self.die(error.clone());
        }
        result
    }

    fn take_messages(&mut self) -> Result<(), SessionError> {
        while let Some(json) = self.framer.take()? {
            self.message(Message::from_json(json).map_err(WireError::from)?)?;
            if self.output.len() > MAX_OUTPUT {
                return Err(SessionError::OutputFull(self.output.len()));
            }
        }
        Ok(())
    }

    /// Does what is due at a time.
    pub fn tick(&mut self, now: Duration) {
        if self.state == State::Dead {
            return;
        }
        let began = *self.began.get_or_insert_with(|| {
            self.heard = now;
            now
        });
        for question in self.questions.values_mut() {
            if let Question::Transact(until @ None) = question {
                *until = Some(now + self.config.transact_timeout);
            }
        }
        let late = |question: &Question| matches!(question, Question::Transact(Some(until)) if now >= *until);
        if self.state != State::Up && now >= began + self.config.handshake_timeout {
            self.die(SessionError::HandshakeTimeout(self.config.handshake_timeout));
        } else if self.asked.is_some_and(|until| now >= until) {
            self.die(SessionError::Silent(now.saturating_sub(self.heard)));
        } else if self.questions.values().any(late) {
            self.die(SessionError::TransactTimeout(self.config.transact_timeout));
        } else if self.asked.is_none() && now >= self.heard + self.config.echo_after {
            self.ask(Question::Echo, "echo", json!([]));
            self.asked = Some(now + self.config.echo_timeout);
        }
    }

    /// When [`Session::tick`] has something to do next, if nothing happens before; `None` when all is over.
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        if self.state == State::Dead {
            return None;
        }
        let Some(began) = self.began else { return Some(now) };
        let handshake = (self.state != State::Up).then(|| began + self.config.handshake_timeout);
        let echo = self.asked.unwrap_or(self.heard + self.config.echo_after);
        let transactions = self.questions.values().filter_map(|question| match question {
            Question::Transact(until) => Some(until.unwrap_or(now)),
            _ => None,
        });
        transactions.chain(handshake).chain([echo]).min()
    }

    /// The connection is over, for a reason that the session cannot know.
    pub fn lost(&mut self, error: SessionError) {
        self.die(error);
    }

    fn die(&mut self, error: SessionError) {
        if self.state != State::Dead {
            self.state = State::Dead;
            self.questions.clear();
            self.events.push_back(Event::Dead(error));
        }
    }

    fn ask(&mut self, question: Question, method: &str, params: Json) -> u64 {
        self.last += 1;
        self.questions.insert(self.last, question);
        self.send(&Message::Request { id: json!(self.last), method: method.to_owned(), params });
        self.last
    }

    fn send(&mut self, message: &Message) {
        self.output.extend_from_slice(message.to_json().to_string().as_bytes());
    }

    fn message(&mut self, message: Message) -> Result<(), SessionError> {
        match message {
            Message::Request { id, method, params } => {
                let outcome = if method == "echo" { Ok(params) } else { Err(json!("unknown method")) };
                self.send(&Message::Reply { id, outcome });
                Ok(())
            }
            Message::Notification { method, params } => match method.as_str() {
                "update2" if self.state == State::Up => {
                    let [_, updates] = params.as_array().map_or(&[][..], Vec::as_slice) else {
                        return Err(WireError::from(Shape::new("a monitor and its updates", &params)).into());
                    };
                    self.replica.update(&self.schema, updates).map_err(refused)?;
                    // One that nobody has looked at yet says as much as two.
                    if self.events.back() != Some(&Event::Changed) {
                        self.events.push_back(Event::Changed);
                    }
                    Ok(())
                }
                "update2" => Err(SessionError::Unexpected { what: "an update", state: self.state.name() }),
                "monitor_canceled" => Err(SessionError::Canceled),
                // What nobody asked for, and later protocols may have.
                _ => Ok(()),
            },
            Message::Reply { id, outcome } => self.reply(&id, outcome),
        }
    }

    fn reply(&mut self, id: &Json, outcome: Result<Json, Json>) -> Result<(), SessionError> {
        let unexpected = SessionError::Unexpected { what: "an answer that nobody asked for", state: self.state.name() };
        let id = id.as_u64().ok_or(unexpected.clone())?;
        match (self.questions.remove(&id).ok_or(unexpected)?, outcome) {
            (Question::Echo, _) => Ok(()),
            (Question::Schema, Ok(schema)) => {
                self.schema = Schema::from_json(&schema, self.config.tables)?;
                self.state = State::Monitoring;
                let tables = self.config.tables.iter();
                let wanted: Map<_, _> =
                    tables.map(|(table, columns)| ((*table).to_owned(), json!([{"columns": columns}]))).collect();
                self.ask(Question::Monitor, "monitor_cond", json!([self.config.database, "bulkhead", wanted]));
                Ok(())
            }
            (Question::Monitor, Ok(rows)) => {
                self.replica.update(&self.schema, &rows).map_err(refused)?;
                self.state = State::Up;
                self.events.push_back(Event::Ready);
                Ok(())
            }
            (Question::Transact(_), Ok(results)) => {
                let outcome = operation::outcome(&results).map_err(WireError::from)?;
                self.events.push_back(Event::Transacted(id, outcome));
                Ok(())
            }
            (Question::Schema, Err(error)) => Err(refusal("get_schema", &error)),
            (Question::Monitor, Err(error)) => Err(refusal("monitor_cond", &error)),
            (Question::Transact(_), Err(error)) => Err(refusal("transact", &error)),
        }
    }
}

fn refusal(question: &'static str, error: &Json) -> SessionError {
    // An error is an object with a text for machines and perhaps one for people (RFC 7047 §3.1), or a mere text.
    let told = ["details", "error"].iter().find_map(|member| error.get(member)).unwrap_or(error);
    let reason = told.as_str().map_or_else(|| cut(&told.to_string()), cut);
    SessionError::Refused { question, reason }
}

fn refused(error: UpdateError) -> SessionError {
    match error {
        UpdateError::TooLarge(most) => SessionError::TooLarge(most),
        other => SessionError::Update(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
