//! What holds for every state: the compiled programs do what the reference says, a sequence of changes
//! compiles to what compiling its end does, and no entry breaks its stage's declaration.

use crate::journey;
use bulkhead_compile::{CauseName, Compiler};
use bulkhead_pipeline::{
    Action, Builtin, Cause, Entry, Field, Outcome, Packet, Program, Stage, Step, Walk, check, conn,
    overlay::GATEWAY_MAC, render_program,
};
use bulkhead_policy::{
    Census, Change, Decision, Diagnostic, Flow, Kind, Profiles, Resource, Service, SideVerdict, State,
    arbitrary::{FlowSeed, flow_seed, state, steps, try_apply},
    enforces,
    model::{Action as RuleAction, Direction, Mode, OnTighten, Zone},
    remarks, verdict, verdict_staged,
};
use bulkhead_topology::Name;
use journey::{Journey, Place, connected, is_kernel, over_each, packet, places, remembers, travel, workload};
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestCaseResult, TestRng, TestRunner},
};
use std::{
    cell::Cell,
    collections::BTreeMap,
    env,
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

/// Flows that are asked of each state.
const FLOWS: usize = 24;

fn enforced_at(state: &State, name: Option<&Name>) -> bool {
    workload(state, name).is_none_or(|workload| enforces(state, workload))
}

/// What has to become of a flow, and the side that decides if it is refused.
fn expected(state: &State, flow: &Flow) -> (Decision, Option<SideVerdict>) {
    let verdict = verdict(state, flow);
    let sides = [(verdict.egress, &flow.from.workload), (verdict.ingress, &flow.to.workload)];
    for (side, name) in sides {
        if side.decision() != Decision::Allow && enforced_at(state, name.as_ref()) {
            return (side.decision(), Some(side));
        }
    }
    (Decision::Allow, None)
}

/// The name that a side's decision has to count under; `None` where the side has nothing to say.
fn named(side: &SideVerdict, direction: Direction, network: &Name) -> Option<CauseName> {
    Some(match side.clone() {
        SideVerdict::Unmanaged => return None,
        SideVerdict::Rule { policy, index, .. } => CauseName::Rule { policy, direction, index },
        SideVerdict::Isolated { policy } => CauseName::Isolation { policy },
        SideVerdict::ZoneIsolated { zone } => CauseName::Zone { zone },
        SideVerdict::Default(_) => CauseName::Default { network: network.clone() },
    })
}

/// The cause of the last entry that a packet met among these stages.
fn last(walk: &Walk<'_>, stages: RangeInclusive<Stage>) -> Option<Cause> {
    let of_side = |step: &&Step<'_>| stages.contains(&step.stage);
    walk.steps.iter().rev().find(of_side).and_then(|step| step.entry).map(|entry| entry.cause)
}

/// The cause that decided on one side.
fn decider(found: &Journey<'_>, direction: Direction) -> Option<Cause> {
    last(
        found.side(direction)?,
        match direction {
            Direction::Egress => Stage::EgressEmergency..=Stage::EgressBaseline,
            Direction::Ingress => Stage::IngressEmergency..=Stage::IngressBaseline,
        },
    )
}

/// The cause that a packet counted for where staged policies of one side are weighed.
fn weighed(walk: &Walk<'_>, direction: Direction) -> Option<Cause> {
    last(
        walk,
        match direction {
            Direction::Egress => Stage::StagedEgressEmergency..=Stage::StagedEgressBaseline,
            Direction::Ingress => Stage::StagedIngressEmergency..=Stage::StagedIngressBaseline,
        },
    )
}

/// The staged rule or isolation that a side's verdict would rest on; `None` if it would be an active one.
fn staged_rule(state: &State, side: &SideVerdict, direction: Direction, network: &Name) -> Option<CauseName> {
    let (SideVerdict::Rule { policy, .. } | SideVerdict::Isolated { policy }) = side else { return None };
    state.policies.get(policy).filter(|policy| policy.staged).and_then(|_| named(side, direction, network))
}

/// Checks that a packet counted for the staged rules that would decide about it, and for no others; says how many.
fn weighs(state: &State, compiler: &Compiler, flow: &Flow, found: &Journey<'_>) -> Result<u32, TestCaseError> {
    let would = verdict_staged(state, flow);
    let mut hits = 0;
    for (direction, side) in [(Direction::Egress, &would.egress), (Direction::Ingress, &would.ingress)] {
        // A packet that its source's side refuses does not get to its destination's; and an outsider's side, which has
        // nothing to say, is passed by where its switch is not the other side's.
        let end = if direction == Direction::Egress { &flow.from } else { &flow.to };
        let Some(cause) = found.side(direction).and_then(|walk| weighed(walk, direction)) else {
            let refused = direction == Direction::Ingress && decider(found, Direction::Egress).is_some();
            prop_assert!(refused || end.workload.is_none() && found.walks.len() == 2);
            prop_assert_eq!(
                staged_rule(state, side, direction, &flow.network).filter(|_| end.workload.is_none()),
                None
            );
            continue;
        };
        let wanted = staged_rule(state, side, direction, &flow.network);
        let counted = matches!(cause, Cause::Rule(_) | Cause::Isolation(_)).then(|| compiler.describe(cause)).flatten();
        prop_assert_eq!(&counted, &wanted, "{:?} of {:#?}\n{:#?}", direction, flow, found);
        hits += u32::from(counted.is_some());
    }
    Ok(hits)
}

/// Checks that a new connection is logged by the rules that decide about it and ask for it, and by no others, and
/// packets of one that is there never.
fn logs(state: &State, compiler: &Compiler, first: &Journey<'_>, later: &Journey<'_>) -> TestCaseResult {
    let logged = |entry: &&Entry| entry.actions.contains(&Action::Log);
    prop_assert_eq!(later.steps().filter_map(|step| step.entry).find(logged), None);
    for walk in &first.walks {
        let tracked = walk.steps.iter().filter_map(|step| step.entry).any(|e| e.actions.contains(&Action::Track));
        for entry in walk.steps.iter().filter_map(|step| step.entry) {
            let rule = match compiler.describe(entry.cause) {
                Some(CauseName::Rule { policy, direction, index }) => {
                    state.policies[&policy].rules(direction).get(index)
                }
                _ => None,
            };
            let wanted = tracked && rule.is_some_and(|rule| rule.log && rule.action != RuleAction::Pass);
            prop_assert_eq!(entry.actions.contains(&Action::Log), wanted, "{:?} by {:?}\n{:#?}", entry, rule, first);
        }
    }
    Ok(())
}

fn decision(outcome: &Outcome) -> Decision {
    match outcome {
        Outcome::Delivered { .. } | Outcome::Answered(_) => Decision::Allow,
        Outcome::Dropped(_) => Decision::Deny,
        Outcome::Rejected(_) | Outcome::Expired { .. } | Outcome::NoRoute { .. } | Outcome::TooBig { .. } => {
            Decision::Reject
        }
        Outcome::Probe(_) | Outcome::Discovered(_) => Decision::Deny,
        Outcome::Copied(copies) => panic!("nothing here is for a group: {copies:?}"),
    }
}

/// The state with other modes in its zones.
fn with_modes(state: &State, mode: impl Fn(&Zone) -> Mode) -> State {
    let mut state = state.clone();
    let zones = state.zones.values().map(|zone| Zone { mode: mode(zone), ..(**zone).clone() });
    let changes: Vec<Change> = zones.map(|zone| Change::set(Resource::Zone(zone.into()))).collect();
    state.apply(&changes);
    state
}

fn compile(state: &State) -> Compiler {
    Compiler::new(state, Default::default()).unwrap().0
}

fn programs(compiler: &Compiler, state: &State) -> BTreeMap<Name, Program> {
    let program = |name: &Name| compiler.program(name).cloned().map(|program| (name.clone(), program));
    state.switches.keys().filter_map(program).collect()
}

/// What one flow was good for.
struct Agreed {
    /// Hits of staged rules.
    hits: u32,
    /// Packets that were walked.
    packets: u64,
    /// Whether they went from one switch to another.
    far: bool,
    /// Whether they came from a kernel VTEP or went to one.
    guest: bool,
}

/// Checks one flow against the programs on its way; `None` if there was nothing to check.
fn agrees(state: &State, compiler: &Compiler, flow: &Flow) -> Result<Option<Agreed>, TestCaseError> {
    let Some(places) = places(state, flow) else { return Ok(None) };
    let [from, to] = &places;
    // Others are held to laws of their own.
    if !remembers(state, &from.at.switch) || !remembers(state, &to.at.switch) {
        return Ok(None);
    }
    let Some(first) = packet(flow, &places, false) else { return Ok(None) };
    let way = travel(state, compiler, [from, to], conn::NEW, first.clone());
    if !connected(state, flow, &places) {
        prop_assert!(!way.is_delivered(), "{:#?}", way);
        return Ok(None);
    }
    let (wanted, refusing) = expected(state, flow);
    let found = way;
    let story = || format!("{flow:?}\nwanted {wanted:?} by {refusing:?}\n{found:#?}");
    prop_assert_eq!(decision(found.outcome()), wanted, "{}", story());
    let hits = weighs(state, compiler, flow, &found)?;
    match found.outcome() {
        Outcome::Delivered { packet, .. } => {
            prop_assert!(found.is_at(to), "{}", story());
            prop_assert_eq!(packet.get(Field::EthDst), Some(to.mac.into()), "{}", story());
            // Links carry no outsider's Ethernet address.
            let kept = flow.from.workload.is_some() || state.switches[&to.at.switch].vtep.is_some();
            if kept || from.at.switch == to.at.switch {
                prop_assert_eq!(packet.get(Field::EthSrc), Some(from.mac.into()), "{}", story());
            }
        }
        Outcome::Answered(_) | Outcome::Copied(_) => prop_assert!(false, "{}", story()),
        Outcome::Dropped(cause)
        | Outcome::Rejected(cause)
        | Outcome::Expired { cause, .. }
        | Outcome::NoRoute { cause, .. }
        | Outcome::TooBig { cause, .. }
        | Outcome::Probe(cause)
        | Outcome::Discovered(cause) => {
            let verdict = verdict(state, flow);
            let direction =
                if refusing.as_ref() == Some(&verdict.egress) && decider(&found, Direction::Ingress).is_none() {
                    Direction::Egress
                } else {
                    Direction::Ingress
                };
            let name = refusing.as_ref().and_then(|side| named(side, direction, &flow.network));
            prop_assert_eq!(compiler.describe(*cause), name, "{}", story());
        }
    }
    if wanted == Decision::Allow {
        let verdict = verdict(state, flow);
        for (direction, side) in [(Direction::Egress, &verdict.egress), (Direction::Ingress, &verdict.ingress)] {
            if side.decision() == Decision::Allow
                && let Some(name) = named(side, direction, &flow.network)
            {
                let cause = decider(&found, direction).and_then(|cause| compiler.describe(cause));
                prop_assert_eq!(cause, Some(name), "{}", story());
            }
        }
    }
    routes(state, compiler, flow, [from, to], &first, wanted)?;
    // Later packets are judged as the first one was, in both directions: a tightening cuts at once.
    let persists = state.networks.get(&flow.network).is_some_and(|network| network.on_tighten == OnTighten::Persist);
    let tracked = !matches!(flow.service, Service::Icmp { icmp_type: 139, .. });
    let live = if persists && tracked { Decision::Allow } else { wanted };
    if let [Some(_), Some(_)] = [&flow.from.workload, &flow.to.workload]
        && from.at.switch != to.at.switch
        && !is_kernel(state, &from.at.switch)
        && !is_kernel(state, &to.at.switch)
    {
        // The far switch let something out that this one's workload never got: what comes is no answer to it.
        let ends = [&from.at.switch, &to.at.switch];
        let alone = over_each(state, compiler, ends, [conn::NEW, conn::EST | conn::RPL], first.clone());
        prop_assert_eq!(alone.is_delivered(), wanted == Decision::Allow, "one-sided {:#?}; {}", alone, story());
    }
    let later = travel(state, compiler, [from, to], conn::EST, first);
    prop_assert_eq!(decision(later.outcome()), live, "established; {}", story());
    logs(state, compiler, &found, &later)?;
    let answer = packet(flow, &places, true);
    let packets = 2 + u64::from(answer.is_some());
    if let Some(answer) = answer {
        let back = travel(state, compiler, [to, from], conn::EST | conn::RPL, answer);
        prop_assert_eq!(back.is_delivered(), live == Decision::Allow, "reply {:#?}; {}", back, story());
        prop_assert!(!back.is_delivered() || back.is_at(from), "reply; {}", story());
    }
    let guest = [from, to].into_iter().any(|end| is_kernel(state, &end.at.switch));
    Ok(Some(Agreed { hits, packets, far: from.at.switch != to.at.switch, guest }))
}

/// Checks that a gateway routes as the fabric switches: judged alike, one hop further, and never to the outside.
fn routes(
    state: &State,
    compiler: &Compiler,
    flow: &Flow,
    [from, to]: [&Place; 2],
    first: &Packet,
    wanted: Decision,
) -> TestCaseResult {
    let gateway = state.networks.get(&flow.network).and_then(|network| network.gateway_of(flow.from.ip));
    let (Some(gateway), true) = (gateway, flow.from.workload.is_some()) else { return Ok(()) };
    // A kernel VTEP knows of no gateway.
    if is_kernel(state, &from.at.switch) {
        return Ok(());
    }
    let through = |ttl: u8| first.clone().with(Field::EthDst, GATEWAY_MAC.to_bits()).with(Field::IpTtl, ttl);
    let routed = travel(state, compiler, [from, to], conn::NEW, through(9));
    if flow.to.workload.is_none() {
        let told = Outcome::NoRoute { cause: Cause::Builtin(Builtin::NoRoute), from: gateway };
        prop_assert_eq!(routed.outcome(), &told);
        return Ok(());
    }
    prop_assert_eq!(decision(routed.outcome()), wanted, "routed {:#?}", routed);
    if let Outcome::Delivered { packet, .. } = routed.outcome() {
        prop_assert!(routed.is_at(to), "routed {:#?}", routed);
        let hop = [Field::EthSrc, Field::EthDst, Field::IpTtl].map(|field| packet.value(field));
        prop_assert_eq!(hop, [GATEWAY_MAC.to_bits().into(), to.mac.into(), 8], "routed {:#?}", routed);
    }
    for ttl in [0, 1] {
        let last = travel(state, compiler, [from, to], conn::NEW, through(ttl));
        let told = Outcome::Expired { cause: Cause::Builtin(Builtin::Ttl), from: gateway };
        prop_assert_eq!(last.outcome(), &told, "{:#?}", last);
    }
    Ok(())
}

fn agree_under(mode: fn(&Zone) -> Mode) {
    // Flows refused, flows allowed, hits of staged rules, flows between switches, flows of kernel VTEPs.
    let compared = Cell::new([0u32; 5]);
    let input = (state(), vec(flow_seed(), FLOWS));
    let test = |(state, seeds): (State, Vec<FlowSeed>)| -> TestCaseResult {
        let state = with_modes(&state, mode);
        let compiler = compile(&state);
        for seed in &seeds {
            let flow = seed.flow(&state);
            if let Some(Agreed { hits, far, guest, .. }) = agrees(&state, &compiler, &flow)? {
                let mut count = compared.get();
                count[usize::from(expected(&state, &flow).0 == Decision::Allow)] += 1;
                count[2] += hits;
                count[3] += u32::from(far);
                count[4] += u32::from(guest);
                compared.set(count);
            }
        }
        Ok(())
    };
    let config = Config { failure_persistence: None, ..Config::default() };
    let cases = config.cases;
    TestRunner::new(config).run(&input, test).unwrap_or_else(|error| panic!("{error}"));
    // Agreement about nothing proves nothing.
    let [refused, allowed, staged, far, guest] = compared.get();
    let enough = refused.min(allowed).min(far).min(guest) >= cases / 4 && staged >= cases / 16;
    assert!(enough, "{:?} in {cases} cases", compared.get());
}

#[test]
fn programs_do_what_the_reference_says() {
    agree_under(|_| Mode::Enforce);
}

#[test]
fn what_is_only_monitored_passes() {
    agree_under(|zone| if zone.mode == Mode::Enforce { Mode::Enforce } else { Mode::Monitor });
}

#[test]
fn a_canary_enforces_on_its_share() {
    agree_under(|zone| if zone.mode == Mode::Monitor { Mode::Monitor } else { Mode::Canary });
}

#[test]
fn modes_mix() {
    agree_under(|zone| zone.mode);
}

/// As many packets as `BULKHEAD_LAWS_PACKETS` says, on every processor, many to a state.
#[test]
#[ignore = "takes minutes: make laws"]
fn programs_do_what_the_reference_says_of_many() {
    const FLOWS: usize = 1000;
    let setting = |name, otherwise| env::var(name).map_or(otherwise, |text| text.parse().unwrap());
    let (wanted, seed): (u64, u64) = (setting("BULKHEAD_LAWS_PACKETS", 10_000_000), setting("BULKHEAD_LAWS_SEED", 1));
    let [walked, states] = [const { AtomicU64::new(0) }; 2];
    let work = &|number: u64| {
        let seeds = [seed, number, 0, 0].map(u64::to_le_bytes).concat();
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seeds);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let (any_state, any_flow) = (state(), flow_seed());
        while walked.load(Ordering::Relaxed) < wanted {
            let state = any_state.new_tree(&mut runner).unwrap().current();
            let compiler = compile(&state);
            states.fetch_add(1, Ordering::Relaxed);
            for _ in 0..FLOWS {
                let flow = any_flow.new_tree(&mut runner).unwrap().current().flow(&state);
                let agreed = agrees(&state, &compiler, &flow);
                let agreed = agreed.unwrap_or_else(|error| panic!("seed {seed}, thread {number}: {error}"));
                walked.fetch_add(agreed.map_or(0, |agreed| agreed.packets), Ordering::Relaxed);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    thread::scope(|scope| (0..threads).for_each(|number| _ = scope.spawn(move || work(number))));
    let [walked, states] = [walked, states].map(AtomicU64::into_inner);
    eprintln!("{walked} packets in {states} states, seed {seed}: all as the reference says");
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn changes_compile_to_what_their_end_does(start in state(), steps in steps(1..10)) {
        let mut state = start;
        let (mut compiler, _) = Compiler::new(&state, Default::default()).unwrap();
        let mut sent = programs(&compiler, &state);
        for (at, step) in steps.iter().enumerate() {
            if !try_apply(&mut state, step) {
                continue;
            }
            let compiled = compiler.apply(step).unwrap();
            // A switch that is taken away is let go with what it has; one that comes back starts anew.
            for change in step.iter().filter(|c| c.key.kind == Kind::Switch) {
                if compiler.program(&change.key.name).is_none() {
                    sent.remove(&change.key.name);
                }
            }
            for (switch, delta) in &compiled.deltas {
                let keys = |keys: Vec<_>| keys.into_iter().collect::<std::collections::BTreeSet<_>>();
                let added = keys(delta.add.iter().map(|entry| entry.key.clone()).collect());
                prop_assert!(keys(delta.remove.clone()).is_disjoint(&added));
                sent.entry(switch.clone()).or_default().apply(delta);
            }
            if at % 2 == 0 {
                compiler.forget();
            }
            let (scratch, compiled) = Compiler::new(&state, compiler.numbers().clone()).unwrap();
            // What is in use has its numbers still, and no two have the same.
            prop_assert_eq!(&compiled.numbers, &vec![]);
            let kind = |name: &str| name.split('/').next().unwrap_or_default().to_owned();
            let mut numbers: Vec<_> = compiler.numbers().iter().map(|(name, number)| (kind(name), number)).collect();
            numbers.retain(|(kind, _)| kind != "next");
            let given = numbers.len();
            numbers.sort();
            numbers.dedup();
            prop_assert_eq!(numbers.len(), given);
            let (now, anew) = (programs(&compiler, &state), programs(&scratch, &state));
            for (switch, program) in &anew {
                let text = |program: Option<&Program>| program.map(render_program).unwrap_or_default();
                prop_assert_eq!(text(now.get(switch)), text(Some(program)), "{} after {:#?}", switch, step);
                prop_assert_eq!(text(sent.get(switch)), text(Some(program)), "deltas of {} after {:#?}", switch, step);
            }
            prop_assert_eq!(&now, &anew);
            let again = compiler.apply(step).unwrap();
            prop_assert!(again.deltas.values().all(|delta| delta.is_empty()), "the same once more: {:#?}", again.deltas);
        }
    }

    #[test]
    fn every_entry_keeps_to_its_stage(state in state()) {
        let compiler = compile(&state);
        for (switch, program) in programs(&compiler, &state) {
            let violations = check(&program);
            prop_assert!(violations.is_empty(), "{switch}: {violations:#?}");
        }
        prop_assert_eq!(programs(&compiler, &state), programs(&compile(&state), &state));
    }

    #[test]
    fn the_compiler_remarks_what_a_look_at_every_workload_does(start in state(), steps in steps(1..6)) {
        let mut state = start;
        let mut compiler = compile(&state);
        for step in &steps {
            if try_apply(&mut state, step) {
                compiler.apply(step).unwrap();
            }
        }
        let all: Vec<Change> = state.resources().map(Change::set).collect();
        // Which links join switches is the compiler's to know: without it, those that are declared are taken to.
        let about = |census: &dyn Census| -> Vec<Diagnostic> {
            let found = remarks(&state, &all, census).into_iter();
            found.filter(|found| !found.message.contains("there is no tunnel between them")).collect()
        };
        prop_assert_eq!(about(&compiler), about(&Profiles::of(&state)));
    }
}
