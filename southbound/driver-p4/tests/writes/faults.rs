//! What may be wrong with a write. Each fault has one cause, and the code that the specification has for it.

use super::{
    model::{place, update},
    writer::{Writer, is_indirect, of, pad},
};
use bulkhead_p4_target::device::Place;
use bulkhead_p4runtime::{
    proto::p4::v1::{
        ActionProfileActionSet, ActionProfileGroup, ActionProfileMember, CloneSessionEntry, CounterData, CounterEntry,
        DigestEntry, DirectCounterEntry, Entity, MulticastGroupEntry, PacketReplicationEngineEntry, TableAction,
        TableEntry, Update, entity::Entity as Kind, packet_replication_engine_entry as pre, table_action, update::Type,
    },
    testing::FAULTS,
};
use tonic::Code;

/// A write that is wrong, and what it is about.
type Wrong = Option<(Update, Option<Place>)>;

type Make = Box<dyn Fn(&mut Writer<'_>) -> Wrong>;

pub struct Fault {
    pub name: String,
    pub code: Code,
    /// Makes one, if there is anything that can be spoilt so.
    pub make: Make,
}

/// Of the faults of an insert, those that a modification does not have: it may leave its action out, and is how the default
/// entry is written.
const NOT_OF_MODIFY: [&str; 2] = ["no action", "inserted default entry"];

/// Of the faults of an insert, those of the key, which is all that is looked at of what is deleted.
const OF_DELETE: [&str; 20] = [
    "unknown table",
    "a number of another kind as table",
    "unknown field",
    "field twice",
    "exact field missing",
    "no kind of match",
    "another kind of match",
    "value too wide",
    "value of no bytes",
    "value and mask of no bytes",
    "bits outside the mask",
    "mask of nothing",
    "prefix of nothing",
    "prefix too long",
    "prefix below zero",
    "bits behind the prefix",
    "priority wrong",
    "constant entry",
    "inserted default entry",
    "default entry with a key",
];

/// All of them.
pub fn all() -> Vec<Fault> {
    let mut all = Vec::new();
    for fault in FAULTS {
        let (name, code, spoil) = (fault.name, fault.code, fault.spoil);
        let fault = |verb: &str, make: Make| Fault { name: format!("{verb}: {name}"), code, make };
        all.push(fault(
            "insert",
            Box::new(move |writer| {
                let mut entry = writer.fresh()?;
                let about = place(&of(Type::Insert, entry.clone()).entity?);
                let spoilt = spoil(&mut writer.random, writer.info, &mut entry);
                spoilt.then(|| (of(Type::Insert, entry), about))
            }),
        ));
        let there = move |kind: Type| -> Make {
            Box::new(move |writer: &mut Writer<'_>| {
                let (place, mut entry) = writer.existing_entry()?;
                let spoilt = spoil(&mut writer.random, writer.info, &mut entry);
                spoilt.then(|| (of(kind, entry), Some(place)))
            })
        };
        if !NOT_OF_MODIFY.contains(&name) {
            all.push(fault("modify", there(Type::Modify)));
        }
        if OF_DELETE.contains(&name) {
            all.push(fault("delete", there(Type::Delete)));
        }
    }
    all.extend(presence());
    all.extend(defaults());
    all.extend(counters());
    all.extend(sets());
    all.extend(members());
    all.extend(groups());
    all.extend(others());
    all
}

fn one(name: &str, code: Code, make: impl Fn(&mut Writer<'_>) -> Wrong + 'static) -> Fault {
    Fault { name: name.into(), code, make: Box::new(make) }
}

/// A new entry, changed.
fn fresh(
    name: &str,
    code: Code,
    kind: Type,
    spoil: impl Fn(&mut Writer<'_>, &mut TableEntry) -> Option<()> + 'static,
) -> Fault {
    one(name, code, move |writer| {
        let mut entry = writer.fresh()?;
        let about = place(&of(kind, entry.clone()).entity?);
        spoil(writer, &mut entry)?;
        Some((of(kind, entry), about))
    })
}

/// An entry that is there, changed.
fn known(
    name: &str,
    code: Code,
    kind: Type,
    spoil: impl Fn(&mut Writer<'_>, &mut TableEntry) -> Option<()> + 'static,
) -> Fault {
    one(name, code, move |writer| {
        let (place, mut entry) = writer.existing_entry()?;
        spoil(writer, &mut entry)?;
        Some((of(kind, entry), Some(place)))
    })
}

/// What is there, or is not.
fn presence() -> Vec<Fault> {
    vec![
        known("an entry that is there already", Code::AlreadyExists, Type::Insert, |_, _| Some(())),
        known("an entry that is there already, in other words", Code::AlreadyExists, Type::Insert, |_, entry| {
            entry.r#match.reverse();
            entry.metadata.clear();
            pad(entry);
            Some(())
        }),
        known(
            "an entry that is there already, with another action",
            Code::AlreadyExists,
            Type::Insert,
            |writer, entry| {
                let direct = !is_indirect(writer.info, entry);
                let action = writer.any_action(entry.table_id).filter(|_| direct)?;
                entry.action = Some(TableAction { r#type: Some(table_action::Type::Action(action)) });
                Some(())
            },
        ),
        fresh("modify: an entry that is not there", Code::NotFound, Type::Modify, |_, _| Some(())),
        fresh("delete: an entry that is not there", Code::NotFound, Type::Delete, |_, _| Some(())),
        known("delete: another priority than it has", Code::NotFound, Type::Delete, |writer, entry| {
            entry.priority = Some(entry.priority).filter(|priority| *priority > 0)?.checked_add(1)?;
            let other = place(&of(Type::Delete, entry.clone()).entity?)?;
            (!writer.model.0.contains_key(&other)).then_some(())
        }),
        fresh("priority below zero", Code::InvalidArgument, Type::Insert, |writer, entry| {
            entry.priority = (entry.priority > 0).then(|| -1 - writer.random.below(1000) as i32)?;
            Some(())
        }),
        fresh("priority below zero where none may be", Code::InvalidArgument, Type::Insert, |writer, entry| {
            entry.priority = (entry.priority == 0).then(|| -1 - writer.random.below(1000) as i32)?;
            Some(())
        }),
        fresh("neither insert, modify nor delete", Code::InvalidArgument, Type::Unspecified, |_, _| Some(())),
        one("no entity", Code::InvalidArgument, |_| Some((Update { r#type: Type::Insert.into(), entity: None }, None))),
    ]
}

/// What happens on a miss, which is the program's to say.
fn defaults() -> Vec<Fault> {
    let make = |kind: Type, acts: bool, indirect: bool| {
        move |writer: &mut Writer<'_>| {
            let fits = |entry: &TableEntry| is_indirect(writer.info, entry) == indirect;
            let table = writer.info.tables().map(|table| table.id);
            let tables: Vec<u32> =
                table.filter(|table_id| fits(&TableEntry { table_id: *table_id, ..TableEntry::default() })).collect();
            let table_id = *writer.random.pick(&tables)?;
            let action = acts.then(|| writer.any_action(table_id)).flatten();
            let action = action.map(|action| TableAction { r#type: Some(table_action::Type::Action(action)) });
            let entry = TableEntry { table_id, action, is_default_action: true, ..TableEntry::default() };
            Some((of(kind, entry), None))
        }
    };
    let denied = Code::PermissionDenied;
    vec![
        one("modify: a constant default entry", denied, make(Type::Modify, true, false)),
        one("modify: a constant default entry, back to the program's", denied, make(Type::Modify, false, false)),
        one("modify: the default entry of a table with a profile", denied, make(Type::Modify, true, true)),
        one(
            "delete: the default entry of a table with a profile",
            Code::InvalidArgument,
            make(Type::Delete, false, true),
        ),
    ]
}

fn counters() -> Vec<Fault> {
    fn key(entry: TableEntry) -> TableEntry {
        let TableEntry { table_id, r#match, priority, .. } = entry;
        TableEntry { table_id, r#match, priority, ..TableEntry::default() }
    }
    fn counter(kind: Type, entry: Option<TableEntry>, count: i64) -> Update {
        let data = Some(CounterData { byte_count: count, packet_count: count });
        let counter = DirectCounterEntry { table_entry: entry.map(key), data };
        update(kind, Entity { entity: Some(Kind::DirectCounterEntry(counter)) })
    }
    let there = |kind: Type, count: i64, spoil: fn(&mut TableEntry)| {
        move |writer: &mut Writer<'_>| {
            let (place, mut entry) = writer.existing_entry()?;
            spoil(&mut entry);
            Some((counter(kind, Some(entry), count), Some(place)))
        }
    };
    let invalid = Code::InvalidArgument;
    vec![
        one("a counter of an entry that is not there", Code::NotFound, |writer| {
            let entry = writer.fresh()?;
            Some((counter(Type::Modify, Some(entry), 1), None))
        }),
        one("a counter that is inserted", invalid, there(Type::Insert, 1, |_| {})),
        one("a counter that is deleted", invalid, there(Type::Delete, 1, |_| {})),
        one("a counter below zero", invalid, there(Type::Modify, -1, |_| {})),
        one("a counter of an unknown table", invalid, there(Type::Modify, 1, |entry| entry.table_id = 0x02ff_ffff)),
        one("a counter of no entry", invalid, |_| Some((counter(Type::Modify, None, 1), None))),
        one("a count below zero beside an entry", invalid, |writer| {
            let mut entry = writer.fresh()?;
            let about = place(&of(Type::Insert, entry.clone()).entity?);
            entry.counter_data = Some(CounterData { byte_count: -1, packet_count: 0 });
            Some((of(Type::Insert, entry), about))
        }),
    ]
}

/// Groups of entries' own.
fn sets() -> Vec<Fault> {
    let set = |name: &str, code: Code, spoil: fn(&mut ActionProfileActionSet)| {
        fresh(name, code, Type::Insert, move |_, entry| match entry.action.as_mut()?.r#type.as_mut()? {
            table_action::Type::ActionProfileActionSet(set) => {
                spoil(set);
                Some(())
            }
            _ => None,
        })
    };
    let instead = |name: &str, code: Code, kind: Type, action: fn(u32) -> table_action::Type| {
        fresh(name, code, kind, move |writer, entry| {
            let number = 1000 + writer.random.below(1000) as u32;
            entry.action = is_indirect(writer.info, entry).then(|| TableAction { r#type: Some(action(number)) });
            entry.action.as_ref().map(drop)
        })
    };
    let invalid = Code::InvalidArgument;
    vec![
        set("a set with a weight of 0", invalid, |set| set.action_profile_actions[0].weight = 0),
        set("a set with a weight below zero", invalid, |set| set.action_profile_actions[0].weight = -1),
        set("a set of too much weight", invalid, |set| set.action_profile_actions[0].weight = 17),
        set("a set of too many actions", invalid, |set| {
            let one = set.action_profile_actions[0].clone();
            set.action_profile_actions.resize(17, one);
        }),
        set("a set with a part that has no action", invalid, |set| set.action_profile_actions[0].action = None),
        set("a set with an unknown action", invalid, |set| {
            set.action_profile_actions.last_mut().and_then(|one| one.action.as_mut()).unwrap().action_id = 0x01ff_ffff;
        }),
        instead("an entry of an unknown group", Code::NotFound, Type::Insert, table_action::Type::ActionProfileGroupId),
        instead(
            "an entry of an unknown member",
            Code::NotFound,
            Type::Insert,
            table_action::Type::ActionProfileMemberId,
        ),
        one("a set where there are members", invalid, |writer| {
            let entry = writer.is_numbered().then(|| writer.fresh()).flatten()?;
            let profile = writer.profile().filter(|profile| profile.tables.contains(&entry.table_id))?;
            // With nothing in the profile either way is open.
            writer.numbers().first()?;
            let about = place(&of(Type::Insert, entry.clone()).entity?);
            let action = writer.any_action(*profile.tables.first()?);
            let one = bulkhead_p4runtime::proto::p4::v1::ActionProfileAction { action, weight: 1, watch_kind: None };
            let set = table_action::Type::ActionProfileActionSet(ActionProfileActionSet {
                action_profile_actions: vec![one],
            });
            let entry = TableEntry { action: Some(TableAction { r#type: Some(set) }), ..entry };
            Some((of(Type::Insert, entry), about))
        }),
        one("a member where there are sets", invalid, |writer| {
            let profile = writer.profile().filter(|_| !writer.is_numbered())?;
            let set = |place: &Place| matches!(place, Place::Entry(table, _) if profile.tables.contains(table));
            writer.model.0.keys().find(|place| set(place))?;
            Some((update(Type::Insert, writer.member()?), None))
        }),
    ]
}

fn members() -> Vec<Fault> {
    let new =
        |name: &str, code: Code, kind: Type, spoil: fn(&mut Writer<'_>, &mut ActionProfileMember) -> Option<()>| {
            one(name, code, move |writer| {
                let mut entity = writer.is_numbered().then(|| writer.member()).flatten()?;
                let about = place(&entity);
                match &mut entity.entity {
                    Some(Kind::ActionProfileMember(member)) => spoil(writer, member)?,
                    _ => return None,
                }
                Some((update(kind, entity), about))
            })
        };
    let there = |name: &str, code: Code, kind: Type, used: bool| {
        one(name, code, move |writer| {
            let (place, entity) = writer.existing(|place| matches!(place, Place::Member(..)))?;
            let fits = !used || writer.is_used(&place);
            fits.then(|| (update(kind, entity), Some(place)))
        })
    };
    let invalid = Code::InvalidArgument;
    vec![
        there("a member that is there already", Code::AlreadyExists, Type::Insert, false),
        there("delete: a member that something names", Code::FailedPrecondition, Type::Delete, true),
        new("modify: a member that is not there", Code::NotFound, Type::Modify, |_, _| Some(())),
        new("delete: a member that is not there", Code::NotFound, Type::Delete, |_, _| Some(())),
        new("member 0", invalid, Type::Insert, |_, member| {
            member.member_id = 0;
            Some(())
        }),
        new("a member of an unknown profile", invalid, Type::Insert, |_, member| {
            member.action_profile_id += 1;
            Some(())
        }),
        new("a member of what is no profile", invalid, Type::Insert, |writer, member| {
            member.action_profile_id = writer.info.tables().next()?.id;
            Some(())
        }),
        new("a member without an action", invalid, Type::Insert, |_, member| {
            member.action = None;
            Some(())
        }),
        new("a member with another table's action", invalid, Type::Insert, |writer, member| {
            let own = writer.info.table(*writer.profile()?.tables.first()?)?;
            let foreign = writer.info.actions().find(|action| !own.actions.contains_key(&action.id))?.id;
            member.action = writer.action(foreign);
            Some(())
        }),
        new("a member without a parameter", invalid, Type::Insert, |_, member| {
            member.action.as_mut()?.params.pop().map(drop)
        }),
        new("a member with a parameter twice", invalid, Type::Insert, |_, member| {
            let params = &mut member.action.as_mut()?.params;
            params.push(params.first()?.clone());
            Some(())
        }),
        new("a member with a parameter that is too wide", invalid, Type::Insert, |_, member| {
            member.action.as_mut()?.params.first_mut()?.value = vec![1; 17];
            Some(())
        }),
    ]
}

fn groups() -> Vec<Fault> {
    let new =
        |name: &str, code: Code, kind: Type, spoil: fn(&mut Writer<'_>, &mut ActionProfileGroup) -> Option<()>| {
            one(name, code, move |writer| {
                let mut entity = writer.is_numbered().then(|| writer.group()).flatten()?;
                let about = place(&entity);
                match &mut entity.entity {
                    Some(Kind::ActionProfileGroup(group)) => spoil(writer, group)?,
                    _ => return None,
                }
                Some((update(kind, entity), about))
            })
        };
    let there = |name: &str, code: Code, kind: Type, used: bool, spoil: fn(&mut ActionProfileGroup)| {
        one(name, code, move |writer| {
            let (place, mut entity) = writer.existing(|place| matches!(place, Place::Group(..)))?;
            match &mut entity.entity {
                Some(Kind::ActionProfileGroup(group)) => spoil(group),
                _ => return None,
            }
            let fits = !used || writer.is_used(&place);
            fits.then(|| (update(kind, entity), Some(place)))
        })
    };
    let invalid = Code::InvalidArgument;
    vec![
        there("a group that is there already", Code::AlreadyExists, Type::Insert, false, |_| {}),
        there("delete: a group that something names", Code::FailedPrecondition, Type::Delete, true, |_| {}),
        there("modify: a group to another size", invalid, Type::Modify, false, |group| {
            group.max_size = if group.max_size == 16 { 15 } else { 16 };
            group.members.truncate(1);
        }),
        there("modify: a group with an unknown member", Code::NotFound, Type::Modify, false, |group| {
            group.members[0].member_id = 1000;
        }),
        there("modify: a group of too much weight", invalid, Type::Modify, false, |group| {
            group.members[0].weight = group.max_size + 1;
        }),
        new("modify: a group that is not there", Code::NotFound, Type::Modify, |_, _| Some(())),
        new("delete: a group that is not there", Code::NotFound, Type::Delete, |_, _| Some(())),
        new("group 0", invalid, Type::Insert, |_, group| {
            group.group_id = 0;
            Some(())
        }),
        new("a group of an unknown profile", invalid, Type::Insert, |_, group| {
            group.action_profile_id += 1;
            Some(())
        }),
        new("a group with an unknown member", Code::NotFound, Type::Insert, |_, group| {
            group.members.first_mut()?.member_id = 1000;
            Some(())
        }),
        new("a group with a member twice", invalid, Type::Insert, |_, group| {
            group.max_size = 16;
            group.members.truncate(1);
            group.members.push(group.members.first()?.clone());
            Some(())
        }),
        new("a group with a weight of 0", invalid, Type::Insert, |_, group| {
            group.members.first_mut()?.weight = 0;
            Some(())
        }),
        new("a group with a weight below zero", invalid, Type::Insert, |_, group| {
            group.members.first_mut()?.weight = -1;
            Some(())
        }),
        new("a group of too much weight", invalid, Type::Insert, |_, group| {
            group.members.first_mut()?.weight = group.max_size + 1;
            Some(())
        }),
        new("a group of no size", invalid, Type::Insert, |_, group| {
            group.max_size = 0;
            Some(())
        }),
        new("a group of a size below zero", invalid, Type::Insert, |_, group| {
            group.max_size = -1;
            Some(())
        }),
        new("a group that is larger than groups may be", invalid, Type::Insert, |_, group| {
            group.max_size = 17;
            Some(())
        }),
    ]
}

/// What the driver writes nothing of.
fn others() -> Vec<Fault> {
    let plain = |name: &str, kind: fn() -> Kind| {
        one(name, Code::InvalidArgument, move |_| Some((update(Type::Insert, Entity { entity: Some(kind()) }), None)))
    };
    vec![
        plain("an unknown counter", || {
            Kind::CounterEntry(CounterEntry { counter_id: 0x12ff_ffff, ..CounterEntry::default() })
        }),
        plain("an unknown digest", || {
            Kind::DigestEntry(DigestEntry { digest_id: 0x17ff_ffff, ..DigestEntry::default() })
        }),
        plain("multicast group 0", || {
            let group = pre::Type::MulticastGroupEntry(MulticastGroupEntry::default());
            Kind::PacketReplicationEngineEntry(PacketReplicationEngineEntry { r#type: Some(group) })
        }),
        plain("clone session 0", || {
            let session = pre::Type::CloneSessionEntry(CloneSessionEntry::default());
            Kind::PacketReplicationEngineEntry(PacketReplicationEngineEntry { r#type: Some(session) })
        }),
    ]
}
