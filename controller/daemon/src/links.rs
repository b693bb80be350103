//! Links and ways, as the API tells them.

use bulkhead_policy::{
    State,
    model::{Attachment, Role},
};
use bulkhead_runtime::{At, By, Core, Foreign, LearnView, LinkState, LinkView, Part, Paths, PortView, TopologyView};
use bulkhead_topology::{Name, graph::End};
use bulkhead_types::{
    ForeignLldp, LearningStatus, LinkEnd, LinkStatus, LinksInShort, NetworkApart, NetworkPart, NotLearned, PathAnswer,
    PathHop, PathQuestion, PortStatus, PortsAnswer, SwitchPlace, TopologyAnswer,
};
use std::collections::BTreeMap;

/// What says that a name is a switch's.
const SWITCH: &str = "switch:";

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

/// The ports of a switch; `None` if it is not declared.
pub(crate) fn ports(core: &Core, switch: &str) -> Option<PortsAnswer> {
    let (name, _) =
        core.accepted().state.switches.get_key_value(switch).map(|(name, at)| (name.clone(), at.clone()))?;
    let port = |PortView { state, at }: PortView| {
        let (at, of) = match at {
            At::Workload(name) => ("workload", name.to_string()),
            At::Uplink(networks) => ("uplink", networks.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")),
            At::Link(far, state) => ("link", format!("{}:{} {}", far.switch, far.port, word(state))),
            At::Tunnel => ("tunnel", String::new()),
            At::Host => ("host", String::new()),
            At::Quarantine(workload) => ("quarantine", workload),
            At::Nobody => ("nobody", String::new()),
        };
        let name = state.name.map(|name| name.to_string());
        PortStatus { name, number: state.number, up: state.up, at: at.into(), of }
    };
    let ports = core.ports(&name).into_iter().map(port).collect();
    Some(PortsAnswer { connected: core.is_connected(&name), switch: name.to_string(), ports })
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

/// Networks in parts.
pub(crate) fn apart(apart: BTreeMap<Name, Vec<Part>>) -> Vec<NetworkApart> {
    let part = |Part { by, switches }: Part| NetworkPart {
        by: match by {
            By::Tunnels { .. } => "tunnels",
            By::Links => "links",
        }
        .into(),
        switches: switches.into_iter().map(|switch| switch.to_string()).collect(),
    };
    let one = |(network, parts): (Name, Vec<Part>)| NetworkApart {
        network: network.to_string(),
        parts: parts.into_iter().map(part).collect(),
    };
    apart.into_iter().map(one).collect()
}

/// What was learned; none if there is nothing to tell.
pub(crate) fn learning(view: LearnView) -> Option<LearningStatus> {
    if view == LearnView::default() {
        return None;
    }
    let refused = |(why, (count, last)): (bulkhead_runtime::NotLearned, (u64, String))| NotLearned {
        why: why.as_str().into(),
        count,
        last,
    };
    Some(LearningStatus {
        network: view.network.map(|name| name.to_string()),
        workloads: view.workloads as u64,
        switches: view.switches as u64,
        refused: view.refused.into_iter().map(refused).collect(),
    })
}

/// The ways between two.
pub(crate) fn path(core: &Core, question: &PathQuestion) -> Result<PathAnswer, String> {
    let accepted = core.accepted();
    let state = &accepted.state;
    let [from, to] = [&question.from, &question.to].map(|text| place(state, text));
    let (from, to) = (from?, to?);
    let Paths { count, steps } = core.paths(&from, &to);
    let has_vtep = |name: &Name| state.switches.get(name).is_some_and(|switch| switch.vtep.is_some());
    let (found, why) = match (from == to, count, has_vtep(&from), has_vtep(&to)) {
        (true, ..) => (true, "both are at the same switch"),
        (_, 1.., ..) => (true, ""),
        (_, _, true, true) => (true, "both have VTEP addresses: a tunnel leads from one to the other"),
        (_, _, false, false) if !state.is_edge(&to) => {
            (false, "nobody is attached where it ends: nothing is carried there")
        }
        (_, _, false, false) => (false, "no links that are up lead from one to the other"),
        _ => (false, "one has a VTEP address and the other has not: they do not reach each other"),
    };
    let end = |end: End| LinkEnd { switch: end.switch.to_string(), port: end.port.to_string() };
    let hop = |(near, far): (End, End)| PathHop { from: end(near), to: end(far) };
    Ok(PathAnswer {
        from: question.from.clone(),
        to: question.to.clone(),
        from_switch: from.to_string(),
        to_switch: to.to_string(),
        found,
        paths: count,
        steps: steps.into_iter().map(|step| step.into_iter().map(hop).collect()).collect(),
        why: why.into(),
    })
}

/// The switch that a workload is at, or that is named itself.
fn place(state: &State, text: &str) -> Result<Name, String> {
    let name = text.strip_prefix(SWITCH).unwrap_or(text);
    if name == text
        && let Some(workload) = state.workloads.get(text)
    {
        let at = workload.interfaces.iter().find_map(|interface| state.attachment(workload, interface));
        let at = at.ok_or_else(|| format!("workload {text} is attached nowhere"))?;
        return Ok(at.switch);
    }
    match state.switches.get_key_value(name) {
        Some((name, _)) => Ok(name.clone()),
        None if name == text => Err(format!("there is no workload and no switch `{name}`")),
        None => Err(format!("there is no switch `{name}`")),
    }
}

fn link(view: LinkView) -> LinkStatus {
    let end = |at: Attachment| LinkEnd { switch: at.switch.to_string(), port: at.port.to_string() };
    LinkStatus {
        name: view.declared.map(|name| name.to_string()),
        a: end(view.a),
        b: end(view.b),
        discovered: view.discovered,
        state: word(view.state).into(),
        why: view.why,
    }
}

fn word(state: LinkState) -> &'static str {
    match state {
        LinkState::Up => "up",
        LinkState::Down => "down",
        LinkState::Unknown => "unknown",
        LinkState::Conflict => "conflict",
    }
}

fn lldp(found: Foreign) -> ForeignLldp {
    let (switch, port) = (found.at.switch.to_string(), found.at.port.to_string());
    ForeignLldp { switch, port, frames: found.frames, sender: found.sender }
}
