//! A client of the Open vSwitch Database Management Protocol (RFC 7047), with the conditional monitors that
//! ovsdb-server(7) adds to it.
//!
//! [`Session`] is the protocol without sockets and clock: it asks for the schema, monitors the columns that it is told
//! to, keeps a [`Replica`] of them, and carries transactions. [`Connection`] is the socket around it.
//!
//! Ours, and thin: what is published speaks the protocol's first version only, or leaves the replica to its user.

pub mod connection;
pub mod endpoint;
mod error;
pub mod machine;
pub mod replica;
pub mod schema;
pub mod wire;

pub use connection::{Backoff, Connection, OpenError};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{SessionError, Shape, TransactError, WireError};
pub use machine::{Config, Event, Session};
pub use replica::{Replica, Row};
pub use wire::operation::{Condition, Done, Function, Mutation, Mutator, Operation};
pub use wire::value::{Atom, Uuid, Value};
