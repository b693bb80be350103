//! Kernel parameters of the calling thread's network namespace.

use std::fs;

use crate::error::Error;

/// What a parameter is; the key is a path below /proc/sys/net, such as `ipv4/conf/eth0/arp_ignore`.
///
/// # Errors
/// When there is no such parameter.
pub fn sysctl(key: &str) -> Result<String, Error> {
    let read = fs::read_to_string(path(key)).map(|value| value.trim().to_owned());
    read.map_err(|cause| Error::Refused { what: key.to_owned(), cause })
}

/// Sets a parameter; see [`sysctl`].
///
/// # Errors
/// When there is no such parameter, or it does not take the value.
pub fn set_sysctl(key: &str, value: &str) -> Result<(), Error> {
    fs::write(path(key), value).map_err(|cause| Error::Refused { what: format!("{key}={value}"), cause })
}

/// /proc/sys/net shows the namespace of the thread that opens it (proc(5)).
fn path(key: &str) -> String {
    format!("/proc/sys/net/{key}")
}
