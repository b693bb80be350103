//! Groups that a network asks for: each packet gets to whom the reference says, once, and to nobody else.

use crate::common;
use crate::journey;
use bulkhead_compile::Compiler;
use bulkhead_pipeline::{
    Builtin, Cause, Field, Outcome, Packet, check, ethertype, ip_proto,
    overlay::{Tunnel, arrive, group_mac},
    walk,
};
use bulkhead_policy::{
    Decision, Endpoint, Flow, Service, State, arbitrary, enforces,
    model::{Attachment, Network, Workload},
    overlay::tunnel,
    verdict_of_copy,
};
use bulkhead_topology::{Mac, Name, Port};
use common::{apply, changes, compile, name, state};
use journey::{Fixed, is_kernel};
use proptest::{prelude::*, test_runner::Config};
use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// UDP ports that rules of arbitrary states speak of, and one that they do not.
const PORTS: [u16; 4] = [53, 80, 443, 9999];

/// One interface of a network that is plugged in, with one of its addresses.
struct Member<'a> {
    workload: &'a Workload,
    at: Attachment,
    mac: Mac,
    ip: IpAddr,
}

/// Those with an address of a family, one of each interface.
fn members<'a>(state: &'a State, network: &Network, v4: bool) -> Vec<Member<'a>> {
    let workloads = state.workloads.values().filter(|workload| workload.network == network.name);
    let interfaces = workloads.flat_map(|workload| workload.interfaces.iter().map(move |one| (workload, one)));
    let plugged = interfaces.filter_map(|(workload, interface)| {
        let ip = *interface.ips.iter().find(|ip| ip.is_ipv4() == v4)?;
        Some(Member { workload, at: state.attachment(workload, interface)?, mac: interface.mac, ip })
    });
    // Those behind kernel VTEPs take no part.
    let known = |at: &Name| state.switches.contains_key(at) && !is_kernel(state, at);
    plugged.filter(|member| known(&member.at.switch)).collect()
}

fn datagram(from: &Member<'_>, group: IpAddr, port: u16) -> Packet {
    let packet = Packet::new(from.at.port.clone())
        .with(Field::EthSrc, from.mac.to_bits())
        .with(Field::EthDst, group_mac(group).to_bits())
        .with(Field::Vlan, 0u8)
        .with(Field::IpFrag, 0u8)
        .with(Field::IpTtl, 1u8)
        .with(Field::IpProto, ip_proto::UDP)
        .with(Field::L4Src, 40_000u16)
        .with(Field::L4Dst, port);
    match (from.ip, group) {
        (IpAddr::V4(from), IpAddr::V4(to)) => packet
            .with(Field::EthType, ethertype::IPV4)
            .with(Field::Ipv4Src, from.to_bits())
            .with(Field::Ipv4Dst, to.to_bits()),
        (IpAddr::V6(from), IpAddr::V6(to)) => packet
            .with(Field::EthType, ethertype::IPV6)
            .with(Field::Ipv6Src, from.to_bits())
            .with(Field::Ipv6Dst, to.to_bits()),
        both => panic!("{both:?}"),
    }
}

/// Everything that leaves a switch by a port, when a packet comes to it.
fn leaving(compiler: &Compiler, switch: &Name, packet: Packet) -> Vec<(Attachment, Packet)> {
    fn flatten(outcome: Outcome, out: &mut Vec<Outcome>) {
        match outcome {
            Outcome::Copied(copies) => copies.into_iter().for_each(|copy| flatten(copy, out)),
            one => out.push(one),
        }
    }
    let mut outcomes = Vec::new();
    flatten(walk(compiler.program(switch).unwrap(), &mut Fixed(0), packet).outcome, &mut outcomes);
    let sent = outcomes.into_iter().filter_map(|outcome| match outcome {
        Outcome::Delivered { port, packet } => Some((Attachment { switch: switch.clone(), port }, *packet)),
        Outcome::Dropped(_) | Outcome::Rejected(_) => None,
        other => panic!("{other:?}"),
    });
    sent.collect()
}

/// Where copies of a packet come out, all over the fabric.
fn delivered(state: &State, compiler: &Compiler, at: &Attachment, packet: Packet) -> Vec<(Attachment, Packet)> {
    let mut out = Vec::new();
    for (place, sent) in leaving(compiler, &at.switch, packet) {
        if Tunnel::of(&place.port).is_none() {
            out.push((place, sent));
            continue;
        }
        let far = match sent.value(Field::TunDst6) {
            0 => IpAddr::V4(Ipv4Addr::from(sent.value(Field::TunDst4) as u32)),
            v6 => IpAddr::V6(Ipv6Addr::from(v6)),
        };
        let next = state.switches.values().find(|switch| switch.vtep == Some(far)).unwrap();
        let near = state.switches[&at.switch].vtep.unwrap();
        for (place, copy) in leaving(compiler, &next.name, arrive(&sent, place.port, near)) {
            assert!(Tunnel::of(&place.port).is_none(), "from tunnel to tunnel");
            out.push((place, copy));
        }
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

/// What the reference says: who has to get it.
fn receivers(state: &State, network: &Network, from: &Member<'_>, group: IpAddr, port: u16) -> Vec<Attachment> {
    let flow = Flow {
        network: network.name.clone(),
        from: Endpoint { ip: from.ip, workload: Some(from.workload.name.clone()) },
        to: Endpoint { ip: group, workload: None },
        service: Service::Port { protocol: 17, port },
    };
    let passes = |decision: Decision, at: &Workload| decision == Decision::Allow || !enforces(state, at);
    let others = members(state, network, group.is_ipv4()).into_iter().filter(|member| {
        let [near, far] = [&from.at.switch, &member.at.switch].map(|name| &state.switches[name]);
        // Who remembers no connections sends no copies, and takes none.
        let copies = near.driver.remembers() && far.driver.remembers();
        copies && member.at != from.at && (near.name == far.name || tunnel(network, near, far).is_some())
    });
    let getting = others.filter(|member| {
        let verdict = verdict_of_copy(state, &flow, &member.workload.name);
        passes(verdict.egress.decision(), from.workload) && passes(verdict.ingress.decision(), member.workload)
    });
    let mut getting: Vec<Attachment> = getting.map(|member| member.at).collect();
    getting.sort();
    getting
}

#[test]
fn groups_get_to_whom_the_reference_says() {
    let (sent, got, kept) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    proptest!(config, |(state in arbitrary::state())| {
        let compiler = compile(&state);
        for network in state.networks.values() {
            for program in state.switches.keys().filter_map(|name| compiler.program(name)) {
                prop_assert!(check(program).is_empty());
            }
            for group in &network.multicast {
                for from in members(&state, network, group.is_ipv4()) {
                    for port in PORTS {
                        let packet = datagram(&from, *group, port);
                        let wanted = receivers(&state, network, &from, *group, port);
                        let out = delivered(&state, &compiler, &from.at, packet.clone());
                        for (_, copy) in &out {
                            for field in [Field::EthSrc, Field::EthDst, Field::IpTtl, Field::L4Dst, Field::Vlan] {
                                prop_assert_eq!(copy.get(field), packet.get(field));
                            }
                        }
                        let found: Vec<Attachment> = out.into_iter().map(|(place, _)| place).collect();
                        prop_assert_eq!(&found, &wanted, "{} from {:?} at {}", group, from.at, port);
                        sent.set(sent.get() + 1);
                        got.set(got.get() + found.len());
                        kept.set(kept.get() + members(&state, network, group.is_ipv4()).len() - 1 - found.len());
                    }
                }
            }
        }
    });
    eprintln!("{} sent, {} copies received, {} kept back", sent.get(), got.get(), kept.get());
    assert!(got.get() > 200 && kept.get() > 200, "{} {}", got.get(), kept.get());
}

/// Network `net` with two groups; w1 and w2 on hv1, w3 on hv2, w4 on hv3, which is no overlay's; an uplink on hv2.
fn fabric(spec: &str) -> String {
    let mut text = format!(
        "kind: Network\nmetadata: {{name: net}}\nspec: {{vni: 7, subnets: [10.0.0.0/24], defaultAction: allow, \
         uplinks: [{{switch: hv2, port: up}}], {spec}}}\n"
    );
    for (n, vtep) in [(1, ", vtep: 192.0.2.1"), (2, ", vtep: 192.0.2.2"), (3, "")] {
        text += &format!("---\nkind: Switch\nmetadata: {{name: hv{n}}}\nspec: {{driver: sim{vtep}}}\n");
    }
    for (n, switch) in [(1, "hv1"), (2, "hv1"), (3, "hv2"), (4, "hv3")] {
        text += &workload(n, switch);
    }
    text
}

fn workload(n: u16, switch: &str) -> String {
    format!(
        "---\nkind: Workload\nmetadata: {{name: w{n}, labels: {{n: \"{n}\"}}}}\nspec: {{network: net, interfaces: \
         [{{mac: \"02:00:00:00:00:{n:02x}\", ips: [10.0.0.{n}], attachment: {{switch: {switch}, port: w{n}}}}}]}}\n"
    )
}

const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 1, 2, 3));

fn places(out: Vec<(Attachment, Packet)>) -> Vec<String> {
    out.into_iter().map(|(place, _)| format!("{}:{}", place.switch, place.port)).collect()
}

#[test]
fn only_what_is_asked_for_is_carried_and_only_by_members() {
    let state = state(&fabric("multicast: [239.1.2.3]"));
    let compiler = compile(&state);
    let net = state.networks[&name("net")].clone();
    let all = members(&state, &net, true);
    let w1 = &all[0];
    let out = |packet| places(delivered(&state, &compiler, &w1.at, packet));
    assert_eq!(out(datagram(w1, GROUP, 5353)), ["hv1:w2", "hv2:w3"]);
    // Another group, a subnet's broadcast, another protocol, a fragment, another Ethernet destination, another's address.
    assert_eq!(out(datagram(w1, "239.1.2.4".parse().unwrap(), 5353)), [""; 0]);
    assert_eq!(out(datagram(w1, "10.0.0.255".parse().unwrap(), 5353)), [""; 0]);
    assert_eq!(out(datagram(w1, GROUP, 5353).with(Field::IpProto, ip_proto::TCP)), [""; 0]);
    assert_eq!(out(datagram(w1, GROUP, 5353).with(Field::IpFrag, 1u8)), [""; 0]);
    assert_eq!(out(datagram(w1, GROUP, 5353).with(Field::EthDst, 0x0200_0000_0003_u64)), [""; 0]);
    assert_eq!(out(datagram(w1, GROUP, 5353).with(Field::Ipv4Src, 0x0a00_0003_u32)), [""; 0]);
    // An outsider at the uplink; and in a tunnel, whatever it says of itself.
    let hv2 = name("hv2");
    let mut outsider = datagram(w1, GROUP, 5353).with(Field::Ipv4Src, 0xc633_6407_u32);
    outsider.in_port = Port::Name("up".into());
    let found = walk(compiler.program(&hv2).unwrap(), &mut Fixed(0), outsider.clone()).outcome;
    assert_eq!(found, Outcome::Dropped(Cause::Builtin(Builtin::Multicast)));
    let forged = outsider.with(Field::TunId, 7u8).with(Field::TunIdentity, 1u8);
    let forged = arrive(&forged, Tunnel::Geneve.port(), "192.0.2.1".parse().unwrap());
    assert_eq!(places(leaving(&compiler, &hv2, forged)), [""; 0]);
}

#[test]
fn default_deny_holds_at_each_receiver() {
    let rules = "---\nkind: Policy\nmetadata: {name: p}\nspec: {subject: {matchLabels: {n: \"3\"}}, ingress: [{action: \
                 allow, from: [{matchLabels: {n: \"1\"}}], ports: [{protocol: udp, port: 5353}]}]}\n\
                 ---\nkind: Policy\nmetadata: {name: out}\nspec: {subject: {matchLabels: {}}, egress: [{action: allow, to: [{cidr: \
                 239.0.0.0/8}]}]}\n";
    let closed = fabric("multicast: [239.1.2.3, 224.0.0.251]").replace("defaultAction: allow", "defaultAction: deny");
    let state = state(&format!("{closed}{rules}"));
    let compiler = compile(&state);
    let net = state.networks[&name("net")].clone();
    let all = members(&state, &net, true);
    let out = |from: usize, group, port| {
        places(delivered(&state, &compiler, &all[from].at, datagram(&all[from], group, port)))
    };
    assert_eq!(out(0, GROUP, 5353), ["hv2:w3"]);
    assert_eq!(out(0, GROUP, 5354), [""; 0]);
    assert_eq!(out(1, GROUP, 5353), [""; 0]);
    // The senders' rules name the group's address.
    assert_eq!(out(0, "224.0.0.251".parse().unwrap(), 5353), [""; 0]);
}

#[test]
fn a_receiver_more_costs_a_constant_number_of_entries() {
    let entries = |spec: &str| {
        let mut state = state(&fabric(spec));
        let mut compiler = compile(&state);
        let len = |compiler: &Compiler| ["hv1", "hv2"].map(|switch| compiler.program(&name(switch)).unwrap().len());
        let mut counts = vec![len(&compiler)];
        for (n, switch) in [(5, "hv1"), (6, "hv1"), (7, "hv2")] {
            apply(&mut state, &mut compiler, &changes(&workload(n, switch))).unwrap();
            counts.push(len(&compiler));
        }
        counts
    };
    let (plain, asked) = (entries("encap: geneve"), entries("multicast: [239.1.2.3]"));
    let more: Vec<[usize; 2]> = asked.iter().zip(&plain).map(|(a, b)| [a[0] - b[0], a[1] - b[1]]).collect();
    // Of a group 2, of the network 3 (copies, by workloads' and by tunnels' packets, and the way into the tunnel), and 2
    // of each receiver that is plugged in here.
    assert_eq!(more, [[5 + 4, 5 + 2], [5 + 6, 5 + 2], [5 + 8, 5 + 2], [5 + 8, 5 + 4]]);
}

#[test]
fn more_receivers_than_a_switch_can_serve_are_refused_by_name() {
    let mut text = fabric("multicast: [239.1.2.3]");
    for n in 10..140 {
        text += &workload(n, "hv1");
    }
    let refused = Compiler::new(&state(&text), Default::default()).unwrap_err();
    assert_eq!(refused.what, "interfaces that get the groups of network net from switch hv1");
    assert_eq!((refused.size, refused.limit), (132, 128));
}
