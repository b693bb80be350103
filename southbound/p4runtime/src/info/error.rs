//! What can be wrong with a P4Info.

use super::{MAX_INFO, MAX_WIDTH};
use thiserror::Error;

/// Why a P4Info is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InfoError {
    /// More than [`MAX_INFO`] bytes.
    #[error("{0} bytes of P4Info, {MAX_INFO} are taken")]
    TooLarge(usize),
    /// Not P4Info's text form.
    #[error("not P4Info as text: {0}")]
    Text(String),
    /// Not P4Info's binary form.
    #[error("not P4Info: {0}")]
    Binary(String),
    /// An object without number or name.
    #[error("{kind} number {at} has no {missing}")]
    Unnamed {
        /// What kind of object.
        kind: &'static str,
        /// Its place among them, from 0.
        at: usize,
        /// What it lacks.
        missing: &'static str,
    },
    /// A number whose highest byte belongs to another kind of object (P4Runtime §6.3).
    #[error("{kind} {name:?} has number {id:#010x}, which is not one of a {kind}")]
    Prefix {
        /// What kind of object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Its number.
        id: u32,
    },
    /// A number twice, where it must be unique.
    #[error("{place} has number {id:#x} twice: {first:?} and {second:?}")]
    Twice {
        /// Where: the program, a table's key, an action's parameters.
        place: String,
        /// The number.
        id: u32,
        /// One name.
        first: String,
        /// The other.
        second: String,
    },
    /// A name twice among objects of a kind.
    #[error("two objects {name:?} of kind {kind}")]
    NameTwice {
        /// What kind of object.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A width that no value has, or a text that the device translates, which is not supported.
    #[error("{place} has {name:?} of {width} bits; 1 to {MAX_WIDTH} are possible")]
    Width {
        /// Where.
        place: String,
        /// Which field or parameter.
        name: String,
        /// Its width.
        width: i32,
    },
    /// A field that matches in a way that is not known.
    #[error("{table}: field {field:?} matches by {kind}, which is not known")]
    MatchKind {
        /// The table.
        table: String,
        /// The field.
        field: String,
        /// How it is said to match.
        kind: String,
    },
    /// A reference to nothing.
    #[error("{from} names {kind} {id:#010x}, which is not there")]
    Dangling {
        /// Who refers.
        from: String,
        /// To what kind of object.
        kind: &'static str,
        /// By which number.
        id: u32,
    },
    /// Two objects of which one says that it belongs to the other, and the other does not.
    #[error("{one} and {other} do not agree that they belong together")]
    OneSided {
        /// The one who says so.
        one: String,
        /// The other.
        other: String,
    },
    /// A size below zero.
    #[error("{place} has size {size}")]
    Size {
        /// Where.
        place: String,
        /// The size.
        size: i64,
    },
    /// A default action with parameters that do not fit it.
    #[error("{table}: its default action does not fit: {why}")]
    Default {
        /// The table.
        table: String,
        /// What is wrong.
        why: String,
    },
}
