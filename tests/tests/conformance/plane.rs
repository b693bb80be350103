//! Where packets go in and come out: switches with a silent host at every port, real or simulated, one or several.

use crate::{case::Expect, device::Leaves, frames::Host, mininet::Mininet};
use bulkhead_driver_sim as sim;
use bulkhead_lab::{Hypervisor, Lab, Scenario, Spec, Wire};
use bulkhead_netlink::{LinkChange, Veth};
use bulkhead_pipeline::{Field, Outcome, Packet, carry as links, overlay, overlay::Tunnel};
use bulkhead_topology::{Mac, Name, Port};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

/// How long a port is listened to before the counters are looked at.
const TRY: Duration = Duration::from_millis(100);

/// The longest IP packet in the underlay, in bytes: a workload's longest ones do not fit into its tunnels.
pub const UNDERLAY_MTU: u16 = 1400;

/// The longest IP packet on links, in bytes: as long as what hosts send. A tag costs none of it.
pub const LINK_MTU: u16 = 1500;

/// Who is plugged in where.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// For each switch, its hosts. A port of nobody's is on the first one.
    pub hosts: &'static [&'static [Host]],
    /// How the networks travel from one switch to another.
    pub encap: &'static str,
    /// How many switches without hosts have a link to each with some: if any, nothing goes by tunnels.
    pub spines: usize,
    /// Whether all switches are one Open vSwitch, and share its connection tracker.
    pub one_tracker: bool,
    /// Whether the switch is one that P4 programs, and remembers no connections.
    pub forgets: bool,
}

/// The name of a switch, the first one's being 0.
pub fn switch(number: usize) -> String {
    format!("hv{}", number + 1)
}

/// The name of a switch without hosts, and of the ports that lead to it.
fn spine_name(number: usize) -> String {
    format!("spine{}", number + 1)
}

/// Whether a port leads to another switch.
pub fn by_link(port: &Port) -> bool {
    matches!(port, Port::Name(name) if name.starts_with("spine"))
}

/// The port that leads to a switch.
fn end(switch: &str, to: &str) -> (Name, Port) {
    (switch.parse().unwrap(), port(to))
}

/// Its address in the underlay.
pub fn vtep(number: usize) -> IpAddr {
    Ipv4Addr::new(172, 31, 0, number as u8 + 1).into()
}

impl Spread {
    /// The number of the switch with this port.
    pub fn of(&self, port: &str) -> usize {
        self.hosts.iter().position(|hosts| hosts.iter().any(|host| host.port == port)).unwrap_or(0)
    }

    /// What is expected where the switches are these.
    pub fn expect(&self, expect: &Expect) -> Expect {
        match expect {
            Expect::Where([one, other], either) => {
                let [together, apart] = &**either;
                self.expect(if self.of(one) == self.of(other) { together } else { apart })
            }
            plain => plain.clone(),
        }
    }

    /// The name of the switch with this port.
    pub fn switch_of(&self, port: &str) -> String {
        switch(self.of(port))
    }

    /// The names of the switches with whoever has the address that a packet is for: networks may overlap.
    pub fn switches_for(&self, packet: &Packet) -> Vec<String> {
        let has = |host: &Host| {
            packet.get(Field::Ipv4Dst) == Some(u32::from_be_bytes(host.v4).into())
                || packet.get(Field::Ipv6Dst) == Some(Ipv6Addr::from(host.v6).to_bits())
        };
        let all = self.hosts.iter().enumerate().filter(|(_, hosts)| hosts.iter().any(has));
        all.map(|(number, _)| switch(number)).collect()
    }

    /// How many hosts there are.
    pub fn ports(&self) -> u32 {
        self.hosts.iter().map(|hosts| hosts.len() as u32).sum()
    }

    /// The number of a port, where ports have no names.
    pub fn number(&self, port: &str) -> u32 {
        let hosts = self.hosts.iter().flat_map(|hosts| hosts.iter());
        let at = hosts.into_iter().position(|host| host.port == port);
        at.map_or(500, |at| at as u32 + 1)
    }

    fn across(&self) -> bool {
        self.hosts.len() > 1
    }

    /// How many links there are.
    pub fn links(&self) -> u64 {
        (self.hosts.len() * self.spines) as u64
    }

    /// Every switch, those with hosts first, and its datapath's number.
    fn ids(&self) -> impl Iterator<Item = (String, u64)> {
        (0..self.hosts.len()).map(switch).chain((0..self.spines).map(spine_name)).zip(0xb1..)
    }

    /// What a switch's document says of its role.
    fn role(&self, name: &str) -> String {
        match (self.spines, name.starts_with("spine")) {
            (0, _) => String::new(),
            (_, true) => ", role: spine".into(),
            (_, false) => ", role: leaf".into(),
        }
    }

    /// A case's document, which knows one switch, as it is with these.
    pub fn place(&self, mut document: Value) -> Value {
        if !self.across() && !self.forgets {
            return document;
        }
        let kind = document["kind"].as_str().unwrap().to_owned();
        let spec = document["spec"].as_object_mut().unwrap();
        if kind == "Network" && self.across() {
            spec.insert("encap".into(), self.encap.into());
        }
        let places = match (kind.as_str(), spec) {
            ("Network", spec) => spec.get_mut("uplinks"),
            ("Workload", spec) => spec.get_mut("interfaces"),
            _ => None,
        };
        for place in places.and_then(Value::as_array_mut).into_iter().flatten() {
            let place = if place.get("attachment").is_some() { &mut place["attachment"] } else { place };
            if let Some(port) = place.get("port").and_then(Value::as_str) {
                let (port, number) = (switch(self.of(port)), self.number(port));
                place["switch"] = port.into();
                if self.forgets {
                    place["port"] = number.into();
                }
            }
        }
        document
    }
}

/// Something that came out.
#[derive(Debug, Clone)]
pub enum Seen {
    /// A frame, out of a port.
    Frame(String, Vec<u8>),
    /// A simulated switch makes no frames.
    Packet(String, Box<Packet>),
    /// It makes no resets and ICMP errors either, and says that there would be one.
    Refusal,
}

pub fn port(name: &str) -> Port {
    Port::Name(name.into())
}

pub enum Plane {
    Simulated {
        switches: sim::Fabric,
        spread: Spread,
        seen: Vec<Seen>,
    },
    /// Switches that P4 programs.
    Programmed {
        leaves: Leaves,
        spread: Spread,
    },
    Real {
        hypervisors: Vec<Hypervisor>,
        wires: BTreeMap<String, Wire>,
        /// Removed last.
        site: Site,
    },
}

/// What a real plane stands on.
pub enum Site {
    /// One switch, or several with cables between them.
    Lab(Box<Lab>),
    /// Several with tunnels between them.
    Fabric(Box<bulkhead_lab::Fabric>),
    Mininet(Mininet),
}

impl Plane {
    /// Simulated switches, and the documents that declare them.
    pub fn simulated(spread: Spread) -> (Self, sim::Fabric, String) {
        let switches = sim::Fabric::default();
        let mut documents = String::new();
        for number in 0..spread.hosts.len() {
            let (name, address) = (switch(number), vtep(number));
            switches.with(&name.parse().unwrap(), |switch| switch.set_vtep(address));
            let more = match (spread.spines, spread.across()) {
                (0, true) => format!(", vtep: {address}"),
                (0, false) => String::new(),
                _ => ", role: leaf".into(),
            };
            writeln!(documents, "---\nkind: Switch\nmetadata: {{name: {name}}}\nspec: {{driver: sim{more}}}").unwrap();
            for spine in 0..spread.spines {
                switches.wire(end(&name, &spine_name(spine)), end(&spine_name(spine), &name));
                writeln!(
                    documents,
                    "---\nkind: Link\nmetadata: {{name: {name}-{0}}}\nspec: {{a: {{switch: {name}, port: {0}}}, b: \
                     {{switch: {0}, port: {name}}}}}",
                    spine_name(spine)
                )
                .unwrap();
            }
        }
        for spine in 0..spread.spines {
            let name = spine_name(spine);
            writeln!(documents, "---\nkind: Switch\nmetadata: {{name: {name}}}\nspec: {{driver: sim, role: spine}}")
                .unwrap();
        }
        (Self::Simulated { switches: switches.clone(), spread, seen: Vec::new() }, switches, documents)
    }

    /// Open vSwitch, the documents that declare it, and where a controller listens. Of several switches with tunnels
    /// between them the databases are declared, and Bulkhead sets them up; others are told of their controller by who
    /// tests.
    pub fn real(spread: Spread) -> (Self, String, Ipv4Addr) {
        let tunnels = spread.across() && spread.spines == 0;
        let mut site = if tunnels {
            let hosts = 0..spread.hosts.len();
            let empty = Scenario { underlay_mtu: UNDERLAY_MTU, ..Scenario::new("conf") };
            let scenario = hosts.fold(empty, |all, number| all.hypervisor(&switch(number), vtep(number)));
            Site::Fabric(Box::new(bulkhead_lab::Fabric::up(&scenario).unwrap()))
        } else {
            Site::Lab(Box::new(Lab::new("conf").unwrap()))
        };
        let hypervisors: Vec<Hypervisor> = match &mut site {
            Site::Lab(lab) => spread.ids().map(|(name, id)| lab.hypervisor(&name, id).unwrap()).collect(),
            Site::Fabric(fabric) => fabric.hypervisors().to_vec(),
            Site::Mininet(_) => Vec::new(),
        };
        let (leaves, spines) = hypervisors.split_at(spread.hosts.len());
        for (leaf, spine) in leaves.iter().flat_map(|leaf| spines.iter().map(move |spine| (leaf, spine))) {
            cable(leaf, spine);
        }
        let mut wires = BTreeMap::new();
        for (hypervisor, hosts) in hypervisors.iter().zip(spread.hosts) {
            for host in *hosts {
                let mut spec = Spec::silent(host.port, Mac(host.mac));
                if spread.spines > 0 {
                    spec.mtu = LINK_MTU;
                }
                let workload = match &mut site {
                    Site::Lab(lab) => lab.add(hypervisor, &spec),
                    Site::Fabric(fabric) => fabric.lab().add(hypervisor, &spec),
                    Site::Mininet(_) => continue,
                };
                // What comes out is looked at where the switch sends it, with its tag.
                let near = workload.unwrap().namespace().clone();
                let wire = Wire::tapped((&near, "eth0"), (hypervisor.namespace(), host.port));
                wires.insert(host.port.into(), wire.unwrap());
            }
        }
        let mut documents = String::new();
        for (number, ((name, id), hypervisor)) in spread.ids().zip(&hypervisors).enumerate() {
            // The least that there is, in milliseconds (ovs-vswitchd.conf.db(5)).
            hypervisor.vsctl(&["set", "Open_vSwitch", ".", "other_config:max-revalidator=100"]).unwrap();
            let more = match tunnels {
                true => format!(", vtep: {}, ovsdb: \"{}\"", vtep(number), hypervisor.ovsdb()),
                false => spread.role(&name),
            };
            documents += &openflow(&name, id, &more);
        }
        let address = hypervisors[0].controller_address();
        (Self::Real { hypervisors, wires, site }, documents, address)
    }

    /// Switches that P4 programs, and the documents that declare them.
    pub fn programmed(spread: Spread, leaves: Leaves) -> (Self, String) {
        let documents = leaves.documents();
        (Self::Programmed { leaves, spread }, documents)
    }

    /// Mininet's switches with links between them, and the documents that declare them. They look for a controller at
    /// [`mininet::CONTROLLER`].
    pub fn mininet(spread: Spread) -> (Self, String) {
        let layout: Vec<Vec<&str>> =
            spread.hosts.iter().map(|hosts| hosts.iter().map(|host| host.port).collect()).collect();
        let names: Vec<(String, u64)> = spread.ids().collect();
        let (mininet, wires) = Mininet::up(&layout, &names);
        let declared = names.iter().map(|(name, id)| openflow(name, *id, &spread.role(name)));
        let documents = declared.collect();
        (Self::Real { hypervisors: Vec::new(), wires, site: Site::Mininet(mininet) }, documents)
    }

    /// Tells switches where their controller is, unless somebody else does.
    pub fn set_controller(&self, controller: SocketAddr) {
        if let Self::Real { hypervisors, site: Site::Lab(_), .. } = self {
            hypervisors.iter().for_each(|hypervisor| hypervisor.set_controller(controller).unwrap());
        }
    }

    pub fn send(&mut self, at: &str, frame: &[u8]) {
        match self {
            Self::Simulated { switches, spread, seen } => seen.extend(carry(switches, spread, at, frame)),
            Self::Programmed { leaves, .. } => leaves.send(at, frame),
            Self::Real { wires, .. } => wires[at].inject(frame).unwrap(),
        }
    }

    /// Whether all that becomes of a packet without the controller has become of it, counters and all, when it was sent.
    pub fn is_prompt(&self) -> bool {
        matches!(self, Self::Programmed { leaves, .. } if leaves.are_prompt())
    }

    /// What comes out of a port next.
    pub fn wait(&mut self, at: &str) -> Option<Seen> {
        match self {
            Self::Simulated { .. } => None,
            Self::Programmed { leaves, .. } => Some(Seen::Frame(at.into(), leaves.next(at, TRY)?)),
            Self::Real { wires, .. } => Some(Seen::Frame(at.into(), wires[at].find(TRY, is_packet).unwrap()?)),
        }
    }

    /// What came out of ports.
    pub fn receive(&mut self) -> Vec<Seen> {
        match self {
            Self::Simulated { seen, .. } => std::mem::take(seen),
            Self::Programmed { leaves, spread } => {
                let mut all = Vec::new();
                for name in spread.hosts.iter().flat_map(|hosts| hosts.iter()).map(|host| host.port) {
                    while let Some(frame) = leaves.next(name, Duration::ZERO) {
                        all.push(Seen::Frame(name.into(), frame));
                    }
                }
                all
            }
            Self::Real { wires, .. } => {
                let all = wires.iter().flat_map(|(name, wire)| {
                    let frames = wire.drain(Duration::ZERO).unwrap();
                    frames.into_iter().filter(|frame| is_packet(frame)).map(|frame| Seen::Frame(name.clone(), frame))
                });
                all.collect()
            }
        }
    }

    fn appctl(&self, arguments: &[&str]) {
        if let Self::Real { hypervisors, site, .. } = self {
            for hypervisor in hypervisors {
                hypervisor.appctl(arguments).unwrap();
            }
            if let Site::Mininet(mininet) = site {
                mininet.appctl(arguments);
            }
        }
    }

    /// Counts what cached flows passed or dropped, by ending them.
    pub fn end_cached_flows(&self) {
        self.appctl(&["revalidator/purge"]);
    }

    /// The same, and they stay: what was not counted before a change counts for the rules that come with it.
    pub fn count_cached_flows(&self) {
        self.appctl(&["revalidator/wait"]);
    }

    pub fn forget_connections(&self) {
        if let Self::Simulated { switches, spread, .. } = self {
            for number in 0..spread.hosts.len() {
                switches.with(&switch(number).parse().unwrap(), |switch| switch.tracker_mut().clear());
            }
        }
        self.appctl(&["dpctl/flush-conntrack"]);
    }
}

/// The document of an OpenFlow switch.
fn openflow(name: &str, id: u64, more: &str) -> String {
    let spec = format!("{{driver: openflow, datapathId: \"{id:#x}\"{more}}}");
    format!("---\nkind: Switch\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// Lays a cable: made at the one end, the other in that switch's namespace. Each port is called as what it leads to.
fn cable(a: &Hypervisor, b: &Hypervisor) {
    let (mut at_a, mut at_b) = (a.namespace().netlink().unwrap(), b.namespace().netlink().unwrap());
    let veth = Veth { name: b.name(), peer: a.name(), peer_in: b.namespace(), mac: None, mtu: Some(LINK_MTU.into()) };
    at_a.add_veth(&veth).unwrap();
    for (links, at, port) in [(&mut at_a, a, b.name()), (&mut at_b, b, a.name())] {
        links.checksums_off(port).unwrap();
        links.set(port, &[LinkChange::Up]).unwrap();
        at.add_port(port, &[]).unwrap();
    }
}

/// Carries a frame through simulated switches: from its port's, and by tunnel to another one.
fn carry(switches: &sim::Fabric, spread: &Spread, at: &str, frame: &[u8]) -> Option<Seen> {
    let mut on: Name = switch(spread.of(at)).parse().unwrap();
    let mut packet = Packet::parse(port(at), frame).unwrap();
    let mut hops = 0;
    loop {
        let came = Tunnel::of(&packet.in_port);
        let came = came.map(|_| ()).or((hops > 0).then_some(()));
        let outcome = switches.with(&on, |switch| switch.pass(packet, frame).outcome);
        let (out, sent) = match outcome {
            Outcome::Delivered { port, packet } => (port, packet),
            Outcome::Answered(packet) if came.is_none() => return Some(Seen::Packet(at.into(), packet)),
            Outcome::Answered(packet) => panic!("a question that came by a tunnel was answered: {packet:?}"),
            Outcome::Rejected(_) | Outcome::Expired { .. } | Outcome::NoRoute { .. } | Outcome::TooBig { .. } => {
                return Some(Seen::Refusal);
            }
            Outcome::Dropped(_) | Outcome::Probe(_) | Outcome::Discovered(_) => return None,
            Outcome::Copied(copies) => panic!("no case asks for groups: {copies:?}"),
        };
        if let Some((next, port)) = switches.far_end(&(on.clone(), out.clone())) {
            hops += 1;
            assert!(hops <= 2, "up and down: {sent:?}");
            (packet, on) = (links::arrive(&sent, port), next);
            continue;
        }
        if Tunnel::of(&out).is_none() {
            return Some(Seen::Packet(out.to_string(), sent));
        }
        assert!(came.is_none(), "from tunnel to tunnel: {sent:?}");
        let to = u32::try_from(sent.value(Field::TunDst4)).unwrap();
        let far = (0..spread.hosts.len()).find(|number| vtep(*number) == Ipv4Addr::from(to)).unwrap();
        let near = (0..spread.hosts.len()).find(|number| switch(*number) == on.as_str()).unwrap();
        packet = overlay::arrive(&sent, out, vtep(near));
        on = switch(far).parse().unwrap();
    }
}

/// Whether a frame is what a case is about: out of ports that are nobody's, the controller looks for other switches.
fn is_packet(frame: &[u8]) -> bool {
    frame.get(12..14) != Some(&[0x88, 0xcc])
}
