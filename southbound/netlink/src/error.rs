//! What can go wrong, with what was tried.

use std::io;

/// An operation that the kernel refused, or that could not be asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a request (netlink(7), `NLMSG_ERROR`).
    #[error("{what}: {cause}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The kernel's errno.
        cause: io::Error,
    },
    /// The socket failed or nothing was answered in time.
    #[error("{what}: no answer over netlink: {cause}")]
    Socket {
        /// What was asked for.
        what: String,
        /// What became of the socket.
        cause: io::Error,
    },
    /// What came back is no netlink message, or not the one that belongs to the question.
    #[error("{what}: the kernel's answer makes no sense: {why}")]
    Answer {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no interface of this name in the namespace.
    #[error("there is no interface {0}")]
    NoLink(String),
    /// An operation on a namespace failed.
    #[error("namespace {name}: {what}: {cause}")]
    Namespace {
        /// The namespace.
        name: String,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// A thread in a namespace panicked.
    #[error("the thread in namespace {0} panicked")]
    Panicked(String),
}

impl Error {
    /// Whether something was refused because it is there already (`EEXIST`).
    #[must_use]
    pub fn already_there(&self) -> bool {
        matches!(self, Error::Refused { cause, .. } | Error::Namespace { cause, .. }
            if cause.kind() == io::ErrorKind::AlreadyExists)
    }
}
