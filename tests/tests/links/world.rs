//! Leaves and spines: what every test here stands on.

use bulkhead_lab::{Answer, Family, Hypervisor, Lab, Probe, Service, Stream, Wire, Workload};
use bulkhead_netlink::{LinkChange, Veth};
use bulkhead_tests::controller::{Controller, PAUSE, program};
use bulkhead_types::TopologyAnswer;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Two labs at once would only make each other slow.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// How long anything may take to come, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const SECOND: Duration = Duration::from_secs(1);
pub const SPINES: [&str; 2] = ["spine1", "spine2"];
/// The hosts: name, leaf, and which they are. Nobody is at a leaf that a world has not.
const HOSTS: [(&str, &str, u8); 5] =
    [("a", "leaf1", 1), ("b", "leaf2", 2), ("c", "leaf1", 3), ("d", "leaf2", 4), ("e", "leaf3", 5)];
/// Packets a second of a stream: four together are 1,000, which a switch holds for long enough when others have the
/// processor.
pub const RATE: u32 = 250;
/// IPv4 addresses that b has beside the first: what goes to different ones may take different ways.
pub const FURTHER: u8 = 11;

/// Leaves with workloads, two spines, and a cable from each leaf to each spine.
pub struct World {
    pub controller: Controller,
    pub hosts: BTreeMap<&'static str, Workload>,
    pub switches: BTreeMap<&'static str, Hypervisor>,
    leaves: &'static [&'static str],
    pub lab: Lab,
    _alone: MutexGuard<'static, ()>,
}

/// The nth of b's further addresses, 0 being the first.
pub fn further(nth: u8) -> IpAddr {
    [10, 1, 0, 100 + nth].into()
}

impl World {
    /// With these leaves, all links up.
    pub fn up(leaves: &'static [&'static str]) -> Option<World> {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = bulkhead_lab::missing() {
            eprintln!("NOT TESTED: links between real switches: {why}");
            return None;
        }
        let mut lab = Lab::new("links").unwrap();
        let names = leaves.iter().chain(&SPINES).zip(1..);
        let switches: BTreeMap<_, _> = names.map(|(name, id)| (*name, lab.hypervisor(name, id).unwrap())).collect();
        let mut hosts = BTreeMap::new();
        for (name, leaf, number) in HOSTS.into_iter().filter(|(_, leaf, _)| leaves.contains(leaf)) {
            let mut ips: Vec<IpAddr> = vec![[10, 1, 0, number].into(), format!("fd00::{number}").parse().unwrap()];
            if name == "b" {
                ips.extend((0..FURTHER).map(further));
            }
            let mac = format!("02:00:00:00:00:0{number}").parse().unwrap();
            hosts.insert(name, lab.workload(&switches[leaf], name, mac, &ips).unwrap());
        }
        let address = switches["leaf1"].controller_address();
        let controller = Controller::start(&program("bulkheadd").unwrap(), address).unwrap();
        let mut world = World { controller, hosts, switches, leaves, lab, _alone: alone };
        for leaf in leaves {
            for spine in SPINES {
                world.cable((leaf, &format!("to-{spine}")), (spine, &format!("to-{leaf}")));
            }
        }
        for switch in world.switches.values() {
            switch.set_controller(world.controller.openflow).unwrap();
        }
        world.apply(&world.documents());
        world.until("all switches connected", |world| {
            let status = world.controller.client.status().unwrap();
            status.switches.iter().all(|switch| switch.connected && switch.acknowledged >= status.revision)
        });
        world.until("every link", World::is_whole);
        Some(world)
    }

    /// A cable: made in the one namespace, its far end in the other.
    pub fn cable(&self, near: (&str, &str), far: (&str, &str)) {
        let [a, b] = [near.0, far.0].map(|name| &self.switches[name]);
        let (mut at_a, mut at_b) = (a.namespace().netlink().unwrap(), b.namespace().netlink().unwrap());
        let veth = Veth { name: near.1, peer: far.1, peer_in: b.namespace(), mac: None, mtu: None };
        at_a.add_veth(&veth).unwrap();
        for (links, port) in [(&mut at_a, near.1), (&mut at_b, far.1)] {
            links.checksums_off(port).unwrap();
            links.set(port, &[LinkChange::Up]).unwrap();
        }
        a.add_port(near.1, &[]).unwrap();
        b.add_port(far.1, &[]).unwrap();
    }

    fn documents(&self) -> Vec<Value> {
        let mut documents = vec![json!({"kind": "Network", "metadata": {"name": "net"},
            "spec": {"vni": 5001, "subnets": ["10.1.0.0/24", "fd00::/64"]}})];
        for (name, id) in self.leaves.iter().chain(&SPINES).zip(1..) {
            let role = name.trim_end_matches(|c: char| c.is_ascii_digit());
            documents.push(json!({"kind": "Switch", "metadata": {"name": name},
                "spec": {"driver": "openflow", "datapathId": format!("{id:#x}"), "role": role}}));
        }
        for (name, leaf, _) in HOSTS {
            let Some(host) = self.hosts.get(name) else { continue };
            // Who is d is asked by nobody.
            let app = if name == "d" { "other" } else { "x" };
            documents.push(json!({"kind": "Workload", "metadata": {"name": name, "labels": {"app": app}},
                "spec": {"network": "net", "interfaces": [{"mac": host.mac(), "ips": host.ips(),
                         "attachment": {"switch": leaf, "port": name}}]}}));
        }
        let x = json!({"matchLabels": {"app": "x"}});
        let ports = json!([{"protocol": "icmp", "type": 8}, {"protocol": "icmpv6", "type": 128}]);
        documents.push(json!({"kind": "Policy", "metadata": {"name": "ping"}, "spec": {"subject": x,
            "ingress": [{"action": "allow", "from": [x], "ports": ports}],
            "egress": [{"action": "allow", "to": [x], "ports": ports}]}}));
        documents
    }

    pub fn apply(&self, documents: &[Value]) {
        self.controller.client.apply(documents, false).unwrap_or_else(|error| panic!("{error}"));
    }

    pub fn topology(&self) -> TopologyAnswer {
        self.controller.client.topology().unwrap()
    }

    pub fn up_links(&self) -> usize {
        self.topology().links.iter().filter(|link| link.state == "up").count()
    }

    pub fn until(&mut self, what: &str, done: impl Fn(&World) -> bool) -> Duration {
        let began = Instant::now();
        while !done(self) {
            let told = || format!("{:#?}\n{}", self.topology(), self.controller.log());
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}: {}", told());
            std::thread::sleep(PAUSE);
        }
        began.elapsed()
    }

    /// What the operator's command line prints, and its exit code.
    pub fn cli(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut cli = Command::new(program("bulkhead").unwrap());
        let server = self.controller.client.server();
        cli.env_remove("BULKHEAD_SERVER").args(["--server", server]).args(arguments);
        let output = cli.stdin(Stdio::null()).output().unwrap();
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        (output.status.code(), told)
    }

    pub fn ping(&self, from: &str, to: &str, family: Family, patience: Duration) -> Answer {
        let probe = Probe::new(&self.hosts[from], &self.hosts[to], Service::Icmp, family).unwrap();
        probe.patience(patience).run().unwrap()
    }

    /// Whether every cable is a link that is up.
    pub fn is_whole(&self) -> bool {
        self.up_links() == self.leaves.len() * SPINES.len()
    }

    /// [`RATE`] packets a second from `a` to an address.
    pub fn stream(&self, to: IpAddr) -> Stream {
        Stream::start(self.hosts["a"].namespace(), None, to, RATE).unwrap()
    }

    /// Where a host is reached by IPv4.
    pub fn ip(&self, host: &str) -> IpAddr {
        self.hosts[host].ip(Family::V4).unwrap()
    }

    /// Allowed pairs reach each other, and denied ones do not.
    pub fn judge(&mut self) {
        for family in Family::ALL {
            for (from, to) in [("a", "b"), ("b", "a"), ("c", "b"), ("a", "c")] {
                self.until(&format!("{from} to {to}, {family:?}"), |world| {
                    world.ping(from, to, family, Duration::from_secs(1)).passed()
                });
            }
            for (from, to) in [("a", "d"), ("d", "a"), ("d", "b")] {
                assert!(
                    !self.ping(from, to, family, Duration::from_millis(500)).passed(),
                    "{from} to {to}, {family:?}"
                );
            }
        }
    }

    /// Somebody plugs himself in at the port `free` of leaf2: his end.
    pub fn stranger(&self) -> Wire {
        let leaf = &self.switches["leaf2"];
        let veth = Veth { name: "free", peer: "stranger", peer_in: leaf.namespace(), mac: None, mtu: None };
        let mut links = leaf.namespace().netlink().unwrap();
        links.add_veth(&veth).unwrap();
        links.set("free", &[LinkChange::Up]).unwrap();
        links.set("stranger", &[LinkChange::Up]).unwrap();
        leaf.add_port("free", &[]).unwrap();
        Wire::open(leaf.namespace(), "stranger").unwrap()
    }
}
