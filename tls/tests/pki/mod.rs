//! An authority of a test's own, and what it signs. Not every test file uses all of it.
#![allow(dead_code, clippy::unwrap_used)]

use bulkhead_tls::{Files, Tls};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

pub struct Pki {
    dir: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// When a certificate is valid.
#[derive(Clone, Copy)]
pub enum Time {
    Now,
    Past,
    Future,
    /// Up to this second since 1970-01-01 UTC.
    Until(u64),
}

/// At most 20 bytes (RFC 5280 §4.1.2.2).
fn serial(name: &str) -> SerialNumber {
    SerialNumber::from(name.bytes().take(20).collect::<Vec<_>>())
}

fn params(name: &str, time: Time) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(serial(name));
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names.extend(name.to_owned().try_into().map(SanType::DnsName));
    let year = |year| date_time_ymd(year, 1, 1);
    (params.not_before, params.not_after) = match time {
        Time::Now => (year(2020), year(2120)),
        Time::Past => (year(2020), year(2021)),
        Time::Future => (year(2119), year(2120)),
        Time::Until(second) => (year(2020), year(1970) + Duration::from_secs(second)),
    };
    params
}

impl Pki {
    pub fn new() -> Self {
        Self::valid(Time::Now)
    }

    /// Its authority's certificate is valid at this time.
    pub fn valid(time: Time) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = params("the authority", time);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        Self { dir, authority }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir().join(file)
    }

    /// Signs a certificate; the files of whoever has it.
    pub fn files(&self, name: &str) -> Files {
        self.files_of(name, Time::Now)
    }

    pub fn files_of(&self, name: &str, time: Time) -> Files {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, time).signed_by(&key, &self.authority).unwrap();
        let files = Files {
            ca: self.path("ca.pem"),
            certificate: self.path(&format!("{name}-cert.pem")),
            key: self.path(&format!("{name}-key.pem")),
        };
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
        files
    }

    /// Takes back what it signed for this name: a list that says so goes beside the authority's certificate.
    pub fn revoke(&self, name: &str) {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2120, 1, 1),
            crl_number: 1u64.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: serial(name),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.authority).unwrap().pem().unwrap();
        fs::write(self.path("ca.pem"), self.authority.pem() + &list).unwrap();
    }

    /// The side of somebody with this name.
    pub fn tls(&self, name: &str) -> Tls {
        Tls::load(self.files(name)).unwrap()
    }
}
