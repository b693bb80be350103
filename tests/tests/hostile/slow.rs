//! Clients that take little of long answers, and those that send long requests and never end them.

use crate::{Fabric, PATIENCE, YAML, ask};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// Clients of each attack.
const CROWD: usize = 100;
/// Most memory that a crowd may cost beside what one client does: what answers and requests in memory may take
/// together, some of it twice for a moment.
const MOST: u64 = 192 << 20;

/// Workloads of a list that is longer than what sockets buffer: a dozen megabytes.
const LONG: usize = 5_000;

/// Documents of workloads with labels that are long and the same.
fn workloads(range: std::ops::Range<usize>) -> String {
    let labels: Vec<String> = (0..30).map(|i| format!("label-number-{i:02}: {}", "v".repeat(60))).collect();
    let labels = labels.join(", ");
    let one = |i: usize| {
        let (high, low) = (i / 256, i % 256);
        format!(
            "kind: Workload\nmetadata: {{name: w{i}, labels: {{{labels}}}}}\nspec: {{network: net, interfaces: [{{mac: \
             \"02:00:00:01:{high:02x}:{low:02x}\", ips: [10.1.{high}.{low}]}}]}}\n"
        )
    };
    range.map(one).collect::<Vec<_>>().join("---\n")
}

/// A controller with a list of workloads that is [`LONG`].
fn full() -> Fabric {
    let fabric = Fabric::new(1);
    for part in 0..4 {
        fabric.apply(workloads(part * LONG / 4..(part + 1) * LONG / 4).as_bytes());
    }
    fabric
}

/// Asks, and reads a little now and then, for this long or until the other side has enough.
fn sip(address: SocketAddr, path: &str, most: Duration) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    let began = Instant::now();
    while began.elapsed() < most && stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
        thread::sleep(Duration::from_millis(500));
    }
}

/// The memory that a crowd costs which sips of lists at these paths, while another client gets all of one.
fn sipped(fabric: &Fabric, path: impl Fn(usize) -> String + Sync) -> u64 {
    // What one reader costs is not the crowd's.
    let read = || {
        let (status, list) = ask(fabric.api, "GET", "/v1/workloads", "", b"");
        assert_eq!(status, 200);
        assert!(list.len() > 10 << 20, "a list of {} bytes is no long one", list.len());
    };
    (0..2).for_each(|_| read());
    let before = fabric.controller.peak().unwrap();
    fabric.meanwhile(|| {
        thread::scope(|scope| {
            let path = &path;
            let crowd = |i: usize| scope.spawn(move || sip(fabric.api, &path(i), Duration::from_secs(10)));
            let crowd: Vec<_> = (0..CROWD).map(crowd).collect();
            thread::sleep(Duration::from_secs(2));
            read();
            crowd.into_iter().for_each(|client| client.join().unwrap());
        });
    });
    let grown = fabric.controller.peak().unwrap().saturating_sub(before);
    println!("{CROWD} clients that barely read cost {} MiB", grown >> 20);
    grown
}

#[test]
fn r25_a_crowd_that_barely_reads_the_same_list_costs_one_list() {
    let fabric = full();
    let grown = sipped(&fabric, |_| "/v1/workloads".into());
    assert!(grown < MOST, "{} MiB", grown >> 20);
}

#[test]
fn r25_a_crowd_that_barely_reads_lists_of_its_own_costs_what_there_is_room_for() {
    let fabric = full();
    let grown = sipped(&fabric, |i| format!("/v1/workloads?labelSelector=app!%3Dx{i}"));
    assert!(grown < MOST, "{} MiB", grown >> 20);
}

/// Begins a large request and falls silent.
fn stalled(address: SocketAddr, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let length = 8_000_000;
    let head = format!(
        "POST /v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Type: {YAML}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // It may have been sent away for somebody else.
    let _ = stream.write_all(&vec![b'#'; sent]);
    stream
}

#[test]
fn r25_stalled_requests_keep_no_large_change_out_and_cost_little() {
    let fabric = Fabric::new(1);
    let large = workloads(0..2_000);
    assert!(large.len() > 4 << 20);
    let began = Instant::now();
    fabric.apply(large.as_bytes());
    let alone = began.elapsed();
    let before = fabric.controller.peak().unwrap();
    for sent in [1, 100_000, 7_900_000] {
        let crowd: Vec<TcpStream> = (0..CROWD).map(|_| stalled(fabric.api, sent)).collect();
        let began = Instant::now();
        fabric.apply(large.as_bytes());
        let took = began.elapsed();
        println!("beside {CROWD} requests that stall after {sent} bytes: {took:?}; alone: {alone:?}");
        assert!(took < 2 * alone + crate::LIMIT, "{took:?}, and {alone:?} alone");
        fabric.edit();
        drop(crowd);
    }
    let grown = fabric.controller.peak().unwrap().saturating_sub(before);
    println!("{} MiB more", grown >> 20);
    assert!(grown < MOST, "{} MiB", grown >> 20);
}
