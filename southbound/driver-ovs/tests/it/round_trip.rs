//! `lift(lower(e)) == e`, in memory and over the wire; and what is refused.

use crate::generate;
use bulkhead_driver_ovs::{
    Flow, FlowKey, Groups, LiftError, LowerError,
    layout::{COOKIE_MASK, COOKIE_OWNER, Cookie},
    lift, lower, lower_key,
};
use bulkhead_openflow::{FlowCommand, FlowMod, Msg};
use bulkhead_pipeline::{Action, Cause, Entry, Field, Match, Next, Output, Stage, ethertype};
use bulkhead_topology::Port;
use generate::{entry, ports};
use proptest::prelude::*;

/// The flow as a switch would have it from its message.
fn over_the_wire(flow: &Flow) -> Flow {
    let mut message = FlowMod::new(FlowCommand::Add);
    message.table = flow.key.table;
    message.priority = flow.key.priority;
    message.cookie = flow.cookie;
    message.matching = flow.key.matches.clone();
    message.instructions = flow.instructions.clone();
    let mut bytes = Vec::new();
    Msg::FlowMod(message).encode(1, &mut bytes);
    let Ok((_, Msg::FlowMod(got))) = Msg::decode(&bytes) else { panic!("not read back") };
    let key = FlowKey { table: got.table, priority: got.priority, matches: got.matching };
    Flow { key, cookie: got.cookie, instructions: got.instructions }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_entry_comes_back_as_it_went(entry in entry()) {
        let (ports, mut groups) = (ports(), Groups::default());
        let flow = lower(&entry, &ports, &mut groups).unwrap();
        prop_assert_eq!(flow.cookie & COOKIE_MASK, COOKIE_OWNER);
        prop_assert_eq!(&lower_key(&entry.key, &ports).unwrap(), &flow.key);
        prop_assert_eq!(&lift(&flow, &ports, &groups).unwrap(), &entry);
        prop_assert_eq!(&lift(&over_the_wire(&flow), &ports, &groups).unwrap(), &entry);
    }

    #[test]
    fn lifting_never_fails_badly(entry in entry(), cookie: u64, table: u8, dropped in 0usize..12) {
        let mut flow = lower(&entry, &ports(), &mut Groups::default()).unwrap();
        flow.cookie ^= cookie;
        flow.key.table = table;
        for instruction in &mut flow.instructions {
            if let bulkhead_openflow::Instruction::ApplyActions(actions) = instruction
                && dropped < actions.len()
            {
                actions.remove(dropped);
            }
        }
        let _ = lift(&flow, &ports(), &Groups::default());
    }
}

fn simple(matches: Match, actions: Vec<Action>, next: Next) -> Entry {
    Entry::new(Stage::Classify, 7, matches, actions, next, Cause::Rule(9))
}

fn refused(entry: &Entry) -> LowerError {
    lower(entry, &ports(), &mut Groups::default()).unwrap_err()
}

#[test]
fn a_sequence_that_lost_an_action_is_not_lifted() {
    for action in
        [Action::SwapEnds, Action::Recall, Action::RecallService, Action::Reject, Action::PushVlan(Field::InVlan)]
    {
        let flow =
            lower(&simple(Match::any(), vec![action.clone()], Next::Drop), &ports(), &mut Groups::default()).unwrap();
        let [bulkhead_openflow::Instruction::ApplyActions(actions)] = flow.instructions.as_slice() else {
            panic!("one instruction")
        };
        for at in 0..actions.len().saturating_sub(1) {
            let mut broken = actions.clone();
            broken.remove(at);
            let instructions = vec![bulkhead_openflow::Instruction::ApplyActions(broken)];
            let lifted = lift(&Flow { instructions, ..flow.clone() }, &ports(), &Groups::default());
            assert!(lifted.is_err_and(|error| matches!(error, LiftError::Action(_))), "{action:?} without {at}");
        }
    }
}

#[test]
fn what_cannot_be_written_is_refused_with_its_reason() {
    let v4 = || Match::any().with(Field::EthType, ethertype::IPV4);
    let name = |name: &str| Port::Name(name.into());
    let gone = simple(Match::any().port(name("gone")), vec![], Next::Drop);
    assert_eq!(refused(&gone), LowerError::Port(name("gone")));
    let gone = simple(Match::any(), vec![Action::SetOut(Port::Number(77))], Next::Drop);
    assert_eq!(refused(&gone), LowerError::Port(Port::Number(77)));
    let mixed = vec![Action::SetOut(Port::Number(1)), Action::Output(Output::Port(name("db-1")))];
    assert_eq!(refused(&simple(Match::any(), mixed, Next::Done)), LowerError::MixedPorts);
    let bare = simple(Match::any().with(Field::Ipv4Src, 1u32), vec![], Next::Drop);
    assert!(matches!(refused(&bare), LowerError::Prerequisite { field: Field::Ipv4Src, .. }));
    let bare = simple(v4(), vec![Action::ServiceFromDst], Next::Drop);
    assert!(matches!(refused(&bare), LowerError::Prerequisite { field: Field::L4Dst, .. }));
    let later = v4().with(Field::IpProto, 6u8).with(Field::IpFrag, 3u8).with(Field::L4Dst, 80u8);
    assert!(matches!(
        refused(&simple(later, vec![], Next::Drop)),
        LowerError::Prerequisite { field: Field::L4Dst, .. }
    ));
    let bare = simple(Match::any(), vec![Action::Commit], Next::Drop);
    assert!(matches!(refused(&bare), LowerError::Prerequisite { field: Field::Conn, .. }));
    let masked = simple(v4().masked(Field::IpProto, 6u8, 0xf), vec![], Next::Drop);
    assert_eq!(refused(&masked), LowerError::Mask(Field::IpProto));
    let fixed = simple(v4(), vec![Action::set(Field::IpProto, 6)], Next::Drop);
    assert_eq!(refused(&fixed), LowerError::NotSettable(Field::IpProto));
    let bare = simple(Match::any(), vec![Action::DecTtl], Next::Drop);
    assert!(matches!(refused(&bare), LowerError::Prerequisite { field: Field::IpTtl, .. }));
    let masked = simple(v4().masked(Field::IpTtl, 0u8, 0xfe), vec![], Next::Drop);
    assert_eq!(refused(&masked), LowerError::Mask(Field::IpTtl));
    let (from, to) = (Field::Service, Field::TunGbp);
    assert_eq!(refused(&simple(v4(), vec![Action::Copy { from, to }], Next::Drop)), LowerError::Widths { from, to });
    let wide = simple(v4(), vec![Action::set(Field::SrcLocal, 2)], Next::Drop);
    assert_eq!(refused(&wide), LowerError::TooWide { field: Field::SrcLocal, value: 2 });
    let untagged = simple(Match::any().with(Field::Vlan, 0u8), vec![Action::PopVlan], Next::Drop);
    assert!(matches!(refused(&untagged), LowerError::Prerequisite { field: Field::Vlan, .. }));
    let once = vec![Action::PushVlan(Field::OutVlan), Action::PopVlan, Action::PopVlan];
    assert!(matches!(refused(&simple(v4(), once, Next::Drop)), LowerError::Prerequisite { field: Field::Vlan, .. }));
    let service = simple(v4(), vec![Action::PushVlan(Field::Service)], Next::Drop);
    assert_eq!(refused(&service), LowerError::NotSettable(Field::Vlan));
    let choice = |ports: &[u32]| {
        let ports = ports.iter().copied().map(Port::Number).collect();
        simple(v4(), vec![Action::Output(Output::OneOf(ports))], Next::Done)
    };
    for (ports, many) in [(&[][..], 0), (&[1], 1), (&[2, 1], 2), (&[1, 1], 2)] {
        assert_eq!(refused(&choice(ports)), LowerError::Choice(many));
    }
    assert_eq!(refused(&choice(&[1, 77])), LowerError::Port(Port::Number(77)));
    let bits = |field, value, mask| simple(v4(), vec![Action::set_bits(field, value, mask)], Next::Drop);
    let two_runs = LowerError::Bits { field: Field::EthSrc, value: 1, mask: 5 };
    assert_eq!(refused(&bits(Field::EthSrc, 1, 5)), two_runs);
    assert!(matches!(refused(&bits(Field::EthSrc, 0, (1 << 48) - 1)), LowerError::Bits { .. }), "all of it");
    assert!(matches!(refused(&bits(Field::Ipv6Src, 0, 1)), LowerError::Prerequisite { .. }));
    assert_eq!(refused(&bits(Field::Network, 0, 1)), LowerError::NotSettable(Field::Network));
    let back = simple(v4(), vec![Action::Track], Next::Stage(Stage::Classify));
    assert_eq!(refused(&back), LowerError::Backwards(Stage::Classify));
    let after = simple(v4(), vec![Action::Track, Action::Commit], Next::Stage(Stage::Connection));
    assert_eq!(refused(&after), LowerError::AfterTracker);
    let clause = |k, n| simple(v4(), vec![Action::Clause { conjunction: 1, k, n }], Next::Done);
    assert_eq!(refused(&clause(4, 3)), LowerError::Clause { k: 4, n: 3 });
    assert_eq!(refused(&clause(1, 1)), LowerError::Clause { k: 1, n: 1 });
}

#[test]
fn a_port_without_its_name_comes_back_as_a_number_and_can_be_removed() {
    let (mut ports, mut groups) = (ports(), Groups::default());
    let entry = simple(Match::any().port(Port::Name("web-1".into())), vec![], Next::Drop);
    let flow = lower(&entry, &ports, &mut groups).unwrap();
    ports.remove(1);
    let lifted = lift(&flow, &ports, &groups).unwrap();
    assert_eq!(lifted.key.matches.in_port, Some(Port::Number(1)));
    assert_eq!(lower_key(&lifted.key, &ports).unwrap(), flow.key);
    assert_eq!(lower_key(&entry.key, &ports).unwrap(), flow.key);
}

#[test]
fn cookies_of_others_say_nothing() {
    let ours = Cookie { cause: Cause::Rule(5), flags: Cookie::DONE };
    assert_eq!(Cookie::from_bits(ours.to_bits()), Some(ours));
    assert_eq!(Cookie::from_bits(ours.to_bits() ^ 1 << 56), None);
    assert_eq!(Cookie::from_bits(ours.to_bits() ^ 1 << 48), None, "another layout");
    assert_eq!(Cookie::from_bits(ours.to_bits() | 0xff << 32), None, "no such cause");
}

/// The bytes that an entry's actions take on the wire.
fn bytes(actions: Vec<Action>) -> String {
    let flow = lower(
        &simple(Match::any().with(Field::EthType, ethertype::IPV4), actions, Next::Drop),
        &ports(),
        &mut Groups::default(),
    )
    .unwrap();
    let [bulkhead_openflow::Instruction::ApplyActions(actions)] = flow.instructions.as_slice() else {
        panic!("one instruction")
    };
    let mut bytes = Vec::new();
    bulkhead_openflow::wire::action::encode_all(actions, &mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As `ovs-ofctl parse-actions OpenFlow13` of Open vSwitch 3.1 reads them: each comment is what it prints.
#[test]
fn what_is_said_of_a_tunnel_is_known_byte_for_byte() {
    let copy = |from, to| Action::Copy { from, to };
    for (actions, wanted) in [
        // set_field:7->tun_gbp_id
        (vec![Action::set(Field::TunGbp, 7)], "0019001000014c020007000000000000"),
        // move:NXM_NX_REG1[0..15]->NXM_NX_TUN_GBP_ID[]
        (vec![copy(Field::SrcId, Field::TunGbp)], "ffff00180000232000060010000000000001020400014c02"),
        // move:NXM_NX_REG1[]->NXM_NX_TUN_METADATA0[0..31]
        (vec![copy(Field::SrcId, Field::TunIdentity)], "ffff0018000023200006002000000000000102040001507c"),
        // set_field:0x1389->tun_id
        (vec![Action::set(Field::TunId, 5001)], "0019001080004c080000000000001389"),
        // check_pkt_larger(1456)->NXM_NX_REG0[19]
        (vec![Action::CheckSize(1456)], "ffff001800002320003105b0001300010004000000000000"),
        // load:0x1->NXM_OF_ETH_SRC[41]
        (vec![Action::set_bits(Field::EthSrc, 1 << 41, 1 << 41)], "ffff00180000232000070a40000004060000000000000001"),
        // group:2969567232
        (vec![Action::Output(Output::OneOf([Port::Number(1), Port::Number(2)].into()))], "00160008b1000000"),
        // dec_ttl
        (vec![Action::DecTtl], "0018000800000000"),
    ] {
        assert_eq!(bytes(actions.clone()), wanted, "{actions:?}");
    }
}
