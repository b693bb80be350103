//! Kubernetes: network policies of all kinds, and the namespaces and pods that they are about.

mod cluster;
pub mod labels;
mod pods;
mod policy;
mod rules;

use crate::{
    File, Imported,
    finding::{Findings, short},
    value::{Reader, Value},
};
use bulkhead_policy::{Resource, model::*};
use bulkhead_topology::Name;
use bulkhead_types::node::Data;
use cluster::Kind;
use std::{collections::BTreeMap, sync::Arc};

/// The policy by which pods that no NetworkPolicy isolates may all do: Kubernetes' own default, said.
pub const DEFAULT_POLICY: &str = "kubernetes-default";
/// Behind everything else that is said in the baseline tier.
const DEFAULT_PRIORITY: u16 = u16::MAX;
/// Longest name of a namespace (RFC 1123 §2.1).
const MAX_NAMESPACE: usize = 63;

/// An object of a list or of a stream.
struct Object<'a> {
    file: &'a str,
    kind: &'a str,
    group: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
    root: Value<'a>,
}

impl Object<'_> {
    fn called(&self) -> String {
        match self.namespace {
            Some(namespace) => format!("{}/{}/{}", short(self.kind), short(namespace), short(self.name)),
            None => format!("{}/{}", short(self.kind), short(self.name)),
        }
    }
}

/// Imports NetworkPolicies, AdminNetworkPolicies, BaselineAdminNetworkPolicies and ClusterNetworkPolicies as policies, and
/// pods as workloads of `network`, with the labels of their namespaces. Other kinds are told of and left out.
pub fn import(files: &[File<'_>], network: Option<&Name>) -> Imported {
    let mut found = Findings::default();
    let documents = found.read(files);
    let mut objects = Vec::new();
    for (file, nodes) in &documents {
        for node in nodes {
            match &node.data {
                Data::List(items) => {
                    items.iter().for_each(|item| flatten(file, Value::root(item), &mut found, &mut objects))
                }
                _ => flatten(file, Value::root(node), &mut found, &mut objects),
            }
        }
    }
    let mut import = Import { found, objects, network, resources: BTreeMap::new() };
    import.run();
    let Import { found, resources, .. } = import;
    let resources = if found.wrong() { Vec::new() } else { resources.into_values().collect() };
    Imported { resources, diagnostics: found.into_diagnostics() }
}

/// Takes the objects out of lists.
fn flatten<'a>(file: &'a str, root: Value<'a>, found: &mut Findings, objects: &mut Vec<Object<'a>>) {
    // With what an item of a typed list (`NetworkPolicyList`) may leave out: its kind and version.
    let mut waiting = vec![(root, "", "")];
    while let Some((root, kind, version)) = waiting.pop() {
        let kind = root.text_of("kind").unwrap_or(kind);
        let version = root.text_of("apiVersion").unwrap_or(version);
        let items = root.field("items");
        if let (Some(items), Some(of)) = (items, kind.strip_suffix("List")) {
            let from = waiting.len();
            waiting.extend(items.items().map(|item| (item, of, version)));
            if let Some(new) = waiting.get_mut(from..) {
                new.reverse();
            }
            continue;
        }
        let metadata = root.field("metadata");
        let text = |key: &str| metadata.as_ref().and_then(|metadata| metadata.text_of(key));
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let object =
            Object { file, kind, group, namespace: text("namespace"), name: text("name").unwrap_or_default(), root };
        let mut reader = Reader { file, object: object.called(), found };
        if kind.is_empty() || version.is_empty() {
            reader.refuse(&object.root, "an object has `apiVersion` and `kind`", "");
        } else if object.name.is_empty() {
            reader.refuse(&object.root, "`metadata.name` is missing", "");
        } else if let Some(expected) = versions(group, kind).filter(|expected| *expected != version) {
            reader.refuse(
                &object.root,
                format!("{} of {} is not known", short(kind), short(version)),
                format!("use {expected}"),
            );
        } else {
            objects.push(object);
        }
    }
}

/// The version in which a kind is understood, if it is one of those that are.
fn versions(group: &str, kind: &str) -> Option<&'static str> {
    match (group, kind) {
        ("", "Pod" | "Namespace") => Some("v1"),
        ("networking.k8s.io" | "extensions", "NetworkPolicy") => Some("networking.k8s.io/v1"),
        ("policy.networking.k8s.io", "AdminNetworkPolicy" | "BaselineAdminNetworkPolicy") => {
            Some("policy.networking.k8s.io/v1alpha1")
        }
        ("policy.networking.k8s.io", "ClusterNetworkPolicy") => Some("policy.networking.k8s.io/v1alpha2"),
        _ => None,
    }
}

struct Import<'a> {
    found: Findings,
    objects: Vec<Object<'a>>,
    network: Option<&'a Name>,
    /// By kind and name, as they are printed.
    resources: BTreeMap<bulkhead_policy::Key, Resource>,
}

impl Import<'_> {
    fn run(&mut self) {
        let objects = std::mem::take(&mut self.objects);
        let mut namespaces = pods::Namespaces::new();
        for object in objects.iter().filter(|object| (object.group, object.kind) == ("", "Namespace")) {
            let mut reader = Reader { file: object.file, object: object.called(), found: &mut self.found };
            if namespace_name(&mut reader, object, object.name) {
                pods::namespace(&mut reader, &object.root, object.name, &mut namespaces);
            }
        }
        let (network, doubled) = (self.network, BTreeMap::new());
        let mut pods = pods::Pods { network, namespaces: &namespaces, made_up: 0, doubled };
        let mut priorities: BTreeMap<(Tier, u16), String> = BTreeMap::new();
        let (mut baselines, mut known) = (None, false);
        for object in &objects {
            let mut reader = Reader { file: object.file, object: object.called(), found: &mut self.found };
            if versions(object.group, object.kind).is_none() {
                let message = format!("objects of the kind {} are left out", short(object.kind));
                reader.warn(&object.root, message, "network policies, namespaces and pods are looked at");
                continue;
            }
            known = true;
            let resource = match object.kind {
                "Pod" | "NetworkPolicy" => {
                    // What `kubectl apply` would put it into.
                    let namespace = object.namespace.unwrap_or("default");
                    if !namespace_name(&mut reader, object, namespace) {
                        continue;
                    }
                    if object.kind == "Pod" {
                        let workload = pods.workload(&mut reader, &object.root, (namespace, object.name));
                        workload.map(|workload| Resource::Workload(Arc::new(workload)))
                    } else {
                        let name = resource_name(&mut reader, object, format!("{namespace}.{}", object.name));
                        let policy = name.and_then(|name| policy::policy(&mut reader, &object.root, namespace, name));
                        policy.map(|policy| Resource::Policy(Arc::new(policy)))
                    }
                }
                "Namespace" => continue,
                _ => {
                    // `_` is in no name of Kubernetes', so these meet no namespace's policy.
                    let (kind, short) = match object.kind {
                        "AdminNetworkPolicy" => (Kind::Admin, "anp"),
                        "BaselineAdminNetworkPolicy" => (Kind::Baseline, "banp"),
                        _ => (Kind::Cluster, "cnp"),
                    };
                    let name = resource_name(&mut reader, object, format!("{short}_{}", object.name));
                    let policy = name.and_then(|name| cluster::policy(&mut reader, &object.root, kind, name));
                    let baseline = policy.as_ref().filter(|policy| policy.tier == Tier::Baseline).map(|_| kind);
                    if baseline.is_some_and(|kind| *baselines.get_or_insert(kind) != kind) {
                        let message =
                            "both a BaselineAdminNetworkPolicy and a ClusterNetworkPolicy of the baseline tier";
                        let hint = "Kubernetes does not say which comes first; say all in the newer kind";
                        reader.refuse(&object.root, message, hint);
                    }
                    if let Some(policy) = &policy
                        && let Some(other) = priorities.insert((policy.tier, policy.priority), object.called())
                    {
                        let message =
                            format!("{other} has the same priority, so Kubernetes does not say which comes first");
                        reader.warn(&object.root, message, "here their rules take turns, the stricter first");
                    }
                    policy.map(|policy| Resource::Policy(Arc::new(policy)))
                }
            };
            let Some(resource) = resource else { continue };
            if self.resources.insert(resource.key(), resource).is_some() {
                reader.refuse(&object.root, "this object is there twice", "keep one");
            }
        }
        pods.tell(&mut self.found, self.resources.values());
        if known {
            let policy = default_policy();
            self.resources.extend(policy.map(|policy| (policy.key(), policy)));
        }
    }
}

/// Whether a namespace can be called so; else it says so.
fn namespace_name(reader: &mut Reader<'_>, object: &Object<'_>, name: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ends = name.starts_with('-') || name.ends_with('-');
    let fine = (1..=MAX_NAMESPACE).contains(&name.len()) && name.bytes().all(good) && !ends;
    if !fine {
        let hint = "1 to 63 lower-case letters, digits and `-` inside";
        reader.refuse(&object.root, format!("`{}` is no namespace's name", short(name)), hint);
    }
    fine
}

/// The name of a resource of ours for an object of theirs.
fn resource_name(reader: &mut Reader<'_>, object: &Object<'_>, name: String) -> Option<Name> {
    let own = object.name.contains('_');
    match name.parse() {
        Ok(name) if !own => Some(name),
        _ => {
            let hint = "lower-case letters, digits, `-` and `.`; with its namespace at most 253 characters";
            reader.refuse(&object.root, format!("`{}` cannot be a policy's name", short(&name)), hint);
            None
        }
    }
}

/// Whoever was a pod and is isolated by nothing may do anything, after everything else.
fn default_policy() -> Option<Resource> {
    let any = || Rule { name: "any".into(), action: Action::Allow, priority: 0, peers: None, ports: None, log: false };
    Some(Resource::Policy(Arc::new(Policy {
        name: DEFAULT_POLICY.parse().ok()?,
        tier: Tier::Baseline,
        priority: DEFAULT_PRIORITY,
        staged: false,
        stateful: false,
        subject: Subject::Selector(labels::selector([labels::is_pod()])),
        isolate: Sides::default(),
        ingress: vec![any()],
        egress: vec![any()],
    })))
}
