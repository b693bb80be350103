//! What rules of NetworkPolicy and of the cluster-wide kinds have in common: pods, addresses, protocols, ports.

use super::labels::{self, Of, is_pod, requirements, selector};
use crate::{
    finding::short,
    value::{Reader, Value},
};
use bulkhead_policy::model::{CidrSet, Peer, PortMatch};
use bulkhead_topology::{IpNet, Requirement};

/// IANA's numbers of the protocols that have ports in Kubernetes.
pub(crate) const PROTOCOLS: [(&str, u8); 3] = [("TCP", 6), ("UDP", 17), ("SCTP", 132)];

/// The largest port.
pub(crate) const MAX_PORT: i64 = 65535;

/// The protocol of a field `protocol`, TCP if it is absent.
pub(crate) fn protocol(reader: &mut Reader<'_>, at: &Value<'_>) -> Option<u8> {
    let Some(value) = at.field("protocol") else { return Some(6) };
    let text = reader.text(&value)?;
    let number = PROTOCOLS.into_iter().find(|(name, _)| *name == text).map(|(_, number)| number);
    if number.is_none() {
        reader.refuse(&value, format!("`{}` is not a protocol", short(text)), "TCP, UDP or SCTP, in capitals");
    }
    number
}

/// Whether a port can have this name (RFC 6335 §5.1; Kubernetes allows 15 characters, and so does nobody more).
pub(crate) fn is_port_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=15).contains(&name.len())
        && name.bytes().all(good)
        && name.bytes().any(|b| b.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

/// A port's name.
pub(crate) fn named(reader: &mut Reader<'_>, at: &Value<'_>, protocol: Option<u8>) -> Option<PortMatch> {
    let name = reader.text(at)?;
    if !is_port_name(name) {
        let hint =
            "1 to 15 lower-case letters, digits and `-`, at least one letter; a number is written without quotes";
        reader.refuse(at, format!("`{}` cannot be the name of a port", short(name)), hint);
        return None;
    }
    Some(PortMatch::Named { name: name.into(), protocol })
}

/// A port's number.
pub(crate) fn number(reader: &mut Reader<'_>, at: &Value<'_>) -> Option<u16> {
    reader.number(at, 1..=MAX_PORT).and_then(|number| u16::try_from(number).ok())
}

/// A prefix. Kubernetes takes one with host bits for the network that it is in; here it has to be written so.
pub(crate) fn cidr(reader: &mut Reader<'_>, at: &Value<'_>) -> Option<IpNet> {
    let text = reader.text(at)?;
    match text.parse() {
        Ok(net) => Some(net),
        Err(wrong) => {
            let wrong: bulkhead_topology::ParseError = wrong;
            reader.refuse(at, format!("`{}` is no CIDR", short(text)), wrong.why);
            None
        }
    }
}

/// Addresses in one prefix and in none of some others.
pub(crate) fn cidr_set(cidr: IpNet, mut except: Vec<IpNet>) -> CidrSet {
    except.sort();
    except.dedup();
    CidrSet { cidrs: vec![cidr], except }
}

/// The pods of all namespaces that have these labels.
pub(crate) fn of_namespaces(reader: &mut Reader<'_>, at: &Value<'_>) -> Vec<Requirement> {
    let mut all = requirements(reader, Some(at), Of::Namespaces);
    // Without it `{}`, NotIn and DoesNotExist would select workloads that never were pods.
    all.push(is_pod());
    all
}

/// `namespaces` or `pods` of the cluster-wide kinds, exactly one of which is there.
pub(crate) fn namespaces_or_pods(reader: &mut Reader<'_>, at: &Value<'_>) -> Option<bulkhead_topology::Selector> {
    match (at.field("namespaces"), at.field("pods")) {
        (Some(namespaces), None) => Some(selector(of_namespaces(reader, &namespaces))),
        (None, Some(pods)) => {
            if !reader.only(&pods, &["namespaceSelector", "podSelector"]) {
                return None;
            }
            let mut all = match pods.field("namespaceSelector") {
                Some(namespaces) => of_namespaces(reader, &namespaces),
                None => vec![is_pod()],
            };
            let pods = pods.field("podSelector");
            all.extend(labels::requirements(reader, pods.as_ref(), Of::Pods));
            Some(selector(all))
        }
        _ => {
            reader.refuse(at, "exactly one of `namespaces` and `pods` is expected here", "");
            None
        }
    }
}

/// A peer of the cluster-wide kinds that is pods.
pub(crate) fn pod_peer(reader: &mut Reader<'_>, at: &Value<'_>) -> Option<Peer> {
    namespaces_or_pods(reader, at).map(Peer::Selector)
}
