//! Raw Ethernet frames in and out of an interface: what a conformance test says "this frame in, that frame out" with.
//!
//! AF_PACKET without unsafe code: the address to bind to is the one that `getifaddrs` hands out for the interface
//! (packet(7): a bind with protocol 0 keeps the socket's own).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bulkhead_netlink::Namespace;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt, socket,
    sockopt,
};

/// Longest frame that is received whole.
const FRAME_MOST: usize = 65_536;

/// Room for frames that nobody has taken yet.
const BUFFER: usize = 4 << 20;

/// `sll_pkttype` of a frame that this machine sent on the interface itself (linux/if_packet.h, PACKET_OUTGOING).
const OUTGOING: u8 = 4;

/// The link layer of one interface. From its opening on it keeps what arrives there until it is taken.
///
/// A VLAN tag of an arriving frame is taken off by the kernel before anybody sees it (packet(7), PACKET_AUXDATA):
/// who wants to see tags looks at the wire's far end, by [`Wire::tapped`].
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    /// Where frames are received: what is sent at the far end, or, without one, what arrives.
    far_end: Option<OwnedFd>,
    name: String,
}

impl Wire {
    /// Opens an interface of a namespace, for instance a workload's [`INTERFACE`](crate::workload::INTERFACE).
    ///
    /// # Errors
    /// When there is no such interface, or its namespace may not be entered.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Wire> {
        let name = format!("{}/{interface}", namespace.name());
        let socket = namespace.run(|| open(interface))?.with_context(|| format!("cannot open {name}"))?;
        Ok(Wire { socket, far_end: None, name })
    }

    /// As [`Wire::open`], but what is received is what was sent at the far end of a veth pair, for instance a
    /// switch's port: every frame whole, VLAN tags included.
    ///
    /// # Errors
    /// When one of the interfaces is not there, or its namespace may not be entered.
    pub fn tapped(near: (&Namespace, &str), far: (&Namespace, &str)) -> Result<Wire> {
        let mut wire = Wire::open(near.0, near.1)?;
        wire.far_end = Some(Wire::open(far.0, far.1)?.socket);
        Ok(wire)
    }

    /// Sends a frame, from its destination MAC to its last byte without checksum; nothing of it is changed.
    ///
    /// # Errors
    /// When the interface is down or the frame is longer than its MTU allows.
    pub fn inject(&self, frame: &[u8]) -> Result<()> {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty());
        let sent = sent.with_context(|| format!("cannot send {} bytes on {}", frame.len(), self.name))?;
        if sent != frame.len() {
            bail!("only {sent} of {} bytes were sent on {}", frame.len(), self.name);
        }
        Ok(())
    }

    /// The next frame that arrived, or arrives within `patience`.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn receive(&self, patience: Duration) -> Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + patience;
        let mut buffer = vec![0; FRAME_MOST];
        loop {
            // Milliseconds, rounded up: a wait that is too short would be spent spinning.
            let left = deadline.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let socket = self.far_end.as_ref().unwrap_or(&self.socket);
            match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], left) {
                Ok(0) => return Ok(None),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot listen on {}", self.name)),
            }
            match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
                // What was sent on the interface and what arrives there both pass by here.
                Ok((_, Some(from))) if (from.pkttype() == OUTGOING) != self.far_end.is_some() => {}
                Ok((length, _)) => {
                    buffer.truncate(length);
                    return Ok(Some(buffer));
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot receive on {}", self.name)),
            }
        }
    }

    /// Every frame that arrived, or arrives within `window`, which is waited out.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn drain(&self, window: Duration) -> Result<Vec<Vec<u8>>> {
        let deadline = Instant::now() + window;
        let mut frames = Vec::new();
        while let Some(frame) = self.receive(deadline.saturating_duration_since(Instant::now()))? {
            frames.push(frame);
        }
        Ok(frames)
    }

    /// Waits for a frame that is wanted, and passes over others.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn find(&self, patience: Duration, wanted: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + patience;
        loop {
            match self.receive(deadline.saturating_duration_since(Instant::now()))? {
                Some(frame) if wanted(&frame) => return Ok(Some(frame)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }
}

fn open(interface: &str) -> Result<OwnedFd> {
    let mut links = getifaddrs()?.filter(|link| link.interface_name == interface);
    let Some(address) = links.find_map(|link| link.address?.as_link_addr().copied()) else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there is no such interface").into());
    };
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
    bind(socket.as_raw_fd(), &address)?;
    // Between the two calls it heard every interface; whatever that was is not wanted.
    let mut buffer = [0; 64];
    while nix::sys::socket::recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok() {}
    Ok(socket)
}
