//! One list of packets, every dataplane: the simulated switch, and a real Open vSwitch where there can be one.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod cases;
mod frames;

use bulkhead_compile::{CauseName, Compiler};
use bulkhead_dataplane::{Address, Command, FromSwitch, Report, ToDrivers};
use bulkhead_driver_sim::Switch;
use bulkhead_lab::{Lab, Spec, Wire};
use bulkhead_pipeline::{Cause, Delta, Field, Outcome, Packet, Program, ip_proto};
use bulkhead_policy::{Severity, State};
use bulkhead_topology::{DatapathId, Mac, Name, Port};
use bulkhead_types::{Format, read};
use cases::{A, B, BASE, C, Case, EXT, Expect, Sent, cases};
use std::{collections::BTreeMap, time::Duration};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

/// How long a packet that has to come may take, on a busy machine.
const COMING: Duration = Duration::from_secs(5);
/// How long is waited for a packet that must not come.
const STAYING_AWAY: Duration = Duration::from_millis(60);

fn switch() -> Name {
    "hv1".parse().unwrap()
}

fn state(case: &Case) -> State {
    let text = format!("{BASE}---\n{}", case.policies);
    let parsed = read(Some(case.name), text.as_bytes(), Format::Any);
    assert!(!parsed.has_errors(), "{}: {:#?}", case.name, parsed.diagnostics);
    let (mut state, changes) = (State::default(), parsed.changes());
    let found = state.check(&changes);
    assert!(found.iter().all(|d| d.severity != Severity::Error), "{}: {found:#?}", case.name);
    state.apply(&changes);
    state
}

fn program(case: &Case) -> (Compiler, Program) {
    let compiler = Compiler::new(&state(case), Default::default()).unwrap().0;
    let program = compiler.program(&switch()).unwrap().clone();
    (compiler, program)
}

fn named(compiler: &Compiler, cause: Cause) -> String {
    match compiler.describe(cause) {
        Some(CauseName::Rule { policy, direction, index }) => format!("{policy}/{}/{index}", direction.as_str()),
        Some(CauseName::Isolation { policy }) => format!("isolation by {policy}"),
        Some(CauseName::Zone { zone }) => format!("isolation by zone {zone}"),
        Some(CauseName::Default { network }) => format!("default of {network}"),
        Some(CauseName::Builtin) | None => cause.to_string(),
    }
}

fn port(name: &str) -> Port {
    Port::Name(name.into())
}

#[test]
fn on_the_simulated_switch() {
    for case in cases() {
        let (compiler, program) = program(&case);
        let mut switch = Switch::default();
        let all = Delta { remove: Vec::new(), add: program.iter().cloned().collect() };
        switch.apply(&all).unwrap();
        for (index, sent) in case.packets.iter().enumerate() {
            let about = format!("{}, packet {index}", case.name);
            for frame in &sent.frames {
                let walk = switch.inject(port(sent.port), frame).unwrap();
                let dropped = |name: &str, cause: Cause| {
                    assert_eq!(named(&compiler, cause), name, "{about}: {walk:#?}");
                };
                match (&sent.expect, &walk.outcome) {
                    (Expect::Delivered(to), Outcome::Delivered { port: found, .. }) => {
                        assert_eq!(*found, port(to), "{about}");
                    }
                    (Expect::Dropped(name), Outcome::Dropped(cause)) => dropped(name, *cause),
                    (Expect::Reset(name) | Expect::Unreachable(name), Outcome::Rejected(cause)) => {
                        dropped(name, *cause)
                    }
                    (Expect::Answered(fields), Outcome::Answered(packet)) => has(packet, fields, &about),
                    (expected, _) => panic!("{about}: not {expected:?} but {walk:#?}"),
                }
            }
        }
    }
}

fn has(packet: &Packet, fields: &[(Field, u128)], about: &str) {
    for (field, value) in fields {
        assert_eq!(packet.get(*field), Some(*value), "{about}: {}", field.as_str());
    }
}

/// A real switch with the cases' ports, and the driver.
struct Rig {
    hypervisor: bulkhead_lab::Hypervisor,
    wires: BTreeMap<&'static str, Wire>,
    commands: mpsc::Sender<ToDrivers>,
    reports: mpsc::Receiver<FromSwitch>,
    program: Program,
    step: u64,
    /// Removed last.
    _lab: Lab,
}

impl Rig {
    async fn start() -> Self {
        let mut lab = Lab::new("conf").unwrap();
        let hypervisor = lab.hypervisor("hv1", 0xb1).unwrap();
        let mut wires = BTreeMap::new();
        for host in [A, B, C, EXT] {
            let workload = lab.add(&hypervisor, &Spec::silent(host.port, Mac(host.mac))).unwrap();
            wires.insert(host.port, Wire::open(workload.namespace(), "eth0").unwrap());
        }
        let listener = TcpListener::bind((hypervisor.controller_address(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (commands, from_controller) = mpsc::channel(16);
        let (to_controller, reports) = mpsc::channel(64);
        tokio::spawn(bulkhead_driver_ovs::driver::run(listener, from_controller, to_controller));
        let attach =
            ToDrivers::Attach { switch: switch(), address: Address::Datapath(DatapathId(0xb1)), attachment: 1 };
        commands.send(attach).await.unwrap();
        hypervisor.set_controller(address).unwrap();
        let mut rig = Self { hypervisor, wires, commands, reports, program: Program::new(), step: 0, _lab: lab };
        assert!(matches!(rig.report().await, Report::Connected { .. }));
        rig
    }

    async fn report(&mut self) -> Report {
        loop {
            match timeout(Duration::from_secs(20), self.reports.recv()).await.unwrap().unwrap().report {
                Report::Ports(_) => {}
                report => return report,
            }
        }
    }

    /// Turns the switch's program into this one, in one step; what it remembers of connections is forgotten.
    async fn install(&mut self, program: Program, about: &str) {
        let gone = self.program.iter().filter(|entry| program.get(&entry.key).is_none());
        let come = program.iter().filter(|entry| self.program.get(&entry.key) != Some(entry));
        let delta = Delta { remove: gone.map(|entry| entry.key.clone()).collect(), add: come.cloned().collect() };
        self.step += 1;
        let command = Command::Apply { step: self.step, delta };
        self.commands.send(ToDrivers::Command { switch: switch(), command }).await.unwrap();
        let answer = self.report().await;
        assert_eq!(answer, Report::Applied { step: self.step }, "{about}");
        self.hypervisor.appctl(&["dpctl/flush-conntrack"]).unwrap();
        self.program = program;
    }

    /// What comes out of every port; once `window` has passed, nothing more is waited for.
    fn everything(&self, window: Duration) -> Vec<(&'static str, Vec<u8>)> {
        let mut window = window;
        let mut found = Vec::new();
        for (name, wire) in &self.wires {
            found.extend(wire.drain(window).unwrap().into_iter().map(|frame| (*name, frame)));
            window = Duration::from_millis(1);
        }
        found
    }

    fn check(&self, sent: &Sent, about: &str) {
        for frame in &sent.frames {
            self.wires[sent.port].inject(frame).unwrap();
        }
        let mut found = Vec::new();
        let awaited = match &sent.expect {
            Expect::Delivered(to) => Some((*to, sent.frames.len())),
            Expect::Dropped(_) => None,
            Expect::Reset(_) | Expect::Unreachable(_) | Expect::Answered(_) => Some((sent.port, 1)),
        };
        if let Some((at, count)) = awaited {
            let frames = (0..count).map_while(|_| self.wires[at].receive(COMING).unwrap());
            found.extend(frames.map(|frame| (at, frame)));
        }
        let window = if awaited.is_some() { Duration::from_millis(2) } else { STAYING_AWAY };
        found.extend(self.everything(window));
        match &sent.expect {
            Expect::Delivered(to) => {
                let wanted: Vec<_> = sent.frames.iter().map(|frame| (*to, frame.clone())).collect();
                assert_eq!(found, wanted, "{about}");
            }
            Expect::Dropped(_) => assert_eq!(found, vec![], "{about}"),
            answered => {
                let [(at, frame)] = &found[..] else { panic!("{about}: {found:?}") };
                assert_eq!(*at, sent.port, "{about}");
                let packet = Packet::parse(port(at), frame).unwrap();
                match answered {
                    Expect::Answered(fields) => has(&packet, fields, about),
                    Expect::Reset(_) => {
                        let l4 = frame.len() - 20;
                        assert_eq!(packet.value(Field::IpProto), ip_proto::TCP, "{about}");
                        assert_eq!(frame[l4 + 13] & 4, 4, "{about}: no reset in {frame:02x?}");
                    }
                    _ => {
                        let (protocol, kind) = (packet.value(Field::IpProto), packet.get(Field::IcmpType));
                        let unreachable = if protocol == ip_proto::ICMP { 3 } else { 1 };
                        assert_eq!(kind, Some(unreachable), "{about}: {frame:02x?}");
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_open_vswitch() {
    if let Some(why) = bulkhead_lab::missing() {
        eprintln!("NOT TESTED: real packets through Open vSwitch: {why}");
        return;
    }
    let mut rig = Rig::start().await;
    for case in cases() {
        rig.install(program(&case).1, case.name).await;
        for (index, sent) in case.packets.iter().enumerate() {
            rig.check(sent, &format!("{}, packet {index}: {:?}", case.name, sent.expect));
        }
    }
}
