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

impl Port {
    /// Longest name of a port, in bytes: Open vSwitch takes more than Linux' 15.
    pub const LONGEST_NAME: usize = 63;

    /// Whether documents can name a port so: printable ASCII without spaces. Switches call theirs what they like.
    pub fn is_name(name: &str) -> bool {
        (1..=Self::LONGEST_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}
