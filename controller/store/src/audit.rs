//! The audit log: what was done and tried, by whom, as records that each hold the digest of the one before.
//!
//! A record of a revision is written in the revision's own transaction, so that there is neither without the other. A
//! record is a line of JSON; its digest is the SHA-256 of that line, and the next one says it.

use crate::Revision;
use ring::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

/// Most documents that a record names one by one: it is to be read, and the history has all of them.
const MAX_OBJECTS: usize = 100;
/// Most characters of each text of an event, so that what is tried cannot fill the disk.
const MAX_TEXT: usize = 512;
/// Most resources that an event names which changed nothing, for the same reason.
const MAX_ABOUT: usize = 4;
/// The digest before the first record.
const NOTHING: &str = "";

/// Something that was done or tried, as whoever was asked tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Event {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time: u64,
    /// Who.
    pub user: String,
    /// How that is known.
    pub known: String,
    /// Who the client says that its user is, where nothing proves it.
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
    /// How often, if this stands for several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Keys of what it was to change and did not: a record of a revision has what it changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub about: Vec<String>,
    /// How many more.
    #[serde(skip_serializing_if = "is_zero")]
    pub unnamed: u64,
}

impl Event {
    /// Of a revision that nobody asked for.
    fn own(revision: &Revision) -> Self {
        Self {
            time: revision.time,
            user: revision.author.clone(),
            known: "controller".into(),
            action: "change".into(),
            outcome: "done".into(),
            ..Self::default()
        }
    }

    /// With texts that are not too long, and not too many of them.
    fn bounded(&self) -> Self {
        let mut event = self.clone();
        event.unnamed += event.about.len().saturating_sub(MAX_ABOUT) as u64;
        event.about.truncate(MAX_ABOUT);
        let texts = [
            &mut event.user,
            &mut event.known,
            &mut event.says,
            &mut event.from,
            &mut event.action,
            &mut event.outcome,
            &mut event.detail,
        ];
        for text in texts.into_iter().chain(&mut event.about) {
            if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
                text.truncate(end);
            }
        }
        event
    }
}

/// A document before and after: SHA-256 of its text, in hexadecimal digits; none where it is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// Its key.
    pub key: String,
    /// Before.
    pub before: Option<String>,
    /// After.
    pub after: Option<String>,
}

/// What a revision did, in short.
#[derive(Default)]
pub(crate) struct Touches {
    objects: Vec<Touched>,
    omitted: u64,
    /// Over all of them.
    sum: Option<Context>,
}

impl Touches {
    /// A document that was `before` is `after`.
    pub(crate) fn add(&mut self, key: &str, before: Option<&str>, after: Option<&str>) {
        let text = |text: Option<&str>| text.map(|text| sha256(text.as_bytes()));
        let touched = Touched { key: key.to_owned(), before: text(before), after: text(after) };
        let sum = self.sum.get_or_insert_with(|| Context::new(&SHA256));
        let [before, after] = [&touched.before, &touched.after].map(|digest| digest.as_deref().unwrap_or("-"));
        for part in [key, " ", before, " ", after, "\n"] {
            sum.update(part.as_bytes());
        }
        if self.objects.len() < MAX_OBJECTS { self.objects.push(touched) } else { self.omitted += 1 }
    }
}

/// A record, as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    number: u64,
    previous: String,
    #[serde(flatten)]
    event: Event,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    objects: Vec<Touched>,
    #[serde(skip_serializing_if = "is_zero", default)]
    omitted: u64,
    /// SHA-256 of `KEY BEFORE AFTER` and a line's end for each document, those that are not named too.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sum: Option<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The newest record: whoever has noted it elsewhere sees whether anything up to it was changed since.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// Its number; 0 if there is none.
    pub number: u64,
    /// The digest of its line, in hexadecimal digits; empty if there is none.
    pub digest: String,
}

impl Head {
    /// After the record with this number, which is this line.
    pub(crate) fn at(number: u64, line: &str) -> Self {
        Self { number, digest: sha256(line.as_bytes()) }
    }

    /// Writes the next record.
    fn next(&mut self, event: &Event, revision: Option<u64>, touches: Touches) -> Result<String, serde_json::Error> {
        let record = Record {
            number: self.number + 1,
            previous: if self.number == 0 { NOTHING.into() } else { self.digest.clone() },
            event: event.bounded(),
            revision,
            objects: touches.objects,
            omitted: touches.omitted,
            sum: touches.sum.map(|sum| hex(sum.finish().as_ref())),
        };
        let line = serde_json::to_string(&record)?;
        *self = Self::at(record.number, &line);
        Ok(line)
    }

    /// The record of a revision.
    pub(crate) fn revision(&mut self, revision: &Revision, touches: Touches) -> Result<String, serde_json::Error> {
        let own = || Event::own(revision);
        let event = revision.event.clone().unwrap_or_else(own);
        self.next(&event, Some(revision.number), touches)
    }

    /// The record of something else; of a restored backup, with the revision that it came to.
    pub(crate) fn event(&mut self, event: &Event, revision: Option<u64>) -> Result<String, serde_json::Error> {
        self.next(event, revision, Touches::default())
    }
}

/// Some records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// The newest one.
    pub head: Head,
    /// The number of the oldest one that is kept; 0 if there is none.
    pub oldest: u64,
    /// Records, oldest first, as they were written.
    pub records: Vec<String>,
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}
