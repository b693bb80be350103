//! The audit log, as the API tells it, and what can be seen in it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The newest record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct AuditHead {
    /// Its number; 0 if there is none.
    pub number: u64,
    /// SHA-256 of its line, in hexadecimal digits; empty if there is none.
    pub digest: String,
}

/// The answer to `GET /v1/audit`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct AuditAnswer {
    /// The newest record of all.
    pub head: AuditHead,
    /// The number of the oldest one that is kept.
    pub oldest: u64,
    /// Records, oldest first, each the very line that its digest is of.
    pub records: Vec<String>,
}

/// A document before and after.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AuditObject {
    /// Kind and name.
    pub key: String,
    /// SHA-256 of what it was; none if it was not there.
    pub before: Option<String>,
    /// SHA-256 of what it is; none if it is not there any more.
    pub after: Option<String>,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditRecord {
    /// Its number.
    pub number: u64,
    /// The digest of the one before; empty in the first.
    pub previous: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time: u64,
    /// Who.
    pub user: String,
    /// How that is known.
    pub known: String,
    /// Who the client said that its user is, where nothing proves it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub says: String,
    /// From where.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// What was asked.
    pub action: String,
    /// What came of it.
    pub outcome: String,
    /// What else there is to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// How often, if it stands for several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Kinds and names of what it was to change, where nothing was changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub about: Vec<String>,
    /// How many more.
    #[serde(skip_serializing_if = "is_zero")]
    pub unnamed: u64,
    /// The revision that it made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// What it changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<AuditObject>,
    /// How many more.
    pub omitted: u64,
    /// SHA-256 of a line `KEY BEFORE AFTER` for each, those that are not named too; `-` is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum: Option<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is no record.
    #[error("after record {after}: this is no record: {why}")]
    Unreadable {
        /// The record before it.
        after: u64,
        /// Why.
        why: String,
    },
    /// Others are missing before it, or it stands in the wrong place.
    #[error("after record {after} comes {found}: what was between them is missing, or their order was changed")]
    Order {
        /// The record before it.
        after: u64,
        /// Its own number.
        found: u64,
    },
    /// The record before is another one than when this was written.
    #[error("record {number} is not what it was when the next one was written: one of the two was changed")]
    Changed {
        /// The record before.
        number: u64,
    },
    /// A revision is told of by none.
    #[error("record {number} is of revision {found}, and none is of revision {missing}")]
    Revision {
        /// The record.
        number: u64,
        /// Its revision.
        found: u64,
        /// The first that is missing.
        missing: u64,
    },
}

/// Follows records, oldest first.
#[derive(Debug, Clone)]
pub struct Chain {
    sha256: fn(&[u8]) -> String,
    /// The record that was followed last.
    pub head: AuditHead,
    /// The first one; 0 before there was one.
    pub first: u64,
    revision: u64,
}

impl Chain {
    /// From the first line on that is given; `sha256` tells a digest in hexadecimal digits.
    pub fn new(sha256: fn(&[u8]) -> String) -> Self {
        Self { sha256, head: AuditHead::default(), first: 0, revision: 0 }
    }

    /// Takes the next line.
    ///
    /// # Errors
    /// When it does not follow from those before.
    pub fn follow(&mut self, line: &str) -> Result<AuditRecord, Broken> {
        let after = self.head.number;
        let record: AuditRecord =
            serde_json::from_str(line).map_err(|error| Broken::Unreadable { after, why: error.to_string() })?;
        let begins = self.first == 0;
        if record.number == 0 || (!begins && record.number != after + 1) {
            return Err(Broken::Order { after, found: record.number });
        }
        // Of the first one that is kept, nobody knows what came before; the very first had nothing before it.
        let previous = if record.number == 1 { Some("") } else { (!begins).then_some(self.head.digest.as_str()) };
        if previous.is_some_and(|previous| previous != record.previous) {
            return Err(Broken::Changed { number: record.number - 1 });
        }
        if let Some(revision) = record.revision {
            // A backup that is brought back into an empty store begins where it ended.
            let next = self.revision + 1;
            if self.revision > 0 && revision != next {
                return Err(Broken::Revision { number: record.number, found: revision, missing: next });
            }
            self.revision = revision;
        }
        if begins {
            self.first = record.number;
        }
        self.head = AuditHead { number: record.number, digest: (self.sha256)(line.as_bytes()) };
        Ok(record)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Good enough to tell lines apart.
    fn sum(bytes: &[u8]) -> String {
        bytes.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte))).to_string()
    }

    fn lines() -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for number in 1..=6_u64 {
            let previous = lines.last().map(|line| sum(line.as_bytes())).unwrap_or_default();
            let revision = (number > 2).then_some(number + 10);
            let record = AuditRecord { number, previous, revision, user: format!("u{number}"), ..Default::default() };
            lines.push(serde_json::to_string(&record).unwrap());
        }
        lines
    }

    fn follow(lines: &[String]) -> Result<Chain, Broken> {
        let mut chain = Chain::new(sum);
        lines.iter().try_for_each(|line| chain.follow(line).map(drop))?;
        Ok(chain)
    }

    #[test]
    fn whatever_is_changed_removed_or_moved_is_found() {
        let whole = lines();
        let head = follow(&whole).unwrap().head;
        assert_eq!(head, AuditHead { number: 6, digest: sum(whole[5].as_bytes()) });
        // What is forgotten from the front is known to be, by its number.
        assert_eq!(follow(&whole[3..]).unwrap().first, 4);
        for at in 0..6 {
            let mut changed = whole.clone();
            changed[at] = changed[at].replace("\"u", "\"v");
            let found = follow(&changed);
            match at {
                // Only who knows the newest one's digest sees this.
                5 => assert_ne!(found.unwrap().head, head),
                _ => assert_eq!(found.unwrap_err(), Broken::Changed { number: at as u64 + 1 }),
            }
            let mut removed = whole.clone();
            removed.remove(at);
            match at {
                0 => assert_eq!(follow(&removed).unwrap().first, 2),
                5 => assert_ne!(follow(&removed).unwrap().head, head),
                _ => assert!(matches!(follow(&removed).unwrap_err(), Broken::Order { .. })),
            }
            if at < 5 {
                let mut swapped = whole.clone();
                swapped.swap(at, at + 1);
                assert!(matches!(follow(&swapped).unwrap_err(), Broken::Order { .. }), "{at}");
            }
        }
        assert!(matches!(follow(&["{".into()]).unwrap_err(), Broken::Unreadable { after: 0, .. }));
        assert!(matches!(follow(&["{}".into()]).unwrap_err(), Broken::Order { .. }));
    }

    #[test]
    fn a_revision_without_a_record_is_found() {
        let mut chain = Chain::new(sum);
        let mut line = |number, revision| {
            let previous = chain.head.digest.clone();
            let record = AuditRecord { number, previous, revision: Some(revision), ..Default::default() };
            chain.follow(&serde_json::to_string(&record).unwrap()).map(drop)
        };
        line(1, 7).unwrap();
        line(2, 8).unwrap();
        assert_eq!(line(3, 10).unwrap_err(), Broken::Revision { number: 3, found: 10, missing: 9 });
    }
}
