//! Entries: what one line of a program matches, does and is caused by.

use crate::{field::Field, matching::Match, stage::Stage};
use bulkhead_topology::Port;
use std::{collections::BTreeSet, fmt, net::IpAddr, ops::Deref, slice, sync::Arc};

/// One thing an entry does; in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Sets a field; made by [`Self::set`].
    Set(Field, Value),
    /// Sets some bits of a packet's field and leaves the others as they are.
    SetBits(Box<SetBits>),
    /// Copies one field into another of the same width, or an identity's low bits, see [`Field::copies_to`].
    Copy {
        /// Read from.
        from: Field,
        /// Written to.
        to: Field,
    },
    /// Service := protocol and the packet's destination port.
    ServiceFromDst,
    /// Service := protocol and the packet's source port (of a reply).
    ServiceFromSrc,
    /// Service := ICMP protocol, type and code.
    ServiceFromIcmp,
    /// Service := protocol alone.
    ServiceFromProto,
    /// Chooses the out-port.
    SetOut(Port),
    /// Sends a copy out.
    Output(Output),
    /// A copy of the packet, changed by these alone ([`Self::Set`], [`Self::Copy`]), goes to a later stage; the packet
    /// itself stays as it is.
    Fork {
        /// What is done to the copy.
        actions: Box<[Action]>,
        /// Where it goes.
        to: Stage,
    },
    /// Looks the packet up in the connection tracker, in the zone of its network, and goes to the next
    /// stage with [`Field::Conn`] set. Last.
    Track,
    /// Commits the connection, remembering classes and service.
    Commit,
    /// The same, in this packet's direction, whatever connection the tracker took it for.
    CommitAnew,
    /// Exchanges source and destination in the metadata: a reply is judged as its connection was.
    SwapEnds,
    /// Restores what [`Self::Commit`] remembered: an ICMP error of a router outside is judged as the connection to
    /// the outside that it is about.
    Recall,
    /// Restores the service alone: an ICMP error is judged as its connection would be between its own ends.
    RecallService,
    /// This entry is clause `k` of `n` (from 1) of a conjunction; it does and decides nothing else.
    Clause {
        /// The conjunction's number, unique in the stage.
        conjunction: u32,
        /// Which clause, from 1.
        k: u8,
        /// How many clauses there are, 2 to 8.
        n: u8,
    },
    /// Tells the sender that its packet was refused, on the VLAN of [`Field::InVlan`].
    Reject,
    /// Sends the packet's beginning to the controller, which writes a line about it; at a limited rate. Only where the
    /// entry is for new connections alone.
    Log,
    /// Puts an 802.1Q tag on the packet, which has none, with the id that [`Field::InVlan`] or [`Field::OutVlan`] holds.
    PushVlan(Field),
    /// Takes the packet's outer VLAN tag off; the entry matches only packets that have one.
    PopVlan,
    /// TTL or hop limit less one. A packet that has no more than 1 left is dropped here and nobody is told: an entry
    /// of higher priority has [`Self::Expired`] for it.
    DecTtl,
    /// [`Field::TooBig`] := whether the Ethernet frame, without tags, is longer than so many bytes.
    CheckSize(u16),
    /// Drops the packet and tells its sender that the TTL ended (RFC 792, RFC 4443 §3.3), as from this address.
    Expired {
        /// The gateway's address, of the packet's family.
        from: IpAddr,
    },
    /// Drops the packet and tells its sender that no route leads on (RFC 792, RFC 4443 §3.1), as from this address.
    NoRoute {
        /// The gateway's address, of the packet's family.
        from: IpAddr,
    },
    /// Drops the packet and tells its sender how long a packet may be (RFC 1191, RFC 4443 §3.2), as its destination.
    TooBig {
        /// Bytes of the longest IP packet that would pass.
        mtu: u16,
    },
    /// Reports a tunnel's probe to the controller; at a limited rate. Last.
    Probe,
    /// Reports the frame to the controller, which looks for links between switches; at a limited rate. Last.
    Discover,
}

/// Some bits of a field, and what they become.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetBits {
    /// Written to; none of our metadata, and not all of it.
    pub field: Field,
    /// What the bits become; no bit is outside `mask`.
    pub value: u128,
    /// The bits: at least one, at most 64, all next to each other.
    pub mask: u128,
}

/// A field's value in halves, the high one first: an action is 24 bytes then, where a `u128` would make it 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value([u64; 2]);

impl Value {
    /// The value.
    pub fn get(self) -> u128 {
        let Self([high, low]) = self;
        u128::from(high) << 64 | u128::from(low)
    }
}

impl Action {
    /// Sets a field.
    pub const fn set(field: Field, value: u128) -> Self {
        Self::Set(field, Value([(value >> 64) as u64, value as u64]))
    }

    /// Sets some bits of a field, see [`SetBits`].
    pub fn set_bits(field: Field, value: u128, mask: u128) -> Self {
        Self::SetBits(Box::new(SetBits { field, value, mask }))
    }

    /// Whether it drops the packet and tells the sender why: nothing that follows is done.
    pub const fn refuses(&self) -> bool {
        matches!(self, Self::Reject | Self::Expired { .. } | Self::NoRoute { .. } | Self::TooBig { .. })
    }

    /// The ports that it names.
    pub fn ports(&self) -> &[Port] {
        match self {
            Self::SetOut(port) => slice::from_ref(port),
            Self::Output(output) => output.ports(),
            _ => &[],
        }
    }
}

/// Where a copy of the packet goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// Back where it came from.
    InPort,
    /// The port chosen by [`Action::SetOut`].
    Chosen,
    /// This port.
    Port(Port),
    /// One of these ports, the same one for all packets of a connection; which one is the switch's affair. Made by
    /// [`Self::among`]: sorted, each once, at least two and at most [`MAX_PORTS`]. Many entries share one list.
    OneOf(Arc<[Port]>),
}

/// Ports that one output chooses among at most: Open vSwitch tells no more apart by a packet's hash
/// (`MAX_SELECT_GROUP_HASH_VALUES` in its ofproto-dpif.h).
pub const MAX_PORTS: usize = 256;

impl Output {
    /// Out of any of these ports; `None` if there are none. Of more than [`MAX_PORTS`], the first ones.
    pub fn among(ports: BTreeSet<Port>) -> Option<Self> {
        Self::sorted(&ports.into_iter().collect())
    }

    /// The same of a list that is sorted and has each port once, and may be shared.
    pub fn sorted(ports: &Arc<[Port]>) -> Option<Self> {
        match &**ports {
            [] => None,
            [port] => Some(Self::Port(port.clone())),
            all => Some(Self::OneOf(all.get(..MAX_PORTS).map_or_else(|| ports.clone(), Arc::from))),
        }
    }

    /// The ports that it names.
    pub fn ports(&self) -> &[Port] {
        match self {
            Self::InPort | Self::Chosen => &[],
            Self::Port(port) => slice::from_ref(port),
            Self::OneOf(ports) => ports,
        }
    }
}

/// Where a packet goes after an entry's actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Next {
    /// On to a later stage.
    Stage(Stage),
    /// It is dropped, and counts under the entry's cause.
    Drop,
    /// Done: the actions sent it out, or the entry is a clause.
    Done,
}

/// The rule that an entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A built-in rule.
    Builtin(Builtin),
    /// A policy's rule, by its durable number.
    Rule(u32),
    /// The isolation by a policy, by its durable number.
    Isolation(u32),
    /// The isolation by a zone, by its durable number.
    Zone(u32),
    /// The default of a network, by its number.
    Default(u32),
    /// No rule matched in a stage.
    Miss(Stage),
}

macro_rules! builtins {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The built-in rules: visible, named, counted like any other.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Builtin { $($(#[$doc])* $name,)* }

        impl Builtin {
            /// Every built-in rule.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name that operators see.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => concat!("builtin/", $text),)* }
            }
        }
    };
}

builtins! {
    /// A port belongs to a network.
    Classify = "classify",
    /// A sender's addresses are checked.
    Antispoof = "antispoof",
    /// ARP is answered, never flooded.
    Arp = "arp",
    /// IPv6 neighbour discovery is answered, never flooded.
    Nd = "nd",
    /// DHCP between workloads and the uplink.
    Dhcp = "dhcp",
    /// Frames that are neither IP nor ARP.
    NonIp = "non-ip",
    /// Addresses are classed by the CIDRs of policies.
    AddressClass = "address-class",
    /// Destinations are looked up.
    Locate = "locate",
    /// What is to no one host: multicast, broadcast, and no address at all.
    Multicast = "multicast",
    /// Packets between two outside addresses.
    Transit = "transit",
    /// Connection tracking.
    Conntrack = "conntrack",
    /// Packets that the connection tracker cannot place.
    Invalid = "conntrack-invalid",
    /// Replies of connections.
    Reply = "reply",
    /// ICMP errors about connections (path MTU and unreachable).
    IcmpError = "icmp-error",
    /// Fragments, which never pass.
    Fragment = "fragment",
    /// Live connections of a network with `onTighten: persist`.
    Persist = "persist",
    /// End of a tier.
    TierEnd = "tier-end",
    /// A side that is no workload of this switch: its policy is not judged here.
    Unmanaged = "unmanaged",
    /// Members of sets that several rules share; the rules themselves count under their own names.
    Set = "set",
    /// An allowed connection is remembered.
    Verdict = "verdict",
    /// The packet leaves.
    Deliver = "deliver",
    /// Where staged policies are weighed: an active rule would decide, or none.
    Staged = "staged",
    /// Frames with a VLAN tag where none belongs, and with more than one.
    Vlan = "vlan",
    /// Packets by a tunnel that no network here has.
    Tunnel = "tunnel",
    /// A sender behind a tunnel is checked: its switch, network, address and identity belong together.
    OverlayAntispoof = "overlay-antispoof",
    /// Packets to a gateway, and through it.
    Gateway = "gateway",
    /// Packets through a gateway to where no route leads.
    NoRoute = "no-route",
    /// Packets that the underlay has no room for.
    Mtu = "mtu",
    /// Packets through a gateway whose TTL ends.
    Ttl = "ttl",
    /// Probes of tunnels.
    Probe = "probe",
    /// Frames by which links between switches are found.
    Discover = "discover",
    /// Packets on their way between switches of the fabric.
    Carry = "carry",
    /// Frames by which links that are known are heard.
    Link = "link",
    /// Who is plugged in where nobody is declared is learned.
    Learn = "learn",
}

/// Tags of the cause's kind in its number; part of what is written to switches, so never reused.
mod tag {
    pub const BUILTIN: u64 = 1;
    pub const RULE: u64 = 2;
    pub const ISOLATION: u64 = 3;
    pub const ZONE: u64 = 4;
    pub const DEFAULT: u64 = 5;
    pub const MISS: u64 = 6;
}

impl Cause {
    /// The cause as a 40-bit number, kind in the top 8 bits; drivers keep it in the cookie.
    pub fn to_bits(self) -> u64 {
        let (kind, id) = match self {
            Self::Builtin(builtin) => (tag::BUILTIN, builtin as u32),
            Self::Rule(id) => (tag::RULE, id),
            Self::Isolation(id) => (tag::ISOLATION, id),
            Self::Zone(id) => (tag::ZONE, id),
            Self::Default(id) => (tag::DEFAULT, id),
            Self::Miss(stage) => (tag::MISS, stage as u32),
        };
        kind << 32 | u64::from(id)
    }

    /// The cause of such a number.
    pub fn from_bits(bits: u64) -> Option<Self> {
        let id = bits as u32;
        Some(match bits >> 32 {
            tag::BUILTIN => Self::Builtin(*Builtin::ALL.get(id as usize)?),
            tag::RULE => Self::Rule(id),
            tag::ISOLATION => Self::Isolation(id),
            tag::ZONE => Self::Zone(id),
            tag::DEFAULT => Self::Default(id),
            tag::MISS => Self::Miss(Stage::from_index(u8::try_from(id).ok()?)?),
            _ => return None,
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin(builtin) => f.write_str(builtin.as_str()),
            Self::Rule(id) => write!(f, "rule/{id}"),
            Self::Isolation(id) => write!(f, "isolation/{id}"),
            Self::Zone(id) => write!(f, "zone/{id}"),
            Self::Default(id) => write!(f, "default/{id}"),
            Self::Miss(stage) => write!(f, "builtin/miss-{}", stage.spec().name),
        }
    }
}

/// What makes an entry unique in a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey {
    /// The stage it is in.
    pub stage: Stage,
    /// Higher wins.
    pub priority: u16,
    /// What it matches.
    pub matches: Match,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line {
    /// Stage, priority and match.
    pub key: EntryKey,
    /// What it does.
    pub actions: Box<[Action]>,
    /// Where the packet goes then.
    pub next: Next,
    /// Why it is there.
    pub cause: Cause,
}

/// One entry of a program. It never changes, and is shared by all who hold it: compiler, differences, drivers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry(Arc<Line>);

impl Deref for Entry {
    type Target = Line;

    fn deref(&self) -> &Line {
        &self.0
    }
}

impl From<Line> for Entry {
    fn from(line: Line) -> Self {
        Self(Arc::new(line))
    }
}

impl Entry {
    /// An entry.
    pub fn new(stage: Stage, priority: u16, matches: Match, actions: Vec<Action>, next: Next, cause: Cause) -> Self {
        Line { key: EntryKey { stage, priority, matches }, actions: actions.into(), next, cause }.into()
    }

    /// Every port that the entry names: it can be installed once the switch has them all.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.key.matches.in_port.iter().chain(self.actions.iter().flat_map(Action::ports))
    }
}
