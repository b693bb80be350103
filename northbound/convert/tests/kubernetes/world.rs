//! Random clusters, as documents.
#![allow(dead_code, reason = "each test binary uses its own part")]

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};

pub const NAMESPACES: [&str; 3] = ["shop", "pay", "ops"];
const POD_KEYS: [&str; 3] = ["app", "tier", "acme.io/role"];
const NAMESPACE_KEYS: [&str; 3] = ["team", "acme.io/env", "kubernetes.io/metadata.name"];
const VALUES: [&str; 3] = ["a", "b", ""];
const CIDRS: [&str; 8] =
    ["10.0.0.0/24", "10.0.0.0/30", "10.0.0.2/32", "192.0.2.0/24", "0.0.0.0/0", "::/0", "fd00::/64", "fd00::/126"];
const NAMES: [&str; 3] = ["http", "dns", "metrics"];
pub const PORTS: [u16; 4] = [53, 80, 8080, 9000];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// A field that is absent or `null` where there is nothing to say, and either is the same.
fn optional(key: &'static str, value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Map<String, Value>> {
    let with = move |value: Value| Map::from_iter([(key.to_string(), value)]);
    prop_oneof![6 => value.prop_map(with), 2 => Just(Map::new()), 1 => Just(with(Value::Null))].boxed()
}

fn needed(key: &'static str, value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Map<String, Value>> {
    value.prop_map(move |value| Map::from_iter([(key.to_string(), value)])).boxed()
}

fn fields(parts: Vec<BoxedStrategy<Map<String, Value>>>) -> BoxedStrategy<Value> {
    parts.prop_map(|maps| Value::Object(maps.into_iter().flatten().collect())).boxed()
}

fn list(of: impl Strategy<Value = Value> + 'static, count: std::ops::Range<usize>) -> BoxedStrategy<Value> {
    vec(of, count).prop_map(Value::Array).boxed()
}

fn label_map(keys: &'static [&'static str], most: usize) -> BoxedStrategy<Value> {
    let pairs = vec((select(keys), select(&VALUES[..])), 0..most + 1);
    pairs.prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_string(), json!(value))).collect()).boxed()
}

fn value_of(key: &str) -> &'static [&'static str] {
    if key == "kubernetes.io/metadata.name" { &NAMESPACES } else { &VALUES }
}

fn selector(keys: &'static [&'static str]) -> BoxedStrategy<Value> {
    let expression = (select(keys), 0..4).prop_flat_map(|(key, operator)| {
        let values = vec(select(value_of(key)), 1..3);
        values.prop_map(move |values| match operator {
            0 => json!({"key": key, "operator": "In", "values": values}),
            1 => json!({"key": key, "operator": "NotIn", "values": values}),
            2 => json!({"key": key, "operator": "Exists"}),
            _ => json!({"key": key, "operator": "DoesNotExist", "values": []}),
        })
    });
    let labels = vec(select(keys).prop_flat_map(|key| (Just(key), select(value_of(key)))), 0..2);
    let labels =
        labels.prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_string(), json!(value))).collect());
    fields(vec![optional("matchLabels", labels), optional("matchExpressions", list(expression, 0..2))])
}

fn block() -> BoxedStrategy<Value> {
    let except = |cidr: &str| match cidr {
        "10.0.0.0/24" => vec!["10.0.0.1/32", "10.0.0.2/31"],
        "0.0.0.0/0" => vec!["10.0.0.0/30", "192.0.2.0/24"],
        "::/0" => vec!["fd00::/126"],
        "fd00::/64" => vec!["fd00::1/128"],
        _ => vec![],
    };
    select(&CIDRS[..])
        .prop_flat_map(move |cidr| (Just(cidr), proptest::sample::subsequence(except(cidr), 0..=except(cidr).len())))
        .prop_map(|(cidr, except)| match except.is_empty() {
            true => json!({"cidr": cidr}),
            false => json!({"cidr": cidr, "except": except}),
        })
        .boxed()
}

fn port() -> BoxedStrategy<Value> {
    let number = (select(&PORTS[..]), any::<bool>(), 0..9000u16).prop_map(|(port, ranged, more)| match ranged {
        true => json!({"port": port, "endPort": port + more}),
        false => json!({"port": port}),
    });
    let what = prop_oneof![
        4 => number,
        2 => select(&NAMES[..]).prop_map(|name| json!({"port": name})),
        1 => Just(json!({})),
        1 => Just(json!({"port": null})),
    ];
    let protocol = optional("protocol", select(&PROTOCOLS[..]).prop_map(Value::from));
    (what, protocol)
        .prop_map(|(what, protocol)| {
            let Value::Object(what) = what else { unreachable!() };
            Value::Object(what.into_iter().chain(protocol).collect())
        })
        .boxed()
}

fn peer() -> BoxedStrategy<Value> {
    let pods = || needed("podSelector", selector(&POD_KEYS));
    let namespaces = || needed("namespaceSelector", selector(&NAMESPACE_KEYS));
    prop_oneof![
        2 => fields(vec![pods()]),
        2 => fields(vec![namespaces()]),
        2 => fields(vec![pods(), namespaces()]),
        2 => fields(vec![needed("ipBlock", block())]),
    ]
    .boxed()
}

fn network_policy() -> BoxedStrategy<Value> {
    let rule =
        |field: &'static str| fields(vec![optional(field, list(peer(), 0..3)), optional("ports", list(port(), 0..3))]);
    let types = select(vec![json!([]), json!(["Ingress"]), json!(["Egress"]), json!(["Egress", "Ingress"])]);
    let spec = fields(vec![
        optional("podSelector", selector(&POD_KEYS)),
        optional("policyTypes", types),
        optional("ingress", list(rule("from"), 0..3)),
        optional("egress", list(rule("to"), 0..3)),
    ]);
    (select(&NAMESPACES[..]), spec)
        .prop_map(|(namespace, spec)| {
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"namespace": namespace}, "spec": spec})
        })
        .boxed()
}

/// `namespaces` or `pods`.
fn pods() -> BoxedStrategy<Value> {
    let both = fields(vec![
        needed("namespaceSelector", selector(&NAMESPACE_KEYS)),
        needed("podSelector", selector(&POD_KEYS)),
    ]);
    let one = prop_oneof![needed("namespaces", selector(&NAMESPACE_KEYS)), needed("pods", both)];
    one.prop_map(Value::Object).boxed()
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Admin,
    Baseline,
    Cluster,
}

fn cluster_rule(kind: Kind, egress: bool) -> BoxedStrategy<Value> {
    let port = match kind {
        Kind::Cluster => {
            let number = (select(&["tcp", "udp", "sctp"][..]), select(&PORTS[..]), any::<bool>(), 1..9000u16);
            let number = number.prop_map(|(protocol, port, ranged, more)| match ranged {
                true => json!({protocol: {"destinationPort": {"range": {"start": port, "end": port + more}}}}),
                false => json!({protocol: {"destinationPort": {"number": port}}}),
            });
            prop_oneof![3 => number, 1 => select(&NAMES[..]).prop_map(|name| json!({"destinationNamedPort": name}))]
                .boxed()
        }
        _ => {
            let number = (select(&PROTOCOLS[..]), select(&PORTS[..]), any::<bool>(), 1..9000u16);
            let number = number.prop_map(|(protocol, port, ranged, more)| match ranged {
                true => json!({"portRange": {"protocol": protocol, "start": port, "end": port + more}}),
                false => json!({"portNumber": {"protocol": protocol, "port": port}}),
            });
            prop_oneof![3 => number, 1 => select(&NAMES[..]).prop_map(|name| json!({"namedPort": name}))].boxed()
        }
    };
    let networks = vec(select(&CIDRS[..]), 1..3).prop_map(|cidrs| json!({"networks": cidrs}));
    let peer = if egress { prop_oneof![2 => pods(), 1 => networks].boxed() } else { pods() };
    let actions: &[&str] = match kind {
        Kind::Admin => &["Allow", "Deny", "Pass"],
        Kind::Baseline => &["Allow", "Deny"],
        Kind::Cluster => &["Accept", "Deny", "Pass"],
    };
    let ports = if kind == Kind::Cluster { "protocols" } else { "ports" };
    let rule = fields(vec![
        needed("action", select(actions).prop_map(Value::from)),
        needed(if egress { "to" } else { "from" }, list(peer, 1..3)),
        optional(ports, list(port, 1..3)),
        optional("name", Just(json!("a rule"))),
    ]);
    rule.prop_map(move |mut rule| {
        // Nobody may ask for a port's name at addresses.
        let networks = rule["to"].as_array().is_some_and(|to| to.iter().any(|peer| peer.get("networks").is_some()));
        if let Some(ports) = rule[ports].as_array_mut().filter(|_| networks) {
            ports.retain(|port| port.get("namedPort").is_none() && port.get("destinationNamedPort").is_none());
            if ports.is_empty() {
                rule[if kind == Kind::Cluster { "protocols" } else { "ports" }] = Value::Null;
            }
        }
        rule
    })
    .boxed()
}

fn cluster_policy(kind: Kind) -> BoxedStrategy<Value> {
    let spec = fields(vec![
        needed("subject", pods()),
        optional("ingress", list(cluster_rule(kind, false), 0..3)),
        optional("egress", list(cluster_rule(kind, true), 0..3)),
    ]);
    (spec, any::<bool>())
        .prop_map(move |(mut spec, admin)| {
            let (version, name) = match kind {
                Kind::Admin => ("v1alpha1", "AdminNetworkPolicy"),
                Kind::Baseline => ("v1alpha1", "BaselineAdminNetworkPolicy"),
                Kind::Cluster => ("v1alpha2", "ClusterNetworkPolicy"),
            };
            if kind == Kind::Cluster {
                spec["tier"] = json!(if admin { "Admin" } else { "Baseline" });
            }
            let version = format!("policy.networking.k8s.io/{version}");
            json!({"apiVersion": version, "kind": name, "metadata": {"name": "default"}, "spec": spec})
        })
        .boxed()
}

fn pod(i: usize) -> BoxedStrategy<Value> {
    let ports = proptest::sample::subsequence(&NAMES[..], 0..3);
    let ports = ports.prop_flat_map(|names| {
        let port = |name: &'static str| {
            let protocol = optional("protocol", select(&PROTOCOLS[..]).prop_map(Value::from));
            let number = select(&PORTS[..]).prop_map(Value::from);
            fields(vec![needed("name", Just(json!(name))), needed("containerPort", number), protocol])
        };
        names.into_iter().map(port).collect::<Vec<_>>().prop_map(Value::Array)
    });
    (select(&NAMESPACES[..]), label_map(&POD_KEYS, 2), ports)
        .prop_map(move |(namespace, labels, ports)| {
            let ips = json!([{"ip": format!("10.0.0.{}", i + 1)}, {"ip": format!("fd00::{}", i + 1)}]);
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("pod-{i}"), "namespace": namespace, "labels": labels},
                "spec": {"containers": [{"name": "main", "ports": ports}]},
                "status": {"phase": "Running", "podIP": format!("10.0.0.{}", i + 1), "podIPs": ips},
            })
        })
        .boxed()
}

/// Names and priorities that nobody else has.
fn number(mut policies: Vec<Value>) -> Vec<Value> {
    for (i, policy) in policies.iter_mut().enumerate() {
        if policy["kind"] != "BaselineAdminNetworkPolicy" {
            policy["metadata"]["name"] = json!(format!("p{i}"));
        }
        if policy["kind"] == "AdminNetworkPolicy" || policy["kind"] == "ClusterNetworkPolicy" {
            // Not in the order of their names.
            policy["spec"]["priority"] = json!(i * 37 % 1000);
        }
    }
    policies
}

fn namespaces() -> BoxedStrategy<Vec<Value>> {
    let one = |name: &'static str| {
        label_map(&["team", "acme.io/env"], 2)
            .prop_map(move |labels| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}))
    };
    NAMESPACES.map(one).to_vec().boxed()
}

/// A cluster whose policies are NetworkPolicies.
pub fn plain() -> BoxedStrategy<Vec<Value>> {
    (namespaces(), (0..5).map(pod).collect::<Vec<_>>(), vec(network_policy(), 0..6).prop_map(number))
        .prop_map(|(namespaces, pods, policies)| [namespaces, pods, policies].concat())
        .boxed()
}

/// A cluster with all kinds of policies.
pub fn full() -> BoxedStrategy<Vec<Value>> {
    let cluster = prop_oneof![cluster_policy(Kind::Admin), cluster_policy(Kind::Cluster)];
    let cluster = vec(cluster, 0..5).prop_map(number);
    (plain(), cluster, proptest::option::of(cluster_policy(Kind::Baseline)))
        .prop_map(|(plain, cluster, baseline)| {
            // Kubernetes does not say how the two kinds of baselines stand to each other.
            let other = cluster.iter().any(|policy| policy["spec"]["tier"] == "Baseline");
            [plain, cluster, baseline.into_iter().filter(|_| !other).collect()].concat()
        })
        .boxed()
}
