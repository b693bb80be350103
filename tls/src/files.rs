//! The files: what they have to hold, and what is wrong with them.

use rustls::{
    ClientConfig, InconsistentKeys, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{ClientCertVerifierBuilder, NoServerSessionStorage, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use std::{
    fmt, fs, io,
    io::Read as _,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use thiserror::Error;
use webpki::{BorrowedCertRevocationList, CertRevocationList, EndEntityCert, KeyUsage};

use crate::{
    life::{Life, Peers},
    session::AnyName,
};

/// Most bytes of one file: hundreds of authorities.
const MAX_FILE: u64 = 1 << 20;
/// After the last time that a certificate can name, which is in the year 9999 (RFC 5280 §4.1.2.5).
const END_OF_TIME: Duration = Duration::from_secs(1 << 38);
/// Permission bits of those who are neither the owner nor of its group.
const OTHERS: u32 = 0o007;

/// Where the PEM files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Certificates of the authorities that sign the others' certificates, and their revocation lists, if there are any.
    pub ca: PathBuf,
    /// This controller's certificate, and those of intermediate authorities after it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// See [`Files::ca`].
    Ca,
    /// See [`Files::certificate`].
    Certificate,
    /// See [`Files::key`].
    Key,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ca => "authorities' certificates",
            Self::Certificate => "certificate",
            Self::Key => "private key",
        })
    }
}

/// What is wrong with a file, and what to do about it.
#[derive(Debug, Error)]
pub enum FileError {
    /// It is not there, or not for us to read.
    #[error("cannot read the {role} {path}: {source}; name a file that this user may read")]
    Read {
        /// What it is for.
        role: Role,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has none of what it is for.
    #[error("the {role} {path} holds no `-----BEGIN {wanted}-----`; it has to be in PEM form{hint}")]
    Pem {
        /// What it is for.
        role: Role,
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
        /// What it may be instead; empty if it looks like nothing.
        hint: &'static str,
    },
    /// What it holds cannot be used.
    #[error("the {role} {path} cannot be used: {why}; make it anew")]
    Unusable {
        /// What it is for.
        role: Role,
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Its time is over.
    #[error("the {role} {path} expired {ago} ago; have a new one signed")]
    Expired {
        /// What it is for.
        role: Role,
        /// The file.
        path: PathBuf,
        /// How long ago.
        ago: Span,
    },
    /// Its time has not begun.
    #[error("the {role} {path} is valid only in {ahead}; look at this machine's clock, or have a new one signed")]
    Early {
        /// What it is for.
        role: Role,
        /// The file.
        path: PathBuf,
        /// In how long it is.
        ahead: Span,
    },
    /// The key is another certificate's.
    #[error(
        "the private key {key} does not belong to the certificate {certificate}; name the two that were made together"
    )]
    Mismatch {
        /// The key.
        key: PathBuf,
        /// The certificate.
        certificate: PathBuf,
    },
}

/// A time in seconds, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self.0 {
            seconds @ 0..120 => (seconds, "seconds"),
            seconds @ 120..7_200 => (seconds / 60, "minutes"),
            seconds @ 7_200..172_800 => (seconds / 3_600, "hours"),
            seconds => (seconds / 86_400, "days"),
        };
        write!(f, "{number} {unit}")
    }
}

/// What was in the files, ready for use.
pub(crate) struct Loaded {
    /// For those who connect to us.
    pub server: Arc<ServerConfig>,
    /// For those whom we connect to.
    pub client: Arc<ClientConfig>,
    pub read: Read,
}

impl Files {
    /// All three.
    pub(crate) fn paths(&self) -> [&Path; 3] {
        [&self.ca, &self.certificate, &self.key]
    }

    /// Reads the files.
    pub(crate) fn load(&self) -> Result<Loaded, FileError> {
        let reading = Reading::now(Peers::Switches);
        let mut read = Read::default();
        let Trust { roots, lists, verifier } = reading.trust(&self.ca, &mut read)?;
        let own = Arc::new(reading.own(&self.certificate, &self.key, &mut read)?);
        reading.shown(&own, &self.certificate, &mut read);
        let resolver = Arc::new(SingleCertAndKey::from(own));
        let provider = reading.provider;
        let unusable = |error: &dyn fmt::Display| unusable(Role::Ca, &self.ca, error);
        let verifier = verifier.build().map_err(|error| unusable(&error))?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let server = server.map_err(|error| unusable(&error))?.with_client_cert_verifier(verifier);
        let server = never_resumed(server.with_cert_resolver(Arc::clone(&resolver) as _));
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let mut client = client
            .map_err(|error| unusable(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyName { roots, lists, provider }))
            .with_client_cert_resolver(resolver);
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        Ok(Loaded { server: Arc::new(server), client: Arc::new(client), read })
    }
}

/// A session that is resumed would not show a certificate again.
pub(crate) fn never_resumed(mut server: ServerConfig) -> ServerConfig {
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    server
}

pub(crate) fn unusable(role: Role, path: &Path, why: &dyn fmt::Display) -> FileError {
    FileError::Unusable { role, path: path.into(), why: why.to_string() }
}

/// What there is to be told of files that were read.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// What is odd and works.
    pub warnings: Vec<String>,
    /// How long the certificates live.
    pub lives: Vec<Life>,
}

/// Whom to believe.
pub(crate) struct Trust {
    pub roots: Arc<RootCertStore>,
    pub lists: Vec<CertRevocationList<'static>>,
    /// The same, of those who connect to us.
    pub verifier: ClientCertVerifierBuilder,
}

/// How files are read, and when.
pub(crate) struct Reading {
    pub provider: Arc<CryptoProvider>,
    now: UnixTime,
    peers: Peers,
}

impl Reading {
    pub(crate) fn now(peers: Peers) -> Self {
        Self { provider: Arc::new(rustls::crypto::ring::default_provider()), now: UnixTime::now(), peers }
    }

    /// The authorities in a file, with what they have revoked.
    pub(crate) fn trust(&self, ca: &Path, read: &mut Read) -> Result<Trust, FileError> {
        let roots = Arc::new(self.roots(ca, read)?);
        let lists = revoked(ca)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&self.provider));
        // Of an authority without a list, nothing is revoked; an old list is better than none.
        let verifier = verifier.with_crls(lists.iter().cloned()).allow_unknown_revocation_status();
        let lists = lists.iter().map(|list| Ok(BorrowedCertRevocationList::from_der(list)?.to_owned()?.into()));
        let lists: Result<Vec<CertRevocationList<'static>>, webpki::Error> = lists.collect();
        let lists = lists
            .map_err(|error| unusable(Role::Ca, ca, &format!("a revocation list: {error} (version 2 is needed)")))?;
        Ok(Trust { roots, lists, verifier })
    }

    /// Notes how long a chain of ours lives.
    pub(crate) fn shown(&self, own: &CertifiedKey, path: &Path, read: &mut Read) {
        read.lives.extend(own.cert.iter().filter_map(|one| self.life(Role::Certificate, path, one)));
    }

    /// How long a certificate lives; `None` of one that is too old for extensions.
    fn life(&self, role: Role, path: &Path, certificate: &CertificateDer<'_>) -> Option<Life> {
        Some(Life::new(role, self.peers, path.into(), certificate, end(&self.provider, certificate)?))
    }

    fn roots(&self, ca: &Path, read: &mut Read) -> Result<RootCertStore, FileError> {
        let mut roots = RootCertStore::empty();
        let mut problem = None;
        for certificate in certificates(Role::Ca, ca)? {
            let life = self.life(Role::Ca, ca, &certificate);
            let found = in_time(&self.provider, Role::Ca, ca, &certificate, self.now)
                .and_then(|()| roots.add(certificate).map_err(|error| unusable(Role::Ca, ca, &error)));
            match found {
                Ok(()) => read.lives.extend(life),
                Err(error) => read.warnings.extend(problem.replace(error).map(|error| error.to_string())),
            }
        }
        match problem {
            Some(error) if roots.is_empty() => Err(error),
            problem => {
                read.warnings.extend(problem.map(|error| format!("one of several is left out: {error}")));
                Ok(roots)
            }
        }
    }

    /// A certificate and its key.
    pub(crate) fn own(&self, certificate: &Path, key: &Path, read: &mut Read) -> Result<CertifiedKey, FileError> {
        let chain = certificates(Role::Certificate, certificate)?;
        if let Some(first) = chain.first() {
            in_time(&self.provider, Role::Certificate, certificate, first, self.now)?;
        }
        let text = bytes(Role::Key, key)?;
        let secret = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
            let has = |words: &str| text.windows(words.len()).any(|window| window == words.as_bytes());
            let hint = if has("ENCRYPTED") {
                ", without a passphrase: `openssl pkey -in FILE -out FILE` takes it off"
            } else if has("BEGIN CERTIFICATE") {
                "; this is a certificate"
            } else {
                ""
            };
            FileError::Pem { role: Role::Key, path: key.into(), wanted: "PRIVATE KEY", hint }
        })?;
        let mode = fs::metadata(key).map(|metadata| metadata.mode()).unwrap_or_default();
        if mode & OTHERS != 0 {
            let path = key.display();
            read.warnings
                .push(format!("the private key {path} may be read or written by everybody; `chmod o= {path}`"));
        }
        CertifiedKey::from_der(chain, secret, &self.provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                FileError::Mismatch { key: key.into(), certificate: certificate.into() }
            }
            rustls::Error::InvalidCertificate(why) => unusable(Role::Certificate, certificate, &why),
            other => unusable(Role::Key, key, &other),
        })
    }
}

fn bytes(role: Role, path: &Path) -> Result<Vec<u8>, FileError> {
    let mut text = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut text));
    read.map_err(|source| FileError::Read { role, path: path.into(), source })?;
    Ok(text)
}

fn certificates(role: Role, path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = bytes(role, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => {
            // A DER certificate is a sequence of more than 255 bytes.
            let hint = if text.starts_with(&[0x30, 0x82]) {
                ": `openssl x509 -inform der -in FILE` makes it so"
            } else if text.windows(11).any(|window| window == b"PRIVATE KEY") {
                "; this is a private key"
            } else {
                ""
            };
            Err(FileError::Pem { role, path: path.into(), wanted: "CERTIFICATE", hint })
        }
    }
}

/// The revocation lists among authorities' certificates.
fn revoked(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    let text = bytes(Role::Ca, path)?;
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
    found.map_err(|error| FileError::Unusable { role: Role::Ca, path: path.into(), why: error.to_string() })
}

/// Whether a certificate may be used now. Who signed it is for the other side to judge.
fn in_time(
    provider: &CryptoProvider,
    role: Role,
    path: &Path,
    certificate: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<(), FileError> {
    let since = |from: UnixTime, to: UnixTime| Span(to.as_secs().saturating_sub(from.as_secs()));
    match judged(provider, certificate, now) {
        Some(webpki::Error::CertExpired { time, not_after }) => {
            Err(FileError::Expired { role, path: path.into(), ago: since(not_after, time) })
        }
        Some(webpki::Error::CertNotValidYet { time, not_before }) => {
            Err(FileError::Early { role, path: path.into(), ahead: since(time, not_before) })
        }
        _ => Ok(()),
    }
}

/// A certificate's last second, since 1970-01-01 UTC; `None` of one that is too old for extensions.
pub(crate) fn end(provider: &CryptoProvider, certificate: &CertificateDer<'_>) -> Option<u64> {
    match judged(provider, certificate, UnixTime::since_unix_epoch(END_OF_TIME)) {
        Some(webpki::Error::CertExpired { not_after, .. }) => Some(not_after.as_secs()),
        _ => None,
    }
}

/// What is wrong with a certificate at a time, that first of all; `None` also of one that is too old for extensions, which
/// may still be an authority's. Times are looked at before the signature, which there is nobody here to vouch for.
fn judged(provider: &CryptoProvider, certificate: &CertificateDer<'_>, at: UnixTime) -> Option<webpki::Error> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let algorithms = provider.signature_verification_algorithms.all;
    parsed.verify_for_usage(algorithms, &[], &[], at, KeyUsage::server_auth(), None, None).err()
}
