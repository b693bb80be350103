//! Against a real ovs-vswitchd: what is written is accepted, and is read back as it was.

use crate::generate;
use crate::rig;
use bulkhead_dataplane::{Address, Command, Report, ToDrivers};
use bulkhead_driver_ovs::layout::COOKIE_OWNER;
use bulkhead_pipeline::{
    Action, Builtin, Cause, Delta, Entry, Field, Match, Next, Output, Program, Stage, conn, ethertype, frag, ip_proto,
    render_program, vlan,
};
use bulkhead_topology::{DatapathId, Port};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use rig::{PORTS, Rig, name};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

fn port(name: &str) -> Port {
    Port::Name(name.into())
}

/// One entry of each kind that the compiler writes, every action and every way of matching among them.
fn every_kind() -> Vec<Entry> {
    let any = Match::any;
    let v4 = || any().with(Field::EthType, ethertype::IPV4);
    let v6 = || any().with(Field::EthType, ethertype::IPV6);
    let arp = || any().with(Field::EthType, ethertype::ARP);
    let nd = |kind: u8| v6().with(Field::IpProto, ip_proto::ICMPV6).with(Field::IcmpType, kind);
    let go = Next::Stage;
    let mut number = 0;
    let mut entry = |stage, matches, actions, next| {
        number += 1;
        Entry::new(stage, 100 + number as u16, matches, actions, next, Cause::Rule(number))
    };
    let classify =
        |id| vec![Action::set(Field::Network, 5), Action::set(Field::SrcId, id), Action::set(Field::SrcLocal, 1)];
    let conn = |bits: u128, mask: u128| v4().masked(Field::Conn, bits, mask);
    let copy = |from, to| Action::Copy { from, to };
    let mut entries = vec![
        entry(Stage::Classify, any().port(port("web-1")), classify(7), go(Stage::Antispoof)),
        entry(Stage::Classify, any().port(Port::Number(2)).with(Field::Vlan, 0u8), classify(8), go(Stage::Antispoof)),
        entry(
            Stage::Classify,
            any().port(port("uplink0")).with(Field::Vlan, 0x1064u32),
            [classify(1), vec![Action::set(Field::InVlan, 0x64), Action::PopVlan]].concat(),
            go(Stage::Antispoof),
        ),
        entry(Stage::Classify, any().masked(Field::Vlan, vlan::PRESENT, vlan::PRESENT), vec![], Next::Drop),
        entry(Stage::Antispoof, any().with(Field::EthType, ethertype::VLAN), vec![], Next::Drop),
        entry(
            Stage::ArpNd,
            arp().with(Field::ArpOp, 1u8).with(Field::SrcLocal, 1u8),
            vec![Action::SetOut(port("uplink0")), Action::set(Field::OutVlan, 0x64)],
            go(Stage::Deliver),
        ),
        entry(
            Stage::Deliver,
            any().with(Field::OutVlan, 0x64u8),
            vec![Action::PushVlan(Field::OutVlan), Action::Output(Output::Chosen)],
            Next::Done,
        ),
        entry(
            Stage::Answer,
            arp().masked(Field::InVlan, 4u8, 6),
            vec![Action::PushVlan(Field::InVlan), Action::Output(Output::InPort)],
            Next::Done,
        ),
        entry(Stage::Antispoof, any().port(port("db-1")), vec![], Next::Drop),
        entry(
            Stage::Antispoof,
            v4().port(port("web-1")).with(Field::EthSrc, 0x0200_0000_0001u64).with(Field::Ipv4Src, 0x0a01_000bu32),
            vec![],
            go(Stage::ArpNd),
        ),
        entry(
            Stage::Antispoof,
            nd(135).with(Field::NdTarget, 1u128 << 120 | 7).with(Field::NdSll, 0x0200_0000_0001u64),
            vec![],
            go(Stage::ArpNd),
        ),
        entry(Stage::Antispoof, nd(136).with(Field::NdTll, 0x0200_0000_0001u64), vec![], go(Stage::ArpNd)),
        entry(
            Stage::ArpNd,
            arp().with(Field::ArpOp, 1u8).with(Field::ArpTpa, 0x0a01_000cu32),
            vec![
                copy(Field::EthSrc, Field::EthDst),
                Action::set(Field::EthSrc, 0x0200_0000_0002),
                Action::set(Field::ArpOp, 2),
                copy(Field::ArpSha, Field::ArpTha),
                Action::set(Field::ArpSha, 0x0200_0000_0002),
                copy(Field::ArpSpa, Field::ArpTpa),
                Action::set(Field::ArpSpa, 0x0a01_000c),
                Action::Output(Output::InPort),
            ],
            Next::Done,
        ),
        entry(
            Stage::ArpNd,
            nd(135).with(Field::NdTarget, 1u128 << 120 | 8),
            vec![
                copy(Field::EthSrc, Field::EthDst),
                Action::set(Field::EthSrc, 0x0200_0000_0002),
                copy(Field::Ipv6Src, Field::Ipv6Dst),
                Action::set(Field::Ipv6Src, 1 << 120 | 8),
                Action::set(Field::NdOption, 2),
                Action::set(Field::NdReserved, 0x6000_0000),
                Action::set(Field::NdSll, 0x0200_0000_0002),
                Action::set(Field::IcmpType, 136),
            ],
            go(Stage::Answer),
        ),
        entry(
            Stage::Answer,
            nd(136),
            vec![copy(Field::EthSrc, Field::NdTll), Action::Output(Output::InPort)],
            Next::Done,
        ),
        entry(
            Stage::SrcClass,
            v4().masked(Field::Ipv4Src, 0xc633_6400u32, 0xffff_ff00),
            vec![Action::set(Field::SrcClass, 3)],
            go(Stage::DstClass),
        ),
        entry(
            Stage::DstClass,
            v6().masked(Field::Ipv6Dst, 0xfd00u128 << 112, u128::MAX << 64),
            vec![Action::set(Field::DstClass, 4)],
            go(Stage::Locate),
        ),
        entry(
            Stage::Locate,
            v4().with(Field::Network, 5u8).with(Field::Ipv4Dst, 0x0a01_000cu32).with(Field::SrcLocal, 1u8),
            vec![Action::set(Field::DstId, 9), Action::set(Field::DstLocal, 1), Action::SetOut(port("db-1"))],
            go(Stage::Track),
        ),
        entry(Stage::Track, v4(), vec![Action::Track], go(Stage::Connection)),
        entry(Stage::Track, v6(), vec![Action::Track], go(Stage::Connection)),
        entry(Stage::Track, v6().with(Field::IpProto, 44u8).with(Field::IpFrag, 3u8), vec![], Next::Drop),
        entry(Stage::Track, v4().masked(Field::IpFrag, frag::ANY, frag::ANY), vec![], Next::Drop),
        entry(
            Stage::Connection,
            conn(conn::EST | conn::RPL | conn::TRK, conn::EST | conn::RPL | conn::TRK).with(Field::Network, 5u8),
            vec![Action::Recall, Action::SwapEnds, Action::RecallService],
            go(Stage::Verdict),
        ),
        entry(Stage::Connection, conn(conn::INV, conn::INV), vec![], Next::Drop),
        entry(Stage::EgressApplication, any(), vec![Action::Reject], Next::Drop),
        entry(
            Stage::EgressApplication,
            any().with(Field::SrcId, 7u8).with(Field::DstId, 9u8).masked(Field::Service, 0x0006_0050u32, 0x00ff_fff0),
            vec![],
            go(Stage::IngressEmergency),
        ),
        entry(
            Stage::IngressApplication,
            any().with(Field::Conjunction, 12u8).with(Field::DstLocal, 1u8),
            vec![],
            go(Stage::Verdict),
        ),
        entry(
            Stage::Verdict,
            conn(conn::NEW | conn::TRK, conn::NEW | conn::TRK),
            vec![Action::Commit],
            go(Stage::Deliver),
        ),
        entry(Stage::Deliver, any(), vec![Action::Output(Output::Chosen)], Next::Done),
        entry(
            Stage::Deliver,
            any().with(Field::Network, 6u8),
            vec![Action::Output(Output::Port(port("db-1")))],
            Next::Done,
        ),
        entry(Stage::Deliver, any().with(Field::Network, 7u8), vec![Action::SetOut(Port::Number(300))], Next::Done),
    ];
    for (k, field) in [(1, Field::SrcId), (2, Field::DstId), (3, Field::Service)] {
        let clause = Action::Clause { conjunction: 12, k, n: 3 };
        let other = Action::Clause { conjunction: 13, k, n: 3 };
        entries.push(entry(Stage::IngressApplication, any().with(field, 5u8), vec![clause, other], Next::Done));
    }
    for (proto, version) in [
        (ip_proto::TCP, ethertype::IPV4),
        (ip_proto::UDP, ethertype::IPV6),
        (ip_proto::SCTP, ethertype::IPV4),
        (ip_proto::ICMP, ethertype::IPV4),
        (ip_proto::ICMPV6, ethertype::IPV6),
        (47, ethertype::IPV6),
    ] {
        let matches = any().with(Field::EthType, version).with(Field::IpProto, proto);
        let services = match proto {
            ip_proto::ICMP | ip_proto::ICMPV6 => vec![Action::ServiceFromIcmp],
            47 => vec![Action::ServiceFromProto],
            _ => vec![Action::ServiceFromDst, Action::ServiceFromSrc],
        };
        for service in services {
            entries.push(entry(Stage::Connection, matches.clone(), vec![service], go(Stage::EgressEmergency)));
        }
    }
    entries
}

fn same(actual: &Program, wanted: &[Entry]) {
    let wanted: Program = wanted.iter().cloned().collect();
    if *actual != wanted {
        panic!("wanted\n{}has\n{}", render_program(&wanted), render_program(actual));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_entry_is_accepted_and_comes_back() {
    let Some(mut rig) = Rig::start().await else { return };
    let entries = every_kind();
    rig.apply(vec![], entries.clone()).await.unwrap();
    let (actual, alien) = rig.read().await;
    assert_eq!(alien, 0);
    same(&actual, &entries);
    // The same again changes nothing, and all of it can be taken away by its keys.
    rig.apply(vec![], entries.clone()).await.unwrap();
    same(&rig.read().await.0, &entries);
    rig.apply(entries, vec![]).await.unwrap();
    same(&rig.read().await.0, &[]);
    assert_eq!(rig.hypervisor.flows().unwrap(), Vec::<String>::new());
    // First fragments are matched by what they carry.
    assert_eq!(rig.hypervisor.ofctl("get-frags", &[]).unwrap().trim(), "nx-match");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_entries_come_back() {
    let Some(mut rig) = Rig::start().await else { return };
    let mut runner = TestRunner::deterministic();
    let mut program = Program::new();
    let entries = generate::entry();
    while program.len() < 600 {
        program.insert(entries.new_tree(&mut runner).unwrap().current());
    }
    let entries: Vec<Entry> = program.iter().cloned().collect();
    rig.apply(vec![], entries.clone()).await.unwrap();
    let (actual, alien) = rig.read().await;
    assert_eq!(alien, 0);
    same(&actual, &entries);
    let (half, rest) = entries.split_at(300);
    rig.apply(half.to_vec(), vec![]).await.unwrap();
    same(&rig.read().await.0, rest);
}

fn drop_in(stage: Stage, priority: u16) -> Entry {
    Entry::new(stage, priority, Match::any(), vec![], Next::Drop, Cause::Builtin(Builtin::Classify))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_entries_are_neither_told_nor_touched() {
    let Some(mut rig) = Rig::start().await else { return };
    let foreign = "cookie=0x5,table=0,priority=9,actions=NORMAL";
    rig.hypervisor.ofctl("add-flow", &[foreign]).unwrap();
    same(&rig.read().await.0, &[]);
    let entry = drop_in(Stage::Classify, 8);
    rig.apply(vec![drop_in(Stage::Classify, 9)], vec![entry.clone()]).await.unwrap();
    same(&rig.read().await.0, &[entry]);
    assert!(rig.hypervisor.flows().unwrap().iter().any(|flow| flow.contains("cookie=0x5")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_with_our_cookie_that_mean_nothing_go_with_the_next_step() {
    let Some(mut rig) = Rig::start().await else { return };
    let cookie = COOKIE_OWNER | 0x77;
    let ours = drop_in(Stage::Classify, 8);
    rig.apply(vec![], vec![ours.clone()]).await.unwrap();
    let stray = format!("cookie={cookie:#x},table=3,priority=9,icmp,actions=NORMAL");
    rig.hypervisor.ofctl("add-flow", &[&stray]).unwrap();
    let (actual, alien) = rig.read().await;
    same(&actual, std::slice::from_ref(&ours));
    assert_eq!(alien, 1);
    rig.apply(vec![], vec![]).await.unwrap();
    assert_eq!(rig.read().await.1, 0);
    assert_eq!(rig.hypervisor.flows().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_with_one_bad_entry_changes_nothing() {
    let Some(mut rig) = Rig::start().await else { return };
    let good = drop_in(Stage::Classify, 8);
    rig.apply(vec![], vec![good.clone()]).await.unwrap();
    // Open vSwitch tracks no packet whose state cannot be: new and established at once.
    let matches =
        Match::any().with(Field::EthType, ethertype::IPV4).with(Field::Conn, conn::NEW | conn::EST | conn::INV);
    let bad = Entry::new(Stage::Verdict, 4, matches, vec![Action::Commit], Next::Drop, Cause::Rule(77));
    let reason = rig.apply(vec![good.clone()], vec![drop_in(Stage::Classify, 5), bad]).await.unwrap_err();
    assert!(reason.contains("rule/77"), "{reason}");
    same(&rig.read().await.0, std::slice::from_ref(&good));
    // One that cannot even be written.
    let nowhere = Match::any().port(port("nowhere"));
    let bad = Entry::new(Stage::Classify, 4, nowhere, vec![], Next::Drop, Cause::Rule(78));
    let reason = rig.apply(vec![], vec![bad]).await.unwrap_err();
    assert!(reason.contains("rule/78") && reason.contains("nowhere"), "{reason}");
    same(&rig.read().await.0, &[good]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_come_and_go() {
    let Some(mut rig) = Rig::start().await else { return };
    rig.add_port("late-1", 7);
    let Report::Ports(ports) = rig.report().await else { panic!("no ports") };
    assert!(ports.contains(&port("late-1")) && ports.contains(&Port::Number(7)));
    let entry = Entry::new(
        Stage::Classify,
        4,
        Match::any().port(port("late-1")),
        vec![Action::SetOut(port("late-1"))],
        Next::Drop,
        Cause::Rule(1),
    );
    rig.apply(vec![], vec![entry.clone()]).await.unwrap();
    same(&rig.read().await.0, std::slice::from_ref(&entry));
    rig.hypervisor.del_port("late-1").unwrap();
    let Report::Ports(ports) = rig.report().await else { panic!("no ports") };
    assert!(!ports.contains(&port("late-1")));
    let (actual, alien) = rig.read().await;
    let left: Vec<Entry> = actual.iter().cloned().collect();
    assert_eq!((left.len(), alien), (1, 0));
    assert_eq!(left[0].key.matches.in_port, Some(Port::Number(7)));
    // With another number it is another port: everything is read again.
    rig.add_port("late-1", 8);
    let Report::Connected { ports, .. } = rig.report().await else { panic!("not connected") };
    assert!(ports.contains(&port("late-1")) && ports.contains(&Port::Number(8)));
    rig.apply(left, vec![entry.clone()]).await.unwrap();
    same(&rig.read().await.0, &[entry]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_are_summed_by_cause() {
    let Some(mut rig) = Rig::start().await else { return };
    let pass = Entry::new(Stage::Classify, 9, Match::any(), vec![], Next::Stage(Stage::Antispoof), Cause::Rule(1));
    let block = |priority, matches| Entry::new(Stage::Antispoof, priority, matches, vec![], Next::Drop, Cause::Rule(2));
    let other = block(3, Match::any().with(Field::EthType, ethertype::ARP));
    rig.apply(vec![], vec![pass, block(2, Match::any()), other]).await.unwrap();
    let frame = ["ffffffffffff", "020000000001", "88b5", &"00".repeat(46)].concat();
    for _ in 0..3 {
        rig.hypervisor.ofctl("packet-out", &[&format!("in_port=1,packet={frame},actions=resubmit(,0)")]).unwrap();
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        rig.command(Command::Count).await;
        let Report::Counters(counters) = rig.report().await else { panic!("no counters") };
        let seen: Vec<_> = counters.iter().map(|c| (c.cause, c.dropped, c.packets)).collect();
        if seen == [(Cause::Rule(1), false, 3), (Cause::Rule(2), true, 3)] {
            assert!(counters.iter().all(|counter| counter.bytes == 3 * 60));
            return;
        }
        // The kernel's own packets on the internal ports are off; counters lag behind the datapath's.
        assert!(tokio::time::Instant::now() < deadline, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A hello, then what the driver asks, answered as a switch of this datapath id would.
async fn pretend(rig: &Rig, datapath: u64) -> TcpStream {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(&[4, 0, 0, 8, 0, 0, 0, 1]).await.unwrap();
    let mut reply = vec![4, 6, 0, 32];
    let asked = until(&mut stream, 5).await;
    reply.extend(&asked[4..8]);
    reply.extend(datapath.to_be_bytes());
    reply.extend([0, 0, 0, 0, 254, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    stream.write_all(&reply).await.unwrap();
    let asked = until(&mut stream, 18).await;
    let mut reply = vec![4, 19, 0, 16];
    reply.extend(&asked[4..8]);
    reply.extend([0, 13, 0, 0, 0, 0, 0, 0]);
    stream.write_all(&reply).await.unwrap();
    stream
}

/// The next message of a type.
async fn until(stream: &mut TcpStream, kind: u8) -> Vec<u8> {
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head).await.unwrap();
        let mut body = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]])) - 8];
        stream.read_exact(&mut body).await.unwrap();
        if head[1] == kind {
            return [&head[..], &body].concat();
        }
    }
}

async fn closed(mut stream: TcpStream) -> bool {
    let mut bytes = Vec::new();
    timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_switch_with_the_same_datapath_id_is_refused() {
    let Some(mut rig) = Rig::start().await else { return };
    let impostor = pretend(&rig, rig::DATAPATH).await;
    assert!(closed(impostor).await);
    assert!(matches!(rig.report().await, Report::Impostor { .. }));
    rig.apply(vec![], vec![drop_in(Stage::Classify, 8)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_that_refuses_to_tell_its_entries_is_let_go_to_come_again() {
    let Some(mut rig) = Rig::bare().await else { return };
    rig.attach(1).await;
    let mut stream = pretend(&rig, rig::DATAPATH).await;
    assert!(matches!(rig.report().await, Report::Connected { .. }));
    rig.command(Command::Read).await;
    // It is asked for its groups, which it may not have, and then for its entries.
    for _ in 0..2 {
        let asked = until(&mut stream, 18).await;
        // OFPBRC_EPERM.
        let mut error = vec![4, 1, 0, 12];
        error.extend(&asked[4..8]);
        error.extend([0, 1, 0, 5]);
        stream.write_all(&error).await.unwrap();
    }
    let Report::Disconnected(why) = rig.report().await else { panic!("still connected") };
    assert!(why.starts_with("the switch refuses to tell its entries: "), "{why}");
    assert!(closed(stream).await);
    rig.connect();
    assert!(matches!(rig.report().await, Report::Connected { .. }));
    assert!(rig.read().await.0.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_its_own_session_only() {
    let Some(mut rig) = Rig::start().await else { return };
    let hello = [4, 0, 0, 8, 0, 0, 0, 1];
    let cases: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".to_vec(),
        vec![0xff; 70_000],
        // A length below the header; a hello element of length zero (A1).
        vec![4, 0, 0, 0, 0, 0, 0, 1],
        vec![4, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0],
        // Features before anyone asked, a packet-in instead of a hello, half a message.
        [&hello[..], &[4, 6, 0, 8, 0, 0, 0, 9]].concat(),
        vec![4, 10, 0, 8, 0, 0, 0, 1],
        [&hello[..], &[4, 6, 0, 32, 0, 0]].concat(),
    ];
    let mut streams = Vec::new();
    for bytes in cases {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        streams.push(stream);
    }
    rig.apply(vec![], vec![drop_in(Stage::Classify, 8)]).await.unwrap();
    for (case, stream) in streams.into_iter().enumerate() {
        assert!(closed(stream).await, "case {case} is kept");
    }
    rig.apply(vec![], vec![drop_in(Stage::Classify, 9)]).await.unwrap();
    assert_eq!(rig.read().await.0.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_that_connects_first_waits_until_it_is_attached() {
    let Some(mut rig) = Rig::bare().await else { return };
    for (port, number) in PORTS {
        rig.add_port(port, number);
    }
    rig.connect();
    let report = timeout(Duration::from_secs(5), rig.reports.recv()).await.unwrap().unwrap();
    let Report::Waits(id) = report.report else { panic!("no word that it waits: {report:?}") };
    assert_eq!(report.attachment, 0);
    assert!(rig.reports.try_recv().is_err(), "more is said of it than that it waits");
    rig.attach(3).await;
    let report = timeout(Duration::from_secs(5), rig.reports.recv()).await.unwrap().unwrap();
    assert_eq!((report.switch, report.attachment), (name(), 3));
    let Report::Connected { session, .. } = report.report else { panic!("not connected") };
    rig.session = session;
    // Detached, its session ends and its entries stay.
    rig.apply(vec![], vec![drop_in(Stage::Classify, 8)]).await.unwrap();
    rig.commands.send(ToDrivers::Detach { switch: name() }).await.unwrap();
    assert!(matches!(rig.report().await, Report::Disconnected(_)));
    assert_eq!(rig.hypervisor.flows().unwrap().len(), 1);
    // And again.
    let Report::Waits(again) = rig.report().await else { panic!("it does not come back") };
    assert_eq!(again, id);
    rig.attach(4).await;
    assert!(matches!(rig.report().await, Report::Connected { .. }));
    assert_eq!(rig.read().await.0.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_peers_are_bounded_and_harm_nobody() {
    let Some(mut rig) = Rig::start().await else { return };
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(TcpStream::connect(rig.address).await.unwrap());
    }
    rig.apply(vec![], vec![drop_in(Stage::Classify, 8)]).await.unwrap();
    // Those beyond the bound are closed at once, the others once their handshake is overdue.
    let mut at_once = 0;
    for stream in &mut idle {
        let mut bytes = [0; 64];
        while let Ok(Ok(got)) = timeout(Duration::from_millis(20), stream.read(&mut bytes)).await {
            if got == 0 {
                at_once += 1;
                break;
            }
        }
    }
    assert!((100..200).contains(&at_once), "{at_once} closed");
    for stream in idle {
        assert!(closed(stream).await);
    }
    rig.apply(vec![], vec![drop_in(Stage::Classify, 9)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_that_does_not_answer_makes_no_other_wait() {
    let Some(mut rig) = Rig::start().await else { return };
    let slow: bulkhead_topology::Name = "slow".parse().unwrap();
    let address = Address::Datapath(DatapathId(0x51));
    rig.commands.send(ToDrivers::Attach { switch: slow.clone(), address, attachment: 2 }).await.unwrap();
    let ours = rig.session;
    let _silent = pretend(&rig, 0x51).await;
    let Report::Connected { session, .. } = rig.report().await else { panic!("not connected") };
    // More than it may have waiting: its session ends, as the only one.
    for step in 0..100 {
        let delta = Delta { remove: vec![], add: vec![drop_in(Stage::Classify, 8); 100] };
        let command = Command::Apply { step, delta, ahead: Default::default() };
        rig.commands.send(ToDrivers::Command { switch: slow.clone(), session, command }).await.unwrap();
    }
    let mut answers = Vec::new();
    rig.session = ours;
    rig.command(Command::Read).await;
    while answers.len() < 2 {
        let report = timeout(Duration::from_secs(5), rig.reports.recv()).await.unwrap().unwrap();
        if matches!(report.report, Report::PortStates(_) | Report::Peer(_)) {
            continue;
        }
        answers.push((report.switch == slow, matches!(report.report, Report::Actual { .. })));
    }
    answers.sort_unstable();
    assert_eq!(answers, [(false, true), (true, false)]);
}

#[tokio::test]
async fn a11_of_two_controllers_the_newer_one_writes() {
    let Some(mut rig) = Rig::start().await else { return };
    let entries = every_kind();
    // One that was started before ours, or goes on from a copy of its store.
    let ours = rig.rival(6).await;
    assert!(matches!(rig.report().await, Report::Connected { .. }));
    let end = rig.report().await;
    assert!(matches!(&end, Report::Disconnected(why) if why.contains("a newer controller has this switch")), "{end:?}");
    rig.again(ours);
    rig.apply(vec![], entries[..2].to_vec()).await.unwrap();
    // One that is newer: ours is told that it may not write, and nothing of what it asks for is done.
    let ours = rig.rival(8).await;
    assert!(matches!(rig.report().await, Report::Connected { .. }));
    assert_eq!(rig.read().await.0.iter().count(), 2);
    rig.apply(vec![], entries[2..4].to_vec()).await.unwrap();
    let newer = rig.again(ours);
    let refused = rig.apply(entries[..2].to_vec(), vec![]).await.unwrap_err();
    println!("{refused}");
    rig.again(newer);
    assert_eq!(rig.read().await.0.iter().count(), 4);
}
