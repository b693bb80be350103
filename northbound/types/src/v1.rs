//! Version 1 of the resources, field by field as operators write them.
//!
//! Only the shape is checked here. What a field may hold, and what it is when it is left out, is in
//! [`crate::convert`]. An absent list and an empty one stay different values.

use crate::load::distinct;
use bulkhead_policy::Kind;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, IgnoredAny},
};
use std::{collections::BTreeMap, fmt};
use utoipa::ToSchema;

/// The version that documents may name in `apiVersion`.
pub const API_VERSION: &str = "bulkhead/v1";

/// All kinds that users write, in the order in which lists show them.
pub const KINDS: [Kind; 7] =
    [Kind::Network, Kind::Switch, Kind::AddressSet, Kind::Workload, Kind::Zone, Kind::Policy, Kind::Link];

/// A kind's name in documents.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Network => "Network",
        Kind::Switch => "Switch",
        Kind::AddressSet => "AddressSet",
        Kind::Workload => "Workload",
        Kind::Zone => "Zone",
        Kind::Policy => "Policy",
        Kind::Link => "Link",
        Kind::Host => "Host",
        Kind::Adjacency => "Adjacency",
    }
}

/// A kind's name in URLs: lower case, plural.
pub fn kind_plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Network => "networks",
        Kind::Switch => "switches",
        Kind::AddressSet => "addresssets",
        Kind::Workload => "workloads",
        Kind::Zone => "zones",
        Kind::Policy => "policies",
        Kind::Link => "links",
        Kind::Host => "hosts",
        Kind::Adjacency => "adjacencies",
    }
}

/// The kind that a user's document or a URL names.
pub fn kind_from(text: &str) -> Option<Kind> {
    KINDS.into_iter().find(|k| kind_name(*k) == text || kind_plural(*k) == text)
}

/// A text, or a number that stands for itself: switch ports, rule ports, protocols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextOrNumber {
    /// Written as text.
    Text(String),
    /// Written as a number.
    Number(u64),
}

impl fmt::Display for TextOrNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl Serialize for TextOrNumber {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => s.serialize_str(text),
            Self::Number(number) => s.serialize_u64(*number),
        }
    }
}

impl<'de> Deserialize<'de> for TextOrNumber {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = TextOrNumber;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a number")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<TextOrNumber, E> {
                Ok(TextOrNumber::Number(number))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<TextOrNumber, E> {
                Ok(TextOrNumber::Text(text.into()))
            }
        }
        d.deserialize_any(Visitor)
    }
}

/// A document: the same envelope for every kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope<S> {
    /// [`API_VERSION`]; may be left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// The kind's name.
    pub kind: String,
    /// Name, labels, version.
    pub metadata: Metadata,
    /// What it is.
    pub spec: S,
}

/// What every resource has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Unique among resources of the kind.
    #[schema(pattern = "^[a-z0-9]([-a-z0-9._]*[a-z0-9])?$", max_length = 253)]
    pub name: String,
    /// Labels; workloads only.
    #[serde(default, deserialize_with = "distinct", skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The revision that last changed it. On input: the change is refused if it is another one now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<u64>,
}

/// A document of which only the name matters, because its resource is to be removed. A `spec` may be there,
/// so that the files that were applied can be given, and is not looked at.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Named {
    /// [`API_VERSION`]; may be left out.
    pub api_version: Option<String>,
    /// The kind's name.
    pub kind: String,
    /// Name and version.
    pub metadata: Metadata,
    /// Anything.
    #[serde(default)]
    pub spec: IgnoredAny,
}

/// A document of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A network.
    Network(Envelope<NetworkSpec>),
    /// A switch.
    Switch(Envelope<SwitchSpec>),
    /// An address set.
    AddressSet(Envelope<AddressSetSpec>),
    /// A workload.
    Workload(Envelope<WorkloadSpec>),
    /// A zone.
    Zone(Envelope<ZoneSpec>),
    /// A policy.
    Policy(Envelope<PolicySpec>),
    /// A link.
    Link(Envelope<LinkSpec>),
    /// What is seen on a host; only the store has such documents.
    Host(Envelope<HostSpec>),
    /// What a switch is connected to; only the store has such documents.
    Adjacency(Envelope<AdjacencySpec>),
}

/// Runs `$body` with `$e` bound to the envelope, whatever the kind.
macro_rules! each {
    ($object:expr, $e:ident => $body:expr) => {
        match $object {
            Object::Network($e) => $body,
            Object::Switch($e) => $body,
            Object::AddressSet($e) => $body,
            Object::Workload($e) => $body,
            Object::Zone($e) => $body,
            Object::Policy($e) => $body,
            Object::Link($e) => $body,
            Object::Host($e) => $body,
            Object::Adjacency($e) => $body,
        }
    };
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Network(_) => Kind::Network,
            Self::Switch(_) => Kind::Switch,
            Self::AddressSet(_) => Kind::AddressSet,
            Self::Workload(_) => Kind::Workload,
            Self::Zone(_) => Kind::Zone,
            Self::Policy(_) => Kind::Policy,
            Self::Link(_) => Kind::Link,
            Self::Host(_) => Kind::Host,
            Self::Adjacency(_) => Kind::Adjacency,
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &Metadata {
        each!(self, e => &e.metadata)
    }

    /// Its metadata, to be changed.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        each!(self, e => &mut e.metadata)
    }

    /// The version it was written for, if it says one.
    pub fn api_version(&self) -> Option<&str> {
        each!(self, e => e.api_version.as_deref())
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        each!(self, e => e.serialize(s))
    }
}

/// A network of workloads: its addresses, how it travels between switches, where it leaves the fabric, and what holds for
/// workloads that no policy is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSpec {
    /// 1-16777215.
    pub vni: u32,
    /// CIDRs.
    pub subnets: Vec<String>,
    /// `geneve` (default) or `vxlan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encap: Option<String>,
    /// `deny` (default) or `allow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_action: Option<String>,
    /// `revoke` (default) or `persist`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_tighten: Option<String>,
    /// Where external addresses are looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplinks: Option<Vec<Uplink>>,
    /// Addresses that every switch routes for, one in each subnet that is to be routed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateways: Option<Vec<String>>,
    /// Groups whose UDP packets are carried to every workload that may get them: multicast addresses and
    /// 255.255.255.255; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multicast: Option<Vec<String>>,
    /// Whether whoever is plugged in where nobody is declared becomes a workload of this network: of one network alone;
    /// `false` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learn_workloads: Option<bool>,
}

/// A port that leads out of the fabric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Uplink {
    /// The switch.
    pub switch: String,
    /// Its port, by name or number.
    pub port: TextOrNumber,
    /// 802.1Q VLAN id, 1-4094; 0 (default) is untagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
}

/// A switch and a port on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attachment {
    /// The switch.
    pub switch: String,
    /// Its port, by name or number.
    pub port: TextOrNumber,
}

/// A machine, container or host: the labels that policies select it by, its addresses, and where it is plugged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSpec {
    /// The network it is in.
    pub network: String,
    /// Its interfaces, at least one.
    pub interfaces: Vec<Interface>,
    /// Names for ports, each `8080/tcp`.
    #[serde(default, deserialize_with = "distinct", skip_serializing_if = "Option::is_none")]
    pub named_ports: Option<BTreeMap<String, String>>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interface {
    /// Its MAC address.
    pub mac: String,
    /// Its IP addresses.
    pub ips: Vec<String>,
    /// Where it is plugged in, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
}

/// A label selector. Both parts absent is no selector; both present and empty selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Labels that must be there with these values.
    #[serde(default, deserialize_with = "distinct", skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Further conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_expressions: Option<Vec<MatchExpression>>,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MatchExpression {
    /// The label's key.
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    /// The values of `In` and `NotIn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}

/// The workloads of a network that a selector names: to isolate them together, to say how far their denials are enforced,
/// and for policies and grants to name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ZoneSpec {
    /// The network whose workloads it selects from.
    pub network: String,
    /// Its members.
    pub selector: Selector,
    /// `ingress`, `egress`, both, or none (default: none).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolate: Option<Vec<String>>,
    /// `enforce` (default), `canary`, `monitor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// Rules about the traffic of its subject's workloads. Tiers are asked in their order, then priorities of policies, then of
/// rules; the first rule that fits decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySpec {
    /// `emergency`, `platform`, `application` (default), `baseline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// 0-65535, lower first; default 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
    /// `active` (default) or `staged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// `preferred` (default), or `required`: it is refused where it is about a workload on a switch that remembers no
    /// connections (driver p4runtime), and judges answers by their addresses, ports and flags alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stateful: Option<String>,
    /// Whom it is about.
    pub subject: Subject,
    /// Directions that it isolates; default: the sections it has, in the application tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolate: Option<Vec<String>>,
    /// Rules for traffic towards the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Vec<IngressRule>>,
    /// Rules for traffic from the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<EgressRule>>,
}

/// Whom a policy is about: a selector or a zone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    /// As in [`Selector`].
    #[serde(default, deserialize_with = "distinct", skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// As in [`Selector`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_expressions: Option<Vec<MatchExpression>>,
    /// A zone's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// A rule of the `ingress` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IngressRule {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `allow`, `deny`, `reject`, `pass`.
    pub action: String,
    /// 0-65535, lower first; default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
    /// Where the traffic comes from: absent is anywhere, `[]` is nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<Peer>>,
    /// What it asks for: absent is anything, `[]` is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<Port>>,
    /// Whether matches are logged; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<bool>,
}

/// A rule of the `egress` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressRule {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `allow`, `deny`, `reject`, `pass`.
    pub action: String,
    /// 0-65535, lower first; default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
    /// Where the traffic goes: absent is anywhere, `[]` is nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<Peer>>,
    /// What it asks for: absent is anything, `[]` is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<Port>>,
    /// Whether matches are logged; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<bool>,
}

/// One alternative of a rule's other side; exactly one kind of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    /// As in [`Selector`].
    #[serde(default, deserialize_with = "distinct", skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// As in [`Selector`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_expressions: Option<Vec<MatchExpression>>,
    /// A zone's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// A network's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// One prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// Several prefixes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidrs: Option<Vec<String>>,
    /// Prefixes taken out of `cidr` or `cidrs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub except: Option<Vec<String>>,
    /// An AddressSet's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_set: Option<String>,
    /// `true`: any address that no workload has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<bool>,
}

/// One alternative of a rule's service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmpv6` or a number; may be left out with a port's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<TextOrNumber>,
    /// 1-65535, or a name that is looked up at the destination workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<TextOrNumber>,
    /// Last port of a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_port: Option<u64>,
    /// ICMP type, 0-255.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u64>,
    /// ICMP code, 0-255; only with a type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u64>,
}

/// A switch that Bulkhead programs: how it is reached, and its address in the underlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SwitchSpec {
    /// `openflow` (Open vSwitch), `p4runtime` (switches that P4 programs), `kernel` (VXLAN of a Linux kernel), or `sim` (inside
    /// the controller).
    pub driver: String,
    /// Of an openflow switch: hexadecimal, as `"0x1"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datapath_id: Option<String>,
    /// Of a p4runtime switch: `host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Of a p4runtime switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<u64>,
    /// Its overlay address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vtep: Option<String>,
    /// `hypervisor` (default), `leaf`, `spine`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// `unix:PATH`, `tcp:HOST:PORT` or `ssl:HOST:PORT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ovsdb: Option<String>,
    /// Of a p4runtime switch with a `vtep`: how it reaches other VTEPs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub underlay: Option<Underlay>,
}

/// What a switch knows of the underlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Underlay {
    /// The switch's own Ethernet address there.
    pub mac: String,
    /// Largest IP packet that the underlay carries, in bytes; default 1500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u64>,
    /// By which neighbours other VTEPs are reached; the longest prefix decides.
    pub routes: Vec<Route>,
}

/// Neighbours that lead to VTEPs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// A prefix of VTEP addresses.
    pub to: String,
    /// The neighbours, one as good as another: packets are spread over them.
    pub via: Vec<Hop>,
}

/// A neighbour in the underlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hop {
    /// The switch's port towards it, which no workload and no uplink may have.
    pub port: u64,
    /// Its Ethernet address.
    pub mac: String,
}

/// Addresses of no workload under a name, for the peers of rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddressSetSpec {
    /// Prefixes.
    pub cidrs: Vec<String>,
    /// Prefixes taken out of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub except: Option<Vec<String>>,
}

/// A cable between two switches that is to be there. Those that are found need no document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LinkSpec {
    /// One end.
    pub a: Attachment,
    /// The other end.
    pub b: Attachment,
}

/// `kind: Host`, which no user writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostSpec {
    /// Largest IP packet that the underlay carries from here, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub underlay_mtu: Option<u16>,
    /// The interfaces that are plugged in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugged: Vec<Plugged>,
}

/// An interface that was seen plugged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plugged {
    /// The switch's port.
    pub port: TextOrNumber,
    /// The name that it goes by.
    pub workload: String,
    /// Its MAC address.
    pub mac: String,
}

/// `kind: Adjacency`, which no user writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdjacencySpec {
    /// The ports that lead to other switches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<FabricPort>,
}

/// What passes by a port that leads to another switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Passage {
    /// Nothing.
    Nothing,
    /// Nothing is sent, and what comes is taken for the far end's.
    In,
    /// Packets both ways.
    Both,
}

/// A port that leads to another switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FabricPort {
    /// Its name.
    pub name: String,
    /// Its OpenFlow number.
    pub number: u32,
    /// What passes.
    pub passes: Passage,
    /// Who was heard there, last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard: Option<Attachment>,
}
