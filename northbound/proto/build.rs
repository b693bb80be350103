//! Compiles the protocol files in `proto`, without protoc.

use prost::Message as _;
use std::{env, error::Error, fs, path::Path};

/// The services' files; what they import comes with them.
const FILES: [&str; 5] = [
    "bulkhead/v1/resources.proto",
    "bulkhead/v1/questions.proto",
    "bulkhead/v1/revisions.proto",
    "bulkhead/v1/fabric.proto",
    "bulkhead/v1/access.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(FILES, ["proto"])?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("descriptors.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(false)
        // No map of a type may bring its order into an output.
        .btree_map(".")
        // The public types' JSON is what messages are made of.
        .message_attribute(".bulkhead.v1", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(".bulkhead.v1", "#[serde(rename_all = \"camelCase\", default)]")
        .field_attribute("verdict", "#[serde(with = \"crate::words::verdict\")]")
        .field_attribute("severity", "#[serde(with = \"crate::words::severity\")]")
        .field_attribute("change", "#[serde(with = \"crate::words::change\")]")
        .field_attribute("DiffLine.from", "#[serde(with = \"crate::words::document\")]")
        .field_attribute("DiffLine.to", "#[serde(with = \"crate::words::document\")]")
        .field_attribute("PathAnswer.steps", "#[serde(with = \"crate::words::steps\")]")
        .compile_fds(files)?;
    Ok(())
}
