//! Calls: mastership, programs, writes, reads.

use crate::support::{DEVICE, Device, TINY, any_entry, any_port, entry, insert_into, soon, tiny};
use bulkhead_p4runtime::{
    Client, ElectionId, Error, Event, Info, Pipeline, Pushed, Standing, Stream,
    client::{MAX_BATCH, UpdateError, batches},
    entry::Key,
    info::parse_text,
    proto::p4::{
        config::v1::PkgInfo,
        v1::{
            CounterData, Entity, TableEntry, Update, WriteRequest, entity::Entity as Kind, field_match,
            p4_runtime_client::P4RuntimeClient, update::Type, write_request::Atomicity,
        },
    },
    testing::{self, FAULTS, Random},
};
use std::collections::{BTreeMap, BTreeSet};
use tonic::Code;

async fn standing(stream: &mut Stream) -> Standing {
    match soon("who is primary", stream.next()).await.unwrap() {
        Event::Standing(standing) => standing,
        other => panic!("{other:?}"),
    }
}

/// Inserts into a table that has no two with the same key.
fn inserts(info: &Info, table: &str, seed: u64, many: usize) -> Vec<Update> {
    let mut random = Random(seed);
    let mut made = BTreeMap::new();
    while made.len() < many {
        let mut update = insert_into(info, table, &mut random);
        made.insert(Key::of(testing::entry_of(&mut update).unwrap()), update);
    }
    made.into_values().collect()
}

async fn write_all(client: &Client, info: &Info, updates: Vec<Update>) {
    for batch in batches(updates) {
        for (at, result) in client.write(info, batch, Atomicity::ContinueOnError).await.unwrap().iter().enumerate() {
            assert_eq!(*result, Ok(()), "update {at}");
        }
    }
}

#[tokio::test]
async fn mastership_goes_from_one_to_the_other_and_back() {
    for device in Device::all().await {
        println!("{}", device.name);
        let program = tiny();
        let write = |client: &Client, seed| {
            let (client, info) = (client.clone(), program.info().clone());
            let updates = vec![insert_into(&info, "ingress.acl", &mut Random(seed))];
            async move { client.write(&info, updates, Atomicity::ContinueOnError).await }
        };
        let (mut one, mut one_stream) = device.primary(5).await;
        assert_eq!(one_stream.standing(), Standing::Primary);
        let (two, two_stream) = device.connect(7).await.unwrap();
        assert_eq!(two_stream.standing(), Standing::Primary);
        assert_eq!(standing(&mut one_stream).await, Standing::Backup { primary: ElectionId(7) });
        assert_eq!(write(&one, 1).await.unwrap_err().code(), Some(Code::PermissionDenied));
        assert_eq!(write(&two, 1).await, Ok(vec![Ok(())]));
        // An id that somebody has, and one from the past.
        let taken = device.connect(7).await.err().and_then(|error| error.code());
        assert_eq!(taken, Some(Code::InvalidArgument));
        let (stale, stale_stream) = device.connect(6).await.unwrap();
        assert_eq!(stale_stream.standing(), Standing::Backup { primary: ElectionId(7) });
        assert_eq!(write(&stale, 2).await.unwrap_err().code(), Some(Code::PermissionDenied));
        assert_eq!(stale.set_pipeline(&program, set_now()).await.unwrap_err().code(), Some(Code::PermissionDenied));
        drop((stale, stale_stream));
        drop((two, two_stream));
        if device.is_stand_in() {
            assert_eq!(standing(&mut one_stream).await, Standing::Vacant { highest: Some(ElectionId(7)) });
            assert_eq!(write(&one, 2).await.unwrap_err().code(), Some(Code::PermissionDenied), "nobody may write");
            one.stand_again(&mut one_stream, ElectionId(8)).unwrap();
            assert_eq!(standing(&mut one_stream).await, Standing::Primary);
        } else {
            // BMv2 makes the next one primary by itself, as early versions of the specification said. That may have
            // been the other one, if it was still there.
            while standing(&mut one_stream).await != Standing::Primary {}
        }
        assert_eq!(write(&one, 2).await, Ok(vec![Ok(())]));
        assert_eq!(one.read(any_entry()).await.unwrap().len(), 2);
    }
}

fn set_now() -> bulkhead_p4runtime::proto::p4::v1::set_forwarding_pipeline_config_request::Action {
    bulkhead_p4runtime::proto::p4::v1::set_forwarding_pipeline_config_request::Action::VerifyAndCommit
}

#[tokio::test]
async fn a_program_is_set_once_and_another_one_replaces_it() {
    for device in Device::all().await {
        println!("{}", device.name);
        let (client, _stream) = device.connect(1).await.unwrap();
        assert!(client.version().await.unwrap().starts_with("1."));
        assert_eq!(client.cookie().await.unwrap(), None);
        assert_eq!(client.p4info().await.unwrap(), None);
        assert_eq!(client.read(any_entry()).await.unwrap_err().code(), Some(Code::FailedPrecondition));
        let program = tiny();
        assert_eq!(client.ensure_pipeline(&program).await.unwrap(), Pushed::Replaced);
        assert_eq!(client.ensure_pipeline(&program).await.unwrap(), Pushed::Unchanged);
        assert_eq!(client.cookie().await.unwrap(), Some(program.cookie()));
        assert_eq!(Info::new(&client.p4info().await.unwrap().unwrap()).unwrap(), *program.info());
        write_all(&client, program.info(), inserts(program.info(), "ingress.acl", 1, 10)).await;
        // What somebody else set under another name is not trusted to mean the same.
        let mut other = parse_text(TINY).unwrap();
        other.pkg_info = Some(PkgInfo { name: "another".to_owned(), ..Default::default() });
        let other =
            Pipeline::new(other, include_bytes!("../../../../southbound/p4runtime/tests/tiny.json").to_vec()).unwrap();
        assert_eq!(client.ensure_pipeline(&other).await.unwrap(), Pushed::Replaced);
        assert_eq!(client.read(any_entry()).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_newer_version_of_a_program_keeps_the_entries() {
    let device = Device::stand_in().await;
    let (client, _stream) = device.connect(1).await.unwrap();
    let version = |version: &str| {
        let mut info = parse_text(TINY).unwrap();
        let (name, version) = ("tiny".to_owned(), version.to_owned());
        info.pkg_info = Some(PkgInfo { name, version, ..Default::default() });
        Pipeline::new(info, Vec::new()).unwrap()
    };
    let old = version("1");
    assert_eq!(client.ensure_pipeline(&old).await.unwrap(), Pushed::Replaced);
    write_all(&client, old.info(), inserts(old.info(), "ingress.acl", 1, 10)).await;
    assert_eq!(client.ensure_pipeline(&version("2")).await.unwrap(), Pushed::Reconciled);
    assert_eq!(client.read(any_entry()).await.unwrap().len(), 10);
    // Of two programs without a name nobody knows whether they are versions of one.
    assert_eq!(client.ensure_pipeline(&tiny()).await.unwrap(), Pushed::Replaced);
    write_all(&client, old.info(), inserts(old.info(), "ingress.acl", 1, 10)).await;
    let nameless = Pipeline::new(parse_text(TINY).unwrap(), b"another".to_vec()).unwrap();
    assert_eq!(client.ensure_pipeline(&nameless).await.unwrap(), Pushed::Replaced);
    assert_eq!(client.read(any_entry()).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_written_is_read() {
    for device in Device::all().await {
        println!("{}", device.name);
        let (client, _stream) = device.primary(1).await;
        let program = tiny();
        let info = program.info();
        let mut written = Vec::new();
        for (table, many) in [("ingress.acl", 300), ("ingress.route", 100), ("ingress.bridge", 10)] {
            let mut updates = inserts(info, table, 7, many);
            write_all(&client, info, updates.clone()).await;
            written.extend(updates.iter_mut().map(|update| testing::entry_of(update).unwrap().clone()));
        }
        let read = client.read(any_entry()).await.unwrap();
        let by_key = |entry: &TableEntry| {
            let mut entry = entry.clone();
            entry.r#match.sort();
            ((entry.table_id, Key::of(&entry)), entry)
        };
        let read: BTreeMap<_, _> = read.iter().map(|entity| by_key(entry(entity))).collect();
        let written: BTreeMap<_, _> = written.iter().map(by_key).collect();
        assert_eq!(read.keys().collect::<Vec<_>>(), written.keys().collect::<Vec<_>>());
        for (key, written) in &written {
            assert_eq!(read[key], *written);
        }
    }
}

#[tokio::test]
async fn each_update_of_a_batch_has_its_own_result() {
    for device in Device::all().await {
        println!("{}", device.name);
        let (client, _stream) = device.primary(1).await;
        let program = tiny();
        let info = program.info();
        let there = inserts(info, "ingress.acl", 1, 1000);
        write_all(&client, info, there.clone()).await;
        // The largest batch, of which each but the last is refused: what the device says of it fits.
        let mut again = there.clone();
        again.truncate(MAX_BATCH - 1);
        again.push(insert_into(info, "ingress.bridge", &mut Random(1)));
        let results = client.write(info, again, Atomicity::ContinueOnError).await.unwrap();
        let (last, others) = results.split_last().unwrap();
        assert_eq!(*last, Ok(()));
        let there_already = |result: &Result<_, UpdateError>| result.as_ref().unwrap_err().code == Code::AlreadyExists;
        assert!(others.iter().all(there_already), "{:?}", others[0]);
        let mut gone = there[0].clone();
        gone.set_type(Type::Delete);
        let results = client.write(info, vec![gone.clone(), gone], Atomicity::ContinueOnError).await.unwrap();
        assert_eq!(results[0], Ok(()));
        assert_eq!(results[1].as_ref().unwrap_err().code, Code::NotFound);
    }
}

#[tokio::test]
async fn all_or_none_or_it_is_not_offered() {
    for device in Device::all().await {
        println!("{}", device.name);
        let (client, _stream) = device.primary(1).await;
        let program = tiny();
        let info = program.info();
        let mut updates = inserts(info, "ingress.acl", 1, 10);
        updates.push(updates[0].clone());
        for atomicity in [Atomicity::RollbackOnError, Atomicity::DataplaneAtomic] {
            let result = client.write(info, updates.clone(), atomicity).await;
            if device.is_stand_in() {
                assert_eq!(result.unwrap()[10].as_ref().unwrap_err().code, Code::AlreadyExists);
            } else {
                assert_eq!(result.unwrap_err().code(), Some(Code::Unimplemented));
            }
            assert_eq!(client.read(any_entry()).await.unwrap(), []);
        }
    }
}

/// Sends an update as it is, past the client's own checks.
async fn send_raw(raw: &mut P4RuntimeClient<tonic::transport::Channel>, update: Update) -> Option<Code> {
    use bulkhead_p4runtime::proto::{google::rpc, p4::v1};
    use prost::Message as _;
    let request = WriteRequest {
        device_id: DEVICE,
        election_id: Some(ElectionId(1).into()),
        updates: vec![update],
        ..Default::default()
    };
    let status = soon("a write", raw.write(request)).await.err()?;
    let details = rpc::Status::decode(status.details()).unwrap().details;
    let [error] = details.as_slice() else { panic!("{status:?}") };
    Some(Code::from_i32(v1::Error::decode(error.value.as_slice()).unwrap().canonical_code))
}

/// What BMv2 says otherwise, or does not look at; `None` is that it takes it.
const BMV2_DIFFERS: &[(&str, Option<Code>)] = &[
    ("action for misses only", Some(Code::InvalidArgument)),
    ("constant entry", None),
    ("parameter without a value", None),
    ("range of everything", None),
    ("value of no bytes", None),
];

#[tokio::test]
async fn valid_writes_are_taken_and_single_faults_refused() {
    for device in Device::all().await {
        println!("{}", device.name);
        let (_client, _stream) = device.primary(1).await;
        let mut raw = P4RuntimeClient::connect(format!("http://{}", device.address)).await.unwrap();
        let program = tiny();
        let info = program.info();
        let mut different = BTreeSet::new();
        let mut tried = BTreeSet::new();
        for seed in 0..60 {
            let table = ["ingress.acl", "ingress.route", "ingress.bridge"][seed as usize % 3];
            let mut random = Random(seed);
            let valid = insert_into(info, table, &mut random);
            for fault in FAULTS {
                let mut spoilt = valid.clone();
                if !(fault.spoil)(&mut random, info, testing::entry_of(&mut spoilt).unwrap()) {
                    continue;
                }
                tried.insert(fault.name);
                let code = send_raw(&mut raw, spoilt.clone()).await;
                let differs = BMV2_DIFFERS.contains(&(fault.name, code)) && !device.is_stand_in();
                if code != Some(fault.code) && !differs {
                    different.insert(format!("{} ({table}): {code:?}, expected {:?}", fault.name, fault.code));
                }
                if code.is_none() {
                    spoilt.set_type(Type::Delete);
                    send_raw(&mut raw, spoilt).await;
                }
            }
            assert_eq!(send_raw(&mut raw, valid.clone()).await, None, "{valid:?}");
            let mut gone = valid;
            gone.set_type(Type::Delete);
            assert_eq!(send_raw(&mut raw, gone.clone()).await, None, "{gone:?}");
        }
        assert_eq!(different, BTreeSet::new(), "{}", device.name);
        assert!(tried.len() > 25, "{tried:?}");
    }
}

#[tokio::test]
async fn zeros_in_front_are_taken_and_not_read_back() {
    for device in Device::all().await {
        println!("{}", device.name);
        let (client, _stream) = device.primary(1).await;
        let mut raw = P4RuntimeClient::connect(format!("http://{}", device.address)).await.unwrap();
        let valid = insert_into(tiny().info(), "ingress.bridge", &mut Random(1));
        let mut padded = valid.clone();
        for field in &mut testing::entry_of(&mut padded).unwrap().r#match {
            if let Some(field_match::FieldMatchType::Exact(exact)) = &mut field.field_match_type {
                exact.value.splice(0..0, [0; 9]);
            }
        }
        assert_ne!(valid, padded);
        assert_eq!(send_raw(&mut raw, padded).await, None);
        let read = client.read(any_entry()).await.unwrap();
        assert_eq!(Some(&read[0]), valid.entity.as_ref());
    }
}

#[tokio::test]
async fn a_table_that_is_full_says_so() {
    for device in Device::all().await {
        println!("{}", device.name);
        let (client, _stream) = device.primary(1).await;
        let program = tiny();
        let updates = inserts(program.info(), "ingress.bridge", 3, 17);
        let results = client.write(program.info(), updates, Atomicity::ContinueOnError).await.unwrap();
        let refused: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert_eq!(refused.len(), 1, "{refused:?}");
        // BMv2 has no code for it.
        let expected = if device.is_stand_in() { Code::ResourceExhausted } else { Code::Unknown };
        assert_eq!(refused[0].code, expected, "{}", refused[0].why);
    }
}

#[tokio::test]
async fn counters_are_read_with_their_entries() {
    for device in Device::all().await {
        println!("{}", device.name);
        let (client, _stream) = device.primary(1).await;
        let program = tiny();
        let info = program.info();
        write_all(&client, info, inserts(info, "ingress.acl", 1, 3)).await;
        let table_id = info.table_named("ingress.acl").unwrap().id;
        let asked = TableEntry { table_id, counter_data: Some(CounterData::default()), ..Default::default() };
        let read = client.read(vec![Entity { entity: Some(Kind::TableEntry(asked)) }]).await.unwrap();
        assert_eq!(read.len(), 3);
        assert!(read.iter().all(|entity| entry(entity).counter_data == Some(CounterData::default())), "{read:?}");
    }
}

#[tokio::test]
async fn a_device_that_starts_anew_has_nothing_and_is_noticed() {
    let device = Device::stand_in().await;
    let address = device.address.clone();
    let (client, mut stream) = device.primary(9).await;
    let program = tiny();
    write_all(&client, program.info(), inserts(program.info(), "ingress.acl", 1, 5)).await;
    soon("the end of the device", device.stop()).await;
    let noticed = soon("the end of the stream", stream.next()).await.unwrap_err();
    assert!(matches!(noticed, Error::Closed { .. } | Error::Call { .. }), "{noticed}");
    let gone = Client::connect(&address, DEVICE, ElectionId(1)).await.unwrap_err();
    assert!(matches!(gone, Error::Unreachable { .. }), "{gone}");
    let device = Device::stand_in_at(address.parse().unwrap()).await;
    // Election ids begin anew with it.
    let (client, stream) = device.connect(1).await.unwrap();
    assert_eq!(stream.standing(), Standing::Primary);
    assert_eq!(client.cookie().await.unwrap(), None);
    assert_eq!(client.ensure_pipeline(&program).await.unwrap(), Pushed::Replaced);
    assert_eq!(client.read(any_entry()).await.unwrap(), []);
}

#[tokio::test]
async fn another_device_number_is_refused() {
    let device = Device::stand_in().await;
    let wrong = Client::connect(&device.address, 2, ElectionId(1)).await.unwrap_err();
    assert_eq!(wrong.code(), Some(Code::NotFound), "{wrong}");
    assert!(wrong.to_string().contains("device 2"), "{wrong}");
}

#[tokio::test]
async fn nobody_at_an_address_is_told_at_once() {
    let address = {
        let listener = std::net::TcpListener::bind(any_port()).unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let nobody = soon("a refused connection", Client::connect(&address, DEVICE, ElectionId(1))).await.unwrap_err();
    assert!(matches!(nobody, Error::Unreachable { .. }) && nobody.to_string().contains("refused"), "{nobody}");
    for wrong in ["", "host", "host:", "host:70000", ":1:x"] {
        let error = Client::connect(wrong, DEVICE, ElectionId(1)).await.unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{wrong:?}: {error}");
    }
}

#[tokio::test]
async fn what_does_not_fit_the_program_is_not_sent() {
    let device = Device::stand_in().await;
    let (client, _stream) = device.primary(1).await;
    let program = tiny();
    let mut wrong = insert_into(program.info(), "ingress.bridge", &mut Random(1));
    testing::entry_of(&mut wrong).unwrap().priority = 1;
    let fine = insert_into(program.info(), "ingress.bridge", &mut Random(2));
    let result = client.write(program.info(), vec![fine.clone(), wrong], Atomicity::ContinueOnError).await;
    assert!(matches!(result, Err(Error::Refused { at: 1, .. })), "{result:?}");
    assert_eq!(client.read(any_entry()).await.unwrap(), []);
    let many = vec![fine; MAX_BATCH + 1];
    let result = client.write(program.info(), many, Atomicity::ContinueOnError).await;
    assert!(matches!(result, Err(Error::TooMuch { .. })), "{result:?}");
}
