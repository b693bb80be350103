//! Several switches: what comes by a tunnel is believed only where it fits, networks stay apart, and outsiders are asked
//! at one place.

use crate::common;
use crate::journey;
use bulkhead_compile::{Compiler, Numbers};
use bulkhead_pipeline::{
    Action, Builtin, Cause, Field, Outcome, Packet, Stage, conn, ethertype, ip_proto,
    overlay::{GATEWAY_MAC, PROBE_ETHERTYPE, Tunnel},
    walk,
};
use bulkhead_policy::{
    State, arbitrary,
    model::{Interface, Network, Workload},
    overlay::{self, TunnelKind, tunnel},
};
use bulkhead_topology::{Mac, Name, Port};
use common::{changes, compile, name, state};
use journey::{Fixed, Journey, identity, is_kernel, located, over, over_each, way_out};
use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::Config,
};
use std::net::{IpAddr, Ipv4Addr};

#[test]
fn policy_and_pipeline_mean_the_same_ports_and_addresses() {
    assert_eq!(overlay::GATEWAY_MAC, GATEWAY_MAC);
    assert_eq!([overlay::GENEVE_PORT, overlay::VXLAN_PORT], Tunnel::ALL.map(Tunnel::port_name));
}

/// What somebody in the underlay puts into a packet.
#[derive(Debug, Clone)]
struct Forged {
    at: Index,
    /// Whose packet it claims to be.
    whose: Index,
    interface: Index,
    ip: Index,
    /// A field that does not fit, and another value for it.
    lie: Option<(u8, u32)>,
    to: u8,
}

fn forged() -> impl Strategy<Value = Forged> {
    let lie = prop::option::weighted(0.75, (0..6u8, 0..64u32));
    let indexes = (any::<Index>(), any::<Index>(), any::<Index>(), any::<Index>());
    (indexes, lie, 1..=16u8).prop_map(|((at, whose, interface, ip), lie, to)| Forged {
        at,
        whose,
        interface,
        ip,
        lie,
        to,
    })
}

/// The interface of a network that has an address.
fn owner<'a>(state: &'a State, network: &Network, ip: IpAddr) -> Option<(&'a Workload, &'a Interface)> {
    let workload = state.workload_at(&network.name, ip)?;
    Some((workload, workload.interfaces.iter().find(|interface| interface.ips.contains(&ip))?))
}

/// Whom a switch has to take the sender of a packet for; `None` if for nobody.
fn believed(state: &State, compiler: &Compiler, switch: &Name, packet: &Packet) -> Option<u128> {
    let here = &state.switches[switch];
    let vni = packet.value(Field::TunId);
    let network = state.networks.values().find(|network| u128::from(network.vni.get()) == vni)?;
    let ip = match packet.value(Field::EthType) {
        ethertype::IPV4 => IpAddr::V4((packet.value(Field::Ipv4Src) as u32).into()),
        _ => IpAddr::V6(packet.value(Field::Ipv6Src).into()),
    };
    let present = |at: &Name| {
        let uplink = network.uplinks.iter().any(|uplink| uplink.at.switch == *at);
        let members = state.workloads.values().filter(|workload| workload.network == network.name);
        let mut places = members.flat_map(|w| w.interfaces.iter().filter_map(|i| state.attachment(w, i)));
        uplink || places.any(|place| place.switch == *at)
    };
    let (at, identity) = match owner(state, network, ip) {
        Some((workload, interface)) => {
            let place = state.attachment(workload, interface)?;
            // Whom a kernel VTEP's neighbours know by what they would make of a packet to it.
            let identity = match is_kernel(state, &place.switch) {
                true if packet.value(Field::EthSrc) != interface.mac.to_bits().into() => return None,
                true => located(compiler, switch, network, ip)?,
                false => identity(compiler, &place.switch, &place.port)?,
            };
            (place.switch, identity)
        }
        None if network.gateways.contains(&ip) => return None,
        None => (way_out(state, network, switch)?.at.switch, 1),
    };
    if at == *switch || !present(switch) {
        return None;
    }
    let tunnel = tunnel(network, here, state.switches.get(&at)?)?;
    let outer = match tunnel.far {
        IpAddr::V4(v4) => [u128::from(v4.to_bits()), 0],
        IpAddr::V6(v6) => [0, v6.to_bits()],
    };
    let header = match tunnel.kind {
        TunnelKind::Geneve => packet.value(Field::TunIdentity) == identity,
        TunnelKind::VxlanGbp => packet.value(Field::TunGbp) == identity,
        TunnelKind::Vxlan => true,
    };
    let outer = outer == [Field::TunSrc4, Field::TunSrc6].map(|field| packet.value(field));
    (outer && header && packet.in_port == Port::Name(tunnel.kind.port().into())).then_some(identity)
}

impl Forged {
    /// The packet, and the switch that it comes to.
    fn packet(&self, state: &State, compiler: &Compiler) -> Option<(Name, Packet)> {
        let switches = state.switches.values().filter(|switch| switch.vtep.is_some() && overlay::judges(switch));
        let switches: Vec<_> = switches.collect();
        let workloads: Vec<_> = state.workloads.values().filter(|workload| !workload.interfaces.is_empty()).collect();
        if switches.is_empty() || workloads.is_empty() {
            return None;
        }
        let (here, whose) = (*self.at.get(&switches), *self.whose.get(&workloads));
        let network = &state.networks[&whose.network];
        let interface = self.interface.get(&whose.interfaces);
        let place = state.attachment(whose, interface)?;
        let there = state.switches.get(&place.switch)?;
        let agreed = tunnel(network, here, there);
        // A kernel VTEP writes none.
        let identity = match is_kernel(state, &place.switch) {
            true => 0,
            false => identity(compiler, &place.switch, &place.port)?,
        };
        let mut port = agreed.map_or(overlay::GENEVE_PORT, |tunnel| tunnel.kind.port());
        let mut outer = there.vtep?;
        let mut vni = network.vni.get();
        let (mut option, mut group) = (identity, identity);
        let mut ip = if interface.ips.is_empty() { return None } else { *self.ip.get(&interface.ips) };
        if let Some((field, other)) = self.lie {
            match field {
                0 => outer = IpAddr::from([192, 0, 2, other as u8]),
                1 => vni = other % 4,
                2 => (option, group) = (other.into(), other.into()),
                3 => port = if port == overlay::GENEVE_PORT { overlay::VXLAN_PORT } else { overlay::GENEVE_PORT },
                4 => {
                    ip = match ip {
                        IpAddr::V4(_) => IpAddr::from([10, 0, 0, other as u8 % 20]),
                        IpAddr::V6(_) => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, other as u16 % 20]),
                    }
                }
                // An outsider, of whose identity the header speaks or not.
                _ => {
                    ip = match ip {
                        IpAddr::V4(_) => IpAddr::from([198, 51, 100, 7]),
                        IpAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7]),
                    };
                    (option, group) = if other % 4 == 0 { (option, group) } else { (1, 1) };
                }
            }
        }
        let mut packet = Packet::new(Port::Name(port.into()))
            .with(Field::Vlan, 0u8)
            .with(Field::TunId, vni)
            .with(if port == overlay::GENEVE_PORT { Field::TunIdentity } else { Field::TunGbp }, {
                if port == overlay::GENEVE_PORT { option } else { group }
            })
            .with(Field::EthSrc, interface.mac.to_bits())
            .with(Field::EthDst, 0x0200_0000_0009_u64)
            .with(Field::IpFrag, 0u8)
            .with(Field::IpTtl, 9u8)
            .with(Field::IpProto, ip_proto::TCP)
            .with(Field::L4Src, 40_000u16)
            .with(Field::L4Dst, 443u16);
        match outer {
            IpAddr::V4(v4) => packet.set(Field::TunSrc4, v4.to_bits().into()),
            IpAddr::V6(v6) => packet.set(Field::TunSrc6, v6.to_bits()),
        }
        match ip {
            IpAddr::V4(v4) => {
                packet.set(Field::EthType, ethertype::IPV4);
                packet.set(Field::Ipv4Src, v4.to_bits().into());
                packet.set(Field::Ipv4Dst, Ipv4Addr::new(10, 0, 0, self.to).to_bits().into());
            }
            IpAddr::V6(v6) => {
                packet.set(Field::EthType, ethertype::IPV6);
                packet.set(Field::Ipv6Src, v6.to_bits());
                packet.set(Field::Ipv6Dst, 0xfd00 << 112 | u128::from(self.to));
            }
        }
        Some((here.name.clone(), packet))
    }
}

fn agree_on_forged(states: impl Strategy<Value = State>) {
    let counts = std::cell::Cell::new([0u32; 2]);
    let input = (states, prop::collection::vec(forged(), 40));
    let config = Config { failure_persistence: None, ..Config::default() };
    let cases = config.cases;
    let test = |(state, packets): (State, Vec<Forged>)| {
        let compiler = compile(&state);
        for forged in &packets {
            let Some((switch, packet)) = forged.packet(&state, &compiler) else { continue };
            let wanted = believed(&state, &compiler, &switch, &packet);
            let found = walk(compiler.program(&switch).unwrap(), &mut Fixed(conn::NEW), packet.clone());
            let past = found.steps.iter().any(|step| step.stage == Stage::ArpNd);
            prop_assert_eq!(past, wanted.is_some(), "{:?} at {}: {:#?}\n{:#?}", packet, switch, found, state);
            if past {
                let row = found.steps.iter().find(|step| step.stage == Stage::Antispoof).and_then(|step| step.entry);
                let set = row.and_then(|row| row.actions.first()).cloned();
                prop_assert_eq!(set, wanted.map(|id| Action::set(Field::SrcId, id)));
            } else {
                let named = [Builtin::Tunnel, Builtin::OverlayAntispoof].map(|b| Outcome::Dropped(Cause::Builtin(b)));
                let geneve = overlay::does_geneve(&state.switches[&switch].driver);
                let no_such_port = !geneve && packet.in_port == Tunnel::Geneve.port();
                prop_assert!(named.contains(&found.outcome) || no_such_port, "{:#?}", found);
            }
            if let Outcome::Delivered { port, .. } = &found.outcome {
                prop_assert!(Tunnel::of(port).is_none(), "from tunnel to tunnel: {:#?}", found);
            }
            let mut count = counts.get();
            count[usize::from(past)] += 1;
            counts.set(count);
        }
        Ok(())
    };
    proptest::test_runner::TestRunner::new(config).run(&input, test).unwrap_or_else(|error| panic!("{error}"));
    let [refused, believed] = counts.get();
    assert!(refused.min(believed) >= cases, "{refused} refused, {believed} believed in {cases} cases");
}

#[test]
fn a30_a_senders_switch_network_address_and_identity_belong_together_or_it_is_nobody() {
    agree_on_forged(arbitrary::state());
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    /// Networks have the same subnets here, and many of the same addresses.
    #[test]
    fn a31_whatever_a_workload_sends_stays_in_its_network(
        state in arbitrary::state(),
        packets in prop::collection::vec((any::<Index>(), 0..=20u8, select(&[0u8, 1, 2][..]), select(&[6u8, 17, 1][..])), 16),
    ) {
        let compiler = compile(&state);
        let mut places = Vec::new();
        for workload in state.workloads.values() {
            for interface in &workload.interfaces {
                let at = state.attachment(workload, interface).filter(|at| state.switches.contains_key(&at.switch));
                places.extend(at.map(|at| (workload, interface, at)));
            }
        }
        for (index, to, mac, protocol) in packets.into_iter().filter(|_| !places.is_empty()) {
            let (workload, interface, at) = index.get(&places);
            let Some(IpAddr::V4(source)) = interface.ips.iter().find(|ip| ip.is_ipv4()) else { continue };
            let mac = [GATEWAY_MAC.to_bits(), 0x0200_0000_0000 | u64::from(to), interface.mac.to_bits()][usize::from(mac)];
            let packet = Packet::new(at.port.clone())
                .with(Field::EthSrc, interface.mac.to_bits())
                .with(Field::EthDst, mac)
                .with(Field::Vlan, 0u8)
                .with(Field::EthType, ethertype::IPV4)
                .with(Field::IpFrag, 0u8)
                .with(Field::IpTtl, 9u8)
                .with(Field::IpProto, protocol)
                .with(if protocol == 1 { Field::IcmpType } else { Field::L4Src }, 8u16)
                .with(if protocol == 1 { Field::IcmpCode } else { Field::L4Dst }, 0u16)
                .with(Field::Ipv4Src, source.to_bits())
                .with(Field::Ipv4Dst, Ipv4Addr::new(10, 0, 0, to).to_bits());
            let way = over(&state, &compiler, &at.switch, &at.switch, conn::NEW, packet);
            let Outcome::Delivered { port, .. } = way.outcome() else { continue };
            let at = bulkhead_policy::model::Attachment { switch: way.switch.clone(), port: port.clone() };
            let theirs = state.workload_on(&at).is_some_and(|to| to.network == workload.network);
            let out = state.networks[&workload.network].uplinks.iter().any(|uplink| uplink.at == at);
            prop_assert!(theirs || out, "from {} to {at:?}: {way:#?}", workload.name);
        }
    }
}

/// Network `net` with an uplink and w1 on hv1, w2 on hv2 and w3 on hv3, which has no tunnel; two gateways.
fn fabric(driver: &str, network: &str) -> String {
    let mut text = format!(
        "kind: Network\nmetadata: {{name: net}}\nspec: {{vni: 5001, subnets: [10.0.0.0/24, 10.0.1.0/24, \"fd00::/64\"], \
         defaultAction: allow, gateways: [10.0.0.254, 10.0.1.254, \"fd00::fe\"], uplinks: [{{switch: hv1, port: up, vlan: \
         7}}]{network}}}\n"
    );
    for n in 1..=3 {
        let vtep = if n == 3 { String::new() } else { format!(", vtep: 192.0.2.{n}") };
        let leads = driver == P4 && n != 3;
        let underlay = if leads {
            ", underlay: {mac: \"02:00:00:01:00:00\", routes: [{to: 0.0.0.0/0, via: [{port: 500, mac: \"02:00:00:02:00:00\"}]}]}"
        } else {
            ""
        };
        let driver = driver.replace("{n}", &n.to_string());
        text += &format!("---\nkind: Switch\nmetadata: {{name: hv{n}}}\nspec: {{{driver}{vtep}{underlay}}}\n");
        let subnet = if n == 2 { 1 } else { 0 };
        text += &format!(
            "---\nkind: Workload\nmetadata: {{name: w{n}, labels: {{n: n{n}}}}}\nspec: {{network: net, interfaces: [{{mac: \
             \"02:00:00:00:00:0{n}\", ips: [10.0.{subnet}.{n}, \"fd00::{n}\"], attachment: {{switch: hv{n}, port: w{n}}}}}]}}\n"
        );
    }
    text
}

const OPENFLOW: &str = "driver: openflow, datapathId: \"0x{n}\"";
const P4: &str = "driver: p4runtime, address: \"127.0.0.1:9559\", deviceId: {n}";

fn mac(n: u8) -> u64 {
    Mac([2, 0, 0, 0, 0, n]).to_bits()
}

const ROUTER: u64 = 0x0600_0000_0007;
const ROUTER_IP: u32 = 0x0a00_00fd;

fn arp(op: u8, from: (u64, u32), to: (u64, u32)) -> Packet {
    Packet::new(Port::Number(0))
        .with(Field::EthSrc, from.0)
        .with(Field::EthDst, if op == 1 { 0xffff_ffff_ffff } else { to.0 })
        .with(Field::Vlan, 0u8)
        .with(Field::EthType, ethertype::ARP)
        .with(Field::ArpOp, op)
        .with(Field::ArpSha, from.0)
        .with(Field::ArpSpa, from.1)
        .with(Field::ArpTha, if op == 1 { 0 } else { to.0 })
        .with(Field::ArpTpa, to.1)
}

struct World {
    state: State,
    compiler: Compiler,
}

impl World {
    fn new(documents: &str) -> Self {
        let state = state(documents);
        let compiler = compile(&state);
        Self { state, compiler }
    }

    /// A packet that comes to a switch by a port, with a tag.
    fn send(&self, switch: &str, port: &str, tag: u16, mut packet: Packet) -> Journey<'_> {
        packet.in_port = Port::Name(port.into());
        packet.set(Field::Vlan, tag.into());
        over(&self.state, &self.compiler, &name(switch), &name("hv1"), conn::NEW, packet)
    }
}

/// Where a packet left, and how.
fn left<'a>(journey: &'a Journey<'_>) -> (String, &'a Packet) {
    match journey.outcome() {
        Outcome::Delivered { port, packet } => (format!("{} {port}", journey.switch), packet),
        other => panic!("{other:?}: {journey:#?}"),
    }
}

/// The tag of the uplink.
const TAG: u16 = 0x1007;

#[test]
fn outsiders_are_asked_at_the_uplink_and_answer_to_where_the_question_came_from() {
    for (driver, network) in [(OPENFLOW, ""), (OPENFLOW, ", encap: vxlan"), (P4, ""), (P4, ", encap: vxlan")] {
        let world = World::new(&fabric(driver, network));
        let (w2, router) = ((mac(2), 0x0a00_0102), (ROUTER, ROUTER_IP));
        let way = world.send("hv2", "w2", 0, arp(1, w2, router));
        assert_eq!((left(&way).0.as_str(), left(&way).1.value(Field::Vlan)), ("hv1 up", TAG.into()));
        let way = world.send("hv1", "up", TAG, arp(2, router, w2));
        assert_eq!((left(&way).0.as_str(), left(&way).1.value(Field::ArpSha)), ("hv2 w2", ROUTER.into()));
        // The router asks for the workload: its uplink's switch knows.
        let way = world.send("hv1", "up", TAG, arp(1, router, w2));
        let Outcome::Answered(answer) = way.outcome() else { panic!("{way:#?}") };
        assert_eq!((answer.value(Field::ArpSha), answer.value(Field::Vlan)), (mac(2).into(), TAG.into()));
        // Workloads ask for each other, and are answered where they are.
        let way = world.send("hv2", "w2", 0, arp(1, w2, (0, 0x0a00_0001)));
        let Outcome::Answered(answer) = way.outcome() else { panic!("{way:#?}") };
        assert_eq!((way.walks.len(), answer.value(Field::ArpSha)), (1, mac(1).into()));
        // Nobody asks for who cannot be reached; nor does an outsider answer for a workload.
        let way = world.send("hv2", "w2", 0, arp(1, w2, (0, 0x0a00_0003)));
        assert_eq!(way.outcome(), &Outcome::Dropped(Cause::Builtin(Builtin::Arp)));
        let way = world.send("hv1", "up", TAG, arp(2, (ROUTER, 0x0a00_0001), w2));
        assert_eq!(way.outcome(), &Outcome::Dropped(Cause::Builtin(Builtin::Antispoof)));
        // DHCP goes the same ways.
        let udp = |from: u64, to: u64, ports: [u16; 2], addresses: [u32; 2]| {
            Packet::new(Port::Number(0))
                .with(Field::EthSrc, from)
                .with(Field::EthDst, to)
                .with(Field::EthType, ethertype::IPV4)
                .with(Field::IpFrag, 0u8)
                .with(Field::IpTtl, 64u8)
                .with(Field::IpProto, ip_proto::UDP)
                .with(Field::L4Src, ports[0])
                .with(Field::L4Dst, ports[1])
                .with(Field::Ipv4Src, addresses[0])
                .with(Field::Ipv4Dst, addresses[1])
        };
        let way = world.send("hv2", "w2", 0, udp(mac(2), 0xffff_ffff_ffff, [68, 67], [0, u32::MAX]));
        assert_eq!(left(&way).0, "hv1 up");
        let way = world.send("hv1", "up", TAG, udp(ROUTER, mac(2), [67, 68], [ROUTER_IP, w2.1]));
        assert_eq!(left(&way).0, "hv2 w2");
    }
}

/// A neighbour solicitation of w2, or the advertisement that answers it.
fn neighbour(kind: u8, from: (u64, u128), to: u64, target: u128, option: u64) -> Packet {
    let field = if kind == 135 { Field::NdSll } else { Field::NdTll };
    Packet::new(Port::Number(0))
        .with(Field::EthSrc, from.0)
        .with(Field::EthDst, to)
        .with(Field::EthType, ethertype::IPV6)
        .with(Field::IpFrag, 0u8)
        .with(Field::IpTtl, 255u8)
        .with(Field::IpProto, ip_proto::ICMPV6)
        .with(Field::IcmpType, kind)
        .with(Field::IcmpCode, 0u8)
        .with(Field::Ipv6Src, from.1)
        .with(Field::Ipv6Dst, target)
        .with(Field::NdTarget, target)
        .with(Field::NdOption, if kind == 135 { 1u8 } else { 2 })
        .with(field, option)
}

#[test]
fn neighbours_are_found_across_the_fabric_and_nobody_speaks_for_another() {
    let world = World::new(&fabric(OPENFLOW, ""));
    let address = |n: u128| 0xfd << 120 | n;
    let group = 0x3333_ff00_00fd;
    let way = world.send("hv2", "w2", 0, neighbour(135, (mac(2), address(2)), group, address(0xfd), mac(2)));
    assert_eq!(left(&way).0, "hv1 up");
    let way = world.send("hv1", "up", TAG, neighbour(136, (ROUTER, address(0xfd)), mac(2), address(0xfd), ROUTER));
    assert_eq!(left(&way).0, "hv2 w2");
    let way = world.send("hv1", "up", TAG, neighbour(136, (ROUTER, address(0xfd)), mac(2), address(1), ROUTER));
    assert_eq!(way.outcome(), &Outcome::Dropped(Cause::Builtin(Builtin::Antispoof)));
    // A switch of the fabric that went over to the enemy says so of another, or asks with another's address.
    let tunnelled = |packet: Packet, identity: u8| {
        let packet = packet.with(Field::TunId, 5001u16).with(Field::TunIdentity, identity);
        let from = if identity == 1 { 0xc000_0201_u32 } else { 0xc000_0202 };
        packet.with(Field::TunSrc4, from)
    };
    let lie = tunnelled(neighbour(136, (ROUTER, address(0xfd)), mac(2), address(1), ROUTER), 1);
    let way = world.send("hv2", "bh-geneve", 0, lie);
    assert_eq!(way.outcome(), &Outcome::Dropped(Cause::Builtin(Builtin::OverlayAntispoof)));
    let id = identity(&world.compiler, &name("hv2"), &Port::Name("w2".into())).unwrap() as u8;
    for (option, passes) in [(mac(2), true), (0, true), (mac(1), false)] {
        let ask = tunnelled(neighbour(135, (mac(2), address(2)), group, address(0xfd), option), id);
        let way = world.send("hv1", "bh-geneve", 0, ask);
        assert_eq!(way.is_delivered(), passes, "{way:#?}");
    }
}

fn icmp(from: u64, to: u64, addresses: [u32; 2], ttl: u8) -> Packet {
    Packet::new(Port::Number(0))
        .with(Field::EthSrc, from)
        .with(Field::EthDst, to)
        .with(Field::EthType, ethertype::IPV4)
        .with(Field::IpFrag, 0u8)
        .with(Field::IpTtl, ttl)
        .with(Field::IpProto, ip_proto::ICMP)
        .with(Field::IcmpType, 8u8)
        .with(Field::IcmpCode, 0u8)
        .with(Field::Ipv4Src, addresses[0])
        .with(Field::Ipv4Dst, addresses[1])
}

#[test]
fn gateways_answer_everywhere_and_route() {
    let world = World::new(&fabric(OPENFLOW, ""));
    let gateway = GATEWAY_MAC.to_bits();
    for (switch, port, n, source) in [("hv1", "w1", 1, 0x0a00_0001_u32), ("hv2", "w2", 2, 0x0a00_0102)] {
        for asked in [0x0a00_00fe_u32, 0x0a00_01fe] {
            let way = world.send(switch, port, 0, arp(1, (mac(n), source), (0, asked)));
            let Outcome::Answered(answer) = way.outcome() else { panic!("{way:#?}") };
            assert_eq!(answer.value(Field::ArpSha), gateway.into());
            // A ping with one hop to go has arrived.
            let way = world.send(switch, port, 0, icmp(mac(n), gateway, [source, asked], 1));
            let Outcome::Answered(answer) = way.outcome() else { panic!("{way:#?}") };
            let fields = [Field::EthDst, Field::Ipv4Src, Field::Ipv4Dst, Field::IcmpType, Field::IpTtl];
            assert_eq!(fields.map(|field| answer.value(field)), [mac(n).into(), asked.into(), source.into(), 0, 64]);
        }
        let solicit =
            neighbour(135, (mac(n), 0xfd << 120 | u128::from(n)), 0x3333_ff00_00fe, 0xfd << 120 | 0xfe, mac(n));
        let way = world.send(switch, port, 0, solicit);
        let Outcome::Answered(answer) = way.outcome() else { panic!("{way:#?}") };
        assert_eq!((answer.value(Field::IcmpType), answer.value(Field::EthSrc)), (136, gateway.into()));
    }
    // Anything else to a gateway, and an outsider's question, comes to nothing.
    let way =
        world.send("hv1", "w1", 0, icmp(mac(1), gateway, [0x0a00_0001, 0x0a00_00fe], 9).with(Field::IpProto, 6u8));
    assert_eq!(way.outcome(), &Outcome::Dropped(Cause::Builtin(Builtin::Gateway)));
    let way = world.send("hv1", "up", TAG, arp(1, (ROUTER, ROUTER_IP), (0, 0x0a00_00fe)));
    assert_eq!(way.outcome(), &Outcome::Dropped(Cause::Builtin(Builtin::Arp)));
}

#[test]
fn what_does_not_fit_the_underlay_is_told_to_its_sender() {
    let base = fabric(OPENFLOW, "");
    let mut world = World::new(&base);
    let ping = |length: u32| {
        let mut packet = icmp(mac(1), mac(2), [0x0a00_0001, 0x0a00_0102], 9);
        packet.length = length;
        packet
    };
    // Geneve with its option over IPv4 leaves 58 bytes less.
    assert_eq!(left(&world.send("hv1", "w1", 0, ping(1442 + 14))).0, "hv2 w2");
    let told = |mtu| Outcome::TooBig { cause: Cause::Builtin(Builtin::Mtu), mtu };
    assert_eq!(world.send("hv1", "w1", 0, ping(1442 + 15)).outcome(), &told(1442));
    let host = r#"{"kind": "Host", "metadata": {"name": "hv1"}, "spec": {"underlayMtu": 9000}}"#;
    let change = [bulkhead_policy::Change::set(bulkhead_types::load(host).unwrap())];
    common::apply(&mut world.state, &mut world.compiler, &change).unwrap();
    assert_eq!(left(&world.send("hv1", "w1", 0, ping(8942 + 14))).0, "hv2 w2");
    assert_eq!(world.send("hv1", "w1", 0, ping(8942 + 15)).outcome(), &told(8942));
    let over_v6 = World::new(&base.replace("192.0.2.", "2001:db8::"));
    assert_eq!(over_v6.send("hv1", "w1", 0, ping(1422 + 15)).outcome(), &told(1422));
}

#[test]
fn probes_of_known_vteps_are_told_of_and_what_no_network_owns_is_counted() {
    for (network, port, other) in [("", "bh-geneve", "bh-vxlan"), (", encap: vxlan", "bh-vxlan", "bh-geneve")] {
        let world = World::new(&fabric(OPENFLOW, network));
        let probe =
            |from: u32| Packet::new(Port::Number(0)).with(Field::EthType, PROBE_ETHERTYPE).with(Field::TunSrc4, from);
        let (here, there) = (0xc000_0201, 0xc000_0202);
        let counted = Outcome::Dropped(Cause::Builtin(Builtin::Tunnel));
        let way = world.send("hv1", port, 0, probe(there));
        assert_eq!(way.outcome(), &Outcome::Probe(Cause::Builtin(Builtin::Probe)));
        for (port, strange) in [
            // Who has no tunnel to it would only keep others from being heard (A19).
            (port, probe(0xc000_0263)),
            (port, probe(here)),
            (other, probe(there)),
            (port, probe(there).with(Field::TunId, 5002u16)),
        ] {
            assert_eq!(world.send("hv1", port, 0, strange).outcome(), &counted);
        }
    }
}

/// Outsiders would fill the trackers of uplinks' switches with what nobody has judged.
#[test]
fn a_switch_between_an_uplink_and_a_tunnel_tracks_nothing_and_drops_fragments() {
    for (driver, network) in [(OPENFLOW, ""), (OPENFLOW, ", encap: vxlan"), (P4, ""), (P4, ", encap: vxlan")] {
        let world = World::new(&fabric(driver, network));
        let (router, w2) = (0xc633_6407, 0x0a00_0102);
        let inwards = || icmp(ROUTER, mac(2), [router, w2], 9);
        let outwards = || icmp(mac(2), ROUTER, [w2, router], 9);
        let (inward, outward) = (world.send("hv1", "up", TAG, inwards()), world.send("hv2", "w2", 0, outwards()));
        for (way, at, place) in [(&inward, 0, "hv2 w2"), (&outward, 1, "hv1 up")] {
            assert_eq!(left(way).0, place);
            let tracks = way.walks.iter().map(|walk| walk.steps.iter().any(|step| step.stage == Stage::Connection));
            assert_eq!(tracks.collect::<Vec<_>>(), [at == 1, at == 0], "{way:#?}");
        }
        let fragment = world.send("hv1", "up", TAG, inwards().with(Field::IpFrag, 1u8));
        assert_eq!(fragment.outcome(), &Outcome::Dropped(Cause::Builtin(Builtin::Fragment)));
        // What comes from outside by a tunnel is an answer if its own switch says so.
        let reply = |mut packet: Packet| {
            packet.in_port = Port::Name("up".into());
            packet.set(Field::Vlan, TAG.into());
            let ends = [&name("hv1"), &name("hv2")];
            over_each(&world.state, &world.compiler, ends, [conn::NEW, conn::TRK | conn::EST | conn::RPL], packet)
        };
        let pong = reply(inwards().with(Field::IcmpType, 0u8));
        assert_eq!(left(&pong).0, "hv2 w2");
        assert!(pong.steps().any(|step| step.entry.is_some_and(|entry| entry.cause == Cause::Builtin(Builtin::Reply))));
    }
}

#[test]
fn an_identity_that_the_header_has_no_room_for_is_refused() {
    let next = |number: u32| [("next/identity".into(), number)].into_iter().collect::<Numbers>();
    let documents = state(&fabric(P4, ", encap: vxlan"));
    assert!(Compiler::new(&documents, next(0xfffd)).is_ok());
    let refused = Compiler::new(&documents, next(0x1_0000)).unwrap_err();
    let what = "identity of n=n2 (workload w2) of network net in the group-policy id of VXLAN from switch hv2 to switch hv1: 65537";
    assert!(refused.to_string().starts_with(what), "{refused}");
    // Geneve has room, and plain VXLAN says nothing of it.
    assert!(Compiler::new(&state(&fabric(OPENFLOW, ", encap: vxlan")), next(0x1_0000)).is_ok());
}

/// `count` switches; network `a` is on the first ten, `b` on the others; `each` workloads of one label set on each.
fn many(count: u16, each: u16) -> String {
    let mut text = String::new();
    for (vni, network) in ["a", "b"].into_iter().enumerate() {
        text += &format!(
            "---\nkind: Network\nmetadata: {{name: {network}}}\nspec: {{vni: {}, subnets: [10.0.0.0/8]}}\n",
            vni + 1
        );
    }
    for switch in 0..count {
        text += &format!(
            "---\nkind: Switch\nmetadata: {{name: s{switch}}}\nspec: {{driver: openflow, datapathId: \"{:#x}\", vtep: 192.0.2.{}}}\n",
            switch + 1,
            switch + 1
        );
        (0..each).for_each(|n| text += &one(switch, n));
    }
    text
}

fn one(switch: u16, n: u16) -> String {
    let network = if switch < 10 { "a" } else { "b" };
    format!(
        "---\nkind: Workload\nmetadata: {{name: w-{switch}-{n}, labels: {{app: x}}}}\nspec: {{network: {network}, interfaces: \
         [{{mac: \"02:00:00:{switch:02x}:00:{n:02x}\", ips: [10.{switch}.0.{n}], attachment: {{switch: s{switch}, port: p{n}}}}}]}}\n"
    )
}

/// Entries that an address of a workload costs on another switch without an uplink: answered for, found, believed.
const ELSEWHERE: usize = 3;

/// Entries that another switch of its network costs it: its probes are listened to.
const PEER: usize = 1;

#[test]
fn a_workload_costs_the_same_few_entries_on_the_switches_of_its_network_and_none_elsewhere() {
    let mut world = World::new(&many(50, 3));
    let change = changes(&one(4, 99));
    let mut after = world.state.clone();
    after.apply(&change);
    let compiled = world.compiler.apply(&change).unwrap();
    let at: Vec<_> = compiled.deltas.keys().map(Name::as_str).collect();
    assert_eq!(at, (0..10).map(|n| format!("s{n}")).collect::<Vec<_>>());
    for (switch, delta) in &compiled.deltas {
        assert_eq!(delta.remove, []);
        if switch.as_str() != "s4" {
            assert_eq!(delta.add.len(), ELSEWHERE, "{switch}: {:#?}", delta.add);
        }
    }
    let local = compiled.deltas[&name("s4")].add.len();
    assert_eq!(local, 13, "{:#?}", compiled.deltas[&name("s4")].add);
    // What a switch holds follows from its own networks, whatever else the fabric has.
    let size = |world: &World, switch: &str| world.compiler.program(&name(switch)).unwrap().len();
    let (small, large) = (World::new(&many(20, 3)), World::new(&many(60, 3)));
    assert_eq!(size(&small, "s5"), size(&large, "s5"));
    assert_eq!(size(&large, "s30") - size(&small, "s15"), 40 * (3 * ELSEWHERE + PEER));
}

/// What two switches hold beside what every switch does.
#[test]
fn goldens() {
    let documents = fabric(OPENFLOW, "");
    let world = World::new(&documents);
    let bare = World::new("kind: Switch\nmetadata: {name: hv1}\nspec: {driver: sim}\n");
    for switch in ["hv1", "hv2"] {
        let text =
            |world: &World, switch| bulkhead_pipeline::render_program(world.compiler.program(&name(switch)).unwrap());
        let found = common::difference(&text(&bare, "hv1"), &text(&world, switch));
        common::golden(&format!("overlay-{switch}"), &found);
    }
}
