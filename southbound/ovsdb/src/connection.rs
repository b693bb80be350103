//! The socket around a [`Session`], and when to try again.

use crate::{
    endpoint::Endpoint,
    error::SessionError,
    machine::{Config, Event, Session},
};
use bulkhead_tls::{Certificate, HandshakeError, Tls};
use std::{io, net::IpAddr, time::Duration};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::{TcpStream, UnixStream},
    time::{Instant, sleep_until, timeout},
};

/// How long a server may take to accept a connection, looking its name up included.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// Bytes taken from the socket at once.
const READ: usize = 64 << 10;

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The socket could not be connected.
    #[error("cannot connect to {endpoint}: {source}")]
    Socket {
        /// Where to.
        endpoint: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// Nobody answered.
    #[error("cannot connect to {0} within {OPEN_LIMIT:?}")]
    Timeout(Endpoint),
    /// Nobody whom we believe is there.
    #[error("cannot connect to {endpoint}: {source}")]
    Handshake {
        /// Where to.
        endpoint: Endpoint,
        /// Why.
        source: HandshakeError,
    },
    /// This side has nothing to show.
    #[error("cannot connect to {0}: there is no certificate to show there")]
    NoCertificate(Endpoint),
}

/// A socket of any kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A session over a socket. It does nothing but in [`Connection::event`].
pub struct Connection {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    /// What TLS was given, it may hold back until it is flushed.
    held: bool,
    buffer: Vec<u8>,
    session: Session,
    began: Instant,
    local: Option<IpAddr>,
    certificate: Option<Certificate>,
    tls: Option<Tls>,
}

impl Connection {
    /// Connects; to `ssl:` endpoints with `tls`. Whose certificate the server has shown is for the caller to judge, before
    /// anything is said: see [`Self::certificate`].
    ///
    /// # Errors
    /// When nobody is there, or nobody whom we believe.
    pub async fn open(endpoint: &Endpoint, config: Config, tls: Option<&Tls>) -> Result<Self, OpenError> {
        let socket = |source| OpenError::Socket { endpoint: endpoint.clone(), source };
        let opened = timeout(OPEN_LIMIT, reach(endpoint)).await.map_err(|_| OpenError::Timeout(endpoint.clone()))?;
        let (stream, local, certificate): (Box<dyn Stream>, _, _) = match opened.map_err(socket)? {
            Reached::Unix(stream) => (Box::new(stream), None, None),
            Reached::Tcp(stream) => {
                // Small messages that wait for each other: nothing is gained by holding them back.
                let _ = stream.set_nodelay(true);
                let local = stream.local_addr().ok().map(|local| local.ip().to_canonical());
                if let Endpoint::Ssl { .. } = endpoint {
                    let tls = tls.ok_or_else(|| OpenError::NoCertificate(endpoint.clone()))?;
                    let shown = tls.connect(stream).await;
                    let (stream, certificate) =
                        shown.map_err(|source| OpenError::Handshake { endpoint: endpoint.clone(), source })?;
                    (Box::new(stream), local, Some(certificate))
                } else {
                    (Box::new(stream), local, None)
                }
            }
        };
        let (reader, writer) = split(stream);
        let (session, began) = (Session::new(config), Instant::now());
        let (buffer, tls) = (vec![0; READ], tls.cloned());
        Ok(Self { reader, writer, held: false, buffer, session, began, local, certificate, tls })
    }

    /// The session: its replica, and where transactions are sent.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// This end's address; none of a Unix socket.
    pub fn local(&self) -> Option<IpAddr> {
        self.local
    }

    /// What the server has shown; none of one that is not reached by TLS.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// Time since the connection was there, as the session is told it.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// What happens next. May be dropped at any point without a loss. After [`Event::Dead`] nothing does.
    pub async fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.session.poll_event() {
                return event;
            }
            let now = self.began.elapsed();
            let Some(deadline) = self.session.next_deadline(now) else { std::future::pending().await };
            tokio::select! {
                read = self.reader.read(&mut self.buffer) => match read {
                    Ok(0) => self.session.lost(SessionError::Socket("the server closed the connection".into())),
                    Ok(count) => {
                        let bytes = self.buffer.get(..count).unwrap_or_default();
                        // What is wrong with them comes as an event.
                        let _ = self.session.received(bytes, self.began.elapsed());
                    }
                    Err(error) => self.session.lost(SessionError::Socket(cause(self.tls.as_ref(), error))),
                },
                wrote = push(&mut self.writer, self.session.output()),
                    if self.held || !self.session.output().is_empty() => match wrote {
                    Ok(count) => {
                        self.held = count > 0;
                        self.session.sent(count);
                    }
                    Err(error) => self.session.lost(SessionError::Socket(cause(self.tls.as_ref(), error))),
                },
                () = sleep_until(self.began + deadline) => self.session.tick(self.began.elapsed()),
            }
        }
    }
}

/// A socket that is connected.
enum Reached {
    Unix(UnixStream),
    Tcp(TcpStream),
}

async fn reach(endpoint: &Endpoint) -> io::Result<Reached> {
    match endpoint {
        Endpoint::Unix(path) => UnixStream::connect(path).await.map(Reached::Unix),
        Endpoint::Tcp { host, port } | Endpoint::Ssl { host, port } => {
            TcpStream::connect((host.as_str(), *port)).await.map(Reached::Tcp)
        }
    }
}

/// Writes some of `rest`; when nothing is left, what was written before leaves.
async fn push(writer: &mut WriteHalf<Box<dyn Stream>>, rest: &[u8]) -> io::Result<usize> {
    if rest.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    writer.write(rest).await
}

/// What an error of the socket means.
fn cause(tls: Option<&Tls>, error: io::Error) -> String {
    match tls {
        Some(tls) => tls.cause(error).to_string(),
        None => error.to_string(),
    }
}

/// Pauses between attempts, each twice the last.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The first pause: a server that restarts is away for about so long.
    const FIRST: Duration = Duration::from_millis(100);
    /// The longest one: a host that comes back waits no longer.
    const MOST: Duration = Duration::from_secs(8);

    /// How long to wait now.
    pub fn pause(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(Self::MOST);
        now
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: Self::FIRST }
    }
}
