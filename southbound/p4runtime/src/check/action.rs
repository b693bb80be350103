//! What an entry does (P4Runtime §9.1.2).

use super::{Refusal, all_values, profile};
use crate::{
    info::{Info, Scope, Table},
    proto::p4::v1::{Action, TableAction, table_action},
};

/// An entry's action, or that of the default entry.
pub(super) fn table_action(info: &Info, table: &Table, of: &TableAction, default: bool) -> Result<(), Refusal> {
    let wrong = || Refusal::ActionKind { table: table.name.clone() };
    let profile = table.profile.and_then(|id| info.profile(id));
    let not_for = if default { Scope::Entries } else { Scope::Default };
    match (&of.r#type, profile) {
        (None, _) => Err(Refusal::NoAction { place: table.name.clone() }),
        (Some(table_action::Type::Action(of)), None) => action(info, table, of, not_for),
        (Some(table_action::Type::ActionProfileMemberId(_)), Some(_)) => Ok(()),
        (Some(table_action::Type::ActionProfileGroupId(_)), Some(profile)) if profile.selector => Ok(()),
        (Some(table_action::Type::ActionProfileActionSet(set)), Some(of)) if of.selector => {
            for one in &set.action_profile_actions {
                let missing = || Refusal::NoAction { place: table.name.clone() };
                action(info, table, one.action.as_ref().ok_or_else(missing)?, not_for)?;
            }
            profile::one_shot(of, &table.name, set)
        }
        _ => Err(wrong()),
    }
}

/// The action of a miss, as P4Info says it.
pub(crate) fn default_action(info: &Info, table: &Table, of: &Action) -> Result<(), Refusal> {
    action(info, table, of, Scope::Entries)
}

/// An action with its parameters, in a table that may call it.
pub(super) fn action(info: &Info, table: &Table, of: &Action, not_for: Scope) -> Result<(), Refusal> {
    let id = of.action_id;
    let known = info.action(id).ok_or(Refusal::Unknown { kind: "action", id })?;
    let names = || (table.name.clone(), known.name.clone());
    match table.actions.get(&id) {
        None => {
            let (table, action) = names();
            Err(Refusal::Foreign { table, action })
        }
        Some(scope) if *scope == not_for => {
            let (table, action) = names();
            Err(Refusal::Scope { table, action })
        }
        Some(_) => {
            let given = of.params.iter().map(|param| (param.param_id, param.value.as_slice()));
            all_values(&known.name, &known.params, given)
        }
    }
}
