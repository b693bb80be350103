//! A real ovsdb-server that is reached by TLS, and others in its place.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "../../../tls/tests/pki/mod.rs"]
mod pki;
mod server;

use bulkhead_ovsdb::{Config, Connection, Endpoint, Event, OpenError, Operation};
use bulkhead_tls::{HandshakeError, Tls};
use pki::Pki;
use server::{Server, act, event};

const TABLES: &[(&str, &[&str])] = &[("Open_vSwitch", &["external_ids"]), ("Bridge", &["name"])];

async fn open(port: u16, tls: Option<&Tls>) -> Result<Connection, OpenError> {
    let endpoint: Endpoint = format!("ssl:127.0.0.1:{port}").parse().unwrap();
    Connection::open(&endpoint, Config::new("Open_vSwitch", TABLES), tls).await
}

#[tokio::test]
async fn over_tls_it_is_the_same_and_both_sides_prove_who_they_are() {
    let Some(mut server) = Server::start(TABLES).await else { return };
    let pki = Pki::new();
    let port = server.secure(&pki.files("hv1")).await;
    let mut connection = open(port, Some(&pki.tls("controller"))).await.unwrap();
    assert!(connection.certificate().unwrap().is_for("hv1", 0) && connection.local().is_some());
    assert_eq!(event(&mut connection).await, Event::Ready);
    // More than one record of TLS holds (RFC 8446 §5.1).
    let comment = Operation::Comment("x".repeat(100_000));
    act(&mut connection, &[comment]).await;

    // Whom our authority did not sign, we do not speak with; and the server does not speak with him.
    let other = Pki::new();
    let error = open(port, Some(&other.tls("controller"))).await.err().unwrap();
    assert!(matches!(error, OpenError::Handshake { source: HandshakeError::Stranger(_), .. }), "{error}");
    let mut files = other.files("controller");
    files.ca = pki.path("ca.pem");
    let stranger = Tls::load(files).unwrap();
    match open(port, Some(&stranger)).await {
        Err(error) => assert!(error.to_string().contains("refuses our certificate"), "{error}"),
        Ok(mut connection) => {
            let Event::Dead(error) = event(&mut connection).await else { panic!("it is let in") };
            assert!(error.to_string().contains("refuses our certificate"), "{error}");
        }
    }

    // Nothing is said without TLS to who is to be spoken with by TLS.
    assert!(matches!(open(port, None).await.err().unwrap(), OpenError::NoCertificate(_)));
    let plain: Endpoint = format!("tcp:127.0.0.1:{port}").parse().unwrap();
    let mut plain = Connection::open(&plain, Config::new("Open_vSwitch", TABLES), None).await.unwrap();
    assert!(matches!(event(&mut plain).await, Event::Dead(_)));
    assert!(server.connect().await.certificate().is_none());
}
