//! What devices tell their controller: packets whose senders are to be told something, and packets that are logged.

// Every test file uses a part of it.
#![allow(dead_code)]

use super::{PATIENCE, frames::is};
use bulkhead_dataplane::reject::{REJECT_BYTES, Why};
use bulkhead_driver_p4::{
    P4INFO,
    controller::{self, Refused, Told, Way},
    layout,
};
use bulkhead_p4runtime::{
    Client, ElectionId, Event, Info,
    proto::p4::v1::{Entity, PacketIn, Update, entity, update::Type, write_request::Atomicity},
};
use bulkhead_pipeline::{Field, Outcome, Packet, Walk, conn};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Instant,
};
use tokio::task::JoinHandle;

/// What a device is to tell, by a packet's number: and the packet, as it was where its way ended.
pub type All = BTreeMap<u32, (Told, Packet)>;

/// What the interpreter says that a device tells of a packet.
pub fn told(walk: &Walk<'_>, came: Way) -> Option<(Told, Packet)> {
    let why = match &walk.outcome {
        Outcome::Rejected(_) => Some(Why::Refused),
        Outcome::Expired { from, .. } => Some(Why::Expired(*from)),
        Outcome::NoRoute { from, .. } => Some(Why::NoRoute(*from)),
        Outcome::TooBig { mtu, .. } => Some(Why::TooBig(*mtu)),
        _ => None,
    };
    let (packet, value) = (&walk.ended, |field| walk.ended.value(field) as u32);
    let (mut asker, mut asked) = (value(Field::SrcId), value(Field::DstId));
    if packet.value(Field::Conn) & conn::RPL != 0 {
        (asker, asked) = (asked, asker);
    }
    let refused = why.map(|why| Refused { why, came, vlan: value(Field::InVlan) as u16, asker, asked });
    let lines: Vec<_> = walk.logged.iter().map(|entry| layout::logged(layout::log(entry).unwrap()).unwrap()).collect();
    if refused.is_none() && lines.is_empty() {
        return None;
    }
    Some((Told { came, refused, lines }, (**packet).clone()))
}

pub fn info() -> Info {
    Info::from_text(P4INFO).unwrap()
}

/// A controller that only listens, and wants everything.
pub struct Listener {
    heard: Arc<Mutex<Vec<PacketIn>>>,
    task: JoinHandle<()>,
}

impl Listener {
    /// The primary from now on.
    pub async fn attach(address: &str) -> Self {
        let (client, mut stream) = Client::connect(address, 1, ElectionId(9)).await.unwrap();
        let info = info();
        let updates = [controller::TOLD, controller::LOG].map(|meter| {
            let meter = controller::rate(meter, 1_000_000, &info).unwrap();
            let entity = Some(Entity { entity: Some(entity::Entity::MeterEntry(meter)) });
            Update { r#type: Type::Modify.into(), entity }
        });
        let set = client.write(&info, updates.into(), Atomicity::ContinueOnError).await.unwrap();
        assert_eq!(set, [Ok(()), Ok(())]);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            // Until whoever listens is dropped.
            while let Ok(event) = stream.next().await {
                if let Event::Packet(packet) = event {
                    to.lock().unwrap().push(packet);
                }
            }
        });
        Self { heard, task }
    }

    /// So many packets, as soon as they are there; fewer if more do not come.
    pub async fn heard(&self, many: usize) -> Vec<PacketIn> {
        let began = Instant::now();
        while self.heard.lock().unwrap().len() < many && began.elapsed() < PATIENCE / 8 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a device told what it was to tell of packets up to a number, each once. Of those that are longer than what is
/// told of them only the sort is compared: their numbers are behind. Returns how many senders were to be told something,
/// and how many packets were logged.
pub fn compare(wanted: &All, heard: &[PacketIn], taken: u32) -> [usize; 2] {
    let (info, mut long) = (info(), BTreeMap::<String, [usize; 2]>::new());
    let mut short: BTreeMap<u32, (Told, Vec<u8>)> = BTreeMap::new();
    for packet in heard {
        let told = Told::of(&packet.metadata, &info).unwrap_or_else(|| panic!("{packet:02x?}"));
        if packet.payload.len() >= usize::from(REJECT_BYTES) {
            assert_eq!(packet.payload.len(), usize::from(REJECT_BYTES));
            long.entry(format!("{told:?}")).or_default()[0] += 1;
            continue;
        }
        let (frame, id) = packet.payload.split_last_chunk::<4>().unwrap_or_else(|| panic!("{told:?}: {packet:02x?}"));
        let twice = short.insert(u32::from_be_bytes(*id), (told, frame.to_vec()));
        assert_eq!(twice, None, "{packet:02x?}");
    }
    let mut counts = [0; 2];
    for (id, (told, packet)) in wanted.range(..=taken) {
        counts[0] += usize::from(told.refused.is_some());
        counts[1] += usize::from(!told.lines.is_empty());
        let tag = if packet.value(Field::Vlan) == 0 { 0 } else { 4 };
        if packet.length as usize + tag >= usize::from(REJECT_BYTES) {
            long.entry(format!("{told:?}")).or_default()[1] += 1;
            continue;
        }
        let (found, frame) = short.remove(id).unwrap_or_else(|| panic!("{id}: nothing, not {told:?} of {packet:?}"));
        assert_eq!(found, *told, "{id}: {packet:?}");
        is(packet, &frame, None).unwrap_or_else(|why| panic!("{id}: {frame:02x?}: {why}"));
    }
    short.retain(|id, _| *id <= taken);
    assert!(short.is_empty(), "told, and should not have been: {short:02x?}");
    if taken >= wanted.last_key_value().map_or(0, |(id, _)| *id) {
        assert!(long.values().all(|[found, wanted]| found == wanted), "found and wanted: {long:#?}");
    }
    counts
}
