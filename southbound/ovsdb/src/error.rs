//! What can be wrong with a peer's bytes, with a session, with a transaction.

use std::time::Duration;
use thiserror::Error;

/// Longest piece of a peer's text that an error repeats, in characters.
const MAX_TOLD: usize = 200;

/// JSON that is not what its place demands.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{expected} expected, found {found}")]
pub struct Shape {
    /// What the place demands.
    pub expected: &'static str,
    /// What is there, cut to a printable length.
    pub found: String,
}

impl Shape {
    pub(crate) fn new(expected: &'static str, found: &serde_json::Value) -> Self {
        // Large values are not written out in full only to be cut.
        let found = match found {
            serde_json::Value::Array(items) if items.len() > 8 => format!("an array of {}", items.len()),
            serde_json::Value::Object(items) if items.len() > 4 => format!("an object of {} members", items.len()),
            other => cut(&other.to_string()),
        };
        Self { expected, found }
    }

    pub(crate) fn missing(expected: &'static str) -> Self {
        Self { expected, found: "nothing".into() }
    }
}

/// Bytes that are not a message of ours to take.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// A message that is longer than [`crate::wire::MAX_MESSAGE`].
    #[error("a message of more than {0} bytes")]
    TooLong(usize),
    /// A message that is nested deeper than [`crate::wire::MAX_DEPTH`].
    #[error("a message nested deeper than {0}")]
    TooDeep(usize),
    /// A byte between messages that begins none: they are JSON objects (RFC 7047 §4).
    #[error("byte {0:#04x} where a message begins")]
    NoMessage(u8),
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// JSON, but no message.
    #[error(transparent)]
    Shape(#[from] Shape),
}

/// Why a session is over, or why something was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SessionError {
    /// Bytes that are not a message.
    #[error("bad message: {0}")]
    Wire(#[from] WireError),
    /// A message that has no place in this state of the session.
    #[error("{what} while {state}")]
    Unexpected {
        /// What came.
        what: &'static str,
        /// What the session was doing.
        state: &'static str,
    },
    /// The peer refused a question that a session cannot do without.
    #[error("the database refused {question}: {reason}")]
    Refused {
        /// The method that was called.
        question: &'static str,
        /// The peer's reason, cut to a printable length.
        reason: String,
    },
    /// The database lacks what is to be monitored.
    #[error("the database has no column {column} in table {table}")]
    Schema {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// An update that does not fit the replica.
    #[error("an update does not fit what was told before: {0}")]
    Update(String),
    /// The replica would grow beyond [`crate::replica::MAX_BYTES`].
    #[error("the database has more than {0} bytes in the monitored columns")]
    TooLarge(usize),
    /// The server no longer tells what changes: the database was taken from it.
    #[error("the server ended the monitor")]
    Canceled,
    /// The beginning was not finished in time.
    #[error("no complete answer within {0:?}")]
    HandshakeTimeout(Duration),
    /// A transaction was not answered in time.
    #[error("a transaction without an answer for {0:?}")]
    TransactTimeout(Duration),
    /// The server fell silent.
    #[error("silent for {0:?}")]
    Silent(Duration),
    /// Too much waits to be sent: the peer does not read.
    #[error("{0} bytes wait to be sent")]
    OutputFull(usize),
    /// Too many transactions are under way.
    #[error("{0} transactions are under way already")]
    Busy(usize),
    /// The session is over, or its replica not complete yet.
    #[error("not connected")]
    NotConnected,
    /// The socket failed.
    #[error("{0}")]
    Socket(String),
}

/// Why the database did nothing of a transaction (RFC 7047 §4.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{error}{}{details}", if details.is_empty() { "" } else { ": " })]
pub struct TransactError {
    /// Place of the operation that failed among the transaction's; their number if it was the commit.
    pub at: usize,
    /// The kind, as "constraint violation" or "timed out".
    pub error: String,
    /// More for people; may be empty.
    pub details: String,
}

/// A peer's text, cut to a printable length.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(MAX_TOLD).collect()
}
