//! The fabric that is measured: many small applications, each fenced in by its own policies, and some rules for all.

use bulkhead_client::Client;
use bulkhead_policy::{Change, State};
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// The measured switch.
pub(crate) const SWITCH: &str = "hv1";
/// Its datapath id.
pub(crate) const DATAPATH: u64 = 0xb1;
/// Workloads that are plugged into it; all others have no attachment.
pub(crate) const LOCAL: usize = 50;
/// Workloads of one application.
const TEAM: usize = 4;
/// Policies that select every workload.
const FABRIC_WIDE: usize = 100;
/// What an application's workloads are.
const ROLES: [&str; TEAM] = ["web", "app", "app", "db"];
/// An application's own policies: whom they are about, who may reach those, and where.
const RULES: [(&str, &str, u16); 3] = [("web", "gateway", 443), ("app", "web", 8080), ("db", "app", 5432)];

/// Network and switch.
pub(crate) fn base() -> [Value; 2] {
    [
        json!({"kind": "Network", "metadata": {"name": "prod"}, "spec": {"vni": 5001, "subnets": ["10.0.0.0/8"]}}),
        json!({"kind": "Switch", "metadata": {"name": SWITCH},
               "spec": {"driver": "openflow", "datapathId": format!("{DATAPATH:#x}")}}),
    ]
}

/// The port of a workload on the switch.
pub(crate) fn port(index: usize) -> String {
    format!("p{index}")
}

/// One workload; its labels are those of its application and role.
pub(crate) fn workload(index: usize, attached: bool) -> Value {
    // The first address is 10.0.1.0: a new workload never takes one that another has.
    let ip = Ipv4Addr::from(0x0a00_0100 + index as u32);
    let [a, b, c, d] = (index as u32).to_be_bytes();
    let mut interface = json!({"mac": format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}"), "ips": [ip.to_string()]});
    if let (true, Some(fields)) = (attached, interface.as_object_mut()) {
        fields.insert("attachment".into(), json!({"switch": SWITCH, "port": port(index)}));
    }
    let labels = json!({"ns": format!("ns-{}", index / TEAM), "role": ROLES[index % TEAM], "env": "prod"});
    json!({"kind": "Workload", "metadata": {"name": format!("w-{index}"), "labels": labels},
           "spec": {"network": "prod", "interfaces": [interface]}})
}

/// One of the policies of an application, with its port moved by `shift`: an edit.
pub(crate) fn policy(team: usize, rule: usize, shift: u16) -> Value {
    let (subject, peer, port) = RULES[rule];
    let ns = format!("ns-{team}");
    json!({"kind": "Policy", "metadata": {"name": format!("{ns}-{subject}")}, "spec": {
        "subject": {"matchLabels": {"ns": ns, "role": subject}},
        "ingress": [{"action": "allow", "from": [{"matchLabels": {"ns": ns, "role": peer}}],
                     "ports": [{"protocol": "tcp", "port": port + shift}]}]}})
}

/// A policy about ten identities with ten others as peers, all on the measured switch.
pub(crate) fn wide_policy(port: u16) -> Value {
    let of = |role: &str| {
        let teams: Vec<_> = (0..10).map(|team| format!("ns-{team}")).collect();
        json!({"matchLabels": {"role": role}, "matchExpressions": [{"key": "ns", "operator": "In", "values": teams}]})
    };
    json!({"kind": "Policy", "metadata": {"name": "wide"}, "spec": {
        "subject": of("db"),
        "ingress": [{"action": "allow", "from": [of("web")], "ports": [{"protocol": "tcp", "port": port}]}]}})
}

fn fabric_wide(number: usize) -> Value {
    json!({"kind": "Policy", "metadata": {"name": format!("all-{number}")}, "spec": {
        "tier": "platform", "subject": {"matchLabels": {"env": "prod"}},
        "ingress": [{"action": "allow", "from": [{"cidr": format!("192.0.2.{number}/32")}],
                     "ports": [{"protocol": "tcp", "port": 9000 + number}]}]}})
}

/// How many policies select one of the first `local` workloads.
pub(crate) fn policies_about(local: usize) -> usize {
    FABRIC_WIDE + local.div_ceil(TEAM) * RULES.len()
}

/// Every document of a fabric of this many workloads, made one at a time.
pub(crate) fn each(workloads: usize) -> impl Iterator<Item = Value> {
    with_local(workloads, LOCAL)
}

/// As [`each`], with so many workloads at the switch.
pub(crate) fn with_local(workloads: usize, local: usize) -> impl Iterator<Item = Value> {
    let teams = workloads / TEAM;
    let policies = (0..teams).flat_map(|team| (0..RULES.len()).map(move |rule| policy(team, rule, 0)));
    let workloads = (0..workloads).map(move |index| workload(index, index < local));
    base().into_iter().chain(workloads).chain(policies).chain((0..FABRIC_WIDE).map(fabric_wide))
}

/// Every document of a fabric of this many workloads.
pub(crate) fn documents(workloads: usize) -> Vec<Value> {
    each(workloads).collect()
}

/// Documents in one request to the controller.
const BATCH: usize = 5_000;

/// Gives a controller the fabric, in as many changes as its size takes; the last one's revision.
pub(crate) fn upload(client: &Client, workloads: usize) -> anyhow::Result<u64> {
    let (mut revision, mut batch) = (0, Vec::with_capacity(BATCH));
    let mut documents = each(workloads).peekable();
    while let Some(document) = documents.next() {
        batch.push(document);
        if batch.len() == BATCH || documents.peek().is_none() {
            revision = client.apply(&batch, false)?.revision;
            batch.clear();
        }
    }
    Ok(revision)
}

/// A document as a change.
pub(crate) fn change(document: &Value) -> anyhow::Result<Change> {
    let resource = bulkhead_types::load(&document.to_string());
    resource.map(Change::set).map_err(|found| anyhow::anyhow!("{document}: {found:?}"))
}

/// The state of these documents.
pub(crate) fn state(documents: &[Value]) -> anyhow::Result<State> {
    let changes = documents.iter().map(change).collect::<anyhow::Result<Vec<_>>>()?;
    let mut state = State::default();
    state.apply(&changes);
    Ok(state)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_fabric_is_valid_and_has_what_it_says() {
        let documents = documents(100);
        let changes: Vec<_> = documents.iter().map(|document| change(document).unwrap()).collect();
        assert_eq!(State::default().check(&changes), Vec::new());
        let state = state(&documents).unwrap();
        assert_eq!((state.workloads.len(), state.policies.len()), (100, 75 + FABRIC_WIDE));
        assert_ne!(change(&policy(0, 1, 0)).unwrap(), change(&policy(0, 1, 1)).unwrap());
    }
}
