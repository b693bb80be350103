//! The ports of a switch, as operators see them: which there are, whether they are up, and what is there.

use crate::{Core, LinkState, LinkView};
use bulkhead_dataplane::PortState;
use bulkhead_policy::{
    State,
    model::Attachment,
    overlay::{GENEVE_PORT, VXLAN_PORT},
};
use bulkhead_topology::{Name, Port};
use std::collections::BTreeMap;

/// OpenFlow's number of the switch's own port (`OFPP_LOCAL`, OF 1.3.5 §7.2.1).
const LOCAL: u32 = 0xffff_fffe;

/// What is at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A workload.
    Workload(Name),
    /// What networks have outside, by name.
    Uplink(Vec<Name>),
    /// Another switch, declared or found: its port there, and how the link is.
    Link(Attachment, LinkState),
    /// All other switches with VTEP addresses.
    Tunnel,
    /// The host that the switch runs on.
    Host,
    /// An interface that says to be of a workload that there is not, or not there: nothing passes.
    Quarantine(String),
    /// Nobody who is known: nothing passes.
    Nobody,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortView {
    /// What the switch says of it.
    pub state: PortState,
    /// What is there.
    pub at: At,
}

impl Core {
    /// The ports of a switch in the order that it tells them; none if it is not connected.
    pub fn ports(&self, switch: &Name) -> Vec<PortView> {
        let accepted = self.accepted();
        let mut links = self.topology().links;
        links.retain(|link| link.a.switch == *switch || link.b.switch == *switch);
        let quarantined = self.hosts().remove(switch).map(|host| host.quarantined).unwrap_or_default();
        let quarantined: BTreeMap<_, _> = quarantined.into_iter().map(|found| (found.port, found.owner)).collect();
        let view = |port: &PortState| {
            let owner = port.name.as_deref().and_then(|name| quarantined.get(name));
            let at = match (at(&accepted.state, &links, switch, port), owner) {
                (At::Nobody, Some(owner)) => At::Quarantine(owner.clone()),
                (at, _) => at,
            };
            PortView { state: port.clone(), at }
        };
        self.learner.ports_of(switch).iter().map(view).collect()
    }
}

fn at(state: &State, links: &[LinkView], switch: &Name, port: &PortState) -> At {
    let names = [port.name.clone().map(Port::Name), port.number.map(Port::Number)];
    let places: Vec<_> = names.into_iter().flatten().map(|port| Attachment { switch: switch.clone(), port }).collect();
    if let Some(workload) = places.iter().find_map(|place| state.workload_on(place)) {
        return At::Workload(workload.name.clone());
    }
    let mut uplinks: Vec<_> =
        places.iter().flat_map(|place| state.uplinks_at(place)).map(|(_, name)| name.clone()).collect();
    if !uplinks.is_empty() {
        uplinks.sort();
        uplinks.dedup();
        return At::Uplink(uplinks);
    }
    for link in links {
        for (near, far) in [(&link.a, &link.b), (&link.b, &link.a)] {
            if places.contains(near) {
                return At::Link(far.clone(), link.state);
            }
        }
    }
    if port.number == Some(LOCAL) {
        At::Host
    } else if [GENEVE_PORT, VXLAN_PORT].map(Some).contains(&port.name.as_deref()) {
        At::Tunnel
    } else {
        At::Nobody
    }
}
