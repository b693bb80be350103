//! Clients that go away, come from elsewhere, or ask for the same thing, over real connections.

use crate::common;
use bulkhead_api::{Door, serve};
use bulkhead_client::Client;
use bulkhead_types::{Format, read};
use common::{Fake, shop};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc::sync_channel,
    time::Duration,
};

/// Longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// After so long nothing more is to come.
const QUIET: Duration = Duration::from_secs(2);

/// Serves a controller on an address of its own, and talks with it as a client does.
fn served(fake: Fake, listen: &str, talk: impl FnOnce(SocketAddr) + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, Door::Plain, fake, async { drop(stopped.await) }));
        tokio::task::spawn_blocking(move || talk(address)).await.unwrap();
        stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, server).await.unwrap().unwrap().unwrap();
    });
}

fn status(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_page_of_another_origin_or_name_is_refused_on_loopback() {
    served(Fake::default(), "127.0.0.1:0", |address| {
        let port = address.port();
        for (head, expected, word) in [
            (format!("Host: localhost:{port}\r\n"), "200", ""),
            (format!("Host: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"), "200", ""),
            (format!("Host: evil.example:{port}\r\n"), "421", "urn:bulkhead:problem:misdirected"),
            (String::new(), "421", "urn:bulkhead:problem:misdirected"),
            ("Host: localhost\r\nOrigin: http://evil.example\r\n".into(), "403", "urn:bulkhead:problem:foreign-origin"),
            ("Host: localhost\r\nOrigin: null\r\n".into(), "403", "urn:bulkhead:problem:foreign-origin"),
        ] {
            for path in ["/healthz", "/v1/policies", "/v1/nothing/at/all"] {
                let answer = status(address, &format!("GET {path} HTTP/1.1\r\n{head}"));
                let expected = if expected == "200" && path.ends_with("all") { "404" } else { expected };
                assert!(
                    answer.starts_with(&format!("HTTP/1.1 {expected} ")) && answer.contains(word),
                    "{head}{answer}"
                );
            }
        }
        // The target's host is stronger than the header.
        let target = format!("GET http://evil.example:{port}/healthz HTTP/1.1\r\nHost: localhost\r\n");
        assert!(status(address, &target).starts_with("HTTP/1.1 421 "));
    });
}

#[test]
fn a_controller_for_others_answers_to_any_name() {
    served(Fake::default(), "0.0.0.0:0", |address| {
        let address = SocketAddr::from(([127, 0, 0, 1], address.port()));
        assert!(status(address, "GET /healthz HTTP/1.1\r\nHost: bulkhead.example\r\n").starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn r25_a_matrix_ends_when_its_client_has_gone() {
    let fake = Fake::default();
    let workloads: String = (0..400)
        .map(|i| {
            let (high, low) = (i / 256, i % 256);
            format!(
                "---\nkind: Workload\nmetadata: {{name: w{i}}}\nspec: {{network: shop, interfaces: \
                 [{{mac: \"02:00:00:01:{high:02x}:{low:02x}\", ips: [10.1.{}.{low}]}}]}}\n",
                high + 10
            )
        })
        .collect();
    served(fake.clone(), "127.0.0.1:0", move |address| {
        let client = Client::new(&format!("http://{address}")).unwrap();
        let parsed = read(None, (shop() + &workloads).as_bytes(), Format::Any);
        let documents: Vec<_> = parsed.documents.iter().map(|d| d.to_value()).collect();
        client.apply(&documents, false).unwrap();
        // From now on every row waits until it is heard of.
        let (looks, rows) = sync_channel(0);
        fake.0.lock().unwrap().looks = Some(looks);
        let mut asks = TcpStream::connect(address).unwrap();
        asks.write_all(b"GET /v1/matrix?port=80/tcp HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        for _ in 0..10 {
            rows.recv_timeout(PATIENCE).unwrap();
        }
        drop(asks);
        // As slowly as the news of the client's end may travel; all rows take longer than that.
        let mut more = 0;
        while rows.recv_timeout(QUIET).is_ok() {
            more += 1;
            std::thread::sleep(Duration::from_millis(10));
        }
        fake.0.lock().unwrap().looks = None;
        assert!(more < 100, "{more} rows for nobody");
    });
}
