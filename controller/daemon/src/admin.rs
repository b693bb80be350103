//! The local admin: a file in the data directory from which `bulkhead` knows how to reach the controller as an admin.
//!
//! Its token is made anew at each start: a copy of the file, in a backup or on a screen, is good until then and no longer.
//! Whoever needs lasting access has a token or a certificate of his own. If the file cannot be written, as on a full
//! disk, what it holds stays good, as that may be when its owner is needed most.

use crate::{
    authority::write,
    tokens::{Local, random},
};
use anyhow::Context;
use bulkhead_types::ADMIN_FILE;
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};
use tracing::warn;

/// What the line begins with that has the token.
const TOKEN: &str = "    token: ";

/// Where the API is reached from this machine.
pub(crate) fn url(scheme: &str, listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(ip, listen.port()))
}

/// The file: contexts as `bulkhead` reads them.
fn text(server: &str, ca: Option<&str>, token: Option<&str>) -> String {
    let mut text = format!(
        "# Written by bulkheadd at each start. Whoever can read this file is an admin.\ncurrent: local\ncontexts:\n  \
         local:\n    server: \"{server}\"\n"
    );
    if let Some(ca) = ca {
        text.push_str("    ca: |\n");
        for line in ca.lines() {
            text.push_str("      ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    if let Some(token) = token {
        text.push_str(TOKEN);
        text.push_str(token);
        text.push('\n');
    }
    text
}

/// Writes the file, for a server that asks nobody who he is.
pub(crate) fn open(data_dir: &Path, server: &str) -> Local {
    let path = data_dir.join(ADMIN_FILE);
    if let Err(error) = write(&path, 0o600, text(server, None, None).as_bytes()) {
        warn!(%error, "cannot write {}: `bulkhead` has to be told --server {server}", path.display());
    }
    Local::Everybody
}

/// Writes the file, with a new token, for a server whose certificate this authority has signed; none is one that clients
/// believe anyway. Gives who is known by it.
pub(crate) fn closed(data_dir: &Path, server: &str, ca: Option<&str>) -> anyhow::Result<Local> {
    let path = data_dir.join(ADMIN_FILE);
    let (token, _) = random().context("no token for the local admin")?;
    let Err(error) = write(&path, 0o600, text(server, ca, Some(&token)).as_bytes()) else {
        return Ok(Local::with(&token));
    };
    let before = fs::read_to_string(&path).unwrap_or_default();
    Ok(match before.lines().find_map(|line| line.strip_prefix(TOKEN)) {
        Some(token) => {
            warn!(%error, "cannot write {}: what it holds stays good", path.display());
            Local::with(token)
        }
        None => {
            warn!(%error, "cannot write {}: nobody is known without a token or a certificate", path.display());
            Local::nobody()
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn each_start_has_a_token_of_its_own_that_only_the_owner_reads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(ADMIN_FILE);
        let first = closed(directory.path(), "https://127.0.0.1:1", Some("A\nB\n")).unwrap();
        let told = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(told.contains("    ca: |\n      A\n      B\n    token: bulkhead_"), "{told}");
        let token = told.lines().find_map(|line| line.strip_prefix(TOKEN)).unwrap();
        assert_eq!(first, Local::with(token));
        assert_ne!(closed(directory.path(), "https://127.0.0.1:1", None).unwrap(), first);
        assert_eq!(open(directory.path(), "http://127.0.0.1:1"), Local::Everybody);
        assert!(!fs::read_to_string(&path).unwrap().contains("token"));
    }

    #[test]
    fn what_cannot_be_written_stays_good() {
        let directory = tempfile::tempdir().unwrap();
        let first = closed(directory.path(), "https://127.0.0.1:1", None).unwrap();
        // Nothing can be put here, whoever tries.
        fs::create_dir(directory.path().join(ADMIN_FILE).with_extension("new")).unwrap();
        assert_eq!(closed(directory.path(), "https://127.0.0.1:1", None).unwrap(), first);
        assert_eq!(closed(&directory.path().join("away"), "https://127.0.0.1:1", None).unwrap(), Local::nobody());
    }

    #[test]
    fn it_is_reached_where_it_listens() {
        for (listen, told) in [
            ("0.0.0.0:7", "https://127.0.0.1:7"),
            ("[::]:7", "https://[::1]:7"),
            ("192.0.2.1:7", "https://192.0.2.1:7"),
            ("[2001:db8::1]:7", "https://[2001:db8::1]:7"),
        ] {
            assert_eq!(url("https", listen.parse().unwrap()), told);
        }
    }
}
