//! Two real switches and an underlay: what a program says about tunnels is what becomes of packets.

use bulkhead_dataplane::{Address, Command, FromSwitch, Probe, Report, ToDrivers};
use bulkhead_driver_ovs::driver;
use bulkhead_lab::{Daemon, End, Fabric, Scenario, Wire, hypervisor::BRIDGE, workload::INTERFACE};
use bulkhead_pipeline::{
    Action, Builtin, Cause, Delta, Entry, Field, Match, Next, Output, Program, Stage, conn, ethertype, ip_proto,
    overlay::{ETHERNET_HEADER, PROBE_ETHERTYPE, Tunnel},
};
use bulkhead_topology::{DatapathId, Name, Port};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts: a switch that does not know its neighbour in the underlay loses what it sends.
const AGAIN: Duration = Duration::from_millis(300);
const UNDERLAY_MTU: u16 = 1500;
const VNI: u32 = 5001;
const NETWORK: u8 = 5;
/// Of the workload on hv1, and of the one on hv2.
const IDENTITIES: [u32; 2] = [0x0102_0304, 0x0a0b_0c0d];
const A: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 254);
/// UDP to this port is refused at the far end.
const REFUSED: u16 = 81;

/// An address of the workload on hv2, to which hv1 sends by this encapsulation.
fn b(tunnel: Tunnel) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, 20 + tunnel as u8)
}

struct Pair {
    commands: mpsc::Sender<ToDrivers>,
    reports: mpsc::Receiver<FromSwitch>,
    names: [Name; 2],
    vteps: [IpAddr; 2],
    wires: [Wire; 2],
    fabric: Fabric,
    sessions: [u64; 2],
    step: u64,
}

impl Pair {
    /// Two connected switches with both overlay ports; `None` where there can be no lab.
    async fn start(vteps: [&str; 2]) -> Option<Self> {
        if let Some(why) = bulkhead_lab::missing() {
            eprintln!("skipped: {why}");
            return None;
        }
        let scenario = format!(
            "{{lab: tunnels, services: [ping], underlayMtu: {UNDERLAY_MTU}, hypervisors: [{{name: hv1, vtep: '{}'}}, \
             {{name: hv2, vtep: '{}'}}], workloads: [{{name: a, hypervisor: hv1, network: n, ips: [{A}], mtu: 9000}}, \
             {{name: b, hypervisor: hv2, network: n, ips: [10.1.0.12], mtu: 9000}}]}}\n---\nkind: Network\nmetadata: \
             {{name: n}}\nspec: {{vni: {VNI}, subnets: [10.1.0.0/24]}}\n",
            vteps[0], vteps[1]
        );
        let fabric = Fabric::up(&Scenario::parse(&scenario).unwrap()).unwrap();
        for hypervisor in fabric.hypervisors() {
            for (tunnel, kind) in [(Tunnel::Geneve, "type=geneve"), (Tunnel::Vxlan, "type=vxlan")] {
                let name = tunnel.port_name();
                let options = ["options:key=flow", "options:remote_ip=flow"];
                let add = [&["add-port", BRIDGE, name, "--", "set", "interface", name, kind][..], &options].concat();
                hypervisor.vsctl(&add).unwrap();
            }
        }
        let wires = ["a", "b"].map(|name| Wire::open(fabric.workload(name).unwrap().namespace(), INTERFACE).unwrap());
        let listener = TcpListener::bind((fabric.controller_address().unwrap(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (commands, from_controller) = mpsc::channel(16);
        let (to_controller, reports) = mpsc::channel(64);
        tokio::spawn(driver::run(listener, None, Some(7), from_controller, to_controller));
        let names: [Name; 2] = ["hv1", "hv2"].map(|name| name.parse().unwrap());
        let vteps = vteps.map(|vtep| vtep.parse().unwrap());
        let mut pair = Self { commands, reports, names, vteps, wires, fabric, sessions: [0; 2], step: 0 };
        for (at, datapath) in [0xb1, 0xb2].into_iter().enumerate() {
            let (switch, address) = (pair.names[at].clone(), Address::Datapath(DatapathId(datapath)));
            pair.commands.send(ToDrivers::Attach { switch, address, attachment: 1 }).await.unwrap();
        }
        for hypervisor in pair.fabric.hypervisors() {
            hypervisor.set_controller(address).unwrap();
        }
        for _ in 0..2 {
            let FromSwitch { switch, report: Report::Connected { session, .. }, .. } = pair.report().await else {
                panic!("not connected")
            };
            let at = usize::from(switch == pair.names[1]);
            pair.sessions[at] = session;
        }
        Some(pair)
    }

    async fn report(&mut self) -> FromSwitch {
        self.report_within(PATIENCE).await.expect("no report in time")
    }

    /// The next report of anything but links and of who it is.
    async fn report_within(&mut self, patience: Duration) -> Option<FromSwitch> {
        let next = async {
            loop {
                let from = self.reports.recv().await?;
                if !matches!(from.report, Report::PortStates(_) | Report::Peer(_)) {
                    return Some(from);
                }
            }
        };
        timeout(patience, next).await.ok()?
    }

    async fn command(&self, at: usize, command: Command) {
        let (switch, session) = (self.names[at].clone(), self.sessions[at]);
        self.commands.send(ToDrivers::Command { switch, session, command }).await.unwrap();
    }

    async fn apply(&mut self, at: usize, add: Vec<Entry>) {
        self.step += 1;
        let step = self.step;
        self.command(at, Command::Apply { step, delta: Delta { remove: vec![], add }, ahead: Arc::default() }).await;
        assert_eq!(self.report().await.report, Report::Applied { step });
    }

    /// Sends a frame into a workload's port until a frame that is wanted comes out at a workload's port.
    fn exchange(&self, from: usize, frame: &[u8], to: usize, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        for _ in 0..20 {
            self.wires[from].inject(frame).unwrap();
            if let Some(found) = self.wires[to].find(AGAIN, &wanted).unwrap() {
                return Some(found);
            }
        }
        None
    }
}

/// The fields of the far end's address.
fn toward(vtep: IpAddr) -> (Field, u128) {
    match vtep {
        IpAddr::V4(v4) => (Field::TunDst4, v4.to_bits().into()),
        IpAddr::V6(v6) => (Field::TunDst6, v6.to_bits()),
    }
}

fn from(vtep: IpAddr) -> (Field, u128) {
    match vtep {
        IpAddr::V4(v4) => (Field::TunSrc4, v4.to_bits().into()),
        IpAddr::V6(v6) => (Field::TunSrc6, v6.to_bits()),
    }
}

fn name(port: &str) -> Port {
    Port::Name(port.into())
}

fn v4() -> Match {
    Match::any().with(Field::EthType, ethertype::IPV4)
}

fn mtu(tunnel: Tunnel, vtep: IpAddr) -> u16 {
    UNDERLAY_MTU - tunnel.overhead(vtep.is_ipv6())
}

/// The program of one of the two: a workload and its address, the other's and its VTEP.
fn program(at: usize, vteps: [IpAddr; 2]) -> Vec<Entry> {
    let far = vteps[1 - at];
    let port = name(["a", "b"][at]);
    let go = Next::Stage;
    let mut entries = Vec::new();
    let mut entry = |stage, matches: Match, actions, next| {
        let priority = 10 + matches.fields().count() as u16;
        entries.push(Entry::new(stage, priority, matches, actions, next, Cause::Builtin(Builtin::Classify)));
    };
    let enter = |id: u128| vec![Action::set(Field::Network, NETWORK.into()), Action::set(Field::SrcId, id)];
    let here = [enter(IDENTITIES[at].into()), vec![Action::set(Field::SrcLocal, 1)]].concat();
    entry(Stage::Classify, Match::any().port(port.clone()), here, go(Stage::ArpNd));
    for tunnel in Tunnel::ALL {
        let known = Match::any().port(tunnel.port()).with(Field::TunId, VNI);
        let there = vec![Action::set(Field::Network, NETWORK.into()), Action::set(Field::FromTunnel, 1)];
        entry(Stage::Classify, known, there, go(Stage::Antispoof));
        let probe = Match::any().port(tunnel.port()).with(Field::TunId, 0u8).with(Field::EthType, PROBE_ETHERTYPE);
        entry(Stage::Classify, probe, vec![Action::Probe], Next::Done);
        let (field, value) = from(far);
        let mut row = Match::any().port(tunnel.port()).with(field, value);
        if tunnel == Tunnel::Geneve {
            row = row.with(Field::TunIdentity, IDENTITIES[1 - at]);
        }
        entry(Stage::Antispoof, row, vec![Action::set(Field::SrcId, IDENTITIES[1 - at].into())], go(Stage::Locate));
    }
    entry(Stage::ArpNd, v4(), vec![], go(Stage::Locate));
    let spent = v4().with(Field::IpTtl, 1u8).with(Field::SrcLocal, 1u8);
    entry(Stage::ArpNd, spent, vec![Action::Expired { from: GATEWAY.into() }], Next::Drop);
    // Everything of the tunnel is said before the tracker is asked, and has to outlive that.
    for tunnel in Tunnel::ALL {
        let (field, value) = toward(far);
        let mut sent = vec![
            Action::SetOut(tunnel.port()),
            Action::set(Field::OutTunnel, tunnel as u128),
            Action::set(Field::TunId, VNI.into()),
            Action::set(field, value),
            Action::DecTtl,
        ];
        if tunnel == Tunnel::Geneve {
            sent.push(Action::Copy { from: Field::SrcId, to: Field::TunIdentity });
        }
        let to = if at == 0 { b(tunnel) } else { A };
        let mut matches = v4().with(Field::Ipv4Dst, to.to_bits()).with(Field::FromTunnel, 0u8);
        if at == 1 {
            // An answer goes back by what the question came by.
            matches = matches.with(Field::Ipv4Src, b(tunnel).to_bits());
        }
        entry(Stage::Locate, matches, sent, go(Stage::Track));
    }
    let found = vec![Action::set(Field::DstId, IDENTITIES[at].into()), Action::set(Field::DstLocal, 1)];
    let found = [found, vec![Action::SetOut(port)]].concat();
    entry(Stage::Locate, v4().with(Field::FromTunnel, 1u8), found, go(Stage::Track));
    entry(Stage::Track, v4(), vec![Action::Track], go(Stage::Connection));
    entry(Stage::Connection, v4(), vec![], go(Stage::Verdict));
    let refused = v4().with(Field::IpProto, ip_proto::UDP).with(Field::L4Dst, REFUSED).with(Field::FromTunnel, 1u8);
    entry(Stage::Connection, refused, vec![Action::Reject], Next::Drop);
    let new = v4().masked(Field::Conn, conn::TRK | conn::NEW, conn::TRK | conn::NEW);
    entry(Stage::Verdict, new, vec![Action::Commit], go(Stage::Fit));
    entry(Stage::Verdict, v4(), vec![], go(Stage::Fit));
    entry(Stage::Fit, Match::any(), vec![], go(Stage::Deliver));
    for tunnel in Tunnel::ALL {
        let fits = mtu(tunnel, far);
        let by = |m: Match| m.with(Field::OutTunnel, tunnel as u128);
        entry(Stage::Fit, by(v4()), vec![Action::CheckSize(fits + ETHERNET_HEADER)], go(Stage::Deliver));
        let long = by(v4()).with(Field::TooBig, 1u8);
        entry(Stage::Deliver, long, vec![Action::TooBig { mtu: fits }], Next::Drop);
    }
    // What came by a tunnel says so after the tracker, too.
    let (field, value) = from(far);
    let local = Match::any().with(Field::FromTunnel, 1u8).with(Field::TunId, VNI).with(field, value);
    let geneve = local.clone().port(Tunnel::Geneve.port()).with(Field::TunIdentity, IDENTITIES[1 - at]);
    for came in [geneve, local.port(Tunnel::Vxlan.port())] {
        entry(Stage::Deliver, came, vec![Action::Output(Output::Chosen)], Next::Done);
    }
    let sent = Match::any().with(Field::FromTunnel, 0u8);
    entry(Stage::Deliver, sent, vec![Action::Output(Output::Chosen)], Next::Done);
    entries
}

/// A UDP packet from `A` in a frame of this length.
fn udp(to: Ipv4Addr, port: u16, ttl: u8, length: usize) -> Vec<u8> {
    let ip = (length - 14) as u16;
    let mut frame = vec![2, 0, 0, 0, 0, 0x12, 2, 0, 0, 0, 0, 0x11, 8, 0, 0x45, 0];
    frame.extend(ip.to_be_bytes());
    frame.extend([0, 1, 0x40, 0, ttl, 17, 0, 0]);
    frame.extend(A.octets());
    frame.extend(to.octets());
    let sum = frame[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend(4000u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend((ip - 20).to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(length, 0x5a);
    frame
}

/// Whether a frame is an ICMP message of this type and code to `A`.
fn icmp(kind: [u8; 2]) -> impl Fn(&[u8]) -> bool {
    move |frame| frame.get(23) == Some(&1) && frame.get(30..36) == Some(&[&A.octets()[..], &kind].concat()[..])
}

async fn everything(vteps: [&str; 2]) {
    let Some(mut pair) = Pair::start(vteps).await else { return };
    for at in [0, 1] {
        let entries = program(at, pair.vteps);
        pair.apply(at, entries.clone()).await;
        pair.command(at, Command::Read).await;
        let Report::Actual { program, alien } = pair.report().await.report else { panic!("no read-back") };
        assert_eq!((program, alien), (Program::from_iter(entries), 0));
    }
    // A probe gets there, whichever end sends it; it finds the neighbours, too.
    for (at, tunnel) in [(0, Tunnel::Geneve), (1, Tunnel::Geneve), (0, Tunnel::Vxlan), (1, Tunnel::Vxlan)] {
        let token = 0x1234_5678_9abc_def0 + at as u64;
        let mut arrived = None;
        for _ in 0..20 {
            pair.command(at, Command::Probe(vec![Probe { port: tunnel.port(), to: pair.vteps[1 - at], token }])).await;
            arrived = pair.report_within(AGAIN).await;
            if arrived.is_some() {
                break;
            }
        }
        let arrived = arrived.unwrap_or_else(|| panic!("no probe over {tunnel:?} from {at}"));
        let report = Report::Probed { token, from: pair.vteps[at] };
        assert_eq!((arrived.switch, arrived.report), (pair.names[1 - at].clone(), report));
    }
    for tunnel in Tunnel::ALL {
        let fits = usize::from(mtu(tunnel, pair.vteps[1]) + ETHERNET_HEADER);
        let to = b(tunnel);
        // What fits arrives whole, but for its TTL and checksum, as long as it may be.
        for length in [100, fits] {
            let sent = udp(to, 80, 64, length);
            let same = |frame: &[u8]| frame.len() == length && frame.get(26..) == Some(&sent[26..]);
            let got = pair.exchange(0, &sent, 1, same);
            let got = got.unwrap_or_else(|| panic!("{length} bytes over {tunnel:?} do not arrive"));
            assert_eq!((got[22], &got[..12]), (63, &sent[..12]));
        }
        // One byte more, and its sender is told.
        let got = pair.exchange(0, &udp(to, 80, 64, fits + 1), 0, icmp([3, 4])).expect("nobody tells of the MTU");
        assert_eq!(
            (&got[26..30], &got[40..42]),
            (&to.octets()[..], &(fits as u16 - ETHERNET_HEADER).to_be_bytes()[..])
        );
        // Nor is one let through whose TTL is spent.
        let got = pair.exchange(0, &udp(to, 80, 1, 100), 0, icmp([11, 0])).expect("nobody tells of the TTL");
        assert_eq!(got[26..30], GATEWAY.octets());
        // What the far end refuses, it tells by the same tunnel, as from the destination.
        let sent = udp(to, REFUSED, 64, 100);
        let got = pair.exchange(0, &sent, 0, icmp([3, 3])).unwrap_or_else(|| panic!("no answer over {tunnel:?}"));
        assert_eq!((&got[26..30], &got[42 + 12..42 + 24]), (&to.octets()[..], &sent[26..38]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_an_ipv4_underlay() {
    everything(["172.31.0.1", "172.31.0.2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_an_ipv6_underlay() {
    everything(["fd00:31::1", "fd00:31::2"]).await;
}

/// With its entries it forgets what they need: the option, and where its neighbours are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_that_starts_anew_is_told_of_the_option_again() {
    let Some(mut pair) = Pair::start(["172.31.0.1", "172.31.0.2"]).await else { return };
    for at in [0, 1] {
        let entries = program(at, pair.vteps);
        pair.apply(at, entries).await;
    }
    let sent = udp(b(Tunnel::Geneve), 80, 64, 100);
    let same = |frame: &[u8]| frame.len() == 100 && frame.get(26..) == Some(&sent[26..]);
    assert!(pair.exchange(0, &sent, 1, same).is_some());
    pair.fabric.restart("hv2", Daemon::Switch, End::Crash).unwrap();
    let there = |ports: &BTreeSet<Port>| {
        [name("b"), Tunnel::Geneve.port(), Tunnel::Vxlan.port()].iter().all(|port| ports.contains(port))
    };
    loop {
        match pair.report().await.report {
            Report::Connected { session, ports, .. } => {
                pair.sessions[1] = session;
                if there(&ports) {
                    break;
                }
            }
            Report::Ports(ports) if there(&ports) => break,
            Report::Ports(_) | Report::Disconnected(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(!pair.fabric.hypervisor("hv2").unwrap().flows().unwrap().iter().any(|flow| flow.contains("tun_metadata0")));
    pair.apply(1, program(1, pair.vteps)).await;
    assert!(pair.exchange(0, &sent, 1, same).is_some());
}
