//! Recordings: every event as a JSON line, and their replay.

use crate::{
    apply::{Edit, Request},
    event::{EditNote, Event},
    handle::{Gone, Handle},
    load::Decode,
};
use bulkhead_policy::Change;
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    io::{self, BufRead, Write},
    time::Duration,
};
use tracing::error;

#[derive(Serialize, Deserialize)]
struct Line<E> {
    /// Microseconds since the loop began.
    at: u64,
    #[serde(flatten)]
    event: E,
}

/// Writes events down. A recording that cannot be written ends; the controller goes on.
pub struct Recorder {
    out: Option<Box<dyn Write + Send>>,
}

impl Recorder {
    /// Records to `out`.
    pub fn to(out: Box<dyn Write + Send>) -> Self {
        Self { out: Some(out) }
    }

    /// Records nothing.
    pub fn off() -> Self {
        Self { out: None }
    }

    /// Writes an event down; it is only made if it is wanted.
    pub(crate) fn write(&mut self, now: Duration, event: impl FnOnce() -> Event) {
        let Some(out) = &mut self.out else { return };
        let line = Line { at: u64::try_from(now.as_micros()).unwrap_or(u64::MAX), event: event() };
        let written = serde_json::to_vec(&line).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            out.write_all(&line)?;
            // Every line on its own, so that a crash loses none.
            out.flush()
        });
        if let Err(error) = written {
            error!(%error, "the recording ends here");
            self.out = None;
        }
    }
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Changes that were replayed.
    pub changes: usize,
    /// Changes that came to something else than when they were recorded, and beginnings at another revision: which, and
    /// how.
    pub differences: Vec<String>,
}

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("the recording cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A line is not an event.
    #[error("line {line} of the recording is no event: {why}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The loop has ended.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Reads one line of a recording: how long after the loop began, and what happened.
pub fn parse_line(line: &str) -> Result<(Duration, Event), String> {
    let Line { at, event } = serde_json::from_str(line).map_err(|error| error.to_string())?;
    Ok((Duration::from_micros(at), event))
}

/// Asks for every recorded change again, in order, and compares what it comes to. Replay into a
/// controller that starts where the recording started.
pub async fn replay(recording: impl BufRead, decode: Decode, controller: &Handle) -> Result<Replayed, ReplayError> {
    let mut replayed = Replayed::default();
    // Of changes whose recorded outcome is still to come; those of a group come after all of its changes.
    let mut outcomes: VecDeque<Event> = VecDeque::new();
    for (index, line) in recording.lines().enumerate() {
        let wrong = |why: String| ReplayError::Line { line: index + 1, why };
        let (_, event) = parse_line(&line?).map_err(wrong)?;
        match event {
            Event::Apply { author, time, dry_run, newest, edits } => {
                let edits: Result<Vec<Edit>, String> = edits.into_iter().map(|note| edit(note, decode)).collect();
                let request = Request { edits: edits.map_err(wrong)?, dry_run, newest, author, time, event: None };
                outcomes.push_back(Event::from(&controller.apply(request).await?));
                replayed.changes += 1;
            }
            Event::Outcome { .. } => {
                if let Some(now) = outcomes.pop_front().filter(|now| *now != event) {
                    replayed.differences.push(format!("line {}: {event:?} was recorded, now {now:?}", index + 1));
                }
            }
            Event::Start { revision } => {
                // What was under way when the run before ended was not answered.
                outcomes.clear();
                let now = controller.read(|accepted| accepted.revision);
                if now != revision {
                    let what = format!("the controller began at revision {revision}, now it is at {now}");
                    replayed.differences.push(format!("line {}: {what}", index + 1));
                }
            }
            Event::Switch { .. } | Event::Host { .. } | Event::Tick | Event::Query { .. } => {}
        }
    }
    Ok(replayed)
}

fn edit(note: EditNote, decode: Decode) -> Result<Edit, String> {
    let value = note.document.as_deref().map(decode).transpose()?;
    let change = Change { key: note.key, value };
    Ok(Edit { change, document: note.document, expected: note.expected })
}
