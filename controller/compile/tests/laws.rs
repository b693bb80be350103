//! What holds for every state: the compiled programs do what the reference says, a sequence of changes
//! compiles to what compiling its end does, and no entry breaks its stage's declaration.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_compile::{CauseName, Compiler};
use bulkhead_pipeline::{
    Action, Cause, Entry, Field, Memory, Outcome, Packet, Program, Stage, Step, Tracker, Walk, check, conn, ethertype,
    ip_proto, render_program, vlan, walk,
};
use bulkhead_policy::{
    Change, Decision, Flow, Kind, Profiles, Resource, Service, SideVerdict, State,
    arbitrary::{FlowSeed, flow_seed, state, steps, try_apply},
    enforces,
    model::{Action as RuleAction, Attachment, Direction, Interface, Mode, OnTighten, Workload, Zone},
    remarks, verdict, verdict_staged,
};
use bulkhead_topology::Name;
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
    net::IpAddr,
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

/// A source port that nothing is said about.
const EPHEMERAL: u16 = 40_000;
/// Flows that are asked of each state.
const FLOWS: usize = 24;

/// A tracker that gives every packet the same answer.
struct Fixed(u128);

impl Tracker for Fixed {
    fn track(&mut self, _: u16, _: &Packet) -> (u128, Memory) {
        (self.0, Memory::default())
    }
    fn commit(&mut self, _: u16, _: &Packet, _: Memory) {}
}

/// Where a packet of a flow enters or leaves a switch.
struct Place<'a> {
    at: &'a Attachment,
    vlan: u16,
    mac: u64,
}

fn interface(workload: &Workload, ip: IpAddr) -> Option<&Interface> {
    workload.interfaces.iter().find(|interface| interface.ips.contains(&ip))
}

fn workload<'a>(state: &'a State, name: Option<&Name>) -> Option<&'a Workload> {
    name.and_then(|name| state.workloads.get(name)).map(|workload| &**workload)
}

/// The places where a flow enters and leaves, if it is one that a single switch carries.
fn places<'a>(state: &'a State, flow: &Flow) -> Option<[Place<'a>; 2]> {
    let network = state.networks.get(&flow.network)?;
    let (from, to) = (workload(state, flow.from.workload.as_ref()), workload(state, flow.to.workload.as_ref()));
    if from.is_some() && flow.from.workload == flow.to.workload {
        return None;
    }
    let inside = |workload: &'a Workload, ip| {
        let interface = interface(workload, ip)?;
        Some(Place { at: interface.attachment.as_ref()?, vlan: 0, mac: interface.mac.to_bits() })
    };
    let outside = |switch: &Name| {
        let uplink = network.uplinks.iter().find(|uplink| uplink.at.switch == *switch)?;
        Some(Place { at: &uplink.at, vlan: uplink.vlan, mac: 0x0600_0000_0001 })
    };
    let ends = match (from, to) {
        (Some(from), Some(to)) => [inside(from, flow.from.ip)?, inside(to, flow.to.ip)?],
        (Some(from), None) => {
            let from = inside(from, flow.from.ip)?;
            let out = outside(&from.at.switch)?;
            [from, out]
        }
        (None, Some(to)) => {
            let to = inside(to, flow.to.ip)?;
            [outside(&to.at.switch)?, to]
        }
        (None, None) => return None,
    };
    // A subnet's broadcast address is nobody's.
    let broadcast = |ip: IpAddr| {
        let ends = |net: &&bulkhead_topology::IpNet| {
            let (bits, mask) = net.to_bits();
            net.contains(ip) && matches!(ip, IpAddr::V4(v4) if u128::from(v4.to_bits()) == bits | !mask & 0xffff_ffff)
        };
        network.subnets.iter().any(|net| ends(&net))
    };
    (ends[0].at.switch == ends[1].at.switch && !broadcast(flow.to.ip) && !broadcast(flow.from.ip)).then_some(ends)
}

/// What [`Field::Vlan`] is there.
fn tag(place: &Place<'_>) -> u128 {
    if place.vlan == 0 { 0 } else { vlan::PRESENT | u128::from(place.vlan) }
}

/// A packet of a flow: its first one, or (`reply`) the first answer to it; `None` if nothing answers it.
fn packet(flow: &Flow, [from, to]: &[Place<'_>; 2], reply: bool) -> Option<Packet> {
    let (from, to, source, destination) = match reply {
        false => (from, to, flow.from.ip, flow.to.ip),
        true => (to, from, flow.to.ip, flow.from.ip),
    };
    let mut packet = Packet::new(from.at.port.clone())
        .with(Field::EthSrc, from.mac)
        .with(Field::EthDst, to.mac)
        .with(Field::Vlan, tag(from))
        .with(Field::IpFrag, 0u8)
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
fn decider(walk: &Walk<'_>, direction: Direction) -> Option<Cause> {
    last(
        walk,
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
fn weighs(state: &State, compiler: &Compiler, flow: &Flow, found: &Walk<'_>) -> Result<u32, TestCaseError> {
    let would = verdict_staged(state, flow);
    let mut hits = 0;
    for (direction, side) in [(Direction::Egress, &would.egress), (Direction::Ingress, &would.ingress)] {
        // A packet that its source's side refuses does not get to its destination's.
        let Some(cause) = weighed(found, direction) else {
            prop_assert!(direction == Direction::Ingress && decider(found, Direction::Egress).is_some());
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
fn logs(state: &State, compiler: &Compiler, first: &Walk<'_>, later: &Walk<'_>) -> TestCaseResult {
    let logged = |entry: &&Entry| entry.actions.contains(&Action::Log);
    prop_assert_eq!(later.steps.iter().filter_map(|step| step.entry).find(logged), None);
    for step in &first.steps {
        let Some(entry) = step.entry else { continue };
        let rule = match compiler.describe(entry.cause) {
            Some(CauseName::Rule { policy, direction, index }) => state.policies[&policy].rules(direction).get(index),
            _ => None,
        };
        let tracked = first.steps.iter().filter_map(|step| step.entry).any(|e| e.actions.contains(&Action::Track));
        let wanted = tracked && rule.is_some_and(|rule| rule.log && rule.action != RuleAction::Pass);
        prop_assert_eq!(entry.actions.contains(&Action::Log), wanted, "{:?} by {:?}\n{:#?}", entry, rule, first);
    }
    Ok(())
}

fn decision(outcome: &Outcome) -> Decision {
    match outcome {
        Outcome::Delivered { .. } | Outcome::Answered(_) => Decision::Allow,
        Outcome::Dropped(_) => Decision::Deny,
        Outcome::Rejected(_) | Outcome::Expired { .. } | Outcome::TooBig { .. } => Decision::Reject,
        Outcome::Probe(_) => Decision::Deny,
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
}

/// Checks one flow against the program; `None` if there was nothing to check.
fn agrees(state: &State, compiler: &Compiler, flow: &Flow) -> Result<Option<Agreed>, TestCaseError> {
    let Some(places) = places(state, flow) else { return Ok(None) };
    let [from, to] = &places;
    let Some(program) = compiler.program(&from.at.switch) else { return Ok(None) };
    let Some(first) = packet(flow, &places, false) else { return Ok(None) };
    let (wanted, refusing) = expected(state, flow);
    let found = walk(program, &mut Fixed(conn::NEW), first.clone());
    let story = || format!("{flow:?}\nwanted {wanted:?} by {refusing:?}\n{found:#?}\n{}", render_program(program));
    prop_assert_eq!(decision(&found.outcome), wanted, "{}", story());
    let hits = weighs(state, compiler, flow, &found)?;
    match &found.outcome {
        Outcome::Delivered { port, packet } => {
            prop_assert_eq!((port, packet.get(Field::Vlan)), (&to.at.port, Some(tag(to))), "{}", story());
        }
        Outcome::Answered(_) => prop_assert!(false, "{}", story()),
        Outcome::Dropped(cause)
        | Outcome::Rejected(cause)
        | Outcome::Expired { cause, .. }
        | Outcome::TooBig { cause, .. }
        | Outcome::Probe(cause) => {
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
    // Later packets are judged as the first one was, in both directions: a tightening cuts at once.
    let persists = state.networks.get(&flow.network).is_some_and(|network| network.on_tighten == OnTighten::Persist);
    let tracked = !matches!(flow.service, Service::Icmp { icmp_type: 139, .. });
    let live = if persists && tracked { Decision::Allow } else { wanted };
    let later = walk(program, &mut Fixed(conn::EST), first);
    prop_assert_eq!(decision(&later.outcome), live, "established; {}", story());
    logs(state, compiler, &found, &later)?;
    let answer = packet(flow, &places, true);
    let packets = 2 + u64::from(answer.is_some());
    if let Some(answer) = answer {
        let back = walk(program, &mut Fixed(conn::EST | conn::RPL), answer);
        prop_assert_eq!(
            decision(&back.outcome) == Decision::Allow,
            live == Decision::Allow,
            "reply {:#?}; {}",
            back,
            story()
        );
        if let Outcome::Delivered { port, packet } = &back.outcome {
            prop_assert_eq!((port, packet.get(Field::Vlan)), (&from.at.port, Some(tag(from))), "reply; {}", story());
        }
    }
    Ok(Some(Agreed { hits, packets }))
}

fn agree_under(mode: fn(&Zone) -> Mode) {
    // Flows refused, flows allowed, hits of staged rules.
    let compared = Cell::new([0u32; 3]);
    let input = (state(), vec(flow_seed(), FLOWS));
    let test = |(state, seeds): (State, Vec<FlowSeed>)| -> TestCaseResult {
        let state = with_modes(&state, mode);
        let compiler = compile(&state);
        for seed in &seeds {
            let flow = seed.flow(&state);
            if let Some(Agreed { hits, .. }) = agrees(&state, &compiler, &flow)? {
                let mut count = compared.get();
                count[usize::from(expected(&state, &flow).0 == Decision::Allow)] += 1;
                count[2] += hits;
                compared.set(count);
            }
        }
        Ok(())
    };
    let config = Config { failure_persistence: None, ..Config::default() };
    let cases = config.cases;
    TestRunner::new(config).run(&input, test).unwrap_or_else(|error| panic!("{error}"));
    // Agreement about nothing proves nothing.
    let [refused, allowed, staged] = compared.get();
    assert!(refused.min(allowed) >= cases / 4 && staged >= cases / 16, "{:?} in {cases} cases", compared.get());
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
        let (mut compiler, compiled) = Compiler::new(&state, Default::default()).unwrap();
        let mut sent: BTreeMap<Name, Program> = BTreeMap::new();
        for (switch, delta) in &compiled.deltas {
            sent.entry(switch.clone()).or_default().apply(delta);
        }
        for (at, step) in steps.iter().enumerate() {
            if !try_apply(&mut state, step) {
                continue;
            }
            let compiled = compiler.apply(step).unwrap();
            // A switch that is taken away is let go with what it has; one that comes back starts anew.
            for change in step.iter().filter(|c| c.value.is_none() && c.key.kind == Kind::Switch) {
                sent.remove(&change.key.name);
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
        prop_assert_eq!(remarks(&state, &all, &compiler), remarks(&state, &all, &Profiles::of(&state)));
    }
}
