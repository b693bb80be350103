//! One rule of a group: a service, and whom it is about.

use super::members;
use crate::{
    finding::short,
    value::{Reader, Value},
};
use bulkhead_policy::model::*;
use bulkhead_topology::{IpNet, ParseError};
use std::collections::BTreeMap;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// What a rule allows; `None` is anything.
type Service = Option<Vec<PortMatch>>;

/// The service of a protocol's name or number and two numbers, which are ports, or an ICMP type and code.
pub(super) fn service(reader: &mut Reader<'_>, at: &Value<'_>, fields: [&str; 3]) -> Option<Service> {
    let [protocol, from, to] = fields;
    let protocol = reader.needed(at, protocol)?;
    let word = reader.text(&protocol)?;
    let mut bound = |key: &str| at.field(key).map(|value| reader.number(&value, -1..=65535));
    let (from, to) = (bound(from), bound(to));
    let number = match word {
        "-1" | "all" => return Some(None),
        "tcp" => TCP,
        "udp" => UDP,
        "icmp" => ICMP,
        "icmpv6" => ICMPV6,
        number => match number.parse::<u8>() {
            Ok(number) => number,
            Err(_) => {
                reader.refuse(&protocol, format!("`{}` is not a protocol", short(word)), "a name or 0 to 255");
                return None;
            }
        },
    };
    let (from, to) = (from.unwrap_or(Some(-1))?, to.unwrap_or(Some(-1))?);
    let said = match (number, from, to) {
        (TCP | UDP, -1, -1) | (TCP | UDP, 0, 65535) => PortMatch::Protocol(number),
        (TCP | UDP, 0.., 0..) if from <= to => {
            if from == 0 {
                reader.warn(at, "port 0 is left out", "");
            }
            let (first, last) = (u16::try_from(from.max(1)).ok()?, u16::try_from(to).ok()?);
            if last < first {
                return Some(Some(Vec::new()));
            }
            PortMatch::Ports { protocol: number, first, last }
        }
        (ICMP | ICMPV6, -1, -1) => PortMatch::Icmp { protocol: number, icmp_type: None, code: None },
        (ICMP | ICMPV6, 0..=255, -1..=255) => {
            PortMatch::Icmp { protocol: number, icmp_type: u8::try_from(from).ok(), code: u8::try_from(to).ok() }
        }
        (TCP | UDP | ICMP | ICMPV6, ..) => {
            reader.refuse(at, format!("{from} and {to} do not go with {}", short(word)), "");
            return None;
        }
        // Of all other protocols AWS does not look at ports.
        _ => PortMatch::Protocol(number),
    };
    Some(Some(vec![said]))
}

/// Whom a rule is about.
#[derive(Default)]
pub(super) struct Peers {
    cidrs: Vec<IpNet>,
    groups: Vec<String>,
}

impl Peers {
    /// Adds a prefix.
    pub fn cidr(&mut self, reader: &mut Reader<'_>, at: &Value<'_>) {
        let Some(text) = reader.text(at) else { return };
        match text.parse() {
            Ok(net) => self.cidrs.push(net),
            Err(wrong) => {
                let wrong: ParseError = wrong;
                reader.refuse(at, format!("`{}` is no CIDR", short(text)), wrong.why);
            }
        }
    }

    /// Adds the members of a group, written `ID` or `ACCOUNT/ID`.
    pub fn group(&mut self, reader: &mut Reader<'_>, at: &Value<'_>) {
        let Some(text) = reader.text(at) else { return };
        let id = text.rsplit_once('/').map_or(text, |(_, id)| id);
        if bulkhead_topology::check_key(&format!("{}{id}", super::MEMBER)).is_err() {
            reader.refuse(at, format!("`{}` is no group's id", short(text)), "");
        }
        self.groups.push(id.into());
    }

    /// Adds the members of the rule's own group.
    pub fn member(&mut self, group: &str) {
        self.groups.push(group.into());
    }

    /// Adds the entries of a prefix list, if they are known.
    pub fn list(&mut self, reader: &mut Reader<'_>, at: &Value<'_>, lists: &BTreeMap<String, Vec<IpNet>>) {
        let Some(id) = reader.text(at) else { return };
        match lists.get(id) {
            Some(entries) => {
                let message = format!("the entries of prefix list {} are taken as they are now", short(id));
                reader.warn(at, message, "import it again when they change");
                self.cidrs.extend(entries);
            }
            None => {
                let message = format!("what is in prefix list {} is not in these files: it is left out", short(id));
                reader.warn(at, message, "make an AddressSet of its entries, and name that in the policy");
            }
        }
    }

    /// The rule that allows them this. Nobody at all is an empty list, which matches nobody.
    pub fn rule(mut self, service: Service) -> Rule {
        self.cidrs.sort();
        self.cidrs.dedup();
        self.groups.sort();
        self.groups.dedup();
        let mut peers: Vec<Peer> = self.groups.iter().map(|group| Peer::Selector(members(group))).collect();
        if !self.cidrs.is_empty() {
            peers.push(Peer::Cidr(CidrSet { cidrs: self.cidrs, except: Vec::new() }));
        }
        Rule { name: "".into(), action: Action::Allow, priority: 0, peers: Some(peers), ports: service, log: false }
    }
}
