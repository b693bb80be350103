//! Random states, flows and changes for property tests.
//!
//! The domains are small on purpose: two networks that share addresses, a handful of labels, names and
//! ports, so that selectors select, rules collide and changes conflict often. A state is what a random
//! sequence of changes leaves, those that [`State::check`] refuses left out: valid by construction,
//! and it shrinks by dropping changes.
//!
//! Strategies of whole resources are boxed: by value, what proptest keeps of a state or two would outgrow a test's stack.

use crate::{model::*, state::*, verdict::*};
use bulkhead_topology::{
    DatapathId, IpNet, Labels, Mac, Name, Operator, ProtocolPort, Requirement, Selector, Vni,
    underlay::{Hop, Route},
};
use proptest::{
    collection::{btree_map, btree_set, vec},
    option,
    prelude::*,
    sample::{Index, select},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// Networks: `net-0` and `net-1`, with the same subnets.
pub const NETWORKS: u8 = 2;
/// Workloads: `wl-0` and so on.
pub const WORKLOADS: u8 = 12;
/// Zones: `zone-0` and so on.
pub const ZONES: u8 = 4;
/// Policies: `pol-0` and so on.
pub const POLICIES: u8 = 12;
/// Address sets: `set-0` and so on.
pub const ADDRESS_SETS: u8 = 3;
/// Switches: `sw-0` and so on.
pub const SWITCHES: u8 = 3;
/// Links: `link-0` and so on.
pub const LINKS: u8 = 2;

/// Addresses of each family that workloads may have.
const HOSTS: u8 = 16;
/// Addresses of each family outside of every subnet.
const OUTSIDERS: u8 = 6;
/// Ports of each switch.
const SWITCH_PORTS: u32 = 8;
/// The first of three ports that may lead into the underlay; workloads may be plugged in there too.
const UNDERLAY_PORT: u32 = 8;
const LABELS: [(&str, &[&str]); 3] = [("app", &["shop", "pay"]), ("tier", &["web", "app", "db"]), ("env", &["prod"])];
const PORT_NAMES: [&str; 2] = ["http", "dns"];
const PORT_PROTOCOLS: [u8; 3] = [6, 17, 132];
/// Services' ports; rules' ranges begin and end at or beside them.
const PORTS: [u16; 8] = [1, 53, 80, 443, 1023, 8080, 8081, 65535];
const OTHER_PROTOCOLS: [u8; 2] = [47, 50];
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The name `<prefix>-<i>`.
#[allow(clippy::panic, reason = "only tests get here, with constant prefixes")]
fn name(prefix: &str, i: u8) -> Name {
    format!("{prefix}-{i}").parse().unwrap_or_else(|e| panic!("{e}"))
}

fn names(prefix: &'static str, count: u8) -> impl Strategy<Value = Name> + Clone {
    (0..count).prop_map(move |i| name(prefix, i))
}

/// The `i`th address of the workloads' domain; dense, so that prefixes have their borders among them.
fn host(i: u8, v6: bool) -> IpAddr {
    match v6 {
        true => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(i)).into(),
        false => Ipv4Addr::new(10, 0, 0, i).into(),
    }
}

/// The `i`th address outside of every subnet.
fn outsider(i: u8, v6: bool) -> IpAddr {
    match v6 {
        true => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(i)).into(),
        false => Ipv4Addr::new(198, 51, 100, i).into(),
    }
}

#[allow(clippy::panic, reason = "only tests get here, with lengths of the family")]
fn net(addr: IpAddr, len: u8) -> IpNet {
    IpNet::new(addr, len).unwrap_or_else(|e| panic!("{e}"))
}

/// An address of either side of the fabric's edge.
fn address(v6: bool) -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        4 => (1..=HOSTS).prop_map(move |i| host(i, v6)),
        1 => (1..=OUTSIDERS).prop_map(move |i| outsider(i, v6)),
    ]
}

fn prefix() -> impl Strategy<Value = IpNet> {
    any::<bool>().prop_flat_map(|v6| {
        let width: u8 = if v6 { 128 } else { 32 };
        let len = prop_oneof![4 => width - 4..=width, 1 => Just(width / 4), 1 => Just(0)];
        (address(v6), len).prop_map(|(addr, len)| net(addr, len))
    })
}

fn cidr_set() -> impl Strategy<Value = CidrSet> {
    let sorted = |max| btree_set(prefix(), 0..max).prop_map(|set| set.into_iter().collect());
    (sorted(4), sorted(3)).prop_map(|(cidrs, except)| CidrSet { cidrs, except })
}

/// Labels of a workload: one of 36 sets.
pub fn labels() -> impl Strategy<Value = Labels> {
    let one = |(key, values): (&'static str, &'static [&'static str])| {
        option::weighted(0.8, select(values).prop_map(move |value| (Arc::from(key), Arc::from(value))))
    };
    let [app, tier, env] = LABELS;
    (one(app), one(tier), one(env)).prop_map(|(a, b, c)| [a, b, c].into_iter().flatten().collect())
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let values = |(key, values): (&'static str, &'static [&'static str])| {
        let some = btree_set(select(values).prop_map(Arc::<str>::from), 0..3);
        let operator = prop_oneof![4 => Just(Operator::In), 2 => Just(Operator::NotIn), 1 => Just(Operator::Exists), 1 => Just(Operator::DoesNotExist)];
        (operator, some).prop_map(move |(operator, some)| {
            let takes = matches!(operator, Operator::In | Operator::NotIn);
            Requirement::new(key.into(), operator, some.into_iter().filter(|_| takes))
        })
    };
    select(&LABELS[..]).prop_flat_map(values)
}

/// A selector; often of everything or of one label.
pub fn selector() -> impl Strategy<Value = Selector> {
    vec(requirement(), 0..3).prop_map(Selector::new)
}

fn sides() -> impl Strategy<Value = Sides> {
    let flag = || prop::bool::weighted(0.25);
    (flag(), flag()).prop_map(|(ingress, egress)| Sides { ingress, egress })
}

fn attachment() -> impl Strategy<Value = Attachment> {
    let port = prop_oneof![
        3 => (1..=SWITCH_PORTS).prop_map(Port::Number),
        1 => (1..=SWITCH_PORTS).prop_map(|i| Port::Name(format!("eth{i}").into())),
    ];
    (names("sw", SWITCHES), port).prop_map(|(switch, port)| Attachment { switch, port })
}

/// Where a network leaves the fabric: often a port that the other network shares, on another VLAN.
fn uplink_port() -> impl Strategy<Value = Attachment> {
    let shared = names("sw", SWITCHES).prop_map(|switch| Attachment { switch, port: Port::Name("uplink".into()) });
    prop_oneof![2 => shared, 1 => attachment()]
}

/// The gateways of a network: none, or one in one of the wide subnets, or in each. Some are a workload's address.
fn gateways() -> impl Strategy<Value = Vec<IpAddr>> {
    let at = select(&[1, 254, HOSTS][..]);
    (option::weighted(0.6, at.clone()), option::weighted(0.6, at)).prop_map(|(v4, v6)| {
        let v4 = v4.map(|i| host(i, false));
        v4.into_iter().chain(v6.map(|i| host(i, true))).collect()
    })
}

/// The groups of a network: mostly none.
fn multicast() -> impl Strategy<Value = Vec<IpAddr>> {
    let groups: [IpAddr; 3] = [[224, 0, 0, 251].into(), [255; 4].into(), [0xff02, 0, 0, 0, 0, 0, 0, 0xfb].into()];
    prop_oneof![2 => Just(Vec::new()), 1 => btree_set(select(groups.to_vec()), 1..=3).prop_map(Vec::from_iter)]
}

/// Network `net-<i>`: nearly always with the full subnets, so that workloads fit.
fn network_named(i: u8) -> BoxedStrategy<Network> {
    let wide = vec![net(host(0, false), 24), net(host(0, true), 64)];
    let narrow = vec![net(host(0, false), 29), net(host(8, false), 29), net(host(0, true), 125)];
    let uplinks = btree_set((uplink_port(), select(&[0u16, 7, 4094][..])), 0..3);
    (
        prop_oneof![9 => Just(u32::from(i) + 1), 1 => 1..4u32],
        prop_oneof![9 => Just(wide), 1 => Just(narrow)],
        select(&[Encap::Geneve, Encap::Vxlan][..]),
        select(&[DefaultAction::Allow, DefaultAction::Deny][..]),
        select(&[OnTighten::Revoke, OnTighten::Persist][..]),
        uplinks,
        (gateways(), multicast()),
    )
        .prop_filter_map(
            "a VNI",
            move |(vni, subnets, encap, default_action, on_tighten, uplinks, (gateways, multicast))| {
                let uplinks = uplinks.into_iter().map(|(at, vlan)| Uplink { at, vlan }).collect();
                let (name, vni) = (name("net", i), Vni::new(vni)?);
                let learn_workloads = false;
                Some(Network {
                    name,
                    vni,
                    subnets,
                    encap,
                    default_action,
                    on_tighten,
                    uplinks,
                    gateways,
                    multicast,
                    learn_workloads,
                })
            },
        )
        .boxed()
}

/// A network, one of [`NETWORKS`].
pub fn network() -> impl Strategy<Value = Network> {
    (0..NETWORKS).prop_flat_map(network_named)
}

/// MAC addresses that workload `wl-<i>` mostly has one or two of.
const MACS: u8 = 2;

fn mac(i: u8, j: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, i * MACS + j + 1])
}

/// A workload, one of [`WORKLOADS`], with one or two interfaces of either or both families.
pub fn workload() -> impl Strategy<Value = Workload> {
    let ips = (btree_set(1..=HOSTS, 0..3), btree_set(1..=HOSTS, 0..3)).prop_map(|(v4, v6)| {
        let v4 = v4.into_iter().map(|i| host(i, false));
        v4.chain(v6.into_iter().map(|i| host(i, true))).collect::<Vec<_>>()
    });
    let interface = move |mac: BoxedStrategy<Mac>| {
        (mac, ips.clone(), option::weighted(0.8, attachment()))
            .prop_map(|(mac, ips, attachment)| Interface { mac, ips, attachment })
            .boxed()
    };
    let port =
        (select(&PORT_PROTOCOLS[..]), select(&PORTS[..])).prop_map(|(protocol, port)| ProtocolPort { protocol, port });
    let named_ports = btree_map(select(&PORT_NAMES[..]).prop_map(Arc::<str>::from), port, 0..3);
    // Mostly in the first network, where they meet each other.
    let network = prop_oneof![3 => Just(name("net", 0)), 1 => names("net", NETWORKS)];
    let interfaces = move |i| {
        let any = interface((1..=4 * HOSTS).prop_map(|mac| Mac([2, 0, 0, 0, 0, mac])).boxed());
        let own = interface((0..MACS).prop_map(move |j| mac(i, j)).boxed());
        prop_oneof![12 => vec(own.clone(), 1..2), 1 => vec(any, 1..2), 3 => vec(own, 0..3)]
    };
    let named = (0..WORKLOADS).prop_flat_map(move |i| (Just(i), interfaces(i)));
    (named, labels(), network, named_ports).prop_map(|((i, interfaces), labels, network, named_ports)| Workload {
        name: name("wl", i),
        labels: Arc::new(labels),
        network,
        interfaces,
        named_ports: Arc::new(named_ports),
    })
}

/// A zone, one of [`ZONES`].
pub fn zone() -> impl Strategy<Value = Zone> {
    let network = prop_oneof![3 => Just(name("net", 0)), 1 => names("net", NETWORKS)];
    let mode = select(&[Mode::Enforce, Mode::Canary, Mode::Monitor][..]);
    (names("zone", ZONES), network, selector(), sides(), mode)
        .prop_map(|(name, network, selector, isolate, mode)| Zone { name, network, selector, isolate, mode })
}

fn peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        4 => selector().prop_map(Peer::Selector),
        2 => names("zone", ZONES).prop_map(Peer::Zone),
        1 => names("net", NETWORKS).prop_map(Peer::Network),
        3 => cidr_set().prop_map(Peer::Cidr),
        2 => names("set", ADDRESS_SETS).prop_map(Peer::AddressSet),
        1 => Just(Peer::External),
    ]
}

fn port_match() -> impl Strategy<Value = PortMatch> {
    let edge = || (select(&PORTS[..]), 0..3u16).prop_map(|(port, d)| (port - 1).saturating_add(d).max(1));
    let protocol = || select(&PORT_PROTOCOLS[..]);
    prop_oneof![
        4 => (protocol(), edge(), edge())
            .prop_map(|(protocol, a, b)| PortMatch::Ports { protocol, first: a.min(b), last: a.max(b) }),
        2 => (protocol(), select(&PORTS[..])).prop_map(|(protocol, p)| PortMatch::Ports { protocol, first: p, last: p }),
        2 => (select(&PORT_NAMES[..]), option::of(protocol()))
            .prop_map(|(name, protocol)| PortMatch::Named { name: name.into(), protocol }),
        2 => (select(&[ICMP, ICMPV6][..]), option::of((icmp_type(), option::of(0..2u8)))).prop_map(|(protocol, what)| {
            let icmp_type = what.map(|(t, _)| t);
            PortMatch::Icmp { protocol, icmp_type, code: what.and_then(|(_, code)| code) }
        }),
        2 => any_protocol().prop_map(PortMatch::Protocol),
    ]
}

/// Types of ICMP and ICMPv6 messages that begin a conversation, and two replies. Flows have no error
/// messages (those belong to the connection that they are about) and no neighbour discovery (which no
/// policy decides).
const ICMP_TYPES: [u8; 3] = [0, 8, 13];
const ICMPV6_TYPES: [u8; 3] = [128, 129, 139];

fn icmp_type() -> impl Strategy<Value = u8> {
    select([&ICMP_TYPES[..], &ICMPV6_TYPES[..], &[3]].concat())
}

fn any_protocol() -> impl Strategy<Value = u8> {
    prop_oneof![select(&PORT_PROTOCOLS[..]), select(&[ICMP, ICMPV6][..]), select(&OTHER_PROTOCOLS[..])]
}

/// A rule; its lists are absent, empty or short.
pub fn rule() -> impl Strategy<Value = Rule> {
    let action = prop_oneof![
        4 => Just(Action::Allow),
        2 => Just(Action::Deny),
        2 => Just(Action::Reject),
        2 => Just(Action::Pass),
    ];
    let peers = option::weighted(0.8, prop_oneof![9 => vec(peer(), 1..3), 1 => vec(peer(), 0..1)]);
    let ports = option::weighted(0.6, prop_oneof![9 => vec(port_match(), 1..3), 1 => vec(port_match(), 0..1)]);
    (action, prop_oneof![3 => Just(0u16), 1 => 0..3u16, 1 => Just(u16::MAX)], peers, ports, any::<bool>())
        .prop_map(|(action, priority, peers, ports, log)| Rule { name: "".into(), action, priority, peers, ports, log })
}

/// A policy, one of [`POLICIES`], of any tier.
pub fn policy() -> BoxedStrategy<Policy> {
    let tier = prop_oneof![
        1 => Just(Tier::Emergency),
        2 => Just(Tier::Platform),
        4 => Just(Tier::Application),
        2 => Just(Tier::Baseline),
    ];
    let subject = prop_oneof![
        3 => selector().prop_map(Subject::Selector),
        1 => names("zone", ZONES).prop_map(Subject::Zone),
    ];
    let priority = prop_oneof![3 => Just(1000u16), 1 => 999..1002u16, 1 => select(&[0u16, 65535][..])];
    (
        names("pol", POLICIES),
        tier,
        priority,
        prop::bool::weighted(0.25),
        subject,
        sides(),
        vec(rule(), 0..4),
        vec(rule(), 0..3),
    )
        .prop_map(|(name, tier, priority, staged, subject, isolate, ingress, egress)| {
            let isolate = if tier == Tier::Application { isolate } else { Sides::default() };
            Policy { name, tier, priority, staged, stateful: false, subject, isolate, ingress, egress }
        })
        .boxed()
}

/// An address set, one of [`ADDRESS_SETS`].
pub fn address_set() -> impl Strategy<Value = AddressSet> {
    (names("set", ADDRESS_SETS), cidr_set()).prop_map(|(name, set)| AddressSet { name, set })
}

/// Switch `sw-<i>`; nearly always with a VTEP of its own.
fn switch_named(i: u8) -> BoxedStrategy<Switch> {
    let id = prop_oneof![9 => Just(u64::from(i) + 1), 1 => 1..4u64];
    let driver = prop_oneof![
        4 => id.clone().prop_map(|id| Driver::Openflow(DatapathId(id))),
        1 => id.prop_map(|device_id| Driver::P4runtime { address: "192.0.2.9:9559".into(), device_id, underlay: None }),
        1 => Just(Driver::Sim),
        2 => Just(Driver::Kernel),
    ];
    let v4 = prop_oneof![19 => Just(i), 1 => 0..SWITCHES].prop_map(|i| Some(IpAddr::from([192, 0, 2, i + 1])));
    let v6 = Just(Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 1, u16::from(i) + 1])));
    let vtep = prop_oneof![7 => v4, 2 => v6, 1 => Just(None)];
    let role = select(&[Role::Hypervisor, Role::Leaf][..]);
    (driver, vtep, role, underlay())
        .prop_map(move |(driver, vtep, role, around)| Switch {
            name: name("sw", i),
            driver: match (driver, vtep) {
                // A kernel is a VTEP or nothing.
                (Driver::Kernel, None) => Driver::Sim,
                (Driver::P4runtime { address, device_id, .. }, Some(vtep)) => {
                    let fits = |route: &Route| route.to.is_ipv4() == vtep.is_ipv4();
                    let around = around.map(|(mtu, routes)| Underlay {
                        vtep,
                        mac: Mac([2, 0, 0, 1, 0, i]),
                        mtu,
                        routes: routes.into_iter().filter(fits).collect(),
                    });
                    Driver::P4runtime { address, device_id, underlay: around.map(Arc::new) }
                }
                (other, _) => other,
            },
            vtep,
            role,
            ovsdb: None,
        })
        .boxed()
}

/// Ports from [`UNDERLAY_PORT`] on into the underlay, which lead everywhere, to some, or nowhere.
fn underlay() -> impl Strategy<Value = Option<(Option<u16>, Vec<Route>)>> {
    let hop = (0..3u32, 1..3u8).prop_map(|(n, to)| Hop { port: UNDERLAY_PORT + n, mac: Mac([2, 0, 0, 2, 0, to]) });
    let to = select(&["0.0.0.0/0", "192.0.2.0/30", "192.0.2.2/32", "::/0", "2001:db8:0:0:0:0:1:2/128"][..]);
    let to = to.prop_filter_map("a prefix", |to| to.parse().ok());
    let routes = btree_map(to, btree_set(hop, 1..4), 0..5);
    let routes = routes
        .prop_map(|routes| routes.into_iter().map(|(to, via)| Route { to, via: via.into_iter().collect() }).collect());
    option::weighted(0.9, (option::of(576..9000u16), routes))
}

/// An underlay in which a switch with this VTEP address reaches everybody, by a port that is nobody's.
pub fn everywhere(vtep: IpAddr) -> Underlay {
    let any = if vtep.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let via = vec![Hop { port: 500, mac: Mac([2, 0, 0, 2, 0, 1]) }];
    let routes = IpNet::new(any, 0).map(|to| Route { to, via }).into_iter().collect();
    Underlay { vtep, mac: Mac([2, 0, 0, 1, 0, 1]), mtu: None, routes }
}

/// A switch, one of [`SWITCHES`].
pub fn switch() -> impl Strategy<Value = Switch> {
    (0..SWITCHES).prop_flat_map(switch_named)
}

/// What is seen on the host of `sw-<i>`.
fn host_named(i: u8) -> impl Strategy<Value = Host> {
    let seen = (0..WORKLOADS, 0..MACS).prop_map(|(i, j)| (name("wl", i), mac(i, j)));
    let plugged = btree_map(attachment().prop_map(|at| at.port), seen, 0..5);
    (plugged, option::of(select(&[1280u16, 1500, 9000][..]))).prop_map(move |(plugged, underlay_mtu)| {
        let plugged = plugged.into_iter().map(|(port, (workload, mac))| Plugged { port, workload, mac });
        Host { name: name("sw", i), underlay_mtu, plugged: plugged.collect() }
    })
}

/// What is seen on the host of a switch, one of [`SWITCHES`].
pub fn seen() -> impl Strategy<Value = Host> {
    (0..SWITCHES).prop_flat_map(host_named)
}

/// What `sw-<i>` is connected to.
fn adjacency_named(i: u8) -> impl Strategy<Value = Adjacency> {
    let passes = select(vec![Passage::Nothing, Passage::In, Passage::Both, Passage::Both]);
    let port = (passes, option::of(attachment()));
    btree_map(0..8u32, port, 0..4).prop_map(move |ports| {
        let port = |(number, (passes, heard))| FabricPort { name: format!("p{number}").into(), number, passes, heard };
        Adjacency { name: name("sw", i), ports: ports.into_iter().map(port).collect() }
    })
}

/// What a switch is connected to, one of [`SWITCHES`].
pub fn adjacency() -> impl Strategy<Value = Adjacency> {
    (0..SWITCHES).prop_flat_map(adjacency_named)
}

/// A link, one of [`LINKS`].
pub fn link() -> impl Strategy<Value = Link> {
    (names("link", LINKS), attachment(), attachment()).prop_map(|(name, a, b)| Link { name, a, b })
}

/// A new value of any resource.
pub fn resource() -> BoxedStrategy<Resource> {
    prop_oneof![
        1 => network().prop_map(|r| Resource::Network(r.into())),
        1 => switch().prop_map(|r| Resource::Switch(r.into())),
        2 => address_set().prop_map(|r| Resource::AddressSet(r.into())),
        8 => workload().prop_map(|r| Resource::Workload(r.into())),
        3 => zone().prop_map(|r| Resource::Zone(r.into())),
        6 => policy().prop_map(|r| Resource::Policy(r.into())),
        1 => link().prop_map(|r| Resource::Link(r.into())),
        2 => seen().prop_map(|r| Resource::Host(r.into())),
        1 => adjacency().prop_map(|r| Resource::Adjacency(r.into())),
    ]
    .boxed()
}

/// The key of any resource that the domain has; it may not exist.
pub fn key() -> impl Strategy<Value = Key> {
    let of = |kind: Kind, prefix, count| names(prefix, count).prop_map(move |name| kind.named(&name));
    prop_oneof![
        1 => of(Kind::Network, "net", NETWORKS),
        1 => of(Kind::Switch, "sw", SWITCHES),
        1 => of(Kind::AddressSet, "set", ADDRESS_SETS),
        6 => of(Kind::Workload, "wl", WORKLOADS),
        2 => of(Kind::Zone, "zone", ZONES),
        4 => of(Kind::Policy, "pol", POLICIES),
        1 => of(Kind::Link, "link", LINKS),
        1 => of(Kind::Host, "sw", SWITCHES),
        1 => of(Kind::Adjacency, "sw", SWITCHES),
    ]
}

/// One change; it may be refused.
pub fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => resource().prop_map(Change::set),
        1 => key().prop_map(Change::remove),
    ]
}

/// A sequence of atomic steps of one to three changes each; some will be refused, see [`try_apply`].
pub fn steps(count: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<Vec<Change>>> {
    vec(prop_oneof![4 => vec(change(), 1..2), 1 => vec(change(), 2..4)], count)
}

/// Carries out one step, unless [`State::check`] finds an error in it. Whether it did.
pub fn try_apply(state: &mut State, step: &[Change]) -> bool {
    let refused = state.check(step).iter().any(|d| d.severity == crate::Severity::Error);
    if !refused {
        state.apply(step);
    }
    !refused
}

/// A state: all networks, switches, address sets and zones of the domain, and then what a sequence of
/// random changes makes of it. About 6 workloads and 6 policies.
pub fn state() -> BoxedStrategy<State> {
    let networks = (network_named(0), network_named(1));
    let switches = (switch_named(0), switch_named(1), switch_named(2), prop::bool::weighted(0.3));
    let hosts = (host_named(0), host_named(1), host_named(2));
    let sets = vec(address_set(), 2..8);
    let zones = vec(zone(), 2..10);
    let workloads = prop_oneof![9 => vec(workload(), 8..24), 1 => vec(workload(), 0..4)];
    let policies = prop_oneof![9 => vec(policy(), 6..14), 1 => vec(policy(), 0..2)];
    (networks, switches, hosts, sets, zones, workloads, policies, steps(0..6))
        .prop_map(
            |((n0, n1), (mut s0, mut s1, mut s2, wired), (h0, h1, h2), sets, zones, workloads, policies, steps)| {
                let mut state = State::default();
                if wired {
                    // One behind the other, without tunnels.
                    for switch in [&mut s0, &mut s1, &mut s2] {
                        switch.vtep = None;
                        if switch.driver == Driver::Kernel {
                            switch.driver = Driver::Sim;
                        }
                    }
                    let end =
                        |switch, port: &str| Attachment { switch: name("sw", switch), port: Port::Name(port.into()) };
                    for i in 0..2 {
                        let link = Link { name: name("link", i), a: end(i, "up"), b: end(i + 1, "down") };
                        try_apply(&mut state, &[Change::set(Resource::Link(link.into()))]);
                    }
                }
                let all = [n0, n1].into_iter().map(|r| Resource::Network(r.into()));
                let all = all.chain([s0, s1, s2].into_iter().map(|r| Resource::Switch(r.into())));
                let all = all.chain([h0, h1, h2].into_iter().map(|r| Resource::Host(r.into())));
                let all = all.chain(sets.into_iter().map(|r| Resource::AddressSet(r.into())));
                let all = all.chain(zones.into_iter().map(|r| Resource::Zone(r.into())));
                let all = all.chain(workloads.into_iter().map(|r| Resource::Workload(r.into())));
                let all = all.chain(policies.into_iter().map(|r| Resource::Policy(r.into())));
                for resource in all {
                    try_apply(&mut state, &[Change::set(resource)]);
                }
                for step in &steps {
                    try_apply(&mut state, step);
                }
                state
            },
        )
        .boxed()
}

/// A flow that is not yet in any state: it chooses among what a state has. Lets one flow be asked of
/// many states.
#[derive(Debug, Clone)]
pub struct FlowSeed {
    network: Name,
    from: EndSeed,
    to: EndSeed,
    v6: bool,
    service: Service,
    /// Ask for one of the ports that the destination has a name for, if it has any.
    named: Option<Index>,
}

#[derive(Debug, Clone)]
enum EndSeed {
    /// One of the addresses that workloads of the network have.
    Workload(Index),
    /// An address of the domain, whether or not a workload has it.
    Host(u8),
    /// An address outside of every subnet.
    Outsider(u8),
}

impl FlowSeed {
    /// The flow in `state`. Always between addresses of one family.
    pub fn flow(&self, state: &State) -> Flow {
        let end = |seed: &EndSeed| match seed {
            EndSeed::Workload(index) => {
                let members = state.workloads.values().filter(|w| w.network == self.network);
                let ips = members.flat_map(|w| &w.interfaces).flat_map(|i| &i.ips).copied();
                let ips: Vec<IpAddr> = ips.filter(|ip| ip.is_ipv6() == self.v6).collect();
                if ips.is_empty() { host(1, self.v6) } else { *index.get(&ips) }
            }
            EndSeed::Host(i) => host(*i, self.v6),
            EndSeed::Outsider(i) => outsider(*i, self.v6),
        };
        let mut flow = Flow::between(state, &self.network, end(&self.from), end(&self.to), self.service);
        let destination = flow.to.workload.as_ref().and_then(|name| state.workloads.get(name));
        let ports: Vec<ProtocolPort> = destination.iter().flat_map(|w| w.named_ports.values()).copied().collect();
        if let Some(index) = self.named.filter(|_| !ports.is_empty()) {
            let ProtocolPort { protocol, port } = *index.get(&ports);
            flow.service = Service::Port { protocol, port };
        }
        flow
    }
}

/// A flow seed: mostly between workloads of the first network.
pub fn flow_seed() -> impl Strategy<Value = FlowSeed> {
    let end = || {
        prop_oneof![
            12 => any::<Index>().prop_map(EndSeed::Workload),
            1 => (1..=HOSTS).prop_map(EndSeed::Host),
            2 => (1..=OUTSIDERS).prop_map(EndSeed::Outsider),
        ]
    };
    let network = prop_oneof![4 => Just(name("net", 0)), 1 => names("net", NETWORKS)];
    (network, end(), end(), any::<bool>())
        .prop_flat_map(|(network, from, to, v6)| {
            (Just((network, from, to, v6)), service(v6), option::weighted(0.25, any::<Index>()))
        })
        .prop_map(|((network, from, to, v6), service, named)| FlowSeed { network, from, to, v6, service, named })
}

/// A service that packets of the family can ask for: ICMP over IPv4, ICMPv6 over IPv6.
fn service(v6: bool) -> impl Strategy<Value = Service> {
    let port = prop_oneof![3 => select(&PORTS[..]), 1 => 1..=u16::MAX];
    prop_oneof![
        6 => (select(&PORT_PROTOCOLS[..]), port).prop_map(|(protocol, port)| Service::Port { protocol, port }),
        2 => (select(if v6 { &ICMPV6_TYPES[..] } else { &ICMP_TYPES[..] }), 0..2u8).prop_map(move |(icmp_type, code)| Service::Icmp {
            protocol: if v6 { ICMPV6 } else { ICMP },
            icmp_type,
            code,
        }),
        1 => select(&OTHER_PROTOCOLS[..]).prop_map(Service::Protocol),
    ]
}

/// A flow over `state`.
pub fn flow(state: &State) -> impl Strategy<Value = Flow> + use<> {
    let state = state.clone();
    flow_seed().prop_map(move |seed| seed.flow(&state))
}
