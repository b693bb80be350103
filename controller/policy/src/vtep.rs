//! What a switch has to forward that is a VTEP and no more: it judges nothing, so it knows no policy.

use crate::{
    model::{Attachment, Network},
    overlay::{judges, tunnel},
    state::State,
};
use bulkhead_topology::{Mac, Name, Port, Vni};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// What a kernel VTEP carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// Its own address.
    pub vtep: IpAddr,
    /// The networks that have a workload behind it.
    pub networks: BTreeMap<Name, Carried>,
}

/// What it carries of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The network on the wire.
    pub vni: Vni,
    /// The ports of its own, and the Ethernet addresses behind each.
    pub ports: BTreeMap<Port, BTreeSet<Mac>>,
    /// Who is elsewhere, behind a switch that judges what goes to and fro; sorted.
    pub far: Vec<Far>,
    /// The VTEP of the switch that is the network's way out from here.
    pub way_out: Option<IpAddr>,
}

/// An interface elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Far {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its IP addresses.
    pub ips: Vec<IpAddr>,
    /// The VTEP that it is behind.
    pub vtep: IpAddr,
}

/// What a switch has to forward; `None` if it is no kernel VTEP. Costs a look at every workload.
pub fn forwarding(state: &State, name: &Name) -> Option<Forwarding> {
    let switch = state.switches.get(name).filter(|switch| !judges(switch))?;
    let mut networks: BTreeMap<Name, Carried> = BTreeMap::new();
    let reach = |network: &Network, to: &Name| tunnel(network, switch, state.switches.get(to)?);
    let plugged = || {
        let interfaces =
            state.workloads.values().flat_map(|workload| workload.interfaces.iter().map(move |i| (workload, i)));
        interfaces.filter_map(|(workload, i)| Some((&workload.network, i, state.attachment(workload, i)?)))
    };
    for (network, interface, Attachment { port, .. }) in plugged().filter(|(_, _, at)| at.switch == *name) {
        let Some(known) = state.networks.get(network) else { continue };
        let carried = networks.entry(network.clone()).or_insert_with(|| {
            // As for any switch; one that judges nothing has no uplink either.
            let way_out = known.uplinks.iter().find_map(|uplink| reach(known, &uplink.at.switch));
            let way_out = way_out.map(|tunnel| tunnel.far);
            Carried { vni: known.vni, ports: BTreeMap::new(), far: Vec::new(), way_out }
        });
        carried.ports.entry(port).or_default().insert(interface.mac);
    }
    for (network, interface, at) in plugged().filter(|(_, _, at)| at.switch != *name) {
        let (Some(known), Some(carried)) = (state.networks.get(network), networks.get_mut(network)) else { continue };
        if let Some(tunnel) = reach(known, &at.switch) {
            carried.far.push(Far { mac: interface.mac, ips: interface.ips.clone(), vtep: tunnel.far });
        }
    }
    networks.values_mut().for_each(|carried| carried.far.sort());
    Some(Forwarding { vtep: switch.vtep?, networks })
}
