//! A table's entry: by what it is known, and its one form.

use crate::{
    bytes,
    proto::p4::v1::{
        Action, Entity, FieldMatch, PacketReplicationEngineEntry, Replica, TableAction, TableEntry, Update,
        action_profile_action, action_profile_group, entity::Entity as Kind, field_match::FieldMatchType,
        packet_replication_engine_entry as pre, replica, table_action,
    },
};

/// By what an entry is known in its table (P4Runtime §9.1): no two have the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// By field number, each in its one form.
    pub matches: Vec<FieldMatch>,
    /// Zero if the table has none.
    pub priority: i32,
}

impl Key {
    /// The key of an entry.
    #[must_use]
    pub fn of(entry: &TableEntry) -> Self {
        let mut matches = entry.r#match.clone();
        matches.iter_mut().for_each(normalise_match);
        matches.sort_unstable_by_key(|field| field.field_id);
        Self { matches, priority: entry.priority }
    }
}

/// Brings every value of an entity into the fewest bytes, as a device does that is sent longer ones (P4Runtime §8.4).
pub fn normalise(entity: &mut Entity) {
    match &mut entity.entity {
        Some(Kind::TableEntry(entry)) => normalise_entry(entry),
        Some(Kind::DirectCounterEntry(counter)) => counter.table_entry.iter_mut().for_each(normalise_entry),
        Some(Kind::ActionProfileMember(member)) => member.action.iter_mut().for_each(normalise_action),
        Some(Kind::ActionProfileGroup(group)) => {
            for member in &mut group.members {
                if let Some(action_profile_group::member::WatchKind::WatchPort(port)) = &mut member.watch_kind {
                    shorten(port);
                }
            }
        }
        Some(Kind::PacketReplicationEngineEntry(PacketReplicationEngineEntry { r#type: Some(kind) })) => match kind {
            pre::Type::MulticastGroupEntry(group) => normalise_replicas(&mut group.replicas),
            pre::Type::CloneSessionEntry(session) => normalise_replicas(&mut session.replicas),
        },
        _ => {}
    }
}

/// Gives the end of every range 0 to 255 of a wider field a zero in front.
///
/// Devices that are built on p4lang/PI, BMv2 among them, take the width of a range for that of its first byte string, and
/// refuse this one as a range of everything. Every device must take zeros in front (P4Runtime §8.4).
pub(crate) fn widen_ranges(update: &mut Update) {
    let Some(Kind::TableEntry(entry)) = update.entity.as_mut().and_then(|entity| entity.entity.as_mut()) else {
        return;
    };
    for field in &mut entry.r#match {
        if let Some(FieldMatchType::Range(range)) = &mut field.field_match_type
            && range.low == [0]
            && range.high == [0xff]
        {
            range.high.insert(0, 0);
        }
    }
}

fn normalise_entry(entry: &mut TableEntry) {
    entry.r#match.iter_mut().for_each(normalise_match);
    match entry.action.as_mut().and_then(|TableAction { r#type }| r#type.as_mut()) {
        Some(table_action::Type::Action(action)) => normalise_action(action),
        Some(table_action::Type::ActionProfileActionSet(set)) => {
            for one in &mut set.action_profile_actions {
                one.action.iter_mut().for_each(normalise_action);
                if let Some(action_profile_action::WatchKind::WatchPort(port)) = &mut one.watch_kind {
                    shorten(port);
                }
            }
        }
        _ => {}
    }
}

fn normalise_action(action: &mut Action) {
    action.params.iter_mut().for_each(|param| shorten(&mut param.value));
}

fn normalise_match(field: &mut FieldMatch) {
    match &mut field.field_match_type {
        Some(FieldMatchType::Exact(exact)) => shorten(&mut exact.value),
        Some(FieldMatchType::Optional(optional)) => shorten(&mut optional.value),
        Some(FieldMatchType::Lpm(lpm)) => shorten(&mut lpm.value),
        Some(FieldMatchType::Ternary(ternary)) => {
            shorten(&mut ternary.value);
            shorten(&mut ternary.mask);
        }
        Some(FieldMatchType::Range(range)) => {
            shorten(&mut range.low);
            shorten(&mut range.high);
        }
        None => {}
    }
}

fn normalise_replicas(replicas: &mut [Replica]) {
    for replica in replicas {
        if let Some(replica::PortKind::Port(port)) = &mut replica.port_kind {
            shorten(port);
        }
    }
}

fn shorten(value: &mut Vec<u8>) {
    let length = bytes::minimal(value).len();
    value.drain(..value.len() - length);
}
