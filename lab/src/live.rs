//! Live connections: a TCP connection that always has something to say, so that its end is seen when it comes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bulkhead_netlink::Namespace;
use socket2::{Domain, Protocol, Socket, Type};

use crate::probe::is_timeout;
use crate::serve::GREETING;

/// Pause between an echo and the next message; how exactly the end of a connection is known.
const PULSE: Duration = Duration::from_millis(10);

/// How often a connection whose echo is late looks whether it is to end.
const TICK: Duration = Duration::from_millis(100);

/// One message.
const MESSAGE: [u8; 16] = *b"still here, you?";

/// A TCP connection to a [listener](crate::Listeners) that sends a message, waits for its echo, and goes on so.
#[derive(Debug)]
pub struct Live {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    echoes: AtomicU64,
    last: Mutex<Instant>,
    broken: AtomicBool,
}

impl Live {
    /// Connects, and waits for the greeting.
    ///
    /// # Errors
    /// When no connection comes about within `patience`.
    pub fn open(from: &Namespace, to: SocketAddr, patience: Duration) -> Result<Live> {
        let stream = from.run(|| connect(to, patience))?;
        let stream = stream.with_context(|| format!("no connection from {} to {to}", from.name()))?;
        let shared = Shared {
            stop: AtomicBool::new(false),
            echoes: AtomicU64::new(0),
            last: Mutex::new(Instant::now()),
            broken: AtomicBool::new(false),
        };
        let shared = Arc::new(shared);
        let pulse = Arc::clone(&shared);
        std::thread::Builder::new().name("live".into()).spawn(move || {
            if beat(stream, &pulse).is_err() {
                pulse.broken.store(true, Ordering::Relaxed);
            }
        })?;
        Ok(Live { shared })
    }

    /// Messages that came back so far.
    #[must_use]
    pub fn echoes(&self) -> u64 {
        self.shared.echoes.load(Ordering::Relaxed)
    }

    /// When the last one came back.
    #[must_use]
    pub fn last(&self) -> Instant {
        *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a reset or an end ended it.
    #[must_use]
    pub fn broken(&self) -> bool {
        self.shared.broken.load(Ordering::Relaxed)
    }

    /// Waits until nothing has come back for `silence`, and says when the last echo came; `None` if it still speaks
    /// after `patience`.
    #[must_use]
    pub fn wait_for_silence(&self, silence: Duration, patience: Duration) -> Option<Instant> {
        let deadline = Instant::now() + patience;
        loop {
            if self.last().elapsed() >= silence {
                return Some(self.last());
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(PULSE);
        }
    }

    /// Waits until another message comes back; false if none does within `patience`.
    #[must_use]
    pub fn speaks(&self, patience: Duration) -> bool {
        let (before, deadline) = (self.echoes(), Instant::now() + patience);
        while Instant::now() < deadline {
            if self.echoes() > before {
                return true;
            }
            std::thread::sleep(PULSE / 2);
        }
        false
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn connect(to: SocketAddr, patience: Duration) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.connect_timeout(&to.into(), patience)?;
    socket.set_read_timeout(Some(patience))?;
    let mut stream = TcpStream::from(socket);
    stream.read_exact(&mut [0; GREETING.len()])?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    Ok(stream)
}

/// Sends and listens in turn until told to stop. One message is under way at a time.
fn beat(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut heard = [0; MESSAGE.len()];
    'messages: while !shared.stop.load(Ordering::Relaxed) {
        stream.write_all(&MESSAGE)?;
        let mut have = 0;
        while have < MESSAGE.len() {
            if shared.stop.load(Ordering::Relaxed) {
                break 'messages;
            }
            match stream.read(heard.get_mut(have..).unwrap_or_default()) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => have += length,
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
        }
        *shared.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        shared.echoes.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(PULSE);
    }
    Ok(())
}
