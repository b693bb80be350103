//! Probes: one question with real packets, "does this get there and back?".

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bulkhead_netlink::Namespace;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::serve::GREETING;
use crate::workload::{Family, Workload};

/// How long a probe waits that nobody told otherwise. Packets that pass take 1 ms; a busy machine needs the rest.
/// It is below the first repetition of a SYN (1 s, RFC 6298), so a refusal costs one packet.
pub const PATIENCE: Duration = Duration::from_millis(400);

/// How often datagrams and echo requests are sent again.
const AGAIN: Duration = Duration::from_millis(250);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Service {
    /// A TCP connection to this port, and the greeting of a [listener](crate::Listeners).
    Tcp(u16),
    /// A datagram to this port, and its echo.
    Udp(u16),
    /// An ICMP or ICMPv6 echo.
    Icmp,
}

impl Service {
    /// The protocol's name in the API.
    #[must_use]
    pub fn protocol(self, family: Family) -> &'static str {
        match (self, family) {
            (Service::Tcp(_), _) => "tcp",
            (Service::Udp(_), _) => "udp",
            (Service::Icmp, Family::V4) => "icmp",
            (Service::Icmp, Family::V6) => "icmpv6",
        }
    }

    /// Its port, where it has one.
    #[must_use]
    pub fn port(self) -> Option<u16> {
        match self {
            Service::Tcp(port) | Service::Udp(port) => Some(port),
            Service::Icmp => None,
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Service::Tcp(port) => write!(out, "{port}/tcp"),
            Service::Udp(port) => write!(out, "{port}/udp"),
            Service::Icmp => out.write_str("ping"),
        }
    }
}

impl From<Service> for String {
    fn from(service: Service) -> String {
        service.to_string()
    }
}

impl TryFrom<String> for Service {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Service> {
        text.parse()
    }
}

impl FromStr for Service {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Service> {
        let how = || anyhow!("`{text}` is no service: write 443/tcp, 53/udp or ping");
        match text.split_once('/') {
            Some((port, "tcp")) => Ok(Service::Tcp(port.parse().map_err(|_| how())?)),
            Some((port, "udp")) => Ok(Service::Udp(port.parse().map_err(|_| how())?)),
            None if text == "ping" => Ok(Service::Icmp),
            _ => Err(how()),
        }
    }
}

/// What came of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// It got there and the answer got back.
    Passed,
    /// Told "no" by a TCP reset, or by "port unreachable".
    Refused,
    /// Told "no" by another ICMP error, or the sender's own kernel found nobody (ARP, ND).
    Unreachable,
    /// Nothing came back in time.
    Silence,
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Answer::Passed => "passed",
            Answer::Refused => "refused",
            Answer::Unreachable => "unreachable",
            Answer::Silence => "silence",
        })
    }
}

impl Answer {
    /// Whether it got there and back.
    #[must_use]
    pub fn passed(self) -> bool {
        self == Answer::Passed
    }
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Where it is asked from.
    pub from: Namespace,
    /// The source address; the kernel's choice if left out.
    pub source: Option<IpAddr>,
    /// Whom it is put to.
    pub to: IpAddr,
    /// What is asked for.
    pub service: Service,
    /// How long to wait.
    pub patience: Duration,
}

impl Probe {
    /// A probe between two workloads' first addresses of a family.
    ///
    /// # Errors
    /// When one of them has none.
    pub fn new(from: &Workload, to: &Workload, service: Service, family: Family) -> Result<Probe> {
        let first = |workload: &Workload| {
            workload.ip(family).ok_or_else(|| anyhow!("{} has no IPv{} address", workload.name(), family.number()))
        };
        let (source, to) = (Some(first(from)?), first(to)?);
        Ok(Probe { from: from.namespace().clone(), source, to, service, patience: PATIENCE })
    }

    /// The same with another patience. One of more than a second lets TCP repeat its SYN.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Probe {
        Probe { patience, ..self }
    }

    /// Asks, from a thread in the namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered or a socket cannot be had: nothing was learned.
    pub fn run(&self) -> Result<Answer> {
        self.from.run(|| self.ask())?
    }

    /// Asks, from a thread that is in the namespace already.
    fn ask(&self) -> Result<Answer> {
        let answer = match self.service {
            Service::Tcp(port) => self.tcp(port),
            Service::Udp(port) => self.udp(port),
            Service::Icmp => self.echo(),
        };
        answer.with_context(|| format!("{} from {} to {}", self.service, self.from.name(), self.to))
    }

    fn socket(&self, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        let socket = Socket::new(if self.to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 }, kind, Some(protocol))?;
        if let Some(source) = self.source {
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        Ok(socket)
    }

    fn tcp(&self, port: u16) -> io::Result<Answer> {
        let deadline = Instant::now() + self.patience;
        let socket = self.socket(Type::STREAM, Protocol::TCP)?;
        if let Err(error) = socket.connect_timeout(&SocketAddr::from((self.to, port)).into(), self.patience) {
            return verdict_of(error);
        }
        // Close with a reset: hundreds of probes must not leave hundreds of connections waiting out their end.
        socket.set_linger(Some(Duration::ZERO))?;
        let mut heard = [0; GREETING.len()];
        socket.set_read_timeout(Some(left(deadline)))?;
        match (&socket).read_exact(&mut heard) {
            Ok(()) if heard == *GREETING => Ok(Answer::Passed),
            Ok(()) => Err(io::Error::new(ErrorKind::InvalidData, "somebody else answered")),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Answer::Refused),
            Err(error) => verdict_of(error),
        }
    }

    fn udp(&self, port: u16) -> io::Result<Answer> {
        let socket = self.socket(Type::DGRAM, Protocol::UDP)?;
        // A connected datagram socket is told of ICMP errors (udp(7)).
        socket.connect(&SocketAddr::from((self.to, port)).into())?;
        let socket = std::net::UdpSocket::from(socket);
        let token = token().to_be_bytes();
        let mut heard = [0; 64];
        self.exchange(
            || socket.send(&token).map(drop),
            |wait| {
                socket.set_read_timeout(Some(wait))?;
                let length = socket.recv(&mut heard)?;
                Ok((heard.get(..length) == Some(&token)).then_some(Answer::Passed))
            },
        )
    }

    /// Raw sockets: the unprivileged kind is switched off in new namespaces (icmp(7), ping_group_range).
    fn echo(&self) -> io::Result<Answer> {
        let protocol = if self.to.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
        let socket = self.socket(Type::RAW, protocol)?;
        let peer = SocketAddr::from((self.to, 0)).into();
        let token = token();
        let request = echo_request(self.to.is_ipv4(), token, 1);
        let mut packet = [0; 512];
        self.exchange(
            || socket.send_to(&request, &peer).map(drop),
            |wait| {
                socket.set_read_timeout(Some(wait))?;
                let length = (&socket).read(&mut packet)?;
                Ok(echo_answer(self.to, token, packet.get(..length).unwrap_or_default()))
            },
        )
    }

    /// Sends, listens, and sends again until the patience is over.
    fn exchange(
        &self,
        mut send: impl FnMut() -> io::Result<()>,
        mut receive: impl FnMut(Duration) -> io::Result<Option<Answer>>,
    ) -> io::Result<Answer> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Err(error) = send() {
                return verdict_of(error);
            }
            let again = deadline.min(Instant::now() + AGAIN);
            while Instant::now() < again {
                match receive(left(again)) {
                    Ok(Some(answer)) => return Ok(answer),
                    // Somebody else's packet.
                    Ok(None) => {}
                    Err(error) if is_timeout(&error) => break,
                    Err(error) => return verdict_of(error),
                }
            }
            if Instant::now() >= deadline {
                return Ok(Answer::Silence);
            }
        }
    }
}

/// Asks all questions, at most `workers` at a time, and returns the answers in their order.
///
/// # Errors
/// When one of them could not be asked.
pub fn run_all(probes: &[Probe], workers: usize) -> Result<Vec<Answer>> {
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(vec![None; probes.len()]);
    let work = || -> Result<()> {
        let mut at: Option<&Namespace> = None;
        while let Some((number, probe)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            probes.get(number).map(|probe| (number, probe))
        } {
            if at != Some(&probe.from) {
                probe.from.enter()?;
                at = Some(&probe.from);
            }
            let answer = probe.ask()?;
            if let Some(slot) = answers.lock().unwrap_or_else(PoisonError::into_inner).get_mut(number) {
                *slot = Some(answer);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.clamp(1, probes.len().max(1))).map(|_| scope.spawn(work)).collect();
        let done = threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a probe panicked"))?);
        done.collect::<Result<()>>()
    })?;
    let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.into_iter().map(|answer| answer.context("a probe was not asked")).collect()
}

/// What an error says about the way there; an error that says nothing about it is passed on.
fn verdict_of(error: io::Error) -> io::Result<Answer> {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Ok(Answer::Refused),
        // "Administratively prohibited" is EHOSTUNREACH over IPv4 and EACCES over IPv6 (icmp(7), net/ipv6/icmp.c).
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::PermissionDenied => {
            Ok(Answer::Unreachable)
        }
        _ if is_timeout(&error) => Ok(Answer::Silence),
        _ => Err(error),
    }
}

/// Whether a read or connect ran out of time; which of the two kinds it is depends on the call (socket(7), SO_RCVTIMEO).
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// What is left until `deadline`; never zero, which would mean "for ever" to a socket.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// A number that tells this probe's packets from every other's of this process.
pub(crate) fn token() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An echo request whose identifier is the token (RFC 792, RFC 4443 §4.1). The kernel fills in ICMPv6 checksums.
pub(crate) fn echo_request(v4: bool, token: u16, sequence: u16) -> Vec<u8> {
    let mut packet = vec![if v4 { 8 } else { 128 }, 0, 0, 0];
    packet.extend_from_slice(&token.to_be_bytes());
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(b"bulkhead");
    if v4 {
        let sum = packet.chunks(2).fold(0u32, |sum, pair| {
            let &[high, low] = pair else { return sum };
            sum + u32::from(u16::from_be_bytes([high, low]))
        });
        let folded = (sum & 0xffff) + (sum >> 16);
        let [high, low] = (!((folded & 0xffff) as u16 + (folded >> 16) as u16)).to_be_bytes();
        packet.splice(2..4, [high, low]);
    }
    packet
}

/// What a received packet says about the request with this token, if it is about that one at all.
fn echo_answer(to: IpAddr, token: u16, packet: &[u8]) -> Option<Answer> {
    // IPv4 raw sockets deliver the IP header too (raw(7)), IPv6 ones do not.
    let icmp = if to.is_ipv4() { packet.get(header(packet)?..)? } else { packet };
    let (reply, errors) = if to.is_ipv4() { (0, [3, 11]) } else { (129, [1, 3]) };
    let kind = *icmp.first()?;
    if kind == reply {
        return (identifier(icmp)? == token).then_some(Answer::Passed);
    }
    if !errors.contains(&kind) {
        return None;
    }
    // The error repeats the packet that it is about, after 8 bytes of its own.
    let about = icmp.get(8..)?;
    let (destination, inner): (IpAddr, _) = match to {
        IpAddr::V4(_) => {
            let octets: [u8; 4] = about.get(16..20)?.try_into().ok()?;
            (Ipv4Addr::from(octets).into(), about.get(header(about)?..)?)
        }
        IpAddr::V6(_) => {
            let octets: [u8; 16] = about.get(24..40)?.try_into().ok()?;
            (Ipv6Addr::from(octets).into(), about.get(40..)?)
        }
    };
    (destination == to && identifier(inner)? == token).then_some(Answer::Unreachable)
}

/// Length of an IPv4 header (RFC 791 §3.1).
fn header(packet: &[u8]) -> Option<usize> {
    packet.first().map(|first| usize::from(first & 0x0f) * 4)
}

/// The identifier of an echo message.
fn identifier(icmp: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(icmp.get(4..6)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 21));

    /// Ones-complement sum over a whole message: 0xffff if its checksum is right (RFC 1071).
    fn sum(packet: &[u8]) -> u32 {
        let sum = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
        (sum & 0xffff) + (sum >> 16)
    }

    fn ipv4(payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 10, 1, 0, 10, 10, 1, 0, 21];
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn echo_requests_carry_a_right_checksum() {
        for token in [0, 1, 0x7fff, 0xffff] {
            assert_eq!(sum(&echo_request(true, token, 1)), 0xffff, "{token}");
        }
    }

    #[test]
    fn only_the_own_reply_counts() {
        let mut reply = echo_request(true, 7, 1);
        reply[0] = 0;
        assert_eq!(echo_answer(TO, 7, &ipv4(&reply)), Some(Answer::Passed));
        assert_eq!(echo_answer(TO, 8, &ipv4(&reply)), None);
        // The request itself, seen on the way out.
        assert_eq!(echo_answer(TO, 7, &ipv4(&echo_request(true, 7, 1))), None);
    }

    #[test]
    fn an_error_counts_if_it_is_about_the_own_request() {
        let mut error = vec![3, 13, 0, 0, 0, 0, 0, 0];
        error.extend_from_slice(&ipv4(&echo_request(true, 7, 1)));
        assert_eq!(echo_answer(TO, 7, &ipv4(&error)), Some(Answer::Unreachable));
        assert_eq!(echo_answer(TO, 8, &ipv4(&error)), None);
        assert_eq!(echo_answer(IpAddr::V4(Ipv4Addr::LOCALHOST), 7, &ipv4(&error)), None);
    }

    #[test]
    fn services_are_read_as_they_are_written() {
        for service in [Service::Tcp(443), Service::Udp(53), Service::Icmp] {
            assert_eq!(service.to_string().parse::<Service>().unwrap(), service);
        }
        for bad in ["tcp", "443", "443/sctp", "99999/tcp", "ping/1"] {
            assert!(bad.parse::<Service>().is_err(), "{bad}");
        }
    }

    #[test]
    fn short_packets_say_nothing() {
        let mut reply = echo_request(true, 7, 1);
        reply[0] = 0;
        let whole = ipv4(&reply);
        for length in 0..24 {
            assert_eq!(echo_answer(TO, 7, &whole[..length]), None, "{length}");
        }
    }
}
