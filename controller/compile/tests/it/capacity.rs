//! R18: at 80, 100 and 101 % of each limit of compiling. What does not fit is refused with its size and the limit,
//! before anything is sent, and what was there stays in force.

use crate::common;
use bulkhead_compile::{Compiler, Numbers, TooLarge};
use bulkhead_policy::{
    Change, Resource, State,
    model::{Action, Direction, Peer, Policy, PortMatch, Rule, Sides, Subject, Tier},
};
use bulkhead_topology::Selector;
use common::{BASE, apply, compile, fabric, len, name, policy, state, text, workload};
use std::sync::Arc;

/// 80, 100 and 101 % of a limit.
fn around(limit: usize) -> [(usize, bool); 3] {
    [(limit * 4 / 5, true), (limit, true), (limit + limit.div_ceil(100), false)]
}

/// Compiles what `make` says for sizes around a limit on top of `base`.
fn check(base: &str, limit: usize, make: impl Fn(usize) -> Vec<Change>) {
    for (size, fits) in around(limit) {
        let mut state = state(base);
        let mut compiler = compile(&state);
        let before = text(&compiler);
        match apply(&mut state, &mut compiler, &make(size)) {
            Ok(()) => {
                assert!(fits, "{size} of {limit} was taken");
                assert!(len(&compiler) > before.lines().count());
            }
            Err(refused) => {
                assert!(!fits, "{refused}");
                let told = (refused.size, refused.limit, refused.to_string());
                assert!(told.0 > told.1 && told.2.contains(&told.1.to_string()), "{told:?}");
                assert_eq!(text(&compiler), before, "a refused change leaves the program as it was");
            }
        }
    }
}

fn rules(ingress: Vec<Rule>) -> Change {
    Change::set(Resource::Policy(Arc::new(Policy {
        name: name("limit"),
        tier: Tier::Application,
        priority: 1000,
        staged: false,
        stateful: false,
        subject: Subject::Selector(Selector::of([("side", "a")])),
        isolate: Sides { ingress: true, egress: false },
        ingress,
        egress: Vec::new(),
    })))
}

fn allow(ports: Vec<PortMatch>) -> Rule {
    Rule { name: "".into(), action: Action::Allow, priority: 0, peers: None, ports: Some(ports), log: false }
}

#[test]
fn r18_entries_of_one_rule() {
    // Ports of every other number share no block: each is an entry.
    check(&fabric(""), 200_000, |size| {
        let port = |n: usize| {
            let (protocol, port) = ((n / 32_768) as u8, (n % 32_768) as u16 * 2);
            PortMatch::Ports { protocol, first: port, last: port }
        };
        vec![rules(vec![allow((0..size).map(port).collect())])]
    });
}

#[test]
fn r18_priorities_of_one_stage() {
    // Every rule priority is a level of eight.
    check(&fabric(""), 8_123, |size| {
        let rule = |n: usize| Rule { priority: n as u16, ..allow(vec![PortMatch::Protocol(6)]) };
        vec![rules((0..size).map(rule).collect())]
    });
}

#[test]
fn r18_variants_of_one_rule() {
    // As many ways to read one port's name as there are workloads.
    let named =
        |n: u16| workload(n + 10, &format!("side: a, n: n{n}"), &format!(", namedPorts: {{web: {}/tcp}}", n + 1));
    for (size, fits) in around(256) {
        let all: String = (0..size as u16).map(named).collect();
        let with = format!("{BASE}{all}");
        let mut state = state(&with);
        let mut compiler = compile(&state);
        let before = text(&compiler);
        let by_name = rules(vec![allow(vec![PortMatch::Named { name: "web".into(), protocol: None }])]);
        let result = apply(&mut state, &mut compiler, &[by_name]);
        match fits {
            true => result.unwrap(),
            false => {
                let refused = result.unwrap_err();
                assert_eq!((refused.size, refused.limit), (size as u64, 256), "{refused}");
                assert_eq!(text(&compiler), before);
            }
        }
    }
}

/// Near the end of a kind's numbers.
fn nearly(kind: &str, next: u64) -> Numbers {
    [(format!("next/{kind}").into(), u32::try_from(next).unwrap())].into_iter().collect()
}

fn with_numbers(documents: &str, numbers: Numbers) -> Result<Compiler, TooLarge> {
    Compiler::new(&state(documents), numbers).map(|(compiler, _)| compiler)
}

#[test]
fn r18_numbers_end_and_are_never_given_twice() {
    let documents = fabric(&policy(
        "p",
        "subject: {matchLabels: {side: a}}, ingress: [{action: allow, from: [{cidr: 192.0.2.0/24}]}]",
    ));
    for (kind, last) in [
        ("network", 0xffff),
        ("identity", 0xffff_fffd),
        ("rule", 0xff_fffe),
        ("policy", 0xffff_fffe),
        ("prefix", 0xffff_fffe),
    ] {
        // One of each but two identities and one prefix, which its pair of stages shares.
        let fitting = with_numbers(&documents, nearly(kind, last)).unwrap();
        let given: Vec<u32> =
            fitting.numbers().iter().filter(|(key, _)| key.starts_with(&format!("{kind}/"))).map(|(_, n)| n).collect();
        assert!(given.iter().all(|number| u64::from(*number) >= last), "{kind}: {given:?}");
        let end = u64::from(*given.iter().max().unwrap());
        let refused = with_numbers(&documents, nearly(kind, end + 1)).err().unwrap();
        assert_eq!((refused.size, refused.limit), (end + 1, end), "{kind}: {refused}");
        assert!(refused.to_string().contains(kind), "{refused}");
    }
}

#[test]
fn a39_a_refused_number_is_not_taken_from_another() {
    let base = fabric("");
    let mut state: State = state(&base);
    let (mut compiler, _) = Compiler::new(&state, nearly("network", 0xffff)).unwrap();
    let before = text(&compiler);
    let other = common::changes("kind: Network\nmetadata: {name: other}\nspec: {vni: 2, subnets: [10.9.0.0/16]}");
    let refused = apply(&mut state, &mut compiler, &other).unwrap_err();
    assert_eq!((refused.size, refused.limit), (0x1_0000, 0xffff));
    assert_eq!(text(&compiler), before);
    // A network that goes gives its number to nobody: a switch may still hold its connections.
    let gone = [Change::remove(bulkhead_policy::Kind::Network.named(&name("net")))];
    compiler.apply(&gone).unwrap();
    assert!(compiler.apply(&other).is_err());
}

#[test]
fn a39_whatever_is_refused_for_its_number_is_not_half_there() {
    // One rule's number is left.
    let (mut compiler, _) = Compiler::new(&state(&fabric("")), nearly("rule", 0xff_fffe)).unwrap();
    let mut state: State = state(&fabric(""));
    let two = policy("p", "subject: {matchLabels: {side: a}}, ingress: [{action: allow}, {action: deny}]");
    let refused = apply(&mut state, &mut compiler, &common::changes(&two)).unwrap_err();
    assert_eq!((refused.size, refused.limit), (0xff_ffff, 0xff_fffe));
    // Now about others; and whom the refused one was about comes anew.
    let other = policy("p", "subject: {matchLabels: {side: b}}, ingress: []");
    apply(&mut state, &mut compiler, &common::changes(&other)).unwrap();
    apply(&mut state, &mut compiler, &common::changes(&workload(3, "side: a", ""))).unwrap();
    let anew = Compiler::new(&state, compiler.numbers().clone()).unwrap().0;
    assert_eq!(text(&compiler), text(&anew));
    // Zones are numbered likewise; what the zone would have done to its members is not half done either.
    let (mut compiler, _) = Compiler::new(&state, nearly("zone", 0xffff_ffff)).unwrap();
    let before = text(&compiler);
    let zone = "---\nkind: Zone\nmetadata: {name: z}\nspec: {network: net, selector: {matchLabels: {side: a}}, mode: monitor}\n";
    apply(&mut state, &mut compiler, &common::changes(zone)).unwrap_err();
    apply(&mut state, &mut compiler, &common::changes(&workload(4, "side: a", ""))).unwrap();
    apply(&mut state, &mut compiler, &[Change::remove(bulkhead_policy::Kind::Workload.named(&name("w4")))]).unwrap();
    assert_eq!(text(&compiler), before);
}

/// Rules with the same peers and other ports: they share an entry for each peer, with a clause for each rule.
fn sharing(rules: u16) -> Change {
    let rule = |n: u16| Rule {
        peers: Some(vec![Peer::Selector(Selector::of([("side", "b")]))]),
        ..allow(vec![PortMatch::Ports { protocol: 6, first: n * 8 + 1, last: n * 8 + 7 }])
    };
    self::rules((0..rules).map(rule).collect())
}

#[test]
fn a36_conjunctions_too_large_for_one_message_are_refused() {
    // At the limit, and one per cent above it: as one OpenFlow message an entry has at most 64 KiB.
    let peers: String = (10..14).map(|n| common::elsewhere(n, &format!("side: b, n: n{n}"))).collect();
    let base = state(&fabric(&peers));
    let (mut state, mut compiler) = (base.clone(), compile(&base));
    apply(&mut state, &mut compiler, &[sharing(3_500)]).unwrap();
    assert!(text(&compiler).contains("clause"), "the rules share their sets");

    let (mut state, mut compiler) = (base.clone(), compile(&base));
    let before = text(&compiler);
    let refused = apply(&mut state, &mut compiler, &[sharing(3_535)]).unwrap_err();
    assert_eq!((refused.size, refused.limit), (3_535, 3_500), "{refused}");
    assert_eq!(text(&compiler), before, "a refused change leaves the program as it was");
    // What was there still follows changes.
    apply(&mut state, &mut compiler, &[sharing(10)]).unwrap();
    assert!(len(&compiler) > before.lines().count());
}

#[test]
fn r9_a_first_compile_that_fails_leaves_neither_everything_nor_nothing() {
    let mut state = state(&fabric(""));
    let mut compiler = compile(&state);
    let before = text(&compiler);
    // A new workload together with a policy about it that does not fit.
    let even = |protocol| (0..u16::MAX).step_by(2).map(move |port| (protocol, port));
    let port = |(protocol, port)| PortMatch::Ports { protocol, first: port, last: port };
    let ports: Vec<_> = (1..8).flat_map(even).map(port).collect();
    let mut both = common::changes(&workload(3, "side: a", ""));
    both.push(rules(vec![allow(ports)]));
    let refused = apply(&mut state, &mut compiler, &both).unwrap_err();
    assert!(
        refused.size > refused.limit && refused.to_string().contains("ingress rule 0 of policy limit"),
        "{refused}"
    );
    assert_eq!(text(&compiler), before);
    assert!(!state.workloads.contains_key(&name("w3")));
    // Reverted, then done right.
    both.truncate(1);
    apply(&mut state, &mut compiler, &both).unwrap();
    assert_eq!(text(&compiler), text(&Compiler::new(&state, compiler.numbers().clone()).unwrap().0));
    assert!(text(&compiler).contains("w3"));
}

#[test]
fn a35_a_change_that_does_not_compile_keeps_every_rule() {
    let allowing = policy(
        "p",
        "subject: {matchLabels: {side: b}}, ingress: [{action: allow, from: [{matchLabels: {side: a}}], ports: [{protocol: tcp, port: 80}]}]",
    );
    let open = policy("open", "subject: {matchLabels: {side: a}}, egress: [{action: allow}]");
    let mut state = state(&fabric(&format!("{allowing}{open}")));
    let mut compiler = compile(&state);
    assert!(common::reaches(&compiler, 1, 2, 80) && !common::reaches(&compiler, 1, 2, 81));
    let before = text(&compiler);
    for _ in 0..3 {
        let worse = rules((0..9_000).map(|n| Rule { priority: n, ..allow(vec![PortMatch::Protocol(6)]) }).collect());
        // The same change would also take the rule away that allows: all of it or nothing.
        let removal = Change::remove(bulkhead_policy::Kind::Policy.named(&name("p")));
        apply(&mut state, &mut compiler, &[worse, removal]).unwrap_err();
        assert_eq!(text(&compiler), before);
        assert!(common::reaches(&compiler, 1, 2, 80) && !common::reaches(&compiler, 1, 2, 81));
    }
    assert!(state.policies[&name("p")].rules(Direction::Ingress).len() == 1);
}
