//! What devices tell their controller: packets whose senders are to be told something.

// Every test file uses a part of it.
#![allow(dead_code)]

use super::{PATIENCE, frames::is};
use bulkhead_dataplane::reject::{REJECT_BYTES, Why};
use bulkhead_driver_p4::{
    P4INFO,
    controller::{self, Refused, Way},
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

/// What a device is to tell, by a packet's number: and the packet, as it was when it was dropped.
pub type Told = BTreeMap<u32, (Refused, Packet)>;

/// What the interpreter says that a packet's sender is told, and the packet.
pub fn refused(walk: &Walk<'_>, came: Way) -> Option<(Refused, Packet)> {
    let why = match &walk.outcome {
        Outcome::Rejected(_) => Why::Refused,
        Outcome::Expired { from, .. } => Why::Expired(*from),
        Outcome::NoRoute { from, .. } => Why::NoRoute(*from),
        Outcome::TooBig { mtu, .. } => Why::TooBig(*mtu),
        _ => return None,
    };
    let (packet, value) = (&walk.ended, |field| walk.ended.value(field) as u32);
    let (mut asker, mut asked) = (value(Field::SrcId), value(Field::DstId));
    if packet.value(Field::Conn) & conn::RPL != 0 {
        (asker, asked) = (asked, asker);
    }
    Some((Refused { why, came, vlan: value(Field::InVlan) as u16, asker, asked }, (**packet).clone()))
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
        let meter = controller::rate(controller::TOLD, 1_000_000, &info).unwrap();
        let entity = Some(Entity { entity: Some(entity::Entity::MeterEntry(meter)) });
        let update = Update { r#type: Type::Modify.into(), entity };
        let set = client.write(&info, vec![update], Atomicity::ContinueOnError).await.unwrap();
        assert_eq!(set, [Ok(())]);
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
/// told of them only the sort is compared: their numbers are behind. Returns how many were told of.
pub fn compare(wanted: &Told, heard: &[PacketIn], taken: u32) -> usize {
    let (info, mut long) = (info(), BTreeMap::<String, [usize; 2]>::new());
    let mut short: BTreeMap<u32, (Refused, Vec<u8>)> = BTreeMap::new();
    for packet in heard {
        let refused = Refused::of(&packet.metadata, &info).unwrap_or_else(|| panic!("{packet:02x?}"));
        if packet.payload.len() >= usize::from(REJECT_BYTES) {
            assert_eq!(packet.payload.len(), usize::from(REJECT_BYTES));
            long.entry(format!("{refused:?}")).or_default()[0] += 1;
            continue;
        }
        let (frame, id) = packet.payload.split_last_chunk::<4>().unwrap();
        let twice = short.insert(u32::from_be_bytes(*id), (refused, frame.to_vec()));
        assert_eq!(twice, None, "{packet:02x?}");
    }
    let mut told = 0;
    for (id, (refused, packet)) in wanted.range(..=taken) {
        told += 1;
        let tag = if packet.value(Field::Vlan) == 0 { 0 } else { 4 };
        if packet.length as usize + tag >= usize::from(REJECT_BYTES) {
            long.entry(format!("{refused:?}")).or_default()[1] += 1;
            continue;
        }
        let (found, frame) = short.remove(id).unwrap_or_else(|| panic!("{id}: nothing is told, not {refused:?}"));
        assert_eq!(found, *refused, "{id}: {packet:?}");
        is(packet, &frame, None).unwrap_or_else(|why| panic!("{id}: {frame:02x?}: {why}"));
    }
    short.retain(|id, _| *id <= taken);
    assert!(short.is_empty(), "told, and should not have been: {short:02x?}");
    if taken >= wanted.last_key_value().map_or(0, |(id, _)| *id) {
        assert!(long.values().all(|[found, wanted]| found == wanted), "found and wanted: {long:#?}");
    }
    told
}
