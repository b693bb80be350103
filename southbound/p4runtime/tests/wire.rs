//! Our protocol files against the public ones: everything that we have is there with the same number, type and label.
//!
//! The public files are no part of this repository. `BULKHEAD_P4RUNTIME_PROTOS=DIR[:DIR]` says where they lie; without it,
//! nothing is compared.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind};
use std::collections::BTreeMap;

const FILES: [&str; 5] = [
    "google/rpc/status.proto",
    "p4/config/v1/p4info.proto",
    "p4/config/v1/p4types.proto",
    "p4/v1/p4data.proto",
    "p4/v1/p4runtime.proto",
];

fn pool(folders: &[&str]) -> DescriptorPool {
    DescriptorPool::from_file_descriptor_set(protox::compile(FILES, folders).unwrap()).unwrap()
}

/// Everything of a set of files that is seen on the wire or in the text form, by name.
fn facts(pool: &DescriptorPool) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for message in pool.all_messages().filter(|message| !message.full_name().starts_with("google.protobuf.")) {
        facts.insert(message.full_name().to_owned(), format!("message, map entry: {}", message.is_map_entry()));
        for field in message.fields() {
            facts.insert(field.full_name().to_owned(), fact(&field));
        }
    }
    for this in pool.all_enums() {
        for value in this.values() {
            facts.insert(value.full_name().to_owned(), format!("= {} of {}", value.number(), this.full_name()));
        }
    }
    for service in pool.services() {
        for method in service.methods() {
            let stream = |yes| if yes { "stream " } else { "" };
            let (from, to) = (stream(method.is_client_streaming()), stream(method.is_server_streaming()));
            let (input, output) = (method.input(), method.output());
            let fact = format!("({from}{}) -> {to}{}", input.full_name(), output.full_name());
            facts.insert(method.full_name().to_owned(), fact);
        }
    }
    facts
}

fn fact(field: &FieldDescriptor) -> String {
    let kind = match field.kind() {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(of) => of.full_name().to_owned(),
        plain => format!("{plain:?}"),
    };
    let choice = field.containing_oneof().map(|of| format!(" of {}", of.name())).unwrap_or_default();
    format!(
        "= {} {:?} {kind}{choice}, packed: {}, presence: {}",
        field.number(),
        field.cardinality(),
        field.is_packed(),
        field.supports_presence()
    )
}

#[test]
fn all_that_we_have_is_there_and_the_same() {
    let Ok(folders) = std::env::var("BULKHEAD_P4RUNTIME_PROTOS") else {
        println!("NOT TESTED: BULKHEAD_P4RUNTIME_PROTOS does not say where the public protocol files are");
        return;
    };
    let folders: Vec<_> = folders.split(':').collect();
    let ours = facts(&pool(&[concat!(env!("CARGO_MANIFEST_DIR"), "/proto")]));
    let public = facts(&pool(&folders));
    let different: Vec<_> = ours
        .iter()
        .filter(|(name, fact)| public.get(*name) != Some(*fact))
        .map(|(name, fact)| format!("{name}: {fact}, there {:?}", public.get(name)))
        .collect();
    assert_eq!(different, Vec::<String>::new());
    let left_out: Vec<_> = public.keys().filter(|name| !ours.contains_key(*name)).collect();
    println!("{} facts of {} are the same; left out: {left_out:#?}", ours.len(), public.len());
}
