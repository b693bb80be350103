//! From an entry of the pipeline to one of the program's tables.

use crate::{
    layout::{self, Headers},
    places::{Places, Table, Value},
    shape::{self, Part},
};
use bulkhead_p4runtime::{
    bytes,
    info::Info,
    proto::p4::v1::{
        Action as P4Action, FieldMatch, TableAction, TableEntry, action::Param, field_match, table_action,
    },
};
use bulkhead_pipeline::{Action, Cause, Entry, EntryKey, Field, Match, Next, overlay::Tunnel, render_entry};
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

/// The program's entry of one entry; of many, see [`Places::lower`].
///
/// # Errors
/// What the program, as `info` has it, has no place for.
pub fn lower(entry: &Entry, info: &Info) -> Result<TableEntry, LowerError> {
    lowered(entry, Table::new(entry.key.stage, info).as_ref())
}

impl Places {
    /// The program's entry of an entry.
    ///
    /// # Errors
    /// What the program has no place for.
    pub fn lower(&self, entry: &Entry) -> Result<TableEntry, LowerError> {
        lowered(entry, self.table(entry.key.stage))
    }

    /// By what the program's entry of an entry is known, and no more.
    ///
    /// # Errors
    /// As [`Self::lower`], but for what it does.
    pub fn key(&self, entry: &Entry) -> Result<TableEntry, LowerError> {
        table(&entry.key, self.table(entry.key.stage)).and_then(|table| key(entry, table)).map_err(of(entry))
    }

    /// Whether an entry can be lowered; nothing is made of it.
    ///
    /// # Errors
    /// As [`Self::lower`].
    pub fn check(&self, entry: &Entry) -> Result<(), LowerError> {
        let check = |table| {
            matches(&entry.key, table, |_, _, _| {})?;
            act(entry, table, |_, _| {}).map(drop)
        };
        table(&entry.key, self.table(entry.key.stage)).and_then(check).map_err(of(entry))
    }
}

fn of(entry: &Entry) -> impl FnOnce(Missing) -> LowerError {
    |why| LowerError { entry: render_entry(entry), cause: entry.cause, why }
}

fn table<'a>(key: &EntryKey, table: Option<&'a Table>) -> Result<&'a Table, Missing> {
    table.ok_or_else(|| Missing::Table(layout::table(key.stage)))
}

fn lowered(entry: &Entry, found: Option<&Table>) -> Result<TableEntry, LowerError> {
    let lowered = |table| {
        let mut lowered = key(entry, table)?;
        let mut params = Vec::with_capacity(entry.actions.len() + 1);
        let action_id = act(entry, table, |param_id, value| {
            params.push(Param { param_id, value: bytes::from_u128(value) });
        })?;
        let action = P4Action { action_id, params };
        lowered.action = Some(TableAction { r#type: Some(table_action::Type::Action(action)) });
        lowered.metadata = layout::metadata(entry.cause).to_vec();
        Ok(lowered)
    };
    table(&entry.key, found).and_then(lowered).map_err(of(entry))
}

fn key(entry: &Entry, table: &Table) -> Result<TableEntry, Missing> {
    let mut all: Vec<FieldMatch> = Vec::with_capacity(entry.key.matches.fields().count() + 1);
    matches(&entry.key, table, |field_id, value, mask| {
        let ternary = field_match::Ternary { value: bytes::from_u128(value), mask: bytes::from_u128(mask) };
        all.push(FieldMatch { field_id, field_match_type: Some(field_match::FieldMatchType::Ternary(ternary)) });
    })?;
    all.sort_unstable_by_key(|field| field.field_id);
    let priority = priority(entry.key.priority);
    Ok(TableEntry { table_id: table.id, r#match: all, priority, ..TableEntry::default() })
}

/// Devices have no priority 0 (P4Runtime §9.1); stages' misses do.
fn priority(priority: u16) -> i32 {
    i32::from(priority) + 1
}

/// Adds each part of a match: its place in the table's key, value and mask.
fn matches(key: &EntryKey, table: &Table, mut add: impl FnMut(u32, u128, u128)) -> Result<(), Missing> {
    let no_place = |field: &'static str| Missing::Field { table: layout::table(key.stage), field };
    let headers = headers(&key.matches);
    if let Some(port) = &key.matches.in_port {
        let number = layout::port_number(port).ok_or_else(|| Missing::Port(port.clone()))?;
        let place = table.in_port.ok_or_else(|| no_place(layout::IN_PORT.name))?;
        add(place, number, full(layout::PORT_WIDTH));
    }
    for (field, value, mask) in key.matches.fields() {
        let place = table.place(field).ok_or_else(|| no_place(field.as_str()))?;
        let slot = place.slot;
        let whole = || if mask == field.full_mask() { Ok(()) } else { Err(Missing::Part(field.as_str())) };
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
                (value, u128::MAX)
            }
            Field::ArpOp => {
                whole()?;
                if value > full(slot.width) {
                    return Err(Missing::Wide(field.as_str(), slot.width));
                }
                (value, full(slot.width))
            }
            Field::TunIdentity | Field::TunGbp => {
                let told = if field == Field::TunIdentity { Tunnel::Geneve } else { Tunnel::Vxlan };
                if headers.tunnel != Some(told) {
                    return Err(Missing::Open(slot.name, field.as_str()));
                }
                (value, mask)
            }
            _ if place.shared && headers.field(key.stage, slot.name) != Some(field) => {
                return Err(Missing::Open(slot.name, field.as_str()));
            }
            _ => (value, mask),
        };
        add(place.id, value, mask);
    }
    Ok(())
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

/// The number of the action that an entry is. Adds each of its parameters.
fn act(entry: &Entry, table: &Table, mut add: impl FnMut(u32, u128)) -> Result<u32, Missing> {
    let mut named = entry.actions.iter().flat_map(Action::ports);
    if let Some(port) = named.find(|port| layout::port_number(port).is_none()) {
        return Err(Missing::Port(port.clone()));
    }
    let missing = || {
        let shape = shape::shape(entry).unwrap_or_else(|| format!("{:?}", entry.actions));
        Missing::Shape { table: layout::table(entry.key.stage), shape }
    };
    let deed = table.deed(&entry.actions).ok_or_else(missing)?;
    for (param, value) in &deed.params {
        let value = match value {
            Value::Next => u128::from(match entry.next {
                Next::Stage(next) => next as u8,
                Next::Done => layout::DONE,
                Next::Drop => layout::DROP,
            }),
            Value::Of(at, slot) => {
                let value = match entry.actions.get(*at).and_then(Part::of) {
                    Some((Part::Log, _)) => layout::log(entry),
                    part => part.and_then(|(_, value)| value),
                };
                let value = value.ok_or_else(missing)?;
                if value > full(slot.width) {
                    return Err(Missing::Wide(slot.name, slot.width));
                }
                value
            }
        };
        add(*param, value);
    }
    Ok(deed.id)
}
