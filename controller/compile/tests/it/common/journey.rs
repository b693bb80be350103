//! A packet's way over a fabric, from the port that it comes in by to the one that it leaves by.

// Every test file uses a part of it.
#![allow(dead_code)]

use bulkhead_compile::Compiler;
use bulkhead_pipeline::{
    Action, Builtin, Cause, Entry, Field, Memory, Outcome, Packet, Program, Stage, Step, Tracker, Walk, carry,
    ethertype, ip_proto,
    overlay::{Tunnel, arrive},
    vlan, walk, walk_stateless,
};
use bulkhead_policy::{
    Flow, Service, State,
    model::{Attachment, Direction, FabricPort, Interface, Network, Passage, Switch, Uplink, Workload},
    overlay::{carries, judges, tunnel},
    vtep::{Carried, forwarding},
};
use bulkhead_topology::{Mac, Name, Port};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A source port that nothing is said about.
const EPHEMERAL: u16 = 40_000;

/// A tracker that gives every packet the same answer.
pub struct Fixed(pub u128);

impl Tracker for Fixed {
    fn track(&mut self, _: u16, _: &Packet) -> (u128, Memory) {
        (self.0, Memory::default())
    }
    fn commit(&mut self, _: u16, _: &Packet, _: Memory) {}
}

/// Where a packet of a flow enters or leaves a switch.
#[derive(Debug)]
pub struct Place {
    pub at: Attachment,
    pub vlan: u16,
    pub mac: u64,
}

pub fn interface(workload: &Workload, ip: IpAddr) -> Option<&Interface> {
    workload.interfaces.iter().find(|interface| interface.ips.contains(&ip))
}

pub fn workload<'a>(state: &'a State, name: Option<&Name>) -> Option<&'a Workload> {
    name.and_then(|name| state.workloads.get(name)).map(|workload| &**workload)
}

/// Whether a switch is a VTEP and no more.
pub fn is_kernel(state: &State, switch: &Name) -> bool {
    state.switches.get(switch).is_some_and(|switch| !judges(switch))
}

/// Whether a switch remembers connections.
pub fn remembers(state: &State, switch: &Name) -> bool {
    state.switches.get(switch).is_none_or(|switch| switch.driver.remembers())
}

/// Whether packets of a network get from one switch to another, or stay on one.
fn linked(state: &State, network: &Network, a: &Name, b: &Name) -> bool {
    match (state.switches.get(a), state.switches.get(b)) {
        (Some(from), Some(to)) if a == b => judges(from) || tunnel(network, from, to).is_some(),
        (Some(from), Some(to)) => tunnel(network, from, to).is_some() || (has_links(state, a) && has_links(state, b)),
        _ => false,
    }
}

/// Whether packets pass between two switches that have links or tunnels, or are one.
fn passes(state: &State, a: &Name, b: &Name) -> bool {
    if a == b || state.switches[a].vtep.is_some() {
        return true;
    }
    let (mut seen, mut stack) = (BTreeSet::new(), vec![a.clone()]);
    while let Some(at) = stack.pop() {
        if seen.insert(at.clone()) {
            stack.extend(
                cables(state)
                    .into_iter()
                    .filter(|(near, _, up)| *up && near.switch == at)
                    .map(|(_, far, _)| far.switch),
            );
        }
    }
    seen.contains(b)
}

fn has_links(state: &State, switch: &Name) -> bool {
    cables(state).iter().any(|(near, ..)| near.switch == *switch)
}

/// What is known of a port, whatever it is called.
fn known<'a>(state: &'a State, at: &Attachment) -> Option<&'a FabricPort> {
    let called = |port: &&FabricPort| at.port == Port::Name(port.name.clone()) || at.port == Port::Number(port.number);
    state.adjacencies.get(&at.switch)?.ports.iter().find(called)
}

/// A port by its name, if that is known.
fn by_name(state: &State, at: &Attachment) -> Attachment {
    let port = known(state, at).map_or_else(|| at.port.clone(), |known| Port::Name(known.name.clone()));
    Attachment { switch: at.switch.clone(), port }
}

/// What is said to be at the other end of each port that leads to a switch: what links say, and what is heard.
fn said(state: &State) -> BTreeSet<(Attachment, Attachment)> {
    let declared =
        state.links.values().flat_map(|link| [(link.a.clone(), link.b.clone()), (link.b.clone(), link.a.clone())]);
    let heard = state.adjacencies.values().flat_map(|adjacency| {
        let port = |port: &FabricPort| {
            let at = Attachment { switch: adjacency.name.clone(), port: Port::Name(port.name.clone()) };
            Some((at, port.heard.clone()?))
        };
        adjacency.ports.iter().filter_map(port)
    });
    declared.chain(heard).map(|(near, far)| (by_name(state, &near), by_name(state, &far))).collect()
}

/// Each end of each link that is used, the other one, and whether packets pass: both ends are switches without VTEP
/// addresses, at ports that nobody else has, of which nothing else is said.
pub fn cables(state: &State) -> Vec<(Attachment, Attachment, bool)> {
    let all = said(state);
    let mut taken: BTreeSet<Attachment> = BTreeSet::new();
    for workload in state.workloads.values() {
        let at = workload.interfaces.iter().filter_map(|interface| state.attachment(workload, interface));
        taken.extend(at.map(|at| by_name(state, &at)));
    }
    let uplinks = state.networks.values().flat_map(|network| &network.uplinks);
    taken.extend(uplinks.map(|uplink| by_name(state, &uplink.at)));
    let carries = |at: &Attachment| state.switches.get(&at.switch).is_some_and(|switch| carries(switch));
    let of = |near: &Attachment| all.iter().filter(|(end, _)| end == near).map(|(_, far)| far).collect::<Vec<_>>();
    let both = |end: &Attachment| known(state, end).is_none_or(|known| known.passes == Passage::Both);
    // Where both ends would have been heard, both have been.
    let probed = |end: &Attachment| state.switches.get(&end.switch).is_some_and(|switch| switch.probes());
    let heard = |end: &Attachment| known(state, end).is_some_and(|known| known.heard.is_some());
    let agreed = all.iter().filter(|(near, far)| {
        let fits = |at| carries(at) && !taken.contains(at);
        near.switch != far.switch && fits(near) && fits(far) && of(near) == [far] && of(far) == [near]
    });
    let up = |near: &Attachment, far: &Attachment| {
        let is_heard = !(probed(near) && probed(far)) || heard(near) && heard(far);
        is_heard && both(near) && both(far)
    };
    agreed.map(|(near, far)| (near.clone(), far.clone(), up(near, far))).collect()
}

/// Where outsiders are found from a switch: at its own first uplink, or the first of a switch that it reaches, now if there
/// is one.
pub fn way_out(state: &State, network: &Network, switch: &Name) -> Option<Place> {
    // Nobody judges what goes by an uplink of a kernel VTEP.
    let uplinks = network.uplinks.iter().filter(|uplink| !is_kernel(state, &uplink.at.switch));
    let own = uplinks.clone().find(|uplink| uplink.at.switch == *switch);
    let linked = |uplink: &&Uplink| linked(state, network, switch, &uplink.at.switch);
    let now = || uplinks.clone().filter(linked).find(|uplink| passes(state, switch, &uplink.at.switch));
    let other = || now().or_else(|| uplinks.clone().find(linked));
    own.or_else(other).map(|uplink| Place { at: uplink.at.clone(), vlan: uplink.vlan, mac: 0x0600_0000_0001 })
}

/// The places where a flow enters and leaves, if there are any.
pub fn places(state: &State, flow: &Flow) -> Option<[Place; 2]> {
    let network = state.networks.get(&flow.network)?;
    let (from, to) = (workload(state, flow.from.workload.as_ref()), workload(state, flow.to.workload.as_ref()));
    if from.is_some() && flow.from.workload == flow.to.workload {
        return None;
    }
    let inside = |workload: &Workload, ip| {
        let interface = interface(workload, ip)?;
        Some(Place { at: state.attachment(workload, interface)?, vlan: 0, mac: interface.mac.to_bits() })
    };
    let ends = match (from, to) {
        (Some(from), Some(to)) => [inside(from, flow.from.ip)?, inside(to, flow.to.ip)?],
        (Some(from), None) => {
            let from = inside(from, flow.from.ip)?;
            let out = way_out(state, network, &from.at.switch)?;
            [from, out]
        }
        (None, Some(to)) => {
            let to = inside(to, flow.to.ip)?;
            [way_out(state, network, &to.at.switch)?, to]
        }
        (None, None) => return None,
    };
    // A subnet's broadcast address is nobody's, and a gateway's is no outsider's.
    let nobody = |ip: IpAddr| {
        let ends = |net: &bulkhead_topology::IpNet| {
            let (bits, mask) = net.to_bits();
            net.contains(ip) && matches!(ip, IpAddr::V4(v4) if u128::from(v4.to_bits()) == bits | !mask & 0xffff_ffff)
        };
        network.subnets.iter().any(ends) || network.gateways.contains(&ip)
    };
    (!nobody(flow.to.ip) && !nobody(flow.from.ip) && state.switches.contains_key(&ends[0].at.switch)).then_some(ends)
}

/// Whether there is a way between the two places.
pub fn connected(state: &State, flow: &Flow, [from, to]: &[Place; 2]) -> bool {
    let network = &state.networks[&flow.network];
    let (from, to) = (&from.at.switch, &to.at.switch);
    linked(state, network, from, to) && passes(state, from, to)
}

/// The identity that a switch gives to what comes by a port.
pub fn identity(compiler: &Compiler, switch: &Name, port: &Port) -> Option<u128> {
    let mut door = compiler.program(switch)?.stage(Stage::Classify);
    let door = door.find(|entry| entry.key.matches.in_port.as_ref() == Some(port) && entry.key.priority == 100)?;
    door.actions.iter().find_map(|action| match action {
        Action::Set(Field::SrcId, identity) => Some(identity.get()),
        _ => None,
    })
}

/// The identity that a switch finds for an address elsewhere.
pub fn located(compiler: &Compiler, switch: &Name, network: &Network, ip: IpAddr) -> Option<u128> {
    let (field, bits) = match ip {
        IpAddr::V4(v4) => (Field::Ipv4Dst, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (Field::Ipv6Dst, v6.to_bits()),
    };
    let vni = Action::set(Field::TunId, network.vni.get().into());
    let mut found = compiler.program(switch)?.stage(Stage::Locate);
    let of = |entry: &&Entry| {
        entry.actions.contains(&vni) && entry.key.matches.fields().any(|(of, value, _)| (of, value) == (field, bits))
    };
    found.find(of)?.actions.iter().find_map(|action| match action {
        Action::Set(Field::DstId, identity) => Some(identity.get()),
        _ => None,
    })
}

/// What became of a packet on each switch that it came to.
#[derive(Debug)]
pub struct Journey<'a> {
    pub walks: Vec<Walk<'a>>,
    /// The switch that it came to last.
    pub switch: Name,
    /// Where its destination is.
    to: Name,
    /// That is a kernel VTEP: the switch before it judges.
    guest: bool,
    /// What became of it at a kernel VTEP.
    end: Option<Outcome>,
}

impl<'a> Journey<'a> {
    pub fn outcome(&self) -> &Outcome {
        self.end.as_ref().unwrap_or_else(|| &self.walks.last().unwrap().outcome)
    }

    pub fn is_delivered(&self) -> bool {
        matches!(self.outcome(), Outcome::Delivered { port, .. } if Tunnel::of(port).is_none())
    }

    /// Whether it left at a place, with the place's tag.
    pub fn is_at(&self, place: &Place) -> bool {
        let Outcome::Delivered { port, packet } = self.outcome() else { return false };
        self.switch == place.at.switch && *port == place.at.port && packet.get(Field::Vlan) == Some(tag(place))
    }

    /// The walk on the switch that judges a side, if it got there.
    pub fn side(&self, direction: Direction) -> Option<&Walk<'a>> {
        match direction {
            Direction::Egress => self.walks.first(),
            Direction::Ingress => self.walks.last().filter(|_| self.switch == self.to || self.guest),
        }
    }

    pub fn steps(&self) -> impl Iterator<Item = &Step<'a>> {
        self.walks.iter().flat_map(|walk| &walk.steps)
    }
}

/// The switch that a packet goes to which left by an overlay port.
fn far<'a>(state: &'a State, packet: &Packet) -> Option<&'a Switch> {
    let to = match (packet.value(Field::TunDst4), packet.value(Field::TunDst6)) {
        (v4, 0) => IpAddr::V4(Ipv4Addr::from(v4 as u32)),
        (0, v6) => IpAddr::V6(Ipv6Addr::from(v6)),
        both => panic!("two ends: {both:?}"),
    };
    state.switches.values().find(|switch| switch.vtep == Some(to)).map(|switch| &**switch)
}

/// What becomes of what a kernel VTEP knows nothing of.
const NOWHERE: Outcome = Outcome::Dropped(Cause::Builtin(Builtin::Tunnel));

/// The network of a kernel VTEP that an interface is plugged into.
fn carried(state: &State, switch: &Name, of: impl Fn(&Carried) -> bool) -> Option<Carried> {
    forwarding(state, switch)?.networks.into_values().find(of)
}

/// What a kernel VTEP sends, and to where: what comes by a port of its own from the address that is there, to who is
/// known elsewhere, or else to the way out; and never to another port.
fn carried_out(state: &State, switch: &Name, packet: Packet) -> Option<(IpAddr, Packet)> {
    let carried = carried(state, switch, |carried| carried.ports.contains_key(&packet.in_port))?;
    let [from, to] = [Field::EthSrc, Field::EthDst].map(|field| packet.value(field));
    let is = |mac: &Mac, value: u128| u128::from(mac.to_bits()) == value;
    if !carried.ports[&packet.in_port].iter().any(|mac| is(mac, from)) {
        return None;
    }
    if carried.ports.values().flatten().any(|mac| is(mac, to)) {
        return None;
    }
    let vtep = carried.far.iter().find(|far| is(&far.mac, to)).map(|far| far.vtep).or(carried.way_out)?;
    Some((vtep, packet.with(Field::TunId, carried.vni.get())))
}

/// What a kernel VTEP makes of a packet for one of its own.
fn carried_in(state: &State, switch: &Name, packet: Packet) -> Option<Outcome> {
    let vni = packet.value(Field::TunId);
    let carried = carried(state, switch, |carried| u128::from(carried.vni.get()) == vni)?;
    let to = packet.value(Field::EthDst);
    let port = carried.ports.into_iter().find(|(_, macs)| macs.iter().any(|mac| u128::from(mac.to_bits()) == to));
    port.map(|(port, _)| Outcome::Delivered { port, packet: packet.into() })
}

/// Sends a packet on its way between two places; every tracker on it says `conn`.
pub fn travel<'a>(
    state: &State,
    compiler: &'a Compiler,
    [from, to]: [&Place; 2],
    conn: u128,
    packet: Packet,
) -> Journey<'a> {
    over(state, compiler, &from.at.switch, &to.at.switch, conn, packet)
}

/// Sends a packet on its way from a switch; every tracker on it says `conn`.
pub fn over<'a>(
    state: &State,
    compiler: &'a Compiler,
    from: &Name,
    to: &Name,
    conn: u128,
    packet: Packet,
) -> Journey<'a> {
    over_each(state, compiler, [from, to], [conn; 2], packet)
}

/// Sends a packet on its way from a switch; `conn` is what the trackers of the first and the second say.
pub fn over_each<'a>(
    state: &State,
    compiler: &'a Compiler,
    ends: [&Name; 2],
    [first, second]: [u128; 2],
    packet: Packet,
) -> Journey<'a> {
    let programs = |switch: &Name| compiler.program(switch);
    over_with(state, &programs, ends, [&mut Fixed(first), &mut Fixed(second)], packet)
}

/// Sends a packet on its way from a switch; these are the trackers of the first and the second that judge it.
pub fn over_with<'a>(
    state: &State,
    programs: &dyn Fn(&Name) -> Option<&'a Program>,
    [from, to]: [&Name; 2],
    trackers: [&mut dyn Tracker; 2],
    mut packet: Packet,
) -> Journey<'a> {
    let mut journey =
        Journey { walks: Vec::new(), switch: from.clone(), to: to.clone(), guest: is_kernel(state, to), end: None };
    if is_kernel(state, from) {
        let Some((vtep, sent)) = carried_out(state, from, packet) else {
            journey.end = Some(NOWHERE);
            return journey;
        };
        packet = arrive(&sent, Tunnel::Vxlan.port(), state.switches[from].vtep.unwrap());
        journey.switch = state.switches.values().find(|switch| switch.vtep == Some(vtep)).unwrap().name.clone();
    }
    let mut hops = 0;
    loop {
        let program = programs(&journey.switch).unwrap();
        let found = match remembers(state, &journey.switch) {
            true => walk(program, trackers[journey.walks.len()], packet),
            false => walk_stateless(program, packet),
        };
        let outcome = found.outcome.clone();
        journey.walks.push(found);
        let Outcome::Delivered { port, packet: sent } = outcome else { return journey };
        let end = by_name(state, &Attachment { switch: journey.switch.clone(), port: port.clone() });
        if let Some((_, next, _)) = cables(state).into_iter().find(|(near, _, up)| *up && *near == end) {
            hops += 1;
            assert!(hops <= 2 * state.switches.len(), "in a circle: {journey:#?}");
            // Who only carries it on has nothing to say about it.
            if journey.walks.last().unwrap().steps.iter().any(|step| step.stage == Stage::Carry)
                && journey.walks.last().unwrap().steps.len() == 2
            {
                journey.walks.pop();
            }
            packet = carry::arrive(&sent, next.port);
            journey.switch = next.switch;
            continue;
        }
        if Tunnel::of(&port).is_none() {
            return journey;
        }
        assert!(journey.walks.len() < 2, "from tunnel to tunnel: {journey:#?}");
        let Some(next) = far(state, &sent) else { return journey };
        if !judges(next) {
            assert_eq!(port, Tunnel::Vxlan.port());
            journey.switch = next.name.clone();
            journey.end = Some(carried_in(state, &next.name, *sent).unwrap_or(NOWHERE));
            return journey;
        }
        packet = arrive(&sent, port, state.switches[&journey.switch].vtep.unwrap());
        journey.switch = next.name.clone();
    }
}

/// What [`Field::Vlan`] is there.
pub fn tag(place: &Place) -> u128 {
    if place.vlan == 0 { 0 } else { vlan::PRESENT | u128::from(place.vlan) }
}

/// A packet of a flow: its first one, or (`reply`) the first answer to it; `None` if nothing answers it.
pub fn packet(flow: &Flow, [from, to]: &[Place; 2], reply: bool) -> Option<Packet> {
    let (from, to, source, destination) = match reply {
        false => (from, to, flow.from.ip, flow.to.ip),
        true => (to, from, flow.to.ip, flow.from.ip),
    };
    let mut packet = Packet::new(from.at.port.clone())
        .with(Field::EthSrc, from.mac)
        .with(Field::EthDst, to.mac)
        .with(Field::Vlan, tag(from))
        .with(Field::IpFrag, 0u8)
        .with(Field::IpTtl, 64u8)
        .with(Field::IpProto, flow.service.protocol());
    match (source, destination) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            packet.set(Field::EthType, ethertype::IPV4);
            packet.set(Field::Ipv4Src, a.to_bits().into());
            packet.set(Field::Ipv4Dst, b.to_bits().into());
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            packet.set(Field::EthType, ethertype::IPV6);
            packet.set(Field::Ipv6Src, a.to_bits());
            packet.set(Field::Ipv6Dst, b.to_bits());
        }
        _ => return None,
    }
    match flow.service {
        Service::Port { port, .. } => {
            let (a, b) = if reply { (port, EPHEMERAL) } else { (EPHEMERAL, port) };
            packet.set(Field::L4Src, a.into());
            packet.set(Field::L4Dst, b.into());
            // SYN, and SYN with ACK; SCTP's INIT and INIT ACK.
            packet.control = match (flow.service.protocol().into(), reply) {
                (ip_proto::TCP, false) => 2,
                (ip_proto::TCP, true) => 18,
                (ip_proto::SCTP, _) => 1 + u8::from(reply),
                _ => 0,
            };
        }
        Service::Icmp { protocol, icmp_type, code } => {
            let icmp_type = match (u128::from(protocol), icmp_type, code, reply) {
                (_, kind, _, false) => kind,
                (ip_proto::ICMP, 8, 0, true) => 0,
                (ip_proto::ICMP, 13, 0, true) => 14,
                (ip_proto::ICMPV6, 128, 0, true) => 129,
                _ => return None,
            };
            packet.set(Field::IcmpType, icmp_type.into());
            packet.set(Field::IcmpCode, code.into());
        }
        Service::Protocol(_) => {}
    }
    Some(packet)
}
