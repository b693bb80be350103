//! The resources, resolved: every default applied, every value parsed, presence explicit.
//!
//! An absent peer list (`None`, any peer) and an empty one (`Some([])`, no peer) are different values
//! here and in every encoding: an empty list must never widen into "any".

use bulkhead_topology::{DatapathId, IpNet, Labels, Mac, Name, ProtocolPort, Selector, Vni};
pub use bulkhead_topology::{Port, underlay::Underlay};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// An overlay L2/L3 domain: one VNI and its subnets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: Name,
    /// Its number on the wire.
    pub vni: Vni,
    /// Its subnets, sorted.
    pub subnets: Vec<IpNet>,
    /// How its packets travel between switches.
    pub encap: Encap,
    /// What happens to a flow that no policy and no zone decides.
    pub default_action: DefaultAction,
    /// What happens to live connections that a change forbids.
    pub on_tighten: OnTighten,
    /// Where addresses of no workload are looked for, and nowhere else.
    pub uplinks: Vec<Uplink>,
    /// Addresses that every switch routes for, sorted; at most one in each subnet.
    pub gateways: Vec<IpAddr>,
    /// Groups whose UDP packets every workload of the network gets that policy lets have them: multicast addresses and
    /// 255.255.255.255, sorted. All others are dropped.
    pub multicast: Vec<IpAddr>,
    /// Whether whoever is plugged in where nobody is declared becomes a workload of it. One network may.
    pub learn_workloads: bool,
}

/// The label of workloads that were learned at their ports; users cannot write it.
pub const LEARNED: &str = "bulkhead/learned";
/// How the names of those workloads begin; their MAC address follows.
pub const LEARNED_NAMES: &str = "learned-";

impl Network {
    /// The gateway of the subnet that has `ip`, if that subnet is routed.
    pub fn gateway_of(&self, ip: IpAddr) -> Option<IpAddr> {
        let subnet = self.subnets.iter().find(|subnet| subnet.contains(ip))?;
        self.gateways.iter().copied().find(|gateway| subnet.contains(*gateway))
    }

    /// Whether `ip` may be a workload's.
    pub fn has_host(&self, ip: IpAddr) -> bool {
        !ip.is_multicast()
            && !ip.is_unspecified()
            && self.gateway_of(ip) != Some(ip)
            && self.subnets.iter().any(|subnet| subnet.contains(ip) && subnet.is_host(ip))
    }
}

/// Overlay encapsulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encap {
    /// RFC 8926, with the identity option.
    Geneve,
    /// RFC 7348.
    Vxlan,
}

/// A network's answer where nothing else decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultAction {
    /// Let it pass.
    Allow,
    /// Drop it; the default.
    Deny,
}

/// What a change that forbids a live connection does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTighten {
    /// Cut it at once; the default.
    Revoke,
    /// Let it end by itself.
    Persist,
}

/// A port that leads out of the fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Switch and port.
    pub at: Attachment,
    /// 802.1Q VLAN id, 1-4094; 0 is untagged.
    pub vlan: u16,
}

/// Where an interface is plugged in. The switch need not exist yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attachment {
    /// The switch's name.
    pub switch: Name,
    /// The port on it.
    pub port: Port,
}

/// One interface of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its unicast MAC address.
    pub mac: Mac,
    /// Its addresses, sorted; what it may send from and is reached at.
    pub ips: Vec<IpAddr>,
    /// Where it is plugged in, once known.
    pub attachment: Option<Attachment>,
}

/// A VM, container or bare-metal port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its name.
    pub name: Name,
    /// Its labels, which policies select it by.
    pub labels: Arc<Labels>,
    /// The network it is in.
    pub network: Name,
    /// Its interfaces.
    pub interfaces: Vec<Interface>,
    /// Ports that policies may name; looked up at the destination.
    pub named_ports: Arc<BTreeMap<Arc<str>, ProtocolPort>>,
}

impl Workload {
    /// Whether it was learned at its port, and is Bulkhead's own to change.
    pub fn is_learned(&self) -> bool {
        self.labels.get(LEARNED).is_some()
    }
}

/// One flag for each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sides {
    /// Towards the workload.
    pub ingress: bool,
    /// From the workload.
    pub egress: bool,
}

impl Sides {
    /// The flag of `direction`.
    pub fn get(self, direction: Direction) -> bool {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }
}

/// A direction, seen from the workload that a policy's subject selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the workload.
    Egress,
    /// Towards the workload.
    Ingress,
}

impl Direction {
    /// Both, in the order in which a packet meets them.
    pub const BOTH: [Self; 2] = [Self::Egress, Self::Ingress];

    /// The name in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }
}

/// A named trust zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its name.
    pub name: Name,
    /// The network whose workloads it selects from.
    pub network: Name,
    /// Its members.
    pub selector: Selector,
    /// Directions that are denied where no policy decides.
    pub isolate: Sides,
    /// Whether denials are enforced.
    pub mode: Mode,
}

/// How a zone's denials are carried out; in several zones the strictest holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Would-be drops are counted and pass.
    Monitor,
    /// A stable share of the zone's workloads enforces.
    Canary,
    /// Drops are drops; the default.
    Enforce,
}

/// A policy's tier, in order of evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// First: break-glass and incident response.
    Emergency,
    /// The platform team's rules.
    Platform,
    /// The application owners' rules; isolation follows at its end.
    Application,
    /// Defaults for what nobody else decided.
    Baseline,
}

impl Tier {
    /// All, in order of evaluation.
    pub const ALL: [Self; 4] = [Self::Emergency, Self::Platform, Self::Application, Self::Baseline];

    /// The name in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Platform => "platform",
            Self::Application => "application",
            Self::Baseline => "baseline",
        }
    }
}

/// What a rule does. Ordered by strictness: at equal priority the first wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Drop.
    Deny,
    /// Drop and tell the sender (TCP RST, ICMP unreachable).
    Reject,
    /// Leave this tier, go on in the next.
    Pass,
    /// Let pass.
    Allow,
}

impl Action {
    /// The name in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Reject => "reject",
            Self::Pass => "pass",
            Self::Allow => "allow",
        }
    }
}

/// Whom a policy is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Workloads of any network with these labels.
    Selector(Selector),
    /// The members of a zone.
    Zone(Name),
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: Name,
    /// Its tier.
    pub tier: Tier,
    /// Order within the tier: lower first, default 1000.
    pub priority: u16,
    /// Evaluated and reported, never enforced.
    pub staged: bool,
    /// It may be about workloads on switches alone that remember connections.
    pub stateful: bool,
    /// Whom it is about.
    pub subject: Subject,
    /// Directions that it isolates at the end of the application tier (false in other tiers).
    pub isolate: Sides,
    /// Rules for traffic towards the subject.
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the subject.
    pub egress: Vec<Rule>,
}

impl Policy {
    /// The rules of one direction.
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        }
    }
}

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name; empty if the author gave none (it is then known by direction and index).
    pub name: Arc<str>,
    /// What it does.
    pub action: Action,
    /// Order within policies of equal priority: lower first, default 0.
    pub priority: u16,
    /// The other side: `None` is anyone, an empty list is no one.
    pub peers: Option<Vec<Peer>>,
    /// The service at the destination: `None` is any, an empty list is none.
    pub ports: Option<Vec<PortMatch>>,
    /// Whether matches are to be logged.
    pub log: bool,
}

/// One alternative of a rule's other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Workloads of the same network with these labels.
    Selector(Selector),
    /// Members of a zone (in the same network).
    Zone(Name),
    /// Workloads of that network, if it is the same network.
    Network(Name),
    /// Addresses, whether or not a workload has them.
    Cidr(CidrSet),
    /// A named AddressSet.
    AddressSet(Name),
    /// Any address that no workload of the network has.
    External,
}

/// Addresses: in one of `cidrs` and in none of `except`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CidrSet {
    /// Included prefixes, sorted.
    pub cidrs: Vec<IpNet>,
    /// Excluded prefixes, sorted.
    pub except: Vec<IpNet>,
}

impl CidrSet {
    /// Whether the set has `ip`.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.cidrs.iter().any(|n| n.contains(ip)) && !self.except.iter().any(|n| n.contains(ip))
    }
}

/// One alternative of a rule's service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortMatch {
    /// A protocol with ports (6 TCP, 17 UDP, 132 SCTP), destination port `first..=last`.
    Ports {
        /// IP protocol number.
        protocol: u8,
        /// First port.
        first: u16,
        /// Last port, included.
        last: u16,
    },
    /// A port of this name at the destination workload, with its protocol. Addresses of no workload,
    /// and workloads without such a name, never match.
    Named {
        /// The name.
        name: Arc<str>,
        /// The protocol that it must have, if the rule says one.
        protocol: Option<u8>,
    },
    /// An ICMP (1) or ICMPv6 (58) message.
    Icmp {
        /// IP protocol number, 1 or 58.
        protocol: u8,
        /// Message type; `None` is any.
        icmp_type: Option<u8>,
        /// Message code; only with a type.
        code: Option<u8>,
    },
    /// A whole IP protocol by number.
    Protocol(u8),
}

/// A device that Bulkhead programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// Its name.
    pub name: Name,
    /// The protocol it speaks.
    pub driver: Driver,
    /// Its overlay address.
    pub vtep: Option<IpAddr>,
    /// Its place in the fabric.
    pub role: Role,
    /// Where its OVSDB server is, if Bulkhead keeps the host in shape.
    pub ovsdb: Option<String>,
}

impl Switch {
    /// Whether it sends and hears the frames that links are found by, so that a link between two such switches that was
    /// never heard is none.
    pub fn probes(&self) -> bool {
        matches!(self.driver, Driver::Openflow(_)) && self.vtep.is_none()
    }

    /// What becomes of a switch that nobody declared, where a network learns.
    pub fn adopted(id: DatapathId) -> Self {
        Self { name: id.into(), driver: Driver::Openflow(id), vtep: None, role: Role::Leaf, ovsdb: None }
    }

    /// Whether it was adopted, and nobody changed it since.
    pub fn is_adopted(&self) -> bool {
        matches!(self.driver, Driver::Openflow(id) if *self == Self::adopted(id))
    }
}

impl Driver {
    /// Whether switches of this kind remember connections, so that an answer is one to something that passed. Others judge
    /// an answer by its addresses, ports and flags.
    pub fn remembers(&self) -> bool {
        !matches!(self, Self::P4runtime { .. })
    }
}

/// The protocol a switch speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// OpenFlow 1.3; the switch connects to Bulkhead and is known by its datapath id.
    Openflow(DatapathId),
    /// P4Runtime; Bulkhead connects to the switch.
    P4runtime {
        /// host:port of its gRPC server.
        address: String,
        /// Its device id.
        device_id: u64,
        /// How it reaches other VTEPs, if it has a VTEP address, which this says too.
        underlay: Option<Arc<Underlay>>,
    },
    /// The simulated switch inside the controller.
    Sim,
    /// A Linux host whose kernel is the VTEP. It enforces nothing.
    Kernel,
}

/// A switch's place in the fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Workloads are plugged in; it may have a VTEP.
    Hypervisor,
    /// A fabric switch with hosts.
    Leaf,
    /// A fabric switch without hosts.
    Spine,
}

/// What is seen on a switch's host. Written by Bulkhead, never by a user; its name is the switch's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The switch's name.
    pub name: Name,
    /// Largest IP packet, in bytes, that the underlay carries from here; `None` if not known.
    pub underlay_mtu: Option<u16>,
    /// The interfaces that are plugged in, sorted by port; no port and no (workload, MAC) twice.
    pub plugged: Vec<Plugged>,
}

impl Host {
    /// Who is plugged in at `port`.
    pub fn at(&self, port: &Port) -> Option<&Plugged> {
        let at = self.plugged.binary_search_by(|plugged| plugged.port.cmp(port)).ok()?;
        self.plugged.get(at)
    }
}

/// An interface that was seen plugged in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plugged {
    /// Where.
    pub port: Port,
    /// The name that it goes by; a workload of this name need not exist.
    pub workload: Name,
    /// Its MAC address.
    pub mac: Mac,
}

/// What a switch is connected to. Written by Bulkhead, never by a user; its name is the switch's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjacency {
    /// The switch's name.
    pub name: Name,
    /// The ports by which other switches were heard, and those that links name, sorted by name; no name twice.
    pub ports: Vec<FabricPort>,
}

/// A port that leads, or is said to lead, to another switch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FabricPort {
    /// Its name.
    pub name: Arc<str>,
    /// Its OpenFlow number: links, workloads and uplinks may call it by that.
    pub number: u32,
    /// What passes.
    pub passes: Passage,
    /// The far end, if it was heard: by its switch's and its port's name. While nothing passes, the last one.
    pub heard: Option<Attachment>,
}

/// What passes by a port that leads to another switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Passage {
    /// Nothing: what comes there may be from anybody.
    Nothing,
    /// What comes is taken for the far end's, and nothing is sent: the link is about to be used, or its far end is away
    /// and there are other ways.
    In,
    /// Packets pass both ways.
    Both,
}

/// A named set of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressSet {
    /// Its name.
    pub name: Name,
    /// Its addresses.
    pub set: CidrSet,
}

/// A declared cable between two switches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: Name,
    /// One end.
    pub a: Attachment,
    /// The other end.
    pub b: Attachment,
}
