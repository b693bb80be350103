//! Whose a certificate is.

use rustls::pki_types::CertificateDer;
use std::{collections::BTreeSet, fmt};
use webpki::EndEntityCert;

/// What ovs-pki(8) puts between the name that it is told and a number of its own.
const OVS_PKI_MARK: &str = " id:";
/// What a certificate's name begins with that is a datapath id, in 16 digits (base 16).
const DATAPATH: &str = "dpid-";
/// Longest name that is taken in, in bytes: as of DNS names and of resources.
const MAX_NAME: usize = 253;
/// Names that are taken in: one switch has few.
const MAX_NAMES: usize = 16;
/// id-at-commonName, 2.5.4.3 (RFC 5280 Appendix A.1).
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// DER tags of what a subject is made of (X.690 §8, RFC 5280 §4.1.2.4).
mod tag {
    pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(super) const UTF8_STRING: u8 = 0x0c;
    pub(super) const PRINTABLE_STRING: u8 = 0x13;
    pub(super) const IA5_STRING: u8 = 0x16;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
}

/// The names in a certificate that an authority of ours vouches for.
///
/// These are its DNS names; of one without any, its common name. What ovs-pki appends to a name is left out, and letters
/// are small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    names: BTreeSet<String>,
}

impl Certificate {
    /// The names in a certificate in DER form; none of what is no certificate.
    pub fn read(der: &[u8]) -> Self {
        let der = CertificateDer::from(der);
        let Ok(certificate) = EndEntityCert::try_from(&der) else { return Self { names: BTreeSet::new() } };
        let mut names: BTreeSet<String> = certificate.valid_dns_names().filter_map(name).take(MAX_NAMES).collect();
        if names.is_empty() {
            names = common_names(certificate.subject()).into_iter().filter_map(name).take(MAX_NAMES).collect();
        }
        Self { names }
    }

    /// The common name of a certificate in DER form: whose it is where people and programs are meant. None if it has
    /// none, or several, or one that is too long.
    pub(crate) fn subject(der: &[u8]) -> Option<String> {
        let der = CertificateDer::from(der);
        let certificate = EndEntityCert::try_from(&der).ok()?;
        match common_names(certificate.subject()).as_slice() {
            [name] if !name.is_empty() && name.len() <= MAX_NAME => Some((*name).to_owned()),
            _ => None,
        }
    }

    /// Whether its owner may speak as a switch: it names the switch, or its datapath id as `dpid-00000000000000b1`.
    pub fn is_for(&self, switch: &str, datapath: u64) -> bool {
        self.names.contains(switch) || self.names.contains(&format!("{DATAPATH}{datapath:016x}"))
    }

    /// Why its owner may not speak as a switch, for people; `None` if it may (A10).
    pub fn objection(&self, switch: &str, datapath: u64) -> Option<String> {
        let why = || {
            let wanted = format!("it has to name `{switch}` or `{DATAPATH}{datapath:016x}`");
            format!("the certificate of {self} is not one of {switch}; {wanted}")
        };
        (!self.is_for(switch, datapath)).then(why)
    }
}

/// For people: the names.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.names.is_empty() {
            return f.write_str("nobody (it has no name)");
        }
        for (at, name) in self.names.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}", name.escape_debug())?;
        }
        Ok(())
    }
}

/// A name as it is compared.
fn name(text: &str) -> Option<String> {
    let text = text.split_once(OVS_PKI_MARK).map_or(text, |(name, _)| name);
    (!text.is_empty() && text.len() <= MAX_NAME).then(|| text.to_ascii_lowercase())
}

/// The common names in a subject: `RDNSequence` without its head (RFC 5280 §4.1.2.4), which is a sequence of sets of
/// (type, value).
fn common_names(mut subject: &[u8]) -> Vec<&str> {
    let mut found = Vec::new();
    while let Some(mut set) = take(&mut subject, tag::SET) {
        while let Some(mut pair) = take(&mut set, tag::SEQUENCE) {
            let named = take(&mut pair, tag::OBJECT_IDENTIFIER) == Some(&COMMON_NAME);
            let kinds = [tag::UTF8_STRING, tag::PRINTABLE_STRING, tag::IA5_STRING];
            let value = kinds.into_iter().find_map(|kind| take(&mut pair, kind)).filter(|_| named);
            found.extend(value.and_then(|value| std::str::from_utf8(value).ok()));
        }
    }
    found
}

/// Takes one element of this kind off the front (X.690 §8.1, lengths as DER has them, §10.1); none, and nothing is taken,
/// if there is none.
fn take<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 | 0x82 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        // A subject of more than 64 KiB.
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length).filter(|_| found == tag)?;
    *bytes = rest;
    Some(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn certificate(common: &[&str], dns: &[&str]) -> Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "somebody");
        for name in common {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.subject_alt_names =
            dns.iter().map(|name| SanType::DnsName(name.to_string().try_into().unwrap())).collect();
        Certificate::read(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    #[test]
    fn a_certificate_is_for_the_switch_that_it_names() {
        let by_name = certificate(&["hv1"], &[]);
        assert!(by_name.is_for("hv1", 2) && !by_name.is_for("hv2", 1) && !by_name.is_for("h", 1));
        let by_id = certificate(&["dpid-00000000000000b1"], &[]);
        assert!(by_id.is_for("whatever", 0xb1) && !by_id.is_for("whatever", 0xb2));
        assert!(certificate(&["HV1"], &[]).is_for("hv1", 1));
        // As ovs-pki makes them: in the alternative names too, where that is no DNS name.
        let number = "hv1 id:cc4d2acc-b703-4483-b8e9-07820694b800";
        assert!(certificate(&[number], &[number]).is_for("hv1", 1));
        assert!(!certificate(&["hv1 idle"], &[]).is_for("hv1", 1));
    }

    #[test]
    fn dns_names_go_before_the_common_name() {
        let both = certificate(&["hv1"], &["hv2", "hv3.example"]);
        assert!(!both.is_for("hv1", 1) && both.is_for("hv2", 1) && both.is_for("hv3.example", 1));
        assert_eq!(both.to_string(), "hv2, hv3.example");
        // Nobody is called so.
        assert!(!certificate(&[], &["*.example"]).is_for("hv1.example", 1));
    }

    #[test]
    fn who_has_no_name_is_nobody() {
        for nameless in [certificate(&[], &[]), Certificate::read(b"nonsense"), Certificate::read(&[])] {
            assert!(!nameless.is_for("", 0), "{nameless}");
            assert_eq!(nameless.to_string(), "nobody (it has no name)");
        }
        assert!(certificate(&[&"x".repeat(254)], &[]).names.is_empty());
        assert_eq!(certificate(&["a\nb"], &[]).to_string(), "a\\nb");
    }

    #[test]
    fn a_subject_that_ends_early_has_no_name() {
        let subject = [0x31, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x03, b'h', b'v', b'1'];
        assert_eq!(common_names(&subject), ["hv1"]);
        for end in 0..subject.len() {
            assert!(common_names(&subject[..end]).is_empty(), "{end}");
        }
        for at in 0..subject.len() {
            // Lengths and tags that are not what they were: no name, or another one, and an end.
            for value in [0, 0x7f, 0x80, 0x81, 0x82, 0x84, 0xff] {
                let mut changed = subject;
                changed[at] = value;
                common_names(&changed);
            }
        }
    }
}
