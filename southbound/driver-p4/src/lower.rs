//! From an entry of the pipeline to one of the program's tables.

use crate::{
    layout::{self, Headers},
    shape::{self, Part},
};
use bulkhead_p4runtime::{
    bytes,
    info::{self, Info},
    proto::p4::v1::{
        Action as P4Action, FieldMatch, TableAction, TableEntry, action::Param, field_match, table_action,
    },
};
use bulkhead_pipeline::{Cause, Entry, EntryKey, Field, Match, Next, overlay::Tunnel, render_entry};
use bulkhead_topology::Port;

/// Why an entry has no place in the program. It is the compiler's mistake, the layout's, or a device's that has another
/// program; nothing of it is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry}: {why}")]
pub struct LowerError {
    /// The entry, for people.
    pub entry: String,
    /// The rule that it stands for.
    pub cause: Cause,
    /// What the program has not.
    pub why: Missing,
}

/// What the program has not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The stage has no table.
    #[error("the program has no table {0}")]
    Table(String),
    /// The table's key has no place for a field.
    #[error("the key of table {table} has no place for {field}")]
    Field {
        /// The table.
        table: String,
        /// The field.
        field: &'static str,
    },
    /// Which of several fields a part of the key stands for, the entry leaves open.
    #[error("what else it matches does not say that {0} is {1}")]
    Open(&'static str, &'static str),
    /// A field is matched under a mask that its place in the key has no room for.
    #[error("{0} is matched in part")]
    Part(&'static str),
    /// No action does what the entry does.
    #[error("table {table} has no action for what it does ({shape})")]
    Shape {
        /// The table.
        table: String,
        /// What it does, as actions are named.
        shape: String,
    },
    /// The switch has no such port.
    #[error("port {0} is none: ports of this switch are numbers from 1 to {max}", max = layout::MAX_PORT)]
    Port(Port),
    /// A value is too wide for its place.
    #[error("{0} does not fit into {1} bits")]
    Wide(&'static str, u32),
}

/// The program's entry of an entry.
///
/// # Errors
/// What the program, as `info` has it, has no place for.
pub fn lower(entry: &Entry, info: &Info) -> Result<TableEntry, LowerError> {
    lowered(entry, info).map_err(|why| LowerError { entry: render_entry(entry), cause: entry.cause, why })
}

fn lowered(entry: &Entry, info: &Info) -> Result<TableEntry, Missing> {
    let (table, matches) = matches(&entry.key, info)?;
    if let Some(port) = entry.ports().find(|port| layout::port_number(port).is_none()) {
        return Err(Missing::Port(port.clone()));
    }
    Ok(TableEntry {
        table_id: table.id,
        r#match: matches,
        action: Some(TableAction { r#type: Some(table_action::Type::Action(action(entry, table, info)?)) }),
        priority: priority(entry.key.priority),
        metadata: layout::metadata(entry.cause).to_vec(),
        ..TableEntry::default()
    })
}

/// Devices have no priority 0 (P4Runtime §9.1); stages' misses do.
fn priority(priority: u16) -> i32 {
    i32::from(priority) + 1
}

fn matches<'a>(key: &EntryKey, info: &'a Info) -> Result<(&'a info::Table, Vec<FieldMatch>), Missing> {
    let name = layout::table(key.stage);
    let table = info.table_named(&name).ok_or_else(|| Missing::Table(name.clone()))?;
    let headers = headers(&key.matches);
    let mut all: Vec<FieldMatch> = Vec::with_capacity(key.matches.fields().len() + 1);
    let mut add = |slot: &'static str, value: u128, mask: u128| {
        let field = table.field_named(slot);
        let field = field.ok_or_else(|| Missing::Field { table: name.clone(), field: slot })?;
        let ternary = field_match::Ternary { value: bytes::from_u128(value), mask: bytes::from_u128(mask) };
        let kind = Some(field_match::FieldMatchType::Ternary(ternary));
        all.push(FieldMatch { field_id: field.value.id, field_match_type: kind });
        Ok(())
    };
    if let Some(port) = &key.matches.in_port {
        let number = layout::port_number(port).ok_or_else(|| Missing::Port(port.clone()))?;
        add(layout::IN_PORT.name, number, full(layout::PORT_WIDTH))?;
    }
    for (field, value, mask) in key.matches.fields() {
        let slot = layout::slot(*field);
        if !layout::matched(key.stage).any(|known| known == *field) {
            return Err(Missing::Field { table: name.clone(), field: field.as_str() });
        }
        let whole = || if *mask == field.full_mask() { Ok(()) } else { Err(Missing::Part(field.as_str())) };
        let (value, mask) = match field {
            Field::TunSrc4 => {
                whole()?;
                (layout::MAPPED | value, u128::MAX)
            }
            Field::TunSrc6 if value >> 32 == layout::MAPPED >> 32 => {
                return Err(Missing::Open(slot.name, field.as_str()));
            }
            Field::TunSrc6 => {
                whole()?;
                (*value, u128::MAX)
            }
            Field::ArpOp => {
                whole()?;
                if *value > full(slot.width) {
                    return Err(Missing::Wide(field.as_str(), slot.width));
                }
                (*value, full(slot.width))
            }
            Field::TunIdentity | Field::TunGbp => {
                let told = if *field == Field::TunIdentity { Tunnel::Geneve } else { Tunnel::Vxlan };
                if headers.tunnel != Some(told) {
                    return Err(Missing::Open(slot.name, field.as_str()));
                }
                (*value, *mask)
            }
            _ if layout::is_shared(*field) && headers.field(key.stage, slot.name) != Some(*field) => {
                return Err(Missing::Open(slot.name, field.as_str()));
            }
            _ => (*value, *mask),
        };
        add(slot.name, value, mask)?;
    }
    all.sort_unstable_by_key(|field| field.field_id);
    Ok((table, all))
}

fn headers(matches: &Match) -> Headers {
    let ethertype = matches.exact(Field::EthType);
    Headers {
        ethertype,
        protocol: matches.exact(Field::IpProto).or_else(|| matches.exact(Field::ArpOp)),
        l4_src: matches.exact(Field::IcmpType).or_else(|| matches.exact(Field::L4Src)),
        tunnel: matches.in_port.as_ref().and_then(Tunnel::of),
    }
}

pub(crate) fn full(width: u32) -> u128 {
    u128::MAX >> (128 - width.clamp(1, 128))
}

fn action(entry: &Entry, table: &info::Table, info: &Info) -> Result<P4Action, Missing> {
    let stage = entry.key.stage;
    let missing = |shape: String| Missing::Shape { table: table.name.clone(), shape };
    let shape = shape::shape(entry).ok_or_else(|| missing(format!("{:?}", entry.actions)))?;
    let found = info.action_named(&layout::action(stage, &shape));
    let action = found.filter(|action| table.actions.contains_key(&action.id)).ok_or_else(|| missing(shape))?;
    let next = match entry.next {
        Next::Stage(next) => next as u8,
        Next::Done => layout::DONE,
        Next::Drop => layout::DROP,
    };
    let mut values = vec![("next", u128::from(next))];
    for (part, value) in entry.actions.iter().filter_map(Part::of) {
        let value = if part == Part::Log { layout::log(entry) } else { value };
        if let (Some(param), Some(value)) = (part.param(), value) {
            if value > full(param.width) {
                return Err(Missing::Wide(param.name, param.width));
            }
            values.push((param.name, value));
        }
    }
    let param = |param: &info::Value| {
        let value = values.iter().find(|(name, _)| *name == param.name);
        value.map(|(_, value)| Param { param_id: param.id, value: bytes::from_u128(*value) })
    };
    let params: Option<Vec<Param>> = action.params.iter().map(param).collect();
    let params = params.filter(|params| params.len() == values.len());
    let params = params.ok_or_else(|| missing(action.name.clone()))?;
    Ok(P4Action { action_id: action.id, params })
}
