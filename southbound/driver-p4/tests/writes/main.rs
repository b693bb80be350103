//! Random writes for the program of `southbound/p4`: devices take the valid ones and refuse those with a fault, and what they
//! have afterwards is what was taken. The stand-in is held to the specification, with its codes, and BMv2 to the stand-in but
//! for what [`differs`] says by name.
//!
//! `BULKHEAD_P4_WRITES` is how many, of each sort, and `BULKHEAD_P4_SEED` which.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod devices;
mod differs;
#[path = "../fabrics/mod.rs"]
mod fabrics;
mod faults;
mod model;
mod writer;

use bulkhead_compile::Compiler;
use bulkhead_driver_p4::{lower, underlay};
use bulkhead_p4_target::device::Place;
use bulkhead_p4runtime::{
    Client, ElectionId, Info, Standing,
    entry::Key,
    proto::p4::v1::{
        Entity, TableEntry, WriteRequest, action_profile_group::member::WatchKind, entity::Entity as Kind, update::Type,
    },
};
use bulkhead_policy::arbitrary::{everywhere, state};
use devices::{Device, ELECTION, NUMBER, Sort, request};
use differs::{DIFFERS, LEFT, Made};
use model::{bare, entry_of, place, update, zeroed};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
};
use tonic::Code;
use writer::{Source, Step, Writer, of};

/// How many writes of each sort there are, unless `BULKHEAD_P4_WRITES` says otherwise.
const WRITES: u64 = 2000;

/// Fabrics that the driver's entries are taken from.
const FABRICS: usize = 12;

/// Faults that no entry of this program can have: there are no ranges, and every table counts.
const NOT_HERE: [&str; 3] = ["range backwards", "range of everything", "count of a table without counter"];

/// A request for a role, of which devices have none.
const ROLE: &str = "a role that nobody has";

fn setting(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

/// What is different from what was to be, so far.
#[derive(Default)]
struct Different {
    /// By name in [`DIFFERS`].
    known: BTreeSet<(String, Made)>,
    other: BTreeSet<String>,
}

impl Different {
    fn tell(&mut self, device: &Device, step: &Step, made: Made, code: Option<Code>) {
        // Of faults of the same name in different writes one reason stands for all.
        let fault = step.what.split_once(": ").map_or(step.what.as_str(), |(_, fault)| fault);
        let names = if made == Made::Left { [LEFT; 2] } else { [step.what.as_str(), fault] };
        let known = DIFFERS.iter().find(|known| names.contains(&known.what) && known.bmv2 == made);
        match known.filter(|_| device.sort == Sort::Bmv2) {
            Some(known) => drop(self.known.insert((known.what.into(), made))),
            None => {
                let wanted = step.refused;
                self.other.insert(format!("{:?}: {}: {made:?} {code:?}, not {wanted:?}", device.sort, step.what));
            }
        }
    }
}

/// What a device made of a step, and where that is not what was to be, that it has afterwards what it should.
async fn judge(device: &mut Device, writer: &Writer<'_>, step: &Step, code: Option<Code>, different: &mut Different) {
    let made = if code.is_none() { Made::Taken } else { Made::Refused };
    if code.is_none() != step.refused.is_none() {
        different.tell(device, step, made, code);
        restore(device, writer, step).await;
    } else if device.sort == Sort::StandIn && code != step.refused {
        different.tell(device, step, made, code);
    }
    if code.is_some()
        && let Some(Entity { entity: Some(Kind::ActionProfileGroup(group)) }) = &step.update.entity
        && step.about.as_ref().is_some_and(|about| !writer.model.0.contains_key(about))
        && device.has_group(group).await
    {
        different.tell(device, step, Made::Left, code);
        restore(device, writer, step).await;
    }
}

/// Makes that of it which the model has.
async fn restore(device: &mut Device, writer: &Writer<'_>, step: &Step) {
    if let (Some(_), Some(entity)) = (step.refused, &step.update.entity) {
        let mut gone = step.update.clone();
        gone.set_type(Type::Delete);
        for update in [gone, bare(entity)] {
            // Whether it was there is what is not known.
            device.send(vec![update]).await;
        }
    }
    // What has no bytes may have been taken for zero.
    let meant = step.update.entity.as_ref().and_then(|entity| place(&zeroed(entity)));
    for about in step.about.iter().chain(&meant) {
        let Some(wanted) = writer.model.0.get(about) else { continue };
        let mut modified = device.send(vec![update(Type::Modify, wanted.clone())]).await;
        // What it breaks off it has done a part of, and does more of each time.
        for _ in 0..writer::NUMBERS {
            if modified == [Some(Code::Unknown)] {
                modified = device.send(vec![update(Type::Modify, wanted.clone())]).await;
            }
        }
        if modified != [None] {
            let inserted = device.send(vec![update(Type::Insert, wanted.clone())]).await;
            assert_eq!(inserted, [None], "{about:?} after {}: {modified:?}", step.what);
        }
    }
}

/// Writes so many updates to all devices, and holds them to each other.
async fn run(sorts: &[Sort], writer: &mut Writer<'_>, many: u64) -> (Different, bool) {
    let mut devices = Device::all(sorts).await;
    let mut different = Different::default();
    let mut done = 0;
    while done < many {
        let batch = writer.batch();
        done += batch.len() as u64;
        for device in &mut devices {
            let codes = device.send(batch.iter().map(|step| step.update.clone()).collect()).await;
            for (step, code) in batch.iter().zip(codes) {
                judge(device, writer, step, code, &mut different).await;
            }
        }
    }
    for device in &devices {
        let (mut found, otherwise) = device.read(writer.info).await;
        different.known.extend(otherwise.into_iter().map(|what| (what.to_owned(), Made::Otherwise)));
        let mut wanted = writer.model.0.clone();
        if device.sort == Sort::Bmv2 && forget_watched(&mut wanted) != forget_watched(&mut found) {
            different.known.insert((WATCHED.into(), Made::Otherwise));
        }
        let keys = found.keys().chain(wanted.keys()).filter(|key| found.get(key) != wanted.get(key));
        for key in keys.collect::<BTreeSet<_>>().into_iter().take(5) {
            let (found, wanted) = (found.get(key), wanted.get(key));
            different.other.insert(format!("{:?} has {found:#?}, not {wanted:#?}", device.sort));
        }
    }
    (different, devices.iter().any(|device| device.sort == Sort::Bmv2))
}

/// What groups with numbers watch is not read back from BMv2.
const WATCHED: &str = "read: a port that a group with a number watches";

/// Takes the ports away that groups watch, and tells them.
fn forget_watched(all: &mut BTreeMap<Place, Entity>) -> Vec<Option<WatchKind>> {
    let groups = all.values_mut().filter_map(|entity| match &mut entity.entity {
        Some(Kind::ActionProfileGroup(group)) => Some(group),
        _ => None,
    });
    groups.flat_map(|group| &mut group.members).map(|member| member.watch_kind.take()).collect()
}

fn info() -> Info {
    devices::pipeline().info().clone()
}

fn seed() -> u64 {
    setting("BULKHEAD_P4_SEED", 1)
}

fn told(different: &Different) {
    let all: Vec<&str> = different.other.iter().map(String::as_str).collect();
    assert!(all.is_empty(), "seed {}: {} differences:\n{}", seed(), all.len(), all.join("\n"));
}

/// Everything that P4Info allows: every table with every action and every field, groups of both sorts.
#[tokio::test]
async fn valid_writes_are_taken_and_faults_refused() {
    let (info, many) = (info(), setting("BULKHEAD_P4_WRITES", WRITES));
    let mut own = Writer::new(&info, seed(), Source::Own);
    let (mut different, on_bmv2) = run(&[Sort::StandIn, Sort::Bmv2], &mut own, many).await;
    let mut numbered = Writer::new(&info, seed(), Source::Numbered);
    let (more, _) = run(&[Sort::StandIn, Sort::Bmv2], &mut numbered, many).await;
    different.known.extend(more.known);
    different.other.extend(more.other);
    told(&different);
    if on_bmv2 {
        let listed = DIFFERS.iter().filter(|known| known.what != ROLE);
        let listed: BTreeSet<_> = listed.map(|known| (known.what.to_owned(), known.bmv2)).collect();
        assert_eq!(different.known, listed, "BMv2 is not what the list says any more");
    }
    // Nothing was left out.
    assert_eq!(own.acted, own.pairs());
    let fields = info.tables().flat_map(|table| table.fields.iter().map(|field| (table.id, field.value.id)));
    assert_eq!(own.matched, fields.collect());
    let tried: BTreeSet<&String> = own.tried.union(&numbered.tried).collect();
    let missed: Vec<String> =
        faults::all().into_iter().map(|fault| fault.name).filter(|name| !tried.contains(name)).collect();
    let wanted = |name: &String| name.split_once(": ").is_some_and(|(_, fault)| NOT_HERE.contains(&fault));
    assert!(missed.iter().all(wanted), "{missed:?}");
}

/// What the driver writes for random fabrics, which the forwarding stand-in takes too.
#[tokio::test]
async fn what_the_driver_writes_is_taken_by_all() {
    let info = info();
    let seed = seed();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let mut entries: BTreeMap<(u32, Key), TableEntry> = BTreeMap::new();
    for _ in 0..FABRICS {
        let drawn = state().new_tree(&mut runner).unwrap().current();
        let state = fabrics::driven(&fabrics::common(&drawn, &mut BTreeMap::new()), |_| true);
        let compiler = Compiler::new(&state, Default::default()).unwrap().0;
        let programs = state.switches.values().filter_map(|switch| compiler.program(&switch.name));
        let lowered = programs.flat_map(|program| program.iter().map(|entry| lower(entry, &info).unwrap()));
        let vteps = state.switches.values().filter_map(|switch| switch.vtep);
        let rows = vteps.flat_map(|vtep| underlay::rows(&everywhere(vtep)));
        let beside = rows.map(|row| underlay::lower(&row, &info).unwrap());
        entries.extend(lowered.chain(beside).map(|entry| ((entry.table_id, Key::of(&entry)), entry)));
    }
    let mut lowered: BTreeMap<u32, Vec<TableEntry>> = BTreeMap::new();
    for entry in entries.into_values() {
        lowered.entry(entry.table_id).or_default().push(entry);
    }
    let tables = lowered.len();
    assert!(tables + 4 > info.tables().count(), "entries for {tables} tables");
    let mut writer = Writer::new(&info, seed, Source::Lowered(lowered));
    let many = setting("BULKHEAD_P4_WRITES", WRITES);
    let (different, _) = run(&[Sort::StandIn, Sort::Forwarding, Sort::Bmv2], &mut writer, many).await;
    told(&different);
    let written: BTreeSet<u32> = writer.acted.iter().map(|(table, _)| *table).collect();
    assert_eq!(written.len(), tables);
}

/// Who is not the primary, or means another device, writes nothing, whatever it is.
#[tokio::test]
async fn only_the_primary_writes() {
    let info = info();
    for mut device in Device::all(&[Sort::StandIn, Sort::Bmv2]).await {
        let lower = ElectionId(ELECTION.0 - 2);
        let (_backup, stream) = Client::connect(&device.address, NUMBER, lower).await.unwrap();
        assert_eq!(stream.standing(), Standing::Backup { primary: ELECTION });
        let mut writer = Writer::new(&info, seed(), Source::Own);
        let entry = writer.fresh().unwrap();
        let valid = || request(vec![of(Type::Insert, entry.clone())]);
        let election = |id: u128| Some(ElectionId(id).into());
        let mut taken = Vec::new();
        let wrong: [(&str, Code, WriteRequest); 7] = [
            ("another device", Code::NotFound, WriteRequest { device_id: NUMBER + 1, ..valid() }),
            ("device 0", Code::NotFound, WriteRequest { device_id: 0, ..valid() }),
            ("no election id", Code::PermissionDenied, WriteRequest { election_id: None, ..valid() }),
            ("the backup's", Code::PermissionDenied, WriteRequest { election_id: Some(lower.into()), ..valid() }),
            ("nobody's, from the past", Code::PermissionDenied, WriteRequest { election_id: election(4), ..valid() }),
            ("nobody's, from the future", Code::PermissionDenied, WriteRequest { election_id: election(6), ..valid() }),
            (ROLE, Code::NotFound, WriteRequest { role: "operator".into(), ..valid() }),
        ];
        for (what, code, request) in wrong {
            match device.call(request).await {
                Ok(()) => {
                    taken.push(what);
                    assert_eq!(device.send(vec![of(Type::Delete, entry.clone())]).await, [None]);
                }
                Err(status) => assert!(status.code() == code || device.sort == Sort::Bmv2, "{what}: {status:?}"),
            }
        }
        let listed = if device.sort == Sort::Bmv2 { &[ROLE][..] } else { &[] };
        assert_eq!(taken, listed, "{:?}", device.sort);
        assert_eq!(device.read(&info).await.0, BTreeMap::new());
        device.call(valid()).await.unwrap();
        let (mut read, _) = device.read(&info).await;
        assert_eq!(read.len(), 1);
        let place = Place::Entry(entry.table_id, Key::of(&entry));
        assert_eq!(read.get_mut(&place).and_then(entry_of).unwrap().metadata, entry.metadata);
    }
}

/// The document names all that BMv2 does otherwise, and nothing else.
#[test]
fn the_document_says_where_bmv2_differs() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/p4.md")).unwrap();
    let head = "| write | BMv2 | why |\n|---|---|---|\n";
    let rows: String = DIFFERS.iter().map(differs::Differs::row).collect();
    assert!(document.contains(&format!("{head}{rows}\n")), "docs/p4.md is to have this table:\n{head}{rows}");
}
