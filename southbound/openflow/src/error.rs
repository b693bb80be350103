//! Why bytes were not taken as OpenFlow.

use thiserror::Error;

/// A message, or a part of one, that does not hold what its place demands.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: {fault}")]
pub struct DecodeError {
    /// The structure or field that was being read.
    pub place: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    /// The surrounding structure ends before this one is complete.
    #[error("needs {need} bytes, {have} are left")]
    Short {
        /// Bytes that the fixed part needs.
        need: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// A declared length is below the fixed part (zero included), above what is left, or not a multiple as required.
    #[error("declares {declared} bytes where {least} to {most} fit")]
    Length {
        /// The length field.
        declared: usize,
        /// The fixed part's length.
        least: usize,
        /// What the surrounding structure has left.
        most: usize,
    },
    /// A number that the specification gives no meaning here.
    #[error("value {0:#x} has no meaning here")]
    Value(u64),
    /// A nesting deeper than [`crate::wire::MAX_DEPTH`].
    #[error("nested deeper than {0}")]
    Depth(usize),
    /// Bytes after the end of a structure that must fill its place.
    #[error("{0} bytes too many")]
    Trailing(usize),
}

impl DecodeError {
    /// An error at `place`.
    pub const fn new(place: &'static str, fault: Fault) -> Self {
        Self { place, fault }
    }

    pub(crate) const fn value(place: &'static str, value: u64) -> Self {
        Self::new(place, Fault::Value(value))
    }
}

/// Why a text is not a flow in ovs-ofctl's syntax.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}: {text:?}")]
pub struct TextError {
    /// What was expected or is wrong.
    pub what: &'static str,
    /// The part of the input that it is about.
    pub text: String,
}

impl TextError {
    pub(crate) fn new(what: &'static str, text: &str) -> Self {
        // A hostile line may be long; the message need not be.
        Self { what, text: text.chars().take(80).collect() }
    }
}
