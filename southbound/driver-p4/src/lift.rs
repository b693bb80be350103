//! From an entry of the program's tables to one of the pipeline.

use crate::{
    layout::{self, Headers},
    lower::full,
    shape,
};
use bulkhead_p4runtime::{
    bytes,
    info::{self, Info},
    proto::p4::v1::{TableEntry, field_match::FieldMatchType, table_action},
};
use bulkhead_pipeline::{Action, Cause, Entry, Field, Match, Next, Stage, overlay::Tunnel};

/// Why what a device has is no entry of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LiftError {
    /// Somebody else wrote it, or another version of Bulkhead.
    #[error("its metadata is not ours")]
    Foreign,
    /// It is in no table of a stage.
    #[error("table {0} is no stage's")]
    Table(u32),
    /// No entry is lowered to this.
    #[error("{0} is nothing that Bulkhead writes")]
    Strange(&'static str),
}

/// The entry that was lowered to this one.
///
/// # Errors
/// None was.
pub fn lift(lowered: &TableEntry, info: &Info) -> Result<Entry, LiftError> {
    let (entry, log) = lift_any(lowered, info)?;
    if log.is_some() && log != layout::log(&entry) {
        return Err(LiftError::Strange("the rule that it logs"));
    }
    Ok(entry)
}

/// The same of an entry that may log another rule than its own: for devices, which take that from whoever wrote it. And what
/// it says of the rule.
///
/// # Errors
/// As [`lift`].
pub fn lift_any(lowered: &TableEntry, info: &Info) -> Result<(Entry, Option<u128>), LiftError> {
    let cause: Cause = layout::cause(&lowered.metadata).ok_or(LiftError::Foreign)?;
    let table = info.table(lowered.table_id).ok_or(LiftError::Table(lowered.table_id))?;
    let stage = layout::stages().find(|stage| layout::table(*stage) == table.name);
    let stage = stage.ok_or(LiftError::Table(lowered.table_id))?;
    let strange = LiftError::Strange;
    let priority = u16::try_from(i64::from(lowered.priority) - 1).map_err(|_| strange("its priority"))?;
    let matches = matches(stage, lowered, table).ok_or(strange("its match"))?;
    let (actions, next, log) = actions(stage, lowered, info).ok_or(strange("its action"))?;
    Ok((Entry::new(stage, priority, matches, actions, next, cause), log))
}

fn matches(stage: Stage, lowered: &TableEntry, table: &info::Table) -> Option<Match> {
    let mut parts: Vec<(&str, u128, u128)> = Vec::with_capacity(lowered.r#match.len());
    for part in &lowered.r#match {
        let field = table.field(part.field_id)?;
        let FieldMatchType::Ternary(ternary) = part.field_match_type.as_ref()? else { return None };
        parts.push((&field.value.name, bytes::to_u128(&ternary.value)?, bytes::to_u128(&ternary.mask)?));
    }
    let exact = |name: &str, width: u32| {
        let part = parts.iter().find(|(of, _, mask)| *of == name && *mask == full(width));
        part.map(|(_, value, _)| *value)
    };
    let in_port = match exact(layout::IN_PORT.name, layout::PORT_WIDTH) {
        Some(number) => Some(layout::port_of(number)?),
        None if parts.iter().any(|(name, ..)| *name == layout::IN_PORT.name) => return None,
        None => None,
    };
    let width = |field| layout::slot(field).width;
    let mut headers = Headers {
        ethertype: exact(Field::EthType.as_str(), width(Field::EthType)),
        protocol: exact("protocol", width(Field::IpProto)),
        l4_src: exact("l4_src", width(Field::L4Src)),
        tunnel: in_port.as_ref().and_then(Tunnel::of),
    };
    // A message's type is told by as many bits as it has.
    headers.l4_src = headers.l4_src.or_else(|| exact("l4_src", Field::IcmpType.width()));
    let mut matches = Match::any();
    matches.in_port = in_port;
    for (name, value, mask) in parts.iter().filter(|(name, ..)| *name != layout::IN_PORT.name) {
        let (field, value, mask) = match *name {
            "tun_src" if *mask == u128::MAX && value >> 32 == layout::MAPPED >> 32 => {
                (Field::TunSrc4, value & full(32), full(32))
            }
            "tun_src" if *mask == u128::MAX => (Field::TunSrc6, *value, *mask),
            "tun_identity" => match headers.tunnel? {
                Tunnel::Geneve => (Field::TunIdentity, *value, *mask),
                Tunnel::Vxlan => (Field::TunGbp, *value, *mask),
            },
            own if let Some(field) = own_field(stage, own) => (field, *value, *mask),
            shared => match headers.field(stage, shared)? {
                Field::ArpOp if *mask == full(8) => (Field::ArpOp, *value, Field::ArpOp.full_mask()),
                Field::ArpOp => return None,
                field => (field, *value, *mask),
            },
        };
        if mask & !field.full_mask() != 0 || value & !mask != 0 {
            return None;
        }
        matches = matches.masked(field, value, mask);
    }
    Some(matches)
}

/// The field that has a part of the key for itself.
fn own_field(stage: Stage, name: &str) -> Option<Field> {
    layout::matched(stage).find(|field| field.as_str() == name && !layout::is_shared(*field))
}

/// What an entry does, where packets go next, and what is said of its rule where it logs.
fn actions(stage: Stage, lowered: &TableEntry, info: &Info) -> Option<(Vec<Action>, Next, Option<u128>)> {
    let Some(table_action::Type::Action(chosen)) = &lowered.action.as_ref()?.r#type else { return None };
    let action = info.action(chosen.action_id)?;
    let shape = action.name.strip_prefix(&layout::action(stage, ""))?;
    let value = |name: &str| {
        let id = action.param_named(name)?.id;
        let param = chosen.params.iter().find(|param| param.param_id == id)?;
        bytes::to_u128(&param.value)
    };
    let next = match u8::try_from(value("next")?).ok()? {
        layout::DONE => Next::Done,
        layout::DROP => Next::Drop,
        index => Next::Stage(Stage::from_index(index)?),
    };
    let parts = shape::parts(shape)?.into_iter();
    let actions = parts.map(|part| match part.param() {
        Some(param) => part.action(value(param.name)?),
        None => part.action(0),
    });
    Some((actions.collect::<Option<_>>()?, next, value("log")))
}
