//! How a connection begins: by TLS, or without where that was asked for.

use crate::{connections::Version, pace::Watched, problem::Failure};
use axum::{http::StatusCode, response::IntoResponse};
use bulkhead_tls::{HANDSHAKE_LIMIT, Server, Subject};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tracing::debug;

/// The first byte of TLS: a record of a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// How HTTP/2 begins, and no other version (RFC 9113 §3.4), as far as it takes to tell: no method is called so.
const PREFACE: &[u8] = b"PRI ";
/// What it is called when it is agreed on (RFC 9113 §3.2).
const ALPN_TWO: &[u8] = b"h2";
/// Most bytes of an unprotected request that are read before the connection is closed, and how long that may take: a
/// connection that is closed with something unread loses the answer too (RFC 9112 §9.6).
const UNREAD: u64 = 64 << 10;
const UNREAD_TIME: Duration = Duration::from_secs(1);

/// How connections begin.
#[derive(Debug, Clone)]
pub enum Door {
    /// Unprotected.
    Plain,
    /// By TLS, and nothing else.
    Tls(Server),
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where he is.
    pub address: SocketAddr,
    /// Who he is by his certificate, if he has shown one.
    pub subject: Option<Arc<Subject>>,
}

/// A connection that has begun.
pub(crate) enum Opened {
    Plain(Watched, Version),
    Tls(Box<TlsStream<Watched>>, Version),
}

impl Door {
    /// Begins a connection; `None` if there is none.
    pub(crate) async fn open(&self, stream: TcpStream, address: SocketAddr) -> Option<(Opened, Peer)> {
        let server = match self {
            Self::Plain => {
                let mut stream = Watched::new(stream);
                let first = stream.first(PREFACE.len(), HANDSHAKE_LIMIT).await;
                let version = if first == PREFACE { Version::Two } else { Version::One };
                return Some((Opened::Plain(stream, version), Peer { address, subject: None }));
            }
            Self::Tls(server) => server,
        };
        let mut first = [0];
        let peeked = timeout(HANDSHAKE_LIMIT, stream.peek(&mut first)).await;
        match (peeked, first) {
            (Ok(Ok(1)), [HANDSHAKE]) => {}
            (Ok(Ok(1)), [b'A'..=b'Z']) => {
                unprotected(stream).await;
                return None;
            }
            _ => {
                debug!(%address, "no TLS handshake");
                return None;
            }
        }
        match server.accept(Watched::new(stream)).await {
            Ok((stream, subject)) => {
                let two = stream.get_ref().1.alpn_protocol() == Some(ALPN_TWO);
                let version = if two { Version::Two } else { Version::One };
                Some((Opened::Tls(Box::new(stream), version), Peer { address, subject: subject.map(Arc::new) }))
            }
            Err(error) => {
                debug!(%address, "no TLS session: {error}");
                None
            }
        }
    }
}

/// Tells a client that speaks HTTP what to speak instead.
async fn unprotected(mut stream: TcpStream) {
    let detail = "this port speaks TLS: write https:// instead of http://, with the authority's certificate (--ca)";
    let failure = Failure::new(StatusCode::BAD_REQUEST, "unprotected", detail);
    let (head, body) = failure.into_response().into_parts();
    // It is in memory, and short.
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let kind = head.headers.get(axum::http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let text = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        kind.unwrap_or_default(),
        body.len()
    );
    let told = async {
        stream.write_all(text.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(UNREAD), &mut tokio::io::sink()).await
    };
    // Whether he has read it is his own affair.
    let _ = timeout(UNREAD_TIME, told).await;
}
