//! What is written to the device, as a program of the pipeline, and what of it packets met.

use super::frame;
use crate::device::{Place, State};
use bulkhead_driver_p4::{layout, lift, lower};
use bulkhead_p4runtime::{
    Info,
    entry::Key,
    proto::p4::v1::{CounterData, TableEntry, Update, entity::Entity as Kind, update::Type},
};
use bulkhead_pipeline::{Cause, Entry, EntryKey, Outcome, Packet, Program, walk_stateless};
use bulkhead_topology::Port;
use std::collections::BTreeMap;

/// By what an entry is known to the controller.
type Known = (u32, Key);

/// The tables of a device.
#[derive(Debug, Default)]
pub(super) struct Tables {
    program: Program,
    /// Each entry's place in the program.
    places: BTreeMap<Known, EntryKey>,
    /// Since each entry was inserted.
    counts: BTreeMap<EntryKey, CounterData>,
}

/// Whether it is the program that the interpreter knows: all of its tables, with at least their keys and actions, and none
/// beside them. Sizes are as they please.
pub(super) fn verify(info: &Info) -> Result<(), String> {
    let mut tables = 0;
    for stage in layout::stages() {
        let name = layout::table(stage);
        let table = info.table_named(&name).ok_or(format!("{OTHER}: it has no table {name}"))?;
        for slot in layout::key(stage) {
            let field = table.field_named(slot.name).filter(|field| field.value.width == slot.width);
            field.ok_or(format!("{OTHER}: the key of {name} has no {} of {} bits", slot.name, slot.width))?;
        }
        for action in layout::shapes(stage).iter().map(|shape| layout::action(stage, shape)) {
            info.action_named(&action).ok_or(format!("{OTHER}: it has no action {action}"))?;
        }
        tables += 1;
    }
    if info.tables().count() != tables {
        return Err(format!("{OTHER}: it has more tables"));
    }
    Ok(())
}

const OTHER: &str = "this device forwards by Bulkhead's program alone, and this is another one";

/// Whether what an update brings is one of the entries that the interpreter can know of.
pub(super) fn takes(info: &Info, update: &Update) -> Result<(), String> {
    let Some(Kind::TableEntry(entry)) = update.entity.as_ref().and_then(|entity| entity.entity.as_ref()) else {
        return Ok(());
    };
    if entry.is_default_action {
        return Err("what no entry matches is dropped here".into());
    }
    if update.r#type() == Type::Delete || entry.action.is_none() {
        return Ok(());
    }
    let lifted = lifted(info, entry)?;
    // Of two that mean the same, packets would meet one alone.
    match lower(&lifted, info) {
        Ok(lowered) if Key::of(&lowered) == Key::of(entry) => Ok(()),
        _ => Err("this device does not take such a match: it means another one".into()),
    }
}

/// The pipeline's entry of one of the program's, whoever wrote it.
fn lifted(info: &Info, entry: &TableEntry) -> Result<Entry, String> {
    let mut own = entry.clone();
    if layout::cause(&own.metadata).is_none() {
        own.metadata = layout::metadata(Cause::Rule(0)).to_vec();
    }
    lift(&own, info).map_err(|error| format!("this device does not take such an entry: {error}"))
}

impl Tables {
    pub fn new(state: &State) -> Self {
        let mut tables = Self::default();
        for (place, entity) in state.entities() {
            if let (Place::Entry(table, key), Some(Kind::TableEntry(entry))) = (place, &entity.entity) {
                tables.set((*table, key.clone()), Some(entry), state.info());
            }
        }
        tables
    }

    /// Brings the entries that updates are about to what they are now.
    pub fn changed(&mut self, state: &State, updates: &[Update]) {
        for update in updates {
            let Some(Kind::TableEntry(entry)) = update.entity.as_ref().and_then(|entity| entity.entity.as_ref()) else {
                continue;
            };
            let known = (entry.table_id, Key::of(entry));
            if update.r#type() == Type::Delete {
                // What was inserted again in the same batch counts anew.
                self.set(known.clone(), None, state.info());
            }
            let now = state.entities().get(&Place::Entry(known.0, known.1.clone()));
            let now = now.and_then(|entity| match &entity.entity {
                Some(Kind::TableEntry(entry)) => Some(entry),
                _ => None,
            });
            self.set(known, now, state.info());
        }
    }

    fn set(&mut self, known: Known, entry: Option<&TableEntry>, info: &Info) {
        // What cannot be lifted was not taken.
        let Some(entry) = entry.and_then(|entry| lifted(info, entry).ok()) else {
            if let Some(key) = self.places.remove(&known) {
                self.program.remove(&key);
                self.counts.remove(&key);
            }
            return;
        };
        self.places.insert(known, entry.key.clone());
        self.counts.entry(entry.key.clone()).or_default();
        self.program.insert(entry);
    }

    pub fn hits(&self, table: u32, key: &Key) -> CounterData {
        let place = self.places.get(&(table, key.clone()));
        place.and_then(|place| self.counts.get(place)).copied().unwrap_or_default()
    }

    pub fn pass(&mut self, port: u32, frame: &[u8]) -> Option<(u32, Vec<u8>)> {
        let packet = Packet::parse(Port::Number(port), frame).ok()?;
        let walk = walk_stateless(&self.program, packet.clone());
        for met in walk.steps.iter().filter_map(|step| step.entry) {
            if let Some(count) = self.counts.get_mut(&met.key) {
                count.packet_count += 1;
                count.byte_count += i64::try_from(frame.len()).unwrap_or(0);
            }
        }
        match walk.outcome {
            Outcome::Delivered { port: Port::Number(out), packet: sent } => {
                Some((out, frame::rewritten(frame, &packet, &sent)))
            }
            Outcome::Answered(sent) => Some((port, frame::rewritten(frame, &packet, &sent))),
            _ => None,
        }
    }
}
