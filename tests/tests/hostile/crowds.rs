//! Many connections that do nothing, or do it slowly.

use crate::{Fabric, PATIENCE, YAML};
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// File descriptors that this process may have.
fn descriptors() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX)
}

/// Connections that a crowd has, within the limits of this process and of this much time, which is enough for all of
/// them on a machine that does nothing else.
const CROWD: usize = 10_000;
const ARRIVAL: Duration = Duration::from_secs(20);
/// The least of them that make it a crowd: several times as many as there are places for.
const LEAST: usize = 2_000;

/// Opens connections that say nothing; those that were taken, or refused at once.
fn crowd(address: SocketAddr) -> Vec<TcpStream> {
    let (began, each) = (Instant::now(), CROWD.min(descriptors().saturating_sub(200)) / 4);
    let arrive = || {
        let mut part = Vec::new();
        while part.len() < each && began.elapsed() < ARRIVAL {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => part.push(stream),
                Err(error) => panic!("connection {}: {error}", part.len()),
            }
        }
        part
    };
    let crowd: Vec<TcpStream> = thread::scope(|scope| {
        let parts: Vec<_> = (0..4).map(|_| scope.spawn(arrive)).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    println!("{} idle connections after {:?}", crowd.len(), began.elapsed());
    assert!(crowd.len() >= LEAST.min(4 * each), "{} connections", crowd.len());
    // And with all of them there.
    thread::sleep(Duration::from_secs(1));
    crowd
}

#[test]
fn r25_ten_thousand_idle_clients_keep_nobody_out() {
    let fabric = Fabric::new(1);
    let crowd = fabric.meanwhile(|| crowd(fabric.api));
    fabric.edit();
    drop(crowd);
}

#[test]
fn r25_ten_thousand_idle_peers_disturb_no_switch() {
    let fabric = Fabric::new(1);
    let crowd = fabric.meanwhile(|| crowd(fabric.controller.openflow));
    drop(crowd);
    // With the crowd gone, a new switch gets in.
    drop(crate::peer::Peer::greeted(&fabric));
}

/// Sends `bytes` one by one, `pause` apart, until the other side closes; how long it had the patience.
fn drip(address: SocketAddr, head: &str, bytes: &[u8], pause: Duration, most: Duration) -> Duration {
    let mut stream = TcpStream::connect(address).unwrap();
    let began = Instant::now();
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(pause)).unwrap();
    for byte in bytes.iter().cycle() {
        if began.elapsed() > most || stream.write_all(&[*byte]).is_err() {
            break;
        }
        // Waits for the end of the pause, or of the connection.
        match stream.read(&mut [0; 1024]) {
            Ok(0) => break,
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            _ => {}
        }
    }
    began.elapsed()
}

#[test]
fn r25_requests_that_come_byte_by_byte_are_given_up() {
    let fabric = Fabric::new(1);
    let (pause, most) = (Duration::from_millis(500), Duration::from_secs(60));
    let head =
        format!("POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Type: {YAML}\r\nContent-Length: 4000\r\n\r\n");
    let chunked = format!(
        "POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Type: {YAML}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let longest = fabric.meanwhile(|| {
        thread::scope(|scope| {
            let (api, head, chunked) = (fabric.api, &head, &chunked);
            let mut slow = Vec::new();
            for _ in 0..50 {
                slow.push(scope.spawn(move || drip(api, "GET /healthz HTTP/1.1\r\n", b"x: y\r\n", pause, most)));
                slow.push(scope.spawn(move || drip(api, head, b"#", pause, most)));
                slow.push(scope.spawn(move || drip(api, chunked, b"1\r\n#\r\n", pause, most)));
            }
            slow.into_iter().map(|slow| slow.join().unwrap()).max().unwrap()
        })
    });
    println!("the most patient was given up after {longest:?}");
    assert!(longest < most, "a slow request was never given up");
}
