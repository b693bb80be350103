//! HTTP/2: what REST answers by it, and clients that abuse it.

use crate::common;
#[allow(dead_code, reason = "no documents are needed here")]
use bulkhead_api::{Door, serve};
use common::Fake;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// Longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types of frames (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// The head of `METHOD http://localhost PATH` (RFC 7541: indexed fields, and texts as they are).
fn head(method: u8, path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![method, 0x86, 0x04], text(path), vec![0x01], text("localhost")].concat()
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;

struct Two {
    stream: TcpStream,
    /// What was read and is no whole frame yet.
    rest: Vec<u8>,
}

impl Two {
    fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(PREFACE).unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        Self { stream, rest: Vec::new() }
    }

    /// Sends, as long as somebody reads; whether he does.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next frame: type, flags, stream and payload; none once the connection has ended.
    fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            if let [a, b, c, kind, flags, s1, s2, s3, s4, rest @ ..] = self.rest.as_slice() {
                let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if rest.len() >= length {
                    let told = (*kind, *flags, u32::from_be_bytes([*s1, *s2, *s3, *s4]), rest[..length].to_vec());
                    self.rest.drain(..9 + length);
                    return Some(told);
                }
            }
            let mut part = [0; 4096];
            match self.stream.read(&mut part) {
                Ok(read) if read > 0 => self.rest.extend_from_slice(&part[..read]),
                // Cut off, one way or the other; a timeout is neither.
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing came"),
                _ => return None,
            }
        }
    }

    /// The body of the answer on a stream.
    fn answer(&mut self, stream: u32) -> Option<String> {
        let mut body = Vec::new();
        while let Some((kind, flags, of, payload)) = self.next() {
            if kind == SETTINGS && flags & ACK == 0 {
                self.send(&frame(SETTINGS, ACK, 0, &[]));
            }
            if of == stream && kind == DATA {
                body.extend(payload);
            }
            if of == stream && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                return Some(String::from_utf8(body).unwrap());
            }
        }
        None
    }
}

/// Serves a controller on an address of its own, and talks with it as clients do.
fn served(talk: impl FnOnce(SocketAddr) + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, Door::Plain, Fake::default(), async { drop(stopped.await) }));
        tokio::task::spawn_blocking(move || talk(address)).await.unwrap();
        stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, server).await.unwrap().unwrap().unwrap();
    });
}

#[test]
fn rest_is_answered_over_both_versions() {
    served(|address| {
        let mut two = Two::connect(address);
        // Both at once on one connection.
        two.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head(GET, "/v1/zones")));
        assert_eq!(two.answer(1).unwrap(), r#"{"revision":0,"items":[]}"#);
        two.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &head(GET, "/healthz")));
        assert_eq!(two.answer(3).unwrap(), "ok\n");
        let mut one = TcpStream::connect(address).unwrap();
        one.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut told = String::new();
        one.read_to_string(&mut told).unwrap();
        assert!(told.starts_with("HTTP/1.1 200 ") && told.ends_with("ok\n"), "{told}");
    });
}

/// A flood: what is sent again and again, by its number.
type Flood = fn(u32) -> Vec<u8>;

#[test]
fn a38_whoever_floods_with_frames_is_cut_off_and_others_are_served() {
    let reset: Flood = |n| {
        let stream = 2 * n + 1;
        let ask = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(GET, "/v1/status"));
        [ask, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    // The first opens a head that never ends.
    let continuation: Flood = |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, &head(GET, "/v1/status")),
        _ => frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y'].repeat(1_000)),
    };
    let empty_continuation: Flood = |n| match n {
        0 => frame(HEADERS, END_STREAM, 1, &head(GET, "/v1/status")),
        _ => frame(CONTINUATION, 0, 1, &[]),
    };
    let settings: Flood = |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]);
    let ping: Flood = |n| frame(PING, 0, 0, &u64::from(n).to_be_bytes());
    let priority: Flood = |n| frame(2, 0, 2 * n + 1, &[0, 0, 0, 0, 16]);
    // A body of nothing, of a type that is read (RFC 7541 §6.2.2: a field by the name of content-type, 31 in the table).
    let empty: Flood = |n| match n {
        0 => {
            let content = [&[0x0f, 0x10, 16][..], b"application/yaml"].concat();
            frame(HEADERS, END_HEADERS, 1, &[head(POST, "/v1/apply"), content].concat())
        }
        _ => frame(DATA, 0, 1, &[]),
    };
    for (name, flood) in [
        ("reset", reset),
        ("continuation", continuation),
        ("empty continuation", empty_continuation),
        ("settings", settings),
        ("ping", ping),
        ("priority", priority),
        ("empty data", empty),
    ] {
        served(move |address| {
            let mut good = Two::connect(address);
            let mut bad = Two::connect(address);
            // It reads too, so that it is not the full buffers that stop it.
            let mut reads = bad.stream.try_clone().unwrap();
            let reads = std::thread::spawn(move || {
                let mut part = [0; 65_536];
                let mut last = Vec::new();
                while let Ok(read) = reads.read(&mut part) {
                    if read == 0 {
                        break;
                    }
                    last = part[..read].to_vec();
                }
                last
            });
            let began = Instant::now();
            let mut sent = 0;
            while bad.send(&flood(sent)) {
                sent += 1;
                if sent % 500 == 0 {
                    // Meanwhile others are answered.
                    let stream = 2 * (sent / 500) + 1;
                    good.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(GET, "/healthz")));
                    assert_eq!(good.answer(stream).as_deref(), Some("ok\n"), "{name}");
                }
                assert!(began.elapsed() < PATIENCE, "{name}: {sent} frames and nobody minds");
            }
            let _ = bad.stream.shutdown(std::net::Shutdown::Both);
            reads.join().unwrap();
            good.send(&frame(HEADERS, END_HEADERS | END_STREAM, 100_001, &head(GET, "/healthz")));
            assert_eq!(good.answer(100_001).as_deref(), Some("ok\n"), "{name}");
        });
    }
}

#[test]
fn a38_no_more_requests_at_once_than_is_agreed() {
    served(|address| {
        let mut two = Two::connect(address);
        // The limit is told in the first frame (RFC 9113 §6.5.2: 3 is the most streams at once).
        let (kind, _, _, payload) = two.next().unwrap();
        assert_eq!(kind, SETTINGS);
        let settings: Vec<(u8, u32)> =
            payload.chunks(6).map(|s| (s[1], u32::from_be_bytes([s[2], s[3], s[4], s[5]]))).collect();
        let most = settings.iter().find(|(id, _)| *id == 3).unwrap().1;
        assert!(most <= 100, "{settings:?}");
        // Streams that go on for ever fill it, and one more is refused, not kept.
        for n in 0..=most {
            two.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &head(GET, "/v1/watch")));
        }
        let refused = 2 * most + 1;
        loop {
            let (kind, _, stream, _) = two.next().unwrap();
            assert_ne!(kind, GOAWAY);
            if stream == refused {
                assert_eq!(kind, RST_STREAM);
                break;
            }
        }
    });
}

#[test]
fn a38_a_busy_client_is_not_cut_off() {
    served(|address| {
        let mut two = Two::connect(address);
        // As fast as it goes, with a ping to each: more frames than anybody may send for nothing.
        for n in 0..3_000 {
            let stream = 2 * n + 1;
            let ask = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(GET, "/healthz"));
            two.send(&[ask, frame(PING, 0, 0, &u64::from(n).to_be_bytes())].concat());
            assert_eq!(two.answer(stream).as_deref(), Some("ok\n"), "{n}");
        }
    });
}

/// A client that asks for the same on so many streams and takes no more than `window` bytes of each answer, while it says
/// whenever it is asked that it is there; after how long it is sent away, and what it was told.
fn stalling(address: SocketAddr, streams: u32, path: &str, window: u32) -> (Duration, usize) {
    let began = Instant::now();
    let mut two = Two::connect(address);
    two.stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
    two.send(&frame(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat()));
    for n in 0..streams {
        two.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &head(GET, path)));
    }
    let mut told = 0;
    while let Some((kind, flags, _, payload)) = two.next() {
        assert!(began.elapsed() < 3 * PATIENCE, "{path} {window}: nobody minds");
        match kind {
            PING if flags & ACK == 0 => _ = two.send(&frame(PING, ACK, 0, &payload)),
            DATA => told += payload.len(),
            _ => {}
        }
    }
    (began.elapsed(), told)
}

#[test]
fn a38_who_opens_no_window_for_his_answers_is_sent_away_and_who_waits_for_changes_is_not() {
    served(|address| {
        // He hears of nothing, as nothing changes.
        let mut idle = Two::connect(address);
        idle.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head(GET, "/v1/watch")));
        let watches = |path: &'static str, streams, window| {
            std::thread::spawn(move || (path, window, stalling(address, streams, path, window)))
        };
        let bad = [
            watches("/openapi.json", 64, 0),
            watches("/openapi.json", 64, 1),
            watches("/openapi.json", 1, 1_000),
            // What is written for him now and then, that he is still there, is more than he takes.
            watches("/v1/watch", 64, 1),
        ];
        for bad in bad {
            let (path, window, (after, told)) = bad.join().unwrap();
            assert!(after >= PATIENCE - Duration::from_secs(1), "{path} {window}: {after:?}");
            assert!(after < PATIENCE + Duration::from_secs(25), "{path} {window}: {after:?}");
            assert!(told <= 64 * window.max(1) as usize, "{path} {window}: {told}");
        }
        idle.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &head(GET, "/healthz")));
        assert_eq!(idle.answer(3).as_deref(), Some("ok\n"));
    });
}
