//! Listeners: what answers a probe, so that "connected" means that bytes went there and back.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bulkhead_netlink::Namespace;
use socket2::{Domain, Protocol, Socket, Type};

use crate::probe::Service;

/// What a TCP listener says first; afterwards it repeats what it hears.
pub const GREETING: &[u8] = b"bulkhead-lab\n";

/// How often a listener looks whether it is to end.
const TICK: Duration = Duration::from_millis(200);

/// How long a connection may be silent before it is closed. Longer than any test cuts one off for.
const IDLE: Duration = Duration::from_secs(60);

/// Connections waiting to be accepted; more than all probes at once.
const BACKLOG: i32 = 256;

/// Listeners in one namespace, over IPv4 and IPv6. They end when this is dropped.
#[derive(Debug)]
pub struct Listeners {
    stop: Arc<AtomicBool>,
    tcp: Vec<Socket>,
}

impl Listeners {
    /// Listens on the ports of these services; ICMP echo is the kernel's own business and is passed over.
    ///
    /// # Errors
    /// When a port is taken or the namespace cannot be entered.
    pub fn start(namespace: &Namespace, services: &[Service]) -> Result<Listeners> {
        let sockets = namespace.run(|| services.iter().map(|service| open(*service)).collect::<Result<Vec<_>>>())??;
        let stop = Arc::new(AtomicBool::new(false));
        let mut tcp = Vec::new();
        for (service, socket) in services.iter().zip(sockets) {
            let (Some(socket), stop) = (socket, Arc::clone(&stop)) else { continue };
            let work: Box<dyn FnOnce() + Send> = if matches!(service, Service::Tcp(_)) {
                tcp.push(socket.try_clone()?);
                Box::new(move || accept(&socket.into(), &stop))
            } else {
                Box::new(move || echo_datagrams(&socket.into(), &stop))
            };
            std::thread::Builder::new().name(format!("listen {service}")).spawn(work)?;
        }
        Ok(Listeners { stop, tcp })
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for socket in &self.tcp {
            // Wakes the thread that accepts.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// One socket for both families: Linux maps IPv4 into an IPv6 socket that allows it (ipv6(7)).
fn open(service: Service) -> Result<Option<Socket>> {
    let (kind, protocol, port) = match service {
        Service::Tcp(port) => (Type::STREAM, Protocol::TCP, port),
        Service::Udp(port) => (Type::DGRAM, Protocol::UDP, port),
        Service::Icmp => return Ok(None),
    };
    let socket = Socket::new(Domain::IPV6, kind, Some(protocol))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.set_read_timeout(Some(TICK))?;
    socket
        .bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())
        .with_context(|| format!("cannot listen on {service}"))?;
    if kind == Type::STREAM {
        socket.listen(BACKLOG)?;
    }
    Ok(Some(socket))
}

fn accept(listener: &TcpListener, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        if let Ok((stream, _)) = listener.accept() {
            let stop = Arc::clone(stop);
            let _ = std::thread::Builder::new().name("connection".into()).spawn(move || echo_stream(stream, &stop));
        }
    }
}

fn echo_stream(mut stream: TcpStream, stop: &AtomicBool) {
    // Small packets at once: a live connection's echoes are what its pulse is taken by.
    let _ = stream.set_nodelay(true);
    if stream.set_read_timeout(Some(TICK)).is_err() || stream.write_all(GREETING).is_err() {
        return;
    }
    let mut buffer = [0; 4096];
    let mut silent = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) && silent < IDLE {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                silent = Duration::ZERO;
                if stream.write_all(buffer.get(..length).unwrap_or_default()).is_err() {
                    return;
                }
            }
            Err(error) if crate::probe::is_timeout(&error) => silent += TICK,
            Err(_) => return,
        }
    }
}

fn echo_datagrams(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), peer);
        }
    }
}
