//! Switches that lose answers, lie, refuse and break off: the controller's own parts against a simulated switch, byte by
//! byte. The numbers in the tests' names are those of the list of faults that Bulkhead has to survive.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod plans;
mod rig;
mod sessions;
mod tls;
mod world;

use bulkhead_driver_ovs::{Groups, PortMap, lower};
use bulkhead_openflow::{Action as OfAction, FlowCommand, FlowMod, Instruction, OxmField, wire::group::GroupDesc};
use bulkhead_pipeline::{Action, Cause, Delta, Entry, Field, Match, Next, Output, Program, Stage};
use bulkhead_tests::fake::{Answers, Manners, Refuses};
use bulkhead_topology::Port;
use std::collections::BTreeSet;
use world::World;

/// Lets a port's packets in.
fn door(port: &str) -> Entry {
    let actions = vec![Action::set(Field::SrcId, 7), Action::set(Field::SrcLocal, 1)];
    let matches = Match::any().port(Port::Name(port.into()));
    Entry::new(Stage::Classify, 100, matches, actions, Next::Stage(Stage::Antispoof), Cause::Rule(1))
}

fn rule(source: u32, cause: u32) -> Entry {
    let matches = Match::any().with(Field::SrcId, source);
    Entry::new(Stage::EgressApplication, 100, matches, vec![], Next::Stage(Stage::IngressEmergency), Cause::Rule(cause))
}

/// Sends what is for an edge out of one of these ports.
fn choice(edge: u16, ports: &[&str]) -> Entry {
    let ports = ports.iter().map(|port| Port::Name((*port).into())).collect();
    let actions = Output::among(ports).map(Action::Output).into_iter().collect();
    let matches = Match::any().with(Field::OutVlan, edge);
    Entry::new(Stage::Deliver, 100, matches, actions, Next::Done, Cause::Rule(5))
}

fn program() -> Program {
    (0..20).map(|source| rule(source, 2)).chain([door("p0"), door("p1")]).collect()
}

const PORTS: [&str; 4] = ["p0", "p1", "p2", "p3"];

fn world() -> World {
    World::new(program(), &PORTS)
}

/// An entry of somebody else's.
fn foreign() -> FlowMod {
    let mut flow = FlowMod::new(FlowCommand::Add);
    flow.cookie = 0xfeed_0000_0000_0001;
    flow.table = Stage::EgressApplication as u8;
    flow.matching = bulkhead_openflow::Match::default().with(OxmField::Reg1, 3);
    flow
}

fn as_flow(entry: &Entry, ports: &PortMap) -> FlowMod {
    let flow = lower(entry, ports, &mut Groups::default()).unwrap();
    let mut change = FlowMod::new(FlowCommand::Add);
    (change.table, change.priority, change.cookie) = (flow.key.table, flow.key.priority, flow.cookie);
    (change.matching, change.instructions) = (flow.key.matches, flow.instructions);
    change
}

/// The switch has what is desired, and says so.
fn exact(world: &World) {
    assert_eq!(world.installed(), world.desired);
    let progress = world.machine.progress();
    assert!(progress.connected && progress.refused.is_none(), "{progress:?}");
    assert_eq!((progress.acknowledged, progress.unconfirmed), (progress.desired, 0));
}

#[test]
fn an_honest_switch_is_programmed_and_costs_nothing_the_second_time() {
    let mut world = world();
    world.connect();
    world.settle();
    exact(&world);
    let changes = world.fake.counts.changes;
    world.connect();
    world.settle();
    exact(&world);
    assert_eq!(world.fake.counts.changes, changes);
    assert_eq!(world.machine.progress().drift, 0);
}

/// Answers of the driver's first two steps: read-back, then a bundle's and a change's.
const ANSWERS: u64 = 30;

#[test]
fn r6_lost_and_doubled_answers_are_found_by_reading_back() {
    for answers in (0..ANSWERS).flat_map(|n| [Answers::Without(n), Answers::Twice(n), Answers::Until(n)]) {
        let mut world = world();
        world.fake.manners = Manners { answers, ..Manners::default() };
        world.connect();
        world.settle();
        world.add([rule(100, 3)]);
        world.settle();
        // Whatever was not confirmed is not called acknowledged.
        let progress = world.machine.progress();
        if progress.acknowledged == progress.desired {
            assert_eq!(world.installed(), world.desired, "{answers:?}");
        }
        // A command without an answer keeps the driver for two minutes; then it ends the session.
        world.wait(40);
        let progress = world.machine.progress();
        let in_step = progress.acknowledged == progress.desired;
        assert!(!in_step || world.installed() == world.desired, "{answers:?}");
        // A read-back that nobody asked for ends the session at once.
        if !in_step || !world.is_connected() {
            world.fake.manners.answers = Answers::All;
            world.connect();
        }
        world.wait(40);
        exact(&world);
    }
}

#[test]
fn r6_a_switch_that_only_says_that_it_commits_is_found_out() {
    let mut world = world();
    world.fake.manners.lies = true;
    world.connect();
    world.settle();
    // It is believed for the moment; what a repair wrote is looked at again soon.
    world.wait(6);
    let progress = world.machine.progress();
    assert!(progress.drift > 0 && world.installed().is_empty(), "{progress:?}");
    world.fake.manners.lies = false;
    world.wait(10);
    exact(&world);
    assert_eq!(world.machine.progress().drift, 0);
}

#[test]
fn r6_delayed_answers_of_an_old_session_are_not_taken_for_new_ones() {
    let mut world = world();
    world.connect();
    world.settle();
    world.fake.manners.answers = Answers::Until(0);
    world.connect();
    world.settle();
    world.add([rule(100, 3)]);
    world.settle();
    let progress = world.machine.progress();
    assert!(progress.acknowledged < progress.desired, "{progress:?}");
    world.fake.manners.answers = Answers::All;
    world.connect();
    world.settle();
    exact(&world);
}

/// A switch that has the program; then its manners change.
fn programmed() -> World {
    let mut world = world();
    world.connect();
    world.settle();
    exact(&world);
    world
}

fn refused(refuses: Refuses, capacity: usize, reason: &str) {
    let mut world = programmed();
    let before = world.installed();
    world.fake.manners = Manners { refuses, capacity, ..Manners::default() };
    // Tightened, loosened and rewritten in one change.
    let delta = Delta { remove: vec![rule(0, 2).key.clone()], add: vec![rule(1, 9), rule(100, 3), rule(101, 3)] };
    world.change(&delta);
    world.settle();
    assert_eq!(world.installed(), before, "half of a change is in force");
    let progress = world.machine.progress();
    assert!(progress.refused.is_some() && progress.acknowledged < progress.desired, "{progress:?}");
    assert!(progress.last_error.contains(reason), "{}", progress.last_error);
    // It is tried again, at a pace.
    let tries = world.fake.counts.sessions + world.fake.counts.reads;
    world.wait(60);
    assert_eq!(world.installed(), before);
    assert!(
        world.fake.counts.sessions + world.fake.counts.reads - tries < 20 * 16,
        "each read-back is sixteen questions"
    );
    world.fake.manners = Manners::default();
    world.wait(40);
    exact(&world);
}

#[test]
fn r7_a_bundle_that_is_refused_midway_leaves_the_old_rules_whole() {
    refused(Refuses::Commits, usize::MAX, "bundle failed");
}

#[test]
fn r7_a_full_table_leaves_the_old_rules_whole() {
    refused(Refuses::Nothing, 22, "table full");
}

#[test]
fn r7_an_unsupported_match_leaves_the_old_rules_whole_and_names_the_entry() {
    refused(Refuses::Table(Stage::EgressApplication as u8), usize::MAX, "src_id");
}

#[test]
fn a8_a_bundle_that_fails_once_is_resynchronized() {
    let mut world = programmed();
    world.fake.manners.refuses = Refuses::FirstCommits(1);
    world.add([rule(100, 3)]);
    world.settle();
    assert!(world.machine.progress().refused.is_some());
    world.wait(2);
    exact(&world);
}

#[test]
fn a8_a_switch_that_crashes_on_a_bundle_comes_back_empty_and_is_programmed() {
    let mut world = programmed();
    world.fake.manners.refuses = Refuses::Commits;
    world.add([rule(100, 3)]);
    world.settle();
    world.disconnect();
    world.fake = bulkhead_tests::fake::Switch::new(0xb1, &PORTS.map(str::to_owned));
    world.connect();
    world.settle();
    exact(&world);
}

/// Each of the groups, after some seconds, is there for somebody.
fn groups_follow(world: &mut World) {
    world.wait(7);
    let used: BTreeSet<u32> = world.fake.flows().flat_map(groups_of).collect();
    assert_eq!(used, world.fake.groups.keys().copied().collect());
}

fn groups_of(flow: &FlowMod) -> impl Iterator<Item = u32> {
    let applied = flow.instructions.iter().filter_map(|instruction| match instruction {
        Instruction::ApplyActions(actions) => Some(actions),
        _ => None,
    });
    applied.flatten().filter_map(|action| if let OfAction::Group(id) = action { Some(*id) } else { None })
}

#[test]
fn r8_groups_go_with_their_last_entry_and_are_mended_whatever_becomes_of_them() {
    let mut world = programmed();
    world.add([choice(1, &["p0", "p1"]), choice(2, &["p0", "p1"]), choice(3, &["p1", "p2", "p3"])]);
    world.settle();
    exact(&world);
    groups_follow(&mut world);
    assert_eq!(world.fake.groups.len(), 2);
    // A switch that does not take the change keeps the groups of the old one.
    world.fake.manners.refuses = Refuses::FirstCommits(1);
    world.add([choice(1, &["p2", "p3"])]);
    world.settle();
    assert_eq!(world.fake.groups.len(), 2);
    world.wait(5);
    exact(&world);
    groups_follow(&mut world);
    assert_eq!(world.fake.groups.len(), 3);
    world.change(&Delta { remove: vec![choice(2, &[]).key.clone()], add: vec![choice(1, &["p0", "p1"])] });
    world.settle();
    exact(&world);
    groups_follow(&mut world);
    assert_eq!(world.fake.groups.len(), 2);
    // One vanishes with its entries, one chooses among other ports, one is nobody's.
    let [first, second] = world.fake.groups.keys().copied().collect::<Vec<_>>()[..] else { panic!("two groups") };
    world.fake.groups.remove(&first);
    let buckets = &mut world.fake.groups.get_mut(&second).unwrap().buckets;
    buckets.pop();
    let stray = GroupDesc { id: second + 7, ..world.fake.groups[&second].clone() };
    let foreign = GroupDesc { id: 7, ..stray.clone() };
    world.fake.groups.extend([(stray.id, stray), (7, foreign.clone())]);
    world.wait(310);
    exact(&world);
    assert_eq!(world.fake.groups.remove(&7), Some(foreign));
    groups_follow(&mut world);
}

#[test]
fn r8_a_connection_lost_at_any_byte_leaves_the_old_program_or_the_new_one() {
    let add = vec![rule(1, 9), rule(100, 3), choice(1, &["p1", "p2"]), choice(3, &["p0", "p3"])];
    let delta = Delta { remove: vec![rule(0, 2).key.clone(), choice(2, &[]).key.clone()], add };
    let mut cut = 1;
    loop {
        let mut world = programmed();
        world.add([choice(1, &["p0", "p1"]), choice(2, &["p0", "p2"])]);
        world.settle();
        let before = world.installed();
        world.connect();
        world.settle();
        world.fake.manners.cut = Some(world.sent + cut);
        world.change(&delta);
        world.settle();
        let ended = !world.is_connected();
        let now = world.installed();
        assert!(now == before || now == world.desired, "half a program after {cut} bytes");
        world.fake.manners.cut = None;
        let changes = world.fake.counts.changes;
        if ended {
            world.connect();
            world.settle();
        }
        exact(&world);
        groups_follow(&mut world);
        if now == world.desired {
            assert_eq!(world.fake.counts.changes, changes, "a needless change after {cut} bytes");
        }
        if !ended {
            assert!(cut > 300, "the change took {cut} bytes only");
            return;
        }
        cut += 1;
    }
}

#[test]
fn r8_stale_alien_and_partial_tables_become_exact_and_foreign_entries_stay() {
    let mut world = world();
    let ports = world.ports();
    world.fake.tamper(foreign());
    // A part of the program, an entry of an older one, one with other actions, and ones that mean nothing.
    for source in 0..7 {
        world.fake.tamper(as_flow(&rule(source, 2), &ports));
    }
    world.fake.tamper(as_flow(&rule(7, 44), &ports));
    world.fake.tamper(as_flow(&rule(500, 2), &ports));
    let mut alien = as_flow(&rule(501, 2), &ports);
    alien.table = 200;
    world.fake.tamper(alien);
    let mut layout = as_flow(&rule(502, 2), &ports);
    layout.cookie ^= 0x7f << 48;
    world.fake.tamper(layout);
    let mut ending = as_flow(&rule(503, 2), &ports);
    ending.hard_timeout = 9;
    world.fake.tamper(ending);
    world.connect();
    world.settle();
    exact(&world);
    assert!(world.fake.flows().any(|flow| *flow == foreign()), "a foreign entry was touched");
    assert_eq!(world.fake.len(), world.desired.len() + 1);
    // Twenty-two are wanted, seven were there; four are none of ours any more.
    let changes = world.fake.counts.changes;
    assert_eq!(changes, 15 + 4);
    world.connect();
    world.settle();
    assert_eq!(world.fake.counts.changes, changes);
}

#[test]
fn r8_an_entry_that_vanishes_is_found_by_the_audit() {
    let mut world = programmed();
    let mut gone = as_flow(&rule(3, 2), &world.ports());
    gone.command = FlowCommand::DeleteStrict;
    world.fake.tamper(gone);
    world.wait(310);
    exact(&world);
}
