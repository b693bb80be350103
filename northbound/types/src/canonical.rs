//! From the policy model back to version 1: the one form of a resource that is stored and shown.
//!
//! Every default is written out, sets are sorted, addresses have their one spelling; so equal meaning is
//! equal bytes.

use crate::{
    protocol,
    v1::{self, Envelope, Metadata, Object, TextOrNumber},
};
use bulkhead_policy::{Resource, model::*};
use bulkhead_topology::{
    IpNet, Name, Operator, Selector,
    underlay::{Hop, Route, Underlay},
};
use std::collections::BTreeMap;

/// The resource as compact JSON without `resourceVersion`: byte-stable, what [`crate::load`] reads.
pub fn canonical(resource: &Resource) -> String {
    // Plain structs with text keys cannot fail to serialize.
    serde_json::to_string(&object(resource)).unwrap_or_default()
}

/// The resource as a document, every default written out.
pub fn object(resource: &Resource) -> Object {
    match resource {
        Resource::Network(r) => Object::Network(envelope("Network", &r.name, network(r))),
        Resource::Switch(r) => Object::Switch(envelope("Switch", &r.name, switch(r))),
        Resource::AddressSet(r) => Object::AddressSet(envelope(
            "AddressSet",
            &r.name,
            v1::AddressSetSpec { cidrs: texts(&r.set.cidrs), except: some_texts(&r.set.except) },
        )),
        Resource::Workload(r) => {
            let mut envelope = envelope("Workload", &r.name, workload(r));
            let labels = r.labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<BTreeMap<_, _>>();
            envelope.metadata.labels = Some(labels).filter(|l| !l.is_empty());
            Object::Workload(envelope)
        }
        Resource::Zone(r) => Object::Zone(envelope("Zone", &r.name, zone(r))),
        Resource::Policy(r) => Object::Policy(envelope("Policy", &r.name, policy(r))),
        Resource::Link(r) => {
            Object::Link(envelope("Link", &r.name, v1::LinkSpec { a: attachment(&r.a), b: attachment(&r.b) }))
        }
        Resource::Host(r) => Object::Host(envelope("Host", &r.name, host(r))),
        Resource::Adjacency(r) => Object::Adjacency(envelope("Adjacency", &r.name, adjacency(r))),
    }
}

fn envelope<S>(kind: &str, name: &Name, spec: S) -> Envelope<S> {
    let metadata = Metadata { name: name.to_string(), ..Metadata::default() };
    Envelope { api_version: Some(v1::API_VERSION.into()), kind: kind.into(), metadata, spec }
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn some_texts(nets: &[IpNet]) -> Option<Vec<String>> {
    Some(texts(nets)).filter(|t| !t.is_empty())
}

fn port(port: &Port) -> TextOrNumber {
    match port {
        Port::Name(name) => TextOrNumber::Text(name.to_string()),
        Port::Number(number) => TextOrNumber::Number((*number).into()),
    }
}

fn attachment(at: &Attachment) -> v1::Attachment {
    v1::Attachment { switch: at.switch.to_string(), port: port(&at.port) }
}

fn word(text: &str) -> Option<String> {
    Some(text.into())
}

fn network(r: &Network) -> v1::NetworkSpec {
    let uplink = |u: &Uplink| v1::Uplink {
        switch: u.at.switch.to_string(),
        port: port(&u.at.port),
        vlan: Some(u.vlan).filter(|v| *v != 0),
    };
    v1::NetworkSpec {
        vni: r.vni.get(),
        subnets: texts(&r.subnets),
        encap: word(match r.encap {
            Encap::Geneve => "geneve",
            Encap::Vxlan => "vxlan",
        }),
        default_action: word(match r.default_action {
            DefaultAction::Allow => "allow",
            DefaultAction::Deny => "deny",
        }),
        on_tighten: word(match r.on_tighten {
            OnTighten::Revoke => "revoke",
            OnTighten::Persist => "persist",
        }),
        uplinks: Some(r.uplinks.iter().map(uplink).collect::<Vec<_>>()).filter(|u| !u.is_empty()),
        gateways: Some(texts(&r.gateways)).filter(|g| !g.is_empty()),
        multicast: Some(texts(&r.multicast)).filter(|g| !g.is_empty()),
        learn_workloads: r.learn_workloads.then_some(true),
    }
}

fn adjacency(r: &Adjacency) -> v1::AdjacencySpec {
    let ports = r.ports.iter().map(|port| v1::FabricPort {
        name: port.name.to_string(),
        number: port.number,
        passes: match port.passes {
            Passage::Nothing => v1::Passage::Nothing,
            Passage::In => v1::Passage::In,
            Passage::Both => v1::Passage::Both,
        },
        heard: port.heard.as_ref().map(attachment),
    });
    v1::AdjacencySpec { ports: ports.collect() }
}

fn host(r: &Host) -> v1::HostSpec {
    let seen = |seen: &Plugged| v1::Plugged {
        port: port(&seen.port),
        workload: seen.workload.to_string(),
        mac: seen.mac.to_string(),
    };
    v1::HostSpec { underlay_mtu: r.underlay_mtu, plugged: r.plugged.iter().map(seen).collect() }
}

fn switch(r: &Switch) -> v1::SwitchSpec {
    let mut spec = v1::SwitchSpec {
        driver: "sim".into(),
        datapath_id: None,
        address: None,
        device_id: None,
        vtep: r.vtep.map(|ip| ip.to_string()),
        role: word(match r.role {
            Role::Hypervisor => "hypervisor",
            Role::Leaf => "leaf",
            Role::Spine => "spine",
        }),
        ovsdb: r.ovsdb.clone(),
        underlay: None,
    };
    match &r.driver {
        Driver::Openflow(id) => {
            spec.driver = "openflow".into();
            spec.datapath_id = Some(id.to_string());
        }
        Driver::P4runtime { address, device_id, underlay: under } => {
            spec.driver = "p4runtime".into();
            spec.address = Some(address.clone());
            spec.device_id = Some(*device_id);
            spec.underlay = under.as_deref().map(underlay);
        }
        Driver::Sim => {}
        Driver::Kernel => spec.driver = "kernel".into(),
    }
    spec
}

fn underlay(r: &Underlay) -> v1::Underlay {
    let hop = |hop: &Hop| v1::Hop { port: hop.port.into(), mac: hop.mac.to_string() };
    let route = |r: &Route| v1::Route { to: r.to.to_string(), via: r.via.iter().map(hop).collect() };
    v1::Underlay { mac: r.mac.to_string(), mtu: r.mtu.map(Into::into), routes: r.routes.iter().map(route).collect() }
}

fn workload(r: &Workload) -> v1::WorkloadSpec {
    let interface = |i: &Interface| v1::Interface {
        mac: i.mac.to_string(),
        ips: i.ips.iter().map(ToString::to_string).collect(),
        attachment: i.attachment.as_ref().map(attachment),
    };
    let named_ports = r.named_ports.iter().map(|(name, port)| (name.to_string(), port.to_string()));
    v1::WorkloadSpec {
        network: r.network.to_string(),
        interfaces: r.interfaces.iter().map(interface).collect(),
        named_ports: Some(named_ports.collect::<BTreeMap<_, _>>()).filter(|p| !p.is_empty()),
    }
}

type SelectorParts = (Option<BTreeMap<String, String>>, Option<Vec<v1::MatchExpression>>);

/// `In` with one value goes to `matchLabels`, once for each key; the rest to `matchExpressions`. The
/// selector of everything is `matchLabels: {}`.
fn selector(selector: &Selector) -> SelectorParts {
    let mut labels = BTreeMap::new();
    let mut expressions = Vec::new();
    for r in selector.requirements() {
        let mut values: Vec<String> = r.values().iter().map(ToString::to_string).collect();
        if r.operator == Operator::In && values.len() == 1 && !labels.contains_key(&*r.key) {
            labels.extend(values.pop().map(|value| (r.key.to_string(), value)));
            continue;
        }
        let operator = match r.operator {
            Operator::In => "In",
            Operator::NotIn => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
        };
        expressions.push(v1::MatchExpression {
            key: r.key.to_string(),
            operator: operator.into(),
            values: Some(values).filter(|v| !v.is_empty()),
        });
    }
    let expressions = Some(expressions).filter(|e| !e.is_empty());
    (Some(labels).filter(|l| !l.is_empty() || expressions.is_none()), expressions)
}

fn sides(sides: Sides) -> Vec<String> {
    let both = [("ingress", sides.ingress), ("egress", sides.egress)];
    both.into_iter().filter(|(_, on)| *on).map(|(word, _)| word.into()).collect()
}

fn zone(r: &Zone) -> v1::ZoneSpec {
    let (match_labels, match_expressions) = selector(&r.selector);
    v1::ZoneSpec {
        network: r.network.to_string(),
        selector: v1::Selector { match_labels, match_expressions },
        isolate: Some(sides(r.isolate)),
        mode: word(match r.mode {
            Mode::Monitor => "monitor",
            Mode::Canary => "canary",
            Mode::Enforce => "enforce",
        }),
    }
}

fn policy(r: &Policy) -> v1::PolicySpec {
    let subject = match &r.subject {
        Subject::Zone(zone) => v1::Subject { zone: Some(zone.to_string()), ..v1::Subject::default() },
        Subject::Selector(s) => {
            let (match_labels, match_expressions) = selector(s);
            v1::Subject { match_labels, match_expressions, zone: None }
        }
    };
    let ingress = |rule: &Rule| v1::IngressRule {
        name: name(rule),
        action: rule.action.as_str().into(),
        priority: Some(rule.priority),
        from: rule.peers.as_ref().map(|peers| peers.iter().map(peer).collect()),
        ports: rule.ports.as_ref().map(|ports| ports.iter().map(port_match).collect()),
        log: Some(rule.log),
    };
    let egress = |rule: &Rule| v1::EgressRule {
        name: name(rule),
        action: rule.action.as_str().into(),
        priority: Some(rule.priority),
        to: rule.peers.as_ref().map(|peers| peers.iter().map(peer).collect()),
        ports: rule.ports.as_ref().map(|ports| ports.iter().map(port_match).collect()),
        log: Some(rule.log),
    };
    v1::PolicySpec {
        tier: word(r.tier.as_str()),
        priority: Some(r.priority),
        stage: word(if r.staged { "staged" } else { "active" }),
        stateful: r.stateful.then(|| "required".into()),
        subject,
        isolate: Some(sides(r.isolate)),
        ingress: Some(r.ingress.iter().map(ingress).collect::<Vec<_>>()).filter(|rules| !rules.is_empty()),
        egress: Some(r.egress.iter().map(egress).collect::<Vec<_>>()).filter(|rules| !rules.is_empty()),
    }
}

fn name(rule: &Rule) -> Option<String> {
    Some(rule.name.to_string()).filter(|n| !n.is_empty())
}

fn peer(peer: &Peer) -> v1::Peer {
    let none = v1::Peer::default();
    match peer {
        Peer::Selector(s) => {
            let (match_labels, match_expressions) = selector(s);
            v1::Peer { match_labels, match_expressions, ..none }
        }
        Peer::Zone(zone) => v1::Peer { zone: Some(zone.to_string()), ..none },
        Peer::Network(network) => v1::Peer { network: Some(network.to_string()), ..none },
        Peer::AddressSet(set) => v1::Peer { address_set: Some(set.to_string()), ..none },
        Peer::External => v1::Peer { external: Some(true), ..none },
        Peer::Cidr(set) => {
            let except = some_texts(&set.except);
            match set.cidrs.as_slice() {
                [one] => v1::Peer { cidr: Some(one.to_string()), except, ..none },
                many => v1::Peer { cidrs: Some(texts(many)), except, ..none },
            }
        }
    }
}

fn protocol_text(number: u8) -> TextOrNumber {
    match protocol::name(number).parse() {
        Ok(number) => TextOrNumber::Number(number),
        Err(_) => TextOrNumber::Text(protocol::name(number)),
    }
}

fn port_match(port: &PortMatch) -> v1::Port {
    let none = v1::Port::default();
    match port {
        PortMatch::Ports { protocol, first, last } => v1::Port {
            protocol: Some(protocol_text(*protocol)),
            port: Some(TextOrNumber::Number((*first).into())),
            end_port: Some((*last).into()).filter(|_| last != first),
            ..none
        },
        PortMatch::Named { name, protocol } => {
            v1::Port { protocol: protocol.map(protocol_text), port: Some(TextOrNumber::Text(name.to_string())), ..none }
        }
        PortMatch::Icmp { protocol, icmp_type, code } => v1::Port {
            protocol: Some(protocol_text(*protocol)),
            icmp_type: icmp_type.map(Into::into),
            code: code.map(Into::into),
            ..none
        },
        PortMatch::Protocol(protocol) => v1::Port { protocol: Some(protocol_text(*protocol)), ..none },
    }
}
