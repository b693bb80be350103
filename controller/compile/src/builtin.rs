//! The entries that no policy asks for: the pipeline's own, a switch's, a network's and a workload's.

mod carry;
mod gateway;
mod learn;
mod network;
mod overlay;
mod pipeline;
mod remote;
mod spread;
mod workload;

pub(crate) use carry::{cables, way};
pub(crate) use network::network;
pub(crate) use overlay::{overlay, peer};
pub(crate) use pipeline::pipeline;
pub(crate) use spread::spread;
pub(crate) use workload::workload;

use crate::fabric::{Fabric, Transport, WayOut};
use bulkhead_pipeline::{
    Action, Builtin, Cause, Entry, Field, Match, Next, Stage,
    carry::{CARRIED, edge, source},
    ethertype, ip_proto,
};
use bulkhead_policy::model::Network;
use bulkhead_topology::{Mac, Name, Port};
use std::net::{IpAddr, Ipv6Addr};

pub(crate) use bulkhead_pipeline::identity::EXTERNAL;

const IP: [u128; 2] = [ethertype::IPV4, ethertype::IPV6];
const BROADCAST: u128 = 0xffff_ffff_ffff;
/// All DHCPv6 servers (RFC 8415 §7.1), and their Ethernet address (RFC 2464 §7).
const DHCPV6_SERVERS: (Ipv6Addr, u128) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2), 0x3333_0001_0002);
/// Neighbour advertisement flags: solicited and override (RFC 4861 §4.4).
const SOLICITED_OVERRIDE: u128 = 0x6000_0000;

fn ip(kind: u128) -> Match {
    Match::any().with(Field::EthType, kind)
}

fn proto(kind: u128, protocol: u128) -> Match {
    ip(kind).with(Field::IpProto, protocol)
}

/// The protocol number of ICMP in a family.
fn icmp(kind: u128) -> u128 {
    if kind == ethertype::IPV4 { ip_proto::ICMP } else { ip_proto::ICMPV6 }
}

/// The ICMP types of an echo request and of its reply.
fn request(kind: u128) -> u128 {
    if kind == ethertype::IPV4 { 8 } else { 128 }
}

fn reply(kind: u128) -> u128 {
    if kind == ethertype::IPV4 { 0 } else { 129 }
}

/// Neighbour discovery has code 0 (RFC 4861 §4). Whatever depends on what is in its messages has to match the code: Open
/// vSwitch reads them only where it is 0, and its cache of decisions forgets that it looked into the others, so that
/// one message of another code would decide for all that follow.
fn nd(kind: u128) -> Match {
    nd_like(kind).with(Field::IcmpCode, 0u8)
}

/// Neighbour discovery with any code.
fn nd_like(kind: u128) -> Match {
    proto(ethertype::IPV6, ip_proto::ICMPV6).with(Field::IcmpType, kind)
}

fn src(address: IpAddr) -> Match {
    match address {
        IpAddr::V4(v4) => ip(ethertype::IPV4).with(Field::Ipv4Src, v4.to_bits()),
        IpAddr::V6(v6) => ip(ethertype::IPV6).with(Field::Ipv6Src, v6.to_bits()),
    }
}

fn dst(address: IpAddr) -> Match {
    match address {
        IpAddr::V4(v4) => ip(ethertype::IPV4).with(Field::Ipv4Dst, v4.to_bits()),
        IpAddr::V6(v6) => ip(ethertype::IPV6).with(Field::Ipv6Dst, v6.to_bits()),
    }
}

fn to(stage: Stage) -> Next {
    Next::Stage(stage)
}

/// A list of entries in the making.
pub(crate) struct Entries(pub Vec<Entry>);

impl Entries {
    fn add(&mut self, stage: Stage, priority: u16, matches: Match, actions: Vec<Action>, next: Next, cause: Builtin) {
        self.0.push(Entry::new(stage, priority, matches, actions, next, Cause::Builtin(cause)));
    }

    fn drop(&mut self, stage: Stage, priority: u16, matches: Match, cause: Builtin) {
        self.add(stage, priority, matches, Vec::new(), Next::Drop, cause);
    }
}

/// A network on a switch that it is present on.
#[derive(Clone, Copy)]
pub(crate) struct Here<'a> {
    pub network: &'a Network,
    /// The network's number.
    pub number: u32,
    pub switch: &'a Name,
    pub fabric: &'a Fabric,
}

impl<'a> Here<'a> {
    /// Whether the switch remembers connections.
    fn remembers(&self) -> bool {
        self.fabric.remembers(self.switch)
    }

    /// The uplinks of the network on the switch, in the network's order: the first is the way out.
    fn uplinks(&self) -> impl Iterator<Item = (&'a Port, u16)> + use<'a> {
        let (network, switch) = (self.network, self.switch);
        let here = network.uplinks.iter().filter(move |uplink| uplink.at.switch == *switch);
        here.map(|uplink| (&uplink.at.port, uplink.vlan))
    }

    fn way_out(&self) -> Option<WayOut<'a>> {
        self.fabric.way_out(self.network, self.switch)
    }

    /// Whether outsiders reach another switch by this one.
    fn is_way_out_of(&self, switch: &Name) -> bool {
        matches!(self.fabric.way_out(self.network, switch), Some(WayOut::Across(to, _)) if to == self.switch)
    }

    /// Of packets in the network.
    fn within(&self, m: Match) -> Match {
        m.with(Field::Network, self.number)
    }

    /// Of packets that workloads of the switch sent. Those behind a kernel VTEP are judged as if they were the switch's,
    /// and come by a tunnel.
    fn inside(&self, m: Match) -> Match {
        self.within(m).with(Field::SrcLocal, 1u8).with(Field::FromTunnel, 0u8)
    }

    /// Of packets of outsiders, who come in by an uplink here or elsewhere.
    fn outside(&self, m: Match) -> Match {
        self.within(m).with(Field::SrcId, EXTERNAL)
    }

    /// What sends a packet into a tunnel: what the header says is written here, and nothing of it is the sender's.
    fn enter(&self, transport: &Transport) -> Vec<Action> {
        let tunnel = match transport {
            Transport::Tunnel(tunnel) => tunnel,
            Transport::Carried(to) => {
                return vec![Action::set(Field::OutTunnel, CARRIED), Action::set(Field::OutVlan, (*to).into())];
            }
        };
        let (header, identity) = overlay::header(tunnel.kind);
        let far = match tunnel.far {
            IpAddr::V4(v4) => Action::set(Field::TunDst4, v4.to_bits().into()),
            IpAddr::V6(v6) => Action::set(Field::TunDst6, v6.to_bits()),
        };
        let mut actions = vec![
            Action::set(Field::OutTunnel, header as u128),
            Action::SetOut(header.port()),
            far,
            Action::set(Field::TunId, self.network.vni.get().into()),
        ];
        actions.extend(identity.map(|to| Action::Copy { from: Field::SrcId, to }));
        actions
    }

    /// What leaves by the way out, and the stage that it goes to next if it is not to be judged.
    fn leave(&self, way_out: &WayOut<'_>) -> (Vec<Action>, Next) {
        match way_out {
            WayOut::Uplink(port, vlan) => {
                let tag = (*vlan != 0).then(|| Action::set(Field::OutVlan, (*vlan).into()));
                ([Action::SetOut((*port).clone())].into_iter().chain(tag).collect(), to(Stage::Deliver))
            }
            WayOut::Across(_, transport) => (self.enter(transport), to(Stage::Fit)),
        }
    }

    /// Of packets that come from another switch, with an identity if their header carries one.
    fn behind(&self, transport: &Transport, identity: u32, m: Match) -> Match {
        let tunnel = match transport {
            Transport::Tunnel(tunnel) => tunnel,
            Transport::Carried(from) => {
                return self.within(m).with(Field::FromTunnel, 1u8).masked(Field::EthSrc, edge(*from), source::EDGE);
            }
        };
        let (header, field) = overlay::header(tunnel.kind);
        let m = overlay::from(tunnel.far, self.within(m).port(header.port()));
        match field {
            Some(field) => m.with(field, identity),
            None => m,
        }
    }

    /// Outsiders never have an address of the network's own, by whatever way they come in.
    fn no_outsiders_address(&self, e: &mut Entries, address: IpAddr) {
        let by_uplink = self.uplinks().next().is_some().then_some((Field::SrcLocal, 0u8, 90, Builtin::Antispoof));
        let by_tunnel = matches!(self.way_out(), Some(WayOut::Across(..)));
        let by_tunnel = by_tunnel.then_some((Field::FromTunnel, 1, 92, Builtin::OverlayAntispoof));
        for (field, value, priority, cause) in by_uplink.into_iter().chain(by_tunnel) {
            let theirs = |m: Match| self.within(m).with(field, value);
            e.drop(Stage::Antispoof, priority, theirs(src(address)), cause);
            let (claim, above) = match address {
                IpAddr::V4(v4) => (ip(ethertype::ARP).with(Field::ArpSpa, v4.to_bits()), 0),
                IpAddr::V6(v6) => (nd(136).with(Field::NdTarget, v6.to_bits()), 1),
            };
            e.drop(Stage::Antispoof, priority + above, theirs(claim), cause);
        }
    }

    /// An address of the network's own is never looked for outside.
    fn not_outside(&self, e: &mut Entries, address: IpAddr, cause: Builtin) {
        e.drop(Stage::Locate, 90, self.within(dst(address)), cause);
        // Questions alone: the answers that a workload gets from outside are for its address too.
        let (ask, neighbour) = match address {
            IpAddr::V4(v4) => {
                (ip(ethertype::ARP).with(Field::ArpOp, 1u8).with(Field::ArpTpa, v4.to_bits()), Builtin::Arp)
            }
            IpAddr::V6(v6) => (nd(135).with(Field::NdTarget, v6.to_bits()), Builtin::Nd),
        };
        e.drop(Stage::ArpNd, 90, self.within(ask), neighbour);
    }
}

/// Makes the answer to an ARP or ND question for an address of a question that matches `who`.
fn answer(e: &mut Entries, who: impl Fn(Match) -> Match, mac: Mac, address: IpAddr) {
    let copy = |from, to| Action::Copy { from, to };
    let mac = u128::from(mac.to_bits());
    match address {
        IpAddr::V4(v4) => {
            let address = u128::from(v4.to_bits());
            let ask = who(ip(ethertype::ARP).with(Field::ArpOp, 1u8).with(Field::ArpTpa, address));
            let answer = vec![
                copy(Field::EthSrc, Field::EthDst),
                Action::set(Field::EthSrc, mac),
                Action::set(Field::ArpOp, 2),
                copy(Field::ArpSha, Field::ArpTha),
                Action::set(Field::ArpSha, mac),
                copy(Field::ArpSpa, Field::ArpTpa),
                Action::set(Field::ArpSpa, address),
            ];
            e.add(Stage::ArpNd, 100, ask, answer, to(Stage::Answer), Builtin::Arp);
        }
        IpAddr::V6(v6) => {
            let address = v6.to_bits();
            let ask = who(nd(135).with(Field::NdTarget, address));
            let answer = vec![
                copy(Field::EthSrc, Field::EthDst),
                Action::set(Field::EthSrc, mac),
                copy(Field::Ipv6Src, Field::Ipv6Dst),
                Action::set(Field::Ipv6Src, address),
                Action::set(Field::NdReserved, SOLICITED_OVERRIDE),
                Action::set(Field::IcmpType, 136),
            ];
            e.add(Stage::ArpNd, 100, ask, answer, to(Stage::Answer), Builtin::Nd);
        }
    }
}

/// What may reach a workload from outside beside IP: answers to its own questions.
fn answers_from_outside(e: &mut Entries, here: &Here<'_>, mac: Mac, actions: &[Action], next: Next) {
    let theirs = |m: Match| here.outside(m).with(Field::EthDst, mac.to_bits());
    let mut deliver = |priority, m, cause| e.add(Stage::ArpNd, priority, theirs(m), actions.to_vec(), next, cause);
    deliver(50, ip(ethertype::ARP).with(Field::ArpOp, 2u8), Builtin::Arp);
    deliver(50, nd(136), Builtin::Nd);
    for (kind, [client, server]) in [(ethertype::IPV4, [68u128, 67]), (ethertype::IPV6, [546, 547])] {
        let udp = proto(kind, ip_proto::UDP).with(Field::L4Src, server).with(Field::L4Dst, client);
        deliver(60, udp, Builtin::Dhcp);
    }
}

/// A workload's questions to DHCP servers.
fn dhcp(who: impl Fn(Match) -> Match, mac: Mac) -> [Match; 2] {
    let udp = |kind, [client, server]: [u128; 2]| {
        who(proto(kind, ip_proto::UDP)).with(Field::L4Src, client).with(Field::L4Dst, server)
    };
    let v4 = udp(ethertype::IPV4, [68, 67]).with(Field::Ipv4Src, 0u8).with(Field::Ipv4Dst, u32::MAX);
    let v6 = udp(ethertype::IPV6, [546, 547]).with(Field::Ipv6Src, mac.link_local().to_bits());
    [v4, v6.with(Field::Ipv6Dst, DHCPV6_SERVERS.0.to_bits())]
}

/// A workload's questions for its neighbours: each names its sender's link-layer address, or none (RFC 4861 §4.3).
fn solicitations(who: impl Fn(Match) -> Match, mac: Mac, ips: &[IpAddr]) -> impl Iterator<Item = Match> {
    let own = ips.iter().filter_map(|ip| if let IpAddr::V6(v6) = ip { Some(*v6) } else { None });
    let own: Vec<Ipv6Addr> = own.chain([mac.link_local()]).collect();
    let options = own.into_iter().flat_map(move |from| [(from, mac.to_bits()), (from, 0)]);
    let asks = options.map(|(from, option)| nd(135).with(Field::Ipv6Src, from.to_bits()).with(Field::NdSll, option));
    asks.map(who).collect::<Vec<_>>().into_iter()
}
