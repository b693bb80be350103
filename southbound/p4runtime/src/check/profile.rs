//! Members and groups of action profiles (P4Runtime §9.2).

use super::{Refusal, action};
use crate::{
    bytes,
    info::{GroupSize, Info, Profile, Scope},
    proto::p4::v1::{
        ActionProfileActionSet, ActionProfileGroup, ActionProfileMember, action_profile_action, action_profile_group,
        update::Type,
    },
};
use std::collections::BTreeSet;

pub(super) fn member(info: &Info, change: Type, member: &ActionProfileMember) -> Result<(), Refusal> {
    let profile = known(info, member.action_profile_id)?;
    if member.member_id == 0 {
        return Err(Refusal::Zero { what: "member" });
    }
    if change == Type::Delete {
        return Ok(());
    }
    let missing = || Refusal::NoAction { place: profile.name.clone() };
    let of = member.action.as_ref().ok_or_else(missing)?;
    // All tables of a profile have the same actions (P4Runtime §9.2.1).
    let table = profile.tables.first().and_then(|id| info.table(*id));
    let table = table.ok_or(Refusal::Unknown { kind: "table of the profile", id: profile.id })?;
    action::action(info, table, of, Scope::Default)
}

pub(super) fn group(info: &Info, change: Type, group: &ActionProfileGroup) -> Result<(), Refusal> {
    let profile = known(info, group.action_profile_id)?;
    let name = || profile.name.clone();
    if !profile.selector {
        return Err(Refusal::NoSelector { profile: name() });
    }
    if group.group_id == 0 {
        return Err(Refusal::Zero { what: "group" });
    }
    if change == Type::Delete {
        return Ok(());
    }
    let fixed = profile.max_group;
    let most = match (u32::try_from(group.max_size), fixed) {
        (Err(_), _) => return Err(Refusal::Negative { what: "size" }),
        (Ok(size), Some(most)) if size == 0 || size > most => {
            return Err(Refusal::GroupSize { place: name(), size: size.into(), most });
        }
        (Ok(0), None) => None,
        (Ok(size), _) => Some(size),
    };
    let mut seen = BTreeSet::new();
    for member in &group.members {
        if !seen.insert(member.member_id) {
            return Err(Refusal::MemberTwice { profile: name(), member: member.member_id });
        }
        if let Some(action_profile_group::member::WatchKind::WatchPort(port)) = &member.watch_kind {
            watch(port)?;
        }
    }
    size(profile, &profile.name, group.members.iter().map(|member| member.weight), most)
}

/// A group that belongs to one entry (P4Runtime §9.2.3).
pub(super) fn one_shot(profile: &Profile, table: &str, set: &ActionProfileActionSet) -> Result<(), Refusal> {
    for one in &set.action_profile_actions {
        if let Some(action_profile_action::WatchKind::WatchPort(port)) = &one.watch_kind {
            watch(port)?;
        }
    }
    size(profile, table, set.action_profile_actions.iter().map(|one| one.weight), profile.max_group)
}

/// Weights, and what they come to.
fn size(
    profile: &Profile,
    place: &str,
    weights: impl Iterator<Item = i32> + Clone,
    most: Option<u32>,
) -> Result<(), Refusal> {
    let heaviest = match profile.group_size {
        GroupSize::Weights => None,
        GroupSize::Members(heaviest) => heaviest,
    };
    let bad = |weight: &i32| match (u32::try_from(*weight), heaviest) {
        (Ok(0) | Err(_), _) => true,
        (Ok(weight), Some(heaviest)) => weight > heaviest,
        (Ok(_), None) => false,
    };
    if let Some(weight) = weights.clone().find(bad) {
        return Err(Refusal::Weight { place: place.to_owned(), weight });
    }
    let size: i64 = match profile.group_size {
        GroupSize::Weights => weights.map(i64::from).sum(),
        GroupSize::Members(_) => weights.map(|_| 1).sum(),
    };
    match most.filter(|most| size > i64::from(*most)) {
        Some(most) => Err(Refusal::GroupSize { place: place.to_owned(), size, most }),
        None => Ok(()),
    }
}

fn watch(port: &[u8]) -> Result<(), Refusal> {
    // Empty is no port: the member is always there.
    if port.is_empty() || bytes::is_canonical(port) { Ok(()) } else { Err(Refusal::Port) }
}

fn known(info: &Info, id: u32) -> Result<&Profile, Refusal> {
    info.profile(id).ok_or(Refusal::Unknown { kind: "action profile", id })
}
