//! The driver's task, as the controller meets it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_dataplane::{Address, Command, FromSwitch, Report, ToDrivers};
use bulkhead_driver_sim::{Fabric, run};
use bulkhead_pipeline::{Cause, Delta, Entry, Match, Next, Program, Stage};
use bulkhead_topology::Port;
use tokio::sync::mpsc;

fn entry(port: &str) -> Entry {
    let matches = Match::any().port(Port::Name(port.into()));
    Entry::new(Stage::Classify, 1, matches, Vec::new(), Next::Stage(Stage::Antispoof), Cause::Rule(1))
}

#[tokio::test]
async fn it_connects_applies_and_keeps_the_program_over_sessions() {
    let fabric = Fabric::default();
    let name: bulkhead_topology::Name = "hv1".parse().unwrap();
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
