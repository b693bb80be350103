//! The socket around a [`Session`], and when to try again.

use crate::{
    endpoint::Endpoint,
    error::SessionError,
    machine::{Config, Event, Session},
};
use std::{io, net::IpAddr, time::Duration};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
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
}

/// A session over a socket. It does nothing but in [`Connection::event`].
pub struct Connection {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    buffer: Vec<u8>,
    session: Session,
    began: Instant,
    local: Option<IpAddr>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody is there.
    pub async fn open(endpoint: &Endpoint, config: Config) -> Result<Self, OpenError> {
        type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>, Option<IpAddr>);
        let connect = async {
            let halves: io::Result<Halves> = match endpoint {
                Endpoint::Unix(path) => UnixStream::connect(path).await.map(|stream| {
                    let (reader, writer) = split(stream);
                    (Box::new(reader) as _, Box::new(writer) as _, None)
                }),
                Endpoint::Tcp { host, port } => TcpStream::connect((host.as_str(), *port)).await.map(|stream| {
                    // Small messages that wait for each other: nothing is gained by holding them back.
                    let _ = stream.set_nodelay(true);
                    let local = stream.local_addr().ok().map(|local| local.ip().to_canonical());
                    let (reader, writer) = split(stream);
                    (Box::new(reader) as _, Box::new(writer) as _, local)
                }),
            };
            halves
        };
        let (reader, writer, local) = match timeout(OPEN_LIMIT, connect).await {
            Ok(Ok(halves)) => halves,
            Ok(Err(source)) => return Err(OpenError::Socket { endpoint: endpoint.clone(), source }),
            Err(_) => return Err(OpenError::Timeout(endpoint.clone())),
        };
        let (session, began) = (Session::new(config), Instant::now());
        Ok(Self { reader, writer, buffer: vec![0; READ], session, began, local })
    }

    /// The session: its replica, and where transactions are sent.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// This end's address; none of a Unix socket.
    pub fn local(&self) -> Option<IpAddr> {
        self.local
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
                    Err(error) => self.session.lost(SessionError::Socket(error.to_string())),
                },
                wrote = self.writer.write(self.session.output()), if !self.session.output().is_empty() => match wrote {
                    Ok(count) => self.session.sent(count),
                    Err(error) => self.session.lost(SessionError::Socket(error.to_string())),
                },
                () = sleep_until(self.began + deadline) => self.session.tick(self.began.elapsed()),
            }
        }
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
