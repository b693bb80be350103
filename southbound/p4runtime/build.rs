//! Compiles the protocol files in `proto`, without protoc.

use prost::Message as _;
use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["p4/v1/p4runtime.proto"], ["proto"])?;
    // P4Info as text is read by the names in here.
    fs::write(Path::new(&env::var("OUT_DIR")?).join("descriptors.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure()
        // No map of a type may bring its order into an output.
        .btree_map(".")
        // Matches are keys of ordered maps.
        .type_attribute(".p4.v1.FieldMatch", "#[derive(PartialOrd, Ord)]")
        .compile_fds(files)?;
    Ok(())
}
