//! Plans of several steps that meet trouble, and what they leave.

use crate::world::World;
use crate::{door, exact, rule};
use bulkhead_driver_ovs::{
    layout::{LOG_METER, REJECT_METER},
    switch::PARTS,
};
use bulkhead_openflow::wire::meter::{Band, Meter};
use bulkhead_pipeline::{Action, Cause, Delta, Entry, Field, Line, Match, Next, Program, Stage};
use bulkhead_reconcile::BOUNDS;
use bulkhead_tests::fake::Manners;
use bulkhead_topology::Port;

/// More changes than one step has: denies, which come first of all.
fn many() -> impl Iterator<Item = Entry> {
    (1000..1001 + BOUNDS.whole as u32).map(|source| Line { next: Next::Drop, ..(*rule(source, 3)).clone() }.into())
}

/// A switch in step, with an open port and what else is given.
fn with(more: impl IntoIterator<Item = Entry>) -> World {
    let program: Program = (0..20).map(|source| rule(source, 2)).chain([door("p0")]).chain(more).collect();
    let mut world = World::new(program, &["p0", "p1"]);
    world.connect();
    world.settle();
    exact(&world);
    world
}

/// Drops what comes by a port, however the port is called.
fn shut(port: Port) -> Entry {
    Entry::new(Stage::Antispoof, 9, Match::any().port(port), vec![], Next::Drop, Cause::Rule(8))
}

#[test]
fn a_port_by_name_and_by_number_is_two_keys_and_one_flow() {
    let (name, number) = (Port::Name("p0".into()), Port::Number(1));
    for (before, after) in [(name.clone(), number.clone()), (number, name)] {
        let mut world = with([shut(before.clone())]);
        world.states.clear();
        world.change(&Delta { remove: vec![shut(before).key.clone()], add: many().chain([shut(after)]).collect() });
        world.settle();
        assert!(world.states.len() > 1, "it was one step");
        for state in &world.states {
            assert_eq!(state.stage(Stage::Antispoof).count(), 1, "the port was open");
        }
        exact(&world);
    }
}

/// An entry that is neither allow nor deny, so that it comes later, and that the driver can never send.
fn unsendable(too_long: bool) -> Entry {
    let clause = |n| Action::Clause { conjunction: n, k: if too_long { 1 } else { 3 }, n: 2 };
    let clauses = (0..if too_long { 5_000 } else { 1 }).map(clause).collect();
    let matches = Match::any().with(Field::SrcId, 5u32);
    Entry::new(Stage::IngressApplication, 100, matches, clauses, Next::Done, Cause::Rule(4))
}

#[test]
fn a_plan_that_cannot_be_carried_out_is_not_begun() {
    for too_long in [false, true] {
        let mut world = with([]);
        let (before, commits) = (world.installed(), world.fake.counts.commits);
        world.add(many().chain([unsendable(too_long)]));
        world.settle();
        assert_eq!((world.fake.counts.commits, world.installed() == before), (commits, true), "it was begun");
        let progress = world.machine.progress();
        assert_eq!((progress.acknowledged, progress.refused), (1, Some(2)));
        assert!(!progress.last_error.contains("no revision"), "{}", progress.last_error);
        world.change(&Delta { remove: vec![unsendable(too_long).key.clone()], add: vec![] });
        world.wait(2);
        exact(&world);
    }
}

#[test]
fn r7_a_plan_that_is_refused_midway_says_that_no_revision_is_in_force_and_goes_on() {
    let mut world = with([]);
    world.fake.manners = Manners { capacity: 21 + BOUNDS.chunk + 7, ..Manners::default() };
    world.add(many());
    world.settle();
    let progress = world.machine.progress();
    assert_eq!((progress.acknowledged, progress.refused), (0, Some(2)), "{progress:?}");
    assert!(progress.last_error.contains("table full"), "{}", progress.last_error);
    assert!(progress.last_error.contains("no revision as a whole"), "{}", progress.last_error);
    assert_eq!(world.installed().len(), 21 + BOUNDS.chunk);
    world.wait(60);
    assert_eq!((world.machine.progress().acknowledged, world.machine.progress().drift), (0, 0));
    // The operator takes it back.
    world.change(&Delta { remove: many().map(|entry| entry.key.clone()).collect(), add: vec![] });
    world.wait(2);
    exact(&world);
    assert_eq!(world.installed().len(), 21);
    assert_eq!(world.machine.progress().last_error, "");
}

#[test]
fn entries_are_read_in_even_parts_whatever_their_cause() {
    let world = with((1000..4200).map(|source| rule(source, 3)));
    let mut parts = [0; PARTS as usize];
    world.fake.flows().for_each(|flow| parts[(flow.cookie >> 44 & (PARTS - 1)) as usize] += 1);
    let (least, most) = (parts.iter().min().unwrap(), parts.iter().max().unwrap());
    assert!(most - least <= 1, "{parts:?}");
}

#[test]
fn meters_that_are_there_are_set_to_our_rates() {
    let mut world = World::new(Program::new(), &["p0"]);
    world.connect();
    world.settle();
    let ours = world.fake.meters.clone();
    assert!([REJECT_METER, LOG_METER].iter().all(|meter| ours.contains_key(meter)), "{ours:?}");
    for meter in world.fake.meters.values_mut() {
        *meter = Meter { bands: vec![Band::drop(1_000_000, 1_000_000)], ..meter.clone() };
    }
    world.connect();
    world.settle();
    assert_eq!(world.fake.meters, ours);
    exact(&world);
}
