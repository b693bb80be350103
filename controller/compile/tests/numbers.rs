//! Durable numbers: the last one of a kind is the last, and what was given is not given again (A39, A23).
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_compile::{Compiler, Numbers};
use bulkhead_pipeline::render_program;
use bulkhead_policy::{
    Change, Kind, Resource, State,
    model::{Attachment, DefaultAction, Driver, Encap, Interface, Network, OnTighten, Port, Role, Switch, Workload},
};
use bulkhead_topology::{DatapathId, Labels, Mac, Name, Vni};
use std::sync::Arc;

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
    compiler.apply(&after, &change).map_err(|error| error.to_string())?;
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
