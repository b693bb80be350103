//! Changes as they come: a reader of server-sent events.

use crate::{Client, Error};
use bulkhead_types::{Problem, WATCH_CHANGE, WATCH_END, WatchEvent};
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Read};

/// Longest line that is read: a resource in JSON, escaped as badly as can be.
const MAX_LINE: u64 = 64 << 20;

/// What a stream tells.
#[derive(Debug)]
pub enum Told {
    /// Something changed.
    Change(Box<WatchEvent>),
    /// There will be nothing more, and why.
    End(Box<Problem>),
}

/// A stream of changes, read as it comes. It ends with an error if the connection does.
pub struct Watch {
    lines: BufReader<Box<dyn Read + Send>>,
    url: String,
    /// The revision up to which everything has been told.
    at: u64,
}

impl Client {
    /// What changes from revision `since` on, of these kinds (plurals, as in URLs) and labels. Waits for as long as
    /// nothing does.
    pub fn watch(&self, kinds: &[&str], selector: Option<&str>, since: u64) -> Result<Watch, Error> {
        let (since_text, kinds) = (since.to_string(), kinds.join(","));
        let query = [("since", since_text.as_str()), ("kinds", kinds.as_str())];
        let query: Vec<_> = query.into_iter().chain(selector.map(|s| ("labelSelector", s))).collect();
        let (url, body) = self.stream("/v1/watch", &query)?;
        Ok(Watch { lines: BufReader::new(Box::new(body)), url, at: since })
    }
}

impl Watch {
    /// The revision up to which everything has been told: where to go on.
    pub fn at(&self) -> u64 {
        self.at
    }

    fn answer(&self, why: impl ToString) -> Error {
        Error::Answer { url: self.url.clone(), status: 200, why: why.to_string() }
    }

    /// The next event: its type and its data.
    fn event(&mut self) -> Result<(String, String), Error> {
        let (mut kind, mut data, mut id) = (String::new(), String::new(), None);
        loop {
            let mut line = String::new();
            let read = self.lines.by_ref().take(MAX_LINE).read_line(&mut line);
            let ended = match read {
                Ok(0) => Some("the stream ended".to_string()),
                Ok(_) if !line.ends_with('\n') => Some("the stream was cut off".into()),
                Ok(_) => None,
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = ended {
                return Err(self.answer(why));
            }
            match line.trim_end_matches(['\r', '\n']).split_once(':') {
                None => {
                    // An empty line ends an event; one without data only says where the stream is.
                    self.at = id.take().unwrap_or(self.at);
                    if !data.is_empty() {
                        return Ok((kind, data));
                    }
                    kind.clear();
                }
                Some((field, value)) => {
                    let value = value.strip_prefix(' ').unwrap_or(value);
                    match field {
                        "event" => kind = value.into(),
                        "data" => data.push_str(value),
                        "id" => id = value.parse().ok(),
                        // The empty field is a comment.
                        _ => {}
                    }
                }
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, data: &str) -> Result<T, Error> {
        serde_json::from_str(data).map_err(|error| self.answer(error))
    }
}

impl Iterator for Watch {
    type Item = Result<Told, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (kind, data) = match self.event() {
                Ok(event) => event,
                Err(error) => return Some(Err(error)),
            };
            match kind.as_str() {
                WATCH_CHANGE => return Some(self.parse(&data).map(|event| Told::Change(Box::new(event)))),
                WATCH_END => return Some(self.parse(&data).map(|problem| Told::End(Box::new(problem)))),
                // Of a later version.
                _ => {}
            }
        }
    }
}
