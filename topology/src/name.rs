//! Names of resources.

use crate::{DatapathId, ParseError, serde_as_text};
use std::{cmp::Ordering, fmt, str::FromStr, sync::Arc};

/// Longest name of a resource, in bytes (a DNS name's length, so that imported names fit).
pub const MAX_NAME: usize = 253;

/// A resource's name: `[a-z0-9]([-a-z0-9._]*[a-z0-9])?`, at most [`MAX_NAME`] bytes.
///
/// Cheap to clone: names are shared by every index that mentions them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(Arc<str>);

impl Ord for Name {
    /// As texts. One name is compared with itself most often: in maps of maps, whose outer keys are few.
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        check(text).map(|()| Self(text.into()))
    }
}

impl From<DatapathId> for Name {
    /// What a switch is called that nobody gave a name.
    fn from(id: DatapathId) -> Self {
        Self(format!("dpid-{:016x}", id.0).into())
    }
}

impl TryFrom<Arc<str>> for Name {
    type Error = ParseError;
    /// The name that shares this text.
    fn try_from(text: Arc<str>) -> Result<Self, ParseError> {
        check(&text).map(|()| Self(text))
    }
}

fn check(text: &str) -> Result<(), ParseError> {
    let error = |why: &str| Err(ParseError::new("name", text, why));
    if text.is_empty() || text.len() > MAX_NAME {
        return error("names have 1 to 253 characters");
    }
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if !text.bytes().all(|b| alphanumeric(b) || matches!(b, b'-' | b'.' | b'_')) {
        return error("names use lower-case letters, digits, `-`, `.` and `_`");
    }
    let ends = [text.bytes().next(), text.bytes().next_back()];
    if !ends.into_iter().flatten().all(alphanumeric) {
        return error("names begin and end with a lower-case letter or a digit");
    }
    Ok(())
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

serde_as_text!(Name);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_contract_says_and_nothing_else() {
        for good in ["a", "web-1", "shop.web_1", "0", &"a".repeat(253)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "Web", "a b", "a/b", "ä", ".", &"a".repeat(254)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
