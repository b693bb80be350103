//! A lab's own authority, which signs for its switches and its controller.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// The directory of the files, in the lab's.
const DIR: &str = "tls";
/// Whose the certificate is that switches are shown.
const CONTROLLER: &str = "controller";

/// Where somebody's PEM files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// His own.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Files {
    /// Of somebody with this name in a lab, which is the controller if none is given.
    pub(crate) fn of(lab: &Path, name: Option<&str>) -> Files {
        let dir = lab.join(DIR);
        let whose = name.map_or_else(|| CONTROLLER.to_owned(), |name| format!("switch-{name}"));
        let file = |kind: &str| dir.join(format!("{whose}-{kind}.pem"));
        Files { ca: dir.join("ca.pem"), certificate: file("cert"), key: file("key") }
    }
}

/// Signs for whoever is in the lab. Its key is nowhere but here.
pub(crate) struct Authority {
    lab: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority for the lab in this directory, and what its controller needs.
    pub(crate) fn new(lab: &Path) -> Result<Authority> {
        fs::create_dir(lab.join(DIR)).context("no directory for certificates")?;
        let mut params = named("the lab's authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::write(Files::of(lab, None).ca, issuer.pem())?;
        let authority = Authority { lab: lab.to_owned(), issuer };
        authority.sign(None)?;
        Ok(authority)
    }

    /// A key and a certificate for a hypervisor, or for the controller.
    pub(crate) fn sign(&self, hypervisor: Option<&str>) -> Result<Files> {
        let files = Files::of(&self.lab, hypervisor);
        let key = KeyPair::generate()?;
        let certificate = named(hypervisor.unwrap_or(CONTROLLER)).signed_by(&key, &self.issuer)?;
        fs::write(&files.certificate, certificate.pem())?;
        let mut secret = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&files.key)?;
        secret.write_all(key.serialize_pem().as_bytes())?;
        Ok(files)
    }
}

/// What a certificate says of its owner.
fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
