//! Handshakes.

use crate::{
    certificate::Certificate,
    files::{FileError, Files, Loaded, Read},
    kept::Kept,
    life::{Life, Peers},
    watch::{Stamps, stamps},
};
use rustls::{
    AlertDescription, CertificateError, CommonState, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use std::{
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tracing::warn;
use webpki::{CertRevocationList, EndEntityCert, KeyUsage, RevocationOptionsBuilder, UnknownStatusPolicy};

/// How long a handshake may take: two round trips and two signatures, each far below a second. Whoever takes longer keeps
/// a place that somebody else may need.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no session.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// It took too long.
    #[error("no TLS handshake within {HANDSHAKE_LIMIT:?}")]
    Slow,
    /// What came is no TLS.
    #[error("it does not speak TLS, and nothing else is taken here (ssl: instead of tcp: in its target)")]
    Plain,
    /// The peer has shown nothing.
    #[error("it has no certificate (`ovs-vsctl set-ssl` there)")]
    Nothing,
    /// None of our authorities vouches for it.
    #[error("its certificate is not signed by an authority in {0}")]
    Stranger(PathBuf),
    /// Its time is over, or has not begun.
    #[error("its certificate has expired, or is not valid yet")]
    OutOfTime,
    /// Its authority has taken it back.
    #[error("its certificate was revoked")]
    Revoked,
    /// The peer does not take our certificate.
    #[error("it refuses our certificate {certificate} ({alert:?}): has it the right authority's, and the right time?")]
    Refused {
        /// What it said.
        alert: AlertDescription,
        /// Ours.
        certificate: PathBuf,
    },
    /// The peer has gone, without a word of farewell.
    #[error("the peer closed the connection")]
    Closed,
    /// Anything else.
    #[error("no TLS session: {0}")]
    Other(io::Error),
}

/// This controller's side of TLS. Clones are the same.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    files: Files,
    /// Of the files, from before they were read at the start.
    stamps: Stamps,
    kept: Kept<Loaded>,
}

impl Tls {
    /// Reads the files; what is odd about them is logged.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn load(files: Files) -> Result<Self, FileError> {
        let stamps = stamps(&files.paths());
        let kept = Kept::new(told(files.load()?));
        Ok(Self { inner: Arc::new(Inner { files, stamps, kept }) })
    }

    /// The files.
    pub fn files(&self) -> &Files {
        &self.inner.files
    }

    pub(crate) fn first_stamps(&self) -> Stamps {
        self.inner.stamps.clone()
    }

    /// Reads the files again; sessions that begin from now on are with what they hold.
    ///
    /// # Errors
    /// When one of them cannot be used: what there was before stays in use.
    pub fn reload(&self) -> Result<(), FileError> {
        self.inner.kept.replace(self.inner.files.load().map(told))
    }

    /// Why the files as they are now are not in use, but those of before; empty if they are.
    pub fn refused(&self) -> String {
        self.inner.kept.refused()
    }

    /// The certificates in use: first the authorities', then the controller's own and those shown with it.
    pub fn lives(&self) -> Vec<Life> {
        self.inner.kept.now().read.lives.clone()
    }

    /// Takes a connection of somebody who has to show a certificate.
    ///
    /// # Errors
    /// When he does not, or not within [`HANDSHAKE_LIMIT`].
    pub async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, Certificate), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.inner.kept.now().server));
        let accepted = timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await.map_err(|_| HandshakeError::Slow)?;
        let stream = accepted.map_err(|error| self.cause(error))?;
        let certificate = shown(stream.get_ref().1)?;
        Ok((stream.into(), certificate))
    }

    /// Greets somebody, who has to show a certificate too.
    ///
    /// # Errors
    /// When he does not, or not within [`HANDSHAKE_LIMIT`].
    pub async fn connect<S>(&self, stream: S) -> Result<(TlsStream<S>, Certificate), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(Arc::clone(&self.inner.kept.now().client));
        // Neither sent nor compared.
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        let connected = timeout(HANDSHAKE_LIMIT, connector.connect(name, stream)).await;
        let stream = connected.map_err(|_| HandshakeError::Slow)?.map_err(|error| self.cause(error))?;
        let certificate = shown(stream.get_ref().1)?;
        Ok((stream.into(), certificate))
    }

    /// What an error means. In TLS 1.3 a server's verdict on our certificate comes only after the handshake, as an error
    /// of the first read.
    pub fn cause(&self, error: io::Error) -> HandshakeError {
        cause(error, &self.files().ca, &self.files().certificate)
    }
}

/// What an error means, with these authorities and this certificate of ours.
pub(crate) fn cause(error: io::Error, ca: &Path, certificate: &Path) -> HandshakeError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return HandshakeError::Closed;
    }
    let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return HandshakeError::Other(error);
    };
    match inner {
            rustls::Error::InvalidMessage(_) => HandshakeError::Plain,
            rustls::Error::NoCertificatesPresented => HandshakeError::Nothing,
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                HandshakeError::Stranger(ca.into())
            }
            rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => HandshakeError::OutOfTime,
            rustls::Error::InvalidCertificate(CertificateError::Revoked) => HandshakeError::Revoked,
            rustls::Error::AlertReceived(
                alert @ (AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                // An authority of the same name with another key.
                | AlertDescription::DecryptError
                | AlertDescription::UnsupportedCertificate),
            ) => HandshakeError::Refused { alert: *alert, certificate: certificate.into() },
            _ => HandshakeError::Other(error),
        }
}

fn told(loaded: Loaded) -> Loaded {
    warned(Peers::Switches, &loaded.read);
    loaded
}

/// Says in the log what is odd about files.
pub(crate) fn warned(peers: Peers, read: &Read) {
    for warning in &read.warnings {
        warn!("{peers}: {warning}");
    }
}

fn shown(session: &CommonState) -> Result<Certificate, HandshakeError> {
    let first = session.peer_certificates().and_then(<[_]>::first);
    first.map(|first| Certificate::read(first)).ok_or(HandshakeError::Nothing)
}

/// Believes whom an authority of ours vouches for, whatever the certificate's name: whether it is the right one is judged
/// by [`Certificate::is_for`], and not by the address at which it was found.
#[derive(Debug)]
pub(crate) struct AnyName {
    pub roots: Arc<RootCertStore>,
    pub lists: Vec<CertRevocationList<'static>>,
    pub provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        let lists: Vec<_> = self.lists.iter().collect();
        if let Ok(lists) = RevocationOptionsBuilder::new(&lists) {
            let lists = lists.with_status_policy(UnknownStatusPolicy::Allow).build();
            let other = |error: webpki::Error| rustls::Error::General(error.to_string());
            let parsed = EndEntityCert::try_from(end_entity).map_err(other)?;
            let (roots, usage) = (&self.roots.roots, KeyUsage::server_auth());
            let found = parsed.verify_for_usage(algorithms, roots, intermediates, now, usage, Some(lists), None);
            found.map_err(|error| match error {
                webpki::Error::CertRevoked => CertificateError::Revoked.into(),
                error => other(error),
            })?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
