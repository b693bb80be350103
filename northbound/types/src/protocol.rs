//! IP protocols that documents have names for (IANA protocol-numbers).

/// ICMP
pub const ICMP: u8 = 1;
/// TCP
pub const TCP: u8 = 6;
/// UDP
pub const UDP: u8 = 17;
/// ICMP for IPv6
pub const ICMPV6: u8 = 58;
/// SCTP
pub const SCTP: u8 = 132;

/// Whether the protocol has ports.
pub fn has_ports(number: u8) -> bool {
    matches!(number, TCP | UDP | SCTP)
}

/// Whether the protocol has types and codes.
pub fn is_icmp(number: u8) -> bool {
    matches!(number, ICMP | ICMPV6)
}

/// An IP protocol by its name in documents.
pub fn number(name: &str) -> Option<u8> {
    Some(match name {
        "icmp" => ICMP,
        "tcp" => TCP,
        "udp" => UDP,
        "icmpv6" => ICMPV6,
        "sctp" => SCTP,
        _ => return None,
    })
}

/// The name of an IP protocol in documents, or its number as text.
pub fn name(number: u8) -> String {
    match number {
        ICMP => "icmp".into(),
        TCP => "tcp".into(),
        UDP => "udp".into(),
        ICMPV6 => "icmpv6".into(),
        SCTP => "sctp".into(),
        other => other.to_string(),
    }
}
