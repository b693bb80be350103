//! What would not fit is refused before anything is sent, and the compiler stays as it was.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_compile::Compiler;
use bulkhead_pipeline::render_program;
use bulkhead_policy::{
    Change, Resource, State,
    model::{
        Action, Attachment, DefaultAction, Driver, Encap, Interface, Network, OnTighten, Peer, Policy, Port, PortMatch,
        Role, Rule, Sides, Subject, Switch, Tier, Workload,
    },
};
use bulkhead_topology::{DatapathId, Labels, Mac, Name, Selector, Vni};
use std::sync::Arc;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn fabric() -> State {
    let network = Network {
        name: name("net"),
        vni: Vni::new(1).unwrap(),
        subnets: vec!["10.0.0.0/24".parse().unwrap()],
        encap: Encap::Geneve,
        default_action: DefaultAction::Deny,
        on_tighten: OnTighten::Revoke,
        uplinks: Vec::new(),
    };
    let switch = Switch {
        name: name("hv1"),
        driver: Driver::Openflow(DatapathId(1)),
        vtep: None,
        role: Role::Hypervisor,
        ovsdb: None,
    };
    let mut changes =
        vec![Change::set(Resource::Network(Arc::new(network))), Change::set(Resource::Switch(Arc::new(switch)))];
    for number in 1..=5u8 {
        let labels: Labels = [("n".into(), number.to_string().into())].into();
        let workload = Workload {
            name: name(&format!("w{number}")),
            labels: Arc::new(labels),
            network: name("net"),
            interfaces: vec![Interface {
                mac: Mac([2, 0, 0, 0, 0, number]),
                ips: vec![[10, 0, 0, number].into()],
                attachment: (number == 1).then(|| Attachment { switch: name("hv1"), port: Port::Name("w1".into()) }),
            }],
            named_ports: Default::default(),
        };
        changes.push(Change::set(Resource::Workload(Arc::new(workload))));
    }
    let mut state = State::default();
    state.apply(&changes);
    state
}

/// A policy of rules that share a subject and four peers and differ in their ports.
fn policy(rules: u16) -> Change {
    let rule = |number: u16| Rule {
        name: "".into(),
        action: Action::Allow,
        priority: 0,
        peers: Some(vec![Peer::Selector(Selector::everything())]),
        ports: Some(vec![PortMatch::Ports { protocol: 6, first: number * 8 + 1, last: number * 8 + 7 }]),
        log: false,
    };
    Change::set(Resource::Policy(Arc::new(Policy {
        name: name("many"),
        tier: Tier::Application,
        priority: 1000,
        staged: false,
        subject: Subject::Selector(Selector::of([("n", "1")])),
        isolate: Sides { ingress: true, egress: false },
        ingress: (0..rules).map(rule).collect(),
        egress: Vec::new(),
    })))
}

#[test]
fn a36_conjunctions_too_large_for_one_message_are_refused() {
    let mut state = fabric();
    let (mut compiler, _) = Compiler::new(&state, Default::default()).unwrap();
    let few = [policy(10)];
    state.apply(&few);
    compiler.apply(&state, &few).unwrap();
    let before = render_program(compiler.program(&name("hv1")).unwrap());
    assert!(before.contains("clause"), "the rules share their sets:\n{before}");

    let many = [policy(3_600)];
    let mut after = state.clone();
    after.apply(&many);
    let error = compiler.apply(&after, &many).unwrap_err();
    assert_eq!((error.size, error.limit), (3_600, 3_500), "{error}");
    assert_eq!(render_program(compiler.program(&name("hv1")).unwrap()), before);

    // What was there still follows changes.
    compiler.apply(&state, &few).unwrap();
    assert_eq!(render_program(compiler.program(&name("hv1")).unwrap()), before);
}
