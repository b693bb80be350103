//! Earlier revisions: what the API tells of them and is asked about them.

use crate::{answer::ChangeLine, answer::PlanAnswer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The header in which a client says who its user is. Nothing proves it; it is written down for people.
pub const USER_HEADER: &str = "bulkhead-user";

/// Most characters of a user's name that are written down.
pub const MAX_USER: usize = 64;

/// The answer to `GET /v1/history`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct HistoryAnswer {
    /// The newest revision.
    pub revision: u64,
    /// The oldest revision whose state is kept: there can be gone back to it, and to every later one.
    pub oldest: u64,
    /// Revisions, newest first.
    pub items: Vec<HistoryLine>,
}

/// One revision.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct HistoryLine {
    /// Its number.
    pub revision: u64,
    /// Who made it, as he said himself.
    pub author: String,
    /// When (RFC 3339, UTC).
    pub time: String,
    /// What it changed, in order of kind and name; only the first of many.
    pub changes: Vec<ChangeLine>,
    /// How many more.
    #[serde(default)]
    pub more: usize,
}

/// The answer to `GET /v1/diff`: what differs between two revisions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct DiffAnswer {
    /// The first revision.
    pub from: u64,
    /// The second.
    pub to: u64,
    /// Resources that differ, in order of kind and name.
    pub resources: Vec<DiffLine>,
    /// What that means for who reaches whom; entries of switches are left out.
    pub plan: PlanAnswer,
}

/// One resource at two revisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiffLine {
    /// What happened to it from the first revision to the second.
    #[serde(flatten)]
    pub line: ChangeLine,
    /// The document at the first revision; none if it was not there.
    #[schema(value_type = Option<Object>)]
    pub from: Option<Value>,
    /// The document at the second.
    #[schema(value_type = Option<Object>)]
    pub to: Option<Value>,
}

/// The body of `POST /v1/rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackQuestion {
    /// The revision whose content is to be there again.
    pub revision: u64,
    /// The revision that the client believes to be the newest: refused (409) if there is a newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<u64>,
}

/// The answer to `POST /v1/restore`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct RestoreAnswer {
    /// The newest revision of the backup, which is in force now.
    pub revision: u64,
    /// How many resources there are.
    pub resources: usize,
}

/// A time in milliseconds since 1970-01-01 UTC, as RFC 3339 has it.
pub fn rfc3339(millis: u64) -> String {
    let (days, in_day) = (millis / 86_400_000, millis % 86_400_000);
    // Years are counted from March on, in eras of 400 years, which all have the same days; day 0 is 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (seconds, millis) = (in_day / 1000, in_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_everybody_does() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_735_689_600_001, "2025-01-01T00:00:00.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(millis), text);
        }
    }
}
