//! The certificates of southbound TLS, as operators see them.

use bulkhead_tls::{Role, Stage, Tls};
use bulkhead_types::{CertificateStatus, TlsStatus};
use std::{
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

/// How an authority's certificate, and the controller's own, are called.
fn word(role: Role) -> &'static str {
    match role {
        Role::Ca => "authority",
        Role::Certificate | Role::Key => "certificate",
    }
}

/// What is in use, and what there is to be told of it.
pub(crate) fn status(tls: &Tls) -> TlsStatus {
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
pub(crate) fn metrics(tls: &Tls) -> String {
    const NAME: &str = "bulkhead_southbound_certificate_expiry_timestamp_seconds";
    let lives = tls.lives();
    let mut out = format!("# HELP {NAME} When the first certificate of a role expires.\n# TYPE {NAME} gauge\n");
    for role in [Role::Ca, Role::Certificate] {
        if let Some(ends) = lives.iter().filter(|life| life.role == role).map(|life| life.ends).min() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{NAME}{{role=\"{}\"}} {ends}", word(role));
        }
    }
    out
}
