//! What Kubernetes' documents mean, read off the documents themselves: slow, obvious, and none of the code under test.
#![allow(dead_code, reason = "each test binary uses its own part")]

use bulkhead_policy::Service;
use serde_json::Value;
use std::{collections::BTreeMap, net::IpAddr};

pub type Labels = BTreeMap<String, String>;

/// A cluster as its documents have it.
pub struct World {
    pub documents: Vec<Value>,
    pub pods: Vec<Pod>,
}

/// A pod, with its namespace's labels.
pub struct Pod {
    pub namespace: String,
    pub labels: Labels,
    pub namespace_labels: Labels,
    pub ips: Vec<IpAddr>,
    /// Name, protocol, number.
    pub ports: Vec<(String, String, u64)>,
}

/// Seen from the pod.
#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    In,
    Out,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn labels(value: &Value) -> Labels {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect()
}

/// The API's label selectors: absent and empty select everything.
fn selects(selector: &Value, labels: &Labels) -> bool {
    let equal = self::labels(&selector["matchLabels"]).into_iter().all(|(key, value)| labels.get(&key) == Some(&value));
    let meets = |expression: &Value| {
        let there = labels.get(&text(&expression["key"]));
        let named = items(&expression["values"]).iter().any(|value| there == Some(&text(value)));
        match text(&expression["operator"]).as_str() {
            "In" => named,
            "NotIn" => !named,
            "Exists" => there.is_some(),
            "DoesNotExist" => there.is_none(),
            other => unreachable!("{other}"),
        }
    };
    equal && items(&selector["matchExpressions"]).iter().all(meets)
}

/// Whether an address is in a prefix, by comparing bits.
fn within(cidr: &str, ip: IpAddr) -> bool {
    let (net, length) = cidr.split_once('/').unwrap();
    let bits = |ip: IpAddr| -> Vec<u8> {
        let octets = match ip {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        octets.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1)).collect()
    };
    let (net, ip) = (bits(net.parse().unwrap()), bits(ip));
    let length: usize = length.parse().unwrap();
    net.len() == ip.len() && net[..length] == ip[..length]
}

impl World {
    pub fn new(documents: Vec<Value>) -> Self {
        let of_kind = |kind| documents.iter().filter(move |document| document["kind"] == kind);
        let namespace_labels = |name: &str| {
            let found = of_kind("Namespace").find(|document| document["metadata"]["name"] == name).unwrap();
            let mut labels = labels(&found["metadata"]["labels"]);
            labels.insert("kubernetes.io/metadata.name".into(), name.into());
            labels
        };
        let pod = |document: &Value| {
            let namespace = text(&document["metadata"]["namespace"]);
            let ports = items(&document["spec"]["containers"]).iter().flat_map(|container| items(&container["ports"]));
            let port = |port: &Value| {
                let protocol = port["protocol"].as_str().unwrap_or("TCP").to_string();
                (text(&port["name"]), protocol, port["containerPort"].as_u64().unwrap())
            };
            Pod {
                labels: labels(&document["metadata"]["labels"]),
                namespace_labels: namespace_labels(&namespace),
                namespace,
                ips: items(&document["status"]["podIPs"]).iter().map(|ip| text(&ip["ip"]).parse().unwrap()).collect(),
                ports: ports.map(port).collect(),
            }
        };
        let pods = of_kind("Pod").map(pod).collect();
        Self { documents, pods }
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.documents.iter().filter(move |document| document["kind"] == kind)
    }

    /// Whether a connection is let pass.
    pub fn allows(&self, from: IpAddr, to: IpAddr, service: Service) -> bool {
        self.lets(Way::Out, from, to, service) && self.lets(Way::In, from, to, service)
    }

    /// Whether the pod that sends it, or the one that gets it, has nothing against it.
    pub fn lets(&self, way: Way, from: IpAddr, to: IpAddr, service: Service) -> bool {
        let at = |ip: IpAddr| self.pods.iter().find(|pod| pod.ips.contains(&ip));
        let (source, destination) = (at(from), at(to));
        let asked = Asked { service, destination };
        match way {
            Way::Out => source.is_none_or(|pod| self.side(pod, way, (to, destination), &asked)),
            Way::In => destination.is_none_or(|pod| self.side(pod, way, (from, source), &asked)),
        }
    }

    fn side(&self, pod: &Pod, way: Way, other: (IpAddr, Option<&Pod>), asked: &Asked<'_>) -> bool {
        let admin = self.of_kind("AdminNetworkPolicy").chain(self.cluster("Admin"));
        if let Some(allowed) = first(admin.collect(), pod, way, other, asked) {
            return allowed;
        }
        let isolating: Vec<&Value> = self
            .of_kind("NetworkPolicy")
            .filter(|document| text(&document["metadata"]["namespace"]) == pod.namespace)
            .filter(|document| selects(&document["spec"]["podSelector"], &pod.labels))
            .filter(|document| concerns(&document["spec"], way))
            .collect();
        if !isolating.is_empty() {
            return isolating.iter().any(|document| {
                let section = if way == Way::In { "ingress" } else { "egress" };
                items(&document["spec"][section]).iter().any(|rule| rule_matches(rule, pod, way, other, asked))
            });
        }
        let baseline = self.cluster("Baseline").collect();
        let last = self.of_kind("BaselineAdminNetworkPolicy").collect();
        first(baseline, pod, way, other, asked).or_else(|| first(last, pod, way, other, asked)).unwrap_or(true)
    }

    fn cluster<'a>(&'a self, tier: &'a str) -> impl Iterator<Item = &'a Value> {
        self.of_kind("ClusterNetworkPolicy").filter(move |document| document["spec"]["tier"] == tier)
    }
}

/// Whether a NetworkPolicy says anything about a direction.
fn concerns(spec: &Value, way: Way) -> bool {
    match items(&spec["policyTypes"]) {
        [] => way == Way::In || !items(&spec["egress"]).is_empty(),
        types => types.iter().any(|kind| kind == if way == Way::In { "Ingress" } else { "Egress" }),
    }
}

struct Asked<'a> {
    service: Service,
    destination: Option<&'a Pod>,
}

impl Asked<'_> {
    fn number(&self, protocol: &str) -> Option<u64> {
        let number = match protocol {
            "TCP" => 6,
            "UDP" => 17,
            _ => 132,
        };
        match self.service {
            Service::Port { protocol, port } if protocol == number => Some(port.into()),
            _ => None,
        }
    }

    fn is_named(&self, name: &str, protocol: Option<&str>) -> bool {
        let ports = self.destination.into_iter().flat_map(|pod| &pod.ports);
        let mut fits = ports.filter(|(own, of, _)| own == name && protocol.is_none_or(|protocol| protocol == of));
        fits.any(|(_, of, number)| self.number(of) == Some(*number))
    }

    /// `{protocol, port, endPort}`
    fn is(&self, port: &Value) -> bool {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        match &port["port"] {
            Value::Null => self.number(protocol).is_some(),
            Value::String(name) => self.is_named(name, Some(protocol)),
            number => {
                let first = number.as_u64().unwrap();
                let last = port["endPort"].as_u64().unwrap_or(first);
                self.number(protocol).is_some_and(|asked| (first..=last).contains(&asked))
            }
        }
    }
}

fn rule_matches(rule: &Value, pod: &Pod, way: Way, (ip, other): (IpAddr, Option<&Pod>), asked: &Asked<'_>) -> bool {
    let peers = items(&rule[if way == Way::In { "from" } else { "to" }]);
    let peer = |peer: &Value| {
        if !peer["ipBlock"].is_null() {
            let block = &peer["ipBlock"];
            let out = items(&block["except"]).iter().any(|cidr| within(&text(cidr), ip));
            return within(&text(&block["cidr"]), ip) && !out;
        }
        other.is_some_and(|other| {
            let there = match &peer["namespaceSelector"] {
                Value::Null => other.namespace == pod.namespace,
                selector => selects(selector, &other.namespace_labels),
            };
            there && selects(&peer["podSelector"], &other.labels)
        })
    };
    let ports = items(&rule["ports"]);
    (peers.is_empty() || peers.iter().any(peer)) && (ports.is_empty() || ports.iter().any(|port| asked.is(port)))
}

/// What the first rule of the cluster-wide policies says; nothing if none matches or it passes.
fn first(mut all: Vec<&Value>, pod: &Pod, way: Way, other: (IpAddr, Option<&Pod>), asked: &Asked<'_>) -> Option<bool> {
    all.sort_by_key(|document| document["spec"]["priority"].as_u64());
    let (ip, peer) = other;
    let pods = |selector: &Value, pod: &Pod| match &selector["pods"] {
        Value::Null => !selector["namespaces"].is_null() && selects(&selector["namespaces"], &pod.namespace_labels),
        both => {
            selects(&both["namespaceSelector"], &pod.namespace_labels) && selects(&both["podSelector"], &pod.labels)
        }
    };
    for document in all {
        let spec = &document["spec"];
        if !pods(&spec["subject"], pod) {
            continue;
        }
        let (section, field) = if way == Way::In { ("ingress", "from") } else { ("egress", "to") };
        for rule in items(&spec[section]) {
            let from = |from: &Value| {
                items(&from["networks"]).iter().any(|cidr| within(&text(cidr), ip))
                    || peer.is_some_and(|peer| pods(from, peer))
            };
            let port = |port: &Value| {
                let one = |protocol: &str, from: &Value, to: &Value| {
                    let (from, to) = (from.as_u64().unwrap(), to.as_u64().unwrap());
                    asked.number(protocol).is_some_and(|asked| (from..=to).contains(&asked))
                };
                let named = [&port["namedPort"], &port["destinationNamedPort"]];
                if let Some(name) = named.into_iter().find_map(Value::as_str) {
                    return asked.is_named(name, None);
                }
                if let Some(number) = port.get("portNumber") {
                    return one(number["protocol"].as_str().unwrap_or("TCP"), &number["port"], &number["port"]);
                }
                if let Some(range) = port.get("portRange") {
                    return one(range["protocol"].as_str().unwrap_or("TCP"), &range["start"], &range["end"]);
                }
                let (protocol, way) = port.as_object().unwrap().iter().next().unwrap();
                let asked_for = &way["destinationPort"];
                match asked_for.get("range") {
                    Some(range) => one(&protocol.to_uppercase(), &range["start"], &range["end"]),
                    None => one(&protocol.to_uppercase(), &asked_for["number"], &asked_for["number"]),
                }
            };
            let ports = [&rule["ports"], &rule["protocols"]].into_iter().find(|ports| !ports.is_null());
            let matches =
                items(&rule[field]).iter().any(from) && ports.is_none_or(|ports| items(ports).iter().any(port));
            if !matches {
                continue;
            }
            match text(&rule["action"]).as_str() {
                "Allow" | "Accept" => return Some(true),
                "Deny" => return Some(false),
                "Pass" => return None,
                other => unreachable!("{other}"),
            }
        }
    }
    None
}
