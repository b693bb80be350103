//! What the compiler keeps beside its programs, after changes and after refused ones.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use super::{places::attached, *};
use bulkhead_pipeline::carry::MAX_EDGE;
use bulkhead_policy::{
    arbitrary::{state, steps, try_apply},
    overlay::Tunnel,
};
use proptest::prelude::*;

/// Every index, made anew from what it is an index of.
fn consistent(compiler: &Compiler) {
    let mut on: BTreeMap<u32, BTreeSet<&Name>> = BTreeMap::new();
    for (name, switch) in &compiler.switches {
        for (rule, _) in switch.rules.keys() {
            on.entry(*rule).or_default().insert(name);
            assert!(compiler.rules.contains_key(rule), "rule {rule} on {name} is nobody's");
        }
    }
    let kept: BTreeMap<_, BTreeSet<_>> =
        compiler.rule_on.iter().map(|(rule, on)| (*rule, on.iter().collect())).collect();
    assert_eq!(kept, on, "rule_on");

    let mut plugged: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    let mut members: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    let mut locals: BTreeMap<&Name, BTreeSet<u32>> = BTreeMap::new();
    for (name, (workload, identity)) in &compiler.workloads {
        members.entry(workload.network.clone()).or_default().insert(name.clone());
        for switch in attached(workload) {
            plugged.entry(switch.clone()).or_default().insert(name.clone());
            locals.entry(switch).or_default().insert(*identity);
            if compiler.fabric.has_guests(switch) {
                for place in
                    compiler.fabric.present(&workload.network).filter(|place| !compiler.fabric.has_guests(place))
                {
                    locals.entry(place).or_default().insert(*identity);
                }
            }
        }
    }
    assert_eq!(compiler.plugged, plugged);
    assert_eq!(compiler.members, members);
    let kept: BTreeMap<_, BTreeSet<_>> =
        compiler.locals.iter().map(|(switch, locals)| (switch, locals.iter().copied().collect())).collect();
    assert_eq!(kept, locals);

    let mut uplinked: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    for (name, (network, _)) in &compiler.networks {
        for uplink in &network.uplinks {
            uplinked.entry(uplink.at.switch.clone()).or_default().insert(name.clone());
        }
    }
    assert_eq!(compiler.uplinked, uplinked);

    assert_eq!(compiler.fabric.tunnels, tunnels(compiler));

    let mut isolating: BTreeMap<u32, BTreeSet<_>> = BTreeMap::new();
    for policy in compiler.policies.values() {
        isolating.entry(policy.subject).or_default().extend(policies::isolations(&policy.policy));
    }
    for (id, group) in &compiler.index.groups {
        let kept: BTreeSet<_> = group.isolating.iter().cloned().collect();
        assert_eq!(kept, isolating.remove(id).unwrap_or_default(), "group {id}");
    }
}

/// The tunnels, and how many networks need each, counted anew.
fn tunnels(compiler: &Compiler) -> BTreeMap<(Name, Name), BTreeMap<Tunnel, u32>> {
    let mut all: BTreeMap<(Name, Name), BTreeMap<Tunnel, u32>> = BTreeMap::new();
    for (name, (network, _)) in &compiler.networks {
        let plugged = compiler.workloads.values().filter(|(workload, _)| workload.network == *name);
        let plugged = plugged.flat_map(|(workload, _)| attached(workload));
        let on: BTreeSet<&Name> = plugged.chain(network.uplinks.iter().map(|uplink| &uplink.at.switch)).collect();
        for (from, to) in on.iter().flat_map(|from| on.iter().map(move |to| (*from, *to))).filter(|(a, b)| a != b) {
            if let Some(tunnel) = compiler.fabric.tunnel(network, from, to) {
                *all.entry((from.clone(), to.clone())).or_default().entry(tunnel).or_default() += 1;
            }
        }
    }
    all
}

fn programs(compiler: &Compiler) -> BTreeMap<Name, Program> {
    compiler.switches.iter().map(|(name, switch)| (name.clone(), switch.program.clone())).collect()
}

/// The same numbers, none of which are left.
fn used_up(numbers: &Numbers) -> Numbers {
    let last = ["network", "identity", "rule", "policy", "zone", "prefix", "order"];
    let counters = last.map(|kind| (Arc::from(format!("next/{kind}")), u32::MAX));
    let edges = (1..=MAX_EDGE).map(|number| (Arc::from(format!("edge/none-{number}")), number));
    numbers.iter().map(|(name, number)| (name.clone(), number)).chain(counters).chain(edges).collect()
}

proptest! {
    // Each has a dozen steps.
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn refused_changes_leave_nothing_behind(mut state in state(), steps in steps(12)) {
        let (mut compiler, _) = Compiler::new(&state, Numbers::default()).unwrap();
        let mut told = compiler.take_tunnels();
        for (step, changes) in steps.iter().enumerate() {
            let before = state.clone();
            if !try_apply(&mut state, changes) {
                continue;
            }
            if step % 2 == 0 {
                // Whatever wants a number is refused, at whichever point it asks for it.
                let numbers = compiler.numbers.clone();
                compiler.numbers = used_up(&numbers);
                let was = programs(&compiler);
                let refused = compiler.apply(changes).is_err();
                consistent(&compiler);
                compiler.numbers = numbers;
                if refused {
                    prop_assert_eq!(programs(&compiler), was);
                    let anew = Compiler::new(&before, compiler.numbers.clone()).unwrap().0;
                    prop_assert_eq!(programs(&compiler), programs(&anew));
                } else {
                    continue;
                }
            }
            compiler.apply(changes).unwrap();
            consistent(&compiler);
            // Who is told of what changed knows it all.
            told.extend(compiler.take_tunnels());
            told.retain(|_, tunnels| !tunnels.is_empty());
            let all = tunnels(&compiler).into_iter().map(|(ends, counts)| (ends, counts.into_keys().collect()));
            prop_assert_eq!(&told, &all.collect());
        }
    }
}

fn changes(documents: &str) -> Vec<Change> {
    bulkhead_types::read(None, documents.as_bytes(), bulkhead_types::Format::Any).changes()
}

/// Network `n` with an uplink on each of the switches `a`, `b` and `c`, which have VTEPs, and a workload on `a`.
fn three_places(network: &str, label: &str) -> Vec<Change> {
    let mut text = String::new();
    let mut uplinks = Vec::new();
    for (n, switch) in ["a", "b", "c"].into_iter().enumerate() {
        text += &format!(
            "{{kind: Switch, metadata: {{name: {switch}}}, spec: {{driver: openflow, datapathId: \"{0:#x}\", vtep: 192.0.2.{0}}}}}\n---\n",
            n + 1
        );
        uplinks.push(format!("{{switch: {switch}, port: up}}"));
    }
    text += &format!(
        "{{kind: Network, metadata: {{name: n}}, spec: {{vni: 1, subnets: [10.0.0.0/8], uplinks: [{}], {network}}}}}\n---\n\
         {{kind: Workload, metadata: {{name: w, labels: {{x: {label}}}}}, spec: {{network: n, interfaces: [{{mac: \
         \"02:00:00:00:00:01\", ips: [10.0.0.1], attachment: {{switch: a, port: w}}}}]}}}}\n",
        uplinks.join(", ")
    );
    changes(&text)
}

#[test]
fn what_has_nothing_to_do_with_tunnels_looks_at_none() {
    let mut compiler = Compiler::default();
    compiler.apply(&three_places("encap: geneve", "a")).unwrap();
    assert_eq!(compiler.take_tunnels().len(), 6);
    for (network, label) in [
        ("encap: geneve, defaultAction: allow", "a"),
        ("encap: geneve, onTighten: persist", "b"),
        ("encap: geneve, gateways: [10.0.0.254]", "c"),
    ] {
        compiler.apply(&three_places(network, label)).unwrap();
        assert_eq!(compiler.take_tunnels(), BTreeMap::new(), "{network} {label}");
    }
    compiler.apply(&three_places("encap: vxlan", "c")).unwrap();
    assert_eq!(compiler.take_tunnels().len(), 6);
}

#[test]
fn what_cannot_be_taken_back_stops_the_compiler() {
    let network = |vni: u32| {
        changes(&format!("{{kind: Network, metadata: {{name: n}}, spec: {{vni: {vni}, subnets: [10.0.0.0/8]}}}}"))
    };
    let mut compiler = Compiler::default();
    compiler.apply(&network(1)).unwrap();
    // The number that the network has is gone: a fault of ours.
    compiler.numbers = used_up(&Numbers::default());
    let lost = compiler.apply(&network(2)).unwrap_err();
    assert!(lost.what.contains("nothing more is compiled"), "{lost}");
    assert_eq!(compiler.apply(&[]), Err(lost));
}
