//! Whether an update, a read, or a packet fits a program: the same checks before sending and on receipt.
//!
//! They see one message and the [`Info`] only. What depends on the state of a device, as whether an entry exists or a
//! table is full, is the device's to say.

use crate::{
    bytes,
    info::{Info, Table, Value},
    proto::p4::v1::{CounterData, Entity, PacketMetadata, Update, entity::Entity as Kind, update::Type},
};

mod action;
mod entry;
mod others;
mod profile;
mod refusal;
#[cfg(test)]
mod tests;

pub use refusal::Refusal;

pub(crate) use action::default_action;

/// Whether an update may be sent.
///
/// # Errors
/// What is wrong with it, and with which code a device refuses it.
pub fn update(info: &Info, update: &Update) -> Result<(), Refusal> {
    let change = match update.r#type() {
        Type::Unspecified => return Err(Refusal::NoType),
        change => change,
    };
    match update.entity.as_ref().and_then(|entity| entity.entity.as_ref()) {
        None => Err(Refusal::NoEntity),
        Some(Kind::TableEntry(entry)) => entry::entry(info, change, entry),
        Some(Kind::ActionProfileMember(member)) => profile::member(info, change, member),
        Some(Kind::ActionProfileGroup(group)) => profile::group(info, change, group),
        Some(Kind::MeterEntry(meter)) => others::meter(info, change, meter),
        Some(Kind::CounterEntry(counter)) => others::counter(info, change, counter),
        Some(Kind::DirectCounterEntry(counter)) => others::direct_counter(info, change, counter),
        Some(Kind::PacketReplicationEngineEntry(entry)) => others::replication(change, entry),
        Some(Kind::DigestEntry(digest)) => others::digest(info, digest),
    }
}

/// Whether a pattern may be read: a part at its default is any (P4Runtime §13.2).
///
/// # Errors
/// What is wrong with it, and with which code a device refuses it.
pub fn read(info: &Info, entity: &Entity) -> Result<(), Refusal> {
    let known = |id: u32, there: bool, kind| if id == 0 || there { Ok(()) } else { Err(Refusal::Unknown { kind, id }) };
    match &entity.entity {
        None => Err(Refusal::NoEntity),
        Some(Kind::TableEntry(pattern)) => entry::pattern(info, pattern),
        Some(Kind::DirectCounterEntry(pattern)) => match &pattern.table_entry {
            Some(pattern) => entry::pattern(info, pattern),
            None => Err(Refusal::NoTableEntry),
        },
        Some(Kind::ActionProfileMember(member)) => {
            let id = member.action_profile_id;
            known(id, info.profile(id).is_some(), "action profile")
        }
        Some(Kind::ActionProfileGroup(group)) => {
            let id = group.action_profile_id;
            known(id, info.profile(id).is_some(), "action profile")
        }
        Some(Kind::CounterEntry(counter)) => {
            let id = counter.counter_id;
            known(id, info.counter(id).is_some(), "counter")?;
            match (info.counter(id), &counter.index) {
                (Some(of), Some(index)) => others::index(&of.name, of.size, index.index),
                _ => Ok(()),
            }
        }
        Some(Kind::MeterEntry(meter)) => {
            let id = meter.meter_id;
            known(id, info.meter(id).is_some(), "meter")?;
            match (info.meter(id), &meter.index) {
                (Some(of), Some(index)) => others::index(&of.name, of.size, index.index),
                _ => Ok(()),
            }
        }
        Some(Kind::PacketReplicationEngineEntry(entry)) if entry.r#type.is_none() => Err(Refusal::NoEntity),
        Some(Kind::PacketReplicationEngineEntry(_)) => Ok(()),
        Some(Kind::DigestEntry(digest)) => known(digest.digest_id, info.digest(digest.digest_id).is_some(), "digest"),
    }
}

/// Whether what goes with a packet is what the program says: each field once (P4Runtime §16.1). For a packet out,
/// `fields` are [`Info::packet_out`].
///
/// # Errors
/// What is wrong with it.
pub fn packet(fields: &[Value], metadata: &[PacketMetadata]) -> Result<(), Refusal> {
    const PLACE: &str = "the packet's metadata";
    let given = metadata.iter().map(|one| (one.metadata_id, one.value.as_slice()));
    all_values(PLACE, fields, given)
}

/// Whether there is exactly one fitting value for each of some fields or parameters.
fn all_values<'a>(
    place: &str,
    fields: &[Value],
    given: impl Iterator<Item = (u32, &'a [u8])> + Clone,
) -> Result<(), Refusal> {
    for (at, (id, value)) in given.clone().enumerate() {
        let field = fields.iter().find(|field| field.id == id);
        let field = field.ok_or_else(|| Refusal::UnknownPart { place: place.to_owned(), id })?;
        if given.clone().take(at).any(|(other, _)| other == id) {
            return Err(Refusal::PartTwice { place: place.to_owned(), name: field.name.clone() });
        }
        fits(place, field, value)?;
    }
    match fields.iter().find(|field| given.clone().all(|(id, _)| id != field.id)) {
        Some(missing) => Err(Refusal::MissingPart { place: place.to_owned(), name: missing.name.clone() }),
        None => Ok(()),
    }
}

/// Whether a value is in its one form and not too wide.
fn fits(place: &str, field: &Value, value: &[u8]) -> Result<(), Refusal> {
    let (place, name) = (|| place.to_owned(), || field.name.clone());
    if !bytes::is_canonical(value) {
        return Err(Refusal::NotCanonical { place: place(), name: name() });
    }
    let bits = bytes::bits(value);
    if bits > field.width as usize {
        return Err(Refusal::TooWide { place: place(), name: name(), bits, width: field.width });
    }
    Ok(())
}

fn table(info: &Info, id: u32) -> Result<&Table, Refusal> {
    info.table(id).ok_or(Refusal::Unknown { kind: "table", id })
}

fn counts(data: Option<&CounterData>) -> Result<(), Refusal> {
    match data.filter(|data| data.byte_count < 0 || data.packet_count < 0) {
        Some(_) => Err(Refusal::Negative { what: "count" }),
        None => Ok(()),
    }
}
