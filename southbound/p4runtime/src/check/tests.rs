//! Valid updates are taken; each single fault is refused with its code.

use super::*;
use crate::{
    entry::{Key, normalise},
    info::Scope,
    proto::p4::{
        config::v1::{P4Info, action_profile},
        v1::{
            ActionProfileAction, ActionProfileActionSet, ActionProfileGroup, ActionProfileMember, CloneSessionEntry,
            CounterEntry, DigestEntry, DirectCounterEntry, Index, MulticastGroupEntry, PacketReplicationEngineEntry,
            Replica, TableAction, TableEntry, action_profile_group, digest_entry,
            packet_replication_engine_entry as pre, replica, table_action,
        },
    },
    testing::{self, FAULTS, Random},
};
use proptest::prelude::*;
use tonic::Code;

const INFO: &str = include_str!("../../tests/tiny.p4info.txtpb");

fn tiny() -> Info {
    Info::from_text(INFO).unwrap()
}

fn refused(entity: Kind, change: Type) -> Option<Code> {
    let wrong = update(&tiny(), &Update { r#type: change.into(), entity: Some(Entity { entity: Some(entity) }) });
    wrong.err().map(|refusal| refusal.code())
}

proptest! {
    #[test]
    fn valid_inserts_are_taken_and_single_faults_refused(seed: u64) {
        let mut random = Random(seed);
        let info = Info::new(&testing::p4info(&mut random)).unwrap();
        let Some(valid) = testing::insert(&mut random, &info) else { return Ok(()) };
        prop_assert_eq!(update(&info, &valid), Ok(()), "{:?}", valid);
        for fault in FAULTS {
            let mut spoilt = valid.clone();
            let entry = testing::entry_of(&mut spoilt).unwrap();
            if (fault.spoil)(&mut random, &info, entry) {
                let code = update(&info, &spoilt).err().map(|refusal| refusal.code());
                prop_assert_eq!(code, Some(fault.code), "{:?}: {:?}", fault, spoilt);
            }
        }
    }

    #[test]
    fn a_delete_needs_the_key_alone(seed: u64) {
        let mut random = Random(seed);
        let info = Info::new(&testing::p4info(&mut random)).unwrap();
        let Some(mut valid) = testing::insert(&mut random, &info) else { return Ok(()) };
        valid.set_type(Type::Delete);
        let entry = testing::entry_of(&mut valid).unwrap();
        entry.action = None;
        entry.idle_timeout_ns = -1;
        prop_assert_eq!(update(&info, &valid), Ok(()));
    }

    /// A device that is sent zeros in front knows the entry again.
    #[test]
    fn zeros_in_front_are_refused_until_they_are_taken_away(seed: u64) {
        let mut random = Random(seed);
        let info = Info::new(&testing::p4info(&mut random)).unwrap();
        let Some(valid) = testing::insert(&mut random, &info) else { return Ok(()) };
        let mut padded = valid.clone();
        let entry = testing::entry_of(&mut padded).unwrap();
        let Some(value) = entry.r#match.iter_mut().find_map(|field| match &mut field.field_match_type {
            Some(crate::proto::p4::v1::field_match::FieldMatchType::Exact(exact)) => Some(&mut exact.value),
            _ => None,
        }) else { return Ok(()) };
        value.insert(0, 0);
        let same = Key::of(entry);
        let refusal = update(&info, &padded);
        prop_assert!(matches!(refusal, Err(Refusal::NotCanonical { .. })), "{:?}", refusal);
        normalise(padded.entity.as_mut().unwrap());
        prop_assert_eq!(&padded, &valid);
        prop_assert_eq!(same, Key::of(testing::entry_of(&mut padded).unwrap()));
    }

    /// Whatever comes from the wire has an answer.
    #[test]
    fn no_message_breaks_a_check(seed: u64, noise: Vec<u8>) {
        use prost::Message as _;
        let info = Info::new(&testing::p4info(&mut Random(seed))).unwrap();
        if let Ok(noise) = Update::decode(noise.as_slice()) {
            let _ = update(&info, &noise);
            let _ = read(&info, &noise.entity.unwrap_or_default());
        }
    }
}

#[test]
fn every_fault_is_possible_somewhere() {
    let mut left: Vec<_> = FAULTS.iter().collect();
    for seed in 0..2000 {
        let mut random = Random(seed);
        let info = Info::new(&testing::p4info(&mut random)).unwrap();
        let Some(valid) = testing::insert(&mut random, &info) else { continue };
        left.retain(|fault| !(fault.spoil)(&mut random, &info, testing::entry_of(&mut valid.clone()).unwrap()));
    }
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn default_entries_are_modified_only_and_by_their_own_actions() {
    let info = tiny();
    let route = info.table_named("ingress.route").unwrap();
    let acl = info.table_named("ingress.acl").unwrap();
    let mut random = Random(1);
    let default = |table: &Table, action| TableEntry {
        table_id: table.id,
        action,
        is_default_action: true,
        ..Default::default()
    };
    let of = |random: &mut Random, table, not_for| {
        let action = testing::action(random, &info, table, not_for).unwrap();
        let kind = crate::proto::p4::v1::table_action::Type::Action(action);
        Some(crate::proto::p4::v1::TableAction { r#type: Some(kind) })
    };
    let fine = default(acl, of(&mut random, acl, Scope::Entries));
    assert_eq!(update(&info, &testing::update(Type::Modify, fine.clone())), Ok(()));
    assert_eq!(update(&info, &testing::update(Type::Modify, default(acl, None))), Ok(()), "back to the program's own");
    for change in [Type::Insert, Type::Delete] {
        let refusal = update(&info, &testing::update(change, fine.clone())).unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
    }
    let constant = default(route, of(&mut random, route, Scope::Entries));
    let refusal = update(&info, &testing::update(Type::Modify, constant)).unwrap_err();
    assert_eq!(refusal, Refusal::ConstantDefault { table: "ingress.route".to_owned() });
    assert_eq!(refusal.code(), Code::PermissionDenied);
}

#[test]
fn constant_tables_let_only_their_counters_be_set() {
    let mut proto: P4Info = crate::info::parse_text(INFO).unwrap();
    for table in &mut proto.tables {
        table.is_const_table = true;
    }
    let info = Info::new(&proto).unwrap();
    let acl = info.table_named("ingress.acl").unwrap();
    let mut entry = testing::entry(&mut Random(3), &info, acl);
    entry.counter_data = Some(CounterData { byte_count: 0, packet_count: 0 });
    for change in [Type::Insert, Type::Modify, Type::Delete] {
        let refusal = update(&info, &testing::update(change, entry.clone())).unwrap_err();
        assert_eq!(refusal.code(), Code::PermissionDenied, "{refusal}");
    }
    entry.action = None;
    assert_eq!(update(&info, &testing::update(Type::Modify, entry)), Ok(()));
}

#[test]
fn counters_are_modified_and_have_an_end() {
    let info = tiny();
    let counter = info.counters().next().unwrap();
    let at =
        |index| Kind::CounterEntry(CounterEntry { counter_id: counter.id, index: Some(Index { index }), data: None });
    assert_eq!(refused(at(0), Type::Modify), None);
    assert_eq!(refused(at(15), Type::Modify), None);
    assert_eq!(refused(at(16), Type::Modify), Some(Code::OutOfRange));
    assert_eq!(refused(at(-1), Type::Modify), Some(Code::InvalidArgument));
    assert_eq!(refused(at(0), Type::Insert), Some(Code::InvalidArgument));
    let direct = |table: &str, change| {
        let table = info.table_named(table).unwrap();
        let table_entry = Some(testing::entry(&mut Random(1), &info, table));
        refused(Kind::DirectCounterEntry(DirectCounterEntry { table_entry, data: None }), change)
    };
    assert_eq!(direct("ingress.acl", Type::Modify), None);
    assert_eq!(direct("ingress.acl", Type::Delete), Some(Code::InvalidArgument));
    assert_eq!(direct("ingress.route", Type::Modify), Some(Code::InvalidArgument));
    let none = DirectCounterEntry::default();
    assert_eq!(refused(Kind::DirectCounterEntry(none), Type::Modify), Some(Code::InvalidArgument));
}

#[test]
fn members_and_groups() {
    let info = tiny();
    let profile = info.profiles().next().unwrap();
    let table = info.table(*profile.tables.first().unwrap()).unwrap();
    let action = testing::action(&mut Random(1), &info, table, Scope::Default);
    let member = |member_id, action| {
        Kind::ActionProfileMember(ActionProfileMember { action_profile_id: profile.id, member_id, action })
    };
    assert_eq!(refused(member(1, action.clone()), Type::Insert), None);
    assert_eq!(refused(member(0, action.clone()), Type::Insert), Some(Code::InvalidArgument));
    assert_eq!(refused(member(1, None), Type::Insert), Some(Code::InvalidArgument));
    assert_eq!(refused(member(1, None), Type::Delete), None);
    let group = |max_size, members: &[(u32, i32)]| {
        let member = |(member_id, weight): &(u32, i32)| action_profile_group::Member {
            member_id: *member_id,
            weight: *weight,
            watch_kind: None,
        };
        let members = members.iter().map(member).collect();
        let group = ActionProfileGroup { action_profile_id: profile.id, group_id: 1, members, max_size };
        refused(Kind::ActionProfileGroup(group), Type::Insert)
    };
    assert_eq!(group(8, &[(1, 1), (2, 7)]), None);
    assert_eq!(group(8, &[(1, 1), (2, 8)]), Some(Code::InvalidArgument), "heavier than it may become");
    assert_eq!(group(8, &[(1, 1), (1, 2)]), Some(Code::InvalidArgument), "a member twice");
    assert_eq!(group(8, &[(1, 0)]), Some(Code::InvalidArgument), "no weight");
    assert_eq!(group(0, &[]), Some(Code::InvalidArgument), "no size");
    assert_eq!(group(9, &[]), Some(Code::InvalidArgument), "larger than the program says");
}

#[test]
fn a_group_of_counted_members_may_be_heavy_and_not_large() {
    let mut proto: P4Info = crate::info::parse_text(INFO).unwrap();
    let of = action_profile::SumOfMembers { max_member_weight: 3 };
    let semantics = action_profile::SelectorSizeSemantics::SumOfMembers(of);
    proto.action_profiles[0].selector_size_semantics = Some(semantics);
    proto.action_profiles[0].max_group_size = 2;
    let info = Info::new(&proto).unwrap();
    let table = info.table_named("ingress.route").unwrap();
    let code = |weights: &[i32]| {
        let one = |weight: &i32| ActionProfileAction {
            action: testing::action(&mut Random(1), &info, table, Scope::Default),
            weight: *weight,
            watch_kind: None,
        };
        let set = ActionProfileActionSet { action_profile_actions: weights.iter().map(one).collect() };
        let kind = Some(table_action::Type::ActionProfileActionSet(set));
        let action = Some(TableAction { r#type: kind });
        let entry = TableEntry { action, ..testing::entry(&mut Random(1), &info, table) };
        update(&info, &testing::update(Type::Insert, entry)).err().map(|refusal| refusal.code())
    };
    assert_eq!(code(&[3, 3]), None);
    assert_eq!(code(&[4]), Some(Code::InvalidArgument), "a heavy member");
    assert_eq!(code(&[-1]), Some(Code::InvalidArgument), "a light one");
    assert_eq!(code(&[1, 1, 1]), Some(Code::InvalidArgument), "one too many");
}

#[test]
fn copies_digests_and_packets() {
    let info = tiny();
    let copy = |port: &[u8], instance| Replica { port_kind: Some(replica::PortKind::Port(port.to_vec())), instance };
    let group = |multicast_group_id, replicas: Vec<Replica>| {
        let group = MulticastGroupEntry { multicast_group_id, replicas, metadata: Vec::new() };
        let kind = Some(pre::Type::MulticastGroupEntry(group));
        refused(Kind::PacketReplicationEngineEntry(PacketReplicationEngineEntry { r#type: kind }), Type::Insert)
    };
    assert_eq!(group(1, vec![copy(&[1], 1), copy(&[2], 1), copy(&[1], 2)]), None);
    assert_eq!(group(0, vec![]), Some(Code::InvalidArgument));
    assert_eq!(group(1, vec![copy(&[1], 1), copy(&[1], 1)]), Some(Code::InvalidArgument));
    assert_eq!(group(1, vec![copy(&[], 1)]), Some(Code::InvalidArgument));
    let session = |packet_length_bytes| {
        let session = CloneSessionEntry { session_id: 1, packet_length_bytes, ..Default::default() };
        let kind = Some(pre::Type::CloneSessionEntry(session));
        refused(Kind::PacketReplicationEngineEntry(PacketReplicationEngineEntry { r#type: kind }), Type::Insert)
    };
    assert_eq!(session(0), None);
    assert_eq!(session(-1), Some(Code::InvalidArgument));
    let digest = |digest_id, max_list_size| {
        let config = digest_entry::Config { max_list_size, ..Default::default() };
        refused(Kind::DigestEntry(DigestEntry { digest_id, config: Some(config) }), Type::Insert)
    };
    let known = info.digests().next().unwrap().id;
    assert_eq!(digest(known, 1), None);
    assert_eq!(digest(known, -1), Some(Code::InvalidArgument));
    assert_eq!(digest(known + 1, 1), Some(Code::InvalidArgument));
    let metadata = |id, value: &[u8]| PacketMetadata { metadata_id: id, value: value.to_vec() };
    let out = info.packet_out();
    let pad = metadata(2, &[0]);
    assert_eq!(packet(out, &[metadata(1, &[1, 0xff]), pad.clone()]), Ok(()));
    assert!(packet(out, &[metadata(1, &[2, 0]), pad.clone()]).is_err(), "nine bits");
    assert!(packet(out, &[]).is_err());
    assert!(packet(out, &[metadata(1, &[1])]).is_err(), "one is missing");
    assert!(packet(out, &[metadata(1, &[1]), pad.clone(), metadata(3, &[1])]).is_err(), "one too many");
    assert!(packet(out, &[metadata(1, &[1]), pad.clone(), pad]).is_err(), "one twice");
}
