//! Namespaces and pods as workloads.

use super::labels::{self, NAME, NAMESPACE_NAME, Of};
use crate::{
    finding::{Findings, Place, short},
    value::{Reader, Value},
};
use bulkhead_policy::{
    Resource,
    model::{Action, Interface, PortMatch, Workload},
};
use bulkhead_topology::{Labels, MAX_LABELS, Mac, Name, ProtocolPort, RESERVED_PREFIX, parse_ip};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// Labels of namespaces, as workloads have them, by the namespaces' names.
pub(crate) type Namespaces = BTreeMap<String, Vec<(String, String)>>;

/// Takes a namespace in.
pub(crate) fn namespace(reader: &mut Reader<'_>, root: &Value<'_>, name: &str, all: &mut Namespaces) {
    let Some(metadata) = root.field("metadata") else { return };
    let mut own = labels::labels(reader, &metadata, Of::Namespaces);
    match own.iter().find(|(key, _)| key == NAMESPACE_NAME) {
        Some((_, value)) if value == name => {}
        Some(_) => {
            let message = format!("the label `{NAME}` is another namespace's name");
            reader.refuse(&metadata, message, "Kubernetes sets it to the namespace's own name");
        }
        None => own.push((NAMESPACE_NAME.into(), name.into())),
    }
    if all.insert(name.into(), own).is_some() {
        reader.refuse(root, "this namespace is there twice", "keep one");
    }
}

/// What all pods have in common.
pub(crate) struct Pods<'a> {
    /// The network that they are in; none may be imported without.
    pub network: Option<&'a Name>,
    /// The namespaces that were found.
    pub namespaces: &'a Namespaces,
    /// How many had to be given a MAC address.
    pub made_up: usize,
    /// Names of ports that some pod has for two ports, with the first such pod.
    pub doubled: BTreeMap<Arc<str>, String>,
}

impl Pods<'_> {
    /// The workload of a pod. Nothing if it sends and receives nothing that policies are about, or after a refusal.
    pub fn workload(&mut self, reader: &mut Reader<'_>, root: &Value<'_>, of: (&str, &str)) -> Option<Workload> {
        let (namespace, name) = of;
        let spec = root.field("spec");
        if spec.as_ref().is_some_and(|spec| reader.flag(spec, "hostNetwork")) {
            let hint = "such a pod has its node's address; say what it may by addresses";
            reader.warn(root, "pods in the host's network are no workloads, and no rule's peer selects them", hint);
            return None;
        }
        let status = root.field("status");
        let phase = status.as_ref().and_then(|status| status.text_of("phase")).unwrap_or_default();
        if matches!(phase, "Succeeded" | "Failed") {
            reader.warn(root, format!("this pod has ended ({phase}); its address may be another's by now"), "");
            return None;
        }
        let Some(network) = self.network else {
            reader.refuse(root, "which network is this pod in?", "name it: --network NAME");
            return None;
        };
        let Some(inherited) = self.namespaces.get(namespace) else {
            let message =
                format!("there is no namespace `{}` in these files, so its labels are not known", short(namespace));
            reader.refuse(root, message, "add it: kubectl get namespaces,pods,networkpolicies -A -o yaml");
            return None;
        };
        let ips = addresses(reader, status.as_ref());
        if ips.is_empty() {
            reader.warn(root, "this pod has no address yet, and is left out", "import it again when it has one");
            return None;
        }
        let labels = self.labels(reader, root, inherited)?;
        let mac = match mac(root, &ips) {
            Some(mac) => mac,
            None => {
                self.made_up += 1;
                made_up_mac(&ips)
            }
        };
        if mac.is_multicast() || mac.to_bits() == 0 {
            reader.refuse(root, format!("{mac} is no unicast address"), "");
        }
        let name = format!("{namespace}.{name}");
        let Ok(name) = name.parse::<Name>() else {
            reader.refuse(root, format!("`{}` cannot be a workload's name", short(&name)), "at most 253 characters");
            return None;
        };
        let named_ports = spec.map(|spec| self.named_ports(reader, &spec)).unwrap_or_default();
        Some(Workload {
            name,
            labels: Arc::new(labels),
            network: network.clone(),
            interfaces: vec![Interface { mac, ips, attachment: None }],
            named_ports: Arc::new(named_ports),
        })
    }

    fn labels(&self, reader: &mut Reader<'_>, root: &Value<'_>, inherited: &[(String, String)]) -> Option<Labels> {
        let own =
            root.field("metadata").map(|metadata| labels::labels(reader, &metadata, Of::Pods)).unwrap_or_default();
        if let Some((key, _)) =
            own.iter().find(|(key, _)| key.starts_with(RESERVED_PREFIX) || key.starts_with("bulkhead/"))
        {
            reader.refuse(root, format!("the label `{}` is Bulkhead's own", short(key)), "use another prefix");
        }
        let all: Labels =
            own.iter().chain(inherited).map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect();
        if all.len() > MAX_LABELS {
            let message = format!("{} labels with its namespace's; a workload has at most {MAX_LABELS}", all.len());
            reader.refuse(root, message, "");
            return None;
        }
        Some(all)
    }

    fn named_ports(&mut self, reader: &mut Reader<'_>, spec: &Value<'_>) -> BTreeMap<Arc<str>, ProtocolPort> {
        let mut named = BTreeMap::new();
        // Init containers with `restartPolicy: Always` serve for as long as the pod lives.
        let begun = reader.list(spec, "initContainers").unwrap_or_default();
        let begun = begun.into_iter().filter(|container| container.text_of("restartPolicy") == Some("Always"));
        let containers = reader.list(spec, "containers").unwrap_or_default();
        for container in containers.into_iter().chain(begun) {
            for port in reader.list(&container, "ports").unwrap_or_default() {
                let Some(name) = reader.text_in(&port, "name").filter(|name| !name.is_empty()) else { continue };
                let Some(number) = reader.needed(&port, "containerPort") else { continue };
                let Some(number) = reader.number(&number, 1..=65535).and_then(|n| u16::try_from(n).ok()) else {
                    continue;
                };
                let Some(protocol) = super::rules::protocol(reader, &port) else { continue };
                if !super::rules::is_port_name(name) {
                    reader.refuse(&port, format!("`{}` cannot be the name of a port", short(name)), "");
                    continue;
                }
                let value = ProtocolPort { protocol, port: number };
                let first = *named.entry(name.into()).or_insert(value);
                if first != value {
                    let message =
                        format!("`{name}` is {first} and {value} of this pod; a name is one port here: the first");
                    reader.warn(&port, message, "give one of the containers' ports another name");
                    self.doubled.entry(name.into()).or_insert_with(|| reader.object.clone());
                }
            }
        }
        named
    }

    /// Says how many addresses are not known but assumed, and refuses denials that hang on a name that is two ports.
    pub fn tell<'a>(&self, found: &mut Findings, resources: impl Iterator<Item = &'a Resource>) {
        let nowhere = |object| Place { file: "", object, path: "", mark: Default::default() };
        for resource in resources {
            let Resource::Policy(policy) = resource else { continue };
            let rules = policy.ingress.iter().chain(&policy.egress).filter(|rule| rule.action != Action::Allow);
            for port in rules.flat_map(|rule| rule.ports.iter().flatten()) {
                if let PortMatch::Named { name, .. } = port
                    && let Some(pod) = self.doubled.get(name)
                {
                    let message =
                        format!("`{name}` is two ports of {pod}, and a rule that does not allow is about that name");
                    found.refuse(nowhere(policy.name.as_str()), message, "name the rule's ports by number");
                }
            }
        }
        if self.made_up > 0 {
            let message = format!(
                "{} pods do not say their MAC address; 0a:58 and the end of their IP address was taken",
                self.made_up
            );
            let hint = "some network plugins give that; else set it in the documents, or no packet of theirs is let in";
            found.warn(nowhere(""), message, hint);
        }
    }
}

/// `podIPs`, else `podIP`.
fn addresses(reader: &mut Reader<'_>, status: Option<&Value<'_>>) -> Vec<IpAddr> {
    let Some(status) = status else { return Vec::new() };
    let listed = reader.list(status, "podIPs").unwrap_or_default();
    let mut texts: Vec<Value<'_>> = listed.iter().filter_map(|entry| entry.field("ip")).collect();
    texts.extend(status.field("podIP").filter(|_| texts.is_empty()));
    let mut ips = Vec::new();
    for value in texts {
        let Some(text) = reader.text(&value).filter(|text| !text.is_empty()) else { continue };
        match parse_ip(text) {
            Ok(ip) if !ip.is_multicast() && !ip.is_unspecified() && !ip.is_loopback() => ips.push(ip),
            _ => reader.refuse(&value, format!("`{}` is no pod's address", short(text)), ""),
        }
    }
    ips.sort();
    ips.dedup();
    ips
}

/// The annotation in which network plugins say what they gave a pod (Kubernetes Network Custom Resource Definition
/// De-facto Standard, §"Network Status Annotation").
const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// The MAC address that the network plugin says it gave the interface with one of these addresses.
fn mac(root: &Value<'_>, ips: &[IpAddr]) -> Option<Mac> {
    let text = root.field("metadata")?.field("annotations")?.text_of(STATUS)?;
    let entries: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    let entry = entries.iter().find(|entry| {
        let said = entry.get("ips").and_then(serde_json::Value::as_array);
        let said = said.into_iter().flatten().filter_map(|ip| ip.as_str()?.parse::<IpAddr>().ok());
        said.into_iter().any(|ip| ips.contains(&ip))
    })?;
    entry.get("mac")?.as_str()?.parse().ok()
}

/// `0a:58` and the last four octets of the first address, which several network plugins give.
fn made_up_mac(ips: &[IpAddr]) -> Mac {
    let last = match ips.first() {
        Some(IpAddr::V4(v4)) => v4.to_bits(),
        Some(IpAddr::V6(v6)) => u32::try_from(v6.to_bits() & u128::from(u32::MAX)).unwrap_or_default(),
        None => 0,
    };
    Mac::from_bits(0x0a58 << 32 | u64::from(last))
}
