//! The rules that depend on what is there.

use super::*;
use crate::Idle;
use bulkhead_p4runtime::{
    entry::Key,
    info::{Scope, parse_text},
    proto::p4::v1::{
        ActionProfileGroup, ActionProfileMember, CounterData, CounterEntry, DigestEntry, FieldMatch, Index,
        MulticastGroupEntry, PacketReplicationEngineEntry, TableAction, TableEntry, action_profile_group,
        entity::Entity as Kind, field_match, packet_replication_engine_entry as pre, table_action, update::Type,
    },
    testing::{self, FAULTS, Random},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, slice::from_ref};

const TINY: &str = include_str!("../../../../southbound/p4runtime/tests/tiny.p4info.txtpb");

fn config(p4info: bulkhead_p4runtime::proto::p4::config::v1::P4Info) -> ForwardingPipelineConfig {
    ForwardingPipelineConfig { p4info: Some(p4info), ..Default::default() }
}

fn device(p4info: bulkhead_p4runtime::proto::p4::config::v1::P4Info) -> Device {
    let mut device = Device::new(Box::new(Idle));
    device.set_program(Action::VerifyAndCommit, Some(config(p4info))).unwrap();
    device
}

fn tiny() -> Device {
    device(parse_text(TINY).unwrap())
}

fn one(change: Type, kind: Kind) -> Update {
    Update { r#type: change.into(), entity: Some(Entity { entity: Some(kind) }) }
}

/// What became of each update of a batch.
fn codes(result: Result<(), Status>) -> Vec<Code> {
    let Err(status) = result else { return Vec::new() };
    let details = google::rpc::Status::decode(status.details()).unwrap().details;
    let code =
        |detail: &prost_types::Any| Code::from_i32(p4::Error::decode(detail.value.as_slice()).unwrap().canonical_code);
    assert!(!details.is_empty(), "{status:?}");
    details.iter().map(code).collect()
}

fn write(device: &mut Device, update: Update) -> Code {
    codes(device.write(vec![update], Atomicity::ContinueOnError)).first().copied().unwrap_or(Code::Ok)
}

fn read(device: &Device, kind: Kind) -> Vec<Entity> {
    let (read, result) = device.read(&[Entity { entity: Some(kind) }]);
    result.unwrap();
    read
}

fn entries(device: &Device, pattern: TableEntry) -> Vec<TableEntry> {
    let entry = |entity: Entity| match entity.entity {
        Some(Kind::TableEntry(entry)) => entry,
        other => panic!("{other:?}"),
    };
    read(device, Kind::TableEntry(pattern)).into_iter().map(entry).collect()
}

fn entry_in(info: &Info, table: &str, random: &mut Random) -> TableEntry {
    testing::entry(random, info, info.table_named(table).unwrap())
}

#[derive(Debug, Clone, Copy)]
struct Step {
    seed: u64,
    change: u8,
    atomicity: u8,
    many: u8,
    fault: Option<usize>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fault = proptest::option::weighted(0.2, 0..FAULTS.len());
    let step = (any::<u64>(), 0_u8..4, 0_u8..3, 1_u8..6, fault);
    let step = step.prop_map(|(seed, change, atomicity, many, fault)| Step { seed, change, atomicity, many, fault });
    proptest::collection::vec(step, 0..20)
}

proptest! {
    /// A device and a plain map of entries, told the same, have the same; what is wrong changes nothing.
    #[test]
    fn a_device_keeps_what_it_is_told(program: u64, steps in steps()) {
        let p4info = testing::p4info(&mut Random(program));
        let info = Info::new(&p4info).unwrap();
        let mut device = device(p4info);
        let mut model: BTreeMap<(u32, Key), TableEntry> = BTreeMap::new();
        for step in steps {
            let mut random = Random(step.seed);
            let atomicity = Atomicity::try_from(i32::from(step.atomicity)).unwrap();
            let mut wanted = model.clone();
            let (mut batch, mut expected) = (Vec::new(), Vec::new());
            for _ in 0..step.many {
                let Some(mut update) = testing::insert(&mut random, &info) else { return Ok(()) };
                let entry = testing::entry_of(&mut update).unwrap();
                // Half of all updates concern an entry that is there.
                if let Some(known) = random.pick(&wanted.values().collect::<Vec<_>>()).filter(|_| step.change > 1) {
                    let action = entry.action.take().filter(|_| known.table_id == entry.table_id);
                    *entry = TableEntry { action: action.or(known.action.clone()), counter_data: None, ..(*known).clone() };
                }
                let entry = entry.clone();
                let key = (entry.table_id, Key::of(&entry));
                let change = match (step.change, wanted.contains_key(&key)) {
                    (3, _) => Type::Delete,
                    (2, _) => Type::Modify,
                    _ => Type::Insert,
                };
                update.set_type(change);
                let there = wanted.contains_key(&key);
                let mut code = match (change, there) {
                    (Type::Insert, true) => Code::AlreadyExists,
                    (Type::Modify | Type::Delete, false) => Code::NotFound,
                    _ => Code::Ok,
                };
                if let Some(fault) = step.fault.and_then(|at| FAULTS.get(at)).filter(|_| change == Type::Insert) {
                    let mut spoilt = update.clone();
                    if (fault.spoil)(&mut random, &info, testing::entry_of(&mut spoilt).unwrap()) {
                        code = fault.code;
                        update = spoilt;
                    }
                }
                if code == Code::Ok {
                    match change {
                        Type::Delete => wanted.remove(&key),
                        _ => wanted.insert(key, TableEntry { counter_data: None, ..entry }),
                    };
                }
                batch.push(update);
                expected.push(code);
            }
            let failed = expected.iter().any(|code| *code != Code::Ok);
            let result = codes(device.write(batch, atomicity));
            if !failed {
                prop_assert_eq!(result, Vec::<Code>::new());
            } else if atomicity == Atomicity::ContinueOnError {
                prop_assert_eq!(result, expected);
            } else {
                let first = expected.iter().position(|code| *code != Code::Ok).unwrap();
                prop_assert_eq!(result[first], expected[first]);
                prop_assert!(result.iter().enumerate().all(|(at, code)| at == first || *code == Code::Aborted));
                wanted = model.clone();
            }
            model = wanted;
            let mut there = entries(&device, TableEntry::default());
            there.sort_by_key(|entry| (entry.table_id, Key::of(entry)));
            prop_assert_eq!(there, model.values().cloned().collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_is_undone_is_undone_backwards() {
    let mut device = tiny();
    let info = device.info().unwrap().clone();
    let old = entry_in(&info, "ingress.bridge", &mut Random(1));
    assert_eq!(write(&mut device, testing::update(Type::Insert, old.clone())), Code::Ok);
    let newer = |metadata: &[u8]| TableEntry { metadata: metadata.to_vec(), ..old.clone() };
    let batch = vec![
        testing::update(Type::Modify, newer(b"1")),
        testing::update(Type::Modify, newer(b"2")),
        testing::update(Type::Delete, newer(b"")),
        testing::update(Type::Insert, newer(b"3")),
        testing::update(Type::Insert, newer(b"4")),
    ];
    let aborted = Code::Aborted;
    let results = codes(device.write(batch, Atomicity::RollbackOnError));
    assert_eq!(results, [aborted, aborted, aborted, aborted, Code::AlreadyExists]);
    assert_eq!(entries(&device, TableEntry::default()), from_ref(&old));
    // The table's size went back too.
    assert_eq!(write(&mut device, testing::update(Type::Delete, old)), Code::Ok);
}

#[test]
fn a_modified_entry_keeps_the_action_that_it_is_not_given() {
    let mut device = tiny();
    let info = device.info().unwrap().clone();
    let old = entry_in(&info, "ingress.bridge", &mut Random(1));
    assert_eq!(write(&mut device, testing::update(Type::Insert, old.clone())), Code::Ok);
    let new = TableEntry { metadata: b"new".to_vec(), action: None, ..old.clone() };
    assert_eq!(write(&mut device, testing::update(Type::Modify, new.clone())), Code::Ok);
    assert_eq!(entries(&device, TableEntry::default()), [TableEntry { action: old.action, ..new }]);
}

#[test]
fn a_full_table_takes_no_more() {
    let mut device = tiny();
    let info = device.info().unwrap().clone();
    let mut first = None;
    let entry = |number: u8| {
        let exact = field_match::Exact { value: vec![number] };
        let kind = Some(field_match::FieldMatchType::Exact(exact));
        let r#match = vec![FieldMatch { field_id: 1, field_match_type: kind }];
        TableEntry { r#match, ..entry_in(&info, "ingress.bridge", &mut Random(1)) }
    };
    for number in 0..16 {
        let entry = entry(number);
        first = first.or_else(|| Some(entry.clone()));
        assert_eq!(write(&mut device, testing::update(Type::Insert, entry)), Code::Ok);
    }
    let more = entry(16);
    assert_eq!(write(&mut device, testing::update(Type::Insert, more.clone())), Code::ResourceExhausted);
    let first = first.unwrap();
    assert_eq!(
        write(&mut device, testing::update(Type::Insert, first.clone())),
        Code::AlreadyExists,
        "known, not full"
    );
    assert_eq!(write(&mut device, testing::update(Type::Delete, first)), Code::Ok);
    assert_eq!(write(&mut device, testing::update(Type::Insert, more)), Code::Ok);
}

#[test]
fn what_is_named_stays_and_is_there() {
    let mut device = tiny();
    let info = device.info().unwrap().clone();
    let route = info.table_named("ingress.route").unwrap();
    let profile = route.profile.unwrap();
    let mut random = Random(1);
    let action = testing::action(&mut random, &info, route, Scope::Default);
    let member = |member_id| {
        let action = action.clone();
        Kind::ActionProfileMember(ActionProfileMember { action_profile_id: profile, member_id, action })
    };
    let group = |max_size, members: &[u32]| {
        let member = |id: &u32| action_profile_group::Member { member_id: *id, weight: 1, watch_kind: None };
        let members = members.iter().map(member).collect();
        Kind::ActionProfileGroup(ActionProfileGroup { action_profile_id: profile, group_id: 1, members, max_size })
    };
    let names = |kind| TableEntry {
        action: Some(TableAction { r#type: Some(kind) }),
        ..entry_in(&info, "ingress.route", &mut Random(2))
    };
    let by_group = names(table_action::Type::ActionProfileGroupId(1));
    let insert = |device: &mut Device, kind| write(device, one(Type::Insert, kind));
    let delete = |device: &mut Device, kind| write(device, one(Type::Delete, kind));
    assert_eq!(insert(&mut device, group(8, &[1])), Code::NotFound, "no such member");
    assert_eq!(insert(&mut device, member(1)), Code::Ok);
    assert_eq!(insert(&mut device, member(1)), Code::AlreadyExists);
    assert_eq!(insert(&mut device, Kind::TableEntry(by_group.clone())), Code::NotFound, "no such group");
    assert_eq!(insert(&mut device, group(8, &[1])), Code::Ok);
    assert_eq!(write(&mut device, one(Type::Modify, group(7, &[1]))), Code::InvalidArgument, "its size stays");
    assert_eq!(insert(&mut device, Kind::TableEntry(by_group.clone())), Code::Ok);
    assert_eq!(delete(&mut device, member(1)), Code::FailedPrecondition);
    assert_eq!(delete(&mut device, group(8, &[])), Code::FailedPrecondition);
    let own_group = entry_in(&info, "ingress.route", &mut Random(3));
    assert_eq!(insert(&mut device, Kind::TableEntry(own_group.clone())), Code::InvalidArgument, "not mixed");
    assert_eq!(delete(&mut device, Kind::TableEntry(by_group)), Code::Ok);
    assert_eq!(delete(&mut device, group(8, &[])), Code::Ok);
    assert_eq!(delete(&mut device, member(1)), Code::Ok);
    assert_eq!(delete(&mut device, member(1)), Code::NotFound);
    assert_eq!(insert(&mut device, Kind::TableEntry(own_group.clone())), Code::Ok);
    assert_eq!(insert(&mut device, member(1)), Code::InvalidArgument, "not mixed");
    assert_eq!(entries(&device, TableEntry { table_id: route.id, ..Default::default() }), [own_group]);
}

#[test]
fn default_entries_change_and_go_back() {
    let mut device = tiny();
    let info = device.info().unwrap().clone();
    let acl = info.table_named("ingress.acl").unwrap();
    let allow = info.action_named("ingress.allow").unwrap();
    let action = |action_id| {
        let action = p4::Action { action_id, params: Vec::new() };
        Some(TableAction { r#type: Some(table_action::Type::Action(action)) })
    };
    let default = TableEntry { table_id: acl.id, is_default_action: true, ..Default::default() };
    let own = entries(&device, default.clone());
    assert_eq!(own[0].action, action(info.action_named("ingress.deny").unwrap().id));
    let changed = TableEntry { action: action(allow.id), metadata: vec![7], ..default.clone() };
    assert_eq!(write(&mut device, testing::update(Type::Modify, changed.clone())), Code::Ok);
    assert_eq!(entries(&device, default.clone()), [changed]);
    assert_eq!(write(&mut device, testing::update(Type::Modify, default.clone())), Code::Ok);
    assert_eq!(entries(&device, default), own);
    assert_eq!(entries(&device, TableEntry::default()), [], "a default entry is asked for by name");
}

#[test]
fn patterns_select() {
    let mut device = tiny();
    let info = device.info().unwrap().clone();
    let acl = info.table_named("ingress.acl").unwrap().id;
    let mut random = Random(4);
    let mut entry = |priority, metadata: &[u8]| TableEntry {
        priority,
        metadata: metadata.to_vec(),
        counter_data: None,
        ..entry_in(&info, "ingress.acl", &mut random)
    };
    let (one, two) = (entry(1, b"a"), entry(2, b"b"));
    let bridge = entry_in(&info, "ingress.bridge", &mut Random(5));
    for entry in [&one, &two, &bridge] {
        assert_eq!(write(&mut device, testing::update(Type::Insert, entry.clone())), Code::Ok);
    }
    let all = TableEntry { table_id: acl, ..Default::default() };
    assert_eq!(entries(&device, TableEntry::default()).len(), 3);
    assert_eq!(entries(&device, all.clone()).len(), 2);
    assert_eq!(entries(&device, TableEntry { priority: 2, ..all.clone() }), from_ref(&two));
    assert_eq!(entries(&device, TableEntry { metadata: b"a".to_vec(), ..all.clone() }), from_ref(&one));
    assert_eq!(entries(&device, TableEntry { r#match: two.r#match.clone(), ..all.clone() }), from_ref(&two));
    let counted = entries(&device, TableEntry { counter_data: Some(CounterData::default()), ..all.clone() });
    assert!(counted.iter().all(|entry| entry.counter_data == Some(CounterData::default())));
    let (_, result) = device.read(&[
        Entity { entity: Some(Kind::TableEntry(all)) },
        Entity { entity: Some(Kind::TableEntry(TableEntry { table_id: 7, ..Default::default() })) },
        Entity::default(),
    ]);
    assert_eq!(codes(result), [Code::Ok, Code::InvalidArgument, Code::InvalidArgument]);
}

#[test]
fn counters_are_set_and_read() {
    let mut device = tiny();
    let counter_id = device.info().unwrap().counters().next().unwrap().id;
    let counter = |index: Option<i64>, data| {
        let index = index.map(|index| Index { index });
        Kind::CounterEntry(CounterEntry { counter_id, index, data })
    };
    let five = CounterData { byte_count: 500, packet_count: 5 };
    assert_eq!(write(&mut device, one(Type::Modify, counter(Some(3), Some(five)))), Code::Ok);
    assert_eq!(write(&mut device, one(Type::Modify, counter(Some(16), Some(five)))), Code::OutOfRange);
    assert_eq!(read(&device, counter(None, None)).len(), 16);
    let read_one = read(&device, counter(Some(3), None));
    assert_eq!(read_one[0].entity, Some(counter(Some(3), Some(five))));
    assert_eq!(write(&mut device, one(Type::Modify, counter(None, Some(CounterData::default())))), Code::Ok);
    assert_eq!(read(&device, counter(Some(3), None))[0].entity, Some(counter(Some(3), Some(CounterData::default()))));
}

#[test]
fn groups_and_digests_come_back_as_they_were_written() {
    let mut device = tiny();
    let digest_id = device.info().unwrap().digests().next().unwrap().id;
    let group = |multicast_group_id| {
        let group = MulticastGroupEntry { multicast_group_id, metadata: b"x".to_vec(), ..Default::default() };
        let kind = Some(pre::Type::MulticastGroupEntry(group));
        Kind::PacketReplicationEngineEntry(PacketReplicationEngineEntry { r#type: kind })
    };
    let digest = Kind::DigestEntry(DigestEntry { digest_id, config: Some(Default::default()) });
    assert_eq!(device.digest_config(digest_id), None);
    for kind in [group(1), group(2), digest.clone()] {
        assert_eq!(write(&mut device, one(Type::Insert, kind.clone())), Code::Ok);
        assert_eq!(write(&mut device, one(Type::Insert, kind)), Code::AlreadyExists);
    }
    assert!(device.digest_config(digest_id).is_some());
    let every = pre::Type::MulticastGroupEntry(MulticastGroupEntry::default());
    let every = Kind::PacketReplicationEngineEntry(PacketReplicationEngineEntry { r#type: Some(every) });
    assert_eq!(read(&device, every).len(), 2);
    assert_eq!(read(&device, group(2))[0].entity, Some(group(2)));
    assert_eq!(write(&mut device, one(Type::Delete, digest)), Code::Ok);
    assert_eq!(device.digest_config(digest_id), None);
}

#[test]
fn programs_are_verified_saved_put_in_force_and_reconciled() {
    let mut device = Device::new(Box::new(Idle));
    let code = |result: Result<(), Status>| result.err().map(|status| status.code());
    let insert = |device: &mut Device| {
        let info = Info::from_text(TINY).unwrap();
        let update = testing::update(Type::Insert, entry_in(&info, "ingress.bridge", &mut Random(1)));
        device.write(vec![update], Atomicity::ContinueOnError)
    };
    let tiny = || Some(config(parse_text(TINY).unwrap()));
    assert_eq!(code(insert(&mut device)), Some(Code::FailedPrecondition));
    assert_eq!(code(device.read(&[]).1), Some(Code::FailedPrecondition));
    assert_eq!(device.get_program(ResponseType::All), None);
    assert_eq!(code(device.set_program(Action::VerifyAndCommit, None)), Some(Code::InvalidArgument));
    assert_eq!(code(device.set_program(Action::Unspecified, tiny())), Some(Code::InvalidArgument));
    assert_eq!(code(device.set_program(Action::Commit, None)), Some(Code::NotFound));
    let mut broken = tiny().unwrap();
    broken.p4info.as_mut().unwrap().actions.clear();
    assert_eq!(code(device.set_program(Action::VerifyAndCommit, Some(broken.clone()))), Some(Code::InvalidArgument));
    device.set_program(Action::Verify, tiny()).unwrap();
    assert_eq!(device.get_program(ResponseType::All), None, "only verified");
    device.set_program(Action::VerifyAndSave, tiny()).unwrap();
    insert(&mut device).unwrap();
    assert_eq!(device.live.as_ref().map(|_| ()), None, "not in force yet");
    assert_eq!(code(device.set_program(Action::Commit, tiny())), Some(Code::InvalidArgument));
    device.set_program(Action::Commit, None).unwrap();
    assert_eq!(entries(&device, TableEntry::default()).len(), 1);
    // The same with one table less fits; without the table of the entry it does not.
    let mut less = tiny().unwrap();
    let info = less.p4info.as_mut().unwrap();
    info.tables.retain(|table| table.preamble.as_ref().unwrap().name != "ingress.acl");
    info.direct_counters.clear();
    device.set_program(Action::ReconcileAndCommit, Some(less.clone())).unwrap();
    assert_eq!(entries(&device, TableEntry::default()).len(), 1);
    less.p4info.as_mut().unwrap().tables.retain(|table| table.preamble.as_ref().unwrap().name != "ingress.bridge");
    assert_eq!(code(device.set_program(Action::ReconcileAndCommit, Some(less))), Some(Code::InvalidArgument));
    assert_eq!(entries(&device, TableEntry::default()).len(), 1, "what could not be reconciled changed nothing");
    device.set_program(Action::VerifyAndCommit, tiny()).unwrap();
    assert_eq!(entries(&device, TableEntry::default()), []);
}
