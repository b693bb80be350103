//! The vocabulary of the fabric: names, addresses, labels and selectors.
//!
//! Everything here is a plain value with one canonical form: parsing accepts what operators write,
//! [`std::fmt::Display`] prints the one spelling that is stored, compared and shown.

mod addr;
pub mod graph;
mod hands;
mod label;
pub mod lldp;
mod name;
mod nearest;
mod number;
mod port;
pub mod underlay;

pub use addr::{Cover, IpNet, Mac, PrefixError, parse_ip};
pub use hands::{Hands, alone, each};
pub use label::{Labels, MAX_LABELS, Operator, RESERVED_PREFIX, Requirement, Selector, check_key, check_value};
pub use name::{MAX_NAME, Name};
pub use nearest::nearest;
pub use number::{DatapathId, ProtocolPort, Vni};
pub use port::Port;

/// Why a piece of text is not the value that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}: {why}")]
pub struct ParseError {
    /// What was expected ("MAC address", "name"...).
    pub what: &'static str,
    /// The offending text, cut to a printable length.
    pub text: String,
    /// What is wrong with it, and how it should look.
    pub why: String,
}

/// Longest piece of offending text that an error repeats.
const MAX_ERROR_TEXT: usize = 64;

impl ParseError {
    /// An error about `text`, which should have been a `what`.
    pub fn new(what: &'static str, text: &str, why: impl Into<String>) -> Self {
        Self { what, text: text.chars().take(MAX_ERROR_TEXT).collect(), why: why.into() }
    }
}

/// Implements serde through `Display` and `FromStr`: the canonical text is the encoding.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;
