//! How a connection begins: by TLS, or without where that was asked for.

use crate::{pace::Watched, problem::Failure};
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
    Plain(Watched),
    Tls(Box<TlsStream<Watched>>),
}

impl Door {
    /// Begins a connection; `None` if there is none.
    pub(crate) async fn open(&self, stream: TcpStream, address: SocketAddr) -> Option<(Opened, Peer)> {
        let server = match self {
            Self::Plain => return Some((Opened::Plain(Watched::new(stream)), Peer { address, subject: None })),
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
                Some((Opened::Tls(Box::new(stream)), Peer { address, subject: subject.map(Arc::new) }))
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
