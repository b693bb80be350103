//! What is written about a connection that a rule asked to log.

use crate::common;
use bulkhead_dataplane::{Address, FromSwitch, Logged, Report};
use bulkhead_pipeline::{Action, Field, Packet, ethertype};
use bulkhead_policy::{
    Resource,
    model::{self, Driver},
};
use bulkhead_runtime::{Core, Drivers, Request, channel};
use bulkhead_store::MemoryStore;
use bulkhead_topology::Port;
use common::{SHOP, decode, name, set};
use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};
use tracing_subscriber::fmt::MakeWriter;

/// Everything that is written.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Page {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The shop, whose one rule is logged and does this.
fn shop(action: model::Action, staged: bool) -> Request {
    let mut request = set(SHOP);
    for edit in &mut request.edits {
        if let Some(Resource::Policy(policy)) = &mut edit.change.value {
            let policy = Arc::make_mut(policy);
            policy.staged = staged;
            policy.ingress[0].action = action;
            policy.ingress[0].log = true;
            policy.ingress[0].name = "http".into();
        }
    }
    request
}

/// A controller of the shop, and a report about web-1's connection to app-1 that came by this port.
fn logged(action: model::Action, staged: bool, dropped: bool, port: &str) -> (Core, Report) {
    let (commands, _receiver) = channel();
    let route = |driver: &Driver| (*driver == Driver::Sim).then_some((0, Address::Sim));
    let drivers = Drivers { channels: vec![commands], route, keeper: None, prober: None };
    let mut core = Core::load(Box::new(MemoryStore::default()), decode, drivers).unwrap();
    core.apply(&shop(action, staged), Duration::ZERO).unwrap();
    let program = core.program(&name("hv1")).unwrap();
    let cause = program.iter().find(|entry| entry.actions.contains(&Action::Log)).unwrap().cause;
    let packet = Packet::new(Port::Name(port.into()))
        .with(Field::EthType, ethertype::IPV4)
        .with(Field::Ipv4Src, 0x0a01_0001u32)
        .with(Field::Ipv4Dst, 0x0a01_0003u32)
        .with(Field::IpProto, 6u8)
        .with(Field::L4Src, 40_000u16)
        .with(Field::L4Dst, 8080u16);
    (core, Report::Logged(Box::new(Logged { cause, dropped, packet, missed: 5 })))
}

/// What is written while reports like this one come at these times, in seconds.
fn written(core: &mut Core, report: &Report, times: impl IntoIterator<Item = u64>) -> Vec<String> {
    let page = Page::default();
    let subscriber = tracing_subscriber::fmt().with_writer(page.clone()).with_ansi(false).without_time().finish();
    tracing::subscriber::with_default(subscriber, || {
        for (at, switch) in times.into_iter().zip(["hv1", "hv2"].iter().cycle()) {
            let attachment = if *switch == "hv1" { 1 } else { 2 };
            let from = FromSwitch { switch: name(switch), attachment, report: report.clone() };
            core.report(from, Duration::from_secs(at));
        }
    });
    let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The line about the connection.
fn line(action: model::Action, staged: bool, dropped: bool) -> String {
    let (mut core, report) = logged(action, staged, dropped, "web-1");
    let lines = written(&mut core, &report, [0]);
    assert_eq!(lines.len(), 1);
    lines[0].clone()
}

#[tokio::test]
async fn what_a_switch_calls_its_ports_makes_no_line_of_its_own() {
    let (mut core, report) = logged(model::Action::Allow, false, false, "x\n INFO forged");
    let lines = written(&mut core, &report, [0]);
    assert!(lines.len() == 1 && lines[0].contains(r"in_port=x\n INFO forged"), "{lines:?}");
}

#[tokio::test]
async fn a19_a_flood_of_logged_connections_of_many_switches_is_cut_off_and_counted() {
    let (mut core, report) = logged(model::Action::Allow, false, false, "web-1");
    let lines = written(&mut core, &report, std::iter::repeat_n(3, 5_000).chain([4, 4]));
    assert_eq!(lines.len(), 1_002);
    // 4,000 that were left out here, and of each of them five that were left out before.
    let missed: Vec<_> = lines[999..].iter().map(|line| line.rsplit_once('=').unwrap().1).collect();
    assert_eq!(missed, ["5", "24005", "5"]);
}

#[tokio::test]
async fn a_logged_connection_is_one_line_with_who_what_and_why() {
    assert_eq!(
        line(model::Action::Allow, false, false),
        " INFO bulkhead::flow: new connection verdict=\"allow\" policy=web-to-app rule=http direction=\"ingress\" \
         from=10.1.0.1 to=10.1.0.3 protocol=tcp source_port=40000 port=8080 switch=hv1 in_port=web-1 missed_before=5"
    );
    for (action, staged, dropped, verdict) in [
        (model::Action::Deny, false, true, "deny"),
        (model::Action::Reject, false, true, "reject"),
        (model::Action::Deny, false, false, "would-deny"),
        (model::Action::Reject, true, false, "would-reject"),
        (model::Action::Allow, true, false, "would-allow"),
    ] {
        let line = line(action, staged, dropped);
        assert!(line.contains(&format!("verdict=\"{verdict}\"")), "{line}");
    }
}
