//! A stream of pings at a fixed rate: how many are lost, and for how long nothing comes back.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use bulkhead_netlink::Namespace;
use socket2::{Domain, Protocol, Socket, Type};

use crate::probe::{echo_request, is_timeout, token};

/// Fastest rate, in pings per second.
const RATE_MOST: u32 = 10_000;

/// How long an answer may take that is waited for after the last ping.
const LATE: Duration = Duration::from_millis(500);

/// What came of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Losses {
    /// Pings that were sent.
    pub sent: u32,
    /// Answers that came, each ping's once.
    pub answered: u32,
    /// The longest time from one answer to the next, from the first ping to the first, and from the last to the last
    /// ping.
    pub longest_gap: Duration,
}

impl Losses {
    /// Pings without an answer.
    #[must_use]
    pub fn lost(self) -> u32 {
        self.sent - self.answered
    }
}

/// Pings under way. They end when this is dropped.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<Losses>>>,
}

impl Stream {
    /// Begins to ping from a namespace, `rate` times a second (1 to 10,000).
    ///
    /// # Errors
    /// When the namespace cannot be entered or gives no socket.
    pub fn start(from: &Namespace, source: Option<IpAddr>, to: IpAddr, rate: u32) -> Result<Stream> {
        ensure!((1..=RATE_MOST).contains(&rate), "a rate is 1 to {RATE_MOST} pings a second");
        let open = || -> io::Result<Socket> {
            let (domain, protocol) = match to {
                IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
                IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
            };
            let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
            if let Some(source) = source {
                socket.bind(&SocketAddr::from((source, 0)).into())?;
            }
            // Only what comes from there.
            socket.connect(&SocketAddr::from((to, 0)).into())?;
            Ok(socket)
        };
        let socket = from.run(open)?.with_context(|| format!("no pings from {} to {to}", from.name()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let work = move || run(&socket, to.is_ipv4(), Duration::from_secs(1) / rate, &flag);
        let thread = std::thread::Builder::new().name("stream".into()).spawn(work)?;
        Ok(Stream { stop, thread: Some(thread) })
    }

    /// Ends it, waits for late answers, and counts.
    ///
    /// # Errors
    /// When the socket failed for another reason than that nobody is there.
    pub fn stop(mut self) -> Result<Losses> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it was stopped")?;
        Ok(thread.join().map_err(|_| anyhow!("the stream panicked"))??)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn run(socket: &Socket, v4: bool, pause: Duration, stop: &AtomicBool) -> io::Result<Losses> {
    let token = token();
    let begun = Instant::now();
    let (mut answered, mut last, mut longest) = (Vec::new(), begun, Duration::ZERO);
    let mut end = None;
    loop {
        let now = Instant::now();
        let next = begun + pause * u32::try_from(answered.len()).unwrap_or(u32::MAX);
        if end.is_none() && stop.load(Ordering::Relaxed) {
            end = Some(now);
        }
        let until = match end {
            Some(end) if now >= end + LATE || answered.iter().all(|one| *one) => break,
            Some(end) => end + LATE,
            None if now >= next => {
                // A way that is closed (no neighbour, no route, an ICMP error) loses this ping like any other.
                let _ = socket.send(&echo_request(v4, token, sequence(answered.len())));
                answered.push(false);
                continue;
            }
            None => next,
        };
        // Never zero, which would mean "for ever", and short enough to see `stop`.
        let wait = until.saturating_duration_since(now).clamp(Duration::from_micros(100), Duration::from_millis(50));
        socket.set_read_timeout(Some(wait))?;
        let mut packet = [0; 512];
        match io::Read::read(&mut { socket }, &mut packet) {
            Ok(length) => {
                let heard = packet.get(..length).unwrap_or_default();
                let Some(number) = answer(v4, token, heard, answered.len()) else { continue };
                if let Some(slot) = answered.get_mut(number).filter(|slot| !**slot) {
                    *slot = true;
                    let now = Instant::now();
                    longest = longest.max(now - last);
                    last = now;
                }
            }
            Err(error) if is_timeout(&error) => {}
            // An ICMP error about an earlier ping.
            Err(error) if error.raw_os_error().is_some() => {}
            Err(error) => return Err(error),
        }
    }
    longest = longest.max(end.unwrap_or(last).saturating_duration_since(last));
    let count = |those: usize| u32::try_from(those).unwrap_or(u32::MAX);
    let came = answered.iter().filter(|one| **one).count();
    Ok(Losses { sent: count(answered.len()), answered: count(came), longest_gap: longest })
}

/// Sequence numbers are 16 bits (RFC 792) and come round.
fn sequence(number: usize) -> u16 {
    (number & 0xffff) as u16
}

/// Which ping a packet answers: of those with its sequence number the latest.
fn answer(v4: bool, token: u16, packet: &[u8], sent: usize) -> Option<usize> {
    // IPv4 raw sockets deliver the IP header too (raw(7)), IPv6 ones do not.
    let header = if v4 { packet.first().map(|first| usize::from(first & 0x0f) * 4)? } else { 0 };
    let icmp = packet.get(header..)?;
    let part = |at: usize| Some(u16::from_be_bytes(icmp.get(at..at + 2)?.try_into().ok()?));
    if *icmp.first()? != if v4 { 0 } else { 129 } || part(4)? != token {
        return None;
    }
    let number = usize::from(part(6)?);
    let last = sent.checked_sub(1)?;
    let back = last.wrapping_sub(number) & 0xffff;
    last.checked_sub(back)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(token: u16, sequence: u16) -> Vec<u8> {
        let mut packet = vec![129, 0, 0, 0];
        packet.extend(token.to_be_bytes());
        packet.extend(sequence.to_be_bytes());
        packet
    }

    #[test]
    fn answers_find_their_ping_when_numbers_come_round() {
        assert_eq!(answer(false, 7, &reply(7, 3), 10), Some(3));
        assert_eq!(answer(false, 7, &reply(7, 0xffff), 0x1_0004), Some(0xffff));
        assert_eq!(answer(false, 7, &reply(7, 2), 0x1_0004), Some(0x1_0002));
        assert_eq!(answer(false, 7, &reply(8, 3), 10), None, "another's");
        assert_eq!(answer(false, 7, &reply(7, 11), 10), None, "never sent");
        assert_eq!(answer(false, 7, &reply(7, 3)[..6], 10), None);
    }
}
