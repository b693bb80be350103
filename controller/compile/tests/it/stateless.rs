//! What holds on switches that remember no connections: a connection's first packet is judged as on any other switch, the
//! answers of one that is allowed pass, and what neither view allows never does.

use crate::journey;
use bulkhead_compile::Compiler;
use bulkhead_pipeline::{Action, Field, Packet, Program, Sort, Stage, check, conn, ethertype, render_entry};
use bulkhead_policy::{
    Change, Decision, Flow, Kind, Resource, Service, State,
    arbitrary::{everywhere, flow_seed, state, steps, try_apply},
    enforces,
    model::{Driver, Switch},
    verdict,
};
use bulkhead_topology::Name;
use journey::{Place, connected, is_kernel, packet, places, travel, workload};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestCaseResult, TestRunner},
};
use std::cell::Cell;

/// Flows that are asked of each state.
const FLOWS: usize = 32;

/// The state with these of its switches, if they judge, behind P4Runtime.
fn forgetful(state: &State, which: impl Fn(usize) -> bool) -> State {
    let mut state = state.clone();
    let judging = state.switches.values().filter(|switch| switch.driver != Driver::Kernel).enumerate();
    let changes: Vec<Change> = judging
        .filter(|(at, _)| which(*at))
        .map(|(at, switch)| {
            let underlay = switch.vtep.map(|vtep| everywhere(vtep).into());
            let device_id = at as u64 + 1;
            let driver = Driver::P4runtime { address: "192.0.2.99:9559".into(), device_id, underlay };
            Change::set(Resource::Switch(Switch { driver, ..(**switch).clone() }.into()))
        })
        .collect();
    state.apply(&changes);
    state
}

/// What the reference says of a flow, where denials are enforced.
fn allowed(state: &State, flow: &Flow) -> bool {
    let verdict = verdict(state, flow);
    [(verdict.egress, &flow.from.workload), (verdict.ingress, &flow.to.workload)].into_iter().all(|(side, name)| {
        side.decision() == Decision::Allow
            || workload(state, name.as_ref()).is_some_and(|workload| !enforces(state, workload))
    })
}

/// The connection that a packet of a flow would be an answer of.
fn reversed(flow: &Flow, packet: &Packet) -> Option<Flow> {
    let service = match flow.service {
        Service::Port { protocol, .. } => Service::Port { protocol, port: packet.value(Field::L4Src) as u16 },
        Service::Protocol(protocol) => Service::Protocol(protocol),
        // Its answers have the code that it has.
        Service::Icmp { protocol, icmp_type, .. } => {
            let question = match (protocol, icmp_type) {
                (1, 0) => 8,
                (1, 14 | 16) => icmp_type - 1,
                (58, 129) => 128,
                _ => return None,
            };
            Service::Icmp { protocol, icmp_type: question, code: 0 }
        }
    };
    Some(Flow { from: flow.to.clone(), to: flow.from.clone(), service, ..flow.clone() })
}

/// Whether a packet may open a connection, or is judged for itself: a message that has none.
fn is_question(flow: &Flow, sort: Sort) -> bool {
    let tracked = match flow.service {
        Service::Icmp { protocol: 1, icmp_type, .. } => matches!(icmp_type, 0 | 3 | 8 | 11..=16),
        Service::Icmp { icmp_type, .. } => matches!(icmp_type, 1..=4 | 128 | 129),
        _ => true,
    };
    !tracked || matches!(sort, Sort::Opens | Sort::Either)
}

/// Packets that passed as what they are, that passed only as answers, that did not pass, and that went between switches.
type Counts = [u32; 4];

fn holds(state: &State, compiler: &Compiler, flow: &Flow, counts: &Cell<Counts>) -> TestCaseResult {
    let Some(places) = places(state, flow) else { return Ok(()) };
    let [from, to] = &places;
    let kernel = is_kernel(state, &from.at.switch) || is_kernel(state, &to.at.switch);
    if kernel || !connected(state, flow, &places) {
        return Ok(());
    }
    let Some(first) = packet(flow, &places, false) else { return Ok(()) };
    let far = from.at.switch != to.at.switch;
    let forward = allowed(state, flow);
    let go = |ends: [&Place; 2], packet: &Packet| travel(state, compiler, ends, conn::NEW, packet.clone());
    // Packets in the middle of a connection, whichever end they come from.
    let mut later = first.clone();
    later.control = if flow.service.protocol() == 6 { 16 } else { 0 };
    for packet in [&first, &later] {
        let sort = Sort::of(packet);
        let forward = forward && is_question(flow, sort);
        let answers = matches!(sort, Sort::Either | Sort::Answers);
        let back = reversed(flow, packet).filter(|_| answers).is_some_and(|flow| allowed(state, &flow));
        let found = go([from, to], packet);
        let story = || format!("{flow:?}\n{sort:?}, forward {forward}, back {back}\n{found:#?}");
        prop_assert!(forward || back || !found.is_delivered(), "neither view allows it: {}", story());
        prop_assert!((!forward && !back) || found.is_delivered(), "{}", story());
        if found.is_delivered() {
            prop_assert!(found.is_at(to), "{}", story());
        }
        let tracks = found.steps().filter(|step| step.stage == Stage::Track).count();
        prop_assert!(tracks <= 2 * found.walks.len(), "{}", story());
        let mut sum = counts.get();
        sum[if forward {
            0
        } else if back {
            1
        } else {
            2
        }] += 1;
        sum[3] += u32::from(far);
        counts.set(sum);
    }
    let asked = forward && is_question(flow, Sort::of(&first));
    let Some(answer) = packet(flow, &places, true).filter(|_| asked) else { return Ok(()) };
    let mut answers = vec![answer.clone()];
    if flow.service.protocol() == 6 {
        answers.extend([16, 4, 20, 17].map(|control| {
            let mut later = answer.clone();
            later.control = control;
            later
        }));
    }
    for answer in answers {
        let found = go([to, from], &answer);
        prop_assert!(found.is_delivered() && found.is_at(from), "answer of {flow:?}\n{found:#?}");
    }
    Ok(())
}

#[test]
fn what_passes_is_allowed_as_it_is_or_as_an_answer() {
    let counts = Cell::new(Counts::default());
    let input = (state(), vec(flow_seed(), FLOWS));
    let config = Config { failure_persistence: None, ..Config::default() };
    let cases = config.cases;
    let run = TestRunner::new(config).run(&input, |(state, seeds)| {
        let state = forgetful(&state, |_| true);
        let compiler = Compiler::new(&state, Default::default()).unwrap().0;
        seeds.iter().try_for_each(|seed| holds(&state, &compiler, &seed.flow(&state), &counts))
    });
    run.unwrap_or_else(|error| panic!("{error}"));
    // Agreement about nothing proves nothing.
    let [forward, back, neither, far] = counts.get();
    assert!(forward.min(neither).min(far) >= cases && back >= cases / 8, "{:?} in {cases} cases", counts.get());
}

/// What a program of such a switch has not.
fn foreign(program: &Program) -> Option<String> {
    let found = program.iter().find(|entry| {
        let mut fields = entry.key.matches.fields();
        let kept = |action: &Action| match action {
            Action::Commit | Action::CommitAnew | Action::Recall | Action::RecallService => true,
            Action::Clause { .. } | Action::Fork { .. } | Action::Probe | Action::Discover => true,
            Action::Track => entry.key.stage != Stage::Track,
            _ => false,
        };
        matches!(entry.key.stage, Stage::Carry | Stage::Receive | Stage::TooBig)
            || entry.actions.iter().any(kept)
            || fields.any(|(field, _, mask)| match field {
                Field::Conjunction => true,
                Field::Conn if entry.key.stage == Stage::Connection => mask & (conn::EST | conn::REL | conn::NEW) != 0,
                // What leaves for another switch says in which views it passed, and lines are about questions.
                Field::Conn => mask & (conn::EST | conn::REL) != 0,
                _ => false,
            })
    });
    found.map(render_entry)
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn their_programs_need_no_memory(state in state()) {
        let state = forgetful(&state, |_| true);
        let compiler = Compiler::new(&state, Default::default()).unwrap().0;
        for program in state.switches.keys().filter_map(|name| compiler.program(name)) {
            prop_assert_eq!(foreign(program), None);
            prop_assert!(check(program).is_empty(), "{:#?}", check(program));
        }
    }

    #[test]
    fn a_switch_may_learn_to_remember_and_forget_it_again(start in state(), steps in steps(1..6), turns in vec(0usize..8, 1..6)) {
        let mut state = forgetful(&start, |at| at == 0);
        let mut compiler = Compiler::new(&state, Default::default()).unwrap().0;
        let mut sent: std::collections::BTreeMap<Name, Program> = state
            .switches
            .keys()
            .filter_map(|name| Some((name.clone(), compiler.program(name)?.clone())))
            .collect();
        for (step, turn) in steps.iter().zip(turns.iter().cycle()) {
            let other = forgetful(&state, |at| at == *turn);
            let turned: Vec<Change> = other.switches.values().map(|s| Change::set(Resource::Switch(s.clone()))).collect();
            for changes in [step, &turned] {
                // A switch that is taken away and comes back starts anew.
                if changes.iter().any(|c| c.key.kind == Kind::Switch && c.value.is_none()) || !try_apply(&mut state, changes) {
                    continue;
                }
                let compiled = compiler.apply(changes).unwrap();
                sent.retain(|name, _| compiler.program(name).is_some());
                for (name, delta) in &compiled.deltas {
                    sent.entry(name.clone()).or_default().apply(delta);
                }
                let scratch = Compiler::new(&state, compiler.numbers().clone()).unwrap().0;
                for name in state.switches.keys() {
                    prop_assert_eq!(compiler.program(name), scratch.program(name), "{}", name);
                    prop_assert_eq!(sent.get(name).filter(|p| !p.is_empty()), scratch.program(name), "deltas of {}", name);
                }
            }
        }
    }
}

/// A network that lets live connections be does so only where a switch knows that they live.
#[test]
fn nobody_passes_as_an_established_connection() {
    let documents = "
kind: Network
metadata: {name: net}
spec: {vni: 1, subnets: [10.0.0.0/16], onTighten: persist}
---
kind: Switch
metadata: {name: leaf}
spec: {driver: p4runtime, address: \"127.0.0.1:9559\", deviceId: 1}
";
    let changes = bulkhead_types::read(None, documents.as_bytes(), bulkhead_types::Format::Any).changes();
    let mut state = State::default();
    state.apply(&changes);
    let workload = |n: u8| {
        format!(
            "---\nkind: Workload\nmetadata: {{name: w{n}}}\nspec: {{network: net, interfaces: [{{mac: \"02:00:00:00:00:0{n}\", \
             ips: [10.0.0.{n}], attachment: {{switch: leaf, port: {n}}}}}]}}\n"
        )
    };
    let more = format!("{}{}", workload(1), workload(2));
    state.apply(&bulkhead_types::read(None, more.as_bytes(), bulkhead_types::Format::Any).changes());
    let compiler = Compiler::new(&state, Default::default()).unwrap().0;
    let program = compiler.program(&"leaf".parse().unwrap()).unwrap();
    for control in [2, 16, 18, 4] {
        let mut packet = Packet::new(bulkhead_topology::Port::Number(1))
            .with(Field::EthSrc, 0x0200_0000_0001u64)
            .with(Field::EthDst, 0x0200_0000_0002u64)
            .with(Field::EthType, ethertype::IPV4)
            .with(Field::Vlan, 0u8)
            .with(Field::IpFrag, 0u8)
            .with(Field::IpProto, 6u8)
            .with(Field::Ipv4Src, 0x0a00_0001u32)
            .with(Field::Ipv4Dst, 0x0a00_0002u32)
            .with(Field::L4Src, 80u16)
            .with(Field::L4Dst, 81u16);
        packet.control = control;
        let walk = bulkhead_pipeline::walk_stateless(program, packet);
        assert!(walk.steps.last().unwrap().stage.is_policy(), "{walk:#?}");
        assert!(matches!(walk.outcome, bulkhead_pipeline::Outcome::Dropped(_)));
    }
}

/// The errors of a change, and where each is.
fn refused(state: &State, documents: &str) -> Vec<(String, String, String)> {
    let changes = bulkhead_types::read(None, documents.as_bytes(), bulkhead_types::Format::Any).changes();
    let errors = state.check(&changes).into_iter().filter(|found| found.severity == bulkhead_policy::Severity::Error);
    errors.map(|found| (found.key.to_string(), found.path, found.message)).collect()
}

#[test]
fn a_policy_that_wants_memory_is_about_nobody_who_has_none() {
    let network = "kind: Network\nmetadata: {name: net}\nspec: {vni: 1, subnets: [10.0.0.0/16]}\n";
    let switch = |driver: &str| format!("---\nkind: Switch\nmetadata: {{name: leaf}}\nspec: {{driver: {driver}}}\n");
    let p4 = "p4runtime, address: \"127.0.0.1:9559\", deviceId: 1";
    let workload = |switch: &str| {
        format!(
            "---\nkind: Workload\nmetadata: {{name: w, labels: {{app: db}}}}\nspec: {{network: net, interfaces: [{{mac: \
             \"02:00:00:00:00:01\", ips: [10.0.0.1], attachment: {{switch: {switch}, port: 1}}}}]}}\n"
        )
    };
    let zone = |app: &str| {
        format!(
            "---\nkind: Zone\nmetadata: {{name: z}}\nspec: {{network: net, selector: {{matchLabels: {{app: {app}}}}}}}\n"
        )
    };
    let policy = |subject: &str, stateful: &str| {
        format!(
            "---\nkind: Policy\nmetadata: {{name: strict}}\nspec: {{subject: {{{subject}}}, ingress: [], stateful: {stateful}}}\n"
        )
    };
    let with = |documents: &str| {
        let mut state = State::default();
        state.apply(&bulkhead_types::read(None, documents.as_bytes(), bulkhead_types::Format::Any).changes());
        state
    };
    let db = "matchLabels: {app: db}";
    let said = "policy strict requires connections to be remembered, and is about workload w on switch leaf, which remembers none";
    let error = |key: &str, path: &str| vec![(key.to_string(), path.to_string(), said.to_string())];
    let placed = [network, &switch(p4), &workload("leaf"), &zone("db")].concat();
    let state = with(&placed);
    assert_eq!(refused(&state, &policy(db, "required")), error("Policy/strict", "spec.stateful"));
    assert_eq!(refused(&state, &policy("zone: z", "required")), error("Policy/strict", "spec.stateful"));
    assert_eq!(refused(&state, &policy(db, "preferred")), []);
    assert_eq!(refused(&state, &policy("matchLabels: {app: web}", "required")), []);
    // Whatever of it comes last is refused.
    let state = with(&[network, &switch(p4), &workload("other"), &policy(db, "required")].concat());
    assert_eq!(refused(&state, &workload("leaf")), error("Workload/w", "spec.interfaces"));
    let state = with(&[network, &switch("sim"), &workload("leaf"), &policy(db, "required")].concat());
    assert_eq!(refused(&state, &switch(p4)), error("Switch/leaf", "spec.driver"));
    assert_eq!(refused(&state, &switch("sim")), []);
    let state = with(&[network, &switch(p4), &workload("leaf"), &zone("web"), &policy("zone: z", "required")].concat());
    assert_eq!(refused(&state, &zone("db")), error("Zone/z", "spec.selector"));
    // In one step with what ends it, it is taken.
    let state = with(&placed);
    assert_eq!(refused(&state, &[&policy(db, "required"), &workload("other")[..]].concat()), []);
    assert_eq!(refused(&state, &[&policy(db, "required"), &switch("sim")[..]].concat()), []);
}

#[test]
fn a_switch_says_what_it_does_not_keep() {
    let documents = "
kind: Network
metadata: {name: net}
spec: {vni: 1, subnets: [10.0.0.0/16], onTighten: persist, multicast: [239.1.2.3]}
---
kind: Switch
metadata: {name: leaf}
spec: {driver: p4runtime, address: \"127.0.0.1:9559\", deviceId: 1}
---
kind: Workload
metadata: {name: w}
spec: {network: net, interfaces: [{mac: \"02:00:00:00:00:01\", ips: [10.0.0.1], attachment: {switch: leaf, port: 1}}]}
";
    let changes = bulkhead_types::read(None, documents.as_bytes(), bulkhead_types::Format::Any).changes();
    let mut state = State::default();
    let said: Vec<String> = state.check(&changes).into_iter().map(|found| found.message).collect();
    assert!(
        said.iter().any(|said| said.contains("switch leaf keeps no connections: answers are judged by")),
        "{said:#?}"
    );
    state.apply(&changes);
    let remarks = bulkhead_policy::remarks(&state, &changes, &bulkhead_policy::Profiles::of(&state));
    let messages: Vec<&str> = remarks.iter().map(|found| found.message.as_str()).collect();
    for wanted in ["those of network net that a change forbids end at once", "switch leaf makes no copies"] {
        assert!(messages.iter().any(|said| said.contains(wanted)), "{wanted}: {messages:#?}");
    }
}
