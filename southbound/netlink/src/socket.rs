//! One netlink socket: a question, and what the kernel answers to it.

use std::fmt;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::error::Error;

/// How long the kernel may take to answer. It answers in microseconds; a machine that is removing many namespaces
/// holds the lock that every change takes for up to seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a list is asked for that changes all the time: other labs come and go.
const DUMPS_MOST: usize = 100;

/// Something changed while the kernel told a list (linux/netlink.h).
const NLM_F_DUMP_INTR: u16 = 0x10;

/// Length of `struct nlmsghdr` (netlink(7)).
const HEADER: usize = 16;

/// What kind of request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Changes something that is there, or takes it away.
    Change,
    /// Makes something new; it must not be there.
    Create,
    /// Makes something, or puts it in the place of what is there.
    Put,
}

impl Request {
    fn flags(self) -> u16 {
        match self {
            Request::Change => 0,
            Request::Create => NLM_F_CREATE | NLM_F_EXCL,
            Request::Put => NLM_F_CREATE | netlink_packet_core::NLM_F_REPLACE,
        }
    }
}

/// A connection to the kernel about the network namespace of the thread that opened it.
pub struct Netlink {
    route: Socket,
    generic: Socket,
    /// None where the kernel has no netfilter.
    netfilter: Option<Socket>,
    sequence: u32,
}

impl fmt::Debug for Netlink {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Netlink").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Netlink {
    /// Opens the sockets for the calling thread's namespace. See [`Namespace::netlink`](crate::Namespace::netlink)
    /// for another one.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn here() -> Result<Netlink, Error> {
        let netfilter = open(NETLINK_NETFILTER).ok();
        Ok(Netlink { route: open(NETLINK_ROUTE)?, generic: open(NETLINK_GENERIC)?, netfilter, sequence: 0 })
    }

    /// The first of so many numbers for messages.
    pub(crate) fn numbers(&mut self, count: u32) -> u32 {
        // Not near the end: numbers that follow each other are compared.
        let first = if self.sequence > u32::MAX / 2 { 1 } else { self.sequence + 1 };
        self.sequence = first.saturating_add(count);
        first
    }

    /// The socket for messages that are written by hand.
    pub(crate) fn netfilter(&self, what: &dyn Fn() -> String) -> Result<&Socket, Error> {
        let none = || std::io::Error::from_raw_os_error(nix::libc::EPROTONOSUPPORT);
        self.netfilter.as_ref().ok_or_else(|| Error::Socket { what: what(), cause: none() })
    }

    /// Asks for a change, and waits for its acknowledgement.
    pub(crate) fn change(
        &mut self,
        what: impl Fn() -> String,
        kind: Request,
        message: RouteNetlinkMessage,
    ) -> Result<(), Error> {
        self.change_with(what, kind.flags(), message)
    }

    /// The same with flags of its own, beside those that every change has.
    pub(crate) fn change_with(
        &mut self,
        what: impl Fn() -> String,
        flags: u16,
        message: RouteNetlinkMessage,
    ) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1);
        exchange(&self.route, self.sequence, &what, NLM_F_REQUEST | NLM_F_ACK | flags, message).map(drop)
    }

    /// Asks for everything of a kind. What changed while the kernel told it is asked for again: it may have been passed
    /// over (netlink(7), `NLM_F_DUMP_INTR`).
    pub(crate) fn dump(
        &mut self,
        what: impl Fn() -> String,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        for _ in 0..DUMPS_MOST {
            self.sequence = self.sequence.wrapping_add(1);
            let flags = NLM_F_REQUEST | NLM_F_DUMP;
            if let Told::Whole(answers) = exchange(&self.route, self.sequence, &what, flags, message.clone())? {
                return Ok(answers);
            }
        }
        Err(Error::Answer { what: what(), why: format!("it changed each of {DUMPS_MOST} times that it was told") })
    }

    /// Asks for one thing, and hears what is told of it.
    pub(crate) fn ask(
        &mut self,
        what: impl Fn() -> String,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        Ok(exchange(&self.route, self.sequence, &what, NLM_F_REQUEST | NLM_F_ACK, message)?.answers())
    }

    /// A generic netlink request (Documentation/userspace-api/netlink/intro.rst), and its answers.
    pub(crate) fn generic<M>(&mut self, what: impl Fn() -> String, message: M) -> Result<Vec<M>, Error>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        self.sequence = self.sequence.wrapping_add(1);
        Ok(exchange(&self.generic, self.sequence, &what, NLM_F_REQUEST | NLM_F_ACK, message)?.answers())
    }
}

fn open(protocol: isize) -> Result<Socket, Error> {
    let what = || "a netlink socket".to_owned();
    let failed = |cause| Error::Socket { what: what(), cause };
    let mut socket = Socket::new(protocol).map_err(failed)?;
    socket.bind_auto().map_err(failed)?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
    let patience = TimeVal::milliseconds(i64::try_from(PATIENCE.as_millis()).unwrap_or(i64::MAX));
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience).map_err(|errno| failed(errno.into()))?;
    Ok(socket)
}

/// What came of a question.
enum Told<M> {
    /// Everything.
    Whole(Vec<M>),
    /// Something, while it changed.
    Torn(Vec<M>),
}

impl<M> Told<M> {
    fn answers(self) -> Vec<M> {
        match self {
            Told::Whole(answers) | Told::Torn(answers) => answers,
        }
    }
}

/// Sends one message and collects what belongs to it, up to its acknowledgement or the end of the dump.
fn exchange<M>(
    socket: &Socket,
    sequence: u32,
    what: &dyn Fn() -> String,
    flags: u16,
    message: M,
) -> Result<Told<M>, Error>
where
    M: NetlinkSerializable + NetlinkDeserializable,
{
    let broken = |cause| Error::Socket { what: what(), cause };
    let strange = |why: String| Error::Answer { what: what(), why };
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0).map_err(broken)?;
    let deadline = Instant::now() + PATIENCE;
    let mut answers = Vec::new();
    let mut torn = false;
    let told = |answers, torn| if torn { Told::Torn(answers) } else { Told::Whole(answers) };
    loop {
        if Instant::now() >= deadline {
            return Err(broken(std::io::ErrorKind::TimedOut.into()));
        }
        let (datagram, _) = socket.recv_from_full().map_err(broken)?;
        let mut rest = datagram.as_slice();
        while rest.len() >= HEADER {
            let length = rest.first_chunk().map_or(0, |length: &[u8; 4]| u32::from_ne_bytes(*length) as usize);
            let one = rest.get(..length).filter(|one| one.len() >= HEADER);
            let one = one.ok_or_else(|| strange(format!("a message of {length} bytes in {}", rest.len())))?;
            let answer = NetlinkMessage::<M>::deserialize(one).map_err(|why| strange(why.to_string()))?;
            // What is left of an earlier question that was given up.
            if answer.header.sequence_number == sequence {
                torn |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(told(answers, torn)),
                    NetlinkPayload::Error(error) => {
                        return Err(Error::Refused { what: what(), cause: error.to_io() });
                    }
                    NetlinkPayload::Done(_) => return Ok(told(answers, torn)),
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    _ => {}
                }
            }
            // Messages begin at multiples of four bytes (netlink(7), NLMSG_ALIGN).
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}
