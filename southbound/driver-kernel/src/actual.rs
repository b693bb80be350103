//! What a host has.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bulkhead_netlink::{Address, Error, Forward, Link, Neighbour, Netlink, sysctl};

use crate::wanted::Wanted;

/// What the kernel tells of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    /// Its links.
    pub links: Vec<Link>,
    /// Who is behind which.
    pub forwarding: Vec<Forward>,
    /// Who has which address.
    pub neighbours: Vec<Neighbour>,
    /// The host's own addresses.
    pub addresses: Vec<Address>,
    /// The links that lead to the VTEPs that are wanted.
    pub towards_vteps: BTreeSet<u32>,
    /// The marked devices that make themselves no address.
    pub silent: BTreeSet<String>,
    /// The devices that the host itself takes nothing from.
    pub barriers: BTreeSet<String>,
}

/// Parameters of a device that makes itself no address, and so has nothing to say, and yet takes IPv6 neighbours: in this
/// order, and their values (ip-sysctl).
pub(crate) fn silence(device: &str) -> [(String, &'static str); 2] {
    [("addr_gen_mode", "1"), ("disable_ipv6", "0")].map(|(name, value)| (format!("ipv6/conf/{device}/{name}"), value))
}

impl Actual {
    /// Asks the kernel, about the namespace of `netlink`, which has to be the calling thread's too.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn read(netlink: &mut Netlink, mark: &str, wanted: &Wanted) -> Result<Actual, Error> {
        let links = netlink.links()?;
        let ours = links.iter().filter(|link| link.alias.as_deref() == Some(mark));
        // A parameter that is not there is one of a protocol that the kernel does not have.
        let silent = |name: &str| silence(name).iter().all(|(key, value)| sysctl(key).map_or(true, |is| is == *value));
        let silent = ours.map(|link| link.name.clone()).filter(|name| silent(name)).collect();
        let barriers = netlink.barriers()?.into_iter().collect();
        let (forwarding, neighbours) = (netlink.forwarding()?, netlink.neighbours()?);
        let domains = wanted.networks.values();
        let vteps: BTreeSet<IpAddr> =
            domains.flat_map(|domain| domain.far.values().copied().chain(domain.way_out)).collect();
        let mut towards_vteps = BTreeSet::new();
        for vtep in vteps {
            towards_vteps.extend(netlink.link_towards(vtep)?);
        }
        let addresses = netlink.addresses()?;
        Ok(Actual { links, forwarding, neighbours, addresses, towards_vteps, silent, barriers })
    }

    pub(crate) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}
