//! A Linux host without Open vSwitch beside one with it: its workloads are judged at the other end of the tunnel, what
//! somebody changes there is mended and told of, and the agent that sees to it may end and come back.

use crate::world::{Attachments, IPV4, World, two, until};
use bulkhead_client::Client;
use bulkhead_lab::{Fabric, Family, Service, Stream};
use bulkhead_netlink::Forwarder;
use bulkhead_tests::controller::{Controller, program};
use bulkhead_types::TokenQuestion;
use serde_json::{Value, json};
use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// The host whose kernel is the VTEP.
const HOST: &str = "hv2";

/// An agent on it; ended when dropped.
struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    fn start(world: &World) -> Agent {
        let hypervisor = world.fabric.hypervisor(HOST).unwrap();
        let log = hypervisor.dir().join("vtep.log");
        let mut command = Command::new(program("bulkheadd").unwrap());
        command.args(["vtep", "--controller", world.client().server(), "--switch", HOST]);
        let token = hypervisor.dir().join("vtep.token");
        if !token.exists() {
            let question =
                TokenQuestion { name: HOST.into(), grants: vec![format!("vtep@{HOST}")], ..TokenQuestion::default() };
            std::fs::write(&token, world.client().create_token(&question).unwrap().token).unwrap();
        }
        command.arg("--ca").arg(world.controller.data().join("tls/ca.pem")).arg("--token-file").arg(token);
        command.stdin(Stdio::null()).stderr(File::options().create(true).append(true).open(&log).unwrap());
        Agent { child: hypervisor.namespace().spawn(&mut command).unwrap(), log }
    }

    /// As by `kill -9`.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `a` and `c` on Open vSwitch, `b` and `d` on a host without; `e`, on Open vSwitch, is let in nowhere.
fn world(name: &str, vteps: [&str; 2]) -> Option<World> {
    if let Some(why) = bulkhead_lab::missing() {
        eprintln!("NOT TESTED: a kernel VTEP: {why}");
        return None;
    }
    let ips = |number: u8| [format!("10.0.0.{number}"), format!("fd00::{number}")].map(|ip| ip.parse().unwrap());
    let mut scenario = two(name, vteps).workload("d", HOST, "one", &ips(14)).workload("e", "hv1", "one", &ips(15));
    for guest in &mut scenario.workloads {
        let app = if guest.name == "e" { "y" } else { "x" };
        guest.labels = [("app".to_owned(), app.to_owned())].into();
    }
    let fabric = Fabric::up(&scenario).unwrap();
    // Its bridge is only how it hangs on the underlay.
    let host = fabric.hypervisor(HOST).unwrap();
    ["b", "d"].iter().for_each(|port| host.del_port(port).unwrap());
    let address = fabric.controller_address().unwrap();
    let controller = Controller::start_at(&program("bulkheadd").unwrap(), address, address).unwrap();
    let world = World { controller, fabric };
    world.apply(&documents(&world, vteps[1]));
    Some(world)
}

fn documents(world: &World, vtep: &str) -> Vec<Value> {
    let mut documents = world.documents(Attachments::Declared);
    for document in documents.iter_mut().filter(|one| one["kind"] == "Switch" && one["metadata"]["name"] == HOST) {
        document["spec"] = json!({"driver": "kernel", "vtep": vtep});
    }
    documents
}

/// Waits until both switches have the newest revision.
fn realized(world: &World, agent: &Agent) {
    until("realized", || {
        let status = world.status();
        let there = |name: &str| {
            let switch = status.switches.iter().find(|switch| switch.name == name);
            switch
                .is_some_and(|switch| switch.connected && switch.acknowledged >= status.revision && switch.pending == 0)
        };
        if there("hv1") && there(HOST) { Ok(()) } else { Err(format!("{status:#?}\n{}", agent.log())) }
    });
}

fn a_kernel_vtep(name: &str, vteps: [&str; 2]) {
    let Some(world) = world(name, vteps) else { return };
    let mut agent = Agent::start(&world);
    realized(&world, &agent);
    let services = [Service::Tcp(80), Service::Tcp(81)];
    let _listeners = world.listen(&services);

    // Allowed, both ways; and denied, whichever side denies.
    for (from, to) in [("a", "b"), ("b", "a"), ("d", "c")] {
        world.reaches(from, to, Service::Icmp);
        world.reaches(from, to, Service::Tcp(80));
        world.shut(from, to, Service::Tcp(81));
    }
    for (from, to) in [("e", "b"), ("b", "e"), ("b", "d")] {
        world.shut(from, to, Service::Tcp(80));
        world.shut(from, to, Service::Icmp);
    }
    for (from, to, end) in [("b", "a", "delivered to a at hv1:a"), ("a", "b", "delivered to b by the kernel of hv2")] {
        let told = world.cli(&["trace", from, to, "tcp/80"]).1;
        assert!(told.contains(end), "{told}");
    }
    assert_ne!(world.cli(&["trace", "b", "d", "tcp/80"]).0, Some(0));
    let told = world.told(HOST);
    assert!(told.contains("enforces no policy") && told.contains("kernel"), "{told}");
    assert_eq!(world.host(HOST).repairs, 0, "{}", agent.log());
    world.until("its tunnels are set up", |status| {
        let mut tunnels = status.switches.iter().flat_map(|switch| &switch.tunnels).peekable();
        tunnels.peek().is_some() && tunnels.all(|tunnel| tunnel.state == "set-up")
    });

    // What is forbidden at either end is cut at the end that judges.
    let client: &Client = world.client();
    let policy = json!({"kind": "Policy", "metadata": {"name": "x"}});
    client.delete(&[policy], false).unwrap();
    realized(&world, &agent);
    world.shut("a", "b", Service::Tcp(80));
    world.shut("b", "a", Service::Tcp(80));
    world.apply(&documents(&world, vteps[1]));
    realized(&world, &agent);
    world.reaches("b", "a", Service::Tcp(80));

    // Somebody changes what is not theirs.
    let mut links = world.fabric.hypervisor(HOST).unwrap().namespace().netlink().unwrap();
    let mut repairs = 0;
    let mut mended = |expected: &str| {
        let what = format!("mended: {expected}");
        world.until(&what, |status| {
            let host =
                status.switches.iter().find(|switch| switch.name == HOST).and_then(|switch| switch.host.as_ref());
            host.is_some_and(|host| {
                host.repairs > repairs && host.shaped && host.repaired.iter().any(|told| told.contains(expected))
            })
        });
        repairs = world.host(HOST).repairs;
    };
    let far = Forwarder::Vxlan(vteps[0].parse().unwrap());
    links.remove_forward("bhv5001", world.workload("a").mac().0, far).unwrap();
    mended(&format!("{} put behind bhv5001 at VTEP {}", world.workload("a").mac(), vteps[0]));
    links.delete_link("bhv5001").unwrap();
    mended("VXLAN device bhv5001 made");
    world.reaches("b", "a", Service::Icmp);
    assert!(world.told(HOST).contains("mended: "));

    // The agent ends and comes back; what it set up carries on, and it changes nothing.
    let to = world.workload("a").ip(Family::V4).unwrap();
    let stream = Stream::start(world.workload("b").namespace(), None, to, 100).unwrap();
    agent.kill();
    world.until("lost", |status| status.switches.iter().any(|switch| switch.name == HOST && !switch.connected));
    let before = agent.log().len();
    let agent = Agent::start(&world);
    realized(&world, &agent);
    assert_eq!(stream.stop().unwrap().lost(), 0);
    let said = agent.log().split_off(before);
    assert!(!said.contains("made") && !said.contains("somebody else"), "{said}");

    // It is told to go: nothing of it stays.
    drop(agent);
    let mut leave = Command::new(program("bulkheadd").unwrap());
    leave.args(["vtep", "--switch", HOST, "--leave"]).stdin(Stdio::null()).stderr(Stdio::null());
    let mut leave = world.fabric.hypervisor(HOST).unwrap().namespace().spawn(&mut leave).unwrap();
    assert!(leave.wait().unwrap().success());
    let left = links.links().unwrap();
    assert!(left.iter().all(|link| !link.name.starts_with("bhb") && !link.name.starts_with("bhv")), "{left:?}");
    let off = |name: &str| left.iter().any(|link| link.name == name && link.bridge.is_none() && !link.up);
    assert!(off("b") && off("d"), "{left:?}");
}

#[test]
fn a_kernel_vtep_over_ipv4() {
    a_kernel_vtep("ov-kernel4", IPV4);
}

#[test]
fn a_kernel_vtep_over_ipv6() {
    a_kernel_vtep("ov-kernel6", ["fd00:9::1", "fd00:9::2"]);
}
