//! What this kernel makes of requests. Passes over itself without root, and says so.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use bulkhead_netlink::{Error, LinkChange, MacAddress, Namespace, Netlink, Route, Veth};

/// Two namespaces that are removed however a test ends.
struct Pair(Namespace, Namespace);

impl Pair {
    /// `None`, loudly, without root.
    fn new(test: &str) -> Option<Pair> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("NOT TESTED: namespaces need root");
            return None;
        }
        let named = |end: &str| Namespace::named(&format!("netlink-{test}-{}-{end}", std::process::id()));
        let pair = Pair(named("a"), named("b"));
        pair.0.create().unwrap();
        pair.1.create().unwrap();
        Some(pair)
    }

    fn veth(&self, mac: Option<MacAddress>, mtu: Option<u32>) {
        let veth = Veth { name: "v0", peer: "eth0", peer_in: &self.1, mac, mtu };
        self.0.netlink().unwrap().add_veth(&veth).unwrap();
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for namespace in [&self.0, &self.1] {
            if namespace.exists() {
                namespace.remove().unwrap();
            }
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_pair_is_made_across_namespaces_and_carries_packets() {
    let Some(pair) = Pair::new("pair") else { return };
    let host = Netlink::here().unwrap().link("eth0").ok();
    pair.veth(Some([2, 0, 0, 0, 0, 9]), Some(1400));
    let (mut a, mut b) = (pair.0.netlink().unwrap(), pair.1.netlink().unwrap());
    let (near, far) = (a.link("v0").unwrap(), b.link("eth0").unwrap());
    assert_eq!((far.mac, far.mtu, far.up), (Some([2, 0, 0, 0, 0, 9]), 1400, false));
    assert_eq!(near.mtu, 1400);
    assert_eq!(Netlink::here().unwrap().link("eth0").ok(), host, "the host's own interface is as it was");

    for (end, name, host) in [(&mut a, "v0", 1), (&mut b, "eth0", 2)] {
        end.set(name, &[LinkChange::Up]).unwrap();
        end.checksums_off(name).unwrap();
        end.add_address(name, ip(&format!("10.0.0.{host}")), 24).unwrap();
        end.add_address(name, ip(&format!("fd00::{host}")), 64).unwrap();
    }
    assert!(b.link("eth0").unwrap().up);
    for (mine, theirs) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        let at = |namespace: &Namespace, address: &str| {
            let bound = namespace.run(|| UdpSocket::bind(SocketAddr::from((ip(address), 7000)))).unwrap().unwrap();
            bound.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            bound
        };
        let (here, there) = (at(&pair.0, mine), at(&pair.1, theirs));
        here.send_to(b"hello", (ip(theirs), 7000)).unwrap();
        let mut heard = [0; 16];
        assert_eq!(there.recv_from(&mut heard).unwrap(), (5, SocketAddr::from((ip(mine), 7000))));
    }
    let met = a.neighbours().unwrap();
    assert!(met.iter().any(|one| one.ip == ip("10.0.0.2") && one.mac == Some([2, 0, 0, 0, 0, 9]) && !one.pinned));
}

#[test]
fn what_was_set_is_told() {
    let Some(pair) = Pair::new("told") else { return };
    pair.veth(None, None);
    let mut a = pair.0.netlink().unwrap();
    a.add_bridge("br0").unwrap();
    let changes = [
        LinkChange::Mtu(1600),
        LinkChange::Mac([2, 0, 0, 0, 0, 1]),
        LinkChange::Alias("hv1's own".into()),
        LinkChange::Bridge("br0".into()),
        LinkChange::Up,
    ];
    a.set("v0", &changes).unwrap();
    a.set("br0", &[LinkChange::Up]).unwrap();
    let (link, bridge) = (a.link("v0").unwrap(), a.link("br0").unwrap());
    assert_eq!(
        (link.mtu, link.mac, link.alias.as_deref(), link.bridge, link.up),
        (1600, Some([2, 0, 0, 0, 0, 1]), Some("hv1's own"), Some(bridge.index), true)
    );
    a.set("v0", &[LinkChange::Down]).unwrap();
    assert!(!a.link("v0").unwrap().up);
    a.set("v0", &[LinkChange::NoLearning]).unwrap();
    assert!(a.set("br0", &[LinkChange::NoLearning]).is_err(), "it is no port of a bridge");

    a.add_address("br0", ip("192.0.2.1"), 25).unwrap();
    a.add_address("br0", ip("2001:db8::1"), 64).unwrap();
    let addresses = a.addresses().unwrap();
    let told = |text: &str| addresses.iter().find(|one| one.ip == ip(text)).map(|one| (one.link, one.length));
    assert_eq!((told("192.0.2.1"), told("2001:db8::1")), (Some((bridge.index, 25)), Some((bridge.index, 64))));

    a.add_route(ip("198.51.100.0"), 24, Some(ip("192.0.2.9")), "br0").unwrap();
    a.add_route(ip("2001:db8:1::"), 48, None, "br0").unwrap();
    let routes = a.routes().unwrap();
    let route = |to: &str, length, via| Route { to: ip(to), length, via, link: bridge.index };
    assert!(routes.contains(&route("198.51.100.0", 24, Some(ip("192.0.2.9")))), "{routes:?}");
    assert!(routes.contains(&route("2001:db8:1::", 48, None)), "{routes:?}");

    for address in ["192.0.2.9", "2001:db8::9"] {
        a.pin_neighbour("br0", ip(address), [2, 0, 0, 0, 0, 8]).unwrap();
        a.pin_neighbour("br0", ip(address), [2, 0, 0, 0, 0, 9]).unwrap();
        let known = a.neighbours().unwrap();
        let known = known.iter().find(|one| one.ip == ip(address)).unwrap();
        assert_eq!((known.mac, known.pinned), (Some([2, 0, 0, 0, 0, 9]), true), "the later one holds");
    }

    pair.0.sysctl(&[("ipv4/conf/br0/arp_ignore", "1")]).unwrap();
    let read = || std::fs::read_to_string("/proc/sys/net/ipv4/conf/br0/arp_ignore");
    assert_eq!(pair.0.run(read).unwrap().unwrap().trim(), "1");
    assert!(read().is_err(), "the host has no br0 of ours");
}

#[test]
fn a_link_moves_and_goes() {
    let Some(pair) = Pair::new("moves") else { return };
    pair.veth(None, None);
    let (mut a, mut b) = (pair.0.netlink().unwrap(), pair.1.netlink().unwrap());
    a.set("v0", &[LinkChange::Namespace(pair.1.clone())]).unwrap();
    assert!(matches!(a.link("v0"), Err(Error::NoLink(_))));
    assert!(b.link("v0").is_ok());
    b.delete_link("v0").unwrap();
    assert!(matches!(b.link("eth0"), Err(Error::NoLink(_))), "both ends go");
}

#[test]
fn refusals_say_what_was_asked() {
    let Some(pair) = Pair::new("refused") else { return };
    pair.veth(None, None);
    let mut a = pair.0.netlink().unwrap();
    let twice = a.add_veth(&Veth { name: "v0", peer: "eth1", peer_in: &pair.1, mac: None, mtu: None }).unwrap_err();
    assert!(twice.already_there() && twice.to_string().contains("veth v0 with eth1"), "{twice}");
    let taken = a.add_veth(&Veth { name: "v1", peer: "eth0", peer_in: &pair.1, mac: None, mtu: None }).unwrap_err();
    assert!(taken.already_there(), "{taken}");
    assert!(a.link("v1").is_err(), "half a pair was left");
    assert!(matches!(a.set("none", &[LinkChange::Up]), Err(Error::NoLink(name)) if name == "none"));
    assert!(a.checksums_off("none").unwrap_err().to_string().contains("none"));
    assert!(a.set("v0", &[LinkChange::Mtu(1)]).is_err());
    a.add_address("v0", ip("10.0.0.1"), 24).unwrap();
    assert!(a.add_address("v0", ip("10.0.0.1"), 24).unwrap_err().already_there());
    assert!(pair.0.create().unwrap_err().already_there());
}

#[test]
fn offload_is_off_for_ethtool_too() {
    let Some(pair) = Pair::new("offload") else { return };
    pair.veth(None, None);
    pair.1.netlink().unwrap().checksums_off("eth0").unwrap();
    let ask = || std::process::Command::new("ethtool").args(["-k", "eth0"]).output();
    let Ok(told) = pair.1.run(ask).unwrap() else {
        eprintln!("NOT TESTED: there is no ethtool");
        return;
    };
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("tx-checksumming: off") && told.contains("rx-checksumming: on"), "{told}");
}

#[test]
fn a_namespace_is_listed_entered_and_gone() {
    let Some(pair) = Pair::new("namespace") else { return };
    let mut child = pair.0.spawn(std::process::Command::new("sleep").arg("60")).unwrap();
    assert_eq!(pair.0.processes().unwrap(), [child.id().cast_signed()]);
    assert_eq!(pair.1.processes().unwrap(), []);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(pair.0.processes().unwrap(), []);
    let inside = pair.0.netlink().unwrap().links().unwrap();
    assert_eq!(inside.len(), 1);
    assert!(inside[0].name == "lo" && inside[0].up);
    pair.0.remove().unwrap();
    pair.0.remove().unwrap();
    assert!(!pair.0.exists() && pair.0.netlink().is_err());
}

#[test]
fn many_links_are_all_listed() {
    let Some(pair) = Pair::new("many") else { return };
    let mut a = pair.0.netlink().unwrap();
    for number in 0..300 {
        a.add_bridge(&format!("br{number}")).unwrap();
    }
    let names = a.links().unwrap();
    assert_eq!(names.len(), 301);
    assert!((0..300).all(|number| names.iter().any(|link| link.name == format!("br{number}"))));
}
