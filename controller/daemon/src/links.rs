//! Links, as the API tells them.

use bulkhead_policy::model::{Attachment, Role};
use bulkhead_runtime::{Core, Foreign, LinkState, LinkView, TopologyView};
use bulkhead_topology::Name;
use bulkhead_types::{ForeignLldp, LinkEnd, LinkStatus, LinksInShort, SwitchPlace, TopologyAnswer};

/// Switches and links.
pub(crate) fn topology(core: &Core) -> TopologyAnswer {
    let TopologyView { links, foreign } = core.topology();
    let accepted = core.accepted();
    let state = &accepted.state;
    let place = |(name, switch): (&Name, &std::sync::Arc<bulkhead_policy::model::Switch>)| SwitchPlace {
        name: name.to_string(),
        role: match switch.role {
            Role::Hypervisor => "hypervisor",
            Role::Leaf => "leaf",
            Role::Spine => "spine",
        }
        .into(),
        connected: core.is_connected(name),
        edge: state.is_edge(name),
    };
    TopologyAnswer {
        revision: accepted.revision,
        switches: state.switches.iter().map(place).collect(),
        links: links.into_iter().map(link).collect(),
        foreign_lldp: foreign.into_iter().map(lldp).collect(),
    }
}

/// Links that are up in a number, the others each.
pub(crate) fn in_short(topology: TopologyView) -> LinksInShort {
    let (up, rest): (Vec<_>, Vec<_>) = topology.links.into_iter().partition(|link| link.state == LinkState::Up);
    LinksInShort {
        up: up.len() as u64,
        not_up: rest.into_iter().map(link).collect(),
        foreign_lldp: topology.foreign.into_iter().map(lldp).collect(),
    }
}

fn link(view: LinkView) -> LinkStatus {
    let end = |at: Attachment| LinkEnd { switch: at.switch.to_string(), port: at.port.to_string() };
    let state = match view.state {
        LinkState::Up => "up",
        LinkState::Down => "down",
        LinkState::Unknown => "unknown",
        LinkState::Conflict => "conflict",
    };
    LinkStatus {
        name: view.declared.map(|name| name.to_string()),
        a: end(view.a),
        b: end(view.b),
        discovered: view.discovered,
        state: state.into(),
        why: view.why,
    }
}

fn lldp(found: Foreign) -> ForeignLldp {
    let (switch, port) = (found.at.switch.to_string(), found.at.port.to_string());
    ForeignLldp { switch, port, frames: found.frames, sender: found.sender }
}
