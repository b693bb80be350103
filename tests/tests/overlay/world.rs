//! A scenario with a `bulkheadd` of its own that keeps its hosts, and what tests ask of both.

use bulkhead_client::Client;
use bulkhead_lab::{Answer, Fabric, Family, Listeners, Probe, Scenario, Service, Workload};
use bulkhead_tests::controller::{Controller, PAUSE, program};
use bulkhead_topology::Mac;
use bulkhead_types::{HostStatus, StatusAnswer, SwitchStatus};
use serde_json::{Value, json};
use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How long anything may take to come, on a busy machine: Open vSwitch waits up to 8 s before it tries again, and three
/// hundred simulated switches take their programs one after another.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// How long something has to stay away that must not come.
pub const SILENCE: Duration = Duration::from_millis(500);

/// Whether attachments are written in the workloads' documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachments {
    /// They are.
    Declared,
    /// Bulkhead finds workloads where they are plugged in.
    Discovered,
}

/// A fabric that is up, and its controller.
pub struct World {
    /// Ends first: it would else mend what is taken down.
    pub controller: Controller,
    pub fabric: Fabric,
}

impl World {
    /// Puts a scenario up and its documents in force; `None`, loudly, where a lab cannot be.
    pub fn up(scenario: &Scenario, attachments: Attachments) -> Option<World> {
        let world = World::bare(scenario)?;
        world.apply(&world.documents(attachments));
        world.realized();
        Some(world)
    }

    /// The same, and the controller knows of nothing yet.
    pub fn bare(scenario: &Scenario) -> Option<World> {
        if let Some(why) = bulkhead_lab::missing() {
            eprintln!("NOT TESTED: several hypervisors: {why}");
            return None;
        }
        let fabric = Fabric::up(scenario).unwrap();
        let address = fabric.controller_address().unwrap();
        let controller = Controller::start(&program("bulkheadd").unwrap(), address).unwrap();
        Some(World { controller, fabric })
    }

    /// The scenario's documents, with workloads where they are now, or without saying where.
    pub fn documents(&self, attachments: Attachments) -> Vec<Value> {
        let database = |host: &bulkhead_lab::scenario::Host| self.fabric.ovsdb(&host.name).unwrap();
        let mut documents = self.fabric.scenario().documents(database);
        if attachments == Attachments::Declared {
            for document in documents.iter_mut().filter(|document| document["kind"] == "Workload") {
                let guest = self.fabric.scenario().guest(document["metadata"]["name"].as_str().unwrap()).unwrap();
                document["spec"]["interfaces"][0]["attachment"] =
                    json!({"switch": guest.hypervisor, "port": guest.name});
            }
        }
        documents
    }

    /// The document of one workload.
    pub fn workload_document(&self, name: &str, attachments: Attachments) -> Value {
        let is_it = |one: &Value| one["kind"] == "Workload" && one["metadata"]["name"] == name;
        self.documents(attachments).into_iter().find(is_it).unwrap()
    }

    /// Makes a change, and returns its revision.
    pub fn apply(&self, documents: &[Value]) -> u64 {
        self.client().apply(documents, false).unwrap_or_else(|error| panic!("{error}")).revision
    }

    pub fn client(&self) -> &Client {
        &self.controller.client
    }

    /// What the operator's command line prints, and its exit code.
    pub fn cli(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut cli = Command::new(program("bulkhead").unwrap());
        // It finds the controller as whoever administers this machine does.
        cli.env_remove("BULKHEAD_SERVER").env("BULKHEAD_CONFIG", "/nowhere/config.yaml").args(arguments);
        cli.env("BULKHEAD_DATA_DIR", self.controller.data());
        let output = cli.stdin(Stdio::null()).output().unwrap();
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        (output.status.code(), told)
    }

    /// What `bulkhead status SWITCH` prints.
    pub fn told(&self, switch: &str) -> String {
        self.cli(&["status", switch]).1
    }

    pub fn status(&self) -> StatusAnswer {
        self.client().status().unwrap()
    }

    pub fn switch(&self, name: &str) -> SwitchStatus {
        self.status().switches.into_iter().find(|switch| switch.name == name).unwrap()
    }

    pub fn host(&self, name: &str) -> HostStatus {
        self.switch(name).host.unwrap()
    }

    /// Waits until the status is as wanted, and says how long that took.
    pub fn until(&self, what: &str, wanted: impl Fn(&StatusAnswer) -> bool) -> Duration {
        until(&format!("{what} ({})", self.client().server()), || {
            let status = self.client().status();
            if status.as_ref().is_ok_and(&wanted) {
                Ok(())
            } else {
                Err(format!("{status:#?}\n{}", self.controller.log()))
            }
        })
    }

    /// Waits until every switch of the lab is connected, in shape, and has acknowledged the newest revision with nothing
    /// left to do; and until all interfaces that are there were told of.
    pub fn realized(&self) -> Duration {
        let plugged = |name: &str| {
            self.fabric.scenario().workloads.iter().filter(|guest| guest.hypervisor == name).count() as u64
        };
        self.until("realized", |status| {
            self.fabric.hypervisors().iter().all(|hypervisor| {
                let switch = status.switches.iter().find(|switch| switch.name == hypervisor.name());
                switch.is_some_and(|switch| {
                    let host = switch.host.as_ref();
                    host.is_some_and(|host| host.shaped && host.plugged >= plugged(&switch.name))
                        && switch.connected
                        && switch.pending == 0
                        && switch.last_error.is_empty()
                        && switch.acknowledged >= status.revision
                })
            })
        })
    }

    pub fn workload(&self, name: &str) -> Workload {
        self.fabric.workload(name).unwrap().clone()
    }

    /// Plugs an interface of a hypervisor's namespace in, which says whose it is.
    pub fn plug(&self, hypervisor: &str, port: &str, iface_id: &str, mac: Mac) {
        let (id, mac) = (format!("external_ids:iface-id={iface_id}"), format!("external_ids:attached-mac=\"{mac}\""));
        self.fabric.hypervisor(hypervisor).unwrap().add_port(port, &[&id, &mac]).unwrap();
    }

    /// Everybody listens at these.
    pub fn listen(&self, services: &[Service]) -> Vec<Listeners> {
        self.fabric.workloads().iter().map(|one| Listeners::start(one.namespace(), services).unwrap()).collect()
    }

    /// One question with real packets.
    pub fn probe(&self, from: &str, to: &str, service: Service, family: Family, patience: Duration) -> Answer {
        Probe::new(&self.workload(from), &self.workload(to), service, family).unwrap().patience(patience).run().unwrap()
    }

    /// Both families get there, sooner or later.
    pub fn reaches(&self, from: &str, to: &str, service: Service) {
        for family in Family::ALL {
            until(&format!("{service} from {from} to {to}, {family:?}"), || {
                match self.probe(from, to, service, family, SILENCE) {
                    Answer::Passed => Ok(()),
                    other => Err(format!("{other:?}\n{:#?}\n{}", self.status(), self.controller.log())),
                }
            });
        }
    }

    /// Neither family gets there.
    pub fn shut(&self, from: &str, to: &str, service: Service) {
        for family in Family::ALL {
            let answer = self.probe(from, to, service, family, SILENCE);
            assert!(!answer.passed(), "{service} from {from} to {to}, {family:?}");
        }
    }

    /// Packets that a built-in rule has dropped so far, at all switches.
    pub fn dropped(&self, rule: &str) -> u64 {
        let hits = self.client().hits(None).unwrap();
        hits.iter().filter(|hits| hits.policy.is_none() && hits.rule == rule).map(|hits| hits.dropped).sum()
    }
}

/// Waits until something is so, and says how long that took; what it last said is in the failure.
pub fn until(what: &str, mut done: impl FnMut() -> Result<(), String>) -> Duration {
    let began = Instant::now();
    loop {
        let Err(why) = done() else { return began.elapsed() };
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}: {why}");
        std::thread::sleep(PAUSE);
    }
}

/// Two hypervisors and one network: `a` and `c` on the one, `b` on the other. Who has `app: x` may be pinged and asked
/// at port 80 by whoever has it.
pub fn two(name: &str, vteps: [&str; 2]) -> Scenario {
    let ips = |number: u8| [format!("10.0.0.{number}"), format!("fd00::{number}")].map(|ip| ip.parse().unwrap());
    let mut scenario = Scenario::new(name)
        .hypervisor("hv1", vteps[0].parse().unwrap())
        .hypervisor("hv2", vteps[1].parse().unwrap())
        .workload("a", "hv1", "one", &ips(11))
        .workload("b", "hv2", "one", &ips(12))
        .workload("c", "hv1", "one", &ips(13))
        .resource(network("one", 5001))
        .resource(policy("x"));
    for guest in &mut scenario.workloads {
        guest.labels = [("app".to_owned(), "x".to_owned())].into();
    }
    scenario
}

/// The VTEPs of two hypervisors.
pub const IPV4: [&str; 2] = ["172.31.0.1", "172.31.0.2"];

pub fn network(name: &str, vni: u32) -> Value {
    json!({"kind": "Network", "metadata": {"name": name},
           "spec": {"vni": vni, "subnets": ["10.0.0.0/24", "fd00::/64"]}})
}

/// Pings and port 80 among those with this label.
pub fn policy(app: &str) -> Value {
    let everybody = json!({"matchLabels": {"app": app}});
    let ports = json!([{"protocol": "tcp", "port": 80}, {"protocol": "icmp", "type": 8},
                       {"protocol": "icmpv6", "type": 128}]);
    json!({"kind": "Policy", "metadata": {"name": app}, "spec": {
        "subject": everybody,
        "ingress": [{"name": "in", "action": "allow", "from": [everybody], "ports": ports}],
        "egress": [{"name": "out", "action": "allow", "to": [everybody], "ports": ports}]}})
}
