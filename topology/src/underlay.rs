//! How a switch that has no routes of its own reaches other VTEPs.

use crate::{IpNet, Mac};
use std::{collections::BTreeSet, net::IpAddr};

/// What a switch knows of the underlay: by which of its ports other VTEPs are reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Underlay {
    /// The switch's own VTEP address.
    pub vtep: IpAddr,
    /// Its Ethernet address there: what it sends from, and what answers to ARP and ND say.
    pub mac: Mac,
    /// Largest IP packet that the underlay carries from here, in bytes; `None` if nobody said.
    pub mtu: Option<u16>,
    /// By which next hops prefixes of VTEP addresses are reached, sorted; no prefix twice.
    pub routes: Vec<Route>,
}

/// A prefix of VTEP addresses, and the next hops towards them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The prefix, of the family of the VTEP address.
    pub to: IpNet,
    /// Next hops that are as good as each other: each packet takes one, all of a flow the same. Sorted, at least one, at
    /// most [`MAX_HOPS`], none twice.
    pub via: Vec<Hop>,
}

/// A neighbour in the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// The switch's port towards it, 1 to [`MAX_PORT`].
    pub port: u32,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// Largest number of a port: 9 bits are what P4's v1model has for it, the last value means that a packet is dropped, and the
/// one before it that it goes to the controller.
pub const MAX_PORT: u32 = 509;
/// The port of such a switch that leads to its controller: no wire's.
pub const CONTROLLER_PORT: u32 = MAX_PORT + 1;
/// Most next hops of one route: what a group of the P4 program has room for.
pub const MAX_HOPS: usize = 16;
/// Most routes: what its table has room for.
pub const MAX_ROUTES: usize = 512;

impl Underlay {
    /// The ports that lead into the underlay, and are nobody's else.
    pub fn ports(&self) -> BTreeSet<u32> {
        self.routes.iter().flat_map(|route| &route.via).map(|hop| hop.port).collect()
    }

    /// The next hops towards a VTEP: those of the longest prefix that has it; none if nothing leads there.
    pub fn towards(&self, far: IpAddr) -> &[Hop] {
        let routes = self.routes.iter().filter(|route| route.to.contains(far));
        routes.max_by_key(|route| route.to.prefix_len()).map_or(&[], |route| &route.via)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_leads() {
        let hop = |port| Hop { port, mac: Mac([2, 0, 0, 0, 0, port as u8]) };
        let route =
            |to: &str, ports: &[u32]| Route { to: to.parse().unwrap(), via: ports.iter().copied().map(hop).collect() };
        let underlay = Underlay {
            vtep: "192.0.2.1".parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, 9]),
            mtu: None,
            routes: vec![route("192.0.2.0/24", &[3, 4]), route("192.0.2.128/25", &[5])],
        };
        let towards = |far: &str| underlay.towards(far.parse().unwrap()).iter().map(|hop| hop.port).collect::<Vec<_>>();
        assert_eq!(towards("192.0.2.2"), [3, 4]);
        assert_eq!(towards("192.0.2.200"), [5]);
        assert_eq!(towards("198.51.100.1"), [0; 0]);
        assert_eq!(towards("2001:db8::1"), [0; 0]);
        assert_eq!(underlay.ports().into_iter().collect::<Vec<_>>(), [3, 4, 5]);
    }
}
