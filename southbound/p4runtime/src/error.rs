//! What can go wrong with a device.

use crate::{arbitration::ArbitrationError, check::Refusal, info::InfoError};
use std::time::Duration;
use thiserror::Error;
use tonic::Code;

/// Longest piece of a device's text that is repeated, in characters.
const MAX_TOLD: usize = 300;

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Error {
    /// No address of a device.
    #[error("{address:?} is not HOST:PORT: {why}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers at the address.
    #[error("{address} cannot be reached: {why}")]
    Unreachable {
        /// The device's address.
        address: String,
        /// Why not.
        why: String,
    },
    /// The device refused a call, or the connection broke during it.
    #[error("device {device} at {address}: {what}: {code:?}: {why}")]
    Call {
        /// The device's address.
        address: String,
        /// Its number.
        device: u64,
        /// Which call.
        what: &'static str,
        /// With which code.
        code: Code,
        /// The device's reason, cut to a printable length.
        why: String,
    },
    /// No answer in time.
    #[error("device {device} at {address}: {what}: no answer within {limit:?}")]
    TimedOut {
        /// The device's address.
        address: String,
        /// Its number.
        device: u64,
        /// Which call.
        what: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The device ended the stream without saying why: it is gone, or starts anew.
    #[error("device {device} at {address} ended the stream")]
    Closed {
        /// The device's address.
        address: String,
        /// Its number.
        device: u64,
    },
    /// An answer that makes no sense.
    #[error("device {device} at {address}: {why}")]
    Nonsense {
        /// The device's address.
        address: String,
        /// Its number.
        device: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The device says about arbitration what it may not.
    #[error("device {device} at {address}: {wrong}")]
    Arbitration {
        /// The device's address.
        address: String,
        /// Its number.
        device: u64,
        /// What it said.
        wrong: ArbitrationError,
    },
    /// A write that does not fit the program; nothing was sent.
    #[error("update {at} does not fit the program: {refusal}")]
    Refused {
        /// Its place in the batch, from 0.
        at: usize,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// More than may be sent or read at once; nothing was sent.
    #[error("{size} {what}, {most} at most")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much.
        size: usize,
        /// How much is possible.
        most: usize,
    },
    /// The device does not take what is sent on its stream.
    #[error("device {device} at {address}: {waiting} messages wait to be sent")]
    Busy {
        /// The device's address.
        address: String,
        /// Its number.
        device: u64,
        /// How many.
        waiting: usize,
    },
    /// The device's P4Info.
    #[error("the device's P4Info: {0}")]
    Info(#[from] InfoError),
}

impl Error {
    /// The device's code, if it is a device that refused.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Call { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// A device's text, cut to a printable length.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(MAX_TOLD).collect()
}
