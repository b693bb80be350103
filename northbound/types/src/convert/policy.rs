//! Policies: subject, rules, peers, ports.

use super::{Check, MAX_SHORT_NAME, Path};
use crate::{
    protocol,
    shared::shared,
    suggest,
    v1::{self, TextOrNumber},
};
use bulkhead_policy::model::*;
use bulkhead_topology::Name;
use std::{collections::BTreeMap, sync::Arc};

/// Priority of a policy that says none.
const DEFAULT_PRIORITY: u16 = 1000;

/// What ingress and egress rules have in common.
struct RuleSpec<'a> {
    name: Option<&'a str>,
    action: &'a str,
    priority: Option<u16>,
    /// The name of the peer list's field.
    field: &'static str,
    peers: Option<&'a [v1::Peer]>,
    ports: Option<&'a [v1::Port]>,
    log: Option<bool>,
}

impl Check {
    pub(super) fn policy(&mut self, name: Option<Name>, spec: &v1::PolicySpec) -> Option<Policy> {
        let tiers = [
            ("application", Tier::Application),
            ("emergency", Tier::Emergency),
            ("platform", Tier::Platform),
            ("baseline", Tier::Baseline),
        ];
        let tier = self.word("spec.tier", spec.tier.as_deref(), &tiers);
        let staged = self.word("spec.stage", spec.stage.as_deref(), &[("active", false), ("staged", true)]);
        let wants = [("preferred", false), ("required", true)];
        let stateful = self.word("spec.stateful", spec.stateful.as_deref(), &wants);
        let subject = self.subject(&spec.subject);
        let isolate = match (&spec.isolate, tier) {
            (Some(words), tier) => {
                let sides = self.sides("spec.isolate", words);
                if sides != Sides::default() && tier.is_some_and(|t| t != Tier::Application) {
                    let hint = "write a rule with action deny, or isolate in the application tier";
                    self.refuse("spec.isolate", "only policies of the application tier isolate", hint);
                }
                sides
            }
            (None, Some(Tier::Application)) => Sides { ingress: spec.ingress.is_some(), egress: spec.egress.is_some() },
            (None, _) => Sides::default(),
        };
        if spec.ingress.is_none() && spec.egress.is_none() && isolate == Sides::default() {
            let hint = "give it an `ingress` or `egress` section; an empty one, `ingress: []`, isolates";
            self.warn("spec", "this policy does nothing", hint);
        }
        let ingress = self.rules(
            "spec.ingress",
            spec.ingress.iter().flatten().map(|rule| RuleSpec {
                name: rule.name.as_deref(),
                action: &rule.action,
                priority: rule.priority,
                field: "from",
                peers: rule.from.as_deref(),
                ports: rule.ports.as_deref(),
                log: rule.log,
            }),
        );
        let egress = self.rules(
            "spec.egress",
            spec.egress.iter().flatten().map(|rule| RuleSpec {
                name: rule.name.as_deref(),
                action: &rule.action,
                priority: rule.priority,
                field: "to",
                peers: rule.to.as_deref(),
                ports: rule.ports.as_deref(),
                log: rule.log,
            }),
        );
        Some(Policy {
            name: name?,
            tier: tier?,
            priority: spec.priority.unwrap_or(DEFAULT_PRIORITY),
            staged: staged?,
            stateful: stateful?,
            subject: subject?,
            isolate,
            ingress,
            egress,
        })
    }

    fn subject(&mut self, subject: &v1::Subject) -> Option<Subject> {
        let selects = subject.match_labels.is_some() || subject.match_expressions.is_some();
        match (&subject.zone, selects) {
            (Some(zone), false) => self.reference("spec.subject.zone", zone).map(Subject::Zone),
            (None, true) => {
                let (labels, expressions) = (subject.match_labels.as_ref(), subject.match_expressions.as_deref());
                Some(Subject::Selector(self.selector("spec.subject", labels, expressions)))
            }
            (Some(_), true) => {
                let hint = "keep one; to narrow a zone down, repeat its labels in the selector";
                self.refuse("spec.subject", "both a zone and a selector", hint);
                None
            }
            (None, false) => {
                let hint = "name a zone or labels; for every workload write `matchLabels: {}`";
                self.refuse("spec.subject", "a subject that says nothing", hint);
                None
            }
        }
    }

    fn rules<'a>(&mut self, path: impl Path, specs: impl Iterator<Item = RuleSpec<'a>>) -> Vec<Rule> {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let mut rules = Vec::new();
        for (i, spec) in specs.enumerate() {
            let path = format_args!("{path}[{i}]");
            if let Some(earlier) = spec.name.and_then(|name| names.insert(name, i)) {
                let message = format!("rule {earlier} has this name already");
                self.refuse(format_args!("{path}.name"), message, "hits and verdicts are told apart by it");
            }
            rules.extend(self.rule(path, &spec));
        }
        rules.shrink_to_fit();
        rules
    }

    fn rule(&mut self, path: impl Path, spec: &RuleSpec<'_>) -> Option<Rule> {
        let name: Option<Arc<str>> = match spec.name {
            None => Some(shared("")),
            Some(name) => self.short_name(format_args!("{path}.name"), "rule's name", name, MAX_SHORT_NAME),
        };
        let actions =
            [("allow", Action::Allow), ("deny", Action::Deny), ("reject", Action::Reject), ("pass", Action::Pass)];
        let action = self.word(format_args!("{path}.action"), Some(spec.action), &actions);
        let peers = spec.peers.map(|peers| {
            let field = spec.field;
            let found = peers.iter().enumerate();
            let found = found.filter_map(|(i, peer)| self.peer(format_args!("{path}.{field}[{i}]"), peer));
            found.collect::<Box<[_]>>().into_vec()
        });
        let ports = spec.ports.map(|ports| {
            let found = ports.iter().enumerate();
            let found = found.filter_map(|(i, port)| self.port(format_args!("{path}.ports[{i}]"), port));
            found.collect::<Box<[_]>>().into_vec()
        });
        for (field, empty) in
            [(spec.field, spec.peers.is_some_and(<[_]>::is_empty)), ("ports", spec.ports.is_some_and(<[_]>::is_empty))]
        {
            if empty {
                let hint = format!("for any, leave `{field}` out");
                self.warn(
                    format_args!("{path}.{field}"),
                    "an empty list matches nothing, so this rule never holds",
                    hint,
                );
            }
        }
        Some(Rule {
            name: name?,
            action: action?,
            priority: spec.priority.unwrap_or(0),
            peers,
            ports,
            log: spec.log.unwrap_or(false),
        })
    }

    fn peer(&mut self, path: impl Path, peer: &v1::Peer) -> Option<Peer> {
        let selects = peer.match_labels.is_some() || peer.match_expressions.is_some();
        let kinds: Vec<&str> = [
            ("a selector", selects),
            ("zone", peer.zone.is_some()),
            ("network", peer.network.is_some()),
            ("cidr", peer.cidr.is_some()),
            ("cidrs", peer.cidrs.is_some()),
            ("addressSet", peer.address_set.is_some()),
            ("external", peer.external.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, present)| present.then_some(name))
        .collect();
        match kinds.as_slice() {
            [_] => {}
            [] => {
                let hint = "say one of matchLabels, matchExpressions, zone, network, cidr, cidrs, addressSet, external; \
                            for any workload write `matchLabels: {}`";
                self.refuse(path, "a peer that says nothing", hint);
                return None;
            }
            several => {
                let message = format!("a peer of several kinds: {}", several.join(", "));
                self.refuse(path, message, "a list of peers is read as `or`: give each an item of its own");
                return None;
            }
        }
        if peer.except.is_some() && peer.cidr.is_none() && peer.cidrs.is_none() {
            self.refuse(format_args!("{path}.except"), "`except` belongs to `cidr` or `cidrs`", "");
            return None;
        }
        if let Some(zone) = &peer.zone {
            return self.reference(format_args!("{path}.zone"), zone).map(Peer::Zone);
        }
        if let Some(network) = &peer.network {
            return self.reference(format_args!("{path}.network"), network).map(Peer::Network);
        }
        if let Some(set) = &peer.address_set {
            return self.reference(format_args!("{path}.addressSet"), set).map(Peer::AddressSet);
        }
        if let Some(cidr) = &peer.cidr {
            // One prefix: its place is the field itself, not an item of it.
            self.text::<bulkhead_topology::IpNet>(format_args!("{path}.cidr"), cidr)?;
            return self.cidrs(path, "cidr", Some(std::slice::from_ref(cidr)), peer.except.as_deref()).map(Peer::Cidr);
        }
        if peer.cidrs.is_some() {
            return self.cidrs(path, "cidrs", peer.cidrs.as_deref(), peer.except.as_deref()).map(Peer::Cidr);
        }
        match peer.external {
            Some(true) => Some(Peer::External),
            Some(false) => {
                let message = "`external: false` is no peer";
                self.refuse(format_args!("{path}.external"), message, "for any workload write `matchLabels: {}`");
                None
            }
            None => {
                let (labels, expressions) = (peer.match_labels.as_ref(), peer.match_expressions.as_deref());
                Some(Peer::Selector(self.selector(path, labels, expressions)))
            }
        }
    }

    fn protocol(&mut self, path: impl Path, protocol: &TextOrNumber) -> Option<u8> {
        match protocol {
            TextOrNumber::Number(number) => self.octet(path, "an IP protocol number", *number),
            TextOrNumber::Text(name) => {
                let number = protocol::number(name);
                if number.is_none() {
                    let hint = match suggest::nearest(name, ["tcp", "udp", "sctp", "icmp", "icmpv6"]) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "tcp, udp, sctp, icmp, icmpv6, or a number from 0 to 255".into(),
                    };
                    self.refuse(path, format!("`{}` is not a protocol", suggest::short(name)), hint);
                }
                number
            }
        }
    }

    fn port(&mut self, path: impl Path, spec: &v1::Port) -> Option<PortMatch> {
        let protocol = match &spec.protocol {
            None => None,
            Some(protocol) => Some(self.protocol(format_args!("{path}.protocol"), protocol)?),
        };
        if protocol.is_none_or(|p| !protocol::is_icmp(p)) && (spec.icmp_type.is_some() || spec.code.is_some()) {
            self.refuse(path, "`type` and `code` belong to icmp and icmpv6", "write `protocol: icmp`, or icmpv6");
            return None;
        }
        if protocol.is_some_and(|p| !protocol::has_ports(p)) && (spec.port.is_some() || spec.end_port.is_some()) {
            let message = format!("{} has no ports", protocol.map(protocol::name).unwrap_or_default());
            self.refuse(path, message, "leave `port` and `endPort` out");
            return None;
        }
        if spec.end_port.is_some() && !matches!(spec.port, Some(TextOrNumber::Number(_))) {
            let hint = "give the range's first port as `port`, a number";
            self.refuse(format_args!("{path}.endPort"), "`endPort` without a port number", hint);
            return None;
        }
        match (protocol, &spec.port) {
            (None, None) => {
                let hint = "say a `protocol` with or without a `port`, or the name of a port";
                self.refuse(path, "a port that says nothing", hint);
                None
            }
            (protocol, Some(TextOrNumber::Text(name))) => {
                let name = self.port_name(format_args!("{path}.port"), name)?;
                Some(PortMatch::Named { name, protocol })
            }
            (None, Some(TextOrNumber::Number(_))) => {
                self.refuse(path, "a port number without a protocol", "add `protocol: tcp`, udp or sctp");
                None
            }
            (Some(protocol), Some(TextOrNumber::Number(port))) => {
                let first = self.port_number(format_args!("{path}.port"), *port)?;
                let last = match spec.end_port {
                    None => first,
                    Some(end) => self.port_number(format_args!("{path}.endPort"), end)?,
                };
                if last < first {
                    let message = format!("the range {first}-{last} ends before it begins");
                    self.refuse(format_args!("{path}.endPort"), message, format!("endPort is at least {first}"));
                    return None;
                }
                Some(PortMatch::Ports { protocol, first, last })
            }
            (Some(protocol), None) if protocol::is_icmp(protocol) => {
                if spec.code.is_some() && spec.icmp_type.is_none() {
                    self.refuse(
                        format_args!("{path}.code"),
                        "a code without a type",
                        "a code means something only with it",
                    );
                    return None;
                }
                let icmp_type = match spec.icmp_type {
                    None => None,
                    Some(number) => Some(self.octet(format_args!("{path}.type"), "an ICMP type", number)?),
                };
                let code = match spec.code {
                    None => None,
                    Some(number) => Some(self.octet(format_args!("{path}.code"), "an ICMP code", number)?),
                };
                Some(PortMatch::Icmp { protocol, icmp_type, code })
            }
            (Some(protocol), None) => Some(PortMatch::Protocol(protocol)),
        }
    }

    fn port_number(&mut self, path: impl Path, number: u64) -> Option<u16> {
        let port = u16::try_from(number).ok().filter(|p| *p != 0);
        if port.is_none() {
            self.refuse(path, format!("{number} is not a port"), "1 to 65535");
        }
        port
    }
}
