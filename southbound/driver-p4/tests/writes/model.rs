//! What a device has to have after what was written to it.

use bulkhead_p4_target::device::Place;
use bulkhead_p4runtime::{
    entry::{Key, normalise},
    proto::p4::v1::{
        Action, CounterData, Entity, TableAction, TableEntry, Update, entity::Entity as Kind,
        field_match::FieldMatchType, table_action, update::Type,
    },
};
use std::collections::BTreeMap;

/// All entities, each in one form.
#[derive(Default)]
pub struct Model(pub BTreeMap<Place, Entity>);

impl Model {
    /// Does what a device does that takes the update.
    pub fn apply(&mut self, update: &Update) {
        let Some(entity) = &update.entity else { return };
        if let Some(Kind::DirectCounterEntry(counter)) = &entity.entity {
            let of = counter.table_entry.as_ref().unwrap();
            let entry = self.0.get_mut(&Place::Entry(of.table_id, Key::of(of))).and_then(entry_of);
            entry.unwrap().counter_data = counter.data;
            return;
        }
        let Some(place) = place(entity) else { return };
        if update.r#type() == Type::Delete {
            self.0.remove(&place);
            return;
        }
        let mut new = plain(entity);
        let old = self.0.get_mut(&place).and_then(entry_of);
        if let Some(new) = entry_of(&mut new) {
            let (action, counted) = old.map_or((None, None), |old| (old.action.take(), old.counter_data));
            new.action = new.action.take().or(action);
            new.counter_data = new.counter_data.or(counted).or(Some(CounterData::default()));
        }
        self.0.insert(place, new);
    }
}

pub fn entry_of(entity: &mut Entity) -> Option<&mut TableEntry> {
    match entity.entity.as_mut()? {
        Kind::TableEntry(entry) => Some(entry),
        _ => None,
    }
}

/// By what an entity is known; `None` for one that is not read here.
pub fn place(entity: &Entity) -> Option<Place> {
    match entity.entity.as_ref()? {
        Kind::TableEntry(entry) if !entry.is_default_action => Some(Place::Entry(entry.table_id, Key::of(entry))),
        Kind::ActionProfileMember(member) => Some(Place::Member(member.action_profile_id, member.member_id)),
        Kind::ActionProfileGroup(group) => Some(Place::Group(group.action_profile_id, group.group_id)),
        _ => None,
    }
}

/// An entity whose exact values and prefixes without bytes are zero.
pub fn zeroed(entity: &Entity) -> Entity {
    let mut zeroed = entity.clone();
    for field in entry_of(&mut zeroed).into_iter().flat_map(|entry| &mut entry.r#match) {
        let value = match &mut field.field_match_type {
            Some(FieldMatchType::Exact(exact)) => &mut exact.value,
            Some(FieldMatchType::Lpm(lpm)) => &mut lpm.value,
            _ => continue,
        };
        if value.is_empty() {
            value.push(0);
        }
    }
    zeroed
}

/// An entity with all that has an order of its writer's in one order.
pub fn plain(entity: &Entity) -> Entity {
    let mut plain = entity.clone();
    normalise(&mut plain);
    let sort = |action: &mut Action| action.params.sort_unstable_by_key(|param| param.param_id);
    match &mut plain.entity {
        Some(Kind::TableEntry(entry)) => {
            entry.r#match.sort_unstable_by_key(|field| field.field_id);
            match entry.action.as_mut().and_then(|TableAction { r#type }| r#type.as_mut()) {
                Some(table_action::Type::Action(action)) => sort(action),
                Some(table_action::Type::ActionProfileActionSet(set)) => {
                    set.action_profile_actions.iter_mut().flat_map(|one| &mut one.action).for_each(sort);
                }
                _ => {}
            }
        }
        Some(Kind::ActionProfileMember(member)) => member.action.iter_mut().for_each(sort),
        Some(Kind::ActionProfileGroup(group)) => group.members.sort_unstable_by_key(|member| member.member_id),
        _ => {}
    }
    plain
}

/// What deletes an entity.
pub fn bare(entity: &Entity) -> Update {
    let mut entity = entity.clone();
    if let Some(entry) = entry_of(&mut entity) {
        let key = TableEntry { table_id: entry.table_id, priority: entry.priority, ..TableEntry::default() };
        *entry = TableEntry { r#match: std::mem::take(&mut entry.r#match), ..key };
    }
    update(Type::Delete, entity)
}

pub fn update(kind: Type, entity: Entity) -> Update {
    Update { r#type: kind.into(), entity: Some(entity) }
}
