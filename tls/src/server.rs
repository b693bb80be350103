//! The API's side: a certificate, and clients that may show one.

use crate::{
    certificate::Certificate,
    files::{FileError, Read, Reading, Role, end, never_resumed, unusable},
    kept::Kept,
    life::{Life, Peers},
    session::{HANDSHAKE_LIMIT, HandshakeError, cause, warned},
    watch::{Source, Stamps, stamps, watch},
};
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::{CertifiedKey, SingleCertAndKey},
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What is agreed on to be spoken (RFC 7301), the best first.
const HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// How long before its end a certificate is made anew that this program makes itself: so early that nobody is told of
/// the end first.
const RENEW: u64 = 60 * 24 * 60 * 60;

/// A certificate that this program has made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The certificate in DER form, and those of intermediate authorities after it.
    pub chain: Vec<Vec<u8>>,
    /// Its private key (PKCS #8).
    pub key: Vec<u8>,
}

/// Makes a certificate, or says why it cannot.
pub type Maker = Arc<dyn Fn() -> Result<Made, String> + Send + Sync>;

/// Where the server's own certificate is from.
#[derive(Clone)]
pub enum Own {
    /// PEM files.
    Files {
        /// The certificate, and those of intermediate authorities after it.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// It is made, at the start and before it ends.
    Made {
        /// Makes it.
        make: Maker,
        /// The certificate of the authority that has signed it, for people.
        authority: PathBuf,
    },
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Own").field(&self.path()).finish()
    }
}

impl Own {
    /// What it is called by, for people.
    fn path(&self) -> &Path {
        match self {
            Self::Files { certificate, .. } => certificate,
            Self::Made { authority, .. } => authority,
        }
    }
}

/// Who a client is by its certificate, which an authority of ours has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its common name; none if it has none, or several.
    pub name: Option<String>,
    /// Its last second, since 1970-01-01 UTC: a connection may outlive it.
    pub ends: u64,
}

/// A server that speaks TLS with clients. Clones are the same.
#[derive(Debug, Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    own: Own,
    client_ca: Option<PathBuf>,
    /// Of the files, from before they were read at the start.
    stamps: Stamps,
    kept: Kept<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    read: Read,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("own", &self.own).field("client_ca", &self.client_ca).finish_non_exhaustive()
    }
}

fn paths<'a>(own: &'a Own, client_ca: Option<&'a PathBuf>) -> Vec<&'a Path> {
    let mut paths: Vec<&Path> = client_ca.into_iter().map(PathBuf::as_path).collect();
    if let Own::Files { certificate, key } = own {
        paths.extend([certificate.as_path(), key]);
    }
    paths
}

fn load(own: &Own, client_ca: Option<&PathBuf>) -> Result<Loaded, FileError> {
    let reading = Reading::now(Peers::Clients);
    let mut read = Read::default();
    let certified = match own {
        Own::Files { certificate, key } => reading.own(certificate, key, &mut read)?,
        Own::Made { make, authority } => {
            let failed = |why: &dyn fmt::Display| unusable(Role::Ca, authority, why);
            certified(&reading.provider, make().map_err(|why| failed(&why))?).map_err(|error| failed(&error))?
        }
    };
    let own_path = own.path();
    reading.shown(&certified, own_path, &mut read);
    let server = ServerConfig::builder_with_provider(Arc::clone(&reading.provider));
    let server = server.with_safe_default_protocol_versions();
    let server = server.map_err(|error| unusable(Role::Certificate, own_path, &error))?;
    let server = match client_ca {
        None => server.with_no_client_auth(),
        Some(ca) => {
            let verifier = reading.trust(ca, &mut read)?.verifier;
            // Who shows none may have a token.
            let verifier = verifier.allow_unauthenticated().build();
            server.with_client_cert_verifier(verifier.map_err(|error| unusable(Role::Ca, ca, &error))?)
        }
    };
    let mut config = never_resumed(server.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified))));
    config.alpn_protocols = HTTP.map(<[u8]>::to_vec).into();
    warned(Peers::Clients, &read);
    Ok(Loaded { config: Arc::new(config), read })
}

fn certified(provider: &CryptoProvider, made: Made) -> Result<CertifiedKey, rustls::Error> {
    let chain = made.chain.into_iter().map(CertificateDer::from).collect();
    CertifiedKey::from_der(chain, PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.key)), provider)
}

impl Server {
    /// Reads the files, or has the certificate made. With `client_ca`, clients may show certificates that an authority in
    /// that file has signed and not taken back; who shows another one is not heard.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn load(own: Own, client_ca: Option<PathBuf>) -> Result<Self, FileError> {
        let stamps = stamps(&paths(&own, client_ca.as_ref()));
        let kept = Kept::new(load(&own, client_ca.as_ref())?);
        Ok(Self { inner: Arc::new(Inner { own, client_ca, stamps, kept }) })
    }

    /// Reads the files again; sessions that begin from now on are with what they hold.
    ///
    /// # Errors
    /// When one of them cannot be used: what there was before stays in use.
    pub fn reload(&self) -> Result<(), FileError> {
        self.inner.kept.replace(load(&self.inner.own, self.inner.client_ca.as_ref()))
    }

    /// Why the files as they are now are not in use, but those of before; empty if they are.
    pub fn refused(&self) -> String {
        self.inner.kept.refused()
    }

    /// The certificates in use: first the server's own and those shown with it, then the clients' authorities.
    pub fn lives(&self) -> Vec<Life> {
        self.inner.kept.now().read.lives.clone()
    }

    /// Takes a connection. Who the client is by its certificate, if it has shown one.
    ///
    /// # Errors
    /// When there is no session within [`HANDSHAKE_LIMIT`], or the client's certificate is not to be believed.
    pub async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, Option<Subject>), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.inner.kept.now().config));
        let accepted = timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await.map_err(|_| HandshakeError::Slow)?;
        let ca = self.inner.client_ca.as_deref().unwrap_or(Path::new("(no authority)"));
        let stream = accepted.map_err(|error| cause(error, ca, self.inner.own.path()))?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let subject = shown.map(|shown| Subject {
            name: Certificate::subject(shown),
            ends: end(&Reading::now(Peers::Clients).provider, shown).unwrap_or(0),
        });
        Ok((stream, subject))
    }

    /// Takes over files that change, and makes anew what is made, for as long as it is polled; as
    /// [`crate::Tls::watch`].
    pub async fn watch(self) {
        watch(self).await;
    }
}

impl Source for Server {
    const PEERS: Peers = Peers::Clients;

    fn first_stamps(&self) -> Stamps {
        self.inner.stamps.clone()
    }
    fn stamps(&self) -> Stamps {
        stamps(&paths(&self.inner.own, self.inner.client_ca.as_ref()))
    }
    fn is_due(&self, now: u64) -> bool {
        let ending = |life: &Life| life.role == Role::Certificate && life.ends < now.saturating_add(RENEW);
        matches!(self.inner.own, Own::Made { .. }) && self.inner.kept.now().read.lives.iter().any(ending)
    }
    fn reload(&self) -> Result<(), FileError> {
        self.reload()
    }
    fn lives(&self) -> Vec<Life> {
        self.lives()
    }
}
