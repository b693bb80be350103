//! From version 1 to the policy model: defaults applied, values parsed, one document checked by itself.
//!
//! References between documents are not looked at here; `State::check` does that.

mod policy;
mod switch;

use crate::{
    answer::Diagnostic,
    parse::error,
    shared::shared,
    suggest,
    v1::{self, API_VERSION, Object, TextOrNumber},
};
use bulkhead_policy::{Resource, model::*};
use bulkhead_topology::{
    IpNet, Labels, MAX_LABELS, Mac, Name, Operator, ParseError, ProtocolPort, RESERVED_PREFIX, Requirement, Selector,
    Vni, check_key, check_value, parse_ip,
};
use std::{
    collections::BTreeMap, collections::BTreeSet, fmt::Display, net::IpAddr, str::FromStr, sync::Arc, sync::LazyLock,
};

/// Largest 802.1Q VLAN id (IEEE 802.1Q §9.6: 0xfff is reserved).
const MAX_VLAN: u16 = 4094;
/// Longest name of a rule or of a named port, in bytes.
const MAX_SHORT_NAME: usize = 63;
/// Largest OpenFlow port number; those above are reserved (OF 1.3.5 §7.2.1, OFPP_MAX).
const MAX_PORT_NUMBER: u64 = 0xffff_ff00;

/// The named ports of most workloads.
static NO_PORTS: LazyLock<Arc<BTreeMap<Arc<str>, ProtocolPort>>> = LazyLock::new(Arc::default);

/// What `object` means, and what is wrong with it. There is a meaning only if nothing refuses it.
pub fn convert(object: &Object) -> (Option<Resource>, Vec<Diagnostic>) {
    let mut check = Check::default();
    let resource = check.object(object);
    let refused = check.found.iter().any(|d| d.severity == crate::answer::Severity::Error);
    (resource.filter(|_| !refused), check.found)
}

/// The name of what is to be removed, and what is wrong with how it is named.
pub(crate) fn named(document: &v1::Named) -> (Option<Name>, Vec<Diagnostic>) {
    let mut check = Check::default();
    let name = check.envelope(document.api_version.as_deref(), &document.metadata);
    (name.filter(|_| check.found.is_empty()), check.found)
}

fn is_unicast(ip: IpAddr) -> bool {
    !ip.is_multicast() && !ip.is_unspecified() && ip != IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
}

/// Where something is: made into text only once something is wrong there.
trait Path: Display + Copy {}
impl<P: Display + Copy> Path for P {}

/// Collects findings. A method that returns `None` has said why.
#[derive(Default)]
struct Check {
    found: Vec<Diagnostic>,
}

impl Check {
    fn refuse(&mut self, path: impl Path, message: impl Into<String>, hint: impl Into<String>) {
        self.found.push(error(path.to_string(), message, hint));
    }

    fn warn(&mut self, path: impl Path, message: impl Into<String>, hint: impl Into<String>) {
        let severity = crate::answer::Severity::Warning;
        self.found.push(Diagnostic { severity, ..error(path.to_string(), message, hint) });
    }

    fn keep<T>(&mut self, path: impl Path, value: Result<T, ParseError>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(bad) => {
                self.refuse(path, format!("`{}` is not a valid {}", bad.text, bad.what), bad.why);
                None
            }
        }
    }

    fn text<T: FromStr<Err = ParseError>>(&mut self, path: impl Path, text: &str) -> Option<T> {
        self.keep(path, text.parse())
    }

    /// The name of something that many may name.
    fn reference(&mut self, path: impl Path, text: &str) -> Option<Name> {
        self.keep(path, shared(text).try_into())
    }

    /// One of a few words; the first is the default.
    fn word<T: Copy>(&mut self, path: impl Path, text: Option<&str>, words: &[(&'static str, T)]) -> Option<T> {
        let Some(text) = text else { return words.first().map(|(_, value)| *value) };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let hint = match suggest::nearest(text, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("one of {}", known.join(", ")),
        };
        self.refuse(path, format!("`{}` is not known here", suggest::short(text)), hint);
        None
    }

    fn envelope(&mut self, api_version: Option<&str>, metadata: &v1::Metadata) -> Option<Name> {
        if let Some(version) = api_version.filter(|v| *v != API_VERSION) {
            let message = format!("`{}` is not a version of this API", suggest::short(version));
            self.refuse("apiVersion", message, format!("write {API_VERSION}, or leave it out"));
        }
        self.text("metadata.name", &metadata.name)
    }

    fn object(&mut self, object: &Object) -> Option<Resource> {
        let metadata = object.metadata();
        let name = self.envelope(object.api_version(), metadata);
        let labels = match object {
            Object::Workload(_) => self.labels("metadata.labels", metadata.labels.as_ref()),
            _ => {
                if metadata.labels.is_some() {
                    let hint = "labels say what policies select, and policies select workloads; remove them";
                    self.refuse("metadata.labels", "only workloads have labels", hint);
                }
                Labels::new()
            }
        };
        Some(match object {
            Object::Network(e) => Resource::Network(Arc::new(self.network(name, &e.spec)?)),
            Object::Switch(e) => Resource::Switch(Arc::new(self.switch(name, &e.spec)?)),
            Object::AddressSet(e) => {
                let set = self.cidrs("spec", "cidrs", Some(&e.spec.cidrs), e.spec.except.as_deref());
                Resource::AddressSet(Arc::new(AddressSet { name: name?, set: set? }))
            }
            Object::Workload(e) => Resource::Workload(Arc::new(self.workload(name, labels, &e.spec)?)),
            Object::Zone(e) => Resource::Zone(Arc::new(self.zone(name, &e.spec)?)),
            Object::Policy(e) => Resource::Policy(Arc::new(self.policy(name, &e.spec)?)),
            Object::Link(e) => {
                let (a, b) = (self.attachment("spec.a", &e.spec.a), self.attachment("spec.b", &e.spec.b));
                let (a, b) = (a?, b?);
                if a == b {
                    self.refuse("spec.b", "both ends are the same port", "");
                }
                Resource::Link(Arc::new(Link { name: name?, a, b }))
            }
            Object::Host(e) => Resource::Host(Arc::new(self.host(name, &e.spec)?)),
            Object::Adjacency(e) => Resource::Adjacency(Arc::new(self.adjacency(name, &e.spec)?)),
        })
    }

    fn labels(&mut self, path: impl Path, labels: Option<&BTreeMap<String, String>>) -> Labels {
        let mut out = Vec::new();
        for (key, value) in labels.into_iter().flatten() {
            let path = format_args!("{path}.{key}");
            if key.starts_with(RESERVED_PREFIX) {
                let message = format!("labels below `{RESERVED_PREFIX}` are Bulkhead's own");
                self.refuse(path, message, "use another prefix");
            }
            self.keep(path, check_key(key));
            self.keep(path, check_value(value));
            out.push((shared(key), shared(value)));
        }
        if out.len() > MAX_LABELS {
            self.refuse(path, format!("{} labels; a workload has at most {MAX_LABELS}", out.len()), "");
        }
        out.into_iter().collect()
    }

    fn network(&mut self, name: Option<Name>, spec: &v1::NetworkSpec) -> Option<Network> {
        let vni = Vni::new(spec.vni);
        if vni.is_none() {
            self.refuse("spec.vni", format!("{} is not a VNI", spec.vni), format!("1 to {}", Vni::MAX));
        }
        let subnets = self.nets("spec.subnets", &spec.subnets);
        if spec.subnets.is_empty() {
            self.refuse("spec.subnets", "a network without subnets", "list at least one, as in 10.1.0.0/16");
        }
        let encap =
            self.word("spec.encap", spec.encap.as_deref(), &[("geneve", Encap::Geneve), ("vxlan", Encap::Vxlan)]);
        let default_action = self.word(
            "spec.defaultAction",
            spec.default_action.as_deref(),
            &[("deny", DefaultAction::Deny), ("allow", DefaultAction::Allow)],
        );
        let on_tighten = self.word(
            "spec.onTighten",
            spec.on_tighten.as_deref(),
            &[("revoke", OnTighten::Revoke), ("persist", OnTighten::Persist)],
        );
        let mut uplinks = Vec::new();
        for (i, uplink) in spec.uplinks.iter().flatten().enumerate() {
            let path = format_args!("spec.uplinks[{i}]");
            let vlan = uplink.vlan.unwrap_or(0);
            if vlan > MAX_VLAN {
                let hint = format!("1 to {MAX_VLAN}, or 0 for untagged");
                self.refuse(format_args!("{path}.vlan"), format!("{vlan} is not a VLAN id"), hint);
            }
            let at = v1::Attachment { switch: uplink.switch.clone(), port: uplink.port.clone() };
            let Some(at) = self.attachment(path, &at) else { continue };
            let uplink = Uplink { at, vlan };
            if uplinks.contains(&uplink) {
                self.refuse(path, "this uplink is there twice", "");
            }
            uplinks.push(uplink);
        }
        let gateways = self.ips("spec.gateways", spec.gateways.as_deref());
        let multicast = self.ips("spec.multicast", spec.multicast.as_deref());
        Some(Network {
            name: name?,
            vni: vni?,
            subnets,
            encap: encap?,
            default_action: default_action?,
            on_tighten: on_tighten?,
            uplinks,
            gateways: gateways.into_iter().collect(),
            multicast: multicast.into_iter().collect(),
            learn_workloads: spec.learn_workloads.unwrap_or(false),
        })
    }

    fn ips(&mut self, path: impl Path, texts: Option<&[String]>) -> BTreeSet<IpAddr> {
        let texts = texts.unwrap_or_default().iter().enumerate();
        texts.filter_map(|(i, text)| self.keep(format_args!("{path}[{i}]"), parse_ip(text))).collect()
    }

    fn host(&mut self, name: Option<Name>, spec: &v1::HostSpec) -> Option<Host> {
        let mut plugged = Vec::new();
        for (i, seen) in spec.plugged.iter().enumerate() {
            let path = format_args!("spec.plugged[{i}]");
            let port = self.switch_port(format_args!("{path}.port"), &seen.port);
            let workload = self.text(format_args!("{path}.workload"), &seen.workload);
            let mac = self.text(format_args!("{path}.mac"), &seen.mac);
            plugged.push(Plugged { port: port?, workload: workload?, mac: mac? });
        }
        plugged.sort();
        Some(Host { name: name?, underlay_mtu: spec.underlay_mtu, plugged })
    }

    fn adjacency(&mut self, name: Option<Name>, spec: &v1::AdjacencySpec) -> Option<Adjacency> {
        let mut ports = Vec::new();
        for (i, port) in spec.ports.iter().enumerate() {
            let path = format_args!("spec.ports[{i}]");
            let name = self.short_name(format_args!("{path}.name"), "port's name", &port.name, Port::LONGEST_NAME);
            let heard = port.heard.as_ref().map(|at| self.attachment(format_args!("{path}.heard"), at));
            let heard = if let Some(heard) = heard { Some(heard?) } else { None };
            let passes = match port.passes {
                v1::Passage::Nothing => Passage::Nothing,
                v1::Passage::In => Passage::In,
                v1::Passage::Both => Passage::Both,
            };
            ports.push(FabricPort { name: name?, number: port.number, passes, heard });
        }
        ports.sort();
        Some(Adjacency { name: name?, ports })
    }

    /// Prefixes, sorted and without doubles.
    fn nets(&mut self, path: impl Path, texts: &[String]) -> Vec<IpNet> {
        let nets = texts.iter().enumerate().filter_map(|(i, text)| self.text(format_args!("{path}[{i}]"), text));
        nets.collect::<BTreeSet<IpNet>>().into_iter().collect()
    }

    /// A set of prefixes; `field` is where the included ones are.
    fn cidrs(
        &mut self,
        path: impl Path,
        field: &str,
        cidrs: Option<&[String]>,
        except: Option<&[String]>,
    ) -> Option<CidrSet> {
        let cidrs = self.nets(format_args!("{path}.{field}"), cidrs?);
        let out = except.unwrap_or_default();
        for (i, text) in out.iter().enumerate() {
            let outside = text.parse::<IpNet>().is_ok_and(|net| !cidrs.iter().any(|c| c.covers(&net) || net.covers(c)));
            if outside {
                let message = format!("{text} lies outside of what is included, so it takes nothing out");
                self.warn(format_args!("{path}.except[{i}]"), message, "");
            }
        }
        let except = self.nets(format_args!("{path}.except"), out);
        Some(CidrSet { cidrs, except })
    }

    fn attachment(&mut self, path: impl Path, attachment: &v1::Attachment) -> Option<Attachment> {
        let switch = self.reference(format_args!("{path}.switch"), &attachment.switch);
        let port = self.switch_port(format_args!("{path}.port"), &attachment.port);
        Some(Attachment { switch: switch?, port: port? })
    }

    fn switch_port(&mut self, path: impl Path, port: &TextOrNumber) -> Option<Port> {
        match port {
            TextOrNumber::Number(number) => {
                let port = u32::try_from(*number).ok().filter(|n| (1..=MAX_PORT_NUMBER).contains(&u64::from(*n)));
                if port.is_none() {
                    self.refuse(path, format!("{number} is not a port number"), format!("1 to {MAX_PORT_NUMBER}"));
                }
                port.map(Port::Number)
            }
            TextOrNumber::Text(name) => self.short_name(path, "port's name", name, Port::LONGEST_NAME).map(Port::Name),
        }
    }

    /// A name that need not be a resource's: printable, without spaces.
    fn short_name(&mut self, path: impl Path, what: &str, name: &str, max: usize) -> Option<Arc<str>> {
        if name.is_empty() || name.len() > max || !name.bytes().all(|b| b.is_ascii_graphic()) {
            let hint = format!("1 to {max} printable ASCII characters without spaces");
            self.refuse(path, format!("`{}` cannot be a {what}", suggest::short(name)), hint);
            return None;
        }
        Some(shared(name))
    }

    fn workload(&mut self, name: Option<Name>, labels: Labels, spec: &v1::WorkloadSpec) -> Option<Workload> {
        let network = self.reference("spec.network", &spec.network);
        if spec.interfaces.is_empty() {
            let hint = "list at least one, with `mac` and `ips`";
            self.warn("spec.interfaces", "a workload without interfaces neither sends nor receives", hint);
        }
        let mut interfaces: Vec<Interface> = Vec::new();
        let mut seen = BTreeSet::new();
        for (i, interface) in spec.interfaces.iter().enumerate() {
            let path = format_args!("spec.interfaces[{i}]");
            if let Some(interface) = self.interface(path, interface, &mut seen) {
                if interfaces.iter().any(|other| other.mac == interface.mac) {
                    self.refuse(
                        format_args!("{path}.mac"),
                        format!("{} is another interface's too", interface.mac),
                        "",
                    );
                }
                interfaces.push(interface);
            }
        }
        interfaces.shrink_to_fit();
        let mut named_ports = BTreeMap::new();
        for (port_name, port) in spec.named_ports.iter().flatten() {
            let path = format_args!("spec.namedPorts.{port_name}");
            let port: Option<ProtocolPort> = self.text(path, port);
            let port_name = self.port_name(path, port_name);
            if let (Some(port_name), Some(port)) = (port_name, port) {
                named_ports.insert(port_name, port);
            }
        }
        Some(Workload {
            name: name?,
            labels: labels.into(),
            network: network?,
            interfaces,
            named_ports: if named_ports.is_empty() { NO_PORTS.clone() } else { named_ports.into() },
        })
    }

    /// A named port's name: has a letter, so that it never reads as a number.
    fn port_name(&mut self, path: impl Path, name: &str) -> Option<Arc<str>> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let letter = name.bytes().any(|b| b.is_ascii_lowercase());
        let ends = name.starts_with('-') || name.ends_with('-');
        if name.len() > MAX_SHORT_NAME || !name.bytes().all(good) || !letter || ends {
            let message = format!("`{}` cannot be the name of a port", suggest::short(name));
            self.refuse(path, message, "lower-case letters, digits and `-` inside, with at least one letter");
            return None;
        }
        Some(shared(name))
    }

    fn interface(&mut self, path: impl Path, spec: &v1::Interface, seen: &mut BTreeSet<IpAddr>) -> Option<Interface> {
        let mac: Option<Mac> = self.text(format_args!("{path}.mac"), &spec.mac);
        if let Some(mac) = mac.filter(|m| m.is_multicast() || m.to_bits() == 0) {
            let hint = "the second digit of an interface's own address is even, as in 02:00:00:00:00:01";
            self.refuse(format_args!("{path}.mac"), format!("{mac} is no unicast address"), hint);
        }
        let mut ips = Vec::new();
        for (i, text) in spec.ips.iter().enumerate() {
            let path = format_args!("{path}.ips[{i}]");
            let Some(ip) = self.keep(path, parse_ip(text)) else { continue };
            if !is_unicast(ip) {
                self.refuse(path, format!("{ip} is no unicast address"), "");
            }
            if !seen.insert(ip) {
                self.refuse(path, format!("{ip} is there twice"), "");
            }
            ips.push(ip);
        }
        ips.sort();
        let attachment = match &spec.attachment {
            None => None,
            Some(attachment) => Some(self.attachment(format_args!("{path}.attachment"), attachment)?),
        };
        Some(Interface { mac: mac?, ips, attachment })
    }

    /// A selector with both parts absent selects nothing by accident; it has to be written out.
    fn selector(
        &mut self,
        path: impl Path,
        match_labels: Option<&BTreeMap<String, String>>,
        match_expressions: Option<&[v1::MatchExpression]>,
    ) -> Selector {
        let mut requirements = Vec::new();
        for (key, value) in match_labels.into_iter().flatten() {
            let path = format_args!("{path}.matchLabels.{key}");
            self.keep(path, check_key(key));
            self.keep(path, check_value(value));
            requirements.push(Requirement::new(shared(key), Operator::In, [shared(value)]));
        }
        for (i, expression) in match_expressions.unwrap_or_default().iter().enumerate() {
            let path = format_args!("{path}.matchExpressions[{i}]");
            self.keep(format_args!("{path}.key"), check_key(&expression.key));
            let operators = [
                ("In", Operator::In),
                ("NotIn", Operator::NotIn),
                ("Exists", Operator::Exists),
                ("DoesNotExist", Operator::DoesNotExist),
            ];
            let operator = self.word(format_args!("{path}.operator"), Some(&expression.operator), &operators);
            let Some(operator) = operator else { continue };
            let values = expression.values.as_deref().unwrap_or_default();
            for (j, value) in values.iter().enumerate() {
                self.keep(format_args!("{path}.values[{j}]"), check_value(value));
            }
            let needs = matches!(operator, Operator::In | Operator::NotIn);
            if needs && values.is_empty() {
                let hint = "list at least one value; to ask only whether the label is there, use Exists";
                self.refuse(path, format!("{} needs `values`", expression.operator), hint);
            } else if !needs && !values.is_empty() {
                let message = format!("{} takes no values", expression.operator);
                self.refuse(format_args!("{path}.values"), message, "remove them, or use In or NotIn");
            }
            let values = values.iter().map(|value| shared(value));
            requirements.push(Requirement::new(shared(&expression.key), operator, values));
        }
        Selector::new(requirements)
    }

    fn sides(&mut self, path: impl Path, words: &[String]) -> Sides {
        let mut sides = Sides::default();
        for (i, word) in words.iter().enumerate() {
            let known = [("ingress", Direction::Ingress), ("egress", Direction::Egress)];
            match self.word(format_args!("{path}[{i}]"), Some(word), &known) {
                Some(Direction::Ingress) => sides.ingress = true,
                Some(Direction::Egress) => sides.egress = true,
                None => {}
            }
        }
        sides
    }

    fn zone(&mut self, name: Option<Name>, spec: &v1::ZoneSpec) -> Option<Zone> {
        let network = self.reference("spec.network", &spec.network);
        let selector = &spec.selector;
        if selector.match_labels.is_none() && selector.match_expressions.is_none() {
            let hint = "for every workload of the network write `matchLabels: {}`";
            self.refuse("spec.selector", "a selector that says nothing", hint);
        }
        let selector =
            self.selector("spec.selector", selector.match_labels.as_ref(), selector.match_expressions.as_deref());
        let isolate = self.sides("spec.isolate", spec.isolate.as_deref().unwrap_or_default());
        let modes = [("enforce", Mode::Enforce), ("canary", Mode::Canary), ("monitor", Mode::Monitor)];
        let mode = self.word("spec.mode", spec.mode.as_deref(), &modes);
        Some(Zone { name: name?, network: network?, selector, isolate, mode: mode? })
    }

    /// `number`, if it lies in 0-255.
    fn octet(&mut self, path: impl Path, what: impl Display, number: u64) -> Option<u8> {
        let octet = u8::try_from(number).ok();
        if octet.is_none() {
            self.refuse(path, format!("{number} is not {what}"), "0 to 255");
        }
        octet
    }
}
