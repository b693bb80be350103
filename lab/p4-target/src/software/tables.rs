//! What is written to the device, as a program of the pipeline, and what of it packets met.

use super::frame;
use crate::device::{Place, State};
use bulkhead_dataplane::{
    Allowance,
    reject::{REJECT_BYTES, Why},
};
use bulkhead_driver_p4::{
    controller::{self, Refused, Told, Way},
    layout, lift_any, lower,
    underlay::{self, Row},
};
use bulkhead_p4runtime::{
    Info,
    entry::Key,
    proto::p4::v1::{CounterData, PacketIn, PacketOut, TableEntry, Update, entity::Entity as Kind, update::Type},
};
use bulkhead_pipeline::{
    Cause, Entry, EntryKey, Field, Outcome, Packet, Program, Walk, conn,
    overlay::Tunnel,
    walk_stateless,
    wire::{self, Header, Received, Vtep},
};
use bulkhead_topology::Port;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
    /// What the device knows of the underlay.
    beside: BTreeMap<Known, (Row, CounterData)>,
    /// How many packets the controller wants whose senders are told, and about which lines are written; `None` is all.
    told: Option<Allowance>,
    log: Option<Allowance>,
    /// What goes with packets.
    info: Option<Arc<Info>>,
}

/// What became of a frame.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Passed {
    /// It comes out of a port, as this.
    pub out: Option<(u32, Vec<u8>)>,
    /// The controller is to tell its sender something, or to write a line.
    pub told: Option<PacketIn>,
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
    let beside = [underlay::PORTS, underlay::ROUTES];
    if let Some(missing) = beside.into_iter().find(|name| info.table_named(name).is_none()) {
        return Err(format!("{OTHER}: it has no table {missing}"));
    }
    let says = [info.packet_in(), info.packet_out()].iter().all(|fields| !fields.is_empty());
    if !says || controller::rate(controller::LOG, 1, info).is_err() {
        return Err(format!("{OTHER}: it has nothing to do with its controller"));
    }
    if info.tables().count() != tables + beside.len() {
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
    if is_beside(info, entry.table_id) {
        let row = underlay::lift(&own(entry), info);
        return row.map(drop).ok_or("this device does not take such a port or route".into());
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
    let lifted = lift_any(&own(entry), info).map(|(entry, _)| entry);
    lifted.map_err(|error| format!("this device does not take such an entry: {error}"))
}

/// The same entry as Bulkhead's.
fn own(entry: &TableEntry) -> TableEntry {
    let mut own = entry.clone();
    if layout::cause(&own.metadata).is_none() {
        own.metadata = layout::metadata(Cause::Rule(0)).to_vec();
    }
    own
}

/// Whether a table says what the device knows of the underlay, and is no stage's.
fn is_beside(info: &Info, table: u32) -> bool {
    info.table(table).is_some_and(underlay::is_beside)
}

fn add(count: &mut CounterData, frame: &[u8]) {
    count.packet_count += 1;
    count.byte_count += i64::try_from(frame.len()).unwrap_or(0);
}

/// What the sender of a packet is told, which was this at the end of its way.
fn refused(why: Why, came: Way, last: &Packet) -> Refused {
    let is = |field| last.value(field) as u32;
    // An answer was judged as the question that it answers.
    let swapped = last.value(Field::Conn) & conn::RPL != 0;
    let [asker, asked] = if swapped { [Field::DstId, Field::SrcId] } else { [Field::SrcId, Field::DstId] }.map(is);
    Refused { why, came, vlan: last.value(Field::InVlan) as u16, asker, asked }
}

/// What entries say of lines about a packet, by the sort of their stages.
fn log(walk: &Walk<'_>) -> BTreeMap<String, u128> {
    let lines = walk.logged.iter().filter_map(|entry| {
        let name = layout::identifier(entry.key.stage);
        Some((name.rsplit_once('_')?.0.to_owned(), layout::log(entry)?))
    });
    lines.collect()
}

impl Tables {
    pub fn new(state: &State) -> Self {
        let mut tables = Self { info: Some(state.shared_info()), ..Self::default() };
        tables.limit(state);
        for (place, entity) in state.entities() {
            if let (Place::Entry(table, key), Some(Kind::TableEntry(entry))) = (place, &entity.entity) {
                tables.set((*table, key.clone()), Some(entry), state.info());
            }
        }
        tables
    }

    /// Brings the entries that updates are about to what they are now.
    pub fn changed(&mut self, state: &State, updates: &[Update]) {
        let meters = |update: &&Update| {
            matches!(update.entity.as_ref().and_then(|entity| entity.entity.as_ref()), Some(Kind::MeterEntry(_)))
        };
        if updates.iter().any(|update| meters(&update)) {
            self.limit(state);
        }
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

    /// Meters begin anew when one of them is set.
    fn limit(&mut self, state: &State) {
        let meter = state.info().meter_named(controller::METER);
        let limit = |index| {
            let rate = state.rate(meter?.id, index)?;
            Some(Allowance::new(u32::try_from(rate.cir).unwrap_or(u32::MAX)))
        };
        (self.told, self.log) = (limit(controller::TOLD), limit(controller::LOG));
    }

    fn set(&mut self, known: Known, entry: Option<&TableEntry>, info: &Info) {
        if is_beside(info, known.0) {
            match entry.and_then(|entry| underlay::lift(&own(entry), info)) {
                Some(row) => {
                    let count = self.beside.get(&known).map(|(_, count)| *count).unwrap_or_default();
                    self.beside.insert(known, (row, count));
                }
                None => drop(self.beside.remove(&known)),
            }
            return;
        }
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
        let known = (table, key.clone());
        if let Some((_, count)) = self.beside.get(&known) {
            return *count;
        }
        self.places.get(&known).and_then(|place| self.counts.get(place)).copied().unwrap_or_default()
    }

    pub fn pass(&mut self, port: u32, frame: &[u8], now: Duration) -> Option<Passed> {
        let Some(own) = self.underlay_at(port, frame) else {
            let packet = Packet::parse(Port::Number(port), frame).ok()?;
            return Some(self.judge(packet, frame, None, now));
        };
        Some(match wire::receive(own, frame) {
            Received::Asked(back) => Passed { out: Some((port, back)), told: None },
            Received::Tunnelled(header, inside) => self.judge(header.packet(inside).ok()?, inside, Some(header), now),
            // It counts with what no network owns.
            Received::Malformed(tunnel) => self.judge(Packet::new(tunnel.port()), frame, None, now),
            // A port that no entry knows.
            Received::Other => self.judge(Packet::parse(Port::Number(0), frame).ok()?, frame, None, now),
        })
    }

    /// Who the device is in the underlay, if that is at this port.
    fn underlay_at(&mut self, at: u32, frame: &[u8]) -> Option<Vtep> {
        self.beside.values_mut().find_map(|(row, count)| match row {
            Row::Port { port, mac, vtep } if *port == at => {
                add(count, frame);
                Some(Vtep { mac: *mac, ip: *vtep })
            }
            _ => None,
        })
    }

    /// What the program says of a packet, which is this frame; of a tunnel's, what was in front.
    fn judge(&mut self, packet: Packet, frame: &[u8], header: Option<Header>, now: Duration) -> Passed {
        let walk = walk_stateless(&self.program, packet.clone());
        for met in walk.steps.iter().filter_map(|step| step.entry) {
            if let Some(count) = self.counts.get_mut(&met.key) {
                add(count, frame);
            }
        }
        let log = log(&walk);
        let Walk { outcome, ended: last, .. } = walk;
        let (mut out, mut why) = (None, None);
        match (outcome, &packet.in_port) {
            (Outcome::Delivered { port: Port::Number(port), packet: sent }, _) => {
                out = Some((port, frame::rewritten(frame, &packet, &sent)));
            }
            (Outcome::Answered(sent), Port::Number(port)) => {
                out = Some((*port, frame::rewritten(frame, &packet, &sent)));
            }
            // Into a tunnel goes nothing that came by one.
            (Outcome::Delivered { port, packet: sent }, Port::Number(_)) => {
                let header = Tunnel::of(&port).and_then(|tunnel| Header::of(tunnel, &sent));
                let frame = frame::rewritten(frame, &packet, &sent);
                out = header.and_then(|header| self.send(&header, wire::flow(&packet), &frame));
            }
            (Outcome::Rejected(_), _) => why = Some(Why::Refused),
            (Outcome::Expired { from, .. }, _) => why = Some(Why::Expired(from)),
            (Outcome::NoRoute { from, .. }, _) => why = Some(Why::NoRoute(from)),
            (Outcome::TooBig { mtu, .. }, _) => why = Some(Why::TooBig(mtu)),
            _ => {}
        }
        let came = match (&packet.in_port, header) {
            (_, Some(header)) => Way::Tunnel(header),
            (Port::Number(port), None) => Way::Port(*port),
            (Port::Name(_), None) => return Passed { out, told: None },
        };
        let refused = why.map(|why| refused(why, came, &last));
        let payload = || frame::rewritten(frame, &packet, &last);
        Passed { out, told: self.tell(came, refused, log, payload, now) }
    }

    /// What the controller gets, if it is to get anything, and wants it.
    fn tell(
        &mut self,
        came: Way,
        refused: Option<Refused>,
        log: BTreeMap<String, u128>,
        payload: impl FnOnce() -> Vec<u8>,
        now: Duration,
    ) -> Option<PacketIn> {
        let wanted = |left: &mut Option<Allowance>| left.as_mut().is_none_or(|left| left.take(now));
        let refused = refused.filter(|_| wanted(&mut self.told));
        let log = if !log.is_empty() && wanted(&mut self.log) { log } else { BTreeMap::new() };
        if refused.is_none() && log.is_empty() {
            return None;
        }
        let said = |sort: &str| log.get(sort).copied().unwrap_or(0);
        let metadata = Told::metadata(came, refused.as_ref(), said, self.info.as_deref()?).ok()?;
        let mut payload = payload();
        payload.truncate(REJECT_BYTES.into());
        Some(PacketIn { payload, metadata })
    }

    /// By which port a packet of the controller's leaves, as which frame.
    pub fn leave(&mut self, packet: &PacketOut) -> Option<(u32, Vec<u8>)> {
        match Way::leaving(&packet.metadata, self.info.as_deref()?)? {
            Way::Port(port) => Some((port, packet.payload.clone())),
            Way::Tunnel(header) => {
                let flow = wire::flow(&Packet::parse(header.tunnel.port(), &packet.payload).ok()?);
                self.send(&header, flow, &packet.payload)
            }
        }
    }

    /// A frame on its way to another switch: by the longest prefix, and by one neighbour for each flow.
    fn send(&mut self, header: &Header, flow: u16, frame: &[u8]) -> Option<(u32, Vec<u8>)> {
        let far = underlay::address(header.far);
        let leads = |(row, count)| match row {
            Row::Route { to: (prefix, length), via, mac, vtep } => {
                let bits = 128u32.saturating_sub(length);
                let here = (far ^ prefix).checked_shr(bits).unwrap_or(0) == 0;
                here.then_some((length, via, Vtep { mac, ip: vtep }, count))
            }
            Row::Port { .. } => None,
        };
        let ways = self.beside.values_mut().map(|(row, count)| (row.clone(), count));
        let (_, via, own, count) = ways.filter_map(leads).max_by_key(|(length, ..)| *length)?;
        add(count, frame);
        let hop = via.get(usize::from(flow).checked_rem(via.len())?)?;
        Some((hop.port, header.put_on(frame, flow, own, hop.mac)?))
    }
}
