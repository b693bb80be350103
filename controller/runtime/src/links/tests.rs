//! Switches with cables, their program left out: probes go straight from port to port.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use bulkhead_policy::model::{Interface, Link, Role, Workload};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

struct World {
    links: Links,
    state: State,
    now: Duration,
    cables: Vec<[(&'static str, u32); 2]>,
    /// Switches that are connected.
    here: BTreeSet<&'static str>,
    down: BTreeSet<(&'static str, u32)>,
    /// Switches that take nothing over for now.
    slow: BTreeSet<&'static str>,
    revisions: usize,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn at(switch: &str, port: u32) -> Attachment {
    Attachment { switch: name(switch), port: Port::Name(format!("p{port}").into()) }
}

fn switch(text: &str, id: u64) -> Change {
    let driver = Driver::Openflow(bulkhead_topology::DatapathId(id));
    let switch = Switch { name: name(text), driver, vtep: None, role: Role::Leaf, ovsdb: None };
    Change::set(Resource::Switch(Arc::new(switch)))
}

fn sim(text: &str) -> Change {
    let switch = Switch { name: name(text), driver: Driver::Sim, vtep: None, role: Role::Leaf, ovsdb: None };
    Change::set(Resource::Switch(Arc::new(switch)))
}

fn link(a: Attachment, b: Attachment) -> Change {
    named("declared", a, b)
}

fn named(text: &str, a: Attachment, b: Attachment) -> Change {
    Change::set(Resource::Link(Arc::new(Link { name: name(text), a, b })))
}

fn workload(text: &str, at: Attachment) -> Change {
    let interface = Interface { mac: "02:00:00:00:00:01".parse().unwrap(), ips: Vec::new(), attachment: Some(at) };
    Change::set(Resource::Workload(Arc::new(Workload {
        name: name(text),
        labels: Default::default(),
        network: name("prod"),
        interfaces: vec![interface],
        named_ports: Default::default(),
    })))
}

impl World {
    /// `a` and `b` with two ways between them, by `c` and by `d`; port 9 of each is free.
    fn diamond() -> Self {
        let cables = vec![[("a", 1), ("c", 1)], [("a", 2), ("d", 1)], [("b", 1), ("c", 2)], [("b", 2), ("d", 2)]];
        let (state, now) = (State::default(), Duration::ZERO);
        let links = Links::new([1; 16], &state);
        let (here, down, slow) = Default::default();
        let mut world = Self { links, state, now, cables, here, down, slow, revisions: 0 };
        world.apply(&[switch("a", 1), switch("b", 2), switch("c", 3), switch("d", 4)]);
        ["a", "b", "c", "d"].into_iter().for_each(|switch| world.connect(switch));
        world
    }

    fn apply(&mut self, changes: &[Change]) {
        let before: Vec<Change> = changes.iter().filter_map(|c| self.state.get(&c.key).map(Change::set)).collect();
        let mut touched = concerned(&self.state, &before);
        self.state.apply(changes);
        touched.extend(concerned(&self.state, changes));
        if changes.iter().any(|change| change.key.kind == Kind::Switch) {
            self.links.keep(&self.state, self.now);
        }
        touched.iter().for_each(|name| self.links.refresh(name, &self.state, self.now));
    }

    fn tell(&mut self, switch: &'static str) {
        let up = |port| !self.down.contains(&(switch, port));
        let ports = [1, 2, 3, 8, 9].map(|port| PortState {
            number: Some(port),
            name: Some(format!("p{port}").into()),
            up: up(port),
        });
        self.links.ports(&name(switch), &ports, &self.state, self.now);
    }

    fn connect(&mut self, switch: &'static str) {
        self.here.insert(switch);
        self.tell(switch);
        self.links.settled(&name(switch), true, &self.state, self.now);
    }

    fn leave(&mut self, switch: &'static str) {
        self.here.remove(switch);
        self.links.settled(&name(switch), false, &self.state, self.now);
    }

    fn carrier(&mut self, switch: &'static str, port: u32, up: bool) {
        if up {
            self.down.remove(&(switch, port))
        } else {
            self.down.insert((switch, port))
        };
        self.tell(switch);
        self.store();
    }

    fn store(&mut self) {
        loop {
            let changes = self.links.changes(&self.state, self.now);
            if changes.is_empty() {
                return;
            }
            self.revisions += 1;
            self.apply(&changes);
            for change in &changes {
                let acknowledged = if self.slow.contains(change.key.name.as_str()) { 0 } else { self.revisions };
                self.links.carried_out(&change.key.name, self.revisions as u64, acknowledged as u64, self.now);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        self.store();
        while let Some(due) = self.links.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            for (from, frames) in self.links.probes(self.now) {
                for Outgoing { port, frame } in frames {
                    let is = |end: &(&str, u32)| name(end.0) == from && at(end.0, end.1).port == port;
                    for [a, b] in self.cables.clone() {
                        let Some(to) = [(a, b), (b, a)].into_iter().find(|(near, _)| is(near)).map(|(_, far)| far)
                        else {
                            continue;
                        };
                        if self.here.contains(to.0) {
                            self.links.heard(&name(to.0), &at(to.0, to.1).port, &frame, self.now);
                        }
                    }
                }
            }
            self.store();
        }
        self.now = until;
    }

    /// Ports over which packets pass, as `a1=c:p1`.
    fn up(&self) -> Vec<String> {
        let ports =
            self.state.adjacencies.values().flat_map(|found| found.ports.iter().map(|port| (&found.name, port)));
        let far = |far: &Attachment| format!("{}:{}", far.switch, far.port);
        let text = |(name, port): (&Name, &FabricPort)| {
            format!("{name}{}={}", port.number, port.heard.as_ref().map(far).unwrap_or_default())
        };
        ports.filter(|(_, port)| port.passes == Passage::Both).map(text).collect()
    }

    fn passes(&self, switch: &str, port: u32) -> Passage {
        let ports = &self.state.adjacencies[&name(switch)].ports;
        ports.iter().find(|found| found.number == port).unwrap().passes
    }

    fn states(&self) -> Vec<(LinkState, String)> {
        self.links.view(&self.state).links.into_iter().map(|link| (link.state, link.why)).collect()
    }
}

const ALL: [&str; 8] = ["a1=c:p1", "a2=d:p1", "b1=c:p2", "b2=d:p2", "c1=a:p1", "c2=b:p1", "d1=a:p2", "d2=b:p2"];

#[test]
fn links_are_found_with_nothing_declared_and_stored_once() {
    let mut world = World::diamond();
    world.pass(SECOND);
    assert_eq!(world.up(), ALL);
    let revisions = world.revisions;
    assert!(revisions <= 2, "{revisions}");
    world.pass(60 * SECOND);
    assert_eq!(world.revisions, revisions, "what is heard again is not stored again");
    let view = world.links.view(&world.state);
    assert_eq!(view.links.len(), 4);
    assert!(view.links.iter().all(|link| link.state == LinkState::Up && link.discovered && link.declared.is_none()));
}

#[test]
fn nothing_is_sent_by_a_link_before_both_ends_listen() {
    let mut world = World::diamond();
    world.slow.insert("c");
    world.pass(5 * SECOND);
    assert_eq!(world.passes("c", 1), Passage::In);
    assert_eq!(world.links.view(&world.state).links[0].state, LinkState::Down);
    assert_eq!(world.up(), ["a1=c:p1", "a2=d:p1", "b1=c:p2", "b2=d:p2", "d1=a:p2", "d2=b:p2"], "both have to");
    world.links.in_force(&name("c"), u64::MAX, world.now);
    world.pass(SECOND);
    assert_eq!(world.up(), ALL);
    // What else changes on a switch takes no link back.
    world.carrier("c", 2, false);
    assert_eq!(world.passes("c", 1), Passage::Both);
}

#[test]
fn a_carrier_that_goes_is_stored_at_once_and_one_that_flaps_makes_few_revisions() {
    let mut world = World::diamond();
    world.pass(10 * SECOND);
    let before = world.revisions;
    world.carrier("a", 1, false);
    assert_eq!(world.revisions, before + 1);
    assert!(!world.up().contains(&"a1=c:p1".into()) && !world.up().contains(&"c1=a:p1".into()));
    assert!(world.states().contains(&(LinkState::Down, "port a:p1 is down".into())));
    for _ in 0..500 {
        world.carrier("a", 1, true);
        world.pass(30 * MS);
        world.carrier("a", 1, false);
        world.pass(30 * MS);
    }
    assert!(world.revisions <= before + 10, "{}", world.revisions - before);
    world.carrier("a", 1, true);
    world.pass(70 * SECOND);
    assert_eq!(world.up(), ALL);
}

#[test]
fn a12_a_port_that_somebody_is_plugged_in_at_is_no_link_whatever_is_heard() {
    let mut world = World::diamond();
    world.pass(SECOND);
    // By its number, while links are known by names.
    world.apply(&[workload("web", Attachment { switch: name("a"), port: Port::Number(1) })]);
    world.pass(SECOND);
    assert_eq!(world.up(), ["a2=d:p1", "b1=c:p2", "b2=d:p2", "c2=b:p1", "d1=a:p2", "d2=b:p2"]);
    world.apply(&[Change::remove(Kind::Workload.named(&name("web")))]);
    world.pass(5 * SECOND);
    assert_eq!(world.up(), ALL);
}

#[test]
fn a12_a_port_of_a_link_that_somebody_has_by_number_stays_known_by_both_names() {
    let mut world = World::diamond();
    world.apply(&[link(at("a", 1), at("c", 1))]);
    world.pass(SECOND);
    assert_eq!(world.up(), ALL);
    world.apply(&[workload("web", Attachment { switch: name("a"), port: Port::Number(1) })]);
    world.pass(SECOND);
    assert_eq!(world.passes("a", 1), Passage::Nothing);
    assert_eq!(world.states()[0].0, LinkState::Conflict);
}

#[test]
fn what_is_declared_otherwise_than_it_is_heard_is_told() {
    let mut world = World::diamond();
    world.apply(&[link(at("a", 1), at("d", 1))]);
    world.pass(SECOND);
    let (state, why) = world.states()[0].clone();
    assert_eq!((state, why.as_str()), (LinkState::Conflict, "a:p1 hears c:p1"));
    // As it is, and called by its number.
    world.apply(&[link(Attachment { switch: name("a"), port: Port::Number(1) }, at("c", 1))]);
    world.pass(SECOND);
    assert_eq!(world.states(), [(); 4].map(|()| (LinkState::Up, String::new())));
    world.apply(&[link(at("a", 77), at("c", 1))]);
    world.pass(SECOND);
    let (state, why) = world.states()[0].clone();
    assert_eq!((state, why.as_str()), (LinkState::Conflict, "c:p1 hears a:p1"));
    world.apply(&[link(at("a", 77), at("c", 9))]);
    world.pass(SECOND);
    assert_eq!(world.states()[0], (LinkState::Down, "there is no port a:p77".into()));
}

#[test]
fn a_declared_link_by_which_nothing_came_is_used_only_where_nothing_can() {
    let mut world = World::diamond();
    world.apply(&[link(at("a", 9), at("b", 9)), sim("e"), named("other", at("a", 8), at("e", 1))]);
    world.pass(20 * SECOND);
    assert!(!world.up().contains(&"a9=".into()) && !world.up().contains(&"b9=".into()), "{:?}", world.up());
    assert!(world.up().contains(&"a8=".into()), "nobody could be heard there");
    world.cables.push([("a", 9), ("b", 9)]);
    world.pass(3 * SECOND);
    assert!(world.up().contains(&"a9=b:p9".into()) && world.up().contains(&"b9=a:p9".into()));
}

#[test]
fn a_loop_of_free_ports_and_what_others_share_are_told_and_not_used() {
    let mut world = World::diamond();
    world.cables.push([("a", 3), ("a", 9)]);
    world.cables.extend([[("b", 9), ("c", 9)], [("b", 9), ("d", 9)], [("c", 9), ("d", 9)]]);
    world.pass(10 * SECOND);
    assert_eq!(world.up(), ALL);
    let told: Vec<String> =
        world.states().into_iter().filter(|(state, _)| *state == LinkState::Conflict).map(|(_, why)| why).collect();
    assert_eq!(told[0], "a loop: a cable from a to itself");
    assert!(told[1..].iter().all(|why| why.ends_with("hears several ports: what is between them is no cable")));
    assert!(world.revisions < 8, "{}", world.revisions);
}

#[test]
fn packets_go_round_a_switch_that_is_away_if_they_can_and_nobody_is_there() {
    let mut world = World::diamond();
    world.apply(&[workload("here", at("a", 50)), workload("there", at("b", 50))]);
    world.pass(SECOND);
    world.leave("c");
    assert_eq!(world.passes("a", 1), Passage::Both);
    world.pass(200 * MS);
    assert_eq!(world.up(), ALL, "it may be back in a moment");
    world.pass(300 * MS);
    assert_eq!(world.up(), ["a2=d:p1", "b2=d:p2", "c1=a:p1", "c2=b:p1", "d1=a:p2", "d2=b:p2"]);
    assert_eq!(world.passes("a", 1), Passage::In, "what it still sends is taken");
    world.leave("d");
    world.pass(SECOND);
    assert_eq!(world.up(), ALL, "without both there is no way");
    world.connect("d");
    world.pass(SECOND);
    world.connect("c");
    world.pass(SECOND);
    assert_eq!(world.up(), ALL);
    world.apply(&[workload("web", at("c", 9))]);
    world.leave("c");
    world.pass(10 * SECOND);
    assert_eq!(world.up(), ALL, "who is there is reached as long as it goes on by itself");
}

#[test]
fn a_controller_that_comes_back_carries_on_with_what_it_knew() {
    let mut world = World::diamond();
    world.pass(SECOND);
    world.carrier("d", 2, false);
    let before = world.up();
    assert_eq!(before.len(), 6);
    world.links = Links::new([2; 16], &world.state);
    let (here, revisions) = (std::mem::take(&mut world.here), world.revisions);
    world.pass(5 * SECOND);
    assert_eq!(world.up(), before);
    here.into_iter().for_each(|switch| world.connect(switch));
    world.pass(10 * SECOND);
    assert_eq!((world.up(), world.revisions), (before, revisions));
    world.cables.remove(0);
    world.pass(5 * SECOND);
    assert_eq!(world.up(), ["a2=d:p1", "b1=c:p2", "c2=b:p1", "d1=a:p2"]);
}

#[test]
fn a_switch_that_goes_takes_its_links_along() {
    let mut world = World::diamond();
    world.pass(SECOND);
    world.apply(&[Change::remove(Kind::Switch.named(&name("c")))]);
    world.here.remove("c");
    world.pass(10 * SECOND);
    assert_eq!(world.up(), ["a2=d:p1", "b2=d:p2", "d1=a:p2", "d2=b:p2"]);
    assert!(!world.state.adjacencies.contains_key(&name("c")));
    assert!(world.states().iter().all(|(state, _)| *state == LinkState::Up), "{:?}", world.states());
}

#[test]
fn a13_lldp_that_cannot_be_read_is_counted_and_no_more() {
    let mut world = World::diamond();
    world.pass(SECOND);
    for _ in 0..3 {
        world.links.heard(&name("a"), &at("a", 9).port, &[0; 60], world.now);
    }
    let foreign = world.links.view(&world.state).foreign;
    assert_eq!(foreign, [Foreign { at: at("a", 9), frames: 3, sender: String::new() }]);
}

/// Switches call their ports what they like, and documents do not take every name: the others' links are found and kept.
#[test]
fn a_port_that_no_document_can_name_takes_no_part() {
    let mut world = World::diamond();
    let names = [(1, "p1"), (2, "p2"), (5, "Ethernet 1/1"), (6, "überall"), (7, "")];
    let port = |(number, name): (u32, &str)| PortState { number: Some(number), name: Some(name.into()), up: true };
    let far = Attachment { switch: name("a"), port: Port::Number(5) };
    world.apply(&[link(far, at("b", 9))]);
    world.links.ports(&name("a"), &names.map(port), &world.state, world.now);
    let probed: Vec<_> = world.links.discovery.ports(&name("a")).into_keys().collect();
    assert_eq!(probed, [at("a", 1).port, at("a", 2).port]);
    world.pass(5 * SECOND);
    assert!(ALL.iter().all(|link| world.up().contains(&(*link).to_owned())), "{:?}", world.up());
    let stored = &world.state.adjacencies[&name("a")];
    assert!(stored.ports.iter().all(|port| Port::is_name(&port.name)), "{stored:?}");
}

#[test]
fn r25_a_switch_with_more_ports_than_any_has_does_not_get_the_probes_of_all_others() {
    let mut world = World::diamond();
    let port = |number: u32| PortState { number: Some(number), name: Some(format!("p{number}").into()), up: true };
    let ports: Vec<PortState> = (1..65_000).map(port).collect();
    world.links.ports(&name("a"), &ports, &world.state, world.now);
    assert_eq!(world.links.discovery.ports(&name("a")).len(), MAX_CABLES);
    world.pass(5 * SECOND);
    assert_eq!(world.up(), ALL);
}
