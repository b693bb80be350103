//! The certificates of TLS with switches and of the API, as operators see them.

use bulkhead_tls::{Life, Role, Server, Stage, Tls};
use bulkhead_types::{CertificateStatus, TlsStatus};
use std::{
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

/// Whoever speaks TLS: what it does it with, and why not with the files as they are now.
pub(crate) trait Speaks {
    /// What its certificates' end is called in metrics.
    const METRIC: &str;

    fn lives(&self) -> Vec<Life>;
    fn refused(&self) -> String;
}

impl Speaks for Tls {
    const METRIC: &str = "bulkhead_southbound_certificate_expiry_timestamp_seconds";

    fn lives(&self) -> Vec<Life> {
        self.lives()
    }
    fn refused(&self) -> String {
        self.refused()
    }
}

impl Speaks for Server {
    const METRIC: &str = "bulkhead_api_certificate_expiry_timestamp_seconds";

    fn lives(&self) -> Vec<Life> {
        self.lives()
    }
    fn refused(&self) -> String {
        self.refused()
    }
}

/// How an authority's certificate, and the controller's own, are called.
fn word(role: Role) -> &'static str {
    match role {
        Role::Ca => "authority",
        Role::Certificate | Role::Key => "certificate",
    }
}

/// What is in use, and what there is to be told of it.
pub(crate) fn status(tls: &impl Speaks) -> TlsStatus {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let certificates = tls.lives().into_iter().map(|life| CertificateStatus {
        role: word(life.role).into(),
        file: life.path.display().to_string(),
        owner: life.owner.clone(),
        expires: life.ends,
        expired: life.stage(now) == Stage::Expired,
        warning: life.warning(now).unwrap_or_default(),
    });
    TlsStatus { certificates: certificates.collect(), trouble: tls.refused() }
}

/// The same in the Prometheus text format: of several of one role, the first that expires.
pub(crate) fn metrics<S: Speaks>(tls: &S) -> String {
    let (name, lives) = (S::METRIC, tls.lives());
    let mut out = format!("# HELP {name} When the first certificate of a role expires.\n# TYPE {name} gauge\n");
    for role in [Role::Ca, Role::Certificate] {
        if let Some(ends) = lives.iter().filter(|life| life.role == role).map(|life| life.ends).min() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name}{{role=\"{}\"}} {ends}", word(role));
        }
    }
    out
}
