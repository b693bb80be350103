//! Durable numbers: the last one of a kind is the last, and what was given is not given again (A39, A23).

use bulkhead_compile::{Compiler, Numbers};
use bulkhead_pipeline::render_program;
use bulkhead_policy::{
    Change, Kind, Resource, State,
    model::{
        Action, Attachment, DefaultAction, Driver, Encap, Interface, Network, OnTighten, Peer, Policy, Port, Role,
        Rule, Sides, Subject, Switch, Tier, Workload,
    },
};
use bulkhead_topology::{DatapathId, Labels, Mac, Name, Selector, Vni};
use std::{collections::BTreeMap, sync::Arc};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn network(number: u8) -> Change {
    Change::set(Resource::Network(Arc::new(Network {
        name: name(&format!("net{number}")),
        vni: Vni::new(u32::from(number)).unwrap(),
        subnets: vec![format!("10.{number}.0.0/16").parse().unwrap()],
        encap: Encap::Geneve,
        default_action: DefaultAction::Deny,
        on_tighten: OnTighten::Revoke,
        uplinks: Vec::new(),
        gateways: Vec::new(),
        multicast: Vec::new(),
        learn_workloads: false,
    })))
}

fn workload(app: &str) -> Change {
    let labels: Labels = [("app".into(), app.into())].into();
    Change::set(Resource::Workload(Arc::new(Workload {
        name: name("w"),
        labels: Arc::new(labels),
        network: name("net1"),
        interfaces: vec![Interface {
            mac: Mac([2, 0, 0, 0, 0, 1]),
            ips: vec![[10, 1, 0, 1].into()],
            attachment: Some(Attachment { switch: name("hv1"), port: Port::Name("w".into()) }),
        }],
        named_ports: Default::default(),
    })))
}

/// A switch, a network and a workload; and the numbers, as if others had taken all but a few before.
fn nearly_used_up(kind: &str, next: u32) -> (State, Compiler) {
    let driver = Driver::Openflow(DatapathId(1));
    let switch = Switch { name: name("hv1"), driver, vtep: None, role: Role::Hypervisor, ovsdb: None };
    let mut state = State::default();
    state.apply(&[Change::set(Resource::Switch(Arc::new(switch)))]);
    let numbers: Numbers = [(format!("next/{kind}").into(), next)].into_iter().collect();
    let (compiler, _) = Compiler::new(&state, numbers).unwrap();
    (state, compiler)
}

fn apply(state: &mut State, compiler: &mut Compiler, change: Change) -> Result<(), String> {
    let change = [change];
    let mut after = state.clone();
    after.apply(&change);
    compiler.apply(&change).map_err(|error| error.to_string())?;
    *state = after;
    Ok(())
}

#[test]
fn a39_a_network_beyond_the_last_number_is_refused_and_nothing_else_changes() {
    // Numbers of networks are conntrack zones: 16 bits.
    let (mut state, mut compiler) = nearly_used_up("network", 0xfffe);
    apply(&mut state, &mut compiler, network(1)).unwrap();
    apply(&mut state, &mut compiler, network(2)).unwrap();
    apply(&mut state, &mut compiler, workload("a")).unwrap();
    let program = |compiler: &Compiler| render_program(compiler.program(&name("hv1")).unwrap());
    let before = program(&compiler);
    let error = apply(&mut state, &mut compiler, network(3)).unwrap_err();
    assert!(error.contains("network") && error.contains("65535"), "{error}");
    assert_eq!(program(&compiler), before);
    // Room is not made by taking one away: what it was called may still be on a switch. It may come back itself.
    apply(&mut state, &mut compiler, Change::remove(Kind::Network.named(&name("net2")))).unwrap();
    compiler.forget();
    apply(&mut state, &mut compiler, network(3)).unwrap_err();
    apply(&mut state, &mut compiler, network(2)).unwrap();
    assert_eq!(program(&compiler), before);
}

#[test]
fn a39_an_identity_beyond_the_last_number_is_refused_and_none_is_given_again() {
    let (mut state, mut compiler) = nearly_used_up("identity", u32::MAX - 2);
    apply(&mut state, &mut compiler, network(1)).unwrap();
    apply(&mut state, &mut compiler, workload("a")).unwrap();
    apply(&mut state, &mut compiler, workload("b")).unwrap();
    let number = |compiler: &Compiler| -> Vec<u32> {
        compiler.numbers().iter().filter(|(name, _)| name.starts_with("identity/")).map(|(_, number)| number).collect()
    };
    // The one that nobody has any more is forgotten, and its number stays given.
    compiler.forget();
    assert_eq!(number(&compiler), [u32::MAX - 1]);
    let error = apply(&mut state, &mut compiler, workload("c")).unwrap_err();
    assert!(error.contains("identity"), "{error}");
    apply(&mut state, &mut compiler, workload("a")).unwrap_err();
    // Who has the last one keeps it.
    apply(&mut state, &mut compiler, workload("b")).unwrap();
    assert_eq!(number(&compiler), [u32::MAX - 1]);
}

/// A workload of its own labels.
fn other(n: u8) -> Change {
    let Some(Resource::Workload(workload)) = workload(&format!("other{n}")).value else { panic!() };
    let mut workload = Arc::unwrap_or_clone(workload);
    workload.name = name(&format!("w{n}"));
    workload.interfaces[0] = Interface {
        mac: Mac([2, 0, 0, 0, 1, n]),
        ips: vec![[10, 1, 1, n].into()],
        attachment: Some(Attachment { switch: name("hv1"), port: Port::Name(format!("w{n}").into()) }),
    };
    Change::set(Resource::Workload(Arc::new(workload)))
}

fn policy(rules: usize) -> Change {
    let rule = Rule {
        name: "".into(),
        action: Action::Allow,
        priority: 0,
        peers: Some(vec![Peer::Selector(Selector::of([("app", "b")]))]),
        ports: None,
        log: false,
    };
    Change::set(Resource::Policy(Arc::new(Policy {
        name: name(&format!("p{rules}")),
        tier: Tier::Application,
        priority: 1000,
        staged: false,
        stateful: false,
        subject: Subject::Selector(Selector::of([("app", "a")])),
        isolate: Sides { ingress: true, egress: false },
        ingress: vec![rule; rules],
        egress: Vec::new(),
    })))
}

/// What a refused change was given first, others get afterwards; and only what was accepted was ever stored.
#[test]
fn a_refused_change_uses_no_number_up_and_a_restart_finds_every_number() {
    for (kind, next, refused) in [
        ("identity", u32::MAX - 3, vec![network(2), other(1), other(2), other(3)]),
        ("rule", 0xff_fffd, vec![network(2), policy(3)]),
    ] {
        let (mut state, mut compiler) = nearly_used_up(kind, next);
        let mut stored: BTreeMap<Arc<str>, u32> = compiler.numbers().iter().map(|(n, v)| (n.clone(), v)).collect();
        let mut accept = |state: &mut State, compiler: &mut Compiler, changes: &[Change]| {
            state.apply(changes);
            for (name, number) in compiler.apply(changes).unwrap().numbers {
                stored.insert(name, number.unwrap());
            }
            stored.clone()
        };
        let program = |compiler: &Compiler| render_program(compiler.program(&name("hv1")).unwrap());
        accept(&mut state, &mut compiler, &[network(1), workload("a")]);
        let before = (compiler.numbers().clone(), program(&compiler));
        let mut after = state.clone();
        after.apply(&refused);
        let error = compiler.apply(&refused).unwrap_err().to_string();
        assert!(error.contains(kind), "{error}");
        assert_eq!((compiler.numbers().clone(), program(&compiler)), before, "{kind}");
        let stored = accept(&mut state, &mut compiler, &[network(3), other(2), policy(2)]);
        assert_eq!(stored["network/net3"], 2);
        let (anew, compiled) = Compiler::new(&state, stored.clone().into_iter().collect()).unwrap();
        assert_eq!(compiled.numbers, [], "{kind}: numbers were not stored");
        assert_eq!(program(&anew), program(&compiler), "{kind}");
        assert_eq!(anew.numbers(), compiler.numbers(), "{kind}");
    }
}

/// A change that is only tried, with what takes it back.
#[test]
fn a_change_that_is_withdrawn_uses_no_number_up() {
    let (mut state, mut compiler) = nearly_used_up("network", 0xfffe);
    apply(&mut state, &mut compiler, network(1)).unwrap();
    let before = (compiler.numbers().clone(), render_program(compiler.program(&name("hv1")).unwrap()));
    for n in 2..200 {
        let change = [network(n), workload("a"), policy(1)];
        let back: Vec<Change> = change.iter().map(|c| Change { key: c.key.clone(), value: None }).collect();
        let compiled = compiler.apply(&change).unwrap();
        compiler.withdraw(&back, &compiled.numbers).unwrap();
    }
    assert_eq!((compiler.numbers().clone(), render_program(compiler.program(&name("hv1")).unwrap())), before);
}
