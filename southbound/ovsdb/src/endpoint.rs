//! Where a database is: `unix:PATH`, `tcp:HOST:PORT`, `ssl:HOST:PORT`.

use std::{fmt, path::PathBuf, str::FromStr};
use thiserror::Error;

/// The port that IANA gave OVSDB (RFC 7047 §7).
pub const PORT: u16 = 6640;

/// Longest path of a socket, in bytes (unix(7)).
const MAX_PATH: usize = 107;

/// A database's address, as Open vSwitch writes remotes (ovsdb(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `unix:PATH`: a socket of this machine.
    Unix(PathBuf),
    /// `tcp:HOST[:PORT]`: unprotected.
    Tcp {
        /// An address or a name.
        host: String,
        /// The port.
        port: u16,
    },
    /// `ssl:HOST[:PORT]`: by TLS.
    Ssl {
        /// An address or a name.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// Nothing that we know.
    #[error("`{0}` is no OVSDB endpoint; write unix:PATH, ssl:HOST:PORT, tcp:HOST:PORT or tcp:[ADDRESS]:PORT")]
    Unknown(String),
    /// A path that no socket can have.
    #[error("`{0}`: a socket's path has 1 to {MAX_PATH} bytes")]
    Path(String),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let shown = || crate::error::cut(text);
        let unknown = || EndpointError::Unknown(shown());
        let (kind, rest) = text.split_once(':').ok_or_else(unknown)?;
        match kind {
            "unix" if rest.is_empty() || rest.len() > MAX_PATH || rest.contains('\0') => {
                Err(EndpointError::Path(shown()))
            }
            "unix" => Ok(Self::Unix(rest.into())),
            "tcp" | "ssl" => {
                let (host, port) = match rest.strip_prefix('[').map(|rest| rest.split_once(']')) {
                    Some(Some((host, port))) => (host, port.strip_prefix(':').or((port.is_empty()).then_some(""))),
                    Some(None) => return Err(unknown()),
                    None => rest.split_once(':').map_or((rest, Some("")), |(host, port)| (host, Some(port))),
                };
                let port = match port.ok_or_else(unknown)? {
                    "" => PORT,
                    digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                        digits.parse().map_err(|_| unknown())?
                    }
                    _ => return Err(unknown()),
                };
                // Names and addresses; what else may stand there is for nobody to look up.
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
                if host.is_empty() || host.len() > 253 || port == 0 || !host.bytes().all(plain) {
                    return Err(unknown());
                }
                let host = host.to_owned();
                Ok(if kind == "ssl" { Self::Ssl { host, port } } else { Self::Tcp { host, port } })
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, host, port) = match self {
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } => ("tcp", host, port),
            Self::Ssl { host, port } => ("ssl", host, port),
        };
        if host.contains(':') { write!(f, "{kind}:[{host}]:{port}") } else { write!(f, "{kind}:{host}:{port}") }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_one_spelling() {
        for (text, shown) in [
            ("unix:/run/openvswitch/db.sock", "unix:/run/openvswitch/db.sock"),
            ("tcp:192.0.2.1", "tcp:192.0.2.1:6640"),
            ("tcp:hv1.example:6641", "tcp:hv1.example:6641"),
            ("tcp:[fd00::1]:6640", "tcp:[fd00::1]:6640"),
            ("tcp:[fd00::1]", "tcp:[fd00::1]:6640"),
            ("ssl:192.0.2.1", "ssl:192.0.2.1:6640"),
            ("ssl:[fd00::1]:6641", "ssl:[fd00::1]:6641"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "unix:",
            "tcp:",
            "ssl:",
            "pssl:6640",
            "tcp::6640",
            "tcp:a:b",
            "tcp:a:0",
            "tcp:a:65536",
            "tcp:[a",
            "tcp:[a]b",
            "tcp:a:+1",
            "tcp:a b:1",
            "ptcp:6640",
            "/run/db.sock",
            "tcp:fd00::1",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
