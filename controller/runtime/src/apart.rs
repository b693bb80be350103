//! Networks that are in parts: what is in one of them does not reach what is in another, whatever policies allow.

use bulkhead_policy::{Census, State, model::Switch};
use bulkhead_topology::{Name, graph::Graph};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What holds a part together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// Tunnels between VTEP addresses of one family.
    Tunnels {
        /// Whether that is IPv4.
        ipv4: bool,
    },
    /// Links that are up; none, if it is one switch.
    Links,
}

/// Switches of a network that reach each other, and none of its others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What holds them together.
    pub by: By,
    /// They, by name.
    pub switches: BTreeSet<Name>,
}

/// Networks in more than one part, by name. Switches that are not declared are in none; that kernel VTEPs do not reach
/// each other does not make two parts of a network, as others reach both.
pub(crate) fn apart(state: &State, census: &impl Census, graph: &Graph) -> BTreeMap<Name, Vec<Part>> {
    let pieces = pieces(graph);
    let place = |(name, switch): (&Name, &Arc<Switch>)| match switch.vtep {
        Some(vtep) => (name.clone(), (By::Tunnels { ipv4: vtep.is_ipv4() }, None)),
        None => (name.clone(), (By::Links, Some(pieces.get(name).unwrap_or(name).clone()))),
    };
    let places: BTreeMap<Name, (By, Option<Name>)> = state.switches.iter().map(place).collect();
    let mut apart = BTreeMap::new();
    if places.values().collect::<BTreeSet<_>>().len() < 2 {
        // As nearly everywhere: no need to look at networks.
        return apart;
    }
    for name in state.networks.keys() {
        let mut parts: BTreeMap<&(By, Option<Name>), BTreeSet<Name>> = BTreeMap::new();
        for (switch, _) in census.present(name) {
            if let Some(place) = places.get(switch) {
                parts.entry(place).or_default().insert(switch.clone());
            }
        }
        if parts.len() > 1 {
            let parts = parts.into_iter().map(|((by, _), switches)| Part { by: *by, switches });
            apart.insert(name.clone(), parts.collect());
        }
    }
    apart
}

/// The switches that have links, each with the first one of those that links which are up connect it to.
fn pieces(graph: &Graph) -> BTreeMap<Name, Name> {
    let mut next: BTreeMap<Name, Vec<Name>> = BTreeMap::new();
    for (cable, _) in graph.links().filter(|(_, up)| *up) {
        let [a, b] = cable.ends().map(|end| end.switch.clone());
        next.entry(a.clone()).or_default().push(b.clone());
        next.entry(b).or_default().push(a);
    }
    let mut pieces = BTreeMap::new();
    for first in next.keys() {
        let mut open = vec![first];
        while let Some(name) = open.pop() {
            if !pieces.contains_key(name) {
                pieces.insert(name.clone(), first.clone());
                open.extend(next.get(name).into_iter().flatten());
            }
        }
    }
    pieces
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use bulkhead_policy::{
        Change, NamedPorts, Resource,
        model::{DefaultAction, Driver, Encap, Network, OnTighten, Role},
    };
    use bulkhead_topology::{
        DatapathId, Port, Selector, Vni,
        graph::{Cable, End},
    };

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// Where the one network is present.
    struct On(Vec<Name>);

    impl Census for On {
        fn any(&self, _: Option<&Name>, _: &Selector, _: &dyn Fn(&NamedPorts) -> bool) -> bool {
            false
        }
        fn present<'a>(&'a self, _: &Name) -> Box<dyn Iterator<Item = (&'a Name, u32)> + 'a> {
            Box::new(self.0.iter().map(|name| (name, 1)))
        }
        fn count(&self, _: &Name, _: &Name) -> u32 {
            1
        }
        fn networks_on(&self, _: &Name) -> BTreeSet<Name> {
            BTreeSet::new()
        }
    }

    #[test]
    fn a_network_is_in_parts_where_neither_tunnels_nor_links_lead_from_one_to_another() {
        let mut state = State::default();
        let mut graph = Graph::default();
        let network = Network {
            name: name("net"),
            vni: Vni::new(1).unwrap(),
            subnets: vec![],
            encap: Encap::Geneve,
            default_action: DefaultAction::Deny,
            on_tighten: OnTighten::Revoke,
            uplinks: vec![],
            gateways: vec![],
            multicast: vec![],
            learn_workloads: false,
        };
        state.apply(&[Change::set(Resource::Network(network.into()))]);
        let vteps = [
            ("hv1", "192.0.2.1"),
            ("hv2", "192.0.2.2"),
            ("hv6", "2001:db8::1"),
            ("leaf1", ""),
            ("leaf2", ""),
            ("spine", ""),
        ];
        for ((text, vtep), id) in vteps.into_iter().zip(1..) {
            let driver = Driver::Openflow(DatapathId(id));
            let switch = Switch { name: name(text), driver, vtep: vtep.parse().ok(), role: Role::Leaf, ovsdb: None };
            state.apply(&[Change::set(Resource::Switch(Arc::new(switch)))]);
            graph.set_switch(&name(text), 1);
        }
        let cable = |leaf: u32| {
            let end = |switch: &str, port| End { switch: name(switch), port: Port::Number(port) };
            Cable::new(end(&format!("leaf{leaf}"), 1), end("spine", leaf))
        };
        (1..=2).for_each(|leaf| graph.set_link(&cable(leaf), true));
        let told = |graph: &Graph, on: &[&str]| -> Vec<String> {
            let apart = apart(&state, &On(on.iter().map(|text| name(text)).collect()), graph);
            let part = |part: &Part| part.switches.iter().map(Name::as_str).collect::<Vec<_>>().join("+");
            apart.into_values().flatten().map(|found| part(&found)).collect()
        };
        let whole: [&[&str]; 4] = [&[], &["hv1", "hv2"], &["leaf1", "leaf2"], &["leaf1", "elsewhere"]];
        for on in whole {
            assert_eq!(told(&graph, on), Vec::<String>::new());
        }
        assert_eq!(told(&graph, &["hv1", "hv2", "leaf1", "leaf2"]), ["hv1+hv2", "leaf1+leaf2"]);
        assert_eq!(told(&graph, &["hv1", "hv6"]), ["hv6", "hv1"]);
        graph.set_link(&cable(2), false);
        assert_eq!(told(&graph, &["leaf1", "leaf2"]), ["leaf1", "leaf2"]);
    }
}
