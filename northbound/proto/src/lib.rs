//! The gRPC API's messages and services, `bulkhead.v1`, from the files in `proto`.
//!
//! A message of a public type (`bulkhead_types`) has its fields, by the same names: [`message`] makes one from the other.
//! What protobuf says otherwise is in [`words`].

pub mod words;

use serde::{Serialize, de::DeserializeOwned};

/// Package `bulkhead.v1`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::panic, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("bulkhead.v1");
}

/// The descriptors of all files, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// A message from a public type, or the other way round.
///
/// # Errors
/// A field holds what the other form cannot: a number that is too large for it, say.
pub fn message<T: Serialize, M: DeserializeOwned>(value: &T) -> Result<M, serde_json::Error> {
    serde_json::from_value(serde_json::to_value(value)?)
}
