//! Entries per second of bulk writes, by size of batch: the client beside the least that one can be, which sends requests
//! that were made before. Against the stand-in, or against the device at the address that is given, as that of
//! `simple_switch_grpc --no-p4 --device-id 1`.
//!
//! `cargo run --release -p bulkhead-p4-target --example speed [HOST:PORT]`

#![allow(clippy::unwrap_used, clippy::panic)]

use bulkhead_p4_target::{Idle, Target};
use bulkhead_p4runtime::{
    Client, ElectionId, Pipeline,
    client::MAX_BATCH,
    info::parse_text,
    proto::p4::v1::{
        Action, FieldMatch, TableAction, TableEntry, Update, WriteRequest, field_match,
        p4_runtime_client::P4RuntimeClient, set_forwarding_pipeline_config_request::Action as Set, table_action,
        update::Type, write_request::Atomicity,
    },
    testing,
};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const TINY: &str = include_str!("../../../southbound/p4runtime/tests/tiny.p4info.txtpb");
const TINY_JSON: &str = include_str!("../../../southbound/p4runtime/tests/tiny.json");

/// Entries that are written each time.
const ENTRIES: u32 = 10_000;

/// How often each is measured, in turns; what counts is the median.
const ROUNDS: usize = 7;

/// The test's program, with room.
fn program() -> Pipeline {
    let mut info = parse_text(TINY).unwrap();
    info.tables.iter_mut().for_each(|table| table.size = 1 << 20);
    let roomy = TINY_JSON.replace("\"max_size\" : 1024", "\"max_size\" : 1048576");
    Pipeline::new(info, roomy.into_bytes()).unwrap()
}

/// An entry like those of a policy: two addresses, a service.
fn entry(program: &Pipeline, number: u32) -> Update {
    let info = program.info();
    let table = info.table_named("ingress.acl").unwrap();
    let ternary = |field_id, number: u32| {
        let value = bulkhead_p4runtime::bytes::from_u128(number.into());
        let kind = field_match::Ternary { value, mask: vec![0xff; 4] };
        FieldMatch { field_id, field_match_type: Some(field_match::FieldMatchType::Ternary(kind)) }
    };
    let action = Action { action_id: info.action_named("ingress.allow").unwrap().id, params: Vec::new() };
    let entry = TableEntry {
        table_id: table.id,
        r#match: vec![ternary(1, 0x0a00_0000 + number), ternary(2, 0x0b00_0000 + number)],
        action: Some(TableAction { r#type: Some(table_action::Type::Action(action)) }),
        priority: 10,
        metadata: number.to_be_bytes().to_vec(),
        ..Default::default()
    };
    testing::update(Type::Insert, entry)
}

fn per_second(mut times: Vec<Duration>) -> f64 {
    times.sort();
    f64::from(ENTRIES) / times[times.len() / 2].as_secs_f64()
}

#[tokio::main]
async fn main() {
    let (_tell, told) = mpsc::channel(1);
    let target = Target::start(([127, 0, 0, 1], 0).into(), 1, Box::new(Idle), told).await.unwrap();
    let address = std::env::args().nth(1).unwrap_or_else(|| target.address().to_string());
    let election = ElectionId(1);
    let (client, _stream) = Client::connect(&address, 1, election).await.unwrap();
    let program = program();
    let mut bare = P4RuntimeClient::connect(format!("http://{address}")).await.unwrap();
    println!("{address}, {ENTRIES} entries, median of {ROUNDS}");
    println!("| batch | entries/s | the least client | ratio |\n|---|---|---|---|");
    for size in [1, 10, 30, 100, 300, MAX_BATCH] {
        let batches: Vec<Vec<Update>> = (0..ENTRIES)
            .map(|number| entry(&program, number))
            .collect::<Vec<_>>()
            .chunks(size)
            .map(<[Update]>::to_vec)
            .collect();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..2 * ROUNDS {
            client.set_pipeline(&program, Set::VerifyAndCommit).await.unwrap();
            if round % 2 == 0 {
                let batches = batches.clone();
                let begun = Instant::now();
                for batch in batches {
                    let results = client.write(program.info(), batch, Atomicity::ContinueOnError).await.unwrap();
                    assert!(results.iter().all(Result::is_ok));
                }
                ours.push(begun.elapsed());
            } else {
                let request = |updates: &Vec<Update>| WriteRequest {
                    device_id: 1,
                    election_id: Some(election.into()),
                    updates: updates.clone(),
                    ..Default::default()
                };
                let requests: Vec<_> = batches.iter().map(request).collect();
                let begun = Instant::now();
                for request in requests {
                    bare.write(request).await.unwrap();
                }
                theirs.push(begun.elapsed());
            }
        }
        let (ours, theirs) = (per_second(ours), per_second(theirs));
        println!("| {size} | {ours:.0} | {theirs:.0} | {:.2} |", ours / theirs);
    }
    target.stop().await;
}
