#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use super::{questions::MAX_TARGETS, *};
use bulkhead_policy::{
    model::{DefaultAction, Driver, Encap, Interface, OnTighten, Role, Workload},
    overlay::GATEWAY_MAC,
};
use bulkhead_topology::{Port, Vni};
use std::sync::Arc;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// By then every port was probed for long enough.
const BEGIN: Duration = Duration::from_secs(10);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn at(switch: &str, port: u32) -> Attachment {
    Attachment { switch: name(switch), port: Port::Name(format!("p{port}").into()) }
}

fn network(learn_workloads: bool) -> Resource {
    Resource::Network(Arc::new(Network {
        name: name("lab"),
        vni: Vni::new(7).unwrap(),
        subnets: vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
        encap: Encap::Geneve,
        default_action: DefaultAction::Allow,
        on_tighten: OnTighten::Revoke,
        uplinks: vec![],
        gateways: vec![ip("10.0.0.254")],
        multicast: vec![],
        learn_workloads,
    }))
}

fn switch(text: &str, id: u64) -> Resource {
    let driver = Driver::Openflow(DatapathId(id));
    Resource::Switch(Arc::new(Switch { name: name(text), driver, vtep: None, role: Role::Leaf, ovsdb: None }))
}

fn workload(text: &str, mac: Mac, ips: &[&str], attachment: Option<Attachment>) -> Resource {
    let interface = Interface { mac, ips: ips.iter().map(|text| ip(text)).collect(), attachment };
    Resource::Workload(Arc::new(Workload {
        name: name(text),
        labels: Default::default(),
        network: name("lab"),
        interfaces: vec![interface],
        named_ports: Default::default(),
    }))
}

/// ARP of a sender: a question, or news of itself.
fn arp(mac: Mac, from: &str, asks: Option<&str>) -> Vec<u8> {
    let octets = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let op = if asks.is_some() { 1 } else { 2 };
    let target = octets(asks.unwrap_or(from));
    let head = [&[0xff; 6][..], &mac.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, op]].concat();
    [&head[..], &mac.0, &octets(from), &[0; 6], &target].concat()
}

/// Switches with ports 1 to 4 each, the first of which leads to another switch.
struct World {
    learner: Learner,
    state: State,
    now: Duration,
    revisions: usize,
}

impl World {
    fn new() -> Self {
        let mut world = Self { learner: Learner::default(), state: State::default(), now: BEGIN, revisions: 0 };
        world.set(network(true));
        for (i, text) in ["a", "b"].into_iter().enumerate() {
            world.set(switch(text, i as u64 + 1));
            world.ports(text, &[1, 2, 3, 4]);
        }
        world
    }

    fn set(&mut self, resource: Resource) {
        self.apply(&[Change::set(resource)]);
    }

    fn apply(&mut self, changes: &[Change]) {
        let yielding = self.state.yielding(changes.iter()).into_iter().map(Change::remove);
        let changes: Vec<Change> = yielding.chain(changes.iter().cloned()).collect();
        let found = self.state.check(&changes);
        assert!(found.iter().all(|found| found.severity != bulkhead_policy::Severity::Error), "{found:?}");
        self.state.apply(&changes);
        self.learner.turned();
    }

    /// These ports of a switch have a carrier, and no others.
    fn ports(&mut self, switch: &str, up: &[u32]) {
        let port = |i: u32| PortState { number: Some(i), name: Some(format!("p{i}").into()), up: up.contains(&i) };
        self.learner.ports(&name(switch), &[port(1), port(2), port(3), port(4)]);
    }

    fn hear(&mut self, at: Attachment, frame: &[u8]) {
        self.learner.heard(at, frame, &self.state, self.now);
    }

    /// Lets time pass as the loop does: whatever is due is done. What was sent.
    fn pass(&mut self, time: Duration) -> BTreeMap<Name, Vec<Outgoing>> {
        let (end, mut sent) = (self.now + time, BTreeMap::<Name, Vec<Outgoing>>::new());
        loop {
            let unheard = |_: &Name, port: &PortState| (port.number != Some(1)).then_some(BEGIN - 5 * SECOND);
            for (switch, outgoing) in self.learner.ask(&self.state, &unheard, self.now) {
                sent.entry(switch).or_default().extend(outgoing);
            }
            loop {
                let changes = self.learner.changes(&self.state, &unheard, self.now);
                if changes.is_empty() {
                    break;
                }
                self.revisions += 1;
                self.apply(&changes);
            }
            match self.learner.deadline().filter(|due| *due <= end) {
                Some(due) => self.now = self.now.max(due),
                None => break,
            }
        }
        self.now = end;
        sent
    }

    /// Where a learned workload is, and its addresses.
    fn learned(&self, mac: Mac) -> Option<(Attachment, Vec<IpAddr>)> {
        let known = self.state.workload_with(&name("lab"), mac).filter(|known| known.is_learned())?;
        let interface = known.interfaces[0].clone();
        Some((interface.attachment.unwrap(), interface.ips))
    }

    fn refused(&self, why: NotLearned) -> u64 {
        self.learner.view(&self.state).refused.get(&why).map_or(0, |(count, _)| *count)
    }
}

#[test]
fn who_speaks_is_learned_in_few_revisions_and_has_no_label_but_ours() {
    let mut world = World::new();
    for port in 2..=4 {
        world.hear(at("a", port), &arp(mac(port as u8), &format!("10.0.0.{port}"), None));
    }
    world.pass(SECOND);
    assert_eq!(world.revisions, 1);
    assert_eq!(world.learned(mac(3)), Some((at("a", 3), vec![ip("10.0.0.3")])));
    let known = &world.state.workloads["learned-020000000003"];
    assert_eq!(known.labels.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["bulkhead/learned"]);
    let view = world.learner.view(&world.state);
    assert_eq!((view.network, view.workloads, view.refused.len()), (Some(name("lab")), 3, 0));
}

#[test]
fn nobody_is_learned_of_a_cable_an_address_of_no_host_or_a_mac_of_no_host() {
    let mut world = World::new();
    world.hear(at("a", 1), &arp(mac(1), "10.0.0.1", None));
    for nobodys in ["10.0.0.0", "10.0.0.255", "10.0.0.254", "0.0.0.0", "192.0.2.1", "224.0.0.1"] {
        world.hear(at("a", 2), &arp(mac(2), nobodys, None));
    }
    world.hear(at("a", 2), &arp(Mac([0; 6]), "10.0.0.2", None));
    world.hear(at("a", 2), &arp(Mac([3, 0, 0, 0, 0, 1]), "10.0.0.2", None));
    let mut lies = arp(mac(2), "10.0.0.2", None);
    lies[27] = 9;
    world.hear(at("a", 2), &lies);
    world.hear(at("a", 9), &arp(mac(9), "10.0.0.9", None));
    world.pass(10 * SECOND);
    assert_eq!(world.revisions, 0, "{:?}", world.state.workloads);
}

#[test]
fn nobody_is_learned_at_the_host_itself_or_at_a_port_without_a_name() {
    let mut world = World::new();
    let port = |number, text: &str| PortState { number: Some(number), name: Some(text.into()), up: true };
    world.learner.ports(&name("a"), &[port(0xffff_fffe, "br0"), port(5, "two words")]);
    for (last, text) in [(2, "br0"), (3, "two words")] {
        let at = Attachment { switch: name("a"), port: Port::Name(text.into()) };
        world.hear(at, &arp(mac(last), &format!("10.0.0.{last}"), None));
    }
    world.pass(10 * SECOND);
    assert_eq!(world.revisions, 0, "{:?}", world.state.workloads);
}

#[test]
fn a15_there_are_so_many_and_no_more() {
    let mut world = World::new();
    let one = |i: usize| {
        let mac = Mac([2, 1, 0, 0, (i >> 8) as u8, i as u8]);
        let Resource::Workload(plain) = workload(&format!("learned-{i}"), mac, &[&format!("fd00::1:{i:x}")], None)
        else {
            unreachable!()
        };
        let labels: bulkhead_topology::Labels =
            [(Arc::from(bulkhead_policy::model::LEARNED), Arc::from("true"))].into_iter().collect();
        Change::set(Resource::Workload(Arc::new(Workload { labels: labels.into(), ..(*plain).clone() })))
    };
    world.apply(&(1..MAX_WORKLOADS).map(one).collect::<Vec<_>>());
    for last in 2..=3 {
        world.hear(at("a", u32::from(last)), &arp(mac(last), &format!("10.0.0.{last}"), None));
    }
    world.pass(SECOND);
    assert_eq!((world.learner.view(&world.state).workloads, world.refused(NotLearned::TooMany)), (MAX_WORKLOADS, 1));
}

#[test]
fn a_port_that_was_not_probed_yet_is_waited_for() {
    let mut world = World::new();
    world.now = BEGIN - 5 * SECOND + 100 * MS;
    world.hear(at("a", 2), &arp(mac(2), "10.0.0.2", None));
    world.pass(SECOND);
    assert_eq!(world.learned(mac(2)), None);
    world.pass(SECOND);
    assert_eq!(world.learned(mac(2)), Some((at("a", 2), vec![ip("10.0.0.2")])));
}

#[test]
fn a14_what_somebody_has_is_taken_by_nobody() {
    let mut world = World::new();
    world.set(workload("db", mac(7), &["10.0.0.7"], Some(at("a", 2))));
    world.set(workload("later", mac(8), &["10.0.0.8"], None));
    // The declared one's MAC elsewhere, its address, and those of one that is plugged in nowhere yet.
    world.hear(at("b", 2), &arp(mac(7), "10.0.0.7", None));
    world.hear(at("b", 3), &arp(mac(3), "10.0.0.7", None));
    world.hear(at("b", 4), &arp(mac(8), "10.0.0.8", None));
    // And a port that is somebody's.
    world.hear(at("a", 2), &arp(mac(9), "10.0.0.9", None));
    world.hear(at("b", 2), &arp(GATEWAY_MAC, "10.0.0.10", None));
    world.pass(10 * SECOND);
    assert_eq!(world.revisions, 0);
    assert_eq!((world.refused(NotLearned::Elsewhere), world.refused(NotLearned::Address)), (3, 1));
}

#[test]
fn a14_who_is_declared_keeps_what_he_has_however_long_his_switch_is_lost() {
    let mut world = World::new();
    world.set(workload("db", mac(7), &["10.0.0.7"], Some(at("a", 2))));
    world.hear(at("a", 3), &arp(mac(3), "10.0.0.3", None));
    world.pass(SECOND);
    world.learner.lost(&name("a"));
    world.pass(2 * LOST);
    // What the learned one beside him had is taken.
    world.hear(at("b", 2), &arp(mac(7), "10.0.0.7", None));
    world.hear(at("b", 3), &arp(mac(33), "10.0.0.7", None));
    world.hear(at("b", 4), &arp(mac(3), "10.0.0.3", None));
    world.pass(SECOND);
    assert_eq!((world.learned(mac(7)), world.learned(mac(33))), (None, None));
    assert_eq!(world.learned(mac(3)), Some((at("b", 4), vec![ip("10.0.0.3")])));
    assert_eq!((world.refused(NotLearned::Elsewhere), world.refused(NotLearned::Address)), (1, 1));
}

#[test]
fn a15_a_mac_moves_when_it_is_gone_from_where_it_was_and_not_before() {
    let mut world = World::new();
    world.hear(at("a", 2), &arp(mac(2), "10.0.0.2", None));
    world.pass(SECOND);
    for i in 0..100u64 {
        world.hear(at("b", 2), &arp(mac(2), "10.0.0.2", None));
        world.pass(10 * MS);
        assert_eq!(world.learned(mac(2)).unwrap().0, at("a", 2), "after {i}");
    }
    world.pass(SECOND);
    // Told ten times a second, however often it was said.
    assert_eq!(world.revisions, 1);
    assert!((5..=12).contains(&world.refused(NotLearned::Elsewhere)), "{}", world.refused(NotLearned::Elsewhere));
    world.ports("a", &[1, 3, 4]);
    world.hear(at("b", 2), &arp(mac(2), "10.0.0.2", None));
    world.pass(SECOND);
    assert_eq!(world.learned(mac(2)), Some((at("b", 2), vec![ip("10.0.0.2")])));
    // There it stays, whatever becomes of its old port.
    world.ports("a", &[1, 2, 3, 4]);
    world.hear(at("a", 2), &arp(mac(2), "10.0.0.2", None));
    world.pass(2 * FORGET);
    assert_eq!((world.learned(mac(2)).unwrap().0, world.revisions), (at("b", 2), 2));
}

#[test]
fn a_port_has_one_host_and_that_one_has_few_addresses() {
    let mut world = World::new();
    for i in 2..=20 {
        world.hear(at("a", 2), &arp(mac(i), &format!("10.0.0.{i}"), None));
    }
    world.pass(SECOND);
    assert_eq!(world.learner.view(&world.state).workloads, 1);
    assert_eq!(world.refused(NotLearned::TooMany), 15);
    for i in 30..=50 {
        world.hear(at("a", 2), &arp(mac(2), &format!("10.0.0.{i}"), None));
        world.pass(200 * MS);
    }
    assert_eq!(world.learned(mac(2)).unwrap().1.len(), MAX_ADDRESSES);
}

#[test]
fn a15_a_flood_is_bounded() {
    let mut world = World::new();
    world.learner.pause = world.now + SECOND;
    for i in 0..5_000u32 {
        let [.., a, b] = i.to_be_bytes();
        let asks =
            arp(Mac([2, 0, 0, 0, a, b]), &format!("10.0.0.{}", b % 250 + 1), Some(&format!("10.0.0.{}", b % 249 + 2)));
        world.hear(at("a", i), &asks);
    }
    assert_eq!((world.learner.heard.len(), world.learner.questions.open.len()), (MAX_HEARD, MAX_TARGETS));
    for id in 1..=1_000 {
        world.learner.waits(DatapathId(id), world.now);
    }
    assert_eq!(world.learner.strangers.len(), MAX_STRANGERS);
}

#[test]
fn who_is_gone_for_a_minute_or_comes_again_is_forgotten() {
    let mut world = World::new();
    for port in 2..=4 {
        world.hear(at("a", port), &arp(mac(port as u8), &format!("10.0.0.{port}"), None));
    }
    world.pass(SECOND);
    world.ports("a", &[1, 4]);
    world.pass(59 * SECOND);
    assert!(world.learned(mac(2)).is_some());
    // Who comes up there may be another one.
    world.ports("a", &[1, 3, 4]);
    world.pass(SECOND / 2);
    assert_eq!((world.learned(mac(3)), world.learned(mac(2)).is_some()), (None, true));
    world.hear(at("a", 3), &arp(mac(33), "10.0.0.33", None));
    world.pass(SECOND);
    assert_eq!((world.learned(mac(2)), world.learned(mac(33)).is_some()), (None, true));
    assert!(world.learned(mac(4)).is_some());
    world.set(network(false));
    world.pass(SECOND);
    assert_eq!(world.learner.view(&world.state), LearnView { switches: 0, ..LearnView::default() });
}

#[test]
fn of_a_switch_that_began_anew_everybody_is_forgotten() {
    let mut world = World::new();
    for (switch, port) in [("a", 2), ("a", 3), ("b", 4)] {
        world.hear(at(switch, port), &arp(mac(port as u8), &format!("10.0.0.{port}"), None));
    }
    world.pass(SECOND);
    world.learner.anew(&name("a"));
    // Others are there now, with the same addresses.
    world.hear(at("a", 3), &arp(mac(32), "10.0.0.2", None));
    world.pass(SECOND);
    assert_eq!((world.learned(mac(2)), world.learned(mac(3))), (None, None));
    assert_eq!(world.learned(mac(32)), Some((at("a", 3), vec![ip("10.0.0.2")])));
    assert!(world.learned(mac(4)).is_some());
    assert_eq!(world.revisions, 3);
}

#[test]
fn who_is_behind_a_switch_that_is_lost_is_kept_until_another_has_what_he_had() {
    let mut world = World::new();
    for port in 2..=4 {
        world.hear(at("a", port), &arp(mac(port as u8), &format!("10.0.0.{port}"), None));
    }
    world.pass(SECOND);
    world.learner.lost(&name("a"));
    let claim = |world: &mut World| {
        world.hear(at("b", 2), &arp(mac(2), "10.0.0.2", None));
        world.hear(at("b", 3), &arp(mac(33), "10.0.0.3", None));
        world.pass(SECOND);
    };
    // Not while it may come back any moment.
    world.pass(LOST - SECOND);
    claim(&mut world);
    assert_eq!((world.refused(NotLearned::Elsewhere), world.refused(NotLearned::Address)), (1, 1));
    world.ports("a", &[1, 2, 3, 4]);
    world.pass(LOST);
    claim(&mut world);
    assert_eq!((world.refused(NotLearned::Elsewhere), world.refused(NotLearned::Address)), (2, 2));
    assert_eq!(world.revisions, 1);
    // Whose port was down before is nobody's case but his own.
    world.ports("a", &[1, 2, 3]);
    world.pass(SECOND);
    world.learner.lost(&name("a"));
    world.pass(SECOND);
    assert!(world.learned(mac(4)).is_some());
    world.ports("a", &[1, 2, 3]);
    world.pass(FORGET - 3 * SECOND);
    assert!(world.learned(mac(4)).is_some());
    world.pass(SECOND);
    assert_eq!((world.learned(mac(4)), world.revisions), (None, 2));
    // For however long it is away, nobody else is forgotten whom nobody follows.
    world.learner.lost(&name("a"));
    world.pass(600 * SECOND);
    assert_eq!(world.revisions, 2);
    claim(&mut world);
    assert_eq!(world.learned(mac(2)), Some((at("b", 2), vec![ip("10.0.0.2")])));
    assert_eq!(world.learned(mac(33)), Some((at("b", 3), vec![ip("10.0.0.3")])));
    assert_eq!(world.learned(mac(3)), None);
}

#[test]
fn who_is_declared_comes_first_by_whatever_name_of_the_port() {
    let mut world = World::new();
    for port in 2..=4 {
        world.hear(at("a", port), &arp(mac(port as u8), &format!("10.0.0.{port}"), None));
    }
    world.pass(SECOND);
    let number = Attachment { switch: name("a"), port: Port::Number(2) };
    world.set(workload("db", mac(7), &["10.0.0.7"], Some(number)));
    world.set(workload("web", mac(3), &["10.0.0.8"], None));
    world.hear(at("a", 2), &arp(mac(2), "10.0.0.2", None));
    world.hear(at("a", 3), &arp(mac(3), "10.0.0.3", None));
    world.pass(10 * SECOND);
    assert_eq!((world.learned(mac(2)), world.learned(mac(3)), world.learned(mac(4)).is_some()), (None, None, true));
}

#[test]
fn who_never_spoke_is_asked_for_where_somebody_may_be() {
    let mut world = World::new();
    world.set(workload("db", mac(7), &["10.0.0.7"], Some(at("a", 4))));
    let question = arp(mac(2), "10.0.0.2", Some("10.0.0.9"));
    // He is unknown himself at first.
    world.hear(at("a", 2), &question);
    let sent = world.pass(SECOND / 2);
    let out: Vec<(&str, String)> = sent
        .iter()
        .flat_map(|(switch, out)| out.iter().map(move |out| (switch.as_str(), out.port.to_string())))
        .collect();
    // Not by cables, nor to him, nor to a workload that is declared.
    assert_eq!(out, [("a", "p3".into()), ("b", "p2".into()), ("b", "p3".into()), ("b", "p4".into())]);
    assert!(sent.values().flatten().all(|out| out.frame == question));
    // At most once a second, and not for whom somebody is known to be.
    world.hear(at("a", 2), &question);
    world.hear(at("a", 2), &arp(mac(2), "10.0.0.2", Some("10.0.0.7")));
    assert!(world.pass(SECOND).is_empty());
    world.hear(at("a", 2), &question);
    assert!(!world.pass(SECOND).is_empty());
    // Who asks in another's name is not helped.
    world.hear(at("b", 2), &arp(mac(66), "10.0.0.7", Some("10.0.0.99")));
    assert!(world.pass(SECOND).is_empty());
}

#[test]
fn switches_are_adopted_while_a_network_learns() {
    let mut world = World::new();
    world.set(network(false));
    world.learner.waits(DatapathId(0xb1), world.now);
    world.pass(SECOND);
    assert_eq!(world.state.switches.len(), 2);
    // It waits still.
    world.set(network(true));
    world.pass(SECOND);
    assert_eq!(world.state.switches["dpid-00000000000000b1"].driver, Driver::Openflow(DatapathId(0xb1)));
    // Declared ones are there already, and nobody is adopted twice.
    let revisions = world.revisions;
    world.learner.waits(DatapathId(1), world.now);
    world.learner.waits(DatapathId(0xb1), world.now);
    world.pass(SECOND);
    assert_eq!(world.revisions, revisions);
    for id in 1_000..2_000 {
        world.learner.waits(DatapathId(id), world.now);
        world.pass(200 * MS);
    }
    assert_eq!(world.learner.view(&world.state).switches, MAX_SWITCHES);
    assert!(world.refused(NotLearned::TooMany) > 0);
}

#[test]
fn frames_of_all_kinds_say_who_sent_them() {
    let said = |frame: &[u8]| frame::read(frame).map(|said| (said.mac, said.ip, said.asks));
    assert_eq!(said(&arp(mac(2), "10.0.0.2", None)), Some((mac(2), ip("10.0.0.2"), None)));
    let asks = arp(mac(2), "10.0.0.2", Some("10.0.0.3"));
    assert_eq!(said(&asks), Some((mac(2), ip("10.0.0.2"), Some(ip("10.0.0.3")))));
    let ethernet = |kind: [u8; 2]| [&[0x33; 6][..], &mac(2).0, &kind].concat();
    let v4 = [&ethernet([8, 0])[..], &[0x45; 12], &[10, 0, 0, 2], &[10, 0, 0, 3]].concat();
    assert_eq!(said(&v4), Some((mac(2), ip("10.0.0.2"), None)));
    let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let solicit = |hops: u8, from: &str| {
        let head = [&ethernet([0x86, 0xdd])[..], &[0x60, 0, 0, 0, 0, 32, 58, hops], &octets(from)].concat();
        [&head[..], &octets("ff02::1:ff00:3"), &[135, 0, 0, 0, 0, 0, 0, 0], &octets("fd00::3"), &[1, 1], &mac(2).0]
            .concat()
    };
    assert_eq!(said(&solicit(255, "fd00::2")), Some((mac(2), ip("fd00::2"), Some(ip("fd00::3")))));
    assert_eq!(said(&solicit(64, "fd00::2")), Some((mac(2), ip("fd00::2"), None)));
    assert_eq!(said(&solicit(255, "::")), None);
    // However a frame ends, it is read or it is not.
    for frame in [asks, v4, solicit(255, "fd00::2")] {
        (0..frame.len()).for_each(|end| _ = frame::read(&frame[..end]));
    }
}
