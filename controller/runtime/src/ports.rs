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
        let at = |port: &PortState| at(&accepted.state, &links, &quarantined, switch, port);
        let view = |port: &PortState| PortView { state: port.clone(), at: at(port) };
        self.learner.ports_of(switch).iter().map(view).collect()
    }
}

/// What is at a port, `quarantined` by port being who says to be plugged in and is not believed. What documents and links
/// say of a port comes first: that is what its packets are taken for.
fn at(
    state: &State,
    links: &[LinkView],
    quarantined: &BTreeMap<String, String>,
    switch: &Name,
    port: &PortState,
) -> At {
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
    if let Some(owner) = port.name.as_deref().and_then(|name| quarantined.get(name)) {
        At::Quarantine(owner.clone())
    } else if port.number == Some(LOCAL) {
        At::Host
    } else if [GENEVE_PORT, VXLAN_PORT].map(Some).contains(&port.name.as_deref()) {
        At::Tunnel
    } else {
        At::Nobody
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bulkhead_policy::{
        Change, Resource,
        model::{Interface, Workload},
    };
    use bulkhead_topology::Mac;
    use std::sync::Arc;

    #[test]
    fn what_documents_and_links_say_of_a_port_comes_before_what_is_said_there() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let place = |switch: &str, port: &str| Attachment { switch: name(switch), port: Port::Name(port.into()) };
        let interface = Interface { mac: Mac([2, 0, 0, 0, 0, 1]), ips: vec![], attachment: Some(place("hv1", "p1")) };
        let mut state = State::default();
        state.apply(&[Change::set(Resource::Workload(Arc::new(Workload {
            name: name("web"),
            labels: Default::default(),
            network: name("net"),
            interfaces: vec![interface],
            named_ports: Default::default(),
        })))]);
        let links = [LinkView {
            a: place("spine", "s1"),
            b: place("hv1", "p2"),
            declared: None,
            discovered: true,
            state: LinkState::Up,
            why: String::new(),
        }];
        let said = ["p1", "p2", "p3"].map(|port| (port.to_owned(), "stranger".to_owned()));
        let found = |text: &str, number: u32| {
            let port = PortState { name: Some(text.into()), number: Some(number), up: true };
            at(&state, &links, &said.clone().into(), &name("hv1"), &port)
        };
        assert_eq!(found("p1", 1), At::Workload(name("web")));
        assert_eq!(found("p2", 2), At::Link(place("spine", "s1"), LinkState::Up));
        assert_eq!(found("p3", 3), At::Quarantine("stranger".into()));
        assert_eq!(found("p4", 4), At::Nobody);
        assert_eq!((found("br-int", LOCAL), found(GENEVE_PORT, 5)), (At::Host, At::Tunnel));
    }
}
