//! P4Runtime 1.4, as a controller speaks it and a device checks it.
//!
//! The protocol files in `proto` are ours, written from the public specification, and compatible with it on the wire: what
//! they have has the same numbers and types as there (`tests/wire.rs` compares them with the public ones where those lie
//! about). What they leave out is dropped when it is read. That matters only for what is read and written back, and
//! nothing here is: a controller writes what it has made itself.
//!
//! [`Info`] is a program, read from P4Info; [`check`] says what fits it, and is asked by the controller before sending and by a
//! device on receipt; [`bytes`] are values; [`Arbitration`] is who may write. All of that is pure. [`Client`] is the task's
//! part: calls, and a stream.

pub mod bytes;
pub mod check;
pub mod client;
pub mod entry;
pub mod info;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

mod arbitration;
mod error;

pub use arbitration::{Arbitration, ArbitrationError, ElectionId, Standing, notice};
pub use client::{Client, Event, Pipeline, Pushed, Stream};
pub use error::Error;
pub use info::{Info, InfoError};

/// What the protocol files become. What each is for is said there.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod proto {
    pub mod google {
        pub mod rpc {
            tonic::include_proto!("google.rpc");
        }
    }
    pub mod p4 {
        pub mod v1 {
            tonic::include_proto!("p4.v1");
        }
        pub mod config {
            pub mod v1 {
                tonic::include_proto!("p4.config.v1");
            }
        }
    }
}
