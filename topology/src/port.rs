//! Switch ports.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// A switch port by its name or OpenFlow number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Port {
    /// The interface's name.
    Name(Arc<str>),
    /// The port number.
    Number(u32),
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}
