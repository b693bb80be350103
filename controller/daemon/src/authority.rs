//! The controller's own authority: what signs the API's certificate where nobody gave it one.
//!
//! The authority is made at the first start and kept in `tls/` in the data directory, so that clients who believe it once
//! need nothing again. What it signs is made at each start, for the names that the controller has then, and is nowhere on
//! the disk.

use anyhow::{Context, anyhow};
use bulkhead_tls::{Made, Maker};
use nix::ifaddrs::getifaddrs;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use ring::digest::{SHA256, digest};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tracing::warn;

/// The directory in the data directory.
const DIRECTORY: &str = "tls";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the authority lives: who believes it would have to be told of another one, one by one.
const AUTHORITY: Duration = DAY.saturating_mul(30 * 365);
/// How long what it signs lives; made anew long before that.
const CERTIFICATE: Duration = DAY.saturating_mul(365);
/// How far another machine's clock may be behind.
const BEHIND: Duration = DAY;
/// Most addresses of this machine that a certificate names: more would not fit a handshake well.
const MAX_ADDRESSES: usize = 64;

/// What signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, in PEM form.
    pub(crate) pem: String,
    /// The file with it.
    pub(crate) path: PathBuf,
}

impl Authority {
    /// The one in a data directory; made there, if there is none.
    pub(crate) fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let directory = data_dir.join(DIRECTORY);
        let (path, key_path) = (directory.join("ca.pem"), directory.join("ca.key"));
        let there = |path: &Path| match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let damaged = || {
            let directory = directory.display();
            format!(
                "the API's own authority in {directory} is damaged: bring it back from a copy, or remove {directory}; a \
                 new one is then made, and every client has to be told to believe it"
            )
        };
        let key = there(&key_path)?;
        let pem = there(&path)?;
        let (key, made) = match (key, &pem) {
            (Some(key), _) => (KeyPair::from_pem(&key).with_context(damaged)?, false),
            (None, Some(_)) => return Err(anyhow!(damaged())),
            (None, None) => (KeyPair::generate()?, true),
        };
        let params = params(&key);
        let pem = match pem {
            Some(pem) => pem,
            None => {
                let pem = params.self_signed(&key)?.pem();
                // First the key: with it alone, the certificate can be made again.
                let kept = fs::create_dir_all(&directory)
                    .and_then(|()| if made { write(&key_path, 0o600, key.serialize_pem().as_bytes()) } else { Ok(()) })
                    .and_then(|()| write(&path, 0o644, pem.as_bytes()));
                if let Err(error) = kept {
                    let directory = directory.display();
                    warn!(%error, "the API's own authority cannot be kept in {directory}: the next start makes another one");
                }
                pem
            }
        };
        Ok(Self { issuer: Issuer::new(params, key), pem, path })
    }

    /// Signs for a server at an address, whenever it is asked for.
    pub(crate) fn signs_for(self, listen: SocketAddr) -> Maker {
        Arc::new(move || self.sign(&names(listen)).map_err(|error| error.to_string()))
    }

    fn sign(&self, names: &[SanType]) -> Result<Made, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "bulkheadd");
        params.subject_alt_names = names.to_vec();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        (params.not_before, params.not_after) = ((now - BEHIND).into(), (now + CERTIFICATE).into());
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Made { chain: vec![certificate.der().to_vec()], key: key.serialize_der() })
    }
}

/// What the authority says of itself; its name follows from its key, so that two are told apart.
fn params(key: &KeyPair) -> CertificateParams {
    let sum = digest(&SHA256, key.der_bytes());
    let id = sum.as_ref().iter().take(8).fold(String::new(), |mut id, byte| {
        // Writing to a text does not fail.
        let _ = write!(id, "{byte:02x}");
        id
    });
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Bulkhead API {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = SystemTime::now();
    (params.not_before, params.not_after) = ((now - BEHIND).into(), (now + AUTHORITY).into());
    params
}

/// What a server at this address is reached by.
fn names(listen: SocketAddr) -> Vec<SanType> {
    let mut addresses = BTreeSet::from([IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]);
    if listen.ip().is_unspecified() {
        let all = getifaddrs().into_iter().flatten().filter_map(|one| {
            let address = one.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        });
        addresses.extend(all.take(MAX_ADDRESSES));
    } else {
        addresses.insert(listen.ip());
    }
    // proc(5): the name that this host has.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let hosts = BTreeSet::from(["localhost".to_owned(), host.trim().to_ascii_lowercase()]);
    let hosts = hosts.into_iter().filter(|host| !host.is_empty()).filter_map(|host| host.try_into().ok());
    hosts.map(SanType::DnsName).chain(addresses.into_iter().map(SanType::IpAddress)).collect()
}

/// A new file beside the one whose place it is to have; taken away if it does not come to that.
pub(crate) struct Beside<'a> {
    path: &'a Path,
    new: PathBuf,
}

impl<'a> Beside<'a> {
    /// Writes it, durably.
    pub(crate) fn write(path: &'a Path, mode: u32, bytes: &[u8]) -> io::Result<Self> {
        // Of an attempt that was interrupted. It is made anew, so that its permissions are ours.
        let beside = Self { path, new: beside(path) };
        if let Err(error) = fs::remove_file(&beside.new)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside.new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(beside)
    }

    /// Puts it in the old one's place: whole, or not at all.
    pub(crate) fn put(self) -> io::Result<()> {
        fs::rename(&self.new, self.path)?;
        self.path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        // Once it is in its place there is none; else the next attempt takes it away.
        let _ = fs::remove_file(&self.new);
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Whether an attempt that was interrupted has left something beside a file. It is taken away, if that is possible: on a
/// disk that cannot be written it stays, and nobody reads it.
pub(crate) fn is_left_beside(path: &Path) -> io::Result<bool> {
    let left = beside(path);
    let there = left.try_exists()?;
    if there {
        let _ = fs::remove_file(left);
    }
    Ok(there)
}

/// Puts a new file in an old one's place: whole, or not at all.
pub(crate) fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    Beside::write(path, mode, bytes)?.put()
}
