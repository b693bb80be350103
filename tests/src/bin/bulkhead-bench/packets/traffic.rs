//! Traffic between two hosts of a lab, by plain sockets.

use crate::sample::Sample;
use anyhow::{Context, Result, anyhow};
use bulkhead_lab::{Workload, workload::Family};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long anything may take: a path that is cut off does not hold the run up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that are written and read at a time.
const CHUNK: usize = 1 << 17;
/// Bytes of a request, and of its answer.
const REQUEST: usize = 64;
/// First source port of datagrams, and first destination port of a scan.
const FIRST: u16 = 20_000;
/// Datagrams sent without a pause. A host's link queues many more; the switch takes so many in a few milliseconds.
const BURST: u16 = 50;
/// Pause between two bursts.
const PAUSE: Duration = Duration::from_millis(5);

/// A stream that runs until it is closed.
pub(crate) struct Stream {
    received: Arc<AtomicU64>,
    ends: [TcpStream; 2],
    threads: [JoinHandle<()>; 2],
}

impl Stream {
    pub(crate) fn open(from: &Workload, to: &Workload, target: SocketAddr) -> Result<Self> {
        let listener = listen(to, target)?;
        let mut sender = connect(from, target)?;
        let (mut receiver, _) = listener.accept()?;
        receiver.set_read_timeout(Some(PATIENCE))?;
        let ends = [sender.try_clone()?, receiver.try_clone()?];
        let received = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&received);
        let threads = [
            thread::spawn(move || while sender.write_all(&[0; CHUNK]).is_ok() {}),
            thread::spawn(move || {
                let mut buffer = vec![0; CHUNK];
                while let Ok(length @ 1..) = receiver.read(&mut buffer) {
                    count.fetch_add(length as u64, Ordering::Relaxed);
                }
            }),
        ];
        Ok(Self { received, ends, threads })
    }

    /// Bytes that arrived so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn close(self) -> Result<()> {
        for end in &self.ends {
            // The other end may be gone already, which is what this is for.
            let _ = end.shutdown(Shutdown::Both);
        }
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("a stream's thread broke"))?;
        }
        Ok(())
    }
}

/// Connections per second, one after another, each with a byte there and back.
pub(crate) fn connections(from: &Workload, to: &Workload, target: SocketAddr, span: Duration) -> Result<f64> {
    let over = AtomicBool::new(false);
    let listener = listen(to, target)?;
    // Looked at again and again, so that nobody has to connect to end it. The pause is well below what a connection takes.
    listener.set_nonblocking(true)?;
    thread::scope(|scope| {
        let server = scope.spawn(|| serve(&listener, &over));
        let result = from.namespace().run(|| -> Result<f64> {
            let began = Instant::now();
            let mut count = 0;
            while began.elapsed() < span {
                let mut stream = open(target)?;
                stream.write_all(&[1])?;
                // The server closes first, so that the client's port is free again.
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer)?;
                anyhow::ensure!(answer == [1], "no answer");
                count += 1;
            }
            Ok(f64::from(count) / began.elapsed().as_secs_f64())
        });
        over.store(true, Ordering::Relaxed);
        server.join().map_err(|_| anyhow!("the server broke"))??;
        result?
    })
}

fn serve(listener: &TcpListener, over: &AtomicBool) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                stream.write_all(&byte)?;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_micros(20)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Requests and answers on one connection, one at a time.
pub(crate) fn requests(from: &Workload, to: &Workload, target: SocketAddr, count: usize) -> Result<Sample> {
    let listener = listen(to, target)?;
    let mut client = connect(from, target)?;
    let (mut server, _) = listener.accept()?;
    server.set_nodelay(true)?;
    server.set_read_timeout(Some(PATIENCE))?;
    let answering = thread::spawn(move || {
        let mut request = [0; REQUEST];
        while server.read_exact(&mut request).is_ok() && server.write_all(&request).is_ok() {}
    });
    let (mut sample, mut answer) = (Sample::default(), [0; REQUEST]);
    for _ in 0..count {
        let began = Instant::now();
        client.write_all(&[1; REQUEST])?;
        client.read_exact(&mut answer)?;
        sample.add(began.elapsed());
    }
    drop(client);
    answering.join().map_err(|_| anyhow!("the answering thread broke"))?;
    Ok(sample)
}

/// In what flows differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scatter {
    /// In their source port.
    Sources,
    /// In their destination port.
    Destinations,
    /// In nothing but where they go.
    Targets,
}

/// One datagram for each of so many flows, to these in turn.
pub(crate) fn datagrams(from: &Workload, targets: &[SocketAddr], flows: u16, scatter: Scatter) -> Result<()> {
    let ip = from.ip(Family::V4).context("no address")?;
    from.namespace().run(|| -> Result<()> {
        let single = UdpSocket::bind((ip, 0))?;
        for (number, target) in (0..flows).zip(targets.iter().cycle()) {
            match scatter {
                Scatter::Sources => UdpSocket::bind((ip, FIRST + number))?.send_to(&[0], target)?,
                Scatter::Destinations => single.send_to(&[0], (target.ip(), FIRST + number))?,
                Scatter::Targets => single.send_to(&[0], target)?,
            };
            if number % BURST == BURST - 1 {
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    })?
}

/// Takes datagrams, and reads none: nobody is told that they are unwanted.
pub(crate) fn sink(host: &Workload, port: u16) -> Result<UdpSocket> {
    let address = (host.ip(Family::V4).context("no address")?, port);
    Ok(host.namespace().run(|| UdpSocket::bind(address))??)
}

fn listen(host: &Workload, address: SocketAddr) -> Result<TcpListener> {
    host.namespace().run(|| TcpListener::bind(address))?.context("cannot listen")
}

fn connect(host: &Workload, target: SocketAddr) -> Result<TcpStream> {
    host.namespace().run(|| open(target))?
}

fn open(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE).context("cannot connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
