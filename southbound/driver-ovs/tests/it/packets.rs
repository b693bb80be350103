//! Real packets through a small program on a real ovs-vswitchd: ARP and ND answered, connections tracked,
//! conjunctions, and what the sender of a rejected packet is told.

use crate::rig;
use bulkhead_dataplane::{Command, Report};
use bulkhead_lab::{Answer, Family, Listeners, Probe, Service, Workload};
use bulkhead_pipeline::{Action, Builtin, Cause, Entry, Field, Match, Next, Output, Stage, conn, ethertype, ip_proto};
use bulkhead_topology::Port;
use rig::Rig;
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

const NETWORK: u8 = 5;
const REJECT: Cause = Cause::Rule(99);

fn port(workload: &Workload) -> Port {
    Port::Name(workload.name().into())
}

fn bits(mac: bulkhead_topology::Mac) -> u128 {
    mac.to_string().split(':').fold(0, |bits, byte| bits << 8 | u128::from_str_radix(byte, 16).unwrap())
}

/// What is said for one workload: where it is, and its answers to ARP and ND.
fn location(workload: &Workload, id: u32) -> Vec<Entry> {
    let mac = bits(workload.mac());
    let builtin = Cause::Builtin;
    let classify = vec![
        Action::set(Field::Network, NETWORK.into()),
        Action::set(Field::SrcId, id.into()),
        Action::set(Field::SrcLocal, 1),
    ];
    let arrive =
        || vec![Action::set(Field::DstId, id.into()), Action::set(Field::DstLocal, 1), Action::SetOut(port(workload))];
    let copy = |from, to| Action::Copy { from, to };
    let mut entries = vec![Entry::new(
        Stage::Classify,
        10,
        Match::any().port(port(workload)),
        classify,
        Next::Stage(Stage::ArpNd),
        builtin(Builtin::Classify),
    )];
    for ip in workload.ips() {
        let (answer, next, matches, located) = match ip {
            IpAddr::V4(ip) => {
                let ip = u128::from(u32::from(*ip));
                let answer = vec![
                    copy(Field::EthSrc, Field::EthDst),
                    Action::set(Field::EthSrc, mac),
                    Action::set(Field::ArpOp, 2),
                    copy(Field::ArpSha, Field::ArpTha),
                    Action::set(Field::ArpSha, mac),
                    copy(Field::ArpSpa, Field::ArpTpa),
                    Action::set(Field::ArpSpa, ip),
                    Action::Output(Output::InPort),
                ];
                let arp = Match::any().with(Field::EthType, ethertype::ARP).with(Field::ArpOp, 1u8);
                let to = Match::any().with(Field::EthType, ethertype::IPV4).with(Field::Ipv4Dst, ip);
                (answer, Next::Done, arp.with(Field::ArpTpa, ip), to)
            }
            IpAddr::V6(ip) => {
                let ip = u128::from(*ip);
                let answer = vec![
                    copy(Field::EthSrc, Field::EthDst),
                    Action::set(Field::EthSrc, mac),
                    copy(Field::Ipv6Src, Field::Ipv6Dst),
                    Action::set(Field::Ipv6Src, ip),
                    Action::set(Field::NdOption, 2),
                    Action::set(Field::NdReserved, 0x6000_0000),
                    Action::set(Field::IcmpType, 136),
                ];
                let v6 = || Match::any().with(Field::EthType, ethertype::IPV6);
                let nd = v6().with(Field::IpProto, ip_proto::ICMPV6).with(Field::IcmpType, 135u8);
                (answer, Next::Stage(Stage::Answer), nd.with(Field::NdTarget, ip), v6().with(Field::Ipv6Dst, ip))
            }
        };
        entries.push(Entry::new(Stage::ArpNd, 20, matches, answer, next, builtin(Builtin::Arp)));
        let next = Next::Stage(Stage::Track);
        entries.push(Entry::new(Stage::Locate, 10, located, arrive(), next, builtin(Builtin::Locate)));
    }
    entries
}

/// What all workloads share; TCP to port 80 is allowed, to port 81 from identity 7, everything else rejected.
fn common() -> Vec<Entry> {
    let go = Next::Stage;
    let builtin = Cause::Builtin;
    let nd = Match::any().with(Field::EthType, ethertype::IPV6).with(Field::IpProto, ip_proto::ICMPV6);
    let reply = vec![Action::Copy { from: Field::EthSrc, to: Field::NdTll }, Action::Output(Output::InPort)];
    let mut entries = vec![
        Entry::new(Stage::ArpNd, 1, Match::any(), vec![], go(Stage::Locate), builtin(Builtin::Arp)),
        Entry::new(Stage::Answer, 1, nd.with(Field::IcmpType, 136u8), reply, Next::Done, builtin(Builtin::Nd)),
        Entry::new(
            Stage::Deliver,
            1,
            Match::any(),
            vec![Action::Output(Output::Chosen)],
            Next::Done,
            builtin(Builtin::Deliver),
        ),
    ];
    for version in [ethertype::IPV4, ethertype::IPV6] {
        let ip = || Match::any().with(Field::EthType, version);
        let tracked = |state| ip().masked(Field::Conn, conn::TRK | state, conn::TRK | state);
        let icmp = if version == ethertype::IPV4 { ip_proto::ICMP } else { ip_proto::ICMPV6 };
        entries.push(Entry::new(
            Stage::Track,
            1,
            ip(),
            vec![Action::Track],
            go(Stage::Connection),
            builtin(Builtin::Conntrack),
        ));
        entries.push(Entry::new(
            Stage::Connection,
            10,
            tracked(conn::EST | conn::RPL),
            vec![Action::Recall, Action::SwapEnds],
            go(Stage::Deliver),
            builtin(Builtin::Reply),
        ));
        for (proto, service) in [
            (ip_proto::TCP, Action::ServiceFromDst),
            (ip_proto::UDP, Action::ServiceFromDst),
            (icmp, Action::ServiceFromIcmp),
        ] {
            entries.push(Entry::new(
                Stage::Connection,
                5,
                ip().with(Field::IpProto, proto),
                vec![service],
                go(Stage::IngressApplication),
                builtin(Builtin::Conntrack),
            ));
        }
        entries.push(Entry::new(
            Stage::Verdict,
            10,
            tracked(conn::NEW),
            vec![Action::Commit],
            go(Stage::Deliver),
            builtin(Builtin::Verdict),
        ));
        entries.push(Entry::new(Stage::Verdict, 1, ip(), vec![], go(Stage::Deliver), builtin(Builtin::Verdict)));
    }
    let policy = |priority, matches, actions, next, cause| {
        Entry::new(Stage::IngressApplication, priority, matches, actions, next, cause)
    };
    let tcp = |port: u32| Match::any().with(Field::Service, 6 << 16 | port);
    let clause = |k| vec![Action::Clause { conjunction: 4, k, n: 2 }];
    // New connections are logged, whatever becomes of them.
    let logged = |priority, matches: Match, actions: Vec<Action>, next, cause| {
        let connection = |new| matches.clone().masked(Field::Conn, new, conn::NEW);
        let first = [vec![Action::Log], actions.clone()].concat();
        [
            policy(priority, connection(conn::NEW), first, next, cause),
            policy(priority, connection(0), actions, next, cause),
        ]
    };
    entries.extend(logged(10, tcp(80), vec![], go(Stage::Verdict), Cause::Rule(1)));
    entries.push(policy(9, tcp(81), clause(1), Next::Done, Cause::Rule(2)));
    entries.push(policy(9, Match::any().with(Field::SrcId, 7u8), clause(2), Next::Done, Cause::Rule(2)));
    let met = Match::any().with(Field::Conjunction, 4u8);
    entries.extend(logged(9, met, vec![], go(Stage::Verdict), Cause::Rule(2)));
    entries.extend(logged(1, Match::any(), vec![Action::Reject], Next::Drop, REJECT));
    entries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_do_what_the_program_says() {
    let Some(rig) = Rig::bare().await else { return };
    exchange(rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_they_do_the_same() {
    let Some(rig) = Rig::secured().await else { return };
    exchange(rig).await;
}

async fn exchange(mut rig: Rig) {
    let workload = |rig: &mut Rig, name: &str, last: u8| {
        let ips = [format!("10.1.0.{last}").parse().unwrap(), format!("fd00:1::{last}").parse().unwrap()];
        let mac = format!("02:00:00:00:00:{last:02x}").parse().unwrap();
        rig.lab.workload(&rig.hypervisor, name, mac, &ips).unwrap()
    };
    let (a, b) = (workload(&mut rig, "a", 11), workload(&mut rig, "b", 12));
    rig.attach(1).await;
    rig.connect();
    assert!(matches!(rig.report().await, Report::Connected { .. }));
    let program = [location(&a, 7), location(&b, 8), common()].concat();
    rig.apply(vec![], program).await.unwrap();
    let services = [Service::Tcp(80), Service::Tcp(81), Service::Tcp(82), Service::Udp(53)];
    let _listeners = [&a, &b].map(|workload| Listeners::start(workload.namespace(), &services).unwrap());
    let rejected = [(Service::Tcp(82), Answer::Refused), (Service::Udp(53), Answer::Refused)];
    for family in [Family::V4, Family::V6] {
        let ask = |from, to, service| {
            Probe::new(from, to, service, family).unwrap().patience(Duration::from_secs(3)).run().unwrap()
        };
        for (service, answer) in [(Service::Tcp(80), Answer::Passed), (Service::Tcp(81), Answer::Passed)] {
            assert_eq!(ask(&a, &b, service), answer, "{service} from a");
        }
        assert_eq!(ask(&b, &a, Service::Tcp(80)), Answer::Passed);
        assert_eq!(ask(&b, &a, Service::Tcp(81)), Answer::Refused, "the conjunction wants identity 7");
        for (service, answer) in rejected {
            assert_eq!(ask(&a, &b, service), answer, "{service}");
        }
        assert_eq!(ask(&a, &b, Service::Icmp), Answer::Unreachable);
    }
    // The meters that limit rejected and logged packets are there.
    let meters = rig.hypervisor.ofctl("dump-meters", &[]).unwrap();
    assert!(meters.contains("meter=177") && meters.contains("meter=178"), "{meters}");
    let mut lines = Vec::new();
    let began = Instant::now();
    // Counters lag behind the datapath's.
    let rejects = loop {
        rig.command(Command::Count).await;
        let counters = loop {
            match rig.report().await {
                Report::Logged(logged) => lines.push(logged),
                Report::Counters(counters) => break counters,
                other => panic!("{other:?}"),
            }
        };
        let rejects = counters.into_iter().find(|counter| counter.cause == REJECT);
        match rejects {
            Some(rejects) if rejects.packets >= 8 => break rejects,
            few => assert!(began.elapsed() < Duration::from_secs(30), "{few:?}"),
        }
    };
    let lines_of = |cause| lines.iter().filter(move |line| line.cause == cause);
    // One line a connection, however many packets it had: a to b and back, by IPv4 and IPv6.
    let ends: Vec<_> = lines_of(Cause::Rule(1)).map(|line| (line.packet.in_port.clone(), line.dropped)).collect();
    assert_eq!(ends, [(port(&a), false), (port(&b), false), (port(&a), false), (port(&b), false)]);
    assert!(lines_of(Cause::Rule(1)).all(|line| line.packet.value(Field::L4Dst) == 80 && line.missed == 0));
    assert_eq!(lines_of(Cause::Rule(2)).map(|line| line.packet.value(Field::L4Dst)).collect::<Vec<_>>(), [81, 81]);
    assert!(lines_of(REJECT).count() >= 8 && lines_of(REJECT).all(|line| line.dropped), "{lines:#?}");
    assert!(rejects.dropped, "{rejects:?}");
}
