//! News of what others change.

use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::error::Error;

/// The groups of news about links, and about neighbours and forwarding tables (linux/rtnetlink.h).
const GROUPS: [u32; 2] = [1, 3];

/// Hears when links, neighbours or forwarding tables of the namespace change that it was opened in, whoever does it.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
}

impl Monitor {
    /// Listens in the calling thread's namespace.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn here() -> Result<Monitor, Error> {
        let failed = |cause| Error::Socket { what: "news of the kernel's".into(), cause };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind(&SocketAddr::new(0, 0)).map_err(failed)?;
        for group in GROUPS {
            socket.add_membership(group).map_err(failed)?;
        }
        Ok(Monitor { socket })
    }

    /// Waits for something to change; whether it did within `patience` (0 is for ever). News that were too many are
    /// news too.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn changed(&mut self, patience: Duration) -> Result<bool, Error> {
        let failed = |cause| Error::Socket { what: "news of the kernel's".into(), cause };
        let time = TimeVal::milliseconds(i64::try_from(patience.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&self.socket, sockopt::ReceiveTimeout, &time).map_err(|errno| failed(errno.into()))?;
        match self.socket.recv_from_full() {
            Ok(_) => Ok(true),
            Err(cause) if cause.raw_os_error() == Some(nix::libc::ENOBUFS) => Ok(true),
            Err(cause) if matches!(cause.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => {
                Ok(false)
            }
            Err(cause) => Err(failed(cause)),
        }
    }
}
