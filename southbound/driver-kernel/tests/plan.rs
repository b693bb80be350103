//! Plans against a kernel in memory that refuses things: whatever it refuses, no workload is open to the host.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bulkhead_driver_kernel::{Actual, Domain, Plan, Step, Wanted, plan};
use bulkhead_netlink::{Address, Forward, Link, LinkChange, LinkKind, MacAddress, Neighbour};

const MARK: &str = "bulkhead vtep hv";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(last: u8) -> MacAddress {
    [2, 0, 0, 0, 0, last]
}

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.into(),
        mac: Some([6, 0, 0, 0, 0, u8::try_from(index).unwrap()]),
        mtu: 1500,
        up: false,
        alias: None,
        bridge: None,
        port: None,
        below: None,
        kind: LinkKind::Other,
    }
}

/// A kernel.
#[derive(Clone)]
struct Kernel {
    actual: Actual,
    next: u32,
    refuses: fn(&Step) -> bool,
    /// Whether it knows of locked ports; otherwise it takes no notice.
    locks: bool,
}

impl Kernel {
    /// With an uplink, a VLAN on another one, and two workloads' interfaces that are switched off.
    fn new() -> Kernel {
        let mut links: Vec<_> = (2..).zip(["u0", "u1", "u1.7", "w1", "w2"]).map(|(at, name)| link(at, name)).collect();
        links.iter_mut().filter(|link| link.name.starts_with('u')).for_each(|link| link.up = true);
        links[2].below = Some(links[1].index);
        let address = |link, text, permanent| Address { link, ip: ip(text), length: 24, permanent };
        let actual = Actual {
            links,
            addresses: vec![
                address(2, "192.0.2.1", true),
                address(4, "198.51.100.1", false),
                address(5, "fd00:66::1", false),
            ],
            ..Actual::default()
        };
        Kernel { actual, next: 10, refuses: |_| false, locks: true }
    }

    fn find(&mut self, name: &str) -> Option<&mut Link> {
        self.actual.links.iter_mut().find(|link| link.name == name)
    }

    fn link(&mut self, name: &str) -> &mut Link {
        self.find(name).unwrap()
    }

    /// `None` if it refuses, or there is no such link.
    fn does(&mut self, step: &Step) -> Option<()> {
        if (self.refuses)(step) {
            return None;
        }
        match step.clone() {
            Step::Delete(name) => {
                let index = self.find(&name)?.index;
                self.actual.links.retain(|link| link.index != index);
                for port in self.actual.links.iter_mut().filter(|link| link.bridge == Some(index)) {
                    (port.bridge, port.port) = (None, None);
                }
                self.actual.silent.remove(&name);
            }
            Step::AddBridge(name) => {
                self.next += 1;
                self.actual.links.push(Link { kind: LinkKind::Bridge { snooping: true }, ..link(self.next, &name) });
            }
            Step::AddVxlan(name, vxlan) => {
                self.next += 1;
                self.actual.links.push(Link { kind: LinkKind::Vxlan(vxlan), ..link(self.next, &name) });
            }
            Step::Silence(name) => drop(self.actual.silent.insert(name)),
            Step::Barrier(name) => {
                self.find(&name)?;
                self.actual.barriers.insert(name);
            }
            Step::NoBarrier(name) => drop(self.actual.barriers.remove(&name)),
            Step::Set(name, change) => {
                let bridge = match &change {
                    LinkChange::Bridge(bridge) => Some(self.find(bridge)?.index),
                    _ => None,
                };
                let locks = self.locks;
                let link = self.find(&name)?;
                match change {
                    LinkChange::Up => link.up = true,
                    LinkChange::Down => link.up = false,
                    LinkChange::Mtu(mtu) => link.mtu = mtu,
                    LinkChange::Mac(mac) => link.mac = Some(mac),
                    LinkChange::Alias(alias) => link.alias = Some(alias),
                    LinkChange::NoSnooping => link.kind = LinkKind::Bridge { snooping: false },
                    LinkChange::Bridge(_) | LinkChange::NoBridge => (link.bridge, link.port) = (bridge, None),
                    LinkChange::Port(mut port) => {
                        port.locked &= locks;
                        link.port = Some(port);
                    }
                    other => panic!("{other:?}"),
                }
            }
            Step::Forward(name, mac, by) => {
                let link = self.find(&name)?.index;
                self.actual.forwarding.push(Forward { link, mac, by, fixed: true });
            }
            Step::Unforward(name, mac, by) => {
                let link = self.find(&name)?.index;
                self.actual.forwarding.retain(|one| (one.link, one.mac, one.by) != (link, mac, by));
            }
            Step::Know(name, ip, mac) => {
                let link = self.find(&name)?.index;
                self.actual.neighbours.push(Neighbour { link, ip, mac: Some(mac), pinned: true });
            }
            Step::Unknow(name, ip) => {
                let link = self.find(&name)?.index;
                self.actual.neighbours.retain(|one| (one.link, one.ip) != (link, ip));
            }
        }
        Some(())
    }

    /// The workloads that are switched on and not kept from the host, and from each other.
    fn open(&self) -> Vec<&str> {
        let closed = |link: &Link| {
            let bridge = self.actual.links.iter().find(|bridge| Some(bridge.index) == link.bridge);
            let safe = link.port.is_some_and(|port| port.isolated && port.locked && port.link_local);
            safe && bridge.is_some_and(|bridge| self.actual.barriers.contains(&bridge.name))
        };
        let workloads = self.actual.links.iter().filter(|link| link.name.starts_with('w') && link.up);
        workloads.filter(|link| !closed(link)).map(|link| link.name.as_str()).collect()
    }

    /// One round; at no step of it is anybody open, but whom somebody had opened before.
    fn round(&mut self, wanted: &Wanted) -> Plan {
        let plan = plan(wanted, &self.actual, MARK);
        let mut open = self.open().len();
        for group in &plan.groups {
            for step in group {
                if self.does(step).is_none() {
                    break;
                }
                assert!(self.open().len() <= open, "{step:?} opened {:?}", self.open());
                open = self.open().len();
            }
        }
        plan
    }

    fn keep(&mut self, wanted: &Wanted) -> Plan {
        (0..6).map(|_| self.round(wanted)).last().unwrap()
    }

    fn on(&mut self) -> [bool; 2] {
        ["w1", "w2"].map(|name| self.link(name).up)
    }
}

fn wanted(vni: u32, ports: &[&str]) -> Wanted {
    let mut domain = Domain { way_out: Some(ip("192.0.2.3")), ..Domain::default() };
    domain.ports = (1..).zip(ports).map(|(last, port)| ((*port).to_owned(), BTreeSet::from([mac(last)]))).collect();
    domain.far.insert(mac(9), ip("192.0.2.2"));
    domain.neighbours.insert(ip("10.1.0.9"), mac(9));
    Wanted { vtep: ip("192.0.2.1"), networks: BTreeMap::from([(vni, domain)]) }
}

fn kept() -> (Kernel, Wanted) {
    let (mut kernel, wanted) = (Kernel::new(), wanted(7, &["w1", "w2"]));
    let plan = kernel.keep(&wanted);
    assert_eq!(plan, Plan::default());
    assert_eq!(kernel.on(), [true; 2]);
    (kernel, wanted)
}

/// Steps that a kernel might refuse.
const REFUSALS: [fn(&Step) -> bool; 12] = [
    |_| false,
    |step| matches!(step, Step::Barrier(_)),
    |step| matches!(step, Step::NoBarrier(_)),
    |step| matches!(step, Step::Delete(_)),
    |step| matches!(step, Step::AddBridge(_)),
    |step| matches!(step, Step::AddVxlan(..)),
    |step| matches!(step, Step::Silence(_)),
    |step| matches!(step, Step::Set(_, LinkChange::Up)),
    |step| matches!(step, Step::Set(_, LinkChange::Down)),
    |step| matches!(step, Step::Set(_, LinkChange::Bridge(_) | LinkChange::NoBridge)),
    |step| matches!(step, Step::Set(_, LinkChange::Port(_))),
    |step| matches!(step, Step::Forward(..) | Step::Know(..)),
];

#[test]
fn whatever_is_refused_nobody_is_open() {
    let nothing = Wanted { networks: BTreeMap::new(), ..wanted(7, &[]) };
    let all = wanted(7, &["w1", "w2"]);
    let ways = [all.clone(), wanted(7, &["w2"]), wanted(3, &["w1"]), all.clone(), wanted(9, &["w1", "w2"]), nothing];
    for refuses in REFUSALS {
        for locks in [true, false] {
            for first in 0..ways.len() {
                let mut kernel = Kernel { locks, ..Kernel::new() };
                kernel.keep(&ways[first]);
                kernel.refuses = refuses;
                ways.iter().cycle().skip(first + 1).take(ways.len()).for_each(|wanted| drop(kernel.keep(wanted)));
                kernel.refuses = |_| false;
                let plan = kernel.keep(&all);
                assert_eq!(kernel.on(), [locks; 2], "{plan:#?}");
                let told = |trouble: &String| trouble.contains("w1 stays switched off");
                assert_eq!(plan.troubles.iter().any(told), !locks, "{plan:#?}");
            }
        }
    }
}

#[test]
fn what_somebody_opens_is_closed_whatever_is_refused() {
    let opened: [fn(&mut Kernel); 5] = [
        |kernel| kernel.actual.barriers.clear(),
        |kernel| kernel.does(&Step::Delete("bhb7".into())).unwrap(),
        |kernel| kernel.link("w1").bridge = None,
        |kernel| kernel.link("w1").port.as_mut().unwrap().locked = false,
        |kernel| kernel.link("w1").port.as_mut().unwrap().isolated = false,
    ];
    for open in opened {
        for refuses in REFUSALS {
            let (mut kernel, wanted) = kept();
            open(&mut kernel);
            kernel.refuses = refuses;
            kernel.round(&wanted);
            let down = Step::Set(String::new(), LinkChange::Down);
            assert!(refuses(&down) || kernel.open().is_empty(), "{:?}", kernel.open());
            kernel.refuses = |_| false;
            assert_eq!(kernel.keep(&wanted), Plan::default());
            assert_eq!(kernel.on(), [true; 2]);
        }
    }
}

/// Nor what is reached by a VLAN of it, or other VTEPs by it; but for an address that a router there told the host.
#[test]
fn what_the_host_itself_speaks_by_is_no_workloads() {
    let (mut kernel, mut wanted) = (Kernel::new(), wanted(7, &["u0", "u1", "u1.7", "w1", "w2"]));
    kernel.actual.towards_vteps.insert(6);
    let plan = kernel.keep(&wanted);
    let expected = [
        "interface u0 is no workload's: it has the host's address 192.0.2.1",
        "interface u1 is no workload's: u1.7 is on top of it",
        "interface u1.7 is no workload's: it has the host's address 198.51.100.1",
        "interface w2 is no workload's: other VTEPs are reached by it",
    ];
    assert_eq!((plan.groups.len(), plan.troubles), (0, expected.map(String::from).to_vec()));
    assert_eq!(kernel.on(), [true, false]);
    assert!(
        ["u0", "u1", "u1.7"].map(|name| kernel.link(name).clone()).iter().all(|link| link.up && link.port.is_none())
    );
    // A port that somebody gives an address stays shut in.
    kernel.actual.addresses.push(Address { link: 5, ip: ip("203.0.113.1"), length: 24, permanent: true });
    kernel.keep(&wanted);
    assert!(kernel.link("w1").bridge.is_some());
    // What somebody put among workloads comes out as it was.
    let bridge = kernel.link("bhb7").index;
    kernel.link("u0").bridge = Some(bridge);
    wanted.networks.get_mut(&7).unwrap().ports.remove("u0");
    kernel.keep(&wanted);
    assert!(kernel.link("u0").up && kernel.link("u0").bridge.is_none());
}
