//! The physical fabric: what the programs of a fat tree cost, and what the loss of one of its links does.

use crate::fabric;
use anyhow::{Context, Result};
use bulkhead_compile::{Compiler, Numbers};
use bulkhead_policy::{
    Change, Resource,
    model::{Adjacency, Attachment, FabricPort, Passage},
};
use bulkhead_topology::{Name, Port};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Instant};

/// The switches of a fat tree by name, with their roles, and the links between them (Al-Fares et al., SIGCOMM 2008).
struct FatTree {
    roles: BTreeMap<String, &'static str>,
    links: Vec<(String, String)>,
}

impl FatTree {
    /// Of switches with so many ports: `5k²/4` of them.
    fn new(ports: usize) -> Self {
        let half = ports / 2;
        let (mut roles, mut links) = (BTreeMap::new(), Vec::new());
        for pod in 0..ports {
            for at in 0..half {
                // Roles have three levels: edges stand below what is in the middle.
                roles.insert(format!("edge-{pod}-{at}"), "hypervisor");
                roles.insert(format!("middle-{pod}-{at}"), "leaf");
                links.extend((0..half).map(|to| (format!("edge-{pod}-{at}"), format!("middle-{pod}-{to}"))));
                links.extend((0..half).map(|to| (format!("middle-{pod}-{at}"), format!("core-{at}-{to}"))));
            }
        }
        roles.extend((0..half * half).map(|core| (format!("core-{}-{}", core / half, core % half), "spine")));
        Self { roles, links }
    }

    /// What each switch is connected to; no packets pass by the links in `down`.
    fn adjacencies(&self, down: &[usize]) -> Result<BTreeMap<Name, Change>> {
        let mut ports: BTreeMap<&str, Vec<FabricPort>> = BTreeMap::new();
        for (number, (a, b)) in self.links.iter().enumerate() {
            for (near, far) in [(a, b), (b, a)] {
                let heard = Attachment { switch: far.parse()?, port: Port::Name(near.as_str().into()) };
                let of = ports.entry(near).or_default();
                let passes = if down.contains(&number) { Passage::Nothing } else { Passage::Both };
                let (name, count) = (far.as_str().into(), u32::try_from(of.len())?);
                of.push(FabricPort { name, number: count + 1, passes, heard: Some(heard) });
            }
        }
        let change = |(name, mut ports): (&str, Vec<FabricPort>)| -> Result<(Name, Change)> {
            ports.sort();
            let name: Name = name.parse()?;
            let adjacency = Adjacency { name: name.clone(), ports };
            Ok((name, Change::set(Resource::Adjacency(adjacency.into()))))
        };
        ports.into_iter().map(change).collect()
    }
}

/// One workload on each edge, and a network for each pod.
fn documents(tree: &FatTree, ports: usize) -> Vec<Value> {
    let network = |pod: usize| {
        json!({"kind": "Network", "metadata": {"name": format!("pod-{pod}")},
               "spec": {"vni": 100 + pod, "subnets": ["10.0.0.0/8"]}})
    };
    let workload = |pod: usize, at: usize| {
        json!({"kind": "Workload", "metadata": {"name": format!("w-{pod}-{at}"), "labels": {"app": "x"}},
               "spec": {"network": format!("pod-{pod}"), "interfaces": [{
                   "mac": format!("02:00:00:00:{pod:02x}:{at:02x}"), "ips": [format!("10.0.{pod}.{at}")],
                   "attachment": {"switch": format!("edge-{pod}-{at}"), "port": "w"}}]}})
    };
    let switch = |(name, role): (&String, &&str)| json!({"kind": "Switch", "metadata": {"name": name}, "spec": {"driver": "sim", "role": role}});
    let workloads = (0..ports).flat_map(|pod| (0..ports / 2).map(move |at| (pod, at)));
    let networks = (0..ports).map(network);
    networks.chain(tree.roles.iter().map(switch)).chain(workloads.map(|(pod, at)| workload(pod, at))).collect()
}

/// Measures a fat tree of switches with so many ports.
pub(crate) fn measure(ports: usize) -> Result<Value> {
    let tree = FatTree::new(ports);
    let mut state = fabric::state(&documents(&tree, ports))?;
    let whole = tree.adjacencies(&[])?;
    let heard: Vec<Change> = whole.values().cloned().collect();
    let began = Instant::now();
    Compiler::new(&state, Numbers::default())?;
    let without = began.elapsed();
    state.apply(&heard);
    let began = Instant::now();
    let (mut compiler, _) = Compiler::new(&state, Numbers::default())?;
    let nothing = began.elapsed();
    let programs = tree.roles.keys().map(|name| anyhow::Ok(compiler.program(&name.parse()?).map_or(0, |p| p.len())));
    let entries: usize = programs.sum::<Result<usize>>()?;
    let mut losses = Vec::new();
    for (what, far) in [("edge to middle", "middle-"), ("middle to core", "core-")] {
        let lost = tree.links.iter().position(|(_, b)| b.starts_with(far)).context("no such link")?;
        let (a, b) = tree.links.get(lost).context("no such link")?;
        let down = tree.adjacencies(&[lost])?;
        let ends = |of: &BTreeMap<Name, Change>| -> Result<Vec<Change>> {
            [a, b].iter().map(|name| of.get(name.as_str()).cloned().context("no such switch")).collect()
        };
        let began = Instant::now();
        let gone = compiler.apply(&ends(&down)?)?;
        let loss = began.elapsed();
        let began = Instant::now();
        compiler.apply(&ends(&whole)?)?;
        let back = began.elapsed();
        losses.push(json!({
            "link": what,
            "lostMilliseconds": loss.as_secs_f64() * 1e3,
            "backMilliseconds": back.as_secs_f64() * 1e3,
            "switchesChanged": gone.deltas.len(),
            "entriesChanged": gone.deltas.values().map(|delta| delta.add.len() + delta.remove.len()).sum::<usize>(),
        }));
    }
    Ok(json!({
        "switches": tree.roles.len(),
        "edges": ports * ports / 2,
        "links": tree.links.len(),
        "entries": entries,
        "fromNothingMilliseconds": nothing.as_millis(),
        "withoutLinksMilliseconds": without.as_millis(),
        "oneLink": losses,
    }))
}
