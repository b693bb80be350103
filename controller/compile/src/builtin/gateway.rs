//! A network's gateways: they answer for themselves, and what is sent through them is routed where it comes in.

use super::{Entries, Here, IP, answer, icmp, ip, proto, reply, request, to};
use bulkhead_pipeline::{Action, Builtin, Field, Match, Next, Stage, ethertype, frag, overlay::GATEWAY_MAC};
use bulkhead_topology::IpNet;
use std::net::IpAddr;

/// TTL of what a gateway says itself (RFC 1700).
const TTL: u128 = 64;

pub(super) fn gateways(e: &mut Entries, here: &Here<'_>) {
    if here.network.gateways.is_empty() {
        return;
    }
    let through = |m: Match| here.inside(m).with(Field::EthDst, GATEWAY_MAC.to_bits());
    for gateway in &here.network.gateways {
        here.no_outsiders_address(e, *gateway);
        here.not_outside(e, *gateway, Builtin::Gateway);
        answer(e, |m| here.inside(m), GATEWAY_MAC, *gateway);
        echo(e, through, *gateway);
        if let Some(subnet) = here.network.subnets.iter().find(|subnet| subnet.contains(*gateway)) {
            for ttl in [0u8, 1] {
                let last = through(from(subnet)).with(Field::IpTtl, ttl);
                let tell = vec![Action::Expired { from: *gateway }];
                e.add(Stage::ArpNd, 18, last, tell, Next::Drop, Builtin::Ttl);
            }
            let nowhere = here.inside(from(subnet)).with(Field::Routed, 1u8);
            let tell = vec![Action::NoRoute { from: *gateway }];
            e.add(Stage::Locate, 22, nowhere, tell, Next::Drop, Builtin::NoRoute);
        }
    }
    for kind in IP {
        let route = vec![Action::set(Field::Routed, 1)];
        e.add(Stage::ArpNd, 15, through(ip(kind)), route, to(Stage::SrcClass), Builtin::Gateway);
    }
    // Between a gateway and the outside there is no route.
    let routed = here.within(Match::any()).with(Field::Routed, 1u8);
    e.drop(Stage::Locate, 21, routed, Builtin::NoRoute);
}

fn from(subnet: &IpNet) -> Match {
    let (bits, mask) = subnet.to_bits();
    match subnet.is_ipv4() {
        true => ip(ethertype::IPV4).masked(Field::Ipv4Src, bits, mask),
        false => ip(ethertype::IPV6).masked(Field::Ipv6Src, bits, mask),
    }
}

/// A gateway answers pings. (No fragments: what answers has to be what was asked.)
fn echo(e: &mut Entries, through: impl Fn(Match) -> Match, gateway: IpAddr) {
    let (kind, source, destination, bits) = match gateway {
        IpAddr::V4(v4) => (ethertype::IPV4, Field::Ipv4Src, Field::Ipv4Dst, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (ethertype::IPV6, Field::Ipv6Src, Field::Ipv6Dst, v6.to_bits()),
    };
    let ping = proto(kind, icmp(kind)).with(Field::IcmpType, request(kind)).with(Field::IcmpCode, 0u8);
    let ping = ping.masked(Field::IpFrag, 0u8, frag::ANY).with(destination, bits);
    let pong = vec![
        Action::Copy { from: Field::EthSrc, to: Field::EthDst },
        Action::set(Field::EthSrc, GATEWAY_MAC.to_bits().into()),
        Action::Copy { from: source, to: destination },
        Action::set(source, bits),
        Action::set(Field::IcmpType, reply(kind)),
        Action::set(Field::IpTtl, TTL),
    ];
    e.add(Stage::ArpNd, 80, through(ping), pong, to(Stage::Answer), Builtin::Gateway);
}
