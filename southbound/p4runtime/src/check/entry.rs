//! Entries of tables (P4Runtime §9.1).

use super::{Refusal, action, counts, fits, table};
use crate::{
    bytes,
    info::{Field, Info, Kind, Table},
    proto::p4::v1::{FieldMatch, TableEntry, field_match::FieldMatchType, update::Type},
};
use std::cmp::Ordering;

/// An entry that is inserted, modified or deleted.
pub(super) fn entry(info: &Info, change: Type, entry: &TableEntry) -> Result<(), Refusal> {
    let table = table(info, entry.table_id)?;
    let name = || table.name.clone();
    if entry.is_const {
        return Err(Refusal::ConstantEntry { table: name() });
    }
    key(table, entry)?;
    if entry.is_default_action {
        if change != Type::Modify {
            return Err(Refusal::DefaultModify { table: name() });
        }
        // Of tables with a profile, only the program says the default action (P4Runtime §9.1.3).
        if table.constant_default.is_some() || table.profile.is_some() {
            return Err(Refusal::ConstantDefault { table: name() });
        }
    } else if table.constant && (change != Type::Modify || entry.action.is_some()) {
        return Err(Refusal::ConstantTable { table: name() });
    }
    if change == Type::Delete {
        // Only the key is looked at.
        return Ok(());
    }
    match &entry.action {
        Some(of) => action::table_action(info, table, of, entry.is_default_action)?,
        None if change == Type::Insert => return Err(Refusal::NoAction { place: name() }),
        None => {}
    }
    if entry.counter_data.is_some() && table.counter.is_none() {
        return Err(Refusal::NotThere { table: name(), what: "direct counter" });
    }
    counts(entry.counter_data.as_ref())?;
    if entry.time_since_last_hit.is_some() {
        return Err(Refusal::ReadOnly { what: "the time since the last hit" });
    }
    match entry.idle_timeout_ns.cmp(&0) {
        Ordering::Less => Err(Refusal::Negative { what: "time" }),
        Ordering::Greater if !table.idle_timeout => Err(Refusal::NotThere { table: name(), what: "idle timeout" }),
        _ => Ok(()),
    }
}

/// By what an entry is known: the match as a whole, and the priority.
pub(super) fn key(table: &Table, entry: &TableEntry) -> Result<(), Refusal> {
    let name = || table.name.clone();
    if entry.is_default_action {
        return match entry.r#match.is_empty() && entry.priority == 0 {
            true => Ok(()),
            false => Err(Refusal::DefaultKey { table: name() }),
        };
    }
    if table.fields.is_empty() {
        return Err(Refusal::Keyless { table: name() });
    }
    matches(table, &entry.r#match)?;
    let needed = table.needs_priority();
    let fine = if needed { entry.priority > 0 } else { entry.priority == 0 };
    if fine { Ok(()) } else { Err(Refusal::Priority { table: name(), priority: entry.priority, needed }) }
}

/// A pattern of entries to read.
pub(super) fn pattern(info: &Info, pattern: &TableEntry) -> Result<(), Refusal> {
    if pattern.table_id == 0 {
        return Ok(());
    }
    let table = table(info, pattern.table_id)?;
    if !pattern.r#match.is_empty() {
        matches(table, &pattern.r#match)?;
    }
    if pattern.priority < 0 {
        return Err(Refusal::Negative { what: "priority" });
    }
    Ok(())
}

fn matches(table: &Table, matches: &[FieldMatch]) -> Result<(), Refusal> {
    for (at, given) in matches.iter().enumerate() {
        let unknown = || Refusal::UnknownPart { place: table.name.clone(), id: given.field_id };
        let field = table.field(given.field_id).ok_or_else(unknown)?;
        if matches.iter().take(at).any(|other| other.field_id == given.field_id) {
            return Err(Refusal::PartTwice { place: table.name.clone(), name: field.value.name.clone() });
        }
        one_match(table, field, given)?;
    }
    let missing =
        |field: &&Field| field.kind == Kind::Exact && matches.iter().all(|given| given.field_id != field.value.id);
    match table.fields.iter().find(missing) {
        Some(field) => Err(Refusal::MissingPart { place: table.name.clone(), name: field.value.name.clone() }),
        None => Ok(()),
    }
}

fn one_match(table: &Table, field: &Field, given: &FieldMatch) -> Result<(), Refusal> {
    let names = || (table.name.clone(), field.value.name.clone());
    let fits = |value: &[u8]| fits(&table.name, &field.value, value);
    let dont_care = || {
        let (table, field) = names();
        Refusal::DontCare { table, field }
    };
    let outside = || {
        let (table, field) = names();
        Refusal::OutsideMask { table, field }
    };
    match (field.kind, &given.field_match_type) {
        (Kind::Exact, Some(FieldMatchType::Exact(exact))) => fits(&exact.value),
        (Kind::Optional, Some(FieldMatchType::Optional(optional))) => fits(&optional.value),
        (Kind::Ternary, Some(FieldMatchType::Ternary(ternary))) => {
            fits(&ternary.value)?;
            fits(&ternary.mask)?;
            if bytes::bits(&ternary.mask) == 0 {
                return Err(dont_care());
            }
            if bytes::within(&ternary.value, &ternary.mask) { Ok(()) } else { Err(outside()) }
        }
        (Kind::Lpm, Some(FieldMatchType::Lpm(lpm))) => {
            fits(&lpm.value)?;
            let width = field.value.width;
            let (table, field) = names();
            let wrong = Refusal::Prefix { table, field, length: lpm.prefix_len, width };
            let length = u32::try_from(lpm.prefix_len).map_err(|_| wrong.clone())?;
            if length == 0 {
                return Err(dont_care());
            }
            let free = width.checked_sub(length).ok_or(wrong)?;
            match bytes::trailing_zeros(&lpm.value) {
                Some(zeros) if zeros < free as usize => Err(outside()),
                _ => Ok(()),
            }
        }
        (Kind::Range, Some(FieldMatchType::Range(range))) => {
            fits(&range.low)?;
            fits(&range.high)?;
            let (low, high) = (&range.low, &range.high);
            let all = bytes::all_ones(field.value.width as usize);
            if bytes::compare(low, high).is_gt() {
                let (table, field) = names();
                return Err(Refusal::Range { table, field });
            }
            if bytes::bits(low) == 0 && bytes::compare(high, &all).is_eq() { Err(dont_care()) } else { Ok(()) }
        }
        _ => {
            let (table, field) = names();
            Err(Refusal::MatchKind { table, field })
        }
    }
}
