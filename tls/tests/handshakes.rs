//! Who is let in, and who is not.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod pki;

use bulkhead_tls::{Certificate, HANDSHAKE_LIMIT, HandshakeError, Tls};
use pki::{Pki, Time};
use std::{fs, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, timeout},
};

/// Both sides of one handshake. The client's is that of TLS 1.3: it is done before the server has judged it.
async fn meet(client: &Tls, server: &Tls) -> (Result<Certificate, String>, Result<Certificate, String>) {
    let (near, far) = duplex(1 << 16);
    let (client, server) = tokio::join!(
        async {
            let (mut stream, certificate) = client.connect(near).await.map_err(|error| error.to_string())?;
            // The server's verdict comes with the first byte.
            match stream.read_u8().await {
                Ok(1) => Ok(certificate),
                other => Err(other.map_or_else(|error| client.cause(error).to_string(), |byte| byte.to_string())),
            }
        },
        async {
            let (mut stream, certificate) = server.accept(far).await.map_err(|error| error.to_string())?;
            stream.write_u8(1).await.unwrap();
            stream.flush().await.unwrap();
            Ok(certificate)
        }
    );
    (client, server)
}

#[tokio::test]
async fn two_of_one_authority_know_each_other() {
    let pki = Pki::new();
    let (client, server) = meet(&pki.tls("hv1"), &pki.tls("controller")).await;
    assert!(server.unwrap().is_for("hv1", 0));
    assert!(client.unwrap().is_for("controller", 0));
}

#[tokio::test]
async fn a_stranger_is_refused_on_either_side() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    // Believes us, and is signed by somebody else.
    let mut files = theirs.files("hv1");
    files.ca = ours.path("ca.pem");
    let stranger = Tls::load(files).unwrap();
    let (client, server) = meet(&stranger, &ours.tls("controller")).await;
    let server = server.unwrap_err();
    assert!(server.contains("not signed by") && server.contains("ca.pem"), "{server}");
    let client = client.unwrap_err();
    assert!(client.contains("it refuses our certificate"), "{client}");
    let (client, server) = meet(&ours.tls("controller"), &stranger).await;
    assert!(client.unwrap_err().contains("not signed by"));
    assert!(server.unwrap_err().contains("it refuses our certificate"));
}

#[tokio::test]
async fn who_is_out_of_time_is_refused() {
    let pki = Pki::new();
    let server = pki.tls("controller");
    for time in [Time::Past, Time::Future] {
        let raw = Raw::new(&pki, time);
        let error = raw.meet(&server).await;
        assert!(matches!(error, HandshakeError::OutOfTime), "{error}");
    }
}

/// A client that does not look at its own certificate.
struct Raw(std::sync::Arc<rustls::ClientConfig>);

impl Raw {
    fn new(pki: &Pki, time: Time) -> Self {
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
        let files = pki.files_of("hv1", time);
        let chain = vec![CertificateDer::from_pem_file(files.certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(files.key).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(files.ca).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Self(config.with_client_auth_cert(chain, key).unwrap().into())
    }

    async fn meet(&self, server: &Tls) -> HandshakeError {
        let (near, far) = duplex(1 << 16);
        let name = "controller".try_into().unwrap();
        let connect = tokio_rustls::TlsConnector::from(self.0.clone()).connect(name, near);
        let (_, accepted) = tokio::join!(connect, server.accept(far));
        accepted.err().unwrap()
    }
}

#[tokio::test]
async fn who_shows_nothing_is_refused() {
    let pki = Pki::new();
    let server = pki.tls("controller");
    let mut roots = rustls::RootCertStore::empty();
    let ca = fs::read(pki.path("ca.pem")).unwrap();
    let ca = <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(&ca);
    roots.add(ca.unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let error = Raw(config.into()).meet(&server).await;
    assert!(matches!(error, HandshakeError::Nothing), "{error}");
}

#[tokio::test]
async fn what_was_revoked_is_refused_on_either_side() {
    let pki = Pki::new();
    let (good, lost) = (pki.tls("hv1"), pki.tls("hv2"));
    pki.revoke("hv2");
    let server = pki.tls("controller");
    assert!(meet(&good, &server).await.1.is_ok());
    let (_, refused) = meet(&lost, &server).await;
    assert!(refused.unwrap_err().contains("was revoked"));
    assert!(meet(&server, &good).await.0.is_ok());
    let (refused, _) = meet(&server, &lost).await;
    assert!(refused.unwrap_err().contains("was revoked"));
}

/// What the server says to these bytes.
async fn told(server: &Tls, bytes: &[u8]) -> (HandshakeError, DuplexStream) {
    let (mut near, far) = duplex(1 << 16);
    near.write_all(bytes).await.unwrap();
    (server.accept(far).await.err().unwrap(), near)
}

#[tokio::test]
async fn a_downgrade_is_refused_at_the_first_bytes() {
    let pki = Pki::new();
    let server = pki.tls("controller");
    // OpenFlow's hello, and a request of a database's client.
    for plain in [&[4, 0, 0, 8, 0, 0, 0, 1][..], br#"{"id":0,"method":"get_schema","params":["Open_vSwitch"]}"#] {
        let began = Instant::now();
        let (error, _kept) = told(&server, plain).await;
        assert!(matches!(error, HandshakeError::Plain), "{error}");
        assert!(began.elapsed() < HANDSHAKE_LIMIT);
    }
}

#[tokio::test]
async fn garbage_ends_a_handshake() {
    let pki = Pki::new();
    let server = pki.tls("controller");
    // Records of a handshake that say nothing, an alert, and one that is longer than records are.
    let cases: [&[u8]; 4] = [
        &[22, 3, 1, 0, 4, 1, 0, 0, 0],
        &[22, 3, 3, 0, 5, 99, 0, 0, 1, 0],
        &[21, 3, 3, 0, 2, 2, 40],
        &[22, 3, 3, 255, 255],
    ];
    for bytes in cases {
        let began = Instant::now();
        told(&server, bytes).await;
        assert!(began.elapsed() < HANDSHAKE_LIMIT, "{bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn r25_a_handshake_that_takes_too_long_is_given_up() {
    let pki = Pki::new();
    let server = pki.tls("controller");
    let began = Instant::now();
    let (error, _kept) = told(&server, &[22, 3, 1]).await;
    assert!(matches!(error, HandshakeError::Slow), "{error}");
    assert!(began.elapsed() < 2 * HANDSHAKE_LIMIT);
    // A server that accepts and says nothing.
    let (near, _far) = duplex(1 << 16);
    assert!(matches!(server.connect(near).await.err().unwrap(), HandshakeError::Slow));
}

#[tokio::test]
async fn files_that_are_replaced_are_used_and_broken_ones_are_not() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = pki.tls("controller");
    let watch = tokio::spawn(server.clone().watch());
    let client = pki.tls("hv1");
    // An open session outlives what comes.
    let (near, far) = duplex(1 << 16);
    let (kept, accepted) = tokio::join!(client.connect(near), server.accept(far));
    let ((mut kept, _), (mut accepted, _)) = (kept.unwrap(), accepted.unwrap());

    fs::write(&server.files().certificate, "nonsense").unwrap();
    assert!(server.reload().unwrap_err().to_string().contains("controller-cert.pem"));
    assert!(meet(&client, &server).await.1.is_ok(), "the old one is in use");

    // Another authority altogether, as when all are replaced.
    let files = other.files("controller");
    for (from, to) in [
        (&files.certificate, &server.files().certificate),
        (&files.key, &server.files().key),
        (&files.ca, &server.files().ca),
    ] {
        fs::copy(from, to).unwrap();
    }
    let newcomer = other.tls("hv1");
    let taken = timeout(Duration::from_secs(30), async {
        while meet(&newcomer, &server).await.1.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    taken.await.expect("the new files are not taken over");
    assert!(meet(&client, &server).await.1.is_err(), "the old authority is believed still");
    kept.write_u8(7).await.unwrap();
    kept.flush().await.unwrap();
    assert_eq!(accepted.read_u8().await.unwrap(), 7);
    watch.abort();
}
