//! What a switch that remembers no connections lets pass: questions that are allowed, what may be an answer to one, and
//! nothing else.

use bulkhead_pipeline::{
    Action, Builtin, Cause, Entry, Field, Match, Next, Outcome, Output, Packet, Program, Sort, Stage, Walk, conn,
    ethertype, identity, ip_proto, peer, walk_stateless,
};
use bulkhead_topology::Port;
use proptest::prelude::*;

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const FIN: u8 = 1;
const DENIED: Cause = Cause::Rule(1);
/// Identities.
const CLIENT: u128 = 7;
const SERVER: u128 = 8;

fn port(name: &str) -> Port {
    Port::Name(name.into())
}

/// The client may ask the server for TCP and UDP port 80, for whatever port 9 of SCTP is, and ping it.
fn program() -> Program {
    let b = Cause::Builtin(Builtin::Conntrack);
    let to = Next::Stage;
    let e = |stage, priority, m, actions, next, cause| Entry::new(stage, priority, m, actions, next, cause);
    let any = Match::any;
    let judge = to(Stage::EgressEmergency);
    let reply = |m: Match| m.masked(Field::Conn, conn::TRK | conn::RPL, conn::TRK | conn::RPL);
    let mut all = vec![
        e(Stage::Classify, 1, any(), vec![], to(Stage::Track), b),
        e(Stage::Track, 1, any(), vec![Action::Track], to(Stage::Connection), b),
        e(Stage::Connection, 100, any().masked(Field::Conn, conn::INV, conn::INV), vec![], Next::Drop, b),
        // Were one established, it would pass by policy.
        e(Stage::Connection, 90, any().masked(Field::Conn, conn::EST, conn::EST), vec![], to(Stage::Verdict), b),
        e(Stage::Connection, 60, reply(any()), vec![Action::SwapEnds, Action::ServiceFromSrc], judge, b),
        e(Stage::Connection, 50, any(), vec![Action::ServiceFromDst], judge, b),
        e(Stage::EgressEmergency, 1, any(), vec![], to(Stage::IngressEmergency), b),
        e(Stage::IngressEmergency, 0, any(), vec![], Next::Drop, DENIED),
        e(Stage::Verdict, 1, any(), vec![], to(Stage::Deliver), b),
        e(Stage::Deliver, 1, any(), vec![Action::Output(Output::Port(port("out")))], Next::Done, b),
    ];
    for (kind, protocol, answer, question) in
        [(0x0800u128, ip_proto::ICMP, 0u8, 8u32), (0x86dd, ip_proto::ICMPV6, 129, 128)]
    {
        let icmp = any().with(Field::EthType, kind).with(Field::IpProto, protocol);
        let ask = Action::set(Field::Service, protocol << 16 | u128::from(question) << 8);
        let back = vec![Action::SwapEnds, ask];
        all.push(e(Stage::Connection, 70, reply(icmp.clone()).with(Field::IcmpType, answer), back, judge, b));
        all.push(e(Stage::Connection, 55, icmp, vec![Action::ServiceFromIcmp], judge, b));
    }
    let services = [6u32 << 16 | 80, 17 << 16 | 80, 132 << 16 | 9, 1 << 16 | 8 << 8, 58 << 16 | 128 << 8];
    for service in services {
        let m = any().with(Field::SrcId, CLIENT).with(Field::DstId, SERVER).with(Field::Service, service);
        all.push(e(Stage::IngressEmergency, 10, m, vec![], to(Stage::Verdict), Cause::Rule(2)));
    }
    all.into_iter().collect()
}

/// A packet from an identity to another one.
fn packet([from, to]: [u128; 2], protocol: u128, [sport, dport]: [u16; 2], control: u8) -> Packet {
    let mut packet = Packet::new(port("in"))
        .with(Field::EthType, ethertype::IPV4)
        .with(Field::IpProto, protocol)
        .with(Field::SrcId, from)
        .with(Field::DstId, to)
        .with(Field::L4Src, sport)
        .with(Field::L4Dst, dport);
    packet.control = control;
    packet
}

fn passes(packet: &Packet) -> bool {
    matches!(walk_stateless(&program(), packet.clone()).outcome, Outcome::Delivered { .. })
}

fn views(walk: &Walk<'_>) -> usize {
    walk.steps.iter().filter(|step| step.stage == Stage::Track).count()
}

const ASK: [u128; 2] = [CLIENT, SERVER];
const ANSWER: [u128; 2] = [SERVER, CLIENT];

#[test]
fn questions_pass_and_so_do_their_answers() {
    for flags in [SYN, ACK, ACK | FIN, RST, ACK | RST] {
        assert!(passes(&packet(ASK, 6, [40_000, 80], flags)), "{flags}");
    }
    for flags in [SYN | ACK, ACK, ACK | FIN, RST, RST | ACK] {
        assert!(passes(&packet(ANSWER, 6, [80, 40_000], flags)), "{flags}");
    }
    assert!(passes(&packet(ASK, 17, [40_000, 80], 0)) && passes(&packet(ANSWER, 17, [80, 40_000], 0)));
    // INIT, INIT ACK, DATA.
    assert!(passes(&packet(ASK, 132, [40_000, 9], 1)) && passes(&packet(ANSWER, 132, [9, 40_000], 2)));
    assert!(passes(&packet(ANSWER, 132, [9, 40_000], 0)));
}

#[test]
fn nobody_opens_a_connection_as_if_it_were_an_answer() {
    // From port 80, which would be the answer's.
    for flags in [SYN, SYN | RST, 0, FIN] {
        assert!(!passes(&packet(ANSWER, 6, [80, 22], flags)), "{flags}");
    }
    assert!(!passes(&packet(ANSWER, 132, [9, 22], 1)));
    // Nor from another port, with whatever flags.
    for flags in [SYN | ACK, ACK, RST] {
        assert!(!passes(&packet(ANSWER, 6, [81, 40_000], flags)), "{flags}");
    }
    assert!(!passes(&packet(ANSWER, 17, [81, 40_000], 0)));
}

#[test]
fn what_can_only_be_an_answer_is_no_question() {
    assert!(!passes(&packet(ASK, 6, [40_000, 80], SYN | ACK)));
    assert!(!passes(&packet(ASK, 132, [40_000, 9], 2)));
}

#[test]
fn pings_and_their_answers_pass_and_errors_do_not() {
    for (kind, protocol, question, answer, errors) in
        [(ethertype::IPV4, 1, 8u8, 0u8, [3u8, 11, 12]), (ethertype::IPV6, 58, 128, 129, [1, 2, 3])]
    {
        let icmp = |ends, kind_of: u8| {
            packet(ends, protocol, [0, 0], 0)
                .with(Field::EthType, kind)
                .with(Field::IcmpType, kind_of)
                .with(Field::IcmpCode, 0u8)
        };
        assert!(passes(&icmp(ASK, question)) && passes(&icmp(ANSWER, answer)));
        assert!(!passes(&icmp(ANSWER, question)) && !passes(&icmp(ASK, answer)));
        for error in errors {
            let walk = walk_stateless(&program(), icmp(ANSWER, error)).outcome;
            assert_eq!(walk, Outcome::Dropped(Cause::Builtin(Builtin::Conntrack)), "{error}");
        }
    }
}

#[test]
fn who_comes_from_another_switch_is_what_that_says() {
    let from_far = |m: Packet, said: u128| m.with(Field::FromTunnel, 1u8).with(Field::Peer, said);
    let (ask, answer) = (packet(ASK, 17, [40_000, 80], 0), packet(ANSWER, 17, [80, 40_000], 0));
    use peer::{ANSWER as ANSWERS, EITHER, MAY_ANSWER, QUESTION};
    for (said, [asks, answers]) in
        [(QUESTION, [true, false]), (ANSWERS, [false, true]), (MAY_ANSWER, [false, true]), (EITHER, [true, true])]
    {
        assert_eq!(passes(&from_far(ask.clone(), said)), asks, "{said}");
        assert_eq!(passes(&from_far(answer.clone(), said)), answers, "{said}");
        // A first segment is no answer, whoever says so.
        assert!(!passes(&from_far(packet(ANSWER, 6, [80, 22], SYN), said)));
    }
    // Outsiders and those behind a kernel's VTEP have nobody who judges for them.
    let by_itself = |m: Packet| {
        passes(&from_far(m.clone(), 0).with(Field::SrcLocal, 1u8)) && passes(&from_far(m, 1).with(Field::SrcLocal, 1u8))
    };
    assert!(by_itself(ask) && by_itself(answer.clone()));
    let outsider = from_far(answer, 1).with(Field::SrcId, identity::EXTERNAL);
    assert_eq!(views(&walk_stateless(&program(), outsider)), 2);
}

/// What goes to another switch's workload.
fn to_peer() -> Program {
    let mut program = program();
    let b = Cause::Builtin(Builtin::Conntrack);
    let found = vec![Action::set(Field::ToPeer, 1)];
    program.insert(Entry::new(Stage::Classify, 1, Match::any(), found, Next::Stage(Stage::Track), b));
    // And the server may be asked for port 81 of UDP by anybody.
    let service = Match::any().with(Field::Service, 17u32 << 16 | 81);
    program.insert(Entry::new(Stage::IngressEmergency, 10, service, vec![], Next::Stage(Stage::Verdict), b));
    program
}

#[test]
fn what_goes_to_another_switch_says_in_which_views_it_passed() {
    let program = to_peer();
    let state = |packet: Packet| {
        let walk = walk_stateless(&program, packet);
        let count = |stage| walk.steps.iter().filter(|step| step.stage == stage).count();
        // Behind policies it comes once.
        assert_eq!(count(Stage::Verdict), count(Stage::Deliver), "{walk:#?}");
        assert!(count(Stage::Verdict) <= 1);
        match &walk.outcome {
            Outcome::Delivered { packet, .. } => Some((packet.value(Field::Conn), count(Stage::Track))),
            _ => None,
        }
    };
    let udp = |ends, ports| state(packet(ends, 17, ports, 0));
    // As a question; as a question, not as an answer; as an answer alone; as either; in no view.
    assert_eq!(state(packet(ASK, 6, [40_000, 80], SYN)), Some((conn::TRK | conn::NEW, 1)));
    assert_eq!(udp(ASK, [40_000, 80]), Some((conn::TRK | conn::NEW, 2)));
    assert_eq!(state(packet(ANSWER, 6, [80, 40_000], SYN | ACK)), Some((conn::TRK | conn::RPL, 1)));
    assert_eq!(udp(ANSWER, [80, 40_000]), Some((conn::TRK | conn::RPL, 2)));
    assert_eq!(udp(ANSWER, [80, 81]), Some((conn::TRK | conn::EITHER, 2)));
    assert_eq!(udp(ANSWER, [82, 40_000]), None);
}

#[test]
fn the_first_view_tells_the_sender() {
    let mut program = program();
    let reject = Entry::new(Stage::IngressEmergency, 5, Match::any(), vec![Action::Reject], Next::Drop, DENIED);
    program.insert(reject);
    let walk = walk_stateless(&program, packet(ANSWER, 6, [81, 1], ACK));
    assert_eq!((walk.outcome.clone(), views(&walk)), (Outcome::Rejected(DENIED), 2));
    let passed = walk_stateless(&program, packet(ANSWER, 6, [80, 1], ACK));
    assert!(matches!(passed.outcome, Outcome::Delivered { .. }));
}

/// By causes: the egress of everybody, the service that is allowed, and everything else, each for first packets.
#[test]
fn lines_are_about_questions_and_of_what_passes_about_what_begins() {
    const OUT: Cause = Cause::Rule(3);
    const IN: Cause = Cause::Rule(2);
    let mut program = program();
    let new = || Match::any().masked(Field::Conn, conn::NEW, conn::NEW);
    let served =
        |matches: Match, protocol: u32| matches.with(Field::DstId, SERVER).with(Field::Service, protocol << 16 | 80);
    let logs = [
        (Stage::EgressEmergency, 5, new(), Next::Stage(Stage::IngressEmergency), OUT),
        (Stage::IngressEmergency, 20, served(new(), 6), Next::Stage(Stage::Verdict), IN),
        (Stage::IngressEmergency, 21, served(new(), 17), Next::Stage(Stage::Verdict), IN),
        (Stage::IngressEmergency, 5, new(), Next::Drop, DENIED),
    ];
    for (stage, priority, matches, next, cause) in logs {
        program.insert(Entry::new(stage, priority, matches, vec![Action::Log], next, cause));
    }
    let lines = |packet: Packet| -> Vec<Cause> {
        walk_stateless(&program, packet).logged.iter().map(|entry| entry.cause).collect()
    };
    assert_eq!(lines(packet(ASK, 6, [40_000, 80], SYN)), [OUT, IN]);
    // Of a connection that is there: its asker's segments, and the answers.
    assert_eq!(lines(packet(ASK, 6, [40_000, 80], ACK)), []);
    assert_eq!(lines(packet(ANSWER, 6, [80, 40_000], SYN | ACK)), []);
    assert_eq!(lines(packet(ANSWER, 6, [80, 40_000], ACK)), []);
    // Refused in every view.
    assert_eq!(lines(packet(ASK, 6, [40_000, 81], SYN)), [OUT, DENIED]);
    assert_eq!(lines(packet(ANSWER, 6, [81, 40_000], ACK)), [OUT, DENIED]);
    assert_eq!(lines(packet(ANSWER, 6, [81, 40_000], SYN | ACK)), []);
    // Nothing tells which of them is a first one.
    assert_eq!(lines(packet(ASK, 17, [40_000, 80], 0)), [OUT, IN]);
    assert_eq!(lines(packet(ANSWER, 17, [80, 40_000], 0)), []);
    // To another switch's workload, in both views.
    let far = |packet: Packet| lines(packet.with(Field::ToPeer, 1u8));
    assert_eq!(far(packet(ASK, 17, [40_000, 80], 0)), [OUT, IN]);
    assert_eq!(far(packet(ASK, 17, [80, 80], 0)), [OUT, IN]);
    assert_eq!(far(packet(ASK, 6, [80, 80], ACK)), []);
}

proptest! {
    #[test]
    fn there_are_at_most_two_views_and_the_second_is_for_what_policy_refused(
        ends in prop_oneof![Just(ASK), Just(ANSWER), Just([CLIENT, CLIENT])],
        protocol in prop_oneof![Just(6u128), Just(17), Just(132), Just(47)],
        ports in [prop_oneof![Just(80u16), Just(9), any::<u16>()], prop_oneof![Just(80u16), Just(9), any::<u16>()]],
        control: u8,
        from_tunnel: bool,
        said in 0..4u128,
    ) {
        let packet = packet(ends, protocol, ports, control)
            .with(Field::FromTunnel, u8::from(from_tunnel))
            .with(Field::Peer, said);
        let program = program();
        let walk = walk_stateless(&program, packet.clone());
        prop_assert!(views(&walk) <= 2);
        let sort = Sort::of(&packet);
        let either = !from_tunnel || said == peer::EITHER;
        prop_assert!(views(&walk) == 1 || (sort == Sort::Either && either));
        // Allowed as it is, or as the answer that it may be: nothing else passes.
        let allowed = |ends: [u128; 2], service: u16| {
            let number = [(6, 80), (17, 80), (132, 9)].contains(&(protocol, service));
            ends == ASK && number
        };
        let [from, to] = ends;
        let asks = matches!(sort, Sort::Opens | Sort::Either) && (either || said == peer::QUESTION) && allowed(ends, ports[1]);
        let answers = matches!(sort, Sort::Answers | Sort::Either) && (either || said != peer::QUESTION) && allowed([to, from], ports[0]);
        prop_assert_eq!(matches!(walk.outcome, Outcome::Delivered { .. }), asks || answers);
    }
}

#[test]
fn frames_say_what_they_are_by_their_flags() {
    let frame = |protocol: u8, control: usize, value: u8| {
        let mut frame = vec![0u8; 14 + 20 + 20];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[17] = 40;
        frame[23] = protocol;
        frame[34 + 12] = 0x50;
        frame[34 + control] = value;
        Sort::of(&Packet::parse(port("in"), &frame).unwrap())
    };
    assert_eq!([SYN, SYN | ACK, ACK].map(|flags| frame(6, 13, flags)), [Sort::Opens, Sort::Answers, Sort::Either]);
    assert_eq!([1, 2, 3].map(|chunk| frame(132, 12, chunk)), [Sort::Opens, Sort::Answers, Sort::Either]);
    // A header that is cut off has no flags: it opens nothing by them, and answers nothing.
    let cut = |length: u8| {
        let mut frame = vec![0u8; 14 + 20 + 20];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[17] = length;
        frame[23] = 6;
        frame[34 + 12] = 0x50;
        frame[34 + 13] = ACK;
        Sort::of(&Packet::parse(port("in"), &frame).unwrap())
    };
    assert_eq!([cut(40), cut(39)], [Sort::Either, Sort::Opens]);
}
