//! What the loop tells drivers and callers, session by session.

use crate::common;
use bulkhead_dataplane::{Address, Capabilities, Command, Counter, FromSwitch, PortState, Report, ToDrivers};
use bulkhead_pipeline::{Cause, Entry, Program};
use bulkhead_policy::{
    Resource,
    model::{Driver, Port},
};
use bulkhead_runtime::{Core, Drivers, TunnelState};
use bulkhead_store::MemoryStore;
use common::{SHOP, decode, name, set, unset};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A loop's inside, and what it sends to the driver.
struct Bench {
    core: Core,
    sent: UnboundedReceiver<ToDrivers>,
    now: Duration,
}

impl Bench {
    fn new() -> Self {
        let (commands, sent) = unbounded_channel();
        let route = |driver: &Driver| (*driver == Driver::Sim).then_some((0, Address::Sim));
        let drivers = Drivers { channels: vec![commands], route, keeper: None, prober: None };
        let core = Core::load(Box::new(MemoryStore::default()), decode, drivers).unwrap();
        Self { core, sent, now: Duration::ZERO }
    }

    /// hv1 alone is spoken of; it was attached first.
    fn report(&mut self, report: Report) {
        self.core.report(FromSwitch { switch: name("hv1"), attachment: 1, report }, self.now);
    }

    fn connected(&mut self, session: u64) {
        let capabilities = Capabilities {
            conntrack: true,
            conjunction: true,
            max_entries: 1_000,
            max_by_stage: Arc::default(),
            any_port: true,
        };
        self.report(Report::Connected { session, capabilities, ports: Default::default() });
    }

    /// Commands for hv1 since the last look, with their sessions.
    fn commands(&mut self) -> Vec<(u64, Command)> {
        let mut commands = Vec::new();
        while let Ok(order) = self.sent.try_recv() {
            match order {
                ToDrivers::Command { switch, session, command } if switch == name("hv1") => {
                    commands.push((session, command))
                }
                _ => {}
            }
        }
        commands
    }

    /// Connects hv1 with nothing on it, and fills it.
    fn fill(&mut self, session: u64) {
        self.connected(session);
        self.report(Report::Actual { program: Program::new(), alien: 0 });
        let step = self.step();
        self.report(Report::Applied { step });
    }

    /// The step that was sent just now.
    fn step(&mut self) -> u64 {
        match self.commands().pop() {
            Some((_, Command::Apply { step, .. })) => step,
            other => panic!("{other:?}"),
        }
    }
}

fn shop() -> Bench {
    let mut bench = Bench::new();
    bench.core.apply(&set(SHOP), Duration::ZERO).unwrap();
    bench.now = Duration::from_secs(60);
    bench.core.tick(bench.now);
    bench
}

#[test]
fn commands_name_the_session_that_they_are_meant_for() {
    let mut bench = shop();
    bench.connected(7);
    assert_eq!(bench.commands(), [(7, Command::Read)]);
    bench.report(Report::Actual { program: Program::new(), alien: 0 });
    assert!(matches!(bench.commands().as_slice(), [(7, Command::Apply { .. })]));
    bench.report(Report::Disconnected("reset".into()));
    bench.connected(9);
    assert_eq!(bench.commands(), [(9, Command::Read)]);
}

/// The entries of the step that was sent just now.
fn added(bench: &mut Bench) -> Vec<Entry> {
    match bench.commands().pop() {
        Some((_, Command::Apply { delta, .. })) => delta.add,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_port_that_somebody_has_by_name_is_nobody_elses_by_its_number() {
    let mut bench = shop();
    let mut other = set(&["workload other prod hv1 9 web"]);
    if let Some(Resource::Workload(workload)) = &mut other.edits[0].change.value {
        Arc::make_mut(workload).interfaces[0].attachment.as_mut().unwrap().port = Port::Number(5);
    }
    bench.core.apply(&other, bench.now).unwrap();
    let numbers = |entries: &[Entry]| entries.iter().flat_map(Entry::ports).filter(|p| **p == Port::Number(5)).count();
    let ports = [Port::Name("web-1".into()), Port::Name("app-1".into()), Port::Number(4), Port::Number(5)];
    for (session, name, is_its) in [(1, "web-1", false), (2, "spare", true)] {
        let capabilities = Capabilities {
            conntrack: true,
            conjunction: true,
            max_entries: 1_000,
            max_by_stage: Arc::default(),
            any_port: false,
        };
        bench.report(Report::Connected { session, capabilities, ports: ports.clone().into() });
        let state = PortState { number: Some(5), name: Some(name.into()), up: true };
        bench.report(Report::PortStates(vec![state]));
        bench.report(Report::Actual { program: Program::new(), alien: 0 });
        assert_eq!(numbers(&added(&mut bench)) > 0, is_its, "5 is {name}");
        bench.report(Report::Disconnected("reset".into()));
    }
}

#[test]
fn one_count_at_a_time_is_asked_of_a_session() {
    let mut bench = shop();
    bench.fill(1);
    // Whoever asks while it does not answer shares the one count, however long that takes.
    for _ in 0..100 {
        assert_eq!(bench.core.count(), [name("hv1")]);
        bench.now += Duration::from_secs(10);
    }
    assert_eq!(bench.commands(), [(1, Command::Count)]);
    bench.report(Report::NotCounted("no".into()));
    bench.core.count();
    assert_eq!(bench.commands(), [(1, Command::Count)]);
    bench.report(Report::Disconnected("reset".into()));
    assert_eq!(bench.core.count(), []);
    bench.fill(2);
    bench.core.count();
    assert_eq!(bench.commands(), [(2, Command::Count)]);
    // What a switch tells of itself may be anything.
    let counter = |bytes| Counter { cause: Cause::Rule(1), dropped: false, packets: u64::MAX, bytes };
    bench.report(Report::Counters(vec![counter(1), counter(u64::MAX)]));
    assert_eq!(bench.core.hits()[&(Cause::Rule(1), false)][&name("hv1")], (u64::MAX, u64::MAX));
}

#[test]
fn a_switch_that_restarted_has_realized_nothing_until_it_is_filled_again() {
    let mut bench = shop();
    bench.fill(1);
    assert!(bench.core.realization(1).realized);
    bench.report(Report::Disconnected("restart".into()));
    bench.connected(2);
    for _ in 0..2 {
        let answer = bench.core.realization(1);
        assert_eq!((answer.realized, answer.waiting), (false, vec![name("hv1")]));
        bench.report(Report::Actual { program: Program::new(), alien: 0 });
    }
    let step = bench.step();
    bench.report(Report::Applied { step });
    assert!(bench.core.realization(1).realized);
    // One whose ports changed numbers begins anew without having been away, and is as little done.
    bench.connected(3);
    assert_eq!(bench.core.realization(1).waiting, [name("hv1")]);
}

#[test]
fn the_refusal_of_an_older_revision_does_not_fail_the_one_that_mends_it() {
    let mut bench = shop();
    bench.fill(1);
    bench.core.apply(&set(&["policy more app web 9090"]), bench.now).unwrap();
    let step = bench.step();
    bench.report(Report::Refused { step, reason: "table full".into() });
    assert_eq!(bench.core.realization(2).failed[&name("hv1")], "table full");
    bench.core.apply(&unset(&["policy more app web 9090"]), bench.now).unwrap();
    let answer = bench.core.realization(3);
    assert_eq!((answer.realized, answer.failed.len(), answer.waiting), (false, 0, vec![name("hv1")]));
    // The older one is not coming; who waits for it hears so.
    assert!(!bench.core.realization(2).failed.is_empty());
    bench.now += Duration::from_secs(1);
    bench.core.tick(bench.now);
    assert_eq!(bench.commands(), [(1, Command::Read)]);
    let program = bench.core.program(&name("hv1")).unwrap().clone();
    bench.report(Report::Actual { program, alien: 0 });
    assert!(bench.core.realization(3).realized && bench.core.realization(2).realized);
}

/// Whoever hears no probes is sent none, and nothing is concluded from that.
#[test]
fn tunnels_of_p4_switches_are_not_probed() {
    let (commands, mut sent) = unbounded_channel();
    let route = |driver: &Driver| match driver {
        Driver::P4runtime { address, device_id, underlay } => {
            let underlay = underlay.clone();
            Some((0, Address::Device { address: address.clone(), number: *device_id, underlay }))
        }
        _ => Some((0, Address::Sim)),
    };
    let drivers = Drivers { channels: vec![commands], route, keeper: None, prober: None };
    let mut core = Core::load(Box::new(MemoryStore::default()), decode, drivers).unwrap();
    let fabric = [
        "network prod 5001",
        "vtep hv1 192.0.2.1",
        "vtep hv2 192.0.2.2",
        "leaf leaf 192.0.2.3",
        "workload a prod hv1 1 web",
        "workload b prod hv2 2 web",
        "workload c prod leaf 3 web",
    ];
    core.apply(&set(&fabric), Duration::ZERO).unwrap();
    let mut now = Duration::from_secs(60);
    core.tick(now);
    let mut attached = Vec::new();
    while let Ok(order) = sent.try_recv() {
        if let ToDrivers::Attach { switch, attachment, address } = order {
            let known = matches!(address, Address::Device { underlay: Some(_), .. });
            assert_eq!(known, switch == name("leaf"));
            attached.push((switch, attachment));
        }
    }
    assert_eq!(attached.len(), 3);
    for (switch, attachment) in attached {
        let mut report = |report| core.report(FromSwitch { switch: switch.clone(), attachment, report }, now);
        let capabilities = Capabilities {
            conntrack: true,
            conjunction: true,
            max_entries: 1_000,
            max_by_stage: Arc::default(),
            any_port: true,
        };
        report(Report::Connected { session: 1, capabilities, ports: Default::default() });
        report(Report::Actual { program: Program::new(), alien: 0 });
        let mut steps = Vec::new();
        while let Ok(order) = sent.try_recv() {
            if let ToDrivers::Command { switch: of, command: Command::Apply { step, .. }, .. } = order
                && of == switch
            {
                steps.push(step);
            }
        }
        steps.into_iter().for_each(|step| report(Report::Applied { step }));
    }
    let mut probed = std::collections::BTreeSet::new();
    for _ in 0..20 {
        now += Duration::from_secs(1);
        core.tick(now);
        while let Ok(order) = sent.try_recv() {
            if let ToDrivers::Command { switch, command: Command::Probe(probes), .. } = order {
                probed.extend(probes.into_iter().map(|probe| (switch.to_string(), probe.to.to_string())));
            }
        }
    }
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(probed, [pair("hv1", "192.0.2.2"), pair("hv2", "192.0.2.1")].into());
    let states =
        core.tunnels()[&name("hv1")].iter().map(|tunnel| (tunnel.to.to_string(), tunnel.state)).collect::<Vec<_>>();
    // Those that are probed and never heard are down; of the others nothing is known here.
    assert_eq!(states, [("hv2".to_owned(), TunnelState::Down), ("leaf".to_owned(), TunnelState::Unknown)]);
}
