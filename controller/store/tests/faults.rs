//! The file below fails: writes are torn, lost, reordered or flipped at every boundary of a recorded run, the disk is
//! full, a sync fails. What was acknowledged is there or its loss is told; nothing is half there.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_store::{Loaded, RedbStore, Retention, Revision, Store, StoreError};
use redb::{StorageBackend, backends::InMemoryBackend};
use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// What was done to a file.
#[derive(Debug, Clone)]
enum Step {
    Write(u64, Vec<u8>),
    Length(u64),
    Sync,
    /// The run itself notes what is acknowledged by now.
    Acknowledged(u64),
}

/// How a file misbehaves from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fault {
    #[default]
    None,
    Full,
    Sync,
}

#[derive(Debug, Default)]
struct Disk {
    bytes: Vec<u8>,
    steps: Vec<Step>,
    fault: Fault,
}

/// A file in memory that remembers what was done to it.
#[derive(Debug, Clone, Default)]
struct Recorded(Arc<Mutex<Disk>>);

impl Recorded {
    fn store(&self) -> Result<RedbStore, StoreError> {
        let disk = self.clone();
        RedbStore::on(move || Ok(Box::new(disk.clone())), Retention { revisions: 6, ..Retention::default() })
    }

    fn fail(&self, fault: Fault) {
        self.0.lock().unwrap().fault = fault;
    }
}

impl StorageBackend for Recorded {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.0.lock().unwrap();
        let range = offset as usize..offset as usize + out.len();
        out.copy_from_slice(disk.bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.bytes.resize(length as usize, 0);
        disk.steps.push(Step::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        if disk.fault == Fault::Sync {
            return Err(io::Error::other("input/output error"));
        }
        disk.steps.push(Step::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        if disk.fault == Fault::Full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        put(&mut disk.bytes, offset, data);
        disk.steps.push(Step::Write(offset, data.to_vec()));
        Ok(())
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let end = offset as usize + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset as usize..end].copy_from_slice(data);
}

fn revision(number: u64) -> Revision {
    let text: Arc<str> = format!("{number} {}", "y".repeat((number % 5 * 900) as usize)).into();
    Revision {
        number,
        author: "test".into(),
        time: number,
        changes: ["left", "right"].map(|side| (format!("{side}{}", number % 3), Some(text.clone()))).into(),
        numbers: vec![("number".into(), Some(number as u32))],
        event: None,
    }
}

/// A run of some revisions, step by step, and what the store held after each. If it is not closed, it crashed.
fn run(revisions: u64, closed: bool) -> (Vec<Step>, Vec<Loaded>) {
    let disk = Recorded::default();
    let mut store = disk.store().unwrap();
    let mut states = vec![store.load().unwrap()];
    disk.0.lock().unwrap().steps.push(Step::Acknowledged(0));
    for number in 1..=revisions {
        let next = revision(number);
        // Some are written ahead, and some others in their place, which do not come.
        match number % 3 {
            0 => {}
            1 => store.prepare(Some(&next.changes)),
            _ => store.prepare(Some(&revision(number + 1).changes)),
        }
        store.append(number - 1, &[next]).unwrap();
        disk.0.lock().unwrap().steps.push(Step::Acknowledged(number));
        states.push(store.load().unwrap());
    }
    if closed {
        drop(store);
        return (disk.0.lock().unwrap().steps.clone(), states);
    }
    let steps = disk.0.lock().unwrap().steps.clone();
    (steps, states)
}

/// Opens what a crash left.
fn recover(bytes: &[u8]) -> Result<RedbStore, StoreError> {
    let bytes = bytes.to_vec();
    RedbStore::on(
        move || {
            let disk = InMemoryBackend::new();
            disk.set_len(bytes.len() as u64)?;
            disk.write(0, &bytes)?;
            Ok(Box::new(disk))
        },
        Retention::default(),
    )
}

/// The store opens and has what was acknowledged, or the revision after it as a whole.
fn holds(bytes: &[u8], acknowledged: u64, states: &[Loaded], what: &str) {
    let mut store = recover(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    let loaded = store.load().unwrap();
    let revision = loaded.revision;
    assert!(revision >= acknowledged && revision <= acknowledged + 1, "{what}: {acknowledged} said, {revision} there");
    assert!(loaded == states[revision as usize], "{what}: revision {revision} is not whole");
    // And it goes on.
    store.append(revision, &[self::revision(revision + 1)]).unwrap_or_else(|error| panic!("{what}: {error}"));
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn a_crash_at_every_boundary_loses_nothing_acknowledged() {
    let (steps, states) = run(12, false);
    let mut seed = 0x5eed_u64;
    // What is certainly on the disk, and writes since the last sync: the disk may have done any of them, in any order.
    let (mut synced, mut since): (Vec<u8>, Vec<Step>) = (Vec::new(), Vec::new());
    let (mut acknowledged, mut begun, mut crashes) = (0, false, 0);
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Acknowledged(revision) => (acknowledged, begun) = (*revision, true),
            Step::Sync => {
                since.drain(..).for_each(|step| carry_out(&mut synced, &step));
            }
            step => since.push(step.clone()),
        }
        // A file that is being made has another name until it is whole.
        if !begun {
            continue;
        }
        let all = |keep: &mut dyn FnMut(usize) -> bool, torn: bool, seed: &mut u64| {
            let mut bytes = synced.clone();
            for (number, step) in since.iter().enumerate().filter(|(number, _)| keep(*number)) {
                match step {
                    // A disk writes whole sectors of 512 bytes.
                    Step::Write(offset, data) if torn && number + 1 == since.len() => {
                        let cut = (random(seed) as usize % (data.len() / 512 + 1)) * 512;
                        put(&mut bytes, *offset, &data[..cut.min(data.len())]);
                    }
                    step => carry_out(&mut bytes, step),
                }
            }
            bytes
        };
        let mut check = |bytes: Vec<u8>, how: &str| {
            crashes += 1;
            holds(&bytes, acknowledged, &states, &format!("step {at}, {how}"));
        };
        check(all(&mut |_| true, false, &mut seed), "all written");
        check(all(&mut |_| false, false, &mut seed), "all lost");
        check(all(&mut |_| true, true, &mut seed), "the last one torn");
        for round in 0..2 {
            let mask = random(&mut seed);
            let some = all(&mut |number| mask >> (number % 64) & 1 == 1, false, &mut seed);
            check(some, &format!("some lost, {round}"));
        }
        if since.len() > 1 {
            let last = since.len() - 1;
            check(all(&mut |number| number == last, false, &mut seed), "the last one first");
        }
    }
    assert!(crashes > 200, "{crashes}");
}

fn carry_out(bytes: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Write(offset, data) => put(bytes, *offset, data),
        Step::Length(length) => bytes.resize(*length as usize, 0),
        Step::Sync | Step::Acknowledged(_) => {}
    }
}

/// A bit that flips on the disk is noticed, wherever it is: the store is as it was, is cut back and says so, or refuses.
#[test]
fn a_flipped_bit_never_passes() {
    let (same, cut, refused) = flip(false);
    assert!(same > 0 && cut > 0 && refused > 0, "{same} the same, {cut} cut back, {refused} refused");
    // Of a store that was closed nothing was under way that could be cut off.
    let (same, cut, refused) = flip(true);
    assert!(same > 0 && refused > 0, "{same} the same, {cut} cut back, {refused} refused");
}

fn flip(closed: bool) -> (u32, u32, u32) {
    let (steps, states) = run(12, closed);
    let mut whole = Vec::new();
    steps.iter().for_each(|step| carry_out(&mut whole, step));
    let mut seed = 0x5eed_u64;
    let (mut same, mut cut, mut refused) = (0, 0, 0);
    // Everywhere where something was written last, which is where it matters; and anywhere.
    let places = steps.iter().filter_map(|step| match step {
        Step::Write(offset, data) => Some((*offset as usize, data.len())),
        _ => None,
    });
    for (offset, length) in places.chain([(0, whole.len())].repeat(40)) {
        let place = offset + random(&mut seed) as usize % length;
        if place >= whole.len() {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (random(&mut seed) % 8);
        match recover(&bytes) {
            Ok(mut store) => {
                let loaded = store.load().unwrap();
                assert!(loaded == states[loaded.revision as usize], "bit at {place}: not whole");
                match loaded.revision {
                    12 => same += 1,
                    older => {
                        assert!(store.found().cut_back, "bit at {place}: revision {older}, and not a word");
                        cut += 1;
                    }
                }
            }
            Err(StoreError::Corrupt { .. }) => refused += 1,
            Err(other) => panic!("bit at {place}: {other}"),
        }
    }
    (same, cut, refused)
}

#[test]
fn a_full_disk_refuses_and_goes_on_once_there_is_room() {
    let disk = Recorded::default();
    let mut store = disk.store().unwrap();
    store.append(0, &[revision(1)]).unwrap();
    let before = store.load().unwrap();
    disk.fail(Fault::Full);
    for _ in 0..3 {
        let error = store.append(1, &[revision(2)]).unwrap_err();
        assert!(matches!(error, StoreError::Failed { .. }), "{error}");
    }
    disk.fail(Fault::None);
    let end = Instant::now() + Duration::from_secs(60);
    while let Err(error) = store.append(1, &[revision(2)]) {
        assert!(Instant::now() < end, "{error}");
    }
    assert_eq!((before.revision, store.load().unwrap().revision), (1, 2));
    drop(store);
    assert_eq!(disk.store().unwrap().load().unwrap().revision, 2);
}

#[test]
fn a_failed_sync_is_never_called_success() {
    let disk = Recorded::default();
    let mut store = disk.store().unwrap();
    store.append(0, &[revision(1)]).unwrap();
    disk.fail(Fault::Sync);
    assert!(store.append(1, &[revision(2)]).is_err());
    // The next sync would say that all is well.
    disk.fail(Fault::None);
    for _ in 0..3 {
        let error = store.append(1, &[revision(2)]).unwrap_err();
        assert!(matches!(error, StoreError::Broken(_)), "{error}");
    }
    // What was there can still be read.
    assert!(store.reader().history(u64::MAX, 10).is_ok_and(|history| history.newest <= 2));
}
