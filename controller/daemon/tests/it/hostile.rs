//! Hostile clients behind TLS: every limit that holds without it holds with it.

use crate::common;
use bulkhead_daemon::start;
use bulkhead_driver_sim::Fabric;
use common::{admin, ask, local_token, policy, secured};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Longest that anything may take: the limits themselves are up to 30 s.
const PATIENCE: Duration = Duration::from_secs(80);

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn config(ca: &Path, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Stream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), stream)
}

/// What comes until the end, however that comes.
fn rest(mut stream: Stream) -> String {
    let (mut told, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(length) = stream.read(&mut part) {
        if length == 0 {
            break;
        }
        told.extend_from_slice(&part[..length]);
    }
    String::from_utf8_lossy(&told).into_owned()
}

#[tokio::test]
async fn limits_hold_behind_tls() {
    let directory = tempfile::tempdir().unwrap();
    let settings = secured(directory.path());
    let daemon = start(&settings, Fabric::default()).await.unwrap();
    let (root, _) = admin(&settings, &daemon);
    let (address, token) = (daemon.listen, local_token(&settings));
    let tls = config(&settings.data_dir.join("tls/ca.pem"), &[]);
    let h2 = config(&settings.data_dir.join("tls/ca.pem"), &[b"h2"]);
    let head = move |rest: &str| {
        format!(
            "POST /v1/apply HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/yaml\r\n{rest}\r\n\r\n"
        )
    };
    let send = move |bytes: &[u8]| {
        let mut stream = connect(address, &tls);
        // It may be closed before all of it is sent.
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
        stream
    };
    ask(move || {
        // The slow ones go on beside all others.
        let began = Instant::now();
        let halves =
            [head("content-length: 100").into_bytes(), [head("content-length: 100").as_bytes(), b"kind: "].concat()];
        let halves = halves.map(|half| {
            let stream = send(&half);
            thread::spawn(move || rest(stream))
        });
        let mut dripping = send(b"GET /healthz");
        let dripping = thread::spawn(move || {
            // A path without an end, byte by byte, for as long as it is heard.
            while dripping.write_all(b"x").and_then(|()| dripping.flush()).is_ok() && began.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(300));
            }
            began.elapsed()
        });

        let told = rest(send(head("content-length: 104857600").as_bytes()));
        assert!(told.starts_with("HTTP/1.1 413 "), "{told}");
        let told = rest(send(
            &[
                head("transfer-encoding: chunked").into_bytes(),
                format!("1ffffff\r\n{}", " ".repeat(0x1ff_ffff)).into_bytes(),
            ]
            .concat(),
        ));
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 413 "), "{told}");
        let told = rest(send(head(&format!("x: {}", "y".repeat(200_000))).as_bytes()));
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 431 "), "{told}");
        let told = rest(send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"));
        assert!(!told.contains("HTTP/1.1 200"), "{told}");
        // HTTP/2 is agreed on by TLS alone, and who resets what he asks for is cut off.
        let mut other = connect(address, &h2);
        other.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").and_then(|()| other.flush()).unwrap();
        let resets = (1_u32..).step_by(2).take_while(|stream| {
            let stream = stream.to_be_bytes();
            let asks = [&[0, 0, 3, 1, 5], &stream[..], &[0x82, 0x84, 0x86]].concat();
            let resets = [&[0, 0, 4, 3, 0], &stream[..], &[0, 0, 0, 8]].concat();
            other.write_all(&[asks, resets].concat()).and_then(|()| other.flush()).is_ok()
        });
        assert!(resets.take(100_000).count() < 100_000);
        let told = rest(send(b"GET /v1/status HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n"));
        assert!(told.starts_with("HTTP/1.1 421 "), "{told}");

        // All the while edits are made.
        root.apply(&policy("shop"), false).unwrap();
        for half in halves {
            let told = half.join().unwrap();
            assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
        }
        let after = dripping.join().unwrap();
        assert!(after >= Duration::from_secs(25) && after < PATIENCE, "{after:?}");
        root.apply(&policy("pay"), false).unwrap();
    })
    .await;
    daemon.stop().await.unwrap();
}
