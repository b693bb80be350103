//! Whom a request is for, and which web page made it.
//!
//! A controller on a loopback address is reached by whatever runs on its host, an operator's browser included. A web
//! page whose name is made to mean that address would be this API's own origin in the browser's eyes ("DNS
//! rebinding"): what gives it away is the name. See ADR 7.

use crate::problem::Failure;
use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Refuses what is meant for another host than the one at `local`, and what another origin's page asks for.
pub(crate) async fn own(local: SocketAddr, request: Request, next: Next) -> Response {
    match meant(local, request.uri().authority(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

fn meant(local: SocketAddr, authority: Option<&Authority>, headers: &HeaderMap) -> Result<(), Failure> {
    let named = one(headers, &header::HOST)?;
    // A request's target that has a host is stronger than the header (RFC 9112 §3.2.2).
    let host = authority.map(Authority::as_str).or(named).unwrap_or_default();
    if local.ip().is_loopback() && !is_loopback(host) {
        let detail = format!(
            "this controller listens on {local} and answers to `localhost` and loopback addresses alone, with any \
             port; the request's Host is `{}`",
            shown(host)
        );
        return Err(Failure::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", detail));
    }
    match one(headers, &header::ORIGIN)? {
        Some(origin) if !origin.split_once("://").is_some_and(|(_, page)| page.eq_ignore_ascii_case(host)) => {
            let detail =
                format!("pages of another origin are not answered; the request's Origin is `{}`", shown(origin));
            Err(Failure::new(StatusCode::FORBIDDEN, "foreign-origin", detail))
        }
        _ => Ok(()),
    }
}

/// The only value of a header, if there is one.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Failure> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(|value| value.to_str()), values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value)),
        _ => Err(Failure::bad(format!("`{name}` is not one line of text"))),
    }
}

/// Whether a host, with or without a port, is this machine whatever the name service says (RFC 6761 §6.3).
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host.eq_ignore_ascii_case("localhost")
        || bracketed.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback()))
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Most characters of a header that are told back.
const MAX_SHOWN: usize = 64;

fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn status(local: &str, host: Option<&str>, origin: Option<&str>) -> u16 {
        let mut headers = HeaderMap::new();
        headers.extend(host.map(|host| (header::HOST, host.parse().unwrap())));
        headers.extend(origin.map(|origin| (header::ORIGIN, origin.parse().unwrap())));
        meant(local.parse().unwrap(), None, &headers)
            .map_or_else(|failure| failure.into_response().status().as_u16(), |()| 200)
    }

    #[test]
    fn only_this_hosts_own_names_reach_a_loopback_address() {
        for host in [
            "localhost",
            "LOCALHOST:7480",
            "127.0.0.1",
            "127.0.0.1:9",
            "127.0.0.5:7480",
            "[::1]",
            "[::1]:7480",
            "localhost:1",
        ] {
            assert_eq!(status("127.0.0.1:7480", Some(host), None), 200, "{host}");
            assert_eq!(status("[::1]:7480", Some(host), None), 200, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:7480",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.localhost",
            "localhost@evil.example",
            "evil.example@localhost",
            "10.0.0.1:7480",
            "[::2]",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
            "127.1",
            "",
            "localhost evil.example",
        ] {
            assert_eq!(status("127.0.0.1:7480", Some(host), None), 421, "{host}");
            assert_eq!(status("192.0.2.1:7480", Some(host), None), 200, "{host}");
        }
        assert_eq!(status("127.0.0.1:7480", None, None), 421);
        // The target's own host counts, not the header beside it.
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "localhost".parse().unwrap());
        let evil: Authority = "evil.example".parse().unwrap();
        assert!(meant("127.0.0.1:1".parse().unwrap(), Some(&evil), &headers).is_err());
        headers.append(header::HOST, "localhost".parse().unwrap());
        assert!(meant("127.0.0.1:1".parse().unwrap(), None, &headers).is_err());
    }

    #[test]
    fn only_pages_of_this_origin_are_answered() {
        for local in ["127.0.0.1:7480", "192.0.2.1:7480"] {
            for (origin, expected) in [
                ("http://localhost:7480", 200),
                ("https://LOCALHOST:7480", 200),
                ("http://localhost", 403),
                ("http://localhost:3000", 403),
                ("http://evil.example", 403),
                ("null", 403),
                ("", 403),
            ] {
                assert_eq!(status(local, Some("localhost:7480"), Some(origin)), expected, "{origin}");
            }
        }
    }
}
