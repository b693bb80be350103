//! What a kernel makes of the plans. Passes over itself without root, and says so.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use bulkhead_driver_kernel::{Domain, Keeper, Kept, Wanted};
use bulkhead_netlink::{Forwarder, LinkChange, MacAddress, Namespace, Veth};

/// A host, one at the other end of its underlay, and two workloads of each; all are removed however a test ends.
struct Site {
    hosts: [Namespace; 2],
    workloads: Vec<Namespace>,
    v6: bool,
}

fn mac(last: u8) -> MacAddress {
    [2, 0, 0, 0, 0, last]
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Site {
    /// `None`, loudly, without root.
    fn new(test: &str, v6: bool) -> Option<Site> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("NOT TESTED: namespaces need root");
            return None;
        }
        let named = |end: &str| Namespace::named(&format!("kernel-{test}-{}-{end}", std::process::id()));
        let workloads = ["w1", "w2", "w3", "w4"].map(named).into();
        let site = Site { hosts: ["a", "b"].map(named), workloads, v6 };
        for namespace in site.hosts.iter().chain(&site.workloads) {
            namespace.create().unwrap();
        }
        let [a, b] = &site.hosts;
        let veth = Veth { name: "u0", peer: "u0", peer_in: b, mac: None, mtu: Some(1600) };
        a.netlink().unwrap().add_veth(&veth).unwrap();
        for (host, namespace) in site.hosts.iter().enumerate() {
            // As on hosts that are to have no IPv6 of their own where nobody says otherwise.
            if !v6 {
                namespace.sysctl(&[("ipv6/conf/default/disable_ipv6", "1")]).unwrap();
            }
            let mut links = namespace.netlink().unwrap();
            links.set("u0", &[LinkChange::Up]).unwrap();
            links.add_address("u0", site.vtep(host), if v6 { 64 } else { 24 }).unwrap();
        }
        for (number, namespace) in site.workloads.iter().enumerate() {
            let number = u8::try_from(number + 1).unwrap();
            let mut links = site.hosts[usize::from(number > 2)].netlink().unwrap();
            let name = format!("w{number}");
            let veth = Veth { name: &name, peer: "eth0", peer_in: namespace, mac: Some(mac(number)), mtu: Some(1500) };
            links.add_veth(&veth).unwrap();
            // The others' are switched on by who keeps the host.
            if number % 2 == 1 {
                links.set(&name, &[LinkChange::Up]).unwrap();
            }
            let mut inside = namespace.netlink().unwrap();
            inside.set("eth0", &[LinkChange::Up]).unwrap();
            inside.add_address("eth0", ip(&format!("10.1.0.{number}")), 24).unwrap();
            inside.add_address("eth0", ip(&format!("fd00:1::{number}")), 64).unwrap();
        }
        Some(site)
    }

    fn vtep(&self, host: usize) -> IpAddr {
        ip(&format!("{}{}", if self.v6 { "fd00:9::" } else { "192.0.2." }, host + 1))
    }

    /// What a host is to have: its two workloads, and those of the other one.
    fn wanted(&self, host: usize) -> Wanted {
        let own = |number: u8| usize::from(number > 2) == host;
        let mut domain = Domain::default();
        for number in 1..=4u8 {
            if own(number) {
                domain.ports.insert(format!("w{number}"), BTreeSet::from([mac(number)]));
                continue;
            }
            domain.far.insert(mac(number), self.vtep(1 - host));
            for address in [format!("10.1.0.{number}"), format!("fd00:1::{number}")] {
                domain.neighbours.insert(ip(&address), mac(number));
            }
        }
        Wanted { vtep: self.vtep(host), networks: BTreeMap::from([(5001, domain)]) }
    }

    /// Runs a keeper inside a host, as a process there would.
    fn keep<T: Send>(&self, host: usize, work: impl FnOnce(&mut Keeper, &Wanted) -> T + Send) -> T {
        let wanted = self.wanted(host);
        self.hosts[host].run(|| work(&mut Keeper::of("hv").unwrap(), &wanted)).unwrap()
    }

    /// Whether what one workload says to an address of another is heard there.
    fn speaks(&self, from: usize, to: usize, to_address: &str) -> bool {
        let at = |number: usize, address: IpAddr| {
            let open = move || UdpSocket::bind(SocketAddr::from((address, 7000)));
            self.workloads[number - 1].run(open).unwrap().unwrap()
        };
        let there = at(to, ip(to_address));
        let unspecified = if to_address.contains(':') { "::" } else { "0.0.0.0" };
        let here = self.workloads[from - 1].run(|| UdpSocket::bind((ip(unspecified), 0))).unwrap().unwrap();
        there.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        for _ in 0..3 {
            let _ = here.send_to(b"hello", (ip(to_address), 7000));
            if there.recv_from(&mut [0; 16]).is_ok() {
                return true;
            }
        }
        false
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for namespace in self.hosts.iter().chain(&self.workloads) {
            if namespace.exists() {
                namespace.remove().unwrap();
            }
        }
    }
}

fn fine(kept: &Kept) {
    assert!(kept.in_shape && kept.troubles.is_empty(), "{kept:#?}");
}

fn two_hosts(test: &str, v6: bool) {
    let Some(site) = Site::new(test, v6) else { return };
    for host in [0, 1] {
        site.keep(host, |keeper, wanted| {
            let first = keeper.keep(wanted).unwrap();
            fine(&first);
            assert!(first.repaired.is_empty() && !first.changed.is_empty());
            assert_eq!(keeper.keep(wanted).unwrap(), Kept { in_shape: true, ..Kept::default() });
        });
        // One that starts again finds nothing to do.
        let again = site.keep(host, |keeper, wanted| keeper.keep(wanted).unwrap());
        assert_eq!(again, Kept { in_shape: true, ..Kept::default() });
    }
    for address in ["10.1.0.3", "fd00:1::3"] {
        assert!(site.speaks(1, 3, address) && site.speaks(2, 3, address), "{address}");
    }
    for address in ["10.1.0.2", "fd00:1::2"] {
        assert!(site.speaks(4, 2, address), "{address}");
        assert!(!site.speaks(1, 2, address), "{address}: on one host nobody judges");
    }
    // Who calls itself otherwise is not let in.
    let mut inside = site.workloads[0].netlink().unwrap();
    inside.set("eth0", &[LinkChange::Mac(mac(9))]).unwrap();
    assert!(!site.speaks(1, 3, "10.1.0.3"));
    inside.set("eth0", &[LinkChange::Mac(mac(1))]).unwrap();
    assert!(site.speaks(1, 3, "10.1.0.3"));
    let mtu = site.hosts[0].netlink().unwrap().link("bhv5001").unwrap().mtu;
    assert_eq!(mtu, if v6 { 1530 } else { 1550 });
    // Questions are answered at the bridge: nothing was learnt, and nobody was asked.
    let forwarding = site.hosts[0].netlink().unwrap().forwarding().unwrap();
    assert!(forwarding.iter().all(|entry| entry.fixed), "{forwarding:?}");
}

#[test]
fn workloads_of_two_hosts_reach_each_other_over_ipv4() {
    two_hosts("v4", false);
}

#[test]
fn workloads_of_two_hosts_reach_each_other_over_ipv6() {
    two_hosts("v6", true);
}

#[test]
fn what_somebody_else_changes_is_repaired_and_told() {
    let Some(site) = Site::new("drift", false) else { return };
    let mut links = site.hosts[0].netlink().unwrap();
    let far = Forwarder::Vxlan(site.vtep(1));
    site.keep(0, |keeper, wanted| {
        fine(&keeper.keep(wanted).unwrap());
        let mut mended = |what: &str, expected: &str| {
            let kept = keeper.keep(wanted).unwrap();
            fine(&kept);
            assert!(kept.changed.is_empty(), "{what}: {kept:#?}");
            assert!(kept.repaired.iter().any(|told| told.contains(expected)), "{what}: {kept:#?}");
            assert_eq!(keeper.keep(wanted).unwrap(), Kept { in_shape: true, ..Kept::default() }, "{what}");
        };
        links.remove_forward("bhv5001", mac(3), far).unwrap();
        mended("a forwarding entry", "02:00:00:00:00:03 put behind bhv5001 at VTEP 192.0.2.2");
        links.add_forward("bhv5001", mac(3), Forwarder::Vxlan(ip("192.0.2.66"))).unwrap();
        mended("one that leads elsewhere", "02:00:00:00:00:03 put behind bhv5001 at VTEP 192.0.2.2");
        links.add_forward("bhv5001", [0; 6], Forwarder::Vxlan(ip("192.0.2.66"))).unwrap();
        mended("one for everybody", "everybody else taken from behind bhv5001 at VTEP 192.0.2.66");
        links.add_forward("w1", mac(9), Forwarder::Bridge).unwrap();
        mended("an address that is not the workload's", "02:00:00:00:00:09 taken from behind w1");
        links.remove_forward("w1", mac(1), Forwarder::Bridge).unwrap();
        mended("the one that is", "02:00:00:00:00:01 put behind w1");
        links.remove_neighbour("bhb5001", ip("fd00:1::3")).unwrap();
        mended("a neighbour", "fd00:1::3 on bhb5001");
        links.pin_neighbour("bhb5001", ip("10.1.0.3"), mac(66)).unwrap();
        mended("another one's address", "10.1.0.3 on bhb5001");
        links.set("bhv5001", &[LinkChange::Down]).unwrap();
        mended("a device that is off", "bhv5001 switched on");
        let mut open = links.link("w1").unwrap().port.unwrap();
        (open.isolated, open.locked) = (false, false);
        links.set("w1", &[LinkChange::Port(open)]).unwrap();
        mended("a port that is open", "w1 isolated and locked");
        links.delete_link("bhv5001").unwrap();
        mended("a device that is gone", "VXLAN device bhv5001 made");
        links.delete_link("bhb5001").unwrap();
        mended("a bridge that is gone", "bridge bhb5001 made");
        links.add_bridge("stranger").unwrap();
        links.set("stranger", &[LinkChange::Alias("bulkhead vtep hv".into())]).unwrap();
        mended("a device that says to be ours", "stranger removed");
    });
    site.keep(1, |keeper, wanted| fine(&keeper.keep(wanted).unwrap()));
    assert!(site.speaks(1, 3, "10.1.0.3") && site.speaks(3, 1, "fd00:1::1"));
}

#[test]
fn what_is_not_wanted_any_more_goes_and_what_is_others_stays() {
    let Some(site) = Site::new("leaves", false) else { return };
    let mut links = site.hosts[0].netlink().unwrap();
    links.add_bridge("others").unwrap();
    links.set("w2", &[LinkChange::Bridge("others".into())]).unwrap();
    links.add_bridge("bhb7").unwrap();
    let before = links.links().unwrap().len();
    site.keep(0, |keeper, wanted| {
        let mut wanted = wanted.clone();
        let kept = keeper.keep(&wanted).unwrap();
        assert!(kept.in_shape && kept.troubles == ["interface w2 is a port of others, and stays it"], "{kept:#?}");
        wanted.networks.insert(7, Domain::default());
        let kept = keeper.keep(&wanted).unwrap();
        assert!(kept.troubles.iter().any(|trouble| trouble.contains("bhb7")), "{kept:#?}");
        // Whose interface comes later.
        let domain = wanted.networks.get_mut(&5001).unwrap();
        domain.ports.insert("late".into(), BTreeSet::from([mac(8)]));
        domain.far.remove(&mac(4));
        let kept = keeper.keep(&wanted).unwrap();
        assert!(kept.changed.iter().any(|told| told.contains("02:00:00:00:00:04 taken")), "{kept:#?}");
        assert!(kept.troubles.iter().any(|trouble| trouble == "there is no interface late yet"), "{kept:#?}");
        links.add_bridge("late").unwrap();
        // A bridge that took the lowest address of its ports would now take this one's, and forget its neighbours.
        links.set("w2", &[LinkChange::NoBridge, LinkChange::Mac([2, 0, 0, 0, 0, 0])]).unwrap();
        let kept = keeper.keep(&wanted).unwrap();
        assert!(kept.repaired.is_empty() && kept.changed.iter().any(|told| told.contains("w2")), "{kept:#?}");
        links.delete_link("late").unwrap();
        let gone = keeper.leave().unwrap();
        let mut ports = gone.clone();
        let devices = ports.split_off(4);
        assert_eq!(devices, ["bhb5001 removed", "barrier behind bhb5001 removed", "bhv5001 removed"]);
        for port in ["w1", "w2"] {
            let told = ["switched off", "taken out of its bridge"].map(|what| format!("{port} {what}"));
            assert!(ports.windows(2).any(|two| two == told), "{gone:?}");
        }
    });
    assert_eq!(links.links().unwrap().len(), before);
    assert!(links.link("w1").unwrap().bridge.is_none() && links.link("others").is_ok() && links.link("bhb7").is_ok());
}

#[test]
fn what_is_for_nobody_known_goes_by_the_way_out_or_nowhere() {
    let Some(site) = Site::new("out", false) else { return };
    site.keep(1, |keeper, wanted| fine(&keeper.keep(wanted).unwrap()));
    site.workloads[0].netlink().unwrap().pin_neighbour("eth0", ip("10.1.0.3"), mac(3)).unwrap();
    site.workloads[2].netlink().unwrap().pin_neighbour("eth0", ip("10.1.0.1"), mac(1)).unwrap();
    for (way_out, passes) in [(None, false), (Some(site.vtep(1)), true), (None, false)] {
        site.keep(0, |keeper, wanted| {
            let mut wanted = wanted.clone();
            let domain = wanted.networks.get_mut(&5001).unwrap();
            (domain.far, domain.neighbours, domain.way_out) = (BTreeMap::new(), BTreeMap::new(), way_out);
            fine(&keeper.keep(&wanted).unwrap());
        });
        assert_eq!(site.speaks(1, 3, "10.1.0.3"), passes, "{way_out:?}");
        assert!(!site.speaks(1, 2, "10.1.0.2"), "{way_out:?}");
    }
}

impl Site {
    /// Lets the first workload speak to the first host, which filters nothing itself.
    fn towards_the_host(&self) {
        let mut links = self.hosts[0].netlink().unwrap();
        links.add_address("u0", ip("192.0.2.1"), 24).unwrap();
        let unfiltered = ["all", "default", "w1"].map(|link| format!("ipv4/conf/{link}/rp_filter"));
        self.hosts[0].sysctl(&unfiltered.each_ref().map(|key| (key.as_str(), "0"))).unwrap();
        let mut inside = self.workloads[0].netlink().unwrap();
        inside.add_route(ip("192.0.2.0"), 24, None, "eth0").unwrap();
        inside.add_route(ip("fd00:9::"), 64, None, "eth0").unwrap();
    }

    /// Whether the first host hears what the first workload sends to one of its addresses by an Ethernet address.
    fn host_hears(&self, address: &str, mac: MacAddress) -> bool {
        self.workloads[0].netlink().unwrap().pin_neighbour("eth0", ip(address), mac).unwrap();
        let there = self.hosts[0].run(|| UdpSocket::bind((ip(address), 7001))).unwrap().unwrap();
        there.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let from = if address.contains(':') { "fd00:1::1" } else { "10.1.0.1" };
        let here = self.workloads[0].run(|| UdpSocket::bind((ip(from), 0))).unwrap().unwrap();
        let _ = here.send_to(b"hello", (ip(address), 7001));
        there.recv_from(&mut [0; 16]).is_ok()
    }
}

/// The first host's addresses.
const HOST: [&str; 2] = ["192.0.2.1", "fd00:9::1"];

/// A workload that knows the bridge's address, and the host's, gets no further than its own network; nor does one that
/// speaks to the groups that a bridge leaves to the port that it hears them at.
#[test]
fn a_workload_does_not_reach_the_host() {
    let Some(site) = Site::new("host", true) else { return };
    site.towards_the_host();
    site.keep(0, |keeper, wanted| fine(&keeper.keep(wanted).unwrap()));
    let mut links = site.hosts[0].netlink().unwrap();
    let bridge = links.link("bhb5001").unwrap().mac.unwrap();
    let heard = |address: &str, mac| site.host_hears(address, mac);
    let mend = |expected: &[String]| {
        let kept = site.keep(0, |keeper, wanted| keeper.keep(wanted).unwrap());
        assert_eq!(kept.changed, expected);
    };
    let groups = (0..=15).map(|last| [0x01, 0x80, 0xc2, 0, 0, last]);
    for address in HOST {
        for mac in [bridge].into_iter().chain(groups.clone()) {
            assert!(!heard(address, mac), "{address} by {mac:02x?}");
        }
        // The same without what keeps it away: the test can fail.
        links.remove_barrier("bhb5001").unwrap();
        assert!(heard(address, bridge), "{address}");
        let [off, on] = ["off", "on"].map(|what| ["w1", "w2"].map(|port| format!("{port} switched {what}")));
        let barrier = ["barrier put between bhb5001 and the host".to_owned()];
        mend(&[off.as_slice(), &barrier, &on].concat());
        assert!(!heard(address, bridge), "{address}");
        let mut open = links.link("w1").unwrap().port.unwrap();
        open.link_local = false;
        links.set("w1", &[LinkChange::Port(open)]).unwrap();
        assert!(heard(address, [0x01, 0x80, 0xc2, 0, 0, 0x0e]), "{address}");
        mend(&["w1 switched off", "w1 isolated and locked as it has to be", "w1 switched on"].map(String::from));
    }
}

/// One that goes, with its network or with everything, has no way to the host either.
#[test]
fn a_workload_that_leaves_does_not_reach_the_host() {
    let Some(site) = Site::new("gone", true) else { return };
    site.towards_the_host();
    let mac = site.hosts[0].netlink().unwrap().link("w1").unwrap().mac.unwrap();
    let heard = || HOST.map(|address| site.host_hears(address, mac));
    assert_eq!(heard(), [true; 2], "an interface that is nobody's is the host's");
    site.keep(0, |keeper, wanted| {
        let mut without = wanted.clone();
        without.networks.get_mut(&5001).unwrap().ports.remove("w1");
        let mut moved = wanted.clone();
        let domain = moved.networks.get(&5001).unwrap().clone();
        moved.networks = BTreeMap::from([(7, domain)]);
        let nothing = Wanted { vtep: wanted.vtep, networks: BTreeMap::new() };
        for wanted in [wanted, &without, wanted, &moved, wanted, &nothing, wanted] {
            fine(&keeper.keep(wanted).unwrap());
            assert_eq!(heard(), [false; 2], "{wanted:?}");
        }
        keeper.leave().unwrap();
        assert_eq!(heard(), [false; 2]);
    });
    let mut links = site.hosts[0].netlink().unwrap();
    let link = links.link("w1").unwrap();
    assert!(!link.up && link.bridge.is_none());
    links.set("w1", &[LinkChange::Up]).unwrap();
    assert_eq!(heard(), [true; 2], "it is the host's again");
}

/// Somebody names what the host itself speaks by.
#[test]
fn the_hosts_own_interfaces_are_no_workloads() {
    let Some(site) = Site::new("own", false) else { return };
    let mut links = site.hosts[0].netlink().unwrap();
    site.keep(0, |keeper, wanted| {
        let mut wanted = wanted.clone();
        for (port, last) in [("u0", 8), ("lo", 9)] {
            wanted.networks.get_mut(&5001).unwrap().ports.insert(port.into(), BTreeSet::from([mac(last)]));
        }
        let kept = keeper.keep(&wanted).unwrap();
        let expected = [("lo", "127.0.0.1"), ("u0", "192.0.2.1")]
            .map(|(port, address)| format!("interface {port} is no workload's: it has the host's address {address}"));
        assert!(kept.in_shape && kept.troubles == expected, "{kept:#?}");
        let uplink = links.link("u0").unwrap();
        assert!(uplink.up && uplink.bridge.is_none());
        // It is put there by hand: it gets out as it was.
        links.set("u0", &[LinkChange::Bridge("bhb5001".into())]).unwrap();
        wanted.networks.get_mut(&5001).unwrap().ports.remove("u0");
        let kept = keeper.keep(&wanted).unwrap();
        assert_eq!(kept.changed, ["u0 taken out of its bridge"]);
        assert!(links.link("u0").unwrap().up);
    });
    site.keep(1, |keeper, wanted| fine(&keeper.keep(wanted).unwrap()));
    assert!(site.speaks(1, 3, "10.1.0.3"));
}
