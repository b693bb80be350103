//! What a connection asks for, on one line: `443/tcp`, `tcp/443`, `icmp/8/0`, `47`.

use crate::{answer::FlowQuestion, protocol};
use bulkhead_topology::ParseError;

/// A protocol with its port, or its ICMP type and code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceText {
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port, where the protocol has ports.
    pub port: Option<u16>,
    /// ICMP type, where the protocol has one; echo request if the text has none.
    pub icmp_type: Option<u8>,
    /// ICMP code, likewise.
    pub icmp_code: Option<u8>,
}

impl ServiceText {
    /// Puts it into a question.
    pub fn ask(self, question: FlowQuestion) -> FlowQuestion {
        FlowQuestion {
            protocol: protocol::name(self.protocol),
            port: self.port,
            icmp_type: self.icmp_type,
            icmp_code: self.icmp_code,
            ..question
        }
    }
}

/// Reads `PROTOCOL[/PORT]`, `PORT/PROTOCOL` or `icmp[/TYPE[/CODE]]`.
pub fn parse_service(text: &str) -> Result<ServiceText, ParseError> {
    let error = |why: &str| ParseError::new("service", text, why);
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let octet = |text: &str| number(text).and_then(|n| u8::try_from(n).ok());
    let mut parts: Vec<&str> = text.split('/').collect();
    // `443/tcp`: the protocol's name comes second.
    if let [port, name] = parts.as_slice()
        && number(port).is_some()
        && protocol::number(&name.to_ascii_lowercase()).is_some_and(protocol::has_ports)
    {
        parts.reverse();
    }
    let (first, rest) = parts.split_first().ok_or_else(|| error("it is empty"))?;
    let protocol = protocol::number(&first.to_ascii_lowercase())
        .or_else(|| octet(first))
        .ok_or_else(|| error("write tcp/443, udp/53, sctp/3868, icmp, icmpv6, or a protocol number"))?;
    let mut service = ServiceText { protocol, port: None, icmp_type: None, icmp_code: None };
    match rest {
        [port] if protocol::has_ports(protocol) => {
            let port = number(port).filter(|p| *p != 0);
            service.port = Some(port.ok_or_else(|| error("the port is a number from 1 to 65535"))?);
        }
        _ if protocol::has_ports(protocol) => return Err(error("write the port too, as in tcp/443")),
        [] => {}
        [kind, code @ ..] if protocol::is_icmp(protocol) && code.len() <= 1 => {
            let octet = |text| octet(text).ok_or_else(|| error("ICMP types and codes are numbers from 0 to 255"));
            service.icmp_type = Some(octet(kind)?);
            service.icmp_code = code.first().map(|code| octet(code)).transpose()?;
        }
        _ => return Err(error("only tcp, udp and sctp have ports, only icmp and icmpv6 types")),
    }
    Ok(service)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_orders_and_icmp_are_read() {
        let tcp = ServiceText { protocol: 6, port: Some(443), icmp_type: None, icmp_code: None };
        for text in ["tcp/443", "443/tcp", "TCP/443", "6/443"] {
            assert_eq!(parse_service(text).unwrap(), tcp, "{text}");
        }
        let icmp = ServiceText { protocol: 1, port: None, icmp_type: Some(8), icmp_code: Some(0) };
        assert_eq!(parse_service("icmp/8/0").unwrap(), icmp);
        assert_eq!(parse_service("47").unwrap().protocol, 47);
        for bad in ["", "tcp", "tcp/0", "tcp/65536", "tcp/+1", "icmp/8/0/0", "icmp/256", "47/1", "foo", "256", "/tcp"] {
            assert!(parse_service(bad).is_err(), "{bad}");
        }
    }
}
