//! Whom the client believes, and who it is.

use crate::Error;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use std::{fs, sync::Arc};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// Where systems keep the authorities that they believe: Debian and Alpine, Fedora, openSUSE.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// What TLS with a controller takes, as PEM texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// Certificates of the authorities that may have signed the controller's; those that the system believes if none is
    /// given.
    pub ca: Option<String>,
    /// This client's certificate, and those of intermediate authorities after it.
    pub certificate: Option<String>,
    /// Its private key.
    pub key: Option<String>,
}

fn certificates(text: &str) -> Vec<Certificate<'static>> {
    let certificate = |item| if let Ok(PemItem::Certificate(one)) = item { Some(one) } else { None };
    parse_pem(text.as_bytes()).filter_map(certificate).collect()
}

impl Security {
    /// The same for the client's agent.
    pub(crate) fn config(&self) -> Result<TlsConfig, Error> {
        let none = |what: &str| Error::Pem { what: what.into() };
        let roots = match &self.ca {
            Some(text) => certificates(text),
            None => SYSTEM
                .iter()
                .find_map(|file| fs::read_to_string(file).ok())
                .map_or_else(Vec::new, |text| certificates(&text)),
        };
        if roots.is_empty() && self.ca.is_some() {
            return Err(none("authority's certificate"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let own = match (&self.certificate, &self.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate);
                if chain.is_empty() {
                    return Err(none("certificate of yours"));
                }
                let secret = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| none("private key"))?;
                let key = PrivateKey::from_pem(key.as_bytes()).map_err(|_| none("private key"))?;
                let shown = chain.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect();
                // The agent takes it for granted.
                CertifiedKey::from_der(shown, secret, &provider).map_err(|error| Error::Own(error.to_string()))?;
                Some(ClientCert::new_with_certs(&chain, key))
            }
            (Some(_), None) => return Err(none("private key beside the certificate")),
            (None, Some(_)) => return Err(none("certificate beside the private key")),
        };
        let config = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .client_cert(own)
            .unversioned_rustls_crypto_provider(provider);
        Ok(config.build())
    }
}
