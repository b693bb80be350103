//! TLS, with certificates from files that are read again when they change: towards switches and hosts, where both sides
//! show one, and of the API, whose clients may.
//!
//! [`Server`] is the API's (docs/adr/0018). [`Tls`] is for switches and hosts. It has this controller's side: its
//! certificate, and the authorities whose certificates it believes. A handshake ends with the peer's [`Certificate`], and
//! whose that is, is for the caller to hold against who the peer says to be (docs/adr/0010). Nothing is resumed: every session is with somebody who has shown a valid certificate for it.

mod certificate;
mod files;
mod kept;
mod life;
mod server;
mod session;
mod watch;

pub use certificate::Certificate;
pub use files::{FileError, Files, Role};
pub use life::{Life, Peers, Stage};
pub use server::{Made, Maker, Own, Server, Subject};
pub use session::{HANDSHAKE_LIMIT, HandshakeError, Tls};
pub use tokio_rustls::TlsStream;
