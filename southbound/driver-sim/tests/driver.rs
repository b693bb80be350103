//! The driver's task, as the controller meets it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_dataplane::{Address, Command, FromSwitch, Outgoing, PortState, Probe, Report, ToDrivers};
use bulkhead_driver_sim::{Fabric, run};
use bulkhead_pipeline::{
    Action, Cause, Delta, Entry, Field, Match, Next, Program, Stage,
    overlay::{PROBE_ETHERTYPE, Tunnel},
};
use bulkhead_topology::{Name, Port};
use tokio::sync::mpsc;

fn entry(port: &str) -> Entry {
    let matches = Match::any().port(Port::Name(port.into()));
    Entry::new(Stage::Classify, 1, matches, Vec::new(), Next::Stage(Stage::Antispoof), Cause::Rule(1))
}

#[tokio::test]
async fn it_connects_applies_and_keeps_the_program_over_sessions() {
    let fabric = Fabric::default();
    let name: Name = "hv1".parse().unwrap();
    for attachment in [1, 2] {
        let (commands, rx) = mpsc::channel(8);
        let (tx, mut reports) = mpsc::channel::<FromSwitch>(8);
        let task = tokio::spawn(run(fabric.clone(), rx, tx, None));
        let switch = name.clone();
        commands.send(ToDrivers::Attach { switch, address: Address::Sim, attachment }).await.unwrap();
        let first = reports.recv().await.unwrap();
        assert_eq!(first.attachment, attachment);
        let Report::Connected { session, capabilities, .. } = first.report else { panic!("not connected") };
        assert!(capabilities.any_port);
        let tell = async |command| {
            commands.send(ToDrivers::Command { switch: name.clone(), session, command }).await.unwrap();
        };
        tell(Command::Read).await;
        let Report::Actual { program, .. } = reports.recv().await.unwrap().report else { panic!("no read-back") };
        if attachment == 1 {
            assert!(program.is_empty());
            tell(Command::Apply {
                step: 1,
                delta: Delta { remove: vec![], add: vec![entry("p1")] },
                ahead: Default::default(),
            })
            .await;
            assert_eq!(reports.recv().await.unwrap().report, Report::Applied { step: 1 });
        } else {
            assert_eq!(program, Program::from_iter([entry("p1")]));
            assert_eq!(fabric.with(&name, |switch| switch.changes()), 1);
        }
        drop(commands);
        task.await.unwrap();
    }
}

/// The driver with two switches of a fabric, which are connected.
struct Pair {
    names: [Name; 2],
    commands: mpsc::Sender<ToDrivers>,
    reports: mpsc::Receiver<FromSwitch>,
}

impl Pair {
    async fn start(fabric: &Fabric, names: &[Name; 2]) -> Self {
        let (commands, rx) = mpsc::channel(8);
        let (tx, mut reports) = mpsc::channel(8);
        tokio::spawn(run(fabric.clone(), rx, tx, None));
        for (switch, attachment) in names.iter().cloned().zip([5, 6]) {
            commands.send(ToDrivers::Attach { switch, address: Address::Sim, attachment }).await.unwrap();
            let first: FromSwitch = reports.recv().await.unwrap();
            assert!(matches!(first.report, Report::Connected { .. }));
        }
        Self { names: names.clone(), commands, reports }
    }

    async fn order(&self, at: usize, command: Command) {
        let switch = self.names[at].clone();
        self.commands.send(ToDrivers::Command { switch, session: 0, command }).await.unwrap();
    }

    /// Gives a switch its first entry.
    async fn give(&mut self, at: usize, entry: Entry) {
        let delta = Delta { remove: vec![], add: vec![entry] };
        self.order(at, Command::Apply { step: 1, delta, ahead: Default::default() }).await;
        assert_eq!(self.report().await, Report::Applied { step: 1 });
    }

    async fn report(&mut self) -> Report {
        self.reports.recv().await.unwrap().report
    }
}

#[tokio::test]
async fn a_probe_is_reported_by_the_switch_that_it_reaches_if_its_program_wants_it() {
    let fabric = Fabric::default();
    let names: [Name; 2] = ["hv1", "hv2"].map(|name| name.parse().unwrap());
    let vteps: [std::net::IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
    for (name, vtep) in names.iter().zip(vteps) {
        fabric.with(name, |switch| switch.set_vtep(vtep));
    }
    let mut pair = Pair::start(&fabric, &names).await;
    let probe = |token, to| Probe { port: Tunnel::Vxlan.port(), to, token };
    // Nobody has the one address, and the program of the switch with the other does not want it yet.
    let unheard = vec![probe(1, "192.0.2.9".parse().unwrap()), probe(2, vteps[1])];
    pair.order(0, Command::Probe(unheard)).await;
    let matches = Match::any().port(Tunnel::Vxlan.port()).with(Field::TunId, 0u8);
    let matches = matches.with(Field::EthType, PROBE_ETHERTYPE);
    let entry = Entry::new(Stage::Classify, 1, matches, vec![Action::Probe], Next::Done, Cause::Rule(1));
    pair.give(1, entry).await;
    pair.order(0, Command::Probe(vec![probe(3, vteps[1])])).await;
    let report = Report::Probed { token: 3, from: vteps[0] };
    assert_eq!(pair.reports.recv().await.unwrap(), FromSwitch { switch: names[1].clone(), attachment: 6, report });
}

#[tokio::test]
async fn a_frame_is_reported_where_its_wire_leads_and_links_go_down_and_up() {
    let fabric = Fabric::default();
    let names: [Name; 2] = ["leaf1", "spine1"].map(|name| name.parse().unwrap());
    let end = |at: usize, port: &str| (names[at].clone(), Port::Name(port.into()));
    fabric.wire(end(0, "up1"), end(1, "down9"));
    fabric.wire(end(0, "up1"), end(1, "down1"));
    assert_eq!(fabric.far_end(&end(1, "down9")), None, "a port has one wire");
    let mut pair = Pair::start(&fabric, &names).await;
    let lldp = Match::any().with(Field::EthType, 0x88ccu16).with(Field::Vlan, 0u8);
    let entry = Entry::new(Stage::Classify, 1, lldp, vec![Action::Discover], Next::Drop, Cause::Rule(1));
    let mut frame = vec![2; 12];
    frame.extend([0x88, 0xcc]);
    frame.resize(300, 7);
    let send = |port: &str| Command::Discover(vec![Outgoing { port: end(0, port).1, frame: frame.clone() }]);
    // The one program does not want it yet, and nothing is plugged into the other port.
    pair.order(0, send("up1")).await;
    pair.order(0, send("up2")).await;
    pair.give(1, entry).await;
    pair.order(0, send("up1")).await;
    let heard = Report::Discovered { port: end(1, "down1").1, frame: frame[..256].to_vec() };
    assert_eq!(
        pair.reports.recv().await.unwrap(),
        FromSwitch { switch: names[1].clone(), attachment: 6, report: heard.clone() }
    );
    for up in [false, true] {
        fabric.set_link(&end(1, "down1"), up);
        let states = vec![PortState { number: None, name: Some("down1".into()), up }];
        assert_eq!(pair.report().await, Report::PortStates(states));
        pair.order(0, send("up1")).await;
        // The next link's state must not overtake the frame.
        pair.order(0, Command::Count).await;
        if up {
            assert_eq!(pair.report().await, heard);
        }
        assert!(matches!(pair.report().await, Report::Counters(_)), "what was sent before is lost");
    }
}

#[test]
fn a_step_is_all_or_nothing() {
    let mut switch = bulkhead_driver_sim::Switch::default();
    switch.set_max_entries(1);
    let delta = Delta { remove: vec![], add: vec![entry("p1"), entry("p2")] };
    assert!(switch.apply(&delta).unwrap_err().contains("full"));
    assert!(switch.program().is_empty());
    switch.set_max_entries(10);
    switch.set_ports([Port::Name("p1".into())].into());
    assert!(switch.apply(&delta).unwrap_err().contains("p2"));
    assert!(switch.program().is_empty());
}
